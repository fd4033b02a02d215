"""Which part of the past is read next, and how much of it at once. Pure.

The past of a kind of record is read in windows that touch, from its head backwards, so that there is never more than
one edge between what was read and what was not. A window is as long as its rows allow: it follows what the one before
it held, leaps over times without any row, and is made shorter when it turns out too large while it is read.

Instants are whole minutes in milliseconds: an index of Jira may cut a bound to the minute.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from itsms_sync.records import Millis
from itsms_sync.store.coverage import READ, Span

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
WANTED = 20_000
"""Rows of a window, history included."""
_MOST = 4
"""A window that has so many times more is made shorter, unless it is a minute already."""
FIRST_LENGTH = 7 * DAY
_GROWTH = 4
"""How many times longer or shorter than the one before it a window may be."""
_LONGEST = 3650 * DAY


class Plan(NamedTuple):
    """A window that is to be read next: ``start`` (``None``: from the beginning), ``end``, and behind which instant of
    it no row is expected."""

    start: Millis | None
    end: Millis
    dense_until: Millis | None


def minute(at: Millis) -> Millis:
    """The whole minute that ``at`` is in."""
    return at // MINUTE * MINUTE


def edge(spans: Sequence[Span], fields: Collection[str]) -> Span | None:
    """The oldest window that was asked for with all these fields; what is older is still to be read."""
    asked = [one for one in spans if one.fields.issuperset(fields)]
    return min(asked, key=lambda one: (-1 << 62) if one.start is None else one.start, default=None)


def is_over(spans: Sequence[Span], fields: Collection[str], limit: Millis | None) -> bool:
    """Whether nothing older is to be read: the beginning is reached, or as far back as is wanted."""
    oldest = edge(spans, fields)
    return oldest is None or oldest.start is None or (limit is not None and oldest.start <= limit)


def plan(
    spans: Sequence[Span],
    fields: Collection[str],
    first: Millis | None,
    last: Millis | None,
    limit: Millis | None,
    wanted: int = WANTED,
) -> Plan:
    """The window before the oldest one. ``first``: the oldest row there is; ``last``: the newest one before the window,
    where that was asked; ``limit``: how far back is wanted; ``wanted``: rows.
    """
    oldest = edge(spans, fields)
    assert oldest is not None
    assert oldest.start is not None
    end = oldest.start
    dense = end if last is None else min(end, minute(last) + MINUTE)
    near: Millis = dense - _length(spans, fields, wanted)
    start: Millis | None = None if first is None or near <= first else near
    if limit is not None and (start is None or start <= limit):
        start = limit
    return Plan(start, end, dense if dense < end else None)


def _length(spans: Sequence[Span], fields: Collection[str], rows: int) -> Millis:
    """Of the next window, by the oldest one that had rows."""
    asked = [one for one in spans if one.state == READ and one.fields.issuperset(fields)]
    had = [one for one in asked if one.rows and one.start is not None]
    if not had:
        return FIRST_LENGTH
    before = min(had, key=lambda one: one.start or 0)
    length = _dense(before)
    wanted = length * rows // before.rows
    return max(MINUTE, minute(min(max(wanted, length // _GROWTH), length * _GROWTH, _LONGEST)))


def _dense(one: Span) -> Millis:
    """Length of the part of a window in which rows were expected."""
    end = one.end if one.dense_until is None else one.dense_until
    assert end is not None
    assert one.start is not None
    return max(MINUTE, end - one.start)


def shorter(one: Span, rows: int, first: Millis | None, wanted: int = WANTED) -> Millis | None:
    """Where a window should begin that has shown ``rows`` so far; ``None`` if it is right as it is."""
    if rows <= _MOST * wanted or one.end is None:
        return None
    end = one.end if one.dense_until is None else one.dense_until
    start = first if one.start is None else one.start
    if start is None or end - start <= MINUTE:
        return None
    return end - max(MINUTE, minute((end - start) // 8))
