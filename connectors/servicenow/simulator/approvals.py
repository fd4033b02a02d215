"""Approvals: who is asked, what an answer does to the others, and what the sum of answers does to the record.

Who is asked at which stage of a change is data (rows of ``chg_approval_def``); without it nobody is. Approvals of other
records are inserted by whoever wants them, and roll up in the same way.
"""

from collections.abc import Mapping

from connectors.servicenow.simulator.changes import advance
from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import stamp
from connectors.servicenow.simulator.tables import Row, Table

_STAGES = ("-4", "-3")
_APPROVER = "sysapproval_approver"
_GROUP = "sysapproval_group"
_AFTER_REJECTION = {"change_request": "-5", "sc_req_item": "4"}


class Approvals:
    """The approval engine of one instance. Remembers only which approvals a hold has suspended."""

    def __init__(self) -> None:
        self._suspended: dict[str, list[Row]] = {}

    def follow(self, desk: Desk, table: Table, row: Row, olds: Mapping[str, str] | None, by: str, at: float) -> None:
        """React to a save of ``row``; ``olds`` holds what the changed fields were, ``None`` after an insert."""
        if table.name == _APPROVER and olds and "state" in olds:
            _answered(desk, row, by, at)
        if table.name == "change_request" and (olds is None or "state" in olds):
            _entered(desk, row, by, at)
        if table.name == "change_request" and olds and "on_hold" in olds:
            self._held(desk, row, by, at)

    def _held(self, desk: Desk, change: Row, by: str, at: float) -> None:
        """While a change is on hold nobody is asked; afterwards those who were are asked again."""
        changes = desk.tables["change_request"]
        sys_id = changes.get(change, "sys_id")
        if changes.get(change, "on_hold") == "true":
            self._suspended[sys_id] = _open(desk, sys_id)
            _answer_all(desk, self._suspended[sys_id], "not_required", by, at)
        else:
            _answer_all(desk, self._suspended.pop(sys_id, []), "requested", by, at)


def _entered(desk: Desk, change: Row, by: str, at: float) -> None:
    """A change is in another state: what was asked before may lapse, and the new state may ask."""
    changes = desk.tables["change_request"]
    sys_id, state = changes.get(change, "sys_id"), changes.get(change, "state")
    if state in ("-5", "3", "4"):
        _answer_all(desk, _open(desk, sys_id), "cancelled" if state == "4" else "not_required", by, at)
    wanted = _definitions(desk, state, changes.get(change, "type")) if state in _STAGES else []
    turn = str(1 + max((int(_get(desk, row, "iteration") or 0) for row in _asked(desk, sys_id)), default=0))
    for definition in wanted:
        _ask(desk, change, definition, turn, by, at)
    if wanted:
        desk.save(changes, change, {"approval": "requested"}, by, at)


def _definitions(desk: Desk, state: str, kind: str) -> list[Row]:
    table = desk.tables["chg_approval_def"]
    rows = (row for row in table.rows.values() if table.get(row, "state") == state)
    fit = [row for row in rows if table.get(row, "type") in ("", kind) and table.get(row, "active") == "true"]
    return sorted(fit, key=lambda row: int(table.get(row, "order") or 0))


def _ask(desk: Desk, change: Row, definition: Row, turn: str, by: str, at: float) -> None:
    """Ask the user of a definition, or everybody in its group; a blank group is the one that does the change."""
    table, changes = desk.tables["chg_approval_def"], desk.tables["change_request"]
    sys_id = changes.get(change, "sys_id")
    common = {"sysapproval": sys_id, "document_id": sys_id, "source_table": changes.name, "iteration": turn}
    user = table.get(definition, "user")
    group = table.get(definition, "group") or changes.get(change, "assignment_group")
    if not user:
        asked = {"parent": sys_id, "assignment_group": group, "wait_for": table.get(definition, "wait_for")}
        groups = desk.tables[_GROUP]
        common["group"] = groups.get(desk.insert(groups, asked, by, at), "sys_id")
    members = desk.tables["sys_user_grmember"]
    belongs = desk.related(members.name, "group", group)
    for approver in [user] if user else [members.get(row, "user") for row in belongs]:
        desk.insert(desk.tables[_APPROVER], {**common, "approver": approver, "state": "requested"}, by, at)


def _answered(desk: Desk, answer: Row, by: str, at: float) -> None:
    """Settle the group and the stage that an answer belongs to."""
    state = _get(desk, answer, "state")
    found = desk.find("task", _get(desk, answer, "sysapproval"))
    if found is None or state not in ("approved", "rejected"):
        return
    asked = _asked(desk, _get(desk, answer, "sysapproval"))
    stage = [row for row in asked if _get(desk, row, "iteration") == _get(desk, answer, "iteration")]
    group = desk.find(_GROUP, _get(desk, answer, "group"))
    peers = [row for row in stage if _get(desk, row, "group") == _get(desk, answer, "group")]
    if state == "rejected":
        _answer_all(desk, _still_open(desk, stage), "cancelled", by, at)
    elif group is not None and group[0].get(group[1], "wait_for") == "any":
        _answer_all(desk, _still_open(desk, peers), "not_required", by, at)
    if group is not None and not _still_open(desk, peers):
        desk.save(*group, {"approval": state}, by, at)
    if not _still_open(desk, stage):
        _roll_up(desk, *found, state, by, at)


def _roll_up(desk: Desk, table: Table, row: Row, outcome: str, by: str, at: float) -> None:
    values = {"approval": outcome, "approval_set": stamp(at)}
    if outcome == "rejected" and table.name in _AFTER_REJECTION:
        values["state"] = _AFTER_REJECTION[table.name]
    desk.save(table, row, values, by, at)
    if outcome == "approved" and table.name == "change_request" and table.get(row, "state") in _STAGES:
        advance(desk, row, by, at)


def _asked(desk: Desk, sys_id: str) -> list[Row]:
    return desk.related(_APPROVER, "sysapproval", sys_id)


def _open(desk: Desk, sys_id: str) -> list[Row]:
    return _still_open(desk, _asked(desk, sys_id))


def _still_open(desk: Desk, rows: list[Row]) -> list[Row]:
    return [row for row in rows if _get(desk, row, "state") == "requested"]


def _answer_all(desk: Desk, rows: list[Row], state: str, by: str, at: float) -> None:
    for row in rows:
        desk.save(desk.tables[_APPROVER], row, {"state": state}, by, at)


def _get(desk: Desk, row: Row, column: str) -> str:
    return desk.tables[_APPROVER].get(row, column)
