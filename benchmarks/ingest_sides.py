"""The sides of the ingest benchmark, each run in a process of its own against a simulator that runs already.

``given``: ``url`` of the simulator, ``documents`` (folder of mappings), ``requests`` (file: one request target a line),
``served`` (rows and events that these bring, for who does not look).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.measurement import Facts, main, measured

if TYPE_CHECKING:
    from itsms_sync.wiring import Wired

_ACCOUNT = ("itsms", "secret")
_CONFIGURATION = """\
database: sqlite:///bench.db
documents: {documents}
sources:
  servicenow:
    system: servicenow
    url: {url}
    credential:
      username: {user}
      password: {{file: password.txt}}
    go_live: 2016-02-29
    system_accounts: ["Updated by 908"]
"""


def poll(given: Facts) -> Facts:
    """The product reads everything into an empty database."""
    with _wired(given) as parts:
        return _with_events(measured(lambda: _polled(parts)), parts)


def cycle(given: Facts) -> Facts:
    """The product reads everything, judges every case and decides, as ``once --dry-run`` does."""
    with _wired(given) as parts:
        return _with_events(measured(lambda: _cycled(parts)), parts)


def record(given: Facts) -> Facts:
    """One poll that writes down what was asked over the wire, for the client that asks the same."""
    asked: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "http.client.send" and arguments[1].startswith(b"GET "):
            asked.append(arguments[1].split(b" ", 2)[1].decode())

    sys.addaudithook(note)
    found = poll(given)
    Path(given["requests"]).write_text("\n".join(asked))
    return found


def bare(given: Facts) -> Facts:
    """Somebody's script: the same questions on one connection, JSON parsed, nothing checked, nothing stored."""
    return measured(lambda: _asked(given, lambda body: len(orjson.loads(body)["result"])))


def unparsed(given: Facts) -> Facts:
    """The same without even parsing: what the simulator can serve."""
    return measured(lambda: {**_asked(given, lambda body: 0), **given["served"]})


def _asked(given: Facts, count: Callable[[bytes], int]) -> Facts:
    import requests

    session = requests.Session()
    session.trust_env = False
    session.auth = _ACCOUNT
    rows = {"incident": 0, "sys_audit": 0}
    targets = Path(given["requests"]).read_text().splitlines()
    for target in targets:
        answer = session.get(given["url"] + target, headers={"Accept": "application/json"})
        answer.raise_for_status()
        table = target.partition("?")[0].rpartition("/")[2]
        rows[table] = rows.get(table, 0) + count(answer.content)
    return {"requests": len(targets), "rows": rows["incident"] + rows["sys_audit"], "events": rows["sys_audit"]}


@contextmanager
def _wired(given: Facts) -> Iterator["Wired"]:
    """The product with an empty database in a folder of its own."""
    from itsms_sync.configuration import read_configuration
    from itsms_sync.wiring import make_stop, wired

    with TemporaryDirectory(prefix="itsms-bench-") as folder:
        Path(folder, "password.txt").write_text(_ACCOUNT[1])
        path = Path(folder, "bench.yaml")
        path.write_text(_CONFIGURATION.format(user=_ACCOUNT[0], url=given["url"], documents=given["documents"]))
        with wired(read_configuration(path), stop=make_stop(), progress=lambda *_: None) as parts:
            yield parts


def _polled(parts: "Wired") -> Facts:
    from itsms_sync.ingest import Fields, Ingest, ReadSource
    from itsms_sync.wiring import wall_clock

    incident = parts.configuration.library.mappings["servicenow"].processes["incident"]
    asked = Fields(
        tuple(incident.source_fields()), incident.fields_of_type("person"), incident.fields_of_type("free_text")
    )
    settings = parts.configuration.settings.sources["servicenow"]
    ingested, plugin = parts.sources["servicenow"]
    source = ReadSource(
        "servicenow",
        parts.connectors["servicenow"],
        plugin,
        ingested,
        {incident.kind: asked},
        int(settings.overlap.total_seconds() * 1000),
        settings.page_size,
    )
    return _facts(Ingest(parts.engine, wall_clock, parts.progress).poll(source), parts)


def _cycled(parts: "Wired") -> Facts:
    report = parts.run_cycle(dry_run=True)
    return {
        **_facts(report.sources[0], parts),
        "cases": report.judgement.cases,
        "verdicts": report.judgement.verdicts_changed,
    }


def _facts(report: Any, parts: "Wired") -> Facts:
    if report.problem is not None:
        raise SystemExit(f"the poll did not come to its end: {report.problem}")
    return {"requests": parts.requests_sent, "rows": report.rows}


def _with_events(facts: Facts, parts: "Wired") -> Facts:
    from sqlalchemy import func, select

    from itsms_sync.store.database import sqlite_path
    from itsms_sync.store.schema import event

    with parts.engine.begin() as connection:
        events = connection.execute(select(func.count()).select_from(event)).scalar()
    stored = sqlite_path(parts.configuration.database_url())
    assert stored is not None
    return {**facts, "events": events, "database_mb": stored.stat().st_size / 1e6}


if __name__ == "__main__":
    main({"record": record, "bare": bare, "unparsed": unparsed, "poll": poll, "cycle": cycle})
