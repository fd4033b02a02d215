"""What reconciliation needs of the store and leaves there: its progress and what it has seen.

Which records are missing is asked of the database, piece by piece: the ids of a source are never all in memory. What is
found goes to ``tombstones``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select, update

from itsms_sync.store.database import Bulk, chunks, new_id
from itsms_sync.store.schema import case_state, poll, reconciliation, record, sighting

COMPARING, CONCLUDING, DONE, STOPPED = "comparing", "concluding", "done", "stopped"
RUNNING = (COMPARING, CONCLUDING)


class StoredState(NamedTuple):
    """A record as far as its state can be compared with what the source shows."""

    id: int
    native_id: str
    label: str | None
    updated: int | None
    """``None`` while only history of it was read."""
    version: int | None
    fields: Mapping[str, str | None]
    tombstone: str | None


class Run(NamedTuple):
    """A reconciliation as it stands."""

    id: int
    source_id: int
    kind: str
    extent: str
    state: str
    started_at: int
    newest_id: int
    horizon: int
    cursor: str
    known: int
    seen: int
    missed: int
    gone: int
    doubtful: int
    delay: int
    gaps: str
    problem: str | None


_RUN = [reconciliation.c[name] for name in Run._fields]


def running(connection: Connection, source_id: int, kind: str) -> Run | None:
    """The reconciliation that is not finished yet."""
    wanted = and_(
        reconciliation.c.source_id == source_id, reconciliation.c.kind == kind, reconciliation.c.state.in_(RUNNING)
    )
    found = connection.execute(select(*_RUN).where(wanted).order_by(reconciliation.c.id.desc())).first()
    return None if found is None else Run(*found)


def begun_at(connection: Connection, source_id: int, kind: str, extents: Collection[str]) -> int | None:
    """When the newest reconciliation of one of these extents began that came to its end; before the first one, when the
    kind was first read, because nothing can have been missed before.
    """
    last = connection.execute(
        select(func.max(reconciliation.c.started_at)).where(
            reconciliation.c.source_id == source_id,
            reconciliation.c.kind == kind,
            reconciliation.c.extent.in_(list(extents)),
            reconciliation.c.ended_at.is_not(None),
        )
    ).scalar()
    if last is not None:
        return int(last)
    first = select(func.min(poll.c.started_at)).where(poll.c.source_id == source_id, poll.c.stream == kind)
    return connection.execute(first).scalar()


def begin(connection: Connection, source_id: int, kind: str, extent: str, horizon: int, at: int) -> Run:
    """Opens a reconciliation of what is stored now."""
    newest = connection.execute(select(func.max(record.c.id))).scalar() or 0
    known = connection.execute(
        select(func.count()).select_from(record).where(_owed(source_id, kind, extent, horizon, newest))
    ).scalar_one()
    values = {
        "source_id": source_id,
        "kind": kind,
        "extent": extent,
        "state": COMPARING,
        "started_at": at,
        "newest_id": newest,
        "horizon": horizon,
        "cursor": "",
        "known": known,
    }
    id_ = new_id(connection.execute(insert(reconciliation).values(values)))
    return Run(*connection.execute(select(*_RUN).where(reconciliation.c.id == id_)).one())


def _owed(source_id: int, kind: str, extent: str, horizon: int, newest: int) -> Any:
    """Records that the source has to show: read before it began, not known to be gone, within the extent."""
    mine = and_(
        record.c.source_id == source_id,
        record.c.kind == kind,
        record.c.id <= newest,
        record.c.updated_at.is_not(None),
        record.c.tombstone.is_(None),
    )
    if extent == "all":
        return mine
    is_open = (
        select(case_state.c.record_id)
        .where(case_state.c.record_id == record.c.id, case_state.c.ended_at.is_(None))
        .exists()
    )
    return and_(mine, or_(record.c.updated_at >= horizon, is_open))


def keep(connection: Connection, run: Run, at: int) -> None:
    """Stores how far the run has got; what it has seen is forgotten once it has ended."""
    values = {name: getattr(run, name) for name in Run._fields if name not in ("id", "source_id", "kind")}
    ended = run.state not in RUNNING
    if ended:
        values["ended_at"] = at
        connection.execute(delete(sighting).where(sighting.c.reconciliation_id == run.id))
    connection.execute(update(reconciliation).where(reconciliation.c.id == run.id).values(values))


def owed(connection: Connection, run: Run, after: int, limit: int) -> list[StoredState]:
    """The next records (by id) that have to be there and were not seen by this run."""
    seen = (
        select(sighting.c.record_id)
        .where(sighting.c.reconciliation_id == run.id, sighting.c.record_id == record.c.id)
        .exists()
    )
    wanted = and_(_owed(run.source_id, run.kind, run.extent, run.horizon, run.newest_id), ~seen)
    rows = connection.execute(select(*_STATE).where(wanted, record.c.id > after).order_by(record.c.id).limit(limit))
    return [_stored(row) for row in rows]


_STATE = [record.c[name] for name in ("id", "native_id", "label", "updated_at", "version", "fields", "tombstone")]


def _stored(row: Any) -> StoredState:
    fields = orjson.loads(row.fields or "{}")
    return StoredState(row.id, row.native_id, row.label, row.updated_at, row.version, fields, row.tombstone)


def states(connection: Connection, source_id: int, kind: str, ids: Sequence[str]) -> dict[str, StoredState]:
    """The stored records with these ids of the source."""
    found: dict[str, StoredState] = {}
    for part in chunks(ids):
        wanted = and_(record.c.source_id == source_id, record.c.kind == kind, record.c.native_id.in_(part))
        found.update((row.native_id, _stored(row)) for row in connection.execute(select(*_STATE).where(wanted)))
    return found


def note_seen(connection: Connection, engine: Engine, run: Run, ids: Sequence[int]) -> None:
    Bulk(engine, sighting, ["reconciliation_id", "record_id"]).rows(connection, [(run.id, id_) for id_ in ids])


def note_doubts(connection: Connection, engine: Engine, run: Run, doubts: Sequence[tuple[int, str]]) -> None:
    """Records that are not shown, each with the reason why it cannot be told what became of them."""
    rows = [(run.id, id_, doubt) for id_, doubt in doubts]
    Bulk(engine, sighting, ["reconciliation_id", "record_id", "doubt"]).rows(connection, rows)


def doubts(connection: Connection, run: Run) -> Iterator[Sequence[tuple[int, str]]]:
    """All of them, in pieces ``(record, doubt)``."""
    after = 0
    while True:
        rows = connection.execute(
            select(sighting.c.record_id, sighting.c.doubt)
            .where(sighting.c.reconciliation_id == run.id, sighting.c.doubt.is_not(None), sighting.c.record_id > after)
            .order_by(sighting.c.record_id)
            .limit(500)
        ).all()
        if not rows:
            return
        after = rows[-1].record_id
        yield [(row.record_id, row.doubt) for row in rows]
