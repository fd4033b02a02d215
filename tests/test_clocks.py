"""Clocks that lie: what two of them say of each other, and that no step of any of them loses a row.

Ours is a parameter. Those of the simulators are set at their control address, stamps and all, or only the header that
dates an answer.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from itsms_sync.clocks import FURTHEST, STEP_FROM, reach, skew
from itsms_sync.configuration import read_configuration
from itsms_sync.store import reports
from itsms_sync.store.schema import payload, record
from itsms_sync.wiring import Time, Wired, make_stop, wall_clock, wired
from tests.conftest import ROOT

MINUTE, HOUR = 60_000, 3_600_000
NOW = 1_800_000_000_000
CLOCK = st.integers(NOW - 30 * 24 * HOUR, NOW + 30 * 24 * HOUR)


# --- what two clocks say of each other


@pytest.mark.parametrize(
    ("server", "before", "after", "ahead"),
    [
        (NOW, NOW, NOW, 0),
        (NOW - 999, NOW, NOW + 5, 0),  # a date is cut to the second
        (NOW + 10 * MINUTE, NOW, NOW + 100, 10 * MINUTE - 100),
        (NOW - 10 * MINUTE, NOW, NOW + 100, 1000 - 10 * MINUTE),
        (NOW, NOW, NOW + 15 * MINUTE, 0),  # a slow answer is no difference
        (None, NOW, NOW, None),
    ],
)
def test_a_difference_is_what_no_wait_explains(server: int | None, before: int, after: int, ahead: int | None) -> None:
    assert ahead == skew(server, before, after)


@given(CLOCK, st.integers(-HOUR, HOUR), st.integers(0, 20 * MINUTE), st.floats(0, 1))
def test_no_difference_is_overstated(now: int, off: int, lasted: int, when: float) -> None:
    """``off`` is the truth; the source looked at its clock somewhere in the middle and cut it to the second."""
    server = (now + int(lasted * when) + off) // 1000 * 1000
    told = skew(server, now, now + lasted)
    assert told is not None
    assert min(0, off) <= told <= max(0, off)


@pytest.mark.parametrize(
    ("before", "now", "back"),
    [
        (None, -10 * MINUTE, 0),
        (10 * MINUTE, None, 0),
        (0, 10 * MINUTE, 0),
        (STEP_FROM, 1, 0),
        (10 * MINUTE, 0, 10 * MINUTE),
        (0, -2 * HOUR, 2 * HOUR),
        (400 * 24 * HOUR, 0, FURTHEST),
    ],
)
def test_a_poll_reaches_back_by_the_step(before: int | None, now: int | None, back: int) -> None:
    assert back == reach(before, now)


# --- desks whose clocks are set


@dataclass
class OurClock:
    """The machine's, off by some milliseconds."""

    off: int = 0

    def __call__(self) -> int:
        return wall_clock() + self.off


class Served:
    """A simulator, and people who make records there."""

    def __init__(self, simulator: Any, system: str) -> None:
        self.simulator = simulator
        self.system = system
        self.made: set[str] = set()

    def own(self, path: str, body: Mapping[str, Any]) -> None:
        requests.post(self.simulator.url + path, json=body, timeout=5).raise_for_status()

    def set_clock(self, seconds: float) -> None:
        self.own("/_sim/clock", {"advance": seconds})

    def make(self) -> str:
        """Somebody opens a ticket now, by the clock there."""
        place = f"made-{len(self.made)}"
        if self.system == "servicenow":
            answer = requests.post(
                f"{self.simulator.url}/api/now/table/incident",
                json={"short_description": place},
                auth=("itsms", "secret"),
                timeout=5,
            )
            found = str(answer.json()["result"]["sys_id"])
        else:
            kind = {"project": {"key": "CAPA"}, "issuetype": {"name": "Corrective action"}}
            answer = requests.post(
                f"{self.simulator.url}/rest/api/2/issue",
                json={"fields": {**kind, "summary": place}},
                auth=("bot@example.com", "token"),
                timeout=5,
            )
            found = str(answer.json()["id"])
        self.made.add(found)
        return found


CREDENTIALS: Mapping[str, Any] = {
    "servicenow": {"username": "itsms", "password": {"file": "secret.txt"}},
    "jira": {"username": "bot@example.com", "token": {"file": "secret.txt"}},
}
SECRETS = {"servicenow": "secret", "jira": "token"}
OPTIONS: Mapping[str, Any] = {"servicenow": {}, "jira": {"projects": ["CAPA"]}}


class Reader:
    """The program over one source, with a clock of its own; a new process each time it is opened."""

    def __init__(self, folder: Path, served: Served, overlap: str = "PT2M") -> None:
        self.folder = folder
        self.clock = OurClock()
        (folder / "secret.txt").write_text(SECRETS[served.system])
        self.config = folder / "itsms_sync.yaml"
        source = {
            "system": served.system,
            "url": served.simulator.url,
            "credential": CREDENTIALS[served.system],
            "options": OPTIONS[served.system],
            "overlap": overlap,
        }
        settings = {
            "database": "sqlite:///itsms.db",
            "documents": str(ROOT / "mappings"),
            "sources": {"desk": source},
        }
        self.config.write_text(json.dumps(settings))

    @contextmanager
    def process(self) -> Iterator[Wired]:
        with wired(
            read_configuration(self.config), stop=make_stop(), progress=lambda *_: None, time=Time(wall=self.clock)
        ) as parts:
            yield parts


def ids(parts: Wired) -> set[str]:
    """Records that were read as a whole, not only named by their history."""
    with parts.engine.begin() as connection:
        return set(connection.execute(select(record.c.native_id).where(record.c.updated_at.is_not(None))).scalars())


def doubled(parts: Wired) -> int:
    with parts.engine.begin() as connection:
        rows = connection.execute(select(payload.c.stream, payload.c.row_key, payload.c.digest)).all()
    return len(rows) - len(set(rows))


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    from connectors.jira.simulator import serve as serve_jira
    from connectors.servicenow.simulator import serve as serve_servicenow

    running: list[Any] = []

    def begin(system: str, **options: str) -> Served:
        data = [] if system == "servicenow" else [Path("itsm")]
        running.append((serve_servicenow if system == "servicenow" else serve_jira)(data=data, options=options))
        return Served(running[-1], system)

    yield begin
    for simulator in running:
        simulator.stop()


SYSTEMS = ("servicenow", "jira")
Step = tuple[str, float]
"""Whose clock is set, and by how many seconds."""
UNSEEN_S = 300
"""How much later the next look comes."""
STORIES: Mapping[str, Sequence[Step]] = {
    "theirs was 10 minutes ahead and is put right": [("theirs", 600), ("theirs", -600)],
    "theirs was 10 minutes behind and is put right": [("theirs", -600), ("theirs", 600)],
    "theirs 2 hours forth and back": [("theirs", 7200), ("theirs", -7200)],
    "ours 2 hours forth and back": [("ours", 7200), ("ours", -7200)],
    "ours 2 hours back and forth": [("ours", -7200), ("ours", 7200)],
    "both at once, against each other": [("both", 600), ("both", -600)],
}


QUICK = {
    ("theirs was 10 minutes ahead and is put right", "servicenow", True),
    ("theirs 2 hours forth and back", "jira", True),
    ("ours 2 hours forth and back", "servicenow", False),
}
"""The others are the same with more patience."""


@pytest.mark.parametrize(
    ("story", "system", "restarts"),
    [
        pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow)
        for each in product(STORIES, SYSTEMS, (True, False))
    ],
)
def test_no_step_of_any_clock_loses_or_doubles_a_row(
    serve: Serve, tmp_path: Path, system: str, story: str, restarts: bool
) -> None:
    served = serve(system)
    reader = Reader(tmp_path, served)
    with ExitStack() as process:
        parts = process.enter_context(reader.process())
        _told(served, parts)
        for whose, seconds in STORIES[story]:
            if whose in ("theirs", "both"):
                served.set_clock(seconds)
            if whose in ("ours", "both"):
                reader.clock.off += round((-seconds if whose == "both" else seconds) * 1000)
            # What is stamped between the step and the next look, a cursor may be past already; and that look may come
            # later than the overlap of windows reaches back.
            served.make()
            served.set_clock(UNSEEN_S)
            reader.clock.off += UNSEEN_S * 1000
            if restarts:
                process.close()
                parts = process.enter_context(reader.process())
            _told(served, parts)


def _told(served: Served, parts: Wired) -> None:
    served.make()
    report = parts.run_cycle(dry_run=True)
    assert [None] == [source.problem for source in report.sources]
    assert served.made <= ids(parts)
    assert 0 == doubled(parts)


FORTH_AND_BACK = [pytest.param("600", marks=pytest.mark.slow), "-600"]


@pytest.mark.parametrize("date_offset", FORTH_AND_BACK)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_header_that_lies_by_ten_minutes_loses_nothing(
    serve: Serve, tmp_path: Path, system: str, date_offset: str
) -> None:
    served = serve(system, date_offset=date_offset)
    with Reader(tmp_path, served).process() as parts:
        for _ in range(3):
            _told(served, parts)


@pytest.mark.parametrize("offset", FORTH_AND_BACK)
@pytest.mark.parametrize("system", SYSTEMS)
def test_status_measures_the_difference(serve: Serve, tmp_path: Path, system: str, offset: str) -> None:
    served = serve(system, clock_offset=offset)
    with Reader(tmp_path, served).process() as parts:
        (told,) = parts.run_cycle(dry_run=True).figures()["sources"].values()
        with parts.engine.begin() as connection:
            (source,) = reports.sources(connection)
    assert pytest.approx(float(offset), abs=5) == told["clock_ahead_s"]
    assert pytest.approx(float(offset) * 1000, abs=5000) == source["skew"]
    fresh = wall_clock() + source["skew"] - source["covered_until_at"]
    assert abs(fresh) < 30_000, "how old the newest look is, whatever the clocks say"


@pytest.mark.parametrize("date_offset", FORTH_AND_BACK)
def test_jira_dates_its_answers_by_the_clock_that_stamps_issues(serve: Serve, tmp_path: Path, date_offset: str) -> None:
    """Else the horizon before which nothing can turn up any more would be off by what a proxy's clock is off."""
    served = serve("jira", date_offset=date_offset)
    with Reader(tmp_path, served).process() as parts:
        _told(served, parts)
        with parts.engine.begin() as connection:
            (source,) = reports.sources(connection)
    assert abs(source["skew"]) < 5000
    assert abs(wall_clock() - source["covered_until_at"]) < 30_000
