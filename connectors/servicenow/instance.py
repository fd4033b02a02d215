"""One ServiceNow instance as its account sees it: the calls of the connector protocol.

Owns which streams a kind has and what the instance says about itself, its people and its choices. Leaves the Table API
to ``transport``, pages and cursors to ``walk``, persons and free text to ``columns``, facts to ``translate``, writes to
``tickets``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from connectors.servicenow import presence, walk
from connectors.servicenow.columns import Columns, stripped
from connectors.servicenow.options import Options
from connectors.servicenow.questions import Answer, Question
from connectors.servicenow.tickets import Tickets
from connectors.servicenow.translate import (
    audit_stream,
    deletes_stream,
    journal_stream,
    label_field,
    metric_stream,
    plain,
    saves_stream,
)
from connectors.servicenow.transport import Denied, Tables, check_names
from connectors.servicenow.walk import Stream
from itsms_sync.connector import Access, Refused
from itsms_sync.records import (
    Bounds,
    Configuration,
    Directory,
    Fate,
    Gap,
    Gone,
    Group,
    Identity,
    Mark,
    Millis,
    Page,
    Person,
    Presence,
    Ticket,
    Window,
    Write,
    Written,
)

_RECORD = ("sys_created_on", "sys_updated_on", "sys_mod_count", "sys_created_by")
_AUDIT = (
    "sys_id",
    "documentkey",
    "fieldname",
    "oldvalue",
    "newvalue",
    "user",
    "record_checkpoint",
    "sys_created_on",
    "tablename",
)
_SAVES = ("sys_id", "documentkey", "record_checkpoint", "sys_created_on", "tablename", "user")
_NOTES = ("sys_id", "name", "element", "element_id", "value", "sys_created_on", "sys_created_by")
_SPANS = (
    "sys_id",
    "table",
    "id",
    "field",
    "field_value",
    "start",
    "end",
    "calculation_complete",
    "sys_updated_on",
)
"""Without ``value``, which is the label: of an account it would be the person's name."""
_JOURNALS = ("comments", "work_notes")
"""Columns that always read blank on the record: each entry is a row of ``sys_journal_field``."""
_USER = ("sys_id", "user_name", "email", "active", "internal_integration_user", "web_service_access_only")
_GROUP = ("sys_id", "name", "active")
_NO_TRAIL = "deletes are only found by reconciliation until then"
_AUDIT_OFF = ("not-asked", "the option audit is off: of the past only what each poll found is known")
_CHOICE = ("sys_id", "name", "element", "value", "label", "language")
_COLUMN = ("sys_id", "name", "element", "internal_type")
_BUILD = "glide.buildtag.last"
_PROPERTIES = (_BUILD, "instance_id", "instance_name")
_PAGE = 1000
"""Rows per page of the reference tables, whose rows are small."""

Silence = tuple[str, str] | None
"""Why a stream is not read, as reason and message."""


class ServiceNow:
    """One instance, read and written by one account."""

    def __init__(self, access: Access, options: Options, tables: Tables, tickets: Tickets) -> None:
        self._access = access
        self._options = options
        self._tables = tables
        self._tickets = tickets

    @property
    def index_lag(self) -> float:
        """Seconds. ServiceNow finds what it has acknowledged at once, but goes on with what nobody waits for."""
        return self._options.index_lag

    def identify(self) -> Identity:
        """Instance, account and server time.

        The instance is its host and the id of our own account there, and by ServiceNow's own id of the installation,
        where the account may read it. A clone brings along the account's id of its origin and leaves the installation
        its own, so one of the two changes; a second clone of the same origin over the same instance cannot be told.
        """
        named = self._access.credential().get("username", "")
        if "^" in named:
            raise Refused("the username of a ServiceNow source cannot hold ^")
        # the instance puts our own id in place of the script, so that a token or a certificate need no name beside them
        condition = f"user_name={named}" if named else "sys_id=javascript:gs.getUserID()"
        answer = self._ask_one("sys_user", condition, ("sys_id", "user_name"))
        own = [
            row
            for row in answer.rows
            if (plain(row.get("user_name")) or "").casefold() == named.casefold() or not named
        ]
        if len(own) > 1 or (answer.rows and not own):
            raise Refused(f"sys_user: the condition {condition} was ignored; let the account read its own user record")
        account = named or (own and plain(own[0].get("user_name"))) or ""
        if not account:
            raise Refused(
                "sys_user does not show who we are: let the account read its own user record, or name it "
                "as username in the credential"
            )
        host, properties = urlsplit(self._access.url).netloc, self._properties()
        found = {
            Mark.ADDRESS: host,
            Mark.NAME: properties.get("instance_name"),
            Mark.INSTANCE: properties.get("instance_id"),
            Mark.ACCOUNT: plain(own[0]["sys_id"]) if own else None,
        }
        return Identity(
            product="ServiceNow",
            version=properties.get(_BUILD) or "unknown",
            instance=f"{host}#{plain(own[0]['sys_id'])}" if own else host,
            account=account,
            server_time=answer.server_time,
            simulated="simulator" in answer.server.lower(),
            marks={mark: value for mark, value in found.items() if value},
        )

    def _properties(self) -> Mapping[str, str]:
        """Build and identity of the instance, which few accounts may read."""
        condition = f"nameIN{','.join(_PROPERTIES)}^ORDERBYsys_id"
        try:
            rows = self._tables.ask(Question("sys_properties", condition, ("name", "value"), _PAGE)).rows
        except Denied:
            return {}
        named = ((plain(row.get("name")), plain(row.get("value"))) for row in rows)
        return {name: value for name, value in named if name in _PROPERTIES and value}

    def _ask_one(self, table: str, query: str, fields: tuple[str, ...]) -> Answer:
        return self._tables.ask(Question(table, query, fields, limit=2))

    def pull(self, kind: str, window: Window) -> Iterator[Page] | Gap:
        """Records, then the history of the named fields, then saves of others or, without them, metrics, then notes. A
        refused table stops no other.
        """
        return self._pages(kind, window)

    def _pages(self, kind: str, window: Window) -> Iterator[Page]:
        columns = Columns(self._access.border, window.persons, window.texts)
        silence = self._silence(kind, window)
        for page in walk.read(self._tables, kind, self._with_notes(kind, window, columns, silence), window):
            yield page
            if any(gap.reason == walk.NOT_SERVED for gap in page.gaps):
                return
        yield from self._past(kind, window, columns, silence)
        yield from self._deletes(kind, window, columns)

    def _with_notes(self, kind: str, window: Window, columns: Columns, silence: Silence) -> Stream:
        # The record shows a blank for notes. Without their own rows the blank would pass for "nothing was written".
        return self._records(kind, window.fields if silence is None else _besides_notes(window), columns)

    def _past(
        self, kind: str, window: Window, columns: Columns, silence: Silence, ids: Sequence[str] | None = None
    ) -> Iterator[Page]:
        """What happened to the records, or to those with these ids."""
        others, refused = _besides_notes(window), False
        for stream in self._history(kind, others, columns):
            for page in self._read(kind, stream.of(ids), window, None if self._options.audit else _AUDIT_OFF):
                refused = refused or any(gap.field is None and gap.record is None for gap in page.gaps)
                yield page
        spans = self._spans(kind, others, columns)
        if spans is not None and (self._options.metrics == "always" or (refused and self._options.audit)):
            yield from walk.read(self._tables, kind, spans.of(ids), window)
        notes = tuple(name for name in window.fields if name in _JOURNALS)
        if notes:
            yield from self._read(kind, self._notes(kind, notes, columns).of(ids), window, silence)

    def bounds(self, kind: str, window: Window) -> Bounds | Gap | None:
        """Of the records and of all of their history. A table that may not be read has none."""
        columns = Columns(self._access.border, window.persons, window.texts)
        records = walk.bounds(self._tables, self._records(kind, (), columns), window)
        if not self._options.audit or (records is None and window.until is None):
            return records
        (history,) = self._history(kind, (), columns)  # of no field in particular, so of all
        found = [each for each in (records, walk.bounds(self._tables, history, window)) if each is not None]
        return Bounds(min(each.first for each in found), max(each.last for each in found)) if found else None

    def _deletes(self, kind: str, window: Window, columns: Columns) -> Iterator[Page]:
        """The trail that deletes leave. Few accounts may read it; what it does not tell, reconciliation finds."""
        stream = Stream(
            deletes_stream(kind),
            "sys_audit_delete",
            presence.DELETES,
            f"tablename={kind}",
            {"tablename": frozenset((kind,))},
            "sys_created_on",
            ("documentkey",),
            columns.deletion_body,
        )
        for page in walk.read(self._tables, kind, stream, window):
            yield replace(page, gaps=[gap._replace(message=f"{gap.message} {_NO_TRAIL}") for gap in page.gaps])

    def present(self, kind: str, window: Window, cursor: str) -> Iterator[Presence] | Gap:
        """Every row of the table that the account sees, with the window's fields: a write that keeps the stamp is
        told by its values only.
        """
        return presence.present(self._tables, self._present_as(kind, window), cursor, window.page_size)

    def fate(self, kind: str, ids: Sequence[str], window: Window) -> Sequence[Fate] | Gap:
        """Looks into the table, the trail of deletes and the archive."""
        columns = Columns(self._access.border, window.persons, window.texts)
        return presence.fates(self._tables, self._present_as(kind, window), ids, columns.deletion_body)

    def read(self, kind: str, window: Window, ids: Sequence[str]) -> Iterator[Page] | Gap:
        """The streams of ``pull``, of these records only."""
        return self._pages_of(kind, replace(window, cursors={}), ids)

    def _pages_of(self, kind: str, window: Window, ids: Sequence[str]) -> Iterator[Page]:
        columns = Columns(self._access.border, window.persons, window.texts)
        silence = self._silence(kind, window)
        records = self._with_notes(kind, window, columns, silence)
        for start in range(0, len(ids), presence.IDS_AT_ONCE):
            part = ids[start : start + presence.IDS_AT_ONCE]
            yield from self._past(kind, window, columns, silence, part)
            # The records come last: whose state is stored has its history, wherever a reading was cut off.
            yield from walk.read(self._tables, kind, records.of(part), window)

    def _present_as(self, kind: str, window: Window) -> Stream:
        """Without notes, which always read blank on the record."""
        columns = Columns(self._access.border, window.persons, window.texts)
        return self._records(kind, _besides_notes(window), columns)

    def _read(self, kind: str, stream: Stream, window: Window, silence: Silence) -> Iterator[Page]:
        """The stream's pages; one empty page if there is a reason why it is not read."""
        if silence is None:
            return walk.read(self._tables, kind, stream, window)
        return iter((walk.unread(stream, window.cursors.get(stream.name, ""), *silence),))

    def _silence(self, kind: str, window: Window) -> Silence:
        """Why notes are not read, as reason and message. They are only read together with the audit trail: a note is
        all that is left of a save then, and would make other columns look as if they had never changed.
        """
        if not any(name in _JOURNALS for name in window.fields):
            return None
        if not self._options.audit:
            return _AUDIT_OFF
        check_names(kind)
        for table, condition in (("sys_audit", f"tablename={kind}"), ("sys_journal_field", f"name={kind}")):
            try:
                self._tables.ask(Question(table, condition, ("sys_id",), 1))
            except Denied as denial:
                return "refused", f"{denial} Without it, comments and work notes are not read."
        return None

    def _records(self, kind: str, fields: Sequence[str], columns: Columns) -> Stream:
        label = label_field(kind)
        asked = tuple(dict.fromkeys(("sys_id", label, *_RECORD, *fields)))
        body = columns.record_body(asked)
        return Stream(kind, kind, asked, "", {}, "sys_updated_on", (), body, frozenset((label,)))

    def _history(self, kind: str, fields: Sequence[str], columns: Columns) -> Iterator[Stream]:
        """Two streams over one table, so that contents of fields that nobody named are not even fetched."""
        own = tuple(dict.fromkeys(name for name in fields if "." not in name))
        table, stamp, needed = "sys_audit", "sys_created_on", ("documentkey",)
        only_kind = {"tablename": frozenset((kind,))}
        if own:
            condition = f"tablename={kind}^fieldnameIN{','.join(own)}"
            holds = {**only_kind, "fieldname": frozenset(own)}
            body = columns.audit_body(own)
            yield Stream(audit_stream(kind), table, _AUDIT, condition, holds, stamp, needed, body, owner="documentkey")
        condition = f"tablename={kind}" + (f"^fieldnameNOT IN{','.join(own)}" if own else "")
        body, saves = columns.audit_body(()), saves_stream(kind)
        yield Stream(saves, table, _SAVES, condition, only_kind, stamp, needed, body, owner="documentkey")

    def _spans(self, kind: str, fields: Sequence[str], columns: Columns) -> Stream | None:
        """The metrics of the named fields. Rows without a field say nothing and are not asked for."""
        own = tuple(dict.fromkeys(name for name in fields if "." not in name))
        if not own or self._options.metrics == "never":
            return None
        condition = f"table={kind}^fieldIN{','.join(own)}"
        holds = {"table": frozenset((kind,)), "field": frozenset(own)}
        table, needed, body = "metric_instance", ("id", "start"), columns.metric_body(own)
        return Stream(metric_stream(kind), table, _SPANS, condition, holds, "sys_updated_on", needed, body, owner="id")

    def _notes(self, kind: str, names: Sequence[str], columns: Columns) -> Stream:
        condition = f"name={kind}^elementIN{','.join(names)}"
        holds = {"name": frozenset((kind,)), "element": frozenset(names)}
        stream, stamp, needed = journal_stream(kind), "sys_created_on", ("element_id",)
        body = columns.journal_body
        return Stream(stream, "sys_journal_field", _NOTES, condition, holds, stamp, needed, body, owner="element_id")

    def directory(self) -> Directory | Gap:
        """Accounts as pseudonyms, and groups. A table that may not be read is a gap, the other one goes on."""
        users, no_users = self._every("sys_user", "", _USER)
        groups, no_groups = self._every("sys_user_group", "", _GROUP)
        # A mailbox that several accounts share says nothing about who a person is.
        mailboxes = Counter(_address(row) for row in users)
        people = [self._person(row, known=mailboxes[_address(row)] == 1) for row in users]
        parties = [Group(row["sys_id"] or "", row.get("name") or "", _flag(row.get("active"))) for row in groups]
        return Directory(people, parties, (*no_users, *no_groups))

    def _person(self, row: Mapping[str, str | None], *, known: bool) -> Person:
        """``known`` by the address, which is how a person is recognised in other systems."""
        border, user_name, address = self._access.border, row.get("user_name"), _address(row)
        names = [border.person("sys_id", row["sys_id"] or "")]
        if user_name:
            names.append(border.person("user_name", user_name))
        if address and known:
            names.append(border.person("email", address))
        system = "true" in (row.get("internal_integration_user"), row.get("web_service_access_only"))
        return Person(tuple(names), system, _flag(row.get("active")))

    def configuration(self, kind: str) -> Configuration | Gap:
        """Labels of choices and types of columns as far as they may be read; the kind's own win over ``task``'s."""
        scope = frozenset((kind, "task"))
        tables = f"nameIN{kind},task"
        choices, no_choices = self._every("sys_choice", f"{tables}^language={self._options.language}", _CHOICE, scope)
        columns, no_columns = self._every("sys_dictionary", tables, _COLUMN, scope)
        labels: dict[str, dict[str, str]] = {}
        for row in sorted(choices, key=lambda row: row.get("name") == kind):
            if row.get("language") == self._options.language:
                labels.setdefault(row.get("element") or "", {})[row.get("value") or ""] = row.get("label") or ""
        types = {
            row["element"]: row.get("internal_type") or ""
            for row in sorted(columns, key=lambda row: row.get("name") == kind)
            if row.get("element")
        }
        return Configuration(labels, {name: type_ for name, type_ in types.items() if name}, (*no_choices, *no_columns))

    def _every(
        self, table: str, condition: str, fields: tuple[str, ...], names: frozenset[str] | None = None
    ) -> tuple[list[Mapping[str, str | None]], list[Gap]]:
        """All rows that can be had, and what is missing. ``names`` are the values of ``name`` that were asked for."""
        try:
            rows: list[Mapping[str, str | None]] = [
                stripped(row) for row in walk.every(self._tables, table, condition, fields, _PAGE)
            ]
        except Denied as denial:
            return [], [Gap(table, "refused", str(denial))]
        if names and any(row.get("name") not in names for row in rows):
            return [], [Gap(table, "refused", f"the condition on {table}.name was ignored; let the account read it")]
        if not rows:
            return [], [Gap(table, "rows-hidden", f"{table} shows no row to the account; let it read the table")]
        lost = [name for name in fields if not any(name in row for row in rows)]
        message = f"the account may not read it in {table}: give it read access to the field"
        return rows, [Gap(table, "field-refused", message, field=name) for name in lost]

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        """All tickets of ours with the key, oldest first."""
        return self._tickets.find(key)

    def ticket(self, id: str) -> Ticket | Gone | Gap:
        """A ticket of ours by its ``sys_id``."""
        return self._tickets.ticket(id)

    def ours(self, since: Millis | None) -> Iterator[Ticket] | Gap:
        """Every ticket that the account created for us, by ``sys_id``."""
        return self._tickets.ours(since)

    def commented(self, ticket: str, mark: str) -> bool | Gap:
        """Whether a work note of the ticket contains the word."""
        return self._tickets.commented(ticket, mark)

    def write(self, write: Write) -> Written | Gap:
        """Perform one write once and read the ticket back by its id."""
        return self._tickets.write(write)


def _besides_notes(window: Window) -> tuple[str, ...]:
    """The fields that a record shows."""
    return tuple(name for name in window.fields if name not in _JOURNALS)


def _address(row: Mapping[str, str | None]) -> str:
    return (row.get("email") or "").strip().lower()


def _flag(text: str | None) -> bool | None:
    return {"true": True, "false": False}.get(text or "")
