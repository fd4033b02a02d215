"""Owns the rates at which the editions refuse with 429; counts only while the option ``limits`` is on."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.jira.simulator.options import Clock


@dataclass(frozen=True, slots=True)
class Limit:
    count: int
    window: int
    """Milliseconds."""
    reason: str


_READS = Limit(100, 1_000, "jira-burst-based")
_WRITES = Limit(50, 1_000, "jira-burst-based")
_PER_ISSUE = (Limit(20, 2_000, "jira-per-issue-on-write"), Limit(100, 30_000, "jira-per-issue-on-write"))


class Limits:
    """Sliding windows per address and method, and per issue that is written to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: defaultdict[tuple[object, ...], deque[int]] = defaultdict(deque)

    def spend(self, method: str, template: str, issue: int | None) -> tuple[bool, Mapping[str, str]]:
        """Whether the request may pass, and the headers that say so. ``issue`` is the id that a write goes to."""
        burst = _WRITES if method in ("PUT", "DELETE") else _READS
        counted: list[tuple[Limit, tuple[object, ...]]] = [(burst, (method, template))]
        if issue is not None:
            counted += [(limit, ("issue", issue, str(limit.window))) for limit in _PER_ISSUE]
        now = self._clock.millis()
        for limit, key in counted:
            stamps = self._recent(key, limit, now)
            if len(stamps) >= limit.count:
                return False, _refused(limit, stamps[0] + limit.window, now)
        near = False
        for limit, key in counted:
            self._seen[key].append(now)
            near |= limit.count - len(self._seen[key]) < limit.count * 0.2
        return True, {"X-RateLimit-NearLimit": "true"} if near else {}

    def _recent(self, key: tuple[object, ...], limit: Limit, now: int) -> deque[int]:
        stamps = self._seen[key]
        while stamps and stamps[0] <= now - limit.window:
            stamps.popleft()
        return stamps


def _refused(limit: Limit, free_at: int, now: int) -> Mapping[str, str]:
    return {
        "Retry-After": str(max(1, -(-(free_at - now) // 1000))),
        "X-RateLimit-Limit": str(limit.count),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": reset_stamp(free_at / 1000),
        "RateLimit-Reason": limit.reason,
    }


def reset_stamp(seconds: float) -> str:
    """An instant, in seconds since 1970, as ``X-RateLimit-Reset`` gives it: to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")


class Points:
    """The hourly quota of an app: a point per request and per issue that it reads. Tokens of accounts are exempt."""

    _WINDOW = 3_600_000

    def __init__(self, clock: Clock, quota: int) -> None:
        self._clock = clock
        self._quota = quota
        self._left = quota
        self._began = clock.millis()

    def refused(self) -> Mapping[str, str] | None:
        """Headers of a refusal once nothing is left; ``None`` where the request may pass."""
        if self._clock.millis() - self._began >= self._WINDOW:
            self._left, self._began = self._quota, self._clock.millis()
        if self._left > 0:
            return None
        return {**self._told(), "Retry-After": str(self._seconds()), "RateLimit-Reason": "jira-quota-global-based"}

    def charge(self, issues: int) -> Mapping[str, str]:
        """Headers of an answer with so many issues, which is paid for now."""
        self._left = max(0, self._left - 1 - issues)
        near = {"X-RateLimit-NearLimit": "true"} if self._left < self._quota * 0.2 else {}
        return {**self._told(), **near}

    def _told(self) -> Mapping[str, str]:
        return {
            "Beta-RateLimit-Policy": f'"global-app-quota";q={self._quota};w={self._WINDOW // 1000}',
            "Beta-RateLimit": f'"global-app-quota";r={self._left};t={self._seconds()}',
        }

    def _seconds(self) -> int:
        return max(1, -(-(self._began + self._WINDOW - self._clock.millis()) // 1000))


class Bucket:
    """Data Center's limit: tokens that a request takes and time gives back; every answer tells how many there are."""

    _SIZE = 100
    _FILL = 10
    """Tokens that come back in each interval of one second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens = self._SIZE
        self._filled_at = clock.millis()

    def spend(self, method: str, template: str, issue: int | None) -> tuple[bool, Mapping[str, str]]:
        """Whether the request may pass, and the headers that say so; all requests weigh the same."""
        intervals = (self._clock.millis() - self._filled_at) // 1000
        self._tokens = min(self._SIZE, self._tokens + intervals * self._FILL)
        self._filled_at += intervals * 1000
        passed = self._tokens > 0
        self._tokens -= passed
        return passed, {
            "X-RateLimit-Limit": str(self._SIZE),
            "X-RateLimit-Remaining": str(self._tokens),
            "X-RateLimit-FillRate": str(self._FILL),
            "X-RateLimit-Interval-Seconds": "1",
            "retry-after": "0" if passed else "1",
        }
