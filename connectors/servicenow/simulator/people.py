"""What people and jobs do at the instance without the account of the API, for tests and rehearsals: ``/_sim/act``.

Owns saves by anybody at any stamp, so that changes share a second or come late, and the list of all that was issued.
What a save brings about is :mod:`.desk`'s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import seconds

_AUDIT = ("tablename", "documentkey", "fieldname", "sys_created_on")
_NOTE = ("name", "element_id", "element", "sys_created_on")


def act(desk: Desk, asked: Mapping[str, Any]) -> dict[str, str]:
    """``{"table", "by", "values", "sys_id"?, "at"?, "delete"?, "workflow"?}``: an insert without ``sys_id``, else a
    save or delete. ``workflow: false``: a script saves past rules, auditing and metrics.

    ``at`` is the stamp of it, now if it is absent: an older one is what a long transaction leaves. Returns the row's id
    and number. ``KeyError`` for a table or row that is not there.
    """
    with desk.lock:
        table, by = desk.tables[asked["table"]], asked["by"]
        at = seconds(asked["at"]) if "at" in asked else desk.clock()
        values = {name: str(value) for name, value in asked.get("values", {}).items()}
        if "sys_id" not in asked:
            row = desk.insert(table, values, by, at)
        else:
            row = table.rows[asked["sys_id"]]
            if asked.get("delete"):
                desk.delete(table, row, by, at)
            elif not asked.get("workflow", True):
                desk.save_quietly(table, row, values, by, at)
            else:
                desk.save(table, row, values, by, at)
        return {"sys_id": table.get(row, "sys_id"), "number": table.get(row, "number")}


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
