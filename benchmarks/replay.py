"""The other side of the kernel benchmark: PM4Py's token-based replay of the log on a net of the same flow.

Runs in an environment of its own, into which the benchmark installs PM4Py: that is AGPL and must never be imported by
the product or shipped with it. Imports nothing of ours but the stopwatch. ``given``: ``log`` (CSV of saves) and
``edges``: state of the log -> states that may follow, each save being an event named after the state it left behind.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas
import pm4py
from pm4py.algo.conformance.tokenreplay.variants.token_replay import Parameters
from pm4py.objects.petri_net.obj import Marking, PetriNet
from pm4py.objects.petri_net.utils.petri_utils import add_arc_from_to

from benchmarks.measurement import Facts, main, measured

_COLUMNS = {"case": "number", "activity": "incident_state", "time": "sys_updated_at"}

_OPTIONS = {"show_progress_bar": False, Parameters.STOP_IMMEDIATELY_UNFIT: True}
"""The quickest variant: it says of each case whether it fits and leaves a case at its first misfit."""


def replayed(given: Facts) -> Facts:
    """The replay alone, of a log that is in memory."""
    net, log = _net(given["edges"]), _read(given["log"])
    return measured(lambda: _facts(log, net))


def read_and_replayed(given: Facts) -> Facts:
    """From the file to the diagnostics."""
    net = _net(given["edges"])
    return measured(lambda: _facts(_read(given["log"]), net))


def _read(path: str) -> pandas.DataFrame:
    """Only the columns that are needed, which is kind to this side."""
    log = pandas.read_csv(path, usecols=list(_COLUMNS.values()), dtype=str)
    return pm4py.format_dataframe(
        log,
        case_id=_COLUMNS["case"],
        activity_key=_COLUMNS["activity"],
        timestamp_key=_COLUMNS["time"],
        timest_format="%d/%m/%Y %H:%M",
    )


def _net(edges: Mapping[str, Iterable[str]]) -> tuple[PetriNet, Marking, Marking]:
    """A place for each state, and a transition for each edge with the name of the state that it leads to."""
    net = PetriNet("incident")
    places = {state: PetriNet.Place(state) for state in edges}
    net.places.update(places.values())
    for source, targets in edges.items():
        for target in targets:
            step = PetriNet.Transition(f"{source} to {target}", target)
            net.transitions.add(step)
            add_arc_from_to(places[source], step, net)
            add_arc_from_to(step, places[target], net)
    return net, Marking({places["start"]: 1}), Marking({places["Closed"]: 1})


def _facts(log: pandas.DataFrame, net: tuple[PetriNet, Marking, Marking]) -> Facts:
    found: list[dict[str, Any]] = pm4py.conformance_diagnostics_token_based_replay(log, *net, opt_parameters=_OPTIONS)
    fit = sum(case["trace_is_fit"] for case in found)
    return {
        "saves": len(log),
        "requirements": 1,
        "verdicts": len(found),
        "flow": {"fit": fit, "unfit": len(found) - fit},
    }


if __name__ == "__main__":
    main({"replay": replayed, "read": read_and_replayed})
