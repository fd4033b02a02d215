"""The life of a catalogue request: the order, the item in it, its approval, the work and the delivery.

Legal look-alikes (an item that nobody has to approve, a rejected one) are not noted as planted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from connectors.servicenow.simulator.scripts import DAY, HOUR, MINUTE, Script, Step
from connectors.servicenow.simulator.scripts.staff import Person

ITEMS = (
    ("Access to the finance reports", "Identity", True),
    ("Shared mailbox", "Applications", True),
    ("New laptop", "Field Support", True),
    ("Headset", "Field Support", False),
    ("Guest wireless for a day", "Network", False),
)
"""name, group that fulfils it, whether it has to be approved"""


@dataclass(slots=True)
class Request(Script):
    """One requested item, which is the script's record."""

    table: ClassVar[str] = "sc_req_item"
    item: tuple[str, str, bool] = ITEMS[0]
    caller: Person = ("", "")
    approver: Person = ("", "")
    deviation: str = ""

    def steps(self) -> Iterator[Step]:
        self.item = self.random.choice(ITEMS)
        self.caller = self.random.choice(self.staff.callers)
        self.approver = self.random.choice(self.staff.managers)
        if self.item[2] and self.chance(0.1):
            self.deviation = self.random.choice(("self_approved", "work_unapproved"))
        yield from self._ordered()
        if self.deviation != "work_unapproved":
            yield from self._decided()
        if self.records[""][0].get(self.records[""][1], "state") != "4":
            yield from self._fulfilled()

    def _ordered(self) -> Iterator[Step]:
        name, group, needs = self.item
        order = {"requested_for": self.caller[0], "short_description": name}
        yield Step(0, self.caller[1], order, on="order", table="sc_request")
        item = {
            "request": "@order",
            "parent": "@order",
            "requested_for": self.caller[0],
            "short_description": name,
            "cat_item": self._catalogued(name),
            "assignment_group": self.staff.groups[group],
            "approval": "requested" if needs else "not_required",
            "stage": "waiting_for_approval" if needs else "fulfillment",
        }
        yield Step(0, self.caller[1], item)
        if needs:
            asked = self.caller if self.deviation == "self_approved" else self.approver
            approval = {"sysapproval": "@", "document_id": "@", "source_table": "sc_req_item", "approver": asked[0]}
            yield Step(0, "system", {**approval, "state": "requested"}, on="approval", table="sysapproval_approver")

    def _catalogued(self, name: str) -> str:
        table = self.desk.tables["sc_cat_item"]
        return next(sys_id for sys_id, row in table.rows.items() if table.get(row, "name") == name)

    def _decided(self) -> Iterator[Step]:
        if not self.item[2]:
            return
        if self.deviation == "self_approved":
            step = self.answer(self.between(HOUR, DAY), self.caller, "approved", "Needed for the closing.")
            yield step._replace(plants=("request.self_approved",))
        elif self.chance(0.06):
            yield Step(self.between(HOUR, 2 * DAY), self.approver[1], {"close_notes": "Not this year."})
            yield self.answer(MINUTE, self.approver, "rejected", "Not this year.")
        else:
            yield self.answer(self.between(HOUR, 2 * DAY), self.approver, "approved", "Agreed.")

    def _fulfilled(self) -> Iterator[Step]:
        group = self.item[1]
        worker = self.agent(group)
        plants = ("request.work_unapproved",) if self.deviation == "work_unapproved" else ()
        begun = {"state": "2", "assigned_to": worker[0], "stage": "fulfillment"}
        yield Step(self.between(HOUR, DAY), worker[1], begun, plants)
        task = {
            "request": "@order",
            "request_item": "@",
            "parent": "@",
            "short_description": f"Deliver: {self.item[0]}",
            "assigned_to": worker[0],
            "assignment_group": self.staff.groups[group],
            "state": "2",
        }
        yield Step(MINUTE, worker[1], task, on="task", table="sc_task")
        yield Step(self.between(2 * HOUR, 3 * DAY), worker[1], {"state": "3", "work_notes": "Delivered."}, on="task",
                   table="sc_task")  # fmt: skip
        yield Step(5 * MINUTE, worker[1], {"state": "3", "stage": "complete", "close_notes": "Handed over."})
        yield Step(0, "system", {"state": "3", "request_state": "closed_complete"}, on="order", table="sc_request")
