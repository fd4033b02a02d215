"""``demo``: the main job with embedded parts, in a folder that is gone afterwards.

Simulators and daemon are the real ones; only the service desk is made up. Nothing outside loopback is touched.
"""

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from itsms_sync.cli import screen

if TYPE_CHECKING:
    from itsms_sync.http import Stop
    from itsms_sync.wiring import Wired

DAYS = 100
PAUSE_S = 5.0

SETTINGS = """\
database: sqlite:///demo.db
documents: {documents}
sources:
  servicenow:
    system: servicenow
    url: {servicenow}
    credential: {{username: itsms, password: {{file: servicenow.txt}}}}
    go_live: {go_live}
  jira:
    system: jira
    url: {jira}
    read: false
    credential: {{username: bot@example.com, token: {{file: jira.txt}}}}
    options: {{project: CAPA, issue_type: Corrective action}}
tickets:
  target: jira
  processes: [incident]
"""


def demonstrate(*, only_once: bool, seed: int) -> None:
    """Runs until Ctrl-C, or for one cycle."""
    from itsms_sync.http import Stopped
    from itsms_sync.wiring import make_stop

    stop = make_stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.request())
    try:
        with _parts(stop, seed, live=not only_once) as parts:
            _first_cycle(parts)
            if not only_once:
                _go_on(parts, stop)
    except Stopped:
        screen.say("\nstopped; the demo's database and simulators are gone")


@contextmanager
def _parts(stop: "Stop", seed: int, *, live: bool) -> "Iterator[Wired]":
    from itsms_sync.configuration import read_configuration
    from itsms_sync.plugins import shipped, simulator
    from itsms_sync.wiring import wired

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="itsms-demo-")))
        screen.head("1. A made-up service desk")
        desk = {"desk": "lively", "seed": str(seed), "days": str(DAYS), "live": "true" if live else "false"}
        servicenow = simulator("servicenow")(options=desk)
        stack.callback(servicenow.stop)
        jira = simulator("jira")(options={})
        stack.callback(jira.stop)
        screen.say(f"   ServiceNow (simulated), {DAYS} days of incidents: {servicenow.url}/")
        screen.say(f"   Jira (simulated), an empty project CAPA:       {jira.url}/")
        (folder / "servicenow.txt").write_text("secret")
        (folder / "jira.txt").write_text("token")
        path = folder / "itsms_sync.yaml"
        path.write_text(
            SETTINGS.format(
                documents=shipped("mappings"),
                servicenow=servicenow.url,
                jira=jira.url,
                go_live=(datetime.now(UTC) - timedelta(days=DAYS - 10)).date(),
            )
        )
        parts = stack.enter_context(wired(read_configuration(path), stop=stop, progress=screen.Progress(), as_of=None))
        yield parts


def _first_cycle(parts: "Wired") -> None:
    from itsms_sync.cli.reading import figures_of, show_figures
    from itsms_sync.cli.working import settled, show_cycle

    screen.head("\n2. One cycle: read, judge, decide, act")
    started = time.monotonic()
    report = parts.run_cycle()
    outbox = settled(parts, report.outbox)
    screen.say(f"   took {time.monotonic() - started:.1f} s")
    show_cycle(report, outbox, parts, dry_run=False)
    screen.head("3. What the documented procedure asks for, and what was found")
    with parts.engine.begin() as connection:
        figure = figures_of(connection, "incident", with_cases=False)
    show_figures(f"incident: {figure['cases']:,} cases", figure)
    screen.say(
        "Open a ticket's address in a browser: it says what is required, what happened, where to look and what to do."
    )


def _go_on(parts: "Wired", stop: "Stop") -> None:
    click.secho(
        "\n4. The desk lives on; every few seconds the daemon reads what is new (Ctrl-C ends the demo)", bold=True
    )
    while True:
        with stop.interruptible():
            time.sleep(PAUSE_S)
        report = parts.run_cycle()
        now = datetime.now(UTC).strftime("%H:%M:%S")
        rows = sum(source.new_rows for source in report.sources)
        judged = report.judgement
        screen.say(
            f"   {now}  {rows:3} new rows, {judged.cases:3} cases judged, {judged.deviations_opened} new deviations, "
            f"{len(report.opened)} new nonconformities"
        )
