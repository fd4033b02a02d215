"""``python -m tests.soak``: hours of bad luck in minutes. Nothing may be lost and nothing doubled.

Exit codes: 0 all stages ran to their end and found nothing wrong, 1 something is wrong (the seed and its story are
told), 2 wrong usage, 3 nothing is wrong, but a stage was skipped or ran out of time.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.soak import cuts, kills, planted, points, pool, runs
from tests.soak.report import Result

_STORIES = 1


@dataclass(frozen=True)
class Order:
    """What was asked for."""

    seed: int
    count: int
    deadline: float
    """On the monotonic clock."""

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() > self.deadline


@dataclass(frozen=True)
class Kind:
    """A stage: what it does, how often by default, and its share of the time."""

    run: Callable[[Order], Result]
    count: int
    share: float
    told: str


def random_runs(order: Order) -> Result:
    result = Result("runs", of=order.count)
    figures = dict.fromkeys(("cycles", "crashes", "faults"), 0)
    for outcome in pool.spread(runs.run, range(order.seed, order.seed + order.count), order.deadline):
        result.done += 1
        result.findings.add(outcome.findings)
        for name in figures:
            figures[name] += getattr(outcome, name)
        if outcome.findings.wrong:
            result.stories.append(f"  seed {outcome.seed}:\n    " + "\n    ".join(outcome.story))
            if len(result.stories) == _STORIES:
                break
    result.figures.update(figures)
    return result


def _killed(order: Order) -> Result:
    return kills.kills(order.seed, order.count, order.deadline)


def _at_points(order: Order) -> Result:
    lack = points.missing()
    return Result("points", skipped=lack) if lack else points.points(order.seed, order.count, order.deadline)


def _cut(order: Order) -> Result:
    lack = cuts.missing()
    return Result("cuts", skipped=lack) if lack else cuts.cuts(order.seed, order.count, order.deadline)


def _planted(order: Order) -> Result:
    return planted.planted(order.seed, order.count, order.deadline, can_cut=not cuts.missing())


KINDS: Mapping[str, Kind] = {
    "kills": Kind(_killed, 200, 0.28, "random kill -9 of the daemon, one after the other"),
    "points": Kind(_at_points, 1000, 0.30, "a kill at every call that reaches the disk or the wire in one cycle"),
    "cuts": Kind(_cut, 80, 0.07, "power cuts under the daemon's database"),
    "runs": Kind(random_runs, 1000, 0.27, "random runs of the whole cycle with faults and crashes, in process"),
    "planted": Kind(_planted, 100, 0.08, "bugs in a copy of the program, which the soak must find"),
}


def main() -> int:
    asked = _arguments()
    pool.end_orderly()
    seed = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(4), "big")
    ends = time.monotonic() + 60 * asked.minutes
    _say(f"soak: seed {seed}; SEED={seed} repeats it; at most {asked.minutes:g} minutes")
    chosen = asked.stages or list(KINDS)
    results = []
    for name in chosen:
        kind = KINDS[name]
        left = sum(KINDS[each].share for each in chosen[chosen.index(name) :])
        now = time.monotonic()
        order = Order(seed, asked.count or kind.count, now + (ends - now) * kind.share / left)
        _say(f"{name}: {kind.told} …")
        result = kind.run(order)
        result.seconds = time.monotonic() - now
        _say(result.told())
        results.append(result)
    return _verdict(results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(KINDS)}; all of them without a name")
    parser.add_argument("--seed", type=int, help="of the first run; without it a new one")
    parser.add_argument("--minutes", type=float, default=50.0, help="for all stages together")
    parser.add_argument("--count", type=int, help="of the stage's runs, kills or cuts")
    asked = parser.parse_args()
    wrong = [name for name in asked.stages if name not in KINDS]
    if wrong:
        parser.error(f"there is no stage {', '.join(wrong)}")
    return asked


def _verdict(results: list[Result]) -> int:
    lost = sum(len(result.findings.lost) for result in results)
    doubled = sum(len(result.findings.doubled) for result in results)
    _say(f"soak: lost {lost}, doubled {doubled}, undeclared gaps {lost}")
    for result in results:
        if result.failed or result.incomplete:
            what = "FAILED" if result.failed else ("skipped" if result.skipped else "ran out of time")
            _say(f"  {result.stage}: {what}")
    if any(result.failed for result in results):
        return 1
    return 3 if any(result.incomplete for result in results) else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
