"""Reads the seeded desk: every case with absolute times and in order, in the words of the service management system.

Owns the meaning of `desk.yaml` and `edges.yaml`. What a word is called in a product is known to the loaders beside it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FILE = Path(__file__).with_name("desk.yaml")
EDGES = Path(__file__).with_name("edges.yaml")
_SPAN = re.compile(r"(-)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?")
_INSTANTS = ("planned_start", "planned_end", "resolved_at", "work_start", "work_end")


@dataclass(frozen=True)
class Person:
    """``key`` is what the desk calls this person; ``system`` tells that it is a machine, which has no address."""

    key: str
    name: str
    email: str
    system: bool = False


@dataclass(frozen=True)
class Save:
    """What one person changed at one time: attribute -> new value, ``''`` for nothing. ``tool``: the only system that
    was told of it, where the desk is split over two.
    """

    at: datetime
    by: str
    changes: Mapping[str, str]
    tool: str = ""


@dataclass(frozen=True)
class Approval:
    """One person that was asked. ``state`` is requested, approved, rejected, not_required or cancelled."""

    stage: str
    who: str
    asked: datetime
    state: str
    answered: datetime | None = None


@dataclass(frozen=True)
class Task:
    """A piece of a change for one person: ``open`` until it was ended as ``state`` says, perhaps without a start."""

    type: str
    who: str
    opened: datetime
    started: datetime | None
    ended: datetime | None
    state: str


@dataclass(frozen=True)
class Link:
    """The case names another one in a role, from the beginning or since ``at``."""

    role: str
    to: str
    at: datetime | None = None
    by: str = ""


@dataclass(frozen=True)
class Listed:
    """An item that somebody put on the case's list of affected items."""

    what: str
    at: datetime
    by: str


@dataclass(frozen=True)
class Record:
    """A case as it was created, and what happened to it since."""

    case: str
    process: str
    opened: datetime
    by: str
    attributes: Mapping[str, str]
    saves: tuple[Save, ...]
    approvals: tuple[Approval, ...] = ()
    tasks: tuple[Task, ...] = ()
    links: tuple[Link, ...] = ()
    items: tuple[Listed, ...] = ()
    sla: str = "kept"
    """``none``: no service level measures it, ``cancelled``: one did for half an hour, ``still``: one never ran."""

    def rounds(self) -> Iterator[tuple[Approval, ...]]:
        """Those who were asked together, in the order of the asking."""
        asked = sorted({(each.asked, each.stage) for each in self.approvals})
        for at, stage in asked:
            yield tuple(each for each in self.approvals if (each.asked, each.stage) == (at, stage))


@dataclass(frozen=True)
class Desk:
    """``breaches``, ``look_alikes`` and ``unknown`` are as the file has them."""

    as_of: datetime
    go_live: str
    people: Mapping[str, Person]
    groups: Mapping[str, str]
    records: tuple[Record, ...]
    breaches: tuple[Mapping[str, Any], ...]
    look_alikes: tuple[Mapping[str, Any], ...]
    unknown: tuple[Mapping[str, Any], ...]
    named: frozenset[str]
    """Cases that are told one by one; the others are ordinary."""

    def expected(self, way: str) -> set[tuple[str, str]]:
        """``(case, requirement)`` of all that is wrong where the desk is served in that way, and of what the same facts
        break besides.
        """
        return {
            (each["case"], requirement)
            for each in self.breaches
            if way in each.get("in", (way,))
            for requirement in (each["requirement"], *each.get("also", ()))
        }


@cache
def desk() -> Desk:
    """The desk of `desk.yaml`. Raises ``ValueError`` or ``KeyError`` for what it cannot read."""
    return _desk(_document(FILE))


@cache
def over_the_edge() -> Desk:
    """The same desk with each look-alike pushed over the edge; ``breaches`` has what they break, too."""
    told = _document(FILE)
    edges = {edge["case"]: edge for edge in _document(EDGES)}
    told["records"] = [_pushed(given, edges.get(given["case"], {})) for given in told["records"]]
    broken = [(case, requirement) for case, edge in edges.items() for requirement in edge["breaks"]]
    told["breaches"] += [{"case": case, "requirement": requirement} for case, requirement in broken]
    return _desk(told)


def _pushed(given: Mapping[str, Any], edge: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {**given.get("attributes", {}), **edge.get("attributes", {})}
    return {**given, **edge, "attributes": attributes}


def _document(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text("utf-8"))


def _desk(told: Mapping[str, Any]) -> Desk:
    records = [_record(given["case"], given, told["lives"]) for given in told["records"]]
    named = frozenset(record.case for record in records)
    records += [record for group in told["ordinary"] for record in _ordinary(group, told["lives"])]
    return Desk(
        _instant(told["as_of"]),
        str(told["go_live"]),
        {key: Person(key, **person) for key, person in told["people"].items()},
        told["groups"],
        tuple(sorted(records, key=lambda record: (record.opened, record.case))),
        tuple(told["breaches"]),
        tuple(told["look_alikes"]),
        tuple(told["unknown"]),
        named,
    )


def span(text: str) -> timedelta:
    """``2d4h30m`` as a duration; ``-2h``: before."""
    found = _SPAN.fullmatch(text)
    if found is None or not text:
        raise ValueError(f"{text!r} is no duration like 2d4h30m")
    days, hours, minutes = (int(part or 0) for part in found.groups()[1:])
    return (-1 if found[1] else 1) * timedelta(days=days, hours=hours, minutes=minutes)


def _instant(text: Any) -> datetime:
    return datetime.fromisoformat(str(text)).replace(tzinfo=UTC)


def _ordinary(group: Mapping[str, Any], lives: Mapping[str, Any]) -> Iterator[Record]:
    first, every = _instant(group["opened"]), span(group["every"])
    told = {key: value for key, value in group.items() if key not in ("cases", "count", "every")}
    for number in range(group["count"]):
        yield _record(f"{group['cases']}{number + 1:02}", {**told, "opened": first + number * every}, lives)


def _record(case: str, given: Mapping[str, Any], lives: Mapping[str, Any]) -> Record:
    life = lives[given["like"]]
    told = {**life, **given}
    opened = given["opened"] if isinstance(given["opened"], datetime) else _instant(given["opened"])
    return Record(
        case,
        told["process"],
        opened,
        told["by"],
        _values({**life["attributes"], **given.get("attributes", {})}, opened),
        tuple(_save(each, opened) for each in told["saves"]),
        tuple(_approval(each, opened) for each in told.get("approvals", ())),
        tuple(_task(each, opened) for each in told.get("tasks", ())),
        tuple(_link(role, to, opened) for role, to in told.get("links", {}).items()),
        tuple(Listed(each["what"], opened + span(each["at"]), each["by"]) for each in told.get("items", ())),
        told.get("sla", "kept"),
    )


def _values(given: Mapping[str, Any], opened: datetime) -> dict[str, str]:
    """Attributes as text; times are counted from the opening here, too."""
    values = {}
    for name, value in given.items():
        if name in _INSTANTS and value:
            values[name] = (opened + span(value)).isoformat()
        else:
            values[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return values


def _save(given: Mapping[str, Any], opened: datetime) -> Save:
    changes = {name: value for name, value in given.items() if name not in ("at", "by", "tool")}
    return Save(opened + span(given["at"]), given["by"], _values(changes, opened), given.get("tool", ""))


def _approval(given: Mapping[str, str], opened: datetime) -> Approval:
    answered = opened + span(given["answered"]) if "answered" in given else None
    return Approval(given["stage"], given["who"], opened + span(given["asked"]), given["state"], answered)


def _task(given: Mapping[str, str], opened: datetime) -> Task:
    at = {name: opened + span(given[name]) for name in ("opened", "started", "ended") if name in given}
    return Task(given["type"], given["who"], at["opened"], at.get("started"), at.get("ended"), given["state"])


def _link(role: str, to: Any, opened: datetime) -> Link:
    if isinstance(to, str):
        return Link(role, to)
    return Link(role, to["to"], opened + span(to["at"]), to["by"])
