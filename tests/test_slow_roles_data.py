"""Checks of owners, machines, late entries, items, closes and counterparts against a slow reference: plain loops over
one case at a time.

Owns a second reading of what these checks say, verdict for verdict with reason, instants and wording. It shares nothing
with the kernel but the documents; the random changes are those of ``test_slow_reference``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, NamedTuple

import polars as pl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from itsms_sync.conformance.kernel import judge
from itsms_sync.documents import load
from itsms_sync.procedures.model import (
    CloseAgrees,
    FilledInTime,
    ItemNamed,
    Limit,
    LinkedAtGate,
    Owned,
    PersonApproves,
    Procedure,
    Requirement,
    SameInBoth,
    WaitsForSomething,
)
from itsms_sync.sms.cases import ITEMS, PAIRS, CaseLog
from tests.test_kernel import MAPPINGS, MINUTE, TIMER, procedure
from tests.test_kernel_changes import Change, PartRow, change_log, change_mapping, change_procedure
from tests.test_slow_reference import (
    COLUMNS,
    FAR,
    NEVER,
    UNREAD,
    Said,
    View,
    _makes_up,
    _near,
    apart,
    by_now,
    conforming,
    demanded,
    demanding,
    deviating,
    random_change,
    random_end,
    slow_link,
    stage_of,
    unknown,
    view,
)

HOUR = 60 * MINUTE


class More(NamedTuple):
    """What the view of a change does not have: who made each save, when items were listed, since when the other record
    of each link has been in its state, and what the record in another system says.
    """

    actors: list[str | None]
    items: list[int]
    state_since: list[int | None]
    pair: "list[Counterpart]"


# --- RO9


def slow_machine(seen: View, demand: PersonApproves, more: More) -> Said:
    del more
    rows = list(_asked_in(seen, demand.stages))
    given_ = [(row, here) for row, here in rows if row["state"] == "approved"]
    told = [row["asked_at"] if row["decided_at"] is None else row["decided_at"] for row, _ in given_]
    machines = [
        (at, _written(row)) for (row, here), at in zip(given_, told, strict=True) if here and row["human"] is False
    ]
    if machines:
        return deviating(*min(machines))
    last = max(told, default=None)
    if why := seen.unread_of("approvals"):
        return unknown(why, last)
    if any(row["state"] is None for row, _ in rows):
        return unknown("stage or decision of an approval not known", last)
    if not given_:
        return apart("no approval was given")
    if any(here is None and not row["human"] for row, here in given_):
        return unknown("stage or decision of an approval not known", last)
    if any(row["human"] is None for row, _ in given_):
        return unknown("actor not known", last)
    return conforming(last)


def _asked_in(seen: View, stages: tuple[str, ...]) -> list[tuple[PartRow, bool | None]]:
    """The approvals that are asked in these stages (``True``) or perhaps are (``None``)."""
    begun = min((n for n in (seen.first("implement"), seen.first("closed")) if n is not None), default=NEVER)
    known = [(row, stage_of(seen, row)) for row in seen.approvals]
    nobody = not any(stage in stages for _, stage in known)
    found = []
    for row, stage in known:
        if stage in stages or (nobody and _makes_up(seen, row, stage, begun)):
            found.append((row, True))
        elif stage is None:
            found.append((row, None))
    return found


def _written(row: PartRow) -> str:
    if row["actor"] is not None and row["actor"] == row["approver"]:
        return "approved by a system account"
    return "a system account wrote the approval of somebody else"


# --- RO5


def slow_owner(seen: View, demand: Owned, more: More) -> Said:
    """Stretch by stretch, in the order of their beginnings."""
    del more
    limit = int(demand.limit.time.total_seconds() * 1000)
    detail = f"no {demand.attribute} for more than 2 h"
    times = [_without_owner(seen, n, demand) for n in range(len(seen.rows))]
    certain = list(_stretches(seen, [one is True for one, _, _ in times]))
    possible = list(_stretches(seen, [one is not False for one, _, _ in times]))
    late = [seen.rows[start].at + limit for start, _, time in certain if time > limit]
    if late:
        return deviating(min(late), detail)
    again = _coming(seen, certain, limit)
    doubts = [
        (seen.rows[start].at + limit, next(why for one, why, _ in times[start : end + 1] if one is None))
        for start, end, time in possible
        if time > limit
    ]
    if doubts:
        return unknown(min(doubts)[1], min(doubts)[0], again)
    again, ended = _coming(seen, possible, limit), _ended(seen)
    if ended is None:
        return apart("case still open", again)
    if not any(worked for _, _, worked in times):
        return apart("work not started")
    return conforming(ended)._replace(recheck_at=again)


def _without_owner(seen: View, n: int, demand: Owned) -> tuple[bool | None, str, bool]:
    """Whether it was in work without an owner after that save, why that is not known, and whether it may have been in
    work.
    """
    last = n == seen.last
    state, owner = seen.rows[n].state, seen.value(n, demand.attribute)
    if seen.lost and n == 0:
        return None, "history lost before the first row", True
    if seen.missed_after if last else seen.rows[n + 1].missed:
        return None, "gap: saves without history", True
    if state is None:
        return (False if owner else None), "state not known", True
    if state not in demand.states:
        return False, "", False
    return (None if owner is None else owner == ""), f"value not known: {demand.attribute}", True


def _stretches(seen: View, flags: list[bool]) -> Iterator[tuple[int, int, int]]:
    """First and last save of each stretch over which a flag holds, and how long it was."""
    begin = None
    for n, flag in enumerate([*flags, False]):
        if flag and begin is None:
            begin = n
        elif not flag and begin is not None:
            until = seen.now if n > seen.last else seen.rows[n].at
            yield begin, n - 1, until - seen.rows[begin].at
            begin = None


def _coming(seen: View, stretches: list[tuple[int, int, int]], limit: int) -> int | None:
    """When the stretch that goes on will have passed the limit."""
    going_on = [start for start, end, time in stretches if end == seen.last and time <= limit]
    return seen.rows[going_on[-1]].at + limit + 1 if going_on else None


def _ended(seen: View) -> int | None:
    if seen.rows[-1].state not in ("closed", "cancelled"):
        return None
    n = seen.last
    while n > 0 and seen.rows[n - 1].state == seen.rows[-1].state:
        n -= 1
    return seen.rows[n].at


# --- DA4, DA7, DA8


def slow_item(seen: View, demand: ItemNamed, more: More) -> Said:
    gate = seen.first("implement")
    if gate is None:
        return apart("gate not reached")
    at, value = seen.rows[gate].at, seen.value(gate, demand.field)
    if value or any(listed <= at for listed in more.items):
        return conforming(at)
    if value is None:
        return unknown(f"value not known: {demand.field}", at)
    if why := seen.unread_of("cis"):
        return unknown(why, at)
    return deviating(at, "the first item was listed later" if more.items else "no item is named")


def slow_filled(seen: View, demand: FilledInTime, more: More) -> Said:
    gate = seen.first("implement")
    if gate is None:
        return apart("gate not reached")
    at, value = seen.rows[gate].at, seen.value(gate, demand.field)
    not_known = f"value not known: {demand.field}"
    if value is None:
        return unknown(not_known, at)
    if value:
        return conforming(at)
    filled = next((n for n in range(gate + 1, len(seen.rows)) if seen.value(n, demand.field) != ""), None)
    if filled is None:
        return unknown("gap: saves without history", at) if seen.missed_after else apart("never filled in")
    if seen.value(filled, demand.field) is None:
        return unknown(not_known, at)
    since = seen.rows[filled].at
    if seen.lost and gate == 0:
        return unknown("history lost before the first row", since)
    if since - at <= 15 * MINUTE:
        return conforming(since)
    if seen.rows[filled].missed:
        return unknown("gap: saves without history", since)
    if more.actors[filled] is None:
        return unknown("actor not known", since)
    if more.actors[filled] == TIMER:
        return unknown("filled in by a system account, perhaps as a copy", since)
    hours, minutes = divmod((since - at) // MINUTE, 60)
    return deviating(since, f"planned end was filled in {hours} h {minutes} min late")


def slow_close(seen: View, demand: CloseAgrees, more: More) -> Said:
    del more
    gates = [n for n in (seen.first("closed"), seen.first("cancelled")) if n is not None]
    if not gates:
        return apart("gate not reached")
    at = seen.rows[min(gates)].at
    states = [row.state for row in seen.rows]
    hidden = seen.lost or bool(seen.missed)
    was_cancelled = True if "cancelled" in states else None if None in states or hidden else False
    links = [link for link in seen.links if link["role"] in demand.roles and link["via"] is None]
    made = [link["at"] for link in links if link["state"] != "cancelled"]
    ends = [task["state"] for task in seen.tasks if task["type"] in demand.task_types]
    said = ["it was cancelled"] if demand.against and was_cancelled else []
    said += ["an incident that it caused was linked"] if any(one is not None and one <= at for one in made) else []
    said += ["a task was closed incomplete"] if "incomplete" in ends else []
    if said:
        return deviating(at, "; ".join(said))
    if demand.roles and (why := seen.unread_of("links", *(f"links.{role}" for role in demand.roles))):
        return unknown(why, at)
    if demand.task_types and (why := seen.unread_of("tasks")):
        return unknown(why, at)
    if None in made:
        return unknown("time of the link not known", at)
    if demand.task_types and _task_in_doubt(seen, demand.task_types):
        return unknown("type or state of a task not known", at)
    if demand.against and was_cancelled is None:
        if seen.lost:
            return unknown("history lost before the first row", at)
        return unknown("gap: saves without history" if seen.missed else "value not known", at)
    return conforming(at)


def _task_in_doubt(seen: View, types: tuple[str, ...]) -> bool:
    """Whether a task may be one of these types that was closed incomplete."""
    return any(
        None in (task["type"], task["state"])
        and task["type"] in (None, *types)
        and task["state"] in (None, "incomplete")
        for task in seen.tasks
    )


# --- LI6, LI7


def slow_fix(seen: View, demand: LinkedAtGate, more: More) -> Said:
    del more
    return slow_link(seen, demand, change_procedure())


def slow_wait(seen: View, demand: WaitsForSomething, more: More) -> Said:
    last = seen.rows[-1]
    if last.state is None:
        return unknown("value not known: what it waits for")
    if last.state != "review":
        return apart("does not wait")
    begin = seen.last
    while begin > 0 and not seen.rows[begin].missed and seen.rows[begin - 1].state == "review":
        begin -= 1
    since = seen.rows[begin].at
    if seen.missed_after:
        return unknown("gap: saves without history", since)
    links = [
        (link["state"], since_)
        for link, since_ in zip(seen.links, more.state_since, strict=True)
        if link["role"] in demand.roles and link["via"] in (None, *demand.via)
    ]
    if any(state is not None and state not in demand.over for state, _ in links):
        return conforming(since)
    deadline = max([since, *(over for _, over in links if over is not None)]) + 2 * HOUR
    if seen.now <= deadline:
        return apart("within the limit", deadline + 1)
    if any(None in link for link in links):
        return unknown("state of the other record not known", since)
    if why := seen.unread_of("links", *(f"links.{role}" for role in (*demand.roles, *demand.via))):
        return unknown(why, since)
    named = "incident or problem that called for it"
    return deviating(
        deadline, f"it waits for a {named} that is over" if links else f"it waits, and no {named} is linked"
    )


# --- LI10


class Counterpart(NamedTuple):
    """What the record in the other system says of one attribute."""

    attribute: str
    value: str | None
    since: int
    read_until: int | None


def slow_pair(seen: View, demand: SameInBoth, more: More) -> Said:
    if not more.pair:
        return apart("no record in another system")
    told = [(one, *_own(seen, one)) for one in more.pair]
    settled = max(since for _, _, since in told)
    bad, waits = [], []
    for one, own, since in told:
        deadline = since + 2 * HOUR
        if None in (own, one.value) or _canonical(own, demand) == _canonical(one.value, demand):
            continue
        if one.read_until is not None and deadline < min(seen.now, one.read_until):
            said = f"{one.attribute} is {own or 'empty'} here and {one.value or 'empty'} there"
            bad.append((deadline, one.attribute, said))
        else:
            waits.append(deadline + 1)
    if bad:
        at, _, said = min(bad)
        return unknown("gap: saves without history", at) if seen.missed_after else deviating(at, said)
    if waits and min(waits) <= seen.now:
        return unknown("not read since then: one of the two systems", None, min(waits))
    if waits:
        return apart("within the limit", min(waits))
    for name in demand.attributes:
        if any(one.attribute == name and None in (own, one.value) for one, own, _ in told):
            return unknown(f"value not known: {name}", settled)
    return conforming(settled)


def _own(seen: View, one: Counterpart) -> tuple[str | None, int]:
    """What the case says, and since when at the latest both have said so."""

    def said(n: int) -> str | None:
        return seen.rows[n].state if one.attribute == "state" else seen.value(n, one.attribute)

    n = seen.last
    while n > 0 and not seen.rows[n].missed and said(n - 1) == said(n):
        n -= 1
    return said(seen.last), max(seen.rows[n].at, one.since)


def _canonical(value: str | None, demand: SameInBoth) -> str | None:
    return next((group[0] for group in demand.alike if value in group), value)


# --- changes: the procedure, and the comparison

SLOW: dict[str, Any] = {
    "RO9": slow_machine,
    "RO5": slow_owner,
    "DA4": slow_item,
    "DA7": slow_filled,
    "DA8": slow_close,
    "LI6": slow_fix,
    "LI7": slow_wait,
    "LI10": slow_pair,
}
EFFECT = {"trigger": "an incident that it caused was linked"}
TWO_HOURS = Limit(time=timedelta(hours=2))


def incident(id_: str) -> Requirement:
    return next(r for r in procedure().requirements if r.id == id_)


def problem(id_: str) -> Requirement:
    return next(r for r in load(MAPPINGS / "procedures" / "problem.yaml", Procedure).requirements if r.id == id_)


def _like(shipped_: Requirement, id_: str, **keys: Any) -> Requirement:
    """A requirement that applies to all cases, with other keys."""
    return shipped_.model_copy(update={"id": id_, "applies": None, **keys})


def of_changes() -> Procedure:
    """The checks of this file in several ways over all changes, beside those that say which states are stages."""
    base = demanding("all", "all")
    trigger = ("trigger", "trigger_elsewhere")
    pair = {"attributes": ("state", "risk"), "alike": (("scheduled", "implement"),), "limit": TWO_HOURS}
    waits = {"when": "state = 'review'", "roles": trigger, "limit": TWO_HOURS}
    requirements = (
        demanded("Y-PERSON", "CHG-C3-PERSON"),
        demanded("Y-PERSONS", "CHG-C3-PERSON", stages=("assess", "authorise")),
        _like(incident("INC-I4-PERSON"), "Y-OWNER", states=("scheduled", "implement", "review"), limit=TWO_HOURS),
        demanded("Y-ITEM", "CHG-C1-ITEM"),
        demanded("Y-END", "CHG-C4-END"),
        demanded("Y-TRUE", "CHG-C8-TRUE", roles=EFFECT),
        demanded("Y-TRUE-LINK", "CHG-C8-TRUE", roles=EFFECT, against={}, task_types=()),
        demanded("Y-TRUE-TASK", "CHG-C8-TRUE", roles={}, against={}, task_types=("implementation",)),
        demanded("Y-FIX", "CHG-EMERGENCY-TRIGGER", check="LI6", roles=("problem", "trigger"), via=("parent",)),
        _like(problem("PRB-PAIR"), "Y-PAIR", **pair),
        _like(incident("INC-I7-PROBLEM"), "Y-WAIT", over=("resolved", "closed", "cancelled"), **waits),
    )
    return base.model_copy(update={"requirements": (*base.requirements, *requirements)})


# --- random changes with more to them


def richer(dice: Random, change: Change) -> Change:
    """Saves by different accounts, links with other states and with a role that the procedure names."""
    saves = tuple(save._replace(actor=dice.choice(("anna", "anna", TIMER, None))) for save in change.history.saves)
    links = tuple(
        {**link, "state": dice.choice(("work", "closed", "closed", "cancelled", None))} for link in change.links
    )
    return change._replace(history=change.history._replace(saves=saves), links=links)


def more_of(dice: Random, change: Change, now: int) -> More:
    created, saves = change.history.created, change.history.saves
    moments = [created, *(save.at for save in saves)]
    listed = [at for at in (_near(dice, moments) for _ in range(dice.choice((0, 0, 1, 2)))) if at <= now]
    since = [dice.choice((None, *(_near(dice, moments) for _ in range(4)))) for _ in change.links]
    actors = [None, *(save.actor for save in saves if save.traced and save.at <= now)]
    return More(actors, listed, since, list(_pair(dice, moments)))


def _pair(dice: Random, moments: list[int]) -> Iterator[Counterpart]:
    if dice.random() < 0.6:
        since, until = _near(dice, moments), dice.choice((None, FAR, FAR, _near(dice, moments) + 2 * HOUR))
        yield Counterpart("state", dice.choice(("closed", "closed", "review", "implement", None)), since, until)
        yield Counterpart("risk", dice.choice(("2", "3", "3", "3", "", None)), since, until)


def _since(change: Change, more: More) -> tuple[PartRow, ...]:
    return tuple({**link, "state_since": at} for link, at in zip(change.links, more.state_since, strict=True))


def rich_log(world: Mapping[int, Change], more: Mapping[int, More], now: int, unread: Mapping[str, str]) -> CaseLog:
    told = {number: change._replace(links=_since(change, more[number])) for number, change in world.items()}
    items = [
        {"case": number, "id": f"{number}.{place}", "at": at}
        for number in world
        for place, at in enumerate(more[number].items)
    ]
    pairs = [{"case": number, "other": f"{number}", **one._asdict()} for number in world for one in more[number].pair]
    log = change_log(told, now, unread)
    return replace(log, items=pl.DataFrame(items, schema=ITEMS), pairs=pl.DataFrame(pairs, schema=PAIRS))


def _again(found: Said, saves: Any, now: int) -> Said:
    """A case of which there is more than can be seen yet is judged again when that may be seen."""
    coming = {*(save.at for save in saves if save.traced), *(save.at for save in saves[-1:])}
    again = [at for at in (found.recheck_at, *coming) if at is not None and (at > now or at == found.recheck_at)]
    return found._replace(recheck_at=min(again, default=None))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_the_slow_reference_says_the_same_of_changes(seed: int) -> None:
    dice = Random(seed)
    found = [richer(dice, random_change(dice)) for _ in range(40)]
    now = random_end(dice, found)
    unread: Mapping[str, str] = {n: f"{n} refused" for n in dice.sample((*UNREAD, "cis"), dice.choice((0, 0, 0, 1)))}
    demands = of_changes()
    world = {number: by_now(change, now) for number, change in enumerate(found)}
    more = {number: more_of(dice, change, now) for number, change in world.items()}
    verdicts = judge(rich_log(world, more, now, unread), [demands], change_mapping().types(), now)
    actual = {(row[0], row[1]): Said(*row[2:]) for row in verdicts.select(COLUMNS).iter_rows()}
    expected = {
        (number, demand.id): _again(
            SLOW[demand.check](view(change, now, unread), demand, more[number]), change.history.saves, now
        )
        for number, change in world.items()
        if change.history.created <= now
        for demand in demands.requirements
        if demand.check in SLOW
    }
    assert expected == {key: said for key, said in actual.items() if key in expected}
