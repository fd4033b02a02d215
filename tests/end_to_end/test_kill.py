"""The program is ended at every point around a create, in each place in which tickets are kept.

Whatever the point, the runs that follow leave exactly one ticket per nonconformity: not two, and not none. The place's
own books are asked. Jira's search lags behind its writes; ServiceNow's does not.
"""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from tests.end_to_end.conftest import (
    KILLED,
    PASSWORD,
    Install,
    Installation,
    Simulate,
    Simulator,
    ended,
    finished,
    settings_for,
    terminate,
    until,
)
from tests.end_to_end.targets import NOBODY, TARGETS, Site, Target, site
from tests.end_to_end.wires import Act

pytestmark = pytest.mark.timeout(300)  # many processes; a busy machine takes its time
WORKERS = 4
TICKETS = 2
"""The small desk asks for one corrective action and one digest."""
AROUND_CREATES = 6
"""The last transactions but one: both intents are decided, the target is known from now on, and each intent is marked
as being sent and as done."""
CLOUD = "jira-cloud"
ONE_QUICK = [pytest.param(name, marks=[] if name == CLOUD else [pytest.mark.slow]) for name in TARGETS]


@dataclass(frozen=True)
class Fate:
    """What became of the tickets after the program was ended and run again."""

    ended_by: int
    """Exit code of the run that was ended; negative for a signal."""
    copies: tuple[int, ...]
    """Tickets per key."""
    writes: tuple[str, ...]
    """States of the intents."""


GOOD = (1,) * TICKETS, ("done",) * TICKETS
KILL = -signal.SIGKILL


class Bench:
    """What all runs begin with: the desk, and for each target that is asked for a database that has read and judged it
    and decided nothing.
    """

    def __init__(self, servicenow: Simulator, install: Install) -> None:
        self.servicenow = servicenow
        self.install = install
        self._prepared: dict[str, Installation] = {}
        self._one_prepares = Lock()

    def _read_by(self, name: str) -> Installation:
        with self._one_prepares:
            if name not in self._prepared:
                self._prepared[name] = self._read(TARGETS[name])
            return self._prepared[name]

    def _read(self, target: Target) -> Installation:
        found = self.install(self.settings(target, NOBODY))
        report = found.json("once", "--dry-run")
        assert TICKETS == len(report["opened"]) + report["digests"]
        return found

    def settings(self, target: Target, url: str, deadline: str = "PT3S") -> dict[str, Any]:
        settings = settings_for(self.servicenow.url, NOBODY, target="target", deadline=deadline)
        sources = {"servicenow": settings["sources"]["servicenow"], "target": target.settings(url)}
        return {**settings, "sources": sources}

    def installation(self, name: str, place: Site) -> Installation:
        found = self.install(self.settings(place.target, place.front.url))
        read = self._read_by(name)
        shutil.copy(read.database, found.database)
        shutil.copy(read.logbook, found.logbook)
        return found

    @cached_property
    def transactions(self) -> int:
        """How many a run has that is not killed; the last but ``AROUND_CREATES`` are the same with every target."""
        with site(TARGETS[CLOUD]) as place:
            whole = _killed_at("before:0", self.installation(CLOUD, place))
            assert (0, GOOD[0]) == (whole.returncode, tuple(place.copies().values())), whole.stderr
        told = re.search(r"^transactions: (\d+)$", whole.stderr, re.MULTILINE)
        assert told is not None, whole.stderr
        return int(told[1])


@pytest.fixture(scope="module")
def bench(simulate: Simulate, install: Install, small_desk: Path) -> Bench:
    return Bench(simulate("servicenow", small_desk, password=PASSWORD), install)


def _killed_at(point: str, installation: Installation) -> subprocess.CompletedProcess[str]:
    return finished(installation.start(point, "once", before=(sys.executable, str(KILLED))))


def _fate(code: int, installation: Installation, place: Site) -> Fate:
    for _ in range(3):
        outbox = installation.json("once", timeout=90)["outbox"]
        if outbox["unclear"] == outbox["waiting"] == 0:
            break
    writes = [state for (state,) in installation.rows("SELECT state FROM intent")]
    return Fate(code, tuple(place.copies().values()), tuple(writes))


# --- between any two commits


def _swept(bench: Bench, name: str, points: list[str]) -> dict[str, Fate]:
    def fate(point: str) -> Fate:
        with site(TARGETS[name]) as place:
            installation = bench.installation(name, place)
            return _fate(_killed_at(point, installation).returncode, installation, place)

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(points, pool.map(fate, points), strict=True))


@pytest.mark.parametrize("name", ONE_QUICK)
def test_a_kill_around_the_commits_of_a_create_leaves_one_ticket_each(bench: Bench, name: str) -> None:
    """Of the others the moment that no request shows: the answer has come and is not yet written down."""
    decided, _, sending, done, *_ = range(bench.transactions - AROUND_CREATES, bench.transactions)
    more = [f"after:{decided}", f"after:{sending}", f"before:{bench.transactions - 1}"] if name == CLOUD else []
    points = [*more, f"before:{done}"]
    assert dict.fromkeys(points, Fate(KILL, *GOOD)) == _swept(bench, name, points)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", TARGETS)
def test_a_kill_before_or_after_any_commit_leaves_one_ticket_each(bench: Bench, name: str) -> None:
    last = bench.transactions
    points = [f"before:{number}" for number in range(1, last + 1)]
    points += [f"after:{number}" for number in range(last - AROUND_CREATES, last)]
    assert dict.fromkeys(points, Fate(KILL, *GOOD)) == _swept(bench, name, points)
    assert len(points) >= 19, "so many there were when this was written: is the run still a whole one?"


# --- inside the request


@dataclass(frozen=True)
class Scenario:
    """What happens to the first create, and how the run that sends it ends."""

    run: Callable[[Installation, Site], int]
    act: Act | None = None
    seconds: float = 0.0
    fault: dict[str, Any] = field(default_factory=dict)
    """Of the simulator, where the wire alone cannot do it."""
    prepared_s: float = 0.0
    """How long the target takes for what is asked before the create."""
    code: int = 0


def _kill_when(struck: Callable[[Site], bool]) -> Callable[[Installation, Site], int]:
    """Kills the program as soon as the request is where it has to be."""

    def run(installation: Installation, place: Site) -> int:
        process = installation.start("once")
        try:
            until(lambda: struck(place), within_s=60)
            terminate(process, signal.SIGKILL)
        finally:
            ended(process)
        return process.returncode

    return run


def _at_the_gate(installation: Installation, place: Site) -> int:
    return _killed_at(f"send:{place.target.create}", installation).returncode


def _to_its_end(installation: Installation, place: Site) -> int:
    return installation.command("once", timeout=90).returncode


_ON_ITS_WAY = _kill_when(lambda place: place.front.struck("hold_request"))
_CREATED = _kill_when(Site.has_acted)
CORE: dict[str, Scenario] = {
    "killed before the request leaves": Scenario(_at_the_gate, code=KILL),
    "killed while the request is on its way": Scenario(_ON_ITS_WAY, "hold_request", 1.5, code=KILL),
    "killed after the site acted and before it answers": Scenario(_CREATED, "hold_answer", 2.5, code=KILL),
    "the answer is dropped": Scenario(_to_its_end, "lose_answer"),
}
MORE: dict[str, Scenario] = {
    "killed in quarantine, after the answer was dropped": Scenario(_CREATED, "lose_answer", code=KILL),
    "killed at a create after the site had been slow with its screens": Scenario(
        _CREATED, "hold_answer", 2.5, prepared_s=7, code=KILL
    ),
    "the answer is dropped after slow screens": Scenario(_to_its_end, "lose_answer", prepared_s=7),
    "the answer is cut": Scenario(_to_its_end, "cut_answer"),
    "the connection is closed before the site acts": Scenario(_to_its_end, "lose_request"),
    "the request arrives after the deadline": Scenario(_to_its_end, "hold_request", 4.5),
    "the answer comes after the deadline": Scenario(_to_its_end, "hold_answer", 5),
    "a gateway answers 503": Scenario(_to_its_end, fault={"do": "status", "status": 503}),
    "a login page answers 200": Scenario(_to_its_end, fault={"do": "html_200"}),
}


def _fates(bench: Bench, name: str, scenarios: dict[str, Scenario]) -> dict[str, Fate]:
    """All scenarios at once: most of each is waiting."""

    def fate(scenario: Scenario) -> Fate:
        with site(TARGETS[name]) as place:
            _arm(place, scenario)
            installation = bench.installation(name, place)
            code = scenario.run(installation, place)
            assert place.front.struck(), f"{scenario}: the wire met no such request"
            assert all(place.simulator.struck()), f"{scenario}: the fault met no request"
            return _fate(code, installation, place)

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(scenarios, pool.map(fate, scenarios.values()), strict=True))


def _arm(place: Site, scenario: Scenario) -> None:
    if scenario.act is not None:
        place.front.rule(place.target.create, scenario.act, scenario.seconds)
    if scenario.fault:
        place.simulator.fault(**place.target.fault(**scenario.fault))
    if scenario.prepared_s:
        assert place.target.prepare is not None
        place.front.rule(place.target.prepare, "hold_answer", scenario.prepared_s)


def _expected(scenarios: dict[str, Scenario]) -> dict[str, Fate]:
    return {told: Fate(scenario.code, *GOOD) for told, scenario in scenarios.items()}


@pytest.mark.parametrize("name", ONE_QUICK)
def test_one_ticket_each_whatever_becomes_of_the_first_create(bench: Bench, name: str) -> None:
    assert _expected(CORE) == _fates(bench, name, CORE)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_one_ticket_each_whatever_else_becomes_of_it(bench: Bench, name: str) -> None:
    asked = TARGETS[name].prepare is not None
    scenarios = {told: each for told, each in MORE.items() if asked or not each.prepared_s}
    assert _expected(scenarios) == _fates(bench, name, scenarios)


# --- one writer


@contextmanager
def _daemon(installation: Installation) -> Iterator[subprocess.Popen[str]]:
    process = installation.start("run")
    try:
        yield process
    finally:
        ended(process)


def _logged(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    pytest.fail(f"the daemon ended and never logged {text!r}")


@pytest.mark.parametrize("command", ["run", pytest.param("once", marks=pytest.mark.slow)])
def test_a_second_writer_refuses_and_names_the_first(bench: Bench, command: str) -> None:
    with site(TARGETS[CLOUD]) as place:
        installation = bench.installation(CLOUD, place)
        with _daemon(installation) as first:
            _logged(first, '"cycle"')
            second = installation.command(command)
            assert (3, "") == (second.returncode, second.stdout)
            assert f"pid {first.pid}" in second.stderr
            assert 0 == installation.command("status").returncode, "reading beside the writer is allowed"
            terminate(first, signal.SIGKILL)
        after = installation.command("once")
        assert 0 == after.returncode, after.stderr


# --- SIGTERM in a create


@dataclass(frozen=True)
class Stopped:
    """How a daemon ended, and what the next run did about its create."""

    in_time: bool
    code: int
    left: tuple[tuple[str, int], ...]
    """State and sendings of each intent when it had ended."""
    adopted: int
    sent: int
    fate: Fate


def _stopped(bench: Bench, name: str, held_s: int) -> Stopped:
    with site(TARGETS[name]) as place:
        installation = bench.installation(name, place)
        installation.configure(bench.settings(place.target, place.front.url, deadline="PT6S"))
        place.front.rule(place.target.create, "hold_answer", held_s)
        with _daemon(installation) as daemon:
            until(place.has_acted, within_s=60)
            seconds = terminate(daemon)
        left = installation.rows("SELECT state, attempts FROM intent ORDER BY attempts DESC")
        installation.configure(bench.settings(place.target, place.front.url))
        outbox = installation.json("once", timeout=90)["outbox"]
        fate = _fate(0, installation, place)
        return Stopped(seconds < 8, daemon.returncode, tuple(left), len(outbox["adopted"]), len(outbox["sent"]), fate)


@pytest.mark.parametrize("name", ONE_QUICK)
def test_sigterm_in_a_create_lets_it_end_or_leaves_it_unclear(bench: Bench, name: str) -> None:
    """A write gets 5 s; one that takes longer is cut, and the next run looks up what became of it."""
    asked = [(name, held_s) for held_s in (3, 7)]
    with ThreadPoolExecutor(len(asked)) as pool:
        found = dict(zip(asked, pool.map(lambda each: _stopped(bench, *each), asked), strict=True))
    pending, fate = ("pending", 0), Fate(0, *GOOD)
    ended_ = Stopped(True, 0, (("done", 1), pending), 0, 1, fate)
    cut = Stopped(True, 0, (("unclear", 1), pending), 1, 1, fate)
    assert {each: ended_ if each[1] == 3 else cut for each in asked} == found
