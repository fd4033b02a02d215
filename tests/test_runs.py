"""How cases ran beside the flow: every case that can be told agrees with the check of transitions."""

from collections.abc import Sequence

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from itsms_sync.conformance.history import Force, history
from itsms_sync.conformance.runs import RUNS, Runs, runs
from itsms_sync.conformance.verdicts import STILL_OPEN
from itsms_sync.procedures.model import DocumentedTransitions, Procedure
from tests.test_kernel import (
    CREATED,
    MINUTE,
    START,
    Case,
    Save,
    cases,
    instants,
    mapping,
    procedure,
    read,
    said,
    several,
)

LATER = START + 20_000 * MINUTE
(FLOW,) = (r.id for r in procedure().requirements if isinstance(r, DocumentedTransitions))
STATES = {"new": "1", "work": "2", "hold": "3", "resolved": "6", "closed": "7", "cancelled": "8"}


def ran(stored: Sequence[Case], now: int, document: Procedure | None = None) -> Runs:
    log = read(dict(enumerate(stored)), now)
    return runs(history(log, document or procedure(), mapping().types(), now, Force(0, None, first=True)))


def case(*states: str, contact: str = "email") -> Case:
    """A case that enters these states, a minute each."""
    first = {**CREATED, "contact_type": contact, "state": STATES[states[0]]}
    saves = (Save(START + n * MINUTE, "anna", {"state": STATES[s]}, True) for n, s in enumerate(states[1:], start=1))
    return Case(START, first, tuple(saves))


def told(*states: str, **options: str) -> list[str]:
    found = ran([case(*states, **options)], LATER)
    (row,) = found.cases.iter_rows(named=True)
    return found.words(row["states"], row["more"], ended=row["ended"])


@settings(deadline=None, max_examples=15)
@given(several(gaps="any"), instants)
def test_a_run_costs_nothing_where_the_check_of_transitions_finds_nothing(stored: list[Case], now: int) -> None:
    found, log = ran(stored, now), read(dict(enumerate(stored)), now)
    assert found.cases.schema == pl.Schema(RUNS)
    verdicts = said(log, now, [procedure()])
    for row in found.cases.filter(pl.col("cost").is_not_null()).iter_rows(named=True):
        status, reason = verdicts[row["case"], FLOW][:2]
        if status == "deviating":
            assert row["cost"] > 0
        elif status == "conforming" or reason == STILL_OPEN:
            assert row["cost"] == 0
    for row in found.cases.filter(pl.col("cost").is_null()).iter_rows(named=True):
        assert row["reason"]
        assert verdicts[row["case"], FLOW][0] != "conforming"


@settings(deadline=None, max_examples=6)
@given(st.lists(cases(gaps="none"), min_size=1, max_size=5))
def test_what_is_told_of_a_case_does_not_depend_on_the_others(stored: list[Case]) -> None:
    together = ran(stored, LATER).cases
    alone = pl.concat([ran([one], LATER).cases.with_columns(case=pl.lit(n, pl.UInt32)) for n, one in enumerate(stored)])
    assert together.sort("case").equals(alone.filter(pl.col("case").is_in(together["case"].to_list())))


def test_a_step_that_was_left_out_is_named_with_what_stands_around_it() -> None:
    assert told("new", "work", "resolved", "closed") == []
    assert told("new", "resolved", "closed") == ["I5 Diagnose and work was skipped: it went from new to resolved"]
    assert told("new", "work", "hold", "resolved") == [
        "I5 Diagnose and work was skipped: it went from I7 Hold to resolved"
    ]


def test_what_a_short_cut_allows_is_no_deviation() -> None:
    assert told("new", "resolved", "closed", contact="phone") == []


def test_of_an_open_case_the_states_ahead_are_known() -> None:
    straight = {"new": ("work", "cancelled"), "work": ("hold", "resolved"), "hold": ("work",), "resolved": ("closed",)}
    flow = procedure().flow.model_copy(update={"edges": straight})
    document = procedure().model_copy(update={"flow": flow})

    def ahead(*states: str) -> tuple[str, ...]:
        found = ran([case(*states)], LATER, document)
        (row,) = found.cases.iter_rows(named=True)
        return found.ahead(found.moves(row["states"], row["more"], ended=False), row["more"])

    assert ahead("new") == ()  # it may be cancelled
    assert ahead("new", "work") == ("resolved", "closed")
    assert ahead("new", "work", "hold") == ("work", "resolved", "closed")
    assert ahead("new", "hold") == ("work", "resolved", "closed")
