"""The mapping: a controlled document that turns a source's raw values into attributes and activities of SMS processes.

Owns the shape of the document and its checks; what it means for histories is in ``cases``. Conditions are the SQL
expressions of ``conditions``, over the attributes of a case as they stand after a save. An empty field is ``''``; NULL
means that the value is not known.
"""

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from itsms_sync.sms.conditions import Condition, Type, WrongCondition, compile
from itsms_sync.sms.processes import Slug
from itsms_sync.sms.strict import Fault, Place, Strict


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


class ProcessMapping(Strict):
    """How one kind of record becomes cases of one process."""

    kind: str
    attributes: Annotated[dict[Slug, Attribute], Field(min_length=1)]
    activities: Annotated[dict[Slug, Activity], Field(min_length=1)]

    def types(self) -> dict[str, Type]:
        """Type of each attribute as conditions see it."""
        return {name: attribute.type_in_conditions() for name, attribute in self.attributes.items()}

    def source_fields(self) -> tuple[str, ...]:
        """The source's fields that are named here, each once, in order: all that is fetched."""
        return tuple(dict.fromkeys(a.field for a in self.attributes.values() if a.field is not None))

    def fields_of_type(self, type_: str) -> frozenset[str]:
        """Those of them that attributes of this type name."""
        return frozenset(a.field for a in self.attributes.values() if a.field is not None and a.type == type_)

    def audited_fields(self) -> frozenset[str]:
        """Those of them whose history the source keeps."""
        return frozenset(a.field for a in self.attributes.values() if a.field is not None and a.audited)

    def derived(self) -> dict[str, Condition]:
        """The attributes that are conditions."""
        fields = {name: type_ for name, type_ in self.types().items() if self.attributes[name].field is not None}
        return {name: compile(a.when, fields) for name, a in self.attributes.items() if a.when is not None}

    def conditions(self) -> dict[str, Condition]:
        """The condition of each activity."""
        return {name: compile(activity.when, self.types()) for name, activity in self.activities.items()}

    def problems(self, place: Place) -> Iterator[Fault]:
        """What is wrong beyond the shape."""
        for name, attribute in self.attributes.items():
            if (attribute.field is None) == (attribute.when is None):
                yield Fault((*place, "attributes", name), "an attribute has either a field or a condition (when)")
        for required in ("state", "opened"):
            if required not in self.attributes:
                yield Fault((*place, "attributes"), f"attribute {required!r} is missing: every case needs it")
        fields = {name: a.type_in_conditions() for name, a in self.attributes.items() if a.field is not None}
        for name, attribute in self.attributes.items():
            if attribute.when is not None:
                yield from condition_problems(attribute.when, fields, (*place, "attributes", name, "when"))
        for name, activity in self.activities.items():
            yield from condition_problems(activity.when, self.types(), (*place, "activities", name, "when"))


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
    processes: Annotated[dict[Slug, ProcessMapping], Field(min_length=1)]

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

    def problems(self) -> list[Fault]:
        """Everything that is wrong beyond the shape."""
        return list(self.mapping.problems(("mapping",)))
