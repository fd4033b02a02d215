"""Performs intents: send once, look up when the outcome is unclear, read back; and does with them what people ask for.

An intent is committed before it is sent. When an answer is lost, nothing tells whether the target acted, and its search
may not show yet what it has: the intent is then quarantined until the request's deadline and the index's lag have
passed. Only a look-up after that may find it absent and let it be sent again; after a limit a person is asked instead.
The wait is measured by how long the machine has been up, not by the time of day: a clock that is set forward must not
cut it short.

Intents of one key go out in the order in which they were decided: a later one waits while an earlier one is not over.
What the target refuses is parked and tried again when configuration or documents have changed, else once a day. Every
step stays in the intent's history. After the create only fields are written that hold what we wrote last.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson
from sqlalchemy import Connection, Engine

from itsms_sync.connector import Connector, LoggedOut, Refused, Unavailable
from itsms_sync.records import Action, Block, Gap, Item, Ticket, Write, Written
from itsms_sync.store import outgoing
from itsms_sync.store.decided import StoredIntent, change_intent, intents, keep_ticket

RETRY_AFTER = 60_000
"""Wait before an intent that was surely not sent is tried again, if the target names none (ms)."""
DAY = 24 * 3600 * 1000
"""A parked intent is tried again after so long, whether or not anything changed (ms)."""
SWEEP_DUE = "sweep due"
"""Mark: an outcome was unclear, so what the target holds has to be looked through."""
_OWNED = ("summary", "body", "severity", "assignee")
"""Fields of a ticket that a write can set, and that people can take over by changing them."""
_WAIVABLE = (Action.TRANSITION, Action.LINK)
"""Writes that a comment stands for where the target's workflow or links do not allow them."""
LONGEST_WAIT = 3_600_000
"""Whatever the target asks for; a wait that seems longer is one from a clock that was set back (ms)."""


@dataclass(frozen=True, slots=True)
class Uptime:
    """How long the machine has been up, which nobody sets."""

    boot: str
    """Names this start of the machine; of another one nothing can be measured."""
    millis: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Target:
    """Where intents of one name go."""

    connector: Connector
    deadline: int
    """Total deadline of one write (ms): no request of ours is under way any more when it has passed."""
    basis: str = ""
    """Hash of what decides whether the target takes a write: configuration and documents."""


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
        self,
        engine: Engine,
        targets: Mapping[str, Target],
        clock: Callable[[], int],
        uptime: Uptime,
        unclear_limit: int,
    ) -> None:
        self._engine = engine
        self._targets = targets
        self._clock = clock
        self._uptime = uptime
        self._unclear_limit = unclear_limit
        self._shut: set[str] = set()
        """Targets that let us in no longer. Nothing more is asked of them in this pass: that might lock the account."""

    def perform(self, max_writes: int) -> OutboxReport:
        """Performs what can be performed now."""
        report = OutboxReport()
        self._shut.clear()
        obey(self._engine, self._clock)
        self._quarantine_interrupted()
        self._try_parked_again()
        for item in self._in(["unclear"]):
            self._guarded(item, self._look_up, report)
        stuck: set[tuple[str, str]] = set()
        for item in self._allowed(max_writes, report):
            if _turn(item) not in stuck:
                self._guarded(item, self._send, report)
                if not self._is_over(item):
                    stuck.add(_turn(item))
        self._count(report)
        return report

    def has_work(self) -> bool:
        """Does what people asked for, and tells whether anything is then to be sent or looked up."""
        obey(self._engine, self._clock)
        return bool(self._in(["pending", "sending", "unclear", "parked"]))

    def hold(self, problem: str) -> OutboxReport:
        """Performs nothing, for the given reason. What people asked for waits for its turn."""
        report = OutboxReport(problems=[problem])
        self._quarantine_interrupted()
        self._count(report)
        report.settles_at = None  # waiting settles nothing
        return report

    def _in(self, states: list[str]) -> list[StoredIntent]:
        with self._engine.begin() as connection:
            return [item for item in intents(connection, states) if item.target in self._targets]

    def _is_over(self, item: StoredIntent) -> bool:
        with self._engine.begin() as connection:
            return outgoing.is_over(connection, item.id)

    def _change(self, item: StoredIntent, **values: Any) -> None:
        with self._engine.begin() as connection:
            outgoing.step(connection, item.id, self._clock(), **values)

    def _mark(self, item: StoredIntent, **values: Any) -> None:
        """What is no step of its own: something else is said before the pass is over."""
        with self._engine.begin() as connection:
            change_intent(connection, item.id, **values)

    def _allowed(self, max_writes: int, report: OutboxReport) -> list[StoredIntent]:
        """What may be sent now. Too much at once is held until a person lets exactly that pass."""
        ready = self._in_turn()
        not_released = [item for item in ready if item.released_at is None]
        if len(not_released) <= max_writes:
            return ready
        report.held = len(not_released)
        with self._engine.begin() as connection:
            outgoing.hold(connection, [item.id for item in not_released], self._clock())
        return [item for item in ready if item.released_at is not None]

    def _in_turn(self) -> list[StoredIntent]:
        """Pending intents that are due and that no earlier one of their key has to go before."""
        ready: list[StoredIntent] = []
        stuck: set[tuple[str, str]] = set()
        for item in self._in([*outgoing.OPEN]):
            if item.state == "pending" and self._is_due(item) and _turn(item) not in stuck:
                ready.append(item)
            else:
                stuck.add(_turn(item))
        return ready

    def _try_parked_again(self) -> None:
        for item in self._in(["parked"]):
            if item.basis != self._targets[item.target].basis or self._is_due(item, DAY):
                self._change(item, state="pending", not_before=0)

    def _is_due(self, item: StoredIntent, longest: int = LONGEST_WAIT) -> bool:
        # A clock that was set back must not hold an intent for longer than any wait we ever ask for.
        return not 0 < item.not_before - self._clock() <= longest

    def _quarantine_interrupted(self) -> None:
        """Only one process writes: what is still being sent when we begin was cut off in the middle."""
        for item in self._in(["sending"]):
            self._quarantine(item, "interrupted while sending")

    def _quarantine(self, item: StoredIntent, problem: str | None) -> None:
        """The wait runs from now: between the mark and the request that left, the connector may have asked the target
        for its screens and have waited long for them."""
        now, uptime = self._clock(), self._uptime
        clear_at = now + self._quarantine_of(item)
        doubt = {"boot": uptime.boot, "uptime": uptime.millis()}
        self._change(item, state="unclear", sent_at=now, not_before=clear_at, problem=problem, **doubt)

    def _quarantine_of(self, item: StoredIntent) -> int:
        """How long nothing can be concluded from absence (ms)."""
        target = self._targets[item.target]
        return target.deadline + int(target.connector.index_lag * 1000)

    def _left(self, item: StoredIntent) -> int:
        """What is left of an unclear intent's wait (ms)."""
        return self._quarantine_of(item) - (self._uptime.millis() - (item.uptime or 0))

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
            wait = min(int((error.retry_after or 0) * 1000) or RETRY_AFTER, LONGEST_WAIT)
            self._change(item, not_before=self._clock() + wait, problem=str(error))
            report.problems.append(f"{item.key}: {error}")
        except Refused as error:
            waived = unpack(item.content).action in _WAIVABLE
            basis = self._targets[item.target].basis
            later = {"state": "parked", "basis": basis, "not_before": self._clock() + DAY}
            over = {"state": "waived", "done_at": self._clock()}
            self._change(item, problem=str(error), **(over if waived else later))
            report.problems.append(f"{item.key}: {error}")

    def _look_up(self, item: StoredIntent, report: OutboxReport) -> None:
        if item.boot != self._uptime.boot or (item.uptime or 0) > self._uptime.millis():
            # Nothing tells how long ago it was sent, so the wait begins anew.
            self._quarantine(item, item.problem)
            return
        if self._left(item) > 0:
            return
        if not self._found_performed(item, report):
            if item.attempts >= self._unclear_limit:
                told = f"sent {item.attempts} times and never found: look for {item.key}"
                self._change(item, state="asked", problem=told)
                return
            self._change(item, state="pending", not_before=0)
        with self._engine.begin() as connection:
            outgoing.set_mark(connection, SWEEP_DUE, self._clock())

    def _found_performed(self, item: StoredIntent, report: OutboxReport) -> bool:
        """Whether the target shows what the intent wanted; also true where nobody can tell and a person is asked. What
        is not asked for here may be written again: it sets values or states, and a second time changes nothing.
        """
        write = unpack(item.content)
        if write.action is Action.CREATE:
            return self._adopt(item, report)
        if write.action is not Action.COMMENT:
            return False
        write = self._addressed(item, write)
        found = self._targets[item.target].connector.commented(write.ticket or "", write.mark)
        if isinstance(found, Gap):
            self._change(item, state="asked", problem=f"nobody can tell whether it was written: {found.message}")
        elif found:
            self._over(item)
        return bool(found)

    def _adopt(self, item: StoredIntent, report: OutboxReport) -> bool:
        """Takes a ticket with the intent's key for its outcome, if there is one."""
        found = self._targets[item.target].connector.find(item.key)
        if isinstance(found, Gap):
            raise Unavailable(found.message)
        if not found:
            return False
        first = found[0]
        written = Written(first.id, first.label, first.url, first)
        self._done(item, unpack(item.content), written, adopted=True)
        with self._engine.begin() as connection:
            outgoing.set_mark(connection, SWEEP_DUE, self._clock())
        report.adopted.append(found[0].label)
        report.duplicates.extend(other.label for other in found[1:])
        return True

    def _send(self, item: StoredIntent, report: OutboxReport) -> None:
        write = self._addressed(item, unpack(item.content))
        looked_for = write.action is Action.CREATE or item.sent_at is not None
        if looked_for and self._found_performed(item, report):
            return
        theirs: tuple[str, ...] = ()
        if write.action is Action.AMEND:
            write, theirs = self._ours_alone(item, write)
            if not _amends(write):
                self._over(item, state="waived", problem=_taken_over(theirs))
                return
        self._mark(item, state="sending", attempts=item.attempts + 1, sent_at=self._clock(), problem=None)
        try:
            written = self._targets[item.target].connector.write(write)
        except LoggedOut:
            self._mark(item, state="pending", attempts=item.attempts, sent_at=item.sent_at)
            raise
        except Unavailable as error:
            if not error.sent:
                self._mark(item, state="pending", attempts=item.attempts, sent_at=item.sent_at)
                raise
            self._quarantine(item, str(error))
            report.problems.append(f"{item.key}: outcome unclear: {error}")
            return
        if isinstance(written, Gap):
            raise Refused(written.message)
        dropped = (*([_taken_over(theirs)] if theirs else []), *written.dropped)
        self._written(item, write, replace(written, dropped=dropped), report)

    def _addressed(self, item: StoredIntent, write: Write) -> Write:
        """With the id of the ticket that was opened under the key. Raises ``Refused`` where there is none any more."""
        if write.action is Action.CREATE or write.ticket is not None:
            return write
        with self._engine.begin() as connection:
            row = outgoing.ticket_of(connection, item.target, item.key)
        if row is None or row.gone is not None:
            told = "there is none yet" if row is None else f"{row.label} is gone ({row.gone}): {row.gone_message}"
            raise Refused(f"the ticket of {item.key} cannot be written to: {told}")
        return replace(write, ticket=row.native_id)

    def _ours_alone(self, item: StoredIntent, write: Write) -> tuple[Write, tuple[str, ...]]:
        """The write without the fields that people have changed, and those fields: from now on they are theirs."""
        target = item.target
        now = self._targets[target].connector.ticket(write.ticket or "")
        if not isinstance(now, Ticket):
            raise Refused(now.message)
        with self._engine.begin() as connection:
            row = outgoing.ticket_of(connection, target, item.key)
            known = _digests(row) if row is not None and row.native_id == write.ticket else {}
            ours = {name: held for name, held in known.items() if now.digests.get(name) == held}
            if row is not None and ours != known:
                digests = orjson.dumps(ours).decode()
                outgoing.change_ticket(connection, target, item.key, {"digests": digests})
        theirs = tuple(name for name in _OWNED if getattr(write, name) and name not in ours)
        empty: dict[str, Any] = {name: () if name == "body" else None for name in theirs}
        return replace(write, **empty), theirs

    def _over(self, item: StoredIntent, state: str = "done", problem: str | None = None) -> None:
        self._change(item, state=state, done_at=self._clock(), problem=problem)

    def _written(self, item: StoredIntent, write: Write, written: Written, report: OutboxReport) -> None:
        self._done(item, write, written)
        report.sent.append(written.label)
        report.problems.extend(f"{written.label}: {sentence}" for sentence in written.dropped)

    def _done(self, item: StoredIntent, write: Write, written: Written, *, adopted: bool = False) -> None:
        now = self._clock()
        with self._engine.begin() as connection:
            outgoing.step(connection, item.id, now, state="done", done_at=now, problem=None)
            before = outgoing.ticket_of(connection, item.target, item.key)
            if write.action is Action.CREATE:
                keep_ticket(connection, item.key, item.target, opened(written, now, adopted=adopted))
            elif before is not None and before.native_id == written.id:
                values = {"label": written.label, "url": written.url, "dropped": "\n".join(written.dropped)}
                digests = _now_ours(_digests(before), write, written.ticket)
                seen = {} if written.ticket is None else seen_as(written.ticket, before, now)
                values = {**values, **seen, "digests": orjson.dumps(digests).decode()}
                outgoing.change_ticket(connection, item.target, item.key, values)

    def _count(self, report: OutboxReport) -> None:
        report.waiting = len(self._in(["pending"]))
        unclear = self._in(["unclear"])
        report.unclear = len(unclear)
        left = max((self._left(item) for item in unclear), default=None)
        report.settles_at = None if left is None else self._clock() + max(left, 0)
        report.parked = [f"{item.key}: {item.problem}" for item in self._in(["parked", "asked"])]


def _turn(item: StoredIntent) -> tuple[str, str]:
    """Intents of one turn go out in order: those of a key, and of a ticket that is named beside the key's own."""
    return item.target, item.content.get("ticket") or item.key


def opened(written: Written, now: int, *, adopted: bool) -> dict[str, Any]:
    """What is noted of a ticket when it is there. Of one that was found nobody knows what people changed meanwhile, so
    that none of its fields is ours.
    """
    ticket = written.ticket
    digests = {} if ticket is None or adopted else dict(ticket.digests)
    known = {
        "native_id": written.id,
        "label": written.label,
        "url": written.url,
        "state": "",
        "done": False,
        "dropped": "\n".join(written.dropped),
        "digests": orjson.dumps(digests).decode(),
        "unassigned": written.unassigned,
        "read_at": now,
    }
    return known if ticket is None else {**known, **seen_as(ticket, None, now)}


def seen_as(ticket: Ticket, before: Any | None, now: int) -> dict[str, Any]:
    """What changes in the noted row ``before`` when the target shows ``ticket``. ``now`` by our clock."""
    closed_at = None if not ticket.done else now if before is None or not before.done else before.closed_at
    return {
        "label": ticket.label,
        "url": ticket.url,
        "state": ticket.state,
        "done": ticket.done,
        "place": ticket.place,
        "updated_at": ticket.updated,
        "read_at": now,
        "closed_at": closed_at,
        "open_state": ticket.state if not ticket.done else before.open_state if before is not None else None,
        "gone": None,
        "gone_at": None,
        "gone_message": None,
    }


def _digests(row: Any) -> dict[str, str]:
    return dict(orjson.loads(row.digests or "{}"))


def _now_ours(known: Mapping[str, str], write: Write, ticket: Ticket | None) -> dict[str, str]:
    """What we wrote last, after this write. Of a field that could not be read back nothing is known any more."""
    set_now = [name for name in _OWNED if getattr(write, name)]
    held = {} if ticket is None else ticket.digests
    kept = {name: value for name, value in known.items() if name not in set_now}
    return {**kept, **{name: held[name] for name in set_now if name in held}} if set_now else dict(known)


def _amends(write: Write) -> bool:
    return any(getattr(write, name) for name in (*_OWNED, "labels")) or write.properties is not None


def _taken_over(fields: tuple[str, ...]) -> str:
    return f"people have changed {', '.join(fields)}, which is theirs now and was not written"


# --- what people ask for


def obey(engine: Engine, clock: Callable[[], int]) -> list[str]:
    """Does what was asked for, each in a transaction of its own; one sentence for each. Only for who may write."""
    told = []
    with engine.begin() as connection:
        waiting = outgoing.open_requests(connection)
    for asked in waiting:
        with engine.begin() as connection:
            if asked.command == "release":
                number = outgoing.release(connection, list(asked.content["ids"]), clock())
                text = f"released {number} of {len(asked.content['ids'])} writes"
            else:
                text = _replayed(connection, asked, clock())
            outgoing.answer(connection, asked.id, text, clock())
            told.append(text)
    return told


def refusal(found: list[StoredIntent], ticket: Any | None, *, not_there: bool, create_again: bool) -> str:
    """Why what is known under a key cannot be replayed; empty if it can."""
    if not found:
        return "there is no write with this key"
    if create_again:
        if ticket is None or ticket.gone is None:
            return "its ticket is not known to be gone, so no other one is opened"
        return ""
    states = {item.state for item in found}
    if "asked" in states and not not_there:
        return (
            "nobody knows whether it reached the target. Look for it there; if it is not there, say `--not-there`. A "
            "ticket is looked up once more before it is sent"
        )
    return "" if states & {"parked", "asked"} else "nothing with this key is parked or waits for a person"


def _replayed(connection: Connection, asked: outgoing.Request, now: int) -> str:
    found = outgoing.of_key(connection, asked.key)
    ticket = outgoing.ticket_of(connection, found[0].target, asked.key) if found else None
    not_there, create_again = bool(asked.content.get("not_there")), bool(asked.content.get("create_again"))
    if why := refusal(found, ticket, not_there=not_there, create_again=create_again):
        return f"{asked.key}: {why}"
    wanted = [item for item in found if item.state in ("parked", "asked")]
    if create_again:
        assert ticket is not None
        outgoing.forget_ticket(connection, found[0].target, asked.key)
        wanted += [item for item in found if item.action == Action.CREATE and item.state == "done"]
    for item in wanted:
        why = f"a person asked for it again; before: {item.problem or item.state}"
        again = {"state": "pending", "attempts": 0, "not_before": 0, "sent_at": None, "done_at": None}
        outgoing.step(connection, item.id, now, problem=why, **again)
    return f"{asked.key}: {len(wanted)} to be sent again"


# --- the form of a stored write


def pack(write: Write) -> dict[str, Any]:
    """A write as JSON."""
    return {**asdict(write), "body": [[b.kind, b.text, [list(i) for i in b.items]] for b in write.body]}


def unpack(content: Mapping[str, Any]) -> Write:
    """The write that ``pack`` made into JSON."""
    body = tuple(Block(kind, text, tuple(Item(*item) for item in items)) for kind, text, items in content["body"])
    values = {**content, "action": Action(content["action"]), "body": body, "labels": tuple(content["labels"])}
    return Write(**values)
