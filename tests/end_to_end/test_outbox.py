"""What people do about the outbox and to our tickets, typed and clicked: the program beside two simulators."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.end_to_end.conftest import PASSWORD, TOKEN, Install, Installation, Simulate, Simulator, ended, until
from tests.end_to_end.conftest import settings_for as settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # many processes; a busy machine takes its time
LOGIN = ("bot@example.com", TOKEN)


@pytest.fixture(scope="module")
def servicenow(simulate: Simulate, small_desk: Path) -> Simulator:
    return simulate("servicenow", small_desk, password=PASSWORD)


@pytest.fixture
def jira() -> Iterator[Simulator]:
    simulator = Simulator("jira", (), {"token": TOKEN})
    yield simulator
    simulator.stop()


@contextmanager
def _daemon(installation: Installation) -> Iterator[None]:
    process = installation.start("run")
    try:
        until(lambda: str(process.pid) == (installation.folder / "itsms.db.lock").read_text().strip(), within_s=60)
        yield
    finally:
        ended(process)


def _states(installation: Installation) -> list[str]:
    return [state for (state,) in installation.rows("SELECT state FROM intent ORDER BY id")]


def test_a_cycle_that_wants_too_much_is_held_until_it_is_released(
    servicenow: Simulator, jira: Simulator, install: Install
) -> None:
    installation = install(settings(servicenow.url, jira.url, max_writes_per_cycle=1))
    assert 2 == installation.json("once")["outbox"]["held"]
    keys = [write["key"] for write in installation.json("outbox", "list")["writes"]]
    shown = installation.command("outbox", "release")
    assert (0, 2) == (shown.returncode, sum(key in shown.stdout for key in keys)), shown.stderr
    assert (["pending", "pending"], 0) == (_states(installation), jira.ledger()["created"])
    released = installation.command("outbox", "release", "--yes")
    assert "released 2 of 2 writes; the next cycle sends" in released.stdout, released.stderr
    assert 2 == len(installation.json("once")["outbox"]["sent"])
    assert "no cycle has held anything back" in installation.command("outbox", "release").stdout


def test_a_refused_write_is_shown_and_replayed_while_the_daemon_runs(
    servicenow: Simulator, jira: Simulator, install: Install
) -> None:
    jira.fault(method="POST", path="/issue$", do="status", status=400, nth=1)
    installation = install(settings(servicenow.url, jira.url))
    installation.json("once")
    assert ["parked", "done"] == _states(installation)
    (parked,) = installation.json("status")["needs_a_person"]["writes"]
    told = installation.json("outbox", "show", parked["key"])
    assert ["create"] == [write["action"] for write in told["writes"]]
    assert "status 400" in told["writes"][0]["steps"][-1]["problem"]
    with _daemon(installation):
        answer = installation.command("outbox", "replay", parked["key"])
        assert "carries it out in its next cycle" in answer.stdout, answer.stderr
        until(lambda: ["done", "done"] == _states(installation), within_s=60)
    (request,) = installation.json("outbox", "show", parked["key"])["requests"]
    assert f"{parked['key']}: 1 to be sent again" == request["answer"]
    assert 2 == jira.ledger()["created"]


def _click(jira: Simulator, label: str, status: str) -> None:
    """A person takes the step to this status."""
    url = f"{jira.url}/rest/api/2/issue/{label}/transitions"
    steps: list[Any] = requests.get(url, auth=LOGIN, timeout=5).json()["transitions"]
    step = next(each for each in steps if each["to"]["name"] == status)
    taken = {"transition": {"id": step["id"]}, "fields": {"resolution": {"name": "Done"}}}
    answer = requests.post(url, json=taken, auth=LOGIN, timeout=5)
    assert 204 == answer.status_code, answer.text


def test_what_people_close_is_seen_and_a_lost_database_opens_nothing_again(
    servicenow: Simulator, jira: Simulator, install: Install
) -> None:
    installation = install(settings(servicenow.url, jira.url))
    assert ["CAPA-1", "CAPA-2"] == installation.json("once")["outbox"]["sent"]
    _click(jira, "CAPA-1", "Rejected")
    followed = installation.json("once")["followed"]
    assert (["CAPA-1"], None) == (followed["closed"], followed["problem"])
    assert {"open": 1, "closed": 1} == {
        which: number for which, number in installation.json("status")["tickets"].items() if number
    }
    for file in installation.folder.glob("itsms.db*"):
        file.unlink()
    again = installation.json("once")
    assert (["CAPA-1", "CAPA-2"], []) == (sorted(again["outbox"]["adopted"]), again["outbox"]["sent"])
    assert [] == installation.json("once")["followed"]["strays"]
    assert 2 == jira.ledger()["created"]
