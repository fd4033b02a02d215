"""What people do at the desks of the soak: one thing at a time, drawn from a seed, told in a sentence.

Every change is one that the program must find: each leaves a later stamp than the record had, or one that is late by
less than the overlap.
"""

from collections.abc import Callable
from random import Random

from tests.soak.desks import HOUR, NETWORK, Jira, ServiceNow, stamp

LATEST_S = 480
"""A row is committed at most so long after its stamp; the overlap is longer."""
_STATES = ("1", "2", "3", "6", "7")
_CATEGORIES = ("Network", "Hardware", "Software", "Access")
_STATUSES = ("Work in progress", "Pending", "Completed", "Closed", "Canceled")


class Incidents:
    """People at ServiceNow's incidents."""

    def __init__(self, site: ServiceNow, millis: Callable[[], int], random: Random) -> None:
        self._site = site
        self._millis = millis
        self._random = random
        self._last = dict.fromkeys(self._site.people, 0)
        """Second of each incident's newest stamp."""
        self._made = 0

    def _now(self) -> int:
        return self._millis() // 1000

    def report(self, count: int, at: int | None = None, *, urgent: bool = True) -> str:
        """New incidents in one second; an urgent one is nine hours old and asks for a ticket of its own."""
        second = self._now() if at is None else at
        for _ in range(count):
            self._made += 1
            sys_id = f"{self._random.getrandbits(128):032x}"
            rank = "1" if urgent else "3"
            self._site.act(
                {
                    "sys_id": sys_id,
                    "state": "1",
                    "impact": rank,
                    "urgency": rank,
                    "category": f"scope-{self._made}",
                    "assignment_group": NETWORK,
                    "opened_at": stamp(second - 9 * HOUR),
                },
                at=stamp(second),
            )
            self._last[sys_id] = second
        return f"{count} new incident(s) of {stamp(second)}, urgent: {urgent}"

    def save(self, sys_ids: list[str], at: int | None = None) -> str:
        """The same save of several incidents in one second, or of one several times."""
        second = self._now() if at is None else at
        for sys_id in sys_ids:
            state = self._random.choice(_STATES)
            code = f"code {self._random.random():.6f}"
            self._site.act({"state": state, "close_code": code}, sys_id, at=stamp(second))
            self._last[sys_id] = second
        return f"{len(sys_ids)} save(s) of {stamp(second)} committed at {stamp(self._now())}"

    def touch(self, sys_id: str) -> str:
        """A save of a column that no mapping names."""
        self._site.act({"short_description": f"more {self._random.random()}"}, sys_id)
        self._last[sys_id] = self._now()
        return "a save of another column"

    def pick(self, count: int) -> list[str]:
        return self._random.choices(list(self._last), k=count)

    def late(self) -> str:
        """A save of an incident that was quiet, whose stamp is older than what is there already."""
        second = self._now() - self._random.randint(1, LATEST_S)
        quiet = [sys_id for sys_id, last in self._last.items() if last < second]
        return self.save([self._random.choice(quiet)], second) if quiet else "nothing, all were busy"

    def late_report(self) -> str:
        return "late: " + self.report(1, self._now() - self._random.randint(1, LATEST_S))

    def draw(self) -> str:
        """One of all these."""
        acts: list[Callable[[], str]] = [
            lambda: self.report(self._random.choice((1, 1, 2, 6)), urgent=self._random.random() < 0.6),
            lambda: self.save(self.pick(self._random.choice((1, 2, 7)))),
            lambda: self.save(self.pick(1) * 3),
            lambda: self.touch(self.pick(1)[0]),
            self.late,
            self.late_report,
        ]
        return "ServiceNow: " + self._random.choice(acts)()


class Issues:
    """People at Jira's incidents."""

    def __init__(self, site: Jira, millis: Callable[[], int], random: Random) -> None:
        self._site = site
        self._millis = millis
        self._random = random
        self._last = dict.fromkeys(self._site.people, 0)

    def _now(self) -> int:
        return self._millis() // 1000 * 1000

    def report(self, count: int, at: int | None = None) -> str:
        """New incidents in one millisecond."""
        instant = self._now() if at is None else at
        for number in range(count):
            fields = {"project": {"key": "ITSM"}, "issuetype": {"id": "10101"}, "summary": f"Incident {number}"}
            made = self._site.act("create", {"fields": {**fields, "priority": {"name": "Highest"}}}, at=instant)
            self._last[made] = instant
        return f"{count} new issue(s) of {instant}"

    def edit(self, issues: list[str], at: int | None = None) -> str:
        instant = self._now() if at is None else at
        for issue in issues:
            fields = {
                "customfield_10220": {"value": self._random.choice(_CATEGORIES)},
                "labels": [f"l{self._random.getrandbits(40)}"],
            }
            self._site.act("edit", {"fields": fields}, issue, at=instant)
            self._last[issue] = instant
        return f"{len(issues)} edit(s) of {instant}"

    def step(self, issue: str, to: str) -> str:
        """A transition; nothing if none leads there from where the issue is."""
        body = {"to": to, "fields": {"resolution": {"name": "Done"}} if to == "Completed" else {}}
        if self._site.can("transition", body, issue):
            self._last[issue] = self._now()
        return f"issue {issue} to {to}"

    def note(self, issue: str) -> str:
        self._site.act("comment", {"body": "Any news?"}, issue)
        self._last[issue] = self._now()
        return "a comment"

    def pick(self, count: int) -> list[str]:
        return self._random.choices(list(self._last), k=count)

    def late(self) -> str:
        instant = self._now() - 1000 * self._random.randint(1, LATEST_S)
        quiet = [issue for issue, last in self._last.items() if last < instant]
        return self.edit([self._random.choice(quiet)], instant) if quiet else "nothing, all were busy"

    def draw(self) -> str:
        acts: list[Callable[[], str]] = [
            lambda: self.report(self._random.choice((1, 2, 6))),
            lambda: self.edit(self.pick(self._random.choice((1, 3, 7)))),
            lambda: self.step(self.pick(1)[0], self._random.choice(_STATUSES)),
            lambda: self.note(self.pick(1)[0]),
            self.late,
        ]
        return "Jira: " + self._random.choice(acts)()
