"""Checks of going round in circles: CF4 rework loop, CF8 approval loop, CF10 state flapping."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from itsms_sync.conformance.approvals import REJECTED
from itsms_sync.conformance.control_flow import COMPLETE_LOSS, NO_PREFERENCE, STATES_MISSED
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ACTOR,
    ALWAYS,
    APPROVAL,
    GAP,
    LOST,
    NOBODY_ASKED,
    STILL_OPEN,
    UNMAPPED,
    Rule,
    Status,
    decide,
    phrase,
)
from itsms_sync.procedures.model import FewRejections, FewReturns, NoFlapping
from itsms_sync.sms.cases import IS_FIRST

_NOTHING_FOUND = (
    Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
    Rule(pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, "ended"),
    Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
    Rule(STATES_MISSED, Status.UNKNOWN, GAP, "ended"),
    Rule(ALWAYS, Status.CONFORMING, at="ended"),
)
"""The rules for cases in whose states nothing was found."""


def rework_loop(history: History, requirement: FewReturns) -> pl.DataFrame:
    """CF4. What is not seen can only add returns to those that are."""
    returns = _returns(history, requirement.phases).filter(pl.col("nth") > requirement.most)
    told = phrase("went back ", pl.col("nth"), " times, then from ", pl.col("was"), " to ", pl.col("state"))
    found = returns.select("case", "at", told.alias("told"), pl.col("nth").alias("preference"))
    return decide(
        history.with_first(found),
        [
            Rule(pl.col("told").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("told")),
            *_NOTHING_FOUND,
        ],
    )


def _returns(history: History, phases: Sequence[str]) -> pl.DataFrame:
    """The moves from a later phase to an earlier one: ``case, at, was, state, nth``. A state that is no phase, or is
    not known, lies between two phases and is none.
    """
    place = pl.col("state").replace_strict(list(phases), list(range(len(phases))), return_dtype=pl.Int32)
    moves = history.states.filter(pl.col("state").is_in(list(phases))).select(
        "case", "at", "state", place.alias("place")
    )
    back = ~IS_FIRST & (pl.col("place") < pl.col("place").shift(1))
    found = moves.with_columns(pl.col("state").shift(1).alias("was")).filter(back)
    return found.with_columns(pl.col("at").cum_count().over("case").alias("nth"))


def approval_loop(history: History, requirement: FewRejections) -> pl.DataFrame:
    """CF8. What is taken back because a case is put on hold is not rejected."""
    rejections = _rejections(history.approvals).filter(pl.col("nth") > requirement.most)
    told = phrase("rejected ", pl.col("nth"), " times").alias("told")
    frame = history.with_first(rejections.select("case", "at", told, NO_PREFERENCE))
    return decide(
        frame.join(_possible(history.approvals), on="case", how="left", maintain_order="left"),
        [
            Rule(pl.col("told").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("told")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            *history.not_read("approvals", "ended"),
            Rule(pl.col("doubted") & (pl.col("most") > requirement.most), Status.UNKNOWN, APPROVAL, "ended"),
            Rule(pl.col("most").is_null(), Status.NOT_APPLICABLE, NOBODY_ASKED),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )


def _rejections(approvals: pl.DataFrame) -> pl.DataFrame:
    """The rejections of what was put to approval after the one before: ``case, at, nth``."""
    known = approvals.filter(REJECTED & pl.col("decided_at").is_not_null()).sort("case", "decided_at", "asked_at")
    again = IS_FIRST | (pl.col("asked_at") >= pl.col("decided_at").shift(1))
    found = known.filter(again).select("case", pl.col("decided_at").alias("at"))
    return found.with_columns(pl.col("at").cum_count().over("case").alias("nth"))


def _possible(approvals: pl.DataFrame) -> pl.DataFrame:
    """Per case with approvals: ``most``, as often as it can have been rejected, and ``doubted``: whether it is not
    known of one of them whether or when.
    """
    perhaps = REJECTED.fill_null(True)
    exact = (pl.col("exact") & pl.col("decided_at").is_not_null()).fill_null(False)
    return approvals.group_by("case").agg(
        pl.col("asked_at").filter(perhaps).n_unique().alias("most"),
        (perhaps & ~(REJECTED & exact).fill_null(False)).any().alias("doubted"),
    )


def flapping(history: History, requirement: NoFlapping) -> pl.DataFrame:
    """CF10. What system accounts change, as an echo between two tools, is left out."""
    moves = history.states.with_columns(history.saves["human"].gather(history.states["row"]))
    known = ~pl.col("first") & pl.col("state").is_not_null() & pl.col("previous").is_not_null()
    moves = moves.filter(known & pl.col("human").fill_null(True))
    certain = _bursts(moves.filter("human"), requirement).with_columns(signed=pl.lit(True), preference=pl.lit(0))
    perhaps = _bursts(moves, requirement).with_columns(signed=pl.lit(False), preference=pl.lit(1))
    return decide(
        history.with_first(pl.concat([certain, perhaps])),
        [
            Rule(pl.col("signed"), Status.DEVIATING, at="bad_at", detail=pl.col("told")),
            Rule(~pl.col("signed"), Status.UNKNOWN, ACTOR, "bad_at"),
            *_NOTHING_FOUND,
        ],
    )


def _bursts(moves: pl.DataFrame, requirement: NoFlapping) -> pl.DataFrame:
    """``case, at, told``: the moves with which so many lie within the time, back to a state that was left in it. A case
    that runs straight through its states quickly does not flap.
    """
    count = requirement.changes
    took = pl.col("at") - pl.col("at").shift(count - 1)
    within = requirement.within // timedelta(milliseconds=1)
    quick = (pl.col("case") == pl.col("case").shift(count - 1)) & took.is_between(0, within)
    # Lists of states are put together for the few moves that matter.
    last = moves.select(quick.fill_null(False).alias("quick"))["quick"].arg_true()
    passed = [
        moves["previous"].gather(last - (count - 1)),
        *(moves["state"].gather(last - n) for n in reversed(range(count))),
    ]
    rows = moves.select("case", "at", took.alias("took"))[last]
    rows = rows.with_columns(pl.concat_list(*map(pl.lit, passed)).alias("passed"))
    rows = rows.filter(pl.col("passed").list.n_unique() <= count)
    told = phrase(pl.col("passed").list.join(" -> "), " within ", pl.col("took") // 60_000, " min")
    return rows.select("case", "at", told.alias("told"))
