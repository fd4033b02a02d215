"""What people do to our tickets is followed, and what is there twice or unexpectedly is said."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itsms_sync.configuration import read_document
from itsms_sync.connector import Unavailable
from itsms_sync.corrective.figures import Share
from itsms_sync.corrective.following import (
    Closed,
    Later,
    Reply,
    newest_generations,
    of_twins,
    reply,
    swept,
    writes,
)
from itsms_sync.corrective.texts import Texts
from itsms_sync.following import Following, FollowReport
from itsms_sync.outbox import DAY
from itsms_sync.procedures.model import Severity
from itsms_sync.records import Action, Gap, Gone, Ticket
from itsms_sync.store import outgoing
from tests.tracker import QUARANTINE, START, Desk, opened

TEXTS = read_document(Path("mappings/texts/en.yaml"), Texts)
NONE, FEW, MANY = Share(100, 0, 0), Share(100, 1, 0), Share(100, 40, 0)
MINUTE = 60_000


# --- a ticket that people have closed


def closed(reopened: int = 0, escalated: bool = False, open_state: str | None = "In Progress") -> Closed:
    return Closed("R.1.g1", START, reopened, escalated, open_state)


@pytest.mark.parametrize(
    ("severity", "share", "expected"),
    [
        (Severity.S1, FEW, Reply.REOPEN),
        (Severity.S2, FEW, Reply.REOPEN),
        (Severity.S2, NONE, Reply.NOTHING),
        (Severity.S3, FEW, Reply.NOTHING),
        (Severity.S3, MANY, Reply.REOPEN),
        (Severity.S4, MANY, Reply.NOTHING),
    ],
)
def test_later_cases_decide_by_the_rule_that_opened_it(severity: Severity, share: Share, expected: Reply) -> None:
    assert expected == reply(closed(), severity, [Later(share, 0.05)])
    assert Reply.NOTHING == reply(closed(), severity, [])


@given(st.integers(0, 3), st.booleans(), st.sampled_from(Severity), st.lists(st.sampled_from([NONE, FEW, MANY])))
def test_it_is_reopened_once_and_escalated_once(
    reopened: int, escalated: bool, severity: Severity, shares: list[Share]
) -> None:
    found = reply(closed(reopened, escalated), severity, [Later(share, 0.05) for share in shares])
    assert not (found is Reply.REOPEN and reopened)
    assert not (found is Reply.ESCALATE and (escalated or not reopened))


def test_a_reopening_says_why_and_goes_back_to_where_it_was() -> None:
    told, back = writes(closed(), Reply.REOPEN, [Later(MANY, 0.05)], TEXTS.reopened, "SMS manager")
    assert (Action.COMMENT, Action.TRANSITION, "In Progress") == (told.action, back.action, back.to_state)
    words = " ".join(block.text for block in told.body)
    assert all(part in words for part in ("40 of 100", "40.0 %", "SMS manager", told.mark, "2027-01-15 08:00 UTC"))


def test_what_was_never_seen_open_is_only_commented() -> None:
    (told,) = writes(closed(open_state=None), Reply.REOPEN, [Later(MANY, 0.05)], TEXTS.reopened, "SMS manager")
    assert Action.COMMENT == told.action


def test_an_escalation_names_the_role_and_reopens_nothing() -> None:
    (told,) = writes(closed(1), Reply.ESCALATE, [Later(FEW, 0.05)], TEXTS.escalated, "SMS manager")
    assert "SMS manager: please decide" in " ".join(block.text for block in told.body)


# --- a sweep


def ticket(number: int, key: str | None, created: int | None = None) -> Ticket:
    url = f"https://t.example/{number}"
    return Ticket(str(number), f"CAPA-{number}", url, key, "s", "Open", False, (), {}, created or number)


KEYS = st.none() | st.sampled_from(["A.x.g1", "A.x.g2", "B.y.g1", "C.z.g1"])


@given(
    st.lists(KEYS, max_size=12).map(lambda keys: [ticket(n, key) for n, key in enumerate(keys, 1)]),
    st.sets(st.sampled_from(["A.x.g1", "A.x.g2", "B.y.g1"])),
    st.sets(st.integers(1, 12)),
)
def test_each_ticket_is_expected_a_twin_or_a_stray(found: list[Ticket], decided: set[str], ids: set[int]) -> None:
    known = {one.id: one.key for one in found if one.key in decided and int(one.id) in ids}
    once = {key: id_ for id_, key in known.items() if key}
    known = {id_: key for key, id_ in once.items()}
    result = swept(found, known, decided)
    assert {one.id for one in found if one.key not in decided} == {one.id for one in result.strays}
    twins = {pair.twin.id for pair in result.twins}
    for key in decided:
        there = {one.id for one in found if one.key == key}
        assert max(len(there) - 1, 0) == len(there & twins)
    assert set() == twins & known.keys()


def test_the_one_that_we_know_is_the_first_else_the_oldest() -> None:
    tickets = [ticket(3, "A.x.g1", 10), ticket(1, "A.x.g1", 30), ticket(2, "A.x.g1", 20)]
    firsts = [{pair.first.id for pair in swept(tickets, known, {"A.x.g1"}).twins} for known in ({}, {"1": "A.x.g1"})]
    assert [{"3"}, {"1"}] == firsts


def test_twins_are_linked_and_commented_and_left_open() -> None:
    (pair,) = swept([ticket(1, "A.x.g1"), ticket(2, "A.x.g1")], {}, {"A.x.g1"}).twins
    made = of_twins(pair, TEXTS.twin)
    assert [(Action.LINK, "2"), (Action.COMMENT, "2"), (Action.COMMENT, "1")] == [(w.action, w.ticket) for w in made]
    assert 3 == len({(w.action, w.subject) for w in made})


def test_generations_are_read_from_keys() -> None:
    assert {"A.x": 12, "B.y": 1} == newest_generations(
        ["A.x.g2", "A.x.g12", "B.y.g1", None, "digest.k.2026-10", "x.gg"]
    )


# --- with a database and a target


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path) as found:
        yield found


def follow(desk: Desk) -> FollowReport:
    return Following(desk.engine, "jira", desk.tracker, TEXTS, desk.time).run()


def known(desk: Desk, key: str = "R.1.g1") -> Any:
    with desk.engine.begin() as connection:
        return outgoing.ticket_of(connection, "jira", key)


def sent(desk: Desk, *keys: str) -> None:
    for key in keys or ("R.1.g1",):
        desk.intend(key)
    desk.perform()
    desk.time.real += QUARANTINE
    follow(desk)


def test_states_follow_what_people_do(desk: Desk) -> None:
    sent(desk)
    desk.time.real += MINUTE
    desk.tracker.change("1", {}, "Done")
    desk.time.real += QUARANTINE
    report = follow(desk)
    assert (["CAPA-1"], [], False) == (report.closed, report.opened_again, report.swept)
    row = known(desk)
    assert (True, "Done", desk.time.real, "Open") == (row.done, row.state, row.closed_at, row.open_state)
    desk.time.real += MINUTE
    assert ([], desk.time.real - MINUTE) == (follow(desk).closed, known(desk).closed_at)
    desk.tracker.change("1", {}, "Working")
    assert ["CAPA-1"] == follow(desk).opened_again
    assert (False, None, "Working") == (known(desk).done, known(desk).closed_at, known(desk).open_state)


def test_a_ticket_that_was_moved_keeps_its_id(desk: Desk) -> None:
    sent(desk)
    (one, since), *_ = desk.tracker.tickets
    moved = replace(one, label="OTHER-7", place="OTHER", url="https://t.example/other", updated=desk.time.real)
    desk.tracker.tickets[0] = (moved, since)
    assert ["CAPA-1 -> OTHER-7"] == follow(desk).moved
    row = known(desk)
    assert ("1", "OTHER-7", "https://t.example/other", "OTHER") == (row.native_id, row.label, row.url, row.place)


@pytest.mark.parametrize("reason", ["deleted", "unseen"])
def test_a_ticket_that_is_gone_is_said_and_not_made_again(desk: Desk, reason: str) -> None:
    sent(desk)
    desk.tracker.gone["1"] = Gone(reason, "somebody did it")
    desk.time.real += DAY
    report = follow(desk)
    assert (["CAPA-1"], True) == (report.gone, report.swept)
    row = known(desk)
    assert (reason, "somebody did it", desk.time.real) == (row.gone, row.gone_message, row.gone_at)
    desk.time.real += DAY
    assert [] == follow(desk).gone
    assert ([], 1) == (desk.perform().sent, len(desk.tracker.writes))


def test_a_ticket_that_comes_back_is_followed_again(desk: Desk) -> None:
    sent(desk)
    desk.tracker.gone["1"] = Gone("unseen", "no right")
    desk.time.real += DAY
    follow(desk)
    del desk.tracker.gone["1"]
    desk.time.real += DAY
    follow(desk)
    assert (None, None) == (known(desk).gone, known(desk).gone_message)


def test_a_ticket_that_search_does_not_show_yet_is_not_gone(desk: Desk) -> None:
    desk.tracker.lag = 10 * DAY
    sent(desk)
    desk.time.real += DAY
    assert ([], True) == ((report := follow(desk)).gone, report.swept)
    assert None is known(desk).gone


def test_a_second_ticket_of_one_key_is_counted_linked_and_commented_once(desk: Desk) -> None:
    sent(desk)
    desk.tracker.keep("R.1.g1")
    for _ in range(3):
        desk.time.real += DAY
        report = follow(desk)
        desk.perform()
    assert (["CAPA-2"], []) == (report.twins, report.strays)
    assert [(Action.LINK, "2"), (Action.COMMENT, "2"), (Action.COMMENT, "1")] == [
        (write.action, write.ticket) for write in desk.tracker.writes[1:]
    ]
    assert ["Open", "Open"] == [one.state for one, _ in desk.tracker.tickets]
    assert ("CAPA-1", "1") == (known(desk).label, known(desk).native_id)


def test_a_twin_that_somebody_closed_needs_nobody_any_more(desk: Desk) -> None:
    sent(desk)
    desk.tracker.keep("R.1.g1")
    desk.time.real += DAY
    assert ["CAPA-2"] == follow(desk).twins
    desk.tracker.change("2", {}, "Done")
    desk.time.real += DAY
    assert [] == follow(desk).twins


def test_a_ticket_under_a_key_that_nobody_decided_is_a_stray(desk: Desk) -> None:
    sent(desk)
    desk.tracker.keep("R.9.g3")
    desk.time.real += DAY
    report = follow(desk)
    assert (["CAPA-2"], []) == (report.strays, report.twins)
    assert ([], 1) == (desk.perform().sent, len(desk.tracker.writes))


def test_an_unclear_outcome_is_followed_by_a_sweep(desk: Desk) -> None:
    sent(desk)
    assert not follow(desk).swept
    desk.tracker.after_write = [Unavailable("the answer was lost", sent=True)]
    desk.intend("R.2.g1")
    desk.perform()
    assert not follow(desk).swept
    desk.time.real += QUARANTINE
    desk.perform()
    assert [True, False] == [follow(desk).swept for _ in range(2)]


@pytest.mark.parametrize("fault", [Unavailable("maintenance"), Gap("tickets", "refused", "no right")])
def test_nothing_is_concluded_from_a_look_that_failed(desk: Desk, fault: Any) -> None:
    sent(desk)
    desk.tracker.gone["1"] = Gone("deleted", "somebody did it")
    desk.tracker.on_look = [fault]
    desk.time.real += DAY
    report = follow(desk)
    assert ([], False) == (report.gone, report.swept)
    assert report.problem is not None
    assert None is known(desk).gone
    assert ["CAPA-1"] == follow(desk).gone


def test_a_clock_that_was_set_back_sweeps_rather_than_waits(desk: Desk) -> None:
    sent(desk)
    desk.time.wrong_by = -3 * DAY
    assert follow(desk).swept


def test_nothing_is_asked_while_nothing_was_sent(desk: Desk) -> None:
    assert follow(desk).swept
    desk.tracker.on_look = [Unavailable("nobody asks")]
    assert None is follow(desk).problem


def test_an_owner_who_cannot_be_assigned_is_told_in_a_comment(desk: Desk) -> None:
    desk.tracker.nobody = True
    sent(desk)
    desk.perform()
    follow(desk)
    desk.perform()
    assert [Action.CREATE, Action.COMMENT] == [write.action for write in desk.tracker.writes]
    assert "Nobody is assigned" in desk.tracker.comments[0][1]
