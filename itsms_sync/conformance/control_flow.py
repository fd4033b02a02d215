"""Checks of the control flow: CF1 skipped step, CF2 forbidden transition, CF5 reopen, CF11 wrong track."""

from collections.abc import Iterable, Iterator

import polars as pl

from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import (
    ALWAYS,
    BY_SHORT_CUT,
    COUNTER,
    CUT,
    GAP,
    LOST,
    NEVER_RESOLVED,
    NO_ACTIVITY,
    NO_TRACK,
    NOT_DELIVERED,
    NOT_REACHED,
    STILL_OPEN,
    UNMAPPED,
    Rule,
    Status,
    decide,
    in_words,
    phrase,
)
from itsms_sync.procedures.model import (
    DocumentedTransitions,
    NotReopened,
    ShortCut,
    StepDone,
    Track,
    TrackKept,
    activities_in,
)
from itsms_sync.sms.cases import IS_FIRST

COMPLETE_LOSS = pl.col("lost")
MISSED = pl.col("missed") > 0
STATES_MISSED = MISSED & ~pl.col("states_whole")
"""Saves without a trace may have changed the state."""
NO_PREFERENCE = pl.lit(0).alias("preference")
PAIR = pl.concat_str("previous", pl.lit(" -> "), "state").alias("pair")


def with_gate(history: History, activities: Iterable[str]) -> pl.DataFrame:
    """The cases, with the save with which the first of these activities happens: ``gate_row, gate_at``, and whether
    it may have happened in one before, ``gate_vague``.
    """
    gate = pl.min_horizontal(*(f"done_{name}" for name in activities)).alias("gate_row")
    frame = history.cases.with_columns(gate)
    return frame.with_columns(
        history.there("gate_row", "at").alias("gate_at"), history.there("gate_row", "vague").alias("gate_vague")
    )


def at_gate(history: History, activities: Iterable[str]) -> list[Rule]:
    """The rules for cases that have not reached a gate, or of which it is not known with which save they did. A gate
    that the source cannot show is never known to be reached.
    """
    names = list(activities)
    if all(name in history.lacking for name in names):
        return [Rule(ALWAYS, Status.UNKNOWN, f"{NO_ACTIVITY}: {', '.join(names)}")]
    return [
        Rule(pl.col("gate_row").is_null(), Status.NOT_APPLICABLE, NOT_REACHED),
        Rule(pl.col("gate_vague"), Status.UNKNOWN, GAP, "gate_at"),
    ]


def untold(history: History, activity: str) -> str:
    """The reason why it is not known whether an activity happened."""
    return f"{NO_ACTIVITY}: {activity}" if activity in history.lacking else NOT_DELIVERED


def skipped_step(history: History, requirement: StepDone) -> pl.DataFrame:
    """CF1. A step that is absent where saves are missing, or before a history that starts late, is unknown."""
    procedure = history.procedure
    step = procedure.step(requirement.step)
    cuts = [cut for cut in procedure.short_cuts if requirement.step in cut.skips]
    by_gate = pl.col("gate_row")
    frame = with_gate(history, requirement.gate)
    frame = frame.with_columns(
        history.told(cut.when, frame, "gate_row").alias(f"cut_{cut.id}") for cut in cuts if activities_in(cut.when)
    )
    return decide(
        frame,
        [
            *at_gate(history, requirement.gate),
            Rule(pl.col(f"done_{step.activity}") <= by_gate, Status.CONFORMING, at="gate_at"),
            *(Rule(pl.col(f"cut_{c.id}"), Status.NOT_APPLICABLE, BY_SHORT_CUT + c.title) for c in cuts),
            Rule(
                pl.col(f"untold_{step.activity}") <= by_gate, Status.UNKNOWN, untold(history, step.activity), "gate_at"
            ),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at"),
            Rule(history.missed_at("gate_row") > 0, Status.UNKNOWN, GAP, "gate_at"),
            *(Rule(pl.col(f"cut_{c.id}").is_null(), Status.UNKNOWN, CUT, "gate_at") for c in cuts),
            Rule(ALWAYS, Status.DEVIATING, at="gate_at", detail=pl.lit(f"{step.id} {step.title} did not happen")),
        ],
        judged_as_of="gate_at",
    )


def forbidden_transition(history: History, requirement: DocumentedTransitions) -> pl.DataFrame:
    """CF2. A step across missing saves may hide states in between and proves nothing, unless a metric tells of all."""
    del requirement
    procedure = history.procedure
    documented = pl.any_horizontal(
        pl.lit(False),
        *(
            (pl.col("previous") == start) & pl.col("state").is_in(list(ends))
            for start, ends in procedure.flow.edges.items()
        ),
    )
    known = pl.col("previous").is_not_null() & pl.col("state").is_not_null()
    whole = pl.lit(history.cases["states_whole"]).gather("nth")
    certain = (pl.col("missed") == 0) | whole
    moves = history.states.filter(~pl.col("first") & certain & known & ~documented).with_columns(PAIR)
    moves = moves.with_columns(excused(history, cut, moves).alias(f"cut_{cut.id}") for cut in procedure.short_cuts)
    allowed = pl.any_horizontal(pl.lit(False), *(f"cut_{cut.id}" for cut in procedure.short_cuts))
    moves = moves.filter(~allowed.fill_null(False)).with_columns(allowed.is_null().alias("undecided"))
    # A move that no short cut can excuse is certain, whatever else cannot be decided.
    found = moves.select("case", "at", "pair", "undecided", pl.col("undecided").cast(pl.Int32).alias("preference"))
    return decide(
        history.with_first(found),
        [
            Rule(pl.col("undecided"), Status.UNKNOWN, CUT, "bad_at"),
            Rule(pl.col("pair").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("pair")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, "ended"),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
            Rule(STATES_MISSED, Status.UNKNOWN, GAP, "ended"),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )


def excused(history: History, cut: ShortCut, moves: pl.DataFrame) -> pl.Series:
    """Whether the short cut allows each of the moves; null if that cannot be told."""
    allows = moves["pair"].is_in([f"{edge.source} -> {edge.target}" for edge in cut.allows])
    allowed = moves.filter(allows)
    if activities_in(cut.when):
        frame = history.cases[allowed["nth"]].with_columns(allowed["row"])
        taken = history.told(cut.when, frame, "row")
    else:
        taken = history.cases[f"cut_{cut.id}"].gather(allowed["nth"])
    return pl.Series([False]).new_from_index(0, len(moves)).scatter(allows.arg_true(), taken)


def reopened(history: History, requirement: NotReopened) -> pl.DataFrame:
    """CF5. Where saves are missing, the tool's own counter (if the mapping has one) is the second witness."""
    done = history.resolved
    # A state that is not known does not undo that the case was resolved before and is not so after it.
    known = history.states
    if known["state"].null_count():
        known = known.filter(pl.col("state").is_not_null())
        known = known.with_columns(pl.when(~IS_FIRST).then(pl.col("state").shift(1)).alias("previous"))
    back = known.filter(pl.col("previous").is_in(done) & ~pl.col("state").is_in(done))
    frame = history.with_first(back.select("case", "at", PAIR, NO_PREFERENCE))
    counted = pl.col(requirement.counter) if requirement.counter is not None else pl.lit(None, pl.Float64)
    return decide(
        frame,
        [
            Rule(pl.col("pair").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("pair")),
            Rule(pl.col("stop_row").is_null(), Status.NOT_APPLICABLE, NEVER_RESOLVED),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            Rule(counted == 0, Status.CONFORMING, at="ended"),
            Rule(counted > 0, Status.UNKNOWN, COUNTER, "ended"),
            Rule(pl.col("untold_state").is_not_null(), Status.UNKNOWN, UNMAPPED, "ended"),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
            Rule(STATES_MISSED, Status.UNKNOWN, GAP, "ended"),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )


def wrong_track(history: History, requirement: TrackKept) -> pl.DataFrame:
    """CF11. What a track demands is judged when the work begins; that the case changed over to another track, at once.

    The first track whose condition holds is the case's.
    """
    changes = history.with_first(_changed_over(history, requirement)).select("case", "bad_at", "change")
    frame = with_gate(history, [requirement.before]).with_columns(_track(history, requirement))
    frame = frame.join(changes, on="case", how="left", maintain_order="left")
    changed = pl.col("bad_at").is_not_null()
    frame = frame.with_columns(pl.when(changed).then("bad_at").otherwise("gate_at").alias("since"))
    rules = [rule for name, track in requirement.tracks.items() for rule in _rules_of(history, name, track)]
    return decide(
        frame,
        [
            Rule(changed, Status.DEVIATING, at="bad_at", detail=pl.col("change")),
            *at_gate(history, [requirement.before]),
            Rule(pl.col("track") == "", Status.UNKNOWN, NO_TRACK, "gate_at"),
            Rule(pl.col("track").is_null(), Status.UNKNOWN, f"{NOT_DELIVERED}: track", "gate_at"),
            *rules,
            *_unsure_of_change(history, requirement),
            Rule(ALWAYS, Status.CONFORMING, at="gate_at"),
        ],
        judged_as_of="since",
    )


def _track(history: History, requirement: TrackKept) -> pl.Series:
    """The name of each case's track; empty if there is none, null if it cannot be told."""
    track: pl.Expr = pl.lit("")
    for name, one in reversed(requirement.tracks.items()):
        holds = pl.lit(history.stands(one.when))
        track = pl.when(holds).then(pl.lit(name)).when(~holds).then(track)
    return history.cases.select(track.alias("track"))["track"]


def _changes(history: History, attribute: str) -> pl.DataFrame:
    """The saves with which the attribute got another value, in or out of an initial state: ``case, at, was, value,
    was_in, missed``. A first value is no change.
    """
    saves = history.saves.select(
        "case",
        "at",
        "missed",
        "first",
        pl.col(attribute).shift(1).alias("was"),
        pl.col(attribute).alias("value"),
        pl.col("state").shift(1).alias("was_in"),
    )
    return saves.filter(~pl.col("first") & (pl.col("was") != "") & (pl.col("value") != pl.col("was")))


def _changed_over(history: History, requirement: TrackKept) -> pl.DataFrame:
    """The changes of the attribute that has to stay outside of the initial states. Saves without a trace may hide a
    return to an initial state.
    """
    name = requirement.fixed
    if name is None:
        return pl.DataFrame(schema={"case": pl.UInt32, "at": pl.Int64, "change": pl.String, "preference": pl.Int32})
    initial = [history.procedure.flow.initial, *history.log.initial]
    found = _changes(history, name).filter((pl.col("missed") == 0) & ~pl.col("was_in").is_in(initial))
    value = pl.when(pl.col("value") == "").then(pl.lit("nothing")).otherwise("value")
    moved = (pl.col("was"), " to ", value, " in state ", pl.col("was_in"))
    change = phrase(f"{in_words(name)} changed from ", *moved)
    return found.select("case", "at", change.alias("change"), NO_PREFERENCE)


def _unsure_of_change(history: History, requirement: TrackKept) -> Iterator[Rule]:
    if requirement.fixed is not None:
        name = requirement.fixed
        untold_value = history.saves.filter(pl.col(name).is_null())["case"]
        untold_state = _changes(history, name).filter(pl.col("was_in").is_null())["case"]
        for cases, why in ((untold_value, f"{NOT_DELIVERED}: {name}"), (untold_state, UNMAPPED)):
            yield Rule(pl.col("case").is_in(cases.unique().implode()), Status.UNKNOWN, why, "gate_at")
        yield Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at")
        yield Rule(MISSED, Status.UNKNOWN, GAP, "gate_at")


def _rules_of(history: History, name: str, track: Track) -> Iterator[Rule]:
    """What is wrong or not known of the cases on one track."""
    on_track, by_gate = pl.col("track") == name, pl.col("gate_row")
    called, track_name = history.procedure.called, f"{in_words(name)} track"
    for activity in track.forbids:
        done = on_track & (pl.col(f"done_{activity}") <= by_gate)
        wrong = pl.lit(f"{track_name}: {called(activity)} happened before the work")
        yield Rule(done, Status.DEVIATING, at="gate_at", detail=wrong)
    for field in track.fields:
        empty = on_track & (history.there("gate_row", field) == "")
        wrong = pl.lit(f"{track_name}: {in_words(field)} was empty")
        yield Rule(empty, Status.DEVIATING, at="gate_at", detail=wrong)
    hidden = COMPLETE_LOSS | (history.missed_at("gate_row") > 0)
    for activity in track.needs:
        open_ = on_track & ~(pl.col(f"done_{activity}") <= by_gate).fill_null(False)
        told = ~(pl.col(f"untold_{activity}") <= by_gate).fill_null(False) & ~hidden
        wrong = pl.lit(f"{track_name}: {called(activity)} did not happen before the work")
        yield Rule(open_ & told, Status.DEVIATING, at="gate_at", detail=wrong)
    for field in track.fields:
        why = f"{NOT_DELIVERED}: {field}"
        yield Rule(on_track & history.there("gate_row", field).is_null(), Status.UNKNOWN, why, "gate_at")
    for activity in (*track.needs, *track.forbids):
        open_ = on_track & ~(pl.col(f"done_{activity}") <= by_gate).fill_null(False)
        yield Rule(
            open_ & (pl.col(f"untold_{activity}") <= by_gate), Status.UNKNOWN, untold(history, activity), "gate_at"
        )
        yield Rule(open_ & COMPLETE_LOSS, Status.UNKNOWN, LOST, "gate_at")
        yield Rule(open_ & hidden, Status.UNKNOWN, GAP, "gate_at")
