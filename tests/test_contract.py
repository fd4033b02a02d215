"""The contract suite on every connector of ours. Copy one class to begin with a connector of your own."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.jira.connector import PLUGIN as JIRA
from connectors.jira.simulator import serve as serve_jira
from connectors.servicenow.connector import PLUGIN as SERVICENOW
from connectors.servicenow.simulator import serve as serve_servicenow
from itsms_sync.records import Window
from itsms_sync.testing import Case, ConnectorContract


class TestJira(ConnectorContract):
    """A target whose search lags behind its writes."""

    @pytest.fixture
    def case(self) -> Case:
        return Case(
            plugin=JIRA,
            options={"project": "CAPA", "issue_type": "Corrective action", "index_lag": 30},
            credential={"username": "bot@example.com", "token": "ATATT3xFfGF0" + "this-test" * 20},
            wrong_credential={"username": "bot@example.com", "token": "ATATT3lAsT0" + "last-year" * 20},
            powerless={"project": "HIDDEN"},
            creates=lambda method, target: method == "POST" and target.endswith("/issue"),
        )

    @pytest.fixture
    def simulator_url(self, case: Case) -> Iterator[str]:
        simulator = serve_jira(options={"token": case.credential["token"], "search_lag": "30"})
        yield simulator.url
        simulator.stop()

    @pytest.fixture
    def settle(self, simulator_url: str) -> Callable[[float], None]:
        def advance(seconds: float) -> None:
            requests.post(simulator_url + "/_sim/clock", json={"advance": seconds}, timeout=5)

        return advance


def _site() -> dict[str, Any]:
    """Thirty issues in ten seconds, so that stamps tie over the borders of pages; each was changed twice."""
    people = [
        {"accountId": f"beef0{n}", "displayName": f"Petra Person {n}", "name": f"petra.person{n}", "key": f"beef0{n}"}
        for n in range(3)
    ]
    issues = [
        {
            "key": f"ITSM-{n + 1}",
            "id": 20000 + n,
            "type": "10101",
            "status": "10004",
            "priority": "Medium",
            "assignee": people[n % 3]["accountId"],
            "summary": f"The printer of Petra Person {n % 3} smokes",
            "description": "unasked-and-private",
            "created": "2026-07-05T08:00:00Z",
            "updated": f"2026-07-05T10:46:{n // 3:02d}Z",
            "history": [
                {
                    "at": f"2026-07-05T10:{45 + step}:{n // 3:02d}Z",
                    "by": people[n % 3]["accountId"],
                    "items": [{"field": "status", "from": ("10001", "10002")[step], "to": ("10002", "10004")[step]}],
                }
                for step in range(2)
            ],
            "slas": [{"metric": 1, "goal": "PT4H", "ongoing": {"start": "2026-07-05T08:00:00Z"}}],
            "approvals": [
                {
                    "name": "Waiting for approval",
                    "created": f"2026-07-05T10:46:{n // 3:02d}Z",
                    "decision": "pending",
                    "approvers": [{"by": person["accountId"], "decision": "pending"} for person in people[:2]],
                }
            ],
        }
        for n in range(30)
    ]
    return {"users": people, "issues": issues}


def _jira(credential: tuple[dict[str, str], dict[str, str]], **options: Any) -> Case:
    reading = {"projects": ["ITSM"], "issue_type": "Corrective action", **options}
    return Case(
        plugin=JIRA,
        options={**reading, "project": "CAPA"},
        credential=credential[0],
        wrong_credential=credential[1],
        powerless={**reading, "project": "HIDDEN"},
        creates=lambda method, target: method == "POST" and target.endswith("/issue"),
        kind="issue",
        window=Window(("status", "priority", "assignee", "summary"), {}, 60_000, 7),
        unasked=("unasked-and-private",),
        persons=("Petra", "petra.person", "beef0"),
    )


class TestJiraSource(ConnectorContract):
    """A source and a target: one project is read, tickets are kept in another."""

    @pytest.fixture
    def credential(self) -> tuple[dict[str, str], dict[str, str]]:
        """The right one and a wrong one."""
        own = {"username": "bot@example.com"}
        return {**own, "token": "ATATT3xFfGF0" + "this-test" * 20}, {**own, "token": "ATATT3lAsT0" + "last-year" * 20}

    @pytest.fixture
    def case(self, credential: tuple[dict[str, str], dict[str, str]]) -> Case:
        return _jira(credential)

    @pytest.fixture
    def options(self, case: Case) -> dict[str, str]:
        return {"token": case.credential["token"]}

    @pytest.fixture
    def simulator_url(self, options: dict[str, str], tmp_path: Path) -> Iterator[str]:
        data = tmp_path / "site.json"
        data.write_text(json.dumps(_site()), "utf-8")
        simulator = serve_jira(data=[Path("itsm"), data], options=options)
        yield simulator.url
        simulator.stop()


class TestJiraDataCenter(TestJiraSource):
    """The same on the other edition, by a personal access token."""

    @pytest.fixture
    def credential(self) -> tuple[dict[str, str], dict[str, str]]:
        return {"token": "pat-" + "this-test" * 5}, {"token": "pat-" + "last-year" * 5}

    @pytest.fixture
    def options(self, case: Case) -> dict[str, str]:
        return {"edition": "datacenter", "token": case.credential["token"]}


@pytest.mark.slow  # the way in has quick tests of its own
class TestJiraAtGateway(TestJiraSource):
    """The same by a token with scopes, which is good at Atlassian's gateway only."""

    @pytest.fixture
    def case(self, credential: tuple[dict[str, str], dict[str, str]]) -> Case:
        return replace(_jira(credential), path="/ex/jira/8b1f7a3c")

    @pytest.fixture
    def options(self, case: Case) -> dict[str, str]:
        return {"token": case.credential["token"], "cloud_id": "8b1f7a3c", "scoped": "on"}


@pytest.mark.slow  # the way in has quick tests of its own
class TestJiraDataCenterByClient(TestJiraDataCenter):
    """The same by access tokens of OAuth."""

    @pytest.fixture
    def credential(self) -> tuple[dict[str, str], dict[str, str]]:
        client = {"grant": "client_credentials", "client_id": "itsms-client"}
        return {**client, "client_secret": "of-this-test" * 2}, {**client, "client_secret": "of-last-year" * 2}

    @pytest.fixture
    def options(self, case: Case) -> dict[str, str]:
        return {"edition": "datacenter", "client_secret": case.credential["client_secret"]}


class TestJiraApprovals(TestJiraSource):
    """What each request answers about its approvals. All are pending, so each poll reads them again."""

    @pytest.fixture
    def case(self, credential: tuple[dict[str, str], dict[str, str]]) -> Case:
        window = Window(("approver", "decision", "completed"), {}, 60_000, 7)
        return replace(_jira(credential), kind="approval", window=window)


@pytest.mark.slow  # the same on Cloud is quick enough
class TestJiraDataCenterApprovals(TestJiraApprovals, TestJiraDataCenter):
    """The same on the other edition."""


@pytest.mark.slow  # they come with the issues
class TestJiraServiceLevels(TestJiraSource):
    """Service levels that come with the issues. All run, so each poll reads them again; they name nobody."""

    @pytest.fixture
    def case(self, credential: tuple[dict[str, str], dict[str, str]]) -> Case:
        window = Window(("name", "ongoing", "breached"), {}, 60_000, 7)
        case = _jira(credential, sla_fields=["customfield_10214"])
        return replace(case, kind="sla", window=window, persons=())


class TestJiraDataCenterServiceLevels(TestJiraServiceLevels, TestJiraDataCenter):
    """The same on the other edition."""


def _sys_id(kind: str, number: int) -> str:
    return f"{kind}{number:0{32 - len(kind)}x}"


def _desk() -> dict[str, Any]:
    """Thirty incidents in ten seconds, so that stamps tie over the borders of pages; each was changed twice."""
    people = [
        {"sys_id": _sys_id("beef", n), "user_name": f"petra.person{n}", "name": f"Petra {n}", "active": True}
        for n in range(3)
    ]
    incidents, audit = [], []
    for n in range(30):
        at, person = f"2026-07-05 10:46:{n // 3:02d}", people[n % 3]
        incidents.append(
            {
                "sys_id": _sys_id("1c", n),
                "number": f"INC{n:07d}",
                "state": "6",
                "priority": "3",
                "assigned_to": person["sys_id"],
                "short_description": f"The printer of Petra {n % 3} smokes",
                "description": "unasked-and-private",
                "sys_created_on": "2026-07-05 08:00:00",
                "sys_created_by": person["user_name"],
                "sys_updated_on": at,
                "sys_mod_count": 2,
            }
        )
        for checkpoint, (field, old, new) in enumerate(
            (("state", "1", "6"), ("description", "", "unasked-and-private"))
        ):
            audit.append(
                {
                    "sys_id": _sys_id("a0d1", 2 * n + checkpoint),
                    "tablename": "incident",
                    "documentkey": _sys_id("1c", n),
                    "fieldname": field,
                    "oldvalue": old,
                    "newvalue": new,
                    "user": person["user_name"],
                    "record_checkpoint": checkpoint + 1,
                    "sys_created_on": at,
                }
            )
    return {
        "tables": {"sys_user": people, "incident": incidents, "sys_audit": audit},
        "access": {"deny_writes": {"problem": ["insert"]}},
    }


def _servicenow() -> Case:
    return Case(
        plugin=SERVICENOW,
        options={},
        credential={"username": "itsms", "password": "pass-of-this-test"},
        wrong_credential={"username": "itsms", "password": "pass-of-last-year"},
        powerless={"table": "problem"},
        creates=lambda method, target: method == "POST" and "/table/" in target,
        window=Window(("state", "priority", "assigned_to", "short_description"), {}, 60_000, 7),
        unasked=("unasked-and-private",),
        persons=("petra.person", "beef0"),
    )


class TestServiceNow(ConnectorContract):
    """A source and a target."""

    @pytest.fixture
    def case(self) -> Case:
        return _servicenow()

    @pytest.fixture
    def options(self, case: Case) -> dict[str, str]:
        return {"password": case.credential["password"]}

    @pytest.fixture
    def simulator_url(self, options: dict[str, str], tmp_path: Path) -> Iterator[str]:
        data = tmp_path / "desk.json"
        data.write_text(json.dumps(_desk()), "utf-8")
        simulator = serve_servicenow(data=[data], options=options)
        yield simulator.url
        simulator.stop()


@pytest.mark.slow  # the way in has quick tests of its own
class TestServiceNowByClient(TestServiceNow):
    """The same by access tokens of OAuth."""

    @pytest.fixture
    def case(self) -> Case:
        client = {"grant": "client_credentials", "client_id": "itsms-client"}
        right, wrong = ({**client, "client_secret": f"secret-of-{year}"} for year in ("this-test", "last-year"))
        return replace(_servicenow(), credential=right, wrong_credential=wrong)

    @pytest.fixture
    def options(self, case: Case) -> dict[str, str]:
        return {"client_secret": case.credential["client_secret"], "basic": "restricted"}


@pytest.mark.slow  # the way in has quick tests of its own
class TestServiceNowByKey(TestServiceNow):
    """The same by an API key."""

    @pytest.fixture
    def case(self) -> Case:
        right, wrong = ({"api_key": f"key-of-{year}"} for year in ("this-test", "last-year"))
        return replace(_servicenow(), credential=right, wrong_credential=wrong)

    @pytest.fixture
    def options(self, case: Case) -> dict[str, str]:
        return {"api_key": case.credential["api_key"], "basic": "restricted"}


def _changes() -> dict[str, Any]:
    """Twenty changes in five seconds, each saved three times, with a note at the last save; and one improvement."""
    person = {"sys_id": _sys_id("beef", 1), "user_name": "petra.person1", "email": "petra.person1@example.com"}
    changes, audit, notes = [], [], []
    for n in range(20):
        at, change = f"2026-07-05 10:46:{n // 4:02d}", _sys_id("c4", n)
        changes.append(
            {
                "sys_id": change,
                "number": f"CHG{n:07d}",
                "type": "normal",
                "state": "-3",
                "requested_by": person["sys_id"],
                "backout_plan": f"Petra turns switch {n} off",
                "justification": "unasked-and-private",
                "sys_created_on": "2026-07-05 08:00:00",
                "sys_created_by": person["user_name"],
                "sys_updated_on": at,
                "sys_mod_count": 3,
            }
        )
        saves = (("state", "-5", "-4"), ("justification", "", "unasked-and-private"), ("comments", "", "Petra agrees"))
        for checkpoint, (field, old, new) in enumerate(saves, 1):
            audit.append(
                {
                    "sys_id": _sys_id("a0d2", 3 * n + checkpoint),
                    "tablename": "change_request",
                    "documentkey": change,
                    "fieldname": field,
                    "oldvalue": old,
                    "newvalue": new,
                    "user": person["user_name"],
                    "record_checkpoint": checkpoint,
                    "sys_created_on": at,
                }
            )
        for element, text in (("comments", "Petra agrees"), ("work_notes", "unasked-and-private")):
            notes.append(
                {
                    "sys_id": _sys_id("0e" if element == "comments" else "0f", n),
                    "name": "change_request",
                    "element": element,
                    "element_id": change,
                    "value": text,
                    "sys_created_on": at,
                    "sys_created_by": person["user_name"],
                }
            )
    states = [
        {"name": "sn_cim_register", "element": "state", "value": value, "label": label}
        for value, label in (("-7", "New"), ("3", "Accepted"))
    ]
    return {
        "tables": {
            "sys_user": [person],
            "change_request": changes,
            "sys_audit": audit,
            "sys_journal_field": notes,
            "sys_choice": states,
            "sn_cim_register": [{"sys_id": _sys_id("c1", 1), "number": "CIM0000001", "state": "-7"}],
        },
        "access": {"deny_writes": {"problem": ["insert"]}},
    }


class TestServiceNowChanges(ConnectorContract):
    """Changes with their notes as the source, improvement initiatives as the target."""

    @pytest.fixture
    def case(self) -> Case:
        return Case(
            plugin=SERVICENOW,
            options={"table": "sn_cim_register"},
            credential={"username": "itsms", "password": "pass-of-this-test"},
            wrong_credential={"username": "itsms", "password": "pass-of-last-year"},
            powerless={"table": "problem"},
            creates=lambda method, target: method == "POST" and "/table/" in target,
            kind="change_request",
            window=Window(("type", "state", "requested_by", "backout_plan", "comments"), {}, 60_000, 7),
            unasked=("unasked-and-private",),
            persons=("petra.person", "beef0"),
        )

    @pytest.fixture
    def simulator_url(self, case: Case, tmp_path: Path) -> Iterator[str]:
        data = tmp_path / "changes.json"
        data.write_text(json.dumps(_changes()), "utf-8")
        simulator = serve_servicenow(data=[data], options={"password": case.credential["password"]})
        yield simulator.url
        simulator.stop()
