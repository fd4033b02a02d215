"""The command that reads the past: backfill."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itsms_sync.cli import Instant, config_option, json_option, screen
from itsms_sync.cli.reading import configuration
from itsms_sync.cli.working import working

if TYPE_CHECKING:
    from itsms_sync.ingest import SourceReport
    from itsms_sync.wiring import Wired

TELL_EVERY_S = 5.0
"""Where nobody watches a bar, so often a line tells how far it is."""


@click.command(help="Read the past of the sources, newest first, until there is no more of it.")
@config_option
@click.option("--source", "only", default=None, help="Only this source.")
@click.option("--until", type=Instant(), default=None, metavar="DATE", help="How far back, in place of backfill.until.")
@json_option
def backfill(config: Path, only: str | None, until: int | None, as_json: bool) -> None:
    settings = configuration(config)
    known = [name for name, source in settings.settings.sources.items() if source.read]
    if only is not None and only not in known:
        screen.fail(f"no source {only!r} is read; there are {', '.join(known)}", screen.USAGE)
    with working(settings) as parts:
        reports = parts.read_past([only] if only is not None else known, until, _Teller(parts, as_json=as_json))
        answer = {name: _told(report, parts) for name, report in reports.items()}
    if as_json:
        screen.json(answer)
    else:
        for name, report in reports.items():
            _show(name, report, answer[name])
    if any(report.problem for report in reports.values()):
        raise SystemExit(screen.UNAVAILABLE)


class _Teller:
    """Tells from time to time how far it is, and when it may be done at that pace."""

    def __init__(self, parts: "Wired", *, as_json: bool) -> None:
        self._parts = parts
        self._quiet = as_json
        self._started = self._told = time.monotonic()
        self._first_left: int | None = None

    def __call__(self, source: str, report: "SourceReport") -> bool:
        """Always goes on; only an order to stop ends it."""
        now = time.monotonic()
        if not self._quiet and now - self._told >= TELL_EVERY_S:
            self._told = now
            screen.note(f"{source}: {report.rows:,} rows in {report.windows} windows, {self._left(source, now)}")
        return True

    def _left(self, source: str, now: float) -> str:
        coverage = coverage_of(self._parts, source)
        left = sum((c["read_from_at"] or c["first_at"]) - c["first_at"] for c in coverage if c["first_at"] is not None)
        if self._first_left is None:
            self._first_left, self._started = left, now
        oldest = max((c["read_from_at"] for c in coverage if c["read_from_at"] is not None), default=None)
        done = self._first_left - left
        pace = f"about {screen.lasting(round((now - self._started) * 1000 * left / done))} left" if done > 0 else ""
        return ", ".join(filter(None, (f"read back to {screen.when(oldest)}", pace)))


def coverage_of(parts: "Wired", source: str) -> list[dict[str, Any]]:
    from itsms_sync.store import reports

    with parts.engine.begin() as connection:
        return reports.past(connection, parts.sources[source][0].source_id)


def _told(report: "SourceReport", parts: "Wired") -> dict[str, Any]:
    return {
        "rows": report.rows,
        "new_rows": report.new_rows,
        "pages": report.pages,
        "windows": report.windows,
        "requests": parts.https[report.name].requests_sent,
        "gaps": [gap._asdict() for gap in report.gaps],
        "problem": report.problem,
        "coverage": screen.with_iso(coverage_of(parts, report.name)),
    }


def _show(name: str, report: "SourceReport", told: dict[str, Any]) -> None:
    problem = f"; {report.problem}" if report.problem else ""
    screen.say(
        f"{name}: {report.rows:,} rows, {report.new_rows:,} of them new, in {report.windows} windows and "
        f"{told['requests']:,} requests{problem}"
    )
    for gap in screen.alike(gap._asdict() for gap in report.gaps):
        screen.say(f"  gap: {gap['message']}")
