"""Owns what each REST address of Jira Cloud does: reads parameters, asks the site, shapes the answer.

Who may ask, limits and faults have been settled before a handler is called. An address that anonymous callers reach on
the real product is marked so in ``ROUTES``, together with what they get.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any

import orjson

from connectors.jira.simulator.configuration import Project, TypeInProject, User
from connectors.jira.simulator.editing import Editing, Refusal, as_list
from connectors.jira.simulator.jql import Asker
from connectors.jira.simulator.options import Options
from connectors.jira.simulator.representation import Representation, Shape
from connectors.jira.simulator.search import Search, parse_or_refuse
from connectors.jira.simulator.site import Event, Issue, Site

Json = dict[str, Any]

_INVALID = "Invalid request payload. Refer to the REST API documentation and try again."
_NO_ISSUE = "Issue does not exist or you do not have permission to see it."
_REMOVED = (
    "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API."
    " A full migration guideline is available at https://developer.atlassian.com/changelog/#CHANGE-2046"
)
_ONLY_IDS = frozenset({"id", "key"})
_PROPERTY_LIMIT = 32_768


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any = None
    """JSON in parts, or encoded already; ``None`` for no body."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request with everything it may use. ``caller`` is ``None`` for an anonymous one."""

    site: Site
    search: Search
    shown: Representation
    options: Options
    version: str
    caller: User | None
    now: int
    zone: tzinfo
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: Any

    @property
    def editing(self) -> Editing:
        assert self.caller is not None
        return Editing(self.site, self.version, self.caller, self.now)

    @property
    def asker(self) -> Asker:
        return Asker(self.caller.account_id if self.caller else "", self.zone, self.now)

    def issue(self) -> Issue:
        issue = self.site.issue(self.path["issueIdOrKey"])
        if issue is None or self.caller is None:
            raise Refusal(404, _NO_ISSUE)
        return issue

    def text(self, name: str) -> str | None:
        return self.query[name][0] if self.query.get(name) else None

    def number(self, name: str, default: int, highest: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not text.isdecimal():
            raise Refusal(400, f"The value '{text}' is not valid for the parameter '{name}'.")
        return min(int(text), highest)

    def words(self, name: str) -> Sequence[str]:
        return as_list(list(self.query.get(name, ())))

    def record(self, events: Sequence[Event]) -> None:
        for event in events:
            self.site.record(event)


# --- the site and its set-up ------------------------------------------------------------------------------------------


def server_info(call: Call) -> Answer:
    start = call.shown.site_url
    return Answer(
        200,
        {
            "baseUrl": start,
            "displayUrl": start,
            "version": "1001.0.0-SNAPSHOT",
            "versionNumbers": [1001, 0, 0],
            "deploymentType": "Cloud",
            "buildNumber": 100293,
            "buildDate": "2026-10-01T00:00:00.000+0000",
            "serverTime": call.shown.stamp(call.now),
            "scmInfo": "simulated",
            "serverTitle": "Jira",
        },
    )


def myself(call: Call) -> Answer:
    assert call.caller is not None
    return Answer(200, {**call.shown.user(call.caller), "locale": "en_GB", "expand": "groups,applicationRoles"})


def fields(call: Call) -> Answer:
    return Answer(200, [call.shown.field(field) for field in call.site.configuration.fields.values()])


def choices(kind: str) -> Callable[[Call], Answer]:
    """All values of a field, e.g. priorities."""
    return lambda call: Answer(200, [call.shown.named(kind, each) for each in call.site.configuration.all_named(kind)])


def link_types(call: Call) -> Answer:
    return Answer(200, {"issueLinkTypes": [call.shown.link_type(each) for each in call.site.configuration.link_types]})


def project(call: Call) -> Answer:
    return Answer(200, call.shown.whole_project(_project(call)))


def _project(call: Call) -> Project:
    wanted = call.path["projectIdOrKey"]
    found = call.site.configuration.project(wanted)
    if found is None or wanted not in (found.key, found.id):
        raise Refusal(404, f"No project could be found with key '{wanted}'.")
    return found


def project_statuses(call: Call) -> Answer:
    return Answer(
        200,
        [
            {
                "self": call.shown.named("issuetype", use.type)["self"],
                "id": use.type.id,
                "name": use.type.name,
                "subtask": False,
                "statuses": [call.shown.named("status", each) for each in use.workflow.statuses],
            }
            for use in _project(call).types.values()
        ],
    )


def project_search(call: Call) -> Answer:
    wanted, query = call.words("keys"), (call.text("query") or "").casefold()
    found = [
        each
        for each in call.site.configuration.projects.values()
        if call.caller is not None
        and (not wanted or each.key in wanted)
        and (query in each.key.casefold() or query in each.name.casefold())
    ]
    return Answer(200, _page(call, [call.shown.project(each) for each in found], 50, "project/search"))


def _page(call: Call, values: Sequence[Any], highest: int, address: str) -> Json:
    start, limit = call.number("startAt", 0, 1 << 31), call.number("maxResults", highest, highest)
    shown = values[start : start + limit]
    last = start + limit >= len(values)
    base = f"{call.shown.base}/{address}"
    page: Json = {
        "self": f"{base}?startAt={start}&maxResults={limit}",
        "startAt": start,
        "maxResults": limit,
        "total": len(values),
        "isLast": last,
        "values": shown,
    }
    return page if last else {**page, "nextPage": f"{base}?startAt={start + limit}&maxResults={limit}"}


def assignable_users(call: Call) -> Answer:
    issue = call.site.issue(call.text("issueKey") or call.text("issueId") or "")
    if issue is None and call.site.configuration.project(call.text("project") or "") is None:
        raise Refusal(400, "Either the 'project' or the 'issueKey' query parameter must name something that exists.")
    return _users(call, [user for user in call.site.configuration.users.values() if user.active])


def all_users(call: Call) -> Answer:
    return _users(call, list(call.site.configuration.users.values()))


def _users(call: Call, users: Sequence[User]) -> Answer:
    wanted, account = (call.text("query") or "").casefold(), call.text("accountId")
    found = [
        call.shown.user(user)
        for user in users
        if account in (None, user.account_id)
        and (wanted in user.name.casefold() or wanted in (user.email or "").casefold())
    ]
    start, limit = call.number("startAt", 0, 1 << 31), call.number("maxResults", 50, 1000)
    return Answer(200, found[start : start + limit])


def create_types(call: Call) -> Answer:
    types = [{**call.shown.named("issuetype", use.type), "expand": "fields"} for use in _project(call).types.values()]
    return Answer(200, _meta_page(call, "issueTypes", types))


def create_fields(call: Call) -> Answer:
    use = _project(call).types.get(call.path["issueTypeId"])
    if use is None:
        raise Refusal(400, "The issue type is not valid for the project.")
    screen = {"project": True, "issuetype": True, **use.create}
    return Answer(
        200, _meta_page(call, "fields", [_create_field(call, use, key, need) for key, need in screen.items()])
    )


def _create_field(call: Call, use: TypeInProject, key: str, required: bool) -> Json:
    meta = call.shown.field_meta(key, required, True)
    if key == "issuetype":
        meta["allowedValues"] = [call.shown.named("issuetype", use.type)]
    elif key == "project":
        meta["allowedValues"] = [call.shown.project(_project(call))]
    return meta


def _meta_page(call: Call, name: str, values: Sequence[Json]) -> Json:
    start, limit = call.number("startAt", 0, 1 << 31), call.number("maxResults", 50, 200)
    return {"startAt": start, "maxResults": limit, "total": len(values), name: values[start : start + limit]}


# --- issues -----------------------------------------------------------------------------------------------------------


def create_issue(call: Call) -> Answer:
    event = call.editing.create(_body(call))
    call.record([event])
    number = event["issue"]
    return Answer(201, {"id": str(number), "key": event["key"], "self": f"{call.shown.base}/issue/{number}"})


def get_issue(call: Call) -> Answer:
    shape = _shape(
        call, call.words("fields") or ["*all"], call.words("expand"), call.words("properties"), "*all", 100, True
    )
    return Answer(200, call.shown.issue(call.issue(), shape))


def edit_issue(call: Call) -> Answer:
    issue = call.issue()
    call.record(call.editing.edit(issue, _body(call)))
    return get_issue(call) if call.text("returnIssue") == "true" else Answer(204)


def delete_issue(call: Call) -> Answer:
    assert call.caller is not None
    event = {"do": "delete", "at": call.now, "by": call.caller.account_id, "issue": call.issue().id}
    call.record([event])
    return Answer(204)


def edit_meta(call: Call) -> Answer:
    return Answer(200, call.shown.edit_screen(call.issue()))


def bulk_fetch(call: Call) -> Answer:
    body = _strict(
        call, {"issueIdsOrKeys": list, "fields": list, "properties": list, "expand": list, "fieldsByKeys": bool}
    )
    wanted = list(dict.fromkeys(map(str, body.get("issueIdsOrKeys", ()))))
    if not wanted or len(wanted) > 100:
        raise Refusal(400, "Between 1 and 100 issue ids or keys must be given.")
    shape = _shape(
        call,
        body.get("fields") or ["*navigable"],
        body.get("expand", ()),
        body.get("properties", ()),
        "*all",
        100,
        True,
    )
    found = {reference: call.site.issue(reference) for reference in wanted}
    issues = b",".join(call.shown.issue(issue, shape) for issue in found.values() if issue)
    errors = [{"id": reference, "errorMessage": _NO_ISSUE} for reference, issue in found.items() if issue is None]
    return Answer(200, b'{"issues":[' + issues + b'],"issueErrors":' + orjson.dumps(errors) + b"}")


def _shape(
    call: Call,
    fields: Sequence[str],
    expand: Sequence[str],
    properties: Sequence[str],
    minus_from: str,
    cap: int,
    honest: bool,
) -> Shape:
    """``minus_from`` is what a list of nothing but exclusions excludes from."""
    if len(properties) > 5:
        raise Refusal(400, "The maximum number of properties is 5.")
    known = call.site.configuration.fields
    asked = as_list(list(fields))
    if all(name.startswith("-") for name in asked):
        asked = [minus_from, *asked]
    chosen: list[str] = []
    for name in asked:
        if name == "*all":
            chosen += known
        elif name == "*navigable":
            chosen += [each.id for each in known.values() if each.navigable]
        elif name.startswith("-"):
            chosen = [each for each in chosen if each != name[1:]]
        else:
            chosen.append(name)
    return Shape(tuple(dict.fromkeys(chosen)), frozenset(as_list(list(expand))), tuple(properties), cap, honest)


def _body(call: Call) -> Json:
    if not isinstance(call.body, dict):
        raise Refusal(400, _INVALID)
    return call.body


def _strict(call: Call, known: Mapping[str, type]) -> Json:
    """A body with known keys of the right types only, without its nulls; newer resources refuse anything else."""
    body = {key: value for key, value in _body(call).items() if value is not None}
    for key, value in body.items():
        if key not in known or not isinstance(value, known[key]):
            raise Refusal(400, _INVALID)
    return body


# --- properties, comments, transitions, links -------------------------------------------------------------------------


def property_keys(call: Call) -> Answer:
    issue = call.issue()
    base = f"{call.shown.issue_url(issue)}/properties"
    return Answer(200, {"keys": [{"self": f"{base}/{name}", "key": name} for name in issue.properties]})


def get_property(call: Call) -> Answer:
    issue, name = call.issue(), call.path["propertyKey"]
    if name not in issue.properties:
        raise Refusal(404, f"The property with key '{name}' does not exist.")
    return Answer(200, {"key": name, "value": issue.properties[name]})


def put_property(call: Call) -> Answer:
    issue, name = call.issue(), call.path["propertyKey"]
    if len(orjson.dumps(call.body)) > _PROPERTY_LIMIT or len(name) > 255:
        raise Refusal(400, f"The property is too long. The limit of a value is {_PROPERTY_LIMIT} characters.")
    call.record([{**_property_event(call, issue, name), "value": call.body}])
    return Answer(200 if name in issue.properties else 201)


def delete_property(call: Call) -> Answer:
    get_property(call)
    call.record([_property_event(call, call.issue(), call.path["propertyKey"])])
    return Answer(204)


def _property_event(call: Call, issue: Issue, name: str) -> Json:
    assert call.caller is not None
    return {"do": "property", "at": call.now, "by": call.caller.account_id, "issue": issue.id, "name": name}


def comments(call: Call) -> Answer:
    issue = call.issue()
    newest_first = (call.text("orderBy") or "created").startswith("-")
    ordered = issue.comments[::-1] if newest_first else issue.comments
    start, limit = call.number("startAt", 0, 1 << 31), call.number("maxResults", 100, 5000)
    return Answer(200, call.shown.comment_page(issue, ordered, start, limit))


def comment(call: Call) -> Answer:
    issue = call.issue()
    found = next((each for each in issue.comments if each["id"] == call.path["id"]), None)
    if found is None:
        raise Refusal(404, f"Can not find a comment for the id: {call.path['id']}.")
    return Answer(200, call.shown.comment(issue, found))


def add_comment(call: Call) -> Answer:
    issue = call.issue()
    event = call.editing.comment(issue, _body(call))
    call.record([event])
    return Answer(201, call.shown.comment(issue, event["comment"]))


def transitions(call: Call) -> Answer:
    with_fields = "transitions.fields" in call.words("expand")
    wanted = call.text("transitionId")
    found = [each for each in call.shown.transitions_from(call.issue()) if wanted in (None, each.id)]
    shown = [call.shown.transition(each, with_fields) for each in found]
    return Answer(200, {"expand": "transitions", "transitions": shown})


def do_transition(call: Call) -> Answer:
    call.record(call.editing.transition(call.issue(), _body(call)))
    return Answer(204)


def link_issues(call: Call) -> Answer:
    call.record(call.editing.link(_body(call)))
    return Answer(201)


def remote_links(call: Call) -> Answer:
    issue, wanted = call.issue(), call.text("globalId")
    shown = [call.shown.remote_link(issue, each) for each in issue.remote_links]
    if wanted is None:
        return Answer(200, shown)
    found = next((each for each in shown if each.get("globalId") == wanted), None)
    if found is None:
        raise Refusal(404, f"No remote link with the global id '{wanted}'.")
    return Answer(200, found)


def put_remote_link(call: Call) -> Answer:
    """Create, or replace the one with the same global id: what is left out of the request is then gone."""
    issue, body = call.issue(), _body(call)
    target = body.get("object")
    if not isinstance(target, dict) or not target.get("url") or not target.get("title"):
        raise Refusal(400, errors={"object": "The 'url' and the 'title' of the object are required."})
    known = next(
        (each for each in issue.remote_links if body.get("globalId") and each.get("globalId") == body["globalId"]), None
    )
    number = known["id"] if known else max(call.site.next_id("remote"), 10000)
    kept = {
        key: body[key] for key in ("globalId", "application", "relationship", "object") if body.get(key) is not None
    }
    assert call.caller is not None
    event = {"do": "remote_link", "at": call.now, "by": call.caller.account_id, "issue": issue.id, "id": number}
    call.record([{**event, "link": kept}])
    answer = {"id": number, "self": f"{call.shown.issue_url(issue)}/remotelink/{number}"}
    return Answer(200 if known else 201, answer)


# --- history ----------------------------------------------------------------------------------------------------------


def changelog(call: Call) -> Answer:
    issue = call.issue()
    histories = [call.shown.history(each) for each in issue.histories]
    return Answer(200, _page(call, histories, 100, f"issue/{issue.id}/changelog"))


def bulk_changelog(call: Call) -> Answer:
    """Histories of many issues, oldest first over all of them; an issue may continue on the next page."""
    body = _strict(call, {"issueIdsOrKeys": list, "fieldIds": list, "maxResults": int, "nextPageToken": str})
    wanted, fields = body.get("issueIdsOrKeys", []), set(body.get("fieldIds", ()))
    size = body.get("maxResults", 1000)
    if not 1 <= len(wanted) <= 1000 or len(fields) > 10 or not 1 <= size <= 10_000:
        raise Refusal(400, _INVALID)
    token = body.get("nextPageToken", "0")
    if not token.isdecimal():
        raise Refusal(400, _INVALID)
    start = int(token)
    found = {issue.id: issue for reference in wanted if (issue := call.site.issue(str(reference)))}
    entries = sorted(
        (history["created"], issue.id, number, {**history, "items": items})
        for issue in found.values()
        for number, history in enumerate(issue.histories)
        if (items := [item for item in history["items"] if not fields or item.get("fieldId") in fields])
    )
    grouped: dict[int, list[Json]] = {}
    for created, number, _, history in entries[start : start + size]:
        grouped.setdefault(number, []).append(call.shown.history(history, _bulk_stamp(call, created)))
    shown = [{"issueId": str(number), "changeHistories": histories} for number, histories in grouped.items()]
    more = {"nextPageToken": str(start + size)} if start + size < len(entries) else {}
    return Answer(200, {"issueChangeLogs": shown, **more})


def _bulk_stamp(call: Call, millis: int) -> str | int:
    forms: Mapping[str, str | int] = {"ms": millis, "s": millis // 1000}
    return forms.get(call.options.bulkfetch_created) or call.shown.stamp(millis)


# --- search -----------------------------------------------------------------------------------------------------------

_SEARCH_BODY: Mapping[str, type] = {
    "jql": str,
    "nextPageToken": str,
    "maxResults": int,
    "fields": list,
    "expand": str,
    "properties": list,
    "fieldsByKeys": bool,
    "reconcileIssues": list,
}


def search_post(call: Call) -> Answer:
    return _search(call, _strict(call, _SEARCH_BODY))


def search_get(call: Call) -> Answer:
    asked: Json = {name: list(call.words(name)) for name in ("fields", "properties") if call.words(name)}
    for name in ("jql", "nextPageToken", "expand"):
        if (text := call.text(name)) is not None:
            asked[name] = text
    asked["maxResults"] = call.number("maxResults", 50, 5000)
    asked["reconcileIssues"] = [int(each) for each in call.words("reconcileIssues") if each.isdecimal()]
    return _search(call, asked)


def _search(call: Call, asked: Json) -> Answer:
    reconcile = asked.get("reconcileIssues", [])
    size = asked.get("maxResults", 50)
    if len(reconcile) > 50 or not all(isinstance(each, int) for each in reconcile) or size < 1:
        raise Refusal(400, _INVALID)
    parse_or_refuse(asked.get("jql", ""))
    if call.caller is None:
        return Answer(200, {"issues": [], "isLast": True})
    fields = asked.get("fields") or ["id"]
    shape = _shape(call, fields, [asked.get("expand", "")], asked.get("properties", ()), "*navigable", 40, False)
    size = min(size, 5000 if _ONLY_IDS.issuperset(shape.fields) and not shape.expand else 100)
    per_issue = replace(shape, expand=shape.expand - {"names", "schema"})
    found = call.search.page(asked.get("jql", ""), call.asker, size, asked.get("nextPageToken"), reconcile)
    tail: Json = {"isLast": found.token is None}
    if found.token is not None:
        tail["nextPageToken"] = found.token
    if "names" in shape.expand:
        tail["names"] = call.shown.names(shape.fields)
    if "schema" in shape.expand:
        tail["schema"] = call.shown.schemas(shape.fields)
    issues = b",".join([call.shown.issue(issue, per_issue) for issue in found.issues])
    return Answer(200, b"".join((b'{"issues":[', issues, b"],", orjson.dumps(tail)[1:])))


def removed_search(call: Call) -> Answer:
    raise Refusal(410, _REMOVED)


def approximate_count(call: Call) -> Answer:
    jql = _strict(call, {"jql": str}).get("jql", "")
    return Answer(200, {"count": call.search.count(jql, call.asker)})


def jql_match(call: Call) -> Answer:
    body = _strict(call, {"issueIds": list, "jqls": list})
    matches: list[Json] = []
    for jql in body.get("jqls", []):
        try:
            matched = call.search.matches(jql, call.asker, body.get("issueIds", []))
            matches.append({"matchedIssues": matched, "errors": []})
        except Refusal as refusal:
            matches.append({"matchedIssues": [], "errors": refusal.body["errorMessages"]})
    return Answer(200, {"matches": matches})


Handler = Callable[[Call], Answer]

#: What an anonymous caller, or one whose password is wrong, gets: ``refused`` (401), or the handler's own answer, which
#: shows nothing. The latter is how a dead token looks like an empty site.
ROUTES: Sequence[tuple[str, str, Handler, str]] = (
    ("GET", "serverInfo", server_info, "served"),
    ("GET", "myself", myself, "refused"),
    ("GET", "field", fields, "refused"),
    ("GET", "issuetype", choices("issuetype"), "refused"),
    ("GET", "priority", choices("priority"), "refused"),
    ("GET", "resolution", choices("resolution"), "refused"),
    ("GET", "status", choices("status"), "refused"),
    ("GET", "issueLinkType", link_types, "refused"),
    ("GET", "project/search", project_search, "served"),
    ("GET", "project/{projectIdOrKey}", project, "refused"),
    ("GET", "project/{projectIdOrKey}/statuses", project_statuses, "refused"),
    ("GET", "user/assignable/search", assignable_users, "refused"),
    ("GET", "users/search", all_users, "refused"),
    ("GET", "issue/createmeta/{projectIdOrKey}/issuetypes", create_types, "refused"),
    ("GET", "issue/createmeta/{projectIdOrKey}/issuetypes/{issueTypeId}", create_fields, "refused"),
    ("POST", "issue", create_issue, "refused"),
    ("POST", "issue/bulkfetch", bulk_fetch, "refused"),
    ("GET", "issue/{issueIdOrKey}", get_issue, "served"),
    ("PUT", "issue/{issueIdOrKey}", edit_issue, "refused"),
    ("DELETE", "issue/{issueIdOrKey}", delete_issue, "refused"),
    ("GET", "issue/{issueIdOrKey}/editmeta", edit_meta, "refused"),
    ("GET", "issue/{issueIdOrKey}/properties", property_keys, "refused"),
    ("GET", "issue/{issueIdOrKey}/properties/{propertyKey}", get_property, "refused"),
    ("PUT", "issue/{issueIdOrKey}/properties/{propertyKey}", put_property, "refused"),
    ("DELETE", "issue/{issueIdOrKey}/properties/{propertyKey}", delete_property, "refused"),
    ("GET", "issue/{issueIdOrKey}/comment", comments, "refused"),
    ("POST", "issue/{issueIdOrKey}/comment", add_comment, "refused"),
    ("GET", "issue/{issueIdOrKey}/comment/{id}", comment, "refused"),
    ("GET", "issue/{issueIdOrKey}/transitions", transitions, "refused"),
    ("POST", "issue/{issueIdOrKey}/transitions", do_transition, "refused"),
    ("GET", "issue/{issueIdOrKey}/remotelink", remote_links, "refused"),
    ("POST", "issue/{issueIdOrKey}/remotelink", put_remote_link, "refused"),
    ("GET", "issue/{issueIdOrKey}/changelog", changelog, "refused"),
    ("POST", "issueLink", link_issues, "refused"),
    ("POST", "changelog/bulkfetch", bulk_changelog, "refused"),
    ("GET", "search/jql", search_get, "served"),
    ("POST", "search/jql", search_post, "served"),
    ("GET", "search", removed_search, "served"),
    ("POST", "search", removed_search, "served"),
    ("POST", "search/approximate-count", approximate_count, "refused"),
    ("POST", "jql/match", jql_match, "refused"),
)
