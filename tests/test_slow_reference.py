"""The checks of approvals, tasks, links and tracks against a slow reference: plain loops over one change at a time,
which try out every way in which what is not known may be.

Owns a second reading of what these checks say, verdict for verdict with reason, instants and wording. It shares nothing
with the kernel but the documents. The changes come from seeds: many of them are judged at once, which is quick, and a
smaller seed is no simpler one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from random import Random
from typing import Any, NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from itsms_sync.conformance.kernel import judge
from itsms_sync.procedures.model import (
    ApprovedBeforeStart,
    ApproverNotImplementer,
    FieldsAtApproval,
    LinkedAtGate,
    LinkedInTime,
    NotSelfApproved,
    Procedure,
    Quorum,
    Requirement,
    Reviewed,
    StagesApproved,
    TrackKept,
)
from tests.test_kernel import MINUTE, START, TIMER, Case, Save
from tests.test_kernel_changes import CHANGE_CREATED, Change, PartRow, change_log, change_mapping, change_procedure

HOUR = 60 * MINUTE
NEVER = 10**15
"""Later than anything."""
INITIAL = "new"
STAGES = ("assess", "authorise")
"""The states in which the procedure of these tests asks for approvals."""
WORDS = ("requested", "approved", "rejected", "cancelled", "not_required")
STATES = {"-5": "new", "-4": "assess", "-3": "authorise", "-2": "scheduled", "-1": "implement", "0": "review"}
STATES |= {"3": "closed", "4": "cancelled"}
COLUMNS = ("case", "requirement", "status", "reason", "at", "recheck_at", "detail")


class Said(NamedTuple):
    """A verdict."""

    status: str
    reason: str | None = None
    at: int | None = None
    recheck_at: int | None = None
    detail: str | None = None


def unknown(reason: str, at: int | None = None, recheck_at: int | None = None) -> Said:
    return Said("unknown", reason, at, recheck_at)


def apart(reason: str, recheck_at: int | None = None) -> Said:
    return Said("not_applicable", reason, None, recheck_at)


def conforming(at: int | None) -> Said:
    return Said("conforming", None, at)


def deviating(at: int | None, detail: str) -> Said:
    return Said("deviating", None, at, None, detail)


# --- what can be seen of one change


class Row(NamedTuple):
    at: int
    missed: int
    values: Mapping[str, str | None]

    @property
    def state(self) -> str | None:
        return STATES.get(self.values["state"] or "")

    @property
    def track(self) -> str | None:
        word = self.values["type"]
        return word if word in ("normal", "standard", "emergency", "") else None


SOURCES = {
    "assignee": "assigned_to",
    "template": "std_change_producer_version",
    "item": "cmdb_ci",
    "planned_end": "end_date",
}
"""Attribute -> field of the source, where they are not called the same."""


class View(NamedTuple):
    """One change as it is known at ``now``."""

    rows: list[Row]
    missed_after: int
    approvals: list[PartRow]
    tasks: list[PartRow]
    links: list[PartRow]
    unread: Mapping[str, str]
    now: int

    def value(self, row: int, name: str) -> str | None:
        return self.rows[row].values[SOURCES.get(name, name)]

    @property
    def lost(self) -> bool:
        return self.rows[0].state != INITIAL

    @property
    def last(self) -> int:
        return len(self.rows) - 1

    @property
    def missed(self) -> int:
        return sum(row.missed for row in self.rows) + self.missed_after

    def missed_until(self, row: int) -> bool:
        return any(self.rows[n].missed for n in range(row + 1))

    def row_at(self, at: int) -> int | None:
        return max((n for n, row in enumerate(self.rows) if row.at <= at), default=None)

    def first(self, state: str) -> int | None:
        return next((n for n, row in enumerate(self.rows) if row.state == state), None)

    def first_untold(self) -> int:
        return next((n for n, row in enumerate(self.rows) if row.state is None), NEVER)

    def unread_of(self, *names: str) -> str | None:
        return next((f"not read: {self.unread[name]}" for name in names if name in self.unread), None)


def view(change: Change, now: int, unread: Mapping[str, str]) -> View:
    values, rows, before = dict(change.history.first), [], 0
    rows.append(Row(change.history.created, 0, dict(values)))
    for order, save in enumerate(change.history.saves, start=1):
        values.update(save.changes)
        if save.traced and save.at <= now:
            rows.append(Row(save.at, order - before - 1, dict(values)))
            before = order
    over = all(save.at <= now for save in change.history.saves)
    after = len(change.history.saves) - before if over else 0
    return View(rows, after, list(change.approvals), list(change.tasks), list(change.links), unread, now)


def by_now(change: Change, now: int) -> Change:
    """The parts that there were at ``now``, as they stood. Saves without a trace changed nothing."""

    def approval(row: PartRow) -> PartRow:
        later = row["decided_at"] is not None and row["decided_at"] > now
        return {**row, "state": "requested", "decided_at": None} if later else row

    def task(row: PartRow) -> PartRow:
        later = row["ended_at"] is not None and row["ended_at"] > now
        return {**row, "state": "work", "ended_at": None} if later else row

    saves = tuple(save if save.traced else save._replace(changes={}) for save in change.history.saves)
    return Change(
        change.history._replace(saves=saves),
        tuple(approval(row) for row in change.approvals if row["asked_at"] <= now),
        tuple(task(row) for row in change.tasks if row["opened_at"] <= now),
        tuple(row for row in change.links if row["at"] is None or row["at"] <= now),
    )


# --- approvals: all that may be the case


class Answer(NamedTuple):
    state: str
    asked: int
    earliest: int
    latest: int | None


def earliest(row: PartRow) -> int:
    found: int = row["decided_at"] if row["exact"] and row["decided_at"] is not None else row["asked_at"]
    return found


def stage_of(seen: View, row: PartRow) -> str | None:
    """The stage of an approval, or ``None`` where it is not known."""
    if row["stage"]:
        found: str = row["stage"]
        return found
    place = seen.row_at(row["asked_at"])
    if place is None:
        return None
    missed = seen.missed_after if place == seen.last else seen.rows[place + 1].missed
    hidden = missed and seen.rows[place].at != row["asked_at"]
    return None if hidden else seen.rows[place].state


def of_stage(seen: View, stage: str) -> list[tuple[PartRow, bool | None]]:
    """The approvals that belong to the stage (``True``) or perhaps do (``None``)."""
    begun = min((n for n in (seen.first("implement"), seen.first("closed")) if n is not None), default=NEVER)
    found = [(row, stage_of(seen, row)) for row in seen.approvals]
    if not any(known == stage for _, known in found):
        found = [(row, stage if _makes_up(seen, row, known, begun) else known) for row, known in found]
    return [(row, None if known is None else True) for row, known in found if known in (None, stage)]


def _makes_up(seen: View, row: PartRow, stage: str | None, begun: int) -> bool:
    """Asked outside of any stage after the work began."""
    place = seen.row_at(row["asked_at"])
    return not row["stage"] and place is not None and place >= begun and stage is not None and stage not in STAGES


def entries(seen: View, stage: str) -> list[int]:
    before = [None, *(row.state for row in seen.rows)]
    return [row.at for was, row in zip(before, seen.rows, strict=False) if row.state == stage and was != stage]


def round_is_hidden(seen: View, stage: str, rows: Sequence[tuple[PartRow, bool | None]]) -> bool:
    """Whether it cannot be told where the last round began."""
    for row, here in rows:
        if row["state"] in (None, "rejected"):
            again = [at for at in entries(seen, stage) if at > earliest(row)]
            sure = here and row["state"] == "rejected"
            if any(not sure or row["decided_at"] is None or at <= row["decided_at"] for at in again):
                return True
            if seen.missed_after or any(one.missed and one.at >= earliest(row) for one in seen.rows):
                return True
    return False


def last_round(seen: View, stage: str, rows: Sequence[tuple[PartRow, bool | None]]) -> int:
    """When the last round began, ms; before everything if there was but one."""
    rejections = [earliest(row) for row, here in rows if here and row["state"] == "rejected"]
    return max((min((at for at in entries(seen, stage) if at > no), default=-1) for no in rejections), default=-1)


def ways(rows: Sequence[tuple[PartRow, bool | None]]) -> Iterator[list[Answer]]:
    """The approvals of a stage, in every way in which what is not known of them may be."""
    choices: list[list[Answer | None]] = []
    for row, here in rows:
        states = WORDS if row["state"] is None else (row["state"],)
        answers = [Answer(state, row["asked_at"], earliest(row), row["decided_at"]) for state in states]
        choices.append([*answers, *([] if here else [None])])
    for way in product(*choices):
        yield [answer for answer in way if answer is not None]


def holds(answers: Sequence[Answer], quorum: Quorum) -> bool:
    states = [answer.state for answer in answers]
    if isinstance(quorum, int):
        return states.count("approved") >= quorum
    refused = states.count("rejected") + (states.count("requested") if quorum == "all" else 0)
    return "approved" in states and not refused


def since(instants_given: Iterable[int | None], quorum: Quorum) -> int | None:
    """The instant with which a quorum is complete."""
    in_order = sorted(NEVER if at is None else at for at in instants_given)
    at = in_order[{"any": 0, "all": -1}[quorum] if isinstance(quorum, str) else quorum - 1]
    return None if at == NEVER else at


class Stage(NamedTuple):
    """What is known of a stage: whether its quorum is met, between which instants it was, and what it lacks."""

    met: bool | None
    lower: int | None
    upper: int | None
    lack: str


def stage_facts(seen: View, stage: str, quorum: Quorum, called: str) -> Stage:
    rows = of_stage(seen, stage)
    if round_is_hidden(seen, stage, rows):
        return Stage(None, None, None, "")
    began = last_round(seen, stage, rows)
    current = [(row, here) for row, here in rows if row["asked_at"] >= began]
    told = {holds(way, quorum) for way in ways(current)}
    lack = f"{called}: {_lack(current, len(current) < len(rows), quorum)}"
    if told != {True}:
        return Stage(None if len(told) > 1 else False, None, None, lack)
    complete = [[a for a in way if a.state == "approved"] for way in ways(current)]
    lower = min(since((a.earliest for a in way), quorum) or 0 for way in complete)
    uppers = [since((a.latest for a in way), quorum) for way in complete]
    upper = None if None in uppers else max(at for at in uppers if at is not None)
    return Stage(True, lower, upper, lack)


def _lack(rows: Sequence[tuple[PartRow, bool | None]], again: bool, quorum: Quorum) -> str:
    states = [row["state"] for row, here in rows if here]
    off = states.count("cancelled") + states.count("not_required")
    asked, approved, rejected = len(states) - off, states.count("approved"), states.count("rejected")
    if not asked:
        if again:
            return "nobody was asked again after the rejection"
        return "nobody approved, and nobody is asked any more" if off else "nobody was asked"
    counts = f"{approved} of {asked} approved, "
    if rejected:
        return counts + f"{rejected} rejected"
    return counts + {"any": "one has to", "all": "all have to"}.get(str(quorum), f"{quorum} have to")


# --- the checks


def slow_quorum(seen: View, demand: StagesApproved, procedure: Procedure) -> Said:
    gate = seen.first("implement" if demand.before == "implement" else "closed")
    if gate is None:
        return apart("gate not reached")
    at = seen.rows[gate].at
    if why := seen.unread_of("approvals"):
        return unknown(why, at)
    facts = [stage_facts(seen, name, quorum, procedure.called(name)) for name, quorum in demand.stages.items()]
    lacking = [fact.lack for fact in facts if fact.met is False]
    if lacking:
        return deviating(at, "; ".join(lacking))
    if any(fact.met is None for fact in facts):
        return unknown("stage or decision of an approval not known", at)
    return conforming(max([at, *(fact.upper for fact in facts if fact.upper is not None)]))


class Decision(NamedTuple):
    """Whether all or some stages are approved, whether that is in doubt, and the bounds of the last deciding
    approval.
    """

    all: bool | None
    some: bool | None
    doubted: bool
    lower: int | None
    upper: int | None

    @property
    def at(self) -> int | None:
        return self.lower if self.upper is None else self.upper


def decision(seen: View, stages: Sequence[str], procedure: Procedure) -> Decision:
    quorums = {name: q for r in procedure.requirements if isinstance(r, StagesApproved) for name, q in r.stages.items()}
    facts = [stage_facts(seen, name, quorums.get(name, "all"), "") for name in stages]
    met = [fact.met for fact in facts]
    every = False if False in met else None if None in met else True
    some = True if True in met else None if None in met else False
    bounds = [(fact.lower, fact.upper) for fact in facts if fact.met]
    lower = max((low for low, _ in bounds if low is not None), default=None)
    uppers = [high for _, high in bounds]
    upper = None if None in uppers else max((high for high in uppers if high is not None), default=None)
    return Decision(every, some, None in met, lower, upper)


def slow_late(seen: View, demand: ApprovedBeforeStart, procedure: Procedure) -> Said:
    gate = seen.first("implement")
    written, starts = claims(seen) if demand.started else (None, None)
    begun = [at for at in (None if gate is None else seen.rows[gate].at, written) if at is not None]
    if not begun:
        return apart("gate not reached", starts)
    start, decided = min(begun), decision(seen, demand.stages, procedure)
    limit = start + int(demand.grace / timedelta(milliseconds=1))
    if why := seen.unread_of("approvals"):
        return unknown(why, start)
    if decided.all is False:
        return apart("not approved")
    if decided.doubted:
        return unknown("stage or decision of an approval not known", start)
    if seen.lost and gate in (None, 0):
        return unknown("history lost before the first row", start)
    if decided.lower is not None and decided.lower > limit:
        return deviating(decided.at, _after(decided.upper, start))
    if decided.upper is None or decided.upper > limit:
        return unknown("time of the approval not known", start)
    if seen.lost:
        return unknown("history lost before the first row", start)
    if seen.first_untold() <= (seen.last if gate is None else gate):
        return unknown("value not known", start)
    if seen.missed if gate is None else seen.missed_until(gate):
        return unknown("gap: saves without history", start)
    return conforming(start)


def _after(upper: int | None, start: int) -> str:
    if upper is None:
        return "approved after the work began"
    hours, minutes = divmod((upper - start) // MINUTE, 60)
    return f"approved {hours} h {minutes} min after the work began"


def claims(seen: View) -> tuple[int | None, int | None]:
    """The beginning that was first written down and had come while it still stood, and one that lies ahead."""
    values = [_millis(row.values["work_start"]) for row in seen.rows]
    first, ahead = None, None
    for n, value in enumerate(values):
        if value is None or (n and values[n - 1] == value):
            continue
        until = next((seen.rows[m].at for m in range(n, len(values)) if values[m] != value), None)
        if first is None and (value <= seen.now if until is None else value < until):
            first = value
        if until is None and value > seen.now:
            ahead = value
    return first, ahead


def _millis(text: str | None) -> int | None:
    if not text:
        return None
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() * 1000)


def slow_plans(seen: View, demand: FieldsAtApproval, procedure: Procedure) -> Said:
    decided = decision(seen, demand.stages, procedure)
    if why := seen.unread_of("approvals"):
        return unknown(why, decided.at)
    if decided.some is False:
        return apart("not approved")
    if decided.doubted:
        return unknown("stage or decision of an approval not known", decided.at)
    if decided.upper is None or decided.lower is None:
        return unknown("time of the approval not known", decided.at)
    low, high = seen.row_at(decided.lower), seen.row_at(decided.upper)
    if low is None or high is None:
        return unknown("history lost before the first row", decided.at)
    found = {name: {seen.value(n, name) for n in range(low, high + 1)} for name in demand.fields}
    empty = [name.replace("_", " ") for name, values in found.items() if values == {""}]
    if empty:
        hidden = seen.missed_until(min(high + 1, seen.last)) or (high == seen.last and seen.missed_after)
        detail = f"empty when it was approved: {', '.join(empty)}"
        return unknown("gap: saves without history", decided.at) if hidden else deviating(decided.at, detail)
    for name, values in found.items():
        if None in values:
            return unknown(f"value not known: {name}", decided.at)
    if any("" in values for values in found.values()):
        return unknown("time of the approval not known", decided.at)
    return conforming(decided.at)


class Given(NamedTuple):
    approver: str
    writer: str | None
    """The person who wrote the answer, if that is not the approver."""
    times: tuple[int | None, ...]
    """The rows that stood when it may have been given."""
    at: int


def given_in(seen: View) -> list[Given]:
    found = []
    for row in seen.approvals:
        by_itself = row["human"] is False and row["actor"] is not None and row["actor"] == row["approver"]
        if row["state"] != "approved" or by_itself:
            continue
        at = row["asked_at"] if row["decided_at"] is None else row["decided_at"]
        low, high = seen.row_at(earliest(row)), seen.row_at(at)
        times: tuple[int | None, ...] = (None,) if low is None or high is None else tuple(range(low, high + 1))
        other = row["human"] and row["actor"] and row["approver"] is not None and row["actor"] != row["approver"]
        found.append(Given(row["approver"] or "", row["actor"] if other else None, times, at))
    return found


def about_given(seen: View, given_ones: Sequence[Given]) -> Said | None:
    at = max((one.at for one in given_ones), default=None)
    if why := seen.unread_of("approvals"):
        return unknown(why, at)
    if any(row["state"] is None for row in seen.approvals):
        return unknown("stage or decision of an approval not known", at)
    if not given_ones:
        return apart("no approval was given")
    if any(not one.approver for one in given_ones):
        return unknown("approver not known", at)
    return None


def slow_self(seen: View, demand: NotSelfApproved, procedure: Procedure) -> Said:
    del procedure
    found = given_in(seen)
    named = [
        [[None if n is None else seen.value(n, name) for name in demand.requesters] for n in one.times] for one in found
    ]
    own = [
        (one.at, demand.requesters[times[-1].index(one.approver)])
        for one, times in zip(found, named, strict=True)
        if one.approver and all(one.approver in values for values in times)
    ]
    if own:
        at, name = min((at, f'approved by the person named under "{name.replace("_", " ")}"') for at, name in own)
        return deviating(at, name)
    at_last = max((one.at for one in found), default=None)
    return about_given(seen, found) or _about_requesters(demand, found, named, at_last)


def _about_requesters(
    demand: NotSelfApproved, found: Sequence[Given], named: Sequence[Sequence[Sequence[str | None]]], at: int | None
) -> Said:
    if any(one.approver in values for one, times in zip(found, named, strict=True) for values in times):
        return unknown("time of the approval not known", at)
    for place, name in enumerate(demand.requesters):
        if any(values[place] is None for times in named for values in times):
            return unknown(f"value not known: {name}", at)
    if any(not any(times[-1]) for times in named):
        return unknown("who asked for it is not known", at)
    wrote = (one.writer in values for one, times in zip(found, named, strict=True) if one.writer for values in times)
    return unknown("a person concerned wrote the approval of another", at) if any(wrote) else conforming(at)


class Worker(NamedTuple):
    person: str | None
    since: int
    role: str
    doubt: str | None


def workers(seen: View, demand: ApproverNotImplementer) -> Iterator[Worker]:
    for n, row in enumerate(seen.rows):
        if demand.implementers and row.state in (None, *demand.during):
            for name in demand.implementers:
                role = f'implemented by an approver, named under "{name.replace("_", " ")}"'
                yield Worker(seen.value(n, name), row.at, role, "state not known" if row.state is None else None)
    for task in seen.tasks:
        meant = task["type"] is None or task["type"] in demand.task_types
        if demand.task_types and meant and task["state"] in (None, "work", "done", "incomplete"):
            doubt = "type or state of a task not known" if None in (task["type"], task["state"]) else None
            for person in task["workers"] or [None]:
                role = "implemented by an approver, who held a task of implementation"
                yield Worker(person, task["opened_at"], role, doubt)


def slow_implements(seen: View, demand: ApproverNotImplementer, procedure: Procedure) -> Said:
    del procedure
    found, work = given_in(seen), list(workers(seen, demand))
    sure = [one for one in work if one.doubt is None]
    both = [
        (max(one.at, worker.since), worker.role)
        for one, worker in product(found, sure)
        if worker.person and worker.person == one.approver
    ]
    if both:
        return deviating(*min(both))
    return about_given(seen, found) or _about_workers(seen, demand, found, work)


DOUBTS = ("state not known", "type or state of a task not known")


def _about_workers(seen: View, demand: ApproverNotImplementer, found: Sequence[Given], work: Sequence[Worker]) -> Said:
    at, sure = max(one.at for one in found), [one for one in work if one.doubt is None]
    if demand.task_types and (why := seen.unread_of("tasks")):
        return unknown(why, at)
    approvers = {one.approver for one in found}
    meant = {one.doubt for one in work if one.person is None or one.person in approvers}
    if doubts := [doubt for doubt in DOUBTS if doubt in meant]:
        return unknown(doubts[0], at)
    if {one.writer for one in found if one.writer} & {one.person for one in sure}:
        return unknown("a person concerned wrote the approval of another", at)
    if demand.implementers and (seen.lost or seen.missed):
        return unknown("history lost before the first row" if seen.lost else "gap: saves without history", at)
    if not sure:
        doubts = [doubt for doubt in DOUBTS if doubt in {one.doubt for one in work}]
        return unknown(doubts[0], at) if doubts else apart("work not started")
    if any(one.person is None for one in sure) or not any(one.person for one in sure):
        return unknown("who implemented it is not known", at)
    return conforming(at)


def linked(seen: View, roles: Sequence[str], via: Sequence[str]) -> list[int | None]:
    """When each link of these roles was made."""
    return [
        link["at"]
        for link in seen.links
        if link["role"] in roles and link["via"] in (None, *via) and link["state"] != "cancelled"
    ]


def slow_link_in_time(seen: View, demand: LinkedInTime, procedure: Procedure) -> Said:
    gate = seen.first("review")
    if gate is None:
        return apart("gate not reached")
    begin, found = seen.rows[gate].at, linked(seen, demand.roles, demand.via)
    deadline = begin + 10 * HOUR
    made = None if None in found else min((at for at in found if at is not None), default=None)
    if made is not None and made > begin:
        if seen.lost:
            return unknown("history lost before the first row", begin)
        if seen.first_untold() < gate:
            return unknown("value not known", begin)
        if seen.missed_until(gate):
            return unknown("gap: saves without history", begin)
    if None in found:
        return conforming(begin)
    if made is not None and made <= deadline:
        return conforming(max(begin, made))
    if seen.now <= deadline:
        return apart("within the limit", deadline + 1)
    if why := seen.unread_of("links", *(f"links.{role}" for role in (*demand.roles, *demand.via))):
        return unknown(why, deadline)
    late = "10 h after " + procedure.called("review")
    named = "incident or problem that called for it"
    return deviating(
        deadline,
        f"no {named} was linked within {late}" if made is None else f"the {named} was linked later than {late}",
    )


def slow_link(seen: View, demand: LinkedAtGate, procedure: Procedure) -> Said:
    del procedure
    gate = seen.first("closed")
    if gate is None:
        return apart("gate not reached")
    at, found = seen.rows[gate].at, linked(seen, demand.roles, demand.via)
    if found:
        return conforming(at if None in found else max(at, min(one for one in found if one is not None)))
    if why := seen.unread_of("links", *(f"links.{role}" for role in (*demand.roles, *demand.via))):
        return unknown(why, at)
    return deviating(at, "no problem or incident or problem that called for it is linked")


def slow_review(seen: View, demand: Reviewed, procedure: Procedure) -> Said:
    del procedure
    gate = seen.first("closed")
    if gate is None:
        return apart("gate not reached")
    at = seen.rows[gate].at
    done = [task for task in seen.tasks if task["type"] in demand.tasks and task["state"] == "done"]
    written = {name: _filled_since(seen, name) for name in demand.fields}
    if done or any(value is not None for value in written.values()):
        first = [one for one in (*(task["ended_at"] for task in done), *written.values()) if one is not None]
        return conforming(max([at, min(first, default=at)]))
    if demand.tasks and (why := seen.unread_of("tasks")):
        return unknown(why, at)
    for task in seen.tasks:
        if (task["type"] is None or task["type"] in demand.tasks) and task["state"] in (None, "done"):
            return unknown("type or state of a task not known", at)
    for name in demand.fields:
        if seen.value(seen.last, name) is None:
            return unknown(f"value not known: {name}", at)
    return deviating(at, "no review is recorded")


def _filled_since(seen: View, name: str) -> int | None:
    """Since when it has held something, without a break."""
    found = None
    for n in range(seen.last, -1, -1):
        if not seen.value(n, name):
            break
        found = seen.rows[n].at
    return found


def track_of(seen: View, demand: TrackKept) -> str | None:
    """The name of the change's track, ``''`` if there is none, ``None`` if it cannot be told."""
    last = seen.rows[-1]
    found_not_planned = {"true": True, "false": False}.get(last.values["unauthorized"] or "")
    for name in demand.tracks:
        holds_ = found_not_planned if name == "unauthorised" else None if last.track is None else last.track == name
        if holds_ is not False:
            return name if holds_ else None
    return ""


def slow_track(seen: View, demand: TrackKept, procedure: Procedure) -> Said:
    changes = [(before, row) for before, row in pairwise(seen.rows) if before.track and row.track != before.track]
    for before, row in changes:
        if not row.missed and row.track is not None and before.state not in (None, INITIAL):
            return deviating(
                row.at, f"track changed from {before.track} to {row.track or 'nothing'} in state {before.state}"
            )
    gate = seen.first("implement")
    if gate is None:
        return apart("gate not reached")
    at, name = seen.rows[gate].at, track_of(seen, demand)
    if not name:
        return unknown("value not known: track" if name is None else "no documented track", at)
    said = _about_track(seen, demand, name, gate, procedure)
    if said is not None:
        return said
    if any(row.track is None for row in seen.rows):
        return unknown("value not known: track", at)
    if any(before.state is None and row.track is not None for before, row in changes):
        return unknown("state not known", at)
    if seen.lost:
        return unknown("history lost before the first row", at)
    return unknown("gap: saves without history", at) if seen.missed else conforming(at)


def _about_track(seen: View, demand: TrackKept, name: str, gate: int, procedure: Procedure) -> Said | None:
    """What is wrong, or not known, of what the track demands."""
    track, at = demand.tracks[name], seen.rows[gate].at
    states = [row.state for row in seen.rows[: gate + 1]]
    stands = {field: seen.rows[gate].values[SOURCES.get(field, field)] for field in track.fields}
    hidden = seen.lost or seen.missed_until(gate)
    absent = [step for step in track.needs if step not in states]
    wrong = [f"{procedure.called(step)} happened before the work" for step in track.forbids if step in states]
    wrong += [f"{field.replace('_', ' ')} was empty" for field, value in stands.items() if value == ""]
    if None not in states and not hidden:
        wrong += [f"{procedure.called(step)} did not happen before the work" for step in absent]
    if wrong:
        return deviating(at, f"{name} track: {wrong[0]}")
    reasons = [f"value not known: {field}" for field, value in stands.items() if value is None]
    if absent or any(step not in states for step in track.forbids):
        reasons += ["value not known"] if None in states else []
        reasons += (
            ["history lost before the first row"] if seen.lost else ["gap: saves without history"] if hidden else []
        )
    return unknown(reasons[0], at) if reasons else None


SLOW: dict[str, Any] = {
    "RO1": slow_self,
    "RO2": slow_implements,
    "RO4": slow_quorum,
    "DA3": slow_plans,
    "TI6": slow_late,
    "LI1": slow_link_in_time,
    "LI4": slow_review,
    "LI9": slow_link,
    "CF11": slow_track,
}


def slowly(change: Change, now: int, unread: Mapping[str, str], demand: Requirement, procedure: Procedure) -> Said:
    """The verdict; a case of which there is more than can be seen yet is judged again when that may be seen."""
    found: Said = SLOW[demand.check](view(change, now, unread), demand, procedure)
    saves = change.history.saves
    coming = {*(save.at for save in saves if save.traced), *(save.at for save in saves[-1:])}
    again = [at for at in (found.recheck_at, *coming) if at is not None and (at > now or at == found.recheck_at)]
    return found._replace(recheck_at=min(again, default=None))


# --- the procedures


def shipped(id_: str) -> Requirement:
    return next(r for r in change_procedure().requirements if r.id == id_)


def demanded(id_: str, like: str, **keys: Any) -> Requirement:
    """A shipped requirement that applies to all changes, with other keys."""
    return shipped(like).model_copy(update={"id": id_, "applies": None, **keys})


def in_time(id_: str, roles: tuple[str, ...], via: tuple[str, ...]) -> Requirement:
    base = shipped("CHG-EMERGENCY-TRIGGER").model_dump(exclude={"gate", "check", "roles", "via", "applies", "id"})
    limit = {"time": timedelta(hours=10)}
    return LinkedInTime.model_validate(
        {**base, "id": id_, "check": "LI1", "roles": roles, "via": via, "after": "review", "limit": limit}, strict=False
    )


def strict_track() -> dict[str, Any]:
    tracks = shipped("CHG-TRACK").tracks  # type: ignore[union-attr]
    return {**tracks, "standard": tracks["standard"].model_copy(update={"forbids": ("authorise",)})}


def demanding(quorum: Quorum, assessed: Quorum) -> Procedure:
    """All nine checks, in several ways, over all changes."""
    requirements = (
        demanded("X-QUORUM", "CHG-C3-CAB", stages={"authorise": quorum}),
        demanded("X-QUORUMS", "CHG-C3-ECAB", stages={"authorise": quorum, "assess": assessed}),
        demanded("X-LATE", "CHG-C3-BEFORE"),
        demanded("X-GRACE", "CHG-C3-GRACE", stages=("assess", "authorise"), grace=timedelta(hours=1), started=None),
        demanded("X-PLANS", "CHG-C1-PLANS", fields=("implementation_plan", "backout_plan")),
        demanded("X-PLANS-BOTH", "CHG-C1-PLANS", stages=("assess", "authorise"), fields=("backout_plan",)),
        demanded("X-SELF", "CHG-SOD-REQUESTER"),
        demanded("X-OWN-WORK", "CHG-SOD-IMPLEMENTER"),
        demanded("X-OWN-NAMED", "CHG-SOD-IMPLEMENTER", task_types=()),
        demanded("X-OWN-TASK", "CHG-SOD-IMPLEMENTER", implementers=(), during=()),
        in_time("X-LINK-IN-TIME", ("trigger", "trigger_elsewhere"), ("parent",)),
        in_time("X-LINK-OWN", ("trigger",), ()),
        demanded("X-LINK", "CHG-EMERGENCY-TRIGGER", roles=("problem", "trigger_elsewhere"), via=("parent",)),
        demanded("X-REVIEW", "CHG-C7-REVIEW"),
        demanded("X-REVIEW-TASK", "CHG-C7-REVIEW", fields=()),
        demanded("X-TRACK", "CHG-TRACK", tracks=strict_track()),
    )
    return change_procedure().model_copy(update={"requirements": requirements, "short_cuts": ()})


# --- random changes

FAR = START + 20_000 * MINUTE
"""After all that happens."""
PERSONS = ("anna", "bert", "carl", "dora")
LATER: dict[str, tuple[str | None, ...]] = {
    "requested_by": (*PERSONS, "", None),
    "assigned_to": (*PERSONS, "", None),
    "work_start": ("", "2026-03-02 21:00:00", "2026-03-02 20:30:00", "2026-03-03 09:00:00", "2026-03-06 09:00:00"),
    "backout_plan": ("", "text:2", None),
    "implementation_plan": ("", "text:1"),
    "review_comments": ("", "text:3", None),
    "unauthorized": ("true", "false", None),
    "std_change_producer_version": ("", "restart", None),
    "type": ("normal", "emergency", "standard", "", "model-7"),
    "state": ("-5", "-4", "-3", "-2", "-1", "0", "3", "99"),
    "risk": ("2",),
    "cmdb_ci": ("", "ci1", None),
    "end_date": ("", "2026-03-03 09:00:00", "2026-03-03 09:00:00", None),
}
PATH = ("-4", "-3", "-2", "-1", "0", "3")
UNREAD = ("approvals", "tasks", "links", "links.trigger", "links.trigger_elsewhere", "links.problem", "links.parent")


def random_change(dice: Random) -> Change:
    """A change that mostly runs along the documented path, with things that happen between and beside, and parts that
    are near to its saves: the instants that matter are those where two of these meet.
    """
    created = START + dice.choice((0, 1, 30, 300)) * MINUTE
    first = {
        **CHANGE_CREATED,
        "state": dice.choice(("-5",) * 12 + ("-3", "-1", "99")),
        "type": dice.choice(("normal", "normal", "standard", "emergency")),
        "std_change_producer_version": dice.choice(("", "restart")),
        "backout_plan": dice.choice(("", "text:2", "text:2")),
        "assigned_to": dice.choice(("", *PERSONS)),
        "requested_by": dice.choice(("", *PERSONS)),
        "opened_by": dice.choice(("", *PERSONS)),
    }
    saves = tuple(_walk(dice, created))
    moments = [created, *(save.at for save in saves)]
    return Change(
        Case(created, first, saves),
        tuple(_approval(dice, moments) for _ in range(dice.choice((0, 1, 1, 2, 2, 3, 4)))),
        tuple(_task(dice, moments) for _ in range(dice.choice((0, 0, 1, 2)))),
        tuple(_link(dice, moments) for _ in range(dice.choice((0, 0, 1, 2)))),
    )


def _walk(dice: Random, created: int) -> Iterator[Save]:
    path = [state for state in PATH if dice.random() < 0.9]
    if dice.random() < 0.4:
        path[1:1] = dice.choice((("-3", "-5", "-3"), ("-3", "-4", "-3")))
    at = created
    for state in path:
        for _ in range(dice.choice((0, 0, 0, 1, 1, 2))):
            at += dice.choice((0, 1, 30, 300)) * MINUTE
            name = dice.choice(tuple(LATER))
            yield Save(at, "anna", {name: dice.choice(LATER[name])}, dice.random() < 0.9)
        at += dice.choice((0, 1, 30, 300)) * MINUTE
        yield Save(at, "anna", {"state": state}, dice.random() < 0.99)


def _near(dice: Random, moments: Sequence[int]) -> int:
    return dice.choice(moments) + dice.choice((0, 0, 0, 1, -1, 30, -30)) * MINUTE


def _approval(dice: Random, moments: Sequence[int]) -> PartRow:
    asked, approver = _near(dice, moments), dice.choice((*PERSONS, *PERSONS, TIMER, None))
    state = dice.choice(("requested", "rejected", "cancelled", "not_required", None, *("approved",) * 7))
    actor = dice.choice((approver, approver, approver, "anna", TIMER, None))
    answered = state in ("approved", "rejected") and dice.random() < 0.9
    return {
        "approver": approver,
        "state": state if dice.random() < 0.95 else None,
        "asked_at": asked,
        "decided_at": max(_near(dice, moments), asked) if answered else None,
        "exact": dice.random() < 0.7,
        "actor": actor,
        "human": None if actor is None else actor != TIMER,
        "stage": dice.choice((None, None, "", "authorise", "authorise", "assess")),
    }


def _task(dice: Random, moments: Sequence[int]) -> PartRow:
    return {
        "type": dice.choice(("implementation", "implementation", "review", "review", "testing", "", None)),
        "state": dice.choice(("open", "work", "done", "done", "incomplete", "skipped", "cancelled", None)),
        "opened_at": _near(dice, moments),
        "ended_at": dice.choice((None, max(moments), max(moments) + HOUR)),
        "exact": True,
        "workers": dice.sample(PERSONS, dice.choice((0, 1, 1, 2))),
    }


def _link(dice: Random, moments: Sequence[int]) -> PartRow:
    return {
        "role": dice.choice(("trigger", "trigger_elsewhere", "problem")),
        "via": dice.choice((None, None, "parent", "problem")),
        "process": "incident",
        "state": dice.choice(("work", "work", "cancelled", None)),
        "at": dice.choice((None, _near(dice, moments), _near(dice, moments) + 10 * HOUR)),
    }


def random_end(dice: Random, world: Sequence[Change]) -> int:
    """Mostly after all that happens, else near to something that does, or to the end of a limit."""
    moments = [save.at for change in world for save in change.history.saves] or [START]
    return dice.choice((FAR, FAR, FAR, dice.choice(moments), dice.choice(moments) + 10 * HOUR))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_the_slow_reference_says_the_same(seed: int) -> None:
    dice = Random(seed)
    found = [random_change(dice) for _ in range(40)]
    now = random_end(dice, found)
    unread = {name: f"{name} refused" for name in dice.sample(UNREAD, dice.choice((0, 0, 0, 1)))}
    procedure = demanding(dice.choice(("any", "all", "all", 1, 2)), dice.choice(("any", "all")))
    world = {number: by_now(change, now) for number, change in enumerate(found)}
    verdicts = judge(change_log(world, now, unread), [procedure], change_mapping().types(), now)
    actual = {(row[0], row[1]): Said(*row[2:]) for row in verdicts.select(COLUMNS).iter_rows()}
    expected = {
        (number, demand.id): slowly(change, now, unread, demand, procedure)
        for number, change in world.items()
        if change.history.created <= now
        for demand in procedure.requirements
    }
    assert expected == actual
