"""Costs of alignments against PM4Py's, in a process of its own that has it."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import polars as pl
import pytest

from benchmarks.other_side import interpreter
from itsms_sync.configuration import read_document
from itsms_sync.conformance.alignment import costs
from itsms_sync.procedures.flow import Net, between_states, compiled
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.mapping import LogColumns
from tests.nets import random_net, random_trace

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MODELS, TRACES = 500, 4


@pytest.fixture(scope="module")
def python() -> Path:
    found = interpreter(lambda line: None)
    if found is None:
        pytest.skip("PM4Py cannot be installed here")
    return found


def asked(python: Path, questions: Sequence[tuple[Net, Sequence[Sequence[str]]]]) -> list[list[int]]:
    lines = [
        json.dumps(
            {
                "moves": [[m.label, m.takes, m.puts] for m in net.moves],
                "start": sorted(net.start),
                "end": sorted(net.ends[0]),
                "traces": [list(trace) for trace in traces],
            }
        )
        for net, traces in questions
    ]
    program = Path(__file__).parent / "pm4py_costs.py"
    done = subprocess.run(
        [str(python), str(program)], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_costs_of_random_sound_models_equal_those_of_pm4py(python: Path) -> None:
    random = Random(20261126)
    questions = []
    for _ in range(MODELS):
        net = random_net(random, random.randint(1, 12))
        questions.append((net, [random_trace(random, net) for _ in range(TRACES)]))
    theirs = asked(python, questions)
    ours = [costs(compiled(net), traces, [True] * len(traces)).tolist() for net, traces in questions]
    assert len(ours) == MODELS
    assert ours == theirs
    assert sum(cost > 0 for of_model in ours for cost in of_model) > MODELS, "most traces deviate"


@pytest.mark.parametrize(("steps", "least"), [("changes of state", 95), ("saves", 1000)])
def test_costs_of_every_variant_of_the_real_log_equal_those_of_pm4py(
    python: Path, shared: Callable[[str], Path], steps: str, least: int
) -> None:
    columns = read_document(ROOT / "mappings/logs/uci-incidents.yaml", LogColumns)
    flow = read_document(ROOT / "mappings/procedures/incident.yaml", Procedure).flow
    log = pl.read_csv(shared("data/uci-incidents/incident_event_log.csv.gz"), infer_schema=False)
    named = columns.mapping.attributes["state"].values
    assert named is not None
    states = log.select("number", pl.col("incident_state").replace(named).alias("state"))
    moved = (states["number"] != states["number"].shift(1)) | (states["state"] != states["state"].shift(1))
    events = states.filter(moved.fill_null(True)) if steps == "changes of state" else states
    traces = events.group_by("number", maintain_order=True).agg("state")["state"]
    variants = traces.unique().to_list()
    net = between_states(flow)
    (theirs,) = asked(python, [(net, variants)])
    assert costs(compiled(net), variants, [True] * len(variants)).tolist() == theirs
    assert len(variants) >= least
