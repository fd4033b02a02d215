"""Reads a source into the store: a few pages, one transaction, their cursors with them.

Owns windows, gaps and coverage records. A page that is not stored moves no cursor, so whatever ends this process, the
next poll asks again from the last stored page.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, Engine

from itsms_sync.clocks import reach, skew
from itsms_sync.connector import Connector, LoggedOut, Plugin, Refused, SourceError, Unavailable
from itsms_sync.guard import OTHER_INSTANCE, Objection
from itsms_sync.guarding import Guarding
from itsms_sync.records import Facts, Gap, Identity, Millis, Page, Row, Window
from itsms_sync.store.ingested import Ingested

DIRECTORY_EVERY = 24 * 3600 * 1000
"""People and groups change slowly; they are read once a day (ms)."""

PAGES_AT_ONCE = 4
HELD_AT_MOST = 5_000
"""A page that came is not kept from the disk for longer than this while the next one is waited for (ms)."""

Clock = Callable[[], int]
"""Milliseconds since 1970-01-01T00:00Z."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that mappings and checks name, and which of them hold persons and free text."""

    names: tuple[str, ...]
    persons: frozenset[str]
    texts: frozenset[str]


@dataclass(frozen=True, slots=True)
class ReadSource:
    """A source as the ingestion needs it."""

    name: str
    connector: Connector
    plugin: Plugin
    ingested: Ingested
    kinds: Mapping[str, "Fields"]
    """Kind of record -> what of it is asked for."""
    overlap: int
    page_size: int

    def window(self, kind: str, cursors: Mapping[str, str]) -> Window:
        """What is asked for of the kind."""
        fields = self.kinds[kind]
        return Window(fields.names, cursors, self.overlap, self.page_size, fields.persons, fields.texts)


@dataclass(slots=True)
class SourceReport:
    """What one poll of a source brought."""

    name: str
    identity: Identity | None = None
    rows: int = 0
    new_rows: int = 0
    pages: int = 0
    gaps: list[Gap] = field(default_factory=list)
    problem: str | None = None
    """Why the poll could not be finished, for the operator."""
    skew: Millis | None = None
    """By how much the source's clock is ahead of ours, at least (ms); ``None`` if it told none."""


Progress = Callable[[str, str, int], None]
"""Called after each page: source, stream, rows so far in this poll."""


class Ingest:
    """Polls sources."""

    def __init__(self, engine: Engine, clock: Clock, progress: Progress, guard: Guarding) -> None:
        self._engine = engine
        self._guard = guard
        self._clock = clock
        self._progress = progress

    def poll(self, source: ReadSource) -> SourceReport:
        """One poll of every kind. A source that cannot serve ends its own poll only; what it gave is kept."""
        report = SourceReport(source.name)
        try:
            objection = self._identify(source, report)
            if objection is None:
                self._read(source, report)
            else:
                report.problem = f"{objection.reason}: {objection.message}"
        except Unavailable as error:
            report.problem = f"unavailable: {error}"
        except Refused as error:
            report.problem = f"refused: {error}"
        if report.problem is not None:
            self._note(source, [Gap("source", report.problem.split(":")[0], report.problem)], report)
        else:
            self._serves_again(source)
        return report

    def _read(self, source: ReadSource, report: SourceReport) -> None:
        self._read_directory(source, report)
        for kind, fields in source.kinds.items():
            self._read_kind(source, kind, fields, report)

    def _identify(self, source: ReadSource, report: SourceReport) -> Objection | None:
        """Who answers, what time it is there, and whether it is still the source whose history we have."""
        before = self._clock()
        report.identity = source.connector.identify()
        now = self._clock()
        report.skew = skew(report.identity.server_time, before, now)
        objection = self._guard.answered(source.name, source.ingested.source_id, report.identity)
        if objection is None:
            source.ingested.identified(report.identity, report.skew, now)
        return objection

    def admits(self, source: ReadSource) -> Objection | None:
        """Asks the source who it is before anything is concluded from what it shows."""
        return self._guard.admits(source.name, source.ingested.source_id, source.connector)

    def _serves_again(self, source: ReadSource) -> None:
        with self._engine.begin() as connection:
            for reason in ("unavailable", "refused", OTHER_INSTANCE):
                source.ingested.close_gaps(connection, "source", reason, self._clock())

    def _read_directory(self, source: ReadSource, report: SourceReport) -> None:
        read_at = source.ingested.stored().directory_at
        if read_at is not None and 0 <= self._clock() - read_at < DIRECTORY_EVERY:
            return
        directory = source.connector.directory()
        if isinstance(directory, Gap):
            self._note(source, [directory], report)
            return
        source.ingested.store_directory(directory, self._clock())
        report.gaps.extend(directory.gaps)
        gaps = [*directory.gaps]
        for kind in source.kinds:
            configuration = source.connector.configuration(kind)
            if isinstance(configuration, Gap):
                self._note(source, [configuration], report)
                gaps.append(configuration)
            else:
                source.ingested.store_configuration(kind, configuration, self._clock())
                gaps.extend(configuration.gaps)
        source.ingested.close_reference_gaps(source.kinds, gaps, self._clock())
        source.ingested.directory_read(self._clock())

    def _read_kind(self, source: ReadSource, kind: str, fields: Fields, report: SourceReport) -> None:
        cursors = source.ingested.begin_kind(kind, fields.names, self._clock())
        window = replace(
            source.window(kind, cursors),
            parked=source.ingested.parked(),
            reach=reach(source.ingested.skew_of(kind), report.skew),
        )
        seen = report.skew
        try:
            pages = source.connector.pull(kind, window)
            if isinstance(pages, Gap):
                self._note(source, [pages], report)
            else:
                self._store_pages(source, kind, pages, report, _Told(cursors))
        except LoggedOut:
            raise  # it concerns every kind
        except Refused as error:
            self._note(source, [Gap(kind, "refused", str(error))], report)
            seen = None
        # Not reached when the source became unavailable or we were told to stop: the kind then stays unfinished, and
        # its cases are not judged on half of what there is to know.
        source.ingested.end_kind(kind, seen)

    def read_named(self, source: ReadSource, kind: str, ids: Sequence[str]) -> SourceReport:
        """Records that no poll has brought, with their histories. They are covered as named: that says nothing of
        windows, and moves no cursor. Raises what the connector raises.
        """
        report = SourceReport(source.name)
        pages = source.connector.read(kind, source.window(kind, {}), ids)
        if isinstance(pages, Gap):
            self._note(source, [pages], report)
        else:
            named = (replace(page, closed=False, asked=f"by id, missed by polls: {page.asked}") for page in pages)
            self._store_pages(source, kind, named, report, None)
        return report

    def _store_pages(
        self, source: ReadSource, kind: str, pages: Iterator[Page], report: SourceReport, told: "_Told | None"
    ) -> None:
        polls: dict[str, int] = {}
        rows: dict[str, int] = {}
        for group in _groups(pages, self._clock):
            with self._engine.begin() as connection:
                for page in group:
                    report.new_rows += self._store_page(connection, source, kind, page, polls, told)
            for page in group:
                rows[page.stream] = rows.get(page.stream, 0) + len(page.rows)
                report.rows += len(page.rows)
                report.pages += 1
                report.gaps.extend(page.gaps)
                self._progress(source.name, page.stream, rows[page.stream])
        if kind in polls and told is not None:
            with self._engine.begin() as connection:
                source.ingested.close_unasked(connection, kind, polls, self._clock())

    def _store_page(
        self,
        connection: Connection,
        source: ReadSource,
        kind: str,
        page: Page,
        polls: dict[str, int],
        told: "_Told | None",
    ) -> int:
        """Returns how many of the rows were new. Without ``told`` the page is of named records."""
        at = self._clock()
        if page.stream not in polls:
            polls[page.stream] = source.ingested.begin_poll(connection, page, at, named=told is None)
        new = source.ingested.new_rows(connection, page)
        facts = self._facts(source, kind, page, len(new), [row for row, _, _ in new])
        source.ingested.store(connection, polls[page.stream], kind, page, new, facts, at, moving=told is not None)
        for reason in told.made_good(page) if told is not None else ():
            source.ingested.close_gaps(connection, page.stream, reason, at)
        return len(new)

    @staticmethod
    def _facts(source: ReadSource, kind: str, page: Page, new: int, rows: list[Row]) -> Facts:
        """The facts in the new rows; most pages are new as a whole, and the connector has translated those already."""
        if new == len(page.rows):
            return Facts(page.records, page.events, page.gone)
        return source.plugin.translate(kind, rows)

    def _note(self, source: ReadSource, gaps: list[Gap], report: SourceReport) -> None:
        report.gaps.extend(gaps)
        with self._engine.begin() as connection:
            source.ingested.note_gaps(connection, gaps, self._clock())
            source.ingested.border.flush(connection)


class _Told:
    """What one pull has said of its streams so far, and which gaps that closes."""

    def __init__(self, cursors: Mapping[str, str]) -> None:
        self._cursors = cursors
        self._reasons: dict[str, set[str]] = {}

    def made_good(self, page: Page) -> list[str]:
        """Reasons that no longer hold once the page's window is read to its end. That rows are hidden is seen only by
        a window that could have shown them: one from the stream's beginning."""
        reasons = self._reasons.setdefault(page.stream, set())
        reasons.update(gap.reason for gap in page.gaps if gap.record is None and gap.field is None)
        if not page.closed:
            return []
        whole = () if self._cursors.get(page.stream) else ("rows-hidden",)
        return [reason for reason in ("refused", "not-served", "not-asked", *whole) if reason not in reasons]


def _groups(pages: Iterator[Page], clock: Clock) -> Iterator[list[Page]]:
    """Pages that share a transaction: a few, so that a backfill waits less for the disk, and none for long."""
    group: list[Page] = []
    since = 0
    try:
        for page in pages:
            since = since if group else clock()
            group.append(page)
            if len(group) >= PAGES_AT_ONCE or clock() - since >= HELD_AT_MOST:
                yield group
                group = []
    except SourceError:
        if group:
            yield group
        raise
    if group:
        yield group
