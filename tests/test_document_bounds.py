"""Documents that are damaged or made to do harm: each was found by ``make fuzz`` or stands for what it found."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from itsms_sync.configuration import read_document
from itsms_sync.conformance.clock import clock
from itsms_sync.corrective.texts import Texts
from itsms_sync.documents import Invalid, parse
from itsms_sync.procedures.lint import contradictions
from itsms_sync.procedures.model import Limit, Procedure, RespondedInTime
from itsms_sync.sms.calendars import Calendars, Clocks
from itsms_sync.sms.mapping import LogColumns
from tests.fuzz.documents import CALENDARS

MAPPINGS = Path(__file__).parent.parent / "mappings"
NOW = 1_900_000_000_000
COLUMNS = (MAPPINGS / "logs" / "uci-incidents.yaml").read_text("utf-8")


def problems(tmp_path: Path, text: str, model: type) -> list[str]:
    path = tmp_path / "document.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Invalid) as caught:
        read_document(path, model)
    told = [str(problem).removeprefix(str(path)) for problem in caught.value.problems]
    assert all(line.isprintable() and len(line) < 1_400 for line in told)
    return told


# --- texts: nothing of a template is evaluated to check it


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ 9 ** 9 ** 9 ** 9 }}", "Pow in line 1 is not allowed"),
        ("{{ 'a' * 999999999 }}", "Mul in line 1 is not allowed"),
        ("{{ '%999999999d' % 1 }}", "Mod in line 1 is not allowed"),
        ("{% for a in 'abc' %}{{ key }}{% endfor %}", "For in line 1 is not allowed"),
        ("{% set a = key %}", "Assign in line 1 is not allowed"),
        ("{% macro a() %}{% endmacro %}", "Macro in line 1 is not allowed"),
        ("{{ key.format(key) }}", "Call in line 1 is not allowed"),
        ("{{ key | center(999999999) }}", "there is no filter 'center'"),
        ("{{ key is nonsense }}", "there is no test 'nonsense'"),
        ("{{ key" + " | upper" * 30 + " }}", "it has more than 20 levels"),
        ("{% if key %}" * 30 + "{% endif %}" * 30, "it has more than 20 levels"),
        ("{{ " + "(" * 900 + "1" + ")" * 900 + " }}", "is nested too deeply to be read"),
        ("x" * 4_001, "a template has at most 4,000 characters, this one has 4,001"),
    ],
)
def test_templates_that_could_run_for_ever_are_refused(tmp_path: Path, template: str, message: str) -> None:
    texts = read_document(MAPPINGS / "texts" / "en.yaml", Texts)
    changed = texts.model_copy(update={"ticket": texts.ticket.model_copy(update={"summary": template})})
    assert [("ticket", "summary")] == [fault.place for fault in changed.problems()]
    assert message in changed.problems()[0].message


def test_templates_may_decide_and_format(tmp_path: Path) -> None:
    template = (
        "{% if n > 1 and x != n %}{{ n | count ~ ' of ' ~ (x + 1 - 1) | round(1) }}{% elif key is string %}"
        "{{ requirement.title | upper | default('-') }}{% else %}"
        "{{ examples[0].label if examples else 'none' }}{% endif %}"
    )
    texts = read_document(MAPPINGS / "texts" / "en.yaml", Texts)
    changed = texts.model_copy(update={"ticket": texts.ticket.model_copy(update={"summary": template})})
    assert [] == changed.problems()


# --- zones, lengths, names


@pytest.mark.parametrize("zone", ["America", "../../etc/passwd", "UTC\\0", "/", "", "x" * 300, "Europe/Berlln"])
def test_time_zones_that_are_none(tmp_path: Path, zone: str) -> None:
    calendars = CALENDARS.replace("Europe/Berlin", f'"{zone}"')
    columns = COLUMNS.replace("zone: UTC", f'zone: "{zone}"')
    wanted = "an escape in this text" if "\\0" in zone else "there is no time zone"
    assert any(wanted in line for line in problems(tmp_path, calendars, Calendars))
    assert any(wanted in line for line in problems(tmp_path, columns, LogColumns))


def test_a_limit_of_any_length_can_be_counted(tmp_path: Path) -> None:
    calendars = parse(CALENDARS.replace("day: PT8H", "day: P999999999D"), "c.yaml", Calendars)
    calendar = calendars.calendars["business_hours"]
    assert 999_999_999**2 * 86_400_000 == calendar.length(timedelta(days=999_999_999))


def test_an_instant_of_the_year_1_has_passed_every_limit() -> None:
    clocks = Clocks(parse(CALENDARS, "c.yaml", Calendars).calendars)
    saves = pl.Series([-62_135_596_800_000, NOW - 3_600_000, None], dtype=pl.Int64)
    running = clock(Limit(time=timedelta(days=1), clock="business_hours"), clocks, saves, NOW)
    assert running is not None
    passed = running.between(saves, pl.Series([NOW] * 3, dtype=pl.Int64)).to_list()
    assert passed[0] > 52 * 7 * 86_400_000
    assert 0 <= passed[1] <= 3_600_000
    assert passed[2] is None
    assert running.after(saves, pl.Series([running.limit] * 3, dtype=pl.Int64))[0] < NOW


# --- problems are told in a line each, whatever they quote


def test_what_a_problem_quotes_is_cut_and_harmless(tmp_path: Path) -> None:
    condition = '"state = \\e[2J' + " AND state = 'x'" * 200 + '"'
    told = problems(tmp_path, COLUMNS.replace("\"state = 'work'\"", condition), LogColumns)
    assert told
    version = COLUMNS.replace("document: LOG-UCI-498", 'document: "a"\n"\\e[2J": b')
    assert ["\\x1b[2J" in line for line in problems(tmp_path, version, LogColumns)] == [True]


def test_contradictions_among_thousands_of_requirements() -> None:
    """Each is compared with the first that says the same kind of thing, not with all."""
    procedure = read_document(MAPPINGS / "procedures" / "incident.yaml", Procedure)
    one = next(r for r in procedure.requirements if isinstance(r, RespondedInTime))
    other = one.model_copy(update={"id": "INC-OTHER", "limit": Limit(time=timedelta(minutes=1))})
    many = procedure.model_copy(update={"requirements": (one,) * 5_000 + (other,)})
    assert [5_000] == [f.place[1] for f in contradictions(many) if f"contradicts {one.id}" in f.message]
