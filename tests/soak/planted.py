"""Bugs that are planted in a copy of the program, each by one exact replacement: the random runs must find every one.

What cannot find them proves nothing when it finds nothing.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.soak.report import Result
from tests.soak.runs import BROKEN

ROOT = Path(__file__).parent.parent.parent
_COPIED = ("itsms_sync", "connectors", "mappings", "config", "tests/soak", "tests/end_to_end")
FOUND, OUT_OF_TIME = 1, 3
"""Exit codes of a soak that found something, and of one that found nothing in its time."""


@dataclass(frozen=True)
class Plant:
    """One bug."""

    told: str
    path: str
    old: str
    new: str
    stage: str = "runs"
    """Of the soak that has to find it."""
    count: int = 150
    """Of runs or cuts within which it has to."""


PLANTS: tuple[Plant, ...] = (
    Plant(
        "nothing is looked up before it is created again",
        "itsms_sync/outbox.py",
        "found = self._targets[item.target].connector.find(item.key)",
        "found = ()",
    ),
    Plant(
        "absence is believed while the index lags",
        "itsms_sync/outbox.py",
        "return self._quarantine_of(item) - (self._uptime.millis() - (item.uptime or 0))",
        "return 0",
    ),
    Plant(
        "a write is sent before it is marked as being sent",
        "itsms_sync/outbox.py",
        'self._mark(item, state="sending", attempts=item.attempts + 1, sent_at=self._clock(), problem=None)',
        "pass",
    ),
    Plant(
        "the cursor is committed before the data",
        "itsms_sync/store/ingested.py",
        '''by name, whose cursors say nothing about the streams."""
''',
        '''by name."""
        if span_id is not None:
            self._move_cursor(connection, span_id, poll_id, page)
            connection.connection.commit()
            connection.exec_driver_sql("BEGIN")
''',
    ),
    Plant(
        "> for >= behind the last row of a page of ServiceNow",
        "connectors/servicenow/walk.py",
        'groups = [(f"{stamp}>{at}",), (f"{stamp}={at}", f"sys_id>{cursor.id}")]',
        'groups = [(f"{stamp}>{at}",)]',
    ),
    Plant(
        "> for >= in a question to Jira",
        "connectors/jira/walk.py",
        'f"{self.by} >= {at}"',
        'f"{self.by} > {at}"',
    ),
    Plant(
        "windows do not overlap",
        "itsms_sync/wiring.py",
        "int(source.overlap.total_seconds() * 1000)",
        "0",
    ),
    Plant(
        "gaps are not written down",
        "itsms_sync/store/ingested.py",
        "self._doubt_broken(connection, kind, self.note_gaps(connection, page.gaps, at), at)",
        "pass",
        count=300,
    ),
    Plant(
        "commits are not flushed to the disk",
        "itsms_sync/store/database.py",
        '"synchronous=FULL"',
        '"synchronous=OFF"',
        "cuts",
        20,
    ),
)


class NoFitError(Exception):
    """The planting no longer fits."""


def sown(plant: Plant, folder: Path) -> Path:
    """A copy of the program with the bug in it. Raises ``NoFitError`` if the source has another text there by now."""
    for part in _COPIED:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / plant.path
    text = path.read_text("utf-8")
    if text.count(plant.old) != 1:
        raise NoFitError(f"the planting no longer fits: {plant.path} has {plant.old!r} {text.count(plant.old)} times")
    path.write_text(text.replace(plant.old, plant.new), "utf-8")
    return folder


@dataclass(frozen=True)
class Hunt:
    """Whether the soak found a bug, whether it was cut short, and what it said."""

    found: bool
    cut_short: bool
    told: str


def hunted(plant: Plant, seed: int, minutes: float) -> Hunt:
    """A copy that breaks off with an exception has another bug than this one, or one that needs no soak to be found.
    Raises ``NoFitError`` if the bug cannot be planted.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = sown(plant, Path(folder))
        told = [f"--seed={seed}", f"--count={plant.count}", f"--minutes={minutes}"]
        started = time.monotonic()
        code, output, errors = _ended([sys.executable, "-m", "tests.soak", plant.stage, *told], place)
        seconds = time.monotonic() - started
    lines = [line for line in output.splitlines() if line.startswith((f"{plant.stage}: ", "  WRONG"))][1:]
    what = " ".join(lines) or errors.strip().rpartition("\n")[2]
    wrong = "WRONG" in what and BROKEN not in what
    return Hunt(code == FOUND and wrong, code == OUT_OF_TIME, f"{seconds:.0f} s, exit {code}: {what}")


def _ended(command: list[str], folder: Path) -> tuple[int, str, str]:
    """Code and outputs of a soak that may close what it has open also when this one is ended."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return process.returncode, output, errors


def planted(seed: int, count: int, deadline: float, can_cut: bool) -> Result:
    """The first ``count`` bugs, one after the other."""
    result = Result("planted", of=min(count, len(PLANTS)), unit="planted bugs")
    for plant in PLANTS[:count]:
        left = (deadline - time.monotonic()) / 60
        if left <= 0 or (plant.stage == "cuts" and not can_cut):
            continue
        try:
            hunt = hunted(plant, seed, left)
        except NoFitError as error:
            hunt = Hunt(False, False, str(error))
        result.done += not hunt.cut_short
        said = "found" if hunt.found else "ran out of time" if hunt.cut_short else "NOT FOUND"
        result.stories.append(f"  {said}: {plant.told} ({hunt.told})")
        if not hunt.found and not hunt.cut_short:
            result.wrong.append(f"not found: {plant.told}")
    return result
