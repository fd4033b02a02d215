"""The JSON Schemas that editors use: as fresh as the models, strict, and true of every file that is shipped."""

import json
import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from itsms_sync.cli import main

ROOT = Path(__file__).parent.parent
SCHEMAS = ROOT / "config" / "schema"
FIRST_LINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")
KINDS = {
    "config/*.yaml": "settings",
    "mappings/processes.yaml": "processes",
    "mappings/calendars.yaml": "calendars",
    "mappings/procedures/*.yaml": "procedure",
    "mappings/logs/*.yaml": "columns",
    "mappings/texts/*.yaml": "texts",
    "mappings/*.yaml": "mapping",
}
"""The first pattern that fits names the schema."""


def kind(document: Path) -> str:
    relative = document.relative_to(ROOT)
    return next(name for pattern, name in KINDS.items() if relative.match(pattern))


SHIPPED = sorted(path for folder in ("config", "mappings") for path in (ROOT / folder).rglob("*.yaml"))
each_document = pytest.mark.parametrize("document", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    return found


def loaded(document: Path) -> Any:
    """The document as an editor sees it: YAML 1.2 has no dates, they are texts."""
    return as_texts(YAML(typ="safe", pure=True).load(document.read_text("utf-8")))


def as_texts(value: Any) -> Any:
    match value:
        case dict():
            return {key: as_texts(item) for key, item in value.items()}
        case list():
            return [as_texts(item) for item in value]
        case datetime() | date():
            return value.isoformat()
        case _:
            return value


def problems(document: Any, name: str) -> list[str]:
    found = Draft202012Validator(schema(name)).iter_errors(document)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every schema of a mapping inside a schema."""
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield value
        for item in value.values():
            yield from objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item)


def test_committed_schemas_are_those_of_the_models(tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["schema", "--out", str(tmp_path)])
    assert 0 == answer.exit_code, answer.output
    fresh = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert set(KINDS.values()) == {Path(name).stem for name in fresh}
    committed = {path.name: path.read_text("utf-8") for path in SCHEMAS.iterdir()}
    assert fresh == committed, "run `itsms-sync schema --out config/schema`"


@pytest.mark.parametrize("name", sorted(set(KINDS.values())))
def test_schema_is_valid_and_knows_every_key(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    # Where keys are names that people choose, their values have a schema; everywhere else an unknown key is refused.
    said = ("additionalProperties", "patternProperties")
    assert [] == [item.get("title") for item in objects(schema(name)) if not any(key in item for key in said)]


@each_document
def test_document_is_valid(document: Path) -> None:
    assert [] == problems(loaded(document), kind(document))


@each_document
def test_misspelt_key_is_found(document: Path) -> None:
    misspelt = {**loaded(document), "documnet": "X"}
    assert any("documnet" in problem for problem in problems(misspelt, kind(document)))


@each_document
def test_first_line_names_the_schema(document: Path) -> None:
    named = FIRST_LINE.fullmatch(document.read_text("utf-8").splitlines()[0])
    assert named is not None, "the first line must name the schema for editors"
    assert SCHEMAS / f"{kind(document)}.json" == (document.parent / named[1]).resolve()
