"""Which records of a table are there, and what became of those that no longer are.

Owns the enumeration by ``sys_id``, which no change of a record disturbs, the three places that tell of a vanished
record (the table itself, ``sys_audit_delete``, the archive ``ar_<table>``), and the doubt where none of them does: rows
that rules hide look exactly like rows that were deleted. Leaves to ``walk`` what history is, to ``translate`` what a
row means.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from connectors.servicenow.questions import Answer, Question
from connectors.servicenow.translate import deletion, flat, label_field, millis, plain, whole
from connectors.servicenow.transport import Denied, NoTable, Tables
from connectors.servicenow.walk import Stream, every, hidden_rows
from itsms_sync.connector import Refused, Unavailable
from itsms_sync.records import Fate, Gap, Presence, Record, What

Cells = Mapping[str, Any]
DELETES = ("sys_id", "tablename", "documentkey", "sys_created_on", "sys_created_by")
_ARCHIVED = ("sys_id", "sys_archived")
IDS_AT_ONCE = 50
"""Ids of one question: an address holds about 8,000 characters, and a keyset names them twice."""
_PAGE = 1000


def present(tables: Tables, stream: Stream, cursor: str, limit: int) -> Iterator[Presence]:
    """All rows that the account sees, by ``sys_id``. Ends with an answer that was counted and leaves nothing over."""
    last, offset, counted, ended, told = cursor, 0, False, False, False
    while not ended:
        answer = tables.ask(_question(stream, last, offset, limit, counted=counted))
        last_of_page = _checked(answer, last)
        ended = counted and not answer.more and (not answer.rows or answer.total == offset + len(answer.rows))
        offset = 0 if answer.rows else offset + (answer.question.limit if answer.more else 0)
        counted, last = not answer.more, last_of_page
        gaps = () if told else _hidden(stream, answer)
        told = told or bool(gaps)
        if ended:
            tables.finished(stream.table)
        records = tuple(_record(stream, row) for row in answer.rows)
        yield Presence(records, last, ended, str(answer.question), answer.server_time, gaps)


def _question(stream: Stream, last: str, offset: int, limit: int, *, counted: bool) -> Question:
    query = "^".join(filter(None, (f"sys_id>{last}" if last else "", "ORDERBYsys_id")))
    return Question(stream.table, query, stream.fields, limit, offset, counted)


def _checked(answer: Answer, last: str) -> str:
    """The last ``sys_id`` of the page. Raises ``Unavailable`` for rows out of order: then some may be missing."""
    for row in answer.rows:
        sys_id = plain(row.get("sys_id"))
        if not sys_id or "^" in sys_id:
            raise Refused(f"a row of {answer.question.table} has no usable sys_id; without it presence cannot be told")
        if sys_id.casefold() <= last.casefold():
            raise Unavailable(f"{answer.question.table}: rows came out of order or again, after {last!r} {sys_id!r}")
        last = sys_id
    return last


def _hidden(stream: Stream, answer: Answer) -> tuple[Gap, ...]:
    hidden = hidden_rows(answer)
    if hidden <= 0:
        return ()
    message = (
        f"rules of the instance hide rows of {stream.table} from the account, {hidden} on one page: whether those are "
        "still there cannot be told"
    )
    return (Gap(stream.name, "rows-hidden", message),)


def _record(stream: Stream, row: Cells) -> Record:
    """As ``translate`` makes it; a row without a readable time is there nevertheless."""
    cells = flat(stream.body(row))
    sys_id = cells.get("sys_id") or ""
    label = cells.get(label_field(stream.name)) or sys_id
    created, updated = millis(cells.get("sys_created_on")), millis(cells.get("sys_updated_on"))
    return Record(stream.name, sys_id, label, created, updated or 0, whole(cells.get("sys_mod_count")), cells)


def fates(tables: Tables, stream: Stream, ids: Sequence[str], deletion_body: Callable[[Cells], Cells]) -> list[Fate]:
    """What became of each record, in the order of ``ids``. Raises ``Refused`` if the table itself may not be read."""
    found: dict[str, Fate] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        part = ids[start : start + IDS_AT_ONCE]
        found |= _present(tables, stream, part)
        doubts: list[str] = []
        missing = [id_ for id_ in part if id_ not in found]
        found |= _deleted(tables, stream, missing, deletion_body, doubts)
        missing = [id_ for id_ in missing if id_ not in found]
        found |= _archived(tables, stream, missing, doubts)
        note = "; ".join((f"{stream.table} no longer shows it: deleted, or hidden by a rule", *doubts))
        found |= {id_: Fate(id_, What.UNREADABLE.value, note) for id_ in part if id_ not in found}
    return [found[id_] for id_ in ids]


def _present(tables: Tables, stream: Stream, ids: Sequence[str]) -> dict[str, Fate]:
    rows = _named(tables, stream.table, "sys_id", ids, stream.fields)
    records = [_record(stream, row) for row in rows]
    return {record.id: Fate(record.id, What.PRESENT.value, record=record) for record in records}


def _deleted(
    tables: Tables, stream: Stream, ids: Sequence[str], body: Callable[[Cells], Cells], doubts: list[str]
) -> dict[str, Fate]:
    """Those that the trail of deletes names; of several deletes of one record the last counts."""
    try:
        rows = _named(tables, "sys_audit_delete", "documentkey", ids, DELETES, f"tablename={stream.table}")
    except Denied as denial:
        doubts.append(f"the trail of deletes cannot be read ({denial})")
        return {}
    told = [fate for row in rows if (fate := deletion(flat(body(row)))) is not None]
    return {fate.id: fate for fate in sorted(told, key=lambda fate: fate.at or 0)}


def _archived(tables: Tables, stream: Stream, ids: Sequence[str], doubts: list[str]) -> dict[str, Fate]:
    archive = f"ar_{stream.table}"
    try:
        rows = _named(tables, archive, "sys_id", ids, _ARCHIVED)
    except NoTable:
        return {}
    except Denied as denial:
        doubts.append(f"the archive cannot be read ({denial})")
        return {}
    told = [flat(row) for row in rows]
    note = f"the instance keeps it in {archive}"
    return {
        id_: Fate(id_, What.ARCHIVED.value, note, millis(row.get("sys_archived")))
        for row in told
        if (id_ := row.get("sys_id"))
    }


def _named(
    tables: Tables, table: str, column: str, ids: Sequence[str], fields: tuple[str, ...], condition: str = ""
) -> list[dict[str, Any]]:
    """The rows whose ``column`` is one of ``ids``. Raises ``Denied`` if the condition was not obeyed."""
    if not ids:
        return []
    wanted = frozenset(ids)
    named = "^".join(filter(None, (condition, f"{column}IN{','.join(ids)}")))
    rows = list(every(tables, table, named, fields, _PAGE))
    if any(plain(row.get(column)) not in wanted for row in rows):
        raise Denied(f"{table}: the condition on {column} was ignored; let the account read {table}.{column}")
    return rows
