"""Checks of the control flow: CF1 skipped step, CF2 forbidden transition, CF5 reopen."""

import polars as pl

from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    BY_SHORT_CUT,
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

COMPLETE_LOSS = pl.col("lost")
MISSED = pl.col("missed") > 0


def gate(history: History, activities: tuple[str, ...]) -> pl.DataFrame:
    """Per case, the save with which the first of these activities happens: ``gate_row, gate_at,
    gate_missed_so_far``.
    """
    happens = pl.any_horizontal(pl.col(f"is_{name}") for name in activities)
    return history.first(happens, "row", "at", "missed_so_far", prefix="gate")


def skipped_step(history: History, requirement: StepDone) -> pl.DataFrame:
    """CF1. A step that is absent where saves are missing, or before a history that starts late, is unknown."""
    procedure = history.procedure
    step = procedure.step(requirement.step)
    happens = pl.col(f"is_{step.activity}")
    frame = history.with_cases(
        gate(history, requirement.gate),
        history.first(happens, "row", prefix="done"),
        history.first(happens.is_null(), "row", prefix="untold"),
    )
    cuts = [cut for cut in procedure.short_cuts if requirement.step in cut.skips]
    by_gate = pl.col("gate_row")
    return decide(
        frame,
        [
            Rule(by_gate.is_null(), Status.NOT_APPLICABLE, NOT_REACHED),
            Rule(pl.col("done_row") <= by_gate, Status.CONFORMING, at=pl.col("gate_at")),
            *(Rule(pl.col(f"cut_{c.id}"), Status.NOT_APPLICABLE, BY_SHORT_CUT + c.title) for c in cuts),
            *(Rule(pl.col(f"cut_{c.id}").is_null(), Status.UNKNOWN, CUT, pl.col("gate_at")) for c in cuts),
            Rule(pl.col("untold_row") <= by_gate, Status.UNKNOWN, NOT_DELIVERED, pl.col("gate_at")),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, pl.col("gate_at")),
            Rule(pl.col("gate_missed_so_far") > 0, Status.UNKNOWN, GAP, pl.col("gate_at")),
            Rule(
                ALWAYS, Status.DEVIATING, at=pl.col("gate_at"), detail=pl.lit(f"{step.id} {step.title} did not happen")
            ),
        ],
    )


def forbidden_transition(history: History, requirement: DocumentedTransitions) -> pl.DataFrame:
    """CF2. A step across missing saves may hide states in between and proves nothing."""
    del requirement
    flow = history.procedure.flow
    pair = pl.concat_str(pl.col("previous"), pl.lit(" -> "), pl.col("state"))
    documented = [f"{source} -> {target}" for source, targets in flow.edges.items() for target in targets]
    moves = history.saves.filter(
        ~pl.col("first") & (pl.col("state") != pl.col("previous")) & (pl.col("missed") == 0)
    ).with_columns(pair.alias("pair"))
    moves = moves.filter(~pl.col("pair").is_in(documented))
    moves = moves.join(history.cases.select("case", "^cut_.*$"), on="case", how="left", maintain_order="left")
    moves = moves.filter(~_allowed(history.procedure.short_cuts))
    found = moves.unique("case", keep="first", maintain_order=True).select(
        "case",
        pl.col("at").alias("bad_at"),
        pl.col("pair"),
        _undecided(history.procedure.short_cuts).alias("undecided"),
    )
    frame = history.with_cases(found, history.first(pl.col("state").is_null(), "row", prefix="untold"))
    return decide(
        frame,
        [
            Rule(pl.col("undecided"), Status.UNKNOWN, CUT, pl.col("bad_at")),
            Rule(pl.col("pair").is_not_null(), Status.DEVIATING, at=pl.col("bad_at"), detail=pl.col("pair")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(pl.col("untold_row").is_not_null(), Status.UNKNOWN, UNMAPPED, pl.col("ended")),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, pl.col("ended")),
            Rule(MISSED, Status.UNKNOWN, GAP, pl.col("ended")),
            Rule(ALWAYS, Status.CONFORMING, at=pl.col("ended")),
        ],
    )


def _allowed(cuts: tuple[ShortCut, ...]) -> pl.Expr:
    allowed = [
        pl.col(f"cut_{cut.id}") & pl.col("pair").is_in([f"{edge.source} -> {edge.target}" for edge in cut.allows])
        for cut in cuts
    ]
    return pl.any_horizontal(*allowed).fill_null(False) if allowed else pl.lit(False)


def _undecided(cuts: tuple[ShortCut, ...]) -> pl.Expr:
    undecided = [
        pl.col(f"cut_{cut.id}").is_null()
        & pl.col("pair").is_in([f"{edge.source} -> {edge.target}" for edge in cut.allows])
        for cut in cuts
    ]
    return pl.any_horizontal(*undecided) if undecided else pl.lit(False)


def reopened(history: History, requirement: NotReopened) -> pl.DataFrame:
    """CF5. Where saves are missing, the tool's own counter (if the mapping has one) is the second witness."""
    done = history.resolved
    back = pl.col("previous").is_in(done) & ~pl.col("state").is_in(done)
    pair = pl.concat_str(pl.col("previous"), pl.lit(" -> "), pl.col("state"))
    found = history.saves.filter(back.fill_null(False)).with_columns(pair.alias("pair"))
    found = found.unique("case", keep="first", maintain_order=True).select("case", pl.col("at").alias("bad_at"), "pair")
    frame = history.with_cases(found, history.first(pl.col("state").is_in(done), "at", prefix="resolved"))
    counted = pl.col(requirement.counter) if requirement.counter is not None else pl.lit(None, pl.Float64)
    return decide(
        frame,
        [
            Rule(pl.col("pair").is_not_null(), Status.DEVIATING, at=pl.col("bad_at"), detail=pl.col("pair")),
            Rule(pl.col("resolved_at").is_null(), Status.NOT_APPLICABLE, NEVER_RESOLVED),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(counted == 0, Status.CONFORMING, at=pl.col("ended")),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, pl.col("ended")),
            Rule(MISSED, Status.UNKNOWN, GAP, pl.col("ended")),
            Rule(ALWAYS, Status.CONFORMING, at=pl.col("ended")),
        ],
    )
