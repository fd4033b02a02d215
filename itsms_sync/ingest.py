"""Reads a source into the store: a few pages, one transaction, their cursors with them, while the next ones come.

Owns polls, the reading of the past window by window, gaps and coverage records. A page that is not stored moves no
cursor, so whatever ends this process, the next poll asks again from the last stored page. Leaves to ``windows`` which
part of the past comes next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from itsms_sync import windows
from itsms_sync.clocks import reach, skew
from itsms_sync.connector import Connector, LoggedOut, Plugin, Refused, SourceError, Unavailable
from itsms_sync.guard import OTHER_INSTANCE, Objection
from itsms_sync.guarding import Guarding
from itsms_sync.records import Bounds, Facts, Gap, Identity, Millis, Page, Row, Window
from itsms_sync.store.coverage import UNREADABLE, WAITING, Span
from itsms_sync.store.ingested import Ingested

DIRECTORY_EVERY = 24 * 3600 * 1000
"""People and groups change slowly; they are read once a day (ms)."""

PAGES_AT_ONCE = 4
HELD_AT_MOST = 5_000
"""A page that came is not kept from the disk for longer than this while the next one is waited for (ms)."""

RECENT = 24 * 3600 * 1000
"""How much of the past the first poll of a kind reads, and after how long an absence what was missed is read as a
window of its own, so that the newest changes need not wait for it (ms)."""

ATTEMPTS = 5
"""After so many without a page a window is left as a hole, so that older ones go on."""

HOLES_EVERY = 24 * 3600 * 1000
"""How often a hole is tried again (ms)."""

P = ParamSpec("P")
T = TypeVar("T")
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
    limit: Millis | None = None
    """How far back the past is read; all of it without."""
    requests: Callable[[], int] = lambda: 0
    """How many requests were sent to the source so far."""
    window_rows: int = windows.WANTED
    """About so many rows are in a window of the past."""
    read_ahead: bool = True
    """Whether the next pages are read while the ones before are stored."""

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
    windows: int = 0
    """Windows of the past that were read to their end."""
    is_behind: bool = False
    """Whether there is more of the past to read."""
    gaps: list[Gap] = field(default_factory=list)
    streams: dict[str, int] = field(default_factory=dict)
    """Rows of each stream."""
    refused: set[str] = field(default_factory=set)
    """Kinds that the source did not serve at all."""
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
        source.ingested.begin_kind(kind, fields.names, self._clock())
        seen = report.skew
        try:
            head = self._head(source, kind, report.identity)
            back = reach(source.ingested.skew_of(kind), report.skew)
            window = replace(self._window(source, head), reach=back)
            pages = source.connector.pull(kind, window)
            if isinstance(pages, Gap):
                self._note(source, [pages], report)
            else:
                for _ in self._stored(source, _Pull(kind, window, head), pages, report):
                    pass
        except LoggedOut:
            raise  # it concerns every kind
        except Refused as error:
            report.refused.add(kind)
            self._note(source, [Gap(kind, "refused", str(error))], report)
            seen = None
        # Not reached when the source became unavailable or we were told to stop: the kind then stays unfinished, and
        # its cases are not judged on half of what there is to know.
        source.ingested.end_kind(kind, seen)
        source.ingested.windows.reopen(kind)

    def _window(self, source: ReadSource, span: Span) -> Window:
        asked = source.window(span.kind, source.ingested.windows.cursors(span))
        parked = source.ingested.parked() if span.end is None else {}
        return replace(asked, parked=parked, since=span.start, until=span.end)

    # --- the head

    def _head(self, source: ReadSource, kind: str, identity: Identity | None) -> Span:
        """The newest window of the kind, which goes on to now."""
        at, names, head = self._clock(), source.kinds[kind].names, source.ingested.windows.head(kind)
        now = at if identity is None or identity.server_time is None else identity.server_time
        covered = None if head is None else source.ingested.windows.covered_at(head)
        if head is None or (covered is None and not head.fields.issuperset(names)):
            return self._first_head(source, kind, now)
        if not head.fields.issuperset(names):
            assert covered is not None
            return self._head_with_more(source, head, covered)
        if covered is not None and now - covered > RECENT:
            missed = windows.minute(covered - source.overlap), windows.minute(now - source.overlap)
            return source.ingested.windows.part(head, names, missed[1], at, missed[0])
        return head

    def _first_head(self, source: ReadSource, kind: str, now: Millis) -> Span:
        """From a day ago, if there is anything older. Where that cannot be told all is read at once."""
        names = source.kinds[kind].names
        found = self._bounds(source, kind, None, None)
        recent = windows.minute(now - max(RECENT, source.overlap))
        if not isinstance(found, Bounds) or found.first >= recent:
            return source.ingested.windows.begin(kind, names, None, None, self._clock())
        return source.ingested.windows.begin(kind, names, recent, windows.minute(found.first), self._clock())

    def _head_with_more(self, source: ReadSource, head: Span, covered: Millis) -> Span:
        """A field that was not asked for before is asked for from now on, and then of the past, window by window."""
        names, at = source.kinds[head.kind].names, self._clock()
        found = self._bounds(source, head.kind, None, None)
        if isinstance(found, Gap):
            return source.ingested.windows.begin(head.kind, names, None, None, at)
        first = None if found is None else windows.minute(found.first)
        start = windows.minute(covered - source.overlap)
        return source.ingested.windows.part(
            head, names, start if head.start is None else max(start, head.start), at, first=first
        )

    def _bounds(self, source: ReadSource, kind: str, since: Millis | None, until: Millis | None) -> Bounds | Gap | None:
        return source.connector.bounds(kind, replace(source.window(kind, {}), since=since, until=until))

    # --- the past

    def backfill(self, source: ReadSource, report: SourceReport, more: Callable[[], bool]) -> None:
        """Reads the past, newest first, until there is no more of it or ``more`` says that it is enough for now. A
        window that is left in its middle goes on behind its last stored page.
        """
        try:
            span = self._next(source, report.refused)
            while span is not None and more():
                self._read_window(source, span, report, more)
                span = self._next(source, report.refused)
            report.is_behind = span is not None
            if span is None:
                self._reached(source, report)
        except Unavailable as error:
            report.problem, report.is_behind = f"unavailable: {error}", True
        except Refused as error:
            report.problem, report.is_behind = f"refused: {error}", True

    def _reached(self, source: ReadSource, report: SourceReport) -> None:
        """As far back as is wanted; what lies before that is told."""
        kinds = source.kinds.keys() - report.refused
        source.ingested.windows.past_is_read(kinds)
        for kind in sorted(kinds) if source.limit is not None else ():
            edge = windows.edge(source.ingested.windows.of(kind), source.kinds[kind].names)
            if source.limit is not None and edge is not None and edge.start == source.limit:
                day = datetime.fromtimestamp(source.limit / 1000, UTC).date()
                message = f"what happened to records of {kind} before {day} is not asked for: backfill.until says so"
                self._note(source, [Gap(kind, "before-limit", message, end=source.limit)], report)

    def _next(self, source: ReadSource, refused: Set[str]) -> Span | None:
        """The newest window that waits, or the one before the oldest; kinds go back in step, because cases consist of
        several.
        """
        spans = source.ingested.windows.all()
        of_kind = {kind: [span for span in spans if span.kind == kind] for kind in source.kinds.keys() - refused}
        waiting = [span for kind in of_kind for span in of_kind[kind] if span.state == WAITING]
        edges = [
            edge
            for kind, mine in of_kind.items()
            if not windows.is_over(mine, source.kinds[kind].names, source.limit)
            and (edge := windows.edge(mine, source.kinds[kind].names)) is not None
        ]
        newest = max(waiting, key=lambda span: span.end or 0, default=None)
        edge = max(edges, key=lambda span: span.start or 0, default=None)
        if edge is not None and (newest is None or (edge.start or 0) > (newest.end or 0)):
            return self._planned(source, of_kind[edge.kind], edge)
        if newest is None and source.ingested.windows.retry(self._clock() - HOLES_EVERY):
            return self._next(source, refused)
        return newest

    def _planned(self, source: ReadSource, spans: list[Span], edge: Span) -> Span:
        kind, names = edge.kind, source.kinds[edge.kind].names
        first, last = source.ingested.windows.first(kind), None
        if not edge.rows:  # nothing there: perhaps for long
            found = self._bounds(source, kind, None, edge.start)
            first, last = (found.first, found.last) if isinstance(found, Bounds) else (None, None)
        plan = windows.plan(spans, names, first, last, source.limit, source.window_rows)
        return source.ingested.windows.add(kind, names, plan.start, plan.end, plan.dense_until, self._clock())

    def _read_window(self, source: ReadSource, span: Span, report: SourceReport, more: Callable[[], bool]) -> None:
        kept, before, rows = source.ingested.windows, source.requests(), report.rows
        pages_before = report.pages
        try:
            window = self._window(source, span)
            pages = source.connector.pull(span.kind, window)
            if isinstance(pages, Gap):
                raise Refused(pages.message)
            for _ in self._stored(source, _Pull(span.kind, window, span), pages, report):
                seen = span.rows + report.rows - rows
                start = windows.shorter(span, seen, kept.first(span.kind), source.window_rows)
                if start is not None:
                    return kept.shrink(span, start)
                if not more():
                    return None
            kept.finished(span, self._clock())
            report.windows += 1
        except LoggedOut:
            raise  # nothing is wrong with this window
        except Refused as error:
            self._lose(source, span, str(error), report)
        except Unavailable as error:
            if report.pages > pages_before or kept.failed(span) < ATTEMPTS:
                raise
            self._lose(source, span, str(error), report)
        finally:
            kept.spent(span, source.requests() - before)
        return None

    def _lose(self, source: ReadSource, span: Span, why: str, report: SourceReport) -> None:
        """A hole in what was read, with its bounds; older windows go on, and it is tried again later."""
        source.ingested.windows.lost(span, self._clock())
        message = f"{span.kind} cannot be read in this window, which is tried again each day: {why}"
        self._note(source, [Gap(span.kind, UNREADABLE, message, span.start, span.end)], report)

    # --- single records

    def read_named(self, source: ReadSource, kind: str, ids: Sequence[str]) -> SourceReport:
        """Records that no poll has brought, with their histories. They are covered as named: that says nothing of
        windows, and moves no cursor. Raises what the connector raises.
        """
        report, window = SourceReport(source.name), source.window(kind, {})
        pages = source.connector.read(kind, window, ids)
        if isinstance(pages, Gap):
            self._note(source, [pages], report)
        else:
            named = (replace(page, closed=False, asked=f"by id, missed by polls: {page.asked}") for page in pages)
            for _ in self._stored(source, _Pull(kind, window), named, report):
                pass
        return report

    # --- pages

    def _stored(self, source: ReadSource, pull: "_Pull", pages: Iterator[Page], report: SourceReport) -> Iterator[None]:
        """Stores the pages, a few in each transaction, and comes back after each of these. Where the source is read
        ahead, the next ones are read meanwhile, by this thread, because only it can be interrupted; the other one never
        outlives this call. Pages that were read when the caller leaves are not stored.
        """
        with ThreadPoolExecutor(1, "store") if source.read_ahead else _InTurn() as writer:
            ahead: Future[None] | None = None
            try:
                for group in _groups(pages, self._clock):
                    if ahead is not None:
                        ahead.result()
                        yield
                    ahead = writer.submit(self._store_group, source, pull, group, report)
            finally:
                if ahead is not None:
                    ahead.result()
        if ahead is not None:
            yield
        if pull.span is not None and pull.span.end is None and pull.kind in pull.polls:
            with self._engine.begin() as connection:
                source.ingested.close_unasked(connection, pull.kind, pull.polls, self._clock())

    def _store_group(self, source: ReadSource, pull: "_Pull", group: list[Page], report: SourceReport) -> None:
        with self._engine.begin() as connection:
            for page in group:
                report.new_rows += self._store_page(connection, source, pull, page)
        for page in group:
            report.streams[page.stream] = report.streams.get(page.stream, 0) + len(page.rows)
            report.rows += len(page.rows)
            report.pages += 1
            report.gaps.extend(page.gaps)
            self._progress(source.name, page.stream, report.streams[page.stream])

    def _store_page(self, connection: Connection, source: ReadSource, pull: "_Pull", page: Page) -> int:
        """Returns how many of the rows were new."""
        at, span = self._clock(), pull.span
        new = source.ingested.new_rows(connection, page)
        if page.stream not in pull.polls:
            idle = page.closed and not new and not page.gaps
            pull.polls[page.stream] = source.ingested.begin_poll(connection, span, page, at, idle=idle)
        facts = self._facts(source, pull.kind, page, len(new), [row for row, _, _ in new])
        poll, window = pull.polls[page.stream], None if span is None else span.id
        source.ingested.store(connection, window, poll, pull.kind, page, new, facts, at)
        for reason, within in pull.made_good(page):
            source.ingested.close_gaps(connection, page.stream, reason, at, within)
        return len(new)

    @staticmethod
    def _facts(source: ReadSource, kind: str, page: Page, new: int, rows: list[Row]) -> Facts:
        """The facts in the new rows; most pages are new as a whole."""
        if new == len(page.rows):
            return page.facts
        return source.plugin.translate(kind, rows)

    def _note(self, source: ReadSource, gaps: list[Gap], report: SourceReport) -> None:
        report.gaps.extend(gaps)
        with self._engine.begin() as connection:
            source.ingested.note_gaps(connection, gaps, self._clock())
            source.ingested.border.flush(connection)


class _Pull:
    """One pull of one kind: in which window, without one of records by name; the coverage record of each stream, by
    its name; what the streams have said so far, and which gaps that closes.
    """

    def __init__(self, kind: str, window: Window, span: Span | None = None) -> None:
        self.kind = kind
        self.span = span
        self.polls: dict[str, int] = {}
        self._window = window
        self._reasons: dict[str, set[str]] = {}

    def made_good(self, page: Page) -> list[tuple[str, tuple[Millis | None, Millis | None]]]:
        """Reasons that no longer hold once the page's window is read to its end, each with the time in which. That rows
        are hidden is seen only by a window that could have shown them: one that is read from its beginning."""
        reasons = self._reasons.setdefault(page.stream, set())
        reasons.update(gap.reason for gap in page.gaps if gap.record is None and gap.field is None)
        if not page.closed:
            return []
        readable = [(reason, (None, None)) for reason in ("refused", "not-served", "not-asked")]
        hidden = ("rows-hidden", (self._window.since, self._window.until))
        whole = [] if self._window.cursors.get(page.stream) else [hidden]
        return [good for good in (*readable, *whole) if good[0] not in reasons]


class _InTurn(Executor):
    """Does what it is given at once, in this thread."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


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
