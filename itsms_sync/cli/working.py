"""Commands that work: run, once, demo, simulate, replay."""

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itsms_sync.cli import as_of_option, config_option, json_option, screen
from itsms_sync.cli.reading import configuration

if TYPE_CHECKING:
    from itsms_sync.configuration import Configuration
    from itsms_sync.cycle import CycleReport
    from itsms_sync.following import FollowReport
    from itsms_sync.http import Stop
    from itsms_sync.outbox import OutboxReport
    from itsms_sync.wiring import Wired


def obey_signals(stop: "Stop") -> None:
    """SIGTERM and SIGINT order the stop, and do nothing else."""
    # When it is imported, polars takes SIGINT for itself and raises KeyboardInterrupt in the middle of its work.
    import polars  # noqa: F401

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.request())


@contextmanager
def working(config: "Configuration", *, as_of: int | None = None, quiet: bool = False) -> Iterator["Wired"]:
    """Everything connected, with signals tied to the stop; every known failure ends with its exit code."""
    from itsms_sync.http import Stopped
    from itsms_sync.settings import SecretUnavailable
    from itsms_sync.store.database import DatabaseUnavailable
    from itsms_sync.wiring import WritingRefused, make_stop, wired

    stop = make_stop()
    obey_signals(stop)
    progress = (lambda *_: None) if quiet else screen.Progress()
    try:
        with wired(config, stop=stop, progress=progress, as_of=as_of) as parts:
            yield parts
    except (DatabaseUnavailable, SecretUnavailable) as error:
        screen.fail(str(error), screen.UNAVAILABLE)
    except WritingRefused as error:
        screen.fail(str(error), screen.USAGE)
    except Stopped:
        screen.fail("stopped; the next run goes on from here", screen.INTERRUPTED)


@click.command(help="Run one full cycle and report it.")
@config_option
@click.option("--dry-run", is_flag=True, help="Read and judge, but write no ticket; print what would be sent.")
@click.option(
    "--fail-on",
    type=click.Choice(["S1", "S2", "S3", "S4"]),
    default=None,
    help="Exit 1 if a nonconformity of this severity or a worse one was opened.",
)
@as_of_option
@json_option
def once(config: Path, dry_run: bool, fail_on: str | None, as_of: int | None, as_json: bool) -> None:
    with working(configuration(config), as_of=as_of) as parts:
        report = parts.run_cycle(dry_run=dry_run)
        outbox = settled(parts, report.outbox)
        answer = told(report, outbox, parts)
    if as_json:
        screen.json(answer)
    else:
        show_cycle(report, outbox, parts, dry_run=dry_run)
    if report.sources and all(source.problem for source in report.sources):
        raise SystemExit(screen.UNAVAILABLE)
    if fail_on is not None and any(o.severity <= fail_on for o in report.opened):
        raise SystemExit(screen.FINDINGS)


def settled(parts: "Wired", outbox: "OutboxReport | None") -> "OutboxReport | None":
    """Waits until writes of unclear outcome can be looked up, so that one run leaves nothing in doubt."""
    while outbox is not None and outbox.unclear and outbox.settles_at is not None:
        seconds = max(0.0, (outbox.settles_at - parts.time.wall()) / 1000)
        screen.note(
            f"{outbox.unclear} write(s) of unclear outcome: waiting {seconds:.0f} s until the target must show them "
            "(stopping now is safe; the next run goes on from here)"
        )
        with parts.stop.interruptible():
            parts.time.sleep(seconds + 0.05)
        acted = parts.cycle.act()
        outbox = outbox if acted is None else outbox.plus(acted)
    return outbox


def told(report: "CycleReport", outbox: "OutboxReport | None", parts: "Wired") -> dict[str, Any]:
    """A cycle for machines, with what became of its writes in the end."""
    answer = {**report.figures(), "requests": parts.requests_sent}
    return answer if outbox is None else {**answer, "outbox": outbox.figures()}


def show_cycle(report: "CycleReport", outbox: "OutboxReport | None", parts: "Wired", *, dry_run: bool) -> None:
    """A cycle for people: what was done, what drifted, where to look."""
    for objection in report.objections:
        screen.wrapped(f"READING ONLY: {objection.message}.")
    for source in report.sources:
        problem = f"; {source.problem}" if source.problem else ""
        screen.say(f"read {source.name}: {source.rows:,} rows, {source.new_rows:,} of them new{problem}")
        if clock := screen.clock_told(source.name, source.skew):
            screen.wrapped(f"  {clock}")
        for gap in screen.alike(gap._asdict() for gap in source.gaps):
            more = f" (and {gap['count'] - 1:,} more of {gap['stream']})" if gap["count"] > 1 else ""
            screen.say(f"  gap: {gap['message']}{more}")
    judged = report.judgement
    what = "all cases" if judged.everything else "cases that changed or fell due"
    screen.say(
        f"judged {judged.cases:,} ({what}): {judged.deviations_opened:,} new deviations, "
        f"{judged.deviations_ended:,} ended"
    )
    for value, count in (judged.unmapped or {}).items():
        screen.say(f"  gap: {value} is not in the mapping ({count:,} saves)")
    for source_name, figures in report.before_go_live.items():
        if figures:
            deviating = sum(f.deviating for f in figures.values())
            screen.say(f"before go-live of {source_name}: {deviating:,} deviations, judged and opening nothing")
    for process in report.off:
        screen.say(f"writing is off for process {process}: name it under tickets.processes to open tickets")
    if report.followed is not None:
        _show_followed(report.followed)
    _show_opened(report, dry_run=dry_run)
    if outbox is not None:
        _show_outbox(outbox, parts, known=None if report.followed is None else report.followed.problem)


def _show_followed(followed: "FollowReport") -> None:
    """What people did to our tickets, and what is there that should not be."""
    told = (
        ("closed by people", followed.closed),
        ("open again", followed.opened_again),
        ("moved", followed.moved),
        ("gone: deleted, or hidden from the account", followed.gone),
        ("carry the key of another ticket", followed.twins),
        ("of ours, and unknown to this database", followed.strays),
    )
    for what, labels in told:
        if labels:
            screen.say(f"tickets {what}: {', '.join(labels)}")
    if followed.problem is not None:
        screen.say(f"  {followed.problem}")


def _show_opened(report: "CycleReport", *, dry_run: bool) -> None:
    if not report.opened:
        screen.say("no new nonconformity")
    for opened in report.opened:
        state = "waits under the owner's cap" if opened.queued else "would be sent" if dry_run else "opened"
        screen.say(f"{opened.severity} {opened.key} ({state}): {opened.summary}")
    if dry_run:
        for write in (*[o.write for o in report.opened if not o.queued], *report.digests):
            screen.say()
            screen.head(f"=== would be sent: {write.summary}")
            screen.blocks(write.body)


def _show_outbox(outbox: "OutboxReport", parts: "Wired", *, known: str | None) -> None:
    """What was sent, and why something was not; ``known``: a reason that was told already."""
    from itsms_sync.store.decided import tickets

    if outbox.held:
        screen.say(
            f"{outbox.held} writes are held: more than max_writes_per_cycle. `itsms-sync outbox release` lists them, "
            "and lets them pass with --yes"
        )
    for told in _alike(problem for problem in outbox.problems if problem != known):
        screen.say(f"  {told}")
    for duplicate in outbox.duplicates:
        screen.say(f"  {duplicate} carries a key that another ticket carries too: close one of them by hand")
    for parked in outbox.parked:
        screen.say(f"  needs you: {parked}")
    fresh = {*outbox.sent, *outbox.adopted}
    with parts.engine.begin() as connection:
        rows = [(t.label, t.state, t.url) for t in tickets(connection) if t.label in fresh]
    if rows:
        screen.table("Tickets opened now", ["ticket", "state", "address"], rows)


def _alike(problems: Iterable[str]) -> list[str]:
    """Problems ``subject: what: which``; of several with the same ``what`` the first, and how many there are."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        found.setdefault(problem.partition(": ")[2].partition(": ")[0], []).append(problem)
    return [one if not more else f"{one} (and {len(more)} more like it)" for one, *more in found.values()]


@click.command(help="Run the daemon.")
@config_option
def run(config: Path) -> None:
    # As process 1 of a container we would otherwise not hear an order to stop before everything is connected.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from itsms_sync.configuration import read_configuration
    from itsms_sync.daemon import Clockwork, Daemon
    from itsms_sync.documents import Invalid
    from itsms_sync.log import Sink, configured
    from itsms_sync.wiring import in_terminal, rebuild

    settings = configuration(config)
    sink = Sink(sys.stderr.fileno())
    log = configured(sink, as_json=not in_terminal())
    with closing(sink), working(settings, quiet=True) as parts:
        current = {"parts": parts}

        def one_pass() -> dict[str, Any]:
            report = current["parts"].run_slice()
            return told(report, report.outbox, current["parts"])

        def reload() -> None:
            try:
                fresh = read_configuration(config)
            except Invalid as error:
                raise ValueError(f"the last good documents stay in force: {error.problems[0]}") from error
            current["parts"] = rebuild(current["parts"], fresh)

        daemon = Daemon(
            Clockwork(time.monotonic, time.sleep),
            parts.stop,
            log,
            settings.settings.schedule.poll_every.total_seconds(),
        )
        daemon.daily("reload documents", settings.settings.schedule.reload_documents_at, reload)
        log.info("started", config=str(config), database=settings.settings.database)
        daemon.run(one_pass, reload)


@click.command(help="Serve the simulator of one system.")
@click.argument("system")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--data", type=click.Path(path_type=Path), multiple=True, help="Data to serve; repeatable.")
@click.option("--faults", type=click.Path(path_type=Path), help="Rules by which it misbehaves, in YAML or JSON.")
@click.option("--scenario", metavar="NAME", help="A ready-made set of such rules, for instance rate-limit-storm.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the simulator; repeatable.")
def simulate(
    system: str,
    port: int,
    host: str,
    data: tuple[Path, ...],
    faults: Path | None,
    scenario: str | None,
    options: tuple[str, ...],
) -> None:
    from itsms_sync.plugins import UnknownPlugin, simulator

    wrong = [o for o in options if "=" not in o]
    if wrong:
        screen.fail(f"--option wants KEY=VALUE, not {wrong[0]!r}", screen.USAGE)
    misbehaviour = {"faults": faults, "scenario": scenario}
    chosen = dict(o.split("=", 1) for o in options)
    chosen |= {name: str(given) for name, given in misbehaviour.items() if given is not None}
    numbers = {signal.SIGTERM, signal.SIGINT}
    # Before the first thread starts, so that no signal ends one of them in our place.
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        serve = simulator(system)
        server = serve(data=data, host=host, port=port, options=chosen)
    except UnknownPlugin as error:
        screen.fail(str(error), screen.USAGE)
    except (ValueError, OSError) as error:
        screen.fail(f"the simulator cannot start: {error}", screen.USAGE)
    screen.say(f"{system} simulator at {server.url} (Ctrl-C stops it)")
    if chosen.keys() & misbehaviour.keys():
        screen.say(f"it misbehaves: {server.url}/_sim/faults lists its rules with their seeds and counts")
    signal.sigwait(numbers)
    server.stop()


@click.command(help="Rebuild all that is right of the raw payloads and compare.")
@config_option
@as_of_option
@json_option
def replay(config: Path, as_of: int | None, as_json: bool) -> None:
    from itsms_sync.replay import replay as rebuild_all

    with working(configuration(config), as_of=as_of) as parts:
        report = rebuild_all(
            parts.engine,
            parts.sources,
            parts.judging,
            parts.now_of_last_judgement(),
            parts.time.wall(),
            screen.Progress(),
        )
    if as_json:
        screen.json(
            {
                "payloads": report.payloads,
                "equal": not report.differing,
                "rows": {
                    name: {"before": report.before[name][0], "after": report.after[name][0]} for name in report.before
                },
                "differing": report.differing,
            }
        )
    else:
        rows = [
            (n, b[0], report.after[n][0], "no" if n in report.differing else "yes") for n, b in report.before.items()
        ]
        screen.table(
            f"Rebuilt from {report.payloads:,} raw rows",
            ["table", "before", "after", "equal"],
            rows,
            right=["before", "after"],
        )
    if report.differing:
        raise SystemExit(screen.FINDINGS)


@click.command(help="Start simulators of both systems with people at work and watch drift become tickets.")
@click.option("--once", "only_once", is_flag=True, help="One cycle, then stop.")
@click.option("--seed", type=int, default=7, show_default=True, help="Of what the people do.")
@click.option("--days", type=click.IntRange(1, 400), default=100, show_default=True, help="Length of the history.")
def demo(only_once: bool, seed: int, days: int) -> None:
    from itsms_sync.cli.demonstration import demonstrate

    demonstrate(only_once=only_once, seed=seed, days=days)
