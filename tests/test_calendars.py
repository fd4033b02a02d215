"""Business time: its properties, both changes of the clocks, and a reference that looks at the clock on the wall."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itsms_sync.sms.calendars import DAYS, Calendar, Calendars, Holidays
from itsms_sync.sms.worktime import Worktime

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"]
"""Lord Howe's clocks change by half an hour; Kathmandu's offset has 45 minutes."""
OFFICE = ("09:00-12:30", "13:00-17:00")


def calendar(zone: str = "Europe/Berlin", **more: object) -> Calendar:
    weekdays = dict.fromkeys(DAYS[:5], OFFICE)
    return Calendar.model_validate({"title": "Office", "zone": zone, "hours": weekdays, **more})


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def hours(kept: Calendar, start: int, end: int) -> float:
    work = Worktime(kept, min(start, end), max(start, end))
    return float(work.between(np.array([start]), np.array([end]))[0]) / HOUR


# --- what the wall clock says


def minutes_worked(kept: Calendar, start: int, end: int, free: set[date]) -> int:
    """Looks at the wall clock minute by minute."""
    zone, worked = ZoneInfo(kept.zone), 0
    for instant in range(start, end, MINUTE):
        wall = datetime.fromtimestamp(instant / 1000, zone)
        worked += any(
            day not in free and begin <= wall.replace(tzinfo=None, fold=0) < stop
            for back in (0, 1)
            for day in [wall.date() - timedelta(days=back)]
            for span in kept.hours.get(DAYS[day.weekday()], ())
            for begin, stop in [of_day(day, span)]
        )
    return worked


def of_day(day: date, span: str) -> tuple[datetime, datetime]:
    midnight = datetime(day.year, day.month, day.day)
    begin, stop = (midnight + timedelta(hours=int(t[:2]), minutes=int(t[3:])) for t in span.split("-"))
    return begin, stop if stop >= begin else stop + timedelta(days=1)


spans = st.tuples(st.integers(0, 23), st.sampled_from([0, 15, 30]), st.integers(0, 24), st.sampled_from([0, 30])).map(
    lambda t: f"{t[0]:02}:{t[1]:02}-{t[2]:02}:{t[3] if t[2] < 24 else 0:02}"
)
weeks = st.dictionaries(st.sampled_from(DAYS), st.lists(spans, min_size=1, max_size=3).map(tuple), min_size=1)
CHANGES = [at("2026-03-29T00:00"), at("2026-10-25T00:00"), at("2026-04-05T00:00", "Australia/Lord_Howe")]
CHANGES += [at("2026-10-04T00:00", "Australia/Lord_Howe"), at("2026-03-08T00:00", "America/New_York")]
CHANGES += [at("2026-11-01T00:00", "America/New_York")]
starts = st.tuples(st.sampled_from(CHANGES), st.integers(-3 * 24 * 60, 24 * 60)).map(lambda t: t[0] + t[1] * MINUTE)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(ZONES), weeks, starts, st.integers(0, 3 * 24 * 60), st.sets(st.sampled_from(range(7)), max_size=2)
)
def test_working_time_is_what_the_wall_clock_shows(
    zone: str, week: dict[str, tuple[str, ...]], start: int, length: int, closed: set[int]
) -> None:
    free = {datetime.fromtimestamp(start / 1000, UTC).date() + timedelta(days=n - 2) for n in closed}
    kept = Calendar.model_validate({"title": "", "zone": zone, "hours": week, "closed": tuple(sorted(free))})
    end = start + length * MINUTE
    assert hours(kept, start, end) * 60 == pytest.approx(minutes_worked(kept, start, end, free))


# --- properties


instants = st.integers(at("2024-01-01T00:00"), at("2027-12-31T00:00"))
kinds = st.tuples(st.sampled_from(ZONES), weeks).map(
    lambda t: Calendar.model_validate({"title": "", "zone": t[0], "hours": t[1]})
)


@settings(deadline=None, max_examples=40)
@given(kinds, st.tuples(instants, instants, instants).map(sorted))
def test_it_is_additive_and_monotone_and_never_longer_than_the_time(kept: Calendar, three: list[int]) -> None:
    work = Worktime(kept, three[0], three[2])
    a, b, c = (np.array([one]) for one in three)
    assert work.between(a, b) + work.between(b, c) == work.between(a, c)
    assert 0 <= work.between(a, b)[0] <= three[1] - three[0]
    assert work.between(b, a) == -work.between(a, b)


@settings(deadline=None, max_examples=40)
@given(kinds, instants, st.integers(0, 30 * DAY))
def test_a_deadline_is_the_first_instant_with_so_much_work_behind_it(kept: Calendar, start: int, wanted: int) -> None:
    work = Worktime(kept, start, start + 400 * DAY)
    one, much = np.array([start]), np.array([wanted])
    (found,) = work.after(one, much)
    done = work.between(one, np.array([found]))[0]
    if found == work.last:
        assert done <= wanted
    else:
        assert done == wanted
        assert wanted == 0 or work.between(one, np.array([found - 1]))[0] < wanted


def test_many_instants_at_once_are_what_each_is_alone() -> None:
    first, last = at("2026-01-01T00:00"), at("2027-01-01T00:00")
    work = Worktime(calendar(holidays={"country": "DE", "part": "BY"}), first, last)
    random = np.random.default_rng(7)
    begin, end = np.sort(random.integers(first, last, size=(2, 500)), axis=0)
    alone = [int(work.between(begin[n : n + 1], end[n : n + 1])[0]) for n in range(500)]
    assert work.between(begin, end).tolist() == alone


# --- cases


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-11-26T09:00", "2026-11-26T17:00", 7.5),
        ("2026-11-26T16:00", "2026-11-27T10:00", 2.0),
        ("2026-11-27T16:00", "2026-11-30T10:00", 2.0),  # a weekend between
        ("2026-11-28T10:00", "2026-11-29T10:00", 0.0),
        ("2026-11-26T12:30", "2026-11-26T13:00", 0.0),
        ("2026-03-27T16:00", "2026-03-30T10:00", 2.0),  # the clocks are set forward on Sunday
        ("2026-10-23T16:00", "2026-10-26T10:00", 2.0),  # and back
    ],
)
def test_office_hours(start: str, end: str, expected: float) -> None:
    assert hours(calendar(), at(start), at(end)) == expected


def test_a_night_shift_works_an_hour_less_or_more_when_the_clocks_change() -> None:
    night = calendar(hours={"saturday": ("22:00-06:00",)})
    assert hours(night, at("2026-03-28T12:00"), at("2026-03-29T12:00")) == 7
    assert hours(night, at("2026-10-24T12:00"), at("2026-10-25T12:00")) == 9
    assert hours(night, at("2026-11-07T12:00"), at("2026-11-08T12:00")) == 8


def test_an_hour_that_the_clocks_show_twice_is_worked_twice_and_one_they_skip_not_at_all() -> None:
    early = calendar(hours={"sunday": ("02:00-02:30",)})
    assert hours(early, at("2026-10-25T00:00"), at("2026-10-25T12:00")) == 1
    assert hours(early, at("2026-03-29T00:00"), at("2026-03-29T12:00")) == 0


def test_holidays_are_those_of_the_place() -> None:
    bavaria, berlin = (calendar(holidays={"country": "DE", "part": part}) for part in ("BY", "BE"))
    start, end = at("2026-01-05T17:00"), at("2026-01-07T09:00")  # Epiphany between
    assert (hours(bavaria, start, end), hours(berlin, start, end)) == (0, 7.5)


def test_single_days_differ() -> None:
    kept = calendar(holidays={"country": "DE", "part": "BY"}, closed=("2026-11-26",), open=("2026-01-06",))
    assert hours(kept, at("2026-11-26T00:00"), at("2026-11-27T00:00")) == 0
    assert hours(kept, at("2026-01-06T00:00"), at("2026-01-07T00:00")) == 7.5


def test_around_the_clock_is_the_time() -> None:
    always = calendar(hours=dict.fromkeys(DAYS, ("00:00-24:00",)))
    assert hours(always, at("2026-03-28T00:00"), at("2026-03-30T00:00")) == 47


def test_an_instant_outside_of_the_time_is_refused() -> None:
    work = Worktime(calendar(), at("2026-01-01T00:00"), at("2026-02-01T00:00"))
    with pytest.raises(ValueError, match="outside of the time"):
        work.until(np.array([at("2026-03-01T00:00")]))
    with pytest.raises(ValueError, match="at the most"):
        Worktime(calendar(), 0, 70 * 366 * DAY)


@pytest.mark.parametrize(
    ("more", "place", "message"),
    [
        ({"zone": "Europe/Berln"}, ("zone",), "there is no time zone 'Europe/Berln'"),
        ({"hours": {"monday": ()}}, ("hours",), "no day has working hours"),
        ({"hours": {"monday": ("09:00-09:00",)}}, ("hours", "monday", 0), "09:00-09:00 is no time at all"),
        ({"holidays": {"country": "XX"}}, ("holidays", "country"), "the holidays of 'XX' are not known"),
        ({"holidays": {"country": "DE", "part": "QQ"}}, ("holidays", "part"), "DE has no part 'QQ' with holidays"),
        ({"closed": ("2026-01-06",), "open": ("2026-01-06",)}, ("open",), "2026-01-06 stands under closed, too"),
    ],
)
def test_a_fault_is_told_with_its_place(more: dict[str, object], place: tuple[object, ...], message: str) -> None:
    given_ = {"document": "D", "version": "1", "calendars": {"office": calendar().model_dump() | more}}
    (fault,) = Calendars.model_validate(given_).problems()
    assert fault.place == ("calendars", "office", *place)
    assert message in fault.message


def test_a_right_calendar_has_no_faults() -> None:
    kept = calendar(holidays=Holidays(country="DE", part="BY").model_dump())
    assert list(kept.problems()) == []
