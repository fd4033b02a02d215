"""Worker processes, each with desks of its own."""

import multiprocessing
import multiprocessing.synchronize
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.soak.world import Stage

WORKERS = 2
_SILENCE_S = 180
"""A worker that says nothing for so long hangs."""
_ENDING_S = 30
"""Within which a worker that is told to end has to have closed everything."""
_MEMORY = Path("/dev/shm")
Task = Callable[[Stage, Any], Any]


class WorkerError(Exception):
    """A worker broke off: a defect of the soak, not a finding."""


def end_orderly() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does: everything that is open is closed, mounts and children too.
    A second one does not disturb that.
    """

    def heard(number: int, _: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, heard)


@contextmanager
def stage() -> Iterator[Stage]:
    """In memory where there is a place for it: these stages do not test the disk."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Stage(Path(folder))


def spread(task: Task, items: Sequence[Any], deadline: float) -> Iterator[Any]:
    """What ``task(stage, item)`` gives for each item, as it comes, until ``deadline`` (monotonic). The task must be a
    function of a module. Whoever breaks off the iteration ends the workers.
    """
    spawn = multiprocessing.get_context("spawn")
    outcomes, enough = spawn.Queue(), spawn.Event()
    parts = [items[number::WORKERS] for number in range(WORKERS)]
    processes = [spawn.Process(target=_work, args=(task, part, deadline, outcomes, enough)) for part in parts]
    for process in processes:
        process.start()
    at_work = len(processes)
    try:
        while at_work:
            ended, content = outcomes.get(timeout=_SILENCE_S)
            if ended:
                at_work -= 1
                if content:
                    raise WorkerError(content)
            else:
                yield content
    finally:
        enough.set()
        for process in processes if at_work else ():
            process.terminate()
        for process in processes:
            process.join(timeout=_SILENCE_S if at_work == 0 else _ENDING_S)
            process.kill()
            process.join()


def _work(
    task: Task, items: Sequence[Any], deadline: float, outcomes: Any, enough: multiprocessing.synchronize.Event
) -> None:
    end_orderly()
    problem = ""
    try:
        with stage() as stage_:
            for item in items:
                if enough.is_set() or time.monotonic() > deadline:
                    break
                outcomes.put((False, task(stage_, item)))
    except BaseException:  # noqa: BLE001 - told by the parent, which would else wait for it
        problem = traceback.format_exc()
    outcomes.put((True, problem))
