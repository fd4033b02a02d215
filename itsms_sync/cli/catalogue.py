"""``checks``: what is judged, and what is not for want of what."""

from typing import TYPE_CHECKING, Any

import click

from itsms_sync.cli import json_option, screen

if TYPE_CHECKING:
    from itsms_sync.conformance.catalogue import Check


@click.command(help="The checks: what each says, needs and knows of traps; and kinds of drift that none finds.")
@click.option("--markdown", is_flag=True, help="As docs/checks.md has it.")
@json_option
def checks(markdown: bool, as_json: bool) -> None:
    from itsms_sync.conformance.catalogue import CHECKS, NOT_OFFERED

    if markdown:
        click.echo(page(), nl=False)
    elif as_json:
        screen.json({"checks": [_facts(check) for check in CHECKS.values()], "not_offered": _missing(NOT_OFFERED)})
    else:
        rows = [(c.id, c.name, c.severity, c.clause, c.definition) for c in CHECKS.values()]
        screen.table("Checks", ["check", "name", "severity", "clause", "a case deviates when"], rows)
        missing = [(id_, name, needs) for id_, (name, needs) in NOT_OFFERED.items()]
        screen.table("Not offered", ["kind of drift", "name", "what is missing"], missing)


def _facts(check: "Check") -> dict[str, Any]:
    names = ("id", "version", "name", "definition", "needs", "severity", "clause")
    return {**{name: getattr(check, name) for name in names}, "traps": dict(check.traps)}


def _missing(kinds: dict[str, tuple[str, str]]) -> list[dict[str, str]]:
    return [{"id": id_, "name": name, "needs": needs} for id_, (name, needs) in kinds.items()]


def page() -> str:
    """The checks as a page in Markdown."""
    from itsms_sync.conformance.catalogue import CHECKS, GROUPS, NOT_OFFERED

    lines = [
        "# Checks",
        "",
        "Made by `itsms-sync checks --markdown` of the checks' own definitions; a test fails when it is stale.",
        "Severities are where a procedure starts from; each requirement states its own. Each check has judged cases in",
        "`tests/cases/`.",
    ]
    for group, title in GROUPS.items():
        found = [check for check in CHECKS.values() if check.id.startswith(group)]
        lines += ["", f"## {title}"] if found else []
        for check in found:
            lines += _section(check)
    lines += ["", "## Not offered", "", "Kinds of drift that no check finds, and what is missing.", ""]
    lines += ["| kind | name | what is missing |", "|---|---|---|"]
    lines += [f"| {id_} | {name} | {needs} |" for id_, (name, needs) in NOT_OFFERED.items()]
    return "\n".join(lines) + "\n"


def _section(check: "Check") -> list[str]:
    return [
        "",
        f"### {check.id} {check.name}",
        "",
        f"{check.definition} Severity {check.severity}; clause {check.clause}; check version {check.version}.",
        "",
        f"Needs: {check.needs}.",
        "",
        "| trap | what is done |",
        "|---|---|",
        *(f"| {trap} | {done} |" for trap, done in check.traps),
    ]
