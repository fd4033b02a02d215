"""Alignments: their costs against a search that knows no automaton, their moves against what they have to be."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itsms_sync.conformance import alignment as module
from itsms_sync.conformance.alignment import Aligned, Kind, alignment, costs, in_words
from itsms_sync.procedures.flow import Automaton, compiled
from tests.nets import least_cost, random_net, random_trace
from tests.test_flow import chain, in_parallel

SEEDS = st.integers(0, 10**9)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 12))
def test_costs_are_least_costs(seed: int, size: int) -> None:
    random = Random(seed)
    net = random_net(random, size)
    traces = [random_trace(random, net) for _ in range(6)]
    ended = [random.random() < 0.5 for _ in traces]
    expected = [least_cost(net, trace, ended=end) for trace, end in zip(traces, ended, strict=True)]
    assert costs(compiled(net), traces, ended).tolist() == expected


@settings(deadline=None)
@given(SEEDS, st.integers(1, 12), st.booleans())
def test_an_alignment_explains_the_trace_by_a_run_of_the_flow_at_least_cost(seed: int, size: int, ended: bool) -> None:
    random = Random(seed)
    net = random_net(random, size)
    automaton, trace = compiled(net), random_trace(random, net)
    moves = alignment(automaton, trace, ended=ended)
    assert [(m.event, m.label) for m in moves if m.kind is not Kind.SKIPPED] == list(enumerate(trace))
    assert sum(m.kind is not Kind.BOTH for m in moves) == least_cost(net, trace, ended=ended)
    state = run(automaton, [m.label for m in moves if m.kind is not Kind.ADDED])
    assert state >= 0
    assert automaton.accepting[state] or not ended


def run(automaton: Automaton, labels: list[str]) -> int:
    state = 0
    for label in labels:
        state = int(automaton.step[state, automaton.code[label]])
    return state


def told(labels: str, trace: str, *, ended: bool = True) -> str:
    """Skipped steps in brackets, added ones after a plus sign."""
    words = {Kind.BOTH: "{}", Kind.SKIPPED: "[{}]", Kind.ADDED: "+{}"}
    moves = alignment(compiled(chain(*labels)), trace, ended=ended)
    return " ".join(words[move.kind].format(move.label) for move in moves)


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ("abcd", "a b c d"),
        ("acd", "a [b] c d"),
        ("abxcd", "a b +x c d"),
        ("acbd", "a [b] c +b d"),
        ("", "[a] [b] [c] [d]"),
        ("dcba", "[a] [b] [c] d +c +b +a"),
        ("abbcd", "a b +b c d"),
    ],
)
def test_what_is_skipped_added_and_swapped_stands_where_a_person_would_put_it(trace: str, expected: str) -> None:
    assert told("abcd", trace) == expected


@pytest.mark.parametrize(("trace", "expected"), [("ab", "a b"), ("ac", "a [b] c"), ("axc", "a [b] +x c"), ("", "")])
def test_of_an_open_case_only_what_is_wrong_already_counts(trace: str, expected: str) -> None:
    assert told("abcd", trace, ended=False) == expected


@settings(deadline=None)
@given(SEEDS)
def test_costs_do_not_depend_on_how_many_variants_fit_in_at_once(seed: int) -> None:
    random = Random(seed)
    net = random_net(random, 6)
    automaton, traces = compiled(net), [random_trace(random, net) for _ in range(20)]
    ended = [random.random() < 0.5 for _ in traces]
    alone = [int(costs(automaton, [trace], [end])[0]) for trace, end in zip(traces, ended, strict=True)]
    assert costs(automaton, traces, ended).tolist() == alone


def test_more_variants_than_fit_in_at_once_go_in_parts() -> None:
    automaton = compiled(in_parallel(6, 2))
    traces = [
        [f"step {n % 6}.{n // 6 % 2}"] * (n % 3) + [str(n)] for n in range(2 * module.CELLS // len(automaton.step))
    ]
    found = costs(automaton, traces, [False] * len(traces))
    few = costs(automaton, traces[:50], [False] * 50)
    assert len(found) == len(traces)
    assert (found[:50] == few).all()


def test_no_variants_have_no_costs() -> None:
    assert costs(compiled(chain("a")), [], []).tolist() == []


def test_a_trace_that_repeats_itself_a_thousand_times_is_aligned() -> None:
    automaton = compiled(chain("a", "b"))
    trace = ["a", "b"] * 1000
    assert costs(automaton, [trace], [True]).tolist() == [1998]
    assert sum(move.kind is Kind.BOTH for move in alignment(automaton, trace, ended=True)) == 2


def test_a_move_tells_its_event() -> None:
    assert alignment(compiled(chain("a", "b")), ["a"], ended=True) == (
        Aligned(Kind.BOTH, "a", 0),
        Aligned(Kind.SKIPPED, "b", None),
    )
    assert costs(compiled(chain("a", "b")), [["a"]], [True]).dtype == np.int32


@pytest.mark.parametrize(
    ("trace", "sentences"),
    [
        ("nasir", []),
        ("nair", ["Schedule was skipped: it went from Assess to Implement"]),
        ("nir", ["Assess and Schedule were skipped: it went from New to Implement"]),
        ("asir", ["New was skipped: it began with Assess"]),
        ("nasi", ["Review was skipped: it ended with Implement"]),
        ("naisr", ["Schedule came only after Implement"]),
        ("nasiri", ["Implement was added after Review"]),
        ("nasirir", ["Implement and Review were added after Review"]),
        ("xnasir", ["x was added at the beginning"]),
        ("anir", ["New came only after Assess", "Schedule was skipped: it went from Assess to Implement"]),
        ("", ["New, Assess, Schedule, Implement and Review were skipped: nothing else happened"]),
    ],
)
def test_what_is_wrong_is_told_in_words(trace: str, sentences: list[str]) -> None:
    names = {"n": "New", "a": "Assess", "s": "Schedule", "i": "Implement", "r": "Review"}
    moves = alignment(compiled(chain(*"nasir")), trace, ended=True)
    assert in_words(moves, lambda label: names.get(label, label)) == sentences


@settings(deadline=None)
@given(SEEDS, st.integers(1, 12))
def test_whatever_is_wrong_is_told_and_nothing_else(seed: int, size: int) -> None:
    random = Random(seed)
    net = random_net(random, size)
    trace = random_trace(random, net)
    moves = alignment(compiled(net), trace, ended=True)
    wrong = [move.label for move in moves if move.kind is not Kind.BOTH]
    told = " ".join(in_words(moves, lambda label: f"<{label}>"))
    assert bool(told) == bool(wrong)
    assert all(f"<{label}>" in told for label in wrong)
