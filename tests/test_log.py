"""Log lines stop nobody, also where nobody takes them."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from itsms_sync.log import Sink, configured


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def filled(end: int) -> int:
    """Bytes that a pipe holds when nobody takes them."""
    flags = fcntl.fcntl(end, fcntl.F_GETFL)
    fcntl.fcntl(end, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    written = 0
    with suppress(BlockingIOError):
        while True:
            written += os.write(end, b"." * 4096)
    fcntl.fcntl(end, fcntl.F_SETFL, flags)
    return written


def test_lines_leave_in_their_order(pipe: tuple[int, int]) -> None:
    with closing(Sink(pipe[1])) as sink:
        log = configured(sink, as_json=True)
        log.info("one", rows=1)
        log.error("two")
    lines = [json.loads(line) for line in os.read(pipe[0], 65536).splitlines()]
    assert [("one", "info"), ("two", "error")] == [(line["event"], line["level"]) for line in lines]


def test_a_sink_that_nobody_empties_stops_nobody_and_tells_what_was_dropped(pipe: tuple[int, int]) -> None:
    there = filled(pipe[1])
    sink = Sink(pipe[1], held=10)
    began = time.monotonic()
    for number in range(1000):
        sink.write(f'{{"event": {number}}}\n')
    sink.flush()
    assert time.monotonic() - began < 1
    while there:
        there -= len(os.read(pipe[0], min(there, 65536)))
    came = b""
    while b"dropped" not in came:
        came += os.read(pipe[0], 65536)
    sink.close()
    told = [json.loads(line) for line in came.splitlines()]
    assert told[-1]["dropped"] + len(told) - 1 == 1000
    assert 10 <= len(told) - 1 <= 12


def test_closing_does_not_wait_for_a_sink_that_nobody_empties(pipe: tuple[int, int]) -> None:
    filled(pipe[1])
    sink = Sink(pipe[1], held=2)
    for _ in range(5):
        sink.write("x\n")
    began = time.monotonic()
    sink.close(0.1)
    assert time.monotonic() - began < 0.5


def test_a_sink_that_is_gone_stops_nobody(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with closing(Sink(pipe[1])) as sink:
        for _ in range(3):
            sink.write("x\n")
