"""The past of a large desk, and what a pass costs once it is read.

Owns the desk and the tracker (processes of their own) and the report. What is measured is in ``backfill_sides``. The
size of the desk is what differs between the daemons, which take turns, so that a machine that drifts hurts all; nothing
else is compared with.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import gettempdir

from benchmarks.measurement import ROOT, Facts, Tell, each, spread, table

SIZES = (10_000, 100_000)
CHANGED = 100
PASSES = 7


def run(log: Path, rounds: int, tell: Tell) -> Facts:
    """``{tickets: what was found}``. The sizes are those of ``ITSMS_BENCH_TICKETS``, comma separated; each is read
    once, however many ``rounds`` others take. The daemons stay, and take turns with their passes.
    """
    wanted = os.environ.get("ITSMS_BENCH_TICKETS")
    found: Facts = {}
    with ExitStack() as stack:
        daemons = {}
        for tickets in map(int, wanted.split(",")) if wanted else SIZES:
            daemons[tickets] = stack.enter_context(_daemon(tickets))
            found[str(tickets)] = _answer(daemons[tickets])
            tell(f"backfill of {tickets:,} tickets: {found[str(tickets)]['wall_s']:.1f} s")
        for what, changed in (("changed", CHANGED), ("idle", 0)):
            for _ in range(PASSES + 1):
                for tickets, daemon in daemons.items():
                    found[str(tickets)].setdefault(what, []).append(_asked(daemon, str(changed)))
            for tickets in daemons:
                del found[str(tickets)][what][0]  # whatever was still to be done
        for tickets, daemon in daemons.items():
            found[str(tickets)] |= _asked(daemon, "end")
    return found


@contextmanager
def _daemon(tickets: int) -> Iterator["subprocess.Popen[str]"]:
    """A daemon beside a desk and a tracker of its own, which has begun to read."""
    with (
        serving(["-m", "benchmarks.generated_desk", str(tickets)]) as desk,
        serving(["-m", "connectors.servicenow.simulator"]) as tracker,
    ):
        given = {"url": desk, "tracker": tracker, "documents": str(ROOT / "mappings"), "folder": gettempdir()}
        command = [sys.executable, "-m", "benchmarks.backfill_sides", json.dumps(given)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield process
            process.communicate()


def _asked(daemon: "subprocess.Popen[str]", what: str) -> Facts:
    assert daemon.stdin is not None
    daemon.stdin.write(what + "\n")
    daemon.stdin.flush()
    return _answer(daemon)


def _answer(daemon: "subprocess.Popen[str]") -> Facts:
    assert daemon.stdout is not None
    line = daemon.stdout.readline()
    if not line:
        raise SystemExit("a daemon of the benchmark ended; what it said stands above")
    found: Facts = json.loads(line)
    return found


@contextmanager
def serving(command: Sequence[str]) -> Iterator[str]:
    """The address that a server prints when it is ready."""
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.send_signal(signal.SIGTERM)


def report(found: Facts) -> str:
    """The tables."""
    heads = (
        "tickets",
        "rows",
        "requests",
        "windows",
        "largest, rows",
        "first pass s",
        "wall s",
        "CPU s",
        "rows/s",
        "peak RSS MB",
    )
    past = [
        (
            f"{int(tickets):,}",
            f"{one['rows']:,}",
            f"{one['requests']:,}",
            f"{one['windows']:,}",
            f"{one['longest_window_rows']:,}",
            f"{one['first_s']:.1f}",
            f"{one['wall_s']:.1f}",
            f"{one['cpu_s']:.1f}",
            f"{one['rows'] / one['wall_s']:,.0f}",
            f"{one['peak_all_mb']:,.0f}",
        )
        for tickets, one in found.items()
    ]
    steady = [
        (
            f"{int(tickets):,}",
            f"{one['database_mb']:,.0f}",
            *_steady(found, one, "changed"),
            *_steady(found, one, "idle"),
        )
        for tickets, one in found.items()
    ]
    told = ["tickets stored", "database MB"]
    for what in (f"{CHANGED} changed", "nothing changed"):
        told += [f"{what}, s", "CPU s", "times"]
    return (
        f"The past, newest first, judged as it comes:\n\n{table(heads, past)}\n\nThen passes:\n\n{table(told, steady)}"
    )


def _steady(found: Facts, one: Facts, what: str) -> tuple[str, str, str]:
    """Seconds of the passes, CPU seconds, and how many times those are what they are at the smallest size. A busy
    machine stretches the former only."""
    least = median(each(found[min(found, key=int)][what], "cpu_s"))
    wall, cpu = each(one[what], "wall_s"), each(one[what], "cpu_s")
    return spread(wall, ".3f"), spread(cpu, ".3f"), f"{median(cpu) / least:.2f}"
