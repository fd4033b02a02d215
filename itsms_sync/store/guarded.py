"""What the guard keeps: by which marks each source is known, which database this is, and objections that stand."""

import secrets
from collections.abc import Mapping

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update

from itsms_sync.guard import Age, Objection
from itsms_sync.store.schema import cycle, fact, objection, source

_DATABASE, _PLACE = "database_id", "place_id"


def marks(connection: Connection, source_id: int) -> Mapping[str, str]:
    """By which the source is known; empty before it first answered."""
    held = connection.execute(select(source.c.marks).where(source.c.id == source_id)).scalar()
    known: Mapping[str, str] = orjson.loads(held) if held else {}
    return known


def keep_marks(connection: Connection, source_id: int, found: Mapping[str, str]) -> None:
    connection.execute(update(source).where(source.c.id == source_id).values(marks=_text(found)))


def keep_found(connection: Connection, source_id: int, found: Mapping[str, str]) -> None:
    """The marks of an instance that is not trusted, for a person who may decide to trust it."""
    connection.execute(update(source).where(source.c.id == source_id).values(found=_text(found)))


def _text(marks: Mapping[str, str]) -> str:
    return orjson.dumps({str(mark): value for mark, value in marks.items()}, option=orjson.OPT_SORT_KEYS).decode()


def accept_found(connection: Connection, name: str) -> bool:
    """Trusts the instance that answered last for the source; whether there was one."""
    held = connection.execute(select(source.c.found).where(source.c.name == name)).scalar()
    if held:
        connection.execute(update(source).where(source.c.name == name).values(marks=held, found=None))
    return bool(held)


def age(connection: Connection) -> Age:
    """Of this database; its id is made when it is first asked for."""
    held = dict(connection.execute(select(fact.c.name, fact.c.value).where(fact.c.name.in_((_DATABASE, _PLACE)))).all())
    if _DATABASE not in held:
        held[_DATABASE] = secrets.token_hex(16)
        connection.execute(insert(fact).values(name=_DATABASE, value=held[_DATABASE]))
    newest = connection.execute(select(func.max(cycle.c.id))).scalar() or 0
    return Age(held[_DATABASE], held.get(_PLACE, ""), int(newest))


def keep_place(connection: Connection, place: str) -> None:
    """The logbook that this database belongs to from now on."""
    connection.execute(delete(fact).where(fact.c.name == _PLACE))
    connection.execute(insert(fact).values(name=_PLACE, value=place))


def objections(connection: Connection) -> tuple[Objection, ...]:
    """Those that stand, ours first."""
    rows = connection.execute(
        select(objection.c.subject, objection.c.reason, objection.c.message).order_by(
            objection.c.raised_at, objection.c.subject
        )
    )
    return tuple(Objection(*row) for row in rows)


def raise_objection(connection: Connection, raised: Objection, at: int) -> None:
    """One stands per subject, since its first day."""
    same = objection.c.subject == raised.subject
    values = {"reason": raised.reason, "message": raised.message}
    if connection.execute(update(objection).where(same).values(values)).rowcount == 0:
        connection.execute(insert(objection).values(subject=raised.subject, raised_at=at, **values))


def lift(connection: Connection, subject: str) -> bool:
    """Whether an objection stood."""
    return bool(connection.execute(delete(objection).where(objection.c.subject == subject)).rowcount)
