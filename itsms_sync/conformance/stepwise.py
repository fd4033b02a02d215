"""One case step by step beside the documented procedure: what ``explain`` shows of it.

Judges nothing: the verdicts come from the kernel. Here each save gets what the document has in its place, the version
that was in force, and how the time limits stood; an open case gets what the document asks for next. What the facts do
not tell is told as not known, and why.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from itsms_sync.conformance.alignment import Aligned, Kind, words_at
from itsms_sync.conformance.history import History, history
from itsms_sync.conformance.kernel import forces, judged_by
from itsms_sync.conformance.limits import RUNS, STOPPED, TimeLimit, limits_of
from itsms_sync.conformance.runs import Runs, runs
from itsms_sync.conformance.verdicts import DOES_NOT_APPLY, NO_ACTIVITY, RUNNING, Status, in_words
from itsms_sync.procedures.flow import FlowError
from itsms_sync.procedures.model import (
    Demand,
    LinkedInTime,
    Procedure,
    ResolvedInTime,
    RespondedInTime,
    Step,
    StepDone,
)
from itsms_sync.sms.calendars import Clocks
from itsms_sync.sms.cases import CaseLog
from itsms_sync.sms.conditions import Condition, Type

_FIXED = frozenset(("case", "at", "actor", "human", "missed", "vague"))


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What is told of: the log of one case that is open by ``now`` (ms), the ``versions`` of its procedure in order of
    ``valid_from``, the ``verdicts`` of the kernel, and the ``activities`` by which the mapping shows steps.
    """

    log: CaseLog
    versions: Sequence[Procedure]
    types: dict[str, Type]
    activities: Mapping[str, Condition]
    verdicts: pl.DataFrame
    now: int
    clocks: Clocks


@dataclass(frozen=True, slots=True)
class SaveBeside:
    """A save, the creation first, beside the document."""

    at: int
    actor: str | None
    human: bool | None
    missed: int
    """Saves without a trace right before it."""
    vague: bool
    """What it shows may have been so since the save before it."""
    version: str | None
    """In force at that instant; ``None`` before the first one."""
    changes: dict[str, tuple[Any, Any]]
    """Attribute -> value before and after it; ``None`` is not known, ``''`` is empty."""
    state: str | None
    """The state that the case entered with it."""
    move: str | None
    """Whether the flow has that state here: ``both`` or ``added``; ``None`` where that is not told."""
    steps: tuple[str, ...]
    """Documented steps that happened with it."""
    wrong: tuple[str, ...]
    """What is wrong with the order of steps here, a sentence each."""


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A mandatory step that has not been seen yet."""

    step: str
    role: str
    before: str
    """By when it has to have happened, in words; empty where no requirement says so."""
    requirements: tuple[str, ...]
    unsure: str = ""
    """Why it may be done or unnecessary all the same."""
    limits: tuple[str, ...] = ()
    """Requirements whose limit runs until this step."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A case beside its procedure, as of ``now``."""

    document: str
    version: str
    """Of the flow that it is compared with: the one in force when it opened."""
    versions: Mapping[str, str]
    """Requirement -> version by which it is judged."""
    starts: tuple[tuple[str, int], ...]
    """Versions and since when each is in force (ms)."""
    open: bool
    reason: str | None
    """Why nothing is said about the order of its states."""
    cost: int | None
    moves: tuple[tuple[str, str, int | None], ...]
    """Kind, state and instant of each move of the alignment."""
    words: tuple[str, ...]
    saves: tuple[SaveBeside, ...]
    missed_after: int
    """Saves without a trace after the last one."""
    limits: tuple[TimeLimit, ...]
    following: tuple[str, ...]
    """States that the document lets it enter next."""
    ahead: tuple[str, ...]
    """States through which it has to go yet, whatever happens, nearest first."""
    outstanding: tuple[Outstanding, ...]


def beside(facts: CaseFacts) -> Beside:
    """The case beside the procedure."""
    return _Telling(facts).told()


class _Telling:
    """Works out the parts of ``Beside``."""

    def __init__(self, facts: CaseFacts) -> None:
        self._facts = facts
        self._forces = forces(facts.versions)
        self._histories = [
            history(facts.log, version, facts.types, facts.now, force, facts.clocks)
            for version, force in zip(facts.versions, self._forces, strict=True)
        ]
        self._number = self._version_at(facts.log.cases["opened"][0])
        self._history = self._histories[self._number or 0]
        self._procedure = self._history.procedure
        self._newest = facts.versions[self._version_at(facts.now) or 0]
        self._by = {
            requirement: version
            for (_, requirement), version in judged_by(
                facts.log, facts.versions, facts.types, facts.now, facts.clocks
            ).items()
        }
        self._said: dict[str, tuple[str, str | None, int | None]] = {
            requirement: (status, reason, at)
            for requirement, status, reason, at in facts.verdicts.select(
                "requirement", "status", "reason", "at"
            ).iter_rows()
        }
        self._run, self._untold = self._ran()

    def _version_at(self, at: int) -> int | None:
        """The place of the version in force at an instant; ``None`` before the first."""
        started = [number for number, force in enumerate(self._forces) if force.start <= at]
        return started[-1] if started else None

    def told(self) -> Beside:
        run, limits = self._run, tuple(self._limits())
        ended = self._history.cases["ended"][0] is not None
        told = run is not None and self._untold is None
        moves = run.moves(self._states, self._more, ended=ended) if run is not None and told else ()
        ahead = run if told and not ended else None
        return Beside(
            document=self._procedure.document,
            version=self._procedure.version,
            versions={requirement: version.version for requirement, version in self._by.items()},
            starts=tuple((v.version, f.start) for v, f in zip(self._facts.versions, self._forces, strict=True)),
            open=not ended,
            reason=self._untold,
            cost=None if run is None else run.cases["cost"][0],
            moves=tuple((m.kind.value, m.label, None if m.event is None else self._at[m.event]) for m in moves),
            words=tuple(text for _, text in words_at(moves, self._procedure.called)),
            saves=tuple(self._saves(moves)),
            missed_after=int(self._facts.log.cases["missed_after"][0] or 0),
            limits=limits,
            following=() if ahead is None else ahead.following(moves, self._more),
            ahead=() if ahead is None else ahead.ahead(moves, self._more),
            outstanding=() if ended else tuple(self._outstanding(limits)),
        )

    # --- the flow

    def _ran(self) -> tuple[Runs | None, str | None]:
        """How the case ran, and why nothing is told of that."""
        try:
            found = runs(self._history)
        except FlowError as error:
            return None, str(error)
        return found, found.cases["reason"][0]

    @property
    def _states(self) -> list[str]:
        return [] if self._run is None else self._run.cases["states"][0].to_list()

    @property
    def _at(self) -> list[int]:
        return [] if self._run is None else self._run.cases["at"][0].to_list()

    @property
    def _more(self) -> list[str]:
        return [] if self._run is None else self._run.cases["more"][0].to_list()

    def _saves(self, moves: Sequence[Aligned]) -> Iterator[SaveBeside]:
        entered = self._history.states.select("row", "state").iter_rows()
        event_of = {row: (event, state) for event, (row, state) in enumerate(entered)}
        kinds = {move.event: move.kind for move in moves if move.event is not None}
        wrong = _by_event(moves, words_at(moves, self._procedure.called), len(self._states))
        before: dict[str, Any] = {}
        for row in self._history.saves.iter_rows(named=True):
            event, state = event_of.get(row["row"], (None, None))
            number = self._version_at(row["at"])
            yield SaveBeside(
                row["at"],
                row["actor"],
                row["human"],
                int(row["missed"] or 0),
                bool(row["vague"]),
                None if number is None else self._facts.versions[number].version,
                {name: (before.get(name), row[name]) for name in self._attributes(row) if _differs(before, row, name)},
                state,
                None if event is None or event not in kinds else kinds[event].value,
                tuple(self._steps(self._facts.versions[number or 0], before, row)),
                () if event is None else tuple(wrong.get(event, ())),
            )
            before = row

    def _attributes(self, row: Mapping[str, Any]) -> Iterator[str]:
        """What the mapping tells of a save, in its order."""
        told = self._facts.log.saves.columns
        yield from (name for name in told if name in row and name not in _FIXED and not name.startswith("is_"))

    @staticmethod
    def _steps(procedure: Procedure, before: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
        """The documented steps that happened with a save: those whose activity it made true."""
        for step in procedure.steps:
            name = f"is_{step.activity}"
            if row.get(name) and not before.get(name):
                yield f"{step.id} {step.title}"

    # --- time

    def _limits(self) -> Iterator[TimeLimit]:
        """Each limit by the version that judges it; those that do not apply are left out."""
        for prepared in self._histories:
            own = [r for r in prepared.procedure.requirements if self._is_judged_by(prepared.procedure, r)]
            yield from limits_of(prepared, own, self._said)
        yield from self._others()

    def _others(self) -> Iterator[TimeLimit]:
        """Limits of which only the check knows how they run: what it says of their end."""
        covered = (RespondedInTime, ResolvedInTime, LinkedInTime)
        unseen = self._facts.log.cases["unseen"][0]
        rows = self._facts.verdicts.filter(pl.col("reason") == RUNNING, pl.col("recheck_at").is_not_null())
        for requirement, overdue in rows.select("requirement", "recheck_at").iter_rows():
            version = self._by[requirement]
            demand = self._demand(requirement)
            if not isinstance(demand, covered) and overdue != unseen:
                yield TimeLimit(requirement, demand.title, version.version, state=RUNS, deadline=overdue - 1)

    def _is_judged_by(self, procedure: Procedure, requirement: Demand) -> bool:
        applies = self._said.get(requirement.id, ("", DOES_NOT_APPLY, None))[1] != DOES_NOT_APPLY
        return applies and self._by.get(requirement.id) is procedure

    # --- what comes next

    def _outstanding(self, limits: Sequence[TimeLimit]) -> Iterator[Outstanding]:
        """By the version in force now, in the order of the document. A limit goes with the first step that stops it."""
        running = [limit for limit in limits if limit.state != STOPPED]
        for step, demands, unsure in self._still():
            until = [limit for limit in running if self._stops(step, limit)]
            running = [limit for limit in running if limit not in until]
            gates = dict.fromkeys(in_words(self._newest.called(name)) for demand in demands for name in demand.gate)
            yield Outstanding(
                step=f"{step.id} {step.title}",
                role=step.role,
                before=" or ".join(gates),
                requirements=tuple(demand.id for demand in demands),
                unsure=unsure,
                limits=tuple(limit.requirement for limit in until),
            )

    def _still(self) -> Iterator[tuple[Step, list[StepDone], str]]:
        """The mandatory steps that are still to be made, with what demands each, and why it may be done all the same.
        What ends a case that came back has to be done again."""
        flow, steps = self._newest.flow, self._newest.steps
        ending = {name for state in (*flow.resolved, *flow.final) for name in self._shown_by[state]}
        seen = [self._is_seen(step) and step.activity not in ending for step in steps]
        last = max((place for place, done in enumerate(seen) if done), default=-1)
        for place, step in enumerate(steps):
            if step.mandatory and not seen[place]:
                demands = [r for r in self._newest.requirements if isinstance(r, StepDone) and r.step == step.id]
                open_ = [r for r in demands if self._is_unsettled(r)]
                expected = open_ or step.activity in ending or (not demands and place > last)
                excuse = self._excuse(step) if expected else None
                if excuse is not None:
                    yield step, open_, excuse

    def _is_seen(self, step: Step) -> bool:
        name = f"is_{step.activity}"
        return name in self._history.saves.columns and bool(self._history.saves[name].any())

    def _is_unsettled(self, requirement: StepDone) -> bool:
        status = self._said.get(requirement.id, (Status.NOT_APPLICABLE.value, None, None))[0]
        return status == Status.NOT_APPLICABLE.value

    def _excuse(self, step: Step) -> str | None:
        """``None`` where a short cut lets the step be skipped; else why it may be done or unnecessary, or nothing."""
        prepared = next(one for one in self._histories if one.procedure is self._newest)
        for cut in self._newest.short_cuts:
            if step.id in cut.skips:
                stands = prepared.stands(cut.when)[0]
                if stands is not False:
                    return None if stands else f"whether this short cut is open cannot be told: {cut.title}"
        return self._hidden(prepared, step.activity)

    @staticmethod
    def _hidden(prepared: History, activity: str) -> str:
        """Why an activity that was not seen may have happened."""
        shown = prepared.saves.get_column(f"is_{activity}", default=None)
        if shown is None or shown.null_count() == len(shown):
            return f"{NO_ACTIVITY}: {in_words(activity)}"
        case = prepared.cases.row(0, named=True)
        if case["lost"] or case["missed"] > 0:
            return "it may have happened in saves without history"
        return "what it shows by was not known all the time" if shown.null_count() else ""

    def _stops(self, step: Step, limit: TimeLimit) -> bool:
        """Whether a limit ends with this step: it is the activity that is waited for, or comes with the same state."""
        flow = self._newest.flow
        with_step = [state for state, shown in self._shown_by.items() if step.activity in shown]
        match self._demand(limit.requirement):
            case RespondedInTime(response=name):
                return name == step.activity or any(name in self._shown_by[state] for state in with_step)
            case ResolvedInTime():
                return any(state in (flow.resolved or flow.final) for state in with_step)
            case _:
                return False

    def _demand(self, requirement: str) -> Demand:
        return next(one for one in self._by[requirement].requirements if one.id == requirement)

    @cached_property
    def _shown_by(self) -> dict[str, set[str]]:
        """State -> the activities that do not show now and would if the case entered it."""
        last = self._facts.log.saves.tail(1)
        entered = {state: last.with_columns(state=pl.lit(state)) for state in sorted(self._newest.flow.states())}
        open_ = {name: c for name, c in self._facts.activities.items() if not last[f"is_{name}"][0]}
        return {
            state: {name for name, condition in open_.items() if row.select(condition.expression).item()}
            for state, row in entered.items()
        }


def _differs(before: Mapping[str, Any], row: Mapping[str, Any], name: str) -> bool:
    if not before:
        return row[name] not in (None, "")
    return bool(before[name] != row[name])


def _by_event(
    moves: Sequence[Aligned], words: Sequence[tuple[tuple[int, ...], str]], events: int
) -> dict[int, list[str]]:
    """Event -> what is wrong there. What was skipped is told where the case went on without it, at its end where it did
    not go on; a step in the wrong place where it was made."""
    found: dict[int, list[str]] = {}
    for places, text in words:
        made = [moves[place].event for place in places if moves[place].kind is Kind.ADDED]
        later = (moves[place].event for place in range(places[-1], len(moves)))
        event = made[0] if made else next((one for one in later if one is not None), events - 1)
        if event is not None:
            found.setdefault(event, []).append(text)
    return found
