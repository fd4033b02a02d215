"""Fixtures that several tests of the Jira connector use."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.connectors.jira_desks import Desk


@contextmanager
def _desk(folder: Path, edition: str) -> Iterator[Desk]:
    found = Desk(folder, edition)
    yield found
    for simulator in found.running:
        simulator.stop()


@pytest.fixture(params=["cloud", "datacenter"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """A site of each edition in turn."""
    with _desk(tmp_path, request.param) as found:
        yield found


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Desk]:
    with _desk(tmp_path, "cloud") as found:
        yield found
