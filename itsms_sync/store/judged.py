"""What can be recomputed: which records are to be judged, their histories, verdicts, deviations and case states."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Engine, and_, bindparam, delete, func, insert, select, tuple_, update

from itsms_sync.records import TRAIL, Witness
from itsms_sync.store.database import Bulk, chunks, new_id
from itsms_sync.store.schema import (
    NEW_FACTS,
    audited_field,
    case_state,
    deviation,
    event,
    judgement,
    poll,
    reading,
    record,
    relation,
    source,
    tally,
    verdict,
)

BATCH = 2500
LESSER = sorted(witness.value for witness in Witness if witness not in TRAIL)
"""Witnesses that count only where no better one tells."""


class StoredRecord(NamedTuple):
    id: int
    native_id: str
    created: int | None
    updated: int
    version: int | None
    fields: Mapping[str, str | None]
    tombstone: str | None
    """Why the source no longer shows it."""
    gone_at: int | None


class StoredVerdict(NamedTuple):
    id: int
    record_id: int
    requirement: str
    status: str
    reason: str | None
    detail: str | None
    occurred_at: int | None
    recheck_at: int | None


class NewVerdict(NamedTuple):
    record_id: int
    requirement: str
    check: str
    status: str
    reason: str | None
    detail: str | None
    occurred_at: int | None
    recheck_at: int | None


class Counted(NamedTuple):
    """What the tally counts by, besides process and source."""

    period: int
    requirement: str
    check: str
    scope: str
    status: str


class CaseState(NamedTuple):
    record_id: int
    opened_at: int
    ended_at: int | None
    state: str | None
    scope: str
    place: str
    visited: str
    period: int


OPEN = 1
"""``case_state.period`` of a case that has not ended."""


def period_of(ended: int, cut_at: int | None) -> int:
    """Start of the period by which the tally counts a case that ended at that instant: its month in UTC, cut at
    ``cut_at``; all ms.
    """
    moment = datetime.fromtimestamp(ended / 1000, UTC)
    start = int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp() * 1000)
    return start if cut_at is None or not start < cut_at <= ended else cut_at


def due(
    connection: Connection, source_id: int, kind: str, now: int, after: tuple[int, int]
) -> tuple[list[StoredRecord], tuple[int, int]]:
    """The next records that have new facts or whose time has come, by id, and their place, behind which to go on. They
    come in the order in which they fell due: in that of their ids, each call would look at all that are due.
    """
    found = connection.execute(
        select(
            record.c.id,
            record.c.native_id,
            record.c.created_at,
            record.c.updated_at,
            record.c.version,
            record.c.fields,
            record.c.tombstone,
            record.c.gone_at,
            record.c.judge_at,
        )
        .where(
            record.c.source_id == source_id,
            record.c.kind == kind,
            record.c.updated_at.is_not(None),
            record.c.judge_at.between(after[0], now),
            tuple_(record.c.judge_at, record.c.id) > after,
        )
        .order_by(record.c.judge_at, record.c.id)
        .limit(BATCH)
    ).all()
    place = (found[-1].judge_at, found[-1].id) if found else after
    rows = sorted(found, key=lambda row: row.id)
    return [StoredRecord(*row[:5], orjson.loads(row.fields), row.tombstone, row.gone_at) for row in rows], place


def note_judged(connection: Connection, rechecks: Sequence[tuple[int, int | None]]) -> None:
    """Notes when each record has to be judged next: ``(record_id, instant or None)``."""
    connection.execute(
        update(record).where(record.c.id == bindparam("_id")).values(judge_at=bindparam("_at")),
        [{"_id": id_, "_at": at} for id_, at in rechecks],
    )


def cut(connection: Connection, source_id: int, at: int | None) -> None:
    """Remembers at which instant the periods of the source's cases are cut."""
    connection.execute(update(source).where(source.c.id == source_id).values(cut_at=at))


def make_all_due(connection: Connection) -> None:
    """Every record is to be judged anew. Stored, so that a judgement that is cut off goes on where it stood."""
    connection.execute(update(record).values(judge_at=NEW_FACTS))


def events(connection: Connection, ids: Sequence[int]) -> Iterator[Sequence[Any]]:
    """``record_id, position, occurred_at, field, old, new, actor`` of these records as trails tell it, in the order
    they were learned.
    """
    columns = (
        event.c.record_id,
        event.c.position,
        event.c.occurred_at,
        event.c.field,
        event.c.old,
        event.c.new,
        event.c.actor,
    )
    for wanted in _of_records(ids):
        mine = and_(wanted, event.c.witness.not_in(LESSER))
        yield connection.execute(select(*columns).where(mine).order_by(event.c.record_id, event.c.id)).all()


def observations(connection: Connection, ids: Sequence[int]) -> Iterator[Sequence[Any]]:
    """``record_id, position, occurred_at, since, field, old, new, witness`` of what metrics and snapshots tell."""
    columns = (
        event.c.record_id,
        event.c.position,
        event.c.occurred_at,
        event.c.since,
        event.c.field,
        event.c.old,
        event.c.new,
        event.c.witness,
    )
    for wanted in _of_records(ids):
        mine = and_(wanted, event.c.witness.in_(LESSER))
        yield connection.execute(select(*columns).where(mine).order_by(event.c.record_id, event.c.id)).all()


def _of_records(ids: Sequence[int]) -> Iterator[ColumnElement[bool]]:
    for low, high, part in _ranges(ids):
        yield event.c.record_id.between(low, high) if part is None else event.c.record_id.in_(part)


class Judged:
    """Verdicts of one process."""

    def __init__(self, engine: Engine, process: str) -> None:
        self._process = process
        self._verdicts = Bulk(
            engine,
            verdict,
            [
                "record_id",
                "process",
                "requirement",
                "check",
                "status",
                "reason",
                "detail",
                "occurred_at",
                "recheck_at",
                "learned_at",
                "judgement_id",
            ],
        )
        self._states = Bulk(
            engine,
            case_state,
            ["record_id", "process", "opened_at", "ended_at", "state", "scope", "place", "visited", "period"],
            update=["opened_at", "ended_at", "state", "scope", "place", "visited", "period"],
        )

    def current(self, connection: Connection, ids: Sequence[int]) -> list[StoredVerdict]:
        """The verdicts of these records that are not superseded."""
        found: list[StoredVerdict] = []
        for low, high, part in _ranges(ids):
            wanted = verdict.c.record_id.between(low, high) if part is None else verdict.c.record_id.in_(part)
            rows = connection.execute(
                select(
                    verdict.c.id,
                    verdict.c.record_id,
                    verdict.c.requirement,
                    verdict.c.status,
                    verdict.c.reason,
                    verdict.c.detail,
                    verdict.c.occurred_at,
                    verdict.c.recheck_at,
                ).where(wanted, self._stands())
            ).all()
            found.extend(map(StoredVerdict._make, rows))
        return found

    def _stands(self) -> ColumnElement[bool]:
        """A verdict of the process that is not superseded. The process is compared as no index has it: SQLite, which
        knows nothing of how values are spread, would walk all verdicts of the process for those of a few records.
        """
        return and_(verdict.c.superseded_at.is_(None), verdict.c.process.concat("") == self._process)

    def counted(self, connection: Connection, ids: Sequence[int]) -> Counter[Counted]:
        """How many verdicts of these records stand, as the tally counts them."""
        found: Counter[Counted] = Counter()
        keys = (case_state.c.period, verdict.c.requirement, verdict.c.check, case_state.c.scope, verdict.c.status)
        of_case = and_(case_state.c.record_id == verdict.c.record_id, case_state.c.process == verdict.c.process)
        for low, high, part in _ranges(ids):
            wanted = verdict.c.record_id.between(low, high) if part is None else verdict.c.record_id.in_(part)
            rows = connection.execute(
                select(*keys, func.count())
                .join_from(verdict, case_state, of_case)
                .where(wanted, self._stands())
                .group_by(*keys)
            )
            for *key, number in rows:
                found[Counted(*key)] += number
        return found

    def tell(self, connection: Connection, source_id: int, more: Counter[Counted], less: Counter[Counted]) -> None:
        """Moves the tally by what is counted now and was not before, and the other way round."""
        for key in more.keys() | less.keys():
            if (by := more[key] - less[key]) != 0:
                same = {"process": self._process, "source_id": source_id, **key._asdict()}
                wanted = and_(*(tally.c[name] == value for name, value in same.items()))
                if connection.execute(update(tally).where(wanted).values(cases=tally.c.cases + by)).rowcount == 0:
                    connection.execute(insert(tally).values(cases=by, **same))

    def replace(
        self, connection: Connection, judgement_id: int, old: Sequence[int], new: Sequence[NewVerdict], at: int
    ) -> None:
        """Supersedes verdicts by id and adds new ones."""
        for part in chunks(old):
            connection.execute(update(verdict).where(verdict.c.id.in_(part)).values(superseded_at=at))
        self._verdicts.rows(
            connection,
            [
                (
                    v.record_id,
                    self._process,
                    v.requirement,
                    v.check,
                    v.status,
                    v.reason,
                    v.detail,
                    v.occurred_at,
                    v.recheck_at,
                    at,
                    judgement_id,
                )
                for v in new
            ],
        )

    def open_deviations(self, connection: Connection, rows: Sequence[NewVerdict], at: int) -> None:
        if rows:
            connection.execute(
                insert(deviation),
                [
                    {
                        "record_id": v.record_id,
                        "process": self._process,
                        "requirement": v.requirement,
                        "check": v.check,
                        "state": "open",
                        "occurred_at": v.occurred_at,
                        "learned_at": at,
                    }
                    for v in rows
                ],
            )

    def end_deviations(self, connection: Connection, rows: Sequence[tuple[int, str, str, str]], at: int) -> None:
        """Ends open deviations: ``(record_id, requirement, state, reason)``."""
        if rows:
            connection.execute(
                update(deviation)
                .where(
                    deviation.c.record_id == bindparam("_record"),
                    deviation.c.requirement == bindparam("_requirement"),
                    deviation.c.process == self._process,
                    deviation.c.state == "open",
                )
                .values(state=bindparam("_state"), reason=bindparam("_reason"), ended_at=at),
                [{"_record": r, "_requirement": q, "_state": s, "_reason": w} for r, q, s, w in rows],
            )

    def forget_states(self, connection: Connection, ids: Sequence[int]) -> None:
        """Of records that are no cases of the process (any more)."""
        for part in chunks(ids):
            wanted = case_state.c.record_id.in_(part)
            connection.execute(delete(case_state).where(wanted, case_state.c.process == self._process))

    def keep_states(self, connection: Connection, states: Sequence[CaseState]) -> None:
        self._states.rows(connection, [(s.record_id, self._process, *s[1:]) for s in states])


def _ranges(ids: Sequence[int]) -> Iterator[tuple[int, int, Sequence[int] | None]]:
    """Dense ids are read as one range, scattered ones by name."""
    if not ids:
        return
    if ids[-1] - ids[0] < 2 * len(ids):
        wanted = set(ids) if ids[-1] - ids[0] + 1 != len(ids) else None
        if wanted is None:
            yield ids[0], ids[-1], None
            return
    for part in chunks(ids):
        yield part[0], part[-1], part


def audited(connection: Connection, source_id: int, kind: str) -> frozenset[str]:
    """Fields of which the source's history has shown a change."""
    return frozenset(
        connection.execute(
            select(audited_field.c.field).where(audited_field.c.source_id == source_id, audited_field.c.kind == kind)
        ).scalars()
    )


def unfinished(connection: Connection, source_id: int, kind: str) -> bool:
    """Whether the newest window of the kind was not read to its end: its records and their histories may not fit."""
    since = connection.execute(
        select(reading.c.unfinished_since).where(reading.c.source_id == source_id, reading.c.kind == kind)
    ).scalar()
    return since is not None


def newest_judgement(connection: Connection) -> Any:
    """The newest judgement's row, or ``None``."""
    return connection.execute(select(judgement).order_by(judgement.c.id.desc()).limit(1)).first()


def begin_judgement(connection: Connection, basis: str, documents: Mapping[str, Any], as_of: int, at: int) -> int:
    """The id under which verdicts name documents, checks, program and coverage. A judgement that rests on the same as
    the newest one, which nothing was said under, continues it.
    """
    last_poll = connection.execute(select(func.max(poll.c.id))).scalar()
    text = orjson.dumps(documents, option=orjson.OPT_SORT_KEYS).decode()
    newest = newest_judgement(connection)
    if newest is not None and (newest.basis, newest.last_poll_id, newest.as_of) == (basis, last_poll, as_of):
        return int(newest.id)
    values = {"basis": basis, "documents": text, "last_poll_id": last_poll, "as_of": as_of, "learned_at": at}
    if newest is not None and (newest.basis, newest.documents) == (basis, text) and not _is_used(connection, newest.id):
        connection.execute(update(judgement).where(judgement.c.id == newest.id).values(values))
        return int(newest.id)
    return new_id(connection.execute(insert(judgement).values(values)))


def _is_used(connection: Connection, judgement_id: int) -> bool:
    """Whether the newest verdict was said under this judgement, which is the newest one."""
    newest = select(verdict.c.judgement_id).order_by(verdict.c.id.desc()).limit(1)
    return bool(connection.execute(newest).scalar() == judgement_id)


def forget_derived(connection: Connection, source_id: int) -> None:
    """Empties what ``replay`` builds anew from the payloads of one source.
    Ids of records stay: verdicts refer to them.
    """
    mine = select(record.c.id).where(record.c.source_id == source_id)
    connection.execute(delete(event).where(event.c.record_id.in_(mine)))
    connection.execute(delete(relation).where(relation.c.record_id.in_(mine)))
    connection.execute(delete(audited_field).where(audited_field.c.source_id == source_id))
    connection.execute(
        update(record)
        .where(record.c.source_id == source_id)
        .values(label=None, created_at=None, updated_at=None, version=None, fields=None, judge_at=0)
    )


def fingerprint(connection: Connection) -> dict[str, tuple[int, int]]:
    """Count and order-free checksum of all that ``replay`` rebuilds, by table."""
    tables = {
        "records": select(
            record.c.source_id,
            record.c.kind,
            record.c.native_id,
            record.c.label,
            record.c.created_at,
            record.c.updated_at,
            record.c.version,
            record.c.fields,
            record.c.tombstone,
            record.c.gone_at,
        ),
        "events": select(
            record.c.source_id,
            record.c.native_id,
            event.c.witness,
            event.c.witness_id,
            event.c.field,
            event.c.old,
            event.c.new,
            event.c.actor,
            event.c.position,
            event.c.occurred_at,
            event.c.learned_at,
            event.c.since,
        ).join_from(event, record),
        "relations": select(
            relation.c.record_id,
            relation.c.tie,
            relation.c.role,
            relation.c.process,
            relation.c.value,
            relation.c.other_id,
        ),
        "verdicts": select(
            verdict.c.record_id,
            verdict.c.requirement,
            verdict.c.check,
            verdict.c.status,
            verdict.c.reason,
            verdict.c.detail,
            verdict.c.occurred_at,
            verdict.c.recheck_at,
        ).where(verdict.c.superseded_at.is_(None)),
        "deviations": select(
            deviation.c.record_id, deviation.c.requirement, deviation.c.state, deviation.c.occurred_at
        ),
    }
    return {name: _checksum(connection, query) for name, query in tables.items()}


def _checksum(connection: Connection, query: Any) -> tuple[int, int]:
    import zlib

    count = total = 0
    for row in connection.execute(query).yield_per(5000):
        count += 1
        total = (total + zlib.crc32(orjson.dumps(tuple(row)))) & 0xFFFFFFFFFFFFFFFF
    return count, total
