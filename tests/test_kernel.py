"""Properties of the kernel over random histories: gaps, ties, late starts, several priorities, open cases, versions.

Single verdicts with their reasons are in ``cases``; here is what must hold for all of them.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from itsms_sync.conformance.kernel import judge
from itsms_sync.conformance.verdicts import BY_SHORT_CUT
from itsms_sync.documents import load
from itsms_sync.procedures.model import (
    Procedure,
    ResolvedInTime,
    RespondedInTime,
    ShortCut,
)
from itsms_sync.sms.cases import EVENTS, RECORDS, Basis, CaseLog, from_history, from_log
from itsms_sync.sms.mapping import LateColumn, LogColumns, ProcessMapping
from itsms_sync.sms.mapping import Mapping as MappingDocument

MAPPINGS = Path(__file__).parent.parent / "mappings"
MINUTE = 60_000
START = int(datetime(2026, 3, 2, 20, tzinfo=UTC).timestamp() * 1000)
"""Four hours before a midnight at which a second version of the procedure comes into force."""
TIMER = "timer"
Values = Mapping[str, str | None]
Verdict = tuple[str, str | None, int | None, str | None, int | None]
Said = dict[tuple[int, str], Verdict]

patient = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def mapping() -> ProcessMapping:
    return load(MAPPINGS / "servicenow.yaml", MappingDocument).processes["incident"]


@cache
def procedure() -> Procedure:
    return load(MAPPINGS / "procedures" / "incident.yaml", Procedure)


@cache
def versions() -> tuple[Procedure, ...]:
    """The shipped procedure, and a later version that forbids, allows, drops and limits other things."""
    flow = procedure().flow
    edges = {**flow.edges, "new": ("work", "hold"), "resolved": ("closed",)}
    requirements = [
        r.model_copy(update={"limit": r.limit.model_copy(update={"time": r.limit.time * 2})})
        if isinstance(r, RespondedInTime | ResolvedInTime)
        else r
        for r in procedure().requirements
        if r.id != "INC-I4-ASSIGN"
    ]
    later = {
        "version": "2.0",
        "valid_from": date(2026, 3, 3),
        "flow": flow.model_copy(update={"edges": edges}),
        "short_cuts": (),
        "requirements": tuple(requirements),
    }
    first = {"requirements": tuple(r for r in procedure().requirements if r.id != "INC-I8-NOTES")}
    return procedure().model_copy(update=first), procedure().model_copy(update=later)


# --- random histories


class Save(NamedTuple):
    at: int
    actor: str | None
    changes: Values
    traced: bool


class Case(NamedTuple):
    created: int
    first: Values
    saves: tuple[Save, ...]

    def until(self, now: int) -> "Case":
        return self._replace(saves=tuple(save for save in self.saves if save.at <= now))


CREATED = {
    "state": "1",
    "hold_reason": "",
    "impact": "2",
    "urgency": "2",
    "priority": "1",
    "category": "lan",
    "assignment_group": "",
    "contact_type": "email",
    "reassignment_count": "0",
    "reopen_count": "0",
    "close_code": "",
    "close_notes": "",
}
CHANGES: dict[str, list[str | None]] = {
    "state": ["1", "2", "2", "3", "6", "6", "7", "7", "8", "-100"],
    "hold_reason": ["", "1", "1", "4", "99"],
    "impact": ["1", "2", "3", ""],
    "urgency": ["1", "2", "3", "9"],
    "priority": ["1", "1", "2", "3", ""],
    "category": ["", "lan"],
    "assignment_group": ["a", "b", "a", "b", "c", ""],
    "contact_type": ["phone", "email"],
    "reassignment_count": ["0", "1"],
    "reopen_count": ["0", "1"],
    "close_code": ["", "solved"],
    "close_notes": ["", "text:1"],
}
WAITS = [0, 0, 1, 5, 14, 15, 16, 29, 30, 31, 60, 120, 239, 240, 241, 479, 480, 481, 1_500, 6_000]
ACTORS = ["anna", "bert", TIMER, None]

waits = st.sampled_from(WAITS).map(lambda minutes: minutes * MINUTE)
change = st.sampled_from([(name, value) for name, values in CHANGES.items() for value in values])
state_change = st.sampled_from([("state", value) for value in CHANGES["state"]])
changes = st.one_of(
    st.just({}),
    state_change.map(lambda one: dict([one])),
    st.lists(st.one_of(state_change, change), max_size=4).map(dict),
)


@st.composite
def cases(draw: st.DrawFn, *, gaps: str = "any", steps_back: bool = False) -> Case:
    """``gaps``: ``any`` saves may leave no trace, only ``empty`` ones, or ``none``."""
    created = at = START + draw(waits)
    saves = []
    for wait, content, actor, lost in draw(
        st.lists(
            st.tuples(waits, changes, st.sampled_from(ACTORS), st.sampled_from([False, False, False, True])), max_size=8
        )
    ):
        back = steps_back and wait == 29 * MINUTE
        at += -wait if back else wait
        lost = lost and (gaps == "any" or (gaps == "empty" and not content))
        saves.append(Save(max(at, created), actor, content, not lost))
    return Case(created, {**CREATED, **draw(changes)}, tuple(saves))


def several(**options: object) -> st.SearchStrategy[list[Case]]:
    return st.lists(cases(**options), min_size=1, max_size=12)  # type: ignore[arg-type]


instants = st.integers(0, 12_000).map(lambda minutes: START + minutes * MINUTE) | waits.map(lambda wait: START + wait)


def frames(stored: Mapping[int, Case], fields: Iterable[str] = CREATED) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Records and events of these cases, by number, as a source would deliver them after all their saves."""
    records, events = [], []
    for number, case in stored.items():
        values = dict(case.first)
        for order, save in enumerate(case.saves, start=1):
            changed = {name: new for name, new in save.changes.items() if new != values[name]}
            if save.traced:
                events += [
                    (number, order, save.at, name, values[name], new, save.actor) for name, new in changed.items()
                ]
                # Every third save has further content that was not asked for, and such content names nobody.
                if not changed or order % 3 == 0:
                    events.append((number, order, save.at, "", None, None, None if changed else save.actor))
            values.update(changed)
        updated = max([case.created, *(save.at for save in case.saves)])
        opened = datetime.fromtimestamp(case.created / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        records.append((number, case.created, updated, len(case.saves), opened, *values.values()))
    schema = {**RECORDS, "opened_at": pl.String, **dict.fromkeys(fields, pl.String)}
    return pl.DataFrame(records, schema=schema, orient="row"), pl.DataFrame(events, schema=EVENTS, orient="row")


def basis(now: int, audited: Iterable[str] | None = None) -> Basis:
    fields = mapping().audited_fields() if audited is None else frozenset(audited)
    return Basis(mapping(), now, fields, frozenset({TIMER}))


def read(stored: Mapping[int, Case], now: int, *, without_history: Iterable[str] = ("close_notes",)) -> CaseLog:
    return from_history(*frames(stored), basis(now, mapping().audited_fields() - set(without_history)))


def said(log: CaseLog, now: int, procedures: Sequence[Procedure]) -> Said:
    verdicts = judge(log, procedures, mapping().types(), now)
    columns = ("case", "requirement", "status", "reason", "at", "detail", "recheck_at")
    found = {(row[0], row[1]): row[2:] for row in verdicts.select(columns).iter_rows()}
    assert len(verdicts) == len(found), "a case has at most one verdict for each requirement"
    return found


def without_recheck(verdicts: Said) -> dict[tuple[int, str], tuple[object, ...]]:
    return {key: verdict[:4] for key, verdict in verdicts.items()}


# --- promise 5: judging what changed or fell due equals judging everything


def known(world: Mapping[int, Case], now: int) -> dict[int, Case]:
    """The store at ``now``: what had happened and been read by then."""
    return {number: case.until(now) for number, case in world.items() if case.created <= now}


def changed_between(world: Mapping[int, Case], before: int, now: int) -> set[int]:
    instants_of = {number: [case.created, *(save.at for save in case.saves)] for number, case in world.items()}
    return {number for number, found in instants_of.items() if any(before < at <= now for at in found)}


def due(verdicts: Said, now: int) -> set[int]:
    return {number for (number, _), verdict in verdicts.items() if verdict[4] is not None and verdict[4] <= now}


def incremental(
    world: Mapping[int, Case],
    moments: Sequence[int],
    procedures: Sequence[Procedure],
    store: Callable[..., dict[int, Case]],
) -> tuple[Said, Said]:
    """The verdicts after the last moment, judged step by step and judged all at once."""
    kept: Said = {}
    before = START - 1
    for now in moments:
        wanted = due(kept, now) | changed_between(world, before, now)
        part = {number: case for number, case in store(world, now).items() if number in wanted}
        if part:
            others = {key: verdict for key, verdict in kept.items() if key[0] not in part}
            kept = others | said(read(part, now), now, procedures)
        before = now
    everything = store(world, moments[-1])
    return kept, said(read(everything, moments[-1]), moments[-1], procedures) if everything else {}


def everything_stored(world: Mapping[int, Case], now: int) -> dict[int, Case]:
    """As when a stored history is judged anew as of an earlier instant."""
    del now
    return dict(world)


@pytest.mark.parametrize(
    ("store", "procedures"),
    [
        pytest.param(known, (procedure(),), id="live", marks=pytest.mark.slow),
        pytest.param(known, versions(), id="live, two versions"),
        pytest.param(everything_stored, versions(), id="as of, two versions"),
    ],
)
def test_judging_what_changed_or_fell_due_equals_judging_everything(
    store: Callable[..., dict[int, Case]], procedures: tuple[Procedure, ...]
) -> None:
    @given(several(steps_back=store is everything_stored), st.lists(instants, min_size=2, max_size=3).map(sorted))
    @patient
    def holds(found: list[Case], moments: list[int]) -> None:
        step_by_step, at_once = incremental(dict(enumerate(found)), moments, procedures, store)
        assert at_once == step_by_step

    holds()


# --- no foresight


@given(several(gaps="empty", steps_back=True), several(gaps="empty"), instants)
@patient
def test_what_happens_later_changes_no_verdict(found: list[Case], others: list[Case], now: int) -> None:
    past = {number: _witnessed(case.until(now)) for number, case in enumerate(found) if case.created <= now}
    futures = {number: _with_future(case, found[number], now) for number, case in past.items()}
    changed = {number: _with_future(case, others[number % len(others)], now) for number, case in past.items()}
    if not past:
        return
    logs = [read(world, now, without_history=()) for world in (past, futures, changed)]
    expected, with_future, with_another = (without_recheck(said(log, now, versions())) for log in logs)
    assert expected == with_future
    assert expected == with_another


def _witnessed(case: Case) -> Case:
    """A save without a trace just before now is only told of by the counter, which as of now is not known."""
    return case._replace(saves=tuple(save._replace(traced=True) for save in case.saves))


def _with_future(past: Case, other: Case, now: int) -> Case:
    future = [save._replace(at=max(save.at, now + 1)) for save in other.saves if save.at > now]
    return past._replace(saves=(*past.saves, *future))


@given(several(gaps="empty", steps_back=True), instants)
@patient
def test_two_futures_change_no_verdict(found: list[Case], now: int) -> None:
    """The same with gaps, and with a field of which only the last value is known: what was read after ``now`` then
    tells less than what was read at ``now``, but never anything else.
    """
    world = {number: case for number, case in enumerate(found) if case.created <= now}
    if not world:
        return
    later = Save(now + MINUTE, None, {}, traced=True)
    one = {number: case.until(now)._replace(saves=(*case.until(now).saves, later)) for number, case in world.items()}
    lost = (later._replace(traced=False), later._replace(traced=False, changes={"close_notes": "text:2"}))
    other = {number: case._replace(saves=(*case.saves, *lost)) for number, case in one.items()}
    expected, with_another = (without_recheck(said(read(each, now), now, versions())) for each in (one, other))
    assert expected == with_another


# --- neither order nor company of the input matters


@given(several(), instants, st.integers())
@patient
def test_order_of_the_input_changes_nothing(found: list[Case], now: int, seed: int) -> None:
    world = dict(enumerate(found))
    records, events = frames(world)
    events = events.filter(pl.col("field") != "")
    expected = said(from_history(records, events, basis(now)), now, [procedure()])
    order = list(range(len(events)))
    random.Random(seed).shuffle(order)
    assert expected == said(from_history(records, events[order], basis(now)), now, [procedure()])


@given(several(), instants, st.integers(1, 4))
@patient
def test_judging_in_batches_changes_nothing(found: list[Case], now: int, size: int) -> None:
    world = dict(enumerate(found))
    expected = said(read(world, now), now, [procedure()])
    parts: Said = {}
    for first in range(0, len(found), size):
        parts |= said(read({n: world[n] for n in range(first, min(first + size, len(found)))}, now), now, [procedure()])
    assert expected == parts


# --- a file of rows says the same as a history of changes

COLUMNS = ["number", "counter", "time", "by", "opened_at", *CREATED]


def columns(late: Mapping[str, LateColumn]) -> LogColumns:
    return LogColumns(
        document="LOG-TEST",
        version="1",
        process="incident",
        case="number",
        time="time",
        time_format="%Y-%m-%d %H:%M:%S",
        saves="counter",
        actor="by",
        system_accounts=(TIMER,),
        late=dict(late),
        mapping=mapping(),
    )


def stamp(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def log_rows(number: int, case: Case) -> list[dict[str, str | None]]:
    """One row per save that left a trace, with the whole record as it stood after it."""
    values = dict(case.first)
    creation = {"number": f"INC{number}", "opened_at": stamp(case.created), "time": stamp(case.created)}
    rows = [{**creation, "counter": "0", "by": "anna", **values}]
    for order, save in enumerate(case.saves, start=1):
        values.update(save.changes)
        if save.traced:
            rows.append({**creation, "time": stamp(save.at), "counter": str(order), "by": save.actor, **values})
    return rows


def log_frame(found: Iterable[Case]) -> pl.DataFrame:
    rows = [row for number, case in enumerate(found) for row in log_rows(number, case)]
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String))


def said_of_log(raw: pl.DataFrame, now: int, late: Mapping[str, LateColumn]) -> Said:
    log, ids = from_log(raw, columns(late), now)
    numbers = {case: int(name.removeprefix("INC")) for case, name in ids.iter_rows()}
    return {(numbers[case], name): verdict for (case, name), verdict in said(log, now, [procedure()]).items()}


def _ends_with_a_trace(case: Case) -> Case:
    """A file of rows cannot tell of saves after its last row."""
    return case._replace(saves=(*case.saves[:-1], *(save._replace(traced=True) for save in case.saves[-1:])))


def _shows_what_is_to_come(case: Case, now: int) -> bool:
    """Each row of a file holds the whole record, so where the clock stepped back, a row that may be seen shows what an
    earlier save changed that may not be seen yet. An audit trail does not.
    """
    unseen = [save.at > now for save in case.saves]
    return any(hidden and not shown for hidden, shown in pairwise(unseen))


@given(several(gaps="empty", steps_back=True), instants)
@patient
def test_a_log_and_a_history_say_the_same(found: list[Case], now: int) -> None:
    found = [_ends_with_a_trace(case) for case in found]
    assume(not any(_shows_what_is_to_come(case, now) for case in found))
    history = from_history(*frames(dict(enumerate(found))), basis(now))
    assert said(history, now, [procedure()]) == said_of_log(log_frame(found), now, {})


LATE = {
    "close_code": LateColumn(states=("resolved", "closed")),
    "close_notes": LateColumn(states=("closed",)),
}


@given(several(gaps="empty"), instants)
@patient
def test_blanking_final_values_before_the_state_that_fills_them_changes_nothing(found: list[Case], now: int) -> None:
    final = pl.col(list(LATE)).last().over("number")
    raw = log_frame(found).with_columns(final)
    words = {"6": "resolved", "7": "closed"}
    blanked = []
    for row in raw.iter_rows(named=True):
        earlier = [r for r in blanked if r["number"] == row["number"]]
        reached = {words.get(r["state"]) for r in [*earlier, row]}
        blanked.append({**row, **{n: "" for n, late in LATE.items() if not reached & set(late.states)}})
    expected = said_of_log(raw, now, LATE)
    assert expected == said_of_log(pl.DataFrame(blanked, schema=raw.schema), now, LATE)


# --- a slow reference, row by row

WORDS = {"1": "new", "2": "work", "3": "hold", "6": "resolved", "7": "closed", "8": "cancelled"}
DONE = {"resolved", "closed", "cancelled"}
FINAL = {"closed", "cancelled"}


class Row(NamedTuple):
    at: int
    missed: int
    values: Values

    @property
    def state(self) -> str | None:
        return WORDS.get(self.values["state"] or "")

    @property
    def waits_for_problem(self) -> bool:
        """Whether it certainly waits for a problem."""
        return self.state == "hold" and self.values["hold_reason"] == "3"


class Seen(NamedTuple):
    """What can be seen of one case: its rows, the first being the creation."""

    rows: list[Row]

    @property
    def missed(self) -> int:
        return sum(row.missed for row in self.rows)

    @property
    def lost(self) -> bool:
        return self.rows[0].state != "new"

    @property
    def ended(self) -> int | None:
        if self.rows[-1].state not in FINAL:
            return None
        entered = [row.at for before, row in zip([None, *self.rows], self.rows, strict=False) if _differs(before, row)]
        return entered[-1]

    def awaited_problem(self, number: int) -> bool:
        """Whether it had certainly waited for a problem by that row."""
        return any(row.waits_for_problem for row in self.rows[: number + 1])

    @property
    def first_contact(self) -> bool:
        last = self.rows[-1].values
        return last["reassignment_count"] == "0" and last["contact_type"] in ("phone", "chat", "walk-in")


def _differs(before: Row | None, row: Row) -> bool:
    return before is None or before.state != row.state


def seen(case: Case, now: int) -> Seen:
    values, rows, before = dict(case.first), [Row(case.created, 0, dict(case.first))], 0
    for order, save in enumerate(case.saves, start=1):
        values.update(save.changes)
        if save.traced and save.at <= now:
            rows.append(Row(save.at, order - before - 1, dict(values)))
            before = order
    return Seen(rows)


def at_the_end(case: Seen, unknown: bool, why: str) -> tuple[str, str | None]:
    """What is said of a case in which nothing was found."""
    if case.ended is None:
        return "not_applicable", "case still open"
    if unknown:
        return "unknown", why
    if case.lost:
        return "unknown", "history lost before the first row"
    if case.missed:
        return "unknown", "gap: saves without history"
    return "conforming", None


def slow_flow(case: Seen) -> tuple[str, str | None]:
    edges = procedure().flow.edges
    for number, (before, row) in enumerate(pairwise(case.rows), start=1):
        move = (before.state, row.state)
        if None in move or before.state == row.state or row.missed or row.state in edges.get(before.state or "", ()):
            continue
        if (case.first_contact and move == ("new", "resolved")) or move == ("cancelled", "closed"):
            continue
        if move != ("hold", "resolved") or not case.awaited_problem(number):
            return "deviating", None
    return at_the_end(case, any(row.state is None for row in case.rows), "state not known")


def slow_reopen(case: Seen) -> tuple[str, str | None]:
    states = [row.state for row in case.rows if row.state is not None]
    if any(before in DONE and after not in DONE for before, after in pairwise(states)):
        return "deviating", None
    if not DONE & set(states):
        return "not_applicable", "never resolved"
    counter = case.rows[-1].values["reopen_count"]
    if case.ended is not None and counter == "0":
        return "conforming", None
    return at_the_end(case, counter != "0", "the counter of reopenings tells of more than the history")


def slow_ping_pong(case: Seen) -> tuple[str, str | None]:
    groups: list[str] = []
    for row in case.rows:
        group = row.values["assignment_group"]
        if group and groups[-1:] != [group]:
            groups.append(group)
    if any(one == three for one, three in zip(groups, groups[2:], strict=False)):
        return "deviating", None
    return at_the_end(case, False, "")


def slow_matrix(case: Seen) -> tuple[str, str | None]:
    values = case.rows[-1].values
    if "" in (values["impact"], values["urgency"], values["priority"]):
        return "unknown", "value not known: impact, urgency or priority"
    expected = {"1": {"1": "1", "2": "2", "3": "3"}, "2": {"1": "2", "2": "3", "3": "4"}}
    expected["3"] = {"1": "3", "2": "4", "3": "5"}
    priority = expected[values["impact"] or ""].get(values["urgency"] or "")
    if priority is None:
        return "unknown", "the matrix has no such impact and urgency"
    return ("conforming" if priority == values["priority"] else "deviating"), None


def slow_work(case: Seen) -> tuple[str, str | None]:
    """CF1 for the step "work"."""
    missed = 0
    for number, row in enumerate(case.rows):
        missed += row.missed
        if row.state in ("resolved", "closed"):
            before = [earlier.state for earlier in case.rows[: number + 1]]
            if "work" in before:
                return "conforming", None
            if case.first_contact:
                return "not_applicable", BY_SHORT_CUT + "resolved at first contact"
            if "cancelled" in before:
                return "not_applicable", BY_SHORT_CUT + "closed after it was cancelled"
            if None in before:
                return "unknown", "value not known"
            if case.lost:
                return "unknown", "history lost before the first row"
            return ("unknown", "gap: saves without history") if missed else ("deviating", None)
    return "not_applicable", "gate not reached"


TRIAGE = ("category", "priority", "assignment_group")


def slow_order(case: Seen) -> tuple[str, str | None]:
    """The three of the triage come before all else. What may have happened before in secret proves nothing."""
    first: dict[str, int] = {}
    for number, row in enumerate(case.rows):
        triage = {name for name in TRIAGE if row.values[name]}
        for step in {*triage, row.state or ""}:
            first.setdefault(step, number)
    for late, early in product(TRIAGE, ("work", "hold", "resolved")):
        begun = first.get(early, len(case.rows))
        hidden = case.lost or any(row.missed for row in case.rows[: begun + 1])
        if first.get(late, 0) > begun and not hidden:
            return "deviating", None
    return at_the_end(case, any(row.state is None for row in case.rows), "value not known")


SLOW = {
    "INC-FLOW": slow_flow,
    "INC-ORDER": slow_order,
    "INC-REOPEN": slow_reopen,
    "INC-PINGPONG": slow_ping_pong,
    "INC-PRIORITY": slow_matrix,
    "INC-I5-WORK": slow_work,
}


@given(several(gaps="empty", steps_back=True), instants)
@settings(patient, max_examples=20)
def test_a_slow_reference_says_the_same(found: list[Case], now: int) -> None:
    found = [_ends_with_a_trace(case) for case in found]
    raw = log_frame(found)
    log, ids = from_log(raw, columns({}), now)
    numbers = {case: int(name.removeprefix("INC")) for case, name in ids.iter_rows()}
    verdicts = said(log, now, [procedure()])
    visible = {number: seen(case, now) for number, case in enumerate(found) if case.created <= now}
    expected = {(number, name): slow(case) for number, case in visible.items() for name, slow in SLOW.items()}
    assert expected == {
        (numbers[case], name): verdict[:2] for (case, name), verdict in verdicts.items() if name in SLOW
    }


# --- the smallest inputs


def test_no_cases_make_no_verdicts() -> None:
    assert {} == said(read({}, START), START, versions())


def test_a_case_that_is_not_open_yet_is_told_apart() -> None:
    log = read({7: Case(START, CREATED, ())}, START - 1)
    assert (0, [(7, START)]) == (len(log.cases), log.not_open.rows())


def test_raw_values_that_the_mapping_does_not_list_are_counted() -> None:
    strange = Save(START + MINUTE, "anna", {"state": "-100"}, traced=True)
    log = read({0: Case(START, CREATED, (strange, strange._replace(at=START + 9 * MINUTE)))}, START + 5 * MINUTE)
    assert [("state", "-100", 1)] == log.unmapped.rows()


def test_an_opening_that_is_known_without_history_stays_when_the_case_goes_on() -> None:
    opened = START - 30 * MINUTE
    for saves in ((), (Save(START + MINUTE, "anna", {"state": "2"}, traced=True),)):
        records, events = frames({0: Case(START, CREATED, saves)})
        records = records.with_columns(pl.lit(stamp(opened)).alias("opened_at"))
        log = from_history(records, events, basis(START + MINUTE, {"state"}))
        assert [opened] == log.cases["opened"].to_list()


def test_a_record_without_a_creation_date_opens_with_the_first_thing_known_of_it() -> None:
    records, events = frames({0: Case(START, CREATED, (Save(START + MINUTE, "anna", {"state": "2"}, traced=True),))})
    records = records.with_columns(pl.lit(None, pl.Int64).alias("_created"), pl.lit(None, pl.String).alias("opened_at"))
    log = from_history(records, events, basis(START + MINUTE))
    assert [START + MINUTE] == log.cases["opened"].to_list()


EARLY, LATE_ONE = START + MINUTE, START + 9 * MINUTE


@pytest.mark.parametrize("order", [2, None])
def test_a_later_event_moves_no_earlier_one(order: int | None) -> None:
    """Neither by lacking an order nor by standing before it in the source's order."""
    records, _ = frames({0: Case(START, CREATED, ())})
    records = records.with_columns(pl.lit(LATE_ONE).alias("_updated"), pl.lit(4, pl.Int64).alias("_version"))
    rows = [(0, order, LATE_ONE, "state", "3", "2", "bert"), (0, 4, EARLY, "state", "1", "3", "anna")]
    log = from_history(records, pl.DataFrame(rows, schema=EVENTS, orient="row"), basis(START + 5 * MINUTE))
    assert [("new", START, 0), ("hold", EARLY, 3)] == log.saves.select("state", "at", "missed").rows()


def test_a_change_that_does_not_begin_where_the_last_one_ended_hides_another() -> None:
    """Whatever the counter says: the state may have changed in the lost save, and in none before or after it."""
    contents = [({"state": "2"}, True), ({"state": "6"}, False), ({"category": "wan"}, True), ({"state": "7"}, True)]
    saves = tuple(
        Save(START + number * MINUTE, "anna", changes, traced) for number, (changes, traced) in enumerate(contents, 1)
    )
    records, events = frames({0: Case(START, CREATED, saves)})
    now = START + 9 * MINUTE
    log = from_history(records, events, basis(now))
    assert [("state", saves[0].at, saves[3].at)] == log.untraced.select("field", "since", "at").rows()
    assert [0, 0, 1, 1] == log.saves["missed"].to_list()
    assert "deviating" != said(log, now, [procedure()])[0, "INC-FLOW"][0]
    joined = pl.DataFrame([(0, 2, saves[1].at, "state", "2", "6", "anna")], schema=EVENTS, orient="row")
    log = from_history(records, pl.concat([events, joined]), basis(now))
    assert ([], [0] * 5) == (log.untraced.rows(), log.saves["missed"].to_list())


def test_requirements_of_other_checks_are_not_judged() -> None:
    judged = {name for _, name in said(read({0: Case(START, CREATED, ())}, START), START, [procedure()])}
    assert {r.id for r in procedure().requirements if r.check != "none"} == judged


# --- short cuts and requirements that ask what was done

HOUR = 60 * MINUTE
WAITED = (
    Save(START + 1 * HOUR, "anna", {"state": "2"}, traced=True),
    Save(START + 2 * HOUR, "anna", {"state": "3", "hold_reason": "3"}, traced=True),
    Save(START + 3 * HOUR, "anna", {"state": "6"}, traced=True),
    Save(START + 9 * HOUR, "anna", {"state": "7"}, traced=True),
)
UNSEEN = Save(START + 1 * HOUR, "anna", {"category": "wan"}, traced=False)


def with_cut(when: str) -> Procedure:
    """The procedure with one short cut, which allows to resolve from hold and to leave out the assignment."""
    cut = {
        "id": "cut",
        "title": "waited",
        "when": when,
        "skips": ("I4",),
        "allows": ({"from": "hold", "to": "resolved"},),
    }
    return procedure().model_copy(update={"short_cuts": (ShortCut.model_validate(cut),)})


@pytest.mark.parametrize(
    ("saves", "flow", "assign"),
    [
        pytest.param(WAITED, "conforming", "not_applicable", id="it was done"),
        pytest.param(
            (WAITED[0], WAITED[1]._replace(changes={"state": "3", "hold_reason": "4"}), *WAITED[2:]),
            "deviating",
            "deviating",
            id="it was not",
        ),
        pytest.param(
            (WAITED[0], WAITED[1]._replace(changes={"state": "3", "hold_reason": "99"}), *WAITED[2:]),
            "unknown",
            "unknown",
            id="it cannot be told",
        ),
        pytest.param(
            (UNSEEN, WAITED[0], WAITED[1]._replace(changes={"state": "3", "hold_reason": "4"}), *WAITED[2:]),
            "unknown",
            "unknown",
            id="a save without a trace may have done it",
        ),
        pytest.param(
            (WAITED[0], WAITED[1]._replace(changes={"state": "3", "hold_reason": "4"}), *WAITED[2:], WAITED[1]),
            "deviating",
            "deviating",
            id="it was done only afterwards",
        ),
    ],
)
def test_a_short_cut_asks_what_had_been_done_by_then(saves: tuple[Save, ...], flow: str, assign: str) -> None:
    first = {**CREATED, "contact_type": "email"}
    found = said(
        read({0: Case(START, first, saves)}, START + 20 * HOUR), START + 20 * HOUR, [with_cut("did_await_problem")]
    )
    expected = {"INC-FLOW": flow, "INC-I4-ASSIGN": assign}
    assert expected == {name: found[0, name][0] for name in expected}


@pytest.mark.parametrize(
    ("applies", "expected"),
    [
        ("did_resolve", ("deviating", None)),
        ("NOT did_resolve", ("not_applicable", "does not apply")),
        ("NOT did_cancel", ("deviating", None)),
        ("did_cancel AND category = 'lan'", ("not_applicable", "does not apply")),
        ("impact = '9' OR NULL", ("unknown", "whether it applies cannot be told")),
    ],
)
def test_a_requirement_applies_where_its_condition_holds(applies: str, expected: tuple[str, str | None]) -> None:
    requirements = tuple(
        r.model_copy(update={"applies": applies}) for r in procedure().requirements if r.id == "INC-I8-CODE"
    )
    one = procedure().model_copy(update={"requirements": requirements, "short_cuts": ()})
    found = said(read({0: Case(START, CREATED, WAITED)}, START + 20 * HOUR), START + 20 * HOUR, [one])
    assert {(0, "INC-I8-CODE"): expected} == {key: verdict[:2] for key, verdict in found.items()}


def test_a_save_without_a_trace_leaves_open_whether_a_requirement_applies() -> None:
    requirements = tuple(
        r.model_copy(update={"applies": "NOT did_cancel"})
        for r in procedure().requirements
        if r.id in ("INC-I8-CODE", "INC-I2-CLASSIFY")
    )
    one = procedure().model_copy(update={"requirements": requirements, "short_cuts": ()})
    found = said(read({0: Case(START, CREATED, (UNSEEN, *WAITED))}, START + 20 * HOUR), START + 20 * HOUR, [one])
    expected = {
        (0, "INC-I8-CODE"): ("unknown", "whether it applies cannot be told"),
        (0, "INC-I2-CLASSIFY"): ("unknown", "whether it applies cannot be told"),
    }
    assert expected == {key: verdict[:2] for key, verdict in found.items()}


# --- what a source cannot show


def test_what_a_source_lacks_is_unknown_there() -> None:
    """Another mapping of the process has the attribute and the activity."""
    lacking = {"work", "respond", "close"}
    part = mapping().model_copy(
        update={
            "attributes": {
                name: a
                for name, a in mapping().attributes.items()
                if name not in ("close_code", "duplicate", "urgency")
            },
            "activities": {name: a for name, a in mapping().activities.items() if name not in lacking},
        }
    )
    records, events = frames({0: Case(START, {**CREATED, "contact_type": "email"}, WAITED)})
    now = START + 20 * HOUR
    log = from_history(records, events, Basis(part, now, part.audited_fields(), frozenset({TIMER})))
    found = said(log, now, [procedure()])
    expected = {
        "INC-I5-WORK": ("unknown", "no activity in this source: work"),
        "INC-I8-RESOLVE": ("unknown", "no activity in this source: close"),
        "INC-RESPONSE-P1": ("unknown", "no activity in this source: respond"),
        "INC-I8-CODE": ("unknown", "value not known: close_code"),
        "INC-PRIORITY": ("unknown", "value not known: impact, urgency or priority"),
    }
    assert expected == {name: found[0, name][:2] for name in expected}
