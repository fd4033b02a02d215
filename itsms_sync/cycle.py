"""One pass: act, follow, pull, map, check, decide, act. Returns a frozen report and prints nothing.

The guard is asked here, and only here, before anything is decided or written: where it objects, the pass only reads.

Each step is committed before the next begins, so a pass that is cut off anywhere is finished by the next one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from itsms_sync.connector import Connector, SourceError
from itsms_sync.corrective.figures import Share
from itsms_sync.deciding import Deciding, LiveSource, Opened, TicketRules
from itsms_sync.following import Following, FollowReport
from itsms_sync.guard import DATABASE, Objection
from itsms_sync.guarding import Guarding
from itsms_sync.ingest import Clock, Ingest, ReadSource, SourceReport
from itsms_sync.judging import JudgementReport, Judging
from itsms_sync.outbox import Outbox, OutboxReport
from itsms_sync.procedures.library import Library
from itsms_sync.reconciling import Reconciling
from itsms_sync.records import Write
from itsms_sync.store import decided
from itsms_sync.store.reconciled import Run

RECONCILE_AT_ONCE = 20.0
"""A comparison by id takes this long of one pass at most (s); the next pass goes on with it."""
_COMPARED = ("kind", "extent", "state", "known", "seen", "missed", "gone", "doubtful", "problem")


@dataclass(frozen=True, slots=True)
class CycleReport:
    sources: tuple[SourceReport, ...]
    judgement: JudgementReport
    periods: int
    opened: tuple[Opened, ...]
    digests: tuple[Write, ...]
    outbox: OutboxReport | None
    before_go_live: Mapping[str, Mapping[str, Share]]
    """source -> requirement -> share of the cases that ended before go-live; they open nothing."""
    off: tuple[str, ...]
    """Processes with deviations for which writing is off."""
    reconciled: tuple[Run, ...] = ()
    """Comparisons by id that were worked on."""
    followed: FollowReport | None = None
    """What people did to our tickets."""
    objections: tuple[Objection, ...] = ()
    """Why nothing was written, or not everything."""

    def figures(self) -> dict[str, Any]:
        """The pass in figures and names of ours: for the log's canonical line, the database and machines."""
        judged = self.judgement
        figures: dict[str, Any] = {
            "sources": {
                s.name: {
                    "rows": s.rows,
                    "new_rows": s.new_rows,
                    "pages": s.pages,
                    "windows": s.windows,
                    "behind": s.is_behind,
                    "gaps": len(s.gaps),
                    "problem": s.problem,
                    "clock_ahead_s": None if s.skew is None else round(s.skew / 1000),
                }
                for s in self.sources
            },
            "cases_judged": judged.cases,
            "all_judged": judged.everything,
            "verdicts_changed": judged.verdicts_changed,
            "deviations_opened": judged.deviations_opened,
            "deviations_ended": judged.deviations_ended,
            "periods_decided": self.periods,
            "opened": [
                {"key": o.key, "summary": o.summary, "severity": o.severity, "queued": o.queued} for o in self.opened
            ],
            "digests": len(self.digests),
            "writing_off": list(self.off),
            "reconciled": [compared(run) for run in self.reconciled],
            "objections": [{"subject": o.subject, "reason": o.reason} for o in self.objections],
        }
        if self.followed is not None:
            figures["followed"] = self.followed.figures()
        return figures if self.outbox is None else {**figures, "outbox": self.outbox.figures()}


def compared(run: Run) -> dict[str, Any]:
    """A comparison by id in figures and names of ours."""
    return {name: getattr(run, name) for name in _COMPARED}


@dataclass(frozen=True, slots=True)
class Tickets:
    """The source that receives tickets, and who writes and follows them."""

    name: str
    source_id: int
    connector: Connector
    rules: TicketRules
    outbox: Outbox
    following: Following


class Cycle:
    """The steps of one pass, wired together."""

    def __init__(
        self,
        engine: Engine,
        library: Library,
        sources: Sequence[ReadSource],
        live: Sequence[LiveSource],
        ingest: Ingest,
        reconciling: Reconciling,
        judging: Judging,
        tickets: Tickets | None,
        guard: Guarding,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._library = library
        self._sources = sources
        self._live = live
        self._ingest = ingest
        self._reconciling = reconciling
        self._judging = judging
        self._tickets = tickets
        self._guard = guard
        self._clock = clock

    def run(
        self,
        now: int,
        learned_at: int,
        *,
        dry_run: bool,
        between: Callable[[], None],
        more: Callable[[str], Callable[[], bool]] = lambda name: lambda: True,
    ) -> CycleReport:
        """``now`` (ms) is what is judged as of; ``learned_at`` is stamped on what is said. ``between`` is called
        between units of committed work and may raise to stop. ``more`` begins the time in which the past of a source
        may be read and returns what tells whether it lasts."""
        with self._engine.begin() as connection:
            cycle_id = decided.begin_cycle(connection, now, self._clock())
        self._guard.begin_cycle()
        report = self._steps(now, learned_at, dry_run=dry_run, between=between, more=more)
        if not dry_run:
            with self._engine.begin() as connection:
                decided.end_cycle(connection, cycle_id, report.figures(), self._clock())
        return report

    def _steps(
        self,
        now: int,
        learned_at: int,
        *,
        dry_run: bool,
        between: Callable[[], None],
        more: Callable[[str], Callable[[], bool]],
    ) -> CycleReport:
        # What was decided before goes out first: a long read must not hold it up.
        outbox, followed = (None, None) if dry_run else self._tend(between)
        reports, reconciled = self._read(between, more)
        judgement = self._judging.run(now, learned_at, between=between)
        between()
        rules = None if self._tickets is None else self._tickets.rules
        step = Deciding(self._engine, self._library, self._live, rules, now)
        outcome = step.run(learned_at, dry_run=dry_run or self._guard.against(DATABASE) is not None)
        between()
        acted = None if dry_run else self.act()
        if outbox is not None and acted is not None:
            outbox = outbox.plus(acted)
        return CycleReport(
            tuple(reports),
            judgement,
            outcome.periods,
            outcome.opened,
            outcome.digests,
            outbox,
            outcome.before,
            outcome.off,
            tuple(reconciled),
            followed,
            self._guard.standing(),
        )

    def _read(
        self, between: Callable[[], None], more: Callable[[str], Callable[[], bool]]
    ) -> tuple[list[SourceReport], list[Run]]:
        """Polls every source before the past of any is read. A source that failed is left alone for this pass."""
        reports = []
        for source in self._sources:
            reports.append(self._ingest.poll(source))
            between()
        answered = [(s, read) for s, read in zip(self._sources, reports, strict=True) if read.problem is None]
        served = [source for source, _ in answered]
        for source, read in answered:
            self._ingest.backfill(source, read, more(source.name))
            between()
        reconciled = self._reconciling.go_on(served, RECONCILE_AT_ONCE)
        between()
        return reports, reconciled

    def _tend(self, between: Callable[[], None]) -> tuple[OutboxReport | None, FollowReport | None]:
        """Performs what was decided before and looks at our tickets, if the guard lets us; it is asked once for both.
        What another instance answers would say that our tickets are gone.
        """
        if self._tickets is None:
            return None, None
        outbox, following = self._tickets.outbox, self._tickets.following
        has_work, is_due = outbox.has_work(), following.is_due()
        problem = self._doubt(self._tickets) if has_work or is_due else None
        between()
        acted = self._perform(self._tickets, problem)
        between()
        if not is_due:
            return acted, None
        followed = FollowReport.without(problem) if problem else following.run()
        between()
        return acted, followed

    def act(self) -> OutboxReport | None:
        """Performs what was decided, as far as the guard lets it; ``None`` where no tickets are configured."""
        if self._tickets is None:
            return None
        return self._perform(self._tickets, self._doubt(self._tickets) if self._tickets.outbox.has_work() else None)

    @staticmethod
    def _perform(tickets: Tickets, problem: str | None) -> OutboxReport:
        return tickets.outbox.hold(problem) if problem else tickets.outbox.perform(tickets.rules.max_writes)

    def _doubt(self, tickets: Tickets) -> str | None:
        """Why nothing may be written now."""
        self._guard.check_file()
        try:
            objection = self._guard.against(DATABASE) or self._guard.admits(
                tickets.name, tickets.source_id, tickets.connector
            )
        except SourceError as error:
            return str(error)
        return objection.message if objection is not None else None
