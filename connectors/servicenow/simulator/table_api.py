"""The Table API: a request in, a reply out, no sockets.

Owns parameters, headers, status codes and error bodies as the product has them. Finding is left to :mod:`.search`,
the effect of writes to :mod:`.desk`, the look of values to :mod:`.shapes`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode

import orjson

from connectors.servicenow.simulator.desk import Desk, RefusedError
from connectors.servicenow.simulator.dictionary import reference_of, type_of
from connectors.servicenow.simulator.ledger import Ledger
from connectors.servicenow.simulator.query import Condition, Query, UnservedError, parse
from connectors.servicenow.simulator.search import Asker, Late, Search
from connectors.servicenow.simulator.shapes import Shape, raw, render
from connectors.servicenow.simulator.tables import Row, Table

JSON = "application/json;charset=UTF-8"
PATH = re.compile(r"/api/now(?:/(v1|v2))?/table/([^/]+)(?:/([^/]+))?/?")
_NOT_FOUND = ("No Record found", "Record doesn't exist or ACL restricts the record retrieval")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: str
    """As it stands in the URL, still encoded."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    base: str
    certified: bool = False
    """Whether the client has shown a certificate that was accepted."""

    def parameters(self) -> list[tuple[str, str]]:
        """Decoded pairs; only the first equals sign parts name and value."""
        parts = (part.partition("=") for part in self.query.split("&") if part)
        return [(unquote_plus(name), unquote_plus(value)) for name, _, value in parts]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    rows: list[dict[str, Any]] | None = None
    """The rows of a list, for a fault that shows half of them."""
    date_offset: float = 0.0
    """Seconds by which the header ``Date`` is wrong."""


def failure(status: int, message: str, detail: str | None = None, **headers: str) -> Reply:
    """The error envelope."""
    body = {"error": {"message": message, "detail": detail}, "status": "failure"}
    return Reply(status, orjson.dumps(body), {name.replace("_", "-"): value for name, value in headers.items()})


class TableApi:
    """Answers requests below ``/api/now/table``. ``ties`` decides the order of rows that a query leaves open."""

    def __init__(self, desk: Desk, ledger: Ledger, *, fail_open: bool, ties: Random) -> None:
        self._desk = desk
        self._ledger = ledger
        self._asker = Asker(fail_open, ties)

    def answer(self, request: Request, late: Late | None = None) -> Reply:
        """Serve an authenticated request; rows that are ``late`` are not found."""
        match = PATH.fullmatch(request.path)
        if match is None:
            return failure(400, "Requested URI does not represent any resource", request.path)
        version, name, sys_id = match.groups()
        refused = _negotiate(request)
        if refused:
            return refused
        with self._desk.lock:
            self._desk.tick()
            table = self._desk.table(name)
            if table is None:
                return failure(400, f"Invalid table {name}")
            try:
                return self._dispatch(request, table, version, sys_id, late)
            except RefusedError as refusal:
                return failure(403, refusal.message, refusal.detail)
            except UnservedError as word:
                return failure(400, "This simulator does not serve that part of the query language", str(word))

    def _dispatch(
        self, request: Request, table: Table, version: str | None, sys_id: str | None, late: Late | None
    ) -> Reply:
        if table.name in self._desk.access.deny_tables:
            raise RefusedError("User Not Authorized", "Failed API level ACL Validation")
        params = dict(request.parameters())
        match request.method, sys_id:
            case "GET" | "HEAD", None:
                return self._list(request, table, params, version, late)
            case "GET" | "HEAD", str():
                return self._one(table, sys_id, params, request.base)
            case "POST", None:
                return self._insert(request, table, params)
            case "PATCH" | "PUT", str():
                return self._update(request, table, sys_id, params)
            case "DELETE", str():
                return self._delete(table, sys_id)
            case _:
                return failure(405, "Method not supported", f"{request.method} not supported")

    # --- reading -------------------------------------------------------------------------------------------------

    def _list(
        self, request: Request, table: Table, params: Mapping[str, str], version: str | None, late: Late | None
    ) -> Reply:
        limit, offset = _whole(params.get("sysparm_limit"), 10000), _whole(params.get("sysparm_offset"), 0)
        if limit is None or offset is None:
            return failure(400, "Pagination not supported", "sysparm_limit and sysparm_offset are whole numbers")
        search = Search(self._desk, table, self._query(table, params), replace(self._asker, late=late))
        counts = not _flag(params, "sysparm_no_count")
        page = search.page(offset, limit + 1)
        total = search.count() if counts else None
        more = len(page) > limit
        rows = self._visible(table, page[:limit])
        shown = render(self._desk, table, rows, _fields(params), _shape(params, request.base))
        self._ledger.served(table.name, len(shown))
        if version == "v1" and not shown:
            return failure(404, *_NOT_FOUND)
        headers = {} if total is None else {"X-Total-Count": str(total)}
        links = _links(request, offset, limit, total, more)
        if links and not _flag(params, "sysparm_suppress_pagination_header"):
            headers["Link"] = links
        return Reply(200, orjson.dumps({"result": shown}), headers, rows=shown)

    def _query(self, table: Table, params: Mapping[str, str]) -> Query:
        if "sysparm_query" in params:
            return parse(params["sysparm_query"])
        plain = {name: value for name, value in params.items() if name in table.index}
        clauses = tuple((Condition(name, "=", self._undisplayed(table, name, v)),) for name, v in plain.items())
        return Query((clauses,), ())

    def _undisplayed(self, table: Table, name: str, value: str) -> str:
        """Raw value of a displayed one, which plain parameters and ``sysparm_input_display_value`` accept."""
        if type_of(table.name, name) == "glide_date_time":
            return raw(value, self._desk.user_offset)
        target = reference_of(table.name, name)
        if target and not self._desk.find(target, value):
            owner = self._desk.table(target)
            ids = owner.rows if owner else ()
            return next((sys_id for sys_id in ids if self._desk.display(target, sys_id) == value), value)
        labels = self._desk.choices(table.name, name)
        return next((code for code, label in labels.items() if label.casefold() == value.casefold()), value)

    def _visible(self, table: Table, rows: list[Row]) -> list[Row]:
        """Row rules are evaluated after the limit: a page may be short or empty although more rows follow."""
        access = self._desk.access
        if table.name not in access.hide_rows:
            return rows
        return [row for row in rows if not access.hides(table.name, table.get(row, "sys_id"))]

    def _one(self, table: Table, sys_id: str, params: Mapping[str, str], base: str) -> Reply:
        row = None if self._desk.access.hides(table.name, sys_id) else table.rows.get(sys_id)
        if row is None:
            return failure(404, *_NOT_FOUND)
        self._ledger.served(table.name, 1)
        return self._record(table, row, params, base, 200)

    def _record(self, table: Table, row: Row, params: Mapping[str, str], base: str, status: int) -> Reply:
        (shown,) = render(self._desk, table, [row], _fields(params), _shape(params, base))
        return Reply(status, orjson.dumps({"result": shown}))

    # --- writing -------------------------------------------------------------------------------------------------

    def _insert(self, request: Request, table: Table, params: Mapping[str, str]) -> Reply:
        sent = self._sent(request, table, params)
        if isinstance(sent, Reply):
            return sent
        self._allow(table, "insert")
        desk = self._desk
        table = desk.tables[table.name]
        row = desk.insert(table, desk.accept(table, None, sent), desk.account, desk.clock())
        self._ledger.inserted(table.name, table.get(row, "correlation_id"))
        return self._written(request, table, row, params, 201)

    def _update(self, request: Request, table: Table, sys_id: str, params: Mapping[str, str]) -> Reply:
        sent = self._sent(request, table, params)
        if isinstance(sent, Reply):
            return sent
        found = self._stored(table, sys_id)
        if found is None:
            return failure(404, *_NOT_FOUND)
        table, row = found
        self._allow(table, "update")
        desk = self._desk
        desk.save(table, row, desk.accept(table, row, sent), desk.account, desk.clock())
        self._ledger.updated(table.name)
        return self._written(request, table, row, params, 200)

    def _written(self, request: Request, table: Table, row: Row, params: Mapping[str, str], status: int) -> Reply:
        reply = self._record(table, row, params, request.base, status)
        silent = request.headers.get("x-no-response-body", "").lower() == "true"
        place = f"{request.base}/api/now/table/{table.name}/{table.get(row, 'sys_id')}"
        return Reply(status, b"" if silent else reply.body, {"Location": place} if status == 201 else {})

    def _delete(self, table: Table, sys_id: str) -> Reply:
        found = self._stored(table, sys_id)
        if found is None:
            return failure(404, *_NOT_FOUND)
        table, row = found
        self._allow(table, "delete")
        self._desk.delete(table, row, self._desk.account, self._desk.clock())
        self._ledger.deleted(table.name)
        return Reply(204)

    def _stored(self, table: Table, sys_id: str) -> tuple[Table, Row] | None:
        """The row to write to, in the table of its class."""
        found = self._desk.find(table.name, sys_id)
        return None if found is None or self._desk.access.hides(found[0].name, sys_id) else found

    def _allow(self, table: Table, act: str) -> None:
        if act in self._desk.access.deny_writes.get(table.name, ()):
            detail = f"ACL Exception {act.capitalize()} Failed due to security constraints"
            raise RefusedError("Operation Failed", detail)

    def _sent(self, request: Request, table: Table, params: Mapping[str, str]) -> dict[str, str] | Reply:
        """The fields of a write as raw text, or the reply that refuses the body."""
        try:
            body = orjson.loads(request.body or b"{}")
        except orjson.JSONDecodeError as error:
            return failure(400, "Exception while reading request", str(error))
        if not isinstance(body, dict):
            return failure(400, "Exception while reading request", "The payload is not a JSON object")
        sent = {name: as_text(value) for name, value in body.items()}
        if _flag(params, "sysparm_input_display_value"):
            return {name: self._undisplayed(table, name, value) for name, value in sent.items() if value}
        return sent


def as_text(value: Any) -> str:
    """A native value as the instance stores it: always a string, a reference by its id."""
    if isinstance(value, dict):
        return as_text(value.get("value"))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    return "" if value is None else str(value)


def _negotiate(request: Request) -> Reply | None:
    """The refusals that come before the table is looked at; this simulator speaks JSON only."""
    accept = request.headers.get("accept")
    if accept is None:
        return failure(400, "Accept header is required")
    if not any(word in accept for word in ("application/json", "*/*", "application/*")):
        return failure(406, "Requested response format is not supported", accept)
    if request.method not in ("POST", "PUT", "PATCH"):
        return None
    kind = request.headers.get("content-type")
    if kind is None:
        return failure(400, "Content-Type header is required")
    return None if "json" in kind else failure(415, "Unsupported media type", kind)


def _flag(params: Mapping[str, str], name: str) -> bool:
    return params.get(name, "").lower() == "true"


def _whole(text: str | None, default: int) -> int | None:
    if text is None or text == "":
        return default
    return int(text) if text.isdecimal() else None


def _fields(params: Mapping[str, str]) -> list[str] | None:
    names = [name.strip() for name in params.get("sysparm_fields", "").split(",")]
    return [name for name in names if name] or None


def _shape(params: Mapping[str, str], base: str) -> Shape:
    display = params.get("sysparm_display_value", "false").lower()
    known = display if display in ("true", "all") else "false"
    return Shape(known, not _flag(params, "sysparm_exclude_reference_link"), base)


def _links(request: Request, offset: int, limit: int, total: int | None, more: bool) -> str:
    """The ``Link`` header; ``last`` needs the count, and a single page has no header at all."""
    if limit == 0 or (offset == 0 and not more):
        return ""
    places = {"first": 0}
    if more:
        places["next"] = offset + limit
    if offset:
        places["prev"] = max(0, offset - limit)
    if total:
        places["last"] = (total - 1) // limit * limit
    echoed = [(n, v) for n, v in request.parameters() if n not in ("sysparm_limit", "sysparm_offset")]
    return ",".join(f'<{_address(request, echoed, limit, place)}>;rel="{name}"' for name, place in places.items())


def _address(request: Request, echoed: list[tuple[str, str]], limit: int, place: int) -> str:
    pairs = [*echoed, ("sysparm_limit", str(limit)), ("sysparm_offset", str(place))]
    return f"{request.base}{request.path}?{urlencode(pairs, quote_via=quote)}"
