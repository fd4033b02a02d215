"""Owns the way of a request through the site: whose it is, what it means, limits, and the site's own addresses.

Everything here runs on the server's one thread, so nothing is locked. Reads no socket and writes none.
"""

import base64
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from connectors.jira.simulator import pages
from connectors.jira.simulator.configuration import User, read_site
from connectors.jira.simulator.editing import Refusal
from connectors.jira.simulator.faults import Fault, read_faults
from connectors.jira.simulator.limits import Limits
from connectors.jira.simulator.options import Clock, Options
from connectors.jira.simulator.representation import Representation
from connectors.jira.simulator.resources import ROUTES, Answer, Call, Handler
from connectors.jira.simulator.search import Search
from connectors.jira.simulator.seeding import Seeds
from connectors.jira.simulator.site import Site

_JSON = "application/json;charset=UTF-8"
_HTML = "text/html;charset=UTF-8"
_UNAUTHENTICATED = b"Client must be authenticated to access this resource."
_CONFIRMED = "X-Seraph-LoginReason"


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
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    template: str
    pattern: re.Pattern[str]
    handler: Handler
    anonymous: str


def _route(method: str, template: str, handler: Handler, anonymous: str) -> _Route:
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
    return _Route(method, template, re.compile(pattern), handler, anonymous)


def _json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, orjson.dumps(content), headers=headers or {})


class Application:
    """One site with its clock, its faults and its ledger."""

    def __init__(self, data: Sequence[Path], options: Options, base_url: str) -> None:
        configuration, issues = read_site(data)
        self.clock = Clock()
        self.faults: list[Fault] = read_faults(orjson.loads(options.faults.read_bytes())) if options.faults else []
        self._options = options
        self._zone = options.zone()
        self._site = Site(configuration, options.search_lag)
        seeds = Seeds(self._site)
        for where, issue in issues:
            seeds.add(issue, where)
        if options.state:
            self._site.keep_journal(options.state)
        self._search = Search(self._site, options.empty_page)
        url = options.base_url.rstrip("/") or base_url
        self._shown = {version: Representation(self._site, version, url, self._zone) for version in ("2", "3")}
        self._limits = Limits(self.clock)
        self._requests: dict[str, Counter[str]] = {}
        self._routes = [_route(*each) for each in ROUTES]
        self._account = configuration.user(options.email)
        if self._account is None:
            raise ValueError(f"option email={options.email}: no user of the site has this address")

    def close(self) -> None:
        self._site.close()

    def fault(self, request: Request) -> Fault | None:
        """The first rule that strikes this request; the site's own addresses never fail."""
        if request.target.startswith("/_sim/"):
            return None
        struck = [rule for rule in self.faults if rule.strikes(request.method, request.target)]
        return struck[0] if struck else None

    def answer(self, request: Request) -> Response:
        """Carry the request out. Never raises: what goes wrong inside is a 500 with a line in the log."""
        try:
            return self._answer(request)
        except Refusal as refusal:
            return _json(refusal.status, refusal.body)
        except Exception:
            logging.getLogger(__name__).exception("request %s %s", request.method, request.target)
            return _json(500, {"errorMessages": ["Internal server error"], "errors": {}})

    def count(self, request: Request) -> None:
        """Enter the request into the ledger, whatever becomes of it."""
        path = urlsplit(request.target).path
        found = self._find(request.method, path)
        template = f"/rest/api/{found[1]}/{found[0].template}" if found else _own_template(path)
        self._requests.setdefault(request.method, Counter())[template] += 1

    # --- routing

    def _find(self, method: str, path: str) -> tuple[_Route, str, Mapping[str, str]] | None:
        """Route, version as written and path parameters."""
        address = re.fullmatch(r"/rest/api/(2|3|latest)/(.*)", path)
        if not address:
            return None
        for route in self._routes:
            if route.method == method and (found := route.pattern.fullmatch(address[2])):
                return route, address[1], {name: unquote(text) for name, text in found.groupdict().items()}
        return None

    def _answer(self, request: Request) -> Response:
        parts = urlsplit(request.target)
        if not parts.path.startswith("/rest/"):
            return self._own(request, parts.path)
        found = self._find(request.method, parts.path)
        if found is None:
            return self._unknown(request, parts.path)
        caller, login = self._caller(request)
        if caller is None and found[0].anonymous == "refused":
            return Response(401, _UNAUTHENTICATED, "text/plain;charset=UTF-8", login)
        if request.method != "GET" and (wrong := _refused_form(request)):
            return wrong
        call = self._call(request, found, caller, parse_qs(parts.query, keep_blank_values=True))
        passed, headers = self._spend(request.method, found)
        if not passed:
            return _json(429, {"errorMessages": ["Rate limit exceeded."], "errors": {}}, headers)
        return _response(found[0].handler, call, {**headers, **login})

    def _call(
        self,
        request: Request,
        found: tuple[_Route, str, Mapping[str, str]],
        caller: User | None,
        query: Mapping[str, Sequence[str]],
    ) -> Call:
        _, written, path = found
        version = "2" if written == "latest" else written
        body = _parsed(request.body) if request.method in ("POST", "PUT") else None
        return Call(
            self._site,
            self._search,
            self._shown[version],
            self._options,
            version,
            caller,
            self.clock.millis(),
            self._zone,
            path,
            query,
            body,
        )

    def _unknown(self, request: Request, path: str) -> Response:
        others = [method for method in ("GET", "POST", "PUT", "DELETE") if self._find(method, path)]
        if others:
            return _json(
                405, {"message": "HTTP 405 Method Not Allowed", "status-code": 405}, {"Allow": ", ".join(others)}
            )
        url = self._shown["2"].site_url + path
        return _json(404, {"message": f"null for uri: {url}", "status-code": 404})

    def _caller(self, request: Request) -> tuple[User | None, Mapping[str, str]]:
        """Who asks, and the header that says how the login went."""
        given = request.headers.get("authorization", "")
        expected = base64.b64encode(f"{self._options.email}:{self._options.token}".encode()).decode()
        if given == f"Basic {expected}":
            return self._account, {_CONFIRMED: "OK"}
        return None, {_CONFIRMED: "AUTHENTICATED_FAILED"} if given else {}

    def _spend(self, method: str, found: tuple[_Route, str, Mapping[str, str]]) -> tuple[bool, Mapping[str, str]]:
        if not self._options.limits:
            return True, {}
        route, _, path = found
        issue = self._site.issue(path.get("issueIdOrKey", "")) if method != "GET" else None
        return self._limits.spend(method, route.template, issue.id if issue else None)

    # --- the site's own addresses: pages for people, the ledger and the faults for tests

    def _own(self, request: Request, path: str) -> Response:
        if path.startswith("/browse/") and (issue := self._site.issue(unquote(path.removeprefix("/browse/")))):
            return Response(200, pages.ticket(self._site, issue, self._shown["3"]), _HTML)
        if path == "/":
            return Response(200, pages.overview(self._site, self._shown["3"]), _HTML)
        served: Mapping[tuple[str, str], Callable[[bytes], Response]] = {
            ("GET", "/_sim/ledger"): lambda _: _json(200, self._ledger()),
            ("GET", "/_sim/faults"): lambda _: self._faults(),
            ("POST", "/_sim/faults"): self._add_faults,
            ("DELETE", "/_sim/faults"): lambda _: self._clear_faults(),
            ("POST", "/_sim/clock"): self._advance,
        }
        serve = served.get((request.method, path))
        return serve(request.body) if serve else Response(404, pages.missing(path), _HTML)

    def _ledger(self) -> Mapping[str, Any]:
        tally = self._site.tally
        return {
            "requests": self._requests,
            "created": tally["create"],
            "edited": tally["edit"],
            "commented": tally["comment"],
            "transitioned": tally["transition"],
            "linked": tally["link"] + tally["remote_link"],
            "deleted": tally["delete"],
            "issues": [
                {"id": str(issue.id), "key": issue.key, "labels": issue.values.get("labels") or []}
                for issue in self._site.issues()
            ],
        }

    def _faults(self) -> Response:
        return _json(200, [{"do": rule.do, "path": rule.path, "seen": rule.seen} for rule in self.faults])

    def _add_faults(self, body: bytes) -> Response:
        try:
            self.faults += read_faults(orjson.loads(body))
        except ValueError as wrong:
            return _json(400, {"errorMessages": [str(wrong)], "errors": {}})
        return self._faults()

    def _clear_faults(self) -> Response:
        self.faults.clear()
        return Response(204)

    def _advance(self, body: bytes) -> Response:
        """``{"advance": seconds}`` moves the site's clock, so that lags and expiries need no waiting."""
        self.clock.advance(float(orjson.loads(body)["advance"]))
        return _json(200, {"now": self.clock.millis()})


def _own_template(path: str) -> str:
    return "/browse/{key}" if path.startswith("/browse/") else path


def _response(handler: Handler, call: Call, headers: Mapping[str, str]) -> Response:
    try:
        answer: Answer = handler(call)
    except Refusal as refusal:
        return _json(refusal.status, refusal.body, headers)
    if answer.body is None:
        return Response(answer.status, headers=headers)
    body = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
    return Response(answer.status, body, headers=headers)


def _refused_form(request: Request) -> Response | None:
    """What the vendor's front gate says to writes that look like a browser's or are not JSON."""
    if request.headers.get("x-atlassian-token") != "no-check" and (
        request.headers.get("user-agent", "").startswith("Mozilla") or "origin" in request.headers
    ):
        return Response(403, b"XSRF check failed", "text/html;charset=UTF-8")
    form = request.headers.get("content-type", "")
    if request.method in ("POST", "PUT") and not form.startswith("application/json"):
        return _json(415, {"message": "HTTP 415 Unsupported Media Type", "status-code": 415})
    return None


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "There was an error parsing JSON. Check that your request body is valid.") from None
