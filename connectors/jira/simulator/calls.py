"""Owns what every address shares: a request with all that it may use, its answer, and the common forms of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from connectors.jira.simulator.configuration import User
from connectors.jira.simulator.editing import Editing
from connectors.jira.simulator.options import Options
from connectors.jira.simulator.predicates import Asker
from connectors.jira.simulator.refusals import INVALID, NO_ISSUE, Refusal
from connectors.jira.simulator.representation import Representation
from connectors.jira.simulator.search import Search
from connectors.jira.simulator.site import Event, Issue, Site

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any = None
    """JSON in parts, or encoded already; ``None`` for no body."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request with everything it may use. ``caller`` is ``None`` for an anonymous one."""

    site: Site
    search: Search
    shown: Representation
    options: Options
    version: str
    caller: User | None
    now: int
    zone: tzinfo
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name."""
    empty_page: bool = False
    """Whether search shows no issue this time, yet a token."""

    @property
    def editing(self) -> Editing:
        assert self.caller is not None
        return Editing(self.site, self.version, self.caller, self.now, self.options.link_updates)

    @property
    def asker(self) -> Asker:
        return Asker(self.caller.account_id if self.caller else "", self.zone, self.now)

    def issue(self) -> Issue:
        issue = self.visible(self.path["issueIdOrKey"])
        if issue is None or self.caller is None:
            raise Refusal(404, NO_ISSUE)
        return issue

    def visible(self, reference: str) -> Issue | None:
        """The issue with this id or key, if the account may see it; else there is none, as far as it is told."""
        issue = self.site.issue(reference)
        return None if issue is None or issue.project in self.site.configuration.unseen else issue

    def text(self, name: str) -> str | None:
        return self.query[name][0] if self.query.get(name) else None

    def number(self, name: str, default: int, highest: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not text.isdecimal():
            raise Refusal(400, f"The value '{text}' is not valid for the parameter '{name}'.")
        return min(int(text), highest)

    def words(self, name: str) -> Sequence[str]:
        return as_list(list(self.query.get(name, ())))

    def record(self, events: Sequence[Event]) -> None:
        for event in events:
            self.site.record(event)


Handler = Callable[[Call], Answer]
Table = Sequence[tuple[str, str, Handler, str]]
"""Method, address below the interface's start, handler, and what an anonymous caller, or one whose password is wrong,
gets: ``refused`` (401), or ``served`` (the handler's own answer, which shows nothing)."""


def page_bean(
    call: Call, values: Sequence[Any], highest: int, address: str, show: Callable[[Any], Any] = lambda value: value
) -> Json:
    """The page that the request asks for, of at most ``highest`` values; only what is on it is brought into form."""
    start, limit = call.number("startAt", 0, 1 << 31), call.number("maxResults", highest, highest)
    shown = [show(each) for each in values[start : start + limit]]
    last = start + limit >= len(values)
    base = f"{call.shown.base}/{address}"
    page: Json = {
        "self": f"{base}?startAt={start}&maxResults={limit}",
        "startAt": start,
        "maxResults": limit,
        "total": len(values),
        "isLast": last,
        "values": shown,
    }
    return page if last else {**page, "nextPage": f"{base}?startAt={start + limit}&maxResults={limit}"}


def object_body(call: Call) -> Json:
    if not isinstance(call.body, dict):
        raise Refusal(400, INVALID)
    return call.body


def strict_body(call: Call, known: Mapping[str, type]) -> Json:
    """A body with known keys of the right types only, without its nulls; newer resources refuse anything else."""
    body = {key: value for key, value in object_body(call).items() if value is not None}
    for key, value in body.items():
        if key not in known or not isinstance(value, known[key]):
            raise Refusal(400, INVALID)
    return body


def as_list(value: Any) -> Sequence[str]:
    """A parameter that may be a comma-separated string or a list."""
    if value is None:
        return ()
    parts = value if isinstance(value, list) else [value]
    return [part.strip() for each in parts for part in str(each).split(",") if part.strip()]
