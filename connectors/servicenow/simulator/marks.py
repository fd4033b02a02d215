"""What every record is marked with: an id and stamps."""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache

_STAMP = "%Y-%m-%d %H:%M:%S"


def digest(text: str) -> str:
    """A sys_id that the same text always gets."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def stamp(seconds: float) -> str:
    """An instant as the instance writes it: UTC, whole seconds."""
    return _written(int(seconds))


@lru_cache(maxsize=64)
def _written(second: int) -> str:
    """All rows of one save bear the same stamp."""
    return datetime.fromtimestamp(second, UTC).strftime(_STAMP)


def seconds(text: str) -> float:
    """The inverse of :func:`stamp`; also of a duration, which is written as an instant that long after 1970 began."""
    return datetime.strptime(text, _STAMP).replace(tzinfo=UTC).timestamp()
