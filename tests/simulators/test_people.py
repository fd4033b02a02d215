"""What people do past the API of either simulator, at any stamp, and the books of all that was issued."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.jira.simulator import serve as serve_jira
from connectors.servicenow.simulator import serve as serve_servicenow

TEN, LATER = "2026-07-05 10:00:00", "2026-07-05 10:00:01"
BOT, OLGA = "5b10ac8d82e05b22cc7d4e01", "5b10ac8d82e05b22cc7d4e02"


class Site:
    """The simulator's own addresses."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        answer = requests.post(f"{self.url}/_sim/{path}", json=body, timeout=5)
        assert status == answer.status_code, answer.text
        return answer.json()

    def issued(self, query: str = "") -> Any:
        return requests.get(f"{self.url}/_sim/issued{query}", timeout=5).json()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


@pytest.fixture
def servicenow(stack: ExitStack) -> Site:
    simulator = serve_servicenow()
    stack.callback(simulator.stop)
    return Site(simulator.url)


@pytest.fixture
def jira(stack: ExitStack) -> Site:
    simulator = serve_jira(data=[Path("itsm")])
    stack.callback(simulator.stop)
    return Site(simulator.url)


def test_a_save_of_the_past_is_in_the_books_with_its_own_stamp(servicenow: Site) -> None:
    made = servicenow.post("act", {"table": "incident", "by": "ann", "values": {"state": 1}, "at": LATER})["sys_id"]
    saved = {"table": "incident", "by": "ann", "sys_id": made, "values": {"state": "2"}, "at": TEN}
    assert made == servicenow.post("act", saved)["sys_id"]
    issued = servicenow.issued("?incident")
    assert {"incident": {made: ["1", TEN]}} == issued["records"]
    assert [["incident", made, "state", TEN]] == list(issued["audit"].values())
    assert {} == servicenow.issued("?problem")["audit"]


def test_a_delete_is_in_the_books(servicenow: Site) -> None:
    made = servicenow.post("act", {"table": "incident", "by": "ann"})["sys_id"]
    servicenow.post("act", {"table": "incident", "by": "ann", "sys_id": made, "delete": True})
    issued = servicenow.issued("?incident")
    assert ({"incident": {}}, [["incident", made]]) == (issued["records"], issued["deleted"])


def test_nobody_saves_what_is_not_there(servicenow: Site) -> None:
    servicenow.post("act", {"table": "incident", "by": "ann", "sys_id": "0" * 32}, status=400)
    servicenow.post("act", {"table": "nowhere", "by": "ann"}, status=400)


def test_an_instance_s_clock_can_be_moved(servicenow: Site) -> None:
    before = servicenow.post("clock", {"advance": 0})["now"]
    assert 3600 <= servicenow.post("clock", {"advance": 3600})["now"] - before < 3700


def test_issues_are_changed_by_anybody_at_any_instant(jira: Site) -> None:
    fields = {"project": {"key": "ITSM"}, "issuetype": {"id": "10101"}, "summary": "Mail is slow"}
    made = jira.post("act", {"do": "create", "body": {"fields": fields}, "by": OLGA, "at": 5000})["id"]
    jira.post("act", {"do": "transition", "issue": made, "body": {"to": "Work in progress"}, "by": OLGA, "at": 4000})
    jira.post("act", {"do": "comment", "issue": made, "body": {"body": "Soon."}, "by": BOT, "at": 4000})
    (issue,) = jira.issued()["issues"].values()
    assert (4000, [1], 1) == (issue["updated"], list(issue["histories"].values()), len(issue["comments"]))
    jira.post("act", {"do": "delete", "issue": made, "by": OLGA})
    assert {} == jira.issued()["issues"]


def test_people_cannot_do_at_issues_what_the_workflow_forbids(jira: Site) -> None:
    fields = {"project": {"key": "ITSM"}, "issuetype": {"id": "10101"}, "summary": "Mail is slow"}
    made = jira.post("act", {"do": "create", "body": {"fields": fields}, "by": OLGA})["id"]
    jira.post("act", {"do": "transition", "issue": made, "body": {"to": "Closed"}, "by": OLGA}, status=400)
    jira.post("act", {"do": "comment", "issue": "1", "body": {"body": "?"}, "by": OLGA}, status=404)
