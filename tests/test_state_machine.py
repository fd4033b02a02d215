"""Anything in any order: people at both desks and at our tickets, faults, crashes, lags and time, then calm.

Whatever came before, there are never two tickets of one key, no ticket that people deleted comes back, and after one
calm cycle nothing is lost. Examples to which hypothesis shrank a failure are kept as tests of their own.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.soak.oracle import Books, cursors_ahead
from tests.soak.people import LATEST_S, Incidents, Issues
from tests.soak.pool import stage
from tests.soak.runs import ON_CREATES, ON_READS, PLANS, judged
from tests.soak.world import Plan, Stage, World, crash

BUSY = st.integers(1, 7)
"""More than fit on a page of four."""
LATE = st.integers(1, LATEST_S)
STEP = st.integers(1, 160)
NTH = st.integers(1, 25)


class Machine(RuleBasedStateMachine):
    """One world."""

    stage: Stage
    """Of all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.deleted: set[str] = set()

    @initialize(plan=st.sampled_from(PLANS), empty=st.booleans())
    def begin(self, plan: Any, empty: bool) -> None:
        self.world: World = self.stack.enter_context(self.stage.opened(plan, empty=empty))
        now, random = self.world.time.now, Random(0)
        self.incidents = Incidents(self.world.servicenow, now, random)
        self.issues = Issues(self.world.jira, now, random)

    # --- people at the desks

    @rule(count=BUSY, urgent=st.booleans())
    def incidents_are_reported(self, count: int, urgent: bool) -> None:
        self.incidents.report(count, urgent=urgent)

    @rule(count=BUSY, times=st.integers(1, 3))
    def incidents_are_saved_in_one_second(self, count: int, times: int) -> None:
        self.incidents.save(self.incidents.pick(count) * times)

    @rule(ago=LATE, urgent=st.booleans())
    def an_incident_is_reported_late(self, ago: int, urgent: bool) -> None:
        self.incidents.report(1, self.world.time.now() // 1000 - ago, urgent=urgent)

    @rule()
    def a_save_is_late(self) -> None:
        self.incidents.late()

    @rule(count=BUSY)
    def issues_are_reported(self, count: int) -> None:
        self.issues.report(count)

    @rule(count=BUSY)
    def issues_are_edited_at_one_instant(self, count: int) -> None:
        self.issues.edit(self.issues.pick(count))

    @rule(to=st.sampled_from(["Work in progress", "Pending", "Completed", "Closed"]))
    def an_issue_moves(self, to: str) -> None:
        self.issues.step(self.issues.pick(1)[0], to)

    @rule()
    def an_edit_is_late(self) -> None:
        self.issues.late()

    # --- people at our tickets

    def known(self) -> list[tuple[str, str]]:
        """Key and id of the tickets that the program knows of and nobody deleted."""
        if not self.world.database.exists():
            return []
        rows = Books(self.world.database, self.world.target.name).ask("SELECT key, native_id FROM ticket ORDER BY key")
        return [(key, native) for key, native in rows if key not in self.deleted]

    @precondition(lambda self: self.known())
    @rule(place=st.integers(0, 9))
    def people_edit_a_ticket(self, place: int) -> None:
        _, native = self._ticket(place)
        self.world.target.edit_ticket(native)

    @precondition(lambda self: self.known())
    @rule(place=st.integers(0, 9))
    def people_close_a_ticket(self, place: int) -> None:
        _, native = self._ticket(place)
        self.world.target.close_ticket(native)

    @precondition(lambda self: self.known())
    @rule(place=st.integers(0, 9))
    def people_delete_a_ticket(self, place: int) -> None:
        key, native = self._ticket(place)
        self.world.target.delete_ticket(native)
        self.deleted.add(key)

    def _ticket(self, place: int) -> tuple[str, str]:
        known = self.known()
        return known[place % len(known)]

    # --- bad luck

    @rule(do=st.sampled_from(ON_READS["servicenow"]), nth=NTH, times=st.sampled_from([1, 2, 6]))
    def servicenow_misbehaves(self, do: dict[str, Any], nth: int, times: int) -> None:
        self.world.servicenow.fault(**{**do, "nth": nth, "times": times})

    @rule(do=st.sampled_from(ON_READS["jira"]), nth=NTH, times=st.sampled_from([1, 2, 6]))
    def jira_misbehaves(self, do: dict[str, Any], nth: int, times: int) -> None:
        self.world.jira.fault(**{**do, "nth": nth, "times": times})

    @rule(do=st.sampled_from(ON_CREATES), nth=st.integers(1, 3))
    def a_create_goes_wrong(self, do: dict[str, Any], nth: int) -> None:
        target = self.world.target
        target.fault(**{**do, "method": "POST", "path": target.create, "nth": nth, "times": 1})

    @rule(step=STEP)
    def the_next_cycle_will_crash(self, step: int) -> None:
        self.world.steps.lay(step, crash)

    @rule(step=st.integers(0, 6))
    def the_next_create_will_crash(self, step: int) -> None:
        self.world.steps.lay_at_create(step, crash)

    @rule(step=STEP, count=BUSY)
    def people_work_during_the_next_cycle(self, step: int, count: int) -> None:
        self.world.steps.lay(step, lambda: self.incidents.save(self.incidents.pick(count)))
        self.world.steps.lay(step + 1, lambda: self.issues.edit(self.issues.pick(count)))

    @rule()
    def the_program_is_started_anew(self) -> None:
        self.world.restart()

    @rule(seconds=st.sampled_from([1, 15, 25, 60, 700, 7 * 3600, 25 * 3600]))
    def time_passes(self, seconds: int) -> None:
        self.world.time.skip(seconds)

    # --- the program

    @rule()
    def pull(self) -> None:
        self.world.cycle(dry_run=True)

    @rule()
    def cycle(self) -> None:
        self.world.cycle()

    # --- what must hold

    @invariant()
    def no_key_has_two_tickets(self) -> None:
        assert {} == {key: n for key, n in self.world.target.copies().items() if n > 1}

    @invariant()
    def no_cursor_is_ahead_of_its_data(self) -> None:
        assert not self.world.database.exists() or [] == cursors_ahead(self.world.database)

    def teardown(self) -> None:
        with self.stack:
            if hasattr(self, "world"):
                self.world.calm()
                self._heed()
                assert [] == judged(self.world, frozenset(self.deleted)).wrong

    def _heed(self) -> None:
        """What the program asks a person for where people deleted every row of the table that tickets are opened in."""
        asked = "SELECT 1 FROM intent WHERE state = 'parked' AND problem LIKE '%put one there by hand%'"
        if Books(self.world.database, self.world.target.name).ask(asked):
            self.world.target.put_row()
            self.world.time.skip(25 * 3600)
            self.world.calm()


@pytest.fixture(scope="module")
def one_stage() -> Iterator[Stage]:
    with stage() as found:
        yield found


def _run(one_stage: Stage, examples: int, steps: int) -> None:
    machine = type("Machine", (Machine,), {"stage": one_stage})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks
        ),
    )


def test_whatever_happens_nothing_is_lost_or_doubled(one_stage: Stage) -> None:
    _run(one_stage, examples=10, steps=12)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whatever_happens_for_long_nothing_is_lost_or_doubled(one_stage: Stage) -> None:
    _run(one_stage, examples=300, steps=30)


def test_a_register_of_which_people_deleted_every_row_is_told_and_used_again_when_there_is_one(
    one_stage: Stage,
) -> None:
    """Nothing tells an empty table from one of which the account is shown nothing any more, so nothing is opened."""
    machine = type("Machine", (Machine,), {"stage": one_stage})()
    machine.begin(plan=Plan(edition="datacenter", target="register", page_size=4, search_lag_s=20), empty=True)
    machine.issues_are_reported(count=2)
    machine.cycle()
    machine.an_incident_is_reported_late(ago=89, urgent=False)
    machine.cycle()
    machine.people_delete_a_ticket(place=0)
    machine.people_delete_a_ticket(place=0)
    machine.an_incident_is_reported_late(ago=315, urgent=True)
    machine.a_create_goes_wrong(do={"do": "html_200"}, nth=1)
    machine.world.calm()
    told = Books(machine.world.database, "servicenow").ask("SELECT problem FROM intent WHERE state = 'parked'")
    machine.teardown()
    assert ["put one there by hand"] == [problem.split(", ")[-1] for (problem,) in told]
