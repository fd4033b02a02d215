"""Owns reading data files into the set-up of a site. Issues in them are only collected here; ``seeding`` makes them.

``capa.yaml`` is part of every site and an example of what a data file may hold; ``itsm_template.yaml``, which the name
``itsm`` among the files stands for, holds the rest: ids, approvals, service levels. Ids that are not given are the next
free ones in the order of appearance, so that the same files always make the same site; what two files call by one name
is one thing.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from connectors.jira.simulator.configuration import (
    CATEGORIES,
    ApprovalStep,
    Configuration,
    Field,
    LinkType,
    Named,
    Project,
    Screen,
    ServiceLevel,
    Transition,
    TypeInProject,
    User,
    Workflow,
)


def read_site(files: Sequence[Path]) -> tuple[Configuration, list[tuple[str, Mapping[str, Any]]]]:
    """The built-in site with ``files`` on top, and the issues they hold, each with the place it was written at.

    ``ValueError`` names file and place of the first thing that is not understood.
    """
    configuration = Configuration()
    templates = [_TEMPLATES[str(path)] for path in files if str(path) in _TEMPLATES]
    own = [path for path in files if str(path) not in _TEMPLATES]
    readers = [_Reader(configuration, path, _document(path)) for path in (_BUILT_IN, *templates, *own)]
    for reader in readers:
        reader.read_people()
    # a template's ids are fixed; those of the built-in project are what it leaves free
    for reader in (*readers[1 : len(templates) + 1], readers[0], *readers[len(templates) + 1 :]):
        reader.read_setup()
    return configuration, [issue for reader in readers for issue in reader.issues()]


_BUILT_IN = Path(__file__).with_name("capa.yaml")
_TEMPLATES: Mapping[str, Path] = {"itsm": Path(__file__).with_name("itsm_template.yaml")}


def _document(path: Path) -> Any:
    if path.suffix == ".json":
        return orjson.loads(path.read_bytes())
    return deepcopy(_shipped(path)) if path in (_BUILT_IN, *_TEMPLATES.values()) else _yaml(path)


@cache
def _shipped(path: Path) -> Any:
    """Read once: a process that starts many sites would spend most of its time on the same YAML."""
    return _yaml(path)


def _yaml(path: Path) -> Any:
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


_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")


def duration(text: Any, where: str) -> int:
    """Milliseconds of an ISO 8601 duration in hours, minutes and seconds."""
    found = _DURATION.fullmatch(str(text))
    if found is None or not any(found.groups()):
        raise ValueError(f"{where}: {text!r} is no duration such as PT4H30M")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 1000 * (3600 * hours + 60 * minutes + seconds)


class _Reader:
    """Reads one document into the configuration: people first, since everything else may name them."""

    def __init__(self, configuration: Configuration, path: Path, document: Mapping[str, Any]) -> None:
        self.site = configuration
        self.where = str(path)
        self._document = document
        self._parts: Mapping[str, Callable[[Any, str], None]] = {
            "users": self._user,
            "groups": self._group,
            "fields": self._field,
            "link_types": self._link_type,
            "projects": self._project,
            "slas": self._service_level,
        }
        check_keys(document, [*self._parts, *_OTHER_PARTS], (), self.where)

    def read_people(self) -> None:
        self._read("users")
        self._read("groups")

    def read_setup(self) -> None:
        self._read("fields")
        for kind, part, first in (("priority", "priorities", 1), ("resolution", "resolutions", 10000)):
            for number, name in _numbered(self._document.get(part, [])):
                self._choice(kind, Named(number, name), first, f"{self.where}: {part}")
        self._read("link_types")
        for name, each in self._document.get("workflows", {}).items():
            self.site.workflows[name] = self._workflow(name, each, f"{self.where}: workflows: {name}")
        self._read("projects")
        for name, each in self._document.get("approvals", {}).items():
            self._approval(str(name), each, f"{self.where}: approvals: {name}")
        self._read("slas")

    def issues(self) -> list[tuple[str, Mapping[str, Any]]]:
        issues = self._document.get("issues", [])
        return [(f"{self.where}: issues[{number}]", issue) for number, issue in enumerate(issues)]

    def _read(self, part: str) -> None:
        for number, each in enumerate(self._document.get(part, [])):
            self._parts[part](each, f"{self.where}: {part}[{number}]")

    def _user(self, given: Mapping[str, Any], where: str) -> None:
        known = ("accountId", "displayName", "emailAddress", "active", "timeZone", "name", "key", "accountType")
        check_keys(given, known, ("accountId",), where)
        account = str(given["accountId"])
        email = given.get("emailAddress")
        username = given.get("name") or (email or account).partition("@")[0]
        key = given.get("key") or f"JIRAUSER{10100 + len(self.site.users)}"
        active, zone, kind = given.get("active", True), given.get("timeZone"), given.get("accountType", "atlassian")
        if kind not in ("atlassian", "app", "customer"):
            raise ValueError(f"{where}: {kind!r} is no account type")
        self.site.add_user(User(account, given.get("displayName", account), email, active, zone, username, key, kind))

    def _group(self, given: Mapping[str, Any], where: str) -> None:
        check_keys(given, ("name", "members"), ("name",), where)
        self.site.groups[given["name"]] = self._people(given.get("members", ()), where)

    def _people(self, references: Sequence[str], where: str) -> tuple[str, ...]:
        return tuple(self._person(str(each), where).account_id for each in references)

    def _person(self, reference: str, where: str) -> User:
        user = self.site.user(reference)
        if user is None:
            raise ValueError(f"{where}: nobody is called {reference!r}")
        return user

    def _field(self, given: Mapping[str, Any], where: str) -> None:
        check_keys(given, ("id", "name", "type", "items", "options"), ("id", "name", "type"), where)
        if given["type"] not in _FIELD_TYPES:
            raise ValueError(f"{where}: type {given['type']!r} is not served")
        number = str(given["id"]).removeprefix("customfield_")
        if not number.isdecimal():
            raise ValueError(f"{where}: the id of a custom field is customfield_<number>, not {given['id']!r}")
        items = given.get("items", "string") if given["type"] == "array" else None
        options = tuple(
            Named(option or str(int(number) * 100 + position), label)
            for position, (option, label) in enumerate(_numbered(given.get("options", ())))
        )
        self.site.fields[given["id"]] = Field(given["id"], given["name"], given["type"], items, options)

    def _choice(self, kind: str, given: Named, first_id: int, where: str) -> Named:
        """The value of that name, new with its own or the next free id."""
        known = self.site.named(kind, given.name)
        if known and given.id in ("", known.id):
            return known
        taken = {each.id for each in self.site.all_named(kind)}
        if known or given.id in taken:
            raise ValueError(f"{where}: {given.name!r} cannot have the id {given.id}: there is another {kind}")
        return self.site.add_named(kind, replace(given, id=given.id or _free(taken, first_id)))

    def _link_type(self, given: Mapping[str, Any], where: str) -> None:
        check_keys(given, ("id", "name", "inward", "outward"), ("name", "inward", "outward"), where)
        if all(each.name != given["name"] for each in self.site.link_types):
            number = str(given.get("id") or _free({each.id for each in self.site.link_types}, 10000))
            self.site.link_types.append(LinkType(number, given["name"], given["inward"], given["outward"]))

    def _workflow(self, name: str, given: Mapping[str, Any], where: str) -> Workflow:
        check_keys(given, ("statuses", "transitions"), ("statuses", "transitions"), where)
        statuses = {label: self._status(label, each, where) for label, each in given["statuses"].items()}
        transitions = [
            self._transition(number, each, statuses, f"{where}: transitions[{number}]")
            for number, each in enumerate(given["transitions"])
        ]
        return Workflow(name, tuple(statuses.values()), tuple(transitions))

    def _status(self, name: str, given: str | Mapping[str, Any], where: str) -> Named:
        """From its category, or from an object of id and category."""
        form = {"category": given} if isinstance(given, str) else given
        check_keys(form, ("id", "category"), ("category",), f"{where}: {name}")
        if form["category"] not in CATEGORIES:
            raise ValueError(f"{where}: {form['category']!r} is no status category; there are {', '.join(CATEGORIES)}")
        return self._choice("status", Named(str(form.get("id", "")), name, form["category"]), 10000, where)

    def _transition(
        self, number: int, given: Mapping[str, Any], statuses: Mapping[str, Named], where: str
    ) -> Transition:
        check_keys(given, ("id", "name", "from", "to", "screen", "sets"), ("name", "to"), where)
        for name in (given["to"], *given.get("from", ())):
            if name not in statuses:
                raise ValueError(f"{where}: {name!r} is not among the workflow's statuses")
        sources = tuple(statuses[name].id for name in given["from"]) if "from" in given else None
        screen = self._screen(given.get("screen", {}), where)
        own_id = str(given.get("id", 10 * number + 11))
        return Transition(own_id, given["name"], statuses[given["to"]], sources, screen, given.get("sets", {}))

    def _screen(self, given: Mapping[str, str], where: str) -> Screen:
        for key, rule in given.items():
            if key not in self.site.fields:
                raise ValueError(f"{where}: there is no field {key!r}")
            if rule not in ("required", "optional"):
                raise ValueError(f"{where}: {key} must be required or optional, not {rule!r}")
        return {key: rule == "required" for key, rule in given.items()}

    def _project(self, given: Mapping[str, Any], where: str) -> None:
        known_keys = ("id", "key", "name", "type", "lead", "issue_types", "components")
        check_keys(given, known_keys, ("key", "issue_types"), where)
        lead = self._person(str(given["lead"]), where) if "lead" in given else next(iter(self.site.users.values()))
        uses = [self._use(each, f"{where}: issue_types[{n}]") for n, each in enumerate(given["issue_types"])]
        known = self.site.projects.get(given["key"])
        number = known.id if known else _free({each.id for each in self.site.projects.values()}, 10000)
        components = tuple(
            Named(component or str(int(number) * 10 + position), label)
            for position, (component, label) in enumerate(_numbered(given.get("components", ())))
        )
        self.site.projects[given["key"]] = Project(
            str(given.get("id", number)),
            given["key"],
            given.get("name", given["key"]),
            given.get("type", "software"),
            lead,
            {use.type.id: use for use in uses},
            components,
        )

    def _use(self, given: Mapping[str, Any], where: str) -> TypeInProject:
        check_keys(given, ("id", "name", "subtask", "workflow", "create", "edit"), ("name", "workflow"), where)
        if given["workflow"] not in self.site.workflows:
            raise ValueError(f"{where}: there is no workflow {given['workflow']!r}")
        kind = Named(str(given.get("id", "")), given["name"], subtask=given.get("subtask", False))
        kind = self._choice("issuetype", kind, 10000, where)
        create = self._screen(given.get("create", {"summary": "required", "description": "optional"}), where)
        edit = self._screen(given["edit"], where) if "edit" in given else create
        return TypeInProject(kind, self.site.workflows[given["workflow"]], create, edit)

    def _approval(self, name: str, given: Mapping[str, Any], where: str) -> None:
        known = ("field", "approvers", "needed", "exclude", "approve", "decline")
        check_keys(given, known, ("approve", "decline"), where)
        status = self._named("status", name, where)
        picker = given.get("field", "")
        if picker and picker not in self.site.fields:
            raise ValueError(f"{where}: there is no field {picker!r}")
        needed = given.get("needed", "all")
        self.site.approvals[status] = ApprovalStep(
            status,
            picker,
            self._people(given.get("approvers", ()), where),
            None if needed == "all" else int(needed),
            tuple(given.get("exclude", ())),
            str(given["approve"]),
            str(given["decline"]),
        )

    def _service_level(self, given: Mapping[str, Any], where: str) -> None:
        known = ("id", "name", "field", "pause", "stop", "comment", "goals", "types")
        check_keys(given, known, ("id", "name", "field", "stop", "goals", "types"), where)
        if given["field"] not in self.site.fields:
            raise ValueError(f"{where}: there is no field {given['field']!r}")
        self.site.service_levels[str(given["id"])] = ServiceLevel(
            str(given["id"]),
            given["name"],
            given["field"],
            frozenset(self._named("status", name, where) for name in given.get("pause", ())),
            frozenset(self._named("status", name, where) for name in given["stop"]),
            given.get("comment", False),
            {self._named("priority", name, where): duration(goal, where) for name, goal in given["goals"].items()},
            frozenset(self._named("issuetype", name, where) for name in given["types"]),
        )

    def _named(self, kind: str, reference: Any, where: str) -> str:
        named = self.site.named(kind, str(reference))
        if named is None:
            raise ValueError(f"{where}: there is no {kind} {reference!r}")
        return named.id


_OTHER_PARTS = ("priorities", "resolutions", "workflows", "approvals", "issues")
_FIELD_TYPES = frozenset(
    {"string", "text", "option", "array", "user", "date", "datetime", "number", "approvals", "sla"}
)


def _numbered(given: Mapping[Any, str] | Sequence[str]) -> list[tuple[str, str]]:
    """Ids and labels of a list of labels, whose ids are still to be given, or of an object of both."""
    if isinstance(given, Mapping):
        return [(str(number), str(label)) for number, label in given.items()]
    return [("", str(label)) for label in given]


def _free(taken: Collection[str], first: int) -> str:
    number = first
    while str(number) in taken:
        number += 1
    return str(number)
