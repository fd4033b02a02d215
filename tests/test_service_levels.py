"""What a record of a service level tells: its stage in our words, and whether its clock has run at all."""

from pathlib import Path

import polars as pl
import pytest

from itsms_sync.configuration import read_document
from itsms_sync.sms.cases import RECORDS
from itsms_sync.sms.mapping import Mapping, Part
from itsms_sync.sms.parts import PartFacts, levels

MAPPINGS = Path(__file__).parent.parent / "mappings"
START = 1_772_438_400_000
"""2026-03-02 08:00 UTC in ms."""
HOUR = 3_600_000


def shipped(system: str) -> Part:
    part = read_document(MAPPINGS / f"{system}.yaml", Mapping).processes["incident"].parts.slas
    assert part is not None
    return part


def told(part: Part, now: int = START + 9 * HOUR, **fields: str | None) -> list[dict[str, object]]:
    """The levels of one case whose only record has these fields."""
    values: dict[str, object] = {"case": 0, "_created": START, "_updated": START, "_version": 0, **fields}
    schema = {name: RECORDS.get(name, pl.String) for name in values}
    owners = pl.DataFrame({"part": [0], "case": [7], "id": ["x"]}, schema_overrides={"part": pl.UInt32})
    records = pl.DataFrame([values], schema=schema)
    return levels(PartFacts(records, pl.DataFrame(), owners, frozenset(), frozenset()), part, now).to_dicts()


AT = "2026-03-02 08:00:00"
NONE = "1970-01-01 00:00:00"


@pytest.mark.parametrize(
    ("stage", "pause_time", "end_time", "pause_duration", "word", "idle"),
    [
        ("in_progress", "", "", NONE, "running", False),
        ("in_progress", "", "", "1970-01-01 01:00:00", "running", False),
        ("paused", AT, "", NONE, "paused", True),
        ("paused", "2026-03-02 08:00:01", "", NONE, "paused", False),
        ("paused", "", "", NONE, "paused", None),
        ("completed", "", "2026-03-02 10:00:00", "1970-01-01 02:00:00", "completed", True),
        ("completed", "", "2026-03-02 10:00:00", "1970-01-01 01:59:59", "completed", False),
        ("completed", "", AT, NONE, "completed", False),
        ("completed", "", "2026-03-02 10:00:00", None, "completed", None),
        ("cancelled", "", "2026-03-02 10:00:00", NONE, "cancelled", False),
        ("suspended", "", "", NONE, None, None),
        (None, "", "", NONE, None, None),
    ],
)
def test_stages_of_servicenow(
    stage: str | None, pause_time: str, end_time: str, pause_duration: str | None, word: str | None, idle: bool | None
) -> None:
    fields = {"stage": stage, "pause_time": pause_time, "end_time": end_time, "pause_duration": pause_duration}
    (row,) = told(shipped("servicenow"), start_time=AT, **fields)
    assert (7, word, START, idle, False) == tuple(row[name] for name in ("case", "stage", "at", "idle", "gone"))


def test_one_that_is_attached_later_is_not_there_yet() -> None:
    assert [] == told(shipped("servicenow"), now=START, start_time="2026-03-02 08:00:01", stage="in_progress")


@pytest.mark.parametrize(
    ("ongoing", "cycles", "word"),
    [("true", "0", "running"), ("true", "2", "running"), ("false", "1", "completed"), ("false", "0", "never")],
)
def test_stages_of_jira(ongoing: str, cycles: str, word: str) -> None:
    (row,) = told(shipped("jira"), ongoing=ongoing, cycles=cycles)
    assert (word, START) == (row["stage"], row["at"])


def test_a_mapping_without_words_tells_nothing() -> None:
    part = shipped("servicenow")
    bare = part.model_copy(update={"attributes": {"name": part.attributes["name"]}})
    (row,) = told(bare, sla="Resolve", stage="in_progress")
    assert (None, START, None) == (row["stage"], row["at"], row["idle"])
