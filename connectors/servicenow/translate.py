"""Raw ServiceNow rows to facts, and the shapes of ServiceNow's values.

Pure: reading and a later replay of stored rows both go through :func:`translate`, so they find the same facts. Leaves
to ``walk`` what is asked for, to ``columns`` what is replaced before a row is made, to the kernel what facts mean.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from itsms_sync.records import Event, Facts, Fate, Millis, Record, Row, What, Witness

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])", re.ASCII)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_TEXT_ONLY = {str}
_AUDIT = Witness.AUDIT.value
_JOURNAL = Witness.JOURNAL.value
_METRIC = Witness.METRIC.value
_LABELS = {
    "sysapproval_approver": "sysapproval.number",
    "task_sla": "task.number",
    "task_ci": "task.number",
}
"""Kinds whose records have no number: they go by the number of the task that they belong to."""


def audit_stream(kind: str) -> str:
    """Changes of the fields that are named in a mapping, with their values."""
    return f"sys_audit:{kind}"


def saves_stream(kind: str) -> str:
    """Changes of all other fields, without their names and values: they prove that a save happened."""
    return f"sys_audit:{kind}:saves"


def journal_stream(kind: str) -> str:
    """Comments and work notes, each an immutable row."""
    return f"sys_journal_field:{kind}"


def metric_stream(kind: str) -> str:
    """Spans in which a field kept its value, as far as the instance has definitions for them."""
    return f"metric_instance:{kind}"


def deletes_stream(kind: str) -> str:
    """The trail that deletes of records of the kind leave, if its table is audited."""
    return f"sys_audit_delete:{kind}"


def label_field(kind: str) -> str:
    """The column that holds what people call a record of the kind; not every table has it."""
    return _LABELS.get(kind, "number")


def translate(kind: str, rows: Sequence[Row]) -> Facts:
    """The facts in rows of the streams of ``kind``. A row without a readable time was parked by the reader: no fact."""
    audit, saves, journal = audit_stream(kind), saves_stream(kind), journal_stream(kind)
    metric, deletes = metric_stream(kind), deletes_stream(kind)
    records: list[Record] = []
    events: list[Event] = []
    gone: list[Fate] = []
    for row in rows:
        if row.stream == audit:
            _add(events, _change(row))
        elif row.stream == saves:
            _add(events, _save(row))
        elif row.stream == journal:
            _add(events, _note(row))
        elif row.stream == metric:
            events.extend(_span(row))
        elif row.stream == kind:
            _add(records, _record(row))
        elif row.stream == deletes:
            _add(gone, deletion(flat(row.body)))
    return Facts(records, events, tuple(gone))


def _add(found: list[Any], fact: Any) -> None:
    if fact is not None:
        found.append(fact)


def _record(row: Row) -> Record | None:
    fields = flat(row.body)
    updated = millis(fields.get("sys_updated_on"))
    if updated is None:
        return None
    created, version = millis(fields.get("sys_created_on")), whole(fields.get("sys_mod_count"))
    label = fields.get(label_field(row.stream)) or row.key
    return Record(row.stream, row.key, label, created, updated, version, fields)


def _change(row: Row) -> Event | None:
    cells = flat(row.body)
    get = cells.get
    at, record, field = millis(get("sys_created_on")), get("documentkey"), get("fieldname")
    if at is None or not record or not field:
        return None
    order = whole(get("record_checkpoint"))
    return Event(record, field, get("oldvalue"), get("newvalue"), at, get("user") or None, _AUDIT, row.key, order)


def _save(row: Row) -> Event | None:
    cells = flat(row.body)
    at, record = millis(cells.get("sys_created_on")), cells.get("documentkey")
    if at is None or not record:
        return None
    order = whole(cells.get("record_checkpoint"))
    return Event(record, "", None, None, at, cells.get("user") or None, _AUDIT, row.key, order)


def _note(row: Row) -> Event | None:
    """A note has no checkpoint: it belongs to the save of the same second, whose audit row has one."""
    get = flat(row.body).get
    at, record, field = millis(get("sys_created_on")), get("element_id"), get("element")
    if at is None or not record or not field:
        return None
    return Event(record, field, "", get("value"), at, get("sys_created_by") or None, _JOURNAL, row.key, None)


def _span(row: Row) -> Iterator[Event]:
    """Where a span begins and, once it is complete, where it ends. A blank value is one that the instance did not work
    out: it is not known. Who ended the span is not told."""
    get = flat(row.body).get
    start, record, field = millis(get("start")), get("id"), get("field")
    if start is None or not record or not field:
        return
    value, end = get("field_value") or None, millis(get("end"))
    yield Event(record, field, None, value, start, None, _METRIC, row.key, None)
    if end is not None and get("calculation_complete") == "true":
        yield Event(record, field, value or "", None, end, None, _METRIC, f"{row.key}.end", None)


def deletion(cells: Mapping[str, str | None]) -> Fate | None:
    """What a row of ``sys_audit_delete`` says, with its user already replaced."""
    at, record = millis(cells.get("sys_created_on")), cells.get("documentkey")
    if at is None or not record:
        return None
    return Fate(record, What.DELETED.value, "the trail of deletes shows it", at, cells.get("sys_created_by") or None)


def flat(body: Mapping[str, Any]) -> Mapping[str, str | None]:
    """The raw value of each cell; ``body`` itself if it holds nothing else."""
    if {*map(type, body.values())} <= _TEXT_ONLY:
        return body
    return {name: plain(cell) for name, cell in body.items()}


def plain(cell: Any) -> str | None:
    """The raw value of a cell in any shape that the Table API gives it; of a bare reference the id in its link."""
    if isinstance(cell, str) or cell is None:
        return cell
    if isinstance(cell, Mapping):
        if "value" in cell:
            return plain(cell["value"])
        link = cell.get("link")
        return link.rpartition("/")[2] if isinstance(link, str) else plain(cell.get("display_value"))
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def shown(cell: Any) -> str | None:
    """The label of a cell that was asked for with labels; the raw value where it has none."""
    label = cell.get("display_value") if isinstance(cell, Mapping) else None
    return label if isinstance(label, str) and label else plain(cell)


def whole(text: str | None) -> int | None:
    """A counter; ``None`` for what is none."""
    try:
        return int(text or "")
    except ValueError:
        return None


def millis(text: str | None) -> Millis | None:
    """The instant of a raw value ``YYYY-MM-DD HH:MM:SS``, which is UTC; ``None`` for what is none."""
    if text is None or len(text) != 19 or text[10] != " ":
        return None
    day, clock = _day(text[:10]), _clock(text[11:])
    return None if day is None or clock is None else day + clock


def literal(at: Millis) -> str:
    """An instant as a condition names it. Literals are UTC; ``gs.dateGenerate`` would be the account's own time."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


@lru_cache(maxsize=16384)
def _day(text: str) -> Millis | None:
    try:
        return (date.fromisoformat(text).toordinal() - _EPOCH_DAY) * 86_400_000 if _DAY.fullmatch(text) else None
    except ValueError:
        return None


@lru_cache(maxsize=86_400)
def _clock(text: str) -> Millis | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = map(int, match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000


def record_url(base: str, kind: str, sys_id: str, label: str) -> str:
    """The form of a record in the classic user interface, which every release has."""
    return f"{base.rstrip('/')}/nav_to.do?uri={kind}.do%3Fsys_id%3D{sys_id}"
