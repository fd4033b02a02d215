"""The program is ended at every point around a create, while Jira's search lags behind its writes.

Whatever the point, the runs that follow leave exactly one ticket per nonconformity: not two, and not none.
"""

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import (
    CREATE,
    KILLED,
    PASSWORD,
    TOKEN,
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

pytestmark = pytest.mark.timeout(300)  # many processes; a busy machine takes its time
SEARCH_LAG_S, INDEX_LAG_S = 5, 6
WORKERS = 5
TICKETS = 2
"""The small desk asks for one corrective action and one digest."""
AROUND_CREATES = 5
"""The last transactions but one: both intents are decided, and each is marked as being sent and as done."""
OUR_LABEL = re.compile(r"itsms-[0-9a-f]{20}")
SCREENS = {"method": "GET", "path": r"createmeta/CAPA/issuetypes\?"}


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


@dataclass(frozen=True)
class Bench:
    """What all scenarios begin with: the desk, and a database that has read and judged it and decided nothing."""

    servicenow: Simulator
    read: Installation
    install: Install

    def installation(self, jira: str, project: str = "CAPA") -> Installation:
        found = self.install(_settings(self.servicenow.url, jira, project))
        shutil.copy(self.read.database, found.database)
        return found


def _settings(servicenow: str, jira: str, project: str) -> dict[str, Any]:
    settings = settings_for(servicenow, jira, deadline="PT3S")
    settings["sources"]["jira"]["options"] |= {"project": project, "index_lag": INDEX_LAG_S}
    return settings


@pytest.fixture(scope="module")
def bench(simulate: Simulate, install: Install, small_desk: Path) -> Bench:
    servicenow = simulate("servicenow", small_desk, password=PASSWORD)
    read = install(_settings(servicenow.url, "http://127.0.0.1:9", "CAPA"))
    assert TICKETS == len(_would_open(read.json("once", "--dry-run")))
    return Bench(servicenow, read, install)


def _would_open(report: Any) -> list[Any]:
    return [*report["opened"], *range(report["digests"])]


def _killed_at(point: str, installation: Installation) -> subprocess.CompletedProcess[str]:
    return finished(installation.start(point, "once", before=(sys.executable, str(KILLED))))


def _run_again(installation: Installation) -> None:
    for _ in range(3):
        outbox = installation.json("once", timeout=90)["outbox"]
        if outbox["unclear"] == outbox["waiting"] == 0:
            return


def _fate(code: int, installation: Installation, jira: Simulator, project: str = "CAPA") -> Fate:
    _run_again(installation)
    issues = [i for i in jira.ledger()["issues"] if i["key"].startswith(f"{project}-")]
    copies = Counter(label for issue in issues for label in issue["labels"] if OUR_LABEL.fullmatch(label))
    writes = [state for (state,) in installation.rows("SELECT state FROM intent")]
    return Fate(code, tuple(copies.values()), tuple(writes))


# --- between any two commits


def _projects(folder: Path, number: int) -> Path:
    """A project for each run, so that all share one site."""
    screen = "{summary: required, description: optional, labels: optional, priority: optional, assignee: optional}"
    kind = f"{{name: Corrective action, workflow: Corrective action workflow, create: {screen}, edit: {screen}}}"
    lines = [f"  - {{key: K{n}, name: Run {n}, type: software, issue_types: [{kind}]}}" for n in range(number)]
    path = folder / "projects.yaml"
    path.write_text("\n".join(["projects:", *lines]), "utf-8")
    return path


def test_a_kill_before_or_after_any_commit_leaves_one_ticket_each(
    bench: Bench, simulate: Simulate, tmp_path: Path
) -> None:
    jira = simulate("jira", _projects(tmp_path, 60), token=TOKEN, search_lag=str(SEARCH_LAG_S))
    whole = _killed_at("before:0", bench.installation(jira.url, "K0"))
    told = re.search(r"^transactions: (\d+)$", whole.stderr, re.MULTILINE)
    assert told is not None, whole.stderr
    assert 0 == whole.returncode, whole.stderr
    last = int(told[1])
    points = [f"before:{n}" for n in range(1, last + 1)]
    points += [f"after:{n}" for n in range(last - AROUND_CREATES, last)]

    def fate(number: int) -> Fate:
        installation = bench.installation(jira.url, f"K{number}")
        return _fate(_killed_at(points[number - 1], installation).returncode, installation, jira, f"K{number}")

    with ThreadPoolExecutor(WORKERS) as pool:
        fates = dict(zip(points, pool.map(fate, range(1, len(points) + 1)), strict=True))
    assert dict.fromkeys(points, Fate(-signal.SIGKILL, *GOOD)) == fates
    assert len(points) >= 17, "so many there were when this was written: is the run still a whole one?"


# --- inside the request


def _kill_when(struck: Callable[[Simulator], bool]) -> Callable[[Installation, Simulator], int]:
    """Kills the program as soon as the site is where it has to be."""

    def run(installation: Installation, jira: Simulator) -> int:
        process = installation.start("once")
        try:
            until(lambda: struck(jira))
            terminate(process, signal.SIGKILL)
        finally:
            ended(process)
        return process.returncode

    return run


def _is_held(jira: Simulator) -> bool:
    return any(jira.struck())


def _has_acted(jira: Simulator) -> bool:
    return jira.ledger()["created"] > 0


def _at_the_gate(installation: Installation, jira: Simulator) -> int:
    return _killed_at("send:POST /rest/api/2/issue ", installation).returncode


def _to_its_end(installation: Installation, jira: Simulator) -> int:
    return installation.command("once", timeout=90).returncode


Scenario = tuple[list[dict[str, Any]], Callable[[Installation, Simulator], int], int]
KILL = -signal.SIGKILL
SCENARIOS: dict[str, Scenario] = {
    "killed before the request leaves": ([], _at_the_gate, KILL),
    "killed while the site holds the request": (
        [{**CREATE, "do": "delay_before", "seconds": 1.5}],
        _kill_when(_is_held),
        KILL,
    ),
    "killed after the site acted and before it answers": (
        [{**CREATE, "do": "delay_after", "seconds": 2.5}],
        _kill_when(_has_acted),
        KILL,
    ),
    "killed in quarantine, after the answer was dropped": (
        [{**CREATE, "do": "drop_after"}],
        _kill_when(_has_acted),
        KILL,
    ),
    "killed at a create after the site had been slow with its screens": (
        [{**SCREENS, "do": "delay_before", "seconds": 7}, {**CREATE, "do": "delay_after", "seconds": 2.5}],
        _kill_when(_has_acted),
        KILL,
    ),
    "the answer is dropped": ([{**CREATE, "do": "drop_after"}], _to_its_end, 0),
    "the answer is dropped after slow screens": (
        [{**SCREENS, "do": "delay_before", "seconds": 7}, {**CREATE, "do": "drop_after"}],
        _to_its_end,
        0,
    ),
    "the answer is cut": ([{**CREATE, "do": "truncate"}], _to_its_end, 0),
    "the connection is closed before the site acts": ([{**CREATE, "do": "drop_before"}], _to_its_end, 0),
    "the answer comes after the deadline": ([{**CREATE, "do": "delay_after", "seconds": 5}], _to_its_end, 0),
    "a gateway answers 503": ([{**CREATE, "do": "status", "status": 503}], _to_its_end, 0),
    "a login page answers 200": ([{**CREATE, "do": "html_200"}], _to_its_end, 0),
}


@pytest.fixture(scope="module")
def fates(bench: Bench) -> dict[str, Fate]:
    """All scenarios at once: most of each is waiting."""

    def fate(name: str) -> Fate:
        faults, run, _ = SCENARIOS[name]
        with _site() as jira:
            for rule in faults:
                jira.fault(**rule)
            installation = bench.installation(jira.url)
            code = run(installation, jira)
            assert all(jira.struck()), f"{name}: a fault met no request"
            return _fate(code, installation, jira)

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(SCENARIOS, pool.map(fate, SCENARIOS), strict=True))


@contextmanager
def _site() -> Iterator[Simulator]:
    jira = Simulator("jira", (), {"token": TOKEN, "search_lag": str(SEARCH_LAG_S)})
    try:
        yield jira
    finally:
        jira.stop()


@pytest.mark.parametrize("name", SCENARIOS)
def test_one_ticket_each(fates: dict[str, Fate], name: str) -> None:
    assert Fate(SCENARIOS[name][2], *GOOD) == fates[name]


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


@pytest.mark.parametrize("command", ["run", "once"])
def test_a_second_writer_refuses_and_names_the_first(bench: Bench, command: str) -> None:
    with _site() as jira:
        installation = bench.installation(jira.url)
        with _daemon(installation) as first:
            _logged(first, '"cycle"')
            second = installation.command(command)
            assert (3, "") == (second.returncode, second.stdout)
            assert f"pid {first.pid}" in second.stderr
            assert 0 == installation.command("status").returncode, "reading beside the writer is allowed"
            terminate(first, signal.SIGKILL)
        after = installation.command("once")
        assert 0 == after.returncode, after.stderr


# --- SIGTERM


def test_sigterm_in_a_slow_page_ends_the_daemon_at_once(bench: Bench, install: Install) -> None:
    with _site() as jira:
        installation = install(_settings(bench.servicenow.url, jira.url, "CAPA"))
        bench.servicenow.fault(do="delay", path="/table/incident", nth=1, seconds=20)
        try:
            with _daemon(installation) as daemon:
                until(lambda: any(bench.servicenow.struck()))
                seconds = terminate(daemon)
                assert 0 == daemon.returncode
        finally:
            bench.servicenow.forgive()
        assert seconds < 2
        assert 0 == jira.ledger()["created"]
        assert Fate(0, *GOOD) == _fate(0, installation, jira), "the next run goes on from there"


@pytest.mark.parametrize("held_s", [3, 7])
def test_sigterm_in_a_create_lets_it_end_or_leaves_it_unclear(bench: Bench, held_s: int) -> None:
    """A write gets 5 s; one that takes longer is cut, and the next run finds out what became of it."""
    with _site() as jira:
        settings = deepcopy(_settings(bench.servicenow.url, jira.url, "CAPA"))
        settings["tickets"]["deadline"] = "PT6S"
        installation = bench.installation(jira.url)
        installation.configure(settings)
        jira.fault(**CREATE, do="delay_after", seconds=held_s)
        with _daemon(installation) as daemon:
            until(lambda: _has_acted(jira))
            seconds = terminate(daemon)
            assert 0 == daemon.returncode
        assert seconds < 8
        settings["tickets"]["deadline"] = "PT3S"
        installation.configure(settings)
        assert Fate(0, *GOOD) == _fate(0, installation, jira)
