"""A case log made ready for one procedure version: what several checks ask of the same history, computed once.

Saves lie case by case, so that a place in the log is enough to find everything else: ``row`` is a save's place, and the
cases lie in the order of their saves. Checks look for rows and read what stands there; they join nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from itsms_sync.conformance.clock import Clock, clock
from itsms_sync.conformance.verdicts import ALWAYS, NOT_READ, Rule, Status
from itsms_sync.procedures.model import (
    DID,
    ApprovedBeforeStart,
    ChildrenEnded,
    CloseAgrees,
    DatesInOrder,
    Demand,
    FieldAtGate,
    FilledInTime,
    ItemNamed,
    Limit,
    LinkedAtGate,
    LinkedInTime,
    Measured,
    NotCancelledAfterWork,
    NotReopened,
    NotResolvedUnread,
    PlanKept,
    PriorityByMatrix,
    Procedure,
    Quorum,
    RecordedBeforeEnd,
    RespondedInTime,
    Reviewed,
    ReviewedInTime,
    SameInBoth,
    StagesApproved,
    StepDone,
    StepsInOrder,
    SubmittedInTime,
    TrackKept,
    activities_in,
)
from itsms_sync.sms.calendars import Clocks
from itsms_sync.sms.cases import IS_FIRST, IS_LAST, CaseLog
from itsms_sync.sms.conditions import Condition, Type, compile

NO_CALENDARS = Clocks({})


@dataclass(frozen=True, slots=True)
class Force:
    """The time in which a procedure version is in force: ``start`` (ms) up to, not including, ``end`` (``None``: open).
    ``first`` tells that no version was in force before.
    """

    start: int
    end: int | None
    first: bool


@dataclass(frozen=True, slots=True)
class History:
    """``saves`` of the log plus ``row``, ``nth`` (which of the cases it is), ``first``, ``missed_until`` (running sum
    over the whole log) and, if there are priorities, ``priority_row`` (where the priority that stands was set).

    ``states``: the saves with which a case enters a state, creations included: ``case, nth, row, at, state, previous,
    missed, first``.

    ``cases`` plus ``first_row``, ``last_row``, the attributes that checks read as they stand, ``lost`` (the case starts
    in a state in which no case can start), ``missed`` (all saves without a trace), ``ended`` (ms, when it entered the
    final state it is in, or null), ``stop_row`` (last entry into a resolved state), ``gap_row`` (first save before
    which others are missing), ``untold_state`` (first row with an unknown state), ``cut_<short cut>``, and per activity
    that the procedure names the rows where it is true for the first time (``done_<activity>``), cannot be told for the
    first time (``untold_<activity>``), and where a person (``answer_<activity>``) or an unknown actor
    (``unsigned_<activity>``) first made a save with it true. A short cut that asks what was done has no column: what
    had been done depends on the moment (``told``).

    ``log`` has the parts of the cases as they were read. ``approvals``: those of the cases, with ``stage`` as the
    source names it or else the state that the case was in when it was asked (null: not known), and ``makes_up``:
    whether it was asked in a state that is no stage, after work had begun that needs an approval. ``lacking``: the
    activities that the source cannot show. ``stages`` keeps what ``approvals`` has worked out of a stage and its
    quorum, for the next check that asks.
    """

    log: CaseLog
    approvals: pl.DataFrame
    saves: pl.DataFrame
    states: pl.DataFrame
    cases: pl.DataFrame
    procedure: Procedure
    types: Mapping[str, Type]
    lacking: frozenset[str]
    now: int
    force: Force
    clocks: Clocks
    stages: dict[tuple[str, Quorum], pl.DataFrame] = field(default_factory=dict)

    @property
    def resolved(self) -> list[str]:
        """States in which the work is said to be done, final ones included."""
        return [*self.procedure.flow.resolved, *self.procedure.flow.final]

    def clock(self, limit: Limit) -> Clock | None:
        """The clock on which a limit runs; ``None`` where it runs on a calendar that is not described."""
        return clock(limit, self.clocks, self.saves["at"], self.now)

    def there(self, row: str, column: str) -> pl.Expr:
        """The column of the save in the row that the cases' column ``row`` names; null where that is null."""
        return pl.lit(self.saves[column]).gather(pl.col(row))

    def missed_at(self, row: str) -> pl.Expr:
        """Saves without a trace between the creation and that row."""
        return self.there(row, "missed_until").cast(pl.Int64) - self.there("first_row", "missed_until").cast(pl.Int64)

    def told(self, text: str, frame: pl.DataFrame, row: str) -> pl.Series:
        """Whether a condition holds for each case of ``frame`` (columns of ``cases`` and ``row``): over the attributes
        as they stand and what had been done up to that row. Null where that cannot be told.
        """
        condition = compile(text, self.types)
        hidden = (self.missed_at(row) > 0) | pl.col("lost")
        for name in sorted(activities_in(text)):
            done = (pl.col(f"done_{name}") <= pl.col(row)).fill_null(False)
            untold = (pl.col(f"untold_{name}") <= pl.col(row)).fill_null(False) | hidden
            frame = frame.with_columns(pl.when(done).then(True).when(~untold).then(False).alias(f"{DID}{name}"))
        return frame.with_columns(condition.expression.alias("_told"))["_told"]

    def stands(self, text: str) -> pl.Series:
        """Whether a condition holds for each case by all that is known, or null."""
        frame = self.cases
        if activities_in(text):
            # What was missed after the last save may hide something, too.
            after = pl.col("lost") | (pl.col("missed") > 0)
            frame = frame.with_columns(after.alias("lost"))
        return self.told(text, frame, "last_row")

    def rows_at(self, instants: pl.DataFrame) -> pl.Series:
        """For each pair of ``case`` and ``at`` (ms) the row of the last save that is not later, or null."""
        return _rows_at(self.saves, instants)

    def not_read(self, part: str, at: str, roles: Iterable[str] = ()) -> list[Rule]:
        """The rule where absence says nothing, because a part of the log, or what has one of these roles in it, could
        not be read completely.
        """
        named = (part, *(f"{part}.{role}" for role in roles))
        why = [self.log.unread[name] for name in named if name in self.log.unread]
        return [Rule(ALWAYS, Status.UNKNOWN, f"{NOT_READ}: {text}", at) for text in why[:1]]

    def with_first(self, facts: pl.DataFrame) -> pl.DataFrame:
        """The cases, with the columns of the first of the ``facts`` (``case, at, preference`` …, in order) that
        happened while the version was in force; facts of lower ``preference`` go before. What happened before the first
        version is told if nothing else is.
        """
        happened = facts if self.force.end is None else facts.filter(pl.col("at") < self.force.end)
        early = pl.col("at") < self.force.start
        if not self.force.first:
            happened = happened.filter(~early)
        happened = happened.with_columns(early.alias("_early"))
        happened = happened.sort("case", "_early", "preference", maintain_order=True).filter(IS_FIRST)
        told = happened.drop("_early", "preference").rename({"at": "bad_at"})
        return self.cases.join(told, on="case", how="left", maintain_order="left")


def history(
    log: CaseLog,
    procedure: Procedure,
    types: Mapping[str, Type],
    now: int,
    force: Force,
    clocks: Clocks = NO_CALENDARS,
) -> History:
    """Prepares the log; ``types`` are the attributes' types as conditions see them, ``clocks`` the calendars."""
    types = {**procedure.attributes(), **types}
    named = procedure.activities()
    lacking = frozenset(name for name in named if f"is_{name}" not in log.saves.columns)
    saves = log.saves.with_columns(
        *_unknown_columns(log.saves, types, lacking),
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
        (IS_FIRST.cum_sum() - 1).cast(pl.UInt32).alias("nth"),
        IS_FIRST.alias("first"),
        pl.col("missed").cum_sum().alias("missed_until"),
    )
    if "priority" in saves.columns:
        change = pl.col("first") | pl.col("priority").ne_missing(pl.col("priority").shift(1))
        saves = saves.with_columns(pl.when(change).then("row").forward_fill().alias("priority_row"))
    states = _states(saves)
    types = {**types, **dict.fromkeys((DID + name for name in named), Type.BOOLEAN)}
    cuts = {f"cut_{cut.id}": compile(cut.when, types) for cut in procedure.short_cuts}
    cases = _cases(log, saves, states, procedure, _standing(procedure, types, cuts.values()))
    lasting = {name: cut for name, cut in cuts.items() if not activities_in(cut.text)}
    cases = cases.with_columns(cut.expression.alias(name) for name, cut in lasting.items())
    approvals = _approvals(log, saves, cases, procedure)
    return History(log, approvals, saves, states, cases, procedure, types, lacking, now, force, clocks)


def _unknown_columns(saves: pl.DataFrame, types: Mapping[str, Type], lacking: Iterable[str]) -> Iterator[pl.Expr]:
    """What the mapping of this source lacks is not known of any save."""
    kinds = {Type.NUMBER: pl.Float64, Type.INSTANT: pl.Int64, Type.BOOLEAN: pl.Boolean}
    for name, type_ in types.items():
        if name not in saves.columns:
            yield pl.lit(None, kinds.get(type_, pl.String)).alias(name)
    for name in sorted(lacking):
        yield pl.lit(None, pl.Boolean).alias(f"is_{name}")


def _approvals(log: CaseLog, saves: pl.DataFrame, cases: pl.DataFrame, procedure: Procedure) -> pl.DataFrame:
    if log.approvals.is_empty():
        return log.approvals.with_columns(pl.lit(False).alias("makes_up"))
    begun = pl.min_horizontal(pl.lit(None, pl.UInt32), *(f"done_{name}" for name in procedure.approved_work()))
    of_case = cases.select("case", "last_row", "missed_after", begun.alias("_begun"))
    approvals = log.approvals.join(of_case, on="case", how="inner", maintain_order="left")
    row = _rows_at(saves, approvals.select("case", pl.col("asked_at").alias("at")))
    is_last = row == pl.col("last_row")
    # The state may have changed without a trace before the approval was asked, unless it was asked with that save.
    missed = pl.when(is_last).then("missed_after").otherwise(pl.lit(saves["missed"].shift(-1)).gather(row))
    with_save = pl.lit(saves["at"]).gather(row) == pl.col("asked_at")
    state = pl.when((missed == 0) | with_save).then(pl.lit(saves["state"]).gather(row))
    own = pl.col("stage").fill_null("") != ""
    no_stage = ~own & ~state.is_in(sorted(procedure.stages()))
    return approvals.with_columns(
        pl.when(own).then("stage").otherwise(state).alias("stage"),
        (no_stage & (pl.lit(row) >= pl.col("_begun"))).fill_null(False).alias("makes_up"),
    )


def _rows_at(saves: pl.DataFrame, instants: pl.DataFrame) -> pl.Series:
    wanted = instants.select("case", pl.col("at").alias("_at")).with_row_index("_place")
    rows = saves.select("case", "row", "at").join(wanted, on="case", how="inner")
    rows = rows.filter(pl.col("at") <= pl.col("_at")).group_by("_place").agg(pl.col("row").max())
    nothing = pl.Series([None], dtype=pl.UInt32).new_from_index(0, len(instants))
    return nothing.scatter(rows["_place"], rows["row"])


def _states(saves: pl.DataFrame) -> pl.DataFrame:
    previous = pl.when(~pl.col("first")).then(pl.col("state").shift(1)).alias("previous")
    entered = pl.col("first") | pl.col("state").ne_missing(pl.col("state").shift(1))
    rows = saves.select("case", "nth", "row", "at", "state", previous, "missed", "first", entered.alias("_entered"))
    return rows.filter("_entered").drop("_entered")


def _standing(procedure: Procedure, types: Mapping[str, Type], cuts: Iterable[Condition]) -> list[str]:
    """The attributes that checks read as they stand."""
    conditions = [*cuts, *(compile(text, types) for text in procedure.requirement_conditions())]
    names = {"state", *(name for condition in conditions for name in condition.columns)}
    names -= {DID + name for name in procedure.activities()}
    for requirement in procedure.requirements:
        match requirement:
            case Reviewed() | ReviewedInTime():
                names |= set(requirement.fields)
            case SameInBoth():
                names |= set(requirement.attributes)
            case NotReopened(counter=str(counter)):
                names.add(counter)
            case DatesInOrder():
                names |= set(requirement.order)
            case RecordedBeforeEnd():
                names.add(requirement.ended)
            case PriorityByMatrix():
                names |= {"impact", "urgency", "priority"}
    return sorted(names - {"opened"})  # which the log tells of each case itself


def _cases(
    log: CaseLog, saves: pl.DataFrame, states: pl.DataFrame, procedure: Procedure, standing: list[str]
) -> pl.DataFrame:
    flow = procedure.flow
    first_row = saves["first"].arg_true()
    last_row = first_row.shift(-1, fill_value=len(saves)) - 1
    first = saves.select(
        first_row.alias("first_row"),
        last_row.alias("last_row"),
        (~pl.col("state").gather(first_row).is_in([flow.initial, *log.initial]).fill_null(False)).alias("lost"),
        pl.col("missed_until").gather(first_row).alias("_missed_before"),
    )
    last = saves.select("missed_until", *standing)[last_row]
    entered = states.filter(IS_LAST).select(pl.col("at").alias("_entered"))
    ahead = _ahead(saves, first_row, dict(_asked(procedure)))
    cases = pl.concat([log.cases, first, last, entered, ahead], how="horizontal")
    ended = pl.when(pl.col("state").is_in(list(flow.final))).then("_entered").alias("ended")
    missed = (pl.col("missed_until") - pl.col("_missed_before") + pl.col("missed_after")).alias("missed")
    own = [pl.when(pl.col(name) <= pl.col("last_row")).then(name).alias(name) for name in ahead.columns]
    cases = cases.with_columns(ended, missed, _stops(states, len(cases), [*flow.resolved, *flow.final]), *own)
    return cases.drop("_entered", "_missed_before", "missed_until")


def _ahead(saves: pl.DataFrame, rows: pl.Series, conditions: Mapping[str, pl.Expr]) -> pl.DataFrame:
    """From each of the rows on, the row of the first save for which a condition is true, of whatever case, or null."""
    return saves.select(
        pl.when(condition).then("row").backward_fill().gather(pl.lit(rows)).alias(name)
        for name, condition in conditions.items()
    )


def _asked(procedure: Procedure) -> Iterator[tuple[str, pl.Expr]]:
    """What the procedure's checks want to know about the first save of a kind."""
    yield "gap_row", pl.col("missed") > 0
    yield "untold_state", pl.col("state").is_null()
    for name in sorted(procedure.activities_in_conditions()):
        yield from _done_or_untold(name)
    for requirement in procedure.requirements:
        if isinstance(requirement, StepDone):
            yield from _done_or_untold(procedure.step(requirement.step).activity)
        yield from _asked_by(procedure, requirement)


def _asked_by(procedure: Procedure, requirement: Demand) -> Iterator[tuple[str, pl.Expr]]:
    for name in _gates(requirement):
        yield f"done_{name}", pl.col(f"is_{name}")
    for name in _weighed(procedure, requirement):
        yield from _done_or_untold(name)
    if isinstance(requirement, RespondedInTime):
        responded = pl.col(f"is_{requirement.response}") & ~pl.col("first")
        yield f"answer_{requirement.response}", responded & pl.col("human")
        yield f"unsigned_{requirement.response}", responded & pl.col("human").is_null()


def _gates(requirement: Demand) -> tuple[str, ...]:
    """The activities of which it matters only when they are seen first."""
    match requirement:
        case (
            StepDone()
            | FieldAtGate()
            | FilledInTime()
            | ItemNamed()
            | CloseAgrees()
            | Reviewed()
            | LinkedAtGate()
            | ChildrenEnded()
        ):
            return requirement.gate
        case Measured():
            return requirement.activities()
        case StagesApproved(before=name) | NotCancelledAfterWork(cancel=name):
            return (name,)
        case _:
            return ()


def _weighed(procedure: Procedure, requirement: Demand) -> tuple[str, ...]:
    """The activities of which it matters, too, whether they may have happened unseen."""
    match requirement:
        case NotResolvedUnread():
            return (*requirement.gate, requirement.work)
        case ApprovedBeforeStart(start=name) | LinkedInTime(after=name):
            return (name,)
        case StepsInOrder():
            return procedure.in_course()
        case TrackKept():
            return (requirement.before, *requirement.steps())
        case SubmittedInTime() | PlanKept() | ReviewedInTime():
            return requirement.activities()
        case _:
            return ()


def _done_or_untold(activity: str) -> Iterator[tuple[str, pl.Expr]]:
    yield f"done_{activity}", pl.col(f"is_{activity}")
    yield f"untold_{activity}", pl.col(f"is_{activity}").is_null()


def _stops(states: pl.DataFrame, cases: int, done: list[str]) -> pl.Series:
    """Per case, the row at which it last began to count as done, or null."""
    was_done = pl.col("previous").is_in(done).fill_null(False)
    rows = states.filter(pl.col("state").is_in(done) & ~was_done)
    rows = rows.filter((pl.col("nth") != pl.col("nth").shift(-1)).fill_null(True))
    nothing = pl.Series("stop_row", [None], dtype=pl.UInt32).new_from_index(0, cases)
    return nothing.scatter(rows["nth"], rows["row"])
