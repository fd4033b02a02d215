"""The protocol that a plug-in fulfils.

A plug-in is a folder with three parts: ``connector`` (calls), ``translate`` (pure: raw rows to facts) and ``simulator``
(stands for the vendor's product and imports nothing of ours). It is found by its entry point in the group
``itsms_sync.connectors``, whose value is a :class:`Plugin`. Copy a neighbour to add one; ``itsms_sync.testing`` holds
the suite that it must pass.

Connectors raise only :class:`Unavailable` and :class:`Refused`; what a system cannot serve is returned as a
:class:`~itsms_sync.records.Gap` with its reason, never raised and never left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from itsms_sync.records import (
    Border,
    Bounds,
    Configuration,
    Directory,
    Facts,
    Fate,
    Gap,
    Gone,
    Identity,
    Millis,
    Page,
    Presence,
    Row,
    Ticket,
    Window,
    Write,
    Written,
)

if TYPE_CHECKING:
    from itsms_sync.http import Http


class SourceError(Exception):
    """The source did not do what it was asked."""


class Unavailable(SourceError):
    """The source cannot serve now; the same call may succeed later.

    ``retry_after`` is a minimum wait in seconds if the source named one. ``sent`` tells whether a write may have
    reached the source: then its outcome is unclear, and its key must be looked up before anything is sent again.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, sent: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.sent = sent


class Refused(SourceError):
    """The source will not do this however often it is asked; somebody has to change something first."""


class LoggedOut(Refused):
    """The source does not accept the credential, or answered as if nobody had logged in.

    It concerns all that the source is asked until somebody renews the credential, and nothing of it was done: a write
    that meets it is still to be sent.
    """


class Connector(Protocol):
    """One configured source. Not thread-safe."""

    def identify(self) -> Identity:
        """Instance, account and server time. Proves that the credentials work; raises ``Refused`` if they do not."""
        ...

    def pull(self, kind: str, window: Window) -> Iterator[Page] | Gap:
        """Records and history of ``kind`` since the window's cursors and within its bounds, page by page, each complete
        and checked.
        """
        ...

    def bounds(self, kind: str, window: Window) -> Bounds | Gap | None:
        """The first and the last stamp of any row of ``kind`` within the window's bounds; ``None`` if there is none.
        Asked for few rows, so that times in which nothing happened cost next to nothing.
        """
        ...

    def present(self, kind: str, window: Window, cursor: str) -> Iterator[Presence] | Gap:
        """Every record of ``kind`` that the account sees now, in an order that no change of a record disturbs, behind
        ``cursor`` (empty: from the start). Of ``window`` only fields and page size count. No short page ends it.
        """
        ...

    def fate(self, kind: str, ids: Sequence[str], window: Window) -> Sequence[Fate] | Gap:
        """What became of each of these records; absence alone is never taken for deletion."""
        ...

    def read(self, kind: str, window: Window, ids: Sequence[str]) -> Iterator[Page] | Gap:
        """These records with their whole histories, as ``pull`` would give them. Their cursors say nothing."""
        ...

    def directory(self) -> Directory | Gap:
        """People (as pseudonyms) and groups."""
        ...

    def configuration(self, kind: str) -> Configuration | Gap:
        """States, choices and visible fields of ``kind``."""
        ...

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        """All tickets that carry our ``key``, oldest first.
        An empty answer may be the index's lag, see ``index_lag``.
        """
        ...

    def ticket(self, id: str) -> Ticket | Gone | Gap:
        """A ticket of ours by its immutable id, with the digests of its fields, wherever people moved it to."""
        ...

    def ours(self, since: Millis | None) -> Iterator[Ticket] | Gap:
        """Every ticket that our account created for us, whatever its state and place, each once, by the order of an
        immutable value; with ``since`` those that were updated at or after it. Read page by page. A ticket without
        our key (somebody removed it) has ``key=None``; digests may be missing.
        """
        ...

    def commented(self, ticket: str, mark: str) -> bool | Gap:
        """Whether a comment of the ticket contains the word ``mark``. Read from where comments are kept, not from a
        search that lags. Raises ``Refused`` if the ticket is not there.
        """
        ...

    def write(self, write: Write) -> Written | Gap:
        """Perform one write once, without any retry, and read the ticket back by id."""
        ...

    @property
    def index_lag(self) -> float:
        """Seconds until ``find`` must show what was written; absence proves nothing before."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """What a plug-in is given to connect one source. Nothing in it is read from the environment or a clock by it."""

    name: str
    url: str
    options: Mapping[str, Any]
    """The plug-in's own options, as validated by ``Plugin.check_options``."""
    http: "Http"
    """Bounded sessions, the budget and the retry policy of this source's credential."""
    border: Border
    credential: Callable[[], Mapping[str, str]]
    """Reads the secrets by reference each time: ``username`` with ``password`` or ``token``, ``token`` alone,
    ``access_token`` of OAuth, ``api_key``, or ``client_certificate``, which then is all there is. ``itsms_sync.login``
    makes a header of them.
    """
    refused: Callable[[Mapping[str, str]], None] = lambda secrets: None
    """To be told that the source did not accept these secrets: an access token is then not handed out again."""


class Form(StrEnum):
    """The ways in, in the words of the configuration."""

    PAIR = "username and password"
    ACCOUNT = "username and token"
    BEARER = "token"
    CLIENT = "oauth with grant client_credentials"
    PERSON = "oauth with grant password"
    CONSENT = "oauth with grant refresh_token"
    API_KEY = "api_key"
    CERTIFICATE = "client_certificate"


@dataclass(frozen=True, slots=True)
class Logins:
    """The ways in that a plug-in knows."""

    forms: frozenset[Form] = frozenset((Form.PAIR, Form.ACCOUNT, Form.BEARER))
    token_url: Callable[[str], str] = lambda url: url
    """Address of the source -> where it hands out access tokens of OAuth."""
    rotating: bool = False
    """Whether each use of a refresh token replaces it."""
    is_gateway: Callable[[str], bool] = lambda url: False
    """Whether people cannot read records at this address of a source."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """What the entry point names."""

    name: str
    connect: Callable[[Access], Connector]
    translate: Callable[[str, Sequence[Row]], Facts]
    """``(kind, rows) -> facts``; pure, so that ``replay`` can rebuild everything from the stored rows."""
    check_options: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """Validates the plug-in's options; raises ``ValueError`` (a pydantic error) for wrong ones."""
    record_url: Callable[[str, str, str, str], str]
    """``(base url, kind, id, label) -> address`` at which a person can read the record."""
    logins: Logins = Logins()
    whole_records: bool = False
    """Whether a record comes with its whole history, however old that is."""
