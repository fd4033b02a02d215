"""Owns the two messages of the wire as the rest of the site sees them; reads no socket and writes none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

JSON = "application/json;charset=UTF-8"
HTML = "text/html;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    date_offset: float = 0.0
    """Seconds by which the header ``Date`` is wrong."""


def json_response(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, orjson.dumps(content), headers=headers or {})
