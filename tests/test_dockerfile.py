"""The Dockerfile's text: what a build here cannot show, because no engine and no registry is at hand.

``docs/container.md`` says how the image itself is proved.
"""

import json
import re
import tomllib
from importlib.metadata import requires
from pathlib import Path, PurePosixPath
from posixpath import normpath

import pytest
from click import Context
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from itsms_sync.cli import main
from itsms_sync.documents import load
from itsms_sync.settings import Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def instructions() -> list[tuple[str, str]]:
    """Name and rest of each instruction, continued lines joined, comments left out."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


ALL = [item for item in instructions() if item[0]]
STAGES = [number for number, (name, _) in enumerate(ALL) if name == "FROM"]
FINAL = ALL[STAGES[-1] :]


def final(name: str) -> str:
    """The one instruction of that name in the shipped stage."""
    (found,) = [rest for instruction, rest in FINAL if instruction == name]
    return found


def test_every_stage_is_built_on_the_base_that_a_release_pins() -> None:
    assert ("ARG", "BASE=python:3.12-slim-bookworm") == ALL[0]
    assert ["${BASE} AS build", "${BASE}"] == [ALL[number][1] for number in STAGES]


def test_the_shipped_stage_takes_the_environment_and_nothing_else() -> None:
    assert ["--from=build /opt/venv /opt/venv"] == [rest for name, rest in FINAL if name in ("COPY", "ADD")]
    assert [] == [rest for name, rest in FINAL if name == "RUN" and re.search(r"\bpip|apt", rest)]


def test_it_runs_as_nobody_in_particular() -> None:
    assert "10001:10001" == final("USER")
    assert "useradd --uid 10001 --gid 10001" in final("RUN")
    after = [name for name, _ in FINAL[FINAL.index(("USER", final("USER"))) :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_signals_reach_the_program() -> None:
    assert "SIGTERM" == final("STOPSIGNAL")
    assert ["itsms-sync"] == json.loads(final("ENTRYPOINT"))


def test_nothing_needs_a_writable_root() -> None:
    environment = dict(item.split("=", 1) for item in final("ENV").split())
    assert ("1", "1") == (environment["PYTHONDONTWRITEBYTECODE"], environment["PYTHONUNBUFFERED"])
    assert ["/data"] == json.loads(final("VOLUME"))


@pytest.mark.parametrize("words", [json.loads(final("CMD")), json.loads(final("HEALTHCHECK").partition("CMD ")[2])[1:]])
def test_commands_exist_with_these_options_and_read_the_mounted_file(words: list[str]) -> None:
    answer = CliRunner().invoke(main, [*words, "--help"])
    assert 0 == answer.exit_code, answer.output
    command = main.get_command(Context(main), words[0])
    assert command is not None
    config = command.make_context(words[0], words[1:]).params["config"]
    assert PurePosixPath("/config/itsms_sync.yaml") == PurePosixPath(final("WORKDIR")) / config


def test_the_sample_puts_the_database_into_the_volume_and_finds_the_documents() -> None:
    sample = load(ROOT / "config" / "itsms_sync.yaml", Settings)
    database = normpath("/config/" + sample.database.removeprefix("sqlite:///"))
    assert ("/data", "/mappings") == (str(PurePosixPath(database).parent), normpath(f"/config/{sample.documents}"))


def test_whatever_is_downloaded_is_hashed() -> None:
    steps = [step for name, rest in ALL if name == "RUN" for step in rest.split("&&") if "bin/pip " in step]
    assert ["--require-hashes", "--require-hashes", "--no-index", "--no-index"] == [
        word for step in steps for word in step.split() if word in ("--require-hashes", "--no-index")
    ]
    assert 4 == len(steps)


def test_no_address_and_no_secret_is_in_it() -> None:
    assert [] == re.findall(r"\w+://\S+|--(?:extra-)?index-url|--trusted-host", TEXT)
    secrets = [rest for _, rest in ALL if "pip.conf" in rest]
    assert [] == [rest for rest in secrets if "--mount=type=secret,id=pip,target=/etc/pip.conf" not in rest]


def build_tools() -> set[str]:
    found = re.search(r"wanted = /\^\(([^)]*)\)==/", TEXT)
    assert found is not None
    return set(found[1].split("|"))


def needed(name: str) -> set[str]:
    """The package and all that it needs, by their canonical names."""
    found = {canonicalize_name(name)}
    for text in requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found |= needed(requirement.name)
    return found


def test_build_tools_are_complete_and_locked() -> None:
    asked = {canonicalize_name(Requirement(text).name) for text in PROJECT["build-system"]["requires"]}
    assert set().union(*(needed(name) for name in {*asked, "setuptools", "wheel"})) == build_tools()
    locked = re.findall(r"^([a-z][^=]*)==\S+ \\\n +--hash=", (ROOT / "requirements-dev.lock").read_text("utf-8"), re.M)
    assert set() == build_tools() - set(locked)


def test_the_context_holds_what_is_copied_and_what_the_wheel_needs() -> None:
    ignore = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert "*" == ignore[0]
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copies = [rest.split()[:-1] for name, rest in ALL[: STAGES[-1]] if name == "COPY"]
    copied = {source.removeprefix("./") for sources in copies for source in sources}
    assert sent == copied
    assert [] == [name for name in copied if not (ROOT / name).exists()]
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    read = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert set() == (read | {*wheel["packages"], *wheel["force-include"]}) - copied
