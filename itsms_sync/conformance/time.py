"""Checks of time: TI1 response, TI2 resolution. Clocks that run on a business calendar are ``unknown: calendar``.

Both clocks start when the case was opened, or when it was given the priority that it has at the end of the clock: an
incident that becomes urgent on its third day is not three days late.
"""

import polars as pl

from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ACTOR,
    ALWAYS,
    CALENDAR,
    CLOCK,
    GAP,
    LOST,
    NOT_DELIVERED,
    OTHER_PRIORITY,
    RUNNING,
    Rule,
    Status,
    decide,
)
from itsms_sync.procedures.model import ResolvedInTime, RespondedInTime
from itsms_sync.sms.conditions import compile

FAR = 2**62


def late_response(history: History, requirement: RespondedInTime) -> pl.DataFrame:
    """TI1. The first save by a person after which the response activity is true; system accounts do not respond."""
    responded = pl.col(f"is_{requirement.response}") & ~pl.col("first")
    frame = history.with_cases(
        history.first(responded & pl.col("human"), "row", "at", "missed_so_far", prefix="answer"),
        history.first(responded & pl.col("human").is_null(), "row", prefix="unsigned"),
    )
    frame = _with_priority(history, frame, pl.col("answer_row").fill_null(FAR))
    limit = int(requirement.limit.time.total_seconds() * 1000)
    deadline = pl.col("since") + limit
    answered = pl.col("answer_at")
    unsigned = pl.col("unsigned_row") < pl.col("answer_row").fill_null(FAR)
    missed = pl.coalesce("answer_missed_so_far", "missed") > 0
    late = (
        pl.when(answered.is_not_null())
        .then(_took("answered after", answered - pl.col("since")))
        .otherwise(pl.lit(f"no response within {_span(limit)}"))
    )
    return decide(
        frame,
        [
            *_not_this_clock(requirement.priority, requirement.limit.clock),
            Rule(pl.col("lost"), Status.UNKNOWN, LOST, pl.col("since")),
            Rule(answered <= deadline, Status.CONFORMING, at=answered),
            Rule(
                answered.is_null() & (history.now <= deadline), Status.NOT_APPLICABLE, RUNNING, recheck_at=deadline + 1
            ),
            Rule(missed, Status.UNKNOWN, GAP, deadline),
            Rule(unsigned, Status.UNKNOWN, ACTOR, deadline),
            Rule(ALWAYS, Status.DEVIATING, at=deadline, detail=late),
        ],
    )


def late_resolution(history: History, requirement: ResolvedInTime) -> pl.DataFrame:
    """TI2. Working time until the last resolution: pauses and times in which the case counted as resolved do not
    count.
    """
    done = pl.col("state").is_in(history.resolved).fill_null(False)
    was_done = pl.col("previous").is_in(history.resolved).fill_null(False)
    stops = history.last(done & ~was_done, "row", "at", prefix="stop")
    frame = _with_priority(history, history.with_cases(stops), pl.col("last_row"))
    limit = int(requirement.limit.time.total_seconds() * 1000)
    frame = frame.join(_clock(history, frame, requirement, limit), on="case", how="left", maintain_order="left")
    stopped = pl.col("state").is_in(history.resolved)
    breached = pl.col("breach_at").is_not_null()
    detail = (
        pl.when(stopped)
        .then(_took("resolved after", pl.col("worked")))
        .otherwise(pl.lit(f"not resolved within {_span(limit)}"))
    )
    recheck = pl.when(pl.col("runs")).then(history.now + limit - pl.col("worked") + 1)
    return decide(
        frame,
        [
            *_not_this_clock(requirement.priority, requirement.limit.clock),
            Rule(pl.col("lost"), Status.UNKNOWN, LOST, pl.col("since")),
            Rule(pl.col("went_back"), Status.UNKNOWN, CLOCK, pl.col("since")),
            Rule(breached & (pl.col("missed") > 0), Status.UNKNOWN, GAP, pl.col("breach_at")),
            Rule(breached & pl.col("pause_untold"), Status.UNKNOWN, f"{NOT_DELIVERED}: pause", pl.col("breach_at")),
            Rule(breached, Status.DEVIATING, at=pl.col("breach_at"), detail=detail),
            Rule(stopped, Status.CONFORMING, at=pl.col("stop_at")),
            Rule(ALWAYS, Status.NOT_APPLICABLE, RUNNING, recheck_at=recheck),
        ],
    )


def _with_priority(history: History, frame: pl.DataFrame, until_row: pl.Expr) -> pl.DataFrame:
    """Adds ``clock_priority`` as it stands at ``until_row`` and ``since``, the start of its clock."""
    bound = frame.select("case", until_row.alias("_until"))
    rows = history.saves.select("case", "row", "at", "priority", "first").join(
        bound, on="case", how="left", maintain_order="left"
    )
    changed = (pl.col("priority") != pl.col("priority").shift(1)).fill_null(True)
    rows = rows.filter((pl.col("first") | changed) & (pl.col("row") <= pl.col("_until")))
    last = rows.unique("case", keep="last", maintain_order=True).select(
        "case",
        pl.col("priority").alias("clock_priority"),
        pl.col("at").alias("since"),
        pl.col("row").alias("since_row"),
    )
    return frame.join(last, on="case", how="left", maintain_order="left")


def _clock(history: History, frame: pl.DataFrame, requirement: ResolvedInTime, limit: int) -> pl.DataFrame:
    """Per case: ``worked`` (ms so far), ``breach_at``, ``runs`` (the clock runs now), ``pause_untold``,
    ``went_back``.
    """
    pause = pl.lit(False) if requirement.pause is None else compile(requirement.pause, history.types).expression
    rows = history.saves.join(frame.select("case", "since_row"), on="case", how="left", maintain_order="left")
    rows = rows.filter(pl.col("row") >= pl.col("since_row"))
    last = (pl.col("case") != pl.col("case").shift(-1)).fill_null(True)
    until = pl.when(last).then(pl.lit(history.now, pl.Int64)).otherwise(pl.col("at").shift(-1))
    done = pl.col("state").is_in(history.resolved).fill_null(False)
    rows = rows.with_columns(pause.alias("_pause"), (until - pl.col("at")).alias("_span"), last.alias("_last"))
    counts = ~done & ~pl.col("_pause").fill_null(True)
    rows = rows.with_columns(
        pl.when(counts).then(pl.col("_span").clip(lower_bound=0)).otherwise(0).alias("_worked"), counts.alias("_runs")
    )
    rows = rows.with_columns(pl.col("_worked").cum_sum().over("case").alias("_total"))
    before = pl.col("_total") - pl.col("_worked")
    crossing = (pl.col("_total") > limit) & (before <= limit)
    return rows.group_by("case", maintain_order=True).agg(
        pl.col("_total").last().alias("worked"),
        (pl.col("at") + limit - before).filter(crossing).first().alias("breach_at"),
        (pl.col("_runs") & pl.col("_last")).any().alias("runs"),
        (pl.col("_pause").is_null() & ~done).any().alias("pause_untold"),
        (pl.col("_span") < 0).any().alias("went_back"),
    )


def _not_this_clock(priority: str, clock: str) -> list[Rule]:
    rules = [
        Rule(pl.col("clock_priority").is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: priority", pl.col("since")),
        Rule(pl.col("clock_priority") != priority, Status.NOT_APPLICABLE, OTHER_PRIORITY),
    ]
    if clock != "24x7":
        rules.append(Rule(ALWAYS, Status.UNKNOWN, CALENDAR, pl.col("since")))
    return rules


def _span(millis: int) -> str:
    minutes = millis // 60_000
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"


def _took(text: str, millis: pl.Expr) -> pl.Expr:
    minutes = millis // 60_000
    return pl.format("{} {} h {} min", pl.lit(text), minutes // 60, minutes % 60)
