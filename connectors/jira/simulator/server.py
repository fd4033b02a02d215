"""Owns the wire: HTTP/1.1 with keep-alive on one thread, one send per response, and carrying out faults.

What an answer says is ``application``'s. Plain asyncio, because no framework lets us close a connection at will.
"""

import asyncio
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from connectors.jira.simulator.application import Application
from connectors.jira.simulator.faults import REWRITES, Fault, rewritten
from connectors.jira.simulator.messages import HTML, Request, Response
from connectors.jira.simulator.options import read_options

_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 10 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Log in</title></head><body><h1>Log in to continue</h1></body></html>"


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
            fault = self._application.fault(request)
            if fault is None:
                self._send(self._application.answer(request), request)
            else:
                self._misbehave(fault, request)

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
        self._write(self._encoded(Response(status)))
        self.drop()

    def _misbehave(self, fault: Fault, request: Request) -> None:
        if fault.do == "status":
            body = b'{"errorMessages":["Simulated fault."],"errors":{}}'
            self._send(Response(fault.status, body, headers=fault.headers), request)
        elif fault.do == "html_200":
            self._send(Response(200, _LOGIN_PAGE, HTML, fault.headers), request)
        elif fault.do == "drop_before":
            self.drop()
        elif fault.do == "delay_before":
            self._later(fault.seconds, request, None)
        elif fault.do in REWRITES:
            self._send(self._falsified(fault, request), request)
        else:
            self._spoil(fault, request, self._application.answer(request))

    def _falsified(self, fault: Fault, request: Request) -> Response:
        response = self._application.answer(request)
        if response.status != 200:
            return response
        return replace(response, body=rewritten(fault, request.target, request.body, response.body))

    def _spoil(self, fault: Fault, request: Request, response: Response) -> None:
        """The site has acted; its answer comes late, cut or not at all."""
        if fault.do == "delay_after":
            self._later(fault.seconds, request, response)
            return
        if fault.do == "truncate":
            encoded = self._encoded(response)
            self._write(encoded[: len(encoded) - (len(response.body) + 1) // 2])
        self.drop()

    def _later(self, seconds: float, request: Request, response: Response | None) -> None:
        self._waiting = True

        def resume() -> None:
            self._waiting = False
            if self._transport:
                self._send(response or self._application.answer(request), request)
                self._serve()

        self._loop.call_later(seconds, resume)

    def _send(self, response: Response, request: Request) -> None:
        self._write(self._encoded(response))
        if request.headers.get("connection", "").casefold() == "close":
            self.drop()

    def _write(self, encoded: bytes) -> None:
        if self._transport:
            self._transport.write(encoded)

    def _encoded(self, response: Response) -> bytes:
        seconds = self._application.clock.millis() / 1000
        lines = [
            f"HTTP/1.1 {response.status} {_REASONS.get(response.status, '')}",
            "Server: jira-simulator/1",
            f"Date: {formatdate(seconds, usegmt=True)}",
            *(f"{name}: {value}" for name, value in response.headers.items()),
        ]
        if response.status != 204:
            lines += [f"Content-Type: {response.content_type}", f"Content-Length: {len(response.body)}"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + response.body


def _head(head: bytes) -> tuple[str, str, Mapping[str, str]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in rest)
    return method, target, {name.strip().casefold(): value.strip() for name, _, value in pairs}
