"""The composition root: settings and documents become a ready daemon.

The only place that makes a clock, a sleep and a stop, finds plug-ins and opens the database; everything else is handed
what it needs.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from itsms_sync.documents import Invalid, Positions, Problem, digest, load_with_positions
from itsms_sync.sms.strict import Fault

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from sqlalchemy import Engine

    from itsms_sync.connector import Connector, Plugin
    from itsms_sync.corrective.texts import Texts
    from itsms_sync.cycle import Cycle, CycleReport
    from itsms_sync.http import Http, Limits, Stop
    from itsms_sync.ingest import Fields, Progress
    from itsms_sync.judging import JudgedSource, Judging
    from itsms_sync.outbox import Outbox
    from itsms_sync.procedures.library import Library
    from itsms_sync.settings import Settings, Source
    from itsms_sync.store.ingested import Ingested

M = TypeVar("M", bound=BaseModel)


def wall_clock() -> int:
    """Now, in ms since 1970-01-01T00:00Z."""
    return time.time_ns() // 1_000_000


class UnknownPlugin(Exception):
    """No installed plug-in has this name."""


class WritingRefused(Exception):
    """Writing was asked for where it must not happen."""


# --- documents
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that was read from files: valid, and not yet connected to anything."""

    path: Path
    settings: "Settings"
    library: "Library"
    texts: "Texts"

    @property
    def folder(self) -> Path:
        return self.path.parent

    def database_url(self) -> str:
        """The database; a relative SQLite path is relative to the configuration file."""
        url = self.settings.database
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return prefix + str((self.folder / url.removeprefix(prefix)).resolve())
        return url


class _Reading:
    """Reads documents and gathers the problems of all of them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def document(self, path: Path, model: type[M]) -> tuple[M, Positions] | None:
        try:
            return load_with_positions(path, model)
        except Invalid as error:
            self.problems.extend(error.problems)
            return None

    def report(self, positions: Positions, faults: "list[Fault] | Iterator[Fault]") -> None:
        for fault in faults:
            if fault.inside is not None:
                line, column = positions.inside(*fault.place, line=fault.inside[0], column=fault.inside[1])
            else:
                line, column = positions.key(*fault.place)
            self.problems.append(Problem(positions.path, line, column, fault.message))

    def finish(self) -> None:
        if self.problems:
            raise Invalid(sorted(set(self.problems)))


def read_configuration(path: Path) -> Configuration:
    """Settings and all documents. Raises ``Invalid`` with every problem of every file."""
    from itsms_sync.settings import Settings

    reading = _Reading()
    found = reading.document(path, Settings)
    if found is None:
        reading.finish()
    assert found is not None
    settings, positions = found
    reading.report(positions, settings.problems())
    _check_plugins(reading, settings, positions)
    folder = path.parent / settings.documents
    library = _read_library(reading, folder)
    if library is not None:
        reading.report(positions, _unknown_processes(settings, library))
    texts = _read_texts(reading, folder, settings.tickets.language if settings.tickets else "en")
    reading.finish()
    assert library is not None
    assert texts is not None
    return Configuration(path, settings, library, texts)


def read_library(folder: Path) -> "Library":
    """Processes, mappings and procedures of a folder. Raises ``Invalid``."""
    reading = _Reading()
    library = _read_library(reading, folder)
    reading.finish()
    assert library is not None
    return library


def read_document(path: Path, model: type[M]) -> M:
    """One document with a ``problems`` method of its own. Raises ``Invalid``."""
    reading = _Reading()
    found = reading.document(path, model)
    if found is not None:
        reading.report(found[1], found[0].problems())  # type: ignore[attr-defined]
    reading.finish()
    assert found is not None
    return found[0]


def _check_plugins(reading: _Reading, settings: "Settings", positions: Positions) -> None:
    for name, source in settings.sources.items():
        try:
            plugin(source.system).check_options(source.options)
        except UnknownPlugin as error:
            reading.report(positions, [Fault(("sources", name, "system"), str(error))])
        except ValidationError as error:
            reading.report(
                positions,
                [
                    Fault(("sources", name, "options", *item["loc"]), _told_of_option(item))
                    for item in error.errors(include_url=False, include_input=False)
                ],
            )


def _told_of_option(item: "ErrorDetails") -> str:
    name = item["loc"][-1] if item["loc"] else ""
    told = {"missing": f"the option `{name}` is missing", "extra_forbidden": f"there is no option `{name}`"}
    return told.get(item["type"], item["msg"])


def _unknown_processes(settings: "Settings", library: "Library") -> "Iterator[Fault]":
    """A name that is misspelt would leave writing off without a word."""
    for index, name in enumerate(settings.tickets.processes if settings.tickets else ()):
        if name not in library.processes.processes:
            yield Fault(("tickets", "processes", index), f"process {name!r} is not defined in processes.yaml")


def _read_library(reading: _Reading, folder: Path) -> "Library | None":
    from itsms_sync.procedures.library import Library
    from itsms_sync.procedures.model import Procedure
    from itsms_sync.sms.mapping import Mapping as MappingDocument
    from itsms_sync.sms.processes import Processes

    processes = reading.document(folder / "processes.yaml", Processes)
    mappings = [reading.document(p, MappingDocument) for p in _yaml(folder) if p.name != "processes.yaml"]
    procedures = [reading.document(p, Procedure) for p in _yaml(folder / "procedures")]
    for read in (processes, *mappings):
        if read is not None:
            reading.report(read[1], read[0].problems())
    if processes is None or None in mappings or None in procedures:
        for alone in procedures:
            if alone is not None:
                reading.report(alone[1], alone[0].problems())
        return None
    by_process: dict[str, list[Procedure]] = {}
    digests = {Path(processes[1].path).name: digest(processes[0])}
    by_system = {}
    for document, positions in (m for m in mappings if m is not None):
        if document.system in by_system:
            reading.report(positions, [Fault(("system",), f"another file maps {document.system!r} already")])
        by_system[document.system] = document
        digests[Path(positions.path).name] = digest(document)
    for procedure, positions in (p for p in procedures if p is not None):
        by_process.setdefault(procedure.process, []).append(procedure)
        digests[f"procedures/{Path(positions.path).name}"] = digest(procedure)
    library = Library(
        processes[0],
        by_system,
        {name: tuple(sorted(v, key=lambda p: p.valid_from)) for name, v in by_process.items()},
        digests,
    )
    for procedure, positions in (p for p in procedures if p is not None):
        reading.report(positions, library.problems_of(procedure))
    return library


def _read_texts(reading: _Reading, folder: Path, language: str) -> "Texts | None":
    from itsms_sync.corrective.texts import Texts

    found = reading.document(folder / "texts" / f"{language}.yaml", Texts)
    if found is None:
        return None
    reading.report(found[1], found[0].problems())
    return found[0]


def _yaml(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.yaml") if p.is_file())


def shipped(name: str) -> Path:
    """The folder ``mappings`` or ``config``: beside the package in a checkout, inside it when installed."""
    package = Path(str(files("itsms_sync")))
    installed = package / "share" / name
    return installed if installed.is_dir() else package.parent / name


# --- plug-ins
# ----------------------------------------------------------------------------------------------------------


def plugin(system: str) -> "Plugin":
    """The installed plug-in of that name. Raises ``UnknownPlugin``."""
    found = {entry.name: entry for entry in entry_points(group="itsms_sync.connectors")}
    if system not in found:
        raise UnknownPlugin(f"no plug-in {system!r} is installed; there are: {', '.join(sorted(found)) or 'none'}")
    result: Plugin = found[system].load()
    return result


def simulator(system: str) -> Callable[..., Any]:
    """The simulator of that name: ``serve(data=, host=, port=, options=)``. Raises ``UnknownPlugin``."""
    found = {entry.name: entry for entry in entry_points(group="itsms_sync.simulators")}
    if system not in found:
        raise UnknownPlugin(f"no simulator {system!r} is installed; there are: {', '.join(sorted(found)) or 'none'}")
    result: Callable[..., Any] = found[system].load()
    return result


# --- the ready daemon
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wired:
    """All parts of one configuration, connected."""

    configuration: Configuration
    engine: "Engine"
    cycle: "Cycle"
    judging: "Judging"
    sources: Mapping[str, "tuple[Ingested, Plugin]"]
    outbox: "Outbox | None"
    https: Mapping[str, "Http"]
    connectors: Mapping[str, "Connector"]
    stop: "Stop"
    as_of: int | None
    progress: "Progress"

    def now(self) -> int:
        """What is judged as of."""
        return self.as_of if self.as_of is not None else wall_clock()

    def run_cycle(self, *, dry_run: bool = False) -> "CycleReport":
        """One pass."""
        if self.as_of is not None and not dry_run and self.outbox is not None:
            self._refuse_writing_into_the_past()
        return self.cycle.run(self.now(), wall_clock(), dry_run=dry_run, between=self._between)

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
        from itsms_sync.store.decided import newest_judgement

        if self.as_of is not None:
            return self.as_of
        with self.engine.begin() as connection:
            newest = newest_judgement(connection)
        return int(newest.as_of) if newest is not None else wall_clock()

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
) -> Iterator[Wired]:
    """Connects everything; the right to write to the database is held until the context ends. Without ``writing`` the
    database is in memory only, for questions to the sources.

    Raises ``DatabaseUnavailable`` (``Locked`` if another process writes) and ``SecretUnavailable``.
    """
    from itsms_sync.store import database

    url = configuration.database_url() if writing else "sqlite://"
    with ExitStack() as stack:
        if writing:
            stack.enter_context(database.writing(url))
        engine = database.connect(url)
        stack.callback(engine.dispose)
        yield _Builder(configuration, engine, stop, as_of).wired(progress)


def rebuild(parts: Wired, configuration: Configuration) -> Wired:
    """The same database, stop and clocks with another configuration, for a reload."""
    return _Builder(configuration, parts.engine, parts.stop, parts.as_of).wired(parts.progress)


class _Builder:
    """Builds the parts in order."""

    def __init__(self, configuration: Configuration, engine: "Engine", stop: "Stop", as_of: int | None) -> None:
        from itsms_sync.store.ingested import Ingested

        self._configuration = configuration
        self._settings = configuration.settings
        self._engine = engine
        self._stop = stop
        self._as_of = as_of
        self._https: dict[str, Http] = {}
        self._plugins = {name: plugin(source.system) for name, source in self._settings.sources.items()}
        self._ingested = {
            name: Ingested(engine, name, source.system) for name, source in self._settings.sources.items()
        }
        self._connectors = {name: self._connector(name, source) for name, source in self._settings.sources.items()}

    def wired(self, progress: "Progress") -> Wired:
        from itsms_sync.cycle import Cycle
        from itsms_sync.ingest import Ingest
        from itsms_sync.judging import Judging

        outbox = self._outbox()
        judging = Judging(self._engine, self._configuration.library, self._judged())
        cycle = Cycle(
            self._engine,
            self._configuration.library,
            self._read_sources(),
            self._live(),
            Ingest(self._engine, wall_clock, progress),
            judging,
            outbox,
            self._rules(),
            wall_clock,
        )
        return Wired(
            configuration=self._configuration,
            engine=self._engine,
            cycle=cycle,
            judging=judging,
            sources={
                name: (self._ingested[name], self._plugins[name])
                for name, source in self._settings.sources.items()
                if source.read
            },
            outbox=outbox,
            https=self._https,
            connectors=self._connectors,
            stop=self._stop,
            as_of=self._as_of,
            progress=progress,
        )

    def _connector(self, name: str, source: "Source") -> "Connector":
        from itsms_sync.connector import Access
        from itsms_sync.http import Http, Transport

        http = Http(
            limits=self._limits(name),
            transport=Transport(proxy=source.proxy, ca_bundle=source.ca_bundle),
            monotonic=time.monotonic,
            sleep=time.sleep,
            stop=self._stop,
            jitter=random.random,
        )
        self._https[name] = http
        plugin_ = self._plugins[name]
        return plugin_.connect(
            Access(
                name=name,
                url=str(source.url).rstrip("/"),
                options=plugin_.check_options(source.options),
                http=http,
                border=self._ingested[name].border,
                credential=self._credential(source),
            )
        )

    def _limits(self, name: str) -> "Limits":
        from itsms_sync.http import Limits

        tickets = self._settings.tickets
        if tickets is None or tickets.target != name:
            return Limits()
        return Limits(write_total_s=tickets.deadline.total_seconds())

    def _credential(self, source: "Source") -> "Callable[[], Mapping[str, str]]":
        """Reads the secrets by reference; one that cannot be read ends the work of its own source only."""
        from itsms_sync.connector import Refused
        from itsms_sync.settings import SecretUnavailable

        def read() -> Mapping[str, str]:
            try:
                return source.credential.read(self._configuration.folder)
            except SecretUnavailable as error:
                raise Refused(str(error)) from error

        return read

    def _kinds(self, source: "Source") -> "dict[str, Fields]":
        from itsms_sync.ingest import Fields

        mapping = self._configuration.library.mappings.get(source.system)
        kinds: dict[str, Fields] = {}
        for process in mapping.processes.values() if mapping is not None else ():
            before = kinds.get(process.kind, Fields((), frozenset(), frozenset()))
            kinds[process.kind] = Fields(
                tuple(dict.fromkeys([*before.names, *process.source_fields()])),
                before.persons | process.fields_of_type("person"),
                before.texts | process.fields_of_type("free_text"),
            )
        return kinds

    def _read_sources(self) -> list[Any]:
        from itsms_sync.ingest import ReadSource

        return [
            ReadSource(
                name,
                self._connectors[name],
                self._plugins[name],
                self._ingested[name],
                self._kinds(source),
                int(source.overlap.total_seconds() * 1000),
                source.page_size,
            )
            for name, source in self._settings.sources.items()
            if source.read
        ]

    def _live(self) -> list[Any]:
        from itsms_sync.deciding import LiveSource

        return [
            LiveSource(
                name,
                self._ingested[name].source_id,
                source.system,
                midnight(source.go_live),
                self._record_url(name, source),
            )
            for name, source in self._settings.sources.items()
            if source.read and source.go_live is not None
        ]

    def _record_url(self, name: str, source: "Source") -> Callable[[str, str, str], str]:
        base = str(source.url).rstrip("/")
        plugin_ = self._plugins[name]
        return lambda kind, id_, label: plugin_.record_url(base, kind, id_, label)

    def _judged(self) -> "list[JudgedSource]":
        from itsms_sync.judging import JudgedSource

        return [
            JudgedSource(name, source.system, self._ingested[name], source.system_accounts)
            for name, source in self._settings.sources.items()
            if source.read
        ]

    def _outbox(self) -> "Outbox | None":
        from itsms_sync.outbox import Outbox, Target

        tickets = self._settings.tickets
        if tickets is None:
            return None
        http = self._https[tickets.target]
        target = Target(self._connectors[tickets.target], int(http.limits.write_total_s * 1000))
        return Outbox(self._engine, {tickets.target: target}, wall_clock, tickets.unclear_limit)

    def _rules(self) -> Any:
        from itsms_sync.deciding import TicketRules

        tickets = self._settings.tickets
        if tickets is None:
            return None
        return TicketRules(
            tickets.target,
            tickets.processes,
            tickets.cap_per_owner,
            tickets.max_writes_per_cycle,
            self._configuration.texts,
        )


def midnight(day: date) -> int:
    """First instant of the day in UTC, ms."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def make_stop() -> "Stop":
    """The process's stop, not yet tied to signals."""
    from itsms_sync.http import Stop

    return Stop(time.monotonic)


def in_terminal() -> bool:
    return sys.stdout.isatty()
