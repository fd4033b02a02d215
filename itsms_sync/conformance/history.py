"""A case log made ready for one procedure version: what several checks ask of the same history, computed once.

Saves lie case by case, so that a place in the log is enough to find everything else: ``row`` is a save's place, and the
cases lie in the order of their saves. Checks look for rows and read what stands there; they join nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from itsms_sync.procedures.model import (
    FieldAtGate,
    NotReopened,
    PriorityByMatrix,
    Procedure,
    RespondedInTime,
    StepDone,
)
from itsms_sync.sms.cases import IS_FIRST, IS_LAST, CaseLog
from itsms_sync.sms.conditions import Condition, Type, compile


@dataclass(frozen=True, slots=True)
class Force:
    """The time in which a procedure version is in force: ``start`` (ms) up to, not including, ``end`` (``None``: open).
    ``first`` tells that no version was in force before.
    """

    start: int
    end: int | None
    first: bool


@dataclass(frozen=True, slots=True)
class History:
    """``saves`` of the log plus ``row``, ``nth`` (which of the cases it is), ``first``, ``missed_until`` (running sum
    over the whole log) and, if there are priorities, ``priority_row`` (where the priority that stands was set).

    ``states``: the saves with which a case enters a state, creations included: ``case, nth, row, at, state, previous,
    missed, first``.

    ``cases`` plus ``first_row``, ``last_row``, the attributes that checks read as they stand, ``lost`` (the case starts
    in a state in which no case can start), ``missed`` (all saves without a trace), ``ended`` (ms, when it entered the
    final state it is in, or null), ``stop_row`` (last entry into a resolved state), ``gap_row`` (first save before
    which others are missing), ``untold_state`` (first row with an unknown state), ``cut_<short cut>``, and per activity
    that the procedure names the rows where it is true for the first time (``done_<activity>``), cannot be told for the
    first time (``untold_<activity>``), and where a person (``answer_<activity>``) or an unknown actor
    (``unsigned_<activity>``) first made a save with it true.
    """

    saves: pl.DataFrame
    states: pl.DataFrame
    cases: pl.DataFrame
    procedure: Procedure
    types: Mapping[str, Type]
    now: int
    force: Force

    @property
    def resolved(self) -> list[str]:
        """States in which the work is said to be done, final ones included."""
        return [*self.procedure.flow.resolved, *self.procedure.flow.final]

    def there(self, row: str, column: str) -> pl.Expr:
        """The column of the save in the row that the cases' column ``row`` names; null where that is null."""
        return pl.lit(self.saves[column]).gather(pl.col(row))

    def missed_at(self, row: str) -> pl.Expr:
        """Saves without a trace between the creation and that row."""
        return self.there(row, "missed_until").cast(pl.Int64) - self.there("first_row", "missed_until").cast(pl.Int64)

    def with_first(self, facts: pl.DataFrame) -> pl.DataFrame:
        """The cases, with the columns of the first of the ``facts`` (``case, at, preference`` …, in order) that
        happened while the version was in force; facts of lower ``preference`` go before. What happened before the first
        version is told if nothing else is.
        """
        happened = facts if self.force.end is None else facts.filter(pl.col("at") < self.force.end)
        early = pl.col("at") < self.force.start
        if not self.force.first:
            happened = happened.filter(~early)
        happened = happened.with_columns(early.alias("_early"))
        happened = happened.sort("case", "_early", "preference", maintain_order=True).filter(IS_FIRST)
        told = happened.drop("_early", "preference").rename({"at": "bad_at"})
        return self.cases.join(told, on="case", how="left", maintain_order="left")


def history(log: CaseLog, procedure: Procedure, types: Mapping[str, Type], now: int, force: Force) -> History:
    """Prepares the log; ``types`` are the attributes' types as conditions see them."""
    saves = log.saves.with_columns(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
        (IS_FIRST.cum_sum() - 1).cast(pl.UInt32).alias("nth"),
        IS_FIRST.alias("first"),
        pl.col("missed").cum_sum().alias("missed_until"),
    )
    if "priority" in saves.columns:
        change = pl.col("first") | pl.col("priority").ne_missing(pl.col("priority").shift(1))
        saves = saves.with_columns(pl.when(change).then("row").forward_fill().alias("priority_row"))
    states = _states(saves)
    cuts = {f"cut_{cut.id}": compile(cut.when, types) for cut in procedure.short_cuts}
    cases = _cases(log, saves, states, procedure, _standing(procedure, cuts.values()))
    cases = cases.with_columns(cut.expression.alias(name) for name, cut in cuts.items())
    return History(saves, states, cases, procedure, types, now, force)


def _states(saves: pl.DataFrame) -> pl.DataFrame:
    previous = pl.when(~pl.col("first")).then(pl.col("state").shift(1)).alias("previous")
    entered = pl.col("first") | pl.col("state").ne_missing(pl.col("state").shift(1))
    rows = saves.select("case", "nth", "row", "at", "state", previous, "missed", "first", entered.alias("_entered"))
    return rows.filter("_entered").drop("_entered")


def _standing(procedure: Procedure, cuts: Iterable[Condition]) -> list[str]:
    """The attributes that checks read as they stand."""
    names = {"state", *(name for cut in cuts for name in cut.columns)}
    for requirement in procedure.requirements:
        match requirement:
            case NotReopened(counter=str(counter)):
                names.add(counter)
            case PriorityByMatrix():
                names |= {"impact", "urgency", "priority"}
    return sorted(names)


def _cases(
    log: CaseLog, saves: pl.DataFrame, states: pl.DataFrame, procedure: Procedure, standing: list[str]
) -> pl.DataFrame:
    flow = procedure.flow
    first_row = saves["first"].arg_true()
    last_row = first_row.shift(-1, fill_value=len(saves)) - 1
    first = saves.select(
        first_row.alias("first_row"),
        last_row.alias("last_row"),
        pl.col("state").gather(first_row).ne_missing(pl.lit(flow.initial)).alias("lost"),
        pl.col("missed_until").gather(first_row).alias("_missed_before"),
    )
    last = saves.select("missed_until", *standing)[last_row]
    entered = states.filter(IS_LAST).select(pl.col("at").alias("_entered"))
    cases = pl.concat([log.cases, first, last, entered], how="horizontal")
    ended = pl.when(pl.col("state").is_in(list(flow.final))).then("_entered").alias("ended")
    missed = (pl.col("missed_until") - pl.col("_missed_before") + pl.col("missed_after")).alias("missed")
    conditions = dict(_asked(procedure))
    columns = [_firsts(saves, len(cases), name, condition) for name, condition in conditions.items()]
    cases = cases.with_columns(ended, missed, _stops(states, len(cases), [*flow.resolved, *flow.final]), *columns)
    return cases.drop("_entered", "_missed_before", "missed_until")


def _asked(procedure: Procedure) -> Iterator[tuple[str, pl.Expr]]:
    """What the procedure's checks want to know about the first save of a kind."""
    yield "gap_row", pl.col("missed") > 0
    yield "untold_state", pl.col("state").is_null()
    for requirement in procedure.requirements:
        match requirement:
            case StepDone():
                activity = procedure.step(requirement.step).activity
                yield f"untold_{activity}", pl.col(f"is_{activity}").is_null()
                for name in (activity, *requirement.gate):
                    yield f"done_{name}", pl.col(f"is_{name}")
            case FieldAtGate():
                for name in requirement.gate:
                    yield f"done_{name}", pl.col(f"is_{name}")
            case RespondedInTime():
                responded = pl.col(f"is_{requirement.response}") & ~pl.col("first")
                yield f"answer_{requirement.response}", responded & pl.col("human")
                yield f"unsigned_{requirement.response}", responded & pl.col("human").is_null()


def _firsts(saves: pl.DataFrame, cases: int, name: str, condition: pl.Expr) -> pl.Series:
    """Per case, the row of the first save for which the condition is true, or null."""
    return _placed(saves.select("nth", "row", condition.alias("_when")).filter("_when"), cases, name, last=False)


def _stops(states: pl.DataFrame, cases: int, done: list[str]) -> pl.Series:
    was_done = pl.col("previous").is_in(done).fill_null(False)
    return _placed(states.filter(pl.col("state").is_in(done) & ~was_done), cases, "stop_row", last=True)


def _placed(rows: pl.DataFrame, cases: int, name: str, *, last: bool) -> pl.Series:
    """The first or last of the rows of each case, at the case's place."""
    neighbour = pl.col("nth").shift(-1 if last else 1)
    rows = rows.filter((pl.col("nth") != neighbour).fill_null(True))
    nothing = pl.Series(name, [None], dtype=pl.UInt32).new_from_index(0, cases)
    return nothing.scatter(rows["nth"], rows["row"])
