"""Checks of the control flow: CF1 skipped step, CF2 forbidden transition, CF5 reopen."""

from collections.abc import Iterable

import polars as pl

from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    BY_SHORT_CUT,
    COUNTER,
    CUT,
    GAP,
    LOST,
    NEVER_RESOLVED,
    NOT_DELIVERED,
    NOT_REACHED,
    STILL_OPEN,
    UNMAPPED,
    Rule,
    Status,
    decide,
)
from itsms_sync.procedures.model import DocumentedTransitions, NotReopened, ShortCut, StepDone
from itsms_sync.sms.cases import IS_FIRST

COMPLETE_LOSS = pl.col("lost")
MISSED = pl.col("missed") > 0
NO_PREFERENCE = pl.lit(0).alias("preference")
PAIR = pl.concat_str("previous", pl.lit(" -> "), "state").alias("pair")


def with_gate(history: History, activities: Iterable[str]) -> pl.DataFrame:
    """The cases, with the save with which the first of these activities happens: ``gate_row, gate_at``."""
    gate = pl.min_horizontal(*(f"done_{name}" for name in activities)).alias("gate_row")
    frame = history.cases.with_columns(gate)
    return frame.with_columns(history.there("gate_row", "at").alias("gate_at"))


def skipped_step(history: History, requirement: StepDone) -> pl.DataFrame:
    """CF1. A step that is absent where saves are missing, or before a history that starts late, is unknown."""
    procedure = history.procedure
    step = procedure.step(requirement.step)
    cuts = [cut for cut in procedure.short_cuts if requirement.step in cut.skips]
    by_gate = pl.col("gate_row")
    return decide(
        with_gate(history, requirement.gate),
        [
            Rule(by_gate.is_null(), Status.NOT_APPLICABLE, NOT_REACHED),
            Rule(pl.col(f"done_{step.activity}") <= by_gate, Status.CONFORMING, at="gate_at"),
            *(Rule(pl.col(f"cut_{c.id}"), Status.NOT_APPLICABLE, BY_SHORT_CUT + c.title) for c in cuts),
            *(Rule(pl.col(f"cut_{c.id}").is_null(), Status.UNKNOWN, CUT, "gate_at") for c in cuts),
            Rule(pl.col(f"untold_{step.activity}") <= by_gate, Status.UNKNOWN, NOT_DELIVERED, "gate_at"),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
            Rule(history.missed_at("gate_row") > 0, Status.UNKNOWN, GAP, "gate_at"),
            Rule(ALWAYS, Status.DEVIATING, at="gate_at", detail=pl.lit(f"{step.id} {step.title} did not happen")),
        ],
        judged_as_of="gate_at",
    )


def forbidden_transition(history: History, requirement: DocumentedTransitions) -> pl.DataFrame:
    """CF2. A step across missing saves may hide states in between and proves nothing."""
    del requirement
    procedure = history.procedure
    documented = pl.any_horizontal(
        pl.lit(False),
        *(
            (pl.col("previous") == start) & pl.col("state").is_in(list(ends))
            for start, ends in procedure.flow.edges.items()
        ),
    )
    known = pl.col("previous").is_not_null() & pl.col("state").is_not_null()
    moves = history.states.filter(~pl.col("first") & (pl.col("missed") == 0) & known & ~documented).with_columns(PAIR)
    moves = moves.with_columns(
        pl.lit(history.cases[f"cut_{cut.id}"]).gather("nth").alias(f"cut_{cut.id}") for cut in procedure.short_cuts
    )
    allowed = _allowed(procedure.short_cuts)
    moves = moves.filter(~allowed.fill_null(False)).with_columns(allowed.is_null().alias("undecided"))
    # A move that no short cut can excuse is certain, whatever else cannot be decided.
    found = moves.select("case", "at", "pair", "undecided", pl.col("undecided").cast(pl.Int32).alias("preference"))
    return decide(
        history.with_first(found),
        [
            Rule(pl.col("undecided"), Status.UNKNOWN, CUT, "bad_at"),
            Rule(pl.col("pair").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("pair")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, "ended"),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
            Rule(MISSED, Status.UNKNOWN, GAP, "ended"),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )


def _allowed(cuts: Iterable[ShortCut]) -> pl.Expr:
    """Whether a short cut allows the move; null if that cannot be told."""
    allowed = [
        pl.col(f"cut_{cut.id}") & pl.col("pair").is_in([f"{edge.source} -> {edge.target}" for edge in cut.allows])
        for cut in cuts
    ]
    return pl.any_horizontal(pl.lit(False), *allowed)


def reopened(history: History, requirement: NotReopened) -> pl.DataFrame:
    """CF5. Where saves are missing, the tool's own counter (if the mapping has one) is the second witness."""
    done = history.resolved
    # A state that is not known does not undo that the case was resolved before and is not so after it.
    known = history.states
    if known["state"].null_count():
        known = known.filter(pl.col("state").is_not_null())
        known = known.with_columns(pl.when(~IS_FIRST).then(pl.col("state").shift(1)).alias("previous"))
    back = known.filter(pl.col("previous").is_in(done) & ~pl.col("state").is_in(done))
    frame = history.with_first(back.select("case", "at", PAIR, NO_PREFERENCE))
    counted = pl.col(requirement.counter) if requirement.counter is not None else pl.lit(None, pl.Float64)
    return decide(
        frame,
        [
            Rule(pl.col("pair").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("pair")),
            Rule(pl.col("stop_row").is_null(), Status.NOT_APPLICABLE, NEVER_RESOLVED),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(counted == 0, Status.CONFORMING, at="ended"),
            Rule(counted > 0, Status.UNKNOWN, COUNTER, "ended"),
            Rule(pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, "ended"),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
            Rule(MISSED, Status.UNKNOWN, GAP, "ended"),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )
