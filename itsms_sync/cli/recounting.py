"""A record beside the procedures that it is a case of, judged anew for ``explain``: the timeline, the limits, what is
still to come, and of each verdict the version, or what is missing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from itsms_sync.cli import screen
from itsms_sync.cli.timeline import Row, gaps_told, merged, timeline

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from itsms_sync.configuration import Configuration
    from itsms_sync.conformance.limits import TimeLimit
    from itsms_sync.conformance.stepwise import Beside
    from itsms_sync.judging import Judging, Recounted
    from itsms_sync.procedures.model import Procedure
    from itsms_sync.sms.mapping import ProcessMapping

Told = Callable[[str, str | None], str | None]
"""A field and its raw value -> the value with its label."""


def beside(
    connection: "Connection", config: "Configuration", row: Row, explanation: Mapping[str, Any], told: Told
) -> list[Row]:
    """One entry for each process of which the record is a case, as of the newest judgement."""
    from itsms_sync.conformance.stepwise import CaseFacts
    from itsms_sync.conformance.stepwise import beside as stepwise
    from itsms_sync.store import reports

    as_of, mapping = reports.judged_as_of(connection), config.mapping_of(row["source"])
    if as_of is None or mapping is None or not config.settings.sources[row["source"]].read:
        return []
    judging, library, found = _judging(connection, config), config.library, []
    processes = {state["process"] for state in explanation["states"]}
    for process in library.judged_processes(mapping.called):
        case = None
        if process in processes:
            case = judging.recount(connection, row["source_id"], process, row["id"], as_of)
        if case is not None:
            described = mapping.processes[process]
            versions, types = library.procedures[process], library.types(process)
            facts = CaseFacts(
                case.log, versions, types, described.conditions(), case.verdicts, case.now, library.clocks
            )
            telling = _Telling(process, case, versions[-1], described, explanation, told)
            found.append(telling.of(stepwise(facts)))
    return found


def _judging(connection: "Connection", config: "Configuration") -> "Judging":
    """The judgement over the sources that were read."""
    from itsms_sync.judging import Judging
    from itsms_sync.plugins import plugin
    from itsms_sync.relating import JudgedSource
    from itsms_sync.store import reports
    from itsms_sync.store.ingested import Ingested

    engine, known = connection.engine, reports.known_sources(connection)
    sources = [
        JudgedSource(
            name,
            source.system,
            source.mapped_by,
            Ingested(engine, name, source.system),
            source.system_accounts,
            plugin(source.system).whole_records,
        )
        for name, source in config.settings.sources.items()
        if source.read and name in known
    ]
    return Judging(engine, config.library, sources)


class _Telling:
    """One process of one record."""

    def __init__(
        self,
        process: str,
        case: "Recounted",
        newest: "Procedure",
        described: "ProcessMapping",
        explanation: Mapping[str, Any],
        told: Told,
    ) -> None:
        self._process = process
        self._case = case
        self._newest = newest
        self._described = described
        self._explanation = explanation
        self._told = told

    def of(self, found: "Beside") -> Row:
        verdicts = [v for v in self._explanation["verdicts"] if v["process"] == self._process]
        rows = timeline(found, self._explanation["history"], self._explanation["names"], verdicts, self._case.now)
        called = self._newest.called
        return {
            "process": self._process,
            "document": found.document,
            "version": found.version,
            "judged_at": self._case.now,
            "waits": self._case.waits,
            "open": found.open,
            "reason": found.reason,
            "cost": found.cost,
            "steps": [{"step": called(s), "state": s, "move": kind, "at": at} for kind, s, at in found.moves],
            "words": list(found.words),
            "ahead": [called(state) for state in found.ahead],
            "following": [called(state) for state in found.following],
            "outstanding": [asdict(step) for step in found.outstanding],
            "limits": [_limit(limit, self._case.now) for limit in found.limits],
            "versions": dict(found.versions),
            "timeline": merged([self._readable(row) for row in rows], _together(self._parts())),
            "unmapped": [{"field": field, "value": value} for field, value, _ in self._case.log.unmapped.iter_rows()],
            "inapplicable": dict(self._inapplicable()),
        }

    def _readable(self, row: Row) -> Row:
        """With the values of attributes as people read them."""
        for change in row.get("changes", ()):
            change["old"], change["new"] = (self._value(change["field"], change[end]) for end in ("old", "new"))
        return row

    def _value(self, name: str, value: Any) -> Any:
        attribute = self._described.attributes.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return screen.when(value)
        if isinstance(value, float):
            return f"{value:g}"
        if isinstance(value, str) and attribute is not None and attribute.field is not None:
            return self._told(attribute.field, value)
        return value

    def _inapplicable(self) -> Iterator[tuple[str, str]]:
        """Why a requirement says nothing about the case (yet), where that is so."""
        rows = self._case.verdicts.select("requirement", "status", "reason").iter_rows()
        yield from ((requirement, reason) for requirement, status, reason in rows if status == "not_applicable")

    def _parts(self) -> Iterator[Row]:
        """Approvals, tasks, service levels and links as they stood."""
        case = self._explanation["case"]
        labels = {one["id"]: one["case"] for one in self._explanation["belongs"] if one["case"] != case}
        for approval in self._case.log.approvals.iter_rows(named=True):
            yield from _approval(approval, labels)
        for task in self._case.log.tasks.iter_rows(named=True):
            yield from _task(task, labels)
        for level in self._case.log.slas.iter_rows(named=True):
            yield from _level(level)
        for link in self._case.log.links.iter_rows(named=True):
            if link["at"] is not None and link["via"] is None:
                other = f"{link['process'] or 'record'} {labels.get(link['other'], link['other'])}"
                yield _part(link["at"], f"linked as {link['role'].replace('_', ' ')}: {other}", None, link["other"])


def _approval(row: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[Row]:
    stage = f", stage {row['stage']}" if row["stage"] else ""
    what = f"approval by {row['approver'] or 'somebody unknown'}{stage}"
    if row["asked_at"] is not None:
        yield _part(row["asked_at"], f"{what}: asked", None, row["id"], labels)
    if row["decided_at"] is not None:
        yield _part(row["decided_at"], f"{what}: {_ended(row)}", row["actor"], row["id"], labels)


def _task(row: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[Row]:
    what = f"task {row['type'] or 'of unknown type'}"
    if row["opened_at"] is not None:
        yield _part(row["opened_at"], f"{what}: opened", None, row["id"], labels)
    if row["ended_at"] is not None:
        yield _part(row["ended_at"], f"{what}: {_ended(row)}", ", ".join(row["workers"] or ()), row["id"], labels)


def _level(row: Mapping[str, Any]) -> Iterator[Row]:
    from itsms_sync.sms.parts import NEVER

    if row["stage"] == NEVER:
        return
    if row["at"] is not None:
        yield _part(row["at"], "service level: attached", None, row["id"])
    if row["ended_at"] is not None:
        yield _part(row["ended_at"], f"service level: {row['stage'] or 'ended'}", None, row["id"])


def _ended(row: Mapping[str, Any]) -> str:
    return f"{row['state'] or 'not known'}{'' if row['exact'] else ', at the latest then'}"


def _part(at: int, what: str, actor: str | None, id_: str, labels: Mapping[str, str] | None = None) -> Row:
    label = (labels or {}).get(id_)
    named = f"{what} ({label})" if label else what
    evidence = {"witness": "record", "witness_id": id_, "field": ""}
    return {"kind": "part", "at": at, "what": [named], "actor": actor or None, "evidence": [evidence]}


def _together(rows: Iterable[Row]) -> list[Row]:
    """What the same person did at the same instant is one row."""
    found: dict[tuple[int, str | None], Row] = {}
    for row in rows:
        one = found.setdefault((row["at"], row["actor"]), {**row, "what": [], "evidence": []})
        one["what"] += row["what"]
        one["evidence"] += row["evidence"]
    return list(found.values())


def _limit(limit: "TimeLimit", now: int) -> Row:
    """A limit, with its deadline as an instant of UTC and of its site."""
    inner = ("ticks", "deadline", "since")
    ahead = limit.state == "running" and limit.deadline is not None and limit.deadline > now
    return {
        **{name: value for name, value in asdict(limit).items() if name not in inner},
        "left": limit.left,
        "since_at": limit.since,
        "deadline_at": limit.deadline,
        "deadline_local": screen.local(limit.deadline, limit.zone),
        "passed": (limit.left or 0) < 0 or (limit.state == "running" and not ahead),
        "until_deadline": limit.deadline - now if ahead and limit.deadline is not None else None,
    }


# --- verdicts


def complete(config: "Configuration", explanation: Row) -> None:
    """Adds to the verdicts the version by which they were given and what is missing where nothing is known, and to them
    the requirements of which nothing is said."""
    entries = {entry["process"]: entry for entry in explanation["beside"]}
    for verdict in explanation["verdicts"]:
        entry = entries.get(verdict["process"])
        verdict["version"] = entry["versions"].get(verdict["requirement"]) if entry else None
        verdict["missing"] = _missing(verdict, entry) if verdict["status"] == "unknown" else None
    processes = sorted({state["process"] for state in explanation["states"]} & config.library.procedures.keys())
    for process in processes:
        entry = entries.get(process)
        explanation["verdicts"] += _unjudged(config.library.procedures[process][-1], explanation["verdicts"], entry)


def _missing(verdict: Row, entry: Row | None) -> str:
    """What would have to be known for a verdict, as precisely as that can be told."""
    from itsms_sync.conformance.verdicts import CALENDAR, GAP, LOST, NOT_DELIVERED, UNMAPPED

    reason: str = verdict["reason"] or ""
    if entry is None:
        return reason
    if reason == GAP:
        return gaps_told(entry["timeline"], screen.when) or reason
    if reason == LOST:
        return f"what happened before {screen.when(entry['timeline'][0]['at'])}"
    if reason == CALENDAR:
        limits = [limit for limit in entry["limits"] if limit["requirement"] == verdict["requirement"]]
        return next((limit["missing"] for limit in limits if limit["missing"]), reason)
    if reason == UNMAPPED or reason.startswith(NOT_DELIVERED):
        field = "state" if reason == UNMAPPED else reason.removeprefix(NOT_DELIVERED).strip(": ")
        raw = [repr(one["value"]) for one in entry["unmapped"] if one["field"] == field]
        return f"{reason}; the mapping does not list the raw value {', '.join(raw)}" if raw else reason
    return reason


def _unjudged(procedure: "Procedure", verdicts: Sequence[Row], entry: Row | None) -> list[Row]:
    """Requirements of a procedure that say nothing about this case, and why."""
    said = {v["requirement"] for v in verdicts if v["process"] == procedure.process}
    reasons = entry["inapplicable"] if entry else {}
    result = []
    for demand in procedure.requirements:
        is_judged = demand.check != "none"
        why = f"no check yet: needs {demand.needs}" if demand.check == "none" else "does not apply to this case (yet)"
        if demand.id not in said:
            result.append(
                {
                    "process": procedure.process,
                    "requirement": demand.id,
                    "check": demand.check,
                    "status": "not_applicable" if is_judged else "not_judged",
                    "reason": reasons.get(demand.id, why) if is_judged else why,
                    "required": demand.title,
                    "where": f"{procedure.document} version {procedure.version}, {demand.where}",
                    "version": procedure.version,
                    "missing": None,
                    "detail": None,
                    "occurred_at": None,
                    "recheck_at": None,
                }
            )
    return result
