"""What Jira Service Management says of one request, as rows: its approvals and its service levels as they stand.

Pure. Leaves to ``desk`` how they are read.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.jira.translate import stamp
from connectors.jira.values import moment, person
from itsms_sync.records import Border, Row

Json = Mapping[str, Any]

_PENDING = "pending"
_NOT_REQUIRED = "not_required"
"""Our word for an approver who has not answered an approval that is decided: nobody asks any more."""


def approval_rows(issue: Json, approval: Json, stream: str, border: Border) -> Iterator[Row]:
    """One row per approver. Without any it is one row: nobody was asked yet, or nobody knows who decided."""
    asked, done = _instant(approval["createdDate"]), _instant(approval.get("completedDate"))
    final = str(approval["finalDecision"]).lower()
    shared = {
        "key": str(issue["key"]),
        "created": asked,
        "updated": done or asked,
        "issue": str(issue["id"]),
        "approval": str(approval["id"]),
        "name": str(approval.get("name") or ""),
        "final": final,
        "completed": done,
    }
    place = f"{shared['issue']}.{shared['approval']}"
    approvers = approval.get("approvers") or ()
    if not approvers:
        yield Row(stream, f"{place}.", {**shared, "approver": "" if final == _PENDING else None, "decision": final})
    for number, each in enumerate(approvers):
        approver = person(border, each["approver"])
        # one who cannot be told from others still has to be told from the approval's other approvers
        key = f"{place}.{approver or f'unknown-{number}'}"
        yield Row(stream, key, {**shared, "approver": approver, "decision": _decision(each, final)})


def _decision(approver: Json, final: str) -> str:
    decision = str(approver.get("approverDecision") or _PENDING).lower()
    return _NOT_REQUIRED if decision == _PENDING != final else decision


def sla_row(issue: Json, sla: Json, stream: str) -> Row:
    """The metric as it stands; ``cycles`` counts completed ones, all else is of the running or the last one.

    A service level that runs is a moving number: while it ticks, ``elapsed`` is left empty, or every poll would store
    every request anew; the instant of the breach says the same.
    """
    cycles, running = list(sla.get("completedCycles") or ()), sla.get("ongoingCycle") or {}
    last: Json = running or (cycles[-1] if cycles else {})
    ticks = bool(running) and not running.get("paused")
    metric = str(sla["id"] if "id" in sla else sla["_links"]["self"].rstrip("/").rpartition("/")[2])
    body = {
        "key": str(issue["key"]),
        "created": stamp(moment(issue["fields"]["created"])),
        "updated": stamp(moment(issue["fields"]["updated"])),
        "issue": str(issue["id"]),
        "metric": metric,
        "name": str(sla["name"]),
        "ongoing": _word(bool(running)),
        "breached": _word(any(cycle.get("breached") for cycle in (*cycles, running))),
        "goal": _length(last.get("goalDuration")),
        "elapsed": "" if ticks else _length(last.get("elapsedTime")),
        "breach_at": _instant(last.get("breachTime")),
        "cycles": str(len(cycles)),
    }
    return Row(stream, f"{body['issue']}.{metric}", body)


def _word(truth: bool) -> str:
    return "true" if truth else "false"


def _length(duration: Json | None) -> str:
    """Milliseconds."""
    return str(int(duration["millis"])) if duration else ""


def _instant(date: Json | None) -> str:
    """Service Management writes an instant in four forms."""
    return stamp(moment(date.get("epochMillis") or date["iso8601"])) if date else ""
