"""What PM4Py says optimal alignments cost: the outside oracle of ours, run by an interpreter that has it.

Reads JSON lines, ``{"moves": [[label or null, takes, puts]], "start": [...], "end": [...], "traces": [[label]]}``, and
answers each with the costs of the traces. Imports nothing of ours.
"""

import json
import sys

from pm4py.algo.conformance.alignments.petri_net import algorithm
from pm4py.objects.log.obj import Event, Trace
from pm4py.objects.petri_net.obj import Marking, PetriNet
from pm4py.objects.petri_net.utils.petri_utils import add_arc_from_to

STANDARD = 10_000
"""What PM4Py counts for a move in the log or in the model alone; silent moves cost 1 there, none here."""


def net_of(given: dict) -> tuple:
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


def cost(trace: list[str], net: tuple) -> int:
    events = Trace([Event({"concept:name": label}) for label in trace])
    found = algorithm.apply_trace(events, *net, variant=algorithm.Variants.VERSION_STATE_EQUATION_A_STAR)
    return found["cost"] // STANDARD


for line in sys.stdin:
    given = json.loads(line)
    net = net_of(given)
    sys.stdout.write(json.dumps([cost(trace, net) for trace in given["traces"]]) + "\n")
