"""Plain pages for a person who follows a link: the tables, a table's first rows, a record.

A record shows its fields, what belongs to it (approvals, tasks, service levels, records that name it), its notes and
its history; every reference is a link.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from urllib.parse import parse_qs, unquote

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.dictionary import label_of, reference_of
from connectors.servicenow.simulator.table_api import Reply
from connectors.servicenow.simulator.tables import Row, Table

HTML = "text/html;charset=UTF-8"
_FORM = re.compile(r"/?([a-z0-9_]+?)(_list)?\.do")
_SHOWN_ROWS = 100
_RELATED = (
    ("Approvals", "sysapproval_approver", "sysapproval", ("approver", "state", "group", "sys_created_on",
     "sys_updated_on")),
    ("Group approvals", "sysapproval_group", "parent", ("assignment_group", "approval", "wait_for")),
    ("Change tasks", "change_task", "change_request", ("change_task_type", "short_description", "state",
     "assigned_to")),
    ("Problem tasks", "problem_task", "problem", ("problem_task_type", "short_description", "state", "assigned_to")),
    ("Requested items", "sc_req_item", "request", ("short_description", "state", "approval")),
    ("Catalogue tasks", "sc_task", "request_item", ("short_description", "state", "assigned_to")),
    ("Service levels", "task_sla", "task", ("sla", "stage", "has_breached", "planned_end_time", "percentage")),
    ("Affected items", "task_ci", "task", ("ci_item",)),
    ("Incidents of this problem", "incident", "problem_id", ("short_description", "state")),
    ("Incidents waiting for this change", "incident", "rfc", ("short_description", "state")),
    ("Incidents caused by this change", "incident", "caused_by", ("short_description", "state")),
    ("Incidents below", "incident", "parent_incident", ("short_description", "state")),
    ("Changes from this record", "change_request", "parent", ("short_description", "state")),
    ("Problems waiting for this change", "problem", "rfc", ("short_description", "state")),
)  # fmt: skip
"""heading, table, the column that names the record, columns shown"""
_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2rem auto;max-width:60rem;color:#222}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:.2rem .6rem;border-bottom:1px solid #ddd}th{font-weight:600}"
    "td.text{white-space:pre-wrap}"
)


def page(desk: Desk, path: str, query: str) -> Reply | None:
    """The page at an address, 404 for a record that is not there, ``None`` for an address that is no page."""
    if path == "/nav_to.do":
        # the inner address is often given unencoded, so its own question mark and equals sign are still there
        path, _, query = unquote(query.removeprefix("uri=")).partition("?")
    with desk.lock:
        desk.tick()
        if path == "/":
            return _html("Tables", _tables(desk))
        match = _FORM.fullmatch(path)
        table = desk.table(match[1]) if match else None
        if match is None or table is None:
            return None
        if match[2]:
            return _html(table.name, _list(table))
        found = desk.find(table.name, parse_qs(query).get("sys_id", [""])[0])
        if found is None:
            return Reply(404, _document("Record not found", "<p>There is no such record.</p>"), content_type=HTML)
        return _html(found[0].get(found[1], "number") or table.name, _record(desk, *found))


def _html(title: str, body: str) -> Reply:
    return Reply(200, _document(title, body), content_type=HTML)


def _document(title: str, body: str) -> bytes:
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
    top = f'<p><a href="/">Simulated ServiceNow</a></p><h1>{escape(title)}</h1>'
    return f"<!DOCTYPE html><html lang=en><head>{head}</head><body>{top}{body}</body></html>".encode()


def _tables(desk: Desk) -> str:
    rows = ((f'<a href="/{name}_list.do">{name}</a>', str(len(table.rows))) for name, table in desk.tables.items())
    return _grid(("Table", "Rows"), rows)


def _list(table: Table) -> str:
    latest = list(table.rows.values())[-_SHOWN_ROWS:][::-1]
    names = [name for name in ("number", "name", "short_description", "state", "sys_updated_on") if name in table.index]
    rows = (
        [_link(table.name, table.get(row, "sys_id")), *(escape(table.get(row, name)) for name in names)]
        for row in latest
    )
    return f"<p>The newest {len(latest)} of {len(table.rows)}.</p>" + _grid(("sys_id", *names), rows)


def _link(table: str, sys_id: str, text: str | None = None) -> str:
    return f'<a href="/{escape(table)}.do?sys_id={escape(sys_id)}">{escape(text or sys_id)}</a>'


def _record(desk: Desk, table: Table, row: Row) -> str:
    fields = ((escape(name), _shown(desk, table, name, table.get(row, name))) for name in table.columns)
    sys_id = table.get(row, "sys_id")
    notes = (
        (escape(at), escape(by), escape(element), escape(text))
        for at, by, element, text in desk.journal(sys_id, ("comments", "work_notes"))
    )
    return (
        _grid(("Field", "Value"), (pair for pair in fields if pair[1]))
        + "".join(_related(desk, sys_id))
        + "<h2>Notes</h2>"
        + _grid(("When (UTC)", "Who", "Kind", "Text"), notes)
        + "<h2>History</h2>"
        + _grid(("When (UTC)", "Who", "Save", "Field", "From", "To"), _history(desk, table, sys_id))
    )


def _related(desk: Desk, sys_id: str) -> Iterator[str]:
    """What belongs to a record, list by list; empty lists are left out."""
    for heading, name, column, columns in _RELATED:
        table, rows = desk.tables[name], desk.related(name, column, sys_id)
        shown = [
            [
                _link(name, table.get(row, "sys_id"), table.get(row, "number") or "open"),
                *(_shown(desk, table, field, table.get(row, field)) for field in columns),
            ]
            for row in sorted(rows, key=lambda row: table.get(row, "sys_created_on"))
        ]
        if shown:
            yield f"<h2>{heading}</h2>" + _grid(("Record", *map(label_of, columns)), shown)


def _history(desk: Desk, table: Table, sys_id: str) -> list[tuple[str, ...]]:
    audit = desk.tables["sys_audit"]
    lines = []
    for row in desk.history(sys_id):
        name = audit.get(row, "fieldname")
        heads = (escape(audit.get(row, column)) for column in ("sys_created_on", "user", "record_checkpoint"))
        values = (_shown(desk, table, name, audit.get(row, column)) for column in ("oldvalue", "newvalue"))
        lines.append((*heads, escape(name), *values))
    return lines


def _shown(desk: Desk, table: Table, name: str, value: str) -> str:
    """A value for the eye: the label beside the code, the name instead of the id."""
    target = reference_of(table.name, name)
    if target and value:
        return _link(target, value, desk.display(target, value))
    label = desk.label(table.name, name, value)
    return escape(value if label == value else f"{label} ({value})")


def _grid(heads: tuple[str, ...], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td class=text>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
