"""Checks of how a case ends: CF6 touched after close."""

from collections.abc import Iterator

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, MISSED
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ACTOR,
    ALWAYS,
    GAP,
    LOST,
    NOT_CLOSED,
    NOT_DELIVERED,
    UNMAPPED,
    Rule,
    Status,
    decide,
    in_words,
    phrase,
)
from itsms_sync.procedures.model import UntouchedAfterClose
from itsms_sync.sms.cases import IS_LAST


def touched_after_close(history: History, requirement: UntouchedAfterClose) -> pl.DataFrame:
    """CF6. A save that closes the case, or a reopened one again, is none after it; nor is what a system account does."""
    entered = history.states.filter(IS_LAST)["at"]
    closed = pl.col("state").is_in(list(requirement.states))
    frame = history.with_first(_edits(history, requirement))
    frame = frame.with_columns(pl.when(closed).then(entered).alias("closed_at"))
    return decide(
        frame,
        [
            Rule(pl.col("signed"), Status.DEVIATING, at="bad_at", detail=pl.col("edit")),
            Rule(~pl.col("signed"), Status.UNKNOWN, ACTOR, "bad_at"),
            Rule(pl.col("closed_at").is_null(), Status.NOT_APPLICABLE, NOT_CLOSED),
            Rule(pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, "closed_at"),
            *_not_told(history, requirement),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "closed_at"),
            Rule(MISSED, Status.UNKNOWN, GAP, "closed_at"),
            Rule(ALWAYS, Status.CONFORMING, at="closed_at"),
        ],
    )


def _later(history: History, requirement: UntouchedAfterClose) -> pl.DataFrame:
    """The saves before and after which the case was closed, with nothing missing between: it was closed meanwhile, too.
    Beside each attribute what it ``was_…``.
    """
    names = requirement.fields
    saves = history.saves.select(
        *("case", "at", "human", "missed", "first", "state"),
        pl.col("state").shift(1).alias("before"),
        *(pl.col(name).cast(pl.String).alias(f"now_{name}") for name in names),
        *(pl.col(name).cast(pl.String).shift(1).alias(f"was_{name}") for name in names),
    )
    stayed = pl.col("state").is_in(list(requirement.states)) & (pl.col("state") == pl.col("before"))
    return saves.filter(~pl.col("first") & stayed & (pl.col("missed") == 0))


def _edits(history: History, requirement: UntouchedAfterClose) -> pl.DataFrame:
    """``case, at, edit, signed`` (whether it is known that a person made it), ``preference``. What was empty and is
    filled in late is no change of what was said.
    """
    changed = {
        name: (pl.col(f"was_{name}") != "") & (pl.col(f"now_{name}") != pl.col(f"was_{name}"))
        for name in requirement.fields
    }
    names = (pl.when(when).then(pl.lit(in_words(name))) for name, when in changed.items())
    by_person = pl.col("human").is_not_null()
    saves = _later(history, requirement).filter(pl.col("human").fill_null(True), pl.any_horizontal(*changed.values()))
    return saves.select(
        "case",
        "at",
        phrase("changed after it was closed: ", pl.concat_str(*names, separator=", ", ignore_nulls=True)).alias("edit"),
        by_person.alias("signed"),
        (~by_person).cast(pl.Int32).alias("preference"),
    )


def _not_told(history: History, requirement: UntouchedAfterClose) -> Iterator[Rule]:
    saves = _later(history, requirement)
    for name in requirement.fields:
        untold = saves.filter(pl.col(f"was_{name}").is_null() | pl.col(f"now_{name}").is_null())["case"]
        why = f"{NOT_DELIVERED}: {name}"
        yield Rule(pl.col("case").is_in(untold.unique().implode()), Status.UNKNOWN, why, "closed_at")
