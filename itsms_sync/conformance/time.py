"""Checks of time: TI1 response, TI2 resolution, around the clock or on a business calendar. A limit on a calendar that
is not described is ``unknown: calendar``.

Both clocks start when the case was opened, or when it was given the priority that it has at the end of the clock: an
incident that becomes urgent on its third day is not three days late. The version in force when the clock starts is the
one that was promised.
"""

import polars as pl

from itsms_sync.conformance.clock import Clock
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
from itsms_sync.procedures.model import ResolvedInTime, RespondedInTime
from itsms_sync.sms.conditions import compile


def late_response(history: History, requirement: RespondedInTime) -> pl.DataFrame:
    """TI1. The first save by a person after which the response activity is true; system accounts do not respond."""
    answer_row = f"answer_{requirement.response}"
    frame = _with_clock_start(history, pl.col(answer_row).fill_null(pl.col("last_row")))
    if not _any_of(frame, requirement.priority):
        return decide(frame, _not_this_clock(requirement.priority), judged_as_of="since")
    frame = frame.with_columns(
        history.there(answer_row, "at").alias("answered"),
        history.there(f"unsigned_{requirement.response}", "at").alias("unsigned"),
        _gap_at(history),
    )
    running = history.clock(requirement.limit)
    if running is None:
        return decide(frame, _not_described(requirement.priority), judged_as_of="since")
    frame = with_deadline(frame, "since", running)
    frame = frame.with_columns(running.between(frame["since"], frame["answered"]).alias("took"))
    answered, overdue = pl.col("answered"), pl.col("overdue")
    lacking = f"{NO_ACTIVITY}: {requirement.response}"
    late = (
        pl.when(answered.is_not_null())
        .then(_took("answered after", pl.col("took"), running))
        .otherwise(pl.lit(f"no response within {told(running)}"))
    )
    return decide(
        frame,
        [
            *_not_this_clock(requirement.priority),
            Rule(pl.col("lost"), Status.UNKNOWN, LOST, "since"),
            Rule(answered < overdue, Status.CONFORMING, at="answered"),
            Rule(answered.is_null() & (history.now < overdue), Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            # What has no trace, or no name, after the deadline excuses nothing.
            Rule(pl.col("gap_at") < overdue, Status.UNKNOWN, GAP, "deadline"),
            Rule(pl.col("unsigned") < overdue, Status.UNKNOWN, ACTOR, "deadline"),
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
    if not _any_of(frame, requirement.priority):
        return decide(frame, _not_this_clock(requirement.priority), judged_as_of="since")
    running = history.clock(requirement.limit)
    if running is None:
        return decide(frame, _not_described(requirement.priority), judged_as_of="since")
    own = frame.filter(pl.col("clock_priority") == requirement.priority)
    frame = frame.join(_clocks(history, own, requirement, running), on="case", how="left", maintain_order="left")
    frame = frame.with_columns(history.there("stop_row", "at").alias("stop_at"))
    detail = (
        pl.when(stopped)
        .then(_took("resolved after", pl.col("worked"), running))
        .otherwise(pl.lit(f"not resolved within {told(running)}"))
    )
    return decide(
        frame,
        [
            *_not_this_clock(requirement.priority),
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


def _clocks(history: History, cases: pl.DataFrame, requirement: ResolvedInTime, running: Clock) -> pl.DataFrame:
    """Per case: ``worked`` (ms so far), ``late_at`` and ``maybe_late_at`` (when the limit was passed, certainly and
    possibly), ``late_from`` and ``maybe_late_from`` (when a clock that runs now will have passed it), ``went_back``.
    """
    rows = _spans(history, cases, requirement.pause, running)
    due, maybe_due = pl.col("_due"), pl.col("_maybe_due")
    begins = pl.col("case").ne_missing(pl.col("case").shift(1))
    rows = rows.with_columns(
        summed(pl.when(due).then("_span").otherwise(0), begins).alias("_worked"),
        summed(pl.when(maybe_due).then("_span").otherwise(0), begins).alias("_possible"),
    )
    rows = rows.with_columns(
        _passed(rows, "_worked", "_due", running).alias("_late_at"),
        _passed(rows, "_possible", "_maybe_due", running).alias("_maybe_late_at"),
    )
    found = rows.group_by("case", maintain_order=True).agg(
        pl.col("_worked").last().alias("worked"),
        pl.col("_late_at").drop_nulls().first().alias("late_at"),
        pl.col("_maybe_late_at").drop_nulls().first().alias("maybe_late_at"),
        _left("_worked", due, running.limit).alias("late_from"),
        _left("_possible", maybe_due, running.limit).alias("maybe_late_from"),
        pl.col("_back").any().alias("went_back"),
    )
    now = pl.Series([history.now], dtype=pl.Int64).new_from_index(0, len(found))
    return found.with_columns(
        running.after(now, found[name] + 1).alias(name) for name in ("late_from", "maybe_late_from")
    )


def summed(value: pl.Expr, begins: pl.Expr) -> pl.Expr:
    """The sum of a value that is never null since the last row with which something ``begins``, as the first row does.
    A sum over groups takes twenty times as long.
    """
    total = value.cum_sum()
    return total - pl.when(begins).then(total - value).forward_fill()


def _passed(rows: pl.DataFrame, total: str, due: str, running: Clock) -> pl.Series:
    """The instant in the time after a save at which the limit was passed; null after other saves."""
    before = pl.col(total) - pl.when(due).then("_span").otherwise(0)
    passes = (pl.col(total) > running.limit) & (before <= running.limit)
    left = rows.select(pl.when(passes).then(running.limit - before).alias("left"))["left"]
    return running.after(rows["at"], left)


def _left(total: str, due: pl.Expr, limit: int) -> pl.Expr:
    """What is left of the limit now, if the clock runs and it is not passed."""
    left = limit - pl.col(total).last()
    return pl.when(due.last() & (left >= 0)).then(left)


def _spans(history: History, cases: pl.DataFrame, pause: str | None, running: Clock) -> pl.DataFrame:
    """The time after each save since the clock started, up to the next save or now: ``_span`` (ms on the clock),
    ``_due`` (work was certainly due in it) and ``_maybe_due``; ``_back``: the next save has an earlier stamp.
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
    rows = rows.with_columns((done | paused).alias("_stands"), cut.alias("_cut"), until.alias("_until"))
    passed = running.between(rows["at"], rows["_until"]).alias("_span")
    rows = rows.with_columns(passed, (pl.col("_until") < pl.col("at")).alias("_back"))
    due = ~pl.col("_stands").fill_null(True)
    return rows.with_columns(
        due.alias("_due"), (~pl.col("_stands").fill_null(False) | pl.col("_cut")).alias("_maybe_due")
    )


def started(history: History, requirement: RespondedInTime | ResolvedInTime) -> pl.DataFrame:
    """The cases that have the limit's priority, with ``since_row`` and ``since``, since when its clock runs."""
    if isinstance(requirement, RespondedInTime):
        end = pl.col(f"answer_{requirement.response}").fill_null(pl.col("last_row"))
    else:
        end = pl.when(pl.col("state").is_in(history.resolved)).then("stop_row").otherwise("last_row")
    return _with_clock_start(history, end).filter(pl.col("clock_priority") == requirement.priority)


def on_the_clock(history: History, cases: pl.DataFrame, pause: str | None, running: Clock) -> pl.DataFrame:
    """Of ``cases`` as ``started`` gives them, the time after each save since the clock started: ``row, at, until``,
    ``span`` (ms on the clock), ``due`` and ``maybe_due`` (it counted, certainly or possibly), ``resolved``.
    """
    rows = _spans(history, cases, pause, running)
    resolved = pl.col("state").is_in(history.resolved).fill_null(False).alias("resolved")
    return rows.select("row", "at", *(pl.col(f"_{name}").alias(name) for name in _SPAN), resolved)


_SPAN = ("until", "span", "due", "maybe_due")


def with_deadline(frame: pl.DataFrame, since: str, running: Clock) -> pl.DataFrame:
    """``frame`` with ``deadline``, when the limit is used up, and ``overdue``, the first instant when it is passed."""
    starts = frame[since]
    limit = pl.Series([running.limit], dtype=pl.Int64).new_from_index(0, len(frame))
    return frame.with_columns(
        running.after(starts, limit).alias("deadline"), running.after(starts, limit + 1).alias("overdue")
    )


def _any_of(frame: pl.DataFrame, priority: str) -> bool:
    """Whether there is more to find out than that it is another priority's clock, as often of a few cases."""
    return bool((frame["clock_priority"] == priority).any())


def _not_this_clock(priority: str) -> list[Rule]:
    return [
        Rule(pl.col("clock_priority").is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: priority", "since"),
        Rule(pl.col("clock_priority") != priority, Status.NOT_APPLICABLE, OTHER_PRIORITY),
    ]


def _not_described(priority: str) -> list[Rule]:
    return [*_not_this_clock(priority), Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "since")]


def told(running: Clock) -> str:
    """The limit in words."""
    if running.days:
        return f"{running.days} working day{'s' if running.days > 1 else ''}"
    return f"{span(running.limit)}{running.kind}"


def span(millis: int) -> str:
    """A duration in words."""
    minutes = millis // 60_000
    hours, minutes = divmod(minutes, 60)
    if hours >= 48 and not (minutes or hours % 24):
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"


def _took(text: str, millis: pl.Expr, running: Clock) -> pl.Expr:
    minutes = millis // 60_000
    return phrase(f"{text} ", minutes // 60, " h ", minutes % 60, f" min{running.kind}")
