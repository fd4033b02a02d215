"""The course of the steps as people write it, in blocks, read into the one internal form of a flow.

A block becomes moves between places; places of its own at both ends keep what is repeated apart from what stands beside
it. A step that need not happen, or that a short cut may skip, can be passed over in silence, and so can one that cannot
be seen.
"""

from collections.abc import Collection, Iterator

from itsms_sync.procedures.flow import Move, Net
from itsms_sync.procedures.model import Choice, Course, Parallel, Part, Procedure, Repeat

_BEGIN, _END = "begin", "end"


def course_net(procedure: Procedure, unseen: Collection[str] = ()) -> Net:
    """The net of a procedure's course; its labels are the activities of the steps. Activities that are ``unseen`` have
    no label: they may have happened wherever they are documented.
    """
    moves = _Blocks(procedure, unseen).sequence(procedure.course, _BEGIN, _END, "")
    return Net(tuple(moves), frozenset({_BEGIN}), (frozenset({_END}),))


class _Blocks:
    def __init__(self, procedure: Procedure, unseen: Collection[str]) -> None:
        self.steps = {step.id: step for step in procedure.steps}
        self.skipped = {id_ for cut in procedure.short_cuts for id_ in cut.skips}
        self.unseen = unseen
        self.places = 0

    def place(self) -> str:
        self.places += 1
        return f"place {self.places}"

    def sequence(self, parts: Course, start: str, end: str, block: str) -> Iterator[Move]:
        """Moves that bring a token from ``start`` to ``end`` through all parts."""
        if not parts:
            yield Move(None, (start,), (end,), block)
        here = start
        for number, part in enumerate(parts, 1):
            there = end if number == len(parts) else self.place()
            yield from self.part(part, here, there, block)
            here = there

    def part(self, part: Part, start: str, end: str, block: str) -> Iterator[Move]:
        match part:
            case Choice():
                for way in part.choice:
                    yield from self.sequence(way, start, end, block)
            case Repeat():
                yield from self.repeated(part.repeat, start, end, block)
            case Parallel():
                yield from self.side_by_side(part, start, end, block)
            case _:
                yield from self.step(part, start, end, block)

    def step(self, id_: str, start: str, end: str, block: str) -> Iterator[Move]:
        step = self.steps[id_]
        if step.activity not in self.unseen:
            yield Move(step.activity, (start,), (end,), block)
        if not step.mandatory or id_ in self.skipped or step.activity in self.unseen:
            yield Move(None, (start,), (end,), block)

    def repeated(self, parts: Course, start: str, end: str, block: str) -> Iterator[Move]:
        first, last = self.place(), self.place()
        yield Move(None, (start,), (first,), block)
        yield from self.sequence(parts, first, last, block)
        yield Move(None, (last,), (first,), block)
        yield Move(None, (last,), (end,), block)

    def side_by_side(self, part: Parallel, start: str, end: str, block: str) -> Iterator[Move]:
        # Work inside of other work that explodes is told by the innermost name.
        ends = [(self.place(), self.place()) for _ in part.branches]
        yield Move(None, (start,), tuple(first for first, _ in ends), block)
        for branch, (first, last) in zip(part.branches, ends, strict=True):
            yield from self.sequence(branch, first, last, part.parallel)
        yield Move(None, tuple(last for _, last in ends), (end,), block)
