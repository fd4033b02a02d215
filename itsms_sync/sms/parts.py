"""The parts of a case that are records of their own: its approvals, tasks, affected items and service levels, as of
``now``.

Pure. A part's history is read as a case's is; what the kernel gets of it is one row per part. An instant is ``exact``
if the history or the source itself tells it; otherwise it is the part's last update, before which it must have been.
"""

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from itsms_sync.sms.cases import APPROVALS, ITEMS, SLAS, TASKS, saves_of, standing
from itsms_sync.sms.mapping import CANCELLED, COMPLETED, PAUSED, RUNS, SLA_STAGES, Mapping, Part

ASKED = "requested"
DECIDED = ("approved", "rejected")
ENDED = ("done", "incomplete", "skipped", "cancelled")


NEVER = "never"
"""Stage of a service level of which the source has a record although it never began."""
_LEVEL = {
    "stage": pl.String,
    "started": pl.Int64,
    "paused": pl.Int64,
    "ended": pl.Int64,
    "pauses": pl.Int64,
    "cycles": pl.Float64,
}
"""The attributes of a service level that are judged; others are shown only."""


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


def levels(facts: PartFacts, part: Part, now: int) -> pl.DataFrame:
    """``SLAS`` of the cases that the parts belong to, as they stand: they change often, and stock sources keep no
    history of them.
    """
    told = standing(facts.records, part)
    missing = (pl.lit(None, type_).alias(name) for name, type_ in _LEVEL.items() if name not in told.columns)
    told = told.with_columns(*missing, facts.records["case"].alias("part"), facts.records["_created"])
    began = pl.coalesce("started", "_created")
    rows = told.filter((began <= now).fill_null(True)).select(
        "part",
        _stage().alias("stage"),
        began.alias("at"),
        pl.col("ended").alias("ended_at"),
        _stood_still().alias("idle"),
        pl.lit(False).alias("gone"),
    )
    rows = rows.join(facts.owners, on="part", how="inner")
    return rows.select(pl.col(name).cast(type_) for name, type_ in SLAS.items()).sort("case", "at", "id")


def judged_fields(mapping: Mapping) -> dict[str, frozenset[str]]:
    """Kind of record -> its fields that are judged, of kinds that are nothing but service levels. Others change with
    the time, as a share that is used up does, and no case has to be judged again for it.
    """
    told: dict[str, frozenset[str]] = {}
    for process in mapping.processes.values():
        part = process.parts.slas
        if part is not None:
            named = (one.field for name, one in part.attributes.items() if name in _LEVEL)
            told[part.kind] = told.get(part.kind, frozenset()) | {part.case, *filter(None, named)}
    for described in mapping.described():
        # What is a case or another part as well, or is a service level on a condition, is judged by more than that.
        if described.where is not None or not any(described is p.parts.slas for p in mapping.processes.values()):
            told.pop(described.kind, None)
    return told


def _stage() -> pl.Expr:
    """A word that is none of ours tells nothing, as where a mapping lists no values."""
    never = (pl.col("stage") == COMPLETED) & (pl.col("cycles") == 0)
    known = pl.when(pl.col("stage").is_in(sorted(SLA_STAGES))).then("stage")
    return pl.when(never).then(pl.lit(NEVER)).otherwise(known)


def _stood_still() -> pl.Expr:
    """Whether the clock has not run at all since the service level was attached."""
    length = pl.col("ended") - pl.col("started")
    whole = (length > 0) & (pl.col("pauses") >= length)
    return (
        pl.when(pl.col("stage") == RUNS)
        .then(False)
        .when(pl.col("stage") == PAUSED)
        .then(pl.col("paused") <= pl.col("started"))
        .when(pl.col("stage").is_in([COMPLETED, CANCELLED]))
        .then(whole)
    )


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
