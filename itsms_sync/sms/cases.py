"""Histories become cases: one wide row per save, with the case's attributes as they stood after it.

Owns how facts turn into what the kernel reads: order, initial values, gaps in the counter of saves, the cut at ``now``,
values of the SMS, derived attributes and activities. Judges nothing.

A save is one write to a record, however many fields it changed. The first row of a case is its creation: its time is
the
case's opening and its actor unknown, because sources do not witness it. ``missed`` counts the saves of which no trace
is left between a row and the one before it. An empty value is ``''``; null means that the value is not known.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from itsms_sync.sms.mapping import Attribute, Described, LogColumns, ProcessMapping
from itsms_sync.sms.witnesses import STEPS, Counted, counted, plain
from itsms_sync.telling import shown

UNKNOWN = "\x00"
"""Marks a value that is not known while rows are filled forward; sources cannot send it, NUL is refused at the
border.
"""

ROW = "\x00row"
"""Number of a row in its file; so named for the same reason."""

EVENTS = {
    "case": pl.UInt32,
    "order": pl.Int64,
    "at": pl.Int64,
    "field": pl.String,
    "old": pl.String,
    "new": pl.String,
    "actor": pl.String,
}
RECORDS = {"case": pl.UInt32, "_created": pl.Int64, "_updated": pl.Int64, "_version": pl.Int64}
"""Named so that no field of a source is called the same. A further column ``_cut`` tells of records of whose history
the source is known to have kept back a part."""

APPROVALS = {
    "case": pl.UInt32,
    "id": pl.String,
    "approver": pl.String,
    "state": pl.String,
    "asked_at": pl.Int64,
    "decided_at": pl.Int64,
    "exact": pl.Boolean,
    "actor": pl.String,
    "human": pl.Boolean,
    "stage": pl.String,
}
"""One row per approval and approver, sorted by ``case, asked_at`` (ms). ``state``: requested, approved, rejected,
cancelled, not_required, or null = not known. ``decided_at`` (ms): when it was approved or rejected; not ``exact``: at
the latest then. ``actor`` wrote the decision. ``stage``: the source's own word for it, else null: the state of the case
when it was asked."""

TASKS: dict[str, pl.DataType | type[pl.DataType]] = {
    "case": pl.UInt32,
    "id": pl.String,
    "type": pl.String,
    "state": pl.String,
    "opened_at": pl.Int64,
    "ended_at": pl.Int64,
    "exact": pl.Boolean,
    "workers": pl.List(pl.String),
    "human": pl.Boolean,
    "gone": pl.Boolean,
}
"""One row per task. ``state``: open, work, done, incomplete, skipped, cancelled, or null = not known; ``ended_at`` (ms)
as ``decided_at``; ``workers``: the persons who held it while it was open; ``human``: whether a person brought it into
the state in which it is, null = not known; ``gone``: it stands as it was when it vanished from its source."""

LINKS = {
    "case": pl.UInt32,
    "role": pl.String,
    "via": pl.String,
    "other": pl.String,
    "process": pl.String,
    "state": pl.String,
    "at": pl.Int64,
    "state_since": pl.Int64,
}
"""One row per link of a case. ``via``: role of the link through which it is reached, null = its own. ``other`` is the
other record; ``process`` and ``state`` (of the SMS, as it stands) are known if that is a case. ``at`` (ms): when the
link is known to have been made. ``state_since`` (ms): since when at the latest the other record has been in its state.
"""

ITEMS = {"case": pl.UInt32, "id": pl.String, "at": pl.Int64}
"""One row per affected item of a case; ``at`` (ms): when it was listed."""

SLAS = {
    "case": pl.UInt32,
    "id": pl.String,
    "stage": pl.String,
    "at": pl.Int64,
    "ended_at": pl.Int64,
    "idle": pl.Boolean,
    "gone": pl.Boolean,
}
"""One row per service level of a case, as it stands. ``stage``: running, paused, completed, cancelled, never (it is
known that it never began), or null = not known; ``at`` and ``ended_at`` (ms): from when to when it was attached;
``idle``: it stood still all that time, null = not known; ``gone`` as for ``TASKS``."""

PAIRS = {
    "case": pl.UInt32,
    "other": pl.String,
    "attribute": pl.String,
    "value": pl.String,
    "since": pl.Int64,
    "read_until": pl.Int64,
}
"""One row per attribute of each record that follows a case in another system: its ``value`` as it stands, ``since``
when at the latest (ms), and up to when (ms) both systems have been read; null = nobody knows."""

UNTRACED = {"case": pl.UInt32, "field": pl.String, "since": pl.Int64, "at": pl.Int64}
"""Changes of a source's fields that the history ought to tell and does not: they happened after ``since`` and at ``at``
(ms) at the latest."""

PARTS = ("approvals", "tasks", "links", "cis", "slas")
NOT_IN_LOG = "the history has none"
"""Why parts are not known that nobody has added to a log."""

CREATION = 0
"""Place of the creation in the source's order of saves."""

IS_FIRST = (pl.col("case") != pl.col("case").shift(1)).fill_null(True)
IS_LAST = (pl.col("case") != pl.col("case").shift(-1)).fill_null(True)
_SAME = ((pl.col("case") == pl.col("case").shift(1)) & (pl.col("field") == pl.col("field").shift(1))).fill_null(False)
"""Whether a row is about the same field of the same case as the one before it."""
_END = ~_SAME.shift(-1, fill_value=False)


@dataclass(frozen=True, slots=True)
class CaseLog:
    """What the kernel judges.

    ``cases``: ``case`` (0..n-1, all that had been opened by ``now``), ``opened`` (ms), ``missed_after`` (saves
    without a
    trace after the last row), ``unseen`` (ms, the first instant after ``now`` of a fact that must not be seen yet, or
    null), ``states_whole`` (a metric tells every state, whatever saves left no trace).
    ``saves``: sorted by case and the source's order; ``case``, ``at``, ``actor``, ``human``, ``missed``, ``vague``
    (what it shows may have been so since the save before it, and at ``at`` at the latest), one column per
    attribute, and per activity ``is_<activity>`` (true, false, or null = unknown).
    ``not_open``: ``case``, ``opened`` of cases that open after ``now``.
    ``unmapped``: ``attribute``, ``value``, ``count`` of raw values that the mapping does not list.
    ``approvals``, ``tasks``, ``links``, ``items``, ``slas``: as ``APPROVALS``, ``TASKS``, ``LINKS``, ``ITEMS``,
    ``SLAS``, nothing later in them than ``now``.
    ``pairs``: as ``PAIRS``.
    ``unread``: which of these (``cis``: the items) could not be read completely, and why; what is absent there is not
    known. A key
    ``links.<role>`` tells that of links in that role alone.
    ``initial``: states in which a case of this source can begin besides the procedure's initial state.
    ``untraced``: as ``UNTRACED``.
    """

    cases: pl.DataFrame
    saves: pl.DataFrame
    not_open: pl.DataFrame
    unmapped: pl.DataFrame
    approvals: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=APPROVALS))
    tasks: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TASKS))
    links: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LINKS))
    items: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ITEMS))
    slas: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SLAS))
    pairs: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PAIRS))
    unread: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(PARTS, NOT_IN_LOG))
    initial: tuple[str, ...] = ()
    untraced: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=UNTRACED))


@dataclass(frozen=True, slots=True)
class Basis:
    """What besides the facts decides how a history is read."""

    mapping: ProcessMapping
    now: int
    audited: frozenset[str]
    """Source fields whose changes the history shows. Of others only the value at the last update is known."""
    system_accounts: frozenset[str]


def from_history(
    records: pl.DataFrame, events: pl.DataFrame, basis: Basis, observed: pl.DataFrame | None = None
) -> CaseLog:
    """Cases from records (``RECORDS`` plus one text column per source field), events (``EVENTS``) and what lesser
    witnesses tell (``witnesses.OBSERVED``)."""
    # When a case was opened is a fact of its creation, whether or not the source would keep changes of it.
    opened = basis.mapping.attributes["opened"].field
    fields = [name for name in basis.mapping.source_fields() if name in records.columns]
    kept = basis.audited | {opened}
    seen = None if observed is None or observed.is_empty() else besides(records, events, observed, basis)
    state = basis.mapping.attributes["state"].field
    history = _History(kept, seen, basis.audited & basis.mapping.compared_fields(), state)
    rows, counts, placed, untraced = _saves(records, events, fields, history, basis.now)
    later = pl.concat([placed.select("case", "at"), records.select("case", pl.col("_updated").alias("at"))])
    tail = counts.select("case", "missed_after").join(_unseen(later, basis.now), on="case", how="left")
    return replace(_case_log(rows, _with_whole(tail, seen, basis), basis), untraced=untraced)


@dataclass(frozen=True, slots=True)
class _History:
    """Of which fields what is known."""

    kept: Collection[str | None]
    """Fields whose changes the source's trail tells."""
    seen: Counted | None = None
    """What lesser witnesses add."""
    compared: Collection[str] = ()
    """Fields of the trail that have to lead to the value that stands."""
    state: str | None = None
    """The field of the state, where it matters with which save a case came to it."""

    def followed(self, fields: Iterable[str]) -> list[str]:
        """Those of the fields of which no trail tells, but a lesser witness does."""
        if self.seen is None:
            return []
        told = {*self.seen.steps["field"].unique(), *self.seen.initial["field"].unique()}
        return [name for name in fields if name in told and name not in self.kept]


def besides(records: pl.DataFrame, events: pl.DataFrame, observed: pl.DataFrame, basis: Basis) -> Counted:
    """What counts of what lesser witnesses tell, of fields that can be compared or that have no trail; nothing that
    must not be seen yet."""
    fields = set(basis.mapping.source_fields()) - (basis.audited - basis.mapping.compared_fields())
    wanted = pl.col("field").is_in(sorted(fields)) & (pl.col("at") <= basis.now)
    return counted(events, observed.filter(wanted), records, basis.audited)


def _with_whole(tail: pl.DataFrame, seen: Counted | None, basis: Basis) -> pl.DataFrame:
    if seen is None:
        return tail.with_columns(pl.lit(False).alias("states_whole"))
    state = basis.mapping.attributes["state"].field
    whole = seen.whole.filter(pl.col("field") == state)["case"]
    return tail.with_columns(pl.col("case").is_in(whole.implode()).alias("states_whole"))


def saves_of(
    records: pl.DataFrame, events: pl.DataFrame, described: Described, audited: Collection[str], now: int
) -> pl.DataFrame:
    """The saves of records that are no cases: sorted by ``case``; ``case, at, actor`` and one column per attribute."""
    fields = [name for name in described.source_fields() if name in records.columns]
    rows, *_ = _saves(records, events, fields, _History(audited), now)
    return rows.select("case", "at", "actor", *_attributes(rows.columns, described, None))


def standing(records: pl.DataFrame, described: Described) -> pl.DataFrame:
    """The attributes, derived ones included, by the values that records (one text column per source field) have now."""
    attributes = records.select(_attributes(records.columns, described, None))
    return attributes.with_columns(c.expression.alias(name) for name, c in described.derived().items())


def _saves(
    records: pl.DataFrame, events: pl.DataFrame, fields: Sequence[str], history: _History, now: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """One row per save that may be seen, what is known of missing saves, the events in their places, and the changes
    of which the trail does not tell (``UNTRACED``)."""
    followed = history.followed(fields)
    audited = [name for name in fields if name in history.kept or name in followed]
    steps = pl.DataFrame(schema=STEPS) if history.seen is None else history.seen.steps
    placed = _placed(_with_steps(events, steps), now)
    changes = placed.filter(pl.col("at") <= now)
    initial = None if history.seen is None else history.seen.initial
    creations = _creations(records, placed, audited, followed, initial)
    told = _told(records, changes, history.compared, now)
    ends, between = _untold_ends(records, told), _untold_between(told)
    # Before what else is known of their save, so that its account stays.
    changes = pl.concat([ends, changes], how="diagonal") if len(ends) else changes
    rows = pl.concat([creations, _changes(changes, audited)], how="vertical")
    rows = _one_row_per_save(rows, audited)
    counts = _counts(records, changes, now)
    rows = _with_breaks(_with_missed(rows, counts), between)
    rows = _with_doubt(rows, records, changes)
    rows = _with_snapshot(rows, records, list(fields), history, now)
    untraced = [one.select(list(UNTRACED)) for one in (ends, between)]
    untraced += [] if history.seen is None else [history.seen.untraced]
    return rows.drop("key"), counts, placed, pl.concat(untraced)


def _with_steps(events: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """The events and what lesser witnesses add to them."""
    if steps.is_empty():
        return events
    more = steps.with_columns(pl.lit(None, pl.String).alias("actor"))
    return pl.concat([events, more], how="diagonal")


def _untold_ends(records: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """A field whose history does not lead to the value that stands was changed after it without a trace. ``told``: the
    changes of fields, of sources that count their saves: those tell whether the record was read before its newest
    history."""
    if told.is_empty():
        return pl.DataFrame(schema={**EVENTS, "since": pl.Int64, "ordered": pl.Boolean, "key": pl.Int64})
    last = told.filter(_END)
    fields = [name for name in last["field"].unique() if name in records.columns]
    stands = records.select("case", "_version", "_updated", *fields)
    stands = stands.unpivot(fields, index=["case", "_version", "_updated"], variable_name="field", value_name="_now")
    both = last.join(stands, on=["case", "field"], how="inner", maintain_order="left")
    newer = pl.coalesce(
        pl.when("ordered").then(pl.col("_last_order") > pl.col("_version")), pl.col("_last_at") > pl.col("_updated")
    )
    return both.filter((plain("_now") != plain("new")) & ~newer).select(
        "case",
        pl.col("_version").alias("order"),
        pl.col("_updated").alias("at"),
        "field",
        pl.col("new").alias("old"),
        pl.col("_now").alias("new"),
        pl.lit(None, pl.String).alias("actor"),
        pl.col("at").alias("since"),
        "ordered",
        pl.when("ordered").then("_version").otherwise("_updated").alias("key"),
    )


def _untold_between(told: pl.DataFrame) -> pl.DataFrame:
    """A change that does not begin where the one before it ended: the field was changed in between without a trace.
    Which of several changes in one save came first nobody knows.
    """
    after = _SAME & (pl.col("key") > pl.col("key").shift(1))
    single = ~(_SAME & (pl.col("key") == pl.col("key").shift(1)))
    alone = single & single.shift(-1, fill_value=True)
    before = pl.col("key").shift(1).alias("after_key"), pl.col("at").shift(1).alias("since")
    broken = (plain("old") != plain("new").shift(1)) & after & alone & alone.shift(1)
    rows = told.with_columns(*before, broken.alias("_broken"))
    return rows.filter("_broken", "ordered").select("case", "key", "after_key", "field", "since", "at")


def _told(records: pl.DataFrame, changes: pl.DataFrame, fields: Collection[str], now: int) -> pl.DataFrame:
    """The changes of these fields, field by field, with ``_last_at`` and ``_last_order`` of the record's newest one.
    Only of sources that count their saves."""
    present = records.filter(pl.col("_version").is_not_null() & (pl.col("_updated") <= now))
    newest = changes.group_by("case").agg(pl.col("at", "order").max().name.prefix("_last_"))
    rows = changes.filter(pl.col("field").is_in(list(fields)) & pl.col("new").is_not_null())
    rows = rows.join(present.select("case"), on="case", how="semi", maintain_order="left")
    rows = rows.join(newest, on="case", how="left", maintain_order="left")
    return rows.sort("case", "field", maintain_order=True)


def _with_breaks(rows: pl.DataFrame, between: pl.DataFrame) -> pl.DataFrame:
    """A change without a trace lies somewhere between two saves: after the one it is missed, before the other, too."""
    if between.is_empty():
        return rows
    this = between.select("case", "key").unique().with_columns(pl.lit(1, pl.Int64).alias("_before"))
    last = (
        between.select("case", pl.col("after_key").alias("key"))
        .unique()
        .with_columns(pl.lit(1, pl.Int64).alias("_after"))
    )
    rows = rows.join(this, on=["case", "key"], how="left", maintain_order="left")
    rows = rows.join(last, on=["case", "key"], how="left", maintain_order="left")
    after = pl.when(~IS_FIRST).then(pl.col("_after").shift(1))
    return rows.with_columns(pl.max_horizontal("missed", "_before", after)).drop("_before", "_after")


def _with_doubt(rows: pl.DataFrame, records: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
    """Adds ``vague``: a change of which only an interval is known, in which other saves lie. A source that does not
    count its saves may have had some in it.
    """
    if "since" not in changes.columns:
        return rows.with_columns(pl.lit(False).alias("vague"))
    between = changes.filter(pl.col("since") < pl.col("at")).select("case", "key").unique()
    marks = between.join(records.select("case", pl.col("_version").is_null().alias("_doubt")), on="case")
    rows = rows.join(marks, on=["case", "key"], how="left", maintain_order="left")
    missed = pl.max_horizontal("missed", pl.col("_doubt").cast(pl.Int64))
    vague = pl.col("_doubt").is_not_null() & (missed > 0)
    return rows.with_columns(missed.alias("missed"), vague.alias("vague")).drop("_doubt")


def _placed(events: pl.DataFrame, now: int) -> pl.DataFrame:
    """Gives each event its place (``key``): the source's own order where all of the record's events have one, else the
    time. Events that must not be seen yet come last and decide nothing about the others.
    """
    future = (pl.col("at") > now).alias("future")
    # Saves without content come first in their save: the row that stays is then one that names who saved.
    named = pl.col("actor").is_not_null().alias("named")
    events = _with_save(events).with_columns(future, named)
    ordered = pl.col("order").is_not_null().all().over("case", "future").alias("ordered")
    events = events.with_columns(ordered)
    # Order 0 is the creation itself, where a source witnesses it.
    key = pl.when("ordered").then(pl.col("order").clip(lower_bound=CREATION)).otherwise("at").alias("key")
    return events.with_columns(key).sort("case", "future", "key", "named", maintain_order=True).drop("future", "named")


def _with_save(events: pl.DataFrame) -> pl.DataFrame:
    """A note has no place of its own in the source's order: it was saved with the ordered events of its instant."""
    if not events["order"].null_count() or events["order"].null_count() == len(events):
        return events
    partner = pl.col("order").drop_nulls().last()
    same_actor = pl.col("order").drop_nulls().last().over("case", "at", "actor")
    return events.with_columns(pl.coalesce("order", same_actor, partner.over("case", "at")).alias("order"))


def _creations(
    records: pl.DataFrame,
    placed: pl.DataFrame,
    audited: list[str],
    followed: Collection[str],
    initial: pl.DataFrame | None,
) -> pl.DataFrame:
    """One row per case with the values it was created with: one that was witnessed, the first old value, or the present
    one if none changed. Of a field that is only ``followed`` no change is no sign that there was none."""
    witnessed = placed.group_by("case").agg(pl.col("at").min().alias("_witnessed"))
    rows = records.join(witnessed, on="case", how="left", maintain_order="left").select(
        "case",
        pl.lit(CREATION, pl.Int64).alias("key"),
        pl.coalesce("_created", pl.min_horizontal("_witnessed", "_updated")).alias("at"),
        pl.lit(None, pl.String).alias("actor"),
        *audited,
    )
    first = placed.filter(pl.col("field").is_in(audited)).unique(["case", "field"], keep="first", maintain_order=True)
    for name in audited:
        old = first.filter(pl.col("field") == name).select("case", pl.col("old").fill_null(UNKNOWN).alias("_old"))
        rows = rows.join(old, on="case", how="left", maintain_order="left")
        present = pl.lit(UNKNOWN) if name in followed else pl.col(name)
        rows = rows.with_columns(pl.coalesce("_old", present).fill_null(UNKNOWN).alias(name)).drop("_old")
        if initial is not None:
            born = initial.filter((pl.col("field") == name) & pl.col("value").is_not_null()).select("case", "value")
            rows = rows.join(born, on="case", how="left", maintain_order="left")
            rows = rows.with_columns(pl.coalesce("value", name).alias(name)).drop("value")
    return rows


def _changes(changes: pl.DataFrame, audited: list[str]) -> pl.DataFrame:
    new = pl.col("new").fill_null(UNKNOWN)
    return changes.select(
        "case", "key", "at", "actor", *(pl.when(pl.col("field") == name).then(new).alias(name) for name in audited)
    )


def _one_row_per_save(rows: pl.DataFrame, audited: list[str]) -> pl.DataFrame:
    """Fills values forward and keeps the last row of each save."""
    # A creation row has no nulls, so nothing leaks from one case into the next.
    rows = rows.sort("case", "key", maintain_order=True).with_columns(pl.col(audited).forward_fill())
    same_save = (pl.col("case") == pl.col("case").shift(-1)) & (pl.col("key") == pl.col("key").shift(-1))
    rows = rows.filter(~same_save.fill_null(False))
    return rows.with_columns(pl.when(pl.col(name) != UNKNOWN).then(pl.col(name)).alias(name) for name in audited)


def _counts(records: pl.DataFrame, changes: pl.DataFrame, now: int) -> pl.DataFrame:
    """Per case of a source that counts its saves: ``in_order`` (the counter is each save's place), else ``absent``, the
    saves without a trace whose place is not known; and ``missed_after``, those after the last known one.
    """
    seen = changes.group_by("case").agg(
        pl.col("ordered").first().alias("in_order"),
        pl.col("key").max().alias("_last"),
        pl.col("key").n_unique().cast(pl.Int64).alias("_saves"),
    )
    # A counter that was read later than now also counts what must not be seen yet.
    version = pl.when(pl.col("_updated") <= now).then("_version")
    rows = records.join(seen, on="case", how="left", maintain_order="left")
    after = (version - pl.col("_last").fill_null(CREATION)).clip(lower_bound=0).fill_null(0)
    absent = (version - pl.col("_saves")).clip(lower_bound=0).fill_null(0)
    disordered = ~pl.col("in_order").fill_null(True)
    # Of what was kept back neither number nor place is known.
    cut = pl.col("_cut") if "_cut" in records.columns else pl.lit(False)
    at_least = cut.cast(pl.Int64)
    return rows.select(
        "case",
        (pl.col("_version").is_not_null() & ~disordered & ~cut).alias("in_order"),
        pl.max_horizontal(pl.when(disordered).then(absent).otherwise(0), at_least).alias("absent"),
        pl.when(disordered).then(0).otherwise(pl.max_horizontal(after, at_least)).alias("missed_after"),
    )


def _with_missed(rows: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """Counts the saves without a trace before each row."""
    rows = rows.join(counts, on="case", how="left", maintain_order="left")
    between = (pl.col("key") - pl.col("key").shift(1) - 1).clip(lower_bound=0)
    missed = pl.when(IS_FIRST).then(0).when("in_order").then(between).otherwise("absent")
    return rows.with_columns(missed.alias("missed")).drop("in_order", "absent", "missed_after")


def _with_snapshot(
    rows: pl.DataFrame, records: pl.DataFrame, fields: list[str], history: _History, now: int
) -> pl.DataFrame:
    """Fields without a history are known on the last row only, and not before that update may be seen; those that are
    followed there, too, if nothing else tells them. Of a state that is known in this way only the latest instant is,
    unless the row is the last save.
    """
    names = [name for name in fields if name not in history.kept]
    followed = history.followed(names)
    known = records.filter(pl.col("_updated") <= now).select("case", "_updated", pl.col(names).name.prefix("_now_"))
    rows = rows.join(known, on="case", how="left", maintain_order="left")
    rows = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in names if name not in followed)
    untold = {name: IS_LAST & pl.col(name).is_null() for name in names}
    if history.state in untold:
        late = untold[history.state] & (pl.col("_updated") > pl.col("at")).fill_null(False)
        rows = rows.with_columns((pl.col("vague") | late).alias("vague"))
    rows = rows.with_columns(pl.when(when).then(f"_now_{n}").otherwise(n).alias(n) for n, when in untold.items())
    return rows.drop("_updated", *(f"_now_{name}" for name in names))


def _unseen(facts: pl.DataFrame, now: int) -> pl.DataFrame:
    """Per case, the first instant after ``now`` of a fact."""
    return facts.filter(pl.col("at") > now).group_by("case").agg(pl.col("at").min().alias("unseen"))


def from_log(raw: pl.DataFrame, columns: LogColumns, now: int) -> tuple[CaseLog, pl.DataFrame]:
    """Cases from rows of a file (all columns text, each case with all its rows in the file's order, and ``ROW`` unless
    the file begins with them), and the ``case`` -> ``id`` table. Raises ``UnreadableRow``.
    """
    if ROW not in raw.columns:
        raw = raw.with_row_index(ROW, offset=2)
    there = [name for name in columns.told() if name in raw.columns]
    rows = raw.select(ROW, *(_filled(name, columns.missing).alias(_FILE + name) for name in there))
    columns, named = columns.prefixed(_FILE), [_FILE + name for name in there]
    _refuse_unreadable(rows, columns)
    ids = rows.select(pl.col(columns.case).alias("id")).unique(maintain_order=True)
    ids = ids.with_row_index("case").with_columns(pl.col("case").cast(pl.UInt32))
    rows = rows.with_columns(_log_time(rows, columns), _log_actor(columns)).drop(ROW)
    rows = rows.join(ids, left_on=columns.case, right_on="id", how="left", maintain_order="left")
    if not rows["case"].is_sorted():
        rows = rows.sort("case", maintain_order=True)
    unseen = _unseen(rows, now)
    rows = _with_late_values(_with_log_missed(_seen(rows, now), columns), columns)
    tail = rows.filter(IS_LAST).select("case", "missed_after").join(unseen, on="case", how="left")
    tail = tail.with_columns(pl.lit(False).alias("states_whole"))
    rows = rows.with_columns(pl.lit(False).alias("vague"))
    basis = Basis(columns.mapping, now, frozenset(named), frozenset(columns.system_accounts))
    return _case_log(rows, tail, basis, (columns.time_format, columns.zone)), ids


_NO_TIME = 2
_FILE = "\x00file:"
"""Before the names of a file's columns: one of them may be called as one of ours is (``case``, ``at``)."""


class UnreadableRow(ValueError):
    """A row whose case, counter or time cannot be read. ``order``: of several, that with the least is told."""

    def __init__(self, kind: int, row: int, told: str) -> None:
        super().__init__(f"row {row}: {told}")
        self.order = (kind, row)


def _refuse_unreadable(rows: pl.DataFrame, columns: LogColumns) -> None:
    unreadable = [(columns.case, pl.col(columns.case) == "", "an empty case id")]
    if columns.saves is not None:
        # A counter that is passed over would hide gaps.
        counted = pl.col(columns.saves).cast(pl.Int64, strict=False)
        unreadable.append((columns.saves, counted.is_null(), "no whole number"))
    for kind, (name, condition, what) in enumerate(unreadable):
        wrong = rows.filter(condition).select(ROW, name).head(1)
        if len(wrong):
            number, value = wrong.row(0)
            raise UnreadableRow(kind, number, f"{shown(repr(value))} in column {name.removeprefix(_FILE)!r} is {what}")


def _filled(name: str, missing: Iterable[str]) -> pl.Expr:
    """The column with ``''`` for what stands for an empty field."""
    present = ~pl.col(name).is_in(list(missing))
    return pl.when(present).then(name).otherwise(pl.lit("")).alias(name)


def _seen(rows: pl.DataFrame, now: int) -> pl.DataFrame:
    """Rows that may be seen, and the first one of a case of which none may: it tells when the case opens."""
    if not (rows["at"] > now).any():
        return rows
    hidden = pl.col("at").min().over("case") > now
    return rows.filter((pl.col("at") <= now) | (hidden & IS_FIRST))


def _log_time(rows: pl.DataFrame, columns: LogColumns) -> pl.Series:
    """Instants (ms). Of a local hour that comes twice the first is meant; one that a clock change skips is none."""
    local = rows[columns.time].str.to_datetime(columns.time_format, strict=False)
    at = local.dt.replace_time_zone(columns.zone, ambiguous="earliest", non_existent="null").dt.epoch("ms")
    if at.null_count():
        number, value = rows.filter(at.is_null()).select(ROW, columns.time).row(0)
        raise UnreadableRow(
            _NO_TIME,
            number,
            f"{shown(repr(value))} in column {columns.time.removeprefix(_FILE)!r} is no time of the form "
            f"{columns.time_format!r} in {columns.zone}; correct the row, or time_format in the columns file",
        )
    return at.alias("at")


def _log_actor(columns: LogColumns) -> pl.Expr:
    if columns.actor is None:
        return pl.lit(None, pl.String).alias("actor")
    return pl.when(pl.col(columns.actor) != "").then(pl.col(columns.actor)).alias("actor")


_ABOVE = 1 << 66
"""More than the differences between any two counters."""


def _with_log_missed(rows: pl.DataFrame, columns: LogColumns) -> pl.DataFrame:
    """Adds ``missed`` and ``missed_after``. The counter may repeat or step back, the file's order does not: it is
    raised to increase by at least one a row.
    """
    none = pl.lit(0, pl.Int64)
    if columns.saves is None:
        return rows.with_columns(none.alias("missed"), none.alias("missed_after"))
    rows = rows.with_columns(_number().alias("_number"), pl.col(columns.saves).cast(pl.Int64).alias("_counter"))
    # One running maximum for all cases, in which each begins above all before it, is far quicker than one for each.
    above = pl.col("case").cast(pl.Int128) * pl.lit(_ABOVE, pl.Int128)
    highest = (above + pl.col("_counter") - pl.col("_number")).cum_max() - above
    rows = rows.with_columns((highest + pl.col("_number")).cast(pl.Int64).alias("_counter"))
    before = pl.when(pl.col("_number") == 1).then(0).otherwise(pl.col("_counter").shift(1))
    between = (pl.col("_counter") - before - 1).clip(lower_bound=0)
    alone = IS_FIRST & IS_LAST
    return rows.with_columns(
        pl.when(IS_FIRST).then(none).otherwise(between).alias("missed"),
        pl.when(alone).then("_counter").otherwise(none).alias("missed_after"),
    ).drop("_number", "_counter")


def _number() -> pl.Expr:
    """Which row of its case each is, from 0 on."""
    row = pl.int_range(pl.len())
    return row - pl.when(IS_FIRST).then(row).forward_fill()


def _with_late_values(rows: pl.DataFrame, columns: LogColumns) -> pl.DataFrame:
    """Hides the final values of late columns on the rows before the state that fills them."""
    row = pl.int_range(pl.len(), dtype=pl.UInt32)
    start = pl.when(IS_FIRST).then(row).forward_fill()
    end = pl.when(IS_LAST).then(row).backward_fill()
    state = _mapped(columns.mapping.attributes["state"])
    # The last row in one of the states, of whichever case, lies in this case exactly if it does not lie before it.
    filled = {
        name: (pl.when(state.is_in(list(late.states))).then(row).forward_fill() >= start).fill_null(False)
        for name, late in columns.late.items()
        if name in rows.columns
    }
    return rows.with_columns(pl.when(when).then(pl.col(name).gather(end)).alias(name) for name, when in filled.items())


def _case_log(
    rows: pl.DataFrame, tail: pl.DataFrame, basis: Basis, time_form: tuple[str, str] | None = None
) -> CaseLog:
    """The end both ways share, of rows that may be seen: attributes, opening, and which cases are open."""
    saves = with_attributes(rows, basis, time_form)
    first = pl.when(IS_FIRST)
    saves = saves.with_columns(
        first.then(pl.coalesce("opened", "at")).otherwise("at").alias("at"),
        pl.when(~IS_FIRST).then("actor").alias("actor"),
        pl.when(~IS_FIRST).then("human").alias("human"),
        # What is told to have been opened before it was recorded could not be seen earlier than that.
        first.then(pl.max_horizontal("opened", "at")).forward_fill().alias("_from"),
    )
    opened = saves.filter(IS_FIRST).select("case", pl.col("at").alias("opened"), "_from")
    is_open = pl.col("_from") <= basis.now
    cases = opened.filter(is_open).drop("_from").join(tail, on="case", how="left", maintain_order="left")
    not_open = opened.filter(~is_open).select("case", pl.col("_from").alias("opened"))
    seen = saves if not_open.is_empty() else saves.filter(is_open)
    return CaseLog(cases, seen.drop("_from"), not_open, _unmapped(rows, saves, basis))


def with_attributes(rows: pl.DataFrame, basis: Basis, time_form: tuple[str, str] | None = None) -> pl.DataFrame:
    """Source fields become attributes; derived attributes and activities are added."""
    fixed = ["case", "at", "actor", "missed", "vague"]
    saves = rows.select(
        *fixed,
        (~pl.col("actor").is_in(sorted(basis.system_accounts))).alias("human"),
        *_attributes(rows.columns, basis.mapping, time_form),
    )
    saves = saves.with_columns(c.expression.alias(name) for name, c in basis.mapping.derived().items())
    return saves.with_columns(c.expression.alias(f"is_{name}") for name, c in basis.mapping.conditions().items())


def _attributes(available: Sequence[str], described: Described, time_form: tuple[str, str] | None) -> Iterator[pl.Expr]:
    """The attributes that are fields of the source."""
    for name, attribute in described.attributes.items():
        if attribute.field is not None:
            yield _attribute(attribute, available, time_form).alias(name)


def _attribute(attribute: Attribute, available: Iterable[str], time_form: tuple[str, str] | None) -> pl.Expr:
    if attribute.field is None or attribute.field not in available:
        empty = {"number": pl.Float64, "instant": pl.Int64}.get(attribute.type, pl.String)
        return pl.lit(None, empty)
    if attribute.values is not None:
        return _mapped(attribute)
    raw = pl.col(attribute.field)
    if attribute.type == "number":
        return raw.cast(pl.Float64, strict=False)
    if attribute.type == "instant":
        return _instant(raw, time_form)
    return raw


def _mapped(attribute: Attribute) -> pl.Expr:
    assert attribute.field is not None
    raw = pl.col(attribute.field)
    values = attribute.values
    if values is None:
        return raw
    return raw.replace_strict(["", *values], ["", *values.values()], default=None, return_dtype=pl.String)


def instants(raw: pl.Expr) -> pl.Expr:
    """The instants (ms) in a column of texts as sources write them; null for what is none."""
    return _instant(raw, None)


def _instant(raw: pl.Expr, time_form: tuple[str, str] | None) -> pl.Expr:
    """Milliseconds; ServiceNow writes UTC without a zone, Jira ISO 8601 with one."""
    if time_form is not None:
        text, zone = time_form
        local = raw.str.to_datetime(text, strict=False)
        return local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.epoch("ms")
    utc = raw.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).dt.epoch("ms")
    iso = raw.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", strict=False, time_zone="UTC").dt.epoch("ms")
    return pl.coalesce(utc, iso)


def _unmapped(rows: pl.DataFrame, saves: pl.DataFrame, basis: Basis) -> pl.DataFrame:
    """Raw values that are neither empty nor listed, with how often they occur. ``saves``: the rows with attributes."""
    counts = [
        rows.filter(saves[name].is_null())
        .select(pl.lit(name).alias("attribute"), pl.col(attribute.field).alias("value"))
        .drop_nulls("value")
        .group_by("attribute", "value")
        .agg(pl.len().cast(pl.Int64).alias("count"))
        for name, attribute in basis.mapping.attributes.items()
        if attribute.values is not None and attribute.field is not None and attribute.field in rows.columns
    ]
    schema = {"attribute": pl.String, "value": pl.String, "count": pl.Int64}
    return pl.concat([pl.DataFrame(schema=schema), *counts]).sort("attribute", "value")
