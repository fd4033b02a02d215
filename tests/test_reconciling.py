"""What vanishes, comes back or never came: the store against the truth of the simulators, after a comparison by id."""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from connectors.jira.connector import PLUGIN as JIRA
from connectors.jira.simulator import serve as serve_jira
from connectors.servicenow.connector import PLUGIN as SERVICENOW
from connectors.servicenow.simulator import serve as serve_servicenow
from itsms_sync.connector import Access, Plugin
from itsms_sync.guarding import Guarding
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.ingest import Fields, Ingest, Progress, ReadSource
from itsms_sync.reconciling import ALL, ASKED_AT_ONCE, OPEN, Cadence, Reconciling, is_missed
from itsms_sync.records import Fate, Gap, Identity, Page, Presence, Record, What, Window
from itsms_sync.replay import replay
from itsms_sync.store import schema
from itsms_sync.store.database import connect
from itsms_sync.store.ingested import Ingested
from itsms_sync.store.reconciled import COMPARING, DONE, STOPPED, Run, StoredState
from itsms_sync.store.reports import findings
from itsms_sync.store.tombstones import bury, raise_up
from tests.test_store import DAY, HOUR, MINUTE, T0, desk_on, incident, judged, learn, status

TOKEN = "token-of-this-test"
OVERLAP = 60_000
CADENCE = Cadence(DAY, 7 * DAY)
UNSEEN: Progress = lambda *_: None  # noqa: E731


@dataclass
class Source:
    """One simulator, read into a store."""

    engine: Engine
    url: str
    read: ReadSource
    spent: float = 0.0
    pages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ingest = Ingest(self.engine, self.clock, UNSEEN, Guarding(self.engine, None, None, self.clock))
        self.reconciling = Reconciling(self.engine, self.ingest, CADENCE, self.clock, lambda: self.spent, UNSEEN)
        self.kind = next(iter(self.read.kinds))

    def clock(self) -> int:
        return round(time.time() * 1000)

    def poll(self, *, past: bool = True) -> None:
        report = self.ingest.poll(self.read)
        if past:
            self.ingest.backfill(self.read, report, lambda: True)
        assert report.problem is None, report.problem

    def compare(self, extent: str = ALL, **more: Any) -> Run:
        return self.reconciling.run(self.read, self.kind, extent, **more)

    def act(self, **act: Any) -> str:
        answer = requests.post(f"{self.url}/_sim/act", json={"table": self.kind, "by": "beth", **act}, timeout=5)
        assert 200 == answer.status_code, answer.text
        return str(answer.json().get("sys_id"))

    def hide(self, ids: Sequence[str] | str) -> None:
        """By a rule of the instance; an empty list shows all again."""
        rule = {"hide_rows": {self.kind: ids}}
        requests.patch(f"{self.url}/_sim/access", json=rule, timeout=5).raise_for_status()

    def jira(self, path: str, **body: Any) -> None:
        answer = requests.post(f"{self.url}/_sim/{path}", json=body, timeout=5)
        assert answer.status_code < 300, answer.text

    def delete_issue(self, id_: int) -> None:
        place, login = f"{self.url}/rest/api/2/issue/{id_}", {"Authorization": f"Bearer {TOKEN}"}
        basic = None if self.read.name == "datacenter" else ("bot@example.com", TOKEN)
        headers = login if self.read.name == "datacenter" else {}
        answer = requests.delete(place, headers=headers, auth=basic, timeout=5)
        assert 204 == answer.status_code, answer.text

    def stored(self) -> dict[str, Any]:
        """Id -> record, of all that were read."""
        with self.engine.begin() as connection:
            rows = connection.execute(select(schema.record).where(schema.record.c.updated_at.is_not(None)))
            return {row.native_id: row for row in rows}

    def tombstones(self) -> dict[str, str]:
        return {id_: row.tombstone for id_, row in self.stored().items() if row.tombstone is not None}

    def findings(self, id_: str) -> list[tuple[str, str]]:
        with self.engine.begin() as connection:
            return [(f["what"], f["note"]) for f in findings(connection, self.stored()[id_].id)]

    def gaps(self) -> set[tuple[str, str]]:
        with self.engine.begin() as connection:
            rows = connection.execute(select(schema.gap).where(schema.gap.c.closed_at.is_(None)))
            return {(row.stream, row.reason) for row in rows}

    def changes(self, id_: str, name: str) -> list[tuple[str | None, str | None]]:
        with self.engine.begin() as connection:
            event = schema.event.c
            query = select(event.old, event.new).where(event.record_id == self.stored()[id_].id, event.field == name)
            return [tuple(row) for row in connection.execute(query.order_by(event.occurred_at, event.id))]


def read_source(
    engine: Engine, name: str, url: str, plugin: Plugin, fields: Fields, kind: str, **options: Any
) -> ReadSource:
    http = Http(
        limits=Limits(total_s=10.0),
        transport=Transport(),
        monotonic=time.monotonic,
        sleep=lambda seconds: None,
        stop=Stop(),
    )
    ingested = Ingested(engine, name, plugin.name)
    secrets = {"username": "itsms", "password": "secret"} if plugin is SERVICENOW else {"token": TOKEN}
    if name == "cloud":
        secrets["username"] = "bot@example.com"
    access = Access(name, url, plugin.check_options(options), http, ingested.border, lambda: secrets)
    return ReadSource(name, plugin.connect(access), plugin, ingested, {kind: fields}, OVERLAP, 7)


Start = Callable[..., Source]
STATE = Fields(("state", "priority", "short_description"), frozenset(), frozenset(("short_description",)))
STATUS = Fields(("status", "priority", "summary"), frozenset(), frozenset())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start("servicenow" | "cloud" | "datacenter", number of records) -> Source``."""
    with TemporaryDirectory() as folder, started(Path(folder)) as begin:
        yield begin


class started:
    """Simulators and databases in ``folder``, all ended with the context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ends: list[Callable[[], None]] = []

    def __enter__(self) -> Start:
        return self.begin

    def __exit__(self, *_: object) -> None:
        for end in self.ends:
            end()

    def begin(self, system: str, number: int = 12, access: Mapping[str, Any] | None = None, **options: str) -> Source:
        place = self.folder / f"{system}{len(self.ends)}"
        place.mkdir()
        engine = connect(f"sqlite:///{place / 'store.db'}")
        data = place / "data.json"
        if system == "servicenow":
            data.write_text(json.dumps({**_desk(number), "access": access or {}}))
            simulator: Any = serve_servicenow(data=[data], options={**options})
            read = read_source(engine, system, simulator.url, SERVICENOW, STATE, "incident")
        else:
            data.write_text(json.dumps(_site(number)))
            simulator = serve_jira(data=[Path("itsm"), data], options={"edition": system, "token": TOKEN, **options})
            projects = ["ITSM", "CAPA"]
            read = read_source(engine, system, simulator.url, JIRA, STATUS, "issue", projects=projects)
        self.ends += [simulator.stop, engine.dispose]
        return Source(engine, simulator.url, read)


def sys_id(number: int) -> str:
    return f"{number:032x}"


def _desk(number: int) -> dict[str, Any]:
    """Incidents of the past, each saved once."""
    incidents = [
        {
            "sys_id": sys_id(n),
            "number": f"INC{n:07d}",
            "state": "2",
            "short_description": f"printer {n}",
            "sys_created_on": "2026-07-01 08:00:00",
            "sys_updated_on": f"2026-07-01 09:{n % 60:02d}:00",
            "sys_mod_count": 1,
        }
        for n in range(number)
    ]
    audit = [
        {
            "sys_id": f"a{n:031x}",
            "tablename": "incident",
            "documentkey": sys_id(n),
            "fieldname": "state",
            "oldvalue": "1",
            "newvalue": "2",
            "user": "beth",
            "record_checkpoint": 1,
            "sys_created_on": f"2026-07-01 09:{n % 60:02d}:00",
        }
        for n in range(number)
    ]
    people = {
        "sys_user": [{"user_name": "beth", "sys_id": "b" * 32, "email": "beth@example.com"}],
        "sys_user_group": [{"name": "desk"}],
    }
    return {"tables": {**people, "incident": incidents, "sys_audit": audit}}


def _site(number: int) -> dict[str, Any]:
    issues = [
        {
            "key": f"ITSM-{n + 1}",
            "id": 20000 + n,
            "type": "10101",
            "status": "10004",
            "priority": "Medium",
            "summary": f"printer {n}",
            "created": f"2026-07-01T08:{n % 60:02d}:00Z",
            "updated": f"2026-07-01T09:{n % 60:02d}:00Z",
        }
        for n in range(number)
    ]
    return {"issues": issues}


def in_pieces(source: Source) -> list[Run]:
    """A comparison that has no time left after each piece of work."""
    pieces = [source.compare(until=0.0)]
    while pieces[-1].state not in (DONE, STOPPED):
        pieces.append(source.compare(until=0.0))
        assert len(pieces) < 20
    return pieces


# --- ServiceNow


def test_a_delete_with_a_trail_is_known_at_the_next_poll(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    before = time.time()
    source.act(delete=True, sys_id=sys_id(3))
    source.poll()
    assert {sys_id(3): "deleted"} == source.tombstones()
    gone = source.stored()[sys_id(3)]
    assert abs(gone.gone_at - before * 1000) < 5000
    assert 0 == gone.judge_at
    assert [("1", "2")] == source.changes(sys_id(3), "state")
    with source.engine.begin() as connection:
        (finding,) = findings(connection, gone.id)
    assert (source.read.ingested.border.person("user_name", "beth"), gone.gone_at) == (
        finding["actor"],
        finding["occurred_at"],
    )


@pytest.mark.parametrize("system", ["servicenow", "cloud"])
def test_a_past_that_is_still_to_be_read_was_not_missed(start: Start, system: str) -> None:
    source = start(system)
    source.poll(past=False)
    before = len(source.stored())
    run = source.compare()
    assert (DONE, 0, before) == (run.state, run.missed, len(source.stored()))
    source.poll()
    assert len(source.stored()) > before


def test_without_the_right_to_the_trail_a_gap_says_how_deletes_are_found(start: Start) -> None:
    source = start("servicenow", access={"deny_tables": ["sys_audit_delete"]})
    source.poll()
    assert {("sys_audit_delete:incident", "refused")} == source.gaps()
    source.act(delete=True, sys_id=sys_id(1))
    run = source.compare()
    assert (DONE, 1, {sys_id(1): "unreadable"}) == (run.state, run.gone, source.tombstones())
    ((_, note),) = source.findings(sys_id(1))
    assert "the trail of deletes cannot be read" in note


def test_what_became_of_a_record_is_told_apart(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    source.act(delete=True, sys_id=sys_id(0), trail=False)
    source.act(do="archive", sys_id=sys_id(1))
    source.hide([sys_id(2)])
    source.act(delete=True, sys_id=sys_id(3))
    *_, run = in_pieces(source)
    assert (DONE, 12, 8, 4, 2) == (run.state, run.known, run.seen, run.gone, run.doubtful)
    told = {sys_id(0): "unreadable", sys_id(1): "archived", sys_id(2): "unreadable", sys_id(3): "deleted"}
    assert told == source.tombstones()
    assert ("incident", "rows-hidden") in source.gaps()
    source.hide([])
    source.compare(OPEN)
    assert ("incident", "rows-hidden") in source.gaps(), "a part that is whole does not tell of the rest"
    in_pieces(source)
    assert ("incident", "rows-hidden") not in source.gaps()
    assert source.stored()[sys_id(1)].gone_at is not None


def test_a_record_that_comes_back_loses_its_tombstone_and_keeps_its_story(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    source.act(delete=True, sys_id=sys_id(4))
    source.poll()
    source.act(do="undelete", sys_id=sys_id(4))
    source.poll()
    assert {sys_id(4): "deleted"} == source.tombstones(), "with its old stamps no poll can see it"
    source.compare()
    assert {} == source.tombstones()
    assert ["deleted", "restored"] == [what for what, _ in source.findings(sys_id(4))]
    source.act(delete=True, sys_id=sys_id(4))
    source.poll()
    assert {sys_id(4): "deleted"} == source.tombstones()


def test_a_hidden_record_that_is_saved_and_shown_again_is_back_with_the_next_poll(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    source.hide([sys_id(5)])
    source.compare()
    assert {sys_id(5): "unreadable"} == source.tombstones()
    assert ("incident", "rows-hidden") in source.gaps()
    source.hide([])
    source.act(sys_id=sys_id(5), values={"state": "6"})
    source.poll()
    assert {} == source.tombstones()
    assert ("incident", "rows-hidden") in source.gaps()
    source.compare()
    assert ("incident", "rows-hidden") not in source.gaps()


def test_what_is_unreadable_becomes_deleted_when_the_trail_tells(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    source.hide([sys_id(5)])
    source.compare()
    source.act(delete=True, sys_id=sys_id(5))
    source.poll()
    assert {sys_id(5): "deleted"} == source.tombstones()


def test_rows_that_were_dated_back_are_found_with_their_history(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    old = "2026-06-01 10:00:00"
    made = source.act(at=old, values={"state": "1"})
    source.act(do="overwrite", sys_id=made, values={"state": "2"})
    source.poll()
    assert made not in source.stored()
    run = source.compare()
    assert (1, 0) == (run.missed, run.gone)
    assert run.delay > DAY
    assert [("missed", "no poll has brought it; reconciliation found it")] == source.findings(made)
    assert [("1", "2")] == source.changes(made, "state")
    again = source.compare()
    assert (13, 13, 0, 0) == (again.known, again.seen, again.missed, again.gone)


def test_a_write_that_keeps_the_stamp_is_found_by_its_values(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    source.act(do="overwrite", sys_id=sys_id(6), values={"state": "6"}, workflow=False)
    source.poll()
    assert "2" == json.loads(source.stored()[sys_id(6)].fields)["state"]
    assert 1 == source.compare().missed
    assert "6" == json.loads(source.stored()[sys_id(6)].fields)["state"]
    assert [("missed", "it was written without a new stamp; reconciliation found it")] == source.findings(sys_id(6))


def test_a_save_that_was_dated_back_replaces_the_state_by_its_counter(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    values = {"state": "6", "sys_updated_on": "2026-07-01 08:30:00", "sys_mod_count": "2"}
    source.act(do="overwrite", sys_id=sys_id(7), values=values)
    source.poll()
    source.compare()
    assert "6" == json.loads(source.stored()[sys_id(7)].fields)["state"]
    assert set() == source.gaps()


def test_an_older_state_than_the_known_one_is_a_gap(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    values = {"sys_updated_on": "2026-07-01 08:30:00", "sys_mod_count": "0", "state": "1"}
    source.act(do="overwrite", sys_id=sys_id(7), values=values, workflow=False)
    source.compare()
    assert "2" == json.loads(source.stored()[sys_id(7)].fields)["state"]
    assert {("incident", "older-than-known")} == source.gaps()
    source.act(sys_id=sys_id(7), values={"state": "6"})
    source.act(sys_id=sys_id(7), values={"state": "7"})
    source.poll()
    source.compare()
    assert set() == source.gaps()


# --- a view that cannot be believed


def test_a_view_that_shows_nothing_concludes_nothing(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    source.hide("*")
    run = source.compare()
    assert (STOPPED, 0) == (run.state, run.gone)
    assert "--believe" in (run.problem or "")
    assert {} == source.tombstones()
    assert ("incident", "vanished") in source.gaps()
    source.hide([])
    assert DONE == source.compare().state
    assert ("incident", "vanished") not in source.gaps()


@pytest.mark.parametrize("trail", [True, False])
def test_many_that_vanish_at_once_need_proof_or_a_person(start: Start, trail: bool) -> None:
    source = start("servicenow", 120)
    source.poll()
    for n in range(30):
        source.act(delete=True, sys_id=sys_id(n), trail=trail)
    run = source.compare()
    if trail:
        assert (DONE, 30) == (run.state, run.gone)
        return
    assert (STOPPED, 0, {}) == (run.state, run.gone, source.tombstones())
    assert "at least 30 of 120" in (run.problem or "")
    believed = source.compare(believe=True)
    assert (DONE, 30, {"unreadable"}) == (believed.state, believed.gone, set(source.tombstones().values()))


def test_another_instance_concludes_nothing(start: Start) -> None:
    source, other = start("servicenow"), start("servicenow", 2, instance="clone")
    source.poll()
    run = replace_connector(source, other).compare()
    assert (STOPPED, {}) == (run.state, source.tombstones())
    assert "answered by another instance" in (run.problem or "")


def replace_connector(source: Source, other: Source) -> Source:
    """``source`` as it would be if the other simulator answered under its name."""
    return Source(source.engine, other.url, replace(source.read, connector=other.read.connector))


def test_a_source_that_is_away_ends_nothing_and_the_next_run_goes_on(start: Start) -> None:
    source = start("servicenow", 30)
    source.poll()
    source.act(delete=True, sys_id=sys_id(29), trail=False)
    seen = source.compare(until=0.0).seen
    assert 0 < seen < 29
    rule = {"do": "status", "status": 503, "path": "/table/incident"}
    requests.post(f"{source.url}/_sim/faults", json=rule, timeout=5)
    run = source.compare()
    assert ("comparing", seen, {}) == (run.state, run.seen, source.tombstones())
    assert (run.problem or "").startswith("unavailable")
    requests.delete(f"{source.url}/_sim/faults", timeout=5)
    run = source.compare()
    assert (DONE, 29, 1, None) == (run.state, run.seen, run.gone, run.problem)


def test_a_login_that_dies_holds_a_comparison_which_goes_on_with_the_next_one(start: Start) -> None:
    source = start("servicenow", 20)
    source.poll()
    requests.post(f"{source.url}/_sim/logins", json={"password": "changed"}, timeout=5).raise_for_status()
    held = source.compare()
    assert (COMPARING, True) == (held.state, "status 401" in (held.problem or ""))
    requests.post(f"{source.url}/_sim/logins", json={"password": "secret"}, timeout=5).raise_for_status()
    done = source.compare()
    assert (held.id, DONE, None) == (done.id, done.state, done.problem)


def test_a_comparison_in_pieces_finds_what_one_in_a_row_does(start: Start) -> None:
    source = start("servicenow", 30)
    source.poll()
    for n in (0, 11, 29):
        source.act(delete=True, sys_id=sys_id(n), trail=False)
    pieces = in_pieces(source)
    assert len(pieces) > 4
    assert 1 == len({run.id for run in pieces})
    assert {sys_id(0), sys_id(11), sys_id(29)} == source.tombstones().keys()


# --- Jira

EDITIONS = pytest.mark.parametrize("edition", ["cloud", "datacenter"])


@EDITIONS
def test_a_deleted_issue_is_unreadable_because_jira_does_not_tell(start: Start, edition: str) -> None:
    source = start(edition)
    source.poll()
    source.delete_issue(20003)
    source.poll()
    assert {} == source.tombstones()
    run = source.compare()
    assert (DONE, 12, 11, 1) == (run.state, run.known, run.seen, run.gone)
    assert {"20003": "unreadable"} == source.tombstones()
    assert "Jira does not tell which" in source.findings("20003")[0][1]


@EDITIONS
def test_a_move_between_projects_that_are_read_keeps_the_record(start: Start, edition: str) -> None:
    source = start(edition)
    source.poll()
    number = source.stored()["20002"].id
    source.jira("move", issue="ITSM-3", project="CAPA")
    source.poll()
    source.compare()
    assert (number, {}) == (source.stored()["20002"].id, source.tombstones())
    assert source.stored()["20002"].label.startswith("CAPA-")


@EDITIONS
def test_a_move_to_where_nothing_is_read_is_told_and_the_way_back_too(start: Start, edition: str) -> None:
    source = start(edition)
    source.poll()
    read_only = replace_options(source, projects=["ITSM"])
    source.jira("move", issue="ITSM-3", project="CAPA")
    read_only.compare()
    assert {"20002": "moved"} == source.tombstones()
    ((_, note),) = source.findings("20002")
    assert "in the project CAPA, which is not read" in note
    source.jira("move", issue="20002", project="ITSM")
    read_only.poll()
    assert {} == source.tombstones()


def replace_options(source: Source, **options: Any) -> Source:
    read = read_source(source.engine, source.read.name, source.url, JIRA, STATUS, "issue", **options)
    return Source(source.engine, source.url, read)


@EDITIONS
def test_a_lost_permission_takes_no_issue_away(start: Start, edition: str) -> None:
    source = start(edition)
    source.poll()
    source.jira("browse", project="ITSM", allowed=False)
    run = source.compare()
    assert (STOPPED, {}) == (run.state, source.tombstones())
    assert "ITSM" in (run.problem or "")
    run = source.compare(OPEN)
    assert {} == source.tombstones()
    source.jira("browse", project="ITSM", allowed=True)
    assert (DONE, 0) == ((run := source.compare()).state, run.gone)


@EDITIONS
def test_a_project_with_a_new_key_stops_reading_until_it_is_named_and_loses_nothing(start: Start, edition: str) -> None:
    source = start(edition)
    source.poll()
    source.jira("rename", project="ITSM", key="DESK")
    run = source.compare()
    assert ("comparing", {}) == (run.state, source.tombstones())
    assert "correct the option projects" in (run.problem or "")
    renamed = replace_options(source, projects=["DESK", "CAPA"])
    renamed.poll()
    run = renamed.compare()
    assert (DONE, 12, 0, {}) == (run.state, run.missed, run.gone, source.tombstones())
    assert {"DESK"} == {row.label.partition("-")[0] for row in source.stored().values()}


def test_what_search_showed_too_late_for_polls_is_found(start: Start) -> None:
    source = start("cloud", search_lag="300")
    login = ("bot@example.com", TOKEN)
    body = {"fields": {"project": {"key": "ITSM"}, "issuetype": {"id": "10101"}, "summary": "late"}}
    answer = requests.post(f"{source.url}/rest/api/2/issue", json=body, auth=login, timeout=5)
    assert 201 == answer.status_code, answer.text
    id_ = answer.json()["id"]
    source.jira("clock", advance=100)
    move_clock(source, 100)
    source.poll()
    other = requests.post(f"{source.url}/rest/api/2/issue", json=body, auth=login, timeout=5).json()["id"]
    for seconds in (150, 200, 100):
        source.jira("clock", advance=seconds)
        source.poll()
    assert id_ not in source.stored() or other in source.stored()
    run = source.compare()
    assert {id_, other} <= source.stored().keys()
    assert DONE == run.state


def move_clock(source: Source, seconds: float) -> None:
    source.clock = lambda: round((time.time() + seconds) * 1000)  # type: ignore[method-assign]


# --- when


def test_a_comparison_is_due_a_day_and_a_week_after_the_kind_was_first_read(start: Start) -> None:
    source = start("servicenow")
    at = [time.time() * 1000]
    due = Reconciling(source.engine, source.ingest, CADENCE, lambda: round(at[0]), lambda: 0.0, UNSEEN)
    assert [] == due.go_on([source.read], 60)
    source.poll()
    assert [] == due.go_on([source.read], 60)
    extents = []
    for _ in range(8):
        at[0] += DAY + MINUTE
        extents += [run.extent for run in due.go_on([source.read], 60)]
        assert [] == due.go_on([source.read], 60)
    assert [OPEN] * 6 + [ALL, OPEN] == extents


def test_no_time_means_no_work(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    late = Reconciling(source.engine, source.ingest, Cadence(1, 1), source.clock, lambda: 0.0, UNSEEN)
    time.sleep(0.01)
    assert [] == late.go_on([source.read], 0)
    assert [DONE] == [run.state for run in late.go_on([source.read], 60)]


def test_the_open_extent_asks_for_open_and_recent_records_only(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    assert 0 == source.compare(OPEN).known, "all are older than two months, and none was judged to be open"
    for n in (1, 2):
        source.act(sys_id=sys_id(n), values={"state": "6"})
    source.poll()
    source.act(delete=True, sys_id=sys_id(1), trail=False)
    run = source.compare(OPEN)
    assert (DONE, 2, 1, 1) == (run.state, run.known, run.seen, run.gone)


def test_a_few_records_none_of_which_is_shown_conclude_nothing_without_proof(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    for n in (1, 2):
        source.act(sys_id=sys_id(n), values={"state": "6"})
    source.poll()
    source.hide("*")
    run = source.compare(OPEN)
    assert (STOPPED, 2, 0, {}) == (run.state, run.known, run.gone, source.tombstones())
    source.hide([])
    for n in (1, 2):
        source.act(delete=True, sys_id=sys_id(n))
    assert (DONE, 2) == ((run := source.compare(OPEN)).state, run.gone)


# --- what is judged

ENGINE_NAME = "judged.db"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = connect(f"sqlite:///{tmp_path / ENGINE_NAME}")
    yield found
    found.dispose()


def _vanish(engine: Engine, at: int, what: str = What.DELETED.value) -> None:
    with engine.begin() as connection:
        id_ = connection.execute(select(schema.record.c.id)).scalar_one()
        bury(connection, [(id_, Fate("1", what, "gone", at))], at)


def test_a_limit_does_not_run_out_on_a_case_that_vanished(engine: Engine) -> None:
    desk = desk_on(engine)
    learn(desk, T0, [incident("1")])
    judged(desk).run(T0 + MINUTE, T0 + MINUTE)
    _vanish(engine, T0 + 2 * MINUTE)
    judged(desk).run(T0 + 30 * DAY, T0 + 30 * DAY)
    assert "unknown" == status(engine, "INC-RESOLVE-P1")
    with engine.begin() as connection:
        record = connection.execute(select(schema.record)).one()
        case = connection.execute(select(schema.case_state)).one()
        reasons = connection.execute(
            select(schema.verdict.c.reason).where(
                schema.verdict.c.requirement == "INC-RESOLVE-P1", schema.verdict.c.superseded_at.is_(None)
            )
        ).scalar_one()
    assert (None, T0 + 2 * MINUTE) == (record.judge_at, case.ended_at)
    assert "no longer shown by the source: deleted" == reasons


def test_what_was_wrong_before_stays_wrong(engine: Engine) -> None:
    desk = desk_on(engine)
    learn(desk, T0, [incident("1")])
    judged(desk).run(T0 + DAY, T0 + DAY)
    assert "deviating" == status(engine, "INC-RESOLVE-P1")
    _vanish(engine, T0 + 2 * DAY)
    judged(desk).run(T0 + 3 * DAY, T0 + 3 * DAY)
    assert "deviating" == status(engine, "INC-RESOLVE-P1")


def test_what_came_after_it_vanished_is_withdrawn(engine: Engine) -> None:
    desk = desk_on(engine)
    learn(desk, T0, [incident("1")])
    judged(desk).run(T0 + DAY, T0 + DAY)
    assert "deviating" == status(engine, "INC-RESOLVE-P1")
    _vanish(engine, T0 + MINUTE)
    judged(desk).run(T0 + DAY, T0 + DAY + HOUR)
    assert "unknown" == status(engine, "INC-RESOLVE-P1")


def test_a_case_that_is_back_is_judged_as_of_now_again(engine: Engine) -> None:
    desk = desk_on(engine)
    learn(desk, T0, [incident("1")])
    _vanish(engine, T0 + MINUTE)
    judged(desk).run(T0 + DAY, T0 + DAY)
    with engine.begin() as connection:
        raise_up(connection, [1], T0 + DAY)
    judged(desk).run(T0 + DAY, T0 + DAY + HOUR)
    assert "deviating" == status(engine, "INC-RESOLVE-P1")
    with engine.begin() as connection:
        assert connection.execute(select(schema.case_state.c.ended_at)).scalar_one() is None


def test_an_instant_before_it_vanished_is_judged_as_of_then(engine: Engine) -> None:
    desk = desk_on(engine)
    learn(desk, T0, [incident("1")])
    _vanish(engine, T0 + 2 * DAY)
    judged(desk).run(T0 + DAY, T0 + DAY)
    assert "deviating" == status(engine, "INC-RESOLVE-P1")
    with engine.begin() as connection:
        assert T0 + 2 * DAY == connection.execute(select(schema.record.c.judge_at)).scalar_one()
    judged(desk).run(T0 + 3 * DAY, T0 + 3 * DAY)
    with engine.begin() as connection:
        assert T0 + 2 * DAY == connection.execute(select(schema.case_state.c.ended_at)).scalar_one()


def test_a_replay_keeps_tombstones(start: Start) -> None:
    source = start("servicenow")
    source.poll()
    source.act(delete=True, sys_id=sys_id(1))
    source.act(delete=True, sys_id=sys_id(2), trail=False)
    source.poll()
    source.compare()
    before = source.tombstones()
    desk = desk_on(source.engine, "servicenow")
    report = replay(
        source.engine,
        {"servicenow": (source.read.ingested, SERVICENOW)},
        judged(desk),
        source.clock(),
        source.clock(),
        lambda *_: None,
    )
    assert ({sys_id(1): "deleted", sys_id(2): "unreadable"}, before) == (before, source.tombstones())
    assert "records" not in report.differing


# --- whatever happens

ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["save", "insert", "late", "delete", "bulk", "archive", "undelete", "silent", "hide", "poll", "compare"]
        ),
        st.integers(0, 15),
    ),
    max_size=12,
)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(ACTS)
def test_after_a_comparison_the_store_equals_the_instance(acts: Sequence[tuple[str, int]]) -> None:
    _compare_with_the_instance(acts)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(ACTS)
def test_after_a_comparison_the_store_equals_the_instance_at_length(acts: Sequence[tuple[str, int]]) -> None:
    _compare_with_the_instance(acts)


def _compare_with_the_instance(acts: Sequence[tuple[str, int]]) -> None:
    """Or a gap says why not; here a record that is hidden counts as not shown."""
    with TemporaryDirectory() as folder, started(Path(folder)) as begin:
        source = begin("servicenow", 10)
        source.poll()
        for act, number in acts:
            _happen(source, act, number)
        source.poll()
        source.compare()
        _check_against_truth(source)


def _happen(source: Source, act: str, number: int) -> None:
    known = sys_id(number)
    body: Mapping[str, Any]
    match act:
        case "poll":
            return source.poll()
        case "compare":
            source.compare()
            return None
        case "insert":
            body = {"values": {"state": "1"}}
        case "late":
            body = {"values": {"state": "1"}, "at": f"2026-06-01 10:00:{number:02d}"}
        case "save":
            body = {"sys_id": known, "values": {"state": "6", "priority": str(number % 5 + 1)}}
        case "silent":
            values = {"priority": str(number % 5 + 1)}
            body = {"do": "overwrite", "sys_id": known, "values": values, "workflow": False}
        case "hide":
            return source.hide([known])
        case "bulk":
            body = {"delete": True, "sys_id": known, "trail": False}
        case _:
            body = {"do": act, "sys_id": known}
    requests.post(f"{source.url}/_sim/act", json={"table": "incident", "by": "beth", **body}, timeout=5)
    return None


def _check_against_truth(source: Source) -> None:
    hidden_too = {"sysparm_fields": "sys_id,number,state,priority,sys_updated_on,sys_mod_count"}
    rows = requests.get(
        f"{source.url}/api/now/table/incident", params=hidden_too, auth=("itsms", "secret"), headers=JSON, timeout=5
    ).json()["result"]
    shown = {row["sys_id"]: row for row in rows}
    stored = source.stored()
    assert shown.keys() == {id_ for id_, row in stored.items() if row.tombstone is None}
    fresh = (time.time() - OVERLAP / 1000) * 1000
    for id_, row in shown.items():
        fields = json.loads(stored[id_].fields)
        if stored[id_].updated_at < fresh:  # a silent write on top of a fresh save waits for the next comparison
            assert (row["state"], row["priority"]) == (fields["state"], fields["priority"]), row["number"]
        assert row["sys_mod_count"] == fields["sys_mod_count"]


JSON = {"Accept": "application/json"}
JIRA_ACTS = st.lists(
    st.tuples(st.sampled_from(["edit", "create", "delete", "out", "in", "poll", "compare"]), st.integers(0, 9)),
    max_size=10,
)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["cloud", "datacenter"]), JIRA_ACTS)
def test_after_a_comparison_the_store_equals_the_site(edition: str, acts: Sequence[tuple[str, int]]) -> None:
    _compare_with_the_site(edition, acts)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["cloud", "datacenter"]), JIRA_ACTS)
def test_after_a_comparison_the_store_equals_the_site_at_length(edition: str, acts: Sequence[tuple[str, int]]) -> None:
    _compare_with_the_site(edition, acts)


def _compare_with_the_site(edition: str, acts: Sequence[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder, started(Path(folder)) as begin:
        both = begin(edition, 8)
        source = replace_options(both, projects=["ITSM"])
        source.poll()
        for act, number in acts:
            _happen_on_site(source, act, number)
        source.poll()
        there = _compare_and_check(source)
        assert there == {id_: row.label for id_, row in source.stored().items() if row.tombstone is None}


def _compare_and_check(source: Source) -> dict[str, str]:
    """The issues of the project, id -> key. One that vanished is told by where it was when that was first noticed; what
    no poll has brought yet is left to the next one.
    """
    issues = requests.get(f"{source.url}/_sim/ledger", timeout=5).json()["issues"]
    there = {issue["id"]: issue["key"] for issue in issues if issue["key"].startswith("ITSM-")}
    elsewhere = {issue["id"] for issue in issues} - there.keys()
    known = source.tombstones()
    source.compare()
    gone = source.stored().keys() - there.keys()
    assert {id_: known.get(id_, "moved" if id_ in elsewhere else "unreadable") for id_ in gone} == source.tombstones()
    return there


def _happen_on_site(source: Source, act: str, number: int) -> None:
    id_, headers = 20000 + number, {"Authorization": f"Bearer {TOKEN}"}
    auth = ("bot@example.com", TOKEN) if source.read.name == "cloud" else None
    more: dict[str, Any] = {"headers": {} if auth else headers, "auth": auth, "timeout": 5}
    place = f"{source.url}/rest/api/2/issue"
    fields = {"project": {"key": "ITSM"}, "issuetype": {"id": "10101"}, "summary": "made"}
    if act == "poll":
        source.poll()
    elif act == "compare":
        _compare_and_check(source)
    elif act == "create":
        requests.post(place, json={"fields": fields}, **more)
    elif act == "edit":
        requests.put(f"{place}/{id_}", json={"fields": {"summary": f"edited {number}"}}, **more)
    elif act == "delete":
        requests.delete(f"{place}/{id_}", **more)
    else:
        body = {"issue": str(id_), "project": "CAPA" if act == "out" else "ITSM"}
        requests.post(f"{source.url}/_sim/move", json=body, timeout=5)


# --- how much it holds at once


def test_what_counts_as_missed() -> None:
    known = StoredState(1, "a", "A", 1000, 3, {"state": "1"}, None)
    shown = Record("incident", "a", "A", 0, 1000, 3, {"state": "1", "new": "x"})
    assert not is_missed(shown, known, 5000)
    assert is_missed(shown, None, 5000)
    assert is_missed(shown, known._replace(updated=None), 5000)
    assert is_missed(shown._replace(updated=1001), known, 5000)
    assert not is_missed(shown._replace(updated=5001), known, 5000), "polls have not had their time"
    assert is_missed(shown._replace(version=4, updated=900), known, 5000)
    assert not is_missed(shown._replace(version=2), known, 5000)
    assert is_missed(shown._replace(fields={"state": "2"}), known, 5000)
    assert is_missed(shown._replace(label="B"), known, 5000)
    assert not is_missed(shown._replace(updated=0), None, 5000), "it has no stamp by which it could be stored"


class Endless:
    """Two hundred thousand records, of which every thousandth is not shown."""

    NUMBER, GONE = 200_000, 1000

    def identify(self) -> Identity:
        return Identity("endless", "1", "one", "bot", None, True)

    def present(self, kind: str, window: Window, cursor: str) -> Iterator[Presence]:
        start = int(cursor or 0)
        for first in range(start, self.NUMBER, 1000):
            shown = [n for n in range(first, first + 1000) if n % self.GONE]
            records = [Record(kind, str(n), f"R{n}", 0, 1000, 1, {}) for n in shown]
            yield Presence(records, str(first + 1000), first + 1000 >= self.NUMBER, "?", None)

    def fate(self, kind: str, ids: Sequence[str], window: Window) -> Sequence[Fate]:
        assert len(ids) <= ASKED_AT_ONCE
        assert all(int(id_) % self.GONE == 0 for id_ in ids)
        return [Fate(id_, What.DELETED.value, "told", 2000) for id_ in ids]

    def read(self, kind: str, window: Window, ids: Sequence[str]) -> Iterator[Page] | Gap:
        raise AssertionError(f"nothing was missed, and yet {ids} are read")


@pytest.mark.slow
@pytest.mark.timeout(600)  # every allocation is traced
def test_two_hundred_thousand_ids_are_never_all_in_memory(engine: Engine) -> None:
    ingested = Ingested(engine, "endless", "servicenow")
    endless: Any = Endless()
    fields = Fields((), frozenset(), frozenset())
    read = ReadSource("endless", endless, SERVICENOW, ingested, {"incident": fields}, OVERLAP, 1000)
    with engine.begin() as connection:
        values = [
            {
                "source_id": ingested.source_id,
                "kind": "incident",
                "native_id": str(n),
                "label": f"R{n}",
                "updated_at": 1000,
            }
            | {"version": 1, "fields": "{}", "learned_at": 1000, "judge_at": None, "created_at": 0}
            for n in range(Endless.NUMBER)
        ]
        connection.execute(schema.record.insert(), values)
    del values
    clock = lambda: 10_000_000  # noqa: E731
    ingest = Ingest(engine, clock, UNSEEN, Guarding(engine, None, None, clock))
    reconciling = Reconciling(engine, ingest, CADENCE, clock, lambda: 0.0, UNSEEN)
    tracemalloc.start()
    run = reconciling.run(read, "incident", ALL)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (DONE, Endless.NUMBER - 200, 200) == (run.state, run.seen, run.gone)
    assert peak < 16 * 2**20, f"{peak / 2**20:.1f} MiB"
