"""Cases, procedure versions and ``now`` become verdicts.

Every case gets one verdict for each requirement that a check can judge. A step is judged by the version in force when
it happened: each version judges everything, and of its verdicts those are kept whose instant lies in its time. Where
two versions each found something in their own time, what happened first stands.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from itsms_sync.conformance.catalogue import CHECKS
from itsms_sync.conformance.history import NO_CALENDARS, Force, History, history
from itsms_sync.conformance.verdicts import DOES_NOT_APPLY, NO_PROCEDURE, UNDECIDED, VERDICTS, Status
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.calendars import Clocks
from itsms_sync.sms.cases import CaseLog
from itsms_sync.sms.conditions import Type


def judge(
    log: CaseLog,
    versions: Sequence[Procedure],
    types: dict[str, Type],
    now: int,
    clocks: Clocks = NO_CALENDARS,
) -> pl.DataFrame:
    """Verdicts (``VERDICTS``) of every case for every requirement with a check, of all versions of one procedure.

    ``versions`` in order of ``valid_from``; ``types`` as conditions see the attributes; ``now`` in ms;
    ``clocks``: the calendars on which limits run.
    """
    if log.cases.is_empty():
        return pl.DataFrame(schema=VERDICTS)
    return judge_prepared(_prepared(log, versions, types, now, clocks))


def judge_prepared(histories: Sequence[History]) -> pl.DataFrame:
    """Verdicts as ``judge`` gives them, of one log made ready for each of the versions."""
    log, parts = histories[0].log, _parts(histories)
    verdicts = _one_each(parts) if len(parts) > 1 else parts[0]
    if log.cases["unseen"].null_count() == len(log.cases):
        return verdicts
    unseen = log.cases.select("case", "unseen")
    return (
        verdicts.join(unseen, on="case", how="left", maintain_order="left")
        .with_columns(pl.min_horizontal("recheck_at", "unseen").alias("recheck_at"))
        .select(list(VERDICTS))
    )


def judged_by(
    log: CaseLog, versions: Sequence[Procedure], types: dict[str, Type], now: int, clocks: Clocks = NO_CALENDARS
) -> dict[tuple[int, str], Procedure]:
    """``(case, requirement)`` -> the version by which ``judge`` judges it."""
    parts = _parts(_prepared(log, versions, types, now, clocks))
    rows = _one_each([part.with_columns(pl.lit(number).alias("version")) for number, part in enumerate(parts)])
    rows = rows.select("case", "requirement", "version")
    return {(case, requirement): versions[number] for case, requirement, number in rows.iter_rows()}


def _prepared(
    log: CaseLog, versions: Sequence[Procedure], types: dict[str, Type], now: int, clocks: Clocks
) -> list[History]:
    """The log made ready for each version in its time."""
    return [
        history(log, version, types, now, force, clocks)
        for version, force in zip(versions, forces(versions), strict=True)
    ]


def _parts(histories: Sequence[History]) -> list[pl.DataFrame]:
    """What each version says in its time."""
    found = [_in_force(_judged(prepared), prepared.force) for prepared in histories]
    for rows in found:
        rows.drop_in_place("instant")  # ``drop`` would copy the frames that were put together
    return found


def forces(versions: Sequence[Procedure]) -> list[Force]:
    """When each of the versions, in order of ``valid_from``, is in force."""
    starts = [start_of_day(version) for version in versions]
    return [Force(start, end, start == starts[0]) for start, end in zip(starts, [*starts[1:], None], strict=True)]


def _judged(prepared: History) -> pl.DataFrame:
    """``VERDICTS`` and ``instant`` of each requirement."""
    found = [pl.DataFrame(schema={**VERDICTS, "instant": pl.Int64})]
    for requirement in prepared.procedure.requirements:
        if requirement.check in CHECKS:
            verdicts = CHECKS[requirement.check].judge(prepared, requirement)
            named = pl.lit(requirement.id).alias("requirement"), pl.lit(requirement.check).alias("check")
            rows = _applied(prepared, requirement.applies, verdicts)
            found.append(rows.select("case", *named, *list(VERDICTS)[3:], "instant"))
    return pl.concat(found)  # of lazy frames it would copy them all


def _applied(prepared: History, applies: str | None, verdicts: pl.DataFrame) -> pl.DataFrame:
    """The verdicts, except of cases to which the requirement does not apply. Where it perhaps does not apply the case
    counts neither way: counted only where it is fulfilled, it would make the rest look better than it is.
    """
    if applies is None:
        return verdicts
    verdicts = verdicts.with_columns(prepared.stands(applies).alias("_applies"))
    outside = ~pl.col("_applies")
    unsure = pl.col("_applies").is_null() & (pl.col("status") != Status.NOT_APPLICABLE.value)
    nothing = pl.when(outside | unsure)
    return verdicts.with_columns(
        pl.when(outside)
        .then(pl.lit(Status.NOT_APPLICABLE.value))
        .when(unsure)
        .then(pl.lit(Status.UNKNOWN.value))
        .otherwise("status")
        .alias("status"),
        pl.when(outside)
        .then(pl.lit(DOES_NOT_APPLY))
        .when(unsure)
        .then(pl.lit(UNDECIDED))
        .otherwise("reason")
        .alias("reason"),
        pl.when(outside).then(None).otherwise("at").alias("at"),
        nothing.then(None).otherwise("recheck_at").alias("recheck_at"),
        nothing.then(None).otherwise("detail").alias("detail"),
    )


def _in_force(rows: pl.DataFrame, force: Force) -> pl.DataFrame:
    """Keeps what happened in the version's time; before the first version nothing can be said."""
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


def _one_each(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One verdict for each case and requirement: of several the one that was settled first."""
    rows = pl.concat(parts).sort("requirement", "case", "at", nulls_last=True, maintain_order=True)
    return rows.unique(["requirement", "case"], keep="first", maintain_order=True)


def start_of_day(version: Procedure) -> int:
    """First instant at which the version is in force, in ms."""
    day = version.valid_from
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
