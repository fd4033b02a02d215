"""From stored facts to stored verdicts: map and check, case by case, only what changed or fell due.

Owns the choice of cases, the batches and the difference between what was said before and what is said now. The
judgement itself is pure and elsewhere (``sms.cases``, ``conformance``).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson
import polars as pl
from sqlalchemy import Connection, Engine

from itsms_sync import __version__
from itsms_sync.conformance.kernel import CHECKS, judge
from itsms_sync.conformance.verdicts import BY_SHORT_CUT, Status
from itsms_sync.procedures.library import Library
from itsms_sync.sms.cases import EVENTS, RECORDS, Basis, CaseLog, from_history
from itsms_sync.sms.mapping import ProcessMapping
from itsms_sync.store.ingested import Ingested
from itsms_sync.store.judged import (
    CaseState,
    Judged,
    NewVerdict,
    StoredRecord,
    StoredVerdict,
    audited,
    begin_judgement,
    last_basis,
)

SAID = ["status", "reason", "detail", "at", "recheck_at"]
"""What makes a verdict another one."""


@dataclass(frozen=True, slots=True)
class JudgedSource:
    """A source as the judgement needs it."""

    name: str
    system: str
    ingested: Ingested
    system_accounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgementReport:
    cases: int = 0
    verdicts_changed: int = 0
    deviations_opened: int = 0
    deviations_ended: int = 0
    everything: bool = False
    unmapped: Mapping[str, int] | None = None

    def plus(self, other: "JudgementReport") -> "JudgementReport":
        unmapped = {**(self.unmapped or {})}
        for name, count in (other.unmapped or {}).items():
            unmapped[name] = unmapped.get(name, 0) + count
        return JudgementReport(
            self.cases + other.cases,
            self.verdicts_changed + other.verdicts_changed,
            self.deviations_opened + other.deviations_opened,
            self.deviations_ended + other.deviations_ended,
            self.everything or other.everything,
            unmapped,
        )


class Judging:
    """Judges the cases of all sources."""

    def __init__(self, engine: Engine, library: Library, sources: Sequence[JudgedSource]) -> None:
        self._engine = engine
        self._library = library
        self._sources = sources

    def run(
        self, now: int, learned_at: int, *, everything: bool = False, between: Callable[[], None] = lambda: None
    ) -> JudgementReport:
        """Judges as of ``now`` (ms) what has new facts or fell due; all cases if the documents, the checks or the
        program changed since the last judgement. ``between`` is called after each committed batch."""
        with self._engine.begin() as connection:
            documents = self._documents(connection)
            basis = hashlib.sha256(orjson.dumps(documents, option=orjson.OPT_SORT_KEYS)).hexdigest()
            everything = everything or last_basis(connection) != basis
            judgement_id = begin_judgement(connection, basis, documents, now, learned_at)
        report = JudgementReport(everything=everything)
        for source in self._sources:
            for process in self._library.judged_processes(source.system):
                task = _Task(self, source, process, judgement_id, now, learned_at, everything)
                for part in task.batches(self._engine):
                    report = report.plus(part)
                    between()
        return report

    def _documents(self, connection: Connection) -> dict[str, object]:
        histories = {
            f"{source.name}/{process}": bool(
                audited(connection, source.ingested.source_id, self._mapping(source, process).kind)
            )
            for source in self._sources
            for process in self._library.judged_processes(source.system)
        }
        return {
            "documents": dict(self._library.digests),
            "checks": {check.id: check.version for check in CHECKS.values()},
            "program": __version__,
            "histories": histories,
            "system_accounts": {source.name: list(source.system_accounts) for source in self._sources},
        }

    def _mapping(self, source: JudgedSource, process: str) -> ProcessMapping:
        return self._library.mappings[source.system].processes[process]


class _Task:
    """One process of one source in one judgement."""

    def __init__(
        self,
        judging: Judging,
        source: JudgedSource,
        process: str,
        judgement_id: int,
        now: int,
        learned_at: int,
        everything: bool,
    ) -> None:
        self._library = judging._library
        self._mapping = judging._mapping(source, process)
        self._source = source
        self._process = process
        self._judgement_id = judgement_id
        self._now = now
        self._learned_at = learned_at
        self._everything = everything

    def batches(self, engine: Engine) -> Iterator[JudgementReport]:
        judged = Judged(engine, self._process)
        source_id = self._source.ingested.source_id
        accounts = self._source.ingested.system_accounts(self._source.system_accounts)
        with engine.begin() as connection:
            has_history = bool(audited(connection, source_id, self._mapping.kind))
        fields = self._mapping.audited_fields() if has_history else frozenset()
        basis = Basis(self._mapping, self._now, fields, accounts)
        after = 0
        while True:
            with engine.begin() as connection:
                records = judged.due(
                    connection, source_id, self._mapping.kind, self._now, after, everything=self._everything
                )
                if not records:
                    return
                after = records[-1].id
                yield self._batch(connection, judged, records, basis)

    def _batch(
        self, connection: Connection, judged: Judged, records: Sequence[StoredRecord], basis: Basis
    ) -> JudgementReport:
        ids = [item.id for item in records]
        log = from_history(_records_frame(records, self._mapping), _events_frame(judged, connection, ids), basis)
        types = self._mapping.types()
        verdicts = judge(log, self._library.procedures[self._process], types, self._now)
        changes = _changes(_with_record_ids(verdicts, ids), judged.current(connection, ids))
        judged.replace(connection, self._judgement_id, changes.superseded, changes.new, self._learned_at)
        judged.end_deviations(connection, changes.ended, self._learned_at)
        judged.open_deviations(connection, changes.opened, self._learned_at)
        judged.keep_states(connection, self._states(log, ids))
        judged.judged(connection, _rechecks(verdicts, log, ids))
        unmapped = {f"{a}={v}": n for a, v, n in log.unmapped.iter_rows()}
        return JudgementReport(len(ids), len(changes.new), len(changes.opened), len(changes.ended), unmapped=unmapped)

    def _states(self, log: CaseLog, ids: Sequence[int]) -> list[CaseState]:
        process = self._library.process(self._process)
        scope = _last(process.scope_by, log, otherwise="all")
        place = _last(process.place_by, log, otherwise="")
        final = list(self._library.procedures[self._process][-1].flow.final)
        entered = (pl.col("state") != pl.col("state").shift(1)).fill_null(True)
        frame = log.saves.group_by("case", maintain_order=True).agg(
            pl.col("at").filter(entered).last().alias("entered"),
            pl.col("state").last(),
            scope.alias("scope"),
            place.alias("place"),
            pl.col("state").drop_nulls().unique().sort().alias("visited"),
        )
        frame = frame.join(log.cases.select("case", "opened"), on="case", how="left", maintain_order="left")
        return [
            CaseState(ids[case], opened, entered if state in final else None, state, scope, place, ",".join(visited))
            for case, entered, state, scope, place, visited, opened in frame.iter_rows()
        ]


def _last(attribute: str | None, log: CaseLog, *, otherwise: str) -> pl.Expr:
    """The attribute as it stands, as text."""
    if attribute is None or attribute not in log.saves.columns:
        return pl.lit(otherwise).first()
    return pl.col(attribute).cast(pl.String).last().fill_null("")


@dataclass(frozen=True, slots=True)
class _Changes:
    superseded: list[int]
    new: list[NewVerdict]
    opened: list[NewVerdict]
    ended: list[tuple[int, str, str, str]]


def _records_frame(records: Sequence[StoredRecord], mapping: ProcessMapping) -> pl.DataFrame:
    delivered = {name for item in records for name in item.fields}
    fields = [name for name in mapping.source_fields() if name in delivered]
    columns = {
        "case": pl.Series(range(len(records)), dtype=RECORDS["case"]),
        "created": pl.Series([item.created for item in records], dtype=pl.Int64),
        "updated": pl.Series([item.updated for item in records], dtype=pl.Int64),
        "version": pl.Series([item.version for item in records], dtype=pl.Int64),
    }
    values = {name: pl.Series([item.fields.get(name) for item in records], dtype=pl.String) for name in fields}
    return pl.DataFrame({**columns, **values})


def _events_frame(judged: Judged, connection: Connection, ids: Sequence[int]) -> pl.DataFrame:
    schema = {"record": pl.Int64, **{name: type_ for name, type_ in EVENTS.items() if name != "case"}}
    parts = [pl.DataFrame(rows, schema=schema, orient="row") for rows in judged.events(connection, ids)]
    events = pl.concat([pl.DataFrame(schema=schema), *parts])
    cases = pl.DataFrame({"record": pl.Series(ids, dtype=pl.Int64)}).with_row_index("case")
    joined = events.join(cases, on="record", how="inner", maintain_order="left")
    return joined.select(pl.col("case").cast(pl.UInt32), *(name for name in EVENTS if name != "case"))


def _with_record_ids(verdicts: pl.DataFrame, ids: Sequence[int]) -> pl.DataFrame:
    cases = pl.DataFrame({"record": pl.Series(ids, dtype=pl.Int64)}).with_row_index("case")
    return verdicts.join(
        cases.with_columns(pl.col("case").cast(pl.UInt32)), on="case", how="left", maintain_order="left"
    )


def _changes(verdicts: pl.DataFrame, current: Sequence[StoredVerdict]) -> _Changes:
    """Compares verdicts with those that stand. That a requirement does not apply is said where something else was said
    before, or where a documented short cut is the reason."""
    stored = pl.DataFrame(
        [
            (v.id, v.record_id, v.requirement, v.status, v.reason, v.detail, v.occurred_at, v.recheck_at)
            for v in current
        ],
        schema={
            "id": pl.Int64,
            "record": pl.Int64,
            "requirement": pl.String,
            "old_status": pl.String,
            "old_reason": pl.String,
            "old_detail": pl.String,
            "old_at": pl.Int64,
            "old_recheck_at": pl.Int64,
        },
        orient="row",
    )
    both = verdicts.join(stored, on=["record", "requirement"], how="full", coalesce=True, maintain_order="left_right")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"old_{name}")) for name in SAID)
    inapplicable = (pl.col("status") == Status.NOT_APPLICABLE.value) & ~pl.col("reason").str.starts_with(BY_SHORT_CUT)
    never_said = pl.col("id").is_null() & inapplicable
    changed = both.filter(~same & ~never_said.fill_null(False))
    new = [
        NewVerdict(*row)
        for row in changed.filter(pl.col("status").is_not_null())
        .select("record", "requirement", "check", "status", "reason", "detail", "at", "recheck_at")
        .iter_rows()
    ]
    superseded = changed["id"].drop_nulls().to_list()
    was = changed.filter(pl.col("old_status") == Status.DEVIATING.value)
    return _Changes(superseded, new, _opened(changed), _ended(was))


def _opened(changed: pl.DataFrame) -> list[NewVerdict]:
    is_new = (pl.col("status") == Status.DEVIATING.value) & ~(pl.col("old_status") == Status.DEVIATING.value).fill_null(
        False
    )
    rows = changed.filter(is_new).select(
        "record", "requirement", "check", "status", "reason", "detail", "at", "recheck_at"
    )
    return [NewVerdict(*row) for row in rows.iter_rows()]


def _ended(was: pl.DataFrame) -> list[tuple[int, str, str, str]]:
    """A deviation is corrected if a later fact put it right, and withdrawn if it is no longer seen as one."""
    ended = was.filter((pl.col("status") != Status.DEVIATING.value).fill_null(True))
    return [
        (record, requirement, "corrected", "a later save put it right")
        if status == Status.CONFORMING.value and at is not None and at > old_at
        else (
            record,
            requirement,
            "withdrawn",
            f"judged again: {status or 'requirement no longer stands'}{f', {reason}' if reason else ''}",
        )
        for record, requirement, status, reason, at, old_at in ended.select(
            "record", "requirement", "status", "reason", "at", "old_at"
        ).iter_rows()
    ]


def _rechecks(verdicts: pl.DataFrame, log: CaseLog, ids: Sequence[int]) -> list[tuple[int, int | None]]:
    """When each record has to be judged next. A case that is not open yet waits for its opening facts."""
    first = verdicts.group_by("case").agg(pl.col("recheck_at").min())
    instants = dict(first.iter_rows())
    unseen = dict(log.not_open.iter_rows())
    return [(id_, instants.get(case, unseen.get(case))) for case, id_ in enumerate(ids)]
