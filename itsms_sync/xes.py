"""Event logs in XES (IEEE 1849) as files of text, in one pass that keeps what is looked at and builds no tree.

A trace's own attributes are columns named ``case:<key>``, an event's are named by their keys. Whatever the file says,
no entity is expanded, no other file opened, and nothing of the file's own making (a document type, depth, names, a
value) takes more memory than is stated here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import polars as pl

from itsms_sync.logfile import MOST_COLUMNS, ROWS, Budget, Refused, first_line, opened
from itsms_sync.sms.mapping import LogColumns
from itsms_sync.telling import shown

TRACE = "case:"
DEEPEST = 50
"""Levels of elements."""
LONGEST_ELEMENT = 1 << 20
"""Bytes of one element's own text; older expats need time in the square of it."""
MOST_NAMES = 1_000
"""Different names of elements and of their attributes; XES has 25. The parser keeps each until the end."""
_FED_AT_ONCE = 1 << 16


def files(path: Path, columns: LogColumns, folder: Path) -> tuple[list[Path], list[str]]:
    """Files with the rows in order, of the columns that are looked at, and the names of all columns. Raises
    ``Refused``.
    """
    log = _Log(columns, Budget(path), folder)
    with opened(path) as file:
        _fed(file, log)
    return log.files(), list(log.seen)


def _fed(file: IO[bytes], log: "_Log") -> None:
    from defusedxml.ElementTree import DefusedXMLParser

    # A document type could give elements attributes of any length.
    parser = DefusedXMLParser(target=log, forbid_dtd=True)
    fed = 0
    while data := file.read(_FED_AT_ONCE):
        fed += len(data)
        with _told(parser):
            parser.feed(data)
            if fed - parser.parser.CurrentByteIndex > LONGEST_ELEMENT:
                raise Refused(f"an element of more than {LONGEST_ELEMENT:,} bytes is not XES")
    with _told(parser):
        parser.close()


@contextmanager
def _told(parser: Any) -> Iterator[None]:
    """What the parser complains of, and where."""
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException

    try:
        yield
    except ParseError as error:
        line, column = error.position
        raise Refused(f"not readable as XES: {first_line(error).rpartition(': ')[0]}", line, column + 1) from error
    except DefusedXmlException as error:
        told = "XES with a document type of its own is refused; remove the <!DOCTYPE …>"
        raise Refused(told, parser.parser.CurrentLineNumber) from error
    except Refused as error:
        raise Refused(str(error), parser.parser.CurrentLineNumber) from error
    except (LookupError, ValueError) as error:
        # an encoding that the parser does not know
        raise Refused(f"not readable as XES: {first_line(error)}; save it in UTF-8", 1) from error


class _Log:
    """What the parser tells of the log, element by element; rows are made when a trace ends."""

    def __init__(self, columns: LogColumns, budget: Budget, folder: Path) -> None:
        self._folder = folder
        self._columns = columns
        self._zone = UTC if columns.zone == "UTC" else ZoneInfo(columns.zone)
        self._named = columns.looked_at()
        self._looked_at = frozenset(self._named)
        self._budget = budget
        self._names: set[str] = set()
        self._path: list[str] = []
        self._prefix = ""
        self._defaults: dict[str, str] = {}
        self._trace: dict[str, str] = {}
        self._events: list[dict[str, str]] = []
        self.seen: dict[str, None] = {}
        """The keys of attributes, in order."""
        self._rows: list[tuple[str | None, ...]] = []
        self._packed: list[Path] = []

    def files(self) -> list[Path]:
        """At least one."""
        self._pack()
        return self._packed

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """The parser's call at the begin of an element."""
        name = tag.rpartition("}")[2]
        self._bound(tag, attributes)
        match self._path:
            case [] if name != "log":
                raise Refused("there is no <log>, so this is not XES")
            case ["log"]:
                self._prefix = TRACE if name == "trace" or attributes.get("scope") == "trace" else ""
            case ["log", "trace"] if name == "event":
                self._events.append({})
            case ["log", "trace", "event"]:
                self._keep(self._events[-1], "", name, attributes)
            case ["log", "trace"]:
                self._keep(self._trace, TRACE, name, attributes)
            case ["log", "global"]:
                self._keep(self._defaults, self._prefix, name, attributes)
        self._path.append(name)

    def end(self, tag: str) -> None:
        """The parser's call at the end of an element."""
        self._path.pop()
        if len(self._path) == 1 and tag.rpartition("}")[2] == "trace":
            self._end_trace()

    def close(self) -> None:
        """The parser's call at the end of the file."""

    def _bound(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._names.add(tag)
        self._names.update(attributes)
        if len(self._names) > MOST_NAMES:
            raise Refused(f"more than {MOST_NAMES:,} different names of elements and attributes are not XES")
        if len(self._path) >= DEEPEST:
            raise Refused(f"elements are nested in more than {DEEPEST} levels")

    def _keep(self, told: dict[str, str], prefix: str, type_: str, attributes: Mapping[str, str]) -> None:
        """An attribute of the log that has a value of its own."""
        key, value = attributes.get("key"), attributes.get("value")
        if key is None or value is None:
            return
        column = prefix + key
        self.seen[column] = None
        if len(self.seen) > MOST_COLUMNS:
            raise Refused(f"more than {MOST_COLUMNS:,} different keys; a column for each cannot be kept")
        if column in self._looked_at:
            told[column] = self._instant(value) if type_ == "date" else value

    def _end_trace(self) -> None:
        whole = {**self._defaults, **self._trace}
        # What every event has in common can be long, and be told of millions of events.
        self._budget.take(sum(map(len, whole.values())) * len(self._events))
        for event in self._events:
            told = {**whole, **event}
            self._rows.append(tuple(told.get(name) for name in self._named))
            if len(self._rows) >= ROWS:
                self._pack()
        self._trace = {}
        self._events = []

    def _pack(self) -> None:
        """Text in rows is ten times as large as in columns."""
        schema = dict.fromkeys(self._named, pl.String)
        self._packed.append(self._folder / f"{len(self._packed)}.arrow")
        pl.DataFrame(self._rows, schema=schema, orient="row").write_ipc(self._packed[-1], compression="lz4")
        self._rows = []

    def _instant(self, value: str) -> str:
        """An instant in the form and the zone of the columns file; without an offset it is UTC."""
        try:
            at = datetime.fromisoformat(value)
            zoned = (at.replace(tzinfo=UTC) if at.tzinfo is None else at).astimezone(self._zone)
        except (ValueError, OverflowError):
            raise Refused(f"{shown(repr(value))} is no instant of XES (ISO 8601)") from None
        return _formatted(zoned, self._columns.time_format)


def _formatted(at: Any, form: str) -> str:
    """``%.f`` and ``%3f`` are polars' own: a fraction of a second, or none."""
    for own, digits in (("%.3f", 3), ("%.6f", 6), ("%.f", 6), ("%3f", 3), ("%6f", 6)):
        if own in form:
            fraction = f"{at.microsecond:06d}"[:digits]
            return str(at.strftime(form.replace(own, ("." if "." in own else "") + fraction)))
    return str(at.strftime(form))
