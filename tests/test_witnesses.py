"""Several witnesses of random histories: each step is counted once, by the best of those that tell of it.

A life is made up first; then an audit that began at some time and misses quiet saves, metrics that began at another and
snapshots at any reads tell of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itsms_sync.conformance.kernel import judge
from itsms_sync.documents import load
from itsms_sync.procedures.model import Procedure
from itsms_sync.records import Event, Record
from itsms_sync.sms.cases import EVENTS, RECORDS, Basis, from_history
from itsms_sync.sms.mapping import Mapping
from itsms_sync.sms.witnesses import METRIC, OBSERVED, SLACK, SNAPSHOT, counted
from itsms_sync.store.snapshots import State, between

T0 = 1_800_000_000_000
SECOND, MINUTE = 1000, 60_000
FIELDS = ("state", "group")
NEVER = T0 + 10**9

MAPPINGS = Path(__file__).parents[1] / "mappings"
INCIDENT = load(MAPPINGS / "servicenow.yaml", Mapping).processes["incident"]
PROCEDURE = load(MAPPINGS / "procedures" / "incident.yaml", Procedure)

patient = settings(max_examples=30, deadline=None)

Value = tuple[str, int, str | None]
"""A field, an instant and the value that it has from then on."""


class Save(NamedTuple):
    at: int
    changes: dict[str, str]
    quiet: bool


@dataclass(frozen=True)
class Life:
    """One record from its creation at ``T0``, and what of it was witnessed."""

    first: dict[str, str]
    saves: tuple[Save, ...]
    audit_from: int
    metric_from: int
    reads: tuple[int, ...]
    """Instants at which we read the record; the last one is after all saves."""

    def values(self, field: str) -> list[tuple[int, str]]:
        """Every value of the field with its instant."""
        found = [(T0, self.first[field])]
        for save in self.saves:
            if field in save.changes and save.changes[field] != found[-1][1]:
                found.append((save.at, save.changes[field]))
        return found

    def at(self, instant: int) -> Record:
        """As it stood then."""
        done = [save for save in self.saves if save.at <= instant]
        fields = {f: [value for at, value in self.values(f) if at <= instant][-1] for f in FIELDS}
        return Record("incident", "r", "R", T0, done[-1].at if done else T0, len(done), fields)

    @property
    def now(self) -> Record:
        return self.at(self.reads[-1])

    def records(self) -> pl.DataFrame:
        record = self.now
        row = (0, T0, record.updated, record.version, *(record.fields[field] for field in FIELDS))
        return pl.DataFrame([row], schema={**RECORDS, **dict.fromkeys(FIELDS, pl.String)}, orient="row")

    def trail(self) -> pl.DataFrame:
        rows = []
        for field in FIELDS:
            for (_, old), (at, new) in pairwise(self.values(field)):
                order = 1 + [save.at for save in self.saves].index(at)
                if at >= self.audit_from and not self.saves[order - 1].quiet:
                    rows.append((0, order, at, field, old, new, "ann"))
        return pl.DataFrame(rows, schema=EVENTS, orient="row").sort("order")

    def metrics(self) -> Iterator[tuple[object, ...]]:
        for field in FIELDS:
            silent = {save.at for save in self.saves if save.quiet}
            told = [(at, v) for at, v in self.values(field) if at >= self.metric_from and at not in silent]
            for (at, value), after in zip(told, [*told, None][1:], strict=True):
                yield (0, None, at + SECOND, None, field, None, value, METRIC)
                if after is not None:
                    yield (0, None, after[0] + SECOND, None, field, value, None, METRIC)

    def snapshots(self) -> Iterator[tuple[object, ...]]:
        found: dict[str, Event] = {}
        for before, after in pairwise(self.at(read) for read in self.reads):
            state = State(before.updated, before.version, before.fields)
            for event in between(state, after, FIELDS, NEVER):
                found.setdefault(event.witness_id, event)
        for e in found.values():
            yield (0, e.order, e.at, e.since, e.field, e.old, e.new, SNAPSHOT)

    def observed(self) -> pl.DataFrame:
        return pl.DataFrame([*self.metrics(), *self.snapshots()], schema=OBSERVED, orient="row")


@st.composite
def lives(draw: st.DrawFn, *, quiet: bool = True) -> Life:
    """Saves lie further apart than two witnesses of the same save may."""
    at, saves = T0, []
    content = st.dictionaries(st.sampled_from(FIELDS), st.sampled_from("abc"), max_size=2)
    for wait, changes, silent in draw(st.lists(st.tuples(st.integers(3, 30), content, st.booleans()), max_size=8)):
        at += wait * SLACK
        saves.append(Save(at, changes, silent and quiet))
    since = st.sampled_from([0, *(save.at for save in saves), NEVER])
    reads = draw(st.lists(st.integers(T0, at), max_size=4))
    first = {field: draw(st.sampled_from("abc")) for field in FIELDS}
    return Life(first, tuple(saves), draw(since), draw(since), (*sorted(reads), at))


def told(life: Life, kept: Sequence[str], *, observed: pl.DataFrame | None = None) -> list[Value]:
    """All values that count, in the order of time, with the one at the creation where it was witnessed."""
    found = counted(life.trail(), life.observed() if observed is None else observed, life.records(), kept)
    steps = [
        *life.trail().select("field", "at", "new").iter_rows(),
        *found.steps.select("field", "at", "new").iter_rows(),
        *found.initial.select("field", pl.lit(T0, pl.Int64), "value").iter_rows(),
    ]
    return sorted(steps, key=lambda step: (step[1], step[0]))


def path(steps: Sequence[Value], field: str) -> list[str | None]:
    values = [value for name, _, value in steps if name == field]
    return [value for place, value in enumerate(values) if place == 0 or values[place - 1] != value]


def is_part(of: Sequence[str], values: Sequence[str | None]) -> bool:
    rest = iter(of)
    return all(value in rest for value in values)


@patient
@given(lives(), st.sampled_from([(), FIELDS]))
def test_what_counts_happened_and_nothing_is_counted_twice(life: Life, kept: tuple[str, ...]) -> None:
    steps = told(life, kept if life.audit_from < NEVER else ())
    for field in FIELDS:
        known = [value for value in path(steps, field) if value is not None]
        known = [value for place, value in enumerate(known) if place == 0 or known[place - 1] != value]
        assert is_part([value for _, value in life.values(field)], known)


@patient
@given(lives(quiet=False))
def test_a_whole_audit_is_enough(life: Life) -> None:
    whole = Life(life.first, life.saves, 0, life.metric_from, life.reads)
    found = counted(whole.trail(), whole.observed(), whole.records(), FIELDS)
    assert [] == found.steps.rows()
    assert [] == found.untraced.rows()
    born = dict(found.initial.select("field", "value").iter_rows())
    assert born == {field: value for field, value in life.first.items() if field in born}


@patient
@given(lives(), st.randoms(use_true_random=False))
def test_the_order_in_which_it_was_learned_does_not_matter(life: Life, random: object) -> None:
    observed = life.observed()
    order = list(range(len(observed)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert told(life, FIELDS) == told(life, FIELDS, observed=observed[order])


@patient
@given(lives())
def test_what_was_counted_is_not_counted_again(life: Life) -> None:
    found = counted(life.trail(), life.observed(), life.records(), FIELDS)
    better = pl.concat([life.trail(), found.steps.filter(pl.col("new").is_not_null())], how="diagonal")
    again = counted(better, life.observed(), life.records(), FIELDS).steps
    assert [] == again.filter(pl.col("new").is_not_null()).rows()


@patient
@given(lives())
def test_a_better_witness_takes_nothing_away(life: Life) -> None:
    """The audit is granted for the whole past."""
    granted = Life(life.first, life.saves, 0, life.metric_from, life.reads)
    for field in FIELDS:
        less, more = (path(told(each, FIELDS if each is granted else ()), field) for each in (life, granted))
        if life.audit_from == NEVER:
            assert len([value for value in less if value is not None]) <= len(more) + 1


@patient
@given(lives(quiet=False))
def test_a_metric_from_the_creation_on_tells_the_whole_path(life: Life) -> None:
    whole = Life(life.first, life.saves, NEVER, 0, life.reads)
    found = counted(whole.trail(), whole.observed(), whole.records(), ())
    assert {*FIELDS} == {*found.whole["field"]}
    for field in FIELDS:
        assert [value for _, value in life.values(field)] == path(told(whole, ()), field)


@patient
@given(lives())
def test_snapshots_alone_tell_what_each_read_saw(life: Life) -> None:
    alone = Life(life.first, life.saves, NEVER, NEVER, life.reads)
    for field in FIELDS:
        seen = path([(field, 0, alone.at(read).fields[field]) for read in alone.reads], field)
        if len(seen) > 1:
            assert seen == path(told(alone, ()), field)


STATES = {"a": "1", "b": "2", "c": "7"}
"""New, in progress, closed: closing straight from new or in progress is not documented."""
RAW = {
    "opened_at": "2027-01-15 08:00:00",
    "hold_reason": "",
    "impact": "2",
    "urgency": "2",
    "priority": "1",
    "category": "lan",
    "contact_type": "email",
    "reassignment_count": "0",
    "reopen_count": None,
    "close_code": "",
}


def as_incident(frame: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """The same life, of an incident."""
    is_state = pl.col("field") == "state"
    named = pl.when(is_state).then(pl.lit("state")).otherwise(pl.lit("assignment_group")).alias("field")
    return frame.with_columns(
        *(pl.when(is_state).then(pl.col(name).replace(STATES)).otherwise(name).alias(name) for name in fields), named
    )


def verdicts(life: Life) -> dict[str, str]:
    """What is said of each requirement that applies."""
    stands = {"state": pl.col("state").replace(STATES), "assignment_group": pl.col("group")}
    records = life.records().with_columns(**stands, **{name: pl.lit(value, pl.String) for name, value in RAW.items()})
    trail, observed = (as_incident(frame, ("old", "new")) for frame in (life.trail(), life.observed()))
    audited = INCIDENT.audited_fields() if life.audit_from < NEVER else frozenset()
    log = from_history(records, trail, Basis(INCIDENT, life.reads[-1], audited, frozenset()), observed)
    found = judge(log, [PROCEDURE], INCIDENT.types(), life.reads[-1])
    return dict(found.select("requirement", "status").iter_rows())


def otherwise(life: Life, said: str) -> dict[str, tuple[str, str | None]]:
    """Of which requirements this is said, and what a whole audit says of them, where that is something else."""
    life = replace(life, first={**life.first, "state": "a"})
    # Nothing is missing from the whole audit: a save that changed nothing has no row in it, and is not counted either.
    changed = {at for field in FIELDS for at, _ in life.values(field)[1:]}
    loud = tuple(save._replace(quiet=False) for save in life.saves if save.at in changed)
    truth = verdicts(Life(life.first, loud, 0, NEVER, life.reads[-1:]))
    less = verdicts(life)
    return {n: (status, truth.get(n)) for n, status in less.items() if status == said and truth.get(n) != said}


@patient
@given(lives())
def test_what_deviates_with_less_deviates_with_a_whole_audit(life: Life) -> None:
    assert {} == otherwise(life, "deviating")


def test_a_group_that_may_lie_between_two_others_is_no_return() -> None:
    """The audit tells that the group was c before it was b again, and not when it came to that."""
    contents = [({"group": "a"}, False), ({"group": "c"}, True), ({"group": "b"}, False)]
    saves = tuple(Save(T0 + number * MINUTE, *content) for number, content in enumerate(contents, 1))
    life = Life({"state": "a", "group": "b"}, saves, 0, NEVER, (saves[-1].at,))
    assert "deviating" == verdicts(replace(life, saves=(saves[0], saves[2])))["INC-PINGPONG"]
    assert "deviating" != verdicts(life)["INC-PINGPONG"]


@pytest.mark.xfail(strict=True, reason="a closing without the step before it, in a lost save, is not thought of")
def test_what_conforms_with_less_conforms_with_a_whole_audit() -> None:
    contents = [({"state": "c"}, True), ({"state": "b"}, False), ({"state": "c"}, False)]
    saves = tuple(Save(T0 + number * MINUTE, *content) for number, content in enumerate(contents, 1))
    assert {} == otherwise(Life({"state": "a", "group": "a"}, saves, 0, 0, (saves[-1].at,)), "conforming")


def test_a_quiet_save_that_was_seen_counts_and_is_told_as_untraced() -> None:
    loud, quiet = Save(T0 + MINUTE, {"group": "b"}, False), Save(T0 + 2 * MINUTE, {"state": "b"}, True)
    life = Life({"state": "a", "group": "a"}, (loud, quiet), 0, NEVER, (T0 + MINUTE, T0 + 3 * MINUTE))
    found = counted(life.trail(), life.observed(), life.records(), FIELDS)
    assert [(0, 2, quiet.at, None, "state", "a", "b")] == found.steps.rows()
    assert [(0, "state", None, quiet.at)] == found.untraced.rows()


def test_a_span_that_ends_without_another_leaves_the_value_open() -> None:
    life = Life({"state": "a", "group": "a"}, (), NEVER, NEVER, (T0,))
    rows = [(0, None, T0, None, "state", None, "a", METRIC), (0, None, T0 + MINUTE, None, "state", "a", None, METRIC)]
    found = counted(life.trail(), pl.DataFrame(rows, schema=OBSERVED, orient="row"), life.records(), ())
    assert [("state", T0 + MINUTE, None)] == found.steps.select("field", "at", "new").rows()
    assert [] == found.whole.rows()


def test_spans_that_begin_in_the_same_second_are_no_path() -> None:
    saves = (Save(T0 + MINUTE, {"state": "b"}, False), Save(T0 + MINUTE, {"state": "c"}, False))
    tied, apart = (
        Life(
            {"state": "a", "group": "a"},
            (saves[0], saves[1]._replace(at=T0 + MINUTE + wait)),
            NEVER,
            0,
            (T0 + 2 * MINUTE,),
        )
        for wait in (0, SECOND)
    )
    for life, whole in ((tied, {"group"}), (apart, {"state", "group"})):
        assert whole == {*counted(life.trail(), life.observed(), life.records(), ()).whole["field"]}


def test_where_saves_are_not_counted_the_trail_alone_is_believed() -> None:
    saves = (Save(T0 + MINUTE, {"state": "b"}, True),)
    life = Life({"state": "a", "group": "a"}, saves, 0, NEVER, (T0, T0 + 2 * MINUTE))
    uncounted = life.records().with_columns(pl.lit(None, pl.Int64).alias("_version"))
    assert [] == counted(life.trail(), life.observed(), uncounted, FIELDS).steps.rows()
    assert [] != counted(life.trail(), life.observed(), life.records(), FIELDS).steps.rows()


# --- two states of one record


def test_the_instant_is_known_if_one_save_lies_between() -> None:
    known = State(T0, 3, {"state": "a", "other": "x"})
    record = Record("incident", "r", "R", T0, T0 + MINUTE, 4, {"state": "b", "other": "y"})
    seen, changed = between(known, record, ("state",), NEVER)
    assert (None, "a", T0, None, 3) == (seen.old, seen.new, seen.at, seen.since, seen.order)
    assert ("a", "b", T0 + MINUTE, None, 4) == (changed.old, changed.new, changed.at, changed.since, changed.order)
    several = list(between(known, record._replace(version=5), ("state",), NEVER))[-1]
    assert (T0, T0 + MINUTE, 5) == (several.since, several.at, several.order)


def test_an_older_state_and_a_value_that_did_not_come_tell_nothing() -> None:
    known = State(T0, 3, {"state": "a"})
    record = Record("incident", "r", "R", T0, T0 - MINUTE, 2, {"state": "b"})
    assert [] == list(between(known, record, ("state",), NEVER))
    assert [] == list(between(known, record._replace(updated=T0 + 1, fields={}), ("state",), NEVER))


def test_a_state_that_changed_without_a_save_is_noted_when_it_was_learned() -> None:
    known = State(T0, 3, {"state": "a"})
    record = Record("incident", "r", "R", T0, T0, 3, {"state": "b"})
    *_, changed = between(known, record, ("state",), T0 + MINUTE)
    assert (T0, T0 + MINUTE) == (changed.since, changed.at)
