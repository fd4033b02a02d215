"""Some inputs of each fuzzer, the same each time, and whether faults would be found. ``make fuzz`` tries many more."""

from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz.__main__ import NAMES, Order, fuzzed
from tests.fuzz.subjects import SUBJECTS

FEW = {"yaml": 20, "csv": 30, "xes": 20, "parquet": 5}


def test_every_reader_is_fuzzed() -> None:
    assert NAMES == tuple(SUBJECTS) == tuple(FEW)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_inputs(name: str, tmp_path: Path) -> None:
    result = fuzzed(name, Order(seed=5, seconds=100.0, keep=tmp_path, count=FEW[name]))
    assert {} == result.findings
    assert FEW[name] == result.done
    read = {outcome for outcome in result.outcomes if outcome.startswith("read")}
    assert read < set(result.outcomes)
    assert read


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Failing", "KeyError: …"),
        ("Panicking", "SystemExit: not an Exception"),
        ("Mumbling", "BadMessage: wrong"),
        ("Greedy", "memory: "),
        ("Slow", "time: "),
        ("Dying", "the process ended with -6"),
        ("Hanging", "the process ended with -6"),
    ],
)
def test_a_planted_fault_is_found(name: str, found: str, tmp_path: Path) -> None:
    result = fuzzed(f"tests.fuzz.planted:{name}", Order(seed=1, seconds=60.0, keep=tmp_path, count=6, hangs=2.0))
    assert result.findings
    assert all(what.startswith(found) for what in result.findings), result.findings
    shown = {Path(file).read_bytes() for file in result.findings.values()}
    assert shown == ({b"bad", b"good"} & shown if name == "Slow" else {b"bad"})


def test_without_a_fault_nothing_is_found(tmp_path: Path) -> None:
    result = fuzzed("tests.fuzz.planted:Fine", Order(seed=1, seconds=60.0, keep=tmp_path, count=50))
    assert ({}, 50, [1]) == (result.findings, result.done, result.seeds)
    assert {"read": 50} == dict(result.outcomes)


def test_what_was_kept_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "7-3-log.xes"
    path.write_text("<log><a>")
    assert 0 == fuzz._replayed([path])
    assert "no element found" in capsys.readouterr().out
