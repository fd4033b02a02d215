"""Exact optimal alignment of what happened with a documented flow.

A move in the log alone (something was added) and a move in the flow alone (something was skipped) cost 1 each, a step
that both make costs nothing: the cost of a case is the fewest such moves that explain it. Silent moves cost nothing.

Cost vectors walk all variants at once, one event after the other: ``reach[q]`` is the least cost with which the events
so far can have led to state ``q``. Variants with the same beginning share it. A case that is still open is judged as a
beginning: it costs what is wrong already, and what is still to come costs nothing.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
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
    """One optimal alignment, always the same. Of equal ones it is one that adds the least, because what was done is
    sure to have been done; then that of a case that has come as far as it can. What was done once too often was added
    when it was done again.
    """
    # A step that was added counts a little more than one that was skipped: for all of them together less than a step.
    step = len(variant) + 1
    distance = automaton.distance.astype(np.int64) * step
    levels = _levels(automaton, variant, distance, step + 1)
    return tuple(reversed(list(_backwards(automaton, variant, distance, *levels, ended=ended))))


_Costs = NDArray[np.int64]


def _levels(
    automaton: Automaton, variant: Sequence[str], distance: _Costs, added: int
) -> tuple[list[_Costs], list[_Costs]]:
    """Per number of events, the costs when the last of them has just been made, and when the flow went on alone."""
    start = np.full(len(distance), distance.max() + added * UNREACHABLE, dtype=np.int64)
    start[0] = 0
    arrived, closed = [start], [distance[0]]
    for label in variant:
        before, here = closed[-1], closed[-1] + added
        if label in automaton.code:
            targets = automaton.step[:, automaton.code[label]]
            known = targets >= 0
            np.minimum.at(here, targets[known], before[known])
        arrived.append(here)
        closed.append((here[:, None] + distance).min(axis=0))
    return arrived, closed


def _backwards(
    automaton: Automaton,
    variant: Sequence[str],
    distance: _Costs,
    arrived: list[_Costs],
    closed: list[_Costs],
    *,
    ended: bool,
) -> Iterator[Aligned]:
    last = np.where(automaton.accepting, closed[-1], arrived[0].max()) if ended else closed[-1]
    state = _nearest_to_an_end(automaton, np.flatnonzero(last == last.min()))
    for place in range(len(variant), -1, -1):
        ways = arrived[place] + distance[:, state]
        origin = state if arrived[place][state] == closed[place][state] else int(ways.argmin())
        yield from (Aligned(Kind.SKIPPED, label, None) for label in reversed(_way(automaton, origin, state)))
        state = origin
        if place:
            label, cost = variant[place - 1], int(arrived[place][state])
            added = int(closed[place - 1][state]) + len(variant) + 2 == cost
            yield Aligned(Kind.ADDED if added else Kind.BOTH, label, place - 1)
            state = state if added else _before(automaton, closed[place - 1], label, state, cost)


def _nearest_to_an_end(automaton: Automaton, states: NDArray[np.intp]) -> int:
    return int(states[automaton.distance[np.ix_(states, automaton.accepting)].min(axis=1).argmin()])


def _before(automaton: Automaton, closed: _Costs, label: str, state: int, cost: int) -> int:
    """The state from which flow and case made the step to ``state`` together."""
    leads = automaton.step[:, automaton.code[label]] == state
    return int(np.flatnonzero(leads & (closed == cost))[0])


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


def in_words(moves: Sequence[Aligned], called: Callable[[str], str] = str) -> list[str]:
    """What is wrong, a sentence each, in the order of the moves. A step that is skipped in one place and added in
    another is one thing: it came too late or too early.
    """
    return [text for _, text in words_at(moves, called)]


def words_at(moves: Sequence[Aligned], called: Callable[[str], str] = str) -> list[tuple[tuple[int, ...], str]]:
    """The same sentences, each with the places of the moves that it is about."""
    swapped = _swapped(moves)
    sentences = [(pair, _out_of_order(moves, *pair, called)) for pair in swapped.items()]
    rest = [place for place, move in enumerate(moves) if move.kind is not Kind.BOTH]
    moved = {place for pair in swapped.items() for place in pair}
    runs = _runs(moves, [place for place in rest if place not in moved], moved)
    return sorted([*sentences, *((tuple(run), _told(moves, run, called)) for run in runs)])


def _swapped(moves: Sequence[Aligned]) -> dict[int, int]:
    """Places of moves that are one step in two places: where it first stands -> where it stands again."""
    waiting: dict[tuple[str, Kind], list[int]] = {}
    pairs = {}
    for place, move in enumerate(moves):
        if move.kind is not Kind.BOTH:
            other = Kind.ADDED if move.kind is Kind.SKIPPED else Kind.SKIPPED
            if partners := waiting.get((move.label, other)):
                pairs[partners.pop(0)] = place
            else:
                waiting.setdefault((move.label, move.kind), []).append(place)
    return pairs


def _out_of_order(moves: Sequence[Aligned], early: int, late: int, called: Callable[[str], str]) -> str:
    step = called(moves[early].label)
    between = [called(move.label) for move in moves[early + 1 : late] if move.kind is not Kind.SKIPPED]
    if not between:
        return f"{step} came in another order than documented"
    if moves[early].kind is Kind.SKIPPED:
        return f"{step} came only after {between[-1]}"
    return f"{step} came already before {between[0]}"


def _runs(moves: Sequence[Aligned], places: Sequence[int], moved: Set[int]) -> Iterator[list[int]]:
    """Neighbours of one kind are told together."""
    run: list[int] = []
    for place in places:
        joins = run and moves[run[-1]].kind is moves[place].kind and set(range(run[-1] + 1, place)) <= moved
        if run and not joins:
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _told(moves: Sequence[Aligned], run: Sequence[int], called: Callable[[str], str]) -> str:
    steps = [called(moves[place].label) for place in run]
    verb = "was" if len(steps) == 1 else "were"
    if moves[run[0]].kind is Kind.ADDED:
        before = _nearest(moves, range(run[0] - 1, -1, -1), (Kind.BOTH, Kind.ADDED))
        where = "at the beginning" if before is None else f"after {called(before)}"
        return f"{listed(steps)} {verb} added {where}"
    before = _nearest(moves, range(run[0] - 1, -1, -1), (Kind.BOTH,))
    after = _nearest(moves, range(run[-1] + 1, len(moves)), (Kind.BOTH,))
    if before is None:
        end = "nothing else happened" if after is None else f"it began with {called(after)}"
    else:
        end = (
            f"it ended with {called(before)}" if after is None else f"it went from {called(before)} to {called(after)}"
        )
    return f"{listed(steps)} {verb} skipped: {end}"


def _nearest(moves: Sequence[Aligned], places: Iterable[int], kinds: Collection[Kind]) -> str | None:
    return next((moves[place].label for place in places if moves[place].kind in kinds), None)


def listed(names: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
