"""The product's sides of the conformance benchmark, each run in a process of its own.

``given``: ``log`` (CSV of saves), ``procedure``, ``columns`` (paths), ``now`` (ms); ``replicate`` also takes ``cases``
and ``to``.
"""

import time
from collections.abc import Iterator
from itertools import count, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from benchmarks.measurement import Facts, main, measured
from itsms_sync import assessing, eventlog
from itsms_sync.configuration import read_document
from itsms_sync.conformance.alignment import costs
from itsms_sync.procedures.flow import Net, between_states, compiled
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.mapping import LogColumns, ProcessMapping

if TYPE_CHECKING:
    from itsms_sync.eventlog import EventLog

CASE, STATE = "number", "incident_state"


def replicate(given: Facts) -> Facts:
    """Writes the log as often as is needed for so many cases, each copy with cases of its own."""
    lines = pl.read_csv(given["log"], infer_schema=False).write_csv().encode().splitlines(keepends=True)
    saves = 0
    with Path(given["to"]).open("wb") as file:
        file.write(lines[0])
        for case in islice(_copies(lines[1:]), given["cases"]):
            saves += len(case)
            file.writelines(case)
    return {"saves": saves}


def _copies(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Case after case, without end."""
    cases = [list(rows) for _, rows in groupby(lines, key=lambda line: line.partition(b",")[0])]
    for copy in count():
        for rows in cases:
            parts = (row.partition(b",") for row in rows)
            yield [b"%s-%d,%s" % (name, copy, rest) for name, _, rest in parts]


def net(given: Facts) -> Facts:
    """The documented flow as a net, and the words of the log for its states: what the other side is given."""
    flow = _flow(given)
    moves = [[move.label, move.takes, move.puts] for move in flow.moves]
    return {"moves": moves, "start": sorted(flow.start), "end": sorted(flow.ends[0]), "states": _words(given)}


def assessed(given: Facts) -> Facts:
    """What ``itsms-sync assess --json`` does, from the file to the figures: all checks, and ways beside the flow."""
    procedure, columns = read_document(Path(given["procedure"]), Procedure), _columns(given)

    def work() -> Facts:
        found = assessing.assess(Path(given["log"]), procedure, columns, given["now"], keep=())
        counts = assessing.verdict_counts(found)
        return {
            "saves": found.rows,
            "cases": found.cases,
            "requirements": len({row["requirement"] for row in counts}),
            "verdicts": sum(row["cases"] for row in counts),
            "figures": assessing.figures(counts),
            "flow": assessing.flow(found.ways),
        }

    return measured(work)


def aligned(given: Facts) -> Facts:
    """Alignments alone, from the file to the costs of all variants. ``events``: ``saves``, each an event named by the
    state that it leaves behind, or ``states``, only those with which a case enters a state.
    """
    columns = _columns(given)
    columns = columns.model_copy(update={"saves": None, "actor": None, "late": {}, "mapping": _state_only(columns)})
    flow = _flow(given)  # the other side's net is made before, too; the automaton is not

    def work() -> Facts:
        with eventlog.opened(Path(given["log"]), columns) as log:
            variants = _variants(log, _words(given), given["events"])
        begun = time.perf_counter()
        found = costs(compiled(flow), variants["states"].to_list(), [True] * len(variants))
        spent = time.perf_counter() - begun
        told = variants.with_columns(pl.Series("cost", found))
        return {
            "saves": int(variants["saves"].sum()),
            "cases": int(variants["cases"].sum()),
            "align_s": spent,
            "costs": {",".join(states): cost for states, cost in told.select("states", "cost").iter_rows()},
            "total": int((told["cost"] * told["cases"]).sum()),
        }

    return measured(work)


def _variants(log: "EventLog", words: dict[str, str], events: str) -> pl.DataFrame:
    """``states`` of each variant, its ``cases`` and the ``saves`` of these."""
    entered = pl.col("state") != pl.col("state").shift(1)
    kept = pl.col("state").filter(entered.fill_null(True)) if events == "states" else pl.col("state")
    parts = []
    for batch in log.batches():
        rows = batch.select(CASE, pl.col(STATE).replace(words).alias("state"))
        cases = rows.group_by(CASE, maintain_order=True).agg(kept.alias("states"), pl.len().alias("saves"))
        parts.append(cases.group_by("states").agg(pl.len().alias("cases"), pl.col("saves").sum()))
    return pl.concat(parts).group_by("states").agg(pl.col("cases", "saves").sum())


def _state_only(columns: LogColumns) -> ProcessMapping:
    wanted = {"opened", "state"}
    kept = {name: attribute for name, attribute in columns.mapping.attributes.items() if name in wanted}
    return columns.mapping.model_copy(update={"attributes": kept, "activities": {}})


def _columns(given: Facts) -> LogColumns:
    return read_document(Path(given["columns"]), LogColumns)


def _words(given: Facts) -> dict[str, str]:
    return dict(_columns(given).mapping.attributes["state"].values or {})


def _flow(given: Facts) -> Net:
    return between_states(read_document(Path(given["procedure"]), Procedure).flow)


if __name__ == "__main__":
    main({"replicate": replicate, "net": net, "assess": assessed, "align": aligned})
