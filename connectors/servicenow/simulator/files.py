"""Data files: rows in YAML or JSON with what the account may not see, or a public incident log in CSV.

::

    tables:
      incident:                      # a table that no stock instance has is made, with the columns of its rows
        - {number: INC0000001, state: 2, active: true, sys_updated_on: 2026-07-05 10:46:48}
      change_request:
        - {sys_id: <id of the change>, number: CHG0000001, type: normal, state: -3, sys_mod_count: 2, parent: <sys_id>}
      sysapproval_approver:          # asked at sys_created_on, answered at sys_updated_on
        - {sysapproval: <id of the change>, approver: <sys_id of a user>, state: requested}
      sys_audit:                     # one row per changed field; those of one save share record_checkpoint and second
        - {tablename: change_request, documentkey: <id of the change>, fieldname: state, oldvalue: -5, newvalue: -4,
           user: <user name>, record_checkpoint: 1, sys_created_on: 2026-07-05 10:00:00}
    access:
      deny_tables: [metric_instance]
      deny_fields: {incident: [hold_reason], problem: {cause_notes: [<sys_id>]}}
      hide_rows: {incident: [<sys_id>], sys_dictionary: "*"}
      deny_writes: {change_request: [insert, update, delete]}
      audited: {incident: [state]}   # a table that is not named has all its fields audited
      audited_since: {incident: {"*": 2026-07-01 00:00:00, priority: 2026-07-04 00:00:00}}

Values are native and served as the product's strings; what a row leaves out gets the default of its column. No rule
runs while a file is loaded, so records, histories, approvals and tasks have to agree: ``sys_mod_count`` is the highest
checkpoint, ``sys_updated_on`` the stamp of the last save. Own tables (``u_…``, ``x_…``) extend task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
from ruamel.yaml import YAML

from connectors.servicenow.simulator import uci
from connectors.servicenow.simulator.desk import ALL, Access, Desk
from connectors.servicenow.simulator.dictionary import PREFIXES, default_of, is_task, stock_columns
from connectors.servicenow.simulator.marks import digest, stamp
from connectors.servicenow.simulator.models import model_of
from connectors.servicenow.simulator.table_api import as_text
from connectors.servicenow.simulator.tables import Table

_ACCESS = frozenset(("deny_tables", "deny_fields", "hide_rows", "deny_writes", "audited", "audited_since"))


def load(desk: Desk, path: Path) -> None:
    """Put a file's rows into the desk. Raises ``ValueError`` with the file's name for one that cannot be read."""
    if uci.recognises(path):
        uci.load(desk, path)
        return
    document = _document(path)
    unknown = document.keys() - {"tables", "access"}
    if unknown:
        raise ValueError(f"{path}: unknown key {', '.join(sorted(unknown))}; known are tables and access")
    for name, rows in (document.get("tables") or {}).items():
        _fill(desk, name, rows or [])
    if "access" in document:
        try:
            desk.access = Access(**_access(document["access"]))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def regulate(desk: Desk, given: Mapping[str, Any]) -> None:
    """Grant and withdraw while the instance runs: what is named under ``access`` takes the place of what was."""
    with desk.lock:
        desk.access = replace(desk.access, **_access(given))


def _document(path: Path) -> Mapping[str, Any]:
    text = path.read_bytes()
    document = orjson.loads(text) if path.suffix == ".json" else YAML(typ="safe", pure=True).load(text)
    if not isinstance(document, dict):
        raise ValueError(f"{path}: neither a mapping with tables nor a known log")
    return document


def _fill(desk: Desk, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    table = desk.tables.setdefault(name, Table(name, stock_columns(name)))
    table.extend(dict.fromkeys(column for row in rows for column in row))
    table.load([table.row(_values(name, place, row)) for place, row in enumerate(rows, len(table.rows))])


def _values(table: str, place: int, row: Mapping[str, Any]) -> dict[str, str]:
    """A file's row as text, with what every row has where the file is silent."""
    values = {column: _text(value) for column, value in row.items()}
    values.setdefault("sys_id", digest(f"{table}:{values.get('number') or place}"))
    values.setdefault("sys_mod_count", "0")
    values.setdefault("sys_created_on", stamp(0))
    values.setdefault("sys_updated_on", values["sys_created_on"])
    if is_task(table):
        values.setdefault("number", f"{PREFIXES.get(table, 'TASK')}{10001 + place:07d}")
        values.setdefault("task_effective_number", values["number"])
        values.setdefault("opened_at", values["sys_created_on"])
        for twin in ("incident_state", "problem_state"):
            values.setdefault(twin, values.get("state", default_of(table, "state")))
    if table == "change_request":
        values.setdefault("chg_model", model_of(values))
    return values


def _text(value: Any) -> str:
    """A native value as the instance stores it; an instant without a zone is UTC."""
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).strftime("%Y-%m-%d %H:%M:%S")
    return value.isoformat() if isinstance(value, date) else as_text(value)


def _access(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``Access`` that are given; raises ``ValueError`` for an unknown one."""
    unknown = given.keys() - _ACCESS
    if unknown:
        raise ValueError(f"unknown key {', '.join(sorted(unknown))} in access; known are {', '.join(sorted(_ACCESS))}")
    read: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("hide_rows", "deny_writes", "audited"), _sets),
        "deny_tables": lambda names: frozenset(names or ()),
        "deny_fields": lambda tables: {table: _fields(denied) for table, denied in (tables or {}).items()},
        "audited_since": lambda tables: {table: _stamps(since) for table, since in (tables or {}).items()},
    }
    return {name: read[name](value) for name, value in given.items()}


def _stamps(since: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(at) for name, at in since.items()}


def _sets(given: Mapping[str, Any] | None) -> dict[str, frozenset[str]]:
    return {table: frozenset((names,) if isinstance(names, str) else names) for table, names in (given or {}).items()}


def _fields(denied: Any) -> dict[str, frozenset[str]]:
    """A list denies fields in all rows, a mapping in the rows that it names."""
    return _sets(denied) if isinstance(denied, dict) else {name: frozenset((ALL,)) for name in denied}
