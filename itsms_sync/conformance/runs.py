"""How cases ran beside the documented flow: each distinct run is aligned once, whatever the number of its cases.

A run is the sequence of states that a case entered. Where a short cut was open to a case, or may have been, its
transitions count as documented for that case. Of a case whose states are not known as a whole nothing is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


_WAY = ["states", "more", "ended"]
"""What tells one run from another."""


@dataclass(frozen=True)
class Beside:
    """What runs are compared with: the flow, with each set of short cuts that were open to a case."""

    procedure: Procedure
    automata: Mapping[tuple[str, ...], Automaton]

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


@dataclass(frozen=True)
class Runs(Beside):
    """``cases`` as ``RUNS``, one row each."""

    cases: pl.DataFrame


@dataclass(frozen=True)
class Ways(Beside):
    """In which ways cases ran. ``variants``: ``states, more, ended, cost`` and how many ``cases`` ran so, the most
    frequent first; ``unknown``: why nothing is said of others -> how many these are."""

    variants: pl.DataFrame
    unknown: Mapping[str, int]


def runs(history: History) -> Runs:
    """The runs of all cases. Raises ``FlowError`` where the flow cannot be compiled."""
    cases = _told(history)
    automata = _automata(history.procedure, history.log.initial, cases)
    aligned = _with_costs(cases.filter(pl.col("reason").is_null()).select(_WAY).unique(maintain_order=True), automata)
    aligned = aligned.with_columns(pl.lit(None, pl.String).alias("reason"))
    cases = cases.join(aligned, on=[*_WAY, "reason"], how="left", nulls_equal=True, maintain_order="left")
    return Runs(history.procedure, automata, cases.select(list(RUNS)))


class Counting:
    """Counts in which ways cases ran, part by part of a log; each way is aligned once, when all are counted."""

    def __init__(self, procedure: Procedure) -> None:
        self._procedure = procedure
        self._initial: tuple[str, ...] = ()
        schema = {name: RUNS[name] for name in (*_WAY, "reason")}
        self._counts = [pl.DataFrame(schema={**schema, "cases": pl.UInt32})]

    def add(self, history: History) -> None:
        """Of one part of the log."""
        self._initial = history.log.initial
        self._counts.append(_told(history).group_by(*_WAY, "reason", maintain_order=True).agg(pl.len().alias("cases")))

    def ways(self) -> Ways:
        """Raises ``FlowError`` where the flow cannot be compiled."""
        key = [*_WAY, "reason"]
        counts = pl.concat(self._counts).group_by(key, maintain_order=True).agg(pl.col("cases").sum())
        unknown = counts.group_by("reason").agg(pl.col("cases").sum()).drop_nulls().sort("cases", descending=True)
        known = counts.filter(pl.col("reason").is_null()).drop("reason")
        automata = _automata(self._procedure, self._initial, known)
        variants = known.join(_with_costs(known, automata), on=_WAY, how="left", maintain_order="left")
        variants = variants.select(*_WAY, "cost", "cases").sort("cases", descending=True, maintain_order=True)
        return Ways(self._procedure, automata, variants, dict(unknown.iter_rows()))


def _told(history: History) -> pl.DataFrame:
    """``RUNS`` but for the cost."""
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
    return cases.with_columns(pl.col("more").fill_null([]))


def _open_short_cuts(history: History) -> pl.DataFrame:
    """Per case that took any, the transitions that short cuts allowed it, or may have."""
    moves = history.states.filter(~pl.col("first")).with_columns(PAIR)
    taken = [moves.filter(excused(history, cut, moves).fill_null(True)) for cut in history.procedure.short_cuts]
    rows = pl.concat([moves.clear(), *taken])
    return rows.group_by("case").agg(pl.col("pair").unique().sort().alias("more"))


def _automata(procedure: Procedure, initial: Sequence[str], cases: pl.DataFrame) -> dict[tuple[str, ...], Automaton]:
    return {tuple(more): _automaton(procedure, initial, more) for more in cases["more"].unique().to_list()}


def _automaton(procedure: Procedure, initial: Sequence[str], more: Sequence[str]) -> Automaton:
    pairs = (pair.split(_ARROW) for pair in more)
    edges = [Edge(source=source, target=target) for source, target in pairs]
    return compiled(between_states(procedure.flow, edges, initial))


def _with_costs(ways: pl.DataFrame, automata: Mapping[tuple[str, ...], Automaton]) -> pl.DataFrame:
    """``states, more, ended, cost`` of distinct ways."""
    parts = [pl.DataFrame(schema={name: RUNS[name] for name in (*_WAY, "cost")})]
    for more, automaton in automata.items():
        part = ways.select(_WAY).filter(pl.col("more") == list(more))
        found = costs(automaton, part["states"].to_list(), part["ended"].to_list())
        parts.append(part.with_columns(pl.Series("cost", found, dtype=pl.Int32)))
    return pl.concat(parts)
