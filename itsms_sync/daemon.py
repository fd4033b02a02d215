"""When: the interval between passes, calendar jobs, signals, reload. What a pass does is ``cycle``'s.

Intervals run on the monotonic clock, so a wall clock that is set back or forth moves none of them. Calendar jobs run by
``schedule``, each wrapped: one that raises neither stops the others nor the daemon.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from itsms_sync.http import Stop, Stopped
from itsms_sync.store.database import Broken, DatabaseUnavailable

_A_DAY_S = 25 * 3600.0
"""No job of the calendar is further away than this (s)."""

Pass = Callable[[], dict[str, Any]]
"""Runs one pass and returns the fields of its canonical log line."""


@dataclass(frozen=True, slots=True)
class Clockwork:
    """The daemon's own time: seconds on the monotonic clock, and a sleep."""

    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


class Daemon:
    """Passes at an interval, jobs by the calendar, until it is told to stop."""

    def __init__(self, clockwork: Clockwork, stop: Stop, log: Any, interval: float) -> None:
        self._clockwork = clockwork
        self._stop = stop
        self._log = log
        self._interval = interval
        self._reload_wanted = False
        self._jobs: list[tuple[str, str, Callable[[], None]]] = []
        self._calendar = self._new_calendar()

    def daily(self, name: str, at: str, job: Callable[[], None]) -> None:
        """Runs ``job`` every day at ``at`` (``HH:MM`` UTC)."""
        self._jobs.append((name, at, job))
        self._calendar = self._new_calendar()

    def run(self, one_pass: Pass, reload: Callable[[], None]) -> None:
        """Returns when told to stop. ``reload`` is called on SIGHUP, between passes; it keeps what it has if it
        fails. Raises ``Broken`` when the database must not be trusted any more.
        """
        self._listen()
        while not self._stop.requested:
            due = self._clockwork.monotonic() + self._interval
            try:
                self._one_pass(one_pass)
                # Also when a pass took longer than the interval: else an overloaded daemon would never reload.
                self._between_passes(reload)
                while not self._stop.requested and self._clockwork.monotonic() < due:
                    with self._stop.interruptible():
                        self._clockwork.sleep(min(1.0, max(0.0, due - self._clockwork.monotonic())))
                    self._between_passes(reload)
            except Stopped:
                break
        self._log.info("stopped")

    def _between_passes(self, reload: Callable[[], None]) -> None:
        if self._stop.requested:
            return
        if self._reload_wanted:
            self._reload_wanted = False
            self._wrapped("reload", reload)()
        if (self._calendar.idle_seconds or 0.0) > _A_DAY_S:
            # The clock was far ahead when the next run was set; the jobs would wait until then.
            self._calendar = self._new_calendar()
        self._calendar.run_pending()

    def _one_pass(self, one_pass: Pass) -> None:
        started = self._clockwork.monotonic()
        try:
            fields = one_pass()
        except Broken as error:
            self._log.error("cycle", outcome="broken", error=str(error))
            raise
        except Exception as error:  # noqa: BLE001 - a daemon outlives any one pass; the error is said and the next pass tries again
            known = isinstance(error, DatabaseUnavailable)
            self._log.error("cycle", outcome="failed", error=f"{type(error).__name__}: {error}", exc_info=not known)
            return
        seconds = round(self._clockwork.monotonic() - started, 3)
        self._log.info("cycle", outcome="done", seconds=seconds, **fields)

    def _new_calendar(self) -> Any:
        import schedule

        calendar = schedule.Scheduler()
        for name, at, job in self._jobs:
            calendar.every().day.at(at, "UTC").do(self._wrapped(name, job))
        return calendar

    def _wrapped(self, name: str, job: Callable[[], None]) -> Callable[[], None]:
        """An exception that left a job would skip the jobs after it."""

        def guarded() -> None:
            try:
                job()
                self._log.info("job", name=name, outcome="done")
            except Exception as error:  # noqa: BLE001 - said, and the next job runs
                self._log.error("job", name=name, outcome="failed", error=f"{type(error).__name__}: {error}")

        return guarded

    def _listen(self) -> None:
        def ask_to_stop(_: int, __: FrameType | None) -> None:
            self._stop.request()

        def ask_to_reload(_: int, __: FrameType | None) -> None:
            self._reload_wanted = True

        signal.signal(signal.SIGTERM, ask_to_stop)
        signal.signal(signal.SIGINT, ask_to_stop)
        signal.signal(signal.SIGHUP, ask_to_reload)
