"""Event logs that are almost right, in each form that is read: the first rows of a real log, and generated ones."""

import csv
import gzip
import io
import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import quoteattr

import polars as pl

from tests.fuzz.mutation import HUGE, LARGEST

ROOT = Path(__file__).parent.parent.parent
REAL = "data/uci-incidents/incident_event_log.csv.gz"
CSV_WORDS = tuple(
    word.encode()
    for word in (
        *(",", '"', '""', '","', "\n", "\r\n", '"\n"', "?", "-100", "29/2/2016 01:16", "31/12/9999 23:59", ";", "\t"),
        *("'", "Closed", "\n\n"),
    )
)  # fmt: skip
XES_WORDS = tuple(
    word.encode()
    for word in (
        *("<log>", "</log>", "<trace>", "</trace>", "<event>", "</event>", "<event/>", "<!--", "-->", "<![CDATA["),
        *("]]>", "<?a ?>"),
        *('<string key="a" value="b"/>', '<date key="time:timestamp" value="0001-01-01T00:00:00+14:00"/>', "&lt;"),
        "&#0;",
        *('<date key="sys_updated_at" value="9999-12-31T23:59:59-14:00"/>', "&a;", "&#xD800;", "&#x10FFFF;"),
        *(' key="', ' value="'),
        *('<!DOCTYPE log [<!ENTITY a "aa">]>', '<!DOCTYPE log SYSTEM "file:///etc/passwd">', "xmlns:a='b'", "<a:b/>"),
        ' scope="trace"',
        *('<!DOCTYPE log [<!ATTLIST string value CDATA "aaaaaaaaaa">]>', '<?xml version="1.1"?>', "<list key='a'>"),
        "<values>",
    )
)  # fmt: skip
ENCODINGS = (
    "UTF-8",
    "utf-16",
    "ISO-8859-1",
    "foo",
    "rot13",
    "hex",
    "idna",
    "punycode",
    "utf-7",
    "utf-32",
    "shift_jis",
    "zlib",
    "x" * 99,
)
TIMES = (
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2016-02-29", "2016-W09-1", "24:00", "", "now"),
    *("2016-02-29T01:16:00.000+01:00", "2016-02-29T01:16:00+99:00"),
)  # fmt: skip
CELLS = (
    *("", "?", "\0", " ", '"', "\n", "a" * 9_000, "-1", "NaN", "ä", "\u202e", "1/1/0001 00:00", "31/12/9999 23:59"),
    *("30/2/2016 1:1", "Closed", "-100"),
)  # fmt: skip
COLUMNS = ("case", "id", "at", "actor", "missed", "vague", "row_number", "_number", "_counter", "", "key", "human")
Table = list[list[str]]


def real(count: int = 160) -> Table:
    """Header and first rows of the real log; where it is not beside the checkout, rows in its form."""
    path = Path(os.environ.get("ITSMS_SHARED", ROOT.parent / "shared")) / REAL
    if not path.is_file():
        return made(Random(0), 40)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [row for row, _ in zip(csv.reader(file), range(count + 1), strict=False)]


def made(random: Random, cases: int) -> Table:
    """A log in the form of the real one."""
    header = [
        "number",
        "incident_state",
        "sys_mod_count",
        "sys_updated_by",
        "sys_updated_at",
        "opened_at",
        "resolved_at",
    ]
    header += [
        "resolved_by",
        "closed_at",
        "closed_code",
        "impact",
        "urgency",
        "priority",
        "category",
        "assignment_group",
    ]
    header += ["contact_type", "reassignment_count", "reopen_count"]
    rows = []
    for case in range(cases):
        at = datetime(2016, 2, 29, tzinfo=UTC) + timedelta(minutes=random.randrange(500_000))
        for count, state in enumerate(("New", "Active", "Awaiting User Info", "Active", "Resolved", "Closed")):
            at += timedelta(minutes=random.randrange(3_000))
            when = at.strftime("%d/%m/%Y %H:%M")
            known = {
                "number": f"INC{case:07}",
                "incident_state": state,
                "sys_mod_count": str(count),
                "impact": "2 - Medium",
            }
            known |= dict.fromkeys(("sys_updated_at", "opened_at", "resolved_at", "closed_at"), when)
            rows.append([known.get(name, random.choice(("?", "a", "Group 7", "0"))) for name in header])
    return [header, *rows]


def changed(random: Random, table: Table) -> Table:
    """Some rows of the table, with cells, rows, names and widths changed."""
    header, *rows = table
    start = random.randrange(len(rows))
    rows = [list(row) for row in rows[start : start + random.choice((1, 2, 3, 3, 6, 6, 12, 12, 40, 160))]]
    header = list(header)
    for _ in range(random.choice((0, 1, 2, 5))):
        row = random.choice((header, *rows))
        at = random.randrange(len(row)) if row else 0
        match random.randrange(9):
            case 0:
                header[random.randrange(len(header))] = random.choice((*header, *COLUMNS))
            case 1 if row:
                del row[at]
            case 2:
                row[at:at] = random.choices(CELLS, k=random.choice((1, 2, 3_000)))
            case 3:
                rows[:] = _cut(rows * random.choice((2, 2, 200)))
            case 4:
                rows.insert(random.randrange(len(rows) + 1), [])
            case 5:
                random.shuffle(rows)
            case _ if row:
                row[at] = random.choice((*CELLS, *HUGE))
    return [header, *_cut(rows)]


def _cut(rows: Table) -> Table:
    """As many rows as an input may have."""
    size = accumulate(sum(map(len, row)) + len(row) for row in rows)
    return [row for row, end in zip(rows, size, strict=True) if end <= LARGEST]


def as_csv(random: Random, table: Table) -> bytes:
    out = io.StringIO(newline="")
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    csv.writer(out, quoting=quoting, lineterminator=random.choice(("\n", "\n", "\r\n"))).writerows(table)
    return out.getvalue().encode()[:LARGEST]


def as_xes(random: Random, table: Table) -> bytes:
    """Traces of neighbouring rows; what the columns of the real log are called is what its events are called."""
    header, *rows = table
    parts = [_prologue(random), _globals(random, header)]
    trace = None
    for row in rows:
        cells = dict(zip(header, row, strict=False))
        number = cells.pop("number", "")
        if number != trace:
            parts.append(("</trace>" if trace is not None else "") + "<trace>" + _attribute(random, "number", number))
            trace = number
        told = "".join(_attribute(random, key, cell) for key, cell in cells.items() if cell != "?")
        parts.append(f"<event>{told}</event>")
    return "\n".join([*parts, "</trace></log>"]).encode("utf-8", "replace")[:LARGEST]


def _prologue(random: Random) -> str:
    encoding = random.choice(ENCODINGS) if random.random() < 0.07 else "UTF-8"
    type_ = random.choice(("<!DOCTYPE log>", XES_WORDS[-4].decode())) if random.random() < 0.05 else ""
    space = random.choice(("", ' xmlns="http://www.xes-standard.org/"', ' xmlns:a="b"'))
    return f'<?xml version="1.0" encoding="{encoding}"?>{type_}<log xes.version="1.0"{space}>'


def _globals(random: Random, header: Sequence[str]) -> str:
    scope = random.choice(("trace", "event", "", "x"))
    long = random.choice(("0", "0", "0", "?", "?", "x" * 3_000, "x" * 100_000))
    told = "".join(_attribute(random, name, long) for name in random.sample(header, random.randrange(len(header))))
    return f'<global scope="{scope}">{told}</global>' if random.random() < 0.5 else ""


def _attribute(random: Random, key: str, value: str) -> str:
    type_ = "string"
    if key.endswith("_at") and (value[:1].isdigit() or random.random() < 0.01):
        type_, value = "date", _iso(value) if random.random() < 0.998 else random.choice(TIMES)
    inside = ""
    if random.random() < 0.001:
        depth = random.choice((1, 3, 3, 60, 3_000))
        inside = "<list key='a'>" * depth + "</list>" * depth
    clean = _CONTROLS.sub("", value)
    return f"<{type_} key={quoteattr(key)} value={quoteattr(clean)}>{inside}</{type_}>"


@cache
def _iso(value: str) -> str:
    try:
        return datetime.strptime(value, "%d/%m/%Y %H:%M").replace(tzinfo=UTC).isoformat()
    except ValueError:
        return value


MOST_TEXT = 100_000_000
"""Characters of a table that repeats one row, or of a column that repeats one text."""
_CONTROLS = re.compile("[\0-\x1f]")


def exhausting_csv(random: Random, table: Table) -> bytes:
    """Text that becomes large in memory."""
    size = random.choice((100, 5_000, 300_000))
    header = ",".join(table[0])
    match random.randrange(5):
        case 0:
            return (",".join(f"c{n}" for n in range(size)) + "\n" * size).encode()[:LARGEST]
        case 1:
            return (header + "\n" * size).encode()
        case 2:
            return (header + "\n" + '"' + "x\n" * size).encode()
        case 3:
            return (header + "," * size + "\n" + "," * size).encode()
        case _:
            return (header + "\n" + ("," * (len(table[0]) - 1) + "\n") * size).encode()[:LARGEST]


def exhausting_xes(random: Random, table: Table) -> bytes:
    """Elements that become large in memory, or that the parser needs long for."""
    size = random.choice((100, 9_000, 200_000))
    body = random.choice(
        (
            "<event/>" * size,
            "<a>" * size,
            "".join(f"<a{n}/>" for n in range(size)),
            "".join(f'<event><string key="k{n}" value=""/></event>' for n in range(size)),
            f'<string key="number" value="{"x" * size}"/>' + "<event/>" * size,
            f'<string key="a" value="{"x" * size * 9}"/>',
            f"<!--{'x' * size * 9}-->",
            "&#65;" * size,
            "<event " + " ".join(f"a{n}='x'" for n in range(size)) + "/>",
            "<event>" + '<string key="sys_updated_at" value="1"/>' * size + "</event>",
            "</trace><trace>" * size,
        )
    )
    return f"<log><trace>{body}</trace></log>".encode()[:LARGEST]


def as_parquet(random: Random, table: Table) -> bytes:
    """The table with columns of many types, in any way of writing."""
    header, *rows = table
    names = list(dict.fromkeys(header)) or ["number"]
    width = len(names)
    whole = [[*row, *[""] * width][:width] for row in rows]
    frame = pl.DataFrame(whole, schema=dict.fromkeys(names, pl.String), orient="row")
    if random.random() < 0.05 and len(frame):
        # the same row over and over takes no place in the file
        most = MOST_TEXT // max(1, sum(map(len, whole[0])))
        frame = frame.select(pl.all().gather(pl.repeat(0, min(most, random.choice((9_000, 100_000, 700_000))))))
    else:
        for name in random.sample(names, min(width, random.choice((0, 1, 3)))):
            frame = frame.with_columns(_typed(random, frame[name]).alias(name))
    out = io.BytesIO()
    frame.write_parquet(out, **_writing(random, small=len(frame) < 9_000))
    return out.getvalue()


def _writing(random: Random, *, small: bool) -> dict[str, Any]:
    """A large table in pages of a few bytes takes gigabytes to write."""
    return {
        "compression": random.choice(("zstd", "gzip", "snappy", "lz4", "brotli", "uncompressed")),
        "statistics": random.choice((True, False, "full")),
        "row_group_size": random.choice((None, 1, 7, 50)) if small and random.random() < 0.3 else None,
        "data_page_size": random.choice((None, 64, 4_096)) if small else None,
    }


def _typed(random: Random, values: pl.Series) -> pl.Series:
    count = len(values)
    times = values.str.to_datetime("%d/%m/%Y %H:%M", strict=False)
    numbers = values.cast(pl.Float64, strict=False)
    floats = [random.choice((0.0, 1.5, 7.0, float("nan"), float("inf"), 1e300, -0.0, 2.0**63)) for _ in range(count)]
    kinds: Sequence[Callable[[], pl.Series]] = (
        lambda: times,
        lambda: times.dt.replace_time_zone(random.choice(("UTC", "Europe/Berlin"))),
        lambda: times.dt.date(),
        lambda: numbers,
        lambda: numbers.cast(pl.Int64, strict=False),
        lambda: numbers.cast(pl.Int8, strict=False),
        lambda: pl.Series(floats, dtype=pl.Float64),
        lambda: values.cast(pl.Categorical),
        lambda: values.cast(pl.Binary),
        lambda: pl.Series([b"\xff\0"] * count, dtype=pl.Binary),
        lambda: values.to_frame().select(pl.struct(pl.all())).to_series(),
        lambda: values.str.split(" "),
        lambda: pl.Series([None] * count, dtype=pl.Null),
        lambda: pl.Series([None] * count, dtype=pl.String),
        lambda: pl.Series([True] * count, dtype=pl.Boolean),
        lambda: pl.Series([timedelta(days=1)] * count, dtype=pl.Duration),
        lambda: pl.Series([datetime(9999, 12, 31)] * count, dtype=pl.Datetime("ms")),
        lambda: pl.Series([-(2**62)] * count, dtype=pl.Int64).cast(pl.Datetime("ms")),
        lambda: pl.Series(
            ["x" * min(random.choice((40_000, 2_000_000)), MOST_TEXT // max(1, count))] * count, dtype=pl.String
        ),
        lambda: pl.Series([f"INC{n // 6}" for n in range(count)], dtype=pl.String),
    )
    return random.choice(kinds)()


def footer_changed(random: Random, data: bytes) -> bytes:
    """Bytes of the metadata and of the heads of pages changed, where lengths and counts stand."""
    changed = bytearray(data)
    length = int.from_bytes(data[-8:-4], "little") if len(data) > 12 else 0
    start = max(0, len(data) - 8 - length)
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.random()
        at = random.randrange(start, len(data)) if place < 0.7 and start < len(data) else random.randrange(len(data))
        new = random.choice(
            (
                bytes([random.randrange(256)]),
                b"\xff\xff\xff\xff\x0f",
                b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f",
                b"\0",
                b"\x80",
            )
        )
        changed[at : at + (len(new) if random.random() < 0.7 else 1)] = new
    return bytes(changed)
