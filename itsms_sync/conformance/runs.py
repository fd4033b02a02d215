"""How cases ran beside the documented flow: each distinct run is aligned once, whatever the number of its cases.

A run is the sequence of states that a case entered. Where a short cut was open to a case, or may have been, its
transitions count as documented for that case. Of a case whose states are not known as a whole nothing is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from itsms_sync.conformance.alignment import Aligned, Kind, alignment, costs, in_words
from itsms_sync.conformance.control_flow import PAIR, STATES_MISSED, excused
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import GAP, LOST, UNMAPPED
from itsms_sync.procedures.flow import Automaton, between_states, compiled
from itsms_sync.procedures.model import Edge, Procedure

RUNS: dict[str, Any] = {
    "case": pl.UInt32,
    "states": pl.List(pl.String),
    "at": pl.List(pl.Int64),
    "more": pl.List(pl.String),
    "ended": pl.Boolean,
    "reason": pl.String,
    "cost": pl.Int32,
}
"""``at``: when each of the states was entered (ms); ``more``: transitions of open short cuts; ``reason``: why nothing
is said; ``cost``: the fewest steps skipped and added, null where nothing is said."""
_ARROW = " -> "


@dataclass(frozen=True)
class Runs:
    """``cases`` as ``RUNS``, one row each."""

    cases: pl.DataFrame
    procedure: Procedure
    automata: dict[tuple[str, ...], Automaton]

    @cached_property
    def variants(self) -> pl.DataFrame:
        """Distinct runs with a cost, and how many ``cases`` ran so; the most frequent first."""
        known = self.cases.filter(pl.col("cost").is_not_null())
        grouped = known.group_by("states", "more", "ended", "cost", maintain_order=True).agg(pl.len().alias("cases"))
        return grouped.sort("cases", descending=True, maintain_order=True)

    def moves(self, states: Sequence[str], more: Sequence[str], *, ended: bool) -> tuple[Aligned, ...]:
        return alignment(self.automata[tuple(more)], states, ended=ended)

    def words(self, states: Sequence[str], more: Sequence[str], *, ended: bool) -> list[str]:
        """What is wrong with a run, a sentence each."""
        return in_words(self.moves(states, more, ended=ended), self.procedure.called)

    def ahead(self, moves: Sequence[Aligned], more: Sequence[str]) -> tuple[str, ...]:
        """The states through which a case has to go yet, whatever it does, nearest first."""
        return self.automata[tuple(more)].unavoidable(self._reached(moves, more))

    def following(self, moves: Sequence[Aligned], more: Sequence[str]) -> tuple[str, ...]:
        """The states that the document lets a case enter next."""
        automaton = self.automata[tuple(more)]
        step = automaton.step[self._reached(moves, more)].tolist()
        return tuple(label for label, target in zip(automaton.labels, step, strict=True) if target >= 0)

    def _reached(self, moves: Sequence[Aligned], more: Sequence[str]) -> int:
        automaton = self.automata[tuple(more)]
        state = 0
        for move in moves:
            if move.kind is not Kind.ADDED:
                state = int(automaton.step[state, automaton.code[move.label]])
        return state


def runs(history: History) -> Runs:
    """The runs of all cases. Raises ``FlowError`` where the flow cannot be compiled."""
    entered = history.states.group_by("case", maintain_order=True).agg("state", "at")
    about = history.cases.select(
        "case",
        pl.col("ended").is_not_null().alias("ended"),
        pl.when("lost")
        .then(pl.lit(LOST))
        .when(pl.col("untold_state").is_not_null())
        .then(pl.lit(UNMAPPED))
        .when(STATES_MISSED)
        .then(pl.lit(GAP))
        .alias("reason"),
    )
    cases = about.join(entered.rename({"state": "states"}), on="case", how="inner", maintain_order="left")
    cases = cases.join(_open_short_cuts(history), on="case", how="left", maintain_order="left")
    cases = cases.with_columns(pl.col("more").fill_null([]))
    automata = {tuple(more): _automaton(history, more) for more in cases["more"].unique().to_list()}
    return Runs(_with_costs(cases, automata).select(list(RUNS)), history.procedure, automata)


def _open_short_cuts(history: History) -> pl.DataFrame:
    """Per case that took any, the transitions that short cuts allowed it, or may have."""
    moves = history.states.filter(~pl.col("first")).with_columns(PAIR)
    taken = [moves.filter(excused(history, cut, moves).fill_null(True)) for cut in history.procedure.short_cuts]
    rows = pl.concat([moves.clear(), *taken])
    return rows.group_by("case").agg(pl.col("pair").unique().sort().alias("more"))


def _automaton(history: History, more: Sequence[str]) -> Automaton:
    pairs = (pair.split(_ARROW) for pair in more)
    edges = [Edge(source=source, target=target) for source, target in pairs]
    return compiled(between_states(history.procedure.flow, edges, history.log.initial))


def _with_costs(cases: pl.DataFrame, automata: dict[tuple[str, ...], Automaton]) -> pl.DataFrame:
    """Each distinct run is aligned once."""
    key = ["states", "more", "ended"]
    distinct = cases.filter(pl.col("reason").is_null()).select(key).unique(maintain_order=True)
    parts = [pl.DataFrame(schema={name: RUNS[name] for name in (*key, "cost")})]
    for more, automaton in automata.items():
        part = distinct.filter(pl.col("more") == list(more))
        found = costs(automaton, part["states"].to_list(), part["ended"].to_list())
        parts.append(part.with_columns(pl.Series("cost", found, dtype=pl.Int32)))
    aligned = pl.concat(parts).with_columns(pl.lit(None, pl.String).alias("reason"))
    return cases.join(aligned, on=[*key, "reason"], how="left", nulls_equal=True, maintain_order="left")
