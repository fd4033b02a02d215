"""Plain pages for a person who follows a link: the tables, a table's newest rows, a record.

A record shows what it says first, then what belongs to it (approvals, tasks, service levels, records that name it), its
notes, its history and at last every column; every reference is a link. Everything shown is escaped.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from urllib.parse import parse_qs, unquote

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.dictionary import is_task, label_of, reference_of, table_label, type_of
from connectors.servicenow.simulator.table_api import Reply
from connectors.servicenow.simulator.tables import Row, Table

HTML = "text/html;charset=UTF-8"
_FORM = re.compile(r"/?([a-z0-9_]+?)(_list)?\.do")
_SHOWN_ROWS = 100
_FACTS = (
    "state", "type", "approval", "priority", "impact", "urgency", "risk", "assignment_group", "assigned_to",
    "caller_id", "requested_for", "requested_by", "opened_by", "opened_at", "hold_reason", "on_hold_reason", "parent",
    "problem_id", "rfc", "caused_by", "parent_incident", "change_request", "problem", "request", "request_item",
    "cmdb_ci", "start_date", "end_date", "work_start", "work_end", "resolution_code", "close_code", "resolved_by",
    "resolved_at", "closed_by", "closed_at", "correlation_display", "correlation_id",
)  # fmt: skip
"""Columns of a task that a person looks for first, in this order, where they are filled."""
_TEXTS = (
    "description", "justification", "implementation_plan", "backout_plan", "test_plan", "cause_notes", "workaround",
    "fix_notes", "review_comments", "close_notes",
)  # fmt: skip
"""Columns that hold whole texts."""
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
_NOTES = {"comments": "Additional comment", "work_notes": "Work note"}
_ADDRESS = re.compile(r"https?://[^\s<>\"]+")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #f4f6f6; margin: 0; }
header { background: #293e40; color: #dfe6e6; } header a { color: #fff; font-weight: 600; text-decoration: none; }
header div, main { max-width: 66rem; margin: 0 auto; padding: .7rem 1.2rem; } main { padding-bottom: 3rem; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: .2rem 0 1rem; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; }
a { color: #1f6f7a; } .quiet { color: #5c6b6d; margin: 0; } .stamp { white-space: nowrap; }
table { border-collapse: collapse; width: 100%; background: #fff; border: 1px solid #d9dfdf; }
td, th { text-align: left; vertical-align: top; padding: .35rem .7rem; border-bottom: 1px solid #e6eaea; }
th { background: #eaefef; font-weight: 600; } td { white-space: pre-wrap; overflow-wrap: anywhere; }
.card { background: #fff; border: 1px solid #d9dfdf; padding: .8rem 1.1rem; margin: 0 0 .6rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; } .work_notes { background: #fff8e1; }
.facts { display: grid; grid-template-columns: 1fr 1fr; column-gap: 2.5rem; margin: 0; }
.facts div { display: grid; grid-template-columns: 11rem 1fr; padding: .25rem 0; border-bottom: 1px solid #eef1f1; }
.facts dt { color: #5c6b6d; } .facts dd { margin: 0; overflow-wrap: anywhere; } summary { cursor: pointer; }
@media (max-width: 50rem) { .facts { grid-template-columns: 1fr; } }
"""


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
            return _html(table_label(table.name), _list(desk, table))
        found = desk.find(table.name, parse_qs(query).get("sys_id", [""])[0])
        if found is None:
            missing = _document("Record not found", "<p>There is no such record.</p>")
            return Reply(404, missing, content_type=HTML)
        return _html(_title(*found), _record(desk, *found), _kind(*found))


def _html(title: str, body: str, kind: str = "") -> Reply:
    return Reply(200, _document(title, body, kind), content_type=HTML)


def _document(title: str, body: str, kind: str = "") -> bytes:
    head = (
        "<meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    top = '<header><div><a href="/">ServiceNow (simulated)</a> times in UTC</div></header>'
    heads = f"<p class=quiet>{kind}</p><h1>{escape(title)}</h1>"
    return (
        f"<!DOCTYPE html><html lang=en><head>{head}</head><body>{top}<main>{heads}{body}</main></body></html>".encode()
    )


def _title(table: Table, row: Row) -> str:
    names = (table.get(row, column) for column in ("short_description", "name", "number"))
    return next((name for name in names if name), table_label(table.name))


def _kind(table: Table, row: Row) -> str:
    number = table.get(row, "number")
    heading = f'<a href="/{escape(table.name)}_list.do">{escape(table_label(table.name))}</a>'
    return f"{heading} · <b>{escape(number)}</b>" if number else heading


def _tables(desk: Desk) -> str:
    """Tables that hold something, those of records first."""
    filled = [table for table in desk.tables.values() if table.rows]
    filled.sort(key=lambda table: not is_task(table.name))
    rows = ((f'<a href="/{table.name}_list.do">{table.name}</a>', str(len(table.rows))) for table in filled)
    return _grid(("Table", "Rows"), rows)


def _list(desk: Desk, table: Table) -> str:
    latest = list(table.rows.values())[-_SHOWN_ROWS:][::-1]
    wanted = ("short_description", "state", "sysapproval", "approver", "task", "sys_updated_on")
    names = [name for name in wanted if name in table.index]
    rows = (
        [_link(table.name, sys_id, desk.display(table.name, sys_id)), *_cells(desk, table, row, names)]
        for row in latest
        for sys_id in (table.get(row, "sys_id"),)
    )
    return f"<p>The newest {len(latest)} of {len(table.rows)}.</p>" + _grid(
        ("Record", *(label_of(table.name, name) for name in names)), rows
    )


def _link(table: str, sys_id: str, text: str) -> str:
    return f'<a href="/{escape(table)}.do?sys_id={escape(sys_id)}">{escape(text)}</a>'


def _record(desk: Desk, table: Table, row: Row) -> str:
    sys_id = table.get(row, "sys_id")
    filled = [name for name in table.columns if table.get(row, name)]
    columns = _grid(("Column", "Value"), zip(filled, _cells(desk, table, row, filled), strict=True))
    if not is_task(table.name):
        return columns + "".join(_related(desk, sys_id)) + _notes(desk, sys_id) + _history(desk, table, sys_id)
    return (
        _facts(desk, table, row)
        + "".join(_text(label_of(table.name, name), table.get(row, name)) for name in _TEXTS if table.get(row, name))
        + "".join(_related(desk, sys_id))
        + _notes(desk, sys_id)
        + _history(desk, table, sys_id)
        + f"<h2>All columns</h2><details><summary>{len(filled)} are filled</summary>{columns}</details>"
    )


def _facts(desk: Desk, table: Table, row: Row) -> str:
    named = [name for name in _FACTS if table.get(row, name)]
    cells = zip(named, _cells(desk, table, row, named), strict=True)
    pairs = (f"<div><dt>{escape(label_of(table.name, name))}</dt><dd>{cell}</dd></div>" for name, cell in cells)
    return f"<dl class='card facts'>{''.join(pairs)}</dl>"


def _text(heading: str, text: str) -> str:
    """A text as it was written, its addresses as links."""
    parts, last = [], 0
    for match in _ADDRESS.finditer(text):
        address = escape(match[0])
        parts += [escape(text[last : match.start()]), f'<a href="{address}">{address}</a>']
        last = match.end()
    return f"<h2>{escape(heading)}</h2><div class='card text'>{''.join(parts)}{escape(text[last:])}</div>"


def _related(desk: Desk, sys_id: str) -> Iterator[str]:
    """What belongs to a record, list by list; empty lists are left out."""
    for heading, name, column, columns in _RELATED:
        table, rows = desk.tables[name], desk.related(name, column, sys_id)
        shown = [
            [
                _link(name, table.get(row, "sys_id"), table.get(row, "number") or "open"),
                *_cells(desk, table, row, columns),
            ]
            for row in sorted(rows, key=lambda row: table.get(row, "sys_created_on"))
        ]
        if shown:
            yield f"<h2>{heading}</h2>" + _grid(("Record", *(label_of(name, field) for field in columns)), shown)


def _notes(desk: Desk, sys_id: str) -> str:
    cards = []
    for at, by, element, text in desk.journal(sys_id, _NOTES):
        head = f"<p class=quiet>{escape(by)} · {_NOTES[element]} · {escape(at)}</p>"
        cards.append(f"<div class='card text {element}'>{head}{escape(text)}</div>")
    return f"<h2>Notes</h2>{''.join(cards)}" if cards else ""


def _history(desk: Desk, table: Table, sys_id: str) -> str:
    """Changed fields in the order of their saves; when and who once for each save."""
    audit = desk.tables["sys_audit"]
    lines: list[tuple[str, ...]] = []
    former = ""
    for row in desk.history(sys_id):
        name, save = audit.get(row, "fieldname"), audit.get(row, "record_checkpoint")
        heads = (_stamped(audit.get(row, "sys_created_on")), escape(audit.get(row, "user")), escape(save))
        values = (_shown(desk, table, name, audit.get(row, column)) for column in ("oldvalue", "newvalue"))
        lines.append((*(heads if save != former else ("", "", "")), escape(label_of(table.name, name)), *values))
        former = save
    return "<h2>History</h2>" + _grid(("When", "Who", "Save", "Field", "From", "To"), lines) if lines else ""


def _cells(desk: Desk, table: Table, row: Row, names: Iterable[str]) -> list[str]:
    return [_shown(desk, table, name, table.get(row, name)) for name in names]


def _shown(desk: Desk, table: Table, name: str, value: str) -> str:
    """A value for the eye: the label beside the code, the name instead of the id."""
    target = reference_of(table.name, name)
    if target and value:
        return _link(target, value, desk.display(target, value)) if desk.find(target, value) else escape(value)
    if type_of(table.name, name) == "glide_date_time":
        return _stamped(value)
    label = desk.label(table.name, name, value)
    return escape(label if label.casefold() == value.casefold() else f"{label} ({value})")


def _stamped(value: str) -> str:
    return f"<span class=stamp>{escape(value)}</span>"


def _grid(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
