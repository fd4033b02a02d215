"""The life of a service request: asked for, approved where it has to be, worked on, delivered, closed.

Legal look-alikes (one that nobody has to approve, a declined or withdrawn one, a wait for the customer, an escalation,
one that the service desk opens for a caller) are not noted as planted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from connectors.jira.simulator.scripts import (
    APPROVERS,
    AUTOMATION,
    DAY,
    GROUP,
    HOUR,
    MINUTE,
    NOTES,
    Fields,
    Script,
    group,
    person,
)

_ITEMS = (
    ("Access to the sales reports", "Database", True),
    ("Licence for the drawing program", "Applications", True),
    ("Port for a new printer", "Network", True),
    ("Second screen", "Service desk", False),
    ("Reset of a password", "Service desk", False),
    ("Distribution list", "Applications", False),
)
"""name, group that fulfils it, whether it has to be approved"""
_WITH_APPROVALS = "10105"


@dataclass(slots=True)
class Request(Script):
    """One request. ``deviation`` is what is wrong with it, if anything."""

    TYPE: ClassVar[str] = "10102"
    team: str = ""
    needs: bool = False
    customer: str = ""
    approver: str = ""
    worker: str = ""
    deviation: str = ""

    def story(self) -> Iterator[float]:
        self._cast()
        self._asked()
        if self.needs:
            yield self.between(HOUR, 2 * DAY)
            self._decided()
        if self.status() == "Declined":
            yield 3 * DAY
            self.step(AUTOMATION, "Close")
            return
        yield self.between(HOUR, DAY)
        if self.chance(0.03):
            self.step(self.customer, "Cancel request", {"resolution": {"name": "Won't do"}})
            return
        yield from self._fulfilled()
        yield 3 * DAY
        self.step(AUTOMATION, "Close")

    def _cast(self) -> None:
        self.customer = self.one_of("Customers")
        self.approver = self.one_of("Managers")
        if self.chance(0.06):
            self.deviation = self.random.choice(("self_approved", "nobody_asked", "not_worked"))

    def _asked(self) -> None:
        summary, self.team, self.needs = self.random.choice(_ITEMS)
        self.worker = self.one_of(self.team)
        asked: Fields = {APPROVERS: [person(self._asked_for_approval())]} if self._asks() else {}
        for_somebody = self.chance(0.2)
        fields = {
            "summary": summary,
            "description": "Needed by the end of the month.",
            "priority": {"id": self.random.choice("23334445")},
            "reporter": person(self.customer),
            GROUP: group(self.team),
        }
        by = self.one_of("Service desk", self.worker) if for_somebody else self.customer
        self.key = self.create(by, {**fields, **asked}, _WITH_APPROVALS if self.needs else "")

    def _asks(self) -> bool:
        return self.needs and self.deviation != "nobody_asked"

    def _asked_for_approval(self) -> str:
        return self.customer if self.deviation == "self_approved" else self.approver

    def _decided(self) -> None:
        if self.deviation == "nobody_asked":
            self.note("request.nobody_asked", self.key)
            self.step(self.worker, "Approve")
        elif self.deviation == "self_approved":
            self.note("request.self_approved", self.key)
            self.decide(self.customer)
        else:
            self.decide(self.approver, "declined" if self.chance(0.06) else "approved")

    def _fulfilled(self) -> Iterator[float]:
        self.edit(self.worker, {"assignee": person(self.worker)})
        if self.deviation == "not_worked":
            self.note("request.not_worked", self.key)
        else:
            yield from self._worked()
        done = {"resolution": {"name": "Done"}, NOTES: "Handed over."}
        self.step(self.worker, "Resolve this issue", done)

    def _worked(self) -> Iterator[float]:
        yield 5 * MINUTE
        self.step(self.worker, "In progress")
        yield self.between(HOUR, 2 * DAY)
        if self.chance(0.15):
            self.step(self.worker, "Respond to customer")
            self.comment(self.worker, "Which department is it for?")
            yield self.between(HOUR, 3 * DAY)
            self.comment(self.customer, "For accounting.")
            self.step(self.worker, "In progress")
            yield self.between(HOUR, DAY)
        elif self.chance(0.05):
            self.step(self.worker, "Escalate")
            yield self.between(HOUR, DAY)
            self.step(self.worker, "In progress")
            yield self.between(HOUR, DAY)
        elif self.chance(0.3):
            self.comment(self.worker, "Ordered, should be there tomorrow.")
            yield self.between(HOUR, DAY)
