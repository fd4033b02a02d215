"""Checks of how a case ends: CF6 touched after close, CF7 resolved without work, CF9 cancelled after work, CF12 open or
cancelled child.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, MISSED, at_gate, untold, with_gate
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ACTOR,
    ALWAYS,
    BY_SYSTEM,
    BY_WORKFLOW,
    CHILD,
    CLOCK,
    GAP,
    LOST,
    NO_CHILDREN,
    NOT_CLOSED,
    NOT_DELIVERED,
    RUNNING,
    TASK,
    UNMAPPED,
    WITH_ANOTHER,
    Rule,
    Status,
    decide,
    in_words,
    phrase,
)
from itsms_sync.procedures.model import ChildrenEnded, NotCancelledAfterWork, NotResolvedUnread, UntouchedAfterClose
from itsms_sync.sms.cases import IS_LAST

ONE_TRANSACTION = 5_000
"""What one save brings about is written within so many ms after it."""


def touched_after_close(history: History, requirement: UntouchedAfterClose) -> pl.DataFrame:
    """CF6. A save that closes the case, or closes it again, is none after it; nor is what a system account does."""
    entered = history.states.filter(IS_LAST)["at"]
    closed = pl.col("state").is_in(list(requirement.states))
    later = _later(history, requirement)
    frame = history.with_first(_edits(later, requirement))
    frame = frame.with_columns(pl.when(closed).then(entered).alias("closed_at"))
    return decide(
        frame,
        [
            Rule(pl.col("signed"), Status.DEVIATING, at="bad_at", detail=pl.col("edit")),
            Rule(~pl.col("signed"), Status.UNKNOWN, ACTOR, "bad_at"),
            Rule(pl.col("closed_at").is_null(), Status.NOT_APPLICABLE, NOT_CLOSED),
            Rule(pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, "closed_at"),
            *_not_told(later, requirement),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "closed_at"),
            Rule(MISSED, Status.UNKNOWN, GAP, "closed_at"),
            Rule(ALWAYS, Status.CONFORMING, at="closed_at"),
        ],
    )


def _later(history: History, requirement: UntouchedAfterClose) -> pl.DataFrame:
    """The saves before and after which the case was closed, with nothing missing between: it was closed meanwhile, too.
    Beside each attribute, ``now_…``, what it ``was_…``.
    """
    saves, state = history.saves, pl.col("state")
    stayed = state.is_in(list(requirement.states)) & (state == state.shift(1)) & ~pl.col("first")
    rows = saves.select((stayed & (pl.col("missed") == 0)).fill_null(False).alias("later"))["later"].arg_true()
    found = saves.select("case", "at", "human")[rows]
    return found.with_columns(
        *(saves[name].gather(rows).cast(pl.String).alias(f"now_{name}") for name in requirement.fields),
        *(saves[name].gather(rows - 1).cast(pl.String).alias(f"was_{name}") for name in requirement.fields),
    )


def _edits(later: pl.DataFrame, requirement: UntouchedAfterClose) -> pl.DataFrame:
    """``case, at, edit, signed`` (whether it is known that a person made it), ``preference``. What was empty and is
    filled in late is no change of what was said.
    """
    changed = {
        name: (pl.col(f"was_{name}") != "") & (pl.col(f"now_{name}") != pl.col(f"was_{name}"))
        for name in requirement.fields
    }
    names = (pl.when(when).then(pl.lit(in_words(name))) for name, when in changed.items())
    by_person = pl.col("human").is_not_null()
    saves = later.filter(pl.col("human").fill_null(True), pl.any_horizontal(*changed.values()))
    return saves.select(
        "case",
        "at",
        phrase("changed after it was closed: ", pl.concat_str(*names, separator=", ", ignore_nulls=True)).alias("edit"),
        by_person.alias("signed"),
        (~by_person).cast(pl.Int32).alias("preference"),
    )


def _not_told(later: pl.DataFrame, requirement: UntouchedAfterClose) -> Iterator[Rule]:
    for name in requirement.fields:
        untold = later.filter(pl.col(f"was_{name}").is_null() | pl.col(f"now_{name}").is_null())["case"]
        why = f"{NOT_DELIVERED}: {name}"
        yield Rule(pl.col("case").is_in(untold.unique().implode()), Status.UNKNOWN, why, "closed_at")


def children_left(history: History, requirement: ChildrenEnded) -> pl.DataFrame:
    """CF12. Linked cases are judged as they stand: one that ended late puts right that it was open."""
    frame = with_gate(history, requirement.gate)
    due = pl.col("gate_at") + requirement.grace // timedelta(milliseconds=1)
    frame = frame.with_columns(due.alias("due"), (due + 1).alias("overdue"))
    frame = _with_children(frame, [_tasks(history, frame, requirement), _cases(history, frame, requirement)])
    begun_before = COMPLETE_LOSS & (pl.col("gate_row") == pl.col("first_row"))
    off, left = pl.col("not_done"), pl.col("left_open")
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(begun_before, Status.UNKNOWN, LOST, "gate_at"),
            Rule(off != "", Status.DEVIATING, at="gate_at", detail=phrase("not done: ", off)),
            Rule(
                (left != "") & (pl.col("due") < history.now),
                Status.DEVIATING,
                at="due",
                detail=phrase("left open: ", left),
            ),
            Rule(left != "", Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            *(history.not_read("tasks", "gate_at") if requirement.tasks else ()),
            *(history.not_read("links", "gate_at", requirement.roles) if requirement.roles else ()),
            Rule(pl.col("task_untold"), Status.UNKNOWN, TASK, "gate_at"),
            Rule(pl.col("case_untold"), Status.UNKNOWN, CHILD, "gate_at"),
            Rule(pl.col("unsigned"), Status.UNKNOWN, ACTOR, "gate_at"),
            Rule(pl.col("by_workflow"), Status.NOT_APPLICABLE, BY_WORKFLOW),
            Rule(~pl.col("ended_well"), Status.NOT_APPLICABLE, NO_CHILDREN),
            Rule(ALWAYS, Status.CONFORMING, at="gate_at"),
        ],
        judged_as_of="gate_at",
    )


def _with_children(frame: pl.DataFrame, children: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """``frame`` with what is to be said of what belongs to each case: ``not_done`` and ``left_open`` name it."""
    what, named = pl.col("what"), ("not_done", "left_open")
    told = ("unsigned", "by_workflow", "task_untold", "case_untold", "ended_well")
    found = (
        pl.concat(children)
        .group_by("case")
        .agg(
            *(pl.col("name").filter(what == one).unique().sort().str.join(", ").alias(one) for one in named),
            *((what == one).any().alias(one) for one in told),
        )
    )
    frame = frame.join(found, on="case", how="left", maintain_order="left")
    return frame.with_columns(pl.col(named).fill_null(""), pl.col(told).fill_null(False))


def _tasks(history: History, frame: pl.DataFrame, requirement: ChildrenEnded) -> pl.DataFrame:
    """The tasks that there were at the gate: ``case, what, name``."""
    tasks = history.log.tasks.join(frame.select("case", "gate_at", "due"), on="case", how="inner").with_row_index("nth")
    meant = pl.col("type").is_in(list(requirement.tasks)) | pl.col("type").is_null()
    tasks = tasks.filter(pl.lit(bool(requirement.tasks)) & meant, pl.col("opened_at") <= pl.col("gate_at"))
    state, in_time = pl.col("state"), pl.col("ended_at") <= pl.col("due")
    made = ((state == "done") & in_time).fill_null(False).any().over("case", "type")
    counts, open_ = pl.lit(requirement.workflow_cancels), state.is_in(["open", "work"])
    what = (
        pl.when(pl.col("type").is_null() | state.is_null() | (open_ & pl.col("gone").fill_null(False)))
        .then(pl.lit("task_untold"))
        .when(open_ | (~in_time & pl.col("exact")))
        .then(pl.lit("left_open"))
        .when(~in_time.fill_null(False))
        .then(pl.lit("task_untold"))
        .when((state == "done") | made)
        .then(pl.lit("ended_well"))
        .when(~counts & (_with_the_case(history, tasks) | ~pl.col("human")))
        .then(pl.lit("by_workflow"))
        .when(counts | pl.col("human"))
        .then(pl.lit("not_done"))
        .otherwise(pl.lit("unsigned"))
    )
    return tasks.select("case", what.alias("what"), phrase("task of ", pl.col("type")).alias("name"))


def _with_the_case(history: History, tasks: pl.DataFrame) -> pl.Expr:
    """Whether a task was ended by the save with which its case came to another state: workflows cancel what is left in
    the name of whoever moves the case.
    """
    moves = history.states.filter(~pl.col("first")).select("case", moved_at="at")
    pairs = tasks.select("nth", "case", "ended_at").join(moves, on="case", how="inner")
    found = pairs.filter((pl.col("ended_at") - pl.col("moved_at")).is_between(0, ONE_TRANSACTION))
    return pl.col("nth").is_in(found["nth"].unique().implode())


def _cases(history: History, frame: pl.DataFrame, requirement: ChildrenEnded) -> pl.DataFrame:
    """The cases that were linked with it at the gate, as for ``_tasks``."""
    links = history.log.links.join(frame.select("case", "gate_at"), on="case", how="inner")
    there = (pl.col("at") <= pl.col("gate_at")).fill_null(pl.col("gate_at").is_not_null())
    links = links.filter(pl.col("role").is_in(list(requirement.roles)) & pl.col("via").is_null() & there)
    own = (pl.col("process") == history.procedure.process).fill_null(False)
    what = (
        pl.when(~own | pl.col("state").is_null())
        .then(pl.lit("case_untold"))
        .when(pl.col("state").is_in(history.resolved))
        .then(pl.lit("ended_well"))
        .otherwise(pl.lit("left_open"))
    )
    return links.select(
        "case", what.alias("what"), pl.col("role").str.replace_all("_", " ", literal=True).alias("name")
    )


def resolved_unread(history: History, requirement: NotResolvedUnread) -> pl.DataFrame:
    """CF7. Time counts from when it was opened, which may be earlier than it was recorded. A save by a person in
    between is a word: what they wrote is not read here.
    """
    frame = with_gate(history, requirement.gate)
    frame = frame.with_columns(
        (pl.col("gate_at") - history.there("first_row", "at")).alias("took"),
        history.there("gate_row", "human").alias("by_person"),
        _between(history, pl.col("human").fill_null(False)).alias("looked_at"),
        _between(history, pl.col("human").is_null()).alias("perhaps_looked_at"),
    )
    done, unseen = pl.col(f"done_{requirement.work}"), pl.col(f"untold_{requirement.work}")
    notes = [history.there("gate_row", name) for name in requirement.notes]
    with_word = pl.any_horizontal(pl.lit(False), "looked_at", *(note != "" for note in notes))
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(pl.col("took") >= requirement.within // timedelta(milliseconds=1), Status.CONFORMING, at="gate_at"),
            Rule((done <= pl.col("gate_row")) | with_word, Status.CONFORMING, at="gate_at"),
            Rule(~pl.col("by_person"), Status.NOT_APPLICABLE, BY_SYSTEM),
            Rule(_is_linked(history, requirement.roles), Status.NOT_APPLICABLE, WITH_ANOTHER),
            Rule(pl.col("took") < 0, Status.UNKNOWN, CLOCK, "gate_at"),
            *(
                Rule(note.is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "gate_at")
                for name, note in zip(requirement.notes, notes, strict=True)
            ),
            Rule(unseen <= pl.col("gate_row"), Status.UNKNOWN, untold(history, requirement.work), "gate_at"),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
            Rule(history.missed_at("gate_row") > 0, Status.UNKNOWN, GAP, "gate_at"),
            Rule(pl.col("perhaps_looked_at") | pl.col("by_person").is_null(), Status.UNKNOWN, ACTOR, "gate_at"),
            *(history.not_read("links", "gate_at", requirement.roles) if requirement.roles else ()),
            Rule(
                ALWAYS,
                Status.DEVIATING,
                at="gate_at",
                detail=phrase("resolved ", pl.col("took") // 1000, " s after it was opened"),
            ),
        ],
        judged_as_of="gate_at",
    )


def _between(history: History, what: pl.Expr) -> pl.Expr:
    """Whether there is such a save after the first one of a case and before the one that reached the gate."""
    counted = history.saves.select((what & ~pl.col("first")).cum_sum().cast(pl.Int64).alias("counted"))["counted"]
    before = pl.col("gate_row").cast(pl.Int64) - 1
    within = before >= pl.col("first_row")
    return within & (pl.lit(counted).gather(before.clip(0)) > pl.lit(counted).gather(pl.col("first_row")))


def _is_linked(history: History, roles: Sequence[str]) -> pl.Expr:
    links = history.log.links.filter(pl.col("role").is_in(list(roles)) & pl.col("via").is_null())
    return pl.col("case").is_in(links["case"].unique().implode())


def cancelled_after_work(history: History, requirement: NotCancelledAfterWork) -> pl.DataFrame:
    """CF9. Two sums: ``worked`` while it was certainly worked on, ``possible`` whenever it may have been."""
    frame = with_gate(history, [requirement.cancel])
    frame = frame.join(_worked(history, frame, requirement.work), on="case", how="left", maintain_order="left")
    limit, worked = requirement.grace // timedelta(milliseconds=1), pl.col("worked")
    took = phrase("cancelled after ", worked // 3_600_000, " h ", worked // 60_000 % 60, " min of work")
    return decide(
        frame,
        [
            *at_gate(history, [requirement.cancel]),
            Rule(pl.col("went_back"), Status.UNKNOWN, CLOCK, "gate_at"),
            Rule(worked > limit, Status.DEVIATING, at="gate_at", detail=took),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
            Rule(pl.col("possible").fill_null(0) <= limit, Status.CONFORMING, at="gate_at"),
            Rule(pl.col("untold_state") < pl.col("gate_row"), Status.UNKNOWN, UNMAPPED, "gate_at"),
            Rule(ALWAYS, Status.UNKNOWN, GAP, "gate_at"),
        ],
        judged_as_of="gate_at",
    )


def _worked(history: History, frame: pl.DataFrame, work: Sequence[str]) -> pl.DataFrame:
    """Per case that reached the gate after its first save: ``worked`` and ``possible`` (ms up to the gate), and
    ``went_back``: whether a save has an earlier stamp than the one before.
    """
    before = frame.filter(pl.col("gate_row") > pl.col("first_row"))
    whole, late = pl.col("states_whole"), pl.col("lost") & (pl.col("row") == pl.col("first_row"))
    spans = before.select("case", "first_row", "lost", "states_whole", row=pl.int_ranges("first_row", "gate_row"))
    spans = spans.explode("row")
    here, after = history.saves[spans["row"]], history.saves[spans["row"] + 1]
    spans = spans.with_columns(here["state"], after["missed"], (after["at"] - here["at"]).alias("span"))
    at_work, cut = pl.col("state").is_in(list(work)), (pl.col("missed") > 0) & ~whole
    # Saves without a trace may have ended the work, or begun it.
    certain = at_work.fill_null(False) & ~cut & ~late
    return spans.group_by("case").agg(
        pl.col("span").filter(certain).sum().alias("worked"),
        pl.col("span").filter(at_work.fill_null(True) | cut).sum().alias("possible"),
        (pl.col("span") < 0).any().alias("went_back"),
    )
