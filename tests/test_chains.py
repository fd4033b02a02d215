"""Records that belong together: parts, links and pairs, within a system and across two."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from sqlalchemy import Engine, insert, select

from itsms_sync.judging import Judging
from itsms_sync.procedures.library import Library
from itsms_sync.procedures.model import Procedure
from itsms_sync.records import Directory, Event, Facts, Fate, Gap, Page, Person, Record, What
from itsms_sync.relating import JudgedSource
from itsms_sync.sms.mapping import Mapping
from itsms_sync.sms.parts import judged_fields
from itsms_sync.sms.processes import Processes
from itsms_sync.store import schema
from itsms_sync.store.coverage import Windows
from itsms_sync.store.database import connect
from itsms_sync.store.ingested import Ingested
from itsms_sync.store.tombstones import bury

T0 = 1_800_000_000_000
HOUR, DAY = 3_600_000, 24 * 3_600_000
NOW = T0 + 90 * DAY

DOCUMENTS = """
processes:
  document: P
  version: "1"
  roles: {owner: {title: Owner}}
  processes:
    incident: {title: Incidents, clauses: ["8.6.1"], owner: owner}
    problem: {title: Problems, clauses: ["8.6.3"], owner: owner, leads: desk}
    change: {title: Changes, clauses: ["8.5.1"], owner: owner}
mappings:
  - document: M1
    version: "1"
    valid_from: 2016-01-01
    system: desk
    processes:
      incident:
        kind: incident
        attributes: &plain
          opened: {field: created, type: instant}
          state: {field: state}
          major: {field: major}
        activities: &steps
          resolve: {when: "state = 'resolved'"}
          close: {when: "state = 'closed'"}
        links:
          parent: {field: parent, to: incident, inverse: child}
          problem: {field: problem, to: problem}
          change: {field: change, to: change, inverse: trigger}
        parts:
          slas:
            kind: level
            case: of
            attributes:
              stage: {field: stage, values: {on: running, off: cancelled, done: completed}}
              started: {field: begun, type: instant}
              ended: {field: ended, type: instant}
              breached: {field: breached}
      problem:
        kind: problem
        attributes: *plain
        activities: *steps
        pair: {field: elsewhere, system: dev, by: label}
        links: {change: {field: change, to: change, inverse: trigger}}
      change:
        kind: change
        attributes: &change
          opened: {field: created, type: instant}
          state: {field: state}
          requester: {field: requester, type: person}
        activities: *steps
        parts:
          approvals:
            kind: approval
            case: of
            attributes:
              approver: {field: approver, type: person}
              state: {field: state, values: {yes: approved, ask: requested}}
          tasks:
            kind: task
            case: of
            attributes:
              type: {field: type}
              state: {field: state, values: {new: open, off: cancelled}}
        links:
          trigger: {field: trigger, to: [incident, problem]}
          trigger_elsewhere: {field: elsewhere, system: dev, by: label, to: problem}
  - document: M2
    version: "1"
    valid_from: 2016-01-01
    system: dev
    processes:
      problem:
        kind: issue
        where: type = 'problem'
        attributes:
          opened: {field: created, type: instant}
          state: {field: state}
          major: {field: major}
          type: {field: type}
        activities: *steps
        pair: {field: elsewhere, system: desk, by: label}
        links: {change: {field: change, to: change, inverse: trigger}}
        parts:
          slas:
            kind: metric
            case: of
            attributes:
              stage: {field: ongoing, values: {yes: running, no: completed}}
              cycles: {field: cycles, type: number}
      change:
        kind: issue
        where: type = 'change'
        attributes:
          opened: {field: created, type: instant}
          state: {field: state}
          requester: {field: requester, type: person}
          type: {field: type}
        activities: *steps
        links:
          trigger: {field: trigger, to: [problem]}
          trigger_elsewhere: {field: elsewhere, system: desk, by: label, to: [incident, problem]}
procedures:
  - process: incident
    requirements:
      - id: INC-PROBLEM
        check: LI1
        applies: major = 'yes'
        roles: [problem]
        via: [parent]
        after: resolve
        limit: {time: P4D}
      - {id: INC-CHILDREN, check: CF12, roles: [child], gate: [close]}
      - {id: INC-MEASURED, check: TI13, applies: major = 'yes', gate: [close], limit: {time: PT2H}}
  - process: problem
    requirements:
      - {id: PRB-CHANGE, check: LI9, roles: [change], gate: [close]}
      - {id: PRB-MEASURED, check: TI13, applies: major = 'yes', gate: [close], limit: {time: PT2H}}
      - {id: PRB-SAME, check: LI10, attributes: [state], limit: {time: P2D}}
  - process: change
    requirements:
      - {id: CHG-SELF, check: RO1, requesters: [requester]}
      - {id: CHG-PERSON, check: RO9, stages: [new]}
      - {id: CHG-ALL, check: RO4, stages: {new: all}, before: close}
      - {id: CHG-TRIGGER, check: LI9, roles: [trigger, trigger_elsewhere], gate: [close]}
      - {id: CHG-TASKS, check: CF12, tasks: [test], gate: [close]}
"""

SAID = dict.fromkeys(("title", "drift", "where", "why", "proof"), "said") | {
    "clause": "8.1",
    "origin": "own",
    "severity": "S2",
}
DOCUMENT = {
    "document": "D",
    "title": "T",
    "version": "1",
    "valid_from": "2016-01-01",
    "review_due": "2030-01-01",
    "owner": "owner",
    "approver": "owner",
    "clauses": ["8.1"],
    "flow": {
        "initial": "new",
        "resolved": ["resolved"],
        "final": ["closed"],
        "edges": {"new": ["resolved", "closed"], "resolved": ["closed"]},
    },
    "steps": [{"id": "S", "title": "Resolve", "activity": "resolve"}],
}


def library() -> Library:
    given_ = YAML(typ="safe", pure=True).load(DOCUMENTS)
    procedures = {
        p["process"]: (
            Procedure.model_validate(
                {**DOCUMENT, "process": p["process"], "requirements": [{**SAID, **r} for r in p["requirements"]]}
            ),
        )
        for p in given_["procedures"]
    }
    mappings = {m["system"]: Mapping.model_validate(m) for m in given_["mappings"]}
    found = Library(Processes.model_validate(given_["processes"]), mappings, procedures, {"all": "1"})
    problems = [f for versions in procedures.values() for p in versions for f in found.problems_of(p)]
    assert [] == problems + [f for m in mappings.values() for f in m.problems()]
    return found


LIBRARY = library()
KINDS = {"desk": ("incident", "problem", "change", "approval", "task", "level"), "dev": ("issue", "metric")}


class Site:
    """Both systems, read to their ends unless a test says otherwise."""

    def __init__(
        self, engine: Engine, *, unread: Sequence[tuple[str, str]] = (), systems: Sequence[str] = tuple(KINDS)
    ) -> None:
        self.engine = engine
        self.ingested = {s: Ingested(engine, f"our_{s}", s, judged_fields(LIBRARY.mappings[s])) for s in systems}
        for system in systems:
            for kind in KINDS[system]:
                if (system, kind) not in unread:
                    self.read(system, kind)
        sources = [JudgedSource(f"our_{s}", s, s, i, ()) for s, i in self.ingested.items()]
        self._judging = Judging(engine, LIBRARY, sources)

    def read(self, system: str, kind: str) -> None:
        self.ingested[system].begin_kind(kind, ("state",), T0)
        self.ingested[system].end_kind(kind, None)

    def learn(self, system: str, *told: Record | Event) -> None:
        records = [one for one in told if isinstance(one, Record)]
        with self.engine.begin() as connection:
            facts = Facts(records, [one for one in told if isinstance(one, Event)])
            self.ingested[system].store_facts(connection, records[0].kind, facts, T0)

    def judge(self, now: int = NOW) -> int:
        return self._judging.run(now, T0).cases

    def verdicts(self) -> dict[tuple[str, str], tuple[str, str | None]]:
        """(label, requirement) -> (status, reason), of what applies."""
        v, r = schema.verdict.c, schema.record.c
        query = select(r.label, v.requirement, v.status, v.reason).join_from(schema.verdict, schema.record)
        with self.engine.begin() as connection:
            found = connection.execute(query.where(v.superseded_at.is_(None))).all()
        return {(label, req): (status, reason) for label, req, status, reason in found if status != "not_applicable"}

    def status(self, label: str, requirement: str) -> str | None:
        return self.verdicts().get((label, requirement), (None, None))[0]

    def cases(self) -> set[tuple[str, str]]:
        query = select(schema.record.c.label, schema.case_state.c.process).join_from(schema.case_state, schema.record)
        with self.engine.begin() as connection:
            return {(label, process) for label, process in connection.execute(query)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    yield Site(engine)
    engine.dispose()


def stamp(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def record(kind: str, id_: str, *, at: int = T0, created: int = T0, **fields: str) -> Record:
    return Record(kind, id_, id_.upper(), created, at, None, {"created": stamp(created), "state": "new", **fields})


def change_of(id_: str, field: str, old: str, new: str, at: int) -> Event:
    return Event(id_, field, old, new, at, None, "audit", f"{id_}.{field}.{at}", at - T0)


def closed(kind: str, id_: str, **fields: str) -> tuple[Record, Event]:
    """A record that was closed an hour after it was made."""
    return record(kind, id_, at=T0 + HOUR, state="closed", **fields), change_of(
        id_, "state", "new", "closed", T0 + HOUR
    )


def approval(id_: str, of: str, approver: str, state: str = "yes") -> tuple[Record, Event]:
    made = record("approval", id_, at=T0 + HOUR, of=of, approver=approver, state=state)
    return made, change_of(id_, "state", "ask", state, T0 + HOUR)


# --- parts


def test_an_approval_by_the_requester_is_found_and_its_case_judged_when_it_comes(site: Site) -> None:
    site.learn("desk", record("change", "chg1", requester="p_ann"))
    site.judge()
    assert None is site.status("CHG1", "CHG-SELF")
    site.learn("desk", *approval("apr1", "chg1", "p_bob"))
    assert 1 == site.judge()
    assert "conforming" == site.status("CHG1", "CHG-SELF")
    site.learn("desk", *approval("apr2", "chg1", "p_ann"))
    assert 1 == site.judge()
    assert "deviating" == site.status("CHG1", "CHG-SELF")
    assert 0 == site.judge()


def test_an_approval_may_be_read_before_its_case(site: Site) -> None:
    site.learn("desk", *approval("apr1", "chg1", "p_ann"))
    site.judge()
    site.learn("desk", record("change", "chg1", requester="p_ann"))
    site.judge()
    assert "deviating" == site.status("CHG1", "CHG-SELF")


def test_what_was_not_read_is_unknown_until_it_was(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    site = Site(engine)
    refused = Gap("approval", "refused", "the account may not read approvals")
    with engine.begin() as connection:
        site.ingested["desk"].note_gaps(connection, [refused], T0)
    site.learn("desk", record("change", "chg1", requester="p_ann"))
    site.judge()
    status, reason = site.verdicts()["CHG1", "CHG-SELF"]
    assert ("unknown", "not read: approval of our_desk: refused") == (status, reason)
    with engine.begin() as connection:
        site.ingested["desk"].close_gaps(connection, "approval", "refused", T0)
    site.learn("desk", *approval("apr1", "chg2", "p_ann"))
    assert 1 == site.judge()
    assert None is site.status("CHG1", "CHG-SELF")
    engine.dispose()


@pytest.mark.parametrize(
    ("what", "at", "status"),
    [
        (What.DELETED, T0 + 2 * HOUR, "deviating"),
        (What.DELETED, T0 + 1, "unknown"),
        (What.UNREADABLE, T0 + 2 * HOUR, "unknown"),
    ],
)
def test_an_approval_that_vanished_unanswered_may_have_been_withdrawn(
    site: Site, what: What, at: int, status: str
) -> None:
    """But not if its deletion came after all that happened to its change."""
    site.learn("desk", *closed("change", "chg1", requester="p_ann"))
    site.learn("desk", *approval("apr1", "chg1", "p_bob"))
    site.learn("desk", record("approval", "apr2", at=T0, of="chg1", approver="p_cid", state="ask"))
    site.judge()
    assert "deviating" == site.status("CHG1", "CHG-ALL")
    with site.engine.begin() as connection:
        id_ = connection.execute(select(schema.record.c.id).where(schema.record.c.native_id == "apr2")).scalar_one()
        bury(connection, [(id_, Fate("apr2", what.value, at=at))], NOW)
    assert 1 == site.judge()
    assert status == site.status("CHG1", "CHG-ALL")


def test_a_task_that_vanished_while_it_was_open_may_have_been_made_in_vain(site: Site) -> None:
    site.learn("desk", *closed("change", "chg1"))
    site.learn("desk", record("task", "tsk1", of="chg1", type="test"))
    site.judge()
    assert "deviating" == site.status("CHG1", "CHG-TASKS")
    with site.engine.begin() as connection:
        id_ = connection.execute(select(schema.record.c.id).where(schema.record.c.native_id == "tsk1")).scalar_one()
        bury(connection, [(id_, Fate("tsk1", What.DELETED.value, at=T0 + DAY))], NOW)
    assert 1 == site.judge()
    assert ("unknown", "type or state of a task not known") == site.verdicts()["CHG1", "CHG-TASKS"]


@pytest.mark.parametrize(("actor", "status"), [("p_ann", "deviating"), ("p_rule", None), (None, "unknown")])
def test_who_cancelled_a_task_is_told_by_its_history(site: Site, actor: str | None, status: str | None) -> None:
    site.ingested["desk"].store_directory(Directory([Person(("p_rule",), True, True)], []), T0)
    site.learn("desk", *closed("change", "chg1"))
    cancelled = Event("tsk1", "state", "new", "off", T0 + 1, actor, "audit", "off", 1)
    site.learn("desk", record("task", "tsk1", at=T0 + 1, of="chg1", type="test", state="off"), cancelled)
    site.judge()
    assert status == site.status("CHG1", "CHG-TASKS")


def level(id_: str, of: str, *, at: int = T0, stage: str = "on", **fields: str) -> Record:
    return record("level", id_, at=at, of=of, stage=stage, begun=stamp(T0), **fields)


def test_a_service_level_is_judged_anew_with_what_is_judged_of_it(site: Site) -> None:
    site.learn("desk", *closed("incident", "inc1", major="yes"))
    site.judge()
    none = "not read: level of our_desk: none is shown of any case"
    assert ("unknown", none) == site.verdicts()["INC1", "INC-MEASURED"]
    site.learn("desk", level("lvl0", "inc0"))
    assert (1, "deviating") == (site.judge(), site.status("INC1", "INC-MEASURED"))
    site.learn("desk", level("lvl1", "inc1", breached="no"))
    assert (1, "conforming") == (site.judge(), site.status("INC1", "INC-MEASURED"))
    site.learn("desk", level("lvl1", "inc1", at=T0 + HOUR, breached="yes"))
    assert 0 == site.judge()
    site.learn("desk", level("lvl1", "inc1", at=T0 + HOUR + 1, stage="off", ended=stamp(T0 + HOUR), breached="yes"))
    assert (1, "deviating") == (site.judge(), site.status("INC1", "INC-MEASURED"))
    site.learn("desk", level("lvl2", "inc1", at=T0 + 2 * HOUR, stage="done"))
    assert (1, "conforming") == (site.judge(), site.status("INC1", "INC-MEASURED"))


@pytest.mark.parametrize(("stage", "status"), [("on", "unknown"), ("done", "conforming")])
def test_a_service_level_that_vanished_had_measured_if_it_had_ended(site: Site, stage: str, status: str) -> None:
    site.learn("desk", *closed("incident", "inc1", major="yes"))
    site.learn("desk", level("lvl1", "inc1", stage=stage))
    site.judge()
    with site.engine.begin() as connection:
        id_ = connection.execute(select(schema.record.c.id).where(schema.record.c.native_id == "lvl1")).scalar_one()
        bury(connection, [(id_, Fate("lvl1", What.DELETED.value, at=T0 + DAY))], NOW)
    assert (1, status) == (site.judge(), site.status("INC1", "INC-MEASURED"))


def test_service_levels_that_cannot_be_read_leave_open_whether_there_is_one(site: Site) -> None:
    site.learn("desk", *closed("incident", "inc1", major="yes"))
    with site.engine.begin() as connection:
        refused = Gap("level", "refused", "the account may not read service levels")
        site.ingested["desk"].note_gaps(connection, [refused], T0)
    site.judge()
    assert ("unknown", "not read: level of our_desk: refused") == site.verdicts()["INC1", "INC-MEASURED"]


def test_where_each_measure_has_a_record_a_case_without_one_is_unknown(site: Site) -> None:
    site.learn("dev", *closed("issue", "dev-1", type="problem", major="yes"))
    site.learn("dev", record("metric", "m0", of="dev-0", ongoing="yes", cycles="0"))
    site.judge()
    told = "not read: the source tells nothing of a service level of it"
    assert ("unknown", told) == site.verdicts()["DEV-1", "PRB-MEASURED"]
    found = []
    for at, ongoing, cycles in ((1, "no", "0"), (2, "yes", "0"), (3, "no", "1")):
        site.learn("dev", record("metric", "m1", at=T0 + at, of="dev-1", ongoing=ongoing, cycles=cycles))
        found.append((site.judge(), site.status("DEV-1", "PRB-MEASURED")))
    assert [(1, "deviating"), (1, "conforming"), (1, "conforming")] == found


def test_only_kinds_that_are_nothing_but_service_levels_change_unjudged() -> None:
    desk = LIBRARY.mappings["desk"]
    assert {"level": {"of", "stage", "begun", "ended"}} == judged_fields(desk)
    incident = desk.processes["incident"]
    levels = incident.parts.slas
    assert levels is not None
    for part in (levels.model_copy(update={"where": "breached = 'yes'"}), levels.model_copy(update={"kind": "task"})):
        parts = incident.parts.model_copy(update={"slas": part})
        processes = {**desk.processes, "incident": incident.model_copy(update={"parts": parts})}
        assert {} == judged_fields(desk.model_copy(update={"processes": processes}))


def test_one_person_is_known_by_the_address_in_both_systems(site: Site) -> None:
    desk, dev = site.ingested["desk"], site.ingested["dev"]
    mail = desk.border.person("email", "ann@example.com")
    assert mail == dev.border.person("email", "ann@example.com")
    assert desk.border.person("name", "ann") != dev.border.person("name", "ann")
    desk.store_directory(Directory([Person(("p_ann", mail), False, True)], []), T0)
    dev.store_directory(Directory([Person(("p_account", mail), False, True)], []), T0)
    site.learn("desk", record("change", "chg1", requester="p_account"))
    site.learn("desk", *approval("apr1", "chg1", "p_ann"))
    site.judge()
    assert "deviating" == site.status("CHG1", "CHG-SELF")


def test_who_wrote_an_approval_is_known_under_each_of_their_names(site: Site) -> None:
    desk = site.ingested["desk"]
    desk.store_directory(
        Directory([Person(("p_ann", "a_login"), False, True), Person(("p_robot", "r_login"), True, True)], []), T0
    )
    site.learn("desk", record("change", "chg1", requester="p_ann"), record("change", "chg2", requester="p_ann"))
    for number, actor in (("1", "a_login"), ("2", "r_login")):
        made, answered = approval(f"apr{number}", f"chg{number}", "p_bob")
        site.learn("desk", made, answered._replace(actor=actor))
    site.judge()
    told = {(label, name): said[0] for (label, name), said in site.verdicts().items() if name != "CHG-ALL"}
    assert {
        ("CHG1", "CHG-SELF"): "unknown",
        ("CHG1", "CHG-PERSON"): "conforming",
        ("CHG2", "CHG-SELF"): "conforming",
        ("CHG2", "CHG-PERSON"): "deviating",
    } == told


# --- links


def test_a_case_sees_those_that_name_it_as_their_parent(site: Site) -> None:
    site.learn("desk", *closed("incident", "inc1"))
    site.learn("desk", record("incident", "inc2", parent="inc1"))
    site.judge()
    assert "deviating" == site.status("INC1", "INC-CHILDREN")
    site.learn("desk", *closed("incident", "inc2", parent="inc1"))
    assert 2 == site.judge()
    assert "conforming" == site.status("INC1", "INC-CHILDREN")


def test_what_is_named_in_a_system_that_is_no_source_is_unknown(tmp_path: Path) -> None:
    """The name may be that of the trigger, or of something else; a case that names nothing has none."""
    engine = connect(f"sqlite:///{tmp_path / 'store.db'}")
    site = Site(engine, systems=["desk"])
    site.learn("desk", *closed("change", "chg1", requester="p_ann", elsewhere="DEV-1"))
    site.learn("desk", *closed("change", "chg2", requester="p_ann", elsewhere=""))
    site.judge()
    told = "not read: it names a record of dev, which is not a source"
    assert ("unknown", told) == site.verdicts()["CHG1", "CHG-TRIGGER"]
    assert "deviating" == site.status("CHG2", "CHG-TRIGGER")
    engine.dispose()


def test_a_link_counts_from_either_side(site: Site) -> None:
    site.learn("desk", *closed("change", "chg1"))
    site.learn("desk", *closed("change", "chg2", trigger="inc1"))
    site.learn("desk", *closed("change", "chg3"))
    site.learn("desk", record("incident", "inc1"))
    site.learn("desk", record("incident", "inc2", change="chg1"))
    site.judge()
    assert ["conforming", "conforming", "deviating"] == [site.status(f"CHG{n}", "CHG-TRIGGER") for n in (1, 2, 3)]


def test_a_link_that_is_made_or_taken_away_later_is_felt_by_both(site: Site) -> None:
    site.learn("desk", *closed("change", "chg1"))
    site.learn("desk", record("incident", "inc1"))
    site.judge()
    assert "deviating" == site.status("CHG1", "CHG-TRIGGER")
    site.learn("desk", record("incident", "inc1", at=T0 + DAY, change="chg1"))
    site.judge()
    assert "conforming" == site.status("CHG1", "CHG-TRIGGER")
    site.learn("desk", record("incident", "inc1", at=T0 + 2 * DAY, change=""))
    site.judge()
    assert "deviating" == site.status("CHG1", "CHG-TRIGGER")


def test_a_chain_goes_over_both_systems(site: Site) -> None:
    site.learn("dev", *closed("issue", "dev-1", type="change", elsewhere="INC1"))
    site.learn("dev", *closed("issue", "dev-2", type="change", elsewhere="INC9"))
    site.judge()
    site.learn("desk", record("incident", "inc1"))
    site.judge()
    assert "conforming" == site.status("DEV-1", "CHG-TRIGGER")
    assert ("INC1", "incident") in site.cases()


def test_a_major_incident_has_its_problem_at_its_parent(site: Site) -> None:
    at = T0 + HOUR
    for name, parent in (("inc1", "inc3"), ("inc2", ""), ("inc4", "inc3")):
        made = record("incident", name, at=at, state="resolved", major="yes", parent=parent)
        site.learn("desk", made, change_of(name, "state", "new", "resolved", at))
    site.learn("desk", record("incident", "inc3", problem="prb1"))
    site.learn("desk", record("problem", "prb1"))
    site.judge()
    assert ["conforming", "deviating", "conforming"] == [
        site.status(name, "INC-PROBLEM") for name in ("INC1", "INC2", "INC4")
    ]
    site.learn("desk", record("incident", "inc3", at=T0 + DAY, problem=""))
    site.judge()
    assert "deviating" == site.status("INC1", "INC-PROBLEM")


# --- pairs


def polled(site: Site, system: str, kind: str, until: int) -> None:
    """The kind was read up to that instant of the source's clock."""
    ingested, windows = site.ingested[system], Windows(site.engine, site.ingested[system].source_id)
    page = Page("all", ("state",), (), lambda rows: Facts([], []), "", closed=True, asked="all", server_time=until)
    head = windows.begin(kind, ("state",), None, None, T0)
    with site.engine.begin() as connection:
        poll = ingested.begin_poll(connection, head, page, T0, idle=False)
        ingested.store(connection, head.id, poll, kind, page, (), Facts([], []), T0)


def test_what_two_records_of_one_problem_say_is_compared_as_far_as_both_were_read(site: Site) -> None:
    site.learn("desk", record("problem", "prb1", elsewhere="DEV-1"))
    site.learn("dev", record("issue", "dev-1", at=T0 + HOUR, type="problem", state="resolved", elsewhere="PRB1"))
    found = []
    for until in (None, T0 + 2 * DAY, T0 + 3 * DAY):
        if until is not None:
            polled(site, "desk", "problem", NOW)
            polled(site, "dev", "issue", until)
        site.judge()
        found.append(site.status("PRB1", "PRB-SAME"))
    assert ["unknown", "unknown", "deviating"] == found
    site.learn("desk", record("problem", "prb1", at=T0 + 3 * DAY, state="resolved", elsewhere="DEV-1"))
    site.judge()
    assert "conforming" == site.status("PRB1", "PRB-SAME")


def test_the_same_work_in_two_systems_is_one_case(site: Site) -> None:
    site.learn("dev", *closed("issue", "dev-1", type="problem", change="dev-9"))
    site.learn("dev", record("issue", "dev-9", type="change"))
    site.judge()
    assert ("DEV-1", "problem") in site.cases()
    assert "conforming" == site.status("DEV-1", "PRB-CHANGE")
    site.learn("desk", *closed("problem", "prb1", elsewhere="DEV-1"))
    site.judge()
    assert {"PRB1"} == {label for label, process in site.cases() if process == "problem"}
    assert None is site.status("DEV-1", "PRB-CHANGE")
    assert "conforming" == site.status("PRB1", "PRB-CHANGE")
    site.learn("desk", record("problem", "prb1", at=T0 + DAY, state="closed", elsewhere=""))
    site.judge()
    assert ("DEV-1", "problem") in site.cases()
    assert ["deviating", "conforming"] == [site.status(n, "PRB-CHANGE") for n in ("PRB1", "DEV-1")]


def test_a_ticket_of_ours_is_no_case_of_the_desk(site: Site) -> None:
    site.learn("desk", *closed("problem", "prb1"))
    row = {
        "key": "k",
        "target": "our_desk",
        "native_id": "prb1",
        "label": "PRB1",
        "url": "",
        "state": "",
        "done": False,
    }
    with site.engine.begin() as connection:
        connection.execute(insert(schema.ticket).values(read_at=T0, **row))
    site.judge()
    assert set() == site.cases()


# --- level, not edge


@st.composite
def facts(draw: st.DrawFn) -> list[tuple[str, Record, tuple[Event, ...]]]:
    """What a small desk over both systems says, in any order: each record once or twice."""
    name = st.sampled_from(["", "inc1", "inc2", "prb1", "chg1", "chg2", "DEV-1", "DEV-2", "INC1", "PRB1"])
    found: list[tuple[str, Record, tuple[Event, ...]]] = []
    for kind, id_ in (
        ("incident", "inc1"),
        ("incident", "inc2"),
        ("problem", "prb1"),
        ("change", "chg1"),
        ("change", "chg2"),
    ):
        for step in range(draw(st.integers(0, 2))):
            fields = {f: draw(name) for f in ("parent", "problem", "change", "trigger", "elsewhere")}
            made, event = closed(kind, id_, major="yes", requester=draw(st.sampled_from(["p_a", "p_b"])), **fields)
            found.append(("desk", made._replace(updated=made.updated + step), (event,)))
    for id_ in ("dev-1", "dev-2"):
        for step in range(draw(st.integers(0, 2))):
            fields = {f: draw(name) for f in ("change", "trigger", "elsewhere")}
            made, event = closed("issue", id_, type=draw(st.sampled_from(["problem", "change"])), **fields)
            found.append(("dev", made._replace(updated=made.updated + step), (event,)))
    for number in range(draw(st.integers(0, 2))):
        made, event = approval(
            f"apr{number}", draw(st.sampled_from(["chg1", "chg2"])), draw(st.sampled_from(["p_a", "p_b"]))
        )
        found.append(("desk", made, (event,)))
    for number in range(draw(st.integers(0, 2))):
        of = draw(st.sampled_from(["inc1", "inc2"]))
        for step in range(draw(st.integers(1, 2))):
            stage, breached = draw(st.sampled_from(["on", "off", "done", "?"])), draw(st.sampled_from(["no", "yes"]))
            found.append(("desk", level(f"lvl{number}", of, at=T0 + step, stage=stage, breached=breached), ()))
    return draw(st.permutations(found))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(facts(), st.integers(1, 4))
def test_judging_what_changed_and_what_depends_on_it_is_judging_everything(
    told: list[tuple[str, Record, tuple[Event, ...]]], together: int
) -> None:
    with TemporaryDirectory() as folder:
        engines = [connect(f"sqlite:///{Path(folder) / name}") for name in ("step.db", "once.db")]
        step, once = (Site(engine) for engine in engines)
        for start in range(0, len(told), together):
            for system, made, events in told[start : start + together]:
                step.learn(system, made, *events)
            step.judge()
        for system, made, events in told:
            once.learn(system, made, *events)
        once.judge()
        assert once.verdicts() == step.verdicts()
        assert once.cases() == step.cases()
        assert 0 == step.judge()
        for engine in engines:
            engine.dispose()
