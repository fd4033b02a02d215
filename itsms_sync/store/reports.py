"""Questions that commands ask of the store. Reads only."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Select, and_, case, func, literal, or_, select, union

from itsms_sync.store.coverage import FIRST, HEAD, HOLE, WAITING, covered, kind_covered
from itsms_sync.store.ingested import BROKEN
from itsms_sync.store.schema import (
    case_state,
    choice,
    cursor,
    cycle,
    deviation,
    event,
    field_list,
    finding,
    free_text,
    gap,
    intent,
    judgement,
    nonconformity,
    nonconformity_deviation,
    party,
    payload,
    poll,
    pseudonym,
    reading,
    reconciliation,
    record,
    relation,
    request,
    source,
    span,
    ticket,
    unexpected_ticket,
    verdict,
)

Rows = list[dict[str, Any]]


def _rows(connection: Connection, query: Any) -> Rows:
    # A column whose name is a word of SQL (`check`) comes under a subclass of str, which is no key for JSON.
    return [{str(name): value for name, value in row._mapping.items()} for row in connection.execute(query)]


def cases(connection: Connection, process: str) -> int:
    """How many cases the last judgement knew."""
    return int(connection.execute(select(func.count()).where(case_state.c.process == process)).scalar_one())


def processes(connection: Connection) -> list[str]:
    return list(connection.execute(select(case_state.c.process).distinct().order_by(case_state.c.process)).scalars())


def verdict_counts(connection: Connection, process: str) -> Rows:
    """``check, requirement, status, reason, cases``."""
    return _rows(
        connection,
        select(
            verdict.c.check,
            verdict.c.requirement,
            verdict.c.status,
            verdict.c.reason,
            func.count().label("cases"),
        )
        .where(verdict.c.process == process, verdict.c.superseded_at.is_(None))
        .group_by(verdict.c.check, verdict.c.requirement, verdict.c.status, verdict.c.reason)
        .order_by(verdict.c.check, verdict.c.requirement, verdict.c.status),
    )


def verdict_cases(connection: Connection, process: str, statuses: Sequence[str]) -> Rows:
    """``check, requirement, status, case`` (the record's label) of every such verdict, in order."""
    return _rows(
        connection,
        select(verdict.c.check, verdict.c.requirement, verdict.c.status, record.c.label.label("case"))
        .join_from(verdict, record)
        .where(verdict.c.process == process, verdict.c.superseded_at.is_(None), verdict.c.status.in_(statuses))
        .order_by(verdict.c.requirement, record.c.label),
    )


def visits(connection: Connection, process: str) -> Rows:
    """``visited`` (states, comma separated), ``cases``."""
    return _rows(
        connection,
        select(case_state.c.visited, func.count().label("cases"))
        .where(case_state.c.process == process)
        .group_by(case_state.c.visited),
    )


def events(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(event)).scalar_one())


def deviations(connection: Connection, process: str | None, requirement: str | None, state: str, limit: int) -> Rows:
    """The newest deviations: ``process, requirement, check, case, source, kind, native_id, state, reason,
    occurred_at``.
    """
    wanted = [deviation.c.state == state]
    if process is not None:
        wanted.append(deviation.c.process == process)
    if requirement is not None:
        wanted.append(deviation.c.requirement == requirement)
    return _rows(
        connection,
        select(
            deviation.c.process,
            deviation.c.requirement,
            deviation.c.check,
            record.c.label.label("case"),
            source.c.name.label("source"),
            record.c.kind,
            record.c.native_id,
            deviation.c.state,
            deviation.c.reason,
            verdict.c.detail,
            deviation.c.occurred_at,
            deviation.c.learned_at,
        )
        .join_from(deviation, record)
        .join(source, source.c.id == record.c.source_id)
        .outerjoin(
            verdict,
            and_(
                verdict.c.record_id == deviation.c.record_id,
                verdict.c.requirement == deviation.c.requirement,
                verdict.c.superseded_at.is_(None),
            ),
        )
        .where(*wanted)
        .order_by(deviation.c.occurred_at.desc(), record.c.id)
        .limit(limit),
    )


def nonconformities(connection: Connection) -> Rows:
    """With the ticket, if there is one, and the number of deviations that show it."""
    shown = (
        select(func.count())
        .where(nonconformity_deviation.c.nonconformity_id == nonconformity.c.id)
        .scalar_subquery()
        .label("deviations")
    )
    rows = _rows(
        connection,
        select(
            nonconformity.c.key,
            nonconformity.c.process,
            nonconformity.c.requirement,
            nonconformity.c.check,
            nonconformity.c.scope,
            nonconformity.c.generation,
            nonconformity.c.state,
            nonconformity.c.queued,
            nonconformity.c.severity,
            nonconformity.c.owner,
            nonconformity.c.opened_at,
            nonconformity.c.evidence,
            nonconformity.c.evidence_hash,
            shown,
            ticket.c.label.label("ticket"),
            ticket.c.url,
        )
        .outerjoin_from(nonconformity, ticket, ticket.c.key == nonconformity.c.key)
        .order_by(nonconformity.c.severity, nonconformity.c.id),
    )
    for row in rows:
        evidence = orjson.loads(row.pop("evidence"))
        row["summary"] = evidence["summary"]
        row["figures"] = evidence["figures"]
    return rows


def actions(connection: Connection) -> Rows:
    """Corrective-action tickets and digests, with what is still to be sent."""
    return _rows(
        connection,
        select(
            intent.c.key,
            intent.c.action,
            intent.c.target,
            intent.c.state.label("write"),
            intent.c.attempts,
            intent.c.problem,
            intent.c.created_at,
            intent.c.done_at,
            ticket.c.label.label("ticket"),
            ticket.c.url,
            ticket.c.state.label("ticket_state"),
            ticket.c.dropped,
        )
        .outerjoin_from(intent, ticket, and_(ticket.c.key == intent.c.key, ticket.c.target == intent.c.target))
        .order_by(intent.c.id),
    )


def writes(connection: Connection) -> Rows:
    """Every intent in the order of decision, without its content."""
    columns = ("key", "action", "subject", "target", "state", "attempts", "problem", "created_at", "done_at")
    also = ("sent_at", "held_at", "released_at")
    return _rows(connection, select(*(intent.c[name] for name in (*columns, *also))).order_by(intent.c.id))


def requests(connection: Connection, key: str) -> Rows:
    """What people asked for under a key: ``command, content, made_at, done_at, answer``."""
    columns = (request.c.command, request.c.content, request.c.made_at, request.c.done_at, request.c.answer)
    return _rows(connection, select(*columns).where(request.c.key == key).order_by(request.c.id))


def tickets_for_people(connection: Connection) -> Rows:
    """Tickets of ours that need a person: ``ticket, key, url, why, since_at``."""
    gone = select(
        ticket.c.label.label("ticket"),
        ticket.c.key,
        ticket.c.url,
        (literal("gone (") + ticket.c.gone + literal("): ") + func.coalesce(ticket.c.gone_message, "")).label("why"),
        ticket.c.gone_at.label("since_at"),
    ).where(ticket.c.gone.is_not(None))
    escalated = select(
        ticket.c.label.label("ticket"),
        ticket.c.key,
        ticket.c.url,
        literal("closed twice, and later cases still deviate: decide what has to change").label("why"),
        ticket.c.escalated_at.label("since_at"),
    ).where(ticket.c.escalated_at.is_not(None), ticket.c.done.is_(True), ticket.c.gone.is_(None))
    told = {
        "twin": "another ticket has its key, too: close one of them by hand",
        "stray": "this database knows nothing of it; was it restored, or is it another installation's?",
    }
    unexpected = select(
        unexpected_ticket.c.label.label("ticket"),
        unexpected_ticket.c.key,
        unexpected_ticket.c.url,
        case(told, value=unexpected_ticket.c.what, else_=unexpected_ticket.c.what).label("why"),
        unexpected_ticket.c.found_at.label("since_at"),
    ).where(unexpected_ticket.c.done.is_(False))
    return [row for query in (gone, escalated, unexpected) for row in _rows(connection, query)]


def tickets_by_fate(connection: Connection) -> dict[str, int]:
    """Our tickets: how many are ``open``, ``closed``, ``gone``, ``unassigned`` (open ones), ``twins``, ``strays``."""
    there, open_ = ticket.c.gone.is_(None), ticket.c.done.is_(False)
    counted = {
        "open": select(func.count()).select_from(ticket).where(there, open_),
        "closed": select(func.count()).select_from(ticket).where(there, ticket.c.done.is_(True)),
        "gone": select(func.count()).select_from(ticket).where(ticket.c.gone.is_not(None)),
        "unassigned": select(func.count()).select_from(ticket).where(there, open_, ticket.c.unassigned.is_(True)),
        **{
            f"{what}s": select(func.count())
            .select_from(unexpected_ticket)
            .where(unexpected_ticket.c.what == what, unexpected_ticket.c.done.is_(False))
            for what in ("twin", "stray")
        },
    }
    return {name: int(connection.execute(query).scalar_one()) for name, query in counted.items()}


def sources(connection: Connection) -> Rows:
    """Each source with its streams and its freshness: ``covered_until_at``, up to which instant of its own clock every
    stream was read to its end (``None`` if one never was; streams that the source does not serve are in ``not_served``
    and do not count), ``unfinished`` kinds and, if it does not serve at all, ``problem``. ``skew``: by how much its
    clock is ahead of ours (ms)."""
    result = _rows(connection, select(source).order_by(source.c.name))
    for row in result:
        row["streams"] = _streams(connection, row["id"])
        row["not_served"] = _not_served(connection, row["id"])
        known = {stream["stream"]: stream["covered_until_at"] for stream in row["streams"]}
        covered = [at for stream, at in known.items() if at is not None or stream not in row["not_served"]]
        row["covered_until_at"] = min(covered) if covered and None not in covered else None
        row["coverage"] = past(connection, row["id"])
        row["unfinished"] = list(_unfinished(connection, row["id"]))
        row["problem"] = _problem(connection, row["id"])
        del row["marks"], row["found"]
        for name, table in (("records", record), ("payloads", payload)):
            counted = select(func.count()).select_from(table).where(table.c.source_id == row["id"])
            row[name] = int(connection.execute(counted).scalar_one())
    return result


def _streams(connection: Connection, source_id: int) -> Rows:
    """The newest poll of each stream, with its cursor and up to which instant it was read to its end."""
    return _rows(
        connection,
        select(
            poll.c.stream,
            poll.c.ended_at,
            poll.c.server_time,
            poll.c.closed,
            poll.c.rows_seen,
            poll.c.rows_new,
            cursor.c.value.label("cursor"),
            cursor.c.covered_at.label("covered_until_at"),
        )
        .join_from(cursor, span)
        .join(poll, poll.c.id == cursor.c.poll_id)
        .where(span.c.source_id == source_id, span.c.state == HEAD)
        .order_by(poll.c.stream),
    )


def past(connection: Connection, source_id: int) -> Rows:
    """How far back each kind of record was read: ``kind``, ``read_from_at`` (``None``: from the beginning),
    ``first_at`` (the oldest row there is, if that is older than the head), ``behind`` (more is to be read), ``waiting``
    and ``holes`` (windows), ``rows`` and ``requests`` that it took."""
    number = {state: func.sum(case((span.c.state == state, 1), else_=0)) for state in (WAITING, HOLE)}
    rows = _rows(
        connection,
        select(
            span.c.kind,
            reading.c.first.label("first_at"),
            reading.c.behind,
            number[WAITING].label("waiting"),
            number[HOLE].label("holes"),
            func.sum(span.c.rows_seen).label("rows"),
            func.sum(span.c.requests).label("requests"),
        )
        .join_from(span, reading, and_(reading.c.source_id == span.c.source_id, reading.c.kind == span.c.kind))
        .where(span.c.source_id == source_id)
        .group_by(span.c.kind, reading.c.first, reading.c.behind)
        .order_by(span.c.kind),
    )
    for row in rows:
        newest = kind_covered(connection, source_id, row["kind"])[-1]
        row["read_from_at"] = None if newest.start == FIRST else newest.start
    return rows


def _unfinished(connection: Connection, source_id: int) -> Iterator[str]:
    """Kinds of which the newest window was not read to its end."""
    yield from connection.execute(
        select(reading.c.kind)
        .where(reading.c.source_id == source_id, reading.c.unfinished_since.is_not(None))
        .order_by(reading.c.kind)
    ).scalars()


def _not_served(connection: Connection, source_id: int) -> list[str]:
    """Streams that the source refuses or does not have."""
    told = gap.c.reason.in_(("not-served", "refused"))
    open_ones = (
        select(gap.c.stream)
        .distinct()
        .where(gap.c.source_id == source_id, gap.c.stream != "source", told, gap.c.closed_at.is_(None))
    )
    return sorted(connection.execute(open_ones).scalars())


def _problem(connection: Connection, source_id: int) -> str | None:
    """Why the source does not serve, if it does not."""
    of_source = and_(gap.c.source_id == source_id, gap.c.stream == "source", gap.c.closed_at.is_(None))
    return connection.execute(select(gap.c.message).where(of_source).order_by(gap.c.id.desc()).limit(1)).scalar()


def last_cycle(connection: Connection) -> dict[str, Any] | None:
    """The newest pass that was finished: ``started_at, ended_at, as_of, report``."""
    rows = _rows(connection, select(cycle).where(cycle.c.ended_at.is_not(None)).order_by(cycle.c.id.desc()).limit(1))
    return {**rows[0], "report": orjson.loads(rows[0]["report"])} if rows else None


def gaps(connection: Connection) -> Rows:
    """Open gaps, newest first."""
    return _rows(
        connection,
        select(
            source.c.name.label("source"),
            gap.c.stream,
            gap.c.reason,
            gap.c.message,
            gap.c.record,
            gap.c.field,
            gap.c.opened_at,
        )
        .join_from(gap, source)
        .where(gap.c.closed_at.is_(None))
        .order_by(gap.c.id.desc()),
    )


def coverage(connection: Connection, source_id: int, kind: str, last_poll: int | None) -> Rows:
    """Under what the verdicts of a judgement stand, per stream of the kind: ``stream, fields`` (asked for, comma
    separated), ``read_at``, ``closed`` (the window was read to its end) and ``covered_until_at`` (the source's clock at
    the newest such end), all of it by the polls up to ``last_poll``; and as of now ``covered_from_at`` (``None``: from
    its beginning, if it is covered at all)."""
    mine = and_(poll.c.source_id == source_id, poll.c.stream.in_(_streams_of(source_id, [kind])))
    mine = and_(mine, poll.c.id <= (last_poll or 0), poll.c.until.is_(None))
    newest = select(func.max(poll.c.id)).where(mine).group_by(poll.c.stream)
    ends = (
        select(poll.c.stream, func.max(poll.c.server_time).label("until"))
        .where(mine, poll.c.closed.is_(True))
        .group_by(poll.c.stream)
        .subquery()
    )
    rows = _rows(
        connection,
        select(
            poll.c.stream,
            field_list.c.fields,
            poll.c.ended_at.label("read_at"),
            poll.c.closed,
            ends.c.until.label("covered_until_at"),
        )
        .join_from(poll, field_list)
        .outerjoin(ends, ends.c.stream == poll.c.stream)
        .where(poll.c.id.in_(newest))
        .order_by(poll.c.stream),
    )
    for row in rows:
        spans = covered(connection, source_id, row["stream"])
        row["covered_from_at"] = spans[-1].start if spans and spans[-1].start != FIRST else None
    return rows


def _streams_of(source_id: int, kinds: Sequence[str]) -> Select[tuple[str]]:
    of_kind = and_(span.c.source_id == source_id, span.c.kind.in_(list(kinds)))
    return select(cursor.c.stream).join_from(cursor, span).where(of_kind)


def gaps_around(connection: Connection, source_id: int, kinds: Sequence[str], native_id: str) -> Rows:
    """Open gaps that concern a record: of the source as a whole, of the streams of these kinds, and on itself."""
    touched = or_(gap.c.stream.in_(["source", *kinds]), gap.c.stream.in_(_streams_of(source_id, kinds)))
    own = or_(gap.c.record.in_(["", native_id]), gap.c.reason == BROKEN)
    return _rows(
        connection,
        select(gap.c.stream, gap.c.reason, gap.c.message, gap.c.record, gap.c.field, gap.c.start, gap.c.end)
        .add_columns(gap.c.opened_at)
        .where(gap.c.source_id == source_id, gap.c.closed_at.is_(None), touched, own)
        .order_by(gap.c.id.desc()),
    )


def reconciliations(connection: Connection) -> Rows:
    """The newest comparison by id of each source, kind and extent."""
    newest = select(func.max(reconciliation.c.id)).group_by(
        reconciliation.c.source_id, reconciliation.c.kind, reconciliation.c.extent
    )
    inner = ("id", "source_id", "newest_id", "horizon", "cursor", "gaps")
    told = [column for column in reconciliation.c if column.name not in inner]
    return _rows(
        connection,
        select(source.c.name.label("source"), *told)
        .join_from(reconciliation, source)
        .where(reconciliation.c.id.in_(newest))
        .order_by(source.c.name, reconciliation.c.kind, reconciliation.c.extent),
    )


def findings(connection: Connection, record_id: int) -> Rows:
    """What was found out about one record besides polls, oldest first."""
    told = (finding.c.what, finding.c.note, finding.c.actor, finding.c.occurred_at, finding.c.learned_at)
    return _rows(connection, select(*told).where(finding.c.record_id == record_id).order_by(finding.c.id))


def intents_by_state(connection: Connection) -> dict[str, int]:
    rows = connection.execute(select(intent.c.state, func.count()).group_by(intent.c.state))
    return {state: int(count) for state, count in rows}


def find_records(connection: Connection, wanted: str) -> Rows:
    """Records by label or native id; cases if there are any, else whatever else has that name."""
    is_case = select(case_state.c.record_id).where(case_state.c.record_id == record.c.id).exists()
    found = _rows(
        connection,
        select(
            record.c.id,
            record.c.kind,
            record.c.native_id,
            record.c.label,
            record.c.created_at,
            record.c.updated_at,
            record.c.version,
            record.c.fields,
            record.c.tombstone,
            record.c.source_id,
            source.c.name.label("source"),
            source.c.system,
            is_case.label("is_case"),
        )
        .join_from(record, source)
        .where((record.c.label == wanted) | (record.c.native_id == wanted))
        .order_by(record.c.id),
    )
    cases_ = [row for row in found if row["is_case"]]
    return cases_ or found


def history(connection: Connection, record_id: int) -> Rows:
    """Events of a record in the source's order."""
    return _rows(
        connection,
        select(
            event.c.occurred_at,
            event.c.learned_at,
            event.c.field,
            event.c.old,
            event.c.new,
            event.c.actor,
            event.c.witness,
            event.c.witness_id,
            event.c.position,
            event.c.since,
        )
        .where(event.c.record_id == record_id)
        .order_by(event.c.position, event.c.occurred_at, event.c.id),
    )


def verdicts_of(connection: Connection, record_id: int) -> Rows:
    """Verdicts of a record that stand, with the documents they rest on."""
    return _rows(
        connection,
        select(
            verdict.c.process,
            verdict.c.requirement,
            verdict.c.check,
            verdict.c.status,
            verdict.c.reason,
            verdict.c.detail,
            verdict.c.occurred_at,
            verdict.c.recheck_at,
            verdict.c.learned_at,
            judgement.c.documents,
            judgement.c.last_poll_id,
            judgement.c.as_of,
        )
        .join_from(verdict, judgement)
        .where(verdict.c.record_id == record_id, verdict.c.superseded_at.is_(None)),
    )


def superseded_of(connection: Connection, record_id: int) -> Rows:
    """What was said about a record before and no longer stands, newest first."""
    return _rows(
        connection,
        select(
            verdict.c.requirement,
            verdict.c.status,
            verdict.c.reason,
            verdict.c.learned_at,
            verdict.c.superseded_at,
        )
        .where(verdict.c.record_id == record_id, verdict.c.superseded_at.is_not(None))
        .order_by(verdict.c.superseded_at.desc(), verdict.c.requirement),
    )


def state_of(connection: Connection, record_id: int) -> Rows:
    return _rows(connection, select(case_state).where(case_state.c.record_id == record_id))


def surroundings(connection: Connection, record_id: int) -> Rows:
    """What belongs to a record: ``tie`` (part, link, pair), ``role`` as seen from it, ``name`` by which one names the
    other, and of the other record, if it was read, ``case, source, kind, source_id, fields, updated_at``.
    """
    unread = case((relation.c.other_id.is_(None), relation.c.value), else_="").label("name")
    named = select(relation.c.tie, relation.c.role, unread, relation.c.other_id.label("other"))
    naming = select(
        relation.c.tie,
        case((relation.c.inverse != "", relation.c.inverse), else_=relation.c.role).label("role"),
        literal("").label("name"),
        relation.c.record_id.label("other"),
    )
    seen_from_here = or_(relation.c.tie != "link", relation.c.inverse != "")
    both = union(
        named.where(relation.c.record_id == record_id),
        naming.where(relation.c.other_id == record_id, seen_from_here),
    ).subquery()
    return _rows(
        connection,
        select(
            both.c.tie,
            both.c.role,
            both.c.name,
            record.c.label.label("case"),
            source.c.name.label("source"),
            record.c.kind,
            record.c.native_id.label("id"),
            record.c.source_id,
            record.c.fields,
            record.c.updated_at,
        )
        .select_from(both)
        .outerjoin(record, record.c.id == both.c.other)
        .outerjoin(source, source.c.id == record.c.source_id)
        .order_by(both.c.tie.desc(), both.c.role, record.c.id),
    )


def labels(connection: Connection, source_id: int, kind: str) -> dict[tuple[str, str], str]:
    """(field, raw value) -> label, of choices of this kind of record; ('', id) -> title, of groups."""
    found = connection.execute(
        select(choice.c.field, choice.c.value, choice.c.label).where(
            choice.c.source_id == source_id, choice.c.kind == kind
        )
    )
    result = {(field, value): label for field, value, label in found}
    groups = connection.execute(select(party.c.native_id, party.c.title).where(party.c.source_id == source_id))
    result.update({("", native): title for native, title in groups})
    return result


def known_sources(connection: Connection) -> set[str]:
    """Names of the sources of which anything was read."""
    return set(connection.execute(select(source.c.name)).scalars())


def judged_as_of(connection: Connection) -> int | None:
    """The instant as of which the newest judgement was asked for (ms)."""
    return connection.execute(select(judgement.c.as_of).order_by(judgement.c.id.desc()).limit(1)).scalar()


def ticket_by_label(connection: Connection, wanted: str) -> dict[str, Any] | None:
    """A ticket of ours by its label or key."""
    rows = _rows(connection, select(ticket).where((ticket.c.label == wanted) | (ticket.c.key == wanted)))
    return rows[0] if rows else None


def sizes(connection: Connection) -> dict[str, int]:
    """Rows per table, for the operator."""
    tables = (payload, record, event, verdict, deviation, nonconformity, intent, gap, pseudonym, free_text)
    return {str(t.name): int(connection.execute(select(func.count()).select_from(t)).scalar_one()) for t in tables}
