"""What is true by the simulators' own books, against what the program has stored and opened.

Asks the database as a file, so that it can judge any installation, and believes nothing that the program says of
itself but its gaps: a difference that an open gap covers was declared.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connectors.jira.translate import key_label

_SHOWN = 3


@dataclass
class Findings:
    """What does not fit, in words, and how much of it."""

    lost: list[str] = field(default_factory=list)
    """Changes that the source has and the program has not, without a gap that says so."""
    invented: list[str] = field(default_factory=list)
    declared: int = 0
    """Differences that an open gap covers."""
    doubled: list[str] = field(default_factory=list)
    unsent: list[str] = field(default_factory=list)
    """Nonconformities without a ticket, and tickets that no nonconformity asks for."""
    changes: int = 0
    """That the sources issued."""
    tickets: int = 0

    @property
    def wrong(self) -> list[str]:
        return [*self.lost, *self.invented, *self.doubled, *self.unsent]

    def add(self, other: "Findings") -> None:
        for name in ("lost", "invented", "doubled", "unsent"):
            getattr(self, name).extend(getattr(other, name))
        self.declared += other.declared
        self.changes += other.changes
        self.tickets += other.tickets


class Books:
    """What one source of an installation has stored."""

    def __init__(self, database: Path, source: str) -> None:
        self._database = database
        (self._source,) = self.ask("SELECT id FROM source WHERE name = ?", source)[0]
        self._name = source
        of_rows = "SELECT stream, record FROM gap WHERE closed_at IS NULL AND field = '' AND source_id = ?"
        open_gaps = self.ask(of_rows, self._source)
        self._gaps = set(open_gaps)

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            return connection.execute(question, values).fetchall()

    def records(self, kind: str) -> dict[str, tuple[int | None, int | None]]:
        """Id -> counter of saves and last update; a record of which only history was read has none."""
        question = "SELECT native_id, version, updated_at FROM record WHERE source_id = ? AND kind = ?"
        rows = self.ask(question, self._source, kind)
        return {native: (version, updated) for native, version, updated in rows}

    def rows(self, *streams: str) -> Counter[str]:
        """Keys of the raw rows of these streams, and how often each was stored."""
        marks = ", ".join("?" * len(streams))
        question = f"SELECT row_key FROM payload WHERE source_id = ? AND stream IN ({marks})"
        return Counter(key for (key,) in self.ask(question, self._source, *streams))

    def compare(
        self,
        stream: str,
        true: Mapping[str, Any],
        stored: Mapping[str, Any],
        findings: Findings,
        record_of: Mapping[str, str] | None = None,
    ) -> None:
        """Of each key what the source says against what is stored. ``record_of``: the record that the row of a key is
        about, which gaps name; without it the key itself.
        """
        findings.changes += len(true)
        differing = [key for key, value in true.items() if stored.get(key) != value]
        covered = [key for key in differing if self._covers(stream, (record_of or {}).get(key, key))]
        findings.declared += len(covered)
        told = [
            f"{self._name} {stream} {key}: {true[key]} is true, {stored.get(key)} is stored"
            for key in differing
            if key not in set(covered)
        ]
        findings.lost += told
        findings.invented += [f"{self._name} {stream} {key} is stored only" for key in stored if key not in true]

    def _covers(self, stream: str, record: str) -> bool:
        return bool({(stream, ""), (stream, record), ("source", "")} & self._gaps)


def cursors_ahead(database: Path) -> list[str]:
    """Cursors that a poll moved of which no page was stored. A later comparison by id may make that good, so whoever
    looks at the end only may miss it.
    """
    question = "SELECT cursor.stream, value FROM cursor JOIN poll ON poll.id = cursor.poll_id WHERE poll.pages = 0"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = connection.execute(question).fetchall()
    return [f"the cursor of {stream} is at {value}, and no page is stored" for stream, value in found]


def read_of_servicenow(database: Path, issued: Mapping[str, Any], kind: str = "incident") -> Findings:
    books, findings = Books(database, "servicenow"), Findings()
    truth = {key: (int(count), _millis(stamp)) for key, (count, stamp) in issued["records"][kind].items()}
    gone = {key for table, key in issued["deleted"] if table == kind}
    books.compare(kind, truth, _without(books.records(kind), gone), findings)
    of_kind = {key for key, row in issued["audit"].items() if row[0] == kind}
    stored = books.rows(f"sys_audit:{kind}", f"sys_audit:{kind}:saves")
    books.compare(f"sys_audit:{kind}", dict.fromkeys(of_kind, 1), stored, findings)
    return findings


def read_of_jira(database: Path, issued: Mapping[str, Any], projects: Iterable[str] = ("ITSM",)) -> Findings:
    books, findings = Books(database, "jira"), Findings()
    ours = {id_: each for id_, each in issued["issues"].items() if each["key"].rpartition("-")[0] in projects}
    truth = {id_: (None, each["updated"]) for id_, each in ours.items()}
    books.compare("issue", truth, books.records("issue"), findings)
    record_of = {history: id_ for id_, each in ours.items() for history in each["histories"]}
    stored = books.rows("issue:changelog")
    books.compare("issue:changelog", dict.fromkeys(record_of, 1), stored, findings, record_of)
    return findings


def tickets_of(database: Path, target: str, copies: Counter[str], deleted: frozenset[str] = frozenset()) -> Findings:
    """``copies``: tickets at the target by key (ServiceNow) or by label (Jira). Keys in ``deleted`` may lack theirs."""
    books, findings = Books(database, target), Findings()
    name = key_label if target == "jira" else str
    intents = dict(books.ask("SELECT key, state FROM intent WHERE action = 'create'"))
    asked = {key for (key,) in books.ask("SELECT key FROM nonconformity WHERE NOT queued")}
    keys = {key: name(key) for key in intents.keys() | asked}
    findings.tickets = sum(copies.values())
    findings.doubled = [f"{n} tickets of {key}" for key, n in copies.items() if n > 1]
    for key, label in keys.items():
        state = intents.get(key, "never intended")
        if (copies[label] == 0 and key not in deleted) or state != "done":
            findings.unsent.append(f"{key}: {copies[label]} tickets, and its intent is {state}")
    findings.unsent += [f"a ticket of {label} that nothing asks for" for label in copies.keys() - set(keys.values())]
    return findings


def _without(stored: Mapping[str, Any], gone: Iterable[str]) -> dict[str, Any]:
    missing = set(gone)
    return {key: value for key, value in stored.items() if key not in missing}


def _millis(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() * 1000)


def shown(told: list[str]) -> str:
    """A few of the sentences."""
    more = f" … and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return "; ".join(told[:_SHOWN]) + more
