"""``docs/evidence.md`` against the documents that it explains: no step, requirement or check is left out, and what it
names as a column of ServiceNow is one that the mapping asks for.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from itsms_sync.configuration import read_library
from itsms_sync.conformance.catalogue import CHECKS
from itsms_sync.procedures.library import Library

ROOT = Path(__file__).parent.parent
PROCESSES = ("incident", "service_request", "problem", "change", "corrective_action")
SYSTEMS = ("ServiceNow", "JSM Cloud", "JSM Data Center")
RANGE = re.compile(r"\b([A-Z][A-Z0-9-]*-P)(\d) to P(\d)\b")


@cache
def page() -> str:
    return (ROOT / "docs" / "evidence.md").read_text("utf-8")


@cache
def library() -> Library:
    return read_library(ROOT / "mappings")


def section(process: str) -> str:
    """The text about one process; ranges of requirements are written out."""
    text = page().split(f"(`mappings/procedures/{process}.yaml`)")[1].split("\n## ")[0]
    return RANGE.sub(lambda m: " ".join(f"{m[1]}{n}" for n in range(int(m[2]), int(m[3]) + 1)), text)


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of the tables, headers included."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|--"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_process_with_a_procedure_is_told() -> None:
    assert set(PROCESSES) == set(library().procedures)


@pytest.mark.parametrize("process", PROCESSES)
def test_every_documented_step_has_a_row(process: str) -> None:
    told = {row[0].split(" ")[0].rstrip(":") for row in rows(section(process))}
    assert [] == [step.id for step in library().procedures[process][-1].steps if step.id not in told]


@pytest.mark.parametrize("process", PROCESSES)
def test_every_row_tells_of_each_system(process: str) -> None:
    found = list(rows(section(process)))
    assert ["step", *SYSTEMS, "unknown, and why"] == found[0]
    assert [] == [row for row in found if len(row) != len(found[0]) or not all(row[: 1 + len(SYSTEMS)])]


@pytest.mark.parametrize("process", PROCESSES)
def test_every_judged_requirement_is_named_where_its_evidence_is(process: str) -> None:
    named = set(re.findall(r"\b[A-Z]+(?:-[A-Z0-9]+)+\b", section(process)))
    judged = {r.id for r in library().procedures[process][-1].requirements if r.check in CHECKS}
    assert judged == {name for name in named if name.split("-")[0] in {id.split("-")[0] for id in judged}}


@pytest.mark.parametrize("process", PROCESSES)
def test_columns_of_servicenow_are_those_that_are_read(process: str) -> None:
    mapped = library().mappings["servicenow"].processes[process]
    described = [mapped, *(part for _, part in mapped.parts.named())]
    read = {name for one in described for name in (one.kind, *one.asked_fields())}
    # A link of an incident or problem is seen from the change as well.
    others = library().mappings["servicenow"].processes.values()
    read |= {link.field for other in others for link in other.links.values()}
    named = {word for row in rows(section(process)) for word in re.findall(r"`([a-z_]+)`", row[1])}
    assert set() == named - read


def test_every_check_is_told() -> None:
    text = page().split("## What each check reads")[1]
    told = {id for row in rows(text) for id in re.findall(r"\b[A-Z]{2}\d+\b", row[0])}
    assert set(CHECKS) == told
