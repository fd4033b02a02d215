"""What people of a made-up service desk do: one script per kind of work, each a series of saves drawn from a seed.

A script knows what is usual and what breaks a documented procedure, and says so in its steps. What a save brings about
is left to :mod:`..desk` and its engines, when it happens to :mod:`..lively`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, NamedTuple

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.scripts.staff import Person, Staff
from connectors.servicenow.simulator.tables import Row, Table

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Step(NamedTuple):
    """One save."""

    after: float
    """Seconds since the step before."""
    by: str
    """User name."""
    values: Mapping[str, str]
    """``@key`` stands for the sys_id of the script's record ``key``, ``@now+60`` for a stamp a minute ahead."""
    plants: tuple[str, ...] = ()
    job: bool = False
    """Done by the hourly job, never ahead of its time."""
    on: str = ""
    """Which record of the script is saved: a key of its own, or the sys_id of a row that is there already. The first
    save of a key inserts."""
    table: str = ""
    """Table of ``on``; blank for the script's own."""


@dataclass(slots=True)
class Script:
    """What happens to one record and to those around it, step by step."""

    random: Random
    staff: Staff
    desk: Desk
    """To look at; scripts write by their steps only."""
    records: dict[str, tuple[Table, Row]] = field(default_factory=dict)
    """The script's own rows by their keys, once they are there."""
    table: ClassVar[str] = ""

    def steps(self) -> Iterator[Step]:
        """The whole life. Each step is drawn when the one before is done."""
        raise NotImplementedError

    def agent(self, group: str) -> tuple[str, str]:
        return self.random.choice(self.staff.members[group])

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def between(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def sys_id(self, key: str = "") -> str:
        """Id of one of the script's records."""
        table, row = self.records[key]
        return table.get(row, "sys_id")

    def any_row(self, table: str) -> str:
        """Id of some row of a table that was filled before the desk opened."""
        return self.random.choice(list(self.desk.tables[table].rows))

    def answer(self, after: float, by: Person, state: str, words: str) -> Step:
        """The answer of a person who was asked to approve the script's record; a note if nobody asked."""
        table = self.desk.tables["sysapproval_approver"]
        asked = self.desk.related(table.name, "sysapproval", self.sys_id())
        mine = (row for row in asked if table.get(row, "approver") == by[0] and table.get(row, "state") == "requested")
        row = next(mine, None)
        if row is None:
            return Step(after, by[1], {"work_notes": words})
        return Step(after, by[1], {"state": state, "comments": words}, on=table.get(row, "sys_id"), table=table.name)
