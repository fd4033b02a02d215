"""Event logs from files: CSV, XES and Parquet, plain or compressed, as text in batches of whole cases.

Owns reading and what is refused; what the columns mean is the columns file's. In XES a trace's own attributes are
columns named ``case:<key>``, an event's are named by their keys; a key that a trace or event lacks is empty, unless
the log declares a value for it. Instants that a file holds as instants are written in the form and the zone that the
columns file names, so that they are read as all others are.

No more than a few batches are held at a time, however long the log is. A log whose cases do not lie together is sorted
out by case into files of a temporary folder first.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray

from itsms_sync import parquet, xes
from itsms_sync.logfile import MOST_COLUMNS, ROWS, Refused, UnreadableLog, first_line, is_packed, unpacked
from itsms_sync.sms.cases import ROW
from itsms_sync.sms.mapping import LogColumns
from itsms_sync.telling import shown

GZIP = b"\x1f\x8b"
SUFFIXES = {".csv": "CSV", ".csv.gz": "CSV", ".xes": "XES", ".xes.gz": "XES", ".parquet": "Parquet"}
FIRST_ROW = 2
"""The header is row 1, also of a file that has none."""
LONGEST_HEADER = 1 << 20
"""Characters of the header of a CSV file."""
FEWEST_CELLS = 1 << 21
"""Cells that a CSV file of any size may have."""
_AT_ONCE = 1 << 20
_PART = "\x00part"
_Hashes = NDArray[np.uint64]


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
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
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
    with TemporaryDirectory(prefix="itsms-log-") as folder:
        try:
            _refuse_misnamed(path)
            everything = {"CSV": _csv, "XES": _xes, "Parquet": _parquet}[form](path, columns, Path(folder))
            names = [name for name in everything.collect_schema().names() if name != ROW]
        except Refused as error:
            raise UnreadableLog(f"{':'.join(map(str, (path, *error.place)))}: {error}") from error
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise UnreadableLog(f"{path}: {_not_readable(path)}: {first_line(error)}") from error
        _refuse_incomplete(path, names, columns)
        rows = everything.select(ROW, *(name for name in columns.told() if name in names))
        yield EventLog(path, columns, Path(folder), rows, everything)


def _form(path: Path) -> str | None:
    return next((form for suffix, form in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)


def _not_readable(path: Path) -> str:
    return "not readable as CSV in UTF-8 with a header" if _form(path) == "CSV" else f"not readable as {_form(path)}"


def _refuse_misnamed(path: Path) -> None:
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    if is_packed(path) and not compressed:
        raise UnreadableLog(f"{path}: named .gz, but it is not compressed; rename it to {path.with_suffix('').name}")
    if not is_packed(path) and compressed:
        raise UnreadableLog(f"{path}: it is compressed; rename it to {path.name}.gz")


def _refuse_incomplete(path: Path, names: list[str], columns: LogColumns) -> None:
    optional = (columns.saves, columns.actor, columns.mapping.attributes["state"].field)
    needed = {columns.case, columns.time, *columns.late, *(name for name in optional if name is not None)}
    missing = sorted(needed - set(names))
    if not names:
        raise UnreadableLog(f"{path}: there are no rows; nothing can be said of no cases")
    if missing:
        raise UnreadableLog(
            f"{path}:1: the log has no column {', '.join(map(repr, missing))} that {columns.document} names; "
            f"it has {shown(', '.join(names))}"
        )


def _csv(path: Path, columns: LogColumns, folder: Path) -> pl.LazyFrame:
    del columns
    plain = unpacked(path, folder)
    _refuse_wide(_width(plain))
    scanned = pl.scan_csv(plain, infer_schema=False, glob=False, row_index_name=ROW, row_index_offset=FIRST_ROW)
    width = len(scanned.collect_schema()) - 1
    _refuse_wide(width)
    _refuse_empty_cells(plain, width)
    return scanned


def _refuse_wide(width: int) -> None:
    if width > MOST_COLUMNS:
        raise Refused(
            f"the header has more than {MOST_COLUMNS:,} columns or {LONGEST_HEADER:,} characters; is this CSV?", 1
        )


def _refuse_empty_cells(path: Path, width: int) -> None:
    """What would need far more memory than it has text: each cell takes 16 bytes, also one of a row that is too short,
    which has no text at all.
    """
    with path.open("rb") as file:
        lines = sum(data.count(b"\n") for data in iter(lambda: file.read(_AT_ONCE), b""))
    if width * lines > FEWEST_CELLS + 2 * path.stat().st_size:
        raise Refused(f"most of its {lines:,} lines have far fewer cells than the {width:,} columns of the header")


def _width(path: Path) -> int:
    """Columns of the header, which goes over several lines where a quoted name does; more than may be where it is too
    long to tell.
    """
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        start = file.read(LONGEST_HEADER)
    rows = csv.reader(StringIO(start, newline=""))
    try:
        header = next(rows, [])
        ended = len(start) < LONGEST_HEADER or next(rows, None) is not None
    except csv.Error:
        return MOST_COLUMNS + 1
    return len(header) if ended else MOST_COLUMNS + 1


def _xes(path: Path, columns: LogColumns, folder: Path) -> pl.LazyFrame:
    return _packed(*xes.files(path, columns, folder))


def _parquet(path: Path, columns: LogColumns, folder: Path) -> pl.LazyFrame:
    return _packed(*parquet.files(path, columns, folder))


def _packed(files: list[Path], names: list[str]) -> pl.LazyFrame:
    """What was put into files. What is not looked at is empty: it may be of a kind that has no text."""
    whole = pl.scan_ipc(files).with_row_index(ROW, FIRST_ROW) if files else pl.LazyFrame(schema={ROW: pl.UInt32})
    there = whole.collect_schema().names()
    return whole.select(
        ROW, *(pl.col(name) if name in there else pl.lit(None, pl.String).alias(name) for name in names)
    )


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
