"""The life of a corrective action that somebody opened by hand, after an audit or a complaint.

Legal look-alikes (a rejection with its reason, an action found not effective and worked on again) are not noted as
planted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from connectors.jira.simulator.scripts import DAY, HOUR, Fields, Script, person

_FINDINGS = (
    "Audit: records of supplier reviews are incomplete",
    "Audit: continuity plan not exercised this year",
    "Complaint: status page was wrong for two days",
    "Audit: capacity report without targets",
    "Review: configuration items without an owner",
)


@dataclass(slots=True)
class CorrectiveAction(Script):
    """One action. ``deviation`` is what is wrong with it, if anything."""

    TYPE: ClassVar[str] = "10000"
    PROJECT: ClassVar[str] = "CAPA"
    manager: str = ""
    owner: str = ""
    deviation: str = ""

    def story(self) -> Iterator[float]:
        self.manager, *others = self.people["Quality"]
        self.owner = self.random.choice(others)
        if self.chance(0.5):
            kinds = ("not_contained", "no_cause", "unverified", "came_back")
            self.deviation = self.random.choices(kinds, (14, 2, 3, 1))[0]
        fields: Fields = {"summary": self.random.choice(_FINDINGS), "assignee": person(self.owner)}
        self.key = self.create(self.manager, fields)
        yield self.between(HOUR, 4 * DAY)
        if self.chance(0.08):
            self.step(self.manager, "Reject", {"resolution": {"name": "Won't do"}})
            return
        self.step(self.manager, "Confirm")
        yield from self._worked()
        if self.deviation == "came_back":
            yield self.between(3 * DAY, 9 * DAY)
            self.note("corrective_action.came_back", self.key)
            self.step(self.manager, "Reopen")

    def _worked(self) -> Iterator[float]:
        if self.deviation != "not_contained":
            yield self.between(DAY, 5 * DAY)
            self.step(self.owner, "Contain and correct")
        yield from self._planned()
        yield self.between(2 * DAY, 14 * DAY)
        self.step(self.owner, "Implement")
        if self.deviation == "unverified":
            self.note("corrective_action.unverified", self.key)
        else:
            yield from self._verified()
        yield self.between(DAY, 6 * DAY)
        self.step(self.manager, "Close as effective", {"resolution": {"name": "Done"}})

    def _planned(self) -> Iterator[float]:
        if self.deviation != "no_cause":
            yield self.between(DAY, 6 * DAY)
            self.step(self.owner, "Record cause")
        if self.deviation in ("not_contained", "no_cause"):
            self.note(f"corrective_action.{self.deviation}", self.key)
        yield self.between(DAY, 3 * DAY)
        self.step(self.owner, "Plan")

    def _verified(self) -> Iterator[float]:
        yield self.between(DAY, 5 * DAY)
        self.step(self.manager, "Verify")
        if self.chance(0.1):
            yield self.between(DAY, 5 * DAY)
            self.step(self.manager, "Find not effective")
            for name in ("Find cause again", "Record cause", "Plan", "Implement"):
                yield self.between(HOUR, 2 * DAY)
                self.step(self.owner, name)
            yield DAY
            self.step(self.manager, "Verify")
