"""The real daemon as a process of the soak, and people who work while it runs."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

READY_WITHIN_S = 5.0
_START_WITHIN_S = 60.0
COMMAND = (sys.executable, "-m", "itsms_sync")
ROOT = Path(__file__).parent.parent.parent


def environment() -> dict[str, str]:
    """Of a process that runs this very program, planted bugs and all."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class DaemonError(Exception):
    """The daemon ended by itself; the message has its log."""


class Daemon:
    """``itsms-sync run``. ``ready_s``: seconds until it was at work, but for those in which it waited for a processor
    that others had.
    """

    def __init__(self, config: Path) -> None:
        self._log = config.parent / "daemon.log"
        started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "run", f"--config={config}"], cwd=config.parent, env=environment(), stderr=log
            )
        try:
            self._wait_for_start(started)
        except BaseException:
            self.kill()
            raise
        self.ready_s = time.monotonic() - started - self._waited_s()

    def _wait_for_start(self, started: float) -> None:
        while not self._said("started"):
            if self._process.poll() is not None or time.monotonic() - started > _START_WITHIN_S:
                raise DaemonError(f"it did not start: {self._log.read_text('utf-8')[-1000:]}")
            time.sleep(0.01)

    def _waited_s(self) -> float:
        return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[1]) / 1e9

    def live(self, seconds: float) -> None:
        """Let it work for so long; time in which it waited for a processor does not count, so that a busy machine takes
        nothing from what it gets done. Ends with it.
        """
        started, waited = time.monotonic(), self._waited_s()
        while self.alive and time.monotonic() - started - (self._waited_s() - waited) < seconds:
            time.sleep(0.01)

    def _said(self, name: str) -> list[dict[str, Any]]:
        """Whole lines of this event."""
        lines = self._log.read_bytes().rpartition(b"\n")[0].splitlines()
        return [said for said in map(json.loads, lines) if said.get("event") == name]

    def cycles(self) -> int:
        """Passes that it says are done."""
        return sum(said.get("outcome") == "done" for said in self._said("cycle"))

    def failures(self) -> list[str]:
        """Passes that ended in an exception."""
        return [str(said.get("error")) for said in self._said("cycle") if said.get("outcome") == "failed"]

    def freeze(self) -> None:
        """Stop it where it stands. Returns when nothing of it moves any more."""
        os.kill(self._process.pid, signal.SIGSTOP)
        states = Path(f"/proc/{self._process.pid}/task")
        while any("(stopped)" not in _state(task) for task in states.iterdir()):
            time.sleep(0.005)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


def _state(task: Path) -> str:
    status = (task / "status").read_text()
    return next(line for line in status.splitlines() if line.startswith("State:"))


@contextmanager
def at_work(draw: Callable[[], str], random: Random, pause_s: float) -> Iterator[None]:
    """People do one thing after the other until the context ends."""
    enough, problems = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            while not enough.wait(random.uniform(0, 2 * pause_s)):
                draw()
        except BaseException as error:  # noqa: BLE001 - raised where it is seen
            problems.append(error)

    thread = threading.Thread(target=work, name="people")
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
    if problems:
        raise problems[0]
