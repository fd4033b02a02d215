"""What is known of the database outside of it: a file beside it, and the file that the database itself is.

A backup that is restored takes the database back in time, and everything in it agrees. Only something that was not
restored with it can tell. So the number of each cycle is also written to a logbook beside the database, after it was
committed: a logbook that knows of later cycles than the database tells that it went back.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from itsms_sync.guard import Age
from itsms_sync.store.database import Broken, DatabaseUnavailable


class Replaced(Broken):
    """The file of the database is not the one that was opened. What is written now would be lost or go astray."""


class Unreadable(Exception):
    """The logbook is there and says nothing that can be understood."""


@dataclass(frozen=True, slots=True)
class Logbook:
    """The file beside the database, read and written as a whole."""

    path: Path

    @staticmethod
    def beside(database: Path) -> "Logbook":
        return Logbook(database.with_name(database.name + ".logbook"))

    def read(self) -> Age | None:
        """What was noted last; ``None`` if there is no logbook. Raises ``Unreadable``."""
        try:
            held = orjson.loads(self.path.read_bytes())
            return Age(str(held["database"]), str(held["place"]), int(held["cycle"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Unreadable(str(self.path)) from error

    def note(self, age: Age) -> None:
        """Replaces what was noted; after a power cut there is either the former note or this one."""
        fresh = self.path.with_name(self.path.name + ".new")
        content = orjson.dumps({"database": age.database, "place": age.place, "cycle": age.cycle})
        try:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                os.write(handle, content)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(fresh, self.path)
            _flush(self.path.parent)
        except OSError as error:
            raise DatabaseUnavailable(f"cannot write {self.path}: {error.strerror}") from error


def _flush(folder: Path) -> None:
    """Else a power cut may take away the name of a file that has just been written."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class OpenFile:
    """The file of an open database, looked at from outside. It is never opened here: closing it would give up the
    locks that SQLite holds on it for this process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._seen()

    def check(self) -> None:
        """Raises ``Replaced`` if another file, or none, stands at the database's place."""
        seen = self._seen()
        if seen != self._known:
            what = "was removed" if seen is None else "was replaced by another file"
            raise Replaced(
                f"{self._path} {what} while it was open: what is written now would be lost. Stop whatever does that, "
                "put the right file there, and start again"
            )

    def _seen(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino
