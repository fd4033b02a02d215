"""What the simulator did, counted where it was done: the oracle that tests compare a client's own books with."""

import re
from collections import Counter
from threading import Lock
from typing import Any

_ID = re.compile(r"(?<=/)[0-9a-f]{32}(?=/|$)")


class Ledger:
    """Counters behind ``/_sim/ledger``. A write counts when it was carried out, whether or not its answer left."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, Counter[str]] = {
            name: Counter()
            for name in ("requests", "statuses", "rows_served", "inserted", "updated", "deleted", "keys", "faults")
        }

    def _count(self, book: str, entry: str, amount: int = 1) -> None:
        with self._lock:
            self._counts[book][entry] += amount

    def asked(self, method: str, path: str) -> None:
        self._count("requests", f"{method} {_ID.sub('{id}', path)}")

    def answered(self, status: int) -> None:
        self._count("statuses", str(status))

    def served(self, table: str, rows: int) -> None:
        self._count("rows_served", table, rows)

    def inserted(self, table: str, key: str) -> None:
        self._count("inserted", table)
        if key:
            self._count("keys", key)

    def updated(self, table: str) -> None:
        self._count("updated", table)

    def deleted(self, table: str) -> None:
        self._count("deleted", table)

    def misbehaved(self, act: str) -> None:
        self._count("faults", act)

    def books(self) -> dict[str, Any]:
        """All counts: requests per method and path template, rows per table, inserts per ``correlation_id`` …"""
        with self._lock:
            return {name: dict(counts) for name, counts in self._counts.items()}
