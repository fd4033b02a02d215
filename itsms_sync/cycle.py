"""One pass: pull, map, check, decide, act. Returns a frozen report and prints nothing.

Each step is committed before the next begins, so a pass that is cut off anywhere is finished by the next one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from itsms_sync.corrective.figures import Share
from itsms_sync.deciding import Deciding, LiveSource, Opened, TicketRules
from itsms_sync.ingest import Ingest, ReadSource, SourceReport
from itsms_sync.judging import JudgementReport, Judging
from itsms_sync.outbox import Outbox, OutboxReport
from itsms_sync.procedures.library import Library
from itsms_sync.records import Write


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


class Cycle:
    """The steps of one pass, wired together."""

    def __init__(
        self,
        engine: Engine,
        library: Library,
        sources: Sequence[ReadSource],
        live: Sequence[LiveSource],
        ingest: Ingest,
        judging: Judging,
        outbox: Outbox | None,
        rules: TicketRules | None,
    ) -> None:
        self._engine = engine
        self._library = library
        self._sources = sources
        self._live = live
        self._ingest = ingest
        self._judging = judging
        self._outbox = outbox
        self._rules = rules

    def run(self, now: int, learned_at: int, *, dry_run: bool, between: Callable[[], None]) -> CycleReport:
        """``now`` (ms) is what is judged as of; ``learned_at`` is stamped on what is said. ``between`` is called
        between units of committed work and may raise to stop."""
        reports = []
        for source in self._sources:
            reports.append(self._ingest.poll(source))
            between()
        judgement = self._judging.run(now, learned_at, between=between)
        between()
        step = Deciding(self._engine, self._library, self._live, self._rules, now)
        outcome = step.run(learned_at, dry_run=dry_run)
        between()
        outbox = None
        if self._outbox is not None and self._rules is not None and not dry_run:
            outbox = self._outbox.perform(self._rules.max_writes)
        return CycleReport(
            tuple(reports),
            judgement,
            outcome.periods,
            outcome.opened,
            outcome.digests,
            outbox,
            outcome.before,
            outcome.off,
        )
