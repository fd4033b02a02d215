"""Owns the wire: HTTP/1.1 with keep-alive on one thread, one send per response, and carrying out faults.

What an answer says is ``application``'s. Plain asyncio, because no framework lets us close a connection at will.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from connectors.faults import Rule, Transmission, transmission
from connectors.jira.simulator.application import Application
from connectors.jira.simulator.messages import Request, Response
from connectors.jira.simulator.options import read_options

_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 10 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Simulator:
    """A running site. ``url`` is where it is found, with its context path; ``stop`` may be called twice."""

    def __init__(self, application: Application, listener: socket.socket, context: str) -> None:
        self.url = _url(listener) + context
        self._application = application
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(listener,), name="jira-simulator", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and wait for the thread to end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def wait(self) -> None:
        """Block until somebody stops it."""
        self._thread.join()

    def _run(self, listener: socket.socket) -> None:
        try:
            self._loop.run_until_complete(self._serve(listener))
        finally:
            self._loop.close()
            self._application.close()

    async def _serve(self, listener: socket.socket) -> None:
        connections: set[_Connection] = set()
        server = await self._loop.create_server(
            lambda: _Connection(self._application, self._loop, connections), sock=listener
        )
        await self._stopping.wait()
        server.close()
        for connection in tuple(connections):
            connection.drop()
        await server.wait_closed()
        await asyncio.sleep(0)  # transports report their end in the next round of the loop


def serve(
    *,
    data: Sequence[Path] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    options: Mapping[str, str] | None = None,
) -> Simulator:
    """Start a site and return when it answers.

    ``data`` are YAML or JSON files with projects and issues (``capa.yaml`` shows the form). ``ValueError`` for wrong
    options or data, ``OSError`` when the address is taken.
    """
    chosen = read_options(options or {})
    listener = socket.create_server((host, port))
    try:
        application = Application(data, chosen, _url(listener))
    except BaseException:
        listener.close()
        raise
    return Simulator(application, listener, chosen.context)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


class _Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, the next one when the former is answered."""

    def __init__(
        self, application: Application, loop: asyncio.AbstractEventLoop, connections: "set[_Connection]"
    ) -> None:
        self._application = application
        self._loop = loop
        self._connections = connections
        self._received = bytearray()
        self._waiting = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._serve()

    def drop(self) -> None:
        if self._transport:
            self._transport.close()

    def _serve(self) -> None:
        while self._transport and not self._transport.is_closing() and not self._waiting:
            request = self._take()
            if request is None:
                return
            self._application.count(request)
            rules = self._application.due(request)
            waits = [sum(rule.given["seconds"] for rule in rules if _is_delay(rule, after)) for after in (False, True)]
            act = next((rule for rule in rules if rule.do != "delay"), None)
            if any(waits):
                self._late(request, act, *waits)
            else:
                self._send(self._answered(request, act), act, request)

    def _answered(self, request: Request, act: Rule | None) -> Response | None:
        return self._application.answer(request) if act is None else self._application.misbehave(request, act)

    def _late(self, request: Request, act: Rule | None, before: float, after: float) -> None:
        """Serve and answer after a while each."""

        def serve() -> None:
            response = self._answered(request, act)
            self._later(after, lambda: self._send(response, act, request))

        self._later(before, serve)

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        """Let the client wait; what it sends meanwhile is served afterwards."""
        self._waiting = True

        def resume() -> None:
            self._waiting = False
            if self._transport:
                then()
                self._serve()

        self._loop.call_later(seconds, resume)

    def _take(self) -> Request | None:
        """The next complete request, taken out of what was received."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > _HEAD_LIMIT:
                self._reject(431)
            return None
        try:
            method, target, headers = _head(bytes(self._received[:end]))
            size = int(headers.get("content-length", "0"))
        except ValueError:
            self._reject(400)
            return None
        if size > _BODY_LIMIT or "transfer-encoding" in headers:
            self._reject(413 if size > _BODY_LIMIT else 411)
            return None
        stop = end + 4 + size
        if len(self._received) < stop:
            return None
        body = bytes(self._received[end + 4 : stop])
        del self._received[:stop]
        return Request(method, target, headers, body)

    def _reject(self, status: int) -> None:
        response = Response(status)
        for part in transmission(None, *self._told(response), response.body).parts:
            self._write(part)
        self.drop()

    def _send(self, response: Response | None, act: Rule | None, request: Request) -> None:
        if response is None:
            self._end("reset" if act and act.do == "reset" else "close")
            return
        sending = transmission(act, *self._told(response), response.body)
        if sending.pause:
            self._drip(sending, request)
            return
        for part in sending.parts:
            self._write(part)
        self._end(sending.end, request)

    def _drip(self, sending: Transmission, request: Request) -> None:
        part = next(sending.parts, None)
        if part is None:
            self._end(sending.end, request)
        else:
            self._write(part)
            self._later(sending.pause, lambda: self._drip(sending, request))

    def _end(self, end: str, request: Request | None = None) -> None:
        if end == "reset" and self._transport:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        elif end == "close" or (request and request.headers.get("connection", "").casefold() == "close"):
            self.drop()

    def _write(self, encoded: bytes) -> None:
        if self._transport:
            self._transport.write(encoded)

    def _told(self, response: Response) -> tuple[str, Mapping[str, str]]:
        """Status and headers."""
        ahead = self._application.dated_ahead + response.date_offset
        headers = {
            "Server": "jira-simulator/1",
            "Date": formatdate(self._application.clock.millis() / 1000 + ahead, usegmt=True),
            **response.headers,
        }
        if response.status != 204:
            headers |= {"Content-Type": response.content_type, "Content-Length": str(len(response.body))}
        return f"{response.status} {_REASONS.get(response.status, '')}", headers


def _is_delay(rule: Rule, after: bool) -> bool:
    return rule.do == "delay" and rule.after is after


def _head(head: bytes) -> tuple[str, str, Mapping[str, str]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in rest)
    return method, target, {name.strip().casefold(): value.strip() for name, _, value in pairs}
