"""The SMS processes with owner, clause and documents, and the roles that own them (``mappings/processes.yaml``)."""

from typing import Annotated

from pydantic import Field, StringConstraints

from itsms_sync.sms.strict import Fault, Strict

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
"""A stable word of our own: lower case, digits, underscore."""


class Role(Strict):
    """Somebody's function in the SMS. Texts name roles; the account is only used to assign a ticket."""

    title: str
    account: str | None = None
    """Account in the ticket target (Jira: account id); without it a ticket stays unassigned and says so."""


class Controlled(Strict):
    """A controlled document that describes the process."""

    id: str
    title: str
    url: str | None = None


class Process(Strict):
    """One process of the service management system."""

    title: str
    clauses: Annotated[tuple[str, ...], Field(min_length=1)]
    owner: Slug
    documents: tuple[Controlled, ...] = ()
    place_by: Slug | None = None
    """Attribute that says where in the organization a case was worked on (e.g. ``group``). Tickets tell it; it
    separates nothing."""
    leads: Slug | None = None
    """System whose record leads where the same work has a record in two systems; without it the older one does."""
    scope_by: Slug | None = None
    """Attribute whose value separates nonconformities (e.g. ``service``); without it there is one scope, ``all``."""


class Processes(Strict):
    """The whole document."""

    document: str
    version: str
    tenant: Slug = "default"
    roles: dict[Slug, Role]
    processes: dict[Slug, Process]

    def problems(self) -> list[Fault]:
        """Cross references that do not hold."""
        return [
            Fault(("processes", name, "owner"), f"role {process.owner!r} is not defined under roles")
            for name, process in self.processes.items()
            if process.owner not in self.roles
        ]
