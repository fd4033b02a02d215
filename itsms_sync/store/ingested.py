"""Facts as they were read: sources, polls, cursors, payloads, records, events, gaps, people.

The cursor of a page is written in the transaction that stores the page.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, and_, bindparam, delete, func, insert, or_, select, true, update

from itsms_sync.records import TRAIL, Configuration, Directory, Event, Facts, Gap, Identity, Millis, Page, Record, Row
from itsms_sync.store.border import StoreBorder
from itsms_sync.store.coverage import REFUSED, WHOLE, Span, Windows
from itsms_sync.store.database import Bulk, Lookup, chunks, new_id, on_rollback
from itsms_sync.store.schema import (
    NEW_FACTS,
    audited_field,
    choice,
    cursor,
    event,
    field_list,
    gap,
    party,
    payload,
    person,
    poll,
    reading,
    record,
    source,
    span,
)
from itsms_sync.store.snapshots import State, between, follows
from itsms_sync.store.tombstones import bury, raise_up

FORMS = ("user_name", "sys_id", "accountId", "key", "name", "email")
"""Forms of identifiers under which connectors give accounts to the border."""

BROKEN = "row-broken"
"""Reason of a gap: a row came that nobody can read."""

UNTRACED = "history-incomplete"
"""Reason of a gap: a field changed, and the history that ought to tell does not."""

REFUSALS = ("refused", "not-served", "not-asked")
"""Reasons of gaps that leave a stream unread."""
BY_ID = " by id"
"""Ends the stream's name in coverage records of records that were asked for by name."""


@dataclass(frozen=True, slots=True)
class StoredSource:
    id: int
    name: str
    instance: str | None
    directory_at: int | None


class Ingested:
    """What one source has told us."""

    def __init__(
        self, engine: Engine, name: str, system: str, judged: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        """``judged``: kind of record -> its fields that matter to a judgement, where others change by themselves."""
        self._engine = engine
        self._judged = judged or {}
        with engine.begin() as connection:
            found = connection.execute(select(source.c.id).where(source.c.name == name)).scalar()
            if found is None:
                result = connection.execute(insert(source).values(name=name, system=system))
                found = new_id(result)
        self.source_id: int = found
        self.border = StoreBorder(engine, self.source_id)
        self.windows = Windows(engine, self.source_id)
        self._payloads = Bulk(
            engine,
            payload,
            ["source_id", "kind", "stream", "row_key", "digest", "field_list_id", "poll_id", "learned_at", "body"],
        )
        self._audited: set[tuple[str, str]] = set()
        self._audited_fields = Bulk(engine, audited_field, ["source_id", "kind", "field"])
        self._known_rows = Lookup(
            engine,
            "SELECT row_key, digest FROM payload "
            "WHERE source_id = {given} AND stream = {given} AND row_key IN ({values})",
        )
        self._record_of = Lookup(
            engine,
            "SELECT native_id, id, updated_at FROM record "
            "WHERE source_id = {given} AND kind = {given} AND native_id IN ({values})",
        )
        self._touched = Lookup(
            engine,
            "UPDATE record SET judge_at = 0, learned_at = {given} "
            "WHERE (judge_at IS NULL OR judge_at <> 0) AND id IN ({values})",
        )
        self._stubs = Bulk(engine, record, ["source_id", "kind", "native_id", "learned_at", "judge_at"])
        self._events = Bulk(
            engine,
            event,
            [
                "record_id",
                "witness",
                "witness_id",
                "field",
                "old",
                "new",
                "actor",
                "position",
                "occurred_at",
                "learned_at",
                "since",
            ],
        )

    def stored(self) -> StoredSource:
        with self._engine.begin() as connection:
            row = connection.execute(select(source).where(source.c.id == self.source_id)).one()
        return StoredSource(row.id, row.name, row.instance, row.directory_at)

    def identified(self, identity: Identity, skew: int | None, at: int) -> None:
        """Remembers who answered, and by how much its clock is ahead of ours (ms)."""
        with self._engine.begin() as connection:
            connection.execute(
                update(source)
                .where(source.c.id == self.source_id)
                .values(
                    instance=func.coalesce(source.c.instance, identity.instance),
                    account=identity.account,
                    server_time=identity.server_time,
                    seen_at=at,
                    skew=func.coalesce(skew, source.c.skew),
                )
            )

    def begin_kind(self, kind: str, fields: Sequence[str], at: int) -> None:
        """Marks the kind as unfinished until ``end_kind``."""
        names = ",".join(sorted(fields))
        mine = and_(reading.c.source_id == self.source_id, reading.c.kind == kind)
        values = {"fields": names, "unfinished_since": at}
        with self._engine.begin() as connection:
            compared = connection.execute(select(reading.c.compared).where(mine)).scalar()
            if compared is None:
                values |= {"source_id": self.source_id, "kind": kind, "compared": names}
                connection.execute(insert(reading).values(values))
            else:
                values["compared"] = ",".join(sorted({*fields, *compared.split(",")}))
                connection.execute(update(reading).where(mine).values(values))

    def end_kind(self, kind: str, skew: int | None) -> None:
        """All that the source had to say of the kind was read (or will not be told), with its clock ahead of ours by
        ``skew`` (ms; ``None``: as before).
        """
        mine = and_(reading.c.source_id == self.source_id, reading.c.kind == kind)
        values = {"unfinished_since": None, "skew": func.coalesce(skew, reading.c.skew)}
        with self._engine.begin() as connection:
            connection.execute(update(reading).where(mine).values(values))

    def skew_of(self, kind: str) -> int | None:
        """By how much the source's clock was ahead of ours when the kind was last read to its end (ms)."""
        mine = and_(reading.c.source_id == self.source_id, reading.c.kind == kind)
        with self._engine.begin() as connection:
            return connection.execute(select(reading.c.skew).where(mine)).scalar()

    def begin_poll(self, connection: Connection, one: Span | None, page: Page, at: int, *, idle: bool) -> int:
        """Opens the coverage record of the poll that ``page`` starts, in a window or, without one, of records that were
        asked for by name. An ``idle`` one, which is over with it and has nothing new, continues the one before it if
        that was idle too: else a quiet year would leave a million.
        """
        if idle and one is not None and (before := self._idle_poll(connection, one.id, page)) is not None:
            return before
        values = {
            "source_id": self.source_id,
            "stream": page.stream + BY_ID if one is None else page.stream,
            "until": None if one is None else one.end,
            "asked": page.asked,
            "field_list_id": self._field_list(connection, page.fields),
            "started_at": at,
            "server_time": page.server_time,
            "pages": 0,
            "rows_seen": 0,
            "rows_new": 0,
            "closed": False,
        }
        return new_id(connection.execute(insert(poll).values(values)))

    def _idle_poll(self, connection: Connection, span_id: int, page: Page) -> int | None:
        """The newest poll of the stream in the window, if it was read to its end and brought nothing new."""
        asked = poll.c.field_list_id == self._field_list(connection, page.fields)
        return connection.execute(
            select(poll.c.id)
            .join_from(cursor, poll)
            .where(cursor.c.span_id == span_id, cursor.c.stream == page.stream)
            .where(poll.c.closed.is_(True), poll.c.rows_new == 0, asked)
        ).scalar()

    def _field_list(self, connection: Connection, fields: Sequence[str]) -> int:
        names = ",".join(fields)
        found = connection.execute(select(field_list.c.id).where(field_list.c.fields == names)).scalar()
        if found is not None:
            return int(found)
        return new_id(connection.execute(insert(field_list).values(fields=names)))

    def new_rows(self, connection: Connection, page: Page) -> list[tuple[Row, bytes, int]]:
        """The page's rows that are not stored yet, with their bytes and digest."""
        fields = ",".join(page.fields).encode()
        packed = []
        for row in page.rows:
            body = orjson.dumps(row.body)
            digest = hashlib.blake2b(body + fields, digest_size=8).digest()
            packed.append((row, body, int.from_bytes(digest, "big", signed=True)))
        keys = [row.key for row in page.rows]
        known = {(k, d) for k, d in self._known_rows.ask(connection, (self.source_id, page.stream), keys)}
        return [item for item in packed if (item[0].key, item[2]) not in known]

    def store(
        self,
        connection: Connection,
        span_id: int | None,
        poll_id: int,
        kind: str,
        page: Page,
        rows: Sequence[tuple[Row, bytes, int]],
        facts: Facts,
        at: int,
    ) -> None:
        """Stores a page's new rows with the facts in them, its gaps and its cursor. Without a window it is of records
        by name, whose cursors say nothing about the streams."""
        fields = self._field_list(connection, page.fields)
        self._payloads.rows(
            connection,
            [
                (self.source_id, kind, page.stream, row.key, digest, fields, poll_id, at, body)
                for row, body, digest in rows
            ],
        )
        self.store_facts(connection, kind, facts, at)
        self._note_presence(connection, kind, facts, at)
        self.border.flush(connection)
        if facts.records:
            self.close_field_gaps(connection, page.stream, {name for item in facts.records for name in item.fields}, at)
        self._close_mended(connection, page, at)
        self._doubt_broken(connection, kind, self.note_gaps(connection, page.gaps, at), at)
        if span_id is not None:
            self._move_cursor(connection, span_id, poll_id, page)
        connection.execute(
            update(poll)
            .where(poll.c.id == poll_id)
            .values(
                pages=poll.c.pages + 1,
                rows_seen=poll.c.rows_seen + len(page.rows),
                rows_new=poll.c.rows_new + len(rows),
                closed=page.closed,
                ended_at=at,
                server_time=page.server_time,
            )
        )

    @staticmethod
    def _move_cursor(connection: Connection, span_id: int, poll_id: int, page: Page) -> None:
        """A stream that was read whole stays so while more of it is read, until it is refused. It is covered up to the
        first answer of the poll: what was committed late meanwhile may have been passed by.
        """
        key = and_(cursor.c.span_id == span_id, cursor.c.stream == page.stream)
        values: dict[str, Any] = {"value": page.cursor, "poll_id": poll_id}
        opened: Any = func.coalesce(cursor.c.opened_at, page.server_time)
        fresh = {"state": "open", "opened_at": None if page.closed else page.server_time}
        if page.closed:
            refused = any(item.reason in REFUSALS and not item.record and not item.field for item in page.gaps)
            values |= {"state": REFUSED if refused else WHOLE}
            fresh |= {**values, "covered_at": page.server_time}
        moved = {**values, "covered_at": opened, "opened_at": None} if page.closed else {**values, "opened_at": opened}
        if connection.execute(update(cursor).where(key).values(moved)).rowcount == 0:
            connection.execute(insert(cursor).values(span_id=span_id, stream=page.stream, **{**values, **fresh}))
        rows = span.c.rows_seen + len(page.rows)
        connection.execute(update(span).where(span.c.id == span_id).values(rows_seen=rows, attempts=0))

    def store_facts(self, connection: Connection, kind: str, facts: Facts, at: int) -> None:
        """Records and events, for reading and for replay. Touched records are to be judged anew. What differs between a
        record and what was known of it becomes events of its own."""
        touched = list(dict.fromkeys([*(r.id for r in facts.records), *(e.record for e in facts.events)]))
        ids, known = self._record_ids(connection, kind, touched, at)
        seen = self._seen(connection, kind, facts.records, ids, known, at)
        moot = self._moot(connection, kind, facts, ids, known)
        self._events.rows(connection, [_event_row(e, ids[e.record], at) for e in (*facts.events, *seen)])
        self._note_audited(connection, kind, {e.field for e in facts.events if e.witness in TRAIL} - {""})
        self._store_records(connection, facts.records, ids)
        self._touched.tell(connection, (at,), [id_ for name, id_ in ids.items() if name not in moot])

    def _moot(
        self, connection: Connection, kind: str, facts: Facts, ids: Mapping[str, int], known: Collection[str]
    ) -> set[str]:
        """Records that were read before and of which nothing differs that matters to a judgement."""
        judged = self._judged.get(kind)
        if judged is None:
            return set()
        states = _states(connection, {ids[item.id]: item.id for item in facts.records if item.id in known})

        def differs(item: Record) -> bool:
            before = states.get(item.id)
            return before is None or any(before.fields.get(name) != item.fields.get(name) for name in judged)

        changed = {item.id for item in facts.records if differs(item)} | {event.record for event in facts.events}
        return {item.id for item in facts.records} - changed

    def _note_presence(self, connection: Connection, kind: str, facts: Facts, at: int) -> None:
        """A record that was read is there; one of whose deletion the source tells is not. Not so in a replay, which
        does not learn this anew."""
        if not facts.records and not facts.gone:
            return
        given = (self.source_id, kind)
        shown = self._record_of.ask(connection, given, [item.id for item in facts.records])
        raise_up(connection, [id_ for _, id_, _ in shown], at)
        told = self._record_of.ask(connection, given, [fate.id for fate in facts.gone])
        gone = {name: id_ for name, id_, _ in told}
        bury(connection, [(gone[fate.id], fate) for fate in facts.gone if fate.id in gone], at)

    def _note_audited(self, connection: Connection, kind: str, fields: set[str]) -> None:
        fresh = [(self.source_id, kind, field) for field in sorted(fields) if (kind, field) not in self._audited]
        if not fresh:
            return
        on_rollback(connection, self._audited.clear)
        self._audited_fields.rows(connection, fresh)
        self._audited.update((kind, field) for _, kind, field in fresh)

    def forget_audited(self) -> None:
        """For a replay, which finds out anew which fields have a history."""
        self._audited.clear()

    def _record_ids(
        self, connection: Connection, kind: str, native: Sequence[str], at: int
    ) -> tuple[dict[str, int], set[str]]:
        """Ids of the records, and which of them were read before; one that history speaks of before its own row was
        read gets its place now."""
        given = (self.source_id, kind)
        found = list(self._record_of.ask(connection, given, native))
        ids = {name: id_ for name, id_, _ in found}
        missing = [name for name in native if name not in ids]
        if missing:
            self._stubs.rows(connection, [(self.source_id, kind, name, at, NEW_FACTS) for name in missing])
            ids.update((name, id_) for name, id_, _ in self._record_of.ask(connection, given, missing))
        return ids, {name for name, _, updated in found if updated is not None}

    def _seen(
        self,
        connection: Connection,
        kind: str,
        records: Sequence[Record],
        ids: Mapping[str, int],
        known: Collection[str],
        at: int,
    ) -> list[Event]:
        """What we see ourselves: how each record differs from what was known of it, in the fields that were asked for.
        A batch may hold several states of one record, in the order in which they were read."""
        met = {ids[item.id]: item.id for item in records if item.id in known}
        if not met and len({item.id for item in records}) == len(records):
            return []
        states, fields = _states(connection, met), self._compared(connection, kind)
        events: list[Event] = []
        for item in records:
            before = states.get(item.id)
            if before is not None:
                events.extend(between(before, item, fields, at))
            if before is None or follows(before, item):
                states[item.id] = State(item.updated, item.version, item.fields)
        return events

    def _compared(self, connection: Connection, kind: str) -> list[str]:
        """The fields of the kind that mappings name or have named: a replay finds what was found before."""
        mine = and_(reading.c.source_id == self.source_id, reading.c.kind == kind)
        names = connection.execute(select(reading.c.compared).where(mine)).scalar()
        return names.split(",") if names else []

    def _store_records(self, connection: Connection, records: Sequence[Record], ids: Mapping[str, int]) -> None:
        """An older state of a record never replaces a newer one, in whatever order they arrive. A script may date a
        save back; the source's own counter of saves tells it from an older one."""
        counted = record.c.version < bindparam("_version")
        newer = record.c.updated_at.is_(None) | (record.c.updated_at <= bindparam("_updated")) | counted
        statement = update(record).where(record.c.id == bindparam("_id"), newer)
        values: dict[str, Any] = {column: bindparam(f"_{column.removesuffix('_at')}") for column in _STATE}
        rows = [
            {
                "_id": ids[item.id],
                "_label": item.label,
                "_created": item.created,
                "_updated": item.updated,
                "_version": item.version,
                "_fields": orjson.dumps(item.fields).decode(),
            }
            for item in records
        ]
        if rows:
            connection.execute(statement.values(values), rows)

    def note_gaps(self, connection: Connection, gaps: Sequence[Gap], at: int) -> list[Gap]:
        """Adds those that are not open yet, and returns them."""
        new = []
        for item in gaps:
            same = and_(
                gap.c.source_id == self.source_id,
                gap.c.stream == item.stream,
                gap.c.reason == item.reason,
                gap.c.record == (item.record or ""),
                gap.c.field == (item.field or ""),
                gap.c.end.is_not_distinct_from(item.end),
                gap.c.closed_at.is_(None),
            )
            if connection.execute(select(gap.c.id).where(same)).first() is None:
                new.append(item)
                connection.execute(
                    insert(gap).values(
                        source_id=self.source_id,
                        stream=item.stream,
                        reason=item.reason,
                        message=item.message,
                        record=item.record or "",
                        field=item.field or "",
                        start=item.start,
                        end=item.end,
                        opened_at=at,
                    )
                )
        return new

    def _doubt_broken(self, connection: Connection, kind: str, gaps: Sequence[Gap], at: int) -> None:
        """What is known of a record is in doubt once its row is broken: it is judged anew."""
        broken = [item.record for item in gaps if item.stream == kind and item.reason == BROKEN and item.record]
        known = self._record_of.ask(connection, (self.source_id, kind), broken)
        self._touched.tell(connection, (at,), [id_ for _, id_, _ in known])

    def close_field_gaps(self, connection: Connection, stream: str, delivered: Collection[str], at: int) -> None:
        """Fields that could not be read before and came now."""
        connection.execute(
            update(gap)
            .where(
                gap.c.source_id == self.source_id,
                gap.c.stream == stream,
                gap.c.reason.in_(("field-refused", "field-not-served")),
                gap.c.field.in_(sorted(delivered)),
                gap.c.closed_at.is_(None),
            )
            .values(closed_at=at)
        )

    def close_gaps(
        self,
        connection: Connection,
        stream: str,
        reason: str,
        at: int,
        within: tuple[Millis | None, Millis | None] = (None, None),
    ) -> None:
        """A later read made the stream's gaps of this reason good, as far as they lie within that time."""
        since, until = within
        low = true() if since is None else gap.c.start >= since
        high = true() if until is None else gap.c.end <= until
        connection.execute(
            update(gap)
            .where(
                gap.c.source_id == self.source_id,
                gap.c.stream == stream,
                gap.c.reason == reason,
                gap.c.closed_at.is_(None),
                low,
                high,
            )
            .values(closed_at=at)
        )

    def _close_mended(self, connection: Connection, page: Page, at: int) -> None:
        """Rows that were broken and came whole now; histories that were cut and came without that being said again."""
        mine = and_(gap.c.source_id == self.source_id, gap.c.stream == page.stream, gap.c.closed_at.is_(None))
        whole = {
            BROKEN: {row.key for row in page.rows},
            "history-cut": {item.id for item in page.records} | {item.record for item in page.events},
        }
        wanted = and_(gap.c.record != "", gap.c.reason.in_(sorted(whole)))
        found = connection.execute(select(gap.c.id, gap.c.reason, gap.c.record).where(mine, wanted)).all()
        if not found:
            return
        again = {(item.reason, item.record) for item in page.gaps}
        mended = [
            id_ for id_, reason, record_ in found if record_ in whole.get(reason, ()) and (reason, record_) not in again
        ]
        for part in chunks(mended):
            connection.execute(update(gap).where(gap.c.id.in_(part)).values(closed_at=at))

    def settle_untraced(
        self,
        connection: Connection,
        kind: str,
        records: Collection[str],
        fields: Collection[str],
        found: Sequence[Gap],
        at: int,
    ) -> None:
        """Makes ``found`` all open gaps about changes of these fields of these records that their history does not
        tell."""
        still = {(item.record, item.field) for item in found}
        for part in chunks(sorted(records)):
            mine = and_(gap.c.source_id == self.source_id, gap.c.record.in_(part), gap.c.closed_at.is_(None))
            known = connection.execute(
                select(gap.c.id, gap.c.record, gap.c.field).where(
                    mine, gap.c.stream == kind, gap.c.reason == UNTRACED, gap.c.field.in_(sorted(fields))
                )
            )
            told = [id_ for id_, record_, field in known if (record_, field) not in still]
            for piece in chunks(told):
                connection.execute(update(gap).where(gap.c.id.in_(piece)).values(closed_at=at))
        self.note_gaps(connection, found, at)

    def close_unasked(self, connection: Connection, kind: str, asked: Collection[str], at: int) -> None:
        """Gaps of streams of the kind that are not asked any more, because others tell the same."""
        of_kind = and_(span.c.source_id == self.source_id, span.c.kind == kind)
        streams = select(cursor.c.stream).join_from(cursor, span).where(of_kind)
        mine = and_(gap.c.source_id == self.source_id, gap.c.closed_at.is_(None), gap.c.stream.in_(streams))
        connection.execute(update(gap).where(mine, gap.c.stream.not_in(list(asked))).values(closed_at=at))

    def close_reference_gaps(self, kinds: Collection[str], gaps: Sequence[Gap], at: int) -> None:
        """What people, groups and the configuration were read without before and is not missing any more: all open gaps
        that are of no stream with a cursor and not among ``gaps``."""
        streams = select(cursor.c.stream).join_from(cursor, span).where(span.c.source_id == self.source_id)
        others = and_(gap.c.stream.not_in(streams), gap.c.stream.not_in(["source", *kinds]), gap.c.record == "")
        mine = and_(gap.c.source_id == self.source_id, gap.c.closed_at.is_(None), others)
        still = {(item.stream, item.reason, item.field or "") for item in gaps}
        with self._engine.begin() as connection:
            found = connection.execute(select(gap.c.id, gap.c.stream, gap.c.reason, gap.c.field).where(mine)).all()
            gone = [id_ for id_, *named in found if tuple(named) not in still]
            for part in chunks(gone):
                connection.execute(update(gap).where(gap.c.id.in_(part)).values(closed_at=at))

    def parked(self) -> dict[str, tuple[str, ...]]:
        """Stream -> ids of the rows that were broken when they were last read."""
        is_open = and_(gap.c.source_id == self.source_id, gap.c.reason == BROKEN, gap.c.closed_at.is_(None))
        with self._engine.begin() as connection:
            found = connection.execute(select(gap.c.stream, gap.c.record).where(is_open, gap.c.record != "")).all()
        streams = sorted({stream for stream, _ in found})
        return {stream: tuple(key for name, key in found if name == stream) for stream in streams}

    def store_directory(self, directory: Directory, at: int) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(person).where(person.c.source_id == self.source_id))
            connection.execute(delete(party).where(party.c.source_id == self.source_id))
            people = [
                (name, self.source_id, item.names[0], item.system, item.active)
                for item in directory.people
                for name in item.names
            ]
            Bulk(self._engine, person, ["name", "source_id", "account", "system", "active"]).rows(connection, people)
            groups = [(self.source_id, g.id, g.name, g.active) for g in directory.groups]
            Bulk(self._engine, party, ["source_id", "native_id", "title", "active"]).rows(connection, groups)
            self.border.flush(connection)
            self.note_gaps(connection, directory.gaps, at)

    def store_configuration(self, kind: str, configuration: Configuration, at: int) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(choice).where(choice.c.source_id == self.source_id, choice.c.kind == kind))
            rows = [
                (self.source_id, kind, field, value, label)
                for field, labels in configuration.choices.items()
                for value, label in labels.items()
            ]
            Bulk(self._engine, choice, ["source_id", "kind", "field", "value", "label"]).rows(connection, rows)
            self.note_gaps(connection, configuration.gaps, at)

    def directory_read(self, at: int) -> None:
        """People, groups and the configuration of every kind are stored."""
        with self._engine.begin() as connection:
            connection.execute(update(source).where(source.c.id == self.source_id).values(directory_at=at))

    def system_accounts(self, configured: Sequence[str]) -> frozenset[str]:
        """Pseudonyms of the accounts that are no persons: as the source says, and as the operator has configured.

        A configured name counts under each form of identifier, because an account is written into rows by several. The
        others that its account has are known from the directory.
        """
        named = {self.border.person(form, name) for name in configured for form in FORMS}
        mine = person.c.source_id == self.source_id
        account = select(person.c.account).where(mine, person.c.name.in_(sorted(named)))
        with self._engine.begin() as connection:
            wanted = or_(person.c.system.is_(True), person.c.account.in_(account))
            known = connection.execute(select(person.c.name).where(mine, wanted)).scalars().all()
        return frozenset((*named, *known))

    def payloads(self, connection: Connection) -> Iterator[tuple[str, str, int, list[Row]]]:
        """All stored rows in the order in which they were learned, in pieces ``(kind, stream, learned_at, rows)``."""
        last = 0
        while True:
            rows = connection.execute(
                select(payload)
                .where(payload.c.source_id == self.source_id, payload.c.id > last)
                .order_by(payload.c.id)
                .limit(1000)
            ).all()
            if not rows:
                return
            last = rows[-1].id
            yield from _runs(rows)


_STATE = ("label", "created_at", "updated_at", "version", "fields")


def _states(connection: Connection, ids: Mapping[int, str]) -> dict[str, State]:
    """What is known of the records with these ids, by their own ids."""
    columns = (record.c.id, record.c.updated_at, record.c.version, record.c.fields)
    found: dict[str, State] = {}
    for part in chunks(list(ids)):
        for id_, updated, version, fields in connection.execute(select(*columns).where(record.c.id.in_(part))):
            found[ids[id_]] = State(updated, version, orjson.loads(fields))
    return found


def _runs(rows: Sequence[Any]) -> Iterator[tuple[str, str, int, list[Row]]]:
    run: list[Row] = []
    head: tuple[str, str, int] | None = None
    for row in rows:
        mark = (row.kind, row.stream, row.learned_at)
        if mark != head and head is not None:
            yield (*head, run)
            run = []
        head = mark
        run.append(Row(row.stream, row.row_key, orjson.loads(row.body)))
    if head is not None:
        yield (*head, run)


def _event_row(item: Event, record_id: int, at: int) -> tuple[Any, ...]:
    return (
        record_id,
        item.witness,
        item.witness_id,
        item.field,
        item.old,
        item.new,
        item.actor,
        item.order,
        item.at,
        at,
        item.since,
    )
