"""Jira as a source against a site that answers oddly: nothing that is not whole closes a window."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from connectors.jira.connector import PLUGIN
from itsms_sync.connector import Access, Connector, Refused, SourceError, Unavailable
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.records import Gap, Page, Window
from tests.connectors.jira_desks import Pseudonyms
from tests.connectors.odd_site import OddSite

WINDOW = Window(("status",), {"issue": '{"at":1782900000000,"ids":[]}'}, 60_000, 10)
CLOUD, SERVER = {"deploymentType": "Cloud"}, {"deploymentType": "Server"}
LOGGED_IN = {"X-Seraph-LoginReason": "OK"}


class Site(OddSite):
    """Connected as a source."""

    def connect(self) -> Connector:
        http = Http(
            limits=Limits(total_s=5, attempts=1),
            transport=Transport(),
            monotonic=time.monotonic,
            sleep=lambda seconds: None,
            stop=Stop(),
        )
        options = PLUGIN.check_options({"projects": ["ITSM"]})
        return PLUGIN.connect(Access("odd", self.url, options, http, Pseudonyms(), lambda: {"token": "of-this-test"}))


Start = Callable[..., Site]


@pytest.fixture
def site() -> Iterator[Start]:
    running: list[Site] = []

    def start(answers: Mapping[str, Any], headers: Mapping[str, str] = LOGGED_IN) -> Site:
        usual = {
            "myself": {"accountId": "a"},
            "field": (200, []),
            "changelog/bulkfetch": {"issueChangeLogs": []},
            "issue/1/changelog": {"values": [], "total": 0},
        }
        running.append(Site({**usual, **answers}, headers, in_turn=True))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def issue(id: int, updated: str = "2026-07-01T10:00:00.000+0000", project: str = "ITSM", **more: Any) -> dict[str, Any]:
    fields = {"created": updated, "updated": updated, "project": {"id": "1", "key": project}, "status": {"id": "3"}}
    return {"id": str(id), "key": f"{project}-{id}", "fields": fields, **more}


def drained(source: Connector, window: Window = WINDOW) -> tuple[list[Page], SourceError | None]:
    """The pages that came, and what ended them."""
    came: list[Page] = []
    try:
        pages = source.pull("issue", window)
        assert not isinstance(pages, Gap)
        for page in pages:
            came.append(page)
    except (Unavailable, Refused) as error:
        return came, error
    return came, None


END: dict[str, Any] = {"issues": [], "isLast": True}


NO_END, NO_FORM = "does not say whether pages follow", "has not its documented form"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        pytest.param([{"issues": [issue(1)], "isLast": False}], NO_END, id="no end and no token"),
        pytest.param([{"issues": [issue(1)]}], NO_END, id="neither sign of the end"),
        pytest.param([{"issues": [issue(1)], "isLast": True, "nextPageToken": "t"}], NO_END, id="an end with a token"),
        pytest.param([{"issues": [issue(1)], "nextPageToken": "t"}], "do not end", id="a token that repeats"),
        pytest.param(
            [{"issues": [], "nextPageToken": f"t{n}"} for n in range(50)], "do not end", id="empty pages without end"
        ),
        pytest.param([{**END, "issues": [issue(1)], "warnings": ["cut at 1000"]}], "not whole: .*1000", id="a warning"),
        pytest.param(
            [{**END, "issues": [issue(1, project="DESK")]}], "DESK, which was not asked", id="another project"
        ),
        pytest.param(
            [{**END, "issues": [issue(1, "2026-07-01T09:50:00.000+0000")]}], "not updated since", id="an older update"
        ),
        pytest.param(
            [{**END, "issues": [issue(1, "2026-07-01T11:00:00.000+0000"), issue(2)]}],
            "in the order of their updates",
            id="another order of updates",
        ),
        pytest.param([{**END, "issues": [{**issue(1), "id": None}]}], NO_FORM, id="an issue without id"),
        pytest.param([{**END, "issues": [issue(1, "soon")]}], NO_FORM, id="an issue without an instant"),
        pytest.param([(202, END)], "202", id="accepted and nothing done"),
        pytest.param(
            [{"issues": [issue(1)], "nextPageToken": "t"}, (400, {"errorMessages": ["bad token"]})],
            "the token of the page has expired",
            id="expired",
        ),
    ],
)
def test_an_odd_page_of_cloud_closes_nothing(site: Start, answers: list[Any], why: str) -> None:
    came, error = drained(site({"serverInfo": CLOUD, "search/jql": answers}).connect())
    assert isinstance(error, Unavailable), error
    assert re.search(why, str(error)), error
    assert [] == [page for page in came if page.closed]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        pytest.param([{"issues": [], "total": 5}], "counts 5 issues and shows 0", id="counted and not shown"),
        pytest.param([{"issues": [], "total": 0, "warningMessages": ["no such field"]}], "not whole", id="a warning"),
        pytest.param([{"issues": []}], NO_FORM, id="not counted"),
        pytest.param(
            [{"issues": [issue(1, project="DESK", changelog={"histories": [], "total": 0})], "total": 1}],
            "DESK, which was not asked",
            id="another project",
        ),
        pytest.param([{"issues": [issue(1)], "total": 1}], NO_FORM, id="without the history"),
    ],
)
def test_an_odd_page_of_data_center_closes_nothing(site: Start, answers: list[Any], why: str) -> None:
    came, error = drained(site({"serverInfo": SERVER, "search": answers}).connect())
    assert isinstance(error, Unavailable), error
    assert re.search(why, str(error)), error
    assert [] == [page for page in came if page.closed]


@pytest.mark.parametrize("second", ["older", "other"])
def test_an_index_that_is_another_one_each_time_closes_nothing(site: Start, second: str) -> None:
    log = {"histories": [], "total": 0}
    at = {"older": "2026-07-01T09:59:59.500+0000", "other": "2026-07-01T10:00:00.000+0000"}[second]
    one, two = issue(1, changelog=log), issue(2 if second == "other" else 1, at, changelog=log)
    answers = [{"issues": [one], "total": 3}, {"issues": [two], "total": 3}] * 30
    came, error = drained(site({"serverInfo": SERVER, "search": answers, "issue/1": one, "issue/2": two}).connect())
    assert isinstance(error, Unavailable)
    assert "issues move while search shows them" in str(error)
    assert not any(page.closed for page in came)


@pytest.mark.parametrize(
    "logs",
    [
        pytest.param([{"issueChangeLogs": [{"issueId": "9", "changeHistories": []}]}], id="of another issue"),
        pytest.param([{"issueChangeLogs": [], "nextPageToken": "t"}], id="without end"),
        pytest.param([{"issueChangeLogs": [{"issueId": "1", "changeHistories": [{"id": "1"}]}]}], id="of another form"),
    ],
)
def test_odd_histories_close_nothing(site: Start, logs: list[Any]) -> None:
    answers = {"serverInfo": CLOUD, "search/jql": {**END, "issues": [issue(1)]}, "changelog/bulkfetch": logs}
    came, error = drained(site(answers).connect())
    assert isinstance(error, Unavailable), error
    assert [] == came


def test_a_total_that_cannot_be_reached_is_a_gap_on_the_record(site: Start) -> None:
    single = {
        "values": [{"id": "5", "created": 1782900000, "items": [{"field": "status", "from": "1", "to": "3"}]}],
        "total": 3,
    }
    answers = {
        "serverInfo": CLOUD,
        "search/jql": {**END, "issues": [issue(1)]},
        "issue/1/changelog": [single, {"values": [], "total": 3}],
    }
    came, error = drained(site(answers).connect())
    assert error is None
    gap = next(gap for page in came for gap in page.gaps)
    assert ("issue:changelog", "history-cut", "1") == (gap.stream, gap.reason, gap.record)
    assert "1 of 3 histories of ITSM-1" in gap.message


LABEL = {"created": 1782900000, "items": [{"field": "labels", "fromString": "", "toString": "x"}]}
STEP = {"created": 1782900000, "items": [{"field": "status", "from": "1", "to": "2"}]}
LONG = {"issueId": "1", "changeHistories": [{**LABEL, "id": "1"}, {**LABEL, "id": "2"}]}
SHORT = {"issueId": "2", "changeHistories": [{**LABEL, "id": "8"}]}
WHOLE = {"values": [{**LABEL, "id": "9"}], "total": 1}


@pytest.mark.parametrize(
    "logs",
    [
        pytest.param([{"issueChangeLogs": [LONG]}], id="changed and without a history"),
        pytest.param(
            [{"issueChangeLogs": [LONG, {"issueId": "2", "changeHistories": [{**STEP, "id": "8"}]}]}],
            id="in another status than the last step led to",
        ),
        pytest.param(
            [
                {
                    "issueChangeLogs": [{"issueId": "2", "changeHistories": [{**LABEL, "id": "8"}]}],
                    "nextPageToken": "t",
                },
                {"issueChangeLogs": [LONG]},
            ],
            id="at the border of a page",
        ),
    ],
)
def test_a_doubtful_history_is_looked_at_alone(site: Start, logs: list[Any]) -> None:
    short = issue(2)
    short["fields"]["created"] = "2026-07-01T09:00:00.000+0000"
    single = {"issue/1/changelog": {"values": LONG["changeHistories"], "total": 2}, "issue/2/changelog": WHOLE}
    odd = site(
        {"serverInfo": CLOUD, "search/jql": {**END, "issues": [issue(1), short]}, **single, "changelog/bulkfetch": logs}
    )
    came, error = drained(odd.connect())
    assert error is None
    assert "9" in {event.witness_id for page in came for event in page.events if event.record == "2"}


def test_a_history_that_is_in_no_doubt_is_not_looked_at_alone(site: Start) -> None:
    odd = site(
        {
            "serverInfo": CLOUD,
            "search/jql": {**END, "issues": [issue(1), issue(2)]},
            "changelog/bulkfetch": {"issueChangeLogs": [LONG, SHORT]},
            "issue/1/changelog": {"values": LONG["changeHistories"], "total": 2},
        }
    )
    _, error = drained(odd.connect())
    assert error is None
    assert "issue/2/changelog" not in odd.paths()


def test_one_cut_history_makes_all_of_the_page_suspect(site: Start) -> None:
    one = {"id": "5", "created": 1782900000, "items": [{"field": "labels", "fromString": "", "toString": "x"}]}
    two = {**one, "id": "6"}
    logs = [{"issueId": str(n), "changeHistories": [one]} for n in (1, 2)]
    whole = {"values": [one, two], "total": 2}
    odd = site(
        {
            "serverInfo": CLOUD,
            "search/jql": {**END, "issues": [issue(1), issue(2)]},
            "changelog/bulkfetch": {"issueChangeLogs": logs},
            "issue/1/changelog": whole,
            "issue/2/changelog": whole,
        }
    )
    came, error = drained(odd.connect())
    assert error is None
    assert 4 == sum(len(page.events) for page in came)


@pytest.mark.parametrize(
    ("minute", "asked"),
    [(0, [(1782900000000, None), (1782900000000, "t")]), (5, [(1782900000000, None), (1782900300000, None)])],
    ids=["within a minute", "beyond"],
)
def test_tokens_are_trusted_within_a_minute(site: Start, minute: int, asked: list[tuple[int, str | None]]) -> None:
    """Nobody says what a token does when issues move while search shows them."""
    last = issue(2, f"2026-07-01T10:{minute:02d}:00.000+0000")
    answers = [{"issues": [issue(1), last], "nextPageToken": "t"}, {**END, "issues": [last]}]
    whole = {"issue/1/changelog": {"values": [], "total": 0}, "issue/2/changelog": {"values": [], "total": 0}}
    odd = site({"serverInfo": CLOUD, "search/jql": answers, **whole})
    came, error = drained(odd.connect())
    assert error is None
    assert ["1", "2"] == [row.key for page in came for row in page.rows if page.stream == "issue"]
    questions = [each.body for each in odd.asked if each.path == "search/jql"]
    assert asked == [(int(body["jql"].split()[6]), body.get("nextPageToken")) for body in questions]


def comment(id: int) -> dict[str, Any]:
    return {"id": str(id), "created": "2026-07-01T10:00:00.000+0000", "author": {"accountId": "a"}, "body": "x"}


def test_comments_that_search_does_not_show_are_asked_for(site: Start) -> None:
    seen = issue(1)
    seen["fields"]["comment"] = {"comments": [comment(3)], "total": 3}
    pages = [{"comments": [comment(1), comment(2)], "total": 3}, {"comments": [comment(3)], "total": 3}]
    answers = {"search/jql": {**END, "issues": [seen]}, "issue/1/changelog": {"values": [], "total": 0}}
    odd = site({"serverInfo": CLOUD, "issue/1/comment": pages, **answers})
    came, error = drained(odd.connect(), replace(WINDOW, fields=("status", "comment")))
    assert error is None
    assert ["1", "2", "3"] == [event.witness_id for page in came for event in page.events if event.field == "comment"]


def test_a_comment_of_another_form_closes_nothing(site: Start) -> None:
    seen = issue(1)
    seen["fields"]["comment"] = {"comments": [{"id": "3"}], "total": 1}
    answers = {"search/jql": {**END, "issues": [seen]}, "issue/1/changelog": {"values": [], "total": 0}}
    came, error = drained(site({"serverInfo": CLOUD, **answers}).connect(), replace(WINDOW, fields=("comment",)))
    assert isinstance(error, Unavailable)
    assert "a comment of ITSM-1 has not its documented form" in str(error)
    assert not any(page.closed for page in came if page.stream == "issue")


@pytest.mark.parametrize("edition", ["Cloud", "Server"])
@pytest.mark.parametrize(
    "headers", [{"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}, {"X-AUSERNAME": "anonymous"}], ids=str
)
def test_an_answer_to_nobody_is_refused(site: Start, edition: str, headers: Mapping[str, str]) -> None:
    empty = {"search/jql": END, "search": {"issues": [], "total": 0}}
    odd = site({"serverInfo": {"deploymentType": edition}, **empty}, headers)
    came, error = drained(odd.connect())
    assert isinstance(error, Refused)
    assert [] == came


@pytest.mark.parametrize(("says", "page"), [("Cloud", "search/jql"), ("Server", "search")])
def test_an_end_that_does_not_confirm_the_login_is_checked(site: Start, says: str, page: str) -> None:
    gone = (401, {"message": "Client must be authenticated to access this resource."})
    empty = {"search/jql": END, "search": {"issues": [], "total": 0}}
    odd = site({"serverInfo": {"deploymentType": says}, "myself": gone, **empty}, {})
    came, error = drained(odd.connect())
    assert isinstance(error, Refused)
    assert [] == came
    assert ["myself"] == odd.paths()[-1:]


def test_data_center_is_asked_for_nothing_newer(site: Start) -> None:
    log = {"histories": [], "total": 0}
    shown = {"issues": [issue(1, changelog=log)], "total": 1}
    odd = site({"serverInfo": SERVER, "search": shown, "issue/1": {"id": "1", "changelog": log}})
    _, error = drained(odd.connect())
    assert error is None
    assert {"serverInfo", "field", "search", "issue/1"} == set(odd.paths())
    question = next(each.body for each in odd.asked if each.path == "search")
    assert 'project in ("ITSM") AND updated >= 1782900000000 ORDER BY updated ASC, key ASC' == question["jql"]
