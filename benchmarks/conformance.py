"""Conformance, the whole job from the file on: the product next to what PM4Py offers for it.

Owns the report and the comparison of costs: alignments that cost anything else than PM4Py's end the benchmark.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from benchmarks.backfill import serving
from benchmarks.measurement import ROOT, Facts, Runs, Side, Tell, each, race, ratios, spread, table
from benchmarks.other_side import interpreter

_NOW = 1_488_326_400_000
"""2017-03-01T00:00Z, ms: after the last save of the log."""
SIZES = (24_918, 1_000_000)
STORED, READ = 1_000_000, 25_000
"""Cases in the store, and how many of them are read; the others are copies of these."""
CHANGED, PASSES = 1_000, 7
EVENTS = ("states", "saves")
_CHECKS = ("quick replay", "replay", "declare", "temporal profile")
"""What of theirs stands beside all checks of ours."""
_TOO_LONG, _MANY = "temporal profile", 100_000
"""What is left out for more cases: of 1,000,000 it had not told anything after eight minutes."""


def run(log: Path, rounds: int, tell: Tell) -> Facts:
    """``{cases: runs, "changed": what was found}``; without PM4Py only our sides. The sizes are those of
    ``ITSMS_BENCH_CASES``, comma separated: the log is taken as often as is needed. ``ITSMS_BENCH_STORED`` is the size
    of the store in which cases change; 0 leaves that out.
    """
    python = interpreter(tell)
    if python is None:
        tell("conformance: only our own sides are measured")
    wanted = os.environ.get("ITSMS_BENCH_CASES")
    documents = {
        "procedure": str(ROOT / "mappings/procedures/incident.yaml"),
        "columns": str(ROOT / "mappings/logs/uci-incidents.yaml"),
        "now": _NOW,
    }
    found: Facts = {}
    with TemporaryDirectory(prefix="itsms-bench-") as folder:
        for cases in SIZES if wanted is None else map(int, filter(None, wanted.split(","))):
            given = {**documents, "log": str(Path(folder, f"{cases}.csv"))}
            made = _ours("replicate", {**given, "log": str(log), "cases": cases, "to": given["log"]}).run()
            tell(f"conformance: wrote {cases:,} cases with {made['saves']:,} saves")
            other = {**given, **_ours("net", given).run(), "sample": str(log)}
            found[str(cases)] = race(
                f"conformance x{cases:,}", _sides(given, other, python, many=cases > _MANY), rounds, tell
            )
            refuse_other_costs(found[str(cases)])
    stored = int(os.environ.get("ITSMS_BENCH_STORED", STORED))
    if stored:
        found["changed"] = _changed(stored, tell)
    return found


def _changed(stored: int, tell: Tell) -> Facts:
    """Judging changed cases in a store of so many."""
    read = min(stored, READ)
    with (
        serving(["-m", "benchmarks.generated_desk", str(read)]) as desk,
        serving(["-m", "connectors.servicenow.simulator"]) as tracker,
    ):
        given: Facts = {"url": desk, "tracker": tracker, "documents": str(ROOT / "mappings"), "folder": gettempdir()}
        given |= {"copies": stored // read - 1, "changed": CHANGED, "passes": PASSES}
        command = [sys.executable, "-m", "benchmarks.rejudging_sides", json.dumps(given)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: Facts = json.loads(done.stdout.splitlines()[-1])
    tell(f"conformance: {found['cases']:,} cases stored, {CHANGED:,} judged again {PASSES} times")
    return found


def _ours(call: str, given: Facts) -> Side:
    return Side(call, "benchmarks.conformance_sides", call, given)


def _sides(given: Facts, other: Facts, python: Path | None, *, many: bool) -> list[Side]:
    sides = [_ours("assess", given)]
    if python is not None:
        module = "benchmarks.conformance_pm4py"
        checks = [name for name in _CHECKS if not many or name != _TOO_LONG]
        sides += [Side(name, module, name, {**other, "events": "states"}, python) for name in checks]
    for events in EVENTS:
        sides.append(Side(f"align {events}", "benchmarks.conformance_sides", "align", {**given, "events": events}))
        if python is not None:
            sides.append(Side(_other(events), module, "align", {**other, "events": events}, python))
    return sides


def _other(events: str) -> str:
    return f"PM4Py align {events}"


def refuse_other_costs(runs: Runs) -> None:
    """Every variant has to be there on both sides with the same cost, in every round."""
    for events in EVENTS:
        for ours, theirs in zip(runs[f"align {events}"], runs.get(_other(events), ()), strict=False):
            differ = ours["costs"].items() ^ theirs["costs"].items()
            if differ:
                raise SystemExit(f"{len(differ)} costs of variants ({events}) differ, such as {min(differ)}")


def report(found: Facts) -> str:
    """The tables."""
    return "\n\n".join(_again(one) if part == "changed" else _tables(int(part), one) for part, one in found.items())


def _tables(cases: int, runs: Runs) -> str:
    checks = [_row(name, runs[name], runs["assess"]) for name in ("assess", *_CHECKS) if name in runs]
    head = ("", "answers for each case", "wall s", "times ours", "CPU s", "peak RSS MB", "cases that fit")
    text = f"Conformance, {cases:,} cases, from the file on:\n\n{table(head, checks)}"
    aligned = [_aligned(events, runs) for events in EVENTS if _other(events) in runs]
    if aligned:
        text += f"\n\nAlignments of each distinct variant, costs equal:\n\n{table(_ALIGNED, aligned)}"
    return text


def _row(name: str, side: list[Facts], ours: list[Facts]) -> tuple[str, ...]:
    first = side[0]
    return (
        name,
        f"{first['requirements']:,}",
        spread(each(side, "wall_s")),
        spread(ratios(side, ours), ",.1f"),
        spread(each(side, "cpu_s")),
        spread(each(side, "peak_mb"), ",.0f"),
        f"{first['flow']['fit']:,} of {first['flow']['aligned']:,}" if "flow" in first else f"{first['fit']:,}",
    )


def _again(found: Facts) -> str:
    passes = found["passes"]
    head = (
        "cases stored",
        "events",
        "verdicts",
        "database MB",
        "judged anew s",
        "CPU s",
        "read before s",
        "peak RSS MB",
    )
    row = (
        *(f"{found[name]:,}" for name in ("cases", "events", "verdicts")),
        f"{found['database_mb']:,.0f}",
        spread(each(passes, "wall_s")),
        spread(each(passes, "cpu_s")),
        spread(each(passes, "read_s")),
        f"{found['peak_mb']:,.0f}",
    )
    return f"Judging {CHANGED:,} changed cases anew:\n\n{table(head, [row])}"


_ALIGNED = ("events", "variants", "ours, ms", "PM4Py, s", "times", "from the file: ours, s", "PM4Py, s", "times")


def _aligned(events: str, runs: Runs) -> tuple[str, ...]:
    ours, theirs = runs[f"align {events}"], runs[_other(events)]
    return (
        events,
        f"{len(ours[0]['costs']):,}",
        spread([one["align_s"] * 1000 for one in ours], ",.1f"),
        spread(each(theirs, "align_s")),
        spread(ratios(theirs, ours, "align_s"), ",.0f"),
        spread(each(ours, "wall_s")),
        spread(each(theirs, "wall_s")),
        spread(ratios(theirs, ours), ",.1f"),
    )
