"""A made-up service desk: months of believable incidents up to now, and then one thing after another.

Owns what people do there. Each incident is a script of steps drawn from a seed; what a step brings about is left to
:mod:`.desk`. Scripts that break a usual procedure are noted in ``desk.planted``, so that a test knows the truth; legal
look-alikes (a first-contact fix, a caller who closes, a cancelled duplicate) are not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from random import Random
from threading import Event
from typing import NamedTuple

from connectors.servicenow.simulator.desk import Desk, digest, matrix, stamp
from connectors.servicenow.simulator.tables import Row

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_SLOT = 15 * _MINUTE
_RESPONSE = {"1": 15 * _MINUTE, "2": 30 * _MINUTE, "3": 4 * _HOUR, "4": 8 * _HOUR, "5": _DAY}
_RESOLUTION = {"1": 4 * _HOUR, "2": 8 * _HOUR, "3": 3 * _DAY, "4": 5 * _DAY, "5": 10 * _DAY}
_AUTO_CLOSE = 5 * _DAY
_FRONT = "Service Desk"
_TOPICS = (
    ("network", "vpn", "VPN drops every few minutes", "Network"),
    ("network", "wireless", "No wireless in meeting room", "Network"),
    ("database", "oracle", "Report query runs for an hour", "Database"),
    ("database", "sql server", "Nightly load failed", "Database"),
    ("software", "email", "Mailbox is full although archived", "Applications"),
    ("software", "erp", "Invoice screen shows an error", "Applications"),
    ("software", "erp", "Order cannot be released", "Applications"),
    ("hardware", "laptop", "Laptop does not start", "Field Support"),
    ("hardware", "printer", "Printer prints blank pages", "Field Support"),
    ("inquiry", "password", "Account is locked", "Identity"),
    ("inquiry", "access", "No access to shared folder", "Identity"),
)
_GROUPS = (_FRONT, *dict.fromkeys(topic[3] for topic in _TOPICS))
_FIRST = ("Ada", "Bo", "Chen", "Dana", "Eli", "Fatou", "Goran", "Hana", "Ines", "Jonas", "Kira", "Luca", "Mina", "Noor")
_LAST = ("Abel", "Berg", "Costa", "Duarte", "Evans", "Fischer", "Garcia", "Huang", "Ito", "Jensen", "Kaya")
_CODES = ("Solution provided", "Workaround provided", "User error", "Known error", "Resolved by caller")
_NOTES = ("Restarted the service and watched it.", "Replaced the part.", "Settings corrected with the caller.")
_HOLDS = {"1": "Asked the caller for a date.", "3": "Waits for the problem record.", "4": "Vendor case opened."}


class Step(NamedTuple):
    """One save of an incident."""

    after: float
    """Seconds since the step before."""
    by: str
    values: Mapping[str, str]
    plants: tuple[str, ...] = ()
    job: bool = False
    """Done by the hourly job, never ahead of its time."""


class Pending(NamedTuple):
    due: float
    turn: int
    step: Step
    row: Row | None
    """``None`` for an incident that is still to be opened."""
    rest: Iterator[Step]


@dataclass(frozen=True, slots=True)
class Staff:
    """Who works where: group name -> its id and its people (id, user name)."""

    groups: Mapping[str, str]
    members: Mapping[str, Sequence[tuple[str, str]]]
    callers: Sequence[tuple[str, str]]


@dataclass(slots=True)
class Script:
    """What happens to one incident, step by step."""

    random: Random
    staff: Staff
    group: str = _FRONT
    moved: bool = False
    priority: str = "5"
    topic: tuple[str, str, str, str] = _TOPICS[0]
    caller: tuple[str, str] = ("", "")

    def steps(self) -> Iterator[Step]:
        """The whole life. Each step is drawn when the one before is done."""
        yield self._opened()
        if self._chance(0.02):
            yield self._by_agent(self._part(_RESPONSE, 0.1, 0.9), {"state": "8", "work_notes": "Opened twice."})
            return
        yield from self._routed()
        if self._chance(0.1):
            yield self._resolved(("skipped_work",) if self.moved else ())
        else:
            yield from self._worked()
        if self._chance(0.09):
            yield Step(
                self._between(_HOUR, 3 * _DAY), self.caller[1], {"state": "2", "comments": "It is back."}, ("reopened",)
            )
            yield self._resolved()
        yield self._closed()
        if self._chance(0.005):
            yield self._by_agent(self._between(_HOUR, _DAY), {"state": "2"}, ("forbidden_step",))
            yield self._resolved()
            yield self._closed()

    def _opened(self) -> Step:
        draw = self.random
        self.topic = draw.choice(_TOPICS)
        self.caller = draw.choice(self.staff.callers)
        impact, urgency = draw.choices("123", (2, 5, 13))[0], draw.choices("123", (2, 6, 12))[0]
        self.priority = matrix(impact, urgency)
        if self._chance(0.4):
            self.group = self.topic[3]
        off = self.topic[3] == "Applications" and self._chance(0.04)
        if off:
            self.priority = "2" if self.priority == "1" else str(int(self.priority) - 1)
        values = {
            "short_description": self.topic[2],
            "category": self.topic[0],
            "subcategory": self.topic[1],
            "caller_id": self.caller[0],
            "contact_type": draw.choices(("phone", "self-service", "email", "monitoring"), (10, 6, 3, 1))[0],
            "impact": impact,
            "urgency": urgency,
            "priority": self.priority,
            "assignment_group": self.staff.groups[self.group],
        }
        return Step(0, self._agent(_FRONT)[1], values, ("off_matrix",) if off else ())

    def _routed(self) -> Iterator[Step]:
        if self.group != self.topic[3]:
            by = self._agent(self.group)[1]
            yield Step(self._part(_RESPONSE, 0.05, 0.2), by, self._to(self.topic[3]))

    def _worked(self) -> Iterator[Step]:
        late = self.priority in "12" and self._chance(0.12)
        delay = self._part(_RESPONSE, 1.3, 3) if late else self._part(_RESPONSE, 0.05, 0.5)
        yield self._started(delay, ("late_response",) if late else ())
        if self._chance(0.06):
            yield from self._ping_pong()
        if self.priority not in "12" and self._chance(0.25):
            yield from self._held()
        if self._chance(0.01):
            yield self._by_agent(self._part(_RESOLUTION, 0.02, 0.05), {"state": "1"}, ("forbidden_step",))
            yield self._started(self._part(_RESOLUTION, 0.02, 0.05))
        yield self._resolved()

    def _started(self, delay: float, plants: tuple[str, ...] = ()) -> Step:
        sys_id, name = self._agent(self.group)
        return Step(delay, name, {"state": "2", "assigned_to": sys_id}, plants)

    def _ping_pong(self) -> Iterator[Step]:
        home = self.group
        other = self.random.choice([name for name in _GROUPS if name not in (home, _FRONT)])
        for group, plants in ((other, ()), (home, ("ping_pong",)), (other, ()), (home, ())):
            yield self._by_agent(self._part(_RESOLUTION, 0.02, 0.05), self._to(group), plants)

    def _held(self) -> Iterator[Step]:
        reason, note = self.random.choice(list(_HOLDS.items()))
        values = {"state": "3", "hold_reason": reason, "work_notes": note}
        yield self._by_agent(self._part(_RESOLUTION, 0.02, 0.1), values)
        yield self._by_agent(self._between(_HOUR, _DAY), {"state": "2"})

    def _resolved(self, plants: tuple[str, ...] = ()) -> Step:
        late = self.priority in "12" and self._chance(0.15)
        delay = self._part(_RESOLUTION, 1.2, 2.5) if late else self._part(_RESOLUTION, 0.1, 0.5)
        sys_id, name = self._agent(self.group)
        blank = self.group == "Field Support" and self._chance(0.06)
        values = {"state": "6", "assigned_to": sys_id, "close_notes": self.random.choice(_NOTES)}
        values["close_code"] = "" if blank else self.random.choice(_CODES)
        late_too = ("late_resolution",) if late else ()
        return Step(delay, name, values, (*plants, *late_too, *(("blank_close_code",) if blank else ())))

    def _closed(self) -> Step:
        if self._chance(0.15):
            return Step(self._between(_HOUR, 2 * _DAY), self.caller[1], {"state": "7", "comments": "Thank you."})
        return Step(_AUTO_CLOSE, "system", {"state": "7"}, job=True)

    def _to(self, group: str) -> dict[str, str]:
        self.group, self.moved = group, True
        return {"assignment_group": self.staff.groups[group], "assigned_to": ""}

    def _by_agent(self, after: float, values: Mapping[str, str], plants: tuple[str, ...] = ()) -> Step:
        return Step(after, self._agent(self.group)[1], values, plants)

    def _agent(self, group: str) -> tuple[str, str]:
        return self.random.choice(self.staff.members[group])

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _between(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def _part(self, limits: Mapping[str, float], low: float, high: float) -> float:
        """A share of what the priority allows."""
        return limits[self.priority] * self.random.uniform(low, high)


class Lively:
    """The desk's people at work. Making it writes the history; :meth:`run` goes on from there."""

    def __init__(self, desk: Desk, random: Random, days: int, per_day: int) -> None:
        self._desk = desk
        self._random = random
        self._turns = count()
        self._staff = _hire(desk, desk.clock() - (days + 1) * _DAY)
        self._agenda = [self._arrival(due) for due in _arrivals(random, desk.clock(), days, per_day)]
        heapify(self._agenda)
        self._catch_up()

    def run(self, stopped: Event, tempo: float) -> None:
        """Every ``tempo`` seconds let something happen; now and then several things in the same second."""
        while not stopped.wait(tempo):
            with self._desk.lock:
                self._catch_up()
                for _ in range(self._random.choice((1, 1, 1, 1, 3))):
                    self._happen()

    def _arrival(self, due: float) -> Pending:
        steps = Script(self._random, self._staff).steps()
        return Pending(due, next(self._turns), next(steps), None, steps)

    def _catch_up(self) -> None:
        """Everything that is due."""
        now = self._desk.clock()
        while self._agenda and self._agenda[0].due <= now:
            pending = heappop(self._agenda)
            self._do(pending, pending.due)

    def _happen(self) -> None:
        """One thing ahead of its time: a new incident, or the next step of an open one."""
        now = self._desk.clock()
        ahead = [pending for pending in self._agenda if not pending.step.job]
        if not ahead or self._random.random() < 0.4:
            self._do(self._arrival(now), now)
            return
        pending = min(ahead)
        self._agenda.remove(pending)
        heapify(self._agenda)
        self._do(pending, now)

    def _do(self, pending: Pending, at: float) -> None:
        incident = self._desk.tables["incident"]
        step, row = pending.step, pending.row
        if row is None:
            row = self._desk.insert(incident, step.values, step.by, at)
        else:
            self._desk.save(incident, row, step.values, step.by, at)
        for kind in step.plants:
            self._desk.planted.setdefault(kind, []).append(incident.get(row, "number"))
        following = next(pending.rest, None)
        if following is not None:
            due = self._due(at, following)
            heappush(self._agenda, Pending(due, next(self._turns), following, row, pending.rest))

    def _due(self, at: float, step: Step) -> float:
        """Jobs run on the hour, and people save much of their slow work at the quarter: stamps are then shared."""
        due = at + step.after
        if step.job:
            return due - due % _HOUR + _HOUR
        if step.after > 2 * _HOUR and self._random.random() < 0.3:
            return due - due % _SLOT + _SLOT
        return due


def _arrivals(random: Random, now: float, days: int, per_day: int) -> Iterator[float]:
    """Instants at which incidents come in: by day more than by night, at weekends few."""
    today = now - now % _DAY
    for back in range(days, -1, -1):
        start = today - back * _DAY
        weekday = int(start // _DAY + 3) % 7
        for _ in range(per_day if weekday < 5 else per_day // 4):
            due = start + random.triangular(0, _DAY, 11 * _HOUR)
            if due < now:
                yield due


def _hire(desk: Desk, at: float) -> Staff:
    """Put people and groups into their tables; the account of the jobs is marked as no person."""
    names = [f"{first} {last}" for last in _LAST for first in _FIRST]
    people = [(digest(f"sys_user:{_login(name)}"), name) for name in names]
    agents, callers = people[: 5 * len(_GROUPS)], people[5 * len(_GROUPS) :]
    born = {"sys_created_on": stamp(at), "sys_updated_on": stamp(at), "sys_mod_count": "0", "sys_created_by": "admin"}
    users = [
        {"sys_id": sys_id, "user_name": _login(name), "name": name, "email": f"{_login(name)}@example.com"}
        for sys_id, name in people
    ]
    users.append({"sys_id": digest("sys_user:system"), "user_name": "system", "name": "System"})
    users[-1]["internal_integration_user"] = "true"
    groups = {name: digest(f"sys_user_group:{name}") for name in _GROUPS}
    members = {name: agents[5 * place : 5 * place + 5] for place, name in enumerate(_GROUPS)}
    belongs = [
        {"sys_id": digest(f"member:{sys_id}"), "user": sys_id, "group": groups[group]}
        for group, its in members.items()
        for sys_id, _ in its
    ]
    named = [{"sys_id": sys_id, "name": name} for name, sys_id in groups.items()]
    for table, rows in (("sys_user", users), ("sys_user_group", named), ("sys_user_grmember", belongs)):
        desk.tables[table].load([desk.tables[table].row({**born, **row}) for row in rows])
    logins = {group: [(sys_id, _login(name)) for sys_id, name in its] for group, its in members.items()}
    return Staff(groups, logins, [(sys_id, _login(name)) for sys_id, name in callers])


def _login(name: str) -> str:
    return name.lower().replace(" ", ".")
