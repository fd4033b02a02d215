"""Follows our tickets: reads what people did to them, notes it, and has commented what a person has to know.

Each pass asks the target once for what changed among the tickets that our account created. Once a day, and after an
outcome that was unclear, it looks through all of them: what is gone, what is there twice, and what is there that the
database knows nothing of. Nothing is concluded from a look that did not come to its end. Sends nothing: what is to be
said becomes intents.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine

from itsms_sync.connector import Connector, SourceError
from itsms_sync.corrective.following import Swept, of_twins, swept, unassigned
from itsms_sync.corrective.texts import Texts
from itsms_sync.outbox import DAY, SWEEP_DUE, pack, seen_as
from itsms_sync.records import Gap, Gone, Ticket
from itsms_sync.store import outgoing
from itsms_sync.store.decided import add_intent
from itsms_sync.store.outgoing import Unexpected

OVERLAP = 600_000
"""How far each look reaches back before the newest change that was seen, besides the index's lag (ms)."""


@dataclass(slots=True)
class FollowReport:
    """What was noticed; labels of tickets."""

    closed: list[str]
    opened_again: list[str]
    moved: list[str]
    gone: list[str]
    twins: list[str]
    """Open tickets that carry the key of another one."""
    strays: list[str]
    """Open tickets of ours that this database knows nothing of."""
    swept: bool = False
    """Whether all tickets were looked through in this pass."""
    problem: str | None = None

    @staticmethod
    def empty() -> "FollowReport":
        return FollowReport([], [], [], [], [], [])

    @staticmethod
    def without(problem: str) -> "FollowReport":
        """Nothing was looked at, for the given reason."""
        report = FollowReport.empty()
        report.problem = problem
        return report

    def figures(self) -> dict[str, Any]:
        """For machines."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Following:
    """Our tickets on one target."""

    def __init__(
        self, engine: Engine, target: str, connector: Connector, texts: Texts, clock: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._target = target
        self._connector = connector
        self._texts = texts
        self._clock = clock

    def is_due(self) -> bool:
        """Whether there is anything to ask the target for: a ticket that is known, or a doubt."""
        with self._engine.begin() as connection:
            known = outgoing.tickets_of(connection, self._target)
        return bool(known) or self._is_sweep_due()

    def run(self) -> FollowReport:
        """One look. A target that does not answer is told and stops nothing."""
        report = FollowReport.empty()
        try:
            if self._is_sweep_due():
                self._sweep(report)
            else:
                self._look(report)
        except SourceError as error:
            report.problem = f"our tickets could not be followed: {error}"
        self._tell_unassigned()
        self._count(report)
        return report

    # --- looks

    def _is_sweep_due(self) -> bool:
        with self._engine.begin() as connection:
            last = outgoing.mark(connection, f"swept {self._target}")
            doubt = outgoing.mark(connection, SWEEP_DUE)
        # A clock that was set back must not put the next one off.
        return doubt is not None or last is None or not 0 <= self._clock() - last < DAY

    def _look(self, report: FollowReport) -> None:
        """What changed since the newest change that was seen, by the target's clock."""
        with self._engine.begin() as connection:
            known = {row.native_id: row for row in outgoing.tickets_of(connection, self._target)}
            newest = outgoing.mark(connection, f"followed {self._target}")
        if not known:
            return
        since = None if newest is None else newest - OVERLAP - int(self._connector.index_lag * 1000)
        self._note([one for one in self._ours(since) if one.id in known], known, report)

    def _sweep(self, report: FollowReport) -> None:
        began = self._clock()
        found = self._ours(None)
        with self._engine.begin() as connection:
            known = {row.native_id: row for row in outgoing.tickets_of(connection, self._target)}
        ids = {one.id for one in found}
        for id_, row in known.items():
            if id_ not in ids:
                self._look_at_missing(row, report)
        self._note([one for one in found if one.id in known], known, report)
        with self._engine.begin() as connection:
            decided = outgoing.decided_keys(connection)
            result = swept(found, {id_: row.key for id_, row in known.items()}, decided)
            outgoing.keep_unexpected(connection, self._target, _unexpected(result), began)
            self._tell_twins(connection, result)
            outgoing.set_mark(connection, f"swept {self._target}", began)
            outgoing.set_mark(connection, SWEEP_DUE, None)
        report.swept = True

    def _ours(self, since: int | None) -> list[Ticket]:
        found = self._connector.ours(since)
        if isinstance(found, Gap):
            raise SourceError(found.message)
        return list(found)

    def _look_at_missing(self, row: Any, report: FollowReport) -> None:
        """A ticket that the list lacks: people may have moved it, search may lag, or it is gone."""
        now = self._connector.ticket(row.native_id)
        if isinstance(now, Ticket):
            self._note([now], {row.native_id: row}, report)
        elif isinstance(now, Gone) and row.gone != now.reason:
            values = {"gone": now.reason, "gone_at": self._clock(), "gone_message": now.message}
            with self._engine.begin() as connection:
                outgoing.change_ticket(connection, self._target, row.key, values)
            report.gone.append(row.label)

    # --- what is noted

    def _note(self, found: list[Ticket], known: dict[str, Any], report: FollowReport) -> None:
        for one in found:
            row = known[one.id]
            with self._engine.begin() as connection:
                outgoing.change_ticket(connection, self._target, row.key, seen_as(one, row, self._clock()))
            if one.done != row.done:
                (report.closed if one.done else report.opened_again).append(one.label)
            if row.place is not None and (one.place, one.label) != (row.place, row.label):
                report.moved.append(f"{row.label} -> {one.label}")
        newest = max((one.updated for one in found if one.updated is not None), default=None)
        with self._engine.begin() as connection:
            before = outgoing.mark(connection, f"followed {self._target}")
            if newest is not None and (before is None or newest > before):
                outgoing.set_mark(connection, f"followed {self._target}", newest)

    def _tell_unassigned(self) -> None:
        with self._engine.begin() as connection:
            for row in outgoing.tickets_of(connection, self._target):
                if row.unassigned and row.gone is None:
                    write = unassigned(row.key, self._texts.unassigned)
                    add_intent(connection, pack(write), self._target, self._clock())

    def _tell_twins(self, connection: Connection, result: Swept) -> None:
        for pair in result.twins:
            for write in of_twins(pair, self._texts.twin):
                add_intent(connection, pack(write), self._target, self._clock())

    def _count(self, report: FollowReport) -> None:
        with self._engine.begin() as connection:
            rows = [row for row in outgoing.unexpected(connection, self._target) if not row.done]
        report.twins = [row.label for row in rows if row.what == "twin"]
        report.strays = [row.label for row in rows if row.what == "stray"]


def _unexpected(result: Swept) -> list[Unexpected]:
    twins = [(pair.twin, pair.key, "twin") for pair in result.twins]
    return [
        Unexpected(one.id, key, one.label, one.url, one.state, one.done, what)
        for one, key, what in (*twins, *((stray, stray.key, "stray") for stray in result.strays))
    ]
