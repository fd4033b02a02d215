"""The checks of waiting and of dates against a slow reference: plain loops over the saves of one case at a time.

Owns a second reading of what these checks say, verdict for verdict with reason, instants and wording. It shares nothing
with the kernel but the documents; its working time is counted day by day.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import polars as pl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from itsms_sync.conformance.kernel import judge
from itsms_sync.procedures.model import (
    ClosedByTimer,
    DatesInOrder,
    Limit,
    Measured,
    NotAged,
    NotStale,
    PlanKept,
    Procedure,
    RecordedBeforeEnd,
    Requirement,
    ReviewedInTime,
    SubmittedInTime,
)
from itsms_sync.sms.calendars import DAYS, Calendar, Clocks
from itsms_sync.sms.cases import SLAS, CaseLog, from_history
from tests.test_kernel import CREATED, MINUTE, START, TIMER, Case, Save, basis, frames, mapping, procedure
from tests.test_kernel_changes import CHANGE_CREATED, Change, change_log, change_mapping, change_procedure
from tests.test_slow_reference import by_now

HOUR = 60 * MINUTE
DAY = 24 * HOUR
FAR = START + 20_000 * MINUTE
"""After all that happens, and before the clocks go forward."""
COLUMNS = ("case", "requirement", "status", "reason", "at", "recheck_at", "detail")
OFFICE = Calendar(title="Office", zone="Europe/Berlin", hours=dict.fromkeys(DAYS[:5], ("08:00-18:00",)))  # type: ignore[arg-type]
CLOCKS = Clocks({"office": OFFICE})
RESOLVED = ("resolved", "closed", "cancelled")


class Said(NamedTuple):
    """A verdict."""

    status: str
    reason: str | None = None
    at: int | None = None
    recheck_at: int | None = None
    detail: str | None = None


def unknown(reason: str, at: int | None = None, recheck_at: int | None = None) -> Said:
    return Said("unknown", reason, at, recheck_at)


def apart(reason: str, recheck_at: int | None = None) -> Said:
    return Said("not_applicable", reason, None, recheck_at)


def conforming(at: int | None) -> Said:
    return Said("conforming", None, at)


def deviating(at: int | None, detail: str) -> Said:
    return Said("deviating", None, at, None, detail)


# --- time


def office_days(start: int) -> Iterator[tuple[int, int]]:
    """The working spans of each day from that of ``start`` on: 8 to 18 o'clock in winter, an hour earlier by UTC."""
    midnight = start - start % DAY
    for number in range(400):
        day = midnight + number * DAY
        if (day // DAY + 3) % 7 < 5:  # the first of January 1970 was a Thursday
            yield day + 7 * HOUR, day + 17 * HOUR


def spent(clock: str, start: int, end: int) -> int:
    """How much time passes on the clock."""
    if clock == "24x7":
        return end - start
    return sum(max(0, min(close, end) - max(open_, start)) for open_, close in office_days(start) if open_ < end)


def after(clock: str, start: int, time: int) -> int:
    """The first instant at which so much has passed since the start."""
    if clock == "24x7" or not time:
        return start + time
    for open_, close in office_days(start):
        first = max(open_, start)
        if close > first:
            if close - first >= time:
                return first + time
            time -= close - first
    raise AssertionError("never")


def length(demand: NotStale | NotAged | SubmittedInTime | ReviewedInTime | Measured) -> int:
    """Milliseconds of the limit; a day in the office has ten hours."""
    if demand.limit.clock == "24x7":
        return int(demand.limit.time / timedelta(milliseconds=1))
    return demand.limit.time.days * 10 * HOUR + demand.limit.time.seconds * 1000


def in_words(demand: NotStale | NotAged | SubmittedInTime | ReviewedInTime | Measured) -> str:
    days = demand.limit.time.days
    if demand.limit.clock == "office":
        return "1 working day" if days == 1 else f"{days} working days"
    return f"{length(demand) // HOUR} h"


# --- what can be seen of one incident


class Row(NamedTuple):
    at: int
    missed: int
    human: bool | None
    values: Mapping[str, str | None]

    @property
    def state(self) -> str | None:
        states = {"1": "new", "2": "work", "3": "hold", "6": "resolved", "7": "closed", "8": "cancelled"}
        return states.get(self.values["state"] or "")


class View(NamedTuple):
    """One case as it is known at ``now``."""

    rows: list[Row]
    missed_after: int
    now: int

    @property
    def lost(self) -> bool:
        return self.rows[0].state != "new"

    @property
    def missed(self) -> int:
        return sum(row.missed for row in self.rows) + self.missed_after

    def cut(self, n: int) -> bool:
        """Whether saves are missing between this one and the next."""
        return bool(self.missed_after if n == len(self.rows) - 1 else self.rows[n + 1].missed)

    def until(self, n: int) -> int:
        return self.now if n == len(self.rows) - 1 else self.rows[n + 1].at

    def stopped_at(self) -> int | None:
        """When it was resolved for the last time."""
        before = [None, *(row.state for row in self.rows)]
        stops = [
            row.at for was, row in zip(before, self.rows, strict=False) if row.state in RESOLVED and was not in RESOLVED
        ]
        return stops[-1] if stops else None


def view(case: Case, now: int) -> View:
    values, before = dict(case.first), 0
    rows = [Row(case.created, 0, None, dict(values))]
    for order, save in enumerate(case.saves, start=1):
        values.update(save.changes)
        if save.traced and save.at <= now:
            human = None if save.actor is None else save.actor != TIMER
            rows.append(Row(save.at, order - before - 1, human, dict(values)))
            before = order
    over = all(save.at <= now for save in case.saves)
    return View(rows, len(case.saves) - before if over else 0, now)


# --- stretches


class Stretch(NamedTuple):
    """When the limit was first passed, and when one that runs now will have passed it."""

    late_at: int | None
    late_from: int | None


def stretch(
    seen: View,
    clock: str,
    limit: int,
    counts: Callable[[int], bool],
    begins: Callable[[int], bool],
    begin_of: Callable[[int], int] | None = None,
) -> Stretch:
    """``counts``: the time after the save does; ``begins``: a new stretch begins with it; ``begin_of``: from when."""
    begin_of = begin_of or (lambda n: seen.rows[n].at)
    late, total, open_ = None, 0, False
    for n in range(len(seen.rows)):
        begin = begin_of(n)
        if not counts(n):
            open_ = False
            continue
        if not open_ or begins(n):
            total = 0
        open_ = True
        time = spent(clock, begin, seen.until(n))
        if late is None and total <= limit < total + time:
            late = after(clock, begin, limit - total)
        total += time
    runs = open_ and total <= limit
    return Stretch(late, after(clock, seen.now, limit - total + 1) if runs else None)


def slow_stale(seen: View, demand: NotStale) -> Said:
    clock, limit = demand.limit.clock, length(demand)
    own = [
        {"": False}.get(row.values["priority"] or "", row.values["priority"] == demand.priority) for row in seen.rows
    ]

    def rests(n: int) -> bool | None:
        row = seen.rows[n]
        return (
            None if row.state is None else row.state in RESOLVED or (demand.pause is not None and row.state == "hold")
        )

    def surely(n: int) -> bool:
        hidden = seen.cut(n) or (n == 0 and seen.lost)
        return own[n] and rests(n) is False and not hidden

    def perhaps(n: int) -> bool:
        return own[n] and (not rests(n) or seen.cut(n))

    sure = stretch(seen, clock, limit, surely, lambda n: seen.rows[n].human is not False or bool(seen.rows[n].missed))
    maybe = stretch(seen, clock, limit, perhaps, lambda n: seen.rows[n].human is True)
    if sure.late_at is not None:
        return deviating(sure.late_at, f"no update by a person within {in_words(demand)}")
    if not any(own):
        return apart("another priority")
    if seen.lost:
        return unknown("history lost before the first row", seen.rows[0].at, sure.late_from)
    if maybe.late_at is not None:
        unsigned = any(row.human is None for row in seen.rows[1:])
        why = "actor not known" if unsigned else "value not known: pause"
        return unknown("gap: saves without history" if seen.missed else why, maybe.late_at, sure.late_from)
    if seen.rows[-1].state in RESOLVED:
        return conforming(seen.stopped_at())
    return apart("within the limit", maybe.late_from)


def slow_aged(seen: View, demand: NotAged) -> Said:
    clock, limit, rows = demand.limit.clock, length(demand), seen.rows
    inside = [None if row.state is None else row.state in demand.states for row in rows]

    def surely(n: int) -> bool:
        return inside[n] is True and not seen.cut(n) and not (n == 0 and seen.lost)

    def perhaps(n: int) -> bool:
        return inside[n] is not False or seen.cut(n) or (n == 0 and seen.lost)

    def follow_up(n: int, unsure: int) -> int:
        text = rows[n].values["follow_up"] if demand.until else ""
        planned = unsure if instant(text) is None else instant(text)
        assert planned is not None
        return rows[n].at if text == "" else max(rows[n].at, min(planned, seen.until(n)))

    sure = stretch(seen, clock, limit, surely, lambda n: bool(rows[n].missed), lambda n: follow_up(n, seen.until(n)))
    maybe = stretch(seen, clock, limit, perhaps, lambda n: False, lambda n: follow_up(n, rows[n].at))
    if sure.late_at is not None:
        return deviating(sure.late_at, f"stayed in {' or '.join(demand.states)} for more than {in_words(demand)}")
    if maybe.late_at is not None:
        why = "state not known" if None in inside else "value not known: follow_up"
        why = "gap: saves without history" if seen.missed else why
        return unknown("history lost before the first row" if seen.lost else why, maybe.late_at, sure.late_from)
    if all(one is False for one in inside):
        return apart("never in such a state")
    if True in inside and inside[-1] is not True:
        return conforming(seen.until(max(n for n, one in enumerate(inside) if one)))
    return apart("within the limit", maybe.late_from)


def slow_timer(seen: View, demand: ClosedByTimer) -> Said:
    timer, margin = (int(time / timedelta(milliseconds=1)) for time in (demand.timer, demand.margin))
    states = [row.state for row in seen.rows]
    place = max(n for n in range(len(states)) if n == 0 or states[n] != states[n - 1])
    row, closed = seen.rows[place], states[-1] in ("closed", "cancelled")
    if closed and place == 0:
        return unknown("history lost before the first row", row.at)
    if closed and states[place - 1] is None:
        return unknown("state not known", row.at)
    if "resolved" not in (states[-1], states[place - 1] if closed else None):
        return apart("never resolved")
    stops = [n for n in range(len(states)) if states[n] in RESOLVED and (n == 0 or states[n - 1] not in RESOLVED)]
    stop = seen.rows[stops[-1]]
    if seen.lost and stops[-1] == 0:
        return unknown("history lost before the first row", stop.at)
    took = row.at - stop.at
    if closed and took < timer - margin and row.human is not True:
        if stop.missed:
            return unknown("gap: saves without history", row.at)
        if row.human is None:
            return unknown("actor not known", row.at)
        return deviating(
            row.at, f"closed by the system {took // HOUR} h {took // MINUTE % 60} min after it was resolved"
        )
    touched = seen.rows[place - 1 if closed else -1]
    late = touched.at + timer + margin
    if (row.at if closed else seen.now) > late:
        if row.missed if closed else seen.missed_after:
            return unknown("gap: saves without history", late)
        return deviating(late, f"not closed within {(timer + margin) // HOUR} h after the last save")
    return conforming(row.at) if closed else apart("within the limit", late + 1)


def slow_dates(seen: View, demand: DatesInOrder) -> Said:
    last = seen.rows[-1]
    opened, skew = seen.rows[0].at, int(demand.skew / timedelta(milliseconds=1))
    written = {name: instant(last.values[name]) for name in demand.order if name != "opened"}
    known = [("opened", opened)]
    known += [(name, at) for name, at in written.items() if at is not None and at <= seen.now]
    again = min((at for at in written.values() if at is not None and at > seen.now), default=None)
    for n, (before, early) in enumerate(known):
        for name, at in known[n + 1 :]:
            if at < early - skew:
                return deviating(opened, f"{name.replace('_', ' ')} lies before {before.replace('_', ' ')}")
    for name, at in known[1:]:
        if at > last.at + skew:
            if seen.missed_after:
                return unknown("gap: saves without history", opened)
            return deviating(opened, f"{name.replace('_', ' ')} lies after the last save")
    if len(known) == 1:
        return apart("no dates to compare", again)
    return conforming(opened)._replace(recheck_at=again)


# --- the procedure


def demanding() -> Procedure:
    shipped: dict[str, Requirement] = {r.id: r for r in procedure().requirements}
    base, hold = shipped["INC-UPDATE-P1"], shipped["INC-I7-HOLD"]
    office = base.limit.model_copy(update={"time": timedelta(days=2), "clock": "office"})  # type: ignore[union-attr]
    requirements = (
        base,
        base.model_copy(update={"id": "X-UPDATE-OFFICE", "limit": office}),
        base.model_copy(update={"id": "X-UPDATE-ALWAYS", "pause": None}),
        shipped["INC-UPDATE-P2"],
        shipped["INC-I9-TIMER"].model_copy(update={"timer": timedelta(hours=10), "margin": timedelta(hours=1)}),
        shipped["INC-DATES"],
        hold.model_copy(update={"limit": Limit(time=timedelta(hours=10))}),
        hold.model_copy(update={"id": "X-HOLD", "limit": office, "states": ("new", "hold")}),
        hold.model_copy(
            update={"id": "X-NEW", "limit": Limit(time=timedelta(hours=1)), "states": ("new",), "until": None}
        ),
    )
    return procedure().model_copy(update={"requirements": requirements, "short_cuts": ()})


SLOW: dict[str, Any] = {"TI3": slow_stale, "TI12": slow_timer, "TI14": slow_dates, "TI4": slow_aged}


def again_when_seen(found: Said, case: Case, now: int) -> Said:
    """A case of which there is more than can be seen yet is judged again when that may be seen."""
    coming = {*(save.at for save in case.saves if save.traced), *(save.at for save in case.saves[-1:])}
    again = [at for at in (found.recheck_at, *coming) if at is not None and (at > now or at == found.recheck_at)]
    return found._replace(recheck_at=min(again, default=None))


# --- random incidents

WAITS = (0, 1, 30, 59, 60, 61, 240, 241, 600, 1_200, 1_201, 3_000)
CHANGES: tuple[dict[str, str | None], ...] = (
    {},
    {},
    {"category": "wan"},
    {"priority": "1"},
    {"priority": "2"},
    {"state": "2"},
    {"state": "2"},
    {"state": "3"},
    {"state": "6"},
    {"state": "7"},
    {"state": "99"},
    {"resolved_at": "2026-03-02 23:30:00"},
    {"resolved_at": "2026-03-04 09:30:00"},
    {"closed_at": "2026-03-03 09:30:00"},
    {"closed_at": "2026-03-02 19:57:00"},
    {"closed_at": ""},
    {"follow_up": "2026-03-03 09:30:00"},
    {"follow_up": "2026-03-05 09:30:00"},
    {"follow_up": ""},
    {"follow_up": None},
    {"state": "3", "follow_up": "2026-03-03 09:30:00"},
)


DATED = ("resolved_at", "closed_at", "follow_up")


def random_case(dice: Random) -> Case:
    created = at = START + dice.choice(WAITS) * MINUTE
    saves = []
    for _ in range(dice.choice((0, 1, 2, 3, 4, 6))):
        at += dice.choice(WAITS) * MINUTE
        traced = dice.random() < 0.93
        changes = dice.choice(CHANGES) if traced else {}
        saves.append(Save(at, dice.choice(("anna", "anna", "bert", TIMER, TIMER, None)), changes, traced))
    state = dice.choice(("1",) * 12 + ("2", "6"))
    dates = dict.fromkeys(DATED, "")
    return Case(created, {**CREATED, **dates, "state": state, "priority": dice.choice(("1", "1", "2"))}, tuple(saves))


def read_log(found: Sequence[Case], now: int) -> CaseLog:
    return from_history(*frames(dict(enumerate(found)), (*CREATED, *DATED)), basis(now))


def random_end(dice: Random, world: Sequence[Case]) -> int:
    moments = [save.at for case in world for save in case.saves] or [START]
    return dice.choice((FAR, FAR, dice.choice(moments), dice.choice(moments) + HOUR, dice.choice(moments) + DAY))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_the_slow_reference_says_the_same_of_incidents(seed: int) -> None:
    dice = Random(seed)
    found = [random_case(dice) for _ in range(40)]
    now = random_end(dice, found)
    demands = demanding()
    log = read_log(found, now)
    verdicts = judge(log, [demands], mapping().types(), now, CLOCKS)
    actual = {(row[0], row[1]): Said(*row[2:]) for row in verdicts.select(COLUMNS).iter_rows()}
    expected = {
        (number, demand.id): again_when_seen(SLOW[demand.check](view(case, now), demand), case, now)
        for number, case in enumerate(found)
        if case.created <= now
        for demand in demands.requirements
    }
    assert expected == actual


# --- changes


class Altered(NamedTuple):
    """One change as it is known at ``now``; of its parts only what there is by then."""

    view: View
    change: Change

    def first(self, *states: str) -> int | None:
        return next((n for n, row in enumerate(self.view.rows) if state_of(row) in states), None)

    @property
    def lost(self) -> bool:
        return state_of(self.view.rows[0]) != "new"

    def hidden_before(self, n: int, *, first: bool = False) -> str | None:
        """Why something may have happened earlier than in that row, or than the history tells (``first``)."""
        if first and self.lost:
            return "history lost before the first row"
        if any(state_of(row) is None for row in self.view.rows[:n]):
            return "value not known"
        return "gap: saves without history" if any(row.missed for row in self.view.rows[: n + 1]) else None


def state_of(row: Row) -> str | None:
    words = {"-5": "new", "-4": "assess", "-3": "authorise", "-2": "scheduled", "-1": "implement", "0": "review"}
    return {**words, "3": "closed", "4": "cancelled"}.get(row.values["state"] or "")


def instant(text: str | None) -> int | None:
    try:
        return int(datetime.strptime(text or "", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None


def slow_lead(seen: Altered, demand: SubmittedInTime) -> Said:
    gate = seen.first("implement")
    if gate is None:
        return apart("gate not reached")
    rows, limit, clock = seen.view.rows, length(demand), demand.limit.clock
    text, at = rows[gate].values["start_date"], rows[gate].at
    planned = instant(text)
    if text == "":
        return apart("nothing was planned")
    if planned is None:
        return unknown("value not known: planned_start", at)
    place = next(n for n, row in enumerate(rows) if state_of(row) not in ("new", None))
    lead = spent(clock, rows[place].at, max(planned, rows[place].at))
    if after(clock, rows[place].at, limit) <= planned:
        return unknown("history lost before the first row", at) if seen.lost else conforming(at)
    why = seen.hidden_before(place)
    if why and after(clock, rows[0].at, limit) <= planned:
        return unknown(why, at)
    words = f"{lead // HOUR} h {lead // MINUTE % 60} min{' of business time' if clock == 'office' else ''}"
    return deviating(at, f"submitted {words} before the planned start, {in_words(demand)} are wanted")


def slow_review(seen: Altered, demand: ReviewedInTime) -> Said:
    gate = seen.first("review")
    if gate is None:
        return apart("gate not reached")
    rows, begin = seen.view.rows, seen.view.rows[gate].at
    deadline, overdue = (after(demand.limit.clock, begin, length(demand) + more) for more in (0, 1))
    done = [task for task in seen.change.tasks if task["type"] in demand.tasks and task["state"] == "done"]
    texts = [row.values["review_comments"] for row in rows] if demand.fields else []
    written = next((row.at for row in rows if row.values["review_comments"]), None) if demand.fields else None
    dates = [at for at in (*(task["ended_at"] for task in done), written) if at is not None]
    held = min(dates, default=None)
    if held is not None and held > begin and (why := seen.hidden_before(gate, first=True)):
        return unknown(why, begin)
    if held is not None and held < overdue:
        return conforming(max(begin, held))
    if seen.view.now < overdue:
        return apart("within the limit", overdue)
    types, states = (None, *demand.tasks), (None, "done")
    perhaps = [t for t in seen.change.tasks if t["type"] in types and t["state"] in states and t not in done]
    if perhaps or any(task["ended_at"] is None or not task["exact"] for task in done):
        return unknown("type or state of a task not known", deadline)
    before = texts[: next((n for n, text in enumerate(texts) if text), len(texts))]
    if None in before:
        return unknown("value not known: review_comments", deadline)
    if held is None and demand.closing and seen.first("closed") is not None:
        return apart("closed without a review")
    wanted = in_words(demand)
    told = f"no review was held within {wanted}" if held is None else f"the review was held later than {wanted}"
    return deviating(deadline, f"{told} after C7 Review")


def slow_record(seen: Altered, demand: RecordedBeforeEnd) -> Said:
    text, opened = seen.view.rows[-1].values[demand.ended], seen.view.rows[0].at
    ended = instant(text)
    if text == "":
        return apart("no end is written down")
    if ended is None:
        return unknown(f"value not known: {demand.ended}", opened)
    late = (opened - ended) // MINUTE
    if ended >= opened:
        return conforming(opened)
    return deviating(opened, f"recorded {late // 60} h {late % 60} min after the work had ended")


def slow_plan(seen: Altered, demand: PlanKept) -> Said:
    rows, gate = seen.view.rows, seen.first("implement")
    if gate is None:
        return apart("gate not reached")
    begin, texts = rows[gate].at, [rows[gate].values[name] for name in ("start_date", "end_date")]
    if "" in texts:
        return apart("nothing was planned")
    for text, name in zip(texts, ("planned_start", "planned_end"), strict=True):
        if instant(text) is None:
            return unknown(f"value not known: {name}", begin)
    start, end = instant(texts[0]) or 0, instant(texts[1]) or 0
    firsts = [seen.first(state) for state in ("review", "closed", "cancelled")]
    over = min((n for n in firsts if n is not None and n > gate), default=None)
    at = seen.view.now if over is None else rows[over].at
    limit = end + int(max(0, end - start) * demand.overrun)
    early, late = begin < start - 15 * MINUTE, at > limit
    if early or late:
        upto = len(rows) - 1 if over is None else over
        if state_of(rows[upto]) is None and not seen.lost:
            return unknown("value not known", begin)
        if why := seen.hidden_before(upto, first=True):
            return unknown(why, begin)
        if over is None and seen.view.missed_after:
            return unknown("gap: saves without history", begin)
    if early:
        ahead = (start - begin) // MINUTE
        return deviating(begin, f"began {ahead // 60} h {ahead % 60} min before the planned start")
    if late and over is None:
        return deviating(limit, "not ended when the planned time was exceeded by 25%")
    if late:
        behind = (at - end) // MINUTE
        return deviating(limit, f"ended {behind // 60} h {behind % 60} min after the planned end")
    return apart("within the limit", limit + 1) if over is None else conforming(at)


SLOW_OF_CHANGES: dict[str, Any] = {"TI15": slow_lead, "TI11": slow_review, "TI7": slow_record, "TI10": slow_plan}


def demanding_of_changes() -> Procedure:
    shipped: dict[str, Requirement] = {r.id: r for r in change_procedure().requirements}
    wanted = ("CHG-C3-LEAD", "CHG-C7-TIME", "CHG-C1-RECORD", "CHG-C5-PLAN")
    lead, review, record, plan = (shipped[id_].model_copy(update={"applies": None}) for id_ in wanted)
    requirements = (
        lead.model_copy(update={"limit": Limit(time=timedelta(days=2), clock="office")}),
        lead.model_copy(update={"id": "X-LEAD", "limit": Limit(time=timedelta(hours=5))}),
        record,
        plan,
        review.model_copy(update={"limit": Limit(time=timedelta(days=1), clock="office")}),
        review.model_copy(update={"id": "X-REVIEW", "limit": Limit(time=timedelta(hours=5)), "closing": ()}),
        review.model_copy(update={"id": "X-REVIEW-TASK", "limit": Limit(time=timedelta(hours=5)), "fields": ()}),
    )
    return change_procedure().model_copy(update={"requirements": requirements, "short_cuts": ()})


DATES = ("", "soon", None, *(f"2026-03-0{day} {hour}:30:00" for day in (2, 3, 4, 5) for hour in ("03", "09", "21")))
DATED_CHANGES = ("start_date", "end_date", "work_end")
NOTES = ("", "text:3", "text:3", None)
PATH = ("-4", "-3", "-2", "-1", "0", "3")
ASIDE: tuple[dict[str, str | None], ...] = ({"risk": "2"}, {"state": "-5"}, {"state": "99"})


def random_change(dice: Random) -> Change:
    """A change that mostly runs along the documented path, with dates that are written down on the way."""
    created = at = START + dice.choice(WAITS) * MINUTE
    saves = []
    for state in (state for state in PATH if dice.random() < 0.85):
        for _ in range(dice.choice((0, 0, 1, 2))):
            at += dice.choice(WAITS) * MINUTE
            aside = dice.choice(
                (
                    *ASIDE,
                    {"start_date": dice.choice(DATES)},
                    {"review_comments": dice.choice(NOTES)},
                    {"work_end": dice.choice(DATES)},
                )
            )
            traced = dice.random() < 0.93
            saves.append(Save(at, dice.choice(("anna", TIMER)), aside if traced else {}, traced))
        at += dice.choice(WAITS) * MINUTE
        saves.append(Save(at, "anna", {"state": state}, True))
    first = {
        **CHANGE_CREATED,
        "state": dice.choice(("-5",) * 9 + ("-3",)),
        "start_date": dice.choice(DATES),
        "work_end": dice.choice(DATES),
    }
    moments = [save.at for save in saves] or [created]
    tasks = tuple(random_task(dice, moments) for _ in range(dice.choice((0, 0, 1, 2))))
    return Change(Case(created, first, tuple(saves)), (), tasks, ())


def random_task(dice: Random, moments: Sequence[int]) -> dict[str, Any]:
    at = dice.choice(moments)
    state = dice.choice(("done", "done", "done", "open", "cancelled", None))
    return {
        "type": dice.choice(("review", "review", "review", "testing", None)),
        "state": state,
        "opened_at": at,
        "ended_at": at + dice.choice(WAITS) * MINUTE if state == "done" and dice.random() < 0.9 else None,
        "exact": dice.random() < 0.9,
        "workers": [],
    }


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_the_slow_reference_says_the_same_of_changes(seed: int) -> None:
    dice = Random(seed)
    found = [random_change(dice) for _ in range(40)]
    now = random_end(dice, [change.history for change in found])
    found = [by_now(change, now) for change in found]
    demands = demanding_of_changes()
    verdicts = judge(change_log(dict(enumerate(found)), now), [demands], change_mapping().types(), now, CLOCKS)
    actual = {(row[0], row[1]): Said(*row[2:]) for row in verdicts.select(COLUMNS).iter_rows()}
    expected = {
        (number, demand.id): again_when_seen(
            SLOW_OF_CHANGES[demand.check](Altered(view(change.history, now), change), demand), change.history, now
        )
        for number, change in enumerate(found)
        if change.history.created <= now
        for demand in demands.requirements
    }
    assert expected == actual


# --- service levels


class Level(NamedTuple):
    """What stands of a service level."""

    stage: str | None
    at: int
    ended_at: int | None
    idle: bool | None
    gone: bool


def slow_measured(seen: View, levels: Sequence[Level], demand: Measured, unread: str) -> Said:
    gates = [n for n, row in enumerate(seen.rows) if row.state in ("resolved", "closed")]
    start = begin_of_measuring(seen, gates[0] if gates else len(seen.rows) - 1, demand)
    if start is None:
        return apart("gate not reached")
    since = seen.rows[start].at
    lost = [level for level in levels if level.gone and level.stage in ("running", "paused")]
    stands = [one for one in levels if one.stage in ("running", "paused", "completed") and one not in lost]
    ran = [level for level in stands if level.idle is not True]
    if ran:
        return conforming(max(since, min(level.at for level in ran)))
    if stands:
        return slow_idle(seen, start, min(level.at for level in stands), gates, demand)
    if any(level.stage is None for level in levels):
        return unknown("stage of a service level not known", since)
    if lost:
        return unknown("a service level vanished from its source before it ended", since)
    return slow_unmeasured(seen, levels, since, gates, demand, unread)


def begin_of_measuring(seen: View, end: int, demand: Measured) -> int | None:
    if demand.after is not None:
        return next((n for n, row in enumerate(seen.rows) if row.state == demand.after), None)
    while end > 0 and seen.rows[end - 1].values["priority"] == seen.rows[end].values["priority"]:
        end -= 1
    return end


def slow_idle(seen: View, start: int, attached: int, gates: Sequence[int], demand: Measured) -> Said:
    """A service level that stood still all the time."""
    if not gates:
        return apart("case still open")
    worked = possible = 0
    for n in range(start, len(seen.rows)):
        row, is_last = seen.rows[n], n == len(seen.rows) - 1
        rests = row.state in RESOLVED or (demand.pause is not None and row.state == "hold")
        time = spent(demand.limit.clock, min(max(row.at, attached), seen.until(n)), seen.until(n))
        hidden = seen.cut(n) and not (is_last and row.state in RESOLVED)
        worked += time if row.state is not None and not rests else 0
        possible += time if not rests or hidden else 0
    at = seen.rows[gates[0]].at
    if worked > length(demand):
        return deviating(at, f"the service level stood still through more than {in_words(demand)} of work")
    if possible > length(demand):
        return unknown("gap: saves without history" if seen.missed else "value not known: pause", at)
    if seen.lost:
        return unknown("history lost before the first row", at)
    return conforming(at)


def slow_unmeasured(
    seen: View, levels: Sequence[Level], since: int, gates: Sequence[int], demand: Measured, unread: str
) -> Said:
    clock, limit = demand.limit.clock, length(demand)
    cancelled = [level for level in levels if level.stage == "cancelled"]
    begin = max([since, *(level.ended_at for level in cancelled if level.ended_at is not None)])
    if seen.now < after(clock, begin, limit + 1):
        return apart("within the limit", after(clock, begin, limit + 1))
    deadline = after(clock, begin, limit)
    if unread:
        return unknown(f"not read: {unread}", deadline)
    if gates and gates[0] == 0:
        return unknown("history lost before the first row", deadline)
    within = f"attached within {in_words(demand)}"
    if cancelled:
        return deviating(deadline, f"the service level was cancelled, and no other one was {within}")
    return deviating(deadline, f"no service level was {within}")


def demanding_to_measure() -> Procedure:
    base = next(r for r in procedure().requirements if isinstance(r, Measured)).model_copy(update={"applies": None})
    office = {"limit": Limit(time=timedelta(days=2), clock="office")}
    requirements = (
        base,
        base.model_copy(update={"id": "X-OFFICE", **office}),
        base.model_copy(update={"id": "X-NO-PAUSE", "pause": None}),
        base.model_copy(update={"id": "X-WORK", "after": "work"}),
    )
    return procedure().model_copy(update={"requirements": requirements, "short_cuts": ()})


def random_levels(dice: Random, case: Case) -> list[Level]:
    moments = [case.created, *(save.at for save in case.saves)]
    found = []
    for _ in range(dice.choice((0, 0, 1, 1, 2))):
        stage = dice.choice(("running", "paused", "completed", "completed", "cancelled", "cancelled", "never", None))
        at = dice.choice(moments)
        ended = dice.choice((at + 30 * MINUTE, max(moments), None)) if stage in ("completed", "cancelled") else None
        idle = dice.choice((True, True, True, False, None)) if stage != "running" else False
        found.append(Level(stage, at, ended, idle, dice.random() < 0.1))
    return found


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_the_slow_reference_says_the_same_of_service_levels(seed: int) -> None:
    dice = Random(seed)
    world = [random_case(dice) for _ in range(40)]
    now = random_end(dice, world)
    levels = [[one for one in random_levels(dice, case) if one.at <= now] for case in world]
    demands, unread = demanding_to_measure(), dice.choice(("", "", "refused"))
    rows = [{"case": n, "id": "x", **one._asdict()} for n, its in enumerate(levels) for one in its]
    log = read_log(world, now)
    log = replace(log, slas=pl.DataFrame(rows, schema=SLAS), unread={"slas": unread} if unread else {})
    opened = [number for number, case in enumerate(world) if case.created <= now]
    verdicts = judge(log, [demands], mapping().types(), now, CLOCKS)
    actual = {(row[0], row[1]): Said(*row[2:]) for row in verdicts.select(COLUMNS).iter_rows()}
    expected = {
        (number, demand.id): again_when_seen(
            slow_measured(view(world[number], now), levels[number], demand, unread), world[number], now
        )
        for number in opened
        for demand in demands.requirements
        if isinstance(demand, Measured)
    }
    assert expected == actual
