"""A small world in one process: two service desks at work, the program that reads both, and its tickets in one of them.

Owns time, which passes only when it is let, and the steps of the program at which something may be laid: a crash, or
somebody at a desk. Leaves to ``desks`` what people do, to ``oracle`` what is true.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import event

from itsms_sync.configuration import Configuration, read_configuration
from itsms_sync.cycle import CycleReport
from itsms_sync.guard import DATABASE
from itsms_sync.http import Stop
from itsms_sync.settings import Settings
from itsms_sync.wiring import Time, Wired, guarding, wired
from tests.soak.desks import TARGETS, Jira, ServiceNow, Site, documents

OVERLAP_S = 600
_GO_LIVE_DAYS = 75
"""Before today: what the desks hold at first is younger, and a pass looks at few months."""
INDEX_LAG_S, DEADLINE_S = 30, 5
SETTLED_S = OVERLAP_S + INDEX_LAG_S + DEADLINE_S + 60
"""After so long nothing is late any more, and every outcome can be looked up."""
Act = Callable[[], object]


class Crash(BaseException):
    """The process ends here."""


def crash() -> None:
    raise Crash


class Steps:
    """The program's steps: looks at a clock, of which there is one before each request and one around each write to the
    store, and commits that are about to be made.
    """

    def __init__(self, create: bytes = b"") -> None:
        self.passed = 0
        self._create = create
        """First bytes of a request that opens a ticket."""
        self._laid: dict[int, Act] = {}
        self._at_creates: list[tuple[int, Act]] = []
        self._at_commits: dict[int, Act] = {}
        self._commits = 0
        self._thread = threading.get_ident()
        self._deaf = False

    def lay(self, ahead: int, act: Act) -> None:
        """Have ``act`` done at the step that is so many steps ahead."""
        self._laid[self.passed + ahead] = act

    def lay_at_create(self, ahead: int, act: Act) -> None:
        """Have ``act`` done so many steps after the next create left: from the first on the target has acted, and
        nothing of it is written down yet. 0: before it leaves.
        """
        self._at_creates.append((ahead, act))

    def lay_at_commit(self, ahead: int, act: Act) -> None:
        """Have ``act`` done as so many commits from now are about to be made: what they hold is lost in a crash."""
        self._at_commits[self._commits + ahead] = act

    def clear(self) -> None:
        self._laid.clear()
        self._at_creates.clear()
        self._at_commits.clear()

    def __call__(self, *_: object) -> None:
        if self._deaf or threading.get_ident() != self._thread:
            return
        self.passed += 1
        act = self._laid.pop(self.passed, None)
        if act is not None:
            self._do(act)

    def sends(self, data: bytes) -> None:
        """A request is about to leave."""
        if self._at_creates and data.startswith(self._create):
            ahead, act = self._at_creates.pop(0)
            if ahead == 0:
                self._do(act)
            else:
                self.lay(ahead, act)

    def commits(self, *_: object) -> None:
        """A transaction is about to be committed."""
        self()
        if self._deaf or threading.get_ident() != self._thread:
            return
        self._commits += 1
        act = self._at_commits.pop(self._commits, None)
        if act is not None:
            self._do(act)

    def _do(self, act: Act) -> None:
        self._deaf = True
        try:
            act()
        finally:
            self._deaf = False


_listening: list[Steps] = []
"""The steps of the world that is open. An audit hook is for good, so there is one, and it asks here."""


@cache
def _listen() -> None:
    def heard(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "http.client.send" and _listening:
            _listening[0].sends(bytes(arguments[1]))

    sys.addaudithook(heard)


class Passing:
    """The machine's time and what was skipped of it, for the program and for both desks. To sleep is to skip."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.skipped = 0.0
        self.followers: list[Callable[[float], object]] = []

    def skip(self, seconds: float) -> None:
        self.skipped += seconds
        for follow in self.followers:
            follow(seconds)

    def wall(self) -> int:
        self._steps()
        return self.now()

    def now(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000 + round(self.skipped * 1000)

    def monotonic(self) -> float:
        self._steps()
        return time.monotonic() + self.skipped


@dataclass(frozen=True)
class Plan:
    """What kind of world it is."""

    edition: str = "cloud"
    """Of Jira."""
    target: str = "jira"
    """One of ``TARGETS``."""
    page_size: int = 4
    search_lag_s: int = 20
    read_ahead: bool = False
    """Steps and calls of the system can only be counted where one thing is done after the other."""

    def settings(self, servicenow: str, jira: str) -> dict[str, Any]:
        target = TARGETS[self.target]
        username = {"username": "bot@example.com"} if self.edition == "cloud" else {}
        common = {"page_size": self.page_size, "overlap": f"PT{OVERLAP_S}S", "go_live": _go_live()}
        common |= {"read_ahead": self.read_ahead}
        return {
            "database": "sqlite:///itsms.db",
            "documents": "documents",
            "sources": {
                "servicenow": {
                    "system": "servicenow",
                    "url": servicenow,
                    "credential": {"username": "itsms", "password": {"file": "secret.txt"}},
                    "options": dict(target.servicenow),
                    **common,
                },
                "jira": {
                    "system": "jira",
                    "url": jira,
                    "credential": {"token": {"file": "secret.txt"}, **username},
                    "options": {
                        "projects": ["ITSM"],
                        "project": "CAPA",
                        "issue_type": "Corrective action",
                        "index_lag": INDEX_LAG_S,
                    },
                    **common,
                },
            },
            "tickets": {
                "target": target.source,
                "processes": ["incident"],
                "deadline": f"PT{DEADLINE_S}S",
                "cap_per_owner": 100,
                "max_writes_per_cycle": 1000,
                "unclear_limit": 10,
            },
        }


def _go_live() -> str:
    return (datetime.now(UTC).date() - timedelta(days=_GO_LIVE_DAYS)).isoformat()


@dataclass
class World:
    """Open it with :func:`opened`."""

    folder: Path
    plan: Plan
    configuration: Configuration
    servicenow: ServiceNow
    jira: Jira
    steps: Steps
    time: Passing
    database: Path
    story: list[str] = field(default_factory=list)
    """What happened, in plain words."""
    lasting: list[tuple[Site, Mapping[str, Any]]] = field(default_factory=list)
    """Rules that no calm takes back: what they keep from the program is lost to it, and it has to say so."""
    _parts: ExitStack = field(default_factory=ExitStack)
    _wired: Wired | None = None

    @property
    def target(self) -> ServiceNow | Jira:
        return self.servicenow if TARGETS[self.plan.target].source == "servicenow" else self.jira

    def cycle(self, *, dry_run: bool = False) -> CycleReport | None:
        """One pass; ``None`` if the program crashed in it."""
        try:
            report = self._running().run_cycle(dry_run=dry_run)
        except Crash:
            self.restart()
            self.story.append("  it crashed there")
            return None
        problems = [f"{source.name}: {source.problem}" for source in report.sources if source.problem]
        problems += report.outbox.problems if report.outbox else []
        self.story += [f"  {problem}" for problem in problems]
        return report

    def restart(self) -> None:
        """Everything in memory is lost."""
        self._wired = None
        self._parts.close()

    def _running(self) -> Wired:
        if self._wired is None:
            times = Time(self.time.wall, self.time.monotonic, self.time.skip)
            opening = wired(self.configuration, stop=Stop(), progress=self.steps, time=times)
            self._wired = self._parts.enter_context(opening)
            event.listen(self._wired.engine, "commit", self.steps.commits)
        return self._wired

    def forgive(self) -> None:
        """From now on only lasting faults."""
        for site in (self.servicenow, self.jira):
            site.forgive()
        for site, rule in self.lasting:
            site.fault(**rule)

    def calm(self) -> CycleReport | None:
        """No fault any more but lasting ones, and cycles until twice in a row nothing was left to do: the first one
        reads the windows that were cut off to their end, and only the next one looks back over them for what was
        committed late. Nothing is proven by a program that refuses to write.
        """
        self.steps.clear()
        self.forgive()
        report, idle = None, 0
        for _ in range(8):
            self.time.skip(SETTLED_S)
            report = self.cycle()
            idle = idle + 1 if report is not None and _is_idle(report) else 0
            if idle == 2:
                break
        assert report is None or not report.objections, report.objections
        self.story.append("all was calm")
        return report


def _is_idle(report: CycleReport) -> bool:
    """A ticket that was just opened may be a row that its target's own reader has yet to see."""
    outbox = report.outbox
    if outbox is None or any(source.problem for source in report.sources):
        return False
    return outbox.unclear == outbox.waiting == 0 and not outbox.sent and not outbox.adopted


def accept_copy(configuration: Configuration) -> None:
    """As a person does who has put a copied database there: the guard takes it for what it is."""
    with guarding(configuration) as guard:
        assert guard.accept(DATABASE)


def written(settings: Mapping[str, Any], folder: Path) -> Path:
    """The settings as a file in this folder, with the secret beside it. JSON is YAML."""
    (folder / "secret.txt").write_text("secret")
    path = folder / "itsms_sync.yaml"
    path.write_text(json.dumps(settings), "utf-8")
    return path


class Stage:
    """What the worlds of one process share: ports, so that a desk is the same instance in each of them, documents, and
    for each plan a database that has read the desks as they are at first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.born = time.time()
        self._ports: dict[str, int] = {}
        self._known: Configuration | None = None
        self._read: dict[Plan, Path] = {}
        self._documents = documents(folder / "documents")
        self._worlds = 0

    @contextmanager
    def opened(self, plan: Plan, *, empty: bool = False) -> Iterator[World]:
        """A new world; with an ``empty`` database nothing was read yet."""
        if not empty and plan not in self._read:
            self._read[plan] = self._prepared(plan)
        self._worlds += 1
        folder = self.folder / f"world{self._worlds}"
        folder.mkdir()
        try:
            with self._world(plan, folder) as world:
                if not empty:
                    shutil.copy(self._read[plan], world.database)
                    accept_copy(world.configuration)
                yield world
        finally:
            shutil.rmtree(folder)

    @contextmanager
    def _world(self, plan: Plan, folder: Path) -> Iterator[World]:
        with ExitStack() as stack:
            servicenow = stack.enter_context(ServiceNow.serving(self, plan))
            jira = stack.enter_context(Jira.serving(self, plan))
            steps = Steps(TARGETS[plan.target].create)
            _listen()
            _listening.append(steps)
            stack.callback(_listening.clear)
            passing = Passing(steps)
            passing.followers += [servicenow.skip, jira.skip]
            configuration = self._configuration(plan, folder, servicenow.url, jira.url)
            database = folder / "itsms.db"
            world = World(folder, plan, configuration, servicenow, jira, steps, passing, database)
            stack.callback(world.restart)
            yield world

    def _configuration(self, plan: Plan, folder: Path, servicenow: str, jira: str) -> Configuration:
        """Documents are read once; settings differ from world to world."""
        settings: Mapping[str, Any] = {**plan.settings(servicenow, jira), "documents": str(self._documents)}
        path = written(settings, folder)
        if self._known is None:
            self._known = read_configuration(path)
        made = Settings.model_validate_json(json.dumps(settings))
        return Configuration(path, made, self._known.library, self._known.texts)

    def port(self, name: str) -> int:
        """0 the first time, then the same as before."""
        return self._ports.get(name, 0)

    def keep_port(self, name: str, port: int) -> None:
        self._ports[name] = port

    def _prepared(self, plan: Plan) -> Path:
        kept = self.folder / f"read{len(self._read)}.db"
        with self.opened(plan, empty=True) as world:
            report = world.cycle(dry_run=True)
            assert report is not None
            assert [None, None] == [source.problem for source in report.sources], report.sources
            world.restart()
            shutil.copy(world.database, kept)
        return kept
