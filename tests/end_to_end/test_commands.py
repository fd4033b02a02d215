"""The commands as a user types them, on a desk of five incidents: what they say, write, leave alone, and exit with."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator

from itsms_sync.cli import COMMANDS
from tests.end_to_end.conftest import (
    COMMAND,
    PASSWORD,
    ROOT,
    TOKEN,
    Install,
    Installation,
    Simulate,
    Simulator,
    ended,
    finished,
    settings_for,
    terminate,
    until,
)

PROCESSES = ["change", "corrective_action", "incident", "problem", "service_request"]
NOBODY = "http://127.0.0.1:9"
"""The discard port, where nothing listens."""


@pytest.fixture(scope="module")
def servicenow(simulate: Simulate, small_desk: Path) -> Simulator:
    return simulate("servicenow", small_desk, password=PASSWORD, plugins="cim,major")


@pytest.fixture
def jira(simulate: Simulate) -> Iterator[Simulator]:
    simulator = simulate("jira", token=TOKEN)
    yield simulator
    simulator.stop()


Begin = Callable[..., Installation]


@pytest.fixture
def begin(servicenow: Simulator, jira: Simulator, install: Install) -> Begin:
    """``begin(**tickets) -> Installation`` that reads the desk and writes to a fresh site."""
    return lambda **tickets: install(settings_for(servicenow.url, jira.url, **tickets))


def typed(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command without a configuration."""
    return finished(started(*arguments, folder=folder, **environment))


def started(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- help


def test_help_is_quick() -> None:
    def once() -> float:
        begun = time.perf_counter()
        assert 0 == typed("--help").returncode
        return time.perf_counter() - begun

    assert min(once() for _ in range(5)) < 0.3


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    answer = typed(command, "--help")
    assert (0, "") == (answer.returncode, answer.stderr)
    assert command in answer.stdout
    assert "--help" in answer.stdout


def test_the_installed_script_is_the_same_program() -> None:
    script = Path(sys.executable).with_name("itsms-sync")
    told = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=20)
    assert told.stdout == typed("--version").stdout


# --- wrong usage


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("observe",), "No such command"),
        (("once", "--dry"), "--dry"),
        (("once", "--as-of=yesterday"), "'yesterday' is no instant; write for example 2016-06-01T00:00Z"),
        (("once", "--as-of=2016-06-01T00:00"), "names no time zone"),
        (("once", "--fail-on=S9"), "S9"),
        (("once", "--config=absent.yaml"), "absent.yaml"),
        (("schema", "desk"), "there is no schema 'desk'"),
        (("simulate", "remedy"), "no simulator 'remedy' is installed; there are: jira, servicenow"),
        (("simulate", "jira", "--option=token"), "KEY=VALUE"),
        (("simulate", "jira", "--option=tokn=x"), "did you mean 'token'"),
        (("assess", "log.csv", "--columns=absent.yaml", "--procedure=absent.yaml"), "absent.yaml"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    answer = typed(*arguments, folder=tmp_path)
    assert (2, "") == (answer.returncode, answer.stdout)
    assert told in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr


def test_check_tells_every_problem_with_its_place(install: Install) -> None:
    settings = settings_for(NOBODY, NOBODY, target="elsewhere")
    installation = install({**settings, "documents": "documents"})
    shutil.copytree(ROOT / "mappings", installation.folder / "documents")
    procedure = installation.folder / "documents" / "procedures" / "incident.yaml"
    lines = procedure.read_text("utf-8").splitlines()
    line = next(number for number, text in enumerate(lines) if text.startswith("    severity:"))
    lines[line] = "    severity: S9"
    procedure.write_text("\n".join(lines), "utf-8")
    expected = [f"{installation.config}:{_line_of(installation, 'target')}:", f"{procedure}:{line + 1}:"]
    for arguments in (["check"], ["once"], ["status"]):
        answer = installation.command(*arguments)
        assert (2, "") == (answer.returncode, answer.stdout)
        assert [] == [place for place in expected if not re.search(rf"^{re.escape(place)}\d+: ", answer.stderr, re.M)]
    problems = installation.json("check", code=2)["problems"]
    assert all(any(problem.startswith(place) for problem in problems) for place in expected)


def _line_of(installation: Installation, key: str) -> int:
    lines = installation.config.read_text("utf-8").splitlines()
    return 1 + next(number for number, text in enumerate(lines) if f'"{key}":' in text)


def test_a_setting_that_there_is_not_is_refused_with_its_place(install: Install) -> None:
    installation = install(settings_for(NOBODY, NOBODY, cap_per_ower=3))
    answer = installation.command("check")
    assert (2, "") == (answer.returncode, answer.stdout)
    place = re.escape(f"{installation.config}:{_line_of(installation, 'cap_per_ower')}:")
    assert re.search(rf"^{place}\d+: .*cap_per_owner", answer.stderr, re.M), answer.stderr


def test_check_of_the_shipped_configuration_is_fine() -> None:
    answer = typed("check", "--json")
    assert (0, []) == (answer.returncode, json.loads(answer.stdout)["problems"])


# --- what is written, and what is not


def test_a_dry_run_prints_the_tickets_and_writes_none(begin: Begin, jira: Simulator) -> None:
    installation = begin()
    answer = installation.command("once", "--dry-run")
    assert (0, "") == (answer.returncode, answer.stderr)
    assert re.search(r"=== would be sent: .*priority 1 not resolved within 4 hours", answer.stdout)
    assert re.search(r"=== would be sent: .*digest", answer.stdout)
    assert "What would prove it fixed" in answer.stdout
    assert "nav_to.do?uri=incident.do" in answer.stdout
    assert 0 == jira.requested()
    assert [] == installation.json("actions") == installation.json("nonconformities")
    assert 2 == len(installation.json("once")["outbox"]["sent"])
    assert 2 == jira.ledger()["created"]


def test_writing_is_off_until_a_process_is_named(begin: Begin, jira: Simulator) -> None:
    installation = begin(processes=[])
    answer = installation.command("once")
    assert 0 == answer.returncode, answer.stderr
    assert "writing is off for process incident: name it under tickets.processes" in answer.stdout
    assert (PROCESSES, []) == ((report := installation.json("once"))["writing_off"], report["opened"])
    assert 0 == jira.ledger()["created"]


def test_more_writes_than_allowed_are_all_held(begin: Begin, jira: Simulator, servicenow: Simulator) -> None:
    installation = begin(max_writes_per_cycle=1)
    answer = installation.command("once")
    assert 0 == answer.returncode, answer.stderr
    assert "2 writes are held: more than max_writes_per_cycle" in answer.stdout
    assert (2, 2) == ((outbox := installation.json("once")["outbox"])["held"], outbox["waiting"])
    assert {"pending"} == {action["write"] for action in installation.json("actions")}
    assert 0 == jira.ledger()["created"]
    installation.configure(settings_for(servicenow.url, jira.url, max_writes_per_cycle=2))
    assert 2 == len(installation.json("once")["outbox"]["sent"])


def _as_vendor(simulator: Simulator) -> ThreadingHTTPServer:
    """The simulator behind a front that does not say that it is one."""

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def version_string(self) -> str:
            return "AtlassianEdge"

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() in ("authorization", "content-type")}
            answer = requests.request(self.command, simulator.url + self.path, data=body, headers=headers, timeout=20)
            self.send_response(answer.status_code)
            for name in ("Content-Type", "X-Seraph-LoginReason"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = _pass_on

    return ThreadingHTTPServer(("127.0.0.1", 0), Front)


@pytest.fixture
def vendor(jira: Simulator) -> Iterator[str]:
    server = _as_vendor(jira)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_past_opens_tickets_in_simulators_only(
    servicenow: Simulator, jira: Simulator, vendor: str, install: Install
) -> None:
    installation = install(settings_for(servicenow.url, vendor))
    yesterday = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(time.time() - 86_400))
    refused = installation.command("once", f"--as-of={yesterday}")
    assert (2, "") == (refused.returncode, refused.stdout)
    assert "jira is no simulator" in refused.stderr
    assert 0 == jira.ledger()["created"]
    assert 1 == len(installation.json("once", f"--as-of={yesterday}", "--dry-run")["opened"])
    assert 0 == jira.ledger()["created"]
    assert 2 == len(installation.json("once")["outbox"]["sent"]), "now is no past"


# --- exit codes


def test_fail_on_counts_the_severity_and_the_worse_ones(begin: Begin) -> None:
    assert [0, 1, 1] == [begin().command("once", f"--fail-on={worst}").returncode for worst in ("S1", "S2", "S3")]


def test_without_a_database_reading_commands_say_what_to_do(install: Install) -> None:
    installation = install(settings_for(NOBODY, NOBODY))
    for command in ("status", "deviations", "nonconformities", "actions"):
        answer = installation.command(command)
        assert (3, "") == (answer.returncode, answer.stdout)
        assert "run `itsms-sync once` first" in answer.stderr
    assert not installation.database.exists()


def test_a_database_in_a_folder_that_is_not_there(install: Install) -> None:
    settings = settings_for(NOBODY, NOBODY)
    answer = install({**settings, "database": "sqlite:///absent/itsms.db"}).command("once")
    assert (3, "") == (answer.returncode, answer.stdout)
    assert "absent" in answer.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_pass_at_once(begin: Begin, servicenow: Simulator, number: int) -> None:
    installation = begin()
    servicenow.fault(do="delay", path="/table/sys_audit", nth=1, seconds=20)
    process = installation.start("once")
    try:
        until(lambda: any(servicenow.struck()))
        assert terminate(process, number) < 2
        answer = finished(process)
    finally:
        servicenow.forgive()
        ended(process)
    assert (130, "") == (answer.returncode, answer.stdout)
    assert "the next run goes on from here" in answer.stderr
    assert 2 == len(installation.json("once")["outbox"]["sent"])


# --- sources that cannot be reached


@pytest.fixture(scope="module")
def unreachable(servicenow: Simulator, simulate: Simulate, install: Install) -> dict[str, Any]:
    """Two passes at once, because both wait for a source to come back: one has another source, one has none."""
    settings = settings_for(servicenow.url, simulate("jira", token=TOKEN).url)
    other = {**settings["sources"]["servicenow"], "url": NOBODY}
    both = install({**settings, "sources": {**settings["sources"], "branch": other}})
    none = install({**settings, "sources": {**settings["sources"], "servicenow": other}})
    running = {name: parts.start("once", "--json") for name, parts in (("both", both), ("none", none))}
    return {name: finished(process) for name, process in running.items()} | {"installation": both}


def test_no_source_can_be_reached(unreachable: dict[str, Any]) -> None:
    answer = unreachable["none"]
    assert 3 == answer.returncode
    assert "unavailable" in json.loads(answer.stdout)["sources"]["servicenow"]["problem"]


def test_one_source_fails_and_the_other_is_read(unreachable: dict[str, Any]) -> None:
    answer, installation = unreachable["both"], unreachable["installation"]
    assert 0 == answer.returncode, answer.stderr
    report = json.loads(answer.stdout)
    assert report["sources"]["servicenow"]["problem"] is None
    assert report["sources"]["servicenow"]["new_rows"] > 0
    assert "refused the connection" in report["sources"]["branch"]["problem"]
    assert 5 == report["cases_judged"]
    gaps = [(gap["source"], gap["reason"]) for gap in installation.json("status")["gaps"]]
    assert ("branch", "unavailable") in gaps
    assert "refused the connection" in installation.command("status").stdout


# --- check --online


def test_check_online_finds_nothing_on_a_good_desk(begin: Begin, jira: Simulator) -> None:
    installation = begin()
    answer = installation.command("check", "--online")
    assert (0, "") == (answer.returncode, answer.stderr), answer.stdout
    found = installation.json("check", "--online")["online"]
    assert {("servicenow", "log in"), ("jira", "log in"), ("jira", "find tickets")} <= {
        (f["source"], f["what"]) for f in found
    }
    assert 0 == jira.ledger()["created"]
    assert not installation.database.exists(), "it asks the sources only"


def test_check_online_tells_a_table_that_is_denied(
    simulate: Simulate, small_desk: Path, tmp_path: Path, jira: Simulator, install: Install
) -> None:
    denied = tmp_path / "denied.json"
    tables = json.loads(small_desk.read_text("utf-8"))
    denied.write_text(json.dumps({**tables, "access": {"deny_tables": ["sys_audit"]}}), "utf-8")
    servicenow = simulate("servicenow", denied, password=PASSWORD, plugins="cim,major")
    installation = install(settings_for(servicenow.url, jira.url))
    answer = installation.command("check", "--online")
    assert 1 == answer.returncode, answer.stderr
    assert "sys_audit" in answer.stdout
    found = installation.json("check", "--online", code=1)["online"]
    assert ["servicenow"] == sorted({f["source"] for f in found if f["problem"]})


def test_wrong_credentials_are_told_and_not_repeated(servicenow: Simulator, jira: Simulator, install: Install) -> None:
    """``finished`` looks for the secrets in everything that is said."""
    installation = install(settings_for(servicenow.url, jira.url))
    for name in ("password.txt", "token.txt"):
        (installation.folder / name).write_text((PASSWORD if name == "token.txt" else TOKEN) + "\n")
    answer = installation.command("check", "--online")
    assert 1 == answer.returncode
    assert 3 == installation.command("once").returncode
    assert "refused" in installation.command("status").stdout
    stored = "\n".join(str(row) for row in installation.rows("SELECT message FROM gap"))
    assert stored
    assert [] == [secret for secret in (PASSWORD, TOKEN) if secret in stored]


def test_a_secret_that_is_not_there_is_named_by_its_place(
    servicenow: Simulator, jira: Simulator, install: Install
) -> None:
    installation = install(settings_for(servicenow.url, jira.url))
    (installation.folder / "password.txt").unlink()
    answer = installation.command("once")
    assert 3 == answer.returncode
    assert "password.txt" in answer.stdout + answer.stderr


# --- commands that read


def test_what_was_done_is_told_in_text_and_in_json(begin: Begin, jira: Simulator) -> None:
    installation = begin()
    text = installation.command("once").stdout
    assert re.search(r"^S2 INC-RESOLVE-P1\S* \(opened\): ", text, re.MULTILINE)
    assert f"{jira.url}/browse/CAPA-1" in text
    assert "petra" not in text.lower()
    actions = installation.json("actions")
    assert [("done", "CAPA-1"), ("done", "CAPA-2")] == [(a["write"], a["ticket"]) for a in actions]
    assert ["INC-RESOLVE-P1"] == [n["requirement"] for n in installation.json("nonconformities")]
    late = installation.json("explain", "INC0010001")
    assert "deviating" == next(v["status"] for v in late["verdicts"] if v["requirement"] == "INC-RESOLVE-P1")
    assert installation.json("replay")["equal"]
    assert 0 == installation.command("status", "--health=1").returncode


def test_what_vanished_is_told_by_reconcile_status_and_explain(begin: Begin, servicenow: Simulator) -> None:
    installation = begin()
    assert 2 == installation.command("reconcile", "--kind=spaceship").returncode
    installation.command("once")
    vanished = {"table": "incident", "by": "petra.person", "sys_id": f"{2:032x}", "trail": False}
    requests.post(f"{servicenow.url}/_sim/act", json={"do": "delete", **vanished}, timeout=5).raise_for_status()
    answer = installation.command("reconcile", "--kind=incident", "--all")
    requests.post(f"{servicenow.url}/_sim/act", json={"do": "undelete", **vanished}, timeout=5).raise_for_status()
    assert 0 == answer.returncode, answer.stderr
    (run,) = installation.json("status")["reconciled"]
    assert ("incident", "all", "done", 5, 4, 1) == tuple(
        run[name] for name in ("kind", "extent", "state", "known", "seen", "gone")
    )
    assert "The source no longer shows it" in installation.command("explain", "INC0010002").stdout
    (run,) = installation.json("reconcile", "--kind=incident", "--all")["reconciled"]
    assert (5, 0) == (run["seen"], run["gone"])
    assert ["unreadable", "restored"] == [f["what"] for f in installation.json("explain", "INC0010002")["findings"]]


def test_the_daemon_logs_a_line_of_json_per_pass_and_no_secret(begin: Begin) -> None:
    process = begin().start("run")
    try:
        assert process.stderr is not None
        lines = []
        while sum('"cycle"' in line for line in lines) < 2:
            lines.append(process.stderr.readline())
        terminate(process)
        rest = finished(process)
    finally:
        ended(process)
    assert 0 == rest.returncode
    told = [json.loads(line) for line in [*lines, *rest.stderr.splitlines()]]
    assert ["started", "cycle", "cycle"] == [line["event"] for line in told][:3]
    assert "stopped" == told[-1]["event"]
    assert [2, 0] == [len(line["outbox"]["sent"]) for line in told[1:3]]
    assert [] == [secret for secret in (PASSWORD, TOKEN) if secret in "".join(lines)]


# --- schema and simulate


def test_schemas_are_schemas(tmp_path: Path) -> None:
    names = typed("schema").stdout.split()
    assert {"settings", "calendars", "processes", "mapping", "procedure", "columns", "texts"} == set(names)
    written = typed("schema", f"--out={tmp_path / 'schemas'}")
    assert 0 == written.returncode, written.stderr
    for name in names:
        schema = json.loads(typed("schema", name).stdout)
        Draft202012Validator.check_schema(schema)
        assert schema == json.loads((tmp_path / "schemas" / f"{name}.json").read_bytes())


@pytest.mark.parametrize("system", ["servicenow", "jira"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_serves_until_a_signal(system: str, number: int) -> None:
    process = started("simulate", system, "--port=0", PYTHONUNBUFFERED="1")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split(" at ")[1].split()[0]
        assert requests.get(f"{url}/_sim/ledger", timeout=5).ok
        assert terminate(process, number) < 5
        assert 0 == process.returncode
    finally:
        ended(process)
    _nothing_listens([url])


def _nothing_listens(urls: list[str]) -> None:
    for url in urls:
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)
