"""Business calendars: when a service is worked on, and how much of that lies between two instants.

An instant is working time if the clock on the wall of the service's site shows working hours of a day that is no
holiday. So in the night in which clocks are set back an hour of work may happen twice, and in the other one not at all.
Holidays come from the ``holidays`` library, of a country and where wanted a part of it; single days may differ. How a
calendar is worked out is ``worktime``'s.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StringConstraints

from itsms_sync.sms.processes import Slug
from itsms_sync.sms.strict import Fault, Place, Strict

if TYPE_CHECKING:
    from itsms_sync.sms.worktime import Worktime

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Hours = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
"""``08:00-17:30``. The end may lie on the next day: ``22:00-06:00``."""


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
        yield from unknown_zone(self.zone, ("zone",))
        if not any(self.hours.values()):
            yield Fault(("hours",), "no day has working hours: no time would ever pass")
        for day, spans in self.hours.items():
            for index, span in enumerate(spans):
                if length_of(span) == 0:
                    yield Fault(("hours", day, index), f"{span} is no time at all; the whole day is 00:00-24:00")
        if self.day is not None and self.day <= timedelta(0):
            yield Fault(("day",), "a day of a limit is some time")
        for day_ in sorted({*self.closed} & {*self.open}):
            yield Fault(("open",), f"{day_} stands under closed, too")
        if self.holidays is not None:
            yield from _unknown(self.holidays)

    def week(self) -> int:
        """Working time (ms) of a week without holidays."""
        return sum(length_of(span) for spans in self.hours.values() for span in spans) * 60_000

    def length(self, limit: timedelta) -> int:
        """Working time (ms) of a limit: its days are working days."""
        longest = max(sum(map(length_of, spans)) for spans in self.hours.values())
        day = timedelta(minutes=longest) if self.day is None else self.day
        return limit.days * (day // timedelta(milliseconds=1)) + limit.seconds * 1_000


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


def unknown_zone(name: str, place: Place) -> Iterator[Fault]:
    """The fault of a time zone that there is none of. Some names are those of folders of the time zone database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield Fault(place, f"there is no time zone {name!r}; write it as in Europe/Berlin")


def _unknown(wanted: Holidays) -> Iterator[Fault]:
    import holidays

    known = holidays.list_supported_countries(include_aliases=False)
    if wanted.country not in known:
        yield Fault(("holidays", "country"), f"the holidays of {wanted.country!r} are not known")
    elif wanted.part is not None and wanted.part not in known[wanted.country]:
        parts = ", ".join(known[wanted.country]) or "none"
        yield Fault(("holidays", "part"), f"{wanted.country} has no part {wanted.part!r} with holidays; known: {parts}")


_HOURS = re.compile(r"(\d\d):(\d\d)")


def minutes(text: str) -> int:
    found = _HOURS.fullmatch(text)
    assert found is not None
    return int(found[1]) * 60 + int(found[2])


def length_of(span: str) -> int:
    """Minutes; an end at or before the start is one of the next day, except that a span of no time has none."""
    start, end = map(minutes, span.split("-"))
    return end - start if end >= start else end - start + 24 * 60


class Clocks:
    """Calendars by name, worked out for whole years when they are asked for and kept."""

    def __init__(self, calendars: Mapping[str, Calendar]) -> None:
        self._calendars = calendars
        self._kept: dict[tuple[str, int, int], Worktime] = {}

    def calendar(self, name: str) -> Calendar | None:
        return self._calendars.get(name)

    def worktime(self, name: str, first: int, last: int) -> "Worktime":
        """From the year of ``first`` to the second one after that of ``last`` (ms). Raises ``KeyError``, and
        ``ValueError`` for more than ``LONGEST`` days.
        """
        from itsms_sync.sms.worktime import Worktime  # needs numpy, which few processes do

        years = _year(first), _year(last) + 3
        if (name, *years) not in self._kept:
            begin, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000 for year in years)
            self._kept[name, *years] = Worktime(self._calendars[name], begin, end)
        return self._kept[name, *years]


def _year(at: int) -> int:
    return datetime.fromtimestamp(at // 1_000, UTC).year
