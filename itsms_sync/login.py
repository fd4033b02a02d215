"""Proving who we are: what a request carries, and the access tokens of OAuth 2.0.

Owns the header that each form of credential becomes, when an access token is asked for, and what is cut out of a text
before anybody may see it. Leaves to ``settings`` where secrets lie, to ``http`` deadlines, repetition and the budget,
which token requests share, and to the connectors what a refusal looks like.

An access token lives in memory only. It is replaced when four fifths of its life have passed, or once the source has
refused it. A refresh token that the system replaces at each use is written to its place before the new access token is
used: whoever loses it has to be authorised anew by a person.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeGuard
from urllib.parse import quote, quote_plus, urlsplit

import orjson
import requests
from requests.auth import AuthBase, HTTPBasicAuth

from itsms_sync.connector import Access, LoggedOut, Refused, SourceError, Unavailable
from itsms_sync.http import Http, answer, retry_after

OPEN = frozenset(("username", "client_id", "scope", "client_certificate"))
"""Names in a credential that stand for no secret."""
_SHARE = 0.8
"""Of a token's life after which another one is asked for."""
_PATIENCE_S = 30.0
"""Until the next attempt to replace a token that is still good."""
_LONGEST_SENTENCE = 300
_CERTAIN = 12
"""Signs of a secret that no content holds by chance."""
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
_STEPS = {
    "client_credentials": "check client_id and client_secret, and that the OAuth application runs as a user",
    "password": "check client_id and client_secret, user name and password",
    "refresh_token": (
        "it ends when it was not used for long, was replaced elsewhere or was withdrawn; authorise the application "
        "anew and put the new refresh token in its file"
    ),
}


class Login(AuthBase):
    """Goes on a session. Reads the credential for each request, so that a changed secret needs no restart."""

    def __init__(self, access: Access, api_key_header: str = "") -> None:
        self._access = access
        self._header = api_key_header
        self._used: Mapping[str, str] = {}

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        secrets = self._used = self.ready()
        name, secret = secrets.get("username"), secrets.get("password") or secrets.get("token")
        bearer = secrets.get("access_token") or (None if name else secret)
        if secrets.get("api_key"):
            request.headers[self._header] = secrets["api_key"]
        elif bearer:
            request.headers["Authorization"] = f"Bearer {bearer}"
        elif name and secret:
            # as bytes, because requests would encode text as Latin-1
            HTTPBasicAuth(name.encode(), secret.encode())(request)
        elif "client_certificate" not in secrets:
            told = "the credential holds no secret: name an API token, a password or what else it accepts"
            raise Refused(f"{self._access.name}: {told}")
        return request

    def ready(self) -> dict[str, str]:
        """The secrets that the next request goes with. Before a write: a token that is due is then replaced outside
        of it.
        """
        return dict(self._access.credential())

    def renewed(self) -> bool:
        """After a refusal: whether there are other secrets than the refused ones. Asks once for another token."""
        self._access.refused(self._used)
        return self.ready() != self._used

    @property
    def step(self) -> str:
        """What somebody has to do when the secrets that were used last are refused, as far as their form tells."""
        if "access_token" in self._used:
            return "the access token was refused: see that nobody withdrew it and that its user may use this interface"
        if "api_key" in self._used:
            return "see that the API key is active, has not expired, and that a policy admits it to this interface"
        if "client_certificate" in self._used:
            return "see that the client certificate is known to the source and belongs to a user"
        return ""

    def hidden(self, text: str) -> str:
        """``text`` without our secrets."""
        return hidden(text, self._used)

    def scrub(self, response: requests.Response) -> None:
        """Take our secrets out of an answer that may come to be quoted. In one of success a short secret may be a word
        of the content, which has to stay as it is.
        """
        scrub(response, self._used, shortest=_CERTAIN if response.ok else 1)

    def parsed(self, response: requests.Response) -> Any:
        """The JSON of an answer. What is none is quoted in the error, so our secrets are cut out of it first."""
        with suppress(Unavailable):
            return answer(response)
        scrub(response, self._used)
        return answer(response)


def hidden(text: str, secrets: Mapping[str, str]) -> str:
    """``text`` without the secrets, as they are and as they travel in headers, addresses, forms and JSON."""
    for form in _forms(secrets):
        text = text.replace(form, "***")
    return text


def scrub(response: requests.Response, secrets: Mapping[str, str], *, shortest: int = 1) -> None:
    """The same for the body of an answer, for forms of ``shortest`` signs and more."""
    for form in _forms(secrets):
        if len(form) >= shortest and form.encode() in response.content:
            response._content = response.content.replace(form.encode(), b"***")


def _forms(secrets: Mapping[str, str]) -> list[str]:
    """Longest first, so that no part of a longer one is left over."""
    held = [secret for name, secret in secrets.items() if name not in OPEN and secret]
    pairs = [f"{secrets.get('username', '')}:{secret}".encode() for secret in held]
    found = {form for secret in held for form in _spelt(secret)} | {base64.b64encode(pair).decode() for pair in pairs}
    return sorted(found, key=len, reverse=True)


def _spelt(secret: str) -> Iterable[str]:
    return secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]


class Place(Protocol):
    """Where a refresh token lies. Both raise ``Refused`` if another one cannot be put there."""

    def check_replaceable(self) -> None: ...

    def replace(self, token: str) -> None: ...


class OAuth:
    """The access tokens of one credential. ``credential`` and ``refused`` are what :class:`Access` asks for.

    ``url`` is where tokens are handed out; ``read`` gives ``client_id``, ``client_secret`` and, by grant, ``username``,
    ``password``, ``refresh_token`` and ``scope``, anew each time; ``place`` is where ``refresh_token`` came from.
    ``monotonic`` gives seconds.
    """

    def __init__(
        self,
        http: Http,
        monotonic: Callable[[], float],
        url: str,
        grant: str,
        read: Callable[[], Mapping[str, str]],
        place: Place,
        *,
        rotating: bool = False,
    ) -> None:
        self._http = http
        self._monotonic = monotonic
        self._url = url
        self._grant = grant
        self._read = read
        self._place = place
        self._rotating = rotating
        self._session = http.session()
        self._token = ""
        self._due = self._ends = -math.inf
        self._refresh = ""
        """Came with an access token for a password."""
        self._unkept = self._spent = ""
        """A refresh token that could not be put in its place yet, and the one that it replaces there."""

    def credential(self) -> Mapping[str, str]:
        """``access_token``, and ``username`` if one is named. Raises ``LoggedOut`` or ``Unavailable`` if no token is to
        be had, ``Refused`` if a new refresh token cannot be kept.
        """
        held = self._read()
        self._keep(held)
        if self._monotonic() >= self._due:
            self._renew(held)
        return {"access_token": self._token, **_named(held, "username")}

    def refused(self, secrets: Mapping[str, str]) -> None:
        """The source did not accept these."""
        if secrets.get("access_token") == self._token:
            self._due = self._ends = -math.inf

    def _renew(self, held: Mapping[str, str]) -> None:
        try:
            self._fetch(held)
        except Unavailable:
            if self._monotonic() >= self._ends:
                raise
            self._due = self._monotonic() + _PATIENCE_S

    def _fetch(self, held: Mapping[str, str]) -> None:
        if self._grant == "refresh_token":
            if self._rotating:
                self._place.check_replaceable()
            self._take(held, {"grant_type": "refresh_token", **_named(held, "refresh_token")})
        elif self._refresh:
            refresh, self._refresh = self._refresh, ""
            with suppress(LoggedOut):  # it has ended, and the password is there
                self._take(held, {"grant_type": "refresh_token", "refresh_token": refresh})
                self._refresh = self._refresh or refresh
                return
            self._fetch(held)
        else:
            person = ("username", "password") if self._grant == "password" else ()
            self._take(held, {"grant_type": self._grant, **_named(held, "scope", *person)})

    def _take(self, held: Mapping[str, str], form: Mapping[str, str]) -> None:
        asked_at = self._monotonic()
        body = self._http.reading(lambda: self._asked(held, form))
        token, life_s = body["access_token"], _life_s(body.get("expires_in"))
        # The system may hand out the same token while it lives. It is then used to its end, or we would ask for it
        # again and again as its end comes near.
        share = 1.0 if token == self._token else _SHARE
        self._token, self._ends, self._due = token, asked_at + life_s, asked_at + life_s * share
        refresh = body.get("refresh_token")
        if not _is_token(refresh):
            return
        if self._grant == "password":
            self._refresh = refresh
        if self._grant == "refresh_token" and refresh != form["refresh_token"]:
            self._unkept, self._spent = refresh, form["refresh_token"]
            self._keep(held)

    def _keep(self, held: Mapping[str, str]) -> None:
        """Put a new refresh token in its place, unless somebody has put another one there meanwhile."""
        if self._unkept and held.get("refresh_token") == self._spent:
            self._place.replace(self._unkept)
        self._unkept = self._spent = ""

    def _asked(self, held: Mapping[str, str], form: Mapping[str, str]) -> dict[str, Any]:
        data = {**form, **_named(held, "client_id", "client_secret")}
        response = self._session.post(self._url, data=data, headers={"Accept": "application/json"})
        if response.status_code >= 400:
            raise self._failure(response, {**held, **form})
        try:
            body = answer(response)
        except Unavailable:
            body = None
        if not isinstance(body, dict) or not _is_token(body.get("access_token")):
            # what came is not quoted: a token may stand in it
            raise Unavailable(f"{self._endpoint}: status {response.status_code} without an access token")
        if str(body.get("token_type", "Bearer")).lower() != "bearer":
            raise Refused(f"{self._endpoint}: the tokens are no bearer tokens, and no others are known here")
        return body

    def _failure(self, response: requests.Response, secrets: Mapping[str, str]) -> SourceError:
        status, grant = response.status_code, secrets["grant_type"]
        said = hidden(_said(response), {**secrets, "grant_type": ""})
        told = f"{self._endpoint}: the grant {grant} got status {status}{said}"
        if status == 429 or status in (408, 425) or status >= 500:
            return Unavailable(told, retry_after=retry_after(response.headers, now=math.inf))
        return LoggedOut(f"{told}; {_STEPS[grant]}")

    @property
    def _endpoint(self) -> str:
        return f"the token endpoint at {urlsplit(self._url).netloc}"


def _named(held: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: held[name] for name in names if held.get(name)}


def _life_s(told: Any) -> float:
    """Seconds that a token lives; without a word about it, until it is refused."""
    try:
        life_s = float(told)
    except (TypeError, ValueError):
        return math.inf
    return life_s if life_s > 0 else math.inf


def _is_token(told: Any) -> TypeGuard[str]:
    return isinstance(told, str) and bool(_TOKEN.fullmatch(told))


def _said(response: requests.Response) -> str:
    """The endpoint's own words; those of a page that is no JSON say nothing."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return ""
    words = [body[name] for name in ("error", "error_description") if isinstance(body, dict) and body.get(name)]
    said = " ".join("".join(sign if sign.isprintable() else " " for sign in ": ".join(map(str, words))).split())
    return f": {said[:_LONGEST_SENTENCE]}" if said else ""
