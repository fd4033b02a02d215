"""Run the simulator alone: prints one JSON line with its address when it is ready, serves until SIGTERM or SIGINT."""

import argparse
import signal
import sys
from pathlib import Path
from threading import Event

import orjson

from connectors.servicenow.simulator.server import serve


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m connectors.servicenow.simulator", description=__doc__)
    parser.add_argument("--data", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default=0, type=int)
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    pairs = [text.partition("=") for text in given.option]
    ended = Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ended.set())
    try:
        simulator = serve(
            data=given.data, host=given.host, port=given.port, options={key: value for key, _, value in pairs}
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.buffer.write(orjson.dumps({"url": simulator.url}) + b"\n")
    sys.stdout.flush()
    ended.wait()
    simulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
