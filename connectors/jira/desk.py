"""What Jira Service Management adds to issues: approvals and service levels, each with a stream of its own.

Neither has a history or an order of its own in Jira, and an approver's decision or a breach need not touch the issue.
So each is read twice: with the issues that were updated, and, whatever was updated, of all issues where one is still
pending or running. Both come as records whose state replaces the former one.

**Who is asked.** Where an option names the field, it comes with the issues. Else each issue of a service project that
is no sub-task is asked for. One without a request type answers 404, and has neither; but so may every request of a desk
in which the account is no agent. So 404 is believed only in a project where some request answers.

**What could not be read** is one gap for the kind, told behind all rows, because rows close it. The cursor keeps the
issues, so that each poll asks for them again; when there are too many, the stream stays where it is.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from connectors.jira.options import Options
from connectors.jira.service import approval_rows, sla_row
from connectors.jira.translate import APPROVALS, PENDING, RUNNING, SLAS, translate
from connectors.jira.transport import Denied, Site, documented
from connectors.jira.walk import Batch, Cursor, Question, Walk, checked
from itsms_sync.connector import Access, Unavailable
from itsms_sync.records import Gap, Millis, Page, Row, Window

Json = Mapping[str, Any]
RowsOf = Callable[[Json, str], list[Row]]
"""Rows of one issue in a stream."""

_BASE = ("project", "issuetype", "created", "updated")
_APPROVAL = ("key", "created", "updated", "issue", "approval", "name", "approver", "decision", "final", "completed")
_SLA = ("key", "created", "updated", "issue", "metric", "name", "ongoing", "breached", "goal", "elapsed", "breach_at")
_FIELDS = {APPROVALS: _APPROVAL, SLAS: (*_SLA, "cycles")}
_OPTIONS = {APPROVALS: "approvals_field", SLAS: "sla_fields"}
_SLA_TYPE = "sd-servicelevelagreement"
_PROBED = 10
"""Newest issues of a project of which one has to be a request."""
_MOST_UNREAD = 100
"""Issues that are kept to be asked for again."""
_NO_RUNNING = (
    "no field with a service level is visible, so running ones are only read when their issue changes: name the fields "
    "in the option sla_fields, or let the account see them"
)
_NO_FIELD = "the account sees no field {names}: correct the option {option}, or let the account see the field"
_UNREAD = "{kind}: {count} issues cannot be read, {first} for instance: {why}. Each poll asks for them again"
_NO_REQUEST = (
    "neither it nor one of the newest issues of {project} is a request for this account: give it an agent's licence of "
    "Jira Service Management there, or let the field come with the issues (option {option})"
)


class Desk:
    """Approvals and service levels as one account sees them, for one poll of one kind.

    ``described`` is what the resource ``field`` answers.
    """

    def __init__(self, access: Access, options: Options, site: Site, described: Sequence[Json]) -> None:
        self._border = access.border
        self._options = options
        self._site = site
        self._described = described

    def approvals(self, window: Window) -> Iterator[Page]:
        """One record per approval and approver."""
        named = self._options.approvals_field
        fields = (named,) if named else ()
        types = ", ".join(f'"{name}"' for name in self._options.approval_types)
        typed = f"issuetype in ({types})" if types else ""
        question = Question(self._options.projects, (*_BASE, *fields), typed)

        def rows(issue: Json, stream: str) -> list[Row]:
            held = issue["fields"].get(named) if named else self._of_request(issue, "approval")
            with documented(f"an approval of {issue['key']}"):
                return [row for approval in held or () for row in approval_rows(issue, approval, stream, self._border)]

        pending = replace(question, condition=" AND ".join(filter(None, (typed, "approvals = pending()"))))
        yield from self._streams(APPROVALS, fields, {APPROVALS: question, PENDING: pending}, window, rows)

    def slas(self, window: Window) -> Iterator[Page]:
        """One record per issue and metric."""
        fields = self._options.sla_fields
        question = Question(self._options.projects, (*_BASE, *fields))

        def rows(issue: Json, stream: str) -> list[Row]:
            held = [issue["fields"].get(name) for name in fields] if fields else self._of_request(issue, "sla")
            with documented(f"a service level of {issue['key']}"):
                return [sla_row(issue, each, stream) for each in held if each]

        clauses = _clauses([each for each in self._described if _is_sla(each, fields)])
        streams = {SLAS: question}
        if clauses:
            running = " OR ".join(f"{clause} = running()" for clause in clauses)
            streams[RUNNING] = replace(question, condition=f"({running})")
        yield from self._streams(SLAS, fields, streams, window, rows)
        if not clauses and window.until is None:
            yield _told(RUNNING, "", Gap(SLAS, "not-served", _NO_RUNNING))

    def _of_request(self, issue: Json, what: str) -> Sequence[Json]:
        return self._site.desk_values(f"request/{issue['id']}/{what}")

    def _streams(
        self, kind: str, fields: Sequence[str], questions: Mapping[str, Question], window: Window, rows_of: RowsOf
    ) -> Iterator[Page]:
        """Pages of the streams. What is pending or running is read as a whole each time and has no cursor.

        A site without Jira Service Management, or an account without a licence for it, is one empty page with the gap.
        """
        reading = _Reading(self._site, kind, rows_of, asks=not fields)
        stream, cursor = kind, window.cursors.get(kind, "")
        try:
            self._check(kind, fields)
            for stream, question in questions.items():
                if stream != kind and window.until is not None:
                    continue  # what is pending or running is asked for with every poll, however old it is
                cursor = cursor if stream == kind else ""
                for page in reading.pages(stream, question, window, _Place.read(cursor).reaching(window.reach)):
                    cursor = page.cursor
                    yield page
        except Denied as denial:
            reason = "not-served" if denial.status == 404 else "refused"
            yield _told(stream, cursor, Gap(kind, reason, f"{denial}; this stays unknown until then"))

    def _check(self, kind: str, fields: Sequence[str]) -> None:
        """``Denied`` if there is nothing to read from. Search is silent about fields that it does not know."""
        if not fields:
            self._site.desk("info", dict)
        elif missing := sorted(set(fields) - {str(each["id"]) for each in self._described}):
            raise Denied(_NO_FIELD.format(names=", ".join(missing), option=_OPTIONS[kind]), 404)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a stream stands: the walk's cursor, and the issues behind it that could not be read."""

    cursor: Cursor
    unread: tuple[str, ...] = ()
    """Ids."""

    @staticmethod
    def read(text: str) -> "_Place":
        cursor = Cursor.read(text)
        return _Place(cursor, tuple(map(str, json.loads(text or "{}").get("unread", ()))))

    def reaching(self, back: Millis) -> "_Place":
        return replace(self, cursor=self.cursor.reaching(back))

    def __str__(self) -> str:
        if not self.unread:
            return str(self.cursor)
        return json.dumps({**json.loads(str(self.cursor)), "unread": list(self.unread)}, separators=(",", ":"))


@dataclass(slots=True)
class _Unread:
    """Issues that could not be read in one stream, and why the first one could not."""

    reasons: dict[str, str] = field(default_factory=dict)
    """Id -> ``refused`` or ``not-served``."""
    first: tuple[str, str] = ("", "")
    """Key, and why."""

    def add(self, issue: Json, reason: str, why: str) -> None:
        self.first = self.first if self.reasons else (str(issue["key"]), why)
        self.reasons[str(issue["id"])] = reason

    def gap(self, kind: str) -> Gap:
        reason = "refused" if "refused" in self.reasons.values() else "not-served"
        key, why = self.first
        return Gap(kind, reason, _UNREAD.format(kind=kind, count=len(self.reasons), first=key, why=why))


class _Reading:
    """Reads one kind; ``asks`` if each request is asked and nothing comes with the issues."""

    def __init__(self, site: Site, kind: str, rows_of: RowsOf, *, asks: bool) -> None:
        self._site = site
        self._kind = kind
        self._rows_of = rows_of
        self._asks = asks
        self._desks: dict[str, bool] = {}
        """Project -> whether one of its requests answered."""

    def pages(self, stream: str, question: Question, window: Window, start: _Place) -> Iterator[Page]:
        """All pages of the stream, and the gap behind them."""
        unread, whole = _Unread(), stream != self._kind
        place = "" if whole else str(start)
        if start.unread:
            rows = self._rows(self._again(start.unread, question), stream, unread)
            place = str(replace(start, unread=tuple(unread.reasons)))
            yield self._page(stream, rows, Batch((), start.cursor, False, "issue", self._site.server_time), place)
        window = replace(window, since=None, until=None) if whole else window
        for batch in Walk(self._site, question, window).pages(start.cursor):
            rows = self._rows(batch.issues, stream, unread)
            if len(unread.reasons) > _MOST_UNREAD:
                break
            place = "" if whole else str(_Place(batch.cursor, tuple(unread.reasons)))
            yield self._page(stream, rows, replace(batch, closed=batch.closed and not unread.reasons), place)
        if unread.reasons:
            yield _told(stream, place, unread.gap(self._kind))

    def _again(self, ids: Sequence[str], question: Question) -> Iterator[Json]:
        """Issues that could not be read before, as far as they are still there."""
        for id_ in ids:
            try:
                yield self._site.get(
                    f"issue/{id_}", lambda body: checked({"issues": [body]})[0], fields=",".join(question.fields)
                )
            except Denied as denial:
                if denial.status != 404:
                    raise

    def _rows(self, issues: Iterable[Json], stream: str, unread: _Unread) -> list[Row]:
        """Rows of all issues that can be read."""
        rows: list[Row] = []
        for issue in issues:
            if len(unread.reasons) > _MOST_UNREAD:
                break
            try:
                if not self._asks:
                    rows += self._rows_of(issue, stream)
                elif _may_be_request(issue):
                    rows += self._rows_of(issue, stream)
                    self._desks[_project(issue)] = True
            except Denied as denial:
                if not self._asks or denial.status not in (403, 404):
                    raise
                if denial.status == 403:
                    unread.add(issue, "refused", str(denial))
                elif not self._has_requests(_project(issue)):
                    option = _OPTIONS[self._kind]
                    unread.add(issue, "not-served", _NO_REQUEST.format(project=_project(issue), option=option))
            except Unavailable as failure:
                self._site.desk("info", dict)  # raises if it is not this request alone
                unread.add(issue, "not-served", str(failure))
        return rows

    def _has_requests(self, project: str) -> bool:
        """Whether this account can read any request of the project, so that 404 means an issue that is none."""
        if project not in self._desks:
            newest = self._site.newest(project, _PROBED)
            self._desks[project] = any(self._is_request(id_) for id_ in newest)
        return self._desks[project]

    def _is_request(self, id_: str) -> bool:
        try:
            return bool(self._site.desk(f"request/{id_}", dict))
        except Denied:
            return False

    def _page(self, stream: str, rows: Sequence[Row], batch: Batch, cursor: str) -> Page:
        self._site.confirm()
        return replace(batch.page(self._kind, stream, _FIELDS[self._kind], rows), cursor=cursor)


def _told(stream: str, cursor: str, gap: Gap) -> Page:
    """A page without rows that says what was not read; the cursor stays where it was."""
    return Page(stream, (), (), partial(translate, stream), cursor, True, asked=stream, server_time=None, gaps=(gap,))


def _may_be_request(issue: Json) -> bool:
    kind, project = issue["fields"].get("issuetype") or {}, issue["fields"]["project"]
    return not kind.get("subtask") and project.get("projectTypeKey", "service_desk") == "service_desk"


def _project(issue: Json) -> str:
    return str(issue["fields"]["project"]["key"])


def _is_sla(field_: Json, wanted: Sequence[str]) -> bool:
    if wanted:
        return field_["id"] in wanted
    return (field_.get("schema") or {}).get("type") == _SLA_TYPE


def _clauses(fields: Sequence[Json]) -> list[str]:
    """How JQL names the fields: by their names, as the vendor shows it, unless two have one."""
    names = [str(each["name"]) for each in fields]
    return [
        _quoted(name) if names.count(name) == 1 else f"cf[{str(each['id']).removeprefix('customfield_')}]"
        for name, each in zip(names, fields, strict=True)
    ]


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
