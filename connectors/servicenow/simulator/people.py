"""What people and jobs do at the instance without the account of the API, for tests and rehearsals: ``/_sim/act``.

Owns saves by anybody at any stamp, so that changes share a second or come late, what no save is (archive, restore, a
script's write past the system columns), and the list of all that was issued. What a save brings about is
:mod:`.desk`'s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import seconds, stamp
from connectors.servicenow.simulator.tables import Row, Table

_AUDIT = ("tablename", "documentkey", "fieldname", "sys_created_on")
_NOTE = ("name", "element_id", "element", "sys_created_on")
Asked = Mapping[str, Any]


def act(desk: Desk, asked: Asked) -> dict[str, str]:
    """``{"table", "by", "values", "sys_id"?, "at"?, "delete"?, "workflow"?}``: an insert without ``sys_id``, else a
    save or delete. ``workflow: false``: a script saves past rules, auditing and metrics.

    ``at`` is the stamp of it, now if it is absent: an older one is what a long transaction leaves. Returns the row's id
    and number. ``KeyError`` for a table or row that is not there. A delete with ``"trail": false`` is a bulk delete,
    which ``sys_audit_delete`` does not tell. What no save is has a name, ``"do"``::

        undelete   a deleted row as it was, its old stamps with it
        archive    an archive rule moves the row to ar_<table>
        overwrite  autoSysFields(false): counter and stamp stay, or are what ``values`` say
    """
    with desk.lock:
        table, by = desk.tables[asked["table"]], asked["by"]
        at = seconds(asked["at"]) if "at" in asked else desk.clock()
        row = _done(desk, table, asked, by, at)
        return {"sys_id": table.get(row, "sys_id"), "number": table.get(row, "number")}


def _done(desk: Desk, table: Table, asked: Asked, by: str, at: float) -> Row:
    """The row that something was done to."""
    values = {name: str(value) for name, value in asked.get("values", {}).items()}
    if "sys_id" not in asked:
        return desk.insert(table, values, by, at)
    if asked.get("do") == "undelete":
        return desk.restore(table, asked["sys_id"])
    row, workflow = table.rows[asked["sys_id"]], asked.get("workflow", True)
    match asked.get("do", "delete" if asked.get("delete") else "save"):
        case "save":
            (desk.save if workflow else desk.save_quietly)(table, row, values, by, at)
        case "delete":
            desk.delete(table, row, by, at, trail=asked.get("trail", True))
        case "overwrite":
            desk.overwrite(table, row, values, by, at, audited=workflow)
        case "archive":
            _archive(desk, table, row, at)
        case unknown:
            raise ValueError(f"nobody knows how to do {unknown!r}")
    return row


def _archive(desk: Desk, table: Table, row: Row, at: float) -> None:
    name = f"ar_{table.name}"
    archive = desk.tables.setdefault(name, Table(name, [*table.columns, "sys_archived"]))
    table.remove(row)
    archive.insert(archive.row({**dict(zip(table.columns, row, strict=True)), "sys_archived": stamp(at)}))


def issued(desk: Desk, names: Sequence[str]) -> dict[str, Any]:
    """Every change of the tables ``names`` that was ever committed, whoever made it: what a reader must know of.

    ``records``: table -> id -> counter of saves and stamp of the last one; ``audit`` and ``notes``: id -> table,
    record, field and stamp; ``deleted``: table and record.
    """
    with desk.lock:
        wanted = [desk.tables[name] for name in names if name in desk.tables]
        records = {
            table.name: {key: [table.get(row, "sys_mod_count"), table.get(row, "sys_updated_on")] for key, row in rows}
            for table in wanted
            for rows in (table.rows.items(),)
        }
        return {
            "records": records,
            "audit": _rows(desk, "sys_audit", _AUDIT, names),
            "notes": _rows(desk, "sys_journal_field", _NOTE, names),
            "deleted": list(_rows(desk, "sys_audit_delete", ("tablename", "documentkey"), names).values()),
        }


def _rows(desk: Desk, name: str, columns: Sequence[str], of: Sequence[str]) -> dict[str, list[str]]:
    """Id -> columns of the rows that are about the tables ``of``, which the first column names."""
    table = desk.tables[name]
    shown = {key: [table.get(row, column) for column in columns] for key, row in table.rows.items()}
    return {key: row for key, row in shown.items() if row[0] in of}
