"""The histories of ``tests/cases``: stories that a process owner can write, with the verdicts that they must get.

Owns the reading of the stories (see ``cases/README.md``); what they show is in the files.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from itsms_sync.conformance.kernel import judge
from itsms_sync.documents import load
from itsms_sync.procedures.model import Procedure, ResolvedInTime, RespondedInTime
from itsms_sync.sms.cases import EVENTS, RECORDS, Basis, from_history
from itsms_sync.sms.mapping import Mapping, ProcessMapping

HERE = Path(__file__).parent
MAPPINGS = HERE.parent / "mappings"
USUAL = {
    "state": "new",
    "hold_reason": "",
    "impact": "2",
    "urgency": "2",
    "priority": "3",
    "category": "hardware",
    "group": "",
    "contact_type": "email",
    "reassignments": "0",
    "reopens": None,
    "close_code": "",
    "close_notes": "",
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


class Story(Strict):
    case: str
    now: datetime
    created: datetime
    opened: datetime | None = None
    attributes: dict[str, str | None] = Field(default_factory=dict)
    saves: tuple[Save, ...]
    without_history: frozenset[str] = frozenset()
    without_order: bool = False
    versions: tuple[Version, ...] = ()
    expect: dict[str, Expectation | str | None]

    @model_validator(mode="after")
    def only_what_exists(self) -> "Story":
        named = {*self.attributes, *self.without_history, *(name for save in self.saves for name in save.changes())}
        if unknown := named - set(USUAL):
            raise ValueError(f"there is no attribute {', '.join(sorted(unknown))}")
        if unknown := set(self.expect) - {requirement.id for requirement in procedure().requirements}:
            raise ValueError(f"there is no requirement {', '.join(sorted(unknown))}")
        return self


class Stories(Strict):
    cases: tuple[Story, ...]


@cache
def procedure() -> Procedure:
    return load(MAPPINGS / "procedures" / "incident.yaml", Procedure)


@cache
def mapping() -> ProcessMapping:
    return load(MAPPINGS / "servicenow.yaml", Mapping).processes["incident"]


def millis(at: datetime) -> int:
    return int(at.replace(tzinfo=UTC).timestamp() * 1000)


def source_field(name: str) -> str:
    field = mapping().attributes[name].field
    assert field is not None
    return field


def raw(name: str, value: str | None) -> str | None:
    """The source's raw value for a word of the SMS; what is no such word is taken as a raw value."""
    words = mapping().attributes[name].values or {}
    return {word: text for text, word in words.items()}.get(value or "", value)


def versions(story: Story) -> list[Procedure]:
    return [amended(version) for version in story.versions] or [procedure()]


def amended(version: Version) -> Procedure:
    flow = procedure().flow
    requirements = tuple(
        requirement.model_copy(update={"limit": requirement.limit.model_copy(update={"time": time})})
        if (time := version.limits.get(requirement.id)) and isinstance(requirement, RespondedInTime | ResolvedInTime)
        else requirement
        for requirement in procedure().requirements
        if requirement.id not in version.drop
    )
    return procedure().model_copy(
        update={
            "valid_from": version.valid_from,
            "flow": flow.model_copy(update={"edges": {**flow.edges, **version.edges}}),
            "requirements": requirements,
        }
    )


def frames(story: Story) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Records and events as a source would have delivered them at the story's end."""
    values = {name: raw(name, value) for name, value in {**USUAL, **story.attributes}.items()}
    events = []
    for number, save in enumerate(story.saves, start=1):
        for name, value in save.changes().items():
            old, values[name] = values[name], raw(name, value)
            if save.trace:
                order = None if story.without_order else number
                events.append((0, order, millis(save.at), source_field(name), old, values[name], save.by))
    last = max([story.created, *(save.at for save in story.saves)])
    record = {
        "case": 0,
        "created": millis(story.created),
        "updated": millis(last),
        "version": len(story.saves),
        source_field("opened"): (story.opened or story.created).strftime("%Y-%m-%d %H:%M:%S"),
        **{source_field(name): value for name, value in values.items()},
    }
    schema = {name: RECORDS.get(name, pl.String) for name in record}
    return pl.DataFrame([record], schema=schema), pl.DataFrame(events, schema=EVENTS, orient="row")


def verdicts(story: Story) -> dict[str, dict[str, Any]]:
    audited = mapping().audited_fields() - {source_field(name) for name in story.without_history}
    basis = Basis(mapping(), millis(story.now), audited, frozenset({"timer"}))
    log = from_history(*frames(story), basis)
    found = judge(log, versions(story), mapping().types(), basis.now).to_dicts()
    assert len({row["requirement"] for row in found}) == len(found), "one verdict for each requirement"
    return {row["requirement"]: row for row in found}


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
    checks = {requirement.id: requirement.check for requirement in procedure().requirements}
    told: dict[str, set[str]] = {}
    for parameter in stories():
        for name, expectation in parameter.values[0].expect.items():
            want = expected(expectation)
            told.setdefault(checks[name], set()).add(want["status"] if want else "none")
    wanted = {"conforming", "deviating", "unknown"}
    judged = {check for check in checks.values() if check != "none"}
    assert dict.fromkeys(judged, wanted) == {check: told.get(check, set()) & wanted for check in judged}
