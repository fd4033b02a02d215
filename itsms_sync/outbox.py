"""Performs intents: send once, look up when the outcome is unclear, read back.

An intent is committed before it is sent. When an answer is lost, nothing tells whether the target acted, and its search
may not show yet what it has: the intent is then quarantined until the request's deadline and the index's lag have
passed. Only a look-up after that may find it absent and let it be sent again; after a limit a person is asked instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Engine

from itsms_sync.connector import Connector, LoggedOut, Refused, Unavailable
from itsms_sync.records import Action, Block, Gap, Item, Ticket, Write, Written
from itsms_sync.store.decided import StoredIntent, change_intent, intents, keep_ticket

RETRY_AFTER = 60_000
"""Wait before an intent that was surely not sent is tried again, if the target names none (ms)."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where intents of one name go."""

    connector: Connector
    deadline: int
    """Total deadline of one write (ms): no request of ours is under way any more when it has passed."""


@dataclass(slots=True)
class OutboxReport:
    """What became of the intents."""

    sent: list[str] = field(default_factory=list)
    """Labels of tickets that were created or changed now."""
    adopted: list[str] = field(default_factory=list)
    """Labels of tickets that were found to be there already."""
    held: int = 0
    """Intents kept back because there were more than ``max_writes_per_cycle``."""
    waiting: int = 0
    unclear: int = 0
    settles_at: int | None = None
    """When the last unclear outcome can be looked up (ms)."""
    parked: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def plus(self, later: "OutboxReport") -> "OutboxReport":
        """Both together: what was done adds up, what is left is what the later one found."""
        return replace(
            later,
            sent=[*self.sent, *later.sent],
            adopted=[*self.adopted, *later.adopted],
            duplicates=list(dict.fromkeys([*self.duplicates, *later.duplicates])),
            problems=list(dict.fromkeys([*self.problems, *later.problems])),
        )

    def figures(self) -> dict[str, Any]:
        """For machines."""
        return {
            "sent": self.sent,
            "adopted": self.adopted,
            "held": self.held,
            "waiting": self.waiting,
            "unclear": self.unclear,
            "parked": self.parked,
            "duplicates": self.duplicates,
            "problems": self.problems,
        }


class Outbox:
    """Works the intents off, one by one, each step committed before the next."""

    def __init__(
        self, engine: Engine, targets: Mapping[str, Target], clock: Callable[[], int], unclear_limit: int
    ) -> None:
        self._engine = engine
        self._targets = targets
        self._clock = clock
        self._unclear_limit = unclear_limit
        self._shut: set[str] = set()
        """Targets that let us in no longer. Nothing more is asked of them in this pass: that might lock the account."""

    def perform(self, max_writes: int) -> OutboxReport:
        """Performs what can be performed now."""
        report = OutboxReport()
        self._shut.clear()
        self._quarantine_interrupted()
        for item in self._in(["unclear"]):
            self._guarded(item, self._look_up, report)
        ready = [item for item in self._in(["pending"]) if self._is_due(item)]
        if len(ready) > max_writes:
            report.held = len(ready)
        else:
            for item in ready:
                self._guarded(item, self._send, report)
        self._count(report)
        return report

    def _in(self, states: list[str]) -> list[StoredIntent]:
        with self._engine.begin() as connection:
            return [item for item in intents(connection, states) if item.target in self._targets]

    def _change(self, item: StoredIntent, **values: Any) -> None:
        with self._engine.begin() as connection:
            change_intent(connection, item.id, **values)

    def _is_due(self, item: StoredIntent) -> bool:
        # A clock that was set back must not hold an intent for longer than any wait we ever ask for.
        return item.not_before <= self._clock() or item.not_before - self._clock() > 24 * 3600 * 1000

    def _quarantine_interrupted(self) -> None:
        """Only one process writes: what is still being sent when we begin was cut off in the middle."""
        for item in self._in(["sending"]):
            self._quarantine(item, "interrupted while sending")

    def _quarantine(self, item: StoredIntent, problem: str | None) -> None:
        """The wait runs from now: between the mark and the request that left, the connector may have asked the target
        for its screens and have waited long for them."""
        target, now = self._targets[item.target], self._clock()
        clear_at = now + target.deadline + int(target.connector.index_lag * 1000)
        self._change(item, state="unclear", sent_at=now, not_before=clear_at, problem=problem)

    def _guarded(
        self, item: StoredIntent, step: Callable[[StoredIntent, OutboxReport], None], report: OutboxReport
    ) -> None:
        """One intent's failure stays its own, unless its target let us in no longer."""
        if item.target in self._shut:
            return
        try:
            step(item, report)
        except LoggedOut as error:
            self._shut.add(item.target)
            self._change(item, problem=str(error))
            report.problems.append(f"{item.target}: {error}")
        except Unavailable as error:
            wait = int((error.retry_after or 0) * 1000) or RETRY_AFTER
            self._change(item, not_before=self._clock() + wait, problem=str(error))
            report.problems.append(f"{item.key}: {error}")
        except Refused as error:
            self._change(item, state="parked", problem=str(error))
            report.problems.append(f"{item.key}: {error}")

    def _look_up(self, item: StoredIntent, report: OutboxReport) -> None:
        if not self._is_due(item):
            return
        if item.sent_at is not None and item.sent_at > self._clock():
            # The clock was set back far: nothing tells how long ago it was sent, so the wait begins anew.
            self._quarantine(item, item.problem)
            return
        # The key leads to the ticket. It proves that the ticket was created, not that a later write reached it.
        if unpack(item.content).action is Action.CREATE and self._adopt(item, report):
            return
        if item.attempts >= self._unclear_limit:
            self._change(
                item, state="asked", problem=f"sent {item.attempts} times and never found: look for {item.key}"
            )
        else:
            self._change(item, state="pending", not_before=0)

    def _adopt(self, item: StoredIntent, report: OutboxReport) -> bool:
        """Takes a ticket with the intent's key for its outcome, if there is one."""
        found = self._targets[item.target].connector.find(item.key)
        if isinstance(found, Gap):
            raise Unavailable(found.message)
        if not found:
            return False
        self._done(item, found[0].id, found[0].label, found[0].url, found[0], ())
        report.adopted.append(found[0].label)
        report.duplicates.extend(other.label for other in found[1:])
        return True

    def _send(self, item: StoredIntent, report: OutboxReport) -> None:
        write = unpack(item.content)
        if write.action is Action.CREATE and self._adopt(item, report):
            return
        self._change(item, state="sending", attempts=item.attempts + 1, sent_at=self._clock(), problem=None)
        try:
            written = self._targets[item.target].connector.write(write)
        except LoggedOut:
            self._change(item, state="pending", attempts=item.attempts)
            raise
        except Unavailable as error:
            if not error.sent:
                self._change(item, state="pending", attempts=item.attempts)
                raise
            self._quarantine(item, str(error))
            report.problems.append(f"{item.key}: outcome unclear: {error}")
            return
        if isinstance(written, Gap):
            raise Refused(written.message)
        self._written(item, written, report)

    def _written(self, item: StoredIntent, written: Written, report: OutboxReport) -> None:
        self._done(item, written.id, written.label, written.url, written.ticket, written.dropped)
        report.sent.append(written.label)
        report.problems.extend(f"{written.label}: {sentence}" for sentence in written.dropped)

    def _done(
        self, item: StoredIntent, native_id: str, label: str, url: str, ticket: Ticket | None, dropped: tuple[str, ...]
    ) -> None:
        now = self._clock()
        values = {
            "native_id": native_id,
            "label": label,
            "url": url,
            "state": ticket.state if ticket is not None else "",
            "done": ticket.done if ticket is not None else False,
            "read_at": now,
            "dropped": "\n".join(dropped),
        }
        with self._engine.begin() as connection:
            change_intent(connection, item.id, state="done", done_at=now, problem=None)
            keep_ticket(connection, item.key, item.target, values)

    def _count(self, report: OutboxReport) -> None:
        report.waiting = len(self._in(["pending"]))
        unclear = self._in(["unclear"])
        report.unclear = len(unclear)
        report.settles_at = max((item.not_before for item in unclear), default=None)
        report.parked = [f"{item.key}: {item.problem}" for item in self._in(["parked", "asked"])]


def pack(write: Write) -> dict[str, Any]:
    """A write as JSON."""
    return {**asdict(write), "body": [[b.kind, b.text, [list(i) for i in b.items]] for b in write.body]}


def unpack(content: Mapping[str, Any]) -> Write:
    """The write that ``pack`` made into JSON."""
    body = tuple(Block(kind, text, tuple(Item(*item) for item in items)) for kind, text, items in content["body"])
    values = {**content, "action": Action(content["action"]), "body": body, "labels": tuple(content["labels"])}
    return Write(**values)
