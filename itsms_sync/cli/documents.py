"""Commands on documents: check, assess, schema."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from itsms_sync.cli import as_of_option, config_option, json_option, screen
from itsms_sync.cli.reading import configuration, show_figures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from itsms_sync.records import Page
    from itsms_sync.wiring import Wired

FIRST_PAGES = 200
"""Of 1,000 rows each, looked at by ``check --online``."""


@click.command(help="Validate configuration, mappings and procedures; --online also rights and access.")
@config_option
@json_option
@click.option("--online", is_flag=True, help="Ask the sources too; reads only.")
def check(config: Path, as_json: bool, online: bool) -> None:
    from itsms_sync.configuration import read_configuration
    from itsms_sync.documents import Invalid

    try:
        found = read_configuration(config)
    except Invalid as error:
        if as_json:
            screen.json({"problems": [str(p) for p in error.problems]})
        else:
            screen.note("\n".join(str(p) for p in error.problems))
        raise SystemExit(screen.USAGE) from None
    requirements = [r for versions in found.library.procedures.values() for p in versions for r in p.requirements]
    unjudged = [r for r in requirements if r.check == "none"]
    answer: dict[str, Any] = {
        "problems": [],
        "documents": dict(found.library.digests),
        "requirements": len(requirements),
        "not_judged": {r.id: r.needs for r in unjudged},
    }
    if online:
        answer["online"] = _online(config)
    if as_json:
        screen.json(answer)
    else:
        _show_check(config, answer)
    if online and any(finding["problem"] for finding in answer["online"]):
        raise SystemExit(screen.FINDINGS)


def _show_check(config: Path, answer: dict[str, Any]) -> None:
    screen.say(f"{config} is valid: {len(answer['documents'])} documents with {answer['requirements']} requirements.")
    for requirement, needs in answer["not_judged"].items():
        screen.say(f"  {requirement} is documented but not judged: needs {needs}")
    if "online" in answer:
        rows = [(f["source"], f["what"], "no" if f["problem"] else "yes", f["message"]) for f in answer["online"]]
        screen.table("What the accounts may see and do", ["source", "what", "fine", "message"], rows)


def _online(config: Path) -> list[dict[str, Any]]:
    from itsms_sync.settings import SecretUnavailable
    from itsms_sync.store.database import DatabaseUnavailable
    from itsms_sync.wiring import make_stop, wired

    try:
        with wired(configuration(config), stop=make_stop(), progress=lambda *_: None, writing=False) as parts:
            return _ask_sources(parts)
    except (SecretUnavailable, DatabaseUnavailable) as error:
        screen.fail(str(error), screen.UNAVAILABLE)


Told = Callable[[str, str, bool], None]
"""``(what, message, whether it is a problem)``"""


def _ask_sources(parts: "Wired") -> list[dict[str, Any]]:
    from itsms_sync.connector import SourceError

    findings: list[dict[str, Any]] = []
    for name in parts.connectors:

        def told(what: str, message: str, problem: bool, name: str = name) -> None:
            findings.append({"source": name, "what": what, "problem": problem, "message": message})

        try:
            _ask_source(parts, name, told)
        except SourceError as error:
            told("reach", str(error), True)
    return findings


def _ask_source(parts: "Wired", name: str, told: Told) -> None:
    from itsms_sync.records import Gap

    connector, source = parts.connectors[name], parts.configuration.settings.sources[name]
    identity = connector.identify()
    told("log in", f"{identity.product} {identity.version} as {identity.account}", False)
    for kind in parts.kinds(name) if source.read else ():
        _ask_kind(parts, name, kind, told)
        _compare_values(parts, name, kind, told)
    if parts.configuration.settings.tickets and parts.configuration.settings.tickets.target == name:
        found = connector.find("itsms-sync.check")
        told("find tickets", found.message if isinstance(found, Gap) else "search answers", isinstance(found, Gap))


def _ask_kind(parts: "Wired", name: str, kind: str, told: Told) -> None:
    from itsms_sync.records import Gap, Window

    fields = parts.kinds(name)[kind]
    pages = parts.connectors[name].pull(kind, Window(fields.names, {}, 0, 1000, fields.persons, fields.texts))
    for message in [pages.message] if isinstance(pages, Gap) else _first_gaps(pages):
        told(f"read {kind}", message, True)
    if not isinstance(pages, Gap):
        told(f"read {kind}", f"{len(fields.names)} fields asked for", False)


def _compare_values(parts: "Wired", name: str, kind: str, told: Told) -> None:
    """Raw values of the mapping beside those that the instance has, with the labels that it gives them."""
    from itsms_sync.records import Gap

    configured = parts.connectors[name].configuration(kind)
    if isinstance(configured, Gap):
        return
    for field, values in parts.mapped_values(name, kind).items():
        labels = configured.choices.get(field)
        if not labels:
            continue
        strange = sorted(set(values) - set(labels))
        known = ", ".join(f"{raw} {labels[raw]} = {values.get(raw, 'not mapped')}" for raw in sorted(labels))
        if strange:
            told(f"values of {kind}.{field}", f"the mapping names {', '.join(strange)}; there are: {known}", True)
        else:
            told(f"values of {kind}.{field}", known, False)


def _first_gaps(pages: "Iterator[Page]") -> list[str]:
    """What is missing on the first pages, each thing once. The history comes behind the records, so these are read to
    their end; a whole history is not read to check access."""
    streams: set[str] = set()
    gaps: dict[str, None] = {}
    looked_at = 0
    for page in islice(pages, FIRST_PAGES):
        looked_at += 1
        streams.add(page.stream)
        gaps |= dict.fromkeys(gap.message for gap in page.gaps)
        if len(streams) > 1 and not page.gaps:
            return list(gaps)
    if looked_at == FIRST_PAGES:
        gaps["the history was not reached: so many records come before it; the first `once` will tell"] = None
    return list(gaps)


@click.command(help="Judge an event log (CSV, XES, Parquet) without a database.")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--procedure", type=click.Path(path_type=Path), required=True, help="The documented procedure (YAML).")
@click.option("--columns", type=click.Path(path_type=Path), required=True, help="What the columns mean (YAML).")
@click.option(
    "--calendars", type=click.Path(path_type=Path), default=None, help="The business calendars of time limits (YAML)."
)
@click.option("--list", "with_cases", is_flag=True, help="With --json: the case ids behind each figure.")
@click.option(
    "--fail-on",
    type=click.Choice(["S1", "S2", "S3", "S4"]),
    default=None,
    help="Exit 1 if a requirement of this severity or a worse one is exceeded.",
)
@as_of_option
@json_option
def assess(
    log: Path,
    procedure: Path,
    columns: Path,
    calendars: Path | None,
    with_cases: bool,
    fail_on: str | None,
    as_of: int | None,
    as_json: bool,
) -> None:
    from itsms_sync import assessing
    from itsms_sync.configuration import read_document
    from itsms_sync.documents import Invalid, Problem
    from itsms_sync.logfile import UnreadableLog
    from itsms_sync.procedures.model import Procedure
    from itsms_sync.sms.calendars import Calendars, Clocks
    from itsms_sync.sms.mapping import LogColumns
    from itsms_sync.wiring import wall_clock

    try:
        document = read_document(procedure, Procedure)
        layout = read_document(columns, LogColumns)
        kept = {} if calendars is None else read_document(calendars, Calendars).calendars
        faults = document.problems_with(layout.mapping.types(), set(layout.mapping.activities))
        if faults:
            raise Invalid(Problem(str(procedure), 1, 1, f"{'.'.join(map(str, f.place))}: {f.message}") for f in faults)
    except Invalid as error:
        screen.fail("\n".join(str(problem) for problem in error.problems), screen.USAGE)
    try:
        now = as_of if as_of is not None else wall_clock()
        listed = ("deviating", "unknown") if with_cases else ()
        found = assessing.assess(log, document, layout, now, Clocks(kept), keep=listed)
    except UnreadableLog as error:
        screen.fail(str(error), screen.USAGE)
    cases = assessing.verdict_cases(found, listed) if with_cases else None
    answer: dict[str, Any] = {
        "log": str(log),
        "procedure": f"{document.document} version {document.version}",
        "cases": found.cases,
        "rows": found.rows,
        "checks": assessing.figures(assessing.verdict_counts(found), cases),
        "flow": assessing.flow(found.ways),
        "facts": {"never": assessing.never(found.visited, found.cases), "unmapped": dict(found.unmapped)},
        "not_judged": {r.id: r.needs for r in document.requirements if r.check == "none"},
    }
    if as_json:
        screen.json(answer)
    else:
        show_figures(f"{log.name}: {found.cases:,} cases, {found.rows:,} saves, under {answer['procedure']}", answer)
        _show_flow(answer["flow"])
        for value, count in found.unmapped.items():
            screen.say(f"gap: {value} is not in the mapping ({count} rows); these values are unknown")
    if fail_on is not None and _exceeded(document, answer, fail_on):
        raise SystemExit(screen.FINDINGS)


_TOLD = 12
"""Deviations from the flow that are shown."""


def _show_flow(flow: dict[str, Any]) -> None:
    rows = [(one["what"], one["cases"]) for one in flow["found"][:_TOLD]]
    title = f"Beside the documented flow: {flow['fit']:,} of {flow['aligned']:,} cases follow it"
    screen.table(title, ["what happened", "cases"], rows, right=["cases"])
    if len(flow["found"]) > _TOLD:
        screen.say(f"{len(flow['found']) - _TOLD} more with fewer cases; --json has all.")
    for reason, count in flow["unknown"].items():
        screen.say(f"not told of {count:,} cases: {reason}")


def _exceeded(document: Any, answer: dict[str, Any], worst: str) -> bool:
    from itsms_sync.corrective.figures import Share

    for demand in document.requirements:
        figure = answer["checks"].get(demand.check, {}).get("requirements", {}).get(demand.id)
        if figure is None or demand.severity.value > worst:
            continue
        share = Share(figure["judged"], figure["deviating"], figure["unknown"])
        at_once = demand.severity.value in ("S1", "S2")
        if (at_once and share.deviating) or share.exceeds(demand.tolerance):
            return True
    return False


@click.command(help="JSON Schemas of the files that people edit.")
@click.argument("name", required=False)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=None, help="Write all into this folder."
)
def schema(name: str | None, out: Path | None) -> None:
    models = _models()
    if out is not None:
        import orjson

        out.mkdir(parents=True, exist_ok=True)
        for key, model in models.items():
            text = orjson.dumps(model.model_json_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            (out / f"{key}.json").write_bytes(text)
        screen.say(f"{len(models)} schemas written to {out}")
        return
    if name is None:
        screen.say("\n".join(models))
        return
    if name not in models:
        screen.fail(f"there is no schema {name!r}; there are: {', '.join(models)}", screen.USAGE)
    screen.json(models[name].model_json_schema())


def _models() -> dict[str, Any]:
    from itsms_sync.corrective.texts import Texts
    from itsms_sync.procedures.model import Procedure
    from itsms_sync.settings import Settings
    from itsms_sync.sms.calendars import Calendars
    from itsms_sync.sms.mapping import LogColumns, Mapping
    from itsms_sync.sms.processes import Processes

    return {
        "settings": Settings,
        "processes": Processes,
        "mapping": Mapping,
        "procedure": Procedure,
        "calendars": Calendars,
        "columns": LogColumns,
        "texts": Texts,
    }
