"""A made-up service desk: months of believable work up to now, and then one thing after another.

Owns when things happen and whose turn it is. What people do is left to :mod:`.scripts`, what a save brings about to
:mod:`.desk`. Steps that break a usual procedure are noted in ``desk.planted`` with the number of the record, so that a
test knows the truth: incidents under the bare name, others as ``change.self_approved``.
"""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import count
from random import Random
from threading import Event
from typing import NamedTuple

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import digest, stamp
from connectors.servicenow.simulator.scripts import DAY, HOUR, MINUTE, Script, Step
from connectors.servicenow.simulator.scripts.change import Change
from connectors.servicenow.simulator.scripts.incident import Incident
from connectors.servicenow.simulator.scripts.problem import Major, Problem
from connectors.servicenow.simulator.scripts.request import ITEMS, Request
from connectors.servicenow.simulator.scripts.staff import BOARD, hire, put
from connectors.servicenow.simulator.tables import Row, Table

_SLOT = 15 * MINUTE
_OTHERS: Mapping[type[Script], int] = {Change: 8, Problem: 20, Request: 5}
"""How many incidents come in for one of these."""
_MAJOR = 0.6
"""Share of the incidents of priority 1 that are declared major."""
_OF_INCIDENTS = ("stateIN6,7,8", "state=3")
_LEVELS = (
    ("Priority 1 resolution", "incident", "1970-01-01 04:00:00", "active=true^priority=1", *_OF_INCIDENTS),
    ("Priority 2 resolution", "incident", "1970-01-01 08:00:00", "active=true^priority=2", *_OF_INCIDENTS),
    ("Priority 3 resolution", "incident", "1970-01-04 00:00:00", "active=true^priority=3", *_OF_INCIDENTS),
    ("Priority 4 resolution", "incident", "1970-01-06 00:00:00", "active=true^priority=4", *_OF_INCIDENTS),
    ("Request fulfilment", "sc_req_item", "1970-01-11 00:00:00", "active=true", "stateIN3,4,7", "state=-5"),
)


class Pending(NamedTuple):
    due: float
    turn: int
    step: Step | None
    """``None`` for a script whose first step is drawn when it is due."""
    script: Script
    rest: Iterator[Step]


class Lively:
    """The desk's people at work. Making it writes the history; :meth:`run` goes on from there.

    Incidents are drawn from ``random`` alone, all other work from ``others``: more of the latter leaves the former as
    they were.
    """

    def __init__(self, desk: Desk, random: Random, others: Random, days: int, per_day: int) -> None:
        self._desk = desk
        self._random = random
        self._others = others
        self._turns = count()
        opening = desk.clock() - (days + 1) * DAY
        self._staff = hire(desk, opening)
        _set_up(desk, self._staff.groups[BOARD], opening)
        self._agenda = [self._arrival(Incident, due) for due in _arrivals(random, desk.clock(), days, per_day)]
        for kind, share in _OTHERS.items():
            dues = _arrivals(others, desk.clock(), days, max(1, per_day // share))
            self._agenda += [self._arrival(kind, due) for due in dues]
        heapify(self._agenda)
        self._catch_up()

    def run(self, stopped: Event, tempo: float) -> None:
        """Every ``tempo`` seconds let something happen; now and then several things in the same second."""
        while not stopped.wait(tempo):
            with self._desk.lock:
                self._catch_up()
                for _ in range(self._random.choice((1, 1, 1, 1, 3))):
                    self._happen()

    def _arrival(self, kind: type[Script], due: float) -> Pending:
        """New work. Incidents draw their first step with their arrival; other work looks at the desk of its day."""
        script = kind(self._random if kind is Incident else self._others, self._staff, self._desk)
        steps = script.steps()
        return Pending(due, next(self._turns), next(steps) if kind is Incident else None, script, steps)

    def _catch_up(self) -> None:
        """Everything that is due."""
        now = self._desk.clock()
        while self._agenda and self._agenda[0].due <= now:
            pending = heappop(self._agenda)
            self._do(pending, pending.due)

    def _happen(self) -> None:
        """One thing ahead of its time: a new record, or the next step of an open one."""
        now = self._desk.clock()
        ahead = [pending for pending in self._agenda if pending.step is None or not pending.step.job]
        if not ahead or self._random.random() < 0.4:
            kinds: list[type[Script]] = [Incident, *_OTHERS]
            kind = self._others.choices(kinds, (3, 2, 1, 2))[0]
            self._do(self._arrival(kind, now), now)
            return
        pending = min(ahead)
        self._agenda.remove(pending)
        heapify(self._agenda)
        self._do(pending, now)

    def _do(self, pending: Pending, at: float) -> None:
        step, script = pending.step or next(pending.rest), pending.script
        new = not script.records
        table, row = self._saved(step, script, at)
        for kind in step.plants:
            self._desk.planted.setdefault(kind, []).append(_number(table, row) or _number(*script.records[""]))
        if new and isinstance(script, Incident):
            self._follow_up(table, row, at)
        following = next(pending.rest, None)
        if following is not None:
            due = self._due(at, following, script.random)
            heappush(self._agenda, Pending(due, next(self._turns), following, script, pending.rest))

    def _saved(self, step: Step, script: Script, at: float) -> tuple[Table, Row]:
        """The row that a step is about, after its save."""
        values = {name: self._worked_out(value, script, at) for name, value in step.values.items()}
        table = self._desk.tables[step.table or script.table]
        found = script.records.get(step.on) or ((table, table.rows[step.on]) if step.on in table.rows else None)
        if found is not None:
            self._desk.save(*found, values, step.by, at)
            return found
        script.records[step.on] = (table, self._desk.insert(table, values, step.by, at))
        return script.records[step.on]

    @staticmethod
    def _worked_out(value: str, script: Script, at: float) -> str:
        if not value.startswith("@"):
            return value
        key, _, later = value[1:].partition("+")
        return stamp(at + float(later)) if key == "now" else script.sys_id(key)

    def _follow_up(self, table: Table, row: Row, at: float) -> None:
        """Some incidents of the highest priority are declared major."""
        if table.get(row, "priority") == "1" and self._others.random() < _MAJOR:
            script = Major(self._others, self._staff, self._desk, {"": (table, row)})
            steps = script.steps()
            first = next(steps)
            heappush(self._agenda, Pending(at + first.after, next(self._turns), first, script, steps))

    @staticmethod
    def _due(at: float, step: Step, random: Random) -> float:
        """Jobs run on the hour, and people save much of their slow work at the quarter: stamps are then shared."""
        due = at + step.after
        if step.job:
            return due - due % HOUR + HOUR
        if step.after > 2 * HOUR and random.random() < 0.3:
            return due - due % _SLOT + _SLOT
        return due


def _number(table: Table, row: Row) -> str:
    return table.get(row, "number")


def _arrivals(random: Random, now: float, days: int, per_day: int) -> Iterator[float]:
    """Instants at which work comes in: by day more than by night, at weekends little."""
    today = now - now % DAY
    for back in range(days, -1, -1):
        start = today - back * DAY
        weekday = int(start // DAY + 3) % 7
        for _ in range(per_day if weekday < 5 else per_day // 4):
            due = start + random.triangular(0, DAY, 11 * HOUR)
            if due < now:
                yield due


def _set_up(desk: Desk, board: str, at: float) -> None:
    """What an administrator set up: who approves, service levels, catalogue, templates, configuration items."""
    desk.tables["incident"].extend(("major_incident_state",))
    peers = {"name": "Peers", "state": "-4", "wait_for": "any"}
    whole = {"name": "Board", "state": "-3", "wait_for": "all", "group": board}
    items = ("Core switch", "Database cluster", "Mail gateway", "File server", "Hypervisor 1", "Hypervisor 2")
    templates = ("Restart of a service", "Extension of a volume", "Renewal of a certificate")
    rows: dict[str, list[dict[str, str]]] = {
        "chg_approval_def": [peers, whole],
        "contract_sla": [
            {"name": name, "collection": table, "duration": duration, "start_condition": start, "target": "resolution",
             "stop_condition": stop, "pause_condition": pause}
            for name, table, duration, start, stop, pause in _LEVELS
        ],
        "cmdb_ci": [{"name": name, "operational_status": "1"} for name in items],
        "std_change_producer_version": [{"name": name, "version": "1", "published": "true"} for name in templates],
        "sc_cat_item": [{"name": name, "active": "true"} for name, _, _ in ITEMS],
    }  # fmt: skip
    named = {table: [{"sys_id": digest(f"{table}:{row['name']}"), **row} for row in its] for table, its in rows.items()}
    put(desk, named, at)
