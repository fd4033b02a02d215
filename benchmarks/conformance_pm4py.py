"""The other side of the conformance benchmark: PM4Py's conformance checks, each from the file to its answer.

Runs in an environment of its own, into which the benchmark installs PM4Py: that is AGPL and must never be imported by
the product or shipped with it. Imports nothing of ours but the stopwatch. ``given``: ``log`` (CSV of saves), ``sample``
(the log from which models are learned that the checks need, not timed), the net (``moves``: label or null, places that
are taken from and put into; ``start`` and ``end``), ``states``: word of the log -> label of the net; ``events``:
``saves``, each an event named by the state that it leaves behind, or ``states``, only those with which a case enters a
state.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas
import pm4py
from pm4py.algo.conformance.tokenreplay.variants.token_replay import Parameters
from pm4py.objects.log.obj import Event, EventLog, Trace
from pm4py.objects.petri_net.obj import Marking, PetriNet
from pm4py.objects.petri_net.utils.petri_utils import add_arc_from_to

from benchmarks.measurement import Facts, main, measured

_COLUMNS = {"case": "number", "activity": "incident_state", "time": "sys_updated_at"}
_STANDARD = 10_000
"""What PM4Py counts for a move in the log or in the model alone; silent moves cost 1 there, none with us."""
_Net = tuple[PetriNet, Marking, Marking]


def aligned(given: Facts) -> Facts:
    """Optimal alignments of each distinct variant, once: PM4Py is given a log of one trace for each."""
    net = _net(given)

    def work() -> Facts:
        log = _events(given, given["log"])
        traces = log.groupby(_COLUMNS["case"], sort=False)[_COLUMNS["activity"]].agg(tuple)
        variants = Counter(traces)
        begun = time.perf_counter()
        distinct = EventLog([Trace([Event({"concept:name": label}) for label in variant]) for variant in variants])
        found = pm4py.conformance_diagnostics_alignments(distinct, *net)
        spent = time.perf_counter() - begun
        costs = {variant: one["cost"] // _STANDARD for variant, one in zip(variants, found, strict=True)}
        return {
            "cases": len(traces),
            "saves": len(log),
            "align_s": spent,
            "costs": {",".join(variant): cost for variant, cost in costs.items()},
            "total": sum(cost * variants[variant] for variant, cost in costs.items()),
        }

    return measured(work)


def replayed(given: Facts) -> Facts:
    """Token-based replay as it is called without options."""
    net = _net(given)
    return _checked(given, lambda log: pm4py.conformance_diagnostics_token_based_replay(log, *net), "trace_is_fit")


def replayed_quickly(given: Facts) -> Facts:
    """Token-based replay in its quickest variant: it leaves a case at its first misfit."""
    net, options = _net(given), {"show_progress_bar": False, Parameters.STOP_IMMEDIATELY_UNFIT: True}

    def check(log: pandas.DataFrame) -> Any:
        return pm4py.conformance_diagnostics_token_based_replay(log, *net, opt_parameters=options)

    return _checked(given, check, "trace_is_fit")


def declared(given: Facts) -> Facts:
    """DECLARE: the constraints that PM4Py finds in the sample."""
    model = pm4py.discover_declare(_formatted(_events(given, given["sample"])))
    constraints = sum(len(of_template) for of_template in model.values())
    told = _checked(given, lambda log: pm4py.conformance_declare(log, model), "is_fit")
    return {**told, "requirements": constraints}


def timed(given: Facts) -> Facts:
    """Temporal profile: mean and deviation of the time between activities as PM4Py finds them in the sample."""
    profile = pm4py.discover_temporal_profile(_formatted(_events(given, given["sample"])))

    def work() -> Facts:
        log = _events(given, given["log"])
        found = pm4py.conformance_temporal_profile(_formatted(log), profile, zeta=2.0)
        return {"saves": len(log), "cases": len(found), "fit": sum(not one for one in found)}

    return {**measured(work), "requirements": len(profile)}


def _checked(given: Facts, check: Callable[[pandas.DataFrame], Any], fits: str) -> Facts:
    def work() -> Facts:
        log = _events(given, given["log"])
        found = check(_formatted(log))
        return {"saves": len(log), "cases": len(found), "fit": sum(bool(one[fits]) for one in found)}

    return {"requirements": 1, **measured(work)}


def _events(given: Facts, path: str) -> pandas.DataFrame:
    """Only the columns that are needed, which is kind to this side."""
    log = pandas.read_csv(path, usecols=list(_COLUMNS.values()), dtype=str)
    state = log[_COLUMNS["activity"]]
    log[_COLUMNS["activity"]] = state.map(given["states"]).fillna(state)
    if given["events"] == "states":
        case, label = log[_COLUMNS["case"]], log[_COLUMNS["activity"]]
        log = log[(case != case.shift()) | (label != label.shift())]
    return log


def _formatted(log: pandas.DataFrame) -> pandas.DataFrame:
    return pm4py.format_dataframe(
        log,
        case_id=_COLUMNS["case"],
        activity_key=_COLUMNS["activity"],
        timestamp_key=_COLUMNS["time"],
        timest_format="%d/%m/%Y %H:%M",
    )


def _net(given: Facts) -> _Net:
    net = PetriNet("flow")
    places = {name: PetriNet.Place(name) for move in given["moves"] for side in move[1:] for name in side}
    net.places.update(places.values())
    for number, (label, takes, puts) in enumerate(given["moves"]):
        step = PetriNet.Transition(f"t{number}", label)
        net.transitions.add(step)
        for name in takes:
            add_arc_from_to(places[name], step, net)
        for name in puts:
            add_arc_from_to(step, places[name], net)
    start, end = (Marking({places[name]: 1 for name in given[key]}) for key in ("start", "end"))
    return net, start, end


if __name__ == "__main__":
    main(
        {
            "align": aligned,
            "replay": replayed,
            "quick replay": replayed_quickly,
            "declare": declared,
            "temporal profile": timed,
        }
    )
