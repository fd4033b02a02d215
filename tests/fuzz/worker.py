"""``python -m tests.fuzz.worker SUBJECT SEED SECONDS COUNT FOLDER KEEP``: makes inputs and reads them, one by one.

Each input lies in FOLDER before it is read, so that it is there when this process is not; KEEP is for those that show
something. What is found is told on standard output, a line of JSON each.
"""

import json
import pkgutil
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.subjects import SUBJECTS, Subject

MOST_MEMORY = 6 << 30
"""Bytes; what is stated is much less, and seen as a finding before that."""
UNREMARKABLE = 64 << 20
"""Bytes that each may take, whatever it reads; what is stated for an input can be work to find out."""
MOST_KEPT = 600
LARGEST_KEPT = 1 << 16
TRACED = 10
"""One input of so many is watched for lines of the program that no other came to."""


class Coverage:
    """Lines of the program that inputs came to."""

    def __init__(self) -> None:
        import itsms_sync

        self._own = str(Path(str(itsms_sync.__file__)).parent)
        self._ours: dict[Any, bool] = {}
        self._lines: set[tuple[Any, int]] = set()

    def run(self, act: Callable[[], str]) -> tuple[str, bool]:
        """What the act returns, and whether it came to new lines."""
        before = len(self._lines)
        sys.settrace(self._called)
        try:
            return act(), len(self._lines) > before
        finally:
            sys.settrace(None)

    def _called(self, frame: Any, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in self._ours:
            self._ours[code] = code.co_filename.startswith(self._own)
        return self._line if self._ours[code] else None

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        self._lines.add((frame.f_code, frame.f_lineno))
        return self._line


class Watch:
    """Most memory and time of one reading."""

    def __enter__(self) -> "Watch":
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")
        self.memory, self.seconds = 0, 0.0
        self._begin = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self._begin
        self.memory = _status("VmHWM") - self._before


def _status(name: str) -> int:
    """Bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


Act = Callable[[], str]


def _untraced(act: Act) -> tuple[str, bool]:
    return act(), False


def watched(
    subject: Subject, path: Path, run: Callable[[Act], tuple[str, bool]] = _untraced
) -> tuple[str, bool, list[str]]:
    """What came of reading, whether it is new, and what is to be found fault with."""
    found = []
    watch = Watch()
    outcome, new = "", False
    try:
        with watch:
            outcome, new = run(lambda: subject.read(path))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of a library is one, too
        outcome = f"{type(error).__name__}: {error}"
        found.append(f"{_general(outcome)} ({_place(error)})")
    if watch.memory > UNREMARKABLE and watch.memory > subject.memory(path):
        found.append(f"memory: {watch.memory >> 20} MiB for {path.stat().st_size:,} bytes")
    # watching for lines makes what it watches several times slower
    if watch.seconds > subject.seconds(path) and run is _untraced:
        found.append(f"time: {watch.seconds:.1f} s for {path.stat().st_size:,} bytes")
    return outcome, new, found


def replayed(path: Path) -> list[str]:
    """What is found when an input is read that was kept: its name ends with what the reader was given."""
    name = path.name.rpartition("-")[2]
    subject = SUBJECTS.get(name.split(".")[1], SUBJECTS["yaml"])()
    with tempfile.TemporaryDirectory() as folder:
        outcome, _, found = watched(subject, Path(shutil.copy(path, Path(folder) / name)))
    sys.stdout.write(f"{path}: {outcome}\n")
    return found


class Fuzzing:
    """One subject and one seed."""

    def __init__(self, subject: Subject, seed: int, folder: Path, keep: Path) -> None:
        self.subject = subject
        self.seed = seed
        self.folder = folder
        self.keep = keep
        self.kept: list[tuple[str, bytes]] = []
        self.told: set[str] = set()
        self.outcomes: dict[str, int] = {}
        self.coverage = Coverage()

    def once(self, number: int) -> None:
        name, data = self.subject.make(Random(f"{self.seed}/{number}"), self.kept)
        path = self.folder / name
        path.write_bytes(data)
        traced = number % TRACED == 0
        act = self.coverage.run if traced else _untraced
        outcome, new, found = watched(self.subject, path, act)
        for what in found:
            if _general(what) in self.told:
                continue
            self.told.add(_general(what))
            kept = shutil.copy(path, self.keep / f"{self.seed}-{number}-{name}")
            _tell(found=what, file=str(kept))
        self._keep(_general(outcome), new, name, data)
        path.unlink()

    def _keep(self, outcome: str, new: bool, name: str, data: bytes) -> None:
        new = new or outcome not in self.outcomes
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if new and len(data) <= LARGEST_KEPT:
            self.kept.append((name, data))
            del self.kept[:-MOST_KEPT]


def _general(outcome: str) -> str:
    """An outcome without what is different in each input."""
    return re.sub(r"[`'\"‘].*?[`'\"’]|[0-9]+", "…", outcome)[:120]


def _place(error: BaseException) -> str:
    """Where it happened, in the program."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/itsms_sync/" in f.filename]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))


def _tell(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> None:
    name, seed, seconds, count = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    folder, keep = map(Path, sys.argv[5:])
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    ends = time.monotonic() + seconds
    subject = SUBJECTS[name] if name in SUBJECTS else pkgutil.resolve_name(name)
    fuzzing = Fuzzing(subject(), seed, folder, keep)
    _tell(done=0)
    number = 0
    told = 0.0
    while number < count and time.monotonic() < ends:
        fuzzing.once(number)
        number += 1
        if time.monotonic() > told + 1:
            told = time.monotonic()
            _tell(done=number)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    _tell(done=number, kept=len(fuzzing.kept), outcomes=fuzzing.outcomes, children=children, ended=True)


if __name__ == "__main__":
    main()
