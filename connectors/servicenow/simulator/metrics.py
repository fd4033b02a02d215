"""Metrics: one row of ``metric_instance`` for each span of time that a field of a task keeps its value.

Off unless asked for, as no definition may be active on an instance. The product works rows out some seconds after the
save, from the save's own time: ``lag`` is that delay. Definitions see nothing that happened before ``since``; the
first span of a task that is older begins with the first change after it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import digest, seconds, stamp
from connectors.servicenow.simulator.tables import Row, Table

_MEASURED = ("incident", "problem", "change_request", "sc_req_item")


@dataclass(frozen=True, slots=True)
class _Change:
    """A value that a field has got, to be written down when it is ``due``."""

    due: float
    table: str
    record: str
    field: str
    value: str
    at: float


class Metrics:
    """The definitions of one instance, one for each field of each measured table, and what they have yet to write."""

    def __init__(self, fields: Sequence[str], lag: float, since: str) -> None:
        self._fields = fields
        self._lag = lag
        self._since = seconds(since) if since else 0.0
        self._waiting: deque[_Change] = deque()

    def define(self, desk: Desk) -> None:
        """Put the definitions into their table."""
        table = desk.tables["metric_definition"]
        for name in _MEASURED:
            for field in self._fields:
                values = {"sys_id": _definition(name, field), "name": f"{name} {field} duration", "table": name}
                values |= {"field": field, "type": "field_value_duration", "active": "true"}
                table.insert(table.row({**values, "sys_created_on": stamp(self._since)}))

    def follow(self, desk: Desk, table: Table, row: Row, olds: Mapping[str, str] | None, by: str, at: float) -> None:
        """React to a save of ``row``; ``olds`` holds what the changed fields were, ``None`` after an insert."""
        if table.name not in _MEASURED or at < self._since:
            return
        for field in self._fields:
            if field in table.index and (olds is None or field in olds):
                sys_id, value = table.get(row, "sys_id"), table.get(row, field)
                self._waiting.append(_Change(at + self._lag, table.name, sys_id, field, value, at))
        self.tick(desk, at)

    def tick(self, desk: Desk, now: float) -> None:
        """Write down what is due. What a save in the past has made due is written with that time."""
        while self._waiting and self._waiting[0].due <= now:
            self._write(desk, self._waiting.popleft())

    def _write(self, desk: Desk, change: _Change) -> None:
        spans, by = desk.tables["metric_instance"], "system"
        for span in desk.related(spans.name, "id", change.record):
            if spans.get(span, "field") == change.field and spans.get(span, "calculation_complete") == "false":
                length = stamp(change.at - seconds(spans.get(span, "start")))
                ended = {"end": stamp(change.at), "duration": length, "business_duration": length}
                desk.save(spans, span, {**ended, "calculation_complete": "true"}, by, change.due)
        values = {
            "definition": _definition(change.table, change.field), "table": change.table, "id": change.record,
            "field": change.field, "field_value": change.value,
            "value": desk.label(change.table, change.field, change.value), "start": stamp(change.at),
            "calculation_complete": "false",
        }  # fmt: skip
        desk.insert(spans, values, by, change.due)


def _definition(table: str, field: str) -> str:
    return digest(f"metric_definition:{table}:{field}")
