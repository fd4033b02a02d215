"""Owns the site's state: issues, links, what search can see of them, and the journal of accepted writes.

Every write is a plain event that has already been found valid (``editing``); applying it is deterministic, so that the
state file, read again, rebuilds the same site. Issues are immutable: a write replaces the issue.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import orjson

from connectors.jira.simulator.configuration import Configuration

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Issue:
    """One version of an issue.

    ``values`` holds ids for choices and people, milliseconds for stamps, and text as it was written: wiki text is a
    string, an Atlassian document an object.
    """

    id: int
    key: str
    project: str
    values: Mapping[str, Any]
    histories: tuple[Mapping[str, Any], ...] = ()
    """Oldest first: id, author's account id, created in milliseconds, items as the vendor writes them."""
    comments: tuple[Mapping[str, Any], ...] = ()
    properties: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    remote_links: tuple[Mapping[str, Any], ...] = ()
    former_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    id: int
    type: str
    """Id of its link type."""
    inward: int
    outward: int


class SearchIndex:
    """What search sees: each issue as it was ``lag`` milliseconds ago."""

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._visible: dict[int, Issue] = {}
        self._pending: deque[tuple[int, int, Issue | None]] = deque()
        self.generation = 0
        """Changes whenever an answer to a search might."""

    def put(self, number: int, issue: Issue | None, written_at: int) -> None:
        self._pending.append((written_at + self._lag, number, issue))

    def at(self, now: int) -> Mapping[int, Issue]:
        while self._pending and self._pending[0][0] <= now:
            _, number, issue = self._pending.popleft()
            self.generation += 1
            if issue is None:
                self._visible.pop(number, None)
            else:
                self._visible[number] = issue
        return self._visible


class Site:
    """The state and the only way to change it."""

    def __init__(self, configuration: Configuration, search_lag: float) -> None:
        self.configuration = configuration
        self.index = SearchIndex(round(search_lag * 1000))
        self.tally: Counter[str] = Counter()
        """Accepted writes by kind."""
        self._issues: dict[int, Issue] = {}
        self._numbers: dict[str, int] = {}
        self._links: dict[int, Link] = {}
        self._linked: dict[int, list[int]] = {}
        self._last_id: Counter[str] = Counter({"issue": 10000, "history": 10000, "comment": 10000, "link": 10000})
        self._journal: IO[bytes] | None = None

    def keep_journal(self, path: Path) -> None:
        """Replay the writes of ``path`` if there are any, then append every later one to it."""
        with path.open("a+b") as journal:
            journal.seek(0)
            complete = 0
            for line in journal:
                if line.endswith(b"\n"):  # a process that was killed may leave half a line
                    self.apply(orjson.loads(line))
                    complete += len(line)
            journal.truncate(complete)
        self._journal = path.open("ab")

    def close(self) -> None:
        if self._journal:
            self._journal.close()

    def record(self, event: Event) -> None:
        """Journal one accepted write, then apply it."""
        if self._journal:
            self._journal.write(orjson.dumps(event) + b"\n")
            self._journal.flush()
        self.apply(event)

    def apply(self, event: Event) -> None:
        kind = event["do"]
        self.tally[kind] += 1
        {
            "create": self._create,
            "edit": self._change,
            "transition": self._change,
            "comment": self._comment,
            "property": self._property,
            "remote_link": self._remote_link,
            "link": self._link,
            "delete": self._delete,
        }[kind](event)

    def add(self, issue: Issue, written_at: int) -> None:
        """Put an issue there; search sees it ``search_lag`` after ``written_at``."""
        self._issues[issue.id] = issue
        for key in (issue.key, *issue.former_keys):
            self._numbers[key] = issue.id
            project, _, number = key.rpartition("-")
            self._use("key " + project, int(number))
        self._use("issue", issue.id)
        for history in issue.histories[-1:]:
            self._use("history", int(history["id"]))
        for comment in issue.comments[-1:]:
            self._use("comment", int(comment["id"]))
        self.index.put(issue.id, issue, written_at)

    def next_id(self, kind: str) -> int:
        """An unused id of ``issue``, ``history``, ``comment``, ``link``, ``remote`` or ``key PROJECT``."""
        return self._last_id[kind] + 1

    def issue(self, reference: str) -> Issue | None:
        """The issue with this id, key or former key."""
        number = int(reference) if reference.isdecimal() else self._numbers.get(reference.upper(), -1)
        return self._issues.get(number)

    def issues(self) -> Iterator[Issue]:
        yield from self._issues.values()

    def links(self, issue: Issue) -> list[Link]:
        return [self._links[number] for number in self._linked.get(issue.id, ())]

    def link(self, number: int) -> Link | None:
        return self._links.get(number)

    def _use(self, kind: str, number: int) -> None:
        self._last_id[kind] = max(self._last_id[kind], number)

    def _put(self, issue: Issue, at: int) -> None:
        self._issues[issue.id] = issue
        self.index.put(issue.id, issue, at)

    def _create(self, event: Event) -> None:
        project = event["key"].rpartition("-")[0]
        issue = Issue(event["issue"], event["key"], project, event["values"], properties=event["properties"])
        self.add(issue, event["at"])

    def _change(self, event: Event) -> None:
        issue = self._issues[event["issue"]]
        values = {**issue.values, **event["values"]}
        histories = issue.histories
        if event["items"]:
            self._use("history", event["history"])
            history = {
                "id": str(event["history"]),
                "author": event["by"],
                "created": event["at"],
                "items": event["items"],
            }
            histories = (*histories, history)
        self._put(replace(issue, values=values, histories=histories), event["at"])

    def _comment(self, event: Event) -> None:
        issue = self._issues[event["issue"]]
        self._use("comment", int(event["comment"]["id"]))
        values = {**issue.values, "updated": event["at"]}
        self._put(replace(issue, values=values, comments=(*issue.comments, event["comment"])), event["at"])

    def _property(self, event: Event) -> None:
        issue = self._issues[event["issue"]]
        properties = {**issue.properties, event["name"]: event.get("value")}
        if "value" not in event:
            del properties[event["name"]]
        self._put(replace(issue, properties=properties), event["at"])

    def _remote_link(self, event: Event) -> None:
        issue = self._issues[event["issue"]]
        self._use("remote", event["id"])
        others = tuple(each for each in issue.remote_links if each["id"] != event["id"])
        added = ({**event["link"], "id": event["id"]},) if "link" in event else ()
        self._put(replace(issue, remote_links=(*others, *added)), event["at"])

    def _link(self, event: Event) -> None:
        self._use("link", event["id"])
        link = Link(event["id"], event["type"], event["inward"], event["outward"])
        self._links[link.id] = link
        for history, (number, items) in enumerate(zip((link.inward, link.outward), event["items"], strict=True)):
            self._linked.setdefault(number, []).append(link.id)
            change = {**event, "issue": number, "values": {}, "items": items, "history": event["history"] + history}
            self._change(change)

    def _delete(self, event: Event) -> None:
        issue = self._issues.pop(event["issue"])
        for key in (issue.key, *issue.former_keys):
            del self._numbers[key]
        for number in self._linked.pop(issue.id, []):
            link = self._links.pop(number)
            other = link.inward if link.outward == issue.id else link.outward
            if other in self._linked:
                self._linked[other].remove(number)
        self.index.put(issue.id, None, event["at"])
