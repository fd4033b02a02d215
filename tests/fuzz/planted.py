"""Readers with one fault each, by which is seen that faults are found."""

import os
from pathlib import Path
from random import Random

from tests.fuzz.subjects import BadMessage, Kept

MEMORY = 100 << 20


class Fine:
    """Reads everything."""

    def make(self, random: Random, kept: Kept) -> tuple[str, bytes]:
        return "input.txt", random.choice((b"good", b"bad"))

    def read(self, path: Path) -> str:
        return self.bad(path) if path.read_bytes() == b"bad" else "read"

    def bad(self, path: Path) -> str:
        return "read"

    def memory(self, path: Path) -> int:
        return MEMORY

    def seconds(self, path: Path) -> float:
        return 60.0


class Failing(Fine):
    def bad(self, path: Path) -> str:
        raise KeyError("state")


class Panicking(Fine):
    def bad(self, path: Path) -> str:
        raise SystemExit("not an Exception")


class Mumbling(Fine):
    def bad(self, path: Path) -> str:
        raise BadMessage("wrong")


class Greedy(Fine):
    def bad(self, path: Path) -> str:
        return "read"[: len(bytearray(os.urandom(1024)) * (2 * MEMORY // 1024))]


class Slow(Fine):
    def bad(self, path: Path) -> str:
        return str(sum(range(200_000)))

    def seconds(self, path: Path) -> float:
        return 0.0


class Dying(Fine):
    def bad(self, path: Path) -> str:
        os.abort()


class Hanging(Fine):
    def bad(self, path: Path) -> str:
        while True:
            pass
