"""Owns what goes wrong with a Jira site, each fault under its name: requests, answers and lists that are not as they
should be.

When a fault strikes is ``connectors.faults``' matter. What search shows late is ``search``'s and ``site``'s to carry
out, late and cut answers are the server's.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from connectors.faults import ODD, ODD_SORTS, STATUS, WIRE, Kind, Rule, limits, odd_json, retry_after
from connectors.jira.simulator.limits import reset_stamp
from connectors.jira.simulator.messages import HTML, Request, Response, json_response

Json = dict[str, Any]
_SEARCH = r"/rest/api/[23]/search(/jql)?$"
_TOKENS = r"/rest/api/[23]/search/jql$"
_SCREEN = r"/issue/createmeta/[^/]+/issuetypes/[^/]+$|/issue$"
_STEPS = "/issue/[^/]+/transitions$"
_REST = "/rest/"
SCENARIOS = Path(__file__).with_name("scenarios")
LAGGING = ("search_lag", "index_node_lag")
KINDS: Mapping[str, Kind] = {
    **WIRE,
    **STATUS,
    "html_200": Kind("200 with the page of a log-in"),
    "empty_202": Kind("202 without a body"),
    "maintenance": Kind("503 with a page of HTML"),
    "cut_json": Kind("JSON that breaks off, with the right length", path=_REST),
    "url_too_long": Kind("414 for addresses of more characters than this", {"characters": 2000}),
    "rate_limit_storm": Kind("429 with all headers of the burst limit", {"seconds": 2}, path=_REST),
    **limits(_REST),
    "anonymous": Kind("the credential has died: lists are empty, the rest is refused", path=_REST),
    "merge": Kind("these keys are put over the answer", {"body": dict}),
    "fewer": Kind("half of the rows are missing, with these keys over the answer", {"body": {}}),
    "warnings": Kind("search warns that its answer is not whole", {"told": "The result was truncated."}, path=_SEARCH),
    "repeat_token": Kind("the asked token comes again", path=_TOKENS),
    "lost_token": Kind("more follows, but no token says where", path=_TOKENS),
    "expired_token": Kind("400 for a page that is asked for by token", path=_TOKENS),
    "empty_page_with_token": Kind("a page without issues, and a token", path=_TOKENS),
    "changing_pages": Kind("an issue is updated before the page is shown", path=_SEARCH),
    "repeat_page": Kind("the page before is shown again", path=_SEARCH),
    "search_lag": Kind(
        "search sees the site as it was so many seconds ago; null for as it was when the rule struck first",
        {"seconds": None},
        path=_SEARCH,
    ),
    "index_node_lag": Kind("every second search is answered by a node that lags", {"seconds": 60.0}, path=_SEARCH),
    "field_missing": Kind("the field is not delivered", {"field": str}, path=_REST),
    "odd_content": Kind(
        "the first issue holds something odd in the field", {"field": str, "sort": ODD_SORTS}, path=_SEARCH
    ),
    "required_field_added": Kind("the create screen wants one more field", {"field": str}, path=_SCREEN),
    "field_off_screen": Kind("the field is no longer on the create screen", {"field": str}, path=_SCREEN),
    "transition_gone": Kind("no step leads to this state any more", {"to": str}, path=_STEPS),
    "clone": Kind("another site answers, a copy with our tickets in it", path="/serverInfo$"),
    "clock_skew": Kind("only the header Date is wrong, by so many seconds", {"seconds": 600.0}),
}
_LOGIN = b"<!DOCTYPE html><html><head><title>Log in</title></head><body><h1>Log in to continue</h1></body></html>"
_UNAVAILABLE = b"<!DOCTYPE html><html><body><h1>Site temporarily unavailable</h1></body></html>"
_TOO_LONG = b"<html><body><h1>414 Request-URI Too Large</h1></body></html>"
_BAD_TOKEN = "The provided next page token is invalid or has expired."  # noqa: S105 - a sentence
_OFF_SCREEN = "Field '{}' cannot be set. It is not on the appropriate screen, or unknown."


def instead(rule: Rule, request: Request, now: float) -> Response | None:
    """The answer that stands for serving; ``None`` where the site serves first. ``now`` in seconds since 1970."""
    match rule.do:
        case "status":
            return _status(rule)
        case "html_200":
            return Response(200, _LOGIN, HTML)
        case "empty_202":
            return Response(202)
        case "maintenance":
            return Response(503, _UNAVAILABLE, HTML)
        case "url_too_long" if len(request.target) > rule.given["characters"]:
            return Response(414, _TOO_LONG, HTML)
        case "expired_token" if _asked_token(request):
            return refused(_BAD_TOKEN)
        case "required_field_added" | "field_off_screen" if request.method == "POST":
            return _unfit(rule, request)
        case "transition_gone" if request.method == "POST":
            return refused("It seems that you have tried to perform an illegal workflow operation.")
        case _:
            return _limited(rule, now)


def refused(sentence: str = "", **fields: str) -> Response:
    return json_response(400, {"errorMessages": [sentence] if sentence else [], "errors": fields})


def _status(rule: Rule) -> Response:
    headers = {name: str(value) for name, value in rule.given["headers"].items()}
    body = rule.given["body"]
    if isinstance(body, str):
        return Response(rule.given["status"], body.encode(), HTML, headers)
    told = {"errorMessages": ["Simulated fault."], "errors": {}} if body is None else body
    return json_response(rule.given["status"], told, headers)


def _unfit(rule: Rule, request: Request) -> Response | None:
    """What is said to a new issue without the field that is wanted, or with the one that is no longer there."""
    name = rule.given["field"]
    has = bool(orjson.loads(request.body).get("fields", {}).get(name))
    if rule.do == "required_field_added":
        return None if has else refused(**{name: f"{name} is required."})
    return refused(**{name: _OFF_SCREEN.format(name)}) if has else None


def _limited(rule: Rule, now: float) -> Response | None:
    seconds = rule.given.get("seconds") or 0
    headers = {
        "rate_limit_storm": {
            "Retry-After": str(seconds),
            "X-RateLimit-Limit": "100",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": reset_stamp(now + seconds),
            "RateLimit-Reason": "jira-burst-based",
        },
    }.get(rule.do, retry_after(rule, now))
    if headers is None:
        return None
    return json_response(429, {"errorMessages": ["Rate limit exceeded."], "errors": {}}, headers)


def rewritten(rule: Rule, request: Request, response: Response, before: Response | None) -> Response:
    """An answer as the rule falsifies it; ``before`` is the last one that the same address gave."""
    if rule.do == "clock_skew":
        return replace(response, date_offset=rule.given["seconds"])
    rewrite = _REWRITES.get(rule.do)
    if response.status != 200 or (rewrite is None and rule.do not in ("repeat_page", "cut_json", "odd_content")):
        return response
    if rule.do == "repeat_page":
        return before or response
    if rule.do == "cut_json":
        return replace(response, body=response.body[: len(response.body) * 2 // 3])
    content = orjson.loads(response.body)
    if rewrite is not None:
        return replace(response, body=orjson.dumps(rewrite(content, rule, request)))
    for issue in content.get("issues", ())[:1]:
        issue.get("fields", {})[rule.given["field"]] = ODD
    return replace(response, body=odd_json(content, rule.given["sort"]))


def _merged(content: Json, rule: Rule, request: Request) -> Json:
    return {**content, **rule.given["body"]}


def _fewer(content: Json, rule: Rule, request: Request) -> Json:
    rows = next(key for key in ("issues", "issueChangeLogs", "values", "comments") if key in content)
    return {**content, rows: content[rows][: len(content[rows]) // 2], **rule.given["body"]}


def _warned(content: Json, rule: Rule, request: Request) -> Json:
    cloud = urlsplit(request.target).path.endswith("/jql")
    return {**content, "warnings" if cloud else "warningMessages": [rule.given["told"]]}


def _with_asked_token(content: Json, rule: Rule, request: Request) -> Json:
    asked = _asked_token(request)
    return {**content, "nextPageToken": asked} if asked and content.get("nextPageToken") else content


def _without_token(content: Json, rule: Rule, request: Request) -> Json:
    return {**content, "nextPageToken": None} if content.get("nextPageToken") else content


def _without_field(content: Any, rule: Rule, request: Request) -> Any:
    """Issues without the field, wherever they stand, and lists of fields without it."""
    name = rule.given["field"]
    if isinstance(content, list):
        return [_without_field(one, rule, request) for one in content if not _is_field(one, name)]
    if isinstance(content, dict):
        return {key: _without_field(one, rule, request) for key, one in content.items() if key != name}
    return content


def _is_field(one: Any, name: str) -> bool:
    return isinstance(one, dict) and name in (one.get("fieldId"), one.get("id")) and "name" in one


def _screen(content: Json, rule: Rule, request: Request) -> Json:
    """The create screen with one more required field, or without a field."""
    name, place = rule.given["field"], "fields" if "fields" in content else "values"
    others = [field for field in content.get(place, ()) if name not in (field.get("fieldId"), field.get("key"))]
    added = [] if rule.do == "field_off_screen" else [_required(name)]
    size = {"total": len(others) + len(added)} if "total" in content else {}
    return {**content, place: others + added, **size}


def _required(name: str) -> Json:
    schema = {"type": "string", "system": name}
    described = {"required": True, "hasDefaultValue": False, "operations": ["set"], "schema": schema}
    return {"fieldId": name, "key": name, "name": name, **described}


def _steps(content: Json, rule: Rule, request: Request) -> Json:
    gone = rule.given["to"].casefold()
    kept = [step for step in content["transitions"] if step["to"]["name"].casefold() != gone]
    return {**content, "transitions": kept}


def _cloned(content: Json, rule: Rule, request: Request) -> Json:
    ids: Json = {key: "clone" for key in ("serverId", "cloudId") if key in content}
    return {**content, **ids, "baseUrl": "https://clone.invalid", "serverTitle": "A copy"}


_REWRITES: Mapping[str, Callable[[Json, Rule, Request], Json]] = {
    "merge": _merged,
    "fewer": _fewer,
    "warnings": _warned,
    "repeat_token": _with_asked_token,
    "lost_token": _without_token,
    "field_missing": _without_field,
    "required_field_added": _screen,
    "field_off_screen": _screen,
    "transition_gone": _steps,
    "clone": _cloned,
}


def _asked_token(request: Request) -> str | None:
    if request.body:
        token = orjson.loads(request.body).get("nextPageToken")
        return token if isinstance(token, str) else None
    return parse_qs(urlsplit(request.target).query).get("nextPageToken", [None])[0]
