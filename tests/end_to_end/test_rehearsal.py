"""docs/simulate.md as somebody follows it: its commands, its configuration and its rules, one after the other."""

import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.end_to_end.conftest import COMMAND, ROOT, ended, finished

PAGE = (ROOT / "docs" / "simulate.md").read_text("utf-8").partition("## Ready-made scenarios")[0]


def blocks(language: str) -> list[str]:
    """The page's blocks of that language, without the indent of the list they stand in."""
    found = re.findall(rf"^   ```{language}\n(.*?)^   ```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in found]


def commands() -> list[list[str]]:
    return [shlex.split(line.removeprefix("$ ")) for block in blocks("console") for line in block.splitlines()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Rehearsal:
    """A folder in which the page is followed; its ports are replaced by free ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"8101": str(free_port()), "8102": str(free_port())}
        self.simulators: list[subprocess.Popen[str]] = []
        settings, rules = map(self.here, blocks("yaml"))
        (folder / "itsms_sync.yaml").write_text(settings.replace("documents: mappings", f"documents: {ROOT}/mappings"))
        (folder / "faults.yaml").write_text(rules)
        for name in ("simulator-password.txt", "simulator-token.txt"):
            (folder / name).write_bytes((ROOT / "config" / name).read_bytes())

    def here(self, text: str) -> str:
        for told, free in self.ports.items():
            text = text.replace(told, free)
        return text

    def follow(self, words: list[str]) -> Any:
        """What a command answers; a simulator is left running."""
        tool, *arguments = map(self.here, words)
        if tool == "curl":
            return self._asked(arguments)
        assert "itsms-sync" == tool
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if arguments[0] == "simulate":
            self.simulators.append(process)
            assert process.stdout is not None
            assert "simulator at" in process.stdout.readline()
            return None
        answer = finished(process)
        assert answer.returncode in (0, 3), answer.stderr
        return answer

    def _asked(self, arguments: list[str]) -> Any:
        *how, url = arguments
        match how:
            case ["-X", "DELETE"]:
                answer = requests.delete(url, timeout=10)
            case ["--data-binary", name]:
                answer = requests.post(url, data=(self.folder / name.removeprefix("@")).read_bytes(), timeout=10)
            case _:
                answer = requests.get(url, timeout=10)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[Rehearsal]:
    found = Rehearsal(tmp_path)
    yield found
    for process in found.simulators:
        ended(process)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_rehearsal_goes_as_it_is_told(rehearsal: Rehearsal) -> None:
    answers = [(" ".join(words), rehearsal.follow(words)) for words in commands()]
    assert 2 == len(rehearsal.simulators)
    _, last = answers[-1]
    assert 0 == last.returncode, last.stdout
    told = dict(answers)
    assert ["drop_after", "rate_limit_storm"] == [rule["do"] for rule in told["curl http://127.0.0.1:8102/_sim/faults"]]
    assert 1 == told["curl http://127.0.0.1:8102/_sim/faults"][0]["acted"]
    assert requests.get(rehearsal.here("http://127.0.0.1:8101/_sim/ledger"), timeout=10).json()["faults"]
    books = requests.get(rehearsal.here("http://127.0.0.1:8102/_sim/ledger"), timeout=10).json()
    keys = [label for issue in books["issues"] for label in issue["labels"] if re.fullmatch("itsms-[0-9a-f]+", label)]
    assert keys
    assert len(set(keys)) == len(keys)
