"""One internal form of every documented flow, and the automaton that it compiles to.

A flow is a labelled Petri net that is safe: no place ever holds two tokens. Choice is a place with several moves,
repetition a cycle, parallel work a move that fills several places. Readers of other notations fill the same form.

The automaton is the smallest deterministic one that accepts the same sequences of labels, without states from which the
end cannot be reached. Building it is bounded: what would explode is refused by the name of the parallel work that does.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from itsms_sync.procedures.model import Edge, Flow

MARKINGS = 20_000
"""Most markings of a net, and most states of the automaton before it is made as small as it can be."""
STATES = 1_000
"""Most states of an automaton. Distances between all pairs of them are kept: 4 MB at the most."""
_LOOKED_AT = 1_000
"""Markings that tell which parallel work explodes."""
UNREACHABLE = 1 << 20
"""More than any distance between states, and small enough for sums in 32 bits."""


class FlowError(ValueError):
    """A flow that cannot be compiled; the text says why and what to change."""


@dataclass(frozen=True, slots=True)
class Move:
    """What can happen in a net. ``takes`` and ``puts`` are places; a move without a label is silent. ``block`` names
    the parallel work that the move belongs to, for people.
    """

    label: str | None
    takes: tuple[str, ...]
    puts: tuple[str, ...]
    block: str = ""


@dataclass(frozen=True, slots=True)
class Net:
    """A safe labelled Petri net: it begins with a token on each place of ``start`` and may end in each of ``ends``."""

    moves: tuple[Move, ...]
    start: frozenset[str]
    ends: tuple[frozenset[str], ...]


def between_states(flow: Flow, more: Iterable[Edge] = (), begins: Iterable[str] = ()) -> Net:
    """The net of a state diagram: its labels are the states, in the order in which a case enters them. ``more`` are
    transitions that are allowed besides, ``begins`` states in which a case may begin besides.
    """
    edges = [(source, target) for source, targets in flow.edges.items() for target in targets]
    edges += [(edge.source, edge.target) for edge in more]
    moves = [Move(state, (_BEGIN,), (_in(state),)) for state in dict.fromkeys((flow.initial, *begins))]
    moves += [Move(target, (_in(source),), (_in(target),)) for source, target in dict.fromkeys(edges)]
    moves += [Move(None, (_in(state),), (_END,)) for state in flow.final]
    return Net(tuple(moves), frozenset({_BEGIN}), (frozenset({_END}),))


_BEGIN, _END = "begin", "end"


def _in(state: str) -> str:
    return f"in {state}"


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """``step[state, label]`` is the next state or -1; state 0 is the start. ``accepting`` tells where the flow may end.

    ``distance[p, q]`` is the fewest labels on a way from ``p`` to ``q`` (``UNREACHABLE``: there is none). ``code``
    finds a label's column.
    """

    labels: tuple[str, ...]
    step: NDArray[np.int32]
    accepting: NDArray[np.bool_]
    distance: NDArray[np.int32]
    code: dict[str, int] = field(default_factory=dict)

    def unavoidable(self, state: int) -> tuple[str, ...]:
        """The labels that stand on every way from the state to an end, nearest first."""
        found = [(self._until(state, number), label) for number, label in enumerate(self.labels)]
        return tuple(label for near, label in sorted(found) if near < UNREACHABLE)

    def ordered(self) -> tuple[tuple[str, str], ...]:
        """Pairs of labels of which the first has to happen before the second wherever both do: on no way to an end the
        second comes, and only later the first for the first time.
        """
        places = range(len(self.labels))
        pairs = [(a, b) for a, b in product(places, repeat=2) if a != b and self._comes_before(a, b)]
        return tuple((self.labels[a], self.labels[b]) for a, b in pairs)

    def _comes_before(self, first: int, second: int) -> bool:
        without = np.delete(self.step, first, axis=1)
        early = {int(state) for state in self.step[list(_reachable(without, [0])), second] if state >= 0}
        return not (self.step[list(_reachable(self.step, early)), first] >= 0).any()

    def _until(self, state: int, label: int) -> int:
        """Steps until the label can come first, or ``UNREACHABLE`` where an end can be reached without it."""
        seen, ahead, near = {state}, deque([(state, 0)]), UNREACHABLE
        while ahead:
            here, far = ahead.popleft()
            if self.accepting[here]:
                return UNREACHABLE
            for number, target in enumerate(self.step[here].tolist()):
                if number == label and target >= 0:
                    near = min(near, far)
                elif target >= 0 and target not in seen:
                    seen.add(target)
                    ahead.append((target, far + 1))
        return near


def _reachable(steps: NDArray[np.int32], start: Iterable[int]) -> set[int]:
    seen = set(start)
    ahead = list(seen)
    while ahead:
        for target in steps[ahead.pop()].tolist():
            if target >= 0 and target not in seen:
                seen.add(target)
                ahead.append(target)
    return seen


@lru_cache(maxsize=64)
def compiled(net: Net) -> Automaton:
    """The automaton of a net, compiled once however many versions and batches of cases share it. Raises ``FlowError``
    where the net is not safe, has no way to an end, or explodes.
    """
    labels = tuple(sorted({move.label for move in net.moves if move.label is not None}))
    steps, accepting = _deterministic(_Graph(net, labels), len(labels))
    steps, accepting = _living(steps, accepting)
    steps, accepting = _smallest(steps, accepting)
    if len(steps) > STATES:
        raise FlowError(_exploded(net, f"{len(steps):,} states, of which {STATES:,} are the most", net.moves))
    return Automaton(labels, steps, accepting, _distances(steps), {label: n for n, label in enumerate(labels)})


class _Graph:
    """The markings that a net can reach, numbered as they are found: ``edges[m]`` are (label number or -1, marking)."""

    def __init__(self, net: Net, labels: Sequence[str]) -> None:
        numbers: dict[str | None, int] = {None: -1, **{label: n for n, label in enumerate(labels)}}
        found = {net.start: 0}
        ahead = deque([net.start])
        self.edges: list[list[tuple[int, int]]] = []
        while ahead:
            marking = ahead.popleft()
            edges = []
            for move, after in _moves(net, marking):
                if after not in found:
                    found[after] = len(found)
                    ahead.append(after)
                edges.append((numbers[move.label], found[after]))
            self.edges.append(edges)
            if len(found) > MARKINGS:
                told = f"more than {MARKINGS:,} combinations of what can be done when"
                raise FlowError(_exploded(net, told, net.moves, found))
        self.ends = {found[end] for end in net.ends if end in found}
        self.silent = any(number < 0 for edges in self.edges for number, _ in edges)

    def closure(self, markings: Iterable[int]) -> frozenset[int]:
        """The markings, and those that silent moves reach from them."""
        seen = set(markings)
        if not self.silent:
            return frozenset(seen)
        ahead = list(seen)
        while ahead:
            for number, target in self.edges[ahead.pop()]:
                if number < 0 and target not in seen:
                    seen.add(target)
                    ahead.append(target)
        return frozenset(seen)


def _moves(net: Net, marking: frozenset[str]) -> Iterable[tuple[Move, frozenset[str]]]:
    for move in net.moves:
        if marking.issuperset(move.takes):
            rest = marking.difference(move.takes)
            double = rest.intersection(move.puts)
            if double or len(set(move.puts)) < len(move.puts):
                raise FlowError(_unsafe(move, double))
            yield move, rest.union(move.puts)


def _unsafe(move: Move, places: Iterable[str]) -> str:
    what = f"of {move.block!r}" if move.block else f"at {', '.join(sorted(places)) or move.label!r}"
    return f"the flow {what} can begin a second time before its first time has ended: join what runs in parallel first"


def _exploded(net: Net, told: str, moves: Iterable[Move], found: Iterable[frozenset[str]] = ()) -> str:
    """Why a flow was refused, by the parallel work with the most combinations among the markings found."""
    places: dict[str, set[str]] = {}
    for move in moves:
        if move.block:
            places.setdefault(move.block, set()).update(move.takes, move.puts)
    if not places:
        return f"the flow has {told}: describe it in fewer steps"
    seen = list(found) or list(_reached(net))
    seen = seen[:: max(1, len(seen) // _LOOKED_AT)]
    most = Counter({name: len({marking & of_block for marking in seen}) for name, of_block in places.items()})
    return f"the flow has {told}, most of them in the parallel work {most.most_common(1)[0][0]!r}: divide that work"


def _reached(net: Net) -> set[frozenset[str]]:
    seen, ahead = {net.start}, [net.start]
    while ahead:
        for _, after in _moves(net, ahead.pop()):
            if after not in seen:
                seen.add(after)
                ahead.append(after)
    return seen


_Steps = NDArray[np.int32]
_Flags = NDArray[np.bool_]


def _deterministic(graph: _Graph, labels: int) -> tuple[_Steps, _Flags]:
    """Sets of markings that the same labels lead to, as states."""
    start = graph.closure([0])
    found, ahead, steps = {start: 0}, deque([start]), []
    while ahead:
        targets: dict[int, set[int]] = {}
        for marking in ahead.popleft():
            for number, after in graph.edges[marking]:
                if number >= 0:
                    targets.setdefault(number, set()).add(after)
        row = [-1] * labels
        for number, markings in targets.items():
            state = graph.closure(markings)
            if state not in found:
                found[state] = len(found)
                ahead.append(state)
            row[number] = found[state]
        steps.append(row)
        if len(found) > MARKINGS:
            raise FlowError(
                f"the flow has more than {MARKINGS:,} ways to be read: "
                "give steps that can happen at the same time names of their own"
            )
    accepting = np.array([not graph.ends.isdisjoint(state) for state in found], dtype=np.bool_)
    return np.array(steps, dtype=np.int32).reshape(len(found), labels), accepting


def _living(steps: _Steps, accepting: _Flags) -> tuple[_Steps, _Flags]:
    """Without the states from which no end can be reached."""
    before: list[list[int]] = [[] for _ in steps]
    for state, targets in enumerate(steps.tolist()):
        for target in targets:
            if target >= 0:
                before[target].append(state)
    alive = accepting.copy()
    ahead = np.flatnonzero(alive).tolist()
    while ahead:
        for state in before[ahead.pop()]:
            if not alive[state]:
                alive[state] = True
                ahead.append(state)
    if not alive[0]:
        raise FlowError("no end of the flow can be reached from its start")
    return _renumbered(steps, accepting, np.where(alive, np.cumsum(alive) - 1, -1).astype(np.int32))


def _smallest(steps: _Steps, accepting: _Flags) -> tuple[_Steps, _Flags]:
    """States that accept the same are one (Moore): they are told apart by what they accept, and by where they lead."""
    part = accepting.astype(np.int32)
    count = 0
    while True:
        leads = np.where(steps >= 0, part[steps], -1)
        _, told_apart = np.unique(np.column_stack([part, leads]), axis=0, return_inverse=True)
        part = told_apart.reshape(-1).astype(np.int32)
        if part.max() + 1 == count:
            return _renumbered(steps, accepting, _from_start(part))
        count = int(part.max()) + 1


def _from_start(part: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers of the parts in the order of their first states, so that the start is 0."""
    _, first, inverse = np.unique(part, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[inverse].astype(np.int32)


def _renumbered(steps: _Steps, accepting: _Flags, number: NDArray[np.int32]) -> tuple[_Steps, _Flags]:
    """The automaton with other numbers of states; those of number -1 are left out."""
    size = int(number.max()) + 1
    kept = np.full(size, -1, dtype=np.int32)
    places = np.flatnonzero(number >= 0)
    kept[number[places][::-1]] = places[::-1]
    old = steps[kept]
    return np.where(old >= 0, number[old], -1).astype(np.int32), accepting[kept]


def _distances(steps: _Steps) -> NDArray[np.int32]:
    """Fewest labels between all pairs of states, breadth first from all states at once."""
    size = len(steps)
    follows = np.zeros((size, size), dtype=np.bool_)
    sources, labels = np.nonzero(steps >= 0)
    follows[sources, steps[sources, labels]] = True
    distance = np.full((size, size), UNREACHABLE, dtype=np.int32)
    np.fill_diagonal(distance, 0)
    reached = np.eye(size, dtype=np.bool_)
    front, far = reached, 0
    # Products of 0/1 in single precision are exact: a state has fewer than 2**24 ways into it.
    weights = follows.astype(np.float32)
    while front.any():
        far += 1
        front = (front.astype(np.float32) @ weights > 0) & ~reached
        reached = reached | front
        distance[front] = far
    return distance
