"""Checks of links: LI1 not linked in time, LI4 failure without review, LI9 not linked at the gate.

A link counts if it stands at ``now``, to whatever end: also after the gate it puts right what was missing, except where
the procedure sets a limit. A link to a case that was cancelled is none.
"""

from collections.abc import Sequence

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, at_gate, untold, with_gate
from itsms_sync.conformance.history import History
from itsms_sync.conformance.time import told, with_deadline
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    CALENDAR,
    GAP,
    LOST,
    NOT_DELIVERED,
    RUNNING,
    TASK,
    Rule,
    Status,
    decide,
    in_words,
)
from itsms_sync.procedures.model import LinkedAtGate, LinkedInTime, Reviewed

CANCELLED = "cancelled"
ELSEWHERE = "_elsewhere"
"""Ending of a role whose records are in another system; to people it is the same role."""
MEANT = {"trigger": "incident or problem that called for it"}
"""What records of a role are, where its name does not say it."""


def linked_late(history: History, requirement: LinkedInTime) -> pl.DataFrame:
    """LI1. A link of which it is not known when it was made counts as made in time."""
    frame = _with_links(history, with_gate(history, [requirement.after]), requirement.roles, requirement.via)
    frame = frame.with_columns(pl.max_horizontal("gate_at", "linked_at").alias("settled_at"))
    running = history.clock(requirement.limit)
    if running is None:
        rules = [*at_gate(history, [requirement.after]), Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "gate_at")]
        return decide(frame, rules, judged_as_of="gate_at")
    frame = with_deadline(frame, "gate_at", running)
    named, since = _named(requirement.roles), f"{told(running)} after {history.procedure.called(requirement.after)}"
    late = pl.when("linked").then(pl.lit(f"the {named} was linked later than {since}"))
    # The limit began to run earlier than is seen where an earlier beginning is hidden.
    after_begin = pl.col("linked_at") > pl.col("gate_at")
    return decide(
        frame,
        [
            *at_gate(history, [requirement.after]),
            *_hidden_begin(history, requirement.after, after_begin),
            Rule(pl.col("linked") & pl.col("linked_at").is_null(), Status.CONFORMING, at="gate_at"),
            Rule(pl.col("linked_at") < pl.col("overdue"), Status.CONFORMING, at="settled_at"),
            Rule(pl.lit(history.now) < pl.col("overdue"), Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            *history.not_read("links", "deadline", (*requirement.roles, *requirement.via)),
            Rule(
                ALWAYS,
                Status.DEVIATING,
                at="deadline",
                detail=late.otherwise(pl.lit(f"no {named} was linked within {since}")),
            ),
        ],
        judged_as_of="gate_at",
    )


def not_linked(history: History, requirement: LinkedAtGate) -> pl.DataFrame:
    """LI9."""
    frame = _with_links(history, with_gate(history, requirement.gate), requirement.roles, requirement.via)
    frame = frame.with_columns(pl.max_horizontal("gate_at", "linked_at").alias("settled_at"))
    missing = f"no {_named(requirement.roles)} is linked"
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(pl.col("linked"), Status.CONFORMING, at="settled_at"),
            *history.not_read("links", "gate_at", (*requirement.roles, *requirement.via)),
            Rule(ALWAYS, Status.DEVIATING, at="gate_at", detail=pl.lit(missing)),
        ],
        judged_as_of="gate_at",
    )


def _named(roles: Sequence[str]) -> str:
    """What the other record is, as people say it."""
    names = dict.fromkeys(role.removesuffix(ELSEWHERE) for role in roles)
    return " or ".join(MEANT.get(name, in_words(name)) for name in names)


def _hidden_begin(history: History, activity: str, when: pl.Expr) -> list[Rule]:
    earlier = pl.col(f"untold_{activity}") < pl.col("gate_row")
    return [
        Rule(when & COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
        Rule(when & earlier, Status.UNKNOWN, untold(history, activity), "gate_at"),
        Rule(when & (history.missed_at("gate_row") > 0), Status.UNKNOWN, GAP, "gate_at"),
    ]


def _with_links(history: History, frame: pl.DataFrame, roles: Sequence[str], via: Sequence[str]) -> pl.DataFrame:
    """``frame`` with ``linked``: whether the case has such a link, and ``linked_at``: when the first was made (ms),
    null if one of them may have been there always.
    """
    reached = pl.col("via").is_null() | pl.col("via").is_in(list(via))
    counts = ~(pl.col("state") == CANCELLED).fill_null(False)
    links = history.log.links.filter(pl.col("role").is_in(list(roles)) & reached & counts)
    first = links.group_by("case").agg(
        pl.lit(True).alias("linked"),
        pl.when(pl.col("at").null_count() == 0).then(pl.col("at").min()).alias("linked_at"),
    )
    frame = frame.join(first, on="case", how="left", maintain_order="left")
    return frame.with_columns(pl.col("linked").fill_null(False))


def not_reviewed(history: History, requirement: Reviewed) -> pl.DataFrame:
    """LI4. Judged as it stands: a review after the gate puts right that there was none."""
    frame = _with_reviews(history, with_gate(history, requirement.gate), requirement)
    fields = requirement.fields
    filled = pl.any_horizontal(pl.lit(False), *(pl.col(name) != "" for name in fields))
    first = pl.min_horizontal("reviewed_at", *(_filled_since(history, name) for name in fields))
    frame = frame.with_columns(pl.max_horizontal("gate_at", first).alias("settled_at"))
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(pl.col("reviewed") | filled, Status.CONFORMING, at="settled_at"),
            *(history.not_read("tasks", "gate_at") if requirement.tasks else ()),
            Rule(pl.col("perhaps"), Status.UNKNOWN, TASK, "gate_at"),
            *(Rule(pl.col(name).is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "gate_at") for name in fields),
            Rule(ALWAYS, Status.DEVIATING, at="gate_at", detail=pl.lit("no review is recorded")),
        ],
        judged_as_of="gate_at",
    )


def _with_reviews(history: History, frame: pl.DataFrame, requirement: Reviewed) -> pl.DataFrame:
    """``frame`` with ``reviewed``: whether a task of review is done, ``reviewed_at``: when the first was (ms, or null),
    and ``perhaps``: whether a task may be one.
    """
    meant, done = pl.col("type").is_in(list(requirement.tasks)), pl.col("state") == "done"
    review = (meant & done).fill_null(False)
    facts = history.log.tasks.group_by("case").agg(
        review.any().alias("reviewed"),
        pl.col("ended_at").filter(review).min().alias("reviewed_at"),
        (meant & done).is_null().any().alias("perhaps"),
    )
    frame = frame.join(facts, on="case", how="left", maintain_order="left")
    return frame.with_columns(pl.col("reviewed", "perhaps").fill_null(False))


def _filled_since(history: History, name: str) -> pl.Expr:
    """Since when (ms) the field holds something."""
    blank = pl.col(name).fill_null("") == ""
    begins = ~blank & (pl.col("first") | blank.shift(1))
    since = history.saves.select(pl.when(begins).then("row").forward_fill().alias("since"))["since"]
    row = pl.when(pl.col(name) != "").then(pl.lit(since).gather(pl.col("last_row")))
    return pl.lit(history.saves["at"]).gather(row)
