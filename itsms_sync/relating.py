"""Which records belong together: reads the names of other records in what is new, finds those records, and marks all
that depend on something new as to be judged.

Runs before the judgement. A case depends on its parts, on its pair, on the records that it is linked with, and on those
that these are linked with in a role that some requirement looks through (``via``). A record with facts of its own makes
its neighbours due, a neighbour nobody: otherwise every new ticket would wake the whole desk.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from sqlalchemy import Connection, Engine

from itsms_sync.procedures.library import Library
from itsms_sync.sms.mapping import Mapping as MappingDocument
from itsms_sync.sms.relations import Tie, named
from itsms_sync.store import related
from itsms_sync.store.ingested import Ingested
from itsms_sync.store.related import Naming, NewRecord, Relation
from itsms_sync.store.schema import DEPENDS, NEW_FACTS

STEPS = 3
"""How far pairs and looked-through links are followed."""
LONGEST_NAME = 120
"""No id or number is longer; what is, is no name of a record."""


@dataclass(frozen=True, slots=True)
class JudgedSource:
    """A source as the judgement needs it."""

    name: str
    system: str
    mapped_by: str
    """Name of its mapping."""
    ingested: Ingested
    system_accounts: tuple[str, ...]
    whole_records: bool = False
    """Whether its records come with their whole history."""
    go_live: int | None = None
    """Since when its cases open tickets (ms)."""

    @property
    def id(self) -> int:
        return self.ingested.source_id


class Relating:
    """Relations of all sources."""

    def __init__(self, engine: Engine, library: Library, sources: Sequence[JudgedSource]) -> None:
        self._engine = engine
        self._sources = [s for s in sources if s.mapped_by in library.mappings]
        self._mappings = {s.id: library.mappings[s.mapped_by] for s in self._sources}
        self._systems = {s.id: s.system for s in self._sources}
        self._through = library.looked_through()

    def run(self, between: Callable[[], None]) -> None:
        """``between`` is called after each committed batch and may raise to stop: the next run goes on there."""
        for source in self._sources:
            mapping = self._mappings[source.id]
            for kind in dict.fromkeys(described.kind for described in mapping.described()):
                self._relate(source, mapping, kind, between)
        self._spread(between)

    def _relate(self, source: JudgedSource, mapping: MappingDocument, kind: str, between: Callable[[], None]) -> None:
        only_parts = all(process.kind != kind for process in mapping.processes.values())
        after = 0
        while True:
            with self._engine.begin() as connection:
                records = related.records_with_new_facts(connection, source.id, kind, after)
                if not records:
                    return
                after = records[-1].id
                self._renew(connection, source, mapping, kind, records)
                self._recognise(connection, source, kind, records)
                if only_parts:
                    related.settle(connection, [item.id for item in records])
            between()

    def _renew(
        self,
        connection: Connection,
        source: JudgedSource,
        mapping: MappingDocument,
        kind: str,
        records: list[NewRecord],
    ) -> None:
        """What these records name now; whoever gained or lost by it is due, and the owner of a part in any case."""
        rows = self._named(connection, source, mapping, kind, records)
        touched = related.replace(connection, self._engine, [item.id for item in records], rows)
        owners = {row.other_id for row in rows if row.tie == Tie.PART and row.other_id is not None}
        related.make_due(connection, touched | owners, NEW_FACTS)

    def _named(
        self,
        connection: Connection,
        source: JudgedSource,
        mapping: MappingDocument,
        kind: str,
        records: list[NewRecord],
    ) -> list[Relation]:
        frame = fields_frame(records, mapping, kind)
        rows = [
            Relation(records[item.place].id, *item[1:], None)
            for item in named(frame, kind, mapping)
            if len(item.value) <= LONGEST_NAME
        ]
        found: dict[tuple[str, str, str], dict[str, list[int]]] = {}
        for system, by, to in {(row.system, row.by, row.to) for row in rows}:
            values = {row.value for row in rows if (row.system, row.by, row.to) == (system, by, to)}
            found[system, by, to] = self._find(connection, source.id, system, by, to, values)
        return [row._replace(other_id=_only(found[row.system, row.by, row.to], row)) for row in rows]

    def _find(
        self, connection: Connection, source_id: int, system: str, by: str, to: str, values: set[str]
    ) -> dict[str, list[int]]:
        """Records that are meant by these names, seen from that source."""
        found: dict[str, list[int]] = {}
        for other in self._meant(source_id, system):
            kinds = self._kinds(other, to)
            if kinds:
                for value, ids in related.find(connection, [other], kinds, by, values).items():
                    found.setdefault(value, []).extend(ids)
        return found

    def _meant(self, source_id: int, system: str) -> list[int]:
        return [source_id] if not system else [id_ for id_, name in self._systems.items() if name == system]

    def _kinds(self, source_id: int, to: str) -> set[str]:
        processes = self._mappings[source_id].processes
        return {processes[name].kind for name in to.split(",") if name in processes}

    def _recognise(self, connection: Connection, source: JudgedSource, kind: str, records: Sequence[NewRecord]) -> None:
        """Records that were named before they were read; and names that meant one record until another has them too."""
        names = {"id": {r.native_id for r in records}, "label": {r.label for r in records if r.label}}
        unsettled = related.naming(connection, names["id"] | names["label"])
        meant = [item for item in unsettled if item.value in names[item.by] and self._is_meant(source.id, kind, item)]
        changed = [(item, other) for item, other in self._others(connection, meant) if other != item.other_id]
        related.resolve(connection, [(item.id, other) for item, other in changed])
        lost = {item.other_id for item, _ in changed if item.other_id is not None}
        related.make_due(connection, {item.record_id for item, _ in changed} | lost, NEW_FACTS)

    def _others(self, connection: Connection, meant: Sequence[Naming]) -> Iterator[tuple[Naming, int | None]]:
        """What these names mean by now."""
        seen_from: dict[tuple[int, str, str, str], list[Naming]] = {}
        for item in meant:
            seen_from.setdefault((item.source_id, item.system, item.by, item.to), []).append(item)
        for asked, items in seen_from.items():
            found = self._find(connection, *asked, {item.value for item in items})
            yield from ((item, _only(found, item)) for item in items)

    def _is_meant(self, source_id: int, kind: str, item: Naming) -> bool:
        return source_id in self._meant(item.source_id, item.system) and kind in self._kinds(source_id, item.to)

    def _spread(self, between: Callable[[], None]) -> None:
        """Makes due what depends on records with new facts."""
        after = 0
        while True:
            with self._engine.begin() as connection:
                ids = related.due_cases(connection, after)
                if not ids:
                    return
                after = ids[-1]
                related.make_due(connection, self._dependants(connection, set(ids)), DEPENDS)
            between()

    def _dependants(self, connection: Connection, ids: set[int]) -> set[int]:
        reached, frontier = set(ids), set(ids)
        for _ in range(STEPS):
            frontier = related.neighbours(connection, frontier, self._through) - reached
            if not frontier:
                break
            reached |= frontier
        return (reached | related.neighbours(connection, reached)) - ids


def fields_frame(records: Sequence[NewRecord], mapping: MappingDocument, kind: str) -> pl.DataFrame:
    """One text column per field that the mapping names of this kind; null where the source did not deliver it."""
    return pl.DataFrame(
        {name: [item.fields.get(name) for item in records] for name in _fields(mapping, kind)},
        schema=dict.fromkeys(_fields(mapping, kind), pl.String),
    )


def _fields(mapping: MappingDocument, kind: str) -> Iterator[str]:
    yield from dict.fromkeys(f for d in mapping.described() if d.kind == kind for f in d.asked_fields())


def _only(found: Mapping[str, list[int]], row: Relation | Naming) -> int | None:
    """The record that is meant; a name that several sources have, or the record's own, means none."""
    ids = [id_ for id_ in dict.fromkeys(found.get(row.value, ())) if id_ != row.record_id]
    return ids[0] if len(ids) == 1 else None
