"""The only file that knows the ``jira`` library: JSON in, JSON out.

Owns the login, the form of requests, paging, and what a status, a header or a body means to us. Leaves deadlines and
retries to ``itsms_sync.http`` and the content of tickets to ``connector``.

Of the library we use what it does well, an authenticated session and addresses. Its retries are off, because they
repeat a create whose answer was lost; its objects are not used, because they hold on to the session; its errors lose
the names of the fields, so that we read the answers ourselves. A login that has died does not always show: search then
answers as if nobody had asked, with an empty list. So nothing is searched or written before the account was seen.
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import requests

from itsms_sync.connector import Access, Refused, SourceError, Unavailable
from itsms_sync.http import answer, retry_after

if TYPE_CHECKING:
    from jira import JIRA

T = TypeVar("T")
Json = dict[str, Any]

_LOGIN = "X-Seraph-LoginReason"
_PAGE = 100
_MOST_PAGES = 1000
_LONGEST_SENTENCE = 500
_STEPS: Mapping[int, str] = {
    401: "check user name and API token of this source; tokens expire after a year at the latest",
    403: "give the account the permission for this in the project; if Jira wants a CAPTCHA, log in once with a browser",
    404: "check that it exists and that the account has the permission Browse Projects",
    410: "Jira has removed this interface; update itsms_sync",
}


class LoggedOut(Refused):
    """The login does not work."""


class Site:
    """A Jira Cloud site as one account sees it.

    Every ``parse`` takes the answer's JSON; a ``KeyError``, ``TypeError`` or ``ValueError`` of it means that the answer
    does not have its documented form.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._secrets: Mapping[str, str] = {}
        self._client: JIRA | None = None
        self._proven = False
        self._confirmed = False
        """Whether the last answer said that the login worked."""

    def get(self, path: str, parse: Callable[[Any], T], **query: str | int) -> T:
        """Read a resource of REST v2."""
        return self._reading(lambda: self._parsed("GET", path, parse, query=query))

    def described(self, path: str) -> tuple[Json, Mapping[str, str]]:
        """A resource and the headers that came with it."""

        def once() -> tuple[Json, Mapping[str, str]]:
            response = self._exchange("GET", path)
            return self._shaped(response, path, dict), response.headers

        return self._reading(once)

    def listed(self, path: str, name: str, **query: str | int) -> list[Json]:
        """All values of a resource that is paged by ``startAt`` and holds them under ``name``."""
        found: list[Json] = []
        while True:
            page = self.get(path, lambda body: (list(body[name]), int(body["total"])), startAt=len(found), **query)
            found += page[0]
            if not page[0] or len(found) >= page[1]:
                return found

    def search(self, jql: str, fields: Sequence[str], properties: Sequence[str], parse: Callable[[Any], T]) -> list[T]:
        """All issues, each parsed. Nothing is found only if the account was seen to be ours after that."""
        self.prove()
        found = [parsed for page in self._pages(jql, fields, properties, parse) for parsed in page]
        if not found and not self._confirmed:
            self._proven = False
            self.prove()
        return found

    def post(self, path: str, body: Json, parse: Callable[[Any], T]) -> T:
        """Write once. ``parse`` gets ``None`` where Jira answers without a body."""
        return self._writing("POST", path, body, parse)

    def put(self, path: str, body: Json) -> None:
        """Write once."""
        self._writing("PUT", path, body, lambda _: None)

    def prove(self) -> None:
        """See once that we are logged in. Raises ``Refused`` if we are not."""
        if not self._proven:
            self.get("myself", lambda body: str(body["accountId"]))
            self._proven = True

    # --- one exchange

    def _pages(
        self, jql: str, fields: Sequence[str], properties: Sequence[str], parse: Callable[[Any], T]
    ) -> Iterator[list[T]]:
        asked: Json = {"jql": jql, "fields": list(fields), "properties": list(properties), "maxResults": _PAGE}
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            issues, token = self._page(asked, parse)
            yield issues
            if token is None:
                return
            if token in seen:
                break
            seen.add(token)
            asked = {**asked, "nextPageToken": token}
        raise Unavailable(f"{self._access.name}: the pages of a search do not end; try again later")

    def _page(self, asked: Json, parse: Callable[[Any], T]) -> tuple[list[T], str | None]:
        """Issues, and the token of the next page; whichever of the two signs of the end comes first counts."""

        def parsed(body: Json) -> tuple[list[T], str | None]:
            token = None if body.get("isLast") else body.get("nextPageToken")
            return [parse(issue) for issue in body["issues"]], str(token) if token else None

        return self._reading(lambda: self._parsed("POST", "search/jql", parsed, body=asked))

    def _reading(self, once: Callable[[], T]) -> T:
        try:
            return self._access.http.reading(once)
        except LoggedOut:
            if not self._renewed():
                raise
            return self._access.http.reading(once)

    def _writing(self, method: str, path: str, body: Json, parse: Callable[[Any], T]) -> T:
        self.prove()
        try:
            return self._access.http.writing(lambda: self._parsed(method, path, parse, body=body))
        except LoggedOut:
            self._proven = False
            raise

    def _parsed(
        self,
        method: str,
        path: str,
        parse: Callable[[Any], T],
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
    ) -> T:
        return self._shaped(self._exchange(method, path, query, body), path, parse)

    def _shaped(self, response: requests.Response, path: str, parse: Callable[[Any], T]) -> T:
        content = _content(response)
        try:
            return parse(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{self._access.name}: the answer for {path} has not its documented form ({error!r})"
            raise Unavailable(what, sent=response.request.method != "GET") from None

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str | int] | None = None, body: Json | None = None
    ) -> requests.Response:
        """One request. Any answer that is no success is raised."""
        from jira import JIRAError

        client, data = self._client or self._connected(), None if body is None else self._encoded(body)
        self._confirmed = False
        try:
            response: requests.Response = client._session.request(
                method, client._get_url(path), params=query, data=data
            )
        except JIRAError as error:
            if error.response is None:
                raise Unavailable(f"{self._access.name}: no answer to {method} {path}", sent=method != "GET") from None
            response = error.response
        self._scrub(response)
        # not raised above, since printing a chained JIRAError would print headers and bodies
        if not response.ok or _is_logged_out(response):
            raise self._failure(response, method, path)
        self._confirmed = response.headers.get(_LOGIN) == "OK"
        return response

    def _encoded(self, body: Json) -> bytes:
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise Refused(f"{self._access.name}: what should be sent is no JSON: {error}") from None

    def _scrub(self, response: requests.Response) -> None:
        """Take our secrets out of an answer that repeats them, before any part of it can get into a message."""
        for secret in self._secret_forms():
            if secret.encode() in response.content:
                response._content = response.content.replace(secret.encode(), b"***")

    def _connected(self) -> "JIRA":
        from jira import JIRA

        self._secrets = dict(self._access.credential())
        secret = self._secrets.get("token") or self._secrets.get("password")
        name = self._secrets.get("username")
        if not secret:
            raise Refused(f"{self._access.name}: no credential; name an API token for this source")
        client = JIRA(
            self._access.url,
            options={"rest_api_version": "2", "check_update": False},
            basic_auth=(name, secret) if name else None,
            token_auth=None if name else secret,
            max_retries=0,
            timeout=(10, 60),
            get_server_info=False,
            logging=False,
        )
        self._access.http.bind(client._session)
        self._client = client
        return client

    def _renewed(self) -> bool:
        """Whether the credential's place holds another one than we used; then the next request uses that."""
        self._proven = False
        if dict(self._access.credential()) == self._secrets:
            return False
        self._client = None
        return True

    # --- what an answer means

    def _failure(self, response: requests.Response, method: str, path: str) -> SourceError:
        status, wait_s = response.status_code, retry_after(response.headers, now=float("inf"))
        told = f"{self._access.name}: {method} {path}: status {status}: {_sentence(response)}"
        if _is_logged_out(response):
            return LoggedOut(f"{told}; {_STEPS[401]}")
        if status == 429 or status == 409:
            return Unavailable(told, retry_after=wait_s)
        if status >= 500 or status == 408:
            return Unavailable(told, retry_after=wait_s, sent=method != "GET")
        step = _STEPS.get(status, "correct what it names in the options of this source or in the project")
        return Refused(f"{told}; {step}")

    def _secret_forms(self) -> list[str]:
        """The secrets as they are and as they travel."""
        secrets = [self._secrets[name] for name in ("token", "password") if self._secrets.get(name)]
        pairs = [f"{self._secrets.get('username', '')}:{secret}".encode() for secret in secrets]
        return [*(base64.b64encode(pair).decode() for pair in pairs), *secrets]


def _content(response: requests.Response) -> Any:
    """JSON, or ``None`` where the status says that the work is done and nothing is said about it."""
    done = response.status_code == 204 or (response.status_code in (200, 201) and response.request.method != "GET")
    return None if done and not response.content else answer(response)


def _is_logged_out(response: requests.Response) -> bool:
    reason = response.headers.get(_LOGIN, "")
    return response.status_code == 401 or "AUTHENTICATED_FAILED" in reason or "AUTHENTICATION_DENIED" in reason


def _sentence(response: requests.Response) -> str:
    """What the vendor says, with the fields it names."""
    said = " ".join(_sentences(response))
    return re.sub(r"\s+", " ", "".join(sign if sign.isprintable() else " " for sign in said))[:_LONGEST_SENTENCE]


def _sentences(response: requests.Response) -> list[str]:
    """Layers of Jira word their errors in different forms."""
    if "html" in response.headers.get("Content-Type", ""):
        return ["(a page of HTML)"]
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return [response.content[:_LONGEST_SENTENCE].decode("utf-8", "replace")]
    if not isinstance(body, dict):
        return []
    messages, fields = body.get("errorMessages"), body.get("errors")
    told = [str(each) for each in messages] if isinstance(messages, list) else []
    told += [str(body[name]) for name in ("errorMessage", "message", "error") if body.get(name)]
    return told + ([f"{field}: {text}" for field, text in fields.items()] if isinstance(fields, dict) else [])
