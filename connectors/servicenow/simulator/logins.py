"""Who may come in: passwords, tokens of OAuth 2.0, API keys and client certificates, and how each of them dies.

Owns the token endpoint, what was handed out there and until when it is good. All ways lead to one account. Sockets and
TLS are the server's.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from secrets import compare_digest, token_urlsafe
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl

import orjson

from connectors.servicenow.simulator.options import Options
from connectors.servicenow.simulator.table_api import Reply, Request, failure

TOKEN_PATH = "/oauth_token.do"  # noqa: S105 - an address
_FORM = "application/x-www-form-urlencoded"
_CHANGEABLE = ("password", "basic", "client_secret", "api_key", "api_policy")


class Logins:
    """The ways in. Thread-safe. ``now`` is the instance's clock, seconds since 1970."""

    def __init__(self, options: Options, now: Callable[[], float]) -> None:
        self._now = now
        self._user = options.user
        self._client_id = options.client_id
        self._life = options.token_life
        self._refresh_life = options.refresh_life
        self._set = {name: getattr(options, name) for name in _CHANGEABLE}
        self._lock = Lock()
        self._access: dict[str, float] = {}
        """Access token -> when it ends."""
        self._refresh: dict[str, float] = {}
        self._certificates = True

    def refused(self, request: Request) -> Reply | None:
        """What somebody is told who may not come in; ``None`` for our account."""
        with self._lock:
            if self._knows(request):
                return None
            basic = request.headers.get("authorization", "").lower().startswith("basic ")
            asks_for_more = (
                basic and self._set["basic"] == "mfa" and self._is_password(request.headers["authorization"])
            )
        told = failure(401, "User Not Authenticated", "Required to provide Auth information")
        headers = {"X-MFA_TOKEN": "invalid"} if asks_for_more else {"WWW-Authenticate": 'BASIC realm="Service-now"'}
        return Reply(told.status, told.body, headers)

    def _knows(self, request: Request) -> bool:
        authorization, key = request.headers.get("authorization", ""), request.headers.get("x-sn-apikey")
        scheme, _, proof = authorization.partition(" ")
        if key is not None:
            wanted = self._set["api_key"]
            return bool(wanted) and self._set["api_policy"] and _same(key, wanted)
        if scheme.lower() == "bearer":
            return self._access.get(proof, 0.0) > self._now()
        if authorization:
            return self._set["basic"] == "allowed" and self._is_password(authorization)
        return request.certified and self._certificates

    def _is_password(self, authorization: str) -> bool:
        return _same(authorization.partition(" ")[2], basic(self._user, self._set["password"]))

    # --- the token endpoint

    def token(self, request: Request) -> Reply:
        """The answer of the token endpoint, which tells hardly anything of why it refuses."""
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        if request.method != "POST" or not request.headers.get("content-type", "").startswith(_FORM):
            return _denied()
        with self._lock:
            known = form.get("client_id") == self._client_id and _same(
                form.get("client_secret", ""), self._set["client_secret"]
            )
            granted = self._granted(form) if known else None
        return _denied() if granted is None else Reply(200, orjson.dumps(granted))

    def _granted(self, form: Mapping[str, str]) -> dict[str, Any] | None:
        match form.get("grant_type"):
            case "client_credentials":
                return self._handed(None, form.get("scope", "useraccount"))
            case "password":
                right = form.get("username") == self._user and _same(form.get("password", ""), self._set["password"])
                return self._handed(self._fresh_refresh(), "useraccount") if right else None
            case "refresh_token":
                given = form.get("refresh_token", "")
                if self._refresh.get(given, 0.0) <= self._now():
                    return None
                return self._handed(given, "useraccount", fresh=True)
            case _:
                return None

    def _handed(self, refresh: str | None, scope: str, *, fresh: bool = False) -> dict[str, Any]:
        """One that is still good is handed out again, with what is left of its life, unless a ``fresh`` one is due."""
        now = self._now()
        live = [token for token, ends in self._access.items() if ends > now and not fresh]
        token = live[0] if live else token_urlsafe(48)
        ends = self._access.setdefault(token, now + self._life)
        told = {"access_token": token, "scope": scope, "token_type": "Bearer", "expires_in": max(1, int(ends - now))}
        return told if refresh is None else {**told, "refresh_token": refresh}

    def _fresh_refresh(self) -> str:
        live = [token for token, ends in self._refresh.items() if ends > self._now()]
        token = live[0] if live else token_urlsafe(48)
        self._refresh.setdefault(token, self._now() + self._refresh_life)
        return token

    # --- what an administrator does meanwhile

    def change(self, body: bytes) -> None:
        """``{"revoke": "access", "refresh" or "certificate", "password": …, "basic": …}``: withdraw and set at once.

        Raises ``ValueError`` for what cannot be changed.
        """
        asked = orjson.loads(body)
        with self._lock:
            for name, value in asked.items():
                if name == "revoke":
                    self._revoke(value)
                elif name in _CHANGEABLE:
                    self._set[name] = value
                else:
                    raise ValueError(f"{name} cannot be changed; known are revoke, {', '.join(_CHANGEABLE)}")

    def _revoke(self, what: str) -> None:
        match what:
            case "access":
                self._access.clear()
            case "refresh":
                self._refresh.clear()
            case "certificate":
                self._certificates = False
            case _:
                raise ValueError(f"{what!r} cannot be revoked; known are access, refresh, certificate")


def basic(user: str, password: str) -> str:
    """What stands behind ``Basic``."""
    return b64encode(f"{user}:{password}".encode()).decode()


def _same(given: str, wanted: str) -> bool:
    return compare_digest(given.encode(), wanted.encode())


def _denied() -> Reply:
    return Reply(401, orjson.dumps({"error_description": "access_denied", "error": "server_error"}))
