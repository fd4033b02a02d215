"""Seeded random runs of the whole cycle over both systems, in process: people, faults, crashes, then calm and a count.

Each run is told by its seed alone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.soak import oracle
from tests.soak.desks import TARGETS, Jira, ServiceNow
from tests.soak.oracle import Findings
from tests.soak.people import Incidents, Issues
from tests.soak.world import Plan, Stage, World, crash

PLANS = tuple(Plan(edition, target) for edition in ("cloud", "datacenter") for target in TARGETS)
_STATUSES = (429, 500, 502, 503, 504)
ON_READS: dict[str, tuple[dict[str, Any], ...]] = {
    "servicenow": (
        *({"do": "status", "status": status} for status in _STATUSES),
        {"do": "drop_before"},
        {"do": "drop_after"},
        {"do": "truncate"},
        {"do": "error_body"},
        {"do": "half_page_error"},
        {"do": "cut_json"},
        {"do": "empty_202"},
        {"do": "html_200"},
    ),
    "jira": (
        *({"do": "status", "status": status} for status in _STATUSES),
        {"do": "drop_before"},
        {"do": "drop_after"},
        {"do": "truncate"},
        {"do": "html_200"},
        {"do": "repeat_token", "path": "/search/jql$"},
    ),
}
ON_CREATES: tuple[dict[str, Any], ...] = (
    {"do": "drop_after"},
    {"do": "drop_after"},
    {"do": "truncate"},
    {"do": "drop_before"},
    {"do": "status", "status": 503},
    {"do": "html_200"},
)

FORBIDDEN: dict[str, dict[str, Any]] = {
    "servicenow": {"do": "status", "status": 403, "path": "/table/sys_audit$", "times": None},
    "jira": {"do": "status", "status": 403, "path": "/changelog/bulkfetch$", "times": None},
}
"""The account may not read histories any more. What is not read is lost, and a gap has to say so."""

BROKEN = "a cycle ended with"
"""Begins the finding of a pass that let an exception out."""


@dataclass
class Outcome:
    """Of one run."""

    seed: int
    findings: Findings
    story: Sequence[str]
    cycles: int = 0
    crashes: int = 0
    faults: int = 0
    seconds: float = 0.0


def run(stage_: Stage, seed: int, plan: Plan | None = None) -> Outcome:
    """One run of this seed."""
    started = time.monotonic()
    random = Random(seed)
    chosen = random.choice(PLANS)
    empty = random.random() < 0.25
    with stage_.opened(plan or chosen, empty=empty) as world:
        story = _Story(world, random)
        try:
            story.tell(empty=empty)
        except Exception as error:  # noqa: BLE001 - whatever the program lets out is a finding of this seed
            world.story.append(f"  it ended with {type(error).__name__}: {error}")
            story.outcome.findings.unsent.append(f"{BROKEN} {type(error).__name__}: {error}")
        story.outcome.seed, story.outcome.seconds = seed, time.monotonic() - started
        return story.outcome


class _Story:
    """What happens in one run."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        incidents, issues = (
            Incidents(world.servicenow, world.time.now, random),
            Issues(world.jira, world.time.now, random),
        )
        self._draws: list[Callable[[], str]] = [incidents.draw, issues.draw]
        self._incidents = incidents
        self.outcome = Outcome(0, Findings(), world.story)

    def tell(self, *, empty: bool) -> None:
        if self._random.random() < 0.25:
            self._forbid()
        for _ in range(self._random.randint(1, 5) if empty else 0):
            self._crash_at_commit()
        for _ in range(self._random.randint(2, 4)):
            self._pass()
        report = self._world.calm()
        if report is None or report.outbox is None or report.outbox.waiting or report.outbox.unclear:
            self.outcome.findings.unsent.append("the outbox was not empty after all was calm")
        self.outcome.cycles += 1
        self.outcome.findings.add(judged(self._world))

    def _pass(self) -> None:
        world, random = self._world, self._random
        for _ in range(random.randint(0, 3)):
            self._people()
        for _ in range(random.randint(0, 3)):
            self._misbehave()
        for _ in range(random.randint(0, 2)):
            world.steps.lay(random.randint(1, 120), self._people)
        if random.random() < 0.35:
            world.steps.lay(random.randint(1, 160), crash)
        if random.random() < 0.2:
            world.steps.lay_at_create(random.randint(0, 6), crash)
        self._cycle()
        if random.random() < 0.2:
            self._crash_at_create()
        if random.random() < 0.6:
            seconds = random.choice((1, 20, 60, 300, 700, 6 * 3600))
            world.time.skip(seconds)
            world.story.append(f"{seconds} s passed")

    def _cycle(self) -> None:
        self._world.story.append("a cycle")
        self.outcome.cycles += 1
        if self._world.cycle() is None:
            self.outcome.crashes += 1
            self.outcome.findings.lost += oracle.cursors_ahead(self._world.database)
        self._world.steps.clear()

    def _crash_at_commit(self) -> None:
        """While the program reads what nothing will show it again."""
        self._world.steps.lay_at_commit(self._random.randint(1, 50), crash)
        self._cycle()

    def _crash_at_create(self) -> None:
        """On a good day the program ends as it opens a ticket, and is started again before any search shows that."""
        self._world.forgive()
        self._world.story.append(self._incidents.report(1))
        self._world.steps.lay_at_create(self._random.randint(0, 6), crash)
        self._cycle()
        self._cycle()

    def _forbid(self) -> None:
        site = self._random.choice((self._world.servicenow, self._world.jira))
        rule = FORBIDDEN[site.name]
        if self._random.random() < 0.5:
            self._world.lasting.append((site, rule))
        site.fault(**rule)
        self._world.story.append(f"laid at {site.name}: {rule}")
        self.outcome.faults += 1

    def _people(self) -> None:
        self._world.story.append(random_act(self._draws, self._random))

    def _misbehave(self) -> None:
        site = self._random.choice((self._world.servicenow, self._world.jira))
        if self._random.random() < 0.4:
            self._rule(self._world.target, self._random.choice(ON_CREATES), nth=self._random.randint(1, 2), create=True)
        else:
            rule = self._random.choice(ON_READS[site.name])
            times = self._random.choice((1, 1, 2, 6))
            self._rule(site, rule, nth=self._random.randint(1, 40), times=times)

    def _rule(self, site: ServiceNow | Jira, rule: dict[str, Any], *, create: bool = False, **when: int) -> None:
        where = {"method": "POST", "path": site.create} if create else {}
        site.fault(**{"times": 1, **rule, **where, **when})
        self._world.story.append(f"laid at {site.name}: {rule} {where} {when}")
        self.outcome.faults += 1


def random_act(draws: Sequence[Callable[[], str]], random: Random) -> str:
    return random.choice(draws)()


def judged(world: World, deleted: frozenset[str] = frozenset()) -> Findings:
    """All counts of a world that has become calm."""
    findings = oracle.read_of_servicenow(world.database, world.servicenow.issued("incident"))
    findings.add(oracle.read_of_jira(world.database, world.jira.issued()))
    findings.add(oracle.tickets_of(world.database, world.target.name, world.target.copies(), deleted))
    return findings
