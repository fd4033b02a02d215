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
                "state": {
                    "field": state,
                    "values": {"New": "new", "Work": "work", "Done": "resolved", "Shut": "closed"},
                },
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
        ("log.xes.gz", gzip.compress(xes_text().encode(), mtime=0)[:200], "compressed data is damaged"),
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


# --- batches

EARLIER = 1_772_625_600_000
"""2026-03-04T12:00Z, ms: when some saves must not be seen yet."""
CHECKED = ("INC-I5-WORK", "INC-FLOW", "INC-REOPEN")
SEVERAL = SHIPPED.model_copy(
    update={"short_cuts": (), "requirements": tuple(r for r in SHIPPED.requirements if r.id in CHECKED)}
)
MANY = [
    (f"INC{number}", f"2026-03-{day:02} {hour:02}:{number % 60:02}:00", what, who)
    for number in range(20)
    for day, hour, what, who in [
        (2, 8, "New", "ann"),
        *([(3, 9, "Work", "bob")] if number % 3 else []),
        *([(4, 9, "Odd", "")] if number % 7 == 0 else []),
        *([(5, 10, "Done", "bob"), (6, 8, "Work", "eve")][: 1 + number % 2] if number % 5 else []),
        *([(7, 10, "Shut", "bob")] if number % 4 else []),
    ]
]


def by_case(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return rows


def by_time(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """As systems export it: the saves of all cases in their order."""
    return sorted(rows, key=lambda row: row[1])


def one_goes_on(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Only the first case is not in one place."""
    return [*rows[:1], *rows[2:], rows[1]]


def write_rows(path: Path, rows: list[tuple[str, ...]]) -> None:
    frame = pl.DataFrame(rows, schema=["id", "when", "what", "who"], orient="row")
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path)


def answers(found: assessing.Assessment) -> tuple[object, ...]:
    """All that an assessment tells."""
    verdicts = found.verdicts.sort("id", "requirement")
    flow = assessing.flow(found.ways)
    counts = assessing.verdict_counts(found)
    return found.cases, found.rows, counts, verdicts.rows(), dict(found.visited), dict(found.unmapped), flow


@pytest.mark.parametrize(("name", "order"), [("log.csv", by_case), ("log.csv", by_time), ("log.parquet", one_goes_on)])
@pytest.mark.parametrize("rows", [3, 25])
def test_batches_of_any_size_give_the_same_answers(
    tmp_path: Path, rows: int, name: str, order: Callable[[list[tuple[str, ...]]], list[tuple[str, ...]]]
) -> None:
    write_rows(tmp_path / name, order(MANY))
    for instant in (EARLIER, NOW):
        whole = assessing.assess(tmp_path / name, SEVERAL, columns(), instant, rows=len(MANY))
        parts = assessing.assess(tmp_path / name, SEVERAL, columns(), instant, rows=rows)
        assert answers(whole) == answers(parts)
        assert (20, len(MANY)) == (whole.cases, whole.rows)
    assert set(assessing.ALL) == set(whole.verdicts["status"])
    assert 3 < assessing.flow(whole.ways)["variants"]


@pytest.mark.parametrize("rows", [1, 3])
def test_xes_is_read_in_batches(tmp_path: Path, rows: int) -> None:
    xes(tmp_path / "log.xes")
    found = [assessing.assess(tmp_path / "log.xes", PROCEDURE, XES_COLUMNS, NOW, rows=n) for n in (rows, 100)]
    assert answers(found[0]) == answers(found[1])


def test_only_what_was_to_be_kept_is_kept(tmp_path: Path) -> None:
    write_rows(tmp_path / "log.csv", MANY)
    all_, some, none = (
        assessing.assess(tmp_path / "log.csv", SEVERAL, columns(), NOW, keep=keep, rows=10)
        for keep in (assessing.ALL, ["deviating"], [])
    )
    assert all_.verdicts.filter(pl.col("status") == "deviating").equals(some.verdicts)
    assert len(some.verdicts) > 0
    assert none.verdicts.is_empty()
    assert assessing.verdict_counts(all_) == assessing.verdict_counts(none)


COUNTED = columns().model_copy(update={"saves": "number"})


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        # No time, no number, no case, a row twice: each goes before those before it, wherever it stands.
        ({3: ("INC1", "then", "Done", "bob", "4")}, "row 3: 'then' in column 'when'"),
        ({3: ("INC1", "then", "Done", "bob", "4"), 8: ("INC3", "2026", "New", "", "1")}, "row 3: 'then'"),
        ({3: ("INC1", "then", "Done", "bob", "4"), 8: ("INC3", "", "New", "", "x")}, "row 8: 'x' in column 'number'"),
        (
            {3: ("INC1", "", "Done", "bob", "x"), 5: ("INC1", "", "Done", "bob", "y"), 9: ("", "", "New", "", "z")},
            "row 9: '' in column 'id' is an empty case id",
        ),
        ({3: ("", "then", "Done", "bob", "x"), 8: ("INC2", "2026-03-02 09:00:00", "New", "ann", "3")}, "row 8 repeats"),
    ],
)
def test_of_several_faults_the_same_is_told_whatever_the_batches(
    tmp_path: Path, rows: int, wrong: dict[int, tuple[str, ...]], told: str
) -> None:
    good = [(f"INC{n // 3}", "2026-03-02 09:00:00", "New", "ann", str(n)) for n in range(2, 12)]
    good[5] = ("INC2", "2026-03-02 09:00:00", "New", "ann", "3")
    lines = [wrong.get(number, row) for number, row in enumerate(good, start=2)]
    frame = pl.DataFrame(lines, schema=["id", "when", "what", "who", "number"], orient="row")
    frame.write_csv(tmp_path / "log.csv")
    with pytest.raises(UnreadableLog, match=told):
        assessing.assess(tmp_path / "log.csv", PROCEDURE, COUNTED, NOW, rows=rows)


@pytest.mark.parametrize("rows", [1, 100])
def test_rows_that_differ_where_nobody_looks_are_two(tmp_path: Path, rows: int) -> None:
    lines = [("INC1", "2026-03-02 09:00:00", "New", "ann", "1", note) for note in ("one", "two")]
    schema = ["id", "when", "what", "who", "number", "note"]
    pl.DataFrame(lines, schema=schema, orient="row").write_csv(tmp_path / "log.csv")
    assert 2 == assessing.assess(tmp_path / "log.csv", PROCEDURE, COUNTED, NOW, rows=rows).rows


def test_a_line_that_cannot_be_read_is_told_before_all_else(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write_rows(path, [("INC0", "then", "New", "ann"), *MANY])
    with path.open("a") as file:
        file.write("INC99,2026-03-02 08:00:00,New,ann,more\n")
    with pytest.raises(UnreadableLog, match="not readable as CSV"):
        assessing.assess(path, PROCEDURE, columns(), NOW, rows=5)
