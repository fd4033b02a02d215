"""A window of one stream: keyset pages, each verified before anybody sees it.

Owns the question of each page, the cursor, and the evidence that an answer is what was asked for: ServiceNow ignores a
condition on a field that it does not know, hides rows after the limit was applied, and leaves out fields that may not
be read, all without a word. Leaves to ``transport`` what a status means and to ``translate`` what a row means.

The cursor is compact JSON. ``at`` and ``id`` are the key of the last row while a window is unfinished: the next poll
goes on exactly behind it. Otherwise ``start`` is where the next window begins. ``low`` is the earliest stamp at which
rows may still turn up because they were committed late, ``end`` the last stamp of the window before and ``since`` the
server's time when that was first the end: once ``overlap`` has passed since, nothing can turn up before it any more,
and an idle poll no longer asks for what it has seen. A window that has bounds of its own begins at the earlier one, and
each page is asked for and checked against the later one.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from connectors.servicenow.questions import Answer, Question
from connectors.servicenow.translate import literal, millis, plain, translate
from connectors.servicenow.transport import Denied, NoTable, Tables
from itsms_sync.connector import Refused, Unavailable
from itsms_sync.records import Bounds, Gap, Millis, Page, Row, Window

Cells = Mapping[str, Any]
Key = tuple[Millis, str]
_BEGINNING = -(10**18)
_CLOCKS_APART = 15 * 60_000
"""How far the clock that dates answers, perhaps a proxy's, may be from the one that stamps rows (ms)."""
_UNKNOWN = "This part of the history stays unknown until then."
_MOST_PARKED = 50
"""Broken rows that one poll asks for again."""
NOT_SERVED = "not-served"
"""Reason of a gap: the instance has no such table."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What to read of one table."""

    name: str
    table: str
    fields: tuple[str, ...]
    condition: str
    """Encoded query that holds for every row, or blank."""
    holds: Mapping[str, frozenset[str]]
    """The same per column, so that it can be checked on what came."""
    stamp: str
    """The column that orders the rows in time, ties broken by ``sys_id``."""
    needed: tuple[str, ...]
    """Columns without which a row says nothing."""
    body: Callable[[Cells], Cells]
    """Replaces persons and free text."""
    spare: frozenset[str] = frozenset()
    """Columns that tables of this kind need not have."""
    owner: str = "sys_id"
    """The column that holds the record's id."""

    def of(self, ids: Sequence[str] | None) -> "Stream":
        """The same of these records only; of all if none are named."""
        if ids is None:
            return self
        condition = "^".join(filter(None, (self.condition, f"{self.owner}IN{','.join(ids)}")))
        return replace(self, condition=condition, holds={**self.holds, self.owner: frozenset(ids)})


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream stands; instants in milliseconds. See the module's docstring."""

    start: Millis | None = None
    at: Millis | None = None
    id: str = ""
    low: Millis | None = None
    end: Millis | None = None
    since: Millis | None = None

    @staticmethod
    def read(text: str) -> "Cursor":
        """Raises ``Refused`` for a text that no connector of this kind wrote."""
        try:
            return Cursor(**json.loads(text or "{}"))
        except (ValueError, TypeError):
            raise Refused(f"cannot read the cursor {text!r}; remove it to read this stream from its start") from None

    def __str__(self) -> str:
        known = {name: value for name, value in asdict(self).items() if value not in (None, "")}
        return json.dumps(known, separators=(",", ":"))

    @property
    def floor(self) -> Millis | None:
        """No row that was asked for is older."""
        return self.start if self.at is None else self.at

    def reaching(self, back: Millis) -> "Cursor":
        """The same, beginning earlier by ``back``; what was read already comes again."""
        if not back or self.floor is None:
            return self
        start = min(self.floor, self.floor if self.low is None else self.low) - back
        return Cursor(start=start // 1000 * 1000)

    def advanced(self, last: Key, server_time: Millis | None, overlap: Millis) -> "Cursor":
        """Behind the last row of a page that was answered at ``server_time``."""
        at, sys_id = last
        low = self.low
        if server_time is not None and at > server_time - overlap - _CLOCKS_APART:
            reached = min(server_time, at) - overlap
            low = reached if low is None else min(low, reached)
        return replace(self, at=at, id=sys_id, low=low)

    def closed(self, server_time: Millis | None, overlap: Millis) -> "Cursor":
        """Ready for the next window. A row of the future (a skewed clock) does not pull the next window with it."""
        end = self.end if self.at is None else self.at
        if end is None:
            return Cursor(start=self.start or 0)
        end = end if server_time is None else min(end, server_time)
        since = self.since if end == self.end else server_time
        waited = server_time - since if since is not None and server_time is not None else 0
        settled = self.low is None and waited >= overlap
        start = end if settled else end - overlap if self.low is None else min(end - overlap, self.low)
        return Cursor(start=start // 1000 * 1000, end=end, since=since)


def read(tables: Tables, kind: str, stream: Stream, window: Window) -> Iterator[Page]:
    """The stream's pages up to now. A table that the account may not read, or that the instance does not have, is one
    empty page with the gap on it.
    """
    cursor = window.cursors.get(stream.name, "")
    reading = _Reading(tables, kind, stream, window)
    try:
        parked = [sys_id for sys_id in window.parked.get(stream.name, ()) if "^" not in sys_id][:_MOST_PARKED]
        start = Cursor.read(cursor).reaching(window.reach) if cursor else Cursor(start=window.since)
        for page in reading.pages(start):
            cursor = page.cursor
            yield reading.with_mended(page, parked) if parked else page
            parked = []
    except NoTable as lack:
        yield unread(stream, cursor, NOT_SERVED, str(lack))
    except Denied as denial:
        yield unread(stream, cursor, "refused", f"{denial} {_UNKNOWN}")


def bounds(tables: Tables, stream: Stream, window: Window) -> Bounds | None:
    """The first and the last stamp of the stream within the window; ``None`` where there is none to be had."""
    ends: list[Millis] = []
    for order in ("ORDERBY", "ORDERBYDESC"):
        within = _within(stream.stamp, window.since, window.until)
        query = "^".join(filter(None, (stream.condition, *within, f"{order}{stream.stamp}")))
        try:
            answer = tables.ask(Question(stream.table, query, ("sys_id", stream.stamp), 1))
        except Denied:
            return None
        ends += [at for row in answer.rows if (at := millis(plain(row.get(stream.stamp)))) is not None]
        if not ends:
            return None
    return Bounds(min(ends), max(ends))


def _within(stamp: str, since: Millis | None, until: Millis | None) -> list[str]:
    """Conditions for the bounds of a window."""
    low = [] if since is None else [f"{stamp}>={literal(since)}"]
    return low if until is None else [*low, f"{stamp}<{literal(until)}"]


def unread(stream: Stream, cursor: str, reason: str, message: str) -> Page:
    """An empty page that says why nothing was read; the cursor stays where it was."""
    return Page(
        stream=stream.name,
        fields=stream.fields,
        rows=(),
        translated=partial(translate, stream.name),
        cursor=cursor,
        closed=True,
        asked=f"GET /api/now/table/{stream.table}",
        server_time=None,
        gaps=(Gap(stream.name, reason, message),),
    )


class _Reading:
    """One pull of one stream."""

    def __init__(self, tables: Tables, kind: str, stream: Stream, window: Window) -> None:
        self._tables = tables
        self._kind = kind
        self._stream = stream
        self._overlap = window.overlap
        self._since = window.since
        self._until = window.until
        self._limit = window.page_size
        self._missing = set(stream.fields)
        """Fields that no row has had so far."""
        self._rows_seen = 0
        self._told_hidden = False

    def pages(self, cursor: Cursor) -> Iterator[Page]:
        """Ends with an answer that was counted and leaves nothing over; a short page proves nothing."""
        # Counting is asked for only where few rows can match: in a window that has a start, and behind the last row.
        offset, counted, ended = 0, cursor.at is None and cursor.start is not None, False
        began, promised = cursor, False
        while not ended:
            answer = self._tables.ask(self._question(cursor, offset, counted))
            rows, last, gaps = self._verified(answer, cursor)
            gaps += self._hidden(answer)
            ended = counted and not answer.more and (not answer.rows or answer.total == offset + len(answer.rows))
            unseen = not self._rows_seen and (began.start is None or began.end is not None)
            if not answer.rows and not answer.more and (promised or unseen):
                self._check_emptiness(began)
            promised = answer.more
            if last is not None:
                cursor, offset = cursor.advanced(last, answer.server_time, self._overlap), 0
            else:
                offset += answer.question.limit if answer.more else len(answer.rows)
            counted = not answer.more
            if ended:
                cursor = cursor.closed(answer.server_time, self._overlap)
                self._tables.finished(self._stream.table)
                gaps += self._undelivered()
            yield self._page(answer, rows, cursor, gaps, closed=ended)

    def with_mended(self, page: Page, ids: Sequence[str]) -> Page:
        """The page, and before its rows those that were broken when they were last read and are whole by now."""
        stream, there = self._stream, {row.key for row in page.rows}
        query = "^".join(filter(None, (stream.condition, f"sys_idIN{','.join(ids)}")))
        rows = []
        for cells in self._tables.ask(Question(stream.table, query, stream.fields, len(ids))).rows:
            at, sys_id = self._key(cells)
            if at is not None and sys_id in ids and sys_id not in there:
                self._check_condition(cells, at, None)
                rows.append(Row(stream.name, sys_id, stream.body(cells)))
        return replace(page, rows=[*rows, *page.rows])

    def _key(self, cells: Cells) -> tuple[Millis | None, str]:
        """Stamp and id of a row; no stamp where the row is broken."""
        at, sys_id = millis(plain(cells.get(self._stream.stamp))), plain(cells.get("sys_id")) or ""
        whole = sys_id and "^" not in sys_id and all(map(cells.get, self._stream.needed))
        return (at if whole else None), sys_id

    def _question(self, cursor: Cursor, offset: int, counted: bool) -> Question:
        stream, stamp = self._stream, self._stream.stamp
        groups: list[tuple[str, ...]] = [()]
        if cursor.at is not None:
            at = literal(cursor.at)
            groups = [(f"{stamp}>{at}",), (f"{stamp}={at}", f"sys_id>{cursor.id}")]
        elif cursor.start is not None:
            groups = [(f"{stamp}>={literal(cursor.start)}",)]
        end = _within(stamp, None, self._until)
        # what holds for all rows has to be repeated: ^NQ parts whole groups
        wanted = "^NQ".join("^".join(filter(None, (stream.condition, *group, *end))) for group in groups)
        order = f"ORDERBY{stamp}^ORDERBYsys_id"
        query = f"{wanted}^{order}" if wanted else order
        return Question(stream.table, query, stream.fields, self._limit, offset, counted)

    def _verified(self, answer: Answer, cursor: Cursor) -> tuple[list[Row], Key | None, list[Gap]]:
        """The rows that can be stored, the key of the last one, and what was wrong with the others."""
        stream, floor = self._stream, cursor.floor
        before: Key = (_BEGINNING if floor is None else floor, cursor.id)
        rows: list[Row] = []
        gaps: list[Gap] = []
        self._rows_seen += len(answer.rows)
        self._check_keys(answer)
        for cells in answer.rows:
            if self._missing:
                self._missing = {name for name in self._missing if name not in cells}
            at, sys_id = self._key(cells)
            if at is None:
                gaps.append(self._parked(sys_id))
                continue
            self._check_condition(cells, at, floor)
            key = (at, sys_id)
            if key <= before:
                raise Unavailable(f"{stream.table}: rows came out of order or again, after {before[1]!r} {sys_id!r}")
            before = key
            rows.append(Row(stream.name, sys_id, stream.body(cells)))
        return rows, before if rows else None, gaps

    def _check_keys(self, answer: Answer) -> None:
        """One row without a key is broken; a page of them is a table that cannot be read in this way."""
        for name in ("sys_id", self._stream.stamp):
            if answer.rows and not any(name in cells for cells in answer.rows):
                place = f"{self._stream.table}.{name}"
                raise Refused(f"{place} is not delivered, without it nothing can be read: let the account read it")

    def _check_condition(self, cells: Cells, at: Millis, floor: Millis | None) -> None:
        """ServiceNow answers as if a condition on a field that it does not know were not there."""
        stream = self._stream
        outside = (floor is not None and at < floor) or (self._until is not None and at >= self._until)
        ignored = stream.stamp if outside else ""
        for name, values in stream.holds.items():
            if plain(cells.get(name)) not in values:
                ignored = ignored or name
        if ignored:
            raise Refused(
                f"{stream.table}: the condition on {ignored} was ignored: a row came that it excludes. Let the account "
                f"read {stream.table}.{ignored} or correct its name; nothing is stored until then."
            )

    def _check_emptiness(self, began: Cursor) -> None:
        """Nothing where rows are to be expected: an account without its role gets empty lists, and an instance may be
        set to answer conditions on fields that it does not know with none.
        """
        stream = self._stream
        if not self._tables.shows(stream.table):
            if began.end is not None or self._rows_seen:
                raise Denied(f"{stream.table} shows no row any more: give the account back its role to read the table.")
            return
        for name in (stream.stamp, *stream.holds):
            if not self._tables.shows(stream.table, name):
                raise Denied(
                    f"{stream.table}: no row is found by {name}: let the account read {stream.table}.{name} or correct "
                    "its name."
                )

    def _parked(self, sys_id: str) -> Gap:
        stream = self._stream
        needed = ", ".join(("sys_id", stream.stamp, *stream.needed))
        message = f"a row of {stream.table} lacks one of {needed} or has no readable time; it was left out"
        return Gap(stream.name, "row-broken", message, record=sys_id or None)

    def _hidden(self, answer: Answer) -> list[Gap]:
        hidden = hidden_rows(answer)
        if hidden <= 0 or self._told_hidden:
            return []
        self._told_hidden = True
        message = (
            f"rules of the instance hide rows of {self._stream.table} from the account, {hidden} on one page: let it "
            "read all rows, or accept that those cases are not checked"
        )
        return [Gap(self._stream.name, "rows-hidden", message, self._since, self._until)]

    def _undelivered(self) -> list[Gap]:
        """Fields that were asked for and that no row of this pull had."""
        stream = self._stream
        missing = sorted(self._missing) if self._rows_seen else ()
        reasons = {name: self._tables.why_missing(stream.table, name) for name in missing}
        return [
            self._undelivered_field(name, reason)
            for name, reason in reasons.items()
            if name not in stream.spare or reason == "field-refused"
        ]

    def _undelivered_field(self, name: str, reason: str) -> Gap:
        place = f"{self._stream.table}.{name}"
        told = {
            "field-refused": f"the account may not read {place}: give it read access to the field",
            "field-not-served": f"{place} does not exist or is never delivered: correct the name in the mapping",
        }
        return Gap(self._stream.name, reason, told[reason], field=name)

    def _page(self, answer: Answer, rows: Sequence[Row], cursor: Cursor, gaps: Sequence[Gap], *, closed: bool) -> Page:
        return Page(
            stream=self._stream.name,
            fields=self._stream.fields,
            rows=rows,
            translated=partial(translate, self._kind),
            cursor=str(cursor),
            closed=closed,
            asked=str(answer.question),
            server_time=answer.server_time,
            gaps=gaps,
        )


def hidden_rows(answer: Answer) -> int:
    """Rules hide rows after the limit was applied, so a page that others follow must be full."""
    question, came = answer.question, len(answer.rows)
    if answer.more:
        return question.limit - came
    return 0 if answer.total is None else answer.total - question.offset - came


def every(
    tables: Tables, table: str, condition: str, fields: tuple[str, ...], limit: int, *, labelled: bool = False
) -> Iterator[dict[str, Any]]:
    """All rows of a table, by ``sys_id``. Ends with an empty answer that nothing follows."""
    last, offset = "", 0
    while True:
        conditions = (condition, f"sys_id>{last}" if last else "", "ORDERBYsys_id")
        query = "^".join(filter(None, conditions))
        answer = tables.ask(Question(table, query, fields, limit, offset, labelled=labelled))
        rows = [row for row in answer.rows if plain(row.get("sys_id"))]
        yield from rows
        if not rows and not answer.more:
            tables.finished(table)
            return
        offset = 0 if rows else offset + answer.question.limit
        newest = max((str(plain(row["sys_id"])) for row in rows), default=last, key=str.casefold)
        if rows and newest.casefold() <= last.casefold():
            raise Unavailable(f"{table}: the same rows came again after {last!r}")
        last = newest
