"""What follows from what people do to our tickets: decides, and words the internal comments.

A ticket that people close is closed. It is reopened once, if cases after that still deviate, and after that a person is
asked. Of several tickets with one key none is closed by us. Who reads and writes is ``itsms_sync.following``.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from itsms_sync.corrective.figures import Share
from itsms_sync.corrective.texts import CommentText, instant, percent, render_body
from itsms_sync.procedures.model import Severity
from itsms_sync.records import Action, Block, Ticket, Write


class Reply(StrEnum):
    """What is done about a closed ticket."""

    NOTHING = "nothing"
    REOPEN = "reopen"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class Closed:
    """A ticket that people have closed."""

    key: str
    at: int
    """When we saw it closed, or last replied to that (ms, our clock)."""
    reopened: int
    """So often we have reopened it."""
    escalated: bool
    open_state: str | None
    """The state in which it was open; ``None`` if it was never seen so."""


@dataclass(frozen=True, slots=True)
class Later:
    """The cases that count after a close: ended after it, and deviating ones happened and were learned after it."""

    share: Share
    tolerance: float


def reply(closed: Closed, severity: Severity, later: Sequence[Later]) -> Reply:
    """``later``: of each period that was decided now; of what counts from the first hit the one that is running."""
    if closed.escalated or not any(_deviates(each, severity) for each in later):
        return Reply.NOTHING
    return Reply.ESCALATE if closed.reopened else Reply.REOPEN


def _deviates(later: Later, severity: Severity) -> bool:
    if severity in (Severity.S1, Severity.S2):
        return later.share.deviating > 0
    return severity is Severity.S3 and later.share.exceeds(later.tolerance)


def writes(closed: Closed, wanted: Reply, later: Sequence[Later], text: CommentText, manager: str) -> list[Write]:
    """The comment that says why, and the step back into the state in which the ticket was open."""
    if wanted is Reply.NOTHING:
        return []
    share = max((each.share for each in later), key=lambda each: each.deviating)
    values = {
        "key": closed.key,
        "closed": instant(closed.at),
        "x": share.deviating,
        "n": share.judged,
        "rate": percent(share.rate),
        "manager": manager,
    }
    subject = "reopened" if wanted is Reply.REOPEN else "escalated"
    told = [comment(closed.key, subject, text, values)]
    if wanted is Reply.ESCALATE or closed.open_state is None:
        return told
    return [*told, Write(Action.TRANSITION, closed.key, to_state=closed.open_state, subject=subject)]


def comment(key: str, subject: str, text: CommentText, values: Mapping[str, Any], ticket: str | None = None) -> Write:
    """An internal comment on the key's ticket or another one. It ends with the mark by which it is found again."""
    write = Write(Action.COMMENT, key, ticket, subject=subject)
    body = (*render_body(text.body, values), Block("paragraph", f"Reference {write.mark}"))
    return Write(Action.COMMENT, key, ticket, body=body, subject=subject)


def unassigned(key: str, text: CommentText) -> Write:
    """The comment on a ticket that nobody could be assigned to."""
    return comment(key, "unassigned", text, {"key": key})


# --- a sweep


@dataclass(frozen=True, slots=True)
class Twins:
    """Two tickets with one key. ``first`` is the one that the database knows, else the oldest."""

    key: str
    first: Ticket
    twin: Ticket


@dataclass(frozen=True, slots=True)
class Swept:
    """What a look through all tickets of ours showed beside those that are known."""

    twins: tuple[Twins, ...]
    strays: tuple[Ticket, ...]
    """Tickets with a key under which nothing was decided, or whose key was removed."""


def swept(found: Iterable[Ticket], known: Mapping[str, str], decided: Collection[str]) -> Swept:
    """``known``: id of a ticket -> the key under which we opened it; ``decided``: keys under which anything was."""
    by_key: dict[str, list[Ticket]] = {}
    strays = []
    for one in sorted(found, key=_age):
        key = known.get(one.id) or one.key
        if key is None or key not in decided:
            strays.append(one)
        else:
            by_key.setdefault(key, []).append(one)
    twins = []
    for key, tickets in by_key.items():
        first = next((each for each in tickets if known.get(each.id) == key), tickets[0])
        twins += [Twins(key, first, each) for each in tickets if each.id != first.id]
    return Swept(tuple(twins), tuple(strays))


def _age(ticket: Ticket) -> tuple[int, int, str]:
    return ticket.created or 0, len(ticket.id), ticket.id


def of_twins(pair: Twins, text: CommentText) -> list[Write]:
    """A link between the two, and a comment on each."""
    key, first, twin = pair.key, pair.first, pair.twin
    return [
        Write(Action.LINK, key, twin.id, link_to=first.id, subject=f"twin.{twin.id}"),
        comment(key, f"twin.{twin.id}", text, {"key": key, "label": first.label, "url": first.url}, twin.id),
        comment(key, f"twin-of.{twin.id}", text, {"key": key, "label": twin.label, "url": twin.url}, first.id),
    ]


def newest_generations(keys: Iterable[str | None]) -> dict[str, int]:
    """Stem of a key (all but the generation) -> the highest generation among these keys."""
    found: dict[str, int] = {}
    for key in keys:
        stem, dot, number = (key or "").rpartition(".g")
        if dot and number.isdecimal():
            found[stem] = max(found.get(stem, 0), int(number))
    return found
