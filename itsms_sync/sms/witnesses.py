"""Several witnesses of one history: each step is counted once, by the best of those that tell of it.

Pure. The trail (audit, changelog, notes) tells each change and comes first. A metric tells the spans in which a field
kept a value, with their exact times but without who ended them. A snapshot is what we saw ourselves: of two states of a
record that we read, that a field differs, and the saves between which that happened. What a better witness tells as
well is dropped here and stays stored; when a better one becomes readable later, the same facts are counted anew.
"""

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

METRIC, SNAPSHOT = "metric", "snapshot"

OBSERVED = {
    "case": pl.UInt32,
    "order": pl.Int64,
    "at": pl.Int64,
    "since": pl.Int64,
    "field": pl.String,
    "old": pl.String,
    "new": pl.String,
    "witness": pl.String,
}
"""What metrics and snapshots tell. ``since`` (ms): the change happened after it and at ``at`` at the latest; null =
exactly at ``at``. A metric's row without ``old`` begins a span; without ``new`` but with ``old`` it ends one. A
snapshot without ``old`` is the first state that was seen of the field."""

STEPS = {name: OBSERVED[name] for name in ("case", "order", "at", "since", "field", "old", "new")}

SLACK = 5_000
"""Two witnesses stamp the same save up to this far apart (ms): each row is written by a job of its own."""

_OF = ["case", "field"]


@dataclass(frozen=True, slots=True)
class Counted:
    """``steps`` (``STEPS``): what counts besides the trail. ``initial``: ``case, field, at, value`` at the creation,
    where it was witnessed. ``untraced``: ``case, field, since, at`` (ms) of changes of which the trail ought to have
    told. ``whole``: ``case, field`` of which a metric tells every value from the creation to the present one.
    """

    steps: pl.DataFrame
    initial: pl.DataFrame
    untraced: pl.DataFrame
    whole: pl.DataFrame


def counted(trail: pl.DataFrame, observed: pl.DataFrame, records: pl.DataFrame, kept: Collection[str]) -> Counted:
    """Chooses among ``observed``. ``trail`` has ``case, order, at, field, new``; ``records`` are as for
    ``cases.from_history``; ``kept``: the fields whose changes the trail tells.
    """
    observed = _believed(observed, records, kept)
    trail = _heads(trail).join(observed.select(_OF).unique(), on=_OF, how="semi")
    is_metric = pl.col("witness") == METRIC
    metrics, snapshots = observed.filter(is_metric), observed.filter(~is_metric)
    starts = metrics.filter(pl.col("old").is_null())
    seen, changes = (snapshots.filter(when) for when in (pl.col("old").is_null(), pl.col("old").is_not_null()))
    born = _at_creation(pl.concat([starts, seen]), records)
    starts, seen = (part.join(born, on=[*_OF, "at", "witness"], how="anti") for part in (starts, seen))
    steps = _untold(starts, trail)
    lapses = _lapsed(metrics.filter(pl.col("old").is_not_null()), pl.concat([_heads(starts), trail]))
    told = pl.concat([trail, _heads(starts), _heads(born)])
    changes = _untold(changes, told)
    # What was seen first tells a value, and nothing that a trail or a metric before it would not have told.
    seen = _without_better(seen.filter(~pl.col("field").is_in(list(kept))), _heads(pl.concat([starts, born])))
    return Counted(
        pl.concat([steps, lapses, changes, seen]).select(list(STEPS)),
        born.unique(_OF, keep="first", maintain_order=True).select(*_OF, "at", pl.col("new").alias("value")),
        changes.filter(pl.col("field").is_in(list(kept))).select(*_OF, "since", "at"),
        _whole(born, starts, lapses, changes, records),
    )


def _believed(observed: pl.DataFrame, records: pl.DataFrame, kept: Collection[str]) -> pl.DataFrame:
    """A source that does not count its saves gives no sign of one that its trail has left out: there the trail alone is
    believed. Its histories and its records may also write the same value in different ways."""
    counts = records.select("case", pl.col("_version").is_not_null().alias("_counts"))
    rows = observed.join(counts, on="case", how="inner", maintain_order="left")
    return rows.filter(pl.col("_counts") | ~pl.col("field").is_in(list(kept))).drop("_counts")


def _heads(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("case", "order", "at", "field", "new")


def _at_creation(rows: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """The first row of each witness that tells a value with which the record was created."""
    created = records.select("case", "_created")
    rows = rows.join(created, on="case", how="left", maintain_order="left")
    near = (pl.col("at") - pl.col("_created")).abs() <= pl.when(pl.col("witness") == METRIC).then(SLACK).otherwise(0)
    rows = rows.filter((near & (pl.col("order").fill_null(0) == 0)).fill_null(False)).drop("_created")
    return rows.sort("witness", "at").unique([*_OF, "witness"], keep="first", maintain_order=True)


def _untold(rows: pl.DataFrame, better: pl.DataFrame) -> pl.DataFrame:
    """Those of the rows of which no better witness tells: none has the field come to that value in that time, or come
    to any in that very save."""
    rows = rows.with_row_index("_row")
    both = rows.join(better.rename({"order": "_order", "at": "_at", "new": "_new"}), on=_OF, how="inner")
    earliest = pl.coalesce("since", "at") - SLACK
    within = pl.col("_at").is_between(earliest, pl.col("at") + SLACK)
    same = within & plain("new").eq_missing(plain("_new"))
    told = both.filter(same | (pl.col("order") == pl.col("_order")).fill_null(False))
    return rows.join(told.select("_row").unique(), on="_row", how="anti").drop("_row")


def plain(column: str) -> pl.Expr:
    """Histories write truth as a digit where records write a word."""
    return pl.col(column).replace({"true": "1", "false": "0"})


def _lapsed(ends: pl.DataFrame, better: pl.DataFrame) -> pl.DataFrame:
    """Ends of spans that nothing follows: from then on the value is not known."""
    ends = ends.with_row_index("_row")
    both = ends.join(better.select(*_OF, pl.col("at").alias("_at")), on=_OF, how="inner")
    followed = both.filter((pl.col("_at") - pl.col("at")).abs() <= SLACK).select("_row").unique()
    return ends.join(followed, on="_row", how="anti").drop("_row")


def _without_better(seen: pl.DataFrame, better: pl.DataFrame) -> pl.DataFrame:
    first = better.group_by(_OF).agg(pl.col("at").min().alias("_first"))
    rows = seen.join(first, on=_OF, how="left", maintain_order="left")
    return rows.filter((pl.col("_first") > pl.col("at") + SLACK).fill_null(True)).drop("_first")


def _whole(
    born: pl.DataFrame, starts: pl.DataFrame, lapses: pl.DataFrame, changes: pl.DataFrame, records: pl.DataFrame
) -> pl.DataFrame:
    """``case, field`` with a metric from the creation on, without a lapse, that leads to the value that stands. Spans
    that begin in the same second have no order.
    """
    born = born.filter(pl.col("witness") == METRIC)
    spans = pl.concat([born, starts]).join(born.select(_OF).unique(), on=_OF, how="semi")
    last = spans.sort("at", maintain_order=True).group_by(_OF, maintain_order=True).agg(pl.all().last())
    ties = spans.filter(pl.struct(*_OF, "at").is_duplicated())
    for broken in (lapses, changes, ties):
        last = last.join(broken.select(_OF).unique(), on=_OF, how="anti")
    fields = [name for name in last["field"].unique() if name in records.columns]
    if not fields:
        return last.clear().select(_OF)
    present = records.select("case", *fields).unpivot(fields, index="case", variable_name="field", value_name="_now")
    last = last.join(present, on=_OF, how="inner")
    return last.filter(pl.col("new") == pl.col("_now")).select(_OF)
