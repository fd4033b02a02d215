"""From verdicts to intents: reads figures, lets ``corrective`` decide, commits what was decided. Sends nothing."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Engine

from itsms_sync.chains import reach
from itsms_sync.conformance.kernel import start_of_day
from itsms_sync.corrective import evidence
from itsms_sync.corrective.decisions import Decisions, Hits, Identity, Opening, PeriodFigures, Standing, decide
from itsms_sync.corrective.figures import Period, Share, closed_months
from itsms_sync.corrective.following import Closed, Later, Reply, newest_generations, reply
from itsms_sync.corrective.following import writes as replies
from itsms_sync.corrective.texts import Texts
from itsms_sync.outbox import pack
from itsms_sync.procedures.library import Library
from itsms_sync.procedures.model import Demand, Procedure, Severity
from itsms_sync.records import Write
from itsms_sync.store import decided, outgoing
from itsms_sync.store.coverage import LAST, is_behind
from itsms_sync.store.judged import newest_judgement, unfinished

AT_ONCE = (Severity.S1, Severity.S2)


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A source whose cases open tickets from ``go_live`` (ms) on."""

    name: str
    source_id: int
    mapped_by: str
    """Name of its mapping."""
    go_live: int
    record_url: Callable[[str, str, str], str]
    """``(kind, id, label) -> address``"""


@dataclass(frozen=True, slots=True)
class TicketRules:
    """Where tickets go and how many."""

    target: str
    processes: tuple[str, ...]
    cap_per_owner: int
    max_writes: int
    texts: Texts


@dataclass(frozen=True, slots=True)
class Opened:
    """A nonconformity that was opened (or, in a dry run, would be)."""

    key: str
    summary: str
    severity: str
    owner: str
    queued: bool
    write: Write


@dataclass(frozen=True, slots=True)
class Outcome:
    periods: int
    opened: tuple[Opened, ...]
    digests: tuple[Write, ...]
    before: Mapping[str, Mapping[str, Share]]
    off: tuple[str, ...]


class Deciding:
    """Decisions of one pass: reads figures, lets ``corrective`` decide, commits what was decided."""

    def __init__(
        self,
        engine: Engine,
        library: Library,
        live: Sequence[LiveSource],
        rules: TicketRules | None,
        now: int,
    ) -> None:
        self._engine = engine
        self._library = library
        self._live = live
        self._rules = rules
        self._now = now

    def run(self, learned_at: int, *, dry_run: bool) -> Outcome:
        opened: list[Opened] = []
        digests: list[Write] = []
        off: list[str] = []
        periods = 0
        with self._engine.begin() as connection:
            before = {s.name: self._before(connection, s) for s in self._live}
            for process in sorted({p for s in self._live for p in self._library.judged_processes(s.mapped_by)}):
                if self._rules is None or process not in self._rules.processes:
                    off.append(process)
                    continue
                part = _ProcessDeciding(connection, self, self._rules, process, learned_at, dry_run)
                part.promote_queued()  # who waits goes before who comes
                decisions = part.decisions()
                part.reply_to_closed(decisions)
                periods += len(decisions.periods)
                opened += part.open(decisions)
                digests += part.digests(decisions)
        return Outcome(periods, tuple(opened), tuple(digests), before, tuple(off))

    def _before(self, connection: Connection, source: LiveSource) -> dict[str, Share]:
        result: dict[str, Share] = {}
        for process in self._library.judged_processes(source.mapped_by):
            for row in decided.figures(connection, process, source.source_id, 0, source.go_live):
                share = Share(row.judged, row.deviating, row.unknown)
                result[row.requirement] = result.get(row.requirement, Share(0, 0, 0)).plus(share)
        return result

    @property
    def library(self) -> Library:
        return self._library

    @property
    def now(self) -> int:
        return self._now

    def live(self, process: str) -> list[LiveSource]:
        return [s for s in self._live if process in self._library.judged_processes(s.mapped_by)]


class _ProcessDeciding:
    """The same for one process, inside one transaction."""

    def __init__(
        self, connection: Connection, all_: Deciding, rules: TicketRules, process: str, learned_at: int, dry_run: bool
    ) -> None:
        self._connection = connection
        self._rules = rules
        self._process = process
        self._learned_at = learned_at
        self._dry_run = dry_run
        self._library = all_.library
        self._sources = all_.live(process)
        self._now = all_.now
        self._tenant = self._library.processes.tenant
        self._procedure = self._in_force()
        self._nonconformities = decided.nonconformities(connection, process)

    def _in_force(self) -> Procedure:
        versions = self._library.procedures[self._process]
        started = [version for version in versions if start_of_day(version) <= self._now]
        return started[-1] if started else versions[0]

    def _demands(self) -> dict[str, tuple[Demand, str]]:
        return {r.id: (r, self._procedure.owner) for r in self._procedure.requirements}

    def decisions(self) -> Decisions:
        figures = self._period_figures()
        decisions = decide(
            figures,
            self._hits(),
            self._demands(),
            self._standing(),
            self._open_by_owner(),
            self._rules.cap_per_owner,
            newest_generations(row.key for row in outgoing.unexpected(self._connection, self._rules.target)),
        )
        if not self._dry_run:
            for item in decisions.periods:
                lower, upper = item.figures.share.interval()
                decided.add_period(
                    self._connection,
                    {
                        **self._key_columns(item.figures.identity),
                        "start": item.figures.period.start,
                        "end": item.figures.period.end,
                        "judged": item.figures.share.judged,
                        "deviating": item.figures.share.deviating,
                        "unknown": item.figures.share.unknown,
                        "lower": f"{lower:.6f}",
                        "upper": f"{upper:.6f}",
                        "exceeds": item.exceeds,
                        "decided_at": self._learned_at,
                    },
                )
        return decisions

    @staticmethod
    def _key_columns(identity: Identity) -> dict[str, str]:
        return {
            "process": identity.process,
            "requirement": identity.requirement,
            "check": identity.check,
            "scope": identity.scope,
        }

    def _identity(self, row: decided.FigureRow) -> Identity:
        return Identity(self._tenant, self._process, row.requirement, row.check, row.scope)

    def _period_figures(self) -> list[PeriodFigures]:
        covered = decided.covered_until(self._connection, [s.source_id for s in self._sources])
        if covered is None or self._reading_is_unfinished():
            return []
        taken = decided.decided_periods(self._connection, self._process)
        shares: dict[tuple[int, Identity], tuple[Period, Share]] = {}
        for source in self._sources:
            for period in self._read_months(source, min(covered, self._now)):
                for row in decided.figures(self._connection, self._process, source.source_id, period.start, period.end):
                    identity = self._identity(row)
                    if (row.requirement, row.check, row.scope, period.start) in taken:
                        continue
                    _, share = shares.get((period.start, identity), (period, Share(0, 0, 0)))
                    shares[period.start, identity] = period, share.plus(Share(row.judged, row.deviating, row.unknown))
        ordered = sorted(shares.items(), key=lambda item: item[0][0])
        return [PeriodFigures(identity, period, share) for (_, identity), (period, share) in ordered]

    def _read_months(self, source: LiveSource, covered: int) -> list[Period]:
        """The closed months of which every case is known, or as much of it as there is to be read."""
        months = list(closed_months(source.go_live, covered))
        kinds = {(s.source_id, kind) for s in self._sources for kind in self._library.kinds(s.mapped_by, self._process)}
        if not is_behind(self._connection, kinds):
            return months
        places = {s.source_id: s.mapped_by for s in self._sources}
        known = reach(self._connection, self._library, places, source.source_id, self._process)
        return [month for month in months if known.lacks(self._oldest(source, month), LAST - 1) is None]

    def _oldest(self, source: LiveSource, month: Period) -> int:
        """Since when the source has to be read for all cases that ended in the month to be known."""
        oldest = decided.oldest_of(self._connection, self._process, source.source_id, month.start, month.end)
        return month.start if oldest is None else min(oldest, month.start)

    def _reading_is_unfinished(self) -> bool:
        """A period is decided once, so not on a read that was cut off."""
        return any(
            unfinished(self._connection, s.source_id, kind)
            for s in self._sources
            for kind in self._library.kinds(s.mapped_by, self._process)
        )

    def _hits(self) -> list[Hits]:
        demands = self._demands()
        shares: dict[Identity, Share] = {}
        for source in self._sources:
            for row in decided.figures(self._connection, self._process, source.source_id, source.go_live, None):
                demand = demands.get(row.requirement)
                if demand is not None and demand[0].severity in AT_ONCE:
                    identity = self._identity(row)
                    share = Share(row.judged, row.deviating, row.unknown)
                    shares[identity] = shares.get(identity, Share(0, 0, 0)).plus(share)
        since = min((s.go_live for s in self._sources), default=0)
        return [Hits(identity, share, since) for identity, share in shares.items()]

    def _standing(self) -> dict[Identity, Standing]:
        return {
            Identity(self._tenant, self._process, n.requirement, n.check, n.scope): Standing(
                n.generation, n.state == "ended"
            )
            for n in sorted(self._nonconformities, key=lambda n: n.generation)
        }

    def _open_by_owner(self) -> dict[str, int]:
        taken: dict[str, int] = {}
        closed = outgoing.closed_keys(self._connection)
        for item in decided.nonconformities(self._connection):
            if item.state != "ended" and not item.queued and item.key not in closed:
                taken[item.owner] = taken.get(item.owner, 0) + 1
        return taken

    def open(self, decisions: Decisions) -> list[Opened]:
        judgement = newest_judgement(self._connection)
        coverage = {
            "judgement": judgement.id,
            "last_poll": judgement.last_poll_id,
            "documents": orjson.loads(judgement.documents),
        }
        return [self._open(opening, coverage) for opening in decisions.openings]

    def _open(self, opening: Opening, coverage: Mapping[str, Any]) -> Opened:
        rows = decided.examples(
            self._connection,
            self._process,
            opening.identity.requirement,
            opening.identity.scope,
            opening.since,
            opening.until,
            None,
        )
        titles = decided.titles(self._connection, self._places_by_choice())
        shown = evidence.Shown(self._examples(rows, titles), self._places(opening, titles))
        write = evidence.ticket(opening, self._procedure, self._names(opening.owner), shown, self._rules.texts)
        if not self._dry_run:
            cases = [f"{row.source}/{row.kind}/{row.native_id}" for row in rows]
            frozen = evidence.frozen(opening, write, cases, coverage)
            packed = pack(write)
            values = {
                "tenant": self._tenant,
                **self._key_columns(opening.identity),
                "generation": opening.generation,
                "key": opening.key,
                "queued": opening.queued,
                "severity": opening.requirement.severity.value,
                "owner": opening.owner,
                "evidence": orjson.dumps({**frozen.content, "write": packed}).decode(),
                "evidence_hash": frozen.hash,
            }
            decided.open_nonconformity(
                self._connection, values, None if opening.queued else packed, self._rules.target, self._learned_at
            )
        return Opened(
            opening.key, write.summary or "", opening.requirement.severity.value, opening.owner, opening.queued, write
        )

    def _names(self, owner: str) -> dict[str, str]:
        role = self._library.processes.roles[owner]
        names = {"process": self._library.process(self._process).title, "owner": role.title}
        return names if role.account is None else {**names, "account": role.account}

    def _examples(self, rows: Sequence[decided.ExampleRow], titles: decided.Titles) -> list[evidence.Example]:
        urls = {s.name: s.record_url for s in self._sources}
        return [
            evidence.Example(
                row.label,
                urls[row.source](row.kind, row.native_id, row.label),
                row.at,
                named(row.detail, row.source, titles),
            )
            for row in rows
        ]

    def _places_by_choice(self) -> list[tuple[int, str, str]]:
        """Where the field that says where work was done is a list of choices, its raw values have labels."""
        by = self._library.process(self._process).place_by
        mappings = [(s.source_id, self._library.mappings[s.mapped_by].processes[self._process]) for s in self._sources]
        return [
            (source_id, mapping.kind, attribute.field)
            for source_id, mapping in mappings
            if (attribute := mapping.attributes.get(by or "")) is not None and attribute.field is not None
        ]

    def _places(self, opening: Opening, titles: decided.Titles) -> list[evidence.Place]:
        if self._library.process(self._process).place_by is None:
            return []
        identity = opening.identity
        rows = decided.places(
            self._connection, self._process, identity.requirement, identity.scope, opening.since, opening.until
        )
        several = len({source for source, *_ in rows}) > 1
        return [
            evidence.Place(
                (titles.get((source, place), place) or "no group") + (f" ({source})" if several else ""), n, x
            )
            for source, place, n, x in rows
        ]

    def reply_to_closed(self, decisions: Decisions) -> None:
        """Has a ticket reopened, once, where cases after its close still deviate; after that a person is asked."""
        if self._dry_run:
            return
        demands, target = self._demands(), self._rules.target
        for item in self._nonconformities:
            row = outgoing.ticket_of(self._connection, target, item.key)
            if row is None or not row.done or row.closed_at is None or item.requirement not in demands:
                continue
            closed = Closed(
                item.key, row.closed_at, row.reopened or 0, row.escalated_at is not None, row.open_state or None
            )
            later = self._later(item, closed.at, decisions)
            wanted = reply(closed, demands[item.requirement][0].severity, later)
            if wanted is not Reply.NOTHING:
                self._reply(closed, wanted, later)

    def _later(self, item: decided.StoredNonconformity, after: int, decisions: Decisions) -> list[Later]:
        """What shows whether an action helped: the periods that were decided now, or what runs."""
        demand = self._demands()[item.requirement][0]
        identity = Identity(self._tenant, self._process, item.requirement, item.check, item.scope)
        ends: list[int | None] = [p.figures.period.end for p in decisions.periods if p.figures.identity == identity]
        named = (item.requirement, item.check, item.scope)
        sources = [s.source_id for s in self._sources]
        return [
            Later(
                Share(*decided.later_share(self._connection, self._process, named, sources, after, end)),
                demand.tolerance,
            )
            for end in ([None] if demand.severity in AT_ONCE else ends)
        ]

    def _reply(self, closed: Closed, wanted: Reply, later: Sequence[Later]) -> None:
        text = self._rules.texts.reopened if wanted is Reply.REOPEN else self._rules.texts.escalated
        target, at = self._rules.target, self._learned_at
        for write in replies(closed, wanted, later, text, self._manager()):
            decided.add_intent(self._connection, pack(write), target, at)
        known = {"reopened": closed.reopened + 1, "closed_at": at} if wanted is Reply.REOPEN else {"escalated_at": at}
        outgoing.change_ticket(self._connection, target, closed.key, known)

    def _manager(self) -> str:
        """The role that decides where an action did not help: the owner of corrective action."""
        processes = self._library.processes
        owner = processes.processes.get("corrective_action")
        return processes.roles[owner.owner].title if owner is not None else "SMS manager"

    def digests(self, decisions: Decisions) -> list[Write]:
        """One per owner for the newest period that was decided now, if there is anything to say."""
        if not decisions.periods:
            return []
        newest = max((p.figures.period for p in decisions.periods), key=lambda period: period.start)
        demands = self._demands()
        observed = [
            evidence.DigestLine(
                demands[p.figures.identity.requirement][0], p.figures.share.judged, p.figures.share.deviating
            )
            for p in decisions.periods
            if p.figures.period == newest and p.figures.share.deviating and not p.exceeds
        ]
        observed = [line for line in observed if line.requirement.severity not in AT_ONCE]
        queued = self._waiting(decisions)
        if not observed and not queued:
            return []
        owner = self._procedure.owner
        named = hashlib.sha256(f"{self._tenant}\0{self._process}\0{owner}".encode()).hexdigest()[:12]
        key = f"digest.{named}.{newest.name}"
        write = evidence.digest(
            key, self._names(owner), newest, queued, observed, self._rules.cap_per_owner, self._rules.texts
        )
        if not self._dry_run:
            decided.add_intent(self._connection, pack(write), self._rules.target, self._learned_at)
        return [write]

    def _waiting(self, decisions: Decisions) -> list[evidence.DigestLine]:
        """All that waits for a place, since whenever."""
        demands = self._demands()
        waiting = {o.key: (o.identity.requirement, o.share) for o in decisions.openings if o.queued}
        for row in decided.queued(self._connection, self._procedure.owner):
            figures = orjson.loads(row.evidence)["figures"]
            share = Share(figures["judged"], figures["deviating"], figures["unknown"])
            waiting.setdefault(row.key, (row.requirement, share))
        return [
            evidence.DigestLine(demands[requirement][0], share.judged, share.deviating)
            for requirement, share in waiting.values()
            if requirement in demands
        ]

    def promote_queued(self) -> None:
        """Gives free places under the owner's cap to those that wait."""
        if self._dry_run:
            return
        owner = self._procedure.owner
        free = self._rules.cap_per_owner - self._open_by_owner().get(owner, 0)
        for row in list(decided.queued(self._connection, owner))[: max(free, 0)]:
            decided.unqueue(self._connection, row.id)
            decided.add_intent(
                self._connection, orjson.loads(row.evidence)["write"], self._rules.target, self._learned_at
            )


def named(detail: str, source: str, titles: decided.Titles) -> str:
    """Ids of groups in a deviation's detail become their titles."""
    return " -> ".join(titles.get((source, part), part) for part in detail.split(" -> "))
