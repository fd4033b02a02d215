"""The histories of ``tests/cases``: stories that a process owner can write, with the verdicts that they must get.

Owns the reading of the stories (see ``cases/README.md``); what they show is in the files.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from itsms_sync.conformance.history import NO_CALENDARS
from itsms_sync.conformance.kernel import judge
from itsms_sync.documents import load
from itsms_sync.procedures.model import Procedure, ResolvedInTime, RespondedInTime, StagesApproved
from itsms_sync.sms.calendars import Calendars, Clocks
from itsms_sync.sms.cases import (
    APPROVALS,
    EVENTS,
    ITEMS,
    LINKS,
    PAIRS,
    RECORDS,
    SLAS,
    TASKS,
    Basis,
    CaseLog,
    from_history,
)
from itsms_sync.sms.conditions import Type
from itsms_sync.sms.mapping import Mapping, ProcessMapping

HERE = Path(__file__).parent
MAPPINGS = HERE.parent / "mappings"
TIMER = "timer"
"""The account of the stories that is no person."""
USUAL: dict[str, dict[str, str | None]] = {
    "incident": {
        "state": "new",
        "hold_reason": "",
        "impact": "2",
        "urgency": "2",
        "priority": "3",
        "category": "hardware",
        "group": "",
        "assignee": "",
        "contact_type": "email",
        "reassignments": "0",
        "reopens": None,
        "close_code": "",
        "close_notes": "",
        "follow_up": "",
        "resolved_at": "",
        "closed_at": "",
        "major_state": "",
    },
    "change": {
        "state": "new",
        "track": "normal",
        "unauthorised_flag": "false",
        "template": "",
        "risk": "3",
        "item": "switch",
        "planned_start": "2026-03-05 08:00:00",
        "planned_end": "2026-03-05 10:00:00",
        "work_start": "",
        "work_end": "",
        "implementation_plan": "written",
        "backout_plan": "written",
        "test_plan": "written",
        "close_code": "",
        "close_notes": "",
        "review_comments": "",
        "requested_by": "rita",
        "opened_by": "rita",
        "assignee": "",
    },
    "problem": {
        "state": "new",
        "impact": "2",
        "urgency": "2",
        "priority": "3",
        "category": "hardware",
        "resolution": "",
        "cause_notes": "",
        "fix_notes": "",
    },
    "service_request": {
        "state": "new",
        "approval": "not requested",
        "requested_for": "rita",
        "opened_by": "rita",
        "close_notes": "",
    },
}
"""Attributes as they are created, where a story does not say otherwise."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Save(BaseModel):
    """Beside these keys, each key is an attribute and its new value (``None``: not known)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    at: datetime
    by: str | None
    trace: bool = True

    def changes(self) -> dict[str, str | None]:
        return dict(self.model_extra or {})


class Expectation(Strict):
    status: str
    reason: str | None = None
    at: datetime | None = None
    recheck_at: datetime | None = None
    detail: str | None = None


class Version(Strict):
    valid_from: date
    edges: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    limits: dict[str, timedelta] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()


class Approval(Strict):
    """``decided`` stays out while it is asked; ``not_exact``: by then at the latest; ``by``: who wrote the answer, if
    that is not the approver.
    """

    approver: str | None = None
    state: str | None = "approved"
    asked: datetime
    decided: datetime | None = None
    not_exact: bool = False
    by: str | None = None
    stage: str | None = None

    def row(self, number: int, now: datetime) -> dict[str, Any]:
        decided = self.decided is not None and self.decided <= now
        answered = self.decided is None or decided
        actor = self.by or self.approver
        return {
            "case": 0,
            "id": str(number),
            "approver": self.approver,
            "state": self.state if answered else "requested",
            "asked_at": millis(self.asked),
            "decided_at": millis(self.decided) if self.decided is not None and decided else None,
            "exact": not self.not_exact,
            "actor": actor if decided else None,
            "human": actor != TIMER if decided and actor is not None else None,
            "stage": self.stage,
        }


class Ending(Strict):
    """What may end, or vanish from the source as it stands (``gone``)."""

    ended: datetime | None = None
    gone: bool = False

    def as_of(self, now: datetime) -> tuple[bool, int | None]:
        """Whether the end, if there is one, lies before ``now``, and that end (ms)."""
        over = self.ended is None or self.ended <= now
        return over, millis(self.ended) if self.ended is not None and over else None


class Task(Ending):
    """``by``: who brought it into its state."""

    type: str | None
    state: str | None = "open"
    opened: datetime
    not_exact: bool = False
    workers: tuple[str, ...] = ()
    by: str | None = None

    def row(self, number: int, now: datetime) -> dict[str, Any]:
        over, ended_at = self.as_of(now)
        return {
            "case": 0,
            "id": str(number),
            "type": self.type,
            "state": self.state if over else "work",
            "opened_at": millis(self.opened),
            "ended_at": ended_at,
            "exact": not self.not_exact,
            "workers": list(self.workers),
            "human": self.by != TIMER if over and self.by is not None else None,
            "gone": self.gone,
        }


class Link(Strict):
    role: str
    via: str | None = None
    process: str | None = None
    state: str | None = None
    at: datetime | None = None
    state_since: datetime | None = None

    def row(self, number: int, now: datetime) -> dict[str, Any]:
        del now
        times = {name: None if (at := getattr(self, name)) is None else millis(at) for name in ("at", "state_since")}
        return {"case": 0, "other": str(number), **self.model_dump(), **times}


class Item(Strict):
    at: datetime

    def row(self, number: int, now: datetime) -> dict[str, Any]:
        del now
        return {"case": 0, "id": str(number), "at": millis(self.at)}


class Level(Ending):
    """A service level, attached ``at`` and ended as ``stage`` says; ``idle``: it stood still all the time."""

    stage: str | None = "completed"
    at: datetime
    idle: bool | None = None

    def row(self, number: int, now: datetime) -> dict[str, Any]:
        over, ended_at = self.as_of(now)
        return {
            "case": 0,
            "id": str(number),
            "stage": self.stage if over else "running",
            "at": millis(self.at),
            "ended_at": ended_at,
            "idle": self.idle,
            "gone": self.gone,
        }


class Counterpart(Strict):
    """One attribute of the record that follows in the other system; ``read_until``: both were read by then."""

    attribute: str
    value: str | None
    since: datetime
    read_until: datetime | None = None

    def row(self, number: int, now: datetime) -> dict[str, Any]:
        until = self.read_until or now
        of_pair = {"case": 0, "other": str(number), "attribute": self.attribute, "value": self.value}
        return {**of_pair, "since": millis(self.since), "read_until": millis(until)}


Part = Approval | Task | Link | Item | Level | Counterpart


class Story(Strict):
    case: str
    process: str = "incident"
    system: str = "servicenow"
    now: datetime
    created: datetime
    opened: datetime | None = None
    attributes: dict[str, str | None] = Field(default_factory=dict)
    saves: tuple[Save, ...]
    without_history: frozenset[str] = frozenset()
    without_order: bool = False
    without_calendars: bool = False
    versions: tuple[Version, ...] = ()
    approvals: tuple[Approval, ...] = ()
    tasks: tuple[Task, ...] = ()
    links: tuple[Link, ...] = ()
    items: tuple[Item, ...] = ()
    levels: tuple[Level, ...] = ()
    pair: tuple[Counterpart, ...] = ()
    unread: dict[str, str] = Field(default_factory=dict)
    expect: dict[str, Expectation | str | None]

    @model_validator(mode="after")
    def only_what_exists(self) -> "Story":
        named = {*self.attributes, *self.without_history, *(name for save in self.saves for name in save.changes())}
        if unknown := named - set(USUAL[self.process]):
            raise ValueError(f"there is no attribute {', '.join(sorted(unknown))}")
        if unknown := set(self.expect) - {requirement.id for requirement in procedure(self.process).requirements}:
            raise ValueError(f"there is no requirement {', '.join(sorted(unknown))}")
        return self


class Stories(Strict):
    cases: tuple[Story, ...]


@cache
def procedure(process: str = "incident") -> Procedure:
    return load(MAPPINGS / "procedures" / f"{process}.yaml", Procedure)


@cache
def mapping(process: str = "incident", system: str = "servicenow") -> ProcessMapping:
    return load(MAPPINGS / f"{system}.yaml", Mapping).processes[process]


@cache
def clocks() -> Clocks:
    return Clocks(load(MAPPINGS / "calendars.yaml", Calendars).calendars)


def types(process: str) -> dict[str, Type]:
    """What a judgement knows: the attributes of both systems."""
    return {**mapping(process, "jira").types(), **mapping(process).types()}


def millis(at: datetime) -> int:
    return int(at.replace(tzinfo=UTC).timestamp() * 1000)


def source_field(of: ProcessMapping, name: str) -> str:
    field = of.attributes[name].field
    assert field is not None
    return field


def raw(of: ProcessMapping, name: str, value: str | None) -> str | None:
    """The source's raw value for a word of the SMS; what is no such word is taken as a raw value."""
    words = of.attributes[name].values or {}
    return {word: text for text, word in words.items()}.get(value or "", value)


def versions(story: Story) -> list[Procedure]:
    return [amended(procedure(story.process), version) for version in story.versions] or [procedure(story.process)]


def amended(document: Procedure, version: Version) -> Procedure:
    requirements = tuple(
        requirement.model_copy(update={"limit": requirement.limit.model_copy(update={"time": time})})
        if (time := version.limits.get(requirement.id)) and isinstance(requirement, RespondedInTime | ResolvedInTime)
        else requirement
        for requirement in document.requirements
        if requirement.id not in version.drop
    )
    return document.model_copy(
        update={
            "valid_from": version.valid_from,
            "flow": document.flow.model_copy(update={"edges": {**document.flow.edges, **version.edges}}),
            "requirements": requirements,
        }
    )


def frames(story: Story, of: ProcessMapping) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Records and events as a source would have delivered them at the story's end."""
    usual = {name: value for name, value in USUAL[story.process].items() if name in of.attributes}
    values = {name: raw(of, name, value) for name, value in {**usual, **story.attributes}.items()}
    events = []
    for number, save in enumerate(story.saves, start=1):
        for name, value in save.changes().items():
            old, values[name] = values[name], raw(of, name, value)
            if save.trace:
                order = None if story.without_order else number
                events.append((0, order, millis(save.at), source_field(of, name), old, values[name], save.by))
    last = max([story.created, *(save.at for save in story.saves)])
    record = {
        "case": 0,
        "_created": millis(story.created),
        "_updated": millis(last),
        "_version": len(story.saves),
        source_field(of, "opened"): (story.opened or story.created).strftime("%Y-%m-%d %H:%M:%S"),
        **{source_field(of, name): value for name, value in values.items()},
    }
    schema = {name: RECORDS.get(name, pl.String) for name in record}
    return pl.DataFrame([record], schema=schema), pl.DataFrame(events, schema=EVENTS, orient="row")


def with_parts(log: CaseLog, story: Story, of: ProcessMapping) -> CaseLog:
    """The log with the story's approvals, tasks, links, items and service levels that were there at its end."""

    def rows(parts: Iterable[Part], since: str, schema: Any) -> pl.DataFrame:
        seen = [part for part in parts if (at := getattr(part, since)) is None or at <= story.now]
        return pl.DataFrame([part.row(number, story.now) for number, part in enumerate(seen)], schema=schema)

    return replace(
        log,
        approvals=rows(story.approvals, "asked", APPROVALS).sort("asked_at"),
        tasks=rows(story.tasks, "opened", TASKS),
        links=rows(story.links, "at", LINKS),
        items=rows(story.items, "at", ITEMS),
        slas=rows(story.levels, "at", SLAS),
        pairs=rows(story.pair, "since", PAIRS),
        unread=story.unread,
        initial=of.initial,
    )


def verdicts(story: Story) -> dict[str, dict[str, Any]]:
    of = mapping(story.process, story.system)
    audited = of.audited_fields() - {source_field(of, name) for name in story.without_history}
    basis = Basis(of, millis(story.now), audited, frozenset({TIMER}))
    log = with_parts(from_history(*frames(story, of), basis), story, of)
    kept = NO_CALENDARS if story.without_calendars else clocks()
    told = [_of_the_story(document, story) for document in versions(story)]
    found = judge(log, told, types(story.process), basis.now, kept).to_dicts()
    assert len({row["requirement"] for row in found}) == len(found), "one verdict for each requirement"
    return {row["requirement"]: row for row in found}


def _of_the_story(document: Procedure, story: Story) -> Procedure:
    """What it demands of which the story says something, and its quorums, by which others are judged."""
    said = tuple(r for r in document.requirements if r.id in story.expect or isinstance(r, StagesApproved))
    return document.model_copy(update={"requirements": said})


def expected(expectation: Expectation | str | None) -> dict[str, Any] | None:
    if expectation is None:
        return None
    if isinstance(expectation, str):
        return {"status": expectation}
    said = {name: getattr(expectation, name) for name in expectation.model_fields_set}
    return {name: millis(value) if isinstance(value, datetime) else value for name, value in said.items()}


@cache
def stories() -> tuple[Any, ...]:
    return tuple(_read())


def _read() -> Iterator[Any]:
    for path in sorted((HERE / "cases").glob("*.yaml")):
        for story in load(path, Stories).cases:
            yield pytest.param(story, id=f"{path.stem}: {story.case}")


@pytest.mark.parametrize("story", stories())
def test_story(story: Story) -> None:
    found = verdicts(story)
    wanted = {name: expected(expectation) for name, expectation in story.expect.items()}
    compared = {
        name: None if name not in found else {key: found[name][key] for key in want or found[name]}
        for name, want in wanted.items()
    }
    assert wanted == compared


def test_every_check_has_stories_of_each_kind() -> None:
    checks = {r.id: r.check for process in USUAL for r in procedure(process).requirements}
    told: dict[str, set[str]] = {}
    for parameter in stories():
        for name, expectation in parameter.values[0].expect.items():
            want = expected(expectation)
            told.setdefault(checks[name], set()).add(want["status"] if want else "none")
    wanted = {"conforming", "deviating", "unknown"}
    judged = {check for check in checks.values() if check != "none"}
    assert dict.fromkeys(judged, wanted) == {check: told.get(check, set()) & wanted for check in judged}
