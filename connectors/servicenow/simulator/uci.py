"""The public incident log of a real instance (UCI data set 498) as that instance would serve it.

A line of the log is the whole record after one save. Each case becomes one incident in its final state and the audit
rows between its lines, in the log's own order: neither time nor ``sys_mod_count`` is in order throughout, so the
checkpoint is made to rise while its jumps (saves that the log does not show) are kept.

``resolved_at``, ``closed_at``, ``closed_code`` and ``resolved_by`` carry the final value on every line; in the audit
trail they appear when the record reaches the state that gives them.
"""

import csv
import gzip
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TextIO

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import digest
from connectors.servicenow.simulator.tables import Row, Table

_HEADER = (
    "number,incident_state,active,reassignment_count,reopen_count,sys_mod_count,made_sla,caller_id,opened_by,opened_at,"
    "sys_created_by,sys_created_at,sys_updated_by,sys_updated_at,contact_type,location,category,subcategory,u_symptom,"
    "cmdb_ci,impact,urgency,priority,assignment_group,assigned_to,knowledge,u_priority_confirmation,notify,problem_id,"
    "rfc,vendor,caused_by,closed_code,resolved_by,resolved_at,closed_at"
)
_AT = {name: place for place, name in enumerate(_HEADER.split(","))}
_STATES = {
    "New": ("1", ""),
    "Active": ("2", ""),
    "Awaiting User Info": ("3", "1"),
    "Awaiting Problem": ("3", "3"),
    "Awaiting Vendor": ("3", "4"),
    "Awaiting Evidence": ("3", "5"),
    "Resolved": ("6", ""),
    "Closed": ("7", ""),
}
_REFERENCES = {
    "caller_id": "sys_user",
    "opened_by": "sys_user",
    "assigned_to": "sys_user",
    "resolved_by": "sys_user",
    "assignment_group": "sys_user_group",
    "cmdb_ci": "cmdb_ci",
    "location": "cmn_location",
    "problem_id": "problem",
    "rfc": "change_request",
    "caused_by": "change_request",
}
_NOTIFY = {"Do Not Notify": "1", "Send Email": "2"}
_CODED = ("impact", "urgency", "priority")
_CARRIED = ("active", "reassignment_count", "reopen_count", "made_sla", "caller_id", "contact_type", "location",
            "category", "subcategory", "u_symptom", "cmdb_ci", "impact", "urgency", "priority", "assignment_group",
            "assigned_to", "knowledge", "u_priority_confirmation", "notify", "problem_id", "rfc", "vendor",
            "caused_by")  # fmt: skip
_CARRIED_AT = tuple((name, _AT[name]) for name in _CARRIED)
_BORN = dict.fromkeys(("sys_created_on", "sys_updated_on"), "2016-01-01 00:00:00") | {"sys_mod_count": "0"}
"""Stamps of what the log only names: before its first line."""
_COLUMNS = (
    "sys_id", "number", "state", "incident_state", "hold_reason", *_CARRIED, "opened_by", "opened_at", "close_code",
    "resolved_by", "resolved_at", "closed_at", "sys_created_on", "sys_created_by", "sys_updated_on", "sys_updated_by",
    "sys_mod_count", "sys_class_name", "sys_domain", "correlation_id", "correlation_display",
)  # fmt: skip


class _Save(NamedTuple):
    """One line of the log next to the one before it."""

    line: Sequence[str]
    checkpoint: int
    changes: list[tuple[str, str, str]]
    """field, old, new; raw values"""


def recognises(path: Path) -> bool:
    """Whether the file is this log, plain or compressed."""
    if not path.name.endswith((".csv", ".csv.gz")):
        return False
    with _open(path) as file:
        return file.readline().rstrip("\r\n") == _HEADER


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def load(desk: Desk, path: Path) -> None:
    """Fill ``incident`` (with the log's columns only), ``sys_audit`` and the tables that they refer to."""
    incident = desk.tables["incident"] = Table("incident", _COLUMNS)
    named: dict[tuple[str, str], None] = {}
    incidents: list[Row] = []
    audits: list[Row] = []
    with _open(path) as file:
        lines = csv.reader(file)
        next(lines)
        for _, case in groupby(lines, key=itemgetter(0)):
            saves = _saves(list(case))
            row = incident.row(_final(saves[-1]))
            incidents.append(row)
            audits.extend(_audit_rows(row[0], saves))
            named.update(_named(saves))
    incident.load(incidents)
    desk.tables["sys_audit"].load(audits)
    _load_named(desk, named)
    _load_codes(desk, incident)


def _saves(lines: list[Sequence[str]]) -> list[_Save]:
    """The saves of one case, the first of which made the record and is not audited."""
    checkpoint = int(lines[0][_AT["sys_mod_count"]])
    saves = [_Save(lines[0], checkpoint, [])]
    late = _late_values(lines)
    for place in range(1, len(lines)):
        before, line, former = lines[place - 1], lines[place], checkpoint
        checkpoint = max(checkpoint + 1, int(line[_AT["sys_mod_count"]]))
        changes = _changes(before, line) + late.get(place, [])
        # a save that touched no audited field still moved the counter
        saves.append(_Save(line, checkpoint, changes or [("sys_mod_count", str(former), str(checkpoint))]))
    return saves


def _changes(before: Sequence[str], line: Sequence[str]) -> list[tuple[str, str, str]]:
    changes = []
    if before[1] != line[1]:
        pairs = zip(("state", "hold_reason"), _state(before[1]), _state(line[1]), strict=True)
        changes = [(name, old, new) for name, old, new in pairs if old != new]
    for name, place in _CARRIED_AT:
        if before[place] != line[place]:
            changes.append((name, _raw(name, before[place]), _raw(name, line[place])))
    return changes


def _late_values(lines: list[Sequence[str]]) -> dict[int, list[tuple[str, str, str]]]:
    """Where the final values appear: line -> changes. One that falls on the first line came with the insert."""
    states = [line[1] for line in lines]
    resolved = [place for place, state in enumerate(states) if state == "Resolved"]
    if not resolved:
        resolved = [place for place, state in enumerate(states) if state == "Closed"][:1]
    late: dict[int, list[tuple[str, str, str]]] = {}
    places = {"resolved_at": resolved[-1:], "resolved_by": resolved[-1:], "closed_at": [len(lines) - 1]}
    for name, where in {"closed_code": resolved[:1], **places}.items():
        value = _raw(name, lines[-1][_AT[name]])
        for place in where if value else ():
            late.setdefault(place, []).append((_column(name), "", value))
    return late


def _column(name: str) -> str:
    return "close_code" if name == "closed_code" else name


def _final(save: _Save) -> dict[str, str]:
    line = save.line
    state, hold_reason = _state(line[1])
    created = line[_AT["sys_created_at"]]
    values = {name: _raw(name, line[place]) for name, place in _CARRIED_AT}
    late = ("opened_by", "opened_at", "closed_code", "resolved_by", "resolved_at", "closed_at")
    values |= {_column(name): _raw(name, line[_AT[name]]) for name in late}
    return values | {
        "sys_id": digest(f"incident:{line[0]}"),
        "number": line[0],
        "state": state,
        "incident_state": state,
        "hold_reason": hold_reason,
        "sys_created_on": _instant(created if created != "?" else line[_AT["opened_at"]]),
        "sys_created_by": _blank(line[_AT["sys_created_by"]]),
        "sys_updated_on": _instant(line[_AT["sys_updated_at"]]),
        "sys_updated_by": _blank(line[_AT["sys_updated_by"]]),
        "sys_mod_count": str(save.checkpoint),
    }


def _audit_rows(sys_id: str, saves: list[_Save]) -> Iterator[Row]:
    for save in saves[1:]:
        at, by = _instant(save.line[_AT["sys_updated_at"]]), _blank(save.line[_AT["sys_updated_by"]])
        checkpoint = str(save.checkpoint)
        for name, old, new in save.changes:
            key = digest(f"{sys_id}:{checkpoint}:{name}")
            yield [key, "incident", sys_id, name, old, new, by, "", checkpoint, at, by]


def _named(saves: list[_Save]) -> Iterator[tuple[tuple[str, str], None]]:
    """Everything that the case's lines name and that other tables hold."""
    for save in saves:
        for name in (*_REFERENCES, "sys_created_by", "sys_updated_by"):
            value = save.line[_AT[name]]
            if value != "?":
                yield (name, value), None


def _load_named(desk: Desk, named: dict[tuple[str, str], None]) -> None:
    rows: dict[str, list[Row]] = {}
    for name, value in named:
        target = _REFERENCES.get(name, "sys_user")
        values = {**_BORN, "sys_id": digest(f"{name}:{value}"), "name": value, "user_name": value, "number": value}
        rows.setdefault(target, []).append(desk.tables[target].row(values))
    for target, found in rows.items():
        desk.tables[target].load(found)


def _load_codes(desk: Desk, incident: Table) -> None:
    """This instance has resolution codes of its own, which are their own labels."""
    choice = desk.tables["sys_choice"]
    codes = sorted({incident.get(row, "close_code") for row in incident.rows.values()} - {""})
    common = {**_BORN, "name": "incident", "element": "close_code"}
    choice.load([choice.row({**common, "sys_id": digest(f"close_code:{c}"), "value": c, "label": c}) for c in codes])


def _state(text: str) -> tuple[str, str]:
    return _STATES.get(text, (text, ""))


def _blank(text: str) -> str:
    return "" if text == "?" else text


@cache
def _raw(name: str, text: str) -> str:
    """The log's text as the instance stores it."""
    if text == "?":
        return ""
    if name in _REFERENCES:
        return digest(f"{name}:{text}")
    if name in _CODED:
        return text.partition(" ")[0]
    if name.endswith("_at"):
        return _instant(text)
    if name == "contact_type":
        return text.lower().replace(" ", "_")
    return _NOTIFY.get(text, text) if name == "notify" else text


@cache
def _instant(text: str) -> str:
    """``D/M/YYYY HH:MM`` without a zone, taken as UTC."""
    if text == "?":
        return ""
    day, month, rest = text.split("/")
    year, clock = rest.split(" ")
    return f"{year}-{int(month):02d}-{int(day):02d} {clock}:00"
