"""The change management API: ``/api/sn_chg_rest/change/…``, of which a client of records needs a few addresses.

==========================  =======================================================================================
``GET change``              changes, as the Table API lists them
``GET change/{id}``         one change
``GET change/{id}/task``    its tasks; ``POST`` makes one
``GET change/{id}/ci``      its affected configuration items
``…/{id}/nextstates``       what its model offers from here, and which conditions stand in the way
``PATCH …/{id}/approvals``  answers the caller's own open approval with ``{"state": …, "comments": …}``
``GET change/model``        the change models; ``model/{id}`` one of them
==========================  =======================================================================================

Every field of every record is an object with ``display_value`` and ``value``. Parameters and errors are those of
:mod:`.table_api`; the effect of an answer is left to :mod:`.approvals`.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import orjson

from connectors.servicenow.simulator.changes import Transition, transitions
from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.models import LABELS
from connectors.servicenow.simulator.table_api import Reply, Request, TableApi, failure
from connectors.servicenow.simulator.tables import Row

_PATH = re.compile(r"/api/sn_chg_rest(?:/v1)?/change(?:/(?P<model>model)(?:/(?P<which>[^/]+))?"
                   r"|/(?P<change>[^/]+)(?:/(?P<part>task|ci|nextstates|approvals))?)?/?")  # fmt: skip
_ABSENT = ("Invalid sys_id", "Change Request does not exist or is not readable")


class ChangeApi:
    """Answers requests below ``/api/sn_chg_rest/change`` through the Table API's rules."""

    def __init__(self, desk: Desk, tables: TableApi) -> None:
        self._desk = desk
        self._tables = tables

    def answer(self, request: Request) -> Reply:
        """Serve an authenticated request."""
        match = _PATH.fullmatch(request.path)
        if match is None:
            return failure(400, "Requested URI does not represent any resource", request.path)
        with self._desk.lock:
            self._desk.tick()
            if match["model"]:
                return self._rows(request, "chg_model", match["which"] or "")
            if not match["part"]:
                return self._rows(request, "change_request", match["change"] or "")
            return self._part(request, match["change"], match["part"])

    def _part(self, request: Request, change: str, part: str) -> Reply:
        access = self._desk.access
        row = None if access.hides("change_request", change) else self._desk.tables["change_request"].rows.get(change)
        if row is None or "change_request" in access.deny_tables:
            return failure(404, *_ABSENT)
        serve: dict[tuple[str, str], Callable[[], Reply]] = {
            ("GET", "nextstates"): lambda: Reply(200, orjson.dumps({"result": _next_states(self._desk, row)})),
            ("GET", "task"): lambda: self._related(request, "change_task", f"change_request={change}"),
            ("POST", "task"): lambda: self._new_task(request, change),
            ("GET", "ci"): lambda: self._related(request, "task_ci", f"task={change}"),
            ("PATCH", "approvals"): lambda: self._decide(request, change),
        }
        served = serve.get((request.method, part))
        return served() if served else failure(405, "Method not supported", f"{request.method} not supported")

    def _rows(self, request: Request, table: str, sys_id: str) -> Reply:
        if request.method != "GET":
            return failure(405, "Method not supported", f"{request.method} not supported")
        return self._ask(request, f"{table}/{sys_id}" if sys_id else table, request.query)

    def _related(self, request: Request, table: str, query: str) -> Reply:
        return self._ask(request, table, f"sysparm_query={query}^ORDERBYsys_created_on^ORDERBYsys_id")

    def _new_task(self, request: Request, change: str) -> Reply:
        """The Table API's insert with the change filled in; a body that it would refuse is left to it as it is."""
        try:
            sent = orjson.loads(request.body or b"{}")
        except orjson.JSONDecodeError:
            sent = None
        body = {**sent, "change_request": change, "parent": change} if isinstance(sent, dict) else None
        made = self._ask(replace(request, body=orjson.dumps(body) if body else request.body), "change_task", "")
        return replace(made, status=200, headers={}) if made.status == 201 else made

    def _decide(self, request: Request, change: str) -> Reply:
        table = self._desk.tables["sysapproval_approver"]
        asked = self._desk.related(table.name, "sysapproval", change)
        own = [
            row
            for row in asked
            if table.get(row, "approver") == self._desk.account_id and table.get(row, "state") == "requested"
        ]
        if not own:
            return failure(400, "No approval is requested of this user", change)
        return self._ask(request, f"{table.name}/{table.get(own[0], 'sys_id')}", "")

    def _ask(self, request: Request, place: str, query: str) -> Reply:
        """The Table API's answer with every field as an object."""
        asked = "&".join(
            part for part in (query, "sysparm_display_value=all", "sysparm_exclude_reference_link=true") if part
        )
        return self._tables.answer(replace(request, path=f"/api/now/table/{place}", query=asked))


def _next_states(desk: Desk, change: Row) -> dict[str, Any]:
    """The configured next states, those included whose conditions do not hold yet, and the present one."""
    steps = transitions(desk, change)
    state = desk.tables["change_request"].get(change, "state")
    states = list(dict.fromkeys([*(step.target for step in steps), state]))
    grouped = [list(group) for _, group in groupby(steps, key=lambda step: step.target)]
    return {
        "available_states": states,
        "state_transitions": [[_shown(step) for step in group] for group in grouped],
        "state_label": {state: LABELS.get(state, state) for state in states},
    }


def _shown(step: Transition) -> dict[str, Any]:
    ends = (LABELS.get(state, state) for state in (step.source, step.target))
    return {
        "sys_id": step.sys_id,
        "display_value": " to ".join(ends),
        "from_state": step.source,
        "to_state": step.target,
        "transition_available": step.available,
        "automatic_transition": step.automatic,
        "conditions": [
            {"passed": passed, "condition": {"name": name, "description": None, "sys_id": sys_id}}
            for sys_id, name, passed in step.conditions
        ],
    }
