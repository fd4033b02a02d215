"""The lively desk in the Jira simulator: its history is one that people could have made, and it goes on."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest

from connectors.jira.simulator import Simulator, serve
from connectors.jira.simulator.lively import DATA, Lively
from connectors.jira.simulator.site import Site
from connectors.jira.simulator.site_files import read_site
from tests.simulators.jira_sites import Client, DataCenterClient

OPTIONS = {"desk": "lively", "seed": "7", "days": "60", "live": "false"}
KINDS = {
    "change.approved_after_days", "change.approved_after_start", "change.approved_by_implementer",
    "change.board_incomplete", "change.no_backout_plan", "change.no_board", "change.no_template", "change.no_trigger",
    "change.self_approved", "change.unapproved", "change.unreviewed", "corrective_action.came_back",
    "corrective_action.no_cause", "corrective_action.not_contained", "corrective_action.unverified",
    "problem.no_cause", "problem.not_assessed", "problem.skipped_analysis", "problem.wrong_priority",
    "request.nobody_asked", "request.not_worked", "request.self_approved",
}  # fmt: skip
BOARD = {"712020:b01", "712020:b02", "712020:b03"}
ROLES = ("creator", "reporter", "assignee")
NOW = 1_790_000_000_000
DAY = 86_400_000


class Unjudged:
    """Other tests hold what the site says against the vendor's document."""

    def request(self, method: str, path: str, body: Any) -> bool:
        return False

    def response(self, method: str, path: str, status: int, body: Any) -> bool:
        return False


def lively(now: int = NOW, seed: int = 7, days: int = 100) -> tuple[Site, Lively]:
    configuration, _ = read_site(DATA)
    site = Site(configuration, 0)
    return site, Lively(site, now, seed=seed, days=days, per_day=16, tempo=2)


@pytest.fixture(scope="module")
def desk() -> tuple[Site, Lively]:
    return lively()


@pytest.fixture(scope="module")
def busy() -> Iterator[Client]:
    with Client(serve(options=OPTIONS), Unjudged()) as client:
        yield client


@pytest.fixture(scope="module")
def found(busy: Client) -> dict[str, dict[str, Any]]:
    """Key -> fields of all issues."""
    issues: list[Any] = []
    query = {"jql": "project in (ITSM, CAPA) ORDER BY created", "fields": ["*all"], "maxResults": 1000}
    answer = busy.post("search/jql", query)
    while issues := [*issues, *answer["issues"]]:
        if "nextPageToken" not in answer:
            return {each["key"]: each["fields"] for each in issues}
        answer = busy.post("search/jql", {**query, "nextPageToken": answer["nextPageToken"]})
    return {}


@pytest.fixture(scope="module")
def planted(busy: Client) -> dict[str, set[str]]:
    return {kind: set(keys) for kind, keys in busy.ledger()["planted"].items()}


def of(desk: tuple[Site, Lively], kind: str) -> dict[str, Any]:
    """Key -> issue of that type."""
    return {each.key: each for each in desk[0].issues() if each.values["issuetype"] == kind}


def passed(issue: Any) -> list[str]:
    """Ids of the statuses that were entered, in order."""
    items = (item for history in issue.histories for item in history["items"])
    return [item["to"] for item in items if item.get("fieldId") == "status"]


def entered(issue: Any, status: str) -> int:
    """When it was first entered."""
    return next(
        history["created"]
        for history in issue.histories
        for item in history["items"]
        if item.get("fieldId") == "status" and item["to"] == status
    )


# --- the history ------------------------------------------------------------------------------------------------------


def test_months_of_work_are_made_in_a_moment() -> None:
    started = time.process_time()
    site, made = lively()
    assert time.process_time() - started < 3
    kinds = Counter(issue.values["issuetype"] for issue in site.issues())
    assert {
        "10101": False,
        "10102": True,
        "10103": True,
        "10104": True,
        "10105": True,
        "10106": True,
        "10000": True,
    } == {kind: kinds[kind] > 50 for kind in ("10101", "10102", "10103", "10104", "10105", "10106", "10000")}
    assert 1_300 < kinds.total() < 2_000
    assert KINDS == made.planted.keys()
    assert max(issue.values["updated"] for issue in site.issues()) <= NOW


@pytest.mark.parametrize("days_on", range(0, 30, 3))
def test_each_closed_month_has_corrective_actions_that_skip_containment(days_on: int) -> None:
    """Whatever day it is, the demonstration has enough of them to open a ticket: five in a month that is over."""
    site, made = lively(NOW + days_on * DAY)
    months = Counter(
        time.strftime("%Y-%m", time.gmtime(entered(issue, "10024") / 1000))
        for key in made.planted["corrective_action.not_contained"]
        if (issue := site.issue(key)) and "10024" in passed(issue)
    )
    del months[time.strftime("%Y-%m", time.gmtime(NOW / 1000 + days_on * 86_400))]
    assert max(months.values()) >= 5


def test_the_same_seed_makes_the_same_desk() -> None:
    def made(seed: int) -> tuple[Mapping[str, Any], list[Any]]:
        site, desk = lively(seed=seed, days=15)
        return desk.planted, [(issue.key, issue.values, issue.histories, issue.approvals) for issue in site.issues()]

    first = made(3)
    assert first == made(3)
    assert first != made(4)


def test_histories_lead_to_what_the_issues_say(desk: tuple[Site, Lively]) -> None:
    site, _ = desk
    for issue in site.issues():
        walked: dict[str, str] = {}
        for history in issue.histories:
            assert issue.values["created"] <= history["created"] <= NOW
            for item in history["items"]:
                if item.get("fieldId") in ("status", "resolution", "assignee"):
                    assert walked.get(item["fieldId"], item["from"]) == item["from"]
                    walked[item["fieldId"]] = item["to"]
        assert walked == {name: issue.values[name] for name in walked}
        assert [each["created"] for each in issue.histories] == sorted(each["created"] for each in issue.histories)


def test_each_step_is_one_of_the_workflow(desk: tuple[Site, Lively]) -> None:
    site, _ = desk
    for issue in site.issues():
        use = site.configuration.projects[issue.project].types[issue.values["issuetype"]]
        edges = {
            (source, each.to.id)
            for each in use.workflow.transitions
            for source in each.sources or [status.id for status in use.workflow.statuses]
        }
        way = [use.workflow.statuses[0].id, *passed(issue)]
        assert set(pairwise(way)) <= edges


def test_approvals_are_answered_by_those_who_were_asked(desk: tuple[Site, Lively]) -> None:
    asked = Counter()
    for issue in desk[0].issues():
        for approval in issue.approvals:
            asked[approval["name"]] += 1
            assert issue.values["created"] <= approval["created"] <= (approval["completed"] or NOW) <= NOW
            if approval["name"] == "Awaiting CAB approval":
                assert {each["by"] for each in approval["approvers"]} == BOARD
    assert asked.keys() == {"Waiting for approval", "Peer review / change manager approval", "Awaiting CAB approval"}
    assert min(asked.values()) > 80


def test_people_have_addresses(desk: tuple[Site, Lively]) -> None:
    site, _ = desk
    involved = {issue.values.get(role) for issue in site.issues() for role in ROLES} - {None}
    assert len(involved) > 25
    assert all((site.configuration.users[each].email or "").endswith("@example.com") for each in involved)


def test_counterparts_are_numbers_that_the_other_system_has_by_then(desk: tuple[Site, Lively]) -> None:
    named = {issue.values.get("customfield_10219"): issue.values["created"] for issue in of(desk, "10104").values()}
    del named[None]
    assert len(named) > 20
    assert all(re.fullmatch(r"INC\d{7}", number) for number in named)
    order = sorted(named, key=lambda number: named[number])
    assert 10_001 <= int(order[0][3:]) < int(order[-1][3:]) < 10_001 + 31 * 100


# --- what was planted shows, and nothing else -------------------------------------------------------------------------


def test_what_was_planted_in_approvals_of_changes_shows(desk: tuple[Site, Lively]) -> None:
    _, made = desk
    changes = {key: issue for key, issue in of(desk, "10104").items() if issue.values["status"] == "10006"}

    def approvers(issue: Any, name: str = "") -> set[str]:
        given = (one for each in issue.approvals if name in each["name"] for one in each["approvers"])
        return {one["by"] for one in given if one["decision"] == "approved"}

    def those(kind: str) -> set[str]:
        return set(made.planted[f"change.{kind}"]) & changes.keys()

    normal = {key for key, issue in changes.items() if _is(issue, "10322")}
    emergency = {key for key, issue in changes.items() if _is(issue, "10323")}
    board = {key: approvers(issue, "CAB") for key, issue in changes.items()}
    boarded = {key for key in normal if "10017" in passed(changes[key])}
    assert those("self_approved") == {k for k, issue in changes.items() if issue.values["reporter"] in approvers(issue)}
    doers = {key for key, issue in changes.items() if issue.values["assignee"] in approvers(issue)}
    assert those("approved_by_implementer") == doers
    assert those("no_board") == normal - boarded
    assert those("board_incomplete") == {key for key in boarded if board[key] != BOARD}
    assert those("unapproved") == {key for key in emergency if not board[key]}
    late = {
        key
        for key in normal | emergency
        if board[key] == BOARD and changes[key].approvals[-1]["completed"] > entered(changes[key], "10019")
    }
    assert those("approved_after_start") == late & normal
    days_late = {key for key in late if changes[key].approvals[-1]["completed"] > entered(changes[key], "10019") + DAY}
    assert those("approved_after_days") == days_late & emergency
    # an emergency that is approved within a day after its start is legal
    assert (late & emergency) - days_late


def _is(issue: Any, track: str) -> bool:
    return issue.values["customfield_10203"] == track and not issue.values.get("customfield_10227")


def test_what_was_planted_elsewhere_in_changes_shows(desk: tuple[Site, Lively]) -> None:
    site, made = desk
    changes = {key: issue for key, issue in of(desk, "10104").items() if issue.values["status"] == "10006"}

    def those(kind: str) -> set[str]:
        return set(made.planted[f"change.{kind}"]) & changes.keys()

    def reviewed(issue: Any) -> bool:
        tasks = (each.values for each in site.children(issue))
        done = any(each["customfield_10223"] == "10383" and each["status"] == "10004" for each in tasks)
        return done or bool(issue.values.get("customfield_10225"))

    standard = {key: issue for key, issue in changes.items() if _is(issue, "10321")}
    emergency = {key: issue for key, issue in changes.items() if _is(issue, "10323")}
    assert those("no_template") == {k for k, each in standard.items() if not each.values.get("customfield_10224")}
    assert those("no_trigger") == {
        key
        for key, issue in emergency.items()
        if not issue.values.get("customfield_10219") and not _linked(site, issue, "10505")
    }
    assert those("no_backout_plan") == {
        key for key, issue in changes.items() if key not in standard and not issue.values.get("customfield_10209")
    }
    unauthorised = {key for key, issue in changes.items() if issue.values.get("customfield_10227")}
    failed = {key for key, issue in changes.items() if issue.values["resolution"] != "10401"}
    assert those("unreviewed") == {k for k in failed | emergency.keys() | unauthorised if not reviewed(changes[k])}


def _linked(site: Site, issue: Any, kind: str) -> bool:
    return any(link.type == kind and link.inward == issue.id for link in site.links(issue))


def test_what_was_planted_in_problems_and_requests_shows(desk: tuple[Site, Lively]) -> None:
    _, made = desk
    problems = {key: issue for key, issue in of(desk, "10103").items() if issue.values["status"] == "10006"}
    real = {key for key, issue in problems.items() if issue.values["resolution"] != "10403"}

    def those(kind: str, keys: Any) -> set[str]:
        return set(made.planted[kind]) & set(keys)

    assert those("problem.no_cause", real) == {key for key in real if not problems[key].values.get("customfield_10211")}
    assert those("problem.not_assessed", real) == {key for key in real if "10013" not in passed(problems[key])}
    assert those("problem.skipped_analysis", real) == {key for key in real if "10014" not in passed(problems[key])}
    requests = {**of(desk, "10102"), **of(desk, "10105")}
    closed = {key: issue for key, issue in requests.items() if "10011" in passed(issue)}
    assert those("request.not_worked", closed) == {key for key in closed if "10009" not in passed(closed[key])}
    needing = {key: issue for key, issue in closed.items() if issue.values["issuetype"] == "10105"}
    assert those("request.nobody_asked", closed) == {key for key in needing if not needing[key].approvals}
    own = {
        key
        for key, issue in needing.items()
        if {"by": issue.values["reporter"], "decision": "approved"}
        in [one for each in issue.approvals for one in each["approvers"]]
    }
    assert those("request.self_approved", closed) == own


def test_legal_look_alikes_are_there(desk: tuple[Site, Lively]) -> None:
    def ways(*kinds: str) -> set[str]:
        return {status for kind in kinds for issue in of(desk, kind).values() for status in passed(issue)}

    declined, cancelled, waiting, escalated = "10020", "10005", "10008", "10010"
    assert {declined, cancelled, waiting, escalated} <= ways("10102", "10105")
    assert {declined, cancelled, "10003"} <= ways("10104")
    assert {"10028", "10029"} <= ways("10000")
    outcomes = {issue.values.get("resolution") for issue in of(desk, "10103").values()}
    assert {"10401", "10402", "10403", "10404"} <= outcomes


# --- over the wire ----------------------------------------------------------------------------------------------------


def test_search_finds_the_desk_with_its_links_and_clocks(
    found: Mapping[str, Any], planted: dict[str, set[str]]
) -> None:
    assert set().union(*planted.values()) <= found.keys()
    assert any(link["type"]["id"] == "10505" for each in found.values() for link in each["issuelinks"])
    asked = [each for each in found.values() if each["issuetype"]["id"] in ("10102", "10105")]
    breached = Counter(cycle["breached"] for each in asked for cycle in each["customfield_10214"]["completedCycles"])
    assert breached[False] > breached[True] > 5


def test_pages_and_an_approval_can_be_looked_at(busy: Client, found: Mapping[str, Any]) -> None:
    key = next(key for key, each in found.items() if each["issuetype"]["id"] == "10105")
    assert found[key]["summary"] in busy.session.get(f"{busy.url}/browse/{key}", timeout=10).text
    answer = busy.call("GET", f"/rest/servicedeskapi/request/{key}/approval")
    assert answer.status_code == 200


def test_data_center_shows_the_same_desk() -> None:
    with DataCenterClient(serve(options={**OPTIONS, "edition": "datacenter", "days": "5"}), Unjudged()) as client:
        changes = client.search("issuetype = '[System] Change'")
        assert changes
        assert client.get(f"issue/{changes[0]}")["fields"]["assignee"]["name"]


# --- and it goes on ---------------------------------------------------------------------------------------------------


def test_something_happens_at_each_beat(desk: tuple[Site, Lively]) -> None:
    site, made = lively(days=10)
    before = site.tally.total()
    for beat in range(1, 301):
        made.go_on(NOW + beat * 2_000)
    assert site.tally.total() >= before + 300
    young = [issue for issue in site.issues() if issue.values["created"] > NOW]
    assert {"10000", "10103", "10104"} <= {issue.values["issuetype"] for issue in young}
    assert max(issue.values["updated"] for issue in site.issues()) <= NOW + 300 * 2_000


def test_a_desk_that_nobody_looked_at_does_not_run_away() -> None:
    site, made = lively(days=2)
    before = site.tally["create"]
    made.go_on(NOW + DAY)
    assert site.tally["create"] < before + 40
    at = site.tally.total()
    made.go_on(NOW + DAY)
    assert at == site.tally.total()


def test_stories_end_where_somebody_else_has_a_hand_in_their_issue() -> None:
    site, made = lively(days=10)
    for issue in list(site.issues()):
        if not issue.values.get("resolution"):
            site.record({"do": "delete", "issue": issue.id, "at": NOW, "by": "712020:a01"})
    made.go_on(NOW + 30 * DAY)
    assert all(issue.values["updated"] <= NOW + 30 * DAY for issue in site.issues())


def test_what_is_new_can_be_searched_at_once() -> None:
    with Client(serve(options={**OPTIONS, "days": "2", "live": "true", "tempo": "0.01"}), Unjudged()) as client:
        deadline = time.monotonic() + 20
        started = client.post("search/approximate-count", {"jql": "project = ITSM"})["count"]
        while client.post("search/approximate-count", {"jql": "project = ITSM"})["count"] <= started + 5:
            assert time.monotonic() < deadline
        assert client.ledger()["transitioned"] > 0


def test_what_cannot_be_is_refused(tmp_path: Any) -> None:
    for wrong, told in (
        ({"state": str(tmp_path / "state")}, "cannot be kept"),
        ({"desk": "busy"}, "quiet or lively"),
        ({"tempo": "0"}, "seconds from 0.001"),
    ):
        with pytest.raises(ValueError, match=told):
            _never(serve(options={**OPTIONS, **wrong}))


def _never(site: Simulator) -> None:
    site.stop()
