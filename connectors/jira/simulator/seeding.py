"""Owns the issues of data files: turns what an author wrote (names, times) into issues with their history."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.jira.simulator.configuration import Configuration, Field, TypeInProject, check_keys
from connectors.jira.simulator.site import Issue, Site

_KEYS = (
    "key",
    "id",
    "type",
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
    "fields",
    "history",
    "comments",
    "properties",
    "former_keys",
)
_CHOICES = ("status", "priority", "resolution", "issuetype")


class Seeds:
    """Adds issues to ``site``; ``ValueError`` names the place of what is not understood."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._configuration: Configuration = site.configuration
        self._where = ""
        self._items: dict[tuple[Any, ...], Mapping[str, Any]] = {}

    def add(self, given: Mapping[str, Any], where: str) -> None:
        self._where = where
        check_keys(given, _KEYS, ("key", "type", "created"), where)
        self._site.add(self._issue(given), 0)

    def _issue(self, given: Mapping[str, Any]) -> Issue:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*-\d+", given["key"]):
            raise self._wrong(f"{given['key']!r} is no issue key")
        project = given["key"].rpartition("-")[0]
        if project not in self._configuration.projects:
            raise self._wrong(f"there is no project {project!r}")
        histories = self._histories(given.get("history", []))
        return Issue(
            int(given.get("id", self._site.next_id("issue"))),
            given["key"],
            project,
            self._values(given, self._use(project, given["type"])),
            tuple(histories),
            tuple(self._comment(n, each) for n, each in enumerate(given.get("comments", []))),
            dict(given.get("properties", {})),
            former_keys=tuple(given.get("former_keys", ())),
        )

    def _wrong(self, sentence: str) -> ValueError:
        return ValueError(f"{self._where}: {sentence}")

    def _use(self, project: str, name: str) -> TypeInProject:
        kind = self._configuration.named("issuetype", name)
        use = self._configuration.projects[project].types.get(kind.id) if kind else None
        if use is None:
            raise self._wrong(f"project {project} has no issue type {name!r}")
        return use

    def _values(self, given: Mapping[str, Any], use: TypeInProject) -> dict[str, Any]:
        created = self._instant(given["created"])
        reporter = self._person(given["reporter"]) if "reporter" in given else None
        values: dict[str, Any] = {
            "issuetype": use.type.id,
            "summary": given.get("summary", given["key"]),
            "description": given.get("description"),
            "status": self._named("status", given["status"]) if "status" in given else use.workflow.statuses[0].id,
            "priority": self._named("priority", given.get("priority", "Medium")),
            "resolution": self._named("resolution", given["resolution"]) if "resolution" in given else None,
            "assignee": self._person(given["assignee"]) if given.get("assignee") else None,
            "reporter": reporter,
            "creator": self._person(given["creator"]) if "creator" in given else reporter,
            "labels": list(given.get("labels", ())),
            "created": created,
            "updated": self._instant(given.get("updated", given["created"])),
            "resolutiondate": self._instant(given["resolved"]) if "resolved" in given else None,
            "statuscategorychangedate": self._instant(given.get("resolved", given["created"])),
            "duedate": str(given["duedate"]) if "duedate" in given else None,
        }
        for key, value in given.get("fields", {}).items():
            values[key] = self._custom(key, value)
        return values

    def _custom(self, key: str, value: Any) -> Any:
        field = self._configuration.fields.get(key)
        if field is None:
            raise self._wrong(f"there is no field {key!r}")
        if field.type == "user":
            return self._person(value)
        if field.type == "option" and value not in field.options:
            raise self._wrong(f"{key} has no option {value!r}")
        return self._instant(value) if field.type == "datetime" else value

    def _named(self, kind: str, name: str) -> str:
        named = self._configuration.named(kind, name)
        if named is None:
            raise self._wrong(f"there is no {kind} {name!r}")
        return named.id

    def _person(self, reference: str) -> str:
        user = self._configuration.user(reference)
        if user is None:
            raise self._wrong(f"nobody is called {reference!r}")
        return user.account_id

    def _instant(self, given: Any) -> int:
        """Milliseconds as they are; times without an offset are UTC."""
        if isinstance(given, int):
            return given
        try:
            at = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
        except ValueError:
            raise self._wrong(f"{given!r} is no time") from None
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)

    def _histories(self, given: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        first = self._site.next_id("history")
        histories = []
        for number, each in enumerate(given):
            check_keys(each, ("id", "at", "by", "items"), ("at", "items"), f"{self._where}: history[{number}]")
            histories.append(
                {
                    "id": str(each.get("id", first + number)),
                    "author": self._person(each["by"]) if each.get("by") else None,
                    "created": self._instant(each["at"]),
                    "items": [self._item(item) for item in each["items"]],
                }
            )
        return histories

    def _item(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """``from`` and ``to`` hold names; with ``fromString`` or ``toString`` the item is taken as it stands."""
        if "fromString" in given or "toString" in given:
            return {"fieldtype": "jira", "from": None, "fromString": None, "to": None, "toString": None, **given}
        check_keys(given, ("field", "from", "to"), ("field",), f"{self._where}: history item")
        change = (given["field"], given.get("from"), given.get("to"))
        if change not in self._items:
            self._items[change] = self._new_item(*change)
        return self._items[change]

    def _new_item(self, wanted: str, old: Any, new: Any) -> Mapping[str, Any]:
        fields = self._configuration.fields.values()
        field = next((each for each in fields if wanted in (each.id, each.name)), None)
        old_id, new_id = (self._item_id(field, value) for value in (old, new))
        item = {"field": field.name if field and field.custom else wanted}
        item["fieldtype"] = "custom" if field and field.custom else "jira"
        if field:
            item["fieldId"] = field.id
        return {**item, "from": old_id, "fromString": self._label(old), "to": new_id, "toString": self._label(new)}

    def _label(self, value: Any) -> str | None:
        user = self._configuration.user(value) if isinstance(value, str) else None
        return user.name if user else None if value is None else str(value)

    def _item_id(self, field: Field | None, value: Any) -> str | None:
        """An id where the name still exists; a renamed or deleted choice leaves only its label."""
        if field is None or value is None:
            return None
        if field.type == "array":
            return ""
        if field.type == "user":
            user = self._configuration.user(value)
            return user.account_id if user else None
        named = self._configuration.named(field.type, value) if field.type in _CHOICES else None
        return named.id if named else None

    def _comment(self, number: int, given: Mapping[str, Any]) -> dict[str, Any]:
        check_keys(given, ("by", "at", "body", "internal"), ("by", "at", "body"), f"{self._where}: comments[{number}]")
        return {
            "id": str(self._site.next_id("comment") + number),
            "author": self._person(given["by"]),
            "created": self._instant(given["at"]),
            "body": given["body"],
            "internal": given.get("internal", False),
        }
