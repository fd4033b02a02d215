"""Every crash point of one cycle: the process is killed as it makes its N-th call of the system for each kind of call
by which something reaches the disk or the wire.
"""

import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.soak import pool
from tests.soak.daemon import COMMAND, environment
from tests.soak.people import Incidents, Issues
from tests.soak.report import Result
from tests.soak.runs import Outcome, judged
from tests.soak.world import Plan, Stage, World

CALLS = ("fdatasync", "sendto", "pwrite64")
_PLAN = Plan(page_size=8)
_LONGEST_S = 60
_BEYOND = 10
"""Cycles differ by a few calls, so that the last points of one may lie beyond the end of another: one in so many."""


@dataclass(frozen=True)
class Point:
    """The N-th call of this kind, 0 to let the cycle run to its end and count them."""

    call: str
    number: int
    seed: int


@dataclass
class Ended:
    """How the cycle at a point ended."""

    killed: bool
    calls: Counter[str]
    outcome: Outcome


def missing() -> str:
    """Why the stage cannot run."""
    return "" if shutil.which("strace") else "needs strace (Debian: apt-get install strace)"


def points(seed: int, count: int, deadline: float) -> Result:
    """Up to ``count`` points; with fewer than there are, evenly spread over them."""
    result = Result("points", unit="crash points")
    with pool.stage() as stage:
        whole = at(stage, Point("", 0, seed))
    found = [Point(call, number, seed) for call in CALLS for number in range(1, whole.calls[call] + 1)]
    result.figures.update({f"of {call}": whole.calls[call] for call in CALLS})
    chosen = found[:: -(-len(found) // count)] if len(found) > count else found
    result.of = len(chosen)
    unreached = 0
    for ended in pool.spread(at, chosen, deadline):
        result.done += 1
        unreached += not ended.killed
        result.findings.add(ended.outcome.findings)
        if ended.outcome.findings.wrong:
            result.stories.append("    " + "\n    ".join(ended.outcome.story))
            if len(result.stories) == 3:
                break
    result.figures["beyond the end"] = unreached
    if unreached * _BEYOND > result.done:
        result.wrong.append(f"{unreached} of {result.done} kills did not strike")
    return result


def at(stage: Stage, point: Point) -> Ended:
    """One cycle that is killed at the point, and what the next ones made of it."""
    with stage.opened(_PLAN) as world:
        _work(world, point.seed)
        calls = world.folder / "calls.txt"
        kill = f"inject={point.call}:signal=SIGKILL:when={point.number}"
        traced = ["-e", f"trace=execve,{','.join(CALLS)}", *(["-e", kill] if point.number else [])]
        cycle = ["once", f"--config={world.configuration.path}"]
        ended = subprocess.run(
            ["strace", "-f", "-qq", "-o", str(calls), *traced, *COMMAND, *cycle],
            env=environment(),
            cwd=world.folder,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
        killed = ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        world.story.append(f"{point}: exit {ended.returncode}")
        if not killed and ended.returncode != 0:
            raise pool.WorkerError(f"{point}: exit {ended.returncode}: {ended.stderr[-1000:]}")
        world.calm()
        return Ended(killed, _counted(calls), Outcome(point.seed, judged(world), world.story))


def _work(world: World, seed: int) -> None:
    """People leave something to read, and something to open a ticket about."""
    random = Random(seed)
    incidents = Incidents(world.servicenow, world.time.now, random)
    issues = Issues(world.jira, world.time.now, random)
    incidents.report(2)
    incidents.save(incidents.pick(9))
    issues.report(2)
    issues.edit(issues.pick(9))
    world.time.skip(1)


def _counted(path: Path) -> Counter[str]:
    """Calls of the process's first thread, whose calls strace counts apart."""
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
    first = lines[0][0]
    return Counter(call.partition("(")[0] for thread, call in lines if thread == first and "resumed>" not in call)
