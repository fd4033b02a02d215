"""Owns what the addresses of the site's set-up do: fields, choices, projects, people, groups, screens of creation."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from uuid import NAMESPACE_URL, uuid5

from connectors.jira.simulator.calls import Answer, Call, Json, Table, page_bean
from connectors.jira.simulator.configuration import Project, TypeInProject, User
from connectors.jira.simulator.refusals import Refusal

_ALL = 1 << 31


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


def field_search(call: Call) -> Answer:
    wanted, query, kinds = call.words("id"), (call.text("query") or "").casefold(), call.words("type")
    found = [
        each
        for each in call.site.configuration.fields.values()
        if (not wanted or each.id in wanted)
        and query in each.name.casefold()
        and (not kinds or ("custom" if each.custom else "system") in kinds)
    ]
    shown = [
        {"id": each.id, "name": each.name, "schema": call.shown.schema(each), "isLocked": not each.custom}
        for each in found
    ]
    return Answer(200, page_bean(call, shown, 50, "field/search"))


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
                "subtask": use.type.subtask,
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
    return Answer(200, page_bean(call, found, 50, "project/search", call.shown.project))


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
    start, limit = call.number("startAt", 0, _ALL), call.number("maxResults", 50, 1000)
    return Answer(200, found[start : start + limit])


def groups(call: Call) -> Answer:
    names, ids = call.words("groupName"), call.words("groupId")
    found = [
        {"name": name, "groupId": group_id(name)}
        for name in _groups(call)
        if not (names or ids) or name in names or group_id(name) in ids
    ]
    return Answer(200, page_bean(call, found, 50, "group/bulk"))


def group_members(call: Call) -> Answer:
    wanted = (call.text("groupname"), call.text("groupId"))
    named = _groups(call)
    found = next((name for name in named if name == wanted[0] or group_id(name) == wanted[1]), None)
    if found is None:
        raise Refusal(404, "The group does not exist.")
    users = [call.site.configuration.users[each] for each in named[found]]
    inactive = call.text("includeInactiveUsers") == "true"
    members = [each for each in users if each.active or inactive]
    return Answer(200, page_bean(call, members, 50, "group/member", call.shown.user))


def groups_picker(call: Call) -> Answer:
    wanted = (call.text("query") or "").casefold()
    found = [name for name in _groups(call) if wanted in name.casefold()]
    shown = found[: call.number("maxResults", 20, 1000)]
    cloud = call.options.edition == "cloud"
    listed = [
        {"name": name, "html": escape(name), "labels": [], **({"groupId": group_id(name)} if cloud else {})}
        for name in shown
    ]
    header = f"Showing {len(shown)} of {len(found)} matching groups"
    return Answer(200, {"header": header, "total": len(found), "groups": listed})


def _groups(call: Call) -> Mapping[str, Sequence[str]]:
    return call.site.configuration.groups or {"jira-users": tuple(call.site.configuration.users)}


def group_id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


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
    start, limit = call.number("startAt", 0, _ALL), call.number("maxResults", 50, 200)
    return {"startAt": start, "maxResults": limit, "total": len(values), name: values[start : start + limit]}


ROUTES: Table = (
    ("GET", "serverInfo", server_info, "served"),
    ("GET", "myself", myself, "refused"),
    ("GET", "field", fields, "refused"),
    ("GET", "field/search", field_search, "refused"),
    ("GET", "issuetype", choices("issuetype"), "refused"),
    ("GET", "priority", choices("priority"), "refused"),
    ("GET", "resolution", choices("resolution"), "refused"),
    ("GET", "status", choices("status"), "refused"),
    ("GET", "issueLinkType", link_types, "refused"),
    ("GET", "project/search", project_search, "served"),
    ("GET", "project/{projectIdOrKey}", project, "refused"),
    ("GET", "project/{projectIdOrKey}/statuses", project_statuses, "refused"),
    ("GET", "user/assignable/search", assignable_users, "refused"),
    ("GET", "users", all_users, "refused"),
    ("GET", "users/search", all_users, "refused"),
    ("GET", "group/bulk", groups, "refused"),
    ("GET", "group/member", group_members, "refused"),
    ("GET", "groups/picker", groups_picker, "refused"),
    ("GET", "issue/createmeta/{projectIdOrKey}/issuetypes", create_types, "refused"),
    ("GET", "issue/createmeta/{projectIdOrKey}/issuetypes/{issueTypeId}", create_fields, "refused"),
)
