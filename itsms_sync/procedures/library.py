"""All controlled documents that are in force together: processes, mappings, procedures.
Pure; reading them is ``wiring``'s.
"""

from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from functools import cached_property

from itsms_sync.procedures.lint import beyond_calendars, never_applicable
from itsms_sync.procedures.model import LinkedAtGate, LinkedInTime, Measured, Procedure, WaitsForSomething
from itsms_sync.sms.calendars import Calendar, Clocks
from itsms_sync.sms.conditions import Type
from itsms_sync.sms.mapping import Mapping, ProcessMapping
from itsms_sync.sms.processes import Process, Processes
from itsms_sync.sms.strict import Fault


@dataclass(frozen=True)
class Library:
    """``mappings`` by name; ``procedures`` by process, oldest version first; ``digests`` by file name; ``calendars`` by
    name, ``None`` where none are described.
    """

    processes: Processes
    mappings: MappingOf[str, Mapping]
    procedures: MappingOf[str, tuple[Procedure, ...]]
    digests: MappingOf[str, str]
    calendars: MappingOf[str, Calendar] | None = None

    @cached_property
    def clocks(self) -> Clocks:
        """The calendars, worked out when they are asked for."""
        return Clocks(self.calendars or {})

    def process(self, name: str) -> Process:
        return self.processes.processes[name]

    def judged_processes(self, mapped_by: str) -> Iterator[str]:
        """Processes which the mapping of that name has and for which there is a procedure."""
        mapping = self.mappings.get(mapped_by)
        if mapping is not None:
            yield from (name for name in mapping.processes if name in self.procedures)

    def kinds(self, mapped_by: str, process: str) -> frozenset[str]:
        """Kinds of record of which a case of the process consists."""
        mapping = self.mappings[mapped_by].processes[process]
        return frozenset((mapping.kind, *(part.kind for _, part in mapping.parts.named())))

    def problems_of(self, procedure: Procedure) -> Iterator[Fault]:
        """What is wrong in a procedure, alone and with the other documents."""
        yield from procedure.problems()
        if procedure.process not in self.processes.processes:
            yield Fault(("process",), f"process {procedure.process!r} is not defined in processes.yaml")
        for role in ("owner", "approver"):
            if getattr(procedure, role) not in self.processes.roles:
                yield Fault((role,), f"role {getattr(procedure, role)!r} is not defined in processes.yaml")
        if self.calendars is not None:
            yield from beyond_calendars(procedure, self.calendars)
        if self.parts(procedure.process):
            yield from self._type_problems(procedure.process)
            yield from procedure.problems_with(self.types(procedure.process), self.activities(procedure.process))
            yield from never_applicable(procedure, self.values(procedure.process))
            yield from self._level_problems(procedure)

    def parts(self, process: str) -> list[ProcessMapping]:
        """What each mapping that knows the process says of it."""
        found = (mapping.processes.get(process) for mapping in self.mappings.values())
        return [part for part in found if part is not None]

    def types(self, process: str) -> dict[str, Type]:
        """Type of each attribute that any mapping gives to the process; what one system lacks is unknown there."""
        return {name: type_ for part in self.parts(process) for name, type_ in part.types().items()}

    def values(self, process: str) -> dict[str, set[str]]:
        """Attribute -> all values that any mapping gives it, where every mapping that has it lists its values."""
        listed: dict[str, list[set[str] | None]] = {}
        for part in self.parts(process):
            for name, attribute in part.attributes.items():
                listed.setdefault(name, []).append(None if attribute.values is None else {*attribute.values.values()})
        whole = {name: [one for one in sets if one is not None] for name, sets in listed.items() if None not in sets}
        return {name: set().union(*sets) for name, sets in whole.items()}

    def activities(self, process: str) -> set[str]:
        """The activities that any mapping produces for the process."""
        return {name for part in self.parts(process) for name in part.activities}

    def looked_through(self) -> frozenset[str]:
        """Roles of links through which requirements look at further links."""
        demands = (r for versions in self.procedures.values() for version in versions for r in version.requirements)
        return frozenset(
            role for r in demands if isinstance(r, LinkedInTime | LinkedAtGate | WaitsForSomething) for role in r.via
        )

    def _level_problems(self, procedure: Procedure) -> Iterator[Fault]:
        """Service levels of which no mapping tells how they stand would leave every case unknown."""
        levels = (part.parts.slas for part in self.parts(procedure.process))
        if any(level is not None and "stage" in level.attributes for level in levels):
            return
        for index, requirement in enumerate(procedure.requirements):
            if isinstance(requirement, Measured):
                told = "no mapping tells the stage of service levels: name it under parts, slas, attributes, stage"
                yield Fault(("requirements", index), told)

    def _type_problems(self, process: str) -> Iterator[Fault]:
        types = self.types(process)
        for part in self.parts(process):
            for name, type_ in part.types().items():
                if type_ != types[name]:
                    message = f"attribute {name!r} is {type_} in one mapping and {types[name]} in another"
                    yield Fault(("process",), message)
