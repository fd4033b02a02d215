"""Judges an event log from a file, without a database: the figures and the cases behind them.

The figures have the same shape as those that ``deviations`` gives of the database, so that both can be compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from itsms_sync.conformance.catalogue import CHECKS
from itsms_sync.conformance.history import NO_CALENDARS, Force, history
from itsms_sync.conformance.kernel import judge
from itsms_sync.conformance.runs import Runs, runs
from itsms_sync.eventlog import UnreadableLog, first_line, read
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.calendars import Clocks
from itsms_sync.sms.cases import from_log
from itsms_sync.sms.mapping import LogColumns


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the log shows. ``verdicts`` as in ``conformance.verdicts`` with ``id``, the case's own id."""

    cases: int
    rows: int
    verdicts: pl.DataFrame
    visited: Mapping[str, int]
    """State of the SMS -> number of cases that were ever in it."""
    unmapped: Mapping[str, int]
    runs: Runs


def assess(
    path: Path, procedure: Procedure, columns: LogColumns, now: int, clocks: Clocks = NO_CALENDARS
) -> Assessment:
    """Judges the log as of ``now`` (ms), time limits by ``clocks``. Raises ``UnreadableLog``."""
    raw = read(path, columns)
    try:
        log, ids = from_log(raw, columns, now)
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise UnreadableLog(f"{path}: {first_line(error)}") from error
    verdicts = judge(log, [procedure], columns.mapping.types(), now, clocks)
    beside = runs(history(log, procedure, columns.mapping.types(), now, Force(0, None, first=True)))
    visited = log.saves.select("case", "state").unique().group_by("state").len()
    return Assessment(
        cases=len(log.cases),
        rows=len(raw),
        verdicts=verdicts.join(ids, on="case", how="left", maintain_order="left"),
        visited={state: int(count) for state, count in visited.iter_rows() if state is not None},
        unmapped={f"{attribute}={value}": int(count) for attribute, value, count in log.unmapped.iter_rows()},
        runs=beside,
    )


def verdict_counts(assessment: Assessment) -> list[dict[str, Any]]:
    """``check, requirement, status, reason, cases``."""
    counts = assessment.verdicts.group_by("check", "requirement", "status", "reason").agg(pl.len().alias("cases"))
    return counts.sort("check", "requirement", "status", "reason").to_dicts()


def verdict_cases(assessment: Assessment, statuses: Sequence[str]) -> list[dict[str, Any]]:
    """``check, requirement, status, case``."""
    wanted = assessment.verdicts.filter(pl.col("status").is_in(list(statuses)))
    return (
        wanted.select("check", "requirement", "status", pl.col("id").alias("case"))
        .sort("requirement", "case")
        .to_dicts()
    )


def figures(counts: Iterable[Mapping[str, Any]], cases: Iterable[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Per check ``judged, deviating, unknown, reasons`` and the same per requirement; with ``cases`` also their ids.

    A case counts once per check in the check's own figures only where the check has one requirement; with several, the
    figures of the check add up those of its requirements, which are what is judged.
    """
    checks: dict[str, Any] = {}
    for row in counts:
        check = checks.setdefault(row["check"], {"name": CHECKS[row["check"]].name, **_zero(), "requirements": {}})
        for target in (check, check["requirements"].setdefault(row["requirement"], _zero())):
            _count(target, row)
    for row in cases or ():
        check = checks[row["check"]]
        for target in (check, check["requirements"][row["requirement"]]):
            target.setdefault("cases", {}).setdefault(row["status"], []).append(row["case"])
    return checks


def _zero() -> dict[str, Any]:
    return {"judged": 0, "deviating": 0, "unknown": 0, "not_applicable": 0, "reasons": {}}


def _count(target: dict[str, Any], row: Mapping[str, Any]) -> None:
    status, number = row["status"], row["cases"]
    if status in ("conforming", "deviating"):
        target["judged"] += number
    if status != "conforming":
        target[status] += number
    if status == "unknown":
        target["reasons"][row["reason"]] = target["reasons"].get(row["reason"], 0) + number


def flow(beside: Runs) -> dict[str, Any]:
    """How the cases ran beside the documented flow: ``aligned`` cases, those that ``fit``, the ``cost`` of all (steps
    skipped or added), distinct ``variants``, why others are ``unknown``, and what was ``found``, the most frequent
    first.
    """
    found: dict[str, int] = {}
    for states, more, ended, cost, cases in beside.variants.iter_rows():
        for sentence in dict.fromkeys(beside.words(states, more, ended=ended)) if cost else ():
            found[sentence] = found.get(sentence, 0) + cases
    aligned = beside.cases.filter(pl.col("cost").is_not_null())
    unknown = beside.cases.filter(pl.col("cost").is_null())["reason"].value_counts(sort=True)
    return {
        "aligned": len(aligned),
        "fit": int((aligned["cost"] == 0).sum()),
        "cost": int(aligned["cost"].sum()),
        "variants": len(beside.variants),
        "unknown": dict(unknown.iter_rows()),
        "found": [{"what": what, "cases": n} for what, n in sorted(found.items(), key=lambda one: (-one[1], one[0]))],
    }


def never(visited: Mapping[str, int], cases: int) -> dict[str, int]:
    """State -> number of cases that were never in it."""
    return {state: cases - count for state, count in sorted(visited.items())}
