"""Reading a whole instance: the product's full path next to a bare client that asks the same and keeps nothing.

Owns the simulator (a process of its own), its latency and the report. What each side does is in ``ingest_sides``.
"""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measurement import (
    ROOT,
    Facts,
    Runs,
    Side,
    Tell,
    each,
    race,
    rates,
    ratios,
    spread,
    table,
)

_BARE, _POLL, _CYCLE = "bare client", "product", "product, judging"
_UNPARSED = "client, no parsing"
_PAGE_DELAY_S = 0.1


def run(log: Path, rounds: int, tell: Tell) -> Facts:
    """``{latency: runs}``, told as tables in ``report``. Where waiting prevails, half the rounds show it."""
    with TemporaryDirectory(prefix="itsms-bench-") as folder, _simulator(log, tell) as url:
        given: Facts = {"url": url, "documents": str(ROOT / "mappings"), "requests": str(Path(folder, "requests.txt"))}
        recorded = Side("recording", "benchmarks.ingest_sides", "record", given).run()
        given["served"] = {name: recorded[name] for name in ("rows", "events")}
        tell(f"ingest: warmed the simulator and noted what the product asks: {recorded['requests']} requests")
        near = race("ingest", _sides(given, (_UNPARSED, _BARE, _POLL, _CYCLE)), rounds, tell)
        _delay(url, _PAGE_DELAY_S)
        far = race("ingest, 100 ms a page", _sides(given, (_BARE, _POLL, _CYCLE)), max(1, rounds // 2), tell)
    return {"no latency": near, "100 ms a page": far}


def _sides(given: Facts, names: Sequence[str]) -> list[Side]:
    calls = {_UNPARSED: "unparsed", _BARE: "bare", _POLL: "poll", _CYCLE: "cycle"}
    return [Side(name, "benchmarks.ingest_sides", calls[name], given) for name in names]


@contextmanager
def _simulator(log: Path, tell: Tell) -> Iterator[str]:
    command = [sys.executable, "-m", "connectors.servicenow.simulator", "--data", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            tell(f"ingest: the simulator serves {log.name}")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def _delay(url: str, seconds: float) -> None:
    rule = json.dumps({"do": "delay", "seconds": seconds, "path": "^/api/"}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/_sim/faults", rule, method="POST")):
        pass


def report(found: Facts) -> str:
    """The tables."""
    return "\n\n".join(f"Ingest, {latency}:\n\n{_table(runs)}" for latency, runs in found.items())


def _table(runs: Runs) -> str:
    head = ("", "requests", "rows/s", "events/s", "wall s", "times bare", "CPU s", "CPU, times bare", "peak RSS MB")
    bare = runs[_BARE]
    rows = [
        (
            name,
            f"{side[0]['requests']:,}",
            spread(rates(side, "rows"), ",.0f"),
            spread(rates(side, "events"), ",.0f"),
            spread(each(side, "wall_s")),
            spread(ratios(side, bare)),
            spread(each(side, "cpu_s")),
            spread(ratios(side, bare, "cpu_s")),
            spread(each(side, "peak_mb"), ",.0f"),
        )
        for name, side in runs.items()
    ]
    return table(head, rows)
