"""The life of a change on each of its tracks: normal, standard, emergency and unauthorised.

Who is asked for approval is set up in ``lively_desk.yaml``; here people answer. Legal look-alikes (a standard change
that nobody approves, an emergency approved within a day after its start, a change sent back to planning, a declined or
withdrawn one, a failed one with review notes instead of a review task) are not noted as planted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from connectors.jira.simulator.scripts import (
    APPROVERS,
    COUNTERPART,
    DAY,
    GROUP,
    HOUR,
    MINUTE,
    NOTES,
    TEAMS,
    Fields,
    Script,
    group,
    option,
    person,
)
from connectors.jira.simulator.scripts.problem import Problem

_TRACK, _RISK, _START, _END = (f"customfield_{number}" for number in (10203, 10204, 10206, 10207))
_TASK_KIND, _TEMPLATE, _REVIEW, _UNAUTHORISED = (f"customfield_{number}" for number in (10223, 10224, 10225, 10227))
_ITEM = "customfield_10228"
_TASK = "10106"
_IMPLEMENTATION, _TESTING, _REVIEWING = "10381", "10382", "10383"
_FIXES = "10505"
_PLANS = {
    "customfield_10208": "Announce, switch over, watch for an hour.",
    "customfield_10209": "Switch back within ten minutes.",
    "customfield_10210": "Log in, read, write, compare counts.",
}
_BACKOUT_PLAN = "customfield_10209"
_TRACKS = {"normal": "10322", "standard": "10321", "emergency": "10323", "unauthorised": "10322"}
_WHAT = ("New firmware for the access points", "Index for the sales reports", "New release of the drawing program",
         "Second line to the branch", "Larger volume for the archive", "Rules of the mail filter")  # fmt: skip
_ITEMS = ("Access points", "Report database", "Drawing program", "Branch line", "Archive", "Mail filter")
"""What each of these alters."""
_TEMPLATES = ("STD-001 Restart of a service", "STD-002 Extension of a volume", "STD-003 Renewal of a certificate")
_BOARD = "Change advisory board"
_DEVIATIONS: Mapping[str, tuple[float, Sequence[str]]] = {
    "normal": (0.2, ("self_approved", "approved_by_implementer", "no_board", "board_incomplete", "approved_after_start",
                     "no_backout_plan")),
    "standard": (0.06, ("no_template",)),
    "emergency": (0.3, ("approved_after_days", "unapproved", "no_trigger")),
    "unauthorised": (0, ()),
}  # fmt: skip
"""Track -> share of its changes in which something is wrong, and what it can be."""
_INCIDENTS_A_DAY = 31
"""How many incidents a day the other system opens, whose numbers are named here."""
_FIRST_INCIDENT = 10001
_LEAD = (15 * DAY, 18 * DAY)
"""How long after it was asked for a normal change is carried out: five working days lie between, even in December."""


@dataclass(slots=True)
class Change(Script):
    """One change. ``deviation`` is what is wrong with it, if anything; one thing at a time, but for the review."""

    TYPE: ClassVar[str] = "10104"
    track: str = "normal"
    deviation: str = ""
    team: str = ""
    asker: str = ""
    doer: str = ""
    peer: str = ""
    manager: str = ""

    def story(self) -> Iterator[float]:
        self._cast()
        self._raised()
        if self.track == "normal" and self.chance(0.04):
            yield self.between(HOUR, DAY)
            self.step(self.manager, "Cancel", {"resolution": {"name": "Won't do"}})
            return
        yield from self._decided()
        if self.status() == "Declined":
            return
        yield from self._implemented()
        yield from self._reviewed()

    def _cast(self) -> None:
        """Draw the track, the people and what goes wrong."""
        draw = self.random
        self.track = draw.choices([*_TRACKS], (11, 6, 3, 1))[0]
        share, kinds = _DEVIATIONS[self.track]
        if self.chance(share):
            self.deviation = draw.choice(kinds)
        self.team = draw.choice([each for each in TEAMS if each != "Service desk"])
        self.asker, self.doer, self.peer = draw.sample(list(self.people[self.team]), 3)
        if self.deviation == "self_approved":
            self.peer = self.asker
        if self.deviation == "approved_by_implementer":
            self.doer = self.peer
        self.manager = self.one_of("Managers")

    def _raised(self) -> None:
        what = self.random.choice(_WHAT)
        fields = {
            "summary": what,
            _ITEM: _ITEMS[_WHAT.index(what)],
            "description": "Asked for by the owner of the service.",
            "assignee": person(self.doer),
            GROUP: group(self.team),
            _TRACK: option(_TRACKS[self.track]),
            _RISK: option(self.random.choice(("10332", "10333", "10333", "10334"))),
            _START: self._stamp(_LEAD[0] if self.track == "normal" else 2 * HOUR),
            _END: self._stamp(_LEAD[0] + 4 * HOUR if self.track == "normal" else 6 * HOUR),
            **_PLANS,
        }
        self.key = self.create(self.asker, {**fields, **self._particulars()})
        if self.deviation in ("no_backout_plan", "no_template", "no_trigger"):
            self.note(f"change.{self.deviation}", self.key)
        self._traced()

    def _particulars(self) -> Fields:
        """What the track adds, and what the deviation takes away."""
        values: dict[str, object] = {}
        if self.track == "normal":
            values[APPROVERS] = [person(self.peer)]
        if self.track == "standard" and self.deviation != "no_template":
            values[_TEMPLATE] = self.random.choice(_TEMPLATES)
        if self.track == "unauthorised":
            values[_UNAUTHORISED] = [option("10391")]
        if self.deviation == "no_backout_plan":
            values[_BACKOUT_PLAN] = None
        return values

    def _traced(self) -> None:
        """Name what the change comes from: a problem here, or an incident in the other system."""
        if self.track not in ("normal", "emergency") or self.deviation == "no_trigger":
            return
        if self.track == "normal" and not self.chance(0.3):
            return
        problems = self.recent.get(Problem, ())[-8:]
        if problems and self.chance(0.5):
            self.link(self.asker, _FIXES, self.random.choice(problems))
        else:
            self.edit(self.asker, {COUNTERPART: self._incident()})

    def _incident(self) -> str:
        """Number of an incident that came in lately."""
        newest = int(self.opened / DAY * _INCIDENTS_A_DAY)
        return f"INC{_FIRST_INCIDENT + max(0, newest - self.random.randrange(40)):07d}"

    def _stamp(self, ahead: float) -> str:
        return datetime.fromtimestamp(self.now / 1000 + ahead, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")

    # --- approval

    def _decided(self) -> Iterator[float]:
        """From the peer review to the wait for implementation, or to Declined."""
        if self.track == "emergency" and self.deviation == "unapproved":
            yield self.between(5 * MINUTE, HOUR)
            self.step(self.doer, "Emergency override")
            return
        if self.track == "standard":
            yield self.between(MINUTE, 30 * MINUTE)
            self.step(self.asker, "Approve")
            self.step(self.asker, "Ready for implementation")
            return
        yield from self._reviewed_by_peer()
        if self.status() == "Planning":
            yield from self._planned()

    def _reviewed_by_peer(self) -> Iterator[float]:
        if self.track != "normal":
            yield self.between(5 * MINUTE, 30 * MINUTE)
            self.step(self.asker, "Approve")
            return
        yield self.between(HOUR, DAY)
        self.comment(self.peer, "Reviewed.", internal=True)
        if self.chance(0.04) and not self.deviation:
            self.decide(self.peer, "declined")
            return
        if self.deviation in ("self_approved", "approved_by_implementer"):
            self.note(f"change.{self.deviation}", self.key)
        self.decide(self.peer)

    def _planned(self) -> Iterator[float]:
        self._task("Carry it out", _IMPLEMENTATION, self.doer)
        self._task("Test after the implementation", _TESTING, self.one_of(self.team, self.doer))
        quick = self.track == "emergency"
        yield self.between(MINUTE, 20 * MINUTE) if quick else self.between(HOUR, 2 * DAY)
        if self.chance(0.06) and not quick:
            self.step(self.manager, "Pending")
            yield self.between(DAY, 4 * DAY)
            self.step(self.manager, "Back to planning")
            yield self.between(HOUR, DAY)
        if self.deviation == "no_board":
            self.note("change.no_board", self.key)
            self.step(self.asker, "Ready for implementation")
            return
        self.step(self.asker, "Request CAB approval")
        yield from self._authorised(quick)

    def _authorised(self, quick: bool) -> Iterator[float]:
        """The board answers, one after the other; or somebody does not wait for it."""
        late = self.deviation in ("approved_after_days", "approved_after_start", "board_incomplete")
        if late or (quick and self.chance(0.3)):
            yield self.between(10 * MINUTE, HOUR)
            if self.deviation == "board_incomplete":
                self.decide(self.people[_BOARD][0])
            self.step(self.manager, "Emergency override")
            return
        yield from self._answered(MINUTE if quick else HOUR, 20 * MINUTE if quick else 20 * HOUR)

    def _answered(self, low: float, high: float) -> Iterator[float]:
        for member in self.people[_BOARD]:
            yield self.between(low, high)
            self.decide(member)

    def _task(self, summary: str, kind: str, worker: str) -> str:
        fields = {"summary": summary, "parent": {"key": self.key}, "assignee": person(worker), _TASK_KIND: option(kind)}
        return self.create(self.manager, fields, _TASK)

    # --- implementation and review

    def _implemented(self) -> Iterator[float]:
        ahead = self._ahead()
        self.edit(self.doer, {_START: self._stamp(ahead), _END: self._stamp(ahead + self._window())})
        yield ahead
        self.step(self.doer, "Implement")
        yield from self._approved_late()
        for task in self.site.children(self.issue()):
            yield self.between(10 * MINUTE, 2 * HOUR)
            by = task.values["assignee"]
            self.step(by, "Start", key=task.key)
            yield self.between(10 * MINUTE, 2 * HOUR)
            self.step(by, "Complete", key=task.key)
        yield self.between(10 * MINUTE, HOUR)

    def _ahead(self) -> float:
        """Seconds until it can be carried out."""
        if self.track != "normal":
            return self.between(10 * MINUTE, 2 * HOUR)
        passed: float = (self.now - self.issue().values["created"]) / 1000
        return max(self.between(*_LEAD) - passed, DAY)

    def _window(self) -> float:
        """Seconds that are planned for it, and for what is awaited meanwhile."""
        return 4 * DAY if self.deviation == "approved_after_days" else 16 * HOUR

    def _approved_late(self) -> Iterator[float]:
        """Answers of a board that nobody waited for: soon after the start of an emergency, days later, or never."""
        if self.deviation in ("board_incomplete", "unapproved"):
            self.note(f"change.{self.deviation}", self.key)
        elif self.deviation == "approved_after_days":
            self.note(f"change.{self.deviation}", self.key)
            yield 2 * DAY
            yield from self._answered(HOUR, 5 * HOUR)
        else:
            if self.deviation == "approved_after_start":
                self.note(f"change.{self.deviation}", self.key)
            for member in self._unanswered():
                yield self.between(10 * MINUTE, 3 * HOUR)
                self.decide(member)

    def _unanswered(self) -> list[str]:
        asked = [each for each in self.issue().approvals if each["decision"] == "pending"]
        return [each["by"] for approval in asked for each in approval["approvers"] if each["decision"] == "pending"]

    def _reviewed(self) -> Iterator[float]:
        """Outcome and lessons; what has to be looked into is, by a task or in notes, unless somebody forgets."""
        outcome = self.random.choices(("Done", "Failed", "Done with issues"), (21, 2, 2))[0]
        self.step(self.doer, "Complete", {"resolution": {"name": outcome}, NOTES: "Watched for a day."})
        if outcome != "Done" or self.track in ("emergency", "unauthorised"):
            yield from self._looked_into()
        yield self.between(DAY, 4 * DAY)
        self.step(self.manager, "Close")

    def _looked_into(self) -> Iterator[float]:
        if self.deviation == "" and self.chance(0.2):
            self.note("change.unreviewed", self.key)
        elif self.chance(0.5):
            yield self.between(HOUR, DAY)
            self.edit(self.manager, {_REVIEW: "The plan missed a dependency; the template is corrected."})
        else:
            yield self.between(HOUR, DAY)
            task = self._task("Post-implementation review", _REVIEWING, self.manager)
            yield self.between(HOUR, DAY)
            self.step(self.manager, "Complete", key=task)
