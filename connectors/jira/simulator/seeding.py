"""Owns the issues of data files: turns what an author wrote (names, times) into issues with their history.

An issue of a data file is an object::

    key, id             ITSM-12; the numeric id is optional. Issues may name each other in any order
    type                name or id, as everywhere where a choice, an option or a link type is meant
    parent              key of the issue whose sub-task it is
    created             instant: ISO 8601, UTC without an offset, or milliseconds
    updated, resolved   instants; without ``updated`` the last one of creation, history and comments
    summary, description, status, priority, resolution, duedate, labels, components
    assignee, reporter, creator     account id, address, name
    fields              custom fields: text, number, day, instant, person, choice, or a list of choices or persons
    history             [{id, at, by, items: [{field, from, to}]}] as it is to be shown; it is not applied to the state
    comments            [{id, by, at, body, internal}]
    approvals           [{id, name, created, completed, decision, needed, approvers: [{by, decision}]}]
    links               [{type, outward: KEY}] or inward; each once, on either issue; with ``at`` (and ``by``) both
                        histories tell of it
    slas                [{metric, goal, completed: [{start, stop, elapsed, breached}], ongoing: {start, elapsed, paused,
                        breached}}] instead of what the history makes of that service level; without a cycle it never
                        began
    former_keys, properties

In a history item ``from`` and ``to`` hold names or ids; an item with ``fromString`` or ``toString`` is taken as it
stands, and ``{field: Link, type, direction: outward, to: KEY}`` tells of a link. Without ids, histories and comments
get the next free ones in the order of their times.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from connectors.jira.simulator.changes import id_and_label, link_item
from connectors.jira.simulator.configuration import Configuration, Field, LinkType, TypeInProject
from connectors.jira.simulator.site import Cycle, Issue, Link, Site
from connectors.jira.simulator.site_files import check_keys, duration

_KEYS = (
    "key",
    "id",
    "type",
    "parent",
    "summary",
    "description",
    "status",
    "priority",
    "resolution",
    "assignee",
    "reporter",
    "creator",
    "created",
    "updated",
    "resolved",
    "duedate",
    "labels",
    "components",
    "fields",
    "history",
    "comments",
    "approvals",
    "links",
    "slas",
    "properties",
    "former_keys",
)
_CHOICES = ("status", "priority", "resolution", "issuetype")
_DECISIONS = ("pending", "approved", "declined")
Given = Mapping[str, Any]


class Seeds:
    """Adds issues to ``site``; ``ValueError`` names the place of what is not understood."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._configuration: Configuration = site.configuration
        self._where = ""
        self._items: dict[str, Given] = {}
        self._fields: dict[str, Field] = {}
        for each in site.configuration.fields.values():
            self._fields.setdefault(each.name, each)
        self._fields.update(site.configuration.fields)
        self._numbers: dict[str, int] = {}
        self._told: dict[str, list[Given]] = {}

    def add_all(self, issues: Iterable[tuple[str, Given]]) -> None:
        """Add issues, each with the place it was written at."""
        listed = list(issues)
        for self._where, given in listed:
            check_keys(given, _KEYS, ("key", "type", "created"), self._where)
        # the next free ids are those above all that are given
        for self._where, given in sorted(listed, key=lambda entry: "id" not in entry[1]):
            self._number(given)
        links = []
        for self._where, given in listed:
            links += [self._link(given, each) for each in given.get("links", ())]
        for self._where, given in listed:
            self._site.add(self._issue(given), 0)
        for link in links:
            self._site.add_link(link)

    def _number(self, given: Given) -> None:
        key = str(given["key"])
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*-\d+", key):
            raise self._wrong(f"{key!r} is no issue key")
        if key in self._numbers:
            raise self._wrong(f"there are two issues {key!r}")
        number = self._site.reserve("issue", int(given["id"]) if "id" in given else None)
        for each in (key, *given.get("former_keys", ())):
            self._numbers[each] = number

    def _issue(self, given: Given) -> Issue:
        project = given["key"].rpartition("-")[0]
        if project not in self._configuration.projects:
            raise self._wrong(f"there is no project {project!r}")
        use = self._use(project, str(given["type"]))
        histories = self._histories([*given.get("history", ()), *self._told.get(given["key"], ())])
        comments = self._comments(given.get("comments", ()))
        values = self._values(given, use)
        if "updated" not in given:
            # a link need not move it: what is told of links does not count
            saves = [self._instant(each["at"]) for each in given.get("history", ())]
            values["updated"] = max([values["created"], *saves, *(each["created"] for each in comments)])
        return Issue(
            self._numbers[given["key"]],
            given["key"],
            project,
            values,
            tuple(histories),
            tuple(comments),
            dict(given.get("properties", {})),
            former_keys=tuple(given.get("former_keys", ())),
            approvals=tuple(self._approval(each, histories, values) for each in given.get("approvals", ())),
            cycles={self._level(each["metric"]): self._cycles(each) for each in given.get("slas", ())},
        )

    def _wrong(self, sentence: str) -> ValueError:
        return ValueError(f"{self._where}: {sentence}")

    def _use(self, project: str, name: str) -> TypeInProject:
        kind = self._configuration.named("issuetype", name)
        use = self._configuration.projects[project].types.get(kind.id) if kind else None
        if use is None:
            raise self._wrong(f"project {project} has no issue type {name!r}")
        return use

    # --- the state

    def _values(self, given: Given, use: TypeInProject) -> dict[str, Any]:
        created = self._instant(given["created"])
        reporter = self._person(given["reporter"]) if given.get("reporter") else None
        values: dict[str, Any] = {
            "issuetype": use.type.id,
            "summary": given.get("summary", given["key"]),
            "description": given.get("description"),
            "status": self._named("status", given["status"]) if "status" in given else use.workflow.statuses[0].id,
            "priority": self._named("priority", given.get("priority") or "Medium"),
            "resolution": self._named("resolution", given["resolution"]) if given.get("resolution") else None,
            "assignee": self._person(given["assignee"]) if given.get("assignee") else None,
            "reporter": reporter,
            "creator": self._person(given["creator"]) if given.get("creator") else reporter,
            "labels": list(given.get("labels", ())),
            "components": [self._component(given["key"], each) for each in given.get("components", ())],
            "created": created,
            "updated": self._instant(given.get("updated", given["created"])),
            "resolutiondate": self._instant(given["resolved"]) if given.get("resolved") else None,
            "statuscategorychangedate": self._instant(given.get("resolved") or given["created"]),
            "duedate": str(given["duedate"]) if given.get("duedate") else None,
        }
        if given.get("parent"):
            values["parent"] = self._issue_number(given["parent"])
        for key, value in given.get("fields", {}).items():
            values[key] = self._custom(key, value)
        return values

    def _custom(self, key: str, value: Any) -> Any:
        field = self._configuration.fields.get(key)
        if field is None:
            raise self._wrong(f"there is no field {key!r}")
        return self._stored(field, value)

    def _stored(self, field: Field, value: Any) -> Any:
        if value is None:
            return None
        if field.type == "array":
            each_one = Field(field.id, field.name, field.items or "", options=field.options)
            return [self._stored(each_one, each) for each in value]
        if field.type == "user":
            return self._person(value)
        if field.type == "option":
            option = field.option(str(value))
            if option is None:
                raise self._wrong(f"{field.id} has no option {value!r}")
            return option.id
        if field.type in ("approvals", "sla"):
            raise self._wrong(f"{field.id} is not written; give approvals or slas")
        if field.type == "date":
            return str(value)
        return self._instant(value) if field.type == "datetime" else value

    def _named(self, kind: str, name: Any) -> str:
        named = self._configuration.named(kind, str(name))
        if named is None:
            raise self._wrong(f"there is no {kind} {name!r}")
        return named.id

    def _component(self, key: str, name: str) -> str:
        known = self._configuration.projects[key.rpartition("-")[0]].components
        found = next((each for each in known if str(name) in (each.id, each.name)), None)
        if found is None:
            raise self._wrong(f"there is no component {name!r}")
        return found.id

    def _person(self, reference: Any) -> str:
        user = self._configuration.user(str(reference))
        if user is None:
            raise self._wrong(f"nobody is called {reference!r}")
        return user.account_id

    def _issue_number(self, key: str) -> int:
        if key in self._numbers:
            return self._numbers[key]
        raise self._wrong(f"there is no issue {key!r}")

    def _instant(self, given: Any) -> int:
        """Milliseconds as they are; times without an offset are UTC."""
        if isinstance(given, int):
            return given
        try:
            at = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
        except ValueError:
            raise self._wrong(f"{given!r} is no time") from None
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)

    # --- histories and comments

    def _histories(self, given: Sequence[Given]) -> list[dict[str, Any]]:
        histories = []
        for number, each in enumerate(given):
            check_keys(each, ("id", "at", "by", "items"), ("at", "items"), f"{self._where}: history[{number}]")
            items = [self._item(item) for item in each["items"]]
            author = self._person(each["by"]) if each.get("by") else None
            history = {"id": each.get("id"), "author": author, "created": self._instant(each["at"]), "items": items}
            histories.append(history)
        return self._in_order("history", histories)

    def _comments(self, given: Sequence[Given]) -> list[dict[str, Any]]:
        comments = []
        for number, each in enumerate(given):
            where = f"{self._where}: comments[{number}]"
            check_keys(each, ("id", "by", "at", "body", "internal"), ("by", "at", "body"), where)
            comment = {"id": each.get("id"), "author": self._person(each["by"]), "created": self._instant(each["at"])}
            comments.append({**comment, "body": each["body"], "internal": each.get("internal", False)})
        return self._in_order("comment", comments)

    def _in_order(self, kind: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """By time, with an id for each."""
        entries.sort(key=lambda entry: entry["created"])
        for entry in entries:
            entry["id"] = str(self._site.reserve(kind, None if entry["id"] is None else int(entry["id"])))
        return entries

    def _item(self, given: Given) -> Given:
        """The same object for the same change, of which a site has many."""
        written = repr(given)
        if written not in self._items:
            self._items[written] = self._new_item(given)
        return self._items[written]

    def _new_item(self, given: Given) -> Given:
        where, old, new = f"{self._where}: history item", given.get("from"), given.get("to")
        if given.get("field") == "Link" and "type" in given:
            check_keys(given, ("field", "type", "direction", "from", "to"), ("direction",), where)
            return link_item(self._link_type(given["type"]), given["direction"] == "outward", old, new)
        if "fromString" in given or "toString" in given:
            return {"fieldtype": "jira", "from": None, "fromString": None, "to": None, "toString": None, **given}
        check_keys(given, ("field", "from", "to"), ("field",), where)
        return self._change(given["field"], old, new)

    def _change(self, wanted: str, old: Any, new: Any) -> Given:
        field = self._fields.get(wanted)
        (old_id, old_label), (new_id, new_label) = (self._id_and_label(field, value) for value in (old, new))
        custom = field is not None and field.custom
        item = {"field": field.name if field and custom else wanted, "fieldtype": "custom" if custom else "jira"}
        if field:
            item["fieldId"] = field.id
        return {**item, "from": old_id, "fromString": old_label, "to": new_id, "toString": new_label}

    def _id_and_label(self, field: Field | None, value: Any) -> tuple[str | None, str | None]:
        """An id where the name still exists; a renamed or deleted choice leaves only its label."""
        if value is None and (field is None or field.type != "array"):
            return None, None
        if field is None:
            return None, str(value)
        if field.type in _CHOICES:
            named = self._configuration.named(field.type, str(value))
            return (named.id, named.name) if named else (None, str(value))
        if field.type == "user" and self._configuration.user(str(value)) is None:
            return None, str(value)
        if field.type == "option" and field.option(str(value)) is None:
            return None, str(value)
        if field.type == "array" and isinstance(value, str):
            return "", value
        return id_and_label(self._configuration, field, self._stored(field, value))

    # --- links, approvals, service levels

    def _link(self, given: Given, each: Given) -> Link:
        check_keys(each, ("id", "type", "outward", "inward", "at", "by"), ("type",), f"{self._where}: links")
        if ("outward" in each) == ("inward" in each):
            raise self._wrong("a link names either its outward or its inward issue")
        kind, outward = self._link_type(each["type"]), "outward" in each
        here, other = str(given["key"]), str(each.get("outward") or each.get("inward"))
        ends = (here, other) if outward else (other, here)
        if "at" in each:
            told = {"at": each["at"], "by": each.get("by")}
            item = {"field": "Link", "type": kind.id}
            self._tell(ends[0], {**told, "items": [{**item, "direction": "outward", "to": ends[1]}]})
            self._tell(ends[1], {**told, "items": [{**item, "direction": "inward", "to": ends[0]}]})
        number = self._site.reserve("link", int(each["id"]) if "id" in each else None)
        return Link(number, kind.id, self._issue_number(ends[0]), self._issue_number(ends[1]))

    def _tell(self, key: str, history: Given) -> None:
        self._told.setdefault(key, []).append(history)

    def _link_type(self, reference: Any) -> LinkType:
        known = self._configuration.link_types
        found = next((each for each in known if str(reference) in (each.id, each.name)), None)
        if found is None:
            raise self._wrong(f"there is no link type {reference!r}")
        return found

    def _approval(self, given: Given, histories: Sequence[Given], values: Given) -> dict[str, Any]:
        where = f"{self._where}: approvals"
        known = ("id", "name", "created", "completed", "decision", "needed", "approvers")
        check_keys(given, known, ("created", "approvers"), where)
        created = self._instant(given["created"])
        status = _status_at(created, histories, values["status"])
        approvers = []
        for each in given["approvers"]:
            check_keys(each, ("by", "decision"), ("by",), f"{where}: approvers")
            approvers.append({"by": self._person(each["by"]), "decision": self._decision(each)})
        return {
            "id": str(self._site.reserve("approval", int(given["id"]) if "id" in given else None)),
            "name": given.get("name") or self._configuration.statuses[status].name,
            "status": status,
            "created": created,
            "completed": self._instant(given["completed"]) if given.get("completed") else None,
            "decision": self._decision(given),
            "needed": given.get("needed"),
            "approvers": approvers,
        }

    def _decision(self, given: Given) -> str:
        decision = str(given.get("decision", "pending"))
        if decision not in _DECISIONS:
            raise self._wrong(f"{decision!r} is no decision; there are {', '.join(_DECISIONS)}")
        return decision

    def _level(self, reference: Any) -> str:
        known = self._configuration.service_levels.values()
        found = next((each for each in known if str(reference) in (each.id, each.name, each.field)), None)
        if found is None:
            raise self._wrong(f"there is no service level {reference!r}")
        return found.id

    def _cycles(self, given: Given) -> tuple[Cycle, ...]:
        check_keys(given, ("metric", "goal", "completed", "ongoing"), ("metric", "goal"), f"{self._where}: slas")
        goal = duration(given["goal"], f"{self._where}: slas")
        rows = [*given.get("completed", ()), *([given["ongoing"]] if "ongoing" in given else [])]
        return tuple(self._cycle(each, goal) for each in rows)

    def _cycle(self, given: Given, goal: int) -> Cycle:
        where = f"{self._where}: slas"
        check_keys(given, ("start", "stop", "elapsed", "breached", "breach_at", "paused"), ("start",), where)
        stop, breach_at = (self._instant(given[key]) if key in given else None for key in ("stop", "breach_at"))
        elapsed = duration(given["elapsed"], where) if "elapsed" in given else None
        paused = given.get("paused", False)
        return Cycle(self._instant(given["start"]), goal, stop, elapsed, given.get("breached"), breach_at, paused)


def _status_at(at: int, histories: Sequence[Given], now: str) -> str:
    """Id of the status that an issue had at an instant; what it entered just then counts."""
    steps = [(each["created"], item) for each in histories for item in each["items"] if item.get("fieldId") == "status"]
    before = [item["to"] for created, item in steps if created <= at and item["to"]]
    after = [item["from"] for created, item in steps if created > at and item["from"]]
    return str(before[-1] if before else after[0] if after else now)
