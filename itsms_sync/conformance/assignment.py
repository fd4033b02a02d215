"""Checks of who has a case: ST3 ping-pong between groups, RO5 no owner."""

import polars as pl

from itsms_sync.conformance.clock import Clock
from itsms_sync.conformance.control_flow import COMPLETE_LOSS, MISSED, NO_PREFERENCE
from itsms_sync.conformance.history import History
from itsms_sync.conformance.time import told
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    CALENDAR,
    GAP,
    LOST,
    NOT_DELIVERED,
    NOT_STARTED,
    STILL_OPEN,
    UNMAPPED,
    Rule,
    Status,
    decide,
    in_words,
)
from itsms_sync.procedures.model import NoPingPong, Owned
from itsms_sync.sms.cases import IS_FIRST, IS_LAST


def ping_pong(history: History, requirement: NoPingPong) -> pl.DataFrame:
    """ST3. A, B, A in the sequence of groups with repetitions and blanks dropped; missing saves do not undo a
    return, unless a change is known to be missing: another group may then lie between.
    """
    group = pl.col("group")
    saves = history.saves.select("case", "at", pl.col(requirement.attribute).alias("group"))
    starts_run = IS_FIRST | group.ne_missing(group.shift(1))
    runs = saves.filter(starts_run).filter(group != "").filter(starts_run)
    returns = (pl.col("case") == pl.col("case").shift(2)) & (group == group.shift(2))
    before = group.shift(1).alias("between"), pl.col("at").shift(2).alias("begun")
    found = _without_doubt(runs.with_columns(before).filter(returns), history)
    told = pl.concat_str("group", pl.lit(" -> "), "between", pl.lit(" -> "), "group").alias("told")
    untold = saves.filter(group.is_null())["case"].unique()
    return decide(
        history.with_first(found.select("case", "at", told, NO_PREFERENCE)),
        [
            Rule(pl.col("told").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("told")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(
                pl.col("case").is_in(untold.implode()),
                Status.UNKNOWN,
                f"{NOT_DELIVERED}: {requirement.attribute}",
                "ended",
            ),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
            Rule(MISSED, Status.UNKNOWN, GAP, "ended"),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )


def _without_doubt(returns: pl.DataFrame, history: History) -> pl.DataFrame:
    """Those returns in whose time, from ``begun`` on, no change is missing of which only an interval is known."""
    missing = history.log.untraced.select("case", "since", pl.col("at").alias("until"))
    both = returns.join(missing, on="case", how="inner")
    doubtful = both.filter((pl.col("since") < pl.col("at")) & (pl.col("until") > pl.col("begun")))
    return returns.join(doubtful.select("case", "at"), on=["case", "at"], how="anti", maintain_order="left")


def no_owner(history: History, requirement: Owned) -> pl.DataFrame:
    """RO5. Stretches at which nobody was named: certain ones make a deviation, and what may have been one, because of
    values that are not known or of saves without a trace, makes the case unknown.
    """
    running = history.clock(requirement.limit)
    if running is None:
        return decide(history.cases, [Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "ended")])
    rows = _without_owner(history, requirement)
    certain, possible = (_stretches(rows, flag, running) for flag in ("certain", "possible"))
    found = [
        certain.filter("passed").select("case", "deadline", pl.lit("").alias("why"), pl.lit(0).alias("preference")),
        possible.filter("passed").select("case", "deadline", "why", pl.lit(1).alias("preference")),
    ]
    frame = history.with_first(pl.concat(found).drop_nulls("why").rename({"deadline": "at"}))
    for name, stretches in (("late_from", certain), ("maybe_late_from", possible)):
        going_on = stretches.filter(pl.col("last") & ~pl.col("passed")).select("case", pl.col("overdue").alias(name))
        frame = frame.join(going_on, on="case", how="left", maintain_order="left")
    unowned = f"no {in_words(requirement.attribute)} for more than {told(running)}"
    reasons = (LOST, GAP, UNMAPPED, f"{NOT_DELIVERED}: {requirement.attribute}")
    worked = rows.filter(pl.col("in_state").fill_null(True) | pl.col("hidden"))["case"].unique()
    return decide(
        frame,
        [
            Rule(pl.col("why") == "", Status.DEVIATING, at="bad_at", detail=pl.lit(unowned)),
            *(Rule(pl.col("why") == why, Status.UNKNOWN, why, "bad_at", "late_from") for why in reasons),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN, recheck_at="maybe_late_from"),
            Rule(~pl.col("case").is_in(worked.implode()), Status.NOT_APPLICABLE, NOT_STARTED),
            Rule(ALWAYS, Status.CONFORMING, at="ended", recheck_at="maybe_late_from"),
        ],
    )


def _without_owner(history: History, requirement: Owned) -> pl.DataFrame:
    """The saves with ``until`` (ms), when what they show ended; whether the case was in work without an owner then,
    for ``certain`` or ``possible``; ``why`` it is not certain; ``hidden``: whether saves without a trace lie between.
    """
    of_case = history.cases[history.saves["nth"]].select("lost", "missed_after")
    rows = history.saves.select("case", "at", "missed", "first", "state", pl.col(requirement.attribute).alias("owner"))
    rows = pl.concat([rows, of_case], how="horizontal")
    in_state = pl.col("state").is_in(list(requirement.states))
    lost = pl.col("lost") & pl.col("first")
    cut = pl.when(IS_LAST).then("missed_after").otherwise(pl.col("missed").shift(-1)) > 0
    nobody = in_state & (pl.col("owner") == "")
    until = pl.when(IS_LAST).then(pl.lit(history.now, pl.Int64)).otherwise(pl.col("at").shift(-1))
    return rows.with_columns(
        until.alias("until"),
        in_state.alias("in_state"),
        (lost | cut).alias("hidden"),
        (nobody.fill_null(False) & ~lost & ~cut).alias("certain"),
        (nobody.fill_null(True) | lost | cut).alias("possible"),
        pl.when(lost)
        .then(pl.lit(LOST))
        .when(cut)
        .then(pl.lit(GAP))
        .when(in_state.is_null())
        .then(pl.lit(UNMAPPED))
        .otherwise(pl.lit(f"{NOT_DELIVERED}: {requirement.attribute}"))
        .alias("why"),
    )


def _stretches(rows: pl.DataFrame, flag: str, running: Clock) -> pl.DataFrame:
    """The stretches over which a flag holds: ``case``, ``passed`` the limit, ``deadline`` and ``overdue`` (ms, as for
    limits), ``why`` of the first doubtful save, ``last``: it goes on at ``now``.
    """
    begins = pl.col(flag) & (IS_FIRST | ~pl.col(flag).shift(1, fill_value=False))
    rows = rows.with_columns(begins.cum_sum().alias("_stretch"), IS_LAST.alias("last")).filter(flag)
    found = rows.group_by("_stretch", maintain_order=True).agg(
        pl.col("case", "at").first(),
        pl.col("until", "last").last(),
        pl.col("why").filter(~pl.col("certain")).first(),
    )
    limit = pl.Series([running.limit], dtype=pl.Int64).new_from_index(0, len(found))
    passed = running.between(found["at"], found["until"]) > running.limit
    return found.with_columns(
        passed.alias("passed"),
        running.after(found["at"], limit).alias("deadline"),
        running.after(found["at"], limit + 1).alias("overdue"),
    )
