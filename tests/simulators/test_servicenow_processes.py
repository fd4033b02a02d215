"""The ServiceNow simulator beyond incidents: problems, changes, requests, approvals, service levels, journal."""

import gzip
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import requests

from connectors.servicenow.simulator import changes, serve
from connectors.servicenow.simulator.approvals import Approvals
from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.lively import Lively
from connectors.servicenow.simulator.marks import stamp
from connectors.servicenow.simulator.metrics import Metrics
from connectors.servicenow.simulator.slas import ServiceLevels
from connectors.servicenow.simulator.tables import Row
from tests.simulators.servicenow_desks import LoggedIn, starting

DATA = Path(__file__).parent / "data" / "servicenow_changes.yaml"
ADA, BO, OLGA, PAVEL, OWN = (f"a{number:031d}" for number in range(1, 6))
NETWORK, BOARD = (f"b{number:031d}" for number in (1, 2))
NORMAL, EMERGENCY, LOADED = (f"c{number:031d}" for number in (1, 2, 3))
PROBLEM, INCIDENT = (f"d{number:031d}" for number in (1, 2))


class Client(LoggedIn):
    """Asks in the words of the Table API."""

    def table(self, name: str, query: str = "", **params: object) -> requests.Response:
        """GET a list with raw references; parameter names without their ``sysparm_``."""
        named = {f"sysparm_{key}": str(value) for key, value in {"exclude_reference_link": "true", **params}.items()}
        return self.get(f"{self.url}/api/now/table/{name}", params={**named, "sysparm_query": query}, timeout=30)

    def rows(self, name: str, query: str = "", **params: object) -> list[dict]:
        answer = self.table(name, query, **params)
        assert 200 == answer.status_code, answer.text
        return answer.json()["result"]

    def write(self, method: str, path: str, body: object) -> requests.Response:
        params = {"sysparm_exclude_reference_link": "true"}
        return self.request(method, f"{self.url}/api/now/table/{path}", json=body, params=params, timeout=30)

    def patch_to(self, path: str, **body: str) -> dict:
        answer = self.write("PATCH", path, body)
        assert 200 == answer.status_code, answer.text
        return answer.json()["result"]

    def change(self, method: str, path: str, body: object = None) -> requests.Response:
        return self.request(method, f"{self.url}/api/sn_chg_rest/change/{path}", json=body, timeout=30)

    def history(self, sys_id: str) -> list[tuple[str, str, str, str]]:
        rows = self.rows("sys_audit", f"documentkey={sys_id}^ORDERBYrecord_checkpoint^ORDERBYfieldname")
        return [(row["record_checkpoint"], row["fieldname"], row["oldvalue"], row["newvalue"]) for row in rows]

    def approvals(self, change: str) -> dict[tuple[str, str], str]:
        """(iteration, approver) -> state"""
        rows = self.rows("sysapproval_approver", f"sysapproval={change}")
        return {(row["iteration"], row["approver"]): row["state"] for row in rows}

    def answer(self, change: str, approver: str, state: str) -> None:
        (row,) = self.rows("sysapproval_approver", f"sysapproval={change}^approver={approver}^state=requested")
        self.patch_to(f"sysapproval_approver/{row['sys_id']}", state=state, comments="Because.")

    def state(self, change: str) -> tuple[str, str]:
        (row,) = self.rows("change_request", f"sys_id={change}")
        return row["state"], row["approval"]


@pytest.fixture
def start() -> Iterator[Callable[..., Client]]:
    with starting(Client) as run:
        yield run


@pytest.fixture
def desk(start: Callable[..., Client]) -> Client:
    return start(DATA)


# --- tables -------------------------------------------------------------------------------------------------------


def test_plugins_bring_tables_and_columns(start: Callable[..., Client]) -> None:
    bare, full = start(), start(plugins="cim,major")
    assert (400, "Invalid table sn_cim_register") == (
        bare.table("sn_cim_register").status_code,
        bare.table("sn_cim_register").json()["error"]["message"],
    )
    assert [] == full.rows("sn_cim_register")
    assert 400 == full.table("sn_grc_issue").status_code
    made = full.write("POST", "sn_cim_register", {"short_description": "x", "source_id": "k"}).json()["result"]
    assert ("CIM0010001", "1", "k") == (made["number"], made["state"], made["source_id"])
    labels = {row["label"]: row["value"] for row in full.rows("sys_choice", "name=sn_cim_register^element=state")}
    assert {"New", "Monitor/Review", "Closed"} <= labels.keys()
    moved = full.patch_to(f"sn_cim_register/{made['sys_id']}", state=labels["Monitor/Review"])
    assert labels["Monitor/Review"] == moved["state"]
    assert "major_incident_state" not in bare.write("POST", "incident", {}).json()["result"]
    assert "" == full.write("POST", "incident", {}).json()["result"]["major_incident_state"]
    with pytest.raises(ValueError, match="option plugins: no plug-in nonsense; known are cim, grc, major"):
        serve(options={"plugins": "cim,nonsense"})


def test_own_tables_extend_task(start: Callable[..., Client], tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"tables": {"u_corrective": [{"u_clause": "10.2", "state": 2}]}}))
    client = start(path)
    made = client.write("POST", "u_corrective", {"u_clause": "8.5", "correlation_id": "k"}).json()["result"]
    assert ("TASK0010002", "8.5", "k", "1") == tuple(made[n] for n in ("number", "u_clause", "correlation_id", "state"))
    client.patch_to(f"u_corrective/{made['sys_id']}", state="3")
    assert ("1", "state", "1", "3") in client.history(made["sys_id"])
    assert {"u_corrective"} == {row["sys_class_name"] for row in client.rows("task")}


@pytest.mark.parametrize(
    ("table", "number", "state"),
    [
        ("problem", "PRB0010001", "101"),
        ("problem_task", "PTASK0010001", "151"),
        ("change_request", "CHG0010001", "-5"),
        ("change_task", "CTASK0010001", "1"),
        ("sc_request", "REQ0010001", "1"),
        ("sc_req_item", "RITM0010001", "1"),
        ("sc_task", "SCTASK0010001", "1"),
    ],
)
def test_new_records_have_their_numbers_and_first_states(
    start: Callable[..., Client], table: str, number: str, state: str
) -> None:
    made = start().write("POST", table, {}).json()["result"]
    assert (number, state, table) == (made["number"], made["state"], made["sys_class_name"])


@pytest.mark.parametrize(
    "table", ["change_request", "sysapproval_approver", "task_sla", "sys_journal_field", "task_ci"]
)
def test_every_parameter_of_the_published_document_is_taken(
    desk: Client, shared: Callable[[str], Path], table: str
) -> None:
    text = gzip.decompress(shared("data/specs/servicenow-table-api.vancouver.openapi.json.gz").read_bytes())
    operation = json.loads(text)["paths"]["/api/now/table/{tableName}"]["get"]
    names = [one["name"] for one in operation["parameters"] if one["in"] == "query"]
    assert "sysparm_query_category" in names
    sent = {name: "1" if name == "sysparm_limit" else "true" for name in names} | {"sysparm_query": "ORDERBYsys_id"}
    answer = desk.get(f"{desk.url}/api/now/table/{table}", params={**sent, "sysparm_fields": "sys_id"}, timeout=30)
    assert (200, [["sys_id"]]) == (answer.status_code, [list(row) for row in answer.json()["result"]])


def test_every_operation_of_the_published_document_is_served(desk: Client, shared: Callable[[str], Path]) -> None:
    """With all its parameters at once; the document says nothing of bodies."""
    text = gzip.decompress(shared("data/specs/servicenow-table-api.vancouver.openapi.json.gz").read_bytes())
    served = []
    for path, operations in json.loads(text)["paths"].items():
        url = desk.url + path.format(tableName="change_request", sys_id=NORMAL)
        for method, operation in sorted(operations.items(), key=lambda pair: pair[0] == "delete"):
            names = {one["name"] for one in operation["parameters"] if one["in"] == "query"} - {"sysparm_query"}
            sent = {**dict.fromkeys(names, "true"), "sysparm_limit": "1", "sysparm_fields": "sys_id"}
            body = {"risk": "2"} if "requestBody" in operation else None
            answer = desk.request(method, url, params=sent, json=body, timeout=30)
            served.append((method, answer.status_code))
    assert [("get", 200), ("post", 201), ("get", 200), ("put", 200), ("patch", 200), ("delete", 204)] == served


def test_bodies_of_new_tables_have_the_shapes_of_recorded_ones(desk: Client, shared: Callable[[str], Path]) -> None:
    """Every column that a recorded incident shares with a change (those of task) has the same kind of value."""
    recorded = json.loads(shared("data/recorded/servicenow/tableName__POST__201.json").read_text())["result"]
    answer = desk.post(f"{desk.url}/api/now/table/change_request", json={"short_description": ""}, timeout=30)
    made = answer.json()["result"]
    common = recorded.keys() & made.keys()
    assert len(common) > 60
    kinds = [{n: sorted(v) if isinstance(v, dict) else type(v) for n, v in row.items()} for row in (recorded, made)]
    assert {name: kinds[0][name] for name in common} == {name: kinds[1][name] for name in common}


# --- problems -----------------------------------------------------------------------------------------------------


def test_a_problem_keeps_what_the_interface_may_not_set(desk: Client) -> None:
    sent = {
        "state": "106",
        "problem_state": "106",
        "resolution_code": "fix_applied",
        "resolved_at": "2026-01-01 00:00:00",
    }
    row = desk.patch_to(f"problem/{PROBLEM}", **sent, fix_notes="Kept")
    assert ("101", "101", "", "", "Kept") == tuple(
        row[name] for name in ("state", "problem_state", "resolution_code", "resolved_at", "fix_notes")
    )
    assert [("1", "fix_notes", "", "Kept")] == desk.history(PROBLEM)


def test_a_problem_that_its_people_resolve_is_stamped() -> None:
    desk, now = _instance()
    problems = desk.tables["problem"]
    row = desk.insert(problems, {}, "ada", now[0])
    desk.save(problems, row, {"state": "106", "resolution_code": "fix_applied"}, "ada", now[0])
    assert ("106", "2026-07-05 10:00:00") == (problems.get(row, "problem_state"), problems.get(row, "resolved_at"))
    desk.save(problems, row, {"state": "107"}, "ada", now[0])
    assert ("false", "2026-07-05 10:00:00") == (problems.get(row, "active"), problems.get(row, "closed_at"))
    desk.save(problems, row, {"state": "104"}, "ada", now[0])
    assert ("true", "", "") == tuple(problems.get(row, name) for name in ("active", "resolved_at", "resolution_code"))


# --- changes ------------------------------------------------------------------------------------------------------


def test_any_state_may_be_set_through_the_table_api(desk: Client) -> None:
    for state in ("-1", "-5", "0", "-2"):
        assert state == desk.patch_to(f"change_request/{NORMAL}", state=state)["state"]


def test_the_type_of_a_change_is_settled_when_it_leaves_new(desk: Client) -> None:
    assert "standard" == desk.patch_to(f"change_request/{NORMAL}", type="standard")["type"]
    desk.patch_to(f"change_request/{NORMAL}", state="-2")
    answer = desk.write("PATCH", f"change_request/{NORMAL}", {"type": "normal", "risk": "2", "close_code": "fine"})
    row = answer.json()["result"]
    assert (200, "standard", "2", "") == (answer.status_code, row["type"], row["risk"], row["close_code"])


def test_the_type_of_a_change_is_settled_when_somebody_was_asked_to_approve_it(desk: Client) -> None:
    desk.patch_to(f"change_request/{NORMAL}", state="-4")
    desk.answer(NORMAL, ADA, "rejected")
    assert ("-5", "rejected") == desk.state(NORMAL)
    assert "normal" == desk.patch_to(f"change_request/{NORMAL}", type="standard")["type"]


@pytest.mark.parametrize(
    ("table", "ended", "open_again"),
    [("change_task", "3", "2"), ("sc_task", "4", "1"), ("incident", "8", "1"), ("sn_cim_register", "3", "2")],
)
def test_a_record_that_is_reopened_is_active_again(
    start: Callable[..., Client], table: str, ended: str, open_again: str
) -> None:
    client = start(plugins="cim")
    sys_id = client.write("POST", table, {}).json()["result"]["sys_id"]
    assert "false" == client.patch_to(f"{table}/{sys_id}", state=ended)["active"]
    assert "true" == client.patch_to(f"{table}/{sys_id}", state=open_again)["active"]


def test_data_policies_of_a_change(start: Callable[..., Client]) -> None:
    strict, lax = start(DATA), start(DATA, data_policy="false")
    refused = strict.write("PATCH", f"change_request/{NORMAL}", {"state": "3"})
    wanted = "The following fields are mandatory: Close code, Close notes"
    assert (403, "Data Policy Exception", wanted) == (refused.status_code, *list(refused.json()["error"].values()))
    missing = strict.write("PATCH", f"change_request/{EMERGENCY}", {"state": "-1"})
    assert "The following fields are mandatory: Assignment group" == missing.json()["error"]["detail"]
    assert [] == strict.history(NORMAL) + strict.history(EMERGENCY)
    assert "4" == strict.patch_to(f"change_request/{EMERGENCY}", state="4")["state"]
    assert "3" == lax.patch_to(f"change_request/{NORMAL}", state="3")["state"]
    closed = strict.patch_to(f"change_request/{NORMAL}", state="3", close_code="successful", close_notes="x")
    assert ("false", OWN) == (closed["active"], closed["closed_by"])
    assert closed["closed_at"]


def test_approvals_move_a_normal_change_stage_by_stage(desk: Client) -> None:
    desk.patch_to(f"change_request/{NORMAL}", state="-4")
    assert {("1", ADA): "requested", ("1", BO): "requested"} == desk.approvals(NORMAL)
    assert ("-4", "requested") == desk.state(NORMAL)
    desk.answer(NORMAL, BO, "approved")
    # one peer is enough, the other is no longer required, and the board is asked
    assert {
        ("1", ADA): "not_required", ("1", BO): "approved", ("2", OLGA): "requested", ("2", PAVEL): "requested",
    } == desk.approvals(NORMAL)  # fmt: skip
    assert ("-3", "requested") == desk.state(NORMAL)
    desk.answer(NORMAL, OLGA, "approved")
    assert ("-3", "requested") == desk.state(NORMAL)
    desk.answer(NORMAL, PAVEL, "approved")
    assert ("-2", "approved") == desk.state(NORMAL)
    (last,) = desk.rows("sysapproval_approver", f"sysapproval={NORMAL}^approver={PAVEL}")
    (row,) = desk.rows("change_request", f"sys_id={NORMAL}")
    assert last["sys_updated_on"] == row["approval_set"]
    assert [("-5", "-4"), ("-4", "-3"), ("-3", "-2")] == [
        (old, new) for _, name, old, new in desk.history(NORMAL) if name == "state"
    ]
    groups = {(row["assignment_group"], row["approval"], row["wait_for"]) for row in desk.rows("sysapproval_group")}
    assert {(NETWORK, "approved", "any"), (BOARD, "approved", "all")} == groups


def test_an_answer_leaves_history_and_its_words_in_the_journal(desk: Client) -> None:
    desk.patch_to(f"change_request/{NORMAL}", state="-4")
    desk.answer(NORMAL, BO, "approved")
    (row,) = desk.rows("sysapproval_approver", f"sysapproval={NORMAL}^approver={BO}")
    assert ("", "1", "itsms") == (row["comments"], row["sys_mod_count"], row["sys_updated_by"])
    assert [("1", "comments", "", "Because."), ("1", "state", "requested", "approved")] == desk.history(row["sys_id"])
    (note,) = desk.rows("sys_journal_field", f"element_id={row['sys_id']}")
    assert ("sysapproval_approver", "comments", "Because.") == (note["name"], note["element"], note["value"])


def test_a_rejection_sends_the_change_back_and_a_second_round_may_follow(desk: Client) -> None:
    desk.patch_to(f"change_request/{NORMAL}", state="-4")
    desk.answer(NORMAL, ADA, "rejected")
    assert ("-5", "rejected") == desk.state(NORMAL)
    assert {("1", ADA): "rejected", ("1", BO): "cancelled"} == desk.approvals(NORMAL)
    desk.patch_to(f"change_request/{NORMAL}", state="-4")
    assert ("-4", "requested") == desk.state(NORMAL)
    desk.answer(NORMAL, BO, "approved")
    assert {"approved", "not_required"} == {s for (turn, _), s in desk.approvals(NORMAL).items() if turn == "2"}


def test_a_hold_suspends_approvals_and_its_end_asks_again(desk: Client) -> None:
    desk.patch_to(f"change_request/{NORMAL}", state="-4")
    desk.patch_to(f"change_request/{NORMAL}", on_hold="true", on_hold_reason="Freeze")
    assert {"not_required"} == set(desk.approvals(NORMAL).values())
    desk.patch_to(f"change_request/{NORMAL}", on_hold="false")
    assert {("1", ADA): "requested", ("1", BO): "requested"} == desk.approvals(NORMAL)
    desk.patch_to(f"change_request/{NORMAL}", state="4")
    assert {"cancelled"} == set(desk.approvals(NORMAL).values())


def test_without_a_definition_nobody_is_asked_and_a_late_answer_moves_nothing(desk: Client) -> None:
    desk.patch_to(f"change_request/{EMERGENCY}", assignment_group=NETWORK, state="-2")
    desk.patch_to(f"change_request/{NORMAL}", state="-3")
    desk.patch_to(f"change_request/{NORMAL}", state="-1")
    desk.answer(NORMAL, OLGA, "approved")
    desk.answer(NORMAL, PAVEL, "approved")
    assert ("-1", "approved") == desk.state(NORMAL)
    assert {} == desk.approvals(EMERGENCY)


def test_review_cancels_open_tasks_and_the_last_task_brings_review(desk: Client) -> None:
    def task(change: str, kind: str) -> str:
        body = {"change_request": change, "change_task_type": kind}
        return desk.write("POST", "change_task", body).json()["result"]["sys_id"]

    desk.patch_to(f"change_request/{NORMAL}", state="-1")
    work, test, review = (task(NORMAL, kind) for kind in ("implementation", "testing", "review"))
    desk.patch_to(f"change_task/{work}", state="3")
    assert "-1" == desk.state(NORMAL)[0]
    desk.patch_to(f"change_request/{NORMAL}", state="0")
    states = {row["sys_id"]: row["state"] for row in desk.rows("change_task", f"change_request={NORMAL}")}
    assert {work: "3", test: "4", review: "1"} == states
    desk.patch_to(f"change_request/{EMERGENCY}", assignment_group=NETWORK, state="-1")
    only = task(EMERGENCY, "implementation")
    desk.patch_to(f"change_task/{only}", state="2")
    desk.patch_to(f"change_task/{only}", state="7")
    assert "0" == desk.state(EMERGENCY)[0]


def test_a_cancelled_change_cancels_its_tasks(desk: Client) -> None:
    desk.patch_to(f"change_request/{LOADED}", state="4")
    assert [("4", "false")] == [(row["state"], row["active"]) for row in desk.rows("change_task")]


def test_an_item_that_is_rejected_is_closed_incomplete(desk: Client) -> None:
    item = desk.write("POST", "sc_req_item", {"approval": "requested"}).json()["result"]["sys_id"]
    body = {"sysapproval": item, "source_table": "sc_req_item", "approver": ADA, "state": "requested"}
    desk.write("POST", "sysapproval_approver", body)
    desk.answer(item, ADA, "rejected")
    (row,) = desk.rows("sc_req_item", f"sys_id={item}")
    assert ("4", "rejected", "false") == (row["state"], row["approval"], row["active"])


# --- change models ------------------------------------------------------------------------------------------------


_CANCELLED = [("-5", "4"), ("-4", "4"), ("-3", "4"), ("-2", "4"), ("-1", "4")]
EDGES = {
    # New, Assess, Authorize, Scheduled, Implement, Review, Closed; back to New from where somebody may refuse
    "Normal": [("-5", "-4"), ("-4", "-5"), ("-4", "-3"), ("-3", "-5"), ("-3", "-2"), ("-2", "-1"), ("-1", "0"),
               ("0", "3"), *_CANCELLED],
    # neither Assess nor Authorize
    "Standard": [("-5", "-2"), ("-2", "-1"), ("-1", "0"), ("0", "3"),
                 *(edge for edge in _CANCELLED if edge[0] not in ("-4", "-3"))],
    # no Assess
    "Emergency": [("-5", "-3"), ("-3", "-5"), ("-3", "-2"), ("-2", "-1"), ("-1", "0"), ("0", "3"),
                  *(edge for edge in _CANCELLED if edge[0] != "-4")],
    # done already: straight from Authorize to Review
    "Unauthorized": [("-5", "-3"), ("-3", "-5"), ("-3", "0"), ("0", "3"),
                     *(edge for edge in _CANCELLED if edge[0] in ("-5", "-3"))],
}  # fmt: skip
"""What the reference says of each model, each edge once."""


@pytest.mark.parametrize("model", EDGES)
def test_a_model_has_the_edges_of_the_reference_and_no_other(desk: Client, model: str) -> None:
    (row,) = desk.rows("chg_model", f"name={model}")
    states = {one["sys_id"]: one for one in desk.rows("sttrm_state", f"sttrm_model={row['sys_id']}")}
    values = {sys_id: one["state_value"] for sys_id, one in states.items()}
    found = [
        (values[one["from_state"]], values[one["to_state"]])
        for one in desk.rows("sttrm_state_transition", f"sttrm_model={row['sys_id']}")
    ]
    assert sorted(EDGES[model]) == sorted(found)
    assert {state for edge in EDGES[model] for state in edge} == set(values.values())
    assert ["-5"] == [one["state_value"] for one in states.values() if one["initial_state"] == "true"]


@pytest.mark.parametrize("model", EDGES)
def test_each_state_offers_the_edges_of_its_model(desk: Client, model: str) -> None:
    """The same through ``nextstates``, walked with a change of that model."""
    sent = {"unauthorized": "true"} if model == "Unauthorized" else {"type": model.lower()}
    body = {"assignment_group": NETWORK, "close_code": "successful", "close_notes": "x", **sent}
    change = desk.write("POST", "change_request", body).json()["result"]["sys_id"]
    offered = []
    for state in sorted({state for edge in EDGES[model] for state in edge}, key=int):
        if desk.state(change)[0] != state:
            desk.patch_to(f"change_request/{change}", state=state)
        for group in desk.change("GET", f"{change}/nextstates").json()["result"]["state_transitions"]:
            offered += [(one["from_state"], one["to_state"]) for one in group]
    assert sorted(EDGES[model]) == sorted(offered)


def test_the_next_states_are_those_of_the_model(desk: Client) -> None:
    def offered(change: str) -> dict[str, list[bool]]:
        body = desk.change("GET", f"{change}/nextstates").json()["result"]
        assert {"available_states", "state_transitions", "state_label"} == body.keys()
        assert body["available_states"] == list(body["state_label"])
        return {
            group[0]["to_state"]: [one["transition_available"] for one in group] for group in body["state_transitions"]
        }

    kinds = {
        kind: desk.write("POST", "change_request", {"assignment_group": NETWORK, **sent}).json()["result"]["sys_id"]
        for kind, sent in {
            "normal": {}, "standard": {"type": "standard"}, "emergency": {"type": "emergency"},
            "unauthorized": {"unauthorized": "true"},
        }.items()
    }  # fmt: skip
    offers = {kind: offered(sys_id) for kind, sys_id in kinds.items()}
    assert {"normal": {"-4", "4"}, "standard": {"-2", "4"}, "emergency": {"-3", "4"}, "unauthorized": {"-3", "4"}} == {
        kind: set(found) for kind, found in offers.items()
    }
    assert {"-4": [True], "4": [True]} == offers["normal"]
    desk.patch_to(f"change_request/{kinds['normal']}", type="standard")
    assert {"-2", "4"} == set(offered(kinds["normal"]))
    desk.patch_to(f"change_request/{kinds['normal']}", type="normal")
    desk.patch_to(f"change_request/{kinds['unauthorized']}", state="-3")
    assert {"-5": [True], "0": [False], "4": [True]} == offered(kinds["unauthorized"])
    assert {"-3": [False], "4": [True]} == offered(EMERGENCY), "no assignment group"
    desk.patch_to(f"change_request/{kinds['normal']}", on_hold="true")
    assert {"-4": [False], "4": [True]} == offered(kinds["normal"])


def test_next_states_have_the_documented_shape(desk: Client) -> None:
    desk.patch_to(f"change_request/{NORMAL}", state="-1")
    desk.write("POST", "change_task", {"change_request": NORMAL})
    body = desk.change("GET", f"{NORMAL}/nextstates").json()["result"]
    assert {"0": "Review", "4": "Canceled", "-1": "Implement"} == body["state_label"]
    (review,) = next(group for group in body["state_transitions"] if group[0]["to_state"] == "0")
    assert ("Implement to Review", "-1", False, True) == tuple(
        review[name] for name in ("display_value", "from_state", "transition_available", "automatic_transition")
    )
    failed = [one["condition"] for one in review["conditions"] if not one["passed"]]
    assert [("No active Change Tasks", None)] == [(one["name"], one["description"]) for one in failed]
    rows = desk.rows("sttrm_state_transition", f"sys_id={review['sys_id']}", display_value="true", fields="sttrm_model")
    assert [{"sttrm_model": "Normal"}] == rows


def test_the_change_interface_serves_models_tasks_items_and_changes(desk: Client) -> None:
    models = desk.change("GET", "model").json()["result"]
    assert {"Normal", "Standard", "Emergency", "Unauthorized"} == {model["name"]["value"] for model in models}
    (one,) = [model for model in models if model["default_change_model"]["value"] == "true"]
    assert one == desk.change("GET", f"model/{one['sys_id']['value']}").json()["result"]
    made = desk.change("POST", f"{NORMAL}/task", {"short_description": "Do it"})
    assert (200, NORMAL) == (made.status_code, made.json()["result"]["change_request"]["value"])
    (task,) = desk.change("GET", f"{NORMAL}/task").json()["result"]
    assert ("Do it", "CHG0030001") == (task["short_description"]["value"], task["parent"]["display_value"])
    (item,) = desk.change("GET", f"{LOADED}/ci").json()["result"]
    assert {"display_value": "Core switch", "value": "e0000000000000000000000000000004"} == item["ci_item"]
    assert {"display_value": "Authorize", "value": "-3"} == desk.change("GET", LOADED).json()["result"]["state"]
    everything = desk.get(f"{desk.url}/api/sn_chg_rest/v1/change", timeout=30).json()["result"]
    assert 3 == len(everything)


def test_the_change_interface_answers_the_callers_own_approval(desk: Client) -> None:
    desk.patch_to(f"change_request/{EMERGENCY}", assignment_group=NETWORK, state="-3")
    answer = desk.change("PATCH", f"{EMERGENCY}/approvals", {"state": "approved", "comments": "Go"})
    assert (200, "approved") == (answer.status_code, answer.json()["result"]["state"]["value"])
    assert {"approved": 1, "requested": 2} == Counter(desk.approvals(EMERGENCY).values())
    assert 400 == desk.change("PATCH", f"{EMERGENCY}/approvals", {"state": "approved"}).status_code
    desk.answer(EMERGENCY, OLGA, "approved")
    assert ("-3", "requested") == desk.state(EMERGENCY)
    desk.answer(EMERGENCY, PAVEL, "approved")
    assert ("-2", "approved") == desk.state(EMERGENCY)


def test_a_group_is_settled_by_its_own_people(desk: Client) -> None:
    desk.patch_to(f"change_request/{EMERGENCY}", assignment_group=NETWORK, state="-3")
    desk.answer(EMERGENCY, OLGA, "approved")
    desk.answer(EMERGENCY, PAVEL, "approved")
    assert ["approved"] == [row["approval"] for row in desk.rows("sysapproval_group", f"parent={EMERGENCY}")]
    assert ("-3", "requested") == desk.state(EMERGENCY)
    desk.answer(EMERGENCY, OWN, "approved")
    assert ("-2", "approved") == desk.state(EMERGENCY)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{'0' * 32}/nextstates", 404),
        ("GET", f"{NORMAL}/schedule", 400),
        ("DELETE", f"{NORMAL}/task", 405),
        ("POST", "model", 405),
        ("POST", f"{NORMAL}/task", 400),
    ],
)
def test_the_change_interface_refuses(desk: Client, method: str, path: str, status: int) -> None:
    assert status == desk.change(method, path, [1]).status_code


# --- service levels -----------------------------------------------------------------------------------------------


def _instance() -> tuple[Desk, list[float]]:
    """An instance with all engines and a clock to turn; it is 2026-07-05 10:00:00."""
    now = [1783245600.0]
    levels = ServiceLevels()
    desk = Desk(
        clock=lambda: now[0], account="itsms", data_policy=True, user_offset=0.0,
        reactions=(changes.follow, Approvals().follow, levels.follow), timers=(levels.tick,),
    )  # fmt: skip
    contract = {
        "name": "Resolve", "collection": "incident", "duration": "1970-01-01 04:00:00",
        "start_condition": "priority=1^active=true", "stop_condition": "stateIN6,7", "pause_condition": "state=3",
        "cancel_condition": "contact_type=monitoring",
    }  # fmt: skip
    for values in (contract, {**contract, "name": "No longer agreed", "active": "false"}):
        desk.insert(desk.tables["contract_sla"], values, "admin", now[0])
    return desk, now


def _level(desk: Desk, incident: Row) -> dict[str, str]:
    table = desk.tables["task_sla"]
    (row,) = desk.related("task_sla", "task", desk.tables["incident"].get(incident, "sys_id"))
    return {name: table.get(row, name) for name in table.columns}


def test_a_service_level_is_breached_without_its_task() -> None:
    desk, now = _instance()
    incidents = desk.tables["incident"]
    row = desk.insert(incidents, {"impact": "1", "urgency": "1"}, "ada", now[0])
    fresh = _level(desk, row)
    assert ("in_progress", "false", "2026-07-05 14:00:00") == tuple(
        fresh[name] for name in ("stage", "has_breached", "planned_end_time")
    )
    now[0] += 4 * 3600 - 1
    desk.tick()
    assert fresh == _level(desk, row)
    now[0] += 3600
    desk.tick()
    late = _level(desk, row)
    assert ("true", "in_progress", "100.00", "2026-07-05 14:00:00", "1") == tuple(
        late[name] for name in ("has_breached", "stage", "percentage", "sys_updated_on", "sys_mod_count")
    )
    assert ("0", "2026-07-05 10:00:00") == (incidents.get(row, "sys_mod_count"), incidents.get(row, "sys_updated_on"))


def test_a_pause_moves_the_end_and_the_stop_condition_completes() -> None:
    desk, now = _instance()
    incidents = desk.tables["incident"]
    row = desk.insert(incidents, {"impact": "1", "urgency": "1"}, "ada", now[0])
    now[0] += 3600
    desk.save(incidents, row, {"state": "3"}, "ada", now[0])
    assert ("paused", "2026-07-05 11:00:00", "25.00") == tuple(
        _level(desk, row)[name] for name in ("stage", "pause_time", "percentage")
    )
    now[0] += 10 * 3600
    desk.tick()
    assert "false" == _level(desk, row)["has_breached"]
    desk.save(incidents, row, {"state": "2"}, "ada", now[0])
    assert ("in_progress", "2026-07-06 00:00:00", "1970-01-01 10:00:00", "") == tuple(
        _level(desk, row)[name] for name in ("stage", "planned_end_time", "pause_duration", "pause_time")
    )
    now[0] += 3600
    desk.save(incidents, row, {"state": "6"}, "ada", now[0])
    assert ("completed", "false", "50.00", "2026-07-05 22:00:00", "1970-01-01 02:00:00") == tuple(
        _level(desk, row)[name] for name in ("stage", "has_breached", "percentage", "end_time", "time_left")
    )


def test_a_level_that_went_on_after_a_pause_is_breached_at_its_new_end() -> None:
    desk, now = _instance()
    incidents = desk.tables["incident"]
    row = desk.insert(incidents, {"impact": "1", "urgency": "1"}, "ada", now[0])
    desk.save(incidents, row, {"state": "3"}, "ada", now[0] + 3600)
    desk.save(incidents, row, {"state": "2"}, "ada", now[0] + 3 * 3600)
    now[0] += 6 * 3600
    desk.tick()
    late = _level(desk, row)
    assert ("true", "2026-07-05 16:00:00") == (late["has_breached"], late["sys_updated_on"])


def test_a_level_that_is_stopped_in_a_pause_was_paused_until_then() -> None:
    desk, now = _instance()
    incidents = desk.tables["incident"]
    row = desk.insert(incidents, {"impact": "1", "urgency": "1"}, "ada", now[0])
    desk.save(incidents, row, {"state": "3"}, "ada", now[0])
    desk.save(incidents, row, {"state": "6"}, "ada", now[0] + 2 * 3600)
    assert ("completed", "", "1970-01-01 02:00:00", "1970-01-01 00:00:00") == tuple(
        _level(desk, row)[name] for name in ("stage", "pause_time", "pause_duration", "duration")
    )


def test_a_level_begins_where_nothing_ends_it_at_once_and_may_be_cancelled() -> None:
    desk, now = _instance()
    incidents = desk.tables["incident"]
    solved = desk.insert(incidents, {"impact": "1", "urgency": "1", "state": "6"}, "ada", now[0])
    assert [] == desk.related("task_sla", "task", incidents.get(solved, "sys_id"))
    row = desk.insert(incidents, {"impact": "1", "urgency": "1"}, "ada", now[0])
    desk.save(incidents, row, {"contact_type": "monitoring"}, "ada", now[0])
    assert "cancelled" == _level(desk, row)["stage"]


def test_another_priority_cancels_and_a_late_stop_is_a_breach() -> None:
    desk, now = _instance()
    incidents = desk.tables["incident"]
    row = desk.insert(incidents, {"impact": "1", "urgency": "1"}, "ada", now[0])
    desk.save(incidents, row, {"impact": "3"}, "ada", now[0])
    assert ("cancelled", "false") == (_level(desk, row)["stage"], _level(desk, row)["active"])
    other = desk.insert(incidents, {"impact": "1", "urgency": "1"}, "ada", now[0])
    desk.save(incidents, other, {"state": "6"}, "ada", now[0] + 5 * 3600)
    assert ("completed", "true", "125.00") == tuple(
        _level(desk, other)[name] for name in ("stage", "has_breached", "percentage")
    )
    assert [] == desk.related("task_sla", "task", desk.insert(incidents, {}, "ada", now[0])[0])


def test_metrics_are_kept_where_the_instance_keeps_them(start: Callable[..., Client]) -> None:
    with_metrics, without = start(DATA, metrics="true"), start(DATA)
    for client in (with_metrics, without):
        client.patch_to(f"change_request/{NORMAL}", state="-4")
        client.patch_to(f"change_request/{NORMAL}", state="-5")
    assert [] == without.rows("metric_instance")
    spans = with_metrics.rows("metric_instance", f"id={NORMAL}^ORDERBYsys_created_on", display_value="true")
    assert {("Assess", "true"), ("New", "false")} == {(row["value"], row["calculation_complete"]) for row in spans}
    assert {("Assess", True), ("New", False)} == {(row["value"], bool(row["end"])) for row in spans}
    assert {"change_request state duration"} == {row["definition"] for row in spans}


def test_metrics_come_late_and_begin_with_their_definition() -> None:
    now = [1000.0]
    metrics = Metrics(("state", "assignment_group"), lag=30, since=stamp(1060))
    desk = Desk(
        clock=lambda: now[0],
        account="ada",
        data_policy=False,
        user_offset=0,
        reactions=(metrics.follow,),
        timers=(metrics.tick,),
    )
    metrics.define(desk)
    spans, incidents = desk.tables["metric_instance"], desk.tables["incident"]
    row = desk.insert(incidents, {}, "ada", now[0])
    now[0] = 1060
    desk.save(incidents, row, {"state": "2"}, "ada", now[0])
    desk.tick()
    assert {} == spans.rows
    now[0] = 1090
    desk.tick()
    now[0] = 1200
    desk.save(incidents, row, {"state": "3", "assignment_group": "net"}, "ada", now[0])
    now[0] = 1230
    desk.tick()
    told = [
        [spans.get(span, name) for name in ("field", "field_value", "start", "end")] for span in spans.rows.values()
    ]
    assert [
        ["state", "2", stamp(1060), stamp(1200)],
        ["state", "3", stamp(1200), ""],
        ["assignment_group", "net", stamp(1200), ""],
    ] == told


def test_a_script_past_the_rules_moves_the_counter_and_leaves_no_trace(start: Callable[..., Client]) -> None:
    client = start(DATA, metrics="true")
    before = client.rows("change_request", f"sys_id={NORMAL}")[0]
    body = {"table": "change_request", "by": "system", "sys_id": NORMAL, "values": {"state": "-4"}, "workflow": False}
    assert 200 == client.post(f"{client.url}/_sim/act", json=body, timeout=30).status_code
    after = client.rows("change_request", f"sys_id={NORMAL}")[0]
    assert ("-4", int(before["sys_mod_count"]) + 1) == (after["state"], int(after["sys_mod_count"]))
    assert [] == client.rows("sys_audit", f"documentkey={NORMAL}^record_checkpoint={after['sys_mod_count']}")
    assert [] == client.rows("metric_instance", f"id={NORMAL}")


def test_access_is_granted_and_withdrawn_while_it_runs(start: Callable[..., Client]) -> None:
    client = start(DATA)
    for denied, status in ((["sys_audit"], 403), ([], 200)):
        answer = client.patch(f"{client.url}/_sim/access", json={"deny_tables": denied}, timeout=30)
        assert 204 == answer.status_code
        assert status == client.table("sys_audit").status_code
    assert 400 == client.patch(f"{client.url}/_sim/access", json={"deny": []}, timeout=30).status_code


def test_before_its_table_was_audited_a_change_leaves_no_row(start: Callable[..., Client]) -> None:
    client = start(DATA)
    off = {"audited_since": {"change_request": {"*": "2000-01-01 00:00:00", "state": "2999-01-01 00:00:00"}}}
    client.patch(f"{client.url}/_sim/access", json=off, timeout=30)
    count = int(client.rows("change_request", f"sys_id={NORMAL}")[0]["sys_mod_count"])
    client.patch_to(f"change_request/{NORMAL}", state="-4", risk="2")
    rows = client.rows("sys_audit", f"documentkey={NORMAL}^record_checkpoint={count + 1}")
    assert {"risk"} == {row["fieldname"] for row in rows} & {"risk", "state"}


# --- access -------------------------------------------------------------------------------------------------------


def test_access_rules_hold_for_each_table_by_itself(start: Callable[..., Client], tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        f"access: {{hide_rows: {{change_request: [{LOADED}], incident: '*'}}, deny_tables: [task_ci],"
        " deny_fields: {sysapproval_approver: [approver]}, deny_writes: {sysapproval_approver: [update]},"
        " audited: {sysapproval_approver: []}}"
    )
    client = start(DATA, rules)
    assert 404 == client.get(f"{client.url}/api/now/table/change_request/{LOADED}", timeout=30).status_code
    assert 404 == client.change("GET", f"{LOADED}/nextstates").status_code
    # what belongs to hidden records stays visible
    approvals = client.rows("sysapproval_approver", f"sysapproval={LOADED}")
    assert 2 == len(approvals)
    assert [] == [row for row in approvals if "approver" in row]
    assert [INCIDENT] == [row["task"] for row in client.rows("task_sla")]
    assert 403 == client.table("task_ci").status_code
    assert 403 == client.change("GET", f"{NORMAL}/ci").status_code
    assert 403 == client.table("sysapproval_approver", f"approver={OLGA}").status_code
    refused = client.write("PATCH", f"sysapproval_approver/{approvals[0]['sys_id']}", {"state": "rejected"})
    assert "ACL Exception Update Failed due to security constraints" == refused.json()["error"]["detail"]
    desk_rows = client.rows("sys_dictionary", "name=sysapproval_approver^element=state")
    assert [("string", "false")] == [(row["internal_type"], row["audit"]) for row in desk_rows]


def test_what_belongs_to_a_change_is_as_hidden_as_changes_are(start: Callable[..., Client], tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("access: {deny_tables: [change_request]}")
    client = start(DATA, rules)
    assert [404, 404] == [client.change("GET", f"{LOADED}/{part}").status_code for part in ("nextstates", "task")]
    assert 403 == client.change("GET", LOADED).status_code


# --- data files and pages -----------------------------------------------------------------------------------------


def test_a_loaded_change_is_served_with_its_history_and_goes_on(desk: Client) -> None:
    assert [("1", "state", "-5", "-4"), ("2", "state", "-4", "-3")] == desk.history(LOADED)
    desk.answer(LOADED, OLGA, "approved")
    # loaded approvals belong to no round, so all of them count together
    assert ("-2", "approved") == desk.state(LOADED)
    assert ("3", "approval", "requested", "approved") in desk.history(LOADED)


def test_a_loaded_record_has_its_state_in_both_columns(start: Callable[..., Client], tmp_path: Path) -> None:
    path = tmp_path / "desk.json"
    path.write_text(json.dumps({"tables": {"incident": [{"state": 6}], "problem": [{"state": 103}]}}))
    client = start(path)
    assert ["6"] == [row["incident_state"] for row in client.rows("incident")]
    assert ["103"] == [row["problem_state"] for row in client.rows("problem")]


def test_a_person_sees_what_belongs_to_a_record(desk: Client) -> None:
    page = desk.get(f"{desk.url}/nav_to.do?uri=change_request.do?sys_id={LOADED}", timeout=30).text
    for text in (
        "<h2>Approvals</h2>", "Olga Lind", ">Approved<", "<h2>Change tasks</h2>", "CTASK0010001",
        "<h2>Affected items</h2>", "Core switch", "<h2>Incidents caused by this change</h2>", "INC0000001",
        "Plan looked at", "Assess (-4)",
    ):  # fmt: skip
        assert text in page, text
    assert f'<a href="/task.do?sys_id={PROBLEM}">PRB0040001</a>' in page
    assert "<h2>Problem tasks</h2>" not in page
    problem = desk.get(f"{desk.url}/task.do?sys_id={PROBLEM}", timeout=30).text
    assert "<h2>Changes from this record</h2>" in problem
    assert "<h2>Incidents of this problem</h2>" in problem


def test_a_text_is_shown_as_it_was_written_with_its_addresses_as_links(desk: Client) -> None:
    text = '<script>\nSee <http://h.example/a?b=1&c=2>, then "close".'
    desk.patch_to(f"change_request/{NORMAL}", description=text, work_notes="<b>Read</b>")
    page = desk.get(f"{desk.url}/change_request.do?sys_id={NORMAL}", timeout=30).text
    link = '<a href="http://h.example/a?b=1&amp;c=2">http://h.example/a?b=1&amp;c=2</a>'
    assert f">&lt;script&gt;\nSee &lt;{link}&gt;, then &quot;close&quot;.</div>" in page
    assert "itsms · Work note · " in page
    assert "&lt;b&gt;Read&lt;/b&gt;" in page
    assert "<script>" not in page


# --- a lively desk ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy() -> Iterator[Client]:
    simulator = serve(options={"desk": "lively", "live": "false", "days": "90", "per_day": "40", "seed": "8"})
    with Client(simulator.url) as client:
        yield client
    simulator.stop()


@pytest.fixture(scope="module")
def planted(busy: Client) -> dict[str, set[str]]:
    return {kind: set(its) for kind, its in busy.get(f"{busy.url}/_sim/ledger", timeout=30).json()["planted"].items()}


@pytest.fixture(scope="module")
def all_changes(busy: Client) -> dict[str, dict]:
    return {row["sys_id"]: row for row in busy.rows("change_request", limit=100000)}


@pytest.mark.parametrize(
    "table", ["change_request", "change_task", "problem", "problem_task", "sc_req_item", "sysapproval_approver"]
)
def test_histories_of_a_lively_desk_lead_to_the_records(busy: Client, table: str) -> None:
    records = {row["sys_id"]: row for row in busy.rows(table, limit=100000)}
    walked: dict[tuple[str, str], str] = {}
    saves: dict[str, int] = {}
    order = f"tablename={table}^ORDERBYrecord_checkpoint^ORDERBYsys_id"
    for row in busy.rows("sys_audit", order, limit=1000000):
        key = (row["documentkey"], row["fieldname"])
        if row["fieldname"] not in ("comments", "work_notes"):
            assert walked.get(key, row["oldvalue"]) == row["oldvalue"]
            walked[key] = row["newvalue"]
        saves[row["documentkey"]] = int(row["record_checkpoint"])
    assert len(records) > 50
    assert walked == {key: records[key[0]][key[1]] for key in walked}
    assert saves == {sys_id: int(records[sys_id]["sys_mod_count"]) for sys_id in saves}


def test_what_was_planted_in_changes_shows_in_the_rows(busy: Client, planted: dict, all_changes: dict) -> None:
    approvals = defaultdict(list)
    for row in busy.rows("sysapproval_approver", "source_table=change_request^state=approved", limit=100000):
        approvals[row["sysapproval"]].append(row)
    numbers = {sys_id: row["number"] for sys_id, row in all_changes.items()}

    def those(fits: Callable[[str, dict], bool]) -> set[str]:
        return {numbers[sys_id] for sys_id, row in all_changes.items() if fits(sys_id, row)}

    own = those(lambda i, row: row["requested_by"] in {one["approver"] for one in approvals[i]})
    doers = those(lambda i, row: row["assigned_to"] in {one["approver"] for one in approvals[i]})
    assert planted["change.self_approved"] == own
    assert planted["change.approved_by_implementer"] == doers
    assert planted["change.no_backout_plan"] == those(lambda i, row: not row["backout_plan"])
    standard = those(lambda i, row: row["type"] == "standard" and not row["std_change_producer_version"])
    assert planted["change.no_template"] == standard
    assert planted["change.no_trigger"] == those(lambda i, row: row["type"] == "emergency" and not row["parent"])
    steps = defaultdict(set)
    for row in busy.rows("sys_audit", "tablename=change_request^fieldname=state", limit=100000):
        steps[row["oldvalue"], row["newvalue"]].add(numbers[row["documentkey"]])
    assert set() == steps["-4", "-2"]
    assert planted["change.no_board"] == steps["-3", "-2"] & _without_board(approvals, numbers)
    assert planted["change.approved_afterwards"] == steps["-3", "-1"]
    reviewed = {row["change_request"] for row in busy.rows("change_task", "change_task_type=review", limit=100000)}
    failed = those(
        lambda i, row: row["close_code"] == "unsuccessful" and not row["review_comments"] and i not in reviewed
    )
    assert planted["change.failed_unreviewed"] == failed
    assert {"normal", "standard", "emergency"} == {row["type"] for row in all_changes.values()}
    assert steps["-3", "0"]


def _without_board(approvals: dict, numbers: dict) -> set[str]:
    """Changes for which nobody answered after the first round that was approved."""
    return {numbers[i] for i, rows in approvals.items() if i in numbers and len(rows) < 3}


def test_what_was_planted_elsewhere_shows_in_the_rows(busy: Client, planted: dict) -> None:
    problems = {row["sys_id"]: row for row in busy.rows("problem", limit=100000)}
    steps = defaultdict(set)
    for row in busy.rows("sys_audit", "tablename=problem^fieldname=state", limit=100000):
        steps[row["oldvalue"], row["newvalue"]].add(problems[row["documentkey"]]["number"])
    assert planted["problem.skipped_analysis"] == steps["102", "106"]
    fixing = steps["103", "104"]
    assert planted["problem.no_cause"] == {r["number"] for r in problems.values() if not r["cause_notes"]} & fixing
    major = busy.rows("incident", "major_incident_state=accepted", limit=100000)
    assert planted["incident.major_without_problem"] <= {row["number"] for row in major if not row["problem_id"]}
    items = {row["sys_id"]: row for row in busy.rows("sc_req_item", limit=100000)}
    answers = busy.rows("sysapproval_approver", "source_table=sc_req_item", limit=100000)
    own = {
        items[row["sysapproval"]]["number"]
        for row in answers
        if row["state"] == "approved" and row["approver"] == items[row["sysapproval"]]["requested_for"]
    }
    assert planted["request.self_approved"] == own
    waiting = {items[row["sysapproval"]]["number"] for row in answers if row["state"] == "requested"}
    worked = {row["number"] for row in items.values() if row["state"] in ("2", "3")}
    assert planted["request.work_unapproved"] == waiting & worked


def test_references_of_a_lively_desk_lead_somewhere(busy: Client, all_changes: dict) -> None:
    users = {row["sys_id"] for row in busy.rows("sys_user", limit=10000)}
    tasks = {row["sys_id"] for row in busy.rows("task", limit=1000000, fields="sys_id")}
    assert {row["parent"] for row in all_changes.values()} - {""} <= tasks
    assert {row[name] for row in all_changes.values() for name in ("requested_by", "assigned_to")} <= users
    linked = busy.rows("incident", "problem_idISNOTEMPTY", limit=100000)
    assert {row["problem_id"] for row in linked} <= tasks
    assert len(linked) > 20
    levels = Counter(row["has_breached"] for row in busy.rows("task_sla", "stage=completed", limit=100000))
    assert levels["true"] > 5
    assert levels["false"] > levels["true"]


def test_the_same_seed_makes_the_same_desk() -> None:
    def made(seed: int) -> tuple[dict, dict]:
        desk, _ = _instance()
        Lively(desk, Random(seed), Random(seed + 1), 20, 10)
        return desk.planted, {name: list(table.rows.values()) for name, table in desk.tables.items()}

    first, other = made(3), made(4)
    assert first == made(3)
    assert first[0] != other[0]


def test_a_lively_desk_goes_on_in_every_process(start: Callable[..., Client]) -> None:
    client = start(desk="lively", days="5", per_day="8", tempo="0.005")
    names = ("change_request", "problem", "sc_req_item", "sysapproval_approver")

    def sizes() -> dict[str, int]:
        tables = client.get(f"{client.url}/_sim/ledger", timeout=30).json()["tables"]
        return {name: tables[name] for name in names}

    before, deadline = sizes(), time.monotonic() + 20
    while not all(now > then for now, then in zip(sizes().values(), before.values(), strict=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
