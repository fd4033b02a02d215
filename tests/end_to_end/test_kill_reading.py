"""The program is ended while it reads the seeded desk, with its changes, approvals and history, from each system.

Whatever the point, the runs that follow leave the database that a run without any disturbance leaves.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.end_to_end.conftest import (
    KILLED,
    Install,
    Installation,
    Simulate,
    Simulator,
    ended,
    finished,
    terminate,
    until,
)
from tests.end_to_end.desks import AS_OF, DESKS, Twins, differing, fingerprint, reading, twins
from tests.end_to_end.desks import Desk as Served
from tests.end_to_end.wires import Front

pytestmark = pytest.mark.timeout(300)
WORKERS = 4
KILL = -signal.SIGKILL


@dataclass(frozen=True)
class Bench:
    """A system that serves the desk, and what a run without any disturbance leaves."""

    served: Served
    simulator: Simulator
    twins: Twins
    transactions: int
    whole: Mapping[str, list[tuple[Any, ...]]]

    def installation(self, url: str = "") -> Installation:
        return self.twins.installation(reading({"desk": self.served.settings(url or self.simulator.url)}))


def _killed_at(point: str, installation: Installation) -> subprocess.CompletedProcess[str]:
    return finished(installation.start(point, "once", AS_OF, before=(sys.executable, str(KILLED))))


@pytest.fixture(scope="module")
def same(install: Install) -> Twins:
    return twins(install)


QUICK = ("servicenow",)


@pytest.fixture(
    scope="module",
    params=[*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in DESKS if name not in QUICK)],
)
def bench(
    request: pytest.FixtureRequest, simulate: Simulate, same: Twins, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    served = DESKS[request.param]
    simulator = served.start(simulate, tmp_path_factory.mktemp("desk"))
    undisturbed = same.installation(reading({"desk": served.settings(simulator.url)}))
    answer = _killed_at("before:0", undisturbed)
    told = re.search(r"^transactions: (\d+)$", answer.stderr, re.MULTILINE)
    assert told is not None, answer.stderr
    found = fingerprint(undisturbed)
    assert ([], []) == (found["gap"], found["unfinished"])
    assert all(len(found[table]) > 90 for table in ("payload", "record", "event", "relation", "verdict", "case_state"))
    return Bench(served, simulator, same, int(told[1]), found)


def _finished(installation: Installation) -> dict[str, Any]:
    """What the database has more or less than the undisturbed one after one more run."""
    installation.json("once", AS_OF)
    return fingerprint(installation)


def test_killed_again_and_again_it_ends_where_it_would_have(bench: Bench) -> None:
    installation, codes = bench.installation(), []
    for part, when in ((0.1, "before"), (0.2, "after"), (0.3, "before"), (0.45, "after")):
        codes.append(_killed_at(f"{when}:{int(part * bench.transactions)}", installation).returncode)
    assert [KILL] * 4 == codes
    assert {} == differing(bench.whole, _finished(installation))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_any_commit_it_ends_where_it_would_have(bench: Bench) -> None:
    """At every fourth one, just before it and just after it."""
    points = [f"{when}:{n}" for n in range(1, bench.transactions, 4) for when in ("before", "after")]

    def end(point: str) -> tuple[int, dict[str, Any]]:
        installation = bench.installation()
        return _killed_at(point, installation).returncode, differing(bench.whole, _finished(installation))

    with ThreadPoolExecutor(WORKERS) as pool:
        assert dict.fromkeys(points, (KILL, {})) == dict(zip(points, pool.map(end, points), strict=True))


# --- in the middle of a page


def _in_a_page(bench: Bench, front: Front, number: signal.Signals) -> tuple[Installation, int, float]:
    """An installation whose daemon got a signal when half of a page had come, in the middle of a window."""
    rule = front.rule(bench.served.page, "stall_answer", 30, nth=bench.served.within)
    installation = bench.installation(front.url)
    daemon = installation.start("run")
    try:
        until(lambda: rule.struck, within_s=60)
        until(lambda: _began(installation), within_s=20)  # the pages before it are stored meanwhile
        seconds = terminate(daemon, number)
        return installation, daemon.returncode, seconds
    finally:
        ended(daemon)


def _began(installation: Installation) -> bool:
    """Whether a part of a stream is stored whose end is not."""
    return any(brought for _, closed, brought, *_ in installation.rows(_POLLS) if not closed)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_page_that_is_cut_off_is_not_stored_by_half(bench: Bench, number: signal.Signals) -> None:
    with Front(bench.simulator.url) as front:
        installation, code, seconds = _in_a_page(bench, front, number)
        assert (0 if number == signal.SIGTERM else KILL) == code
        assert seconds < 8
        polls = installation.rows(_POLLS)
        assert _began(installation), "nothing was stored of what was read"
        assert polls == [(stream, closed, stored, stored, 1) for stream, closed, _, stored, _ in polls]
        installation.configure(reading({"desk": bench.served.settings(front.url)}))
        assert {} == differing(bench.whole, _finished(installation))


_POLLS = (
    "SELECT stream, closed, rows_new, (SELECT count(*) FROM payload WHERE poll_id = poll.id), "
    "(SELECT count(*) FROM cursor WHERE poll_id = poll.id) FROM poll"
)
"""What each poll says that it brought, what it did bring, and how many cursors stand where it ended."""
