"""Sessions, deadlines, byte limits, one budget per credential, and the only retry policy.

Owns everything between a prepared request and an answer that has been read to its end: how long it may take, how large
it may be, when the next one may start, how often a read is repeated, and what the order to stop does to it. Leaves to
the connectors what a status or a body means, to the outbox what follows a write whose outcome is unclear, and to wiring
the clock, the sleep, the source of chance and the signal handler.

``requests`` bounds neither the whole of a request nor the size of an answer, and the vendors' libraries make sessions
of their own. So the bounds sit in a transport adapter, which any session takes, and a watcher, one thread for the time
of one request, shuts the socket down when time is up. That wakes whatever waits on it: connect, TLS handshake, status
line, headers or body, at whatever pace the other side sends.
"""

import calendar
import http.client
import json
import random
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import orjson
import requests
import tenacity
import urllib3
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection

from itsms_sync import __version__
from itsms_sync.connector import LoggedOut, Refused, SourceError, Unavailable
from itsms_sync.records import Millis

T = TypeVar("T")

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_WRAPPERS = (requests.RequestException, urllib3.exceptions.HTTPError)
_ROOTS = (OSError, http.client.HTTPException)
_CHUNK_BYTES = 2**16
_TICK_S = 0.1
"""How often a watcher looks whether the process was asked to stop."""
_GRACE_S = 5.0
"""What a write gets after the order to stop, so that the process can be gone within 8 s."""
_LONGEST_PAUSE_S = 3600.0
"""Quotas of both vendors renew within the hour; a wilder ``Retry-After`` must not silence us until the next restart."""
_NEAR_LIMIT_S = 1.0
"""Rest of reads once a source says that a limit is near; its bursts are counted by the second."""
_LOW = 0.2
"""Share of a bucket that reads no longer empty faster than it fills."""
_RESERVE = 0.05
"""Share of a quota that is left to writes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request and of its repetitions, in seconds and bytes."""

    connect_s: float = 10.0
    """One address of the host, and each step of the TLS handshake."""
    read_s: float = 75.0
    """Between two bytes. ServiceNow cancels its own work after 60 s, and we want to hear that."""
    total_s: float = 90.0
    """One request: connect, headers and body."""
    write_total_s: float = 30.0
    """The same for each request inside :meth:`Http.writing`."""
    body_bytes: int = 64 * 2**20
    """Of an answer, after decompression."""
    attempts: int = 5
    max_wait_s: float = 120.0
    """Ceiling of the growing wait between attempts; what the source itself asks for may be longer."""
    backoff_s: float = 1.0
    max_retry_after_s: float = 900.0
    """Longest wait asked for by the source that is sat out; a longer one is reported at once."""


@dataclass(frozen=True, slots=True)
class Transport:
    """The way to one source. Nothing of it is taken from the environment."""

    proxy: str | None = None
    """``http://`` or ``https://``, for both schemes."""
    ca_bundle: str | None = None
    """File or folder of certificates to trust, in place of the built-in ones."""
    client_cert: str | tuple[str, str] | None = None
    """File with certificate and key, or one file each. Read anew for each connection."""
    key_password: Callable[[], str] | None = None
    """Reads the password of that key, if it is encrypted. May raise ``Refused``."""


class Stopped(BaseException):
    """The process was asked to stop while it could be interrupted. Nothing was lost by it."""


def _raise_stopped() -> None:
    raise Stopped


class _Place(threading.local):
    """Where a thread stands; a signal handler runs in the main thread and so sees the main thread's place."""

    wake: Callable[[], object] | None = None
    """What the order does to the code that runs here; ``None`` where it may not be interrupted."""
    grace_s: float | None = None


class Stop:
    """The order to stop; one object per process.

    ``monotonic`` gives seconds; it measures the grace of a write.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._requested_at: float | None = None
        self._place = _Place()

    @property
    def requested(self) -> bool:
        """Loops look at this between units of work."""
        return self._requested_at is not None

    @property
    def grace_s(self) -> float | None:
        """Grace of the shield in which the calling thread stands, ``None`` outside one."""
        return self._place.grace_s

    def request(self) -> None:
        """For the signal handler. Acts on the interrupted thread as far as that allowed it, once per process."""
        # Nothing here takes a lock: the handler may interrupt the very code that holds it.
        if self._requested_at is not None:
            return
        self._requested_at = self._monotonic()
        if self._place.wake and self._place.grace_s is None:
            self._place.wake()

    @contextmanager
    def interruptible(self, wake: Callable[[], object] = _raise_stopped) -> Iterator[None]:
        """Around something that blocks: the order raises :class:`Stopped` at entry or in its middle. Not in a shield.

        Only a bare sleep or wait can be left at any point without losing something that was just opened. What is more
        gives ``wake``, which is called in place of raising and must take no lock. Our sessions do so on their own.
        """
        place, outer = self._place, self._place.wake
        place.wake = wake
        try:
            if self.requested and place.grace_s is None:
                raise Stopped
            yield
        finally:
            place.wake = outer

    @contextmanager
    def shielded(self, grace_s: float = _GRACE_S) -> Iterator[None]:
        """Around a write: it goes on for ``grace_s`` after the order; then it is cut. The outermost shield counts."""
        place, outer = self._place, self._place.grace_s
        place.grace_s = grace_s if outer is None else outer
        try:
            yield
        finally:
            place.grace_s = outer

    def overdue(self, grace_s: float | None) -> bool:
        """Whether work under that grace (``None``: under no shield) has to end now."""
        return self._requested_at is not None and self._monotonic() >= self._requested_at + (grace_s or 0.0)


class _Watch:
    """One request on the wire, and the thread that cuts it.

    The thread counts real seconds, as socket timeouts do; no clock that is handed in can make it late or early.
    """

    def __init__(self, total_s: float, stop: Stop) -> None:
        self.sent = False
        """Whether a byte of the request itself (not of a proxy's tunnel) may have left."""
        self.cut = False
        self.stopped = False
        """Whether it was cut for the order to stop rather than for its deadline."""
        self.grace_s = stop.grace_s
        self._stop = stop
        self._left_s = total_s
        self._done = threading.Event()
        self._cutters: list[Callable[[], object]] = []
        self._held = ExitStack()
        self._thread = threading.Thread(target=self._run, name="http-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._held.close()

    def _run(self) -> None:
        while self._left_s > 0:
            step = min(self._left_s, _TICK_S)
            if self._done.wait(step):
                return
            if self._stop.overdue(self.grace_s):
                self.abandon()
                return
            self._left_s -= step
        self._cut()

    def abandon(self) -> None:
        """Cut for the order to stop. Takes no lock: the signal handler calls it in the middle of this very request."""
        self.stopped = True
        self._cut()

    def _cut(self) -> None:
        self.cut = True
        for cutter in tuple(self._cutters):
            cutter()

    def on_cut(self, cutter: Callable[[], object]) -> None:
        """Have ``cutter`` wake whoever waits; called at once if the cut came first, and then perhaps twice."""
        self._cutters.append(cutter)
        if self.cut:
            cutter()

    def hold(self, fileno: int) -> None:
        """Be able to shut the connection down until the request is over.

        A duplicate, because TLS takes the socket over, and an answer without keep-alive outlives its connection object.
        """
        twin = socket.socket(fileno=socket.dup(fileno))
        self._held.callback(twin.close)
        self.on_cut(lambda: _shut(twin))

    def resolve(self, lookup: Callable[[], list[T]]) -> list[T]:
        """``lookup()`` in a thread of its own: neither signal nor deadline gets through to the C library's resolver."""
        answer: SimpleQueue[list[T] | Exception] = SimpleQueue()

        def ask() -> None:
            try:
                answer.put(lookup())
            except (OSError, ValueError) as error:
                answer.put(error)

        self.on_cut(lambda: answer.put(socket.gaierror(socket.EAI_AGAIN, "no answer in time")))
        threading.Thread(target=ask, name="http-resolve", daemon=True).start()
        found = answer.get()
        if isinstance(found, Exception):
            raise found
        return found


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # the other side may have gone first
        connection.shutdown(socket.SHUT_RDWR)


_WATCH: ContextVar[_Watch] = ContextVar("watch")
"""The request in flight. urllib3 has no parameter that reaches down to the connection it picks or makes."""


class _Watched(HTTPConnection):
    """A connection whose socket the current watch can shut at any time."""

    def _new_conn(self) -> socket.socket:
        try:
            return self._connected(_WATCH.get())
        except (socket.gaierror, ValueError) as error:
            reason = error if isinstance(error, socket.gaierror) else socket.gaierror(socket.EAI_NONAME, "not a name")
            raise urllib3.exceptions.NameResolutionError(self.host, self, reason) from reason
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from error
        except OSError as error:
            # urllib3 swallows a bare ECONNRESET at this place, since it may come with an answer
            raise urllib3.exceptions.NewConnectionError(self, "no connection") from error

    def _connected(self, watch: _Watch) -> socket.socket:
        host, port = self._dns_host.strip("[]"), self.port
        problem = OSError("the name has no address")
        for family, kind, protocol, _, address in watch.resolve(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        ):
            attempt = socket.socket(family, kind, protocol)
            with ExitStack() as unless_connected:
                unless_connected.callback(attempt.close)
                try:
                    self._prepare(attempt, watch)
                    attempt.connect(address)
                except OSError as error:
                    problem = error
                else:
                    unless_connected.pop_all()
                    return attempt
            if watch.cut:
                break
        raise problem

    def _prepare(self, attempt: socket.socket, watch: _Watch) -> None:
        for option in self.socket_options or ():
            attempt.setsockopt(*option)
        attempt.settimeout(self.timeout)
        watch.hold(attempt.fileno())

    def connect(self) -> None:
        try:
            super().connect()
        finally:
            _WATCH.get().sent = False  # a CONNECT to a proxy is not yet the request

    def request(self, *args: Any, **options: Any) -> None:
        if self.sock is not None:  # kept alive from an earlier request, whose watch has let go of it
            _WATCH.get().hold(self.sock.fileno())
        super().request(*args, **options)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _WATCH.get().sent = True
        super().send(data)


class _WatchedTls(_Watched, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Watched


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedTls


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(requests.adapters.HTTPAdapter):
    """Mounted on a session, bounds each of its requests. Raises only ``SourceError`` and :class:`Stopped`."""

    def __init__(self, owner: "Http", key_password: Callable[[], str] | None) -> None:
        self._owner = owner
        self._key_password = key_password
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        if proxy.lower().startswith("socks"):
            # our connections would go past it, straight to the target
            raise Refused("a SOCKS proxy is not supported; name an http:// or https:// proxy")
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(self, *args: Any, **options: Any) -> tuple[Any, Any]:
        host, pool = super().build_connection_pool_key_attributes(*args, **options)
        return host, pool if self._key_password is None else {**pool, "key_password": self._key_password()}

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """The answer, read to its end and decoded. ``stream`` and ``timeout`` of the caller do not count."""
        owner, host, unsafe = self._owner, _host(request.url), request.method not in _SAFE
        total_s = owner._begin()
        if unsafe and owner.stop.grace_s is not None:
            # A write never rides on an idle connection: the server may close it at that moment, and nobody would know
            # whether the write was done.
            self.close()
        error: Exception | None = None
        with _Watch(total_s, owner.stop) as watch:
            token = _WATCH.set(watch)
            try:
                with owner.stop.interruptible(watch.abandon):
                    times = (owner.limits.connect_s, owner.limits.read_s)
                    response = super().send(request, True, times, verify, cert, proxies)
                    _read(response, owner.limits.body_bytes, host, sent=unsafe)
            except (*_WRAPPERS, *_ROOTS) as problem:
                error = problem
            finally:
                _WATCH.reset(token)
        sent = unsafe and watch.sent
        owner._end(sent=sent)
        if watch.cut:
            raise _cut_short(host, watch, total_s, sent=sent)
        if error is not None:
            raise _failure(host, error, sent=sent)
        owner.note(response.headers, response.status_code)
        _stay(response, host, sent=sent)
        return response


def _read(response: requests.Response, limit: int, host: str, *, sent: bool) -> None:
    raw, parts = response.raw, []
    announced = raw.length_remaining or 0
    size = announced if announced > limit else 0
    while size <= limit and (part := raw.read1(_CHUNK_BYTES, decode_content=True)):
        parts.append(part)
        size += len(part)
    if size > limit:
        raw.close()
        raise Unavailable(f"{host}: the answer is larger than {limit} bytes; ask for smaller pages", sent=sent)
    response._content = b"".join(parts)
    response._content_consumed = True  # type: ignore[attr-defined]


def _cut_short(host: str, watch: _Watch, total_s: float, *, sent: bool) -> Unavailable | Stopped:
    if not watch.stopped:
        return Unavailable(f"{host}: no complete answer within {total_s:g} s", sent=sent)
    if watch.grace_s is None:
        return Stopped()
    return Unavailable(f"{host}: cut {watch.grace_s:g} s after the order to stop", sent=sent)


def _stay(response: requests.Response, host: str, *, sent: bool) -> None:
    """Follow no redirect: elsewhere our credentials are not meant, and a redirected POST becomes a GET."""
    if not response.is_redirect:
        return
    try:
        target = _host(urljoin(response.url, response.headers["Location"]))
    except ValueError:
        target = "an unreadable address"
    if response.is_permanent_redirect:
        raise Refused(f"{host}: moved for good to {target}; correct the address of the source")
    raise Unavailable(f"{host}: sends us to {target}, perhaps to log in or to wait for maintenance", sent=sent)


class Http:
    """Sessions and retries of one credential, with one budget for all of them. One thread at a time.

    ``monotonic`` gives seconds and ``sleep`` takes them; ``jitter`` gives numbers from 0 to 1. ``requests_sent`` counts
    attempts of any outcome, ``waited_s`` the seconds slept between them.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        transport: Transport,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        stop: Stop,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.limits = limits
        self.stop = stop
        self.requests_sent = 0
        self.waited_s = 0.0
        self._transport = transport
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._pause_until = -1.0
        self._slow_until = -1.0
        """Until then reads leave what is left of a quota to writes."""
        self._writes_sent = 0

    def session(self) -> requests.Session:
        """A new session under our bounds. It keeps no cookie and follows no redirect."""
        session = requests.Session()
        self.bind(session)
        return session

    def bind(self, session: requests.Session) -> None:
        """Put a library's session under our bounds: no deadline, retry, proxy or cookie of its own is left."""
        session.trust_env = False
        session.proxies = {scheme: self._transport.proxy for scheme in ("http", "https") if self._transport.proxy}
        session.verify = self._transport.ca_bundle or True
        session.cert = self._transport.client_cert
        session.headers["User-Agent"] = f"itsms-sync/{__version__}"
        session.cookies.clear()
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        session.adapters.clear()
        adapter = _Adapter(self, self._transport.key_password)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        if hasattr(session, "max_retries"):  # the jira library's session repeats even a POST on its own
            session.max_retries = 0

    def reading(self, call: Callable[[], T]) -> T:
        """The result of ``call``, which is repeated on ``Unavailable``; at last raises that.

        Waits ``retry_after`` at least, else a growing time with jitter. Gives up at once if the source asks for more
        than ``max_retry_after_s``, and inside a write, where nobody waits. The order to stop raises :class:`Stopped`.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.limits.attempts),
            retry=tenacity.retry_if_exception(self._worth_waiting),
            wait=self._wait_before,
            sleep=self._pause,
            reraise=True,
        )
        result: T = retrying(self._read_once, call)
        return result

    def writing(self, call: Callable[[], T]) -> T:
        """The result of ``call``, made exactly once and shielded from the order to stop.

        Raises ``Unavailable`` with ``sent`` set when the outcome is unclear. ``Stopped`` means that nothing was sent.
        """
        self._take_turn(self._pause_until)
        before = self._writes_sent
        with self.stop.shielded(_GRACE_S):
            try:
                return call()
            except _WRAPPERS as error:
                raise failure(error, sent=self._writes_sent > before) from None

    def note(self, headers: Mapping[str, str], status: int) -> None:
        """Learn from an answer when the next request of this credential may start."""
        if status == 202 or 300 <= status < 400:
            return  # here Retry-After speaks of that one resource
        # Without a Date of the server's own, a date cannot be measured on a monotonic clock: it is taken as past.
        now, wait_s = self._monotonic(), retry_after(headers, now=float("inf"))
        if wait_s:
            self._pause_until = max(self._pause_until, now + min(wait_s, _LONGEST_PAUSE_S))
        self._slow_until = now + min(spare(headers), _LONGEST_PAUSE_S)

    def _begin(self) -> float:
        """Wait for the budget, count a request, and tell how many seconds it may take."""
        writes = self.stop.grace_s is not None
        self._take_turn(self._pause_until if writes else max(self._pause_until, self._slow_until))
        self.requests_sent += 1
        return self.limits.write_total_s if writes else self.limits.total_s

    def _end(self, *, sent: bool) -> None:
        """Remember whether something unsafe may have reached the source."""
        self._writes_sent += sent

    def _take_turn(self, pause_until: float) -> None:
        left_s = pause_until - self._monotonic()
        if left_s > 0 and (self.stop.grace_s is not None or left_s > self.limits.max_retry_after_s):
            raise Unavailable(f"the source asked for a pause that lasts {left_s:.0f} s more", retry_after=left_s)
        self._pause(max(left_s, 0.0))
        # A sleep may end a little early. What was sat out is over, or the next request would find a rest of it.
        if left_s > 0:
            self._pause_until = -1.0 if self._pause_until <= pause_until else self._pause_until
            self._slow_until = -1.0 if self._slow_until <= pause_until else self._slow_until

    def _pause(self, seconds: float) -> None:
        with self.stop.interruptible():
            if seconds > 0:
                self._sleep(seconds)
                self.waited_s += seconds

    def _read_once(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Unavailable as error:
            error.sent = False  # some reads are POSTs; repeating them harms nobody
            raise
        except _WRAPPERS as error:
            raise failure(error, sent=False) from None

    def _worth_waiting(self, error: BaseException) -> bool:
        return (
            isinstance(error, Unavailable)
            and (error.retry_after or 0.0) <= self.limits.max_retry_after_s
            and self.stop.grace_s is None
        )

    def _wait_before(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after or 0.0 if isinstance(error, Unavailable) else 0.0
        grown_s = min(self.limits.max_wait_s, self.limits.backoff_s * 2.0 ** (state.attempt_number - 1))
        return max(asked_s, grown_s * (0.5 + self._jitter() / 2))


_MALFORMED = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
    urllib3.exceptions.LocationValueError,
)
_SENTENCES: tuple[tuple[type[BaseException], str], ...] = (
    (urllib3.exceptions.ProxyError, "the proxy let nothing through"),
    (socket.gaierror, "its name could not be resolved"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted; check `ca_bundle`"),
    (ssl.SSLError, "no secure connection"),
    (ConnectionRefusedError, "it refused the connection"),
    (urllib3.exceptions.NewConnectionError, "no connection"),
    (urllib3.exceptions.ConnectTimeoutError, "no connection in time"),
    (TimeoutError, "it fell silent"),
    (urllib3.exceptions.TimeoutError, "it fell silent"),
    (requests.Timeout, "it fell silent"),
    (http.client.IncompleteRead, "it broke off its answer"),
    (ConnectionError, "it closed the connection before it had answered"),
    (http.client.HTTPException, "what it sent is not HTTP"),
    (urllib3.exceptions.InvalidHeader, "what it sent is not HTTP"),
    (zlib.error, "its answer cannot be decompressed"),
    (urllib3.exceptions.DecodeError, "its answer cannot be decompressed"),
    (json.JSONDecodeError, "its answer is not JSON"),
    (UnicodeDecodeError, "its answer is not JSON"),
    (requests.JSONDecodeError, "its answer is not JSON"),
)


def failure(error: Exception, *, sent: bool) -> SourceError:
    """What a transport's exception means to us: ``Unavailable``, or ``Refused`` if the address itself is wrong.

    The sentence names host and root cause, never a path, a query or a header; ``sent`` as in ``Unavailable``. A
    ``SourceError`` is returned as it is.
    """
    if isinstance(error, SourceError):
        return error
    request = getattr(error, "request", None)
    return _failure(_host(getattr(request, "url", None)), error, sent=sent)


def _failure(host: str, error: Exception, *, sent: bool) -> SourceError:
    chain = _chain(error)
    if alert := next((link for link in chain if isinstance(link, ssl.SSLError) and _is_about_us(link)), None):
        return LoggedOut(
            f"{host}: it does not accept our client certificate{_detail(alert)}; see that the certificate has not "
            "expired, and that the source trusts its issuer"
        )
    if isinstance(error, _MALFORMED) and not any(isinstance(link, urllib3.exceptions.InvalidHeader) for link in chain):
        return Refused(f"{host}: a malformed address, proxy or header; does the credential end in a line break?")
    said = next((text for kind, text in _SENTENCES for link in chain if isinstance(link, kind)), "the exchange failed")
    root = next((link for link in chain if isinstance(link, _ROOTS) and not isinstance(link, _WRAPPERS)), None)
    told = Unavailable(f"{host}: {said}{_detail(root)}", sent=sent)
    # Only the root is chained: the links above it carry the request, its address and its credentials.
    told.__cause__ = root.with_traceback(None) if root else None
    return told


def _is_about_us(error: ssl.SSLError) -> bool:
    """Whether the other side broke the handshake off over our certificate, or for want of one."""
    reason = getattr(error, "reason", None) or ""
    return "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED"))


def _detail(root: BaseException | None) -> str:
    if isinstance(root, ssl.SSLCertVerificationError):
        return f" ({_printable(root.verify_message, 200)})"
    if isinstance(root, OSError):
        return f" ({_printable(root.strerror or str(root), 200)})"
    return ""


def _chain(error: BaseException) -> list[BaseException]:
    """``error`` and all that it wraps, innermost first. The libraries wrap by argument, by ``reason`` and by cause."""
    found: list[BaseException] = []
    ahead: list[object] = [error]
    while ahead:
        link = ahead.pop()
        if isinstance(link, BaseException) and all(link is not known for known in found):
            found.append(link)
            ahead += [*link.args, getattr(link, "reason", None), link.__cause__]
    return found[::-1]


def _host(url: str | bytes | None) -> str:
    """Host and port of an address, without the user that may stand before them."""
    text = url.decode("latin-1") if isinstance(url, bytes) else url or ""
    try:
        return _printable(urlsplit(text).netloc.rpartition("@")[2]) or "the source"
    except ValueError:
        return "the source"


def _printable(text: str, length: int = 80) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:length]


_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile(rb"(\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)|\\u(?:0000|[dD][89a-fA-F]..)", re.DOTALL)
"""NUL and surrogates without their other half; what has to be passed over comes first."""
_NO_NUMBER = re.compile(rb"[:\[,]\s*-?(?:NaN|Infinity)\b")
_JSON_TYPE = re.compile(r"(application|text)/([\w.+-]+\+)?json\s*(;.*)?", re.IGNORECASE | re.DOTALL)


def answer(response: requests.Response) -> Any:
    """The JSON of an answer.

    Raises ``Unavailable`` for what is none: 202 (accepted is not done), no body, another content type, text that does
    not parse. Vendors send each of them with a status of success. ``sent`` is set unless the request was a safe one.
    Characters that no database stores become U+FFFD and numbers that are none become null, so that one odd record does
    not keep all others from being read.
    """
    kind, body = response.headers.get("Content-Type", ""), response.content
    if response.status_code == 202 or not body:
        raise _no_answer(response, "nothing done yet" if response.status_code == 202 else "an empty body")
    if not _JSON_TYPE.fullmatch(kind.strip()):
        raise _no_answer(response, f"{_printable(kind) or 'no content type'}, not JSON")
    try:
        return _loaded(_UNSTORABLE.sub(_storable, body) if _SUSPECT.search(body) else body)
    except (ValueError, RecursionError):
        raise _no_answer(response, "broken JSON") from None


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if _NO_NUMBER.search(body):
            return json.loads(body, parse_constant=lambda _: None)
        raise


def _storable(match: re.Match[bytes]) -> bytes:
    return match[1] or rb"\ufffd"


def _no_answer(response: requests.Response, what: str) -> Unavailable:
    start = _printable(response.content[:400].decode("utf-8", "replace"))
    came = f"{_host(response.url)}: status {response.status_code} with {what}" + (f": {start!r}" if start else "")
    return Unavailable(came, sent=response.request.method not in _SAFE)


_SECONDS = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,9})?")
_EPOCH = re.compile(r"[0-9]{10}")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the source asks us to wait, never negative; ``None`` if it asks for nothing that can be understood.

    ``Retry-After`` in seconds or as a date; failing that ``X-RateLimit-Reset`` once ``X-RateLimit-Remaining`` is 0. An
    instant is measured from the answer's own ``Date``, else from ``now`` (seconds since 1970).
    """
    fields = CaseInsensitiveDict(headers)
    asked = fields.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(asked):
        return max(0.0, float(asked))
    until = http_date_millis(asked)
    if until is None and fields.get("X-RateLimit-Remaining", "").strip() == "0":
        until = _reset_millis(fields.get("X-RateLimit-Reset", "").strip())
    if until is None:
        return None
    server_now = http_date_millis(fields.get("Date"))
    return max(0.0, until / 1000 - (now if server_now is None else server_now / 1000))


_QUOTA = re.compile(r"(?:^|;)\s*([a-z])\s*=\s*([0-9]{1,9})(?=\s*(?:;|,|$))", re.IGNORECASE)


def spare(headers: Mapping[str, str]) -> float:
    """Seconds for which reads should rest, so that writes still find something of a quota that is nearly used up.

    Jira Cloud says that a limit is near, and tells its quota of points in ``Beta-RateLimit-Policy`` and
    ``Beta-RateLimit``: ``q`` points in all, ``r`` left for the next ``t`` seconds. Data Center counts tokens and how
    fast they come back.
    """
    fields = CaseInsensitiveDict(headers)
    quota = {
        name.lower(): int(number)
        for field in ("Beta-RateLimit-Policy", "Beta-RateLimit")
        for name, number in _QUOTA.findall(fields.get(field, ""))
    }
    if "r" in quota and quota["r"] <= quota.get("q", 0) * _RESERVE:
        return float(quota.get("t", 0))
    if fields.get("X-RateLimit-NearLimit", "").strip().lower() == "true":
        return _NEAR_LIMIT_S
    limit, left, fill, interval_s = (
        _number(fields.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining", "FillRate", "Interval-Seconds")
    )
    return interval_s / fill if fill and left <= limit * _LOW else 0.0


def _number(text: str | None) -> float:
    """Of a header; 0 where there is none."""
    return float(text) if text is not None and _SECONDS.fullmatch(text.strip()) else 0.0


def _reset_millis(text: str) -> Millis | None:
    """ServiceNow sends seconds since 1970, Jira an ISO stamp."""
    if _EPOCH.fullmatch(text):
        return int(text) * 1000
    try:
        return _millis(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def http_date_millis(value: str | None) -> Millis | None:
    """The instant of an HTTP date in any of its three forms, ``None`` for anything else."""
    try:
        return _millis(parsedate_to_datetime(value or ""))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _millis(stamp: datetime) -> Millis:
    aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    return calendar.timegm(aware.utctimetuple()) * 1000
