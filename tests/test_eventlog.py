"""Event logs in every form that can be read give the same cases; what cannot be read is told with its place."""

import gzip
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itsms_sync import assessing
from itsms_sync.configuration import read_document
from itsms_sync.eventlog import UnreadableLog, opened
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.mapping import LogColumns

MAPPINGS = Path(__file__).parent.parent / "mappings"
SHIPPED = read_document(MAPPINGS / "procedures" / "incident.yaml", Procedure)
WORKED_ON = tuple(r for r in SHIPPED.requirements if r.id == "INC-I5-WORK")
PROCEDURE = SHIPPED.model_copy(update={"short_cuts": (), "requirements": WORKED_ON})
NOW = 1_900_000_000_000
ROWS = [
    ("INC1", "2026-03-02 08:00:00", "New", "ann"),
    ("INC1", "2026-03-02 09:00:00", "Work", "bob"),
    ("INC1", "2026-03-02 10:00:00", "Done", "bob"),
    ("INC2", "2026-03-02 08:30:00", "New", "ann"),
    ("INC2", "2026-03-02 08:45:00", "Done", ""),
]


def columns(case: str = "id", time: str = "when", state: str = "what", actor: str = "who") -> LogColumns:
    given_ = {
        "document": "COL",
        "version": "1",
        "process": "incident",
        "case": case,
        "time": time,
        "time_format": "%Y-%m-%d %H:%M:%S",
        "actor": actor,
        "mapping": {
            "kind": "incident",
            "attributes": {
                "opened": {"field": time, "type": "instant"},
                "state": {"field": state, "values": {"New": "new", "Work": "work", "Done": "resolved"}},
            },
            "activities": {"work": {"when": "state = 'work'"}, "resolve": {"when": "state = 'resolved'"}},
        },
    }
    return LogColumns.model_validate(given_)


def read(path: Path, layout: LogColumns) -> pl.DataFrame:
    with opened(path, layout) as log:
        return pl.concat(log.batches())


XES_COLUMNS = columns("case:concept:name", "time:timestamp", "concept:name", "org:resource")


def csv(path: Path) -> LogColumns:
    pl.DataFrame(ROWS, schema=["id", "when", "what", "who"], orient="row").write_csv(path)
    return columns()


def parquet(path: Path) -> LogColumns:
    frame = pl.DataFrame(ROWS, schema=["id", "when", "what", "who"], orient="row")
    at = pl.col("when").str.to_datetime().dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    frame.with_columns(at, pl.col("what").cast(pl.Categorical)).write_parquet(path)
    return columns()


def xes_text(attribute: Callable[[str, str, str], str] | None = None) -> str:
    told = attribute or (lambda type_, key, value: f"<{type_} key={quoteattr(key)} value={quoteattr(value)}/>")
    traces = []
    for case in dict.fromkeys(row[0] for row in ROWS):
        events = [
            "<event>"
            + told("date", "time:timestamp", at.replace(" ", "T") + ".000+00:00")
            + told("string", "concept:name", what)
            + (told("string", "org:resource", who) if who else "")
            + "</event>"
            for name, at, what, who in ROWS
            if name == case
        ]
        traces.append("<trace>" + told("string", "concept:name", case) + "".join(events) + "</trace>")
    return (
        '<?xml version="1.0" encoding="UTF-8"?><log xes.version="1.0" xmlns="http://www.xes-standard.org/">'
        '<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>'
        '<global scope="event"><string key="org:resource" value="timer"/></global>' + "".join(traces) + "</log>"
    )


def xes(path: Path) -> LogColumns:
    path.write_text(xes_text())
    return XES_COLUMNS


def xes_gz(path: Path) -> LogColumns:
    path.write_bytes(gzip.compress(xes_text().encode()))
    return XES_COLUMNS


@pytest.mark.parametrize(
    ("name", "write"), [("log.csv", csv), ("log.parquet", parquet), ("log.xes", xes), ("log.xes.gz", xes_gz)]
)
def test_every_form_is_judged_alike(tmp_path: Path, name: str, write: Callable[[Path], LogColumns]) -> None:
    path = tmp_path / name
    found = assessing.assess(path, PROCEDURE, write(path), NOW)
    assert (2, 5) == (found.cases, found.rows)
    assert ["INC2"] == [
        row["case"] for row in assessing.verdict_cases(found, ["deviating"]) if row["requirement"] == "INC-I5-WORK"
    ]


def test_instants_of_any_offset_are_one_time(tmp_path: Path) -> None:
    path = tmp_path / "log.xes"
    path.write_text(
        xes_text().replace("T08:00:00.000+00:00", "T03:00:00-05:00").replace("T08:30:00.000+00:00", "T08:30:00Z")
    )
    assert ["2026-03-02 08:00:00", "2026-03-02 08:30:00"] == [
        at for at, what in read(path, XES_COLUMNS).select("time:timestamp", "concept:name").iter_rows() if what == "New"
    ]


def test_what_an_event_leaves_out_is_what_the_log_declares(tmp_path: Path) -> None:
    path = tmp_path / "log.xes"
    xes(path)
    assert "timer" == read(path, XES_COLUMNS)["org:resource"][-1]


BOMB = '<?xml version="1.0"?><!DOCTYPE log [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><log>&b;</log>'
EMPTY = '<log xmlns="http://www.xes-standard.org/"></log>'


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("log.xes", b"<log><trace>\n<event></trace></log>", r"log\.xes:2:\d+: not readable as XES: mismatched tag"),
        ("log.xes", b"<html></html>", "there is no <log>"),
        ("log.xes", BOMB.encode(), "document type of its own is refused"),
        ("log.xes", EMPTY.encode(), "there are no rows"),
        ("log.xes", xes_text().replace("2026-03-02T08:00", "yesterday").encode(), "is no instant of XES"),
        ("log.xes.gz", b"<log></log>", "it is not compressed; rename it to log.xes"),
        ("log.xes", gzip.compress(b"<log></log>", mtime=0), "it is compressed; rename it to log.xes.gz"),
        ("log.xes.gz", gzip.compress(xes_text().encode(), mtime=0)[:200], "not readable"),
        ("log.parquet", b"PAR1 no", "not readable as Parquet"),
        ("log.xlsx", b"PK", "only .csv, .csv.gz, .xes, .xes.gz, .parquet can be read"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableLog, match=told) as refused:
        read(path, XES_COLUMNS)
    assert str(path) in str(refused.value)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).map(str.strip).filter(bool))
def test_any_text_comes_through(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("xes") / "log.xes"
    path.write_text(xes_text().replace('value="Done"', f"value={quoteattr(text)}"), encoding="utf-8")
    assert text in read(path, XES_COLUMNS)["concept:name"].to_list()
