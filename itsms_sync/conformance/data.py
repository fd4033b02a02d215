"""Checks of the data: DA1 closure data, DA6 priority matrix."""

import polars as pl

from itsms_sync.conformance.control_flow import at_gate, with_gate
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import ALWAYS, NOT_DELIVERED, Rule, Status, decide, in_words, phrase
from itsms_sync.procedures.model import FieldAtGate, PriorityByMatrix


def field_at_gate(history: History, requirement: FieldAtGate) -> pl.DataFrame:
    """DA1. The field is judged as it stood after the save that reached the gate, not as it was filled in later."""
    value = history.there("gate_row", requirement.field)
    return decide(
        with_gate(history, requirement.gate),
        [
            *at_gate(history, requirement.gate),
            Rule(value.is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {requirement.field}", "gate_at"),
            Rule(value == "", Status.DEVIATING, at="gate_at", detail=pl.lit(f"no {in_words(requirement.field)}")),
            Rule(ALWAYS, Status.CONFORMING, at="gate_at"),
        ],
        judged_as_of="gate_at",
    )


def priority_by_matrix(history: History, requirement: PriorityByMatrix) -> pl.DataFrame:
    """DA6. Judges the values as they stand; an empty or unknown input decides nothing."""
    inputs = ("impact", "urgency", "priority")
    changed = pl.any_horizontal("first", *(pl.col(n).ne_missing(pl.col(n).shift(1)) for n in inputs))
    since = history.saves.select(pl.when(changed).then("row").forward_fill().alias("since_row"))["since_row"]
    frame = history.cases.with_columns(pl.lit(since).gather(pl.col("last_row")).alias("since_row"))
    pairs = {f"{i}/{u}": p for i, row in requirement.matrix.items() for u, p in row.items()}
    expected = pl.concat_str("impact", pl.lit("/"), "urgency").replace_strict(
        list(pairs), list(pairs.values()), default=None, return_dtype=pl.String
    )
    frame = frame.with_columns(history.there("since_row", "at").alias("since"), expected.alias("expected"))
    empty = pl.any_horizontal(pl.col(n).is_null() | (pl.col(n) == "") for n in inputs)
    found = phrase(
        *("impact ", pl.col("impact"), " and urgency ", pl.col("urgency")),
        *(" give priority ", pl.col("expected"), ", set was ", pl.col("priority")),
    )
    return decide(
        frame,
        [
            Rule(empty, Status.UNKNOWN, f"{NOT_DELIVERED}: impact, urgency or priority", "since"),
            Rule(pl.col("expected").is_null(), Status.UNKNOWN, "the matrix has no such impact and urgency", "since"),
            Rule(pl.col("priority") == pl.col("expected"), Status.CONFORMING, at="since"),
            Rule(ALWAYS, Status.DEVIATING, at="since", detail=found),
        ],
    )
