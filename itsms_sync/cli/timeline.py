"""What happened to a case, save by save, as ``explain`` tells it: facts of the store beside those of the procedure.

Pure: lists and mappings in, one list of rows out. A row has a ``kind``: ``opened`` and ``save``, ``part`` (an approval,
a task or a link), ``gap``, ``version`` (another version of the procedure comes into force), ``verdict`` (something was
settled when nothing was saved) and ``later`` (what happened after the case was judged). Of a long case most rows can be
put away (``folded``): first those in which no step was made.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itsms_sync.conformance.limits import Tick
    from itsms_sync.conformance.stepwise import Beside, SaveBeside

Row = dict[str, Any]
MOST = 60
"""Rows that are shown of a case, if it does not have more that need a look."""
ENDS = 5
"""First and last rows that always stay."""
_TOLD = ("deviating", "unknown")


def timeline(
    beside: "Beside", events: Sequence[Mapping[str, Any]], names: Mapping[str, str], verdicts: Sequence[Row], now: int
) -> list[Row]:
    """``events`` as the store has them, with ``counts`` and with values as people read them; ``names``: field ->
    attribute; ``verdicts`` of the case; ``now``: as of when it was judged (ms)."""
    counted = [event for event in events if event["counts"]]
    seen = [event for event in counted if event["occurred_at"] <= now]
    groups = _matched(beside.saves, grouped(seen))
    rows = [
        _save(number, save, group, names, beside)
        for number, (save, group) in enumerate(zip(beside.saves, groups, strict=True))
    ]
    rows = list(_with_gaps(rows, beside, ordered=all(event["position"] is not None for event in seen)))
    rows = _settled(rows, verdicts)
    later = [_later(group, names) for group in grouped(event for event in counted if event["occurred_at"] > now)]
    return [*rows, *later]


def merged(rows: Sequence[Row], more: Iterable[Row]) -> list[Row]:
    """Rows with others at their instants; of the same instant what was saved comes first. Saves stay in their order,
    also where the source's clock was set back."""
    found = list(rows)
    for row in more:
        before = [n for n, one in enumerate(found) if one["kind"] != "later" and one["at"] <= row["at"]]
        found.insert(before[-1] + 1 if before else 0, row)
    return found


def grouped(events: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Events by save: by the source's own order where each has a place in it, else by time. A note has the place of
    what was saved with it."""
    rows = list(events)
    places = {(e["occurred_at"], e["actor"]): e["position"] for e in rows if e["position"] is not None}
    at_that_time = {at: position for (at, _), position in places.items()}

    def place(event: Mapping[str, Any]) -> int | None:
        at, actor = event["occurred_at"], event["actor"]
        known = event["position"]
        return known if known is not None else places.get((at, actor), at_that_time.get(at))

    ordered = all(place(event) is not None for event in rows)
    found: dict[int, list[Mapping[str, Any]]] = {}
    for event in rows:
        key = place(event) if ordered else event["occurred_at"]
        found.setdefault(key or 0, []).append(event)
    return [found[key] for key in sorted(found)]


def _matched(saves: Sequence["SaveBeside"], groups: Sequence[list[Mapping[str, Any]]]) -> list[list[Mapping[str, Any]]]:
    """The events of each save. Both are in order; what fits no save of its own belongs to the one before it."""
    found: list[list[Mapping[str, Any]]] = [[] for _ in saves]
    number = 0
    for group in groups:
        instants = {event["occurred_at"] for event in group}
        number = next((n for n in range(number + 1, len(saves)) if saves[n].at in instants), number)
        found[number].extend(group)
    return found


def _save(
    number: int, save: "SaveBeside", events: Sequence[Mapping[str, Any]], names: Mapping[str, str], beside: "Beside"
) -> Row:
    since = [event["since"] for event in events if event["since"] is not None and event["since"] < save.at]
    return {
        "kind": "save" if number else "opened",
        "number": number,
        "at": save.at,
        "since": min(since, default=None),
        "actor": save.actor,
        "changes": list(_changes(save, events, names, first=not number)),
        "assumed": not number and (beside.missed_after > 0 or any(one.missed for one in beside.saves)),
        "state": save.state,
        "move": save.move,
        "steps": list(save.steps),
        "wrong": list(save.wrong),
        "verdicts": [],
        "version": save.version,
        "clocks": [
            {"requirement": limit.requirement, "spent": tick.spent, "state": tick.state, "turned": turned}
            for limit in beside.limits
            for tick, turned in _turns(limit.ticks)
            if tick.row == number
        ],
        "evidence": [_evidence(event) for event in events],
    }


def _changes(
    save: "SaveBeside", events: Sequence[Mapping[str, Any]], names: Mapping[str, str], *, first: bool
) -> Iterator[Row]:
    """What was changed: in the source's words where an event tells it, else in those of the mapping."""
    if first:
        yield from ({"field": name, "old": None, "new": new} for name, (_, new) in save.changes.items())
        return
    told = [event for event in events if event["field"]]
    yield from (
        {"field": names.get(event["field"], event["field"]), "old": event["old"], "new": event["new"]} for event in told
    )
    if not events:
        yield from ({"field": name, "old": old, "new": new} for name, (old, new) in save.changes.items())


def _turns(ticks: "Sequence[Tick]") -> "Iterator[tuple[Tick, bool]]":
    """Each with whether the clock goes on in another way than before."""
    before = None
    for tick in ticks:
        yield tick, tick.state != before
        before = tick.state


def _evidence(event: Mapping[str, Any]) -> Row:
    wanted = ("witness", "witness_id", "field", "position", "occurred_at", "since", "learned_at")
    return {name: event[name] for name in wanted}


def _later(events: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Row:
    at = events[-1]["occurred_at"]
    told = [event for event in events if event["field"]]
    return {
        "kind": "later",
        "at": at,
        "actor": next((event["actor"] for event in events if event["actor"]), None),
        "changes": [{"field": names.get(e["field"], e["field"]), "old": e["old"], "new": e["new"]} for e in told],
        "evidence": [_evidence(event) for event in events],
    }


def _with_gaps(rows: Sequence[Row], beside: "Beside", *, ordered: bool) -> Iterator[Row]:
    """The saves, with what is missing between them, and with versions of the procedure that came into force."""
    starts = [(version, at) for version, at in beside.starts if rows and at > rows[0]["at"]]
    told = False
    for row, save in zip(rows, beside.saves, strict=True):
        while starts and starts[0][1] <= row["at"]:
            version, at = starts.pop(0)
            yield {"kind": "version", "at": at, "version": version}
        if save.missed and (ordered or not told):
            told = True
            yield {"kind": "gap", "at": row["at"], "saves": save.missed, "placed": ordered}
        yield row
    if beside.missed_after:
        yield {"kind": "gap", "at": rows[-1]["at"], "saves": beside.missed_after, "placed": True}


def _settled(rows: list[Row], verdicts: Sequence[Row]) -> list[Row]:
    """With deviating and unknown verdicts where they were settled; in a row of their own where nothing was saved."""
    saves = {row["at"]: row for row in rows if row["kind"] in ("opened", "save")}
    alone = []
    for verdict in verdicts:
        at = verdict["occurred_at"]
        if verdict["status"] in _TOLD and at is not None:
            told = {name: verdict[name] for name in ("requirement", "status", "detail", "reason")}
            if at in saves:
                saves[at]["verdicts"].append(told)
            else:
                alone.append({"kind": "verdict", "at": at, "verdicts": [told]})
    return merged(rows, alone)


def gaps_told(rows: Iterable[Row], when: Callable[[int], str]) -> str:
    """Where saves are missing, in words."""
    told, before = [], None
    for row in rows:
        if row["kind"] == "gap":
            number = f"{row['saves']} save{'s' if row['saves'] > 1 else ''}"
            if not row["placed"]:
                told.append(f"{number}, of which no order is known")
            elif before is not None and before < row["at"]:
                told.append(f"{number} between {when(before)} and {when(row['at'])}")
            else:
                told.append(f"{number} after {when(row['at'])}")
        elif row["kind"] in ("opened", "save"):
            before = row["at"]
    return "; ".join(told)


def weight(row: Row) -> int:
    """How much a row is needed: 3 if something is wrong or missing there, 2 if a step was made or a clock went over to
    another state, else 1."""
    if row["kind"] in ("gap", "verdict", "version") or row.get("wrong") or row.get("verdicts"):
        return 3
    turned = any(clock["turned"] for clock in row.get("clocks", ()))
    if row["kind"] in ("opened", "part") or row.get("steps") or row.get("state") or turned:
        return 2
    return 1


def folded(rows: Sequence[Row], most: int = MOST) -> list[Row]:
    """The rows; of a long case only those that are needed most, and the ends. Each run of others becomes one row of
    kind ``fold`` with the rows that it stands for. Of too many with something wrong the first and the last stay."""
    if len(rows) <= most:
        return list(rows)
    ends = {*range(ENDS), *range(len(rows) - ENDS, len(rows))}
    for needed in (2, 3):
        kept = {n for n, row in enumerate(rows) if weight(row) >= needed} | ends
        if len(kept) <= most:
            break
    order = sorted(kept)
    if len(order) > most:
        order = [*order[: most // 2], *order[-(most // 2) :]]
    return list(_between(rows, order))


def _between(rows: Sequence[Row], kept: Sequence[int]) -> Iterator[Row]:
    after = 0
    for place in [*kept, len(rows)]:
        if place - after > 1:
            yield fold(rows[after:place])
        else:
            yield from rows[after:place]
        if place < len(rows):
            yield rows[place]
        after = place + 1


def fold(rows: Sequence[Row]) -> Row:
    """One row for many."""
    changed = Counter(change["field"] for row in rows for change in row.get("changes", ()))
    return {
        "kind": "fold",
        "at": rows[0]["at"],
        "until": rows[-1]["at"],
        "rows": list(rows),
        "changed": dict(changed.most_common(5)),
        "wrong": sum(weight(row) == 3 for row in rows),
    }
