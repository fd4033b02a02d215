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
    due,
    make_all_due,
    newest_judgement,
    note_judged,
    unfinished,
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
        """Judges as of ``now`` (ms) what has new facts or fell due; all cases if the documents, the checks, the
        program or the accounts that are no persons changed since the last judgement, or if that one judged as of a
        later instant. ``between`` is called after each committed batch."""
        accounts = {s.name: s.ingested.system_accounts(s.system_accounts) for s in self._sources}
        with self._engine.begin() as connection:
            documents = self._documents(connection, accounts)
            basis = hashlib.sha256(orjson.dumps(documents, option=orjson.OPT_SORT_KEYS)).hexdigest()
            newest = newest_judgement(connection)
            everything = everything or newest is None or newest[0] != basis or newest[1] > now
            judgement_id = begin_judgement(connection, basis, documents, now, learned_at)
            if everything:
                make_all_due(connection)
        report = JudgementReport(everything=everything)
        for source in self._sources:
            for kind, processes in self._kinds(source).items():
                with self._engine.begin() as connection:
                    if unfinished(connection, source.ingested.source_id, kind):
                        continue  # records and their histories may not fit yet; what stands was said of a whole read
                parts = [
                    _Part(self, source, process, accounts[source.name], judgement_id, now, learned_at)
                    for process in processes
                ]
                for part in _batches(self._engine, source.ingested.source_id, kind, parts, now):
                    report = report.plus(part)
                    between()
        return report

    def _kinds(self, source: JudgedSource) -> dict[str, list[str]]:
        """Kind of record -> processes that judge it."""
        kinds: dict[str, list[str]] = {}
        for process in self._library.judged_processes(source.system):
            kinds.setdefault(self._mapping(source, process).kind, []).append(process)
        return kinds

    def _documents(self, connection: Connection, accounts: Mapping[str, frozenset[str]]) -> dict[str, object]:
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
            "system_accounts": {name: _digest(names) for name, names in accounts.items()},
        }

    def _mapping(self, source: JudgedSource, process: str) -> ProcessMapping:
        return self._library.mappings[source.system].processes[process]


def _digest(names: frozenset[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def _batches(
    engine: Engine, source_id: int, kind: str, parts: "Sequence[_Part]", now: int
) -> Iterator[JudgementReport]:
    """Each batch is judged by all processes of its kind before its records count as judged, and is committed before it
    is told."""
    after = 0
    while True:
        with engine.begin() as connection:
            records = due(connection, source_id, kind, now, after)
            if not records:
                return
            after = records[-1].id
            reports, rechecks = zip(*[part.judge(connection, records) for part in parts], strict=True)
            note_judged(connection, _earliest(rechecks))
        report = JudgementReport()
        for one in reports:
            report = report.plus(one)
        yield report


def _earliest(rechecks: Sequence[Mapping[int, int | None]]) -> list[tuple[int, int | None]]:
    return [
        (id_, min((at for at in (part[id_] for part in rechecks) if at is not None), default=None))
        for id_ in rechecks[0]
    ]


class _Part:
    """One process of one source in one judgement."""

    def __init__(
        self,
        judging: Judging,
        source: JudgedSource,
        process: str,
        accounts: frozenset[str],
        judgement_id: int,
        now: int,
        learned_at: int,
    ) -> None:
        self._library = judging._library
        self._judged = Judged(judging._engine, process)
        self._mapping = judging._mapping(source, process)
        self._source = source
        self._process = process
        self._judgement_id = judgement_id
        self._now = now
        self._learned_at = learned_at
        self._accounts = accounts

    def judge(
        self, connection: Connection, records: Sequence[StoredRecord]
    ) -> tuple[JudgementReport, dict[int, int | None]]:
        """What changed, and when each record has to be judged next (ms)."""
        ids = [item.id for item in records]
        judged = self._judged
        log = from_history(
            _records_frame(records, self._mapping), _events_frame(judged, connection, ids), self._basis(connection)
        )
        types = self._mapping.types()
        verdicts = judge(log, self._library.procedures[self._process], types, self._now)
        changes = _changes(_with_record_ids(verdicts, ids), judged.current(connection, ids))
        judged.replace(connection, self._judgement_id, changes.superseded, changes.new, self._learned_at)
        judged.end_deviations(connection, changes.ended, self._learned_at)
        judged.open_deviations(connection, changes.opened, self._learned_at)
        judged.keep_states(connection, self._states(log, ids))
        unmapped = {f"{a}={v}": n for a, v, n in log.unmapped.iter_rows()}
        report = JudgementReport(len(ids), len(changes.new), len(changes.opened), len(changes.ended), unmapped=unmapped)
        return report, _rechecks(verdicts, log, ids)

    def _basis(self, connection: Connection) -> Basis:
        has_history = bool(audited(connection, self._source.ingested.source_id, self._mapping.kind))
        fields = self._mapping.audited_fields() if has_history else frozenset()
        return Basis(self._mapping, self._now, fields, self._accounts)

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


def _rechecks(verdicts: pl.DataFrame, log: CaseLog, ids: Sequence[int]) -> dict[int, int | None]:
    """When each record has to be judged next. A case that is not open yet waits for its opening facts."""
    first = verdicts.group_by("case").agg(pl.col("recheck_at").min())
    instants = dict(first.iter_rows())
    unseen = dict(log.not_open.iter_rows())
    return {id_: instants.get(case, unseen.get(case)) for case, id_ in enumerate(ids)}
