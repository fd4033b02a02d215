"""Opening the database: where it may lie, who may write, which schema it has.

SQLite runs in WAL mode with ``synchronous=FULL``: with NORMAL an acknowledged commit can be lost in a power cut.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Table, create_engine, event, insert, inspect, select
from sqlalchemy.engine import ExceptionContext, make_url

from itsms_sync.store.schema import REVISION, fact

T = TypeVar("T")

NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "fuse.glusterfs",
}

MOUNTS = Path("/proc/mounts")
"""Where Linux tells what is mounted; other systems have no such file, and nothing is refused there."""

PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=5000",
    # 32 MiB for each of the two threads: the indexes of a backfill do not fit into the 2 MiB of the default.
    "cache_size=-32768",
    "wal_autocheckpoint=8000",  # 32 MiB of log before it is copied back, not 4 MiB: a backfill copies less often
)


class DatabaseUnavailable(Exception):
    """The database cannot be used now; the message says why and what to do."""


class Locked(DatabaseUnavailable):
    """Another process writes to this database; ``holder`` says which."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class Broken(DatabaseUnavailable):
    """The disk or the file failed: what it acknowledges cannot be believed any more, so this process must end."""


_FAILURES: Sequence[tuple[str, type[DatabaseUnavailable], str]] = (
    ("SQLITE_FULL", DatabaseUnavailable, "the disk is full; free some space, and the next run goes on from here"),
    ("SQLITE_BUSY", DatabaseUnavailable, "another program holds a lock on it for long; end that program"),
    ("SQLITE_READONLY", DatabaseUnavailable, "it may not be written to; give this account the right to"),
    ("SQLITE_CANTOPEN", DatabaseUnavailable, "it cannot be opened; see that its folder is there and may be written to"),
    ("SQLITE_IOERR", Broken, "the disk failed to read or write; check it, then start again: what was stored is kept"),
    ("SQLITE_CORRUPT", Broken, "the file is damaged; restore a backup, and everything that is missing is read again"),
    ("SQLITE_NOTADB", Broken, "the file is no database; restore a backup or correct the setting `database`"),
)
"""Start of SQLite's name for an error, what it is to us, and what to do."""


def connect(url: str, mounts: Path = MOUNTS, *, migrate: bool = True) -> Engine:
    """An engine for ``sqlite:///path`` (or another SQLAlchemy URL) with this program's schema.

    ``migrate`` brings the schema there; only a process that holds the right to write may. ``mounts`` tells the file
    systems. Raises ``DatabaseUnavailable`` for a folder that does not exist, a network file
    system, a newer schema, or without ``migrate`` another one.
    """
    path = sqlite_path(url)
    if path is not None:
        _refuse_network_file_system(path, mounts)
        if not path.parent.is_dir():
            raise DatabaseUnavailable(f"the folder {path.parent} of the database does not exist; create it")
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "handle_error", _told)
    _check_schema(engine, migrate=migrate)
    return engine


def sqlite_path(url: str) -> Path | None:
    """The file behind the URL, if it is SQLite's."""
    parts = make_url(url)
    return Path(parts.database) if parts.get_backend_name() == "sqlite" and parts.database else None


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, also for reading
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _told(context: ExceptionContext) -> None:
    """A failure of disk or file in the operator's words, wherever it strikes."""
    name = getattr(context.original_exception, "sqlite_errorname", "")
    for start, kind, told in _FAILURES:
        if name.startswith(start):
            place = context.engine.url.database if context.engine else ""
            raise kind(f"the database {place}: {told} ({name})") from None


def _refuse_network_file_system(path: Path, mounts: Path) -> None:
    if not mounts.exists():
        return
    place = str(path.resolve().parent)
    best = ("", "")
    for line in mounts.read_text().splitlines():
        _, escaped, kind, *_ = line.split()
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), escaped)
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    if best[1] in NETWORK_FILE_SYSTEMS:
        raise DatabaseUnavailable(
            f"{path} lies on a network file system ({best[1]} at {best[0]}), where SQLite's locks do not hold; "
            "put it on a local disk"
        )


def _check_schema(engine: Engine, *, migrate: bool) -> None:
    current = _revision(engine)
    if current == REVISION:
        return
    # only here, because it takes long to load
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    if current is not None and current not in {s.revision for s in scripts.walk_revisions()}:
        raise DatabaseUnavailable(
            f"the database has schema {current!r}, which this version of the program does not know; "
            "run the version that wrote it, or a newer one"
        )
    if not migrate:
        raise DatabaseUnavailable(
            "the database was written by an earlier version of the program; "
            "`itsms-sync once` or `run` brings it up to date"
        )
    upgrade(engine)


def _revision(engine: Engine) -> str | None:
    """What Alembic wrote down of the schema; ``None`` where there is none yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return found


def upgrade(engine: Engine) -> None:
    """Brings the schema to this program's version."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Holds the right to write for as long as the context lasts. Raises ``Locked`` if another process has it.

    A lock of the operating system on a file beside the database: it ends with the process, however the process ends.
    """
    path = sqlite_path(url)
    if path is None:
        yield
        return
    lock = path.with_name(path.name + ".lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DatabaseUnavailable(f"cannot open {lock}: {error.strerror}; the folder must be writable") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            told = f"another process (pid {holder}) writes to {path}; only one may"
            raise Locked(f"{told}. Stop it first, or use another database", f"process {holder}") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def on_rollback(connection: Connection, undo: Callable[[], None]) -> None:
    """Calls ``undo`` if the connection's transaction is rolled back: what a process remembers to have stored must not
    outrun what is stored."""
    event.listen(connection, "rollback", lambda _: undo())


def new_id(result: CursorResult[Any]) -> int:
    """The id of the row that was just inserted."""
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def pseudonym_key(engine: Engine) -> bytes:
    """The key of this database's pseudonyms; made when it is first asked for."""
    with engine.begin() as connection:
        found = connection.execute(select(fact.c.value).where(fact.c.name == "pseudonym_key")).scalar()
        if found is None:
            found = secrets.token_hex(32)
            connection.execute(insert(fact).values(name="pseudonym_key", value=found))
    return bytes.fromhex(found)


class Bulk:
    """Many rows by one prepared statement; rows that are there already stay as they are.

    The driver is called directly: SQLAlchemy's own way costs more than half of the time of an ingest.
    """

    def __init__(self, engine: Engine, table: Table, columns: Sequence[str], update: Sequence[str] = ()) -> None:
        statement = insert(table).compile(dialect=engine.dialect, column_keys=list(columns))
        keys = ", ".join(c.name for c in table.primary_key.columns)
        changes = ", ".join(f'"{c}" = excluded."{c}"' for c in update)
        action = f"({keys}) DO UPDATE SET {changes}" if update else "DO NOTHING"
        self._sql = f"{statement} ON CONFLICT {action}"
        self._names: Sequence[str] = statement.positiontup if statement.positional else ()  # type: ignore[assignment]
        self._columns = list(columns)
        self._order = [self._columns.index(name) for name in self._names]

    def rows(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Inserts; returns how many rows were new."""
        if not rows:
            return 0
        if self._names:
            same = self._order == list(range(len(self._columns)))
            values: Any = list(rows) if same else [tuple(row[i] for i in self._order) for row in rows]
        else:
            values = [dict(zip(self._columns, row, strict=True)) for row in rows]
        return connection.exec_driver_sql(self._sql, values).rowcount


class Lookup:
    """One question over many values, asked in pieces of a fixed length, each the same statement.

    ``question`` is SQL with ``{given}`` for each of the first parameters and ``{values}`` for the list. SQLAlchemy
    would build the list anew each time, which costs more than the answer.
    """

    SIZE = 500

    def __init__(self, engine: Engine, question: str) -> None:
        mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
        self._sql = question.format(given=mark, values=", ".join([mark] * self.SIZE))

    def ask(self, connection: Connection, given: tuple[Any, ...], values: Sequence[Any]) -> Iterator[Any]:
        """The rows of all pieces."""
        for part in chunks(values, self.SIZE):
            padded = (*given, *part, *([part[-1]] * (self.SIZE - len(part))))
            yield from connection.exec_driver_sql(self._sql, padded)

    def tell(self, connection: Connection, given: tuple[Any, ...], values: Sequence[Any]) -> None:
        """The same for a statement that gives no rows."""
        for part in chunks(values, self.SIZE):
            connection.exec_driver_sql(self._sql, (*given, *part, *([part[-1]] * (self.SIZE - len(part)))))


def chunks(values: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    """Pieces small enough for one IN list on every database."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
