"""Shares with their uncertainty, and the calendar of closed periods."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt

Z = 1.6449
"""One-sided 95 %."""


@dataclass(frozen=True, slots=True)
class Share:
    """``deviating`` of ``judged`` cases; ``unknown`` ones are in neither."""

    judged: int
    deviating: int
    unknown: int

    @property
    def rate(self) -> float:
        return self.deviating / self.judged if self.judged else 0.0

    def interval(self) -> tuple[float, float]:
        """Wilson's interval, two-sided 90 % (each bound one-sided 95 %). Nothing judged says nothing: 0 to 1."""
        n = self.judged
        if n == 0:
            return 0.0, 1.0
        p, z2 = self.rate, Z * Z
        centre = p + z2 / (2 * n)
        half = Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n))

    def exceeds(self, tolerance: float) -> bool:
        """At least five deviating cases, and the true share is above the tolerance beyond reasonable doubt."""
        return self.deviating >= 5 and self.interval()[0] > tolerance

    def plus(self, other: "Share") -> "Share":
        return Share(self.judged + other.judged, self.deviating + other.deviating, self.unknown + other.unknown)


@dataclass(frozen=True, slots=True)
class Period:
    """A calendar month in UTC, cut at go-live; ``start`` and ``end`` (exclusive) in ms."""

    start: int
    end: int

    @property
    def name(self) -> str:
        return datetime.fromtimestamp(self.start / 1000, UTC).strftime("%Y-%m")


def closed_months(go_live: int, covered: int) -> Iterator[Period]:
    """The months from ``go_live`` on that had ended by ``covered``, both ms."""
    start = go_live
    while True:
        moment = datetime.fromtimestamp(start / 1000, UTC)
        year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
        end = int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
        if end > covered:
            return
        yield Period(start, end)
        start = end
