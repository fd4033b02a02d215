"""What end-to-end tests start: simulators in processes of their own, a desk of a few incidents, the installed command.

Everything listens on loopback at a free port and is ended by its own process id, also when a test fails.
"""

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).parent.parent.parent
PASSWORD, TOKEN = "pw-Vrgt7-of-the-desk", "ATATT3xFfGF0-Qk9-of-the-tracker"
ACCOUNTS = (f"itsms:{PASSWORD}", f"bot@example.com:{TOKEN}")
SECRETS = (PASSWORD, TOKEN, *(base64.b64encode(account.encode()).decode() for account in ACCOUNTS))
"""As they are, and as they travel."""
KILLED = Path(__file__).parent / "killed.py"
COMMAND = (sys.executable, "-m", "itsms_sync")


def ended(process: subprocess.Popen[str]) -> None:
    """No process that a test started outlives it."""
    process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def finished(process: subprocess.Popen[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """What a process said until its end, in which no secret is found."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        ended(process)
    assert [] == [secret for secret in SECRETS if secret in out + err]
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def until(true: Callable[[], Any], within_s: float = 20.0) -> Any:
    """What ``true()`` gives once it is something."""
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, f"{true} did not come true within {within_s} s"
        time.sleep(0.05)
    return found


class Simulator:
    """One vendor's product in a process of its own."""

    def __init__(self, system: str, data: Sequence[Path], options: Mapping[str, str]) -> None:
        given = [f"--data={path}" for path in data] + [f"--option={k}={v}" for k, v in options.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"connectors.{system}.simulator", "--port=0", *given],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        if not told:
            ended(self.process)
            pytest.fail(f"the simulator of {system} did not start with {given}; its error stream says why")
        self.url = json.loads(told)["url"]

    def stop(self) -> None:
        ended(self.process)

    def ledger(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/_sim/ledger", timeout=30).json()

    def fault(self, **rule: Any) -> None:
        answer = requests.post(f"{self.url}/_sim/faults", json=[rule], timeout=5)
        assert answer.ok, answer.text

    def struck(self) -> list[int]:
        """How many requests each fault rule has met."""
        return [rule["seen"] for rule in requests.get(f"{self.url}/_sim/faults", timeout=5).json()]

    def forgive(self) -> None:
        requests.delete(f"{self.url}/_sim/faults", timeout=5)

    def requested(self) -> int:
        """How many requests of its product the simulator got."""
        books = self.ledger()["requests"].values()
        return sum(number for paths in books for path, number in paths.items() if not path.startswith("/_sim/"))


Simulate = Callable[..., Simulator]


@pytest.fixture(scope="module")
def simulate() -> Iterator[Simulate]:
    """``simulate(system, *data, **options) -> Simulator``."""
    with ExitStack() as stack:

        def start(system: str, *data: Path, **options: str) -> Simulator:
            simulator = Simulator(system, data, options)
            stack.callback(simulator.stop)
            return simulator

        yield start


# --- a desk of a few incidents


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def incident(place: int, opened: datetime, steps: Sequence[tuple[float, dict[str, Any]]], **values: Any) -> Any:
    """An incident as it ended, and the audit rows that led there; ``steps`` are (hours since opening, what changed)."""
    row: dict[str, Any] = {
        "sys_id": f"{place:032x}",
        "number": f"INC{10000 + place:07d}",
        "state": "1",
        "impact": "3",
        "urgency": "3",
        "priority": "5",
        "category": "network",
        "contact_type": "email",
        "assignment_group": f"{0xB0:032x}",
        "assigned_to": f"{0xA0:032x}",
        "reassignment_count": 1,
        "reopen_count": 0,
        "close_code": "",
        "close_notes": "",
        "short_description": "The printer of Petra smokes",
        "sys_created_on": _stamp(opened),
        "sys_created_by": "petra.person",
        "opened_at": _stamp(opened),
        **values,
    }
    audit = []
    for checkpoint, (hours, changes) in enumerate(steps, 1):
        at = _stamp(opened + timedelta(hours=hours))
        for name, new in changes.items():
            audit.append(
                {
                    "sys_id": f"{0xA0D1 * 10**6 + place * 1000 + len(audit):032x}",
                    "tablename": "incident",
                    "documentkey": row["sys_id"],
                    "fieldname": name,
                    "oldvalue": row[name],
                    "newvalue": new,
                    "user": "petra.person",
                    "record_checkpoint": checkpoint,
                    "sys_created_on": at,
                }
            )
            row[name] = new
        row |= {"sys_updated_on": at, "sys_mod_count": checkpoint}
    return row, audit


def desk_tables(now: datetime) -> dict[str, Any]:
    """Five incidents that ended in a month that is closed. One of priority 1 was resolved after nine hours: a ticket.
    Three others broke requirements of severity S3: a line in the digest, which is the second ticket."""
    work, resolve = {"state": "2"}, {"state": "6", "close_code": "Solution provided", "close_notes": "Done."}
    closed: list[tuple[float, dict[str, Any]]] = [(0.1, work), (2, resolve), (9, {"state": "7"})]
    opened = now - timedelta(days=40)
    urgent = {"impact": "1", "urgency": "1", "priority": "1"}
    lives = [
        incident(1, opened, [(0.1, work), (9, resolve), (20, {"state": "7"})], **urgent),
        incident(2, opened + timedelta(hours=1), [(1, resolve), (9, {"state": "7"})]),
        incident(3, opened + timedelta(hours=2), closed, priority="2"),
        incident(
            4, opened + timedelta(hours=3), [(0.1, work), (2, {**resolve, "close_code": ""}), (3, {"state": "7"})]
        ),
        incident(5, opened + timedelta(hours=4), closed, assigned_to=""),
    ]
    return {
        "tables": {
            "sys_user": [{"sys_id": f"{0xA0:032x}", "user_name": "petra.person", "name": "Petra Person"}],
            "sys_user_group": [{"sys_id": f"{0xB0:032x}", "name": "Network"}],
            "incident": [row for row, _ in lives],
            "sys_audit": [audit for _, audits in lives for audit in audits],
        }
    }


@pytest.fixture(scope="module")
def small_desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the five incidents."""
    path = tmp_path_factory.mktemp("desk") / "desk.json"
    path.write_text(json.dumps(desk_tables(datetime.now(UTC))), "utf-8")
    return path


# --- the program


@dataclass(frozen=True)
class Installation:
    """A folder with a configuration, its secrets and its database."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """What its commands find in their environment besides ours."""

    @property
    def config(self) -> Path:
        return self.folder / "itsms_sync.yaml"

    @property
    def database(self) -> Path:
        return self.folder / "itsms.db"

    @property
    def logbook(self) -> Path:
        """What is known of the database outside of it; it belongs to it wherever it is taken."""
        return self.folder / "itsms.db.logbook"

    def start(self, *arguments: str, before: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
        """A command in the background; ``--config`` is added. Hand it to ``ended`` in the end."""
        return subprocess.Popen(
            [*before, *arguments, f"--config={self.config}"],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """The command, run to its end. Whatever it is, it tells no secret."""
        return finished(self.start(*arguments), timeout)

    def json(self, *arguments: str, code: int = 0, timeout: float = 60) -> Any:
        """The answer of a command that takes ``--json``."""
        answer = self.command(*arguments, "--json", timeout=timeout)
        assert code == answer.returncode, answer.stderr
        return json.loads(answer.stdout)

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(question).fetchall()

    def configure(self, settings: Mapping[str, Any]) -> None:
        """JSON is YAML."""
        self.config.write_text(json.dumps(settings, indent=1), "utf-8")


def settings_for(servicenow: str, jira: str, **tickets: Any) -> dict[str, Any]:
    """Settings of the small desk; ``tickets`` are those of the section of that name."""
    return {
        "database": "sqlite:///itsms.db",
        "documents": str(ROOT / "mappings"),
        "sources": {
            "servicenow": {
                "system": "servicenow",
                "url": servicenow,
                "credential": {"username": "itsms", "password": {"file": "password.txt"}},
                "go_live": str((datetime.now(UTC) - timedelta(days=70)).date()),
            },
            "jira": {
                "system": "jira",
                "url": jira,
                "read": False,
                "credential": {"username": "bot@example.com", "token": {"file": "token.txt"}},
                "options": {"project": "CAPA", "issue_type": "Corrective action", "index_lag": 0},
            },
        },
        "tickets": {"target": "jira", "processes": ["incident"], **tickets},
        "schedule": {"poll_every": "PT1S"},
    }


Install = Callable[[Mapping[str, Any]], Installation]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """``install(settings) -> Installation`` in a new folder."""

    def installed(settings: Mapping[str, Any]) -> Installation:
        found = Installation(tmp_path_factory.mktemp("installation"))
        (found.folder / "password.txt").write_text(PASSWORD)
        (found.folder / "token.txt").write_text(TOKEN)
        found.configure(deepcopy(dict(settings)))
        return found

    return installed


def terminate(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> float:
    """Send a signal and tell after how many seconds the process was gone."""
    started = time.monotonic()
    os.kill(process.pid, number)
    process.wait(timeout=30)
    return time.monotonic() - started
