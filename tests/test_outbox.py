"""One ticket per intent, whatever is lost on the way: the outbox over a real database and a target that misbehaves."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from itsms_sync.connector import LoggedOut, Refused, Unavailable
from itsms_sync.outbox import DAY, RETRY_AFTER, OutboxReport, pack, unpack
from itsms_sync.records import (
    Action,
    Block,
    Gap,
    Item,
    Ticket,
    Write,
    Written,
)
from itsms_sync.store import outgoing
from itsms_sync.store.decided import change_intent, intents
from tests.tracker import DEADLINE, HOUR, LAG, QUARANTINE, START, Desk, Time, Tracker, opened


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as found:
        yield found


LOST = "the answer was lost"


def unclear() -> Unavailable:
    return Unavailable(LOST, sent=True)


# --- the ordinary life


def test_create(desk: Desk) -> None:
    desk.intend()
    report = desk.perform()
    assert (["CAPA-1"], [], 0, 0, []) == (report.sent, report.adopted, report.waiting, report.unclear, report.parked)
    assert ["CAPA-1: the severity was not taken over"] == report.problems
    assert ({"R.1.g1": "done"}, {"R.1.g1": "CAPA-1"}) == (desk.states(), desk.known_tickets())
    assert OutboxReport() == desk.perform()
    assert 1 == len(desk.tracker.writes)


def test_intents_are_sent_in_the_order_in_which_they_were_made(desk: Desk) -> None:
    for number in (3, 1, 2):
        desk.intend(f"R.{number}.g1")
    desk.perform()
    assert ["R.3.g1", "R.1.g1", "R.2.g1"] == [write.key for write in desk.tracker.writes]


def test_deciding_twice_makes_one_intent(desk: Desk) -> None:
    desk.intend()
    desk.intend(summary="told in other words")
    desk.perform()
    assert ["about R.1.g1"] == [write.summary for write in desk.tracker.writes]


def test_a_restored_database_adopts_what_is_there(desk: Desk) -> None:
    desk.tracker.keep("R.1.g1", since=START - HOUR)
    desk.tracker.keep("R.1.g1", since=START - HOUR)
    desk.intend()
    report = desk.perform()
    assert ([], ["CAPA-1"], ["CAPA-2"], []) == (report.sent, report.adopted, report.duplicates, desk.tracker.writes)
    assert ({"R.1.g1": "done"}, {"R.1.g1": "CAPA-1"}) == (desk.states(), desk.known_tickets())


def test_an_intent_for_another_target_is_left_alone(desk: Desk) -> None:
    desk.intend(target="retired")
    assert OutboxReport() == desk.perform()
    assert {"R.1.g1": "pending"} == desk.states()


def dead() -> LoggedOut:
    return LoggedOut("status 401: check the secret")


@pytest.mark.parametrize("place", ["on_find", "before_write"])
def test_a_target_that_lets_us_in_no_longer_is_asked_once_and_nothing_is_parked(place: str, desk: Desk) -> None:
    """More wrong logins might lock the account; with another secret all goes on by itself."""
    for number in range(3):
        desk.intend(f"R.{number}.g1")
    getattr(desk.tracker, place).append(dead())
    report = desk.perform()
    assert (["jira: status 401: check the secret"], 3, [], 1) == (
        report.problems,
        report.waiting,
        report.parked,
        desk.tracker.finds,
    )
    assert [0, 0, 0] == desk.attempts()
    assert 3 == len(desk.perform().sent)


def test_an_unclear_outcome_stays_unclear_while_nobody_may_look(desk: Desk) -> None:
    desk.intend()
    desk.tracker.after_write.append(unclear())
    desk.perform()
    desk.time.real += QUARANTINE
    desk.tracker.on_find.append(dead())
    assert (1, {"R.1.g1": "unclear"}) == (desk.perform().unclear, desk.states())
    assert (["CAPA-1"], 1) == (desk.perform().adopted, len(desk.tracker.writes))


def test_above_max_writes_nothing_is_written(desk: Desk) -> None:
    for number in range(4):
        desk.intend(f"R.{number}.g1")
    report = desk.perform(max_writes=3)
    assert (4, 4, []) == (report.held, report.waiting, desk.tracker.writes)
    assert 0 == desk.tracker.finds
    released = desk.perform(max_writes=4)
    assert (0, 4) == (released.held, len(released.sent))


# --- failures that are told


def test_what_was_surely_not_sent_is_sent_later(desk: Desk) -> None:
    desk.tracker.before_write = [Unavailable("no route", sent=False)]
    desk.intend()
    report = desk.perform()
    assert ([], 1, 0, ["R.1.g1: no route"]) == (report.sent, report.waiting, report.unclear, report.problems)
    desk.time.real += RETRY_AFTER - 1
    assert [] == desk.perform().sent
    desk.time.real += 1
    assert ["CAPA-1"] == desk.perform().sent
    assert 1 == desk.intent().attempts


def test_the_target_may_name_a_longer_wait(desk: Desk) -> None:
    desk.tracker.before_write = [Unavailable("slow down", retry_after=300.0)]
    desk.intend()
    desk.perform()
    desk.time.real += 299_999
    assert [] == desk.perform().sent
    desk.time.real += 1
    assert ["CAPA-1"] == desk.perform().sent


def test_not_sent_never_counts_as_an_attempt(desk: Desk) -> None:
    desk.tracker.before_write = [Unavailable("no route") for _ in range(10)]
    desk.intend()
    for _ in range(10):
        desk.perform()
        desk.time.real += RETRY_AFTER
    assert ["CAPA-1"] == desk.perform().sent


@pytest.mark.parametrize(
    "no", [Refused("the project is archived"), Gap("issue", "not-served", "the project is archived")]
)
def test_a_refusal_is_parked_with_its_reason_and_stops_nobody(desk: Desk, no: Any) -> None:
    desk.tracker.before_write = [no]
    desk.intend("R.1.g1")
    desk.intend("R.2.g1")
    report = desk.perform()
    assert (["R.1.g1: the project is archived"], ["CAPA-1"]) == (report.parked, report.sent)
    desk.time.real += DAY - 1
    desk.perform()
    assert {"R.1.g1": "parked", "R.2.g1": "done"} == desk.states()


def test_a_refusal_is_tried_again_once_a_day(desk: Desk) -> None:
    desk.tracker.before_write = [Refused("no such field") for _ in range(3)]
    desk.intend()
    desk.perform()
    for _ in range(3):
        desk.time.real += DAY
        desk.perform()
    assert ({"R.1.g1": "done"}, 1) == (desk.states(), len(desk.tracker.writes))
    assert [("parked", 1), ("pending", 1), ("parked", 2)] == [step[:2] for step in desk.steps()][:3]


def test_a_refusal_is_tried_again_when_configuration_or_documents_change(desk: Desk) -> None:
    desk.tracker.before_write = [Refused("no such field")]
    desk.intend()
    desk.perform()
    assert [] == desk.perform().sent
    desk.basis = "as configured then"
    assert ["CAPA-1"] == desk.perform().sent


def test_without_a_search_nothing_is_created(desk: Desk) -> None:
    """A target that cannot tell what is there could get the same ticket twice."""
    desk.tracker.on_find = [Gap("search", "not-served", "there is no search")]
    desk.intend()
    report = desk.perform()
    assert (["R.1.g1: there is no search"], [], 1) == (report.problems, desk.tracker.writes, report.waiting)


# --- outcomes that nobody knows


@pytest.mark.parametrize("arrived", [True, False])
def test_an_unclear_outcome_is_quarantined_then_looked_up(desk: Desk, arrived: bool) -> None:
    (desk.tracker.after_write if arrived else desk.tracker.before_write).append(unclear())
    desk.intend()
    report = desk.perform()
    assert ({"R.1.g1": "unclear"}, 1, START + QUARANTINE) == (desk.states(), report.unclear, report.settles_at)
    assert [f"R.1.g1: outcome unclear: {LOST}"] == report.problems
    finds = desk.tracker.finds
    desk.time.real = START + QUARANTINE - 1
    assert (0, 1) == (len(desk.perform().sent), desk.perform().unclear)
    assert finds == desk.tracker.finds
    desk.time.real += 1
    report = desk.perform()
    assert (([], ["CAPA-1"]) if arrived else (["CAPA-1"], [])) == (report.sent, report.adopted)
    assert (1, {"R.1.g1": "done"}) == (len(desk.tracker.tickets), desk.states())


def test_a_look_up_that_fails_is_tried_again(desk: Desk) -> None:
    desk.tracker.after_write = [unclear()]
    desk.intend()
    desk.perform()
    desk.time.real += QUARANTINE
    desk.tracker.on_find = [Unavailable("maintenance")]
    assert (1, [], ["R.1.g1: maintenance"]) == ((r := desk.perform()).unclear, r.sent, r.problems)
    desk.time.real += RETRY_AFTER
    assert ["CAPA-1"] == desk.perform().adopted


def test_after_the_limit_a_person_is_asked(desk: Desk) -> None:
    desk.unclear_limit = 2
    desk.tracker.before_write = [unclear(), unclear()]
    desk.intend()
    for _ in range(2):
        desk.perform()
        desk.time.real += QUARANTINE
    report = desk.perform()
    assert ["R.1.g1: sent 2 times and never found: look for R.1.g1"] == report.parked
    desk.time.real += 365 * 24 * HOUR
    desk.perform()
    assert ({"R.1.g1": "asked"}, []) == (desk.states(), desk.tracker.writes)


@pytest.mark.parametrize("arrived", [True, False])
def test_an_unclear_comment_is_looked_up_by_its_mark(desk: Desk, arrived: bool) -> None:
    """That its ticket is there proves nothing."""
    desk.tracker.keep("R.1.g1", since=START - HOUR)
    (desk.tracker.after_write if arrived else desk.tracker.before_write).append(unclear())
    desk.tell("first", ticket="1")
    desk.perform()
    desk.time.real += QUARANTINE
    desk.perform()
    assert ([Action.COMMENT], {"R.1.g1": "done"}) == ([w.action for w in desk.tracker.writes], desk.states())
    assert 1 == len(desk.tracker.comments)


def test_a_comment_that_nobody_can_look_up_is_left_to_a_person(desk: Desk) -> None:
    desk.tracker.keep("R.1.g1", since=START - HOUR)
    desk.tracker.after_write = [unclear()]
    desk.tell("first", ticket="1")
    desk.perform()
    desk.time.real += QUARANTINE
    desk.tracker.on_look = [Gap("notes", "refused", "notes may not be read")]
    report = desk.perform()
    assert ["R.1.g1: nobody can tell whether it was written: notes may not be read"] == report.parked
    assert ({"R.1.g1": "asked"}, 1) == (desk.states(), len(desk.tracker.writes))


# --- order


def test_writes_to_one_ticket_go_out_in_order(desk: Desk) -> None:
    """What comes later waits while the outcome of what comes before is unclear, whatever becomes of others."""
    desk.tracker.after_write = [unclear()]
    desk.intend()
    desk.tell("first")
    desk.tell("second")
    desk.intend("R.2.g1")
    assert ["CAPA-2"] == desk.perform().sent
    desk.time.real += QUARANTINE
    report = desk.perform()
    assert (["CAPA-1"], ["CAPA-1", "CAPA-1"]) == (report.adopted, report.sent)
    told = [Write(Action.COMMENT, "R.1.g1", subject=subject).mark for subject in ("first", "second")]
    assert [("1", mark) for mark in told] == desk.tracker.comments


@pytest.mark.parametrize("state", ["parked", "asked"])
def test_what_comes_later_waits_for_a_person_too(desk: Desk, state: str) -> None:
    desk.tracker.before_write = [Refused("no")] if state == "parked" else [unclear()]
    desk.unclear_limit = 1
    desk.intend()
    desk.tell("first")
    desk.perform()
    desk.time.real += QUARANTINE
    desk.perform()
    assert ([], 1) == (desk.tracker.writes, desk.perform().waiting)
    desk.ask("replay", "R.1.g1", not_there=True)
    assert ["CAPA-1", "CAPA-1"] == desk.perform().sent


def test_a_step_that_the_workflow_does_not_allow_is_waived_and_holds_nothing_up(desk: Desk) -> None:
    desk.intend()
    desk.perform()
    desk.tracker.before_write = [Refused("it cannot go there")]
    desk.intend(action=Action.TRANSITION, to_state="Open")
    desk.tell("after it")
    report = desk.perform()
    assert ("R.1.g1: it cannot go there", [], 1) == (report.problems[0], report.parked, len(desk.tracker.comments))


# --- what people have changed is theirs


def test_a_field_that_people_have_changed_is_not_written(desk: Desk) -> None:
    desk.intend()
    desk.perform()
    desk.tracker.change("1", {"summary": "what people say"})
    desk.intend(action=Action.AMEND, summary="what we say", severity="S1")
    report = desk.perform()
    (write,) = desk.tracker.writes[1:]
    assert (None, "S1") == (write.summary, write.severity)
    assert "CAPA-1: people have changed summary, which is theirs now and was not written" in report.problems


def test_a_field_stays_theirs_when_it_is_changed_back(desk: Desk) -> None:
    desk.intend()
    desk.perform()
    desk.tracker.change("1", {"summary": "what people say"})
    desk.intend(action=Action.AMEND, summary="what we say", subject="first")
    desk.perform()
    desk.tracker.change("1", {"summary": ""})
    desk.intend(action=Action.AMEND, summary="what we say", subject="second")
    desk.perform()
    assert [Action.CREATE] == [write.action for write in desk.tracker.writes]


def test_what_we_wrote_last_is_ours_to_write_again(desk: Desk) -> None:
    desk.intend()
    for subject in ("first", "second"):
        desk.intend(action=Action.AMEND, summary=f"the {subject} time", subject=subject)
    desk.perform()
    assert ["about R.1.g1", "the first time", "the second time"] == [write.summary for write in desk.tracker.writes]


def test_of_a_ticket_that_was_found_no_field_is_ours(desk: Desk) -> None:
    desk.tracker.keep("R.1.g1", since=START - HOUR)
    desk.intend()
    desk.intend(action=Action.AMEND, summary="what we say")
    desk.perform()
    assert [] == desk.tracker.writes


# --- dead letters


def test_every_step_of_an_intent_is_kept(desk: Desk) -> None:
    desk.tracker.before_write = [*(Unavailable("no route") for _ in range(3)), unclear(), Refused("no such field")]
    desk.intend()
    for _ in range(5):
        desk.perform()
        desk.time.real += QUARANTINE
    assert [
        ("pending", 0, "no route", 3),
        ("unclear", 1, LOST, 1),
        ("pending", 1, LOST, 1),
        ("parked", 2, "no such field", 1),
    ] == desk.steps()


def test_a_parked_intent_is_replayed(desk: Desk) -> None:
    desk.tracker.before_write = [Refused("no such field")]
    desk.intend()
    desk.perform()
    assert ["R.1.g1: 1 to be sent again"] == desk.ask("replay", "R.1.g1")
    assert ["CAPA-1"] == desk.perform().sent
    assert "a person asked for it again; before: no such field" in [problem for _, _, problem, _ in desk.steps()]


def test_an_asked_intent_is_only_replayed_by_somebody_who_has_looked(desk: Desk) -> None:
    desk.unclear_limit = 1
    desk.tracker.before_write = [unclear()]
    desk.intend()
    desk.perform()
    desk.time.real += QUARANTINE
    desk.perform()
    (answer,) = desk.ask("replay", "R.1.g1")
    assert "--not-there" in answer
    assert ({"R.1.g1": "asked"}, []) == (desk.states(), desk.perform().sent)
    desk.ask("replay", "R.1.g1", not_there=True)
    assert ["CAPA-1"] == desk.perform().sent


def test_a_person_who_has_not_looked_well_makes_no_second_ticket(desk: Desk) -> None:
    """The index lagged for longer than anybody waited."""
    desk.unclear_limit, desk.tracker.lag = 1, 10 * HOUR
    desk.tracker.after_write = [unclear()]
    desk.intend()
    desk.perform()
    desk.time.real += QUARANTINE
    desk.perform()
    assert {"R.1.g1": "asked"} == desk.states()
    desk.time.real += 10 * HOUR
    desk.ask("replay", "R.1.g1", not_there=True)
    assert (["CAPA-1"], 1) == (desk.perform().adopted, len(desk.tracker.tickets))


@pytest.mark.parametrize("key", ["R.1.g1", "R.2.g1"])
def test_there_may_be_nothing_to_replay(desk: Desk, key: str) -> None:
    desk.intend()
    desk.perform()
    (answer,) = desk.ask("replay", key)
    assert answer.startswith(f"{key}: there is no write" if key == "R.2.g1" else f"{key}: nothing with this key is")
    assert OutboxReport() == desk.perform()


def test_a_ticket_that_is_gone_is_created_again_only_when_a_person_wants_it(desk: Desk) -> None:
    desk.intend()
    desk.perform()
    (answer,) = desk.ask("replay", "R.1.g1", create_again=True)
    assert "not known to be gone" in answer
    gone = {"gone": "deleted", "gone_at": START, "gone_message": "by hand"}
    desk.tracker.tickets.clear()
    with desk.engine.begin() as connection:
        outgoing.change_ticket(connection, "jira", "R.1.g1", gone)
    desk.tell("into the void")
    assert [
        "R.1.g1: the ticket of R.1.g1 cannot be written to: CAPA-1 is gone (deleted): by hand"
    ] == desk.perform().parked
    desk.ask("replay", "R.1.g1", create_again=True)
    assert (2, "R.1.g1") == (len(desk.perform().sent), desk.tracker.tickets[0][0].key)


def test_release_lets_exactly_that_pass_which_was_held(desk: Desk) -> None:
    for number in range(3):
        desk.intend(f"R.{number}.g1")
    desk.perform(max_writes=2)
    with desk.engine.begin() as connection:
        held = [item.id for item in outgoing.held(connection)]
    for number in range(3, 6):
        desk.intend(f"R.{number}.g1")
    assert ["released 3 of 3 writes"] == desk.ask("release", ids=held)
    report = desk.perform(max_writes=2)
    assert (3, 3) == (len(report.sent), report.held)
    assert ["R.0.g1", "R.1.g1", "R.2.g1"] == [write.key for write in desk.tracker.writes]
    with desk.engine.begin() as connection:
        assert ["R.3.g1", "R.4.g1", "R.5.g1"] == [item.key for item in outgoing.held(connection)]


@pytest.mark.parametrize("lag", [5_000, 5 * 60_000, None], ids=["5 s", "5 min", "for ever"])
def test_an_index_that_lags_makes_no_second_ticket(desk: Desk, lag: int | None) -> None:
    """For ever: after the limit a person is asked. Longer than the lag that was named cannot be seen in time."""
    desk.tracker.lag = 10**15 if lag is None else lag
    desk.tracker.index_lag = 3600.0 if lag is None else lag / 1000
    desk.unclear_limit = 1
    desk.tracker.after_write = [unclear()]
    desk.intend()
    for _ in range(10):
        desk.perform()
        desk.time.real += DEADLINE + int(desk.tracker.index_lag * 1000)
    assert (1, "asked" if lag is None else "done") == (len(desk.tracker.tickets), desk.states()["R.1.g1"])


# --- the clock


@pytest.mark.parametrize("step", [-3 * 24 * HOUR, -2 * HOUR, 2 * HOUR, 3 * 24 * HOUR])
def test_no_step_of_the_clock_changes_how_long_an_unclear_outcome_waits(desk: Desk, step: int) -> None:
    desk.tracker.after_write = [unclear()]
    desk.intend()
    desk.perform()
    desk.time.wrong_by = step
    for _ in range(3):
        desk.time.real += 1000
        assert (1, []) == ((report := desk.perform()).unclear, report.adopted)
        assert desk.time() + QUARANTINE - (desk.time.real - START) == report.settles_at
    desk.time.real = START + QUARANTINE
    assert ["CAPA-1"] == desk.perform().adopted
    assert 1 == len(desk.tracker.writes)


def test_after_another_start_of_the_machine_the_wait_begins_anew(desk: Desk) -> None:
    desk.tracker.after_write = [unclear()]
    desk.intend()
    desk.perform()
    desk.time.real += QUARANTINE - 1000
    desk.time.boot = "second"
    assert desk.time() + QUARANTINE == desk.perform().settles_at
    desk.time.real += QUARANTINE - 1000
    assert 1 == desk.perform().unclear
    desk.time.real += 1000
    assert ["CAPA-1"] == desk.perform().adopted


@pytest.mark.parametrize("step", [-2 * HOUR, 2 * HOUR])
def test_a_step_of_the_clock_does_not_block_what_was_surely_not_sent(desk: Desk, step: int) -> None:
    desk.tracker.before_write = [Unavailable("no route")]
    desk.intend()
    desk.perform()
    desk.time.wrong_by = step
    desk.time.real += RETRY_AFTER
    assert ["CAPA-1"] == desk.perform().sent


def test_a_wait_from_a_clock_that_was_days_ahead_ends(desk: Desk) -> None:
    desk.time.wrong_by = 365 * 24 * HOUR
    desk.tracker.before_write = [Unavailable("no route")]
    desk.intend()
    desk.perform()
    desk.time.wrong_by = 0
    assert ["CAPA-1"] == desk.perform().sent


# --- a process that ends anywhere


@dataclass
class CrashingTracker(Tracker):
    """Ends the process at the given one of its steps."""

    crash_at: int = -1
    step: int = 0

    def _step(self) -> None:
        self.step += 1
        if self.step == self.crash_at:
            raise Crash

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        self._step()
        found = super().find(key)
        self._step()
        return found

    def write(self, write: Write) -> Written | Gap:
        self._step()
        written = super().write(write)
        self._step()
        return written


@dataclass
class CrashingClock(Time):
    """The outbox asks for the time around each of its own commits."""

    crash_at: int = -1
    step: int = 0

    def __call__(self) -> int:
        self.step += 1
        if self.step == self.crash_at:
            raise Crash
        return super().__call__()


@pytest.mark.parametrize("point", range(1, 5))
def test_a_crash_at_any_step_of_the_target_leaves_one_ticket(tmp_path: Path, point: int) -> None:
    with opened(tmp_path) as desk:
        desk.tracker = CrashingTracker(desk.time, crash_at=point)
        desk.intend()
        with pytest.raises(Crash):
            desk.perform()
        desk.perform()
        assert len(desk.tracker.tickets) <= 1
        desk.time.real += QUARANTINE
        desk.perform()
        assert (1, {"R.1.g1": "done"}, {"R.1.g1": "CAPA-1"}) == (
            len(desk.tracker.tickets),
            desk.states(),
            desk.known_tickets(),
        )


FAULTS = st.sampled_from(["none", "none", "not sent", "lost before", "lost after"])
PASSES = st.lists(
    st.tuples(
        st.integers(0, 2 * QUARANTINE),  # time that goes by before the pass
        st.integers(-5 * HOUR, 5 * HOUR),  # by how much the clock is set back before it, or forth
        FAULTS,
        st.one_of(st.just(-1), st.integers(1, 12)),  # step of the target at which the process ends
        st.one_of(st.just(-1), st.integers(1, 12)),  # look at the clock at which it ends
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PASSES, st.integers(0, LAG * 1000), st.integers(1, 3))
@example([(0, 0, "lost after", -1, -1), (1, 4 * HOUR, "none", -1, -1)], LAG * 1000, 1)
@example([(0, 0, "lost after", -1, -1), (1, -4 * HOUR, "none", -1, -1)], LAG * 1000, 1)
def test_no_crash_and_no_lag_makes_a_second_ticket(
    passes: list[tuple[int, int, str, int, int]], lag: int, number: int
) -> None:
    keys = [f"R.{n}.g1" for n in range(number)]
    with TemporaryDirectory() as folder, opened(Path(folder)) as desk:
        clock = CrashingClock()
        desk.time = clock
        tracker = desk.tracker = CrashingTracker(clock, lag)
        desk.unclear_limit = 100
        for key in keys:
            desk.intend(key)
        for wait, back, fault, step, look in passes:
            clock.real += wait
            clock.wrong_by -= back
            tracker.before_write = {"not sent": [Unavailable("x")], "lost before": [unclear()]}.get(fault, [])
            tracker.after_write = [unclear()] if fault == "lost after" else []
            tracker.crash_at, clock.crash_at = step, look
            tracker.step = clock.step = 0
            with suppress(Crash):
                desk.perform()
            assert max(Counter(t.key for t, _ in tracker.tickets).values(), default=0) <= 1
        tracker.before_write, tracker.after_write = [], []
        tracker.crash_at = clock.crash_at = -1
        for _ in range(3):
            clock.real += 45 * HOUR
            desk.perform()
        assert Counter(keys) == Counter(t.key for t, _ in tracker.tickets)
        assert dict.fromkeys(keys, "done") == desk.states()


def test_what_was_interrupted_while_sending_waits_like_any_unclear_outcome(desk: Desk) -> None:
    desk.intend()
    with desk.engine.begin() as connection:
        (item,) = intents(connection, ["pending"])
        change_intent(connection, item.id, state="sending", attempts=1, sent_at=desk.time())
    assert (1, START + QUARANTINE) == ((report := desk.perform()).unclear, report.settles_at)
    assert ("interrupted while sending", []) == (desk.intent().problem, desk.tracker.writes)


# --- the form of a stored write

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.builds(Item, TEXT, st.none() | TEXT, TEXT)
BLOCKS = st.builds(
    Block, st.sampled_from(["heading", "paragraph", "bullets"]), TEXT, st.lists(ITEMS, max_size=3).map(tuple)
)
WRITES = st.builds(
    Write,
    action=st.sampled_from(Action),
    key=TEXT,
    ticket=st.none() | TEXT,
    summary=st.none() | TEXT,
    body=st.lists(BLOCKS, max_size=3).map(tuple),
    labels=st.lists(TEXT, max_size=3).map(tuple),
    properties=st.none() | st.dictionaries(TEXT, JSON, max_size=3),
    severity=st.none() | TEXT,
    assignee=st.none() | TEXT,
    link_to=st.none() | TEXT,
    to_state=st.none() | TEXT,
)


@given(WRITES)
def test_a_write_survives_being_stored(write: Write) -> None:
    import orjson

    assert write == unpack(orjson.loads(orjson.dumps(pack(write))))


def test_a_stored_intent_is_what_is_sent(desk: Desk) -> None:
    body = (Block("heading", "h"), Block("bullets", items=(Item("INC1", "https://x.example", " – late"),)))
    values = {"body": body, "labels": ("a", "b"), "properties": {"generation": 2}, "severity": "S2", "assignee": "acc"}
    desk.intend(**values)
    desk.perform()
    plain = Write(Action.CREATE, "R.1.g1", summary="about R.1.g1")
    assert [replace(plain, **values)] == desk.tracker.writes
