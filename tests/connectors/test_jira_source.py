"""Jira as a source, on the simulated site in both editions: what is read, what is doubted, what is a gap."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.jira.connector import PLUGIN
from itsms_sync.connector import Refused, Unavailable
from itsms_sync.records import Configuration, Directory, Gap, Page
from tests.connectors.jira_desks import (
    INCIDENT,
    MIA,
    PROBLEM,
    TOKEN,
    WINDOW,
    Desk,
    asked,
    changes,
    cursors,
    gaps,
    heal,
    others,
    own,
    pulled,
    records,
    spoil,
)

# --- what an issue becomes --------------------------------------------------------------------------------------------


def test_an_issue_is_ids_pseudonyms_and_references(desk: Desk) -> None:
    pages = pulled(desk.connect(desk.serve(INCIDENT, PROBLEM)))
    incident = records(pages)["20001"]
    assert ("issue", "ITSM-1", None) == (incident.kind, incident.label, incident.version)
    assert (1782892800000, 1782907200250) == (incident.created, incident.updated)
    assert {
        "key": "ITSM-1",
        "created": "2026-07-01T08:00:00.000+0000",
        "updated": "2026-07-01T12:00:00.250+0000",
        "project": "10100",
        "issuetype": "10101",
        "status": "10004",
        "priority": "1",
        "resolution": "10401",
        "parent": "",
        "components": "",
        "labels": "mail,vip",
        "assignee": desk.mia,
        "duedate": "2026-07-03",
        "resolutiondate": "2026-07-01T12:00:00.250+0000",
        "customfield_10201": "10302",
        "customfield_10206": "2026-07-02T10:00:00.000+0000",
        "customfield_10208": "t(Restart the *server*)",
        "customfield_10216": "10341",
        "customfield_10219": "INC0010001",
        "link.10502.inward": "20002",
        "link.10502.outward": "",
        "comment": "",
    } == incident.fields
    assert ("", "20001") == tuple(
        records(pages)["20002"].fields[f"link.10502.{direction}"] for direction in ("inward", "outward")
    )


def test_each_change_has_the_form_of_the_field(desk: Desk) -> None:
    pages = pulled(desk.connect(desk.serve(INCIDENT)))
    assert [
        ("status", "10001", "10002", "501.0"),
        ("assignee", "", desk.omar, "501.1"),
        ("assignee", desk.omar, desk.mia, "502.0"),
        ("customfield_10208", "", "t(Restart the *server*)", "502.1"),
        ("customfield_10201", "10303", "10302", "502.2"),
        ("customfield_10216", "", "10341", "502.3"),
        ("labels", "mail", "mail,vip", "502.4"),
        ("", None, None, "503"),
        ("status", "10002", "10004", "504.0"),
        ("resolution", "", "10401", "504.1"),
    ] == changes(pages)
    actors = {event.order: event.actor for page in pages for event in page.events}
    assert {501: desk.mia, 502: desk.omar, 503: None, 504: desk.mia} == {n: actors[n] for n in (501, 502, 503, 504)}


def test_comments_are_events_of_the_journal(desk: Desk) -> None:
    pages = pulled(desk.connect(desk.serve(INCIDENT)))
    journal = [event for page in pages for event in page.events if event.field == "comment"]
    assert [("900", "", "t(Any news?)", desk.omar), ("901", "", "t(We look at it)", desk.mia)] == [
        (each.witness_id, each.old, each.new, each.actor) for each in journal
    ]
    silent = pulled(desk.connect(desk.running[0]), replace(WINDOW, fields=("status",)))
    assert {"issue", "issue:changelog"} == {page.stream for page in silent}


def test_hundreds_of_comments_are_events(desk: Desk) -> None:
    many = [{"id": 1000 + n, "by": MIA, "at": "2026-07-01T09:30:00Z", "body": f"no {n}"} for n in range(230)]
    pages = pulled(desk.connect(desk.serve({**INCIDENT, "comments": many})))
    assert 230 == len({event.witness_id for page in pages for event in page.events if event.field == "comment"})


def test_nobody_is_named_in_what_is_stored(desk: Desk) -> None:
    pages = pulled(desk.connect(desk.serve(INCIDENT, PROBLEM)))
    stored = json.dumps([row.body for page in pages for row in page.rows])
    told = stored.replace(f"t({'Restart the *server*'})", "")
    assert [] == [word for word in ("Mia", "Omar", "example.com", "mail of") if word in told]
    again = [PLUGIN.translate("issue", page.rows) for page in pages]
    assert [(list(page.records), list(page.events)) for page in pages] == [
        (list(facts.records), list(facts.events)) for facts in again
    ]


def test_a_field_that_never_comes_is_a_gap(desk: Desk) -> None:
    window = replace(WINDOW, fields=("status", "customfield_99999"))
    pages = pulled(desk.connect(desk.serve(INCIDENT)), window)
    assert [("issue", "field-not-served", None, "customfield_99999")] == gaps(pages)
    assert "customfield_99999" not in records(pages)["20001"].fields


def test_a_moved_issue_keeps_its_id_and_gets_another_label(desk: Desk) -> None:
    moved = {
        **INCIDENT,
        "former_keys": ["DESK-3"],
        "history": [
            *INCIDENT["history"][:1],  # type: ignore[index]
            {
                "id": 502,
                "at": "2026-07-01T09:10:00Z",
                "items": [
                    {"field": "Key", "fromString": "DESK-3", "toString": "ITSM-1", "from": None, "to": None},
                    {"field": "project", "from": "10300", "fromString": "Desk", "to": "10100", "toString": "ITSM"},
                ],
            },
            {"id": 503, "at": "2026-07-01T12:00:00Z", "items": [{"field": "status", "from": 10002, "to": 10004}]},
        ],
    }
    pages = pulled(desk.connect(desk.serve(moved)))
    assert "ITSM-1" == records(pages)["20001"].label
    assert ("project", "10300", "10100", "502.1") in changes(pages)


# --- the walk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 100])
def test_pages_of_any_size_lose_nothing_and_double_nothing(desk: Desk, size: int) -> None:
    pages = pulled(desk.connect(desk.serve(*others(23, second=5))), replace(WINDOW, page_size=size))
    keys = [row.key for page in pages if page.stream == "issue" for row in page.rows]
    assert sorted(keys) == sorted({str(30100 + n) for n in range(23)})
    assert 23 == len({event.witness_id for page in pages for event in page.events})
    assert [True] == [page.closed for page in pages if page.stream == "issue" and page.closed]


def test_a_window_that_is_broken_off_goes_on_behind_its_last_page(desk: Desk) -> None:
    source = desk.connect(desk.serve(*others(20)))
    small = replace(WINDOW, page_size=3)
    whole = pulled(source, small)
    for kept in range(len(whole)):
        before = whole[: kept + 1]
        after = pulled(source, replace(small, cursors=cursors(before)))
        assert records(whole) == {**records(before), **records(after)}
        assert set() == records(before).keys() & records(after).keys()


def test_an_idle_poll_brings_nothing_and_costs_little(desk: Desk) -> None:
    simulator = desk.serve(*others(20))
    source = desk.connect(simulator)
    first = pulled(source)
    before = asked(simulator)
    second = pulled(source, replace(WINDOW, cursors=cursors(first)))
    assert [] == [row for page in second for row in page.rows]
    assert cursors(first)["issue"] == cursors(second)["issue"]
    spent = {
        path: count - before.get(method, {}).get(path, 0)
        for method, paths in asked(simulator).items()
        for path, count in paths.items()
    }
    assert 1 == sum(count for path, count in spent.items() if path.startswith("/rest/"))


def test_time_is_absolute_whatever_the_zone_of_the_account(desk: Desk) -> None:
    source = desk.connect(desk.serve(*others(6, second=1), timezone="Australia/Sydney"))
    first = pulled(source, replace(WINDOW, page_size=2))
    assert "2026-07-02T09:00:05.000+0000" == records(first)["30105"].fields["updated"]
    half = [page for page in first if page.stream == "issue"][:2]
    rest = pulled(source, replace(WINDOW, cursors=cursors(half)))
    assert records(first).keys() - records(half).keys() == records(rest).keys()


def test_what_is_not_settled_is_read_again(desk: Desk) -> None:
    now = time.time()
    stamps = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - ago)) for ago in (900, 60)]
    fresh = [{**each, "updated": stamp} for each, stamp in zip(others(2), stamps, strict=True)]
    source = desk.connect(desk.serve(*fresh))
    first = pulled(source)
    assert {"30100", "30101"} == records(first).keys()
    again = pulled(source, replace(WINDOW, cursors=cursors(first)))
    assert {"30101"} == records(again).keys()
    assert {"30100"} == records(first).keys() - records(again).keys()


def test_a_clock_that_runs_ahead_takes_no_window_with_it(desk: Desk) -> None:
    future = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
    source = desk.connect(desk.serve({**others(1)[0], "updated": future}, *others(1, start=200)))
    again = pulled(source, replace(WINDOW, cursors=cursors(pulled(source))))
    assert {"30100"} == records(again).keys()
    assert "2026-07-02" not in cursors(again)["issue"]
    assert time.time() * 1000 > json.loads(cursors(again)["issue"])["at"]


def test_an_unreadable_cursor_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused, match="remove it to read this stream from its start"):
        pulled(desk.connect(desk.serve(INCIDENT)), replace(WINDOW, cursors={"issue": "[1"}))


@pytest.mark.parametrize("kind", ["issue", "approval", "sla"])
def test_a_project_that_the_account_has_lost_is_named(desk: Desk, kind: str) -> None:
    source = desk.connect(desk.serve(INCIDENT), projects=["ITSM", "NOPE"])
    lost = "Nothing is read: NOPE of the option projects does not exist, or the account has lost .* Browse Projects"
    with pytest.raises(Refused, match=lost):
        pulled(source, kind=kind)


def test_a_question_that_is_refused_for_another_reason_is_not_blamed_on_projects(desk: Desk) -> None:
    source = desk.connect(desk.serve(INCIDENT))
    spoil(desk.running[0], {"path": "/search", "do": "status", "status": 400, "times": None})
    with pytest.raises(Refused, match="Simulated fault") as refusal:
        pulled(source)
    assert "Nothing is read" not in str(refusal.value)


def test_a_removed_interface_is_refused(desk: Desk) -> None:
    source = desk.connect(desk.serve(INCIDENT))
    spoil(desk.running[0], {"path": "/search", "do": "status", "status": 410, "times": None})
    with pytest.raises(Refused, match="Jira has removed this interface"):
        pulled(source)


ELSEWHERE = {
    "projects": [
        {
            "key": "AND",
            "id": 10900,
            "type": "service_desk",
            "issue_types": [
                {"name": "[System] Incident", "workflow": "Task workflow", "create": {"summary": "required"}}
            ],
        }
    ]
}


def test_a_key_may_be_a_word_of_the_query_language(desk: Desk) -> None:
    one = {"key": "AND-1", "id": 20900, "type": 10101, "status": "To Do", "created": "2026-07-01T08:00:00Z"}
    source = desk.connect(desk.serve(INCIDENT, one, more=ELSEWHERE), projects=["AND", "ITSM"])
    assert {"AND-1", "ITSM-1"} == {record.label for record in records(pulled(source)).values()}


# --- a site that changes while it is read -----------------------------------------------------------------------------


def touch(desk: Desk, key: str) -> None:
    """Somebody updates the issue."""
    login = ("bot", TOKEN) if desk.edition == "datacenter" else ("bot@example.com", TOKEN)
    address = f"{desk.running[0].url}/rest/api/2/issue/{key}"
    requests.put(address, json={"fields": {"summary": "Other"}}, auth=login, timeout=5).raise_for_status()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_nothing_slips_when_issues_move_to_the_end(desk: Desk, size: int) -> None:
    """Each update takes an issue that was read away from the front, and all others move up."""
    source = desk.connect(desk.serve(*others(12, second=4)))
    pages = source.pull("issue", replace(WINDOW, page_size=size))
    assert not isinstance(pages, Gap)
    came: list[Page] = []
    for page in pages:
        came.append(page)
        if page.stream == "issue" and len(records(came)) < 12 and page.rows:
            touch(desk, str(page.rows[0].body["key"]))
    assert {str(30100 + n) for n in range(12)} == records(came).keys()
    assert came[-1].closed


def test_an_issue_that_moves_between_two_projects_is_one(desk: Desk) -> None:
    source = desk.connect(desk.serve(*others(9), more=ELSEWHERE), projects=["ITSM", "AND"])
    pages = source.pull("issue", replace(WINDOW, page_size=3))
    assert not isinstance(pages, Gap)
    came = [next(pages) for _ in range(3)]
    body = {"issue": "ITSM-108", "project": "AND"}
    requests.post(own(desk.running[0]) + "/_sim/move", json=body, timeout=5).raise_for_status()
    came.extend(pages)
    assert 9 == len(records(came))
    assert "AND-1" == records(came)["30108"].label
    assert ("project", "10100", "10900") in [change[:3] for change in changes(came, "30108")]


def test_a_site_that_shows_less_than_was_asked_for_is_read_to_its_end(tmp_path: Path) -> None:
    found = Desk(tmp_path, "datacenter")
    simulator = found.serve(*others(11), search_cap="2")
    try:
        assert 11 == len(records(pulled(found.connect(simulator))))
    finally:
        simulator.stop()


def test_a_total_that_is_too_small_ends_nothing(tmp_path: Path) -> None:
    found = Desk(tmp_path, "datacenter")
    simulator = found.serve(*others(11))
    try:
        spoil(simulator, {"path": "/search", "do": "merge", "body": {"total": 3}, "times": None})
        assert 11 == len(records(pulled(found.connect(simulator), replace(WINDOW, page_size=3))))
    finally:
        simulator.stop()


def test_an_empty_page_with_a_token_ends_nothing(cloud: Desk) -> None:
    pages = pulled(cloud.connect(cloud.serve(*others(20), empty_page="2")), replace(WINDOW, page_size=5))
    assert 20 == len(records(pages))


def test_the_login_is_looked_at_before_anything_is_read(desk: Desk) -> None:
    source = desk.connect(desk.serve(INCIDENT), secret="dead-token-of-last-year")
    with pytest.raises(Refused, match="check user name and API token"):
        source.identify()
    with pytest.raises(Refused, match="check user name and API token"):
        pulled(source)


def test_identity(desk: Desk) -> None:
    simulator = desk.serve(INCIDENT)
    identity = desk.connect(simulator).identify()
    cloud = desk.edition == "cloud"
    assert ("Jira Cloud" if cloud else "Jira Data Center") == identity.product
    assert (simulator.url, True) == (identity.instance, identity.simulated)
    assert identity.server_time is not None
    assert 60_000 > abs(time.time() * 1000 - identity.server_time)


# --- whole histories --------------------------------------------------------------------------------------------------


def long_history(count: int) -> dict[str, Any]:
    """An issue that went to and fro between two states."""
    start = 1782900000000
    items = [{"field": "status", "from": 10001 + n % 2, "to": 10002 - n % 2} for n in range(count)]
    return {
        **INCIDENT,
        "status": 10001 + count % 2,
        "comments": [],
        "updated": start + count * 1000,
        "history": [
            {"id": 5000 + n, "at": start + n * 1000, "by": MIA, "items": [each]} for n, each in enumerate(items)
        ],
    }


@pytest.mark.parametrize("form", ["iso", "ms", "s"])
def test_a_history_of_several_pages_is_whole(cloud: Desk, form: str) -> None:
    pages = pulled(cloud.connect(cloud.serve(long_history(2345), *others(3), bulkfetch_created=form)))
    assert (2345, []) == (len(changes(pages)), gaps(pages))
    assert {1782900000000} == {e.at for page in pages for e in page.events if e.witness_id == "5000.0"}


@pytest.mark.parametrize("total", ["honest", "lying"])
def test_a_history_that_search_cuts_is_completed(tmp_path: Path, total: str) -> None:
    found = Desk(tmp_path, "datacenter")
    simulator = found.serve(long_history(120), *others(4), changelog_cap="40", changelog_total=total)
    try:
        pages = pulled(found.connect(simulator))
        assert (120, []) == (len(changes(pages)), gaps(pages))
    finally:
        simulator.stop()


def test_issues_are_read_where_their_histories_are_refused(cloud: Desk) -> None:
    at_once = {**INCIDENT, "id": 20002, "key": "ITSM-2", "updated": "2026-07-01T08:00:00.400+0000"}
    cut = {**INCIDENT, "id": 20003, "key": "ITSM-3", "updated": INCIDENT["created"]}
    never = {**cut, "id": 20004, "key": "ITSM-4", "created": "2026-07-01T08:00:00.400+0000"}
    never["updated"] = never["created"]
    simulator = cloud.serve(INCIDENT, at_once, cut, never)
    spoil(simulator, {"path": "/changelog", "do": "status", "status": 403})
    pages = pulled(cloud.connect(simulator))
    assert 4 == sum(len(page.records) for page in pages if page.stream == "issue")
    assert [] == changes(pages)
    told = [(gap.stream, gap.reason, gap.record) for page in pages for gap in page.gaps]
    assert ("issue:changelog", "refused", None) in told
    assert ("issue:changelog", "history-cut", "20001") in told
    assert ("issue:changelog", "history-cut", "20002") in told  # changed in the second in which it was opened
    assert ("issue:changelog", "history-cut", "20003") in told  # perhaps, by stamps that are cut to the second
    assert ("issue:changelog", "history-cut", "20004") not in told


def test_changes_that_do_not_join_are_a_gap(desk: Desk) -> None:
    broken = {**INCIDENT, "status": 10006}
    pages = pulled(desk.connect(desk.serve(broken, *others(2))))
    assert [("issue:changelog", "history-cut", "20001", None)] == gaps(pages)


def test_only_the_longest_of_a_page_is_asked_for_alone(desk: Desk) -> None:
    simulator = desk.serve(*others(50))
    pulled(desk.connect(simulator))
    single = {path: count for path, count in asked(simulator)["GET"].items() if "{issueIdOrKey}" in path}
    assert 1 == sum(single.values())


# --- people and choices -----------------------------------------------------------------------------------------------


def test_people_by_all_their_names(desk: Desk) -> None:
    directory = desk.connect(desk.serve(INCIDENT)).directory()
    assert isinstance(directory, Directory)
    people = {person.names[0]: person for person in directory.people}
    names = (desk.mia,) if desk.edition == "cloud" else (desk.mia, "p(name:mia)")
    assert ((*names, "p(email:mia@example.com)"), False, True) == (
        people[desk.mia].names,
        people[desk.mia].system,
        people[desk.mia].active,
    )
    assert people[desk.omar].active is False
    assert (desk.edition == "cloud") == people[desk.person("app-1", "JIRAUSER503")].system
    assert () == tuple(directory.gaps)
    assert directory.groups


def test_labels_of_choices_and_types_of_fields(desk: Desk) -> None:
    configuration = desk.connect(desk.serve(INCIDENT)).configuration("issue")
    assert isinstance(configuration, Configuration)
    choices = configuration.choices
    assert ("Completed", "[System] Incident", "Highest", "Known error", "Problem/Incident") == (
        choices["status"]["10004"],
        choices["issuetype"]["10101"],
        choices["priority"]["1"],
        choices["resolution"]["10404"],
        choices["issuelinks"]["10502"],
    )
    assert "Significant / Large" == choices["customfield_10201"]["10302"]
    assert ("instant", "text", "line") == tuple(configuration.fields[f"customfield_{n}"] for n in (10206, 10208, 10219))
    assert () == tuple(configuration.gaps)


def test_what_the_account_may_not_read_is_a_gap(desk: Desk) -> None:
    simulator = desk.serve(INCIDENT)
    spoil(simulator, {"path": "/users?/search|/group", "do": "status", "status": 403, "times": None})
    directory = desk.connect(simulator).directory()
    assert isinstance(directory, Directory)
    assert [("users", "refused"), ("groups", "refused")] == [(gap.stream, gap.reason) for gap in directory.gaps]


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        {"do": "repeat_token"},
        {"do": "fewer", "body": {"warnings": ["The result was truncated."]}},
        {"do": "merge", "body": {"isLast": None}},
    ],
    ids=str,
)
def test_a_misbehaving_search_closes_no_window_and_the_next_poll_goes_on(cloud: Desk, rule: Mapping[str, Any]) -> None:
    simulator = cloud.serve(*others(12))
    source, window = cloud.connect(simulator), replace(WINDOW, page_size=3)
    # from the second page on; the missing sign of an end is noticed at the end
    nth = 4 if rule["do"] == "merge" else 2
    spoil(simulator, {**rule, "path": "/search/jql", "nth": nth, "times": 99})
    pages = source.pull("issue", window)
    assert not isinstance(pages, Gap)
    came: list[Page] = []
    with pytest.raises(Unavailable):
        came.extend(iter(lambda: next(pages), None))
    assert came
    assert not any(page.closed for page in came)
    heal(simulator)
    rest = pulled(source, replace(window, cursors=cursors(came)))
    assert 12 == len({**records(came), **records(rest)})


@pytest.mark.parametrize("do", ["status", "html_200", "truncate", "drop_before"])
@pytest.mark.parametrize("what", ["/search", "changelog"])
def test_a_page_that_cannot_be_trusted_is_not_returned(desk: Desk, do: str, what: str) -> None:
    simulator = desk.serve(*others(9))
    source = desk.connect(simulator)
    spoil(simulator, *({part: what, "do": do, "nth": 2, "times": 9} for part in ("path", "query")))
    pages = source.pull("issue", replace(WINDOW, page_size=3))
    assert not isinstance(pages, Gap)
    came: list[Page] = []

    def drain() -> None:
        came.extend(pages)

    with pytest.raises(Unavailable):
        drain()
    assert not any(page.closed for page in came)
