"""The store and the two that fill it: nothing lost, nothing doubled, nothing forgotten, and nobody named outside one
table."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Table, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from itsms_sync.configuration import read_library
from itsms_sync.conformance.verdicts import GAP
from itsms_sync.connector import LoggedOut, Plugin, Refused, Unavailable
from itsms_sync.guarding import Guarding
from itsms_sync.http import Stopped
from itsms_sync.ingest import DIRECTORY_EVERY, PAGES_AT_ONCE, Fields, Ingest, ReadSource, SourceReport
from itsms_sync.judging import JudgementReport, Judging
from itsms_sync.procedures.library import Library
from itsms_sync.records import (
    Bounds,
    Configuration,
    Directory,
    Event,
    Facts,
    Fate,
    Gap,
    Gone,
    Group,
    Identity,
    Page,
    Person,
    Presence,
    Record,
    Row,
    Ticket,
    Window,
    Write,
    Written,
)
from itsms_sync.relating import JudgedSource
from itsms_sync.replay import replay
from itsms_sync.store import schema
from itsms_sync.store.database import DatabaseUnavailable, Locked, connect, writing
from itsms_sync.store.ingested import Ingested
from itsms_sync.store.judged import fingerprint
from itsms_sync.store.schema import metadata

MAPPINGS = Path(__file__).parent.parent / "mappings"
T0 = 1_800_000_000_000
LATEST = 4_000_000_000_000
"""The source's clock, later than any instant that is judged as of, so that all of it was read."""
MINUTE, HOUR, DAY = 60_000, 3_600_000, 24 * 3_600_000


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def fresh(folder: Path, name: str = "store.db") -> Iterator[Engine]:
    engine = connect(f"sqlite:///{folder / name}")
    yield engine
    engine.dispose()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with fresh(tmp_path) as found:
        yield found


def rows(engine: Engine, table: Table) -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(select(table).order_by(*table.primary_key.columns)))


def count(engine: Engine, table: Table) -> int:
    with engine.begin() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# --- opening the database


def test_a_fresh_database_is_what_the_schema_says(engine: Engine) -> None:
    with engine.connect() as connection:
        assert [] == compare_metadata(MigrationContext.configure(connection), metadata)


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    with fresh(tmp_path) as engine:
        source_id = Ingested(engine, "desk", "servicenow").source_id
    with fresh(tmp_path) as engine:
        assert source_id == Ingested(engine, "desk", "servicenow").source_id


def test_a_schema_from_a_newer_program_is_refused(tmp_path: Path) -> None:
    with fresh(tmp_path) as engine, engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from_next_year'")
    with pytest.raises(DatabaseUnavailable, match="from_next_year"), fresh(tmp_path):
        pass


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not exist; create it"):
        connect(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")


@pytest.mark.parametrize("pragma", [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)])
def test_each_connection_is_safe_in_a_power_cut(engine: Engine, pragma: tuple[str, Any]) -> None:
    with engine.connect() as connection:
        assert pragma[1] == connection.exec_driver_sql(f"PRAGMA {pragma[0]}").scalar()


@pytest.mark.parametrize(
    ("mounts", "refused"),
    [
        ("/dev/sda / ext4 rw 0 0", ""),
        ("/dev/sda / ext4 rw 0 0\nserver:/x {here} nfs4 rw 0 0", "nfs4"),
        ("server:/x / nfs rw 0 0\n/dev/sda {here} ext4 rw 0 0", ""),
        ("server:/x / cifs rw 0 0", "cifs"),
        ("/dev/sda / ext4 rw 0 0\nserver:/x {here}x nfs4 rw 0 0", ""),
    ],
)
@pytest.mark.parametrize("folder", ["data", "my data"])
def test_a_network_file_system_is_refused(tmp_path: Path, mounts: str, refused: str, folder: str) -> None:
    here = tmp_path / folder
    here.mkdir()
    table = tmp_path / "mounts"
    table.write_text(mounts.format(here=str(here).replace(" ", "\\040")))
    if refused:
        with pytest.raises(DatabaseUnavailable, match=rf"network file system \({refused} at"):
            connect(f"sqlite:///{here / 'x.db'}", mounts=table)
    else:
        connect(f"sqlite:///{here / 'x.db'}", mounts=table).dispose()
    assert (here / "x.db").exists() == (not refused)


def _hold(url: str, told: Any) -> None:
    with writing(url):
        told.send(os.getpid())
        signal.pause()


def test_only_one_process_writes_and_its_end_gives_way(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_hold, args=(url, theirs))
    child.start()
    try:
        assert ours.poll(60)
        pid = ours.recv()
        with pytest.raises(Locked, match=rf"pid {pid}\)"), writing(url):
            pass
    finally:
        child.kill()  # SIGKILL: nothing of it could tidy up
        child.join()
        child.close()
        ours.close()
        theirs.close()
    with writing(url), pytest.raises(Locked, match=rf"pid {os.getpid()}\)"), writing(url):
        pass
    with writing(url):
        pass


# --- a source that answers what it was told to


@dataclass
class Clock:
    now: int = T0

    def __call__(self) -> int:
        return self.now


@dataclass
class Scripted:
    """A connector. ``answers``: kind -> pages, or what is raised in their place."""

    answers: dict[str, Any] = field(default_factory=dict)
    people: Sequence[Person] = ()
    groups: Sequence[Group] = ()
    lacks: Sequence[Gap] = ()
    identity: BaseException | None = None
    windows: dict[str, Window] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    index_lag: float = 0.0

    def identify(self) -> Identity:
        if self.identity is not None:
            raise self.identity
        return Identity("desk", "1", "instance-1", "bot", T0, True)

    def pull(self, kind: str, window: Window) -> Iterator[Page] | Gap:
        self.asked.append(kind)
        self.windows[kind] = window
        answer = self.answers.get(kind, [])
        return answer if isinstance(answer, Gap) else self._pages(answer)

    def _pages(self, answer: Sequence[Any]) -> Iterator[Page]:
        for one in answer:
            if isinstance(one, BaseException):
                raise one
            yield one

    def bounds(self, kind: str, window: Window) -> Bounds | Gap | None:
        return Gap(kind, "not-served", "it is read as a whole")

    def directory(self) -> Directory | Gap:
        self.asked.append("directory")
        return Directory(self.people, self.groups, self.lacks)

    def present(self, kind: str, window: Window, cursor: str) -> Iterator[Presence] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def fate(self, kind: str, ids: Sequence[str], window: Window) -> Sequence[Fate] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def read(self, kind: str, window: Window, ids: Sequence[str]) -> Iterator[Page] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def configuration(self, kind: str) -> Configuration | Gap:
        return Configuration({"state": {"1": "New"}}, {"state": "choice"})

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        return Gap("search", "not-served", "it is only read")

    def ticket(self, id: str) -> Ticket | Gone | Gap:
        return Gap("ticket", "not-served", "it is only read")

    def ours(self, since: int | None) -> Iterator[Ticket] | Gap:
        return Gap("ours", "not-served", "it is only read")

    def commented(self, ticket: str, mark: str) -> bool | Gap:
        return Gap("comments", "not-served", "it is only read")

    def write(self, write: Write) -> Written | Gap:
        return Gap("write", "not-served", "it is only read")


def translate(kind: str, given_rows: Sequence[Row]) -> Facts:
    """``kind`` holds records, ``kind:changes`` their history."""
    records = [
        Record(kind, r.key, r.body["label"], r.body["created"], r.body["updated"], r.body["version"], r.body["fields"])
        for r in given_rows
        if r.stream == kind
    ]
    events = [
        Event(b["record"], b["field"], b["old"], b["new"], b["at"], b["actor"], "audit", r.key, b["order"])
        for r in given_rows
        for b in [r.body]
        if r.stream == f"{kind}:changes"
    ]
    return Facts(records, events)


PLUGIN = Plugin("desk", lambda access: Scripted(), translate, dict, lambda base, kind, id_, label: f"{base}/{id_}")
FIELDS = ("state", "category")


def record_row(
    key: str, updated: int = T0, kind: str = "incident", version: int | None = None, **fields: str | None
) -> Row:
    return Row(
        kind,
        key,
        {"label": f"INC-{key}", "created": T0, "updated": updated, "version": version, "fields": fields},
    )


def change_row(
    key: str, record: str, order: int | None, at: int, field_: str, old: str, new: str, actor: str | None = None
) -> Row:
    body = {"record": record, "field": field_, "old": old, "new": new, "at": at, "actor": actor, "order": order}
    return Row("incident:changes", key, body)


def page(*given_rows: Row, cursor: str = "c1", gaps: Sequence[Gap] = (), kind: str = "incident", **more: Any) -> Page:
    stream = given_rows[0].stream if given_rows else more.pop("stream", kind)
    values = {"closed": True, "server_time": LATEST, "fields": FIELDS, **more}
    return Page(
        stream=stream,
        rows=given_rows,
        translated=partial(translate, kind),
        cursor=cursor,
        asked="?",
        gaps=gaps,
        **values,
    )


@dataclass
class Desk:
    """A source wired to a store."""

    engine: Engine
    clock: Clock
    connector: Scripted
    read: ReadSource
    progress: Callable[[str, str, int], None] = lambda source, stream, number: None

    def poll(self, **answers: Any) -> SourceReport:
        self.connector.answers = answers
        guard = Guarding(self.engine, None, None, self.clock)
        return Ingest(self.engine, self.clock, self.progress, guard).poll(self.read)

    @property
    def ingested(self) -> Ingested:
        return self.read.ingested

    def cursors(self) -> dict[str, str]:
        return {row.stream: row.value for row in rows(self.engine, schema.cursor)}

    def keys(self, table: Table = schema.payload) -> list[str]:
        return [getattr(row, "row_key", None) or row.native_id for row in rows(self.engine, table)]

    def open_gaps(self) -> list[tuple[str, str]]:
        return [(g.stream, g.reason) for g in rows(self.engine, schema.gap) if g.closed_at is None]


def desk_on(engine: Engine, name: str = "desk", kinds: Sequence[str] = ("incident",)) -> Desk:
    connector = Scripted()
    fields = Fields(FIELDS, frozenset(), frozenset())
    read = ReadSource(
        name, connector, PLUGIN, Ingested(engine, name, "servicenow"), dict.fromkeys(kinds, fields), 600_000, 100
    )
    return Desk(engine, Clock(), connector, read)


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return desk_on(engine)


# --- what a poll keeps


def test_a_poll_keeps_pages_cursors_and_coverage(desk: Desk) -> None:
    report = desk.poll(
        incident=[
            page(record_row("a"), record_row("b"), closed=False, cursor="c1"),
            page(record_row("c"), cursor="c2"),
            page(change_row("e1", "a", 1, T0, "state", "1", "2"), cursor="d1"),
        ]
    )
    assert (4, 4, 3, None) == (report.rows, report.new_rows, report.pages, report.problem)
    assert {"incident": "c2", "incident:changes": "d1"} == desk.cursors()
    assert (["a", "b", "c", "e1"], ["a", "b", "c"]) == (desk.keys(), desk.keys(schema.record))
    assert [("incident", 2, 3, 3, True), ("incident:changes", 1, 1, 1, True)] == [
        (p.stream, p.pages, p.rows_seen, p.rows_new, p.closed) for p in rows(desk.engine, schema.poll)
    ]
    desk.poll()
    assert {"incident": "c2", "incident:changes": "d1"} == desk.connector.windows["incident"].cursors
    assert (FIELDS, 600_000, 100) == (
        (window := desk.connector.windows["incident"]).fields,
        window.overlap,
        window.page_size,
    )


def test_unavailable_in_the_middle_keeps_what_came(desk: Desk) -> None:
    half = [page(record_row("a"), closed=False, cursor="c1"), Unavailable("maintenance window")]
    report = desk.poll(incident=half)
    assert "unavailable: maintenance window" == report.problem
    assert ({"incident": "c1"}, ["a"], [("source", "unavailable")]) == (desk.cursors(), desk.keys(), desk.open_gaps())
    assert [False] == [p.closed for p in rows(desk.engine, schema.poll)]
    desk.poll(incident=half)
    assert [("source", "unavailable")] == desk.open_gaps()
    desk.poll(incident=[page(record_row("b"), cursor="c2")])
    assert "c1" == desk.connector.windows["incident"].cursors["incident"]
    assert (["a", "b"], []) == (desk.keys(), desk.open_gaps())


def numbered_pages(count: int) -> Iterator[Page]:
    for number in range(count):
        yield page(record_row(f"{number:02}"), closed=False, cursor=f"c{number}")


def test_pages_are_read_while_those_before_them_are_stored(desk: Desk) -> None:
    next_one_came, waited = threading.Event(), []

    def pages() -> Iterator[Page]:
        for number, one in enumerate(numbered_pages(2 * PAGES_AT_ONCE)):
            if number == PAGES_AT_ONCE:
                next_one_came.set()
            yield one

    desk.progress = lambda *_: waited.append(next_one_came.wait(5))
    report = desk.poll(incident=pages())
    assert [True] * 2 * PAGES_AT_ONCE == waited
    assert 2 * PAGES_AT_ONCE == report.pages == len(desk.keys())


def test_a_stop_while_pages_are_stored_waits_for_these_and_for_no_more(desk: Desk) -> None:
    def pages() -> Iterator[Page]:
        yield from numbered_pages(PAGES_AT_ONCE + 1)
        raise Stopped

    with pytest.raises(Stopped):
        desk.poll(incident=pages())
    assert ({"incident": f"c{PAGES_AT_ONCE - 1}"}, PAGES_AT_ONCE) == (desk.cursors(), len(desk.keys()))
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("store")]


def test_a_page_that_cannot_be_stored_ends_the_poll_and_moves_no_cursor(desk: Desk) -> None:
    def pages() -> Iterator[Page]:
        yield from numbered_pages(PAGES_AT_ONCE)
        yield page(record_row("broken")._replace(key=None), closed=False, cursor="lost")  # type: ignore[arg-type]
        yield from numbered_pages(3 * PAGES_AT_ONCE)

    with pytest.raises(IntegrityError):
        desk.poll(incident=pages())
    assert ({"incident": f"c{PAGES_AT_ONCE - 1}"}, PAGES_AT_ONCE) == (desk.cursors(), len(desk.keys()))
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("store")]


@pytest.mark.parametrize("problem", [Unavailable("down"), Refused("wrong password")])
def test_a_source_that_serves_again_closes_its_gap_also_in_a_quiet_night(desk: Desk, problem: Exception) -> None:
    desk.connector.identity = problem
    assert str(problem) in (desk.poll().problem or "")
    assert 1 == len(desk.open_gaps())
    desk.connector.identity = None
    desk.poll(incident=[page()])
    assert [] == desk.open_gaps()


@pytest.mark.parametrize(
    "no", [[Refused("no right to read it")], Gap("incident", "refused", "no right to read it")], ids=["raised", "gap"]
)
def test_a_refused_kind_is_a_gap_and_the_next_goes_on(engine: Engine, no: Any) -> None:
    desk = desk_on(engine, kinds=["incident", "problem"])
    report = desk.poll(incident=no, problem=[page(record_row("p", kind="problem"), kind="problem")])
    assert (None, ["p"], [("incident", "refused")]) == (report.problem, desk.keys(), desk.open_gaps())
    desk.poll(incident=[page(record_row("a"))])
    assert [] == desk.open_gaps()


def test_what_is_not_served_is_open_until_a_window_is_read_to_its_end_without_it(desk: Desk) -> None:
    """Rows that come say nothing of those that did not; a window that ends empty does."""
    lacking = Gap("incident", "not-served", "3 of them were not shown")
    desk.poll(incident=[page(record_row("a"), gaps=[lacking])])
    desk.poll(incident=[page(record_row("b"), closed=False), page(gaps=[lacking])])
    assert [("incident", "not-served")] == sorted(set(desk.open_gaps()))
    desk.poll(incident=[page()])
    assert [] == desk.open_gaps()


def test_a_dead_login_ends_the_poll_with_one_gap_and_no_kind_counts_as_read(engine: Engine) -> None:
    desk = desk_on(engine, kinds=["incident", "problem"])
    dead = [page(record_row("a"), closed=False, cursor="c1"), LoggedOut("status 401")]
    for _ in range(2):
        report = desk.poll(incident=dead, problem=[page(record_row("p", kind="problem"), kind="problem")])
        assert "refused: status 401" == report.problem
        assert (["a"], [("source", "refused")]) == (desk.keys(), desk.open_gaps())
    desk.poll(incident=[page(record_row("b"), cursor="c2")])
    assert [] == desk.open_gaps()


def test_a_gap_on_a_record_closes_when_it_comes_whole(desk: Desk) -> None:
    changes = "incident:changes"
    broken = Gap("incident", "row-broken", "no time", record="a")
    cut = [Gap(changes, "history-cut", "cut", record=record) for record in ("b", "c")]
    desk.poll(incident=[page(record_row("b"), gaps=[broken]), page(stream=changes, gaps=cut, cursor="d1")])
    assert {"incident": ("a",)} == desk.ingested.parked()
    desk.poll(incident=[page(record_row("a", T0 + 1)), page(change_row("e1", "b", 1, T0, "state", "1", "2"), gaps=cut)])
    assert {"incident": ("a",)} == desk.connector.windows["incident"].parked
    assert [(changes, "history-cut")] * 2 == desk.open_gaps()
    desk.poll(incident=[page(change_row("e2", "b", 2, T0, "state", "2", "3"), cursor="d2")])
    assert ["c"] == [g.record for g in rows(desk.engine, schema.gap) if g.closed_at is None]


def test_a_case_whose_row_is_broken_is_in_doubt_until_it_is_mended(desk: Desk) -> None:
    judging, closed = judged(desk), {**STOCK, "opened_at": stamp(T0), "state": "7", "reopen_count": None}
    desk.poll(incident=[page(record_row("a", T0 + HOUR, version=1, **closed))])
    desk.poll(incident=[page(change_row("e1", "a", 1, T0 + HOUR, "state", "1", "7", "p_1"))])

    def said() -> set[tuple[str, str | None]]:
        judging.run(T0 + DAY, desk.clock())
        verdicts = [v for v in rows(desk.engine, schema.verdict) if v.superseded_at is None]
        return {(v.status, v.reason) for v in verdicts if v.requirement == "INC-REOPEN"}

    assert {("conforming", None)} == said()
    broken = Gap("incident", "row-broken", "no time", record="a")
    desk.poll(incident=[page(gaps=[broken], cursor="c2")])
    assert {("unknown", GAP)} == said()
    assert 0 == judging.run(T0 + DAY, desk.clock()).cases
    desk.poll(incident=[page(record_row("a", T0 + 2 * HOUR, version=1, **closed), cursor="c3")])
    assert {("conforming", None)} == said()


def test_hidden_rows_are_shown_again_by_a_whole_read_only(desk: Desk) -> None:
    hidden = Gap("incident", "rows-hidden", "hidden")
    desk.poll(incident=[page(record_row("a"), gaps=[hidden], cursor="c1")])
    desk.poll(incident=[page(record_row("b"), cursor="c2")])
    assert [("incident", "rows-hidden")] == desk.open_gaps()
    with desk.engine.begin() as connection:
        connection.execute(delete(schema.cursor))
    desk.poll(incident=[page(record_row("a"), closed=False, gaps=[hidden]), page(record_row("b"))])
    assert [("incident", "rows-hidden")] == desk.open_gaps()
    with desk.engine.begin() as connection:
        connection.execute(delete(schema.cursor))
    desk.poll(incident=[page(record_row("a"), record_row("b"))])
    assert [] == desk.open_gaps()


def test_a_stream_that_is_not_asked_any_more_leaves_no_gap(desk: Desk) -> None:
    refused = Gap("spans:incident", "refused", "no right")
    desk.poll(incident=[page(record_row("a")), page(stream="spans:incident", gaps=[refused])])
    assert [("spans:incident", "refused")] == desk.open_gaps()
    desk.poll(incident=[page(record_row("a"))])
    assert [] == desk.open_gaps()


def test_what_people_and_choices_were_read_without_closes_when_it_is_not_missing_any_more(desk: Desk) -> None:
    lacks = [Gap("sys_user", "field-refused", "no", field="email"), Gap("sys_user_group", "refused", "no")]
    desk.connector.lacks = lacks
    desk.poll(incident=[page(record_row("a"), gaps=[Gap("incident", "row-broken", "x", record="a")])])
    desk.clock.now += DIRECTORY_EVERY
    desk.connector.lacks = lacks[:1]
    desk.poll(incident=[])
    assert [("incident", "row-broken"), ("sys_user", "field-refused")] == sorted(desk.open_gaps())


# --- what we see ourselves


def test_a_field_that_differs_from_what_was_known_is_an_event_of_its_own(desk: Desk) -> None:
    desk.poll(incident=[page(record_row("a", version=1, state="1", category="lan"))])
    assert [] == rows(desk.engine, schema.event)
    later = record_row("a", T0 + MINUTE, version=3, state="2", category="lan", other="x")
    desk.poll(incident=[page(later, record_row("b", version=0, state="1"))])
    desk.poll(incident=[page(later), page(record_row("a", T0 + 2 * MINUTE, version=4, state="3", category="lan"))])
    desk.poll(incident=[page(record_row("a", T0, version=1, state="1", category="lan", other="old"))])
    seen = sorted((e.occurred_at, e.since, e.field, e.old, e.new, e.position) for e in rows(desk.engine, schema.event))
    assert [
        (T0, None, "state", None, "1", 1),
        (T0 + MINUTE, T0, "state", "1", "2", 3),
        (T0 + 2 * MINUTE, None, "state", "2", "3", 4),
    ] == seen
    assert {"snapshot"} == {e.witness for e in rows(desk.engine, schema.event)}
    assert [] == rows(desk.engine, schema.audited_field)


def test_an_unavailable_source_ends_its_own_poll_only(engine: Engine) -> None:
    one, other = desk_on(engine, "one"), desk_on(engine, "other")
    one.poll(incident=[Unavailable("down")])
    assert None is other.poll(incident=[page(record_row("a"))]).problem


def test_the_directory_is_read_once_a_day(desk: Desk) -> None:
    desk.connector.people = [Person(("p_1", "p_2"), True, True)]
    desk.connector.groups = [Group("g1", "Network", True)]
    for wait in (0, HOUR, DIRECTORY_EVERY - HOUR - 1, 1, HOUR):
        desk.clock.now += wait
        desk.poll()
    assert 2 == desk.connector.asked.count("directory")
    assert [("p_1", "p_1"), ("p_2", "p_1")] == [(p.name, p.account) for p in rows(desk.engine, schema.person)]
    assert [("g1", "Network")] == [(p.native_id, p.title) for p in rows(desk.engine, schema.party)]
    desk.clock.now -= 30 * DAY
    desk.poll()
    assert 3 == desk.connector.asked.count("directory")


def test_the_same_page_again_adds_nothing_and_judges_nothing(desk: Desk) -> None:
    pages = [page(record_row("a", state="1")), page(change_row("e1", "a", 1, T0, "state", "1", "2"))]
    desk.poll(incident=pages)
    with desk.engine.begin() as connection:
        connection.execute(update(schema.record).values(judge_at=None))
    before = {table: rows(desk.engine, table) for table in (schema.payload, schema.record, schema.event)}
    desk.clock.now += HOUR
    report = desk.poll(incident=pages)
    assert (2, 0) == (report.rows, report.new_rows)
    assert before == {table: rows(desk.engine, table) for table in before}


def test_of_a_page_only_the_new_rows_are_news(desk: Desk) -> None:
    desk.poll(incident=[page(record_row("a"))])
    with desk.engine.begin() as connection:
        connection.execute(update(schema.record).values(judge_at=None))
    report = desk.poll(incident=[page(record_row("a"), record_row("b"))])
    assert 1 == report.new_rows
    assert [("a", None), ("b", 0)] == [(r.native_id, r.judge_at) for r in rows(desk.engine, schema.record)]


def test_a_row_asked_with_more_fields_is_another_row(desk: Desk) -> None:
    desk.poll(incident=[page(record_row("a"))])
    desk.poll(incident=[page(record_row("a"), fields=(*FIELDS, "priority"))])
    assert ["a", "a"] == desk.keys()


@given(st.permutations(list(range(5))), st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_an_older_state_never_replaces_a_newer(order: list[int], together: int) -> None:
    with TemporaryDirectory() as folder, fresh(Path(folder)) as engine:
        desk = desk_on(engine)
        states = [record_row("a", updated=T0 + n, state=str(n)) for n in order]
        for start in range(0, len(states), together):
            desk.poll(incident=[page(*states[start : start + together])])
        (kept,) = rows(engine, schema.record)
        assert (T0 + 4, '{"state":"4"}') == (kept.updated_at, kept.fields)
        assert 5 == count(engine, schema.payload)


class Ending(list[Gap]):
    """Gaps that end the process when the store looks at them: in the middle of the page's transaction."""

    def __iter__(self) -> Iterator[Gap]:
        raise Crash


def counts(engine: Engine) -> dict[str, int]:
    of_a_page = (schema.payload, schema.record, schema.event, schema.cursor, schema.poll, schema.audited_field)
    return {t.name: count(engine, t) for t in (*of_a_page, schema.pseudonym, schema.free_text) if count(engine, t)}


def test_rows_facts_names_and_cursor_come_or_go_together(desk: Desk) -> None:
    """What a process remembers to have stored (names, texts, audited fields) must not outrun what is stored."""
    desk.poll()
    border = desk.ingested.border
    person, text = border.person("sys_id", "petra"), border.text("my phone is 555")
    cut = page(change_row("e1", "a", 1, T0, "notes", "", text, person))
    with pytest.raises(Crash):
        desk.poll(incident=[replace(cut, gaps=Ending())])
    assert {} == counts(desk.engine)
    assert (person, text) == (border.person("sys_id", "petra"), border.text("my phone is 555"))
    desk.poll(incident=[cut])
    assert dict.fromkeys(
        ("payload", "record", "event", "cursor", "poll", "audited_field", "pseudonym", "free_text"), 1
    ) == counts(desk.engine)
    assert [("sys_id", "petra")] == [(p.form, p.identifier) for p in rows(desk.engine, schema.pseudonym)]
    assert ["my phone is 555"] == [t.value for t in rows(desk.engine, schema.free_text)]


# --- people and free text


def test_a_pseudonym_is_the_same_for_the_same_person_of_the_same_source(tmp_path: Path) -> None:
    def names(engine: Engine) -> list[str]:
        one, other = Ingested(engine, "one", "jira").border, Ingested(engine, "other", "jira").border
        return [
            one.person("sys_id", "petra"),
            one.person("sys_id", "petra"),
            one.person("user_name", "petra"),
            one.person("sys_id", "paul"),
            other.person("sys_id", "petra"),
        ]

    with fresh(tmp_path) as engine:
        first = names(engine)
    with fresh(tmp_path) as engine:
        again = names(engine)
    with fresh(tmp_path, "other.db") as engine:
        elsewhere = names(engine)
    assert first == again
    assert first[0] == first[1]
    assert 4 == len(set(first))
    assert not set(first) & set(elsewhere)


def test_an_empty_text_stays_empty_and_the_same_text_has_one_reference(desk: Desk) -> None:
    border = desk.ingested.border
    assert ("", True) == (border.text(""), border.text("x") == border.text("x") != border.text("y"))


def everything_but(engine: Engine, *but: Table) -> str:
    return "\n".join(str(row) for table in metadata.sorted_tables if table not in but for row in rows(engine, table))


def test_nobody_is_named_outside_the_table_of_names(desk: Desk) -> None:
    border = desk.ingested.border
    petra = border.person("sys_id", "petra.person@example.com")
    note = border.text("Call Petra Person at 555-1234")
    desk.connector.people = [Person((petra,), False, True)]
    desk.poll(
        incident=[
            page(record_row("a", caller=petra, notes=note, state="1", opened_at="2027-01-15 08:00:00")),
            page(change_row("e1", "a", 1, T0, "assigned_to", petra, petra, petra)),
        ]
    )
    judged(desk, accounts=("robot.account",)).run(T0 + DAY, T0 + DAY)
    desk.poll(incident=[page(record_row("b"))])
    hidden = everything_but(desk.engine, schema.pseudonym, schema.free_text)
    assert [] == [word for word in ("petra.person", "robot.account", "555-1234", "Petra Person") if word in hidden]
    assert petra in hidden
    assert {"petra.person@example.com", "robot.account"} == {p.identifier for p in rows(desk.engine, schema.pseudonym)}


def test_a_person_and_a_text_can_be_forgotten(desk: Desk) -> None:
    border = desk.ingested.border
    cells = {"caller": border.person("sys_id", "petra"), "notes": border.text("secret")}
    desk.poll(incident=[page(record_row("a", **cells))])
    before = rows(desk.engine, schema.payload), rows(desk.engine, schema.record)
    with desk.engine.begin() as connection:
        connection.execute(delete(schema.pseudonym))
        connection.execute(delete(schema.free_text))
    assert before == (rows(desk.engine, schema.payload), rows(desk.engine, schema.record))
    assert "petra" not in everything_but(desk.engine)
    assert "secret" not in everything_but(desk.engine)


# --- gaps


def test_a_gap_opens_once_and_closes(desk: Desk) -> None:
    gaps = [
        Gap("incident", "field-refused", "no right", field="priority"),
        Gap("incident", "field-refused", "no right", field="impact"),
        Gap("incident", "refused", "no right"),
    ]
    with desk.engine.begin() as connection:
        for _ in range(2):
            desk.ingested.note_gaps(connection, gaps, T0)
    assert 3 == len(desk.open_gaps())
    with desk.engine.begin() as connection:
        desk.ingested.close_gaps(connection, "incident", "refused", T0 + 1)
        desk.ingested.close_gaps(connection, "problem", "field-refused", T0 + 1)
    assert [("incident", "field-refused")] * 2 == desk.open_gaps()
    with desk.engine.begin() as connection:
        desk.ingested.note_gaps(connection, gaps, T0 + 2)
    assert [T0, T0, T0, T0 + 2] == [g.opened_at for g in rows(desk.engine, schema.gap)]
    assert 3 == len(desk.open_gaps())


# --- judging


SHIPPED = read_library(MAPPINGS)
ONE_OF_EACH = (
    "INC-I5-WORK",
    "INC-FLOW",
    "INC-REOPEN",
    "INC-I8-CODE",
    "INC-PRIORITY",
    "INC-RESPONSE-P1",
    "INC-RESOLVE-P1",
    "INC-PINGPONG",
)


def demanding(wanted: Callable[[str], bool], of: Library) -> Library:
    """The library with those requirements of its only procedure."""
    (procedure,) = of.procedures["incident"]
    kept = tuple(r for r in procedure.requirements if wanted(r.id))
    changed = procedure.model_copy(update={"requirements": kept})
    digests = {**of.digests, "procedures/incident.yaml": ",".join(r.id for r in kept)}
    return replace(of, procedures={"incident": (changed,)}, digests=digests)


LIBRARY = demanding(ONE_OF_EACH.__contains__, SHIPPED)
"""One requirement of each check, which is half of the time."""


def judged(*desks: Desk, library: Library = LIBRARY, accounts: Sequence[str] = ()) -> Judging:
    sources = [JudgedSource(d.read.name, "servicenow", "servicenow", d.ingested, tuple(accounts)) for d in desks]
    return Judging(desks[0].engine, library, sources)


def stamp(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


STOCK = {
    "state": "1",
    "impact": "1",
    "urgency": "1",
    "priority": "1",
    "category": "mail",
    "assignment_group": "g1",
    "contact_type": "mail",
    "reassignment_count": "0",
    "reopen_count": "0",
    "close_code": "",
    "close_notes": "",
    "hold_reason": "",
}


def incident(key: str, updated: int = T0, version: int | None = None, **fields: str) -> Record:
    cells = {**STOCK, "opened_at": stamp(T0), **fields}
    return Record("incident", key, f"INC-{key}", T0, updated, version, cells)


def change(key: str, order: int, at: int, field_: str, old: str, new: str, actor: str | None = "p_1") -> Event:
    return Event(key, field_, old, new, at, actor, "audit", f"{key}-{order}-{field_}", order)


def learn(desk: Desk, at: int, records: Sequence[Record] = (), events: Sequence[Event] = ()) -> None:
    with desk.engine.begin() as connection:
        desk.ingested.store_facts(connection, "incident", Facts(records, events), at)


Said = tuple[str, str, str, str, str | None, str | None, int | None, int | None]


def verdicts(engine: Engine) -> set[Said]:
    """What stands now. That a requirement does not apply is said only where something else was said before, so it
    counts as nothing, unless a documented short cut is the reason."""
    v, r = schema.verdict.c, schema.record.c
    query = select(
        r.native_id, v.process, v.requirement, v.status, v.reason, v.detail, v.occurred_at, v.recheck_at
    ).join_from(schema.verdict, schema.record)
    with engine.begin() as connection:
        found = [tuple(row) for row in connection.execute(query.where(v.superseded_at.is_(None)))]
    assert len(found) == len({row[:3] for row in found})
    return {row for row in found if row[3] != "not_applicable" or (row[4] or "").startswith("short cut")}


def status(engine: Engine, requirement: str) -> str | None:
    return next((s[3] for s in verdicts(engine) if s[2] == requirement), None)


def deviations(engine: Engine, requirement: str) -> list[tuple[str, str | None]]:
    return [(d.state, d.reason) for d in rows(engine, schema.deviation) if d.requirement == requirement]


def check_bookkeeping(engine: Engine, before: Sequence[Any]) -> Sequence[Any]:
    """No verdict was changed or deleted but superseded, and the open deviations are the deviating verdicts."""
    now = rows(engine, schema.verdict)
    kept = {row.id: row for row in now}
    for row in before:
        same = [c for c in row._fields if c != "superseded_at" or row.superseded_at is not None]
        assert [getattr(row, c) for c in same] == [getattr(kept[row.id], c) for c in same]
    assert sorted(
        (v.record_id, v.process, v.requirement) for v in now if v.status == "deviating" and v.superseded_at is None
    ) == sorted((d.record_id, d.process, d.requirement) for d in rows(engine, schema.deviation) if d.state == "open")
    return now


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[tuple[Record, list[Event]]], list[int]]:
    """What two incidents live through, and in which pieces, and as of when, we learn and judge it."""
    facts: list[tuple[Record, list[Event]]] = []
    for key in ("a", "b"):
        cells, at = dict(STOCK), T0
        facts.append((incident(key, T0, 0), []))
        for order in range(1, draw(st.integers(0, 6)) + 1):
            at += draw(st.sampled_from([0, MINUTE, 10 * MINUTE, HOUR, 5 * HOUR, DAY]))
            changed = draw(
                st.dictionaries(
                    st.sampled_from(["state", "category", "priority", "close_code", "assignment_group", "hold_reason"]),
                    st.sampled_from(["", "1", "2", "3", "6", "7"]),
                    max_size=3,
                )
            )
            actor = draw(st.sampled_from(["p_1", "p_robot", None]))
            events = [change(key, order, at, f, cells[f], new, actor) for f, new in changed.items() if new != cells[f]]
            cells.update(changed)
            facts.append((incident(key, at, order, **cells), events))
    return draw(st.permutations(facts)), draw(
        st.lists(st.integers(0, 40).map(lambda n: T0 + n * HOUR), min_size=len(facts), max_size=len(facts))
    )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lives(), st.integers(0, 60), st.integers(1, 4))
def test_judging_step_by_step_says_what_judging_once_says(
    life: tuple[list[tuple[Record, list[Event]]], list[int]], end: int, together: int
) -> None:
    facts, nows = life
    with TemporaryDirectory() as folder, fresh(Path(folder)) as engine, fresh(Path(folder), "once.db") as other:
        step, once = desk_on(engine), desk_on(other)
        judging = judged(step)
        before: Sequence[Any] = []
        for start in range(0, len(facts), together):
            for record_, events in facts[start : start + together]:
                learn(step, T0, [record_], events)
            judging.run(nows[start], T0 + start)
            before = check_bookkeeping(engine, before)
        judging.run(T0 + end * HOUR, T0 + DAY)
        check_bookkeeping(engine, before)
        learn(once, T0, [r for r, _ in facts], [e for _, events in facts for e in events])
        judged(once).run(T0 + end * HOUR, T0 + DAY)
        assert verdicts(other) == verdicts(engine)
        assert 0 == judging.run(T0 + end * HOUR, T0 + DAY).cases


def test_a_case_is_judged_again_when_it_falls_due_and_not_before(desk: Desk) -> None:
    learn(desk, T0, [incident("a")])
    judging = judged(desk)
    judging.run(T0, T0)
    assert (0, None) == (judging.run(T0 + 15 * MINUTE, T0).cases, status(desk.engine, "INC-RESPONSE-P1"))
    assert (1, "deviating") == (
        judging.run(T0 + 15 * MINUTE + 1, T0).cases,
        status(desk.engine, "INC-RESPONSE-P1"),
    )


def test_an_earlier_instant_is_judged_as_of_then(desk: Desk) -> None:
    learn(desk, T0, [incident("a")])
    judging = judged(desk)
    judging.run(T0 + DAY, T0)
    assert "deviating" == status(desk.engine, "INC-RESPONSE-P1")
    judging.run(T0 + MINUTE, T0)
    assert None is status(desk.engine, "INC-RESPONSE-P1")


def test_a_fact_that_puts_it_right_corrects_a_deviation(desk: Desk) -> None:
    learn(desk, T0, [incident("a", priority="5")])
    judging = judged(desk)
    judging.run(T0 + MINUTE, T0)
    assert [("open", None)] == deviations(desk.engine, "INC-PRIORITY")
    learn(desk, T0, [incident("a", T0 + HOUR, 1)], [change("a", 1, T0 + HOUR, "priority", "5", "1")])
    judging.run(T0 + DAY, T0)
    assert [("corrected", "a later save put it right")] == deviations(desk.engine, "INC-PRIORITY")
    learn(desk, T0, [incident("a", T0 + 2 * HOUR, 2)], [change("a", 2, T0 + 2 * HOUR, "priority", "1", "5")])
    judging.run(T0 + DAY, T0)
    assert ["corrected", "open"] == [s for s, _ in deviations(desk.engine, "INC-PRIORITY")]


def test_late_knowledge_withdraws_a_deviation(desk: Desk) -> None:
    learn(desk, T0, [incident("a")])
    judging = judged(desk)
    judging.run(T0 + HOUR, T0)
    assert [("open", None)] == deviations(desk.engine, "INC-RESPONSE-P1")
    learn(desk, T0 + HOUR, [incident("a", T0 + MINUTE, 1, state="2")], [change("a", 1, T0 + MINUTE, "state", "1", "2")])
    judging.run(T0 + HOUR, T0)
    assert [("withdrawn", "judged again: conforming")] == deviations(desk.engine, "INC-RESPONSE-P1")
    assert [True, False] == [
        v.superseded_at is not None for v in rows(desk.engine, schema.verdict) if v.requirement == "INC-RESPONSE-P1"
    ]


def without(requirement: str) -> Library:
    return demanding(lambda id_: id_ != requirement, LIBRARY)


def test_changed_documents_judge_everything_and_withdraw_what_no_longer_stands(desk: Desk) -> None:
    learn(desk, T0, [incident("a"), incident("b")])
    judged(desk).run(T0 + HOUR, T0)
    report = judged(desk, library=without("INC-RESPONSE-P1")).run(T0 + HOUR, T0)
    assert (2, True) == (report.cases, report.everything)
    assert [("withdrawn", "judged again: requirement no longer stands")] * 2 == deviations(
        desk.engine, "INC-RESPONSE-P1"
    )
    assert 0 == judged(desk, library=without("INC-RESPONSE-P1")).run(T0 + HOUR, T0).cases


@pytest.mark.parametrize("how", ["directory", "configured", "configured by another of its names"])
def test_an_account_that_turns_out_to_be_no_person_is_a_new_basis(desk: Desk, how: str) -> None:
    robot, called = (desk.ingested.border.person("sys_id", name) for name in ("robot", "R2"))
    learn(desk, T0, [incident("a", T0 + MINUTE, 1, state="2")], [change("a", 1, T0 + MINUTE, "state", "1", "2", robot)])
    judged(desk).run(T0 + HOUR, T0)
    assert "conforming" == status(desk.engine, "INC-RESPONSE-P1")
    if how != "configured":
        desk.ingested.store_directory(Directory([Person((robot, called), how == "directory", True)], []), T0)
    configured = {"directory": (), "configured": ("robot",)}.get(how, ("R2",))
    judged(desk, accounts=configured).run(T0 + HOUR, T0)
    assert "deviating" == status(desk.engine, "INC-RESPONSE-P1")


def test_a_judgement_that_is_cut_off_is_finished_by_the_next(engine: Engine) -> None:
    def withdrawn() -> int:
        found = rows(engine, schema.verdict)
        return sum(v.superseded_at is not None and v.requirement == "INC-PRIORITY" for v in found)

    def between() -> None:
        if withdrawn():
            raise Crash

    desks = [desk_on(engine, name) for name in ("one", "two", "three")]
    for number, desk in enumerate(desks):
        learn(desk, T0, [incident(f"{number}-{n}") for n in range(2)])
    judged(*desks).run(T0 + HOUR, T0)
    changed = judged(*desks, library=without("INC-PRIORITY"))
    with pytest.raises(Crash):
        changed.run(T0 + HOUR, T0, between=between)
    assert 2 == withdrawn()
    rest = changed.run(T0 + HOUR, T0)
    assert (4, None) == (rest.cases, status(engine, "INC-PRIORITY"))


def test_two_processes_may_judge_the_same_kind_of_record(desk: Desk) -> None:
    """The one has said all that it will after a quarter of an hour; the other falls due after four."""
    mapping = LIBRARY.mappings["servicenow"]
    twice = mapping.model_copy(update={"processes": {**mapping.processes, "problem": mapping.processes["incident"]}})
    (quick,) = demanding("INC-RESPONSE-P1".__eq__, LIBRARY).procedures["incident"]
    (slow,) = demanding("INC-RESOLVE-P1".__eq__, LIBRARY).procedures["incident"]
    procedures = {"incident": (quick,), "problem": (slow.model_copy(update={"process": "problem"}),)}
    judging = judged(desk, library=replace(LIBRARY, mappings={"servicenow": twice}, procedures=procedures))
    learn(desk, T0, [incident("a")])
    said = []
    for now in (T0, T0 + HOUR, T0 + 5 * HOUR):
        judging.run(now, T0)
        said.append({(s[1], s[2], s[3]) for s in verdicts(desk.engine) if s[3] == "deviating"})
    response = ("incident", "INC-RESPONSE-P1", "deviating")
    assert [set(), {response}, {response, ("problem", "INC-RESOLVE-P1", "deviating")}] == said


def test_a_kind_that_was_read_by_half_is_not_judged(desk: Desk) -> None:
    row = record_row("a", **STOCK, opened_at=stamp(T0))
    desk.poll(incident=[page(row, closed=False), Unavailable("down")])
    assert 0 == judged(desk).run(T0 + DAY, T0).cases
    desk.poll(incident=[page(row)])
    assert 1 == judged(desk).run(T0 + DAY, T0).cases


def test_reports_add_up() -> None:
    one = JudgementReport(1, 2, 3, 4, False, {"state=9": 1})
    other = JudgementReport(10, 20, 30, 40, True, {"state=9": 2, "state=8": 1})
    assert JudgementReport(11, 22, 33, 44, True, {"state=9": 3, "state=8": 1}) == one.plus(other)


# --- fingerprint and replay


def lived(engine: Engine) -> Desk:
    """Three polls with judgements between them: late rows, rows again, an interruption."""
    desk = desk_on(engine)
    judging = judged(desk)

    def row(key: str, updated: int, version: int, **cells: str) -> Row:
        tied = {"parent_incident": "a"} if key == "b" else {}
        return record_row(key, updated, version=version, **{**STOCK, **tied, "opened_at": stamp(T0), **cells})

    first = [
        page(row("a", T0, 0), row("b", T0, 0, priority="5"), cursor="1"),
        page(change_row("e1", "b", 1, T0 + MINUTE, "state", "1", "2", "p_1"), cursor="2"),
    ]
    desk.poll(incident=first)
    judging.run(T0 + HOUR, T0)
    desk.clock.now += HOUR
    desk.poll(incident=[page(row("b", T0 + MINUTE, 1, priority="5", state="2"), row("a", T0, 0)), Unavailable("x")])
    judging.run(T0 + 2 * HOUR, T0)
    desk.clock.now += HOUR
    later = [
        page(row("b", T0 + 3 * HOUR, 2, state="6"), cursor="3"),
        page(
            change_row("e1", "b", 1, T0 + MINUTE, "state", "1", "2", "p_1"),
            change_row("e2", "b", 2, T0 + 3 * HOUR, "state", "2", "6", "p_2"),
            change_row("e3", "b", 2, T0 + 3 * HOUR, "priority", "5", "1", "p_2"),
            cursor="4",
        ),
    ]
    desk.poll(incident=later)
    judging.run(T0 + 9 * HOUR, T0)
    return desk


def replayed(desk: Desk, progress: Callable[[str, str, int], None] = lambda *_: None) -> Any:
    return replay(desk.engine, {"desk": (desk.ingested, PLUGIN)}, judged(desk), T0 + 9 * HOUR, T0 + DAY, progress)


def test_a_replay_finds_what_stood_there(engine: Engine) -> None:
    desk = lived(engine)
    tables = (schema.record, schema.event, schema.deviation)
    counts = [count(engine, table) for table in tables]
    report = replayed(desk)
    assert ([], 7) == (report.differing, report.payloads)
    assert counts == [count(engine, table) for table in tables]
    assert all(number for number, _ in report.before.values())


def test_a_replay_finds_what_was_seen_of_fields_that_no_mapping_names_any_more(engine: Engine) -> None:
    desk = lived(engine)
    seen = [e for e in rows(engine, schema.event) if e.witness == "snapshot"]
    desk.ingested.begin_kind("incident", ["category"], T0)
    desk.ingested.end_kind("incident", None)
    assert {"state"} <= {e.field for e in seen}
    assert [] == replayed(desk).differing


@pytest.mark.parametrize(
    ("table", "values", "differing"),
    [
        (schema.event, {"new": "7"}, ["events"]),
        (schema.record, {"label": "INC-X"}, ["records"]),
        (schema.verdict, {"detail": "it was all fine"}, ["verdicts"]),
    ],
)
def test_a_replay_tells_what_was_tampered_with(
    engine: Engine, table: Table, values: Mapping[str, Any], differing: list[str]
) -> None:
    desk = lived(engine)
    with engine.begin() as connection:
        connection.execute(update(table).where(table.c.id == 1).values(values))
    assert set(differing) <= set(replayed(desk).differing)
    assert [] == replayed(desk).differing


def test_a_replay_that_is_cut_off_leaves_what_stood_there(engine: Engine) -> None:
    desk = lived(engine)
    with engine.begin() as connection:
        before = fingerprint(connection)

    def end(*_: object) -> None:
        raise Crash

    with pytest.raises(Crash):
        replayed(desk, end)
    with engine.begin() as connection:
        assert before == fingerprint(connection)
    assert [] == replayed(desk).differing


@pytest.mark.parametrize(
    ("part", "table", "column"),
    [
        ("records", schema.record, "fields"),
        ("records", schema.record, "updated_at"),
        ("events", schema.event, "actor"),
        ("events", schema.event, "position"),
        ("verdicts", schema.verdict, "status"),
        ("verdicts", schema.verdict, "recheck_at"),
        ("deviations", schema.deviation, "state"),
    ],
)
def test_the_fingerprint_changes_with_anything(engine: Engine, part: str, table: Table, column: str) -> None:
    lived(engine)
    wanted = table.c.superseded_at.is_(None) if table is schema.verdict else table.c.id == 1
    with engine.begin() as connection:
        id_ = connection.execute(select(func.max(table.c.id)).where(wanted)).scalar_one()
        before = fingerprint(connection)
        connection.execute(update(table).where(table.c.id == id_).values({column: 123}))
        after = fingerprint(connection)
        assert [part] == [name for name in before if before[name] != after[name]]
        if part in ("events", "verdicts", "deviations"):
            connection.execute(delete(table).where(table.c.id == id_))
            assert before[part][0] - 1 == fingerprint(connection)[part][0]
