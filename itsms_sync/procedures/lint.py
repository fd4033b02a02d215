"""What is wrong in a procedure although each of its sentences is right: what contradicts itself or can never happen.

A state that no case can enter and a requirement that no case can break look like control and are none.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import timedelta

from itsms_sync.procedures.course import course_net
from itsms_sync.procedures.flow import FlowError, compiled
from itsms_sync.procedures.model import (
    AROUND_THE_CLOCK,
    Demand,
    Flow,
    NotStale,
    PriorityByMatrix,
    Procedure,
    Requirement,
    ResolvedInTime,
    RespondedInTime,
    StepDone,
    StepsInOrder,
    TrackKept,
    limits_of,
    steps_in,
)
from itsms_sync.sms.calendars import Calendar
from itsms_sync.sms.strict import Fault


def contradictions(procedure: Procedure) -> Iterator[Fault]:
    """What is wrong whatever the mappings say."""
    yield from _flow(procedure)
    yield from _course(procedure)
    yield from _requirements(procedure)


def _flow(procedure: Procedure) -> Iterator[Fault]:
    flow = procedure.flow
    follows = _edges(procedure)
    entered = _reached(follows, [flow.initial])
    before: dict[str, set[str]] = {}
    for source, targets in follows.items():
        for target in targets:
            before.setdefault(target, set()).add(source)
    ending = _reached(before, flow.final)
    for state in sorted(flow.states() - entered):
        yield Fault(_place(flow, state), f"no case can come to {state!r}: nothing leads there from {flow.initial!r}")
    for state in sorted(entered - ending):
        yield Fault(_place(flow, state), f"a case in {state!r} can never end: no way leads to {_either(flow.final)}")


def _course(procedure: Procedure) -> Iterator[Fault]:
    """Steps that are not documented, and a course that cannot be followed."""
    known = {step.id for step in procedure.steps}
    unknown = sorted(set(steps_in(procedure.course)) - known)
    for id_ in unknown:
        yield Fault(("course",), f"step {id_!r} is not documented under steps")
    if procedure.course and not unknown:
        try:
            compiled(course_net(procedure))
        except FlowError as error:
            yield Fault(("course",), str(error))
    for index, requirement in enumerate(procedure.requirements):
        if isinstance(requirement, StepsInOrder) and not procedure.course:
            yield Fault(("requirements", index), "it asks for the order of the steps: write that down under course")


def _edges(procedure: Procedure) -> dict[str, set[str]]:
    """All transitions, short cuts included."""
    follows = {source: set(targets) for source, targets in procedure.flow.edges.items()}
    for cut in procedure.short_cuts:
        for edge in cut.allows:
            follows.setdefault(edge.source, set()).add(edge.target)
    return follows


def _reached(follows: Mapping[str, Set[str]], start: Iterable[str]) -> set[str]:
    seen, ahead = set(start), list(start)
    while ahead:
        for state in follows.get(ahead.pop(), set()) - seen:
            seen.add(state)
            ahead.append(state)
    return seen


def _place(flow: Flow, state: str) -> tuple[str, ...]:
    if state in flow.edges:
        return ("flow", "edges", state)
    return ("flow", "final") if state in flow.final else ("flow", "resolved") if state in flow.resolved else ("flow",)


def _either(states: Iterable[str]) -> str:
    return " or ".join(repr(state) for state in states)


def _requirements(procedure: Procedure) -> Iterator[Fault]:
    numbered = list(enumerate(procedure.requirements))
    for index, requirement in numbered:
        for message in _never_broken(procedure, requirement):
            yield Fault(("requirements", index), message)
        for place, limit in limits_of(requirement):
            if limit.time <= timedelta(0):
                told = "nobody can keep this limit: it is no time at all; write one such as PT4H or P2D"
                yield Fault(("requirements", index, *place, "time"), told)
    first_of: dict[tuple[str, str, str | None], Requirement] = {}
    for index, requirement in numbered:
        key = _told_once(requirement)
        first = requirement if key is None else first_of.setdefault(key, requirement)
        if _demanded(first) != _demanded(requirement):
            yield Fault(
                ("requirements", index),
                f"{requirement.id} contradicts {first.id}: both say {_subject(requirement)}, and not the same",
            )


def _never_broken(procedure: Procedure, requirement: Demand) -> Iterator[str]:
    """Why no case can break the requirement, or none can fulfil it."""
    match requirement:
        case StepDone():
            if requirement.gate == tuple(s.activity for s in procedure.steps if s.id == requirement.step):
                yield "it is always fulfilled: the step is its own gate"
        case TrackKept():
            for name, track in requirement.tracks.items():
                for both in sorted({*track.needs} & {*track.forbids}):
                    yield f"no case can keep to track {name!r}: it needs {both!r} and forbids it"


def _told_once(requirement: Demand) -> tuple[str, str, str | None] | None:
    """What can be demanded in one way only."""
    match requirement:
        case RespondedInTime() | ResolvedInTime() | NotStale():
            return requirement.check, requirement.priority, requirement.applies
        case PriorityByMatrix():
            return requirement.check, "", requirement.applies
        case _:
            return None


def _demanded(requirement: Demand) -> object:
    match requirement:
        case RespondedInTime():
            return requirement.response, requirement.limit
        case ResolvedInTime() | NotStale():
            return requirement.limit, requirement.pause
        case PriorityByMatrix():
            return requirement.matrix
        case _:
            return None


def _subject(requirement: Requirement) -> str:
    match requirement:
        case RespondedInTime():
            return f"within what time a case of priority {requirement.priority!r} is answered"
        case ResolvedInTime():
            return f"within what time a case of priority {requirement.priority!r} is resolved"
        case NotStale():
            return f"for how long nobody may look after a case of priority {requirement.priority!r}"
        case _:
            return "which priority follows from impact and urgency"


def never_applicable(procedure: Procedure, values: Mapping[str, Set[str]]) -> Iterator[Fault]:
    """Requirements that no case meets. ``values``: attribute -> all that the mappings can make of it, where they list
    that.
    """
    known = values.get("priority")
    for index, requirement in enumerate(procedure.requirements):
        match requirement:
            case RespondedInTime() | ResolvedInTime() | NotStale() if (
                known is not None and requirement.priority not in known
            ):
                told = f"it applies to no case: no mapping makes a priority {requirement.priority!r}"
                yield Fault(("requirements", index, "priority"), f"{told}, only {', '.join(sorted(known))}")


def beyond_calendars(procedure: Procedure, calendars: Mapping[str, Calendar]) -> Iterator[Fault]:
    """Limits that no calendar can meet: on one that is not described, or longer than a year of theirs."""
    for index, requirement in enumerate(procedure.requirements):
        for where, limit in limits_of(requirement):
            place = ("requirements", index, *where, "clock")
            calendar = calendars.get(limit.clock)
            if limit.clock == AROUND_THE_CLOCK:
                continue
            if calendar is None:
                known = ", ".join(sorted(calendars)) or "none"
                told = f"there is no calendar {limit.clock!r} in calendars.yaml; there are: {known}"
                yield Fault(place, f"{told}. Name one of these, or describe it there")
            elif calendar.length(limit.time) > 52 * calendar.week():
                told = f"no case can pass this limit within a year of the calendar {limit.clock!r}"
                yield Fault(place, f"{told}: shorten the limit, or give the calendar more hours or a shorter `day`")
