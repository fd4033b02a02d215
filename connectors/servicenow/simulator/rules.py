"""What business rules and data policies of a stock instance say about one record of a task table.

Pure: values in, values out. Which rows are then written, audited or told to others is left to :mod:`.desk`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from connectors.servicenow.simulator.dictionary import is_task, label_of
from connectors.servicenow.simulator.models import model_of

Values = Mapping[str, str]
_ENDED = {
    "incident": ("7", "8"),
    "problem": ("107",),
    "change_request": ("3", "4"),
    "problem_task": ("157",),
}
_STATE_TWINS = ("incident_state", "problem_state")


class Hand(NamedTuple):
    """Who saves, and when."""

    user: str
    """sys_id of the account, or empty"""
    stamp: str


def completed(values: Values, sent: Values) -> dict[str, str]:
    """Columns that follow from others in a new task."""
    added = {"task_effective_number": values.get("number", "")}
    if values.get("sys_class_name") == "change_request" and not values.get("chg_model"):
        added["chg_model"] = model_of(values)
    scales = (values.get("impact", ""), values.get("urgency", ""))
    if "priority" not in sent and all(scales):
        added["priority"] = matrix(*scales)
    return added | dict.fromkeys(_STATE_TWINS, values.get("state", ""))


def consequences(table: str, before: Values, values: Values, hand: Hand) -> dict[str, str]:
    """What a save of ``values`` over a task that was ``before`` changes besides."""
    if not is_task(table):
        return {}
    after = {**before, **values}
    added: dict[str, str] = {}
    if after["state"] != before["state"]:
        added |= _step(table, before, after, hand)
    if any(after.get(name) != before.get(name) for name in ("type", "unauthorized")) and table == "change_request":
        added["chg_model"] = model_of(after)
    if any(after.get(name) != before.get(name) and before.get(name) for name in ("assignment_group", "assigned_to")):
        added["reassignment_count"] = str(int(before.get("reassignment_count") or 0) + 1)
    scales = (after.get("impact", ""), after.get("urgency", ""))
    if all(scales) and scales != (before.get("impact"), before.get("urgency")):
        added["priority"] = matrix(*scales)
    return added


def _step(table: str, before: Values, after: Values, hand: Hand) -> dict[str, str]:
    """Consequences of a change of state."""
    state = after["state"]
    added = dict.fromkeys(_STATE_TWINS, state)
    if table == "incident":
        added |= _incident_step(before, state, hand)
    if table == "problem":
        added |= _problem_step(before, state, hand)
    ended = _ENDED.get(table, ("3", "4", "7"))
    if state in ended:
        added |= {"closed_at": hand.stamp, "closed_by": hand.user, "active": "false"}
    elif before["state"] in ended:
        added["active"] = "true"
    return added


def _incident_step(before: Values, state: str, hand: Hand) -> dict[str, str]:
    added = {} if state == "3" else {"hold_reason": ""}
    if state == "6":
        added |= {"resolved_at": hand.stamp, "resolved_by": hand.user}
    if before["state"] in ("6", "7") and state not in ("6", "7", "8"):
        added |= {"resolved_at": "", "resolved_by": ""}
        added |= {"reopened_time": hand.stamp, "reopened_by": hand.user}
        added["reopen_count"] = str(int(before.get("reopen_count") or 0) + 1)
    return added


def _problem_step(before: Values, state: str, hand: Hand) -> dict[str, str]:
    if state == "106":
        return {"resolved_at": hand.stamp, "resolved_by": hand.user}
    if before["state"] in ("106", "107") and state != "107":
        return {"resolved_at": "", "resolved_by": "", "resolution_code": ""}
    return {}


def is_fixed(table: str, field: str, before: Values) -> bool:
    """Whether a client may no longer set ``field``: the type of a change is settled when it leaves New or somebody was
    asked to approve it.
    """
    fresh = (before.get("state"), before.get("approval")) == ("-5", "not requested")
    return (table, field) == ("change_request", "type") and not fresh


def missing(table: str, before: Values, taken: Values) -> str:
    """Labels of the fields that data policies ask for and a write would leave blank; empty if there are none."""
    after = {**before, **taken}
    state = taken.get("state", taken.get("incident_state"))
    wanted: tuple[str, ...] = ()
    if table == "incident" and state in ("6", "7"):
        wanted = ("close_code", "close_notes")
    if table == "change_request" and state not in (None, "-5", "4"):
        wanted = ("assignment_group", *(("close_code", "close_notes") if state == "3" else ()))
    return ", ".join(label_of(table, name) for name in wanted if name in after and not after[name])


def matrix(impact: str, urgency: str) -> str:
    """Priority of a stock instance: 1 and 1 make 1, 3 and 3 make 5."""
    return str(int(impact) + int(urgency) - 1) if impact.isdigit() and urgency.isdigit() else ""
