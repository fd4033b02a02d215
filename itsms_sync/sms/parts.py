"""The parts of a case that are records of their own: its approvals, tasks and affected items, as of ``now``.

Pure. A part's history is read as a case's is; what the kernel gets of it is one row per part. An instant is ``exact``
if the history or the source itself tells it; otherwise it is the part's last update, before which it must have been.
"""

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from itsms_sync.sms.cases import APPROVALS, ITEMS, TASKS, saves_of
from itsms_sync.sms.mapping import Part

ASKED = "requested"
DECIDED = ("approved", "rejected")
ENDED = ("done", "incomplete", "skipped", "cancelled")


@dataclass(frozen=True, slots=True)
class PartFacts:
    """Parts of one kind. ``records`` as for ``cases.from_history``, where ``case`` counts the parts; ``events`` alike;
    ``owners``: ``part``, ``case`` (of the case log), ``id``.
    """

    records: pl.DataFrame
    events: pl.DataFrame
    owners: pl.DataFrame
    audited: frozenset[str]
    """Source fields of the kind whose changes the history shows."""
    system_accounts: frozenset[str]


def approvals(facts: PartFacts, part: Part, now: int) -> pl.DataFrame:
    """``APPROVALS`` of the cases that the parts belong to, as of ``now`` (ms)."""
    rows = _standing(facts, part, now, ("approver", "state", "stage", "decided"), first=ASKED)
    decided = pl.col("state").is_in(DECIDED)
    told = pl.col("decided") if "decided" in part.attributes else pl.col("since")
    exact = pl.col("decided").is_not_null() if "decided" in part.attributes else pl.col("exact")
    # A source that keeps the decision itself keeps it as the approver's own.
    actor = pl.coalesce("actor", "approver") if "decided" in part.attributes else pl.col("actor")
    rows = rows.with_columns(
        pl.col("first_at").alias("asked_at"),
        pl.when(decided & (told <= now)).then(told).alias("decided_at"),
        exact.alias("exact"),
        pl.when(decided).then(actor).alias("actor"),
        pl.when(pl.col("stage") != "").then("stage").alias("stage"),
        pl.when(decided).then(~actor.is_in(sorted(facts.system_accounts))).alias("human"),
    )
    return rows.select(pl.col(name).cast(type_) for name, type_ in APPROVALS.items()).sort("case", "asked_at", "id")


def tasks(facts: PartFacts, part: Part, now: int) -> pl.DataFrame:
    """``TASKS`` of the cases that the parts belong to, as of ``now`` (ms)."""
    rows = _standing(facts, part, now, ("type", "state", "worker"), first=None)
    rows = rows.with_columns(
        pl.col("first_at").alias("opened_at"),
        pl.when(pl.col("state").is_in(ENDED)).then("since").alias("ended_at"),
        pl.col("all_worker").alias("workers"),
        (~pl.col("actor").is_in(sorted(facts.system_accounts))).alias("human"),
        pl.lit(False).alias("gone"),
    )
    return rows.select(pl.col(name).cast(type_) for name, type_ in TASKS.items()).sort("case", "opened_at", "id")


def items(facts: PartFacts, now: int) -> pl.DataFrame:
    """``ITEMS`` of the cases that the parts belong to, as of ``now`` (ms)."""
    rows = facts.records.select(pl.col("case").alias("part"), pl.col("_created").alias("at"))
    rows = rows.filter((pl.col("at") <= now).fill_null(True)).join(facts.owners, on="part", how="inner")
    return rows.select(pl.col(name).cast(type_) for name, type_ in ITEMS.items()).sort("case", "at", "id")


def _standing(
    facts: PartFacts, part: Part, now: int, attributes: Collection[str], *, first: str | None
) -> pl.DataFrame:
    """One row per part that was there at ``now``: the attributes as they stood, ``since`` when the state did and who
    wrote it, and ``first_at``, when it was first in the state ``first`` (or was made).
    """
    saves = saves_of(facts.records, facts.events, part, facts.audited, now)
    lacking = [name for name in attributes if name not in saves.columns]
    empty = {"decided": pl.Int64}
    saves = saves.with_columns(pl.lit(None, empty.get(name, pl.String)).alias(name) for name in lacking)
    entered = (pl.col("state").ne_missing(pl.col("state").shift(1)) | pl.int_range(pl.len()).eq(0)).over("case")
    saves = saves.with_columns(entered.alias("entered"))
    wanted = pl.lit(False) if first is None else pl.col("state") == first
    worker = [pl.col("worker").filter(pl.col("worker") != "").unique(maintain_order=True).alias("all_worker")]
    rows = saves.group_by("case", maintain_order=True).agg(
        *(pl.col(name).last() for name in attributes),
        pl.col("at", "actor").filter("entered").last().name.suffix("_entered"),
        pl.coalesce(pl.col("at").filter(wanted).first(), pl.col("at").first()).alias("first_at"),
        *(worker if "worker" in attributes else []),
    )
    rows = rows.join(facts.records.select("case", "_created", "_updated"), on="case", maintain_order="left")
    state = part.attributes["state"].field
    witnessed = pl.lit(state in facts.audited)
    untouched = pl.col("_created") == pl.col("_updated")
    rows = rows.filter(pl.coalesce("_created", "first_at") <= now).with_columns(
        pl.when(witnessed).then("at_entered").otherwise("_updated").alias("since"),
        (witnessed | untouched).fill_null(False).alias("exact"),
        pl.when(witnessed).then("actor_entered").alias("actor"),
    )
    return rows.rename({"case": "part"}).join(facts.owners, on="part", how="inner", maintain_order="left")
