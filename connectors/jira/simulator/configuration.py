"""Owns what an administrator sets up: people, fields, workflows, screens, projects, approvals, service levels.

Ids and names lead to one thing each; where they come from is ``site_files``'.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

CATEGORIES: Mapping[str, tuple[int, str, str]] = {
    "No Category": (1, "undefined", "medium-gray"),
    "To Do": (2, "new", "blue-gray"),
    "Done": (3, "done", "green"),
    "In Progress": (4, "indeterminate", "yellow"),
}
"""Name of a status category -> its id, key and colour, the same on every site."""

Screen = Mapping[str, bool]
"""Field id -> whether it must be filled."""


@dataclass(frozen=True, slots=True)
class User:
    account_id: str
    name: str
    email: str | None = None
    active: bool = True
    zone: str | None = None
    username: str = ""
    """Login name; with ``key`` the two names of a person on Data Center."""
    key: str = ""
    kind: str = "atlassian"
    """``atlassian``, ``app`` or ``customer``: account type, which Cloud shows."""


@dataclass(frozen=True, slots=True)
class Field:
    id: str
    name: str
    type: str
    """Type of its schema: ``string``, ``text`` (marked-up), ``option``, ``array``, ``user``, ``date``, ``number`` …;
    ``approvals`` and ``sla`` are made by service management and cannot be written."""
    items: str | None = None
    """``string``, ``option``, ``user`` … of an ``array``."""
    options: tuple["Named", ...] = ()
    navigable: bool = True
    orderable: bool = True
    searchable: bool = True

    @property
    def custom(self) -> bool:
        return self.id.startswith("customfield_")

    @property
    def marked_up(self) -> bool:
        return self.type == "text"

    def option(self, reference: str) -> "Named | None":
        """The option with this id or label, whatever the case."""
        wanted = reference.casefold()
        return next((each for each in self.options if wanted in (each.id, each.name.casefold())), None)


@dataclass(frozen=True, slots=True)
class Named:
    """A priority, resolution, status, issue type, option or component: an id with a label."""

    id: str
    name: str
    category: str = ""
    """Of a status."""
    subtask: bool = False
    """Of an issue type."""


@dataclass(frozen=True, slots=True)
class LinkType:
    id: str
    name: str
    inward: str
    outward: str


@dataclass(frozen=True, slots=True)
class Transition:
    id: str
    name: str
    to: Named
    sources: tuple[str, ...] | None
    """Ids of the statuses it starts from; ``None`` for a global one."""
    screen: Screen
    sets: Mapping[str, str]

    def starts_from(self, status: str) -> bool:
        return self.sources is None or status in self.sources


@dataclass(frozen=True, slots=True)
class Workflow:
    name: str
    statuses: tuple[Named, ...]
    transitions: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class TypeInProject:
    type: Named
    workflow: Workflow
    create: Screen
    edit: Screen


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    key: str
    name: str
    type_key: str
    lead: User
    types: Mapping[str, TypeInProject]
    """By id of the issue type."""
    components: tuple[Named, ...] = ()


@dataclass(frozen=True, slots=True)
class ApprovalStep:
    """Who decides about the issues in a status, and what the decision does."""

    status: str
    field: str
    """Id of the field whose persons are asked."""
    approvers: tuple[str, ...]
    """Account ids of those who are asked where the field names nobody."""
    needed: int | None
    """How many have to approve; ``None`` for all."""
    exclude: tuple[str, ...]
    """``reporter`` and ``assignee``: who is not asked."""
    approve: str
    """Name or id of the transition that an approval takes."""
    decline: str


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """A clock over the life of an issue, running at all hours. Durations in milliseconds."""

    id: str
    name: str
    field: str
    pause: frozenset[str]
    stop: frozenset[str]
    """Ids of the statuses in which it stands still, and that end a cycle."""
    comment: bool
    """Whether the first public comment of anyone but the reporter ends the first cycle."""
    goals: Mapping[str, int]
    """By id of the priority."""
    types: frozenset[str]
    """Ids of the issue types that it measures."""


_SYSTEM_FIELDS = (
    Field("summary", "Summary", "string"),
    Field("description", "Description", "text"),
    Field("environment", "Environment", "text"),
    Field("project", "Project", "project", orderable=False),
    Field("issuetype", "Issue Type", "issuetype"),
    Field("status", "Status", "status", orderable=False),
    Field("statuscategorychangedate", "Status Category Changed", "datetime", orderable=False),
    Field("priority", "Priority", "priority"),
    Field("resolution", "Resolution", "resolution"),
    Field("resolutiondate", "Resolved", "datetime", orderable=False),
    Field("assignee", "Assignee", "user"),
    Field("reporter", "Reporter", "user"),
    Field("creator", "Creator", "user", orderable=False),
    Field("created", "Created", "datetime", orderable=False),
    Field("updated", "Updated", "datetime", orderable=False),
    Field("duedate", "Due date", "date"),
    Field("labels", "Labels", "array", items="string"),
    Field("components", "Components", "array", items="component"),
    Field("parent", "Parent", "issuelink"),
    Field("fixVersions", "Fix versions", "array", items="version"),
    Field("subtasks", "Sub-tasks", "array", items="issuelinks", orderable=False, searchable=False),
    Field("issuelinks", "Linked Issues", "array", items="issuelinks"),
    Field("comment", "Comment", "comments-page", navigable=False),
)


@dataclass(slots=True)
class Configuration:
    """The whole set-up. Changes only while data files are read, and when an administrator renames a project or takes
    the account's permission to browse one.
    """

    users: dict[str, User] = field(default_factory=dict)
    fields: dict[str, Field] = field(default_factory=lambda: {each.id: each for each in _SYSTEM_FIELDS})
    priorities: list[Named] = field(default_factory=list)
    resolutions: list[Named] = field(default_factory=list)
    statuses: dict[str, Named] = field(default_factory=dict)
    types: dict[str, Named] = field(default_factory=dict)
    link_types: list[LinkType] = field(default_factory=list)
    workflows: dict[str, Workflow] = field(default_factory=dict)
    projects: dict[str, Project] = field(default_factory=dict)
    """By key."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> account ids."""
    approvals: dict[str, ApprovalStep] = field(default_factory=dict)
    """By id of the status."""
    service_levels: dict[str, ServiceLevel] = field(default_factory=dict)
    """By id."""
    unseen: set[str] = field(default_factory=set)
    """Keys of the projects that the account may not browse."""
    _renamed: dict[str, str] = field(default_factory=dict)
    """Former key of a project, in lower case -> the present one."""
    _people: dict[str, User] = field(default_factory=dict)
    _choices: dict[tuple[str, str], Named] = field(default_factory=dict)

    def add_user(self, user: User) -> None:
        self.users[user.account_id] = user
        for form in (user.name, user.email, user.account_id, user.username, user.key):
            if form:
                self._people[form] = user

    def add_named(self, kind: str, value: Named) -> Named:
        """``value``, or what already has its name."""
        known = self._choices.setdefault((kind, value.name.casefold()), value)
        if known is value:
            self._choices[kind, value.id] = value
            if kind in ("status", "issuetype"):
                (self.statuses if kind == "status" else self.types)[value.id] = value
            else:
                (self.priorities if kind == "priority" else self.resolutions).append(value)
        return known

    def user(self, reference: str) -> User | None:
        """The person with this account id, address, displayed name or name on Data Center."""
        return self._people.get(reference)

    def project(self, reference: str) -> Project | None:
        """The project with this key, former key, id or name, whatever the case, if the account may browse it."""
        wanted = self._renamed.get(reference.casefold(), reference).casefold()
        names = ((each, (each.key, each.id, each.name)) for each in self.projects.values())
        found = next((each for each, forms in names if wanted in map(str.casefold, forms)), None)
        return None if found is None or found.key in self.unseen else found

    def rename(self, key: str, new: str) -> None:
        """Give a project another key; the old one still leads there."""
        project = replace(self.projects.pop(key), key=new)
        self.projects[new] = project
        self._renamed[key.casefold()] = new

    def named(self, kind: str, reference: str) -> Named | None:
        """The status, priority, resolution or issue type with this id or name."""
        return self._choices.get((kind, reference.casefold()))

    def all_named(self, kind: str) -> Collection[Named]:
        """All values of the field ``kind``."""
        return {
            "status": self.statuses.values(),
            "issuetype": self.types.values(),
            "priority": self.priorities,
            "resolution": self.resolutions,
        }[kind]
