"""Owns what each address of the service desk interface does: requests with approvals, clocks, comments and status.

A request is an issue of a service project that is no sub-task. The interface is the same in both editions, except that
Data Center shows approvals only to callers who opt in to experimental resources.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.jira.simulator.calls import Answer, Call, Handler, Json, Table, object_body
from connectors.jira.simulator.configuration import CATEGORIES, Project
from connectors.jira.simulator.markup import as_html, as_wiki
from connectors.jira.simulator.refusals import Refusal
from connectors.jira.simulator.service_levels import cycles, levels
from connectors.jira.simulator.site import Issue

_NO_REQUEST = "The request does not exist, or you do not have permission to view it."
_NO_AGENT = "You do not have permission to perform this operation: it needs a Jira Service Management licence."
_EXPERIMENTAL = "This API is experimental. Set the header X-ExperimentalApi: opt-in to use it."
_PAGE = 50
_LARGEST_PAGE = 100
_DECISIONS = {"approve": "approved", "decline": "declined"}
_EXPANDS = ["participant", "status", "sla", "requestType", "serviceDesk", "attachment", "action", "comment"]


class ServiceRefusal(Refusal):
    """A refusal in this interface's own form."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        key = {400: "sd.rest.invalid", 403: "sd.rest.forbidden"}.get(status, "sd.rest.not.found")
        self.body = {"errorMessage": message, "i18nErrorMessage": {"i18nKey": key, "parameters": []}}


def _in_service_form(handler: Handler) -> Handler:
    def serve(call: Call) -> Answer:
        try:
            return handler(call)
        except ServiceRefusal:
            raise
        except Refusal as refusal:
            sentences = [*refusal.body["errorMessages"], *refusal.body["errors"].values()]
            raise ServiceRefusal(refusal.status, " ".join(map(str, sentences))) from None

    return serve


# --- the service desks ------------------------------------------------------------------------------------------------


def info(call: Call) -> Answer:
    build = "c6c33a4381164a65dc4b8ecd123c6fa071fac773"
    return Answer(
        200,
        {
            "version": build,
            "platformVersion": build,
            "buildDate": call.shown.service.date(1_790_812_800_000),
            "buildChangeSet": build,
            "isLicensedForUse": True,
            "_links": {"self": f"{call.shown.service.base}/info"},
        },
    )


def service_desks(call: Call) -> Answer:
    return Answer(200, _page(call, "servicedesk", [_desk(call, each) for each in _desks(call)]))


def service_desk(call: Call) -> Answer:
    found = next((each for each in _desks(call) if call.path["id"] in (_desk_id(call, each), each.key)), None)
    if found is None:
        raise ServiceRefusal(404, "The service desk does not exist, or you do not have permission to view it.")
    return Answer(200, _desk(call, found))


def _desks(call: Call) -> list[Project]:
    return [each for each in call.site.configuration.projects.values() if each.type_key == "service_desk"]


def _desk_id(call: Call, project: Project) -> str:
    return str(1 + [each.key for each in _desks(call)].index(project.key))


def _desk(call: Call, project: Project) -> Json:
    number = _desk_id(call, project)
    names = {"projectId": project.id, "projectName": project.name, "projectKey": project.key}
    return {"id": number, **names, "_links": {"self": f"{call.shown.service.base}/servicedesk/{number}"}}


def _page(call: Call, address: str, values: Sequence[Json]) -> Json:
    """One page of a list, in the envelope that all lists of this interface have."""
    start, limit = call.number("start", 0, 1 << 31), call.number("limit", _PAGE, _LARGEST_PAGE)
    shown = values[start : start + limit]
    last = start + limit >= len(values)
    whole = f"{call.shown.service.base}/{address}"
    links = {"self": f"{whole}?start={start}&limit={limit}", "base": call.shown.service.base, "context": ""}
    if not last:
        links["next"] = f"{whole}?start={start + limit}&limit={limit}"
    if start:
        links["prev"] = f"{whole}?start={max(0, start - limit)}&limit={limit}"
    counts = {"size": len(shown), "start": start, "limit": limit, "isLastPage": last}
    return {"_expands": [], **counts, "_links": links, "values": shown}


# --- requests ---------------------------------------------------------------------------------------------------------


def _request(call: Call) -> Issue:
    """The request of the address; refuses what is none and callers who are no agents."""
    issue = call.visible(call.path["issueIdOrKey"])
    configuration = call.site.configuration
    if issue is None or configuration.projects[issue.project].type_key != "service_desk" or issue.values.get("parent"):
        raise ServiceRefusal(404, _NO_REQUEST)
    if not call.options.agent:
        raise ServiceRefusal(403, _NO_AGENT)
    return issue


def request(call: Call) -> Answer:
    issue = _request(call)
    configuration, service = call.site.configuration, call.shown.service
    number = _desk_id(call, configuration.projects[issue.project])
    reporter = configuration.users.get(issue.values.get("reporter") or "")
    shown: Json = {
        "_expands": _EXPANDS,
        "issueId": str(issue.id),
        "issueKey": issue.key,
        "requestTypeId": issue.values["issuetype"],
        "serviceDeskId": number,
        "createdDate": service.date(issue.values["created"]),
        "reporter": service.person(reporter) if reporter else None,
        "requestFieldValues": _field_values(issue),
        "currentStatus": _statuses(call, issue)[0],
        "_links": {
            "jiraRest": f"{call.shown.site_url}/rest/api/2/issue/{issue.id}",
            "web": f"{call.shown.site_url}/servicedesk/customer/portal/{number}/{issue.key}",
            "self": f"{service.base}/request/{issue.id}",
            "agent": f"{call.shown.site_url}/browse/{issue.key}",
        },
    }
    parts = {"sla": _clocks, "status": _statuses, "comment": _comments}
    for part in call.words("expand"):
        if part in parts:
            shown[part] = _page(call, f"request/{issue.id}/{part}", parts[part](call, issue))
    return Answer(200, shown)


def _field_values(issue: Issue) -> list[Json]:
    values: list[Json] = [{"fieldId": "summary", "label": "Summary", "value": issue.values["summary"]}]
    if text := issue.values.get("description"):
        rendered = {"html": as_html(text)}
        shown = {"fieldId": "description", "label": "Description", "value": as_wiki(text), "renderedValue": rendered}
        values.append(shown)
    return values


def statuses(call: Call) -> Answer:
    issue = _request(call)
    return Answer(200, _page(call, f"request/{issue.id}/status", _statuses(call, issue)))


def _statuses(call: Call, issue: Issue) -> list[Json]:
    """What the issue's status is and has been, newest first."""
    steps = [
        (history["created"], item["to"])
        for history in issue.histories
        for item in history["items"]
        if item.get("fieldId") == "status"
    ]
    entered = [(at, number) for at, number in steps[::-1] if number]
    if not entered or entered[0][1] != issue.values["status"]:
        entered.insert(0, (steps[-1][0] if steps else issue.values["created"], issue.values["status"]))
    known, date = call.site.configuration.statuses, call.shown.service.date
    return [
        {
            "status": known[number].name,
            "statusCategory": CATEGORIES[known[number].category][1].upper(),
            "statusDate": date(at),
        }
        for at, number in entered
    ]


# --- approvals --------------------------------------------------------------------------------------------------------


def approvals(call: Call) -> Answer:
    issue = _approvable(call)
    return Answer(200, _page(call, f"request/{issue.id}/approval", _approvals(call, issue)))


def approval(call: Call) -> Answer:
    return Answer(200, _approval(call, _approvable(call)))


def answer_approval(call: Call) -> Answer:
    issue = _approvable(call)
    decision = _DECISIONS.get(str(object_body(call).get("decision")))
    if decision is None:
        raise ServiceRefusal(400, "The decision is not valid: it must be 'approve' or 'decline'.")
    call.record(call.editing.decide(issue, call.path["id"], decision))
    return Answer(200, _approval(call, _request(call)))


def _approvable(call: Call) -> Issue:
    if call.options.edition == "datacenter" and call.headers.get("x-experimentalapi") != "opt-in":
        raise ServiceRefusal(412, _EXPERIMENTAL)
    return _request(call)


def _approvals(call: Call, issue: Issue) -> list[Json]:
    assert call.caller is not None
    return call.shown.approvals(issue, call.caller.account_id)


def _approval(call: Call, issue: Issue) -> Json:
    found = next((each for each in _approvals(call, issue) if each["id"] == call.path["id"]), None)
    if found is None:
        raise ServiceRefusal(404, "The approval does not exist, or you do not have permission to view it.")
    return found


# --- service levels ---------------------------------------------------------------------------------------------------


def clocks(call: Call) -> Answer:
    issue = _request(call)
    return Answer(200, _page(call, f"request/{issue.id}/sla", _clocks(call, issue)))


def clock(call: Call) -> Answer:
    found = next((each for each in _clocks(call, _request(call)) if each["id"] == call.path["slaMetricId"]), None)
    if found is None:
        raise ServiceRefusal(404, "The SLA metric does not exist on the request.")
    return Answer(200, found)


def _clocks(call: Call, issue: Issue) -> list[Json]:
    return [
        call.shown.service.service_level(issue, level, measured)
        for level in levels(call.site.configuration, issue)
        if (measured := cycles(level, issue, call.now)) or level.id in issue.cycles
    ]


# --- comments ---------------------------------------------------------------------------------------------------------


def comments(call: Call) -> Answer:
    issue = _request(call)
    return Answer(200, _page(call, f"request/{issue.id}/comment", _comments(call, issue)))


def comment(call: Call) -> Answer:
    issue = _request(call)
    found = next((each for each in issue.comments if each["id"] == call.path["id"]), None)
    if found is None:
        raise ServiceRefusal(404, "The comment does not exist on the request.")
    return Answer(200, _comment(call, issue, found))


def add_comment(call: Call) -> Answer:
    issue, body = _request(call), object_body(call)
    if not isinstance(body.get("body"), str) or not isinstance(body.get("public"), bool):
        raise ServiceRefusal(400, "The comment needs a body and whether it is public.")
    internal = [{"key": "sd.public.comment", "value": {"internal": not body["public"]}}]
    event = call.editing.comment(issue, {"body": body["body"], "properties": internal})
    call.record([event])
    return Answer(201, _comment(call, issue, event["comment"]))


def _comments(call: Call, issue: Issue) -> list[Json]:
    wanted = {True: call.text("public") != "false", False: call.text("internal") != "false"}
    return [_comment(call, issue, each) for each in issue.comments if wanted[not each.get("internal")]]


def _comment(call: Call, issue: Issue, given: Mapping[str, Any]) -> Json:
    service = call.shown.service
    return {
        "_expands": ["attachment", "renderedBody"],
        "id": given["id"],
        "body": as_wiki(given["body"]),
        "public": not given.get("internal", False),
        "author": service.person(call.site.configuration.users[given["author"]]),
        "created": service.date(given["created"]),
        "_links": {"self": f"{service.base}/request/{issue.id}/comment/{given['id']}"},
    }


ROUTES: Table = tuple(
    (method, template, _in_service_form(handler), anonymous)
    for method, template, handler, anonymous in (
        ("GET", "info", info, "served"),
        ("GET", "servicedesk", service_desks, "refused"),
        ("GET", "servicedesk/{id}", service_desk, "refused"),
        ("GET", "request/{issueIdOrKey}", request, "refused"),
        ("GET", "request/{issueIdOrKey}/status", statuses, "refused"),
        ("GET", "request/{issueIdOrKey}/approval", approvals, "refused"),
        ("GET", "request/{issueIdOrKey}/approval/{id}", approval, "refused"),
        ("POST", "request/{issueIdOrKey}/approval/{id}", answer_approval, "refused"),
        ("GET", "request/{issueIdOrKey}/sla", clocks, "refused"),
        ("GET", "request/{issueIdOrKey}/sla/{slaMetricId}", clock, "refused"),
        ("GET", "request/{issueIdOrKey}/comment", comments, "refused"),
        ("POST", "request/{issueIdOrKey}/comment", add_comment, "refused"),
        ("GET", "request/{issueIdOrKey}/comment/{id}", comment, "refused"),
    )
)
