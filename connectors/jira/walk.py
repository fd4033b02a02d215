"""A window over issues: pages in the order of their last update, each verified before anybody sees it. In the order of
their creation, which no change disturbs, the same walk enumerates what is there.

Owns the question of each page, the cursor, and the evidence that an answer is what was asked for. Leaves to
``transport`` what a status means and to ``instance`` what is made of the issues.

**Cursor.** Compact JSON: ``at``, the second of the last issue that is settled, and ``ids``, the issues seen in that
second. What was updated less than the overlap before the site's own clock is not settled: search may still lag behind
it, and may have put an issue where it stood before its last update. So the cursor never moves into the last
``overlap``, every poll reads that time again, and an idle poll after it asks for one second only. Ids are kept, since
within a second neither edition promises an order. A window that is broken off goes on at its last stored page: by the
cursor, because page tokens expire and belong to one walk.

**Time.** Bounds are milliseconds since 1970, the only form that JQL does not read in the account's own zone. An index
may cut them to the minute, so an issue up to a minute too early is no sign of an ignored condition.

A window with bounds of its own is asked for with both. An issue that is updated meanwhile leaves it for a later one.

**Pages.** Cloud walks by token and Data Center by position. Positions shift when an issue is updated, and nobody says
what a token does then. So the question is asked anew from the last settled issue wherever a page went beyond a minute,
and within one each page by position begins with an issue that is known.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from connectors.jira.translate import translate
from connectors.jira.transport import Denied, Edition, Site, check_whole, token_of
from connectors.jira.values import moment
from itsms_sync.connector import Refused, Unavailable
from itsms_sync.records import Bounds, Gap, Millis, Page, Row, Window

Json = Mapping[str, Any]
_BASE = ("project", "created", "updated")
_SECOND = 1000
_COARSE = 60_000
"""How far an index may round a bound down."""
_MOST_EMPTY = 20
"""Pages in a row without an issue after which a walk is taken to be endless."""
_MOST_RESTARTS = 20
"""Pages after which issues had moved: an index that is busy, or another one each time."""
_MOST_AT_ONCE = 1000
_MOST_WITH_HISTORY = 100
"""Issues per page on Data Center, which may run out of memory over larger ones with their history."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which issues, and what of them."""

    projects: tuple[str, ...]
    fields: tuple[str, ...]
    condition: str = ""
    """JQL that holds besides the projects and the time."""
    expand: str = ""
    """On Data Center."""
    by: str = "updated"
    """The stamp that orders the issues: ``updated`` or ``created``. One of the fields."""

    def jql(self, at: Millis | None, until: Millis | None = None, direction: str = "ASC") -> str:
        keys = ", ".join(f'"{key}"' for key in self.projects)
        since = f"{self.by} >= {at}" if at is not None else ""
        end = f"{self.by} < {until}" if until is not None else ""
        conditions = " AND ".join(filter(None, (f"project in ({keys})", self.condition, since, end)))
        return f"{conditions} ORDER BY {self.by} {direction}, key {direction}"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream stands; see the module's docstring."""

    at: Millis | None = None
    ids: frozenset[str] = frozenset()

    @staticmethod
    def read(text: str) -> "Cursor":
        """Raises ``Refused`` for a text that no connector of this kind wrote."""
        try:
            held = json.loads(text or "{}")
            return Cursor(None if held.get("at") is None else int(held["at"]), frozenset(map(str, held.get("ids", ()))))
        except (ValueError, TypeError, AttributeError):
            raise Refused(f"cannot read the cursor {text!r}; remove it to read this stream from its start") from None

    def __str__(self) -> str:
        held = {} if self.at is None else {"at": self.at, "ids": sorted(self.ids)}
        return json.dumps(held, separators=(",", ":"))

    def reaching(self, back: Millis) -> "Cursor":
        """The same, beginning earlier by ``back``; what was read already comes again."""
        return self if not back or self.at is None else Cursor(self.at - back)

    def has(self, issue: Json, by: str) -> bool:
        """Whether the issue was seen as it stands."""
        return second(issue, by) == self.at and str(issue["id"]) in self.ids

    def is_past(self, anchor: "Cursor") -> bool:
        """Whether this is so far behind ``anchor`` that the question is asked anew from here."""
        return self.at is not None and (anchor.at is None or self.at - anchor.at >= _COARSE)

    def behind(self, issues: Sequence[Json], horizon: Millis, by: str) -> "Cursor":
        """Behind those of the issues that are settled: not updated after ``horizon``."""
        settled = [issue for issue in issues if stamped(issue, by) <= horizon]
        at = max((second(issue, by) for issue in settled), default=self.at)
        if at is None or (self.at is not None and at < self.at):
            return self
        ids = frozenset(str(issue["id"]) for issue in settled if second(issue, by) == at)
        return Cursor(at, ids | self.ids if at == self.at else ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """One page: issues that were not seen before as they stand, and where the stream stands behind them."""

    issues: Sequence[Json]
    cursor: Cursor
    closed: bool
    asked: str
    server_time: Millis | None

    def page(
        self, kind: str, stream: str, fields: tuple[str, ...], rows: Sequence[Row], gaps: Sequence[Gap] = ()
    ) -> Page:
        """What was made of the issues, as a page of one stream of the kind."""
        return Page(
            stream=stream,
            fields=fields,
            rows=rows,
            translated=partial(translate, kind),
            cursor=str(self.cursor),
            closed=self.closed,
            asked=self.asked,
            server_time=self.server_time,
            gaps=gaps,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """One answer of search."""

    issues: list[Json]
    last: bool
    token: str | None = None
    total: int = 0


class Walk:
    """One window of one question."""

    def __init__(self, site: Site, question: Question, window: Window) -> None:
        self._site = site
        self._question = question
        self._overlap = window.overlap
        self._since = window.since
        self._until = window.until
        self._limit = min(window.page_size, _MOST_WITH_HISTORY if question.expand else _MOST_AT_ONCE)

    def pages(self, cursor: Cursor) -> Iterator[Batch]:
        """Up to now. Ends only with an answer that says so itself and was given to our own account."""
        answers = self._by_token if self._site.edition is Edition.CLOUD else self._by_position
        cursor = cursor if cursor.at is not None else Cursor(self._since)
        by, anchor, seen = self._question.by, cursor, set[tuple[str, Millis]]()
        while True:
            jql = self._question.jql(anchor.at, self._until)
            for found in answers(jql):
                horizon = self._horizon(found.issues)
                self._check(found.issues, anchor, horizon)
                fresh = [
                    issue
                    for issue in found.issues
                    if not anchor.has(issue, by)
                    and second(issue, by) >= (anchor.at or 0)
                    and self._state(issue) not in seen
                ]
                seen.update(map(self._state, fresh))
                cursor = cursor.behind(found.issues, horizon, by)
                self._site.confirm()  # a stranger sees fewer issues, and the cursor would pass those that are hidden
                yield self._batch(fresh, cursor, found.last, jql)
                if found.last:
                    return
                if cursor.is_past(anchor):
                    break
            anchor = cursor
            seen = {each for each in seen if each[1] >= (anchor.at or 0)}

    def bounds(self) -> Bounds | None:
        """The first and the last update within the window; ``None`` if there is none."""
        ends: list[Millis] = []
        path, form = ("search/jql", _of_cloud) if self._site.edition is Edition.CLOUD else ("search", _of_data_center)
        for direction in ("ASC", "DESC"):
            jql = self._question.jql(self._since, self._until, direction)
            try:
                found = self._site.ask(path, {"jql": jql, "fields": list(_BASE), "maxResults": 1}, form)
            except Denied as denial:
                raise self._explained(denial) from None
            ends += map(updated, found.issues)
        if not ends:
            self._site.confirm()
        return Bounds(min(ends), max(ends)) if ends else None

    def _by_token(self, jql: str) -> Iterator[_Found]:
        body: dict[str, Any] = {"jql": jql, "fields": list(self._question.fields), "maxResults": self._limit}
        tokens: set[str] = set()
        empty = 0
        while True:
            found = self._token_page(body)
            yield found
            empty = 0 if found.issues else empty + 1
            if found.token is None or found.token in tokens or empty > _MOST_EMPTY:
                raise Unavailable("the pages of a search do not end; the next poll goes on behind the last one")
            tokens.add(found.token)
            body = {**body, "nextPageToken": found.token}

    def _token_page(self, body: dict[str, Any]) -> _Found:
        try:
            return self._site.ask("search/jql", body, _of_cloud)
        except Denied as denial:
            if "nextPageToken" in body and denial.status == 400:
                raise Unavailable(f"{denial}; the token of the page has expired, the next poll goes on there") from None
            raise self._explained(denial) from None

    def _by_position(self, jql: str) -> Iterator[_Found]:
        """Each page begins with the last issue of the one before: if another one stands there, issues have moved up,
        and what follows would be missed.
        """
        position, before = 0, None
        restarts = 0
        while True:
            known = 1 if position else 0
            found = self._position_page(jql, position - known, self._limit + known)
            if known and [self._state(issue) for issue in found.issues[:1]] != [before]:
                position, restarts = 0, restarts + 1
                if restarts > _MOST_RESTARTS:
                    raise Unavailable("issues move while search shows them; the next poll goes on behind the last page")
                continue
            issues = found.issues[known:]
            position += len(issues)
            # a page as large as it may be is no last one, whatever is counted
            last = position >= found.total and len(issues) < self._limit
            if not issues and not last:
                raise Unavailable(f"search counts {found.total} issues and shows {position}; try again later")
            yield replace(found, issues=issues, last=last)
            before = self._state(issues[-1]) if issues else before

    def _position_page(self, jql: str, start: int, limit: int) -> _Found:
        question = self._question
        body = {"jql": jql, "fields": list(question.fields), "maxResults": limit, "startAt": start}
        asked = {**body, "expand": [question.expand]} if question.expand else body
        try:
            return self._site.ask("search", asked, _of_data_center)
        except Denied as denial:
            raise self._explained(denial) from None

    def _explained(self, denial: Denied) -> Refused:
        """Search refuses the whole question over one project, in a sentence of the account's own language."""
        lost = self._site.lost(self._question.projects) if denial.status == 400 else []
        if not lost:
            return denial
        return Refused(
            f"{denial}. Nothing is read: {', '.join(lost)} of the option projects does not exist, or the account has "
            "lost the permission Browse Projects there; give it back or take the project out of the option"
        )

    def _horizon(self, issues: Sequence[Json]) -> Millis:
        """The newest update that is settled. Without a clock of the site, measured from the newest that came."""
        now = self._site.server_time
        newest = max((stamped(issue, self._question.by) for issue in issues), default=0)
        return (newest if now is None else now) - self._overlap

    def _state(self, issue: Json) -> tuple[str, Millis]:
        return str(issue["id"]), stamped(issue, self._question.by)

    def _check(self, issues: Sequence[Json], cursor: Cursor, horizon: Millis) -> None:
        """Raises ``Unavailable`` for an issue that the question excludes: then the answer is to another question."""
        by = self._question.by
        settled = [second(issue, by) for issue in issues if stamped(issue, by) <= horizon]
        if settled != sorted(settled):
            order = "updates" if by == "updated" else "creation"
            raise Unavailable(f"search did not show the issues in the order of their {order}; try again later")
        for issue in issues:
            if cursor.at is not None and stamped(issue, by) < cursor.at - _COARSE:
                raise Unavailable(f"search showed {issue['key']}, which was not {by} since then; try again later")
            if (key := issue["fields"]["project"]["key"]) not in self._question.projects:
                raise Unavailable(
                    f"search showed {issue['key']} of the project {key}, which was not asked for; if a project has got "
                    "a new key, correct the option projects"
                )

    def _batch(self, issues: Sequence[Json], cursor: Cursor, closed: bool, jql: str) -> Batch:
        asked = f"search?jql={jql}&fields={','.join(self._question.fields)}"
        return Batch(issues, cursor, closed, asked, self._site.server_time)


def updated(issue: Json) -> Millis:
    return stamped(issue, "updated")


def stamped(issue: Json, by: str) -> Millis:
    return moment(issue["fields"][by])


def second(issue: Json, by: str) -> Millis:
    """The second of that stamp, in milliseconds."""
    return stamped(issue, by) // _SECOND * _SECOND


def _of_cloud(body: dict[str, Any]) -> _Found:
    token = token_of(body)
    return _Found(checked(body), token is None, token)


def _of_data_center(body: dict[str, Any]) -> _Found:
    check_whole(body)
    return _Found(checked(body), last=False, total=int(body["total"]))


def checked(body: Json) -> list[Json]:
    """Issues in their documented form; ``KeyError``, ``TypeError`` or ``ValueError`` if one is not."""
    issues: list[Json] = list(body["issues"])
    for issue in issues:
        project = issue["fields"]["project"]
        if not str(issue["id"]).isdecimal() or not issue["key"] or not project["key"] or not project["id"]:
            raise ValueError("an issue without id, key or project")
        moment(issue["fields"]["created"])
        updated(issue)
    return issues
