"""Time limits on business calendars."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings

from itsms_sync.conformance.kernel import judge
from itsms_sync.procedures.model import Procedure, ResolvedInTime, RespondedInTime
from itsms_sync.sms.calendars import DAYS, Calendar, Clocks
from tests.test_kernel import CREATED, Case, Save, instants, mapping, procedure, read, several

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = Calendar(title="Office", zone="Europe/Berlin", hours=dict.fromkeys(DAYS[:5], ("08:00-18:00",)))  # type: ignore[arg-type]
ALWAYS = Calendar(title="Always", zone="Asia/Kathmandu", hours=dict.fromkeys(DAYS, ("00:00-24:00",)))  # type: ignore[arg-type]
CLOCKS = Clocks({"business_hours": OFFICE, "business_days": OFFICE})


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp() * 1000)


def verdict(requirement: str, created: str, *saves: tuple[str, dict[str, str]], now: str) -> dict[str, Any]:
    made = tuple(Save(at(when), "anna", dict(changes), True) for when, changes in saves)
    log = read({0: Case(at(created), {**CREATED, "priority": "3"}, made)}, at(now))
    found = judge(log, [procedure()], mapping().types(), at(now), CLOCKS)
    (row,) = found.filter(pl.col("requirement") == requirement).iter_rows(named=True)
    return row


WORK = {"state": "2", "assignment_group": "a"}


@pytest.mark.parametrize(
    ("answered", "status"),
    [
        ("2026-11-27T17:00", "conforming"),
        ("2026-11-29T12:00", "conforming"),  # on a Sunday: two of four hours are used up
        ("2026-11-30T09:59", "conforming"),
        ("2026-11-30T10:00", "conforming"),
        ("2026-11-30T10:01", "deviating"),
    ],
)
def test_an_incident_of_friday_afternoon_has_its_hours_on_monday(answered: str, status: str) -> None:
    found = verdict("INC-RESPONSE-P3", "2026-11-27T16:00", (answered, WORK), now="2026-12-01T12:00")
    assert found["status"] == status
    if status == "deviating":
        assert found["detail"] == "answered after 4 h 1 min of business time"
        assert found["at"] == at("2026-11-30T10:00")


def test_an_answer_after_hours_is_in_time_when_the_limit_ended_with_the_day() -> None:
    found = verdict("INC-RESPONSE-P3", "2026-11-26T14:00", ("2026-11-26T22:00", WORK), now="2026-12-01T12:00")
    assert found["status"] == "conforming"


def test_what_is_not_answered_yet_is_due_when_the_limit_is_passed() -> None:
    found = verdict("INC-RESPONSE-P3", "2026-11-27T16:00", now="2026-11-28T12:00")
    assert (found["status"], found["recheck_at"]) == ("not_applicable", at("2026-11-30T10:00") + 1)
    late = verdict("INC-RESPONSE-P3", "2026-11-27T16:00", now="2026-11-30T10:01")
    assert (late["status"], late["detail"]) == ("deviating", "no response within 4 h of business time")


def test_days_of_a_limit_are_working_days() -> None:
    """Three days of ten hours, from Thursday to Tuesday."""
    resolved = {"state": "6", "close_code": "solved", "close_notes": "text:1"}

    def said(when: str) -> dict[str, Any]:
        saves = (("2026-11-26T09:00", WORK), (when, resolved))
        return verdict("INC-RESOLVE-P3", "2026-11-26T08:00", *saves, now="2026-12-20T12:00")

    assert said("2026-11-30T18:00")["status"] == "conforming"
    assert said("2026-12-01T07:00")["status"] == "conforming"
    late = said("2026-12-01T09:30")
    assert (late["status"], late["detail"]) == ("deviating", "resolved after 31 h 30 min of business time")


def test_a_pause_counts_for_nothing_on_a_calendar_too() -> None:
    saves = (
        ("2026-11-26T09:00", WORK),
        ("2026-11-26T10:00", {"state": "3", "hold_reason": "1"}),
        ("2026-12-01T10:00", {"state": "2", "hold_reason": ""}),
        ("2026-12-03T17:00", {"state": "6"}),
    )
    found = verdict("INC-RESOLVE-P3", "2026-11-26T08:00", *saves, now="2026-12-20T12:00")
    assert found["status"] == "conforming"  # 2 hours, then 8, 10 and 9


def test_a_calendar_that_nobody_described_is_unknown() -> None:
    log = read({0: Case(at("2026-11-26T08:00"), {**CREATED, "priority": "3"}, ())}, at("2026-12-20T12:00"))
    found = judge(log, [procedure()], mapping().types(), at("2026-12-20T12:00"))
    reasons = found.filter(pl.col("requirement").is_in(["INC-RESPONSE-P3", "INC-RESOLVE-P3"]))["reason"].to_list()
    assert reasons == ["calendar: the limit runs on a business calendar"] * 2


def on(clock: str) -> Procedure:
    """The procedure with all limits on one clock."""
    changed = [
        r.model_copy(update={"limit": r.limit.model_copy(update={"clock": clock})})
        if isinstance(r, RespondedInTime | ResolvedInTime)
        else r
        for r in procedure().requirements
    ]
    return procedure().model_copy(update={"requirements": tuple(changed)})


@settings(deadline=None, max_examples=15)
@given(several(gaps="any", steps_back=True), instants)
def test_a_calendar_that_is_always_open_is_the_clock_around(stored: list[Case], now: int) -> None:
    log = read(dict(enumerate(stored)), now)
    around = judge(log, [on("24x7")], mapping().types(), now)
    open_ = judge(log, [on("always")], mapping().types(), now, Clocks({"always": ALWAYS}))
    words = pl.col("detail").str.replace(" of business time", "", literal=True)
    assert open_.with_columns(words).equals(around)
