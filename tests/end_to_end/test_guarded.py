"""The guard in the whole program, with tickets in Jira and in ServiceNow.

A backup is restored, a clone answers in place of the production system, the database is taken away while the daemon
runs: nothing is written until somebody has looked, and never a second ticket.
"""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import (
    PASSWORD,
    Install,
    Installation,
    Simulate,
    Simulator,
    ended,
    settings_for,
    until,
)
from tests.end_to_end.targets import NOBODY, TARGETS, Site, Target, site

pytestmark = pytest.mark.timeout(300)
TICKETS = 2
"""The small desk asks for one corrective action and one digest."""
PLACES = ("jira-cloud", "servicenow-register")
in_each = pytest.mark.parametrize("name", [PLACES[0], pytest.param(PLACES[1], marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def servicenow(simulate: Simulate, small_desk: Path) -> Simulator:
    return simulate("servicenow", small_desk, password=PASSWORD)


def _settings(servicenow: Simulator, target: Target, url: str) -> dict[str, Any]:
    settings = settings_for(servicenow.url, NOBODY, target="target", deadline="PT3S")
    sources = {"servicenow": settings["sources"]["servicenow"], "target": target.settings(url)}
    return {**settings, "sources": sources}


@contextmanager
def _installed(servicenow: Simulator, install: Install, name: str) -> Iterator[tuple[Installation, Site]]:
    with site(TARGETS[name]) as place:
        yield install(_settings(servicenow, place.target, place.front.url)), place


def _kept(installation: Installation, folder: Path) -> Path:
    """A backup of the database alone, as ``sqlite3 .backup`` makes it."""
    kept = folder / "backup.db"
    with closing(sqlite3.connect(installation.database)) as source, closing(sqlite3.connect(kept)) as copy:
        source.backup(copy)
    return kept


def _restored(installation: Installation, kept: Path) -> None:
    for path in installation.folder.glob("itsms.db*"):
        if path != installation.logbook:
            path.unlink()
    shutil.copy(kept, installation.database)


def _requests(servicenow: Simulator) -> int:
    return sum(servicenow.ledger()["requests"].values())


def _gaps_of_source(installation: Installation) -> list[str]:
    """Why the source as a whole is not read."""
    return [gap["reason"] for gap in installation.json("status")["gaps"] if gap["stream"] == "source"]


def _objections(installation: Installation) -> list[tuple[str, str]]:
    return [(one["subject"], one["reason"]) for one in installation.json("guard")]


@in_each
def test_a_restored_backup_opens_no_second_ticket_and_takes_over_those_that_are_there(
    servicenow: Simulator, install: Install, tmp_path: Path, name: str
) -> None:
    with _installed(servicenow, install, name) as (installation, place):
        installation.json("once", "--dry-run")
        kept = _kept(installation, tmp_path)
        assert TICKETS == len(installation.json("once")["outbox"]["sent"])
        once = place.copies()
        _restored(installation, kept)
        report = installation.json("once")
        assert [{"subject": "database", "reason": "database-went-back"}] == report["objections"]
        assert (once, []) == (place.copies(), installation.rows("SELECT * FROM intent"))
        told = installation.command("status").stdout
        assert "READING ONLY" in told
        assert "itsms-sync guard accept database" in " ".join(told.split())
        assert 1 == installation.command("guard", "accept", "database").returncode, "nobody answered yes"
        _assert_taken_over(installation, place, once)
        assert [] == _objections(installation)


@pytest.mark.slow
@in_each
def test_a_database_that_is_made_anew_opens_no_second_ticket(
    servicenow: Simulator, install: Install, name: str
) -> None:
    with _installed(servicenow, install, name) as (installation, place):
        installation.json("once")
        once = place.copies()
        for path in installation.folder.glob("itsms.db*"):
            if path != installation.logbook:
                path.unlink()
        installation.json("once")
        assert [("database", "database-replaced")] == _objections(installation)
        _assert_taken_over(installation, place, once)


def _assert_taken_over(installation: Installation, place: Site, once: Counter[str]) -> None:
    """After a person has accepted the database, the tickets that are there are ours again, and no other is made."""
    assert 0 == installation.command("guard", "accept", "database", "--yes").returncode
    outbox = installation.json("once", timeout=90)["outbox"]
    assert (TICKETS, []) == (len(outbox["adopted"]), outbox["sent"])
    assert (TICKETS, {1}) == (len(once), set(once.values()))
    assert once == place.copies()


@pytest.mark.slow
@in_each
def test_a_clone_in_place_of_the_target_is_neither_written_to_nor_believed(
    servicenow: Simulator, install: Install, name: str
) -> None:
    """The address leads to a clone that has no ticket of ours: the real one may have all of them."""
    with _installed(servicenow, install, name) as (installation, place):
        installation.json("once")
        assert TICKETS == len(place.copies())
        clone = Simulator(place.target.system, (), {**place.target.simulated, "instance": "clone"})
        try:
            installation.configure(_settings(servicenow, place.target, clone.url))
            with closing(sqlite3.connect(installation.database)) as connection:
                # something is to be sent: what was done is to be done again
                connection.execute("UPDATE intent SET state = 'pending'")
                connection.commit()
            report = installation.json("once")
            assert [{"subject": "target", "reason": "other-instance"}] == report["objections"]
            assert (TICKETS, [], []) == (
                report["outbox"]["waiting"],
                report["outbox"]["sent"],
                report["outbox"]["adopted"],
            )
            assert 0 == len(place.target.copies(clone.ledger()))
            installation.configure(_settings(servicenow, place.target, place.front.url))
            report = installation.json("once", timeout=90)
            assert ([], TICKETS) == (report["objections"], len(report["outbox"]["adopted"]))
            assert {1} == set(place.copies().values())
        finally:
            clone.stop()


def test_of_a_clone_in_place_of_a_source_nothing_is_read(
    servicenow: Simulator, install: Install, small_desk: Path, simulate: Simulate
) -> None:
    installation = install(_settings(servicenow, TARGETS[PLACES[0]], NOBODY))
    installation.json("once", "--dry-run")
    clone = simulate("servicenow", small_desk, password=PASSWORD, instance="clone")
    installation.configure(_settings(clone, TARGETS[PLACES[0]], NOBODY))
    counted = "SELECT (SELECT count(*) FROM payload), (SELECT count(*) FROM verdict WHERE superseded_at IS NULL)"
    before = installation.rows(counted)
    asked = _requests(clone)
    installation.command("once", "--dry-run")
    assert before == installation.rows(counted)
    assert 2 == _requests(clone) - asked, "it was asked who it is and nothing else"
    assert ["other-instance"] == _gaps_of_source(installation)
    assert [("servicenow", "other-instance")] == _objections(installation)
    told = installation.command("guard", "accept", "servicenow", "--yes")
    assert (0, True) == (told.returncode, "two mix and cannot be parted again" in " ".join(told.stdout.split()))
    assert [] == installation.json("once", "--dry-run")["objections"]
    assert [] == _gaps_of_source(installation)


@pytest.mark.slow
def test_a_daemon_whose_database_is_taken_away_says_so_and_ends(servicenow: Simulator, install: Install) -> None:
    installation = install(_settings(servicenow, TARGETS[PLACES[0]], NOBODY))
    process = installation.start("run")
    try:
        until(lambda: installation.logbook.exists() and installation.rows("SELECT 1 FROM cycle"))
        shutil.copy(installation.database, installation.folder / "copy.db")
        (installation.folder / "copy.db").replace(installation.database)
        process.wait(timeout=90)
        assert process.stderr is not None
        said = process.stderr.read()
        assert (3, True) == (process.returncode, "was replaced by another file while it was open" in said), said
    finally:
        ended(process)


@pytest.mark.slow
def test_accepting_beside_a_daemon_is_refused_with_what_to_do(servicenow: Simulator, install: Install) -> None:
    installation = install(_settings(servicenow, TARGETS[PLACES[0]], NOBODY))
    process = installation.start("run")
    try:
        until(installation.logbook.exists)
        answer = installation.command("guard", "accept", "database", "--yes")
        assert (3, True) == (answer.returncode, f"pid {process.pid}" in answer.stderr)
    finally:
        ended(process)


def test_accepting_what_nothing_stands_against_is_wrong_usage(servicenow: Simulator, install: Install) -> None:
    installation = install(_settings(servicenow, TARGETS[PLACES[0]], NOBODY))
    installation.json("once", "--dry-run")
    answer = installation.command("guard", "accept", "servicenow", "--yes")
    assert (2, True) == (answer.returncode, "nothing stands against servicenow" in answer.stderr)
