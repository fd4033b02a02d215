"""Relations between records: which names which, and the records that are found over them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Engine, and_, bindparam, delete, or_, select, union_all, update

from itsms_sync.store.database import Bulk, chunks
from itsms_sync.store.ingested import BROKEN
from itsms_sync.store.judged import LESSER
from itsms_sync.store.schema import (
    DEPENDS,
    NEW_FACTS,
    event,
    gap,
    person,
    reading,
    record,
    relation,
    source,
    ticket,
    verdict,
)

BATCH = 2500


class NewRecord(NamedTuple):
    id: int
    native_id: str
    label: str | None
    fields: Mapping[str, str | None]


class Relation(NamedTuple):
    record_id: int
    tie: str
    role: str
    inverse: str
    process: str
    to: str
    field: str
    system: str
    by: str
    value: str
    other_id: int | None


class OtherRecord(NamedTuple):
    """A record as far as those who are linked with it need it."""

    id: int
    source_id: int
    kind: str
    native_id: str
    created: int | None
    updated: int | None
    version: int | None
    fields: Mapping[str, str | None]
    tombstone: str | None
    gone_at: int | None
    """Why and since when the source no longer shows it."""


class Naming(NamedTuple):
    """A stored relation as far as it tells what is meant, and what was found to be meant."""

    id: int
    record_id: int
    source_id: int
    to: str
    system: str
    by: str
    value: str
    other_id: int | None


_COLUMNS = [relation.c[name] for name in Relation._fields]
_NAME = Relation._fields.index("other_id")


def records_with_new_facts(connection: Connection, source_id: int, kind: str, after: int) -> list[NewRecord]:
    """The next records (by id) of which something new was read."""
    rows = connection.execute(
        select(record.c.id, record.c.native_id, record.c.label, record.c.fields)
        .where(
            record.c.source_id == source_id,
            record.c.kind == kind,
            record.c.id > after,
            record.c.judge_at == NEW_FACTS,
            record.c.updated_at.is_not(None),
        )
        .order_by(record.c.id)
        .limit(BATCH)
    )
    return [NewRecord(i, native, label, orjson.loads(fields)) for i, native, label, fields in rows]


def replace(connection: Connection, engine: Engine, ids: Sequence[int], rows: Sequence[Relation]) -> set[int]:
    """Makes ``rows`` all that these records name. Returns the records that were, or are now, named otherwise."""
    wanted = set(rows)
    stored: dict[Relation, int] = {}
    for part in chunks(ids):
        found = connection.execute(select(relation.c.id, *_COLUMNS).where(relation.c.record_id.in_(part)))
        stored.update({Relation(*row[1:]): row[0] for row in found})
    gone = [id_ for row, id_ in stored.items() if row not in wanted]
    for piece in chunks(gone):
        connection.execute(delete(relation).where(relation.c.id.in_(piece)))
    fresh = [row for row in dict.fromkeys(rows) if row not in stored]
    Bulk(engine, relation, list(Relation._fields)).rows(connection, fresh)
    changed = [*fresh, *(row for row in stored if row not in wanted)]
    return {row.other_id for row in changed if row.other_id is not None}


def find(
    connection: Connection, source_ids: Collection[int], kinds: Collection[str], by: str, values: Collection[str]
) -> dict[str, list[int]]:
    """Ids of the records that have one of these ids or labels."""
    column = record.c.native_id if by == "id" else record.c.label
    found: dict[str, list[int]] = {}
    for part in chunks(list(values)):
        rows = connection.execute(
            select(column, record.c.id).where(
                record.c.source_id.in_(list(source_ids)), record.c.kind.in_(list(kinds)), column.in_(part)
            )
        )
        for value, id_ in rows:
            found.setdefault(value, []).append(id_)
    return found


def naming(connection: Connection, values: Collection[str]) -> list[Naming]:
    """Relations that name one of these and may mean another record by now: none was found yet, or it was looked for in
    another system, of which several sources may have the same name.
    """
    found: list[Naming] = []
    unsettled = or_(relation.c.other_id.is_(None), relation.c.system != "")
    for part in chunks(list(values)):
        rows = connection.execute(
            select(
                relation.c.id,
                relation.c.record_id,
                record.c.source_id,
                relation.c.to,
                relation.c.system,
                relation.c.by,
                relation.c.value,
                relation.c.other_id,
            )
            .join_from(relation, record, record.c.id == relation.c.record_id)
            .where(unsettled, relation.c.value.in_(part))
        )
        found.extend(Naming(*row) for row in rows)
    return found


def resolve(connection: Connection, found: Sequence[tuple[int, int | None]]) -> None:
    """``(relation, record)``: the record that is meant, by what was read so far."""
    if found:
        statement = update(relation).where(relation.c.id == bindparam("_id")).values(other_id=bindparam("_other"))
        connection.execute(statement, [{"_id": id_, "_other": other} for id_, other in found])


def settle(connection: Connection, ids: Sequence[int]) -> None:
    """Records that are no cases need no judgement of their own."""
    for part in chunks(ids):
        connection.execute(update(record).where(record.c.id.in_(part)).values(judge_at=None))


def make_due(connection: Connection, ids: Iterable[int], at: int) -> None:
    """Marks records as to be judged: ``NEW_FACTS``, which their neighbours feel too, or ``DEPENDS``."""
    marked = or_(record.c.judge_at.is_(None), record.c.judge_at > at)
    for part in chunks(sorted(ids)):
        wanted = and_(record.c.id.in_(part), record.c.updated_at.is_not(None), marked)
        connection.execute(update(record).where(wanted).values(judge_at=at))


def due_cases(connection: Connection, after: int) -> list[int]:
    """The next ids of records with new facts, of all sources and kinds."""
    rows = connection.execute(
        select(record.c.id)
        .where(record.c.judge_at == NEW_FACTS, record.c.id > after)
        .order_by(record.c.id)
        .limit(BATCH)
    )
    return list(rows.scalars())


def neighbours(connection: Connection, ids: Iterable[int], roles: Collection[str] | None = None) -> set[int]:
    """Records that name these or are named by them as pair or in a link; of links only in these roles, if given."""
    wanted: ColumnElement[bool] = relation.c.tie != "part"
    if roles is not None:
        wanted = or_(relation.c.tie == "pair", relation.c.role.in_(list(roles)))
    found: set[int] = set()
    for part in chunks(sorted(ids)):
        there = select(relation.c.other_id).where(relation.c.record_id.in_(part), wanted)
        back = select(relation.c.record_id).where(relation.c.other_id.in_(part), wanted)
        found.update(id_ for id_ in connection.execute(union_all(there, back)).scalars() if id_ is not None)
    return found


def relations(connection: Connection, ids: Sequence[int], tie: str) -> list[Relation]:
    """Relations of this kind from these records or to them."""
    found: dict[Relation, None] = {}
    for part in chunks(sorted(set(ids))):
        for side in (relation.c.record_id, relation.c.other_id):
            rows = connection.execute(select(*_COLUMNS).where(side.in_(part), relation.c.tie == tie))
            found.update((Relation(*row), None) for row in rows)
    return sorted(found, key=lambda row: (row[:_NAME], row.other_id or 0))


def others(connection: Connection, ids: Collection[int]) -> dict[int, OtherRecord]:
    """The records of these ids that were read."""
    columns = [
        record.c[name] for name in ("id", "source_id", "kind", "native_id", "created_at", "updated_at", "version")
    ]
    found: dict[int, OtherRecord] = {}
    for part in chunks(sorted(ids)):
        wanted = and_(record.c.id.in_(part), record.c.updated_at.is_not(None))
        for row in connection.execute(
            select(*columns, record.c.fields, record.c.tombstone, record.c.gone_at).where(wanted)
        ):
            found[row.id] = OtherRecord(*row[:7], orjson.loads(row.fields), row.tombstone, row.gone_at)
    return found


def changes(connection: Connection, ids: Collection[int], fields: Collection[str]) -> Iterator[Any]:
    """``record_id, field, new, occurred_at`` of changes of these fields as trails tell them, in the order of time."""
    for part in chunks(sorted(ids)):
        yield from connection.execute(
            select(event.c.record_id, event.c.field, event.c.new, event.c.occurred_at)
            .where(event.c.record_id.in_(part), event.c.field.in_(list(fields)), event.c.witness.not_in(LESSER))
            .order_by(event.c.occurred_at, event.c.id)
        )


def own_tickets(connection: Connection) -> set[tuple[str, str]]:
    """``(source's name, id)`` of every ticket that we opened."""
    return {(target, native) for target, native in connection.execute(select(ticket.c.target, ticket.c.native_id))}


def people(connection: Connection) -> list[tuple[str, str]]:
    """``(pseudonym, pseudonym that stands for the account)`` of all sources."""
    return [(name, account) for name, account in connection.execute(select(person.c.name, person.c.account))]


def unread_kinds(connection: Connection, kinds: Collection[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """Those of the ``(source, kind)`` of which not all was read, and why."""
    names = dict(connection.execute(select(source.c.id, source.c.name)).all())
    read = {
        (source_id, kind): since
        for source_id, kind, since in connection.execute(
            select(reading.c.source_id, reading.c.kind, reading.c.unfinished_since)
        )
    }
    told: dict[tuple[int, str], str] = {}
    for source_id, kind in sorted(kinds):
        if (source_id, kind) not in read:
            told[source_id, kind] = f"{kind} of {names[source_id]} was not read yet"
        elif read[source_id, kind] is not None:
            told[source_id, kind] = f"{kind} of {names[source_id]} was not read to its end"
    whole = and_(gap.c.record == "", gap.c.field == "", gap.c.reason.in_(_WHOLE))
    # Nobody knows of which case a broken row would have told.
    refused = select(gap.c.source_id, gap.c.stream, gap.c.reason).where(
        gap.c.closed_at.is_(None), or_(whole, gap.c.reason == BROKEN)
    )
    for source_id, stream, reason in connection.execute(refused):
        if (source_id, stream) in kinds:
            told[source_id, stream] = f"{stream} of {names[source_id]}: {reason}"
    return told


def kinds_shown(connection: Connection, kinds: Collection[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those of the ``(source, kind)`` of which there is any record."""
    mine = and_(record.c.source_id == bindparam("_source"), record.c.kind == bindparam("_kind"))
    first = select(record.c.id).where(mine, record.c.updated_at.is_not(None)).limit(1)
    asked = ((key, {"_source": key[0], "_kind": key[1]}) for key in kinds)
    return {key for key, names in asked if connection.execute(first, names).first() is not None}


_WHOLE = ("refused", "not-served", "rows-hidden", "not-asked")
"""Reasons of gaps that leave a whole kind, or an unknown part of it, unread."""


def cut_histories(connection: Connection, source_id: int) -> set[str]:
    """Ids of records of whose history the source is known to have kept back a part, or whose newest state is broken."""
    rows = connection.execute(
        select(gap.c.record).where(
            gap.c.source_id == source_id,
            gap.c.reason.in_(("history-cut", BROKEN)),
            gap.c.record != "",
            gap.c.closed_at.is_(None),
        )
    )
    return set(rows.scalars())


def make_unread_due(connection: Connection, process: str, prefix: str) -> None:
    """Cases about which something could not be said because it was not read are judged again."""
    waiting = select(verdict.c.record_id).where(
        verdict.c.process == process,
        verdict.c.superseded_at.is_(None),
        verdict.c.status == "unknown",
        verdict.c.reason.startswith(prefix, autoescape=True),
    )
    wanted = and_(record.c.id.in_(waiting), or_(record.c.judge_at.is_(None), record.c.judge_at > DEPENDS))
    connection.execute(update(record).where(wanted).values(judge_at=DEPENDS))
