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

ROOT = Path(__file__).parent.parent.parent
_COPIED = ("itsms_sync", "connectors", "mappings", "config", "tests/soak", "tests/end_to_end")
FOUND = 1
"""Exit code of a soak that found something."""


@dataclass(frozen=True)
class Plant:
    """One bug."""

    told: str
    path: str
    old: str
    new: str
    stage: str = "runs"
    """Of the soak that has to find it."""
    count: int = 60
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
        "clear_at = now + target.deadline + int(target.connector.index_lag * 1000)",
        "clear_at = now",
    ),
    Plant(
        "a write is sent before it is marked as being sent",
        "itsms_sync/outbox.py",
        'self._change(item, state="sending", attempts=item.attempts + 1, sent_at=self._clock(), problem=None)',
        "pass",
    ),
    Plant(
        "the cursor is committed before the data",
        "itsms_sync/store/ingested.py",
        '''gaps and its cursor."""
''',
        '''gaps and its cursor."""
        self._move_cursor(connection, poll_id, kind, page)
        connection.connection.commit()
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
        'f"updated >= {at}"',
        'f"updated > {at}"',
    ),
    Plant(
        "windows do not overlap",
        "itsms_sync/ingest.py",
        "source.overlap, source.page_size",
        "0, source.page_size",
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


def hunted(plant: Plant, seed: int, minutes: float) -> tuple[bool, str]:
    """Whether the soak finds the bug, and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        place = sown(plant, Path(folder))
        told = [f"--seed={seed}", f"--count={plant.count}", f"--minutes={minutes}"]
        started = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", "tests.soak", plant.stage, *told],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
    lines = [line for line in run.stdout.splitlines() if line.startswith((f"{plant.stage}: ", "  WRONG"))][1:]
    what = " ".join(lines) or run.stderr.strip().rpartition("\n")[2]
    return run.returncode == FOUND and "WRONG" in what, f"{seconds:.0f} s, exit {run.returncode}: {what}"


def planted(seed: int, count: int, deadline: float, can_cut: bool) -> Result:
    """The first ``count`` bugs, one after the other."""
    result = Result("planted", of=min(count, len(PLANTS)), unit="planted bugs")
    for plant in PLANTS[:count]:
        left = (deadline - time.monotonic()) / 60
        if left <= 0 or (plant.stage == "cuts" and not can_cut):
            continue
        try:
            found, told = hunted(plant, seed, left)
        except NoFitError as error:
            found, told = False, str(error)
        result.done += 1
        result.stories.append(f"  {'found' if found else 'NOT FOUND'}: {plant.told} ({told})")
        if not found:
            result.wrong.append(f"not found: {plant.told}")
    return result
