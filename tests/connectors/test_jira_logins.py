"""Every way into Jira, every way in which it dies, and that an answer to a stranger is never taken for ours."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.jira.connector import PLUGIN
from connectors.jira.simulator import Simulator, serve
from itsms_sync.connector import Access, Connector, Form, LoggedOut, Refused, SourceError, Unavailable
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.login import OAuth
from itsms_sync.records import Action, Block, Gap, Page, Window, Write, Written
from itsms_sync.testing import Fault, Wire
from tests.connectors.jira_desks import TOKEN, USERS, Pseudonyms, others

WINDOW = Window(("status", "comment"), {}, 60_000, 7)
CREATE = Write(Action.CREATE, "INC-I5-WORK.all.g1", summary="Late", severity="S1")
CLOUD_ID = "8b1f7a3c"
CLIENT = {"client_id": "itsms-client", "client_secret": "client-secret"}
OPTIONS = {"projects": ["ITSM"], "project": "CAPA", "issue_type": "Corrective action", "index_lag": 0}


@dataclass
class Place:
    """Where the refresh token lies."""

    held: dict[str, str]

    def check_replaceable(self) -> None:
        return

    def replace(self, token: str) -> None:
        self.held["refresh_token"] = token


@dataclass
class Site:
    """A simulator, a wire in front of it, and ways into it."""

    simulator: Simulator
    wire: Wire
    held: dict[str, str] = field(default_factory=dict)

    def connect(self, base: str = "", grant: str = "", **options: Any) -> Connector:
        limits = Limits(total_s=10, attempts=2, max_retry_after_s=2)
        http = Http(
            limits=limits,
            transport=Transport(),
            monotonic=time.monotonic,
            sleep=lambda seconds: None,
            stop=Stop(),
        )
        given = PLUGIN.check_options({**OPTIONS, **options})
        access = Access("site", self.wire.url + base, given, http, Pseudonyms(), lambda: self.held)
        if grant:
            url = self.wire.url + "/oauth/token"
            tokens = OAuth(http, time.monotonic, url, grant, access.credential, Place(self.held), rotating=True)
            access = replace(access, credential=tokens.credential, refused=tokens.refused)
        return PLUGIN.connect(access)

    def does(self, **change: Any) -> None:
        requests.post(f"{self.simulator.url}/_sim/logins", json=change, timeout=5).raise_for_status()

    def asked(self, part: str) -> int:
        return sum(part in target for _, target in self.wire.asked)

    def created(self) -> int:
        return int(requests.get(f"{self.simulator.url}/_sim/ledger", timeout=5).json()["created"])


Start = Callable[..., Site]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[tuple[Simulator, Wire]] = []

    def begin(edition: str = "cloud", *, issues: int = 20, **options: str) -> Site:
        given = {"edition": edition, "token": TOKEN, "cloud_id": CLOUD_ID, "refresh_token": "first-consent", **options}
        data = tmp_path / "site.json"
        data.write_text(json.dumps({"users": USERS, "issues": others(issues)}), "utf-8")
        simulator = serve(data=[Path("itsm"), data], options=given)
        running.append((simulator, Wire(simulator.url)))
        held = {"token": TOKEN} if edition == "datacenter" else {"username": "bot@example.com", "token": TOKEN}
        return Site(*running[-1], held)

    yield begin
    for simulator, wire in running:
        wire.__exit__()
        simulator.stop()


def pulled(connector: Connector, window: Window = WINDOW) -> list[Page]:
    pages = connector.pull("issue", window)
    assert not isinstance(pages, Gap)
    return list(pages)


def keys(pages: Sequence[Page]) -> set[str]:
    return {row.key for page in pages for row in page.rows if row.stream == "issue"}


def cursors(pages: Sequence[Page]) -> dict[str, str]:
    return {page.stream: page.cursor for page in pages}


GATEWAY = f"/ex/jira/{CLOUD_ID}"
WAYS: Mapping[str, tuple[str, dict[str, str], str, str, dict[str, str]]] = {
    "token of an account": ("cloud", {}, "", "", {}),
    "token with scopes": ("cloud", {}, GATEWAY, "", {"scoped": "on"}),
    "consent of a person": ("cloud", {**CLIENT, "refresh_token": "first-consent"}, GATEWAY, "refresh_token", {}),
    "service account": ("cloud", CLIENT, GATEWAY, "client_credentials", {}),
    "personal access token": ("datacenter", {}, "", "", {}),
    "password": ("datacenter", {"username": "bot", "password": TOKEN}, "", "", {}),
}
"""Edition, credential, base, grant, options of the simulator."""


def way(name: str, start: Start, **more: str) -> tuple[Site, Callable[[], Connector]]:
    edition, held, base, grant, options = WAYS[name]
    site = start(edition, **{**options, **more})
    site.held = dict(held or site.held)
    return site, lambda: site.connect(base, grant)


@pytest.mark.parametrize("name", WAYS)
def test_each_way_reads_and_writes_as_the_same_account(name: str, start: Start) -> None:
    _, connect = way(name, start)
    connector = connect()
    assert connector.identify().account
    assert 20 == len(keys(pulled(connector)))
    written = connector.write(CREATE)
    assert isinstance(written, Written)
    assert written.ticket is not None


@pytest.mark.parametrize("name", WAYS)
def test_people_are_led_to_the_site_and_not_to_the_gateway(name: str, start: Start) -> None:
    site, connect = way(name, start)
    written = connect().write(CREATE)
    assert isinstance(written, Written)
    assert written.url.removesuffix(f"/browse/{written.label}") in (site.simulator.url, site.wire.url)


# --- a login that dies


def _dies(site: Site) -> None:
    for what in ("token", "access", "refresh"):
        site.does(revoke=what)


DEAD = ("token of an account", "token with scopes", "consent of a person", "personal access token", "password")
"""A service account asks for another token by itself."""


@pytest.mark.parametrize("headers", ["on", "off"])
@pytest.mark.parametrize("name", DEAD)
def test_a_login_that_dies_in_the_middle_of_a_walk_passes_nothing_over(name: str, headers: str, start: Start) -> None:
    """Cloud then answers as if nobody had asked: fewer issues, or none, with success."""
    site, connect = way(name, start, login_headers=headers)
    connector = connect()
    connector.identify()
    pages = connector.pull("issue", WINDOW)
    assert not isinstance(pages, Gap)
    stored = [next(pages)]
    _dies(site)
    with pytest.raises(LoggedOut):
        stored += pages
    assert 20 > len(keys(stored))
    site.does(token=TOKEN)
    if "client_id" in site.held:
        site.held = {"username": "bot@example.com", "token": TOKEN}
        connect = site.connect
    rest = pulled(connect(), replace(WINDOW, cursors=cursors(stored)))
    assert 20 == len(keys(stored) | keys(rest))


@pytest.mark.parametrize("headers", ["on", "off"])
@pytest.mark.parametrize("name", DEAD)
def test_nothing_is_created_where_a_stranger_was_told_that_there_is_nothing(
    name: str, headers: str, start: Start
) -> None:
    site, connect = way(name, start, login_headers=headers)
    connector = connect()
    assert isinstance(connector.write(CREATE), Written)
    assert 1 == len(list(connector.find(CREATE.key)))  # type: ignore[arg-type]
    _dies(site)
    with pytest.raises(LoggedOut):
        connector.find(CREATE.key)
    with pytest.raises(LoggedOut):
        connector.write(CREATE)
    assert 1 == site.created()


CALLS: Mapping[str, Callable[[Connector], Any]] = {
    "pull": pulled,
    "approvals": lambda connector: list(connector.pull("approval", WINDOW)),  # type: ignore[arg-type]
    "service levels": lambda connector: list(connector.pull("sla", WINDOW)),  # type: ignore[arg-type]
    "directory": lambda connector: connector.directory(),
    "configuration": lambda connector: connector.configuration("issue"),
    "present": lambda connector: list(connector.present("issue", WINDOW, "")),  # type: ignore[arg-type]
    "fate": lambda connector: connector.fate("issue", ["30100", "4711"], WINDOW),
    "read": lambda connector: list(connector.read("issue", WINDOW, ["30100"])),  # type: ignore[arg-type]
    "find": lambda connector: connector.find(CREATE.key),
    "ticket": lambda connector: connector.ticket("30100"),
    "ours": lambda connector: list(connector.ours(None)),  # type: ignore[arg-type]
    "commented": lambda connector: connector.commented("30100", "a mark"),
    "create": lambda connector: connector.write(CREATE),
    "comment": lambda connector: connector.write(
        Write(Action.COMMENT, CREATE.key, "30100", body=(Block("paragraph", "Late"),))
    ),
    "transition": lambda connector: connector.write(Write(Action.TRANSITION, CREATE.key, "30100", to_state="Pending")),
}


@pytest.mark.parametrize(
    ("call", "headers"), [*((name, "off") for name in CALLS), *((name, "on") for name in ("pull", "find", "create"))]
)
@pytest.mark.parametrize("edition", ["cloud", "datacenter"])
def test_no_call_believes_an_answer_to_a_stranger(call: str, headers: str, edition: str, start: Start) -> None:
    """Whichever request of the call is the first one with the dead token."""
    site = start(edition, issues=3, login_headers=headers)
    for alive in range(40):
        site.does(token=TOKEN)
        site.wire.behave()
        connector = site.connect()
        connector.identify()
        before = len(site.wire.asked)
        site.wire.misbehave(Fault("alive"), when=_revoking(site, before + alive))
        try:
            outcome = CALLS[call](connector)
        except LoggedOut:
            continue
        if isinstance(outcome, Written) and any("could not be read back" in sentence for sentence in outcome.dropped):
            continue  # it was acknowledged before
        assert len(site.wire.asked) - before <= alive, f"after {alive} requests the rest was believed"
        return
    pytest.fail("the call does not end")


def _revoking(site: Site, alive: int) -> Callable[[Sequence[tuple[str, str]]], bool]:
    """A rule that spoils nothing, and withdraws the token once so many requests were answered."""

    def strike(asked: Sequence[tuple[str, str]]) -> bool:
        if len(asked) == alive + 1:
            site.does(revoke="token")
        return False

    return strike


@pytest.mark.parametrize("headers", ["on", "off"])
def test_what_a_stranger_was_told_is_not_saved_by_new_secrets(headers: str, start: Start) -> None:
    """The token dies and another one lies at its place before anybody notices."""
    site = start(login_headers=headers)
    connector = site.connect()
    connector.identify()
    pages = connector.pull("issue", WINDOW)
    assert not isinstance(pages, Gap)
    stored = [next(pages)]
    site.does(token="next-year-and-long-enough")
    site.held["token"] = "next-year-and-long-enough"
    with suppress(Unavailable):
        stored += pages
    rest = pulled(connector, replace(WINDOW, cursors=cursors(stored)))
    assert 20 == len(keys(stored) | keys(rest))


@pytest.mark.parametrize("name", ["consent of a person", "service account"])
def test_a_revoked_access_token_is_replaced_where_it_is_met(name: str, start: Start) -> None:
    site, connect = way(name, start)
    connector = connect()
    pages = connector.pull("issue", WINDOW)
    assert not isinstance(pages, Gap)
    stored = [next(pages)]
    site.does(revoke="access")
    assert 20 == len(keys([*stored, *pages]))
    assert 2 == site.asked("/oauth/token")


def test_an_answer_that_names_us_costs_no_second_question(start: Start) -> None:
    site = start()
    pulled(site.connect())
    assert 0 == site.asked("/myself")


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_what_the_vendor_repeats_of_our_secrets_is_not_shown(status: int, name: str, start: Start) -> None:
    site, connect = way(name, start)
    site.wire.misbehave(Fault("echo", "echo", status, kind="text/plain"), lambda asked: "/rest/" in asked[-1][1])
    with pytest.raises(SourceError) as told:
        connect().identify()
    secrets = (*site.wire.proofs, *(site.held[name] for name in site.held if name not in ("username", "client_id")))
    assert [] == [secret for secret in secrets if secret in str(told.value)]


# --- what each refusal means


def test_a_token_of_a_year_ago_says_so(start: Start) -> None:
    site = start(token_life="31536000")
    connector = site.connect()
    connector.identify()
    requests.post(f"{site.simulator.url}/_sim/clock", json={"advance": 31536001}, timeout=5)
    with pytest.raises(LoggedOut, match="tokens expire after a year at the latest"):
        connector.identify()


def test_a_token_with_scopes_is_no_good_at_the_site(start: Start) -> None:
    site = start(scoped="on")
    with pytest.raises(LoggedOut):
        site.connect().identify()


def test_a_scope_that_is_missing_is_no_dead_token(start: Start) -> None:
    site = start(scopes="read:jira-work read:jira-user", scoped="on")
    connector = site.connect(GATEWAY)
    assert 20 == len(keys(pulled(connector)))
    with pytest.raises(Refused, match="has no scope for this") as told:
        connector.write(CREATE)
    assert not isinstance(told.value, LoggedOut)


def test_a_captcha_asks_for_a_person_and_stops_the_source(start: Start) -> None:
    site = start("datacenter", captcha_after="2")
    site.held = {"username": "bot", "password": "last-year"}
    for _ in range(2):
        with pytest.raises(LoggedOut, match="check user name"):
            site.connect().identify()
    site.held["password"] = TOKEN
    with pytest.raises(LoggedOut, match="solve the CAPTCHA"):
        site.connect().identify()


@pytest.mark.parametrize(
    ("body", "kind", "step"),
    [
        (b"XSRF check failed", "text/html", "see the proxy of this source"),
        (
            b'{"errorMessages":["You do not have permission"],"errors":{}}',
            "application/json",
            "the permission for this",
        ),
    ],
    ids=["xsrf", "permission"],
)
def test_a_403_is_told_apart(body: bytes, kind: str, step: str, start: Start) -> None:
    site = start()
    connector = site.connect()
    connector.identify()
    site.wire.misbehave(
        Fault("refused", status=403, headers={"X-Seraph-LoginReason": "OK"}, body=body, kind=kind),
        when=lambda asked: asked[-1][0] == "POST" and asked[-1][1].endswith("/issue"),
    )
    with pytest.raises(Refused, match=step) as told:
        connector.write(CREATE)
    assert not isinstance(told.value, LoggedOut)


def test_why_a_limit_refused_is_told(start: Start) -> None:
    site = start()
    headers = {"Retry-After": "2", "RateLimit-Reason": "jira-quota-tenant-based"}
    connector = site.connect()
    connector.identify()
    site.wire.misbehave(Fault("spent", status=429, headers=headers), when=lambda asked: "/search" in asked[-1][1])
    with pytest.raises(Unavailable, match="jira-quota-tenant-based"):
        pulled(connector)


def test_a_short_password_is_not_cut_out_of_what_people_have_written(start: Start) -> None:
    site = start("datacenter", token="e")
    site.held = {"username": "bot", "password": "e"}
    (record,) = [
        record
        for page in pulled(site.connect(), replace(WINDOW, fields=("summary",)))
        for record in page.records
        if record.label == "ITSM-100"
    ]
    assert "***" not in (record.fields["summary"] or "")


def test_the_plug_in_names_the_ways_that_it_knows() -> None:
    logins = PLUGIN.logins
    assert {Form.PAIR, Form.ACCOUNT, Form.BEARER, Form.CLIENT, Form.CONSENT} == logins.forms
    gateway = f"https://api.atlassian.com{GATEWAY}"
    assert "https://auth.atlassian.com/oauth/token" == logins.token_url(gateway)
    assert "https://j.example/jira/rest/oauth2/latest/token" == logins.token_url("https://j.example/jira/")
    assert (True, False, True) == (logins.is_gateway(gateway), logins.is_gateway("https://j.example"), logins.rotating)
