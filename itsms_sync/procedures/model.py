"""The shape of a documented procedure, and what is wrong with one beyond its shape.

A requirement's id survives versions: nonconformities are identified by it. What a requirement means for a case is in
``conformance``; this module only says what the document demands.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from itsms_sync.sms.conditions import Type
from itsms_sync.sms.mapping import condition_problems
from itsms_sync.sms.processes import Slug
from itsms_sync.sms.strict import Fault, Place, Strict

RequirementId = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$", max_length=50)]
Quorum = Literal["any", "all"] | Annotated[int, Field(ge=1)]
"""How many of those who were asked have to approve: ``any``: one, and none rejects; ``all``: every one; a number: at
least so many.
"""

DID = "did_"
"""Prefix of the booleans that tell in a condition whether an activity has happened: ``did_<activity>``."""
_DID = re.compile(rf"\b{DID}([a-z][a-z0-9_]*)")


class Severity(StrEnum):
    """S1: one case may be a major nonconformity. S2: one case is a nonconformity. S3: above its tolerance.
    S4: observation.
    """

    S1 = "S1"
    S2 = "S2"
    S3 = "S3"
    S4 = "S4"


class Origin(StrEnum):
    """Who demands it. Only what is our ``own`` may be waived."""

    STANDARD = "standard"
    LAW = "law"
    CONTRACT = "contract"
    OWN = "own"


class Step(Strict):
    """A documented step and the activity that shows it in the data."""

    id: str
    title: str
    activity: Slug
    role: str = ""
    mandatory: bool = True
    """Steps that are not mandatory are documented but may be absent."""


class Choice(Strict):
    """One of several ways; an empty one says that all of them may be left out."""

    choice: Annotated[tuple["Course", ...], Field(min_length=2)]


class Repeat(Strict):
    """Steps that happen once or several times in turn."""

    repeat: Annotated["Course", Field(min_length=1)]


class Parallel(Strict):
    """Branches whose steps happen in any order among each other; what follows waits for all of them."""

    parallel: str
    """What people call this work."""
    branches: Annotated[tuple["Course", ...], Field(min_length=2)]


Part = Annotated[str | Choice | Repeat | Parallel, Field(union_mode="left_to_right")]
Course = tuple[Part, ...]
"""How documented steps follow each other: ids of steps, and blocks of them."""


class Edge(Strict):
    """A documented transition between states."""

    model_config = ConfigDict(populate_by_name=True)
    source: Annotated[str, Field(alias="from")]
    target: Annotated[str, Field(alias="to")]


class ShortCut(Strict):
    """A documented legal short path: where its condition holds, skipping these steps is no deviation."""

    id: Slug
    title: str
    when: str
    """A condition over the attributes as they stand, and over ``did_<activity>``: whether it had happened by then."""
    skips: tuple[str, ...] = ()
    allows: tuple[Edge, ...] = ()


class Flow(Strict):
    """States of the process and the transitions that the document allows."""

    initial: str
    resolved: tuple[str, ...]
    """States in which the work is said to be done but the case can still come back."""
    final: tuple[str, ...]
    """States in which the case has ended."""
    edges: dict[str, tuple[str, ...]]

    def states(self) -> set[str]:
        return {self.initial, *self.resolved, *self.final, *self.edges, *(t for to in self.edges.values() for t in to)}


AROUND_THE_CLOCK = "24x7"


class Limit(Strict):
    """A time limit on a clock: around it, or on the business calendar of that name, where its days are working days."""

    time: timedelta
    clock: Literal["24x7"] | Slug = "24x7"


class Demand(Strict):
    """What every requirement says about itself."""

    id: RequirementId
    title: str
    """What is required, as a sentence that can stand on a ticket."""
    drift: str
    """What it is called when it is not fulfilled, short enough for a ticket's summary."""
    where: str
    """Section and step of the document."""
    clause: str
    origin: Origin
    severity: Severity
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of cases up to which no corrective action is asked for; never whether the requirement was fulfilled."""
    why: str
    """Why it matters, to a person who is about to spend time on it."""
    proof: str
    """What later cases have to show for the matter to be closed."""
    applies: str | None = None
    """A condition over the attributes as they stand and ``did_<activity>``; cases for which it is false are not
    judged.
    """


class StepDone(Demand):
    """CF1: the step has happened when the gate is reached."""

    check: Literal["CF1"]
    step: str
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Activities of which the first to happen closes the gate."""


class DocumentedTransitions(Demand):
    """CF2: the case moves only along documented transitions."""

    check: Literal["CF2"]


class StepsInOrder(Demand):
    """CF3: the steps come in the order of the course."""

    check: Literal["CF3"]


class FewReturns(Demand):
    """CF4: a case does not go back to an earlier phase again and again."""

    check: Literal["CF4"]
    phases: Annotated[tuple[str, ...], Field(min_length=2)]
    """States in the order in which a case passes them. Others, as those of waiting, are no phases."""
    most: Annotated[int, Field(ge=0)]
    """So many returns to an earlier phase are allowed."""


class NotResolvedUnread(Demand):
    """CF7: a case is not resolved at once, without any work and without a word."""

    check: Literal["CF7"]
    work: Slug
    """Activity that shows work."""
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]
    within: timedelta = timedelta(minutes=2)
    """Whoever takes so long may have worked on it."""
    notes: tuple[Slug, ...] = ()
    """Attributes in which it is said what was done; one of them is enough."""
    roles: tuple[Slug, ...] = ()
    """What another record is to a case that is resolved together with it."""


class NotCancelledAfterWork(Demand):
    """CF9: a case that was worked on is not cancelled."""

    check: Literal["CF9"]
    cancel: Slug
    """Activity that shows the cancellation."""
    work: Annotated[tuple[str, ...], Field(min_length=1)]
    """States in which it is worked on."""
    grace: timedelta = timedelta(minutes=30)
    """So long somebody may look at it before it is cancelled."""


class FewRejections(Demand):
    """CF8: a case is not put to approval and rejected again and again."""

    check: Literal["CF8"]
    most: Annotated[int, Field(ge=0)] = 2
    """So many rejections are allowed; what is rejected by several who were asked together is rejected once."""


class NoFlapping(Demand):
    """CF10: the state does not change to and fro in a short time."""

    check: Literal["CF10"]
    changes: Annotated[int, Field(ge=2)] = 4
    """So many changes of state by persons, with which the case comes back to a state that it had left."""
    within: timedelta = timedelta(minutes=10)


class NotReopened(Demand):
    """CF5: a resolved or closed case does not come back."""

    check: Literal["CF5"]
    counter: Slug | None = None
    """Attribute with the tool's own counter of reopenings: a second witness where history has gaps."""


class UntouchedAfterClose(Demand):
    """CF6: what a closed case says is not changed any more."""

    check: Literal["CF6"]
    fields: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Attributes that stay as they were; others may still be edited."""
    states: Annotated[tuple[str, ...], Field(min_length=1)]
    """States in which the case is closed."""


class FieldAtGate(Demand):
    """DA1: the field is filled when the gate is reached."""

    check: Literal["DA1"]
    field: Slug
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]


class PriorityByMatrix(Demand):
    """DA6: priority follows from impact and urgency by the matrix."""

    check: Literal["DA6"]
    matrix: dict[str, dict[str, str]]
    """impact -> urgency -> priority"""


class RespondedInTime(Demand):
    """TI1: a person responds within the limit."""

    check: Literal["TI1"]
    priority: str
    response: Slug
    """Activity that counts as a response when a person, not a system account, performs it."""
    limit: Limit


class ResolvedInTime(Demand):
    """TI2: the case is resolved within the limit, without the pauses."""

    check: Literal["TI2"]
    priority: str
    limit: Limit
    pause: str | None = None
    """Condition under which the clock stands still."""


class NoPingPong(Demand):
    """ST3: a case does not go back to a group that had passed it on."""

    check: Literal["ST3"]
    attribute: Slug = "group"


class NotSelfApproved(Demand):
    """RO1: nobody approves what they asked for themselves."""

    check: Literal["RO1"]
    requesters: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Attributes that name who asked for it."""


class ApproverNotImplementer(Demand):
    """RO2: nobody implements what they approved."""

    check: Literal["RO2"]
    implementers: tuple[Slug, ...] = ()
    """Attributes that name who implements, while the case is in one of the states ``during``."""
    during: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()
    """Whoever held a task of one of these types implemented, too."""


class StagesApproved(Demand):
    """RO4: every stage of approval has its quorum when the work begins."""

    check: Literal["RO4"]
    stages: Annotated[dict[str, Quorum], Field(min_length=1)]
    """State in which the approval is asked -> quorum."""
    before: Slug
    """Activity that must not happen before."""


class FieldsAtApproval(Demand):
    """DA3: what is to be approved is written down when it is approved."""

    check: Literal["DA3"]
    fields: Annotated[tuple[Slug, ...], Field(min_length=1)]
    stages: Annotated[tuple[str, ...], Field(min_length=1)]


class ApprovedBeforeStart(Demand):
    """TI6: the work begins after its approval, or is approved within the time of grace."""

    check: Literal["TI6"]
    start: Slug
    """Activity with which the work begins."""
    started: Slug | None = None
    """Attribute with the instant of the beginning as somebody wrote it down; the earlier of the two counts."""
    stages: Annotated[tuple[str, ...], Field(min_length=1)]
    grace: timedelta = timedelta(0)


class LinkedInTime(Demand):
    """LI1: the case is linked to another record in time."""

    check: Literal["LI1"]
    roles: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """What the other record is to the case; one of them is enough."""
    via: tuple[Slug, ...] = ()
    """A link of a record counts, too, to which the case has a link of this role."""
    after: Slug
    """Activity with which the limit begins to run."""
    limit: Limit


class Reviewed(Demand):
    """LI4: there was a review when the gate is reached: a task that is done, or a field that is filled."""

    check: Literal["LI4"]
    tasks: tuple[str, ...] = ()
    """Types of tasks."""
    fields: tuple[Slug, ...] = ()
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]


class LinkedAtGate(Demand):
    """LI9, and LI6 of a problem's fix: the case is linked to another record when the gate is reached."""

    check: Literal["LI6", "LI9"]
    roles: Annotated[tuple[Slug, ...], Field(min_length=1)]
    via: tuple[Slug, ...] = ()
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]


class Track(Strict):
    """One way through the procedure, and what shows that a case went it."""

    when: str
    """Condition over the attributes as they stand and ``did_<activity>``; of several that are true the first counts."""
    needs: tuple[Slug, ...] = ()
    """Activities that happen on this track before the work begins."""
    forbids: tuple[Slug, ...] = ()
    """Activities that do not."""
    fields: tuple[Slug, ...] = ()
    """Attributes that are filled by then."""


class TrackKept(Demand):
    """CF11: the case goes the way that its kind demands."""

    check: Literal["CF11"]
    tracks: Annotated[dict[Slug, Track], Field(min_length=1)]
    before: Slug
    """Activity with which the work begins."""
    fixed: Slug | None = None
    """Attribute that may change in an initial state only."""

    def steps(self) -> tuple[str, ...]:
        """The activities of which tracks say whether they happen."""
        return tuple(name for track in self.tracks.values() for name in (*track.needs, *track.forbids))


class ChildrenEnded(Demand):
    """CF12: what belongs to a case is done when the case reaches the gate, neither left open nor called off."""

    check: Literal["CF12"]
    tasks: tuple[str, ...] = ()
    """Types of tasks."""
    roles: tuple[Slug, ...] = ()
    """What other cases of the same process are to this one."""
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]
    grace: timedelta = timedelta(0)
    """So long after the gate they may still be brought to their end."""
    workflow_cancels: bool = False
    """Whether a task counts, too, that was ended by a system account or in one save with a move of the case, as
    workflows do with what is left open.
    """


class PersonApproves(Demand):
    """RO9: approvals are written by persons, not by rules."""

    check: Literal["RO9"]
    stages: Annotated[tuple[str, ...], Field(min_length=1)]


class Owned(Demand):
    """RO5: somebody is named who owns the case while it is in work, at the latest when the limit has passed."""

    check: Literal["RO5"]
    attribute: Slug = "assignee"
    states: Annotated[tuple[str, ...], Field(min_length=1)]
    limit: Limit
    """How long nobody may be named at a stretch."""


class FilledInTime(Demand):
    """DA7: what was empty when the gate was reached is not filled in afterwards."""

    check: Literal["DA7"]
    field: Slug
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]
    grace: timedelta = timedelta(minutes=15)
    """For entries that follow the gate as one act, or arrive late from another tool."""


class ItemNamed(Demand):
    """DA4: a configuration item is named when the gate is reached, in the field or in the list of affected items."""

    check: Literal["DA4"]
    field: Slug = "item"
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]


class CloseAgrees(Demand):
    """DA8: nothing contradicts what the case says of itself when it is closed; ``applies`` tells what it says."""

    check: Literal["DA8"]
    against: dict[str, str] = Field(default_factory=dict)
    """What contradicts it, in words -> the condition that tells it."""
    roles: dict[Slug, str] = Field(default_factory=dict)
    """Role -> in words, what a link in it tells that was made before the gate."""
    task_types: tuple[str, ...] = ()
    """A task of one of these types contradicts it that was closed incomplete."""
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]


class WaitsForSomething(Demand):
    """LI7: what a case waits for is linked and not over yet."""

    check: Literal["LI7"]
    when: str
    """Condition under which the case waits for it."""
    roles: Annotated[tuple[Slug, ...], Field(min_length=1)]
    via: tuple[Slug, ...] = ()
    over: Annotated[tuple[str, ...], Field(min_length=1)]
    """States of the other record in which there is nothing left to wait for."""
    limit: Limit
    """How long nobody need have noticed."""


class SameInBoth(Demand):
    """LI10: the records of one case in two systems agree, at the latest when the limit has passed."""

    check: Literal["LI10"]
    attributes: Annotated[tuple[Slug, ...], Field(min_length=1)] = ("state", "priority")
    alike: tuple[tuple[str, ...], ...] = ()
    """Values that count as one, as where one of the systems has no such state."""
    limit: Limit


class NotStale(Demand):
    """TI3: while there is work to do, no more than the limit passes without a save by a person."""

    check: Literal["TI3"]
    priority: str
    limit: Limit
    pause: str | None = None
    """Condition under which nobody has to do anything."""


class SubmittedInTime(Demand):
    """TI15: the case is submitted so long before the planned start of the work that the limit lies between."""

    check: Literal["TI15"]
    submitted: Slug
    """Activity with which it is submitted."""
    planned: Slug
    """Attribute with the planned start, as text of the source; as it stands when the work begins."""
    before: Slug
    """Activity with which the work begins."""
    limit: Limit

    def activities(self) -> tuple[str, ...]:
        return self.submitted, self.before


class ReviewedInTime(Demand):
    """TI11: the review is held within the limit: a task that is done, or a field that is filled."""

    check: Literal["TI11"]
    tasks: tuple[str, ...] = ()
    """Types of tasks."""
    fields: tuple[Slug, ...] = ()
    after: Slug
    """Activity with which the limit begins to run."""
    limit: Limit
    closing: tuple[Slug, ...] = ()
    """Activities with which the case is closed; that one was closed without any review is another requirement's."""

    def activities(self) -> tuple[str, ...]:
        return self.after, *self.closing


class Measured(Demand):
    """TI13: a service level of the tool measures the case, at the latest when the limit has passed."""

    check: Literal["TI13"]
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Activities of which the first to happen ends what is measured."""
    after: Slug | None = None
    """Activity with which the limit begins to run; without it, it does when the case is opened or given its priority.
    """
    limit: Limit
    pause: str | None = None
    """Condition under which the clock of the service level may stand still."""

    def activities(self) -> tuple[str, ...]:
        return self.gate if self.after is None else (*self.gate, self.after)


class ClosedByTimer(Demand):
    """TI12: a resolved case is closed by the documented timer, or earlier by a person."""

    check: Literal["TI12"]
    timer: timedelta
    """Around the clock; what is saved in a resolved case starts it anew."""
    margin: timedelta = timedelta(days=1)
    """How much earlier or later the timer may run out."""


class DatesInOrder(Demand):
    """TI14: instants that were written down lie in order, and none after the last save."""

    check: Literal["TI14"]
    order: Annotated[tuple[Slug, ...], Field(min_length=2)]
    """Attributes with instants, as they follow each other; one that is empty says nothing."""
    skew: timedelta = timedelta(minutes=5)
    """How far the clocks that wrote them may be apart."""


class NotAged(Demand):
    """TI4: the case stays in none of the states for longer than the limit."""

    check: Literal["TI4"]
    states: Annotated[tuple[str, ...], Field(min_length=1)]
    """Going from one of them to another is one stay."""
    limit: Limit
    until: Slug | None = None
    """Attribute with the instant until which the wait is planned, as text of the source; the time before does not
    count.
    """


class RecordedBeforeEnd(Demand):
    """TI7: the case is recorded before its work ends."""

    check: Literal["TI7"]
    ended: Slug
    """Attribute with the instant at which the work ended as somebody wrote it down, as text of the source."""


class PlanKept(Demand):
    """TI10: the work begins no earlier than planned, and takes not much longer."""

    check: Literal["TI10"]
    planned_start: Slug
    """Attribute with the planned start, as text of the source; as it stands when the work begins, like the other."""
    planned_end: Slug
    start: Slug
    """Activity with which the work begins."""
    over: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Activities of which the first to happen ends it."""
    overrun: Annotated[float, Field(ge=0)] = 0.25
    """Share of the planned time by which the planned end may be passed."""
    early: timedelta = timedelta(minutes=15)
    """How long before the planned start the work may begin."""

    def activities(self) -> tuple[str, ...]:
        return self.start, *self.over


class NotJudged(Demand):
    """A requirement that no check of this version can judge; it is listed with what is missing, never passed over."""

    check: Literal["none"]
    needs: str


Requirement = Annotated[
    StepDone
    | DocumentedTransitions
    | StepsInOrder
    | FewReturns
    | NotReopened
    | UntouchedAfterClose
    | FieldAtGate
    | PriorityByMatrix
    | RespondedInTime
    | ResolvedInTime
    | NoPingPong
    | NotSelfApproved
    | ApproverNotImplementer
    | StagesApproved
    | FieldsAtApproval
    | ApprovedBeforeStart
    | LinkedInTime
    | Reviewed
    | LinkedAtGate
    | TrackKept
    | ChildrenEnded
    | NotResolvedUnread
    | NotCancelledAfterWork
    | FewRejections
    | NoFlapping
    | PersonApproves
    | Owned
    | FilledInTime
    | ItemNamed
    | CloseAgrees
    | WaitsForSomething
    | SameInBoth
    | NotStale
    | SubmittedInTime
    | ReviewedInTime
    | Measured
    | ClosedByTimer
    | DatesInOrder
    | NotAged
    | RecordedBeforeEnd
    | PlanKept
    | NotJudged,
    Field(discriminator="check"),
]


class Procedure(Strict):
    """One version of a documented procedure."""

    document: str
    title: str
    version: str
    process: Slug
    valid_from: date
    """First day in force, from 00:00 UTC."""
    review_due: date
    owner: Slug
    approver: Slug
    clauses: tuple[str, ...]
    flow: Flow
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    course: Course = ()
    """The order of the steps, where they have one beyond that of the states. Steps that are not in it may come at any
    time.
    """
    short_cuts: tuple[ShortCut, ...] = ()
    requirements: Annotated[tuple[Requirement, ...], Field(min_length=1)]

    def step(self, step_id: str) -> Step:
        """The step of that id; raises ``KeyError``."""
        return {step.id: step for step in self.steps}[step_id]

    def called(self, activity: str) -> str:
        """The activity as people know it: by the step that shows in it, or else by its own name."""
        steps = (f"{step.id} {step.title}" for step in self.steps if step.activity == activity)
        return next(steps, activity.replace("_", " "))

    def approved_work(self) -> set[str]:
        """The activities that must not happen before an approval."""
        before = {r.before for r in self.requirements if isinstance(r, StagesApproved)}
        return before | {r.start for r in self.requirements if isinstance(r, ApprovedBeforeStart)}

    def stages(self) -> set[str]:
        """The states in which approvals are asked."""
        staged = (StagesApproved, FieldsAtApproval, ApprovedBeforeStart, PersonApproves)
        return {stage for r in self.requirements if isinstance(r, staged) for stage in r.stages}

    def attributes(self) -> dict[str, Type]:
        """The attributes that requirements name outside of conditions, with the type that checks read."""
        return {name: type_ for r in self.requirements for name, type_ in _attributes_of(r)}

    def activities(self) -> set[str]:
        """The activities that requirements name, in conditions, too."""
        named = {name for requirement in self.requirements for name in _activities_of(requirement)}
        steps = {self.step(r.step).activity for r in self.requirements if isinstance(r, StepDone)}
        return named | steps | set(self.in_course()) | self.activities_in_conditions()

    def in_course(self) -> tuple[str, ...]:
        """The activities of the steps whose order the course tells, in the order in which it names them."""
        return tuple(dict.fromkeys(self.step(id_).activity for id_ in steps_in(self.course)))

    def activities_in_conditions(self) -> set[str]:
        """The activities of which conditions ask whether they happened."""
        return {name for text, _ in self._conditions() for name in activities_in(text)}

    def requirement_conditions(self) -> list[str]:
        """The conditions of requirements over the attributes as they stand."""
        return [text for text, place in self._conditions() if place[0] == "requirements"]

    def problems(self) -> list[Fault]:
        """Everything that is wrong inside the document beyond its shape."""
        from itsms_sync.procedures.lint import contradictions  # which knows the shapes of this module

        return [*self._flow_problems(), *self._requirement_problems(), *contradictions(self)]

    def _flow_problems(self) -> Iterator[Fault]:
        states = {self.flow.initial, *self.flow.edges}
        for source, targets in self.flow.edges.items():
            for target in targets:
                if target not in states and target not in self.flow.final:
                    yield Fault(
                        ("flow", "edges", source), f"state {target!r} can be entered but never left, and is not final"
                    )
        steps = {step.id for step in self.steps}
        for index, cut in enumerate(self.short_cuts):
            for skipped in cut.skips:
                if skipped not in steps:
                    yield Fault(("short_cuts", index, "skips"), f"step {skipped!r} is not documented under steps")

    def _requirement_problems(self) -> Iterator[Fault]:
        steps = {step.id for step in self.steps}
        seen: set[str] = set()
        for index, requirement in enumerate(self.requirements):
            place = ("requirements", index)
            if requirement.id in seen:
                yield Fault((*place, "id"), f"requirement {requirement.id!r} stands here twice")
            seen.add(requirement.id)
            if isinstance(requirement, StepDone) and requirement.step not in steps:
                yield Fault((*place, "step"), f"step {requirement.step!r} is not documented under steps")
            for key, states in _states_of(requirement):
                for state in sorted(set(states) - self.flow.states()):
                    yield Fault((*place, key), f"state {state!r} is not documented under flow")
            for message in _lacks_of(requirement):
                yield Fault(place, message)

    def problems_with(self, types: dict[str, Type], activities: set[str]) -> list[Fault]:
        """What does not fit the mappings of the process, whose attributes and activities these are: conditions over
        unknown attributes, activities that nothing can produce.
        """
        return [
            *self._condition_problems({**types, **dict.fromkeys((DID + name for name in activities), Type.BOOLEAN)}),
            *self._activity_problems(activities),
            *self._attribute_problems(types),
        ]

    def _conditions(self) -> Iterator[tuple[str, Place]]:
        """The conditions that may ask what was done, each with its place."""
        for index, cut in enumerate(self.short_cuts):
            yield cut.when, ("short_cuts", index, "when")
        for index, requirement in enumerate(self.requirements):
            if requirement.applies is not None:
                yield requirement.applies, ("requirements", index, "applies")
            if isinstance(requirement, TrackKept):
                for name, track in requirement.tracks.items():
                    yield track.when, ("requirements", index, "tracks", name, "when")
            if isinstance(requirement, CloseAgrees):
                for name, condition in requirement.against.items():
                    yield condition, ("requirements", index, "against", name)

    def _condition_problems(self, types: dict[str, Type]) -> Iterator[Fault]:
        for text, place in self._conditions():
            yield from condition_problems(text, types, place)
        lasting = {name: type_ for name, type_ in types.items() if not name.startswith(DID)}
        for index, requirement in enumerate(self.requirements):
            if isinstance(requirement, ResolvedInTime | NotStale | Measured) and requirement.pause is not None:
                yield from condition_problems(requirement.pause, lasting, ("requirements", index, "pause"))
            if isinstance(requirement, WaitsForSomething):
                yield from condition_problems(requirement.when, lasting, ("requirements", index, "when"))

    def _attribute_problems(self, types: dict[str, Type]) -> Iterator[Fault]:
        for index, requirement in enumerate(self.requirements):
            for name, _ in _attributes_of(requirement):
                if name not in types:
                    yield Fault(("requirements", index), f"no mapping has the attribute {name!r}")

    def _activity_problems(self, activities: set[str]) -> Iterator[Fault]:
        for index, step in enumerate(self.steps):
            if step.mandatory and step.activity not in activities:
                yield Fault(("steps", index, "activity"), f"no mapping produces the activity {step.activity!r}")
        for index, requirement in enumerate(self.requirements):
            for name in _activities_of(requirement):
                if name not in activities:
                    yield Fault(("requirements", index), f"no mapping produces the activity {name!r}")


def steps_in(course: Course) -> Iterator[str]:
    """The ids of all steps in a course."""
    for part in course:
        match part:
            case Choice():
                yield from (id_ for way in part.choice for id_ in steps_in(way))
            case Repeat():
                yield from steps_in(part.repeat)
            case Parallel():
                yield from (id_ for branch in part.branches for id_ in steps_in(branch))
            case _:
                yield part


def limits_of(requirement: Demand) -> Iterator[tuple[Place, Limit]]:
    """The time limits of a requirement, each with its place."""
    match requirement:
        case (
            RespondedInTime()
            | ResolvedInTime()
            | LinkedInTime()
            | NotStale()
            | SubmittedInTime()
            | ReviewedInTime()
            | NotAged()
            | Measured()
        ):
            yield ("limit",), requirement.limit


def activities_in(condition: str) -> set[str]:
    """The activities of which a condition asks whether they happened."""
    return set(_DID.findall(condition))


def _attributes_of(requirement: Demand) -> tuple[tuple[str, Type], ...]:
    match requirement:
        case NotReopened(counter=str(counter)):
            return ((counter, Type.NUMBER),)
        case ApprovedBeforeStart(started=str(started)):
            return ((started, Type.INSTANT),)
        case DatesInOrder():
            return tuple((name, Type.INSTANT) for name in requirement.order)
        case _:
            return tuple((name, Type.TEXT) for name in _texts_of(requirement))


def _texts_of(requirement: Demand) -> Iterable[str]:
    match requirement:
        case FieldAtGate() | FilledInTime() | ItemNamed():
            return (requirement.field,)
        case PriorityByMatrix():
            return ("impact", "urgency", "priority")
        case RespondedInTime() | ResolvedInTime() | NotStale():
            return ("priority",)
        case NoPingPong() | Owned():
            return (requirement.attribute,)
        case SameInBoth():
            return requirement.attributes
        case NotSelfApproved():
            return requirement.requesters
        case ApproverNotImplementer():
            return requirement.implementers
        case FieldsAtApproval() | Reviewed() | ReviewedInTime() | UntouchedAfterClose():
            return requirement.fields
        case NotResolvedUnread():
            return requirement.notes
        case TrackKept():
            fixed = () if requirement.fixed is None else (requirement.fixed,)
            return (*fixed, *(name for track in requirement.tracks.values() for name in track.fields))
        case _:
            return _dates_of(requirement)


def _dates_of(requirement: Demand) -> Iterable[str]:
    """Instants that are read as texts of the source, where an empty one is told apart from one that is not known."""
    match requirement:
        case SubmittedInTime():
            return (requirement.planned,)
        case RecordedBeforeEnd():
            return (requirement.ended,)
        case PlanKept():
            return (requirement.planned_start, requirement.planned_end)
        case NotAged(until=str(until)):
            return (until,)
        case _:
            return ()


def _activities_of(requirement: Demand) -> tuple[str, ...]:
    match requirement:
        case (
            StepDone()
            | FieldAtGate()
            | FilledInTime()
            | ItemNamed()
            | CloseAgrees()
            | Reviewed()
            | LinkedAtGate()
            | ChildrenEnded()
        ):
            return requirement.gate
        case NotResolvedUnread():
            return (*requirement.gate, requirement.work)
        case NotCancelledAfterWork():
            return (requirement.cancel,)
        case RespondedInTime():
            return (requirement.response,)
        case StagesApproved():
            return (requirement.before,)
        case ApprovedBeforeStart():
            return (requirement.start,)
        case LinkedInTime():
            return (requirement.after,)
        case TrackKept():
            return (requirement.before, *requirement.steps())
        case SubmittedInTime() | PlanKept() | ReviewedInTime() | Measured():
            return requirement.activities()
        case _:
            return ()


def _states_of(requirement: Demand) -> Iterator[tuple[str, Iterable[str]]]:
    match requirement:
        case StagesApproved() | FieldsAtApproval() | ApprovedBeforeStart() | PersonApproves():
            yield "stages", requirement.stages
        case UntouchedAfterClose():
            yield "states", requirement.states
        case FewReturns():
            yield "phases", requirement.phases
        case NotCancelledAfterWork():
            yield "work", requirement.work
        case ApproverNotImplementer():
            yield "during", requirement.during
        case Owned() | NotAged():
            yield "states", requirement.states


def _lacks_of(requirement: Demand) -> Iterator[str]:
    """What is wrong among the keys of one requirement."""
    match requirement:
        case FewReturns() if len(set(requirement.phases)) < len(requirement.phases):
            yield "phases are in order: each stands there once"
        case ChildrenEnded(tasks=(), roles=()):
            yield "what belongs to a case are tasks or linked cases (roles): name at least one"
        case Reviewed(tasks=(), fields=()) | ReviewedInTime(tasks=(), fields=()):
            yield "a review shows in tasks or in fields: name at least one"
        case ClosedByTimer() if requirement.timer <= requirement.margin:
            yield "a case may be closed at once: the margin is as long as the timer; give it a shorter one"
        case CloseAgrees(task_types=()) if not requirement.against and not requirement.roles:
            yield "what contradicts a close shows in conditions (against), in links or in tasks: name at least one"
        case ApproverNotImplementer(task_types=(), implementers=()):
            yield "who implements shows in attributes (implementers) or in tasks (task_types): name at least one"
        case ApproverNotImplementer() if bool(requirement.implementers) != bool(requirement.during):
            yield "implementers are looked at during states of the case: name both or none"
