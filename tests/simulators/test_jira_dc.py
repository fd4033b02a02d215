"""Data Center as the Jira simulator stands for it; its bodies are held against the schemas of Atlassian's WADL file."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.simulators.jira_sites import OPS, Client, DataCenterClient, Judge, Starter, Wadl, sites

LOGIN = DataCenterClient.LOGIN
EDITION = {"edition": "datacenter", "context": "/jira"}


@pytest.fixture(scope="session")
def judge(shared: Callable[[str], Path]) -> Judge:
    return Wadl(shared(Wadl.NAME))


@pytest.fixture
def site(judge: Judge) -> Iterator[Starter]:
    with sites(DataCenterClient, judge, (OPS,), **EDITION) as start:
        yield start


@pytest.fixture(scope="module")
def reading(judge: Judge) -> Iterator[Client]:
    """A site that tests only read; its account lives in Sydney."""
    with sites(DataCenterClient, judge, (OPS,), **EDITION) as start:
        yield start(timezone="Australia/Sydney")


# --- the site and its set-up ------------------------------------------------------------------------------------------


def test_says_what_it_is_and_where(reading: Client) -> None:
    info = reading.get("serverInfo")
    assert ("Server", reading.url) == (info["deploymentType"], info["baseUrl"])
    assert re.fullmatch(r"9\.\d+\.\d+", info["version"])
    assert info == reading.get("/rest/api/latest/serverInfo") | {"serverTime": info["serverTime"]}


def test_everything_stands_below_the_context_path(reading: Client) -> None:
    outside = reading.url.removesuffix("/jira")
    assert outside != reading.url
    response = requests.get(f"{outside}/rest/api/2/serverInfo", auth=LOGIN, timeout=10)
    assert (404, "text/html;charset=UTF-8") == (response.status_code, response.headers["Content-Type"])
    issue = reading.get("issue/OPS-1")
    addresses = re.findall(r'"self": "([^"]*)"', json.dumps(issue))
    assert addresses
    assert [] == [each for each in addresses if not each.startswith(f"{reading.url}/rest/api/2/")]
    page = requests.get(f"{reading.url}/browse/OPS-1", timeout=10)
    assert 200 == page.status_code


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "search/jql"),
        ("POST", "changelog/bulkfetch"),
        ("GET", "issue/OPS-1/changelog"),
        ("POST", "search/approximate-count"),
        ("GET", "field/search"),
        ("GET", "users/search"),
        ("GET", "group/bulk"),
        ("POST", "comment/list"),
    ],
)
def test_has_no_resource_that_only_cloud_has(reading: Client, method: str, path: str) -> None:
    address = f"{reading.url}/rest/api/2/{path}"
    response = reading.session.request(method, address, json={}, timeout=10)
    expected = {"message": f"null for uri: {address}", "status-code": 404}
    assert (404, expected) == (response.status_code, response.json())


def test_takes_newer_addresses_for_the_name_of_an_issue_or_project(reading: Client) -> None:
    bulk = reading.session.post(f"{reading.url}/rest/api/2/issue/bulkfetch", json={}, timeout=10)
    search = reading.session.get(f"{reading.url}/rest/api/2/project/search", timeout=10)
    assert (405, 404) == (bulk.status_code, search.status_code)
    assert ["No project could be found with key 'search'."] == search.json()["errorMessages"]


def test_has_no_version_3(reading: Client) -> None:
    response = reading.session.get(f"{reading.url}/rest/api/3/serverInfo", timeout=10)
    assert (404, "text/html;charset=UTF-8") == (response.status_code, response.headers["Content-Type"])


def test_people_have_a_name_and_a_key(reading: Client) -> None:
    me = reading.get("myself")
    assert ("bot", "JIRAUSER10100", "bot@example.com") == tuple(me[name] for name in ("name", "key", "emailAddress"))
    assert "accountId" not in me
    olga = reading.get("user", username="olga.owner")
    assert olga == reading.get("user", key=olga["key"])
    assert 404 == reading.call("GET", "user", username="nobody").status_code


def test_users_are_searched_by_part_of_any_name(reading: Client) -> None:
    def found(**query: Any) -> set[str]:
        return {each["displayName"] for each in reading.get("user/search", **query)}

    everybody = found(username=".", includeInactive="true", maxResults=1000)
    assert {"Leo Left"} == everybody - found(username=".")
    assert {"Olga Owner"} == found(username="OLGA")
    assert 1 == len(reading.get("user/search", username=".", startAt=1, maxResults=1))
    assert 400 == reading.call("GET", "user/search").status_code
    assert "Leo Left" not in {
        each["displayName"] for each in reading.get("user/assignable/search", project="CAPA", username="")
    }


def test_groups_are_picked_and_their_members_paged(reading: Client) -> None:
    names = [each["name"] for each in reading.get("groups/picker")["groups"]]
    page = reading.get("group/member", groupname=names[0], maxResults=2)
    assert (2, False) == (len(page["values"]), page["isLast"])
    assert {"self", "nextPage", "maxResults", "startAt", "total", "isLast", "values"} == set(page)
    assert {"self", "name", "key", "emailAddress", "avatarUrls", "displayName", "active", "timeZone"} == set(
        page["values"][0]
    )
    assert page["nextPage"].startswith(f"{reading.url}/rest/api/2/group/member?")


@pytest.mark.parametrize("path", ["issuetype", "priority", "resolution", "status", "field", "project"])
def test_lists_are_plain(reading: Client, path: str) -> None:
    assert isinstance(reading.get(path), list)


def test_create_screen_is_a_page_of_values(reading: Client) -> None:
    types = reading.get("issue/createmeta/OPS/issuetypes")
    assert ["Incident"] == [each["name"] for each in types["values"]]
    address = f"issue/createmeta/OPS/issuetypes/{types['values'][0]['id']}"
    page = reading.get(address)
    assert {"project", "issuetype", "summary", "customfield_10010"} == {
        field["fieldId"] for field in page["values"] if field["required"]
    }
    short = reading.get(address, startAt=2, maxResults=2)
    assert (2, page["total"], False) == (len(short["values"]), short["total"], short["isLast"])
    assert page["values"][2:4] == short["values"]


def test_workflows_are_listed_without_their_transitions(reading: Client) -> None:
    listed = {each["name"]: each for each in reading.get("workflow")}
    expected = {"name": "Corrective action workflow", "description": "", "steps": 10, "default": False}
    assert expected == listed["Corrective action workflow"]
    assert [expected] == reading.get("workflow", workflowName="Corrective action workflow")


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_token_is_a_bearer_and_a_password(site: Starter) -> None:
    jira = site(token="secret")
    bearer = requests.get(f"{jira.url}/rest/api/2/myself", headers={"Authorization": "Bearer secret"}, timeout=10)
    basic = requests.get(f"{jira.url}/rest/api/2/myself", auth=("bot", "secret"), timeout=10)
    assert bearer.json() == basic.json()
    assert ("OK", "bot") == tuple(bearer.headers[name] for name in ("X-Seraph-LoginReason", "X-AUSERNAME"))


@pytest.mark.parametrize("path", ["myself", "serverInfo", "search?jql=project%3DOPS"])
@pytest.mark.parametrize(
    "header",
    [{"Authorization": "Bearer old"}, {"Authorization": "Basic Ym90Om9sZA=="}],  # bot:old
)
def test_wrong_login_is_refused_everywhere_in_html(reading: Client, path: str, header: Mapping[str, str]) -> None:
    response = requests.get(f"{reading.url}/rest/api/2/{path}", headers=header, timeout=10)
    assert (401, "AUTHENTICATED_FAILED") == (response.status_code, response.headers["X-Seraph-LoginReason"])
    assert "Basic Authentication Failure - Reason : AUTHENTICATED_FAILED" in response.text
    assert response.headers["Content-Type"].startswith("text/html")


def test_stranger_sees_an_empty_search_and_no_more(reading: Client) -> None:
    empty = requests.get(f"{reading.url}/rest/api/2/search?jql=project%3DOPS", timeout=10)
    assert (200, 0, []) == (empty.status_code, empty.json()["total"], empty.json()["issues"])
    refused = requests.get(f"{reading.url}/rest/api/2/myself", timeout=10)
    assert 401 == refused.status_code
    assert refused.json()["errorMessages"] == [
        "You are not authenticated. Authentication required to perform this operation."
    ]


def test_too_many_wrong_passwords_ask_for_a_captcha(site: Starter) -> None:
    jira = site(captcha_after="2")
    address = f"{jira.url}/rest/api/2/myself"
    seen = [requests.get(address, auth=("bot", "wrong"), timeout=10).status_code for _ in range(3)]
    denied = requests.get(address, auth=LOGIN, timeout=10)
    assert ([401, 401, 403], 403) == (seen, denied.status_code)
    assert "AUTHENTICATION_DENIED" == denied.headers["X-Seraph-LoginReason"]
    assert denied.headers["X-Authentication-Denied-Reason"].startswith("CAPTCHA_CHALLENGE; login-url=")
    bearer = requests.get(address, headers={"Authorization": "Bearer token"}, timeout=10)
    assert 200 == bearer.status_code


def test_token_dies_of_age(site: Starter) -> None:
    jira = site(token_life="3600")
    assert 200 == jira.call("GET", "myself").status_code
    jira.advance(3601)
    assert 401 == jira.call("GET", "myself").status_code


def test_every_answer_can_be_traced(reading: Client) -> None:
    first, second = (reading.call("GET", "serverInfo").headers for _ in range(2))
    assert first["X-AREQUESTID"] != second["X-AREQUESTID"]
    assert ("node1", "bot") == (first["X-ANODEID"], first["X-AUSERNAME"])


def test_rate_limit_tells_its_tokens_and_refuses_without_any(site: Starter) -> None:
    jira = site(limits="on")
    first = jira.call("GET", "serverInfo")
    assert ("0", "100", "99") == tuple(
        first.headers[name] for name in ("retry-after", "X-RateLimit-Limit", "X-RateLimit-Remaining")
    )
    statuses = [jira.call("GET", "serverInfo").status_code for _ in range(150)]
    assert {200, 429} == set(statuses)
    refused = next(each for each in (jira.call("GET", "serverInfo") for _ in range(150)) if each.status_code == 429)
    assert ("1", "0") == (refused.headers["retry-after"], refused.headers["X-RateLimit-Remaining"])
    jira.advance(2)
    assert 200 == jira.call("GET", "serverInfo").status_code


# --- search -----------------------------------------------------------------------------------------------------------


def test_search_pages_by_offset_and_counts(reading: Client) -> None:
    whole = reading.get("search", jql="project = OPS ORDER BY key", maxResults=500)
    keys = [each["key"] for each in whole["issues"]]
    assert (0, 500, len(keys)) == (whole["startAt"], whole["maxResults"], whole["total"])
    page = reading.post("search", {"jql": "project = OPS ORDER BY key", "startAt": 1, "maxResults": 2})
    assert (1, 2, len(keys), keys[1:3]) == (
        page["startAt"],
        page["maxResults"],
        page["total"],
        [each["key"] for each in page["issues"]],
    )
    beyond = reading.get("search", jql="project = OPS", startAt=len(keys))
    assert ([], len(keys)) == (beyond["issues"], beyond["total"])


def test_search_caps_the_page_and_says_so(site: Starter) -> None:
    jira = site(search_cap="2")
    page = jira.get("search", jql="", maxResults=500)
    assert (2, 2) == (page["maxResults"], len(page["issues"]))
    assert page["total"] > 2


def test_search_shows_navigable_fields_unless_asked(reading: Client) -> None:
    issue = reading.get("search", jql="key = OPS-1")["issues"][0]
    assert "comment" not in issue["fields"]
    assert {"summary", "status", "updated"} <= set(issue["fields"])
    assert "statuscategorychangedate" not in {*issue["fields"], *(each["id"] for each in reading.get("field"))}
    only = reading.get("search", jql="key = OPS-1", fields="status")["issues"][0]
    assert {"status"} == set(only["fields"])


def test_search_shows_the_whole_history_oldest_first(reading: Client) -> None:
    issue = reading.get("search", jql="key = OPS-1", fields="status", expand="changelog")["issues"][0]
    shown = issue["changelog"]
    assert shown["total"] == len(shown["histories"]) == shown["maxResults"]
    assert shown == reading.get("issue/OPS-1", expand="changelog")["changelog"]
    stamps = [each["created"] for each in shown["histories"]]
    assert sorted(stamps) == stamps
    assert len(stamps) > 1


@pytest.mark.parametrize(("claim", "total"), [("", 3), ("honest", 3), ("lying", 1)])
def test_history_in_a_search_may_be_cut(site: Starter, claim: str, total: int) -> None:
    jira = site(changelog_cap="1", **({"changelog_total": claim} if claim else {}))
    key = jira.create()
    for text in ("a", "b", "c"):
        assert 204 == jira.call("PUT", f"issue/{key}", {"fields": {"summary": text}}).status_code
    found = jira.get("search", jql=f"key = {key}", expand="changelog")["issues"][0]["changelog"]
    assert (total, ["c"]) == (found["total"], [each["items"][0]["toString"] for each in found["histories"]])
    whole = jira.get(f"issue/{key}", expand="changelog")["changelog"]
    assert (3, ["a", "b", "c"]) == (whole["total"], [each["items"][0]["toString"] for each in whole["histories"]])


def test_search_refuses_what_it_does_not_know(reading: Client) -> None:
    unknown = reading.call("POST", "search", {"jql": "project = OPS", "nextPageToken": "x"}, valid=False)
    assert 400 == unknown.status_code
    assert 'Unrecognized field "nextPageToken"' in unknown.json()["errorMessages"][0]
    wrong = reading.call("GET", "search", jql="project = NOPE")
    assert (400, ["The value 'NOPE' does not exist for the field 'project'."]) == (
        wrong.status_code,
        wrong.json()["errorMessages"],
    )
    forgiven = reading.session.get(
        f"{reading.url}/rest/api/2/search?jql=project%20%3D%20NOPE&validateQuery=false", timeout=10
    ).json()
    assert ([], ["The value 'NOPE' does not exist for the field 'project'."]) == (
        forgiven["issues"],
        forgiven["warningMessages"],
    )
    syntax = reading.call("GET", "search", jql="project OPS", validateQuery="false")
    assert 400 == syntax.status_code


def test_offset_pages_shift_when_a_row_moves(site: Starter) -> None:
    jira = site()
    keys = [jira.create(str(number)) for number in range(4)]
    query = "project = CAPA AND summary ~ '0' OR key in (" + ",".join(keys) + ") ORDER BY updated ASC, id ASC"
    first = jira.search(query, maxResults=2)
    jira.advance(1)
    jira.call("PUT", f"issue/{keys[0]}", {"fields": {"summary": "moved"}})
    second = jira.search(query, startAt=2, maxResults=2)
    assert (keys[:2], [keys[3], keys[0]]) == (first, second)  # the third one was never shown


def test_second_node_may_see_a_write_later(site: Starter) -> None:
    jira = site(node_lag="30")
    key = jira.create()
    seen = [jira.search(f"key = {key}") for _ in range(4)]
    assert [[], [key]] == sorted({tuple(each): each for each in seen}.values())
    jira.advance(31)
    assert [[key]] * 2 == [jira.search(f"key = {key}") for _ in range(2)]
    assert {"node1", "node2"} == {jira.call("GET", "serverInfo").headers["X-ANODEID"] for _ in range(2)}


def test_index_lag_hides_a_write_from_search_only(site: Starter) -> None:
    jira = site(search_lag="5")
    key = jira.create()
    assert (key, []) == (jira.get(f"issue/{key}")["key"], jira.search(f"key = {key}"))
    jira.advance(6)
    assert [key] == jira.search(f"key = {key}")


# --- writing ----------------------------------------------------------------------------------------------------------


def test_people_are_written_by_name(site: Starter) -> None:
    jira = site()
    key = jira.create(assignee={"name": "olga.owner"}, reporter={"name": "aki.action"})
    fields = jira.get(f"issue/{key}")["fields"]
    assert ("olga.owner", "aki.action") == (fields["assignee"]["name"], fields["reporter"]["name"])
    assert 204 == jira.call("PUT", f"issue/{key}", {"fields": {"assignee": {"name": "mara.manager"}}}).status_code
    assert [key] == jira.search("assignee = mara.manager")
    update = {"update": {"assignee": [{"set": {"name": "olga.owner"}}]}}
    assert 204 == jira.call("PUT", f"issue/{key}", update).status_code
    history = jira.get(f"issue/{key}", expand="changelog")["changelog"]["histories"][-1]
    olga, mara = (jira.get("user", username=name)["key"] for name in ("olga.owner", "mara.manager"))
    assert [
        {
            "field": "assignee",
            "fieldtype": "jira",
            "from": mara,
            "fromString": "Mara Manager",
            "to": olga,
            "toString": "Olga Owner",
        }
    ] == history["items"]
    assert 204 == jira.call("PUT", f"issue/{key}", {"fields": {"assignee": {"name": None}}}, valid=False).status_code
    assert jira.get(f"issue/{key}")["fields"]["assignee"] is None


def test_refuses_people_it_does_not_know(site: Starter) -> None:
    jira = site()
    key = jira.create()
    for name, sentence in (
        ("nobody", "User 'nobody' does not exist."),
        ("leo.left", "User 'leo.left' cannot be assigned issues."),
    ):
        refused = jira.call("PUT", f"issue/{key}", {"fields": {"assignee": {"name": name}}})
        assert (400, {"assignee": sentence}) == (refused.status_code, refused.json()["errors"])


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"project": {"key": "NOPE"}}, {"project": "project is required"}),
        ({"issuetype": {"name": "Nope"}}, {"issuetype": "valid issue type is required"}),
        ({"summary": ""}, {"summary": "You must specify a summary of the issue."}),
        (
            {"customfield_10010": {"value": "Sev1"}},
            {
                "customfield_10010": "Field 'customfield_10010' cannot be set."
                " It is not on the appropriate screen, or unknown."
            },
        ),
    ],
)
def test_refused_creates_name_the_field(site: Starter, fields: Mapping[str, Any], errors: Mapping[str, str]) -> None:
    jira = site()
    place = {"project": {"key": "CAPA"}, "issuetype": {"name": "Corrective action"}, "summary": "x"}
    response = jira.call("POST", "issue", {"fields": {**place, **fields}})
    assert (400, errors) == (response.status_code, response.json()["errors"])


def test_missing_issue_has_the_older_sentence(reading: Client) -> None:
    response = reading.call("GET", "issue/OPS-99999")
    assert (404, {"errorMessages": ["Issue Does Not Exist"], "errors": {}}) == (response.status_code, response.json())


def test_steps_show_less_and_a_stale_one_says_why(site: Starter) -> None:
    jira = site()
    key = jira.create()
    steps = {each["name"]: each for each in jira.get(f"issue/{key}/transitions")["transitions"]}
    assert {"id", "name", "to"} == set(steps["Confirm"])
    expanded = jira.get(f"issue/{key}/transitions", expand="transitions.fields")["transitions"]
    assert "resolution" in next(each for each in expanded if each["name"] == "Reject")["fields"]
    step = {"transition": {"id": steps["Confirm"]["id"]}}
    assert 204 == jira.call("POST", f"issue/{key}/transitions", step).status_code
    stale = jira.call("POST", f"issue/{key}/transitions", step)
    assert 400 == stale.status_code
    assert (
        f"workflow operation (Confirm) that is not valid for the current state of this issue ({key})"
        in (stale.json()["errorMessages"][0])
    )


def test_comments_are_wiki_text_and_paged(site: Starter) -> None:
    jira = site()
    key = jira.create()
    for number in range(3):
        jira.post(f"issue/{key}/comment", {"body": f"*{number}*"}, 201)
    page = jira.get(f"issue/{key}/comment", startAt=1, maxResults=1)
    assert (3, ["*1*"]) == (page["total"], [each["body"] for each in page["comments"]])
    newest = jira.get(f"issue/{key}/comment", orderBy="-created")
    assert (50, ["*2*", "*1*", "*0*"]) == (newest["maxResults"], [each["body"] for each in newest["comments"]])
    assert "bot" == newest["comments"][0]["author"]["name"]


def test_internal_comment_says_so_in_a_property_only(site: Starter) -> None:
    jira = site()
    key = jira.create()
    internal = [{"key": "sd.public.comment", "value": {"internal": True}}]
    hidden = jira.post(f"issue/{key}/comment", {"body": "for us", "properties": internal}, 201)
    shown = jira.post(f"issue/{key}/comment", {"body": "for all"}, 201)
    assert hidden.keys() == shown.keys()
    answers = [
        jira.call("GET", f"comment/{each['id']}/properties/sd.public.comment") for each in (hidden, shown, {"id": 1})
    ]
    assert [200, 404, 404] == [each.status_code for each in answers]
    assert {"internal": True} == answers[0].json()["value"]


def test_links_remote_links_and_properties(site: Starter) -> None:
    jira = site()
    one, two = jira.create("one"), jira.create("two")
    body = {"type": {"name": "Relates"}, "inwardIssue": {"key": one}, "outwardIssue": {"key": two}}
    assert 201 == jira.call("POST", "issueLink", body).status_code
    links = jira.get(f"issue/{one}", fields="issuelinks")["fields"]["issuelinks"]
    assert [two] == [each["outwardIssue"]["key"] for each in links]
    remote = {"globalId": "a=1", "object": {"url": "https://sn.example/1", "title": "one"}}
    assert [201, 200] == [jira.call("POST", f"issue/{one}/remotelink", remote).status_code for _ in range(2)]
    assert 201 == jira.call("PUT", f"issue/{one}/properties/capa", {"rev": 1}).status_code
    assert {"rev": 1} == jira.get(f"issue/{one}/properties/capa")["value"]


def test_mentions_name_people_as_the_older_interface_does(site: Starter, tmp_path: Path) -> None:
    body = "[~accountid:user-ada] and [~accountid:nobody]"
    comment = {"by": "ada@example.com", "at": "2026-03-02T09:00:00Z", "body": body}
    issue = {"key": "OPS-60", "type": "Incident", "created": "2026-03-02T08:00:00Z", "comments": [comment]}
    data = tmp_path / "mention.json"
    data.write_text(json.dumps({"issues": [issue]}))
    (shown,) = site([OPS, data]).get("issue/OPS-60/comment")["comments"]
    assert "[~ada] and [~accountid:nobody]" == shown["body"]


def test_several_people_are_keys_in_the_history(site: Starter, tmp_path: Path) -> None:
    fields = [{"id": "customfield_10099", "name": "Watchers", "type": "array", "items": "user"}]
    change = {"field": "Watchers", "from": [], "to": ["ada@example.com", "ben@example.com"]}
    history = [{"at": "2026-03-02T09:00:00Z", "by": "ada@example.com", "items": [change]}]
    issue = {"key": "OPS-61", "type": "Incident", "created": "2026-03-02T08:00:00Z", "history": history}
    data = tmp_path / "several.json"
    data.write_text(json.dumps({"fields": fields, "issues": [issue]}))
    jira = site([OPS, data])
    ada, ben = (jira.get("user", username=name)["key"] for name in ("ada", "ben"))
    (shown,) = jira.get("issue/OPS-61", expand="changelog")["changelog"]["histories"][0]["items"]
    assert ("Watchers", f"[{ada}, {ben}]") == (shown["field"], shown["to"])


LOST = {"project": {"key": "CAPA"}, "issuetype": {"name": "Corrective action"}, "summary": "lost", "labels": ["k-1"]}
ENDS = {"inwardIssue": {"key": "OPS-1"}, "outwardIssue": {"key": "OPS-2"}}


@pytest.mark.parametrize(
    ("path", "body", "seen"),
    [
        ("issue", {"fields": LOST}, lambda jira: jira.search("labels = 'k-1'")),
        ("issue/OPS-1/comment", {"body": "once"}, lambda jira: jira.search("comment ~ once")),
        (
            "issueLink",
            {"type": {"name": "Relates"}, **ENDS},
            lambda jira: jira.get("issue/OPS-1", fields="issuelinks")["fields"]["issuelinks"],
        ),
    ],
)
def test_write_may_be_carried_out_and_its_answer_lost(
    site: Starter, path: str, body: Any, seen: Callable[[Client], list[Any]]
) -> None:
    jira = site()
    assert [] == seen(jira)
    jira.break_({"do": "drop_after", "method": "POST", "path": f"/rest/api/2/{path}$"})
    with pytest.raises(requests.ConnectionError):
        jira.call("POST", path, body)
    assert 1 == len(seen(jira))


def test_answer_may_be_slow(site: Starter) -> None:
    jira = site()
    jira.break_({"do": "delay", "after": True, "path": "/search", "seconds": 0.3})
    with pytest.raises(requests.ReadTimeout):
        jira.session.get(f"{jira.url}/rest/api/2/search", params={"jql": "project = OPS"}, timeout=(5, 0.1))
    assert jira.search("project = OPS")


def test_total_may_be_wrong(site: Starter) -> None:
    jira = site()
    jira.break_({"do": "merge", "path": "/search", "body": {"total": 1}})
    page = jira.get("search", jql="project = OPS")
    assert 1 == page["total"] < len(page["issues"])


# --- service management -----------------------------------------------------------------------------------------------


def test_service_management_stands_on_data_center_too(site: Starter, tmp_path: Path) -> None:
    approvers = [{"by": "olga.owner@example.com", "decision": "pending"}]
    approval = {"name": "CAB", "created": "2026-03-02T09:00:00Z", "decision": "pending", "approvers": approvers}
    change = {"key": "ITSM-1", "type": "10104", "created": "2026-03-02T08:00:00Z", "approvals": [approval]}
    data = tmp_path / "change.json"
    data.write_text(json.dumps({"issues": [change]}))
    jira = site([Path("itsm"), data])
    address = f"{jira.url}/rest/servicedeskapi/request/ITSM-1/approval"
    answer = jira.session.get(address, headers={"X-ExperimentalApi": "opt-in"}, timeout=10).json()
    asked = answer["values"][0]["approvers"][0]["approver"]
    assert ("olga.owner", False) == (asked["name"], "accountId" in asked)
    assert answer["_links"]["self"].startswith(f"{jira.url}/rest/servicedeskapi/request/")
    assert ["ITSM-1"] == jira.search("approvals = pending() AND issuetype = 10104")
    fields = jira.get("search", jql="key = ITSM-1", fields="customfield_10213")["issues"][0]["fields"]
    assert ["olga.owner"] == [each["approver"]["name"] for each in fields["customfield_10213"][0]["approvers"]]


# --- last: what the judge has seen ------------------------------------------------------------------------------------


def test_judge_refuses_what_the_document_forbids(judge: Judge) -> None:
    with pytest.raises(AssertionError, match="not of type"):
        judge.response("GET", "/rest/api/2/myself", 200, {"active": "yes"})
    with pytest.raises(AssertionError, match="Additional properties"):
        judge.response("GET", "/rest/api/2/myself", 200, {"accountId": "x", "active": True})
    with pytest.raises(AssertionError, match="has no POST"):
        judge.response("POST", "/rest/api/2/search/jql", 200, {})
    with pytest.raises(AssertionError, match="required"):
        judge.response("GET", "/rest/api/2/workflow", 200, [{"name": "x"}])
