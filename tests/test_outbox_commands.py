"""What a person sees of the outbox and decides about it, typed: the commands on a database that a desk has filled."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from itsms_sync.cli import main
from itsms_sync.connector import Refused, Unavailable
from itsms_sync.store import outgoing
from itsms_sync.store.database import writing
from tests.tracker import QUARANTINE, START, Desk, opened

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "database": "sqlite:///outbox.db",
    "documents": str(ROOT / "mappings"),
    "sources": {
        "jira": {
            "system": "jira",
            "url": "http://127.0.0.1:1",
            "read": False,
            "credential": {"username": "bot@example.com", "token": {"file": "token.txt"}},
            "options": {"project": "CAPA", "issue_type": "Corrective action"},
        }
    },
    "tickets": {"target": "jira", "processes": ["incident"]},
}
Command = Callable[..., Result]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as found:
        yield found


@pytest.fixture
def command(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command as it is typed in the folder of the configuration."""
    (tmp_path / "itsms_sync.yaml").write_text(json.dumps(SETTINGS), "utf-8")
    (tmp_path / "token.txt").write_text("made-up", "utf-8")
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, [*words, "--config", "itsms_sync.yaml"])


def told(answer: Result) -> Any:
    assert 0 == answer.exit_code, answer.output
    return json.loads(answer.stdout)


def _refused(desk: Desk) -> None:
    desk.tracker.before_write = [Unavailable("no route"), Refused("no such field")]
    desk.intend()
    for _ in range(2):
        desk.perform()
        desk.time.real += QUARANTINE


def _asked(desk: Desk) -> None:
    desk.unclear_limit = 1
    desk.tracker.before_write = [Unavailable("the answer was lost", sent=True)]
    desk.intend()
    for _ in range(2):
        desk.perform()
        desk.time.real += QUARANTINE


def test_a_refused_write_is_named_with_all_that_came_of_it(desk: Desk, command: Command) -> None:
    _refused(desk)
    (listed,) = told(command("outbox", "list", "--json"))["writes"]
    assert ("R.1.g1", "parked", "no such field") == (listed["key"], listed["state"], listed["problem"])
    needed = told(command("status", "--json"))["needs_a_person"]["writes"]
    assert ["R.1.g1"] == [write["key"] for write in needed]
    (shown,) = told(command("outbox", "show", "R.1.g1", "--json"))["writes"]
    assert "about R.1.g1" == shown["content"]["summary"]
    assert ["no route", "no such field"] == [step["problem"] for step in shown["steps"]]
    text = command("outbox", "show", "R.1.g1").output
    assert all(word in text for word in ("about R.1.g1", "no route", "no such field")), text


def test_a_decision_is_carried_out_by_whoever_writes(desk: Desk, command: Command, tmp_path: Path) -> None:
    """The daemon holds the right to write: the decision waits for its next pass, and its answer is kept."""
    _refused(desk)
    with writing(f"sqlite:///{tmp_path / 'outbox.db'}"):
        answer = command("outbox", "replay", "R.1.g1")
        assert "carries it out in its next cycle" in answer.output
        assert {"R.1.g1": "parked"} == desk.states()
    assert ["CAPA-1"] == desk.perform().sent
    (request,) = told(command("outbox", "show", "R.1.g1", "--json"))["requests"]
    assert ("replay", "R.1.g1: 1 to be sent again") == (request["command"], request["answer"])


def test_a_doubtful_write_is_sent_again_by_a_person_who_has_looked(desk: Desk, command: Command) -> None:
    _asked(desk)
    refused = command("outbox", "replay", "R.1.g1")
    assert (2, {"R.1.g1": "asked"}) == (refused.exit_code, desk.states())
    assert "--not-there" in refused.output
    assert "1 to be sent again; the next cycle sends" in command("outbox", "replay", "R.1.g1", "--not-there").output
    assert ["CAPA-1"] == desk.perform().sent


def test_what_a_cycle_held_is_shown_before_it_is_released(desk: Desk, command: Command) -> None:
    assert "no cycle has held anything back" in command("outbox", "release").output
    for number in range(3):
        desk.intend(f"R.{number}.g1")
    desk.perform(max_writes=2)
    assert "outbox release" in command("outbox", "list").output
    shown = command("outbox", "release").output
    assert all(f"R.{number}.g1" in shown for number in range(3)), shown
    assert 3 == desk.perform(max_writes=2).held
    assert "released 3 of 3 writes" in command("outbox", "release", "--yes").output
    assert 3 == len(desk.perform(max_writes=2).sent)


def test_a_ticket_that_is_gone_is_named_and_made_again_by_a_person(desk: Desk, command: Command) -> None:
    desk.intend()
    desk.perform()
    with desk.engine.begin() as connection:
        gone = {"gone": "deleted", "gone_at": START, "gone_message": "by hand"}
        outgoing.change_ticket(connection, "jira", "R.1.g1", gone)
    desk.tracker.tickets.clear()
    (person,) = told(command("outbox", "list", "--json"))["tickets"]
    assert ("CAPA-1", "gone (deleted): by hand") == (person["ticket"], person["why"])
    assert 2 == command("outbox", "replay", "R.1.g1").exit_code
    assert 0 == command("outbox", "replay", "R.1.g1", "--create-again").exit_code
    assert (["CAPA-1"], 2) == (desk.perform().sent, len(desk.tracker.writes))


@pytest.mark.parametrize("word", ["show", "replay"])
def test_a_key_that_nobody_knows_is_wrong_usage(command: Command, word: str) -> None:
    answer = command("outbox", word, "NOBODY.g1")
    assert (2, "") == (answer.exit_code, answer.stdout)
    assert "outbox list --all" in answer.stderr
