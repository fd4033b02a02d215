"""A case step by step beside its procedure: what stands beside each save, how the limits run, and what comes next."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from itsms_sync.conformance.kernel import judge
from itsms_sync.conformance.stepwise import Beside, CaseFacts, beside
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.calendars import DAYS, Calendar, Clocks
from itsms_sync.sms.cases import Basis, CaseLog, from_history
from tests import test_cases, test_kernel
from tests.test_cases import TIMER, Story, frames, mapping, millis, source_field, types, versions, with_parts
from tests.test_kernel import instants, several

OFFICE = Calendar(title="Office", zone="Europe/Berlin", hours=dict.fromkeys(DAYS[:5], ("08:00-18:00",)))  # type: ignore[arg-type]
CLOCKS = Clocks({"business_hours": OFFICE, "business_days": OFFICE})
NOTHING = Clocks({})
WORK = {"at": "2026-03-02 09:00", "by": "anna", "group": "network", "state": "work"}
SOLVED = {"close_code": "solved", "close_notes": "text:1"}


def told(*saves: dict[str, Any], clocks: Clocks = CLOCKS, versions_: Sequence[Procedure] = (), **more: Any) -> Beside:
    """An incident of Monday, 2026-03-02 08:00 UTC, as of the same day at 20:00 where nothing else is said."""
    story = Story.model_validate(
        {"case": "told", "now": "2026-03-02 20:00", "created": "2026-03-02 08:00", "saves": saves, "expect": {}, **more}
    )
    of = mapping(story.process, story.system)
    audited = of.audited_fields() - {source_field(of, name) for name in story.without_history}
    basis = Basis(of, millis(story.now), audited, frozenset({TIMER}))
    log = with_parts(from_history(*frames(story, of), basis), story, of)
    return _beside(log, versions_ or versions(story), basis.now, clocks, story.process)


def _beside(log: CaseLog, documents: Sequence[Procedure], now: int, clocks: Clocks, process: str) -> Beside:
    verdicts = judge(log, documents, types(process), now, clocks)
    activities = mapping(process).conditions()
    return beside(CaseFacts(log, documents, types(process), activities, verdicts, now, clocks))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def limit(found: Beside, requirement: str) -> Any:
    return next(one for one in found.limits if one.requirement == requirement)


def minutes(millis_: int | None) -> int | None:
    return None if millis_ is None else millis_ // 60_000


# --- beside each save


def test_each_save_has_the_documented_steps_that_it_made() -> None:
    found = told(WORK, {"at": "2026-03-02 10:00", "by": "anna", "state": "resolved", **SOLVED})
    assert [("I2 Classify", "I3 Prioritise"), ("I4 Assign", "I5 Diagnose and work"), ("I8 Resolve",)] == [
        save.steps for save in found.saves
    ]
    assert [("new", "both"), ("work", "both"), ("resolved", "both")] == [(s.state, s.move) for s in found.saves]
    assert [None, "anna", "anna"] == [save.actor for save in found.saves]
    assert {"group": ("", "network"), "state": ("new", "work")} == found.saves[1].changes
    assert () == found.words


def test_a_skipped_step_is_told_where_the_case_went_on_without_it() -> None:
    found = told({"at": "2026-03-02 10:00", "by": "anna", "state": "resolved"})
    assert ((), ("I5 Diagnose and work was skipped: it went from new to resolved",)) == tuple(
        save.wrong for save in found.saves
    )
    assert 1 == found.cost


def test_an_added_step_is_told_where_it_was_made() -> None:
    found = told(WORK, {"at": "2026-03-02 10:00", "by": "anna", "state": "new"})
    assert ("added", ("new was added after I5 Diagnose and work",)) == (found.saves[2].move, found.saves[2].wrong)


def test_a_step_in_another_order_is_told_once_where_it_was_made() -> None:
    straight = {"new": ("work",), "work": ("hold",), "hold": ("resolved",), "resolved": ("closed",), "closed": ()}
    document = test_cases.procedure()
    document = document.model_copy(update={"flow": document.flow.model_copy(update={"edges": straight})})
    states = ("hold", "work", "resolved", "closed")
    saves = [{"at": f"2026-03-02 {10 + n}:00", "by": "anna", "state": s} for n, s in enumerate(states)]
    found = told(*saves, versions_=[document])
    assert 1 == len(found.words)
    assert list(found.words) == [text for save in found.saves for text in save.wrong]


def test_what_is_wrong_at_the_end_is_told_at_the_last_save() -> None:
    found = told(WORK, {"at": "2026-03-02 10:00", "by": "anna", "state": "cancelled"}, now="2026-03-03 08:00")
    assert not found.open
    assert () == found.outstanding
    assert () == found.following


def test_the_version_in_force_is_that_of_the_instant() -> None:
    found = told(
        WORK,
        {"at": "2026-03-06 10:00", "by": "anna", "state": "resolved", **SOLVED},
        now="2026-03-20 08:00",
        versions=[{"valid_from": "2026-01-01"}, {"valid_from": "2026-03-05", "drop": ["INC-I8-NOTES"]}],
    )
    assert [("1.0", at("2026-01-01 00:00")), ("1.0", at("2026-03-05 00:00"))] == list(found.starts)
    assert "INC-I8-NOTES" not in found.versions


def test_before_the_first_version_none_is_in_force() -> None:
    found = told(WORK, now="2026-03-20 08:00", versions=[{"valid_from": "2026-03-02"}], created="2026-03-01 08:00")
    assert [None, "1.0"] == [save.version for save in found.saves]


def test_a_gap_leaves_the_order_of_states_untold_and_says_where_saves_are_missing() -> None:
    gap = {"at": "2026-03-02 09:30", "by": "anna", "state": "hold", "trace": False}
    found = told(WORK, gap, {"at": "2026-03-02 10:00", "by": "anna", "state": "resolved"})
    assert ("gap: saves without history", None) == (found.reason, found.cost)
    assert [0, 0, 1] == [save.missed for save in found.saves]
    assert {None} == {save.move for save in found.saves}
    assert [("new",), ("work",), ("resolved",)] == [(save.state,) for save in found.saves]


# --- time limits


def test_a_running_limit_has_its_deadline_on_its_calendar() -> None:
    found = told(WORK)
    resolve = limit(found, "INC-RESOLVE-P3")
    # From 09:00 in Berlin: nine hours of this day, three days of ten hours are allowed.
    assert ("running", 9 * 60, 21 * 60) == (resolve.state, minutes(resolve.spent), minutes(resolve.left))
    assert (at("2026-03-05 08:00"), "Europe/Berlin") == (resolve.deadline, resolve.zone)
    assert [(0, 0, "running"), (1, 60, "running")] == [(t.row, minutes(t.spent), t.state) for t in resolve.ticks]


def test_an_answered_limit_has_stopped() -> None:
    response = limit(told(WORK), "INC-RESPONSE-P3")
    assert ("stopped", 60, at("2026-03-02 12:00")) == (response.state, minutes(response.spent), response.deadline)
    assert ["running", "stopped"] == [tick.state for tick in response.ticks]


def test_a_pause_stands_still_and_has_no_deadline() -> None:
    hold = {"at": "2026-03-02 10:00", "by": "anna", "state": "hold", "hold_reason": "caller"}
    found = told({**WORK, "priority": "1"}, hold, now="2026-03-02 18:00", attributes={"priority": "1"})
    resolve = limit(found, "INC-RESOLVE-P1")
    assert ("paused", 120, 120, None) == (
        resolve.state,
        minutes(resolve.spent),
        minutes(resolve.left),
        resolve.deadline,
    )
    back = {"at": "2026-03-02 17:00", "by": "anna", "state": "work"}
    resolve = limit(told(WORK, hold, back, now="2026-03-02 18:00", attributes={"priority": "1"}), "INC-RESOLVE-P1")
    assert ("running", 180, at("2026-03-02 19:00")) == (resolve.state, minutes(resolve.spent), resolve.deadline)
    assert ["running", "running", "paused", "running"] == [tick.state for tick in resolve.ticks]


def test_a_passed_limit_tells_when_it_ran_out() -> None:
    resolve = limit(told(WORK, attributes={"priority": "1"}), "INC-RESOLVE-P1")
    assert (at("2026-03-02 12:00"), -8 * 60) == (resolve.deadline, minutes(resolve.left))


def test_a_limit_on_a_calendar_that_nobody_described_says_so() -> None:
    resolve = limit(told(WORK, clocks=NOTHING), "INC-RESOLVE-P3")
    assert ("not known", None, "the calendar 'business_days' is not described in calendars.yaml") == (
        resolve.state,
        resolve.deadline,
        resolve.missing,
    )


def test_where_it_is_not_known_whether_a_limit_stood_still_both_bounds_are_told() -> None:
    hold = {"at": "2026-03-02 09:00", "by": "anna", "state": "hold", "hold_reason": None}
    resolve = limit(told(hold, now="2026-03-02 10:30", attributes={"priority": "1"}), "INC-RESOLVE-P1")
    assert ("not known", 60, 150) == (resolve.state, minutes(resolve.spent), minutes(resolve.at_most))


def test_a_limit_after_a_step_runs_until_the_link() -> None:
    resolved = {"at": "2026-03-02 12:00", "by": "anna", "state": "resolved", **SOLVED}
    found = told(WORK, resolved, attributes={"major_state": "accepted"})
    link = limit(found, "INC-MI6-PROBLEM")
    assert ("running", at("2026-03-04 12:00")) == (link.state, link.deadline)
    linked = [{"role": "problem", "process": "problem", "state": "new", "at": "2026-03-02 15:00"}]
    link = limit(told(WORK, resolved, attributes={"major_state": "accepted"}, links=linked), "INC-MI6-PROBLEM")
    assert ("stopped", 180) == (link.state, minutes(link.spent))


def test_limits_of_other_priorities_and_of_other_cases_are_left_out() -> None:
    assert ["INC-RESPONSE-P3", "INC-RESOLVE-P3", "INC-UPDATE-P3"] == [one.requirement for one in told(WORK).limits]


@settings(deadline=None, max_examples=8)
@given(several(gaps="any"), instants)
def test_limits_say_what_their_checks_say(stored: list[test_kernel.Case], now: int) -> None:
    for case in stored[:2]:
        log = test_kernel.read({0: case}, now)
        if log.cases.is_empty():
            continue
        found = _beside(log, test_kernel.versions(), now, CLOCKS, "incident")
        verdicts = judge(log, test_kernel.versions(), types("incident"), now, CLOCKS)
        said = {row["requirement"]: row for row in verdicts.iter_rows(named=True)}
        assert len(found.saves) == len(log.saves)
        for one in found.limits:
            verdict = said[one.requirement]
            if verdict["status"] == "deviating":
                assert one.left is not None
                assert one.left < 0
            elif verdict["status"] == "conforming":
                assert one.state == "stopped"
                assert one.left is not None
                assert one.left >= 0
            elif verdict["reason"] == "within the limit" and one.state == "running":
                assert one.deadline is not None
                # Used up to the last moment, it is not passed until work goes on, as on the next morning.
                assert now <= one.deadline or one.left == 0
                assert _said_at(log, one.requirement, now) != "deviating"


def _said_at(log: CaseLog, requirement: str, now: int) -> str:
    verdicts = judge(log, test_kernel.versions(), types("incident"), now, CLOCKS)
    return str(verdicts.filter(pl.col("requirement") == requirement)["status"][0])


@settings(deadline=None, max_examples=8)
@given(several(gaps="none"), instants)
def test_each_sentence_stands_at_one_save(stored: list[test_kernel.Case], now: int) -> None:
    for case in stored[:2]:
        log = test_kernel.read({0: case}, now)
        if not log.cases.is_empty():
            found = _beside(log, [test_kernel.procedure()], now, NOTHING, "incident")
            assert sorted(found.words) == sorted(text for save in found.saves for text in save.wrong)
            assert bool(found.words) == bool(found.cost)


# --- what comes next


def test_the_next_mandatory_step_is_known_with_its_deadline() -> None:
    found = told(WORK)
    assert ["I8 Resolve", "I9 Confirm and close"] == [one.step for one in found.outstanding]
    resolve = found.outstanding[0]
    assert ("Resolver", ("INC-I8-RESOLVE",), ("INC-RESOLVE-P3",)) == (
        resolve.role,
        resolve.requirements,
        resolve.limits,
    )
    assert "I9 Confirm and close" == resolve.before
    assert ("cancelled", "hold", "resolved") == found.following


def test_steps_of_a_new_case_come_in_the_order_of_the_document() -> None:
    found = told(attributes={"category": ""})
    assert ["I2 Classify", "I4 Assign", "I5 Diagnose and work", "I8 Resolve", "I9 Confirm and close"] == [
        one.step for one in found.outstanding
    ]
    answer = next(one for one in found.outstanding if one.step.startswith("I5"))
    assert ("INC-RESPONSE-P3",) == answer.limits


def test_an_open_short_cut_leaves_its_step_out() -> None:
    found = told(attributes={"contact_type": "phone"})
    assert "I5 Diagnose and work" not in [one.step for one in found.outstanding]


def test_a_step_that_was_passed_over_is_not_still_to_be_made() -> None:
    found = told({"at": "2026-03-02 10:00", "by": "anna", "state": "resolved", **SOLVED})
    assert ["I9 Confirm and close"] == [one.step for one in found.outstanding]


def test_what_was_resolved_and_came_back_has_to_be_resolved_again() -> None:
    resolved = {"at": "2026-03-02 10:00", "by": "anna", "state": "resolved", **SOLVED}
    found = told(WORK, resolved, {"at": "2026-03-02 11:00", "by": "carla", "state": "work"})
    assert ["I8 Resolve", "I9 Confirm and close"] == [one.step for one in found.outstanding]
    assert ("INC-RESOLVE-P3",) == found.outstanding[0].limits


def test_a_step_that_a_gap_may_hide_is_unsure() -> None:
    gap = {"at": "2026-03-02 08:30", "by": "anna", "category": "software", "trace": False}
    found = told(gap, {"at": "2026-03-02 09:00", "by": "anna", "group": "network"})
    assert {"I5 Diagnose and work": "it may have happened in saves without history"}.items() <= {
        one.step: one.unsure for one in found.outstanding
    }.items()


@pytest.mark.parametrize("state", ["cancelled", "closed"])
def test_nothing_comes_after_the_end(state: str) -> None:
    found = told(WORK, {"at": "2026-03-02 10:00", "by": "anna", "state": state})
    assert (False, (), (), ()) == (found.open, found.outstanding, found.following, found.ahead)


def test_a_flow_that_cannot_be_compiled_is_told_as_the_reason() -> None:
    document = test_cases.procedure()
    flow = document.flow.model_copy(update={"final": ("nowhere",)})
    found = told(WORK, versions_=[document.model_copy(update={"flow": flow})])
    assert "no end of the flow can be reached from its start" == found.reason
    assert ["new", "work"] == [save.state for save in found.saves]


def test_of_an_open_case_only_what_is_wrong_already_counts() -> None:
    assert 0 == told(WORK).cost
    held = told({"at": "2026-03-02 09:00", "by": "anna", "state": "hold"})
    assert ("I5 Diagnose and work was skipped: it went from new to I7 Hold",) == held.words
    assert ("I5 Diagnose and work",) == tuple(test_cases.procedure().called(state) for state in held.ahead)
