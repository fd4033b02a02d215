"""``python -m benchmarks.image IMAGE``: the built image against simulators of three systems, with all five processes.

Stops it in the middle of a page and of a create of each system, looks for anything doubled or lost afterwards, and
reads its memory over many cycles of lively desks. ``docs/container.md`` says how the image is built and what has to be
installed; this starts it in the same way, so it needs root, ``podman`` and ``runc``. Takes about ten minutes.
"""

import argparse
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.measurement import ROOT, machine
from itsms_sync.plugins import simulator

_PODMAN = ("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs")
_HARDENED = (
    "--pull", "never", "--network", "host", "--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit",
    "nproc=1024:1024", "--init", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt",
    "no-new-privileges", "--memory", "512m",
)  # fmt: skip
_OWNER = 10001
"""The image's user."""
_PROCESSES = ("incident", "service_request", "problem", "change", "corrective_action")
_DAYS = 60
_HELD_S = 10.0
"""How long an answer is held back in which the container is stopped: longer than a write is given to end."""
_LAG_S = 5
_MOMENTS_S = (0.3, 2.0)
"""How long after a request has come in its container is stopped."""
_OUR_LABEL = re.compile(r"itsms-[0-9a-f]{20}")
_KEPT = ("payload", "record", "event", "relation", "case_state")
"""Tables that depend on what was read and on nothing else."""


@dataclass(frozen=True)
class System:
    """One simulated system and how a source names it."""

    product: str
    simulated: Mapping[str, str]
    source: Mapping[str, Any]
    page: Mapping[str, Any]
    """Fault that holds back a page in the middle of a reading."""
    create: Mapping[str, Any]
    """Fault that holds back the answer to a create."""


_JIRA = {
    "projects": ["ITSM", "CAPA"],
    "approvals_field": "customfield_10213",
    "project": "CAPA",
    "issue_type": "Corrective action",
    "index_lag": _LAG_S,
}
_PAGE = {"do": "delay", "path": "/rest/api/2/search", "nth": 2}
_CREATE = {"do": "delay", "after": True, "method": "POST", "path": "/rest/api/2/issue$", "nth": 1}
_RANKS = {f"S{rank}": {"priority": str(rank)} for rank in (1, 2, 3)}
SYSTEMS: Mapping[str, System] = {
    "servicenow": System(
        "servicenow",
        {"plugins": "cim,major", "seed": "1"},
        {
            "credential": {"username": "itsms", "password": {"file": "servicenow.txt"}},
            "options": {"table": "sn_cim_register", "severities": _RANKS},
        },
        {"do": "delay", "method": "GET", "path": "table/sys_audit$", "nth": 12},
        {"do": "delay", "method": "POST", "path": "table/sn_cim_register$", "nth": 1},
    ),
    "cloud": System(
        "jira",
        {"seed": "2"},
        {"credential": {"username": "bot@example.com", "token": {"file": "jira.txt"}}, "options": _JIRA},
        _PAGE,
        _CREATE,
    ),
    "data_center": System(
        "jira",
        {"edition": "datacenter", "context": "/jira", "seed": "3"},
        {"credential": {"token": {"file": "jira.txt"}}, "options": _JIRA},
        _PAGE,
        _CREATE,
    ),
}


class Running:
    """A simulator of one system with a made-up desk."""

    def __init__(self, system: System, **options: str) -> None:
        desk = {"desk": "lively", "days": str(_DAYS), "per_day": "8"}
        self._simulator = simulator(system.product)(options={**desk, **system.simulated, **options})
        self.system = system
        self.url: str = self._simulator.url
        self.stop: Callable[[], None] = self._simulator.stop

    def asked(self, method: str, place: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}/_sim/{place}", data, method=method), timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    @contextmanager
    def holding(self, fault: Mapping[str, Any]) -> Iterator[Callable[[], bool]]:
        """One answer is held back; gives what tells whether its request has come in."""
        self.asked("POST", "faults", [{**fault, "times": 1, "seconds": _HELD_S}])
        try:
            yield lambda: any(rule["seen"] >= fault["nth"] for rule in self.asked("GET", "faults"))
        finally:
            self.asked("DELETE", "faults")

    def tickets(self) -> Counter[str]:
        """Tickets per key of ours."""
        books = self.asked("GET", "ledger")
        if self.system.product == "servicenow":
            return Counter(books["keys"])
        return Counter(label for issue in books["issues"] for label in issue["labels"] if _OUR_LABEL.fullmatch(label))


@contextmanager
def simulated(**options: str) -> Iterator[dict[str, Running]]:
    """All systems; they end with the context."""
    running: dict[str, Running] = {}
    try:
        for name, system in SYSTEMS.items():
            running[name] = Running(system, **options)
        yield running
    finally:
        for one in running.values():
            one.stop()


class Container:
    """The daemon in its container, started in the background. Ends with the context if nobody stopped it before."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._id = _said(command, folder)

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        _said((*_PODMAN, "rm", "--force", self._id))

    def cycles(self) -> list[dict[str, Any]]:
        """What its log says of each cycle so far."""
        told = subprocess.run((*_PODMAN, "logs", self._id), capture_output=True, text=True, check=True)
        lines = [json.loads(line) for line in (told.stdout + told.stderr).splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == "cycle"]

    def memory(self) -> tuple[float, float]:
        """RSS of the program in MB, now and at most so far. Process 1 of the container is its init."""
        init = _said((*_PODMAN, "inspect", "--format", "{{.State.Pid}}", self._id))
        (program,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        lines = (line.split() for line in Path(f"/proc/{program}/status").read_text().splitlines())
        sizes = {words[0]: int(words[1]) * 1024 / 1e6 for words in lines if words[0] in ("VmRSS:", "VmHWM:")}
        return sizes["VmRSS:"], sizes["VmHWM:"]

    def stop(self) -> str:
        """SIGTERM; exit code and seconds until the container was gone."""
        began = time.monotonic()
        _said((*_PODMAN, "kill", "--signal", "TERM", self._id))
        code = _said((*_PODMAN, "wait", self._id))
        return f"exit {code} after {time.monotonic() - began:.1f} s"


class Installation:
    """A folder with configuration and database, and the containers that use it one after the other."""

    def __init__(self, image: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self._image = image
        self._empty = folder / "empty"  # podman leaves a file where it was started when memory runs out
        for path in (folder / "data", folder / "config", self._empty):
            path.mkdir(parents=True)
        os.chown(folder / "data", _OWNER, _OWNER)
        (folder / "config" / "servicenow.txt").write_text("secret")
        (folder / "config" / "jira.txt").write_text("token")
        (folder / "config" / "itsms_sync.yaml").write_text(json.dumps(settings))
        mounts = (f"{folder}/data:/data", f"{folder}/config:/config:ro", f"{ROOT}/mappings:/mappings:ro")
        self._run = [*_PODMAN, "run", *_HARDENED, *(part for mount in mounts for part in ("--volume", mount))]
        self._database = folder / "data" / "itsms.db"

    def command(self, *words: str) -> str:
        """What a command of the program says, run to its end."""
        return _said((*self._run, "--rm", self._image, *words), self._empty)

    def daemon(self) -> Container:
        return Container((*self._run, "--detach", self._image), self._empty)

    def rows(self) -> dict[str, int]:
        """Rows of the tables that depend on what was read."""
        with sqlite3.connect(f"file:{self._database}?mode=ro", uri=True) as connection:
            return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _KEPT}


def _said(command: Sequence[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def _settings(running: Mapping[str, Running], target: str, processes: Sequence[str], poll_s: int) -> dict[str, Any]:
    go_live = str((datetime.now(UTC) - timedelta(days=_DAYS * 0.9)).date())
    common = {"go_live": go_live, "page_size": 100}
    return {
        "database": "sqlite:////data/itsms.db",
        "documents": "/mappings",
        "sources": {
            name: {"system": one.system.product, "url": one.url, **common, **one.system.source}
            for name, one in running.items()
        },
        "tickets": {"target": target, "processes": list(processes), "deadline": "PT15S"},
        "schedule": {"poll_every": f"PT{poll_s}S"},
    }


def _until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("what was waited for did not come")
        time.sleep(0.05)


def pages(image: str, folder: Path) -> Iterator[str]:
    """Stopped while a page is on its way. Afterwards the tables hold what an undisturbed reading holds."""
    with simulated(live="false") as running:
        settings = _settings(running, "cloud", (), 1)
        undisturbed = Installation(image, folder / "undisturbed", settings)
        undisturbed.command("once")
        yield f"undisturbed: {undisturbed.rows()}"
        for name, moment in ((name, moment) for name in running for moment in _MOMENTS_S):
            installation = Installation(image, folder / f"page-{name}-{moment}", settings)
            with running[name].holding(running[name].system.page) as came, installation.daemon() as daemon:
                _until(came, 60)
                time.sleep(moment)
                ended = daemon.stop()
            there = installation.rows()
            installation.command("once")
            same = "the same rows" if installation.rows() == undisturbed.rows() else f"OTHER ROWS {installation.rows()}"
            yield f"{name}, a page {moment} s old: {ended}, {there['payload']} rows stored; read on: {same}"


def creates(image: str, folder: Path) -> Iterator[str]:
    """Stopped while a create is on its way. Afterwards each ticket is there once, as in the daemon's own books."""
    for name, moment in ((name, moment) for name in SYSTEMS for moment in _MOMENTS_S):
        with simulated(live="false") as running:
            target = running[name]
            installation = Installation(
                image, folder / f"create-{name}-{moment}", _settings(running, name, _PROCESSES, 1)
            )
            with target.holding(target.system.create) as came, installation.daemon() as daemon:
                _until(came, 120)
                time.sleep(moment)
                ended = daemon.stop()
            time.sleep(_HELD_S)
            before = target.tickets()
            with installation.daemon() as daemon:
                _until(lambda: _is_idle(daemon.cycles()), 180)
                daemon.stop()
            known = json.loads(installation.command("actions", "--json"))
            after = target.tickets()
            copies = "each once" if set(after.values()) == {1} else f"DOUBLED {after}"
            yield (
                f"{name}, a create {moment} s old: {ended}, {sum(before.values())} in the target; "
                f"read on: {sum(after.values())} in the target for {len(known)} actions, {copies}"
            )


def _is_idle(cycles: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last three cycles had nothing to write and left nothing open."""
    return len(cycles) > 3 and not any(any((cycle.get("outbox") or {}).values()) for cycle in cycles[-3:])


def memory(image: str, folder: Path, wanted: int) -> Iterator[str]:
    """RSS after each of many cycles of three desks on which something happens all the time."""
    with simulated(tempo="0.2") as running:
        installation = Installation(image, folder / "memory", _settings(running, "cloud", _PROCESSES, 2))
        sizes: list[float] = []
        with installation.daemon() as daemon:
            while len(sizes) < wanted:
                _until(lambda: len(daemon.cycles()) > len(sizes), 120)
                size, peak = daemon.memory()
                sizes.append(size)
            cycles = daemon.cycles()
            yield f"after the last cycle: {daemon.stop()}"
    yield f"first cycle: {cycles[0]}"
    yield f"RSS in MB after each cycle: {', '.join(f'{size:.0f}' for size in sizes)}; peak {peak:.0f}"
    seconds = statistics.median(cycle["seconds"] for cycle in cycles[1:])
    yield f"median of the first ten steady cycles {statistics.median(sizes[1:11]):.1f}, of the last ten " + (
        f"{statistics.median(sizes[-10:]):.1f}; a cycle took {seconds:.2f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image", description=__doc__)
    parser.add_argument("image")
    parser.add_argument("parts", nargs="*", choices=("pages", "creates", "memory", []), help="all by default")
    parser.add_argument("--cycles", type=int, default=60, help="cycles whose memory is read (default 60)")
    given = parser.parse_args()
    print(machine())
    parts: dict[str, Callable[[Path], Iterator[str]]] = {
        "pages": lambda folder: pages(given.image, folder),
        "creates": lambda folder: creates(given.image, folder),
        "memory": lambda folder: memory(given.image, folder, given.cycles),
    }
    with tempfile.TemporaryDirectory(prefix="itsms-image-") as folder:
        for name in given.parts or parts:
            for line in parts[name](Path(folder)):
                print(f"{name}: {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
