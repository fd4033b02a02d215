"""The main job on real input: a ServiceNow instance with 24,918 incidents becomes corrective-action tickets in Jira."""

import csv
import gzip
import html
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.end_to_end.conftest import ROOT, Installation, Simulate, Simulator

pytestmark = pytest.mark.timeout(600)  # the real log is read, judged and judged again, once for all tests
LOG = "data/uci-incidents/incident_event_log.csv.gz"
IN_JUNE, IN_MARCH = "2016-06-01T00:00Z", "2017-03-01T00:00Z"
RESOLVED = {"Resolved", "Closed"}
CASES = 24_918
NAMED = 436
"""Problems and changes that incidents of the log name; nothing else is known of them."""
NAMES_START = ("Updated by ", "Caller ", "Resolver ", "Opened by ", "Created by ")
CHECKS = (
    *("CF1", "CF10", "CF2", "CF3", "CF4", "CF5", "CF6", "CF7"),
    *("DA1", "DA6", "LI1", "RO5", "ST3", "TI1", "TI12", "TI13", "TI14", "TI2", "TI3", "TI4"),
)

OTHER_REASONS = ("TI13",)
"""The instance shows no service level at all; of the file it is not even known which incidents are duplicates."""


@dataclass(frozen=True)
class Job:
    """What each command of the job answered, in the order in which they ran."""

    log: Path
    installation: Installation
    jira: Simulator
    first: Any
    again: Any
    opened: Any
    """Nonconformities after the first pass."""
    actions: Any
    created: int
    """Tickets on the site's own books after the first two passes."""
    later: Any
    """The pass as of a time when all incidents had ended."""


@pytest.fixture(scope="module")
def job(simulate: Simulate, tmp_path_factory: pytest.TempPathFactory, shared: Callable[[str], Path]) -> Job:
    log = shared(LOG)
    servicenow, jira = simulate("servicenow", log), simulate("jira")
    installation = _installation(tmp_path_factory.mktemp("uci"), servicenow.url, jira.url)

    def passed(as_of: str) -> Any:
        return installation.json("once", f"--as-of={as_of}", timeout=300)

    first, again = passed(IN_JUNE), passed(IN_JUNE)
    opened, actions = installation.json("nonconformities"), installation.json("actions")
    created = jira.ledger()["created"]
    return Job(log, installation, jira, first, again, opened, actions, created, passed(IN_MARCH))


def _installation(folder: Path, servicenow: str, jira: str) -> Installation:
    """The configuration that is shipped for this log, with other addresses."""
    found = Installation(folder)
    text = (ROOT / "config" / "uci.yaml").read_text("utf-8")
    for shipped, ours in (
        ("http://127.0.0.1:8081", servicenow),
        ("http://127.0.0.1:8082", jira),
        ("sqlite:///../uci.db", "sqlite:///itsms.db"),
        ("documents: ../mappings", f"documents: {ROOT / 'mappings'}"),
    ):
        assert 1 == text.count(f"{shipped}\n"), f"config/uci.yaml no longer says {shipped}"
        text = text.replace(f"{shipped}\n", f"{ours}\n")
    found.config.write_text(text, "utf-8")
    (folder / "simulator-password.txt").write_text("secret")
    (folder / "simulator-token.txt").write_text("token")
    return found


@pytest.fixture(scope="module")
def deviations(job: Job) -> Any:
    return job.installation.json("deviations", "--process=incident", "--list")


@pytest.fixture(scope="module")
def assessed(job: Job) -> Any:
    """The same log judged straight from its file."""
    documents = ROOT / "mappings"
    given = (f"--procedure={documents / 'procedures' / 'incident.yaml'}", f"--as-of={IN_MARCH}", "--json", "--list")
    columns = f"--columns={documents / 'logs' / 'uci-incidents.yaml'}"
    calendars = f"--calendars={documents / 'calendars.yaml'}"
    answer = subprocess.run(
        [sys.executable, "-m", "itsms_sync", "assess", str(job.log), columns, calendars, *given],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == answer.returncode, answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def reopened(shared: Callable[[str], Path]) -> list[str]:
    """Incidents that left a resolved state, read off the file without any code of ours, line by line as it stands."""
    with gzip.open(shared(LOG), "rt", encoding="utf-8", newline="") as file:
        rows = [(row["number"], row["incident_state"]) for row in csv.DictReader(file)]
    found = []
    for number, lines in groupby(rows, key=lambda row: row[0]):
        states = [state for _, state in lines if state != "-100"]
        if any(a in RESOLVED and b not in RESOLVED for a, b in pairwise(states)):
            found.append(number)
    return sorted(found)


# --- tickets


def test_every_nonconformity_that_does_not_wait_becomes_one_ticket(job: Job) -> None:
    opened = [item for item in job.first["opened"] if not item["queued"]]
    assert opened
    assert (len(opened) + job.first["digests"], 1) == (len(job.first["outbox"]["sent"]), job.first["digests"])
    assert len(job.first["outbox"]["sent"]) == job.created == len(job.actions)
    assert {item["key"] for item in job.first["opened"]} == {item["key"] for item in job.opened}
    assert {item["key"] for item in opened} == {item["key"] for item in job.opened if item["ticket"]}
    assert {"done"} == {item["write"] for item in job.actions}
    assert [] == job.first["outbox"]["problems"]


def test_a_second_pass_finds_nothing_to_do(job: Job) -> None:
    assert (0, [], 0) == (job.again["sources"]["servicenow"]["new_rows"], job.again["opened"], job.again["digests"])
    assert ([], [], 0) == (job.again["outbox"]["sent"], job.again["outbox"]["adopted"], job.again["cases_judged"])
    told = "rows, history, saves, deletes of ten tables, our tickets, who answers, what is asked once; no more, ever"
    assert job.again["requests"] <= 55, told


def test_a_later_pass_reads_nothing_again(job: Job) -> None:
    assert (0, None) == tuple(job.later["sources"]["servicenow"][name] for name in ("new_rows", "problem"))


@pytest.mark.slow
def test_replay_gives_what_stood_there(job: Job) -> None:
    replay = job.installation.json("replay", timeout=300)
    assert (True, [], CASES + NAMED) == (replay["equal"], replay["differing"], replay["rows"]["records"]["after"])
    assert replay["rows"]["verdicts"]["after"] > 100_000


def test_tickets_open_at_their_address(job: Job) -> None:
    summaries = {item["url"]: item["summary"] for item in job.opened if item["ticket"]}
    assert summaries
    for action in job.actions:
        page = requests.get(action["url"], timeout=10)
        assert (200, True) == (page.status_code, action["ticket"] in page.text)
        assert html.escape(summaries.get(action["url"], "digest")) in page.text


# --- figures


def test_the_known_figures_of_the_log(deviations: Any) -> None:
    checks = deviations["checks"]
    assert CASES == deviations["cases"]
    assert {"CF5": 275, "DA6": 671, "ST3": 2216} == {k: checks[k]["deviating"] for k in ("CF5", "DA6", "ST3")}
    assert 107 == checks["DA1"]["requirements"]["INC-I8-CODE"]["deviating"]
    assert 9905 == deviations["facts"]["never"]["work"]


def test_the_reopened_incidents_are_the_known_ones(deviations: Any, reopened: list[str]) -> None:
    assert 275 == len(reopened)
    assert reopened == sorted(deviations["checks"]["CF5"]["cases"]["deviating"])


def test_all_mismatches_of_the_matrix_are_of_one_kind(job: Job) -> None:
    told = job.installation.rows(
        "SELECT DISTINCT detail FROM verdict WHERE requirement = 'INC-PRIORITY' AND status = 'deviating' "
        "AND superseded_at IS NULL"
    )
    assert [("impact 3 and urgency 3 give priority 5, set was 4",)] == told


@pytest.mark.parametrize("check", CHECKS)
def test_the_database_and_the_file_give_the_same(deviations: Any, assessed: Any, check: str) -> None:
    """Per requirement: figures, reasons and the ids of deviating and unknown cases."""
    of_file, of_database = assessed["checks"][check], deviations["checks"][check]
    if check in OTHER_REASONS:
        of_file, of_database = _without_reasons(of_file), _without_reasons(of_database)
    assert _applying(of_file["requirements"]) == _applying(of_database["requirements"])
    assert _comparable(of_file) == _comparable(of_database)


def test_the_database_and_the_file_know_the_same_cases_and_checks(deviations: Any, assessed: Any) -> None:
    assert set(CHECKS) == _applying(deviations["checks"]).keys()
    # a file does not tell what belongs to an incident
    assert {*CHECKS, "CF12"} == _applying(assessed["checks"]).keys()
    assert assessed["cases"] == deviations["cases"]
    assert assessed["facts"]["never"] == deviations["facts"]["never"]


def _applying(figures: Any) -> dict[str, Any]:
    """Without those that apply to nobody, which are told or not."""
    return {name: _comparable(one) for name, one in figures.items() if one["judged"] or one["unknown"]}


def _without_reasons(figure: Any) -> Any:
    of_each = {name: {**one, "reasons": {}} for name, one in figure["requirements"].items()}
    return {**figure, "reasons": {}, "requirements": of_each}


def _comparable(figure: Any) -> Any:
    """Without the order in which cases are listed, and without those to whom it does not apply."""
    cases = {status: sorted(ids) for status, ids in figure.get("cases", {}).items()}
    return {**{k: v for k, v in figure.items() if k not in ("requirements", "not_applicable")}, "cases": cases}


# --- commands that read


@pytest.mark.parametrize("place", [0, *(pytest.param(later, marks=pytest.mark.slow) for later in (137, 274))])
def test_explain_an_incident(job: Job, reopened: list[str], place: int) -> None:
    number = reopened[place]
    found = job.installation.json("explain", number)
    assert (number, "servicenow") == (found["case"], found["source"])
    assert len(found["history"]) > 1
    reopen = next(v for v in found["verdicts"] if v["requirement"] == "INC-REOPEN")
    assert ("deviating", "SMS-INC-01") == (reopen["status"], reopen["where"].split(" ")[0])
    (beside,) = found["beside"]
    flow = next(v for v in found["verdicts"] if v["requirement"] == "INC-FLOW")
    if beside["reason"] is None:
        assert (flow["status"] == "deviating") == bool(beside["cost"])
    assert bool(beside["words"]) == bool(beside["cost"])
    page = requests.get(found["url"], timeout=10)
    assert (200, True) == (page.status_code, number in page.text)
    text = job.installation.command("explain", number)
    assert (0, True) == (text.returncode, "INC-REOPEN" in text.stdout)


def test_explain_a_ticket(job: Job) -> None:
    wanted = next(item for item in job.opened if item["ticket"])
    assert wanted["key"] == job.installation.json("explain", wanted["ticket"])["nonconformity"]["key"]
    assert wanted["key"] in job.installation.command("explain", wanted["ticket"]).stdout


def test_explain_what_nobody_knows(job: Job) -> None:
    answer = job.installation.command("explain", "INC9999999")
    assert (2, "") == (answer.returncode, answer.stdout)
    assert "INC9999999" in answer.stderr


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("status", "servicenow"),
        ("nonconformities", "INC-RESOLVE-P1"),
        ("actions", "CAPA-1"),
        ("deviations", "24,918 cases"),
    ],
)
def test_commands_that_read_answer_in_text(job: Job, command: str, part: str) -> None:
    answer = job.installation.command(command)
    assert (0, "") == (answer.returncode, answer.stderr)
    assert part in answer.stdout


def test_status_for_machines(job: Job) -> None:
    status = job.installation.json("status")
    (source,) = status["sources"]
    assert ("servicenow", CASES + NAMED) == (source["name"], source["records"])
    assert all(stream["closed"] for stream in source["streams"])
    assert {"done": len(job.actions) + len(job.later["outbox"]["sent"])} == status["outbox"]
    assert status["last_cycle"]["ended_at"] is not None


# --- persons


def test_identifiers_of_persons_are_in_one_table_only(job: Job) -> None:
    """Names as the log has them, and the ids under which the instance refers to them. Our own account is no person."""
    with closing(sqlite3.connect(f"file:{job.installation.database}?mode=ro", uri=True)) as connection:
        instances = connection.execute("SELECT instance FROM source WHERE instance <> ''")
        own = {"itsms", *(instance.partition("#")[2] for (instance,) in instances)}
        persons = {identifier for (identifier,) in connection.execute("SELECT identifier FROM pseudonym")} - own
        assert {"Updated by 21", "Caller 2403", "Resolver 89"} <= persons
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {"payload", "event", "nonconformity", "pseudonym"} <= set(tables)
        found = {table: _told(connection, table, persons) for table in tables if table != "pseudonym"}
    assert {table: [] for table in found} == found


def _told(connection: sqlite3.Connection, table: str, persons: set[str]) -> list[str]:
    """The persons that any cell of the table names: an identifier as a whole cell or between quotes, or the beginning
    that all names of one column share."""
    found: set[str] = set()
    for row in connection.execute(f'SELECT * FROM "{table}"'):
        for cell in row:
            text = cell.decode() if isinstance(cell, bytes) else cell
            if isinstance(text, str):
                found |= persons.intersection(text.split('"'))
                found |= {start for start in NAMES_START if start in text}
    return sorted(found)
