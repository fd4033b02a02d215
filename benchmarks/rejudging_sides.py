"""Judging changed cases anew in a store of many, as a daemon does it; in a process of its own.

The first argument, JSON: ``url`` of the desk, ``tracker``, ``documents``, ``folder`` as for ``backfill_sides``;
``copies`` of what was read that the store gets besides; ``changed`` cases and ``passes``.

Reading a million tickets would take a quarter of an hour: the desk is smaller, and what the program stored of it is
copied inside the database, each copy with records of its own. Only the rows as the source sent them are not copied,
which judging never looks at.
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.backfill_sides import configured, read, touch
from benchmarks.measurement import Facts, peak_mb

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from itsms_sync.wiring import Wired


def main(given: Facts) -> None:
    from itsms_sync.configuration import read_configuration
    from itsms_sync.wiring import make_stop, wired

    with TemporaryDirectory(prefix="itsms-bench-", dir=given["folder"]) as folder:
        path = configured(given, Path(folder))
        with wired(read_configuration(path), stop=make_stop(), progress=lambda *_: None) as parts:
            read(parts)
            with parts.engine.begin() as connection:
                last = _last(connection)
            for copy in range(1, given["copies"] + 1):
                with parts.engine.begin() as connection:
                    _copy(connection, copy, last)
            with parts.engine.begin() as connection:
                _count(connection, given["copies"] + 1)
                stored = _stored(connection)
            passes = [_pass(parts, given["url"], given["changed"]) for _ in range(given["passes"] + 1)][1:]
        size = sum(file.stat().st_size for file in Path(folder).glob("bench.db*")) / 1e6
    print(json.dumps({**stored, "passes": passes, "database_mb": size, "peak_mb": peak_mb()}))


def _pass(parts: "Wired", url: str, number: int) -> Facts:
    """What it takes to read the changed tickets, and to judge them."""
    touch(url, number)
    begun = time.perf_counter()
    for source in parts.read_sources:
        parts.ingest.poll(source)
    wall, cpu = time.perf_counter(), time.process_time()
    report = parts.judging.run(parts.now(), parts.time.wall())
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    if report.cases != number:
        raise SystemExit(f"{report.cases} cases were judged after {number} had changed")
    return {"read_s": wall - begun, "verdicts": report.verdicts_changed, **spent}


def _tables() -> "list[Table]":
    """What is known of cases, in an order in which each row finds those that it names."""
    from itsms_sync.store import schema

    return [schema.record, schema.relation, schema.event, schema.verdict, schema.case_state, schema.deviation]


def _last(connection: "Connection") -> "dict[Table, int]":
    """The last id of each table that has ids, before anything is copied."""
    from sqlalchemy import func, select

    found = {table: connection.execute(select(func.max(table.c.id))).scalar() for table in _tables() if "id" in table.c}
    return {table: last or 0 for table, last in found.items()}


def _copy(connection: "Connection", copy: int, last: "dict[Table, int]") -> None:
    """Each table once more, with ids behind those that there are."""
    from sqlalchemy import insert, select

    from itsms_sync.store.schema import record

    for table in _tables():
        columns = [_copied(column, copy, last.get(table, 0), last[record]) for column in table.c]
        key = table.c.id if "id" in table.c else table.c.record_id
        read = select(*columns).where(key <= last.get(table, last[record]))
        connection.execute(insert(table).from_select(list(table.c.keys()), read))


def _count(connection: "Connection", times: int) -> None:
    """What the program counts has to fit what is stored."""
    from sqlalchemy import update

    from itsms_sync.store.schema import tally

    connection.execute(update(tally).values(cases=tally.c.cases * times))


def _copied(column: Any, copy: int, last: int, last_record: int) -> Any:
    match column.name:
        case "id":
            return column + copy * last
        case "record_id" | "other_id":
            return column + copy * last_record
        case "native_id" | "label":
            return column.op("||")(f"-{copy}")
    return column


def _stored(connection: "Connection") -> Facts:
    from sqlalchemy import func, select

    from itsms_sync.store.schema import case_state, event, verdict

    tables = {"cases": case_state, "events": event, "verdicts": verdict}
    return {
        name: connection.execute(select(func.count()).select_from(table)).scalar_one() for name, table in tables.items()
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
