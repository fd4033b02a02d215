"""The guard: which instance and which database are trusted, what stands against others, and how a person goes on."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itsms_sync.guard import (
    DATABASE,
    MOVED,
    OTHER_INSTANCE,
    REPLACED,
    UNREADABLE,
    WENT_BACK,
    Age,
    of_database,
    of_instance,
)
from itsms_sync.guarding import Guarding
from itsms_sync.records import Identity, Mark
from itsms_sync.store.database import connect
from itsms_sync.store.decided import begin_cycle
from itsms_sync.store.ingested import Ingested
from itsms_sync.store.logbook import Logbook, OpenFile, Replaced

# --- instances

PRODUCTION = {Mark.ADDRESS: "acme.service-now.com", Mark.NAME: "acme", Mark.INSTANCE: "i-1", Mark.ACCOUNT: "a-1"}


@pytest.mark.parametrize(
    ("what", "found", "fits"),
    [
        ("the same", {}, True),
        ("renamed by its vendor", {Mark.ADDRESS: "acme-new.service-now.com", Mark.NAME: "acme-new"}, True),
        ("the address leads to its clone", {Mark.INSTANCE: "i-2"}, False),
        ("a clone was put over it", {Mark.ACCOUNT: "a-2"}, False),
        ("another one altogether", {Mark.INSTANCE: "i-2", Mark.ACCOUNT: "a-2", Mark.ADDRESS: "x"}, False),
    ],
)
def test_an_instance_is_known_by_its_marks(what: str, found: Mapping[str, str], fits: bool) -> None:
    assert fits is (of_instance("sn", PRODUCTION, {**PRODUCTION, **found}) is None), what


def test_without_an_id_of_the_installation_an_address_is_what_it_is_known_by() -> None:
    known = {Mark.ADDRESS: "https://jira.example"}
    objection = of_instance("jira", known, {Mark.ADDRESS: "https://test.example"})
    assert objection is not None
    assert ("jira", OTHER_INSTANCE) == (objection.subject, objection.reason)
    assert "its address was https://jira.example and is https://test.example" in objection.message
    assert "`itsms-sync guard accept jira`" in objection.message


MARKS = st.dictionaries(st.sampled_from(list(Mark)), st.sampled_from(["x", "y"]))


@given(MARKS, MARKS)
def test_what_cannot_be_read_objects_to_nothing(known: Mapping[str, str], found: Mapping[str, str]) -> None:
    both = {mark for mark in known if mark in found}
    objection = of_instance("s", known, found)
    if all(known[mark] == found[mark] for mark in both):
        assert objection is None
    if any(known[mark] != found[mark] for mark in both & {Mark.INSTANCE, Mark.ACCOUNT}):
        assert objection is not None
    assert (objection is None) is (of_instance("s", found, known) is None), "neither side is the better one"


# --- databases


@pytest.mark.parametrize(
    ("kept", "noted", "reason"),
    [
        (Age("d", "", 0), None, None),  # a new one
        (Age("d", "", 0), Age("d", "p", 0), None),  # ended while it settled
        (Age("d", "p", 7), Age("d", "p", 7), None),
        (Age("d", "p", 8), Age("d", "p", 7), None),  # ended between the commit and the note
        (Age("d", "p", 6), Age("d", "p", 7), WENT_BACK),
        (Age("d", "", 0), Age("d", "p", 7), WENT_BACK),
        (Age("d", "p", 7), None, MOVED),
        (Age("d", "p", 9), Age("d", "q", 7), MOVED),
        (Age("e", "", 0), Age("d", "p", 7), REPLACED),
        (Age("e", "q", 9), Age("d", "p", 7), REPLACED),
    ],
)
def test_a_database_is_known_by_its_logbook(kept: Age, noted: Age | None, reason: str | None) -> None:
    objection = of_database(kept, noted)
    assert reason == (objection and objection.reason)
    assert objection is None or "`itsms-sync guard accept database`" in objection.message


@dataclass
class Place:
    """A folder with a database, as one process after the other opens it."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "itsms.db"

    @property
    def logbook(self) -> Logbook:
        return Logbook.beside(self.database)

    @contextmanager
    def guard(self) -> Iterator[Guarding]:
        engine = connect(f"sqlite:///{self.database}")
        try:
            yield Guarding(engine, OpenFile(self.database), self.logbook, lambda: 0)
        finally:
            engine.dispose()

    def cycles(self, number: int) -> None:
        """A process that runs so many cycles and ends."""
        engine = connect(f"sqlite:///{self.database}")
        guard = Guarding(engine, OpenFile(self.database), self.logbook, lambda: 0)
        for _ in range(number):
            with engine.begin() as connection:
                begin_cycle(connection, None, 0)
            guard.begin_cycle()
        engine.dispose()

    def reasons(self) -> list[str]:
        with self.guard() as guard:
            return [one.reason for one in guard.standing()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_starting_again_is_no_reason(place: Place) -> None:
    for number in (0, 1, 3):
        place.cycles(number)
        assert [] == place.reasons()
    noted = place.logbook.read()
    assert noted is not None
    assert 4 == noted.cycle


def test_a_restored_backup_is_noticed_and_stays_noticed_until_somebody_looks(place: Place) -> None:
    place.cycles(2)
    backup = place.folder / "backup.db"
    shutil.copy(place.database, backup)
    place.cycles(3)
    shutil.copy(backup, place.database)
    assert [WENT_BACK] == place.reasons()
    place.cycles(9)
    assert [WENT_BACK] == place.reasons(), "that it counts on does not make it whole"
    noted = place.logbook.read()
    assert noted is not None
    assert 5 == noted.cycle, "the evidence stays"
    with place.guard() as guard:
        assert guard.accept(DATABASE)
        assert not guard.accept(DATABASE)
    place.cycles(1)
    assert [] == place.reasons()


def test_a_database_made_anew_in_place_of_the_former_is_noticed(place: Place) -> None:
    place.cycles(2)
    for path in place.folder.glob("itsms.db*"):
        if path != place.logbook.path:
            path.unlink()
    assert [REPLACED] == place.reasons()


def test_a_copy_taken_elsewhere_is_noticed_and_the_one_that_is_accepted_is_the_one(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place.cycles(2)
    other = Place(tmp_path_factory.mktemp("elsewhere"))
    shutil.copy(place.database, other.database)
    assert [MOVED] == other.reasons()
    with other.guard() as guard:
        guard.accept(DATABASE)
    assert [] == other.reasons() == place.reasons()
    shutil.copy(other.database, place.database)
    assert [MOVED] == place.reasons(), "it belongs to the other place now"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"database": "d", "place": "p", "cycle": "many"}'])
def test_a_logbook_that_says_nothing_proves_nothing(place: Place, content: bytes) -> None:
    place.cycles(1)
    place.logbook.path.write_bytes(content)
    assert [UNREADABLE] == place.reasons()


@pytest.mark.parametrize("ended_before", ["the logbook", "the place"])
def test_a_process_that_ends_while_it_settles_leaves_no_objection(place: Place, ended_before: str) -> None:
    """The two are not written at once: only the one without the other can be left."""
    engine = connect(f"sqlite:///{place.database}")
    engine.dispose()
    if ended_before == "the place":
        place.cycles(0)
        noted = place.logbook.read()
        assert noted is not None
        for path in place.folder.glob("itsms.db*"):
            if path != place.logbook.path:
                path.unlink()
        engine = connect(f"sqlite:///{place.database}")
        from sqlalchemy import insert

        from itsms_sync.store.schema import fact

        with engine.begin() as connection:
            connection.execute(insert(fact).values(name="database_id", value=noted.database))
        engine.dispose()
    assert [] == place.reasons()
    assert [] == place.reasons()


# --- the file itself


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_a_database_that_is_taken_away_while_it_is_open_stops_the_work(place: Place, what: str) -> None:
    place.cycles(1)
    with place.guard() as guard:
        guard.begin_cycle()
        os.replace(place.database, place.folder / "moved.db")
        if what == "replaced":
            shutil.copy(place.folder / "moved.db", place.database)
        with pytest.raises(Replaced, match=f"was {what}"):
            guard.begin_cycle()


# --- at work


def identity(**marks: str) -> Identity:
    return Identity("ServiceNow", "1", "acme", "bot", None, True, marks)


def test_the_first_that_answers_is_trusted_and_another_is_not(place: Place) -> None:
    with place.guard() as guard:
        source = Ingested(guard._engine, "sn", "servicenow").source_id
        assert None is guard.answered("sn", source, identity(account="a-1"))
        assert None is guard.answered("sn", source, identity(instance="i-1")), "what is read later is kept too"
        clone = guard.answered("sn", source, identity(instance="i-2", account="a-1"))
        assert clone is not None
        assert [clone] == list(guard.standing())
        assert None is not guard.answered("sn", source, identity(account="a-2")), "nor is a second one"
    assert [OTHER_INSTANCE] == place.reasons()


def test_an_objection_against_a_source_ends_when_the_right_one_answers(place: Place) -> None:
    with place.guard() as guard:
        source = Ingested(guard._engine, "sn", "servicenow").source_id
        for id_, stand in (("i-1", 0), ("i-2", 1), ("i-2", 1), ("i-1", 0)):
            guard.answered("sn", source, identity(instance=id_))
            assert stand == len(guard.standing())


def test_a_person_may_decide_for_the_other_one(place: Place) -> None:
    with place.guard() as guard:
        source = Ingested(guard._engine, "sn", "servicenow").source_id
        guard.answered("sn", source, identity(instance="i-1"))
        guard.answered("sn", source, identity(instance="i-2"))
        assert guard.accept("sn")
        assert [] == list(guard.standing())
        assert None is guard.answered("sn", source, identity(instance="i-2"))
        assert None is not guard.answered("sn", source, identity(instance="i-1"))
