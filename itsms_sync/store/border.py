"""Persons become pseudonyms and free text a reference, before anything is stored or hashed.

Both are keyed hashes, so that a record read twice gives the same bytes, and both have one table that leads back: when
its row is deleted, payloads, chains and counts stay valid and nobody can be found through them any more.
"""

import hashlib
import hmac
from threading import Lock

from sqlalchemy import Connection, Engine

from itsms_sync.store.database import Bulk, on_rollback, pseudonym_key
from itsms_sync.store.schema import free_text, pseudonym

REMEMBERED = 200_000
EVERYWHERE = "email"
"""The form of identifier that means the same in every source."""


class StoreBorder:
    """The ``Border`` of one source. What is new is written by ``flush``, in the transaction of the page that brought
    it, or before: one thread may read while another one stores.
    """

    def __init__(self, engine: Engine, source_id: int) -> None:
        self._key = pseudonym_key(engine)
        self._source_id = source_id
        self._names: dict[tuple[str, str], str] = {}
        self._new_names: list[tuple[str, int, str, str]] = []
        self._new_texts: dict[str, str] = {}
        self._lock = Lock()
        self._pseudonyms = Bulk(engine, pseudonym, ["name", "source_id", "form", "identifier"])
        self._texts = Bulk(engine, free_text, ["hash", "value"])

    def person(self, form: str, identifier: str) -> str:
        """The pseudonym; the same identifier of the same form and source always has the same one, and an address has
        the same one in all sources: it is what tells that two accounts are one person's.
        """
        found = self._names.get((form, identifier))
        if found is None:
            if len(self._names) >= REMEMBERED:
                self._names.clear()
            whose = "" if form == EVERYWHERE else self._source_id
            found = "p_" + self._hash(f"{whose}\0{form}\0{identifier}")[:20]
            self._names[form, identifier] = found
            with self._lock:
                self._new_names.append((found, self._source_id, form, identifier))
        return found

    def text(self, value: str) -> str:
        """``text:<hash>``; the empty string stays empty, so that a blank field can be told without reading it."""
        if value == "":
            return ""
        digest = self._hash(value)
        with self._lock:
            self._new_texts[digest] = value
        return f"text:{digest}"

    def flush(self, connection: Connection) -> None:
        """Writes what was new since the last flush; it is new again if the transaction is rolled back."""
        with self._lock:
            names, texts = self._new_names, self._new_texts
            self._new_names, self._new_texts = [], {}
        on_rollback(connection, lambda: self._take_back(names, texts))
        self._pseudonyms.rows(connection, names)
        self._texts.rows(connection, list(texts.items()))

    def drop_texts(self) -> None:
        """Forgets texts since the last flush to which nothing that is stored refers."""
        self._new_texts = {}

    def _take_back(self, names: list[tuple[str, int, str, str]], texts: dict[str, str]) -> None:
        with self._lock:
            self._new_names = [*names, *self._new_names]
            self._new_texts = {**texts, **self._new_texts}

    def _hash(self, value: str) -> str:
        return hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
