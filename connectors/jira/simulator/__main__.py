"""``python -m connectors.jira.simulator``: serves until SIGTERM or SIGINT and says where in one line of JSON."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from connectors.jira.simulator.server import serve


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, value


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve in the foreground; 0 after a signal, 2 when the options or data files are wrong."""
    parser = argparse.ArgumentParser(prog="python -m connectors.jira.simulator", description=__doc__)
    parser.add_argument(
        "--data", type=Path, action="append", default=[], metavar="FILE", help="projects and issues, or itsm"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--option", type=_pair, action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        simulator = serve(data=chosen.data, host=chosen.host, port=chosen.port, options=dict(chosen.option))
    except (OSError, ValueError) as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2
    sys.stdout.write(json.dumps({"url": simulator.url}) + "\n")
    sys.stdout.flush()
    stopped.wait()
    simulator.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
