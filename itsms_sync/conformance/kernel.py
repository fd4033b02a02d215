"""Cases, procedure versions and ``now`` become verdicts.

Every case gets one verdict for each requirement that a check can judge. A step is judged by the version in force when
it happened: each version judges everything, and of its verdicts those are kept whose instant lies in its time. Where
two versions each found something in their own time, what happened first stands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from itsms_sync.conformance.assignment import ping_pong
from itsms_sync.conformance.control_flow import forbidden_transition, reopened, skipped_step
from itsms_sync.conformance.data import field_at_gate, priority_by_matrix
from itsms_sync.conformance.history import Force, History, history
from itsms_sync.conformance.time import late_resolution, late_response
from itsms_sync.conformance.verdicts import NO_PROCEDURE, VERDICTS, Status
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.cases import CaseLog
from itsms_sync.sms.conditions import Type


@dataclass(frozen=True, slots=True)
class Check:
    """What a check is, for people and for the verdicts that name it."""

    id: str
    version: int
    """Raised whenever the same facts can get another verdict."""
    name: str
    judge: Callable[[History, Any], pl.DataFrame]


CHECKS: dict[str, Check] = {
    check.id: check
    for check in (
        Check("CF1", 1, "skipped step", skipped_step),
        Check("CF2", 1, "forbidden transition", forbidden_transition),
        Check("CF5", 1, "reopen", reopened),
        Check("DA1", 1, "closure data", field_at_gate),
        Check("DA6", 1, "priority matrix", priority_by_matrix),
        Check("TI1", 1, "response time", late_response),
        Check("TI2", 1, "resolution time", late_resolution),
        Check("ST3", 1, "ping-pong", ping_pong),
    )
}


def judge(log: CaseLog, versions: Sequence[Procedure], types: dict[str, Type], now: int) -> pl.DataFrame:
    """Verdicts (``VERDICTS``) of every case for every requirement with a check, of all versions of one procedure.

    ``versions`` in order of ``valid_from``; ``types`` as conditions see the attributes; ``now`` in ms.
    """
    parts = [
        _in_force(_judged(history(log, version, types, now, force)), force)
        for version, force in zip(versions, _forces(versions), strict=True)
    ]
    verdicts = _one_each(parts) if len(parts) > 1 else pl.concat([pl.DataFrame(schema=VERDICTS), *parts[0]])
    if log.cases["unseen"].null_count() == len(log.cases):
        return verdicts
    unseen = log.cases.select("case", "unseen")
    return (
        verdicts.join(unseen, on="case", how="left", maintain_order="left")
        .with_columns(pl.min_horizontal("recheck_at", "unseen").alias("recheck_at"))
        .select(list(VERDICTS))
    )


def _forces(versions: Sequence[Procedure]) -> list[Force]:
    starts = [start_of_day(version) for version in versions]
    return [Force(start, end, start == starts[0]) for start, end in zip(starts, [*starts[1:], None], strict=True)]


def _judged(prepared: History) -> list[pl.DataFrame]:
    """One frame of ``VERDICTS`` and ``instant`` per requirement."""
    return [
        CHECKS[requirement.check]
        .judge(prepared, requirement)
        .select(
            "case",
            pl.lit(requirement.id).alias("requirement"),
            pl.lit(requirement.check).alias("check"),
            *list(VERDICTS)[3:],
            "instant",
        )
        for requirement in prepared.procedure.requirements
        if requirement.check in CHECKS
    ]


def _in_force(frames: Sequence[pl.DataFrame], force: Force) -> list[pl.DataFrame]:
    """Keeps what happened in the version's time; before the first version nothing can be said."""
    return [_kept(frame, force).drop("instant") for frame in frames]


def _kept(rows: pl.DataFrame, force: Force) -> pl.DataFrame:
    if force.end is not None:
        rows = rows.filter(pl.col("instant") < force.end)
    early = pl.col("instant") < force.start
    if not force.first:
        return rows.filter(~early)
    if not (rows["instant"] < force.start).any():
        return rows
    return rows.with_columns(
        pl.when(early).then(pl.lit(Status.UNKNOWN.value)).otherwise("status").alias("status"),
        pl.when(early).then(pl.lit(NO_PROCEDURE)).otherwise("reason").alias("reason"),
        pl.when(~early).then("detail").alias("detail"),
    )


def _one_each(parts: Sequence[Sequence[pl.DataFrame]]) -> pl.DataFrame:
    """One verdict for each case and requirement: of several the one that was settled first."""
    rows = pl.concat([pl.DataFrame(schema=VERDICTS), *(frame for part in parts for frame in part)])
    rows = rows.sort("requirement", "case", "at", nulls_last=True, maintain_order=True)
    return rows.unique(["requirement", "case"], keep="first", maintain_order=True)


def start_of_day(version: Procedure) -> int:
    """First instant at which the version is in force, in ms."""
    day = version.valid_from
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
