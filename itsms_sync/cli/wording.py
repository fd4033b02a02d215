"""The words of an explanation, the same in a terminal and on a page. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from itsms_sync.cli.screen import when
from itsms_sync.cli.timeline import Row

SIGNS = {"deviating": "✗", "unknown": "?", "conforming": "✓", "not_applicable": "·", "not_judged": "–"}
"""Verdicts in the order in which they are shown."""
WRONG, RIGHT, OPEN, SILENT = SIGNS["deviating"], SIGNS["conforming"], SIGNS["unknown"], SIGNS["not_applicable"]
_MOVES = {"both": (RIGHT, ""), "added": (WRONG, ", not documented here"), None: (SILENT, "")}
_CLOCKS = {"running": "", "paused": ", paused", "stopped": ", stopped", "not known": ", ? not known"}
Line = tuple[str, str]
"""A sign and what it stands beside."""


def letters(entry: Mapping[str, Any]) -> dict[str, str]:
    """Requirement -> letter by which the timeline names its limit."""
    return {limit["requirement"]: _letter(number) for number, limit in enumerate(entry["limits"])}


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else _letter(number // 26 - 1) + _letter(number % 26)


def instant(row: Row) -> list[str]:
    """When it happened, as closely as that is known, a line each."""
    since = row.get("since")
    if row["kind"] == "fold":
        return [when(row["at"]), f"to {when(row['until'])}"]
    return [when(row["at"])] if since is None else [f"after {when(since)},", f"by {when(row['at'])}"]


def changed(row: Row) -> list[str]:
    """What a row tells of the facts, a line each."""
    match row["kind"]:
        case "gap":
            number = f"{row['saves']} save{'s' if row['saves'] > 1 else ''} without history"
            return [f"gap: {number}" if row["placed"] else f"gap: {number}; where is not known"]
        case "version":
            return [f"version {row['version']} of the procedure comes into force"]
        case "verdict":
            return ["nothing was saved"]
        case "part":
            return list(row["what"])
        case "fold":
            return list(_put_away(row))
        case "opened":
            assumed = ["(where no change of a value was read: as it is now)"] if row["assumed"] else []
            values = (f"{c['field']}: {value(c['new'])}" for c in row["changes"] if c["field"] != "opened")
            return ["opened", *assumed, *values]
    lines = [f"{c['field']}: {changes(c)}" for c in row["changes"]]
    return lines or ["(a save whose content was not asked for)"]


def _put_away(row: Row) -> Iterator[str]:
    yield f"{len(row['rows']):,} more rows"
    fields = ", ".join(f"{name} ({times:,})" for name, times in row["changed"].items())
    if fields:
        yield f"changed: {fields}"


def beside(row: Row) -> list[Line]:
    """What the document has in the place of a row, or what is wrong there."""
    lines = [] if row["kind"] not in ("opened", "save") else list(_step(row))
    if row["kind"] == "fold" and row["wrong"]:
        lines.append((WRONG, f"something is wrong or missing in {row['wrong']:,} of them"))
    lines += [(WRONG, text) for text in row.get("wrong") or ()] if row["kind"] != "fold" else []
    for verdict in row.get("verdicts", ()):
        lines.append((SIGNS[verdict["status"]], f"{verdict['requirement']}: {verdict['detail'] or verdict['reason']}"))
    return lines


def _step(row: Row) -> Iterator[Line]:
    sign, note = _MOVES[row["move"]]
    steps = ", ".join(row["steps"])
    if row["state"] is not None:
        state = f"state {row['state']}{note}"
        yield sign, f"{steps} → {state}" if steps else state
    elif steps:
        yield SILENT, steps


def clocks(row: Row, named: Mapping[str, str]) -> list[str]:
    """How the limits stood, a line each; of one that had stopped before nothing is said."""
    shown = [c for c in row.get("clocks", ()) if c["turned"] or c["state"] != "stopped"]
    return [f"{named[c['requirement']]} {span(c['spent'])}{_CLOCKS[c['state']]}" for c in shown]


def changes(change: Mapping[str, Any]) -> str:
    return f"{value(change['old'])} → {value(change['new'])}"


def value(found: Any) -> str:
    """A value as people read it. Free text is kept apart: its reference says only whether two texts are the same."""
    if found is None:
        return "not known"
    if isinstance(found, bool):
        return "yes" if found else "no"
    text = str(found)
    if text == "":
        return "∅"
    return f"{text[:13]}…" if text.startswith("text:") else text


def span(millis: int) -> str:
    """A duration in words."""
    minutes, sign = abs(millis) // 60_000, "-" if millis < 0 else ""
    hours, minutes = divmod(minutes, 60)
    if hours and minutes:
        return f"{sign}{hours:,} h {minutes} min"
    return f"{sign}{hours:,} h" if hours else f"{sign}{minutes} min"


def limit_told(limit: Row) -> list[str]:
    """How a limit stands, a line each."""
    if limit["missing"]:
        return [f"not known: {limit['missing']}"]
    lines = []
    if limit["spent"] is not None:
        ended = " when it stopped" if limit["state"] == "stopped" else ""
        lines.append(f"{span(limit['spent'])} used up{ended}")
        if limit["at_most"] is not None and limit["at_most"] > limit["spent"]:
            lines.append(f"perhaps {span(limit['at_most'])}: whether it stood still is not known all the time")
    if limit["passed"]:
        return [*lines, f"{WRONG} it was passed"]
    if limit["state"] == "paused":
        return [*lines, f"it stands still; {span(limit['left'])} are left"]
    if limit["until_deadline"] is not None:
        left = span(limit["left"]) if limit["left"] is not None else ""
        return [*lines, f"{left or span(limit['until_deadline'])} left{' on its clock' if left else ''}"]
    return lines if limit["state"] != "not known" else [*lines, "whether it runs is not known"]


def deadline(limit: Row) -> list[str]:
    """When a limit runs out, in UTC and on the clock of its site."""
    if limit["deadline_at"] is None:
        return ["–"]
    told = [when(limit["deadline_at"])]
    return told if limit["zone"] == "UTC" else [*told, limit["deadline_local"]]


def said(verdict: Row) -> list[str]:
    """What happened, or why nothing is known, a line each."""
    lines = [verdict["detail"] or verdict["reason"] or ""]
    if verdict.get("missing") and verdict["missing"] != lines[0]:
        lines.append(f"missing: {verdict['missing']}")
    if verdict["occurred_at"] is not None:
        lines.append(when(verdict["occurred_at"]))
    return [line for line in lines if line]


def judged(explanation: Mapping[str, Any]) -> list[Row]:
    """The verdicts that were given, in the order in which they are shown."""
    order = list(SIGNS)
    given = [v for v in explanation["verdicts"] if "program" in v]
    return sorted(given, key=lambda v: (order.index(v["status"]), v["requirement"]))


def silent(explanation: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Why requirements say nothing about the case, and which do so for that reason."""
    found: dict[str, list[str]] = {}
    for verdict in explanation["verdicts"]:
        if "program" not in verdict:
            sign = SIGNS[verdict["status"]]
            why = "no check yet" if verdict["status"] == "not_judged" else verdict["reason"]
            found.setdefault(f"{sign} {why}", []).append(verdict["requirement"])
    return [(why, sorted(ids)) for why, ids in sorted(found.items())]


def led_by(explanation: Mapping[str, Any]) -> list[str]:
    """The records that are the case, where this one only follows another in a second system."""
    pairs = [one["case"] for one in explanation["belongs"] if one["tie"] == "pair" and one["case"]]
    return pairs if pairs and not explanation["states"] else []


def since(covered: Mapping[str, Any]) -> str:
    """Since when a stream is read whole."""
    is_whole = covered["covered_from_at"] is None and covered["covered_until_at"] is not None
    return "its beginning" if is_whole else when(covered["covered_from_at"])


def next_told(entry: Mapping[str, Any]) -> list[str]:
    """Where an open case can go, in sentences."""
    lines = []
    if entry["following"]:
        lines.append(f"The document lets it go next to: {', '.join(entry['following'])}.")
    if entry["ahead"]:
        lines.append(f"Still to come, whatever happens: {', '.join(entry['ahead'])}.")
    return lines


def needed(step: Mapping[str, Any], limits: Sequence[Row]) -> list[str]:
    """What is asked of a step that is still to be made, a line each."""
    by = [limit for limit in limits if limit["requirement"] in step["limits"]]
    lines = [f"before {step['before']} ({', '.join(step['requirements'])})"] if step["before"] else []
    for limit in by:
        told = limit_told(limit)
        due = f"by {', '.join(deadline(limit))}: " if limit["deadline_at"] is not None else ""
        lines.append(f"{due}{told[-1] if told else ''} ({limit['requirement']})")
    lines += [f"? {step['unsure']}"] if step["unsure"] else []
    return lines or ["–"]


def by_poll(explanation: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The verdicts that were given, by the newest poll that they could know of: that is the coverage under them."""
    found: dict[str, list[Row]] = {}
    for verdict in judged(explanation):
        found.setdefault(str(verdict["last_poll_id"] or 0), []).append(verdict)
    return found


def nonconformity(found: Mapping[str, Any] | None) -> list[str]:
    """What stands behind a ticket of ours, a line each."""
    if found is None:
        return ["A digest; no nonconformity of its own."]
    figures = found["figures"]
    low, high = figures["interval"]
    return [
        f"nonconformity {found['key']}, generation {found['generation']}, {found['severity']}, {found['state']}",
        found["summary"],
        f"{figures['deviating']} of {figures['judged']} judged cases (90 % interval {low:.1%} to {high:.1%}), "
        f"{figures['unknown']} unknown; evidence frozen {when(found['opened_at'])}, sha256 {found['evidence_hash']}",
    ]
