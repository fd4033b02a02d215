"""All controlled documents that are in force together: processes, mappings, procedures.
Pure; reading them is ``wiring``'s.
"""

from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass

from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.mapping import Mapping
from itsms_sync.sms.processes import Process, Processes
from itsms_sync.sms.strict import Fault


@dataclass(frozen=True, slots=True)
class Library:
    """``mappings`` by system; ``procedures`` by process, oldest version first; ``digests`` by file name."""

    processes: Processes
    mappings: MappingOf[str, Mapping]
    procedures: MappingOf[str, tuple[Procedure, ...]]
    digests: MappingOf[str, str]

    def process(self, name: str) -> Process:
        return self.processes.processes[name]

    def judged_processes(self, system: str) -> Iterator[str]:
        """Processes for which the system has a mapping and there is a procedure."""
        mapping = self.mappings.get(system)
        if mapping is not None:
            yield from (name for name in mapping.processes if name in self.procedures)

    def problems_of(self, procedure: Procedure) -> Iterator[Fault]:
        """What is wrong in a procedure, alone and with the other documents."""
        yield from procedure.problems()
        if procedure.process not in self.processes.processes:
            yield Fault(("process",), f"process {procedure.process!r} is not defined in processes.yaml")
        for role in ("owner", "approver"):
            if getattr(procedure, role) not in self.processes.roles:
                yield Fault((role,), f"role {getattr(procedure, role)!r} is not defined in processes.yaml")
        for mapping in self.mappings.values():
            part = mapping.processes.get(procedure.process)
            if part is not None and not mapping.problems():
                yield from procedure.problems_with(part.types(), set(part.activities))
