"""What a request proves us with: tokens of OAuth by every grant, when they are replaced, and what nobody may see."""

import base64
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.jira.simulator import serve as serve_jira
from connectors.servicenow.simulator import serve as serve_servicenow
from itsms_sync.connector import LoggedOut, Refused, Unavailable
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.login import OAuth, hidden
from itsms_sync.settings import Secret, SecretUnavailable
from tests.test_http import Clock, message, sends, serving

CLIENT = {"client_id": "itsms-client", "client_secret": "client-secret"}
PERSON = {"username": "itsms", "password": "secret"}
HALF_AN_HOUR = 1800.0


class File:
    """A refresh token in a file, as the program wires it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = Secret(file="refresh.txt")
        self.path = folder / "refresh.txt"

    def check_replaceable(self) -> None:
        self._do(lambda: self.secret.check_replaceable(self.folder))

    def replace(self, token: str) -> None:
        self._do(lambda: self.secret.replace(token, self.folder))

    @staticmethod
    def _do(act: Callable[[], None]) -> None:
        try:
            act()
        except SecretUnavailable as error:
            raise Refused(str(error)) from error


@dataclass
class Stand:
    """One credential at one token endpoint; ``held`` may be exchanged meanwhile."""

    url: str
    held: dict[str, str]
    file: File
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        limits = Limits(total_s=5.0, attempts=2, max_retry_after_s=60.0)
        self.http = Http(
            limits=limits, transport=Transport(), monotonic=self.clock, sleep=self.clock.sleep, stop=Stop(self.clock)
        )

    def oauth(self, grant: str, path: str = "/oauth_token.do", *, rotating: bool = False) -> OAuth:
        return OAuth(self.http, self.clock, self.url + path, grant, self._read, self.file, rotating=rotating)

    def _read(self) -> Mapping[str, str]:
        refresh = {"refresh_token": self.file.path.read_text().strip()} if self.file.path.exists() else {}
        return {**refresh, **self.held}

    def asked(self) -> int:
        """Requests since the last time."""
        sent, self.http.requests_sent = self.http.requests_sent, 0
        return sent

    def does(self, **change: Any) -> None:
        requests.post(f"{self.url}/_sim/logins", json=change, timeout=5).raise_for_status()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Stand]:
    simulator = serve_servicenow()
    yield Stand(simulator.url, {**CLIENT, **PERSON}, File(tmp_path))
    simulator.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Stand]:
    """Whose refresh tokens are good once."""
    simulator = serve_jira(options={"refresh_token": "first-consent", "cloud_id": "c1"})
    file = File(tmp_path)
    file.path.write_text("first-consent\n")
    yield Stand(simulator.url, dict(CLIENT), file)
    simulator.stop()


def token(oauth: OAuth) -> str:
    return oauth.credential()["access_token"]


def refuse(oauth: OAuth) -> str:
    """Another token, after the source has refused this one."""
    oauth.refused(oauth.credential())
    return token(oauth)


# --- when a token is asked for


@pytest.mark.parametrize("grant", ["client_credentials", "password"])
def test_a_token_serves_until_four_fifths_of_its_life(grant: str, desk: Stand) -> None:
    oauth = desk.oauth(grant)
    first = token(oauth)
    desk.clock.now += 0.8 * HALF_AN_HOUR - 5
    assert (first, 1) == (token(oauth), desk.asked())
    desk.clock.now += 10
    second = token(oauth)
    # the password came with a refresh token, which gives a new one; a client gets the same token while it lives
    assert (grant == "client_credentials", 1) == (first == second, desk.asked())


def test_a_token_that_comes_again_is_used_to_its_end(desk: Stand) -> None:
    """At four fifths of what is left each time, there would be no end of asking."""
    oauth = desk.oauth("client_credentials")
    first = token(oauth)
    desk.clock.now += 0.85 * HALF_AN_HOUR
    assert first == token(oauth)
    desk.asked()
    for _ in range(10):
        desk.clock.now += 0.09 * HALF_AN_HOUR
        token(oauth)
    assert 0 == desk.asked()


def test_a_refused_token_is_replaced_once_it_was_told(desk: Stand) -> None:
    oauth = desk.oauth("client_credentials")
    first = token(oauth)
    desk.does(revoke="access")
    assert first == token(oauth)
    assert first != refuse(oauth)
    assert 2 == desk.asked()


def test_that_an_older_token_was_refused_says_nothing_of_this_one(desk: Stand) -> None:
    oauth = desk.oauth("client_credentials")
    held = token(oauth)
    oauth.refused({"access_token": "an older one"})
    assert (held, 1) == (token(oauth), desk.asked())


def test_the_name_of_the_account_goes_with_the_token(desk: Stand) -> None:
    assert {"access_token", "username"} == set(desk.oauth("password").credential())
    del desk.held["username"]
    assert {"access_token"} == set(desk.oauth("client_credentials").credential())


@pytest.mark.parametrize("told", ['"3600"', '"soon"', "0", "-5", "null", "1e300"])
def test_any_word_of_a_life_is_understood(told: str, tmp_path: Path) -> None:
    body = f'{{"access_token": "a", "token_type": "bearer", "expires_in": {told}}}'.encode()
    good = message("200 OK", "Content-Type: application/json", body=body)
    with serving(sends(good)) as wire:
        stand = Stand(wire.url, dict(CLIENT), File(tmp_path))
        oauth = stand.oauth("client_credentials")
        assert ["a", "a"] == [token(oauth), token(oauth)]
        assert 1 == stand.asked()


# --- when none is to be had


def test_an_ended_refresh_token_falls_back_to_the_password(desk: Stand) -> None:
    oauth = desk.oauth("password")
    first = token(oauth)
    desk.does(revoke="access")
    desk.does(revoke="refresh")
    assert first != refuse(oauth)
    assert 3 == desk.asked()


@pytest.mark.parametrize(
    ("grant", "wrong", "step"),
    [
        ("client_credentials", {"client_secret": "last-year"}, "runs as a user"),
        ("password", {"password": "last-year"}, "user name and password"),
        ("refresh_token", {"refresh_token": "never-given"}, "authorise the application anew"),
    ],
)
def test_a_refusal_names_the_next_step_and_no_secret(grant: str, wrong: dict[str, str], step: str, desk: Stand) -> None:
    desk.held |= wrong
    with pytest.raises(LoggedOut, match=step) as told:
        desk.oauth(grant).credential()
    assert "status 401: server_error: access_denied" in str(told.value)
    assert all(secret not in str(told.value) for secret in (*wrong.values(), "client-secret"))
    assert 1 == desk.asked()


def test_what_the_endpoint_repeats_of_our_form_is_cut_out(tmp_path: Path) -> None:
    secret = "p&ss w/rd+"
    told = f'{{"error": "invalid", "error_description": "got password=p%26ss+w%2Frd%2B ({secret}), key-of-client"}}'
    bad = message("400 Bad Request", "Content-Type: application/json", body=told.encode())
    with serving(sends(bad)) as wire:
        stand = Stand(
            wire.url, {**CLIENT, "client_secret": "key-of-client", "username": "u", "password": secret}, File(tmp_path)
        )
        with pytest.raises(LoggedOut) as problem:
            stand.oauth("password").credential()
    assert r"got password=*** (***), ***" in str(problem.value)


@pytest.mark.parametrize(
    "answer",
    [
        message("200 OK", "Content-Type: application/json", body=b'{"access_token": "fresh-and-secret"'),
        message("200 OK", "Content-Type: text/html", body=b"<p>fresh-and-secret</p>"),
        message("200 OK", "Content-Type: application/json", body=b'{"id_token": "fresh-and-secret"}'),
        message("200 OK", "Content-Type: application/json", body=b'{"access_token": "fresh-and-secret\\r\\nX: y"}'),
        message("503 Service Unavailable", "Content-Type: application/json", body=b"{}"),
    ],
    ids=["cut", "page", "none", "two-lines", "down"],
)
def test_no_good_answer_is_tried_again_and_not_quoted(answer: bytes, tmp_path: Path) -> None:
    with serving(sends(answer)) as wire:
        stand = Stand(wire.url, dict(CLIENT), File(tmp_path))
        with pytest.raises(Unavailable) as problem:
            stand.oauth("client_credentials").credential()
    assert ("fresh" in str(problem.value), problem.value.sent, 2) == (False, False, stand.asked())


def test_a_token_endpoint_that_is_down_stops_nobody_whose_token_is_good(desk: Stand) -> None:
    oauth = desk.oauth("client_credentials")
    first = token(oauth)
    desk.clock.now += 0.8 * HALF_AN_HOUR + 1
    requests.post(f"{desk.url}/_sim/faults", json={"do": "status", "path": "oauth_token"}, timeout=5)
    assert first == token(oauth)
    desk.clock.now += 0.2 * HALF_AN_HOUR
    with pytest.raises(Unavailable):
        oauth.credential()


def test_a_wish_of_the_token_endpoint_to_wait_holds_for_the_whole_credential(desk: Stand) -> None:
    fault = {"do": "status", "status": 429, "headers": {"Retry-After": "40"}, "path": "oauth_token", "times": 1}
    requests.post(f"{desk.url}/_sim/faults", json=fault, timeout=5)
    token(desk.oauth("client_credentials"))
    assert 40.0 <= desk.http.waited_s


def test_inside_a_write_nobody_waits_for_a_token(desk: Stand) -> None:
    requests.post(f"{desk.url}/_sim/faults", json={"do": "status", "path": "oauth_token"}, timeout=5)
    with pytest.raises(Unavailable) as problem:
        desk.http.writing(desk.oauth("client_credentials").credential)
    assert (False, 0.0) == (problem.value.sent, desk.http.waited_s)


def test_other_tokens_than_bearer_tokens_are_refused(tmp_path: Path) -> None:
    mac = message("200 OK", "Content-Type: application/json", body=b'{"access_token": "a", "token_type": "mac"}')
    with serving(sends(mac)) as wire, pytest.raises(Refused, match="no bearer tokens"):
        Stand(wire.url, dict(CLIENT), File(tmp_path)).oauth("client_credentials").credential()


# --- refresh tokens that are good once


def consented(site: Stand) -> OAuth:
    return site.oauth("refresh_token", "/oauth/token", rotating=True)


def test_each_new_refresh_token_is_in_its_file_before_the_access_token_is_used(site: Stand) -> None:
    oauth, seen = consented(site), {"first-consent"}
    for _ in range(3):
        refuse(oauth) if len(seen) > 1 else token(oauth)
        seen.add(site.file.path.read_text().strip())
    assert (4, 0o600) == (len(seen), stat.S_IMODE(site.file.path.stat().st_mode))
    assert [site.file.path] == list(site.file.folder.iterdir())


def test_after_a_restart_the_newest_refresh_token_is_there(site: Stand) -> None:
    first = token(consented(site))
    assert first != token(consented(site))


def test_an_environment_variable_cannot_take_a_new_one(site: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITSMS_TEST_REFRESH", "first-consent")
    site.file.secret = Secret(env="ITSMS_TEST_REFRESH")
    with pytest.raises(Refused, match="put the secret in a file"):
        consented(site).credential()
    assert 0 == site.asked(), "the token was used up before it was known where to keep the next one"


def test_a_file_that_cannot_be_written_is_told_before_the_token_is_used_up(site: Stand, tmp_path: Path) -> None:
    site.held["refresh_token"] = "first-consent"
    site.file.secret = Secret(file="gone/refresh.txt")
    with pytest.raises(Refused, match="the folder of the secret file"):
        consented(site).credential()
    assert 0 == site.asked()
    site.file.secret = Secret(file="refresh.txt")
    assert token(consented(site))


def test_a_new_one_that_could_not_be_kept_is_kept_once_that_is_possible(site: Stand) -> None:
    """The old one is used up, so the new one is all there is."""
    oauth, place = consented(site), site.file.replace
    site.file.replace = _full  # type: ignore[method-assign]
    with pytest.raises(Refused, match="disk is full"):
        oauth.credential()
    assert "first-consent" == site.file.path.read_text().strip()
    site.file.replace = place  # type: ignore[method-assign]
    held = token(oauth)
    assert "first-consent" != site.file.path.read_text().strip()
    assert held != refuse(oauth)


def _full(token: str) -> None:
    raise Refused("cannot write: the disk is full")


def test_what_a_person_has_put_in_the_file_meanwhile_counts(site: Stand) -> None:
    oauth = consented(site)
    token(oauth)
    other = consented(site)
    token(other)  # another process of the same credential has moved it on
    assert token(oauth) != refuse(oauth)


def test_a_withdrawn_consent_is_told(site: Stand) -> None:
    oauth = consented(site)
    token(oauth)
    site.does(revoke="refresh")
    with pytest.raises(LoggedOut, match="status 403: invalid_grant: Unknown or invalid refresh token") as told:
        refuse(oauth)
    assert "put the new refresh token in its file" in str(told.value)


# --- what nobody may see


def test_a_secret_is_cut_out_in_every_form_in_which_it_travels() -> None:
    secrets = {"username": "bot", "password": 'a"b c&d/é'}
    pair = base64.b64encode('bot:a"b c&d/é'.encode()).decode()
    forms = ('a"b c&d/é', "a%22b%20c%26d%2F%C3%A9", "a%22b%20c%26d/%C3%A9", "a%22b+c%26d%2F%C3%A9", pair, 'a\\"b c&d/')
    told = hidden(f"bot said {' | '.join(forms)}", secrets)
    assert "bot said *** | *** | *** | *** | *** | " in told
    assert not any(form in told for form in forms[:5])
