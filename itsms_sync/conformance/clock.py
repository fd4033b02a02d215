"""The clocks on which time limits run, for columns of instants (ms, null where not known)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from itsms_sync.procedures.model import AROUND_THE_CLOCK, Limit
from itsms_sync.sms.calendars import Clocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from itsms_sync.sms.worktime import Worktime

    _Array = NDArray[np.int64]


_OLDEST = 40 * 366 * 86_400_000
"""How long before now (ms) calendars are looked at."""


@dataclass(frozen=True, slots=True)
class Clock:
    """``limit`` (ms) on a clock; ``worktime`` is ``None`` around the clock."""

    limit: int
    worktime: "Worktime | None"
    days: int = 0
    """How many working days the limit is, where it is written in these."""

    @property
    def kind(self) -> str:
        """What the time is called that the clock counts."""
        return "" if self.worktime is None else " of business time"

    def between(self, starts: pl.Series, ends: pl.Series) -> pl.Series:
        """The time that passes from each start to each end (ms); null where one is not known."""
        if self.worktime is None:
            return ends - starts
        return _known(self.worktime.between, self._inside(starts), self._inside(ends))

    def after(self, starts: pl.Series, time: pl.Series) -> pl.Series:
        """The first instant at which so much time has passed since each start."""
        if self.worktime is None:
            return starts + time
        return _known(self.worktime.after, self._inside(starts), time)

    def _inside(self, instants: pl.Series) -> pl.Series:
        """What lies before all that the calendar was worked out for has passed every limit in any case."""
        assert self.worktime is not None
        return instants.clip(self.worktime.first, self.worktime.last)


def clock(limit: Limit, clocks: Clocks, instants: pl.Series, now: int) -> Clock | None:
    """The clock of a limit, for ``instants`` and ``now``; ``None`` if there is no such calendar."""
    if limit.clock == AROUND_THE_CLOCK:
        return Clock(limit.time // timedelta(milliseconds=1), None)
    calendar = clocks.calendar(limit.clock)
    if calendar is None:
        return None
    known = instants.drop_nulls().extend_constant(now, 1).to_numpy()
    days = limit.time.days if limit.time == timedelta(days=limit.time.days) else 0
    # One instant of the year 1 among the others is a slip, and no reason to work out two thousand years.
    first = max(int(known.min()), now - _OLDEST)
    return Clock(calendar.length(limit.time), clocks.worktime(limit.clock, first, int(known.max())), days)


def _known(function: "Callable[[_Array, _Array], _Array]", left: pl.Series, right: pl.Series) -> pl.Series:
    """``function`` of the pairs of which both are known."""
    both = left.is_not_null() & right.is_not_null()
    found = function(left.filter(both).to_numpy(), right.filter(both).to_numpy())
    nothing = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(left))
    return nothing.scatter(both.arg_true(), pl.Series(found, dtype=pl.Int64))
