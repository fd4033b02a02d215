"""Checks of dates that people write down: TI7 retroactive recording, TI10 plan overrun,
TI14 clock anomaly, TI15 lead time.

Planned dates are read as texts of the source, so that an empty one is told apart from one that is not known.
"""

from datetime import timedelta
from itertools import combinations

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, at_gate, untold, with_gate
from itsms_sync.conformance.history import History
from itsms_sync.conformance.time import told
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    CALENDAR,
    GAP,
    LOST,
    NO_DATES,
    NO_FIELD,
    NOT_DELIVERED,
    NOT_ENDED,
    NOT_PLANNED,
    RUNNING,
    Rule,
    Status,
    decide,
    in_words,
    phrase,
)
from itsms_sync.procedures.model import DatesInOrder, PlanKept, RecordedBeforeEnd, SubmittedInTime
from itsms_sync.sms.cases import instants


def submitted_late(history: History, requirement: SubmittedInTime) -> pl.DataFrame:
    """TI15. The plan counts as it stood when the work began: until then it may be moved."""
    frame = with_gate(history, [requirement.before]).with_columns(
        history.there("gate_row", requirement.planned).alias("plan"),
        pl.coalesce(history.there(f"done_{requirement.submitted}", "at"), "opened").alias("submitted_at"),
    )
    frame = frame.with_columns(instants(pl.col("plan")).alias("planned_at"))
    rules = [
        *at_gate(history, [requirement.before]),
        Rule(pl.col("plan") == "", Status.NOT_APPLICABLE, NOT_PLANNED),
        Rule(pl.col("planned_at").is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {requirement.planned}", "gate_at"),
    ]
    running = history.clock(requirement.limit)
    if running is None:
        return decide(frame, [*rules, Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "gate_at")], judged_as_of="gate_at")
    limit = pl.Series([running.limit], dtype=pl.Int64).new_from_index(0, len(frame))
    earliest = running.after(frame["submitted_at"], limit)
    # A plan may say any year; only what lies between submission and the earliest start is measured.
    planned = frame.select(pl.col("planned_at").clip("submitted_at", earliest))["planned_at"]
    took = running.between(frame["submitted_at"], planned)
    frame = frame.with_columns(earliest.alias("earliest"), running.after(frame["opened"], limit).alias("at_best"))
    frame = frame.with_columns(took.alias("took"))
    # Nothing was submitted before it was opened, whatever is hidden.
    short, anyway = pl.col("planned_at") < pl.col("earliest"), pl.col("planned_at") < pl.col("at_best")
    lead = phrase(pl.col("took") // 3_600_000, " h ", pl.col("took") // 60_000 % 60, f" min{running.kind}")
    called = in_words(requirement.planned)
    return decide(
        frame,
        [
            *rules,
            *_submitted_earlier(history, requirement.submitted, short & ~anyway),
            Rule(
                short,
                Status.DEVIATING,
                at="gate_at",
                detail=phrase("submitted ", lead, f" before the {called}, {told(running)} are wanted"),
            ),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
            Rule(ALWAYS, Status.CONFORMING, at="gate_at"),
        ],
        judged_as_of="gate_at",
    )


def _submitted_earlier(history: History, activity: str, when: pl.Expr) -> list[Rule]:
    """It may have been submitted earlier than can be seen."""
    row = f"done_{activity}"
    return [
        Rule(
            when & (pl.col(row).is_null() | (pl.col(f"untold_{activity}") < pl.col(row))),
            Status.UNKNOWN,
            untold(history, activity),
            "gate_at",
        ),
        Rule(when & (history.missed_at(row) > 0), Status.UNKNOWN, GAP, "gate_at"),
    ]


def dates_out_of_order(history: History, requirement: DatesInOrder) -> pl.DataFrame:
    """TI14. Judges the instants as they stand; one that lies ahead is looked at when it has come."""
    skew = requirement.skew // timedelta(milliseconds=1)
    at = {name: pl.when(pl.col(name) <= history.now).then(pl.col(name)) for name in requirement.order}
    later = [pl.when(pl.col(name) > history.now).then(pl.col(name)) for name in requirement.order]
    told = [name for name in requirement.order if name != "opened"]
    wrong = [
        pl.when(at[after] < at[before] - skew).then(pl.lit(f"{in_words(after)} lies before {in_words(before)}"))
        for before, after in combinations(requirement.order, 2)
    ]
    last = history.there("last_row", "at")
    beyond = [
        pl.when(at[name] > last + skew).then(pl.lit(f"{in_words(name)} lies after the last save")) for name in told
    ]
    frame = history.cases.with_columns(
        pl.coalesce(*wrong).alias("wrong"),
        pl.coalesce(*beyond).alias("beyond"),
        pl.all_horizontal(*(at[name].is_null() for name in told)).alias("undated"),
        pl.min_horizontal(*later).alias("ahead"),
    )
    return decide(
        frame,
        [
            Rule(pl.col("wrong").is_not_null(), Status.DEVIATING, at="opened", detail=pl.col("wrong")),
            Rule(pl.col("beyond").is_not_null() & (pl.col("missed_after") > 0), Status.UNKNOWN, GAP, "opened"),
            Rule(pl.col("beyond").is_not_null(), Status.DEVIATING, at="opened", detail=pl.col("beyond")),
            Rule(pl.col("undated"), Status.NOT_APPLICABLE, NO_DATES, recheck_at="ahead"),
            Rule(ALWAYS, Status.CONFORMING, at="opened", recheck_at="ahead"),
        ],
    )


def recorded_late(history: History, requirement: RecordedBeforeEnd) -> pl.DataFrame:
    """TI7. The end counts as it stands; what was put right is right. A record is opened no later than it is made."""
    name = requirement.ended
    if name not in history.log.saves.columns:
        return decide(history.cases, [Rule(ALWAYS, Status.NOT_APPLICABLE, f"{NO_FIELD}: {name}")])
    frame = history.cases.with_columns(instants(pl.col(name)).alias("ended_at"))
    before = pl.col("opened") - pl.col("ended_at")
    late = phrase("recorded ", before // 3_600_000, " h ", before // 60_000 % 60, " min after the work had ended")
    return decide(
        frame,
        [
            Rule(pl.col(name) == "", Status.NOT_APPLICABLE, NOT_ENDED),
            Rule(pl.col("ended_at").is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "opened"),
            Rule(before > 0, Status.DEVIATING, at="opened", detail=late),
            Rule(ALWAYS, Status.CONFORMING, at="opened"),
        ],
    )


def plan_missed(history: History, requirement: PlanKept) -> pl.DataFrame:
    """TI10. The plan counts as it stood when the work began: moving it before is scheduling, moving it afterwards hides
    nothing. That the work began is seen at the latest when it is said; that it ended, too.
    """
    frame = _with_plan(history, with_gate(history, [requirement.start]), requirement)
    early, late = pl.col("gate_at") < pl.col("not_before"), pl.col("over_at") > pl.col("not_after")
    ahead, behind = pl.col("plan_start") - pl.col("gate_at"), pl.col("over_at") - pl.col("plan_end")
    over = pl.col("over_row").is_not_null()
    share = f"{requirement.overrun:.0%}"
    return decide(
        frame,
        [
            *at_gate(history, [requirement.start]),
            Rule((pl.col("start_text") == "") | (pl.col("end_text") == ""), Status.NOT_APPLICABLE, NOT_PLANNED),
            Rule(
                pl.col("plan_start").is_null(),
                Status.UNKNOWN,
                f"{NOT_DELIVERED}: {requirement.planned_start}",
                "gate_at",
            ),
            Rule(
                pl.col("plan_end").is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {requirement.planned_end}", "gate_at"
            ),
            *_hidden_work(history, requirement, early | late),
            Rule(early, Status.DEVIATING, at="gate_at", detail=_by("began", ahead, "before the planned start")),
            Rule(late & over, Status.DEVIATING, at="not_after", detail=_by("ended", behind, "after the planned end")),
            Rule(
                late,
                Status.DEVIATING,
                at="not_after",
                detail=pl.lit(f"not ended when the planned time was exceeded by {share}"),
            ),
            Rule(over, Status.CONFORMING, at="over_at"),
            Rule(ALWAYS, Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
        ],
        judged_as_of="gate_at",
    )


def _with_plan(history: History, frame: pl.DataFrame, requirement: PlanKept) -> pl.DataFrame:
    """``frame`` with the plan and ``not_before``, ``not_after`` and ``overdue`` (ms) that it allows; ``over_row`` and
    ``over_at``: when the work ended, or that it goes on now.
    """
    # What is done before the work begins does not end it.
    ends = [pl.col(f"done_{name}") for name in requirement.over]
    frame = frame.with_columns(
        history.there("gate_row", requirement.planned_start).alias("start_text"),
        history.there("gate_row", requirement.planned_end).alias("end_text"),
        pl.min_horizontal(*(pl.when(row > pl.col("gate_row")).then(row) for row in ends)).alias("over_row"),
    )
    frame = frame.with_columns(
        instants(pl.col("start_text")).alias("plan_start"),
        instants(pl.col("end_text")).alias("plan_end"),
        history.there("over_row", "at").fill_null(history.now).alias("over_at"),
    )
    more = (pl.col("plan_end") - pl.col("plan_start")).clip(lower_bound=0) * requirement.overrun
    frame = frame.with_columns(
        (pl.col("plan_start") - requirement.early // timedelta(milliseconds=1)).alias("not_before"),
        (pl.col("plan_end") + more.cast(pl.Int64)).alias("not_after"),
    )
    return frame.with_columns((pl.col("not_after") + 1).alias("overdue"))


def _hidden_work(history: History, requirement: PlanKept, when: pl.Expr) -> list[Rule]:
    """Where the work may have begun or ended earlier than can be seen."""
    end = pl.coalesce("over_row", "last_row")
    missed = history.there("over_row", "missed_until").fill_null(history.there("last_row", "missed_until"))
    after = pl.col("over_row").is_null() & (pl.col("missed_after") > 0)
    gap = (missed > history.there("first_row", "missed_until")) | after
    unclear = [pl.col(f"untold_{name}") <= end for name in (requirement.start, *requirement.over)]
    return [
        Rule(when & COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
        Rule(when & pl.any_horizontal(*unclear).fill_null(False), Status.UNKNOWN, NOT_DELIVERED, "gate_at"),
        Rule(when & (gap | history.there("over_row", "vague").fill_null(False)), Status.UNKNOWN, GAP, "gate_at"),
    ]


def _by(verb: str, millis: pl.Expr, of: str) -> pl.Expr:
    return phrase(f"{verb} ", millis // 3_600_000, " h ", millis // 60_000 % 60, f" min {of}")
