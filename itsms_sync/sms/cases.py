"""Histories become cases: one wide row per save, with the case's attributes as they stood after it.

Owns how facts turn into what the kernel reads: order, initial values, gaps in the counter of saves, the cut at ``now``,
values of the SMS, derived attributes and activities. Judges nothing.

A save is one write to a record, however many fields it changed. The first row of a case is its creation: its time is
the
case's opening and its actor unknown, because sources do not witness it. ``missed`` counts the saves of which no trace
is left between a row and the one before it. An empty value is ``''``; null means that the value is not known.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from itsms_sync.sms.mapping import Attribute, LogColumns, ProcessMapping

UNKNOWN = "\x00"
"""Marks a value that is not known while rows are filled forward; sources cannot send it, NUL is refused at the
border.
"""

EVENTS = {
    "case": pl.UInt32,
    "order": pl.Int64,
    "at": pl.Int64,
    "field": pl.String,
    "old": pl.String,
    "new": pl.String,
    "actor": pl.String,
}
RECORDS = {"case": pl.UInt32, "created": pl.Int64, "updated": pl.Int64, "version": pl.Int64}

CREATION = 0
"""Place of the creation in the source's order of saves."""

IS_FIRST = (pl.col("case") != pl.col("case").shift(1)).fill_null(True)
IS_LAST = (pl.col("case") != pl.col("case").shift(-1)).fill_null(True)


@dataclass(frozen=True, slots=True)
class CaseLog:
    """What the kernel judges.

    ``cases``: ``case`` (0..n-1, all that had been opened by ``now``), ``opened`` (ms), ``missed_after`` (saves
    without a
    trace after the last row), ``unseen`` (ms, the first instant after ``now`` of a fact that must not be seen yet, or
    null).
    ``saves``: sorted by case and the source's order; ``case``, ``at``, ``actor``, ``human``, ``missed``, one column per
    attribute, and per activity ``is_<activity>`` (true, false, or null = unknown).
    ``not_open``: ``case``, ``opened`` of cases that open after ``now``.
    ``unmapped``: ``attribute``, ``value``, ``count`` of raw values that the mapping does not list.
    """

    cases: pl.DataFrame
    saves: pl.DataFrame
    not_open: pl.DataFrame
    unmapped: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Basis:
    """What besides the facts decides how a history is read."""

    mapping: ProcessMapping
    now: int
    audited: frozenset[str]
    """Source fields whose changes the history shows. Of others only the value at the last update is known."""
    system_accounts: frozenset[str]


def from_history(records: pl.DataFrame, events: pl.DataFrame, basis: Basis) -> CaseLog:
    """Cases from records (``RECORDS`` plus one text column per source field) and events (``EVENTS``)."""
    fields = [name for name in basis.mapping.source_fields() if name in records.columns]
    # When a case was opened is a fact of its creation, whether or not the source would keep changes of it.
    audited = [name for name in fields if name in basis.audited or name == basis.mapping.attributes["opened"].field]
    placed = _placed(events, basis.now)
    changes = placed.filter(pl.col("at") <= basis.now)
    rows = pl.concat([_creations(records, placed, audited), _changes(changes, audited)], how="vertical")
    rows = _one_row_per_save(rows, audited)
    counts = _counts(records, changes, basis.now)
    rows = _with_missed(rows, counts)
    rows = _with_snapshot(rows, records, [name for name in fields if name not in audited], basis.now)
    later = pl.concat([placed.select("case", "at"), records.select("case", pl.col("updated").alias("at"))])
    tail = counts.select("case", "missed_after").join(_unseen(later, basis.now), on="case", how="left")
    return _case_log(rows.drop("key"), tail, basis)


def _placed(events: pl.DataFrame, now: int) -> pl.DataFrame:
    """Gives each event its place (``key``): the source's own order where all of the record's events have one, else the
    time. Events that must not be seen yet come last and decide nothing about the others.
    """
    future = (pl.col("at") > now).alias("future")
    ordered = pl.col("order").is_not_null().all().over("case", "future").alias("ordered")
    # Saves without content come first in their save: the row that stays is then one that names who saved.
    named = pl.col("actor").is_not_null().alias("named")
    events = events.with_columns(future).with_columns(ordered, named)
    # Order 0 is the creation itself, where a source witnesses it.
    key = pl.when("ordered").then(pl.col("order").clip(lower_bound=CREATION)).otherwise("at").alias("key")
    return events.with_columns(key).sort("case", "future", "key", "named", maintain_order=True).drop("future", "named")


def _creations(records: pl.DataFrame, placed: pl.DataFrame, audited: list[str]) -> pl.DataFrame:
    """One row per case with the values it was created with: the first old value, or the present one if none changed."""
    witnessed = placed.group_by("case").agg(pl.col("at").min().alias("_witnessed"))
    rows = records.join(witnessed, on="case", how="left", maintain_order="left").select(
        "case",
        pl.lit(CREATION, pl.Int64).alias("key"),
        pl.coalesce("created", pl.min_horizontal("_witnessed", "updated")).alias("at"),
        pl.lit(None, pl.String).alias("actor"),
        *audited,
    )
    first = placed.filter(pl.col("field").is_in(audited)).unique(["case", "field"], keep="first", maintain_order=True)
    for name in audited:
        old = first.filter(pl.col("field") == name).select("case", pl.col("old").fill_null(UNKNOWN).alias("_old"))
        rows = rows.join(old, on="case", how="left", maintain_order="left")
        rows = rows.with_columns(pl.coalesce("_old", name).fill_null(UNKNOWN).alias(name)).drop("_old")
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
    version = pl.when(pl.col("updated") <= now).then("version")
    rows = records.join(seen, on="case", how="left", maintain_order="left")
    after = (version - pl.col("_last").fill_null(CREATION)).clip(lower_bound=0).fill_null(0)
    absent = (version - pl.col("_saves")).clip(lower_bound=0).fill_null(0)
    disordered = ~pl.col("in_order").fill_null(True)
    return rows.select(
        "case",
        (pl.col("version").is_not_null() & ~disordered).alias("in_order"),
        pl.when(disordered).then(absent).otherwise(0).alias("absent"),
        pl.when(disordered).then(0).otherwise(after).alias("missed_after"),
    )


def _with_missed(rows: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """Counts the saves without a trace before each row."""
    rows = rows.join(counts, on="case", how="left", maintain_order="left")
    between = (pl.col("key") - pl.col("key").shift(1) - 1).clip(lower_bound=0)
    missed = pl.when(IS_FIRST).then(0).when("in_order").then(between).otherwise("absent")
    return rows.with_columns(missed.alias("missed")).drop("in_order", "absent", "missed_after")


def _with_snapshot(rows: pl.DataFrame, records: pl.DataFrame, fields: list[str], now: int) -> pl.DataFrame:
    """Fields without a history are known on the last row only, and not before that update may be seen."""
    known = records.filter(pl.col("updated") <= now).select("case", *fields)
    rows = rows.join(known, on="case", how="left", maintain_order="left")
    return rows.with_columns(pl.when(IS_LAST).then(pl.col(name)).alias(name) for name in fields)


def _unseen(facts: pl.DataFrame, now: int) -> pl.DataFrame:
    """Per case, the first instant after ``now`` of a fact."""
    return facts.filter(pl.col("at") > now).group_by("case").agg(pl.col("at").min().alias("unseen"))


def from_log(raw: pl.DataFrame, columns: LogColumns, now: int) -> tuple[CaseLog, pl.DataFrame]:
    """Cases from a file of rows (all columns text, in the file's order), and the ``case`` -> ``id`` table.

    Raises ``ValueError`` naming the first row (1-based, the header is row 1) whose case, counter or time cannot be
    read.
    """
    named = [name for name in _named(columns) if name in raw.columns]
    rows = raw.select(_filled(raw, name, columns.missing) for name in named)
    _refuse_unreadable(rows, columns)
    ids = rows.select(pl.col(columns.case).alias("id")).unique(maintain_order=True)
    ids = ids.with_row_index("case").with_columns(pl.col("case").cast(pl.UInt32))
    rows = rows.join(ids, left_on=columns.case, right_on="id", how="left", maintain_order="left")
    rows = rows.with_columns(_log_time(rows, columns), _log_actor(columns)).sort("case", maintain_order=True)
    unseen = _unseen(rows, now)
    rows = _with_late_values(_with_log_missed(_seen(rows, now), columns), columns)
    tail = rows.filter(IS_LAST).select("case", "missed_after").join(unseen, on="case", how="left")
    basis = Basis(columns.mapping, now, frozenset(named), frozenset(columns.system_accounts))
    return _case_log(rows, tail, basis, (columns.time_format, columns.zone)), ids


def _refuse_unreadable(rows: pl.DataFrame, columns: LogColumns) -> None:
    unreadable = [(columns.case, pl.col(columns.case) == "", "an empty case id")]
    if columns.saves is not None:
        # A counter that is passed over would hide gaps.
        counted = pl.col(columns.saves).cast(pl.Int64, strict=False)
        unreadable.append((columns.saves, counted.is_null(), "no whole number"))
    for name, condition, what in unreadable:
        wrong = rows.select(condition).to_series().arg_true()
        if len(wrong):
            raise ValueError(f"row {wrong[0] + 2}: {rows[name][wrong[0]]!r} in column {name!r} is {what}")


def _named(columns: LogColumns) -> list[str]:
    """The columns of the file that are looked at."""
    names = [columns.case, columns.time, columns.saves, columns.actor, *columns.late, *columns.mapping.source_fields()]
    return list(dict.fromkeys(name for name in names if name is not None))


def _filled(raw: pl.DataFrame, name: str, missing: Iterable[str]) -> pl.Expr:
    """The column with ``''`` for what stands for an empty field."""
    present = ~raw[name].is_in(list(missing))
    return pl.when(present).then(name).otherwise(pl.lit("")).fill_null("").alias(name)


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
        row = int(at.is_null().arg_true()[0])
        raise ValueError(
            f"row {row + 2}: {rows[columns.time][row]!r} in column {columns.time!r} is no time of the form "
            f"{columns.time_format!r} in {columns.zone}; correct the row, or time_format in the columns file"
        )
    return at.alias("at")


def _log_actor(columns: LogColumns) -> pl.Expr:
    if columns.actor is None:
        return pl.lit(None, pl.String).alias("actor")
    return pl.when(pl.col(columns.actor) != "").then(pl.col(columns.actor)).alias("actor")


def _with_log_missed(rows: pl.DataFrame, columns: LogColumns) -> pl.DataFrame:
    """Adds ``missed`` and ``missed_after``. The counter may repeat or step back, the file's order does not: it is
    raised to increase by at least one a row.
    """
    none = pl.lit(0, pl.Int64)
    if columns.saves is None:
        return rows.with_columns(none.alias("missed"), none.alias("missed_after"))
    number = pl.int_range(pl.len()).over("case").alias("_number")
    rows = rows.with_columns(number, pl.col(columns.saves).cast(pl.Int64).alias("_counter"))
    raised = (pl.col("_counter") - pl.col("_number")).cum_max().over("case") + pl.col("_number")
    rows = rows.with_columns(raised.alias("_counter"))
    before = pl.when(pl.col("_number") == 1).then(0).otherwise(pl.col("_counter").shift(1))
    between = (pl.col("_counter") - before - 1).clip(lower_bound=0)
    alone = IS_FIRST & IS_LAST
    return rows.with_columns(
        pl.when(IS_FIRST).then(none).otherwise(between).alias("missed"),
        pl.when(alone).then("_counter").otherwise(none).alias("missed_after"),
    ).drop("_number", "_counter")


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
    return CaseLog(cases, seen.drop("_from"), not_open, _unmapped(rows, basis))


def with_attributes(rows: pl.DataFrame, basis: Basis, time_form: tuple[str, str] | None = None) -> pl.DataFrame:
    """Source fields become attributes; derived attributes and activities are added."""
    fixed = ["case", "at", "actor", "missed"]
    attributes = basis.mapping.attributes
    saves = rows.select(
        *fixed,
        (~pl.col("actor").is_in(sorted(basis.system_accounts))).alias("human"),
        *(_attribute(a, rows.columns, time_form).alias(n) for n, a in attributes.items() if a.field is not None),
    )
    saves = saves.with_columns(c.expression.alias(name) for name, c in basis.mapping.derived().items())
    return saves.with_columns(c.expression.alias(f"is_{name}") for name, c in basis.mapping.conditions().items())


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


def _instant(raw: pl.Expr, time_form: tuple[str, str] | None) -> pl.Expr:
    """Milliseconds; ServiceNow writes UTC without a zone, Jira ISO 8601 with one."""
    if time_form is not None:
        text, zone = time_form
        local = raw.str.to_datetime(text, strict=False)
        return local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.epoch("ms")
    utc = raw.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).dt.epoch("ms")
    iso = raw.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", strict=False, time_zone="UTC").dt.epoch("ms")
    return pl.coalesce(utc, iso)


def _unmapped(rows: pl.DataFrame, basis: Basis) -> pl.DataFrame:
    """Raw values that are neither empty nor listed, with how often they occur."""
    counts = [
        rows.select(pl.lit(name).alias("attribute"), pl.col(attribute.field or "").alias("value"))
        .filter(
            pl.col("value").is_not_null() & (pl.col("value") != "") & ~pl.col("value").is_in(list(attribute.values))
        )
        .group_by("attribute", "value")
        .agg(pl.len().cast(pl.Int64).alias("count"))
        for name, attribute in basis.mapping.attributes.items()
        if attribute.values is not None and attribute.field in rows.columns
    ]
    schema = {"attribute": pl.String, "value": pl.String, "count": pl.Int64}
    return pl.concat([pl.DataFrame(schema=schema), *counts]).sort("attribute", "value")
