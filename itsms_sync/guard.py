"""Pure: whether what answers, and our own database, are still the ones that were trusted; if not, why, and what to do.

An objection stops writing: nothing is sent while the history that it would rest on may belong to something else. It is
raised by comparison with what was kept from before, never by guessing, and what cannot be read raises none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from itsms_sync.records import Mark

DATABASE = "database"
"""Subject of an objection that is about ourselves; no source may have this name for the guard."""
OTHER_INSTANCE = "other-instance"
WENT_BACK = "database-went-back"
REPLACED = "database-replaced"
MOVED = "database-moved"
UNREADABLE = "logbook-unreadable"

_RENAMED = frozenset((Mark.ADDRESS, Mark.NAME))
"""May change when an instance is renamed, which is no reason as long as the vendor's id of it stays."""
_CALLED = {
    Mark.ADDRESS: "its address",
    Mark.NAME: "its name",
    Mark.INSTANCE: "the id of the installation",
    Mark.ACCOUNT: "the id of our own account there",
}
ACCEPT_SOURCE = (
    "If it is a clone, a test system or a wrong address, correct the address of {name} or bring the right instance "
    "back; nothing else is needed then. If it is the right one (moved, or restored by its vendor), "
    "`itsms-sync guard accept {name}` makes it the one that is trusted"
)
ACCEPT_DATABASE = (
    "Reading goes on and tickets that are there are found by their keys. When no other itsms-sync works with a copy of "
    "this database, `itsms-sync guard accept database` lets it write again"
)


@dataclass(frozen=True, slots=True)
class Objection:
    """Why nothing is written."""

    subject: str
    """Name of the source, or ``database``."""
    reason: str
    message: str
    """What does not fit, and what to do."""


@dataclass(frozen=True, slots=True)
class Age:
    """What tells one state of one database from others."""

    database: str
    """Made with the database, copied with it."""
    place: str
    """Made with the logbook beside the database, and copied only with that."""
    cycle: int
    """Number of the newest cycle."""


def of_instance(name: str, known: Mapping[str, str], found: Mapping[str, str]) -> Objection | None:
    """Whether the instance that answers for the source ``name`` is the known one, by the marks that both have."""
    both = known.keys() & found.keys()
    other = {mark for mark in both if known[mark] != found[mark]}
    if not other or (other <= _RENAMED and Mark.INSTANCE in both):
        return None
    told = "; ".join(
        f"{_CALLED.get(Mark(mark), mark)} was {known[mark]} and is {found[mark]}" for mark in sorted(other)
    )
    message = (
        f"{name} is answered by another instance than before: {told}. Nothing of it is read, nothing is written to it "
        f"and nothing is concluded from it. {ACCEPT_SOURCE.format(name=name)}"
    )
    return Objection(name, OTHER_INSTANCE, message)


def of_database(kept: Age, noted: Age | None) -> Objection | None:
    """Whether the database, which says ``kept`` of itself, is the one that the logbook beside it was written for.

    ``kept.place`` is empty until the database first had a logbook.
    """
    if noted is None:
        if not kept.place:
            return None
        what = (
            "the logbook beside the database is missing: the database was moved, restored or copied without it, and a "
            "copy of it may be at work elsewhere"
        )
        return _database(MOVED, what)
    if noted.database != kept.database:
        what = (
            f"this is not the database that was here before: that one had finished or begun {noted.cycle} cycles, and "
            "of the tickets that it opened this one may know nothing"
        )
        return _database(REPLACED, what)
    if noted.cycle > kept.cycle:
        what = (
            f"the database went back in time, as a restored backup does: its newest cycle is {kept.cycle}, but "
            f"{noted.cycle} were begun, and what was done in between is not in it"
        )
        return _database(WENT_BACK, what)
    if kept.place and noted.place != kept.place:
        return _database(MOVED, "the database was put beside the logbook of a copy: two may be at work")
    return None


def unreadable_logbook(path: str) -> Objection:
    """Nothing can be compared."""
    return _database(UNREADABLE, f"the logbook {path} cannot be read, so the database's age cannot be told")


def _database(reason: str, what: str) -> Objection:
    return Objection(DATABASE, reason, f"{what}. Nothing is decided and nothing is written. {ACCEPT_DATABASE}")
