"""Judges an event log from a file, without a database: the figures and the cases behind them.

The figures have the same shape as those that ``deviations`` gives of the database, so that both can be compared.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from itsms_sync.conformance.catalogue import CHECKS
from itsms_sync.conformance.history import NO_CALENDARS, history
from itsms_sync.conformance.kernel import forces, judge_prepared
from itsms_sync.conformance.runs import Counting, Ways
from itsms_sync.conformance.verdicts import VERDICTS, Status
from itsms_sync.eventlog import Scattered, opened
from itsms_sync.logfile import ROWS, UnreadableLog, first_line
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.calendars import Clocks
from itsms_sync.sms.cases import CaseLog, UnreadableRow, from_log
from itsms_sync.sms.mapping import LogColumns

_COUNTED = ["check", "requirement", "status", "reason"]
ALL = tuple(status.value for status in Status)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the log shows. ``counts``: ``check, requirement, status, reason, cases``. ``verdicts`` as in
    ``conformance.verdicts``, with the case's own ``id`` for its number.
    """

    cases: int
    rows: int
    counts: pl.DataFrame
    verdicts: pl.DataFrame
    """Those of the statuses that were to be kept."""
    visited: Mapping[str, int]
    """State of the SMS -> number of cases that were ever in it."""
    unmapped: Mapping[str, int]
    ways: Ways


def assess(
    path: Path,
    procedure: Procedure,
    columns: LogColumns,
    now: int,
    clocks: Clocks = NO_CALENDARS,
    keep: Collection[str] = ALL,
    rows: int = ROWS,
) -> Assessment:
    """Judges the log as of ``now`` (ms), time limits by ``clocks``, about so many ``rows`` at a time: what is held of
    cases is only the verdicts of the statuses to ``keep``. Raises ``UnreadableLog``.
    """
    about = _Basis(path, procedure, columns, now, clocks, keep)
    with opened(path, columns) as log:
        with suppress(Scattered):
            return _assessed(log.batches(rows), about)
        # Outside of the handler, which would hold what was read until then.
        return _assessed(log.sorted_out(rows), about)


@dataclass(frozen=True, slots=True)
class _Basis:
    path: Path
    procedure: Procedure
    columns: LogColumns
    now: int
    clocks: Clocks
    keep: Collection[str]


def _assessed(batches: Iterable[pl.DataFrame], about: _Basis) -> Assessment:
    """A batch is judged while the next one is read. Of several faults the same one is told whatever the batches: once
    one is found, the others are only looked through for faults that go before."""
    sums = _Sums(about)
    faults: list[tuple[tuple[int, int], Exception]] = []
    with ThreadPoolExecutor(1) as beside:
        judged: Future[None] | None = None
        for batch in batches:
            try:
                log, ids = from_log(batch, about.columns, about.now)
            except UnreadableRow as error:
                faults.append((error.order, error))
            except (ValueError, pl.exceptions.PolarsError) as error:
                faults.append((_LAST, error))
            if judged is not None:
                judged.result()
            judged = None if faults else beside.submit(sums.add, len(batch), log, ids)
        if judged is not None:
            judged.result()
    if faults:
        _, first = min(faults, key=lambda fault: fault[0])
        raise UnreadableLog(f"{about.path}: {first_line(first)}") from first
    return sums.assessment()


_LAST = (9, 0)
"""Place of a fault of no row."""


class _Sums:
    """What is known of all batches so far."""

    def __init__(self, about: _Basis) -> None:
        self._about = about
        self._force = forces([about.procedure])[0]
        self._cases = self._rows = 0
        self._counts: list[pl.DataFrame] = []
        self._kept = [pl.DataFrame(schema={"id": pl.String, **_KEPT})]
        self._visited: Counter[str] = Counter()
        self._unmapped: Counter[str] = Counter()
        self._ways = Counting(about.procedure)

    def add(self, rows: int, log: CaseLog, ids: pl.DataFrame) -> None:
        about = self._about
        self._rows += rows
        self._cases += len(log.cases)
        self._unmapped.update({f"{name}={value}": count for name, value, count in log.unmapped.iter_rows()})
        if log.cases.is_empty():
            return
        prepared = history(log, about.procedure, about.columns.mapping.types(), about.now, self._force, about.clocks)
        visited = prepared.states.select("case", "state").drop_nulls().unique().group_by("state").len()
        self._visited.update(dict(visited.rows()))
        verdicts = judge_prepared([prepared])
        self._counts.append(verdicts.group_by(_COUNTED).agg(pl.len().alias("cases")))
        kept = verdicts.filter(pl.col("status").is_in(list(about.keep)))
        self._kept.append(kept.join(ids, on="case", how="left", maintain_order="left").select("id", *_KEPT))
        self._ways.add(prepared)

    def assessment(self) -> Assessment:
        schema = {**dict.fromkeys(_COUNTED, pl.String), "cases": pl.UInt32}
        counts = pl.concat([pl.DataFrame(schema=schema), *self._counts]).group_by(_COUNTED).agg(pl.col("cases").sum())
        return Assessment(
            cases=self._cases,
            rows=self._rows,
            counts=counts.sort(_COUNTED),
            verdicts=pl.concat(self._kept),
            visited=self._visited,
            unmapped=dict(sorted(self._unmapped.items())),
            ways=self._ways.ways(),
        )


_KEPT = {name: type_ for name, type_ in VERDICTS.items() if name != "case"}


def verdict_counts(assessment: Assessment) -> list[dict[str, Any]]:
    """``check, requirement, status, reason, cases``."""
    return assessment.counts.to_dicts()


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


def flow(ways: Ways) -> dict[str, Any]:
    """How the cases ran beside the documented flow: ``aligned`` cases, those that ``fit``, the ``cost`` of all (steps
    skipped or added), distinct ``variants``, why others are ``unknown``, and what was ``found``, the most frequent
    first.
    """
    found: dict[str, int] = {}
    for states, more, ended, cost, cases in ways.variants.iter_rows():
        for sentence in dict.fromkeys(ways.words(states, more, ended=ended)) if cost else ():
            found[sentence] = found.get(sentence, 0) + cases
    cases, cost = ways.variants["cases"], ways.variants["cost"]
    return {
        "aligned": int(cases.sum()),
        "fit": int(cases.filter(cost == 0).sum()),
        "cost": int((cases * cost).sum()),
        "variants": len(ways.variants),
        "unknown": dict(ways.unknown),
        "found": [{"what": what, "cases": n} for what, n in sorted(found.items(), key=lambda one: (-one[1], one[0]))],
    }


def never(visited: Mapping[str, int], cases: int) -> dict[str, int]:
    """State -> number of cases that were never in it."""
    return {state: cases - count for state, count in sorted(visited.items())}
