"""Owns the access tokens of OAuth 2.0 that the site, or Atlassian for it, hands out, and how each of them dies.

A refresh token is good once: its use gives another one. Whose requests a token opens is the gate's to say.
"""

from collections.abc import Mapping
from secrets import compare_digest, token_urlsafe
from typing import Any
from urllib.parse import parse_qsl

import orjson

from connectors.jira.simulator.messages import Request, Response, json_response
from connectors.jira.simulator.options import Clock, Options


class Tokens:
    """What one OAuth application has been given."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._access: dict[str, float] = {}
        """Access token -> when it ends (ms)."""
        self._refresh = {options.refresh_token} if options.refresh_token else set()

    def knows(self, token: str) -> bool:
        return self._access.get(token, 0.0) > self._clock.millis()

    def revoke(self, what: str) -> None:
        """``access`` or ``refresh``."""
        {"access": self._access.clear, "refresh": self._refresh.clear}[what]()

    def answer(self, request: Request) -> Response:
        """The answer of the token endpoint."""
        asked = _parsed(request)
        client = (asked.get("client_id", ""), asked.get("client_secret", ""))
        if not all(map(_same, client, (self._options.client_id, self._options.client_secret))):
            return _refusal(401, "access_denied", "Unauthorized")
        if asked.get("grant_type") == "client_credentials":
            return json_response(200, self._handed())
        if asked.get("grant_type") != "refresh_token":
            return _refusal(400, "unsupported_grant_type", "This grant is not served")
        if asked.get("refresh_token") not in self._refresh:
            return _refusal(403, "invalid_grant", "Unknown or invalid refresh token.")
        self._refresh.discard(asked["refresh_token"])
        return json_response(200, {**self._handed(), "refresh_token": self.consented()})

    def consented(self) -> str:
        """A refresh token, as a person's consent or the use of another one brings it."""
        token = token_urlsafe(48)
        self._refresh.add(token)
        return token

    def _handed(self) -> dict[str, Any]:
        token, life_s = token_urlsafe(64), self._options.access_life
        self._access[token] = self._clock.millis() + life_s * 1000
        scope = self._options.scopes
        return {"access_token": token, "token_type": "Bearer", "expires_in": round(life_s), "scope": scope}


def _parsed(request: Request) -> Mapping[str, str]:
    if request.headers.get("content-type", "").startswith("application/json"):
        body = orjson.loads(request.body)
        return {name: str(value) for name, value in body.items()}
    return dict(parse_qsl(request.body.decode("utf-8", "replace")))


def _refusal(status: int, error: str, description: str) -> Response:
    return json_response(status, {"error": error, "error_description": description})


def _same(given: str, wanted: str) -> bool:
    return compare_digest(given.encode(), wanted.encode())
