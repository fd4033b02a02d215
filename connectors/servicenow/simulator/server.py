"""Sockets: one HTTP/1.1 server that keeps connections open and sends each reply at once.

Owns authentication, headers that every reply has, the ledger's and the faults' own addresses, and a clean stop. What an
address answers is left to :mod:`.table_api`, :mod:`.change_api` and :mod:`.pages`.
"""

import gzip
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread
from time import monotonic, time
from typing import Any, cast

import orjson

from connectors.faults import PLAIN, Asked, Faults, Rule, ready_made, transmission
from connectors.servicenow.simulator import changes, faults, files, people
from connectors.servicenow.simulator.approvals import Approvals
from connectors.servicenow.simulator.change_api import ChangeApi
from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.ledger import Ledger
from connectors.servicenow.simulator.lively import Lively
from connectors.servicenow.simulator.logins import TOKEN_PATH, Logins
from connectors.servicenow.simulator.marks import digest
from connectors.servicenow.simulator.metrics import Metrics
from connectors.servicenow.simulator.options import Options, read_options
from connectors.servicenow.simulator.pages import page
from connectors.servicenow.simulator.slas import ServiceLevels
from connectors.servicenow.simulator.table_api import Reply, Request, TableApi, failure

SERVER = "servicenow-simulator/1"
_LONGEST_URL = 8192
_SMALL = 65536
_TOO_LONG = b"<html><body><h1>Request-URI Too Long</h1></body></html>"


class Clock:
    """The instance's clock, seconds since 1970: the machine's, wrong by ``ahead`` seconds, which a test may add to."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def __call__(self) -> float:
        return time() + self.ahead


@dataclass(slots=True)
class Instance:
    """Everything behind the sockets."""

    desk: Desk
    options: Options
    now: Clock
    stopped: Event
    faults: Faults
    ledger: Ledger = field(default_factory=Ledger)
    api: TableApi = field(init=False)
    changes: ChangeApi = field(init=False)
    logins: Logins = field(init=False)
    _other_api: TableApi = field(init=False)
    """With the other answer to conditions on unknown fields."""
    _other_fault: str = field(init=False)
    """The fault that wants it."""
    _lists: dict[str, Reply] = field(default_factory=dict)
    """The last list that each address showed."""
    _hour: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Start of the hour that is being counted, and its requests."""

    def __post_init__(self) -> None:
        fail_open, ties = self.options.invalid_query == "all_rows", _random(self.options)
        self.api = TableApi(self.desk, self.ledger, fail_open=fail_open, ties=ties)
        self._other_api = TableApi(self.desk, self.ledger, fail_open=not fail_open, ties=ties)
        self._other_fault = "unknown_field_no_rows" if fail_open else "unknown_field_fails_open"
        self.changes = ChangeApi(self.desk, self.api)
        self.logins = Logins(self.options, self.now)

    def answer(self, request: Request) -> tuple[Reply | None, Rule | None]:
        """The reply to a request, ``None`` for none at all, and the fault under which it leaves."""
        if request.path.startswith("/_sim/"):
            return self._own(request), None
        self.ledger.asked(request.method, request.path)
        rules = self.faults.due(Asked(request.method, request.path, request.query, request.body))
        for rule in rules:
            self.ledger.misbehaved(rule.do)
        act = next((rule for rule in rules if rule.do != "delay"), None)
        self._wait(rules, after=False)
        reply = self._served(request) if act is None else self._misbehaved(request, act)
        self._wait(rules, after=True)
        return reply, act

    def _wait(self, rules: Sequence[Rule], *, after: bool) -> None:
        for rule in rules:
            if rule.do == "delay" and rule.after is after:
                self.stopped.wait(rule.given["seconds"])

    def _misbehaved(self, request: Request, act: Rule) -> Reply | None:
        silent = act.do in ("drop_before", "drop_after") or (act.do == "reset" and not act.given["halfway"])
        if silent and not act.has_acted:
            return None
        replaced = faults.instead(act, request, self.now())
        if replaced is not None:
            if act.after:
                self._served(request)
            return replaced
        if act.do == "changing_pages":
            faults.touch(self.desk, request, act.acted)
        before = self._lists.get(request.path)
        reply = faults.spoiled(act, request, self._served(faults.taken(act, request), act), before)
        return None if silent else reply

    def _served(self, request: Request, act: Rule | None = None) -> Reply:
        if len(request.path) + len(request.query) + 1 > _LONGEST_URL:
            return Reply(414, _TOO_LONG, content_type="text/html")
        if request.path == TOKEN_PATH:
            return self.logins.token(request)
        if not request.path.startswith("/api/"):
            shown = page(self.desk, request.path, request.query) if request.method in ("GET", "HEAD") else None
            return shown or failure(400, "Requested URI does not represent any resource", request.path)
        if refused := self.logins.refused(request):
            return refused
        limits = self._limits()
        if "Retry-After" in limits:
            detail = f"Rate limit of {self.options.rate_limit} requests per hour for Table API exceeded"
            return _with(failure(429, "Rate limit exceeded", detail), limits)
        reply = self._answered(request, act)
        if reply.rows is not None:
            self._lists[request.path] = reply
        return _with(reply, {**limits, **_cookies(request)})

    def _answered(self, request: Request, act: Rule | None) -> Reply:
        if request.path.startswith("/api/sn_chg_rest/"):
            return self.changes.answer(request)
        late = faults.late(act, self.now()) if act is not None and act.do == "late_commit" else None
        api = self._other_api if act is not None and act.do == self._other_fault else self.api
        return api.answer(request, late)

    def _limits(self) -> dict[str, str]:
        """Rate headers; with ``Retry-After`` when this request is one too many. Empty without an active rule."""
        allowed = self.options.rate_limit
        if not allowed:
            return {}
        with self.desk.lock:
            now = self.now()
            if now - self._hour[0] >= 3600:
                self._hour[:] = [now - now % 3600, 0.0]
            self._hour[1] += 1
            reset, used = int(self._hour[0] + 3600), self._hour[1]
        headers = {"X-RateLimit-Limit": str(allowed), "X-RateLimit-Reset": str(reset)}
        headers["X-RateLimit-Rule"] = digest("rate-limit-rule")
        return {**headers, "Retry-After": str(max(1, int(reset - now)))} if used > allowed else headers

    def _own(self, request: Request) -> Reply:
        """The simulator's own addresses, which no instance has."""
        match request.method, request.path:
            case "GET", "/_sim/ledger":
                return Reply(200, orjson.dumps(self._books()))
            case "GET", "/_sim/issued":
                return Reply(200, orjson.dumps(people.issued(self.desk, request.query.split(","))))
            case "POST", "/_sim/act":
                return self._act(request.body)
            case "POST", "/_sim/clock":
                self.now.ahead += float(orjson.loads(request.body)["advance"])
                return Reply(200, orjson.dumps({"now": self.now()}))
            case "PATCH", "/_sim/access":
                return self._regulate(request.body)
            case "GET", "/_sim/faults":
                return Reply(200, orjson.dumps(self.faults.listed()))
            case "DELETE", "/_sim/faults":
                self.faults.clear()
                return Reply(204)
            case "POST", "/_sim/faults":
                try:
                    self.faults.read(request.body)
                except ValueError as error:
                    return failure(400, str(error))
                return Reply(201, orjson.dumps(self.faults.listed()))
            case "POST", "/_sim/logins":
                try:
                    self.logins.change(request.body)
                except ValueError as error:
                    return failure(400, str(error))
                return Reply(204)
            case _:
                return failure(404, "The simulator has no such address", request.path)

    def _act(self, body: bytes) -> Reply:
        try:
            return Reply(200, orjson.dumps(people.act(self.desk, orjson.loads(body))))
        except (KeyError, TypeError, ValueError) as error:
            return failure(400, "Nobody can do that", f"{type(error).__name__}: {error}")

    def _regulate(self, body: bytes) -> Reply:
        """What an administrator grants and withdraws while the instance runs."""
        try:
            files.regulate(self.desk, orjson.loads(body))
        except (AttributeError, TypeError, ValueError) as error:
            return failure(400, "Nobody can be granted that", str(error))
        return Reply(204)

    def _books(self) -> dict[str, Any]:
        with self.desk.lock:
            tables = {name: len(table.rows) for name, table in self.desk.tables.items()}
            planted = {kind: list(numbers) for kind, numbers in self.desk.planted.items()}
        return {**self.ledger.books(), "tables": tables, "planted": planted}


def _random(options: Options) -> Random:
    return Random(options.seed)  # noqa: S311 - a made-up desk, not a secret


def _with(reply: Reply, headers: Mapping[str, str]) -> Reply:
    return replace(reply, headers={**reply.headers, **headers})


def _cookies(request: Request) -> dict[str, str]:
    """A session for a client that brought none."""
    if "JSESSIONID" in request.headers.get("cookie", ""):
        return {}
    return {"Set-Cookie": f"JSESSIONID={digest(str(id(request))).upper()}; Path=/; HttpOnly"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def version_string(self) -> str:
        return SERVER

    def date_time_string(self, timestamp: float | None = None) -> str:
        instance = self.server.instance
        return formatdate((timestamp or instance.now()) + instance.options.date_offset, usegmt=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the ledger is the log."""

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def handle(self) -> None:
        # in the thread of this connection, so that a handshake holds up no other
        if not isinstance(self.connection, ssl.SSLSocket) or _shakes_hands(self.connection):
            super().handle()

    def finish(self) -> None:
        self.server.closed(self.connection)
        super().finish()

    def _serve(self) -> None:
        reply, act = self.server.instance.answer(self._request())
        if reply is None:
            self._hang_up("reset" if act is not None and act.do == "reset" else "close")
            return
        self.server.instance.ledger.answered(reply.status)
        self._send(reply, act)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _request(self) -> Request:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = headers.get("content-length", "0")
        body = self._chunks() if "chunked" in headers.get("transfer-encoding", "") else self.rfile.read(int(length))
        method = headers.get("x-http-method-override", self.command).upper()
        base = f"{self.server.scheme}://{headers.get('host', self.server.address)}"
        certified = isinstance(self.connection, ssl.SSLSocket) and bool(self.connection.getpeercert())
        return Request(method, path, query, headers, body, base, certified)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, reply: Reply, act: Rule | None) -> None:
        """Head and body in one send where no fault wants it otherwise, so that no delayed acknowledgement stalls it."""
        body = reply.body if act is not None and act.do in PLAIN else self._packed(reply.body)
        shown = b"" if self.command == "HEAD" else body
        status = f"{reply.status} {responses.get(reply.status, '')}"
        sending = transmission(act, status, self._headers(reply, body), shown)
        for part in sending.parts:
            self.wfile.write(part)
            if sending.pause and self.server.instance.stopped.wait(sending.pause):
                break
        if sending.end != "keep":
            self._hang_up(sending.end)

    def _hang_up(self, end: str) -> None:
        self.close_connection = True
        if end == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.to_reset(self.connection)

    def _headers(self, reply: Reply, body: bytes) -> dict[str, str]:
        date = self.date_time_string(self.server.instance.now() + reply.date_offset)
        headers = {"Server": SERVER, "Date": date}
        if reply.body:
            headers["Content-Type"] = reply.content_type
        if body is not reply.body:
            headers["Content-Encoding"] = "gzip"
        if reply.status != 204:
            headers["Content-Length"] = str(len(body))
        if self.close_connection:
            headers["Connection"] = "close"
        return {**headers, **reply.headers}

    def _packed(self, body: bytes) -> bytes:
        mode = self.server.instance.options.gzip
        fits = mode == "always" or (mode == "small" and 1024 <= len(body) <= _SMALL)
        asked = "gzip" in self.headers.get("Accept-Encoding", "")
        return gzip.compress(body, 1) if body and fits and asked else body


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that a stop does not wait for idle clients."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], instance: Instance) -> None:
        super().__init__(address, _Handler)
        self.instance = instance
        tls = _tls(instance.options)
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._guard = Lock()
        self._open: set[socket.socket] = set()
        self._resetting: set[socket.socket] = set()

    @property
    def address(self) -> str:
        host, port = cast(tuple[str, int], self.server_address)[:2]
        return f"{host}:{port}"

    def opened(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.add(connection)
            if self.instance.stopped.is_set():
                _hang_up(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.discard(connection)

    def to_reset(self, connection: socket.socket) -> None:
        """End this connection with a reset in place of a farewell."""
        with self._guard:
            self._resetting.add(connection)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            resets = request in self._resetting
            self._resetting.discard(request)
        if resets:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def hang_up(self) -> None:
        with self._guard:
            for connection in self._open:
                _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is a defect of the simulator and is shown."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


def _tls(options: Options) -> ssl.SSLContext | None:
    """``None`` for an instance without TLS. Clients need no certificate, but one that they show has to be known."""
    if not options.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.tls)
    if options.tls_clients:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(options.tls_clients)
    return context


def _shakes_hands(connection: ssl.SSLSocket) -> bool:
    try:
        connection.do_handshake()
    except ssl.SSLError:
        # The client may have sent its request already. If that were left unread, a reset would overtake the alert.
        connection.settimeout(1.0)
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_WR)
            while socket.socket.recv(connection, _SMALL):
                pass
        return False
    return True


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class Simulator:
    """A running simulator. Ends with :meth:`stop`, which is safe to call twice."""

    def __init__(self, server: _Server, lively: Lively | None) -> None:
        self.url = f"{server.scheme}://{server.address}"
        self._server = server
        self._stopped = server.instance.stopped
        self._threads = [
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="servicenow-simulator")
        ]
        if lively is not None and server.instance.options.live:
            arguments = (self._stopped, server.instance.options.tempo)
            self._threads.append(Thread(target=lively.run, args=arguments, name="servicenow-desk"))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close every connection and join every thread."""
        self._stopped.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def wait(self) -> None:
        """Return when the simulator has been stopped."""
        self._threads[0].join()


def _desk(options: Options, now: Callable[[], float]) -> Desk:
    """An empty instance with the engines that every instance has."""
    levels = ServiceLevels()
    metrics = Metrics(options.metric_fields.split(","), options.metric_lag, options.metrics_since)
    desk = Desk(
        clock=now,
        account=options.user,
        data_policy=options.data_policy,
        user_offset=options.user_offset,
        instance=options.instance,
        plugins=[name for name in options.plugins.split(",") if name],
        reactions=(
            changes.follow,
            Approvals().follow,
            levels.follow,
            *([metrics.follow] if options.metrics else []),
        ),
        timers=(levels.tick, metrics.tick),
    )
    if options.metrics:
        metrics.define(desk)
    return desk


def _fault_files(options: Options) -> list[Path]:
    scenario = [ready_made(faults.SCENARIOS, options.scenario)] if options.scenario else []
    return scenario + ([Path(options.faults)] if options.faults else [])


def _lively(desk: Desk, options: Options) -> Lively:
    others = Random(f"{options.seed} others")  # noqa: S311 - a made-up desk, not a secret
    return Lively(desk, _random(options), others, options.days, options.per_day)


def serve(
    *,
    data: Sequence[Path] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    options: Mapping[str, str] | None = None,
) -> Simulator:
    """Start a simulator with the rows of ``data``; port 0 takes a free one.

    ``options`` are those of :class:`~.options.Options`, as text. Raises ``ValueError`` for a wrong option or file and
    ``OSError`` where a file cannot be read or the port cannot be taken.
    """
    chosen = read_options(options or {})
    now = Clock(chosen.clock_offset)
    desk = _desk(chosen, now)
    for path in data:
        files.load(desk, Path(path))
    lively = _lively(desk, chosen) if chosen.desk == "lively" else None
    desk.furnish()
    rules = Faults(faults.KINDS, chosen.seed, monotonic)
    for path in _fault_files(chosen):
        rules.load(path)
    instance = Instance(desk, chosen, now, Event(), rules)
    return Simulator(_Server((host, port), instance), lively)
