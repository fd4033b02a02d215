"""When things happen: intervals, jobs, signals and reload, with a clock that only moves when somebody sleeps."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from itsms_sync.daemon import Clockwork, Daemon
from itsms_sync.http import Stop, Stopped


@dataclass
class Log:
    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append(("error", event, fields))

    def outcomes(self, event: str) -> list[str]:
        return [fields["outcome"] for _, told, fields in self.lines if told == event]


@dataclass
class Scene:
    """A daemon on a clock of its own. ``at``: what happens while it sleeps past an instant (s)."""

    interval: float = 60.0
    now: float = 1000.0
    at: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    log: Log = field(default_factory=Log)
    end: float = 1200.0

    def __post_init__(self) -> None:
        self.stop = Stop(lambda: self.now)
        self.daemon = Daemon(Clockwork(lambda: self.now, self.sleep), self.stop, self.log, self.interval)

    def sleep(self, seconds: float) -> None:
        assert 0 <= seconds <= 1
        self.sleeps.append(seconds)
        self.now += seconds
        for due in [one for one in self.at if one[0] <= self.now]:
            self.at.remove(due)
            due[1]()
        if self.now >= self.end:
            self.stop.request()

    def run(self, one_pass: Callable[[], dict[str, Any]] = dict, reload: Callable[[], None] = lambda: None) -> None:
        def noted() -> dict[str, Any]:
            self.starts.append(self.now)
            return one_pass()

        self.daemon.run(noted, reload)

    def takes(self, *seconds: float) -> Callable[[], dict[str, Any]]:
        """A pass that takes so long: the first, the second … and none after them."""
        left = list(seconds)

        def one_pass() -> dict[str, Any]:
            self.now += left.pop(0) if left else 0
            if self.now >= self.end:
                self.stop.request()
            return {"rows": 7}

        return one_pass


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The daemon takes over the signals of the process; the tests give them back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def hangup() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# --- intervals


@pytest.mark.parametrize(
    ("durations", "starts"),
    [
        ([], [1000, 1060, 1120, 1180]),
        ([30, 59, 1], [1000, 1060, 1120, 1180]),
        ([60, 0], [1000, 1060, 1120, 1180]),
        ([95, 10], [1000, 1095, 1155]),  # late once; the interval counts from the start of the late one
    ],
)
def test_passes_begin_at_the_interval(durations: list[float], starts: list[float]) -> None:
    scene = Scene()
    scene.run(scene.takes(*durations))
    assert starts == scene.starts


def test_the_daemon_never_sleeps_longer_than_it_may_need_to_hear_a_reload() -> None:
    scene = Scene(interval=2.5, end=1010)
    scene.run()
    assert [1000, 1002.5, 1005, 1007.5] == scene.starts
    assert {1.0, 0.5} == set(scene.sleeps)


def test_a_pass_is_one_line_with_its_figures() -> None:
    scene = Scene(end=1061)
    scene.run(scene.takes(12.3456))
    assert [
        ("info", "cycle", {"outcome": "done", "seconds": 12.346, "rows": 7}),
        ("info", "cycle", {"outcome": "done", "seconds": 0, "rows": 7}),
        ("info", "stopped", {}),
    ] == scene.log.lines


# --- failures


def test_a_pass_that_raises_is_told_and_the_next_runs() -> None:
    scene = Scene()

    def one_pass() -> dict[str, Any]:
        if len(scene.starts) % 2:
            raise ValueError("the table is gone")
        return {}

    scene.run(one_pass)
    assert ["failed", "done", "failed", "done"] == scene.log.outcomes("cycle")
    assert ("error", "ValueError: the table is gone") == (scene.log.lines[0][0], scene.log.lines[0][2]["error"])
    assert [1000, 1060, 1120, 1180] == scene.starts


def test_a_job_that_raises_stops_neither_the_others_nor_the_daemon() -> None:
    scene, done = Scene(), []

    def broken() -> None:
        done.append("broken")
        raise RuntimeError("no")

    for name, job in (
        ("first", lambda: done.append("first")),
        ("broken", broken),
        ("last", lambda: done.append("last")),
    ):
        scene.daemon.daily(name, "00:05", job)
    # The calendar looks at the machine's clock, so the test makes it run everything rather than wait for midnight.
    scene.daemon._calendar.run_all(delay_seconds=0)
    assert ["first", "broken", "last"] == done
    assert [("first", "done"), ("broken", "failed"), ("last", "done")] == [
        (fields["name"], fields["outcome"]) for _, _, fields in scene.log.lines
    ]


def test_jobs_run_at_their_time_of_day_in_utc() -> None:
    from datetime import UTC, datetime

    scene = Scene()
    scene.daemon.daily("reload", "00:05", lambda: None)
    (job,) = scene.daemon._calendar.jobs
    next_run = job.next_run.astimezone(UTC)
    assert ("00:05", True) == (f"{next_run:%H:%M}", next_run > datetime.now(UTC))


def test_a_clock_that_was_a_year_ahead_when_a_job_was_planned_does_not_keep_it_waiting() -> None:
    from datetime import timedelta

    scene = Scene(end=1010)
    scene.daemon.daily("reload", "00:05", lambda: None)
    (job,) = scene.daemon._calendar.jobs
    job.next_run += timedelta(days=365)
    scene.run()
    assert scene.daemon._calendar.idle_seconds <= 24 * 3600


# --- reload


def test_a_hangup_reloads_between_passes() -> None:
    scene, reloads = Scene(end=1130), []
    scene.at = [(1010, hangup), (1070, hangup), (1071, hangup)]
    scene.run(reload=lambda: reloads.append(scene.now))
    assert [1010, 1070, 1071] == reloads
    assert [1000, 1060, 1120] == scene.starts


def test_an_overloaded_daemon_reloads_all_the_same() -> None:
    """Passes that take longer than the interval leave no pause in which to listen."""
    scene, reloads = Scene(end=2000), []
    long_pass = scene.takes(*[100] * 9)

    def one_pass() -> dict[str, Any]:
        if scene.now == 1000:
            hangup()
        return long_pass()

    scene.run(one_pass, lambda: reloads.append(scene.now))
    assert [1100] == reloads


def test_a_reload_that_fails_keeps_what_was_there() -> None:
    scene, used = Scene(end=1250), []
    current = ["v1"]
    offers: list[str | Exception] = [ValueError("line 3"), "v2"]

    def reload() -> None:
        offer = offers.pop(0)
        if isinstance(offer, Exception):
            raise offer
        current[0] = offer

    def one_pass() -> dict[str, Any]:
        used.append(current[0])
        return {}

    scene.at = [(1010, hangup), (1130, hangup)]
    scene.run(one_pass, reload)
    assert ["v1", "v1", "v1", "v2", "v2"] == used
    assert ["failed", "done"] == scene.log.outcomes("job")
    assert "ValueError: line 3" in [fields.get("error") for _, _, fields in scene.log.lines]


# --- the end


def test_a_stop_during_a_pass_ends_after_it() -> None:
    scene = Scene()

    def one_pass() -> dict[str, Any]:
        terminate()
        return {"finished": True}

    scene.run(one_pass)
    assert (1, [], ["done"]) == (len(scene.starts), scene.sleeps, scene.log.outcomes("cycle"))
    assert ("info", "stopped", {}) == scene.log.lines[-1]


def test_a_pass_that_is_stopped_in_a_wait_ends_at_once() -> None:
    scene = Scene()

    def one_pass() -> dict[str, Any]:
        with scene.stop.interruptible():
            terminate()
        raise AssertionError("it went on")

    scene.run(one_pass)
    assert [("info", "stopped", {})] == scene.log.lines


def test_after_a_stop_nothing_else_begins() -> None:
    scene, reloads = Scene(), []

    def one_pass() -> dict[str, Any]:
        hangup()
        terminate()
        return {}

    scene.run(one_pass, lambda: reloads.append(1))
    assert [] == reloads


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_sleep(number: int) -> None:
    scene = Scene()
    scene.at = [(1030, lambda: os.kill(os.getpid(), number))]
    scene.run()
    assert ([1000], 1030) == (scene.starts, scene.now)


def test_a_stop_before_the_first_pass_does_nothing() -> None:
    scene = Scene()
    scene.stop.request()
    scene.run()
    assert [] == scene.starts
    with pytest.raises(Stopped), scene.stop.interruptible():
        pass


# --- a real process

PROCESS = """
import time
from contextlib import closing
from itsms_sync.daemon import Clockwork, Daemon
from itsms_sync.http import Stop
from itsms_sync.log import Sink, configured

with closing(Sink(2)) as sink:
    log = configured(sink, as_json=True)
    daemon = Daemon(Clockwork(time.monotonic, time.sleep), Stop(time.monotonic), log, 3600.0)
    daemon.run(lambda: {"rows": 1}, lambda: None)
"""


def line(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stderr is not None
    ready, _, _ = select.select([process.stderr], [], [], 20)
    assert ready, "the process says nothing"
    told: dict[str, Any] = json.loads(process.stderr.readline())
    return told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_ends_when_it_is_told_to(number: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROCESS], stderr=subprocess.PIPE, text=True)
    try:
        first = line(process)
        assert ("cycle", "done", 1) == (first["event"], first["outcome"], first["rows"])
        started = time.monotonic()
        process.send_signal(number)
        assert 0 == process.wait(timeout=8)
        assert time.monotonic() - started < 4
        assert "stopped" == line(process)["event"]
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
