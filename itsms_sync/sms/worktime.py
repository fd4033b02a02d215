"""A business calendar worked out as spans of time, and how much work lies between instants. See ``calendars``."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from itsms_sync.sms.calendars import DAYS, Calendar, length_of, minutes

_SECOND, _DAY = 1_000, 86_400_000
LONGEST = 60 * 366
"""Most days that a calendar is worked out for."""


class Worktime:
    """A calendar worked out for a time: ``starts`` and ``ends`` of working spans (ms UTC, ends exclusive, in order and
    apart) and ``before``, how much work lies before each start (ms).
    """

    def __init__(self, calendar: Calendar, first: int, last: int) -> None:
        """For the instants from ``first`` to ``last`` (ms). Raises ``ValueError`` for more than ``LONGEST`` days."""
        if last - first > LONGEST * _DAY:
            raise ValueError(f"a calendar is worked out for {LONGEST} days at the most")
        self.first, self.last = first, last
        spans = np.array(list(_joined(_spans(calendar, first, last))), dtype=np.int64).reshape(-1, 2)
        self.starts, self.ends = spans[:, 0], spans[:, 1]
        self.before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])

    def until(self, instants: NDArray[np.int64]) -> NDArray[np.int64]:
        """Working time (ms) from ``first`` up to each instant (ms). Raises ``ValueError`` outside of the time."""
        if len(instants) and (instants.min() < self.first or instants.max() > self.last):
            raise ValueError("an instant lies outside of the time that the calendar was worked out for")
        place = np.searchsorted(self.starts, instants, side="right") - 1
        if not len(self.starts):
            return np.zeros(len(instants), dtype=np.int64)
        inside = np.minimum(instants, self.ends[place]) - self.starts[place]
        return np.where(place < 0, 0, self.before[place] + inside)

    def between(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Working time (ms) from each start to each end; negative where the end lies before the start."""
        return self.until(ends) - self.until(starts)

    def after(self, starts: NDArray[np.int64], work: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first instant (ms) at which so much work (ms, not negative) has passed since each start; ``last`` where
        that is not reached.
        """
        wanted = self.until(starts) + work
        place = np.searchsorted(self.before, wanted, side="left") - 1
        place = np.clip(place, 0, max(0, len(self.starts) - 1))
        if not len(self.starts):
            return np.where(work == 0, starts, self.last)
        found = self.starts[place] + wanted - self.before[place]
        found = np.where(wanted > self.before[-1], self.last, found)
        return np.where(work == 0, starts, np.maximum(found, starts))


def _spans(calendar: Calendar, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Working spans (ms UTC), also those that overlap."""
    zone = ZoneInfo(calendar.zone)
    begin = datetime.fromtimestamp(first // _SECOND, UTC).date() - timedelta(days=2)
    end = datetime.fromtimestamp(last // _SECOND, UTC).date() + timedelta(days=2)
    free = _free(calendar, begin.year, end.year)
    offsets = list(_offsets(zone, begin, end))
    day = begin
    while day <= end:
        if day not in free:
            midnight = int(datetime.combine(day, time(), UTC).timestamp()) * _SECOND
            for span in calendar.hours.get(DAYS[day.weekday()], ()):  # type: ignore[call-overload]
                start = midnight + minutes(span[:5]) * 60 * _SECOND
                yield from _in_utc(start, start + length_of(span) * 60 * _SECOND, offsets)
        day += timedelta(days=1)


def _in_utc(start: int, end: int, offsets: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """What the wall clock shows from ``start`` to ``end``, in UTC, wherever an offset that shows it is in force."""
    for since, until, offset in offsets:
        low, high = max(start - offset, since), min(end - offset, until)
        if low < high:
            yield low, high


def _offsets(zone: ZoneInfo, begin: date, end: date) -> Iterator[tuple[int, int, int]]:
    """``(since, until, offset)``, all ms, for the whole time and a few days more."""
    start = int(datetime.combine(begin - timedelta(days=2), time(), UTC).timestamp())
    stop = int(datetime.combine(end + timedelta(days=3), time(), UTC).timestamp())
    since, offset = start, _offset(zone, start)
    for at in range(start + 3600, stop + 1, 3600):
        if _offset(zone, at) != offset:
            change = _change(zone, at - 3600, at)
            yield since * _SECOND, change * _SECOND, offset * _SECOND
            since, offset = change, _offset(zone, change)
    yield since * _SECOND, stop * _SECOND, offset * _SECOND


def _offset(zone: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    """The second in which the offset changes between two instants (s)."""
    old = _offset(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _offset(zone, middle) == old else (before, middle)
    return after


def _free(calendar: Calendar, first: int, last: int) -> set[date]:
    free = set(calendar.closed)
    if calendar.holidays is not None:
        import holidays

        place = calendar.holidays
        free |= set(holidays.country_holidays(place.country, subdiv=place.part, years=range(first, last + 1)))
    return free - set(calendar.open)


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans that overlap or touch are one."""
    current: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if current is not None and start <= current[1]:
            current = current[0], max(current[1], end)
        else:
            if current is not None:
                yield current
            current = start, end
    if current is not None:
        yield current
