"""What goes wrong with a ServiceNow instance, each fault under its name.

Owns the requests, replies and rows that are not what they should be. When a fault strikes is :mod:`connectors.faults`'
matter; the server applies what is said here.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus

import orjson

from connectors.faults import ODD, ODD_SORTS, STATUS, WIRE, Kind, Rule, limits, odd_json, retry_after
from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.dictionary import is_task
from connectors.servicenow.simulator.marks import digest, stamp
from connectors.servicenow.simulator.search import Late
from connectors.servicenow.simulator.table_api import PATH, Reply, Request, failure
from connectors.servicenow.simulator.tables import Row, Table

_TABLE = "/api/now(/v[12])?/table/"
_LIST = _TABLE + r"[^/]+/?$"
SCENARIOS = Path(__file__).with_name("scenarios")
KINDS: Mapping[str, Kind] = {
    **WIRE,
    **STATUS,
    "error_body": Kind("200 with nothing but the error object"),
    "half_page_error": Kind("200 with half the rows and the error object behind them", path=_TABLE),
    "cut_json": Kind("the same, cut in the middle of the error object", path=_TABLE),
    "quota_timeout": Kind("pages of more rows than this are cut like half_page_error", {"rows": 100}, path=_TABLE),
    "empty_202": Kind("202 without a body"),
    "html_200": Kind("200 with the page of a log-in"),
    "hibernating": Kind("200 with the page of a hibernating instance"),
    "maintenance": Kind("503 with a page of HTML"),
    "url_too_long": Kind("414 for addresses of more characters than this", {"characters": 2000}),
    "rate_limit_storm": Kind("429 with all headers of a rate rule", {"seconds": 2}, path="^/api/"),
    "semaphore_429": Kind("429 without any of those headers: too many requests at once", path="^/api/"),
    **limits("^/api/"),
    "anonymous": Kind("401: the credential has died", path="^/api/"),
    "no_rows": Kind("200 without a row: the account has lost its roles", method="GET", path=_LIST),
    "unknown_field_fails_open": Kind("conditions on the field are ignored", {"field": str}, path=_LIST),
    "unknown_field_no_rows": Kind("conditions on the field empty the answer", {"field": str}, path=_LIST),
    "short_pages_by_acl": Kind("every so many rows one is hidden, after the limit", {"every": 3}, path=_LIST),
    "late_commit": Kind(
        "this share of saves is seen so many seconds late, with its old stamp",
        {"seconds": 5.0, "share": 0.5},
        path=_LIST,
    ),
    "changing_pages": Kind("a row is saved by somebody before the page is shown", method="GET", path=_LIST),
    "repeat_page": Kind("the page before is shown again", method="GET", path=_LIST),
    "field_missing": Kind("the field is not delivered", {"field": str}, method="GET", path=_TABLE),
    "odd_content": Kind(
        "the first row holds something odd in the field", {"field": str, "sort": ODD_SORTS}, path=_LIST
    ),
    "write_dropped": Kind(
        "the field of a write is not taken over, with a status of success", {"field": str}, path=_TABLE
    ),
    "required_field_added": Kind("403: a data policy wants the field", {"field": str, "label": "Reason"}, path=_TABLE),
    "clone": Kind("another instance answers, a copy with our tickets in it", path=_LIST),
    "clock_skew": Kind("only the header Date is wrong, by so many seconds", {"seconds": 600.0}),
}
_CANCELLED = "Transaction cancelled: maximum execution time exceeded"
_HINT = " Check logs for error trace or enable glide.rest.debug property to verify REST request processing"
_MESSAGES = {401: "User Not Authenticated", 429: "Rate limit exceeded", 500: _CANCELLED}
_HTML = "text/html;charset=UTF-8"
_LOGIN = b"<!DOCTYPE html><html><head><title>Log in | ServiceNow</title></head><body>Log in</body></html>"
_HIBERNATING = (
    b"<!DOCTYPE html><html><head><title>Instance Hibernating page</title></head><body>Please wait</body></html>"
)
_UNAVAILABLE = b"<html><body>Service unavailable</body></html>"
_IDENTITY = ("instance_name", "instance_id", "glide.installation.name", "glide.servlet.uri")
"""Properties by which an instance is told from another one."""


def instead(rule: Rule, request: Request, now: float) -> Reply | None:
    """The reply that stands for serving; ``None`` where the instance serves first. ``now`` in seconds since 1970."""
    match rule.do:
        case "status":
            return _status(rule)
        case "error_body":
            return Reply(200, orjson.dumps(_cancelled()))
        case "empty_202":
            return Reply(202)
        case "html_200":
            return Reply(200, _LOGIN, content_type=_HTML)
        case "hibernating":
            return Reply(200, _HIBERNATING, content_type=_HTML)
        case "maintenance":
            return Reply(503, _UNAVAILABLE, content_type=_HTML)
        case "anonymous":
            return failure(401, "User Not Authenticated", "Required to provide Auth information")
        case "url_too_long" if len(request.path) + len(request.query) + 1 > rule.given["characters"]:
            return Reply(414, b"<html><body><h1>Request-URI Too Long</h1></body></html>", content_type=_HTML)
        case "required_field_added" if _lacks(request, rule.given["field"]):
            wanted = f"The following fields are mandatory: {rule.given['label']}"
            return failure(403, "Data Policy Exception", wanted)
        case _:
            return _limited(rule, now)


def _lacks(request: Request, name: str) -> bool:
    if request.method not in ("POST", "PUT", "PATCH"):
        return False
    sent = orjson.loads(request.body or b"{}")
    return not sent.get(name) if request.method == "POST" else name in sent and not sent[name]


def _limited(rule: Rule, now: float) -> Reply | None:
    seconds = rule.given.get("seconds", 0)
    headers = {
        "rate_limit_storm": {
            "X-RateLimit-Limit": "100",
            "X-RateLimit-Reset": str(int(now + seconds)),
            "X-RateLimit-Rule": digest("rate-limit-rule"),
            "Retry-After": str(seconds),
        },
        "semaphore_429": {},
    }.get(rule.do, retry_after(rule, now))
    if headers is None:
        return None
    return replace(failure(429, "Rate limit exceeded", "Too many requests"), headers=headers)


def taken(rule: Rule, request: Request) -> Request:
    """The request as the instance understands it."""
    if rule.do in ("unknown_field_fails_open", "unknown_field_no_rows"):
        return replace(request, query=_without(request.query, rule.given["field"]))
    if rule.do == "write_dropped" and request.method in ("POST", "PUT", "PATCH"):
        sent = orjson.loads(request.body or b"{}")
        sent.pop(rule.given["field"], None)
        return replace(request, body=orjson.dumps(sent))
    return request


def _without(query: str, name: str) -> str:
    """The parameters with a name that no table knows in place of the field, in conditions only."""
    condition = re.compile(rf"(^|\^(?:OR|NQ)?){re.escape(name)}(?=[^a-z0-9_.])")
    pairs = [part.partition("=") for part in query.split("&")]
    return "&".join(f"{key}={_renamed(condition, text) if key == 'sysparm_query' else text}" for key, _, text in pairs)


def _renamed(condition: re.Pattern[str], value: str) -> str:
    return quote(condition.sub(r"\1u_no_such_field", unquote_plus(value)))


def late(rule: Rule, now: float) -> Late:
    """Which rows are not there yet: their transaction commits ``seconds`` after it took its stamp."""
    border, share = stamp(now - rule.given["seconds"]), rule.given["share"]

    def is_late(table: Table, row: Row) -> bool:
        at = table.get(row, "sys_updated_on" if "sys_updated_on" in table.index else "sys_created_on")
        return at > border and _chance(table.get(row, "sys_id") + at) < share

    return is_late


def _chance(text: str) -> float:
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest()) / 2**32


def touch(desk: Desk, request: Request, turn: int) -> None:
    """Somebody saves a task of the table that is asked for, another one each time."""
    match = PATH.fullmatch(request.path)
    with desk.lock:
        table = desk.table(match[2]) if match and is_task(match[2]) else None
        if table is not None and table.rows:
            row = list(table.rows.values())[turn * 7919 % len(table.rows)]
            urgency = str(int(table.get(row, "urgency") or 0) % 3 + 1)
            desk.save(table, row, {"urgency": urgency}, desk.account, desk.clock())


def spoiled(rule: Rule, request: Request, reply: Reply, before: Reply | None) -> Reply:
    """What is left of a good reply; ``before`` is the last list that was shown of the same table."""
    if rule.do == "clock_skew":
        return replace(reply, date_offset=rule.given["seconds"])
    if reply.rows is None or reply.status != 200:
        return reply
    rows = reply.rows
    match rule.do:
        case "half_page_error" | "cut_json":
            return _cut(reply, raw=rule.do == "cut_json")
        case "quota_timeout" if len(rows) > rule.given["rows"]:
            return _cut(reply, raw=False)
        case "no_rows":
            return _shown(replace(reply, headers={**_unlinked(reply), "X-Total-Count": "0"}), [])
        case "short_pages_by_acl":
            return _shown(reply, [row for place, row in enumerate(rows, 1) if place % rule.given["every"]])
        case "field_missing":
            return _shown(reply, [{name: v for name, v in row.items() if name != rule.given["field"]} for row in rows])
        case "odd_content":
            odd = [{**row, rule.given["field"]: ODD} if place == 0 else row for place, row in enumerate(rows)]
            return replace(reply, body=odd_json({"result": odd}, rule.given["sort"]))
        case "repeat_page" if before is not None:
            return before
        case "clone":
            return _shown(reply, [_cloned(row, request) for row in rows])
        case _:
            return reply


def _cloned(row: dict[str, Any], request: Request) -> dict[str, Any]:
    if "/table/sys_user" in request.path and "user_name" in row and "sys_id" in row:
        return {**row, "sys_id": digest(f"clone of {row['sys_id']}")}
    if "/table/sys_properties" in request.path and row.get("name") in _IDENTITY:
        return {**row, "value": digest(f"clone of {row['name']}")}
    return row


def _shown(reply: Reply, rows: list[dict[str, Any]]) -> Reply:
    return replace(reply, body=orjson.dumps({"result": rows}), rows=rows)


def _unlinked(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name != "Link"}


def _cut(reply: Reply, *, raw: bool) -> Reply:
    """Half of the rows and the error object; ``raw`` cuts the JSON in the middle of that."""
    rows = reply.rows or []
    body = orjson.dumps({"result": rows[: len(rows) // 2], **_cancelled()})
    return replace(reply, body=body[: -len(_HINT)] if raw else body)


def _cancelled() -> dict[str, Any]:
    return {"error": {"message": _CANCELLED, "detail": _CANCELLED + _HINT}, "status": "failure"}


def _status(rule: Rule) -> Reply:
    status, body = rule.given["status"], rule.given["body"]
    headers = {name: str(value) for name, value in rule.given["headers"].items()}
    if isinstance(body, str):
        return Reply(status, body.encode(), headers, _HTML)
    if body is not None:
        return Reply(status, orjson.dumps(body), headers)
    if status in (502, 503, 504):
        return Reply(status, _UNAVAILABLE, headers, _HTML)
    plain = failure(status, _MESSAGES.get(status, "Operation Failed"))
    return Reply(status, plain.body, headers)
