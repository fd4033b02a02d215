"""The shape of a documented procedure, and what is wrong with one beyond its shape.

A requirement's id survives versions: nonconformities are identified by it. What a requirement means for a case is in
``conformance``; this module only says what the document demands.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from itsms_sync.sms.conditions import Type
from itsms_sync.sms.mapping import condition_problems
from itsms_sync.sms.processes import Slug
from itsms_sync.sms.strict import Fault, Strict

RequirementId = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$", max_length=50)]


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


class Limit(Strict):
    """A time limit on a clock. Only the clock ``24x7`` can be judged so far; others are ``unknown: calendar``."""

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


class StepDone(Demand):
    """CF1: the step has happened when the gate is reached."""

    check: Literal["CF1"]
    step: str
    gate: Annotated[tuple[Slug, ...], Field(min_length=1)]
    """Activities of which the first to happen closes the gate."""


class DocumentedTransitions(Demand):
    """CF2: the case moves only along documented transitions."""

    check: Literal["CF2"]


class NotReopened(Demand):
    """CF5: a resolved or closed case does not come back."""

    check: Literal["CF5"]
    counter: Slug | None = None
    """Attribute with the tool's own counter of reopenings: a second witness where history has gaps."""


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


class NotJudged(Demand):
    """A requirement that no check of this version can judge; it is listed with what is missing, never passed over."""

    check: Literal["none"]
    needs: str


Requirement = Annotated[
    StepDone
    | DocumentedTransitions
    | NotReopened
    | FieldAtGate
    | PriorityByMatrix
    | RespondedInTime
    | ResolvedInTime
    | NoPingPong
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
    short_cuts: tuple[ShortCut, ...] = ()
    requirements: Annotated[tuple[Requirement, ...], Field(min_length=1)]

    def step(self, step_id: str) -> Step:
        """The step of that id; raises ``KeyError``."""
        return {step.id: step for step in self.steps}[step_id]

    def problems(self) -> list[Fault]:
        """Everything that is wrong inside the document beyond its shape."""
        return [*self._flow_problems(), *self._requirement_problems()]

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
            if requirement.id in seen:
                yield Fault(("requirements", index, "id"), f"requirement {requirement.id!r} stands here twice")
            seen.add(requirement.id)
            if isinstance(requirement, StepDone) and requirement.step not in steps:
                yield Fault(("requirements", index, "step"), f"step {requirement.step!r} is not documented under steps")

    def problems_with(self, types: dict[str, Type], activities: set[str]) -> list[Fault]:
        """What does not fit a mapping: conditions over unknown attributes, activities that nothing can produce."""
        return [
            *self._condition_problems(types),
            *self._activity_problems(activities),
            *self._attribute_problems(types),
        ]

    def _condition_problems(self, types: dict[str, Type]) -> Iterator[Fault]:
        for index, cut in enumerate(self.short_cuts):
            yield from condition_problems(cut.when, types, ("short_cuts", index, "when"))
        for index, requirement in enumerate(self.requirements):
            if isinstance(requirement, ResolvedInTime) and requirement.pause is not None:
                yield from condition_problems(requirement.pause, types, ("requirements", index, "pause"))

    def _attribute_problems(self, types: dict[str, Type]) -> Iterator[Fault]:
        for index, requirement in enumerate(self.requirements):
            for name in _attributes_of(requirement):
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


def _attributes_of(requirement: Demand) -> tuple[str, ...]:
    match requirement:
        case NotReopened(counter=str(counter)):
            return (counter,)
        case FieldAtGate():
            return (requirement.field,)
        case PriorityByMatrix():
            return ("impact", "urgency", "priority")
        case RespondedInTime() | ResolvedInTime():
            return ("priority",)
        case NoPingPong():
            return (requirement.attribute,)
        case _:
            return ()


def _activities_of(requirement: Demand) -> tuple[str, ...]:
    match requirement:
        case StepDone() | FieldAtGate():
            return requirement.gate
        case RespondedInTime():
            return (requirement.response,)
        case _:
            return ()
