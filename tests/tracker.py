"""A target that misbehaves, and all that a test of writing needs around it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Engine, select

from itsms_sync.connector import Refused
from itsms_sync.outbox import Outbox, OutboxReport, Target, Uptime, obey, pack
from itsms_sync.records import (
    Action,
    Block,
    Bounds,
    Configuration,
    Directory,
    Fate,
    Gap,
    Gone,
    Identity,
    Page,
    Presence,
    Ticket,
    Window,
    Write,
    Written,
    digest,
)
from itsms_sync.store import outgoing
from itsms_sync.store.database import connect
from itsms_sync.store.decided import add_intent, intents, tickets
from itsms_sync.store.schema import intent

DEADLINE = 30_000
LAG = 60
QUARANTINE = DEADLINE + LAG * 1000
START = 1_800_000_000_000
HOUR = 3_600_000


@dataclass
class Time:
    """What time it really is, and by how much our clock is wrong (ms)."""

    real: int = START
    wrong_by: int = 0
    boot: str = "first"
    """Which start of the machine it is."""

    def __call__(self) -> int:
        return self.real + self.wrong_by


def _fail(faults: list[BaseException | Gap]) -> Gap:
    fault = faults.pop(0)
    if isinstance(fault, Gap):
        return fault
    raise fault


@dataclass
class Tracker:
    """The target: it keeps tickets, and its search shows them only after its lag. Faults are used up one by one."""

    time: Time
    lag: int = LAG * 1000
    tickets: list[tuple[Ticket, int]] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    before_write: list[BaseException | Gap] = field(default_factory=list)
    after_write: list[BaseException] = field(default_factory=list)
    on_find: list[BaseException | Gap] = field(default_factory=list)
    on_look: list[BaseException | Gap] = field(default_factory=list)
    comments: list[tuple[str, str]] = field(default_factory=list)
    """Ticket and text."""
    gone: dict[str, Gone] = field(default_factory=dict)
    refuses: set[Action] = field(default_factory=set)
    nobody: bool = False
    """Whoever should be assigned cannot be."""
    finds: int = 0

    index_lag: float = LAG

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        self.finds += 1
        if self.on_find:
            return _fail(self.on_find)
        return [ticket for ticket, since in self.tickets if ticket.key == key and since + self.lag <= self.time.real]

    def write(self, write: Write) -> Written | Gap:
        if self.before_write:
            return _fail(self.before_write)
        if write.action in self.refuses:
            raise Refused(f"{write.action} is not allowed here")
        self.writes.append(write)
        ticket = self.keep(write.key) if write.action is Action.CREATE else self._written(write)
        if self.after_write:
            raise self.after_write.pop(0)
        told = ("the severity was not taken over",)
        return Written(ticket.id, ticket.label, ticket.url, ticket, told, unassigned=self.nobody)

    def _written(self, write: Write) -> Ticket:
        """The ticket as it is after a write that does not create."""
        assert write.ticket is not None
        if write.action is Action.COMMENT:
            self.comments.append((write.ticket, " ".join(block.text for block in write.body)))
        fields = {"summary": write.summary, "severity": write.severity, "assignee": write.assignee}
        return self.change(write.ticket, {name: value for name, value in fields.items() if value}, write.to_state)

    def change(self, id: str, fields: Mapping[str, str], state: str | None = None) -> Ticket:
        """What we or people do to a ticket."""
        at = next(place for place, (one, _) in enumerate(self.tickets) if one.id == id)
        ticket, since = self.tickets[at]
        digests = {**ticket.digests, **{name: digest(value) for name, value in fields.items()}}
        state = state or ticket.state
        changed = replace(ticket, digests=digests, state=state, done=state == "Done", updated=self.time.real)
        self.tickets[at] = changed, since
        return changed

    def keep(self, key: str, since: int | None = None) -> Ticket:
        number, at = len(self.tickets) + 1, self.time.real if since is None else since
        url, held = f"https://t.example/{number}", dict.fromkeys(("summary", "severity", "assignee"), digest(""))
        ticket = Ticket(str(number), f"CAPA-{number}", url, key, "s", "Open", False, (), {}, at, at, "CAPA", held)
        self.tickets.append((ticket, at))
        return ticket

    def ticket(self, id: str) -> Ticket | Gone | Gap:
        if id in self.gone:
            return self.gone[id]
        return next((one for one, _ in self.tickets if one.id == id), Gone("unseen", "it is not there"))

    def ours(self, since: int | None) -> Iterator[Ticket] | Gap:
        if self.on_look:
            return _fail(self.on_look)
        shown = [one for one, at in self.tickets if at + self.lag <= self.time.real and one.id not in self.gone]
        return iter([one for one in shown if since is None or (one.updated or 0) >= since])

    def commented(self, ticket: str, mark: str) -> bool | Gap:
        if self.on_look:
            return _fail(self.on_look)
        return any(id_ == ticket and mark in text for id_, text in self.comments)

    def identify(self) -> Identity:
        return Identity("tracker", "1", "t", "bot", None, True)

    def pull(self, kind: str, window: Window) -> Iterator[Page] | Gap:
        return Gap(kind, "not-served", "it receives tickets only")

    def bounds(self, kind: str, window: Window) -> Bounds | Gap | None:
        return Gap(kind, "not-served", "it receives tickets only")

    def directory(self) -> Directory | Gap:
        return Gap("directory", "not-served", "it receives tickets only")

    def present(self, kind: str, window: Window, cursor: str) -> Iterator[Presence] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def fate(self, kind: str, ids: Sequence[str], window: Window) -> Sequence[Fate] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def read(self, kind: str, window: Window, ids: Sequence[str]) -> Iterator[Page] | Gap:
        return Gap(kind, "not-reconciled", "nothing is told")

    def configuration(self, kind: str) -> Configuration | Gap:
        return Gap(kind, "not-served", "it receives tickets only")


@dataclass
class Desk:
    """Everything of one test."""

    engine: Engine
    time: Time
    tracker: Tracker
    unclear_limit: int = 3
    basis: str = "as configured at first"

    @property
    def outbox(self) -> Outbox:
        """A new one each time, as after a restart: it remembers nothing."""
        target = Target(self.tracker, DEADLINE, self.basis)
        uptime = Uptime(self.time.boot, lambda: self.time.real)
        return Outbox(self.engine, {"jira": target}, self.time, uptime, self.unclear_limit)

    def perform(self, max_writes: int = 25) -> OutboxReport:
        return self.outbox.perform(max_writes)

    def intend(self, key: str = "R.1.g1", target: str = "jira", **values: Any) -> None:
        write = Write(**{"action": Action.CREATE, "key": key, "summary": f"about {key}", **values})
        with self.engine.begin() as connection:
            add_intent(connection, pack(write), target, self.time())

    def tell(self, subject: str, key: str = "R.1.g1", **values: Any) -> None:
        """A comment that carries its mark."""
        write = Write(Action.COMMENT, key, subject=subject)
        self.intend(key, action=Action.COMMENT, subject=subject, body=(Block("paragraph", write.mark),), **values)

    def steps(self) -> list[tuple[str, int, str | None, int]]:
        """State, sendings, problem and times of each step of the only intent."""
        with self.engine.begin() as connection:
            (item,) = intents(connection, (*outgoing.OPEN, "done", "waived"))
            steps = outgoing.histories(connection, [item.id])[item.id]
        return [(s["state"], s["attempts"], s["problem"], s["times"]) for s in steps]

    def ask(self, command: str, key: str = "", **content: Any) -> list[str]:
        """Hands in a request and has it carried out; the answers."""
        with self.engine.begin() as connection:
            outgoing.ask(connection, command, key, content, self.time())
        return obey(self.engine, self.time)

    def states(self) -> dict[str, str]:
        with self.engine.begin() as connection:
            return dict(connection.execute(select(intent.c.key, intent.c.state)).all())

    def intent(self) -> Any:
        with self.engine.begin() as connection:
            return connection.execute(select(intent)).one()

    def attempts(self) -> list[int]:
        with self.engine.begin() as connection:
            return list(connection.scalars(select(intent.c.attempts).order_by(intent.c.id)))

    def known_tickets(self) -> dict[str, str]:
        with self.engine.begin() as connection:
            return {row.key: row.label for row in tickets(connection)}


@cache
def _empty() -> bytes:
    """A database in which nothing is yet: to copy one is much cheaper than to make one."""
    with TemporaryDirectory() as folder:
        connect(f"sqlite:///{folder}/empty.db").dispose()
        return Path(folder, "empty.db").read_bytes()


@contextmanager
def opened(folder: Path) -> Iterator[Desk]:
    (folder / "outbox.db").write_bytes(_empty())
    engine = connect(f"sqlite:///{folder / 'outbox.db'}")
    time = Time()
    yield Desk(engine, time, Tracker(time))
    engine.dispose()
