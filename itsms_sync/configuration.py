"""Reads settings and controlled documents from files into one valid configuration, with every problem of every file.

Connects nothing; what it returns is ``wiring``'s to build from.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from itsms_sync.documents import Invalid, Positions, Problem, digest, load_with_positions
from itsms_sync.plugins import UnknownPlugin, plugin
from itsms_sync.sms.strict import Fault

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from itsms_sync.connector import Logins
    from itsms_sync.corrective.texts import Texts
    from itsms_sync.procedures.library import Library
    from itsms_sync.settings import Settings, Source
    from itsms_sync.sms.calendars import Calendars
    from itsms_sync.sms.mapping import Mapping

M = TypeVar("M", bound=BaseModel)
CALENDARS = "calendars.yaml"
"""The file of business calendars, beside the mappings."""


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

    def mapping_of(self, source: str) -> "Mapping | None":
        """The mapping that reads this source; ``None`` for a source or a mapping that is no longer there."""
        found = self.settings.sources.get(source)
        return None if found is None else self.library.mappings.get(found.mapped_by)

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
        reading.report(positions, _unknown_mappings(settings, library))
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
    installed = cache(plugin)
    for name, source in settings.sources.items():
        try:
            found = installed(source.system)
            reading.report(positions, _credential_faults(name, source, found.logins))
            found.check_options(source.options)
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


def _credential_faults(name: str, source: "Source", logins: "Logins") -> "Iterator[Fault]":
    for told in source.credential.problems(logins):
        yield Fault(("sources", name, "credential"), told)
    if logins.is_gateway(str(source.url)) and source.site is None:
        told = "nobody can read a record at this address: name that of the site for people under `site`"
        yield Fault(("sources", name, "url"), told)


def _told_of_option(item: "ErrorDetails") -> str:
    name = item["loc"][-1] if item["loc"] else ""
    told = {"missing": f"the option `{name}` is missing", "extra_forbidden": f"there is no option `{name}`"}
    return told.get(item["type"], item["msg"].removeprefix("Value error, "))


def _unknown_processes(settings: "Settings", library: "Library") -> "Iterator[Fault]":
    """A name that is misspelt would leave writing off without a word."""
    for index, name in enumerate(settings.tickets.processes if settings.tickets else ()):
        if name not in library.processes.processes:
            yield Fault(("tickets", "processes", index), f"process {name!r} is not defined in processes.yaml")


def _unknown_mappings(settings: "Settings", library: "Library") -> "Iterator[Fault]":
    for name, source in settings.sources.items():
        if source.mapping is None:
            continue
        mapping = library.mappings.get(source.mapping)
        if mapping is None:
            known = ", ".join(sorted(library.mappings))
            told = f"there is no mapping {source.mapping!r}; there are: {known}"
            yield Fault(("sources", name, "mapping"), told)
        elif mapping.system != source.system:
            told = f"the mapping {source.mapping!r} is for {mapping.system}, and this source is {source.system}"
            yield Fault(("sources", name, "mapping"), told)


def _read_library(reading: _Reading, folder: Path) -> "Library | None":
    from itsms_sync.procedures.library import Library
    from itsms_sync.procedures.model import Procedure
    from itsms_sync.sms.mapping import Mapping as MappingDocument
    from itsms_sync.sms.processes import Processes

    processes = reading.document(folder / "processes.yaml", Processes)
    others = ("processes.yaml", CALENDARS)
    mappings = [reading.document(p, MappingDocument) for p in _yaml(folder) if p.name not in others]
    calendars = _read_calendars(reading, folder / CALENDARS)
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
    by_name = {}
    for document, positions in (m for m in mappings if m is not None):
        if document.called in by_name:
            told = f"another file is the mapping {document.called!r} already; give this one a name of its own"
            reading.report(positions, [Fault(("name",) if document.name else ("system",), told)])
        by_name[document.called] = document
        digests[Path(positions.path).name] = digest(document)
    for procedure, positions in (p for p in procedures if p is not None):
        by_process.setdefault(procedure.process, []).append(procedure)
        digests[f"procedures/{Path(positions.path).name}"] = digest(procedure)
    library = Library(
        processes[0],
        by_name,
        {name: tuple(sorted(v, key=lambda p: p.valid_from)) for name, v in by_process.items()},
        digests if calendars is None else {**digests, CALENDARS: digest(calendars)},
        None if calendars is None else calendars.calendars,
    )
    for procedure, positions in (p for p in procedures if p is not None):
        reading.report(positions, library.problems_of(procedure))
    return library


def _read_calendars(reading: _Reading, path: Path) -> "Calendars | None":
    """The business calendars, if there is such a file."""
    from itsms_sync.sms.calendars import Calendars

    found = reading.document(path, Calendars) if os.path.isfile(path) else None
    if found is None:
        return None
    reading.report(found[1], found[0].problems())
    return found[0]


def _read_texts(reading: _Reading, folder: Path, language: str) -> "Texts | None":
    from itsms_sync.corrective.texts import Texts

    found = reading.document(folder / "texts" / f"{language}.yaml", Texts)
    if found is None:
        return None
    reading.report(found[1], found[0].problems())
    return found[0]


def _yaml(folder: Path) -> list[Path]:
    # What is wrong with a folder, as a name that is too long, is told of the documents that have to be there.
    return sorted(p for p in folder.glob("*.yaml") if p.is_file()) if os.path.isdir(folder) else []
