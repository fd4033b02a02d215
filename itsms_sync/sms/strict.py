"""The base of every model that admins write: unknown keys are errors, values are frozen after reading."""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Nothing unknown, nothing coerced from another type, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


Place = tuple[str | int, ...]
"""Keys and list indexes that lead to a value in a document."""


class Fault(NamedTuple):
    """What is wrong in a document beyond its shape."""

    place: Place
    message: str
    inside: tuple[int, int] | None = None
    """Line and column (from 1) inside the text at ``place``, where it is a text with a grammar of its own."""
