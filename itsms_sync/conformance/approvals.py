"""Checks of approvals: RO1 self-approval, RO2 approver = implementer, RO4 stage or quorum, RO9 machine approval,
DA3 plans at approval time, TI6 retroactive approval.

Owns what an approval counts for: its stage, and which approvals of a stage count. Approvals are records; neither a
transition of that name nor its absence says anything here. Details name roles, never persons.
"""

from collections.abc import Sequence

import polars as pl

from itsms_sync.conformance.control_flow import (
    COMPLETE_LOSS,
    MISSED,
    NO_PREFERENCE,
    at_gate,
    untold,
    with_gate,
)
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ACTOR,
    ALWAYS,
    APPROVAL,
    APPROVED_WHEN,
    APPROVER,
    FOR_ANOTHER,
    GAP,
    IMPLEMENTER,
    LOST,
    NO_ACTIVITY,
    NO_APPROVAL,
    NOT_APPROVED,
    NOT_DELIVERED,
    NOT_REACHED,
    NOT_STARTED,
    REQUESTER,
    TASK,
    UNMAPPED,
    Rule,
    Status,
    decide,
    in_words,
    phrase,
)
from itsms_sync.procedures.model import (
    ApprovedBeforeStart,
    ApproverNotImplementer,
    FieldsAtApproval,
    NotSelfApproved,
    PersonApproves,
    Quorum,
    StagesApproved,
)
from itsms_sync.sms.cases import IS_FIRST, IS_LAST

STATE = pl.col("state")
APPROVED, REJECTED, REQUESTED = STATE == "approved", STATE == "rejected", STATE == "requested"
NO_LONGER_ASKED = STATE.is_in(["cancelled", "not_required"])
"""Nobody waits for these any more, as after the first of several has answered."""
EXACT = pl.col("exact").fill_null(False) & pl.col("decided_at").is_not_null()
EARLIEST = pl.when(EXACT).then("decided_at").otherwise("asked_at")
"""The earliest instant at which an approval can have been decided; ``decided_at`` is the latest."""


def self_approval(history: History, requirement: NotSelfApproved) -> pl.DataFrame:
    """RO1. Who asked is read as it stood when the approval was given: who is named later had not asked by then."""
    given = _with_requesters(history, requirement.requesters)
    own = given.filter("certain").select("case", "at", "hit", NO_PREFERENCE).sort("case", "at", "hit")
    nobody = pl.all_horizontal(*(_unnamed(name) for name in requirement.requesters))
    return decide(
        _with_hits(history, own, given),
        [
            *_about_given(history, given),
            Rule(_in(given.filter("perhaps")), Status.UNKNOWN, APPROVED_WHEN, "given_at"),
            *(
                Rule(_in(given.filter(pl.col(name).is_null())), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "given_at")
                for name in requirement.requesters
            ),
            Rule(_in(given.filter(nobody)), Status.UNKNOWN, REQUESTER, "given_at"),
            Rule(_in(given.filter("for_another")), Status.UNKNOWN, FOR_ANOTHER, "given_at"),
            Rule(ALWAYS, Status.CONFORMING, at="given_at"),
        ],
    )


def _with_requesters(history: History, requesters: Sequence[str]) -> pl.DataFrame:
    """The approvals that were given, with the values of the requesters when they were at the latest, null if one of
    them is not known of any time in which they may have been given; ``hit``: what names the approver, ``certain``: at
    all these times, ``perhaps``: at some; ``for_another``: who wrote the answer is a requester, not the approver.
    """
    given = _given(history)
    for bound, row in (("earliest", "from_row"), ("at", "row")):
        given = given.with_columns(history.rows_at(given.select("case", at=bound)).alias(row))
    times = given.with_columns(pl.int_ranges("from_row", pl.col("row") + 1).alias("row")).explode("row")
    times = times.with_columns(history.there("row", name).alias(name) for name in requesters)
    hits = (pl.when((pl.col(n) == pl.col("approver")) & ~_unnamed(n)).then(pl.lit(_named_as(n))) for n in requesters)
    wrote = (pl.col("answered_by") == pl.col(name) for name in requesters)
    times = times.with_columns(pl.coalesce(*hits).alias("hit"), pl.any_horizontal(*wrote).alias("for_another"))
    return times.group_by("nth", maintain_order=True).agg(
        pl.col("case", "approver", "at").first(),
        *(pl.when(pl.col(name).null_count() == 0).then(pl.col(name).last()) for name in requesters),
        pl.col("hit").drop_nulls().last(),
        (pl.col("hit").null_count() == 0).alias("certain"),
        pl.col("hit").is_not_null().any().alias("perhaps"),
        pl.col("for_another").fill_null(False).any(),
    )


def _named_as(attribute: str) -> str:
    return f'approved by the person named under "{in_words(attribute)}"'


def approver_implements(history: History, requirement: ApproverNotImplementer) -> pl.DataFrame:
    """RO2. Who implements is whom the case named while it was in a state of implementation, and who held a task of
    implementation that was begun.
    """
    given = _given(history)
    work = pl.concat([_named(history, requirement), _tasks(history, requirement)])
    sure, unsure = work.filter(pl.col("why").is_null()), work.filter(pl.col("why").is_not_null())
    both = sure.join(given, left_on=["case", "person"], right_on=["case", "approver"], how="inner")
    hits = both.select("case", pl.max_horizontal("at", "since").alias("at"), pl.col("role").alias("hit"), NO_PREFERENCE)
    named = sure.filter(~_unnamed("person"))
    approvers = given.select("case", person="approver")
    wrote = given.select("case", person="answered_by").join(named, on=["case", "person"], how="semi")
    perhaps = pl.concat(
        [unsure.join(approvers, on=["case", "person"], how="semi"), unsure.filter(pl.col("person").is_null())]
    )
    # Saves without a trace may have named others; they hide nothing where only tasks are looked at.
    hidden = pl.lit(bool(requirement.implementers))
    return decide(
        _with_hits(history, hits.sort("case", "at", "hit"), given),
        [
            *_about_given(history, given),
            *(history.not_read("tasks", "given_at") if requirement.task_types else ()),
            *(Rule(_in(perhaps.filter(why=why)), Status.UNKNOWN, why, "given_at") for why in (UNMAPPED, TASK)),
            Rule(_in(wrote), Status.UNKNOWN, FOR_ANOTHER, "given_at"),
            Rule(hidden & COMPLETE_LOSS, Status.UNKNOWN, LOST, "given_at"),
            Rule(hidden & MISSED, Status.UNKNOWN, GAP, "given_at"),
            *(
                Rule(~_in(sure) & _in(unsure.filter(why=why)), Status.UNKNOWN, why, "given_at")
                for why in (UNMAPPED, TASK)
            ),
            Rule(~_in(sure), Status.NOT_APPLICABLE, NOT_STARTED),
            Rule(_in(sure.filter(pl.col("person").is_null())) | ~_in(named), Status.UNKNOWN, IMPLEMENTER, "given_at"),
            Rule(ALWAYS, Status.CONFORMING, at="given_at"),
        ],
    )


def _given(history: History) -> pl.DataFrame:
    """The approvals that were given: ``nth, case, approver, answered_by``, and ``earliest`` and ``at`` (ms), between
    which it was. A system that answers for itself is nobody whose approval could be one's own; ``answered_by`` is the
    person who wrote the answer, if that is not the approver.
    """
    by_system = (~pl.col("human") & (pl.col("actor") == pl.col("approver"))).fill_null(False)
    by_other = pl.col("human") & (pl.col("actor") != pl.col("approver"))
    return (
        history.approvals.filter(APPROVED & ~by_system)
        .with_row_index("nth")
        .select(
            "nth",
            "case",
            "approver",
            pl.when(by_other).then("actor").alias("answered_by"),
            EARLIEST.alias("earliest"),
            pl.coalesce("decided_at", "asked_at").alias("at"),
        )
    )


def _with_hits(history: History, hits: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    """The cases, with the first of the ``hits`` (in order) in the version's time and ``given_at``, when the last
    approval was given.
    """
    frame = history.with_first(hits)
    last = given.group_by("case").agg(pl.col("at").max().alias("given_at"))
    return frame.join(last, on="case", how="left", maintain_order="left")


def _about_given(history: History, given: pl.DataFrame) -> list[Rule]:
    """A hit is certain, whatever else is not known."""
    undecided = history.approvals.filter(STATE.is_null())
    return [
        Rule(pl.col("hit").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("hit")),
        *history.not_read("approvals", "given_at"),
        Rule(_in(undecided), Status.UNKNOWN, APPROVAL, "given_at"),
        Rule(pl.col("given_at").is_null(), Status.NOT_APPLICABLE, NO_APPROVAL),
        Rule(_in(given.filter(_unnamed("approver"))), Status.UNKNOWN, APPROVER, "given_at"),
    ]


WORK = {"case": pl.UInt32, "person": pl.String, "since": pl.Int64, "role": pl.String, "why": pl.String}
"""Who implemented: ``person`` (null: not known), ``since`` (ms), ``role``: as what, in words, and ``why`` it is not
sure that this was implementation, or null."""


def _named(history: History, requirement: ApproverNotImplementer) -> pl.DataFrame:
    """Whom the case named as implementer (``WORK``)."""
    saves = history.saves.filter(STATE.is_null() | STATE.is_in(list(requirement.during)))
    parts = [
        saves.select(
            "case",
            pl.col(name).alias("person"),
            pl.col("at").alias("since"),
            pl.lit(f'implemented by an approver, named under "{in_words(name)}"').alias("role"),
            pl.when(STATE.is_null()).then(pl.lit(UNMAPPED)).alias("why"),
        )
        for name in requirement.implementers
    ]
    return pl.concat([pl.DataFrame(schema=WORK), *parts])


def _tasks(history: History, requirement: ApproverNotImplementer) -> pl.DataFrame:
    """Who held tasks of implementation that were begun (``WORK``)."""
    type_ = pl.col("type")
    meant = type_.is_null() | type_.is_in(list(requirement.task_types))
    begun = STATE.is_null() | STATE.is_in(["work", "done", "incomplete"])
    tasks = history.log.tasks.filter(pl.lit(bool(requirement.task_types)) & meant & begun)
    return tasks.explode("workers", empty_as_null=True).select(
        "case",
        pl.col("workers").alias("person"),
        pl.col("opened_at").alias("since"),
        pl.lit("implemented by an approver, who held a task of implementation").alias("role"),
        pl.when(type_.is_null() | STATE.is_null()).then(pl.lit(TASK)).alias("why"),
    )


def missing_stage(history: History, requirement: StagesApproved) -> pl.DataFrame:
    """RO4. A quorum that is met only after the work began is met: that it came too late is TI6's to say."""
    frame = with_gate(history, [requirement.before])
    facts = {stage: _stage(history, stage, quorum) for stage, quorum in requirement.stages.items()}
    met = [facts[stage]["met"] for stage in requirement.stages]
    called = history.procedure.called
    lacks = [_lack(called(stage), quorum, facts[stage]) for stage, quorum in requirement.stages.items()]
    frame = frame.with_columns(
        pl.all_horizontal(*map(pl.lit, met)).alias("met"),
        pl.max_horizontal("gate_at", *(pl.lit(facts[stage]["upper"]) for stage in requirement.stages)).alias("met_at"),
        pl.concat_str(*map(pl.lit, lacks), separator="; ", ignore_nulls=True).alias("lacks"),
    )
    return decide(
        frame,
        [
            *at_gate(history, [requirement.before]),
            *history.not_read("approvals", "gate_at"),
            Rule(pl.col("met"), Status.CONFORMING, at="met_at"),
            Rule(~pl.col("met"), Status.DEVIATING, at="gate_at", detail=pl.col("lacks")),
            Rule(ALWAYS, Status.UNKNOWN, APPROVAL, "gate_at"),
        ],
        judged_as_of="gate_at",
    )


def _lack(called: str, quorum: Quorum, facts: pl.DataFrame) -> pl.Series:
    """What a stage lacks, or null."""
    rejected = pl.col("rejected") > 0
    needed = {"any": "one has to", "all": "all have to"}.get(str(quorum), f"{quorum} have to")
    counts = phrase(f"{called}: ", pl.col("approved"), " of ", pl.col("asked"), " approved, ")
    lack = (
        pl.when((pl.col("asked") == 0) & pl.col("former"))
        .then(pl.lit(f"{called}: nobody was asked again after the rejection"))
        .when((pl.col("asked") == 0) & (pl.col("withdrawn") > 0))
        .then(pl.lit(f"{called}: nobody approved, and nobody is asked any more"))
        .when(pl.col("asked") == 0)
        .then(pl.lit(f"{called}: nobody was asked"))
        .when(rejected)
        .then(pl.concat_str(counts, phrase(pl.col("rejected"), " rejected")))
        .otherwise(pl.concat_str(counts, pl.lit(needed)))
    )
    return facts.select(pl.when(~pl.col("met")).then(lack).alias("lack"))["lack"]


def machine_approval(history: History, requirement: PersonApproves) -> pl.DataFrame:
    """RO9. Who wrote the decision counts: a deputy is a person, too. What a system account approved in its own name is
    as little a person's decision as what it wrote in another's.
    """
    asked_here = pl.col("stage").is_in(list(requirement.stages))
    makes_up = pl.col("makes_up") & ~asked_here.fill_null(False).any().over("case")
    asked = history.approvals.with_columns((asked_here | makes_up).alias("here")).filter(pl.col("here").fill_null(True))
    given = asked.filter(APPROVED).with_columns(pl.coalesce("decided_at", "asked_at").alias("at"))
    own = (pl.col("actor") == pl.col("approver")).fill_null(False)
    hit = (
        pl.when(own)
        .then(pl.lit("approved by a system account"))
        .otherwise(pl.lit("a system account wrote the approval of somebody else"))
    )
    machines = given.filter("here", ~pl.col("human")).select("case", "at", hit.alias("hit"), NO_PREFERENCE)
    perhaps = given.filter(pl.col("here").is_null() & ~pl.col("human").fill_null(False))
    return decide(
        _with_hits(history, machines.sort("case", "at", "hit"), given),
        [
            Rule(pl.col("hit").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("hit")),
            *history.not_read("approvals", "given_at"),
            Rule(_in(asked.filter(STATE.is_null())), Status.UNKNOWN, APPROVAL, "given_at"),
            Rule(pl.col("given_at").is_null(), Status.NOT_APPLICABLE, NO_APPROVAL),
            Rule(_in(perhaps), Status.UNKNOWN, APPROVAL, "given_at"),
            Rule(_in(given.filter(pl.col("human").is_null())), Status.UNKNOWN, ACTOR, "given_at"),
            Rule(ALWAYS, Status.CONFORMING, at="given_at"),
        ],
    )


def plans_missing(history: History, requirement: FieldsAtApproval) -> pl.DataFrame:
    """DA3. Judges the values as they stood when the deciding approval was given, not as they were filled in later.
    Where only bounds of that instant are known, all that stood between them decides.
    """
    frame = _with_decision(history, history.cases, requirement)
    frame = frame.with_columns(
        history.rows_at(frame.select("case", pl.col(end).alias("at"))).alias(f"{end}_row") for end in ("lower", "upper")
    )
    frame = frame.with_columns(pl.min_horizontal(pl.col("upper_row") + 1, "last_row").alias("next_row"))
    # What was filled in without a trace before the next save may have been there.
    last = pl.col("upper_row") == pl.col("last_row")
    hidden = (history.missed_at("next_row") > 0) | (last & (pl.col("missed_after") > 0))
    told = {name: _in_between(history, name) for name in requirement.fields}
    empty = {name: said == "empty" for name, said in told.items()}
    names = pl.concat_str(
        *(pl.when(when).then(pl.lit(in_words(name))) for name, when in empty.items()),
        separator=", ",
        ignore_nulls=True,
    )
    return decide(
        frame,
        [
            *history.not_read("approvals", "approved_at"),
            Rule(~pl.col("some"), Status.NOT_APPLICABLE, NOT_APPROVED),
            Rule(pl.col("doubted"), Status.UNKNOWN, APPROVAL, "approved_at"),
            Rule(pl.col("upper").is_null(), Status.UNKNOWN, APPROVED_WHEN, "approved_at"),
            Rule(pl.col("lower_row").is_null(), Status.UNKNOWN, LOST, "approved_at"),
            Rule(pl.any_horizontal(*empty.values()) & hidden, Status.UNKNOWN, GAP, "approved_at"),
            Rule(
                pl.any_horizontal(*empty.values()),
                Status.DEVIATING,
                at="approved_at",
                detail=phrase("empty when it was approved: ", names),
            ),
            *(
                Rule(said.is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: {name}", "approved_at")
                for name, said in told.items()
            ),
            *(Rule(said == "both", Status.UNKNOWN, APPROVED_WHEN, "approved_at") for said in told.values()),
            Rule(ALWAYS, Status.CONFORMING, at="approved_at"),
        ],
        judged_as_of="approved_at",
    )


def _in_between(history: History, name: str) -> pl.Expr:
    """What is said of the attribute from ``lower_row`` to ``upper_row``: ``empty``, ``filled``, ``both``, or null if it
    is not known of all these saves.
    """
    value = history.saves[name]

    def some(which: pl.Series) -> pl.Expr:
        until = which.fill_null(False).cum_sum().cast(pl.Int64)
        before = until - which.fill_null(False)
        return pl.lit(until).gather(pl.col("upper_row")) > pl.lit(before).gather(pl.col("lower_row"))

    empty, filled = some(value == ""), some(value != "")
    one = pl.when(~filled).then(pl.lit("empty")).when(~empty).then(pl.lit("filled"))
    return pl.when(~some(value.is_null())).then(one.otherwise(pl.lit("both")))


def late_approval(history: History, requirement: ApprovedBeforeStart) -> pl.DataFrame:
    """TI6. The work begins with the first save that shows it, or when somebody wrote that it had begun, if that is
    earlier. A beginning before what is seen makes a late approval no better, and one in time worse.
    """
    frame = _with_decision(history, _with_start(history, requirement), requirement)
    limit = pl.col("start_at") + int(requirement.grace.total_seconds() * 1000)
    took = (pl.col("upper") - pl.col("start_at")) // 60_000
    late = phrase("approved ", took // 60, " h ", took % 60, " min after the work began")
    name, row = requirement.start, pl.col("gate_row")
    begun_when = COMPLETE_LOSS & (row == pl.col("first_row")).fill_null(True)
    missed = pl.when(row.is_null()).then("missed").otherwise(history.missed_at("gate_row")) > 0
    return decide(
        frame,
        [
            _not_begun(history, requirement),
            *history.not_read("approvals", "start_at"),
            Rule(~pl.col("all"), Status.NOT_APPLICABLE, NOT_APPROVED),
            Rule(pl.col("doubted"), Status.UNKNOWN, APPROVAL, "start_at"),
            Rule(begun_when, Status.UNKNOWN, LOST, "start_at"),
            Rule(
                pl.col("lower") > limit,
                Status.DEVIATING,
                at="approved_at",
                detail=late.fill_null("approved after the work began"),
            ),
            Rule((pl.col("upper") > limit).fill_null(True), Status.UNKNOWN, APPROVED_WHEN, "start_at"),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "start_at"),
            Rule(
                (pl.col(f"untold_{name}") <= row).fill_null(pl.col(f"untold_{name}").is_not_null()),
                Status.UNKNOWN,
                untold(history, name),
                "start_at",
            ),
            Rule(missed, Status.UNKNOWN, GAP, "start_at"),
            Rule(ALWAYS, Status.CONFORMING, at="start_at"),
        ],
        judged_as_of="start_at",
    )


def _with_start(history: History, requirement: ApprovedBeforeStart) -> pl.DataFrame:
    """The cases, with ``gate_row``, ``start_at``, and ``starts``: an instant after now that was written down."""
    frame = with_gate(history, [requirement.start])
    if requirement.started is None:
        return frame.with_columns(pl.col("gate_at").alias("start_at"), pl.lit(None, pl.Int64).alias("starts"))
    frame = frame.join(_written(history, requirement.started), on="case", how="left", maintain_order="left")
    return frame.with_columns(pl.min_horizontal("gate_at", "written").alias("start_at"))


def _written(history: History, started: str) -> pl.DataFrame:
    """The beginning as it was first written down: ``case, written, starts`` (ms). What is written of the past counts
    though it is corrected later; what is announced counts only if it still stands when its time comes. ``starts`` is
    what stands and lies ahead.
    """
    value = pl.col(started)
    saves = history.saves.select("case", "at", started)
    runs = saves.filter(IS_FIRST | value.ne_missing(value.shift(1)))
    runs = runs.with_columns(pl.when(~IS_LAST).then(pl.col("at").shift(-1)).alias("until"))
    begun = (value < pl.col("until")).fill_null(value <= history.now)
    ahead = pl.col("until").is_null() & (value > history.now)
    return (
        runs.drop_nulls(started)
        .group_by("case")
        .agg(value.filter(begun).first().alias("written"), value.filter(ahead).first().alias("starts"))
    )


def _not_begun(history: History, requirement: ApprovedBeforeStart) -> Rule:
    if requirement.start in history.lacking:
        unseen = f"{NO_ACTIVITY}: {requirement.start}"
        return Rule(pl.col("start_at").is_null(), Status.UNKNOWN, unseen, recheck_at="starts")
    return Rule(pl.col("start_at").is_null(), Status.NOT_APPLICABLE, NOT_REACHED, recheck_at="starts")


def _with_decision(
    history: History, frame: pl.DataFrame, requirement: FieldsAtApproval | ApprovedBeforeStart
) -> pl.DataFrame:
    """``frame`` (the cases) with ``all`` and ``some``: whether all or some of the stages are approved; ``doubted``: one
    of them perhaps; ``lower`` and ``upper``: bounds of the instant (ms) of the last deciding approval, ``upper`` null
    if there is none; ``approved_at``: the latter, else the former.
    """
    facts = [_as_demanded(history, stage) for stage in requirement.stages]
    met = [pl.lit(one["met"]) for one in facts]
    lower, upper = ([pl.lit(one.select(pl.when("met").then(end))[end]) for one in facts] for end in ("lower", "upper"))
    endless = pl.any_horizontal(*(when & end.is_null() for when, end in zip(met, upper, strict=True)))
    frame = frame.with_columns(
        pl.all_horizontal(*met).alias("all"),
        pl.any_horizontal(*met).alias("some"),
        pl.any_horizontal(*(when.is_null() for when in met)).alias("doubted"),
        pl.max_horizontal(*lower).alias("lower"),
        pl.when(~endless.fill_null(False)).then(pl.max_horizontal(*upper)).alias("upper"),
    )
    return frame.with_columns(pl.coalesce("upper", "lower").alias("approved_at"))


def _as_demanded(history: History, stage: str) -> pl.DataFrame:
    """As ``_stage``, each case with the quorum that the first RO4 demands which applies to it; all, if none does."""
    facts = _stage(history, stage, "all")
    demands = [r for r in history.procedure.requirements if isinstance(r, StagesApproved) and stage in r.stages]
    for demand in reversed(demands):
        own = _stage(history, stage, demand.stages[stage])
        applies = pl.lit(True) if demand.applies is None else pl.lit(history.stands(demand.applies))
        facts = own.select(pl.when(applies).then(name).otherwise(facts[name]).alias(name) for name in own.columns)
    return facts


def _stage(history: History, stage: str, quorum: Quorum) -> pl.DataFrame:
    """One row for each case, in order: of those in the last round how many were ``asked``, ``approved``, ``rejected``,
    and are no longer asked (``withdrawn``), ``former``: whether there was a round before, ``met``: whether the quorum
    is, null if that cannot be told, and ``lower``, ``upper``: bounds (ms) of the instant since when.

    What makes up for a stage that was left out counts where nobody was asked in the stage itself.
    """
    if (stage, quorum) not in history.stages:
        history.stages[stage, quorum] = _worked_out(history, stage, quorum)
    return history.stages[stage, quorum]


def _worked_out(history: History, stage: str, quorum: Quorum) -> pl.DataFrame:
    asked_here = pl.col("stage") == stage
    makes_up = pl.col("makes_up") & ~asked_here.fill_null(False).any().over("case")
    rows = history.approvals.with_columns((asked_here | makes_up).alias("_here"))
    rows = rows.filter(pl.col("_here").fill_null(True))
    rows = rows.join(_last_round(history, rows, stage), on="case", how="left", maintain_order="left")
    former = (pl.col("asked_at") < pl.col("_from")).fill_null(False).alias("_former")
    rows = rows.with_columns(former, pl.col("_straddles").fill_null(False))
    facts = rows.group_by("case").agg(*_counts(), *_bounds(quorum), pl.col("_straddles").any())
    facts = facts.with_columns(pl.when(~pl.col("_straddles")).then(_met(quorum)).alias("met"))
    facts = history.cases.select("case").join(facts, on="case", how="left", maintain_order="left")
    return facts.select(
        pl.col("asked", "approved", "rejected", "withdrawn").fill_null(0),
        pl.col("former").fill_null(False),
        pl.when(pl.col("_straddles").is_null()).then(False).otherwise("met").alias("met"),
        "lower",
        "upper",
    )


_LATER = (1 << 63) - 1
"""After any instant."""


def _last_round(history: History, rows: pl.DataFrame, stage: str) -> pl.DataFrame:
    """Per case in which the stage was entered again after a rejection: ``_from`` (ms), when that was last, and
    ``_straddles``: whether it cannot be told which approvals belong to the last round, because it is not known what was
    rejected or when, or because saves without a trace may have entered the stage again.
    """
    maybe = rows.filter(REJECTED.fill_null(True)).select(
        "case",
        "decided_at",
        EARLIEST.alias("_earliest"),
        (STATE.is_not_null() & pl.col("_here").is_not_null()).alias("_sure"),
    )
    gaps = pl.concat(
        [
            history.saves.filter(pl.col("missed") > 0).select("case", "at"),
            # not until now: nothing falls due when a rejection that was written down for later gets its turn
            history.cases.filter(pl.col("missed_after") > 0).select("case", at=pl.lit(_LATER, pl.Int64)),
        ]
    )
    hidden = maybe.join(gaps, on="case", how="inner").filter(pl.col("at") >= pl.col("_earliest"))
    entries = history.states.filter(pl.col("state").eq(stage)).select("case", pl.col("at").alias("_entered"))
    again = maybe.with_row_index("_nth").join(entries, on="case", how="inner")
    again = again.filter(pl.col("_entered") > pl.col("_earliest"))
    unsure = ~pl.col("_sure") | (pl.col("_entered") <= pl.col("decided_at")).fill_null(True)
    first = again.group_by("case", "_nth").agg(
        pl.col("_entered").min().alias("_from"), unsure.any().alias("_straddles")
    )
    none = hidden.select("case", pl.lit(None, pl.Int64).alias("_from"), pl.lit(True).alias("_straddles"))
    found = pl.concat([first.select(none.columns), none])
    return found.group_by("case").agg(pl.col("_from").max(), pl.col("_straddles").any())


COUNTED = ~pl.col("_former") & pl.col("_here").fill_null(False)
PERHAPS = ~pl.col("_former") & (pl.col("_here").is_null() | STATE.is_null())
"""Approvals of the last round of a stage, and those of which that, or the decision, is not known."""


def _counts() -> list[pl.Expr]:
    """What the quorums count among the approvals of one stage of one case."""
    open_ = ~NO_LONGER_ASKED.fill_null(False)
    return [
        (COUNTED & open_).sum().alias("asked"),
        (COUNTED & APPROVED).sum().alias("approved"),
        (COUNTED & REJECTED).sum().alias("rejected"),
        (COUNTED & ~open_).sum().alias("withdrawn"),
        pl.col("_former").any().alias("former"),
        (COUNTED & REQUESTED).sum().alias("_requested"),
        (PERHAPS & open_ & ~APPROVED.fill_null(False)).sum().alias("_perhaps_open"),
        (PERHAPS & APPROVED.fill_null(True)).sum().alias("_perhaps_approved"),
        (PERHAPS & REJECTED.fill_null(True)).sum().alias("_perhaps_rejected"),
    ]


def _met(quorum: Quorum) -> pl.Expr:
    """Whether the counts meet the quorum; null where what is not known could turn it."""
    approved, rejected = pl.col("approved") > 0, pl.col("rejected") > 0
    nobody = ~approved & (pl.col("_perhaps_approved") == 0)
    match quorum:
        case "any":
            fails, holds = rejected | nobody, approved & (pl.col("_perhaps_rejected") == 0)
        case "all":
            fails = rejected | (pl.col("_requested") > 0) | nobody
            holds = approved & (pl.col("_perhaps_open") == 0)
        case number:
            fails = pl.col("approved") + pl.col("_perhaps_approved") < number
            holds = pl.col("approved") >= number
    return pl.when(fails).then(False).when(holds).then(True)


def _bounds(quorum: Quorum) -> list[pl.Expr]:
    """The instants between which the approval was given that completes the quorum. One more that perhaps counts makes
    it earlier, or later if all have to approve.
    """
    given = COUNTED & APPROVED
    possible = given.fill_null(False) | (PERHAPS & APPROVED.fill_null(True))
    first, last = (given, possible) if quorum == "all" else (possible, given)
    lower = _nth(EARLIEST.filter(first), quorum).alias("lower")
    return [lower, _nth(pl.col("decided_at").filter(last), quorum).alias("upper")]


def _nth(instants: pl.Expr, quorum: Quorum) -> pl.Expr:
    """The instant at which a quorum is complete; null, an instant that is not known, counts as the last."""
    in_order = instants.sort(nulls_last=True)
    if quorum == "all":
        return in_order.last()
    return in_order.slice(0 if quorum == "any" else int(quorum) - 1, 1).first()


def _unnamed(name: str) -> pl.Expr:
    return pl.col(name).fill_null("") == ""


def _in(rows: pl.DataFrame) -> pl.Expr:
    """Whether a case is among those of these rows."""
    return pl.col("case").is_in(rows["case"].unique().implode())
