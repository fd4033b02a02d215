"""What operators configure: sources, credentials by reference, schedules, where tickets go. The YAML file is in
``config/``.

Owns the shape and what a value means; reading the file is ``documents``, building from it ``wiring``. A relative path
is relative to the folder of the configuration file.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, HttpUrl, StringConstraints, model_validator

from itsms_sync.connector import Form, Logins
from itsms_sync.sms.mapping import MappingName
from itsms_sync.sms.processes import Slug
from itsms_sync.sms.strict import Fault, Strict


class SecretUnavailable(Exception):
    """A credential cannot be read from where the configuration says it is."""


def _fresh_file(path: Path) -> Path:
    """An empty file beside ``path``, for us only. Raises ``SecretUnavailable``."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.resolve().parent)
    except OSError as error:
        told = f"the folder of the secret file {path} cannot be written: {error.strerror}"
        raise SecretUnavailable(told) from error
    os.close(handle)
    return Path(name)


def _settle(folder: Path) -> None:
    """Have the disk know the name of a new file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Secret(Strict):
    """Where a secret is; never the secret itself."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise ValueError("name one place: env (a variable) or file (a path)")
        return self

    def read(self, folder: Path) -> str:
        """The secret, read anew each time. Raises ``SecretUnavailable`` naming the place, never the value."""
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is None:
                raise SecretUnavailable(f"the environment variable {self.env} is not set")
            return value
        assert self.file is not None
        path = folder / self.file
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SecretUnavailable(f"cannot read the secret file {path}: {error.strerror}") from error
        except UnicodeDecodeError:
            # Not chained: the error carries the bytes of the secret.
            raise SecretUnavailable(f"the secret file {path} is not text in UTF-8") from None

    def check_replaceable(self, folder: Path) -> None:
        """Raises ``SecretUnavailable`` if it is not in a file, or if nothing can be put beside that file."""
        if self.file is None:
            raise SecretUnavailable(f"the environment variable {self.env} cannot be replaced: put the secret in a file")
        _fresh_file(folder / self.file).unlink()

    def replace(self, value: str, folder: Path) -> None:
        """Put another secret in its place, whole or not at all, readable for us only. Raises ``SecretUnavailable``."""
        self.check_replaceable(folder)
        assert self.file is not None
        path = folder / self.file
        fresh = _fresh_file(path)
        try:
            with fresh.open("w", encoding="utf-8") as file:
                file.write(value + "\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path.resolve())
            _settle(path.resolve().parent)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise SecretUnavailable(f"cannot write the secret file {path}: {error.strerror}") from error


class OAuth(Strict):
    """How to get access tokens of OAuth 2.0. They are kept in memory only."""

    grant: Literal["client_credentials", "password", "refresh_token"]
    client_id: str | Secret
    client_secret: Secret
    refresh_token: Secret | None = None
    """For the grant of this name. Where the system replaces it at each use, the file is written anew."""
    token_url: HttpUrl | None = None
    """Where tokens are handed out, if not where the system does it as a rule."""
    scope: str | None = None

    @model_validator(mode="after")
    def _refresh_token_belongs_to_its_grant(self) -> "OAuth":
        if (self.refresh_token is not None) is not (self.grant == "refresh_token"):
            raise ValueError("the grant refresh_token, and no other, needs refresh_token")
        return self


class ClientCertificate(Strict):
    """Files in PEM form that prove who we are while a connection is made (mutual TLS)."""

    certificate: str
    key: str | None = None
    """File of the private key, if it is not in the file of the certificate."""
    password: Secret | None = None
    """Of the key, if it is encrypted."""


class Credential(Strict):
    """One way in: username and password, username and token, a token alone, oauth, an API key, or a client
    certificate. A client certificate may also come with any of the others. ``docs/connectors`` says what a system
    accepts.
    """

    username: str | Secret | None = None
    password: Secret | None = None
    token: Secret | None = None
    oauth: OAuth | None = None
    api_key: Secret | None = None
    client_certificate: ClientCertificate | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> "Credential":
        grant = self.oauth.grant if self.oauth is not None else None
        given = [name for name in ("password", "token", "oauth", "api_key") if getattr(self, name) is not None]
        if grant == "password":
            if self.username is None or self.password is None:
                raise ValueError("the grant password needs username and password beside oauth")
            given.remove("password")
        if len(given) > 1 or not (given or self.client_certificate):
            raise ValueError("name one secret: password, token, oauth, api_key or client_certificate")
        if given == ["password"] and self.username is None:
            raise ValueError("a password needs a username")
        return self

    @property
    def form(self) -> Form:
        """Which way in this is."""
        if self.oauth is not None:
            return _GRANTS[self.oauth.grant]
        if self.api_key is not None:
            return Form.API_KEY
        if self.password is not None:
            return Form.PAIR
        if self.token is not None:
            return Form.BEARER if self.username is None else Form.ACCOUNT
        return Form.CERTIFICATE

    def read(self, folder: Path) -> Mapping[str, str]:
        """The secrets by the names they have here, those of ``oauth`` among them; ``username`` and
        ``client_certificate``, a path, are none. Raises ``SecretUnavailable``.
        """
        given = {"username": self.username, "password": self.password, "token": self.token, "api_key": self.api_key}
        if self.oauth is not None:
            given |= {name: getattr(self.oauth, name) for name in ("client_id", "client_secret", "refresh_token")}
            given["scope"] = self.oauth.scope
        found = {
            name: where if isinstance(where, str) else where.read(folder)
            for name, where in given.items()
            if where is not None
        }
        if self.form is Form.CERTIFICATE and self.client_certificate is not None:
            found["client_certificate"] = str(folder / self.client_certificate.certificate)
        return found

    def problems(self, logins: Logins) -> Iterator[str]:
        """What the system of these logins does not accept."""
        if self.form not in logins.forms:
            yield f"this system has no login by {self.form}; it has: {', '.join(sorted(logins.forms))}"
        refresh = self.oauth.refresh_token if self.oauth is not None and logins.rotating else None
        if refresh is not None and refresh.file is None:
            yield "this system replaces a refresh token at each use: name a file, which can be written, not env"


_GRANTS = {
    "client_credentials": Form.CLIENT,
    "password": Form.PERSON,
    "refresh_token": Form.CONSENT,
}


PositiveDuration = Annotated[timedelta, Field(gt=timedelta(0))]


Hours = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")]
"""``HH:MM-HH:MM`` in UTC; they may reach over midnight."""


class Backfill(Strict):
    """How the past of a source is read by the daemon: newest first, between polls."""

    until: date | None = None
    """How far back, all of it without. What happened before is unknown."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of the time between two polls that reading the past may take, of all sources together."""
    between: Hours | None = None
    """Time of day (UTC) in which the past is read, such as ``20:00-06:00``; always without."""


class Source(Strict):
    """One configured instance of a ticketing system."""

    system: Slug
    """Name of the plug-in: ``servicenow``, ``jira``."""
    url: HttpUrl
    site: HttpUrl | None = None
    """Where people read its records, if that is another address than the one that we ask."""
    credential: Credential
    mapping: MappingName | None = None
    """Name of the mapping document; the system's own if none is named."""
    read: bool = True
    """False for a system that only receives tickets."""
    go_live: date | None = None
    """From this day on cases open tickets. Cases that ended before it are judged and summed up; without it all are."""
    system_accounts: tuple[str, ...] = ()
    """Accounts that are no persons, beyond those that the source marks itself."""
    overlap: PositiveDuration = timedelta(minutes=10)
    """How far each poll reaches back, for rows that the source commits late."""
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 1000
    read_ahead: bool = True
    """Whether the next pages are read while the ones before are stored: quicker, and a few more are in memory."""
    backfill: Backfill = Field(default_factory=Backfill)
    proxy: str | None = None
    ca_bundle: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    """The plug-in's own options; see ``docs/connectors``."""

    @model_validator(mode="after")
    def _certificate_needs_tls(self) -> "Source":
        if self.credential.client_certificate is not None and self.url.scheme != "https":
            raise ValueError("a client certificate is only shown to an https address")
        return self

    @property
    def people_url(self) -> str:
        """Where people read records, without a slash at the end."""
        return str(self.site or self.url).rstrip("/")

    @property
    def mapped_by(self) -> str:
        """Name of the mapping document that reads this source."""
        return self.mapping or self.system


class Tickets(Strict):
    """Where corrective-action tickets go, and how many."""

    target: Slug
    """Name of the source that receives them."""
    processes: tuple[Slug, ...] = ()
    """Writing is off for a process until it is named here."""
    cap_per_owner: Annotated[int, Field(ge=1, le=100)] = 5
    """Open corrective actions per owner; what is over it waits and is listed in a digest."""
    max_writes_per_cycle: Annotated[int, Field(ge=1, le=1000)] = 25
    """A cycle that wants to write more writes nothing and waits for release: a wrong rule must not flood a tracker."""
    deadline: PositiveDuration = timedelta(seconds=30)
    """Of one write's request, in all. An unclear outcome is looked up when it and the index's lag have passed."""
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] = "en"
    unclear_limit: Annotated[int, Field(ge=1, le=10)] = 3
    """After so many sendings without a known outcome a person is asked instead of sending again."""


class Schedule(Strict):
    """When the daemon works."""

    poll_every: PositiveDuration = timedelta(minutes=1)
    reload_documents_at: Annotated[str, StringConstraints(pattern=r"^\d\d:\d\d$")] = "00:05"
    """Time of day (UTC) at which documents are read again, besides SIGHUP."""
    reconcile_open_every: PositiveDuration = timedelta(days=1)
    """How often records that are open, or changed within two months, are compared with the source by their ids."""
    reconcile_all_every: PositiveDuration = timedelta(days=7)
    """How often all records are compared: what was deleted, archived, moved or dated back is known after this time."""


class Settings(Strict):
    """The whole file."""

    database: str = "sqlite:///itsms_sync.db"
    documents: str = "../mappings"
    """Folder with processes, mappings and procedures."""
    period: Literal["month"] = "month"
    """Deviations of severity S3 are decided once per closed period."""
    sources: Annotated[dict[Slug, Source], Field(min_length=1)]
    tickets: Tickets | None = None
    schedule: Schedule = Field(default_factory=Schedule)

    def problems(self) -> list[Fault]:
        """Cross references that do not hold."""
        if self.tickets is None or self.tickets.target in self.sources:
            return []
        return [Fault(("tickets", "target"), f"source {self.tickets.target!r} is not defined under sources")]
