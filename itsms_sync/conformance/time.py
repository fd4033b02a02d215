"""Checks of time: TI1 response, TI2 resolution. Clocks that run on a business calendar are ``unknown: calendar``.

Both clocks start when the case was opened, or when it was given the priority that it has at the end of the clock: an
incident that becomes urgent on its third day is not three days late. The version in force when the clock starts is the
one that was promised.
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
    NO_ACTIVITY,
    NOT_DELIVERED,
    OTHER_PRIORITY,
    RUNNING,
    Rule,
    Status,
    decide,
    phrase,
)
from itsms_sync.procedures.model import Limit, ResolvedInTime, RespondedInTime
from itsms_sync.sms.conditions import compile

AROUND_THE_CLOCK = "24x7"


def late_response(history: History, requirement: RespondedInTime) -> pl.DataFrame:
    """TI1. The first save by a person after which the response activity is true; system accounts do not respond."""
    limit = _millis(requirement.limit)
    answer_row = f"answer_{requirement.response}"
    frame = _with_clock_start(history, pl.col(answer_row).fill_null(pl.col("last_row")))
    frame = frame.with_columns(
        history.there(answer_row, "at").alias("answered"),
        history.there(f"unsigned_{requirement.response}", "at").alias("unsigned"),
        (pl.col("since") + limit).alias("deadline"),
        (pl.col("since") + limit + 1).alias("overdue"),
        _gap_at(history),
    )
    answered, deadline = pl.col("answered"), pl.col("deadline")
    lacking = f"{NO_ACTIVITY}: {requirement.response}"
    late = (
        pl.when(answered.is_not_null())
        .then(_took("answered after", answered - pl.col("since")))
        .otherwise(pl.lit(f"no response within {span(limit)}"))
    )
    return decide(
        frame,
        [
            *_not_this_clock(requirement.priority, requirement.limit),
            Rule(pl.col("lost"), Status.UNKNOWN, LOST, "since"),
            Rule(answered <= deadline, Status.CONFORMING, at="answered"),
            Rule(answered.is_null() & (history.now <= deadline), Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            # What has no trace, or no name, after the deadline excuses nothing.
            Rule(pl.col("gap_at") <= deadline, Status.UNKNOWN, GAP, "deadline"),
            Rule(pl.col("unsigned") <= deadline, Status.UNKNOWN, ACTOR, "deadline"),
            Rule(pl.lit(requirement.response in history.lacking), Status.UNKNOWN, lacking, "deadline"),
            Rule(ALWAYS, Status.DEVIATING, at="deadline", detail=late),
        ],
        judged_as_of="since",
    )


def _gap_at(history: History) -> pl.Expr:
    """The last save before the first saves without a trace, or null."""
    before = pl.lit(history.saves["at"].shift(1)).gather(pl.col("gap_row"))
    after = pl.when(pl.col("missed_after") > 0).then(history.there("last_row", "at"))
    return pl.coalesce(before, after).alias("gap_at")


def late_resolution(history: History, requirement: ResolvedInTime) -> pl.DataFrame:
    """TI2. Working time until the last resolution: pauses and times in which the case counted as resolved do not count.

    Two clocks: ``worked`` runs while work was certainly due, ``possible`` whenever it may have been, so that neither
    an unknown pause nor saves without a trace make a case late or in time.
    """
    stopped = pl.col("state").is_in(history.resolved)
    frame = _with_clock_start(history, pl.when(stopped).then("stop_row").otherwise("last_row"))
    limit = _millis(requirement.limit)
    own = frame.filter(
        (pl.col("clock_priority") == requirement.priority) & (requirement.limit.clock == AROUND_THE_CLOCK)
    )
    frame = frame.join(_clocks(history, own, requirement, limit), on="case", how="left", maintain_order="left")
    frame = frame.with_columns(history.there("stop_row", "at").alias("stop_at"))
    detail = (
        pl.when(stopped)
        .then(_took("resolved after", pl.col("worked")))
        .otherwise(pl.lit(f"not resolved within {span(limit)}"))
    )
    return decide(
        frame,
        [
            *_not_this_clock(requirement.priority, requirement.limit),
            Rule(pl.col("lost"), Status.UNKNOWN, LOST, "since"),
            Rule(pl.col("went_back"), Status.UNKNOWN, CLOCK, "since"),
            Rule(pl.col("maybe_late_at").is_not_null() & (pl.col("missed") > 0), Status.UNKNOWN, GAP, "maybe_late_at"),
            Rule(pl.col("late_at").is_not_null(), Status.DEVIATING, at="late_at", detail=detail),
            Rule(
                pl.col("maybe_late_at").is_not_null(),
                Status.UNKNOWN,
                f"{NOT_DELIVERED}: pause",
                "maybe_late_at",
                "late_from",
            ),
            Rule(stopped, Status.CONFORMING, at="stop_at"),
            Rule(ALWAYS, Status.NOT_APPLICABLE, RUNNING, recheck_at="maybe_late_from"),
        ],
        judged_as_of="since",
    )


def _with_clock_start(history: History, end_row: pl.Expr) -> pl.DataFrame:
    """The cases, with ``clock_priority`` as it stands at ``end_row`` and ``since_row``, ``since``: since when."""
    frame = history.cases.with_columns(pl.lit(history.saves["priority_row"]).gather(end_row).alias("since_row"))
    # A priority that was not known before may have been the same all the time.
    before = pl.lit(history.saves["priority"].shift(1)).gather(pl.col("since_row"))
    told = (pl.col("since_row") == pl.col("first_row")) | before.is_not_null()
    return frame.with_columns(
        pl.when(told).then(history.there("since_row", "priority")).alias("clock_priority"),
        history.there("since_row", "at").alias("since"),
    )


def _clocks(history: History, cases: pl.DataFrame, requirement: ResolvedInTime, limit: int) -> pl.DataFrame:
    """Per case: ``worked`` (ms so far), ``late_at`` and ``maybe_late_at`` (when the limit was passed, certainly and
    possibly), ``late_from`` and ``maybe_late_from`` (when a clock that runs now will have passed it), ``went_back``.
    """
    rows = _spans(history, cases, requirement.pause)
    due, maybe_due = pl.col("_due"), pl.col("_maybe_due")
    rows = rows.with_columns(
        pl.when(due).then("_span").otherwise(0).cum_sum().over("case").alias("_worked"),
        pl.when(maybe_due).then("_span").otherwise(0).cum_sum().over("case").alias("_possible"),
    )
    return rows.group_by("case", maintain_order=True).agg(
        pl.col("_worked").last().alias("worked"),
        _passed("_worked", due, limit).alias("late_at"),
        _passed("_possible", maybe_due, limit).alias("maybe_late_at"),
        _will_pass("_worked", due, limit, history.now).alias("late_from"),
        _will_pass("_possible", maybe_due, limit, history.now).alias("maybe_late_from"),
        (pl.col("_span") < 0).any().alias("went_back"),
    )


def _passed(total: str, running: pl.Expr, limit: int) -> pl.Expr:
    before = pl.col(total) - pl.when(running).then("_span").otherwise(0)
    return (pl.col("at") + limit - before).filter((pl.col(total) > limit) & (before <= limit)).first()


def _will_pass(total: str, running: pl.Expr, limit: int, now: int) -> pl.Expr:
    left = limit - pl.col(total).last()
    return pl.when(running.last() & (left >= 0)).then(now + left + 1)


def _spans(history: History, cases: pl.DataFrame, pause: str | None) -> pl.DataFrame:
    """The time after each save since the clock started, up to the next save or now: ``_span`` (ms), ``_due`` (work was
    certainly due in it) and ``_maybe_due``.
    """
    places = cases.select(
        "case", "last_row", "missed_after", pl.int_ranges("since_row", pl.col("last_row") + 1).alias("row")
    )
    places = places.explode("row")
    rows = history.saves[places["row"]].with_columns(places["last_row"], places["missed_after"])
    last = pl.col("row") == pl.col("last_row")
    until = pl.when(last).then(pl.lit(history.now, pl.Int64)).otherwise(pl.col("at").shift(-1))
    done = pl.col("state").is_in(history.resolved)
    paused = pl.lit(False) if pause is None else compile(pause, history.types).expression
    # Saves without a trace may have ended a pause, or a resolution that was taken back. A resolution that stands is not
    # doubted: it is what the clock is measured to.
    cut = (
        pl.when(last)
        .then((pl.col("missed_after") > 0) & ~done.fill_null(False))
        .otherwise(pl.col("missed").shift(-1) > 0)
    )
    rows = rows.with_columns((done | paused).alias("_stands"), cut.alias("_cut"), (until - pl.col("at")).alias("_span"))
    due = ~pl.col("_stands").fill_null(True)
    return rows.with_columns(
        due.alias("_due"), (~pl.col("_stands").fill_null(False) | pl.col("_cut")).alias("_maybe_due")
    )


def _not_this_clock(priority: str, limit: Limit) -> list[Rule]:
    rules = [
        Rule(pl.col("clock_priority").is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: priority", "since"),
        Rule(pl.col("clock_priority") != priority, Status.NOT_APPLICABLE, OTHER_PRIORITY),
    ]
    if limit.clock != AROUND_THE_CLOCK:
        rules.append(Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "since"))
    return rules


def _millis(limit: Limit) -> int:
    return int(limit.time.total_seconds() * 1000)


def span(millis: int) -> str:
    """A duration in words."""
    minutes = millis // 60_000
    hours, minutes = divmod(minutes, 60)
    if hours >= 48 and not (minutes or hours % 24):
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"


def _took(text: str, millis: pl.Expr) -> pl.Expr:
    minutes = millis // 60_000
    return phrase(f"{text} ", minutes // 60, " h ", minutes % 60, " min")
