"""The time limits of one case: how much of each is used up, when its clock stood still, and when it runs out.

What is right or wrong about a limit is said by its check; here is what people want to see of it beside the case.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from itsms_sync.conformance.clock import Clock
from itsms_sync.conformance.history import History
from itsms_sync.conformance.time import on_the_clock, started, told
from itsms_sync.procedures.model import AROUND_THE_CLOCK, Demand, Limit, LinkedInTime, ResolvedInTime, RespondedInTime

RUNS, PAUSED, STOPPED, UNSURE = "running", "paused", "stopped", "not known"


@dataclass(frozen=True, slots=True)
class Tick:
    """A limit at a save: what was used up by then (ms on its clock), and how the clock went on."""

    row: int
    spent: int
    state: str


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """One limit of one case, as of ``now``."""

    requirement: str
    title: str
    version: str
    state: str
    """``running``, ``paused``, ``stopped``, or ``not known``."""
    limit: int = 0
    """In ms on its clock."""
    told: str = ""
    """The same in words."""
    clock: str = ""
    zone: str = "UTC"
    since: int | None = None
    spent: int | None = None
    """Used up so far, or until it stopped (ms on its clock), as far as that is certain."""
    at_most: int | None = None
    """The same if all counted that may have counted."""
    deadline: int | None = None
    """When it runs out, or ran out; ``None`` while it does not run."""
    missing: str = ""
    """What would have to be known, or described, to tell more."""
    ticks: tuple[Tick, ...] = ()

    @property
    def left(self) -> int | None:
        """What is left of it (ms on its clock); negative once it has passed."""
        return None if self.spent is None else self.limit - self.spent


Said = Mapping[str, tuple[str, str | None, int | None]]
"""Requirement -> status, reason and instant of its verdict."""


def limits_of(history: History, requirements: Iterable[Demand], said: Said) -> list[TimeLimit]:
    """Those of the requirements that set a limit which runs, or ran, for the only case of ``history``."""
    found = (_limit_of(history, requirement, said) for requirement in requirements)
    return [one for one in found if one is not None]


def _limit_of(history: History, requirement: Demand, said: Said) -> TimeLimit | None:
    match requirement:
        case RespondedInTime() | ResolvedInTime():
            own = started(history, requirement)
            return None if own.is_empty() else _of_priority(history, requirement, own)
        case LinkedInTime():
            row = history.cases[f"done_{requirement.after}"][0]
            return None if row is None else _to_link(history, requirement, row, said.get(requirement.id))
        case _:
            return None


def _of_priority(history: History, requirement: RespondedInTime | ResolvedInTime, own: pl.DataFrame) -> TimeLimit:
    running = history.clock(requirement.limit)
    if running is None:
        return _undescribed(history, requirement, requirement.limit, own["since"][0])
    facts = _facts(history, requirement, requirement.limit, running, own["since"][0])
    if isinstance(requirement, RespondedInTime):
        row = own[f"answer_{requirement.response}"][0]
        return _straight(history, facts, running, own["since_row"][0], row)
    return _with_pauses(history, facts, running, on_the_clock(history, own, requirement.pause, running))


def _to_link(
    history: History, requirement: LinkedInTime, row: int, verdict: tuple[str, str | None, int | None] | None
) -> TimeLimit:
    since, running = history.saves["at"][row], history.clock(requirement.limit)
    if running is None:
        return _undescribed(history, requirement, requirement.limit, since)
    facts = _facts(history, requirement, requirement.limit, running, since)
    if verdict is None or verdict[0] == "unknown":
        return TimeLimit(**facts, state=UNSURE, deadline=_after(running, since, running.limit))
    ended = verdict[2] if verdict[0] == "conforming" else None
    return _straight(history, facts, running, row, None, ended)


def _facts(
    history: History, requirement: Demand, limit: Limit, running: Clock | None, since: int | None
) -> dict[str, Any]:
    calendar = history.clocks.calendar(limit.clock)
    return {
        "requirement": requirement.id,
        "title": requirement.title,
        "version": history.procedure.version,
        "limit": 0 if running is None else running.limit,
        "told": _written(limit) if running is None else told(running),
        "clock": limit.clock,
        "zone": "UTC" if limit.clock == AROUND_THE_CLOCK or calendar is None else calendar.zone,
        "since": since,
    }


def _undescribed(history: History, requirement: Demand, limit: Limit, since: int | None) -> TimeLimit:
    missing = f"the calendar {limit.clock!r} is not described in calendars.yaml"
    return TimeLimit(**_facts(history, requirement, limit, None, since), state=UNSURE, missing=missing)


def _written(limit: Limit) -> str:
    """A limit of which the length in hours is not known, because its calendar is not."""
    days, hours, minutes = limit.time.days, limit.time.seconds // 3600, limit.time.seconds // 60 % 60
    parts = ((days, "working days"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) + f" on {limit.clock}"


def _straight(
    history: History, facts: dict[str, Any], running: Clock, first: int, last: int | None, ended: int | None = None
) -> TimeLimit:
    """A limit without pauses; ``last`` is the row of the save that stopped it, ``ended`` the instant if it was none."""
    since = facts["since"]
    end = history.saves["at"][last] if last is not None else ended
    rows = history.saves.filter(pl.col("row") >= first).select("row", "at").iter_rows()
    ticks = [
        Tick(row, _between(running, since, at), STOPPED if row == last or (end is not None and at >= end) else RUNS)
        for row, at in rows
        if (last is None or row <= last) and (end is None or at <= end)
    ]
    spent = _between(running, since, history.now if end is None else end)
    deadline = _after(running, since, running.limit)
    state = RUNS if end is None else STOPPED
    return TimeLimit(**facts, state=state, spent=spent, at_most=spent, deadline=deadline, ticks=tuple(ticks))


def _with_pauses(history: History, facts: dict[str, Any], running: Clock, rows: pl.DataFrame) -> TimeLimit:
    """A limit whose clock stands still at times. Where it is not known whether it did, it may have run."""
    spent = at_most = 0
    passed: int | None = None
    ticks = []
    state = UNSURE
    for row in rows.iter_rows(named=True):
        state = _state(row)
        ticks.append(Tick(row["row"], spent, state))
        if row["due"]:
            if passed is None and spent + row["span"] > running.limit:
                passed = _after(running, row["at"], running.limit - spent)
            spent += row["span"]
        at_most += row["span"] if row["maybe_due"] else 0
    if passed is None and state == RUNS:
        passed = _after(running, history.now, running.limit - spent)
    return TimeLimit(**facts, state=state, spent=spent, at_most=at_most, deadline=passed, ticks=tuple(ticks))


def _state(row: Mapping[str, Any]) -> str:
    if row["due"]:
        return RUNS
    if row["resolved"]:
        return STOPPED
    return UNSURE if row["maybe_due"] else PAUSED


def _between(running: Clock, start: int, end: int) -> int:
    return int(running.between(_one(start), _one(end))[0])


def _after(running: Clock, start: int, time: int) -> int:
    return int(running.after(_one(start), _one(time))[0])


def _one(value: int) -> pl.Series:
    return pl.Series([value], dtype=pl.Int64)
