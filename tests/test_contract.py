"""The contract suite on every connector of ours. Copy one class to begin with a connector of your own."""

import json
from collections.abc import Callable, Iterator
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


class TestServiceNow(ConnectorContract):
    """A source and a target."""

    @pytest.fixture
    def case(self) -> Case:
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

    @pytest.fixture
    def simulator_url(self, case: Case, tmp_path: Path) -> Iterator[str]:
        data = tmp_path / "desk.json"
        data.write_text(json.dumps(_desk()), "utf-8")
        simulator = serve_servicenow(data=[data], options={"password": case.credential["password"]})
        yield simulator.url
        simulator.stop()
