"""An explanation as one page that needs nothing else: no script, no style or picture from anywhere.

Texts in it come from outsiders: the template escapes every value, and signs that would turn the direction of reading
are made visible before. The template is ``pages/explanation.html``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from itsms_sync import __version__
from itsms_sync.cli import screen, wording
from itsms_sync.cli.timeline import Row, folded

MANY = 100
"""Lines of evidence from which on they are put away until somebody opens them."""


def page(explanations: Sequence[dict[str, Any]], *, whole: bool = False) -> str:
    """The page of all records, or tickets of ours, of one name; ``whole``: with every save of a long case."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("itsms_sync.cli", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"when": screen.when, "value": wording.value, "number": lambda number: f"{number:,}"}
    shown = [screen.plain(one) for one in explanations]
    return environment.get_template("explanation.html").render(
        records=[_record(place, one, whole=whole) for place, one in enumerate(shown) if "ticket" not in one],
        tickets=[{**one, "lines": wording.nonconformity(one["nonconformity"])} for one in shown if "ticket" in one],
        called=", ".join(one["ticket"]["label"] if "ticket" in one else one["case"] for one in shown),
        version=__version__,
        many=MANY,
    )


def _record(place: int, told: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    evidence: list[Row] = []
    entries = [_entry(f"{place}-{number}", entry, evidence, whole=whole) for number, entry in enumerate(told["beside"])]
    given = wording.judged(told)
    names = told["names"]
    return {
        **told,
        "place": place,
        "link": told["url"] if told["url"].startswith(("https://", "http://")) else "",
        "led_by": wording.led_by(told),
        "now": {names.get(name, name): v for name, v in told["values"].items() if v and (not names or name in names)},
        "entries": entries,
        "counts": [
            (wording.SIGNS[status], status, sum(verdict["status"] == status for verdict in given))
            for status in ("deviating", "unknown", "conforming")
        ],
        "given": [{**v, "sign": wording.SIGNS[v["status"]], "lines": wording.said(v)} for v in given],
        "silent": wording.silent(told),
        "bases": [
            {
                "poll": poll,
                "first": verdicts[0],
                "requirements": [verdict["requirement"] for verdict in verdicts],
                "streams": [{**c, "since": wording.since(c)} for c in told["coverage_of"].get(poll, ())],
            }
            for poll, verdicts in wording.by_poll(told).items()
        ],
        "alike": screen.alike(told["gaps"]),
        "evidence": evidence,
        "facts": [{**e, "change": wording.changes(e)} for e in told["history"] if e["counts"]],
        "again": sum(not event["counts"] for event in told["history"]),
    }


def _entry(place: str, entry: Mapping[str, Any], evidence: list[Row], *, whole: bool) -> dict[str, Any]:
    """One process; adds to ``evidence`` what its rows rest on."""
    named = wording.letters(entry)
    rows = entry["timeline"] if whole else folded(entry["timeline"])
    return {
        **entry,
        "place": place,
        "rows": [_row(place, row, named, evidence) for row in rows],
        "limits": [
            {**limit, "letter": named[limit["requirement"]], "lines": wording.limit_told(limit)}
            | {"deadline": wording.deadline(limit)}
            for limit in entry["limits"]
        ],
        "next": [{**step, "lines": wording.needed(step, entry["limits"])} for step in entry["outstanding"]],
        "sentences": wording.next_told(entry),
    }


def _row(place: str, row: Row, named: Mapping[str, str], evidence: list[Row]) -> Row:
    first, found = len(evidence) + 1, row.get("evidence", ())
    untold = {"occurred_at": row["at"], "learned_at": None}  # a record that belongs to the case is no event of it
    evidence += [{**untold, **one, "place": place, "number": first + n} for n, one in enumerate(found)]
    numbers = list(range(first, len(evidence) + 1))
    lines = wording.beside(row)
    return {
        "kind": row["kind"],
        "wrong": any(sign == wording.WRONG for sign, _ in lines),
        "number": row.get("number") or "",
        "when": " ".join(wording.instant(row)),
        "actor": row.get("actor") or "",
        "version": row.get("version") or "",
        "changed": wording.changed(row),
        "beside": lines,
        "clocks": wording.clocks(row, named),
        "evidence": numbers,
        "rows": [_row(place, one, named, evidence) for one in row.get("rows", ())],
    }
