"""Every address that the Jira simulator has, called once on a rich site, and its body held against what is known of it.

The tables of routes are the list: an address without an example here fails. Cloud's platform is judged by Atlassian's
OpenAPI document, Data Center's by the WADL file, service management by answers that were recorded from the product,
since neither document describes it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from connectors.jira.simulator.routes import PLATFORM, SERVICE_MANAGEMENT, TABLES
from tests.simulators.jira_sites import DESK, Client, DataCenterClient, Judge, OpenApi, Starter, Wadl, content, sites

Row = tuple[str, str]


@dataclass(frozen=True)
class Example:
    """A request to one address, with something in the place of its parameters, and the status it is answered with."""

    path: str
    body: Any = None
    status: int = 200
    query: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, str, Any] | None = None
    """A write that has to come first."""


def rows(edition: str, interface: str) -> list[Row]:
    return [(method, template) for table in TABLES[edition][interface] for method, template, _, _ in table]


def text(words: str) -> Any:
    paragraph = {"type": "paragraph", "content": [{"type": "text", "text": words}]}
    return {"type": "doc", "version": 1, "content": [paragraph]}


DESK_API = "/rest/servicedeskapi/"
BOT = "5b10ac8d82e05b22cc7d4e01"
NEW = {"project": {"key": "ITSM"}, "issuetype": {"id": "10104"}, "summary": "Replace the relay"}
LINK = {"type": {"name": "Relates"}, "inwardIssue": {"key": "ITSM-1"}, "outwardIssue": {"key": "ITSM-5"}}
REMOTE = {"globalId": "a=1", "relationship": "evidence", "object": {"url": "https://sn.example/1", "title": "one"}}
INVESTIGATE = ("POST", "issue/ITSM-2/transitions", {"transition": {"id": "11"}})
PROPERTY = ("PUT", "issue/ITSM-1/properties/capa", {"rev": 1})
EXPAND = "renderedFields,names,schema,editmeta,changelog,transitions"
EVERYTHING = {"jql": "project = ITSM ORDER BY key", "fields": ["*all"]}

#: What both editions answer in the same way.
COMMON: Mapping[Row, Example] = {
    ("GET", "serverInfo"): Example("serverInfo"),
    ("GET", "myself"): Example("myself"),
    ("GET", "field"): Example("field"),
    ("GET", "issuetype"): Example("issuetype"),
    ("GET", "priority"): Example("priority"),
    ("GET", "resolution"): Example("resolution"),
    ("GET", "status"): Example("status"),
    ("GET", "issueLinkType"): Example("issueLinkType"),
    ("GET", "project/{projectIdOrKey}"): Example("project/ITSM"),
    ("GET", "project/{projectIdOrKey}/statuses"): Example("project/ITSM/statuses"),
    ("GET", "user/assignable/search"): Example("user/assignable/search", query={"project": "ITSM"}),
    ("GET", "group/member"): Example("group/member", query={"groupname": "jira-users", "maxResults": "2"}),
    ("GET", "groups/picker"): Example("groups/picker"),
    ("GET", "issue/createmeta/{projectIdOrKey}/issuetypes"): Example("issue/createmeta/ITSM/issuetypes"),
    ("GET", "issue/createmeta/{projectIdOrKey}/issuetypes/{issueTypeId}"): Example(
        "issue/createmeta/ITSM/issuetypes/10104"
    ),
    ("POST", "issue"): Example("issue", {"fields": NEW}, 201),
    ("GET", "issue/{issueIdOrKey}"): Example("issue/ITSM-3", query={"expand": EXPAND}),
    ("PUT", "issue/{issueIdOrKey}"): Example("issue/ITSM-1", {"fields": {"summary": "Other"}}, 204),
    ("DELETE", "issue/{issueIdOrKey}"): Example("issue/ITSM-5", status=204),
    ("GET", "issue/{issueIdOrKey}/editmeta"): Example("issue/ITSM-3/editmeta"),
    ("GET", "issue/{issueIdOrKey}/properties"): Example("issue/ITSM-1/properties", before=PROPERTY),
    ("GET", "issue/{issueIdOrKey}/properties/{propertyKey}"): Example("issue/ITSM-1/properties/capa", before=PROPERTY),
    ("PUT", "issue/{issueIdOrKey}/properties/{propertyKey}"): Example("issue/ITSM-1/properties/capa", {"rev": 1}, 201),
    ("DELETE", "issue/{issueIdOrKey}/properties/{propertyKey}"): Example(
        "issue/ITSM-1/properties/capa", status=204, before=PROPERTY
    ),
    ("GET", "issue/{issueIdOrKey}/comment"): Example("issue/ITSM-1/comment"),
    ("GET", "issue/{issueIdOrKey}/comment/{id}"): Example("issue/ITSM-1/comment/501"),
    ("GET", "comment/{commentId}/properties/{propertyKey}"): Example("comment/501/properties/sd.public.comment"),
    ("GET", "issue/{issueIdOrKey}/transitions"): Example(
        "issue/ITSM-3/transitions", query={"expand": "transitions.fields"}
    ),
    ("POST", "issue/{issueIdOrKey}/transitions"): Example("issue/ITSM-2/transitions", INVESTIGATE[2], 204),
    ("GET", "issue/{issueIdOrKey}/remotelink"): Example(
        "issue/ITSM-1/remotelink", before=("POST", "issue/ITSM-1/remotelink", REMOTE)
    ),
    ("POST", "issue/{issueIdOrKey}/remotelink"): Example("issue/ITSM-1/remotelink", REMOTE, 201),
    ("POST", "issueLink"): Example("issueLink", LINK, 201),
}

CLOUD: Mapping[Row, Example] = {
    **COMMON,
    ("GET", "field/search"): Example("field/search", query={"maxResults": "5"}),
    ("GET", "project/search"): Example("project/search", query={"maxResults": "1"}),
    ("GET", "users"): Example("users"),
    ("GET", "users/search"): Example("users/search"),
    ("GET", "group/bulk"): Example("group/bulk"),
    ("POST", "issue/bulkfetch"): Example(
        "issue/bulkfetch",
        {"issueIdsOrKeys": ["ITSM-1", "ITSM-4", "ITSM-99"], "fields": ["*all"], "expand": ["changelog"]},
    ),
    ("POST", "issue/{issueIdOrKey}/comment"): Example("issue/ITSM-1/comment", {"body": text("Seen")}, 201),
    ("GET", "issue/{issueIdOrKey}/changelog"): Example("issue/ITSM-1/changelog", query={"maxResults": "2"}),
    ("POST", "issue/{issueIdOrKey}/changelog/list"): Example(
        "issue/ITSM-3/changelog/list", {"changelogIds": list(range(10_001, 10_020))}
    ),
    ("POST", "comment/list"): Example("comment/list", {"ids": [501]}),
    ("POST", "changelog/bulkfetch"): Example(
        "changelog/bulkfetch", {"issueIdsOrKeys": ["ITSM-1", "ITSM-3"], "maxResults": 3}
    ),
    ("GET", "search/jql"): Example("search/jql", query={"jql": "project = ITSM", "maxResults": "2", "fields": "*all"}),
    ("POST", "search/jql"): Example("search/jql", {**EVERYTHING, "expand": EXPAND}),
    ("GET", "search"): Example("search", query={"jql": "project = ITSM"}, status=410),
    ("POST", "search"): Example("search", {"jql": "project = ITSM"}, 410),
    ("POST", "search/approximate-count"): Example("search/approximate-count", {"jql": "project = ITSM"}),
    ("POST", "jql/match"): Example("jql/match", {"issueIds": [10300], "jqls": ["project = ITSM", "nope = 1"]}),
    ("POST", "workflows"): Example("workflows", {"workflowNames": ["ITSM: service request with approvals"]}),
    ("GET", "workflows/search"): Example("workflows/search", query={"expand": "values.transitions", "maxResults": "3"}),
    ("GET", "workflowscheme/project"): Example("workflowscheme/project", query={"projectId": "10100"}),
    ("GET", "statuses"): Example("statuses", query={"id": "10001"}),
    ("GET", "statuses/search"): Example("statuses/search", query={"projectId": "10100", "maxResults": "5"}),
}

DATA_CENTER: Mapping[Row, Example] = {
    **COMMON,
    ("GET", "project"): Example("project"),
    ("GET", "user"): Example("user", query={"username": "bot"}),
    ("GET", "user/search"): Example("user/search", query={"username": "."}),
    ("GET", "workflow"): Example("workflow"),
    ("POST", "issue/{issueIdOrKey}/comment"): Example("issue/ITSM-1/comment", {"body": "Seen *there*"}, 201),
    ("GET", "search"): Example(
        "search", query={"jql": "project = ITSM", "fields": "*all", "expand": "names,schema,changelog"}
    ),
    ("POST", "search"): Example("search", {**EVERYTHING, "expand": ["names", "schema", "changelog"]}),
}

#: Writes that answer without a body, or with one of which the documents say nothing.
SILENT = {
    ("PUT", "issue/{issueIdOrKey}"),
    ("DELETE", "issue/{issueIdOrKey}"),
    ("PUT", "issue/{issueIdOrKey}/properties/{propertyKey}"),
    ("DELETE", "issue/{issueIdOrKey}/properties/{propertyKey}"),
    ("POST", "issue/{issueIdOrKey}/transitions"),
    ("POST", "issueLink"),
}
#: The WADL file knows only the answer to a link that was there already, which is the same.
SILENT_ON_DATA_CENTER = {*SILENT, ("POST", "issue/{issueIdOrKey}/remotelink")}


@pytest.fixture(scope="session")
def cloud(shared: Callable[[str], Path]) -> Judge:
    return OpenApi(shared(OpenApi.NAME))


@pytest.fixture(scope="session")
def data_center(shared: Callable[[str], Path]) -> Judge:
    return Wadl(shared(Wadl.NAME))


@pytest.fixture
def cloud_site(cloud: Judge) -> Iterator[Starter]:
    with sites(Client, cloud, DESK) as start:
        yield start


@pytest.fixture
def data_center_site(data_center: Judge) -> Iterator[Starter]:
    with sites(DataCenterClient, data_center, DESK, edition="datacenter", context="/jira") as start:
        yield start


def judged(jira: Client, judge: Judge, method: str, example: Example) -> bool:
    """Whether the judge had something to say of the example's answer."""
    if example.before:
        assert jira.call(*example.before).ok
    response = jira.call(method, example.path, example.body, **example.query)
    assert example.status == response.status_code, response.text
    return judge.response(method, jira.START + example.path, response.status_code, content(response))


def test_every_address_has_an_example_and_every_example_an_address() -> None:
    assert set(rows("cloud", PLATFORM)) == CLOUD.keys()
    assert set(rows("datacenter", PLATFORM)) == DATA_CENTER.keys()
    assert set(rows("cloud", SERVICE_MANAGEMENT)) == RECORDED.keys()
    assert TABLES["cloud"][SERVICE_MANAGEMENT] == TABLES["datacenter"][SERVICE_MANAGEMENT]


@pytest.mark.parametrize(("method", "template"), CLOUD)
def test_cloud_answers_as_the_document_says(cloud_site: Starter, cloud: Judge, method: str, template: str) -> None:
    example = CLOUD[method, template]
    assert judged(cloud_site(), cloud, method, example) == ((method, template) not in SILENT)


#: Field of an issue -> the document's name of its form. The document leaves fields of an issue open, not their parts.
PARTS = {
    "project": "ProjectDetails",
    "issuetype": "IssueTypeDetails",
    "status": "StatusDetails",
    "priority": "Priority",
    "resolution": "Resolution",
    "assignee": "UserDetails",
    "reporter": "UserDetails",
    "creator": "UserDetails",
    "comment": "PageOfComments",
    "parent": "LinkedIssue",
    "subtasks": "LinkedIssue",
    "issuelinks": "IssueLink",
}


def test_fields_of_issues_have_the_forms_that_the_document_gives_their_parts(
    cloud_site: Starter, shared: Callable[[str], Path]
) -> None:
    judge, jira = OpenApi(shared(OpenApi.NAME)), cloud_site()
    seen = set()
    for key in ("ITSM-1", "ITSM-2", "ITSM-3", "ITSM-4"):
        fields = jira.get(f"issue/{key}")["fields"]
        for name, part in PARTS.items():
            value = fields.get(name)
            for each in value if isinstance(value, list) else [value] if value else []:
                judge.component(part, _with_both_ends(each) if part == "IssueLink" else each)
                seen.add(name)
    assert PARTS.keys() == seen


def _with_both_ends(link: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document wants both issues of a link, of which the product shows the other one only."""
    ends = ("inwardIssue", "outwardIssue")
    (end,) = (each for each in ends if each in link)
    return {**dict.fromkeys(ends, link[end]), **link}


@pytest.mark.parametrize(("method", "template"), DATA_CENTER)
def test_data_center_answers_as_the_document_says(
    data_center_site: Starter, data_center: Judge, method: str, template: str
) -> None:
    example = DATA_CENTER[method, template]
    silent = SILENT_ON_DATA_CENTER
    assert judged(data_center_site(), data_center, method, example) == ((method, template) not in silent)


# --- service management -----------------------------------------------------------------------------------------------

RECORDINGS = "data/recorded/jira-service-management"
ASKED = {
    **NEW,
    "issuetype": {"id": "10105"},
    "reporter": {"accountId": "user-dan"},
    "customfield_10205": [{"accountId": BOT}],
}

#: Example and the name of the recorded answer.
RECORDED: Mapping[Row, tuple[Example, str]] = {
    ("GET", "info"): (Example("info"), "get-service-management-info"),
    ("GET", "servicedesk"): (Example("servicedesk"), "get-service-desk-projects"),
    ("GET", "servicedesk/{id}"): (Example("servicedesk/1"), "get-service-desk-project"),
    ("GET", "request/{issueIdOrKey}"): (Example("request/ITSM-1"), "get-customer-request"),
    ("GET", "request/{issueIdOrKey}/status"): (Example("request/ITSM-1/status"), "get-customer-request"),
    ("GET", "request/{issueIdOrKey}/approval"): (
        Example("request/ITSM-3/approval", query={"start": "1", "limit": "1"}),
        "get-approvals",
    ),
    ("GET", "request/{issueIdOrKey}/approval/{id}"): (Example("request/ITSM-3/approval/2"), "get-approval"),
    ("POST", "request/{issueIdOrKey}/approval/{id}"): (
        Example("request/ITSM-6/approval/4", {"decision": "approve"}, before=("POST", "issue", {"fields": ASKED})),
        "get-approval",
    ),
    ("GET", "request/{issueIdOrKey}/sla"): (Example("request/ITSM-5/sla", query={"limit": "1"}), "get-customer-slas"),
    ("GET", "request/{issueIdOrKey}/sla/{slaMetricId}"): (Example("request/ITSM-5/sla/1"), "get-customer-sla"),
    ("GET", "request/{issueIdOrKey}/comment"): (
        Example("request/ITSM-5/comment", query={"start": "1", "limit": "1"}),
        "get-comments-requests",
    ),
    ("POST", "request/{issueIdOrKey}/comment"): (
        Example("request/ITSM-5/comment", {"body": "Hello there", "public": True}, 201),
        "create-request-comment",
    ),
    ("GET", "request/{issueIdOrKey}/comment/{id}"): (Example("request/ITSM-1/comment/501"), "get-comment-request"),
}
#: What the vendor's own models of these answers have and the recorded ones lack.
UNRECORDED = {
    ".values[].id",
    ".id",
    ".values[].completedCycles[].breachTime",
    ".completedCycles[].breachTime",
    ".values[].ongoingCycle.breachTime",
    ".ongoingCycle.breachTime",
    "._links.self",
}
#: Recorded, but only where there is something to show.
OPTIONAL = {".requestFieldValues[].renderedValue"}


def differences(recorded: Any, answer: Any, place: str = "") -> list[str]:
    """Keys and types in which an answer is not like the recorded one."""
    if isinstance(recorded, dict) and isinstance(answer, dict):
        found = [f"{place}.{key} is missing" for key in recorded.keys() - answer.keys()]
        found += [f"{place}.{key} is unknown" for key in answer.keys() - recorded.keys()]
        for key in recorded.keys() & answer.keys():
            found += differences(recorded[key], answer[key], f"{place}.{key}")
        return found
    if isinstance(recorded, list) and isinstance(answer, list):
        found = []
        for entry in answer if recorded else ():
            # it has to be like one of the recorded entries
            found += min((differences(each, entry, f"{place}[]") for each in recorded), key=len)
        return found
    return [] if type(recorded) is type(answer) else [f"{place} is {type(answer)}"]


def lacking(page: Mapping[str, Any]) -> set[str]:
    """The neighbours that a page at an end of its list does not have."""
    if "isLastPage" not in page:
        return set()
    ends = {"next": page["isLastPage"], "prev": page["start"] == 0}
    return {f"._links.{name} is missing" for name, ended in ends.items() if ended}


def recorded(shared: Callable[[str], Path], template: str, name: str) -> Any:
    """The recorded answer; of statuses there is only the one within a request, so that it stands in a recorded page."""
    answer = json.loads(shared(f"{RECORDINGS}/{name}.json").read_bytes())
    if template.endswith("/status"):
        page = json.loads(shared(f"{RECORDINGS}/get-customer-slas.json").read_bytes())
        return {**page, "values": [answer["currentStatus"]]}
    return answer


@pytest.mark.parametrize(("method", "template"), RECORDED)
def test_service_management_answers_as_recorded(
    cloud_site: Starter, shared: Callable[[str], Path], method: str, template: str
) -> None:
    example, name = RECORDED[method, template]
    expected, jira = recorded(shared, template, name), cloud_site()
    if example.before:
        assert jira.call(*example.before).ok
    response = jira.call(method, DESK_API + example.path, example.body, **example.query)
    assert example.status == response.status_code, response.text
    answer = response.json()
    known = {f"{place} is unknown" for place in UNRECORDED} | {f"{place} is missing" for place in OPTIONAL}
    assert set() == set(differences(expected, answer)) - known - lacking(answer)


def test_comparison_sees_missing_unknown_and_other_types() -> None:
    found = differences({"a": 1, "b": [{"c": "x"}]}, {"a": "1", "b": [{"d": "x"}]})
    assert {".a is <class 'str'>", ".b[].c is missing", ".b[].d is unknown"} == set(found)
