"""Two states of a record that were read one after the other, and what lies between them. Pure.

The poorest witness of a history, and one that every source gives: that a field differs, and between which saves that
happened. A state that is older than the one that is known (a node of the source that lags) tells nothing new.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from itsms_sync.records import Event, Millis, Record, Witness

_SNAPSHOT = Witness.SNAPSHOT.value


class State(NamedTuple):
    """A record as it was known."""

    updated: Millis
    version: int | None
    fields: Mapping[str, str | None]


def between(known: State, record: Record, fields: Collection[str], at: Millis) -> Iterator[Event]:
    """Each of the ``fields`` that differs, as an event, and before it the value that was known as one of its own.

    The change happened after the known state was saved and with the newer one at the latest: at exactly that save if it
    is the only one since. A state that was rewritten without a save is noted when it was learned (``at``, ms).
    """
    if not follows(known, record):
        return
    changed = [name for name in fields if _differs(known.fields.get(name), record.fields.get(name))]
    for name in changed:
        yield _event(record.id, name, None, known.fields[name], known.updated, None, known.version)
    until = record.updated if _mark(record) > _mark(known) else max(at, record.updated)
    single = known.version is not None and record.version == known.version + 1
    for name in changed:
        since = None if single else known.updated
        yield _event(record.id, name, known.fields[name], record.fields[name], until, since, record.version)


def follows(known: State, record: Record) -> bool:
    """Whether the record is not older than what is known of it. A script may date a save back; then the source's own
    counter of saves tells it from an older one."""
    counted = known.version is not None and record.version is not None and record.version > known.version
    return counted or _mark(record) >= _mark(known)


def _mark(state: State | Record) -> tuple[Millis, int]:
    return state.updated, state.version or 0


def _differs(old: str | None, new: str | None) -> bool:
    """A value that was not delivered tells nothing."""
    return old is not None and new is not None and old != new


def _event(
    record: str, field: str, old: str | None, new: str | None, at: Millis, since: Millis | None, version: int | None
) -> Event:
    told = "\0".join((str(at), str(version), field, str(new)))
    witness_id = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
    return Event(record, field, old, new, at, None, _SNAPSHOT, witness_id, version, since)
