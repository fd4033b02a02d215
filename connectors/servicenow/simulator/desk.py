"""The instance: its tables, its clock, who may see what, and what a save leaves behind.

Owns numbers, counters, audit and journal rows, and what of a client's write is taken over. What a save means is left to
:mod:`.rules` for the record itself and to the :class:`Reaction` s for other records; sockets and JSON to
:mod:`.table_api`; finding rows to :mod:`.search`. Everything here runs under :attr:`Desk.lock`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Protocol

from connectors.servicenow.simulator import rules
from connectors.servicenow.simulator.choices import stock_choices
from connectors.servicenow.simulator.dictionary import (
    JOURNALS,
    PREFIXES,
    is_audited,
    is_read_only,
    is_task,
    label_of,
    reference_of,
    stock_columns,
    stock_tables,
    table_label,
    type_of,
)
from connectors.servicenow.simulator.marks import digest, stamp
from connectors.servicenow.simulator.models import stock_models
from connectors.servicenow.simulator.tables import Order, Row, Table

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
    """table -> fields that leave audit rows; a table that is not named has all of them audited, or none"""
    audited_since: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """table -> field or star -> the stamp before which its changes leave no audit row"""

    def hides(self, table: str, sys_id: str) -> bool:
        hidden = self.hide_rows.get(table, frozenset())
        return ALL in hidden or sys_id in hidden

    def denied(self, table: str) -> frozenset[str]:
        """Fields of ``table`` that no row shows."""
        return frozenset(name for name, rows in self.deny_fields.get(table, {}).items() if ALL in rows)

    def audits(self, table: str, name: str, at: str = "") -> bool:
        """Whether a change of the field at the stamp ``at``, or by today's setting, leaves an audit row."""
        named, since = self.audited.get(table), self.audited_since.get(table, {})
        if at and at < max(since.get(name, ""), since.get(ALL, "")):
            return False
        return name not in _UNAUDITED and (is_audited(table) if named is None else name in named)


class Reaction(Protocol):
    """Told after every save of a row; ``olds`` holds what the changed fields were, ``None`` after an insert."""

    def __call__(
        self, desk: "Desk", table: Table, row: Row, olds: Mapping[str, str] | None, by: str, at: float
    ) -> None: ...


class Desk:
    """One instance. ``clock`` gives seconds since 1970; ``account`` is the user name that the API logs in as.

    ``reactions`` are told of every save; ``timers`` are told the time before anything is looked at.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        account: str,
        data_policy: bool,
        user_offset: float,
        instance: str = "simulator",
        plugins: Iterable[str] = (),
        reactions: Sequence[Reaction] = (),
        timers: Sequence[Callable[["Desk", float], None]] = (),
    ) -> None:
        self.lock = RLock()
        self.clock = clock
        self.account = account
        self.account_id = ""
        self.data_policy = data_policy
        self.user_offset = user_offset
        self.instance = instance
        self.access = Access()
        self.planted: dict[str, list[str]] = {}
        self.deleted: dict[tuple[str, str], Row] = {}
        """Table and ``sys_id`` -> the row, for as long as it can be restored."""
        self.tables = {name: Table(name, columns) for name, columns in stock_tables(plugins).items()}
        for name, values in stock_models():
            self._fill(name, ("sys_id",), (values,))
        self._reactions = reactions
        self._timers = timers
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

    def related(self, name: str, column: str, sys_id: str) -> list[Row]:
        """Rows of a table whose reference ``column`` points to ``sys_id``, in the order of their own ids."""
        table = self.tables[name]
        if not sys_id or column not in table.index:
            return []
        place = table.index[column]
        return self._run(table.order((place,)), place, sys_id)

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

    def _of_record(self, table: Table, column: str, sys_id: str) -> list[Row]:
        place, then = table.index[column], "record_checkpoint" if column == "documentkey" else "sys_created_on"
        return self._run(table.order((place, table.index[then])), place, sys_id)

    @staticmethod
    def _run(order: Order, place: int, value: str) -> list[Row]:
        """The rows of an order whose first column, at ``place``, holds ``value``."""
        start, rows = order.place((value,)), order.rows
        end = start
        while end < len(rows) and rows[end][place] == value:
            end += 1
        return rows[start:end]

    def tick(self) -> None:
        """Let the instance's own jobs do what is due."""
        for timer in self._timers:
            timer(self, self.clock())

    # --- writing -------------------------------------------------------------------------------------------------

    def insert(self, table: Table, values: Mapping[str, str], by: str, at: float) -> Row:
        """Store a new row made by user ``by``. Inserts are not audited; notes sent along are."""
        sent = {name: value for name, value in values.items() if name not in JOURNALS}
        row = table.row({**self._born(table, by, at), **sent})
        if is_task(table.name):
            self._complete(table, row, sent)
        table.insert(row)
        self._note(table, row, values, by, at)
        self._react(table, row, None, by, at)
        return row

    def _react(self, table: Table, row: Row, olds: Mapping[str, str] | None, by: str, at: float) -> None:
        for reaction in self._reactions:
            reaction(self, table, row, olds, by, at)

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
        for name, value in rules.completed(_values(table, row), sent).items():
            if name in table.index:
                row[table.index[name]] = value

    def save(self, table: Table, row: Row, values: Mapping[str, str], by: str, at: float) -> None:
        """Change a row as the product would: consequences, counters, audit and journal rows. No change, no save."""
        journal = {name: text for name, text in values.items() if name in JOURNALS and text}
        hand = rules.Hand(self.user_id(by), stamp(at))
        wanted = {**rules.consequences(table.name, _values(table, row), values, hand), **values}
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
        self._react(table, row, olds, by, at)

    def save_quietly(self, table: Table, row: Row, values: Mapping[str, str], by: str, at: float) -> None:
        """Change a row as a script does that switches rules, auditing and metrics off (``setWorkflow(false)``): the
        counter and the stamp move, and no other trace is left."""
        count = str(int(table.get(row, "sys_mod_count") or 0) + 1)
        system = {"sys_mod_count": count, "sys_updated_on": stamp(at), "sys_updated_by": by}
        table.change(row, {name: value for name, value in {**values, **system}.items() if name in table.index})

    def _audit(self, table: Table, row: Row, name: str, old: str, new: str, by: str, at: float) -> None:
        if not self.access.audits(table.name, name, stamp(at)):
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

    def overwrite(
        self, table: Table, row: Row, values: Mapping[str, str], by: str, at: float, *, audited: bool
    ) -> None:
        """A script's write with ``autoSysFields(false)``: no counter, no stamp, no consequences."""
        changed = {name: value for name, value in values.items() if table.get(row, name) != value}
        olds = {name: table.get(row, name) for name in changed}
        table.change(row, changed)
        for name, value in changed.items():
            if audited and not name.startswith("sys_"):
                self._audit(table, row, name, olds[name], value, by, at)

    def delete(self, table: Table, row: Row, by: str, at: float, *, trail: bool = True) -> None:
        """Remove a row and leave the trail that deletes of audited tables leave; a bulk delete leaves none."""
        sys_id = table.get(row, "sys_id")
        table.remove(row)
        self.deleted[table.name, sys_id] = row
        if trail and is_task(table.name):
            name = table.get(row, "number")
            told = [digest(f"delete:{sys_id}:{self._made}:{at}"), table.name, sys_id, name, "", stamp(at), by]
            self.tables["sys_audit_delete"].insert(told)

    def restore(self, table: Table, sys_id: str) -> Row:
        """Bring a deleted row back; raises ``KeyError`` where none was deleted."""
        row = self.deleted.pop((table.name, sys_id))
        table.insert(row)
        return row

    def accept(self, table: Table, row: Row | None, sent: Mapping[str, str]) -> dict[str, str]:
        """What of a client's write is taken over; the rest is dropped silently. Raises :class:`RefusedError`."""
        before = _values(table, table.row({}) if row is None else row)
        settled = [name for name in sent if row is not None and rules.is_fixed(table.name, name, before)]
        taken = {name: v for name, v in sent.items() if name not in settled and self._takes(table, name, v)}
        if "incident_state" in taken and "state" not in taken:
            taken["state"] = taken["incident_state"]
        missing = rules.missing(table.name, before, taken) if self.data_policy else ""
        if missing:
            raise RefusedError("Data Policy Exception", f"The following fields are mandatory: {missing}")
        return taken

    def _takes(self, table: Table, name: str, value: str) -> bool:
        if name not in table.index or is_read_only(table.name, name) or name in self.access.denied(table.name):
            return False
        choices = self.choices(table.name, name)
        if choices:
            return value in choices
        target = reference_of(table.name, name)
        return not (target and value) or self.find(target, value) is not None

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
        self._fill("sys_db_object", ("name",), ({"name": name, "label": table_label(name)} for name in self.tables))
        self._fill("sys_properties", ("name",), _properties(self.instance))

    def _fill(self, name: str, keys: tuple[str, ...], rows: Iterable[Mapping[str, str]]) -> None:
        """Add stock rows whose key no row of the data has."""
        table = self.tables[name]
        known = {tuple(table.get(row, key) for key in keys) for row in table.rows.values()}
        fresh = [values for values in rows if tuple(values[key] for key in keys) not in known]
        born = {"sys_created_on": stamp(0), "sys_updated_on": stamp(0), "sys_mod_count": "0"}
        table.load([table.row({**born, "sys_id": digest(f"{name}:{sorted(v.items())}"), **v}) for v in fresh])

    def _dictionary(self) -> Iterator[dict[str, str]]:
        for table in self.tables.values():
            for column in table.columns:
                yield {
                    "name": table.name,
                    "element": column,
                    "column_label": label_of(table.name, column),
                    "internal_type": type_of(table.name, column),
                    "reference": reference_of(table.name, column) or "",
                    "read_only": str(is_read_only(table.name, column)).lower(),
                    "active": "true",
                    "audit": str(self.access.audits(table.name, column)).lower(),
                }


def _properties(instance: str) -> tuple[Mapping[str, str], ...]:
    return (
        {"name": "instance_name", "value": instance},
        {"name": "instance_id", "value": digest(f"servicenow-{instance}")},
        {"name": "glide.buildtag.last", "value": "glide-australia-12-15-2025__patch1-03-01-2026"},
    )


def _values(table: Table, row: Row) -> dict[str, str]:
    return dict(zip(table.columns, row, strict=True))
