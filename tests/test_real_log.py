"""A real ServiceNow log whose answers are known from elsewhere, and logs that cannot be read.

The expected sets are computed from the file by plain Python, never by the program.
"""

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from itsms_sync.assessing import Assessment, UnreadableLog, assess, figures, flow, never, verdict_cases, verdict_counts
from itsms_sync.conformance.history import Force, history
from itsms_sync.conformance.runs import runs
from itsms_sync.documents import load
from itsms_sync.procedures.model import Procedure
from itsms_sync.sms.cases import from_log
from itsms_sync.sms.mapping import LogColumns

MAPPINGS = Path(__file__).parent.parent / "mappings"
CASES = 24_918
ROWS = 141_712
LATE = ("resolved_at", "resolved_by", "closed_code", "closed_at")
Rows = list[dict[str, str]]


def millis(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


LATER = millis("2026-01-01")


@pytest.fixture(scope="module")
def path(shared: Callable[[str], Path]) -> Path:
    return shared("data/uci-incidents/incident_event_log.csv.gz")


@pytest.fixture(scope="module")
def rows(path: Path) -> Rows:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def procedure() -> Procedure:
    return load(MAPPINGS / "procedures" / "incident.yaml", Procedure)


@pytest.fixture(scope="module")
def columns() -> LogColumns:
    return load(MAPPINGS / "logs" / "uci-incidents.yaml", LogColumns)


@pytest.fixture(scope="module")
def assessment(path: Path, procedure: Procedure, columns: LogColumns) -> Assessment:
    return assess(path, procedure, columns, LATER)


def write(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    rows = iter(rows)
    first = next(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)
    return path


def cases_of(rows: Rows) -> dict[str, Rows]:
    found = defaultdict(list)
    for row in rows:
        found[row["number"]].append(row)
    return found


def ids(assessment: Assessment, requirement: str, status: str) -> set[str]:
    return {row["case"] for row in verdict_cases(assessment, [status]) if row["requirement"] == requirement}


def verdicts(assessment: Assessment, *, recheck: bool) -> set[tuple[object, ...]]:
    columns = ["id", "requirement", "status", "reason", "at", "detail", *(["recheck_at"] if recheck else [])]
    found = set(assessment.verdicts.select(columns).iter_rows())
    assert len(assessment.verdicts) == len(found)
    return found


# --- the answers that the data itself gives


def test_every_row_and_case_is_read(assessment: Assessment) -> None:
    assert (CASES, ROWS) == (assessment.cases, assessment.rows)
    assert {"state=-100": 5} == assessment.unmapped


def test_reopened_are_those_that_the_tool_counted(assessment: Assessment, rows: Rows) -> None:
    counted = {row["number"] for row in rows if int(row["reopen_count"]) > 0}
    assert 275 == len(counted)
    assert counted == ids(assessment, "INC-REOPEN", "deviating")


def test_what_runs_beside_the_flow_is_what_breaks_the_requirement_of_transitions(
    assessment: Assessment, path: Path, procedure: Procedure, columns: LogColumns
) -> None:
    log, names = from_log(pl.read_csv(path, infer_schema=False), columns, LATER)
    prepared = history(log, procedure, columns.mapping.types(), LATER, Force(0, None, first=True))
    beside = runs(prepared).cases.join(names, on="case")
    aligned = beside.filter(pl.col("cost").is_not_null())
    deviating = ids(assessment, "INC-FLOW", "deviating")
    assert set(aligned.filter(pl.col("cost") > 0)["id"]) == deviating & set(aligned["id"])
    assert {"aligned": 9_271, "fit": 6_657, "cost": 3_102, "variants": 29} == {
        name: value for name, value in flow(assessment.ways).items() if isinstance(value, int)
    }


def test_sorting_by_time_alone_would_find_one_too_many(
    rows: Rows, tmp_path: Path, procedure: Procedure, columns: LogColumns
) -> None:
    """One save of the log bears a time before that of the save it follows."""
    by_time = sorted(rows, key=lambda row: datetime.strptime(row["sys_updated_at"], columns.time_format))
    sorted_log = assess(write(tmp_path / "sorted.csv", by_time), procedure, columns, LATER)
    assert 276 == len(ids(sorted_log, "INC-REOPEN", "deviating"))


def test_closed_without_a_code(assessment: Assessment, rows: Rows) -> None:
    without = {number for number, case in cases_of(rows).items() if case[-1]["closed_code"] == "?"}
    assert 107 == len(without)
    assert without == ids(assessment, "INC-I8-CODE", "deviating")


def test_priorities_beside_the_matrix(assessment: Assessment, rows: Rows) -> None:
    beside = {
        number
        for number, case in cases_of(rows).items()
        if (case[-1]["impact"], case[-1]["urgency"], case[-1]["priority"]) == ("3 - Low", "3 - Low", "4 - Low")
    }
    assert 671 == len(beside)
    assert beside == ids(assessment, "INC-PRIORITY", "deviating")


def ping_pong(rows: Rows) -> set[str]:
    found = set()
    for number, case in cases_of(rows).items():
        runs: list[str] = []
        for row in case:
            if row["assignment_group"] not in ("?", *runs[-1:]):
                runs.append(row["assignment_group"])
        if any(one == three for one, three in zip(runs, runs[2:], strict=False)):
            found.add(number)
    return found


def test_groups_that_got_a_case_back(assessment: Assessment, rows: Rows) -> None:
    found = ping_pong(rows)
    assert 2_216 == len(found)
    assert found == ids(assessment, "INC-PINGPONG", "deviating")


def test_never_worked_on(assessment: Assessment, rows: Rows) -> None:
    states = {number: {row["incident_state"] for row in case} for number, case in cases_of(rows).items()}
    without = sum("Active" not in found for found in states.values())
    assert 9_905 == without == never(assessment.visited, assessment.cases)["work"]


def test_resolved_without_work(assessment: Assessment, rows: Rows) -> None:
    """CF1 against plain Python: of the cases that never pass "Active" before they are resolved, those are deviations in
    which nothing is missing and no short path applies.
    """
    expected: Counter[str | None] = Counter()
    deviating = set()
    for number, case in cases_of(rows).items():
        verdict = worked(case)
        expected[verdict] += 1
        if verdict == "deviating":
            deviating.add(number)
    found = figures(verdict_counts(assessment))["CF1"]["requirements"]["INC-I5-WORK"]
    assert deviating == ids(assessment, "INC-I5-WORK", "deviating")
    assert {
        "judged": expected["conforming"] + expected["deviating"],
        "deviating": expected["deviating"],
        "not_applicable": expected["short cut"],
        "reasons": {
            "history lost before the first row": expected["lost"],
            "gap: saves without history": expected["gap"],
            "value not known": expected["untold"],
        },
    } == {
        **{name: found[name] for name in ("judged", "deviating", "not_applicable")},
        "reasons": {"value not known": 0, **found["reasons"]},
    }


def worked(case: Rows) -> str:
    """What is to be said of the step "work", from the rows up to the first resolution. Every case is resolved."""
    reached = next(n for n, row in enumerate(case) if row["incident_state"] in ("Resolved", "Closed"))
    states = [row["incident_state"] for row in case[: reached + 1]]
    if "Active" in states:
        return "conforming"
    if case[-1]["reassignment_count"] == "0" and case[-1]["contact_type"] == "Phone":
        return "short cut"
    if "-100" in states:
        return "untold"
    if states[0] != "New":
        return "lost"
    counters, before = [int(row["sys_mod_count"]) for row in case[1 : reached + 1]], 0
    for counter in counters:
        if counter > before + 1:
            return "gap"
        before = max(counter, before + 1)
    return "deviating"


def test_every_case_gets_one_verdict_for_each_requirement(assessment: Assessment, procedure: Procedure) -> None:
    checks = figures(verdict_counts(assessment))
    totals = {
        name: found["judged"] + found["unknown"] + found["not_applicable"]
        for check in checks.values()
        for name, found in check["requirements"].items()
    }
    assert {r.id: CASES for r in procedure.requirements if r.check != "none"} == totals
    reasons = {name: sum(f["reasons"].values()) for c in checks.values() for name, f in c["requirements"].items()}
    assert {name: f["unknown"] for c in checks.values() for name, f in c["requirements"].items()} == reasons


def test_what_the_log_does_not_carry_is_unknown(assessment: Assessment) -> None:
    notes = figures(verdict_counts(assessment))["DA1"]["requirements"]["INC-I8-NOTES"]
    assert (0, {"value not known: close_notes": CASES}) == (notes["judged"], notes["reasons"])


# --- nothing is seen before its time


def blanked(rows: Rows, columns: LogColumns) -> Iterator[dict[str, str]]:
    """The log without the final values that it carries on rows before the state that fills them."""
    words = columns.mapping.attributes["state"].values or {}
    visited: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        states = visited[row["number"]]
        states.add(words.get(row["incident_state"], ""))
        yield {**row, **{name: "?" for name in LATE if not states & set(columns.late[name].states)}}


def test_final_values_on_early_rows_are_not_looked_at(
    assessment: Assessment, rows: Rows, tmp_path: Path, procedure: Procedure, columns: LogColumns
) -> None:
    changed = list(blanked(rows, columns))
    assert 50_000 < sum(one != other for one, other in zip(rows, changed, strict=True))
    again = assess(write(tmp_path / "blanked.csv", changed), procedure, columns, LATER)
    assert verdicts(assessment, recheck=True) == verdicts(again, recheck=True)
    assert verdict_counts(assessment) == verdict_counts(again)


def test_as_of_an_instant_nothing_later_is_seen(
    path: Path, rows: Rows, tmp_path: Path, procedure: Procedure, columns: LogColumns
) -> None:
    now = millis("2016-06-01")
    time = {row["sys_updated_at"]: _instant(row["sys_updated_at"], columns) for row in rows}
    early = [row for row in blanked(rows, columns) if time[row["sys_updated_at"]] <= now]
    for row in early:
        for name in ("resolved_at", "closed_at"):
            if row[name] != "?" and _instant(row[name], columns) > now:
                row[name] = "?"
    assert 100_000 < len(early) < ROWS
    truncated = assess(write(tmp_path / "early.csv", early), procedure, columns, now)
    as_of = assess(path, procedure, columns, now)
    assert truncated.cases == as_of.cases
    assert truncated.visited == as_of.visited
    assert verdicts(truncated, recheck=False) == verdicts(as_of, recheck=False)


def _instant(text: str, columns: LogColumns) -> int:
    return int(datetime.strptime(text, columns.time_format).replace(tzinfo=UTC).timestamp() * 1000)


# --- logs that cannot be read

HEADER = "number,incident_state,sys_mod_count,sys_updated_by,sys_updated_at,opened_at,closed_code," + ",".join(
    ("resolved_at", "resolved_by", "closed_at")
)
FIRST = "INC1,New,0,Anna,29/2/2016 01:23,29/2/2016 01:16,?,?,?,?"
SECOND = "INC1,Resolved,1,Anna,29/2/2016 08:53,29/2/2016 01:16,code 5,?,?,?"
GOOD = f"{HEADER}\n{FIRST}\n{SECOND}\n"


def without(column: str) -> str:
    place = HEADER.split(",").index(column)
    return "\n".join(",".join(c for n, c in enumerate(line.split(",")) if n != place) for line in GOOD.splitlines())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "not readable as CSV in UTF-8 with a header"),
        ("log.csv", f"{HEADER}\n".encode(), "there are no rows; nothing can be said"),
        ("log.csv", without("number").encode(), "the log has no column 'number' that LOG-UCI-498 names"),
        ("log.csv", without("incident_state").encode(), "the log has no column 'incident_state'"),
        ("log.csv", without("closed_code").encode(), "the log has no column 'closed_code'"),
        ("log.csv", GOOD.replace(",", ";").encode(), "the log has no column 'closed_at', 'closed_code'"),
        (
            "log.csv",
            GOOD.replace("29/2/2016 08:53", "30/2/2016 08:53").encode(),
            "row 3: '30/2/2016 08:53' in column 'sys_updated_at' is no time of the form '%d/%m/%Y %H:%M' in UTC",
        ),
        ("log.csv", GOOD.replace("29/2/2016 01:23", "?").encode(), "row 2: '' in column 'sys_updated_at' is no time"),
        ("log.csv", GOOD.replace(",1,", ",one,").encode(), "row 3: 'one' in column 'sys_mod_count' is no whole number"),
        ("log.csv", GOOD.replace("INC1,R", "?,R").encode(), "row 3: '' in column 'number' is an empty case id"),
        ("log.csv", f"{GOOD}{FIRST}\n".encode(), "row 4 repeats an earlier row"),
        ("log.csv", f"{GOOD}INC2,New\n".encode(), "row 4: '' in column 'sys_mod_count'"),
        ("log.csv", f"{GOOD}{FIRST},more\n".encode(), "not readable as CSV in UTF-8 with a header: found more fields"),
        ("log.csv", GOOD.replace("Anna", "Zoë").encode("latin-1"), "not readable as CSV in UTF-8"),
        ("log.csv", GOOD.encode("utf-16"), "the log has no column"),
        ("log.csv.gz", GOOD.encode(), "named .gz, but it is not compressed"),
        ("log.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-20], "the compressed data is damaged"),
        ("log.xes", b"<log/>", "there are no rows; nothing can be said of no cases"),
        ("log.csv", None, "there is no such file"),
    ],
)
def test_a_log_that_cannot_be_read_is_told_with_its_place(
    name: str, content: bytes | None, message: str, tmp_path: Path, procedure: Procedure, columns: LogColumns
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableLog) as raised:
        assess(path, procedure, columns, LATER)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", GOOD.encode()),
        ("log.csv", GOOD.encode("utf-8-sig")),
        ("log.csv", GOOD.replace("\n", "\r\n").encode()),
        ("log.csv.gz", gzip.compress(GOOD.encode(), mtime=0)),
    ],
)
def test_small_logs_that_can_be_read(
    name: str, content: bytes, tmp_path: Path, procedure: Procedure, columns: LogColumns
) -> None:
    (tmp_path / name).write_bytes(content)
    found = assess(tmp_path / name, procedure, columns, LATER)
    assert (1, 2) == (found.cases, found.rows)
    assert {"INC1"} == ids(found, "INC-I5-WORK", "unknown") | ids(found, "INC-I5-WORK", "deviating")


def test_an_hour_that_a_clock_change_skips_is_no_time(
    tmp_path: Path, procedure: Procedure, columns: LogColumns
) -> None:
    local = columns.model_copy(update={"zone": "Europe/Berlin"})
    (tmp_path / "log.csv").write_text(GOOD.replace("29/2/2016 08:53", "27/3/2016 02:30"))
    with pytest.raises(UnreadableLog, match=r"row 3: '27/3/2016 02:30'.* in Europe/Berlin"):
        assess(tmp_path / "log.csv", procedure, local, LATER)


def test_a_zone_that_does_not_exist_is_told(tmp_path: Path, procedure: Procedure, columns: LogColumns) -> None:
    (tmp_path / "log.csv").write_text(GOOD)
    with pytest.raises(UnreadableLog, match="Mars/Base"):
        assess(tmp_path / "log.csv", procedure, columns.model_copy(update={"zone": "Mars/Base"}), LATER)
