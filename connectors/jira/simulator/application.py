"""Owns the way of a request through the site, from the gate to what serves it, and the site's own addresses.

Everything here runs on the server's one thread, so nothing is locked. Reads no socket and writes none.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

import orjson

from connectors.faults import Asked, Faults, Rule, ready_made
from connectors.jira.simulator import faults, pages
from connectors.jira.simulator.calls import Answer, Call, Handler
from connectors.jira.simulator.configuration import User
from connectors.jira.simulator.data_center import DataCenterRepresentation
from connectors.jira.simulator.editing import Editing
from connectors.jira.simulator.gates import DataCenterGate, Gate, Login, out_of_scope
from connectors.jira.simulator.lively import DATA, Lively
from connectors.jira.simulator.messages import HTML, Request, Response, json_response
from connectors.jira.simulator.options import Clock, Options
from connectors.jira.simulator.refusals import Refusal
from connectors.jira.simulator.representation import Representation
from connectors.jira.simulator.routes import Found, Routes
from connectors.jira.simulator.search import Search
from connectors.jira.simulator.seeding import Seeds
from connectors.jira.simulator.site import Event, Issue, Site
from connectors.jira.simulator.site_files import read_site


class Application:
    """One site with its clock, its faults and its ledger."""

    def __init__(self, data: Sequence[Path], options: Options, base_url: str) -> None:
        lively = options.desk == "lively"
        configuration, issues = read_site([*DATA, *data] if lively else data)
        self.clock = Clock(options.clock_offset)
        self.dated_ahead = options.date_offset
        self.faults = Faults(faults.KINDS, options.seed, monotonic)
        self._options = options
        self._zone = options.zone()
        self._site = Site(configuration, options.search_lag, options.node_lag)
        Seeds(self._site).add_all(issues)
        self._lively = self._enlivened() if lively else None
        if options.state:
            self._site.keep_journal(options.state)
        index = self._site.index
        nodes = [index, index.behind] if index.behind else [index]
        self._nodes = [Search(self._site, node, options.empty_page) for node in nodes]
        self._turns = count()
        url = (options.base_url.rstrip("/") or base_url) + options.context
        cloud = options.edition == "cloud"
        looks, versions = (Representation, "23") if cloud else (DataCenterRepresentation, "2")
        self._shown = {each: looks(self._site, each, url, self._zone, self.clock.millis) for each in versions}
        self._requests: dict[str, Counter[str]] = {}
        self._misbehaved: Counter[str] = Counter()
        self._lagging: dict[int, Search] = {}
        """What search is under a fault, by the identity of its rule."""
        self._lists: dict[str, Response] = {}
        """The last answer of each address of search."""
        self._routes = Routes(options.edition)
        self._gateway = f"/ex/jira/{options.cloud_id}"
        self._token_path = "/oauth/token" if cloud else "/rest/oauth2/latest/token"
        account = configuration.user(options.email)
        if account is None:
            raise ValueError(f"option email={options.email}: no user of the site has this address")
        self._gate = (Gate if cloud else DataCenterGate)(options, account, self.clock)
        for path in _fault_files(options):
            self._prepare(self.faults.load(path))

    def _prepare(self, rules: Sequence[Rule]) -> None:
        """Give rules under which search lags an index of their own, which hears of every write from now on."""
        now = self.clock.millis()
        for rule in rules:
            if rule.do in faults.LAGGING:
                seconds = rule.given["seconds"]
                lag, frozen_at = (0, now) if seconds is None else (round(seconds * 1000), None)
                index = self._site.index_beside(lag, frozen_at, now)
                self._lagging[id(rule)] = Search(self._site, index, 0)

    def _enlivened(self) -> Lively:
        chosen = self._options
        if chosen.state:
            raise ValueError("option state: the history of a lively desk is made anew at each start and cannot be kept")
        return Lively(
            self._site,
            self.clock.millis(),
            seed=chosen.seed,
            days=chosen.days,
            per_day=chosen.per_day,
            tempo=chosen.tempo,
        )

    def close(self) -> None:
        self._site.close()

    def due(self, request: Request) -> list[Rule]:
        """The faults that strike this request; the site's own addresses never fail."""
        if self._within(request.target).startswith("/_sim/"):
            return []
        path, _, query = request.target.partition("?")
        rules = self.faults.due(Asked(request.method, path, query, request.body))
        self._misbehaved.update(rule.do for rule in rules)
        return rules

    def misbehave(self, request: Request, rule: Rule) -> Response | None:
        """The answer as the rule leaves it; ``None`` for none at all. Whether it is cut on its way is the server's."""
        silent = rule.do in ("drop_before", "drop_after") or (rule.do == "reset" and not rule.given["halfway"])
        if silent and not rule.has_acted:
            return None
        replaced = faults.instead(rule, request, self.clock.millis() / 1000)
        if replaced is not None:
            if rule.after:
                self.answer(request)
            return replaced
        path = urlsplit(request.target).path
        before = self._lists.get(path)
        response = faults.rewritten(rule, request, self.answer(request, rule), before)
        return None if silent else response

    def answer(self, request: Request, rule: Rule | None = None) -> Response:
        """Carry the request out. Never raises: what goes wrong inside is a 500 with a line in the log."""
        try:
            return self._answer(request, rule)
        except Refusal as refusal:
            return json_response(refusal.status, refusal.body)
        except Exception:
            logging.getLogger(__name__).exception("request %s %s", request.method, request.target)
            return json_response(500, {"errorMessages": ["Internal server error"], "errors": {}})

    def count(self, request: Request) -> None:
        """Enter the request into the ledger, whatever becomes of it."""
        path = self._within(urlsplit(request.target).path)
        found = self._routes.find(request.method, path)
        template = found.template if found else _own_template(path)
        self._requests.setdefault(request.method, Counter())[template] += 1

    # --- routing

    def _within(self, target: str) -> str:
        """The target below the context path, or below the gateway's; what lies outside stays as it is."""
        return target.removeprefix(self._gateway if self._is_at_gateway(target) else self._options.context)

    def _is_at_gateway(self, target: str) -> bool:
        return bool(self._options.cloud_id) and target.startswith(f"{self._gateway}/")

    def _answer(self, request: Request, rule: Rule | None) -> Response:
        if self._lively and self._options.live:
            self._lively.go_on(self.clock.millis())
        parts = urlsplit(request.target)
        path = self._within(parts.path)
        if (request.method, path) == ("POST", self._token_path):
            return self._gate.tokens.answer(request)
        if not path.startswith("/rest/"):
            return self._own(request, path)
        if self._options.context and path == parts.path:
            return Response(404, pages.missing(path), HTML)
        dead, gateway = rule is not None and rule.do == "anonymous", self._is_at_gateway(parts.path)
        given = "Bearer dead" if dead else request.headers.get("authorization", "")
        login = self._gate.login(given, gateway=gateway)
        node = next(self._turns) % len(self._nodes)
        response = self._resource(request, path, login, node, rule, gateway=gateway)
        if "/search" in path:
            self._lists[parts.path] = response
        return replace(response, headers={**response.headers, **self._gate.traces(login, node + 1)})

    def _resource(
        self, request: Request, path: str, login: Login, node: int, rule: Rule | None, *, gateway: bool
    ) -> Response:
        found = self._routes.find(request.method, path)
        if found is None:
            return self._unknown(request, path)
        if stopped := self._gate.stopped(login, found.route.anonymous, gateway=gateway):
            return stopped
        if refused := out_of_scope(login, request.method, found.route.template):
            return refused
        if request.method != "GET" and (wrong := _refused_form(request)):
            return wrong
        call = self._call(request, found, login.caller, node)
        if rule is not None:
            call = self._struck(call, rule)
        points = self._gate.points if login.app else None
        passed, headers = self._spend(request.method, found)
        if points and (refusal := points.refused()):
            passed, headers = False, refusal
        if not passed:
            return json_response(429, {"errorMessages": ["Rate limit exceeded."], "errors": {}}, headers)
        told = login.headers if self._options.login_headers else {}
        response = _response(found.route.handler, call, {**headers, **told})
        if points is None:
            return response
        return replace(response, headers={**response.headers, **points.charge(_issues_in(response))})

    def _struck(self, call: Call, rule: Rule) -> Call:
        """The call as a fault inside the site lets it be served."""
        if rule.do == "changing_pages":
            self._touch(rule.acted, call.now)
        if rule.do == "empty_page_with_token":
            return replace(call, empty_page=True)
        if rule.do == "search_lag" or (rule.do == "index_node_lag" and rule.acted % 2 == 0):
            return replace(call, search=self._lagging[id(rule)])
        return call

    def _touch(self, turn: int, now: int) -> None:
        """Somebody updates an issue, another one each time, in a way that leaves nothing in its history."""
        issues = list(self._site.issues())
        if issues:
            issue = issues[turn * 7919 % len(issues)]
            self._site.record(
                {"do": "edit", "at": now, "by": "", "issue": issue.id, "values": {"updated": now}, "items": []}
            )

    def _call(self, request: Request, found: Found, caller: User | None, node: int) -> Call:
        return Call(
            self._site,
            self._nodes[node],
            self._shown[found.version],
            self._options,
            found.version,
            caller,
            self.clock.millis(),
            self._zone,
            found.path,
            parse_qs(urlsplit(request.target).query, keep_blank_values=True),
            _parsed(request.body) if request.method in ("POST", "PUT") else None,
            request.headers,
        )

    def _unknown(self, request: Request, path: str) -> Response:
        if self._options.edition == "datacenter" and path.startswith("/rest/api/3/"):
            return Response(404, pages.missing(path), HTML)
        others = [method for method in ("GET", "POST", "PUT", "DELETE") if self._routes.find(method, path)]
        if others:
            content = {"message": "HTTP 405 Method Not Allowed", "status-code": 405}
            return json_response(405, content, {"Allow": ", ".join(others)})
        url = self._shown["2"].site_url + path
        return json_response(404, {"message": f"null for uri: {url}", "status-code": 404})

    def _spend(self, method: str, found: Found) -> tuple[bool, Mapping[str, str]]:
        if not self._options.limits:
            return True, {}
        issue = self._site.issue(found.path.get("issueIdOrKey", "")) if method != "GET" else None
        return self._gate.limits.spend(method, found.route.template, issue.id if issue else None)

    # --- the site's own addresses: pages for people, the ledger and the faults for tests

    def _own(self, request: Request, path: str) -> Response:
        if path.startswith("/browse/") and (issue := self._site.issue(unquote(path.removeprefix("/browse/")))):
            return Response(200, pages.ticket(self._site, issue, self._shown["2"]), HTML)
        if path == "/":
            return Response(200, pages.overview(self._site, self._shown["2"]), HTML)
        served: Mapping[tuple[str, str], Callable[[bytes], Response]] = {
            **({("GET", "/_edge/tenant_info"): self._tenant} if self._options.edition == "cloud" else {}),
            ("GET", "/_sim/ledger"): lambda _: json_response(200, self._ledger()),
            ("GET", "/_sim/faults"): lambda _: json_response(200, self.faults.listed()),
            ("POST", "/_sim/faults"): self._add_faults,
            ("DELETE", "/_sim/faults"): lambda _: self._clear_faults(),
            ("POST", "/_sim/clock"): self._advance,
            ("POST", "/_sim/logins"): self._change_logins,
            ("POST", "/_sim/consent"): lambda _: json_response(200, {"refresh_token": self._gate.tokens.consented()}),
            ("POST", "/_sim/move"): self._move,
            ("POST", "/_sim/rename"): self._rename,
            ("POST", "/_sim/browse"): self._browse,
            ("POST", "/_sim/decide"): self._decide,
            ("POST", "/_sim/act"): self._act_as,
            ("GET", "/_sim/issued"): lambda _: json_response(200, self._issued()),
        }
        serve = served.get((request.method, path))
        return serve(request.body) if serve else Response(404, pages.missing(path), HTML)

    def _tenant(self, _: bytes) -> Response:
        return json_response(200, {"cloudId": str(uuid5(NAMESPACE_URL, self._options.instance))})

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
            "planted": self._lively.planted if self._lively else {},
            "faults": self._misbehaved,
        }

    def _add_faults(self, body: bytes) -> Response:
        try:
            self._prepare(self.faults.read(body))
        except ValueError as wrong:
            return json_response(400, {"errorMessages": [str(wrong)], "errors": {}})
        return json_response(201, self.faults.listed())

    def _clear_faults(self) -> Response:
        self.faults.clear()
        return Response(204)

    def _advance(self, body: bytes) -> Response:
        """``{"advance": seconds}`` sets the site's clock forth, so that lags and expiries need no waiting, or back."""
        self.clock.advance(float(orjson.loads(body)["advance"]))
        return json_response(200, {"now": self.clock.millis()})

    def _change_logins(self, body: bytes) -> Response:
        """As ``Gate.change`` has it: what an administrator does with our tokens meanwhile."""
        try:
            self._gate.change(orjson.loads(body))
        except KeyError as unknown:
            return json_response(400, {"errorMessages": [f"nothing called {unknown} can be revoked"], "errors": {}})
        return Response(204)

    def _move(self, body: bytes) -> Response:
        """``{"issue": key, "project": key, "by": person}``: what people do in the browser only."""
        return self._act(body, lambda editing, issue, asked: editing.move(issue, asked["project"]))

    def _rename(self, body: bytes) -> Response:
        """``{"project": key, "key": new key}``: what an administrator does."""
        asked = orjson.loads(body)
        if asked["project"] not in self._site.configuration.projects:
            return json_response(404, {"errorMessages": ["There is no such project."], "errors": {}})
        self._site.record({"do": "rename", "at": self.clock.millis(), "project": asked["project"], "key": asked["key"]})
        return Response(204)

    def _browse(self, body: bytes) -> Response:
        """``{"project": key, "allowed": false}``: the account loses the permission to browse the project."""
        asked = orjson.loads(body)
        event = {"do": "browse", "at": self.clock.millis(), "project": asked["project"], "allowed": asked["allowed"]}
        self._site.record(event)
        return Response(204)

    def _decide(self, body: bytes) -> Response:
        """``{"issue": key, "approval": id, "decision": "approved" or "declined", "by": person}``."""
        return self._act(
            body, lambda editing, issue, asked: editing.decide(issue, asked["approval"], asked["decision"])
        )

    def _act_as(self, body: bytes) -> Response:
        """``{"do": create, edit, transition, comment or delete, "issue"?, "body", "by", "at"?}``: a write as in version
        2 of the interface, by anybody, stamped ``at`` (ms), which may be earlier than now or shared with others.
        """
        asked = orjson.loads(body)
        issue = self._site.issue(asked.get("issue", ""))
        person = self._site.configuration.user(asked["by"])
        if person is None or (issue is None) != (asked["do"] == "create"):
            return json_response(404, {"errorMessages": ["There is no such issue or person."], "errors": {}})
        editing = Editing(self._site, "2", person, asked.get("at", self.clock.millis()))
        events = editing.done(asked["do"], issue, asked.get("body", {}))
        for event in events:
            self._site.record(event)
        number = events[0]["issue"] if events else issue.id if issue else 0
        return json_response(200, {"id": str(number), "events": len(events)})

    def _issued(self) -> Mapping[str, Any]:
        """Every change that was ever accepted, whoever made it: what a reader must know of. Stamps in milliseconds."""
        return {
            "issues": {
                str(issue.id): {
                    "key": issue.key,
                    "type": issue.values["issuetype"],
                    "updated": issue.values["updated"],
                    "histories": {each["id"]: len(each["items"]) for each in issue.histories},
                    "comments": [each["id"] for each in issue.comments],
                    "approvals": [each["id"] for each in issue.approvals],
                }
                for issue in self._site.issues()
            }
        }

    def _act(self, body: bytes, act: Callable[[Editing, Issue, Mapping[str, str]], Sequence[Event]]) -> Response:
        """Let somebody other than the account do something to an issue."""
        asked = orjson.loads(body)
        issue = self._site.issue(asked["issue"])
        person = self._site.configuration.user(asked.get("by", self._options.email))
        if issue is None or person is None:
            return json_response(404, {"errorMessages": ["There is no such issue or person."], "errors": {}})
        for event in act(Editing(self._site, "3", person, self.clock.millis()), issue, asked):
            self._site.record(event)
        moved = self._site.issue(str(issue.id))
        return json_response(200, {"id": str(issue.id), "key": moved.key if moved else issue.key})


def _fault_files(options: Options) -> list[Path]:
    scenario = [ready_made(faults.SCENARIOS, options.scenario)] if options.scenario else []
    return scenario + ([options.faults] if options.faults else [])


def _own_template(path: str) -> str:
    return "/browse/{key}" if path.startswith("/browse/") else path


def _response(handler: Handler, call: Call, headers: Mapping[str, str]) -> Response:
    try:
        answer: Answer = handler(call)
    except Refusal as refusal:
        return json_response(refusal.status, refusal.body, headers)
    if answer.body is None:
        return Response(answer.status, headers=headers)
    body = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
    return Response(answer.status, body, headers=headers)


def _issues_in(response: Response) -> int:
    body = orjson.loads(response.body) if response.body else None
    issues = body.get("issues") if isinstance(body, dict) else None
    return len(issues) if isinstance(issues, list) else 0


def _refused_form(request: Request) -> Response | None:
    """What the vendor's front gate says to writes that look like a browser's or are not JSON."""
    if request.headers.get("x-atlassian-token") != "no-check" and (
        request.headers.get("user-agent", "").startswith("Mozilla") or "origin" in request.headers
    ):
        return Response(403, b"XSRF check failed", HTML)
    form = request.headers.get("content-type", "")
    if request.method in ("POST", "PUT") and not form.startswith("application/json"):
        return json_response(415, {"message": "HTTP 415 Unsupported Media Type", "status-code": 415})
    return None


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "There was an error parsing JSON. Check that your request body is valid.") from None
