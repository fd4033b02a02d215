"""The catalogue of checks: complete, documented, and each with judged cases."""

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from itsms_sync.cli import main
from itsms_sync.configuration import read_document
from itsms_sync.conformance.catalogue import CHECKS, GROUPS, NOT_OFFERED
from itsms_sync.procedures.model import Procedure

ROOT = Path(__file__).parent.parent
TAXONOMY = {"CF": 13, "RO": 10, "DA": 11, "TI": 15, "LI": 12, "ST": 13, "GO": 11}
"""Kinds of drift by group, 85 in all."""


def typed(*arguments: str) -> str:
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 0
    return answer.stdout


def test_the_page_is_what_the_definitions_say() -> None:
    page = (ROOT / "docs/checks.md").read_text("utf-8")
    assert page == typed("checks", "--markdown"), "run `itsms-sync checks --markdown > docs/checks.md`"


def test_every_kind_of_drift_is_either_judged_or_told_to_be_missing() -> None:
    assert not CHECKS.keys() & NOT_OFFERED.keys()
    everything = [*CHECKS, *NOT_OFFERED]
    assert Counter(id_[:2] for id_ in everything) == TAXONOMY
    assert set(everything) == {f"{group}{n}" for group, count in TAXONOMY.items() for n in range(1, count + 1)}
    assert GROUPS.keys() == TAXONOMY.keys()


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_judged_cases(check: str) -> None:
    """One that conforms, one that deviates and one that is neither, for a requirement of the check."""
    (path,) = (ROOT / "tests/cases").glob(f"{check.lower()}_*.yaml")
    procedures = [read_document(p, Procedure) for p in sorted((ROOT / "mappings/procedures").glob("*.yaml"))]
    mine = {r.id for procedure in procedures for r in procedure.requirements if r.check == check}
    text = path.read_text("utf-8")
    assert any(requirement in text for requirement in mine)
    for status in ("conforming", "deviating"):
        assert status in text
    assert "unknown" in text or "not_applicable" in text


def test_the_command_tells_the_same_in_each_form() -> None:
    told = json.loads(typed("checks", "--json"))
    assert [check["id"] for check in told["checks"]] == list(CHECKS)
    assert len(told["not_offered"]) == len(NOT_OFFERED)
    table = typed("checks")
    assert all(check.name in table for check in CHECKS.values())
