"""Event logs in Parquet as files of text, read by a process of its own with bounds on its memory and time.

The library that reads Parquet aborts on some damaged files and takes what memory a file asks for; that ends the process
that reads and never the program. What was read lies in files of a folder then (Arrow IPC), which are our own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from itsms_sync.logfile import MOST_COLUMNS, ROWS, Budget, Refused, first_line
from itsms_sync.telling import shown

if TYPE_CHECKING:
    # the reading process must be there quickly
    from itsms_sync.sms.mapping import LogColumns

MEMORY = 1 << 30
"""Bytes that reading may take,"""
TIMES = 4
"""and how many times the size of the file beyond that."""
SECONDS = 60.0
"""That reading may take,"""
SECONDS_EACH = 2e-6
"""and how many more for each byte of the file."""
_THREADS = "2"
"""Each takes memory of its own."""
_DAMAGED = (
    "not readable as Parquet: the file is damaged, or takes more memory or time than its size allows; export it again"
)


def files(path: Path, columns: "LogColumns", folder: Path, seconds: float = SECONDS) -> tuple[list[Path], list[str]]:
    """Files with the rows in order, of the columns that are looked at, and the names of all columns. Raises
    ``Refused``.
    """
    given = [str(path), str(folder), columns.time_format, columns.zone, *columns.looked_at()]
    try:
        # What the library complains of goes to programmers, in pages: of several threads, and not always of the cause.
        reader = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", __name__, *given],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "POLARS_MAX_THREADS": _THREADS},
            timeout=seconds + SECONDS_EACH * path.stat().st_size,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise Refused(_DAMAGED) from error
    told: dict[str, Any] = json.loads(reader.stdout)
    if "refused" in told:
        raise Refused(told["refused"])
    return [folder / name for name in told["files"]], told["names"]


# --- in the process that reads


def _read(path: Path, folder: Path, time_format: str, zone: str, looked_at: Sequence[str]) -> dict[str, Any]:
    """What the other side is told. Where it does not come to that, it knows what it means."""
    _bound(path)
    try:
        scan = pl.scan_parquet(path, glob=False)
        schema = scan.collect_schema()
        if len(schema) > MOST_COLUMNS:
            raise Refused(f"it has {len(schema):,} columns, of which {MOST_COLUMNS:,} are the most")
        wanted = [name for name in schema if name in looked_at]
        written = _written(scan.select(wanted), Budget(path), folder, (time_format, zone)) if wanted else []
        return {"files": written, "names": schema.names()}
    except Refused as error:
        return {"refused": str(error)}
    except (pl.exceptions.PolarsError, OSError) as error:
        return {"refused": f"not readable as Parquet: {first_line(error)}; export it again"}


def _bound(path: Path) -> None:
    import resource

    most = MEMORY + TIMES * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _written(scan: pl.LazyFrame, budget: Budget, folder: Path, time_form: tuple[str, str]) -> list[str]:
    """Names of the files."""
    names: list[str] = []
    rows = scan.head(ROWS).collect()
    while not names or len(rows):
        texts = rows.select(_text(column, *time_form) for column in rows)
        budget.take(sum(len(column) + int(column.str.len_bytes().sum()) for column in texts))
        names.append(f"{len(names)}.arrow")
        texts.write_ipc(folder / names[-1], compression="lz4")
        rows = scan.slice(len(names) * ROWS, ROWS).collect()
    return names


def _text(values: pl.Series, time_format: str, zone: str) -> pl.Series:
    """Values as a CSV file would have them."""
    match values.dtype:
        case pl.String:
            return values
        case pl.Datetime():
            zoned = values.dt.convert_time_zone(zone) if values.dtype.time_zone else values
            return zoned.dt.to_string(time_format)
        case pl.Float32 | pl.Float64:
            # Whole numbers that may be absent are often stored in this way.
            return values.to_frame().select(_number(pl.col(values.name))).to_series()
        case pl.Binary() | pl.List() | pl.Array() | pl.Struct() | pl.Object():
            kind = shown(str(values.dtype))
            raise Refused(f"column {shown(repr(values.name))} holds {kind}, not text; export it as text")
        case _:
            return values.cast(pl.String)


def _number(value: pl.Expr) -> pl.Expr:
    whole = value.cast(pl.Int64, strict=False)
    return pl.when(whole == value).then(whole.cast(pl.String)).otherwise(value.cast(pl.String))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_read(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])))
