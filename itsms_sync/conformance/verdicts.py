"""The words of a verdict and the way rules become verdicts. Shared by all checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

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
CUT = "short cut cannot be decided"
NO_PROCEDURE = "no procedure in force"

BY_SHORT_CUT = "short cut: "
NOT_REACHED = "gate not reached"
STILL_OPEN = "case still open"
RUNNING = "within the limit"
OTHER_PRIORITY = "another priority"
NEVER_RESOLVED = "never resolved"

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

NOTHING = pl.lit(None, pl.Int64)


@dataclass(frozen=True, slots=True)
class Rule:
    """The first rule whose condition is true decides."""

    when: pl.Expr
    status: Status
    reason: str | pl.Expr | None = None
    at: pl.Expr = NOTHING
    recheck_at: pl.Expr = NOTHING
    detail: pl.Expr | None = None


def decide(frame: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
    """Verdicts of the cases in ``frame`` (one row each): ``case, status, reason, at, recheck_at, detail``.

    The last rule must catch everything that is left; a condition that is null is not true.
    """
    text = pl.lit(None, pl.String)
    return frame.select(
        "case",
        _first_true(rules, [pl.lit(rule.status.value) for rule in rules], text).alias("status"),
        _first_true(rules, [_text(rule.reason) for rule in rules], text).alias("reason"),
        _first_true(rules, [rule.at for rule in rules], NOTHING).cast(pl.Int64).alias("at"),
        _first_true(rules, [rule.recheck_at for rule in rules], NOTHING).cast(pl.Int64).alias("recheck_at"),
        _first_true(rules, [text if r.detail is None else r.detail for r in rules], text).alias("detail"),
    )


def _text(value: str | pl.Expr | None) -> pl.Expr:
    return value if isinstance(value, pl.Expr) else pl.lit(value, pl.String)


def _first_true(rules: Sequence[Rule], values: Sequence[pl.Expr], otherwise: pl.Expr) -> pl.Expr:
    result = otherwise
    for rule, value in zip(reversed(rules), reversed(values), strict=True):
        result = pl.when(rule.when.fill_null(False)).then(value).otherwise(result)
    return result


ALWAYS = pl.lit(True)
