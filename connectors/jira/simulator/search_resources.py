"""Owns what Cloud's addresses of search do: pages by token, counts, matches. Data Center's search is its own."""

from collections.abc import Mapping
from dataclasses import replace

import orjson

from connectors.jira.simulator.calls import Answer, Call, Json, Table, strict_body
from connectors.jira.simulator.refusals import INVALID, Refusal
from connectors.jira.simulator.resources import issue_shape
from connectors.jira.simulator.search import parse_or_refuse

_REMOVED = (
    "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API."
    " A full migration guideline is available at https://developer.atlassian.com/changelog/#CHANGE-2046"
)
_ONLY_IDS = frozenset({"id", "key"})
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
    return _search(call, strict_body(call, _SEARCH_BODY))


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
        raise Refusal(400, INVALID)
    parse_or_refuse(asked.get("jql", ""))
    if call.caller is None:
        return Answer(200, {"issues": [], "isLast": True})
    fields = asked.get("fields") or ["id"]
    shape = issue_shape(call, fields, [asked.get("expand", "")], asked.get("properties", ()), searched=True)
    size = min(size, 5000 if _ONLY_IDS.issuperset(shape.fields) and not shape.expand else 100)
    per_issue = replace(shape, expand=shape.expand - {"names", "schema"})
    size = 0 if call.empty_page else size
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
    jql = strict_body(call, {"jql": str}).get("jql", "")
    return Answer(200, {"count": call.search.count(jql, call.asker)})


def jql_match(call: Call) -> Answer:
    body = strict_body(call, {"issueIds": list, "jqls": list})
    matches: list[Json] = []
    for jql in body.get("jqls", []):
        try:
            matched = call.search.matches(jql, call.asker, body.get("issueIds", []))
            matches.append({"matchedIssues": matched, "errors": []})
        except Refusal as refusal:
            matches.append({"matchedIssues": [], "errors": refusal.body["errorMessages"]})
    return Answer(200, {"matches": matches})


ROUTES: Table = (
    ("GET", "search/jql", search_get, "served"),
    ("POST", "search/jql", search_post, "served"),
    ("GET", "search", removed_search, "served"),
    ("POST", "search", removed_search, "served"),
    ("POST", "search/approximate-count", approximate_count, "refused"),
    ("POST", "jql/match", jql_match, "refused"),
)
