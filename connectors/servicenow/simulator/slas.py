"""Service levels: rows of ``task_sla`` that come, pause, end and are breached beside their tasks.

Which tasks have one is data (rows of ``contract_sla`` with conditions as encoded queries); every schedule here is 24x7.
A row changes without its task: a breach is written when its time has come, and percentages are only as fresh as the
row's last save, as where the product refreshes them by a job.
"""

from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import seconds, stamp
from connectors.servicenow.simulator.search import row_test
from connectors.servicenow.simulator.tables import Row, Table

_JOB = "system"
_CONDITIONS = ("start", "stop", "pause", "cancel")
_NO_TIME = "1970-01-01 00:00:00"
Test = Callable[[Row], bool]


class ServiceLevels:
    """The service level engine of one instance; :meth:`follow` is told of saves, :meth:`tick` of the time."""

    def __init__(self) -> None:
        self._tests: dict[str, dict[str, Test | None]] = {}
        self._tests_at = -1
        self._due: list[tuple[str, str]] | None = None
        """When a running row is breached and its sys_id; made of the table when first needed."""

    def follow(self, desk: Desk, table: Table, row: Row, olds: Mapping[str, str] | None, by: str, at: float) -> None:
        """React to a save of a task; ``olds`` holds what the changed fields were, ``None`` after an insert."""
        contracts = desk.tables["contract_sla"]
        mine = [
            contract
            for contract in contracts.rows.values()
            if contracts.get(contract, "collection") == table.name and contracts.get(contract, "active") == "true"
        ]
        if not mine:
            return
        levels = desk.tables["task_sla"]
        running = {levels.get(level, "sla"): level for level in self._running(desk, table.get(row, "sys_id"))}
        for contract in mine:
            self._apply(desk, table, row, contract, running.get(contracts.get(contract, "sys_id")), at)

    def tick(self, desk: Desk, now: float) -> None:
        """Breach what is due; the row's stamp is the time at which it was."""
        table = desk.tables["task_sla"]
        due = self._due_list(desk)
        while due and due[0][0] <= stamp(now):
            at, sys_id = heappop(due)
            row = table.rows.get(sys_id)
            if row is not None and _is_pending(table, row) and table.get(row, "planned_end_time") == at:
                self._save(desk, row, {}, seconds(at))

    def _apply(self, desk: Desk, table: Table, row: Row, contract: Row, sla: Row | None, at: float) -> None:
        """The rules of one contract for one task, first match wins."""
        holds = {name: test is not None and test(row) for name, test in self._conditions(desk, table, contract).items()}
        if sla is None:
            if holds["start"] and not holds["stop"]:
                self._attach(desk, table, row, contract, at)
        elif holds["stop"]:
            self._end(desk, sla, "completed", at)
        elif holds["cancel"] or not holds["start"]:
            self._end(desk, sla, "cancelled", at)
        else:
            self._pause(desk, sla, holds["pause"], at)

    def _attach(self, desk: Desk, table: Table, row: Row, contract: Row, at: float) -> None:
        levels, contracts = desk.tables["task_sla"], desk.tables["contract_sla"]
        end = stamp(at + seconds(contracts.get(contract, "duration")))
        values = {
            "task": table.get(row, "sys_id"), "sla": contracts.get(contract, "sys_id"), "stage": "in_progress",
            "active": "true", "has_breached": "false", "start_time": stamp(at), "planned_end_time": end,
            "original_breach_time": end, "percentage": "0", "duration": _NO_TIME, "pause_duration": _NO_TIME,
            "time_left": contracts.get(contract, "duration"), "timezone": "UTC",
        }  # fmt: skip
        made = desk.insert(levels, values, _JOB, at)
        heappush(self._due_list(desk), (end, levels.get(made, "sys_id")))

    def _end(self, desk: Desk, sla: Row, stage: str, at: float) -> None:
        values = {"stage": stage, "active": "false", "end_time": stamp(at), "pause_time": ""}
        values |= self._paused(desk, sla, at)
        self._save(desk, sla, values, at)

    def _pause(self, desk: Desk, sla: Row, pauses: bool, at: float) -> None:
        """A pause stops the clock; the end moves by its length when the clock goes on."""
        table = desk.tables["task_sla"]
        paused = table.get(sla, "stage") == "paused"
        if pauses and not paused:
            self._save(desk, sla, {"stage": "paused", "pause_time": stamp(at)}, at)
        if paused and not pauses:
            length = at - seconds(table.get(sla, "pause_time"))
            end = stamp(seconds(table.get(sla, "planned_end_time")) + length)
            values = {"stage": "in_progress", "pause_time": "", "planned_end_time": end, **self._paused(desk, sla, at)}
            self._save(desk, sla, values, at)
            heappush(self._due_list(desk), (end, table.get(sla, "sys_id")))

    @staticmethod
    def _paused(desk: Desk, sla: Row, at: float) -> Mapping[str, str]:
        """The length of all pauses, if one ends."""
        table = desk.tables["task_sla"]
        if table.get(sla, "stage") != "paused":
            return {}
        length = at - seconds(table.get(sla, "pause_time"))
        return {"pause_duration": stamp(seconds(table.get(sla, "pause_duration") or _NO_TIME) + length)}

    def _save(self, desk: Desk, sla: Row, values: Mapping[str, str], at: float) -> None:
        """Save with the figures that are worked out at that moment."""
        table = desk.tables["task_sla"]
        figures = {}
        if table.get(sla, "start_time") and table.get(sla, "planned_end_time"):
            start, end = (seconds(table.get(sla, name)) for name in ("start_time", "planned_end_time"))
            paused = seconds(table.get(sla, "pause_duration") or _NO_TIME)
            since = table.get(sla, "pause_time") if table.get(sla, "stage") == "paused" else ""
            spent = (seconds(since) if since else at) - start - paused
            whole = max(1.0, end - start - paused)
            figures = {"duration": stamp(spent), "percentage": f"{100 * spent / whole:.2f}"}
            figures["time_left"] = stamp(max(0.0, whole - spent))
            if spent >= whole:
                figures["has_breached"] = "true"
        desk.save(table, sla, {**figures, **values}, _JOB, at)

    def _due_list(self, desk: Desk) -> list[tuple[str, str]]:
        if self._due is None:
            table = desk.tables["task_sla"]
            pending = (row for row in table.rows.values() if _is_pending(table, row))
            self._due = [(table.get(row, "planned_end_time"), table.get(row, "sys_id")) for row in pending]
            heapify(self._due)
        return self._due

    @staticmethod
    def _running(desk: Desk, task: str) -> Iterator[Row]:
        table = desk.tables["task_sla"]
        for row in desk.related("task_sla", "task", task):
            if table.get(row, "stage") in ("in_progress", "paused"):
                yield row

    def _conditions(self, desk: Desk, table: Table, contract: Row) -> Mapping[str, Test | None]:
        contracts = desk.tables["contract_sla"]
        if self._tests_at != contracts.saves:
            self._tests_at, self._tests = contracts.saves, {}
        sys_id = contracts.get(contract, "sys_id")
        if sys_id not in self._tests:
            texts = {name: contracts.get(contract, f"{name}_condition") for name in _CONDITIONS}
            self._tests[sys_id] = {n: row_test(desk, table, text) if text else None for n, text in texts.items()}
        return self._tests[sys_id]


def _is_pending(table: Table, row: Row) -> bool:
    """Whether a row's clock runs towards a breach that has not been written."""
    running = table.get(row, "stage") == "in_progress" and table.get(row, "has_breached") != "true"
    return running and table.get(row, "planned_end_time") != ""
