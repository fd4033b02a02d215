"""Writes on their way and what people do about them: steps of intents, what is asked of whoever writes, our tickets as
they were seen last, and what a sweep found beside them. What was decided stands in ``decided``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, and_, delete, insert, select, update

from itsms_sync.store.database import new_id
from itsms_sync.store.decided import StoredIntent, change_intent, intents
from itsms_sync.store.schema import fact, intent, intent_step, nonconformity, request, ticket, unexpected_ticket

OPEN = ("pending", "sending", "unclear", "parked", "asked")
"""States of an intent that is not over."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked of whoever writes."""

    id: int
    command: str
    key: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unexpected:
    """A ticket of ours that the database did not expect. ``what`` is ``twin`` or ``stray``."""

    native_id: str
    key: str | None
    label: str
    url: str
    state: str
    done: bool
    what: str


# --- intents


def step(connection: Connection, intent_id: int, at: int, **values: Any) -> None:
    """Changes the intent and notes it in its history. The same again in a row only counts up."""
    change_intent(connection, intent_id, **values)
    now = connection.execute(
        select(intent.c.state, intent.c.attempts, intent.c.problem).where(intent.c.id == intent_id)
    ).one()
    newest = connection.execute(
        select(intent_step).where(intent_step.c.intent_id == intent_id).order_by(intent_step.c.id.desc()).limit(1)
    ).first()
    if newest is not None and (newest.state, newest.attempts, newest.problem) == tuple(now):
        same = update(intent_step).where(intent_step.c.id == newest.id)
        connection.execute(same.values(times=newest.times + 1, last_at=at))
        return
    values = {"state": now.state, "attempts": now.attempts, "problem": now.problem}
    connection.execute(insert(intent_step).values(intent_id=intent_id, at=at, last_at=at, times=1, **values))


def is_over(connection: Connection, intent_id: int) -> bool:
    state = connection.execute(select(intent.c.state).where(intent.c.id == intent_id)).scalar_one()
    return state not in OPEN


def hold(connection: Connection, ids: Sequence[int], at: int) -> None:
    """Notes which intents a cycle kept back. Those that were held before keep their date."""
    not_yet = and_(intent.c.id.in_(ids), intent.c.held_at.is_(None))
    connection.execute(update(intent).where(not_yet).values(held_at=at))


def held(connection: Connection) -> list[StoredIntent]:
    """What cycles kept back and nobody has released yet."""
    return [i for i in intents(connection, ["pending"]) if i.held_at is not None and i.released_at is None]


def release(connection: Connection, ids: Sequence[int], at: int) -> int:
    """Lets exactly these pass; returns how many of them still waited."""
    waiting = and_(intent.c.id.in_(ids), intent.c.state == "pending", intent.c.released_at.is_(None))
    return connection.execute(update(intent).where(waiting).values(released_at=at)).rowcount


# --- what people ask for


def ask(connection: Connection, command: str, key: str, content: Mapping[str, Any], at: int) -> int:
    """Adds a request. Any process may, and this is all that a process without the right to write may add."""
    values = {"command": command, "key": key, "content": orjson.dumps(content).decode(), "made_at": at}
    return new_id(connection.execute(insert(request).values(values)))


def open_requests(connection: Connection) -> list[Request]:
    rows = connection.execute(select(request).where(request.c.done_at.is_(None)).order_by(request.c.id))
    return [Request(row.id, row.command, row.key, orjson.loads(row.content)) for row in rows]


def answer(connection: Connection, request_id: int, text: str, at: int) -> None:
    connection.execute(update(request).where(request.c.id == request_id).values(done_at=at, answer=text))


# --- tickets


def ticket_of(connection: Connection, target: str, key: str) -> Any | None:
    """The row of the ticket that was opened under this key, or ``None``."""
    return connection.execute(select(ticket).where(ticket.c.target == target, ticket.c.key == key)).first()


def tickets_of(connection: Connection, target: str) -> list[Any]:
    return list(connection.execute(select(ticket).where(ticket.c.target == target).order_by(ticket.c.key)))


def change_ticket(connection: Connection, target: str, key: str, values: Mapping[str, Any]) -> None:
    connection.execute(update(ticket).where(ticket.c.target == target, ticket.c.key == key).values(values))


def forget_ticket(connection: Connection, target: str, key: str) -> None:
    """Before another ticket is opened under the key."""
    connection.execute(delete(ticket).where(ticket.c.target == target, ticket.c.key == key))


def closed_keys(connection: Connection) -> set[str]:
    """Keys of nonconformities whose ticket people have closed: they take no place under the owner's cap."""
    rows = connection.execute(
        select(nonconformity.c.key)
        .join_from(nonconformity, ticket, ticket.c.key == nonconformity.c.key)
        .where(ticket.c.done.is_(True))
    )
    return set(rows.scalars())


def decided_keys(connection: Connection) -> set[str]:
    """Every key under which something was decided."""
    return {
        *connection.execute(select(nonconformity.c.key)).scalars(),
        *connection.execute(select(intent.c.key).distinct()).scalars(),
    }


# --- what a sweep found


def keep_unexpected(connection: Connection, target: str, found: Iterable[Unexpected], at: int) -> None:
    """Replaces what the sweep before found. What is still there keeps its date."""
    table, of_target = unexpected_ticket, unexpected_ticket.c.target == target
    rows = connection.execute(select(table.c.native_id, table.c.found_at).where(of_target))
    since: dict[str, int] = {row.native_id: row.found_at for row in rows}
    connection.execute(delete(table).where(of_target))
    for one in found:
        values = {name: getattr(one, name) for name in ("native_id", "key", "label", "url", "state", "done", "what")}
        connection.execute(insert(table).values(target=target, found_at=since.get(one.native_id, at), **values))


def unexpected(connection: Connection, target: str | None = None) -> list[Any]:
    """What the newest sweep found."""
    columns = unexpected_ticket.c
    query = select(unexpected_ticket).order_by(columns.what, columns.key, columns.native_id)
    return list(connection.execute(query if target is None else query.where(columns.target == target)))


# --- where following stands


def mark(connection: Connection, name: str) -> int | None:
    """An instant that was noted under ``name``."""
    found = connection.execute(select(fact.c.value).where(fact.c.name == name)).scalar()
    return None if found is None else int(found)


def set_mark(connection: Connection, name: str, at: int | None) -> None:
    """Notes an instant, or with ``None`` that there is none."""
    connection.execute(delete(fact).where(fact.c.name == name))
    if at is not None:
        connection.execute(insert(fact).values(name=name, value=str(at)))


def histories(connection: Connection, ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Intent -> its steps, oldest first: ``state, attempts, problem, since_at, until_at, times``."""
    found: dict[int, list[dict[str, Any]]] = {id_: [] for id_ in ids}
    rows = connection.execute(
        select(intent_step).where(intent_step.c.intent_id.in_(ids)).order_by(intent_step.c.id)
    ).mappings()
    for row in rows:
        told = {name: row[name] for name in ("state", "attempts", "problem", "times")}
        found[row["intent_id"]].append({**told, "since_at": row["at"], "until_at": row["last_at"]})
    return found


def of_key(connection: Connection, key: str) -> list[StoredIntent]:
    """Every intent of the key, over or not."""
    return intents(connection, (*OPEN, "done", "waived"), key)
