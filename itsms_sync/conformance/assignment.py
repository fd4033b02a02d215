"""Checks of hand-overs: ST3 ping-pong between groups."""

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, MISSED
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import ALWAYS, GAP, LOST, NOT_DELIVERED, STILL_OPEN, Rule, Status, decide
from itsms_sync.procedures.model import NoPingPong


def ping_pong(history: History, requirement: NoPingPong) -> pl.DataFrame:
    """ST3. A, B, A in the sequence of groups with repetitions and blanks dropped; missing saves do not undo a
    return.
    """
    group = pl.col(requirement.attribute)
    runs = history.saves.select("case", "at", group.alias("group")).filter(pl.col("group") != "")
    same_case = pl.col("case") == pl.col("case").shift(1)
    runs = runs.filter(~(same_case & (pl.col("group") == pl.col("group").shift(1))).fill_null(False))
    returns = (pl.col("case") == pl.col("case").shift(2)) & (pl.col("group") == pl.col("group").shift(2))
    told = pl.concat_str("group", pl.lit(" -> "), pl.col("group").shift(1), pl.lit(" -> "), "group")
    found = runs.with_columns(told.alias("told")).filter(returns.fill_null(False))
    found = found.unique("case", keep="first", maintain_order=True).select("case", pl.col("at").alias("bad_at"), "told")
    return decide(
        history.with_cases(found),
        [
            Rule(pl.col("told").is_not_null(), Status.DEVIATING, at=pl.col("bad_at"), detail=pl.col("told")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(group.is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {requirement.attribute}", pl.col("ended")),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, pl.col("ended")),
            Rule(MISSED, Status.UNKNOWN, GAP, pl.col("ended")),
            Rule(ALWAYS, Status.CONFORMING, at=pl.col("ended")),
        ],
    )
