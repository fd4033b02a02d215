"""Compares what a source shows with what is stored, by id: what vanished, what polls missed, what is back again.

Polls follow stamps. A deleted record has none any more, a row that was dated back has a wrong one, and a script may
write without touching it. So each kind is compared as a whole from time to time, and more often the records that are
still open. A record that is not shown gets a tombstone only when a complete enumeration did not have it **and** the
source was asked for it by id; what polls missed is read by id with its history.

Owns which comparison is due, its progress (every piece of work is committed, so it goes on where it stood) and the
doubt: a view that shows nothing, or lacks too much without proof, concludes nothing and asks for a person.
Leaves to the connector how a source enumerates and what it tells of a vanished record, to ``store`` all that is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine

from itsms_sync.connector import LoggedOut, Refused, Unavailable
from itsms_sync.ingest import Clock, Ingest, Progress, ReadSource
from itsms_sync.records import Fate, Gap, Millis, Presence, Record, What
from itsms_sync.store import reconciled
from itsms_sync.store.coverage import covers, kind_covered
from itsms_sync.store.reconciled import COMPARING, CONCLUDING, DONE, STOPPED, Run, StoredState
from itsms_sync.store.tombstones import MISSED, bury, note, raise_up

ALL, OPEN = "all", "open"
RECENT = 62 * 24 * 3600 * 1000
"""Besides open records those count as open ones that changed since: the running and the former month (ms)."""
MOST_DOUBTFUL = 0.05
LEAST_DOUBTFUL = 20
"""More records than this, and than this share of the kind, do not vanish in one comparison without proof: then the
account has lost a right, or an index is broken, until a person says otherwise."""
ASKED_AT_ONCE = 100
_MASS = "vanished"
"""Reason of the gap that is open until a comparison comes to its end."""
_OLDER = "older-than-known"
_SEEN_AS_A_WHOLE = ("rows-hidden", _OLDER)
"""Reasons that a comparison of all records closes, if it does not meet them."""

Seconds = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often each kind is compared (ms)."""

    open_every: int
    all_every: int


class Reconciling:
    """Comparisons of all sources that are read. ``monotonic`` bounds one piece of work."""

    def __init__(
        self, engine: Engine, ingest: Ingest, cadence: Cadence, clock: Clock, monotonic: Seconds, progress: Progress
    ) -> None:
        self._engine = engine
        self._ingest = ingest
        self._cadence = cadence
        self._clock = clock
        self._monotonic = monotonic
        self._progress = progress

    def go_on(self, sources: Sequence[ReadSource], seconds: float) -> list[Run]:
        """Works on what is due, for about so many seconds; the next call goes on where this one stood."""
        until = self._monotonic() + seconds
        worked: list[Run] = []
        for source in sources:
            for kind in source.kinds:
                extent = self._due(source, kind)
                if extent is not None and self._monotonic() < until:
                    worked.append(self.run(source, kind, extent, until=until))
        return worked

    def _due(self, source: ReadSource, kind: str) -> str | None:
        """What is unfinished, else whichever extent is due, the larger one first."""
        source_id, now = source.ingested.source_id, self._clock()
        with self._engine.begin() as connection:
            unfinished = reconciled.running(connection, source_id, kind)
            if unfinished is not None:
                return unfinished.extent
            for extent, counted, every in (
                (ALL, (ALL,), self._cadence.all_every),
                (OPEN, (ALL, OPEN), self._cadence.open_every),
            ):
                begun = reconciled.begun_at(connection, source_id, kind, counted)
                if begun is not None and now - begun >= every:
                    return extent
        return None

    def run(
        self, source: ReadSource, kind: str, extent: str, *, until: float | None = None, believe: bool = False
    ) -> Run:
        """Goes on with the comparison of the kind, or begins one, to its end or until ``until``. ``believe``: a person
        says that what is not shown is gone, however much it is. Raises nothing: what failed is the run's problem.
        """
        with self._engine.begin() as connection:
            now, source_id = self._clock(), source.ingested.source_id
            run = reconciled.running(connection, source_id, kind)
            if run is not None and run.extent != extent:
                reconciled.keep(connection, run._replace(state=STOPPED, problem="another extent was asked for"), now)
                run = None
            if run is None:
                run = reconciled.begin(connection, source_id, kind, extent, now - RECENT, now)
        work = _Work(self._engine, self._ingest, source, self._clock, run, self._progress, believe=believe)
        try:
            work.go_on(lambda: until is not None and self._monotonic() >= until)
        except Unavailable as error:
            work.fail(f"unavailable: {error}", work.run.state)
        except LoggedOut as error:
            work.fail(f"refused: {error}", work.run.state)  # with another secret it goes on
        except Refused as error:
            work.fail(f"refused: {error}", STOPPED)
        return work.run


class _Work:
    """One comparison at work."""

    def __init__(
        self,
        engine: Engine,
        ingest: Ingest,
        source: ReadSource,
        clock: Clock,
        run: Run,
        progress: Progress,
        *,
        believe: bool,
    ) -> None:
        self._engine = engine
        self._ingest = ingest
        self._source = source
        self._clock = clock
        self._progress = progress
        self._believe = believe
        self.run = run

    def go_on(self, spent: Callable[[], bool]) -> None:
        """Page by page, each committed; ``spent`` tells when to leave the rest for another time."""
        self._check_instance()
        if self.run.extent == ALL and self.run.state == COMPARING:
            self._compare(spent)
        elif self.run.state == COMPARING:
            self._turn(CONCLUDING, cursor="")
        if self.run.state == CONCLUDING:
            self._conclude(spent)

    def fail(self, problem: str, state: str) -> None:
        self._turn(state, problem=problem)

    def _turn(self, state: str, **changed: Any) -> None:
        with self._engine.begin() as connection:
            self._keep(connection, state=state, **changed)

    def _keep(self, connection: Connection, **changed: Any) -> None:
        self.run = self.run._replace(**changed)
        self._source.ingested.border.flush(connection)
        reconciled.keep(connection, self.run, self._clock())

    def _check_instance(self) -> None:
        """Raises ``Refused`` if another instance answers: it cannot miss what it never had."""
        objection = self._ingest.admits(self._source)
        if objection is not None:
            raise Refused(objection.message)

    # --- what is shown

    def _compare(self, spent: Callable[[], bool]) -> None:
        kind = self.run.kind
        pages = self._source.connector.present(kind, self._source.window(kind, {}), self.run.cursor)
        if isinstance(pages, Gap):
            self._note_gaps([pages])
            self._turn(DONE, problem=pages.message)
            return
        for page in pages:
            before = self.run.cursor
            self._take(page)
            if page.closed:
                self._shown()
                return
            # Left only where the next piece of work begins further on, or the last page would never be reached.
            if spent() and self.run.cursor != before:
                return

    def _take(self, page: Presence) -> None:
        """What was missed is read before the page counts as compared."""
        missed = self._missed(page.records, page.server_time)
        self._note_gaps(page.gaps)
        known = self._states(page.records)
        with self._engine.begin() as connection:
            ids = [state.id for state in known.values()]
            raise_up(connection, ids, self._clock(), self.run.id)
            reconciled.note_seen(connection, self._engine, self.run, ids)
            self._keep(
                connection,
                cursor=page.cursor,
                seen=self.run.seen + len(page.records),
                missed=self.run.missed + missed,
                problem=None,
            )
        self._tell(self.run.seen)

    def _tell(self, number: int) -> None:
        self._progress(self._source.name, f"{self.run.kind}, {self.run.state}", number)

    def _shown(self) -> None:
        """All that is shown was seen."""
        if not self._shows_nothing():
            self._turn(CONCLUDING, cursor="")

    def _states(self, records: Sequence[Record]) -> dict[str, StoredState]:
        with self._engine.begin() as connection:
            ids = [record.id for record in records]
            return reconciled.states(connection, self._source.ingested.source_id, self.run.kind, ids)

    def _missed(self, records: Sequence[Record], server_time: Millis | None) -> int:
        """Reads those of the records that are not stored as they stand; returns how many there were. What changed
        within the overlap is left to the polls.
        """
        self._source.ingested.border.drop_texts()  # a text is stored with the row that refers to it
        now = self._clock() if server_time is None else server_time
        known, settled = self._states(records), now - self._source.overlap
        lacking = {one.id: one for one in self._read_by_now(records) if is_missed(one, known.get(one.id), settled)}
        self._note_older([one for one in records if is_older(one, known.get(one.id))])
        if not lacking:
            return 0
        self._ingest.read_named(self._source, self.run.kind, list(lacking))
        states = self._states(list(lacking.values()))
        found = [
            (state.id, MISSED, _how(known.get(id_), lacking[id_]), None, lacking[id_].updated)
            for id_, state in states.items()
        ]
        delay = max((now - one.updated for one in lacking.values()), default=0)
        with self._engine.begin() as connection:
            note(connection, found, self._clock(), self.run.id)
            self._keep(connection, delay=max(self.run.delay, delay))
        return len(found)

    def _read_by_now(self, records: Sequence[Record]) -> list[Record]:
        """Those whose last update lies where the past was read; the others are still to come, or are not asked for."""
        with self._engine.begin() as connection:
            spans = kind_covered(connection, self._source.ingested.source_id, self.run.kind)
        return [one for one in records if covers(spans, one.updated, one.updated)]

    def _note_older(self, older: Sequence[Record]) -> None:
        if older:
            message = (
                f"the source shows {older[0].label} and perhaps others in an older state than was read before: it was "
                "restored from a backup, or a script dates saves back. The newer state stays"
            )
            self._note_gaps([Gap(self.run.kind, _OLDER, message)])

    # --- what is not shown

    def _conclude(self, spent: Callable[[], bool]) -> None:
        """Asks for each record that has to be there and was not seen."""
        while True:
            with self._engine.begin() as connection:
                lacking = reconciled.owed(connection, self.run, int(self.run.cursor or 0), ASKED_AT_ONCE)
            if not lacking:
                if not self._shows_nothing():
                    self._end()
                return
            if not self._ask(lacking) or spent():
                return

    def _ask(self, lacking: Sequence[StoredState]) -> bool:
        """Whether to go on."""
        kind, ids = self.run.kind, [state.native_id for state in lacking]
        fates = self._source.connector.fate(kind, ids, self._source.window(kind, {}))
        if isinstance(fates, Gap):
            self._note_gaps([fates])
            self._turn(DONE, problem=fates.message)
            return False
        told = {state.id: fate for state, fate in zip(lacking, fates, strict=True)}
        present = [fate.record for fate in fates if fate.record is not None]
        missed = self._missed(present, None)
        proven = [(id_, fate) for id_, fate in told.items() if fate.what not in (What.PRESENT, What.UNREADABLE)]
        doubts = [(id_, fate.note) for id_, fate in told.items() if fate.what == What.UNREADABLE]
        seen = self.run.seen + (len(present) if self.run.extent == OPEN else 0)
        with self._engine.begin() as connection:
            buried = bury(connection, proven, self._clock(), self.run.id)
            reconciled.note_doubts(connection, self._engine, self.run, doubts)
            self._keep(
                connection,
                cursor=str(lacking[-1].id),
                seen=seen,
                missed=self.run.missed + missed,
                gone=self.run.gone + buried,
                doubtful=self.run.doubtful + len(doubts),
                problem=None,
            )
        self._tell(self.run.gone + self.run.doubtful)
        return not self._is_too_much()

    def _shows_nothing(self) -> bool:
        """Stops the run if nothing came of what has to be there: such a view concludes nothing."""
        if self._believe or self.run.seen or self.run.gone == self.run.known:
            return False
        self._stop(
            f"{self.run.kind}: nothing is shown of {self.run.known:,} records that were read before. The account has "
            "lost the right to see them, or all were deleted"
        )
        return True

    def _is_too_much(self) -> bool:
        """Stops the run if more is missing than ever vanishes without a trace."""
        most = max(LEAST_DOUBTFUL, MOST_DOUBTFUL * self.run.known)
        if self._believe or self.run.doubtful <= most:
            return False
        self._stop(
            f"{self.run.kind}: at least {self.run.doubtful:,} of {self.run.known:,} records are not shown any more, "
            "and nothing proves that they were deleted. The account has lost the right to see them, or they are gone"
        )
        return True

    def _stop(self, what: str) -> None:
        message = (
            f"{what}. Nothing is concluded: check the rights of the account. If they are gone, run `itsms-sync "
            f"reconcile --source {self._source.name} --kind {self.run.kind} --all --believe`"
        )
        self._note_gaps([Gap(self.run.kind, _MASS, message)])
        self._turn(STOPPED, problem=message)

    def _end(self) -> None:
        with self._engine.begin() as connection:
            gone = self.run.gone
            for piece in reconciled.doubts(connection, self.run):
                unreadable = [(id_, Fate("", What.UNREADABLE.value, doubt)) for id_, doubt in piece]
                gone += bury(connection, unreadable, self._clock(), self.run.id)
            for reason in (_MASS, *self._made_good()):
                self._source.ingested.close_gaps(connection, self.run.kind, reason, self._clock())
            self._keep(connection, state=DONE, gone=gone, problem=None)

    def _made_good(self) -> list[str]:
        met = self.run.gaps.split(",")
        return [reason for reason in _SEEN_AS_A_WHOLE if self.run.extent == ALL and reason not in met]

    def _note_gaps(self, gaps: Sequence[Gap]) -> None:
        if gaps:
            met = {*filter(None, self.run.gaps.split(",")), *(gap.reason for gap in gaps)}
            self.run = self.run._replace(gaps=",".join(sorted(met)))  # stored with the page
            with self._engine.begin() as connection:
                self._source.ingested.note_gaps(connection, gaps, self._clock())


def is_missed(shown: Record, known: StoredState | None, settled: Millis) -> bool:
    """Whether the record is not stored as the source shows it, although polls had the time for it. A write that keeps
    stamp and counter is told by values only.
    """
    if shown.updated == 0 or shown.updated > settled:
        return False
    if known is None or known.updated is None:
        return True
    if shown.updated > known.updated or _saves(shown.version) > _saves(known.version):
        return True
    same = (shown.updated, _saves(shown.version)) == (known.updated, _saves(known.version))
    return same and (shown.label != known.label or _differ(shown.fields, known.fields))


def is_older(shown: Record, known: StoredState | None) -> bool:
    """Whether the source's own counter of saves says that we know a later state."""
    return known is not None and known.version is not None and _saves(shown.version) < known.version


def _saves(version: int | None) -> int:
    return -1 if version is None else version


def _differ(shown: Mapping[str, str | None], known: Mapping[str, str | None]) -> bool:
    return any(known[name] != value for name, value in shown.items() if name in known)


def _how(known: StoredState | None, shown: Record) -> str:
    if known is None or known.updated is None:
        return "no poll has brought it; reconciliation found it"
    if shown.updated == known.updated and shown.version == known.version:
        return "it was written without a new stamp; reconciliation found it"
    return "no poll has brought this state of it; reconciliation found it"
