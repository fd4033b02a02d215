"""What ``backfill`` measures, in a process of its own: the daemon's work on a desk of a given size.

The first argument, JSON: ``url`` of the desk, ``tracker`` (where tickets are opened), ``documents`` (folder of
mappings), ``folder`` for the database. What reading took is told as one line of JSON; then each line of the input is a
pass, with so many tickets changed before it, until ``end``.
"""

import json
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.measurement import Facts, measured, peak_mb

if TYPE_CHECKING:
    from itsms_sync.wiring import Wired

_CONFIGURATION = """\
database: sqlite:///bench.db
documents: {documents}
sources:
  desk:
    system: servicenow
    url: {url}
    credential: {{username: itsms, password: {{file: password.txt}}}}
    go_live: {go_live}
  tracker:
    system: servicenow
    url: {tracker}
    read: false
    credential: {{username: itsms, password: {{file: password.txt}}}}
tickets:
  target: tracker
  processes: [incident]
"""


def main(given: Facts) -> None:
    """Reads everything newest first and judges it as a daemon does, pass by pass; then makes the passes it is asked."""
    from itsms_sync.configuration import read_configuration
    from itsms_sync.wiring import make_stop, wired

    with TemporaryDirectory(prefix="itsms-bench-", dir=given["folder"]) as folder:
        path = configured(given, Path(folder))
        with wired(read_configuration(path), stop=make_stop(), progress=lambda *_: None) as parts:
            _tell(measured(lambda: read(parts)))
            for line in sys.stdin:
                if line.strip() == "end":
                    break
                _tell(_pass(parts, given["url"], int(line)))
        size = sum(file.stat().st_size for file in Path(folder).glob("bench.db*")) / 1e6
        _tell({"database_mb": size, "peak_all_mb": peak_mb()})


def configured(given: Facts, folder: Path) -> Path:
    """The configuration of a daemon whose database lies in the folder."""
    (folder / "password.txt").write_text("secret")
    path = folder / "bench.yaml"
    go_live = time.strftime("%Y-%m-15", time.gmtime(time.time() - 400 * 86_400))
    named = {name: given[name] for name in ("url", "tracker", "documents")}
    path.write_text(_CONFIGURATION.format(go_live=go_live, **named))
    return path


def touch(url: str, number: int) -> None:
    """Changes so many tickets of the desk, and waits until what is read next sees it."""
    if number:
        wanted = urllib.request.Request(f"{url}/touch?tickets={number}", method="POST")
        with urllib.request.urlopen(wanted):
            pass
    time.sleep(1.1)  # stamps are whole seconds


def _tell(facts: Facts) -> None:
    print(json.dumps(facts), flush=True)


def read(parts: "Wired") -> Facts:
    """Until no past is left; ``first_s``: until the first pass was over, which has read the newest changes."""
    started, first_s, cases, rows, passes = time.perf_counter(), 0.0, 0, 0, 0
    while True:
        report = parts.run_slice()
        (source,) = report.sources
        if source.problem is not None or source.gaps:
            raise SystemExit(f"the past cannot be read: {source.problem} {source.gaps}")
        first_s = first_s or time.perf_counter() - started
        passes, cases, rows = passes + 1, cases + report.judgement.cases, rows + source.rows
        if not source.is_behind:
            break
    coverage = _coverage(parts)
    return {
        "first_s": first_s,
        "passes": passes,
        "cases": cases,
        "rows": rows,
        "requests": parts.requests_sent,
        "windows": coverage["windows"],
        "longest_window_rows": coverage["rows"],
    }


def _coverage(parts: "Wired") -> dict[str, int]:
    ingested, _ = parts.sources["desk"]
    spans = ingested.windows.of("incident")
    return {"windows": len(spans), "rows": max(span.rows for span in spans)}


def _pass(parts: "Wired", url: str, number: int) -> Facts:
    """``wall_s`` and ``cpu_s`` of one pass after so many tickets have changed."""
    touch(url, number)
    wall, cpu = time.perf_counter(), time.process_time()
    report = parts.run_slice()
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    if report.judgement.cases != number:
        raise SystemExit(f"{report.judgement.cases} cases were judged after {number} had changed")
    return spent


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
