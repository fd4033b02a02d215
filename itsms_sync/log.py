"""Logging: one canonical line per cycle, JSON when nobody watches. structlog is imported when the first line is due."""

import sys
from typing import Any


def configured(*, as_json: bool) -> Any:
    """A logger that writes to the error stream. Values are figures and names of ours, never payloads or secrets."""
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger()
