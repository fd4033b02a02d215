"""What both simulators hand out and take back, held against what the vendors write of their token endpoints."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from connectors.jira.simulator import serve as serve_jira
from connectors.servicenow.simulator import serve as serve_servicenow

CLIENT = {"client_id": "itsms-client", "client_secret": "client-secret"}
PERSON = {"username": "itsms", "password": "secret"}


class End:
    """One simulator as a client of its tokens."""

    def __init__(self, url: str, path: str) -> None:
        self.url = url
        self._path = path

    def asks(self, *, as_json: bool = False, **form: str) -> requests.Response:
        body: dict[str, Any] = {"json": {**CLIENT, **form}} if as_json else {"data": {**CLIENT, **form}}
        return requests.post(self.url + self._path, timeout=5, **body)

    def granted(self, **form: str) -> Mapping[str, Any]:
        answer = self.asks(**form)
        assert 200 == answer.status_code, answer.text
        return answer.json()

    def status(self, path: str, token: str) -> int:
        return requests.get(self.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=5).status_code

    def does(self, **change: Any) -> int:
        return requests.post(f"{self.url}/_sim/logins", json=change, timeout=5).status_code


Open = Callable[..., End]


@pytest.fixture
def servicenow() -> Iterator[Open]:
    with ExitStack() as stack:

        def begin(**options: str) -> End:
            simulator = serve_servicenow(options=options)
            stack.callback(simulator.stop)
            return End(simulator.url, "/oauth_token.do")

        yield begin


@pytest.fixture
def jira() -> Iterator[Open]:
    with ExitStack() as stack:

        def begin(**options: str) -> End:
            given = {"cloud_id": "c1", "refresh_token": "first-consent", **options}
            simulator = serve_jira(options=given)
            stack.callback(simulator.stop)
            cloud = options.get("edition") != "datacenter"
            return End(simulator.url, "/oauth/token" if cloud else "/rest/oauth2/latest/token")

        yield begin


TABLE = "/api/now/table/incident"


def test_an_instance_gives_a_token_again_while_it_lives(servicenow: Open) -> None:
    end = servicenow()
    first, second = (end.granted(grant_type="password", **PERSON) for _ in range(2))
    assert {"access_token", "refresh_token", "scope", "token_type", "expires_in"} == set(first)
    assert (first["access_token"], first["refresh_token"]) == (second["access_token"], second["refresh_token"])
    assert 1798 <= second["expires_in"] <= first["expires_in"] <= 1800
    refreshed = end.granted(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (True, first["refresh_token"]) == (
        refreshed["access_token"] != first["access_token"],
        refreshed["refresh_token"],
    )
    assert "refresh_token" not in end.granted(grant_type="client_credentials")


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": "password", "username": "itsms", "password": "old"},
        {"grant_type": "refresh_token", "refresh_token": "unknown"},
        {"grant_type": "client_credentials", "client_secret": "old"},
        {"grant_type": "implicit"},
        {"grant_type": "client_credentials", "as_json": True},
    ],
)
def test_an_instance_does_not_say_why_it_refuses(form: dict[str, Any], servicenow: Open) -> None:
    answer = servicenow().asks(**form)
    assert (401, {"error_description": "access_denied", "error": "server_error"}) == (answer.status_code, answer.json())


def test_what_an_instance_handed_out_can_be_withdrawn(servicenow: Open) -> None:
    end = servicenow()
    granted = end.granted(grant_type="password", **PERSON)
    assert 200 == end.status(TABLE, granted["access_token"])
    assert 204 == end.does(revoke="access")
    assert 401 == end.status(TABLE, granted["access_token"])
    end.does(revoke="refresh")
    assert 401 == end.asks(grant_type="refresh_token", refresh_token=granted["refresh_token"]).status_code
    assert 400 == end.does(revoke="everything")
    assert 400 == end.does(user="other")


def test_a_token_of_an_instance_ends(servicenow: Open) -> None:
    end = servicenow(token_life="0")
    assert 401 == end.status(TABLE, end.granted(grant_type="client_credentials")["access_token"])


@pytest.mark.parametrize(
    ("basic", "password", "status", "header"),
    [
        ("allowed", "secret", 200, None),
        ("restricted", "secret", 401, None),
        ("mfa", "secret", 401, "invalid"),
        ("mfa", "wrong", 401, None),
    ],
)
def test_basic_authentication_may_be_closed(
    basic: str, password: str, status: int, header: str | None, servicenow: Open
) -> None:
    answer = requests.get(servicenow(basic=basic).url + TABLE, auth=("itsms", password), timeout=5)
    assert (status, header) == (answer.status_code, answer.headers.get("X-MFA_TOKEN"))


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"api_key": "key"}, 200),
        ({}, 401),
        ({"api_key": "key", "api_policy": "false"}, 401),
        ({"api_key": "other"}, 401),
    ],
)
def test_an_api_key_needs_the_plug_in_and_a_policy(options: dict[str, str], status: int, servicenow: Open) -> None:
    answer = requests.get(servicenow(**options).url + TABLE, headers={"x-sn-apikey": "key"}, timeout=5)
    assert status == answer.status_code


MYSELF = "/rest/api/2/myself"


def test_a_refresh_token_of_atlassian_is_good_once(jira: Open) -> None:
    end = jira()
    granted = end.granted(grant_type="refresh_token", refresh_token="first-consent")
    assert {"access_token", "refresh_token", "scope", "token_type", "expires_in"} == set(granted)
    again = end.asks(grant_type="refresh_token", refresh_token="first-consent")
    said = {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}
    assert (403, said) == (again.status_code, again.json())
    assert 200 == end.asks(as_json=True, grant_type="refresh_token", refresh_token=granted["refresh_token"]).status_code
    assert 401 == end.asks(grant_type="refresh_token", client_secret="old").status_code
    assert 400 == end.asks(grant_type="password", **PERSON).status_code


def test_an_access_token_of_atlassian_is_good_at_the_gateway(jira: Open) -> None:
    end = jira(access_life="600")
    token = end.granted(grant_type="client_credentials")["access_token"]
    assert [200, 401, 404] == [end.status(base + MYSELF, token) for base in ("/ex/jira/c1", "", "/ex/jira/c2")]
    requests.post(f"{end.url}/_sim/clock", json={"advance": 601}, timeout=5)
    assert 401 == end.status("/ex/jira/c1" + MYSELF, token)


def test_the_gateway_knows_no_strangers(jira: Open) -> None:
    """At the site itself a dead token is a stranger, who may ask what the site serves."""
    end = jira()
    path = "/rest/api/2/serverInfo"
    assert [401, 200] == [requests.get(end.url + base + path, timeout=5).status_code for base in ("/ex/jira/c1", "")]


def test_a_scope_that_is_missing_is_a_401_of_its_own(jira: Open) -> None:
    end = jira(scopes="write:jira-work")
    token = end.granted(grant_type="client_credentials")["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.get(f"{end.url}/ex/jira/c1/rest/api/2/field", headers=headers, timeout=5)
    assert (401, {"code": 401, "message": "Unauthorized; scope does not match"}) == (answer.status_code, answer.json())


def test_data_center_takes_its_own_tokens(jira: Open) -> None:
    end = jira(edition="datacenter", context="/jira")
    end.url = end.url.removesuffix("/jira")
    token = requests.post(
        f"{end.url}/jira/rest/oauth2/latest/token", data={**CLIENT, "grant_type": "client_credentials"}, timeout=5
    ).json()["access_token"]
    assert 200 == end.status("/jira" + MYSELF, token)
    assert 204 == end.does(revoke="access")
    assert 401 == end.status("/jira" + MYSELF, token)
    assert 400 == end.does(revoke="everything")


def test_an_app_has_points_and_an_account_has_none(jira: Open) -> None:
    end = jira(points="10")
    token = end.granted(grant_type="client_credentials")["access_token"]
    headers, path = {"Authorization": f"Bearer {token}"}, f"{end.url}/ex/jira/c1/rest/api/2/field"
    answers = [requests.get(path, headers=headers, timeout=5) for _ in range(11)]
    assert [200] * 10 + [429] == [answer.status_code for answer in answers]
    assert '"global-app-quota";q=10;w=3600' == answers[0].headers["Beta-RateLimit-Policy"]
    assert answers[0].headers["Beta-RateLimit"].startswith('"global-app-quota";r=9;t=')
    near = [answer.headers.get("X-RateLimit-NearLimit") for answer in answers]
    assert [None] * 8 + ["true"] * 2 == near[:10]
    refused = answers[-1].headers
    assert ("jira-quota-global-based", True) == (
        refused["RateLimit-Reason"],
        3590 < int(refused["Retry-After"]) <= 3600,
    )
    account = requests.get(f"{end.url}/rest/api/2/field", auth=("bot@example.com", "token"), timeout=5)
    assert (200, None) == (account.status_code, account.headers.get("Beta-RateLimit"))
    requests.post(f"{end.url}/_sim/clock", json={"advance": 3600}, timeout=5)
    renewed = end.granted(grant_type="client_credentials")["access_token"]
    assert 200 == end.status("/ex/jira/c1/rest/api/2/field", renewed)
