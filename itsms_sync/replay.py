"""Rebuilds all that is right of the raw payloads, and tells whether the result is what stood there before.

What was decided and done (periods, nonconformities, intents, tickets) is kept: no recomputation takes it back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from itsms_sync.connector import Plugin
from itsms_sync.judging import Judging
from itsms_sync.store.ingested import Ingested
from itsms_sync.store.judged import fingerprint, forget_derived


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Rows and checksum of each rebuilt table, before and after."""

    before: Mapping[str, tuple[int, int]]
    after: Mapping[str, tuple[int, int]]
    payloads: int

    @property
    def differing(self) -> list[str]:
        return [name for name in self.before if self.before[name] != self.after[name]]


def replay(
    engine: Engine,
    sources: Mapping[str, tuple[Ingested, Plugin]],
    judging: Judging,
    now: int,
    learned_at: int,
    progress: Callable[[str, str, int], None],
) -> ReplayReport:
    """Translates every stored row again and judges every case as of ``now`` (ms). One transaction up to the judgement:
    a replay that is cut off leaves what stood there before."""
    payloads = 0
    with engine.begin() as connection:
        before = fingerprint(connection)
        for name, (ingested, plugin) in sources.items():
            forget_derived(connection, ingested.source_id)
            ingested.forget_audited()
            for kind, stream, at, rows in ingested.payloads(connection):
                ingested.store_facts(connection, kind, plugin.translate(kind, rows), at)
                payloads += len(rows)
                progress(name, f"replay {stream}", payloads)
    judging.run(now, learned_at, everything=True)
    with engine.begin() as connection:
        return ReplayReport(before, fingerprint(connection), payloads)
