"""Both changes of daylight saving in three zones: the same verdicts, and nothing lost, wherever the hour is skipped or
comes twice: in the account's zone, in the stamps of the site, in the zone of our own process.

Berlin and New York change by an hour, Lord Howe by half of one. What is expected is worked out in UTC alone.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from itsms_sync.configuration import read_configuration
from itsms_sync.corrective.figures import closed_months
from itsms_sync.store import reports
from itsms_sync.wiring import make_stop, wall_clock, wired
from tests.conftest import ROOT
from tests.seeded import jira, servicenow
from tests.seeded.desk import Desk, Record, Save, desk
from tests.test_clocks import Reader, Serve, ids
from tests.test_clocks import serve as serve

BERLIN, NEW_YORK, LORD_HOWE, NEPAL = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"
CHANGES: Mapping[str, tuple[datetime, datetime]] = {
    BERLIN: (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC)),
    NEW_YORK: (datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2025, 11, 2, 6, tzinfo=UTC)),
    LORD_HOWE: (datetime(2025, 10, 4, 15, 30, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC)),
}
"""Zone -> when its clocks are put forth and back."""
OPENED_BEFORE = (1, 5, 14)
"""Minutes before the change at which an incident is opened, so that its time limits run over it."""
FIRST, LAST = datetime(2025, 9, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("zone", CHANGES)
def test_the_zones_change_when_we_say(zone: str) -> None:
    for change in CHANGES[zone]:
        before, after = (moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in (change - MINUTE, change))
        assert before != after


# --- cases whose limits run over the change


def _incident(case: str, opened: datetime, answered: int, resolved: int) -> Record:
    """Of priority 1; ``answered`` and ``resolved`` in minutes since it was opened."""
    urgent = next(r for r in desk().records if r.process == "incident" and r.attributes["priority"] == "1")
    work, solved = (
        {"state": "work", "assignee": "nils"},
        {"state": "resolved", "close_code": "solved", "close_notes": "Done."},
    )
    saves = (
        Save(opened + answered * MINUTE, "nils", work),
        Save(opened + resolved * MINUTE, "nils", solved),
        Save(opened + timedelta(days=5), "timer", {"state": "closed"}),
    )
    return replace(urgent, case=case, opened=opened, saves=saves, links=())


def _over(zone: str) -> tuple[Desk, set[tuple[str, str]]]:
    """A desk of incidents over both changes of the zone, and which requirement which of them breaks."""
    records, broken = [], set()
    for number, change in enumerate(CHANGES[zone]):
        for before in OPENED_BEFORE:
            for answered, resolved in ((14, 239), (16, 239), (14, 241)):
                case = f"D{number}-{before}-{answered}-{resolved}"
                records.append(_incident(case, change - before * MINUTE, answered, resolved))
                broken |= {(case, "INC-RESPONSE-P1")} if answered > 15 else set()
                broken |= {(case, "INC-RESOLVE-P1")} if resolved > 240 else set()
    return replace(desk(), records=tuple(sorted(records, key=lambda r: (r.opened, r.case)))), broken


@contextmanager
def _process_in(zone: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        os.environ.update({} if before is None else {"TZ": before})
        time.tzset()


def _offset(zone: str) -> str:
    return str(int((datetime(2026, 1, 1, tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset() or MINUTE).total_seconds()))


Served = tuple[str, Any, dict[str, str]]
"""System, data, options of the simulator."""
WAYS: Mapping[str, Callable[[Desk, str], Served]] = {
    "servicenow": lambda told, zone: (
        "servicenow",
        servicenow.tables(told),
        {"plugins": "cim,major", "user_offset": _offset(zone)},
    ),
    "jira-cloud": lambda told, zone: ("jira", jira.site(told), {"timezone": zone}),
    "jira-data-center": lambda told, zone: (
        "jira",
        jira.site(told),
        {"timezone": zone, "edition": "datacenter", "context": "/jira"},
    ),
}
LABELS = {"servicenow": servicenow.numbers, "jira": jira.keys}
ELSEWHERE = {BERLIN: LORD_HOWE, NEW_YORK: NEPAL, LORD_HOWE: BERLIN}
"""Zone of the site -> zone of our own process."""


QUICK = {("servicenow", LORD_HOWE), ("jira-cloud", BERLIN), ("jira-data-center", NEW_YORK)}
"""The others are the same with more patience."""


@pytest.mark.parametrize(
    ("way", "zone"),
    [pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow) for each in product(WAYS, CHANGES)],
)
def test_limits_that_run_over_a_change_are_as_long_as_they_are(tmp_path: Path, way: str, zone: str) -> None:
    told, broken = _over(zone)
    system, data, options = WAYS[way](told, zone)
    with _process_in(ELSEWHERE[zone]), _simulated(tmp_path, system, data, options) as simulator:
        found = _deviating(tmp_path, system, simulator.url, options)
    cases = {label: case for case, label in LABELS[system](told).items()}
    ours = {(cases[label], requirement) for label, requirement in found}
    assert broken == {pair for pair in ours if pair[1] in ("INC-RESPONSE-P1", "INC-RESOLVE-P1")}


@contextmanager
def _simulated(folder: Path, system: str, data: Any, options: Mapping[str, str]) -> Iterator[Any]:
    from connectors.jira.simulator import serve as serve_jira
    from connectors.servicenow.simulator import serve as serve_servicenow

    path = folder / "desk.json"
    path.write_text(json.dumps(data), "utf-8")
    begin = {"jira": serve_jira, "servicenow": serve_servicenow}[system]
    simulator = begin(data=[*([Path("itsm")] if system == "jira" else []), path], options=options)
    try:
        yield simulator
    finally:
        simulator.stop()


def _deviating(folder: Path, system: str, url: str, options: Mapping[str, str]) -> set[tuple[str, str]]:
    """(label, requirement) of all that deviates."""
    (folder / "secret.txt").write_text("secret" if system == "servicenow" else "token")
    secret = "password" if system == "servicenow" else "token"
    person = {"servicenow": {"username": "itsms"}, "cloud": {"username": "bot@example.com"}, "datacenter": {}}
    edition = "servicenow" if system == "servicenow" else options.get("edition", "cloud")
    source = {
        "system": system,
        "url": url,
        "credential": {**person[edition], secret: {"file": "secret.txt"}},
        "options": {} if system == "servicenow" else {"projects": [jira.PROJECT]},
    }
    settings = {
        "database": "sqlite:///itsms.db",
        "documents": str(ROOT / "mappings"),
        "sources": {"desk": source},
    }
    (folder / "itsms_sync.yaml").write_text(json.dumps(settings))
    configuration = read_configuration(folder / "itsms_sync.yaml")
    with wired(configuration, stop=make_stop(), progress=lambda *_: None) as parts:
        report = parts.run_cycle(dry_run=True)
        assert [None] == [each.problem for each in report.sources]
        with parts.engine.begin() as connection:
            rows = reports.deviations(connection, "incident", None, "open", 1000)
    return {(row["case"], row["requirement"]) for row in rows}


# --- polls while the hour is skipped or comes twice


FORTH, BACK = 0, 1
QUICK_POLLS = {("servicenow", BERLIN, BACK), ("jira", LORD_HOWE, FORTH), ("jira", NEW_YORK, BACK)}


@pytest.mark.parametrize(
    ("system", "zone", "place"),
    [
        pytest.param(*each, marks=() if each in QUICK_POLLS else pytest.mark.slow)
        for each in product(("servicenow", "jira"), CHANGES, (FORTH, BACK))
    ],
)
def test_what_is_made_around_a_change_is_read_once(
    serve: Serve, tmp_path: Path, system: str, zone: str, place: int
) -> None:
    start = CHANGES[zone][place] - 40 * MINUTE
    offset = start.timestamp() - wall_clock() / 1000
    zoned = {"timezone": zone} if system == "jira" else {"user_offset": _offset(zone)}
    served = serve(system, clock_offset=str(offset), **zoned)
    reader = Reader(tmp_path, served)
    reader.clock.off = round(offset * 1000)
    with _process_in(zone), reader.process() as parts:
        for minutes in (0, 25, 10, 4, 2, 20, 31, 60):
            served.set_clock(minutes * 60)
            reader.clock.off += minutes * 60_000
            served.make()
            report = parts.run_cycle(dry_run=True)
            assert [None] == [source.problem for source in report.sources]
            assert served.made <= ids(parts)


@pytest.mark.parametrize("zone", [*CHANGES, NEPAL])
def test_months_end_in_utc_wherever_the_process_runs(zone: str) -> None:
    with _process_in(zone):
        months = list(closed_months(round(FIRST.timestamp() * 1000), round(LAST.timestamp() * 1000)))
    starts = [datetime.fromtimestamp(month.start / 1000, UTC) for month in months]
    assert [(2025, 9 + n) if n < 4 else (2026, n - 3) for n in range(9)] == [(at.year, at.month) for at in starts]
    assert {(1, 0, 0)} == {(at.day, at.hour, at.minute) for at in starts}
    assert all(one.end == other.start for one, other in pairwise(months))
