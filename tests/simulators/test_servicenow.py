"""The ServiceNow simulator against what is written down about the product, and against recorded bodies."""

import calendar
import csv
import gzip
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import orjson
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.servicenow.simulator import serve
from connectors.servicenow.simulator.desk import Desk, RefusedError
from connectors.servicenow.simulator.query import Condition, UnservedError, parse
from connectors.servicenow.simulator.search import Asker, Search
from connectors.servicenow.simulator.tables import Table
from tests.simulators.servicenow_desks import LoggedIn, starting

DATA = Path(__file__).parent / "data"
DESK = DATA / "servicenow_desk.yaml"
ACCESS = DATA / "servicenow_access.yaml"
LOG = "data/uci-incidents/incident_event_log.csv.gz"
ONE, TWO, THREE, FOUR = (f"c{number:031d}" for number in (1, 2, 3, 4))
BETH = "a0000000000000000000000000000001"
NETWORK = "b0000000000000000000000000000001"


class Client(LoggedIn):
    """Asks in the words of the Table API."""

    def table(
        self, name: str, query: str | None = None, *, stream: bool = False, **params: object
    ) -> requests.Response:
        """GET a list; parameter names without their ``sysparm_``."""
        named = {f"sysparm_{key}": str(value) for key, value in params.items()}
        if query is not None:
            named["sysparm_query"] = query
        return self.get(f"{self.url}/api/now/table/{name}", params=named, timeout=30, stream=stream)

    def rows(self, name: str, query: str | None = None, **params: object) -> list[dict]:
        answer = self.table(name, query, stream=True, **params)
        # one read: in small pieces the client's thread would fight the server's for each
        body = answer.raw.read(decode_content=True)
        assert 200 == answer.status_code, body
        return orjson.loads(body)["result"]

    def ids(self, name: str, query: str | None = None, **params: object) -> list[str]:
        return [row["sys_id"] for row in self.rows(name, query, fields="sys_id", **params)]

    def write(self, method: str, path: str, body: object, **params: str) -> requests.Response:
        return self.request(method, f"{self.url}/api/now/table/{path}", json=body, params=params, timeout=30)

    def fault(self, **rule: object) -> None:
        assert 201 == self.post(f"{self.url}/_sim/faults", json=rule, timeout=30).status_code

    def ledger(self) -> dict:
        return self.get(f"{self.url}/_sim/ledger", timeout=30).json()


@pytest.fixture
def start() -> Iterator[Callable[..., Client]]:
    with starting(Client) as run:
        yield run


@pytest.fixture
def desk(start: Callable[..., Client]) -> Client:
    return start(DESK)


@pytest.fixture(scope="module")
def read() -> Iterator[Client]:
    """The same desk for tests that only read."""
    simulator = serve(data=[DESK])
    with Client(simulator.url) as client:
        yield client
    simulator.stop()


# --- the encoded query --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "groups", "order"),
    [
        ("", (((),)), ()),
        ("a=1^b=2", [[[("a", "=", "1")], [("b", "=", "2")]]], ()),
        ("a=1^b=2^ORc=3", [[[("a", "=", "1")], [("b", "=", "2"), ("c", "=", "3")]]], ()),
        ("a>1^NQa=1^b>2", [[[("a", ">", "1")]], [[("a", "=", "1")], [("b", ">", "2")]]], ()),
        ("a=1^EQ", [[[("a", "=", "1")]]], ()),
        ("a=1^ORDERBYb^ORDERBYDESCc", [[[("a", "=", "1")]]], (("b", False), ("c", True))),
        ("state==1", [[[("state", "=", "=1")]]], ()),
        ("aNOT IN1,2^bNOTLIKEx^c!*y^d*z^e%w", [[[("a", "NOT IN", "1,2")], [("b", "NOT LIKE", "x")],
          [("c", "NOT LIKE", "y")], [("d", "LIKE", "z")], [("e", "ENDSWITH", "w")]]], ()),
        ("a.b.cISNOTEMPTY", [[[("a.b.c", "ISNOTEMPTY", "")]]], ()),
        ("nonsense", [[[("nonsense", "", "")]]], ()),
    ],
)  # fmt: skip
def test_reads_the_query_language(text: str, groups: list, order: tuple) -> None:
    read = parse(text)
    wanted = tuple(tuple(tuple(Condition(*one) for one in clause) for clause in group) for group in groups)
    assert (wanted, order) == (read.groups, read.order)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("state=2", {ONE}),
        ("state!=2", {TWO, THREE, FOUR}),
        ("stateIN2,3", {ONE, TWO}),
        ("stateNOT IN2,3", {THREE, FOUR}),
        ("sys_mod_count>9", {TWO}),
        ("sys_mod_count<9", {ONE, FOUR}),
        ("hold_reason<5", {TWO}),
        ("sys_mod_countBETWEEN2@9", {ONE, THREE}),
        ("close_codeISEMPTY", {ONE, TWO, FOUR}),
        ("close_codeISNOTEMPTY", {THREE}),
        ("close_codeANYTHING", {ONE, TWO, THREE, FOUR}),
        ("short_descriptionLIKEvpn", {ONE}),
        ("close_codeSTARTSWITHsol", {THREE}),
        ("numberENDSWITH4", {FOUR}),
        ("assignment_group.name=Network", {ONE}),
        ("assignment_groupLIKEdata", {TWO}),
        ("assignment_groupINNetwork,Database", {ONE, TWO}),
        (f"assignment_groupIN{NETWORK}", {ONE}),
        ("sys_created_onSAMEASsys_updated_on", {FOUR}),
        ("sys_created_onNSAMEASsys_updated_on", {ONE, TWO, THREE}),
        ("sys_class_nameINSTANCEOFtask", {ONE, TWO, THREE, FOUR}),
        ("active=true^state=1^ORstate=2", {ONE, FOUR}),
        ("state=1^NQstate=7", {THREE, FOUR}),
        ("sys_updated_on>=2026-07-06 00:00:00", {THREE, FOUR}),
        ("sys_updated_on>2026-07-05 10:46:48", {THREE, FOUR}),
        (f"sys_updated_on=2026-07-05 10:46:48^sys_id>{ONE}", {TWO}),
        ("opened_at>javascript:gs.dateGenerate('2026-07-05','17:30:00')", {FOUR}),
        ("opened_at<javascript:gs.daysAgoStart(-3000)", {ONE, TWO, THREE, FOUR}),
        ("state=NOT_A_NUMBER", set()),
        ("state==1", set()),
        ("^^^", {ONE, TWO, THREE, FOUR}),
        ("no_such_field=x", {ONE, TWO, THREE, FOUR}),
        ("no_such_field=x^state=2", {ONE}),
        ("caller_id.no_such_field=x^ORstate=2", {ONE}),
    ],
)
def test_selects_what_the_query_says(read: Client, query: str, wanted: set[str]) -> None:
    answer = read.table("incident", query, fields="sys_id")
    assert wanted == {row["sys_id"] for row in answer.json()["result"]}
    assert str(len(wanted)) == answer.headers["X-Total-Count"]


def test_an_unknown_field_empties_the_answer_when_the_instance_is_set_so(start: Callable[..., Client]) -> None:
    strict = start(DESK, invalid_query="no_rows")
    assert [] == strict.ids("incident", "no_such_field=x")
    assert [] == strict.ids("incident", "no_such_field=x^state=2")
    assert [FOUR] == strict.ids("incident", "no_such_field=x^NQstate=1")


def test_history_has_no_sys_updated_on_so_a_condition_on_it_fails_open(desk: Client) -> None:
    assert 1 == len(desk.rows("sys_audit", "sys_updated_on>=2030-01-01 00:00:00"))
    assert 0 == len(desk.rows("sys_audit", "sys_created_on>=2030-01-01 00:00:00"))


def test_an_operator_that_is_not_simulated_is_refused_rather_than_dropped(desk: Client) -> None:
    assert 400 == desk.table("incident", "sys_created_onRELATIVEGT@hour@ago@1").status_code
    with pytest.raises(UnservedError):
        parse("opened_atONToday@javascript:gs.beginningOfToday()@javascript:gs.endOfToday()")


def test_plain_parameters_accept_display_values(read: Client) -> None:
    answer = read.get(f"{read.url}/api/now/table/incident", params={"state": "closed", "bogus": "1"}, timeout=30)
    assert [THREE] == [row["sys_id"] for row in answer.json()["result"]]


def test_sorts_integers_as_numbers_and_by_several_fields(read: Client) -> None:
    assert [FOUR, ONE, THREE, TWO] == read.ids("incident", "ORDERBYsys_mod_count^ORDERBYsys_id")
    assert [TWO, THREE, ONE, FOUR] == read.ids("incident", "ORDERBYDESCsys_mod_count^ORDERBYDESCsys_id")
    assert [FOUR, THREE, ONE, TWO] == read.ids("incident", "ORDERBYDESCsys_updated_on^ORDERBYsys_id")
    assert [FOUR, THREE, TWO, ONE] == read.ids("incident", "ORDERBYassignment_group.name^ORDERBYDESCsys_id")


# --- finding by bisection says the same as looking at every row -------------------------------------------------------

_STAMPS = ["", *(f"2026-01-0{day} 00:00:00" for day in range(1, 5))]
_ROWS = st.lists(
    st.tuples(st.sampled_from(_STAMPS), st.sampled_from(["", "1", "2", "10"]), st.sampled_from(["", "x", "y"])),
    max_size=12,
)
_SIGNS = st.sampled_from(["=", ">", ">=", "<", "<=", "!="])
_CONDITIONS = st.one_of(
    st.builds("sys_updated_on{}{}".format, _SIGNS, st.sampled_from(_STAMPS[1:])),
    st.builds("priority{}{}".format, _SIGNS, st.sampled_from(["1", "2", "10", "02", "x"])),
    st.builds("sys_id{}{:032x}".format, st.sampled_from(["=", ">", "<="]), st.integers(0, 12)),
    st.builds("correlation_id{}".format, st.sampled_from(["=x", "=", "INx,y", "INz", "ISEMPTY", "!=x"])),
)  # fmt: skip
_GROUP = st.lists(st.lists(_CONDITIONS, min_size=1, max_size=2).map("^OR".join), max_size=3).map("^".join)
_ORDERS = st.sampled_from(
    ["", "sys_id", "sys_updated_on", "sys_updated_on sys_id", "priority sys_id", "priority", "-sys_updated_on -sys_id",
     "-priority", "priority -sys_updated_on sys_id"]
)  # fmt: skip
_FIELDS = {"sys_updated_on": 0, "priority": 1, "correlation_id": 2, "sys_id": 3}


def _holds(text: str, row: tuple[str, ...]) -> bool:
    """The meaning of one condition, written down a second time and without any shortcut."""
    field, operator, operand = parse(text).groups[0][0][0]
    value = row[_FIELDS[field]]
    if operator in ("=", "!="):
        return (value == operand) is (operator == "=")
    if operator in ("IN", "ISEMPTY"):
        return value in operand.split(",") if operator == "IN" else value == ""
    if field == "priority":
        if not (value and operand.isdigit()):
            return False
        left, right = int(value), int(operand)
    else:
        left, right = value, operand
    return value != "" and {">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}[operator]


def _matches(groups: list[str], row: tuple[str, ...]) -> bool:
    return any(
        all(any(_holds(one, row) for one in clause.split("^OR")) for clause in _clauses(group)) for group in groups
    )


def _clauses(group: str) -> list[str]:
    return group.replace("^OR", "|OR").replace("|OR", "\0OR").replace("^", "\n").replace("\0", "^").splitlines()


def _sort_key(fields: list[str], row: tuple[str, ...]) -> list[object]:
    key: list[object] = []
    for field in fields:
        value = row[_FIELDS[field.lstrip("-")]]
        key.append(int(value or -1) if field.endswith("priority") else value)
    return key


def _desk(rows: list[tuple[str, str, str]]) -> tuple[Desk, Table, list[tuple[str, ...]]]:
    desk = Desk(clock=lambda: 0.0, account="itsms", data_policy=True, user_offset=0.0)
    table = desk.tables["incident"]
    full = [(*row, f"{place:032x}") for place, row in enumerate(rows)]
    for row in full:
        table.insert(table.row({field: row[place] for field, place in _FIELDS.items()}))
    return desk, table, full


@settings(max_examples=300, deadline=None)
@given(_ROWS, st.lists(_GROUP, min_size=1, max_size=3), _ORDERS, st.integers(1, 5))
def test_pages_are_the_matching_rows_in_the_order_asked_for(
    rows: list[tuple[str, str, str]], groups: list[str], order: str, limit: int
) -> None:
    desk, table, full = _desk(rows)
    groups = [group for group in groups if group] or [""]
    fields = order.split()
    sorting = "".join(f"^ORDERBY{'DESC' if f.startswith('-') else ''}{f.lstrip('-')}" for f in fields)
    search = Search(desk, table, parse("^NQ".join(groups) + sorting), Asker(fail_open=True, ties=Random(0)))
    wanted = [row for row in full if _matches(groups, row)]
    assert len(wanted) == search.count()
    found = [row[table.index["sys_id"]] for row in search.page(0, 100)]
    assert sorted(row[3] for row in wanted) == sorted(found)
    keys = [_sort_key(fields, full[int(sys_id, 16)]) for sys_id in found]
    for field_at in range(1 if fields else 0):
        down = fields[field_at].startswith("-")
        assert sorted((key[0] for key in keys), reverse=down) == [key[0] for key in keys]
    if fields and not any(field.startswith("-") for field in fields):
        assert sorted(keys) == keys
    if "sys_id" in order:
        offsets = range(0, len(found) + 1, limit)
        assert found == [row[table.index["sys_id"]] for at in offsets for row in search.page(at, limit)]


@settings(max_examples=100, deadline=None)
@given(_ROWS, st.lists(st.tuples(st.integers(0, 11), st.sampled_from(_STAMPS[1:]), st.booleans()), max_size=8))
def test_orders_stay_right_under_changes_and_removals(
    rows: list[tuple[str, str, str]], changes: list[tuple[int, str, bool]]
) -> None:
    _, table, _ = _desk(rows)
    by_stamp = table.order((table.index["sys_updated_on"],))
    by_priority = table.order((table.index["priority"],))
    for place, value, removes in changes:
        row = table.rows.get(f"{place:032x}")
        if row is not None:
            table.remove(row) if removes else table.change(row, {"sys_updated_on": value})
    for order in (by_stamp, by_priority):
        assert sorted(table.rows.values(), key=order.key) == order.rows


def _walk(client: Client, table: str, stamp: str, base: str, limit: int, **params: object) -> list[str]:
    """The keyset recipe of the reference: (stamp, sys_id), no offset but on pages that access rules emptied."""
    found: list[str] = []
    after, offset, order = f"{stamp}>=2000-01-01 00:00:00", 0, f"^ORDERBY{stamp}^ORDERBYsys_id"
    while True:
        answer = client.table(
            table, "^NQ".join(base + group for group in after.split("^NQ")) + order, fields=f"sys_id,{stamp}",
            limit=limit, offset=offset, no_count="true", **params,
        )  # fmt: skip
        rows = answer.json()["result"]
        found += [row["sys_id"] for row in rows]
        if "next" not in answer.links:
            return found
        if rows:
            last, offset = rows[-1], 0
            after = f"{stamp}>{last[stamp]}^NQ{stamp}={last[stamp]}^sys_id>{last['sys_id']}"
        else:
            offset += limit


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Incidents of which many share their second, so that every page border falls into a tie."""
    rows = [
        {"sys_id": f"{place * 7919 % 10007:032x}", "sys_updated_on": f"2026-01-01 00:00:0{place % 4}", "state": 2}
        for place in range(57)
    ]
    path = tmp_path / "crowded.json"
    path.write_text(json.dumps({"tables": {"incident": rows}}))
    return path


@pytest.mark.parametrize("limit", [1, 3, 10, 57, 100])
def test_a_keyset_walk_meets_every_row_once(start: Callable[..., Client], crowded: Path, limit: int) -> None:
    client = start(crowded)
    walked = _walk(client, "incident", "sys_updated_on", "state=2^", limit)
    assert 57 == len(walked)
    assert sorted(client.ids("incident")) == sorted(walked)


def test_ties_change_places_unless_sys_id_is_in_the_order(start: Callable[..., Client], crowded: Path) -> None:
    client = start(crowded)
    loose = {tuple(client.ids("incident", "ORDERBYsys_updated_on")) for _ in range(8)}
    unordered = {tuple(client.ids("incident")) for _ in range(8)}
    firm = {tuple(client.ids("incident", "ORDERBYsys_updated_on^ORDERBYsys_id")) for _ in range(8)}
    assert len(loose) > 1
    assert len(unordered) > 1
    assert 1 == len(firm)
    walked = [i for at in range(0, 57, 5) for i in client.ids("incident", "ORDERBYsys_updated_on", limit=5, offset=at)]
    assert len(set(walked)) < 57


# --- lists, headers, shapes ---------------------------------------------------------------------------------------


def test_links_and_counts_of_a_list(read: Client) -> None:
    answer = read.table("incident", "ORDERBYsys_id", limit=1, offset=1, fields="number")
    assert "4" == answer.headers["X-Total-Count"]
    places = {name: link["url"].rpartition("sysparm_offset=")[2] for name, link in answer.links.items()}
    assert {"first": "0", "next": "2", "prev": "0", "last": "3"} == places
    assert '>;rel="next",<' in answer.headers["Link"]
    assert read.get(answer.links["next"]["url"], timeout=30).json()["result"] == [{"number": "INC0000003"}]


def test_a_single_page_has_no_link_and_a_list_without_count_no_last(desk: Client) -> None:
    assert "Link" not in desk.table("incident").headers
    uncounted = desk.table("incident", limit=2, no_count="True")
    assert {"first", "next"} == set(uncounted.links)
    assert "X-Total-Count" not in uncounted.headers
    assert "Link" not in desk.table("incident", limit=2, suppress_pagination_header="TRUE").headers


def test_unknown_fields_and_parameters_are_ignored(desk: Client) -> None:
    assert [{"number": "INC0000001"}] == desk.rows("incident", "state=2", fields="number,nope,caller_id.nope", x="y")


SHAPES = {
    ("false", False): {"link": "{url}/api/now/table/sys_user/" + BETH, "value": BETH},
    ("false", True): BETH,
    ("true", False): {"display_value": "Beth Anglin", "link": "{url}/api/now/table/sys_user/" + BETH},
    ("true", True): "Beth Anglin",
    ("all", False): {"display_value": "Beth Anglin", "link": "{url}/api/now/table/sys_user/" + BETH, "value": BETH},
    ("all", True): {"display_value": "Beth Anglin", "value": BETH},
}


@pytest.mark.parametrize(("display", "bare"), SHAPES)
def test_shapes_of_references(read: Client, display: str, bare: bool) -> None:
    (row,) = read.rows("incident", "state=2", display_value=display, exclude_reference_link=bare, fields="caller_id")
    wanted = json.loads(json.dumps(SHAPES[display, bare]).replace("{url}", read.url))
    assert wanted == row["caller_id"]


def test_shapes_of_choices_dates_blanks_and_dotted_fields(desk: Client) -> None:
    fields = "state,sys_updated_on,problem_id,caller_id.email,assigned_to.active,work_notes"
    (raw,) = desk.rows("incident", "state=2", fields=fields)
    assert {
        "state": "2", "sys_updated_on": "2026-07-05 10:46:48", "problem_id": "", "caller_id.email": "beth@example.com",
        "assigned_to.active": "false", "work_notes": "",
    } == raw  # fmt: skip
    (both,) = desk.rows("incident", "state=2", fields=fields, display_value="all")
    assert {"display_value": "In Progress", "value": "2"} == both["state"]
    assert {"display_value": "2026-07-05 03:46:48", "value": "2026-07-05 10:46:48"} == both["sys_updated_on"]
    assert {"display_value": "", "value": ""} == both["problem_id"]
    assert both["work_notes"]["display_value"].endswith("beth.anglin (Work notes)\nLooked at it\n\n")


def test_serves_recorded_bodies_of_a_developer_instance_unchanged(
    start: Callable[..., Client], shared: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = "data/recorded/servicenow/tableName__"
    recorded = json.loads(shared(f"{folder}GET__200.json").read_text())["result"]
    path = tmp_path / "recorded.json"
    path.write_text(json.dumps({"tables": {"incident": recorded}}))
    client = start(path)
    here = json.dumps(recorded).replace("https://dev139850.service-now.com", client.url)
    assert json.loads(here) == client.rows("incident")
    one = json.loads(shared(f"{folder}sys_id__GET__200.json").read_text())["result"]
    served = client.get(f"{client.url}/api/now/table/incident/{one['sys_id']}", timeout=30).json()["result"]
    assert json.loads(json.dumps(one).replace("https://dev139850.service-now.com", client.url)) == served


def _shape(row: dict) -> dict:
    return {name: sorted(value) if isinstance(value, dict) else type(value) for name, value in row.items()}


def test_answers_an_insert_in_the_recorded_shape(start: Callable[..., Client], shared: Callable[[str], Path]) -> None:
    recorded = json.loads(shared("data/recorded/servicenow/tableName__POST__201.json").read_text())["result"]
    answer = start().write("POST", "incident", {"short_description": ""})
    assert 201 == answer.status_code
    assert _shape(recorded) == _shape(answer.json()["result"])
    varying = {name for name in recorded if name.startswith(("sys_", "opened_", "number", "task_effective"))}
    assert {k: v for k, v in recorded.items() if k not in varying} == {
        k: v for k, v in answer.json()["result"].items() if k not in varying
    }


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_answers_an_update_with_the_recorded_body(
    start: Callable[..., Client], shared: Callable[[str], Path], tmp_path: Path, method: str
) -> None:
    recorded = json.loads(shared(f"data/recorded/servicenow/tableName__sys_id__{method}__200.json").read_text())[
        "result"
    ]
    path = tmp_path / "before.json"
    before = {**recorded, "short_description": "", "sys_mod_count": "0"}
    path.write_text(json.dumps({"tables": {"incident": [before]}}))
    client = start(path)
    url = f"{client.url}/api/now/table/incident/{recorded['sys_id']}"
    answer = client.request(method, url, json={"short_description": recorded["short_description"]}, timeout=30)
    here = json.loads(json.dumps(recorded).replace("https://dev139850.service-now.com", client.url))
    stamps = {"sys_updated_on", "sys_updated_by"}
    assert (200, {**here, **dict.fromkeys(stamps)}) == (
        answer.status_code,
        {**answer.json()["result"], **dict.fromkeys(stamps)},
    )


@pytest.mark.parametrize(
    ("path", "login", "file", "status"),
    [
        ("incident", None, "tableName__401.json", 401),
        (":tableName", ("itsms", "secret"), "tableName__404.json", 400),
        ("incident/0", ("itsms", "secret"), "tableName__sys_id__404.json", 404),
    ],
)
def test_errors_have_the_recorded_bodies(
    desk: Client, shared: Callable[[str], Path], path: str, login: tuple[str, str] | None, file: str, status: int
) -> None:
    desk.auth = login
    answer = desk.get(f"{desk.url}/api/now/table/{path}", timeout=30)
    recorded = json.loads(shared(f"data/recorded/servicenow/{file}").read_text())
    assert (status, recorded) == (answer.status_code, answer.json())


def test_v1_answers_404_for_an_empty_list(desk: Client) -> None:
    url = f"{desk.url}/api/now/{{}}/table/incident?sysparm_query=state=99"
    assert 404 == desk.get(url.format("v1"), timeout=30).status_code
    answer = desk.get(url.format("v2"), timeout=30)
    assert (200, {"result": []}) == (answer.status_code, answer.json())


def test_every_response_names_the_simulator_and_its_time(start: Callable[..., Client]) -> None:
    client = start(DESK, clock_offset="86400")
    for path in ("/", "/api/now/table/incident", "/_sim/ledger", "/nowhere"):
        answer = client.get(client.url + path, timeout=30)
        assert "servicenow-simulator/1" == answer.headers["Server"]
        ahead = time.mktime(time.strptime(answer.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
        assert 86390 < ahead - time.time() < 86410
    born = client.write("POST", "incident", {}).json()["result"]["sys_created_on"]
    assert time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400)) == born[:10]


def test_only_the_date_header_may_be_wrong(start: Callable[..., Client]) -> None:
    answer = start(date_offset="-3600").write("POST", "incident", {})
    stamp, date = answer.json()["result"]["sys_created_on"], answer.headers["Date"]
    told = calendar.timegm(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT"))
    assert 3595 < calendar.timegm(time.strptime(stamp, "%Y-%m-%d %H:%M:%S")) - told < 3605


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "incident", {"Accept": "text/csv"}, None, 406),
        ("GET", "incident", {"Accept": None}, None, 400),
        ("POST", "incident", {"Content-Type": "text/plain"}, b"{}", 415),
        ("POST", "incident", {"Content-Type": None}, b"{}", 400),
        ("POST", "incident", {"Content-Type": "application/json"}, b"{", 400),
        ("POST", "incident", {"Content-Type": "application/json"}, b"[]", 400),
        ("DELETE", "incident", {}, None, 405),
        ("POST", f"incident/{ONE}", {"Content-Type": "application/json"}, b"{}", 405),
        ("GET", "incident?sysparm_offset=-1", {}, None, 400),
        ("GET", "incident/x/y", {}, None, 400),
        ("GET", "incident?sysparm_query=" + "x" * 8190, {}, None, 414),
    ],
)
def test_refuses_what_the_product_refuses(
    desk: Client, method: str, path: str, headers: dict, body: bytes | None, status: int
) -> None:
    answer = desk.request(method, f"{desk.url}/api/now/table/{path}", headers=headers, data=body, timeout=30)
    assert status == answer.status_code


def test_compresses_small_bodies_when_asked(desk: Client) -> None:
    packed = desk.table("incident")
    assert "gzip" == packed.headers["Content-Encoding"]
    plain = desk.get(f"{desk.url}/api/now/table/incident", headers={"Accept-Encoding": "identity"}, timeout=30)
    assert "Content-Encoding" not in plain.headers
    assert sorted(row["number"] for row in plain.json()["result"]) == sorted(
        r["number"] for r in packed.json()["result"]
    )


def test_head_and_the_method_override(desk: Client) -> None:
    head = desk.head(f"{desk.url}/api/now/table/incident", timeout=30)
    assert (b"", "4") == (head.content, head.headers["X-Total-Count"])
    url = f"{desk.url}/api/now/table/incident/{FOUR}"
    answer = desk.post(url, json={"impact": "1"}, headers={"X-HTTP-Method-Override": "PATCH"}, timeout=30)
    assert "1" == answer.json()["result"]["impact"]


def test_task_mixes_everything_that_extends_it(desk: Client) -> None:
    assert {"incident": 4, "problem": 1} == Counter(row["sys_class_name"] for row in desk.rows("task"))
    answer = desk.write("PATCH", f"task/{FOUR}", {"short_description": "Through the base table"})
    assert 200 == answer.status_code
    assert [FOUR] == desk.ids("incident", "short_descriptionSTARTSWITHThrough")


# --- access -------------------------------------------------------------------------------------------------------


def test_rows_are_hidden_after_the_limit(start: Callable[..., Client]) -> None:
    client = start(DESK, ACCESS)
    pages = [client.table("incident", "ORDERBYsys_id", limit=2, offset=at, fields="sys_id") for at in (0, 2)]
    assert [[], [THREE, FOUR]] == [[row["sys_id"] for row in page.json()["result"]] for page in pages]
    assert ["4", "4"] == [page.headers["X-Total-Count"] for page in pages]
    assert [True, False] == ["next" in page.links for page in pages]
    assert 404 == client.get(f"{client.url}/api/now/table/incident/{ONE}", timeout=30).status_code
    assert 404 == client.write("PATCH", f"incident/{ONE}", {}).status_code
    assert [THREE, FOUR] == _walk(client, "incident", "sys_updated_on", "", 1)
    assert 1 == len(client.rows("sys_audit", f"documentkey={ONE}"))
    dictionary = client.table("sys_dictionary")
    assert [] == dictionary.json()["result"]
    assert int(dictionary.headers["X-Total-Count"]) > 900


def test_fields_are_missing_and_querying_them_is_refused(start: Callable[..., Client], tmp_path: Path) -> None:
    partial = tmp_path / "partial.yaml"
    partial.write_text(f"access: {{deny_fields: {{incident: {{close_code: [{ONE}], hold_reason: ['*']}}}}}}")
    client = start(DESK, partial)
    rows = {row["sys_id"]: row for row in client.rows("incident")}
    assert [ONE] == [sys_id for sys_id, row in rows.items() if "close_code" not in row]
    assert 4 == sum("hold_reason" not in row for row in rows.values())
    for query in ("hold_reason=1", "ORDERBYhold_reason", "state=1^ORhold_reason=1"):
        answer = client.table("incident", query)
        assert (403, "Insufficient rights to query records") == (answer.status_code, answer.json()["error"]["message"])
        assert "Field(s) present in the query" in answer.json()["error"]["detail"]
    assert 4 == len(client.rows("incident", "close_codeANYTHING"))


def test_tables_and_writes_are_denied(start: Callable[..., Client]) -> None:
    client = start(DESK, ACCESS)
    denied = client.table("metric_instance")
    assert (403, "Failed API level ACL Validation") == (denied.status_code, denied.json()["error"]["detail"])
    refused = client.write("POST", "change_request", {"short_description": "x"})
    wanted = {"message": "Operation Failed", "detail": "ACL Exception Insert Failed due to security constraints"}
    assert (403, wanted) == (refused.status_code, refused.json()["error"])
    assert 403 == client.table("sys_choice", "name=incident").status_code
    assert "In Progress" in {row["label"] for row in client.rows("sys_choice", fields="label,name")}


def test_denied_search_raises_before_it_looks() -> None:
    desk, table, _ = _desk([])
    desk.access = type(desk.access)(deny_fields={"incident": {"number": frozenset("*")}})
    with pytest.raises(RefusedError):
        Search(desk, table, parse("number=1"), Asker(fail_open=True, ties=Random(0)))


# --- writes -------------------------------------------------------------------------------------------------------


def _history(client: Client, sys_id: str) -> list[tuple[str, str, str, str]]:
    rows = client.rows("sys_audit", f"documentkey={sys_id}^ORDERBYrecord_checkpoint^ORDERBYsys_id")
    return [(row["record_checkpoint"], row["fieldname"], row["oldvalue"], row["newvalue"]) for row in rows]


def test_a_save_counts_and_leaves_audit_and_journal_rows(desk: Client) -> None:
    body = {"state": "2", "assignment_group": NETWORK, "work_notes": "Took it", "comments": "Hello"}
    answer = desk.write("PATCH", f"incident/{FOUR}", body).json()["result"]
    assert ("1", "itsms", "2") == (answer["sys_mod_count"], answer["sys_updated_by"], answer["incident_state"])
    history = set(_history(desk, FOUR))
    assert {
        ("1", "state", "1", "2"), ("1", "assignment_group", "", NETWORK), ("1", "work_notes", "", "Took it"),
        ("1", "comments", "", "Hello"),
    } == history  # fmt: skip
    notes = desk.rows("sys_journal_field", f"element_id={FOUR}", fields="element,value,sys_created_by,name")
    assert {("work_notes", "Took it"), ("comments", "Hello")} == {(note["element"], note["value"]) for note in notes}
    assert {("itsms", "incident")} == {(note["sys_created_by"], note["name"]) for note in notes}


def test_a_save_without_a_change_is_no_save(desk: Client) -> None:
    answer = desk.write("PUT", f"incident/{TWO}", {"state": "3"})
    assert (200, "10") == (answer.status_code, answer.json()["result"]["sys_mod_count"])
    assert [] == _history(desk, TWO)


def test_read_only_unknown_and_invalid_values_are_dropped_in_silence(desk: Client) -> None:
    body = {
        "sys_mod_count": "99", "sys_created_on": "1999-01-01 00:00:00", "resolved_at": "1999-01-01 00:00:00",
        "no_such_field": "x", "impact": "7", "urgency": "", "assigned_to": "f" * 32, "description": "kept",
    }  # fmt: skip
    answer = desk.write("PATCH", f"incident/{FOUR}", body)
    row = answer.json()["result"]
    assert 200 == answer.status_code
    assert ("1", "2026-07-06 08:00:00", "", "3", "3", "", "kept") == tuple(
        row[name]
        for name in (
            "sys_mod_count",
            "sys_created_on",
            "resolved_at",
            "impact",
            "urgency",
            "assigned_to",
            "description",
        )
    )
    assert "no_such_field" not in row
    problem = desk.ids("problem")[0]
    assert "101" == desk.write("PATCH", f"problem/{problem}", {"state": "106"}).json()["result"]["state"]
    assert [] == _history(desk, problem)


def test_the_data_policy_names_labels_and_can_be_switched_off(start: Callable[..., Client]) -> None:
    strict, lax = start(DESK), start(DESK, data_policy="false")
    for state in ("6", "7"):
        answer = strict.write("PATCH", f"incident/{FOUR}", {"state": state, "close_notes": "x"})
        wanted = {"message": "Data Policy Exception", "detail": "The following fields are mandatory: Resolution code"}
        assert (403, wanted) == (answer.status_code, answer.json()["error"])
        assert 200 == lax.write("PATCH", f"incident/{FOUR}", {"state": state}).status_code
    invalid = {"state": "6", "close_notes": "x", "close_code": "Nonsense"}
    assert 403 == strict.write("PATCH", f"incident/{FOUR}", invalid).status_code
    assert [] == _history(strict, FOUR)


def test_states_bring_about_what_a_stock_instance_does(desk: Client) -> None:
    def patch(**body: str) -> dict:
        return desk.write("PATCH", f"incident/{FOUR}", body).json()["result"]

    assert "1" == patch(state="3", hold_reason="1")["hold_reason"]
    resolved = patch(state="6", close_code="User error", close_notes="x")
    assert ("", "itsms") == (
        resolved["hold_reason"],
        desk.rows("sys_user", f"sys_id={resolved['resolved_by']['value']}")[0]["name"],
    )
    assert resolved["resolved_at"]
    reopened = patch(state="2")
    assert ("1", "", "") == tuple(reopened[name] for name in ("reopen_count", "resolved_at", "resolved_by"))
    patch(state="6")
    closed = patch(state="7")
    assert ("false", "1") == (closed["active"], closed["reopen_count"])
    assert closed["closed_at"]
    assert "1" == patch(impact="1", urgency="1")["priority"]
    assert "0" == patch(assignment_group=NETWORK)["reassignment_count"]
    assert "1" == patch(assignment_group="b0000000000000000000000000000002")["reassignment_count"]


def test_inserts_get_a_number_and_answer_with_their_place(desk: Client) -> None:
    answer = desk.write(
        "POST", "problem", {"short_description": "Drift", "correlation_id": "k1"}, sysparm_fields="number,sys_id"
    )
    made = answer.json()["result"]
    assert (201, "PRB0000002") == (answer.status_code, made["number"])
    assert f"{desk.url}/api/now/table/problem/{made['sys_id']}" == answer.headers["Location"]
    assert [made["sys_id"]] == desk.ids("problem", "correlation_id=k1")
    assert {"k1": 1} == desk.ledger()["keys"]
    silent = desk.post(f"{desk.url}/api/now/table/problem", json={}, headers={"X-no-response-body": "true"}, timeout=30)
    assert (201, b"") == (silent.status_code, silent.content)


def test_display_values_may_be_sent_when_the_request_says_so(desk: Client) -> None:
    body = {"state": "In Progress", "assignment_group": "Network", "due_date": "2026-07-05 03:46:48"}
    row = desk.write("PATCH", f"incident/{FOUR}", body, sysparm_input_display_value="true").json()["result"]
    assert ("2", NETWORK, "2026-07-05 10:46:48") == (row["state"], row["assignment_group"]["value"], row["due_date"])


def test_a_delete_leaves_a_trail(desk: Client) -> None:
    answer = desk.delete(f"{desk.url}/api/now/table/incident/{FOUR}", timeout=30)
    assert (204, b"") == (answer.status_code, answer.content)
    assert FOUR not in desk.ids("incident")
    trail = desk.rows("sys_audit_delete", "tablename=incident", fields="documentkey,display_value")
    assert [{"documentkey": FOUR, "display_value": "INC0000004"}] == trail
    assert 404 == desk.delete(f"{desk.url}/api/now/table/incident/{FOUR}", timeout=30).status_code


def test_only_audited_fields_leave_history(start: Callable[..., Client]) -> None:
    client = start(DESK, ACCESS)
    client.write("PATCH", f"incident/{FOUR}", {"state": "2", "impact": "1", "work_notes": "x"})
    assert [("1", "state", "1", "2")] == _history(client, FOUR)


# --- pages, ledger, faults, limits --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["/nav_to.do?uri=incident.do?sys_id={}", "/nav_to.do?uri=%2Fincident.do%3Fsys_id%3D{}", "/incident.do?sys_id={}"],
)
def test_a_person_can_read_a_record(read: Client, address: str) -> None:
    answer = requests.get(read.url + address.format(ONE), timeout=30)
    assert "text/html;charset=UTF-8" == answer.headers["Content-Type"]
    for text in (
        "INC0000001",
        "VPN &lt;b&gt;drops&lt;/b&gt;",
        "In Progress (2)",
        "Don Goodliffe",
        "Looked at it",
        "beth.anglin",
    ):
        assert text in answer.text
    assert "<b>drops" not in answer.text


def test_a_person_finds_the_way_and_a_wrong_one_says_so(desk: Client) -> None:
    assert '<a href="/incident_list.do">incident</a></td><td>4</td>' in requests.get(desk.url, timeout=30).text
    assert f'/incident.do?sys_id={ONE}"' in requests.get(f"{desk.url}/incident_list.do", timeout=30).text
    assert 404 == requests.get(f"{desk.url}/incident.do?sys_id=x", timeout=30).status_code
    assert 400 == requests.get(f"{desk.url}/no_such_table.do?sys_id=x", timeout=30).status_code


def test_the_ledger_counts_what_was_done(desk: Client) -> None:
    desk.rows("incident")
    desk.get(f"{desk.url}/api/now/table/incident/{ONE}", timeout=30)
    desk.write("POST", "incident", {})
    desk.write("PATCH", f"incident/{ONE}", {"impact": "2"})
    books = desk.ledger()
    assert {
        "GET /api/now/table/incident": 1, "GET /api/now/table/incident/{id}": 1, "POST /api/now/table/incident": 1,
        "PATCH /api/now/table/incident/{id}": 1,
    } == books["requests"]  # fmt: skip
    assert ({"incident": 5}, {"incident": 1}, {"incident": 1}) == (
        books["rows_served"],
        books["inserted"],
        books["updated"],
    )
    assert {"200": 3, "201": 1} == books["statuses"]
    assert 5 == books["tables"]["incident"]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"do": "status", "times": 2}, [503, 503, 200, 200]),
        ({"do": "status", "nth": 2, "status": 429}, [200, 429, 200, 200]),
        ({"do": "status", "nth": 2, "times": 2, "status": 500}, [200, 500, 500, 200]),
        ({"do": "status"}, [503, 503, 503, 503]),
        ({"do": "status", "method": "POST"}, [200, 200, 200, 200]),
        ({"do": "status", "path": "problem$"}, [200, 200, 200, 200]),
        ({"do": "status", "query": "sysparm_limit=9"}, [503, 503, 503, 503]),
        ({"do": "empty_202", "times": 1}, [202, 200, 200, 200]),
    ],
)
def test_faults_act_when_they_are_due(desk: Client, rule: dict, wanted: list[int]) -> None:
    desk.fault(**rule)
    assert wanted == [desk.table("incident", limit=9).status_code for _ in range(4)]
    assert sum(status != 200 for status in wanted) == sum(desk.ledger()["faults"].values())
    desk.delete(f"{desk.url}/_sim/faults", timeout=30)
    assert 200 == desk.table("incident", limit=9).status_code


def test_a_fault_brings_its_headers_and_body(desk: Client) -> None:
    desk.fault(do="status", status=429, headers={"Retry-After": 7}, nth=1)
    desk.fault(
        do="status", status=403, nth=2, body={"error": {"message": "Operation Failed", "detail": "Business Rule"}}
    )
    limited, aborted = desk.table("incident"), desk.table("incident")
    assert ("7", "Rate limit exceeded") == (limited.headers["Retry-After"], limited.json()["error"]["message"])
    assert "Business Rule" == aborted.json()["error"]["detail"]


@pytest.mark.parametrize(("do", "kept"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_write_did_or_did_not_happen(desk: Client, do: str, kept: int) -> None:
    desk.fault(method="POST", do=do, nth=1)
    with pytest.raises(requests.ConnectionError):
        desk.write("POST", "problem", {"correlation_id": "k"})
    assert kept == len(desk.ids("problem", "correlation_id=k"))
    assert kept == desk.ledger()["inserted"].get("problem", 0)


def test_bodies_can_be_cut_wrong_or_half(desk: Client) -> None:
    desk.fault(do="truncate", nth=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        desk.table("incident")
    desk.fault(do="error_body", nth=1)
    assert {"error", "status"} == set(desk.table("incident").json())
    desk.fault(do="half_page_error", nth=1)
    half = desk.table("incident")
    assert (200, 2, "Transaction cancelled: maximum execution time exceeded") == (
        half.status_code, len(half.json()["result"]), half.json()["error"]["message"],
    )  # fmt: skip
    desk.fault(do="cut_json", nth=1)
    with pytest.raises(requests.exceptions.JSONDecodeError):
        desk.table("incident").json()
    desk.fault(do="html_200", nth=1)
    page = desk.table("incident")
    assert (200, True) == (page.status_code, page.headers["Content-Type"].startswith("text/html"))


def test_a_delay_waits_and_a_stop_does_not_wait_for_it(start: Callable[..., Client]) -> None:
    simulator = serve(data=[DESK])
    with Client(simulator.url) as client:
        client.fault(do="delay", seconds=0.2, nth=1)
        began = time.monotonic()
        client.table("incident")
        assert time.monotonic() - began >= 0.2
        client.fault(do="delay", seconds=60)
        caught: list[Exception] = []

        def ask() -> None:
            with Client(simulator.url) as other:
                try:
                    other.table("incident")
                except requests.ConnectionError as error:
                    caught.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        while not client.ledger()["faults"].get("delay", 0) > 1:
            time.sleep(0.01)
        began = time.monotonic()
        simulator.stop()
        asking.join()
        simulator.stop()
        assert time.monotonic() - began < 5


def test_faults_come_from_a_file_and_wrong_ones_are_refused(start: Callable[..., Client], tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('[{"do": "status", "status": 502, "nth": 1}]')
    client = start(DESK, faults=str(path))
    assert [502, 200] == [client.table("incident").status_code for _ in range(2)]
    for rule in ({"do": "explode"}, {"do": "delay", "secnds": 1}, {"do": "delay", "path": "("}, [1]):
        assert 400 == client.post(f"{client.url}/_sim/faults", json=rule, timeout=30).status_code
    (listed,) = client.get(f"{client.url}/_sim/faults", timeout=30).json()
    assert (2, 1) == (listed["seen"], listed["acted"])


def test_a_rate_rule_shows_in_every_response(start: Callable[..., Client]) -> None:
    client = start(DESK, rate_limit="2")
    answers = [client.table("incident") for _ in range(3)]
    assert [200, 200, 429] == [answer.status_code for answer in answers]
    assert {"2"} == {answer.headers["X-RateLimit-Limit"] for answer in answers}
    assert 0 < int(answers[2].headers["Retry-After"]) <= 3600
    assert "Retry-After" not in answers[1].headers


@pytest.mark.parametrize("login", [None, ("itsms", "wrong"), ("other", "secret")])
def test_nobody_else_gets_in(desk: Client, login: tuple[str, str] | None) -> None:
    desk.auth = login
    answer = desk.table("incident")
    assert (401, 'BASIC realm="Service-now"') == (answer.status_code, answer.headers["WWW-Authenticate"])


def test_wrong_options_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown option colour.*option days.*option gzip.*option live"):
        serve(options={"colour": "red", "days": "many", "gzip": "maybe", "live": "si"})
    wrong = tmp_path / "wrong.yaml"
    for text, message in (
        ("- 1", "neither a mapping"),
        ("table: {}", "unknown key table"),
        ("access: {x: 1}", "unknown key x"),
    ):
        wrong.write_text(text)
        with pytest.raises(ValueError, match=message):
            serve(data=[wrong])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_alone_until_it_is_told_to_end(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "connectors.servicenow.simulator", "--data", str(DESK), "--option", "user=u"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert 200 == requests.get(f"{url}/api/now/table/incident", auth=("u", "secret"), timeout=30).status_code
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (0, "", "") == (process.returncode, out, err)


# --- a lively desk ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy() -> Iterator[Client]:
    simulator = serve(options={"desk": "lively", "live": "false", "days": "60", "per_day": "30", "seed": "7"})
    with Client(simulator.url) as client:
        yield client
    simulator.stop()


def test_a_lively_history_leads_to_what_the_records_say(busy: Client) -> None:
    names = [
        "state",
        "hold_reason",
        "priority",
        "assignment_group",
        "assigned_to",
        "close_code",
        "reopen_count",
        "resolved_at",
    ]
    records = busy.rows("incident", fields=",".join([*names, "sys_id", "sys_mod_count"]), exclude_reference_link="true")
    walked: dict[tuple[str, str], str] = {}
    checkpoints: dict[str, list[int]] = defaultdict(list)
    for row in busy.rows("sys_audit", "ORDERBYrecord_checkpoint^ORDERBYsys_id", limit=100000):
        key = (row["documentkey"], row["fieldname"])
        if row["fieldname"] not in ("work_notes", "comments"):
            assert walked.get(key, row["oldvalue"]) == row["oldvalue"]
        walked[key] = row["newvalue"]
        checkpoints[row["documentkey"]].append(int(row["record_checkpoint"]))
    assert len(records) > 1000
    for record in records:
        for name in names:
            assert walked.get((record["sys_id"], name), record[name]) == record[name]
        saves = checkpoints.get(record["sys_id"], [0])
        assert int(record["sys_mod_count"]) == max(saves)


def test_what_was_planted_shows_in_the_rows(busy: Client) -> None:
    planted = busy.ledger()["planted"]
    assert {
        "off_matrix", "reopened", "skipped_work", "blank_close_code", "ping_pong", "late_response", "late_resolution",
        "forbidden_step",
    } == {kind for kind in planted if "." not in kind}  # fmt: skip
    incidents = {row["number"]: row for row in busy.rows("incident", exclude_reference_link="true")}
    off = {
        number
        for number, row in incidents.items()
        if int(row["priority"]) != int(row["impact"]) + int(row["urgency"]) - 1
    }
    assert set(planted["off_matrix"]) == off
    ids = {row["sys_id"]: number for number, row in incidents.items()}
    steps = defaultdict(set)
    for row in busy.rows("sys_audit", "tablename=incident^fieldname=state"):
        steps[row["oldvalue"], row["newvalue"]].add(ids[row["documentkey"]])
    assert set(planted["reopened"]) == steps["6", "2"]
    assert set(planted["forbidden_step"]) == steps["2", "1"] | steps["7", "2"]
    assert set(planted["skipped_work"]) < steps["1", "6"]
    moved = {number for number, row in incidents.items() if row["reassignment_count"] != "0"}
    assert set(planted["skipped_work"]) <= moved
    assert set(planted["blank_close_code"]) >= {
        n for n, row in incidents.items() if row["state"] in "67" and not row["close_code"]
    }


def test_a_lively_desk_has_people_a_job_and_shared_seconds(busy: Client) -> None:
    (job,) = busy.rows("sys_user", "internal_integration_user=true", fields="user_name")
    assert {"user_name": "system"} == job
    closings = busy.rows("sys_audit", "tablename=incident^fieldname=state^newvalue=7", fields="user,sys_created_on")
    assert 0.7 < sum(row["user"] == "system" for row in closings) / len(closings) < 0.95
    assert max(Counter(row["sys_created_on"] for row in closings).values()) > 1
    assert busy.rows("sys_journal_field", "element=work_notes", limit=5)
    assert busy.rows("sys_audit", "fieldname=work_notes^newvalueISNOTEMPTY", limit=5)
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    assert [] == busy.ids("sys_audit", f"sys_created_on>{now}")


def test_a_lively_desk_goes_on(start: Callable[..., Client]) -> None:
    client = start(desk="lively", days="5", per_day="10", tempo="0.01")
    before = client.ledger()["tables"]
    deadline = time.monotonic() + 10
    while (
        client.ledger()["tables"]["incident"] == before["incident"]
        or client.ledger()["tables"]["sys_audit"] == before["sys_audit"]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- the public log -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def public(shared: Callable[[str], Path]) -> Iterator[Client]:
    simulator = serve(data=[shared(LOG)])
    with Client(simulator.url) as client:
        yield client
    simulator.stop()


@pytest.fixture(scope="module")
def incidents(public: Client) -> dict[str, dict]:
    rows = public.rows("incident", exclude_reference_link="true", limit=100000)
    return {row["sys_id"]: row for row in rows}


@pytest.fixture(scope="module")
def audits(public: Client) -> dict[str, list[dict]]:
    """Audit rows per incident in checkpoint order, read by pages of the keyset recipe's order."""
    fields = "sys_id,documentkey,fieldname,oldvalue,newvalue,user,record_checkpoint,sys_created_on"
    rows = public.rows("sys_audit", "tablename=incident", limit=1000000, fields=fields)
    cases: dict[str, list[dict]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: int(row["record_checkpoint"])):
        cases[row["documentkey"]].append(row)
    return cases


def test_the_log_is_served_whole(public: Client, incidents: dict, audits: dict) -> None:
    assert 24918 == len(incidents)
    assert Counter({"7": 24918}) == Counter(row["state"] for row in incidents.values())
    assert not {"close_notes", "short_description"} & set(next(iter(incidents.values())))
    # each line but the first of a case is one save
    saves = sum(len({row["record_checkpoint"] for row in rows}) for rows in audits.values())
    assert 141712 - 24918 == saves


def test_reopened_cases_are_those_of_the_log(incidents: dict, audits: dict) -> None:
    counted = {sys_id for sys_id, row in incidents.items() if int(row["reopen_count"]) > 0}
    walked = {
        sys_id
        for sys_id, rows in audits.items()
        if any(
            r["fieldname"] == "state" and r["oldvalue"] in ("6", "7") and r["newvalue"] not in ("6", "7") for r in rows
        )
    }
    assert 275 == len(counted)
    assert counted == walked


def test_facts_of_the_log_come_out_of_the_served_tables(incidents: dict, audits: dict) -> None:
    late = sum(row["made_sla"] == "false" for row in incidents.values())
    blank = sum(row["close_code"] == "" for row in incidents.values())
    off = {
        (row["impact"], row["urgency"], row["priority"])
        for row in incidents.values()
        if int(row["priority"]) != int(row["impact"]) + int(row["urgency"]) - 1
    }
    assert (9115, 107, {("3", "3", "4")}) == (late, blank, off)
    active = {
        i
        for i, rows in audits.items()
        if any(r["fieldname"] == "state" and "2" in (r["oldvalue"], r["newvalue"]) for r in rows)
    }
    never = len(incidents) - len(active)
    assert 9905 == never


def test_the_trail_leads_to_the_final_record_and_its_counter_only_rises(incidents: dict, audits: dict) -> None:
    for sys_id, rows in audits.items():
        record = incidents[sys_id]
        values: dict[str, str] = {}
        # rows of sys_mod_count stand only for the saves that changed nothing else
        for row in (row for row in rows if row["fieldname"] != "sys_mod_count"):
            assert values.get(row["fieldname"], row["oldvalue"]) == row["oldvalue"]
            values[row["fieldname"]] = row["newvalue"]
        assert {name: record[name] for name in values} == values
        assert record["sys_mod_count"] == rows[-1]["record_checkpoint"]


def test_no_value_is_seen_before_its_time(audits: dict) -> None:
    for rows in audits.values():
        state_at = [row["record_checkpoint"] for row in rows if row["fieldname"] == "state" and row["newvalue"] == "6"]
        coded = [row for row in rows if row["fieldname"] == "close_code"]
        assert len(coded) <= 1
        if coded and state_at:
            assert state_at[0] == coded[0]["record_checkpoint"]
        assert all(row["oldvalue"] == "" for row in coded)


def test_every_line_of_the_log_is_found_again(shared: Callable[[str], Path], audits: dict, incidents: dict) -> None:
    """States of each case, line by line, from the log itself and from the trail walked backwards."""
    ids = {row["number"]: sys_id for sys_id, row in incidents.items()}
    codes = {"New": "1", "Active": "2", "Resolved": "6", "Closed": "7", "-100": "-100"}
    wanted: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    with gzip.open(shared(LOG), "rt", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            stamp = time.strptime(line["sys_updated_at"], "%d/%m/%Y %H:%M") if line["number"] < "INC0002000" else None
            if stamp:
                at = time.strftime("%Y-%m-%d %H:%M:00", stamp)
                wanted[line["number"]].append((codes.get(line["incident_state"], "3"), at, line["sys_updated_by"]))
    for number, lines in wanted.items():
        saves: dict[str, dict] = {}
        for row in audits[ids[number]]:
            saves.setdefault(row["record_checkpoint"], row)
        states = {
            row["record_checkpoint"]: row["newvalue"] for row in audits[ids[number]] if row["fieldname"] == "state"
        }
        state, walked = lines[0][0], [lines[0]]
        for checkpoint, row in saves.items():
            state = states.get(checkpoint, state)
            walked.append((state, row["sys_created_on"], row["user"]))
        assert lines == walked
    assert len(wanted) > 500


def test_references_of_the_log_lead_somewhere(public: Client, incidents: dict) -> None:
    users = {row["sys_id"]: row["user_name"] for row in public.rows("sys_user", fields="sys_id,user_name")}
    named = {
        row[name] for row in incidents.values() for name in ("caller_id", "opened_by", "assigned_to", "resolved_by")
    }
    assert named - {""} <= users.keys()
    assert {row["sys_updated_by"] for row in incidents.values()} <= set(users.values())
    assert 78 == len(public.rows("sys_user_group"))
    (row,) = public.rows("incident", "number=INC0000045", display_value="true", exclude_reference_link="true")
    assert ("Opened by  8", "code 5", "2016-02-29 04:29:00") == (
        row["opened_by"],
        row["close_code"],
        row["resolved_at"],
    )


def test_tables_of_the_log_can_be_walked(public: Client) -> None:
    # the API's own account is as old as the instance, and the walk starts later
    for table, size in (("sys_user", 6932), ("problem", 252), ("cmn_location", 224)):
        assert size == len(set(_walk(public, table, "sys_updated_on", "", 1000)))
    assert 17 == len(public.rows("sys_choice", "name=incident^element=close_code", fields="value"))


def test_the_public_trail_walked_by_keyset_is_whole(public: Client, audits: dict) -> None:
    walked = _walk(public, "sys_audit", "sys_created_on", "fieldname=state^", 10000)
    wanted = [row["sys_id"] for rows in audits.values() for row in rows if row["fieldname"] == "state"]
    assert sorted(wanted) == sorted(walked)


def test_history_of_named_records_is_found_without_a_scan(public: Client, audits: dict) -> None:
    some = list(audits)[:100]
    query = f"documentkeyIN{','.join(some)}^ORDERBYsys_created_on^ORDERBYsys_id"
    public.rows("sys_audit", query, limit=1)
    began = time.monotonic()
    for _ in range(10):
        rows = public.rows("sys_audit", query, fields="sys_id")
    assert sum(len(audits[sys_id]) for sys_id in some) == len(rows)
    assert time.monotonic() - began < 2
