"""Bounds, budget and retries against raw servers on loopback that misbehave in every way we have met or read of."""

import gc
import gzip
import itertools
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import jira
import orjson
import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from itsms_sync import __version__
from itsms_sync.connector import Refused, Unavailable
from itsms_sync.http import (
    Http,
    Limits,
    Stop,
    Stopped,
    Transport,
    answer,
    failure,
    http_date_millis,
    retry_after,
    spare,
)

SECRET = "hunter2-token"
DESCRIPTORS = Path("/dev/fd")
JSON = b'{"result":[{"sys_id":"1"}]}'
OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: "
    + str(len(JSON)).encode()
    + b"\r\n\r\n"
    + JSON
)


@dataclass
class Wire:
    """A server that answers its n-th request as the n-th behaviour says; the last one repeats."""

    behaviours: list[Callable[["Wire", socket.socket], None]]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    threads: list[threading.Thread] = field(default_factory=list)
    open: list[socket.socket] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def verbs(self) -> list[str]:
        return [request.split(b" ", 1)[0].decode() for request in self.requests]

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                self.open.append(connection)
                thread = threading.Thread(target=self.serve, args=(connection,))
                self.threads.append(thread)
                thread.start()

    def serve(self, connection: socket.socket) -> None:
        with suppress(OSError), self.tls.wrap_socket(connection, server_side=True) if self.tls else connection as peer:
            while request := read_request(peer):
                self.requests.append(request)
                self.arrived.set()
                self.behaviours[min(len(self.requests), len(self.behaviours)) - 1](self, peer)


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def serving(*behaviours: Callable[[Wire, socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[Wire]:
    wire = Wire(list(behaviours), tls=tls)
    acceptor = threading.Thread(target=wire.accept)
    acceptor.start()
    try:
        yield wire
    finally:
        wire.over.set()
        wire.listener.shutdown(socket.SHUT_RDWR)
        wire.listener.close()
        for connection in wire.open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (acceptor, *wire.threads):
            thread.join(5)
            assert not thread.is_alive()


def sends(data: bytes) -> Callable[[Wire, socket.socket], None]:
    """Sends and keeps the connection."""
    return lambda wire, connection: connection.sendall(data)


def breaks_off(data: bytes = b"") -> Callable[[Wire, socket.socket], None]:
    """Sends and closes."""

    def behave(wire: Wire, connection: socket.socket) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return behave


def resets(wire: Wire, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    wire.open.remove(connection)
    connection.close()


def hangs(wire: Wire, connection: socket.socket) -> None:
    wire.over.wait(30)


def drips(head: bytes, every_s: float = 0.05) -> Callable[[Wire, socket.socket], None]:
    """Sends ``head``, then for ever one byte at a time."""

    def behave(wire: Wire, connection: socket.socket) -> None:
        connection.sendall(head)
        while not wire.over.wait(every_s):
            connection.sendall(b"x")

    return behave


def later(seconds: float, data: bytes) -> Callable[[Wire, socket.socket], None]:
    def behave(wire: Wire, connection: socket.socket) -> None:
        wire.over.wait(seconds)
        connection.sendall(data)

    return behave


def message(status: str, *headers: str, body: bytes = b"", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def http_of(*, stop: Stop | None = None, transport: Transport | None = None, **limits: float) -> Http:
    """Real clock and sleep, short limits."""
    bounds = {"connect_s": 2.0, "read_s": 2.0, "total_s": 2.0, "write_total_s": 2.0, **limits}
    return Http(
        limits=Limits(**bounds),
        transport=transport or Transport(),
        monotonic=time.monotonic,
        sleep=time.sleep,
        stop=stop or Stop(),
        jitter=random.Random(1).random,
    )


@dataclass
class Clock:
    """Seconds that pass only in sleep."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def timed_http(clock: Clock, *, stop: Stop | None = None, jitter: float = 1.0, **limits: float) -> Http:
    return Http(
        limits=Limits(**limits),
        transport=Transport(),
        monotonic=clock,
        sleep=clock.sleep,
        stop=stop or Stop(clock),
        jitter=lambda: jitter,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def threads_of_ours() -> list[str]:
    """Those that do not end by themselves within a second; a thread that has just answered needs a moment to end."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("http-")]
    for thread in ours:
        thread.join(1)
    return [thread.name for thread in ours if thread.is_alive()]


# --- a good answer


def test_good_answers_share_one_connection_and_are_read_to_the_end() -> None:
    with serving(sends(OK)) as wire, http_of().session() as session:
        got = [answer(session.get(wire.url)) for _ in range(3)]
    assert [orjson.loads(JSON)] * 3 == got
    assert 1 == wire.connections
    assert [] == threads_of_ours()


def test_session_says_who_we_are_and_keeps_no_cookie() -> None:
    with serving(sends(message("200 OK", "Set-Cookie: JSESSIONID=1; Path=/"))) as wire, http_of().session() as session:
        session.get(wire.url)
        session.get(wire.url)
        assert 0 == len(session.cookies)
    assert f"itsms-sync/{__version__}".encode() in wire.requests[1]
    assert b"cookie" not in wire.requests[1].lower()


def test_environment_does_not_decide_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(sends(OK)) as wire, http_of().session() as session:
        assert 200 == session.get(wire.url).status_code


def test_configured_proxy_is_used_for_plain_addresses() -> None:
    with serving(sends(OK)) as proxy, http_of(transport=Transport(proxy=proxy.url)).session() as session:
        assert 200 == session.get("http://desk.invalid/api").status_code
    assert proxy.requests[0].startswith(b"GET http://desk.invalid/api HTTP/1.1")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_deadline_holds_on_the_way_through_a_proxy(scheme: str) -> None:
    with serving(drips(b"HTTP/1.1 2")) as proxy:
        http = http_of(transport=Transport(proxy=proxy.url), total_s=0.4)
        with http.session() as session, pytest.raises(Unavailable, match=r"^desk\.invalid: no complete answer within"):
            session.get(f"{scheme}://desk.invalid/api")


def test_tunnel_that_the_proxy_denies_has_sent_nothing_of_a_write() -> None:
    denied = sends(message("407 Proxy Authentication Required"))
    with serving(denied) as proxy:
        http = http_of(transport=Transport(proxy=proxy.url.replace("//", f"//us:{SECRET}@")))
        with http.session() as session, pytest.raises(Unavailable, match="the proxy let nothing through") as caught:
            http.writing(lambda: session.post("https://desk.invalid/api", data="{}"))
    assert not caught.value.sent
    assert ["CONNECT"] == proxy.verbs()
    assert SECRET not in str(caught.value)


def test_socks_proxy_is_refused_rather_than_passed_by() -> None:
    session = http_of(transport=Transport(proxy="socks5://127.0.0.1:9")).session()
    with session, pytest.raises(Refused, match="SOCKS"):
        session.get("http://127.0.0.1:9/")


def test_slow_start_within_the_limits_is_fine() -> None:
    with serving(later(0.3, OK)) as wire, http_of().session() as session:
        assert orjson.loads(JSON) == answer(session.get(wire.url))


def test_kept_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    with serving(breaks_off(OK), sends(OK)) as wire, http_of().session() as session:
        session.get(wire.url)
        time.sleep(0.05)
        assert 200 == session.get(wire.url).status_code
    assert 2 == wire.connections


# --- answers that are not what they seem

BOMB = gzip.compress(b"0" * 50_000_000)
HTML = b"<html>\n <title>Instance is hibernating</title></html>"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON_TYPE = "Content-Type: application/json"
FAULTS = {
    "truncated body": (breaks_off(message("200 OK", JSON_TYPE, body=JSON, length=9000)), "broke off its answer"),
    "cut chunk": (breaks_off(CHUNKED + b"ff\r\n" + JSON), "broke off its answer"),
    "bad chunk": (breaks_off(CHUNKED + b"zz\r\n" + JSON), "broke off its answer"),
    "bad gzip": (
        sends(message("200 OK", JSON_TYPE, "Content-Encoding: gzip", body=b"not gzip")),
        "cannot be decompressed",
    ),
    "cut gzip": (
        sends(message("200 OK", JSON_TYPE, "Content-Encoding: gzip", body=gzip.compress(JSON * 99)[:-40])),
        "broken JSON",
    ),
    "gzip bomb": (sends(message("200 OK", JSON_TYPE, "Content-Encoding: gzip", body=BOMB)), "larger than 100000 bytes"),
    "large": (sends(message("200 OK", JSON_TYPE, body=b" " * 100_001)), "larger than 100000 bytes"),
    "large, unannounced": (
        breaks_off(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * 200_000),
        "larger than 100000 bytes",
    ),
    "reset": (resets, "closed the connection before it had answered"),
    "closed": (breaks_off(), "closed the connection before it had answered"),
    "not HTTP": (breaks_off(b"220 mail.example ESMTP\r\n"), "not HTTP"),
    "two lengths": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "not HTTP"),
    "silence": (hangs, "no complete answer within 0.3 s"),
    "drip of headers": (drips(b"HTTP/1.1 200 OK\r\nX: "), "no complete answer within 0.3 s"),
    "drip of the status line": (drips(b"HT"), "no complete answer within 0.3 s"),
    "drip of body": (drips(message("200 OK", JSON_TYPE, length=9000)), "no complete answer within 0.3 s"),
    "drip of a body without length": (
        drips(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"),
        "no complete answer within 0.3 s",
    ),
    "drip of a chunk": (drips(CHUNKED + b"ffff\r\n"), "no complete answer within 0.3 s"),
    "HTML": (sends(message("200 OK", "Content-Type: text/html", body=HTML)), "text/html, not JSON: '<html> <title>Ins"),
    "no type": (sends(message("200 OK", body=JSON)), "no content type, not JSON"),
    "202": (sends(message("202 Accepted", JSON_TYPE)), "status 202 with nothing done yet"),
    "202 with a body": (sends(message("202 Accepted", JSON_TYPE, body=JSON)), "status 202 with nothing done yet"),
    "204": (sends(b"HTTP/1.1 204 No Content\r\n\r\n"), "status 204 with an empty body"),
    "empty": (sends(message("200 OK", JSON_TYPE)), "status 200 with an empty body"),
    "cut JSON": (sends(message("200 OK", JSON_TYPE, body=JSON[:-2])), "broken JSON"),
    "no number": (sends(message("200 OK", JSON_TYPE, body=b'{"n":nan}')), "broken JSON"),
    "not UTF-8": (sends(message("200 OK", JSON_TYPE, body=b'{"n":"\xff"}')), "broken JSON"),
    "to a log-in": (
        sends(message("302 Found", f"Location: https://login.example/?token={SECRET}")),
        "sends us to login.example,",
    ),
    "to nowhere": (sends(message("302 Found", "Location: http://[")), "sends us to an unreadable address"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_unavailable_at_once_and_names_what_came(fault: str) -> None:
    behaviour, sentence = FAULTS[fault]
    began = time.monotonic()
    with serving(behaviour) as wire:
        http = http_of(total_s=0.3, body_bytes=100_000)
        with http.session() as session, pytest.raises(Unavailable) as caught:
            answer(session.get(f"{wire.url}/api?sysparm_query=a&t={SECRET}", auth=("bot", SECRET)))
    assert sentence in str(caught.value)
    assert f"127.0.0.1:{wire.port}" in str(caught.value)
    assert not caught.value.sent
    assert 1 == len(wire.requests)
    assert (0.25 if "no complete" in sentence else 0.0) < time.monotonic() - began < 1.5
    assert [] == threads_of_ours()
    assert_no_secret(caught.value)


def assert_no_secret(error: BaseException | None) -> None:
    while error is not None:
        assert SECRET not in f"{error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__


def test_permanent_redirect_is_refused_with_the_target_host_only() -> None:
    moved = sends(message("301 Moved", f"Location: https://us:{SECRET}@new.example/x?{SECRET}"))
    with serving(moved) as wire, http_of().session() as session, pytest.raises(Refused) as caught:
        session.get(wire.url)
    sentence = f"127.0.0.1:{wire.port}: moved for good to new.example; correct the address of the source"
    assert sentence == str(caught.value)


def test_other_sizes_of_good_answers_pass_the_limit() -> None:
    body = b'"' + b"a" * 99_998 + b'"'
    whole = message("200 OK", JSON_TYPE, body=body)
    zipped = message("200 OK", JSON_TYPE, "Content-Encoding: gzip", body=gzip.compress(body))
    chunked = CHUNKED + b"c350\r\n" + body[:50_000] + b"\r\nc350\r\n" + body[50_000:] + b"\r\n0\r\n\r\n"
    http = http_of(body_bytes=100_000)
    with serving(sends(whole), sends(zipped), sends(chunked)) as wire, http.session() as session:
        assert ["a" * 99_998] * 3 == [answer(session.get(wire.url)) for _ in range(3)]
    assert 1 == wire.connections


def test_head_announces_a_length_that_it_does_not_send() -> None:
    with serving(sends(message("200 OK", length=10**9))) as wire, http_of().session() as session:
        assert b"" == session.head(wire.url).content


def test_silence_between_two_bytes_has_a_limit_of_its_own() -> None:
    began = time.monotonic()
    with serving(hangs) as wire, http_of(read_s=0.2, total_s=30).session() as session:
        with pytest.raises(Unavailable, match="it fell silent"):
            session.get(wire.url)
        with pytest.raises(Unavailable, match="it fell silent"):
            session.get(wire.url, timeout=30)
    assert time.monotonic() - began < 2


def test_refused_connection_unknown_name_and_silent_tls_are_told_apart() -> None:
    with http_of(total_s=0.5).session() as session, serving(hangs) as wire:
        with pytest.raises(Unavailable, match="it refused the connection"):
            session.get(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(Unavailable, match="its name could not be resolved"):
            session.get("http://desk..invalid/")
        with pytest.raises(Unavailable, match=r"no complete answer within 0\.5 s"):
            session.get(f"https://127.0.0.1:{wire.port}")


def test_plain_answer_on_a_secure_address() -> None:
    def speaks_plainly() -> None:
        with suppress(OSError), listener.accept()[0] as connection:
            connection.recv(1)
            connection.sendall(OK)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        speaker = threading.Thread(target=speaks_plainly)
        speaker.start()
        with http_of().session() as session, pytest.raises(Unavailable, match="no secure connection"):
            session.get(f"https://127.0.0.1:{listener.getsockname()[1]}")
        speaker.join()


def test_full_backlog_does_not_outlast_the_deadline_while_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        queue = [socket.socket() for _ in range(3)]
        for one in queue:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        began = time.monotonic()
        with http_of(total_s=0.4, connect_s=30).session() as session, pytest.raises(Unavailable) as caught:
            session.get(f"http://127.0.0.1:{listener.getsockname()[1]}")
        for one in queue:
            one.close()
    assert "no complete answer within 0.4 s" in str(caught.value)
    assert time.monotonic() - began < 1.5


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of 127.0.0.1 in one file, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    command = [*make.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_deadline_holds_inside_tls_on_a_kept_connection(certificate: Path, tls: ssl.SSLContext) -> None:
    http = http_of(transport=Transport(ca_bundle=str(certificate)), total_s=0.5)
    with serving(sends(OK), sends(OK), drips(b"HT"), tls=tls) as wire, http.session() as session:
        url = f"https://127.0.0.1:{wire.port}"
        assert [200, 200] == [session.get(url).status_code for _ in range(2)]
        with pytest.raises(Unavailable, match=r"no complete answer within 0\.5 s"):
            session.get(url)
    assert 1 == wire.connections


@pytest.fixture(scope="module")
def locked(certificate: Path) -> Path:
    """The same key, encrypted."""
    path = certificate.with_name("locked.pem")
    command = ["openssl", "pkcs8", "-topk8", "-in", str(certificate), "-out", str(path), "-passout", "pass:open sesame"]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_password_of_a_client_s_key_is_read_for_each_connection(
    certificate: Path, locked: Path, tls: ssl.SSLContext
) -> None:
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificate)
    held = ["open sesame"]
    shown = (str(certificate), str(locked))
    http = http_of(transport=Transport(ca_bundle=str(certificate), client_cert=shown, key_password=lambda: held[0]))
    with serving(sends(OK), tls=tls) as wire:
        url = f"https://127.0.0.1:{wire.port}"
        with http.session() as session:
            assert 200 == session.get(url).status_code
        held[0] = "closed sesame"
        with http.session() as session, pytest.raises(Unavailable, match="no secure connection") as caught:
            session.get(url)
    assert "sesame" not in str(caught.value)


def test_certificate_that_is_not_trusted_names_the_setting(tls: ssl.SSLContext) -> None:
    said = r"its certificate is not trusted; check `ca_bundle` \(self-signed certificate\)"
    with (
        serving(sends(OK), tls=tls) as wire,
        http_of().session() as session,
        pytest.raises(Unavailable, match=said) as caught,
    ):
        session.post(f"https://127.0.0.1:{wire.port}")
    assert not caught.value.sent


def test_missing_certificates_are_named() -> None:
    session = http_of(transport=Transport(ca_bundle="no/such/bundle.pem")).session()
    with session, pytest.raises(Unavailable, match=r"no/such/bundle\.pem"):
        session.get("https://127.0.0.1:9")


# --- writes


@pytest.mark.parametrize("behaviour", [breaks_off(), resets, breaks_off(b"HTTP/1.1 201 Cre"), drips(b"HTTP/1.1 201 ")])
def test_write_whose_answer_is_lost_was_sent_once_and_is_unclear(
    behaviour: Callable[[Wire, socket.socket], None],
) -> None:
    with serving(behaviour) as wire:
        http = http_of(write_total_s=0.5)
        with http.session() as session, pytest.raises(Unavailable) as caught:
            http.writing(lambda: answer(session.post(wire.url, json={"short_description": "x"})))
    assert caught.value.sent
    assert ["POST"] == wire.verbs()
    assert 1 == http.requests_sent


FIELDS = {"project": {"key": "OPS"}, "issuetype": {"name": "Task"}, "summary": "x"}


def test_jira_library_bound_to_us_sends_a_create_once() -> None:
    with serving(breaks_off()) as wire:
        client = jira.JIRA(wire.url, max_retries=3, get_server_info=False, token_auth=SECRET)
        http = http_of()
        http.bind(client._session)
        with pytest.raises(Unavailable) as caught:
            http.writing(lambda: client.create_issue(fields=FIELDS, prefetch=False))
        client.close()
    assert caught.value.sent
    assert ["POST"] == wire.verbs()
    assert f"Bearer {SECRET}".encode() in wire.requests[0]
    assert_no_secret(caught.value)


def test_jira_library_repeats_nothing_on_its_own_when_it_is_told_to_come_back() -> None:
    busy = sends(message("503 Service Unavailable", JSON_TYPE, "Retry-After: 1", body=b"{}"))
    with serving(busy) as wire:
        client = jira.JIRA(wire.url, max_retries=3, get_server_info=False)
        http = http_of()
        http.bind(client._session)
        with pytest.raises(jira.JIRAError):
            http.writing(lambda: client.create_issue(fields=FIELDS, prefetch=False))
        client.close()
    assert ["POST"] == wire.verbs()


def test_jira_library_gets_no_answer_from_a_page_of_html() -> None:
    with serving(sends(message("201 Created", "Content-Type: text/html", body=HTML))) as wire:
        client = jira.JIRA(wire.url, max_retries=0, get_server_info=False)
        http = http_of()
        http.bind(client._session)
        with pytest.raises(Unavailable, match="its answer is not JSON") as caught:
            http.writing(lambda: client.create_issue(fields=FIELDS, prefetch=False))
        client.close()
    assert caught.value.sent


def test_jira_library_inherits_deadline_and_byte_limit() -> None:
    with serving(drips(b"HT"), sends(message("200 OK", JSON_TYPE, body=b" " * 2000))) as wire:
        client = jira.JIRA(wire.url, max_retries=0, get_server_info=False)
        http_of(total_s=0.4, body_bytes=1000).bind(client._session)
        with pytest.raises(Unavailable, match=r"no complete answer within 0\.4 s"):
            client._get_json("myself")
        with pytest.raises(Unavailable, match="larger than 1000 bytes"):
            client._get_json("myself")
        client.close()


def test_write_that_could_not_connect_was_not_sent() -> None:
    http = http_of()
    with http.session() as session, pytest.raises(Unavailable) as caught:
        http.writing(lambda: session.post(f"http://127.0.0.1:{free_port()}", data="x"))
    assert not caught.value.sent


def test_write_takes_a_fresh_connection_and_its_own_deadline() -> None:
    with serving(sends(OK), drips(b"HT")) as wire:
        http = http_of(total_s=30, write_total_s=0.4)
        with http.session() as session:
            session.get(wire.url)
            with pytest.raises(Unavailable, match=r"no complete answer within 0\.4 s"):
                http.writing(lambda: session.put(wire.url, data="x"))
    assert 2 == wire.connections


def test_large_body_that_nobody_takes_is_cut_at_the_deadline() -> None:
    http = http_of(write_total_s=0.5, connect_s=30)
    with socket.create_server(("127.0.0.1", 0)) as listener, http.session() as session:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"no complete answer within 0\.5 s") as caught:
            http.writing(lambda: session.post(url, data=b"x" * 30_000_000))
    assert caught.value.sent


def test_reads_inside_a_write_are_tried_once_and_leave_the_write_clear() -> None:
    with serving(sends(OK), breaks_off()) as wire:
        http = http_of()
        with http.session() as session:

            def create_and_read_back() -> str:
                session.post(wire.url, data="x")
                with pytest.raises(Unavailable) as caught:
                    http.reading(lambda: session.get(wire.url))
                return f"created, read back: {caught.value.sent}"

            assert "created, read back: False" == http.writing(create_and_read_back)
    assert ["POST", "GET"] == wire.verbs()


# --- the retry policy, on a clock of its own


def failing(*errors: Exception | None) -> Callable[[], int]:
    """Raises one after the other; ``None`` and the end of the list are a success, which returns the number of calls."""
    calls = itertools.count(1)
    left = iter(errors)

    def call() -> int:
        number = next(calls)
        if (error := next(left, None)) is not None:
            raise error
        return number

    return call


def test_reading_repeats_with_growing_jittered_waits() -> None:
    clock = Clock()
    assert 4 == timed_http(clock).reading(failing(*[Unavailable("x")] * 3))
    assert [1.0, 2.0, 4.0] == clock.slept
    low = Clock()
    assert 4 == timed_http(low, jitter=0.0).reading(failing(*[Unavailable("x")] * 3))
    assert [0.5, 1.0, 2.0] == low.slept


def test_reading_gives_up_with_the_last_error_and_counts_its_waits() -> None:
    clock = Clock()
    http = timed_http(clock, attempts=3, max_wait_s=1.5)
    errors = [Unavailable(f"no. {number}", sent=True) for number in range(9)]
    with pytest.raises(Unavailable, match=r"no\. 2") as caught:
        http.reading(failing(*errors))
    assert [1.0, 1.5] == clock.slept
    assert 2.5 == http.waited_s
    assert not caught.value.sent


@pytest.mark.parametrize(
    ("asked", "slept"), [(0.0, [1.0]), (0.25, [1.0]), (30.0, [30.0]), (900.0, [900.0]), (None, [1.0])]
)
def test_retry_after_is_a_minimum(asked: float | None, slept: list[float]) -> None:
    clock = Clock()
    assert 2 == timed_http(clock).reading(failing(Unavailable("x", retry_after=asked)))
    assert slept == clock.slept


def test_longer_retry_after_than_we_sit_out_is_reported_at_once() -> None:
    clock = Clock()
    with pytest.raises(Unavailable) as caught:
        timed_http(clock).reading(failing(Unavailable("x", retry_after=900.5)))
    assert 900.5 == caught.value.retry_after
    assert [] == clock.slept


@pytest.mark.parametrize("error", [Refused("no"), KeyError("bug"), Stopped(), KeyboardInterrupt()])
def test_other_errors_are_not_repeated(error: BaseException) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        timed_http(Clock()).reading(call)
    assert [1] == calls


def test_transport_exceptions_of_a_library_are_repeated_like_ours() -> None:
    clock = Clock()
    assert 3 == timed_http(clock).reading(failing(requests.ConnectionError("x"), urllib3.exceptions.ProtocolError("y")))
    assert 2 == len(clock.slept)


def test_writing_is_made_once() -> None:
    clock, calls = Clock(), []

    def call() -> None:
        calls.append(1)
        raise Unavailable("x", retry_after=1.0, sent=True)

    with pytest.raises(Unavailable):
        timed_http(clock).writing(call)
    assert ([1], []) == (calls, clock.slept)


# --- one budget per credential


def test_pause_asked_of_one_session_holds_for_the_next_request_of_any() -> None:
    clock = Clock()
    denied = message("429 Too Many Requests", "Retry-After: 40")
    http = timed_http(clock)
    with serving(sends(denied), sends(OK)) as wire, http.session() as one, http.session() as other:
        assert 429 == one.get(wire.url).status_code
        clock.now += 15
        assert [200, 200] == [session.get(wire.url).status_code for session in (other, one)]
    assert [25.0] == clock.slept
    assert (3, 25.0) == (http.requests_sent, http.waited_s)


def test_write_waits_for_the_pause_before_it_is_sent() -> None:
    clock = Clock()
    http = timed_http(clock)
    http.note({"Retry-After": "40"}, 429)
    with serving(sends(OK)) as wire, http.session() as session:
        assert 200 == http.writing(lambda: session.post(wire.url)).status_code
    assert [40.0] == clock.slept


def test_sleep_that_ends_a_little_early_does_not_hold_the_write_up() -> None:
    clock = Clock()
    http = Http(
        limits=Limits(),
        transport=Transport(),
        monotonic=clock,
        sleep=lambda seconds: clock.sleep(seconds - 0.01),
        stop=Stop(clock),
    )
    http.note({"Retry-After": "40"}, 429)
    with serving(sends(OK)) as wire, http.session() as session:
        assert 200 == http.writing(lambda: session.post(wire.url)).status_code


def test_inside_a_write_nobody_waits() -> None:
    clock = Clock()
    http = timed_http(clock)
    created = sends(message("201 Created", "Retry-After: 40"))
    with serving(created) as wire, http.session() as session, pytest.raises(Unavailable) as caught:
        http.writing(lambda: (session.post(wire.url), session.get(wire.url)))
    assert (40.0, False, []) == (caught.value.retry_after, caught.value.sent, clock.slept)


def test_pause_longer_than_we_sit_out_is_reported_without_a_request_and_ends_within_the_hour() -> None:
    clock = Clock()
    http = timed_http(clock)
    http.note({"Retry-After": "999999999"}, 503)
    with http.session() as session, pytest.raises(Unavailable) as caught:
        session.get("http://127.0.0.1:9")
    assert (3600.0, 0, []) == (caught.value.retry_after, http.requests_sent, clock.slept)
    clock.now += 3600
    with serving(sends(OK)) as wire, http.session() as session:
        assert 200 == session.get(wire.url).status_code
    assert [] == clock.slept


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Retry-After": "0", "X-RateLimit-Remaining": "7"}, 200),
        ({"Retry-After": "30"}, 202),
        ({"Retry-After": "30"}, 302),
        ({"Retry-After": "soon"}, 429),
        ({"Retry-After": "Sat, 21 Nov 2026 10:01:00 GMT"}, 429),
        ({"X-RateLimit-Limit": "100", "X-RateLimit-Reset": "1795255200", "Date": "Sat, 21 Nov 2026 09:00:00 GMT"}, 200),
    ],
)
def test_answers_that_ask_for_no_pause(headers: dict[str, str], status: int) -> None:
    clock = Clock()
    http = timed_http(clock)
    http.note(headers, status)
    http.writing(lambda: None)
    assert [] == clock.slept


POLICY = '"global-app-quota";q=65000;w=3600'


@pytest.mark.parametrize(
    ("headers", "rest"),
    [
        ({"X-RateLimit-NearLimit": "true"}, 1.0),
        ({"X-RateLimit-NearLimit": "false"}, 0.0),
        ({"Beta-RateLimit-Policy": POLICY, "Beta-RateLimit": '"global-app-quota";r=3250;t=600'}, 600.0),
        ({"Beta-RateLimit-Policy": POLICY, "Beta-RateLimit": '"global-app-quota";r=3251;t=600'}, 0.0),
        ({"Beta-RateLimit": '"global-app-quota";r=9;t=600'}, 0.0),
        ({"Beta-RateLimit-Policy": POLICY, "Beta-RateLimit": '"global-app-quota"; r=0; t=30'}, 30.0),
        ({"Beta-RateLimit-Policy": "soon", "Beta-RateLimit": "r=-1;t=x"}, 0.0),
        ({"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "20", "X-RateLimit-FillRate": "10"}, 0.0),
    ],
)
def test_reads_rest_near_a_limit(headers: dict[str, str], rest: float) -> None:
    assert rest == spare(headers)


def test_reads_no_longer_empty_a_bucket_faster_than_it_fills() -> None:
    bucket = {"X-RateLimit-Limit": "100", "X-RateLimit-FillRate": "10", "X-RateLimit-Interval-Seconds": "1"}
    told = [spare({**bucket, "X-RateLimit-Remaining": left, "retry-after": "0"}) for left in ("100", "21", "20", "0")]
    assert [0.0, 0.0, 0.1, 0.1] == told


def test_a_write_takes_what_reads_leave_of_a_quota() -> None:
    clock = Clock()
    http = timed_http(clock)
    http.note({"Beta-RateLimit-Policy": POLICY, "Beta-RateLimit": '"global-app-quota";r=9;t=600'}, 200)
    with serving(sends(OK)) as wire, http.session() as session:
        assert 200 == http.writing(lambda: session.post(wire.url)).status_code
        http.note({"Beta-RateLimit-Policy": POLICY, "Beta-RateLimit": '"global-app-quota";r=8;t=600'}, 200)
        assert [] == clock.slept
        assert 200 == session.get(wire.url).status_code
    assert [600.0] == clock.slept


def test_a_rest_of_reads_is_as_long_as_the_last_answer_says() -> None:
    clock = Clock()
    http = timed_http(clock)
    http.note({"X-RateLimit-NearLimit": "true"}, 200)
    http.note({}, 200)
    with serving(sends(OK)) as wire, http.session() as session:
        assert 200 == session.get(wire.url).status_code
    assert [] == clock.slept


def test_a_rest_longer_than_we_sit_out_ends_the_read_and_not_the_write() -> None:
    clock = Clock()
    http = timed_http(clock)
    http.note({"Beta-RateLimit-Policy": POLICY, "Beta-RateLimit": '"global-app-quota";r=9;t=99999'}, 200)
    with serving(sends(OK)) as wire, http.session() as session:
        with pytest.raises(Unavailable) as caught:
            session.get(wire.url)
        assert (3600.0, 200) == (caught.value.retry_after, http.writing(lambda: session.post(wire.url)).status_code)


def test_exhausted_quota_on_a_good_answer_is_a_pause() -> None:
    clock = Clock()
    http = timed_http(clock)
    http.note({"x-ratelimit-remaining": "0", "retry-after": "12"}, 200)
    http.writing(lambda: None)
    assert [12.0] == clock.slept


# --- the order to stop


def test_order_outside_of_interruptible_code_only_sets_the_flag() -> None:
    stop = Stop()
    assert not stop.requested
    stop.request()
    assert stop.requested
    with pytest.raises(Stopped), stop.interruptible():
        pytest.fail("entered")


def test_order_raises_in_interruptible_code_and_only_once() -> None:
    stop, cleaned = Stop(), []

    def is_interrupted() -> None:
        try:
            stop.request()
        finally:
            stop.request()
            cleaned.append(True)

    with pytest.raises(Stopped), stop.interruptible():
        is_interrupted()
    assert [True] == cleaned


def test_shield_wins_over_interruptible_on_both_sides() -> None:
    stop = Stop()
    with stop.interruptible(), stop.shielded(1.0), stop.interruptible():
        stop.request()
        with stop.shielded(9.0):
            assert 1.0 == stop.grace_s
    assert stop.requested


def test_order_from_another_thread_does_not_raise_there() -> None:
    stop = Stop()
    with stop.interruptible():
        thread = threading.Thread(target=stop.request)
        thread.start()
        thread.join()
    assert stop.requested


def test_overdue_after_the_grace() -> None:
    clock = Clock()
    stop = Stop(clock)
    assert not stop.overdue(None)
    stop.request()
    assert [True, True, False] == [stop.overdue(grace) for grace in (None, 0.0, 5.0)]
    clock.now += 5
    assert stop.overdue(5.0)


def test_stopped_wait_between_attempts() -> None:
    stop, clock = Stop(), Clock()
    http = timed_http(clock, stop=stop)
    http._sleep = lambda seconds: stop.request()
    with pytest.raises(Stopped):
        http.reading(failing(Unavailable("x")))


def test_nothing_is_begun_after_the_order() -> None:
    stop = Stop()
    http = http_of(stop=stop)
    stop.request()
    with serving(sends(OK)) as wire, http.session() as session:
        with pytest.raises(Stopped):
            session.get(wire.url)
        with pytest.raises(Stopped):
            http.writing(lambda: session.post(wire.url))
    assert [] == wire.requests


def test_read_in_another_thread_is_abandoned_too() -> None:
    stop, ended = Stop(), []
    http = http_of(stop=stop, total_s=20, read_s=20)

    def read() -> None:
        try:
            session.get(wire.url)
        except Stopped:
            ended.append("stopped")

    with serving(hangs) as wire, http.session() as session:
        reader = threading.Thread(target=read)
        reader.start()
        assert wire.arrived.wait(5)
        stop.request()
        reader.join(2)
    assert ["stopped"] == ended


def hurried() -> float:
    """A clock on which the grace of 5 s lasts a quarter of a second."""
    return time.monotonic() * 20


@pytest.mark.parametrize(("delay_s", "outcome"), [(0.1, 200), (None, (True, "cut 5 s after the order to stop"))])
def test_write_gets_its_grace_and_is_then_unclear(delay_s: float | None, outcome: object) -> None:
    stop = Stop(hurried)
    http = http_of(stop=stop, write_total_s=20, read_s=20)

    def orders_stop(wire: Wire, connection: socket.socket) -> None:
        stop.request()
        began.append(time.monotonic())
        (hangs if delay_s is None else later(delay_s, OK))(wire, connection)

    began: list[float] = []
    with serving(orders_stop) as wire, http.session() as session:
        try:
            got: object = http.writing(lambda: session.post(wire.url, data="x")).status_code
        except Unavailable as error:
            got = (error.sent, str(error).partition(": ")[2])
    assert outcome == got
    assert time.monotonic() - began[0] < 1.5
    assert ["POST"] == wire.verbs()


def test_signal_at_any_moment_ends_reading_cleanly() -> None:
    """Answers, half answers and closed connections in turn, so that the signal hits every phase of a request."""
    chance, http, stopped = random.Random(7), http_of(), 0
    former = signal.signal(signal.SIGUSR1, lambda *_: http.stop.request())
    main = threading.get_ident()
    turns = [sends(OK), later(0.003, OK), breaks_off(OK), breaks_off(OK[:-5])] * 500
    with serving(*turns) as wire:
        before = sockets()
        for _ in range(60):
            http = http_of()
            timer = threading.Timer(chance.uniform(0.0, 0.03), signal.pthread_kill, (main, signal.SIGUSR1))
            timer.start()
            with http.session() as session:
                try:
                    while True:
                        with suppress(Unavailable):
                            session.get(wire.url)
                except Stopped:
                    stopped += 1
            timer.join()
        del session
        signal.signal(signal.SIGUSR1, former)
        assert (60, []) == (stopped, threads_of_ours())
    # The server's side of the last connections is closed by threads of its own, a moment later on a busy machine.
    patience = time.monotonic() + 5
    while (left := sockets() - before) and time.monotonic() < patience:
        time.sleep(0.02)
    assert set() == left


def sockets() -> set[str]:
    """Every open socket of this process, by the number that the system gives it."""
    gc.collect()
    found = set()
    for descriptor in DESCRIPTORS.iterdir():
        with suppress(OSError):  # the descriptor of this very listing is closed by now
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith("socket:")}


CHILD = """
import signal, sys, time
from itsms_sync.connector import Unavailable
from itsms_sync.http import Http, Limits, Stop, Stopped, Transport

stop = Stop(lambda: time.monotonic() * 10)
signal.signal(signal.SIGTERM, lambda *_: stop.request())
http = Http(limits=Limits(), transport=Transport(), monotonic=time.monotonic, sleep=time.sleep, stop=stop)
session = http.session()
what, url = sys.argv[1:]
try:
    if what == "read":
        http.reading(lambda: session.get(url))
    elif what == "pause":
        session.get(url)
        print("pausing", flush=True)
        session.get(url)
    else:
        http.writing(lambda: session.post(url, data="x"))
except Stopped:
    sys.exit(10)
except Unavailable as error:
    sys.exit(11 if error.sent and stop.requested else 12)
"""


@pytest.mark.parametrize(
    ("what", "code", "behaviour", "at_least_s"),
    [
        ("read", 10, hangs, 0.0),
        ("read", 10, drips(message("200 OK", length=9000)), 0.0),
        ("pause", 10, sends(message("429 Too Many", "Retry-After: 60")), 0.0),
        ("write", 11, hangs, 0.4),
    ],
)
def test_terminated_process_leaves_in_time(
    what: str, code: int, behaviour: Callable[[Wire, socket.socket], None], at_least_s: float
) -> None:
    with serving(behaviour) as wire:
        child = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CHILD, what, wire.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert wire.arrived.wait(20)
        if what == "pause":
            assert child.stdout is not None
            assert b"pausing\n" == child.stdout.readline()
        time.sleep(0.1)
        child.terminate()
        began = time.monotonic()
        _, said = child.communicate(timeout=20)
        took_s = time.monotonic() - began
    assert (code, b"") == (child.returncode, said)
    assert at_least_s <= took_s < 2.0
    assert 1 == len(wire.requests)


# --- Retry-After and dates

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
NOW_S = NOW.timestamp()
DATE = {"Date": "Sat, 21 Nov 2026 09:59:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-30"}, 0.0),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"Retry-After": "Saturday, 21-Nov-26 10:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sat Nov 21 10:00:30 2026"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT", **DATE}, 90.0),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT", "Date": "noon"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2026 09:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "٣"}, None),
        ({"X-RateLimit-Reset": str(int(NOW_S) + 60)}, None),
        ({"X-RateLimit-Reset": str(int(NOW_S) + 60), "X-RateLimit-Remaining": "3"}, None),
        ({"X-RateLimit-Reset": str(int(NOW_S) + 60), "X-RateLimit-Remaining": "0"}, 60.0),
        ({"X-RateLimit-Reset": "2026-11-21T10:02Z", "X-RateLimit-Remaining": "0", **DATE}, 180.0),
        ({"X-RateLimit-Reset": "tomorrow", "X-RateLimit-Remaining": "0"}, None),
        ({"X-RateLimit-Reset": "2026-11-21T10:02Z", "X-RateLimit-Remaining": "0", "Retry-After": "5"}, 5.0),
    ],
)
def test_forms_of_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds == retry_after(headers, NOW_S)


@given(st.decimals(0, 999_999_999, places=3))
def test_any_number_of_seconds_is_taken_as_it_is(seconds: object) -> None:
    assert float(str(seconds)) == retry_after({"Retry-After": f"{seconds:f}"}, NOW_S)


ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=30))])
STAMPS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=ZONES).map(
    lambda stamp: stamp.replace(microsecond=0)
)


@given(STAMPS)
def test_any_http_date_is_the_instant_that_it_names(stamp: datetime) -> None:
    assert int(stamp.timestamp()) * 1000 == http_date_millis(format_datetime(stamp))


@given(STAMPS, STAMPS, st.floats(0, 4e9))
def test_date_is_measured_from_the_answers_own_clock(until: datetime, server: datetime, now: float) -> None:
    headers = {"Retry-After": format_datetime(until), "Date": format_datetime(server)}
    assert max(0.0, (until - server).total_seconds()) == retry_after(headers, now)


HEADER = st.one_of(
    st.text(),
    st.text("0123456789+-.:TZ GMTSatNov,/e", max_size=40),
    st.from_regex(
        r"[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{2,5} [0-9]{1,2}:[0-9]{2}(:[0-9]{2})? [-+A-Z0-9]{3,9}"
    ),
)


@given(st.dictionaries(st.sampled_from(["Retry-After", "Date", "X-RateLimit-Reset", "X-RateLimit-Remaining"]), HEADER))
def test_no_header_makes_us_wait_for_ever_or_fail(headers: dict[str, str]) -> None:
    seconds = retry_after(headers, NOW_S)
    assert seconds is None or 0.0 <= seconds < float("inf")


@given(HEADER)
def test_no_text_breaks_the_reader_of_dates(text: str) -> None:
    assert isinstance(http_date_millis(text), int | None)


def test_no_date_at_all() -> None:
    assert http_date_millis(None) is None


# --- what exceptions and answers are translated to


def test_error_of_ours_stays_as_it_is() -> None:
    refused = Refused("no")
    assert refused is failure(refused, sent=True)


def test_exception_of_a_session_that_is_not_ours_becomes_a_sentence() -> None:
    session, url = requests.Session(), f"http://us:{SECRET}@127.0.0.1:{free_port()}/?t={SECRET}"
    session.trust_env = False
    with session, pytest.raises(requests.ConnectionError) as caught:
        session.get(url, timeout=5)
    told = failure(caught.value, sent=False)
    assert str(told).startswith("127.0.0.1:")
    assert str(told).endswith(": it refused the connection (Connection refused)")
    assert_no_secret(told)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (orjson.JSONDecodeError("x", f"{{{SECRET}", 0), "the source: its answer is not JSON"),
        (requests.ReadTimeout(f"https://desk/?t={SECRET}"), "the source: it fell silent"),
        (requests.exceptions.ProxyError(urllib3.exceptions.ProxyError("x", OSError("407"))), "the proxy let nothing"),
        (urllib3.exceptions.IncompleteRead(1, 2), "the source: it broke off its answer"),
        (ssl.SSLEOFError(8, "EOF in handshake"), "the source: no secure connection (EOF in handshake)"),
        (ConnectionResetError(104, "reset by peer"), "it closed the connection before it had answered (reset by peer)"),
        (requests.TooManyRedirects(f"https://desk/?t={SECRET}"), "the source: the exchange failed"),
    ],
)
def test_transport_exceptions_become_a_sentence(error: Exception, sentence: str) -> None:
    for sent in (True, False):
        told = failure(error, sent=sent)
        assert isinstance(told, Unavailable)
        assert sentence in str(told)
        assert sent == told.sent
        assert_no_secret(told)


@pytest.mark.parametrize("url", ["desk.example", "gopher://desk.example", "http://", f"http://us:{SECRET}@[::x/"])
def test_malformed_address_is_refused_at_once(url: str) -> None:
    clock = Clock()
    http = timed_http(clock)
    with http.session() as session, pytest.raises(Refused) as caught:
        http.reading(lambda: session.get(url))
    assert [] == clock.slept
    assert_no_secret(caught.value)


def test_credential_that_ends_in_a_line_break_is_refused_without_showing_it() -> None:
    http = http_of()
    with http.session() as session, pytest.raises(Refused, match="line break") as caught:
        http.reading(lambda: session.get("http://127.0.0.1:9", headers={"Authorization": f"Bearer {SECRET}\n"}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("kind", ["application/json", "APPLICATION/JSON; charset=utf-8", "application/problem+json"])
def test_json_by_any_of_its_names(kind: str) -> None:
    said = sends(message("404 Not Found", f"Content-Type: {kind}", body=JSON))
    with serving(said) as wire, http_of().session() as session:
        assert orjson.loads(JSON) == answer(session.get(wire.url))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'["a\u0000b"]', ["a\ufffdb"]),
        (rb'["\ud83dx\ude00 \ud83d\ude00 \\ud800"]', ["\ufffdx\ufffd \U0001f600 \\ud800"]),
        (b'[NaN, -Infinity, 1.5, "NaN"]', [None, None, 1.5, "NaN"]),
        (b'{"a": {"b": Infinity}}', {"a": {"b": None}}),
    ],
)
def test_characters_and_numbers_that_cannot_be_stored_are_replaced(body: bytes, value: object) -> None:
    said = sends(message("200 OK", "Content-Type: application/json", body=body))
    with serving(said) as wire, http_of().session() as session:
        assert value == answer(session.get(wire.url))


@pytest.mark.parametrize("body", [b"[NaN", b"[NaN]]", b"[" * 100_000 + b"NaN" + b"]" * 100_000, b'["NaN", nan]'])
def test_text_that_is_no_json_stays_none(body: bytes) -> None:
    said = sends(message("200 OK", "Content-Type: application/json", body=body))
    with serving(said) as wire, http_of().session() as session, pytest.raises(Unavailable, match="broken JSON"):
        answer(session.get(wire.url))


def test_answer_to_a_write_that_is_no_answer_is_unclear() -> None:
    said = sends(message("200 OK", "Content-Type: text/html", body=HTML))
    with serving(said) as wire, http_of().session() as session, pytest.raises(Unavailable) as caught:
        answer(session.post(wire.url))
    assert caught.value.sent


def test_excerpt_of_an_answer_is_short_and_printable() -> None:
    body = b"\x1b[31m\x00" + b"x" * 10_000
    said = sends(message("200 OK", "Content-Type: text/plain", body=body))
    with serving(said) as wire, http_of().session() as session, pytest.raises(Unavailable) as caught:
        answer(session.get(wire.url))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_hanging_resolver_is_left_behind_at_the_deadline() -> None:
    from itsms_sync.http import _Watch

    let_go = threading.Event()
    with _Watch(0.2, Stop()) as watch:
        for _ in "in time", "too late":
            with pytest.raises(socket.gaierror, match="no answer in time"):
                watch.resolve(lambda: [let_go.wait(20)])
    assert watch.cut
    let_go.set()
    assert [] == threads_of_ours()


def test_many_requests_leave_no_thread_and_no_descriptor_behind() -> None:
    with serving(sends(OK)) as wire, http_of().session() as session:
        session.get(wire.url)
        before = len(list(DESCRIPTORS.iterdir()))
        for _ in range(50):
            session.get(wire.url)
        assert before == len(list(DESCRIPTORS.iterdir()))
    assert [] == threads_of_ours()
