"""A flow's internal form: what its automaton accepts, and what is refused with which words."""

from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itsms_sync.procedures.flow import MARKINGS, STATES, UNREACHABLE, Automaton, FlowError, Move, Net, compiled
from tests.nets import least_cost, random_net


def net(*moves: Move, start: str = "start", end: str = "end") -> Net:
    return Net(moves, frozenset({start}), (frozenset({end}),))


def chain(*labels: str | None) -> Net:
    places = ["start", *(f"p{n}" for n in range(1, len(labels))), "end"]
    return net(*(Move(label, (places[n],), (places[n + 1],)) for n, label in enumerate(labels)))


def in_parallel(branches: int, steps: int, name: str = "preparation") -> Net:
    """So many branches at the same time, of so many steps each."""
    places = [[f"b{branch}s{step}" for step in range(steps + 1)] for branch in range(branches)]
    moves = [Move(None, ("start",), tuple(branch[0] for branch in places), name)]
    for branch, of_branch in enumerate(places):
        for step in range(steps):
            moves.append(Move(f"step {branch}.{step}", (of_branch[step],), (of_branch[step + 1],), name))
    return net(*moves, Move(None, tuple(branch[-1] for branch in places), ("end",), name))


def accepts(automaton: Automaton, trace: tuple[str, ...]) -> bool:
    state = 0
    for label in trace:
        state = int(automaton.step[state, automaton.code[label]]) if label in automaton.code else -1
        if state < 0:
            return False
    return bool(automaton.accepting[state])


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 8))
def test_the_automaton_accepts_what_the_net_can_do_and_nothing_else(seed: int, size: int) -> None:
    flow = random_net(Random(seed), size, labels="abc")
    automaton = compiled(flow)
    for length in range(5):
        for trace in product("abc", repeat=length):
            assert accepts(automaton, trace) == (least_cost(flow, list(trace), ended=True) == 0), trace


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 10))
def test_no_two_states_of_the_automaton_accept_the_same(seed: int, size: int) -> None:
    automaton = compiled(random_net(Random(seed), size))
    told = np.equal.outer(automaton.accepting, automaton.accepting)
    steps = automaton.step
    for _ in range(len(steps)):
        for column in steps.T:
            both = (column[:, None] >= 0) & (column[None, :] >= 0)
            neither = (column[:, None] < 0) & (column[None, :] < 0)
            told &= neither | (both & told[np.ix_(column, column)])
    assert told.sum() == len(steps)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 10))
def test_distances_are_fewest_labels(seed: int, size: int) -> None:
    automaton = compiled(random_net(Random(seed), size))
    states = len(automaton.step)
    expected = np.full((states, states), UNREACHABLE)
    np.fill_diagonal(expected, 0)
    sources, columns = np.nonzero(automaton.step >= 0)
    for _ in range(states):
        for source, target in zip(sources, automaton.step[sources, columns], strict=True):
            expected[source] = np.minimum(expected[source], expected[target] + 1)
    assert (automaton.distance == np.minimum(expected, UNREACHABLE)).all()
    assert (automaton.distance[:, automaton.accepting].min(axis=1) < UNREACHABLE).all()


def test_states_that_lead_to_no_end_are_no_part_of_it() -> None:
    dead = Move("b", ("start",), ("trap",))
    automaton = compiled(net(Move("a", ("start",), ("end",)), dead, Move("b", ("trap",), ("trap",))))
    assert len(automaton.step) == 2
    assert automaton.step[0, automaton.code["b"]] == -1


def test_what_stands_on_every_way_is_unavoidable_nearest_first() -> None:
    automaton = compiled(
        net(
            Move("new", ("start",), ("a",)),
            Move("assess", ("a",), ("b",)),
            Move("fast track", ("a",), ("b",)),
            Move("implement", ("b",), ("c",)),
            Move("review", ("c",), ("end",)),
        )
    )
    assert automaton.unavoidable(0) == ("new", "implement", "review")
    assert automaton.unavoidable(int(automaton.step[0, automaton.code["new"]])) == ("implement", "review")
    assert automaton.unavoidable(int(np.flatnonzero(automaton.accepting)[0])) == ()


def test_an_end_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(FlowError, match="no end of the flow can be reached"):
        compiled(net(Move("a", ("start",), ("b",))))


def test_work_that_begins_again_before_it_has_ended_is_refused_by_name() -> None:
    again = Move("plan", ("start",), ("start", "ahead"), "planning")
    with pytest.raises(FlowError, match="of 'planning' can begin a second time"):
        compiled(net(again, Move("go", ("ahead",), ("end",))))


@pytest.mark.parametrize(("branches", "steps"), [(7, 2), (30, 4), (2000, 1)])
def test_parallel_work_that_explodes_is_refused_by_name(branches: int, steps: int) -> None:
    with pytest.raises(FlowError, match="most of them in the parallel work 'preparation': divide that work"):
        compiled(in_parallel(branches, steps))


def test_the_guilty_one_of_two_parallel_works_is_named() -> None:
    small, large = in_parallel(2, 2, "announcement"), in_parallel(9, 2, "tests")

    def shifted(move: Move) -> Move:
        places = {"start": "end"}
        rename = [tuple(places.get(p, f"second {p}") for p in side) for side in (move.takes, move.puts)]
        return Move(move.label, rename[0], rename[1], move.block)

    both = net(*small.moves, *map(shifted, large.moves), end="second end")
    with pytest.raises(FlowError, match="most of them in the parallel work 'tests'"):
        compiled(both)


def test_parallel_work_that_fits_is_compiled() -> None:
    automaton = compiled(in_parallel(6, 2))
    assert len(automaton.step) == 3**6 <= STATES


def test_steps_of_one_name_at_the_same_time_are_refused_where_they_explode() -> None:
    """The well-known set of traces in which the last but n-th step is given: it needs 2**n states."""
    size = 15
    assert 2**size > MARKINGS
    moves = [Move("a", ("start",), ("start",)), Move("b", ("start",), ("start",)), Move("a", ("start",), ("p0",))]
    for n in range(size):
        target = "end" if n == size - 1 else f"p{n + 1}"
        moves += [Move("a", (f"p{n}",), (target,)), Move("b", (f"p{n}",), (target,))]
    with pytest.raises(FlowError, match="names of their own"):
        compiled(net(*moves))


def test_a_flow_of_silent_moves_accepts_the_empty_trace_only() -> None:
    automaton = compiled(chain(None, None))
    assert automaton.labels == ()
    assert len(automaton.step) == 1
    assert automaton.accepting.tolist() == [True]
