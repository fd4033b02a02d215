"""The sides of the ingest benchmark, each run in a process of its own against a simulator that runs already.

``given``: ``system``, ``url`` and ``account`` (name and secret) of the simulator, ``documents`` (folder of mappings),
``requests`` (file: JSON, a list of method, target and body), ``served`` (rows and events that these bring, for who does
not look).
"""

import json
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

_CONFIGURATION = """\
database: sqlite:///bench.db
documents: {documents}
sources:
  bench:
    system: {system}
    url: {url}
    credential:
      username: {user}
      password: {{file: password.txt}}
    go_live: 2016-02-29
    options: {options}
    system_accounts: ["Updated by 908"]
"""
_JIRA = {
    "projects": ["ITSM"],
    "approvals_field": "customfield_10213",
    "sla_fields": ["customfield_10214", "customfield_10215"],
}


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
    asked: list[list[str]] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "http.client.send":
            return
        head, _, body = bytes(arguments[1]).partition(b"\r\n\r\n")
        if head.startswith((b"GET ", b"POST ")):
            method, target = head.split(b" ", 2)[:2]
            asked.append([method.decode(), target.decode(), body.decode()])
        else:
            asked[-1][2] += bytes(arguments[1]).decode()

    sys.addaudithook(note)
    found = poll(given)
    Path(given["requests"]).write_text(json.dumps(asked))
    return found


def bare(given: Facts) -> Facts:
    """Somebody's script: the same questions on one connection, JSON parsed, nothing checked, nothing stored."""
    return measured(lambda: _asked(given, lambda body: _count(orjson.loads(body))))


def unparsed(given: Facts) -> Facts:
    """The same without even parsing: what the simulator can serve."""
    return measured(lambda: {**_asked(given, lambda body: (0, 0)), **given["served"]})


def library(given: Facts) -> Facts:
    """The library that most scripts for Jira use: every issue with its changelog, as objects."""
    return measured(lambda: _listed(given))


def _listed(given: Facts) -> Facts:
    from jira import JIRA

    fields = ["status", "priority", "assignee", "updated", "created"]
    site = JIRA(given["url"], basic_auth=tuple(given["account"]), options={"rest_api_version": "2"}, max_retries=0)
    search = site.enhanced_search_issues if site._is_cloud else site.search_issues
    issues = search("project = ITSM ORDER BY updated", maxResults=0, fields=fields, expand="changelog")
    events = sum(len(history.items) for issue in issues for history in issue.changelog.histories)
    return {"requests": 0, "rows": len(issues), "events": events}


def objects(given: Facts) -> Facts:
    """The answers to the product's questions, each parsed and built into that library's objects, which are let go."""
    return measured(lambda: _asked(given, _built))


def _built(content: bytes) -> tuple[int, int]:
    from jira.resources import Issue, dict2resource

    body = json.loads(content)
    for raw in body.get("issues", ()) if isinstance(body, dict) else ():
        Issue({}, None, raw)  # type: ignore[arg-type]
    rest = {"all": body} if isinstance(body, list) else {name: body[name] for name in body if name != "issues"}
    dict2resource(rest)
    return _count(body)


def _asked(given: Facts, count: Callable[[bytes], tuple[int, int]]) -> Facts:
    import requests

    session = requests.Session()
    session.trust_env = False
    session.auth = tuple(given["account"])
    asked = json.loads(Path(given["requests"]).read_text())
    host = "/".join(given["url"].split("/")[:3])
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    rows = events = 0
    for method, target, body in asked:
        answer = session.request(method, host + target, data=body.encode() or None, headers=headers)
        answer.raise_for_status()
        counted = count(answer.content)
        rows, events = rows + counted[0], events + counted[1]
    return {"requests": len(asked), "rows": rows, "events": events}


def _count(body: Any) -> tuple[int, int]:
    """Rows and changes of fields in an answer of any of the resources that are asked."""
    if isinstance(body, list):
        return len(body), 0
    if "result" in body:
        return len(body["result"]), sum("fieldname" in row for row in body["result"])
    histories = [
        *(history for issue in body.get("issueChangeLogs", ()) for history in issue["changeHistories"]),
        *(history for issue in body.get("issues", ()) for history in issue.get("changelog", {}).get("histories", ())),
    ]
    return len(body.get("issues", ())) + len(histories), sum(len(history["items"]) for history in histories)


@contextmanager
def _wired(given: Facts) -> Iterator["Wired"]:
    """The product with an empty database in a folder of its own."""
    from itsms_sync.configuration import read_configuration
    from itsms_sync.wiring import make_stop, wired

    with TemporaryDirectory(prefix="itsms-bench-") as folder:
        user, password = given["account"]
        Path(folder, "password.txt").write_text(password)
        path = Path(folder, "bench.yaml")
        options = json.dumps(_JIRA if given["system"] == "jira" else {})
        named = {name: given[name] for name in ("url", "documents", "system")}
        path.write_text(_CONFIGURATION.format(user=user, options=options, **named))
        with wired(read_configuration(path), stop=make_stop(), progress=lambda *_: None) as parts:
            yield parts


def _polled(parts: "Wired") -> Facts:
    (source,) = parts.read_sources
    report = parts.ingest.poll(source)
    parts.ingest.backfill(source, report, lambda: True)
    return _facts(report, parts)


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
    main(
        {
            "record": record,
            "library": library,
            "objects": objects,
            "bare": bare,
            "unparsed": unparsed,
            "poll": poll,
            "cycle": cycle,
        }
    )
