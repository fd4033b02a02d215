"""Decides which requirements ask for corrective action, and in which order owners hear of it.

S1 and S2 count from the first hit. S3 is decided once per closed period: at least five deviating cases and a lower
bound
above the tolerance. S4 is never more than a line in the digest. One nonconformity per identity is open at a time; a new
generation begins only after the former ended.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from itsms_sync.corrective.figures import Period, Share
from itsms_sync.procedures.model import Demand, Severity


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a nonconformity the same one: nothing that is derived from data."""

    tenant: str
    process: str
    requirement: str
    check: str
    scope: str

    def key(self, generation: int) -> str:
        """The key that the ticket carries, at most 80 characters."""
        text = "\0".join((self.tenant, self.process, self.requirement, self.check, self.scope))
        return f"{self.requirement}.{hashlib.sha256(text.encode()).hexdigest()[:12]}.g{generation}"


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest generation of a nonconformity."""

    generation: int
    ended: bool


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """What a closed period showed for one requirement in one scope."""

    identity: Identity
    period: Period
    share: Share


@dataclass(frozen=True, slots=True)
class Hits:
    """Open deviations since go-live of a requirement of which one is enough, with the cases judged since then."""

    identity: Identity
    share: Share
    since: int


@dataclass(frozen=True, slots=True)
class DecidedPeriod:
    figures: PeriodFigures
    exceeds: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """A nonconformity to be opened, with the periods (oldest first) or hits that show it."""

    identity: Identity
    generation: int
    requirement: Demand
    owner: str
    share: Share
    since: int
    until: int | None
    """End of the last period looked at, or ``None`` for what counts from the first hit."""
    periods: tuple[DecidedPeriod, ...]
    queued: bool = False

    @property
    def key(self) -> str:
        return self.identity.key(self.generation)

    @property
    def stem(self) -> str:
        """The key without its generation."""
        return self.key.rpartition(".g")[0]


@dataclass(frozen=True, slots=True)
class Decisions:
    periods: tuple[DecidedPeriod, ...]
    openings: tuple[Opening, ...]


def decide(
    figures: Sequence[PeriodFigures],
    hits: Sequence[Hits],
    demands: Mapping[str, tuple[Demand, str]],
    standing: Mapping[Identity, Standing],
    open_by_owner: Mapping[str, int],
    cap_per_owner: int,
    on_target: Mapping[str, int] | None = None,
) -> Decisions:
    """``figures`` of undecided periods in order of time; ``demands``: requirement id -> (requirement, owner's role);
    ``on_target``: stem of a key -> generation of a ticket that the target has and the database does not know, which a
    database that was restored takes over.
    """
    decided = [DecidedPeriod(f, _asks(f, demands)) for f in figures if f.identity.requirement in demands]
    openings = [*_from_hits(hits, demands, standing), *_from_periods(decided, demands, standing)]
    known = on_target or {}
    openings = [replace(each, generation=max(each.generation, known.get(each.stem, 0))) for each in openings]
    openings.sort(key=lambda o: (o.requirement.severity, -o.share.rate, o.identity.requirement, o.identity.scope))
    there = {opening.key for opening in openings if known.get(opening.stem) == opening.generation}
    return Decisions(tuple(decided), tuple(_queued_above_cap(openings, open_by_owner, cap_per_owner, there)))


def _asks(figures: PeriodFigures, demands: Mapping[str, tuple[Demand, str]]) -> bool:
    demand, _ = demands[figures.identity.requirement]
    return demand.severity is Severity.S3 and figures.share.exceeds(demand.tolerance)


def _from_hits(
    hits: Sequence[Hits], demands: Mapping[str, tuple[Demand, str]], standing: Mapping[Identity, Standing]
) -> list[Opening]:
    openings = []
    for hit in hits:
        demand, owner = demands[hit.identity.requirement]
        generation = _next_generation(standing.get(hit.identity))
        if generation is not None and hit.share.deviating > 0:
            openings.append(Opening(hit.identity, generation, demand, owner, hit.share, hit.since, None, ()))
    return openings


def _from_periods(
    decided: Sequence[DecidedPeriod], demands: Mapping[str, tuple[Demand, str]], standing: Mapping[Identity, Standing]
) -> list[Opening]:
    by_identity: dict[Identity, list[DecidedPeriod]] = {}
    for item in decided:
        by_identity.setdefault(item.figures.identity, []).append(item)
    openings = []
    for identity, periods in by_identity.items():
        generation = _next_generation(standing.get(identity))
        if generation is None or not any(p.exceeds for p in periods):
            continue
        demand, owner = demands[identity.requirement]
        first = next(i for i, p in enumerate(periods) if p.exceeds)
        share = Share(0, 0, 0)
        for item in periods[first:]:
            share = share.plus(item.figures.share)
        since, until = periods[first].figures.period.start, periods[-1].figures.period.end
        openings.append(Opening(identity, generation, demand, owner, share, since, until, tuple(periods)))
    return openings


def _next_generation(standing: Standing | None) -> int | None:
    """``None`` while one is open."""
    if standing is None:
        return 1
    return standing.generation + 1 if standing.ended else None


def _queued_above_cap(
    openings: Sequence[Opening], open_by_owner: Mapping[str, int], cap: int, there: Collection[str]
) -> list[Opening]:
    """``there``: keys of tickets that the target has already; they wait for nothing."""
    taken = dict(open_by_owner)
    result = []
    for opening in sorted(openings, key=lambda opening: opening.key not in there):
        taken[opening.owner] = taken.get(opening.owner, 0) + 1
        result.append(replace(opening, queued=taken[opening.owner] > cap and opening.key not in there))
    return result
