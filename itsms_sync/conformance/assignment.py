"""Checks of hand-overs: ST3 ping-pong between groups."""

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, MISSED, NO_PREFERENCE
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import ALWAYS, GAP, LOST, NOT_DELIVERED, STILL_OPEN, Rule, Status, decide
from itsms_sync.procedures.model import NoPingPong
from itsms_sync.sms.cases import IS_FIRST


def ping_pong(history: History, requirement: NoPingPong) -> pl.DataFrame:
    """ST3. A, B, A in the sequence of groups with repetitions and blanks dropped; missing saves do not undo a
    return, unless a change is known to be missing: another group may then lie between.
    """
    group = pl.col("group")
    saves = history.saves.select("case", "at", pl.col(requirement.attribute).alias("group"))
    starts_run = IS_FIRST | group.ne_missing(group.shift(1))
    runs = saves.filter(starts_run).filter(group != "").filter(starts_run)
    returns = (pl.col("case") == pl.col("case").shift(2)) & (group == group.shift(2))
    before = group.shift(1).alias("between"), pl.col("at").shift(2).alias("begun")
    found = _without_doubt(runs.with_columns(before).filter(returns), history)
    told = pl.concat_str("group", pl.lit(" -> "), "between", pl.lit(" -> "), "group").alias("told")
    untold = saves.filter(group.is_null())["case"].unique()
    return decide(
        history.with_first(found.select("case", "at", told, NO_PREFERENCE)),
        [
            Rule(pl.col("told").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("told")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(
                pl.col("case").is_in(untold.implode()),
                Status.UNKNOWN,
                f"{NOT_DELIVERED}: {requirement.attribute}",
                "ended",
            ),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
            Rule(MISSED, Status.UNKNOWN, GAP, "ended"),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )


def _without_doubt(returns: pl.DataFrame, history: History) -> pl.DataFrame:
    """Those returns in whose time, from ``begun`` on, no change is missing of which only an interval is known."""
    missing = history.log.untraced.select("case", "since", pl.col("at").alias("until"))
    both = returns.join(missing, on="case", how="inner")
    doubtful = both.filter((pl.col("since") < pl.col("at")) & (pl.col("until") > pl.col("begun")))
    return returns.join(doubtful.select("case", "at"), on=["case", "at"], how="anti", maintain_order="left")
