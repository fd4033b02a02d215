"""Owns how the site's things look in JSON, in both versions of the interface; keeps encoded issues while they are true.

Reads the site and changes nothing. Stamps carry the offset of the account's zone, without a colon, as the vendor's do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import quote

import orjson

from connectors.jira.simulator.approvals import is_reserved
from connectors.jira.simulator.configuration import (
    CATEGORIES,
    Field,
    LinkType,
    Named,
    Project,
    Screen,
    Transition,
    User,
)
from connectors.jira.simulator.markup import as_document, as_html, as_wiki
from connectors.jira.simulator.service_forms import ServiceForms
from connectors.jira.simulator.service_levels import cycles, level_of
from connectors.jira.simulator.site import Issue, Link, Site

Json = dict[str, Any]

_EXPANDABLE = "renderedFields,names,schema,operations,editmeta,changelog,versionedRepresentations"
_CACHE_LIMIT = 384 * 1024 * 1024  # bytes of encoded issues, about 60,000 with twelve histories each
_OPERATIONS = {"array": ["add", "set", "remove"]}
_TYPE_PREFIX = "com.atlassian.jira.plugin.system.customfieldtypes:"
_CUSTOM_TYPES = {
    "text": "textarea",
    "string": "textfield",
    "option": "select",
    "number": "float",
    "datetime": "datetime",
}
_CUSTOM_LISTS = {"string": "labels", "option": "multicheckboxes", "user": "multiuserpicker"}
_MADE_TYPES = {
    "approvals": ("sd-approvals", "com.atlassian.servicedesk.approvals-plugin:sd-approvals"),
    "sla": ("sd-servicelevelagreement", "com.atlassian.servicedesk:sd-sla-field"),
}
"""Type and plug-in of the fields that service management makes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a request wants to see of each issue."""

    fields: tuple[str, ...]
    expand: frozenset[str] = frozenset()
    properties: tuple[str, ...] = ()
    changelog_cap: int = 100
    """How many histories, the newest, ``expand=changelog`` shows."""
    honest_total: bool = True
    """Whether the changelog's ``total`` counts what the cap hides."""


class Representation:
    """JSON of one version (``2`` or ``3``) of the interface."""

    def __init__(self, site: Site, version: str, base_url: str, zone: tzinfo, now: Callable[[], int]) -> None:
        """``now``: the site's clock in milliseconds, which running service levels show."""
        self._site = site
        self._version = version
        self.site_url = base_url
        self.base = f"{base_url}/rest/api/{version}"
        self.zone = zone
        self.now = now
        self.service = ServiceForms(base_url, zone, self.user)
        self._encoded: dict[tuple[int, Shape], tuple[Issue, bytes]] = {}
        self._encoded_size = 0
        self._fragments: dict[tuple[str, str | None], orjson.Fragment] = {}

    # --- people and choices

    def user(self, user: User) -> Json:
        avatars = {
            f"{size}x{size}": f"{self.site_url}/avatar/{user.account_id}?size={size}" for size in (16, 24, 32, 48)
        }
        shown: Json = {
            "self": f"{self.base}/user?accountId={quote(user.account_id)}",
            "accountId": user.account_id,
            "accountType": user.kind,
            "displayName": user.name,
            "active": user.active,
            "timeZone": user.zone or str(self.zone),
            "avatarUrls": avatars,
        }
        return {**shown, "emailAddress": user.email} if user.email else shown

    def named(self, kind: str, value: Named) -> Json:
        """A status, priority, resolution or issue type."""
        shown: Json = {"self": f"{self.base}/{kind}/{value.id}", "id": value.id, "name": value.name}
        if kind == "status":
            return {**shown, "description": "", "iconUrl": self.site_url + "/", "statusCategory": self._category(value)}
        if kind == "issuetype":
            level = -1 if value.subtask else 0
            more = {"subtask": value.subtask, "avatarId": 10318, "hierarchyLevel": level}
            return {**shown, "description": "", "iconUrl": "", **more}
        if kind == "priority":
            icon = f"{self.site_url}/images/icons/priorities/{value.name.casefold()}.svg"
            return {**shown, "description": "", "iconUrl": icon, "statusColor": "#707070"}
        return {**shown, "description": ""}

    def _category(self, status: Named) -> Json:
        number, key, colour = CATEGORIES[status.category]
        address = f"{self.base}/statuscategory/{number}"
        return {"self": address, "id": number, "key": key, "colorName": colour, "name": status.category}

    def link_type(self, kind: LinkType) -> Json:
        address = f"{self.base}/issueLinkType/{kind.id}"
        return {"id": kind.id, "name": kind.name, "inward": kind.inward, "outward": kind.outward, "self": address}

    def project(self, project: Project) -> Json:
        """As fields and lists show it."""
        return {
            "self": f"{self.base}/project/{project.id}",
            "id": project.id,
            "key": project.key,
            "name": project.name,
            "projectTypeKey": project.type_key,
            "simplified": False,
        }

    def whole_project(self, project: Project) -> Json:
        types = [self.named("issuetype", use.type) for use in project.types.values()]
        more: Json = {"description": "", "style": "classic", "isPrivate": False, "assigneeType": "UNASSIGNED"}
        lead = self.user(project.lead)
        del lead["timeZone"]
        return {**self.project(project), **more, "lead": lead, "issueTypes": types, "components": [], "versions": []}

    def stamp(self, millis: int) -> str:
        local = datetime.fromtimestamp(millis / 1000, self.zone).isoformat(timespec="milliseconds")
        return local[:-3] + local[-2:]

    # --- fields

    def field(self, field: Field) -> Json:
        names = [field.id] if not field.custom else [f"cf[{field.id.removeprefix('customfield_')}]", field.name]
        shown: Json = {
            "id": field.id,
            "key": field.id,
            "name": field.name,
            "custom": field.custom,
            "orderable": field.orderable,
            "navigable": field.navigable,
            "searchable": field.searchable,
            "clauseNames": names if field.searchable else [],
        }
        return {**shown, "schema": self.schema(field)}

    def schema(self, field: Field) -> Json:
        made, plugin = _MADE_TYPES.get(field.type, ("", ""))
        kind: Json = {"type": made or ("string" if field.marked_up else field.type)}
        if field.items:
            kind["items"] = field.items
        if not field.custom:
            return {**kind, "system": field.id}
        own = _CUSTOM_LISTS.get(field.items or "") or _CUSTOM_TYPES.get(field.type, field.type + "picker")
        return {**kind, "custom": plugin or _TYPE_PREFIX + own, "customId": int(field.id.removeprefix("customfield_"))}

    def field_meta(self, field_id: str, required: bool, with_field_id: bool) -> Json:
        """A field of a screen, with the values it allows."""
        field = self._site.configuration.fields[field_id]
        meta: Json = {
            "required": required,
            "schema": self.schema(field),
            "name": field.name,
            "key": field.id,
            "hasDefaultValue": field.id in ("priority", "reporter"),
            "operations": ["add"] if field.id == "comment" else _OPERATIONS.get(field.type, ["set"]),
        }
        allowed = self._allowed_values(field)
        if allowed is not None:
            meta["allowedValues"] = allowed
        return {**meta, "fieldId": field.id} if with_field_id else meta

    def _allowed_values(self, field: Field) -> list[Json] | None:
        if field.type in ("priority", "resolution"):
            return [self.named(field.type, value) for value in self._site.configuration.all_named(field.type)]
        if "option" in (field.type, field.items):
            return [self.option(each) for each in field.options]
        return None

    def option(self, option: Named) -> Json:
        return {"self": f"{self.base}/customFieldOption/{option.id}", "id": option.id, "value": option.name}

    def screen(self, screen: Screen) -> Json:
        return {key: self.field_meta(key, required, False) for key, required in screen.items()}

    def edit_screen(self, issue: Issue) -> Json:
        use = self._site.configuration.projects[issue.project].types[issue.values["issuetype"]]
        return {"fields": self.screen({**use.edit, "comment": False})}

    def transition(self, transition: Transition, with_fields: bool) -> Json:
        shown: Json = {
            "id": transition.id,
            "name": transition.name,
            "to": self.named("status", transition.to),
            "hasScreen": bool(transition.screen),
            "isGlobal": transition.sources is None,
            "isInitial": False,
            "isConditional": False,
            "isAvailable": True,
            "looped": False,
        }
        return {**shown, "fields": self.screen(transition.screen)} if with_fields else shown

    # --- issues

    def issue(self, issue: Issue, shape: Shape) -> bytes:
        """The encoded issue, kept until it changes."""
        keep = self._stands_still(issue, shape)
        if keep and (found := self._encoded.get((issue.id, shape))) and found[0] is issue:
            return found[1]
        encoded = orjson.dumps(self._issue(issue, shape))
        if keep:
            self._keep(issue, shape, encoded)
        return encoded

    def _stands_still(self, issue: Issue, shape: Shape) -> bool:
        """Whether what is shown changes with the issue only: not with its neighbours' status or with time."""
        fields = self._site.configuration.fields
        return (
            ("issuelinks" not in shape.fields or not self._site.links(issue))
            and ("subtasks" not in shape.fields or not self._site.children(issue))
            and ("parent" not in shape.fields or not issue.values.get("parent"))
            and not any(name in fields and fields[name].type == "sla" for name in shape.fields)
        )

    def _keep(self, issue: Issue, shape: Shape, encoded: bytes) -> None:
        if self._encoded_size > _CACHE_LIMIT:
            self._encoded.clear()
            self._encoded_size = 0
        self._encoded[issue.id, shape] = (issue, encoded)
        self._encoded_size += len(encoded)

    def _issue(self, issue: Issue, shape: Shape) -> Json:
        if shape.fields == ("id",) and not shape.expand and not shape.properties:
            return {"id": str(issue.id)}
        shown: Json = {"expand": _EXPANDABLE, "id": str(issue.id), "self": self.issue_url(issue), "key": issue.key}
        names = [name for name in shape.fields if name in self._site.configuration.fields]
        if not issue.values.get("parent"):
            names = [name for name in names if name != "parent"]
        if names:
            shown["fields"] = {name: self._value(issue, self._site.configuration.fields[name]) for name in names}
        if shape.properties:
            wanted = issue.properties if "*all" in shape.properties else shape.properties
            shown["properties"] = {name: issue.properties[name] for name in wanted if name in issue.properties}
        return shown | self._expanded(issue, shape, names)

    def _expanded(self, issue: Issue, shape: Shape, names: Sequence[str]) -> Json:
        fields = self._site.configuration.fields
        parts: dict[str, Callable[[], Any]] = {
            "changelog": lambda: self._recent_changes(issue, shape),
            "names": lambda: {name: fields[name].name for name in names},
            "schema": lambda: {name: self.schema(fields[name]) for name in names},
            "editmeta": lambda: self.edit_screen(issue),
            "renderedFields": lambda: {
                name: as_html(issue.values.get(name)) for name in names if fields[name].marked_up
            },
            "transitions": lambda: [self.transition(each, False) for each in self.transitions_from(issue)],
        }
        return {part: make() for part, make in parts.items() if part in shape.expand}

    def issue_url(self, issue: Issue) -> str:
        return f"{self.base}/issue/{issue.id}"

    def transitions_from(self, issue: Issue) -> list[Transition]:
        use = self._site.configuration.projects[issue.project].types[issue.values["issuetype"]]
        return [
            each
            for each in use.workflow.transitions
            if each.starts_from(issue.values["status"]) and not is_reserved(self._site.configuration, issue, each)
        ]

    def names(self, fields: Iterable[str]) -> Json:
        known = self._site.configuration.fields
        return {name: known[name].name for name in fields if name in known}

    def schemas(self, fields: Iterable[str]) -> Json:
        known = self._site.configuration.fields
        return {name: self.schema(known[name]) for name in fields if name in known}

    def _value(self, issue: Issue, field: Field) -> Any:
        if field.id == "project":
            return self._fragment("project", issue.project)
        if field.id == "issuelinks":
            return [self._linked(link, issue) for link in self._site.links(issue)]
        if field.id == "comment":
            return self.comment_page(issue, issue.comments, 0, len(issue.comments))
        if field.id == "subtasks":
            return [self._brief(each) for each in self._site.children(issue)]
        if field.id == "parent":
            parent = self._site.issue(str(issue.values["parent"]))
            return self._brief(parent) if parent else None
        if field.id == "components":
            return self._components(issue)
        if field.id == "fixVersions":
            return []
        if field.type in _MADE_TYPES:
            return self._made(issue, field)
        return self._shown(field, issue.values.get(field.id))

    def _components(self, issue: Issue) -> list[Json]:
        known = self._site.configuration.projects[issue.project].components
        chosen = [each for each in known if each.id in (issue.values.get("components") or ())]
        return [{"self": f"{self.base}/component/{each.id}", "id": each.id, "name": each.name} for each in chosen]

    def _made(self, issue: Issue, field: Field) -> Any:
        """Approvals, or the clock of a service level; ``None`` where there is none."""
        if field.type == "approvals":
            return self.approvals(issue, "") or None
        level = level_of(self._site.configuration, field.id)
        measured = cycles(level, issue, self.now()) if level else []
        shown = level is not None and (measured or level.id in issue.cycles)
        return self.service.service_level(issue, level, measured) if level and shown else None

    def approvals(self, issue: Issue, caller: str) -> list[Json]:
        people = self._site.configuration.users
        return [self.service.approval(issue, each, people, caller) for each in issue.approvals]

    def _shown(self, field: Field, value: Any) -> Any:
        if value is None:
            return None
        if field.type in ("status", "issuetype", "priority", "resolution", "user"):
            return self._fragment(field.type, value)
        if field.type == "datetime":
            return self.stamp(value)
        if field.type == "option":
            return self._option(field, value)
        if field.items == "option":
            return [self._option(field, each) for each in value] or None
        if field.items == "user":
            return [self._fragment("user", each) for each in value] or None
        return self.text(value) if field.marked_up else value

    def text(self, text: Any) -> Any:
        """Text in the form of this version."""
        return as_wiki(text) if self._version == "2" else as_document(text)

    def _option(self, field: Field, reference: str) -> Json:
        option = field.option(reference)
        assert option is not None
        return self.option(option)

    def _fragment(self, kind: str, reference: str | None) -> orjson.Fragment:
        """Encoded once: the configuration does not change while the site is up."""
        found = self._fragments.get((kind, reference))
        if found is None:
            found = orjson.Fragment(orjson.dumps(self._referred(kind, str(reference))))
            self._fragments[kind, reference] = found
        return found

    def _referred(self, kind: str, reference: str) -> Json:
        configuration = self._site.configuration
        if kind == "project":
            return self.project(configuration.projects[reference])
        if kind == "user":
            return self.user(configuration.users[reference])
        value = configuration.named(kind, reference)
        assert value is not None
        return self.named(kind, value)

    def _linked(self, link: Link, issue: Issue) -> Json:
        kind = next(each for each in self._site.configuration.link_types if each.id == link.type)
        number, side = (link.outward, "outwardIssue") if link.inward == issue.id else (link.inward, "inwardIssue")
        other = self._site.issue(str(number))
        assert other is not None
        address = f"{self.base}/issueLink/{link.id}"
        return {"id": str(link.id), "self": address, "type": self.link_type(kind), side: self._brief(other)}

    def _brief(self, issue: Issue) -> Json:
        """As links, sub-tasks and parents show another issue."""
        fields = self._site.configuration.fields
        shown = {name: self._value(issue, fields[name]) for name in ("summary", "status", "priority", "issuetype")}
        return {"id": str(issue.id), "key": issue.key, "self": self.issue_url(issue), "fields": shown}

    # --- history, comments, remote links

    def _recent_changes(self, issue: Issue, shape: Shape) -> Json:
        newest = [self.history(each) for each in issue.histories[: -shape.changelog_cap - 1 : -1]]
        total = len(issue.histories) if shape.honest_total else len(newest)
        return {"startAt": 0, "maxResults": len(newest), "total": total, "histories": newest}

    def history(self, history: Mapping[str, Any], created: str | int | None = None) -> Json:
        shown: Json = {"id": history["id"]}
        if history["author"] is not None:  # automation and deleted people leave none
            shown["author"] = self._fragment("user", history["author"])
        shown["created"] = created or self.stamp(history["created"])
        return {**shown, "items": history["items"]}

    def comment_page(self, issue: Issue, comments: Sequence[Mapping[str, Any]], start: int, limit: int) -> Json:
        shown = [self.comment(issue, comment) for comment in comments[start : start + limit]]
        return {"startAt": start, "maxResults": limit, "total": len(comments), "comments": shown}

    def comment(self, issue: Issue, comment: Mapping[str, Any]) -> Json:
        author = self._fragment("user", comment["author"])
        at = self.stamp(comment["created"])
        shown: Json = {
            "self": f"{self.issue_url(issue)}/comment/{comment['id']}",
            "id": comment["id"],
            "author": author,
            "body": self.text(comment["body"]),
            "updateAuthor": author,
            "created": at,
            "updated": at,
            "jsdPublic": not comment.get("internal", False),
        }
        return {**shown, "visibility": comment["visibility"]} if comment.get("visibility") else shown

    def remote_link(self, issue: Issue, link: Mapping[str, Any]) -> Json:
        return {**link, "self": f"{self.issue_url(issue)}/remotelink/{link['id']}"}
