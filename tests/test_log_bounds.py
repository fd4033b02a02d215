"""Logs that are damaged or made to do harm: each was found by ``make fuzz`` or stands for what it found.

Whatever a file holds, it is read or refused in words; memory stays within what ``docs/limits.md`` states.
"""

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import polars as pl
import pytest

from itsms_sync import assessing, logfile, parquet
from itsms_sync.logfile import Refused, UnreadableLog
from tests.fuzz import logs
from tests.fuzz.subjects import SUBJECTS
from tests.fuzz.worker import watched
from tests.test_eventlog import NOW, PROCEDURE, ROWS, XES_COLUMNS, columns, xes_text

SCHEMA = ["id", "when", "what", "who"]


def told(tmp_path: Path, name: str, content: bytes) -> str:
    """The refusal of a log, without its path."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableLog) as refused:
        assessing.assess(path, PROCEDURE, XES_COLUMNS if ".xes" in name else columns(), NOW)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < 1_000
    return message.removeprefix(str(path))


def csv_text() -> bytes:
    return pl.DataFrame(ROWS, schema=SCHEMA, orient="row").write_csv().encode()


# --- compressed


def damaged(content: bytes) -> bytes:
    """The same length, and another code in the middle."""
    packed = bytearray(gzip.compress(content, mtime=0))
    packed[15:30] = bytes(15)
    return bytes(packed)


@pytest.mark.parametrize(("name", "content"), [("log.csv.gz", csv_text()), ("log.xes.gz", xes_text().encode())])
@pytest.mark.parametrize(
    "break_",
    [damaged, lambda content: gzip.compress(content)[:-9], lambda content: gzip.compress(content)[:-8] + bytes(8)],
    ids=["damaged", "cut off", "wrong sum"],
)
def test_damaged_compression_is_told(
    tmp_path: Path, name: str, content: bytes, break_: Callable[[bytes], bytes]
) -> None:
    assert "the compressed data is damaged" in told(tmp_path, name, break_(content))


@pytest.mark.parametrize(
    ("name", "begin", "filling"),
    [
        ("log.csv.gz", csv_text() + b"INC3,2026-03-02 08:30:00,New,", b"x"),
        ("log.csv.gz", csv_text(), b"\n"),
        pytest.param("log.xes.gz", xes_text().encode()[:-6], b"<trace></trace>", marks=pytest.mark.slow),
    ],
)
def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, name: str, begin: bytes, filling: bytes) -> None:
    assert "it unpacks to more than" in told(tmp_path, name, packed_bomb(begin, filling))


def packed_bomb(begin: bytes, filling: bytes) -> bytes:
    return gzip.compress(begin + filling * ((logfile.ALWAYS + (1 << 24)) // len(filling)), 9)


def test_a_log_may_come_in_several_parts_and_with_a_large_suffix(tmp_path: Path) -> None:
    half = len(csv_text()) // 2
    path = tmp_path / "LOG.CSV.GZ"
    path.write_bytes(gzip.compress(csv_text()[:half]) + gzip.compress(csv_text()[half:]) + bytes(99))
    assert 5 == assessing.assess(path, PROCEDURE, columns(), NOW).rows


# --- XES

EVENT = "<event><string key='a' value='b'/></event>"
MILLION = 1_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<?xml version="1.0" encoding="foo"?><log/>', ":1: not readable as XES: unknown encoding: foo; save it"),
        ('<?xml version="1.0" encoding="utf-7"?><log/>', ":1: not readable as XES: multi-byte encodings are not"),
        ('<!DOCTYPE log [<!ATTLIST string value CDATA "aaaa">]><log/>', ":1: XES with a document type of its own"),
        ("<log>\n" + "<a>" * 100, ":2: elements are nested in more than 50 levels"),
        ("<log>" + "".join(f"<a{n}/>" for n in range(2_000)) + "</log>", "1,000 different names of elements"),
        ("<log><trace>" + EVENT + "</trace></log>", "the log has no column"),
        (f"<log><trace>{'<event/>' * 9}</trace></log>", "there are no rows"),
        (f'<log><string key="a" value="{"x" * 2 * MILLION}"/></log>', "an element of more than 1,048,576 bytes"),
        (f"<log><!--{'x' * 2 * MILLION}--></log>", "an element of more than 1,048,576 bytes"),
        (
            "<log><trace>" + "".join(EVENT.replace("'a'", f"'k{n}'") for n in range(3_000)) + "</trace></log>",
            "more than 2,000 different keys",
        ),
        (
            f'<log><trace><string key="concept:name" value="{"x" * 500_000}"/>{"<event/>" * 2_000}</trace></log>',
            "it unpacks to more than",
        ),
        (
            f'<log><global scope="event"><string key="org:resource" value="{"x" * 500_000}"/></global>'
            f"<trace>{'<event/>' * 2_000}</trace></log>",
            "it unpacks to more than",
        ),
        (xes_text().replace("2026-03-02T08:00:00.000+00:00", "9999-12-31T23:59:59-14:00"), "is no instant of XES"),
        (xes_text().replace("2026-03-02T08:00:00.000+00:00", "0001-01-01T00:00:00+14:00"), "is no instant of XES"),
        (xes_text().replace("2026-03-02T08:00:00.000+00:00", "x" * 9_000), "is no instant of XES"),
    ],
)  # fmt: skip
def test_xes_that_is_refused(tmp_path: Path, content: str, message: str) -> None:
    assert message in told(tmp_path, "log.xes", content.encode())


def test_what_stands_around_a_log_is_passed_over(tmp_path: Path) -> None:
    """Nested attributes, other elements, and traces that lie where there are none."""
    event = '<event><string key="concept:name" value="no"/></event>'
    extra = f'<x><trace>{event}</trace></x><string key="k" value="v"/>'
    nested = '<list key="l"><values><string key="concept:name" value="Odd"/></values></list>'
    text = xes_text().replace("<trace>", extra + "<trace>").replace("<event>", "<event>" + nested)
    (tmp_path / "log.xes").write_text(text)
    found = assessing.assess(tmp_path / "log.xes", PROCEDURE, XES_COLUMNS, NOW)
    assert (2, 5, {}) == (found.cases, found.rows, dict(found.unmapped))


# --- CSV


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b",".join(b"c%d" % n for n in range(3_000)) + b"\n1", ":1: the header has more than 2,000 columns"),
        (b"x" * (1 << 21), ":1: the header has more than 2,000 columns or 1,048,576 characters"),
        (
            b'number,"' + b"\n" * 9 + b'",' + b",".join(b"c%d" % n for n in range(3_000)) + b"\n1",
            ":1: the header has more than",
        ),
        (b'number,"never ends' + b"\n" * (1 << 20), ":1: the header has more than"),
        (b",".join(b"c%d" % n for n in range(1_900)) + b"\n" * 9_000, "have far fewer cells than the 1,900 columns"),
        (csv_text().decode().encode("utf-16"), ":1: the log has no column"),
        (csv_text().replace(b"Work", b"\xff"), "not readable as CSV in UTF-8"),
        (csv_text().replace(b"Work", b'"Work'), "not readable as CSV in UTF-8"),
        (csv_text().replace(b"INC1,2026-03-02 09", b"INC1,\x1b[2J"), r"row 3: '\x1b[2J:00:00' in column 'when'"),
        (csv_text() + b"\n", "row 7: '' in column 'id' is an empty case id"),
        (b"", "not readable as CSV"),
    ],
)
def test_csv_that_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in told(tmp_path, "log.csv", content)


OURS = (
    "case",
    "at",
    "actor",
    "id",
    "missed",
    "vague",
    "missed_after",
    "human",
    "opened",
    "state",
    "_counter",
    "unseen",
)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("name", OURS)
def test_columns_may_be_called_as_ours_are(tmp_path: Path, name: str, place: int) -> None:
    names = ["number", "when", "what", "who"]
    names[place] = name
    pl.DataFrame(ROWS, schema=names, orient="row").write_csv(tmp_path / "log.csv")
    found = assessing.assess(tmp_path / "log.csv", PROCEDURE, columns(*names), NOW)
    assert (2, 5) == (found.cases, found.rows)
    assert ["INC2"] == [
        row["case"] for row in assessing.verdict_cases(found, ["deviating"]) if row["requirement"] == "INC-I5-WORK"
    ]


# --- Parquet


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def frame() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema=SCHEMA, orient="row")


def test_damaged_parquet_never_ends_the_program(tmp_path: Path) -> None:
    """A byte changed at every place; the library panics on many of these files and aborts on some."""
    whole = parquet_bytes(frame())
    step = max(1, len(whole) // 12)
    for at in range(0, len(whole), step):
        broken = bytearray(whole)
        broken[at : at + 4] = b"\xff\xff\xff\x0f"
        (tmp_path / "log.parquet").write_bytes(broken)
        rows = read_or_refused(tmp_path / "log.parquet")
        assert rows in (5, "refused")


def read_or_refused(path: Path) -> int | str:
    try:
        return assessing.assess(path, PROCEDURE, columns(), NOW).rows
    except UnreadableLog:
        return "refused"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (frame().with_columns(pl.col("what").cast(pl.Binary)), "column 'what' holds Binary, not text"),
        (frame().with_columns(pl.col("what").str.split(" ")), "column 'what' holds List(String), not text"),
        (frame().head(0), "there are no rows"),
        (frame().drop("what"), ":1: the log has no column 'what'"),
        (frame().select(pl.lit(1).alias(f"c{n}") for n in range(2_001)), "it has 2,001 columns"),
        (frame().select(pl.all().gather(pl.repeat(0, 3_000_000))), "it unpacks to more than"),
    ],
)
def test_parquet_that_is_refused(tmp_path: Path, changed: pl.DataFrame, message: str) -> None:
    assert message in told(tmp_path, "log.parquet", parquet_bytes(changed))


def test_parquet_that_cannot_be_read_in_time_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.parquet")
    with pytest.raises(Refused, match="takes more memory or time than its size allows"):
        parquet.files(tmp_path / "log.parquet", columns(), tmp_path, seconds=1.0)


def test_numbers_are_written_alike_whatever_stands_beside_them(tmp_path: Path) -> None:
    numbers = [7.0, 7.0, 1.5, float("nan"), None]
    changed = frame().with_columns(pl.Series("who", numbers, dtype=pl.Float64))
    (tmp_path / "log.parquet").write_bytes(parquet_bytes(changed))
    files, names = parquet.files(tmp_path / "log.parquet", columns(), tmp_path)
    assert SCHEMA == names
    assert ["7", "7", "1.5", "NaN", None] == pl.read_ipc(files)["who"].to_list()


# --- memory


NAMES = logs.made(Random(0), 1)[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.xes", b"<log><trace>" + b"<event/>" * 250_000),
        ("log.xes", b"<log>" + b"<trace></trace>" * 130_000),
        ("log.csv", b"number" + b",c" * 1_800 + b"\n" * 500_000),
        ("log.csv", ",".join(NAMES).encode() + b"\n" * 200_000),
        ("log.csv", ",".join(NAMES).encode() + (b"\n1" + b"," * (len(NAMES) - 1)) * 100_000),
    ],
    ids=["events", "traces", "wide", "short rows", "empty cells"],
)
def test_memory_stays_within_what_is_stated(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    outcome, _, found = watched(SUBJECTS[name.split(".")[1]](), path)
    assert [] == [what for what in found if not what.startswith("time")]
    assert outcome
