"""The mapping: a controlled document that turns a source's raw values into attributes and activities of SMS processes.

Owns the shape of the document and its checks; what it means for histories is in ``cases``. Conditions are the SQL
expressions of ``conditions``, over the attributes of a case as they stand after a save. An empty field is ``''``; NULL
means that the value is not known.
"""

from collections.abc import Collection, Iterator
from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from itsms_sync.sms.calendars import unknown_zone
from itsms_sync.sms.conditions import Condition, Type, WrongCondition, compile
from itsms_sync.sms.processes import Slug
from itsms_sync.sms.strict import Fault, Place, Strict

MappingName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=60)]


class Attribute(Strict):
    """One attribute of a case: a source's field, or a condition over other attributes."""

    field: str | None = None
    """The source's name of the field (column, in a log)."""
    type: Literal["text", "number", "instant", "person", "free_text"] = "text"
    """``person`` becomes a pseudonym and ``free_text`` a reference at the source's border."""
    values: dict[str, str] | None = None
    """Raw value -> value of the SMS. A raw value that is not listed is unknown and counted as a gap."""
    audited: bool = True
    """Whether the source keeps the history of this field where it keeps any of the record's kind. If not, its value is
    known from the record's last update on only."""
    when: str | None = None
    """A condition over the attributes that are fields; makes this attribute true, false or unknown."""

    def type_in_conditions(self) -> Type:
        if self.when is not None:
            return Type.BOOLEAN
        return {"number": Type.NUMBER, "instant": Type.INSTANT}.get(self.type, Type.TEXT)


class Activity(Strict):
    """A documented step as it shows in the data: it happens with the save after which its condition turns true."""

    when: str


class Reference(Strict):
    """Where a record names another one. A field may name several, separated by commas."""

    field: str
    system: Slug | None = None
    """The other record's system; its own source if none is named."""
    by: Literal["id", "label"] = "id"
    """Whether the field holds immutable ids or labels (numbers, keys)."""


def _several(value: object) -> object:
    """One name may stand for a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class Link(Reference):
    """A link to a case of another process, or of the same one. Its role is the name under which it stands."""

    to: Annotated[tuple[Slug, ...], Field(min_length=1), BeforeValidator(_several, Slug | list[Slug])]
    """Processes that the other record may be a case of."""
    inverse: Slug | None = None
    """The role that this link has when it is seen from the other record; without it it is not seen from there."""


class Pair(Reference):
    """The record of the same work in another system: both are one case."""

    by: Literal["id", "label"] = "label"


class Described(Strict):
    """A kind of record and the attributes that are read of it."""

    kind: str
    where: str | None = None
    """A condition over the attributes as they stand; records for which it is not true are not meant."""
    attributes: Annotated[dict[Slug, Attribute], Field(min_length=1)]

    def types(self) -> dict[str, Type]:
        """Type of each attribute as conditions see it."""
        return {name: attribute.type_in_conditions() for name, attribute in self.attributes.items()}

    def source_fields(self) -> tuple[str, ...]:
        """The source's fields that attributes name, each once, in order."""
        return tuple(dict.fromkeys(a.field for a in self.attributes.values() if a.field is not None))

    def asked_fields(self) -> tuple[str, ...]:
        """All that is fetched of a record."""
        return self.source_fields()

    def fields_of_type(self, type_: str) -> frozenset[str]:
        """The fields that attributes of this type name."""
        return frozenset(a.field for a in self.attributes.values() if a.field is not None and a.type == type_)

    def audited_fields(self) -> frozenset[str]:
        """The fields whose history the source keeps."""
        return frozenset(a.field for a in self.attributes.values() if a.field is not None and a.audited)

    def compared_fields(self) -> frozenset[str]:
        """The fields whose values a source writes alike in records and in histories: neither instants nor texts that
        it may cut."""
        wanted = ("text", "number", "person")
        return frozenset(a.field for a in self.attributes.values() if a.field is not None and a.type in wanted)

    def derived(self) -> dict[str, Condition]:
        """The attributes that are conditions."""
        fields = {name: type_ for name, type_ in self.types().items() if self.attributes[name].field is not None}
        return {name: compile(a.when, fields) for name, a in self.attributes.items() if a.when is not None}

    def meant(self) -> Condition | None:
        """The condition that tells which records are meant; ``None`` if all are."""
        return None if self.where is None else compile(self.where, self.types())

    def attribute_problems(self, place: Place) -> Iterator[Fault]:
        """What is wrong in the attributes and in ``where``."""
        for name, attribute in self.attributes.items():
            if (attribute.field is None) == (attribute.when is None):
                yield Fault((*place, "attributes", name), "an attribute has either a field or a condition (when)")
        fields = {name: a.type_in_conditions() for name, a in self.attributes.items() if a.field is not None}
        for name, attribute in self.attributes.items():
            if attribute.when is not None:
                yield from condition_problems(attribute.when, fields, (*place, "attributes", name, "when"))
        if self.where is not None:
            yield from condition_problems(self.where, self.types(), (*place, "where"))


class Part(Described):
    """Records of another kind that belong to a case: its approvals, tasks, service level clocks, affected items."""

    case: str
    """Field whose value is the id of the case's record."""

    def asked_fields(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.case, *self.source_fields())))

    def type_problems(self, place: Place, types: dict[str, Type]) -> Iterator[Fault]:
        """Attributes that are no fields of the type that is read."""
        for name, type_ in types.items():
            attribute = self.attributes.get(name)
            if attribute is not None and (attribute.field is None or attribute.type_in_conditions() != type_):
                yield Fault((*place, "attributes", name), f"attribute {name!r} has to be a field of type {type_}")

    def word_problems(self, place: Place, name: str, words: Collection[str]) -> Iterator[Fault]:
        """Values of the attribute that are no words of the SMS."""
        attribute = self.attributes.get(name)
        for raw, word in (attribute.values or {}).items() if attribute is not None else ():
            if word not in words:
                known = ", ".join(sorted(words))
                yield Fault((*place, "attributes", name, "values", raw), f"{word!r} is none of {known}")


class Parts(Strict):
    """What a case is made of besides its own record."""

    approvals: Part | None = None
    """Attributes ``approver`` (person), ``state`` (``APPROVAL_STATES``) and, where the source has them, ``decided`` (an
    instant) and ``stage``."""
    tasks: Part | None = None
    """Attributes ``state`` (``TASK_STATES``) and, where the source has them, ``type`` and ``worker`` (a person)."""
    slas: Part | None = None
    """Attribute ``stage`` (``SLA_STAGES``) and, where the source has them, the instants ``started``, ``paused`` (since
    when it stands still) and ``ended``, ``pauses`` (how long it stood still before, as an instant counted from 1970)
    and ``cycles``: a number, in sources that have a record for each measure of a case, whether or not it ever began.
    """
    cis: Part | None = None

    def named(self) -> Iterator[tuple[str, Part]]:
        """The parts that are mapped, under their names."""
        for name in ("approvals", "tasks", "slas", "cis"):
            part = getattr(self, name)
            if part is not None:
                yield name, part

    def problems(self, place: Place) -> Iterator[Fault]:
        """What is wrong beyond the shape."""
        needed = {"approvals": ("approver", "state"), "tasks": ("state",)}
        words = {
            "approvals": ("state", APPROVAL_STATES),
            "tasks": ("state", TASK_STATES),
            "slas": ("stage", SLA_STAGES),
        }
        for name, part in self.named():
            yield from part.attribute_problems((*place, name))
            if name == "slas":
                yield from part.type_problems((*place, name), LEVEL_TYPES)
            for required in needed.get(name, ()):
                if required not in part.attributes:
                    yield Fault((*place, name, "attributes"), f"attribute {required!r} is missing")
            if name in words:
                yield from part.word_problems((*place, name), *words[name])


LEVEL_TYPES = {
    "stage": Type.TEXT,
    **dict.fromkeys(("started", "paused", "ended", "pauses"), Type.INSTANT),
    "cycles": Type.NUMBER,
}
APPROVAL_STATES = frozenset(("requested", "approved", "rejected", "cancelled", "not_required"))
TASK_STATES = frozenset(("open", "work", "done", "incomplete", "skipped", "cancelled"))
RUNS, PAUSED, COMPLETED, CANCELLED = "running", "paused", "completed", "cancelled"
SLA_STAGES = frozenset((RUNS, PAUSED, COMPLETED, CANCELLED))


class ProcessMapping(Described):
    """How one kind of record becomes cases of one process."""

    activities: Annotated[dict[Slug, Activity], Field(min_length=1)]
    initial: tuple[str, ...] = ()
    """States in which a record of this system can begin besides the initial state of the procedure."""
    parts: Parts = Field(default_factory=Parts)
    links: dict[Slug, Link] = Field(default_factory=dict)
    """Role -> where the other record is named."""
    pair: Pair | None = None

    def asked_fields(self) -> tuple[str, ...]:
        references = [*self.links.values(), *([self.pair] if self.pair is not None else [])]
        return tuple(dict.fromkeys((*self.source_fields(), *(reference.field for reference in references))))

    def conditions(self) -> dict[str, Condition]:
        """The condition of each activity."""
        return {name: compile(activity.when, self.types()) for name, activity in self.activities.items()}

    def problems(self, place: Place) -> Iterator[Fault]:
        """What is wrong beyond the shape."""
        yield from self.attribute_problems(place)
        for required in ("state", "opened"):
            if required not in self.attributes:
                yield Fault((*place, "attributes"), f"attribute {required!r} is missing: every case needs it")
        for name, activity in self.activities.items():
            yield from condition_problems(activity.when, self.types(), (*place, "activities", name, "when"))
        yield from self.parts.problems((*place, "parts"))


def condition_problems(text: str, types: dict[str, Type], place: Place) -> Iterator[Fault]:
    """The fault of one condition, if it has one."""
    try:
        compile(text, types)
    except WrongCondition as wrong:
        yield Fault(place, wrong.message, (wrong.line, wrong.column))


class Mapping(Strict):
    """The whole document: one per kind of source, with its own version and date."""

    document: str
    version: str
    valid_from: date
    system: Slug
    name: MappingName | None = None
    """What a source calls it by under ``mapping``; the system's name if none is given. Two sites of one system with ids
    of their own need a mapping each."""
    processes: Annotated[dict[Slug, ProcessMapping], Field(min_length=1)]

    @property
    def called(self) -> str:
        return self.name or self.system

    def described(self) -> Iterator[Described]:
        """Every kind of record that is read, once for each use of it."""
        for process in self.processes.values():
            yield process
            yield from (part for _, part in process.parts.named())

    def problems(self) -> list[Fault]:
        """Everything that is wrong beyond the shape."""
        return [p for name, process in self.processes.items() for p in process.problems(("processes", name))]


class LateColumn(Strict):
    """A column that an extract carries with its final value on every row, also on rows before it was filled in."""

    states: Annotated[tuple[str, ...], Field(min_length=1)]
    """States (of the SMS) whose first entry fills the column; on rows before it the value is not known."""


class LogColumns(Strict):
    """What ``assess --columns`` names: how a file of rows, one per save, is read as a history."""

    document: str
    version: str
    process: Slug
    case: str
    """Column with the case's id."""
    time: str
    """Column with the instant of the save."""
    time_format: str
    zone: str = "UTC"
    missing: tuple[str, ...] = ("",)
    """Texts that stand for an empty field."""
    saves: str | None = None
    """Column with the source's counter of saves: a jump in it is a gap."""
    actor: str | None = None
    system_accounts: tuple[str, ...] = ()
    late: dict[str, LateColumn] = Field(default_factory=dict)
    mapping: ProcessMapping

    def looked_at(self) -> list[str]:
        """The columns of the file that are looked at, each once."""
        return list(dict.fromkeys([*self.told(), *self.late]))

    def told(self) -> list[str]:
        """Those that tell anything of a case: not the late ones that no attribute reads."""
        names = [self.case, self.time, self.saves, self.actor, *self.mapping.source_fields()]
        return list(dict.fromkeys(name for name in names if name is not None))

    def prefixed(self, prefix: str) -> "LogColumns":
        """The same for a file whose columns' names begin with the prefix."""
        names = {"case": self.case, "time": self.time, "saves": self.saves, "actor": self.actor}
        attributes = {
            key: attribute.model_copy(update={"field": None if attribute.field is None else prefix + attribute.field})
            for key, attribute in self.mapping.attributes.items()
        }
        return self.model_copy(
            update={
                **{key: None if name is None else prefix + name for key, name in names.items()},
                "late": {prefix + name: late for name, late in self.late.items()},
                "mapping": self.mapping.model_copy(update={"attributes": attributes}),
            }
        )

    def problems(self) -> list[Fault]:
        """Everything that is wrong beyond the shape."""
        return [*unknown_zone(self.zone, ("zone",)), *self.mapping.problems(("mapping",))]
