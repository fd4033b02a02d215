"""Faults by name: one syntax for both simulators, when a rule strikes, and what each fault does on the wire."""

import gzip
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from connectors.faults import ODD, ODD_SORTS, WIRE, Asked, Faults, odd_json, read_rules
from connectors.jira.simulator import faults as jira_faults
from connectors.jira.simulator import serve as serve_jira
from connectors.servicenow.simulator import faults as servicenow_faults
from connectors.servicenow.simulator import serve as serve_servicenow

DATA = Path(__file__).with_name("data")
KINDS: Mapping[str, Any] = {"servicenow": servicenow_faults.KINDS, "jira": jira_faults.KINDS}
SCENARIOS = {"servicenow": servicenow_faults.SCENARIOS, "jira": jira_faults.SCENARIOS}
ASKED = Asked("GET", "/api/now/table/incident", "sysparm_limit=9", b"")


class Client:
    """A client of one simulator that asks for one page of records."""

    def __init__(self, system: str, url: str) -> None:
        self.system = system
        self.url = url
        self.page = "/api/now/table/incident?sysparm_limit=2&sysparm_query=ORDERBYsys_id"
        self.create = "/api/now/table/problem"
        self.login = ("itsms", "secret")
        self.body: Any = {"short_description": "x", "correlation_id": "k"}
        if system == "jira":
            self.page = "/rest/api/2/search/jql?jql=project%20%3D%20OPS&maxResults=2"
            self.create = "/rest/api/2/issue"
            self.login = ("bot@example.com", "token")
            self.body = {"fields": {"project": {"key": "CAPA"}, "issuetype": {"name": "Task"}, "summary": "x"}}

    def fault(self, do: str, **rule: Any) -> None:
        answer = requests.post(f"{self.url}/_sim/faults", json={"do": do, **rule}, timeout=5)
        assert 201 == answer.status_code, answer.text

    def read(self, **options: Any) -> requests.Response:
        accept = {"Accept": "application/json"}
        return requests.get(self.url + self.page, auth=self.login, headers=accept, timeout=5, **options)

    def write(self) -> requests.Response:
        accept = {"Accept": "application/json"}
        return requests.post(self.url + self.create, json=self.body, auth=self.login, headers=accept, timeout=5)

    def ledger(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/_sim/ledger", timeout=5).json()

    def created(self) -> int:
        books = self.ledger()
        return books["inserted"].get("problem", 0) if self.system == "servicenow" else books["created"]

    def listed(self) -> list[dict[str, Any]]:
        return requests.get(f"{self.url}/_sim/faults", timeout=5).json()


@contextmanager
def running(system: str, **options: str) -> Iterator[Client]:
    serve, data = {
        "servicenow": (serve_servicenow, DATA / "servicenow_desk.yaml"),
        "jira": (serve_jira, DATA / "jira_ops.yaml"),
    }[system]
    simulator = serve(data=[data], options=options)
    try:
        yield Client(system, simulator.url)
    finally:
        simulator.stop()


@pytest.fixture(params=["servicenow", "jira"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with running(request.param) as found:
        yield found


# --- when a rule strikes ----------------------------------------------------------------------------------------------


def struck(text: str, requests_: int = 6, asked: Asked = ASKED, clock: Callable[[], float] = lambda: 0.0) -> list[int]:
    """Which of the requests, counted from 1, the rules of a text strike."""
    faults = Faults(servicenow_faults.KINDS, 1, clock)
    faults.read(text)
    return [number for number in range(1, requests_ + 1) if faults.due(asked)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{do: status}", [1, 2, 3, 4, 5, 6]),
        ("{do: status, nth: 3}", [3]),
        ("{do: status, times: 2}", [1, 2]),
        ("{do: status, nth: 2, times: 3}", [2, 3, 4]),
        ("{do: status, nth: 5, times: null}", [5, 6]),
        ("{do: status, rate: 0}", []),
        ("{do: status, rate: 1, times: 4}", [1, 2, 3, 4]),
        ("{do: status, method: POST}", []),
        ("{do: status, path: table/problem}", []),
        ("{do: status, query: sysparm_limit=9, nth: 1}", [1]),
        ("{do: status, content: x}", []),
        ("{do: status, starts: 10}", []),
        ("{do: no_rows, nth: 1}", [1]),
        ("{do: anonymous, path: /elsewhere}", []),
    ],
)
def test_a_rule_strikes_the_requests_it_names(rule: str, expected: list[int]) -> None:
    assert expected == struck(rule)


def test_a_rule_has_its_time() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1
        return now[0]

    # comes into force at 1; requests at 2 … 9
    assert [3, 4, 5] == struck("{do: status, starts: 3, lasts: 3}", 8, clock=clock)


def test_a_request_meets_one_fault_and_all_delays() -> None:
    faults = Faults(servicenow_faults.KINDS, 1, lambda: 0.0)
    faults.read("[{do: delay}, {do: status, nth: 2}, {do: reset}, {do: delay, after: true}]")
    assert [["delay", "reset", "delay"], ["delay", "status", "delay"]] == [
        [rule.do for rule in faults.due(ASKED)] for _ in range(2)
    ]


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_the_same_seed_gives_the_same_chances(seed: int, rate: float) -> None:
    rule = json.dumps({"do": "status", "rate": rate, "seed": seed})
    assert struck(rule, 50) == struck(rule, 50)


def test_a_rate_is_about_what_it_says_and_rules_have_chances_of_their_own() -> None:
    faults = Faults(servicenow_faults.KINDS, 7, lambda: 0.0)
    faults.read("[{do: delay, rate: 0.2}, {do: delay, rate: 0.2}]")
    counts = Counter(len(faults.due(ASKED)) for _ in range(2000))
    assert 600 < counts[1] + 2 * counts[2] < 1000
    assert 0 < counts[2] < 200
    assert [7000, 7001] == [rule["seed"] for rule in faults.listed()]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[{do: statsu}]", ["f.yaml:1:3: 'do' is none of the faults: 'statsu'; did you mean 'status'?"]),
        ("- path: x", ["f.yaml:1:3: a rule needs the key 'do', which names the fault"]),
        (
            "- do: status\n  tims: 1\n  rate: 2\n- do: delay\n  path: '('\n  seconds: long",
            [
                "f.yaml:2:3: unknown key for this fault: 'tims'; did you mean 'times'?",
                "f.yaml:3:3: 'rate' is a share from 0 to 1, not 2",
                "f.yaml:5:3: 'path' is no regular expression: missing ), unterminated subpattern at position 0",
                "f.yaml:6:3: 'seconds' cannot be 'long'",
            ],
        ),
        ("- do: status\n  method: post\n  nth: 0", ["f.yaml:2:3: 'method' is written in capitals: POST",
                                                    "f.yaml:3:3: 'nth' counts from 1"]),
        ("- do: field_missing", ["f.yaml:1:3: the fault 'field_missing' needs 'field'"]),
        ("- {do: bad_gzip, how: odd}", ["f.yaml:1:18: 'how' is one of checksum, short, none"]),
        ("faults: [1]", ["f.yaml: a rule is a mapping with the key 'do', not 1"]),
        ("seed: 1\nfaults: []", ["f.yaml:1:1: unknown key 'seed' beside faults"]),
        ("a: [", ["f.yaml:1:5: expected the node content, but found '<stream end>'"]),
        ("- {do: x, do: y}", ['f.yaml:1:11: found duplicate key "do" with value "y" (original value: "x")']),
    ],
)  # fmt: skip
def test_everything_that_is_wrong_in_a_file_is_told_with_its_place(text: str, problems: list[str]) -> None:
    with pytest.raises(ValueError) as wrong:
        read_rules(text, servicenow_faults.KINDS, "f.yaml")
    assert problems == str(wrong.value).split("\n")


@pytest.mark.parametrize("system", KINDS)
def test_ready_made_scenarios_are_rules_that_the_simulator_knows(system: str) -> None:
    paths = sorted(SCENARIOS[system].glob("*.yaml"))
    assert {"clone", "rate-limit-storm"} < {path.stem for path in paths}
    for path in paths:
        assert read_rules(path.read_bytes(), KINDS[system], path.name)
        assert path.read_text().startswith("# ")


def test_both_simulators_know_the_same_names_for_what_both_can_do() -> None:
    assert WIRE.keys() | {"status", "html_200", "empty_202", "maintenance", "cut_json", "url_too_long", "anonymous"} | {
        "rate_limit_storm", "retry_after_date", "retry_after_huge", "retry_after_negative", "retry_after_absent",
        "clock_skew", "clone", "field_missing", "odd_content", "changing_pages", "repeat_page", "required_field_added",
    } == KINDS["servicenow"].keys() & KINDS["jira"].keys()  # fmt: skip
    assert all(kind.does for kinds in KINDS.values() for kind in kinds.values())


@pytest.mark.parametrize("sort", ODD_SORTS)
def test_odd_values_are_written_as_no_encoder_would(sort: str) -> None:
    text = odd_json([{"a": ODD}, {"a": "b"}], sort)
    assert text.startswith(b'[{"a": ')
    assert text.endswith(b'}, {"a": "b"}]')


# --- files, the control endpoint, the command -------------------------------------------------------------------------


@pytest.mark.parametrize("system", KINDS)
def test_rules_come_from_a_file_and_a_scenario(system: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("faults:\n  - {do: status, status: 502, nth: 1}  # a comment\n")
    with running(system, faults=str(path), scenario="clone", seed="3") as client:
        assert [502, 200] == [client.read().status_code for _ in range(2)]
        assert ["clone", "status"] == [rule["do"] for rule in client.listed()]
        assert [(3000, 0), (3001, 1)] == [(rule["seed"], rule["acted"]) for rule in client.listed()]
        assert {"status": 1} == client.ledger()["faults"]
        assert 204 == requests.delete(f"{client.url}/_sim/faults", timeout=5).status_code
        assert [] == client.listed()


@pytest.mark.parametrize("system", KINDS)
def test_a_wrong_file_or_scenario_keeps_the_simulator_from_starting(system: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- do: nothing\n")
    with (
        pytest.raises(ValueError, match=r"faults\.yaml:1:3: 'do' is none of the faults"),
        running(system, faults=str(path)),
    ):
        pass
    with pytest.raises(ValueError, match="no scenario 'storm'; there are clone"), running(system, scenario="storm"):
        pass


def test_wrong_rules_are_refused_and_none_of_them_is_taken(client: Client) -> None:
    answer = requests.post(f"{client.url}/_sim/faults", json=[{"do": "status"}, {"do": "stauts"}], timeout=5)
    assert 400 == answer.status_code
    assert "request:1:" in answer.text
    assert [] == client.listed()


# --- what the faults of the wire do -----------------------------------------------------------------------------------

NO_ANSWER = (
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


@pytest.mark.parametrize("do", ["drop_before", "reset", "truncate", "cut_chunk", "bad_gzip"])
def test_no_whole_answer_comes(client: Client, do: str) -> None:
    client.fault(do, nth=1)
    with pytest.raises(NO_ANSWER):
        client.read()
    assert client.read().ok
    assert {do: 1} == client.ledger()["faults"]


@pytest.mark.parametrize(
    ("do", "rule", "created"),
    [
        ("drop_before", {}, 0),
        ("reset", {}, 0),
        ("reset", {"after": True}, 1),
        ("reset", {"halfway": True}, 1),
        ("drop_after", {}, 1),
        ("truncate", {}, 1),
        ("cut_chunk", {}, 1),
        ("bad_gzip", {}, 1),
    ],
)
def test_what_was_asked_for_is_done_or_not(client: Client, do: str, rule: dict[str, Any], created: int) -> None:
    client.fault(do, method="POST", nth=1, **rule)
    with pytest.raises(NO_ANSWER):
        client.write()
    assert created == client.created()


@pytest.mark.parametrize(("after", "created"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("do", ["status", "html_200", "empty_202", "maintenance", "rate_limit_storm"])
def test_an_answer_in_place_of_the_right_one_comes_before_or_after_the_act(
    client: Client, do: str, after: bool, created: int
) -> None:
    client.fault(do, after=after, method="POST", nth=1)
    assert client.write().status_code in (200, 202, 429, 503)
    assert created == client.created()


def test_a_reset_is_one(client: Client) -> None:
    client.fault("reset", nth=1)
    host, _, port = client.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.parametrize("how", ["checksum", "short", "none"])
def test_badly_compressed(client: Client, how: str) -> None:
    client.fault("bad_gzip", how=how, nth=1)
    with client.read(stream=True) as answer:
        sent = answer.raw.read(decode_content=False)
    assert "gzip" == answer.headers["Content-Encoding"]
    with pytest.raises((OSError, EOFError)):
        gzip.decompress(sent)


def test_a_dripping_answer_is_whole_in_the_end(client: Client) -> None:
    client.fault("slow_drip", bytes=30, seconds=0.003, nth=1)
    began = time.monotonic()
    slow = client.read()
    pause = 0.003 * (len(slow.content) // 30)
    assert time.monotonic() - began >= pause > 0.01
    assert client.read().json().keys() == slow.json().keys()


def test_a_dripping_answer_does_not_keep_a_simulator_from_its_end() -> None:
    for system in KINDS:
        with running(system) as client:
            client.fault("slow_drip", bytes=1, seconds=5)
            with client.read(stream=True) as answer:
                assert 200 == answer.status_code
                began = time.monotonic()
        assert time.monotonic() - began < 4


def test_garbage_behind_an_answer(client: Client) -> None:
    client.fault("trailing_garbage", nth=1)
    with pytest.raises(requests.exceptions.JSONDecodeError):
        client.read().json()
    client.fault("trailing_garbage", beyond=True, nth=1)
    assert client.read().json()
    assert client.read().json()


def test_an_oversized_answer_is_correct_but_long(client: Client) -> None:
    client.fault("oversize_body", megabytes=3, nth=1)
    answer = client.read()
    assert 3 * 2**20 < len(answer.content)
    assert client.read().json().keys() == answer.json().keys()


def test_two_faults_wait_for_one_another(client: Client) -> None:
    client.fault("delay", seconds=0.15, nth=1)
    client.fault("delay", seconds=0.15, after=True, nth=1)
    client.fault("status", status=418, nth=1)
    began = time.monotonic()
    assert 418 == client.read().status_code
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("do", "shown"),
    [
        ("rate_limit_storm", {"Retry-After": "2"}),
        ("retry_after_huge", {"Retry-After": "86400"}),
        ("retry_after_negative", {"Retry-After": "-5"}),
        ("retry_after_absent", {}),
    ],
)
def test_refusals_for_too_many_requests(client: Client, do: str, shown: dict[str, str]) -> None:
    client.fault(do, nth=1)
    answer = client.read()
    asked = {name: text for name, text in answer.headers.items() if name == "Retry-After"}
    assert (429, shown) == (answer.status_code, asked)
    assert 200 == client.read().status_code


def test_a_refusal_may_name_a_date(client: Client) -> None:
    client.fault("retry_after_date", nth=1)
    assert client.read().headers["Retry-After"].endswith(" GMT")


def test_an_address_may_be_too_long(client: Client) -> None:
    client.fault("url_too_long", characters=100)
    client.page += "&sysparm_x=" + "x" * 100
    assert 414 == client.read().status_code


def test_the_clock_of_the_header_may_be_wrong_alone(client: Client) -> None:
    right = client.read().headers["Date"]
    client.fault("clock_skew", seconds=86400)
    assert right[5:16] != client.read().headers["Date"][5:16]
