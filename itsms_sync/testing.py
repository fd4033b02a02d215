"""The suite that every plug-in must pass, for authors of plug-ins to import in their tests.

Owns what holds for all connectors whatever they connect: what they may raise, what a page is, how a write ends. Leaves
to the plug-in's own tests what is true of its product alone. The program never imports it; it needs pytest.

Copy ``tests/test_contract.py`` to begin: subclass :class:`ConnectorContract` and give it the fixtures that it names.
The source is reached through a :class:`Wire`, a proxy that spoils answers, so that a simulator needs no faults of its
own. What a connector answers with a ``Gap`` is skipped with the gap's own words; there is nothing to switch off.
"""

import base64
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import pytest

from itsms_sync.connector import Access, Connector, Plugin, Refused, SourceError, Unavailable
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.login import OPEN, OAuth
from itsms_sync.records import (
    Action,
    Block,
    Bounds,
    Configuration,
    Directory,
    Gap,
    Gone,
    Identity,
    Millis,
    Page,
    Presence,
    Record,
    Row,
    Ticket,
    What,
    Window,
    Write,
    Written,
)

# --- the wire ---------------------------------------------------------------------------------------------------------

P = TypeVar("P")
Asked = Sequence[tuple[str, str]]
"""Method and target of the requests so far, oldest first, the present one last."""
_LOGIN_PAGE = b"<!DOCTYPE html><html><body><h1>Log in to continue</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """How the wire spoils an answer."""

    name: str
    do: str = "answer"
    """``answer`` as given; ``echo`` the credential; ``reset`` before the source hears of it; ``drop`` or ``truncate``
    after it has acted."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"error":{"message":"spoiled"},"errorMessages":["spoiled"]}'
    kind: str = "application/json"

    def __str__(self) -> str:
        return self.name


_DISTINCT = (
    Fault("status 500", status=500),
    *(Fault(f"429 after {asked!r}", status=429, headers={"Retry-After": asked}) for asked in ("7", "soon")),
    *(Fault(f"status {status}", status=status) for status in (400, 401, 403, 404)),
    Fault("a page of HTML", body=_LOGIN_PAGE, kind="text/html;charset=UTF-8"),
    Fault("HTML called JSON", body=_LOGIN_PAGE),
    Fault("accepted and nothing else", status=202, body=b""),
    Fault("a redirect to a login", status=302, headers={"Location": "https://login.invalid/"}, body=b""),
    Fault("JSON of another form: {}", body=b"{}"),
    Fault("text that repeats our credential", do="echo", kind="text/plain"),
    Fault("a truncated body", do="truncate"),
    Fault("a reset connection", do="reset"),
    Fault("a connection closed after the source has acted", do="drop"),
)
FAULTS = (
    *_DISTINCT,
    *(Fault(f"status {status}", status=status) for status in (502, 503)),
    *(
        Fault(f"429 after {asked!r}", status=429, headers={"Retry-After": asked})
        for asked in ("0.5", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "86400")
    ),
    *(Fault(f"status {status}", status=status) for status in (409, 410)),
    Fault("success without a body", body=b""),
    *(Fault(f"JSON of another form: {form.decode()}", body=form) for form in (b"[]", b"null")),
    Fault("an error that repeats our credential", do="echo", status=400),
)
"""What a source may do to any request. After the distinct ones come variations of them."""


class Wire:
    """A proxy in front of a source. It forwards everything until it is told to misbehave."""

    def __init__(self, upstream: str) -> None:
        self.asked: list[tuple[str, str]] = []
        self.proofs: set[str] = set()
        """Tokens, keys and pairs of user and secret that requests came with."""
        self.answered: list[bytes] = []
        """Bodies that the source sent."""
        self._upstream = urlsplit(upstream).netloc
        self._fault: tuple[Fault, Callable[[Asked], bool]] | None = None
        wire = self

        class Handler(_Handler):
            owner = wire

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.002})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def misbehave(self, fault: Fault, when: Callable[[Asked], bool] = lambda asked: True) -> None:
        """Spoil each request for which ``when`` holds."""
        self._fault = (fault, when)

    def behave(self) -> None:
        self._fault = None

    def fault(self) -> Fault | None:
        """What to do with the present request, the last of ``asked``."""
        return self._fault[0] if self._fault and self._fault[1](self.asked) else None

    def forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any, bytes]:
        """Status, headers and body of the source's answer."""
        connection = http.client.HTTPConnection(self._upstream, timeout=10)
        try:
            connection.request(method, target, body or None, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        self.answered.append(content)
        return answer.status, answer.headers, content


class _Handler(BaseHTTPRequestHandler):
    """One connection of the wire; it ends with its first answer, so that no fault meets a reused connection."""

    owner: Wire
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.owner.asked.append((self.command, self.path))
        self.owner.proofs.update(filter(None, self._proofs()))
        fault = self.owner.fault()
        if fault is None or fault.do in ("drop", "truncate"):
            headers = {name: text for name, text in self.headers.items() if name.lower() != "connection"}
            status, answered, content = self.owner.forward(self.command, self.path, headers, body)
            cut = fault is not None and fault.do == "truncate"
            if fault is None or cut:
                self._answer(status, answered, content, cut=cut)
        elif fault.do == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            content = self._credential() if fault.do == "echo" else fault.body
            self._answer(fault.status, {**fault.headers, "Content-Type": fault.kind}, content, cut=False)

    def _proofs(self) -> tuple[str, str]:
        return self.headers.get("Authorization", "").partition(" ")[2], self.headers.get("X-Sn-Apikey", "")

    def _credential(self) -> bytes:
        """What a careless source may repeat in its answer."""
        proof, key = self._proofs()
        is_pair = self.headers.get("Authorization", "").startswith("Basic ")
        plain = base64.b64decode(proof).decode("utf-8", "replace") if is_pair else proof
        told = f"{plain.rpartition(':')[2]} {self.headers.get('Authorization', '')} {key}"
        return json.dumps({"errorMessages": [told], "error": {"message": told}}).encode()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _answer(self, status: int, headers: Any, content: bytes, *, cut: bool) -> None:
        self.send_response_only(status)
        for name, text in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "keep-alive"):
                self.send_header(name, text)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content) + cut))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


# --- what an author needs to connect ----------------------------------------------------------------------------------


class Pseudonyms:
    """A border that remembers what it replaced."""

    def __init__(self) -> None:
        self.persons: set[str] = set()
        self.texts: set[str] = set()

    def person(self, form: str, identifier: str) -> str:
        self.persons.add(identifier)
        return f"p_{hash((form, identifier)) & 0xFFFFFFFFFFFF:012x}"

    def text(self, value: str) -> str:
        if not value:
            return ""
        self.texts.add(value)
        return f"text:{hash(value) & 0xFFFFFFFFFFFF:012x}"


def quick_access(
    plugin: Plugin,
    url: str,
    options: Mapping[str, Any],
    credential: Mapping[str, str],
    border: Pseudonyms,
) -> Access:
    """What a connector is given, with short deadlines and waits that take no time.

    A ``credential`` with ``grant`` is what access tokens of OAuth are asked for with.
    """
    http = Http(
        limits=Limits(connect_s=2, read_s=4, total_s=5, write_total_s=4, attempts=3, max_retry_after_s=600),
        transport=Transport(),
        monotonic=time.monotonic,
        sleep=lambda seconds: None,
        stop=Stop(),
    )
    access = Access("contract", url, plugin.check_options(options), http, border, lambda: credential)
    if "grant" not in credential:
        return access
    tokens = OAuth(
        http, time.monotonic, plugin.logins.token_url(url), credential["grant"], access.credential, _Nowhere()
    )
    return replace(access, credential=tokens.credential, refused=tokens.refused)


class _Nowhere:
    """Keeps no refresh token: each connector of the suite asks for tokens of its own."""

    def check_replaceable(self) -> None:
        return

    def replace(self, token: str) -> None:
        return


@dataclass(frozen=True, slots=True)
class Case:
    """A plug-in and what the suite has to know of its simulator."""

    plugin: Plugin
    options: Mapping[str, Any]
    credential: Mapping[str, str]
    wrong_credential: Mapping[str, str]
    """Of the same form, with a secret that the source does not accept."""
    powerless: Mapping[str, Any]
    """Options under which the account may not create tickets."""
    creates: Callable[[str, str], bool]
    """``(method, target)`` -> whether the request creates a ticket."""
    kind: str = "incident"
    window: Window | None = None
    """Small pages, with rows that tie over their borders; ``None`` for a target that is no source."""
    unasked: tuple[str, ...] = ()
    """Words that stand in the source only in fields that the window does not ask for."""
    persons: tuple[str, ...] = ()
    """Identifiers of persons that stand in the fields asked for; none if the kind names nobody."""
    path: str = ""
    """Of the source, below the simulator's address."""

    def is_secret_in(self, text: str) -> bool:
        """Whether a secret, the start of one, or a pair of user and secret as it travels stands in ``text``."""
        for given in (self.credential, self.wrong_credential):
            secrets = [word for name, word in given.items() if name not in (*OPEN, "grant")]
            pairs = [f"{given.get('username', '')}:{secret}".encode() for secret in secrets]
            forms = [*(secret[:12] for secret in secrets), *(base64.b64encode(pair).decode() for pair in pairs)]
            if any(form in text for form in forms):
                return True
        return False


# --- the suite --------------------------------------------------------------------------------------------------------

_BODY = (
    Block("heading", "What was required"),
    Block("paragraph", "Every incident {code} is *resolved* [in time]. <b>No</b> & never\\late."),
)
_EMPTY = Window(("number",), {}, 60_000, 100)
CALLS: Mapping[str, Callable[[Connector, Case], Any]] = {
    "identify": lambda connector, case: connector.identify(),
    "pull": lambda connector, case: _drained(connector.pull(case.kind, case.window or _EMPTY)),
    "bounds": lambda connector, case: connector.bounds(case.kind, case.window or _EMPTY),
    "present": lambda connector, case: _drained(connector.present(case.kind, case.window or _EMPTY, "")),
    "fate": lambda connector, case: connector.fate(case.kind, ["1" * 8], case.window or _EMPTY),
    "read": lambda connector, case: _drained(connector.read(case.kind, case.window or _EMPTY, ["1" * 8])),
    "directory": lambda connector, case: connector.directory(),
    "configuration": lambda connector, case: connector.configuration(case.kind),
    "find": lambda connector, case: connector.find("SPOILED.all.g1"),
    "ticket": lambda connector, case: connector.ticket("1" * 32),
    "ours": lambda connector, case: _listed(connector.ours(None)),
    "commented": lambda connector, case: connector.commented("1" * 32, "itsms0"),
    "create": lambda connector, case: connector.write(creation("SPOILED.all.g1")),
    "comment": lambda connector, case: connector.write(Write(Action.COMMENT, "SPOILED.all.g1", "1" * 32, body=_BODY)),
}


ANSWERS: Mapping[str, type] = {
    "identify": Identity,
    "pull": list,
    "bounds": Bounds,
    "present": list,
    "fate": Sequence,
    "read": list,
    "directory": Directory,
    "configuration": Configuration,
    "find": Sequence,
    "ticket": Gone,
    "ours": list,
    "create": Written,
}


def creation(key: str) -> Write:
    """A ticket that every target can hold."""
    return Write(
        Action.CREATE,
        key,
        summary="Incidents are resolved late",
        body=_BODY,
        properties={"generation": 1},
        severity="S1",
    )


class ConnectorContract:
    """Subclass it, name the class ``Test…`` and give it two fixtures.

    ``case`` is a :class:`Case`; ``simulator_url`` starts the simulator with the data that the case speaks of and stops
    it afterwards. A target whose search lags also overrides ``settle``.
    """

    # --- fixtures

    @pytest.fixture
    def case(self) -> Case:
        raise NotImplementedError("give the class a fixture `case`")

    @pytest.fixture
    def simulator_url(self) -> Iterator[str]:
        raise NotImplementedError("give the class a fixture `simulator_url`")

    @pytest.fixture
    def settle(self) -> Callable[[float], None]:
        """Lets the seconds pass after which search must show what was written."""
        return lambda seconds: None

    @pytest.fixture
    def now(self) -> Millis:
        return round(time.time() * 1000)

    @pytest.fixture
    def wire(self, simulator_url: str) -> Iterator[Wire]:
        with Wire(simulator_url) as wire:
            yield wire

    @pytest.fixture
    def border(self) -> Pseudonyms:
        return Pseudonyms()

    @pytest.fixture
    def connector(self, case: Case, wire: Wire, border: Pseudonyms) -> Connector:
        return _connected(case, wire, border)

    # --- whatever the source does

    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    def test_only_two_kinds_of_failure(self, case: Case, wire: Wire, border: Pseudonyms, fault: Fault) -> None:
        wire.misbehave(fault)
        for call in CALLS.values():
            connector = _connected(case, wire, border)
            failed = _failure(lambda call=call, connector=connector: call(connector, case), case)  # type: ignore[misc]
            assert failed is None or str(failed)

    @pytest.mark.parametrize("fault", _DISTINCT, ids=str)
    def test_only_two_kinds_of_failure_later_on(self, case: Case, wire: Wire, border: Pseudonyms, fault: Fault) -> None:
        """The source has answered well before, and every other answer still is good."""
        for call in CALLS.values():
            wire.behave()
            connector = _connected(case, wire, border)
            connector.identify()
            wire.misbehave(fault, when=lambda asked: len(asked) % 2 == 1)
            failed = _failure(lambda call=call, connector=connector: call(connector, case), case)  # type: ignore[misc]
            assert failed is None or str(failed)

    @pytest.mark.parametrize(("call", "form"), ANSWERS.items())
    def test_every_call_answers_or_says_why_not(self, case: Case, connector: Connector, call: str, form: type) -> None:
        result = CALLS[call](connector, case)
        assert _is_told(result) if isinstance(result, Gap) else isinstance(result, form)

    def test_identity_is_complete(self, connector: Connector, now: Millis) -> None:
        identity = connector.identify()
        assert identity.product
        assert identity.instance
        assert identity.account
        assert identity.simulated
        assert identity.server_time is None or 300_000 > abs(identity.server_time - now)

    def test_wrong_credentials_are_refused(self, case: Case, wire: Wire, border: Pseudonyms) -> None:
        wrong = replace(case, credential=case.wrong_credential)
        for call in ("identify", "find", "ticket", "ours", "create"):
            failed = _failure(lambda call=call: CALLS[call](_connected(wrong, wire, border), case), case)  # type: ignore[misc]
            assert isinstance(failed, Refused), f"{call}: {failed!r}"

    def test_options_are_checked(self, case: Case) -> None:
        with pytest.raises(ValueError, match="no_such_option"):
            case.plugin.check_options({**case.options, "no_such_option": 1})

    def test_nothing_translates_to_nothing(self, case: Case) -> None:
        facts = case.plugin.translate(case.kind, ())
        assert ((), ()) == (tuple(facts.records), tuple(facts.events))

    def test_a_record_has_an_address(self, case: Case) -> None:
        address = case.plugin.record_url("https://desk.example/", case.kind, "0a1b", "INC1")
        assert address.startswith("https://desk.example/")
        assert "0a1b" in address or "INC1" in address

    # --- reading

    def test_pages_are_complete_and_checked(self, case: Case, connector: Connector) -> None:
        pages = _pages(case, connector)
        assert any(page.rows for page in pages)
        for page in pages:
            facts = case.plugin.translate(case.kind, page.rows)
            assert (list(facts.records), list(facts.events)) == (list(page.records), list(page.events))
            assert list(facts.gone) == list(page.gone)
            assert all(row.stream == page.stream for row in page.rows)
            assert isinstance(page.cursor, str)
            assert page.asked
        for stream, of_stream in _by_stream(pages).items():
            closed = [page.closed for page in of_stream]
            assert [*[False] * (len(closed) - 1), True] == closed, f"only the last page of {stream} ends its window"

    def test_no_row_comes_twice_in_a_window(self, case: Case, connector: Connector) -> None:
        for stream, of_stream in _by_stream(_pages(case, connector)).items():
            keys = [row.key for page in of_stream for row in page.rows]
            assert len(set(keys)) == len(keys), f"{stream} gave a row twice"

    def test_small_pages_lose_nothing(self, case: Case, connector: Connector) -> None:
        small = _pages(case, connector)
        assert case.window is not None
        assert len(small) > len(_by_stream(small)), "the window's pages are too large to test borders between them"
        large = _pages(case, connector, replace(case.window, page_size=10_000))
        assert _rows(large) == _rows(small)

    def test_reading_again_gives_the_same(self, case: Case, connector: Connector) -> None:
        first, second = _pages(case, connector), _pages(case, connector)
        assert _rows(first) == _rows(second)
        assert _witnesses(first) == _witnesses(second)

    def test_a_later_window_brings_only_the_overlap(self, case: Case, connector: Connector) -> None:
        first = _pages(case, connector)
        assert case.window is not None
        second = _pages(case, connector, replace(case.window, cursors=_cursors(first)))
        assert _rows(second).items() <= _rows(first).items()
        for stream, of_stream in _by_stream(first).items():
            newest = max((_instant(page) for page in of_stream if page.rows), default=None)
            again = [fact for page in second if page.stream == stream for fact in _instants(page)]
            assert newest is None or all(at >= newest - case.window.overlap - 1000 for at in again), stream

    def test_an_interrupted_window_goes_on_where_it_stood(self, case: Case, connector: Connector) -> None:
        whole = _pages(case, connector)
        assert case.window is not None
        for kept in range(len(whole)):
            before = whole[: kept + 1]
            after = _pages(case, connector, replace(case.window, cursors=_cursors(before)))
            assert _rows(whole) == {**_rows(before), **_rows(after)}

    def test_windows_that_touch_show_all_and_nothing_twice(self, case: Case, connector: Connector) -> None:
        whole, edges = _pages(case, connector), _edges(case, connector)
        assert case.window is not None
        found: list[tuple[str, str]] = []
        for since, until in pairwise((None, *edges, None)):
            pages = _pages(case, connector, replace(case.window, since=since, until=until))
            found += [key for page in pages for key in _rows([page])]
        assert sorted(_rows(whole)) == sorted(set(found))
        of_records = [key for key in found if key[0] == case.kind]
        assert len(set(of_records)) == len(of_records), "a record is in two windows"

    def test_an_interrupted_window_of_the_past_goes_on_where_it_stood(self, case: Case, connector: Connector) -> None:
        _pages(case, connector)  # passes over a target that is no source
        assert case.window is not None
        window = replace(case.window, until=_edges(case, connector)[-1])
        whole = _pages(case, connector, window)
        for kept in range(len(whole)):
            before = whole[: kept + 1]
            after = _pages(case, connector, replace(window, cursors=_cursors(before)))
            assert _rows(whole) == {**_rows(before), **_rows(after)}

    def test_bounds_are_those_of_what_there_is(self, case: Case, connector: Connector) -> None:
        updated = [record.updated for page in _pages(case, connector) for record in page.records]
        bounds = _bounds(case, connector)
        assert case.window is not None
        assert bounds.first <= min(updated)
        assert bounds.last >= max(updated)
        assert connector.bounds(case.kind, replace(case.window, until=_edges(case, connector)[0])) is None

    def test_times_are_milliseconds_in_utc(self, case: Case, connector: Connector, now: Millis) -> None:
        latest = now + 86_400_000
        for page in _pages(case, connector):
            instants = [*_instants(page), *(record.created for record in page.records if record.created is not None)]
            assert all(type(at) is int for at in instants)
            assert all(946_684_800_000 < at < latest for at in instants), "before the year 2000 or in the future"

    def test_events_name_record_field_and_witness(self, case: Case, connector: Connector) -> None:
        pages = _pages(case, connector)
        records = {record.id for page in pages for record in page.records}
        events = [event for page in pages for event in page.events]
        assert all(event.witness and event.witness_id and event.record for event in events)
        assert len({(event.witness, event.witness_id, event.field) for event in events}) == len(events)
        assert not events or records & {event.record for event in events}

    def test_persons_and_texts_stay_behind_the_border(
        self, case: Case, connector: Connector, border: Pseudonyms
    ) -> None:
        found = [page for page in _pages(case, connector) if page.rows]
        values = {text for page in found for text in _texts(page)}
        assert border.persons or not case.persons, "no person was met; let the simulator's data hold some"
        assert set() == values & (border.persons | border.texts)
        assert [] == [text for text in values for person in case.persons if person in text]
        directory = connector.directory()
        if isinstance(directory, Directory):
            assert set() == {name for person in directory.people for name in person.names} & border.persons

    def test_only_what_is_asked_for_is_fetched(self, case: Case, connector: Connector, wire: Wire) -> None:
        pages = _pages(case, connector)
        for page in pages:
            assert set() == {name for row in page.rows for name in row.body} - set(page.fields)
        fetched = b"".join(wire.answered).decode("utf-8", "replace")
        assert [] == [word for word in case.unasked if word in fetched]

    # --- what is there

    def test_presence_shows_every_record_once(self, case: Case, connector: Connector) -> None:
        known = {record.id: record for page in _pages(case, connector) for record in page.records}
        pages = _presences(case, connector)
        assert [*[False] * (len(pages) - 1), True] == [page.closed for page in pages]
        shown = [record for page in pages for record in page.records]
        assert sorted(known) == sorted(record.id for record in shown)
        assert all(_agree(record, known[record.id]) for record in shown)
        assert all(page.asked for page in pages)

    def test_small_pages_of_presence_go_on_where_they_stood(self, case: Case, connector: Connector) -> None:
        whole = _presences(case, connector)
        assert len(whole) > 1, "the window's pages are too large to test borders between them"
        for kept in range(len(whole) - 1):
            rest = _presences(case, connector, whole[kept].cursor)
            before = {record.id for page in whole[: kept + 1] for record in page.records}
            after = {record.id for page in rest for record in page.records}
            assert {record.id for page in whole for record in page.records} == before | after

    def test_presence_keeps_persons_behind_the_border(
        self, case: Case, connector: Connector, border: Pseudonyms
    ) -> None:
        records = [record for page in _presences(case, connector) for record in page.records]
        values = {text for record in records for text in record.fields.values() if text}
        assert set() == values & (border.persons | border.texts)

    def test_a_spoiled_answer_never_ends_presence(self, case: Case, wire: Wire, border: Pseudonyms) -> None:
        """Absence follows from what presence shows, so it shows all or raises."""
        whole = {record.id for page in _presences(case, _connected(case, wire, border)) for record in page.records}
        for fault, number in ((fault, number) for fault in FAULTS for number in (1, 2)):
            start, connector = len(wire.asked), _connected(case, wire, border)
            wire.misbehave(fault, when=lambda asked, last=start + number: len(asked) >= last)  # type: ignore[misc]
            shown: list[Presence] = []
            failed = _failure(lambda connector=connector, shown=shown: _shown(case, connector, shown), case)  # type: ignore[misc]
            wire.behave()
            assert failed is not None or whole == {record.id for page in shown for record in page.records}, fault
            assert failed is None or not any(page.closed for page in shown), fault

    def test_what_is_there_is_told_to_be_there(self, case: Case, connector: Connector) -> None:
        shown = {record.id: record for page in _presences(case, connector) for record in page.records}
        told = connector.fate(case.kind, sorted(shown), case.window or _EMPTY)
        assert not isinstance(told, Gap)
        assert sorted(shown) == [fate.id for fate in told]
        assert {What.PRESENT.value} == {fate.what for fate in told}
        assert all(fate.record is not None and _agree(fate.record, shown[fate.id]) for fate in told)

    def test_what_nobody_knows_is_not_told_to_be_deleted(self, case: Case, connector: Connector) -> None:
        _presences(case, connector)
        unknown = ["9" * 8, "8" * 8]
        told = connector.fate(case.kind, unknown, case.window or _EMPTY)
        assert not isinstance(told, Gap)
        assert [(id_, What.UNREADABLE.value) for id_ in unknown] == [(fate.id, fate.what) for fate in told]
        assert all(fate.note for fate in told)

    def test_named_records_come_as_a_poll_gives_them(self, case: Case, connector: Connector) -> None:
        whole = _pages(case, connector)
        ids = sorted({record.id for page in whole for record in page.records})[::3]
        _presences(case, connector)
        some = _drained(connector.read(case.kind, case.window or _EMPTY, ids))
        assert not isinstance(some, Gap)
        chosen = [page for page in whole if page.records or page.events]
        records = {record for page in chosen for record in map(_frozen_record, page.records) if record[1] in ids}
        events = {event for page in chosen for event in page.events if event.record in ids}
        assert records == {record for page in some for record in map(_frozen_record, page.records)}
        assert events == {event for page in some for event in page.events}

    # --- writing

    def test_an_unknown_key_is_nowhere(self, connector: Connector) -> None:
        assert [] == _found(connector, "NOBODY.all.g1")

    def test_a_created_ticket_is_read_back_and_found_once(
        self, connector: Connector, settle: Callable[[float], None]
    ) -> None:
        key = "INC-I5-WORK.all.g1"
        outcome = _performed(connector, creation(key))
        assert outcome.ticket is not None
        assert (outcome.id, outcome.label, key) == (outcome.ticket.id, outcome.ticket.label, outcome.ticket.key)
        assert "Incidents are resolved late" == outcome.ticket.summary
        assert outcome.url.startswith("http")
        assert all(isinstance(sentence, str) and sentence for sentence in outcome.dropped)
        settle(connector.index_lag)
        assert [outcome.id] == [ticket.id for ticket in _found(connector, key)]
        assert [] == _found(connector, "INC-I5-WORK.all.g2")

    def test_tickets_with_one_key_are_all_found_oldest_first(
        self, connector: Connector, settle: Callable[[float], None]
    ) -> None:
        ids = [_performed(connector, creation("TWICE.all.g1")).id for _ in range(2)]
        settle(connector.index_lag)
        assert sorted(ids) == sorted(ticket.id for ticket in _found(connector, "TWICE.all.g1"))
        stamps = [ticket.created for ticket in _found(connector, "TWICE.all.g1")]
        assert stamps == sorted(stamps, key=lambda at: at or 0)

    def test_a_ticket_is_read_by_its_id(self, connector: Connector) -> None:
        made = _performed(connector, creation("BY-ID.all.g1"))
        ticket = connector.ticket(made.id)
        assert isinstance(ticket, Ticket)
        assert (made.id, made.label, made.url, "BY-ID.all.g1") == (ticket.id, ticket.label, ticket.url, ticket.key)
        assert made.ticket is not None
        assert made.ticket.digests == ticket.digests
        assert {"summary", "body"} <= ticket.digests.keys()
        assert ticket.place
        assert ticket.updated is not None
        assert not ticket.done

    def test_what_is_written_over_shows_in_the_digests(self, connector: Connector) -> None:
        made = _performed(connector, creation("OVER.all.g1"))
        _performed(connector, Write(Action.AMEND, "OVER.all.g1", made.id, summary="Told in other words"))
        ticket = connector.ticket(made.id)
        assert isinstance(ticket, Ticket)
        assert made.ticket is not None
        changed = {name for name, held in ticket.digests.items() if made.ticket.digests[name] != held}
        assert {"summary"} == changed

    def test_a_ticket_that_is_not_there_is_gone(self, connector: Connector) -> None:
        gone = connector.ticket("9" * 8)
        assert isinstance(gone, Gone)
        assert gone.reason in ("deleted", "unseen")
        assert gone.message

    def test_all_our_tickets_are_listed_once(self, connector: Connector, settle: Callable[[float], None]) -> None:
        made = [_performed(connector, creation(key)) for key in ("OURS.a.g1", "OURS.b.g1", "OURS.b.g1")]
        settle(connector.index_lag)
        found = _ours(connector, None)
        assert sorted(each.id for each in made) == sorted(ticket.id for ticket in found)
        assert ["OURS.a.g1", "OURS.b.g1", "OURS.b.g1"] == sorted(ticket.key or "" for ticket in found)
        assert sorted(each.label for each in made) == sorted(ticket.label for ticket in found)
        assert {1} == {ticket.properties.get("generation") for ticket in found}

    def test_our_tickets_since_an_instant(self, connector: Connector, settle: Callable[[float], None]) -> None:
        made = _performed(connector, creation("SINCE.all.g1"))
        assert made.ticket is not None
        at = made.ticket.updated
        assert at is not None
        settle(connector.index_lag)
        assert [made.id] == [ticket.id for ticket in _ours(connector, at)]
        assert [] == _ours(connector, at + 86_400_000)

    def test_a_comment_is_found_by_its_mark(self, connector: Connector) -> None:
        made = _performed(connector, creation("MARK.all.g1"))
        write = Write(Action.COMMENT, "MARK.all.g1", made.id, body=_BODY, subject="first")
        write = replace(write, body=(*_BODY, Block("paragraph", f"Reference {write.mark}")))
        other = replace(write, subject="second")
        assert not _told_of(connector, made.id, write.mark)
        _performed(connector, write)
        assert [True, False] == [_told_of(connector, made.id, each.mark) for each in (write, other)]

    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    def test_a_write_is_sent_once_and_its_end_is_told_truly(
        self,
        case: Case,
        wire: Wire,
        border: Pseudonyms,
        connector: Connector,
        settle: Callable[[float], None],
        fault: Fault,
    ) -> None:
        wire.misbehave(fault, when=lambda asked: case.creates(*asked[-1]))
        failed = _failure(lambda: connector.write(creation("LOST.all.g1")), case)
        assert failed is not None, "an answer that is none was taken for success"
        assert 1 == sum(case.creates(*each) for each in wire.asked)
        if fault.status in (400, 403, 404, 429):
            assert not getattr(failed, "sent", False), "the source has said that it did nothing"
        elif fault.status not in (401, 409, 410):
            assert isinstance(failed, Unavailable)
            assert failed.sent, "the source may have acted"
        wire.behave()
        settle(connector.index_lag)
        rested = _connected(case, wire, border)  # the other one may have been asked to wait for a day
        assert int(fault.do in ("drop", "truncate")) == len(_found(rested, "LOST.all.g1"))

    @pytest.mark.parametrize("fault", [one for one in FAULTS if one.status >= 200], ids=str)
    def test_an_acknowledged_write_survives_a_failed_reading_back(
        self, case: Case, wire: Wire, connector: Connector, fault: Fault
    ) -> None:
        wire.misbehave(fault, when=lambda asked: any(case.creates(*each) for each in asked[:-1]))
        outcome = _performed(connector, creation("BACK.all.g1"))
        assert outcome.id
        assert outcome.ticket is None
        assert outcome.dropped

    def test_a_wish_to_wait_is_handed_on(self, case: Case, wire: Wire, connector: Connector) -> None:
        fault = Fault("later", status=429, headers={"Retry-After": "7"})
        wire.misbehave(fault, when=lambda asked: case.creates(*asked[-1]))
        failed = _failure(lambda: connector.write(creation("LATER.all.g1")), case)
        assert isinstance(failed, Unavailable)
        assert (7.0, False) == (failed.retry_after, failed.sent)

    def test_a_write_without_rights_is_refused(self, case: Case, wire: Wire, border: Pseudonyms) -> None:
        powerless = _connected(replace(case, options=case.powerless), wire, border)
        failed = _failure(lambda: powerless.write(creation("RIGHTS.all.g1")), case)
        assert isinstance(failed, Refused)

    @pytest.mark.parametrize("action", [Action.COMMENT, Action.AMEND, Action.LINK, Action.TRANSITION])
    def test_later_writes_are_performed_or_not_served(self, connector: Connector, action: Action) -> None:
        ticket, other = (_performed(connector, creation(f"LATER.{part}.g1")).ticket for part in ("a", "b"))
        assert ticket is not None
        assert other is not None
        body = _BODY if action in (Action.COMMENT, Action.AMEND) else ()
        write = Write(action, "LATER.a.g1", ticket.id, body=body, link_to=other.id, to_state=ticket.state)
        outcome = _performed(connector, write)
        assert (ticket.id, ticket.label) == (outcome.id, outcome.label)
        assert outcome.ticket is not None
        assert ticket.key == outcome.ticket.key

    @pytest.mark.parametrize("action", [Action.COMMENT, Action.AMEND])
    def test_a_ticket_that_does_not_exist_is_refused(self, case: Case, connector: Connector, action: Action) -> None:
        write = Write(action, "GONE.all.g1", "9" * 8, summary="x", body=_BODY)
        failed = _failure(lambda: connector.write(write), case)
        assert isinstance(failed, Refused)

    def test_the_lag_of_search_is_seconds(self, connector: Connector) -> None:
        assert 0 <= connector.index_lag <= 3600


# --- parts ------------------------------------------------------------------------------------------------------------


def _connected(case: Case, wire: Wire, border: Pseudonyms) -> Connector:
    url = wire.url + case.path
    return case.plugin.connect(quick_access(case.plugin, url, case.options, case.credential, border))


def _drained(pages: Iterator[P] | Gap) -> list[P] | Gap:
    return pages if isinstance(pages, Gap) else list(pages)


def _failure(call: Callable[[], Any], case: Case) -> SourceError | None:
    """What the call raised; anything but the two kinds fails the test, and so does a printed secret."""
    try:
        call()
    except (Unavailable, Refused) as error:
        failed: SourceError = error
    else:
        return None
    told = " ".join((str(failed), *(repr(link) for link in _printed_with(failed))))
    assert not case.is_secret_in(told), "a secret stands in what would be printed"
    return failed


def _printed_with(error: BaseException) -> Iterator[BaseException]:
    """The error and all that a traceback of it shows."""
    yield error
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind is not None:
        yield from _printed_with(behind)


def _is_told(gap: Gap) -> bool:
    return bool(gap.stream and gap.reason and gap.message)


def _pages(case: Case, connector: Connector, window: Window | None = None) -> list[Page]:
    pulled = _drained(connector.pull(case.kind, window or case.window or _EMPTY))
    if isinstance(pulled, Gap):
        assert _is_told(pulled)
        pytest.skip(f"no source: {pulled.message}")
    return pulled


def _presences(case: Case, connector: Connector, cursor: str = "") -> list[Presence]:
    shown = _drained(connector.present(case.kind, case.window or _EMPTY, cursor))
    if isinstance(shown, Gap):
        assert _is_told(shown)
        pytest.skip(f"not enumerated: {shown.message}")
    return shown


def _shown(case: Case, connector: Connector, into: list[Presence]) -> None:
    pages = connector.present(case.kind, case.window or _EMPTY, "")
    assert not isinstance(pages, Gap)
    for page in pages:
        into.append(page)


def _agree(one: Record, other: Record) -> bool:
    """Whether both tell the same of a record, as far as both tell it."""
    shared = one.fields.keys() & other.fields.keys()
    return (one.label, one.updated, one.version) == (other.label, other.updated, other.version) and all(
        one.fields[name] == other.fields[name] for name in shared
    )


def _frozen_record(record: Record) -> tuple[Any, ...]:
    return (*record[:-1], json.dumps(record.fields, sort_keys=True))


def _bounds(case: Case, connector: Connector) -> Bounds:
    assert case.window is not None
    found = connector.bounds(case.kind, case.window)
    if isinstance(found, Gap):
        assert _is_told(found)
        pytest.skip(f"no windows: {found.message}")
    assert found is not None
    return found


def _edges(case: Case, connector: Connector) -> list[Millis]:
    """Whole minutes before all that there is, in its middle, and behind it."""
    bounds = _bounds(case, connector)
    first, last = (at // 60_000 * 60_000 for at in bounds)
    return sorted({first, (first + last) // 120_000 * 60_000, last + 60_000})


def _found(connector: Connector, key: str) -> list[Ticket]:
    tickets = connector.find(key)
    if isinstance(tickets, Gap):
        assert _is_told(tickets)
        pytest.skip(f"no target: {tickets.message}")
    return list(tickets)


def _listed(tickets: Iterator[Ticket] | Gap) -> list[Ticket] | Gap:
    return tickets if isinstance(tickets, Gap) else list(tickets)


def _ours(connector: Connector, since: Millis | None) -> list[Ticket]:
    found = _listed(connector.ours(since))
    if isinstance(found, Gap):
        assert _is_told(found)
        pytest.skip(f"no target: {found.message}")
    return found


def _told_of(connector: Connector, ticket: str, mark: str) -> bool:
    found = connector.commented(ticket, mark)
    if isinstance(found, Gap):
        assert _is_told(found)
        pytest.skip(f"comments cannot be looked through: {found.message}")
    return found


def _performed(connector: Connector, write: Write) -> Written:
    outcome = connector.write(write)
    if isinstance(outcome, Gap):
        assert _is_told(outcome)
        pytest.skip(f"not served: {outcome.message}")
    return outcome


def _by_stream(pages: Sequence[Page]) -> dict[str, list[Page]]:
    found: dict[str, list[Page]] = {}
    for page in pages:
        found.setdefault(page.stream, []).append(page)
    return found


def _rows(pages: Sequence[Page]) -> dict[tuple[str, str], str]:
    return {(row.stream, row.key): _frozen(row) for page in pages for row in page.rows}


def _frozen(row: Row) -> str:
    return json.dumps(row.body, sort_keys=True, default=str)


def _witnesses(pages: Sequence[Page]) -> set[tuple[str, str, str]]:
    return {(event.witness, event.witness_id, event.field) for page in pages for event in page.events}


def _cursors(pages: Sequence[Page]) -> dict[str, str]:
    return {page.stream: page.cursor for page in pages}


def _instants(page: Page) -> list[int]:
    return [*(record.updated for record in page.records), *(event.at for event in page.events)]


def _instant(page: Page) -> int:
    return max(_instants(page), default=0)


def _texts(page: Page) -> Iterator[str]:
    """Every text in rows and facts."""
    for record in page.records:
        yield from filter(None, record.fields.values())
    for event in page.events:
        yield from filter(None, (event.old, event.new, event.actor))
    for row in page.rows:
        yield from (value for value in row.body.values() if isinstance(value, str))
