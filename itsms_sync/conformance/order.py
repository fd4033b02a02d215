"""CF3: the order of steps, by what the course of the procedure leaves no choice about.

The course says of some pairs of steps that one has to come before the other, wherever both do. What counts is when each
of them happened first: later rounds undo nothing, and nothing that comes later does.
"""

from collections.abc import Iterator

import polars as pl

from itsms_sync.conformance.control_flow import COMPLETE_LOSS, MISSED, untold
from itsms_sync.conformance.history import History
from itsms_sync.conformance.verdicts import ALWAYS, GAP, LOST, NO_ACTIVITY, STILL_OPEN, Rule, Status, decide
from itsms_sync.procedures.course import course_net
from itsms_sync.procedures.flow import compiled
from itsms_sync.procedures.model import StepsInOrder


def wrong_order(history: History, requirement: StepsInOrder) -> pl.DataFrame:
    """CF3. Saves without a trace hide nothing of what happened before them."""
    del requirement
    seen = [name for name in history.procedure.in_course() if name not in history.lacking]
    if len(seen) < 2:
        unseen = ", ".join(name for name in history.procedure.in_course() if name in history.lacking)
        return decide(history.cases, [Rule(ALWAYS, Status.UNKNOWN, f"{NO_ACTIVITY}: {unseen}")])
    vague = history.saves.filter("vague")["case"].unique()
    return decide(
        history.with_first(_found(history)),
        [
            Rule(pl.col("told").is_not_null(), Status.DEVIATING, at="bad_at", detail=pl.col("told")),
            Rule(pl.col("ended").is_null(), Status.NOT_APPLICABLE, STILL_OPEN),
            *(Rule(pl.col(f"untold_{n}").is_not_null(), Status.UNKNOWN, untold(history, n), "ended") for n in seen),
            Rule(COMPLETE_LOSS, Status.UNKNOWN, LOST, "ended"),
            Rule(MISSED | pl.col("case").is_in(vague.implode()), Status.UNKNOWN, GAP, "ended"),
            Rule(ALWAYS, Status.CONFORMING, at="ended"),
        ],
    )


def _found(history: History) -> pl.DataFrame:
    """Steps that came too late for another one: ``case, at, told, preference``."""
    cases = history.cases.filter(~COMPLETE_LOSS)
    parts = [pl.DataFrame(schema={"case": pl.UInt32, "at": pl.Int64, "told": pl.String, "preference": pl.Int32})]
    return pl.concat([*parts, *_of_pairs(history, cases)])


def _of_pairs(history: History, cases: pl.DataFrame) -> Iterator[pl.DataFrame]:
    called = history.procedure.called
    for first, second in compiled(course_net(history.procedure, history.lacking)).ordered():
        late, early = pl.col(f"done_{first}"), pl.col(f"done_{second}")
        told = (pl.col(f"untold_{first}") > early).fill_null(True) & (history.missed_at(f"done_{second}") == 0)
        wrong = cases.filter((late > early) & told)
        text = f"{called(first)} came only after {called(second)}"
        at = history.there(f"done_{first}", "at").alias("at")
        yield wrong.select("case", at, pl.lit(text).alias("told"), pl.lit(0, pl.Int32).alias("preference"))
