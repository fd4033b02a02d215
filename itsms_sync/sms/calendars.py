"""Business calendars: when a service is worked on, and how much of that lies between two instants.

An instant is working time if the clock on the wall of the service's site shows working hours of a day that is no
holiday. So in the night in which clocks are set back an hour of work may happen twice, and in the other one not at all.
Holidays come from the ``holidays`` library, of a country and where wanted a part of it; single days may differ.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints

from itsms_sync.sms.processes import Slug
from itsms_sync.sms.strict import Fault, Strict

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Hours = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
"""``08:00-17:30``. The end may lie on the next day: ``22:00-06:00``."""
_SECOND, _DAY = 1_000, 86_400_000
LONGEST = 60 * 366
"""Most days that a calendar is worked out for."""


class Holidays(Strict):
    """The holidays of a place: ``country`` and ``part`` as in ISO 3166 (``DE``, ``BY``)."""

    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    part: str | None = None


class Calendar(Strict):
    """One business calendar."""

    title: str
    zone: str
    """Time zone of the service's site, as in the IANA database (``Europe/Berlin``)."""
    hours: Annotated[dict[Day, tuple[Hours, ...]], Field(min_length=1)]
    holidays: Holidays | None = None
    closed: tuple[date, ...] = ()
    """Further days without work."""
    open: tuple[date, ...] = ()
    """Days with the hours of their weekday although they are holidays."""
    day: timedelta | None = None
    """How much work a day of a limit is (``P3D``: three of them); without it the hours of the longest weekday."""

    def problems(self) -> Iterator[Fault]:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            yield Fault(("zone",), f"there is no time zone {self.zone!r}; write it as in Europe/Berlin")
        if not any(self.hours.values()):
            yield Fault(("hours",), "no day has working hours: no time would ever pass")
        for day, spans in self.hours.items():
            for index, span in enumerate(spans):
                if _length(span) == 0:
                    yield Fault(("hours", day, index), f"{span} is no time at all; the whole day is 00:00-24:00")
        if self.day is not None and self.day <= timedelta(0):
            yield Fault(("day",), "a day of a limit is some time")
        for day_ in sorted({*self.closed} & {*self.open}):
            yield Fault(("open",), f"{day_} stands under closed, too")
        if self.holidays is not None:
            yield from _unknown(self.holidays)

    def week(self) -> int:
        """Working time (ms) of a week without holidays."""
        return sum(_length(span) for spans in self.hours.values() for span in spans) * 60 * _SECOND

    def length(self, limit: timedelta) -> int:
        """Working time (ms) of a limit: its days are working days."""
        longest = max(sum(map(_length, spans)) for spans in self.hours.values())
        day = timedelta(minutes=longest) if self.day is None else self.day
        return (limit.days * day + timedelta(seconds=limit.seconds)) // timedelta(milliseconds=1)


class Calendars(Strict):
    """All business calendars (``mappings/calendars.yaml``)."""

    document: str
    version: str
    calendars: dict[Slug, Calendar]

    def problems(self) -> list[Fault]:
        return [
            Fault(("calendars", name, *fault.place), fault.message)
            for name, calendar in self.calendars.items()
            for fault in calendar.problems()
        ]


def _unknown(wanted: Holidays) -> Iterator[Fault]:
    import holidays

    known = holidays.list_supported_countries(include_aliases=False)
    if wanted.country not in known:
        yield Fault(("holidays", "country"), f"the holidays of {wanted.country!r} are not known")
    elif wanted.part is not None and wanted.part not in known[wanted.country]:
        parts = ", ".join(known[wanted.country]) or "none"
        yield Fault(("holidays", "part"), f"{wanted.country} has no part {wanted.part!r} with holidays; known: {parts}")


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
                start = midnight + _minutes(span[:5]) * 60 * _SECOND
                yield from _in_utc(start, start + _length(span) * 60 * _SECOND, offsets)
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


_HOURS = re.compile(r"(\d\d):(\d\d)")


def _minutes(text: str) -> int:
    found = _HOURS.fullmatch(text)
    assert found is not None
    return int(found[1]) * 60 + int(found[2])


def _length(span: str) -> int:
    """Minutes; an end at or before the start is one of the next day, except that a span of no time has none."""
    start, end = map(_minutes, span.split("-"))
    return end - start if end >= start else end - start + 24 * 60


class Clocks:
    """Calendars by name, worked out for whole years when they are asked for and kept."""

    def __init__(self, calendars: Mapping[str, Calendar]) -> None:
        self._calendars = calendars
        self._kept: dict[tuple[str, int, int], Worktime] = {}

    def calendar(self, name: str) -> Calendar | None:
        return self._calendars.get(name)

    def worktime(self, name: str, first: int, last: int) -> Worktime:
        """From the year of ``first`` to the second one after that of ``last`` (ms). Raises ``KeyError``, and
        ``ValueError`` for more than ``LONGEST`` days.
        """
        years = _year(first), _year(last) + 3
        if (name, *years) not in self._kept:
            begin, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * _SECOND for year in years)
            self._kept[name, *years] = Worktime(self._calendars[name], begin, end)
        return self._kept[name, *years]


def _year(at: int) -> int:
    return datetime.fromtimestamp(at // _SECOND, UTC).year
