"""The life of a problem, and of a major incident that leads to one.

Legal look-alikes (an accepted risk closed without a fix, a duplicate closed after assessment, a fix that did not hold
and goes back) are not noted as planted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from connectors.servicenow.simulator.scripts import DAY, HOUR, MINUTE, Script, Step
from connectors.servicenow.simulator.scripts.staff import TOPICS, Person

_CAUSES = ("A driver leaks memory.", "Two jobs lock the same table.", "The certificate chain is out of date.")
_FIXES = ("New driver rolled out.", "Jobs moved apart.", "Chain renewed and watched by monitoring.")
_RECENT = 80
"""How far back in the list of incidents a problem looks for its own."""


@dataclass(slots=True)
class Problem(Script):
    """A problem that somebody sees behind a few incidents. Its record is ``key``."""

    table: ClassVar[str] = "problem"
    key: str = ""
    topic: tuple[str, str, str, str] = TOPICS[0]
    owner: Person = ("", "")
    manager: Person = ("", "")

    def steps(self) -> Iterator[Step]:
        self.topic = self.random.choice(TOPICS)
        yield self.opened(0)
        yield from self.linked()
        yield from self.worked()

    def opened(self, after: float) -> Step:
        self.manager = self.random.choice(self.staff.managers)
        self.owner = self.agent(self.topic[3])
        values = {
            "short_description": f"{self.topic[2]}, again and again",
            "category": self.topic[0],
            "impact": self.random.choice("123"),
            "urgency": self.random.choice("123"),
            "assignment_group": self.staff.groups[self.topic[3]],
        }
        return self.of_problem(after, self.agent(self.topic[3]), values)

    def linked(self) -> Iterator[Step]:
        """Incidents of the same topic that are still open are hung below."""
        incidents = self.desk.tables["incident"]
        recent = islice(reversed(incidents.rows.values()), _RECENT)
        open_ones = [row for row in recent if incidents.get(row, "short_description") == self.topic[2]]
        free = [
            row for row in open_ones if not incidents.get(row, "problem_id") and incidents.get(row, "state") in "123"
        ]
        for row in free[: self.random.choice((1, 2, 3))]:
            sys_id = incidents.get(row, "sys_id")
            yield Step(2 * MINUTE, self.manager[1], {"problem_id": f"@{self.key}"}, on=sys_id, table="incident")

    def worked(self) -> Iterator[Step]:
        """From New to Closed, on one of the ways there are."""
        yield self.of_problem(self.between(HOUR, DAY), self.manager, {"state": "102", "assigned_to": self.owner[0]})
        if self.chance(0.06):
            values = {"state": "107", "resolution_code": "duplicate", "work_notes": "Known under another number."}
            yield self.of_problem(self.between(HOUR, DAY), self.manager, values)
            return
        skips = self.chance(0.06)
        if skips:
            guess = {"cause_notes": self.random.choice(_CAUSES)}
            yield self.fixed(("problem.skipped_analysis",), guess)
        else:
            yield from self.analysed()
            if self.chance(0.1):
                values = {"state": "107", "resolution_code": "risk_accepted", "work_notes": "Risk accepted for a year."}
                yield self.of_problem(self.between(DAY, 3 * DAY), self.manager, values)
                return
            yield from self.repaired()
        yield self.of_problem(self.between(DAY, 5 * DAY), self.manager, {"state": "107"})

    def analysed(self) -> Iterator[Step]:
        """The analysis and its task."""
        yield self.of_problem(self.between(HOUR, 2 * DAY), self.owner, {"state": "103"})
        task = {
            "problem": f"@{self.key}",
            "parent": f"@{self.key}",
            "problem_task_type": "rca",
            "short_description": "Find the cause",
            "assigned_to": self.owner[0],
            "assignment_group": self.staff.groups[self.topic[3]],
        }
        for after, values in ((MINUTE, task), (HOUR, {"state": "154"}), (self.between(DAY, 4 * DAY), {"state": "157"})):
            yield Step(after, self.owner[1], values, on="analysis", table="problem_task")

    def repaired(self) -> Iterator[Step]:
        """Cause written down, fix made; one in ten does not hold."""
        blank = self.chance(0.06)
        values = {"state": "104", "workaround": "Restart once a day.", "known_error": "true"}
        if not blank:
            values["cause_notes"] = self.random.choice(_CAUSES)
        yield self.of_problem(self.between(HOUR, DAY), self.owner, values, ("problem.no_cause",) if blank else ())
        yield self.fixed()
        if self.chance(0.1):
            yield self.of_problem(
                self.between(DAY, 3 * DAY), self.manager, {"state": "104", "work_notes": "Came back."}
            )
            yield self.fixed()

    def fixed(self, plants: tuple[str, ...] = (), more: Mapping[str, str] | None = None) -> Step:
        values = {"state": "106", "fix_notes": self.random.choice(_FIXES), "resolution_code": "fix_applied"}
        values |= self._through_change()
        return self.of_problem(self.between(DAY, 6 * DAY), self.owner, {**values, **(more or {})}, plants)

    def _through_change(self) -> dict[str, str]:
        """The newest closed change, if no emergency, carried the fix; while there is none it was a new instruction."""
        changes = self.desk.tables["change_request"]
        for row in islice(reversed(changes.rows.values()), _RECENT):
            if changes.get(row, "state") == "3" and changes.get(row, "type") != "emergency":
                return {"rfc": changes.get(row, "sys_id")}
        return {"category": "documentation"}

    def of_problem(self, after: float, by: Person, values: dict[str, str], plants: tuple[str, ...] = ()) -> Step:
        """A save of the problem itself."""
        return Step(after, by[1], values, plants, on=self.key, table="problem")


@dataclass(slots=True)
class Major(Problem):
    """An incident that is declared major, after which the cause is to be looked for. The incident is its record."""

    def steps(self) -> Iterator[Step]:
        self.key = "problem"
        self.topic = self.random.choice(TOPICS)
        self.manager = self.random.choice(self.staff.managers)
        forgotten = self.chance(0.2)
        plants = ("incident.major_without_problem",) if forgotten else ()
        values = {"major_incident_state": "accepted", "work_notes": "Declared major, management informed."}
        yield Step(self.between(2 * MINUTE, 10 * MINUTE), self.manager[1], values, plants)
        if forgotten:
            return
        yield self.opened(self.between(2 * HOUR, DAY))
        yield Step(MINUTE, self.manager[1], {"problem_id": "@problem"})
        yield from self.worked()
