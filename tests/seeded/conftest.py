"""The seeded desk's tests start simulators and the program as the end-to-end tests do."""

from tests.end_to_end.conftest import install, simulate

__all__ = ["install", "simulate"]
