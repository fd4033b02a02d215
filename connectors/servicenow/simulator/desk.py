"""The instance: its tables, its clock, who may see what, and what a save brings about.

Owns the business rules (numbers, states kept in step, audit and journal rows, read-only fields, data policy). Sockets
and JSON are left to :mod:`.table_api`; finding rows to :mod:`.search`. Everything here runs under :attr:`Desk.lock`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import RLock

from connectors.servicenow.simulator.dictionary import (
    JOURNALS,
    PREFIXES,
    is_read_only,
    is_task,
    label_of,
    reference_of,
    stock_choices,
    stock_columns,
    stock_tables,
    type_of,
)
from connectors.servicenow.simulator.tables import Row, Table

ALL = "*"
_UNAUDITED = frozenset(("incident_state", "problem_state", "task_effective_number", "comments_and_work_notes"))


class RefusedError(Exception):
    """A write or a read that the instance denies; ``detail`` says which kind of rule did it."""

    def __init__(self, message: str, detail: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Access:
    """What the one account of this instance may not do. The star stands for all rows or all fields."""

    deny_tables: frozenset[str] = frozenset()
    deny_fields: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """table -> field -> sys_ids of the rows in which it is missing, or the star"""
    hide_rows: Mapping[str, frozenset[str]] = field(default_factory=dict)
    deny_writes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """table -> insert, update, delete"""
    audited: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """table -> fields that leave audit rows; a table that is not named has all of them audited"""

    def hides(self, table: str, sys_id: str) -> bool:
        hidden = self.hide_rows.get(table, frozenset())
        return ALL in hidden or sys_id in hidden

    def denied(self, table: str) -> frozenset[str]:
        """Fields of ``table`` that no row shows."""
        return frozenset(name for name, rows in self.deny_fields.get(table, {}).items() if ALL in rows)

    def audits(self, table: str, name: str) -> bool:
        return name not in _UNAUDITED and (table not in self.audited or name in self.audited[table])


def digest(text: str) -> str:
    """A sys_id that the same text always gets."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def stamp(seconds: float) -> str:
    """An instant as the instance writes it: UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")


class Desk:
    """One instance. ``clock`` gives seconds since 1970; ``account`` is the user name that the API logs in as."""

    def __init__(self, *, clock: Callable[[], float], account: str, data_policy: bool, user_offset: float) -> None:
        self.lock = RLock()
        self.clock = clock
        self.account = account
        self.account_id = ""
        self.data_policy = data_policy
        self.user_offset = user_offset
        self.access = Access()
        self.planted: dict[str, list[str]] = {}
        self.tables = {name: Table(name, stock_columns(name)) for name in stock_tables()}
        self._made = 0
        self._numbers: dict[str, int] = {}
        self._labels: dict[tuple[str, str], dict[str, str]] = {}
        self._labels_at = -1
        self._tasks: tuple[int, Table] | None = None

    # --- reading -------------------------------------------------------------------------------------------------

    def table(self, name: str) -> Table | None:
        """The table; ``task`` is the union of all that extend it, so its state codes collide."""
        return self._all_tasks() if name == "task" else self.tables.get(name)

    def _all_tasks(self) -> Table:
        parts = [table for name, table in self.tables.items() if is_task(name)]
        saves = sum(table.saves for table in parts)
        if self._tasks is None or self._tasks[0] != saves:
            union = Table("task", stock_columns("task"))
            places = [[table.index.get(column) for column in union.columns] for table in parts]
            for table, wanted in zip(parts, places, strict=True):
                union.load([["" if i is None else row[i] for i in wanted] for row in table.rows.values()])
            self._tasks = (saves, union)
        return self._tasks[1]

    def find(self, table: str, sys_id: str) -> tuple[Table, Row] | None:
        """The row behind a reference to ``table``; one to ``task`` is looked for in everything that extends it."""
        names = [name for name in self.tables if is_task(name)] if table == "task" else [table]
        for name in names:
            row = self.tables[name].rows.get(sys_id) if name in self.tables else None
            if row is not None:
                return self.tables[name], row
        return None

    def display(self, table: str, sys_id: str) -> str:
        """What people call the row that a reference points to; its id where there is none."""
        found = self.find(table, sys_id)
        if found is None:
            return sys_id
        owner, row = found
        names = (owner.get(row, column) for column in (("number",) if is_task(owner.name) else ("name", "user_name")))
        return next((name for name in names if name), sys_id)

    def label(self, table: str, column: str, value: str) -> str:
        """Label of a choice; the value itself where sys_choice knows none."""
        return self.choices(table, column).get(value, value)

    def choices(self, table: str, column: str) -> Mapping[str, str]:
        """Raw value -> label of a choice field; empty for other fields."""
        choice = self.tables["sys_choice"]
        if self._labels_at != choice.saves:
            self._labels_at = choice.saves
            self._labels = {}
            for row in choice.rows.values():
                key = (choice.get(row, "name"), choice.get(row, "element"))
                self._labels.setdefault(key, {})[choice.get(row, "value")] = choice.get(row, "label")
        return self._labels.get((table, column)) or (self._labels.get(("task", column), {}) if is_task(table) else {})

    def journal(self, sys_id: str, elements: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
        """Notes of a record, newest first: stamp, user name, element, text."""
        table = self.tables["sys_journal_field"]
        wanted = set(elements)
        for row in reversed(self._of_record(table, "element_id", sys_id)):
            element = table.get(row, "element")
            if element in wanted:
                yield (
                    table.get(row, "sys_created_on"),
                    table.get(row, "sys_created_by"),
                    element,
                    table.get(row, "value"),
                )

    def history(self, sys_id: str) -> list[Row]:
        """Audit rows of a record in the order in which they were saved."""
        return self._of_record(self.tables["sys_audit"], "documentkey", sys_id)

    @staticmethod
    def _of_record(table: Table, column: str, sys_id: str) -> list[Row]:
        place, then = table.index[column], "record_checkpoint" if column == "documentkey" else "sys_created_on"
        order = table.order((place, table.index[then]))
        start, rows = order.place((sys_id,)), order.rows
        end = start
        while end < len(rows) and rows[end][place] == sys_id:
            end += 1
        return rows[start:end]

    # --- writing -------------------------------------------------------------------------------------------------

    def insert(self, table: Table, values: Mapping[str, str], by: str, at: float) -> Row:
        """Store a new row made by user ``by``. Inserts are not audited; notes sent along are."""
        sent = {name: value for name, value in values.items() if name not in JOURNALS}
        row = table.row({**self._born(table, by, at), **sent})
        if is_task(table.name):
            self._complete(table, row, sent)
        table.insert(row)
        self._note(table, row, values, by, at)
        return row

    def _born(self, table: Table, by: str, at: float) -> dict[str, str]:
        self._made += 1
        now = stamp(at)
        born = {"sys_id": digest(f"{table.name}:{by}:{now}:{self._made}"), "sys_created_on": now, "sys_created_by": by}
        born |= {"sys_updated_on": now, "sys_updated_by": by, "sys_mod_count": "0"}
        if is_task(table.name):
            born |= {"opened_at": now, "opened_by": self.user_id(by), "number": self.next_number(table)}
        return born

    def _complete(self, table: Table, row: Row, sent: Mapping[str, str]) -> None:
        """Columns that follow from others in a new task."""
        index = table.index
        values = {"task_effective_number": table.get(row, "number")}
        if "priority" not in sent and table.get(row, "impact") and table.get(row, "urgency"):
            values["priority"] = matrix(table.get(row, "impact"), table.get(row, "urgency"))
        for twin in ("incident_state", "problem_state"):
            values[twin] = table.get(row, "state")
        for name, value in values.items():
            if name in index:
                row[index[name]] = value

    def save(self, table: Table, row: Row, values: Mapping[str, str], by: str, at: float) -> None:
        """Change a row as the product would: consequences, counters, audit and journal rows. No change, no save."""
        journal = {name: text for name, text in values.items() if name in JOURNALS and text}
        wanted = {**self._consequences(table, row, values, by, at), **values}
        changed = {
            name: value
            for name, value in wanted.items()
            if name in table.index and name not in JOURNALS and row[table.index[name]] != value
        }
        if not changed and not journal:
            return
        olds = {name: row[table.index[name]] for name in changed}
        count = str(int(table.get(row, "sys_mod_count") or 0) + 1)
        system = {"sys_mod_count": count, "sys_updated_on": stamp(at), "sys_updated_by": by}
        table.change(row, {**changed, **{name: value for name, value in system.items() if name in table.index}})
        for name, value in changed.items():
            self._audit(table, row, name, olds[name], value, by, at)
        self._note(table, row, journal, by, at)

    def _consequences(self, table: Table, row: Row, values: Mapping[str, str], by: str, at: float) -> Mapping[str, str]:
        """What business rules of a stock instance add to a save of a task."""
        if not is_task(table.name):
            return {}
        before = {name: table.get(row, name) for name in table.columns}
        after = {**before, **values}
        added: dict[str, str] = {}
        if after["state"] != before["state"]:
            added |= self._step(table.name, before, after, by, at)
        if any(
            after.get(name) != before.get(name) and before.get(name) for name in ("assignment_group", "assigned_to")
        ):
            added["reassignment_count"] = str(int(before.get("reassignment_count") or 0) + 1)
        scales = (after.get("impact", ""), after.get("urgency", ""))
        if all(scales) and scales != (before.get("impact"), before.get("urgency")):
            added["priority"] = matrix(*scales)
        return added

    def _step(
        self, table: str, before: Mapping[str, str], after: Mapping[str, str], by: str, at: float
    ) -> Mapping[str, str]:
        """Consequences of a change of state."""
        state = after["state"]
        added = {"incident_state": state, "problem_state": state}
        if table == "incident":
            if state != "3":
                added["hold_reason"] = ""
            if state == "6":
                added |= {"resolved_at": stamp(at), "resolved_by": self.user_id(by)}
            if before["state"] in ("6", "7") and state not in ("6", "7", "8"):
                added |= {"resolved_at": "", "resolved_by": "", "active": "true"}
                added |= {"reopened_time": stamp(at), "reopened_by": self.user_id(by)}
                added["reopen_count"] = str(int(before.get("reopen_count") or 0) + 1)
        if state in _ENDED.get(table, ("3", "4", "7")):
            added |= {"closed_at": stamp(at), "closed_by": self.user_id(by), "active": "false"}
        return added

    def _audit(self, table: Table, row: Row, name: str, old: str, new: str, by: str, at: float) -> None:
        if not self.access.audits(table.name, name) or not is_task(table.name):
            return
        sys_id, checkpoint = table.get(row, "sys_id"), table.get(row, "sys_mod_count")
        audit = self.tables["sys_audit"]
        audit.insert(
            [
                digest(f"{sys_id}:{checkpoint}:{name}"), table.name, sys_id, name, old, new, by, "", checkpoint,
                stamp(at), by,
            ]
        )  # fmt: skip

    def _note(self, table: Table, row: Row, values: Mapping[str, str], by: str, at: float) -> None:
        """Journal rows and their audit rows."""
        for name in ("comments", "work_notes"):
            text = values.get(name)
            if not text or name not in table.index:
                continue
            sys_id = table.get(row, "sys_id")
            key = digest(f"journal:{sys_id}:{table.get(row, 'sys_mod_count')}:{name}")
            self.tables["sys_journal_field"].insert([key, table.name, name, sys_id, text, stamp(at), by])
            self._audit(table, row, name, "", text, by, at)

    def delete(self, table: Table, row: Row, by: str, at: float) -> None:
        """Remove a row and leave the trail that deletes of audited tables leave."""
        sys_id = table.get(row, "sys_id")
        table.remove(row)
        if is_task(table.name):
            name = table.get(row, "number")
            trail = [digest(f"delete:{sys_id}"), table.name, sys_id, name, "", stamp(at), by]
            self.tables["sys_audit_delete"].insert(trail)

    def accept(self, table: Table, row: Row | None, sent: Mapping[str, str]) -> dict[str, str]:
        """What of a client's write is taken over; the rest is dropped silently. Raises :class:`RefusedError`."""
        taken = {name: value for name, value in sent.items() if self._takes(table, name, value)}
        if "incident_state" in taken and "state" not in taken:
            taken["state"] = taken["incident_state"]
        if self.data_policy and table.name == "incident":
            self._require_closure(table, row, taken)
        return taken

    def _takes(self, table: Table, name: str, value: str) -> bool:
        if name not in table.index or is_read_only(table.name, name) or name in self.access.denied(table.name):
            return False
        choices = self.choices(table.name, name)
        if choices:
            return value in choices
        target = reference_of(table.name, name)
        return not (target and value) or self.find(target, value) is not None

    @staticmethod
    def _require_closure(table: Table, row: Row | None, taken: Mapping[str, str]) -> None:
        if taken.get("state", taken.get("incident_state")) not in ("6", "7"):
            return
        known = [name for name in ("close_code", "close_notes") if name in table.index]
        missing = [name for name in known if not taken.get(name, table.get(row, name) if row else "")]
        if missing:
            labels = ", ".join(label_of(name) for name in missing)
            raise RefusedError("Data Policy Exception", f"The following fields are mandatory: {labels}")

    # --- data ----------------------------------------------------------------------------------------------------

    def user_id(self, user_name: str) -> str:
        """sys_id of the account with this name, or the empty string."""
        table = self.tables["sys_user"]
        order = table.order((table.index["user_name"],))
        place = order.place((user_name,))
        found = place < len(order.rows) and table.get(order.rows[place], "user_name") == user_name
        return table.get(order.rows[place], "sys_id") if found else ""

    def next_number(self, table: Table) -> str:
        """The next free number of a task table, e.g. ``INC0010001``."""
        prefix = PREFIXES.get(table.name, "TASK")
        if table.name not in self._numbers:
            used = (table.get(row, "number").removeprefix(prefix) for row in table.rows.values())
            self._numbers[table.name] = max((int(text) for text in used if text.isdigit()), default=10000)
        self._numbers[table.name] += 1
        return f"{prefix}{self._numbers[table.name]:07d}"

    def furnish(self) -> None:
        """Give the instance what every instance has besides data: the account, choices, dictionary, properties."""
        own = {"user_name": self.account, "name": self.account}
        self._fill("sys_user", ("user_name",), (own,))
        self.account_id = self.user_id(self.account)
        self._fill("sys_choice", ("name", "element"), stock_choices())
        self._fill("sys_dictionary", ("name", "element"), self._dictionary())
        self._fill("sys_db_object", ("name",), ({"name": name, "label": label_of(name)} for name in self.tables))
        self._fill("sys_properties", ("name",), _PROPERTIES)

    def _fill(self, name: str, keys: tuple[str, ...], rows: Iterable[Mapping[str, str]]) -> None:
        """Add stock rows whose key no row of the data has."""
        table = self.tables[name]
        known = {tuple(table.get(row, key) for key in keys) for row in table.rows.values()}
        fresh = [values for values in rows if tuple(values[key] for key in keys) not in known]
        born = {"sys_created_on": stamp(0), "sys_updated_on": stamp(0), "sys_mod_count": "0"}
        table.load([table.row({**born, **v, "sys_id": digest(f"{name}:{sorted(v.items())}")}) for v in fresh])

    def _dictionary(self) -> Iterator[dict[str, str]]:
        for table in self.tables.values():
            for column in table.columns:
                yield {
                    "name": table.name,
                    "element": column,
                    "column_label": label_of(column),
                    "internal_type": type_of(table.name, column),
                    "reference": reference_of(table.name, column) or "",
                    "read_only": str(is_read_only(table.name, column)).lower(),
                    "active": "true",
                    "audit": str(is_task(table.name) and self.access.audits(table.name, column)).lower(),
                }


_ENDED = {"incident": ("7", "8"), "problem": ("107",), "change_request": ("3", "4"), "problem_task": ("157",)}
_PROPERTIES = (
    {"name": "instance_name", "value": "simulator"},
    {"name": "instance_id", "value": digest("servicenow-simulator")},
    {"name": "glide.buildtag.last", "value": "glide-australia-12-15-2025__patch1-03-01-2026"},
)


def matrix(impact: str, urgency: str) -> str:
    """Priority of a stock instance: 1 and 1 make 1, 3 and 3 make 5."""
    return str(int(impact) + int(urgency) - 1) if impact.isdigit() and urgency.isdigit() else ""
