"""What a row looks like in an answer: raw, displayed or both, with or without links, dotted fields included.

Every value is a string; which object it is wrapped in depends on ``sysparm_display_value`` and on the field's type.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import NamedTuple

from connectors.servicenow.simulator.desk import ALL, Desk
from connectors.servicenow.simulator.dictionary import reference_of, type_of
from connectors.servicenow.simulator.marks import stamp
from connectors.servicenow.simulator.search import getter
from connectors.servicenow.simulator.tables import Row, Table

Value = str | dict[str, str]
_STAMP = "%Y-%m-%d %H:%M:%S"


class Shape(NamedTuple):
    """How values are asked for."""

    display: str
    """``false``, ``true`` or ``all``"""
    links: bool
    base: str
    """Address of the instance, the start of each link."""


def render(
    desk: Desk, table: Table, rows: Iterable[Row], fields: Iterable[str] | None, shape: Shape
) -> list[dict[str, Value]]:
    """Rows as the answer shows them. Unknown and unreadable fields are left out; ``None`` asks for all fields."""
    names = _known(desk, table, fields)
    if names and shape.display == "false" and all(_is_plain(table, name, shape) for name in names):
        shown = _plain(table, rows, names)
    else:
        makers = [(name, _maker(desk, table, name, shape)) for name in names]
        shown = [{name: make(row) for name, make in makers} for row in rows]
    return _without_unreadable(desk, table, rows, shown)


def _known(desk: Desk, table: Table, fields: Iterable[str] | None) -> list[str]:
    names = table.columns if fields is None else list(dict.fromkeys(fields))
    ends = ((name, getter(desk, table.name, name)) for name in names)
    return [name for name, end in ends if end and end[2] not in desk.access.denied(end[1])]


def _is_plain(table: Table, name: str, shape: Shape) -> bool:
    kind = type_of(table.name, name)
    return "." not in name and kind != "journal_input" and not (shape.links and kind == "reference")


def _plain(table: Table, rows: Iterable[Row], names: list[str]) -> list[dict[str, Value]]:
    """The quick way, for what a replication asks for."""
    places = [table.index[name] for name in names]
    if len(places) == 1:
        return [{names[0]: row[places[0]]} for row in rows]
    return [dict(zip(names, values, strict=True)) for values in map(itemgetter(*places), rows)]


def _without_unreadable(
    desk: Desk, table: Table, rows: Iterable[Row], shown: list[dict[str, Value]]
) -> list[dict[str, Value]]:
    """Field rules that depend on the row: the key set then varies from row to row."""
    partial = {name: ids for name, ids in desk.access.deny_fields.get(table.name, {}).items() if ALL not in ids}
    for name, ids in partial.items():
        for row, body in zip(rows, shown, strict=True):
            if table.get(row, "sys_id") in ids:
                body.pop(name, None)
    return shown


def _maker(desk: Desk, table: Table, name: str, shape: Shape) -> Callable[[Row], Value]:
    end = getter(desk, table.name, name)
    if end is None:
        raise LookupError(name)
    get, owner, field = end
    target, kind = reference_of(owner, field), type_of(owner, field)
    if kind == "journal_input":
        return lambda row: _journal(desk, table, row, field, shape)
    if target:
        return lambda row: _reference(desk, target, get(row), shape)
    label = _labeller(desk, owner, field, kind)
    if shape.display == "false":
        return get
    if shape.display == "true":
        return lambda row: label(get(row))
    return lambda row: {"display_value": label(get(row)), "value": get(row)}


def _labeller(desk: Desk, table: str, field: str, kind: str) -> Callable[[str], str]:
    if kind == "glide_date_time":
        return lambda value: local(value, desk.user_offset)
    choices: Mapping[str, str] = desk.choices(table, field)
    return lambda value: choices.get(value, value)


def _reference(desk: Desk, target: str, value: str, shape: Shape) -> Value:
    name = desk.display(target, value) if value and shape.display != "false" else ""
    link = f"{shape.base}/api/now/table/{target}/{value}"
    if shape.display == "all":
        return {"display_value": name, **({"link": link} if shape.links and value else {}), "value": value}
    shown = value if shape.display == "false" else name
    if not (shape.links and value):
        return shown
    return {"link": link, "value": value} if shape.display == "false" else {"display_value": name, "link": link}


def _journal(desk: Desk, table: Table, row: Row, field: str, shape: Shape) -> Value:
    """Blank when raw; the whole thread, newest first, when displayed."""
    if shape.display == "false":
        return ""
    elements = ("comments", "work_notes") if field == "comments_and_work_notes" else (field,)
    notes = desk.journal(table.get(row, "sys_id"), elements)
    heads = {"comments": "Additional comments", "work_notes": "Work notes"}
    text = "".join(
        f"{local(at, desk.user_offset)} - {by} ({heads[element]})\n{note}\n\n" for at, by, element, note in notes
    )
    return text if shape.display == "true" else {"display_value": text, "value": ""}


def local(value: str, offset: float) -> str:
    """A raw stamp in the user's time zone; anything else unchanged."""
    try:
        at = datetime.strptime(value, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return value
    return stamp(at.timestamp() + offset)


def raw(value: str, offset: float) -> str:
    """The inverse of :func:`local`."""
    return local(value, -offset)
