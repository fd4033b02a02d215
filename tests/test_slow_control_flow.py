"""Checks of how a case runs and ends against a slow reference: plain loops over one change at a time.

Owns a second reading of what these checks say, verdict for verdict with reason, instants and wording. It shares nothing
with the kernel but the documents. The changes come from seeds, as in ``test_slow_reference``.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from itsms_sync.conformance.kernel import judge
from itsms_sync.procedures.model import (
    ChildrenEnded,
    Demand,
    FewRejections,
    FewReturns,
    NoFlapping,
    NotCancelledAfterWork,
    NotResolvedUnread,
    Procedure,
    Requirement,
    UntouchedAfterClose,
)
from tests.test_kernel import MINUTE, START, TIMER, Case, Save, procedure
from tests.test_kernel_changes import CHANGE_CREATED, Change, PartRow, change_log, change_mapping, change_procedure

HOUR = 60 * MINUTE
STATES = {"-5": "new", "-4": "assess", "-3": "authorise", "-2": "scheduled", "-1": "implement", "0": "review"}
STATES |= {"3": "closed", "4": "cancelled"}
FINAL = ("closed", "cancelled", "declined")
LOST = "history lost before the first row"
GAP = "gap: saves without history"
UNMAPPED = "state not known"
COLUMNS = ("case", "requirement", "status", "reason", "at", "recheck_at", "detail")


class Said(NamedTuple):
    """A verdict."""

    status: str
    reason: str | None = None
    at: int | None = None
    recheck_at: int | None = None
    detail: str | None = None


def unknown(reason: str, at: int | None = None) -> Said:
    return Said("unknown", reason, at)


def apart(reason: str, recheck_at: int | None = None) -> Said:
    return Said("not_applicable", reason, None, recheck_at)


def conforming(at: int | None) -> Said:
    return Said("conforming", None, at)


def deviating(at: int | None, detail: str) -> Said:
    return Said("deviating", None, at, None, detail)


# --- what can be seen of one change


class Row(NamedTuple):
    at: int
    missed: int
    actor: str | None
    values: Mapping[str, str | None]

    @property
    def state(self) -> str | None:
        return STATES.get(self.values["state"] or "")

    @property
    def by_person(self) -> bool | None:
        return None if self.actor is None else self.actor != TIMER


class View(NamedTuple):
    """One change as it is known at ``now``."""

    rows: list[Row]
    missed_after: int
    approvals: list[PartRow]
    tasks: list[PartRow]
    links: list[PartRow]
    unread: Mapping[str, str]
    now: int

    @property
    def lost(self) -> bool:
        return self.rows[0].state != "new"

    @property
    def missed(self) -> bool:
        return self.missed_after > 0 or any(row.missed for row in self.rows)

    @property
    def untold(self) -> bool:
        return any(row.state is None for row in self.rows)

    def since(self) -> int:
        """When the change came to the state in which it is."""
        at = self.rows[-1].at
        for row in reversed(self.rows):
            if row.state != self.rows[-1].state:
                break
            at = row.at
        return at

    @property
    def ended(self) -> int | None:
        return self.since() if self.rows[-1].state in FINAL else None

    def first(self, *states: str) -> int | None:
        return next((n for n, row in enumerate(self.rows) if row.state in states), None)

    def unread_of(self, *names: str) -> str | None:
        return next((f"not read: {self.unread[name]}" for name in names if name in self.unread), None)

    def hidden(self) -> str | None:
        """Why it is not known what states the change was in."""
        return UNMAPPED if self.untold else LOST if self.lost else GAP if self.missed else None


def view(change: Change, now: int, unread: Mapping[str, str]) -> View:
    values, before = dict(change.history.first), 0
    rows = [Row(change.history.created, 0, None, dict(values))]
    for order, save in enumerate(change.history.saves, start=1):
        values.update(save.changes)
        if save.traced and save.at <= now:
            rows.append(Row(save.at, order - before - 1, save.actor, dict(values)))
            before = order
    over = all(save.at <= now for save in change.history.saves)
    after = len(change.history.saves) - before if over else 0
    return View(rows, after, list(change.approvals), list(change.tasks), list(change.links), unread, now)


# --- the checks


def slow_returns(seen: View, demand: FewReturns) -> Said:
    passed = [(row.at, row.state) for row in seen.rows if row.state in demand.phases]
    places = [demand.phases.index(state or "") for _, state in passed]
    back = [n for n in range(1, len(places)) if places[n] < places[n - 1]]
    if len(back) > demand.most:
        n = back[demand.most]
        told = f"went back {demand.most + 1} times, then from {passed[n - 1][1]} to {passed[n][1]}"
        return deviating(passed[n][0], told)
    return at_the_end(seen)


def at_the_end(seen: View) -> Said:
    """What is said of a change in whose states nothing was found."""
    if seen.ended is None:
        return apart("case still open")
    why = seen.hidden()
    return unknown(why, seen.ended) if why else conforming(seen.ended)


def slow_touched(seen: View, demand: UntouchedAfterClose) -> Said:
    doubt = None
    for before, row in pairwise(seen.rows):
        if row.missed or row.state not in demand.states or before.state != row.state or row.by_person is False:
            continue
        changed = [name for name in demand.fields if _was_changed(before.values[name], row.values[name])]
        if changed and row.by_person:
            names = ", ".join(name.replace("_", " ") for name in changed)
            return deviating(row.at, f"changed after it was closed: {names}")
        if changed and doubt is None:
            doubt = row.at
    if doubt is not None:
        return unknown("actor not known", doubt)
    if seen.rows[-1].state not in demand.states:
        return apart("not closed")
    return _about_closing(seen, demand)


def _was_changed(was: str | None, value: str | None) -> bool:
    return bool(was) and value is not None and value != was


def _about_closing(seen: View, demand: UntouchedAfterClose) -> Said:
    at = seen.since()
    if seen.untold:
        return unknown(UNMAPPED, at)
    for name in demand.fields:
        for before, row in pairwise(seen.rows):
            stayed = not row.missed and row.state in demand.states and before.state == row.state
            if stayed and None in (before.values[name], row.values[name]):
                return unknown(f"value not known: {name}", at)
    why = seen.hidden()
    return unknown(why, at) if why else conforming(at)


def slow_unread(seen: View, demand: NotResolvedUnread) -> Said:
    gate = seen.first("review", "closed")
    if gate is None:
        return apart("gate not reached")
    at, before, resolving = seen.rows[gate].at, seen.rows[1:gate], seen.rows[gate]
    took = at - seen.rows[0].at
    if took >= millis(demand.within) or any(row.state == "implement" for row in seen.rows[: gate + 1]):
        return conforming(at)
    if any(row.by_person for row in before) or any(resolving.values[name] for name in demand.notes):
        return conforming(at)
    if resolving.by_person is False:
        return apart("resolved by a system account")
    if any(link["role"] in demand.roles and link["via"] is None for link in seen.links):
        return apart("resolved together with another case")
    if took < 0:
        return unknown("clock went back", at)
    return _about_unread(seen, demand, gate)


def _about_unread(seen: View, demand: NotResolvedUnread, gate: int) -> Said:
    at = seen.rows[gate].at
    for name in demand.notes:
        if seen.rows[gate].values[name] is None:
            return unknown(f"value not known: {name}", at)
    if any(row.state is None for row in seen.rows[: gate + 1]):
        return unknown("value not known", at)
    if seen.lost or any(row.missed for row in seen.rows[: gate + 1]):
        return unknown(LOST if seen.lost else GAP, at)
    if any(row.by_person is None for row in seen.rows[1 : gate + 1]):
        return unknown("actor not known", at)
    names = ("links", *(f"links.{role}" for role in demand.roles)) if demand.roles else ()
    if why := seen.unread_of(*names):
        return unknown(why, at)
    return deviating(at, f"resolved {(at - seen.rows[0].at) // 1000} s after it was opened")


def slow_cancelled(seen: View, demand: NotCancelledAfterWork) -> Said:
    gate = seen.first("cancelled")
    if gate is None:
        return apart("gate not reached")
    at, worked, possible = seen.rows[gate].at, 0, 0
    for n in range(gate):
        row, after = seen.rows[n], seen.rows[n + 1]
        span = after.at - row.at
        if after.missed or row.state is None:
            possible += span
        elif row.state in demand.work:
            possible += span
            worked += 0 if n == 0 and seen.lost else span
    if worked > millis(demand.grace):
        hours, minutes = divmod(worked // MINUTE, 60)
        return deviating(at, f"cancelled after {hours} h {minutes} min of work")
    if seen.lost:
        return unknown(LOST, at)
    if possible <= millis(demand.grace):
        return conforming(at)
    return unknown(UNMAPPED if any(row.state is None for row in seen.rows[:gate]) else GAP, at)


def slow_flapping(seen: View, demand: NoFlapping) -> Said:
    moves = [
        (before.state, row)
        for before, row in pairwise(seen.rows)
        if None not in (before.state, row.state) and before.state != row.state and row.by_person is not False
    ]
    known = [(was, row) for was, row in moves if row.by_person]
    for certain, listed in ((True, known), (False, moves)):
        for n in range(demand.changes - 1, len(listed)):
            burst = listed[n - demand.changes + 1 : n + 1]
            passed = [burst[0][0] or "", *(row.state or "" for _, row in burst)]
            took = burst[-1][1].at - burst[0][1].at
            if took <= millis(demand.within) and len(set(passed)) < len(passed):
                at = burst[-1][1].at
                told = f"{' -> '.join(passed)} within {took // MINUTE} min"
                return deviating(at, told) if certain else unknown("actor not known", at)
    return at_the_end(seen)


def slow_rejections(seen: View, demand: FewRejections) -> Said:
    rejected = [row for row in seen.approvals if row["state"] == "rejected" and row["decided_at"] is not None]
    rejected.sort(key=lambda row: (row["decided_at"], row["asked_at"]))
    rounds = [
        row["decided_at"]
        for n, row in enumerate(rejected)
        if n == 0 or row["asked_at"] >= rejected[n - 1]["decided_at"]
    ]
    if len(rounds) > demand.most:
        return deviating(rounds[demand.most], f"rejected {demand.most + 1} times")
    if seen.ended is None:
        return apart("case still open")
    if why := seen.unread_of("approvals"):
        return unknown(why, seen.ended)
    perhaps = [row for row in seen.approvals if row["state"] in ("rejected", None)]
    sure = all(row["state"] and row["exact"] and row["decided_at"] is not None for row in perhaps)
    if not sure and len({row["asked_at"] for row in perhaps}) > demand.most:
        return unknown("stage or decision of an approval not known", seen.ended)
    return conforming(seen.ended) if seen.approvals else apart("nobody was asked to approve")


def slow_children(seen: View, demand: ChildrenEnded) -> Said:
    gate = seen.first("closed")
    if gate is None:
        return apart("gate not reached")
    at = seen.rows[gate].at
    if seen.lost and gate == 0:
        return unknown(LOST, at)
    due = at + millis(demand.grace)
    meant = [row for row in seen.tasks if row["type"] in (*demand.tasks, None) and row["opened_at"] <= at]
    tasks = [(_about_task(row, meant, due, seen), f"task of {row['type']}") for row in meant] if demand.tasks else []
    cases = [(_about_case(row), row["role"].replace("_", " ")) for row in _linked(seen, demand, at)]
    found = [*tasks, *cases]
    off = sorted({name for what, name in found if what == "off"})
    left = sorted({name for what, name in found if what == "left"})
    if off:
        return deviating(at, "not done: " + ", ".join(off))
    if left and seen.now > due:
        return deviating(due, "left open: " + ", ".join(left))
    if left:
        return apart("within the limit", due + 1)
    return _about_children(seen, demand, at, [what for what, _ in found])


def _linked(seen: View, demand: ChildrenEnded, at: int) -> list[PartRow]:
    links = [row for row in seen.links if row["role"] in demand.roles and row["via"] is None]
    return [row for row in links if row["at"] is None or row["at"] <= at]


def _about_task(task: PartRow, all_: Sequence[PartRow], due: int, seen: View) -> str:
    is_open, ended = task["state"] in ("open", "work"), task["ended_at"]
    if task["type"] is None or task["state"] is None or (is_open and task["gone"]):
        return "task untold"
    if is_open:
        return "left"
    if ended is None or ended > due:
        return "left" if ended is not None and task["exact"] else "task untold"
    made = [one for one in all_ if one["type"] == task["type"] and one["state"] == "done" and one["ended_at"]]
    if task["state"] == "done" or any(one["ended_at"] <= due for one in made):
        return "well"
    moves = [row.at for before, row in pairwise(seen.rows) if before.state != row.state]
    if any(0 <= ended - at <= 5000 for at in moves):
        return "by workflow"
    return {True: "off", False: "by workflow", None: "unsigned"}[task["human"]]


def _about_case(link: PartRow) -> str:
    if link["process"] != "change" or link["state"] is None:
        return "case untold"
    return "well" if link["state"] in ("review", *FINAL) else "left"


def _about_children(seen: View, demand: ChildrenEnded, at: int, found: Sequence[str]) -> Said:
    names = ("tasks",) if demand.tasks else ()
    names += ("links", *(f"links.{role}" for role in demand.roles)) if demand.roles else ()
    if why := seen.unread_of(*names):
        return unknown(why, at)
    if "task untold" in found:
        return unknown("type or state of a task not known", at)
    if "case untold" in found:
        return unknown("state of a linked case not known", at)
    if "unsigned" in found:
        return unknown("actor not known", at)
    if "by workflow" in found:
        return apart("cancelled by a workflow, not by a person")
    return conforming(at) if found else apart("nothing belongs to it")


def millis(time: timedelta) -> int:
    return time // timedelta(milliseconds=1)


SLOW: dict[str, Any] = {
    "CF4": slow_returns,
    "CF6": slow_touched,
    "CF7": slow_unread,
    "CF8": slow_rejections,
    "CF9": slow_cancelled,
    "CF10": slow_flapping,
    "CF12": slow_children,
}


def slowly(change: Change, now: int, unread: Mapping[str, str], demand: Demand) -> Said:
    """The verdict; a case of which there is more than can be seen yet is judged again when that may be seen."""
    found: Said = SLOW[getattr(demand, "check", "")](view(change, now, unread), demand)
    saves = change.history.saves
    coming = {*(save.at for save in saves if save.traced), *(save.at for save in saves[-1:])}
    again = [at for at in (found.recheck_at, *coming) if at is not None and (at > now or at == found.recheck_at)]
    return found._replace(recheck_at=min(again, default=None))


# --- the procedure


def demanded(like: str, id_: str, **keys: Any) -> Requirement:
    """A shipped requirement that applies to all changes, with other keys."""
    shipped = next(r for r in change_procedure().requirements if r.id == like)
    return shipped.model_copy(update={"id": id_, "applies": None, **keys})


def moved(like: str, id_: str, **keys: Any) -> Requirement:
    """A requirement of the shipped incident procedure, demanded of all changes."""
    shipped = next(r for r in procedure().requirements if r.id == like)
    return shipped.model_copy(update={"id": id_, "applies": None, **keys})


def demanding() -> Procedure:
    """All these checks, in several ways, over all changes."""
    unread = {"work": "implement", "gate": ("review", "close")}
    requirements = (
        demanded("CHG-REWORK", "X-REWORK"),
        demanded("CHG-REWORK", "X-REWORK-NEVER", phases=("assess", "scheduled", "closed"), most=0),
        demanded("CHG-C8-UNTOUCHED", "X-UNTOUCHED"),
        demanded("CHG-C8-UNTOUCHED", "X-UNTOUCHED-LATE", fields=("risk",), states=("review", "closed")),
        moved("INC-I8-UNREAD", "X-UNREAD", **unread, notes=("review_comments",), roles=("trigger",)),
        moved("INC-I8-UNREAD", "X-UNREAD-LONG", **unread, notes=(), roles=(), within=timedelta(minutes=5)),
        demanded("CHG-C3-ROUNDS", "X-ROUNDS"),
        demanded("CHG-C3-ROUNDS", "X-ROUNDS-NEVER", most=0),
        demanded("CHG-C5-CANCELLED", "X-CANCELLED"),
        demanded("CHG-C5-CANCELLED", "X-CANCELLED-LONG", work=("implement", "scheduled"), grace=timedelta(hours=1)),
        moved("INC-FLAPPING", "X-FLAPPING"),
        moved("INC-FLAPPING", "X-FLAPPING-SLOW", changes=3, within=timedelta(hours=1)),
        demanded("CHG-C6-LEFT", "X-LEFT", tasks=("testing", "review")),
        demanded("CHG-C6-LEFT", "X-LEFT-CASES", tasks=(), roles=("trigger",), grace=timedelta(0)),
        demanded("CHG-C6-LEFT", "X-LEFT-BOTH", roles=("problem",), grace=timedelta(hours=5)),
    )
    return change_procedure().model_copy(update={"requirements": requirements, "short_cuts": ()})


# --- random changes

FAR = START + 20_000 * MINUTE
"""After all that happens."""
WAITS = (0, 1, 2, 3, 5, 29, 30, 31, 300)
PATH = ("-4", "-3", "-2", "-1", "0", "3")
LATER: dict[str, tuple[str | None, ...]] = {
    "risk": ("2", "3", "", None),
    "close_code": ("successful", "unsuccessful", "", None),
    "review_comments": ("text:3", "", None),
    "state": ("-5", "-4", "-3", "-2", "-1", "-1", "0", "3", "4", "99"),
}
UNREAD = ("approvals", "tasks", "links", "links.trigger", "links.problem")
ACTORS = ("anna", "anna", "anna", "bert", "bert", TIMER, None)


def random_change(dice: Random) -> Change:
    """A change that runs along the documented path, back and forth, with things that happen between."""
    created = START + dice.choice(WAITS) * MINUTE
    first = {
        **CHANGE_CREATED,
        "state": dice.choice(("-5",) * 14 + ("-3", "99")),
        "close_code": dice.choice(("", "successful")),
    }
    saves = tuple(_walk(dice, created))
    moments = [created, *(save.at for save in saves)]
    return Change(
        Case(created, first, saves),
        tuple(_approval(dice, moments) for _ in range(dice.choice((0, 1, 2, 3, 4, 6)))),
        tuple(_task(dice, moments) for _ in range(dice.choice((0, 0, 1, 2)))),
        tuple(_link(dice, moments) for _ in range(dice.choice((0, 0, 1)))),
    )


def _walk(dice: Random, created: int) -> Iterator[Save]:
    path = [state for state in PATH if dice.random() < 0.9]
    for _ in range(dice.choice((0, 0, 1, 2, 3))):
        place = dice.randrange(len(path) + 1)
        path[place:place] = dice.choice((("-3", "-5"), ("-4", "-3"), ("-2", "-4"), ("-1", "4"), ("3",), ("99",)))
    at, whole = created, dice.choice((0.9, 1, 1))
    pace = dice.choice((WAITS, WAITS[:5]))
    for state in path:
        at += dice.choice(pace) * MINUTE
        yield Save(at, dice.choice(ACTORS), {"state": state}, dice.random() < whole)
        for _ in range(dice.choice((0, 0, 0, 1, 2))):
            at += dice.choice(pace) * MINUTE
            name = dice.choice(tuple(LATER))
            yield Save(at, dice.choice(ACTORS), {name: dice.choice(LATER[name])}, dice.random() < whole)


def _near(dice: Random, moments: Sequence[int]) -> int:
    return dice.choice(moments) + dice.choice((0, 0, 0, 1, -1, 30, -30)) * MINUTE


def _approval(dice: Random, moments: Sequence[int]) -> PartRow:
    asked = _near(dice, moments)
    state = dice.choice(("requested", "approved", "cancelled", *("rejected",) * 6, *((None,) * (dice.random() < 0.1))))
    answered = state in ("approved", "rejected") and dice.random() < 0.95
    return {
        "approver": "anna",
        "state": state,
        "asked_at": asked,
        "decided_at": max(_near(dice, moments), asked) if answered else None,
        "exact": dice.random() < 0.9,
        "actor": "anna",
        "human": True,
        "stage": "authorise",
    }


def _task(dice: Random, moments: Sequence[int]) -> PartRow:
    ended = max(moments) + dice.choice((0, -30, 30, 6 * 60, 2 * 24 * 60)) * MINUTE
    return {
        "type": dice.choice(("testing", "testing", "review", "implementation", *((None,) * (dice.random() < 0.2)))),
        "state": dice.choice(("open", "work", "done", "done", "incomplete", "skipped", "cancelled", "cancelled", None)),
        "opened_at": _near(dice, moments),
        "ended_at": dice.choice((ended, ended, ended, None)),
        "exact": dice.random() < 0.8,
        "workers": [],
        "human": dice.choice((True, False, None)),
        "gone": dice.random() < 0.2,
    }


def _link(dice: Random, moments: Sequence[int]) -> PartRow:
    return {
        "role": dice.choice(("trigger", "problem")),
        "via": dice.choice((None, None, "parent")),
        "process": dice.choice(("change", "change", "change", "incident", None)),
        "state": dice.choice(("implement", "review", "closed", "cancelled", None)),
        "at": dice.choice((None, _near(dice, moments))),
    }


def by_now(change: Change, now: int) -> Change:
    """What there was at ``now``, as it stood. Saves without a trace changed nothing."""

    def approval(row: PartRow) -> PartRow:
        later = row["decided_at"] is not None and row["decided_at"] > now
        return {**row, "state": "requested", "decided_at": None} if later else row

    def task(row: PartRow) -> PartRow:
        later = row["ended_at"] is not None and row["ended_at"] > now
        return {**row, "state": "work", "ended_at": None} if later else row

    saves = tuple(save if save.traced else save._replace(changes={}) for save in change.history.saves)
    return Change(
        change.history._replace(saves=saves),
        tuple(approval(row) for row in change.approvals if row["asked_at"] <= now),
        tuple(task(row) for row in change.tasks if row["opened_at"] <= now),
        tuple(row for row in change.links if row["at"] is None or row["at"] <= now),
    )


def random_end(dice: Random, world: Sequence[Change]) -> int:
    """Mostly after all that happens, else near to something that does, or to the end of a time of grace."""
    moments = [save.at for change in world for save in change.history.saves] or [START]
    return dice.choice((FAR, FAR, FAR, dice.choice(moments), dice.choice(moments) + 5 * HOUR))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_the_slow_reference_says_the_same(seed: int) -> None:
    dice = Random(seed)
    found = [random_change(dice) for _ in range(40)]
    now = random_end(dice, found)
    unread = {name: f"{name} refused" for name in dice.sample(UNREAD, dice.choice((0, 0, 0, 1)))}
    document = demanding()
    world = {number: by_now(change, now) for number, change in enumerate(found)}
    verdicts = judge(change_log(world, now, unread), [document], change_mapping().types(), now)
    actual = {(row[0], row[1]): Said(*row[2:]) for row in verdicts.select(COLUMNS).iter_rows()}
    expected = {
        (number, demand.id): slowly(change, now, unread, demand)
        for number, change in world.items()
        if change.history.created <= now
        for demand in document.requirements
    }
    assert expected == actual


def test_the_random_changes_get_every_verdict() -> None:
    """What never comes up was never compared."""
    dice, found = Random(1), set()
    for _ in range(1500):
        change = by_now(random_change(dice), FAR)
        for demand in demanding().requirements:
            said = slowly(change, FAR, {}, demand)
            found.add((demand.check, said.status))
    statuses = ("conforming", "deviating", "unknown", "not_applicable")
    assert {(check, status) for check in SLOW for status in statuses} == found
