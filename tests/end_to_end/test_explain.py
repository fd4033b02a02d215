"""``explain`` on a desk with an open case, one with gaps, a long one and one whose texts would act, and on work that is
kept in two systems.
"""

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from itsms_sync.cli.page import page
from itsms_sync.sms.calendars import DAYS
from tests.end_to_end.conftest import PASSWORD, ROOT, TOKEN, Install, Installation, Simulate, incident, settings_for
from tests.seeded import jira, servicenow, split
from tests.seeded.desk import desk

pytestmark = pytest.mark.timeout(300)
SCRIPT = '<script>alert("x")</script>'
ESCAPE = "\x1b[31mred\u202e"
OPEN, DEVIATING, GAPS, NASTY, LONG = (f"INC{10000 + place:07d}" for place in range(1, 6))
SAVES = 1000
WIDTH = 100
OFFICE = {
    "title": "Around the clock, but in Kathmandu",
    "zone": "Asia/Kathmandu",
    "hours": {day: ["00:00-24:00"] for day in DAYS},
    "day": "PT8H",
}
CALENDARS = {
    "document": "CAL",
    "version": "1",
    "calendars": {name: OFFICE for name in ("business_hours", "business_days")},  # noqa: C420
}
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "footer", "nav", "h1", "h2", "h3", "p", "ul", "li"),
    *("dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "div", "span", "strong", "a"),
    *("details", "summary"),
}


def _tables(now: datetime) -> dict[str, Any]:
    work, resolve = {"state": "2"}, {"state": "6", "close_code": "Solution provided", "close_notes": "Done."}
    ended: list[tuple[float, dict[str, Any]]] = [(0.1, work), (2, resolve), (9, {"state": "7"})]
    moderate = {"impact": "2", "urgency": "2", "priority": "3"}
    passed_on = [(n / 10, {"category": f"category {n}"}) for n in range(2, SAVES - 1)]
    lives = [
        incident(1, now - timedelta(hours=2), [(0.5, work)], **moderate),
        incident(2, now - timedelta(days=20), [(1, resolve), (9, {"state": "7"})], **moderate),
        incident(3, now - timedelta(days=20), ended, **moderate),
        incident(4, now - timedelta(days=20), ended, category=f"{SCRIPT}{ESCAPE}"),
        incident(5, now - timedelta(days=30), [(0.1, work), *passed_on, (150, resolve), (160, {"state": "7"})]),
    ]
    gaps = lives[2][0]
    return {
        "tables": {
            "sys_user": [{"sys_id": f"{0xA0:032x}", "user_name": "petra.person", "name": "Petra Person"}],
            "sys_user_group": [{"sys_id": f"{0xB0:032x}", "name": f"Network {SCRIPT}"}],
            "incident": [row for row, _ in lives],
            # Of the case with gaps the save in the middle left no trace.
            "sys_audit": [
                audit for row, audits in lives for audit in audits if row is not gaps or audit["record_checkpoint"] != 2
            ],
        }
    }


@pytest.fixture(scope="module")
def installation(simulate: Simulate, install: Install, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The desk, read and judged on a calendar that is described."""
    folder = tmp_path_factory.mktemp("explained")
    (folder / "desk.json").write_text(json.dumps(_tables(datetime.now(UTC))), "utf-8")
    documents = folder / "mappings"
    shutil.copytree(ROOT / "mappings", documents)
    (documents / "calendars.yaml").write_text(json.dumps(CALENDARS), "utf-8")  # JSON is YAML
    site = simulate("servicenow", folder / "desk.json", password=PASSWORD, plugins="cim,major")
    settings = settings_for(site.url, "http://127.0.0.1:9")
    del settings["tickets"], settings["sources"]["jira"]
    found = install({**settings, "documents": str(documents)})
    found.json("once")
    return found


Explained = Callable[..., Any]


@pytest.fixture(scope="module")
def explained(installation: Installation) -> Explained:
    return cache(lambda case: installation.json("explain", case))


@pytest.fixture(scope="module")
def text(installation: Installation) -> Callable[..., str]:
    @cache
    def told(case: str, *options: str) -> str:
        answer = installation.command("explain", case, *options)
        assert 0 == answer.returncode, answer.stderr
        return answer.stdout

    return told


@pytest.fixture(scope="module")
def html(installation: Installation) -> Callable[[str], str]:
    @cache
    def written(case: str) -> str:
        path = installation.folder / f"{case}.html"
        answer = installation.command("explain", case, f"--html={path}")
        assert (0, "") == (answer.returncode, answer.stdout), answer.stderr
        return path.read_text("utf-8")

    return written


# --- what is told


def test_an_open_case_has_its_next_step_and_deadline(explained: Explained, text: Callable[..., str]) -> None:
    (entry,) = explained(OPEN)["beside"]
    assert (True, [], None) == (entry["open"], entry["words"], entry["reason"])
    assert ["I8 Resolve", "I9 Confirm and close"] == [step["step"] for step in entry["outstanding"]]
    limits = {limit["requirement"]: limit for limit in entry["limits"]}
    resolve = limits[entry["outstanding"][0]["limits"][0]]
    # Three days of eight hours around the clock of Kathmandu.
    assert ("INC-RESOLVE-P3", "running", 24 * 3_600_000) == (
        resolve["requirement"],
        resolve["state"],
        resolve["deadline_at"] - resolve["since_at"],
    )
    assert resolve["left"] == resolve["deadline_at"] - entry["judged_at"]
    assert ("stopped", False) == (limits["INC-RESPONSE-P3"]["state"], limits["INC-RESPONSE-P3"]["passed"])
    told = text(OPEN)
    assert "(Asia/Kathmandu)" in told
    assert re.search(r"I8 Resolve\s+Resolver\s+before I9 Confirm and close", told)


def test_a_deviation_is_told_at_its_save(explained: Explained, text: Callable[..., str]) -> None:
    (entry,) = explained(DEVIATING)["beside"]
    (save,) = [row for row in entry["timeline"] if row.get("wrong")]
    assert (["I8 Resolve"], "resolved", "both") == (save["steps"], save["state"], save["move"])
    assert ["I5 Diagnose and work was skipped: it went from new to resolved"] == save["wrong"] == entry["words"]
    assert {"INC-I5-WORK", "INC-FLOW"} <= {verdict["requirement"] for verdict in save["verdicts"]}
    assert {"audit"} == {one["witness"] for one in save["evidence"]}
    assert {"1.0"} == {row["version"] for row in entry["timeline"] if row["kind"] == "save"}
    assert "✗ I5 Diagnose and work was skipped: it went from new to resolved." in text(DEVIATING)


def test_what_is_unknown_says_what_is_missing(explained: Explained, text: Callable[..., str]) -> None:
    found = explained(GAPS)
    (entry,) = found["beside"]
    (gap,) = [row for row in entry["timeline"] if row["kind"] == "gap"]
    assert 1 == gap["saves"]
    unknown = [verdict for verdict in found["verdicts"] if verdict["status"] == "unknown"]
    assert unknown
    assert all(verdict["missing"] for verdict in unknown)
    assert any(verdict["missing"].startswith("1 save between ") for verdict in unknown)
    assert "gap: 1 save without" in text(GAPS)


def test_each_verdict_names_what_it_rests_on(explained: Explained) -> None:
    found = explained(DEVIATING)
    given = [verdict for verdict in found["verdicts"] if "program" in verdict]
    assert given
    for verdict in given:
        assert found["coverage_of"][str(verdict["last_poll_id"])]
        assert "1.0" == verdict["version"]
    silent = [verdict for verdict in found["verdicts"] if "program" not in verdict]
    assert {"another priority", "does not apply"} <= {verdict["reason"] for verdict in silent}


def test_a_case_of_a_thousand_saves_stays_readable(
    explained: Explained, text: Callable[..., str], html: Callable[[str], str]
) -> None:
    (entry,) = explained(LONG)["beside"]
    assert SAVES == sum(row["kind"] == "save" for row in entry["timeline"])
    short, whole = text(LONG), text(LONG, "--all")
    assert len(short.splitlines()) < 250 < len(whole.splitlines())
    assert "more rows" in short
    assert "category 500" not in short
    assert "category 500" in whole
    for line in (short, whole):
        assert [] == [one for one in line.splitlines() if len(one) > WIDTH and "http" not in one]
    told = html(LONG)
    assert "category 500" in told
    assert 2 <= told.count("<details>")


# --- the page


class Parsed(HTMLParser):
    """The tags of a page and what could act in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.attributes |= given.keys()
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []


@pytest.mark.parametrize(
    "case", [NASTY, *(pytest.param(case, marks=pytest.mark.slow) for case in (OPEN, DEVIATING, GAPS))]
)
def test_the_page_needs_nothing_else(html: Callable[[str], str], explained: Explained, case: str) -> None:
    text = html(case)
    found = Parsed(text)
    assert set(found.tags) <= ALLOWED
    assert {"src", "style", "onclick"}.isdisjoint(found.attributes)
    outside = [link for link in found.links if not link.startswith("#")]
    assert [explained(case)["url"]] == outside, "only the record itself, to be followed by a person"
    assert "url(" not in text
    assert "@import" not in text
    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert found.tags.count("table") <= found.tags.count("thead")
    assert 1 == found.tags.count("h1")


def test_texts_of_outsiders_do_not_act(text: Callable[..., str], html: Callable[[str], str]) -> None:
    told = text(NASTY)
    assert SCRIPT in re.sub(r"\s+", "", told), "a terminal shows it as it is"
    assert "\x1b" not in told
    assert "\u202e" not in told
    written = html(NASTY)
    assert "<script" not in written
    assert "&lt;script&gt;alert(" in written
    assert "\x1b" not in written
    assert "\\x1b[31mred\\u202e" in written


KEPT = ("status", "kind", "move", "tie", "state", "witness", "requirement", "process", "zone")
"""Words of our own that tell what a text is."""


def _nasty(found: Any, name: str = "") -> Any:
    """The same with markup in every text that an outsider could write."""
    if isinstance(found, dict):
        return {key: _nasty(value, key) for key, value in found.items()}
    if isinstance(found, list):
        return [_nasty(value, name) for value in found]
    return (
        f"{found}'\"><img src=x onerror=alert(1)>{SCRIPT}{{{{ 7 * 7 }}}}"
        if isinstance(found, str) and name not in KEPT
        else found
    )


@pytest.mark.parametrize("case", [DEVIATING, *(pytest.param(case, marks=pytest.mark.slow) for case in (OPEN, GAPS))])
def test_whatever_text_is_written_anywhere_is_shown_as_text(explained: Explained, case: str) -> None:
    nasty = _nasty(explained(case))
    for address in (nasty["url"], "javascript:alert(1)", "data:text/html,x"):
        text = page([{**nasty, "url": address}])
        found = Parsed(text)
        assert set(found.tags) <= ALLOWED
        assert {"src", "onerror"}.isdisjoint(found.attributes)
        assert "<script" not in text
        assert "{{ 7 * 7 }}" in text
        assert not [link for link in found.links if not link.startswith(("#", "http://"))]


def test_where_no_page_can_be_written_it_is_said(installation: Installation) -> None:
    answer = installation.command("explain", OPEN, f"--html={installation.folder / 'nowhere' / 'x.html'}")
    assert (2, "") == (answer.returncode, answer.stdout)
    assert "cannot write" in answer.stderr


# --- two systems


@pytest.fixture(scope="module")
def pairs(simulate: Simulate, install: Install, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The seeded desk, split over two systems."""
    folder = tmp_path_factory.mktemp("split")
    for name, tables in (("servicenow", split.tables(desk())), ("jira", split.site(desk()))):
        (folder / f"{name}.json").write_text(json.dumps(tables), "utf-8")
    instance = simulate("servicenow", folder / "servicenow.json", password=PASSWORD, plugins="cim,major")
    site = simulate("jira", Path("itsm"), folder / "jira.json", token=TOKEN)
    settings = settings_for(instance.url, site.url)
    settings["sources"]["jira"]["read"] = True
    settings["sources"]["jira"]["options"] = {
        **settings["sources"]["jira"]["options"],
        "projects": [jira.PROJECT],
        "approvals_field": "customfield_10213",
    }
    del settings["tickets"]
    found = install(settings)
    found.json("once", f"--as-of={desk().as_of.isoformat()}", timeout=200)
    return found


def test_of_work_in_two_systems_one_record_is_the_case(pairs: Installation) -> None:
    problem = next(record.case for record in desk().records if record.process == "problem")
    number, key = servicenow.numbers(desk())[problem], jira.keys(desk())[problem]
    led = pairs.json("explain", number)
    assert [("pair", key)] == [
        (one["tie"], one["case"]) for one in led["beside"] and led["belongs"] if one["tie"] == "pair"
    ]
    follower = pairs.command("explain", key)
    assert f"that record is the case: explain {number}" in re.sub(r"\s+", " ", follower.stdout)


def test_approvals_and_tasks_of_a_change_stand_in_its_timeline(pairs: Installation) -> None:
    change = next(record for record in desk().records if record.process == "change" and record.approvals)
    (entry,) = pairs.json("explain", jira.keys(desk())[change.case])["beside"]
    told = [text for row in entry["timeline"] if row["kind"] == "part" for text in row["what"]]
    assert len([text for text in told if text.endswith(": approved")]) >= 1
    assert [row["at"] for row in entry["timeline"]] == sorted(row["at"] for row in entry["timeline"])
