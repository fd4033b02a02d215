"""Event logs from files: CSV, XES and Parquet, plain or compressed, as one table of text.

Owns reading and what is refused; what the columns mean is the columns file's. In XES a trace's own attributes are
columns named ``case:<key>``, an event's are named by their keys; a key that a trace or event lacks is empty, unless
the log declares a value for it. Instants that a file holds as instants are written in the form and the zone that the
columns file names, so that they are read as all others are.
"""

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import polars as pl

from itsms_sync.sms.mapping import LogColumns

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

GZIP = b"\x1f\x8b"
SUFFIXES = {".csv": "CSV", ".csv.gz": "CSV", ".xes": "XES", ".xes.gz": "XES", ".parquet": "Parquet"}
TRACE = "case:"
_ROWS_AT_ONCE = 200_000


class UnreadableLog(Exception):
    """The log cannot be read; the message names file, row and what to do."""


def read(path: Path, columns: LogColumns) -> pl.DataFrame:
    """All text, one row per save in the file's order. Raises ``UnreadableLog``."""
    if not path.is_file():
        raise UnreadableLog(f"{path}: there is no such file")
    form = next((form for suffix, form in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
    if form is None:
        known = ", ".join(SUFFIXES)
        raise UnreadableLog(f"{path}: only {known} can be read; export the log in one of these forms")
    _refuse_misnamed(path)
    raw = {"CSV": _csv, "XES": _xes, "Parquet": _parquet}[form](path, columns)
    _refuse_incomplete(path, raw, columns)
    _refuse_repeated(path, raw, columns)
    return raw


def first_line(error: Exception) -> str:
    """What a library says, without what it adds for programmers."""
    return str(error).partition("\n")[0]


def _refuse_misnamed(path: Path) -> None:
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    if path.suffix == ".gz" and not compressed:
        raise UnreadableLog(f"{path}: named .gz, but it is not compressed; rename it to {path.with_suffix('').name}")
    if path.suffix != ".gz" and compressed:
        raise UnreadableLog(f"{path}: it is compressed; rename it to {path.name}.gz")


def _csv(path: Path, columns: LogColumns) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False, null_values=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableLog(f"{path}: not readable as CSV in UTF-8 with a header: {first_line(error)}") from error


def _parquet(path: Path, columns: LogColumns) -> pl.DataFrame:
    try:
        schema = pl.read_parquet_schema(path)
        raw = pl.read_parquet(path, columns=[name for name in schema if name in columns.looked_at()])
        others = [pl.lit(None, pl.String).alias(name) for name in schema if name not in raw.columns]
        return raw.select(*(_text(raw[name], columns) for name in raw.columns), *others)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableLog(f"{path}: not readable as Parquet: {first_line(error)}") from error


def _text(values: pl.Series, columns: LogColumns) -> pl.Series:
    """Values as a CSV file would have them."""
    match values.dtype:
        case pl.String:
            return values
        case pl.Datetime():
            zoned = values.dt.convert_time_zone(columns.zone) if values.dtype.time_zone else values
            return zoned.dt.to_string(columns.time_format)
        case pl.Float32 | pl.Float64 if bool((values.drop_nulls() == values.drop_nulls().round()).all()):
            return values.cast(pl.Int64).cast(pl.String)
        case _:
            return values.cast(pl.String)


def _refuse_incomplete(path: Path, raw: pl.DataFrame, columns: LogColumns) -> None:
    optional = (columns.saves, columns.actor, columns.mapping.attributes["state"].field)
    needed = {columns.case, columns.time, *columns.late, *(name for name in optional if name is not None)}
    missing = sorted(needed - set(raw.columns))
    if missing and raw.columns:
        raise UnreadableLog(
            f"{path}:1: the log has no column {', '.join(map(repr, missing))} that {columns.document} names; "
            f"it has {', '.join(raw.columns)}"
        )
    if raw.is_empty():
        raise UnreadableLog(f"{path}: there are no rows; nothing can be said of no cases")


def _refuse_repeated(path: Path, raw: pl.DataFrame, columns: LogColumns) -> None:
    """A save that stands there twice would count as two, and so fill a gap in the counter."""
    if columns.saves is None:
        return
    rows = raw.with_row_index("row_number", offset=2).filter(pl.struct(columns.case, columns.saves).is_duplicated())
    again = rows.filter(~pl.struct(raw.columns).is_first_distinct())
    if len(again):
        raise UnreadableLog(
            f"{path}: row {again['row_number'][0]} repeats an earlier row; remove what was exported twice"
        )


# --- XES (IEEE 1849)


def _xes(path: Path, columns: LogColumns) -> pl.DataFrame:
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException

    try:
        with _opened(path) as file:
            return _XesLog(file, columns).frame()
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
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as plain:
        yield cast("IO[bytes]", gzip.GzipFile(fileobj=plain)) if path.suffix == ".gz" else plain


class _XesLog:
    """One pass over a log; of each trace only the columns that are looked at are kept."""

    def __init__(self, file: IO[bytes], columns: LogColumns) -> None:
        self._file = file
        self._columns = columns
        self._named = columns.looked_at()
        self._defaults: dict[str, str] = {}
        self._seen: dict[str, None] = {}
        self._rows: list[tuple[str | None, ...]] = []
        self._frames: list[pl.DataFrame] = []

    def frame(self) -> pl.DataFrame:
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
        whole = pl.concat(self._frames)
        others = [pl.lit(None, pl.String).alias(name) for name in self._seen if name not in self._named]
        return whole.select(*(name for name in self._named if name in self._seen), *others)

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
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        """Text in rows is ten times as large as in columns."""
        schema = dict.fromkeys(self._named, pl.String)
        self._frames.append(pl.DataFrame(self._rows, schema=schema, orient="row"))
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
