"""Commands that read the database: status, deviations, nonconformities, actions, explain."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itsms_sync.cli import config_option, json_option, screen

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from itsms_sync.configuration import Configuration


def configuration(path: Path) -> "Configuration":
    """The configuration, or the end with all its problems."""
    from itsms_sync.configuration import read_configuration
    from itsms_sync.documents import Invalid

    try:
        return read_configuration(path)
    except Invalid as error:
        screen.fail("\n".join(str(problem) for problem in error.problems), screen.USAGE)


@contextmanager
def reading(config: "Configuration") -> "Iterator[Connection]":
    """One read of the database, beside whatever writes to it."""
    from itsms_sync.store.database import DatabaseUnavailable, connect, sqlite_path

    url = config.database_url()
    path = sqlite_path(url)
    if path is not None and not path.exists():
        screen.fail(f"there is no database at {path} yet; run `itsms-sync once` first", screen.UNAVAILABLE)
    try:
        engine = connect(url, migrate=False)
    except DatabaseUnavailable as error:
        screen.fail(str(error), screen.UNAVAILABLE)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@click.command(help="Sources, freshness, gaps and outbox.")
@config_option
@json_option
@click.option(
    "--health",
    type=click.IntRange(1),
    default=None,
    metavar="MINUTES",
    help="Only tell whether a cycle was finished within so many minutes (exit 0) or not (exit 3).",
)
@click.option("--streams", is_flag=True, help="Also the newest poll of each table and resource.")
def status(config: Path, as_json: bool, health: int | None, streams: bool) -> None:
    from itsms_sync.store import guarded, reports

    settings = configuration(config)
    with reading(settings) as connection:
        last = reports.last_cycle(connection)
        if health is not None:
            _tell_health(last, health)
            return
        sources = [
            source
            for source in reports.sources(connection)
            if source["name"] in settings.settings.sources and settings.settings.sources[source["name"]].read
        ]
        gaps = reports.gaps(connection)
        compared = reports.reconciliations(connection)
        objections = guarded.objections(connection)
        outbox = reports.intents_by_state(connection)
        tickets = reports.tickets_by_fate(connection)
        needed = [w for w in reports.writes(connection) if w["state"] in ("parked", "asked")]
        people = reports.tickets_for_people(connection)
        sizes = reports.sizes(connection)
    if as_json:
        for source in sources:
            source["streams"] = screen.with_iso(source["streams"])
            source["coverage"] = screen.with_iso(source["coverage"])
        screen.json(
            {
                "last_cycle": screen.with_iso([last])[0] if last is not None else None,
                "objections": [
                    {"subject": one.subject, "reason": one.reason, "message": one.message} for one in objections
                ],
                "sources": screen.with_iso(sources),
                "gaps": screen.with_iso(gaps),
                "reconciled": screen.with_iso(compared),
                "outbox": outbox,
                "tickets": tickets,
                "needs_a_person": {"writes": screen.with_iso(needed), "tickets": screen.with_iso(people)},
                "rows": sizes,
            }
        )
        return
    screen.say(f"last finished cycle: {screen.when(last['ended_at']) if last is not None else 'none yet'}\n")
    for objection in objections:
        screen.wrapped(f"READING ONLY: {objection.message}.")
        screen.say()
    show_sources(sources, streams=streams)
    show_coverage(sources)
    if not streams:
        screen.say("`status --streams` tells it of each table and resource.\n")
    rows = [
        (g["source"], g["stream"], g["field"], g["reason"], g["count"], g["message"], screen.when(g["since_at"]))
        for g in screen.alike(gaps)
    ]
    if rows:
        heads = ["source", "stream", "field", "reason", "times", "message (the newest)", "since"]
        screen.table("Open gaps: what we know we did not read", heads, rows, right=["times"])
    else:
        screen.say("No open gaps.\n")
    _show_compared(compared)
    screen.table("Outbox", ["state", "writes"], sorted(outbox.items()), right=["writes"])
    screen.table("Our tickets", ["which", "tickets"], tickets.items(), right=["tickets"])
    needs = [(w["key"], w["action"], w["state"], w["problem"]) for w in needed]
    needs += [(p["key"] or p["ticket"], "ticket", p["ticket"], p["why"]) for p in people]
    if needs:
        screen.table("Needs you: see `itsms-sync outbox list`", ["key", "what", "state", "why"], needs)
    screen.table("Rows in the database", ["table", "rows"], sizes.items(), right=["rows"])


def _tell_health(last: dict[str, Any] | None, minutes: int) -> None:
    from itsms_sync.wiring import wall_clock

    if last is None:
        screen.fail("no cycle was finished yet", screen.UNAVAILABLE)
    age = (wall_clock() - last["ended_at"]) / 60_000
    if age < -1:
        screen.fail("the last finished cycle lies ahead: this machine's clock was set back", screen.UNAVAILABLE)
    if age > minutes:
        screen.fail(f"the last finished cycle is {age:.0f} minutes old", screen.UNAVAILABLE)
    screen.say(f"healthy: the last cycle was finished {max(age, 0):.1f} minutes ago")


def show_sources(sources: list[dict[str, Any]], *, streams: bool) -> None:
    """How fresh each source is, and on demand each of its streams."""
    from itsms_sync.wiring import wall_clock

    now = wall_clock()
    rows = [
        (
            s["name"],
            s["system"],
            s["account"] or "–",
            screen.when(s["covered_until_at"]),
            screen.lasting(now + (s["skew"] or 0) - s["covered_until_at"])
            if s["covered_until_at"] is not None
            else "never read to its end",
            screen.ahead(s["skew"]),
            s["records"],
            s["payloads"],
            _state(s),
        )
        for s in sources
    ]
    heads = ["source", "system", "account", "complete up to", "ago", "clock", "records", "raw rows", "state"]
    screen.table("Sources: how fresh", heads, rows, right=["records", "raw rows"])
    for source in sources:
        if clock := screen.clock_told(source["name"], source["skew"]):
            screen.wrapped(clock)
    if not streams:
        return
    heads = ["source", "stream", "read at", "window", "complete up to", "rows", "new"]
    rows_of_streams = [
        (
            s["name"],
            stream["stream"],
            screen.when(stream["ended_at"]),
            "to its end" if stream["closed"] else "cut off",
            screen.when(stream["covered_until_at"]),
            stream["rows_seen"],
            stream["rows_new"],
        )
        for s in sources
        for stream in s["streams"]
    ]
    screen.table("Newest poll of each stream", heads, rows_of_streams, right=["rows", "new"])


def _show_compared(runs: list[dict[str, Any]]) -> None:
    """What polls cannot see; nothing until the first comparison was due."""
    rows = [
        (r["source"], r["kind"], r["extent"], screen.when(r["started_at"]), r["state"], r["missed"], r["gone"])
        for r in runs
    ]
    if rows:
        heads = ["source", "kind", "extent", "begun", "state", "missed by polls", "gone"]
        screen.table("Newest comparisons with the source by id", heads, rows, right=heads[5:])


def show_coverage(sources: list[dict[str, Any]]) -> None:
    """How far back each kind of record was read, where that is not from the beginning."""
    rows = [
        (s["name"], c["kind"], read_back(c), screen.when(s["covered_until_at"]), c["holes"] or "", past_left(c))
        for s in sources
        for c in s["coverage"]
        if c["read_from_at"] is not None or c["behind"] or c["holes"]
    ]
    if rows:
        heads = ["source", "kind", "read from", "to", "holes", "before that"]
        screen.table("The past: how far back it was read", heads, rows, right=["holes"])


def read_back(coverage: dict[str, Any]) -> str:
    return "its beginning" if coverage["read_from_at"] is None else screen.when(coverage["read_from_at"])


def past_left(coverage: dict[str, Any]) -> str:
    """What is still to be read of a kind's past."""
    if not coverage["behind"]:
        return "nothing is read" if coverage["read_from_at"] is not None else ""
    first, start = coverage["first_at"], coverage["read_from_at"]
    if first is None or start is None:
        return "more is to be read"
    waiting = f", {coverage['waiting']} windows wait" if coverage["waiting"] else ""
    return f"{screen.lasting(start - first)} to be read, from {screen.when(first)}{waiting}"


def _state(source: dict[str, Any]) -> str:
    if source["problem"]:
        return str(source["problem"])
    told = (("not read to its end", source["unfinished"]), ("does not serve", source["not_served"]))
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in told if names) or "reads"


@click.command(help="What was found, check by check, requirement by requirement.")
@config_option
@json_option
@click.option("--process", default=None, help="Only this process.")
@click.option("--requirement", default=None, help="List the deviations of this requirement.")
@click.option(
    "--state", type=click.Choice(["open", "corrected", "accepted", "withdrawn"]), default="open", show_default=True
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Deviations listed.")
@click.option("--list", "with_cases", is_flag=True, help="With --json: the case ids behind each figure.")
def deviations(
    config: Path, as_json: bool, process: str | None, requirement: str | None, state: str, limit: int, with_cases: bool
) -> None:
    from itsms_sync.deciding import named
    from itsms_sync.store import decided, reports

    with reading(configuration(config)) as connection:
        names = [process] if process is not None else reports.processes(connection)
        figures = {name: figures_of(connection, name, with_cases=with_cases) for name in names}
        listed = reports.deviations(connection, process, requirement, state, limit)
        titles = decided.titles(connection)
    if as_json:
        answer = {"processes": figures, "deviations": screen.with_iso(listed)}
        if len(figures) == 1:
            answer |= next(iter(figures.values()))
        screen.json(answer)
        return
    for name, figure in figures.items():
        show_figures(f"{name}: {figure['cases']:,} cases", figure)
    rows = [
        (
            screen.when(d["occurred_at"]),
            d["case"],
            d["requirement"],
            d["detail"] and named(d["detail"], d["source"], titles),
            d["source"],
        )
        for d in listed
    ]
    screen.table(f"Newest deviations ({state})", ["happened", "case", "requirement", "what", "source"], rows)


def figures_of(connection: "Connection", process: str, *, with_cases: bool) -> dict[str, Any]:
    """Of one process: ``cases``, ``checks`` and ``facts``, in the shape that ``assess`` gives."""
    from itsms_sync.assessing import figures, never
    from itsms_sync.store import reports

    total = reports.cases(connection, process)
    visited: dict[str, int] = {}
    for row in reports.visits(connection, process):
        for state in filter(None, row["visited"].split(",")):
            visited[state] = visited.get(state, 0) + row["cases"]
    cases = reports.verdict_cases(connection, process, ["deviating", "unknown"]) if with_cases else None
    return {
        "cases": total,
        "checks": figures(reports.verdict_counts(connection, process), cases),
        "facts": {"never": never(visited, total)},
    }


def show_figures(title: str, figure: dict[str, Any]) -> None:
    """Judged, deviating and unknown cases per requirement."""
    rows = [
        (
            check_id,
            requirement_id,
            r["judged"],
            r["deviating"],
            f"{r['deviating'] / r['judged'] * 100:.1f} %" if r["judged"] else "",
            r["unknown"],
            "; ".join(f"{reason}: {count:,}" for reason, count in r["reasons"].items()),
        )
        for check_id, check in sorted(figure["checks"].items())
        for requirement_id, r in check["requirements"].items()
    ]
    screen.table(
        title,
        ["check", "requirement", "judged", "deviating", "share", "unknown", "why unknown"],
        rows,
        right=["judged", "deviating", "share", "unknown"],
    )


@click.command(help="Requirements that are suspected not to be fulfilled.")
@config_option
@json_option
def nonconformities(config: Path, as_json: bool) -> None:
    from itsms_sync.store import reports

    settings = configuration(config)
    with reading(settings) as connection:
        found = reports.nonconformities(connection)
    if as_json:
        screen.json(screen.with_iso(found))
        return
    roles = settings.library.processes.roles
    rows = [
        (
            n["key"],
            n["severity"],
            n["summary"],
            roles[n["owner"]].title if n["owner"] in roles else n["owner"],
            "waits" if n["queued"] else n["ticket"] or "to be sent",
            n["url"],
        )
        for n in found
    ]
    screen.table("Suspected nonconformities", ["key", "severity", "what", "owner", "ticket", "address"], rows)


@click.command(help="Corrective-action tickets and what is still to be sent.")
@config_option
@json_option
def actions(config: Path, as_json: bool) -> None:
    from itsms_sync.store import reports

    with reading(configuration(config)) as connection:
        found = reports.actions(connection)
    if as_json:
        screen.json(screen.with_iso(found))
        return
    rows = [
        (
            a["key"],
            a["write"],
            a["ticket"],
            a["ticket_state"],
            screen.when(a["done_at"]),
            a["url"],
            a["problem"] or a["dropped"],
        )
        for a in found
    ]
    screen.table("Corrective actions", ["key", "write", "ticket", "state", "sent", "address", "problem"], rows)


@click.command(help="One case beside its procedure: what was read, what was judged, why, and what comes next.")
@click.argument("ticket")
@config_option
@json_option
@click.option("--all", "whole", is_flag=True, help="Every save of a long case.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a page to this file.")
def explain(ticket: str, config: Path, as_json: bool, whole: bool, html: Path | None) -> None:
    from itsms_sync.cli import explaining, telling

    settings = configuration(config)
    with reading(settings) as connection:
        found = explaining.explanations(connection, settings, ticket)
    if not found:
        screen.fail(
            f"nothing is known of {ticket!r}: it is neither the number or id of a record that was read, "
            "nor a ticket of ours",
            screen.USAGE,
        )
    if html is not None:
        _write_page(html, found, whole=whole)
    if as_json:
        screen.json(found if len(found) > 1 else found[0])
    elif html is None:
        for explanation in found:
            telling.show(explanation, whole=whole)


def _write_page(path: Path, found: Sequence[dict[str, Any]], *, whole: bool) -> None:
    from itsms_sync.cli.page import page

    try:
        path.write_text(page(found, whole=whole), "utf-8")
    except OSError as error:
        screen.fail(f"cannot write {path}: {error.strerror}", screen.USAGE)
    screen.note(f"written: {path}")
