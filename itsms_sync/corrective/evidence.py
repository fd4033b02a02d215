"""What a ticket says: the evidence of a nonconformity, frozen when it is opened, and the digest of the rest."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from itsms_sync.corrective.decisions import DecidedPeriod, Opening
from itsms_sync.corrective.figures import Period
from itsms_sync.corrective.texts import Texts, day, instant, percent, render
from itsms_sync.procedures.model import Demand, Procedure
from itsms_sync.records import Action, Write

SHOWN_EXAMPLES = 10
SHOWN_KINDS = 5
SHOWN_PLACES = 5


@dataclass(frozen=True, slots=True)
class Example:
    """One deviating case, as an owner can look it up."""

    label: str
    url: str
    at: int
    detail: str


@dataclass(frozen=True, slots=True)
class Place:
    """Cases of one part of the organization."""

    title: str
    judged: int
    deviating: int


@dataclass(frozen=True, slots=True)
class Shown:
    """The cases behind a ticket: all of them, latest first, and where they were worked on."""

    examples: Sequence[Example]
    places: Sequence[Place]

    def chosen(self) -> list[Example]:
        """The latest of each kind in turn, so that a frequent kind does not hide the others."""
        kinds: dict[str, list[Example]] = {}
        for example in self.examples:
            kinds.setdefault(example.detail, []).append(example)
        in_turn = [group[turn] for turn in range(SHOWN_EXAMPLES) for group in kinds.values() if turn < len(group)]
        return in_turn[:SHOWN_EXAMPLES]

    def kinds(self) -> list[tuple[str, int]]:
        """What happened, most frequent first; nothing if nearly each case tells something of its own."""
        counts = Counter(example.detail for example in self.examples).most_common()
        return counts[:SHOWN_KINDS] if 2 * len(counts) <= len(self.examples) or len(counts) == 1 else []


@dataclass(frozen=True, slots=True)
class Frozen:
    """The evidence as it stood at opening, and its hash."""

    content: Mapping[str, Any]

    @property
    def hash(self) -> str:
        text = json.dumps(self.content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def ticket(opening: Opening, procedure: Procedure, names: Mapping[str, str], shown: Shown, texts: Texts) -> Write:
    """The create of the corrective-action ticket. ``names``: titles of ``process`` and ``owner``."""
    demand, share = opening.requirement, opening.share
    lower, upper = share.interval()
    chosen = shown.chosen()
    summary, body = render(
        texts.ticket,
        {
            "key": opening.key,
            "process": names["process"],
            "owner": names["owner"],
            "procedure": procedure,
            "requirement": demand,
            "x": share.deviating,
            "n": share.judged,
            "unknown": share.unknown,
            "rate": percent(share.rate),
            "lower": percent(lower),
            "upper": percent(upper),
            "tolerance": percent(demand.tolerance) if opening.until is not None else "",
            "span": _span(opening),
            "periods": [_period(p) for p in opening.periods],
            "examples": [{"label": e.label, "url": e.url, "at": instant(e.at), "detail": e.detail} for e in chosen],
            "shown": len(chosen),
            "more": share.deviating > len(chosen),
            "kinds": [{"detail": detail, "number": number} for detail, number in shown.kinds()],
            "places": [
                {"title": p.title, "x": p.deviating, "n": p.judged, "rate": percent(p.deviating / p.judged)}
                for p in shown.places[:SHOWN_PLACES]
                if p.deviating
            ],
        },
    )
    return Write(
        action=Action.CREATE,
        key=opening.key,
        summary=summary,
        body=body,
        labels=("itsms-sync", "corrective-action", opening.identity.process),
        properties={"generation": opening.generation, "identity": asdict(opening.identity)},
        severity=demand.severity.value,
        assignee=names.get("account"),
    )


def _span(opening: Opening) -> str:
    if opening.until is None:
        return f"since {day(opening.since)}"
    return f"that ended from {day(opening.since)} to {day(opening.until - 1)}"


def _period(item: DecidedPeriod) -> dict[str, Any]:
    share = item.figures.share
    return {
        "name": item.figures.period.name,
        "x": share.deviating,
        "n": share.judged,
        "rate": percent(share.rate),
        "exceeds": item.exceeds,
    }


def frozen(opening: Opening, write: Write, cases: Sequence[str], coverage: Mapping[str, Any]) -> Frozen:
    """Text, case list, figures, coverage and documents of a nonconformity at its opening."""
    return Frozen(
        {
            "summary": write.summary,
            "body": [[block.kind, block.text, [list(item) for item in block.items]] for block in write.body],
            "cases": list(cases),
            "figures": {**asdict(opening.share), "interval": [round(b, 6) for b in opening.share.interval()]},
            "since": opening.since,
            "until": opening.until,
            "coverage": dict(coverage),
        }
    )


@dataclass(frozen=True, slots=True)
class DigestLine:
    requirement: Demand
    judged: int
    deviating: int


def digest(
    key: str,
    names: Mapping[str, str],
    period: Period,
    queued: Sequence[DigestLine],
    observed: Sequence[DigestLine],
    cap: int,
    texts: Texts,
) -> Write:
    """One ticket per owner and period with all that opened none of its own."""
    summary, body = render(
        texts.digest,
        {
            "process": names["process"],
            "owner": names["owner"],
            "period": period.name,
            "cap": cap,
            "queued": [_line(line) for line in queued],
            "observed": [{**_line(line), "tolerance": percent(line.requirement.tolerance)} for line in observed],
        },
    )
    return Write(
        action=Action.CREATE,
        key=key,
        summary=summary,
        body=body,
        labels=("itsms-sync", "digest"),
        properties={"digest": period.name},
        severity="S4",
        assignee=names.get("account"),
    )


def _line(line: DigestLine) -> dict[str, Any]:
    rate = percent(line.deviating / line.judged)
    return {"drift": line.requirement.drift, "x": line.deviating, "n": line.judged, "rate": rate}
