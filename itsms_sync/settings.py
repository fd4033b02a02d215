"""What operators configure: sources, credentials by reference, schedules, where tickets go. The YAML file is in
``config/``.

Owns the shape and what a value means; reading the file is ``documents``, building from it ``wiring``. A relative path
is relative to the folder of the configuration file.
"""

import os
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, HttpUrl, StringConstraints, model_validator

from itsms_sync.sms.mapping import MappingName
from itsms_sync.sms.processes import Slug
from itsms_sync.sms.strict import Fault, Strict


class SecretUnavailable(Exception):
    """A credential cannot be read from where the configuration says it is."""


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


class Credential(Strict):
    """A user with a password (ServiceNow, Jira Data Center), an account with an API token (Jira Cloud), or a token
    alone (a personal access token of Jira Data Center).
    """

    username: str | Secret | None = None
    password: Secret | None = None
    token: Secret | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> "Credential":
        if (self.password is None) == (self.token is None):
            raise ValueError("name one secret: password or token")
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        return self

    def read(self, folder: Path) -> Mapping[str, str]:
        """``username``, if there is one, and ``password`` or ``token``. Raises ``SecretUnavailable``."""
        found = {}
        if self.username is not None:
            found["username"] = self.username if isinstance(self.username, str) else self.username.read(folder)
        if self.password is not None:
            found["password"] = self.password.read(folder)
        if self.token is not None:
            found["token"] = self.token.read(folder)
        return found


PositiveDuration = Annotated[timedelta, Field(gt=timedelta(0))]


class Source(Strict):
    """One configured instance of a ticketing system."""

    system: Slug
    """Name of the plug-in: ``servicenow``, ``jira``."""
    url: HttpUrl
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
    proxy: str | None = None
    ca_bundle: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    """The plug-in's own options; see ``docs/connectors``."""

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
