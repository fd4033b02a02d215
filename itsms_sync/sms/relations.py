"""What a record is for the processes of its mapping, and which other records it names.

Pure: reads the present values of records. Which record a name means, and what that does to cases, is decided where
records of all sources are known.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import polars as pl

from itsms_sync.sms.cases import standing
from itsms_sync.sms.mapping import Described, Mapping, ProcessMapping, Reference


class Tie(StrEnum):
    """How a record belongs to another one."""

    LINK = "link"
    PAIR = "pair"
    PART = "part"


class Named(NamedTuple):
    """One record names another: it is a case (or a part of one) of ``process``, the other may be one of ``to``."""

    place: int
    """Row of the naming record in the frame."""
    tie: str
    role: str
    inverse: str
    """The role seen from the other record; empty if it is not seen from there."""
    process: str
    to: str
    """Names of processes, comma separated."""
    field: str
    system: str
    """System of the other record; empty for the naming record's own source."""
    by: str
    value: str


def members(records: pl.DataFrame, described: Described) -> pl.Series:
    """Which of the records (one text column per source field) are meant, by the values that they have now."""
    condition = described.meant()
    if condition is None:
        return pl.Series([True], dtype=pl.Boolean).new_from_index(0, len(records))
    return standing(records, described).select(condition.expression.fill_null(False)).to_series()


def named(records: pl.DataFrame, kind: str, mapping: Mapping) -> Iterator[Named]:
    """Every naming of another record in records of one kind; ``records`` as for ``members``."""
    for process, described in mapping.processes.items():
        if described.kind == kind:
            yield from _of_case(records, process, described)
        for name, part in described.parts.named():
            if part.kind == kind:
                owner = Reference(field=part.case)
                yield from _values(records, members(records, part), owner, (Tie.PART, name, "", process, process))


def _of_case(records: pl.DataFrame, process: str, described: ProcessMapping) -> Iterator[Named]:
    meant = members(records, described)
    for role, link in described.links.items():
        as_ = (Tie.LINK, role, link.inverse or "", process, ",".join(link.to))
        yield from _values(records, meant, link, as_)
    if described.pair is not None:
        yield from _values(records, meant, described.pair, (Tie.PAIR, Tie.PAIR, "", process, process))


def _values(
    records: pl.DataFrame, meant: pl.Series, reference: Reference, as_: tuple[str, str, str, str, str]
) -> Iterator[Named]:
    if reference.field not in records.columns:
        return
    rows = records.select(pl.int_range(pl.len()).alias("place"), pl.col(reference.field).alias("value"))
    rows = rows.filter(meant).filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
    for place, values in rows.iter_rows():
        for value in dict.fromkeys(part.strip() for part in values.split(",")):
            if value:
                yield Named(place, *as_, reference.field, reference.system or "", reference.by, value)
