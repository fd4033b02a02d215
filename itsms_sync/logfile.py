"""An event log as a file: what may be wrong with it, and how large it may become when it is unpacked.

A file of a few kilobytes can stand for gigabytes of text. Nothing that people export does, so what unpacks to more than
``most_unpacked`` is refused before it is unpacked.
"""

import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from itsms_sync.telling import shown

ALWAYS = 64 << 20
"""Bytes that every file may unpack to."""
TIMES = 100
"""How many times its own size a file may unpack to beyond that; logs are packed to a fifteenth up to a fortieth."""
MOST_COLUMNS = 2_000
ROWS = 75_000
"""Rows that are held at a time, about: more where the last case goes on, fewer at the end."""
_AT_ONCE = 1 << 20


class UnreadableLog(Exception):
    """The log cannot be read; the message names file, row and what to do."""


class Refused(ValueError):
    """What is wrong in a log, without the file's name. ``place`` is line and column (from 1), as far as known."""

    def __init__(self, told: str, *place: int) -> None:
        super().__init__(told)
        self.place = place


def first_line(error: BaseException) -> str:
    """What a library says, without what it adds for programmers."""
    return shown(str(error).partition("\n")[0], 500)


def most_unpacked(path: Path) -> int:
    """Bytes that the file may unpack to."""
    return ALWAYS + TIMES * path.stat().st_size


class Budget:
    """Counts what comes out of a file. Raises ``Refused`` when it is more than the file may unpack to."""

    def __init__(self, path: Path) -> None:
        self._most = most_unpacked(path)
        self._left = self._most

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Refused(
                f"it unpacks to more than {self._most:,} bytes, {TIMES} times its size and {ALWAYS >> 20} MiB; "
                "if it is what was exported, unpack it or divide it"
            )


class _Counted:
    """A stream whose bytes are counted."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self._file = file
        self._budget = budget

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Refused(f"the compressed data is damaged: {first_line(error)}; export it again") from error
        self._budget.take(len(data))
        return data


def is_packed(path: Path) -> bool:
    """Whether the name says that the file is compressed."""
    return path.suffix.lower() == ".gz"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The text of a log, plain or compressed. Reading it raises ``Refused``."""
    with path.open("rb") as plain:
        if not is_packed(path):
            yield plain
            return
        yield cast("IO[bytes]", _Counted(cast("IO[bytes]", gzip.GzipFile(fileobj=plain)), Budget(path)))


def unpacked(path: Path, folder: Path) -> Path:
    """A plain file with the text of a log, in ``folder``; the log itself where it is not compressed. Raises
    ``Refused``.
    """
    if not is_packed(path):
        return path
    plain = folder / "unpacked"
    with opened(path) as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file, _AT_ONCE)
    return plain
