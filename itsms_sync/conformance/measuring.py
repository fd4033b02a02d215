"""Check of service levels: TI13 service level not measured.

Looks at what measures a case as it stands: a record that was attached late puts right that there was none, and one that
was cancelled counts no more. How the time ran out is another check's to tell.
"""

import polars as pl

from itsms_sync.conformance.clock import Clock
from itsms_sync.conformance.control_flow import COMPLETE_LOSS, with_gate
from itsms_sync.conformance.history import History
from itsms_sync.conformance.time import on_the_clock, told, with_deadline
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    CALENDAR,
    GAP,
    LEVEL,
    LEVEL_GONE,
    LOST,
    NO_ACTIVITY,
    NOT_DELIVERED,
    NOT_REACHED,
    RUNNING,
    STILL_OPEN,
    Rule,
    Status,
    decide,
)
from itsms_sync.procedures.model import Measured
from itsms_sync.sms.mapping import CANCELLED, COMPLETED, PAUSED, RUNS


def not_measured(history: History, requirement: Measured) -> pl.DataFrame:
    """TI13. The limit runs from the start of the requirement, and anew from when a record was cancelled: the tool needs
    a moment to attach the next one. A case whose history begins at the gate may never have been open.
    """
    frame = _with_levels(history, _with_start(history, requirement))
    running = history.clock(requirement.limit)
    measured = Rule(pl.col("measured"), Status.CONFORMING, at="measured_at")
    if running is None:
        rules = [*_not_begun(history, requirement), measured, Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "since")]
        return decide(frame, rules, judged_as_of="since")
    frame = with_deadline(frame, "from", running)
    limit = told(running)
    cancelled = pl.when("cancelled").then(
        pl.lit(f"the service level was cancelled, and no other one was attached within {limit}")
    )
    return decide(
        _with_work(history, frame, requirement, running),
        [
            *_not_begun(history, requirement),
            measured,
            *_stood_still(running),
            Rule(pl.col("untold"), Status.UNKNOWN, LEVEL, "since"),
            Rule(pl.col("vanished"), Status.UNKNOWN, LEVEL_GONE, "since"),
            Rule(pl.lit(history.now) < pl.col("overdue"), Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            *history.not_read("slas", "deadline"),
            Rule(pl.col("gate_row") == pl.col("first_row"), Status.UNKNOWN, LOST, "deadline"),
            Rule(
                ALWAYS,
                Status.DEVIATING,
                at="deadline",
                detail=cancelled.otherwise(pl.lit(f"no service level was attached within {limit}")),
            ),
        ],
        judged_as_of="since",
    )


def _with_start(history: History, requirement: Measured) -> pl.DataFrame:
    """The cases with their gate and ``since``: when what is to be measured began, or else when the case was given the
    priority that stands at its end.
    """
    frame = with_gate(history, requirement.gate)
    end = pl.coalesce("gate_row", "last_row")
    if requirement.after is not None:
        start = pl.col(f"done_{requirement.after}")
    elif "priority_row" in history.saves.columns:
        start = pl.lit(history.saves["priority_row"]).gather(end)
    else:
        start = pl.col("first_row")
    frame = frame.with_columns(start.alias("since_row"))
    return frame.with_columns(history.there("since_row", "at").alias("since"))


def _not_begun(history: History, requirement: Measured) -> list[Rule]:
    """Where nothing has to be measured yet."""
    name = requirement.after
    if name is None:
        return []
    if name in history.lacking:
        return [Rule(ALWAYS, Status.UNKNOWN, f"{NO_ACTIVITY}: {name}")]
    return [Rule(pl.col("since_row").is_null(), Status.NOT_APPLICABLE, NOT_REACHED)]


def _with_levels(history: History, frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` with what its service levels tell: ``measured`` (one runs, or has run) and ``measured_at``; ``still``
    (one stood still as long as it was there) and ``still_at``; ``cancelled``, ``untold`` (a stage is not known) and
    ``vanished`` (one did before it ended); ``from``: since when, in ms, another one has to be attached.
    """
    stage = pl.col("stage")
    lost = pl.col("gone") & stage.is_in([RUNS, PAUSED])
    stands = stage.is_in([RUNS, PAUSED, COMPLETED]) & ~lost
    idle = pl.col("idle").fill_null(False)
    cancelled = stage == CANCELLED
    found = history.log.slas.group_by("case").agg(
        (stands & ~idle).any().alias("measured"),
        pl.col("at").filter(stands & ~idle).min().alias("measured_at"),
        (stands & idle).any().alias("still"),
        pl.col("at").filter(stands & idle).min().alias("still_at"),
        cancelled.any().alias("cancelled"),
        pl.col("ended_at").filter(cancelled).max().alias("cancelled_at"),
        stage.is_null().any().alias("untold"),
        lost.any().alias("vanished"),
    )
    frame = frame.join(found, on="case", how="left", maintain_order="left")
    told = ("measured", "still", "cancelled", "untold", "vanished")
    return frame.with_columns(
        *(pl.col(name).fill_null(False) for name in told),
        pl.max_horizontal("since", "measured_at").alias("measured_at"),
        pl.max_horizontal("since", "cancelled_at").alias("from"),
    )


def _with_work(history: History, frame: pl.DataFrame, requirement: Measured, running: Clock) -> pl.DataFrame:
    """``frame`` with how much time passed, certainly (``worked``) and possibly (``possible``), in which a service level
    that stood still had to run (ms); null for cases without one.
    """
    still = frame.filter(pl.col("still") & ~pl.col("measured") & pl.col("since_row").is_not_null())
    rows = on_the_clock(history, still, requirement.pause, running)
    began = still.select("case", "still_at")
    nth = pl.lit(history.saves["case"]).gather(pl.col("row"))
    rows = rows.with_columns(nth.alias("case")).join(began, on="case", how="left", maintain_order="left")
    begin = rows.select(pl.max_horizontal("at", "still_at").clip(upper_bound=pl.col("until")).alias("at"))["at"]
    rows = rows.with_columns(running.between(begin, rows["until"]).alias("span"))
    worked = rows.group_by("case").agg(
        pl.col("span").filter("due").sum().alias("worked"), pl.col("span").filter("maybe_due").sum().alias("possible")
    )
    return frame.join(worked, on="case", how="left", maintain_order="left")


def _stood_still(running: Clock) -> list[Rule]:
    """A clock that stands still may still start, as long as the case is open."""
    still = pl.col("still")
    unsure = still & (pl.col("possible") > running.limit)
    return [
        Rule(still & pl.col("gate_row").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
        Rule(
            still & (pl.col("worked") > running.limit),
            Status.DEVIATING,
            at="gate_at",
            detail=pl.lit(f"the service level stood still through more than {told(running)} of work"),
        ),
        Rule(unsure & (pl.col("missed") > 0), Status.UNKNOWN, GAP, "gate_at"),
        Rule(unsure, Status.UNKNOWN, f"{NOT_DELIVERED}: pause", "gate_at"),
        Rule(still & COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
        Rule(still, Status.CONFORMING, at="gate_at"),
    ]
