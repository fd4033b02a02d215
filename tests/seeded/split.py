"""The seeded desk over two systems: incidents and requests in ServiceNow, changes in Jira, problems as pairs in both.

What one system names in the other stands in one field of each: ServiceNow's holds the issue's key, Jira's the number.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.seeded import jira, servicenow
from tests.seeded.desk import Desk, Link, Record

IN_SERVICENOW = ("incident", "service_request", "problem")
IN_JIRA = ("problem", "change")
FOREIGN = "correlation_id"


def tables(desk: Desk) -> dict[str, Any]:
    """ServiceNow's half. Problems name their issue; incidents the change that repaired them, and those that others were
    merged into their problem, by the issue's key.
    """
    keys, by_key = jira.keys(desk), _problems_of_merged(desk)
    extra = {record.case: {FOREIGN: keys[record.case]} for record in desk.records if record.process == "problem"}
    extra |= {record.case: {FOREIGN: keys[link.to]} for record, link in _across(desk, IN_SERVICENOW, IN_JIRA)}
    extra |= {case: {FOREIGN: keys[problem]} for case, problem in by_key.items()}
    records = [replace(record, links=()) if record.case in by_key else record for record in desk.records]
    return servicenow.tables(_told_to(replace(desk, records=tuple(records)), "servicenow"), IN_SERVICENOW, extra)


def _told_to(desk: Desk, tool: str) -> Desk:
    """The desk without the saves of which only the other system was told."""
    records = [replace(r, saves=tuple(save for save in r.saves if save.tool in ("", tool))) for r in desk.records]
    return replace(desk, records=tuple(records))


def _problems_of_merged(desk: Desk) -> dict[str, str]:
    """case -> its problem, of incidents into which others were merged."""
    merged = {link.to for record in desk.records for link in record.links if link.role == "parent"}
    links = [(record.case, link) for record in desk.records if record.case in merged for link in record.links]
    return {case: link.to for case, link in links if link.role == "problem"}


def site(desk: Desk) -> dict[str, Any]:
    """Jira's half: problems name their record, changes the incident that triggered them."""
    numbers = servicenow.numbers(desk)
    field = jira.COUNTERPART
    extra = {record.case: {field: numbers[record.case]} for record in desk.records if record.process == "problem"}
    extra |= {record.case: {field: numbers[link.to]} for record, link in _across(desk, IN_JIRA, IN_SERVICENOW)}
    return jira.site(_told_to(desk, "jira"), IN_JIRA, extra)


def _across(desk: Desk, here: tuple[str, ...], there: tuple[str, ...]) -> Iterator[tuple[Record, Link]]:
    """Links of records that are only here to records that are only there."""
    process = {record.case: record.process for record in desk.records}
    for record in desk.records:
        for link in record.links:
            only_here = record.process in here and record.process not in there
            # The one field for the other system tells what repaired an incident; there is none for what caused it.
            if only_here and link.role != "caused_by" and process[link.to] in there and process[link.to] not in here:
                yield record, link
