"""Owns the rules by which the site misbehaves: when one strikes, and what an answer then says that should not.

Late, cut and missing answers are the server's to carry out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

KINDS = (
    "status",
    "drop_before",
    "drop_after",
    "delay_before",
    "delay_after",
    "truncate",
    "html_200",
    "merge",
    "repeat_token",
    "fewer",
)
REWRITES = ("merge", "repeat_token", "fewer")


@dataclass(slots=True)
class Fault:
    """One rule: from its ``nth`` matching request on, ``times`` requests (``None``: all) are treated by ``do``."""

    do: str
    method: str | None = None
    path: str = ""
    """Regular expression, searched in the request's target."""
    nth: int = 1
    times: int | None = 1
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.5
    body: Mapping[str, Any] = field(default_factory=dict)
    """What ``merge`` and ``fewer`` put over the answer's top level, e.g. ``warnings`` or a wrong ``total``."""
    seen: int = 0

    def strikes(self, method: str, target: str) -> bool:
        """Whether this request is to be treated; counts it when it matches."""
        if self.method not in (None, method) or not re.search(self.path, target):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "do": (str,),
    "method": (str,),
    "path": (str,),
    "nth": (int,),
    "times": (int, type(None)),
    "status": (int,),
    "headers": (dict,),
    "seconds": (int, float),
    "body": (dict,),
}


def read_faults(rules: Any) -> list[Fault]:
    """Rules from their JSON form; ``ValueError`` says which rule is wrong and how."""
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise ValueError("expected a list of rules")
    return [_fault(rule, number) for number, rule in enumerate(rules)]


def _fault(rule: Any, number: int) -> Fault:
    if not isinstance(rule, Mapping):
        raise ValueError(f"rule {number}: expected an object")
    for key, value in rule.items():
        if key not in _TYPES:
            raise ValueError(f"rule {number}: unknown key {key!r}; known: {', '.join(_TYPES)}")
        if not isinstance(value, _TYPES[key]):
            raise ValueError(f"rule {number}: {key} cannot be {value!r}")
    if rule.get("do") not in KINDS:
        raise ValueError(f"rule {number}: do must be one of {', '.join(KINDS)}")
    try:
        re.compile(rule.get("path", ""))
    except re.error as wrong:
        raise ValueError(f"rule {number}: path is no regular expression: {wrong}") from None
    return Fault(**rule)


def rewritten(fault: Fault, target: str, request: bytes, answer: bytes) -> bytes:
    """A JSON answer as the rule falsifies it: keys put over it, the asked token given again, or rows missing."""
    content = orjson.loads(answer)
    if fault.do == "repeat_token":
        if content.get("nextPageToken") and (asked := _asked_token(target, request)):
            content["nextPageToken"] = asked
        return orjson.dumps(content)
    if fault.do == "fewer":
        rows = next(key for key in ("issues", "issueChangeLogs", "values", "comments") if key in content)
        content[rows] = content[rows][: len(content[rows]) // 2]
    return orjson.dumps({**content, **fault.body})


def _asked_token(target: str, request: bytes) -> str | None:
    if request:
        token = orjson.loads(request).get("nextPageToken")
        return token if isinstance(token, str) else None
    return parse_qs(urlsplit(target).query).get("nextPageToken", [None])[0]
