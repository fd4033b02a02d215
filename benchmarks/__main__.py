"""``python -m benchmarks [ingest|kernel|conformance|backfill] [--rounds N] [--json FILE]``."""

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks import backfill, conformance, ingest, kernel
from benchmarks.measurement import ROOT, Facts, machine

_BENCHMARKS = {"ingest": ingest, "kernel": kernel, "conformance": conformance, "backfill": backfill}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_BENCHMARKS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there too")
    given = parser.parse_args()
    if wrong := set(given.names) - set(_BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(wrong))}; there are {', '.join(_BENCHMARKS)}")
    shared = Path(os.environ.get("ITSMS_SHARED", ROOT.parent / "shared"))
    log = shared / "data/uci-incidents/incident_event_log.csv.gz"
    if not log.is_file():
        print(f"Nothing measured: the benchmarks need {log}. Name the folder that holds data/ in ITSMS_SHARED.")
        return 0
    found = _run(given.names or list(_BENCHMARKS), log, given.rounds)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _run(names: list[str], log: Path, rounds: int) -> Facts:
    found: Facts = {"machine": {"before": machine()}}
    for name in names:
        found[name] = _BENCHMARKS[name].run(log, rounds, _tell)
    found["machine"]["after"] = machine()
    told = found["machine"]
    print(
        f"\n{told['before']['processors']} processors ({told['before']['architecture']}), Python "
        f"{told['before']['python']}; load {told['before']['load']} before, {told['after']['load']} after. "
        f"Median (min-max) of {rounds} rounds, every run in a process of its own."
    )
    for name in names:
        print(f"\n{_BENCHMARKS[name].report(found[name])}")
    return found


def _tell(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
