"""Owns what ``--option`` may say and the site's clock; knows nothing of requests."""

import difflib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class Clock:
    """The machine's time, which a test may move forward so that nobody has to wait for lags and expiries."""

    def __init__(self, ahead: float = 0.0) -> None:
        self._ahead = round(ahead * 1000)

    def millis(self) -> int:
        """Milliseconds since 1970-01-01T00:00Z."""
        return time.time_ns() // 1_000_000 + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += round(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Options:
    """Behaviour that differs between sites or that a test wants to provoke."""

    edition: str = "cloud"
    """``cloud`` or ``datacenter``."""
    context: str = ""
    """Context path before every address, e.g. ``/jira``."""
    email: str = "bot@example.com"
    """Whose account asks: address, and on Data Center the login name of the same person."""
    token: str = "token"  # noqa: S105 - the simulator's documented default, no secret
    """API token on Cloud; on Data Center the password, and the personal access token."""
    token_life: float = 0.0
    """Seconds after which the token is dead; 0 for never."""
    scoped: bool = False
    """Whether the API token is one with scopes, which is good at Atlassian's gateway only."""
    scopes: str = "read:jira-work read:jira-user read:servicedesk-request write:jira-work"
    """What tokens with scopes may do."""
    cloud_id: str = ""
    """Id of the site at Atlassian's gateway: it is then served under ``/ex/jira/<id>`` as well."""
    client_id: str = "itsms-client"
    client_secret: str = "client-secret"  # noqa: S105 - the simulator's documented default, no secret
    """Of the OAuth application. Tokens are handed out at ``/oauth/token``, on Data Center at
    ``/rest/oauth2/latest/token``."""
    refresh_token: str = ""
    """The first one, which a person's consent has brought; each use replaces it."""
    access_life: float = 3600.0
    """Seconds that an access token is good."""
    login_headers: bool = True
    """Whether answers tell whose they are; some of the vendor's layers do not."""
    captcha_after: int = 0
    """Failed logins on Data Center after which even the right password is refused; 0 for never."""
    timezone: str = "UTC"
    """Zone of the account's profile: offset of every stamp, meaning of quoted times in JQL."""
    clock_offset: float = 0.0
    """Seconds by which the site's clock is wrong, in stamps and in the ``Date`` header."""
    date_offset: float = 0.0
    """Seconds by which only the ``Date`` header is wrong, on top."""
    instance: str = "simulator"
    """Which site this is: another word is another site, as a copy of all its content is one."""
    search_lag: float = 0.0
    """Seconds until search sees a write."""
    node_lag: float = 0.0
    """Seconds by which a second node's index lags more; the nodes then answer in turn. 0 for one node."""
    limits: bool = False
    """Whether the edition's rate limits refuse with 429."""
    points: int = 0
    """Points per hour of an app that comes with access tokens of OAuth; 0 for no such quota."""
    search_cap: int = 1000
    """Highest ``maxResults`` of Data Center's search."""
    comment_page: int = 0
    """Comments on a page for which no size was asked; 0 for the edition's default."""
    changelog_cap: int = 0
    """Histories, the newest, that a search shows with ``expand=changelog``; 0 for the edition's default: 40, or all."""
    changelog_total: str = ""
    """``honest`` or ``lying``: whether a search's ``total`` counts what the cap hides; by default Cloud's does not."""
    bulkfetch_created: str = "iso"
    """``iso``, ``ms`` or ``s``: the forms in which changelog/bulkfetch has been seen to write ``created``."""
    empty_page: int = 0
    """Number of the page of each search walk that comes back empty yet with a token; 0 for never."""
    faults: Path | None = None
    """File with fault rules in YAML or JSON."""
    scenario: str = ""
    """Name of a ready-made set of fault rules."""
    state: Path | None = None
    """Append-only JSON lines of accepted writes, read again at the next start."""
    base_url: str = ""
    """Start of ``self`` links where it is not the bound address, e.g. in a container."""

    link_updates: bool = False
    """Whether a link counts as an update of both issues, which the vendor does not document."""
    agent: bool = True
    """Whether the account has a licence of service management, without which requests are refused."""

    desk: str = "quiet"
    """``lively`` sets up the template for IT service management, makes up a history and keeps the desk going."""
    seed: int = 1
    """Decides the lively desk and the chances of faults."""
    days: int = 100
    """How far back its history goes."""
    per_day: int = 16
    """How much work comes in on a working day."""
    tempo: float = 2.0
    """Seconds between two things that happen on a lively desk."""
    live: bool = True
    """Whether a lively desk goes on after its history was made."""

    def zone(self) -> tzinfo:
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError("expected a number of seconds from 0")
    return value


def _offset(text: str) -> float:
    value = float(text)
    if not -1e9 < value < 1e9:
        raise ValueError("expected a number of seconds")
    return value


def _switch(text: str) -> bool:
    if text not in ("on", "off", "true", "false"):
        raise ValueError("expected on or off")
    return text in ("on", "true")


def _beat(text: str) -> float:
    if not 0.001 <= (value := float(text)) < 1e9:
        raise ValueError("expected a number of seconds from 0.001")
    return value


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("expected a whole number from 0")
    return int(text)


def _context(text: str) -> str:
    if text and not re.fullmatch(r"(/[\w.-]+)+", text):
        raise ValueError("expected a path such as /jira")
    return text


def _zone_name(text: str) -> str:
    try:
        Options(timezone=text).zone()
    except ZoneInfoNotFoundError:
        raise ValueError("no such time zone") from None
    return text


_READERS: dict[str, Any] = {
    "edition": _one_of("cloud", "datacenter"),
    "context": _context,
    "token_life": _number,
    "scoped": _switch,
    "access_life": _number,
    "login_headers": _switch,
    "captcha_after": _count,
    "timezone": _zone_name,
    "clock_offset": _offset,
    "date_offset": _offset,
    "search_lag": _number,
    "node_lag": _number,
    "limits": _switch,
    "points": _count,
    "search_cap": _count,
    "comment_page": _count,
    "changelog_cap": _count,
    "changelog_total": _one_of("honest", "lying"),
    "bulkfetch_created": _one_of("iso", "ms", "s"),
    "empty_page": _count,
    "faults": Path,
    "state": Path,
    "link_updates": _switch,
    "agent": _switch,
    "desk": _one_of("quiet", "lively"),
    "seed": _count,
    "days": _count,
    "per_day": _count,
    "tempo": _beat,
    "live": _switch,
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
