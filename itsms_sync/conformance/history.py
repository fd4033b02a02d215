"""A case log made ready for one procedure version: what several checks ask of the same history, computed once."""

from dataclasses import dataclass

import polars as pl

from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.cases import IS_FIRST, IS_LAST, CaseLog
from itsms_sync.sms.conditions import Type, compile


@dataclass(frozen=True, slots=True)
class History:
    """``saves`` of the log plus ``row`` (place in the whole log), ``previous`` (state before), ``missed_so_far``;
    ``cases`` plus ``lost`` (the case starts in a state in which no case can start), ``last_row``, ``missed`` (all saves
    without a trace), ``ended`` (ms, when it entered the final state it is in, or null), ``state`` and ``cut_<short
    cut>``.
    """

    saves: pl.DataFrame
    cases: pl.DataFrame
    procedure: Procedure
    types: dict[str, Type]
    now: int

    @property
    def resolved(self) -> list[str]:
        """States in which the work is said to be done, final ones included."""
        return [*self.procedure.flow.resolved, *self.procedure.flow.final]

    def first(self, condition: pl.Expr, *columns: str, prefix: str) -> pl.DataFrame:
        """Per case, of the first save for which the condition is true: the columns, named ``<prefix>_<column>``."""
        rows = self.saves.filter(condition.fill_null(False)).unique("case", keep="first", maintain_order=True)
        return rows.select("case", *(pl.col(c).alias(f"{prefix}_{c}") for c in columns))

    def last(self, condition: pl.Expr, *columns: str, prefix: str) -> pl.DataFrame:
        """The same of the last such save."""
        rows = self.saves.filter(condition.fill_null(False)).unique("case", keep="last", maintain_order=True)
        return rows.select("case", *(pl.col(c).alias(f"{prefix}_{c}") for c in columns))

    def with_cases(self, *frames: pl.DataFrame) -> pl.DataFrame:
        """The cases, with the columns of frames that have at most one row per case."""
        result = self.cases
        for frame in frames:
            result = result.join(frame, on="case", how="left", maintain_order="left")
        return result


def history(log: CaseLog, procedure: Procedure, types: dict[str, Type], now: int) -> History:
    """Prepares the log; ``types`` are the attributes' types as conditions see them."""
    same_case = ~IS_FIRST
    saves = log.saves.with_columns(
        pl.int_range(pl.len()).alias("row"),
        pl.when(same_case).then(pl.col("state").shift(1)).alias("previous"),
        IS_FIRST.alias("first"),
        pl.col("missed").cum_sum().alias("_missed"),
    )
    base = saves.filter("first").select(
        "case", pl.col("_missed").alias("_base"), pl.col("state").alias("_initial"), pl.col("at").alias("_start")
    )
    saves = saves.join(base.select("case", "_base"), on="case", how="left", maintain_order="left")
    saves = saves.with_columns((pl.col("_missed") - pl.col("_base")).alias("missed_so_far")).drop("_missed", "_base")
    cases = _cases(log, saves, base, procedure)
    cases = cases.with_columns(
        compile(cut.when, types).expression.alias(f"cut_{cut.id}") for cut in procedure.short_cuts
    )
    return History(saves, cases, procedure, types, now)


def _cases(log: CaseLog, saves: pl.DataFrame, base: pl.DataFrame, procedure: Procedure) -> pl.DataFrame:
    last = saves.filter(IS_LAST).drop("at", "actor", "human", "missed", "first").rename({"row": "last_row"})
    entered = saves.filter(pl.col("first") | (pl.col("state") != pl.col("previous")).fill_null(True))
    entered = entered.unique("case", keep="last", maintain_order=True).select("case", pl.col("at").alias("_entered"))
    cases = log.cases.join(last, on="case", how="left", maintain_order="left", suffix="_last")
    cases = cases.join(entered, on="case", how="left", maintain_order="left")
    cases = cases.join(base.select("case", "_initial"), on="case", how="left", maintain_order="left")
    final = pl.col("state").is_in(list(procedure.flow.final)).fill_null(False)
    return cases.with_columns(
        (pl.col("_initial") != procedure.flow.initial).fill_null(True).alias("lost"),
        (pl.col("missed_so_far") + pl.col("missed_after")).alias("missed"),
        pl.when(final).then("_entered").alias("ended"),
    ).drop("_initial", "_entered", "missed_so_far")
