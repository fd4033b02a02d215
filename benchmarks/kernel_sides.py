"""The product's sides of the kernel benchmark, each run in a process of its own.

``given``: ``log`` (CSV of saves), ``procedure``, ``columns`` (paths), ``now`` (ms); ``replicate`` also takes ``times``
and ``to``.
"""

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import polars as pl

from benchmarks.measurement import Facts, main, measured
from itsms_sync.assessing import assess
from itsms_sync.configuration import read_document
from itsms_sync.conformance.kernel import judge
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.cases import CaseLog, from_log
from itsms_sync.sms.mapping import LogColumns

if TYPE_CHECKING:
    from itsms_sync.sms.conditions import Type

_CHECK_RUNS = 5


def replicate(given: Facts) -> Facts:
    """Writes the log several times over, each copy with cases of its own."""
    log = pl.read_csv(given["log"], infer_schema=False)
    copies = [log.with_columns(pl.col("number") + f"-{copy}") for copy in range(given["times"])]
    pl.concat(copies).write_csv(given["to"])
    return {"saves": len(log) * given["times"]}


def flow(given: Facts) -> Facts:
    """The documented flow in the log's own states, ``start`` first; a save may leave the state as it is. The short cut
    is not in it: its condition asks for data, which a net knows nothing of.
    """
    procedure, columns = _documents(given)
    values = columns.mapping.attributes["state"].values or {}
    documented = procedure.flow.edges
    edges = {
        raw: [
            other for other, state in values.items() if state == values[raw] or state in documented.get(values[raw], ())
        ]
        for raw in values
    }
    return {"edges": {"start": [raw for raw, state in values.items() if state == procedure.flow.initial], **edges}}


def judged(given: Facts) -> Facts:
    """``judge`` alone, of cases that are in memory."""
    log, procedure, types = _prepared(given)
    return measured(lambda: {"saves": len(log.saves), **_facts(judge(log, [procedure], types, given["now"]))})


def assessed(given: Facts) -> Facts:
    """``assess``: from the file to the verdicts."""
    procedure, columns = _documents(given)

    def work() -> Facts:
        found = assess(Path(given["log"]), procedure, columns, given["now"])
        return {"saves": found.rows, **_facts(found.verdicts)}

    return measured(work)


def checks(given: Facts) -> Facts:
    """Seconds that each check takes alone, with what it needs prepared; ``preparation`` is that without any check."""
    log, procedure, types = _prepared(given)
    names = sorted({r.check for r in procedure.requirements} - {"none"})
    seconds = {"preparation": _seconds(log, _only(procedure, ""), types, given["now"])}
    for name in names:
        seconds[f"{name} x {sum(r.check == name for r in procedure.requirements)}"] = _seconds(
            log, _only(procedure, name), types, given["now"]
        )
    return {"seconds": seconds}


def _seconds(log: CaseLog, procedure: Procedure, types: "dict[str, Type]", now: int) -> float:
    spent = []
    for _ in range(_CHECK_RUNS):
        start = time.perf_counter()
        judge(log, [procedure], types, now)
        spent.append(time.perf_counter() - start)
    return median(spent)


def _only(procedure: Procedure, check: str) -> Procedure:
    wanted = tuple(r for r in procedure.requirements if r.check == check)
    return procedure.model_copy(update={"requirements": wanted})


def _facts(verdicts: pl.DataFrame) -> Facts:
    """How much was said, and what of the flow: the requirement that comes closest to what a replay decides."""
    flow = verdicts.filter(pl.col("check") == "CF2")["status"].value_counts()
    return {
        "requirements": verdicts["requirement"].n_unique(),
        "verdicts": len(verdicts),
        "flow": dict(flow.sort("status").iter_rows()),
    }


def _documents(given: Facts) -> tuple[Procedure, LogColumns]:
    return read_document(Path(given["procedure"]), Procedure), read_document(Path(given["columns"]), LogColumns)


def _prepared(given: Facts) -> "tuple[CaseLog, Procedure, dict[str, Type]]":
    procedure, columns = _documents(given)
    log, _ = from_log(pl.read_csv(given["log"], infer_schema=False), columns, given["now"])
    return log, procedure, columns.mapping.types()


if __name__ == "__main__":
    main({"replicate": replicate, "flow": flow, "judge": judged, "assess": assessed, "checks": checks})
