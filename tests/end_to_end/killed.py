"""Runs a command of the program and kills it (SIGKILL: no handler, no clean-up) at one exact point.

``killed.py POINT COMMAND ...`` with POINT one of

* ``before:N``  the N-th transaction that changed something is about to be committed,
* ``after:N``   it was committed, and nothing else was done yet,
* ``send:TEXT`` a request whose first bytes are TEXT is about to leave.

With ``before:0`` the command runs to its end and the number of those transactions is told on the error stream. The
points come from SQLAlchemy's own events and from the interpreter's audit hook; nothing of the program is replaced.
"""

import os
import signal
import sys
from collections import Counter
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import Pool

from itsms_sync.cli import main


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_commit(when: str, last: int) -> None:
    changes: Counter[int] = Counter()
    """Rows changed by each connection up to its last commit, as SQLite counts them."""
    number = 0

    def committing(connection: Connection) -> None:
        nonlocal number
        driver: Any = connection.connection.driver_connection
        if driver.total_changes > changes[id(driver)]:
            changes[id(driver)] = driver.total_changes
            number += 1
        if when == "before" and number == last > 0:
            die()

    def returned(*_: Any) -> None:
        if when == "after" and number == last:
            die()

    event.listen(Engine, "commit", committing)
    event.listen(Pool, "checkin", returned)
    try:
        main()
    finally:
        sys.stderr.write(f"transactions: {number}\n")


def at_request(start: bytes) -> None:
    def sending(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "http.client.send" and bytes(arguments[1]).startswith(start):
            die()

    sys.addaudithook(sending)
    main()


if __name__ == "__main__":
    kind, _, value = sys.argv.pop(1).partition(":")
    if kind == "send":
        at_request(value.encode())
    else:
        at_commit(kind, int(value))
