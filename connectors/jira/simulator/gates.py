"""Owns the way in, which the editions guard differently: whose a request is, what a stranger is told, traces, rates.

Cloud lets a dead token through as an anonymous caller wherever strangers may look; Data Center refuses it.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from html import escape
from urllib.parse import quote

from connectors.jira.simulator.configuration import User
from connectors.jira.simulator.limits import Bucket, Limits, Points
from connectors.jira.simulator.messages import HTML, Response, json_response
from connectors.jira.simulator.options import Clock, Options
from connectors.jira.simulator.tokens import Tokens

_STRANGER = "You are not authenticated. Authentication required to perform this operation."


@dataclass(frozen=True, slots=True)
class Login:
    caller: User | None
    reason: str = ""
    """As ``X-Seraph-LoginReason`` says it; empty when nobody tried to log in."""
    scopes: frozenset[str] | None = None
    """What the token may do; ``None`` if it may do all that the account may."""
    app: bool = False
    """Whether it is an app's token, which has a quota."""

    @property
    def headers(self) -> Mapping[str, str]:
        return {"X-Seraph-LoginReason": self.reason} if self.reason else {}


class Gate:
    """The way in to Cloud."""

    def __init__(self, options: Options, account: User, clock: Clock) -> None:
        self._options = options
        self._account = account
        self._clock = clock
        self._opened = clock.millis()
        self._requests = 0
        self._token: str | None = options.token
        self._scopes = frozenset(options.scopes.split())
        self.tokens = Tokens(options, clock)
        self.limits: Limits | Bucket = Limits(clock)
        self.points = Points(clock, options.points) if options.points else None

    def login(self, authorization: str, *, gateway: bool) -> Login:
        """``gateway`` tells whether the request came through Atlassian's."""
        if not authorization:
            return Login(None)
        scheme, _, given = authorization.partition(" ")
        if scheme == "Bearer":
            right, app = gateway and self.tokens.knows(given), True
        else:
            right, app = self._is_token(authorization, self._options.email), False
            right = right and (gateway or not self._options.scoped)
        scopes = self._scopes if app or self._options.scoped else None
        return Login(self._account, "OK", scopes, app) if right else Login(None, "AUTHENTICATED_FAILED")

    def change(self, asked: Mapping[str, str]) -> None:
        """``{"revoke": "token", "access" or "refresh", "token": …}``: withdraw, and set another token or password."""
        if asked.get("revoke") == "token":
            self._token = None
        elif "revoke" in asked:
            self.tokens.revoke(asked["revoke"])
        if "token" in asked:
            self._token, self._opened = asked["token"], self._clock.millis()

    def stopped(self, login: Login, anonymous: str, *, gateway: bool) -> Response | None:
        """What a caller is told who may not go on; ``anonymous`` is what the address grants to strangers."""
        if gateway and not login.caller:
            return json_response(401, {"code": 401, "message": "Unauthorized"})
        if login.caller or anonymous == "served":
            return None
        text = b"Client must be authenticated to access this resource."
        return Response(401, text, "text/plain;charset=UTF-8", login.headers)

    def traces(self, login: Login, node: int) -> Mapping[str, str]:
        """Headers by which the vendor's support finds a request again."""
        self._requests += 1
        return {"Atl-Traceid": f"{self._requests:032x}", "X-Arequestid": f"{self._requests:032x}"}

    def _is_token(self, authorization: str, name: str) -> bool:
        return self._alive() and self._token is not None and authorization == _basic(name, self._token)

    def _alive(self) -> bool:
        life = self._options.token_life
        return not life or self._clock.millis() < self._opened + life * 1000


class DataCenterGate(Gate):
    """The way in to Data Center: password or personal access token, and a lock after too many wrong passwords."""

    def __init__(self, options: Options, account: User, clock: Clock) -> None:
        super().__init__(options, account, clock)
        self.limits = Bucket(clock)
        self._failed = 0

    def login(self, authorization: str, *, gateway: bool) -> Login:
        if not authorization:
            return Login(None)
        scheme, _, given = authorization.partition(" ")
        if scheme == "Bearer":
            right = (given == self._token and self._alive()) or self.tokens.knows(given)
            return Login(self._account, "OK") if right else Login(None, "AUTHENTICATED_FAILED")
        if self._options.captcha_after and self._failed >= self._options.captcha_after:
            return Login(None, "AUTHENTICATION_DENIED")
        if self._is_token(authorization, self._account.username):
            self._failed = 0
            return Login(self._account, "OK")
        self._failed += 1
        return Login(None, "AUTHENTICATED_FAILED")

    def stopped(self, login: Login, anonymous: str, *, gateway: bool) -> Response | None:
        if login.reason == "AUTHENTICATION_DENIED":
            denied = "CAPTCHA_CHALLENGE; login-url=/login.jsp"
            headers = {**login.headers, "X-Authentication-Denied-Reason": denied}
            return Response(403, _refusal_page("Forbidden (403)", login.reason), HTML, headers)
        if login.reason == "AUTHENTICATED_FAILED":
            headers = {**login.headers, "WWW-Authenticate": 'OAuth realm="jira"'}
            return Response(401, _refusal_page("Unauthorized (401)", login.reason), HTML, headers)
        if login.caller or anonymous == "served":
            return None
        headers = {"WWW-Authenticate": 'OAuth realm="jira"'}
        return json_response(401, {"errorMessages": [_STRANGER], "errors": {}}, headers)

    def traces(self, login: Login, node: int) -> Mapping[str, str]:
        self._requests += 1
        minute = self._clock.millis() // 60_000 % 1440
        shown = {"X-AREQUESTID": f"{minute}x{self._requests}x1", "X-ANODEID": f"node{node}"}
        if not self._options.login_headers:
            return shown
        if login.caller is None:
            return {**shown, "X-AUSERNAME": "anonymous"}
        session = blake2b(login.caller.username.encode(), digest_size=4).hexdigest()
        return {**shown, "X-ASESSIONID": session, "X-AUSERNAME": quote(login.caller.username)}


def out_of_scope(login: Login, method: str, template: str) -> Response | None:
    """What a token with scopes is told where they do not reach."""
    desk = template.startswith("request/")
    wanted = {"GET": "read:servicedesk-request" if desk else "read:jira-work"}.get(method, "write:jira-work")
    if method == "POST" and template.startswith(("search", "changelog/")):
        wanted = "read:jira-work"
    if login.scopes is None or wanted in login.scopes:
        return None
    return json_response(401, {"code": 401, "message": "Unauthorized; scope does not match"})


def _basic(name: str, word: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{word}".encode()).decode()


def _refusal_page(title: str, reason: str) -> bytes:
    sentence = f"Basic Authentication Failure - Reason : {escape(reason)}"
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1><p>{sentence}</p></body></html>".encode()
