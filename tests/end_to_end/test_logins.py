"""The whole program with access tokens on both sides: each dies and comes back, and none is found anywhere.

Both systems stand behind a front that notes how each request proved itself.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.end_to_end.conftest import Install, Installation, Simulate, Simulator, settings_for
from tests.end_to_end.wires import Front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # one story of four passes, told once for all tests
CLOUD_ID = "8b1f7a3c"
CONSENT = "first-refresh-token-of-a-person"
SECRETS = {"servicenow": "client-secret-of-the-desk", "jira": "client-secret-of-the-tracker"}
"""Of the OAuth applications."""


@dataclass(frozen=True)
class Moment:
    """What a pass said and left."""

    code: int
    told: str
    report: Mapping[str, Any]
    sources: Mapping[str, Any]
    intents: tuple[tuple[str, int], ...]
    """State and number of sendings of each."""
    created: int


@dataclass(frozen=True)
class Story:
    installation: Installation
    site: Simulator
    denied: Moment
    """The tracker's consent was withdrawn before anything was opened."""
    opened: Moment
    """With another consent."""
    shut: Moment
    """The desk's application was given another secret."""
    back: Moment
    """Which now stands in the file."""
    consents: tuple[str, ...]
    """Refresh tokens that have stood in the file."""
    tokens: frozenset[str]
    """Access tokens that were sent."""


@pytest.fixture(scope="module")
def story(simulate: Simulate, install: Install, small_desk: Path) -> Iterator[Story]:
    desk = simulate("servicenow", small_desk, client_secret=SECRETS["servicenow"], basic="restricted")
    site = simulate("jira", cloud_id=CLOUD_ID, client_secret=SECRETS["jira"], refresh_token=CONSENT, scoped="on")
    with Front(desk.url) as to_desk, Front(site.url) as to_site:
        installation = install(_settings(to_desk.url, to_site.url, site.url))
        _put(installation, "refresh.txt", CONSENT)
        for name, secret in SECRETS.items():
            _put(installation, f"{name}.txt", secret)
        _change(site, revoke="refresh")
        denied = _passed(installation, site)
        (consent,) = _consents(site)
        _put(installation, "refresh.txt", consent)
        opened = _passed(installation, site)
        rotated = (installation.folder / "refresh.txt").read_text().strip()
        _change(desk, revoke="access", client_secret="another-secret-of-the-desk")
        shut = _passed(installation, site)
        _put(installation, "servicenow.txt", "another-secret-of-the-desk")
        back = _passed(installation, site)
        tokens = frozenset(login.partition(" ")[2] for front in (to_desk, to_site) for login in front.logins)
        yield Story(installation, site, denied, opened, shut, back, (CONSENT, consent, rotated), tokens)


def _settings(desk: str, site: str, people: str) -> dict[str, Any]:
    settings = settings_for(desk, f"{site}/ex/jira/{CLOUD_ID}")
    settings["sources"]["servicenow"]["credential"] = {
        "oauth": {
            "grant": "client_credentials",
            "client_id": "itsms-client",
            "client_secret": {"file": "servicenow.txt"},
        }
    }
    settings["sources"]["jira"]["site"] = people
    settings["sources"]["jira"]["credential"] = {
        "oauth": {
            "grant": "refresh_token",
            "client_id": "itsms-client",
            "client_secret": {"file": "jira.txt"},
            "refresh_token": {"file": "refresh.txt"},
            "token_url": f"{site}/oauth/token",
        }
    }
    return settings


def _put(installation: Installation, name: str, secret: str) -> None:
    (installation.folder / name).write_text(secret + "\n")


def _change(simulator: Simulator, **change: str) -> None:
    requests.post(f"{simulator.url}/_sim/logins", json=change, timeout=5).raise_for_status()


def _consents(site: Simulator) -> list[str]:
    """What a person's new consent brings."""
    answer = requests.post(f"{site.url}/_sim/consent", timeout=5)
    answer.raise_for_status()
    return [answer.json()["refresh_token"]]


def _passed(installation: Installation, site: Simulator) -> Moment:
    done = installation.command("once")
    status = installation.json("status")
    return Moment(
        done.returncode,
        done.stdout + done.stderr,
        status,
        {each["name"]: each for each in status["sources"]},
        tuple(installation.rows("SELECT state, attempts FROM intent ORDER BY id")),
        int(site.ledger()["created"]),
    )


def test_a_target_that_lets_us_in_no_longer_holds_tickets_and_parks_none(story: Story) -> None:
    denied = story.denied
    assert (0, {("pending", 0)}) == (denied.created, set(denied.intents))
    assert 1 == denied.told.count("authorise the application anew")


def test_another_consent_is_enough(story: Story) -> None:
    assert (2, {"done"}) == (story.opened.created, {state for state, _ in story.opened.intents})
    assert story.opened.code == 0


def test_a_source_that_lets_us_in_no_longer_is_told_once_and_stops_no_other(story: Story) -> None:
    refused = [gap for gap in _gaps(story.shut) if gap["reason"] == "refused"]
    assert ["source"] == [gap["stream"] for gap in refused]
    assert "check client_id and client_secret" in refused[0]["message"]
    assert 3 == story.shut.code


def test_the_other_secret_is_enough(story: Story) -> None:
    assert 0 == story.back.code
    assert [] == [gap for gap in _gaps(story.back) if gap["reason"] == "refused"]
    assert 2 == story.back.created


def test_people_are_led_to_the_site(story: Story) -> None:
    urls = {url for (url,) in story.installation.rows("SELECT url FROM ticket")}
    assert {f"{story.site.url}/browse/CAPA-{n}" for n in (1, 2)} == urls


def test_each_refresh_token_was_replaced(story: Story) -> None:
    assert 3 == len(set(story.consents))


def test_no_secret_and_no_token_is_found_in_what_is_said_or_stored(story: Story) -> None:
    hidden = {*SECRETS.values(), "another-secret-of-the-desk", *story.consents, *story.tokens}
    assert 8 < len(hidden)
    with closing(sqlite3.connect(story.installation.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = b"".join(path.read_bytes() for path in story.installation.folder.glob("itsms.db*"))
    said = "".join(moment.told + str(moment.report) for moment in (story.denied, story.opened, story.shut, story.back))
    assert [] == [secret for secret in hidden if secret in said or secret.encode() in stored]


def _gaps(moment: Moment) -> list[Any]:
    return list(moment.report["gaps"])
