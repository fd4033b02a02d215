"""Change models of a stock instance as rows of ``chg_model`` and ``sttrm_*``.

Owns those rows only. What they say about one change, and the steps that an instance takes by itself, are left to
:mod:`.changes`.
"""

from collections.abc import Iterator, Mapping

from connectors.servicenow.simulator.choices import CHANGE_STATE, pairs
from connectors.servicenow.simulator.marks import digest

LABELS = dict(pairs(CHANGE_STATE))
NO_TASKS = "hasNoActiveChangeTasks"
"""The one scripted condition of the stock models."""
_WORK = (("-2", "-1"), ("-1", "0"), ("0", "3"))
_STEPS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Normal": (("-5", "-4"), ("-4", "-3"), ("-4", "-5"), ("-3", "-2"), ("-3", "-5"), *_WORK),
    "Standard": (("-5", "-2"), *_WORK),
    "Emergency": (("-5", "-3"), ("-3", "-2"), ("-3", "-5"), *_WORK),
    "Unauthorized": (("-5", "-3"), ("-3", "0"), ("-3", "-5"), ("0", "3")),
}
"""Besides these, a change may be cancelled in every state of its model before Review."""
_APPROVED = ("Change is approved", "approval=approved", "")
_WITHOUT_TASKS = ("No active Change Tasks", "", NO_TASKS)
_ASSIGNED = ("Assignment group is set", "assignment_groupISNOTEMPTY", "")
_NOT_HELD = ("Not on hold", "on_hold=false", "")


def model_of(values: Mapping[str, str]) -> str:
    """sys_id of the stock model that a new change gets when none is named."""
    name = "Unauthorized" if values.get("unauthorized") == "true" else values.get("type", "normal").capitalize()
    return _id("chg_model", name)


def stock_models() -> Iterator[tuple[str, dict[str, str]]]:
    """Table and values of every row that makes up the stock models."""
    for name, steps in _STEPS.items():
        starts = dict.fromkeys(source for source, _ in steps if source != "0")
        edges = (*steps, *((source, "4") for source in starts))
        model = _id("chg_model", name)
        yield (
            "chg_model",
            {"sys_id": model, "name": name, "active": "true", "available_in_ui": "true", "state_field": "state",
             "table_name": "change_request", "default_change_model": str(name == "Normal").lower()},
        )  # fmt: skip
        for place, (state, label) in enumerate(LABELS.items()):
            if any(state in edge for edge in edges):
                yield (
                    "sttrm_state",
                    {"sys_id": _id("sttrm_state", name, state), "sttrm_model": model, "state_value": state,
                     "state_label": label, "initial_state": str(state == "-5").lower(), "sequence": str(place)},
                )  # fmt: skip
        for edge in edges:
            yield from _edge(name, model, *edge)


def _edge(name: str, model: str, source: str, target: str) -> Iterator[tuple[str, dict[str, str]]]:
    conditions = _conditions(source, target)
    ends = (_id("sttrm_state", name, source), _id("sttrm_state", name, target))
    transition = _id("sttrm_state_transition", name, source, target)
    values = {"sys_id": transition, "sttrm_model": model, "from_state": ends[0], "to_state": ends[1]}
    automatic = _APPROVED in conditions or _WITHOUT_TASKS in conditions
    yield "sttrm_state_transition", {**values, "automatic_transition": str(automatic).lower()}
    for place, (label, condition, script) in enumerate(conditions):
        yield (
            "sttrm_transition_condition",
            {"sys_id": _id("condition", transition, label), "sttrm_state_transition": transition, "name": label,
             "condition": condition, "condition_script": script, "active": "true", "order": str(100 * (place + 1)),
             "condition_type": "script" if script else "standard"},
        )  # fmt: skip


def _conditions(source: str, target: str) -> list[tuple[str, str, str]]:
    if target == "4":
        return []
    first = [_ASSIGNED] if source == "-5" else []
    if source in ("-4", "-3") and target != "-5":
        first.append(_APPROVED)
    if (source, target) == ("-1", "0"):
        first.append(_WITHOUT_TASKS)
    return [*first, _NOT_HELD]


def _id(*parts: str) -> str:
    return digest(":".join(parts))
