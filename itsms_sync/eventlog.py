"""Event logs from files: CSV, XES and Parquet, plain or compressed, as text in batches of whole cases.

Owns reading and what is refused; what the columns mean is the columns file's. In XES a trace's own attributes are
columns named ``case:<key>``, an event's are named by their keys; a key that a trace or event lacks is empty, unless
the log declares a value for it. Instants that a file holds as instants are written in the form and the zone that the
columns file names, so that they are read as all others are.

No more than a few batches are held at a time, however long the log is. A log whose cases do not lie together is sorted
out by case into files of a temporary folder first.
"""

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from itsms_sync.sms.cases import ROW
from itsms_sync.sms.mapping import LogColumns

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

GZIP = b"\x1f\x8b"
SUFFIXES = {".csv": "CSV", ".csv.gz": "CSV", ".xes": "XES", ".xes.gz": "XES", ".parquet": "Parquet"}
TRACE = "case:"
FIRST_ROW = 2
"""The header is row 1, also of a file that has none."""
_PART = "\x00part"
_Hashes = NDArray[np.uint64]
ROWS = 100_000
"""Rows of a batch, about: more where the last case goes on, fewer at the end."""


class UnreadableLog(Exception):
    """The log cannot be read; the message names file, row and what to do."""


class Scattered(Exception):
    """A case goes on after other cases, in a later batch than it began."""


@dataclass
class EventLog:
    """A log that can be read in batches, as often as wanted. ``rows``: what tells of cases, as text, and ``cases.ROW``;
    ``everything``: all columns. ``alike``: rows of the last reading that look like another.
    """

    path: Path
    columns: LogColumns
    folder: Path
    rows: pl.LazyFrame
    everything: pl.LazyFrame
    alike: list[int] = field(default_factory=list)

    def batches(self, rows: int = ROWS) -> Iterator[pl.DataFrame]:
        """Whole cases, in the file's order. Raises ``UnreadableLog``, and ``Scattered`` when it comes to light that the
        file does not keep cases together: what was read until then has to be forgotten.
        """
        yield from self._checked(_together(self._pieces(rows, pl.all()), self.columns.case))

    def sorted_out(self, rows: int = ROWS) -> Iterator[pl.DataFrame]:
        """Whole cases of a log in any order, each with its rows in the file's. Raises ``UnreadableLog``."""
        # To ask for the number of rows would map the whole file into memory.
        total = sum(map(len, self._pieces(rows, self.columns.case)))
        store = _ByCase(self.folder, self.columns.case, parts=-(-total // rows))
        for piece in self._pieces(rows, pl.all()):
            store.add(piece)
        yield from self._checked(store.parts())

    def _pieces(self, rows: int, wanted: str | pl.Expr) -> Iterator[pl.DataFrame]:
        with self._told():
            yield from self.rows.select(wanted).collect_batches(chunk_size=rows, lazy=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UnreadableLog(f"{self.path}: {_not_readable(self.path)}: {first_line(error)}") from error

    def _checked(self, batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The batches; when all are read, refuses a log without rows and one that repeats some."""
        self.alike = []
        empty = True
        for batch in batches:
            empty = False
            self._look_for_repeated(batch)
            yield batch
        if empty:
            raise UnreadableLog(f"{self.path}: there are no rows; nothing can be said of no cases")
        self._refuse_repeated()

    def _look_for_repeated(self, batch: pl.DataFrame) -> None:
        """A save that stands there twice would count as two, and so fill a gap in the counter."""
        if self.columns.saves is None:
            return
        twice = batch.filter(pl.struct(self.columns.case, self.columns.saves).is_duplicated())
        if len(twice):
            self.alike += twice.filter(pl.struct(pl.exclude(ROW)).is_duplicated())[ROW].to_list()

    def _refuse_repeated(self) -> None:
        """Rows that look alike may still differ in what is not looked at."""
        if not self.alike:
            return
        with self._told():
            whole = self.everything.filter(pl.col(ROW).is_in(self.alike)).collect()
        again = whole.filter(~pl.struct(pl.exclude(ROW)).is_first_distinct())
        if len(again):
            raise UnreadableLog(
                f"{self.path}: row {again[ROW][0]} repeats an earlier row; remove what was exported twice"
            )


@contextmanager
def opened(path: Path, columns: LogColumns) -> Iterator[EventLog]:
    """Raises ``UnreadableLog``."""
    if not path.is_file():
        raise UnreadableLog(f"{path}: there is no such file")
    form = _form(path)
    if form is None:
        known = ", ".join(SUFFIXES)
        raise UnreadableLog(f"{path}: only {known} can be read; export the log in one of these forms")
    _refuse_misnamed(path)
    with TemporaryDirectory(prefix="itsms-log-") as folder:
        try:
            everything = {"CSV": _csv, "XES": _xes, "Parquet": _parquet}[form](path, columns, Path(folder))
            names = [name for name in everything.collect_schema().names() if name != ROW]
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UnreadableLog(f"{path}: {_not_readable(path)}: {first_line(error)}") from error
        _refuse_incomplete(path, names, columns)
        rows = everything.select(ROW, *(name for name in columns.told() if name in names))
        yield EventLog(path, columns, Path(folder), rows, everything)


def first_line(error: Exception) -> str:
    """What a library says, without what it adds for programmers."""
    return str(error).partition("\n")[0]


def _form(path: Path) -> str | None:
    return next((form for suffix, form in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)


def _not_readable(path: Path) -> str:
    return "not readable as CSV in UTF-8 with a header" if _form(path) == "CSV" else f"not readable as {_form(path)}"


def _refuse_misnamed(path: Path) -> None:
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    if path.suffix == ".gz" and not compressed:
        raise UnreadableLog(f"{path}: named .gz, but it is not compressed; rename it to {path.with_suffix('').name}")
    if path.suffix != ".gz" and compressed:
        raise UnreadableLog(f"{path}: it is compressed; rename it to {path.name}.gz")


def _refuse_incomplete(path: Path, names: list[str], columns: LogColumns) -> None:
    optional = (columns.saves, columns.actor, columns.mapping.attributes["state"].field)
    needed = {columns.case, columns.time, *columns.late, *(name for name in optional if name is not None)}
    missing = sorted(needed - set(names))
    if missing and names:
        raise UnreadableLog(
            f"{path}:1: the log has no column {', '.join(map(repr, missing))} that {columns.document} names; "
            f"it has {', '.join(names)}"
        )


def _csv(path: Path, columns: LogColumns, folder: Path) -> pl.LazyFrame:
    del columns, folder
    return pl.scan_csv(path, infer_schema=False, glob=False, row_index_name=ROW, row_index_offset=FIRST_ROW)


def _parquet(path: Path, columns: LogColumns, folder: Path) -> pl.LazyFrame:
    """What is not looked at is empty: it may be of a kind that has no text."""
    del folder
    file = pl.scan_parquet(path, glob=False, row_index_name=ROW, row_index_offset=FIRST_ROW)
    types = {name: type_ for name, type_ in file.collect_schema().items() if name != ROW}
    floats = [name for name in columns.looked_at() if types.get(name) in (pl.Float32, pl.Float64)]
    whole = file.select((pl.col(name) == pl.col(name).round()).all() for name in floats).collect()
    texts = {
        name: _text(name, type_, columns, whole=name in floats and whole[name].item())
        for name, type_ in types.items()
        if name in columns.looked_at()
    }
    return file.select(ROW, *(texts.get(name, pl.lit(None, pl.String)).alias(name) for name in types))


def _text(name: str, type_: pl.DataType, columns: LogColumns, *, whole: bool) -> pl.Expr:
    """Values as a CSV file would have them. ``whole``: all are whole numbers."""
    values = pl.col(name)
    match type_:
        case pl.String:
            return values
        case pl.Datetime():
            zoned = values.dt.convert_time_zone(columns.zone) if type_.time_zone else values
            return zoned.dt.to_string(columns.time_format)
        case _:
            return (values.cast(pl.Int64) if whole else values).cast(pl.String)


def _together(pieces: Iterator[pl.DataFrame], case: str) -> Iterator[pl.DataFrame]:
    """The pieces, cut where a case ends; the last case of a piece may go on in the next one."""
    seen: list[_Hashes] = []
    rest: pl.DataFrame | None = None
    for piece in pieces:
        rows = piece if rest is None else pl.concat([rest, piece])
        goes_on = rows[case].eq_missing(rows[case][-1])
        ready, rest = rows.filter(~goes_on), rows.filter(goes_on)
        if len(ready):
            _refuse_scattered(ready[case], seen)
            yield ready
    if rest is not None:
        _refuse_scattered(rest[case], seen)
        yield rest


def _refuse_scattered(cases: pl.Series, seen: list[_Hashes]) -> None:
    """``seen``: hashes of the cases before, 8 bytes each, in sorted parts of which none is shorter than the next one.
    Two cases of one hash, which are hardly to be expected, cost time only.
    """
    new = np.sort(cases.unique().hash().to_numpy())
    if any(np.isin(new, part, assume_unique=True).any() for part in seen):
        raise Scattered
    while seen and len(seen[-1]) <= len(new):
        new = np.sort(np.concatenate([seen.pop(), new]))
    seen.append(new)


class _ByCase:
    """Rows in files of a folder, those of a case in the same one, each in the order in which they came."""

    def __init__(self, folder: Path, case: str, parts: int) -> None:
        self._folder = folder
        self._case = case
        self._ends: list[list[int]] = [[0] for _ in range(parts)]
        """Per file, where each of the tables in it ends."""

    def add(self, rows: pl.DataFrame) -> None:
        part = (rows[self._case].hash() % len(self._ends)).alias(_PART)
        for (number,), table in rows.with_columns(part).partition_by(_PART, as_dict=True, include_key=False).items():
            with self._file(number).open("ab") as file:
                table.write_ipc_stream(file, compression="lz4")
                self._ends[number].append(file.tell())

    def parts(self) -> Iterator[pl.DataFrame]:
        for number, ends in enumerate(self._ends):
            if len(ends) > 1:
                content = memoryview(self._file(number).read_bytes())
                tables = (content[start:end] for start, end in pairwise(ends))
                yield pl.concat(pl.read_ipc_stream(BytesIO(table)) for table in tables)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.arrows"


# --- XES (IEEE 1849)


def _xes(path: Path, columns: LogColumns, folder: Path) -> pl.LazyFrame:
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException

    try:
        with _unpacked(path) as file:
            return _XesLog(file, columns, folder).rows()
    except ParseError as error:
        line, column = error.position
        told = first_line(error).partition(":")[0]
        raise UnreadableLog(f"{path}:{line}:{column + 1}: not readable as XES: {told}") from error
    except DefusedXmlException as error:
        raise UnreadableLog(f"{path}: XES with a document type of its own is refused: {first_line(error)}") from error
    except (OSError, EOFError) as error:
        raise UnreadableLog(f"{path}: not readable: {first_line(error)}") from error
    except ValueError as error:
        raise UnreadableLog(f"{path}: {first_line(error)}") from error


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as plain:
        yield cast("IO[bytes]", gzip.GzipFile(fileobj=plain)) if path.suffix == ".gz" else plain


class _XesLog:
    """One pass over a log, which puts the columns that are looked at into files of ``folder``: only at the end is known
    which columns there are."""

    def __init__(self, file: IO[bytes], columns: LogColumns, folder: Path) -> None:
        self._file = file
        self._folder = folder
        self._columns = columns
        self._named = columns.looked_at()
        self._defaults: dict[str, str] = {}
        self._seen: dict[str, None] = {}
        self._rows: list[tuple[str | None, ...]] = []
        self._packed: list[Path] = []

    def rows(self) -> pl.LazyFrame:
        """A column for each key that the log knows; those that are not looked at are empty."""
        from defusedxml.ElementTree import iterparse

        found_log = False
        for _, element in iterparse(self._file, events=("end",)):
            match _tag(element):
                case "global":
                    self._declare(element)
                    element.clear()
                case "trace":
                    self._trace(element)
                    element.clear()
                case "log":
                    found_log = True
        if not found_log:
            raise ValueError("there is no <log>, so this is not XES")
        self._pack()
        whole = pl.scan_ipc(self._packed).with_row_index(ROW, FIRST_ROW)
        others = [pl.lit(None, pl.String).alias(name) for name in self._seen if name not in self._named]
        return whole.select(ROW, *(name for name in self._named if name in self._seen), *others)

    def _declare(self, element: "Element") -> None:
        """Attributes that every trace or event has, with the value that stands where one is silent."""
        prefix = TRACE if element.get("scope") == "trace" else ""
        self._defaults |= {prefix + key: value for key, value in self._attributes(element).items()}

    def _trace(self, trace: "Element") -> None:
        whole = {TRACE + key: value for key, value in self._attributes(trace).items()}
        for event in trace:
            if _tag(event) == "event":
                told = {**self._defaults, **whole, **self._attributes(event)}
                self._seen.update(dict.fromkeys(told))
                self._rows.append(tuple(told.get(name) for name in self._named))
        if len(self._rows) >= ROWS:
            self._pack()

    def _pack(self) -> None:
        """Text in rows is ten times as large as in columns."""
        schema = dict.fromkeys(self._named, pl.String)
        self._packed.append(self._folder / f"{len(self._packed)}.arrow")
        pl.DataFrame(self._rows, schema=schema, orient="row").write_ipc(self._packed[-1], compression="lz4")
        self._rows = []

    def _attributes(self, element: "Element") -> Mapping[str, str]:
        """The attributes of an element that have a value of their own."""
        return {
            child.get("key", ""): self._value(_tag(child), child.get("value", ""))
            for child in element
            if child.get("value") is not None
        }

    def _value(self, type_: str, value: str) -> str:
        return self._instant(value) if type_ == "date" else value

    def _instant(self, value: str) -> str:
        """An instant in the form and the zone of the columns file; without an offset it is UTC."""
        from datetime import UTC, datetime
        from zoneinfo import ZoneInfo

        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no instant of XES (ISO 8601)") from None
        zoned = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        zone = UTC if self._columns.zone == "UTC" else ZoneInfo(self._columns.zone)
        return _formatted(zoned.astimezone(zone), self._columns.time_format)


def _formatted(at: Any, form: str) -> str:
    """``%.f`` and ``%3f`` are polars' own: a fraction of a second, or none."""
    for own, digits in (("%.3f", 3), ("%.6f", 6), ("%.f", 6), ("%3f", 3), ("%6f", 6)):
        if own in form:
            fraction = f"{at.microsecond:06d}"[:digits]
            return str(at.strftime(form.replace(own, ("." if "." in own else "") + fraction)))
    return str(at.strftime(form))


def _tag(element: "Element") -> str:
    return element.tag.rpartition("}")[2]
