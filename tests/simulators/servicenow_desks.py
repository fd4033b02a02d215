"""Starts ServiceNow simulators for tests, each with a client that knows nothing but URLs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import requests

from connectors.servicenow.simulator import Simulator, serve


class LoggedIn(requests.Session):
    """A logged-in client of one simulator."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.auth = ("itsms", "secret")
        self.headers["Accept"] = "application/json"


C = TypeVar("C", bound=LoggedIn)


@contextmanager
def starting(client: type[C]) -> Iterator[Callable[..., C]]:
    """``start(*data, **options) -> client``; all that were started are stopped, and no thread is left."""
    before = set(threading.enumerate())
    running: list[tuple[Simulator, C]] = []

    def start(*data: Path, **options: str) -> C:
        simulator = serve(data=data, options=options)
        running.append((simulator, client(simulator.url)))
        return running[-1][1]

    yield start
    for simulator, each in running:
        simulator.stop()
        each.close()
    assert set() == set(threading.enumerate()) - before
