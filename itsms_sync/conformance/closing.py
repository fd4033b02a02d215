"""Check of the end of a case: TI12 close timer."""

from datetime import timedelta

import polars as pl

from itsms_sync.conformance.history import History
from itsms_sync.conformance.time import span
from itsms_sync.conformance.verdicts import (
    ACTOR,
    ALWAYS,
    CLOCK,
    GAP,
    LOST,
    NEVER_RESOLVED,
    RUNNING,
    UNMAPPED,
    Rule,
    Status,
    decide,
    phrase,
)
from itsms_sync.procedures.model import ClosedByTimer
from itsms_sync.sms.cases import IS_LAST


def timer_off(history: History, requirement: ClosedByTimer) -> pl.DataFrame:
    """TI12. Too early counts from the resolution, too late from the last save before the closing, because what is saved
    in a resolved case starts a timer anew. A person who closes has been told that it is solved, or answers for it.
    """
    timer, margin = (time // timedelta(milliseconds=1) for time in (requirement.timer, requirement.margin))
    frame = _with_closing(history)
    closed, rests = pl.col("closed"), pl.col("rests")
    frame = frame.with_columns(
        (pl.col("touched_at") + timer + margin).alias("late_at"),
        (pl.col("touched_at") + timer + margin + 1).alias("overdue"),
    )
    took = pl.col("ended") - pl.col("stop_at")
    early = closed & (took < timer - margin) & ~pl.col("human").fill_null(False)
    late = pl.when(closed).then("ended").otherwise(history.now) > pl.col("late_at")
    soon = phrase("closed by the system ", took // 3_600_000, " h ", took // 60_000 % 60, " min after it was resolved")
    return decide(
        frame,
        [
            Rule(pl.col("begun_final"), Status.UNKNOWN, LOST, "ended"),
            Rule(pl.col("ended").is_not_null() & pl.col("was").is_null(), Status.UNKNOWN, UNMAPPED, "ended"),
            Rule(~(closed | rests), Status.NOT_APPLICABLE, NEVER_RESOLVED),
            Rule(pl.col("lost") & (pl.col("stop_row") == pl.col("first_row")), Status.UNKNOWN, LOST, "stop_at"),
            Rule(took < 0, Status.UNKNOWN, CLOCK, "ended"),
            Rule(early & pl.col("stop_hidden"), Status.UNKNOWN, GAP, "ended"),
            Rule(early & pl.col("human").is_null(), Status.UNKNOWN, ACTOR, "ended"),
            Rule(early, Status.DEVIATING, at="ended", detail=soon),
            Rule(late & pl.col("hidden"), Status.UNKNOWN, GAP, "late_at"),
            Rule(
                late,
                Status.DEVIATING,
                at="late_at",
                detail=pl.lit(f"not closed within {span(timer + margin)} after the last save"),
            ),
            Rule(closed, Status.CONFORMING, at="ended"),
            Rule(ALWAYS, Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
        ],
        judged_as_of="stop_at",
    )


def _with_closing(history: History) -> pl.DataFrame:
    """The cases, with ``closed`` (from a resolved state into a final one), ``rests`` (resolved, and not closed yet),
    ``was`` (the state before the closing; null where it is not known), ``begun_final`` (first seen in a final state),
    ``human`` (who closed it), ``stop_at`` (when it was resolved), ``touched_at`` (the last save before the closing, or
    of all), ``hidden`` (others may lie after that) and ``stop_hidden`` (it may have been resolved earlier).
    """
    resting = list(history.procedure.flow.resolved)
    entered = history.states.filter(IS_LAST)["row"]
    ended = pl.col("ended").is_not_null()
    frame = history.cases.with_columns(entered.alias("closing_row"))
    begun = pl.col("closing_row") == pl.col("first_row")
    frame = frame.with_columns((pl.col("closing_row") - pl.when(begun).then(0).otherwise(1)).alias("before_row"))
    frame = frame.with_columns(
        (ended & begun).alias("begun_final"),
        pl.when(ended).then("before_row").otherwise("last_row").alias("touched_row"),
        history.there("stop_row", "at").alias("stop_at"),
        (history.there("stop_row", "vague") | (history.there("stop_row", "missed") > 0)).alias("stop_hidden"),
        (history.there("closing_row", "vague") | (history.there("closing_row", "missed") > 0)).alias("closing_hidden"),
        history.there("closing_row", "human").alias("human"),
    )
    frame = frame.with_columns(
        pl.when(ended & ~pl.col("begun_final")).then(history.there("before_row", "state")).alias("was"),
        history.there("touched_row", "at").alias("touched_at"),
        pl.when(ended).then("closing_hidden").otherwise(pl.col("missed_after") > 0).alias("hidden"),
    )
    return frame.with_columns(
        (ended & pl.col("was").is_in(resting)).fill_null(False).alias("closed"),
        pl.col("state").is_in(resting).fill_null(False).alias("rests"),
    )
