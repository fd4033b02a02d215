"""The seeded desk as issues of a service project with the template's workflows: histories, approvals, sub-tasks, links.

Writes the format of the simulator's data files and imports nothing of it. Cloud and Data Center are told the same.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.seeded.desk import Approval, Desk, Link, Person, Record, Save, Task

PROJECT = "ITSM"
PROCESSES = ("incident", "service_request", "problem", "change")
COUNTERPART = "customfield_10219"
_FIRST_ID = 30_000
_CHANGE_TASK = "10106"
_OPEN = "10001"
"""Status of a task."""
_TYPES = {"incident": "10101", "service_request": "10105", "problem": "10103", "change": "10104"}
_PEER_REVIEW, _PLANNING, _BOARD, _AWAITING = "10015", "10016", "10017", "10018"
_TO_SUPPORT = "10007"
_STATUSES = {
    "incident": {
        "new": "10001",
        "work": "10002",
        "hold": "10003",
        "resolved": "10004",
        "cancelled": "10005",
        "closed": "10006",
    },
    "service_request": {
        "new": "10012",
        "approve": "10012",
        "work": "10009",
        "hold": "10003",
        "resolved": "10011",
        "cancelled": "10005",
        "closed": "10006",
    },
    "problem": {
        "new": "10001",
        "assess": "10013",
        "rca": "10014",
        "resolved": "10004",
        "cancelled": "10005",
        "closed": "10006",
    },
    "change": {
        "new": _PEER_REVIEW,
        "assess": _PLANNING,
        "authorise": _BOARD,
        "scheduled": _AWAITING,
        "implement": "10019",
        "review": "10011",
        "hold": "10003",
        "declined": "10020",
        "cancelled": "10005",
        "closed": "10006",
    },
}
"""A state without a status is passed over: the fix of a problem is a linked change."""
_RESOLVED = ("resolved", "review", "closed", "cancelled")
_FIELDS = {
    "impact": "customfield_10201",
    "urgency": "customfield_10202",
    "track": "customfield_10203",
    "risk": "customfield_10204",
    "planned_start": "customfield_10206",
    "planned_end": "customfield_10207",
    "implementation_plan": "customfield_10208",
    "backout_plan": "customfield_10209",
    "test_plan": "customfield_10210",
    "cause_notes": "customfield_10211",
    "workaround": "customfield_10212",
    "major": "customfield_10216",
    "hold_reason": "customfield_10218",
    "category": "customfield_10220",
    "group": "customfield_10222",
    "template": "customfield_10224",
    "review_comments": "customfield_10225",
    "close_notes": "customfield_10226",
    "fix_notes": "customfield_10226",
    "unauthorised": "customfield_10227",
    "item": "customfield_10228",
    "close_code": "resolution",
    "resolution": "resolution",
    "priority": "priority",
    "assignee": "assignee",
    "first_contact": "labels",
    "no_change_needed": "labels",
}
_IDS = {
    "impact": {"1": "10301", "2": "10302", "3": "10303"},
    "urgency": {"1": "10311", "2": "10312", "3": "10313"},
    "track": {"standard": "10321", "normal": "10322", "emergency": "10323"},
    "risk": {"high": "10332", "moderate": "10333", "low": "10334"},
    "hold_reason": {"caller": "10351", "vendor": "10352", "problem": "10353", "change": "10354"},
    "category": {"network": "10361", "hardware": "10362", "software": "10363", "access": "10364"},
    "group": {"service_desk": "10371", "network": "10372", "database": "10373", "applications": "10374"},
    "close_code": {
        "solved": "10401",
        "workaround": "10401",
        "successful": "10401",
        "duplicate": "10403",
        "unsuccessful": "10406",
        "successful_issues": "10407",
    },
    "resolution": {"fix_applied": "10401", "risk_accepted": "10402", "duplicate": "10403"},
}
_ASK = ("caller", "requested_for", "requested_by")
_SYSTEM = ("status", "priority", "resolution", "assignee", "labels")
_LISTS = {
    "major": ["10341"],
    "unauthorised": ["10391"],
    "first_contact": ["first-contact"],
    "no_change_needed": ["no-change-needed"],
}
_TASK_TYPES = {"implementation": "10381", "testing": "10382", "review": "10383"}
_STAGES = {
    "assess": "Peer review / change manager approval",
    "authorise": "Awaiting CAB approval",
    "approve": "Waiting for approval",
}
_LINKS = {
    "problem": ("10502", "inward"),  # the incident is caused by the problem
    "caused_by": ("10502", "inward"),  # or by a change
    "parent": ("10504", "outward"),  # it duplicates the incident that it was merged into
    "change": ("10505", "inward"),  # it is fixed by the change
    "trigger": ("10505", "outward"),  # the change fixes it
}

Item = dict[str, Any]
Extra = Mapping[str, Mapping[str, str]]
"""case -> field -> value of an issue's creation."""


def keys(desk: Desk) -> dict[str, str]:
    """case -> the key of its issue."""
    return {record.case: f"{PROJECT}-{1 + place}" for place, record in enumerate(desk.records)}


def site(desk: Desk, processes: Collection[str] = PROCESSES, extra: Extra | None = None) -> dict[str, Any]:
    """The data file of the issues of these processes, ``extra`` fields included. Links to others are left out."""
    known, here = keys(desk), [record for record in desk.records if record.process in processes]
    cases = {record.case for record in here}
    issues: list[dict[str, Any]] = []
    for record in here:
        issue = _Issue(desk, record, known[record.case])
        issue.live((extra or {}).get(record.case, {}))
        issues.append(
            {**issue.told(), "links": [_link(desk, each, known) for each in record.links if each.to in cases]}
        )
    for record in here:
        for task in record.tasks:
            key = f"{PROJECT}-{1 + len(known) + len(issues) - len(here)}"
            issues.append(_sub_task(desk, task, key, known[record.case]))
    numbered = [{"id": _FIRST_ID + number, **told} for number, told in enumerate(issues)]
    return {"users": [_user(person) for person in desk.people.values()], "issues": numbered}


def _user(person: Person) -> dict[str, Any]:
    email = person.email or f"{person.key}@machines.example.com"
    kind = {"accountType": "app"} if person.system else {}
    return {"accountId": account(person), "displayName": person.name, "emailAddress": email, **kind}


def account(person: Person) -> str:
    """The person's id on the site."""
    return f"70121:{person.key}"


def machines(desk: Desk) -> list[str]:
    """Names of the accounts that are no persons, which Data Center does not tell."""
    return [person.key for person in desk.people.values() if person.system]


@dataclass
class _Issue:
    """One issue while its life is told."""

    desk: Desk
    record: Record
    key: str
    values: dict[str, Any] = field(default_factory=dict)
    """As they stand: field -> value."""
    history: list[dict[str, Any]] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)
    resolved: datetime | None = None

    def live(self, extra: Mapping[str, str]) -> None:
        record = self.record
        self.values = {"status": _STATUSES[record.process]["new"], **_fields(self.desk, record.attributes), **extra}
        for save in _with_decisions(record):
            self._save(save)

    def _save(self, save: Save) -> None:
        changes = _fields(self.desk, save.changes)
        if "note" in save.changes and (by := _author(self.desk, save.by)):
            self.comments.append({"at": _iso(save.at), "by": by, "body": save.changes["note"]})
        if "resolved_at" in save.changes:
            self.resolved = datetime.fromisoformat(save.changes["resolved_at"])
        if "status" in save.changes:
            changes["status"] = save.changes["status"]
        state = save.changes.get("state", "")
        if state in _STATUSES[self.record.process]:
            changes["status"] = _STATUSES[self.record.process][state]
        if state in _RESOLVED and self.resolved is None:
            self.resolved = save.at
        elif state and state not in _RESOLVED:
            self.resolved = None
        # The workflow leads from peer review to the board and to the implementation through planning.
        if self.values["status"] == _PEER_REVIEW and changes.get("status") in (_BOARD, _AWAITING):
            self._change(save, {"status": _PLANNING})
        self._change(save, changes)

    def _change(self, save: Save, changes: Mapping[str, Any]) -> None:
        changed = {name: value for name, value in changes.items() if self.values.get(name) != value}
        if changed:
            items = [{"field": name, "from": self.values.get(name), "to": value} for name, value in changed.items()]
            author = _author(self.desk, save.by)
            self.history.append({"at": _iso(save.at), **({"by": author} if author else {}), "items": items})
            self.values |= changed

    def told(self) -> dict[str, Any]:
        record, values = self.record, self.values
        asks = next((record.attributes[role] for role in _ASK if role in record.attributes), record.by)
        told = {
            "key": self.key,
            "type": _TYPES[record.process],
            "summary": f"Story {record.case}",
            "created": _iso(record.opened),
            "creator": _author(self.desk, record.by),
            "reporter": _author(self.desk, asks),
            **{name: values.get(name) for name in _SYSTEM},
            "resolved": _iso(self.resolved) if self.resolved and values.get("resolution") else None,
            "fields": {name: value for name, value in values.items() if name.startswith("customfield_") and value},
            "history": self.history,
            "comments": self.comments,
            "approvals": [_approval(self.desk, together) for together in record.rounds()],
            "slas": [{"metric": metric, "goal": "PT8H"} for metric in (1, 2)] if record.sla == "none" else [],
        }
        return {name: value for name, value in told.items() if value}


def _with_decisions(record: Record) -> Iterator[Save]:
    """The saves; a request that is approved moves on to support by the decision itself, and items have no list of
    their own.
    """
    moved = [Save(each.at, each.by, {"item": each.what}) for each in record.items]
    if record.process == "service_request":
        for together in record.rounds():
            completed = _completed(together)
            if completed is not None and _final(together) == "approved":
                by = next(each.who for each in together if each.state == "approved")
                moved.append(Save(completed, by, {"status": _TO_SUPPORT}))
    yield from sorted((*record.saves, *moved), key=lambda save: save.at)


def _fields(desk: Desk, values: Mapping[str, str]) -> dict[str, Any]:
    """Attributes as fields; nothing is ``None``. What the project has no field for is left out."""
    return {_FIELDS[name]: _raw(desk, name, value) for name, value in values.items() if name in _FIELDS}


def _raw(desk: Desk, name: str, value: str) -> Any:
    if name in _LISTS:
        return _LISTS[name] if value == "true" else None
    if not value:
        return None
    if name == "assignee":
        return _author(desk, value)
    if name in ("planned_start", "planned_end"):
        return _iso(datetime.fromisoformat(value))
    return _IDS[name][value] if name in _IDS else value


def _author(desk: Desk, key: str) -> str | None:
    """An address, by which the site finds the account; automation is nobody."""
    return desk.people[key].email or None


def _final(together: tuple[Approval, ...]) -> str:
    """The decision of a round: one rejection declines it, one who still has to answer leaves it open."""
    states = {each.state for each in together}
    return "declined" if "rejected" in states else "pending" if "requested" in states else "approved"


def _completed(together: tuple[Approval, ...]) -> datetime | None:
    answered = [each.answered for each in together if each.answered is not None]
    return max(answered) if _final(together) != "pending" else None


def _approval(desk: Desk, together: tuple[Approval, ...]) -> dict[str, Any]:
    completed = _completed(together)
    words = {"approved": "approved", "rejected": "declined"}
    return {
        "name": _STAGES[together[0].stage],
        "created": _iso(together[0].asked),
        **({"completed": _iso(completed)} if completed else {}),
        "decision": _final(together),
        "approvers": [
            {"by": account(desk.people[each.who]), "decision": words.get(each.state, "pending")} for each in together
        ],
    }


def _link(desk: Desk, link: Link, known: Mapping[str, str]) -> dict[str, Any]:
    type_, direction = _LINKS[link.role]
    at = {"at": _iso(link.at), "by": _author(desk, link.by)} if link.at else {}
    return {"type": type_, direction: known[link.to], **at}


def _sub_task(desk: Desk, task: Task, key: str, parent: str) -> dict[str, Any]:
    who = _author(desk, task.who)
    ended = {"open": _OPEN, "done": "10004", "cancelled": "10005"}[task.state]
    begun = _OPEN if task.started is None else "10002"  # work in progress
    moves = [(task.started, _OPEN, begun), (task.ended, begun, ended)]
    resolution = {"resolution": "10401", "resolved": _iso(task.ended)} if task.ended else {}
    return {
        "key": key,
        "type": _CHANGE_TASK,
        "parent": parent,
        "summary": f"{task.type} of {parent}",
        "created": _iso(task.opened),
        "creator": who,
        "reporter": who,
        "assignee": who,
        "status": ended,
        **resolution,
        "fields": {"customfield_10223": _TASK_TYPES[task.type]},
        "history": [
            {"at": _iso(at), "by": who, "items": [{"field": "status", "from": old, "to": new}]}
            for at, old, new in moves
            if at is not None
        ],
    }


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
