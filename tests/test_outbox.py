"""One ticket per intent, whatever is lost on the way: the outbox over a real database and a target that misbehaves."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from itsms_sync.connector import LoggedOut, Refused, Unavailable
from itsms_sync.outbox import RETRY_AFTER, Outbox, OutboxReport, Target, pack, unpack
from itsms_sync.records import (
    Action,
    Block,
    Configuration,
    Directory,
    Fate,
    Gap,
    Identity,
    Item,
    Page,
    Presence,
    Ticket,
    Window,
    Write,
    Written,
)
from itsms_sync.store.database import connect
from itsms_sync.store.decided import add_intent, change_intent, intents, tickets
from itsms_sync.store.schema import intent

DEADLINE = 30_000
LAG = 60
QUARANTINE = DEADLINE + LAG * 1000
START = 1_800_000_000_000
HOUR = 3_600_000


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Time:
    """What time it really is, and by how much our clock is wrong (ms)."""

    real: int = START
    wrong_by: int = 0

    def __call__(self) -> int:
        return self.real + self.wrong_by


def _fail(faults: list[BaseException | Gap]) -> Gap:
    fault = faults.pop(0)
    if isinstance(fault, Gap):
        return fault
    raise fault


@dataclass
class Tracker:
    """The target: it keeps tickets, and its search shows them only after its lag. Faults are used up one by one."""

    time: Time
    lag: int = LAG * 1000
    tickets: list[tuple[Ticket, int]] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    before_write: list[BaseException | Gap] = field(default_factory=list)
    after_write: list[BaseException] = field(default_factory=list)
    on_find: list[BaseException | Gap] = field(default_factory=list)
    finds: int = 0

    index_lag: float = LAG

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        self.finds += 1
        if self.on_find:
            return _fail(self.on_find)
        return [ticket for ticket, since in self.tickets if ticket.key == key and since + self.lag <= self.time.real]

    def write(self, write: Write) -> Written | Gap:
        if self.before_write:
            return _fail(self.before_write)
        self.writes.append(write)
        ticket = self.keep(write.key) if write.action is Action.CREATE else self.tickets[0][0]
        if self.after_write:
            raise self.after_write.pop(0)
        return Written(ticket.id, ticket.label, ticket.url, ticket, ("the severity was not taken over",))

    def keep(self, key: str, since: int | None = None) -> Ticket:
        number = len(self.tickets) + 1
        ticket = Ticket(
            str(number), f"CAPA-{number}", f"https://t.example/{number}", key, "s", "Open", False, (), {}, None
        )
        self.tickets.append((ticket, self.time.real if since is None else since))
        return ticket

    def identify(self) -> Identity:
        return Identity("tracker", "1", "t", "bot", None, True)

    def pull(self, kind: str, window: Window) -> Iterator[Page] | Gap:
        return Gap(kind, "not-served", "it receives tickets only")

    def directory(self) -> Directory | Gap:
        return Gap("directory", "not-served", "it receives tickets only")

    def present(self, kind: str, window: Window, cursor: str) -> Iterator[Presence] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def fate(self, kind: str, ids: Sequence[str], window: Window) -> Sequence[Fate] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def read(self, kind: str, window: Window, ids: Sequence[str]) -> Iterator[Page] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def configuration(self, kind: str) -> Configuration | Gap:
        return Gap(kind, "not-served", "it receives tickets only")


@dataclass
class Desk:
    """Everything of one test."""

    engine: Engine
    time: Time
    tracker: Tracker
    unclear_limit: int = 3

    @property
    def outbox(self) -> Outbox:
        """A new one each time, as after a restart: it remembers nothing."""
        return Outbox(self.engine, {"jira": Target(self.tracker, DEADLINE)}, self.time, self.unclear_limit)

    def perform(self, max_writes: int = 25) -> OutboxReport:
        return self.outbox.perform(max_writes)

    def intend(self, key: str = "R.1.g1", target: str = "jira", **values: Any) -> None:
        write = Write(**{"action": Action.CREATE, "key": key, "summary": f"about {key}", **values})
        with self.engine.begin() as connection:
            add_intent(connection, pack(write), target, self.time())

    def states(self) -> dict[str, str]:
        with self.engine.begin() as connection:
            return dict(connection.execute(select(intent.c.key, intent.c.state)).all())

    def intent(self) -> Any:
        with self.engine.begin() as connection:
            return connection.execute(select(intent)).one()

    def known_tickets(self) -> dict[str, str]:
        with self.engine.begin() as connection:
            return {row.key: row.label for row in tickets(connection)}


@contextmanager
def opened(folder: Path) -> Iterator[Desk]:
    engine = connect(f"sqlite:///{folder / 'outbox.db'}")
    time = Time()
    yield Desk(engine, time, Tracker(time))
    engine.dispose()


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
    assert [0, 0, 0] == [item.attempts for item in stored(desk)]
    assert 3 == len(desk.perform().sent)


def test_an_unclear_outcome_stays_unclear_while_nobody_may_look(desk: Desk) -> None:
    desk.intend()
    desk.tracker.after_write.append(unclear())
    desk.perform()
    desk.time.real += QUARANTINE
    desk.tracker.on_find.append(dead())
    assert (1, {"R.1.g1": "unclear"}) == (desk.perform().unclear, desk.states())
    assert (["CAPA-1"], 1) == (desk.perform().adopted, len(desk.tracker.writes))


def stored(desk: Desk) -> Sequence[Any]:
    with desk.engine.begin() as connection:
        return connection.execute(select(intent)).all()


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
    desk.time.real += 30 * 24 * HOUR
    desk.perform()
    assert {"R.1.g1": "parked", "R.2.g1": "done"} == desk.states()


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


def test_an_unclear_comment_is_not_taken_for_written_because_its_ticket_is_there(desk: Desk) -> None:
    desk.tracker.keep("R.1.g1", since=START - HOUR)
    desk.tracker.before_write = [unclear()]
    desk.intend(action=Action.COMMENT, ticket="1")
    desk.perform()
    desk.time.real += QUARANTINE
    desk.perform()
    assert ([Action.COMMENT], {"R.1.g1": "done"}) == ([w.action for w in desk.tracker.writes], desk.states())


# --- the clock


def test_a_clock_that_was_set_back_by_two_hours_delays_and_does_not_block(desk: Desk) -> None:
    desk.tracker.before_write = [Unavailable("no route"), unclear()]
    desk.intend("R.1.g1")
    desk.intend("R.2.g1")
    desk.perform()
    desk.time.wrong_by = -2 * HOUR
    desk.time.real += 2 * HOUR + QUARANTINE
    desk.perform()
    assert {"R.1.g1": "done", "R.2.g1": "done"} == desk.states()


def test_a_clock_that_was_set_back_by_days_begins_the_quarantine_anew(desk: Desk) -> None:
    desk.tracker.after_write = [unclear()]
    desk.intend()
    desk.perform()
    desk.time.wrong_by = -3 * 24 * HOUR
    for _ in range(3):
        desk.time.real += 1000
        assert (1, []) == ((report := desk.perform()).unclear, report.adopted)
    desk.time.real += QUARANTINE
    assert ["CAPA-1"] == desk.perform().adopted
    assert 1 == len(desk.tracker.writes)


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
        st.integers(0, 5 * HOUR),  # by how much the clock is set back before it
        FAULTS,
        st.one_of(st.just(-1), st.integers(1, 12)),  # step of the target at which the process ends
        st.one_of(st.just(-1), st.integers(1, 12)),  # look at the clock at which it ends
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PASSES, st.integers(0, LAG * 1000), st.integers(1, 3))
@example([(0, 0, "lost after", -1, -1), (1, 4 * HOUR, "none", -1, -1)], LAG * 1000, 1)
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
