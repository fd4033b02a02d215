"""The only file that knows the ``jira`` library: JSON in, JSON out, for Jira Cloud and Jira Data Center.

Owns the login, the edition, the form of requests, and what a status, a header or a body means to us. Leaves deadlines
and retries to ``itsms_sync.http``, the walk over issues to ``walk`` and the content of tickets to ``tickets``.

Of the library we use what it does well, an authenticated session and addresses. Its retries are off, because they
repeat a create whose answer was lost; its objects are not used, because they hold on to the session; its errors lose
the names of the fields, so that we read the answers ourselves; its own idea of the edition is not asked, because it
takes a site that it has not asked for Data Center and calls what Cloud has removed. REST v2 serves both editions, and
with it texts are wiki markup, as in the history.

A login that has died does not always show: search then answers as if nobody had asked, with an empty list. So nothing
is searched or written before the account was seen, an answer that names nobody is refused, and what does not name us is
believed only after the account was seen once more (``confirm``).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import requests

from itsms_sync.connector import Access, LoggedOut, Refused, SourceError, Unavailable
from itsms_sync.http import http_date_millis, retry_after
from itsms_sync.login import Login
from itsms_sync.records import Millis

if TYPE_CHECKING:
    from jira import JIRA

T = TypeVar("T")
Json = dict[str, Any]

_LOGIN = "X-Seraph-LoginReason"
_ACCOUNT = "X-AUSERNAME"
_DESK = "servicedeskapi/"
_PAGE = 100
_MOST_PAGES = 1000
_CLOCKS_APART = 5_000
"""Milliseconds."""
_LONGEST_SENTENCE = 500
_STEPS: Mapping[int, str] = {
    401: (
        "check user name and API token of this source (Data Center: user name and password, or a personal access "
        "token alone); tokens expire after a year at the latest"
    ),
    403: "give the account the permission for this in the project",
    404: "check that it exists and that the account has the permission Browse Projects",
    410: "Jira has removed this interface; update itsms_sync",
}
_SCOPE = "the token has no scope for this: make one with the scopes that docs/connectors/jira.md names"
_XSRF = "something on the way adds a browser's headers to our requests: see the proxy of this source"


class Edition(StrEnum):
    CLOUD = "cloud"
    DATA_CENTER = "datacenter"


class Denied(Refused):
    """This request is refused; others may not be."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def documented(what: str) -> Iterator[None]:
    """For code that takes a part of an answer to pieces: ``Unavailable`` if it has not its documented form."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable(f"{what} has not its documented form ({error!r})") from None


class Site:
    """A Jira site as one account sees it.

    Every ``parse`` takes the answer's JSON; a ``KeyError``, ``TypeError`` or ``ValueError`` of it means that the answer
    does not have its documented form.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._login = Login(access)
        self._client: JIRA | None = None
        self._proven = False
        self._doubted = False
        """Whether an answer, since the account was seen last, did not say that it was given to us."""
        self._spoilt = False
        """Whether the login then turned out to be dead, and was renewed: nobody knows for whom those answers were."""
        self._edition: Edition | None = None
        self.server_time: Millis | None = None
        """The site's clock at the last answer."""
        self._ahead: Millis = 0

    @property
    def edition(self) -> Edition:
        """As the site says."""
        if self._edition is None:
            self._edition = self.get("serverInfo", edition_of)
        return self._edition

    def dated_ahead(self, of_site: Millis) -> None:
        """By how much answers are dated ahead of the clock that stamps issues: a proxy may date them by its own."""
        # a date is cut to the second, so a small difference is none
        self._ahead = of_site if abs(of_site) >= _CLOCKS_APART else 0

    @property
    def account(self) -> str:
        """Our own identifier there: the account id, on Data Center the key. What was in doubt before is forgotten."""
        self._doubted = self._spoilt = False
        return self.get("myself", own_account)

    def get(self, path: str, parse: Callable[[Any], T], **query: str | int) -> T:
        """Read a resource of REST v2."""
        return self._reading(lambda: self._parsed("GET", path, parse, query=query))

    def described(self, path: str, parse: Callable[[Any], T]) -> tuple[T, Mapping[str, str]]:
        """A resource and the headers that came with it."""

        def once() -> tuple[T, Mapping[str, str]]:
            response = self._exchange("GET", path)
            return self._shaped(response, path, parse), response.headers

        return self._reading(once)

    def ask(self, path: str, body: Json, parse: Callable[[Any], T]) -> T:
        """Read a resource of REST v2 whose question is too long for an address."""
        return self._reading(lambda: self._parsed("POST", path, parse, body=body))

    def desk(self, path: str, parse: Callable[[Any], T], **query: str | int) -> T:
        """Read a resource of Jira Service Management."""
        return self._reading(lambda: self._parsed("GET", _DESK + path, parse, query=query))

    def desk_values(self, path: str) -> list[Json]:
        """All values of a paged resource of Jira Service Management."""
        found: list[Json] = []
        for _ in range(_MOST_PAGES):
            page, last = self.desk(
                path, lambda body: (list(body["values"]), bool(body["isLastPage"])), start=len(found), limit=_PAGE
            )
            found += page
            if last:
                return found
            if not page:
                break
        raise Unavailable(f"{self._access.name}: the pages of {path} do not end; try again later")

    def listed(self, path: str, name: str, **query: str | int) -> list[Json]:
        """All values of a resource that is paged by ``startAt``, and that holds them under ``name`` or ``values``."""
        found: list[Json] = []
        while True:
            page, total = self.get(path, lambda body: _values(body, name), startAt=len(found), **query)
            found += page
            if not page or (total is not None and len(found) >= total):
                return found

    def search(self, jql: str, fields: Sequence[str], properties: Sequence[str], parse: Callable[[Any], T]) -> list[T]:
        """All issues, each parsed. The account was seen to be ours after that, or what is missing may be hidden."""
        return [one for page, _ in self.pages(jql, fields, properties, parse) for one in page]

    def pages(
        self, jql: str, fields: Sequence[str], properties: Sequence[str], parse: Callable[[Any], T]
    ) -> Iterator[tuple[list[T], bool]]:
        """The same page by page, with whether it is the last one; before the last the account was seen to be ours."""
        self.prove()
        asked: Json = {"jql": jql, "fields": list(fields), "properties": list(properties), "maxResults": _PAGE}
        for page, last in self._tokens(asked, parse) if self.edition is Edition.CLOUD else self._offsets(asked, parse):
            if last:
                self.confirm()
            yield page, last

    def newest(self, project: str, most: int) -> list[str]:
        """Ids of the issues that were made last in a project."""
        asked = {"jql": f'project = "{project}" ORDER BY created DESC', "fields": ["created"], "maxResults": most}
        path = "search/jql" if self.edition is Edition.CLOUD else "search"
        return self.ask(path, asked, lambda body: [str(issue["id"]) for issue in body["issues"]])

    def lost(self, projects: Sequence[str]) -> list[str]:
        """Those of the projects that are not there for this account."""
        return [key for key in projects if not self._is_there(f"project/{key}")]

    def confirm(self) -> None:
        """See that all answers since ``account`` or ``prove`` were given to us. Raises ``LoggedOut`` if we are not
        logged in, and ``Unavailable`` if we are again, with other secrets.
        """
        try:
            if self._doubted:
                self._access.http.reading(lambda: self._parsed("GET", "myself", own_account))
                self._doubted = False
        except LoggedOut:
            if not self._renewed():
                raise
        if self._spoilt:
            told = "the login had died and works again with other secrets; what was answered between is asked again"
            raise Unavailable(f"{self._access.name}: {told}")

    def post(self, path: str, body: Json, parse: Callable[[Any], T]) -> T:
        """Write once. ``parse`` gets ``None`` where Jira answers without a body."""
        return self._writing("POST", path, body, parse)

    def put(self, path: str, body: Json) -> None:
        """Write once."""
        self._writing("PUT", path, body, lambda _: None)

    def prove(self) -> None:
        """See once that we are logged in. Raises ``Refused`` if we are not."""
        if not self._proven:
            self._proven = bool(self.account)

    # --- one exchange

    def _is_there(self, path: str) -> bool:
        try:
            return bool(self.get(path, dict))
        except Denied as denial:
            if denial.status != 404:
                raise
            return False

    def _tokens(self, asked: Json, parse: Callable[[Any], T]) -> Iterator[tuple[list[T], bool]]:
        """Cloud's walk."""
        seen: set[str] = set()

        def parsed(body: Json) -> tuple[list[T], str | None]:
            return [parse(issue) for issue in body["issues"]], token_of(body)

        while len(seen) < _MOST_PAGES:
            issues, token = self.ask("search/jql", asked, parsed)
            yield issues, token is None
            if token is None:
                return
            if token in seen:
                break
            seen.add(token)
            asked = {**asked, "nextPageToken": token}
        raise Unavailable(f"{self._access.name}: the pages of a search do not end; try again later")

    def _offsets(self, asked: Json, parse: Callable[[Any], T]) -> Iterator[tuple[list[T], bool]]:
        """Data Center's walk. The index knows properties of issues only when they are read one by one."""
        position = 0

        def parsed(body: Json) -> tuple[list[Json], int]:
            check_whole(body)
            return list(body["issues"]), int(body["total"])

        query = {name: asked[name] for name in ("jql", "fields", "maxResults")}
        while True:
            issues, total = self.ask("search", {**query, "startAt": position}, parsed)
            position += len(issues)
            last = not issues or position >= total
            yield [self._with_properties(issue, asked, parse) for issue in issues], last
            if last:
                return

    def _with_properties(self, issue: Json, asked: Json, parse: Callable[[Any], T]) -> T:
        names = ",".join(asked["properties"])
        return self.get(f"issue/{issue['id']}", parse, fields=",".join(asked["fields"]), properties=names)

    def _reading(self, once: Callable[[], T]) -> T:
        try:
            return self._access.http.reading(once)
        except LoggedOut:
            if not self._renewed():
                raise
            return self._access.http.reading(once)
        except Denied:
            self.confirm()  # a stranger is told the same
            raise

    def _writing(self, method: str, path: str, body: Json, parse: Callable[[Any], T]) -> T:
        self.prove()
        self._login.ready()
        try:
            return self._access.http.writing(lambda: self._parsed(method, path, parse, body=body))
        except LoggedOut:
            self._proven = False
            raise
        except Denied:
            self.confirm()
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
        content = None if _is_silent(response) else self._login.parsed(response)
        try:
            return parse(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            shown = self._login.hidden(repr(error))
            what = f"{self._access.name}: the answer for {path} has not its documented form ({shown})"
            raise Unavailable(what, sent=response.request.method != "GET") from None

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str | int] | None = None, body: Json | None = None
    ) -> requests.Response:
        """One request. Any answer that is no success is raised."""
        from jira import JIRAError

        client, data = self._client or self._connected(), None if body is None else self._encoded(body)
        headers = {"X-ExperimentalApi": "opt-in"} if path.startswith(_DESK) else {}
        try:
            response: requests.Response = client._session.request(
                method, self._address(client, path), params=query, data=data, headers=headers
            )
        except JIRAError as error:
            if error.response is None:
                raise Unavailable(f"{self._access.name}: no answer to {method} {path}", sent=method != "GET") from None
            response = error.response
        self._login.scrub(response)
        # not raised above, since printing a chained JIRAError would print headers and bodies
        if _is_logged_out(response):
            raise LoggedOut(f"{self._told(response, method, path)}; {self._way_back_in(response)}")
        self._doubted = self._doubted or not _names_us(response)
        if not response.ok:
            raise self._failure(response, method, path)
        dated = http_date_millis(response.headers.get("Date"))
        self.server_time = None if dated is None else dated - self._ahead
        return response

    def _address(self, client: "JIRA", path: str) -> str:
        base = self._access.url.rstrip("/")
        if path.startswith("/"):  # not of the REST interface
            return base + path
        return f"{base}/rest/{path}" if path.startswith(_DESK) else str(client._get_url(path))

    def _encoded(self, body: Json) -> bytes:
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise Refused(f"{self._access.name}: what should be sent is no JSON: {error}") from None

    def _connected(self) -> "JIRA":
        from jira import JIRA

        client = JIRA(
            self._access.url,
            options={"rest_api_version": "2", "check_update": False},
            max_retries=0,
            timeout=(10, 60),
            get_server_info=False,
            logging=False,
        )
        self._access.http.bind(client._session)
        client._session.auth = self._login
        self._client = client
        return client

    def _renewed(self) -> bool:
        """Whether other secrets than the refused ones are to be had; the next request uses those."""
        self._proven, self._spoilt = False, self._spoilt or self._doubted
        return self._login.renewed()

    # --- what an answer means

    def _failure(self, response: requests.Response, method: str, path: str) -> SourceError:
        status, wait_s = response.status_code, retry_after(response.headers, now=float("inf"))
        told = self._told(response, method, path)
        if status == 429 or status == 409:
            reason = response.headers.get("RateLimit-Reason")
            return Unavailable(f"{told} ({reason})" if reason else told, retry_after=wait_s)
        if status >= 500 or status == 408:
            return Unavailable(told, retry_after=wait_s, sent=method != "GET")
        return Denied(f"{told}; {_next_step(response)}", status)

    def _told(self, response: requests.Response, method: str, path: str) -> str:
        return f"{self._access.name}: {method} {path}: status {response.status_code}: {_sentence(response)}"

    def _way_back_in(self, response: requests.Response) -> str:
        if _wants_captcha(response):
            return "log in once with a browser and solve the CAPTCHA, then the next poll goes on"
        return self._login.step or _STEPS[401]


def check_whole(body: Json) -> None:
    """Raises ``Unavailable`` for an answer of search that says of itself that it is cut."""
    for name in ("warnings", "warningMessages"):
        if body.get(name):
            raise Unavailable(f"search warns that its answer is not whole: {str(body[name])[:200]}")


def token_of(body: Json) -> str | None:
    """Token of the page behind this one of Cloud's search, ``None`` at the end.

    Raises ``Unavailable`` for a page that is cut, and where the two signs of the end do not agree: that is no end.
    """
    check_whole(body)
    token = body.get("nextPageToken") or None
    if bool(body.get("isLast")) is not (token is None):
        raise Unavailable("search does not say whether pages follow; the next poll goes on behind the last one")
    return None if token is None else str(token)


def edition_of(info: Json) -> Edition:
    """From ``serverInfo``; Data Center calls itself a server."""
    return Edition.CLOUD if info["deploymentType"] == "Cloud" else Edition.DATA_CENTER


def own_account(body: Json) -> str:
    """From ``myself``."""
    return str(body["accountId"] if "accountId" in body else body["key"])


def _values(body: Json, name: str) -> tuple[list[Json], int | None]:
    """Values of a page and how many there are; Data Center names them differently and does not always count them."""
    total = body.get("total")
    if total is None and "isLast" not in body:
        raise ValueError("a page that neither counts nor says whether it is the last one")
    return list(body[name] if name in body else body["values"]), None if total is None else int(total)


def _is_silent(response: requests.Response) -> bool:
    """Whether the status says that the work is done, and nothing is said about it."""
    done = response.status_code == 204 or (response.status_code in (200, 201) and response.request.method != "GET")
    return done and not response.content


def _next_step(response: requests.Response) -> str:
    """What somebody has to do about a request that is refused although we are logged in."""
    if _is_out_of_scope(response):
        return _SCOPE
    if response.status_code == 403 and b"XSRF check failed" in response.content:
        return _XSRF
    return _STEPS.get(response.status_code, "correct what it names in the options of this source or in the project")


def _is_logged_out(response: requests.Response) -> bool:
    """Whether the answer was given to nobody, whatever its status."""
    failed = "AUTHENTICATED_FAILED" in response.headers.get(_LOGIN, "") or response.status_code == 401
    nobody = response.headers.get(_ACCOUNT) == "anonymous" or _wants_captcha(response)
    return (failed and not _is_out_of_scope(response)) or nobody


def _wants_captcha(response: requests.Response) -> bool:
    denied = "AUTHENTICATION_DENIED" in response.headers.get(_LOGIN, "")
    return denied or "CAPTCHA" in response.headers.get("X-Authentication-Denied-Reason", "")


def _names_us(response: requests.Response) -> bool:
    """Whether a header says that the login worked. That there is none says nothing."""
    return response.headers.get(_LOGIN) == "OK" or response.headers.get(_ACCOUNT, "anonymous") != "anonymous"


def _is_out_of_scope(response: requests.Response) -> bool:
    """Atlassian's gateway answers so for a token that is good and was not given the right to do this."""
    return response.status_code == 401 and b"scope does not match" in response.content


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
