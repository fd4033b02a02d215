"""The same properties over random changes, with their approvals, tasks and links."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from itsms_sync.conformance.kernel import judge
from itsms_sync.documents import load
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.cases import APPROVALS, LINKS, TASKS, Basis, CaseLog, from_history
from itsms_sync.sms.mapping import Mapping as MappingDocument
from itsms_sync.sms.mapping import ProcessMapping
from tests.test_kernel import (
    MAPPINGS,
    MINUTE,
    START,
    TIMER,
    Case,
    Said,
    Save,
    due,
    frames,
    instants,
    patient,
    waits,
)

CHANGE_CREATED = {
    "state": "-5",
    "type": "normal",
    "unauthorized": "false",
    "std_change_producer_version": "",
    "risk": "3",
    "cmdb_ci": "ci1",
    "start_date": "2026-03-02 20:00:00",
    "end_date": "2026-03-02 22:00:00",
    "work_start": "",
    "work_end": "",
    "implementation_plan": "text:1",
    "backout_plan": "",
    "test_plan": "text:1",
    "close_code": "",
    "close_notes": "",
    "review_comments": "",
    "requested_by": "anna",
    "opened_by": "bert",
    "assigned_to": "",
}
CHANGE_CHANGES: dict[str, list[str | None]] = {
    "state": ["-5", "-4", "-3", "-3", "-2", "-1", "-1", "0", "3", "4", "99"],
    "type": ["normal", "emergency", "standard", "model-7"],
    "backout_plan": ["", "text:2", None],
    "close_code": ["unsuccessful", "successful"],
    "review_comments": ["", "text:3"],
    "work_start": ["2026-03-02 21:00:00", "2026-03-03 09:00:00"],
    "requested_by": ["anna", "carl", ""],
    "assigned_to": ["anna", "bert", "carl", ""],
}
PERSONS = ["anna", "bert", "carl", "dora", TIMER, None]
PartRow = dict[str, Any]


class Change(NamedTuple):
    """A change with its parts; the parts' rows lack the case."""

    history: Case
    approvals: tuple[PartRow, ...]
    tasks: tuple[PartRow, ...]
    links: tuple[PartRow, ...]


@cache
def change_mapping() -> ProcessMapping:
    return load(MAPPINGS / "servicenow.yaml", MappingDocument).processes["change"]


@cache
def change_procedure() -> Procedure:
    return load(MAPPINGS / "procedures" / "change.yaml", Procedure)


some_change = st.sampled_from([(name, value) for name, values in CHANGE_CHANGES.items() for value in values])
some_state = st.sampled_from([("state", value) for value in CHANGE_CHANGES["state"]])


@st.composite
def approvals(draw: st.DrawFn) -> PartRow:
    asked = START + draw(waits)
    state = draw(st.sampled_from(["requested", "approved", "approved", "rejected", "cancelled", "not_required", None]))
    decided = asked + draw(waits) if state in ("approved", "rejected") and draw(st.integers(0, 5)) else None
    return {
        "approver": draw(st.sampled_from(PERSONS)),
        "state": state,
        "asked_at": asked,
        "decided_at": decided,
        "exact": draw(st.booleans()),
        "actor": draw(st.sampled_from(PERSONS)),
        "human": draw(st.sampled_from([True, True, False, None])),
        "stage": draw(st.sampled_from([None, None, None, "", "authorise", "assess"])),
    }


@st.composite
def tasks(draw: st.DrawFn) -> PartRow:
    return {
        "type": draw(st.sampled_from(["implementation", "review", "testing", "", None])),
        "state": draw(st.sampled_from(["open", "work", "done", "incomplete", "skipped", "cancelled", None])),
        "opened_at": START + draw(waits),
        "ended_at": draw(st.sampled_from([None, START + 600 * MINUTE])),
        "exact": draw(st.booleans()),
        "workers": draw(st.lists(st.sampled_from(["anna", "bert", "carl"]), max_size=2, unique=True)),
    }


@st.composite
def links(draw: st.DrawFn) -> PartRow:
    return {
        "role": draw(st.sampled_from(["trigger", "trigger_elsewhere", "problem"])),
        "via": draw(st.sampled_from([None, "parent"])),
        "process": "incident",
        "state": draw(st.sampled_from(["work", "cancelled", None])),
        "at": draw(st.sampled_from([None, START, START + 600 * MINUTE])),
    }


@st.composite
def change_cases(draw: st.DrawFn) -> Change:
    created = at = START + draw(waits)
    saves = []
    content = st.lists(st.one_of(some_state, some_state, some_change), min_size=1, max_size=3).map(dict)
    lost = st.sampled_from([False, False, False, False, False, True])
    for wait, found, missing in draw(st.lists(st.tuples(waits, content, lost), max_size=7)):
        at += wait
        saves.append(Save(at, "anna", found, not missing))
    parts = [
        tuple(draw(st.lists(part, max_size=most))) for part, most in ((approvals(), 4), (tasks(), 2), (links(), 2))
    ]
    return Change(Case(created, {**CHANGE_CREATED, **draw(content | st.just({}))}, tuple(saves)), *parts)


changes_found = st.lists(change_cases(), min_size=1, max_size=6)


def change_log(world: Mapping[int, Change], now: int, unread: Mapping[str, str] | None = None) -> CaseLog:
    records, events = frames({number: change.history for number, change in world.items()}, CHANGE_CREATED)
    log = from_history(
        records, events, Basis(change_mapping(), now, change_mapping().audited_fields(), frozenset({TIMER}))
    )

    def rows(name: str, schema: Mapping[str, object], order: str | None) -> pl.DataFrame:
        found = [
            {"case": number, "id": f"{number}.{place}", "other": f"{number}.{place}", **row}
            for number, change in world.items()
            for place, row in enumerate(getattr(change, name))
        ]
        frame = pl.DataFrame(found, schema={**schema})  # type: ignore[dict-item]
        return frame if order is None else frame.sort("case", order)

    return replace(
        log,
        approvals=rows("approvals", APPROVALS, "asked_at"),
        tasks=rows("tasks", TASKS, "opened_at"),
        links=rows("links", LINKS, None),
        unread=unread or {},
    )


def said_of_changes(log: CaseLog, now: int) -> Said:
    verdicts = judge(log, [change_procedure()], change_mapping().types(), now)
    columns = ("case", "requirement", "status", "reason", "at", "detail", "recheck_at")
    found = {(row[0], row[1]): row[2:] for row in verdicts.select(columns).iter_rows()}
    assert len(verdicts) == len(found), "a case has at most one verdict for each requirement"
    return found


@given(changes_found, instants)
@patient
def test_every_change_gets_one_verdict_for_each_requirement(found: list[Change], now: int) -> None:
    log = change_log(dict(enumerate(found)), now)
    judged = {r.id for r in change_procedure().requirements if r.check != "none"}
    expected = {(case, name) for case in log.cases["case"] for name in judged}
    assert expected == set(said_of_changes(log, now))


@given(changes_found, instants, st.integers())
@patient
def test_neither_the_order_of_parts_nor_the_company_of_a_change_matters(
    found: list[Change], now: int, seed: int
) -> None:
    world = dict(enumerate(found))
    log = change_log(world, now)
    expected = said_of_changes(log, now)

    def shuffled(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.sample(fraction=1, shuffle=True, seed=abs(seed) % 1000)

    other = replace(log, approvals=shuffled(log.approvals), tasks=shuffled(log.tasks), links=shuffled(log.links))
    assert expected == said_of_changes(other, now)
    alone: Said = {}
    for number, change in world.items():
        alone |= said_of_changes(change_log({number: change}, now), now)
    assert expected == alone


@given(changes_found, instants)
@patient
def test_one_more_approval_in_its_stage_never_turns_a_quorum_into_none(found: list[Change], now: int) -> None:
    more = {
        "approver": "erna",
        "state": "approved",
        "exact": True,
        "actor": "erna",
        "human": True,
        "stage": "authorise",
    }
    richer = [
        change._replace(approvals=(*change.approvals, {**more, "asked_at": late, "decided_at": late}))
        for change in found
        for late in [START + 10_000 * MINUTE]
    ]
    before, after = (said_of_changes(change_log(dict(enumerate(world)), now), now) for world in (found, richer))
    quorums = {r.id for r in change_procedure().requirements if r.check == "RO4"}
    was = {key for key, verdict in before.items() if key[1] in quorums and verdict[0] == "deviating"}
    turned = {key for key, verdict in after.items() if key[1] in quorums and verdict[0] == "deviating"}
    assert set() == turned - was


@given(changes_found, instants)
@patient
def test_what_was_not_read_deviates_only_where_a_hit_is_certain(found: list[Change], now: int) -> None:
    unread = dict.fromkeys(("approvals", "tasks", "links"), "refused")
    whole = said_of_changes(change_log(dict(enumerate(found)), now), now)
    partly = said_of_changes(change_log(dict(enumerate(found)), now, unread), now)
    checks = {r.id: r.check for r in change_procedure().requirements}
    absent = {key for key, verdict in partly.items() if verdict[0] == "deviating" and verdict != whole[key]}
    assert set() == absent
    assert set() == {
        key
        for key, verdict in partly.items()
        if verdict[0] == "deviating" and checks[key[1]] in ("RO4", "DA3", "TI6", "LI4", "LI9")
    }


@given(changes_found, st.lists(instants, min_size=2, max_size=3).map(sorted))
@patient
def test_changes_judged_when_they_fall_due_equal_changes_judged_at_once(
    found: list[Change], moments: list[int]
) -> None:
    """Parts do not change here: only instants that were written down and limits can turn a verdict."""
    world = {n: change for n, change in enumerate(found) if change.history.created <= moments[0]}
    world = {n: change._replace(history=change.history.until(moments[0])) for n, change in world.items()}
    kept = said_of_changes(change_log(world, moments[0]), moments[0]) if world else {}
    for now in moments[1:]:
        part = {number: world[number] for number in due(kept, now)}
        if part:
            kept |= said_of_changes(change_log(part, now), now)
    expected = said_of_changes(change_log(world, moments[-1]), moments[-1]) if world else {}
    assert expected == kept


def test_saves_without_a_trace_hide_a_rejection_of_later_at_any_time() -> None:
    """Saves after the last one that is told may have asked again; when is not known."""
    blind = Save(START, "anna", {"state": CHANGE_CREATED["state"]}, traced=False)
    answers = [
        {"approver": "anna", "state": state, "asked_at": at, "decided_at": at, "exact": True, "actor": "anna"}
        for state, at in (("rejected", START + 9 * MINUTE), ("approved", START + MINUTE))
    ]
    asked = tuple({**answer, "human": True, "stage": "authorise"} for answer in answers)
    change = Change(Case(START, CHANGE_CREATED, (blind,)), asked, (), ())
    found = [said_of_changes(change_log({0: change}, at), at)[0, "CHG-C1-PLANS"] for at in (START, START + 10 * MINUTE)]
    assert [("unknown", "stage or decision of an approval not known")] * 2 == [verdict[:2] for verdict in found]
