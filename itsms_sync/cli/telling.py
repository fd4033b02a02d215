"""An explanation in the terminal, made for 100 columns."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any

from itsms_sync.cli import screen, wording
from itsms_sync.cli.timeline import Row, folded

WIDTH = 100


def show(explanation: dict[str, Any], *, whole: bool = False) -> None:
    """One explanation; ``whole``: with every save of a long case."""
    explanation = screen.plain(explanation)
    if "ticket" in explanation:
        _show_ticket(explanation)
        return
    _show_head(explanation)
    _show_belongings(explanation["case"], explanation["belongs"])
    for entry in explanation["beside"]:
        rows = entry["timeline"] if whole else folded(entry["timeline"])
        _show_beside(entry, rows)
        _show_limits(entry)
        _show_next(entry)
    if not explanation["beside"]:
        _show_facts(explanation)
    _show_verdicts(explanation)
    _show_superseded(explanation["superseded"])
    _show_basis(explanation, whole=whole)
    _show_evidence(explanation, whole=whole)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], **more: Any) -> None:
    screen.table(title, columns, rows, width=WIDTH, **more)


def _say(text: str) -> None:
    screen.say(fill(text, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False))


def _show_head(explanation: dict[str, Any]) -> None:
    screen.head(f"{explanation['case']}  {explanation['kind']} in {explanation['source']}")
    screen.say(explanation["url"])
    for state in explanation["states"]:
        ended = f", ended {screen.when(state['ended_at'])}" if state["ended_at"] else ", still open"
        _say(f"opened {screen.when(state['opened_at'])}{ended}; state now: {state['state']}; scope: {state['scope']}")
    for finding in explanation["findings"]:
        known = finding["occurred_at"] is not None
        when = screen.when(finding["occurred_at"]) if known else f"noticed {screen.when(finding['learned_at'])}"
        by = f" by {finding['actor']}" if finding["actor"] else ""
        _say(f"{finding['what']} ({when}{by}): {finding['note']}")
    if explanation["gone"]:
        _say("The source no longer shows it: it is judged as of then, and nothing that came later counts.")
    for leading in wording.led_by(explanation):
        _say(f"The same work is kept as {leading}, too, and that record is the case: explain {leading}")
    names = explanation["names"]
    values = {names.get(k, k): wording.value(v) for k, v in explanation["values"].items() if v}
    _say("now: " + ", ".join(f"{k} {v}" for k, v in values.items() if not names or k in names.values()))


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
        _table("What belongs to it", ["as", "record", "source", "as of", "values"], rows)


def _show_beside(entry: Mapping[str, Any], rows: Sequence[Row]) -> None:
    named = wording.letters(entry)
    shown = [
        (
            str(row["number"]) if row["kind"] == "save" else "",
            "\n".join((*wording.instant(row), row.get("actor") or "")).strip(),
            "\n".join(wording.changed(row)),
            "\n".join(f"{sign} {text}" for sign, text in wording.beside(row)),
            "\n".join(wording.clocks(row, named)),
        )
        for row in _with_limit(rows, entry["judged_at"])
    ]
    title = f"Beside {entry['document']} version {entry['version']}, as of {screen.when(entry['judged_at'])}"
    heads = ["save", "when, by whom", "what was read", "in the document", "limits"]
    _table(title, heads, shown, right=["save"], keep=["when, by whom"], lines=True)
    if len(rows) < len(entry["timeline"]):
        _say("Rows in which nothing was wrong were put together: --all shows each of them.")
    if entry["waits"]:
        _say(f"Nothing is said of it yet: {entry['waits']}.")
    elif entry["reason"]:
        _say(f"The order of its states is not compared with the document: {entry['reason']}.")
    for sentence in entry["words"]:
        _say(f"{wording.WRONG} {sentence}.")


def _with_limit(rows: Sequence[Row], judged_at: int) -> list[Row]:
    """With a line between what was judged and what came later."""
    first = next((n for n, row in enumerate(rows) if row["kind"] == "later"), None)
    if first is None:
        return list(rows)
    note = {"kind": "part", "at": judged_at, "what": ["what happened after this instant was not judged"]}
    return [*rows[:first], note, *rows[first:]]


def _show_limits(entry: Mapping[str, Any]) -> None:
    named = wording.letters(entry)
    rows = [
        (
            named[limit["requirement"]],
            f"{limit['requirement']} (version {limit['version']})\n{limit['title']}",
            f"{limit['told']}\nsince {screen.when(limit['since_at'])}",
            "\n".join(wording.limit_told(limit)),
            "\n".join(wording.deadline(limit)),
        )
        for limit in entry["limits"]
    ]
    if rows:
        _table("Time limits", ["", "requirement", "limit", "how it stands", "deadline"], rows, lines=True)


def _show_next(entry: Mapping[str, Any]) -> None:
    if not entry["open"]:
        return
    rows = [(s["step"], s["role"], "\n".join(wording.needed(s, entry["limits"]))) for s in entry["outstanding"]]
    if rows:
        _table("Mandatory and still to be made", ["step, in order", "by", "by when"], rows)
    for line in wording.next_told(entry):
        _say(line)


def _show_facts(explanation: dict[str, Any]) -> None:
    """What was read of a record that is no case."""
    names = explanation["names"]
    rows = [
        (
            screen.when(event["occurred_at"]),
            event["actor"] or "",
            f"{names.get(event['field'], event['field'])}: {wording.changes(event)}",
            event["witness"],
        )
        for event in explanation["history"]
        if event["counts"]
    ]
    _table("What was read", ["at", "by (pseudonym)", "change", "witness"], rows)


def _show_verdicts(explanation: dict[str, Any]) -> None:
    """A row for each verdict; what says nothing is named in lines, because it is most of a long procedure."""
    given = wording.judged(explanation)
    rows = [
        (
            wording.SIGNS[v["status"]],
            f"{v['requirement']}\n{v.get('required', '')}",
            f"{v['status'].replace('_', ' ')}\nversion {v['version'] or 'not known'}",
            "\n".join(wording.said(v)),
        )
        for v in given
        if v["status"] != "conforming"
    ]
    if rows:
        heads = ["", "requirement", "verdict", "what happened, or what is missing"]
        _table("Judged, and not fulfilled or not known", heads, rows, lines=True)
    fulfilled = [
        (wording.RIGHT, v["requirement"], v.get("required", ""), "\n".join(wording.said(v)), v["version"])
        for v in given
        if v["status"] == "conforming"
    ]
    if fulfilled:
        heads = ["", "requirement", "what is required", "since", "version"]
        _table("Judged, and conforming", heads, fulfilled, keep=["requirement", "since"])
    for why, ids in wording.silent(explanation):
        _say(f"{why}: {', '.join(ids)}")
    if explanation["changed_documents"]:
        _say(
            f"Changed since it was judged: {', '.join(explanation['changed_documents'])}. The verdicts are those of "
            "then; steps and limits are told by the documents as they are now. The next pass judges anew."
        )


def _show_superseded(superseded: Sequence[Row]) -> None:
    rows = [
        (s["requirement"], s["status"], s["reason"], screen.when(s["learned_at"]), screen.when(s["superseded_at"]))
        for s in superseded
    ]
    if rows:
        _table("Said before, and no longer", ["requirement", "verdict", "reason", "said", "until"], rows)


def _show_basis(explanation: dict[str, Any], *, whole: bool) -> None:
    for poll, ids in wording.by_poll(explanation).items():
        first = ids[0]
        _say(
            f"Judged as of {screen.when(first['as_of'])} by program version {first['program']}; "
            f"coverage: polls up to {poll}."
        )
        rows = [
            (
                c["stream"],
                wording.since(c),
                screen.when(c["covered_until_at"]),
                "to its end" if c["closed"] else "cut off",
                *([c["fields"].replace(",", ", ")] if whole else []),
            )
            for c in explanation["coverage_of"].get(poll, ())
        ]
        title = "What it rests on" if len(explanation["coverage_of"]) == 1 else f"What {_named(ids)} rests on"
        if rows:
            heads = ["stream", "complete from", "up to", "newest window", *(["fields asked for"] if whole else [])]
            _table(title, heads, rows, keep=["stream", "up to"])
    for gap in screen.alike(explanation["gaps"]):
        times = f" ({gap['count']:,} times)" if gap["count"] > 1 else ""
        field = f", {gap['field']}" if gap["field"] else ""
        _say(f"Gap since {screen.when(gap['since_at'])}: {gap['stream']}{field}: {gap['message']}{times}")


def _named(verdicts: Sequence[Row]) -> str:
    return ", ".join(sorted(verdict["requirement"] for verdict in verdicts))


def _show_evidence(explanation: dict[str, Any], *, whole: bool) -> None:
    """The raw events behind the rows that are shown."""
    rows = []
    for entry in explanation["beside"]:
        for row in entry["timeline"] if whole else folded(entry["timeline"]):
            number = str(row["number"]) if row["kind"] == "save" else ""
            rows += [(number, e["witness"], e["witness_id"], e["field"]) for e in row.get("evidence", ())]
    if rows:
        _table(
            f"Evidence: events of record {explanation['id']}", ["save", "witness", "id", "field"], rows, right=["save"]
        )
    again = sum(not event["counts"] for event in explanation["history"])
    if again:
        _say(f"{again} more of metrics and snapshots; better witnesses tell the same, so they do not count.")


def _show_ticket(explanation: dict[str, Any]) -> None:
    ticket, found = explanation["ticket"], explanation["nonconformity"]
    screen.head(f"{ticket['label']}  {ticket['state']}")
    screen.say(ticket["url"])
    for line in wording.nonconformity(found):
        _say(line)
