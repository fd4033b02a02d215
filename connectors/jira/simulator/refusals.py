"""Owns how the site says no: every part that refuses a request raises ``Refusal``, which becomes the answer."""

from collections.abc import Mapping
from typing import Any

INVALID = "Invalid request payload. Refer to the REST API documentation and try again."
NO_ISSUE = "Issue does not exist or you do not have permission to see it."


class Refusal(Exception):
    """The vendor's answer to a request that it does not carry out."""

    def __init__(self, status: int, *messages: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(status, *messages)
        self.status = status
        self.body: dict[str, Any] = {"errorMessages": list(messages), "errors": dict(errors or {})}
