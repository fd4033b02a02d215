"""The outbox: what waits, what the target refused, what a person has to decide; and a person's decisions.

Decisions are handed in as requests. Where nothing else writes to the database they are carried out at once, else by the
process that does, in its next pass.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from itsms_sync.cli import config_option, json_option, screen
from itsms_sync.cli.reading import configuration, reading

if TYPE_CHECKING:
    from itsms_sync.configuration import Configuration
    from itsms_sync.records import Write

NEEDS = ("parked", "asked")


@click.group(help="Writes that wait, were refused or need a person.")
def outbox() -> None:
    pass


@outbox.command("list", help="What is not over, and tickets of ours that need a person.")
@config_option
@json_option
@click.option("--all", "everything", is_flag=True, help="Also what is done.")
def list_(config: Path, as_json: bool, everything: bool) -> None:
    from itsms_sync.store import outgoing, reports

    with reading(configuration(config)) as connection:
        writes = [w for w in reports.writes(connection) if everything or w["state"] in outgoing.OPEN]
        people = reports.tickets_for_people(connection)
    if as_json:
        screen.json({"writes": screen.with_iso(writes), "tickets": screen.with_iso(people)})
        return
    rows = [
        (w["key"], w["action"], _state(w), w["attempts"], screen.when(w["created_at"]), w["problem"]) for w in writes
    ]
    heads = ["key", "write", "state", "sent", "decided", "problem"]
    screen.table("Outbox", heads, rows, right=["sent"])
    if people:
        told = [(p["ticket"], p["key"], p["why"], screen.when(p["since_at"]), p["url"]) for p in people]
        screen.table("Tickets that need a person", ["ticket", "key", "why", "since", "address"], told)
    if any(w["state"] in NEEDS for w in writes):
        screen.say("`outbox show KEY` tells what would be sent and what came of it; `outbox replay KEY` sends again.")
    if any(_is_held(w) for w in writes):
        screen.say("Held writes: a cycle had more than max_writes_per_cycle. `outbox release` lets exactly these pass.")


def _is_held(write: dict[str, Any]) -> bool:
    return write["state"] == "pending" and write["held_at"] is not None and write["released_at"] is None


def _state(write: dict[str, Any]) -> str:
    return "held" if _is_held(write) else str(write["state"])


@outbox.command(help="What would be sent under a key, what came of it so far, and what people asked for.")
@click.argument("key")
@config_option
@json_option
def show(key: str, config: Path, as_json: bool) -> None:
    from itsms_sync.outbox import unpack
    from itsms_sync.store import outgoing, reports

    with reading(configuration(config)) as connection:
        found = outgoing.of_key(connection, key)
        writes = [w for w in reports.writes(connection) if w["key"] == key]
        steps = outgoing.histories(connection, [item.id for item in found])
        asked = reports.requests(connection, key)
    if not found:
        _unknown(key)
    if as_json:
        told = [
            {**write, "content": item.content, "steps": screen.with_iso(steps[item.id])}
            for item, write in zip(found, screen.with_iso(writes), strict=True)
        ]
        screen.json({"key": key, "writes": told, "requests": screen.with_iso(asked)})
        return
    for item, write in zip(found, writes, strict=True):
        screen.head(f"{item.action} to {item.target}: {_state(write)}")
        _show_content(unpack(item.content))
        _show_steps(steps[item.id])
    for request in asked:
        screen.say(f"{screen.when(request['made_at'])} asked to {request['command']}: {request['answer'] or 'waits'}")


def _show_content(sent: "Write") -> None:
    if sent.summary is not None:
        screen.say(f"  {sent.summary}")
    screen.blocks(sent.body)
    for name in ("ticket", "severity", "assignee", "link_to", "to_state"):
        if getattr(sent, name) is not None:
            screen.say(f"  {name}: {getattr(sent, name)}")


def _show_steps(steps: list[dict[str, Any]]) -> None:
    rows = [
        (screen.when(s["since_at"]), s["state"], s["attempts"], s["times"], screen.when(s["until_at"]), s["problem"])
        for s in steps
    ]
    heads = ["since", "state", "sent", "times", "until", "problem"]
    screen.table("What came of it", heads, rows, right=["sent", "times"])


@outbox.command(help="Send again what was refused, or what nobody knows the outcome of.")
@click.argument("key")
@config_option
@click.option(
    "--not-there", is_flag=True, help="You have looked: the target has no such ticket or comment. Needed for `asked`."
)
@click.option("--create-again", is_flag=True, help="Its ticket is gone, and you want a new one.")
def replay(key: str, config: Path, not_there: bool, create_again: bool) -> None:
    from itsms_sync.outbox import refusal
    from itsms_sync.store import outgoing

    settings = configuration(config)
    with reading(settings) as connection:
        found = outgoing.of_key(connection, key)
        ticket = outgoing.ticket_of(connection, found[0].target, key) if found else None
    if not found:
        _unknown(key)
    if why := refusal(found, ticket, not_there=not_there, create_again=create_again):
        screen.fail(f"{key}: {why}", screen.USAGE)
    _hand_in(settings, "replay", key, {"not_there": not_there, "create_again": create_again})


@outbox.command(help="Let pass what a cycle held back because it wanted to write too much.")
@config_option
@click.option("--yes", is_flag=True, help="Do it. Without it the writes are only listed.")
def release(config: Path, yes: bool) -> None:
    from itsms_sync.outbox import unpack
    from itsms_sync.store import outgoing

    settings = configuration(config)
    with reading(settings) as connection:
        held = outgoing.held(connection)
    if not held:
        screen.say("no cycle has held anything back")
        return
    rows = [(h.key, h.action, unpack(h.content).summary or "", screen.when(h.held_at)) for h in held]
    screen.table("Held: more than max_writes_per_cycle", ["key", "write", "what", "since"], rows)
    if not yes:
        screen.say(f"`outbox release --yes` sends exactly these {len(held)}. If a rule is wrong, correct it first.")
        return
    _hand_in(settings, "release", "", {"ids": [h.id for h in held]})


def _unknown(key: str) -> NoReturn:
    screen.fail(f"there is no write with the key {key!r}; `itsms-sync outbox list --all` shows all keys", screen.USAGE)


def _hand_in(settings: "Configuration", command: str, key: str, content: dict[str, Any]) -> None:
    """Adds the request, and carries it out if nothing else writes."""
    from itsms_sync.outbox import obey
    from itsms_sync.store import database, outgoing
    from itsms_sync.wiring import wall_clock

    url = settings.database_url()
    try:
        engine = database.connect(url, migrate=False)
    except database.DatabaseUnavailable as error:
        screen.fail(str(error), screen.UNAVAILABLE)
    try:
        with engine.begin() as connection:
            outgoing.ask(connection, command, key, content, wall_clock())
        with database.writing(url):
            told = obey(engine, wall_clock)
        screen.say("\n".join(told) + "; the next cycle sends")
    except database.Locked as busy:
        screen.say(f"handed in: {busy.holder} carries it out in its next cycle")
    finally:
        engine.dispose()
