"""Owns what Data Center does otherwise than Cloud: people by name and key, search by offset, older forms and sentences.

Only what differs stands here; all else is what Cloud's addresses do over the same site. Requests are brought into
Cloud's form before ``editing`` reads them, answers into Data Center's by ``DataCenterRepresentation``. ``ROUTES`` lists
the whole of the older interface that is served: what is missing there, the product does not have.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from connectors.jira.simulator import resources, setup_resources
from connectors.jira.simulator.calls import (
    Answer,
    Call,
    Handler,
    Json,
    Table,
    as_list,
    object_body,
    page_bean,
)
from connectors.jira.simulator.configuration import Field, Named, Project, Transition, User
from connectors.jira.simulator.refusals import NO_ISSUE, Refusal
from connectors.jira.simulator.representation import Representation, Shape
from connectors.jira.simulator.search import parse_or_refuse
from connectors.jira.simulator.site import Issue

_VERSION = "9.12.15"
_BUILD = 9120015
_MENTION = re.compile(r"\[~accountid:([^\]]+)\]")
_NEWER_FIELDS = frozenset({"statuscategorychangedate"})
_SENTENCES = {
    NO_ISSUE: "Issue Does Not Exist",
    "Specify a valid project ID or key": "project is required",
    "Specify a valid issue type": "valid issue type is required",
}
_STALE_STEP = (
    "It seems that you have tried to perform a workflow operation ({}) that is not valid for the current state of this"
    " issue ({}). The likely cause is that somebody has changed the issue recently, please look at the issue history"
    " for details."
)
_SEARCH_BODY: Mapping[str, type | tuple[type, ...]] = {
    "jql": str,
    "startAt": int,
    "maxResults": int,
    "fields": list,
    "expand": (list, str),
    "validateQuery": (bool, str),
}


class DataCenterRepresentation(Representation):
    """JSON of version 2 as Data Center writes it."""

    def user(self, user: User) -> Json:
        avatars = {
            f"{size}x{size}": f"{self.site_url}/secure/useravatar?size={name}&ownerId={quote(user.key)}"
            for size, name in ((16, "xsmall"), (24, "small"), (32, "medium"), (48, "large"))
        }
        shown: Json = {
            "self": f"{self.base}/user?username={quote(user.username)}",
            "name": user.username,
            "key": user.key,
            "avatarUrls": avatars,
            "displayName": user.name,
            "active": user.active,
            "timeZone": user.zone or str(self.zone),
        }
        return {**shown, "emailAddress": user.email} if user.email else shown

    def named(self, kind: str, value: Named) -> Json:
        shown = super().named(kind, value)
        shown.pop("hierarchyLevel", None)
        return shown

    def project(self, project: Project) -> Json:
        shown = super().project(project)
        del shown["simplified"]
        return shown

    def whole_project(self, project: Project) -> Json:
        shown = super().whole_project(project)
        for newer in ("style", "isPrivate", "simplified"):
            shown.pop(newer, None)
        return shown

    def issue(self, issue: Issue, shape: Shape) -> bytes:
        known = tuple(name for name in shape.fields if name not in _NEWER_FIELDS)
        return super().issue(issue, replace(shape, fields=known))

    def field(self, field: Field) -> Json:
        shown = super().field(field)
        del shown["key"]
        return shown

    def field_meta(self, field_id: str, required: bool, with_field_id: bool) -> Json:
        shown = super().field_meta(field_id, required, True)
        del shown["key"]
        return shown

    def transition(self, transition: Transition, with_fields: bool) -> Json:
        shown = super().transition(transition, with_fields)
        return {key: shown[key] for key in ("id", "name", "to", "fields") if key in shown}

    def history(self, history: Mapping[str, Any], created: str | int | None = None) -> Json:
        return {**super().history(history, created), "items": [self._item(item) for item in history["items"]]}

    def _item(self, item: Mapping[str, Any]) -> Json:
        """Without ids of fields, and with keys of people."""
        shown = {key: item[key] for key in ("field", "fieldtype", "from", "fromString", "to", "toString")}
        return {**shown, "from": self._with_keys(shown["from"]), "to": self._with_keys(shown["to"])}

    def _with_keys(self, value: str | None) -> str | None:
        """One id, or several in brackets, those of people as their keys."""
        if value is None:
            return None
        users = self._site.configuration.users
        if value.startswith("[") and value.endswith("]"):
            ids = value[1:-1].split(", ")
            return "[" + ", ".join(users[each].key if each in users else each for each in ids) + "]"
        return users[value].key if value in users else value

    def text(self, text: Any) -> Any:
        """Wiki text, in which people are mentioned by their login names."""
        users = self._site.configuration.users
        wiki: str | None = super().text(text)
        if not wiki:
            return wiki
        return _MENTION.sub(lambda found: f"[~{users[found[1]].username}]" if found[1] in users else found[0], wiki)

    def _recent_changes(self, issue: Issue, shape: Shape) -> Json:
        """Oldest first."""
        shown = super()._recent_changes(issue, shape)
        return {**shown, "histories": shown["histories"][::-1]}

    def comment(self, issue: Issue, comment: Mapping[str, Any]) -> Json:
        shown = super().comment(issue, comment)
        del shown["jsdPublic"]
        return shown


# --- requests in the older form ---------------------------------------------------------------------------------------


def _in_cloud_form(call: Call) -> Call:
    """The same request with people named as ``editing`` expects them."""
    if not isinstance(call.body, dict):
        return call
    body = dict(call.body)
    for part in ("fields", "update"):
        given = body.get(part)
        if isinstance(given, dict):
            body[part] = {name: _renamed(call, name, value) for name, value in given.items()}
    return replace(call, body=body)


def _renamed(call: Call, name: str, value: Any) -> Any:
    field = call.site.configuration.fields.get(name)
    if field is None or "user" not in (field.type, field.items):
        return value
    if isinstance(value, list):
        return [_renamed(call, name, each) for each in value]
    if not isinstance(value, dict):
        return value
    if operation := next((verb for verb in ("set", "add", "remove") if verb in value), None):
        return {operation: _renamed(call, name, value[operation])}
    wanted = value.get("name") or value.get("key")
    if not wanted:
        return None
    user = next((each for each in call.site.configuration.users.values() if wanted in (each.username, each.key)), None)
    if user is None or (name == "assignee" and not user.active):
        reason = f"User '{wanted}' does not exist." if user is None else f"User '{wanted}' cannot be assigned issues."
        raise Refusal(400, errors={name: reason})
    return {"accountId": user.account_id}


def _older(handler: Handler) -> Handler:
    """``handler`` for requests in the older form, with the older sentences."""

    def serve(call: Call) -> Answer:
        try:
            return handler(_in_cloud_form(call))
        except Refusal as refusal:
            said: Mapping[str, Any] = refusal.body
            messages = [_SENTENCES.get(each, each) for each in said["errorMessages"]]
            errors = {name: _SENTENCES.get(each, each) for name, each in said["errors"].items()}
            raise Refusal(refusal.status, *messages, errors=errors) from None

    return serve


# --- the site and its set-up ------------------------------------------------------------------------------------------


def server_info(call: Call) -> Answer:
    shown = {**setup_resources.server_info(call).body}
    del shown["displayUrl"]
    numbers = [int(part) for part in _VERSION.split(".")]
    own = {"version": _VERSION, "versionNumbers": numbers, "deploymentType": "Server"}
    return Answer(200, {**shown, **own, "buildNumber": _BUILD, "databaseBuildNumber": _BUILD})


def fields(call: Call) -> Answer:
    known = call.site.configuration.fields.values()
    return Answer(200, [call.shown.field(each) for each in known if each.id not in _NEWER_FIELDS])


def projects(call: Call) -> Answer:
    return Answer(200, [call.shown.project(each) for each in call.site.configuration.projects.values()])


def user(call: Call) -> Answer:
    users = call.site.configuration.users.values()
    name, key = call.text("username"), call.text("key")
    found = next((each for each in users if each.username == name or each.key == key), None)
    if found is None:
        raise Refusal(404, f"The user named '{name or key}' does not exist")
    return Answer(200, call.shown.user(found))


def user_search(call: Call) -> Answer:
    """Active people unless asked otherwise; a search text is required, and ``.`` finds everybody with an address."""
    if not call.text("username"):
        raise Refusal(400, "The username query parameter was not provided")
    active, inactive = call.text("includeActive") != "false", call.text("includeInactive") == "true"
    return _listed_users(call, [each for each in _found_users(call) if (active if each.active else inactive)])


def assignable_users(call: Call) -> Answer:
    project = call.site.configuration.project(call.text("project") or "")
    if project is None and call.site.issue(call.text("issueKey") or "") is None:
        raise Refusal(400, "Either 'project' or 'issueKey' must name something that exists.")
    return _listed_users(call, [each for each in _found_users(call) if each.active])


def _found_users(call: Call) -> Iterator[User]:
    """Those of whose names or address a part was asked for."""
    wanted = (call.text("username") or "").casefold()
    for each in call.site.configuration.users.values():
        if any(wanted in form.casefold() for form in (each.username, each.name, each.email or "")):
            yield each


def _listed_users(call: Call, found: Sequence[User]) -> Answer:
    start, limit = call.number("startAt", 0, 1 << 31), call.number("maxResults", 50, 1000)
    return Answer(200, [call.shown.user(each) for each in found[start : start + limit]])


def create_meta(name: str, handler: Handler) -> Handler:
    """The same lists as Cloud's, as ``values`` of a page."""

    def serve(call: Call) -> Answer:
        whole: Mapping[str, Sequence[str]] = {"startAt": ["0"], "maxResults": ["200"]}
        values = [{**each} for each in handler(replace(call, query=whole)).body[name]]
        for each in values:
            each.pop("expand", None)
        page = page_bean(call, values, 50, "")
        return Answer(200, {key: page[key] for key in ("maxResults", "startAt", "total", "isLast", "values")})

    return serve


def workflows(call: Call) -> Answer:
    """Names and numbers of steps; transitions are nowhere to be had."""
    wanted = call.text("workflowName")
    shown: list[Json] = [
        {"name": each.name, "description": "", "steps": len(each.statuses), "default": False}
        for each in call.site.configuration.workflows.values()
        if wanted in (None, each.name)
    ]
    return Answer(200, shown)


# --- issues -----------------------------------------------------------------------------------------------------------


def do_transition(call: Call) -> Answer:
    issue, wanted = call.issue(), str((object_body(call).get("transition") or {}).get("id") or "")
    if wanted and wanted not in [each.id for each in call.shown.transitions_from(issue)]:
        use = call.site.configuration.projects[issue.project].types[issue.values["issuetype"]]
        known = next((each.name for each in use.workflow.transitions if each.id == wanted), None)
        raise Refusal(400, _STALE_STEP.format(known, issue.key) if known else f"Action with id {wanted} is invalid")
    return resources.do_transition(call)


def search_post(call: Call) -> Answer:
    body = object_body(call)
    for key, value in body.items():
        if key not in _SEARCH_BODY:
            bean = "com.atlassian.jira.rest.v2.search.SearchRequestBean"
            raise Refusal(400, f'Unrecognized field "{key}" (Class {bean}), not marked as ignorable')
        if not isinstance(value, _SEARCH_BODY[key]):
            raise Refusal(400, f"Can not deserialize the value of '{key}'")
    return _search(call, body)


def search_get(call: Call) -> Answer:
    asked: Json = {name: list(call.words(name)) for name in ("fields", "expand") if call.words(name)}
    for name in ("jql", "validateQuery"):
        if (text := call.text(name)) is not None:
            asked[name] = text
    asked["startAt"] = call.number("startAt", 0, 1 << 31)
    asked["maxResults"] = call.number("maxResults", 50, 1 << 31)
    return _search(call, asked)


def _search(call: Call, asked: Json) -> Answer:
    start, size = max(0, asked.get("startAt", 0)), asked.get("maxResults", 50)
    size = min(size if size >= 0 else 1 << 31, call.options.search_cap)
    expand = frozenset(as_list(asked.get("expand")))
    shape = resources.issue_shape(call, asked.get("fields") or ["*navigable"], expand, (), searched=True)
    page: Json = {"expand": "schema,names", "startAt": start, "maxResults": size}
    if call.caller is None:
        return Answer(200, {**page, "total": 0, "issues": []})
    parse_or_refuse(asked.get("jql", ""))
    try:
        found = call.search.slice(asked.get("jql", ""), call.asker, start, size)
    except Refusal as refusal:
        if str(asked.get("validateQuery", "true")) not in ("false", "False", "none", "warn"):
            raise
        return Answer(200, {**page, "total": 0, "issues": [], "warningMessages": refusal.body["errorMessages"]})
    page["total"] = found.total
    if "names" in expand:
        page["names"] = call.shown.names(shape.fields)
    if "schema" in expand:
        page["schema"] = call.shown.schemas(shape.fields)
    per_issue = replace(shape, expand=shape.expand - {"names", "schema"})
    issues = b",".join([call.shown.issue(issue, per_issue) for issue in found.issues])
    return Answer(200, b"".join((orjson.dumps(page)[:-1], b',"issues":[', issues, b"]}")))


_SHARED: Sequence[tuple[str, str]] = (
    ("GET", "myself"),
    ("GET", "issuetype"),
    ("GET", "priority"),
    ("GET", "resolution"),
    ("GET", "status"),
    ("GET", "issueLinkType"),
    ("GET", "project/{projectIdOrKey}"),
    ("GET", "project/{projectIdOrKey}/statuses"),
    ("GET", "group/member"),
    ("GET", "groups/picker"),
    ("POST", "issue"),
    ("GET", "issue/{issueIdOrKey}"),
    ("PUT", "issue/{issueIdOrKey}"),
    ("DELETE", "issue/{issueIdOrKey}"),
    ("GET", "issue/{issueIdOrKey}/editmeta"),
    ("GET", "issue/{issueIdOrKey}/properties"),
    ("GET", "issue/{issueIdOrKey}/properties/{propertyKey}"),
    ("PUT", "issue/{issueIdOrKey}/properties/{propertyKey}"),
    ("DELETE", "issue/{issueIdOrKey}/properties/{propertyKey}"),
    ("GET", "issue/{issueIdOrKey}/comment"),
    ("POST", "issue/{issueIdOrKey}/comment"),
    ("GET", "issue/{issueIdOrKey}/comment/{id}"),
    ("GET", "comment/{commentId}/properties/{propertyKey}"),
    ("GET", "issue/{issueIdOrKey}/transitions"),
    ("GET", "issue/{issueIdOrKey}/remotelink"),
    ("POST", "issue/{issueIdOrKey}/remotelink"),
    ("POST", "issueLink"),
)
_OWN: Table = (
    ("GET", "serverInfo", server_info, "served"),
    ("GET", "field", fields, "refused"),
    ("GET", "project", projects, "refused"),
    ("GET", "user", user, "refused"),
    ("GET", "user/search", user_search, "refused"),
    ("GET", "user/assignable/search", assignable_users, "refused"),
    (
        "GET",
        "issue/createmeta/{projectIdOrKey}/issuetypes",
        create_meta("issueTypes", setup_resources.create_types),
        "refused",
    ),
    (
        "GET",
        "issue/createmeta/{projectIdOrKey}/issuetypes/{issueTypeId}",
        create_meta("fields", setup_resources.create_fields),
        "refused",
    ),
    ("POST", "issue/{issueIdOrKey}/transitions", do_transition, "refused"),
    ("GET", "search", search_get, "served"),
    ("POST", "search", search_post, "served"),
    ("GET", "workflow", workflows, "refused"),
)
ROUTES: Table = tuple(
    (method, template, _older(handler), anonymous)
    for method, template, handler, anonymous in (
        *_OWN,
        *(row for row in (*setup_resources.ROUTES, *resources.ROUTES) if row[:2] in _SHARED),
    )
)
