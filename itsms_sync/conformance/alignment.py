"""Exact optimal alignment of what happened with a documented flow.

A move in the log alone (something was added) and a move in the flow alone (something was skipped) cost 1 each, a step
that both make costs nothing: the cost of a case is the fewest such moves that explain it. Silent moves cost nothing.

Cost vectors walk all variants at once, one event after the other: ``reach[q]`` is the least cost with which the events
so far can have led to state ``q``. Variants with the same beginning share it. A case that is still open is judged as a
beginning: it costs what is wrong already, and what is still to come costs nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from itsms_sync.procedures.flow import UNREACHABLE, Automaton

CELLS = 4_000_000
"""Most costs that are held at a time, 16 MB for each of a few copies. More variants go in several parts."""


class Kind(StrEnum):
    BOTH = "both"
    SKIPPED = "skipped"
    """The flow demands the step and the case did not make it."""
    ADDED = "added"
    """The case made the step where the flow has none."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """One move of an alignment. ``event`` is the place of the event in the variant; ``None`` for a skipped step."""

    kind: Kind
    label: str
    event: int | None


def costs(automaton: Automaton, variants: Sequence[Sequence[str]], ended: Sequence[bool]) -> NDArray[np.int32]:
    """The cost of each variant; of one that has not ended, as far as it has come.

    The time is that of distinct beginnings times the states that a label leads to times the states; the memory that of
    ``CELLS``, whatever is asked.
    """
    most = max(1, CELLS // len(automaton.step))
    order = sorted(range(len(variants)), key=lambda n: tuple(variants[n]))
    found = np.zeros(len(variants), dtype=np.int32)
    for first in range(0, len(order), most):
        part = order[first : first + most]
        found[part] = _walked(
            automaton, [variants[n] for n in part], np.array([ended[n] for n in part], dtype=np.bool_)
        )
    return found


def _walked(automaton: Automaton, variants: Sequence[Sequence[str]], ended: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Costs of variants that fit in at once. ``node`` is the row of ``reach`` that a variant stands at."""
    lengths = np.array([len(variant) for variant in variants])
    node = np.zeros(len(variants), dtype=np.int64)
    reach = automaton.distance[:1].copy()
    found = np.zeros(len(variants), dtype=np.int32)
    unknown = len(automaton.labels)
    for place in range(int(lengths.max(initial=0)) + 1):
        over = np.flatnonzero(lengths == place)
        found[over] = np.where(ended[over], _to_the_end(automaton, reach)[node[over]], reach.min(axis=1)[node[over]])
        going = np.flatnonzero(lengths > place)
        codes = np.array([automaton.code.get(variants[n][place], unknown) for n in going.tolist()], dtype=np.int64)
        pairs, node[going] = np.unique(node[going] * (unknown + 1) + codes, return_inverse=True)
        reach = _after(automaton, reach, pairs // (unknown + 1), pairs % (unknown + 1))
    return found


def _to_the_end(automaton: Automaton, reach: NDArray[np.int32]) -> NDArray[np.int32]:
    nearest: NDArray[np.int32] = reach[:, automaton.accepting].min(axis=1)
    return nearest


def _after(
    automaton: Automaton, reach: NDArray[np.int32], parents: NDArray[np.int64], codes: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Costs after one more event: row ``k`` follows ``reach[parents[k]]`` with the label of ``codes[k]``."""
    after = reach[parents] + 1
    for code in np.unique(codes[codes < len(automaton.labels)]):
        rows = np.flatnonzero(codes == code)
        after[rows] = np.minimum(after[rows], _together(automaton, reach[parents[rows]], int(code)))
    return after


def _together(automaton: Automaton, reach: NDArray[np.int32], code: int) -> NDArray[np.int32]:
    """Costs where flow and case make the step together and the flow may go on alone. ``reach`` is closed: it has the
    steps that the flow made alone before."""
    best = np.full(reach.shape, UNREACHABLE, dtype=np.int32)
    targets = automaton.step[:, code]
    for target in np.unique(targets[targets >= 0]):
        nearest = reach[:, targets == target].min(axis=1)
        np.minimum(best, nearest[:, None] + automaton.distance[target], out=best)
    return best


def alignment(automaton: Automaton, variant: Sequence[str], *, ended: bool) -> tuple[Aligned, ...]:
    """One optimal alignment, always the same. Of equal ones it is that of a case that has come as far as it can, and in
    which what was skipped stands before what was added.
    """
    return tuple(reversed(list(_backwards(automaton, variant, *_levels(automaton, variant), ended=ended))))


_Costs = NDArray[np.int32]


def _levels(automaton: Automaton, variant: Sequence[str]) -> tuple[list[_Costs], list[_Costs]]:
    """Per number of events, the costs when the last of them has just been made, and when the flow went on alone."""
    start = np.full(len(automaton.step), UNREACHABLE, dtype=np.int32)
    start[0] = 0
    arrived, closed = [start], [automaton.distance[0]]
    for label in variant:
        before, here = closed[-1], closed[-1] + 1
        if label in automaton.code:
            targets = automaton.step[:, automaton.code[label]]
            known = targets >= 0
            np.minimum.at(here, targets[known], before[known])
        arrived.append(here)
        closed.append((here[:, None] + automaton.distance).min(axis=0))
    return arrived, closed


def _backwards(
    automaton: Automaton, variant: Sequence[str], arrived: list[_Costs], closed: list[_Costs], *, ended: bool
) -> Iterator[Aligned]:
    last = np.where(automaton.accepting, closed[-1], UNREACHABLE) if ended else closed[-1]
    state = _nearest_to_an_end(automaton, np.flatnonzero(last == last.min()))
    for place in range(len(variant), -1, -1):
        ways = arrived[place] + automaton.distance[:, state]
        origin = state if arrived[place][state] == closed[place][state] else int(ways.argmin())
        yield from (Aligned(Kind.SKIPPED, label, None) for label in reversed(_way(automaton, origin, state)))
        state = origin
        if place:
            label, cost = variant[place - 1], arrived[place][state]
            before = _made_together(automaton, closed[place - 1], label, state, int(cost))
            yield Aligned(Kind.ADDED if before is None else Kind.BOTH, label, place - 1)
            state = state if before is None else before


def _nearest_to_an_end(automaton: Automaton, states: NDArray[np.intp]) -> int:
    return int(states[automaton.distance[np.ix_(states, automaton.accepting)].min(axis=1).argmin()])


def _made_together(automaton: Automaton, closed: _Costs, label: str, state: int, cost: int) -> int | None:
    """The state before, if the step to ``state`` can have been made by flow and case together at that cost."""
    if label not in automaton.code:
        return None
    fitting = np.flatnonzero((automaton.step[:, automaton.code[label]] == state) & (closed == cost))
    return int(fitting[0]) if len(fitting) else None


def _way(automaton: Automaton, origin: int, target: int) -> list[str]:
    """The labels on one of the shortest ways, always the same."""
    way = []
    while origin != target:
        far = automaton.distance[origin, target]
        following = automaton.step[origin]
        nearer = np.where(following >= 0, automaton.distance[following, target], UNREACHABLE) == far - 1
        code = int(nearer.argmax())
        way.append(automaton.labels[code])
        origin = int(following[code])
    return way
