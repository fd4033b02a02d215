"""``python -m tests.fuzz``: gives readers what is almost right, and what is made to exhaust them.

Exit codes: 0 nothing was found, 1 something was (the inputs are kept and told), 2 wrong usage.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import IO, Any

NAMES = ("yaml", "csv", "xes", "parquet")
HANGS = 120.0
"""Seconds without a word: the input is then one that hangs the reader."""
ROOT = Path(__file__).parent.parent.parent


@dataclass
class Result:
    """What became of one reader."""

    name: str
    seeds: list[int] = field(default_factory=list)
    done: int = 0
    kept: int = 0
    children: int = 0
    """Bytes that the largest of the processes took that the reader started."""
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    """What was found -> one input that shows it."""

    def told(self) -> str:
        good = sum(count for outcome, count in self.outcomes.items() if outcome.startswith(("read", "judged")))
        return (
            f"{self.name}: seeds {', '.join(map(str, self.seeds))}; {self.done:,} inputs, {good:,} of them read, "
            f"{len(self.outcomes):,} different outcomes; findings: {len(self.findings)}"
        )


@dataclass(frozen=True)
class Order:
    """What was asked for, of each reader."""

    seed: int
    seconds: float
    keep: Path
    count: int = sys.maxsize
    """Inputs, if not so many as there is time for."""
    hangs: float = HANGS


def fuzzed(name: str, order: Order) -> Result:
    """Fuzzes one reader. A process that ends before its time is a finding, and another follows with the next seed."""
    result = Result(name)
    ends = time.monotonic() + order.seconds
    while result.done < order.count and (left := ends - time.monotonic()) > 0:
        result.seeds.append(order.seed + len(result.seeds))
        with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:
            _one_process(result, left, Path(folder), order)
    return result


def _one_process(result: Result, seconds: float, folder: Path, order: Order) -> None:
    seed, keep = result.seeds[-1], order.keep
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.worker", result.name, str(seed), str(seconds)]
    command += [str(order.count - result.done), str(folder), str(keep)]
    heard: dict[str, Any] = {}
    with (
        (keep / f"{result.name}-{seed}.stderr").open("wb") as complaints,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=complaints) as worker,
    ):
        assert worker.stdout is not None
        while line := _line(worker, worker.stdout, order.hangs if heard else HANGS):
            told = json.loads(line)
            heard |= told
            if "found" in told:
                result.findings.setdefault(told["found"], told["file"])
    result.done += heard.get("done", 0)
    result.kept += heard.get("kept", 0)
    result.children = max(result.children, heard.get("children", 0))
    result.outcomes.update(heard.get("outcomes", {}))
    if not heard:
        raise RuntimeError(f"the process of {result.name} did not begin: {complaints.name}")
    if not heard.get("ended"):
        result.done += 1
        kept = [shutil.copy(path, keep / f"{result.name}-{seed}-ended-{path.name}") for path in folder.iterdir()]
        result.findings.setdefault(f"the process ended with {worker.returncode}", ", ".join(map(str, kept)))


def _line(worker: "subprocess.Popen[bytes]", pipe: IO[bytes], hangs: float) -> bytes:
    """What the process says next; nothing when it has ended, or has been ended because it said nothing for too long."""
    late = Timer(hangs, worker.send_signal, [signal.SIGABRT])
    late.start()
    try:
        return pipe.readline()
    finally:
        late.cancel()


def main() -> int:
    asked = _arguments()
    if asked.replay:
        return _replayed(asked.replay)
    seed = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(3), "big")
    keep = Path(tempfile.mkdtemp(prefix="itsms_sync.fuzz."))
    names = asked.readers or list(NAMES)
    _say(f"fuzz: seed {seed}; SEED={seed} repeats it; {asked.minutes:g} minutes for each of {', '.join(names)}")
    results = []
    for name in names:
        results.append(fuzzed(name, Order(seed, 60 * asked.minutes, keep)))
        _say(results[-1].told())
        for what, file in results[-1].findings.items():
            _say(f"  {what}\n    {file}")
    return 1 if any(result.findings for result in results) else 0


def _replayed(paths: list[Path]) -> int:
    """Reads inputs that were kept, in this process."""
    from tests.fuzz.worker import replayed

    found = [what for path in paths for what in replayed(path)]
    _say("\n".join(found) or "nothing is found")
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(NAMES)}; all without a name")
    parser.add_argument("--seed", type=int, help="without it a new one")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each reader")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="inputs that were kept")
    asked = parser.parse_args()
    wrong = [name for name in asked.readers if name not in NAMES]
    if wrong:
        parser.error(f"there is no reader {', '.join(wrong)}")
    return asked


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
