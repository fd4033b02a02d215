"""Owns the rules by which the site misbehaves and the counting that decides when; carrying them out is the server's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = ("status", "drop_before", "drop_after", "delay_before", "delay_after", "truncate", "html_200")


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
