"""The seeded desk as a source of the end-to-end tests: each system that serves it, read in small pages, and what a
database says about it.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import PASSWORD, ROOT, TOKEN, Install, Installation, Simulate, Simulator
from tests.seeded import jira, servicenow
from tests.seeded.desk import desk

PAGE = 10
"""Rows asked for at once, so that the desk has many pages."""
AS_OF = f"--as-of={desk().as_of.isoformat()}"


@dataclass(frozen=True)
class Desk:
    """One system that serves the whole desk."""

    system: str
    data: Callable[[], Mapping[str, Any]]
    """Of the simulator's data file."""
    simulated: Mapping[str, str]
    """Options of the simulator."""
    credential: Mapping[str, Any]
    options: Mapping[str, Any]
    """Options of the source, in the settings."""
    page: str
    """First bytes of the request for a page of changes, or of their history; Jira is asked so for bounds too."""
    within: int
    """Which of these requests lies in the middle of a window."""
    built_in: tuple[Path, ...] = ()
    """Data files that come with the simulator."""

    def start(self, simulate: Simulate, folder: Path) -> Simulator:
        path = folder / f"{self.system}.json"
        path.write_text(json.dumps(self.data()), "utf-8")
        return simulate(self.system, *self.built_in, path, **self.simulated)

    def settings(self, url: str, **more: Any) -> dict[str, Any]:
        """The source that is read."""
        return {
            "system": self.system,
            "url": url,
            "credential": dict(self.credential),
            "go_live": desk().go_live,
            "page_size": PAGE,
            "system_accounts": jira.machines(desk()) if self.system == "jira" else [],
            "options": dict(self.options),
            **more,
        }


def reading(sources: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that read and open nothing."""
    return {"database": "sqlite:///itsms.db", "documents": str(ROOT / "mappings"), "sources": dict(sources)}


def _jira(below: str, username: str | None, search: str, **simulated: str) -> Desk:
    return Desk(
        "jira",
        lambda: jira.site(desk()),
        {"token": TOKEN, **simulated},
        {"token": {"file": "token.txt"}, **({"username": username} if username else {})},
        {"projects": [jira.PROJECT], "approvals_field": "customfield_10213"},
        f"POST {below}/rest/api/2/{search} ",
        48,
        (Path("itsm"),),
    )


DESKS: Mapping[str, Desk] = {
    "servicenow": Desk(
        "servicenow",
        lambda: servicenow.tables(desk()),
        {"password": PASSWORD, "plugins": "cim,major"},
        {"username": "itsms", "password": {"file": "password.txt"}},
        {},
        "GET /api/now/table/sys_audit?sysparm_query=tablename%3Dchange_request%5EfieldnameIN",
        9,
    ),
    "jira-cloud": _jira("", "bot@example.com", "search/jql"),
    "jira-data-center": _jira("/jira", None, "search", edition="datacenter", context="/jira"),
}


# --- what was read, and what follows from it


def _of_record(columns: str, table: str, more: str = "") -> str:
    """A question for rows of a table that belong to a record: its name, then the columns."""
    ties = "JOIN record ON record.id = record_id JOIN source ON source.id = record.source_id"
    return f"SELECT source.name, record.kind, record.native_id, {columns} FROM {table} {ties} {more}"


def _of_source(columns: str, table: str, more: str = "") -> str:
    return f"SELECT source.name, {columns} FROM {table} JOIN source ON source.id = source_id {more}"


_QUESTIONS = {
    "payload": _of_source("kind, stream, row_key, digest, body", "payload"),
    "record": _of_source(
        "kind, native_id, label, created_at, updated_at, version, fields, tombstone, judge_at", "record"
    ),
    "event": _of_record("witness, witness_id, field, old, new, actor, position, occurred_at", "event"),
    "relation": _of_record(
        'tie, role, inverse, process, "to", field, relation.system, by, value, other.kind, other.native_id',
        "relation",
        "LEFT JOIN record AS other ON other.id = other_id",
    ),
    "verdict": _of_record(
        'process, requirement, "check", status, reason, detail, occurred_at, recheck_at',
        "verdict",
        "WHERE superseded_at IS NULL",
    ),
    "deviation": _of_record("process, requirement, state, reason, occurred_at, ended_at", "deviation"),
    "case_state": _of_record("process, opened_at, ended_at, state, scope, place, visited", "case_state"),
    "person": _of_source("person.name, person.account, person.system, active", "person"),
    "party": _of_source("native_id, title", "party"),
    "choice": _of_source("kind, field, value, label", "choice"),
    "audited_field": _of_source("kind, field", "audited_field"),
    "free_text": "SELECT hash, value FROM free_text",
    "gap": _of_source("stream, reason, record, field", "gap", "WHERE closed_at IS NULL"),
    "unfinished": _of_source("kind", "reading", "WHERE unfinished_since IS NOT NULL"),
}


def fingerprint(installation: Installation) -> dict[str, list[tuple[Any, ...]]]:
    """All that was read and all that follows from it, without ids, cursors and the times at which we learned it."""
    return {table: sorted(installation.rows(question), key=repr) for table, question in _QUESTIONS.items()}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[list[Any], list[Any]]]:
    """Table -> rows that only the one has, and rows that only the other has; a few of each."""
    found = {}
    for table, rows in one.items():
        if rows != other[table]:
            here, there = set(rows), set(other[table])
            found[table] = (sorted(here - there, key=repr)[:3], sorted(there - here, key=repr)[:3])
    return found


@dataclass(frozen=True)
class Twins:
    """Installations whose databases have the same key for persons and texts, so that they can be compared."""

    install: Install
    first: Installation

    def installation(self, settings: Mapping[str, Any]) -> Installation:
        found = self.install(settings)
        shutil.copy(self.first.database, found.database)
        shutil.copy(self.first.logbook, found.logbook)
        return found


def twins(install: Install) -> Twins:
    """The first of them has read nothing."""
    source = DESKS["servicenow"].settings("http://127.0.0.1:9", read=False)
    first = install(reading({"unread": source}))
    first.json("once")
    return Twins(install, first)
