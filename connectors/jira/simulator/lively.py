"""A made-up desk: months of believable work up to now, and then one thing after another.

Owns when things happen and whose turn it is; what people do is left to :mod:`.scripts`. It runs on the server's thread
like everything else: what was due since the last request happens at the next one and is stamped with the time at which
it was due, so that nobody can tell the difference.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from pathlib import Path
from random import Random
from typing import NamedTuple

from connectors.jira.simulator.refusals import Refusal
from connectors.jira.simulator.scripts import DAY, HOUR, Lost, Script
from connectors.jira.simulator.scripts.change import Change
from connectors.jira.simulator.scripts.corrective import CorrectiveAction
from connectors.jira.simulator.scripts.problem import Problem
from connectors.jira.simulator.scripts.request import Request
from connectors.jira.simulator.site import Site

DATA = (Path("itsm"), Path(__file__).with_name("lively_desk.yaml"))
"""What the desk needs to be set up."""
_SHARES: dict[type[Script], float] = {Problem: 0.06, Change: 0.2, Request: 0.7, CorrectiveAction: 0.06}
"""Of the work that comes in; problems first, because changes name them."""
_AT_ONCE = 10
"""Things that happen at most between two looks at a desk that nobody looked at for long."""


class _Pending(NamedTuple):
    due: int
    turn: int
    script: Script
    story: Iterator[float]


class Lively:
    """The desk's people at work. Making it writes the history; :meth:`go_on` continues from there.

    ``planted``: kind of deviation, such as ``change.no_board`` -> keys of the issues in which it was put.
    """

    def __init__(self, site: Site, now: int, *, seed: int, days: int, per_day: int, tempo: float) -> None:
        self.planted: dict[str, list[str]] = {}
        self._site = site
        self._seed = seed
        self._turns = 0
        self._tempo = round(tempo * 1000)
        self._random = Random(f"{seed} turns")  # noqa: S311 - a made-up desk, not a secret
        self._recent: dict[type[Script], list[str]] = {kind: [] for kind in _SHARES}
        self._opened = _midnight(now) - round(days * DAY * 1000)
        self._next = now + self._tempo
        self._alone = True
        """Whether nobody from outside has had a hand in the issues yet."""
        self._agenda: list[_Pending] = []
        for kind, share in _SHARES.items():
            for due in _arrivals(Random(f"{seed} {kind.__name__}"), self._opened, now, per_day * share):  # noqa: S311
                self._agenda.append(self._arrival(kind, due))
        heapify(self._agenda)
        self._catch_up(now)
        self._alone = False

    def go_on(self, now: int) -> None:
        """Let happen what has happened by now: what was due, and something ahead of its time at each beat."""
        self._next = max(self._next, now - _AT_ONCE * self._tempo)
        while self._next <= now:
            self._catch_up(self._next)
            self._happen(self._next)
            self._next += self._tempo

    def _arrival(self, kind: type[Script], due: int) -> _Pending:
        self._turns += 1
        own = Random(f"{self._seed} {kind.__name__} {self._turns}")  # noqa: S311
        script = kind(own, self._site, self._note, self._recent, (due - self._opened) / 1000)
        return _Pending(due, self._turns, script, script.story())

    def _note(self, kind: str, key: str) -> None:
        self.planted.setdefault(kind, []).append(key)

    def _catch_up(self, now: int) -> None:
        while self._agenda and self._agenda[0].due <= now:
            pending = heappop(self._agenda)
            self._do(pending, pending.due)

    def _happen(self, now: int) -> None:
        """One thing ahead of its time: new work, or the next step of some that is open."""
        if not self._agenda or self._random.random() < 0.3:
            kind = self._random.choices([*_SHARES], (1, 2, 3, 1))[0]
            self._do(self._arrival(kind, now), now)
            return
        pending = self._agenda.pop(self._random.randrange(min(len(self._agenda), 20)))
        heapify(self._agenda)
        self._do(pending, now)

    def _do(self, pending: _Pending, now: int) -> None:
        """Let a story go on. It ends early where somebody from outside had a hand in its issue."""
        script = pending.script
        new, script.now = not script.key, now
        try:
            wait = next(pending.story, None)
        except (Lost, Refusal):
            if self._alone:
                raise
            return
        if new:
            self._recent[type(script)].append(script.key)
        if wait is not None:
            self._turns += 1
            heappush(self._agenda, pending._replace(due=_due(now, wait, script.random), turn=self._turns))


def _due(now: int, wait: float, random: Random) -> int:
    """People save much of their slow work at the quarter, so that stamps are shared."""
    due, quarter = now + round(wait * 1000), 900_000
    return due - due % quarter + quarter if wait > 2 * HOUR and random.random() < 0.3 else due


def _midnight(now: int) -> int:
    return now - now % round(DAY * 1000)


def _arrivals(random: Random, opened: int, now: int, per_day: float) -> Iterator[int]:
    """Instants at which work comes in: by day more than by night, at weekends little."""
    for start in range(opened, now, round(DAY * 1000)):
        weekday = (start // round(DAY * 1000) + 3) % 7
        expected = per_day if weekday < 5 else per_day / 4
        for _ in range(int(expected) + (random.random() < expected % 1)):
            due = start + round(1000 * random.triangular(0, DAY, 11 * HOUR))
            if due < now:
                yield due
