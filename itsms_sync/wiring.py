"""The composition root: settings and documents become a ready daemon.

The only place that makes a clock, a sleep and a stop and opens the database; everything else is handed what it needs.
"""

import gc
import hashlib
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from itsms_sync.configuration import Configuration
from itsms_sync.plugins import plugin

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from itsms_sync.connector import Access, Connector, Plugin
    from itsms_sync.cycle import Cycle, CycleReport, Tickets
    from itsms_sync.guarding import Guarding
    from itsms_sync.http import Http, Limits, Stop, Transport
    from itsms_sync.ingest import Clock, Fields, Ingest, Progress, ReadSource, SourceReport
    from itsms_sync.judging import Judging
    from itsms_sync.outbox import Outbox, Uptime
    from itsms_sync.reconciling import Cadence, Reconciling
    from itsms_sync.relating import JudgedSource
    from itsms_sync.settings import Secret, Source
    from itsms_sync.store.ingested import Ingested


T = TypeVar("T")
_COLLECTED_AT = (20_000, 20, 100)
"""New objects, and younger collections, after which the collector of cycles looks again."""

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Where Linux names this start of the machine."""


def wall_clock() -> int:
    """Now, in ms since 1970-01-01T00:00Z."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Time:
    """What time it is and how to let it pass, for all that is wired together."""

    wall: Callable[[], int] = wall_clock
    """ms since 1970-01-01T00:00Z; may be set back or forth at any moment."""
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    """Both in seconds."""


REAL_TIME = Time()


def uptime(monotonic: Callable[[], float]) -> "Uptime":
    """Of this machine; where it does not name its starts, of this process."""
    from itsms_sync.outbox import Uptime

    boot = BOOT.read_text().strip() if BOOT.exists() else secrets.token_hex(16)
    return Uptime(boot, lambda: int(monotonic() * 1000))


class WritingRefused(Exception):
    """Writing was asked for where it must not happen."""


@dataclass(frozen=True, slots=True)
class Wired:
    """All parts of one configuration, connected."""

    configuration: Configuration
    engine: "Engine"
    cycle: "Cycle"
    ingest: "Ingest"
    reconciling: "Reconciling"
    read_sources: "Sequence[ReadSource]"
    judging: "Judging"
    sources: Mapping[str, "tuple[Ingested, Plugin]"]
    outbox: "Outbox | None"
    https: Mapping[str, "Http"]
    connectors: Mapping[str, "Connector"]
    guard: "Guarding"
    stop: "Stop"
    as_of: int | None
    progress: "Progress"
    time: Time

    def now(self) -> int:
        """What is judged as of."""
        return self.as_of if self.as_of is not None else self.time.wall()

    def run_cycle(self, *, dry_run: bool = False) -> "CycleReport":
        """One pass, which reads the past of every source to its end first."""
        if self.as_of is not None and not dry_run and self.outbox is not None:
            self._refuse_writing_into_the_past()
        return self.cycle.run(self.now(), self.time.wall(), dry_run=dry_run, between=self._between)

    def run_slice(self) -> "CycleReport":
        """One pass of a daemon, which reads of the past as much as fits between two polls."""
        return self.cycle.run(
            self.now(), self.time.wall(), dry_run=False, between=self._between, more=self._share_of_the_time
        )

    def _share_of_the_time(self, source: str) -> "Callable[[], bool]":
        """The sources that are read share what is left of the interval."""
        settings = self.configuration.settings
        backfill = settings.sources[source].backfill
        if backfill.between is not None and not is_within(backfill.between, self.time.wall()):
            return lambda: False
        seconds = backfill.share * settings.schedule.poll_every.total_seconds() / max(1, len(self.sources))
        end = self.time.monotonic() + seconds
        return lambda: self.time.monotonic() < end

    def read_past(
        self, names: "Sequence[str]", until: int | None, more: "Callable[[str, SourceReport], bool]"
    ) -> "dict[str, SourceReport]":
        """Polls these sources and reads their past to its end, or back to ``until`` (ms), as long as ``more``, asked
        again and again, says so."""
        reports = {}
        for source in self.read_sources:
            if source.name in names:
                wanted = source if until is None else replace(source, limit=until)
                report = reports[source.name] = self.ingest.poll(source)
                if report.problem is None:
                    self.ingest.backfill(wanted, report, partial(more, source.name, report))
        return reports

    def _between(self) -> None:
        with self.stop.interruptible():
            pass

    def _refuse_writing_into_the_past(self) -> None:
        tickets = self.configuration.settings.tickets
        assert tickets is not None
        if not self.connectors[tickets.target].identify().simulated:
            raise WritingRefused(
                f"--as-of judges the past, and {tickets.target} is no simulator: tickets would tell of it as of today. "
                "Add --dry-run, or name a simulator as target"
            )

    def now_of_last_judgement(self) -> int:
        """What ``replay`` judges as of, unless told otherwise: the same instant as the newest judgement."""
        from itsms_sync.store.judged import newest_judgement

        if self.as_of is not None:
            return self.as_of
        with self.engine.begin() as connection:
            newest = newest_judgement(connection)
        return int(newest.as_of) if newest is not None else self.time.wall()

    def kinds(self, source: str) -> "dict[str, Fields]":
        """Kind of record -> what is asked for of it."""
        return fields_by_kind(self.configuration, source)

    def mapped_values(self, source: str, kind: str) -> dict[str, dict[str, str]]:
        """Field -> raw value -> value of the SMS, as the source's mapping has them for this kind."""
        mapping = self.configuration.mapping_of(source)
        found: dict[str, dict[str, str]] = {}
        for described in mapping.described() if mapping is not None else ():
            for attribute in described.attributes.values() if described.kind == kind else ():
                if attribute.field is not None and attribute.values:
                    found.setdefault(attribute.field, {}).update(attribute.values)
        return found

    @property
    def requests_sent(self) -> int:
        """Since these parts were wired."""
        return sum(http.requests_sent for http in self.https.values())


@contextmanager
def wired(
    configuration: Configuration,
    *,
    stop: "Stop",
    progress: "Progress",
    as_of: int | None = None,
    writing: bool = True,
    time: Time = REAL_TIME,
) -> Iterator[Wired]:
    """Connects everything; the right to write to the database is held until the context ends. Without ``writing`` the
    database is in memory only, for questions to the sources. ``time`` is another than the machine's where a test lets
    it pass.

    Raises ``DatabaseUnavailable`` (``Locked`` if another process writes) and ``SecretUnavailable``.
    """
    from itsms_sync.store import database

    # What a source answers is many small values without cycles. Full collections among them find nothing and took an
    # eighth of the time of reading.
    gc.set_threshold(*_COLLECTED_AT)
    url = configuration.database_url() if writing else "sqlite://"
    with ExitStack() as stack:
        if writing:
            stack.enter_context(database.writing(url))
        engine = database.connect(url)
        stack.callback(engine.dispose)
        guard = _guard(engine, url, time.wall)
        yield _Builder(configuration, engine, stop, as_of, time, guard).wired(progress)


@contextmanager
def guarding(configuration: Configuration) -> "Iterator[Guarding]":
    """The guard alone, with the right to write to the database, for a person's decision."""
    from itsms_sync.store import database

    url = configuration.database_url()
    with database.writing(url):
        engine = database.connect(url)
        try:
            yield _guard(engine, url, wall_clock)
        finally:
            engine.dispose()


def _guard(engine: "Engine", url: str, clock: "Clock") -> "Guarding":
    from itsms_sync.guarding import Guarding
    from itsms_sync.store.database import sqlite_path
    from itsms_sync.store.logbook import Logbook, OpenFile

    path = sqlite_path(url)
    if path is None:
        return Guarding(engine, None, None, clock)
    return Guarding(engine, OpenFile(path), Logbook.beside(path), clock)


def rebuild(parts: Wired, configuration: Configuration) -> Wired:
    """The same database, stop and clocks with another configuration, for a reload."""
    builder = _Builder(configuration, parts.engine, parts.stop, parts.as_of, parts.time, parts.guard)
    return builder.wired(parts.progress)


class _Builder:
    """Builds the parts in order."""

    def __init__(
        self,
        configuration: Configuration,
        engine: "Engine",
        stop: "Stop",
        as_of: int | None,
        time: Time,
        guard: "Guarding",
    ) -> None:
        from itsms_sync.store.ingested import Ingested

        self._configuration = configuration
        self._settings = configuration.settings
        self._engine = engine
        self._stop = stop
        self._as_of = as_of
        self._time = time
        self._uptime = uptime(time.monotonic)
        self._guard = guard
        self._https: dict[str, Http] = {}
        self._plugins = {name: plugin(source.system) for name, source in self._settings.sources.items()}
        self._ingested = {
            name: Ingested(engine, name, source.system, judged_fields(configuration, name))
            for name, source in self._settings.sources.items()
        }
        self._connectors = {name: self._connector(name, source) for name, source in self._settings.sources.items()}

    def wired(self, progress: "Progress") -> Wired:
        from itsms_sync.cycle import Cycle
        from itsms_sync.ingest import Ingest
        from itsms_sync.judging import Judging
        from itsms_sync.reconciling import Reconciling

        tickets, read_sources = self._tickets(), self._read_sources()
        clock, monotonic = self._time.wall, self._time.monotonic
        ingest = Ingest(self._engine, clock, progress, self._guard)
        reconciling = Reconciling(self._engine, ingest, self._cadence(), clock, monotonic, progress)
        judging = Judging(self._engine, self._configuration.library, self._judged())
        cycle = Cycle(
            self._engine,
            self._configuration.library,
            read_sources,
            self._live(),
            ingest,
            reconciling,
            judging,
            tickets,
            self._guard,
            self._time.wall,
        )
        return Wired(
            configuration=self._configuration,
            engine=self._engine,
            cycle=cycle,
            ingest=ingest,
            reconciling=reconciling,
            read_sources=read_sources,
            judging=judging,
            sources={
                name: (self._ingested[name], self._plugins[name])
                for name, source in self._settings.sources.items()
                if source.read
            },
            outbox=None if tickets is None else tickets.outbox,
            https=self._https,
            connectors=self._connectors,
            guard=self._guard,
            stop=self._stop,
            as_of=self._as_of,
            progress=progress,
            time=self._time,
        )

    def _connector(self, name: str, source: "Source") -> "Connector":
        from itsms_sync.connector import Access
        from itsms_sync.http import Http

        http = Http(
            limits=self._limits(name),
            transport=self._transport(source),
            monotonic=self._time.monotonic,
            sleep=self._time.sleep,
            stop=self._stop,
            jitter=random.random,
        )
        self._https[name] = http
        plugin_ = self._plugins[name]
        access = Access(
            name=name,
            url=str(source.url).rstrip("/"),
            options=plugin_.check_options(source.options),
            http=http,
            border=self._ingested[name].border,
            credential=lambda: self._readable(source.credential.read),
        )
        return plugin_.connect(access if source.credential.oauth is None else self._with_tokens(access, source))

    def _with_tokens(self, access: "Access", source: "Source") -> "Access":
        """The same, with access tokens in place of what they are asked for with."""
        from itsms_sync.login import OAuth

        oauth, logins = source.credential.oauth, self._plugins[access.name].logins
        assert oauth is not None
        tokens = OAuth(
            access.http,
            self._time.monotonic,
            str(oauth.token_url or logins.token_url(access.url)),
            oauth.grant,
            access.credential,
            _RefreshToken(oauth.refresh_token, self._readable),
            rotating=logins.rotating,
        )
        return replace(access, credential=tokens.credential, refused=tokens.refused)

    def _transport(self, source: "Source") -> "Transport":
        from itsms_sync.http import Transport

        folder, shown = self._configuration.folder, source.credential.client_certificate
        bundle = None if source.ca_bundle is None else str(folder / source.ca_bundle)
        if shown is None:
            return Transport(source.proxy, bundle)
        files = [str(folder / name) for name in (shown.certificate, shown.key) if name is not None]
        password = shown.password
        return Transport(
            source.proxy,
            bundle,
            (files[0], files[-1]),
            None if password is None else lambda: self._readable(password.read),
        )

    def _limits(self, name: str) -> "Limits":
        from itsms_sync.http import Limits

        tickets = self._settings.tickets
        if tickets is None or tickets.target != name:
            return Limits()
        return Limits(write_total_s=tickets.deadline.total_seconds())

    def _readable(self, read: "Callable[[Path], T]") -> "T":
        """What lies behind a reference; one that cannot be followed ends the work of its own source only."""
        from itsms_sync.connector import Refused
        from itsms_sync.settings import SecretUnavailable

        try:
            return read(self._configuration.folder)
        except SecretUnavailable as error:
            raise Refused(str(error)) from error

    def _cadence(self) -> "Cadence":
        from itsms_sync.reconciling import Cadence

        schedule = self._settings.schedule
        return Cadence(
            int(schedule.reconcile_open_every.total_seconds() * 1000),
            int(schedule.reconcile_all_every.total_seconds() * 1000),
        )

    def _read_sources(self) -> "list[ReadSource]":
        from itsms_sync.ingest import ReadSource

        return [
            ReadSource(
                name,
                self._connectors[name],
                self._plugins[name],
                self._ingested[name],
                fields_by_kind(self._configuration, name),
                int(source.overlap.total_seconds() * 1000),
                source.page_size,
                None if source.backfill.until is None else midnight(source.backfill.until),
                self._requests_to(name),
                read_ahead=source.read_ahead,
            )
            for name, source in self._settings.sources.items()
            if source.read
        ]

    def _requests_to(self, name: str) -> Callable[[], int]:
        http = self._https[name]
        return lambda: http.requests_sent

    def _live(self) -> list[Any]:
        from itsms_sync.deciding import LiveSource

        return [
            LiveSource(
                name,
                self._ingested[name].source_id,
                source.mapped_by,
                midnight(source.go_live),
                self._record_url(name, source),
            )
            for name, source in self._settings.sources.items()
            if source.read and source.go_live is not None
        ]

    def _record_url(self, name: str, source: "Source") -> Callable[[str, str, str], str]:
        base, plugin_ = source.people_url, self._plugins[name]
        return lambda kind, id_, label: plugin_.record_url(base, kind, id_, label)

    def _judged(self) -> "list[JudgedSource]":
        from itsms_sync.relating import JudgedSource

        return [
            JudgedSource(
                name,
                source.system,
                source.mapped_by,
                self._ingested[name],
                source.system_accounts,
                self._plugins[name].whole_records,
                None if source.go_live is None else midnight(source.go_live),
            )
            for name, source in self._settings.sources.items()
            if source.read
        ]

    def _tickets(self) -> "Tickets | None":
        from itsms_sync.cycle import Tickets
        from itsms_sync.deciding import TicketRules
        from itsms_sync.following import Following
        from itsms_sync.outbox import Outbox, Target

        settings = self._settings.tickets
        if settings is None:
            return None
        name, texts, clock = settings.target, self._configuration.texts, self._time.wall
        connector = self._connectors[name]
        rules = TicketRules(name, settings.processes, settings.cap_per_owner, settings.max_writes_per_cycle, texts)
        target = Target(connector, int(self._https[name].limits.write_total_s * 1000), self._basis(name))
        return Tickets(
            name,
            self._ingested[name].source_id,
            connector,
            rules,
            Outbox(self._engine, {name: target}, clock, self._uptime, settings.unclear_limit),
            Following(self._engine, name, connector, texts, clock),
        )

    def _basis(self, target: str) -> str:
        """Hash of what may cure a refusal: how the target is configured, and the documents that texts come from."""
        from itsms_sync.documents import digest

        source, configuration = self._settings.sources[target], self._configuration
        parts = [digest(source), digest(configuration.texts), *sorted(configuration.library.digests.values())]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class _RefreshToken:
    """The place of a refresh token, as ``login`` needs it."""

    def __init__(self, secret: "Secret | None", readable: "Callable[[Callable[[Path], None]], None]") -> None:
        self._secret = secret
        self._readable = readable

    def check_replaceable(self) -> None:
        if self._secret is not None:
            self._readable(self._secret.check_replaceable)

    def replace(self, token: str) -> None:
        if self._secret is not None:
            secret = self._secret
            self._readable(lambda folder: secret.replace(token, folder))


def fields_by_kind(configuration: Configuration, source: str) -> "dict[str, Fields]":
    """Kind of record -> what the source's mapping names of it."""
    from itsms_sync.ingest import Fields

    mapping = configuration.mapping_of(source)
    kinds: dict[str, Fields] = {}
    for described in mapping.described() if mapping is not None else ():
        before = kinds.get(described.kind, Fields((), frozenset(), frozenset()))
        kinds[described.kind] = Fields(
            tuple(dict.fromkeys([*before.names, *described.asked_fields()])),
            before.persons | described.fields_of_type("person"),
            before.texts | described.fields_of_type("free_text"),
        )
    return kinds


def judged_fields(configuration: Configuration, source: str) -> dict[str, frozenset[str]]:
    """Kind of record -> its fields that matter to a judgement, of kinds that change by themselves."""
    from itsms_sync.sms.parts import judged_fields as judged

    mapping = configuration.mapping_of(source)
    return {} if mapping is None else judged(mapping)


def midnight(day: date) -> int:
    """First instant of the day in UTC, ms."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def is_within(hours: str, at: int) -> bool:
    """Whether the instant (ms) is within ``HH:MM-HH:MM`` of its day in UTC; the hours may reach over midnight."""
    start, _, end = hours.partition("-")
    time_of_day = datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M")
    return start <= time_of_day < end if start <= end else time_of_day >= start or time_of_day < end


def make_stop() -> "Stop":
    """The process's stop, not yet tied to signals."""
    from itsms_sync.http import Stop

    return Stop(time.monotonic)


def in_terminal() -> bool:
    return sys.stdout.isatty()
