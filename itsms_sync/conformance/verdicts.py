"""The words of a verdict and the way rules become verdicts. Shared by all checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from operator import or_

import polars as pl


class Status(StrEnum):
    CONFORMING = "conforming"
    DEVIATING = "deviating"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not_applicable"


LOST = "history lost before the first row"
GAP = "gap: saves without history"
CALENDAR = "calendar: the limit runs on a business calendar"
NOT_DELIVERED = "value not known"
UNMAPPED = "state not known"
ACTOR = "actor not known"
CLOCK = "clock went back"
COUNTER = "the counter of reopenings tells of more than the history"
CUT = "short cut cannot be decided"
NO_PROCEDURE = "no procedure in force"
NOT_READ = "not read"
"""Prefix of the reason where parts of a case could not be read completely: absence says nothing then."""
NO_ACTIVITY = "no activity in this source"
UNDECIDED = "whether it applies cannot be told"
APPROVER = "approver not known"
APPROVAL = "stage or decision of an approval not known"
APPROVED_WHEN = "time of the approval not known"
FOR_ANOTHER = "a person concerned wrote the approval of another"
REQUESTER = "who asked for it is not known"
IMPLEMENTER = "who implemented it is not known"
TASK = "type or state of a task not known"
CHILD = "state of a linked case not known"
NO_TRACK = "no documented track"
COPIED = "filled in by a system account, perhaps as a copy"
LINKED_WHEN = "time of the link not known"
LEVEL = "stage of a service level not known"
LEVEL_GONE = "a service level vanished from its source before it ended"
OTHER_STATE = "state of the other record not known"
GONE = "no longer shown by the source: "
"""Prefix of the reason where a case vanished from its source before the answer was known."""

BY_SHORT_CUT = "short cut: "
NOT_REACHED = "gate not reached"
STILL_OPEN = "case still open"
RUNNING = "within the limit"
OTHER_PRIORITY = "another priority"
NEVER_RESOLVED = "never resolved"
DOES_NOT_APPLY = "does not apply"
NO_APPROVAL = "no approval was given"
NOT_APPROVED = "not approved"
NOT_STARTED = "work not started"
NOT_CLOSED = "not closed"
NO_CHILDREN = "nothing belongs to it"
BY_SYSTEM = "resolved by a system account"
WITH_ANOTHER = "resolved together with another case"
NOBODY_ASKED = "nobody was asked to approve"
BY_WORKFLOW = "cancelled by a workflow, not by a person"
NEVER_FILLED = "never filled in"
NOT_WAITING = "does not wait"
NO_COUNTERPART = "no record in another system"
NOT_REVIEWED = "closed without a review"
NEVER_THERE = "never in such a state"
NO_FIELD = "the source has no such field"
NOT_ENDED = "no end is written down"
NO_DATES = "no dates to compare"
NOT_PLANNED = "nothing was planned"

VERDICTS = {
    "case": pl.UInt32,
    "requirement": pl.String,
    "check": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "at": pl.Int64,
    "recheck_at": pl.Int64,
    "detail": pl.String,
}
"""A verdict: ``at`` is the instant of the fact that settles it, ``recheck_at`` the first instant at which it can change
without a new fact (both ms, or null), ``detail`` what happened, in the mapping's words."""

ALWAYS = pl.lit(True)


def phrase(*parts: str | pl.Expr) -> pl.Expr:
    """One text of words and columns; null if one of the columns is."""
    # pl.format would read better, but polars 2.1 panics in it where a filter has emptied the first chunk of a column.
    return pl.concat_str(pl.lit(part) if isinstance(part, str) else part for part in parts)


def in_words(name: str) -> str:
    """The name of an attribute, an activity or a role as people read it."""
    return name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Rule:
    """The first rule whose condition is true decides. ``at`` and ``recheck_at`` name columns of the frame."""

    when: pl.Expr
    status: Status
    reason: str | None = None
    at: str | None = None
    recheck_at: str | None = None
    detail: pl.Expr | None = None


def decide(frame: pl.DataFrame, rules: Sequence[Rule], judged_as_of: str = "opened") -> pl.DataFrame:
    """Verdicts of the cases in ``frame`` (one row each): ``case, status, reason, at, recheck_at, detail`` and
    ``instant``, which tells the version in force: the column ``judged_as_of``, else ``at``, else when the case opened.

    The last rule must catch everything that is left; a condition that is null is not true.
    """
    which = pl.lit(len(rules), pl.UInt32)
    for number, rule in reversed(list(enumerate(rules))):
        which = pl.when(rule.when).then(pl.lit(number, pl.UInt32)).otherwise(which)
    frame = frame.with_columns(which.alias("_rule"))
    at = _stamp(rules, [rule.at for rule in rules])
    # one after the other: threads for these columns cost more than they save, of however many cases
    return frame.select_seq(
        "case",
        _of_rule([rule.status.value for rule in rules]).alias("status"),
        _of_rule([rule.reason for rule in rules]).alias("reason"),
        at.alias("at"),
        _stamp(rules, [rule.recheck_at for rule in rules]).alias("recheck_at"),
        _details(frame, rules).alias("detail"),
        (at if judged_as_of == "opened" else pl.col(judged_as_of)).fill_null(pl.col("opened")).alias("instant"),
    )


def _of_rule(texts: Sequence[str | None]) -> pl.Expr:
    return pl.lit(pl.Series(texts, dtype=pl.String)).gather(pl.col("_rule"))


def _stamp(rules: Sequence[Rule], columns: Sequence[str | None]) -> pl.Expr:
    result = pl.lit(None, pl.Int64)
    for column in sorted({name for name in columns if name is not None}):
        # a list in ``is_in`` takes longer than the few rules of a column one by one
        here = reduce(or_, (pl.col("_rule") == number for number in range(len(rules)) if columns[number] == column))
        result = pl.when(here).then(pl.col(column)).otherwise(result)
    return result


def _details(frame: pl.DataFrame, rules: Sequence[Rule]) -> pl.Series:
    """Few cases have details, and putting text together is slow: it is done for these only."""
    told = pl.Series([None], dtype=pl.String).new_from_index(0, len(frame))
    which = frame["_rule"]
    for number, detail in [(number, rule.detail) for number, rule in enumerate(rules) if rule.detail is not None]:
        rows = (which == number).arg_true()
        if len(rows):
            texts = frame[rows].select(detail.cast(pl.String))
            told = told.scatter(rows, texts.to_series())
    return told
