"""Owns what an administrator sets up: people, fields, workflows, screens, projects; reads it from data files.

Ids are given in the order of appearance, so that the same files always make the same site. Issues in data files are
only collected here; ``seeding`` makes them.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

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


@dataclass(frozen=True, slots=True)
class Field:
    id: str
    name: str
    type: str
    """Type of its schema: ``string``, ``text`` (marked-up), ``option``, ``array``, ``user``, ``date``, ``number`` …"""
    items: str | None = None
    options: tuple[str, ...] = ()
    navigable: bool = True
    orderable: bool = True
    searchable: bool = True

    @property
    def custom(self) -> bool:
        return self.id.startswith("customfield_")

    @property
    def marked_up(self) -> bool:
        return self.type == "text"


@dataclass(frozen=True, slots=True)
class Named:
    """A priority, resolution, status or issue type: an id with a label. ``category`` only for statuses."""

    id: str
    name: str
    category: str = ""


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
    Field("fixVersions", "Fix versions", "array", items="version"),
    Field("subtasks", "Sub-tasks", "array", items="issuelinks", orderable=False, searchable=False),
    Field("issuelinks", "Linked Issues", "array", items="issuelinks"),
    Field("comment", "Comment", "comments-page", navigable=False),
)


@dataclass(slots=True)
class Configuration:
    """The whole set-up. Changes only while data files are read."""

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
    _people: dict[str, User] = field(default_factory=dict)
    _choices: dict[tuple[str, str], Named] = field(default_factory=dict)

    def add_user(self, user: User) -> None:
        self.users[user.account_id] = user
        for form in (user.name, user.email, user.account_id):
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
        """The person with this account id, address or displayed name."""
        return self._people.get(reference)

    def project(self, reference: str) -> Project | None:
        """The project with this key, id or name, whatever the case."""
        wanted = reference.casefold()
        names = ((each, (each.key, each.id, each.name)) for each in self.projects.values())
        return next((each for each, forms in names if wanted in map(str.casefold, forms)), None)

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


def read_site(files: Sequence[Path]) -> tuple[Configuration, list[tuple[str, Mapping[str, Any]]]]:
    """The built-in site with ``files`` on top, and the issues they hold, each with the place it was written at.

    ``ValueError`` names file and place of the first thing that is not understood.
    """
    configuration = Configuration()
    issues: list[tuple[str, Mapping[str, Any]]] = []
    for path in (Path(__file__).with_name("capa.yaml"), *files):
        document = _document(path)
        reader = _Reader(configuration, str(path))
        reader.read(document)
        issues += [(f"{path}: issues[{n}]", issue) for n, issue in enumerate(document.get("issues", []))]
    return configuration, issues


def _document(path: Path) -> Any:
    if path.suffix == ".json":
        return orjson.loads(path.read_bytes())
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(path.read_text("utf-8")) or {}


def check_keys(given: Mapping[str, Any], known: Sequence[str], required: Sequence[str], where: str) -> None:
    """``ValueError`` for a key that is unknown, with the nearest known one, or missing."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ValueError(f"{where}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for key in required:
        if key not in given:
            raise ValueError(f"{where}: {key!r} is missing")


class _Reader:
    """Reads one document into the configuration."""

    def __init__(self, configuration: Configuration, where: str) -> None:
        self.site = configuration
        self.where = where

    def read(self, document: Mapping[str, Any]) -> None:
        parts = {
            "users": self._user,
            "fields": self._field,
            "priorities": lambda name, _: self._choice("priority", name, 1),
            "resolutions": lambda name, _: self._choice("resolution", name, 10000),
            "link_types": self._link_type,
        }
        check_keys(document, [*parts, "workflows", "projects", "issues"], (), self.where)
        for part, read in parts.items():
            for number, each in enumerate(document.get(part, [])):
                read(each, f"{self.where}: {part}[{number}]")
        for name, each in document.get("workflows", {}).items():
            self.site.workflows[name] = self._workflow(name, each, f"{self.where}: workflows: {name}")
        for number, each in enumerate(document.get("projects", [])):
            self._project(each, f"{self.where}: projects[{number}]")

    def _user(self, given: Mapping[str, Any], where: str) -> None:
        check_keys(given, ("accountId", "displayName", "emailAddress", "active", "timeZone"), ("accountId",), where)
        account = str(given["accountId"])
        name, email = given.get("displayName", account), given.get("emailAddress")
        self.site.add_user(User(account, name, email, given.get("active", True), given.get("timeZone")))

    def _field(self, given: Mapping[str, Any], where: str) -> None:
        check_keys(given, ("id", "name", "type", "items", "options"), ("id", "name", "type"), where)
        if given["type"] not in ("string", "text", "option", "array", "user", "date", "datetime", "number"):
            raise ValueError(f"{where}: type {given['type']!r} is not served")
        if not str(given["id"]).removeprefix("customfield_").isdecimal():
            raise ValueError(f"{where}: the id of a custom field is customfield_<number>, not {given['id']!r}")
        items = given.get("items", "string") if given["type"] == "array" else None
        options = tuple(map(str, given.get("options", ())))
        self.site.fields[given["id"]] = Field(given["id"], given["name"], given["type"], items, options)

    def _choice(self, kind: str, name: str, first_id: int) -> None:
        self.site.add_named(kind, Named(str(first_id + len(self.site.all_named(kind))), name))

    def _link_type(self, given: Mapping[str, Any], where: str) -> None:
        check_keys(given, ("name", "inward", "outward"), ("name", "inward", "outward"), where)
        self.site.link_types.append(LinkType(str(10000 + len(self.site.link_types)), **given))

    def _workflow(self, name: str, given: Mapping[str, Any], where: str) -> Workflow:
        check_keys(given, ("statuses", "transitions"), ("statuses", "transitions"), where)
        statuses = {label: self._status(label, kind, where) for label, kind in given["statuses"].items()}
        transitions = [
            self._transition(number, each, statuses, f"{where}: transitions[{number}]")
            for number, each in enumerate(given["transitions"])
        ]
        return Workflow(name, tuple(statuses.values()), tuple(transitions))

    def _status(self, name: str, category: str, where: str) -> Named:
        if category not in CATEGORIES:
            raise ValueError(f"{where}: {category!r} is no status category; there are {', '.join(CATEGORIES)}")
        return self.site.add_named("status", Named(str(10000 + len(self.site.statuses)), name, category))

    def _transition(
        self, number: int, given: Mapping[str, Any], statuses: Mapping[str, Named], where: str
    ) -> Transition:
        check_keys(given, ("name", "from", "to", "screen", "sets"), ("name", "to"), where)
        for name in (given["to"], *given.get("from", ())):
            if name not in statuses:
                raise ValueError(f"{where}: {name!r} is not among the workflow's statuses")
        sources = tuple(statuses[name].id for name in given["from"]) if "from" in given else None
        screen = self._screen(given.get("screen", {}), where)
        return Transition(
            str(10 * number + 11), given["name"], statuses[given["to"]], sources, screen, given.get("sets", {})
        )

    def _screen(self, given: Mapping[str, str], where: str) -> Screen:
        for key, rule in given.items():
            if key not in self.site.fields:
                raise ValueError(f"{where}: there is no field {key!r}")
            if rule not in ("required", "optional"):
                raise ValueError(f"{where}: {key} must be required or optional, not {rule!r}")
        return {key: rule == "required" for key, rule in given.items()}

    def _project(self, given: Mapping[str, Any], where: str) -> None:
        check_keys(given, ("key", "name", "type", "lead", "issue_types"), ("key", "issue_types"), where)
        lead = self.site.user(str(given["lead"])) if "lead" in given else next(iter(self.site.users.values()))
        if lead is None:
            raise ValueError(f"{where}: nobody is called {given['lead']!r}")
        uses = [self._use(each, f"{where}: issue_types[{n}]") for n, each in enumerate(given["issue_types"])]
        known = self.site.projects.get(given["key"])
        self.site.projects[given["key"]] = Project(
            known.id if known else str(10000 + len(self.site.projects)),
            given["key"],
            given.get("name", given["key"]),
            given.get("type", "software"),
            lead,
            {use.type.id: use for use in uses},
        )

    def _use(self, given: Mapping[str, Any], where: str) -> TypeInProject:
        check_keys(given, ("name", "workflow", "create", "edit"), ("name", "workflow"), where)
        if given["workflow"] not in self.site.workflows:
            raise ValueError(f"{where}: there is no workflow {given['workflow']!r}")
        kind = self.site.add_named("issuetype", Named(str(10000 + len(self.site.types)), given["name"]))
        create = self._screen(given.get("create", {"summary": "required", "description": "optional"}), where)
        edit = self._screen(given["edit"], where) if "edit" in given else create
        return TypeInProject(kind, self.site.workflows[given["workflow"]], create, edit)
