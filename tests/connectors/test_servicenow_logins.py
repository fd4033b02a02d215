"""Every way into ServiceNow, every way in which it dies, and what each refusal stops."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.servicenow.connector import PLUGIN
from connectors.servicenow.simulator import Simulator, serve
from itsms_sync.connector import Access, Connector, Form, LoggedOut, Refused, SourceError, Unavailable
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.login import OAuth
from itsms_sync.records import Action, Gap, Page, Window, Write
from itsms_sync.testing import Fault, Wire
from tests.connectors.test_servicenow import MirrorBorder, incident
from tests.end_to_end.wires import Certificate, certificate

CLIENT = {"client_id": "itsms-client", "client_secret": "client-secret"}
PERSON = {"username": "itsms", "password": "pass-of-this-test"}
KEY = "key-of-the-table-api"
WINDOW = Window(("state",), {}, 60_000, 7)
CREATE = Write(Action.CREATE, "INC-I5-WORK.all.g1", summary="Late")


class Instance:
    """A simulator, and ways into it."""

    def __init__(self, simulator: Simulator, transport: Transport) -> None:
        self.simulator = simulator
        self.url = simulator.url
        self.held: dict[str, str] = dict(PERSON)
        self._verify: Any = transport.ca_bundle or True
        self.http = Http(
            limits=Limits(total_s=5.0, attempts=2),
            transport=transport,
            monotonic=time.monotonic,
            sleep=lambda seconds: None,
            stop=Stop(),
        )

    def connect(self, grant: str = "") -> Connector:
        access = Access("sn", self.url, PLUGIN.check_options({}), self.http, MirrorBorder(), lambda: self.held)
        if grant:
            url = PLUGIN.logins.token_url(self.url)
            tokens = OAuth(self.http, time.monotonic, url, grant, access.credential, _Place())
            access = replace(access, credential=tokens.credential, refused=tokens.refused)
        return PLUGIN.connect(access)

    def does(self, **change: Any) -> None:
        self._post("logins", change)

    def fault(self, do: str, **rule: Any) -> None:
        self._post("faults", {"do": do, **rule})

    def asked(self, path: str = "") -> int:
        books = requests.get(f"{self.url}/_sim/ledger", timeout=5, verify=self._verify).json()["requests"]
        return sum(count for name, count in books.items() if path in name)

    def _post(self, what: str, body: Mapping[str, Any]) -> None:
        requests.post(f"{self.url}/_sim/{what}", json=body, timeout=5, verify=self._verify).raise_for_status()


class _Place:
    def check_replaceable(self) -> None:
        return

    def replace(self, token: str) -> None:
        raise AssertionError("an instance gives the same refresh token again")


Start = Callable[..., Instance]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Simulator] = []

    def begin(transport: Transport | None = None, **options: str) -> Instance:
        path = tmp_path / "desk.json"
        path.write_text(json.dumps({"tables": {"incident": [incident(place) for place in range(1, 21)]}}))
        running.append(serve(data=[path], options={"password": PERSON["password"], "api_key": KEY, **options}))
        return Instance(running[-1], transport or Transport())

    yield begin
    for simulator in running:
        simulator.stop()


def pulled(connector: Connector) -> list[Page]:
    pages = connector.pull("incident", WINDOW)
    assert not isinstance(pages, Gap)
    return list(pages)


def keys(pages: Sequence[Page]) -> list[str]:
    return [row.key for page in pages for row in page.rows if row.stream == "incident"]


WAYS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "basic": (PERSON, ""),
    "client credentials": (CLIENT, "client_credentials"),
    "password": ({**CLIENT, **PERSON}, "password"),
    "api key": ({"api_key": KEY}, ""),
    "api key of a named account": ({"api_key": KEY, "username": "itsms"}, ""),
}
ENDS: Mapping[str, Mapping[str, str]] = {
    "basic": {"password": "changed"},
    "client credentials": {"client_secret": "changed"},
    "password": {"client_secret": "changed"},
    "api key": {"api_key": "changed"},
    "api key of a named account": {"api_key": "changed"},
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_reads_and_writes_as_the_same_account(way: str, start: Start) -> None:
    instance = start()
    held, grant = WAYS[way]
    instance.held = dict(held)
    connector = instance.connect(grant)
    assert "itsms" == connector.identify().account
    assert 20 == len(keys(pulled(connector)))
    written = connector.write(CREATE)
    assert not isinstance(written, Gap)
    assert written.ticket is not None


@pytest.mark.parametrize("way", WAYS)
def test_each_way_dies_in_the_middle_of_a_walk_and_comes_back_by_itself(way: str, start: Start) -> None:
    """What was read stays, nothing is passed over, and what lies at the secret's place is tried once more."""
    instance = start()
    held, grant = WAYS[way]
    instance.held = dict(held)
    connector = instance.connect(grant)
    pages = connector.pull("incident", WINDOW)
    assert not isinstance(pages, Gap)
    first = next(pages)
    instance.does(revoke="access", **ENDS[way])
    with pytest.raises(LoggedOut) as told:
        next(pages)
    assert not any(secret in str(told.value) for name, secret in held.items() if name not in ("username", "client_id"))
    instance.held |= ENDS[way]
    rest = connector.pull("incident", replace(WINDOW, cursors={"incident": first.cursor}))
    assert not isinstance(rest, Gap)
    assert 20 == len({*keys([first]), *keys(list(rest))})


def test_a_revoked_token_is_replaced_in_the_middle_of_a_walk(start: Start) -> None:
    instance = start()
    instance.held = dict(CLIENT)
    pages = instance.connect("client_credentials").pull("incident", WINDOW)
    assert not isinstance(pages, Gap)
    first = next(pages)
    instance.does(revoke="access")
    assert 20 == len(keys([first, *pages]))
    assert 2 == instance.asked("POST /oauth_token.do")


def test_a_token_that_is_refused_whoever_hands_it_out_is_tried_once_more_only(start: Start) -> None:
    instance = start()
    instance.held = dict(CLIENT)
    instance.fault("status", status=401, path="/api/")
    with pytest.raises(LoggedOut, match="its user may use this interface"):
        instance.connect("client_credentials").identify()
    assert (1, 2) == (instance.asked("/table/"), instance.asked("POST /oauth_token.do"))


def test_a_dead_password_is_sent_once(start: Start) -> None:
    """Instances lock an account out after a few wrong ones."""
    instance = start()
    instance.held["password"] = "last-year"
    with pytest.raises(LoggedOut):
        instance.connect().identify()
    assert 1 == instance.asked("/table/")


@pytest.mark.parametrize(
    ("options", "held", "step"),
    [
        ({"basic": "restricted"}, PERSON, "snc_basic_auth_api_access"),
        ({"basic": "mfa"}, PERSON, "second factor"),
        ({"api_policy": "false"}, {"api_key": KEY}, "a policy admits it"),
        ({"api_key": ""}, {"api_key": KEY}, "see that the api key is active"),
    ],
    ids=["restricted", "second-factor", "no-policy", "no-plug-in"],
)
def test_a_way_that_is_closed_says_what_to_do(
    options: dict[str, str], held: dict[str, str], step: str, start: Start
) -> None:
    instance = start(**options)
    instance.held = dict(held)
    with pytest.raises(LoggedOut) as told:
        instance.connect().identify()
    assert step.lower() in str(told.value).lower()


def test_an_account_that_cannot_see_itself_has_to_be_named(start: Start, tmp_path: Path) -> None:
    instance = start()
    instance.held = {"api_key": KEY}
    instance.fault("status", status=200, path="sys_user", body={"result": []}, times=2)
    connector = instance.connect()
    with pytest.raises(Refused, match="name it as username"):
        connector.identify()
    instance.held["username"] = "itsms"
    assert "itsms" == connector.identify().account


def test_somebody_else_is_not_taken_for_us(start: Start) -> None:
    instance = start()
    instance.held = {"api_key": KEY}
    others = [{"sys_id": f"{n:032x}", "user_name": f"other{n}"} for n in range(2)]
    instance.fault("status", status=200, path="sys_user", body={"result": others}, times=1)
    with pytest.raises(Refused, match="was ignored"):
        instance.connect().identify()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_what_the_vendor_repeats_of_our_secrets_is_not_shown(status: int, way: str, start: Start) -> None:
    instance = start()
    held, grant = WAYS[way]
    instance.held = dict(held)
    with Wire(instance.url) as wire:
        wire.misbehave(Fault("echo", "echo", status, kind="text/plain"), lambda asked: "/table/" in asked[-1][1])
        instance.url = wire.url
        with pytest.raises(SourceError) as told:
            instance.connect(grant).identify()
        assert wire.proofs
        hidden = (*wire.proofs, *(secret for name, secret in held.items() if name not in ("username", "client_id")))
    assert [] == [secret for secret in hidden if secret in str(told.value)]


# --- a write


@pytest.mark.parametrize("way", WAYS)
def test_a_write_that_meets_a_dead_secret_was_not_done_and_is_done_once_there_is_another(
    way: str, start: Start
) -> None:
    instance = start()
    held, grant = WAYS[way]
    instance.held = dict(held)
    connector = instance.connect(grant)
    assert [] == connector.find(CREATE.key)
    instance.does(revoke="access", **ENDS[way])
    with pytest.raises(LoggedOut):
        connector.write(CREATE)
    with pytest.raises(LoggedOut):
        connector.find(CREATE.key)
    instance.held |= ENDS[way]
    assert [] == connector.find(CREATE.key)
    connector.write(CREATE)
    tickets = connector.find(CREATE.key)
    assert not isinstance(tickets, Gap)
    assert 1 == len(tickets)


@pytest.mark.parametrize("grant", ["client_credentials", "password"])
def test_a_write_whose_answer_is_lost_stays_unclear_whatever_becomes_of_the_token(grant: str, start: Start) -> None:
    instance = start()
    instance.held = {**CLIENT, **PERSON}
    connector = instance.connect(grant)
    assert [] == connector.find(CREATE.key)
    instance.fault("drop_after", method="POST", path="/table/")
    with pytest.raises(Unavailable) as told:
        connector.write(CREATE)
    assert told.value.sent
    instance.does(revoke="access")
    tickets = connector.find(CREATE.key)
    assert not isinstance(tickets, Gap)
    assert 1 == len(tickets)


def test_a_token_is_replaced_before_a_write_and_not_in_its_middle(start: Start) -> None:
    """A token endpoint that is down then leaves no doubt about the write."""
    instance = start(token_life="1")
    instance.held = dict(CLIENT)
    connector = instance.connect("client_credentials")
    connector.find(CREATE.key)
    time.sleep(1.1)
    instance.fault("status", status=503, path="oauth_token")
    with pytest.raises(Unavailable) as told:
        connector.write(CREATE)
    assert not told.value.sent
    assert 0 == instance.asked("POST /api/now/table/incident")


# --- what each refusal stops


@pytest.mark.parametrize(
    ("status", "message", "detail", "step"),
    [
        (403, "Operation Failed", "ACL Exception Query Failed due to security constraints", "role that may do this"),
        (403, "Insufficient rights to query records", None, "role that may query this table"),
        (
            403,
            "Insufficient rights to query records",
            "Field(s) present in the query do not have permission to be read",
            "fields of the condition",
        ),
        (403, "Failed API level ACL Validation", None, "REST_Endpoint"),
        (400, "Invalid table incident", None, "plug-in"),
    ],
)
def test_a_refused_table_is_a_gap_and_stops_no_other(
    status: int, message: str, detail: str | None, step: str, start: Start
) -> None:
    instance = start()
    body = {"error": {"message": message, "detail": detail}, "status": "failure"}
    instance.fault("status", status=status, path="/table/sys_audit", body=body)
    pages = pulled(instance.connect())
    assert 20 == len(keys(pages))
    told = {gap.stream: gap.message for page in pages for gap in page.gaps}
    assert step in told["sys_audit:incident"]


def test_an_interface_that_is_closed_to_the_account_stops_the_source(start: Start) -> None:
    instance = start()
    body = {"error": {"message": "Failed API level ACL Validation", "detail": None}, "status": "failure"}
    instance.fault("status", status=403, path="/api/", body=body)
    with pytest.raises(Refused, match="REST_Endpoint"):
        instance.connect().identify()


# --- certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Certificate]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: certificate(folder, name) for name in ("instance", "ours", "others")}


@pytest.fixture
def mutual(certificates: Mapping[str, Certificate], start: Start) -> Callable[[str | None], Instance]:
    """An instance that knows our certificate, and the way to it with another one or none."""

    def begin(shown: str | None) -> Instance:
        paths = {name: str(one.path) for name, one in certificates.items()}
        transport = Transport(ca_bundle=paths["instance"], client_cert=paths[shown] if shown else None)
        instance = start(transport, tls=paths["instance"], tls_clients=paths["ours"])
        instance.held = {"client_certificate": shown or "none"}
        return instance

    return begin


def test_a_client_certificate_is_a_way_in_of_its_own(mutual: Callable[[str], Instance]) -> None:
    instance = mutual("ours")
    connector = instance.connect()
    assert "itsms" == connector.identify().account
    assert 20 == len(keys(pulled(connector)))
    instance.does(revoke="certificate")
    with pytest.raises(LoggedOut, match="known to the source and belongs to a user"):
        connector.identify()


@pytest.mark.parametrize(("held", "grant"), WAYS.values(), ids=WAYS)
def test_a_client_certificate_goes_with_every_other_way(
    held: Mapping[str, str], grant: str, mutual: Callable[[str], Instance]
) -> None:
    instance = mutual("ours")
    instance.held = dict(held)
    assert "itsms" == instance.connect(grant).identify().account


def test_a_certificate_that_is_not_known_is_told_once(mutual: Callable[[str], Instance]) -> None:
    with pytest.raises(LoggedOut, match="does not accept our client certificate") as told:
        mutual("others").connect().identify()
    assert "trusts its issuer" in str(told.value)


def test_a_connection_without_a_certificate_is_nobody(mutual: Callable[[None], Instance]) -> None:
    with pytest.raises(LoggedOut, match="known to the source"):
        mutual(None).connect().identify()


def test_the_plug_in_names_the_ways_that_it_knows() -> None:
    assert set(Form) - {Form.BEARER, Form.ACCOUNT} == PLUGIN.logins.forms
    assert "https://x.example/oauth_token.do" == PLUGIN.logins.token_url("https://x.example/")
