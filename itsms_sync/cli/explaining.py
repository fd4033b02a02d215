"""``explain``: one record beside the documented procedure, or the nonconformity behind one of our tickets.

Gathers the facts; ``telling`` shows them in a terminal and ``page`` as a page.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from itsms_sync.configuration import Configuration
    from itsms_sync.procedures.model import Demand, Procedure
    from itsms_sync.sms.mapping import Described

Row = dict[str, Any]
_LESSER = ("metric", "snapshot")
"""Witnesses that count only where no better one tells."""


def explanations(connection: "Connection", config: "Configuration", wanted: str) -> list[dict[str, Any]]:
    """Everything known under this name; empty if nothing."""
    from itsms_sync.store import reports

    ours = reports.ticket_by_label(connection, wanted)
    if ours is not None:
        shown = [n for n in reports.nonconformities(connection) if n["key"] == ours["key"]]
        return [{"ticket": ours, "nonconformity": shown[0] if shown else None}]
    return [_record(connection, config, row) for row in reports.find_records(connection, wanted)]


def _record(connection: "Connection", config: "Configuration", row: Row) -> Row:
    from itsms_sync.chains import same_person
    from itsms_sync.cli import recounting
    from itsms_sync.store import reports
    from itsms_sync.store.related import people

    persons = same_person(people(connection))
    labels = reports.labels(connection, row["source_id"], row["kind"])
    labels |= {("", name): stands for name, stands in persons.items()}
    around = reports.surroundings(connection, row["id"])
    labels |= {("", one["id"]): one["case"] for one in around if one["tie"] == "link" and one["case"]}
    verdicts = reports.verdicts_of(connection, row["id"])
    states = reports.state_of(connection, row["id"])
    processes = [state["process"] for state in states]
    polls = sorted({v["last_poll_id"] for v in verdicts if v["last_poll_id"] is not None})
    kinds = [row["kind"], *_part_kinds(config, row["source"], processes)]
    coverage = {poll: _coverage(connection, row["source_id"], kinds, poll) for poll in polls or [None]}
    explanation = {
        "case": row["label"],
        "source": row["source"],
        "kind": row["kind"],
        "id": row["native_id"],
        "url": _url(config, row),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "saves": row["version"],
        "values": {k: _told(labels, k, v) for k, v in orjson.loads(row["fields"] or "{}").items()},
        "names": _attributes(config, row["source"], row["kind"], processes),
        "states": states,
        "gone": row["tombstone"],
        "findings": reports.findings(connection, row["id"]),
        "belongs": [_surrounding(connection, config, persons, one) for one in around],
        "history": [_event(labels, event) for event in _witnessed(connection, config, row, processes)],
        "changed_documents": _changed(config, verdicts),
        "verdicts": [_verdict(config, labels, v) for v in verdicts],
        "superseded": reports.superseded_of(connection, row["id"]),
        "coverage": coverage[max(polls, default=None)],
        "coverage_of": {str(poll or 0): streams for poll, streams in coverage.items()},
        "gaps": reports.gaps_around(connection, row["source_id"], kinds, row["native_id"]),
    }
    explanation["beside"] = recounting.beside(connection, config, row, explanation, lambda f, v: _told(labels, f, v))
    recounting.complete(config, explanation)
    return explanation


def _url(config: "Configuration", row: Row) -> str:
    """Where people read the record; nothing for a source that is no longer configured."""
    from itsms_sync.plugins import plugin

    source = config.settings.sources.get(row["source"])
    if source is None:
        return ""
    return plugin(row["system"]).record_url(source.people_url, row["kind"], row["native_id"], row["label"])


def _coverage(connection: "Connection", source_id: int, kinds: Sequence[str], poll: int | None) -> list[Row]:
    from itsms_sync.store import reports

    return [covered for kind in kinds for covered in reports.coverage(connection, source_id, kind, poll)]


def _changed(config: "Configuration", verdicts: Sequence[Row]) -> list[str]:
    """Documents that are not what the verdicts rest on any more."""
    rests = [orjson.loads(verdict["documents"])["documents"] for verdict in verdicts]
    names = {*config.library.digests, *(name for one in rests for name in one)}
    return sorted(name for name in names if any(one.get(name) != config.library.digests.get(name) for one in rests))


def _witnessed(
    connection: "Connection", config: "Configuration", row: dict[str, Any], processes: list[str]
) -> list[dict[str, Any]]:
    """The record's events, each with ``counts``: whether it does, or a better witness tells the same."""
    from itsms_sync.judging import counting
    from itsms_sync.store import reports

    mapping = config.mapping_of(row["source"])
    described = [] if mapping is None else [mapping.processes[name] for name in processes if name in mapping.processes]
    events = reports.history(connection, row["id"])
    until = max((event["occurred_at"] for event in events), default=0)
    counts = counting(connection, row["source_id"], row["id"], described[0], until) if described else None
    for event in events:
        told = (event["field"], event["occurred_at"], event["new"])
        event["counts"] = event["witness"] not in _LESSER or counts is None or told in counts
    return events


def _part_kinds(config: "Configuration", source: str, processes: list[str]) -> list[str]:
    """The kinds of what such a case has besides its own record."""
    mapping = config.mapping_of(source)
    described = [] if mapping is None else [p for name, p in mapping.processes.items() if name in processes]
    return sorted({part.kind for one in described for _, part in one.parts.named()})


def _attributes(config: "Configuration", source: str, kind: str, processes: list[str]) -> dict[str, str]:
    """Field -> the attribute for which it stands in the mapping, for the processes the record is a case of."""
    mapping = config.mapping_of(source)
    described = [] if mapping is None else [p for name, p in mapping.processes.items() if name in processes]
    return _named(described, kind)


def _part_attributes(config: "Configuration", source: str, kind: str, role: str) -> dict[str, str]:
    """Field -> attribute, for the parts in that role."""
    mapping = config.mapping_of(source)
    processes = [] if mapping is None else list(mapping.processes.values())
    return _named([part for p in processes for name, part in p.parts.named() if name == role], kind)


def _named(described: "Sequence[Described]", kind: str) -> dict[str, str]:
    """Field -> attribute, of what describes this kind of record."""
    return {a.field: name for one in described if one.kind == kind for name, a in one.attributes.items() if a.field}


def _surrounding(connection: "Connection", config: "Configuration", persons: Mapping[str, str], row: Row) -> Row:
    """A part, a link or the pair, with the values that were read of a part. ``persons``: pseudonym -> the one that
    stands for all of a person's."""
    from itsms_sync.store import reports

    fields, source_id = row.pop("fields"), row.pop("source_id")
    values: dict[str, Any] = {}
    if row["tie"] == "part" and fields is not None:
        labels = reports.labels(connection, source_id, row["kind"])
        labels |= {("", name): stands for name, stands in persons.items()}
        names = _part_attributes(config, row["source"], row["kind"], row["role"])
        values = {names[k]: _told(labels, k, v) for k, v in orjson.loads(fields).items() if k in names}
    return {**row, "case": row["case"] or row["name"], "values": values}


def _told(labels: dict[tuple[str, str], str], field: str, value: str | None) -> str | None:
    """A raw value with its label, if the source has told one."""
    if value is None:
        return None
    label = labels.get((field, value), labels.get(("", value)))
    return value if label is None or label == value else f"{label} ({value})" if len(value) < 8 else label


def _event(labels: dict[tuple[str, str], str], event: dict[str, Any]) -> dict[str, Any]:
    field = event["field"]
    actor = _told(labels, "", event["actor"])
    return {
        **event,
        "old": _told(labels, field, event["old"]),
        "new": _told(labels, field, event["new"]),
        "actor": actor,
    }


def _demand(config: "Configuration", process: str, requirement: str) -> "tuple[Procedure, Demand] | None":
    for procedure in reversed(config.library.procedures.get(process, ())):
        for demand in procedure.requirements:
            if demand.id == requirement:
                return procedure, demand
    return None


def _verdict(config: "Configuration", labels: dict[tuple[str, str], str], row: dict[str, Any]) -> dict[str, Any]:
    found = _demand(config, row["process"], row["requirement"])
    detail = row["detail"]
    if detail is not None:
        detail = " -> ".join(labels.get(("", part), part) for part in detail.split(" -> "))
    documents = orjson.loads(row.pop("documents"))
    told = {
        **row,
        "detail": detail,
        "program": documents["program"],
        "check_version": documents["checks"].get(row["check"]),
    }
    if found is not None:
        procedure, demand = found
        told |= {
            "required": demand.title,
            "where": f"{procedure.document} version {procedure.version}, {demand.where}",
            "clause": demand.clause,
            "severity": demand.severity.value,
        }
    return told
