"""``demo``: the main job with embedded parts, in a folder that is gone afterwards.

Simulators and daemon are the real ones; only the people at the two desks are made up. Nothing outside loopback is
touched.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itsms_sync.cli import screen

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from itsms_sync.cycle import CycleReport
    from itsms_sync.http import Stop
    from itsms_sync.wiring import Wired

PAUSE_S = 5.0
CAP = 3

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
    credential: {{username: bot@example.com, token: {{file: jira.txt}}}}
    go_live: {go_live}
    options:
      projects: [ITSM, CAPA]
      approvals_field: customfield_10213
      sla_fields: [customfield_10214, customfield_10215]
      project: CAPA
      issue_type: Corrective action
tickets:
  target: jira
  processes: [incident, service_request, problem, change, corrective_action]
  cap_per_owner: {cap}
"""


def demonstrate(*, only_once: bool, seed: int, days: int) -> None:
    """Runs until Ctrl-C, or for one cycle. ``days``: how far back the histories of both desks go."""
    from itsms_sync.cli.working import obey_signals
    from itsms_sync.http import Stopped
    from itsms_sync.wiring import make_stop

    stop = make_stop()
    obey_signals(stop)
    try:
        progress = screen.Progress()
        with _parts(stop, seed, days, progress, live=not only_once) as parts:
            _first_cycle(parts)
            progress.quiet()
            if only_once:
                screen.say("All of it is gone now. Without --once it goes on, and tickets can be read in a browser.")
            else:
                _look_closer(parts)
                _go_on(parts, stop)
    except Stopped:
        screen.say("\nstopped; the demo's database and simulators are gone")


@contextmanager
def _parts(stop: "Stop", seed: int, days: int, progress: screen.Progress, *, live: bool) -> "Iterator[Wired]":
    from itsms_sync.configuration import read_configuration
    from itsms_sync.plugins import shipped, simulator
    from itsms_sync.wiring import wired

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="itsms-demo-")))
        screen.head("1. A made-up IT department and its two systems")
        desk = {"desk": "lively", "seed": str(seed), "days": str(days), "live": "true" if live else "false"}
        servicenow = simulator("servicenow")(options={**desk, "plugins": "cim,major"})
        stack.callback(servicenow.stop)
        jira = simulator("jira")(options=desk)
        stack.callback(jira.stop)
        screen.say(f"   {days} days of work, now and then not as documented:")
        screen.say(f"   ServiceNow (simulated): incidents, problems, changes, requests           {servicenow.url}/")
        screen.say(f"   Jira (simulated): requests, problems, changes, and corrective actions    {jira.url}/")
        (folder / "servicenow.txt").write_text("secret")
        (folder / "jira.txt").write_text("token")
        path = folder / "itsms_sync.yaml"
        path.write_text(
            SETTINGS.format(
                documents=shipped("mappings"),
                servicenow=servicenow.url,
                jira=jira.url,
                go_live=(datetime.now(UTC) - timedelta(days=days * 0.9)).date(),
                cap=CAP,
            )
        )
        parts = stack.enter_context(wired(read_configuration(path), stop=stop, progress=progress, as_of=None))
        yield parts


def _first_cycle(parts: "Wired") -> None:
    from itsms_sync.cli.reading import show_sources
    from itsms_sync.cli.working import settled
    from itsms_sync.store import reports

    screen.head("\n2. One cycle: read, judge, decide, act")
    started = time.monotonic()
    report = parts.run_cycle()
    settled(parts, report.outbox)
    judged = report.judgement
    screen.say(
        f"   took {time.monotonic() - started:.1f} s: judged {judged.cases:,} cases, "
        f"found {judged.deviations_opened:,} deviations, opened {len(_sent(report))} tickets\n"
    )
    with parts.engine.begin() as connection:
        show_sources(reports.sources(connection), streams=False)
        _show_gaps(reports.gaps(connection))
        screen.head("3. What the documented procedures ask for, and what was found")
        _show_processes(connection, parts)
        screen.head("4. Tickets: what is required, what happened, where to look, what to do")
        _show_tickets(connection, report)


def _sent(report: "CycleReport") -> list[str]:
    return [] if report.outbox is None else [*report.outbox.sent, *report.outbox.adopted]


def _show_gaps(gaps: list[dict[str, Any]]) -> None:
    for gap in screen.alike(gaps):
        screen.say(f"gap: {gap['source']}: {gap['message']}")


def _show_processes(connection: "Connection", parts: "Wired") -> None:
    """One row per process; how often one of its requirements was judged, and what became of what drifted."""
    from itsms_sync.store import reports

    found = reports.nonconformities(connection)
    sent, waiting = (Counter(n["process"] for n in found if bool(n["queued"]) is queued) for queued in (False, True))
    processes = parts.configuration.library.processes.processes
    known = set(reports.processes(connection))
    rows = [
        (described.title, *_counted(connection, name), sent[name], waiting[name])
        for name, described in processes.items()
        if name in known
    ]
    heads = ["process", "cases", "judged", "deviating", "unknown", "requirements that drift", "tickets", "waiting"]
    screen.table("Each case is judged by each requirement of its process", heads, rows, right=heads[1:])


def _counted(connection: "Connection", process: str) -> tuple[int, int, int, int, str]:
    """Cases; verdicts, deviating and unknown ones; requirements with a deviation among those that were judged."""
    from itsms_sync.cli.reading import figures_of

    figure = figures_of(connection, process, with_cases=False)
    shares = [share for check in figure["checks"].values() for share in check["requirements"].values()]
    judged, deviating, unknown = (sum(share[key] for share in shares) for key in ("judged", "deviating", "unknown"))
    drifting = sum(share["deviating"] > 0 for share in shares)
    return figure["cases"], judged, deviating, unknown, f"{drifting} of {len(shares)}"


def _show_tickets(connection: "Connection", report: "CycleReport") -> None:
    from itsms_sync.store import reports

    rows = [(n["severity"], n["summary"], n["url"]) for n in reports.nonconformities(connection) if n["ticket"]]
    summaries = {write.key: write.summary for write in report.digests}
    rows += [("", summaries[a["key"]], a["url"]) for a in reports.actions(connection) if a["key"] in summaries]
    rows.sort(key=lambda row: (not row[0], row[1]))
    screen.table("Opened now", ["severity", "what", "read it at"], rows)
    screen.wrapped(
        f"The owner of a process gets at most {CAP} at a time. What waits for a place, and what drifted too little for "
        "a ticket, is listed in the digest."
    )


def _look_closer(parts: "Wired") -> None:
    """Commands to be typed elsewhere while the demo runs."""
    from itsms_sync.store import reports

    with parts.engine.begin() as connection:
        newest = [reports.deviations(connection, name, None, "open", 1) for name in ("change", "problem")]
    cases = [f"explain {row['case']}" for rows in newest for row in rows]
    path = parts.configuration.folder / "itsms_sync.yaml"
    screen.head("\n5. Look closer: open an address above in a browser, or type in another terminal")
    for command in (*cases, "deviations --process change", "status --streams"):
        screen.say(f"   {sys.argv[0]} {command} --config {path}")


def _go_on(parts: "Wired", stop: "Stop") -> None:
    screen.head("\n6. The desks live on; every few seconds the daemon reads what is new (Ctrl-C ends the demo)")
    while True:
        with stop.interruptible():
            time.sleep(PAUSE_S)
        report = parts.run_cycle()
        now = datetime.now(UTC).strftime("%H:%M:%S")
        rows = ", ".join(f"{source.name} {source.new_rows}" for source in report.sources)
        judged = report.judgement
        screen.say(
            f"   {now}  new rows: {rows}; {judged.cases} cases judged, {judged.deviations_opened} new deviations, "
            f"{len(_sent(report))} tickets written"
        )
