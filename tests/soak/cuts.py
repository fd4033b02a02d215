"""Simulated power cuts: the database lies on a file system in an image; the daemon is frozen, the image copied, and the
machine goes on with the copy, which holds what had reached the disk.

What was acknowledged has to be in the copy: passes that the daemon's log says are done, and an intent for each ticket
that the target has.
"""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from connectors.jira.translate import key_label
from itsms_sync.settings import Settings
from tests.soak import pool
from tests.soak.daemon import Daemon, at_work
from tests.soak.oracle import Findings
from tests.soak.people import Incidents, Issues
from tests.soak.report import Result
from tests.soak.runs import Outcome, judged
from tests.soak.world import Plan, Stage, World, accept_copy, written

_CHAIN = 10
"""Cuts in a row of one database."""
_MEGABYTES = 96
_LONGEST_S = 1.5
_NEEDED = ("mkfs.ext4", "losetup", "mount", "umount", "cp")
_PLAN = Plan(page_size=50, read_ahead=True)


@dataclass
class Chain:
    """Some cuts in a row."""

    cuts: int
    outcome: Outcome
    wrong: list[str] = field(default_factory=list)


def missing() -> str:
    """Why the stage cannot run."""
    lacking = [name for name in _NEEDED if shutil.which(name) is None]
    if lacking:
        return f"needs {', '.join(lacking)}"
    if os.geteuid() != 0:
        return "needs root, to mount a file system"
    tried = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no loop device: {tried.stderr.strip()}"


def cuts(seed: int, count: int, deadline: float) -> Result:
    result = Result("cuts", of=count, unit="power cuts")
    chains = [(seed + n, min(_CHAIN, count - start), deadline) for n, start in enumerate(range(0, count, _CHAIN))]
    for chain in pool.spread(cut, chains, deadline):
        result.done += chain.cuts
        result.findings.add(chain.outcome.findings)
        result.wrong += chain.wrong
        if chain.wrong or chain.outcome.findings.wrong:
            result.stories.append(f"  seed {chain.outcome.seed}:\n    " + "\n    ".join(chain.outcome.story))
    return result


def cut(stage: Stage, asked: tuple[int, int, float]) -> Chain:
    """One chain of this seed and length, up to a time on the monotonic clock. It ends where something is wrong: nothing
    good follows from a damaged database.
    """
    seed, count, deadline = asked
    random = Random(seed)
    with stage.opened(_PLAN) as inner, _disk(inner) as (world, disk):
        incidents = Incidents(world.servicenow, world.time.now, random)
        issues = Issues(world.jira, world.time.now, random)
        chain = Chain(0, Outcome(seed, Findings(), world.story))
        while chain.cuts < count and time.monotonic() < deadline:
            done = _ended_cycles(world.database)
            daemon = Daemon(world.configuration.path)
            try:
                with at_work(lambda: random.choice((incidents.draw, issues.draw))(), random, 0.05):
                    daemon.live(random.uniform(0, _LONGEST_S))
                    daemon.freeze()
                acknowledged = done + daemon.cycles()
                disk.copy()
            finally:
                daemon.kill()
            disk.swap()
            chain.cuts += 1
            world.story.append(f"power cut {chain.cuts}: {acknowledged} passes were acknowledged")
            chain.wrong += _damage(world, acknowledged)
            if chain.wrong:
                return chain
        world.calm()
        chain.outcome.findings = judged(world)
        return chain


def _damage(world: World, acknowledged: int) -> list[str]:
    """What is not as it was when the power went."""
    try:
        with closing(sqlite3.connect(world.database)) as connection:
            sound = "; ".join(told for (told,) in connection.execute("PRAGMA integrity_check"))
            ended = _ended_cycles(world.database)
            intended = {key_label(key) for (key,) in connection.execute("SELECT key FROM intent")}
    except sqlite3.DatabaseError as error:
        return [f"the database cannot be read: {error}"]
    wrong = [] if sound == "ok" else [f"the database is damaged: {sound[:200]}"]
    if ended < acknowledged:
        wrong.append(f"{acknowledged} passes were acknowledged, {ended} are there")
    unknown = world.target.copies().keys() - intended
    return [*wrong, *(f"a ticket of {label} was opened, and its intent is gone" for label in unknown)]


def _ended_cycles(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        ((number,),) = connection.execute("SELECT count(*) FROM cycle WHERE ended_at IS NOT NULL")
    return int(number)


class _Disk:
    """A file system in an image."""

    def __init__(self, folder: Path) -> None:
        self._image, self._next = folder / "disk.img", folder / "next.img"
        self.place = folder / "disk"
        self.place.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_MEGABYTES * 2**20)
        _do("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def _mount(self) -> None:
        _do("mount", "-o", "loop", str(self._image), str(self.place))

    def copy(self) -> None:
        """What has reached the disk by now."""
        _do("cp", "--sparse=always", str(self._image), str(self._next))

    def swap(self) -> None:
        """Go on with the copy, as a machine does when the power is back."""
        self.close()
        self._next.replace(self._image)
        self._mount()

    def close(self) -> None:
        _do("umount", str(self.place))


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise pool.WorkerError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def _disk(inner: World) -> Iterator[tuple[World, _Disk]]:
    """The same world with its database on a disk of its own."""
    disk = _Disk(inner.folder)
    try:
        database = disk.place / "itsms.db"
        shutil.copy(inner.database, database)
        told = inner.configuration.settings.model_dump(mode="json", exclude_unset=True)
        settings = {**told, "database": f"sqlite:///{database}", "schedule": {"poll_every": "PT0.1S"}}
        configuration = replace(
            inner.configuration, path=written(settings, inner.folder), settings=Settings.model_validate(settings)
        )
        accept_copy(configuration)
        _do("sync", "--file-system", str(disk.place))
        world = replace(inner, configuration=configuration, database=database)
        try:
            yield world, disk
        finally:
            world.restart()
    finally:
        disk.close()
