"""The past, window by window: nothing lost whatever the order and wherever it is cut off, new tickets first, and
nothing said of a case before all of its history is there."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from itsms_sync import windows
from itsms_sync.connector import Refused, SourceError, Unavailable
from itsms_sync.guarding import Guarding
from itsms_sync.ingest import ATTEMPTS, HOLES_EVERY, PAGES_AT_ONCE, Fields, Ingest, ReadSource, SourceReport
from itsms_sync.records import Bounds, Gap, Identity, Page, Row, Window, Witness
from itsms_sync.store import schema
from itsms_sync.store.coverage import (
    FIRST,
    HEAD,
    HOLE,
    LAST,
    READ,
    WAITING,
    Covered,
    Span,
    covered,
    covers,
    kind_covered,
    shared,
)
from itsms_sync.store.database import connect
from itsms_sync.store.ingested import Ingested
from itsms_sync.wiring import is_within
from tests.test_store import (
    DAY,
    HOUR,
    MINUTE,
    PLUGIN,
    STOCK,
    T0,
    Clock,
    Crash,
    Scripted,
    change_row,
    judged,
    record_row,
    translate,
)

OVERLAP = 10 * MINUTE
ROWS = 10
"""Windows of a few rows, so that a desk of a hundred has many."""
RECORDS, CHANGES = "incident", "incident:changes"


@dataclass
class Past(Scripted):
    """A desk that keeps all it ever had, and shows it by windows."""

    clock: Clock = field(default_factory=Clock)
    kept: dict[tuple[str, str], tuple[int, Row]] = field(default_factory=dict)
    """Stream and key -> stamp by which it is read, and row."""
    log: list[tuple[int | None, int | None]] = field(default_factory=list)
    """Bounds of the windows that were asked for."""
    pages_left: int | None = None
    """The process ends after so many pages."""
    spoiled: Callable[[Window], SourceError | None] = lambda window: None

    def identify(self) -> Identity:
        return Identity("desk", "1", "instance-1", "bot", self.clock.now, True)

    def save(self, record: str, at: int, **fields: str) -> None:
        """One save of a record: its state, and a row of history that stays."""
        before = self.kept.get((RECORDS, record))
        created = before[1].body["created"] if before else at
        number = 1 if before is None else before[1].body["version"] + 1
        held = {**(before[1].body["fields"] if before else {}), **fields}
        row = record_row(record, at, version=number, **held)
        row.body["created"] = created  # type: ignore[index]
        self.kept[RECORDS, record] = (at, row)
        for name, value in fields.items() if before else ():
            key = f"{record}-{number}-{name}"
            old = before[1].body["fields"].get(name, "") if before else ""
            self.kept[CHANGES, key] = (at, change_row(key, record, number, at, name, old, value))

    def pull(self, kind: str, window: Window) -> Iterator[Page] | Gap:
        self.log.append((window.since, window.until))
        return self._streams(window)

    def _streams(self, window: Window) -> Iterator[Page]:
        for stream in (RECORDS, CHANGES):
            yield from self._stream(stream, window)

    def _stream(self, stream: str, window: Window) -> Iterator[Page]:
        cursor = window.cursors.get(stream, "")
        at, _, key = cursor.partition("|") if cursor else ("", "", "")
        place = (int(at), key) if at else (-1, "")
        while True:
            if (error := self.spoiled(window)) is not None:
                raise error
            if self.pages_left == 0:
                raise Crash
            self.pages_left = None if self.pages_left is None else self.pages_left - 1
            found = sorted(
                (stamp, key, row)
                for (name, key), (stamp, row) in self.kept.items()
                if name == stream and (stamp, key) > place and self._is_within(stamp, window)
            )
            rows, closed = [row for _, _, row in found[: window.page_size]], len(found) <= window.page_size
            if rows:
                place = found[len(rows) - 1][:2]
            end = (max(0, min(place[0], self.clock.now) - OVERLAP), "") if closed else place
            text = f"{end[0]}|{end[1]}" if place[0] >= 0 else ""
            yield Page(stream, window.fields, rows, partial(translate, RECORDS), text, closed, "?", self.clock.now)
            if closed:
                return

    @staticmethod
    def _is_within(stamp: int, window: Window) -> bool:
        return (window.since or 0) <= stamp and (window.until is None or stamp < window.until)

    def bounds(self, kind: str, window: Window) -> Bounds | Gap | None:
        stamps = [stamp for stamp, _ in self.kept.values() if self._is_within(stamp, window)]
        return Bounds(min(stamps), max(stamps)) if stamps else None


@dataclass
class Reader:
    """A process that reads the desk; another one on the same database takes over where it ended."""

    engine: Engine
    past: Past
    fields: tuple[str, ...] = ("state", "category")
    limit: int | None = None
    size: int = 3

    @property
    def source(self) -> ReadSource:
        fields = Fields(self.fields, frozenset(), frozenset())
        ingested = Ingested(self.engine, "desk", "servicenow")
        read = ReadSource("desk", self.past, PLUGIN, ingested, {RECORDS: fields}, OVERLAP, self.size, self.limit)
        return replace(read, window_rows=ROWS)

    def _ingest(self) -> Ingest:
        clock = self.past.clock
        return Ingest(self.engine, clock, lambda *_: None, Guarding(self.engine, None, None, clock))

    def poll(self) -> SourceReport:
        return Ingest(
            self.engine, self.past.clock, lambda *_: None, Guarding(self.engine, None, None, self.past.clock)
        ).poll(self.source)

    def backfill(self, groups: int | None = None) -> SourceReport:
        """As far as ``groups`` of pages go."""
        report, asked = SourceReport("desk"), iter(range(10**6 if groups is None else groups))
        Ingest(
            self.engine, self.past.clock, lambda *_: None, Guarding(self.engine, None, None, self.past.clock)
        ).backfill(self.source, report, lambda: next(asked, None) is not None)
        return report

    def spans(self) -> list[Span]:
        return self.source.ingested.windows.of(RECORDS)

    def gaps(self) -> list[tuple[str, int | None, int | None]]:
        with self.engine.begin() as connection:
            found = connection.execute(select(schema.gap).where(schema.gap.c.closed_at.is_(None))).all()
        return [(row.reason, row.start, row.end) for row in found]

    def covered(self, field_: str | None = None, stream: str = RECORDS) -> list[Covered]:
        with self.engine.begin() as connection:
            return covered(connection, self.source.ingested.source_id, stream, field_)

    def held(self) -> tuple[dict[str, int], set[str]]:
        """Records with their last update, and keys of history, besides what we saw ourselves."""
        with self.engine.begin() as connection:
            records = connection.execute(
                select(schema.record.c.native_id, schema.record.c.updated_at).where(
                    schema.record.c.updated_at.is_not(None)
                )
            ).all()
            told = select(schema.event.c.witness_id).where(schema.event.c.witness != Witness.SNAPSHOT)
            events = connection.execute(told).scalars()
            return dict(records), set(events)  # type: ignore[arg-type]

    def truth(self) -> tuple[dict[str, int], set[str]]:
        records = {key: at for (stream, key), (at, _) in self.past.kept.items() if stream == RECORDS}
        return records, {key for stream, key in self.past.kept if stream == CHANGES}


def stored(engine: Engine) -> int:
    with engine.begin() as connection:
        return int(connection.execute(select(func.count()).select_from(schema.payload)).scalar_one())


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    yield Reader(engine, Past())
    engine.dispose()


def a_year(past: Past, records: int = 60) -> None:
    """Tickets evenly over a year, each changed twice."""
    for n in range(records):
        at = T0 - 365 * DAY + n * (360 * DAY // records)
        past.save(f"r{n:03}", at, state="1")
        past.save(f"r{n:03}", at + HOUR, state="2")
        past.save(f"r{n:03}", at + 2 * HOUR, state="6")


# --- what is read, and in which order


def test_a_new_ticket_is_seen_within_a_poll_while_the_past_waits(reader: Reader) -> None:
    a_year(reader.past)
    reader.past.save("new", T0 - MINUTE, state="1")
    report = reader.poll()
    assert {"new": T0 - MINUTE} == reader.held()[0]
    assert 1 == report.rows
    reader.backfill(2)
    reader.past.clock.now += MINUTE
    reader.past.save("newer", T0, state="1")
    reader.poll()
    assert "newer" in reader.held()[0]
    assert reader.held() != reader.truth()


def test_the_past_is_read_newest_first_to_its_beginning(reader: Reader) -> None:
    a_year(reader.past)
    reader.poll()
    report = reader.backfill()
    assert reader.truth() == reader.held()
    ends = [until for _, until in reader.past.log if until is not None]
    assert ends == sorted(ends, reverse=True)
    assert [Covered(FIRST, LAST)] == reader.covered()
    assert (report.windows, False) == (len(reader.spans()) - 1, report.is_behind)
    assert 5 < report.windows < 40
    assert max(span.rows for span in reader.spans()) <= 4 * ROWS + reader.size * PAGES_AT_ONCE


def test_years_without_a_row_cost_one_window(reader: Reader) -> None:
    reader.past.save("old", T0 - 3000 * DAY, state="1")
    reader.past.save("recent", T0 - 2 * DAY, state="1")
    reader.poll()
    reader.backfill()
    assert reader.truth() == reader.held()
    assert len(reader.past.log) <= 4


def test_a_desk_without_a_past_is_read_by_polls_alone(reader: Reader) -> None:
    reader.past.save("a", T0 - HOUR, state="1")
    reader.poll()
    assert not reader.backfill().is_behind
    assert ([Covered(FIRST, LAST)], [(None, None)]) == (reader.covered(), reader.past.log)


def test_nothing_is_read_of_what_was_before_the_limit(reader: Reader) -> None:
    a_year(reader.past)
    reader.limit = windows.minute(T0 - 100 * DAY)
    reader.poll()
    reader.backfill()
    records, _ = reader.held()
    assert {key for key, at in reader.truth()[0].items() if at >= reader.limit} == set(records)
    assert [("before-limit", None, reader.limit)] == reader.gaps()
    assert [Covered(reader.limit, LAST)] == reader.covered()
    reader.limit = None
    assert not reader.backfill().is_behind
    assert reader.truth() == reader.held()


def test_a_finished_window_is_not_asked_for_again(reader: Reader) -> None:
    a_year(reader.past)
    reader.poll()
    while True:
        reader.past.pages_left = 5
        try:
            reader.backfill()
            break
        except Crash:
            reader.past.pages_left = None
    done = {(span.start, span.end) for span in reader.spans() if span.state == READ}
    asked = [window for window in reader.past.log if window in done]
    for window in done:
        times = [n for n, one in enumerate(asked) if one == window]
        assert times == list(range(times[0], times[0] + len(times))), "an older window came in between"
    before = len(reader.past.log)
    reader.backfill()
    assert before == len(reader.past.log)


def test_a_window_that_turns_out_too_large_is_made_shorter(reader: Reader) -> None:
    for n in range(200):
        reader.past.save(f"r{n:03}", T0 - 3 * DAY + n * MINUTE, state="1")
    reader.poll()
    reader.backfill()
    assert reader.truth() == reader.held()
    assert 4 < len(reader.spans())


def test_after_a_long_absence_the_newest_changes_do_not_wait(reader: Reader) -> None:
    reader.past.save("a", T0 - HOUR, state="1")
    reader.poll()
    reader.past.clock.now = T0 + 30 * DAY
    reader.past.save("missed", T0 + 10 * DAY, state="1")
    reader.past.save("new", T0 + 30 * DAY - MINUTE, state="1")
    reader.poll()
    assert {"a", "new"} == set(reader.held()[0])
    reader.backfill()
    assert reader.truth() == reader.held()
    assert [Covered(FIRST, LAST)] == reader.covered()


# --- holes


def test_a_window_that_cannot_be_read_is_a_hole_and_older_ones_go_on(reader: Reader) -> None:
    a_year(reader.past)
    bad = T0 - 100 * DAY
    reader.poll()

    def refuses(window: Window) -> SourceError | None:
        holds = window.until is not None and window.since is not None and window.since <= bad < window.until
        return Refused("no such thing") if holds else None

    reader.past.spoiled = refuses
    reader.backfill()
    (hole,) = [span for span in reader.spans() if span.state == HOLE]
    assert hole.start is not None
    assert hole.end is not None
    assert hole.start <= bad < hole.end
    assert [("window-unreadable", hole.start, hole.end)] == reader.gaps()
    assert [Covered(FIRST, hole.start), Covered(hole.end, LAST)] == reader.covered()
    reader.past.spoiled = lambda window: None
    reader.backfill()
    assert HOLE in {span.state for span in reader.spans()}
    reader.past.clock.now += HOLES_EVERY + MINUTE
    reader.poll()
    reader.backfill()
    assert ([], reader.truth()) == (reader.gaps(), reader.held())


def test_a_window_that_always_fails_is_left_as_a_hole(reader: Reader) -> None:
    a_year(reader.past)
    reader.poll()
    reader.past.spoiled = lambda window: Unavailable("the page is cut") if window.until is not None else None
    for _ in range(ATTEMPTS - 1):
        assert "unavailable: the page is cut" == reader.backfill().problem
        assert [] == reader.gaps()
    reader.backfill(1)
    assert ["window-unreadable"] == [reason for reason, _, _ in reader.gaps()]


# --- fields


def test_a_new_field_is_asked_for_window_by_window(reader: Reader) -> None:
    a_year(reader.past)
    reader.poll()
    reader.backfill()
    reader.fields = ("state", "category", "urgency")
    reader.past.clock.now += HOUR
    reader.poll()
    assert [Covered(FIRST, LAST)] == reader.covered("state")
    (since_now,) = reader.covered("urgency")
    assert T0 - DAY < since_now.start <= T0
    reader.backfill(2)
    assert reader.covered("urgency")[0].start < since_now.start
    assert [Covered(FIRST, LAST)] == reader.covered("state")
    before = stored(reader.engine)
    reader.backfill()
    assert [Covered(FIRST, LAST)] == reader.covered("urgency")
    assert {reader.spans()[0].fields} == {span.fields for span in reader.spans()}
    assert stored(reader.engine) > before


def test_a_field_that_is_no_longer_named_reopens_nothing(reader: Reader) -> None:
    a_year(reader.past, 5)
    reader.poll()
    reader.backfill()
    before = len(reader.past.log)
    reader.fields = ("state",)
    reader.poll()
    reader.backfill()
    assert [(None, None)] != reader.past.log[before:]
    assert 1 == len(reader.past.log) - before


# --- whatever happens


ages = st.integers(0, 40).flatmap(lambda n: st.sampled_from((n * MINUTE, n * HOUR, n * DAY, n * 20 * DAY, n)))
desks = st.lists(st.tuples(st.integers(0, 12), ages), max_size=60)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("poll"), st.none()),
        st.tuples(st.just("slice"), st.integers(1, 3)),
        st.tuples(st.just("kill"), st.integers(0, 6)),
        st.tuples(st.just("save"), st.integers(0, 14)),
        st.tuples(st.just("late"), st.integers(0, 14)),
        st.tuples(st.just("wait"), st.sampled_from((MINUTE, HOUR, 3 * DAY))),
        st.tuples(st.just("fields"), st.sampled_from(("category", "urgency"))),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a row, made once."""
    path = tmp_path_factory.mktemp("empty") / "store.db"
    connect(f"sqlite:///{path}").dispose()
    return path


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(desk=desks, done=steps, size=st.integers(1, 4))
def test_what_is_stored_in_the_end_is_the_truth(
    empty: Path, desk: Sequence[tuple[int, int]], done: Sequence[tuple[str, Any]], size: int
) -> None:
    """Saves while the past is read, ends of the process at any page, late commits, many rows of one instant."""
    with TemporaryDirectory() as folder:
        copy(empty, f"{folder}/store.db")
        engine = connect(f"sqlite:///{folder}/store.db")
        reader = Reader(engine, Past(), fields=("state",), size=size)
        for number, age in sorted(desk, key=lambda one: -one[1]):
            reader.past.save(f"r{number}", T0 - age, state=str(age % 7))
        for action, value in done:
            _does(reader, action, value)
        reader.past.pages_left = None
        reader.past.clock.now += MINUTE
        assert reader.poll().problem is None
        assert not reader.backfill().is_behind
        assert reader.truth() == reader.held()
        for name in reader.fields:
            assert [Covered(FIRST, LAST)] == reader.covered(name)
        assert {HEAD, READ} >= {span.state for span in reader.spans()}
        reader.past.log.clear()
        reader.backfill()
        assert [] == reader.past.log
        engine.dispose()


def _does(reader: Reader, action: str, value: Any) -> None:
    past = reader.past
    if action == "poll":
        reader.poll()
    elif action == "slice":
        reader.backfill(value)
    elif action == "kill":
        past.pages_left = value
        with suppress(Crash):
            reader.poll()
            reader.backfill()
        past.pages_left = None
    elif action == "save":
        past.clock.now += 1000
        past.save(f"r{value}", past.clock.now, state="2")
    elif action == "late":
        before = past.kept.get((RECORDS, f"r{value}"))
        at = past.clock.now - OVERLAP + 2 * MINUTE
        if before is None or before[0] < at:
            past.save(f"r{value}", at, state="3")
    elif action == "wait":
        past.clock.now += value
    else:
        reader.fields = tuple(dict.fromkeys((*reader.fields, value)))


# --- which window is next


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 4000), st.lists(st.integers(1, 100), min_size=1, max_size=9), st.one_of(st.none(), ages))
def test_windows_touch_and_reach_the_beginning(days: int, density: Sequence[int], limit: int | None) -> None:
    """``density``: rows a day, window by window."""
    first, asked = windows.minute(T0 - days * DAY), frozenset(("state",))
    least = None if limit is None else windows.minute(T0 - limit)
    spans = [Span(0, RECORDS, T0, None, None, asked, HEAD, 0, 0, 0, None)]
    for planned in range(200):
        if windows.is_over(spans, asked, least):
            break
        plan = windows.plan(spans, asked, first, None, least, ROWS)
        assert plan.end == spans[-1].start
        assert plan.start is None or (plan.start < plan.end and 0 == plan.start % MINUTE)
        held = (plan.end - (plan.start or first)) * density[planned % len(density)] // DAY
        spans.append(Span(planned, RECORDS, plan.start, plan.end, plan.dense_until, asked, READ, held, 0, 0, T0))
    if windows.is_over(spans, asked, least):
        assert spans[-1].start in (None, least)


@pytest.mark.parametrize(("rows", "days", "wanted"), [(5, 7, 14), (10, 7, 7), (20, 8, 4), (1000, 8, 2), (1, 7, 28)])
def test_a_window_is_as_long_as_its_rows_allow(rows: int, days: int, wanted: int) -> None:
    asked = frozenset(("state",))
    head = Span(0, RECORDS, T0, None, None, asked, HEAD, 3, 0, 0, None)
    before = Span(1, RECORDS, T0 - days * DAY, T0, None, asked, READ, rows, 0, 0, T0)
    plan = windows.plan([head, before], asked, 0, None, None, ROWS)
    assert plan.start == T0 - days * DAY - wanted * DAY


def test_a_minute_is_not_made_shorter() -> None:
    asked = frozenset(("state",))
    span = Span(1, RECORDS, T0, T0 + MINUTE, None, asked, WAITING, 0, 0, 0, None)
    assert windows.shorter(span, 10**6, 0, ROWS) is None
    longer = span._replace(end=T0 + HOUR)
    assert windows.shorter(longer, 4 * ROWS, 0, ROWS) is None
    assert T0 + HOUR - 7 * MINUTE == windows.shorter(longer, 4 * ROWS + 1, 0, ROWS)


stretches = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=6).map(
    lambda found: [Covered(start, start + length) for start, length in found]
)


@given(stretches, stretches, st.integers(-1, 62))
def test_shared_stretches_are_in_both(one: list[Covered], other: list[Covered], at: int) -> None:
    both = shared([one, other])
    assert covers(both, at, at) == (covers(one, at, at) and covers(other, at, at))


@pytest.mark.parametrize(
    ("hours", "clock", "within"),
    [
        ("20:00-06:00", "23:30", True),
        ("20:00-06:00", "05:59", True),
        ("20:00-06:00", "06:00", False),
        ("08:00-09:00", "08:00", True),
        ("08:00-09:00", "09:00", False),
        ("08:00-09:00", "07:59", False),
    ],
)
def test_hours_may_reach_over_midnight(hours: str, clock: str, within: bool) -> None:
    hour, minute = map(int, clock.split(":"))
    midnight = T0 // DAY * DAY
    assert within == is_within(hours, midnight + hour * HOUR + minute * MINUTE)


# --- what is said meanwhile


def test_a_case_is_left_open_until_its_history_is_there(reader: Reader) -> None:
    reader.past.save("long", T0 - 300 * DAY, **STOCK)
    reader.past.save("long", T0 - HOUR, state="2")
    reader.past.save("short", T0 - 2 * HOUR, **STOCK)
    for n in range(30):
        reader.past.save(f"r{n}", T0 - n * 9 * DAY - 2 * DAY, **STOCK)
    reader.fields = tuple(STOCK)
    reader.poll()
    judging = judged(_Desk(reader.source))  # type: ignore[arg-type]
    judging.run(T0, T0)
    told = _told(reader.engine)
    assert {"unknown"} == {status for status, _ in told["long"].values()}
    assert all(str(why).startswith("not read yet: what happened before") for _, why in told["long"].values())
    assert not any(str(why).startswith("not read yet") for _, why in told["short"].values())
    reader.backfill()
    again = judging.run(T0, T0)
    told = _told(reader.engine)
    assert 31 == again.cases, "those that were read, and the one that waited; not the one that was known"
    assert not any(str(why).startswith("not read yet") for each in told.values() for _, why in each.values())
    assert 0 == judging.run(T0, T0).cases


def test_what_a_new_field_decides_is_open_until_it_was_read(reader: Reader) -> None:
    for n in range(20):
        reader.past.save(f"r{n}", T0 - n * 9 * DAY - 2 * DAY, **STOCK)
        reader.past.save(f"r{n}", T0 - n * 9 * DAY - 2 * DAY + HOUR, category="print")
    reader.fields = tuple(name for name in STOCK if name != "category")
    reader.poll()
    reader.backfill()
    judging = judged(_Desk(reader.source))  # type: ignore[arg-type]
    judging.run(T0, T0)
    before = _told(reader.engine)
    reader.fields = tuple(STOCK)
    reader.past.clock.now += HOUR
    reader.poll()
    judging.run(T0 + HOUR, T0 + HOUR)
    meanwhile = _told(reader.engine)
    assert before == meanwhile, "nothing else became unknown"
    reader.backfill()
    judging.run(T0 + HOUR, T0 + HOUR)
    with reader.engine.begin() as connection:
        assert [Covered(FIRST, LAST)] == kind_covered(connection, reader.source.ingested.source_id, RECORDS, "category")


@dataclass
class _Desk:
    read: ReadSource

    @property
    def ingested(self) -> Ingested:
        return self.read.ingested

    @property
    def engine(self) -> Engine:
        return self.read.ingested._engine


def _told(engine: Engine) -> dict[str, dict[str, tuple[str, str | None]]]:
    """Record -> requirement -> status and reason."""
    found: dict[str, dict[str, tuple[str, str | None]]] = {}
    query = select(
        schema.record.c.native_id, schema.verdict.c.requirement, schema.verdict.c.status, schema.verdict.c.reason
    ).join_from(schema.verdict, schema.record)
    with engine.begin() as connection:
        for record, requirement, status, reason in connection.execute(
            query.where(schema.verdict.c.superseded_at.is_(None))
        ):
            found.setdefault(record, {})[requirement] = (status, reason)
    return found
