"""``reconcile``: what vanished from the sources, and what polls missed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itsms_sync.cli import config_option, json_option, screen
from itsms_sync.cli.reading import configuration
from itsms_sync.cli.working import working

if TYPE_CHECKING:
    from itsms_sync.ingest import ReadSource
    from itsms_sync.store.reconciled import Run
    from itsms_sync.wiring import Wired


@click.command(help="Compare what the sources show with what is stored, by id; the next cycle judges what was found.")
@config_option
@click.option("--source", "source", default=None, help="Only this source.")
@click.option("--kind", "kind", default=None, help="Only this kind of record.")
@click.option("--all", "everything", is_flag=True, help="All records; else those that are open or changed lately.")
@click.option(
    "--believe", is_flag=True, help="What is not shown is gone, however much it is: you have checked the rights."
)
@json_option
def reconcile(
    config: Path, source: str | None, kind: str | None, everything: bool, believe: bool, as_json: bool
) -> None:
    with working(configuration(config), quiet=as_json) as parts:
        chosen = _chosen(parts, source, kind)
        runs = [
            (each.name, run) for each, kinds in chosen for run in _compared(parts, each, kinds, everything, believe)
        ]
    if as_json:
        screen.json({"reconciled": [_told(name, run) for name, run in runs]})
    else:
        _show(runs)
    if any(run.problem is not None for _, run in runs):
        raise SystemExit(screen.FINDINGS)


def _chosen(parts: "Wired", source: str | None, kind: str | None) -> "list[tuple[ReadSource, list[str]]]":
    chosen = [
        (each, [name for name in each.kinds if kind in (None, name)])
        for each in parts.read_sources
        if source in (None, each.name)
    ]
    if not any(kinds for _, kinds in chosen):
        known = ", ".join(f"{each.name}: {' '.join(each.kinds)}" for each in parts.read_sources)
        screen.fail(f"nothing is read under that name; known are {known or 'no sources'}", screen.USAGE)
    return chosen


def _compared(parts: "Wired", source: "ReadSource", kinds: list[str], everything: bool, believe: bool) -> "list[Run]":
    """A poll comes first, so that only what polls cannot find is called missed."""
    from itsms_sync.reconciling import ALL, OPEN

    report = parts.ingest.poll(source)
    if report.problem is not None:
        screen.fail(f"{source.name}: {report.problem}", screen.UNAVAILABLE)
    extent = ALL if everything or believe else OPEN
    return [parts.reconciling.run(source, kind, extent, believe=believe) for kind in kinds]


def _told(source: str, run: "Run") -> dict[str, Any]:
    from itsms_sync.cycle import compared

    return {"source": source, **compared(run), "longest_delay_ms": run.delay}


def _show(runs: "list[tuple[str, Run]]") -> None:
    rows = [(name, run.kind, run.extent, run.known, run.seen, run.missed, run.gone, run.state) for name, run in runs]
    columns = ["source", "kind", "extent", "known", "shown", "missed by polls", "gone", "state"]
    screen.table("Compared by id", columns, rows, right=columns[3:7])
    for name, run in runs:
        if run.problem is not None:
            screen.say(f"{name}: {run.problem}")
        if run.delay:
            screen.say(f"{name}: what was missed of {run.kind} had waited {run.delay / 3_600_000:.1f} h at most")
