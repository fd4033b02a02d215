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


@dataclass(frozen=True, slots=True)
class Cycle:
    """One run of a service level's clock. Instants and durations in milliseconds."""

    start: int
    goal: int
    stop: int | None = None
    """``None`` while it runs."""
    elapsed: int | None = None
    """``None``: all the time since it started."""
    breached: bool | None = None
    """``None``: when more than the goal has elapsed."""
    breach_at: int | None = None
    """When the goal is or was used up; unknown while the clock stands still."""
    paused: bool = False


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
    approvals: tuple[Mapping[str, Any], ...] = ()
    """Oldest first: id, name, status (id), created and completed in milliseconds, decision, needed (``None`` for all)
    and approvers, each with account id (``by``) and decision. A decision is pending, approved or declined."""
    cycles: Mapping[str, tuple[Cycle, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Id of a service level -> cycles that a data file gave instead of those that the history makes."""


@dataclass(frozen=True, slots=True)
class Link:
    id: int
    type: str
    """Id of its link type."""
    inward: int
    outward: int


class SearchIndex:
    """What search sees on one node: each issue as it was ``lag`` milliseconds ago, or as it was at ``frozen_at``.

    ``behind`` is the index of another node, which lags more; what is put here is put there too.
    """

    def __init__(self, lag: int, behind: "SearchIndex | None" = None, frozen_at: int | None = None) -> None:
        self._lag = lag
        self.behind = behind
        self._frozen_at = frozen_at
        self.visible: dict[int, Issue] = {}
        """As of the last ``at``."""
        self._pending: deque[tuple[int, int, Issue | None]] = deque()
        self.generation = 0
        """Changes whenever an answer to a search might."""

    def put(self, number: int, issue: Issue | None, written_at: int) -> None:
        self._pending.append((written_at + self._lag, number, issue))
        if self.behind:
            self.behind.put(number, issue, written_at)

    def refresh(self) -> None:
        """Answers may differ although no issue changed."""
        self.generation += 1
        if self.behind:
            self.behind.refresh()

    def copied(self, lag: int, frozen_at: int | None, now: int) -> "SearchIndex":
        copy = SearchIndex(lag, frozen_at=frozen_at)
        copy.visible = dict(self.at(now))
        copy._pending.extend((seen_at + lag, number, issue) for seen_at, number, issue in self._pending)
        return copy

    def at(self, now: int) -> Mapping[int, Issue]:
        until = now if self._frozen_at is None else self._frozen_at
        while self._pending and self._pending[0][0] <= until:
            _, number, issue = self._pending.popleft()
            self.generation += 1
            if issue is None:
                self.visible.pop(number, None)
            else:
                self.visible[number] = issue
        return self.visible


class Site:
    """The state and the only way to change it."""

    def __init__(self, configuration: Configuration, search_lag: float, node_lag: float = 0) -> None:
        self.configuration = configuration
        second = SearchIndex(round((search_lag + node_lag) * 1000)) if node_lag else None
        self.index = SearchIndex(round(search_lag * 1000), second)
        self.tally: Counter[str] = Counter()
        """Accepted writes by kind."""
        self._issues: dict[int, Issue] = {}
        self._numbers: dict[str, int] = {}
        self._links: dict[int, Link] = {}
        self._linked: dict[int, list[int]] = {}
        self._children: dict[int, list[int]] = {}
        self._commented: dict[str, int] = {}
        self._last_id: Counter[str] = Counter(
            {"issue": 10000, "history": 10000, "comment": 10000, "link": 10000, "approval": 0}
        )
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
            "approval": self._approval,
            "move": self._move,
            "rename": self._rename,
            "browse": self._browse,
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
        for kind, numbered in (
            ("history", issue.histories),
            ("comment", issue.comments),
            ("approval", issue.approvals),
        ):
            if numbered:
                self._use(kind, max(int(each["id"]) for each in numbered))
        self._commented |= {comment["id"]: issue.id for comment in issue.comments}
        if parent := issue.values.get("parent"):
            self._children.setdefault(parent, []).append(issue.id)
        self.index.put(issue.id, issue, written_at)

    def index_beside(self, lag: int, frozen_at: int | None, now: int) -> SearchIndex:
        """One more index: it starts with what search sees now, and hears of later writes ``lag`` milliseconds late."""
        beside = self.index.copied(lag, frozen_at, now)
        last = self.index
        while last.behind:
            last = last.behind
        last.behind = beside
        return beside

    def next_id(self, kind: str) -> int:
        """An unused id of an issue, history, comment, link, approval, remote (link) or ``key PROJECT``."""
        return self._last_id[kind] + 1

    def reserve(self, kind: str, number: int | None = None) -> int:
        """``number``, or an unused id, of which ``next_id`` knows from now on."""
        chosen = self.next_id(kind) if number is None else number
        self._use(kind, chosen)
        return chosen

    def issue(self, reference: str) -> Issue | None:
        """The issue with this id, key or former key."""
        number = int(reference) if reference.isdecimal() else self._numbers.get(reference.upper(), -1)
        return self._issues.get(number)

    def issues(self) -> Iterator[Issue]:
        yield from self._issues.values()

    def links(self, issue: Issue) -> list[Link]:
        return [self._links[number] for number in self._linked.get(issue.id, ())]

    def comment(self, number: str) -> tuple[Issue, Mapping[str, Any]] | None:
        """The comment with this id, and the issue it belongs to."""
        issue = self._issues.get(self._commented.get(number, -1))
        return next(((issue, each) for each in issue.comments if each["id"] == number), None) if issue else None

    def children(self, issue: Issue) -> list[Issue]:
        """Its sub-tasks."""
        return [self._issues[number] for number in self._children.get(issue.id, ()) if number in self._issues]

    def add_link(self, link: Link) -> None:
        """Put a link there that leaves no trace in the histories."""
        self._use("link", link.id)
        self._links[link.id] = link
        for number in (link.inward, link.outward):
            self._linked.setdefault(number, []).append(link.id)

    def _use(self, kind: str, number: int) -> None:
        self._last_id[kind] = max(self._last_id[kind], number)

    def _put(self, issue: Issue, at: int) -> None:
        self._issues[issue.id] = issue
        self.index.put(issue.id, issue, at)

    def _create(self, event: Event) -> None:
        project = event["key"].rpartition("-")[0]
        approvals = tuple(event.get("approvals", ()))
        issue = Issue(
            event["issue"], event["key"], project, event["values"], properties=event["properties"], approvals=approvals
        )
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
        self._commented[event["comment"]["id"]] = issue.id
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
        link = Link(event["id"], event["type"], event["inward"], event["outward"])
        self.add_link(link)
        for history, (number, items) in enumerate(zip((link.inward, link.outward), event["items"], strict=True)):
            self._change({**event, "issue": number, "items": items, "history": event["history"] + history})

    def _approval(self, event: Event) -> None:
        """A new approval, or what a decision has made of one; does not touch ``updated``, as the vendor's does not."""
        issue, approval = self._issues[event["issue"]], event["approval"]
        self._use("approval", int(approval["id"]))
        others = [each for each in issue.approvals if each["id"] != approval["id"]]
        self._put(replace(issue, approvals=tuple(sorted((*others, approval), key=_number))), event["at"])

    def _move(self, event: Event) -> None:
        """Into another project: a new key, the old one still leads there, the id stays."""
        issue, project = self._issues[event["issue"]], event["key"].rpartition("-")[0]
        former = (*issue.former_keys, issue.key)
        self._issues[issue.id] = replace(issue, key=event["key"], project=project, former_keys=former)
        self._numbers[event["key"]] = issue.id
        self._use("key " + project, int(event["key"].rpartition("-")[2]))
        self._change(event)

    def _rename(self, event: Event) -> None:
        """A project gets another key: so do its issues, whose former keys still lead to them; nothing is updated."""
        self.configuration.rename(event["project"], event["key"])
        for issue in [each for each in self._issues.values() if each.project == event["project"]]:
            key = f"{event['key']}-{issue.key.rpartition('-')[2]}"
            self._numbers[key] = issue.id
            self._use("key " + event["key"], int(key.rpartition("-")[2]))
            former = (*issue.former_keys, issue.key)
            self._put(replace(issue, key=key, project=event["key"], former_keys=former), event["at"])

    def _browse(self, event: Event) -> None:
        """The account loses the permission to browse a project, or gets it back; nobody is told."""
        unseen = self.configuration.unseen
        (unseen.discard if event["allowed"] else unseen.add)(event["project"])
        self.index.refresh()

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


def _number(approval: Mapping[str, Any]) -> int:
    return int(approval["id"])
