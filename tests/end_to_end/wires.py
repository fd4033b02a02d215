"""What stands between the program and a simulator: a front, with TLS if wanted, and a proxy.

Owns connections: passing bytes on, and holding, losing or cutting them at a named request. What is said over them is
the business of the two ends. A front acts on requests whatever the product behind it, and what it holds still arrives
there after the program is dead, as on a real way.
"""

import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import pytest

_PIECE = 2**16
_HEAD_END = b"\r\n\r\n"
_LOGIN = b"\r\nauthorization: "

Act = Literal["hold_request", "lose_request", "hold_answer", "lose_answer", "cut_answer", "stall_answer"]
"""A request that is lost never arrives. An answer that is cut or stalls has half of its first piece delivered."""


@dataclass
class Rule:
    """What becomes of the first request, from the ``nth`` on, whose first bytes are ``start``."""

    start: bytes
    do: Act
    seconds: float = 0.0
    nth: int = 1
    seen: int = 0

    @property
    def struck(self) -> bool:
        return self.seen >= self.nth

    def strikes(self, data: bytes) -> bool:
        if not data.startswith(self.start):
            return False
        self.seen += 1
        return self.seen == self.nth


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], way: "_Way") -> None:
        super().__init__(address, _Handler)
        self.way = way

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An end that goes away is what these tests are about; anything else is a defect and is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.way.serve(self.request)


class _Way:
    """A listener on loopback; each connection has a thread of its own."""

    def __init__(self) -> None:
        self._address = ("127.0.0.1", 0)
        self.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Listen, after a ``close`` at the same address as before."""
        self._closed = threading.Event()
        self._server = _Server(self._address, self)
        self._address = ("127.0.0.1", self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Refuse connections and end those that are open."""
        if not self._closed.is_set():
            self._closed.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    @property
    def port(self) -> int:
        return self._address[1]

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def _pass_on(self, client: socket.socket, upstream: socket.socket) -> None:
        """Both ways by one thread: two at once on one TLS connection are not allowed."""
        while not self._closed.is_set():
            for source in self._readable(client, upstream):
                data = source.recv(_PIECE)
                if source is client:
                    if not data:
                        self._hang_up(upstream)
                        return
                    self._asked(data, upstream)
                elif not data or not self._answered(data, client):
                    return

    def _readable(self, *ends: socket.socket) -> list[socket.socket]:
        decoded = [end for end in ends if isinstance(end, ssl.SSLSocket) and end.pending()]
        return decoded or select.select(ends, [], [], 0.05)[0]

    def _hang_up(self, upstream: socket.socket) -> None:
        """The client is gone; what it has sent may still be served."""
        upstream.shutdown(socket.SHUT_WR)
        while not self._closed.is_set() and (not self._readable(upstream) or upstream.recv(_PIECE)):
            pass

    def _asked(self, data: bytes, upstream: socket.socket) -> None:
        upstream.sendall(data)

    def _answered(self, data: bytes, client: socket.socket) -> bool:
        """Whether the connection goes on."""
        client.sendall(data)
        return True


class Front(_Way):
    """The address of a simulator as the program knows it. ``url`` has the scheme and the context path."""

    def __init__(self, upstream: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._tls = tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}{parts.path}"
        self.logins: Counter[str] = Counter()
        """Requests by their header Authorization."""
        self._rules: list[Rule] = []
        self._due = threading.local()
        """The rule that the answer on this connection is waiting for."""

    def rule(self, start: str, do: Act, seconds: float = 0.0, nth: int = 1) -> Rule:
        made = Rule(start.encode(), do, seconds, nth)
        self._rules.append(made)
        return made

    def struck(self, *acts: Act) -> bool:
        """Whether every rule, or each that does one of these acts, has met its request."""
        return all(rule.struck for rule in self._rules if not acts or rule.do in acts)

    def serve(self, client: socket.socket) -> None:
        end = self._tls.wrap_socket(client, server_side=True) if self._tls else client
        with end, socket.create_connection(self._upstream) as upstream:
            self._due.rule = None
            with suppress(_LostError):
                self._pass_on(end, upstream)

    def _asked(self, data: bytes, upstream: socket.socket) -> None:
        self._note_login(data)
        rule = next((rule for rule in self._rules if rule.strikes(data)), None)
        if rule is not None and rule.do == "lose_request":
            raise _LostError
        if rule is not None and rule.do == "hold_request":
            self._closed.wait(rule.seconds)
        elif rule is not None:
            self._due.rule = rule
        upstream.sendall(data)

    def _answered(self, data: bytes, client: socket.socket) -> bool:
        rule, self._due.rule = self._due.rule, None
        if rule is None:
            return super()._answered(data, client)
        if rule.do == "lose_answer":
            return False
        half = 0 if rule.do == "hold_answer" else len(data) // 2
        client.sendall(data[:half])
        if rule.do == "cut_answer":
            return False
        self._closed.wait(rule.seconds)
        return super()._answered(data[half:], client)

    def _note_login(self, data: bytes) -> None:
        head = data.partition(_HEAD_END)[0]
        at = head.lower().find(_LOGIN)
        if at >= 0:
            self.logins[head[at + len(_LOGIN) :].partition(b"\r\n")[0].decode()] += 1


class Proxy(_Way):
    """A proxy that makes tunnels. ``tunnels`` counts them by host and port."""

    def __init__(self) -> None:
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"
        self.tunnels: Counter[str] = Counter()

    def serve(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(_HEAD_END):
            piece = client.recv(_PIECE)
            if not piece:
                return
            head += piece
        verb, target = head.decode("latin-1").split()[:2]
        if verb != "CONNECT":
            client.sendall(b"HTTP/1.1 405 Tunnels only\r\nContent-Length: 0\r\n\r\n")
            return
        self.tunnels[target] += 1
        host, _, port = target.rpartition(":")
        try:
            upstream = socket.create_connection((host, int(port)))
        except OSError:
            client.sendall(b"HTTP/1.1 502 Nobody there\r\nContent-Length: 0\r\n\r\n")
            return
        with upstream:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._pass_on(client, upstream)


class _LostError(Exception):
    """The connection is to be closed without passing the request on."""


@dataclass(frozen=True)
class Certificate:
    """Signed by itself, so it is its own bundle."""

    path: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


def certificate(folder: Path, name: str) -> Certificate:
    """For 127.0.0.1. Skips the test where there is no command to make one with."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    path = folder / f"{name}.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -addext"
    names = ("subjectAltName=IP:127.0.0.1", "-subj", f"/CN={name}", "-keyout", str(path), "-out", "-")
    made = subprocess.run([*make.split(), *names], capture_output=True, check=True, timeout=60)
    path.write_bytes(path.read_bytes() + made.stdout)
    return Certificate(path)
