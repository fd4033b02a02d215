"""Checks of going round in circles: CF4 rework loop."""

from collections.abc import Sequence

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, STATES_MISSED
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    GAP,
    LOST,
    STILL_OPEN,
    UNMAPPED,
    Rule,
    Status,
    decide,
    phrase,
)
from itsms_sync.procedures.model import FewReturns
from itsms_sync.sms.cases import IS_FIRST


def rework_loop(history: History, requirement: FewReturns) -> pl.DataFrame:
    """CF4. What is not seen can only add returns to those that are."""
    returns = _returns(history, requirement.phases).filter(pl.col("nth") > requirement.most)
    told = phrase("went back ", pl.col("nth"), " times, then from ", pl.col("was"), " to ", pl.col("state"))
    found = returns.select("case", "at", told.alias("told"), pl.col("nth").alias("preference"))
    return decide(
        history.with_first(found),
        [
            Rule(pl.col("told").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("told")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, "ended"),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
            Rule(STATES_MISSED, Status.UNKNOWN, GAP, "ended"),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )


def _returns(history: History, phases: Sequence[str]) -> pl.DataFrame:
    """The moves from a later phase to an earlier one: ``case, at, was, state, nth``. A state that is no phase, or is not
    known, lies between two phases and is none.
    """
    place = pl.col("state").replace_strict(list(phases), list(range(len(phases))), return_dtype=pl.Int32)
    moves = history.states.filter(pl.col("state").is_in(list(phases))).select(
        "case", "at", "state", place.alias("place")
    )
    back = ~IS_FIRST & (pl.col("place") < pl.col("place").shift(1))
    found = moves.with_columns(pl.col("state").shift(1).alias("was")).filter(back)
    return found.with_columns(pl.col("at").cum_count().over("case").alias("nth"))
