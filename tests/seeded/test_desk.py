"""The seeded desk: named breaches and legal look-alikes of every check, the same whichever system serves it.

`desk.yaml` was written before the checks ran on it. The program reads the desk from ServiceNow, from both editions of
Jira, and split over two systems, and opens its tickets where the desk is.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from itsms_sync.conformance.catalogue import CHECKS
from tests.end_to_end.conftest import PASSWORD, ROOT, TOKEN, Install, Simulate, Simulator
from tests.seeded import jira, servicenow, split
from tests.seeded.desk import Desk, desk, over_the_edge

pytestmark = pytest.mark.timeout(300)
PROCESSES = ["incident", "service_request", "problem", "change"]
ITSM = Path("itsm")
"""The simulator's name for the template of a service project."""
REGISTER = "sn_cim_register"
INSTANCE = {"plugins": "cim,major", "password": PASSWORD}
"""Options of the ServiceNow instance."""
NO_PLACE = "labels have no place in ServiceNow"
"""What a target cannot hold is said of each ticket; nothing else may be missing."""

Pairs = set[tuple[str, str]]


# --- the list itself


def _requirements() -> dict[str, str]:
    """requirement -> check, of all procedures that are shipped."""
    files = sorted((ROOT / "mappings" / "procedures").glob("*.yaml"))
    documents = [YAML(typ="safe", pure=True).load(path.read_text("utf-8")) for path in files]
    return {each["id"]: each["check"] for document in documents for each in document["requirements"]}


def test_the_list_names_breaches_of_every_check() -> None:
    breaches = desk().breaches
    assert len(breaches) == len({breach["id"] for breach in breaches})
    assert len(breaches) == len({(breach["case"], breach["requirement"]) for breach in breaches})
    assert {way for breach in breaches for way in breach.get("in", ())} <= set(WAYS)
    assert {breach["check"] for breach in breaches} == set(CHECKS)
    known = _requirements()
    assert {b["requirement"]: b["check"] for b in breaches} == {
        b["requirement"]: known.get(b["requirement"]) for b in breaches
    }


def test_the_list_names_look_alikes_of_every_check() -> None:
    look_alikes = desk().look_alikes
    assert len(look_alikes) == len({each["case"] for each in look_alikes})
    assert {each["check"] for each in look_alikes} == set(CHECKS)


def test_every_named_case_is_told_and_the_others_are_ordinary() -> None:
    told, cases = desk(), [record.case for record in desk().records]
    listed = {each["case"] for each in (*told.breaches, *told.look_alikes)}
    assert len(cases) == len(set(cases))
    assert set() == listed - told.named
    assert len(cases) - len(told.named) >= 60
    assert set() == {link.to for record in told.records for link in record.links} - set(cases)


# --- the data files tell the same life twice: as it ended, and as it came there


def test_the_audit_leads_to_the_record_as_it_stands() -> None:
    tables = servicenow.tables(desk())["tables"]
    stands = {row["sys_id"]: row for rows in tables.values() for row in rows}
    last: dict[tuple[str, str], str] = {}
    for audit in tables["sys_audit"]:
        place = (audit["documentkey"], audit["fieldname"])
        assert last.get(place, audit["oldvalue"]) == audit["oldvalue"], place
        last[place] = audit["newvalue"]
    assert len(last) > 500
    assert last == {place: stands[place[0]][place[1]] for place in last}


def test_the_histories_lead_to_the_issue_as_it_stands() -> None:
    issues = jira.site(desk())["issues"]
    seen = 0
    for issue in issues:
        stands = {**issue["fields"], **issue}
        last: dict[str, Any] = {}
        for item in (item for history in issue.get("history", ()) for item in history["items"]):
            assert last.get(item["field"], item["from"]) == item["from"], issue["key"]
            last[item["field"]] = item["to"]
        assert last == {name: stands.get(name) for name in last}, issue["key"]
        seen += len(last)
    assert seen > 300


def test_both_halves_of_the_split_desk_hold_every_case_and_problems_twice() -> None:
    told = desk()
    numbers = {row["number"] for name in servicenow.TABLES.values() for row in split.tables(told)["tables"][name]}
    keys = {issue["key"] for issue in split.site(told)["issues"]}
    sides = {
        record.case: (servicenow.numbers(told)[record.case] in numbers, jira.keys(told)[record.case] in keys)
        for record in told.records
    }
    expected = {
        "incident": (True, False),
        "service_request": (True, False),
        "problem": (True, True),
        "change": (False, True),
    }
    assert sides == {record.case: expected[record.process] for record in told.records}


# --- what the program finds


@dataclass(frozen=True)
class Served:
    """How the desk is served: which sources, and which of them gets the tickets."""

    sources: Mapping[str, Mapping[str, Any]]
    target: str
    created: Callable[[], int]
    """How many tickets the target has on its own books."""
    labels: Mapping[str, str]
    """What a product calls a case -> the case."""


@dataclass(frozen=True)
class Run:
    """What the program answered in two passes, and which deviations it listed after each."""

    way: str
    served: Served
    first: Any
    deviations: Any
    again: Any
    afterwards: Any


class Stage:
    """Starts simulators with the desk and writes their part of the settings."""

    def __init__(self, simulate: Simulate, folder: Path) -> None:
        self._simulate = simulate
        self._folder = folder

    def servicenow(self, tables: Mapping[str, Any]) -> tuple[Simulator, dict[str, Any]]:
        simulator = self._simulate("servicenow", self._file("servicenow", tables), **INSTANCE)
        credential = {"username": "itsms", "password": {"file": "password.txt"}}
        severities = {severity: {"priority": str(rank)} for rank, severity in enumerate(("S1", "S2", "S3", "S4"), 1)}
        options = {"table": REGISTER, "severities": severities}
        return simulator, self._source("servicenow", simulator, credential, options)

    def jira(self, site: Mapping[str, Any], edition: str) -> tuple[Simulator, dict[str, Any]]:
        # The account lives elsewhere than the desk: neither its zone nor a change of clocks there may matter.
        given = {"edition": edition, "timezone": "Europe/Berlin", "token": TOKEN}
        if edition == "datacenter":
            given["context"] = "/jira"
        simulator = self._simulate("jira", ITSM, self._file("jira", site), **given)
        token: dict[str, Any] = {"token": {"file": "token.txt"}}
        credential = token if edition == "datacenter" else {"username": "bot@example.com", **token}
        options = {
            "projects": ["ITSM"],
            "approvals_field": "customfield_10213",
            "project": "CAPA",
            "issue_type": "Corrective action",
            "index_lag": 0,
        }
        source = self._source("jira", simulator, credential, options)
        return simulator, {**source, "system_accounts": jira.machines(desk())}

    def _file(self, name: str, data: Mapping[str, Any]) -> Path:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(data), "utf-8")
        return path

    def _source(self, system: str, simulator: Simulator, credential: Any, options: Any) -> dict[str, Any]:
        return {
            "system": system,
            "url": simulator.url,
            "credential": credential,
            "go_live": desk().go_live,
            "options": options,
        }


def _labels(*names: Mapping[str, str]) -> dict[str, str]:
    return {label: case for called in names for case, label in called.items()}


def _issues_of(simulator: Simulator) -> Callable[[], int]:
    return lambda: int(simulator.ledger()["created"])


def _in_servicenow(stage: Stage, told: Desk) -> Served:
    simulator, source = stage.servicenow(servicenow.tables(told))

    def created() -> int:
        return int(simulator.ledger()["inserted"].get(REGISTER, 0))

    return Served({"desk": source}, "desk", created, _labels(servicenow.numbers(told)))


def _in_cloud(stage: Stage, told: Desk) -> Served:
    simulator, source = stage.jira(jira.site(told), "cloud")
    return Served({"desk": source}, "desk", _issues_of(simulator), _labels(jira.keys(told)))


def _in_data_center(stage: Stage, told: Desk) -> Served:
    simulator, source = stage.jira(jira.site(told), "datacenter")
    return Served({"desk": source}, "desk", _issues_of(simulator), _labels(jira.keys(told)))


def _split(stage: Stage, told: Desk) -> Served:
    _, instance = stage.servicenow(split.tables(told))
    simulator, site = stage.jira(split.site(told), "cloud")
    labels = _labels(servicenow.numbers(told), jira.keys(told))
    return Served({"servicenow": instance, "jira": site}, "jira", _issues_of(simulator), labels)


WAYS: dict[str, Callable[[Stage, Desk], Served]] = {
    "servicenow": _in_servicenow,
    "jira-cloud": _in_cloud,
    "jira-data-center": _in_data_center,
    "split": _split,
}


def _run(way: str, served: Served, install: Install) -> Run:
    installation = install(
        {
            "database": "sqlite:///itsms.db",
            "documents": str(ROOT / "mappings"),
            "sources": served.sources,
            "tickets": {"target": served.target, "processes": PROCESSES},
        }
    )

    def passed() -> tuple[Any, Any]:
        told = installation.json("once", f"--as-of={desk().as_of.isoformat()}", timeout=120)
        return told, installation.json("deviations", "--list")

    (first, deviations), (again, afterwards) = passed(), passed()
    return Run(way, served, first, deviations, again, afterwards)


SLOW = ("jira-cloud", "jira-data-center", "servicenow")  # served side by side in end_to_end/test_side_by_side.py


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in WAYS]
)
def run(
    request: pytest.FixtureRequest, simulate: Simulate, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    return _run(request.param, WAYS[request.param](Stage(simulate, tmp_path_factory.mktemp("desk")), desk()), install)


def _found(answer: Any, status: str, labels: Mapping[str, str]) -> Pairs:
    """(case, requirement) of the verdicts of that status; a case that no label names keeps its own."""
    return {(labels.get(case, case), requirement) for requirement, cases in _verdicts(answer, status) for case in cases}


def _verdicts(answer: Any, status: str) -> Iterable[tuple[str, list[str]]]:
    for figure in answer["processes"].values():
        for check in figure["checks"].values():
            for requirement, told in check["requirements"].items():
                yield requirement, told.get("cases", {}).get(status, [])


def test_the_breaches_are_found_and_nothing_else(run: Run) -> None:
    assert desk().expected(run.way) == _found(run.deviations, "deviating", run.served.labels)


def test_they_are_the_same_after_a_second_pass(run: Run) -> None:
    """Which also reads the tickets of the first, where they are in a table or project that is read."""
    assert desk().expected(run.way) == _found(run.afterwards, "deviating", run.served.labels)


def test_nothing_is_left_undecided(run: Run) -> None:
    undecided = [each for each in desk().unknown if run.way in each.get("in", (run.way,))]
    expected = {(each["case"], each["requirement"]) for each in undecided}
    assert expected == _found(run.deviations, "unknown", run.served.labels)


def test_every_case_was_judged(run: Run) -> None:
    """A pair of problems in two systems is one case."""
    processes = [record.process for record in desk().records]
    figures = run.deviations["processes"]
    assert {name: processes.count(name) for name in PROCESSES} == {name: figures[name]["cases"] for name in PROCESSES}


def test_every_source_was_read_to_its_end(run: Run) -> None:
    assert dict.fromkeys(run.served.sources) == {
        name: source["problem"] for name, source in run.first["sources"].items()
    }


def test_tickets_are_opened_where_they_are_asked_for(run: Run) -> None:
    opened = [item for item in run.first["opened"] if not item["queued"]]
    sent = run.first["outbox"]["sent"]
    assert opened
    assert len(opened) + run.first["digests"] == len(sent) == run.served.created()
    assert [] == [told for told in run.first["outbox"]["problems"] if NO_PLACE not in told]


def test_a_second_pass_opens_nothing(run: Run) -> None:
    assert ([], 0, []) == (run.again["opened"], run.again["digests"], run.again["outbox"]["sent"])


def test_look_alikes_are_found_as_soon_as_they_are_over_the_edge(
    simulate: Simulate, install: Install, tmp_path: Path
) -> None:
    """Each differs by one fact from what is legal; so none of them is passed over for another reason."""
    told = over_the_edge()
    found = _run("servicenow", _in_servicenow(Stage(simulate, tmp_path), told), install)
    expected = told.expected("servicenow")
    seen = {each["case"] for each in told.look_alikes if "servicenow" in each.get("in", ("servicenow",))}
    assert seen <= {case for case, _ in expected}
    assert expected == _found(found.deviations, "deviating", found.served.labels)
