"""Owns what each address of an issue does, in either edition: reads parameters, asks the site, shapes the answer.

Who may ask, limits and faults have been settled before a handler is called. An address that anonymous callers reach on
the real product is marked so in ``ROUTES``: that is how a dead token looks like an empty site.
"""

from collections.abc import Iterable, Mapping, Sequence

import orjson

from connectors.jira.simulator.calls import (
    Answer,
    Call,
    Json,
    Table,
    as_list,
    object_body,
    page_bean,
    strict_body,
)
from connectors.jira.simulator.options import Options
from connectors.jira.simulator.refusals import INVALID, NO_ISSUE, Refusal
from connectors.jira.simulator.representation import Shape
from connectors.jira.simulator.site import Issue

_PROPERTY_LIMIT = 32_768
_ALL = 1 << 31


# --- issues -----------------------------------------------------------------------------------------------------------


def create_issue(call: Call) -> Answer:
    event = call.editing.create(object_body(call))
    call.record([event])
    number = event["issue"]
    return Answer(201, {"id": str(number), "key": event["key"], "self": f"{call.shown.base}/issue/{number}"})


def get_issue(call: Call) -> Answer:
    fields, expand, properties = (call.words(name) for name in ("fields", "expand", "properties"))
    shape = issue_shape(call, fields or ["*all"], expand, properties)
    return Answer(200, call.shown.issue(call.issue(), shape))


def edit_issue(call: Call) -> Answer:
    issue = call.issue()
    call.record(call.editing.edit(issue, object_body(call)))
    return get_issue(call) if call.text("returnIssue") == "true" else Answer(204)


def delete_issue(call: Call) -> Answer:
    assert call.caller is not None
    event = {"do": "delete", "at": call.now, "by": call.caller.account_id, "issue": call.issue().id}
    call.record([event])
    return Answer(204)


def edit_meta(call: Call) -> Answer:
    return Answer(200, call.shown.edit_screen(call.issue()))


def bulk_fetch(call: Call) -> Answer:
    body = strict_body(
        call, {"issueIdsOrKeys": list, "fields": list, "properties": list, "expand": list, "fieldsByKeys": bool}
    )
    wanted = list(dict.fromkeys(map(str, body.get("issueIdsOrKeys", ()))))
    if not wanted or len(wanted) > 100:
        raise Refusal(400, "Between 1 and 100 issue ids or keys must be given.")
    fields, properties = body.get("fields") or ["*navigable"], body.get("properties", ())
    shape = issue_shape(call, fields, body.get("expand", ()), properties)
    found = {reference: call.visible(reference) for reference in wanted}
    issues = b",".join(call.shown.issue(issue, shape) for issue in found.values() if issue)
    errors = [{"id": reference, "errorMessage": NO_ISSUE} for reference, issue in found.items() if issue is None]
    return Answer(200, b'{"issues":[' + issues + b'],"issueErrors":' + orjson.dumps(errors) + b"}")


def issue_shape(
    call: Call, fields: Sequence[str], expand: Iterable[str], properties: Sequence[str], searched: bool = False
) -> Shape:
    """What is shown of an issue, and how much of its history: a search shows less, and excludes from less."""
    if len(properties) > 5:
        raise Refusal(400, "The maximum number of properties is 5.")
    known = call.site.configuration.fields
    asked = as_list(list(fields))
    if all(name.startswith("-") for name in asked):
        asked = ["*navigable" if searched else "*all", *asked]
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
    shown = frozenset(as_list(list(expand)))
    return Shape(tuple(dict.fromkeys(chosen)), shown, tuple(properties), *_history_shown(call.options, searched))


def _history_shown(options: Options, searched: bool) -> tuple[int, bool]:
    """How many histories come with an issue, and whether their ``total`` counts those that do not."""
    cloud = options.edition == "cloud"
    if not searched:
        return (100 if cloud else _ALL), True
    honest = (options.changelog_total or ("lying" if cloud else "honest")) == "honest"
    return options.changelog_cap or (40 if cloud else _ALL), honest


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
    usual = call.options.comment_page or (100 if call.options.edition == "cloud" else 50)
    start, limit = call.number("startAt", 0, _ALL), call.number("maxResults", usual, 5000)
    return Answer(200, call.shown.comment_page(issue, ordered, start, limit))


def comment(call: Call) -> Answer:
    issue = call.issue()
    found = next((each for each in issue.comments if each["id"] == call.path["id"]), None)
    if found is None:
        raise Refusal(404, f"Can not find a comment for the id: {call.path['id']}.")
    return Answer(200, call.shown.comment(issue, found))


def comment_property(call: Call) -> Answer:
    """The only property that a comment keeps: whether it is internal, as long as it is."""
    name, number = call.path["propertyKey"], call.path["commentId"]
    found = call.site.comment(number)
    if found is None:
        raise Refusal(404, f"Can not find a comment for the id: {number}.")
    if name != "sd.public.comment" or not found[1].get("internal"):
        raise Refusal(404, f"The property with key '{name}' does not exist.")
    return Answer(200, {"key": name, "value": {"internal": True}})


def listed_comments(call: Call) -> Answer:
    """Comments by id, whatever issue they belong to; unknown ones are left out."""
    wanted = strict_body(call, {"ids": list}).get("ids", [])
    if not 1 <= len(wanted) <= 1000:
        raise Refusal(400, INVALID)
    found = list(filter(None, map(call.site.comment, dict.fromkeys(map(str, wanted)))))
    return Answer(200, page_bean(call, found, 1000, "comment/list", lambda each: call.shown.comment(*each)))


def add_comment(call: Call) -> Answer:
    issue = call.issue()
    event = call.editing.comment(issue, object_body(call))
    call.record([event])
    return Answer(201, call.shown.comment(issue, event["comment"]))


def transitions(call: Call) -> Answer:
    with_fields = "transitions.fields" in call.words("expand")
    wanted = call.text("transitionId")
    found = [each for each in call.shown.transitions_from(call.issue()) if wanted in (None, each.id)]
    shown = [call.shown.transition(each, with_fields) for each in found]
    return Answer(200, {"expand": "transitions", "transitions": shown})


def do_transition(call: Call) -> Answer:
    call.record(call.editing.transition(call.issue(), object_body(call)))
    return Answer(204)


def link_issues(call: Call) -> Answer:
    call.record(call.editing.link(object_body(call)))
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
    issue, body = call.issue(), object_body(call)
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
    return Answer(200, page_bean(call, issue.histories, 100, f"issue/{issue.id}/changelog", call.shown.history))


def listed_changelog(call: Call) -> Answer:
    issue = call.issue()
    wanted = {str(each) for each in strict_body(call, {"changelogIds": list}).get("changelogIds", [])}
    found = [call.shown.history(each) for each in issue.histories if each["id"] in wanted]
    return Answer(200, {"startAt": 0, "maxResults": len(found), "total": len(found), "histories": found})


def bulk_changelog(call: Call) -> Answer:
    """Histories of many issues, oldest first over all of them; an issue may continue on the next page."""
    body = strict_body(call, {"issueIdsOrKeys": list, "fieldIds": list, "maxResults": int, "nextPageToken": str})
    wanted, fields = body.get("issueIdsOrKeys", []), set(body.get("fieldIds", ()))
    size = body.get("maxResults", 1000)
    if not 1 <= len(wanted) <= 1000 or len(fields) > 10 or not 1 <= size <= 10_000:
        raise Refusal(400, INVALID)
    token = body.get("nextPageToken", "0")
    if not token.isdecimal():
        raise Refusal(400, INVALID)
    start = int(token)
    found = {issue.id: issue for reference in wanted if (issue := call.visible(str(reference)))}
    entries = sorted(
        (history["created"], issue.id, number)
        for issue in found.values()
        for number, history in enumerate(issue.histories)
        if not fields or any(item.get("fieldId") in fields for item in history["items"])
    )
    grouped: dict[int, list[Json]] = {}
    for created, number, place in entries[start : start + size]:
        history = found[number].histories[place]
        if fields:
            history = {**history, "items": [item for item in history["items"] if item.get("fieldId") in fields]}
        grouped.setdefault(number, []).append(call.shown.history(history, _bulk_stamp(call, created)))
    shown = [{"issueId": str(number), "changeHistories": histories} for number, histories in grouped.items()]
    more = {"nextPageToken": str(start + size)} if start + size < len(entries) else {}
    return Answer(200, {"issueChangeLogs": shown, **more})


def _bulk_stamp(call: Call, millis: int) -> str | int:
    forms: Mapping[str, str | int] = {"ms": millis, "s": millis // 1000}
    return forms.get(call.options.bulkfetch_created) or call.shown.stamp(millis)


ROUTES: Table = (
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
    ("POST", "issue/{issueIdOrKey}/changelog/list", listed_changelog, "refused"),
    ("POST", "comment/list", listed_comments, "refused"),
    ("GET", "comment/{commentId}/properties/{propertyKey}", comment_property, "refused"),
    ("POST", "issueLink", link_issues, "refused"),
    ("POST", "changelog/bulkfetch", bulk_changelog, "refused"),
)
