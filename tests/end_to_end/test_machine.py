"""When the machine fails under the program: a full disk, a broken one, a locked database, a log that nobody reads."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.conftest import (
    COMMAND,
    PASSWORD,
    TOKEN,
    Install,
    Installation,
    Simulate,
    Simulator,
    ended,
    finished,
    settings_for,
    terminate,
    until,
)
from tests.test_log import filled

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="needs strace (Debian: apt-get install strace)")
Begin = Callable[[], tuple[Installation, Simulator]]


@pytest.fixture(scope="module")
def servicenow(simulate: Simulate, small_desk: Path) -> Simulator:
    return simulate("servicenow", small_desk, password=PASSWORD, plugins="cim,major")


@pytest.fixture
def begin(servicenow: Simulator, simulate: Simulate, install: Install) -> Iterator[Begin]:
    """``begin() -> installation, site``: an installation that reads the desk and writes to a fresh site."""
    sites: list[Simulator] = []

    def fresh() -> tuple[Installation, Simulator]:
        sites.append(simulate("jira", token=TOKEN))
        return install(settings_for(servicenow.url, sites[-1].url)), sites[-1]

    yield fresh
    for site in sites:
        site.stop()


def traced(*options: str) -> tuple[str, ...]:
    """The program under strace."""
    return (str(STRACE), "-f", "-qq", "--seccomp-bpf", *options, *COMMAND)


def tickets(site: Simulator) -> Counter[str]:
    """Tickets per key of ours, by the books of the site."""
    labels = [label for issue in site.ledger()["issues"] for label in issue["labels"]]
    return Counter(label for label in labels if re.fullmatch("itsms-[0-9a-f]+", label))


def read(source: Simulator) -> int:
    """Requests to the source so far, by its books."""
    return sum(source.ledger()["requests"].values())


def assert_whole(installation: Installation, site: Simulator) -> None:
    """A run in peace ends well, each ticket is there once and the database is in order."""
    again = installation.command("once")
    assert 0 == again.returncode, again.stderr
    assert 2 == site.ledger()["created"]
    assert {1} == set(tickets(site).values())
    assert [("ok",)] == installation.rows("PRAGMA integrity_check")


def half_of(call: str, begin: Begin, folder: Path) -> int:
    """How often a whole run calls the kernel so, halved."""
    installation, _ = begin()
    calls = folder / "calls"
    done = finished(installation.start("once", before=traced(f"--output={calls}", f"--trace={call}")))
    assert 0 == done.returncode, done.stderr
    return len(calls.read_text().splitlines()) // 2


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        ("pwrite64", "ENOSPC", "the disk is full; free some space"),
        ("fdatasync", "EIO", "the disk failed to read or write; check it"),
    ],
)
def test_a_disk_that_fails_half_way_stops_the_run_and_nothing_is_lost(
    begin: Begin, tmp_path: Path, call: str, error: str, told: str
) -> None:
    middle = half_of(call, begin, tmp_path)
    installation, site = begin()
    inject = f"--inject={call}:error={error}:when={middle}+"
    failed = finished(installation.start("once", before=traced("--output=/dev/null", f"--trace={call}", inject)))
    assert (3, True) == (failed.returncode, told in failed.stderr), failed.stderr
    assert "Traceback" not in failed.stderr
    assert_whole(installation, site)


@pytest.mark.slow
@needs_strace
def test_a_daemon_goes_on_when_there_is_space_again(begin: Begin, tmp_path: Path) -> None:
    middle = half_of("pwrite64", begin, tmp_path)
    installation, site = begin()
    inject = f"--inject=pwrite64:error=ENOSPC:when={middle}..{middle + 2}"
    full = traced("--output=/dev/null", "--trace=pwrite64", inject)
    process = installation.start("run", before=full)
    try:
        until(lambda: 2 == site.ledger()["created"], 60)
    finally:
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
        ended(process)
    assert "the disk is full" in said
    assert "Traceback" not in said
    assert_whole(installation, site)


@pytest.mark.slow
@needs_strace
def test_a_daemon_ends_when_what_was_written_cannot_be_believed(begin: Begin, tmp_path: Path) -> None:
    middle = half_of("fdatasync", begin, tmp_path)
    installation, site = begin()
    broken = traced("--output=/dev/null", "--trace=fdatasync", f"--inject=fdatasync:error=EIO:when={middle}")
    done = finished(installation.start("run", before=broken))
    assert (3, True) == (done.returncode, "the disk failed to read or write" in done.stderr), done.stderr
    assert_whole(installation, site)


def test_a_database_that_somebody_else_locks_is_waited_for_and_then_told(begin: Begin) -> None:
    installation, site = begin()
    assert 0 == installation.command("once").returncode
    with closing(sqlite3.connect(installation.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = installation.command("once")
    assert (3, True) == (refused.returncode, "another program holds a lock on it" in refused.stderr), refused.stderr
    assert "Traceback" not in refused.stderr
    assert_whole(installation, site)


def test_a_log_that_nobody_reads_stops_no_work_and_no_stop(begin: Begin, servicenow: Simulator) -> None:
    installation, site = begin()
    reads, writes = os.pipe()
    try:
        filled(writes)
        process = subprocess.Popen(
            [*COMMAND, "run", f"--config={installation.config}"],
            cwd=installation.folder,
            stdout=subprocess.DEVNULL,
            stderr=writes,
            text=True,
        )
        try:
            until(lambda: 2 == site.ledger()["created"], 60)
            before = read(servicenow)
            until(lambda: read(servicenow) > before, 60)
            assert terminate(process) < 8
            assert 0 == process.returncode
        finally:
            ended(process)
    finally:
        os.close(reads)
        os.close(writes)


CTRL_C = """
import os, signal, threading, time
from itsms_sync.cli.working import obey_signals
from itsms_sync.wiring import make_stop
stop = make_stop()
obey_signals(stop)
import polars as pl
table = pl.DataFrame({"a": pl.Series(range(1_000_000)) % 1000, "b": range(1_000_000)})
until = time.monotonic() + 1
ctrl_c = lambda: [os.kill(os.getpid(), signal.SIGINT) or time.sleep(0.02) for _ in range(40)]
threading.Thread(target=ctrl_c).start()
while time.monotonic() < until:
    table.sort("b", descending=True).group_by("a").agg(pl.col("b").sort().diff().sum())
print("worked on")
"""


def test_ctrl_c_orders_the_stop_also_while_columns_are_worked_on() -> None:
    answer = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=60)
    assert ("worked on\n", "") == (answer.stdout, answer.stderr)
