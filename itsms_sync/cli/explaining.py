"""``explain``: one record beside the documented procedure, or the nonconformity behind one of our tickets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from itsms_sync.cli import screen

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from itsms_sync.configuration import Configuration
    from itsms_sync.conformance.runs import Runs
    from itsms_sync.procedures.model import Demand, Procedure
    from itsms_sync.sms.mapping import Described

SIGNS = {"deviating": "✗", "unknown": "?", "conforming": "✓", "not_applicable": "·", "not_judged": "–"}
"""Verdicts in the order in which they are shown."""
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


def _record(connection: "Connection", config: "Configuration", row: dict[str, Any]) -> dict[str, Any]:
    from itsms_sync.plugins import plugin
    from itsms_sync.store import reports

    labels = reports.labels(connection, row["source_id"], row["kind"])
    source = config.settings.sources.get(row["source"])
    url = ""
    if source is not None:
        url = plugin(row["system"]).record_url(str(source.url).rstrip("/"), row["kind"], row["native_id"], row["label"])
    verdicts = reports.verdicts_of(connection, row["id"])
    states = reports.state_of(connection, row["id"])
    processes = [state["process"] for state in states]
    names = _attributes(config, row["source"], row["kind"], processes)
    last_poll = max((v["last_poll_id"] for v in verdicts if v["last_poll_id"] is not None), default=None)
    kinds = [row["kind"], *_part_kinds(config, row["source"], processes)]
    return {
        "case": row["label"],
        "source": row["source"],
        "kind": row["kind"],
        "id": row["native_id"],
        "url": url,
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "saves": row["version"],
        "values": {k: _told(labels, k, v) for k, v in orjson.loads(row["fields"] or "{}").items()},
        "names": names,
        "states": states,
        "gone": row["tombstone"],
        "findings": reports.findings(connection, row["id"]),
        "belongs": [_surrounding(connection, config, s) for s in reports.surroundings(connection, row["id"])],
        "history": [_event(labels, event) for event in _witnessed(connection, config, row, processes)],
        "beside": _beside(connection, config, row, processes, verdicts),
        "verdicts": [_verdict(config, labels, v) for v in verdicts] + _unjudged(config, verdicts),
        "superseded": reports.superseded_of(connection, row["id"]),
        "coverage": [
            covered for kind in kinds for covered in reports.coverage(connection, row["source_id"], kind, last_poll)
        ],
        "gaps": reports.gaps_around(connection, row["source_id"], kinds, row["native_id"]),
    }


def _beside(
    connection: "Connection",
    config: "Configuration",
    row: dict[str, Any],
    processes: list[str],
    verdicts: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """The record's states beside the documented flow of each process, as of the instant it was judged as of."""
    from itsms_sync.judging import beside_flow

    source = config.settings.sources.get(row["source"])
    as_of = max((v["as_of"] for v in verdicts), default=None)
    if source is None or as_of is None:
        return []
    told = []
    for process in processes:
        if process not in config.library.processes.processes or process not in config.library.procedures:
            continue
        found = beside_flow(connection, config.library, row["source_id"], source.mapped_by, process, row["id"], as_of)
        if found is not None:
            told.append({"process": process, **_run(*found)})
    return told


def _run(procedure: "Procedure", runs: "Runs") -> dict[str, Any]:
    """The only run among ``runs``, step by step."""
    (case,) = runs.cases.iter_rows(named=True)
    told = {
        "document": procedure.document,
        "version": procedure.version,
        "reason": case["reason"],
        "cost": case["cost"],
    }
    if case["cost"] is None:
        return {**told, "steps": [], "words": [], "ahead": []}
    moves = runs.moves(case["states"], case["more"], ended=case["ended"])
    steps = [
        {
            "step": procedure.called(move.label),
            "state": move.label,
            "move": move.kind.value,
            "at": None if move.event is None else case["at"][move.event],
        }
        for move in moves
    ]
    ahead = [] if case["ended"] else [procedure.called(state) for state in runs.ahead(moves, case["more"])]
    words = runs.words(case["states"], case["more"], ended=case["ended"])
    return {**told, "steps": steps, "words": words, "ahead": ahead}


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


def _surrounding(connection: "Connection", config: "Configuration", row: dict[str, Any]) -> dict[str, Any]:
    """A part, a link or the pair, with the values that were read of a part."""
    from itsms_sync.store import reports

    fields, source_id = row.pop("fields"), row.pop("source_id")
    values: dict[str, Any] = {}
    if row["tie"] == "part" and fields is not None:
        labels = reports.labels(connection, source_id, row["kind"])
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
    return {**event, "old": _told(labels, field, event["old"]), "new": _told(labels, field, event["new"])}


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


def _unjudged(config: "Configuration", verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Requirements of the same procedures that say nothing about this case, and why."""
    result = []
    for process in sorted({v["process"] for v in verdicts}):
        said = {v["requirement"] for v in verdicts if v["process"] == process}
        procedure = config.library.procedures[process][-1]
        for demand in procedure.requirements:
            if demand.id in said:
                continue
            reason = (
                f"no check yet: needs {demand.needs}" if demand.check == "none" else "does not apply to this case (yet)"
            )
            result.append(
                {
                    "process": process,
                    "requirement": demand.id,
                    "check": demand.check,
                    "status": "not_judged" if demand.check == "none" else "not_applicable",
                    "reason": reason,
                    "required": demand.title,
                    "where": f"{procedure.document} version {procedure.version}, {demand.where}",
                    "detail": None,
                    "occurred_at": None,
                    "recheck_at": None,
                }
            )
    return result


def show(explanation: dict[str, Any]) -> None:
    """One explanation in the terminal."""
    if "ticket" in explanation:
        _show_ticket(explanation)
        return
    screen.head(f"{explanation['case']}  {explanation['kind']} in {explanation['source']}")
    screen.say(explanation["url"])
    for state in explanation["states"]:
        ended = f", ended {screen.when(state['ended_at'])}" if state["ended_at"] else ", still open"
        screen.say(
            f"opened {screen.when(state['opened_at'])}{ended}; state now: {state['state']}; scope: {state['scope']}"
        )
    for finding in explanation["findings"]:
        known = finding["occurred_at"] is not None
        when = screen.when(finding["occurred_at"]) if known else f"noticed {screen.when(finding['learned_at'])}"
        by = f" by {finding['actor']}" if finding["actor"] else ""
        screen.say(f"{finding['what']} ({when}{by}): {finding['note']}")
    if explanation["gone"]:
        screen.say("The source no longer shows it: it is judged as of then, and nothing that came later counts.")
    _show_belongings(explanation["case"], explanation["belongs"])
    _show_history(explanation)
    for run in explanation["beside"]:
        _show_run(run)
    _show_verdicts(explanation["verdicts"])
    if explanation["superseded"]:
        rows = [
            (s["requirement"], s["status"], s["reason"], screen.when(s["learned_at"]), screen.when(s["superseded_at"]))
            for s in explanation["superseded"]
        ]
        screen.table("Said before, and no longer", ["requirement", "verdict", "reason", "said", "until"], rows)
    _show_basis(explanation)


def _show_belongings(case: str, belongs: list[dict[str, Any]]) -> None:
    rows = [
        (
            one["role"].removesuffix("s") if one["tie"] == "part" else one["role"],
            "" if one["case"] == case else one["case"],  # a part without a number of its own has the case's
            one["source"] or "was not read",
            screen.when(one["updated_at"]),
            ", ".join(f"{k} {v}" for k, v in one["values"].items() if v),
        )
        for one in belongs
    ]
    if rows:
        screen.table("What belongs to it", ["as", "record", "source", "as of", "values"], rows)


def _show_history(explanation: dict[str, Any]) -> None:
    saves: list[list[Any]] = []
    before = 0
    names = explanation["names"]
    judged_until = max((v["as_of"] for v in explanation["verdicts"] if "as_of" in v), default=None)
    for event in explanation["history"]:
        if not event["counts"]:
            continue
        position = event["position"]
        shown = None if position is None else str(position)
        if judged_until is not None and event["occurred_at"] > judged_until:
            saves.append(["", "", "", f"(what happened after {screen.when(judged_until)} was not judged)", ""])
            judged_until = None
        if saves and saves[-1][0] == shown and shown is not None:
            if event["field"]:
                saves[-1][3] += f"\n{_change(event, names)}"
            continue
        if position is not None and explanation["saves"] is not None and position > before + 1:
            saves.append(["", "", "", f"gap: {position - before - 1} save(s) without history", ""])
        before = position if position is not None else before
        saves.append([shown, _at(event), event["actor"] or "", _change(event, names), event["witness"]])
    values = {names.get(k, k): _short(v) for k, v in explanation["values"].items() if v and (not names or k in names)}
    screen.wrapped("now: " + ", ".join(f"{k} {v}" for k, v in values.items()))
    heads = ["save", "at", "by (pseudonym)", "change", "witness"]
    screen.table("What was read", heads, saves, right=["save"])
    again = sum(not event["counts"] for event in explanation["history"])
    if again:
        screen.say(f"{again} more of metrics and snapshots; better witnesses tell the same, so they do not count.")


_MOVES = {"both": ("✓", ""), "skipped": ("✗", "was skipped"), "added": ("✗", "is not documented here")}


def _show_run(run: dict[str, Any]) -> None:
    """The case step by step beside the documented flow."""
    title = f"Beside {run['document']} version {run['version']}"
    if run["reason"] is not None:
        screen.head(title)
        screen.say(f"Not told: {run['reason']}.")
        return
    rows = [(_MOVES[s["move"]][0], s["step"], screen.when(s["at"]), _MOVES[s["move"]][1]) for s in run["steps"]]
    screen.table(title, ["", "step", "at", ""], rows)
    for sentence in run["words"]:
        screen.say(f"{sentence}.")
    if run["ahead"]:
        screen.say(f"Still to come, whatever happens: {', '.join(run['ahead'])}.")


def _at(event: dict[str, Any]) -> str:
    """When it happened, as closely as that is known."""
    at, since = screen.when(event["occurred_at"]), event["since"]
    return at if since is None or since >= event["occurred_at"] else f"after {screen.when(since)},\nby {at}"


def _change(event: dict[str, Any], names: dict[str, str]) -> str:
    if not event["field"]:
        return "(a save whose content was not asked for)"
    field = names.get(event["field"], event["field"])
    return f"{field}: {_short(event['old']) or '∅'} → {_short(event['new']) or '∅'}"


def _short(value: Any) -> Any:
    """Free text is kept apart; its reference says no more than whether two texts are the same."""
    return f"{value[:13]}…" if isinstance(value, str) and value.startswith("text:") else value


def _show_verdicts(verdicts: list[dict[str, Any]]) -> None:
    """A row for each verdict; what was not judged is named in a line, because it is most of a long procedure."""
    order = list(SIGNS)
    rows = [
        (
            SIGNS[v["status"]],
            v["requirement"],
            v.get("required", ""),
            v["status"].replace("_", " "),
            v["detail"] or v["reason"] or "",
            screen.when(v["occurred_at"]),
        )
        for v in sorted(verdicts, key=lambda v: (order.index(v["status"]), v["requirement"]))
        if "program" in v
    ]
    screen.table("What was judged", ["", "requirement", "what is required", "verdict", "what happened", "at"], rows)
    for status, what in (("not_applicable", "Does not apply to this case (yet)"), ("not_judged", "No check yet")):
        silent = sorted(v["requirement"] for v in verdicts if v["status"] == status and "program" not in v)
        if silent:
            screen.wrapped(f"{SIGNS[status]} {what}: {', '.join(silent)}")


def _show_basis(explanation: dict[str, Any]) -> None:
    judged = [v for v in explanation["verdicts"] if "program" in v]
    if judged:
        first = judged[0]
        screen.say(
            f"Judged as of {screen.when(first['as_of'])} by program version {first['program']} under "
            f"{first.get('where', '').split(',')[0]}; coverage: polls up to {first['last_poll_id']}."
        )
    rows = [
        (
            c["stream"],
            _since(c),
            screen.when(c["covered_until_at"]),
            "to its end" if c["closed"] else "cut off",
            c["fields"],
        )
        for c in explanation["coverage"]
    ]
    if rows:
        heads = ["stream", "complete from", "up to", "newest window", "fields asked for"]
        screen.table("What it rests on", heads, rows)
    for gap in screen.alike(explanation["gaps"]):
        times = f" ({gap['count']:,} times)" if gap["count"] > 1 else ""
        field = f", {gap['field']}" if gap["field"] else ""
        screen.say(f"Gap since {screen.when(gap['since_at'])}: {gap['stream']}{field}: {gap['message']}{times}")


def _since(covered: dict[str, Any]) -> str:
    """Since when a stream is read whole."""
    is_whole = covered["covered_from_at"] is None and covered["covered_until_at"] is not None
    return "its beginning" if is_whole else screen.when(covered["covered_from_at"])


def _show_ticket(explanation: dict[str, Any]) -> None:
    ticket, found = explanation["ticket"], explanation["nonconformity"]
    screen.head(f"{ticket['label']}  {ticket['state']}")
    screen.say(ticket["url"])
    if found is None:
        screen.say("A digest; no nonconformity of its own.")
        return
    figures = found["figures"]
    low, high = figures["interval"]
    screen.say(f"nonconformity {found['key']}, generation {found['generation']}, {found['severity']}, {found['state']}")
    screen.say(found["summary"])
    screen.say(
        f"{figures['deviating']} of {figures['judged']} judged cases (90 % interval {low:.1%} to {high:.1%}), "
        f"{figures['unknown']} unknown; evidence frozen {screen.when(found['opened_at'])}, "
        f"sha256 {found['evidence_hash']}"
    )
