"""Rules by which the simulator misbehaves on purpose.

Owns the rules, their counting and the shape of a spoiled reply; the server applies what :meth:`Faults.due` returns.

===================  =================================================================================================
``status``           answers with ``status``, ``headers`` and ``body`` (an object is JSON, text HTML); nothing is done
``drop_before``      closes the connection; nothing is done
``drop_after``       does what was asked, then closes the connection without an answer
``delay``            waits ``seconds`` first; joins with one other act
``truncate``         does it, sends half of the promised bytes, then closes
``error_body``       200 with nothing but the error object; nothing is done
``half_page_error``  200 with half the rows and the error object behind them; with ``raw`` the JSON itself is cut
``empty_202``        202 without a body; nothing is done
``html_200``         200 with the page of a hibernating instance; nothing is done
===================  =================================================================================================
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import orjson

from connectors.servicenow.simulator.table_api import Reply, failure

_ACTS = (
    "status",
    "drop_before",
    "drop_after",
    "delay",
    "truncate",
    "error_body",
    "empty_202",
    "html_200",
    "half_page_error",
)
_KEYS = ("method", "path", "query", "nth", "times", "do", "status", "headers", "body", "seconds", "raw")
_CANCELLED = "Transaction cancelled: maximum execution time exceeded"
_HINT = " Check logs for error trace or enable glide.rest.debug property to verify REST request processing"
_MESSAGES = {401: "User Not Authenticated", 429: "Rate limit exceeded", 500: _CANCELLED}
HIBERNATING = (
    b"<!DOCTYPE html><html><head><title>Instance Hibernating page</title></head><body>Please wait</body></html>"
)


@dataclass(slots=True)
class Rule:
    """One rule. It acts from the ``nth`` matching request on, ``times`` times; without ``nth`` on every one."""

    do: str
    method: str | None = None
    path: str = ""
    query: str = ""
    nth: int | None = None
    times: int | None = None
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    seconds: float = 0.0
    raw: bool = False
    seen: int = 0
    acted: int = 0

    def matches(self, method: str, path: str, query: str) -> bool:
        wanted = self.method is None or self.method.upper() == method
        return wanted and bool(re.search(self.path, path)) and bool(re.search(self.query, query))

    def acts(self, free: bool) -> bool:
        """Count a matching request and tell whether the rule acts on it, which it may while the request is free."""
        self.seen += 1
        limit = self.times if self.times is not None else (None if self.nth is None else 1)
        if not free or self.seen < (self.nth or 1) or (limit is not None and self.acted >= limit):
            return False
        self.acted += 1
        return True


def read_rules(text: bytes) -> list[Rule]:
    """Rules from JSON, one or a list; raises ``ValueError`` with what is wrong."""
    given = orjson.loads(text)
    return [_rule(one) for one in (given if isinstance(given, list) else [given])]


def _rule(given: Any) -> Rule:
    if not isinstance(given, dict) or given.get("do") not in _ACTS:
        raise ValueError(f"a fault needs 'do', one of {', '.join(_ACTS)}")
    unknown = given.keys() - set(_KEYS)
    if unknown:
        raise ValueError(f"unknown key {', '.join(sorted(unknown))} in a fault; known are {', '.join(_KEYS)}")
    for pattern in ("path", "query"):
        try:
            re.compile(given.get(pattern, ""))
        except (re.error, TypeError) as error:
            raise ValueError(f"'{pattern}' of a fault is no regular expression: {error}") from None
    return Rule(**given)


class Faults:
    """The rules in force. Thread-safe."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._lock = Lock()
        self._rules = list(rules)

    def add(self, rules: Sequence[Rule]) -> None:
        with self._lock:
            self._rules.extend(rules)

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def listed(self) -> list[dict[str, Any]]:
        """The rules with how often each was seen and acted."""
        names = (*_KEYS, "seen", "acted")
        with self._lock:
            return [{name: getattr(rule, name) for name in names} for rule in self._rules]

    def due(self, method: str, path: str, query: str) -> list[Rule]:
        """What acts on this request: delays in their order and at most one other act, the first that is due."""
        acting: list[Rule] = []
        with self._lock:
            for rule in self._rules:
                free = rule.do == "delay" or all(other.do == "delay" for other in acting)
                if rule.matches(method, path, query) and rule.acts(free):
                    acting.append(rule)
        return acting


def instead(rule: Rule) -> Reply | None:
    """The reply that stands for serving; ``None`` for acts that let the instance serve first."""
    match rule.do:
        case "status":
            return _status(rule)
        case "error_body":
            return Reply(200, orjson.dumps(_cancelled()))
        case "empty_202":
            return Reply(202)
        case "html_200":
            return Reply(200, HIBERNATING, content_type="text/html;charset=UTF-8")
        case _:
            return None


def spoiled(rule: Rule, reply: Reply) -> Reply:
    """What is left of a good reply; ``raw`` cuts the JSON in the middle of the error object."""
    if rule.do != "half_page_error" or reply.rows is None:
        return reply
    half = {"result": reply.rows[: len(reply.rows) // 2], **_cancelled()}
    body = orjson.dumps(half)
    return Reply(200, body[: -len(_HINT)] if rule.raw else body, reply.headers)


def _cancelled() -> dict[str, Any]:
    return {"error": {"message": _CANCELLED, "detail": _CANCELLED + _HINT}, "status": "failure"}


def _status(rule: Rule) -> Reply:
    headers = {name: str(value) for name, value in rule.headers.items()}
    if isinstance(rule.body, str):
        return Reply(rule.status, rule.body.encode(), headers, "text/html;charset=UTF-8")
    if rule.body is not None:
        return Reply(rule.status, orjson.dumps(rule.body), headers)
    if rule.status in (502, 503, 504):
        return Reply(rule.status, b"<html><body>Service unavailable</body></html>", headers, "text/html")
    plain = failure(rule.status, _MESSAGES.get(rule.status, "Operation Failed"))
    return Reply(rule.status, plain.body, headers)
