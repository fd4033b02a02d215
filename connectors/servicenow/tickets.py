"""Tickets of ours in ServiceNow: finding them by our key, writing them once, and comparing what became of a write.

Owns which columns a corrective action is written to and how its text looks there. Leaves the decision to write, the
look-up before it and what follows an unclear outcome to the outbox, and what the table is to ``target``.

The key stands in ``correlation_id``, which is not unique there: nothing but a look-up keeps a ticket from being opened
twice. ServiceNow drops what it does not like (a read-only field, an invalid choice) and answers with success, so every
ticket is read back.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.servicenow.options import Options
from connectors.servicenow.questions import Question
from connectors.servicenow.target import Target, squeezed
from connectors.servicenow.translate import literal, millis, plain, record_url, shown
from connectors.servicenow.transport import Denied, NoRecord, Tables
from connectors.servicenow.walk import every
from itsms_sync.connector import Access, Refused, SourceError
from itsms_sync.records import Action, Block, Gap, Gone, Item, Millis, Ticket, Write, Written, digest

_TICKET = (
    "sys_id",
    "number",
    "correlation_id",
    "short_description",
    "description",
    "state",
    "active",
    "sys_created_on",
    "sys_updated_on",
)
_DELETED = ("sys_id", "documentkey", "sys_created_on")
_PAGE = 200
"""Tickets of one answer; each brings its text."""
_PROPERTIES = re.compile(r"\n?\[itsms-sync (\{.*\})\]\s*\Z", re.DOTALL)
_CODE_TAG = re.compile(r"\[(/?)code\]", re.IGNORECASE)
_SYS_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LONGEST_KEY = 100
_MOST_TWINS = 50


class Tickets:
    """Our tickets in the table that the options name."""

    def __init__(self, access: Access, tables: Tables, options: Options) -> None:
        self._http = access.http
        self._credential = access.credential
        self._url = access.url
        self._tables = tables
        self._options = options
        self._target = Target(tables, options)

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        """All tickets with our key, oldest first; a gap if some of them may be hidden from the account."""
        table = self._options.table
        _check_key(key)
        self._target.check()
        query = f"correlation_id={key}^ORDERBYsys_created_on^ORDERBYsys_id"
        answer = self._tables.ask(Question(table, query, _TICKET, _MOST_TWINS, counted=True, labelled=True))
        tickets = [self._ticket(row) for row in answer.rows]
        if any((ticket.key or "").casefold() != key.casefold() for ticket in tickets):
            raise Refused(f"{table}: the condition on correlation_id was ignored; let the account read that field")
        if answer.more or (answer.total or 0) > len(tickets):
            return Gap(
                table, "rows-hidden", f"the account may not read all tickets with key {key}; let it read {table}"
            )
        if not tickets:
            self._target.check_shown()
        return [ticket for ticket in tickets if ticket.key == key]

    def ticket(self, id: str) -> Ticket | Gone | Gap:
        """By its ``sys_id``. That it was deleted is known where the account may read the trail of deletes."""
        table = self._options.table
        try:
            row = self._http.reading(lambda: self._tables.one(table, id, (*_TICKET, *self._expressive())))
        except NoRecord as denial:
            return self._gone(id, denial)
        return self._ticket(row)

    def _gone(self, id: str, denial: Denied) -> Gone:
        try:
            trail = self._tables.ask(Question("sys_audit_delete", f"documentkey={id}", _DELETED, 1)).rows
        except Denied:
            trail = []
        found = [row for row in trail if plain(row.get("documentkey")) == id]
        if found:
            return Gone(
                "deleted", f"ServiceNow says that it was deleted at {plain(found[0].get('sys_created_on'))} UTC"
            )
        return Gone("unseen", f"deleted, archived, or hidden from the account: {denial}")

    def ours(self, since: Millis | None) -> Iterator[Ticket] | Gap:
        """By ``sys_id``, of the table that takes tickets: a row with our name and a key, made by our account."""
        options, account = self._options, self._account()
        self._target.check()
        conditions = [
            f"correlation_display={options.correlation_display}",
            *([f"sys_created_by={account}"] if account else []),
            *([f"sys_updated_on>={literal(since)}"] if since is not None else []),
        ]
        return self._listed("^".join(conditions), account, since)

    def _listed(self, condition: str, account: str, since: Millis | None) -> Iterator[Ticket]:
        table, name = self._options.table, self._options.correlation_display.casefold()
        fields = (*_TICKET, "correlation_display", "sys_created_by")
        for row in every(self._tables, table, condition, fields, _PAGE, labelled=True):
            given = (plain(row.get("correlation_display")) or "").casefold()
            author = plain(row.get("sys_created_by")) or account
            ticket = self._ticket(row)
            early = since is not None and ticket.updated is not None and ticket.updated < since // 1000 * 1000
            if given != name or (account and author.casefold() != account.casefold()) or early:
                raise Refused(
                    f"{table}: a condition on correlation_display, sys_created_by or sys_updated_on was ignored; "
                    "let the account read these fields"
                )
            yield ticket

    def _account(self) -> str:
        """The user name, where the credential has one that a condition can hold."""
        name = self._credential().get("username", "")
        return "" if "^" in name else name

    def commented(self, id: str, mark: str) -> bool | Gap:
        """Notes stand in a table of their own that has no lag; without the right to read it this cannot be told."""
        query = f"element_id={id}^element=work_notes^valueLIKE{mark}"
        try:
            answer = self._tables.ask(Question("sys_journal_field", query, ("sys_id", "element_id", "value"), 10))
            if answer.rows:
                return any(mark in (plain(row.get("value")) or "") for row in answer.rows)
            self._http.reading(lambda: self._tables.one(self._options.table, id, ("sys_id",)))
        except Denied as denial:
            return Gap("sys_journal_field", "refused", f"comments of {id} cannot be looked through: {denial}")
        return False

    def write(self, write: Write) -> Written | Gap:
        """Perform the write once and read the ticket back. A gap says why it has no place in this table."""
        _check_key(write.key)
        self._target.check()
        dropped: list[str] = []
        match write.action:
            case Action.LINK:
                values = self._link(_target(write), write.link_to)
            case Action.TRANSITION:
                values = self._step(write.to_state)
            case _:
                values, dropped = self._values(write)
        if isinstance(values, Gap):
            return values
        return self._tables.writing(lambda: self._written(write, values, dropped))

    def _step(self, wanted: str | None) -> dict[str, str] | Gap:
        if not wanted:
            raise Refused("transition names no state")
        state = self._target.state(wanted)
        return state if isinstance(state, Gap) else {"state": state}

    def _link(self, ticket: str, other: str | None) -> dict[str, str] | Gap:
        """A task belongs to one parent; one that people chose is not replaced."""
        table = self._options.table
        if not other or other == ticket:
            raise Refused("link names no other ticket")
        if not _SYS_ID.fullmatch(other):
            return Gap(table, "not-served", f"{other} is no record of this instance; the text names the other ticket")
        try:
            self._tables.reading(lambda: self._tables.one("task", other, ("sys_id",)))
        except Denied as denial:
            return Gap(table, "not-served", f"only tasks that the account may read can be linked: {denial}")
        held = self._tables.reading(lambda: self._tables.one(table, ticket, ("sys_id", "parent")))
        if "parent" not in held:
            return Gap(table, "not-served", f"{table} shows no parent; the text names the other ticket")
        if plain(held["parent"]) not in ("", None, other):
            return Gap(table, "not-served", f"{table}.parent names another task already; link the tickets by hand")
        return {"parent": other}

    def _written(self, write: Write, values: Mapping[str, str], dropped: list[str]) -> Written:
        table = self._options.table
        if write.action is Action.CREATE:
            row = self._tables.create(table, values)
        else:
            row = self._tables.amend(table, _target(write), values)
        sys_id, label = str(plain(row["sys_id"])), plain(row.get("number")) or ""
        url = record_url(self._url, table, sys_id, label)
        try:
            ticket, lost = self._read_back(sys_id, values)
        except SourceError as problem:
            return Written(sys_id, label, url, None, (*dropped, f"it could not be read back: {problem}"))
        nobody = bool(write.assignee) and ticket.digests.get("assignee") == digest("")
        return Written(sys_id, ticket.label, url, ticket, (*dropped, *lost), unassigned=nobody)

    def _read_back(self, sys_id: str, values: Mapping[str, str]) -> tuple[Ticket, list[str]]:
        compared = tuple(name for name in values if name != "work_notes")
        asked = tuple(dict.fromkeys((*_TICKET, *self._expressive(), *compared)))
        row = self._tables.one(self._options.table, sys_id, asked)
        lost = [self._target.loss(name, values[name], plain(row.get(name))) for name in compared]
        if "work_notes" in values:
            lost.append(self._lost_note(sys_id, values["work_notes"]))
        return self._ticket(row), [sentence for sentence in lost if sentence]

    def _lost_note(self, sys_id: str, text: str) -> str:
        """Notes read as blank on the record itself; they stand in a table of their own."""
        query = f"element_id={sys_id}^element=work_notes^ORDERBYDESCsys_created_on"
        question = Question("sys_journal_field", query, ("sys_id", "element_id", "value"), _MOST_TWINS)
        try:
            rows = self._tables.ask(question).rows
        except SourceError as problem:
            return f"the comment could not be read back: {problem}"
        wanted = squeezed(text)
        there = any(
            plain(row.get("element_id")) == sys_id and squeezed(plain(row.get("value"))) == wanted for row in rows
        )
        return "" if there else "the comment was not taken over"

    def _values(self, write: Write) -> tuple[dict[str, str], list[str]]:
        """Columns and raw values of a write, and what has no place in ServiceNow."""
        if write.action is Action.COMMENT:
            return {"work_notes": plain_text(write.body)}, []
        options, dropped = self._options, []
        values: dict[str, str] = {}
        if write.action is Action.CREATE:
            values = {"correlation_id": write.key, "correlation_display": options.correlation_display}
            values |= {"assignment_group": options.assignment_group} if options.assignment_group else {}
        if write.summary is not None:
            values["short_description"] = write.summary
        if write.body:
            values["description"] = plain_text(write.body) + _property_line(write.properties)
        elif write.properties:
            dropped.append("properties are written only together with the text")
        if write.assignee:
            values["assigned_to"] = write.assignee
        if write.severity is not None:
            values |= options.severities.get(write.severity, {})
            if write.severity not in options.severities:
                dropped.append(f"severity {write.severity!r} is not in the option severities")
        if write.labels:
            dropped.append("labels have no place in ServiceNow: " + ", ".join(write.labels))
        return values, dropped

    def _ticket(self, row: Mapping[str, Any]) -> Ticket:
        cells = {name: plain(row.get(name)) or "" for name in _TICKET}
        return Ticket(
            id=cells["sys_id"],
            label=cells["number"],
            url=record_url(self._url, self._options.table, cells["sys_id"], cells["number"]),
            key=cells["correlation_id"] or None,
            summary=cells["short_description"],
            state=shown(row.get("state")) or "",
            done=cells["active"] == "false",
            labels=(),
            properties=_properties(cells["description"]),
            created=millis(cells["sys_created_on"]),
            updated=millis(cells["sys_updated_on"]),
            place=self._options.table,
            digests=self._digests(row),
        )

    def _expressive(self) -> tuple[str, ...]:
        """Columns that hold who is assigned and how severe it is."""
        columns = {name for values in self._options.severities.values() for name in values}
        return ("assigned_to", *sorted(columns))

    def _digests(self, row: Mapping[str, Any]) -> dict[str, str]:
        columns = {
            "summary": ("short_description",),
            "body": ("description",),
            "assignee": ("assigned_to",),
            "severity": self._expressive()[1:],
        }
        return {
            name: digest("\0".join(squeezed(plain(row[column])) for column in held))
            for name, held in columns.items()
            if held and all(column in row for column in held)
        }


def plain_text(body: Sequence[Block]) -> str:
    """The text without markup. What stands between ``[code]`` tags is shown as HTML, so no text may bring them."""
    return _CODE_TAG.sub(r"[ \1code ]", "\n\n".join(map(_block, body)))


def _block(block: Block) -> str:
    if block.kind == "heading":
        return f"{block.text}\n{'-' * min(len(block.text), 60)}"
    lines = [block.text] if block.text else []
    return "\n".join((*lines, *(f"- {_item(item)}" for item in block.items)))


def _item(item: Item) -> str:
    place = f" <{item.url}>" if item.url else ""
    return f"{item.text}{place}{item.note}"


def _property_line(properties: Mapping[str, Any] | None) -> str:
    return f"\n\n[itsms-sync {json.dumps(properties, sort_keys=True)}]" if properties else ""


def _properties(description: str) -> Mapping[str, Any]:
    """What our last line says; people may have changed it, so it is no more than a hint."""
    match = _PROPERTIES.search(description)
    try:
        found = json.loads(match[1]) if match else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _check_key(key: str) -> None:
    if not key or len(key) > _LONGEST_KEY or "^" in key or not key.isprintable():
        raise Refused(f"{key!r} cannot be a correlation_id: 1 to {_LONGEST_KEY} printable characters without ^")


def _target(write: Write) -> str:
    if write.ticket is None:
        raise Refused(f"{write.action} names no ticket")
    return write.ticket
