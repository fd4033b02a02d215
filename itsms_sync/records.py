"""The vocabulary that crosses a connector's border.

Owns the shapes in which facts leave a source and in which writes reach a target. Everything is plain and immutable;
stamps are whole milliseconds since 1970-01-01T00:00Z; persons are pseudonyms and free text is a reference by the time
a value of this module exists.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple, Protocol

Millis = int
"""Milliseconds since 1970-01-01T00:00Z, the only form of an instant inside the program."""


class Witness(StrEnum):
    """Where the knowledge of an event comes from, best first.

    Metrics and snapshots count only where no better witness tells the same. An event of a metric without ``old`` begins
    a span in which the field kept a value, one without ``new`` ends it. One of a snapshot without ``old`` is the first
    state that was seen.
    """

    AUDIT = "audit"
    CHANGELOG = "changelog"
    APPROVAL = "approval"
    JOURNAL = "journal"
    METRIC = "metric"
    SNAPSHOT = "snapshot"


TRAIL = frozenset((Witness.AUDIT, Witness.CHANGELOG, Witness.APPROVAL, Witness.JOURNAL))
"""Witnesses of each single change of the fields that they tell of."""


class Row(NamedTuple):
    """One raw row as the source sent it, after persons and free text were replaced at the border."""

    stream: str
    """The table or resource it came from, e.g. ``sys_audit``."""
    key: str
    """The row's immutable id in that stream."""
    body: Mapping[str, Any]


class Record(NamedTuple):
    """A ticket as its source held it at ``updated``."""

    kind: str
    id: str
    """Immutable id (ServiceNow ``sys_id``, Jira numeric id), never the number or key."""
    label: str
    """What people call it, e.g. ``INC0010001``."""
    created: Millis | None
    updated: Millis
    version: int | None
    """The source's own counter of saves (ServiceNow ``sys_mod_count``), if it has one."""
    fields: Mapping[str, str | None]
    """Raw values of the fields asked for; a missing key means that the source did not deliver the field."""


class Event(NamedTuple):
    """One fact of a record's history. An empty ``field`` is a save whose content was not asked for."""

    record: str
    field: str
    old: str | None
    new: str | None
    at: Millis
    actor: str | None
    witness: str
    witness_id: str
    order: int | None
    """The source's own order inside the record (``record_checkpoint``, changelog id, row number); ``None`` if it has
    none.
    """
    since: Millis | None = None
    """It happened after this and at ``at`` at the latest; ``None``: exactly then."""


class Gap(NamedTuple):
    """Something that we know we did not read: a start, a reason and a message, never a log line only."""

    stream: str
    reason: str
    """A stable word: ``refused``, ``field-refused``, ``not-served``, ``history-cut`` …"""
    message: str
    start: Millis | None = None
    end: Millis | None = None
    record: str | None = None
    field: str | None = None


class What(StrEnum):
    """What became of a record that a source no longer shows."""

    PRESENT = "present"
    """It is there after all."""
    DELETED = "deleted"
    ARCHIVED = "archived"
    MOVED = "moved"
    """To where nothing is read."""
    UNREADABLE = "unreadable"
    """Deleted or hidden from the account; the source does not tell which."""


class Fate(NamedTuple):
    """What became of one record."""

    id: str
    what: str
    note: str = ""
    """For people: where it went, or why it cannot be told."""
    at: Millis | None = None
    """When, if the source tells."""
    by: str | None = None
    """Who, as a pseudonym, if the source tells."""
    record: Record | None = None
    """As it stands, if it is present, with those of the window's fields that came along."""


@dataclass(frozen=True, slots=True)
class Window:
    """What one poll asks for."""

    fields: tuple[str, ...]
    """Names of the record's fields that a mapping or a check names; nothing else is fetched."""
    cursors: Mapping[str, str]
    """Cursor of each stream as the connector last returned it (its own text); empty at the first poll."""
    overlap: Millis
    """How far a new poll reaches back before the end of the former one, for rows that were committed late."""
    page_size: int
    persons: frozenset[str] = frozenset()
    """Those of the fields that the mapping says hold accounts; a connector adds what it knows of stock fields."""
    texts: frozenset[str] = frozenset()
    """Those of the fields that the mapping says hold free text."""
    parked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of rows of a stream that were broken when they were last read; they are asked for again."""
    reach: Millis = 0
    """How much further back than its cursors this poll begins, once: the source's clock was set back."""
    since: Millis | None = None
    """Only rows whose stamp is not before this whole minute; each stream has the stamps by which it is read."""
    until: Millis | None = None
    """Only rows whose stamp is before this whole minute. Without it the window goes on to now, and the next one with
    its cursors is a later poll."""


class Bounds(NamedTuple):
    """The first and the last stamp of what there is to read."""

    first: Millis
    last: Millis


@dataclass(frozen=True)
class Page:
    """One answer of the source, complete and checked. Store it and its cursor in one transaction.

    The facts in it are found when they are first asked for: that is work for who stores the page, while who reads waits
    for the next one.
    """

    stream: str
    fields: tuple[str, ...]
    """The field list that the rows were asked with."""
    rows: Sequence[Row]
    translated: Callable[[Sequence[Row]], "Facts"]
    """The pure translation of such rows."""
    cursor: str
    closed: bool
    """Whether this page ended the stream's window."""
    asked: str
    """The question in the source's own language, for the coverage record."""
    server_time: Millis | None
    gaps: Sequence[Gap] = ()

    @cached_property
    def facts(self) -> "Facts":
        return self.translated(self.rows)

    @property
    def records(self) -> Sequence[Record]:
        return self.facts.records

    @property
    def events(self) -> Sequence[Event]:
        return self.facts.events

    @property
    def gone(self) -> Sequence[Fate]:
        """Records of which the source itself says that they were deleted."""
        return self.facts.gone


@dataclass(frozen=True, slots=True)
class Presence:
    """One answer of the source about which records of a kind are there, complete and checked."""

    records: Sequence[Record]
    """As they stand, without their histories, with those of the window's fields that came along; ``updated`` is 0 where
    the source does not tell it."""
    cursor: str
    """Where the enumeration goes on behind this page, in the connector's own text."""
    closed: bool
    """Whether this page was the last: all records were shown."""
    asked: str
    server_time: Millis | None
    gaps: Sequence[Gap] = ()


class Facts(NamedTuple):
    """What the pure translation finds in raw rows."""

    records: Sequence[Record]
    events: Sequence[Event]
    gone: Sequence[Fate] = ()


class Mark(StrEnum):
    """What tells one instance from another."""

    ADDRESS = "address"
    NAME = "name"
    INSTANCE = "instance"
    """The vendor's own id of the installation."""
    ACCOUNT = "account"
    """Our account's id, made by the content that a clone brings along."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers, as whom we are logged in, and what time it is there."""

    product: str
    version: str
    instance: str
    """A name that changes when the instance is another one (clone, other site)."""
    account: str
    server_time: Millis | None
    simulated: bool
    """True for a simulator, which says so in its ``Server`` header; writing under ``--as-of`` is allowed only there."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """:class:`Mark` -> value, of those that could be read; what cannot be read is left out."""


@dataclass(frozen=True, slots=True)
class Person:
    """One account. ``names`` are the pseudonyms of all identifiers under which the source writes it into rows."""

    names: tuple[str, ...]
    system: bool
    active: bool | None


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    active: bool | None


@dataclass(frozen=True, slots=True)
class Directory:
    people: Sequence[Person]
    groups: Sequence[Group]
    gaps: Sequence[Gap] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the instance is set to: labels of the raw values of each field that could be read."""

    choices: Mapping[str, Mapping[str, str]]
    """field -> raw value -> label"""
    fields: Mapping[str, str]
    """field -> type, of the fields the account may see"""
    gaps: Sequence[Gap] = ()


class Block(NamedTuple):
    """A piece of a ticket's text, free of any tracker's markup: each connector writes and escapes its own."""

    kind: str
    """``heading``, ``paragraph`` or ``bullets``."""
    text: str = ""
    items: tuple["Item", ...] = ()


class Item(NamedTuple):
    text: str
    url: str | None = None
    note: str = ""
    """Follows the linked text."""


class Action(StrEnum):
    CREATE = "create"
    COMMENT = "comment"
    AMEND = "amend"
    LINK = "link"
    TRANSITION = "transition"


@dataclass(frozen=True, slots=True)
class Write:
    """One outgoing write. All but ``create`` name the ticket by its immutable id."""

    action: Action
    key: str
    """Our own key of the nonconformity and its generation; a created ticket carries it from its first instant."""
    ticket: str | None = None
    summary: str | None = None
    body: tuple[Block, ...] = ()
    labels: tuple[str, ...] = ()
    properties: Mapping[str, Any] | None = None
    """Machine-readable facts stored in the ticket (generation, hash of the frozen evidence)."""
    severity: str | None = None
    assignee: str | None = None
    link_to: str | None = None
    """Immutable id of the other ticket, for ``link``."""
    to_state: str | None = None
    """Name or id of the wanted state, for ``transition``."""
    subject: str = ""
    """Tells several writes of one kind to one ticket apart."""

    @property
    def mark(self) -> str:
        """One word that the text of a comment ends with, by which the comment is found again: letters and digits only,
        which no tracker's markup changes.
        """
        named = "\0".join((self.key, self.action, self.subject))
        return "itsms" + hashlib.sha256(named.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket of ours as the target holds it."""

    id: str
    label: str
    url: str
    key: str | None
    summary: str
    state: str
    done: bool
    labels: tuple[str, ...]
    properties: Mapping[str, Any]
    created: Millis | None
    updated: Millis | None = None
    """By the target's own clock."""
    place: str = ""
    """Key of the project, or name of the table, in which it stands now."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Field that a write can set (``summary``, ``body``, ``severity``, ``assignee``) -> ``digest`` of what the target
    holds there. Equal as long as nobody changed it; a field that was not read is missing."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A ticket that the target no longer shows."""

    reason: str
    """``deleted`` where the target says so, else ``unseen``: deleted or hidden, which cannot be told apart."""
    message: str
    """One sentence for a person."""


@dataclass(frozen=True, slots=True)
class Written:
    """Outcome of a write: the ticket read back by id and compared."""

    id: str
    label: str
    url: str
    ticket: Ticket | None
    """``None`` when the write was acknowledged but reading back failed; the reason is then in ``dropped``."""
    dropped: tuple[str, ...] = ()
    """What the target did not take over, one sentence each."""
    unassigned: bool = False
    """Somebody should be assigned and nobody is: the account does not exist there or may not be assigned."""


def digest(value: str | None) -> str:
    """What is kept of a value of a ticket, to see whether somebody changed it."""
    return hashlib.sha256((value or "").encode("utf-8", "replace")).hexdigest()[:16]


class Border(Protocol):
    """Replaces persons and free text before anything is stored or hashed. Given to a connector, never made by it."""

    def person(self, form: str, identifier: str) -> str:
        """The pseudonym of ``identifier``; ``form`` says what kind of identifier it is (``sys_id``, ``user_name``)."""
        ...

    def text(self, value: str) -> str:
        """A reference (``text:<hash>``) to free text; the empty string stays empty."""
        ...
