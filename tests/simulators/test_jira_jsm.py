"""Service management in the Jira simulator: template, approvals, clocks, links, sub-tasks, moves, workflow resources.

Calls of the platform go past Atlassian's document; ``test_jira_routes`` holds the service desk's against recorded ones.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.jira.simulator import serve
from tests.simulators.jira_sites import DESK, Client, Judge, OpenApi, Starter, sites

DESK_API = "/rest/servicedeskapi"
OPT_IN = {"X-ExperimentalApi": "opt-in"}


@pytest.fixture(scope="session")
def judge(shared: Callable[[str], Path]) -> Judge:
    return OpenApi(shared(OpenApi.NAME))


@pytest.fixture
def site(judge: Judge) -> Iterator[Starter]:
    with sites(Client, judge, DESK) as start:
        yield start


@pytest.fixture(scope="module")
def reading(judge: Judge) -> Iterator[Client]:
    """A site that tests only read."""
    with sites(Client, judge, DESK) as start:
        yield start()


def millis(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def change(jira: Client, **fields: Any) -> str:
    """Key of a new change."""
    place = {"project": {"key": "ITSM"}, "issuetype": {"id": "10104"}, "summary": "Replace the relay"}
    return str(jira.post("issue", {"fields": {**place, **fields}}, 201)["key"])


def decide(jira: Client, key: str, approval: str, decision: str, by: str) -> None:
    asked = {"issue": key, "approval": approval, "decision": decision, "by": by}
    jira.session.post(jira.url + "/_sim/decide", json=asked, timeout=10).raise_for_status()


def last_items(jira: Client, key: str) -> list[dict[str, Any]]:
    """Items of the newest history, without the ids of accounts."""
    history = jira.get(f"issue/{key}", fields="summary", expand="changelog")["changelog"]["histories"][0]
    return [{name: value for name, value in item.items() if not name.startswith("tmp")} for item in history["items"]]


# --- the template -----------------------------------------------------------------------------------------------------

STATUSES = {
    10001: "Open",
    10002: "Work in progress",
    10003: "Pending",
    10004: "Completed",
    10005: "Canceled",
    10006: "Closed",
    10007: "Waiting for support",
    10008: "Waiting for customer",
    10009: "In progress",
    10010: "Escalated",
    10011: "Resolved",
    10012: "Waiting for approval",
    10013: "Under review",
    10014: "Under investigation",
    10015: "Peer review / change manager approval",
    10016: "Planning",
    10017: "Awaiting CAB approval",
    10018: "Awaiting implementation",
    10019: "Implementing",
    10020: "Declined",
}
TYPES = {
    10101: "[System] Incident",
    10102: "[System] Service request",
    10103: "[System] Problem",
    10104: "[System] Change",
    10105: "[System] Service request with approvals",
    10106: "Change task",
}
RESOLUTIONS = {
    10401: "Done",
    10402: "Won't do",
    10403: "Duplicate",
    10404: "Known error",
    10405: "Declined",
    10406: "Failed",
    10407: "Done with issues",
}
OPTIONS = {
    10201: {
        10301: "Extensive / Widespread",
        10302: "Significant / Large",
        10303: "Moderate / Limited",
        10304: "Minor / Localized",
    },
    10202: {10311: "Critical", 10312: "High", 10313: "Medium", 10314: "Low"},
    10203: {10321: "Standard", 10322: "Normal", 10323: "Emergency"},
    10204: {10331: "Critical", 10332: "High", 10333: "Medium", 10334: "Low"},
    10216: {10341: "Yes"},
    10218: {
        10351: "Waiting for customer",
        10352: "Waiting for vendor",
        10353: "Waiting for problem",
        10354: "Waiting for change",
    },
    10220: {10361: "Network", 10362: "Hardware", 10363: "Software", 10364: "Access"},
    10222: {10371: "Service desk", 10372: "Network", 10373: "Database", 10374: "Applications"},
    10223: {10381: "Implementation", 10382: "Testing", 10383: "Review"},
    10227: {10391: "Yes"},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("status", STATUSES),
        ("issuetype", TYPES),
        ("resolution", RESOLUTIONS),
        ("priority", {1: "Highest", 2: "High", 3: "Medium", 4: "Low", 5: "Lowest"}),
    ],
)
def test_template_has_fixed_ids(reading: Client, path: str, expected: Mapping[int, str]) -> None:
    found = {int(each["id"]): each["name"] for each in reading.get(path)}
    assert expected == {number: found.get(number) for number in expected}


def test_options_have_fixed_ids(reading: Client) -> None:
    screens = [
        field
        for number in TYPES
        for field in reading.get(f"issue/createmeta/ITSM/issuetypes/{number}", maxResults=200)["fields"]
    ]
    found = {
        int(field["fieldId"].removeprefix("customfield_")): {
            int(each["id"]): each["value"] for each in field["allowedValues"]
        }
        for field in screens
        if field["fieldId"].startswith("customfield_") and "allowedValues" in field
    }
    assert OPTIONS == found


def test_links_have_fixed_ids(reading: Client) -> None:
    kinds = reading.get("issueLinkType")["issueLinkTypes"]
    assert {
        "10501": ("Blocks", "is blocked by", "blocks"),
        "10502": ("Problem/Incident", "is caused by", "causes"),
        "10503": ("Relates", "relates to", "relates to"),
        "10504": ("Duplicate", "is duplicated by", "duplicates"),
        "10505": ("Change fixes", "is fixed by", "fixes"),
    } == {each["id"]: (each["name"], each["inward"], each["outward"]) for each in kinds}


@pytest.mark.parametrize(
    ("number", "schema"),
    [
        (10201, {"type": "option", "custom": "com.atlassian.jira.plugin.system.customfieldtypes:select"}),
        (10206, {"type": "datetime", "custom": "com.atlassian.jira.plugin.system.customfieldtypes:datetime"}),
        (10208, {"type": "string", "custom": "com.atlassian.jira.plugin.system.customfieldtypes:textarea"}),
        (10219, {"type": "string", "custom": "com.atlassian.jira.plugin.system.customfieldtypes:textfield"}),
        (10213, {"type": "sd-approvals", "custom": "com.atlassian.servicedesk.approvals-plugin:sd-approvals"}),
        (10214, {"type": "sd-servicelevelagreement", "custom": "com.atlassian.servicedesk:sd-sla-field"}),
        (
            10216,
            {
                "type": "array",
                "items": "option",
                "custom": "com.atlassian.jira.plugin.system.customfieldtypes:multicheckboxes",
            },
        ),
        (
            10205,
            {
                "type": "array",
                "items": "user",
                "custom": "com.atlassian.jira.plugin.system.customfieldtypes:multiuserpicker",
            },
        ),
    ],
)
def test_fields_say_what_they_are(reading: Client, number: int, schema: Mapping[str, Any]) -> None:
    fields = {each["id"]: each["schema"] for each in reading.get("field")}
    assert {**schema, "customId": number} == fields[f"customfield_{number}"]


def test_built_in_project_stands_beside_the_template_with_what_is_left_free(reading: Client) -> None:
    assert {"ITSM": "10100", "CAPA": "10000"} == {
        each["key"]: each["id"] for each in reading.get("project/search")["values"]
    }
    types = reading.get("project/CAPA/statuses")
    assert ["10000", "10001"] == [each["id"] for each in types]
    assert ["10000", *map(str, range(10021, 10030))] == [each["id"] for each in types[0]["statuses"]]
    assert ["10030", "10009", "10031"] == [each["id"] for each in types[1]["statuses"]]


def test_without_the_template_the_ids_of_the_built_in_project_are_as_ever(site: Starter) -> None:
    types = site(data=()).get("project/CAPA/statuses")
    assert [str(number) for number in range(10000, 10013)] == [
        status["id"] for kind in types for status in kind["statuses"]
    ]


# --- workflow resources -----------------------------------------------------------------------------------------------

CHANGE_EDGES = {
    ("Peer review / change manager approval", "Approve", "Planning"),
    ("Peer review / change manager approval", "Emergency override", "Awaiting implementation"),
    ("Peer review / change manager approval", "Decline", "Declined"),
    ("Peer review / change manager approval", "Cancel", "Canceled"),
    ("Planning", "Request CAB approval", "Awaiting CAB approval"),
    ("Planning", "Ready for implementation", "Awaiting implementation"),
    ("Planning", "Pending", "Pending"),
    ("Planning", "Cancel", "Canceled"),
    ("Awaiting CAB approval", "Approve", "Awaiting implementation"),
    ("Awaiting CAB approval", "Emergency override", "Awaiting implementation"),
    ("Awaiting CAB approval", "Decline", "Declined"),
    ("Awaiting implementation", "Implement", "Implementing"),
    ("Awaiting implementation", "Pending", "Pending"),
    ("Awaiting implementation", "Cancel", "Canceled"),
    ("Implementing", "Complete", "Resolved"),
    ("Pending", "Back to planning", "Planning"),
    ("Pending", "Ready for implementation", "Awaiting implementation"),
    ("Pending", "Cancel", "Canceled"),
    ("Declined", "Cancel", "Canceled"),
    ("Declined", "Close", "Closed"),
    ("Resolved", "Close", "Closed"),
    ("Canceled", "Close", "Closed"),
}


def edges(answer: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """(from, transition, to) of all workflows of an answer, by name."""
    names = {each["statusReference"]: each["name"] for each in answer["statuses"]}
    return {
        (names[link["fromStatusReference"]], step["name"], names[step["toStatusReference"]])
        for workflow in answer["workflows"]
        for step in workflow["transitions"]
        for link in step["links"]
    }


#: Workflow -> status -> where it leads, as the domain reference tells the template's edges (2.1 to 2.4, "JSM-E").
TEMPLATE: Mapping[str, Mapping[str, set[str]]] = {
    "ITSM: incident management": {
        "Open": {"Work in progress", "Pending", "Completed", "Canceled"},
        "Pending": {"Work in progress", "Canceled"},
        "Work in progress": {"Pending", "Completed", "Canceled"},
        "Completed": {"Closed"},
        "Canceled": {"Closed"},
    },
    "ITSM: service request": {
        "Waiting for support": {
            *("Waiting for customer", "In progress", "Pending", "Escalated"),
            *("Resolved", "Canceled"),
        },
        "Waiting for customer": {
            *("Waiting for support", "In progress", "Pending", "Escalated"),
            *("Resolved", "Canceled"),
        },
        "Pending": {"Resolved", "Canceled"},
        "In progress": {"Resolved", "Canceled"},
        "Resolved": {"Closed"},
        "Canceled": {"Closed"},
    },
    "ITSM: problem management": {
        "Open": {"Under review", "Completed"},
        "Under review": {"Under investigation"},
        "Under investigation": {"Completed"},
        "Completed": {"Closed"},
    },
    "ITSM: change management": {
        "Peer review / change manager approval": {"Planning", "Declined", "Canceled", "Awaiting implementation"},
        "Planning": {"Awaiting CAB approval", "Awaiting implementation", "Pending", "Canceled"},
        "Awaiting CAB approval": {"Awaiting implementation", "Declined"},
        "Awaiting implementation": {"Implementing", "Pending", "Canceled"},
        "Implementing": {"Resolved"},
        "Pending": {"Planning", "Awaiting implementation", "Canceled"},
        "Declined": {"Canceled", "Closed"},
        "Resolved": {"Closed"},
        "Canceled": {"Closed"},
    },
}
#: What the reference leaves open and a desk cannot do without: ways back out of waiting and escalation, where a problem
#: waits or is given up, how a request is approved, and the sub-task, of which the reference has no word.
ADDED: Mapping[str, Mapping[str, set[str]]] = {
    "ITSM: incident management": {},
    "ITSM: service request": {
        "Pending": {"In progress"},
        "Escalated": {"In progress"},
        "In progress": {"Waiting for customer", "Pending", "Escalated"},
    },
    "ITSM: service request with approvals": {
        "Waiting for approval": {"Waiting for support", "Declined", "Canceled"},
        "Declined": {"Closed"},
    },
    "ITSM: problem management": {
        "Open": {"Under investigation", "Canceled"},
        "Under review": {"Pending", "Completed", "Canceled"},
        "Under investigation": {"Pending", "Canceled"},
        "Pending": {"Under review", "Under investigation", "Canceled"},
        "Canceled": {"Closed"},
    },
    "ITSM: change management": {},
    "ITSM: change task": {
        "Open": {"Work in progress", "Completed", "Canceled"},
        "Work in progress": {"Completed", "Canceled"},
    },
}


def arrows(*graphs: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    return {(start, end) for graph in graphs for start, ends in graph.items() for end in ends}


@pytest.mark.parametrize("name", ADDED)
def test_workflows_lead_where_the_template_leads_and_nowhere_else(reading: Client, name: str) -> None:
    told = [TEMPLATE.get(name, {}), ADDED[name]]
    if name == "ITSM: service request with approvals":  # continues as the request without
        told += [TEMPLATE["ITSM: service request"], ADDED["ITSM: service request"]]
    found = edges(reading.post("workflows", {"workflowNames": [name]}))
    assert arrows(*told) == {(start, end) for start, _, end in found}


def test_every_workflow_of_the_template_is_told_of(reading: Client) -> None:
    (entry,) = reading.get("workflowscheme/project", projectId="10100")["values"]
    assert ADDED.keys() == set(entry["workflowScheme"]["issueTypeMappings"].values())


def test_workflow_of_an_issue_type_has_the_edges_of_the_template(reading: Client) -> None:
    pair = {"projectId": "10100", "issueTypeId": "10104"}
    answer = reading.post("workflows", {"projectAndIssueTypes": [pair]})
    (workflow,) = answer["workflows"]
    assert CHANGE_EDGES == edges(answer)
    ids = [step["id"] for step in workflow["transitions"]]
    assert len(ids) == len(set(ids))
    assert [("Create", "10015")] == [
        (step["name"], step["toStatusReference"]) for step in workflow["transitions"] if step["type"] == "INITIAL"
    ]
    assert answer == reading.post("workflows", {"workflowNames": [workflow["name"]]})
    assert answer == reading.post("workflows", {"workflowIds": [workflow["id"]]})


def test_workflow_says_which_status_asks_for_approval(reading: Client) -> None:
    (workflow,) = reading.post("workflows", {"workflowNames": ["ITSM: service request with approvals"]})["workflows"]
    configured = {
        status["statusReference"]: status["approvalConfiguration"]
        for status in workflow["statuses"]
        if "approvalConfiguration" in status
    }
    outcomes = {step["id"]: step["name"] for step in workflow["transitions"]}
    step = configured.pop("10012")
    assert {} == configured
    assert ("Approve", "Decline") == (outcomes[step["transitionApproved"]], outcomes[step["transitionRejected"]])
    assert ("customfield_10205", ["reporter", "assignee"]) == (step["fieldId"], step["exclude"])


def test_workflows_are_listed_in_pages_with_transitions_on_demand(reading: Client) -> None:
    first = reading.get("workflows/search", maxResults=5)
    rest = reading.get("workflows/search", startAt=5, expand="values.transitions")
    assert (False, True, 8) == (first["isLast"], rest["isLast"], first["total"])
    assert all("transitions" not in each for each in first["values"])
    assert all(each["transitions"] for each in rest["values"])


def test_scheme_maps_types_to_workflows(reading: Client) -> None:
    (entry,) = reading.get("workflowscheme/project", projectId="10100")["values"]
    mapping = entry["workflowScheme"]["issueTypeMappings"]
    assert ["10100"] == entry["projectIds"]
    assert "ITSM: incident management" == mapping["10101"]
    assert {str(number) for number in TYPES} == set(mapping)


def test_statuses_are_found_by_project_word_and_category(reading: Client) -> None:
    of_project = reading.get("statuses/search", projectId="10100", maxResults=200)["values"]
    assert STATUSES == {int(each["id"]): each["name"] for each in of_project}
    found = reading.get("statuses/search", searchString="cancel", statusCategory="DONE")["values"]
    assert ["Canceled"] == [each["name"] for each in found]
    assert ["Open"] == [each["name"] for each in reading.get("statuses", id="10001")]


def test_subtask_types_are_marked(reading: Client) -> None:
    marks = {each["name"]: each["subtask"] for each in reading.get("project/ITSM/statuses")}
    assert {name for name, subtask in marks.items() if subtask} == {"Change task"}


# --- the service desk interface ---------------------------------------------------------------------------------------


def test_lists_are_walked_by_their_links(reading: Client) -> None:
    address, seen = f"{DESK_API}/request/ITSM-5/comment?limit=2", []
    while address:
        page = reading.get(address)
        seen += [(page["start"], [each["body"] for each in page["values"]], page["isLastPage"])]
        address = page["_links"].get("next", "").removeprefix(reading.url)
    assert [(0, ["First.", "Second."], False), (2, ["Third."], True)] == seen


def test_internal_comments_are_left_out_on_demand(reading: Client) -> None:
    shown = reading.get(f"{DESK_API}/request/ITSM-1/comment", internal="false")["values"]
    assert ["We look at it.", "Thank you."] == [each["body"] for each in shown]
    shown = reading.get(f"{DESK_API}/request/ITSM-1/comment", public="false")["values"]
    assert ["Which relay?"] == [each["body"] for each in shown]


def test_request_shows_its_statuses_newest_first_and_parts_on_demand(reading: Client) -> None:
    shown = reading.get(f"{DESK_API}/request/ITSM-1", expand="sla,status")
    assert ("Completed", "DONE") == (shown["currentStatus"]["status"], shown["currentStatus"]["statusCategory"])
    assert ["Completed", "Work in progress", "Completed"] == [each["status"] for each in shown["status"]["values"]][:3]
    assert ["Time to resolution", "Time to first response"] == [each["name"] for each in shown["sla"]["values"]]


@pytest.mark.parametrize("key", ["ITSM-4", "ITSM-99", "CAPA-1"])
def test_only_requests_are_shown(site: Starter, key: str) -> None:
    jira = site()
    jira.create()
    response = jira.call("GET", f"{DESK_API}/request/{key}/sla")
    assert 404 == response.status_code
    assert {"errorMessage", "i18nErrorMessage"} == response.json().keys()


def test_requests_want_a_licence_and_a_login(site: Starter) -> None:
    jira = site(agent="off")
    assert 403 == jira.call("GET", f"{DESK_API}/request/ITSM-1/approval").status_code
    assert 200 == jira.call("GET", f"{DESK_API}/servicedesk").status_code
    assert 401 == requests.get(f"{jira.url}{DESK_API}/request/ITSM-1", timeout=10).status_code


def test_data_center_wants_an_opt_in_and_names_people_its_own_way(site: Starter) -> None:
    jira = site(edition="datacenter")
    jira.session.auth = ("bot", "token")
    address = f"{jira.url}{DESK_API}/request/ITSM-3/approval"
    assert 412 == jira.session.get(address, timeout=10).status_code
    approval = jira.session.get(address, headers=OPT_IN, timeout=10).json()["values"][1]
    people = [each["approver"] for each in approval["approvers"]]
    assert ["bob", "cora"] == [each["name"] for each in people]
    assert all("accountId" not in each and each["key"].startswith("JIRAUSER") for each in people)
    assert 200 == jira.session.get(f"{jira.url}{DESK_API}/request/ITSM-1/sla", timeout=10).status_code


# --- approvals --------------------------------------------------------------------------------------------------------


def test_seeded_approvals_show_in_the_field_as_in_the_resource(reading: Client) -> None:
    listed = reading.get(f"{DESK_API}/request/ITSM-3/approval")["values"]
    (issue,) = reading.post("search/jql", {"jql": "key = ITSM-3", "fields": ["customfield_10213"]})["issues"]
    assert listed == issue["fields"]["customfield_10213"]
    assert [
        ("Peer review / change manager approval", "approved", True),
        ("Awaiting CAB approval", "approved", True),
        ("After the fact", "pending", False),
    ] == [(each["name"], each["finalDecision"], "completedDate" in each) for each in listed]
    assert None is reading.get("issue/ITSM-2", fields="customfield_10213")["fields"]["customfield_10213"]


def awaiting(jira: Client) -> tuple[str, str]:
    """Key of a change that the board is asked about, and the approval's id."""
    key = change(jira)
    assert 204 == jira.move(key, "Approve").status_code
    assert 204 == jira.move(key, "Request CAB approval").status_code
    (approval,) = jira.get(f"{DESK_API}/request/{key}/approval")["values"]
    assert ("Awaiting CAB approval", "pending") == (approval["name"], approval["finalDecision"])
    return key, str(approval["id"])


def test_status_with_approvers_asks_them_and_only_they_can_take_its_transitions(site: Starter) -> None:
    jira = site()
    key, _ = awaiting(jira)
    offered = [each["name"] for each in jira.get(f"issue/{key}/transitions")["transitions"]]
    assert ["Emergency override"] == offered
    (workflow,) = jira.post("workflows", {"workflowNames": ["ITSM: change management"]})["workflows"]
    reserved = next(
        each["id"]
        for each in workflow["transitions"]
        if each["name"] == "Approve" and each["links"][0]["fromStatusReference"] == "10017"
    )
    assert 400 == jira.call("POST", f"issue/{key}/transitions", {"transition": {"id": reserved}}).status_code
    assert 204 == jira.move(key, "Emergency override").status_code


def test_last_decision_takes_the_transition_and_a_partial_one_leaves_no_trace(site: Starter) -> None:
    jira = site()
    key, approval = awaiting(jira)
    before = jira.get(f"issue/{key}", fields="updated", expand="changelog")
    jira.advance(3600)
    decide(jira, key, approval, "approved", "bob@example.com")
    assert before == jira.get(f"issue/{key}", fields="updated", expand="changelog")
    shown = jira.get(f"{DESK_API}/request/{key}/approval/{approval}")
    assert ["approved", "pending"] == [each["approverDecision"] for each in shown["approvers"]]
    assert ("pending", False) == (shown["finalDecision"], "completedDate" in shown)

    decide(jira, key, approval, "approved", "cora@example.com")
    shown = jira.get(f"{DESK_API}/request/{key}/approval/{approval}")
    after = jira.get(f"issue/{key}", fields="status,updated", expand="changelog")
    history = after["changelog"]["histories"][0]
    assert "approved" == shown["finalDecision"]
    assert shown["completedDate"]["jira"] == after["fields"]["updated"] == history["created"]
    assert ("user-cora", "Awaiting implementation") == (history["author"]["accountId"], history["items"][0]["toString"])
    assert "10018" == after["fields"]["status"]["id"]


def test_one_refusal_declines(site: Starter) -> None:
    jira = site()
    key, approval = awaiting(jira)
    decide(jira, key, approval, "declined", "cora@example.com")
    fields = jira.get(f"issue/{key}", fields="status,resolution")["fields"]
    assert ("10020", "10405") == (fields["status"]["id"], fields["resolution"]["id"])
    assert "declined" == jira.get(f"{DESK_API}/request/{key}/approval/{approval}")["finalDecision"]


def ask(jira: Client, *people: str) -> str:
    """Key of a service request that these persons, by account id, have to approve."""
    place = {"project": {"key": "ITSM"}, "issuetype": {"id": "10105"}, "summary": "Rights on the archive"}
    who = [{"accountId": each} for each in people]
    return str(jira.post("issue", {"fields": {**place, "customfield_10205": who}}, 201)["key"])


BOT = "5b10ac8d82e05b22cc7d4e01"


def test_persons_of_the_field_are_asked_except_the_reporter(site: Starter) -> None:
    jira = site()
    (approval,) = jira.get(f"{DESK_API}/request/{ask(jira, BOT, 'user-bob')}/approval")["values"]
    assert ["user-bob"] == [each["approver"]["accountId"] for each in approval["approvers"]]
    assert [] == jira.get(f"{DESK_API}/request/{ask(jira, BOT)}/approval")["values"]


def test_account_answers_where_it_is_asked(site: Starter) -> None:
    jira = site()
    key = change(jira, reporter={"accountId": "user-ann"})
    place = {"project": {"key": "ITSM"}, "issuetype": {"id": "10105"}, "summary": "Rights on the archive"}
    fields = {**place, "reporter": {"accountId": "user-dan"}, "customfield_10205": [{"accountId": BOT}]}
    key = jira.post("issue", {"fields": fields}, 201)["key"]
    (approval,) = jira.get(f"{DESK_API}/request/{key}/approval")["values"]
    assert approval["canAnswerApproval"]
    address = f"{DESK_API}/request/{key}/approval/{approval['id']}"
    assert 400 == jira.call("POST", address, {"decision": "perhaps"}).status_code
    answer = jira.post(address, {"decision": "approve"})
    assert ("approved", False) == (answer["finalDecision"], answer["canAnswerApproval"])
    assert "10007" == jira.get(f"issue/{key}", fields="status")["fields"]["status"]["id"]
    assert 409 == jira.call("POST", address, {"decision": "approve"}).status_code
    assert 404 == jira.call("POST", f"{DESK_API}/request/{key}/approval/999", {"decision": "approve"}).status_code


def test_others_cannot_answer(site: Starter) -> None:
    jira = site()
    key, approval = awaiting(jira)
    response = jira.call("POST", f"{DESK_API}/request/{key}/approval/{approval}", {"decision": "approve"})
    assert (403, "pending") == (
        response.status_code,
        jira.get(f"{DESK_API}/request/{key}/approval/{approval}")["finalDecision"],
    )


def test_as_many_as_needed_suffice(site: Starter, tmp_path: Path) -> None:
    rule = tmp_path / "rule.yaml"
    people = "[ann@example.com, bob@example.com, cora@example.com]"
    rule.write_text(
        f"approvals: {{Awaiting CAB approval: {{approvers: {people}, needed: 2, approve: Approve, decline: Decline}}}}"
    )
    jira = site(data=(*DESK, rule))
    key, approval = awaiting(jira)
    decide(jira, key, approval, "approved", "cora@example.com")
    decide(jira, key, approval, "approved", "ann@example.com")
    shown = jira.get(f"{DESK_API}/request/{key}/approval/{approval}")
    assert ["approved", "pending", "approved"] == [each["approverDecision"] for each in shown["approvers"]]
    assert "approved" == shown["finalDecision"]


# --- service levels ---------------------------------------------------------------------------------------------------

HOUR = 3_600_000


def clock(jira: Client, key: str, metric: int) -> dict[str, Any]:
    return dict(jira.get(f"{DESK_API}/request/{key}/sla/{metric}"))


def test_clock_pauses_breaches_and_starts_anew_after_a_reopening(reading: Client) -> None:
    shown = clock(reading, "ITSM-1", 1)
    assert "ongoingCycle" not in shown
    assert [
        # eight hours less one on hold
        (millis("2026-03-02T08:00+00:00"), millis("2026-03-02T16:00+00:00"), 7 * HOUR, HOUR, False),
        (millis("2026-03-02T17:00+00:00"), millis("2026-03-02T19:00+00:00"), 2 * HOUR, 6 * HOUR, False),
    ] == [
        (
            cycle["startTime"]["epochMillis"],
            cycle["stopTime"]["epochMillis"],
            cycle["elapsedTime"]["millis"],
            cycle["remainingTime"]["millis"],
            cycle["breached"],
        )
        for cycle in shown["completedCycles"]
    ]
    assert {"id": "1", "name": "Time to resolution"} == {key: shown[key] for key in ("id", "name")}


def test_first_public_comment_of_the_desk_is_the_first_response(reading: Client) -> None:
    (cycle,) = clock(reading, "ITSM-1", 2)["completedCycles"]
    assert millis("2026-03-02T08:10+00:00") == cycle["stopTime"]["epochMillis"]
    assert (10 * 60_000, 30 * 60_000) == (cycle["elapsedTime"]["millis"], cycle["goalDuration"]["millis"])


def test_time_alone_breaches_and_moves_nothing_else(site: Starter) -> None:
    jira = site()
    place = {"project": {"key": "ITSM"}, "issuetype": {"id": "10101"}, "summary": "Slow", "priority": {"id": "1"}}
    key = jira.post("issue", {"fields": place}, 201)["key"]
    jira.move(key, "Investigate")
    before = jira.get(f"issue/{key}", fields="updated", expand="changelog")
    running = clock(jira, key, 1)["ongoingCycle"]
    assert (False, False) == (running["breached"], running["paused"])
    assert running["startTime"]["epochMillis"] + 4 * HOUR == running["breachTime"]["epochMillis"]

    jira.advance(5 * 3600)
    late = jira.get(f"issue/{key}", fields="customfield_10214")["fields"]["customfield_10214"]["ongoingCycle"]
    assert (True, running["breachTime"]) == (late["breached"], late["breachTime"])
    assert late["remainingTime"]["millis"] <= -HOUR
    assert before == jira.get(f"issue/{key}", fields="updated", expand="changelog")

    jira.move(key, "Pending")
    paused = clock(jira, key, 1)["ongoingCycle"]
    jira.advance(3600)
    assert paused == clock(jira, key, 1)["ongoingCycle"]
    assert (True, True) == (paused["paused"], paused["breached"])


def test_seeded_cycles_stand_for_computed_ones_in_the_field_too(reading: Client) -> None:
    shown = clock(reading, "ITSM-5", 1)
    (ended,), running = shown["completedCycles"], shown["ongoingCycle"]
    assert (True, -2 * HOUR, "-2h") == (
        ended["breached"],
        ended["remainingTime"]["millis"],
        ended["remainingTime"]["friendly"],
    )
    assert (True, False, "1h 30m") == (running["paused"], running["breached"], running["elapsedTime"]["friendly"])
    assert "breachTime" not in running
    fields = reading.get("issue/ITSM-5", fields="customfield_10214,customfield_10215")["fields"]
    assert shown == fields["customfield_10214"]
    assert [] != fields["customfield_10215"]["completedCycles"]


def test_a_seeded_clock_without_a_cycle_is_shown_and_never_began(site: Starter, tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    issue = "key: ITSM-90, type: 10101, created: 2026-03-02T08:00:00Z"
    more.write_text(f"issues: [{{{issue}, slas: [{{metric: 1, goal: PT1H}}]}}]")
    reading, key = site(data=(*DESK, more)), "ITSM-90"
    shown = clock(reading, key, 1)
    assert ([], False) == (shown["completedCycles"], "ongoingCycle" in shown)
    assert shown == reading.get(f"issue/{key}", fields="customfield_10214")["fields"]["customfield_10214"]


def test_what_is_no_request_of_the_kind_has_no_clock(reading: Client) -> None:
    assert [] == reading.get(f"{DESK_API}/request/ITSM-2/sla")["values"]
    assert None is reading.get("issue/ITSM-2", fields="customfield_10214")["fields"]["customfield_10214"]
    assert 404 == reading.call("GET", f"{DESK_API}/request/ITSM-1/sla/9").status_code


# --- fields and their history -----------------------------------------------------------------------------------------


def text(words: str) -> dict[str, Any]:
    return {
        "type": "doc",
        "version": 1,
        "content": [{"type": "paragraph", "content": [{"type": "text", "text": words}]}],
    }


@pytest.mark.parametrize(
    ("number", "name", "written", "shown", "old", "new"),
    [
        (
            10203,
            "Change type",
            {"id": "10323"},
            {"id": "10323", "value": "Emergency"},
            (None, None),
            ("10323", "Emergency"),
        ),
        (
            10203,
            "Change type",
            {"value": "Normal"},
            {"id": "10322", "value": "Normal"},
            (None, None),
            ("10322", "Normal"),
        ),
        (10227, "Unauthorised", [{"value": "Yes"}], [{"id": "10391", "value": "Yes"}], ("", ""), ("[10391]", "Yes")),
        (
            10205,
            "Approvers",
            [{"accountId": "user-bob"}, {"accountId": "user-cora"}],
            [{"accountId": "user-bob"}, {"accountId": "user-cora"}],
            ("", ""),
            ("[user-bob, user-cora]", "Bob Board,Cora Board"),
        ),
        (
            10206,
            "Change start date",
            "2026-03-09T12:00:00.000+0200",
            "2026-03-09T10:00:00.000+0000",
            (None, None),
            ("2026-03-09T10:00:00+0000", "09/Mar/26 10:00 AM"),
        ),
        (10208, "Implementation plan", text("As ever"), text("As ever"), (None, None), (None, "As ever")),
        (10224, "Standard change template", "STD-7", "STD-7", (None, None), (None, "STD-7")),
    ],
)
def test_field_is_written_shown_and_told_of_in_the_history(
    site: Starter, number: int, name: str, written: Any, shown: Any, old: Sequence[Any], new: Sequence[Any]
) -> None:
    jira, field = site(), f"customfield_{number}"
    key = change(jira)
    assert 204 == jira.call("PUT", f"issue/{key}", {"fields": {field: written}}).status_code
    value = jira.get(f"issue/{key}", fields=field)["fields"][field]
    assert shown == _only(value, shown)
    expected = {"field": name, "fieldtype": "custom", "fieldId": field, "from": old[0], "fromString": old[1]}
    assert [{**expected, "to": new[0], "toString": new[1]}] == last_items(jira, key)
    assert 204 == jira.call("PUT", f"issue/{key}", {"fields": {field: None}}).status_code
    assert (new[0], new[1]) == tuple(last_items(jira, key)[0][end] for end in ("from", "fromString"))


def _only(value: Any, like: Any) -> Any:
    """``value`` without the keys that ``like`` does not ask for."""
    if isinstance(like, list) and isinstance(value, list):
        return [_only(each, one) for each, one in zip(value, like, strict=True)]
    return {key: value[key] for key in like} if isinstance(like, dict) else value


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("customfield_10203", {"value": "Urgent"}, "Option value 'Urgent' is not valid"),
        ("customfield_10227", {"value": "Yes"}, "data was not an array"),
        (
            "customfield_10213",
            [],
            "Field 'customfield_10213' cannot be set. It is not on the appropriate screen, or unknown.",
        ),
    ],
)
def test_wrong_values_are_refused(reading: Client, field: str, value: Any, error: str) -> None:
    place = {"project": {"key": "ITSM"}, "issuetype": {"id": "10104"}, "summary": "x"}
    response = reading.call("POST", "issue", {"fields": {**place, field: value}})
    assert (400, {field: error}) == (response.status_code, response.json()["errors"])


def test_seeded_histories_are_in_the_vendors_form_and_searches_find_options_by_id_and_label(reading: Client) -> None:
    newest = last_items(reading, "ITSM-1")
    assert [("Link", None, None, "ITSM-2", "This issue is caused by ITSM-2")] == [
        tuple(item[key] for key in ("field", "from", "fromString", "to", "toString")) for item in newest
    ]
    reopened = reading.get("issue/ITSM-1/changelog")["values"][-2]["items"]
    assert [
        ("status", "10002", "Work in progress", "10004", "Completed"),
        ("resolution", None, None, "10401", "Done"),
        ("customfield_10216", "", "", "[10341]", "Yes"),
    ] == [tuple(item[key] for key in ("fieldId", "from", "fromString", "to", "toString")) for item in reopened]
    for query in ("cf[10201] = 10302", 'Impact = "significant / large"', '"Major incident" = Yes'):
        assert ["ITSM-1"] == reading.search(f"project = ITSM and {query}")


# --- links, sub-tasks, moves ------------------------------------------------------------------------------------------


def linked(jira: Client, key: str) -> list[tuple[str, str, str]]:
    """(id of the type, side, key of the other issue)"""
    links = jira.get(f"issue/{key}", fields="issuelinks")["fields"]["issuelinks"]
    sides = ("inwardIssue", "outwardIssue")
    return [(each["type"]["id"], side, each[side]["key"]) for each in links for side in sides if side in each]


def test_seeded_links_show_on_both_sides_and_tell_of_themselves_where_they_have_a_time(reading: Client) -> None:
    assert [("10502", "inwardIssue", "ITSM-2")] == linked(reading, "ITSM-1")
    assert [("10502", "outwardIssue", "ITSM-1"), ("10505", "inwardIssue", "ITSM-3")] == linked(reading, "ITSM-2")
    assert [("10505", "outwardIssue", "ITSM-2")] == linked(reading, "ITSM-3")
    assert ["This issue causes ITSM-1"] == [item["toString"] for item in last_items(reading, "ITSM-2")]
    assert "2026-03-02T19:00:00.000+0000" == reading.get("issue/ITSM-1", fields="updated")["fields"]["updated"]


@pytest.mark.parametrize("option", ["on", "off"])
def test_link_may_count_as_an_update(site: Starter, option: str) -> None:
    jira = site(link_updates=option)
    before = jira.get("issue/ITSM-5", fields="updated")["fields"]["updated"]
    ends = {"inwardIssue": {"key": "ITSM-2"}, "outwardIssue": {"key": "ITSM-5"}}
    jira.post("issueLink", {"type": {"id": "10502"}, **ends}, 201)
    after = jira.get("issue/ITSM-5", fields="updated")["fields"]["updated"]
    assert (option == "on") == (before != after)
    assert ("10502", "inwardIssue", "ITSM-2") in linked(jira, "ITSM-5")
    assert [("ITSM-2", "This issue is caused by ITSM-2")] == [
        (item["to"], item["toString"]) for item in last_items(jira, "ITSM-5")
    ]


def test_subtask_shows_its_parent_and_the_parent_its_subtasks(site: Starter) -> None:
    jira = site()
    place = {"project": {"key": "ITSM"}, "issuetype": {"id": "10106"}, "summary": "Test it"}
    response = jira.call("POST", "issue", {"fields": place})
    assert (400, {"parent": "Issue type is a sub-task but parent issue key or id not specified."}) == (
        response.status_code,
        response.json()["errors"],
    )
    key = jira.post("issue", {"fields": {**place, "parent": {"key": "ITSM-3"}}}, 201)["key"]
    parent = jira.get(f"issue/{key}", fields="parent")["fields"]["parent"]
    assert ("10300", "ITSM-3", "Implementing") == (
        parent["id"],
        parent["key"],
        parent["fields"]["status"]["name"],
    )
    subtasks = jira.get("issue/ITSM-3", fields="subtasks,parent")["fields"]
    assert ["ITSM-4", key] == [each["key"] for each in subtasks["subtasks"]]
    assert "parent" not in subtasks
    jira.move(key, "Start")
    shown = jira.get("issue/ITSM-3", fields="subtasks")["fields"]["subtasks"][1]
    assert "Work in progress" == shown["fields"]["status"]["name"]


def test_moved_issue_keeps_its_id_and_is_found_by_both_keys(site: Starter) -> None:
    jira = site()
    number = jira.get("issue/ITSM-5", fields="summary")["id"]
    answer = jira.session.post(jira.url + "/_sim/move", json={"issue": "ITSM-5", "project": "CAPA"}, timeout=10).json()
    assert {"id": number, "key": "CAPA-1"} == answer
    for reference in (number, "ITSM-5", "CAPA-1"):
        issue = jira.get(f"issue/{reference}", fields="project,issuetype,status")
        assert (number, "CAPA-1", "CAPA") == (issue["id"], issue["key"], issue["fields"]["project"]["key"])
    assert [
        ("project", "10100", "10000"),
        ("Key", "ITSM-5", "CAPA-1"),
        ("issuetype", "10102", "10000"),
        ("status", "10007", "10000"),
    ] == [
        (item["field"], item["from"] or item["fromString"], item["to"] or item["toString"])
        for item in last_items(jira, "CAPA-1")
    ]
    assert ["CAPA-1"] == jira.search("project = CAPA and updated >= -1h")
    assert "CAPA-2" == jira.create()


def test_decisions_links_and_moves_survive_a_restart(site: Starter, tmp_path: Path) -> None:
    state = str(tmp_path / "state.jsonl")
    jira = site(state=state)
    key, approval = awaiting(jira)
    decide(jira, key, approval, "approved", "bob@example.com")
    jira.post(
        "issueLink", {"type": {"id": "10503"}, "inwardIssue": {"key": key}, "outwardIssue": {"key": "ITSM-5"}}, 201
    )
    jira.session.post(jira.url + "/_sim/move", json={"issue": "ITSM-5", "project": "CAPA"}, timeout=10)
    seen = [jira.get(f"issue/{each}", expand="changelog") for each in (key, "CAPA-1")]

    again = site(state=state)
    shown = [again.get(f"issue/{each}", expand="changelog") for each in (key, "CAPA-1")]
    assert _without_clocks(seen, jira.url) == _without_clocks(shown, again.url)


def _without_clocks(issues: list[Any], url: str) -> Any:
    for issue in issues:
        for field in ("customfield_10214", "customfield_10215"):
            issue["fields"].pop(field)
    return json.loads(json.dumps(issues).replace(url, "https://site.example"))


# --- data files and pages ---------------------------------------------------------------------------------------------

ISSUE = "key: ITSM-1, type: 10101, created: 2026-03-02T08:00:00Z"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (f"issues: [{{{ISSUE}}}, {{{ISSUE}}}]", "issues[1]: there are two issues 'ITSM-1'"),
        (f"issues: [{{{ISSUE}, parent: ITSM-9}}]", "issues[0]: there is no issue 'ITSM-9'"),
        (f"issues: [{{{ISSUE}, links: [{{type: 10502, outward: ITSM-9}}]}}]", "issues[0]: there is no issue 'ITSM-9'"),
        (f"issues: [{{{ISSUE}, links: [{{type: Causes, outward: ITSM-1}}]}}]", "there is no link type 'Causes'"),
        (f"issues: [{{{ISSUE}, links: [{{type: 10502}}]}}]", "a link names either its outward or its inward issue"),
        (f"issues: [{{{ISSUE}, fields: {{customfield_10201: Huge}}}}]", "customfield_10201 has no option 'Huge'"),
        (f"issues: [{{{ISSUE}, fields: {{customfield_10213: []}}}}]", "customfield_10213 is not written"),
        (f"issues: [{{{ISSUE}, slas: [{{metric: 7, goal: PT1H}}]}}]", "there is no service level 7"),
        (f"issues: [{{{ISSUE}, slas: [{{metric: 1, goal: 1 h}}]}}]", "'1 h' is no duration such as PT4H30M"),
        (
            f"issues: [{{{ISSUE}, approvals: [{{created: 2026-03-02T08:00:00Z, approvers: [{{by: nobody}}]}}]}}]",
            "nobody is called 'nobody'",
        ),
        ("approvals: {Nowhere: {approve: Approve, decline: Decline}}", "there is no status 'Nowhere'"),
        ("resolutions: {10499: Done}", "'Done' cannot have the id 10499: there is another resolution"),
        ("workflows: {W: {statuses: {New: {id: 10001, category: To Do}}, transitions: []}}", "there is another status"),
        ("groups: [{name: cab, members: [nobody]}]", "nobody is called 'nobody'"),
    ],
)
def test_wrong_data_is_refused_with_its_place(tmp_path: Path, entries: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(entries)
    with pytest.raises(ValueError) as wrong:
        serve(data=[Path("itsm"), path])
    assert message in str(wrong.value)
    assert str(path) in str(wrong.value)


def test_ids_that_are_given_are_kept_and_the_others_lie_above_in_the_order_of_time(reading: Client) -> None:
    numbers = {key: int(reading.get(f"issue/{key}", fields="summary")["id"]) for key in ("ITSM-1", "ITSM-3", "ITSM-5")}
    assert 10300 == numbers.pop("ITSM-3")
    assert all(number > 10300 for number in numbers.values())
    histories = reading.get("issue/ITSM-1/changelog")["values"]
    assert histories == sorted(histories, key=lambda each: (each["created"], int(each["id"])))
    assert "501" == reading.get("issue/ITSM-1/comment")["comments"][0]["id"]


def test_pages_show_approvals_clocks_subtasks_links_and_history(reading: Client) -> None:
    page = requests.get(f"{reading.url}/browse/ITSM-3", timeout=10).text
    for shown in (
        "<h2>Approvals</h2>",
        "<td>Awaiting CAB approval</td><td><span class='badge approved'>approved</span></td>",
        "Cora Board <span class='badge approved'>approved</span>",
        "<a href='/browse/ITSM-4'>ITSM-4</a>",
        "fixes <a href='/browse/ITSM-2'>ITSM-2</a>",
        "<dt>Change type</dt><dd>Normal</dd>",
        "<h2>Implementation plan</h2><div class='card text'><h2>Plan</h2></div>",
        "<td>status</td><td><span class='badge indeterminate'>Planning</span></td>",
        "<dt>Change start date</dt><dd><time datetime='2026-03-09T10:00:00.000+0000'>2026-03-09 10:00</time></dd>",
    ):
        assert shown in page
    page = requests.get(f"{reading.url}/browse/ITSM-1", timeout=10).text
    for shown in (
        "<td>Time to resolution</td><td><span class='badge done'>met</span></td><td>8h</td><td>7h</td>",
        "<dt>Major incident</dt><dd>Yes</dd>",
        "<td>Link</td><td></td><td>This issue is caused by ITSM-2</td>",
    ):
        assert shown in page
    assert (
        "part of <a href='/browse/ITSM-3'>ITSM-3</a>" in requests.get(f"{reading.url}/browse/ITSM-4", timeout=10).text
    )


def test_pages_stay_below_the_context_path(site: Starter) -> None:
    jira = site(edition="datacenter", context="/jira")
    page = requests.get(f"{jira.url}/browse/ITSM-4", timeout=10).text
    assert "<a href='/jira/browse/ITSM-3'>" in page
    assert "<a href='/jira/'>" in page
