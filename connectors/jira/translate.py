"""Raw Jira rows to facts, and the shapes of tickets.

Pure: reading and a later replay of stored rows both go through :func:`translate`, so they find the same facts. Rows
hold values in the form that facts have already: ids, pseudonyms, references to text (``values`` makes them), because
what a history item means depends on the types of fields at the time when it was read.

A row of ``issue`` has ``key``, ``created``, ``updated`` and the fields asked for; one of the history ``issue``,
``created``, ``author`` and ``items``, a list of ``[number of the item, field, old, new]`` for the fields asked for; one
of comments ``issue``, ``created``, ``author``, ``text``. A row of ``approval`` or ``sla`` is a record as it stands.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from itsms_sync.records import Event, Facts, Millis, Record, Row, Ticket, Witness, digest

GATEWAY = "/ex/jira/"
"""In the address of a source that is reached through Atlassian's gateway, before the id of its site."""
PROPERTY = "itsms_sync"
"""Issue property that holds the exact key and the machine-readable facts."""
TICKET_FIELDS = ("summary", "status", "labels", "created", "updated", "project")
ISSUES, HISTORY, COMMENTS = "issue", "issue:changelog", "issue:comment"
APPROVALS, PENDING = "approval", "approval:pending"
SLAS, RUNNING = "sla", "sla:running"
_LABEL_DIGITS = 20
_OUR_LABEL = re.compile(rf"itsms-[0-9a-f]{{{_LABEL_DIGITS}}}")
_OWN = {"summary": "summary", "body": "description", "severity": "priority", "assignee": "assignee"}
"""What a write can set -> the field that holds it."""
_RECORDS = frozenset((ISSUES, APPROVALS, PENDING, SLAS, RUNNING))

Json = Mapping[str, Any]


def translate(kind: str, rows: Sequence[Row]) -> Facts:
    """The facts in rows of the streams of ``kind``."""
    records: list[Record] = []
    events: list[Event] = []
    for row in rows:
        if row.stream in _RECORDS:
            records.append(_record(kind, row))
        elif row.stream == HISTORY:
            events.extend(_changes(row))
        elif row.stream == COMMENTS:
            events.append(_comment(row))
    return Facts(records, events)


def _record(kind: str, row: Row) -> Record:
    body = row.body
    created, updated = millis(body["created"]), millis(body["updated"])
    return Record(kind, row.key, body["key"], created, updated or 0, None, dict(body))


def _changes(row: Row) -> Iterator[Event]:
    """A history without a change that was asked for still proves that a save happened."""
    body, witness = row.body, Witness.CHANGELOG.value
    record, at, actor = body["issue"], millis(body["created"]) or 0, body["author"]
    order = int(row.key) if row.key.isdecimal() else None
    if not body["items"]:
        yield Event(record, "", None, None, at, actor, witness, row.key, order)
    for number, field, old, new in body["items"]:
        yield Event(record, field, old, new, at, actor, witness, f"{row.key}.{number}", order)


def _comment(row: Row) -> Event:
    body, witness = row.body, Witness.JOURNAL.value
    at = millis(body["created"]) or 0
    return Event(body["issue"], "comment", "", body["text"], at, body["author"], witness, row.key, None)


@lru_cache(maxsize=16_384)
def millis(stamp: str | None) -> Millis | None:
    """Remembered for a while, since each stamp is read about ten times on its way.

    Jira writes ``2026-11-21T10:00:00.000+0100``, in the zone of the account."""
    return None if not stamp else round(datetime.fromisoformat(stamp).timestamp() * 1000)


@lru_cache(maxsize=16_384)
def stamp(at: Millis) -> str:
    """An instant as rows hold it, always in UTC."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{at % 1000:03d}+0000")


# --- tickets ----------------------------------------------------------------------------------------------------------


def key_label(key: str) -> str:
    """The label by which search finds the key; labels allow no blanks, JQL quotes poorly, so it is a digest."""
    return "itsms-" + hashlib.sha256(key.encode()).hexdigest()[:_LABEL_DIGITS]


def is_ours(one: Ticket) -> bool:
    """Whether the ticket carries our key, or the label that stands for one."""
    return one.key is not None or any(map(_OUR_LABEL.fullmatch, one.labels))


def property_value(key: str, properties: Json | None) -> dict[str, Any]:
    """What the issue property holds. Our key prevails over a property of that name."""
    return {**(properties or {}), "key": key}


def ticket(issue: Json, site_url: str) -> Ticket:
    """An issue asked for with ``TICKET_FIELDS`` and ``PROPERTY``. ``KeyError`` or ``TypeError`` if it is none."""
    fields, status = issue["fields"], issue["fields"]["status"]
    stored = (issue.get("properties") or {}).get(PROPERTY)
    facts = dict(stored) if isinstance(stored, Mapping) else {}
    key = facts.pop("key", None)
    return Ticket(
        id=str(issue["id"]),
        label=issue["key"],
        url=browse_url(site_url, issue["key"]),
        key=key if isinstance(key, str) else None,
        summary=fields.get("summary") or "",
        state=status["name"],
        done=status["statusCategory"]["key"] == "done",
        labels=tuple(fields.get("labels") or ()),
        properties=facts,
        created=millis(fields.get("created")),
        updated=millis(fields.get("updated")),
        place=str((fields.get("project") or {}).get("key", "")),
        digests={name: digest(_held(fields[field])) for name, field in _OWN.items() if field in fields},
    )


def is_gateway(url: str) -> bool:
    """Whether a source is reached through Atlassian's gateway, where nobody can read a ticket."""
    return GATEWAY in url


def _held(value: Any) -> str:
    """A field's value as text: of a person the identifier, of a choice the name."""
    if isinstance(value, Mapping):
        return str(value.get("accountId") or value.get("name") or "")
    return "" if value is None else str(value)


def browse_url(site_url: str, label: str) -> str:
    """Where a person reads the ticket with this label."""
    return f"{site_url.rstrip('/')}/browse/{quote(label)}"
