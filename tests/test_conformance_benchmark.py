"""The benchmark of conformance ends where alignments cost anything else than PM4Py's."""

from copy import deepcopy

import pytest

from benchmarks.conformance import EVENTS, refuse_other_costs

COSTS = {"new,work,closed": 1, "new,work,resolved,closed": 0}
RUNS = {f"{side}align {events}": [{"costs": COSTS}, {"costs": COSTS}] for side in ("", "PM4Py ") for events in EVENTS}


def test_equal_costs_pass() -> None:
    refuse_other_costs(RUNS)
    refuse_other_costs({name: runs for name, runs in RUNS.items() if not name.startswith("PM4Py")})


@pytest.mark.parametrize("side", ["", "PM4Py "])
@pytest.mark.parametrize("events", EVENTS)
@pytest.mark.parametrize("wrong", [{**COSTS, "new,work,closed": 2}, {"new,work,closed": 1}, {**COSTS, "new": 3}])
def test_any_other_cost_ends_it(side: str, events: str, wrong: dict[str, int]) -> None:
    runs = deepcopy(RUNS)
    runs[f"{side}align {events}"][1]["costs"] = wrong
    with pytest.raises(SystemExit, match=r"costs of variants"):
        refuse_other_costs(runs)
