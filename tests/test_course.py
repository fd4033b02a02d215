"""The course of the steps: what its blocks mean, what is refused, and what is out of order in it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itsms_sync.configuration import read_document
from itsms_sync.documents import Invalid
from itsms_sync.procedures.course import course_net
from itsms_sync.procedures.flow import Automaton, compiled
from itsms_sync.procedures.lint import contradictions
from itsms_sync.procedures.model import Choice, Course, Parallel, Part, Procedure, Repeat, Step

INCIDENT = read_document(Path(__file__).parent.parent / "mappings/procedures/incident.yaml", Procedure)
STEPS = tuple(Step(id=name.upper(), title=name, activity=name) for name in "abcdefgh")


def document(course: Course, steps: Sequence[Step] = STEPS) -> Procedure:
    return INCIDENT.model_copy(update={"course": course, "steps": tuple(steps), "requirements": ()})


def automaton(course: Course, steps: Sequence[Step] = STEPS, unseen: Iterable[str] = ()) -> Automaton:
    return compiled(course_net(document(course, steps), set(unseen)))


def fits(found: Automaton, trace: Sequence[str]) -> bool:
    state = 0
    for label in trace:
        state = int(found.step[state, found.code[label]]) if label in found.code else -1
        if state < 0:
            return False
    return bool(found.accepting[state])


# --- what a course means, said another way: by all of its shortest words


def words(course: Course, optional: frozenset[str], longest: int) -> set[str]:
    found = {""}
    for part in course:
        found = {one + other for one, other in product(found, words_of(part, optional, longest))}
        found = {word for word in found if len(word) <= longest}
    return found


def words_of(part: Part, optional: frozenset[str], longest: int) -> set[str]:
    match part:
        case Choice():
            return set().union(*(words(way, optional, longest) for way in part.choice))
        case Repeat():
            once = words(part.repeat, optional, longest)
            found, more = set(once), set(once)
            while more:
                more = {a + b for a, b in product(more, once) if len(a + b) <= longest} - found
                found |= more
            return found
        case Parallel():
            found = {""}
            for branch in part.branches:
                branch_words = words(branch, optional, longest)
                found = {mixed for a, b in product(found, branch_words) for mixed in shuffles(a, b)}
            return {word for word in found if len(word) <= longest}
        case _:
            return {part.lower(), *([""] if part.lower() in optional else [])}


def shuffles(one: str, other: str) -> Iterator[str]:
    for places in combinations(range(len(one) + len(other)), len(one)):
        ones, others = iter(one), iter(other)
        yield "".join(next(ones) if place in places else next(others) for place in range(len(one) + len(other)))


def parts(names: str) -> st.SearchStrategy[Course]:
    step = st.sampled_from([name.upper() for name in names])
    part: st.SearchStrategy[Part] = st.recursive(
        step,
        lambda inner: (
            st.lists(st.lists(inner, max_size=2).map(tuple), min_size=2, max_size=2).map(
                lambda ways: Choice(choice=tuple(ways))
            )
            | st.lists(inner, min_size=1, max_size=2).map(lambda again: Repeat(repeat=tuple(again)))
            | st.lists(st.lists(inner, max_size=2).map(tuple), min_size=2, max_size=2).map(
                lambda branches: Parallel(parallel="work", branches=tuple(branches))
            )
        ),
        max_leaves=4,
    )
    return st.lists(part, min_size=1, max_size=2).map(tuple)


@settings(deadline=None, max_examples=60)
@given(parts("abc"), st.sets(st.sampled_from("abc")))
def test_a_course_allows_its_words_and_no_others(course: Course, optional: set[str]) -> None:
    steps = [step.model_copy(update={"mandatory": step.activity not in optional}) for step in STEPS]
    found, allowed = automaton(course, steps), words(course, frozenset(optional), 4)
    for length in range(5):
        for trace in product("abc", repeat=length):
            assert fits(found, trace) == ("".join(trace) in allowed), trace


@settings(deadline=None, max_examples=40)
@given(parts("abc"))
def test_what_cannot_be_seen_may_have_happened(course: Course) -> None:
    found = automaton(course, unseen="b")
    allowed = {word.replace("b", "") for word in words(course, frozenset(), 9)}
    for length in range(3):
        for trace in product("ac", repeat=length):
            if fits(found, trace):
                assert any(word.startswith("".join(trace)) for word in allowed), trace
    assert all(fits(found, word) for word in allowed)


# --- what has no choice


@settings(deadline=None, max_examples=60)
@given(parts("abc"), st.sets(st.sampled_from("abc")))
def test_one_step_comes_before_another_where_no_word_says_otherwise(course: Course, optional: set[str]) -> None:
    """All words of up to six steps tell, of courses of up to four: each repetition is in there twice."""
    steps = [step.model_copy(update={"mandatory": step.activity not in optional}) for step in STEPS]
    found = automaton(course, steps)
    allowed = words(course, frozenset(optional), 8)
    expected = {
        (a, b)
        for a, b in product(found.labels, repeat=2)
        if a != b and not any(a in word and b in word and word.index(b) < word.index(a) for word in allowed)
    }
    assert expected == set(found.ordered())


def test_what_a_short_cut_may_skip_may_follow_later() -> None:
    pairs = set(compiled(course_net(INCIDENT)).ordered())
    assert {("assign", "work"), ("classify", "resolve"), ("prioritise", "hold")} <= pairs
    assert ("work", "resolve") not in pairs, "resolved at first contact, reopened and worked on"
    strict = INCIDENT.model_copy(update={"short_cuts": ()})
    assert ("work", "resolve") in compiled(course_net(strict)).ordered()


# --- what is refused


def refused(folder: Path, course: str) -> list[str]:
    """What is said of the shipped incident procedure with another course, each with its place."""
    text = (Path(__file__).parent.parent / "mappings/procedures/incident.yaml").read_text("utf-8")
    start, end = text.index("course:"), text.index("short_cuts:")
    path = folder / "incident.yaml"
    path.write_text(f"{text[:start]}{course}\n\n{text[end:]}", "utf-8")
    with pytest.raises(Invalid) as error:
        read_document(path, Procedure)
    return [str(problem).removeprefix(f"{path}:") for problem in error.value.problems]


def test_steps_of_a_course_are_documented() -> None:
    (fault,) = contradictions(document(("A", Repeat(repeat=("Z",)))))
    assert (("course",), "step 'Z' is not documented under steps") == (fault.place, fault.message)


def test_parallel_work_that_explodes_is_refused_by_its_name() -> None:
    steps = [Step(id=f"S{n}", title="x", activity=f"s{n}") for n in range(30)]
    branches = tuple((f"S{n}",) for n in range(30))
    (fault,) = contradictions(document((Parallel(parallel="the great migration", branches=branches),), steps))
    assert "in the parallel work 'the great migration': divide that work" in fault.message


def test_an_order_that_is_asked_for_is_written_down() -> None:
    changed = INCIDENT.model_copy(update={"course": ()})
    assert [fault.message for fault in contradictions(changed)] == [
        "it asks for the order of the steps: write that down under course"
    ]


@pytest.mark.parametrize(
    ("course", "told"),
    [
        ("course: [I2, I99]", "step 'I99' is not documented under steps"),
        ("course: [I2, {chioce: [[I3], []]}]", "there is no key `chioce` here; did you mean `choice`?"),
        ("course: I2", "must be a list, not the text `I2`"),
    ],
)
def test_a_wrong_course_is_told_with_its_place(tmp_path: Path, course: str, told: str) -> None:
    assert any(problem.startswith("37:") and problem.endswith(told) for problem in refused(tmp_path, course))


def test_a_course_cannot_be_nested_without_end(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, f"course: [{'{repeat: [' * 400}I2{']}' * 400}]")
    assert "nested in more than 50 levels" in problem
