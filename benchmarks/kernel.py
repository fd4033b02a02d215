"""Judging a log: the product's kernel next to PM4Py's token-based replay, which a user would otherwise pick.

Owns the report.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measurement import ROOT, Facts, Runs, Side, Tell, each, race, rates, ratios, spread, table
from benchmarks.other_side import interpreter

_NOW = 1_488_326_400_000
"""2017-03-01T00:00Z, ms: after the last save of the log."""
_COPIES = (1, 10)
_PAIRS = {"judge": "replay", "assess": "read + replay"}
"""What of ours stands beside what of theirs: in memory, and from the file on."""


def run(log: Path, rounds: int, tell: Tell) -> Facts:
    """``{"1": runs, "10": runs, "checks": {copies: seconds}}``; without PM4Py only our sides."""
    python = interpreter(tell)
    if python is None:
        tell("kernel: only our own sides are measured")
    documents = {
        "procedure": str(ROOT / "mappings/procedures/incident.yaml"),
        "columns": str(ROOT / "mappings/logs/uci-incidents.yaml"),
        "now": _NOW,
    }
    found: Facts = {"checks": {}}
    with TemporaryDirectory(prefix="itsms-bench-") as folder:
        for copies in _COPIES:
            path = str(Path(folder, f"{copies}.csv"))
            given = {**documents, "log": path}
            made = _ours("replicate", {**given, "log": str(log), "times": copies, "to": path}).run()
            tell(f"kernel: wrote the log {copies} times, {made['saves']:,} saves")
            found[str(copies)] = race(f"kernel x{copies}", _sides(given, python), rounds, tell)
            found["checks"][str(copies)] = _ours("checks", given).run()["seconds"]
    return found


def _ours(call: str, given: Facts) -> Side:
    return Side(call, "benchmarks.kernel_sides", call, given)


def _sides(given: Facts, python: Path | None) -> list[Side]:
    ours = [_ours(call, given) for call in _PAIRS]
    if python is None:
        return ours
    other = {"log": given["log"], **_ours("flow", given).run()}
    theirs = [Side(name, "benchmarks.replay", name.split()[0], other, python) for name in _PAIRS.values()]
    return [side for pair in zip(ours, theirs, strict=True) for side in pair]


def report(found: Facts) -> str:
    """The tables."""
    races = [f"Kernel, the log {copies} times:\n\n{_table(found[str(copies)])}" for copies in _COPIES]
    return "\n\n".join([*races, f"Each check alone, preparation included, ms:\n\n{_checks(found['checks'])}"])


def _table(runs: Runs) -> str:
    head = ("", "saves/s", "wall s", "times ours", "CPU s", "requirements", "verdicts", "flow", "peak RSS MB")
    rows = []
    for ours, theirs in _PAIRS.items():
        rows += [_row(name, runs[name], runs[ours]) for name in (ours, theirs) if name in runs]
    return table(head, rows)


def _row(name: str, side: list[Facts], ours: list[Facts]) -> tuple[str, ...]:
    first = side[0]
    return (
        name,
        spread(rates(side, "saves"), ",.0f"),
        spread(each(side, "wall_s")),
        spread(ratios(side, ours), ",.1f"),
        spread(each(side, "cpu_s")),
        str(first["requirements"]),
        f"{first['verdicts']:,}",
        ", ".join(f"{count:,} {status}" for status, count in first["flow"].items()),
        spread(each(side, "peak_mb"), ",.0f"),
    )


def _checks(seconds: Facts) -> str:
    names = list(seconds["1"])
    rows = [(name, *(f"{seconds[str(copies)][name] * 1000:,.0f}" for copies in _COPIES)) for name in names]
    return table(("check x requirements", *(f"x{copies}" for copies in _COPIES)), rows)
