"""Random ``kill -9`` in a row: two daemons over the same two desks; one keeps tickets in Jira, one in ServiceNow."""

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from itsms_sync.configuration import read_configuration
from itsms_sync.wiring import fields_by_kind
from tests.end_to_end.conftest import Simulator
from tests.soak import oracle
from tests.soak.daemon import READY_WITHIN_S, Daemon, DaemonError, at_work
from tests.soak.desks import USERS, Jira, ServiceNow, documents
from tests.soak.people import Incidents, Issues
from tests.soak.report import Result
from tests.soak.world import Passing, Plan, Steps, World, written

_PLANS = {name: Plan(target=name, page_size=200, read_ahead=True) for name in ("jira", "register")}
_LIVES_S = (1.0, 3.0, 3.0, 6.0)
"""How long a daemon lives at most after it is ready: most end in the middle of a pass, some after one or several."""
_PEOPLE_S = 0.25
_STARTING = threading.Lock()
_DROPPED = 0.1
"""Share of the answers to creates that are lost."""
_HISTORY = {"desk": "lively", "live": "false", "days": "5", "per_day": "6"}
_MOVED_BY_TIME = {"task_sla"}
"""Kinds whose rows the instance changes by itself whenever it is looked at."""


@dataclass
class _Series:
    """The kills of one daemon."""

    kills: int = 0
    starts: list[float] = field(default_factory=list)
    cycles: int = 0
    wrong: list[str] = field(default_factory=list)


def kills(seed: int, count: int, deadline: float) -> Result:
    """``count`` kills, half of each daemon, both at once."""
    result = Result("kills", of=count, unit="kills")
    with _desks(seed) as worlds:
        random, millis = Random(seed), worlds[0].time.now
        incidents, issues = (
            Incidents(worlds[0].servicenow, millis, random),
            Issues(worlds[0].jira, millis, random),
        )
        issues.report(5)
        people = [incidents.draw, issues.draw]
        with at_work(lambda: random.choice(people)(), random, _PEOPLE_S), ThreadPoolExecutor(len(worlds)) as pool:
            asked = [(world, Random(f"{seed} {n}"), count // len(worlds), deadline) for n, world in enumerate(worlds)]
            series = list(pool.map(lambda each: _killed(*each), asked))
        for world in worlds:
            if world.calm() is None:
                result.wrong.append(f"{world.plan.target}: it did not become calm")
            result.findings.add(_judged(world))
    starts = [seconds for each in series for seconds in each.starts]
    result.done = sum(each.kills for each in series)
    result.wrong += [told for each in series for told in each.wrong]
    result.wrong += [f"a start took {seconds:.1f} s" for seconds in starts if seconds > READY_WITHIN_S]
    slowest = f"{max(starts, default=0):.1f} s"
    result.figures.update({"slowest start": slowest, "passes": sum(each.cycles for each in series)})
    return result


def _killed(world: World, random: Random, count: int, deadline: float) -> _Series:
    series = _Series()
    while series.kills < count and time.monotonic() < deadline:
        try:
            with _STARTING:  # two at once would share the processors of a small machine, which says nothing of a start
                daemon = Daemon(world.configuration.path)
        except DaemonError as error:
            series.wrong.append(str(error))
            break
        try:
            series.starts.append(daemon.ready_s)
            daemon.live(random.uniform(0, random.choice(_LIVES_S)))
            if not daemon.alive:
                series.wrong.append("the daemon ended by itself")
        finally:
            daemon.kill()
        series.kills += 1
        series.cycles += daemon.cycles()
        series.wrong += daemon.failures()
    return series


@contextmanager
def _desks(seed: int) -> Iterator[list[World]]:
    """Both desks as processes of their own, and two installations beside them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        history = {**_HISTORY, "seed": str(seed % 1000)}
        staff = folder / "staff.json"
        staff.write_text(json.dumps({"users": USERS}), "utf-8")
        started = [
            Simulator("servicenow", (), {**history, "plugins": "cim,major"}),
            Simulator("jira", (staff,), {**history, "token": "secret", "search_lag": str(_PLANS["jira"].search_lag_s)}),
        ]
        for simulator in started:
            stack.callback(simulator.stop)
        servicenow, jira = ServiceNow(started[0].url), Jira(started[1].url)
        servicenow.people = list(servicenow.issued("incident")["records"]["incident"])
        jira.people = [id_ for id_, issue in jira.issued()["issues"].items() if issue["type"] == "10101"]
        for site in (servicenow, jira):
            stack.callback(site.close)
            _drop_answers(site, Random(seed))
        told = documents(folder / "documents", whole=True)
        passing = Passing(Steps())
        passing.followers += [servicenow.skip, jira.skip]
        worlds = [_world(plan, folder / name, told, servicenow, jira, passing) for name, plan in _PLANS.items()]
        for world in worlds:
            stack.callback(world.restart)
        yield worlds


def _world(plan: Plan, folder: Path, told: Path, servicenow: ServiceNow, jira: Jira, passing: Passing) -> World:
    folder.mkdir()
    settings = plan.settings(servicenow.url, jira.url)
    settings |= {"documents": str(told), "schedule": {"poll_every": "PT0.3S"}}
    settings["tickets"]["processes"] = ["incident", "service_request", "problem", "change"]
    path = written(settings, folder)
    configuration = read_configuration(path)
    return World(folder, plan, configuration, servicenow, jira, Steps(), passing, folder / "itsms.db")


def _drop_answers(site: ServiceNow | Jira, random: Random) -> None:
    lost = [nth for nth in range(1, 400) if random.random() < _DROPPED]
    rules = [{"do": "drop_after", "method": "POST", "path": site.create, "nth": nth, "times": 1} for nth in lost]
    site.ask("POST", "faults", rules)


def _judged(world: World) -> oracle.Findings:
    kinds = sorted(set(fields_by_kind(world.configuration, "servicenow")) - _MOVED_BY_TIME)
    issued, findings = world.servicenow.issued(*kinds), oracle.Findings()
    for kind in kinds:
        if kind in issued["records"]:
            findings.add(oracle.read_of_servicenow(world.database, issued, kind))
    findings.add(oracle.read_of_jira(world.database, world.jira.issued()))
    findings.add(oracle.tickets_of(world.database, world.target.name, world.target.copies()))
    return findings
