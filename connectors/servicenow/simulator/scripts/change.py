"""The life of a change on each of its tracks: normal, standard, emergency and unauthorised.

Who is asked for approval is left to the instance's approval engine; here people answer. Legal look-alikes (a standard
change that nobody approves, a rejection and a second round, a failed change with review notes instead of a review task,
an unauthorised change that goes straight to review) are not noted as planted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from connectors.servicenow.simulator.scripts import DAY, HOUR, MINUTE, Script, Step
from connectors.servicenow.simulator.scripts.staff import BOARD, TOPICS, Person

_WHAT = ("Replace the core switch", "Raise the memory of the database", "New release of the mail gateway",
         "Renew the certificates", "Move the file share", "Patch the hypervisors")  # fmt: skip
_PLANS = {
    "implementation_plan": "Announce, switch over, watch for an hour.",
    "backout_plan": "Switch back within ten minutes.",
    "test_plan": "Log in, read, write, compare counts.",
    "justification": "Support of the old version ends.",
}
_TASKS = (("implementation", "Carry it out"), ("testing", "Test after the implementation"))
_DEVIATIONS = {
    "normal": ("self_approved", "approved_by_implementer", "no_board", "no_backout_plan"),
    "standard": ("no_template",),
    "emergency": ("approved_afterwards", "no_trigger"),
    "unauthorized": (),
}
_RECENT = 60
_WAITS = {"normal": (14 * DAY, 16 * DAY), "standard": (DAY, 4 * DAY), "emergency": (10 * MINUTE, 2 * HOUR)}
"""How long after it was decided a change is carried out; a normal one waits five working days, even in December."""
_WINDOW = 5 * HOUR


def _plan(ahead: float) -> dict[str, str]:
    """The plan of a change that begins so many seconds from now."""
    return {"start_date": f"@now+{ahead:.0f}", "end_date": f"@now+{ahead + _WINDOW:.0f}"}


@dataclass(slots=True)
class Change(Script):
    """One change. ``deviation`` is what is wrong with it, if anything; one thing at a time."""

    table: ClassVar[str] = "change_request"
    track: str = "normal"
    deviation: str = ""
    group: str = ""
    asker: Person = ("", "")
    doer: Person = ("", "")
    manager: Person = ("", "")

    def steps(self) -> Iterator[Step]:
        self._cast()
        yield self._raised()
        if self.track == "normal" and self.chance(0.04):
            yield self._save(self.between(HOUR, DAY), self.asker, {"state": "4", "work_notes": "Not needed any more."})
            return
        yield from self._decided()
        if self.track == "unauthorized":
            yield from self._reviewed()
            return
        yield from self._planned()
        yield from self._implemented()
        yield from self._reviewed()

    def _cast(self) -> None:
        """Draw the track, the people and what goes wrong."""
        draw = self.random
        self.track = draw.choices(("normal", "standard", "emergency", "unauthorized"), (11, 6, 3, 1))[0]
        if _DEVIATIONS[self.track] and self.chance(0.2):
            self.deviation = draw.choice(_DEVIATIONS[self.track])
        self.group = draw.choice(TOPICS)[3]
        self.asker, self.doer = draw.sample(list(self.staff.members[self.group]), 2)
        if self.deviation == "approved_by_implementer":
            self.doer = draw.choice(self.staff.members[BOARD])
        self.manager = draw.choice(self.staff.managers)

    def _raised(self) -> Step:
        values = {
            "type": self.track if self.track != "unauthorized" else "normal",
            "unauthorized": str(self.track == "unauthorized").lower(),
            "short_description": self.random.choice(_WHAT),
            "requested_by": self.asker[0],
            "assignment_group": self.staff.groups[self.group],
            "assigned_to": self.doer[0],
            "risk": self.random.choice("234"),
            "cmdb_ci": self.any_row("cmdb_ci"),
            **_plan(_WAITS["normal"][1]),
            **_PLANS,
        }
        values |= self._reason()
        plants = (
            [f"change.{self.deviation}"] if self.deviation in ("no_backout_plan", "no_template", "no_trigger") else []
        )
        return Step(0, self.asker[1], values, tuple(plants))

    def _reason(self) -> dict[str, str]:
        """What the change comes from, and what its track or its deviation adds or takes away."""
        values = {}
        if self.track == "emergency" and self.deviation != "no_trigger":
            values["parent"] = self._recent("incident")
        if self.track == "normal" and self.chance(0.3):
            values["parent"] = self._recent("problem")
        if self.track == "standard" and self.deviation != "no_template":
            values["std_change_producer_version"] = self.any_row("std_change_producer_version")
        if self.deviation == "no_backout_plan":
            values["backout_plan"] = ""
        return values

    # --- approval ------------------------------------------------------------------------------------------------

    def _decided(self) -> Iterator[Step]:
        """From New to Scheduled, or to Review for what was done already."""
        if self.track == "standard":
            yield self._save(self.between(HOUR, DAY), self.asker, {"state": "-2"})
        elif self.track == "normal":
            yield from self._assessed()
        else:
            yield self._save(self.between(5 * MINUTE, HOUR), self.asker, {"state": "-3"})
            if self.deviation != "approved_afterwards":
                yield from self._authorised(MINUTE, 2 * HOUR)

    def _assessed(self) -> Iterator[Step]:
        yield self._save(self.between(HOUR, DAY), self.asker, {"state": "-4"})
        if self.chance(0.06):
            yield self.answer(self.between(HOUR, DAY), self._peer(), "rejected", "The test plan says too little.")
            yield self._save(self.between(HOUR, DAY), self.asker, {"test_plan": "Compare counts and sums per day."})
            yield self._save(self.between(HOUR, 2 * HOUR), self.asker, {"state": "-4"})
        yield from self._approved_by_peer()
        if self.deviation == "no_board":
            yield self._save(self.between(HOUR, DAY), self.asker, {"state": "-2"}, "no_board")
        else:
            yield from self._authorised(4 * HOUR, DAY)

    def _approved_by_peer(self) -> Iterator[Step]:
        plants = ("change.self_approved",) if self.deviation == "self_approved" else ()
        step = self.answer(self.between(HOUR, DAY), self._peer(), "approved", "Reviewed, plan is sound.")
        yield step._replace(plants=plants)

    def _peer(self) -> Person:
        """Whoever of the group answers: neither who asked nor who will do it, unless that is what goes wrong."""
        if self.deviation == "self_approved":
            return self.asker
        return self.random.choice([one for one in self.staff.members[self.group] if one not in (self.asker, self.doer)])

    def _authorised(self, low: float, high: float) -> Iterator[Step]:
        """Every member of the board answers."""
        for member in self.staff.members[BOARD]:
            plants = ("change.approved_by_implementer",) if member == self.doer else ()
            yield self.answer(self.between(low, high), member, "approved", "Agreed.")._replace(plants=plants)

    # --- implementation and review -------------------------------------------------------------------------------

    def _planned(self) -> Iterator[Step]:
        for kind, words in _TASKS:
            values = {
                "change_request": "@",
                "parent": "@",
                "change_task_type": kind,
                "short_description": words,
                "assignment_group": self.staff.groups[self.group],
                "assigned_to": self.doer[0] if kind == "implementation" else self._tester()[0],
            }
            yield Step(MINUTE, self.asker[1], values, on=kind, table="change_task")
        item = {"task": "@", "ci_item": self.records[""][0].get(self.records[""][1], "cmdb_ci")}
        yield Step(MINUTE, self.asker[1], item, on="item", table="task_ci")
        if self.track == "normal" and self.chance(0.06):
            held = {"on_hold": "true", "on_hold_reason": "Freeze at the end of the quarter."}
            yield self._save(self.between(HOUR, DAY), self.manager, held)
            yield self._save(self.between(DAY, 3 * DAY), self.manager, {"on_hold": "false", "on_hold_reason": ""})

    def _tester(self) -> Person:
        return self.random.choice([one for one in self.staff.members[self.group] if one != self.doer])

    def _implemented(self) -> Iterator[Step]:
        """Work and test; with the last task the instance moves the change to Review by itself."""
        wait = self.between(*_WAITS[self.track])
        yield self._save(0, self.doer, _plan(wait))
        late = ("approved_afterwards",) if self.deviation == "approved_afterwards" else ()
        yield self._save(wait, self.doer, {"state": "-1", "work_start": "@now+0"}, *late)
        yield self._task(10 * MINUTE, "implementation", {"state": "2"})
        yield self._task(self.between(HOUR, 3 * HOUR), "implementation", {"state": "3", "work_notes": "Carried out."})
        yield self._save(MINUTE, self.doer, {"work_end": "@now+0"})
        if self.chance(0.9):
            yield self._task(
                self.between(10 * MINUTE, HOUR), "testing", {"state": "3", "work_notes": "All tests pass."}
            )
        else:
            yield self._save(self.between(10 * MINUTE, HOUR), self.doer, {"state": "0"})

    def _task(self, after: float, key: str, values: Mapping[str, str]) -> Step:
        table, row = self.records[key]
        by = self.staff.names.get(table.get(row, "assigned_to"), self.doer[1])
        return Step(after, by, values, on=key, table="change_task")

    def _reviewed(self) -> Iterator[Step]:
        """Outcome and lessons; what failed or was in a hurry is looked into by a task or in the notes, unless somebody
        forgets."""
        if self.deviation == "approved_afterwards":
            yield from self._authorised(DAY, 2 * DAY)
        draw = self.random.random()
        code = "unsuccessful" if draw < 0.08 else "successful_issues" if draw < 0.16 else "successful"
        closing = {"state": "3", "close_code": code, "close_notes": "Watched for a day."}
        plants: tuple[str, ...] = ()
        if code == "unsuccessful" and self.chance(0.4):
            plants = ("failed_unreviewed",)
        elif code == "unsuccessful" and self.chance(0.5):
            closing["review_comments"] = "The plan missed a dependency; the template is corrected."
        elif code != "successful" or self.track in ("emergency", "unauthorized"):
            yield from self._review_task()
        yield self._save(self.between(DAY, 4 * DAY), self.manager, closing, *plants)

    def _review_task(self) -> Iterator[Step]:
        values = {
            "change_request": "@",
            "parent": "@",
            "change_task_type": "review",
            "short_description": "Post-implementation review",
            "assigned_to": self.manager[0],
        }
        yield Step(HOUR, self.manager[1], values, on="review", table="change_task")
        yield self._task(self.between(HOUR, DAY), "review", {"state": "3", "work_notes": "Cause and lessons noted."})

    def _recent(self, table: str) -> str:
        """Id of one of the newest rows of a table, or blank."""
        newest = list(islice(reversed(self.desk.tables[table].rows), _RECENT))
        return self.random.choice(newest) if newest else ""

    def _save(self, after: float, by: Person, values: Mapping[str, str], *plants: str) -> Step:
        return Step(after, by[1], values, tuple(f"change.{name}" for name in plants))
