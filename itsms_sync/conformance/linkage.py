"""Checks of links and reviews: LI1 not linked in time, LI4 failure without review, LI6 and LI9 not linked at the gate,
LI7 orphan hold, LI10 mismatch of the two tools, TI11 review overdue.

A link counts if it stands at ``now``, to whatever end: also after the gate it puts right what was missing, except where
the procedure sets a limit. A link to a case that was cancelled is none.
"""

from collections.abc import Sequence

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, at_gate, untold, with_gate
from itsms_sync.conformance.history import History
from itsms_sync.conformance.time import told, with_deadline
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    CALENDAR,
    GAP,
    LOST,
    NO_COUNTERPART,
    NOT_DELIVERED,
    NOT_READ,
    NOT_REVIEWED,
    NOT_WAITING,
    OTHER_STATE,
    RUNNING,
    TASK,
    Rule,
    Status,
    decide,
    in_words,
    phrase,
)
from itsms_sync.procedures.model import (
    LinkedAtGate,
    LinkedInTime,
    Reviewed,
    ReviewedInTime,
    SameInBoth,
    WaitsForSomething,
)
from itsms_sync.sms.conditions import compile

CANCELLED = "cancelled"
ELSEWHERE = "_elsewhere"
"""Ending of a role whose records are in another system; to people it is the same role."""
MEANT = {"trigger": "incident or problem that called for it"}
"""What records of a role are, where its name does not say it."""


def linked_late(history: History, requirement: LinkedInTime) -> pl.DataFrame:
    """LI1. A link of which it is not known when it was made counts as made in time."""
    frame = _with_links(history, with_gate(history, [requirement.after]), requirement.roles, requirement.via)
    frame = frame.with_columns(pl.max_horizontal("gate_at", "linked_at").alias("settled_at"))
    running = history.clock(requirement.limit)
    if running is None:
        rules = [*at_gate(history, [requirement.after]), Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "gate_at")]
        return decide(frame, rules, judged_as_of="gate_at")
    frame = with_deadline(frame, "gate_at", running)
    named, since = _named(requirement.roles), f"{told(running)} after {history.procedure.called(requirement.after)}"
    late = pl.when("linked").then(pl.lit(f"the {named} was linked later than {since}"))
    # The limit began to run earlier than is seen where an earlier beginning is hidden.
    after_begin = pl.col("linked_at") > pl.col("gate_at")
    return decide(
        frame,
        [
            *at_gate(history, [requirement.after]),
            *_hidden_begin(history, requirement.after, after_begin),
            Rule(pl.col("linked") & pl.col("linked_at").is_null(), Status.CONFORMING, at="gate_at"),
            Rule(pl.col("linked_at") < pl.col("overdue"), Status.CONFORMING, at="settled_at"),
            Rule(pl.lit(history.now) < pl.col("overdue"), Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            *history.not_read("links", "deadline", (*requirement.roles, *requirement.via)),
            Rule(
                ALWAYS,
                Status.DEVIATING,
                at="deadline",
                detail=late.otherwise(pl.lit(f"no {named} was linked within {since}")),
            ),
        ],
        judged_as_of="gate_at",
    )


def not_linked(history: History, requirement: LinkedAtGate) -> pl.DataFrame:
    """LI6, LI9."""
    frame = _with_links(history, with_gate(history, requirement.gate), requirement.roles, requirement.via)
    frame = frame.with_columns(pl.max_horizontal("gate_at", "linked_at").alias("settled_at"))
    missing = f"no {_named(requirement.roles)} is linked"
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(pl.col("linked"), Status.CONFORMING, at="settled_at"),
            *history.not_read("links", "gate_at", (*requirement.roles, *requirement.via)),
            Rule(ALWAYS, Status.DEVIATING, at="gate_at", detail=pl.lit(missing)),
        ],
        judged_as_of="gate_at",
    )


def _named(roles: Sequence[str]) -> str:
    """What the other record is, as people say it."""
    names = dict.fromkeys(role.removesuffix(ELSEWHERE) for role in roles)
    return " or ".join(MEANT.get(name, in_words(name)) for name in names)


def _hidden_begin(history: History, activity: str, when: pl.Expr) -> list[Rule]:
    earlier = pl.col(f"untold_{activity}") < pl.col("gate_row")
    return [
        Rule(when & COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
        Rule(when & earlier, Status.UNKNOWN, untold(history, activity), "gate_at"),
        Rule(when & (history.missed_at("gate_row") > 0), Status.UNKNOWN, GAP, "gate_at"),
    ]


def _with_links(history: History, frame: pl.DataFrame, roles: Sequence[str], via: Sequence[str]) -> pl.DataFrame:
    """``frame`` with ``linked``: whether the case has such a link, and ``linked_at``: when the first was made (ms),
    null if one of them may have been there always.
    """
    reached = pl.col("via").is_null() | pl.col("via").is_in(list(via))
    counts = ~(pl.col("state") == CANCELLED).fill_null(False)
    links = history.log.links.filter(pl.col("role").is_in(list(roles)) & reached & counts)
    first = links.group_by("case").agg(
        pl.lit(True).alias("linked"),
        pl.when(pl.col("at").null_count() == 0).then(pl.col("at").min()).alias("linked_at"),
    )
    frame = frame.join(first, on="case", how="left", maintain_order="left")
    return frame.with_columns(pl.col("linked").fill_null(False))


def not_reviewed(history: History, requirement: Reviewed) -> pl.DataFrame:
    """LI4. Judged as it stands: a review after the gate puts right that there was none."""
    frame = _with_reviews(history, with_gate(history, requirement.gate), requirement)
    fields = requirement.fields
    filled = pl.any_horizontal(pl.lit(False), *(pl.col(name) != "" for name in fields))
    first = pl.min_horizontal("reviewed_at", *(_filled_since(history, name) for name in fields))
    frame = frame.with_columns(pl.max_horizontal("gate_at", first).alias("settled_at"))
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(pl.col("reviewed") | filled, Status.CONFORMING, at="settled_at"),
            *(history.not_read("tasks", "gate_at") if requirement.tasks else ()),
            Rule(pl.col("perhaps"), Status.UNKNOWN, TASK, "gate_at"),
            *(Rule(pl.col(name).is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "gate_at") for name in fields),
            Rule(ALWAYS, Status.DEVIATING, at="gate_at", detail=pl.lit("no review is recorded")),
        ],
        judged_as_of="gate_at",
    )


def reviewed_late(history: History, requirement: ReviewedInTime) -> pl.DataFrame:
    """TI11. The first review counts, whatever came of it later."""
    frame = _with_reviews(history, with_gate(history, [requirement.after]), requirement)
    fields = [_first_filled(history, name) for name in requirement.fields]
    frame = frame.with_columns(
        pl.min_horizontal("reviewed_at", *(pl.lit(one["at"]) for one in fields)).alias("held_at"),
        pl.any_horizontal(pl.lit(False), *(pl.lit(one["untold"]) for one in fields)).alias("untold_field"),
    )
    frame = frame.with_columns(pl.max_horizontal("gate_at", "held_at").alias("settled_at"))
    running = history.clock(requirement.limit)
    if running is None:
        rules = [*at_gate(history, [requirement.after]), Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "gate_at")]
        return decide(frame, rules, judged_as_of="gate_at")
    frame = with_deadline(frame, "gate_at", running)
    held, since = pl.col("held_at"), f"{told(running)} after {history.procedure.called(requirement.after)}"
    closed = pl.any_horizontal(pl.lit(False), *(pl.col(f"done_{name}").is_not_null() for name in requirement.closing))
    late = pl.when(held.is_null()).then(pl.lit(f"no review was held within {since}"))
    return decide(
        frame,
        [
            *at_gate(history, [requirement.after]),
            *_hidden_begin(history, requirement.after, held > pl.col("gate_at")),
            Rule(held < pl.col("overdue"), Status.CONFORMING, at="settled_at"),
            Rule(pl.lit(history.now) < pl.col("overdue"), Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            *(history.not_read("tasks", "deadline") if requirement.tasks else ()),
            Rule(pl.col("perhaps") | pl.col("undated"), Status.UNKNOWN, TASK, "deadline"),
            Rule(
                pl.col("untold_field"),
                Status.UNKNOWN,
                f"{NOT_DELIVERED}: {', '.join(requirement.fields)}",
                "deadline",
            ),
            Rule(held.is_null() & closed, Status.NOT_APPLICABLE, NOT_REVIEWED),
            Rule(
                ALWAYS,
                Status.DEVIATING,
                at="deadline",
                detail=late.otherwise(pl.lit(f"the review was held later than {since}")),
            ),
        ],
        judged_as_of="gate_at",
    )


def _first_filled(history: History, name: str) -> pl.DataFrame:
    """Per case, when the field held something for the first time (``at``), and whether it may have before
    (``untold``).
    """
    filled = (pl.col(name) != "").fill_null(False)
    return history.saves.group_by("case", maintain_order=True).agg(
        pl.col("at").filter(filled).first(),
        (pl.col(name).is_null() & ~filled.cum_max()).any().alias("untold"),
    )


def _with_reviews(history: History, frame: pl.DataFrame, requirement: Reviewed | ReviewedInTime) -> pl.DataFrame:
    """``frame`` with ``reviewed``: whether a task of review is done, ``reviewed_at``: when the first was (ms, or null),
    ``undated``: whether one may have been done earlier than that, and ``perhaps``: whether a task may be one.
    """
    meant, done = pl.col("type").is_in(list(requirement.tasks)), pl.col("state") == "done"
    review = (meant & done).fill_null(False)
    facts = history.log.tasks.group_by("case").agg(
        review.any().alias("reviewed"),
        pl.col("ended_at").filter(review).min().alias("reviewed_at"),
        (review & (pl.col("ended_at").is_null() | ~pl.col("exact").fill_null(False))).any().alias("undated"),
        (meant & done).is_null().any().alias("perhaps"),
    )
    frame = frame.join(facts, on="case", how="left", maintain_order="left")
    return frame.with_columns(pl.col("reviewed", "undated", "perhaps").fill_null(False))


def _filled_since(history: History, name: str) -> pl.Expr:
    """Since when (ms) the field holds something."""
    blank = pl.col(name).fill_null("") == ""
    begins = ~blank & (pl.col("first") | blank.shift(1))
    since = history.saves.select(pl.when(begins).then("row").forward_fill().alias("since"))["since"]
    row = pl.when(pl.col(name) != "").then(pl.lit(since).gather(pl.col("last_row")))
    return pl.lit(history.saves["at"]).gather(row)


def orphaned(history: History, requirement: WaitsForSomething) -> pl.DataFrame:
    """LI7. Judged as it stands: a case that has been taken up again waits for nothing. Of the other record it is known
    since when at the latest it has been over, so that the limit may begin later than it did.
    """
    frame = _with_others(history, _with_wait(history, requirement.when), requirement)
    running = history.clock(requirement.limit)
    frame = frame.with_columns(pl.max_horizontal("since", "over_since").alias("idle_since"))
    waiting = [
        Rule(pl.col("waits").is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: what it waits for"),
        Rule(~pl.col("waits"), Status.NOT_APPLICABLE, NOT_WAITING),
        Rule(pl.col("missed_after") > 0, Status.UNKNOWN, GAP, "since"),
        Rule(pl.col("going_on"), Status.CONFORMING, at="since"),
    ]
    if running is None:
        return decide(frame, [*waiting, Rule(ALWAYS, Status.UNKNOWN, CALENDAR, "since")], judged_as_of="since")
    frame = with_deadline(frame, "idle_since", running)
    named = _named(requirement.roles)
    over = pl.when("linked").then(pl.lit(f"it waits for a {named} that is over"))
    return decide(
        frame,
        [
            *waiting,
            Rule(pl.lit(history.now) < pl.col("overdue"), Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            Rule(pl.col("perhaps"), Status.UNKNOWN, OTHER_STATE, "since"),
            *history.not_read("links", "since", (*requirement.roles, *requirement.via)),
            Rule(
                ALWAYS,
                Status.DEVIATING,
                at="deadline",
                detail=over.otherwise(pl.lit(f"it waits, and no {named} is linked")),
            ),
        ],
        judged_as_of="since",
    )


def _with_wait(history: History, when: str) -> pl.DataFrame:
    """The cases, with whether they wait now (``waits``), and since when without a doubt (``since``, ms)."""
    waits = history.saves.select(compile(when, history.types).expression.alias("waits"))["waits"]
    rows = history.saves.select("row", "first", "missed").with_columns(waits)
    before = pl.col("waits").shift(1).fill_null(False)
    begins = pl.col("waits") & (pl.col("first") | ~before | (pl.col("missed") > 0))
    since = rows.select(pl.when(begins).then("row").forward_fill().alias("since"))["since"]
    row = pl.lit(since).gather(pl.col("last_row"))
    frame = history.cases.with_columns(pl.lit(waits).gather(pl.col("last_row")).alias("waits"))
    return frame.with_columns(pl.when("waits").then(pl.lit(history.saves["at"]).gather(row)).alias("since"))


def _with_others(history: History, frame: pl.DataFrame, requirement: WaitsForSomething) -> pl.DataFrame:
    """``frame`` with ``linked``: whether there is another record; ``going_on``: whether one is not over; ``perhaps``:
    whether that is not known of one; ``over_since`` (ms): since when at the latest all are over.
    """
    reached = pl.col("via").is_null() | pl.col("via").is_in(list(requirement.via))
    links = history.log.links.filter(pl.col("role").is_in(list(requirement.roles)) & reached)
    over = pl.col("state").is_in(list(requirement.over))
    facts = links.group_by("case").agg(
        pl.lit(True).alias("linked"),
        (~over).any(ignore_nulls=True).alias("going_on"),
        (over.is_null() | pl.col("state_since").is_null()).any().alias("perhaps"),
        pl.col("state_since").max().alias("over_since"),
    )
    frame = frame.join(facts, on="case", how="left", maintain_order="left")
    return frame.with_columns(pl.col("linked", "going_on", "perhaps").fill_null(False))


def mismatch(history: History, requirement: SameInBoth) -> pl.DataFrame:
    """LI10. Judged as both records stand, and not beyond the instant up to which both systems have been read: a system
    that cannot be reached says nothing about what it holds. A value may have come later than is known, never earlier.
    """
    running = history.clock(requirement.limit)
    pairs = history.log.pairs.filter(pl.col("attribute").is_in(list(requirement.attributes)))
    compared = _compared(history, pairs, requirement)
    if running is None:
        paired = pl.col("case").is_in(pairs["case"].unique().implode())
        none = Rule(~paired, Status.NOT_APPLICABLE, NO_COUNTERPART)
        return decide(history.cases, [none, Rule(ALWAYS, Status.UNKNOWN, CALENDAR)])
    compared = with_deadline(compared, "since", running)
    frame = history.cases.join(_of_case(history, compared, requirement), on="case", how="left", maintain_order="left")
    unread = f"{NOT_READ} since then: one of the two systems"
    return decide(
        frame,
        [
            Rule(pl.col("compared").is_null(), Status.NOT_APPLICABLE, NO_COUNTERPART),
            Rule(pl.col("bad_at").is_not_null() & (pl.col("missed_after") > 0), Status.UNKNOWN, GAP, "bad_at"),
            Rule(pl.col("bad_at").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("told")),
            Rule(pl.col("overdue") <= history.now, Status.UNKNOWN, unread, recheck_at="overdue"),
            Rule(pl.col("overdue").is_not_null(), Status.NOT_APPLICABLE, RUNNING, recheck_at="overdue"),
            *(
                Rule(pl.col(f"unclear_{name}"), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "settled_at")
                for name in requirement.attributes
            ),
            Rule(ALWAYS, Status.CONFORMING, at="settled_at"),
        ],
    )


def _compared(history: History, pairs: pl.DataFrame, requirement: SameInBoth) -> pl.DataFrame:
    """``pairs`` with ``own``: the case's value; ``since``: when the later of the two came at the latest (ms); and
    ``differs``, null where one is not known.
    """
    parts = [history.cases.select("case", pl.lit("").alias("attribute"), pl.lit("").alias("own"), "last_row").clear()]
    for name in requirement.attributes:
        changed = pl.col("first") | pl.col(name).ne_missing(pl.col(name).shift(1)) | (pl.col("missed") > 0)
        since = history.saves.select(pl.when(changed).then("row").forward_fill().alias("since"))["since"]
        row = pl.lit(since).gather(pl.col("last_row")).alias("last_row")
        parts.append(history.cases.select("case", pl.lit(name).alias("attribute"), pl.col(name).alias("own"), row))
    pairs = pairs.with_columns(pl.col("since").fill_null(history.now))
    both = pairs.join(pl.concat(parts), on=["case", "attribute"], how="inner", maintain_order="left")
    one = {value: values[0] for values in requirement.alike for value in values}
    said, told = (pl.col(name).replace(one) if one else pl.col(name) for name in ("own", "value"))
    return both.with_columns(
        pl.max_horizontal("since", history.there("last_row", "at")).alias("since"), (said != told).alias("differs")
    )


def _of_case(history: History, compared: pl.DataFrame, requirement: SameInBoth) -> pl.DataFrame:
    """Per case with a counterpart: ``compared`` (true); of the first difference whose limit has passed ``bad_at`` and
    ``told``; ``overdue`` (ms) of the next one; ``unclear_<attribute>``; ``settled_at``, since when all is as it stands.
    """
    passed = pl.col("differs") & (pl.col("overdue") <= pl.min_horizontal(pl.lit(history.now), "read_until"))
    passed = passed & pl.col("read_until").is_not_null()
    name = pl.col("attribute").str.replace_all("_", " ")
    words = phrase(name, " is ", _shown("own"), " here and ", _shown("value"), " there")
    compared = compared.with_columns(passed.fill_null(False).alias("passed"), words.alias("told"))
    compared = compared.sort("case", "deadline", "attribute", "other", maintain_order=True)
    waits = pl.col("differs").fill_null(False) & ~pl.col("passed")
    untold = [
        (pl.col("differs").is_null() & (pl.col("attribute") == name)).any().alias(f"unclear_{name}")
        for name in requirement.attributes
    ]
    return compared.group_by("case", maintain_order=True).agg(
        pl.lit(True).alias("compared"),
        pl.col("deadline").filter("passed").first().alias("bad_at"),
        pl.col("told").filter("passed").first(),
        pl.col("overdue").filter(waits).min(),
        pl.col("since").max().alias("settled_at"),
        *untold,
    )


def _shown(name: str) -> pl.Expr:
    return pl.when(pl.col(name) == "").then(pl.lit("empty")).otherwise(name)
