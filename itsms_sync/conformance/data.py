"""Checks of the data: DA1 closure data, DA6 priority matrix."""

import polars as pl

from itsms_sync.conformance.control_flow import gate
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import ALWAYS, NOT_DELIVERED, NOT_REACHED, Rule, Status, decide
from itsms_sync.procedures.model import FieldAtGate, PriorityByMatrix


def field_at_gate(history: History, requirement: FieldAtGate) -> pl.DataFrame:
    """DA1. The field is judged as it stood after the save that reached the gate, not as it was filled in later."""
    reached = gate(history, requirement.gate)
    values = history.saves.select("row", pl.col(requirement.field).alias("value"))
    reached = reached.join(values, left_on="gate_row", right_on="row", how="left", maintain_order="left")
    value = pl.col("value")
    return decide(
        history.with_cases(reached),
        [
            Rule(pl.col("gate_row").is_null(), Status.NOT_APPLICABLE, NOT_REACHED),
            Rule(value.is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {requirement.field}", pl.col("gate_at")),
            Rule(
                value == "",
                Status.DEVIATING,
                at=pl.col("gate_at"),
                detail=pl.lit(f"{requirement.field} was empty"),
            ),
            Rule(ALWAYS, Status.CONFORMING, at=pl.col("gate_at")),
        ],
    )


def priority_by_matrix(history: History, requirement: PriorityByMatrix) -> pl.DataFrame:
    """DA6. Judges the values as they stand; an empty or unknown input decides nothing."""
    inputs = ("impact", "urgency", "priority")
    saves = history.saves
    changed = pl.any_horizontal(pl.col(n) != pl.col(n).shift(1) for n in inputs)
    since = saves.filter(pl.col("first") | changed).unique("case", keep="last", maintain_order=True)
    frame = history.with_cases(since.select("case", pl.col("at").alias("since")))
    pairs = {f"{i}/{u}": p for i, row in requirement.matrix.items() for u, p in row.items()}
    expected = pl.concat_str("impact", pl.lit("/"), "urgency").replace_strict(
        list(pairs), list(pairs.values()), default=None, return_dtype=pl.String
    )
    frame = frame.with_columns(expected.alias("expected"))
    empty = pl.any_horizontal(pl.col(n).is_null() | (pl.col(n) == "") for n in inputs)
    told = pl.format(
        "impact {} and urgency {} give priority {}, set was {}", "impact", "urgency", "expected", "priority"
    )
    return decide(
        frame,
        [
            Rule(empty, Status.UNKNOWN, f"{NOT_DELIVERED}: impact, urgency or priority", pl.col("since")),
            Rule(
                pl.col("expected").is_null(),
                Status.UNKNOWN,
                "the matrix has no such impact and urgency",
                pl.col("since"),
            ),
            Rule(pl.col("priority") == pl.col("expected"), Status.CONFORMING, at=pl.col("since")),
            Rule(ALWAYS, Status.DEVIATING, at=pl.col("since"), detail=told),
        ],
    )
