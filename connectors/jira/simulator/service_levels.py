"""Owns the clocks of service management: what cycles an issue has had at an instant. Pure; how they look is elsewhere.

The clocks run at all hours. A cycle starts with the issue, or when it leaves a status that ends cycles; it stands still
in the statuses that pause it. Time alone changes the answer: a breach leaves no trace in the issue and its history.
"""

from collections.abc import Iterator
from dataclasses import replace

from connectors.jira.simulator.configuration import Configuration, ServiceLevel
from connectors.jira.simulator.site import Cycle, Issue


def levels(configuration: Configuration, issue: Issue) -> list[ServiceLevel]:
    """What measures this issue."""
    return [
        each
        for each in configuration.service_levels.values()
        if each.id in issue.cycles or issue.values["issuetype"] in each.types
    ]


def level_of(configuration: Configuration, field: str) -> ServiceLevel | None:
    """The service level that this field shows."""
    return next((each for each in configuration.service_levels.values() if each.field == field), None)


def cycles(level: ServiceLevel, issue: Issue, now: int) -> list[Cycle]:
    """Oldest first, with all durations and instants filled in; only the last one may run (``stop`` is ``None``)."""
    if level.id in issue.cycles:
        return [_filled(each, now) for each in issue.cycles[level.id]]
    goal = level.goals.get(issue.values.get("priority") or "")
    if goal is None or issue.values["issuetype"] not in level.types:
        return []
    return list(_measured(level, issue, goal, now))


def _filled(cycle: Cycle, now: int) -> Cycle:
    elapsed = cycle.elapsed if cycle.elapsed is not None else (cycle.stop or now) - cycle.start
    breached = cycle.breached if cycle.breached is not None else elapsed > cycle.goal
    breach_at = cycle.breach_at or (None if cycle.paused else cycle.start + cycle.goal)
    return replace(cycle, elapsed=elapsed, breached=breached, breach_at=breach_at)


def _measured(level: ServiceLevel, issue: Issue, goal: int, now: int) -> Iterator[Cycle]:
    running: _Clock | None = None
    status = _first_status(issue)
    if status not in level.stop:
        running = _Clock(issue.values["created"], goal, status in level.pause)
    for at, entered in _marks(level, issue, now):
        stops = entered is None or entered in level.stop
        if running is not None:
            running.reach(at, entered in level.pause)
            if stops:
                yield running.cycle(at)
                if level.comment:  # a first response is given once
                    return
                running = None
        elif not stops:
            running = _Clock(at, goal, entered in level.pause)
    if running is not None:
        running.reach(now, running.paused)
        yield running.cycle(None)


def _first_status(issue: Issue) -> str:
    return next((str(old) for _, old, _ in _steps(issue) if old), issue.values["status"])


def _steps(issue: Issue) -> Iterator[tuple[int, str | None, str | None]]:
    for history in issue.histories:
        for item in history["items"]:
            if item.get("fieldId") == "status":
                yield history["created"], item["from"], item["to"]


def _marks(level: ServiceLevel, issue: Issue, now: int) -> list[tuple[int, str | None]]:
    """Statuses entered up to ``now``, and ``None`` for a first response."""
    marks: list[tuple[int, str | None]] = [(at, new) for at, _, new in _steps(issue) if new and at <= now]
    if level.comment:
        answers = (
            each["created"]
            for each in issue.comments
            if not each.get("internal") and each["author"] != issue.values.get("reporter") and each["created"] <= now
        )
        if first := min(answers, default=None):
            marks.append((first, None))
    return sorted(marks, key=lambda mark: mark[0])


class _Clock:
    """A running cycle."""

    def __init__(self, start: int, goal: int, paused: bool) -> None:
        self._start = start
        self._goal = goal
        self._elapsed = 0
        self._seen = start
        self._breach_at: int | None = None
        self.paused = paused

    def reach(self, at: int, paused: bool) -> None:
        """Let the time up to ``at`` pass; from there on it stands still or not."""
        if not self.paused:
            left = self._goal - self._elapsed
            if self._breach_at is None and at - self._seen > left:
                self._breach_at = self._seen + left
            self._elapsed += at - self._seen
        self._seen, self.paused = at, paused

    def cycle(self, stop: int | None) -> Cycle:
        breached = self._breach_at is not None
        ahead = None if self.paused and stop is None else self._seen + self._goal - self._elapsed
        breach_at = self._breach_at if breached else ahead
        return Cycle(self._start, self._goal, stop, self._elapsed, breached, breach_at, self.paused and stop is None)
