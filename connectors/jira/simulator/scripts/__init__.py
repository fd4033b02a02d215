"""What people of a made-up service desk do in Jira: one script per kind of work, drawn from a seed.

A script knows what is usual and what breaks a documented procedure, and notes the latter. Each step goes through
:mod:`..editing` like a request of that person, so that screens, workflows and approvals are the site's own. When a step
is taken is left to :mod:`..lively`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

from connectors.jira.simulator.editing import Editing
from connectors.jira.simulator.site import Event, Issue, Site

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
Fields = Mapping[str, Any]
IMPACT, URGENCY, APPROVERS = "customfield_10201", "customfield_10202", "customfield_10205"
COUNTERPART, GROUP, NOTES = "customfield_10219", "customfield_10222", "customfield_10226"
TEAMS = {"Service desk": "10371", "Network": "10372", "Database": "10373", "Applications": "10374"}
"""Groups that do the work -> option of the field ``GROUP``."""
AUTOMATION = "712020:automation"
TOPICS = (
    ("VPN drops every few minutes", "Network"),
    ("No wireless in meeting room", "Network"),
    ("Report query runs for an hour", "Database"),
    ("Nightly load failed", "Database"),
    ("Mailbox is full although archived", "Applications"),
    ("Invoice screen shows an error", "Applications"),
)


class Lost(Exception):
    """An issue of the script was deleted, moved or changed by somebody else, so that its story ends here."""


@dataclass(slots=True)
class Script:
    """What happens to one issue and to those around it."""

    random: Random
    """The script's own: what others do does not change its story."""
    site: Site
    note: Callable[[str, str], None]
    """Called with the kind and the key where something breaks a procedure."""
    recent: Mapping[type["Script"], Sequence[str]]
    """Keys of each kind of work, oldest first."""
    opened: float
    """Seconds since the desk opened."""
    now: int = 0
    """Milliseconds; the scheduler sets it before it lets the story go on."""
    key: str = ""
    """The script's issue, once it is there."""
    people: Mapping[str, Sequence[str]] = field(init=False)
    """Group -> account ids."""
    TYPE: ClassVar[str] = ""
    """Id of the issue type."""
    PROJECT: ClassVar[str] = "ITSM"

    def __post_init__(self) -> None:
        self.people = self.site.configuration.groups

    def story(self) -> Iterator[float]:
        """The whole life: does the first thing at once, then yields the seconds until the next, again and again."""
        raise NotImplementedError

    # --- drawing

    def one_of(self, group: str, *but: str) -> str:
        """Account id of somebody of a group who is none of ``but``."""
        return self.random.choice([each for each in self.people[group] if each not in but])

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def between(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    # --- acting

    def create(self, by: str, fields: Fields, kind: str = "") -> str:
        """Key of a new issue."""
        place = {"project": {"key": self.PROJECT}, "issuetype": {"id": kind or self.TYPE}}
        event = self._editing(by).create({"fields": {**place, **fields}})
        self.site.record(event)
        return str(event["key"])

    def edit(self, by: str, fields: Fields) -> None:
        self._record(self._editing(by).edit(self.issue(), {"fields": fields}))

    def step(self, by: str, name: str, fields: Fields | None = None, key: str = "") -> None:
        """Take the transition of that name."""
        issue = self.issue(key)
        use = self.site.configuration.projects[issue.project].types[issue.values["issuetype"]]
        status = issue.values["status"]
        known = (each for each in use.workflow.transitions if each.name == name and each.starts_from(status))
        taken = next(known, None)
        if taken is None:
            raise Lost
        self._record(self._editing(by).transition(issue, {"transition": {"id": taken.id}, "fields": fields or {}}))

    def decide(self, by: str, decision: str = "approved") -> None:
        """That person's answer to the newest approval that waits for it."""
        issue = self.issue()
        waiting = {"by": by, "decision": "pending"}
        pending = (each for each in issue.approvals if each["decision"] == "pending")
        asked = [each["id"] for each in pending if waiting in each["approvers"]]
        if asked:
            self._record(self._editing(by).decide(issue, asked[-1], decision))

    def comment(self, by: str, text: str, *, internal: bool = False) -> None:
        said = [{"key": "sd.public.comment", "value": {"internal": internal}}]
        self._record([self._editing(by).comment(self.issue(), {"body": text, "properties": said})])

    def link(self, by: str, kind: str, other: str) -> None:
        """From the script's issue outward to another; ``kind`` is the id of the link type."""
        self._linked(by, kind, self.key, other)

    def link_from(self, by: str, kind: str, other: str) -> None:
        """From another issue outward to the script's."""
        self._linked(by, kind, other, self.key)

    def _linked(self, by: str, kind: str, source: str, target: str) -> None:
        if self.site.issue(source) is not None and self.site.issue(target) is not None:
            ends = {"inwardIssue": {"key": source}, "outwardIssue": {"key": target}}
            self._record(self._editing(by).link({"type": {"id": kind}, **ends}))

    def issue(self, key: str = "") -> Issue:
        found = self.site.issue(key or self.key)
        if found is None:
            raise Lost
        return found

    def status(self) -> str:
        """Name of the present status."""
        return self.site.configuration.statuses[self.issue().values["status"]].name

    def _editing(self, by: str) -> Editing:
        return Editing(self.site, "2", self.site.configuration.users[by], self.now)

    def _record(self, events: Sequence[Event]) -> None:
        for event in events:
            self.site.record(event)


def person(account: str) -> Fields:
    return {"accountId": account}


def option(number: str) -> Fields:
    return {"id": number}


def group(name: str) -> Fields:
    """Of the field ``GROUP``."""
    return option(TEAMS[name])
