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

from benchmarks import jira_log
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
_UNPARSED, _LIBRARY, _OBJECTS = "client, no parsing", "jira library", "jira library, same pages"
_PAGE_DELAY_S = 0.1
_CALLS = {
    _UNPARSED: "unparsed",
    _LIBRARY: "library",
    _OBJECTS: "objects",
    _BARE: "bare",
    _POLL: "poll",
    _CYCLE: "cycle",
}
_SERVED = {
    "ServiceNow": ("servicenow", ("itsms", "secret"), ("plugins=cim,major",)),
    "Jira Cloud": ("jira", ("bot@example.com", "token"), ()),
    "Jira Data Center": ("jira", ("bot", "token"), ("edition=datacenter", "context=/jira")),
}
"""Source -> plug-in, account, options of its simulator."""


def run(log: Path, rounds: int, tell: Tell) -> Facts:
    """``{source and latency: runs}``, told as tables in ``report``. Where waiting prevails, half the rounds show it."""
    found: Facts = {}
    with TemporaryDirectory(prefix="itsms-bench-") as folder:
        issues = Path(folder, "issues.json")
        tell(f"ingest: {jira_log.write(log, issues)} issues made of {log.name}")
        for source, (system, account, options) in _SERVED.items():
            data = [str(log)] if system == "servicenow" else ["itsm", str(issues)]
            with _simulator(system, data, options) as url:
                tell(f"{source}: the simulator serves")
                given = {"system": system, "url": url, "account": account, "requests": str(Path(folder, "asked.json"))}
                found |= _raced(source, given, rounds, tell)
    return found


def _raced(source: str, given: Facts, rounds: int, tell: Tell) -> Facts:
    given["documents"] = str(ROOT / "mappings")
    recorded = Side("recording", "benchmarks.ingest_sides", "record", given).run()
    given["served"] = {name: recorded[name] for name in ("rows", "events")}
    tell(f"{source}: warmed the simulator and noted what the product asks: {recorded['requests']} requests")
    names = [_UNPARSED, _BARE, *([_LIBRARY, _OBJECTS] if given["system"] == "jira" else []), _POLL, _CYCLE]
    near = race(source, _sides(given, names), rounds, tell)
    _delay(given["system"], given["url"], _PAGE_DELAY_S)
    far = race(f"{source}, 100 ms a page", _sides(given, (_BARE, _POLL, _CYCLE)), max(1, rounds // 2), tell)
    return {f"{source}, no latency": near, f"{source}, 100 ms a page": far}


def _sides(given: Facts, names: Sequence[str]) -> list[Side]:
    return [Side(name, "benchmarks.ingest_sides", _CALLS[name], given) for name in names]


@contextmanager
def _simulator(system: str, data: Sequence[str], options: Sequence[str]) -> Iterator[str]:
    files = [argument for name in data for argument in ("--data", name)]
    chosen = [argument for option in options for argument in ("--option", option)]
    command = [sys.executable, "-m", f"connectors.{system}.simulator", *files, *chosen]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def _delay(system: str, url: str, seconds: float) -> None:
    """At the host, whatever the context path."""
    rules = {
        "servicenow": {"do": "delay", "seconds": seconds, "path": "^/api/"},
        "jira": [{"do": "delay", "seconds": seconds, "path": "/rest/"}],
    }
    place = "/".join(url.split("/")[:3]) + "/_sim/faults"
    with urllib.request.urlopen(urllib.request.Request(place, json.dumps(rules[system]).encode(), method="POST")):
        pass


def report(found: Facts) -> str:
    """The tables."""
    return "\n\n".join(f"Ingest, {where}:\n\n{_table(runs)}" for where, runs in found.items())


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
