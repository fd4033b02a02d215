"""The guard at work: compares, remembers, and says before anything is written whether it may be.

Asked in one place, by ``cycle``, before decisions are taken and tickets are sent; ``ingest`` shows it every instance
that answered before anything of it is stored. What fits and what does not is decided in ``guard``, which is pure.
An objection against a source ends by itself when the right instance answers again; one against the database
stands until a person has looked.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Engine

from itsms_sync.connector import Connector
from itsms_sync.guard import DATABASE, Age, Objection, of_database, of_instance, unreadable_logbook
from itsms_sync.records import Identity
from itsms_sync.store import guarded
from itsms_sync.store.logbook import Logbook, OpenFile, Unreadable


class Guarding:
    """The guard of one database. ``file`` and ``logbook`` are ``None`` for one that is no file of its own."""

    def __init__(
        self, engine: Engine, file: OpenFile | None, logbook: Logbook | None, clock: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._file = file
        self._logbook = logbook
        self._clock = clock
        self._compare()

    def _compare(self) -> None:
        """Whether this is the database that was here before, as it was left."""
        if self._logbook is None:
            return
        with self._engine.begin() as connection:
            kept = guarded.age(connection)
        raised = self._objection(self._logbook, kept)
        if raised is not None:
            with self._engine.begin() as connection:
                guarded.raise_objection(connection, raised, self._clock())
        elif not kept.place:
            self._settle(self._logbook, kept)

    def _settle(self, logbook: Logbook, kept: Age) -> None:
        """The first time that this database is here. The logbook goes first: a database that knows of its place and has
        no logbook there would look as if it had been moved."""
        noted = logbook.read()
        place = secrets.token_hex(16) if noted is None else noted.place
        logbook.note(replace(kept, place=place))
        with self._engine.begin() as connection:
            guarded.keep_place(connection, place)

    @staticmethod
    def _objection(logbook: Logbook, kept: Age) -> Objection | None:
        try:
            noted = logbook.read()
        except Unreadable as error:
            return unreadable_logbook(str(error))
        return of_database(kept, noted)

    def standing(self) -> tuple[Objection, ...]:
        """All objections that stand."""
        with self._engine.begin() as connection:
            return guarded.objections(connection)

    def against(self, subject: str) -> Objection | None:
        """What stands against a source, or against the database."""
        return next((one for one in self.standing() if one.subject == subject), None)

    def begin_cycle(self) -> None:
        """Notes outside of the database how far it is. Raises ``Replaced`` if its file is no longer the one we hold."""
        self.check_file()
        if self._logbook is None or self.against(DATABASE) is not None:
            return  # what the logbook says is the evidence until a person has looked
        with self._engine.begin() as connection:
            kept = guarded.age(connection)
        self._logbook.note(kept)

    def check_file(self) -> None:
        """Raises ``Replaced``. Asked before each write too."""
        if self._file is not None:
            self._file.check()

    def answered(self, name: str, source_id: int, identity: Identity) -> Objection | None:
        """Whether the instance that answers for a source is the known one; the first that answers becomes it."""
        with self._engine.begin() as connection:
            known = guarded.marks(connection, source_id)
            raised = of_instance(name, known, identity.marks)
            if raised is None:
                if known != (grown := {**known, **identity.marks}):
                    guarded.keep_marks(connection, source_id, grown)
                guarded.lift(connection, name)
            else:
                guarded.keep_found(connection, source_id, identity.marks)
                guarded.raise_objection(connection, raised, self._clock())
        return raised

    def admits(self, name: str, source_id: int, connector: Connector) -> Objection | None:
        """Asks a source who it is before something is written to it. Raises ``Unavailable`` and ``Refused``."""
        return self.answered(name, source_id, connector.identify())

    def accept(self, subject: str) -> bool:
        """A person decided to trust what does not fit; whether an objection stood against it."""
        place = secrets.token_hex(16)
        with self._engine.begin() as connection:
            stood = guarded.lift(connection, subject)
            kept = guarded.age(connection)
            if stood and subject == DATABASE:
                guarded.keep_place(connection, place)
            elif stood:
                guarded.accept_found(connection, subject)
        if stood and subject == DATABASE and self._logbook is not None:
            # A copy that goes on with the former place will find that the two do not fit.
            self._logbook.note(replace(kept, place=place))
        return stood
