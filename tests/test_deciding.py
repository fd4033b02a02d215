"""From verdicts in the database to intents: what a closed ticket, a full owner and a restored database change."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from itsms_sync.configuration import read_document, read_library
from itsms_sync.corrective.decisions import Identity
from itsms_sync.corrective.texts import Texts
from itsms_sync.deciding import Deciding, LiveSource, Outcome, TicketRules
from itsms_sync.following import Following
from itsms_sync.records import Action, Gone
from itsms_sync.store import outgoing
from itsms_sync.store.coverage import HEAD, WHOLE
from itsms_sync.store.decided import nonconformities
from itsms_sync.store.judged import Judged, period_of
from itsms_sync.store.schema import (
    case_state,
    cursor,
    field_list,
    intent,
    judgement,
    poll,
    record,
    source,
    span,
    verdict,
)
from tests.tracker import QUARANTINE, Desk, opened

LIBRARY = read_library(Path("mappings"))
TEXTS = read_document(Path("mappings/texts/en.yaml"), Texts)
AT_ONCE, MONTHLY = ("INC-RESOLVE-P1", "TI2"), ("INC-FLOW", "CF2")
"""Of severity S2: the first case counts; of S3: a closed month counts."""
HOUR = 3_600_000
DAY = 24 * HOUR


def at(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


@dataclass
class Office:
    """A desk whose cases are put into the database as they would have been judged."""

    desk: Desk
    go_live: int = at("2027-01-01")
    cap: int = 5
    cases: int = 0
    _ids: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        with self.desk.engine.begin() as connection:
            made = connection.execute(insert(source).values(name="desk", system="servicenow"))
            self._ids["source"] = made.inserted_primary_key[0]
            documents = {"basis": "b", "documents": "{}", "as_of": 0, "learned_at": 0}
            made = connection.execute(insert(judgement).values(documents))
            self._ids["judgement"] = made.inserted_primary_key[0]
            made = connection.execute(insert(field_list).values(fields="number"))
            self._ids["fields"] = made.inserted_primary_key[0]

    def goes(self, day: str) -> None:
        """Time passes, and everything up to then was read."""
        self.desk.time.real = at(day)
        with self.desk.engine.begin() as connection:
            values = {"source_id": self._ids["source"], "stream": "incident", "asked": "all", "started_at": at(day)}
            read = {"server_time": at(day), "closed": True, "field_list_id": self._ids["fields"]}
            made = connection.execute(insert(poll).values({**values, **read}))
            head = {"source_id": self._ids["source"], "kind": "incident", "fields": "number", "state": HEAD}
            span_id = connection.execute(insert(span).values({**head, "began_at": at(day)})).inserted_primary_key[0]
            stands = {"poll_id": made.inserted_primary_key[0], "state": WHOLE, "covered_at": at(day)}
            connection.execute(insert(cursor).values(span_id=span_id, stream="incident", value="", **stands))

    def judge(
        self, requirement: tuple[str, str], status: str, ended: str, *, happened: str = "", times: int = 1
    ) -> None:
        """So many cases that ended then, judged now."""
        for _ in range(times):
            self.cases += 1
            self._judge(requirement, status, at(ended), at(happened or ended))

    def _judge(self, requirement: tuple[str, str], status: str, ended: int, happened: int) -> None:
        now, number = self.desk.time(), f"{self.cases:07d}"
        with self.desk.engine.begin() as connection:
            of = {"source_id": self._ids["source"], "kind": "incident", "native_id": number, "label": f"INC{number}"}
            made = connection.execute(insert(record).values({**of, "learned_at": now}))
            case = {"record_id": made.inserted_primary_key[0], "process": "incident"}
            state = {"opened_at": ended - HOUR, "ended_at": ended, "scope": "all", "place": "", "visited": ""}
            connection.execute(insert(case_state).values({**case, **state, "period": period_of(ended, None)}))
            said = {"requirement": requirement[0], "check": requirement[1], "status": status, "detail": "late"}
            when = {"occurred_at": happened, "learned_at": now, "judgement_id": self._ids["judgement"]}
            connection.execute(insert(verdict).values({**case, **said, **when}))
            judged = Judged(self.desk.engine, "incident")
            judged.tell(connection, of["source_id"], judged.counted(connection, [case["record_id"]]), Counter())

    def cycle(self) -> Outcome:
        """Acts, follows, decides, acts."""
        desk = self.desk
        desk.perform()
        Following(desk.engine, "jira", desk.tracker, TEXTS, desk.time).run()
        live = LiveSource("desk", self._ids["source"], "servicenow", self.go_live, lambda *named: "/".join(named))
        rules = TicketRules("jira", ("incident",), self.cap, 25, TEXTS)
        outcome = Deciding(desk.engine, LIBRARY, [live], rules, desk.time()).run(desk.time(), dry_run=False)
        desk.perform()
        return outcome

    def close(self, number: int = 1) -> None:
        """A person closes a ticket, and a later pass sees it."""
        self.desk.tracker.change(str(number), {}, "Done")
        self.desk.time.real += QUARANTINE

    def sent(self) -> list[tuple[str, str]]:
        """Action and subject of every intent in order."""
        with self.desk.engine.begin() as connection:
            return [
                tuple(row)
                for row in connection.execute(select(intent.c.action, intent.c.subject).order_by(intent.c.id))
            ]

    def row(self, key: str) -> Any:
        with self.desk.engine.begin() as connection:
            return outgoing.ticket_of(connection, "jira", key)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with opened(tmp_path) as desk:
        found = Office(desk)
        found.begin()
        yield found


def _opened_and_closed(office: Office) -> str:
    """A ticket of the first case, closed on 2027-01-12; its key."""
    office.goes("2027-01-10")
    office.judge(AT_ONCE, "deviating", "2027-01-10")
    (found,) = office.cycle().opened
    office.goes("2027-01-12")
    office.close()
    office.cycle()
    return found.key


REOPENED = [("create", ""), ("comment", "reopened"), ("transition", "reopened")]


def test_a_closed_ticket_stays_closed_while_nothing_deviates(office: Office) -> None:
    key = _opened_and_closed(office)
    office.goes("2027-02-20")
    office.judge(AT_ONCE, "conforming", "2027-02-10", times=50)
    office.cycle()
    assert ({"create"}, True) == ({action for action, _ in office.sent()}, office.row(key).done)


@pytest.mark.parametrize(
    ("happened", "ended", "expected"),
    [
        ("2027-01-20", "2027-01-20", True),
        ("2027-01-05", "2027-01-20", False),  # it had happened before anybody closed the ticket
        ("2027-01-11", "2027-01-11", False),
    ],
)
def test_only_cases_after_the_close_reopen(office: Office, happened: str, ended: str, expected: bool) -> None:
    key = _opened_and_closed(office)
    office.goes("2027-01-21")
    office.judge(AT_ONCE, "deviating", ended, happened=happened)
    office.cycle()
    assert (REOPENED if expected else REOPENED[:1]) == office.sent()
    assert ("Open" if expected else "Done") == office.desk.tracker.tickets[0][0].state
    assert (1 if expected else None) == office.row(key).reopened


def test_it_is_reopened_once_and_then_left_to_a_person(office: Office) -> None:
    key = _opened_and_closed(office)
    office.goes("2027-01-21")
    office.judge(AT_ONCE, "deviating", "2027-01-20")
    for _ in range(3):
        office.cycle()
    assert REOPENED == office.sent()
    office.goes("2027-01-25")
    office.close()
    office.cycle()
    office.goes("2027-02-01")
    office.judge(AT_ONCE, "deviating", "2027-01-30")
    for _ in range(3):
        office.cycle()
    assert [*REOPENED, ("comment", "escalated")] == office.sent()
    assert "Done" == office.desk.tracker.tickets[0][0].state
    assert at("2027-02-01") == office.row(key).escalated_at


def test_where_the_workflow_does_not_allow_it_the_comment_stands_for_it(office: Office) -> None:
    _opened_and_closed(office)
    office.goes("2027-01-21")
    office.judge(AT_ONCE, "deviating", "2027-01-20")
    office.desk.tracker.refuses = {Action.TRANSITION}
    for _ in range(3):
        office.cycle()
    with office.desk.engine.begin() as connection:
        states = [row.state for row in connection.execute(select(intent.c.state).order_by(intent.c.id))]
    assert (["done", "done", "waived"], 1) == (states, len(office.desk.tracker.comments))


def test_of_a_monthly_requirement_the_next_closed_month_decides(office: Office) -> None:
    office.go_live = at("2026-12-01")
    office.goes("2027-01-02")
    office.judge(MONTHLY, "deviating", "2026-12-10", times=30)
    office.judge(MONTHLY, "conforming", "2026-12-10", times=70)
    office.cycle()
    office.goes("2027-01-03")
    office.close()
    office.cycle()
    office.goes("2027-01-20")
    office.judge(MONTHLY, "deviating", "2027-01-15", times=30)
    office.judge(MONTHLY, "conforming", "2027-01-15", times=70)
    office.cycle()
    assert [] == [one for one in office.sent() if one[1]]
    office.goes("2027-02-02")
    office.cycle()
    assert [("comment", "reopened"), ("transition", "reopened")] == [one for one in office.sent() if one[1]]


def test_a_closed_ticket_gives_its_place_to_what_waits(office: Office) -> None:
    office.cap = 1
    office.goes("2027-01-10")
    office.judge(AT_ONCE, "deviating", "2027-01-10")
    office.judge(("INC-MI6-PROBLEM", "LI1"), "deviating", "2027-01-10")
    assert [False, True] == [one.queued for one in office.cycle().opened]
    assert 1 == len(office.desk.tracker.tickets)
    office.close()
    office.cycle()
    office.desk.perform()
    assert 2 == len(office.desk.tracker.tickets)


def test_a_ticket_that_is_gone_keeps_its_place_and_is_not_opened_again(office: Office) -> None:
    office.cap = 1
    office.goes("2027-01-10")
    office.judge(AT_ONCE, "deviating", "2027-01-10")
    office.judge(("INC-MI6-PROBLEM", "LI1"), "deviating", "2027-01-10")
    office.cycle()
    office.desk.tracker.gone["1"] = Gone("deleted", "by hand")
    office.goes("2027-01-15")
    office.cycle()
    assert [Action.CREATE] == [write.action for write in office.desk.tracker.writes]


@pytest.mark.parametrize("generation", [1, 3])
def test_a_restored_database_takes_the_ticket_with_its_generation(office: Office, generation: int) -> None:
    office.goes("2027-01-10")
    office.judge(AT_ONCE, "deviating", "2027-01-10")
    made = _key("INC-RESOLVE-P1", generation)
    office.desk.tracker.keep(made, since=at("2027-01-05"))
    (found,) = office.cycle().opened
    with office.desk.engine.begin() as connection:
        (kept,) = nonconformities(connection)
    assert (made, generation, False) == (found.key, kept.generation, kept.queued)
    assert (["CAPA-1"], []) == ([one.label for one, _ in office.desk.tracker.tickets], office.desk.tracker.writes)
    assert "1" == office.row(made).native_id
    office.cycle()
    with office.desk.engine.begin() as connection:
        assert [] == outgoing.unexpected(connection)


def _key(requirement: str, generation: int) -> str:
    check = dict([AT_ONCE, MONTHLY])[requirement]
    return Identity(LIBRARY.processes.tenant, "incident", requirement, check, "all").key(generation)


def test_what_the_target_has_already_does_not_wait_under_the_cap(office: Office) -> None:
    office.cap = 1
    office.goes("2027-01-10")
    for requirement in (AT_ONCE, ("INC-MI6-PROBLEM", "LI1")):
        office.judge(requirement, "deviating", "2027-01-10")
    office.desk.tracker.keep(_key("INC-RESOLVE-P1", 1), since=at("2027-01-05"))
    assert {"INC-RESOLVE-P1": False, "INC-MI6-PROBLEM": True} == {
        one.key.split(".")[0]: one.queued for one in office.cycle().opened
    }
