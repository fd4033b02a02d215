"""Windows in time and what they cover.

Owns which part of the past of each kind of record was read, is being read, waits or could not be read. The newest
window of a kind, its head, has no end: every poll goes on in it. Leaves to ``windows`` which window is read next and
how large it is, and to ``ingested`` what was in it.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from itsms_sync.records import Millis
from itsms_sync.store.database import new_id
from itsms_sync.store.schema import DEPENDS, WAITS, cursor, gap, reading, record, source, span

FIRST, LAST = -(1 << 62), 1 << 62
"""Before and behind every instant."""
HEAD, WAITING, READ, HOLE = "head", "waiting", "read", "hole"
"""States of a window."""
WHOLE, REFUSED = "whole", "refused"
"""States of a stream in a window, besides that it is being read."""
UNREADABLE = "window-unreadable"
"""Reason of the gap of a hole."""
NOT_ASKED = "not-asked"


class Covered(NamedTuple):
    """A stretch of time; ``end`` is exclusive. ``FIRST`` and ``LAST`` stand for ends that are open."""

    start: Millis
    end: Millis


class Span(NamedTuple):
    """One window of one kind of record, see the table ``span``."""

    id: int
    kind: str
    start: Millis | None
    end: Millis | None
    dense_until: Millis | None
    fields: frozenset[str]
    state: str
    rows: int
    requests: int
    attempts: int
    ended_at: Millis | None


_COLUMNS = (
    span.c.id,
    span.c.kind,
    span.c.start,
    span.c.end,
    span.c.dense_until,
    span.c.fields,
    span.c.state,
    span.c.rows_seen,
    span.c.requests,
    span.c.attempts,
    span.c.ended_at,
)


class Windows:
    """The windows of one source."""

    def __init__(self, engine: Engine, source_id: int) -> None:
        self._engine = engine
        self._source_id = source_id

    def all(self) -> list[Span]:
        """Of every kind, newest first."""
        with self._engine.begin() as connection:
            return self._select(connection, span.c.source_id == self._source_id)

    def of(self, kind: str) -> list[Span]:
        """Of one kind, newest first."""
        with self._engine.begin() as connection:
            return self._select(connection, self._of(kind))

    def head(self, kind: str) -> Span | None:
        """The newest window of one kind."""
        with self._engine.begin() as connection:
            return next(iter(self._select(connection, and_(self._of(kind), span.c.state == HEAD))), None)

    def _of(self, kind: str) -> ColumnElement[bool]:
        return and_(span.c.source_id == self._source_id, span.c.kind == kind)

    def _reading(self, kind: str) -> ColumnElement[bool]:
        return and_(reading.c.source_id == self._source_id, reading.c.kind == kind)

    @staticmethod
    def _select(connection: Connection, wanted: ColumnElement[bool]) -> list[Span]:
        rows = connection.execute(select(*_COLUMNS).where(wanted)).all()
        found = [_span(row) for row in rows]
        return sorted(found, key=lambda one: (LAST if one.end is None else one.end, one.id), reverse=True)

    def first(self, kind: str) -> Millis | None:
        """The oldest stamp of the kind when it was first read."""
        with self._engine.begin() as connection:
            return connection.execute(select(reading.c.first).where(self._reading(kind))).scalar()

    def begin(self, kind: str, fields: Collection[str], start: Millis | None, first: Millis | None, at: Millis) -> Span:
        """The head of a kind that was never read, or of which all that was read is asked for anew."""
        with self._engine.begin() as connection:
            self._forget(connection, kind)
            values = {"first": first, "behind": start is not None}
            connection.execute(update(reading).where(self._reading(kind)).values(values))
            return self._add(connection, kind, fields, HEAD, start, None, None, at)

    def part(
        self,
        head: Span,
        fields: Collection[str],
        start: Millis,
        at: Millis,
        ended: Millis | None = None,
        first: Millis | None = None,
    ) -> Span:
        """Ends the head and begins a new one at ``start``. What the former head has not read, from ``ended`` on, waits
        as a window of its own. With ``first``, the oldest stamp there is, the past is asked for anew: windows that
        wait without the new fields are dropped.
        """
        mine = self._of(head.kind)
        with self._engine.begin() as connection:
            if head.fields != frozenset(fields):
                waiting = select(span.c.id).where(mine, span.c.state.in_((WAITING, HOLE)))
                connection.execute(delete(cursor).where(cursor.c.span_id.in_(waiting)))
                connection.execute(delete(span).where(mine, span.c.state.in_((WAITING, HOLE))))
                unreadable = and_(gap.c.source_id == self._source_id, gap.c.stream == head.kind)
                lost = and_(unreadable, gap.c.reason == UNREADABLE, gap.c.closed_at.is_(None))
                connection.execute(update(gap).where(lost).values(closed_at=at))
                values = {"first": first, "behind": True}
                connection.execute(update(reading).where(self._reading(head.kind)).values(values))
            ended = start if ended is None else ended
            connection.execute(update(span).where(span.c.id == head.id).values(end=ended, state=READ, ended_at=at))
            if ended < start:
                self._add(connection, head.kind, fields, WAITING, ended, start, None, at)
            return self._add(connection, head.kind, fields, HEAD, start, None, None, at)

    def add(
        self,
        kind: str,
        fields: Collection[str],
        start: Millis | None,
        end: Millis,
        dense_until: Millis | None,
        at: Millis,
    ) -> Span:
        """A window that is to be read."""
        with self._engine.begin() as connection:
            return self._add(connection, kind, fields, WAITING, start, end, dense_until, at)

    def _add(
        self,
        connection: Connection,
        kind: str,
        fields: Collection[str],
        state: str,
        start: Millis | None,
        end: Millis | None,
        dense_until: Millis | None,
        at: Millis,
    ) -> Span:
        values = {"start": start, "end": end, "dense_until": dense_until, "state": state, "began_at": at}
        result = connection.execute(
            insert(span).values(source_id=self._source_id, kind=kind, fields=_text(fields), **values)
        )
        if state == WAITING:
            connection.execute(update(reading).where(self._reading(kind)).values(behind=True))
        return self._select(connection, span.c.id == new_id(result))[0]

    def _forget(self, connection: Connection, kind: str) -> None:
        mine = self._of(kind)
        connection.execute(delete(cursor).where(cursor.c.span_id.in_(select(span.c.id).where(mine))))
        connection.execute(delete(span).where(mine))

    def past_is_read(self, kinds: Collection[str]) -> None:
        """Of these kinds, as far back as is wanted."""
        with self._engine.begin() as connection:
            mine = and_(reading.c.source_id == self._source_id, reading.c.kind.in_(list(kinds)), reading.c.behind)
            connection.execute(update(reading).where(mine).values(behind=False))

    def cursors(self, one: Span) -> dict[str, str]:
        """Where each stream stands in the window."""
        with self._engine.begin() as connection:
            rows = connection.execute(select(cursor.c.stream, cursor.c.value).where(cursor.c.span_id == one.id))
            return dict(rows.all())

    def covered_at(self, one: Span) -> Millis | None:
        """Up to which instant of the source's clock every stream of the head was read, as far as the source does not
        refuse it; ``None`` if one never was.
        """
        wanted = and_(cursor.c.span_id == one.id, cursor.c.state != REFUSED)
        with self._engine.begin() as connection:
            rows = connection.execute(select(cursor.c.covered_at).where(wanted)).scalars().all()
        known = [at for at in rows if at is not None]
        return min(known) if known and len(known) == len(rows) else None

    def shrink(self, one: Span, start: Millis) -> None:
        """Nearer to its end; what was read of it is stored and is asked for again in its turn."""
        with self._engine.begin() as connection:
            connection.execute(delete(cursor).where(cursor.c.span_id == one.id))
            connection.execute(update(span).where(span.c.id == one.id).values(start=start, rows_seen=0))

    def finished(self, one: Span, at: Millis) -> None:
        """Read to its end: cases whose whole history is there by this are to be judged."""
        with self._engine.begin() as connection:
            lacking = uncovered_fields(connection, self._source_id, one.kind)
            values = {"state": READ, "ended_at": at, "attempts": 0}
            connection.execute(update(span).where(span.c.id == one.id).values(values))
            self._close_hole(connection, one, at)
            end = LAST if one.end is None else one.end
            joined = [c for c in kind_covered(connection, self._source_id, one.kind) if c.start < end <= c.end]
            _waken(connection, self._source_id, min((c.start for c in joined), default=end), end)
            if lacking and not uncovered_fields(connection, self._source_id, one.kind):
                self._settle(connection, one)

    def _settle(self, connection: Connection, one: Span) -> None:
        """Fields that were not asked for before are known of the whole past now: every record is to be judged, and
        windows without these fields say nothing any more."""
        mine = and_(self._of(one.kind), span.c.fields != _text(one.fields))
        connection.execute(delete(cursor).where(cursor.c.span_id.in_(select(span.c.id).where(mine))))
        connection.execute(delete(span).where(mine))
        of_kind = and_(record.c.source_id == self._source_id, record.c.kind == one.kind)
        later = or_(record.c.judge_at.is_(None), record.c.judge_at > DEPENDS)
        connection.execute(update(record).where(of_kind, later).values(judge_at=DEPENDS))

    def failed(self, one: Span) -> int:
        """An attempt without a page; how many there were in a row."""
        with self._engine.begin() as connection:
            connection.execute(update(span).where(span.c.id == one.id).values(attempts=span.c.attempts + 1))
            return int(connection.execute(select(span.c.attempts).where(span.c.id == one.id)).scalar_one())

    def spent(self, one: Span, requests: int) -> None:
        """Requests that reading the window took."""
        with self._engine.begin() as connection:
            connection.execute(update(span).where(span.c.id == one.id).values(requests=span.c.requests + requests))

    def lost(self, one: Span, at: Millis) -> None:
        """A hole: it cannot be read now; older windows go on."""
        with self._engine.begin() as connection:
            connection.execute(update(span).where(span.c.id == one.id).values(state=HOLE, ended_at=at, attempts=0))

    def retry(self, before: Millis) -> bool:
        """Whether there are holes older than that; they are read once more."""
        old = and_(span.c.source_id == self._source_id, span.c.state == HOLE, span.c.ended_at < before)
        with self._engine.begin() as connection:
            return connection.execute(update(span).where(old).values(state=WAITING)).rowcount > 0

    def reopen(self, kind: str) -> None:
        """Windows in which a stream was refused that the head has read by now wait to be read once more."""
        mine = self._of(kind)
        streams = (
            select(cursor.c.stream).join_from(cursor, span).where(mine, span.c.state == HEAD, cursor.c.state == WHOLE)
        )
        lacking = (
            select(cursor.c.span_id)
            .join_from(cursor, span)
            .where(mine, span.c.state == READ, cursor.c.state == REFUSED, cursor.c.stream.in_(streams))
        )
        with self._engine.begin() as connection:
            connection.execute(update(span).where(span.c.id.in_(lacking)).values(state=WAITING))

    def _close_hole(self, connection: Connection, one: Span, at: Millis) -> None:
        mine = and_(gap.c.source_id == self._source_id, gap.c.stream == one.kind, gap.c.reason == UNREADABLE)
        same = gap.c.end.is_(None) if one.end is None else gap.c.end == one.end
        connection.execute(update(gap).where(mine, same, gap.c.closed_at.is_(None)).values(closed_at=at))


def covered(connection: Connection, source_id: int, stream: str, field: str | None = None) -> list[Covered]:
    """Stretches of time, oldest first, of which a stream was read whole; with ``field`` only where that was asked for.

    The last one ends at ``LAST`` where polls go on; how far they have come is another question.
    """
    windows = select(span).join_from(span, cursor)
    of_stream = windows.where(span.c.source_id == source_id, cursor.c.stream == stream, cursor.c.state == WHOLE)
    return _joined(connection, of_stream, field)


def kind_covered(connection: Connection, source_id: int, kind: str, field: str | None = None) -> list[Covered]:
    """The same of a kind of record as a whole. What the source refuses of it is no hole here but a gap."""
    return _joined(connection, _whole(source_id, kind), field)


def read_until(connection: Connection, source_id: int, kind: str) -> Millis | None:
    """Up to which instant of the source's clock every stream of the kind was read, as far as the source does not refuse
    it; ``None`` if one never was.
    """
    head = and_(span.c.source_id == source_id, span.c.kind == kind, span.c.state == HEAD)
    streams = select(cursor.c.covered_at).join_from(cursor, span, span.c.id == cursor.c.span_id)
    rows = connection.execute(streams.where(head, cursor.c.state != REFUSED)).scalars().all()
    known = [at for at in rows if at is not None]
    return min(known) if known and len(known) == len(rows) else None


def _whole(source_id: int, kind: str) -> Select[Any]:
    return select(span).where(span.c.source_id == source_id, span.c.kind == kind, span.c.state.in_((HEAD, READ)))


def uncovered_fields(connection: Connection, source_id: int, kind: str) -> dict[str, list[Covered]]:
    """Fields that polls ask for and that were not asked for wherever the kind was read, with where they were."""
    windows = _whole(source_id, kind)
    columns = windows.subquery().c
    asked = connection.execute(select(columns.fields, columns.state).distinct()).all()
    if len({fields for fields, _ in asked}) <= 1:
        return {}
    now = {name for fields, state in asked if state == HEAD for name in _names(fields)}
    whole = _joined(connection, windows, None)
    found = {name: _joined(connection, windows, name) for name in sorted(now)}
    return {name: spans for name, spans in found.items() if spans != whole}


def partly_read(connection: Connection) -> dict[tuple[int, str], str]:
    """``(source, kind)`` of which not the whole past was read, and how it is told. The sentence does not change while
    reading goes on, because a change of it makes cases due.
    """
    kinds = select(span.c.source_id, source.c.name, span.c.kind).join_from(span, source).distinct()
    return {
        (source_id, kind): f"{kind} of {name} was not read back to its beginning"
        for source_id, name, kind in connection.execute(kinds).all()
        if [Covered(FIRST, LAST)] != kind_covered(connection, source_id, kind)
    }


def is_behind(connection: Connection, kinds: Collection[tuple[int, str]]) -> bool:
    """Whether more of the past of any of the ``(source, kind)`` is to be read."""
    rows = connection.execute(select(reading.c.source_id, reading.c.kind).where(reading.c.behind)).all()
    return any((source_id, kind) in kinds for source_id, kind in rows)


def awaiting(connection: Connection, source_id: int) -> int:
    """How many records of the source wait for their history."""
    wanted = and_(record.c.source_id == source_id, record.c.judge_at >= WAITS)
    return int(connection.execute(select(func.count()).select_from(record).where(wanted)).scalar_one())


def covers(spans: Sequence[Covered], start: Millis, end: Millis) -> bool:
    """Whether one of the stretches holds both instants."""
    return any(one.start <= start and end < one.end for one in spans)


def shared(several: Iterable[Sequence[Covered]]) -> list[Covered]:
    """What all of them cover."""
    result = [Covered(FIRST, LAST)]
    for spans in several:
        both = (Covered(max(a.start, b.start), min(a.end, b.end)) for a in result for b in spans)
        result = [one for one in both if one.start < one.end]
    return sorted(result)


def _waken(connection: Connection, source_id: int, start: Millis, end: Millis) -> None:
    """Records that were created in between and wait for their history are judged again."""
    low, high = WAITS + max(0, start), WAITS + max(0, min(end, WAITS))
    wanted = and_(record.c.source_id == source_id, record.c.judge_at >= low, record.c.judge_at <= high)
    connection.execute(update(record).where(wanted).values(judge_at=DEPENDS))


def _joined(connection: Connection, windows: Select[Any], field: str | None) -> list[Covered]:
    """What the windows cover together. The database joins those that touch: there are hundreds, and few holes."""
    if field is not None:
        texts = connection.execute(select(windows.subquery().c.fields).distinct()).scalars()
        windows = windows.where(span.c.fields.in_([text for text in texts if field in _names(text)]))
    given = windows.subquery().c
    start, end = func.coalesce(given.start, FIRST), func.coalesce(given.end, LAST)
    before = func.max(end).over(order_by=(start, end), rows=(None, -1))
    apart = case((start <= before, 0), else_=1)
    one = select(start.label("start"), end.label("end"), apart.label("apart")).subquery().c
    number = func.sum(one.apart).over(order_by=(one.start, one.end), rows=(None, 0))
    stretch = select(one.start, one.end, number.label("number")).subquery().c
    first = func.min(stretch.start)
    rows = connection.execute(select(first, func.max(stretch.end)).group_by(stretch.number).order_by(first))
    return [Covered(*row) for row in rows]


def _span(row: Row) -> Span:  # type: ignore[type-arg]
    values = row._mapping
    names = frozenset(_names(values["fields"]))
    head = (values["id"], values["kind"], values["start"], values["end"], values["dense_until"], names)
    return Span(*head, values["state"], values["rows_seen"], values["requests"], values["attempts"], values["ended_at"])


def _text(fields: Collection[str]) -> str:
    return ",".join(sorted(fields))


def _names(text: str) -> list[str]:
    return text.split(",") if text else []
