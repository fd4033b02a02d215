"""Logging: one canonical line per cycle, JSON when nobody watches. structlog is imported when the first line is due."""

import os
import sys
from queue import Full, Queue
from threading import Thread
from typing import Any


class Sink:
    """A file of log lines that stops nobody: a thread of its own writes to ``descriptor``.

    A line that finds ``held`` others waiting is dropped; how many were is told as soon as lines go out again.
    """

    def __init__(self, descriptor: int, held: int = 1000) -> None:
        self._descriptor = descriptor
        self._lines: Queue[str | None] = Queue(held)
        self._dropped = 0
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        try:
            self._lines.put_nowait(text)
        except Full:
            self._dropped += 1

    def flush(self) -> None:
        """Lines leave on their own."""

    def close(self, seconds: float = 1.0) -> None:
        """Wait so long for lines to leave; those that cannot are lost."""
        try:
            self._lines.put_nowait(None)
        except Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            self._send(text)
            if self._dropped and self._lines.empty():
                dropped, self._dropped = self._dropped, 0
                self._send(f'{{"event": "log", "level": "warning", "dropped": {dropped}}}\n')

    def _send(self, text: str) -> None:
        rest = text.encode("utf-8", "backslashreplace")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:  # a sink that is gone must not end the work either
            self._dropped += 1


def configured(sink: Sink, *, as_json: bool) -> Any:
    """A logger that writes to the sink. Values are figures and names of ours, never payloads or secrets."""
    import structlog

    renderer = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(sink),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger()
