"""The command ``guard``: what stands in the way of writing, and a person's decision about it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from itsms_sync.cli import config_option, json_option, screen
from itsms_sync.cli.reading import configuration, reading

if TYPE_CHECKING:
    from itsms_sync.guard import Objection

RISK_OF_DATABASE = (
    "What this means: the database is taken as it stands. Tickets that were opened and are not in it are found by "
    "their keys and taken over, not opened again. But if a copy of this database is at work elsewhere, both will write "
    "to the same tickets from now on. Be sure that no other itsms-sync uses it."
)
RISK_OF_SOURCE = (
    "What this means: the instance that answers now is taken for the one whose history is in the database. Its records "
    "are added to that history, and if it keeps our tickets, they are written to. If it is a clone or a test system, "
    "the two mix and cannot be parted again. Be sure that it is the same one under a new id or address."
)


@click.command(
    help="Why nothing is written, and how to go on: `guard`, or `guard accept SOURCE`, `guard accept database`."
)
@click.argument("decision", type=click.Choice(["accept"]), required=False)
@click.argument("subject", required=False)
@click.option("--yes", is_flag=True, help="With accept: do not ask.")
@config_option
@json_option
def guard(decision: str | None, subject: str | None, yes: bool, config: Path, as_json: bool) -> None:
    if decision is None:
        _tell(_standing(config), as_json=as_json)
    elif subject is None:
        screen.fail(
            "accept what? Name a source, or `database`; `itsms-sync guard` lists what does not fit", screen.USAGE
        )
    else:
        _accept(config, subject, yes=yes)


def _accept(config: Path, subject: str, *, yes: bool) -> None:
    """Trusts what does not fit, once a person has read what that risks."""
    from itsms_sync.guard import DATABASE
    from itsms_sync.store.database import DatabaseUnavailable
    from itsms_sync.wiring import guarding

    try:
        with guarding(configuration(config)) as guarded:
            objection = guarded.against(subject)
            if objection is None:
                screen.fail(f"nothing stands against {subject}; `itsms-sync guard` lists what does", screen.USAGE)
            screen.wrapped(objection.message + ".")
            screen.wrapped(RISK_OF_DATABASE if subject == DATABASE else RISK_OF_SOURCE)
            if not yes and not click.confirm("Go on?"):
                screen.fail("nothing was changed", screen.FINDINGS)
            guarded.accept(subject)
    except DatabaseUnavailable as error:
        screen.fail(str(error), screen.UNAVAILABLE)
    screen.say(f"accepted: {subject}. The next cycle writes again")


def _standing(config: Path) -> "Sequence[Objection]":
    from itsms_sync.store import guarded

    with reading(configuration(config)) as connection:
        return guarded.objections(connection)


def _tell(objections: "Sequence[Objection]", *, as_json: bool) -> None:
    if as_json:
        screen.json([{"subject": one.subject, "reason": one.reason, "message": one.message} for one in objections])
        return
    if not objections:
        screen.say("Nothing stands in the way: every source is the one that was read before, and so is the database.")
    for one in objections:
        screen.head(f"{one.subject}: {one.reason}")
        screen.wrapped(one.message + ".")
