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
    audited = [name for name in fields if name in basis.audited]
    changes = _keyed(events)
    rows = pl.concat([_creations(records, changes, audited), _changes(changes, audited)], how="vertical")
    rows = _one_row_per_save(rows, audited)
    rows = _with_missed(rows, records)
    rows = _with_snapshot(rows, records, [name for name in fields if name not in basis.audited], basis.now)
    tail = _tail(rows, records)
    return _case_log(rows.drop("key"), tail, basis)


def _keyed(events: pl.DataFrame) -> pl.DataFrame:
    """Gives each event its place: the source's own order where all of the record's events have one, else the time."""
    ordered = pl.col("order").is_not_null().all().over("case")
    key = pl.when(ordered).then("order").otherwise("at").alias("key")
    # Saves without content come first in their save: the row that stays is then one that names who saved.
    named = pl.col("actor").is_not_null().alias("named")
    return events.with_columns(key, named).sort("case", "key", "named", maintain_order=True).drop("named")


def _creations(records: pl.DataFrame, changes: pl.DataFrame, audited: list[str]) -> pl.DataFrame:
    """One row per case with the values it was created with: the first old value, or the present one if none changed."""
    rows = records.select(
        "case",
        pl.lit(-1, pl.Int64).alias("key"),
        pl.col("created").alias("at"),
        pl.lit(None, pl.String).alias("actor"),
        *audited,
    )
    first = changes.filter(pl.col("field").is_in(audited)).unique(["case", "field"], keep="first", maintain_order=True)
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


def _with_missed(rows: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Counts the saves without a trace before each row, for sources that count their saves (``version``)."""
    rows = rows.join(records.select("case", "version"), on="case", how="left", maintain_order="left")
    before = pl.max_horizontal(pl.col("key").shift(1), pl.lit(0, pl.Int64))
    counted = pl.col("version").is_not_null() & (pl.col("key") >= 0)
    return rows.with_columns(
        pl.when(counted).then((pl.col("key") - before - 1).clip(lower_bound=0)).otherwise(0).alias("missed")
    ).drop("version")


def _with_snapshot(rows: pl.DataFrame, records: pl.DataFrame, fields: list[str], now: int) -> pl.DataFrame:
    """Fields without a history are known on the last row only, and not before that update may be seen."""
    known = records.filter(pl.col("updated") <= now).select("case", *fields)
    rows = rows.join(known, on="case", how="left", maintain_order="left")
    return rows.with_columns(pl.when(IS_LAST).then(pl.col(name)).alias(name) for name in fields)


def _tail(rows: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Per case: saves without a trace after the last known one, and when the record was last updated."""
    last = rows.filter(IS_LAST).select("case", pl.max_horizontal(pl.col("key"), pl.lit(0, pl.Int64)).alias("last"))
    missed = (pl.col("version") - pl.col("last")).clip(lower_bound=0).fill_null(0).alias("missed_after")
    return records.join(last, on="case", how="left", maintain_order="left").select("case", missed, "updated")


def from_log(raw: pl.DataFrame, columns: LogColumns, now: int) -> tuple[CaseLog, pl.DataFrame]:
    """Cases from a file of rows (all columns text, in the file's order), and the ``case`` -> ``id`` table.

    Raises ``ValueError`` naming the row (1-based, the header is row 1) whose time cannot be read.
    """
    rows = raw.with_columns(
        pl.when(pl.col(name).is_in(list(columns.missing))).then(pl.lit("")).otherwise(name).fill_null("").alias(name)
        for name in raw.columns
    )
    ids = rows.select(pl.col(columns.case).alias("id")).unique(maintain_order=True)
    ids = ids.with_row_index("case").with_columns(pl.col("case").cast(pl.UInt32))
    rows = rows.join(ids, left_on=columns.case, right_on="id", how="left", maintain_order="left")
    rows = rows.with_columns(_log_time(rows, columns), _log_actor(columns)).sort("case", maintain_order=True)
    rows = rows.with_columns(_log_missed(columns))
    rows = rows.with_columns(_late_values(columns))
    tail = rows.group_by("case", maintain_order=True).agg(
        pl.when(pl.len() == 1).then(pl.col("_counter").last()).otherwise(0).alias("missed_after"),
        pl.col("at").max().alias("updated"),
    )
    basis = Basis(columns.mapping, now, frozenset(raw.columns), frozenset(columns.system_accounts))
    return _case_log(rows.drop("_counter"), tail, basis, (columns.time_format, columns.zone)), ids


def _log_time(rows: pl.DataFrame, columns: LogColumns) -> pl.Series:
    parsed = rows[columns.time].str.to_datetime(columns.time_format, strict=False)
    if parsed.null_count():
        row = int(parsed.is_null().arg_true()[0])
        raise ValueError(
            f"row {row + 2}: {rows[columns.time][row]!r} in column {columns.time!r} is no time of the form "
            f"{columns.time_format!r}; correct the row, or time_format in the columns file"
        )
    return (
        parsed.dt.replace_time_zone(columns.zone, ambiguous="earliest", non_existent="null").dt.epoch("ms").alias("at")
    )


def _log_actor(columns: LogColumns) -> pl.Expr:
    if columns.actor is None:
        return pl.lit(None, pl.String).alias("actor")
    return pl.when(pl.col(columns.actor) != "").then(pl.col(columns.actor)).alias("actor")


def _log_missed(columns: LogColumns) -> list[pl.Expr]:
    """The counter may repeat or step back, the file's order does not: it is raised to increase by at least one a
    row.
    """
    if columns.saves is None:
        return [pl.lit(0, pl.Int64).alias("missed"), pl.lit(0, pl.Int64).alias("_counter")]
    number = pl.int_range(pl.len()).over("case")
    counter = (pl.col(columns.saves).cast(pl.Int64, strict=False) - number).cum_max().over("case") + number
    before = pl.when(number == 1).then(0).otherwise(counter.shift(1))
    missed = pl.when(number == 0).then(0).otherwise((counter - before - 1).clip(lower_bound=0))
    return [missed.fill_null(0).alias("missed"), counter.fill_null(0).alias("_counter")]


def _late_values(columns: LogColumns) -> list[pl.Expr]:
    state = columns.mapping.attributes["state"]
    values = _mapped(state)
    return [
        pl.when(values.is_in(list(late.states)).fill_null(False).cum_max().over("case"))
        .then(pl.col(name).last().over("case"))
        .alias(name)
        for name, late in columns.late.items()
    ]


def _case_log(
    rows: pl.DataFrame, tail: pl.DataFrame, basis: Basis, time_form: tuple[str, str] | None = None
) -> CaseLog:
    """The end both ways share: attributes, opening, and the cut at ``now``."""
    saves = with_attributes(rows, basis, time_form)
    opened = saves.filter(IS_FIRST).select("case", pl.coalesce("opened", "at").alias("_opened"))
    saves = saves.join(opened, on="case", how="left", maintain_order="left")
    saves = saves.with_columns(
        pl.when(IS_FIRST).then("_opened").otherwise("at").alias("at"),
        pl.when(~IS_FIRST).then("actor").alias("actor"),
        pl.when(~IS_FIRST).then("human").alias("human"),
    )
    visible = pl.col("at") <= basis.now
    cases = _cases(saves, tail, basis.now)
    is_open = pl.col("opened") <= basis.now
    saves = saves.filter(visible & (pl.col("_opened") <= basis.now)).drop("_opened")
    not_open = cases.filter(~is_open).select("case", "opened")
    return CaseLog(cases.filter(is_open), saves, not_open, _unmapped(rows, basis))


def _cases(saves: pl.DataFrame, tail: pl.DataFrame, now: int) -> pl.DataFrame:
    future = saves.filter(pl.col("at") > now).group_by("case", maintain_order=True)
    unseen = future.agg(pl.col("at").min().alias("_unseen"), pl.col("missed").first().alias("_missed"))
    opened = saves.filter(IS_FIRST).select("case", pl.col("_opened").alias("opened"))
    rows = opened.join(tail, on="case", how="left", maintain_order="left")
    rows = rows.join(unseen, on="case", how="left", maintain_order="left")
    later = pl.when(pl.col("updated") > now).then("updated")
    missed = pl.when(pl.col("updated") <= now).then("missed_after").otherwise(0)
    return rows.select(
        "case",
        "opened",
        pl.coalesce("_missed", missed).alias("missed_after"),
        pl.min_horizontal("_unseen", later).alias("unseen"),
    )


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
