"""What a case has besides its own record: approvals, tasks, links to other cases, and its pair in another system.

Reads them from the store for the cases of one batch and puts them into the case log that the kernel judges. Of records
in two systems for the same work one leads and is the case; parts and links of the other count as the case's own. What
could not be read completely is told with it, so that nothing is inferred from its absence.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import polars as pl
from sqlalchemy import Connection

from itsms_sync.procedures.library import Library
from itsms_sync.procedures.model import SameInBoth
from itsms_sync.records import What
from itsms_sync.relating import JudgedSource
from itsms_sync.sms.cases import APPROVALS, EVENTS, ITEMS, LINKS, PAIRS, RECORDS, SLAS, TASKS, CaseLog, standing
from itsms_sync.sms.mapping import Part, ProcessMapping
from itsms_sync.sms.parts import ASKED, PartFacts, approvals, items, levels, tasks
from itsms_sync.sms.relations import Tie, members
from itsms_sync.sms.witnesses import OBSERVED
from itsms_sync.store import coverage, related
from itsms_sync.store.coverage import Covered
from itsms_sync.store.judged import audited, events, observations
from itsms_sync.store.related import OtherRecord, Relation

JUDGED_PARTS: dict[str, Any] = {"approvals": APPROVALS, "tasks": TASKS, "cis": ITEMS, "slas": SLAS}
"""Part -> its columns in a case log."""
LOOKED_AT_BY = {
    "approvals": ("RO1", "RO2", "RO4", "RO9", "DA3", "TI6", "CF8"),
    "tasks": ("RO2", "LI4", "CF12", "DA8", "TI11"),
    "cis": ("DA4",),
    "slas": ("TI13",),
    "links": ("LI1", "LI6", "LI7", "LI9", "CF7", "CF12", "DA8"),
    "pairs": ("LI10",),
}
"""Part -> checks that read it."""
OWN_TICKETS = "corrective_action"
"""The one process of which a ticket of ours is a case."""

Accounts = Mapping[str, frozenset[str]]
"""Name of a source -> pseudonyms of its accounts that are no persons."""


class Stored(Protocol):
    """A record as frames are made of it."""

    @property
    def created(self) -> int | None: ...
    @property
    def updated(self) -> int | None: ...
    @property
    def version(self) -> int | None: ...
    @property
    def fields(self) -> Mapping[str, str | None]: ...


def records_frame(
    records: Sequence[Stored], fields: Collection[str], cut: Sequence[bool] | None = None
) -> pl.DataFrame:
    """``RECORDS`` with one text column per field that any of the records was delivered with."""
    delivered = {name for item in records for name in item.fields}
    columns = {
        "case": pl.Series(range(len(records)), dtype=RECORDS["case"]),
        "_created": pl.Series([item.created for item in records], dtype=pl.Int64),
        "_updated": pl.Series([item.updated for item in records], dtype=pl.Int64),
        "_version": pl.Series([item.version for item in records], dtype=pl.Int64),
    }
    if cut is not None:
        columns["_cut"] = pl.Series(cut, dtype=pl.Boolean)
    values = {n: pl.Series([r.fields.get(n) for r in records], dtype=pl.String) for n in fields if n in delivered}
    return pl.DataFrame({**columns, **values})


def events_frame(connection: Connection, ids: Sequence[int]) -> pl.DataFrame:
    """``EVENTS`` of these records (ascending); ``case`` is a record's place among them."""
    schema = {"record": pl.Int64, **{name: type_ for name, type_ in EVENTS.items() if name != "case"}}
    parts = [pl.DataFrame(rows, schema=schema, orient="row") for rows in events(connection, ids)]
    found = pl.concat([pl.DataFrame(schema=schema), *parts])
    cases = pl.DataFrame({"record": pl.Series(ids, dtype=pl.Int64)}).with_row_index("case")
    joined = found.join(cases, on="record", how="inner", maintain_order="left")
    return joined.select(pl.col("case").cast(pl.UInt32), *(name for name in EVENTS if name != "case"))


def observed_frame(connection: Connection, ids: Sequence[int]) -> pl.DataFrame:
    """What lesser witnesses tell of these records (``witnesses.OBSERVED``); ``case`` as for ``events_frame``."""
    schema = {"record": pl.Int64, **{name: type_ for name, type_ in OBSERVED.items() if name != "case"}}
    rows = [row for part in observations(connection, ids) for row in part]
    cases = pl.DataFrame({"record": pl.Series(ids, dtype=pl.Int64)}).with_row_index("case")
    joined = pl.DataFrame(rows, schema=schema, orient="row").join(cases, on="record", maintain_order="left")
    return joined.select(pl.col("case").cast(pl.UInt32), *(name for name in OBSERVED if name != "case"))


@dataclass(frozen=True, slots=True)
class Owners:
    """Which records speak for which case: ``case_of`` a record's id, its own or as a follower in a pair."""

    case_of: Mapping[int, int]
    followers: Mapping[int, Sequence[OtherRecord]]
    """Case -> records that follow it."""

    @property
    def ids(self) -> list[int]:
        return sorted(self.case_of)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back the records of a process were read."""

    whole: Sequence[Covered]
    """Where all that its cases consist of was read."""
    fields: Mapping[str, Sequence[Covered]]
    """The same for fields of its records that were not asked for everywhere."""

    def lacks(self, start: int, end: int) -> int | None:
        """``None`` if all between the two instants was read, else from when on it was (ms)."""
        if coverage.covers(self.whole, start, end):
            return None
        return next((span.start for span in self.whole if end < span.end), end)

    def fields_lacking(self, start: int, end: int) -> frozenset[str]:
        """Fields that were not asked for all the time between the two instants."""
        return frozenset(name for name, spans in self.fields.items() if not coverage.covers(spans, start, end))


def reach(connection: Connection, library: Library, sources: Mapping[int, str], source_id: int, process: str) -> Reach:
    """``sources``: id -> name of the mapping. Where cases are led by records of another source, a case is only known
    once it is certain that no such record names it: that other source has to be read back as far."""
    kinds = library.kinds(sources[source_id], process)
    spans = [coverage.kind_covered(connection, source_id, kind) for kind in sorted(kinds)]
    for other, kind in _paired(library, sources, source_id, process):
        found = coverage.kind_covered(connection, other, kind)
        spans.append([span for span in found if span.end == coverage.LAST])
    own = library.mappings[sources[source_id]].processes[process].kind
    spans = [found for found in spans if found]  # of a kind without any window it is told that it was not read
    return Reach(coverage.shared(spans), coverage.uncovered_fields(connection, source_id, own))


def _paired(library: Library, sources: Mapping[int, str], source_id: int, process: str) -> Iterator[tuple[int, str]]:
    """Other sources with cases of the process, if records of two of them may be one case."""
    known = {id_: library.mappings[name].processes.get(process) for id_, name in sources.items()}
    if any(mapping is not None and mapping.pair for mapping in known.values()):
        yield from ((id_, one.kind) for id_, one in known.items() if one is not None and id_ != source_id)


class Chains:
    """The surroundings of cases, as of one judgement."""

    def __init__(
        self, connection: Connection, library: Library, sources: Sequence[JudgedSource], accounts: Accounts, now: int
    ) -> None:
        self._library = library
        self._sources = {s.id: s for s in sources if s.mapped_by in library.mappings}
        self._accounts = accounts
        self._now = now
        self._own = related.own_tickets(connection)
        self._same = same_person(related.people(connection))
        kinds = {
            (id_, described.kind)
            for id_, source in self._sources.items()
            for described in library.mappings[source.mapped_by].described()
        }
        self._unread = related.unread_kinds(connection, kinds)
        self._partly = {**coverage.partly_read(connection), **self._unread}
        self._audited = {key: audited(connection, *key) for key in kinds}
        self._levels = related.kinds_shown(connection, self._kinds_of_levels() - self._unread.keys())
        self._cut = {id_: related.cut_histories(connection, id_) for id_ in self._sources}

    def _kinds_of_levels(self) -> set[tuple[int, str]]:
        """``(source, kind)`` of the records that are service levels."""
        return {
            (id_, described.parts.slas.kind)
            for id_, source in self._sources.items()
            for described in self._library.mappings[source.mapped_by].processes.values()
            if described.parts.slas is not None
        }

    def has_history(self, source_id: int, kind: str) -> bool:
        """Whether the source has told of any change in records of this kind."""
        return bool(self._audited[source_id, kind])

    def reach(self, connection: Connection, source_id: int, process: str) -> Reach:
        """How far back the source's records of the process were read."""
        return reach(
            connection, self._library, {id_: s.mapped_by for id_, s in self._sources.items()}, source_id, process
        )

    def is_cut(self, source_id: int, native_id: str) -> bool:
        """Whether the source is known to have kept back a part of the record's history."""
        return native_id in self._cut[source_id]

    def as_of(self, now: int) -> "Chains":
        """The same at another instant (ms), for cases that were gone after it."""
        other = copy(self)
        other._now = now
        return other

    # --- which records are cases

    def is_own_ticket(self, source: str, native_id: str) -> bool:
        """A ticket that we opened is work on a nonconformity, never a case of the desk."""
        return (source, native_id) in self._own

    def led(self, connection: Connection, process: str, ids: Sequence[int]) -> set[int]:
        """Those of the records that follow another one, which is the case."""
        return {follower for _, follower in self._pairs(connection, process, ids)} & set(ids)

    def _pairs(self, connection: Connection, process: str, ids: Sequence[int]) -> list[tuple[int, int]]:
        """``(leading, following)``."""
        if not any(m.pair for s in self._sources if (m := self._mapping(s, process)) is not None):
            return []
        rows = [r for r in related.relations(connection, ids, Tie.PAIR) if r.process == process and r.other_id]
        both = {id_ for row in rows for id_ in (row.record_id, row.other_id or 0)}
        found = related.others(connection, both)
        found = {id_: record for id_, record in found.items() if self._is_case(record, process)}
        return [
            self._leading(process, found[row.record_id], found[row.other_id])
            for row in rows
            if row.record_id in found and row.other_id in found
        ]

    def _leading(self, process: str, one: OtherRecord, other: OtherRecord) -> tuple[int, int]:
        leads = self._library.process(process).leads
        pair = sorted(
            (one, other), key=lambda r: (self._sources[r.source_id].system != leads, r.created or self._now, r.id)
        )
        return pair[0].id, pair[1].id

    def _mapping(self, source_id: int, process: str) -> ProcessMapping | None:
        source = self._sources.get(source_id)
        return None if source is None else self._library.mappings[source.mapped_by].processes.get(process)

    def _is_case(self, record: OtherRecord, process: str) -> bool:
        mapping = self._mapping(record.source_id, process)
        if mapping is None or mapping.kind != record.kind:
            return False
        return bool(members(records_frame([record], mapping.source_fields()), mapping)[0])

    # --- the surroundings

    def around(
        self, connection: Connection, log: CaseLog, process: str, source_id: int, ids: Sequence[int]
    ) -> Iterator[CaseLog]:
        """The log with all that surrounds its cases, one piece per state of knowledge. ``ids``: record of each case."""
        mapping = self._mapping(source_id, process)
        assert mapping is not None
        owners = self._owners(connection, process, ids)
        parts = self._relations(connection, owners, process, Tie.PART, JUDGED_PARTS)
        links = self._relations(connection, owners, process, Tie.LINK, ("links",))
        full = replace(
            log,
            saves=self._with_persons(log.saves, mapping),
            approvals=self._approvals(connection, owners, process, parts, log.saves),
            tasks=self._tasks(connection, owners, process, parts, log.saves),
            items=self._parts(connection, owners, process, "cis", parts, log.saves),
            slas=self._parts(connection, owners, process, "slas", parts, log.saves),
            links=self._links(connection, owners, process, links),
            pairs=self._counterparts(connection, owners, process, source_id),
            initial=mapping.initial,
        )
        beyond = self._beyond(owners, links)
        for case in self._without_levels(process, source_id, owners, full):
            beyond.setdefault(case, set()).add(("slas", "the source tells nothing of a service level of it"))
        alike: dict[tuple[tuple[int, ...], tuple[tuple[str, str], ...]], list[int]] = {}
        for case in range(len(ids)):
            others = sorted({record.source_id for record in owners.followers.get(case, ())})
            alike.setdefault(((source_id, *others), tuple(sorted(beyond.get(case, ())))), []).append(case)
        for (source_ids, named), cases in alike.items():
            piece = full if len(alike) == 1 else _only(full, cases)
            yield replace(piece, unread={**self._unread_around(process, source_ids), **dict(named)})

    def _relations(
        self, connection: Connection, owners: Owners, process: str, tie: Tie, parts: Collection[str]
    ) -> list[Relation]:
        """Relations of the cases' records, if any requirement looks at what they are for."""
        needed = any(self._needed(process, part) for part in parts)
        return related.relations(connection, owners.ids, tie) if needed else []

    def _owners(self, connection: Connection, process: str, ids: Sequence[int]) -> Owners:
        case_of = {id_: case for case, id_ in enumerate(ids)}
        followers: dict[int, list[OtherRecord]] = {}
        pairs = [(lead, follower) for lead, follower in self._pairs(connection, process, ids) if lead in case_of]
        found = related.others(connection, {follower for _, follower in pairs})
        for lead, follower in pairs:
            followers.setdefault(case_of[lead], []).append(found[follower])
        return Owners({**case_of, **{f: case_of[lead] for lead, f in pairs}}, followers)

    def _with_persons(self, saves: pl.DataFrame, mapping: ProcessMapping) -> pl.DataFrame:
        """One account for each person, whichever of their accounts a field names."""
        persons = [name for name, attribute in mapping.attributes.items() if attribute.type == "person"]
        return saves.with_columns(self._one_account(saves[name]) for name in persons)

    def _one_account(self, values: pl.Series) -> pl.Series:
        same = {name: self._same[name] for name in values.unique().to_list() if name in self._same}
        return values.replace(same) if same else values

    def _one_account_each(self, lists: pl.Series) -> pl.Series:
        same = {name: self._same[name] for name in lists.explode().unique().to_list() if name in self._same}
        return lists.list.eval(pl.element().replace(same)) if same else lists

    def _approvals(
        self, connection: Connection, owners: Owners, process: str, rows: Sequence[Relation], saves: pl.DataFrame
    ) -> pl.DataFrame:
        found = self._parts(connection, owners, process, "approvals", rows, saves)
        persons = (self._one_account(found[name]) for name in ("approver", "actor"))
        return found.with_columns(persons).sort("case", "asked_at", "id")

    def _tasks(
        self, connection: Connection, owners: Owners, process: str, rows: Sequence[Relation], saves: pl.DataFrame
    ) -> pl.DataFrame:
        found = self._parts(connection, owners, process, "tasks", rows, saves)
        return found.with_columns(self._one_account_each(found["workers"])).sort("case", "opened_at", "id")

    def _parts(
        self,
        connection: Connection,
        owners: Owners,
        process: str,
        role: str,
        rows: Sequence[Relation],
        saves: pl.DataFrame,
    ) -> pl.DataFrame:
        owner_of = {
            row.record_id: owners.case_of[row.other_id]
            for row in (rows if self._needed(process, role) else ())
            if row.other_id is not None
            and row.other_id in owners.case_of
            and (row.process, row.role) == (process, role)
        }
        by_source: dict[int, list[OtherRecord]] = {}
        for record in related.others(connection, owner_of).values():
            by_source.setdefault(record.source_id, []).append(record)
        frames = [
            self._part_frame(connection, records, owner_of, process, role, saves)
            for source_id, records in sorted(by_source.items())
        ]
        return pl.concat([pl.DataFrame(schema=JUDGED_PARTS[role]), *frames])

    def _part_frame(
        self,
        connection: Connection,
        records: list[OtherRecord],
        owner_of: Mapping[int, int],
        process: str,
        role: str,
        saves: pl.DataFrame,
    ) -> pl.DataFrame:
        records = sorted(records, key=lambda record: record.id)
        mapping = self._mapping(records[0].source_id, process)
        part: Part | None = None if mapping is None else getattr(mapping.parts, role)
        assert part is not None, "a relation is made by the mapping in force"
        source = self._sources[records[0].source_id]
        ids = [record.id for record in records]
        facts = PartFacts(
            records_frame(records, part.source_fields()),
            events_frame(connection, ids if role in ("approvals", "tasks") else ()),
            pl.DataFrame(
                {
                    "part": pl.Series(range(len(ids)), dtype=pl.UInt32),
                    "case": pl.Series([owner_of[id_] for id_ in ids], dtype=pl.UInt32),
                    "id": [record.native_id for record in records],
                }
            ),
            part.audited_fields() if self._audited[source.id, part.kind] else frozenset(),
            self._accounts[source.name],
        )
        if role == "cis":  # an item that vanished from the list had been named
            return items(facts, self._now)
        gone = [record for record in records if record.gone_at is not None and record.gone_at <= self._now]
        vanished = pl.col("id").is_in([record.native_id for record in gone]).alias("gone")
        if role == "slas":
            return levels(facts, part, self._now).with_columns(vanished)
        if role == "tasks":  # a task that vanished was held and done as far as it stood
            return tasks(facts, part, self._now).with_columns(vanished)
        return _lost(approvals(facts, part, self._now), gone, owner_of, saves)

    def _without_levels(self, process: str, source_id: int, owners: Owners, log: CaseLog) -> set[int]:
        """Cases without any record of a service level, of systems that have one for each measure whether or not it
        began: of such a case the source has not told at all.
        """
        if not self._needed(process, "slas"):
            return set()
        told, cases = set(log.slas["case"]), set(log.cases["case"])
        return {
            case
            for case in cases - told
            for id_ in (source_id, *(one.source_id for one in owners.followers.get(case, ())))
            if (mapping := self._mapping(id_, process)) is not None
            and mapping.parts.slas is not None
            and "cycles" in mapping.parts.slas.attributes
        }

    # --- the records that follow

    def _counterparts(self, connection: Connection, owners: Owners, process: str, source_id: int) -> pl.DataFrame:
        """What the records that follow the cases say of the attributes that have to be the same in both systems."""
        versions = self._library.procedures[process] if self._needed(process, "pairs") else ()
        wanted = {name for v in versions for r in v.requirements if isinstance(r, SameInBoth) for name in r.attributes}
        followers = [(case, one) for case, records in owners.followers.items() for one in records]
        frames = [pl.DataFrame(schema=PAIRS)]
        for other in sorted({one.source_id for _, one in followers} if wanted else ()):
            mapping = self._mapping(other, process)
            assert mapping is not None, "a record follows by the mapping in force"
            mine = [(case, one) for case, one in followers if one.source_id == other]
            until = self._read_until(connection, process, (source_id, other))
            stands = standing(records_frame([one for _, one in mine], mapping.source_fields()), mapping)
            about = {
                "case": pl.Series([case for case, _ in mine], dtype=pl.UInt32),
                "other": [one.native_id for _, one in mine],
                "since": pl.Series([one.updated for _, one in mine], dtype=pl.Int64),
                "read_until": pl.Series([until] * len(mine), dtype=pl.Int64),
            }
            told = pl.DataFrame(about)
            for name in sorted(wanted):
                value = stands[name] if name in stands.columns else pl.Series([None] * len(mine), dtype=pl.String)
                rows = told.with_columns(pl.lit(name).alias("attribute"), value.alias("value"))
                frames.append(rows.select(list(PAIRS)))
        return pl.concat(frames).sort("case", "attribute", "other")

    def _read_until(self, connection: Connection, process: str, source_ids: Sequence[int]) -> int | None:
        """Up to when the records of the process were read in all of these sources."""
        kinds = [(id_, mapping.kind) for id_ in source_ids if (mapping := self._mapping(id_, process)) is not None]
        read = [coverage.read_until(connection, *key) for key in kinds]
        known = [at for at in read if at is not None]
        return min(known) if len(known) == len(read) else None

    # --- links

    def _links(self, connection: Connection, owners: Owners, process: str, rows: Sequence[Relation]) -> pl.DataFrame:
        direct = list(self._seen_from(connection, rows, owners.case_of, process))
        through = self._library.looked_through()
        behind: dict[int, list[_Seen]] = {}
        for seen in direct:
            if seen.role in through and isinstance(seen.other, int):
                behind.setdefault(seen.other, []).append(seen)
        beside = related.relations(connection, sorted(behind), Tie.LINK)
        further = [
            replace(seen, case=near.case, via=near.role)
            for seen in self._seen_from(connection, beside, {id_: id_ for id_ in behind}, None)
            for near in behind[seen.case]
        ]
        return self._links_frame(connection, owners, [*direct, *further])

    def _seen_from(
        self, connection: Connection, rows: Sequence[Relation], case_of: Mapping[int, int], process: str | None
    ) -> "Iterator[_Seen]":
        """The links ``rows`` of these records, whichever side names the other; ``process``: what the records are cases
        of."""
        namers = related.others(connection, {row.record_id for row in rows})
        told = self._made_at(connection, rows, namers)
        for row in rows:
            namer = namers.get(row.record_id)
            at = told.get((row.record_id, row.field, row.value))
            if namer is None or (at or namer.created or 0) > self._now:
                continue
            if row.record_id in case_of and (row.other_id is not None or self._is_never_read(namer, row)):
                yield _Seen(case_of[row.record_id], row.role, row.other_id or row.value, at, row.to.split(","))
            wanted = process is None or process in row.to.split(",")
            if row.other_id is not None and row.other_id in case_of and row.inverse and wanted:
                yield _Seen(case_of[row.other_id], row.inverse, row.record_id, at, [row.process])

    def _beyond(self, owners: Owners, links: Sequence[Relation]) -> dict[int, set[tuple[str, str]]]:
        """Case -> roles in which it names a record of a system of which nobody reads such records, as keys of
        ``CaseLog.unread``, and why that leaves them open: the name may be that of something else."""
        found: dict[int, set[tuple[str, str]]] = {}
        for row in links:
            if row.record_id not in owners.case_of or not row.system or row.other_id is not None:
                continue
            if not self._is_read(self._systems(row.system), row.to):
                told = (f"links.{row.role}", f"it names a record of {row.system}, which is not a source")
                found.setdefault(owners.case_of[row.record_id], set()).add(told)
        return found

    def _is_never_read(self, namer: OtherRecord, row: Relation) -> bool:
        """A name without a record is that of something else, unless nobody reads where its record would be."""
        return not row.system and not self._is_read([self._sources[namer.source_id]], row.to)

    def _is_read(self, sources: Sequence[JudgedSource], to: str) -> bool:
        """Whether any of the sources has cases of one of these processes."""
        return any(self._mapping(source.id, process) is not None for source in sources for process in to.split(","))

    def _systems(self, name: str) -> list[JudgedSource]:
        return [source for source in self._sources.values() if source.system == name]

    def _made_at(
        self, connection: Connection, rows: Sequence[Relation], namers: Mapping[int, OtherRecord]
    ) -> dict[tuple[int, str, str], int | None]:
        """When each link was made, where the history of the field that names the other record tells it."""
        last: dict[tuple[int, str], list[tuple[str, int]]] = {}
        for record_id, field, new, at in related.changes(connection, set(namers), {row.field for row in rows}):
            last.setdefault((record_id, field), []).append((new or "", at))
        told: dict[tuple[int, str, str], int | None] = {}
        for row in rows:
            namer = namers.get(row.record_id)
            if namer is None:
                continue
            changes = last.get((row.record_id, row.field), [])
            made = [at for new, at in changes if row.value in (part.strip() for part in new.split(","))]
            kept = row.field in self._audited.get((namer.source_id, namer.kind), ())
            at = made[-1] if made else namer.created if kept and not changes else None
            told[row.record_id, row.field, row.value] = at
        return told

    def _links_frame(self, connection: Connection, owners: Owners, links: "Sequence[_Seen]") -> pl.DataFrame:
        records = related.others(connection, {seen.other for seen in links if isinstance(seen.other, int)})
        cases = self._cases_of(records.values())
        rows = [
            (
                seen.case,
                seen.role,
                seen.via,
                records[seen.other].native_id if seen.other in records else str(seen.other),
                *cases.get(seen.other, (None, None)),
                seen.at,
                records[seen.other].updated if seen.other in records else None,
            )
            for seen in links
            if owners.case_of.get(seen.other) != seen.case  # type: ignore[arg-type]
            and (seen.other not in records or cases.get(seen.other, ("", ""))[0] in seen.to)
        ]
        return pl.DataFrame(rows, schema=LINKS, orient="row").sort("case", "role", "other")

    def _cases_of(self, records: Collection[OtherRecord]) -> dict[int | str, tuple[str, str | None]]:
        """Process and present state of the records that are cases."""
        kinds: dict[tuple[int, str], list[OtherRecord]] = {}
        for record in records:
            kinds.setdefault((record.source_id, record.kind), []).append(record)
        found: dict[int | str, tuple[str, str | None]] = {}
        for (source_id, kind), group in kinds.items():
            mapping = self._library.mappings[self._sources[source_id].mapped_by]
            for process, described in mapping.processes.items():
                if described.kind == kind:
                    frame = records_frame(group, described.source_fields())
                    states = standing(frame, described)["state"].to_list()
                    for record, meant, state in zip(group, members(frame, described), states, strict=True):
                        if meant:
                            found[record.id] = process, state
        return found

    def _needed(self, process: str, part: str) -> bool:
        """Whether any requirement of the process looks at it."""
        return any(
            r.check in LOOKED_AT_BY[part] for version in self._library.procedures[process] for r in version.requirements
        )

    # --- what was not read

    def unread(self, process: str) -> dict[str, str]:
        """Per source and part, what could not be read completely, and why."""
        return {
            f"{source.name}/{part}": why
            for source in self._sources.values()
            if self._mapping(source.id, process) is not None
            for part, why in self._unread_around(process, (source.id,)).items()
        }

    def _unread_around(self, process: str, source_ids: Sequence[int]) -> dict[str, str]:
        """What cannot be told of a case that has its records in these sources, and why."""
        told = {part: self._unread_part(process, part, source_ids) for part in JUDGED_PARTS}
        told["links"] = self._unread_links(process, source_ids)
        seen = self._seen_roles(process, source_ids)
        for role in self._asked_roles(process) - seen:
            told[f"links.{role}"] = f"no mapping tells of links in the role {role}"
        return {part: why for part, why in told.items() if why}

    def _unread_part(self, process: str, part: str, source_ids: Sequence[int]) -> str:
        mapped = [
            (source_id, described.kind)
            for source_id in source_ids
            if (mapping := self._mapping(source_id, process)) is not None
            and (described := getattr(mapping.parts, part)) is not None
        ]
        if not mapped:
            # A system without a list of items has its field alone.
            return "" if part == "cis" else f"the mapping names no {part}"
        if part == "slas" and not any(key in self._unread or key in self._levels for key in mapped):
            # Nobody defined any, or the account sees none: a source may leave out in silence what may not be read.
            return f"{mapped[0][1]} of {self._sources[mapped[0][0]].name}: none is shown of any case"
        return next((self._unread[key] for key in mapped if key in self._unread), "")

    def _unread_links(self, process: str, source_ids: Sequence[int]) -> str:
        """Why a link that is there may not be seen: the record that names the other, or the other, was not read."""
        for source in self._sources.values():
            for described in self._library.mappings[source.mapped_by].processes.values():
                names = any(link.inverse and process in link.to for link in described.links.values())
                if names and (source.id, described.kind) in self._partly:
                    return self._partly[source.id, described.kind]
        for source_id, kind in self._linked_kinds(process, source_ids):
            if (source_id, kind) in self._partly:
                return self._partly[source_id, kind]
        return ""

    def _linked_kinds(self, process: str, source_ids: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Where the records are that cases of the process name in their links."""
        for source_id in source_ids:
            mapping = self._mapping(source_id, process)
            for link in mapping.links.values() if mapping is not None else ():
                for other in self._systems(link.system) if link.system else [self._sources[source_id]]:
                    described = (self._mapping(other.id, name) for name in link.to)
                    yield from ((other.id, one.kind) for one in described if one is not None)

    def _asked_roles(self, process: str) -> set[str]:
        versions = self._library.procedures[process]
        return {role for version in versions for r in version.requirements for role in getattr(r, "roles", ())}

    def _seen_roles(self, process: str, source_ids: Sequence[int]) -> set[str]:
        own = {
            role for id_ in source_ids if (mapping := self._mapping(id_, process)) is not None for role in mapping.links
        }
        inverse = {
            link.inverse
            for source in self._sources.values()
            for described in self._library.mappings[source.mapped_by].processes.values()
            for link in described.links.values()
            if link.inverse and process in link.to
        }
        return own | inverse


@dataclass(frozen=True, slots=True)
class _Seen:
    """A link as a case has it. ``other`` is a record's id, or its name if it was not read."""

    case: int
    role: str
    other: int | str
    at: int | None
    to: Sequence[str]
    """Processes of which the other one has to be a case, once it was read."""
    via: str | None = None


def same_person(people: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Pseudonym -> the one that stands for the person: accounts that share any identifier belong together."""
    stands: dict[str, str] = {}

    def root(name: str) -> str:
        while stands.setdefault(name, name) != name:
            stands[name] = stands[stands[name]]
            name = stands[name]
        return name

    for name, account in people:
        one, other = sorted((root(name), root(account)))
        stands[other] = one
    return {name: root(name) for name in stands}


def _lost(
    approvals: pl.DataFrame, gone: Sequence[OtherRecord], owner_of: Mapping[int, int], saves: pl.DataFrame
) -> pl.DataFrame:
    """An approval that vanished unanswered may have been withdrawn before it was needed: its state is not known, unless
    the source dates its deletion and nothing was saved of its case since. Then it was still asked for."""
    if not gone:
        return approvals
    last = dict(saves.group_by("case").agg(pl.col("at").max()).iter_rows())
    lost = [r.native_id for r in gone if r.tombstone != What.DELETED or last.get(owner_of[r.id], 0) > (r.gone_at or 0)]
    unanswered = pl.col("id").is_in(lost) & (pl.col("state") == ASKED)
    return approvals.with_columns(pl.when(~unanswered).then("state").alias("state"))


def _only(log: CaseLog, cases: Sequence[int]) -> CaseLog:
    wanted = pl.Series(cases, dtype=pl.UInt32)
    frames = {
        name: getattr(log, name).filter(pl.col("case").is_in(wanted.implode()))
        for name in ("cases", "saves", "not_open", "approvals", "tasks", "links", "items", "slas", "pairs")
    }
    return replace(log, **frames)
