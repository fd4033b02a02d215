"""Checks of how a case runs and ends against a slow reference: plain loops over one change at a time.

Owns a second reading of what these checks say, verdict for verdict with reason, instants and wording. It shares nothing
with the kernel but the documents. The changes come from seeds, as in ``test_slow_reference``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from itsms_sync.conformance.kernel import judge
from itsms_sync.procedures.model import Demand, FewReturns, Procedure, Requirement, UntouchedAfterClose
from tests.test_kernel import (
    CHANGE_CREATED,
    MINUTE,
    START,
    TIMER,
    Case,
    Change,
    PartRow,
    Save,
    change_log,
    change_mapping,
    change_procedure,
)

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


SLOW: dict[str, Any] = {
    "CF4": slow_returns,
    "CF6": slow_touched,
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


def demanding() -> Procedure:
    """All these checks, in several ways, over all changes."""
    requirements = (
        demanded("CHG-REWORK", "X-REWORK"),
        demanded("CHG-REWORK", "X-REWORK-NEVER", phases=("assess", "scheduled", "closed"), most=0),
        demanded("CHG-C8-UNTOUCHED", "X-UNTOUCHED"),
        demanded("CHG-C8-UNTOUCHED", "X-UNTOUCHED-LATE", fields=("risk",), states=("review", "closed")),
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
    "review_comments": ("text:3",),
    "state": ("-5", "-4", "-3", "-2", "-1", "-1", "0", "3", "4", "99"),
}
ACTORS = ("anna", "anna", "anna", "bert", "bert", TIMER, None)


def random_change(dice: Random) -> Change:
    """A change that runs along the documented path, back and forth, with things that happen between."""
    created = START + dice.choice(WAITS) * MINUTE
    first = {
        **CHANGE_CREATED,
        "state": dice.choice(("-5",) * 14 + ("-3", "99")),
        "close_code": dice.choice(("", "successful")),
    }
    return Change(Case(created, first, tuple(_walk(dice, created))), (), (), ())


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


def by_now(change: Change) -> Change:
    """Saves without a trace changed nothing."""
    saves = tuple(save if save.traced else save._replace(changes={}) for save in change.history.saves)
    return change._replace(history=change.history._replace(saves=saves))


def random_end(dice: Random, world: Sequence[Change]) -> int:
    """Mostly after all that happens, else near to something that does."""
    moments = [save.at for change in world for save in change.history.saves] or [START]
    return dice.choice((FAR, FAR, FAR, dice.choice(moments)))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_the_slow_reference_says_the_same(seed: int) -> None:
    dice = Random(seed)
    found = [random_change(dice) for _ in range(40)]
    now = random_end(dice, found)
    unread: dict[str, str] = {}
    procedure = demanding()
    world = {number: by_now(change) for number, change in enumerate(found)}
    verdicts = judge(change_log(world, now, unread), [procedure], change_mapping().types(), now)
    actual = {(row[0], row[1]): Said(*row[2:]) for row in verdicts.select(COLUMNS).iter_rows()}
    expected = {
        (number, demand.id): slowly(change, now, unread, demand)
        for number, change in world.items()
        if change.history.created <= now
        for demand in procedure.requirements
    }
    assert expected == actual


def test_the_random_changes_get_every_verdict() -> None:
    """What never comes up was never compared."""
    dice, found = Random(1), set()
    for _ in range(1500):
        change = by_now(random_change(dice))
        for demand in demanding().requirements:
            said = slowly(change, FAR, {}, demand)
            found.add((demand.check, said.status))
    statuses = ("conforming", "deviating", "unknown", "not_applicable")
    assert {(check, status) for check in SLOW for status in statuses} == found
