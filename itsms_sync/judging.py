"""From stored facts to stored verdicts: map and check, case by case, only what changed or fell due.

Which records belong together is found first (``relating``), what surrounds a case is ``chains``. Owns the choice of
cases, the batches and the difference between what was said before and what is said now. The
judgement itself is pure and elsewhere (``sms.cases``, ``conformance``).
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson
import polars as pl
from sqlalchemy import Connection, Engine

from itsms_sync import __version__
from itsms_sync.chains import OWN_TICKETS, Accounts, Chains, Reach, events_frame, observed_frame, records_frame
from itsms_sync.conformance.catalogue import CHECKS
from itsms_sync.conformance.kernel import judge
from itsms_sync.conformance.verdicts import BY_SHORT_CUT, GONE, NOT_READ, RUNNING, STILL_OPEN, VERDICTS, Status
from itsms_sync.procedures.library import Library
from itsms_sync.records import Gap
from itsms_sync.relating import JudgedSource, Relating
from itsms_sync.sms.cases import Basis, CaseLog, besides, from_history
from itsms_sync.sms.mapping import ProcessMapping
from itsms_sync.sms.relations import members
from itsms_sync.store.decided import covered_until
from itsms_sync.store.ingested import UNTRACED
from itsms_sync.store.judged import (
    OPEN,
    CaseState,
    Judged,
    NewVerdict,
    StoredRecord,
    StoredVerdict,
    audited,
    begin_judgement,
    cut,
    due,
    make_all_due,
    newest_judgement,
    note_judged,
    period_of,
    unfinished,
)
from itsms_sync.store.related import OtherRecord, make_unread_due, others
from itsms_sync.store.schema import WAITS

SAID = ["status", "reason", "detail", "at", "recheck_at"]
"""What makes a verdict another one."""


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


@dataclass(frozen=True, slots=True)
class Recounted:
    """One case as the judgement sees it."""

    log: CaseLog
    """The case alone, with all that surrounds it."""
    verdicts: pl.DataFrame
    now: int
    """As of when (ms): nothing later is in it."""
    waits: str | None
    """Why nothing is said of it yet."""


class Judging:
    """Judges the cases of all sources."""

    def __init__(self, engine: Engine, library: Library, sources: Sequence[JudgedSource]) -> None:
        self._engine = engine
        self._library = library
        self._sources = sources

    def run(
        self, now: int, learned_at: int, *, everything: bool = False, between: Callable[[], None] = lambda: None
    ) -> JudgementReport:
        """Judges as of ``now`` (ms), or as of what was read where that is earlier, what has new facts, depends on what
        has, or fell due; all cases if the documents, the checks, the program or the accounts that are no persons
        changed since the last judgement, or if that one judged as of a later instant. ``between`` is called after each
        committed batch."""
        accounts = {s.name: s.ingested.system_accounts(s.system_accounts) for s in self._sources}
        with self._engine.begin() as connection:
            documents = self._documents(connection, accounts)
            everything = _begin(connection, documents, now, everything=everything)
            for source in self._sources:
                cut(connection, source.id, source.go_live)
        Relating(self._engine, self._library, self._sources).run(between)
        with self._engine.begin() as connection:
            chains = Chains(connection, self._library, self._sources, accounts, now)
            judgement = _Judgement(
                self._judgement(connection, chains, documents, now, learned_at), now, learned_at, accounts
            )
        report = JudgementReport(everything=everything)
        for source in self._sources:
            read = replace(judgement, now=self._read_until(source, now))
            for kind, processes in self._kinds(source).items():
                if self._is_unfinished(source, processes):
                    continue  # records and their histories may not fit yet; what stands was said of a whole read
                with self._engine.begin() as connection:
                    parts = [
                        _Part(self, source, process, chains, read, chains.reach(connection, source.id, process))
                        for process in processes
                    ]
                for part in _batches(self._engine, source.id, kind, parts, read.now):
                    report = report.plus(part)
                    between()
        return report

    def recount(
        self, connection: Connection, source_id: int, process: str, record_id: int, as_of: int
    ) -> Recounted | None:
        """One case judged anew by the documents as they are, and nothing stored of it; ``None`` if the record is no
        case of the process, or was not open yet."""
        (source,) = (source for source in self._sources if source.id == source_id)
        accounts = {s.name: s.ingested.system_accounts(s.system_accounts) for s in self._sources}
        now = self._read_until(source, as_of)
        chains = Chains(connection, self._library, self._sources, accounts, now)
        reach = chains.reach(connection, source_id, process)
        part = _Part(self, source, process, chains, _Judgement(0, now, now, accounts), reach)
        return part.recount(connection, others(connection, [record_id]).values())

    def _read_until(self, source: JudgedSource, now: int) -> int:
        """The instant as of which the source's cases are judged (ms): nothing after what was read of it is known, by
        its own clock, so neither an outage nor a clock of ours that is ahead makes a case late.
        """
        with self._engine.begin() as connection:
            read = covered_until(connection, [source.id])
        return now if read is None else min(now, read)

    def _judgement(
        self, connection: Connection, chains: Chains, documents: Mapping[str, object], now: int, learned_at: int
    ) -> int:
        """Opens the judgement and returns its id; what could not be told because it was not read is due once it was."""
        unread = {process: chains.unread(process) for process in self._library.procedures}
        newest = newest_judgement(connection)
        before = orjson.loads(newest.documents).get("unread", {}) if newest is not None else {}
        for process, told in unread.items():
            if before.get(process, {}) != told:
                make_unread_due(connection, process, NOT_READ)
        return begin_judgement(connection, _basis(documents), {**documents, "unread": unread}, now, learned_at)

    def _is_unfinished(self, source: JudgedSource, processes: Sequence[str]) -> bool:
        """Whether anything that these cases consist of is not read to its end."""
        kinds = {kind for process in processes for kind in self._library.kinds(source.mapped_by, process)}
        with self._engine.begin() as connection:
            return any(unfinished(connection, source.id, kind) for kind in sorted(kinds))

    def _kinds(self, source: JudgedSource) -> dict[str, list[str]]:
        """Kind of record -> processes that judge it."""
        kinds: dict[str, list[str]] = {}
        for process in self._library.judged_processes(source.mapped_by):
            kinds.setdefault(self._mapping(source, process).kind, []).append(process)
        return kinds

    def _documents(self, connection: Connection, accounts: Accounts) -> dict[str, object]:
        """What a judgement rests on; a change in it is a reason to judge all anew."""
        histories = {
            f"{source.name}/{kind}": bool(audited(connection, source.id, kind))
            for source in self._sources
            if source.mapped_by in self._library.mappings
            for kind in sorted({d.kind for d in self._library.mappings[source.mapped_by].described()})
        }
        return {
            "documents": dict(self._library.digests),
            "checks": {check.id: check.version for check in CHECKS.values()},
            "program": __version__,
            "histories": histories,
            "sources": {source.name: source.mapped_by for source in self._sources},
            "go_live": {source.name: source.go_live for source in self._sources},
            "system_accounts": {name: _digest(names) for name, names in accounts.items()},
        }

    def _mapping(self, source: JudgedSource, process: str) -> ProcessMapping:
        return self._library.mappings[source.mapped_by].processes[process]


@dataclass(frozen=True, slots=True)
class _Judgement:
    id: int
    now: int
    learned_at: int
    accounts: Accounts


def _begin(connection: Connection, documents: Mapping[str, object], now: int, *, everything: bool) -> bool:
    """Whether all has to be judged; then all is due, also for the run after one that is cut off."""
    newest = newest_judgement(connection)
    everything = everything or newest is None or newest.basis != _basis(documents) or newest.as_of > now
    if everything:
        make_all_due(connection)
    return everything


def _basis(documents: Mapping[str, object]) -> str:
    return hashlib.sha256(orjson.dumps(documents, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _digest(names: frozenset[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def _batches(
    engine: Engine, source_id: int, kind: str, parts: "Sequence[_Part]", now: int
) -> Iterator[JudgementReport]:
    """Each batch is judged by all processes of its kind before its records count as judged, and is committed before it
    is told."""
    place = (0, 0)
    while True:
        with engine.begin() as connection:
            records, place = due(connection, source_id, kind, now, place)
            if not records:
                return
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
        self, judging: Judging, source: JudgedSource, process: str, chains: Chains, judgement: _Judgement, reach: Reach
    ) -> None:
        self._library = judging._library
        self._judged = Judged(judging._engine, process)
        self._mapping = judging._mapping(source, process)
        self._types = self._library.types(process)
        self._source = source
        self._process = process
        self._chains = chains
        self._judgement = judgement
        self._reach = reach

    def judge(
        self, connection: Connection, records: Sequence[StoredRecord]
    ) -> tuple[JudgementReport, dict[int, int | None]]:
        """What changed, and when each record has to be judged next (ms). A case that vanished from its source is judged
        as of then: no limit runs out on it any more, and what was wrong before stays wrong."""
        report, due_at = JudgementReport(), dict[int, int | None]()
        for gone_at, group in _by_end(records, self._judgement.now):
            told, rechecks = self._judge_as_of(connection, group, gone_at)
            report, due_at = report.plus(told), {**due_at, **rechecks}
        return report, due_at

    def _judge_as_of(
        self, connection: Connection, records: Sequence[StoredRecord], gone_at: int | None
    ) -> tuple[JudgementReport, dict[int, int | None]]:
        now = self._judgement.now if gone_at is None else gone_at
        cases = self._cases(connection, records)
        others = sorted({item.id for item in records} - {item.id for item in cases})
        ids = [item.id for item in cases]
        judged, at = self._judged, self._judgement.learned_at
        before = judged.counted(connection, sorted([*ids, *others]))
        log = self._log(connection, cases, now)
        waiting = self._waiting(cases)
        verdicts = _left_open(self._said(cases, self._pieces(connection, log, ids, now), now, gone_at), waiting)
        changes = _changes(_with_record_ids(verdicts, ids), judged.current(connection, sorted([*ids, *others])))
        judged.replace(connection, self._judgement.id, changes.superseded, changes.new, at)
        judged.end_deviations(connection, changes.ended, at)
        judged.open_deviations(connection, changes.opened, at)
        judged.keep_states(connection, self._states(log, ids, gone_at))
        self._settle_untraced(connection, log, cases, waiting)
        judged.forget_states(connection, others)
        judged.tell(connection, self._source.id, judged.counted(connection, ids), before)
        unmapped = {f"{a}={v}": n for a, v, n in log.unmapped.iter_rows()}
        report = JudgementReport(len(ids), len(changes.new), len(changes.opened), len(changes.ended), unmapped=unmapped)
        rechecks = _rechecks(verdicts, log, ids) if gone_at is None else dict.fromkeys(ids)
        vanish = {item.id: item.gone_at for item in cases if gone_at is None and item.gone_at is not None}
        soonest = {id_: min(vanish[id_], at or vanish[id_]) for id_, at in rechecks.items() if id_ in vanish}
        waits = {ids[case]: WAITS + self._start(cases[case]) for case in waiting}
        return report, {**dict.fromkeys(others), **rechecks, **soonest, **waits}

    def _start(self, item: StoredRecord) -> int:
        """From when on its source has to be read for all of its history to be there."""
        return item.updated if self._source.whole_records or item.created is None else item.created

    def _waiting(self, cases: Sequence[StoredRecord]) -> dict[int, str]:
        """Cases of which a part of the history is still to be read, and how that is told."""
        told = ((case, self._reach.lacks(self._start(item), item.updated)) for case, item in enumerate(cases))
        return {case: f"{NOT_READ} yet: what happened before {_day(at)}" for case, at in told if at is not None}

    def _delivered(self, item: StoredRecord) -> StoredRecord:
        """Without fields that were not asked for all the time: of these no more is known than of one not delivered."""
        lacking = self._reach.fields_lacking(self._start(item), item.updated)
        if not lacking:
            return item
        return item._replace(fields={name: value for name, value in item.fields.items() if name not in lacking})

    def _cases(self, connection: Connection, records: Sequence[StoredRecord]) -> list[StoredRecord]:
        """The cases of the process among the records: meant by the mapping, not led by another record, not our own."""
        frame = records_frame(records, self._mapping.source_fields())
        led = self._chains.led(connection, self._process, [item.id for item in records])
        return [
            item
            for item, meant in zip(records, members(frame, self._mapping), strict=True)
            if meant and item.id not in led and not self._is_ours(item)
        ]

    def _is_ours(self, item: StoredRecord) -> bool:
        return self._process != OWN_TICKETS and self._chains.is_own_ticket(self._source.name, item.native_id)

    def _log(self, connection: Connection, cases: Sequence[StoredRecord], now: int) -> CaseLog:
        cut = [self._chains.is_cut(self._source.id, item.native_id) for item in cases]
        ids = [item.id for item in cases]
        events, observed = events_frame(connection, ids), observed_frame(connection, ids)
        if self._reach.fields:
            cases = [self._delivered(item) for item in cases]
            delivered = [frozenset(item.fields) for item in cases]
            events, observed = (_of_fields(one, delivered, frozenset(self._reach.fields)) for one in (events, observed))
        frame = records_frame(cases, self._mapping.source_fields(), cut)
        return from_history(frame, events, self._basis(now), observed)

    def recount(self, connection: Connection, records: Iterable[OtherRecord]) -> Recounted | None:
        """The only case among the records."""
        stored = [
            StoredRecord(r.id, r.native_id, r.created, r.updated or 0, r.version, r.fields, r.tombstone, r.gone_at)
            for r in records
        ]
        for gone_at, group in _by_end(self._cases(connection, stored), self._judgement.now):
            now = self._judgement.now if gone_at is None else gone_at
            log = self._log(connection, group, now)
            pieces = list(self._pieces(connection, log, [item.id for item in group], now))
            waiting = self._waiting(group)
            if not log.cases.is_empty():
                verdicts = _left_open(self._said(group, pieces, now, gone_at), waiting)
                return Recounted(pieces[0], verdicts, now, waiting.get(0))
        return None

    def _pieces(self, connection: Connection, log: CaseLog, ids: Sequence[int], now: int) -> Iterator[CaseLog]:
        """The log with what surrounds its cases."""
        return self._chains.as_of(now).around(connection, log, self._process, self._source.id, ids)

    def _said(
        self, cases: Sequence[StoredRecord], pieces: Iterable[CaseLog], now: int, gone_at: int | None
    ) -> pl.DataFrame:
        versions = self._library.procedures[self._process]
        judged = [judge(piece, versions, self._types, now, self._library.clocks) for piece in pieces]
        verdicts = pl.concat([pl.DataFrame(schema=VERDICTS), *judged])
        if gone_at is not None:
            verdicts = _ended_for_good(verdicts, [item.tombstone for item in cases])
        return verdicts

    def _basis(self, now: int) -> Basis:
        has_history = self._chains.has_history(self._source.id, self._mapping.kind)
        fields = self._mapping.audited_fields() if has_history else frozenset()
        return Basis(self._mapping, now, fields, self._judgement.accounts[self._source.name])

    def _settle_untraced(
        self, connection: Connection, log: CaseLog, cases: Sequence[StoredRecord], waiting: Collection[int]
    ) -> None:
        """What the history ought to tell of these cases and does not is a gap on each, unless more of it is still to be
        read; what it tells by now is none."""
        fields = self._basis(self._judgement.now).audited
        if not fields:
            return
        kind = self._mapping.kind
        message = "a field changed in a save of which the history has no trace"
        rows = log.untraced.unique(["case", "field"], keep="first", maintain_order=True)
        found = [
            Gap(kind, UNTRACED, message, since, at, cases[case].native_id, field)
            for case, field, since, at in rows.iter_rows()
            if case not in waiting
        ]
        records = [item.native_id for item in cases]
        self._source.ingested.settle_untraced(connection, kind, records, fields, found, self._judgement.learned_at)

    def _states(self, log: CaseLog, ids: Sequence[int], gone_at: int | None) -> list[CaseState]:
        """A case that is gone is no longer open, in whatever state it was."""
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
            CaseState(ids[case], opened, ended, state, scope, place, ",".join(visited), self._period(ended))
            for case, entered, state, scope, place, visited, opened in frame.iter_rows()
            for ended in (entered if state in final else gone_at,)
        ]

    def _period(self, ended: int | None) -> int:
        return OPEN if ended is None else period_of(ended, self._source.go_live)


def _left_open(verdicts: pl.DataFrame, waiting: Mapping[int, str]) -> pl.DataFrame:
    """Nothing is said of cases that wait for their history, whatever the part that is there looks like."""
    if not waiting:
        return verdicts
    why = pl.DataFrame({"case": list(waiting), "_why": list(waiting.values())}, schema_overrides={"case": pl.UInt32})
    joined = verdicts.join(why, on="case", how="left", maintain_order="left")
    waits = pl.col("_why").is_not_null()
    return joined.with_columns(
        pl.when(waits).then(pl.lit(Status.UNKNOWN.value)).otherwise("status").alias("status"),
        pl.when(waits).then("_why").otherwise("reason").alias("reason"),
        *(pl.when(~waits).then(name).alias(name) for name in ("at", "recheck_at", "detail")),
    ).drop("_why")


def _of_fields(events: pl.DataFrame, delivered: Sequence[frozenset[str]], doubtful: frozenset[str]) -> pl.DataFrame:
    """Without changes of doubtful fields in cases that were not delivered with them."""
    lacking = pl.DataFrame(
        [(case, name) for case, names in enumerate(delivered) for name in sorted(doubtful - names)],
        schema={"case": pl.UInt32, "field": pl.String},
        orient="row",
    )
    return events.join(lacking, on=["case", "field"], how="anti", maintain_order="left")


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def counting(
    connection: Connection, source_id: int, record_id: int, mapping: ProcessMapping, now: int
) -> set[tuple[str, int, str | None]]:
    """What lesser witnesses add to the history of one record: ``(field, instant, new value)``."""
    records = records_frame(list(others(connection, [record_id]).values()), mapping.source_fields())
    kept = mapping.audited_fields() if audited(connection, source_id, mapping.kind) else frozenset()
    events, observed = events_frame(connection, [record_id]), observed_frame(connection, [record_id])
    seen = besides(records, events, observed, Basis(mapping, now, kept, frozenset()))
    told = (seen.steps.select("field", "at", "new"), seen.initial.select("field", "at", "value"))
    return {(field, at, new) for frame in told for field, at, new in frame.iter_rows()}


def _by_end(records: Sequence[StoredRecord], now: int) -> list[tuple[int | None, list[StoredRecord]]]:
    """Records with the instant (ms) at which they had vanished by ``now``; ``None`` for those that are there."""
    groups: dict[int | None, list[StoredRecord]] = {}
    for item in records:
        groups.setdefault(item.gone_at if item.gone_at is not None and item.gone_at <= now else None, []).append(item)
    return list(groups.items())


def _ended_for_good(verdicts: pl.DataFrame, tombstones: Sequence[str | None]) -> pl.DataFrame:
    """What was still to be decided when the case vanished stays unknown."""
    why = pl.DataFrame(
        {"case": pl.Series(range(len(tombstones)), dtype=pl.UInt32), "why": pl.Series(tombstones, dtype=pl.String)}
    )
    undecided = pl.col("recheck_at").is_not_null() | pl.col("reason").is_in((STILL_OPEN, RUNNING))
    settled = verdicts.join(why, on="case", how="left", maintain_order="left").with_columns(
        pl.when(undecided).then(pl.lit(Status.UNKNOWN.value)).otherwise("status").alias("status"),
        pl.when(undecided).then(pl.lit(GONE) + pl.col("why")).otherwise("reason").alias("reason"),
        pl.lit(None, pl.Int64).alias("recheck_at"),
    )
    return settled.select(verdicts.columns)


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
