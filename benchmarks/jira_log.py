"""The audit trail of the log as a Jira site would hold it: an issue for each incident, a history for each later save.

Status, impact, urgency, priority, assignee and group of a save become items with the ids of the template for service
management; the 70 groups become its four. A save that changes nothing else becomes an item of labels, so that each
save is a history. Who saved, when, and in which order is the log's own.
"""

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

Line = Mapping[str, str]
Values = dict[str, str | None]

_STATUS = {"New": "10001", "Active": "10002", "Resolved": "10004", "Closed": "10006"}
_PENDING = "10003"
_IMPACT, _URGENCY, _GROUP = "customfield_10201", "customfield_10202", "customfield_10222"
_GROUPS = 4
_FORM = "%d/%m/%Y %H:%M"


def write(log: Path, target: Path) -> int:
    """A data file of the simulator; returns how many issues it has."""
    people: dict[str, None] = {}
    with gzip.open(log, "rt", encoding="utf-8", newline="") as file:
        cases = groupby(csv.DictReader(file), key=lambda line: line["number"])
        issues = [_issue(place, list(lines), people) for place, (_, lines) in enumerate(cases, 1)]
    users = [
        {"accountId": f"u{place}", "displayName": name, "emailAddress": f"u{place}@example.com"}
        for place, name in enumerate(people)
    ]
    target.write_text(json.dumps({"users": users, "issues": issues}), "utf-8")
    return len(issues)


def _issue(place: int, lines: Sequence[Line], people: dict[str, None]) -> dict[str, Any]:
    states = list(_values(lines, people))
    created = at = _instant(lines[0]["opened_at"])
    history = []
    for number, line in enumerate(lines[1:], 1):
        at = max(at, _instant(line["sys_updated_at"]))
        items = _items(states[number - 1], states[number]) or [
            {"field": "labels", "fromString": f"save{number - 1}", "toString": f"save{number}"}
        ]
        history.append({"at": at, "by": _person(line["sys_updated_by"], people), "items": items})
    last = states[-1]
    fields = {key: last[key] for key in (_IMPACT, _URGENCY, _GROUP) if last[key]}
    found = {"key": f"ITSM-{place}", "type": "10101", "created": created, "history": history, "fields": fields}
    named = {key: last[key] for key in ("status", "priority", "assignee") if last[key]}
    return {**found, **named, "reporter": _person(lines[0]["caller_id"], people) or "u0"}


def _values(lines: Sequence[Line], people: dict[str, None]) -> Iterator[Values]:
    status = "10001"
    for line in lines:
        state = line["incident_state"]
        if state != "-100":
            status = _STATUS.get(state, _PENDING)
        yield {
            "status": status,
            "priority": line["priority"][0],
            "assignee": _person(line["assigned_to"], people),
            _IMPACT: f"1030{line['impact'][0]}",
            _URGENCY: f"1031{line['urgency'][0]}",
            _GROUP: _group(line["assignment_group"]),
        }


def _items(before: Values, after: Values) -> list[dict[str, Any]]:
    return [{"field": key, "from": before[key], "to": after[key]} for key in after if before[key] != after[key]]


def _person(name: str, people: dict[str, None]) -> str | None:
    if name == "?":
        return None
    people.setdefault(name)
    return name


def _group(name: str) -> str | None:
    return None if name == "?" else f"1037{int(name.removeprefix('Group ')) % _GROUPS + 1}"


def _instant(text: str) -> int:
    return round(datetime.strptime(text, _FORM).replace(tzinfo=UTC).timestamp() * 1000)
