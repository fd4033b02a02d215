"""The life of an incident: opened, routed, worked on, resolved, closed, and now and then not as it should be.

Legal look-alikes (a first-contact fix, a caller who closes, a cancelled duplicate) are not noted as planted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from connectors.servicenow.simulator.rules import matrix
from connectors.servicenow.simulator.scripts import DAY, HOUR, MINUTE, Script, Step
from connectors.servicenow.simulator.scripts.staff import FRONT, GROUPS, TOPICS

_RESPONSE = {"1": 15 * MINUTE, "2": 30 * MINUTE, "3": 4 * HOUR, "4": 8 * HOUR, "5": DAY}
_RESOLUTION = {"1": 4 * HOUR, "2": 8 * HOUR, "3": 3 * DAY, "4": 5 * DAY, "5": 10 * DAY}
_AUTO_CLOSE = 5 * DAY
_CODES = ("Solution provided", "Workaround provided", "User error", "Known error", "Resolved by caller")
_NOTES = ("Restarted the service and watched it.", "Replaced the part.", "Settings corrected with the caller.")
_HOLDS = {"1": "Asked the caller for a date.", "3": "Waits for the problem record.", "4": "Vendor case opened."}


@dataclass(slots=True)
class Incident(Script):
    """What happens to one incident, step by step."""

    table: ClassVar[str] = "incident"
    group: str = FRONT
    moved: bool = False
    priority: str = "5"
    topic: tuple[str, str, str, str] = TOPICS[0]
    caller: tuple[str, str] = ("", "")

    def steps(self) -> Iterator[Step]:
        yield self._opened()
        if self.chance(0.02):
            yield self._by_agent(self._part(_RESPONSE, 0.1, 0.9), {"state": "8", "work_notes": "Opened twice."})
            return
        yield from self._routed()
        if self.chance(0.1):
            yield self._resolved(("skipped_work",) if self.moved else ())
        else:
            yield from self._worked()
        if self.chance(0.09):
            yield Step(
                self.between(HOUR, 3 * DAY), self.caller[1], {"state": "2", "comments": "It is back."}, ("reopened",)
            )
            yield self._resolved()
        yield self._closed()
        if self.chance(0.005):
            yield self._by_agent(self.between(HOUR, DAY), {"state": "2"}, ("forbidden_step",))
            yield self._resolved()
            yield self._closed()

    def _opened(self) -> Step:
        draw = self.random
        self.topic = draw.choice(TOPICS)
        self.caller = draw.choice(self.staff.callers)
        impact, urgency = draw.choices("123", (2, 5, 13))[0], draw.choices("123", (2, 6, 12))[0]
        self.priority = matrix(impact, urgency)
        if self.chance(0.4):
            self.group = self.topic[3]
        off = self.topic[3] == "Applications" and self.chance(0.04)
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
        return Step(0, self.agent(FRONT)[1], values, ("off_matrix",) if off else ())

    def _routed(self) -> Iterator[Step]:
        if self.group != self.topic[3]:
            by = self.agent(self.group)[1]
            yield Step(self._part(_RESPONSE, 0.05, 0.2), by, self._to(self.topic[3]))

    def _worked(self) -> Iterator[Step]:
        late = self.priority in "12" and self.chance(0.12)
        delay = self._part(_RESPONSE, 1.3, 3) if late else self._part(_RESPONSE, 0.05, 0.5)
        yield self._started(delay, ("late_response",) if late else ())
        if self.chance(0.06):
            yield from self._ping_pong()
        if self.priority not in "12" and self.chance(0.25):
            yield from self._held()
        if self.chance(0.01):
            yield self._by_agent(self._part(_RESOLUTION, 0.02, 0.05), {"state": "1"}, ("forbidden_step",))
            yield self._started(self._part(_RESOLUTION, 0.02, 0.05))
        yield self._resolved()

    def _started(self, delay: float, plants: tuple[str, ...] = ()) -> Step:
        sys_id, name = self.agent(self.group)
        return Step(delay, name, {"state": "2", "assigned_to": sys_id}, plants)

    def _ping_pong(self) -> Iterator[Step]:
        home = self.group
        other = self.random.choice([name for name in GROUPS if name not in (home, FRONT)])
        for group, plants in ((other, ()), (home, ("ping_pong",)), (other, ()), (home, ())):
            yield self._by_agent(self._part(_RESOLUTION, 0.02, 0.05), self._to(group), plants)

    def _held(self) -> Iterator[Step]:
        reason, note = self.random.choice(list(_HOLDS.items()))
        values = {"state": "3", "hold_reason": reason, "work_notes": note}
        yield self._by_agent(self._part(_RESOLUTION, 0.02, 0.1), values)
        yield self._by_agent(self.between(HOUR, DAY), {"state": "2"})

    def _resolved(self, plants: tuple[str, ...] = ()) -> Step:
        late = self.priority in "12" and self.chance(0.15)
        delay = self._part(_RESOLUTION, 1.2, 2.5) if late else self._part(_RESOLUTION, 0.1, 0.5)
        sys_id, name = self.agent(self.group)
        blank = self.group == "Field Support" and self.chance(0.06)
        values = {"state": "6", "assigned_to": sys_id, "close_notes": self.random.choice(_NOTES)}
        values["close_code"] = "" if blank else self.random.choice(_CODES)
        late_too = ("late_resolution",) if late else ()
        return Step(delay, name, values, (*plants, *late_too, *(("blank_close_code",) if blank else ())))

    def _closed(self) -> Step:
        if self.chance(0.15):
            return Step(self.between(HOUR, 2 * DAY), self.caller[1], {"state": "7", "comments": "Thank you."})
        return Step(_AUTO_CLOSE, "system", {"state": "7"}, job=True)

    def _to(self, group: str) -> dict[str, str]:
        self.group, self.moved = group, True
        return {"assignment_group": self.staff.groups[group], "assigned_to": ""}

    def _by_agent(self, after: float, values: Mapping[str, str], plants: tuple[str, ...] = ()) -> Step:
        return Step(after, self.agent(self.group)[1], values, plants)

    def _part(self, limits: Mapping[str, float], low: float, high: float) -> float:
        """A share of what the priority allows."""
        return limits[self.priority] * self.random.uniform(low, high)
