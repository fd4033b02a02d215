"""The seeded desk as the rows of a stock ServiceNow instance: records, their complete audit, approvals, change tasks.

Writes the format of the simulator's data files and imports nothing of it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tests.seeded.desk import Approval, Desk, Person, Record, Save, Task

TABLES = {"incident": "incident", "service_request": "sc_req_item", "problem": "problem", "change": "change_request"}
_PREFIXES = {"incident": "INC", "service_request": "RITM", "problem": "PRB", "change": "CHG"}
_STATES = {
    "incident": {"new": "1", "work": "2", "hold": "3", "resolved": "6", "closed": "7", "cancelled": "8"},
    "service_request": {"new": "1", "hold": "-5", "work": "2", "closed": "3", "incomplete": "4", "cancelled": "7"},
    "problem": {"new": "101", "assess": "102", "rca": "103", "fix": "104", "resolved": "106", "closed": "107"},
    "change": {
        "new": "-5",
        "assess": "-4",
        "authorise": "-3",
        "scheduled": "-2",
        "implement": "-1",
        "review": "0",
        "closed": "3",
        "cancelled": "4",
    },
}
"""A state that the instance lacks is passed over: an item that waits for approval is open, a delivered one in work."""
_FINAL = ("closed", "cancelled", "incomplete")
_COLUMNS = {
    "incident": {
        "contact_type": "contact_type",
        "caller": "caller_id",
        "impact": "impact",
        "urgency": "urgency",
        "priority": "priority",
        "category": "category",
        "group": "assignment_group",
        "assignee": "assigned_to",
        "hold_reason": "hold_reason",
        "close_code": "close_code",
        "close_notes": "close_notes",
        "major": "major_incident_state",
        "note": "work_notes",
        "resolved_at": "resolved_at",
    },
    "service_request": {
        "requested_for": "requested_for",
        "impact": "impact",
        "urgency": "urgency",
        "priority": "priority",
        "group": "assignment_group",
        "assignee": "assigned_to",
        "close_notes": "close_notes",
    },
    "problem": {
        "impact": "impact",
        "urgency": "urgency",
        "priority": "priority",
        "category": "category",
        "group": "assignment_group",
        "assignee": "assigned_to",
        "cause_notes": "cause_notes",
        "workaround": "workaround",
        "resolution": "resolution_code",
        "no_change_needed": "category",
        "fix_notes": "fix_notes",
    },
    "change": {
        "requested_by": "requested_by",
        "track": "type",
        "unauthorised": "unauthorized",
        "template": "std_change_producer_version",
        "impact": "impact",
        "urgency": "urgency",
        "priority": "priority",
        "risk": "risk",
        "item": "cmdb_ci",
        "category": "category",
        "group": "assignment_group",
        "assignee": "assigned_to",
        "planned_start": "start_date",
        "planned_end": "end_date",
        "work_start": "work_start",
        "work_end": "work_end",
        "implementation_plan": "implementation_plan",
        "backout_plan": "backout_plan",
        "test_plan": "test_plan",
        "review_comments": "review_comments",
        "close_code": "close_code",
        "close_notes": "close_notes",
    },
}
_WORDS = {
    "hold_reason": {"caller": "1", "problem": "3", "vendor": "4", "change": "5"},
    "close_code": {
        "solved": "Solution provided",
        "workaround": "Workaround provided",
        "duplicate": "Duplicate",
        "successful": "successful",
        "successful_issues": "successful_issues",
        "unsuccessful": "unsuccessful",
    },
    "major": {"true": "accepted"},
    "no_change_needed": {"true": "documentation", "false": "network"},
    "risk": {"high": "2", "moderate": "3", "low": "4"},
}
_LINKS = {
    "problem": "problem_id",
    "parent": "parent_incident",
    "change": "rfc",
    "caused_by": "caused_by",
    "trigger": "parent",
}
_REFERENCES = frozenset(("caller", "requested_for", "requested_by", "assignee"))
INSTANTS = ("planned_start", "planned_end", "resolved_at", "work_start", "work_end")
_TEMPLATE = "std_change_producer_version"

Row = dict[str, Any]
Columns = Mapping[str, Mapping[str, str]]
"""case -> column -> value of a record's creation."""


def numbers(desk: Desk) -> dict[str, str]:
    """case -> the number that its record has on the instance."""
    found: dict[str, str] = {}
    for process, prefix in _PREFIXES.items():
        cases = [record.case for record in desk.records if record.process == process]
        found |= {case: f"{prefix}{10_001 + place:07}" for place, case in enumerate(cases)}
    return found


def tables(desk: Desk, processes: Collection[str] = tuple(TABLES), extra: Columns | None = None) -> dict[str, Any]:
    """The data file of the records of these processes, ``extra`` columns included. Links to others are left out."""
    rows: dict[str, list[Row]] = {
        "sys_user": [_user(person) for person in desk.people.values()],
        "sys_user_group": [{"sys_id": sys_id(f"group:{key}"), "name": name} for key, name in desk.groups.items()],
        **{
            name: []
            for name in (*TABLES.values(), "sysapproval_approver", "change_task", "task_ci", "task_sla", "sys_audit")
        },
    }
    known, here = numbers(desk), [record for record in desk.records if record.process in processes]
    cases = {record.case for record in here}
    for record in here:
        links = tuple(link for link in record.links if link.to in cases)
        told = {"number": known[record.case], **(extra or {}).get(record.case, {})}
        _add(rows, desk, replace(record, links=links), told)
    return {"tables": rows}


def sys_id(name: str) -> str:
    """The id of whatever has this name on the desk."""
    return uuid5(NAMESPACE_URL, f"desk:{name}").hex


def _user(person: Person) -> Row:
    return {
        "sys_id": sys_id(f"person:{person.key}"),
        "user_name": user_name(person),
        "name": person.name,
        "email": person.email,
        "internal_integration_user": person.system,
    }


def user_name(person: Person) -> str:
    """Under which the audit knows a person."""
    return person.name.lower().replace(" ", ".")


def _add(rows: dict[str, list[Row]], desk: Desk, record: Record, told: Mapping[str, str]) -> None:
    table = TABLES[record.process]
    row: Row = {
        "sys_id": sys_id(record.case),
        "short_description": f"Story {record.case}",
        **_created(desk, record.opened, record.by),
        "opened_at": _stamp(record.opened),
        "opened_by": sys_id(f"person:{record.by}"),
        "state": _STATES[record.process]["new"],
        **_BLANK.get(record.process, {}),
        **_columns(record.process, record.attributes),
        **{_LINKS[link.role]: sys_id(link.to) for link in record.links if link.at is None},
        **told,
    }
    saves = [(save.at, save.by, _changes(record.process, save)) for save in _with_approval(record)]
    saves += [(link.at, link.by, {_LINKS[link.role]: sys_id(link.to)}) for link in record.links if link.at is not None]
    _age(rows, desk, table, row, sorted(saves, key=lambda save: save[0]))
    rows["sysapproval_approver"] += [
        _approved(rows, desk, record, place, each) for place, each in enumerate(record.approvals)
    ]
    rows["task_ci"] += [
        {
            "sys_id": sys_id(f"listed:{record.case}:{each.what}"),
            "task": sys_id(record.case),
            "ci_item": sys_id(f"item:{each.what}"),
            **_created(desk, each.at, each.by),
        }
        for each in record.items
    ]
    rows["task_sla"] += _service_levels(desk, record)
    rows["change_task"] += [_task(rows, desk, record, place, each) for place, each in enumerate(record.tasks)]


def _service_levels(desk: Desk, record: Record) -> Iterator[Row]:
    """One for each priority that the case had; of the former ones the instance cancels the level."""
    if record.sla == "none" or record.process not in ("incident", "service_request"):
        return
    begun = [(record.opened, record.attributes["priority"])]
    begun += [(save.at, save.changes["priority"]) for save in record.saves if "priority" in save.changes]
    ends = [*((at, "cancelled") for at, _ in begun[1:]), (_over(record), "completed")]
    if record.sla == "cancelled":
        begun, ends = begun[:1], [(record.opened + timedelta(minutes=30), "cancelled")]
    for (at, priority), (end, stage) in zip(begun, ends, strict=True):
        if priority in _PROMISED or record.process == "service_request":
            yield _service_level(desk, record, at, end, stage)


_PROMISED = ("1", "2", "3", "4")


def _over(record: Record) -> datetime | None:
    """When the case was done for good."""
    over = None
    for save in record.saves:
        if save.changes.get("state", "") in ("resolved", *_FINAL):
            over = over or save.at
        elif "state" in save.changes:
            over = None
    return over


def _service_level(desk: Desk, record: Record, at: datetime, end: datetime | None, stage: str) -> Row:
    zero = datetime(1970, 1, 1)
    still = record.sla == "still"
    row = {
        "sys_id": sys_id(f"measured:{record.case}:{_stamp(at)}"),
        "task": sys_id(record.case),
        "sla": sys_id("contract"),
        **_created(desk, at, "timer"),
        "start_time": _stamp(at),
        "stage": "paused" if still else "in_progress",
        "pause_time": _stamp(at) if still else "",
        "pause_duration": _stamp(zero),
    }
    if end is None:
        return row
    pauses = zero + (end - at) if still else zero
    over = {"stage": stage, "end_time": _stamp(end), "pause_time": "", "pause_duration": _stamp(pauses)}
    return {**row, **over, "active": "false", "sys_updated_on": _stamp(end), "sys_mod_count": "1"}


_BLANK: Mapping[str, Row] = {
    "incident": {
        "category": "",
        "reassignment_count": "0",
        "reopen_count": "0",
        "resolved_at": "",
        "major_incident_state": "",
    },
    "change": {
        "on_hold": "false",
        "unauthorized": "false",
        "work_start": "",
        "work_end": "",
        "approval": "not requested",
        _TEMPLATE: "",
    },
    "service_request": {"approval": "not requested"},
}


def _with_approval(record: Record) -> Iterator[Save]:
    """The saves, and those with which the instance rolls the approvals of a round up."""
    rolled = []
    for together in record.rounds():
        rolled.append(Save(together[0].asked, "timer", {"approval": "requested"}))
        answered = [each.answered for each in together if each.answered is not None]
        if len(answered) == len(together):
            result = "rejected" if any(each.state == "rejected" for each in together) else "approved"
            rolled.append(Save(max(answered), "timer", {"approval": result}))
    # What the instance does by itself follows the save that made it do so.
    yield from sorted((*record.saves, *rolled), key=lambda save: save.at)


def _changes(process: str, save: Save) -> dict[str, str]:
    changes = _columns(process, save.changes)
    if "approval" in save.changes:
        changes["approval"] = save.changes["approval"]
    state = save.changes.get("state", "")
    if state in _STATES[process]:
        changes["state"] = _STATES[process][state]
    if state in _FINAL:
        changes["active"] = "false"
    if process == "change" and state:
        changes["on_hold"] = str(state == "hold").lower()
        # The instance fills these in when nobody has typed another time.
        typed = {"implement": "work_start", "review": "work_end"}.get(state)
        changes = {typed: _stamp(save.at), **changes} if typed else changes
    return changes


def _columns(process: str, values: Mapping[str, str]) -> dict[str, str]:
    """Attributes as columns; one that the instance has no column for is left out."""
    known = _COLUMNS[process]
    return {known[name]: _raw(name, value) for name, value in values.items() if name in known}


def _raw(name: str, value: str) -> str:
    if not value:
        return ""
    if name == "item":
        return sys_id(f"item:{value}")
    if name == "group":
        return sys_id(f"group:{value}")
    if name in _REFERENCES:
        return sys_id(f"person:{value}")
    if name in INSTANTS:
        return _stamp(datetime.fromisoformat(value))
    return _WORDS.get(name, {}).get(value, value)


def _age(
    rows: dict[str, list[Row]], desk: Desk, table: str, row: Row, saves: list[tuple[datetime, str, dict[str, str]]]
) -> None:
    """Applies the saves to the row, with an audit row per changed column, and adds it to its table."""
    checkpoint = 0
    for at, by, changes in saves:
        counted = {**changes, **_counters(row, changes)} if table == "incident" else changes
        changed = {column: value for column, value in counted.items() if row.get(column, "") != value}
        if not changed:
            continue
        checkpoint += 1
        user, stamp = user_name(desk.people[by]), _stamp(at)
        for column, value in changed.items():
            rows["sys_audit"].append(_audit(table, row, column, value, user, checkpoint, stamp))
        row |= {**changed, "sys_updated_on": stamp, "sys_updated_by": user, "sys_mod_count": str(checkpoint)}
    rows[table].append(row)


def _audit(table: str, row: Row, column: str, value: str, user: str, checkpoint: int, stamp: str) -> Row:
    return {
        "sys_id": sys_id(f"audit:{row['sys_id']}:{checkpoint}:{column}"),
        "tablename": table,
        "documentkey": row["sys_id"],
        "fieldname": column,
        "oldvalue": row.get(column, ""),
        "newvalue": value,
        "user": user,
        "record_checkpoint": str(checkpoint),
        "sys_created_on": stamp,
        "sys_created_by": user,
    }


def _counters(row: Row, changes: Mapping[str, str]) -> dict[str, str]:
    """The counters of the instance go up in the save that they count."""
    counters = {}
    before, after = row.get("assignment_group", ""), changes.get("assignment_group", "")
    if before and after and before != after:
        counters["reassignment_count"] = str(int(row["reassignment_count"]) + 1)
    if row["state"] in ("6", "7") and changes.get("state") == "2":
        counters["reopen_count"] = str(int(row["reopen_count"]) + 1)
    return counters


def _approved(rows: dict[str, list[Row]], desk: Desk, record: Record, place: int, given: Approval) -> Row:
    table = TABLES[record.process]
    row: Row = {
        "sys_id": sys_id(f"approval:{record.case}:{place}"),
        "sysapproval": sys_id(record.case),
        "source_table": table,
        "document_id": sys_id(record.case),
        "approver": sys_id(f"person:{given.who}"),
        "state": "requested",
        **_created(desk, given.asked, "timer"),
    }
    if given.answered is not None:
        by = user_name(desk.people[given.who if given.state in ("approved", "rejected") else "timer"])
        stamp = _stamp(given.answered)
        rows["sys_audit"].append(_audit("sysapproval_approver", row, "state", given.state, by, 1, stamp))
        row |= {"state": given.state, "sys_updated_on": stamp, "sys_updated_by": by, "sys_mod_count": "1"}
    return row


def _task(rows: dict[str, list[Row]], desk: Desk, record: Record, place: int, given: Task) -> Row:
    row: Row = {
        "sys_id": sys_id(f"task:{record.case}:{place}"),
        "number": f"CTASK{10_001 + len(rows['change_task']) + place:07}",
        "short_description": f"{given.type} of {record.case}",
        "change_request": sys_id(record.case),
        "parent": sys_id(record.case),
        "change_task_type": given.type,
        "assigned_to": sys_id(f"person:{given.who}"),
        "state": "1",
        **_created(desk, given.opened, "timer"),
        "opened_at": _stamp(given.opened),
    }
    words = {"open": "1", "done": "3", "incomplete": "4", "skipped": "7", "cancelled": "7"}
    moves = [(at, state) for at, state in ((given.started, "2"), (given.ended, words[given.state])) if at is not None]
    for checkpoint, (at, state) in enumerate(moves, 1):
        by, stamp = user_name(desk.people[given.who]), _stamp(at)
        rows["sys_audit"].append(_audit("change_task", row, "state", state, by, checkpoint, stamp))
        row |= {"state": state, "sys_updated_on": stamp, "sys_updated_by": by, "sys_mod_count": str(checkpoint)}
    return row if given.ended is None else {**row, "active": "false", "closed_at": _stamp(given.ended)}


def _created(desk: Desk, at: datetime, by: str) -> Row:
    stamp, user = _stamp(at), user_name(desk.people[by])
    names = {"sys_created_by": user, "sys_updated_by": user}
    return {"sys_created_on": stamp, "sys_updated_on": stamp, **names, "sys_mod_count": "0"}


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")
