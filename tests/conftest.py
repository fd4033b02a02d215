"""Fixtures that every test file may use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Machines run the same examples each time, people explore new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

ROOT = Path(__file__).parent.parent
LONG = ("end_to_end", "seeded")
"""Folders of the tests that run whole programs."""


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """``shared("data/x") -> Path`` of the real data beside the checkout.

    Absent data skips the test with the reason; with ``ITSMS_SHARED`` set the caller has promised that it is there, so a
    missing file is then a failure.
    """
    promised = os.environ.get("ITSMS_SHARED")
    folder = Path(promised) if promised else ROOT.parent / "shared"

    def find(relative: str) -> Path:
        path = folder / relative
        if path.exists():
            return path
        if promised:
            pytest.fail(f"ITSMS_SHARED is set, but {path} does not exist")
        return pytest.skip(f"{relative} is not beside the checkout; set ITSMS_SHARED to the folder that holds it")

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files go to one worker or the other; the long ones first, so that neither ends with one alone."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)
