"""Another version of the program meets a database: brought up to date whole or not at all, or refused untouched."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, insert, select

from itsms_sync.store import database
from itsms_sync.store.database import DatabaseUnavailable, connect
from itsms_sync.store.schema import REVISION, fact, metadata

MIGRATIONS = Path(database.__file__).parent / "migrations"
HEAD = ScriptDirectory(str(MIGRATIONS)).get_current_head()
BETWEEN = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions() if script.revision != HEAD]


def _at(revision: str, path: Path) -> None:
    """A database as the version left it that had this schema."""
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(insert(fact).values(name="kept", value="from before"))
    engine.dispose()


def _schema_of(engine: Engine) -> Any:
    with engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), metadata)


def test_the_revision_that_is_looked_for_is_the_last_one() -> None:
    assert HEAD == REVISION


@pytest.mark.parametrize(
    ("revision", "points"),
    [("initial", 8), *(pytest.param(revision, 1000, marks=pytest.mark.slow) for revision in BETWEEN)],
)
def test_a_process_that_ends_anywhere_in_a_migration_leaves_a_database_that_the_next_one_brings_up_to_date(
    tmp_path: Path, revision: str, points: int
) -> None:
    """What lies on the disk before each statement is what a kill at that point leaves."""
    path = tmp_path / "itsms.db"
    _at(revision, path)
    left: list[Path] = []

    def keep(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("PRAGMA", "SELECT")):
            left.append(tmp_path / f"left-{len(left)}")
            left[-1].mkdir()
            for each in tmp_path.glob("itsms.db*"):
                shutil.copy(each, left[-1] / each.name)

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        connect(f"sqlite:///{path}").dispose()
    finally:
        event.remove(Engine, "before_cursor_execute", keep)
    assert len(left) > 3, "a migration of several statements"
    for folder in left[:: max(1, len(left) // points)]:
        engine = connect(f"sqlite:///{folder / 'itsms.db'}")
        assert [] == _schema_of(engine)
        with engine.begin() as connection:
            assert "from before" == connection.execute(select(fact.c.value).where(fact.c.name == "kept")).scalar()
        engine.dispose()


@pytest.mark.parametrize("migrate", [True, False])
def test_a_database_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path, migrate: bool) -> None:
    path = tmp_path / "itsms.db"
    connect(f"sqlite:///{path}").dispose()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'of-tomorrow'")
    engine.dispose()
    before = path.read_bytes()
    with pytest.raises(DatabaseUnavailable, match="run the version that wrote it, or a newer one"):
        connect(f"sqlite:///{path}", migrate=migrate)
    assert before == path.read_bytes()
