"""What the instance does about changes by itself, and what a change's model says about its next steps.

A model only tells: through the Table API any state may be set, as on a base instance. By itself the instance cancels
open tasks when a change reaches Review or is cancelled, and takes the automatic step when the last task is closed.
"""

from collections.abc import Mapping
from typing import NamedTuple

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.models import LABELS, NO_TASKS
from connectors.servicenow.simulator.search import row_test
from connectors.servicenow.simulator.tables import Row, Table

_REVIEW_TASK = "review"


class Transition(NamedTuple):
    """A configured step away from a change's present state."""

    sys_id: str
    source: str
    target: str
    automatic: bool
    conditions: list[tuple[str, str, bool]]
    """sys_id and name of each condition, and whether the change fulfils it now"""

    @property
    def available(self) -> bool:
        return all(passed for _, _, passed in self.conditions)


def transitions(desk: Desk, change: Row) -> list[Transition]:
    """The configured steps from the state in which ``change`` is, in the order of the table."""
    changes, states = desk.tables["change_request"], desk.tables["sttrm_state"]
    model, state = changes.get(change, "chg_model"), changes.get(change, "state")
    table = desk.tables["sttrm_state_transition"]
    values = {sys_id: states.get(row, "state_value") for sys_id, row in states.rows.items()}
    found = []
    for row in desk.related("sttrm_state_transition", "sttrm_model", model):
        source, target = (values.get(table.get(row, end), "") for end in ("from_state", "to_state"))
        if source == state:
            sys_id = table.get(row, "sys_id")
            automatic = table.get(row, "automatic_transition") == "true"
            found.append(Transition(sys_id, source, target, automatic, _checked(desk, changes, change, sys_id)))
    return sorted(found, key=lambda one: list(LABELS).index(one.target) if one.target in LABELS else len(LABELS))


def _checked(desk: Desk, changes: Table, change: Row, transition: str) -> list[tuple[str, str, bool]]:
    table = desk.tables["sttrm_transition_condition"]
    checked = []
    for row in desk.related("sttrm_transition_condition", "sttrm_state_transition", transition):
        if table.get(row, "condition_script") == NO_TASKS:
            passed = not open_tasks(desk, changes.get(change, "sys_id"))
        else:
            passed = row_test(desk, changes, table.get(row, "condition"))(change)
        checked.append((table.get(row, "sys_id"), table.get(row, "name"), passed))
    return checked


def open_tasks(desk: Desk, change: str) -> list[Row]:
    """Change tasks of a change that are still active."""
    tasks = desk.tables["change_task"]
    return [row for row in desk.related("change_task", "change_request", change) if tasks.get(row, "active") == "true"]


def follow(desk: Desk, table: Table, row: Row, olds: Mapping[str, str] | None, by: str, at: float) -> None:
    """React to a save of ``row``; ``olds`` holds what the changed fields were, ``None`` after an insert."""
    if table.name == "change_request" and olds and "state" in olds and table.get(row, "state") in ("0", "4"):
        _cancel_tasks(desk, table.get(row, "sys_id"), by, at)
    if table.name == "change_task" and olds and "active" in olds:
        found = desk.find("change_request", table.get(row, "change_request"))
        if found is not None:
            advance(desk, found[1], by, at)


def _cancel_tasks(desk: Desk, change: str, by: str, at: float) -> None:
    """Work that was still open is cancelled, so a test can vanish without a word; a review is for later and stays."""
    tasks = desk.tables["change_task"]
    for task in open_tasks(desk, change):
        if tasks.get(task, "change_task_type") != _REVIEW_TASK:
            desk.save(tasks, task, {"state": "4"}, by, at)


def advance(desk: Desk, change: Row, by: str, at: float) -> None:
    """Take the automatic step that is open to ``change``, if there is one."""
    step = next((one for one in transitions(desk, change) if one.automatic and one.available), None)
    if step is not None:
        desk.save(desk.tables["change_request"], change, {"state": step.target}, by, at)
