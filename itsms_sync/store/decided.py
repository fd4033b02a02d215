"""What was decided and done: periods, nonconformities, intents, tickets. No recomputation takes any of it back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, and_, case, func, insert, literal, or_, select, update

from itsms_sync.store.coverage import HEAD
from itsms_sync.store.database import new_id
from itsms_sync.store.judged import OPEN, period_of
from itsms_sync.store.schema import (
    case_state,
    choice,
    cursor,
    cycle,
    deviation,
    intent,
    nonconformity,
    nonconformity_deviation,
    party,
    period,
    record,
    source,
    span,
    tally,
    ticket,
    verdict,
)

Titles = Mapping[tuple[str, str], str]
"""(Name of the source, id) -> what people call it."""


class FigureRow(NamedTuple):
    requirement: str
    check: str
    scope: str
    judged: int
    deviating: int
    unknown: int


class ExampleRow(NamedTuple):
    source: str
    kind: str
    native_id: str
    label: str
    at: int
    detail: str


@dataclass(frozen=True, slots=True)
class StoredIntent:
    id: int
    key: str
    action: str
    target: str
    content: Mapping[str, Any]
    state: str
    attempts: int
    not_before: int
    sent_at: int | None
    problem: str | None
    created_at: int
    basis: str | None
    held_at: int | None
    released_at: int | None
    boot: str | None
    uptime: int | None


@dataclass(frozen=True, slots=True)
class StoredNonconformity:
    id: int
    process: str
    requirement: str
    check: str
    scope: str
    generation: int
    key: str
    state: str
    queued: bool
    severity: str
    owner: str
    opened_at: int
    evidence_hash: str


def begin_cycle(connection: Connection, as_of: int | None, at: int) -> int:
    """Notes that a pass began; its row without an end is a pass that was cut off."""
    return new_id(connection.execute(insert(cycle).values(started_at=at, as_of=as_of)))


def end_cycle(connection: Connection, cycle_id: int, report: Mapping[str, Any], at: int) -> None:
    """Notes that the pass was finished: the "last success" that is watched."""
    values = {"ended_at": at, "report": orjson.dumps(report).decode()}
    connection.execute(update(cycle).where(cycle.c.id == cycle_id).values(values))


def covered_until(connection: Connection, source_ids: Sequence[int]) -> int | None:
    """Up to which instant of the sources' clocks every source was read to the end; ``None`` if one never was."""
    rows = connection.execute(
        select(span.c.source_id, func.max(cursor.c.covered_at))
        .join_from(span, cursor)
        .where(span.c.source_id.in_(source_ids), span.c.state == HEAD)
        .group_by(span.c.source_id)
    ).all()
    if len(rows) < len(source_ids) or any(at is None for _, at in rows):
        return None
    return min(int(at) for _, at in rows)


def oldest_of(connection: Connection, process: str, source_id: int, since: int, until: int) -> int | None:
    """Creation of the oldest case that ended in [since, until)."""
    oldest = select(func.min(case_state.c.opened_at)).join_from(case_state, record)
    wanted = oldest.where(case_state.c.process == process, record.c.source_id == source_id, _span(since, until))
    return connection.execute(wanted).scalar()


def _span(since: int, until: int | None) -> ColumnElement[bool]:
    """The cases that count: ended in [since, until), or without ``until`` all that had not ended before ``since``."""
    ended = case_state.c.ended_at
    return and_(ended >= since, ended < until) if until is not None else or_(ended.is_(None), ended >= since)


def figures(connection: Connection, process: str, source_id: int, since: int, until: int | None) -> list[FigureRow]:
    """Judged, deviating and unknown cases per requirement and scope. With ``until``: of the cases that ended in
    [since, until); without: of all cases that had not ended before ``since``.

    From the tally, unless its periods are not cut at these instants; then the verdicts are counted.
    """
    cut_at = connection.execute(select(source.c.cut_at).where(source.c.id == source_id)).scalar()
    if not all(at is None or at == 0 or at == period_of(at, cut_at) for at in (since, until)):
        return _counted(connection, process, source_id, since, until)
    at = tally.c.period
    span = or_(at == OPEN, at >= since) if until is None else and_(at != OPEN, at >= since, at < until)
    rows = connection.execute(
        select(tally.c.requirement, tally.c.check, tally.c.scope, *_by_status(tally.c.status, tally.c.cases))
        .where(tally.c.process == process, tally.c.source_id == source_id, span)
        .group_by(tally.c.requirement, tally.c.check, tally.c.scope)
        .having(func.sum(tally.c.cases) > 0)
        .order_by(tally.c.requirement, tally.c.scope)
    )
    return [FigureRow(r, c, s, int(n), int(x), int(u)) for r, c, s, n, x, u in rows]


def _counted(connection: Connection, process: str, source_id: int, since: int, until: int | None) -> list[FigureRow]:
    span = _span(since, until)
    rows = connection.execute(
        select(verdict.c.requirement, verdict.c.check, case_state.c.scope, *_by_status(verdict.c.status, literal(1)))
        .join_from(
            verdict,
            case_state,
            and_(case_state.c.record_id == verdict.c.record_id, case_state.c.process == verdict.c.process),
        )
        .join(record, record.c.id == verdict.c.record_id)
        .where(verdict.c.process == process, verdict.c.superseded_at.is_(None), record.c.source_id == source_id, span)
        .group_by(verdict.c.requirement, verdict.c.check, case_state.c.scope)
        .order_by(verdict.c.requirement, case_state.c.scope)
    )
    return [FigureRow(r, c, s, int(n), int(x), int(u)) for r, c, s, n, x, u in rows]


def _by_status(status: ColumnElement[str], cases: ColumnElement[int]) -> tuple[ColumnElement[int], ...]:
    """Sums of the cases that are judged, deviating and unknown."""
    conforming, deviating, unknown = (
        func.sum(case((status == one, cases), else_=0)) for one in ("conforming", "deviating", "unknown")
    )
    return conforming + deviating, deviating, unknown


def examples(
    connection: Connection, process: str, requirement: str, scope: str, since: int, until: int | None, limit: int | None
) -> list[ExampleRow]:
    """Deviating cases, the latest first, as ``figures`` counts them."""
    span = _span(since, until)
    query = (
        select(
            source.c.name, record.c.kind, record.c.native_id, record.c.label, verdict.c.occurred_at, verdict.c.detail
        )
        .join_from(verdict, record)
        .join(source, source.c.id == record.c.source_id)
        .join(case_state, and_(case_state.c.record_id == record.c.id, case_state.c.process == verdict.c.process))
        .where(
            verdict.c.process == process,
            verdict.c.superseded_at.is_(None),
            verdict.c.requirement == requirement,
            verdict.c.status == "deviating",
            case_state.c.scope == scope,
            span,
        )
        .order_by(verdict.c.occurred_at.desc(), record.c.id.desc())
    )
    rows = connection.execute(query if limit is None else query.limit(limit))
    return [ExampleRow(s, k, n, label or n, at, detail or "") for s, k, n, label, at, detail in rows]


def later_share(
    connection: Connection,
    process: str,
    demand: tuple[str, str, str],
    source_ids: Sequence[int],
    after: int,
    until: int | None,
) -> tuple[int, int, int]:
    """``(judged, deviating, unknown)`` of the cases that ended at or after ``after`` (and before ``until``; without it
    running ones count, too). ``demand`` is requirement, check and scope. A deviation counts if it happened and was
    learned after ``after``.
    """
    requirement, check, scope = demand
    late = and_(
        verdict.c.status == "deviating",
        verdict.c.occurred_at > after,
        verdict.c.learned_at > after,
    )
    conforming = verdict.c.status == "conforming"
    count = [
        func.coalesce(func.sum(case((which, 1), else_=0)), 0)
        for which in (or_(conforming, late), late, verdict.c.status == "unknown")
    ]
    row = connection.execute(
        select(*count)
        .join_from(
            verdict,
            case_state,
            and_(case_state.c.record_id == verdict.c.record_id, case_state.c.process == verdict.c.process),
        )
        .join(record, record.c.id == verdict.c.record_id)
        .where(
            verdict.c.process == process,
            verdict.c.superseded_at.is_(None),
            verdict.c.requirement == requirement,
            verdict.c.check == check,
            case_state.c.scope == scope,
            record.c.source_id.in_(source_ids),
            _span(after, until),
        )
    ).one()
    return int(row[0]), int(row[1]), int(row[2])


def places(
    connection: Connection, process: str, requirement: str, scope: str, since: int, until: int | None
) -> list[tuple[str, str, int, int]]:
    """``(source, place, judged, deviating)`` as ``figures`` counts them, most deviating first."""
    span = _span(since, until)
    deviating = func.sum(case((verdict.c.status == "deviating", 1), else_=0))
    rows = connection.execute(
        select(source.c.name, case_state.c.place, func.count(), deviating)
        .join_from(
            verdict,
            case_state,
            and_(case_state.c.record_id == verdict.c.record_id, case_state.c.process == verdict.c.process),
        )
        .join(record, record.c.id == verdict.c.record_id)
        .join(source, source.c.id == record.c.source_id)
        .where(
            verdict.c.process == process,
            verdict.c.superseded_at.is_(None),
            verdict.c.requirement == requirement,
            verdict.c.status.in_(("conforming", "deviating")),
            case_state.c.scope == scope,
            span,
        )
        .group_by(source.c.name, case_state.c.place)
        .order_by(deviating.desc(), source.c.name, case_state.c.place)
    )
    return [(name, place, int(judged), int(number)) for name, place, judged, number in rows]


def titles(connection: Connection, chosen: Sequence[tuple[int, str, str]] = ()) -> Titles:
    """The title of every group, and the label of every raw value of the fields ``chosen`` (source, kind, field).
    By source, because two sites may use one id for two things."""
    of_groups = select(source.c.name, party.c.native_id, party.c.title).join_from(party, source)
    found = {(name, id_): title for name, id_, title in connection.execute(of_groups)}
    for source_id, kind, field in chosen:
        of_field = and_(choice.c.source_id == source_id, choice.c.kind == kind, choice.c.field == field)
        of_choices = select(source.c.name, choice.c.value, choice.c.label).join_from(choice, source).where(of_field)
        found |= {(name, value): label for name, value, label in connection.execute(of_choices)}
    return found


def decided_periods(connection: Connection, process: str) -> set[tuple[str, str, str, int]]:
    """``(requirement, check, scope, start)`` of every decision taken."""
    rows = connection.execute(
        select(period.c.requirement, period.c.check, period.c.scope, period.c.start).where(period.c.process == process)
    )
    return {(r, c, s, start) for r, c, s, start in rows}


def add_period(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(insert(period).values(values))


def nonconformities(connection: Connection, process: str | None = None) -> list[StoredNonconformity]:
    query = select(nonconformity).order_by(nonconformity.c.id)
    if process is not None:
        query = query.where(nonconformity.c.process == process)
    return [
        StoredNonconformity(
            row.id,
            row.process,
            row.requirement,
            row.check,
            row.scope,
            row.generation,
            row.key,
            row.state,
            row.queued,
            row.severity,
            row.owner,
            row.opened_at,
            row.evidence_hash,
        )
        for row in connection.execute(query)
    ]


def open_nonconformity(
    connection: Connection, values: Mapping[str, Any], write: Mapping[str, Any] | None, target: str, at: int
) -> None:
    """Adds the nonconformity with its deviations and, unless it waits, the intent of its ticket: one transaction."""
    result = connection.execute(insert(nonconformity).values(opened_at=at, state="suspected", **values))
    nonconformity_id = new_id(result)
    shown = select(deviation.c.id, literal(nonconformity_id)).join_from(
        deviation,
        case_state,
        and_(case_state.c.record_id == deviation.c.record_id, case_state.c.process == deviation.c.process),
    )
    shown = shown.where(
        deviation.c.process == values["process"],
        deviation.c.requirement == values["requirement"],
        deviation.c.state == "open",
        case_state.c.scope == values["scope"],
    )
    connection.execute(insert(nonconformity_deviation).from_select(["deviation_id", "nonconformity_id"], shown))
    if write is not None:
        add_intent(connection, write, target, at)


def add_intent(connection: Connection, write: Mapping[str, Any], target: str, at: int) -> None:
    """An intent is there once per key, action and subject, whoever decides it again."""
    key, action, subject = write["key"], write["action"], write.get("subject", "")
    same = and_(intent.c.key == key, intent.c.action == action, intent.c.subject == subject)
    if connection.execute(select(intent.c.id).where(same)).first() is None:
        connection.execute(
            insert(intent).values(
                key=key,
                action=action,
                subject=subject,
                target=target,
                content=orjson.dumps(write).decode(),
                state="pending",
                created_at=at,
            )
        )


def intents(connection: Connection, states: Sequence[str], key: str | None = None) -> list[StoredIntent]:
    """Intents in these states, of one key if it is given, oldest first."""
    query = select(intent).where(intent.c.state.in_(states)).order_by(intent.c.id)
    rows = connection.execute(query if key is None else query.where(intent.c.key == key))
    return [
        StoredIntent(
            row.id,
            row.key,
            row.action,
            row.target,
            orjson.loads(row.content),
            row.state,
            row.attempts,
            row.not_before,
            row.sent_at,
            row.problem,
            row.created_at,
            row.basis,
            row.held_at,
            row.released_at,
            row.boot,
            row.uptime,
        )
        for row in rows
    ]


def change_intent(connection: Connection, intent_id: int, **values: Any) -> None:
    connection.execute(update(intent).where(intent.c.id == intent_id).values(values))


def keep_ticket(connection: Connection, key: str, target: str, values: Mapping[str, Any]) -> None:
    """The ticket as it was read last."""
    same = and_(ticket.c.key == key, ticket.c.target == target)
    if connection.execute(update(ticket).where(same).values(values)).rowcount == 0:
        connection.execute(insert(ticket).values(key=key, target=target, **values))


def tickets(connection: Connection) -> list[Any]:
    return list(connection.execute(select(ticket).order_by(ticket.c.label)))


def queued(connection: Connection, owner: str) -> Iterator[Any]:
    yield from connection.execute(
        select(nonconformity)
        .where(nonconformity.c.owner == owner, nonconformity.c.queued.is_(True), nonconformity.c.state != "ended")
        .order_by(nonconformity.c.severity, nonconformity.c.id)
    )


def unqueue(connection: Connection, nonconformity_id: int) -> None:
    connection.execute(update(nonconformity).where(nonconformity.c.id == nonconformity_id).values(queued=False))
