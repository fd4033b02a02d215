"""Measured runs: a stopwatch inside a process of its own, sides that take turns, and figures of several runs.

Knows nothing of what is measured and needs the standard library only, so that it serves every side in whatever
environment that lives. Nothing here passes or fails: figures are for reading.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
"""The checkout; sides are started in it."""

Facts = dict[str, Any]
Tell = Callable[[str], None]
"""Takes a line on what is being done."""


def measured(work: Callable[[], Facts]) -> Facts:
    """What ``work`` tells, with ``wall_s``, ``cpu_s`` (all threads) and ``peak_mb``, the process's largest RSS."""
    wall, cpu = time.perf_counter(), time.process_time()
    facts = work()
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    return {**facts, **spent, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Largest RSS of this process in MB. Not ``ru_maxrss``, which starts with the size of the process that forked."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def main(sides: Mapping[str, Callable[[Facts], Facts]]) -> None:
    """Runs the side that the first argument names with the second, JSON; prints what it tells as one line of JSON."""
    print(json.dumps(sides[sys.argv[1]](json.loads(sys.argv[2]))))


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that are compared: a module whose :func:`main` has a side ``call``."""

    name: str
    module: str
    call: str
    given: Facts
    python: Path = Path(sys.executable)

    def run(self) -> Facts:
        """One run in a process of its own. What it says is shown only where it fails, and then ends the benchmark."""
        command = [str(self.python), "-m", self.module, self.call, json.dumps(self.given)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{self.name} failed:\n{done.stderr}")
        found: Facts = json.loads(done.stdout.splitlines()[-1])
        return found


Runs = dict[str, list[Facts]]
"""Name of a side -> its runs, in the order of the rounds."""


def race(what: str, sides: Sequence[Side], rounds: int, tell: Tell) -> Runs:
    """Each side once a round, in turn, so that a machine that drifts hurts all of them."""
    runs: Runs = {side.name: [] for side in sides}
    for number in range(1, rounds + 1):
        for side in sides:
            runs[side.name].append(side.run())
            tell(f"{what}, round {number} of {rounds}: {side.name} {runs[side.name][-1]['wall_s']:.2f} s")
    return runs


def spread(values: Iterable[float], form: str = ",.2f") -> str:
    """``median (min-max)``."""
    known = sorted(values)
    return f"{median(known):{form}} ({known[0]:{form}}-{known[-1]:{form}})"


def each(runs: Sequence[Facts], key: str) -> list[float]:
    return [run[key] for run in runs]


def rates(runs: Sequence[Facts], key: str) -> list[float]:
    """What ``key`` counts, per second of wall time."""
    return [run[key] / run["wall_s"] for run in runs]


def ratios(slow: Sequence[Facts], quick: Sequence[Facts], key: str = "wall_s") -> list[float]:
    """How many times more of ``key`` the one takes than the other, round by round."""
    return [one[key] / other[key] for one, other in zip(slow, quick, strict=True)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, aligned for a terminal too; the first column holds names."""
    cells = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    cells.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    lines = ([name.ljust(first), *map(str.rjust, figures, others)] for name, *figures in cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> Facts:
    """Where and how busy: processors, Python, load of the last 1, 5 and 15 minutes."""
    return {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }
