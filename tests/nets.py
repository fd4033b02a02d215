"""Random documented flows and what the slow, obvious way says of them.

A flow is drawn as a tree of sequences, choices, parallel work and repetitions; a trace as a walk through it that is
then spoilt. Nothing here knows the automaton: costs come from a search over markings and events.
"""

from heapq import heappop, heappush
from itertools import count
from random import Random

from itsms_sync.procedures.flow import Move, Net

LABELS = "abcdefgh"


def random_net(random: Random, size: int = 6, labels: str = LABELS) -> Net:
    """A sound net of about so many steps; steps of the same name are likely, silent ones happen."""
    moves: list[Move] = []
    places = (f"p{number}" for number in count())
    source, sink = next(places), next(places)

    def fill(size: int, begin: str, end: str, block: str) -> None:
        if size <= 1:
            label = None if random.random() < 0.1 else random.choice(labels)
            moves.append(Move(label, (begin,), (end,), block))
            return
        left = random.randint(1, size - 1)
        kind = random.choice(("sequence", "sequence", "choice", "parallel", "loop"))
        if kind == "sequence":
            middle = next(places)
            fill(left, begin, middle, block)
            fill(size - left, middle, end, block)
        elif kind == "choice":
            fill(left, begin, end, block)
            fill(size - left, begin, end, block)
        elif kind == "parallel":
            name = f"block {begin}"
            first, second, third, fourth = (next(places) for _ in range(4))
            moves.append(Move(None, (begin,), (first, second), name))
            fill(left, first, third, name)
            fill(size - left, second, fourth, name)
            moves.append(Move(None, (third, fourth), (end,), name))
        else:
            inner, outer = next(places), next(places)
            moves.append(Move(None, (begin,), (inner,), block))
            fill(left, inner, outer, block)
            fill(size - left, outer, inner, block)
            moves.append(Move(None, (outer,), (end,), block))

    fill(size, source, sink, "")
    return Net(tuple(moves), frozenset({source}), (frozenset({sink}),))


def random_trace(random: Random, net: Net, spoilt: int = 3, labels: str = LABELS + "z") -> list[str]:
    """A walk of at most 30 moves through the net, in which some events are then dropped, added or swapped."""
    marking, trace = net.start, []
    for _ in range(30):
        enabled = [move for move in net.moves if marking.issuperset(move.takes)]
        if marking in net.ends or not enabled:
            break
        move = random.choice(enabled)
        marking = marking.difference(move.takes).union(move.puts)
        trace += [move.label] if move.label is not None else []
    for _ in range(random.randint(0, spoilt)):
        place = random.randint(0, len(trace))
        match random.choice(("drop", "add", "swap")):
            case "drop":
                del trace[place : place + 1]
            case "add":
                trace.insert(place, random.choice(labels))
            case "swap":
                trace[place : place + 2] = reversed(trace[place : place + 2])
    return trace


def least_cost(net: Net, trace: list[str], *, ended: bool) -> int:
    """Dijkstra over pairs of marking and number of events; ``ended``: the net has to come to an end, too."""
    number = count()
    ahead = [(0, next(number), net.start, 0)]
    done = set()
    while ahead:
        cost, _, marking, place = heappop(ahead)
        if (marking, place) in done:
            continue
        done.add((marking, place))
        if place == len(trace) and (marking in net.ends or not ended):
            return cost
        if place < len(trace):
            heappush(ahead, (cost + 1, next(number), marking, place + 1))
        for move in net.moves:
            if marking.issuperset(move.takes):
                after = marking.difference(move.takes).union(move.puts)
                heappush(ahead, (cost + (move.label is not None), next(number), after, place))
                if place < len(trace) and trace[place] == move.label:
                    heappush(ahead, (cost, next(number), after, place + 1))
    raise AssertionError("the net has no end")
