"""The checks: what each says, what it needs and which traps it knows, and the kinds of drift for which there is none.

``docs/checks.md`` is made of this. The ids are those of a taxonomy of 85 kinds of drift in seven groups; an id never
changes its meaning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from itsms_sync.conformance.approvals import (
    approver_implements,
    late_approval,
    missing_stage,
    plans_missing,
    self_approval,
)
from itsms_sync.conformance.assignment import ping_pong
from itsms_sync.conformance.control_flow import forbidden_transition, reopened, skipped_step, wrong_track
from itsms_sync.conformance.data import field_at_gate, priority_by_matrix
from itsms_sync.conformance.ending import cancelled_after_work, children_left, resolved_unread, touched_after_close
from itsms_sync.conformance.history import History
from itsms_sync.conformance.linkage import linked_late, not_linked, not_reviewed
from itsms_sync.conformance.loops import approval_loop, flapping, rework_loop
from itsms_sync.conformance.order import wrong_order
from itsms_sync.conformance.time import late_resolution, late_response

GROUPS = {
    "CF": "Control flow",
    "RO": "Roles",
    "DA": "Data",
    "TI": "Time",
    "LI": "Linkage",
    "ST": "Statistics",
    "GO": "Governance",
}


@dataclass(frozen=True, slots=True)
class Check:
    """What a check is, for people and for the verdicts that name it."""

    id: str
    version: int
    """Raised whenever the same facts can get another verdict."""
    name: str
    judge: Callable[[History, Any], pl.DataFrame]
    definition: str
    """When a case deviates, as a sentence."""
    needs: str
    severity: str
    """Where a procedure starts from; each requirement states its own."""
    clause: str
    traps: tuple[tuple[str, str], ...]
    """What looks like a deviation and is none, or the other way round, and what is done about it."""


GAP = ("saves without a trace", "what they may hide is unknown, what they cannot hide is judged")
LATE_START = ("history that begins late", "a case that is first seen in a later state is unknown")
UNREAD = ("parts that were not read", "absence says nothing: unknown until they are read")
PERSONS = ("system accounts", "are no persons")

CHECKS: dict[str, Check] = {
    check.id: check
    for check in (
        Check(
            "CF1",
            3,
            "skipped step",
            skipped_step,
            "The step has not happened when the gate is reached.",
            "history of the fields that show the step and the gate",
            "S2 for changes and major incidents, else S3",
            "8.1 and the clause of the process",
            (
                ("documented short paths", "named with a condition; skipping their steps is no deviation"),
                ("step and gate in one save", "count as in order"),
                ("step after the gate", "comes too late"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "CF2",
            3,
            "forbidden transition",
            forbidden_transition,
            "The case moved between two states along no documented transition.",
            "history of the state",
            "S3; S2 where it goes around an approval",
            "8.1",
            (
                ("staying in a state", "is no transition"),
                ("ties", "keep the source's own order; without one, saves of one instant are one"),
                ("documented short paths", "may allow a transition, on a condition"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "CF3",
            1,
            "wrong order",
            wrong_order,
            "A step happened for the first time only after another one before which the documented course of the steps "
            "puts it.",
            "history of the fields that show the steps; a course in the procedure",
            "S3; S2 where the order is a control",
            "8.1",
            (
                ("parallel work", "has no order: the course names it"),
                ("steps in one save", "have no order"),
                ("a step that was skipped, or done again", "is not out of order"),
                ("documented short paths", "a step that one of them skips may follow when the case comes back"),
                ("steps that the source cannot show", "may have happened wherever they are documented"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "CF4",
            1,
            "rework loop",
            rework_loop,
            "The case returned from a later phase to an earlier one more often than is allowed.",
            "history of the state",
            "S3",
            "8.6.1, 8.5.1",
            (
                ("waiting and being taken up again", "is no return: states of waiting are no phases"),
                ("a single rejection or reopening", "stays within what is allowed"),
                ("unmapped states", "make no return, and none undone; without enough returns the case is unknown"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "CF5",
            2,
            "reopen",
            reopened,
            "The case left a resolved or final state for one that is neither.",
            "history of the state; the tool's counter of reopenings, if it has one, as a second witness",
            "S4, as a trend S3",
            "8.6.1",
            (
                ("unmapped states", "undo nothing before them and are unknown where they may have been a return"),
                ("the tool's counter", "decides across a gap; where it tells of more than the history, it is unknown"),
                GAP,
            ),
        ),
        Check(
            "CF6",
            1,
            "touched after close",
            touched_after_close,
            "A person changed what a field said while the case was closed.",
            "history of the state and of the fields, with actors",
            "S2",
            "7.5",
            (
                ("fields that may be edited after the closing", "are not named by the requirement"),
                (
                    "an empty field that is filled in late",
                    "changes nothing that was said; DA1 on that field tells it",
                ),
                ("automatic jobs and integrations", "system accounts may edit; an actor that is not known is unknown"),
                ("the save that closes the case, or opens it again", "is none after the closing"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "CF7",
            1,
            "resolved without work",
            resolved_unread,
            "A person resolved the case within a time in which nobody can have worked on it, without a state of work, "
            "without a save in between and without a note.",
            "history of the state and of the notes, with actors; links",
            "S3",
            "8.6.1",
            (
                ("resolved at first contact", "the shipped procedure leaves it out by a condition"),
                ("recorded after the fact", "time counts from when it was opened, not from when it was recorded"),
                (
                    "monitoring that clears itself, and cases resolved with their problem",
                    "system accounts are no persons",
                ),
                ("child of a major incident", "is resolved with it: links in the named roles leave it out"),
                ("who resolved it is not known", "unknown"),
                GAP,
                LATE_START,
                UNREAD,
            ),
        ),
        Check(
            "CF8",
            1,
            "approval loop",
            approval_loop,
            "The case was put to approval and rejected more often than is allowed.",
            "approvals with decision and time",
            "S4",
            "8.5.1.3",
            (
                ("taken back when the case is put on hold", "is no rejection"),
                ("rejected by several who were asked together", "is rejected once"),
                ("decision or time of an approval not known", "unknown where it matters"),
                UNREAD,
            ),
        ),
        Check(
            "CF9",
            1,
            "cancelled after work",
            cancelled_after_work,
            "The case was cancelled after it had been in a state of work for longer than is allowed.",
            "history of the state",
            "S3",
            "8.6.1, 8.5.1",
            (
                ("genuine duplicates", "the shipped procedure leaves them out by a condition"),
                ("a look at it before it is cancelled", "is within the time that is allowed; waiting is no work"),
                ("stamps that go back", "unknown"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "CF10",
            1,
            "state flapping",
            flapping,
            "Persons changed the state many times in a short time, back to a state that they had left in it.",
            "history of the state, with actors",
            "S4",
            "8.1",
            (
                ("straight through all states at once, as in a bulk edit", "comes back to no state"),
                ("echo between two tools", "system accounts do not count; an actor that is not known is unknown"),
                ("unmapped states", "make no change, and leave a case without enough of them unknown"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "CF11",
            2,
            "wrong track",
            wrong_track,
            "When the work began, a step or a field was missing that the case's track demands, one was there that it "
            "forbids, or the case had changed its track after its first state.",
            "history of the state and of the fields that tell the track",
            "S2",
            "8.5.1",
            (
                ("track chosen in an initial state", "is no change of track"),
                ("a first value", "is no change of track"),
                ("sent back to be reworked", "the track may be chosen again"),
                ("two tools", "in Jira a transition around the board is seen by the states that it leaves out"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "CF12",
            1,
            "open or cancelled child at close",
            children_left,
            "A task or a case that belongs to it was left open when the gate was reached, or a task was called off or "
            "given up.",
            "tasks with type, state and who ended them; links with the state of the other case",
            "S2",
            "8.5.1.3",
            (
                (
                    "cancelled by a workflow, as when the case moves on",
                    "counts neither way, unless the requirement counts it",
                ),
                ("cancelled, and done by another task of its type", "is done"),
                ("brought to its end soon after the gate", "is in time within the grace of the requirement"),
                ("opened after the gate", "did not belong to it then"),
                ("a task that vanished", "is unknown, unless it had ended"),
                ("who cancelled it is not known", "unknown"),
                UNREAD,
            ),
        ),
        Check(
            "RO1",
            1,
            "self-approval",
            self_approval,
            "Somebody approved what they had asked for themselves.",
            "approvals with approver, decision and time; history of who asked",
            "S1 for changes, S2 for requests",
            "8.5.1.3, 5.3",
            (
                ("opened on behalf of another", "both are who asked, if the procedure names both"),
                ("named as requester only later", "had not asked by then"),
                ("deputies and rules", "an approval written for another is told apart from one's own"),
                ("approved in a round that was rejected", "is no approval"),
                PERSONS,
                UNREAD,
            ),
        ),
        Check(
            "RO2",
            1,
            "approver implements",
            approver_implements,
            "Somebody implemented what they had approved.",
            "approvals; who was named while it was implemented, or tasks with who held them",
            "S2",
            "8.5.1.3",
            (
                ("asked, but another one answered", "is no approver"),
                ("assigned before or after the work", "is no implementer"),
                ("tasks that were not begun or are of another type", "are no implementation"),
                PERSONS,
                GAP,
                UNREAD,
            ),
        ),
        Check(
            "RO4",
            2,
            "missing stage or quorum",
            missing_stage,
            "When the work began, a stage of approval had not had its quorum: not asked, not answered, or rejected.",
            "approvals with stage, decision and time; history of the state",
            "S1",
            "8.5.1.3",
            (
                ("no longer required after the first answer", "is not missing"),
                ("on hold and taken up again", "approvals stand"),
                ("rounds", "what was approved before a rejection does not count for what was reworked"),
                ("approved only after the work began", "is late (TI6), not missing"),
                GAP,
                UNREAD,
            ),
        ),
        Check(
            "DA1",
            4,
            "closure data",
            field_at_gate,
            "The field was empty when the gate was reached.",
            "history of the field and of the gate",
            "S3",
            "8.6.1, 8.6.3",
            (
                ("filled in after the gate", "is too late, however soon"),
                ("cancelled cases", "the shipped procedures leave them out by a condition"),
                ("a field without a history", "is known after the last save only"),
            ),
        ),
        Check(
            "DA3",
            1,
            "plans missing at approval",
            plans_missing,
            "A plan was empty when the deciding approval was given.",
            "history of the plans; approvals with their time",
            "S2, for high risk S1",
            "8.5.1.3",
            (
                ("written after the approval", "does not count"),
                ("the deciding one of several approvals", "is the one that completes the quorum"),
                ("time of the approval known by bounds only", "all that stood between them decides, else unknown"),
                ("standard changes", "have the plans of their template"),
                GAP,
                UNREAD,
            ),
        ),
        Check(
            "DA6",
            1,
            "priority matrix",
            priority_by_matrix,
            "The priority is another one than the matrix gives for impact and urgency.",
            "impact, urgency and priority as they stand",
            "S3",
            "8.6.1",
            (
                ("a matrix of one's own", "is the procedure's, not the vendor's"),
                ("what was put right", "is right: values are judged as they stand"),
                ("empty or unknown inputs", "decide nothing"),
            ),
        ),
        Check(
            "TI1",
            4,
            "response time",
            late_response,
            "No person responded within the limit of the case's priority.",
            "history of what shows a response, with actors; a calendar where the limit runs on one",
            "S3",
            "8.3.3, 8.6.1",
            (
                ("automatic acknowledgement", "is no response: system accounts do not respond"),
                ("change of priority", "the limit starts when the priority was set that stood at the end"),
                ("nights, weekends, holidays, both changes of the clocks", "on a calendar only working time counts"),
                ("actor not known", "before the deadline it may have been a person: unknown"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "TI2",
            3,
            "resolution time",
            late_resolution,
            "More time than the limit of the case's priority passed until it was resolved, pauses not counted.",
            "history of state, priority and what shows a pause; a calendar where the limit runs on one",
            "S3, for priority 1 S2",
            "8.3.3",
            (
                ("pauses", "are those of the procedure's condition; where one is not known, both answers are tried"),
                ("reopened", "time in which it counted as resolved does not count"),
                ("change of priority", "as for TI1"),
                ("stamps that go back", "unknown"),
                GAP,
                LATE_START,
            ),
        ),
        Check(
            "TI6",
            1,
            "retroactive approval",
            late_approval,
            "The work began before its approval, and more than the time of grace before.",
            "approvals with their time; what shows that the work began",
            "S1; S2 for an emergency beyond its grace",
            "8.5.1.3",
            (
                ("a beginning typed by hand", "the earlier of state and typed instant counts"),
                ("emergencies", "have a time of grace"),
                ("time of the approval known by bounds only", "unknown where it matters"),
                GAP,
                UNREAD,
            ),
        ),
        Check(
            "LI1",
            3,
            "not linked in time",
            linked_late,
            "No link of the wanted kind was made within the limit.",
            "links with role and time; a calendar where the limit runs on one",
            "S2",
            "8.6.1, 8.6.3",
            (
                ("a link of the parent or of a duplicate", "counts, if the procedure says so"),
                ("links to what was cancelled", "are none"),
                ("time of the link not known", "counts as in time"),
                GAP,
                UNREAD,
            ),
        ),
        Check(
            "LI4",
            2,
            "failure without review",
            not_reviewed,
            "There is no review, as a task that is done or in a field that is filled, when the gate is reached.",
            "tasks with type and state, or the field",
            "S2",
            "8.5.1.3",
            (
                ("reviewed after it was closed", "puts it right"),
                ("a review that was called off or not completed", "is none"),
                ("a review in another tool", "is not seen; name the field where its result is noted"),
                UNREAD,
            ),
        ),
        Check(
            "LI9",
            2,
            "without trigger",
            not_linked,
            "No link of the wanted kind is there when the gate is reached.",
            "links with role",
            "S2",
            "8.5.1.1",
            (
                ("the reason stands in the other tool", "links across both count"),
                ("linked after it was closed", "puts it right"),
                ("links to what was cancelled", "are none"),
                GAP,
                UNREAD,
            ),
        ),
        Check(
            "ST3",
            1,
            "ping-pong",
            ping_pong,
            "The case returned to a group that had passed it on.",
            "history of the group",
            "S3",
            "8.6.1, 8.2.3",
            (
                ("blanks and repetitions", "are dropped"),
                ("renamed groups", "are one: groups go by id"),
                GAP,
            ),
        ),
    )
}
"""Every check there is, by id."""

UNWRITTEN = "no check is written yet"

NOT_OFFERED: dict[str, tuple[str, str]] = {
    "CF13": ("low conformance of a period", "figures of periods; `assess` tells how many cases follow the flow"),
    "RO3": ("unauthorised approver", "who was allowed to approve, with its history"),
    "RO5": ("no owner", UNWRITTEN),
    "RO6": ("inactive owner or group", "people and groups as they were at the time"),
    "RO7": ("unauthorised closer", "roles of people as they were at the time"),
    "RO8": ("major incident without a manager", "the named manager of each major incident"),
    "RO9": ("machine approval", UNWRITTEN),
    "RO10": ("shared or generic account", "figures of accounts over many cases"),
    "DA2": ("no root cause", "covered by DA1 on the field of the cause, as the shipped problem procedure does"),
    "DA4": ("no configuration item", UNWRITTEN),
    "DA5": ("placeholder text", "the text itself, which is kept apart and not read by checks"),
    "DA7": ("filled after the gate", UNWRITTEN),
    "DA8": ("contradictory close", UNWRITTEN),
    "DA9": ("wrong type of record", "the text itself"),
    "DA10": ("duplicates", "the text itself"),
    "DA11": ("risk missing or contradictory", "tiers of configuration items"),
    "TI3": ("stale", UNWRITTEN),
    "TI4": ("ageing in a state", UNWRITTEN),
    "TI5": ("old backlog", "snapshots of the backlog"),
    "TI7": ("retroactive recording", UNWRITTEN),
    "TI8": ("outside the window", "maintenance windows and freezes"),
    "TI9": ("hold abuse", "figures of groups"),
    "TI10": ("plan overrun", UNWRITTEN),
    "TI11": ("review overdue", UNWRITTEN),
    "TI12": ("close timer off", UNWRITTEN),
    "TI13": ("service level not measured", UNWRITTEN),
    "TI14": ("clock anomaly", UNWRITTEN),
    "TI15": ("lead time to the board", UNWRITTEN),
    "LI2": ("recurrence without a problem", "clusters of similar incidents"),
    "LI3": ("problem without known error", "knowledge articles"),
    "LI5": ("change incident not linked", "figures of configuration items over many cases"),
    "LI6": ("fix without a change", UNWRITTEN),
    "LI7": ("orphan hold", UNWRITTEN),
    "LI8": ("release gap", "releases"),
    "LI10": ("mismatch of the two tools", UNWRITTEN),
    "LI11": ("unauthorised change of a configuration item", "discovery or deployment records"),
    "LI12": ("security incident not labelled", "the text itself, or security alerts"),
    "ST1": ("shift of the variant mix", "figures of periods"),
    "ST2": ("point of drift", "figures of periods"),
    "ST4": ("growth of the catch-all", "figures of periods"),
    "ST5": ("inflation of priorities", "figures of periods"),
    "ST6": ("share of emergencies", "figures of periods"),
    "ST7": ("out of control", "figures of periods"),
    "ST8": ("worsening trend", "figures of periods"),
    "ST9": ("break of volume", "figures of periods"),
    "ST10": ("bunching at the target", "figures of periods"),
    "ST11": ("rubber stamp", "figures of approvers"),
    "ST12": ("failing template", "figures of templates"),
    "ST13": ("decline of the first line", "figures of groups"),
    "GO1": ("procedure overdue", "a register of documents"),
    "GO2": ("tool differs from the document", "the configuration of the tool, compared as a whole"),
    "GO3": ("owner vacant", "holders of roles"),
    "GO4": ("corrective action overdue", "limits of our own tickets"),
    "GO5": ("corrective action without effect", "the proof by later cases"),
    "GO6": ("service level differs from its document", "documented service levels"),
    "GO7": ("audit trail off", "told as a gap by `status` and `check --online`, not yet as a deviation"),
    "GO8": ("audit or review overdue", "the programme of audits and reviews"),
    "GO9": ("exception expired", "waivers"),
    "GO10": ("figure undefined or changed", "definitions of figures"),
    "GO11": ("report not acted on", "reports and decisions"),
}
"""Kinds of drift that no check finds: what they are called, and what is missing."""
