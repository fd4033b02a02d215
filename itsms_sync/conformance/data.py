"""Checks of the data: DA1 closure data, DA4 no configuration item, DA6 priority matrix, DA7 filled after the gate, DA8
contradictory close.
"""

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, MISSED, at_gate, with_gate
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ACTOR,
    ALWAYS,
    COPIED,
    GAP,
    LINKED_WHEN,
    LOST,
    NEVER_FILLED,
    NOT_DELIVERED,
    TASK,
    Rule,
    Status,
    decide,
    in_words,
    phrase,
)
from itsms_sync.procedures.model import CloseAgrees, FieldAtGate, FilledInTime, ItemNamed, PriorityByMatrix


def field_at_gate(history: History, requirement: FieldAtGate) -> pl.DataFrame:
    """DA1. The field is judged as it stood after the save that reached the gate, not as it was filled in later."""
    value = history.there("gate_row", requirement.field)
    return decide(
        with_gate(history, requirement.gate),
        [
            *at_gate(history, requirement.gate),
            Rule(value.is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {requirement.field}", "gate_at"),
            Rule(value == "", Status.DEVIATING, at="gate_at", detail=pl.lit(f"no {in_words(requirement.field)}")),
            Rule(ALWAYS, Status.CONFORMING, at="gate_at"),
        ],
        judged_as_of="gate_at",
    )


def priority_by_matrix(history: History, requirement: PriorityByMatrix) -> pl.DataFrame:
    """DA6. Judges the values as they stand; an empty or unknown input decides nothing."""
    inputs = ("impact", "urgency", "priority")
    changed = pl.any_horizontal("first", *(pl.col(n).ne_missing(pl.col(n).shift(1)) for n in inputs))
    since = history.saves.select(pl.when(changed).then("row").forward_fill().alias("since_row"))["since_row"]
    frame = history.cases.with_columns(pl.lit(since).gather(pl.col("last_row")).alias("since_row"))
    pairs = {f"{i}/{u}": p for i, row in requirement.matrix.items() for u, p in row.items()}
    expected = pl.concat_str("impact", pl.lit("/"), "urgency").replace_strict(
        list(pairs), list(pairs.values()), default=None, return_dtype=pl.String
    )
    frame = frame.with_columns(history.there("since_row", "at").alias("since"), expected.alias("expected"))
    empty = pl.any_horizontal(pl.col(n).is_null() | (pl.col(n) == "") for n in inputs)
    found = phrase(
        *("impact ", pl.col("impact"), " and urgency ", pl.col("urgency")),
        *(" give priority ", pl.col("expected"), ", set was ", pl.col("priority")),
    )
    return decide(
        frame,
        [
            Rule(empty, Status.UNKNOWN, f"{NOT_DELIVERED}: impact, urgency or priority", "since"),
            Rule(pl.col("expected").is_null(), Status.UNKNOWN, "the matrix has no such impact and urgency", "since"),
            Rule(pl.col("priority") == pl.col("expected"), Status.CONFORMING, at="since"),
            Rule(ALWAYS, Status.DEVIATING, at="since", detail=found),
        ],
    )


def filled_late(history: History, requirement: FilledInTime) -> pl.DataFrame:
    """DA7. That the field was empty is DA1's to say; here it counts who filled it in afterwards, and when."""
    name = requirement.field
    value = history.there("gate_row", name)
    filled = history.saves.select(pl.when(pl.col(name).ne_missing("")).then("row").backward_fill().alias("at"))["at"]
    frame = with_gate(history, requirement.gate)
    first = pl.lit(filled).gather(pl.col("gate_row"))
    frame = frame.with_columns(pl.when(first <= pl.col("last_row")).then(first).alias("filled_row"))
    frame = frame.with_columns(history.there("filled_row", "at").alias("filled_at"))
    human, grace = history.there("filled_row", "human"), int(requirement.grace.total_seconds() * 1000)
    took = (pl.col("filled_at") - pl.col("gate_at")) // 60_000
    late = phrase(f"{in_words(name)} was filled in ", took // 60, " h ", took % 60, " min late")
    begun = COMPLETE_LOSS & (pl.col("gate_row") == pl.col("first_row"))
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(value.is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "gate_at"),
            Rule(value != "", Status.CONFORMING, at="gate_at"),
            Rule(pl.col("filled_row").is_null() & (pl.col("missed_after") > 0), Status.UNKNOWN, GAP, "gate_at"),
            Rule(pl.col("filled_row").is_null(), Status.NOT_APPLICABLE, NEVER_FILLED),
            Rule(history.there("filled_row", name).is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "gate_at"),
            Rule(begun, Status.UNKNOWN, LOST, "filled_at"),
            Rule(pl.col("filled_at") <= pl.col("gate_at") + grace, Status.CONFORMING, at="filled_at"),
            Rule(history.there("filled_row", "missed") > 0, Status.UNKNOWN, GAP, "filled_at"),
            Rule(human.is_null(), Status.UNKNOWN, ACTOR, "filled_at"),
            Rule(~human, Status.UNKNOWN, COPIED, "filled_at"),
            Rule(ALWAYS, Status.DEVIATING, at="filled_at", detail=late),
        ],
        judged_as_of="gate_at",
    )


def no_item(history: History, requirement: ItemNamed) -> pl.DataFrame:
    """DA4. Items that were put on the list after the gate were not named when it was reached."""
    value = history.there("gate_row", requirement.field)
    listed = history.log.items.group_by("case").agg(pl.col("at").min().alias("listed_at"))
    frame = with_gate(history, requirement.gate).join(listed, on="case", how="left", maintain_order="left")
    late = pl.when(pl.col("listed_at").is_not_null()).then(pl.lit("the first item was listed later"))
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule((value != "") | (pl.col("listed_at") <= pl.col("gate_at")), Status.CONFORMING, at="gate_at"),
            Rule(value.is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {requirement.field}", "gate_at"),
            *history.not_read("cis", "gate_at"),
            Rule(ALWAYS, Status.DEVIATING, at="gate_at", detail=late.otherwise(pl.lit("no item is named"))),
        ],
        judged_as_of="gate_at",
    )


def contradictory_close(history: History, requirement: CloseAgrees) -> pl.DataFrame:
    """DA8. A link that was made after the close contradicts nothing that anybody knew."""
    frame = _with_contradictions(history, with_gate(history, requirement.gate), requirement)
    said = [(f"against_{n}", words) for n, words in enumerate(requirement.against)]
    said += [(f"linked_{n}", words) for n, words in enumerate(requirement.roles.values())]
    said += [("unfinished", "a task was closed incomplete")]
    told = (pl.when(pl.col(name)).then(pl.lit(words)) for name, words in said)
    frame = frame.with_columns(pl.concat_str(*told, separator="; ", ignore_nulls=True).alias("hit"))
    open_ = pl.any_horizontal(
        pl.lit(False), *(pl.col(f"against_{n}").is_null() for n in range(len(requirement.against)))
    )
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(pl.col("hit") != "", Status.DEVIATING, at="gate_at", detail=pl.col("hit")),
            *(history.not_read("links", "gate_at", requirement.roles) if requirement.roles else ()),
            *(history.not_read("tasks", "gate_at") if requirement.task_types else ()),
            Rule(pl.col("linked_sometime"), Status.UNKNOWN, LINKED_WHEN, "gate_at"),
            Rule(pl.col("perhaps_unfinished"), Status.UNKNOWN, TASK, "gate_at"),
            Rule(open_ & COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
            Rule(open_ & MISSED, Status.UNKNOWN, GAP, "gate_at"),
            Rule(open_, Status.UNKNOWN, NOT_DELIVERED, "gate_at"),
            Rule(ALWAYS, Status.CONFORMING, at="gate_at"),
        ],
        judged_as_of="gate_at",
    )


def _with_contradictions(history: History, frame: pl.DataFrame, requirement: CloseAgrees) -> pl.DataFrame:
    """``frame`` with ``against_<number>`` and ``linked_<number>``: whether that condition holds, and whether a link in
    that role was made before the gate; ``linked_sometime``: there is one of which it is not known when it was made;
    ``unfinished``, ``perhaps_unfinished``: whether a task was closed incomplete.
    """
    conditions = enumerate(requirement.against.values())
    frame = frame.with_columns(history.stands(condition).alias(f"against_{n}") for n, condition in conditions)
    counts = ~(pl.col("state") == "cancelled").fill_null(False) & pl.col("via").is_null()
    links = history.log.links.filter(pl.col("role").is_in(list(requirement.roles)) & counts)
    gates = frame.select("case", "gate_at")
    made = (
        links.join(gates, on="case", how="inner")
        .group_by("case")
        .agg(
            *(
                ((pl.col("role") == role) & (pl.col("at") <= pl.col("gate_at")))
                .any(ignore_nulls=True)
                .alias(f"linked_{n}")
                for n, role in enumerate(requirement.roles)
            ),
            pl.col("at").is_null().any().alias("_when"),
        )
    )
    unfinished = pl.col("type").is_in(list(requirement.task_types)) & (pl.col("state") == "incomplete")
    tasks = (
        history.log.tasks.filter(pl.lit(bool(requirement.task_types)))
        .group_by("case")
        .agg(unfinished.any(ignore_nulls=True).alias("unfinished"), unfinished.is_null().any().alias("_perhaps"))
    )
    for facts in (made, tasks):
        frame = frame.join(facts, on="case", how="left", maintain_order="left")
    return frame.with_columns(
        pl.col("_when").fill_null(False).alias("linked_sometime"),
        pl.col("unfinished").fill_null(False),
        pl.col("_perhaps").fill_null(False).alias("perhaps_unfinished"),
    )
