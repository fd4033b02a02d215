"""The readers that are fuzzed: how inputs for each are made, how each is read, and what it may take for it.

A reader may refuse what it is given in its own words and at a place. Everything else is a finding.
"""

import gzip
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import polars as pl

from itsms_sync import assessing, parquet
from itsms_sync.configuration import read_configuration, read_document, read_library
from itsms_sync.documents import Invalid, digest, parse
from itsms_sync.logfile import Refused, UnreadableLog, most_unpacked
from itsms_sync.procedures.flow import FlowError, between_states, compiled
from itsms_sync.procedures.library import Library
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.calendars import Calendars, Clocks
from itsms_sync.sms.cases import from_log
from itsms_sync.sms.mapping import LogColumns, Mapping, ProcessMapping
from tests.fuzz import documents, logs
from tests.fuzz.mutation import bytes_changed, packed, packed_bomb

MAPPINGS = documents.ROOT / "mappings"
NOW = 1_500_000_000_000
LONGEST_MESSAGE = 2_000
Kept = Sequence[tuple[str, bytes]]


class BadMessage(Exception):
    """A refusal that does not help: without the file's name, too long, or with signs that spoil a terminal."""


class Subject(Protocol):
    """A reader."""

    def make(self, random: Random, kept: Kept) -> tuple[str, bytes]:
        """Name and content of a file."""

    def read(self, path: Path) -> str:
        """Reads it; what came of it, in a word or in the words of the refusal."""

    def memory(self, path: Path) -> int:
        """Bytes that reading may take, beyond those that the process has."""

    def seconds(self, path: Path) -> float:
        """Time on the processor that it may take."""


def checked(message: str, path: Path) -> str:
    """The message, without what is different in each input. Raises ``BadMessage``."""
    if not message.startswith(str(path)) or len(message) > LONGEST_MESSAGE or not message.isprintable():
        raise BadMessage(f"{len(message)} signs: {message[:300]!r}")
    return message.removeprefix(str(path))


# --- documents


class Documents:
    """YAML: every kind of document, and what follows from a valid one until the program runs."""

    def __init__(self) -> None:
        shipped = [(kind, text.encode(), documents.tree(text)) for kind, text in documents.shipped()]
        small = [
            (kind, documents.small(Random(seed), tree).encode(), tree) for kind, _, tree in shipped for seed in range(6)
        ]
        self._samples = [*shipped, *small]

    def make(self, random: Random, kept: Kept) -> tuple[str, bytes]:
        kind, text, tree = random.choice(self._samples)
        chance = random.random()
        if chance < 0.45:
            return f"{kind}.yaml", documents.changed(random, tree).encode("utf-8", "replace")
        if chance < 0.55:
            return f"{kind}.yaml", documents.exhausting(random).encode()
        name, data = random.choice(kept) if kept and chance < 0.8 else (f"{kind}.yaml", text)
        return name, bytes_changed(random, data, documents.WORDS, [one for _, one, _ in self._samples])

    def read(self, path: Path) -> str:
        kind = path.stem
        try:
            document = read_document(path, _models()[kind])
            digest(document)
            _FOLLOWS.get(kind, lambda document, path: None)(document, path)
        except Invalid as invalid:
            return _first_told(invalid, path)
        return "read"

    def memory(self, path: Path) -> int:
        return 300 << 20

    def seconds(self, path: Path) -> float:
        return 10.0


def _first_told(invalid: Invalid, path: Path) -> str:
    lines = len(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    told = [checked(str(problem), path) for problem in invalid.problems]
    strange = [one for one in invalid.problems if not (1 <= one.line <= lines and one.column >= 1)]
    if strange or not told:
        raise BadMessage(f"no such place, or nothing is told: {strange}")
    return told[0]


@cache
def _models() -> dict[str, Any]:
    from itsms_sync.cli.documents import _models as models

    return models()


@cache
def _library() -> Library:
    calendars = parse(documents.CALENDARS, "calendars.yaml", Calendars).calendars
    return replace(read_library(MAPPINGS), calendars={**calendars, "business_days": calendars["business_hours"]})


def _procedure(document: Procedure, path: Path) -> None:
    library = _library()
    list(library.problems_of(document))
    with suppress(FlowError):
        compiled(between_states(document.flow))


def _mapping(document: Mapping | LogColumns, path: Path) -> None:
    described: list[ProcessMapping] = (
        list(document.processes.values()) if isinstance(document, Mapping) else [document.mapping]
    )
    for process in described:
        for condition in (*process.derived().values(), *process.conditions().values()):
            assert condition.expression is not None


def _columns(document: LogColumns, path: Path) -> None:
    """Reads two cases by the document, at times in the form that it names."""
    _mapping(document, path)
    cells = {name: ["1", "a", ""] for name in document.looked_at()}
    days = pl.datetime_range(pl.datetime(2026, 1, 5), pl.datetime(2026, 1, 7), "1d", eager=True)
    with suppress(ValueError, pl.exceptions.PolarsError):
        times = {document.time: days.dt.to_string(document.time_format).to_list()}
        from_log(pl.DataFrame({**cells, document.case: ["A", "A", "B"], **times}), document, NOW)


def _calendars(document: Calendars, path: Path) -> None:
    clocks = Clocks(document.calendars)
    for name in document.calendars:
        clocks.worktime(name, NOW, NOW).between(np.array([NOW]), np.array([NOW + 10**9]))


def _settings(document: Any, path: Path) -> None:
    """Without the documents that it names there are further problems, in other files."""
    try:
        read_configuration(path)
    except Invalid as invalid:
        ours = [problem for problem in invalid.problems if problem.path == str(path)]
        if ours:
            raise Invalid(ours) from None


_FOLLOWS: dict[str, Callable[[Any, Path], None]] = {
    "procedure": _procedure,
    "mapping": _mapping,
    "columns": _columns,
    "calendars": _calendars,
    "settings": _settings,
}


# --- event logs


_SAMPLES = 40


@dataclass
class Logs:
    """One form of event logs, read and in part judged under the shipped procedure."""

    suffix: str
    written: Callable[[Random, logs.Table], bytes]
    words: Sequence[bytes]
    exhausting: Callable[[Random, logs.Table], bytes] | None = None
    filling: bytes = b""
    """What a compressed bomb is made of."""
    table: logs.Table = field(default_factory=logs.real)
    others: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.others = [self.written(Random(seed), logs.changed(Random(seed), self.table)) for seed in range(_SAMPLES)]

    def make(self, random: Random, kept: Kept) -> tuple[str, bytes]:
        chance = random.random()
        if chance < 0.08 and self.exhausting is not None:
            name, data = f"log{self.suffix}", self.exhausting(random, self.table)
        elif chance < 0.3 and kept:
            name, data = random.choice(kept)
        elif chance > 0.75:
            name, data = f"log{self.suffix}", random.choice(self.others)
        else:
            name, data = f"log{self.suffix}", self.written(random, logs.changed(random, self.table))
        if chance > 0.6 or (chance < 0.3 and chance > 0.08):
            data = self._changed(random, data)
        if self.filling and not name.endswith(".gz") and random.random() < 0.15:
            name += ".gz"
            data = packed_bomb(random, data, self.filling) if random.random() < 0.03 else packed(random, data)
        return name, data

    def _changed(self, random: Random, data: bytes) -> bytes:
        if self.suffix == ".parquet" and random.random() < 0.6 and data:
            return logs.footer_changed(random, data)
        return bytes_changed(random, data, self.words, self.others)

    def read(self, path: Path) -> str:
        columns = _columns_of_real(path.name.startswith("log.xes"))
        # judging takes longer than reading
        procedure = _incident(brief=zlib.crc32(path.read_bytes()) % 8 > 0)
        try:
            found = assessing.assess(path, procedure, columns, NOW, _library().clocks)
        except UnreadableLog as error:
            return checked(str(error), path)
        return f"read {min(found.cases, 2)} {min(found.rows, 3)} {len(found.unmapped)}"

    def memory(self, path: Path) -> int:
        text = _text_of_parquet(path) if path.suffix == ".parquet" else _unpacked(path)
        return (256 << 20) + 40 * text

    def seconds(self, path: Path) -> float:
        return 10.0 + _unpacked(path) / 1e6


def _unpacked(path: Path) -> int:
    """Bytes of the text, as far as it may be unpacked."""
    if path.suffix != ".gz":
        return path.stat().st_size
    size, most = 0, most_unpacked(path)
    with suppress(OSError, EOFError, zlib.error), gzip.open(path) as file:
        while size < most and (data := file.read(1 << 20)):
            size += len(data)
    return min(size, most)


def _text_of_parquet(path: Path) -> int:
    """Bytes of the values that are looked at, and one for each."""
    with TemporaryDirectory() as folder:
        try:
            files, _ = parquet.files(path, _columns_of_real(False), Path(folder))
        except Refused:
            return path.stat().st_size
        return sum(len(column) + int(column.str.len_bytes().sum()) for file in files for column in pl.read_ipc(file))


@cache
def _columns_of_real(xes: bool) -> LogColumns:
    columns = read_document(MAPPINGS / "logs" / "uci-incidents.yaml", LogColumns)
    return columns.model_copy(update={"case": "case:number"}) if xes else columns


@cache
def _incident(*, brief: bool) -> Procedure:
    whole = read_document(MAPPINGS / "procedures" / "incident.yaml", Procedure)
    return whole.model_copy(update={"requirements": whole.requirements[:1], "short_cuts": ()}) if brief else whole


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "yaml": Documents,
    "csv": lambda: Logs(".csv", logs.as_csv, logs.CSV_WORDS, logs.exhausting_csv, b'INC1,New,"'),
    "xes": lambda: Logs(".xes", logs.as_xes, logs.XES_WORDS, logs.exhausting_xes, b"<event></event>"),
    "parquet": lambda: Logs(".parquet", logs.as_parquet, logs.CSV_WORDS),
}
