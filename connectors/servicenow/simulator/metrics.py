"""Metrics: one row of ``metric_instance`` for each span of time that a task spends in one state.

Off unless asked for, as the definition may be inactive on an instance. Rows come with the save; the product's lag of
some seconds is not simulated.
"""

from collections.abc import Mapping

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import digest, seconds, stamp
from connectors.servicenow.simulator.tables import Row, Table

_MEASURED = ("incident", "problem", "change_request", "sc_req_item")


def define(desk: Desk) -> None:
    """Put the definitions into their table."""
    table = desk.tables["metric_definition"]
    for name in _MEASURED:
        values = {"sys_id": _definition(name), "name": f"{name} state duration", "table": name, "field": "state"}
        table.insert(table.row({**values, "type": "field_value_duration", "active": "true"}))


def follow(desk: Desk, table: Table, row: Row, olds: Mapping[str, str] | None, by: str, at: float) -> None:
    """React to a save of ``row``; ``olds`` holds what the changed fields were, ``None`` after an insert."""
    if table.name not in _MEASURED or not (olds is None or "state" in olds):
        return
    spans, sys_id, state = desk.tables["metric_instance"], table.get(row, "sys_id"), table.get(row, "state")
    for span in desk.related(spans.name, "id", sys_id):
        if spans.get(span, "calculation_complete") == "false":
            length = stamp(at - seconds(spans.get(span, "start")))
            ended = {"end": stamp(at), "duration": length, "business_duration": length, "calculation_complete": "true"}
            desk.save(spans, span, ended, by, at)
    values = {
        "definition": _definition(table.name), "table": table.name, "id": sys_id, "field": "state",
        "field_value": state, "value": desk.label(table.name, "state", state), "start": stamp(at),
        "calculation_complete": "false",
    }  # fmt: skip
    desk.insert(spans, values, by, at)


def _definition(table: str) -> str:
    return digest(f"metric_definition:{table}")
