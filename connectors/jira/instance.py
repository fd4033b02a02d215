"""One Jira site as its account sees it: the calls of the connector protocol, for Cloud and Data Center.

Owns which streams a kind has and what the site says about itself, its people and its choices. Leaves requests to
``transport``, pages and cursors to ``walk``, histories to ``history``, forms of values to ``values``, approvals and
service levels to ``desk``, facts to ``translate``, writes to ``tickets``.

The history and the comments of a page's issues come before the page itself: its cursor says that all of them are
stored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from connectors.jira import presence
from connectors.jira.desk import Desk
from connectors.jira.history import EXPAND, Histories
from connectors.jira.options import Options
from connectors.jira.tickets import Tickets
from connectors.jira.translate import APPROVALS, COMMENTS, GATEWAY, HISTORY, ISSUES, SLAS, millis
from connectors.jira.transport import Denied, Edition, Site, documented, edition_of
from connectors.jira.values import COMMENT, Fields, person, shape
from connectors.jira.walk import Cursor, Question, Walk, stamped
from itsms_sync.connector import Access, Refused, Unavailable
from itsms_sync.http import http_date_millis
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
    Row,
    Ticket,
    Window,
    Write,
    Written,
)

Json = Mapping[str, Any]
T = TypeVar("T")

_INDEX_LAG_S = 60.0
"""Cloud names no bound and Data Center indexes each node by itself; a minute is generous for both."""
_HISTORY = ("issue", "created", "author", "items")
_COMMENT = ("issue", "created", "author", "text")
_PAGE = 1000
"""People of one answer."""
_NO_PROJECTS = "nothing is read: name the projects in the option projects of this source"
_WITH_THE_ISSUE = Gap(
    ISSUES, "not-reconciled", "approvals and service levels go with their issue: whether it is there is asked of it"
)
_LISTS = ("status", "issuetype", "priority", "resolution")


class Jira:
    """One site, read and written by one account."""

    def __init__(self, access: Access, options: Options, site: Site, tickets: Tickets) -> None:
        self._access = access
        self._options = options
        self._site = site
        self._tickets = tickets
        self._described: list[Json] = []

    @property
    def index_lag(self) -> float:
        """Seconds."""
        return _INDEX_LAG_S if self._options.index_lag is None else self._options.index_lag

    def identify(self) -> Identity:
        """Instance, account and server time. Asks for the account first: it is what proves the login."""
        account = self._site.account
        (edition, version, address, at), headers = self._site.described("serverInfo", _about)
        if self._options.deployment not in (None, edition):
            raise Refused(
                f"{self._access.name}: the site is not {self._options.deployment}, as the option deployment says, but "
                f"{edition}; correct the address or the option"
            )
        date = http_date_millis(headers.get("Date"))
        if at is not None and date is not None:
            self._site.dated_ahead(date - at)
        _, _, cloud = self._access.url.partition(GATEWAY)
        cloud = cloud.strip("/")
        return Identity(
            product="Jira Cloud" if edition is Edition.CLOUD else "Jira Data Center",
            version=version,
            instance="#".join(filter(None, (address or self._access.url, cloud))),
            account=account,
            server_time=at or date,
            simulated="simulator" in headers.get("Server", ""),
            marks=self._marks(edition, address or self._access.url, cloud),
        )

    def _marks(self, edition: Edition, address: str, cloud: str) -> Mapping[str, str]:
        """A site of Cloud has an id that nothing else has. Data Center tells no more than the address that it believes
        to have, which a copy of its database keeps until somebody corrects it.
        """
        if edition is Edition.CLOUD and not cloud:
            cloud = self._cloud_id()
        return {mark: value for mark, value in ((Mark.ADDRESS, address), (Mark.INSTANCE, cloud)) if value}

    def _cloud_id(self) -> str:
        try:
            return self._site.get("/_edge/tenant_info", lambda body: str(body["cloudId"]))
        except (Denied, Unavailable):  # not behind every proxy; what is not known raises no objection
            return ""

    # --- reading

    def pull(self, kind: str, window: Window) -> Iterator[Page] | Gap:
        """Issues with their history and comments, approvals, or service levels, of the projects that are read."""
        if kind not in (ISSUES, APPROVALS, SLAS):
            return Gap(kind, "not-served", f"Jira has no records of kind {kind}: correct the mapping")
        if not self._options.projects:
            return Gap(kind, "not-served", _NO_PROJECTS)
        if kind == ISSUES:
            return self._issues(window)
        desk = Desk(self._access, self._options, self._site, self._fields())
        return desk.approvals(window) if kind == APPROVALS else desk.slas(window)

    def bounds(self, kind: str, window: Window) -> Bounds | Gap | None:
        """Of the issues' updates, by which all kinds are read."""
        if kind not in (ISSUES, APPROVALS, SLAS) or not self._options.projects:
            return Gap(kind, "not-served", f"nothing of kind {kind} is read")
        return Walk(self._site, Question(self._options.projects, ()), window).bounds()

    def present(self, kind: str, window: Window, cursor: str) -> Iterator[Presence] | Gap:
        """Every issue of the projects, without values: an edit of one moves ``updated``."""
        if lack := self._not_enumerated(kind):
            return lack
        return presence.present(self._site, self._options.projects, cursor, window.overlap, window.page_size)

    def fate(self, kind: str, ids: Sequence[str], window: Window) -> Sequence[Fate] | Gap:
        """Whether each issue is there, in a project that is read or in another one, or is not shown."""
        if lack := self._not_enumerated(kind):
            return lack
        return presence.fates(self._site, self._options.projects, ids)

    def read(self, kind: str, window: Window, ids: Sequence[str]) -> Iterator[Page] | Gap:
        """Issues with their histories and comments."""
        if lack := self._not_enumerated(kind):
            return lack
        return self._named_issues(replace(window, cursors={}), ids)

    def _not_enumerated(self, kind: str) -> Gap | None:
        """Why it cannot be told which records of the kind are there."""
        if not self._options.projects:
            return Gap(kind, "not-served", _NO_PROJECTS)
        return None if kind == ISSUES else _WITH_THE_ISSUE._replace(stream=kind)

    def _named_issues(self, window: Window, ids: Sequence[str]) -> Iterator[Page]:
        for start in range(0, len(ids), presence.IDS_AT_ONCE):
            yield from self._issues(window, f"id in ({', '.join(ids[start : start + presence.IDS_AT_ONCE])})")

    def _issues(self, window: Window, condition: str = "") -> Iterator[Page]:
        form = "accountId" if self._site.edition is Edition.CLOUD else "key"
        fields = Fields(window, self._fields(), self._access.border, form)
        expand = "" if self._site.edition is Edition.CLOUD else EXPAND
        question = Question(self._options.projects, tuple(fields.asked), condition, expand)
        histories, seen = Histories(self._site), False
        walk = Walk(self._site, question, window)
        for batch in walk.pages(Cursor.read(window.cursors.get(ISSUES, "")).reaching(window.reach)):
            seen = seen or bool(batch.issues)
            with documented("an issue or its history"):
                logs, cut = _logs(histories, batch.issues)
                changes = [row for issue in batch.issues for row in fields.history(issue, logs[str(issue["id"])])]
                rows = [fields.row(issue) for issue in batch.issues]
            self._site.confirm()
            yield batch.page(ISSUES, HISTORY, _HISTORY, changes, cut)
            if COMMENT in window.fields:
                comments = self._comments(batch.issues, fields)
                self._site.confirm()
                yield batch.page(ISSUES, COMMENTS, _COMMENT, comments)
            yield batch.page(ISSUES, ISSUES, fields.stored, rows, fields.gaps() if batch.closed and seen else ())

    def _comments(self, issues: Sequence[Json], fields: Fields) -> list[Row]:
        """All comments; search shows some of them, and how many there are."""
        rows: list[Row] = []
        for issue in issues:
            id, shown = str(issue["id"]), issue["fields"].get(COMMENT) or {}
            comments = list(shown.get("comments") or ())
            if len(comments) < int(shown.get("total") or 0):
                comments = self._site.listed(f"issue/{id}/comment", "comments", orderBy="created")
            with documented(f"a comment of {issue['key']}"):
                rows += [Row(COMMENTS, str(each["id"]), fields.comment(id, each)) for each in comments]
        return rows

    def _fields(self) -> Sequence[Json]:
        """What the site says about its fields; read anew once a day, with the directory."""
        if not self._described:
            self._described = self._site.get("field", _described)
        return self._described

    # --- people and choices

    def directory(self) -> Directory | Gap:
        """Accounts as pseudonyms, and groups. What may not be read is a gap, the other one goes on."""
        gaps: list[Gap] = []
        people = _tried("users", self._people, gaps)
        groups = _tried("groups", lambda: self._groups(gaps), gaps)
        self._site.confirm()
        return Directory(people, groups, gaps)

    def _people(self) -> list[Person]:
        cloud = self._site.edition is Edition.CLOUD
        query: dict[str, str | int] = {} if cloud else {"username": ".", "includeInactive": "true"}
        people: dict[str, Person] = {}
        position = 0
        while True:
            page = self._site.get(
                "users/search" if cloud else "user/search",
                lambda body: [self._person(account) for account in body],
                startAt=position,
                maxResults=_PAGE,
                **query,
            )
            before, position = len(people), position + len(page)
            people.update((each.names[0], each) for each in page if each is not None)
            if len(people) == before:  # at the end, or a site that shows the same page again
                return list(people.values())

    def _person(self, account: Json) -> Person | None:
        """``None`` for an account that nothing tells from others."""
        border = self._access.border
        if person(border, account) is None:
            return None
        forms = [form for form in ("accountId", "key", "name") if account.get(form)]
        names = [border.person(form, str(account[form])) for form in forms]
        if account.get("emailAddress"):
            names.append(border.person("email", str(account["emailAddress"]).lower()))
        return Person(tuple(names), account.get("accountType") == "app", account.get("active"))

    def _groups(self, gaps: list[Gap]) -> list[Group]:
        """As many as can be had; that there are more is one of the ``gaps``."""
        if self._site.edition is Edition.CLOUD:
            found = self._site.listed("group/bulk", "values")
            return [Group(str(group["groupId"]), str(group["name"]), None) for group in found]
        names, total = self._site.get(
            "groups/picker",
            lambda body: ([str(group["name"]) for group in body["groups"]], int(body["total"])),
            maxResults=_PAGE,
        )
        if len(names) < total:
            cut = f"{len(names)} of {total} groups are shown: raise jira.ajax.autocomplete.limit to see all of them"
            gaps.append(Gap("groups", "list-cut", cut))
        return [Group(name, name, None) for name in names]

    def configuration(self, kind: str) -> Configuration | Gap:
        """Labels of choices and types of fields as far as they may be read."""
        if kind != ISSUES:
            return Configuration({}, {})
        self._described = self._site.get("field", _described)
        choices: dict[str, Mapping[str, str]] = {}
        gaps: list[Gap] = []
        for name in _LISTS:
            choices[name] = dict(_tried(name, partial(self._site.get, name, _labels), gaps))
        choices["issuelinks"] = dict(_tried("issuelinks", self._link_types, gaps))
        choices.update(_tried("options", self._options_of_selects, gaps))
        self._site.confirm()
        types = {str(field["id"]): shape(str(field["id"]), field.get("schema") or {}).base for field in self._described}
        return Configuration(choices, types, gaps)

    def _link_types(self) -> list[tuple[str, str]]:
        return self._site.get("issueLinkType", lambda body: _labels(body["issueLinkTypes"]))

    def _options_of_selects(self) -> list[tuple[str, Mapping[str, str]]]:
        """Options as the create screens show them; the list of all needs an administrator."""
        found: dict[str, dict[str, str]] = {}
        for project in self._options.projects:
            types = f"issue/createmeta/{project}/issuetypes"
            for type_ in self._site.listed(types, "issueTypes"):
                for field in self._site.listed(f"{types}/{type_['id']}", "fields"):
                    name = str(field.get("fieldId") or field.get("key"))
                    if name.startswith("customfield_"):
                        for option in field.get("allowedValues") or ():
                            if "id" in option:
                                label = option.get("value") or option.get("name")
                                found.setdefault(name, {})[str(option["id"])] = str(label)
        return list(found.items())

    # --- tickets

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        """All tickets of ours with the key, oldest first."""
        return self._tickets.find(key)

    def ticket(self, id: str) -> Ticket | Gone | Gap:
        """A ticket of ours by its id."""
        return self._tickets.ticket(id)

    def ours(self, since: Millis | None) -> Iterator[Ticket] | Gap:
        """Every ticket that the account created for us, oldest first."""
        return self._tickets.ours(since)

    def commented(self, ticket: str, mark: str) -> bool | Gap:
        """Whether a comment of the ticket contains the word."""
        return self._tickets.commented(ticket, mark)

    def write(self, write: Write) -> Written | Gap:
        """Perform one write once and read the ticket back by its id."""
        return self._tickets.write(write)


def _logs(histories: Histories, issues: Sequence[Json]) -> tuple[Mapping[str, Sequence[Json]], list[Gap]]:
    """The histories of the issues; where they may not be read the issues go on, and each that may have
    been changed lacks its."""
    try:
        return histories.of(issues)
    except Denied as denial:
        cut = [
            Gap(HISTORY, "history-cut", f"the history of {issue['key']} may not be read", record=str(issue["id"]))
            for issue in issues
            if _may_have_changed(issue)
        ]
        return {str(issue["id"]): () for issue in issues}, [Gap(HISTORY, "refused", str(denial)), *cut]


def _may_have_changed(issue: Json) -> bool:
    """Some databases of Jira cut stamps to the second: what happened within it leaves no trace in them."""
    created, updated = stamped(issue, "created"), stamped(issue, "updated")
    return updated > created or created % 1000 == 0


def _tried(what: str, read: Callable[[], list[T]], gaps: list[Gap]) -> list[T]:
    """What could be read; nothing, and one of the ``gaps``, where it may not be."""
    try:
        return read()
    except Denied as denial:
        gaps.append(Gap(what, "refused", str(denial)))
        return []


def _about(body: dict[str, Any]) -> tuple[Edition, str, str, Millis | None]:
    """Edition, version, address for people and clock of ``serverInfo``."""
    return edition_of(body), str(body.get("version", "")), str(body.get("baseUrl", "")), millis(body.get("serverTime"))


def _described(body: Sequence[Json]) -> list[Json]:
    """``KeyError`` or ``TypeError`` if these are no fields."""
    return [{**field, "id": str(field["id"]), "name": str(field["name"])} for field in body]


def _labels(body: Sequence[Json]) -> list[tuple[str, str]]:
    return [(str(one["id"]), str(one["name"])) for one in body]
