"""Checks of times in which a case waits: TI3 stale, TI4 ageing in a state.

Both look for a stretch of saves over which more than the limit passed on its clock. It is looked for twice: so that it
certainly was one, and so that it may have been one; saves without a trace and what is not known lie between.
The version in force when the case was opened is the one that was promised.
"""

import polars as pl

from itsms_sync.conformance.clock import Clock
from itsms_sync.conformance.history import History
from itsms_sync.conformance.time import summed, told
from itsms_sync.conformance.verdicts import (
    ACTOR,
    ALWAYS,
    CALENDAR,
    CLOCK,
    GAP,
    LOST,
    NEVER_THERE,
    NOT_DELIVERED,
    OTHER_PRIORITY,
    RUNNING,
    UNMAPPED,
    Rule,
    Status,
    decide,
    in_words,
)
from itsms_sync.procedures.model import NotAged, NotStale
from itsms_sync.sms.cases import instants
from itsms_sync.sms.conditions import compile


def stale(history: History, requirement: NotStale) -> pl.DataFrame:
    """TI3. A stretch in which work was due begins with each save by a person; saves of system accounts go on in it."""
    priority = pl.col("priority")
    own = priority == requirement.priority
    if not history.saves.select(own.fill_null(True).any()).item():
        return decide(history.cases, [Rule(ALWAYS, Status.NOT_APPLICABLE, OTHER_PRIORITY)])
    pause = pl.lit(False) if requirement.pause is None else compile(requirement.pause, history.types).expression
    rows = _rows(history).with_columns((pl.col("state").is_in(history.resolved) | pause).alias("_rests"))
    rows = rows.with_columns(
        (own & ~pl.col("_rests")).fill_null(False).alias("_due"),
        (own.fill_null(True) & (~pl.col("_rests").fill_null(False) | pl.col("_cut"))).alias("_maybe_due"),
        (pl.col("human").fill_null(True) | (pl.col("missed") > 0)).alias("_fresh"),
        pl.col("human").fill_null(False).alias("_maybe_fresh"),
    )
    facts = rows.group_by("case", maintain_order=True).agg(
        own.fill_null(True).any().alias("own"),
        priority.is_null().any().alias("untold_priority"),
        (pl.col("human").is_null() & ~pl.col("first")).any().alias("unsigned"),
    )
    running = history.clock(requirement.limit)
    if running is None:
        frame = history.cases.join(facts, on="case", how="left", maintain_order="left")
        return decide(frame, [_of_others(), Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "opened")])
    frame = _with_stretches(history, rows, running).join(facts, on="case", how="left", maintain_order="left")
    maybe = pl.col("maybe_late_at").is_not_null()
    late = pl.lit(f"no update by a person within {told(running)}")
    return decide(
        frame.with_columns(history.there("stop_row", "at").alias("stop_at")),
        [
            Rule(pl.col("late_at").is_not_null(), Status.DEVIATING, at="late_at", detail=late),
            _of_others(),
            *_unsure(maybe),
            Rule(maybe & pl.col("untold_priority"), Status.UNKNOWN, f"{NOT_DELIVERED}: priority", *_MAYBE),
            Rule(maybe & pl.col("unsigned"), Status.UNKNOWN, ACTOR, *_MAYBE),
            Rule(maybe, Status.UNKNOWN, f"{NOT_DELIVERED}: pause", *_MAYBE),
            Rule(pl.col("state").is_in(history.resolved), Status.CONFORMING, at="stop_at"),
            Rule(ALWAYS, Status.NOT_APPLICABLE, RUNNING, recheck_at="maybe_late_from"),
        ],
        judged_as_of="promised",
    )


_MAYBE = ("maybe_late_at", "late_from")


def aged(history: History, requirement: NotAged) -> pl.DataFrame:
    """TI4. A stretch is a stay in the states; it goes on through saves that change something else."""
    inside = pl.col("state").is_in(list(requirement.states))
    whole = pl.lit(history.cases["states_whole"]).gather("nth")
    rows = _rows(history).with_columns((pl.col("_cut") & ~whole).alias("_cut"))
    rows = rows.with_columns(
        inside.fill_null(False).alias("_due"),
        (inside.fill_null(True) | pl.col("_cut") | _hidden_start(history)).alias("_maybe_due"),
        ((pl.col("missed") > 0) & ~whole).alias("_fresh"),
        pl.lit(False).alias("_maybe_fresh"),
    )
    if requirement.until is not None:
        rows = _from_follow_up(rows, requirement.until)
    facts = rows.group_by("case", maintain_order=True).agg(
        inside.fill_null(True).any().alias("there"),
        pl.col("_until").filter(inside).last().alias("left_at"),
        inside.last().fill_null(False).alias("stays"),
    )
    running = history.clock(requirement.limit)
    never = Rule(~pl.col("there"), Status.NOT_APPLICABLE, NEVER_THERE)
    if running is None:
        frame = history.cases.join(facts, on="case", how="left", maintain_order="left")
        return decide(frame, [never, Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "opened")])
    frame = _with_stretches(history, rows, running).join(facts, on="case", how="left", maintain_order="left")
    maybe = pl.col("maybe_late_at").is_not_null()
    stayed = f"stayed in {' or '.join(map(in_words, requirement.states))} for more than {told(running)}"
    return decide(
        frame,
        [
            Rule(pl.col("late_at").is_not_null(), Status.DEVIATING, at="late_at", detail=pl.lit(stayed)),
            Rule(maybe & pl.col("lost"), Status.UNKNOWN, LOST, *_MAYBE),
            Rule(maybe & pl.col("went_back"), Status.UNKNOWN, CLOCK, "maybe_late_at"),
            Rule(maybe & (pl.col("missed") > 0), Status.UNKNOWN, GAP, *_MAYBE),
            Rule(maybe & pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, *_MAYBE),
            Rule(maybe, Status.UNKNOWN, f"{NOT_DELIVERED}: {requirement.until}", *_MAYBE),
            never,
            Rule(~pl.col("stays") & pl.col("left_at").is_not_null(), Status.CONFORMING, at="left_at"),
            Rule(ALWAYS, Status.NOT_APPLICABLE, RUNNING, recheck_at="maybe_late_from"),
        ],
        judged_as_of="promised",
    )


def _hidden_start(history: History) -> pl.Expr:
    """The time before what is seen of a case whose history begins late."""
    return pl.col("first") & pl.lit(history.cases["lost"]).gather("nth")


def _from_follow_up(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """``rows`` with the beginning of what counts moved to the instant that stands in the attribute. What is no instant,
    or not known, may be any.
    """
    planned = instants(pl.col(name)).clip("at", "_until")
    empty = pl.col(name) == ""
    return rows.with_columns(
        pl.when(empty).then("at").otherwise(planned.fill_null(pl.col("_until"))).alias("_begin"),
        pl.when(empty).then("at").otherwise(planned.fill_null(pl.col("at"))).alias("_maybe_begin"),
    )


def _of_others() -> Rule:
    return Rule(~pl.col("own"), Status.NOT_APPLICABLE, OTHER_PRIORITY)


def _unsure(maybe: pl.Expr) -> list[Rule]:
    """Where a beginning is hidden, or a stretch may have been one only."""
    return [
        Rule(pl.col("lost"), Status.UNKNOWN, LOST, "opened", "late_from"),
        Rule(maybe & pl.col("went_back"), Status.UNKNOWN, CLOCK, "maybe_late_at"),
        Rule(maybe & (pl.col("missed") > 0), Status.UNKNOWN, GAP, *_MAYBE),
    ]


def _rows(history: History) -> pl.DataFrame:
    """The saves, each with ``_begin`` and ``_maybe_begin`` (ms), from when on its time counts, and ``_until``, the next
    save or now; ``_cut``: others are missing between the two, and ``_back``: the next has an earlier stamp.
    """
    last = pl.col("row") == pl.lit(history.cases["last_row"]).gather("nth")
    rows = history.saves.with_columns(
        pl.when(last).then(history.now).otherwise(pl.col("at").shift(-1)).alias("_until"),
        pl.when(last)
        .then(pl.lit(history.cases["missed_after"]).gather("nth") > 0)
        .otherwise(pl.col("missed").shift(-1) > 0)
        .alias("_cut"),
    )
    back = pl.col("_until") < pl.col("at")
    rows = rows.with_columns(pl.col("at").alias("_begin"), pl.col("at").alias("_maybe_begin"))
    return rows.with_columns(back.alias("_back"), pl.max_horizontal("_until", "at").alias("_until"))


def _with_stretches(history: History, rows: pl.DataFrame, running: Clock) -> pl.DataFrame:
    """The cases, with ``late_at`` and ``maybe_late_at`` (when the limit was passed, certainly and possibly, for the
    first time), ``late_from`` and ``maybe_late_from`` (when a stretch that runs now will have passed it),
    ``went_back``, and ``promised``, which tells the version in force.

    ``rows`` as of ``_rows``, with ``_due`` and ``_maybe_due`` (the time after the save counts), ``_fresh`` and
    ``_maybe_fresh`` (a new stretch begins with the save).
    """
    hidden = pl.col("_cut") | _hidden_start(history)
    rows = rows.with_columns((pl.col("_due") & ~hidden).alias("_due"))
    for kind in ("", "_maybe"):
        rows = _summed(rows, kind, running)
    found = rows.group_by("case", maintain_order=True).agg(
        pl.col("_back").any().alias("went_back"),
        *(pl.col(f"{kind}_late_at").drop_nulls().first().alias(f"{kind}_late_at"[1:]) for kind in ("", "_maybe")),
        *(_left(kind, running.limit).alias(f"{kind}_late_from"[1:]) for kind in ("", "_maybe")),
    )
    now = pl.Series([history.now], dtype=pl.Int64).new_from_index(0, len(found))
    found = found.with_columns(
        *(running.after(now, found[name] + 1).alias(name) for name in ("late_from", "maybe_late_from")),
        # Stamps that go back may have made a stretch longer than it was.
        pl.when(~pl.col("went_back")).then("late_at").alias("late_at"),
    )
    frame = history.cases.join(found, on="case", how="left", maintain_order="left")
    return frame.with_columns(pl.col("opened").alias("promised"))


def _summed(rows: pl.DataFrame, kind: str, running: Clock) -> pl.DataFrame:
    """Adds the time of the stretch so far, and after the save in whose time the limit was passed, when it was."""
    due = pl.col(f"{kind}_due")
    begins = pl.col("first") | pl.col(f"{kind}_fresh") | ~due.shift(1, fill_value=False)
    spent = pl.when(due).then("_span").otherwise(0)
    span = running.between(rows[f"{kind}_begin"], rows["_until"])
    rows = rows.with_columns(span.alias("_span")).with_columns(summed(spent, begins).alias(f"{kind}_spent"))
    before = pl.col(f"{kind}_spent") - spent
    passes = (pl.col(f"{kind}_spent") > running.limit) & (before <= running.limit)
    left = rows.select(pl.when(passes).then(running.limit - before).alias("left"))["left"]
    return rows.with_columns(running.after(rows[f"{kind}_begin"], left).alias(f"{kind}_late_at"))


def _left(kind: str, limit: int) -> pl.Expr:
    """What is left of the limit now, if the stretch goes on and has not passed it."""
    left = limit - pl.col(f"{kind}_spent").last()
    return pl.when(pl.col(f"{kind}_due").last() & (left >= 0)).then(left)
