"""Owns what ``--option`` may say and the site's clock; knows nothing of requests."""

import difflib
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class Clock:
    """The machine's time, which a test may move forward so that nobody has to wait for lags and expiries."""

    def __init__(self) -> None:
        self._ahead = 0

    def millis(self) -> int:
        """Milliseconds since 1970-01-01T00:00Z."""
        return time.time_ns() // 1_000_000 + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += round(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Options:
    """Behaviour that differs between sites or that a test wants to provoke."""

    email: str = "bot@example.com"
    token: str = "token"  # noqa: S105 - the simulator's documented default, no secret
    timezone: str = "UTC"
    """Zone of the account's profile: offset of every stamp, meaning of quoted times in JQL."""
    search_lag: float = 0.0
    """Seconds until search sees a write."""
    limits: bool = False
    """Whether burst and per-issue write limits refuse with 429."""
    bulkfetch_created: str = "iso"
    """``iso``, ``ms`` or ``s``: the forms in which changelog/bulkfetch has been seen to write ``created``."""
    empty_page: int = 0
    """Number of the page of each search walk that comes back empty yet with a token; 0 for never."""
    faults: Path | None = None
    state: Path | None = None
    """Append-only JSON lines of accepted writes, read again at the next start."""
    base_url: str = ""
    """Start of ``self`` links where it is not the bound address, e.g. in a container."""

    def zone(self) -> tzinfo:
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError("expected a number of seconds from 0")
    return value


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("expected on or off")
    return text == "on"


def _stamp_form(text: str) -> str:
    if text not in ("iso", "ms", "s"):
        raise ValueError("expected iso, ms or s")
    return text


def _zone_name(text: str) -> str:
    try:
        Options(timezone=text).zone()
    except ZoneInfoNotFoundError:
        raise ValueError("no such time zone") from None
    return text


_READERS: dict[str, Any] = {
    "timezone": _zone_name,
    "search_lag": _number,
    "limits": _switch,
    "bulkfetch_created": _stamp_form,
    "empty_page": int,
    "faults": Path,
    "state": Path,
}


def read_options(given: Mapping[str, str]) -> Options:
    """Options from text; ``ValueError`` names the first key that is unknown or has no meaning."""
    known = [field.name for field in fields(Options)]
    values = {}
    for key, text in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise ValueError(f"unknown option {key!r}{hint}")
        try:
            values[key] = _READERS.get(key, str)(text)
        except ValueError as wrong:
            raise ValueError(f"option {key}={text}: {wrong}") from None
    return Options(**values)
