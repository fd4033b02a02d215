"""The commands. The only place that prints and picks exit codes; every command imports what it needs itself, so that
``--help`` stays quick."""

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from itsms_sync import __version__

COMMANDS = {
    "demo": ("working", "Start simulators of both systems with people at work and watch drift become tickets."),
    "run": ("working", "Run the daemon."),
    "once": ("working", "Run one full cycle and report it."),
    "check": ("documents", "Validate configuration, mappings and procedures; --online also rights and access."),
    "status": ("reading", "Sources, freshness, gaps and outbox."),
    "deviations": ("reading", "What was found, check by check, requirement by requirement."),
    "nonconformities": ("reading", "Requirements that are suspected not to be fulfilled."),
    "actions": ("reading", "Corrective-action tickets and what is still to be sent."),
    "outbox": ("outbox", "Writes that wait, were refused or need a person: list, show, replay, release."),
    "guard": ("guarding", "Why nothing is written, and how to go on."),
    "explain": ("reading", "One case beside its procedure: what was read, what was judged, why, and what comes next."),
    "checks": ("catalogue", "What is judged, what each check needs and knows of traps, and what is not judged."),
    "assess": ("documents", "Judge an event log (CSV, XES, Parquet) without a database."),
    "backfill": ("past", "Read the past of the sources, newest first, until there is no more of it."),
    "simulate": ("working", "Serve the simulator of one system."),
    "reconcile": ("comparing", "Compare what the sources show with what is stored, by id."),
    "replay": ("working", "Rebuild all that is right of the raw payloads and compare."),
    "schema": ("documents", "JSON Schemas of the files that people edit."),
}


class _Lazy(click.Group):
    """Loads the module of a command only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"itsms_sync.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="itsms-sync")
def main() -> None:
    """Keep an IT service management system alive after its certificate is won.

    Reads what ServiceNow and Jira really did, compares it with the documented procedures, and opens a corrective-action
    ticket for the process owner when practice has drifted.
    """


class Instant(click.ParamType[int]):
    """``2016-06-01T00:00Z`` or a day; ms since 1970."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no instant; write for example 2016-06-01T00:00Z", param, ctx)
        if moment.tzinfo is None and len(value) > 10:
            self.fail(f"{value!r} names no time zone; write {value}Z for UTC", param, ctx)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=Path("config/itsms_sync.yaml"),
    show_default=True,
    help="The configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
as_of_option = click.option(
    "--as-of", type=Instant(), default=None, help="Judge as of this instant; nothing later is seen."
)
