"""Records that a source no longer shows, and findings that no poll could make.

A tombstone never takes anything away: record, history and verdicts stay. It says why the source no longer shows the
record, and since when; a finding keeps how that came to be known, and stays when the record comes back.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from itsms_sync.records import Fate, What
from itsms_sync.store.database import chunks
from itsms_sync.store.schema import NEW_FACTS, finding, record

RESTORED, MISSED = "restored", "missed"


def bury(connection: Connection, fates: Sequence[tuple[int, Fate]], at: int, run_id: int | None = None) -> int:
    """Sets tombstones, once each, and has the records judged; returns how many were new."""
    fresh = _fresh(connection, fates)
    if not fresh:
        return 0
    connection.execute(
        update(record)
        .where(record.c.id == bindparam("_id"))
        .values(tombstone=bindparam("_what"), gone_at=bindparam("_gone"), judge_at=NEW_FACTS, learned_at=at),
        [{"_id": id_, "_what": fate.what, "_gone": at if fate.at is None else fate.at} for id_, fate in fresh],
    )
    note(connection, [(id_, fate.what, fate.note, fate.by, fate.at) for id_, fate in fresh], at, run_id)
    return len(fresh)


def _fresh(connection: Connection, fates: Sequence[tuple[int, Fate]]) -> list[tuple[int, Fate]]:
    """Those that have no tombstone yet, or an uncertain one about which something certain is known now; each once."""
    standing: dict[int, str | None] = {}
    for part in chunks([id_ for id_, _ in fates]):
        rows = connection.execute(select(record.c.id, record.c.tombstone).where(record.c.id.in_(part)))
        standing.update(rows.all())
    return [
        (id_, fate)
        for id_, fate in dict(fates).items()
        if standing[id_] is None or (standing[id_] == What.UNREADABLE.value != fate.what)
    ]


def raise_up(connection: Connection, ids: Sequence[int], at: int, run_id: int | None = None) -> int:
    """Takes the tombstones of records that the source shows again; returns how many had one."""
    risen: list[int] = []
    for part in chunks(ids):
        wanted = and_(record.c.id.in_(part), record.c.tombstone.is_not(None))
        risen.extend(connection.execute(select(record.c.id).where(wanted)).scalars())
    for part in chunks(risen):
        connection.execute(
            update(record)
            .where(record.c.id.in_(part))
            .values(tombstone=None, gone_at=None, judge_at=NEW_FACTS, learned_at=at)
        )
    note(connection, [(id_, RESTORED, "the source shows it again", None, None) for id_ in risen], at, run_id)
    return len(risen)


def note(
    connection: Connection,
    found: Sequence[tuple[int, str, str, str | None, int | None]],
    at: int,
    run_id: int | None,
) -> None:
    """Findings ``(record, what, note, actor, occurred_at)``."""
    rows = [
        {
            "record_id": id_,
            "reconciliation_id": run_id,
            "what": what,
            "note": text,
            "actor": actor,
            "occurred_at": occurred,
            "learned_at": at,
        }
        for id_, what, text, actor, occurred in found
    ]
    if rows:
        connection.execute(insert(finding), rows)
