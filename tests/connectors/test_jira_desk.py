"""Approvals and service levels of Jira Service Management, on the simulated site in both editions and as recorded."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.jira.connector import PLUGIN
from connectors.jira.service import approval_rows, sla_row
from connectors.jira.translate import translate
from itsms_sync.connector import Unavailable
from itsms_sync.guarding import Guarding
from itsms_sync.ingest import Fields, Ingest, ReadSource
from itsms_sync.records import Page
from itsms_sync.store.database import connect
from itsms_sync.store.ingested import Ingested
from itsms_sync.store.related import unread_kinds
from tests.connectors.jira_desks import (
    INCIDENT,
    MIA,
    OMAR,
    WINDOW,
    Desk,
    Pseudonyms,
    asked,
    cursors,
    gaps,
    heal,
    messages,
    others,
    pulled,
    records,
    spoil,
)

CHANGE = {
    "key": "ITSM-7",
    "id": 20007,
    "type": 10104,
    "status": 10017,
    "created": "2026-07-01T08:00:00Z",
    "approvals": [
        {
            "id": 71,
            "name": "Peer review",
            "created": "2026-07-01T09:00:00Z",
            "completed": "2026-07-01T10:00:00Z",
            "decision": "approved",
            "approvers": [{"by": MIA, "decision": "approved"}, {"by": OMAR, "decision": "pending"}],
        },
        {
            "id": 72,
            "name": "CAB",
            "created": "2026-07-01T11:00:00Z",
            "decision": "pending",
            "approvers": [{"by": OMAR, "decision": "pending"}],
        },
    ],
    "history": [{"id": 801, "at": "2026-07-01T08:30:00Z", "items": [{"field": "status", "from": 10013, "to": 10017}]}],
}


@pytest.mark.parametrize("options", [{}, {"approvals_field": "customfield_10213"}, {"approval_types": ["10104"]}])
def test_there_is_a_record_for_each_approval_and_approver(desk: Desk, options: Mapping[str, Any]) -> None:
    pages = pulled(desk.connect(desk.serve(CHANGE), **options), WINDOW, "approval")
    found = records(pages)
    assert {f"20007.71.{desk.mia}", f"20007.71.{desk.omar}", f"20007.72.{desk.omar}"} == found.keys()
    first = found[f"20007.71.{desk.mia}"]
    assert ("approval", "ITSM-7", 1782896400000, 1782900000000) == (
        first.kind,
        first.label,
        first.created,
        first.updated,
    )
    assert ("20007", "71", "Peer review", desk.mia, "approved", "approved", "2026-07-01T10:00:00.000+0000") == tuple(
        first.fields[name] for name in ("issue", "approval", "name", "approver", "decision", "final", "completed")
    )
    pending = found[f"20007.72.{desk.omar}"]
    assert ("pending", "pending", "") == tuple(pending.fields[name] for name in ("decision", "final", "completed"))
    assert [] == [event for page in pages for event in page.events]


def test_pending_approvals_are_read_whatever_was_updated(desk: Desk) -> None:
    source = desk.connect(desk.serve(CHANGE, *others(3)))
    first = pulled(source, WINDOW, "approval")
    second = pulled(source, replace(WINDOW, cursors=cursors(first)), "approval")
    assert [3] == [len(page.rows) for page in second if page.stream == "approval:pending"]
    assert [0] == [len(page.rows) for page in second if page.stream == "approval"]


def test_types_without_approvals_are_not_asked(desk: Desk) -> None:
    simulator = desk.serve(CHANGE, *others(5))
    pulled(desk.connect(simulator, approval_types=["10104"]), WINDOW, "approval")
    assert 2 == asked(simulator)["GET"]["/rest/servicedeskapi/request/{issueIdOrKey}/approval"]


@pytest.mark.parametrize("kind", ["approval", "sla"])
def test_an_account_without_a_licence_is_a_gap(desk: Desk, kind: str) -> None:
    source = desk.connect(desk.serve(CHANGE, agent="off"))
    pages = pulled(source, WINDOW, kind)
    assert [] == [row for page in pages for row in page.rows]
    assert {(kind, "refused")} == {(stream, reason) for stream, reason, _, _ in gaps(pages)}
    assert dict.fromkeys(cursors(pages), True) == {page.stream: page.closed for page in pages}


@pytest.mark.parametrize("options", [{}, {"sla_fields": ["customfield_10214", "customfield_10215"]}])
def test_there_is_a_record_for_each_metric(desk: Desk, options: Mapping[str, Any]) -> None:
    levels = [
        {
            "metric": 1,
            "goal": "PT4H",
            "completed": [
                {
                    "start": "2026-07-01T08:00:00Z",
                    "stop": "2026-07-01T12:00:00Z",
                    "breached": False,
                    "elapsed": "PT4H",
                }
            ],
        },
        {"metric": 2, "goal": "PT1H", "ongoing": {"start": "2026-07-01T08:00:00Z", "breached": True}},
    ]
    pages = pulled(desk.connect(desk.serve({**INCIDENT, "slas": levels}), **options), WINDOW, "sla")
    found = records(pages)
    assert {"20001.1", "20001.2"} == found.keys()
    done, running = (
        tuple(found[key].fields[name] for name in ("metric", "ongoing", "breached", "goal", "elapsed", "cycles"))
        for key in ("20001.1", "20001.2")
    )
    assert ("1", "false", "false", "14400000", "14400000", "1") == done
    assert ("2", "true", "true", "3600000", "", "0") == running
    assert "2026-07-01T09:00:00.000+0000" == found["20001.2"].fields["breach_at"]
    assert "Time to first response" == found["20001.2"].fields["name"]
    again = pulled(desk.connect(desk.running[0], **options), replace(WINDOW, cursors=cursors(pages)), "sla")
    assert {"20001.1", "20001.2"} == records(again).keys()
    assert {"sla:running"} == {page.stream for page in again if page.rows}


# --- who is asked -----------------------------------------------------------------------------------------------------

TASK = {
    "key": "ITSM-8",
    "id": 20008,
    "type": 10106,
    "parent": "ITSM-7",
    "status": 10001,
    "created": "2026-07-01T08:10:00Z",
}
APPROVAL = "/rest/servicedeskapi/request/{issueIdOrKey}/approval"
NOT_FOUND = {"path": "request/20007", "do": "status", "status": 404, "times": None}


@pytest.mark.parametrize(("kind", "times", "of"), [("approval", 2, {"20007"}), ("sla", 1, set())])
def test_sub_tasks_and_issues_of_other_projects_are_no_requests(
    desk: Desk, kind: str, times: int, of: set[str]
) -> None:
    other = {"key": "CAPA-1", "id": 21000, "type": "Task", "created": "2026-07-01T08:00:00Z"}
    simulator = desk.serve(CHANGE, TASK, other)
    pages = pulled(desk.connect(simulator, projects=["ITSM", "CAPA"]), WINDOW, kind)
    assert [] == gaps(pages)
    assert of == {record.fields["issue"] for record in records(pages).values()}
    assert times == asked(simulator)["GET"][f"/rest/servicedeskapi/request/{{issueIdOrKey}}/{kind}"]


@pytest.mark.parametrize("ids", [(20007, 30100), (30100, 20007)], ids=["first", "last"])
def test_an_issue_without_a_request_type_is_no_gap(desk: Desk, ids: tuple[int, int]) -> None:
    simulator = desk.serve({**CHANGE, "id": ids[0]}, {**others(1)[0], "id": ids[1]})
    spoil(simulator, {**NOT_FOUND, "path": f"request/{ids[0]}"})
    pages = pulled(desk.connect(simulator), WINDOW, "approval")
    assert ([], {}) == (gaps(pages), records(pages))
    assert "unread" not in cursors(pages)["approval"]


def test_where_no_request_answers_404_proves_nothing(desk: Desk) -> None:
    simulator = desk.serve(CHANGE, *others(3))
    spoil(simulator, {**NOT_FOUND, "path": "/request/"})
    source = desk.connect(simulator)
    pages = pulled(source, WINDOW, "approval")
    assert {("approval", "not-served", None, None)} == set(gaps(pages))
    told = messages(pages)[0]
    assert "approval: 4 issues cannot be read, ITSM-7 for instance" in told
    assert "agent's licence" in told
    assert "option approvals_field" in told
    heal(simulator)
    again = pulled(source, replace(WINDOW, cursors=cursors(pages)), "approval")
    assert [] == gaps(again)
    assert 3 == len(records(again))


# --- what could not be read -------------------------------------------------------------------------------------------

REFUSED = {"path": "request/20007/approval", "do": "status", "status": 403, "times": None}


@pytest.mark.parametrize(("status", "reason"), [(403, "refused"), (500, "not-served")])
def test_a_request_that_cannot_be_read_is_told_and_asked_again(desk: Desk, status: int, reason: str) -> None:
    second = {**CHANGE, "key": "ITSM-9", "id": 20009, "approvals": [{**CHANGE["approvals"][0], "id": 91}]}
    simulator = desk.serve(CHANGE, second, *others(2))
    spoil(simulator, {**REFUSED, "status": status})
    source = desk.connect(simulator)
    pages = pulled(source, WINDOW, "approval")
    assert {("approval", reason, None, None)} == set(gaps(pages))
    assert "1 issues cannot be read, ITSM-7 for instance" in messages(pages)[0]
    assert {"20009"} == {record.fields["issue"] for record in records(pages).values()}
    assert gap_is_behind_all_rows(pages)
    idle = pulled(source, replace(WINDOW, cursors=cursors(pages)), "approval")
    assert {("approval", reason, None, None)} == set(gaps(idle))
    heal(simulator)
    healed = pulled(source, replace(WINDOW, cursors=cursors(idle)), "approval")
    assert [] == gaps(healed)
    assert 3 == len(records(page for page in healed if page.stream == "approval"))
    assert "unread" not in cursors(healed)["approval"]


def gap_is_behind_all_rows(pages: Sequence[Page]) -> bool:
    """The core takes rows of a stream for a sign that it can be read again."""
    own_pages = [page for page in pages if page.stream == "approval"]
    told, others_ = own_pages[-1], own_pages[:-1]
    return bool(told.gaps) and told.closed and not told.rows and not any(page.gaps or page.closed for page in others_)


def test_the_kind_counts_as_unread_until_all_of_it_was_read(desk: Desk) -> None:
    second = {**CHANGE, "key": "ITSM-9", "id": 20009, "approvals": [{**CHANGE["approvals"][0], "id": 91}]}
    simulator = desk.serve(CHANGE, second)
    spoil(simulator, REFUSED)
    engine = connect(f"sqlite:///{desk.folder / 'store.db'}")
    ingested = Ingested(engine, "desk", "jira")
    fields = Fields(("approver", "decision"), frozenset(), frozenset())
    source = ReadSource("desk", desk.connect(simulator), PLUGIN, ingested, {"approval": fields}, 60_000, 1)

    def now() -> int:
        return round(time.time() * 1000)

    ingest = Ingest(engine, now, lambda *_: None, Guarding(engine, None, None, now))

    def unread() -> list[str]:
        report = ingest.poll(source)
        assert report.problem is None
        with engine.begin() as connection:
            return list(unread_kinds(connection, [(ingested.source_id, "approval")]).values())

    assert ["approval of desk: refused"] == unread() == unread()
    heal(simulator)
    assert [] == unread()
    engine.dispose()


def test_a_request_that_is_gone_is_not_asked_again(desk: Desk) -> None:
    simulator = desk.serve(CHANGE, *others(1))
    spoil(simulator, REFUSED)
    source = desk.connect(simulator)
    pages = pulled(source, WINDOW, "approval")
    assert "20007" in cursors(pages)["approval"]
    spoil(simulator, {"path": "issue/20007", "do": "status", "status": 404, "times": None})
    again = pulled(source, replace(WINDOW, cursors=cursors(pages)), "approval")
    assert "20007" not in cursors(again)["approval"]


def test_where_too_much_is_refused_the_stream_stays_where_it_is(desk: Desk) -> None:
    simulator = desk.serve(*others(130))
    spoil(simulator, {**REFUSED, "path": "/request/"})
    source = desk.connect(simulator)
    pages = pulled(source, replace(WINDOW, page_size=40), "approval")
    assert [("approval", "refused", None, None)] == gaps(pages)
    assert "approval: 101 issues cannot be read" in messages(pages)[0]
    assert 101 == asked(simulator)["GET"][APPROVAL]
    heal(simulator)
    healed = pulled(source, replace(WINDOW, page_size=40, cursors=cursors(pages)), "approval")
    assert [] == gaps(healed)
    answered = asked(simulator)["GET"][APPROVAL] - 101
    assert 130 == answered


def test_a_desk_that_is_down_ends_the_poll(desk: Desk) -> None:
    simulator = desk.serve(CHANGE, *others(2))
    spoil(simulator, {"path": "servicedeskapi", "do": "status", "status": 503, "nth": 2, "times": None})
    with pytest.raises(Unavailable):
        pulled(desk.connect(simulator), WINDOW, "approval")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("approval", {"approvals_field": "customfield_99999"}), ("sla", {"sla_fields": ["customfield_99999"]})],
)
def test_a_field_that_is_not_there_is_a_gap_and_not_nothing(desk: Desk, kind: str, options: Mapping[str, Any]) -> None:
    pages = pulled(desk.connect(desk.serve(CHANGE), **options), WINDOW, kind)
    assert {(kind, "not-served", None, None)} == set(gaps(pages))
    assert "customfield_99999" in pages[0].gaps[0].message


def test_an_approval_of_another_form_is_a_request_that_cannot_be_read(desk: Desk) -> None:
    simulator = desk.serve(CHANGE)
    spoil(simulator, {"path": "/approval", "do": "merge", "body": {"values": [{"id": "1"}]}, "times": None})
    pages = pulled(desk.connect(simulator), WINDOW, "approval")
    assert {("approval", "not-served", None, None)} == set(gaps(pages))
    assert "an approval of ITSM-7 has not its documented form" in pages[-1].gaps[0].message


# --- forms ------------------------------------------------------------------------------------------------------------


def approved(*approvers: Mapping[str, Any], final: str = "approved") -> list[tuple[Any, ...]]:
    """Key, approver and decision of each row."""
    date = {"epochMillis": 1782896400000}
    approval = {"id": "71", "finalDecision": final, "approvers": approvers, "createdDate": date}
    rows = approval_rows({"id": "7", "key": "ITSM-7"}, approval, "approval", Pseudonyms())
    return [(row.key, row.body["approver"], row.body["decision"]) for row in rows]


def approver(decision: str | None, **account: str) -> Mapping[str, Any]:
    return {"approver": account, **({"approverDecision": decision} if decision else {})}


def test_who_has_not_answered_a_decided_approval_is_asked_no_more() -> None:
    bo, cy = approver("pending", accountId="bo"), approver(None, accountId="cy")
    assert ["approved", "not_required", "not_required"] == [
        decision for _, _, decision in approved(approver("approved", accountId="a"), bo, cy)
    ]
    assert ["pending", "pending"] == [decision for _, _, decision in approved(bo, cy, final="pending")]
    assert ["declined", "not_required"] == [
        decision for _, _, decision in approved(approver("declined", accountId="a"), bo, final="declined")
    ]


def test_approvers_that_nothing_tells_apart_are_unknown_and_not_one() -> None:
    gone, damaged = approver("approved", displayName="Former user"), approver("approved", accountId="unknown")
    assert [("7.71.unknown-0", None, "approved"), ("7.71.unknown-1", None, "approved")] == approved(gone, damaged)


def test_an_approval_without_approvers_is_known_as_far_as_it_goes() -> None:
    assert [("7.71.", "", "pending")] == approved(final="pending")
    assert [("7.71.", None, "approved")] == approved()


def test_two_service_levels_of_one_name_are_asked_by_their_ids(desk: Desk) -> None:
    fields = [
        {"id": f"customfield_{n}", "name": name, "type": "sla"}
        for n, name in ((10301, "Time to close"), (10302, "Time to close"), (10303, 'Time to "wait"'))
    ]
    simulator = desk.serve({**INCIDENT}, more={"fields": fields})
    pages = pulled(desk.connect(simulator), WINDOW, "sla")
    question = next(page.asked for page in pages if page.stream == "sla:running")
    assert 'cf[10301] = running() OR cf[10302] = running() OR "Time to \\"wait\\"" = running()' in question


# --- as recorded from the product -------------------------------------------------------------------------------------

RECORDED = "data/recorded/jira-service-management"
REQUEST = {
    "id": "101102",
    "key": "ITSM-1",
    "fields": {"created": "2015-10-09T10:45:23.000+0700", "updated": "2015-10-10T19:15:23.000+0700"},
}


@pytest.fixture
def recorded(shared: Callable[[str], Path]) -> Callable[[str], Any]:
    return lambda name: json.loads(shared(f"{RECORDED}/{name}.json").read_bytes())


def test_recorded_approvals_become_records(recorded: Callable[[str], Any]) -> None:
    approvals = [*recorded("get-approvals")["values"], recorded("get-approval")]
    rows = [row for each in approvals for row in approval_rows(REQUEST, each, "approval", Pseudonyms())]
    facts = translate("approval", rows)
    fred = "p(accountId:qm:a713c8ea-1075-4e30-9d96-891a7d181739:5ad6d3581db05e2a66fa80b)"
    assert len(rows) == len(facts.records) == sum(len(each["approvers"]) for each in approvals)
    assert {
        "key": "ITSM-1",
        "created": "2016-09-28T07:01:00.000+0000",
        "updated": "2016-09-29T07:30:00.000+0000",
        "issue": "101102",
        "approval": "1",
        "name": "Please approve this request",
        "final": "approved",
        "completed": "2016-09-29T07:30:00.000+0000",
        "approver": fred,
        "decision": "approved",
    } == facts.records[-1].fields
    assert "Fred" not in json.dumps([row.body for row in rows])


def test_recorded_service_levels_become_records(recorded: Callable[[str], Any]) -> None:
    levels = [*recorded("get-customer-slas")["values"], recorded("get-customer-sla")]
    facts = translate("sla", [sla_row(REQUEST, each, "sla") for each in levels])
    assert len(levels) == len(facts.records)
    last = facts.records[-1]
    assert ("101102.10030", "Time To First Response", "true", "true", "14400000", "", "2") == (
        last.id,
        *(last.fields[name] for name in ("name", "ongoing", "breached", "goal", "elapsed", "cycles")),
    )
