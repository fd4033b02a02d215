"""What the tests of the Jira connector share: a seeded desk in both editions, connections to it, views of what came."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from connectors.jira.connector import PLUGIN
from connectors.jira.simulator import Simulator, serve
from itsms_sync.connector import Access, Connector
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.records import Gap, Page, Record, Window

TOKEN = "token-of-this-test"
MIA, OMAR = "5b10ac8d82e05b22cc7d4f01", "5b10ac8d82e05b22cc7d4f02"
FIELDS = (
    "project",
    "issuetype",
    "status",
    "priority",
    "resolution",
    "parent",
    "components",
    "labels",
    "assignee",
    "duedate",
    "resolutiondate",
    "customfield_10201",
    "customfield_10206",
    "customfield_10208",
    "customfield_10216",
    "customfield_10219",
    "link.10502.inward",
    "link.10502.outward",
    "comment",
)
WINDOW = Window(FIELDS, {}, 300_000, 100, frozenset(("assignee",)), frozenset(("customfield_10208",)))
USERS = [
    {
        "accountId": MIA,
        "displayName": "Mia Krystof",
        "emailAddress": "Mia@example.com",
        "active": True,
        "name": "mia",
        "key": "JIRAUSER501",
    },
    {
        "accountId": OMAR,
        "displayName": "Omar",
        "emailAddress": "omar@example.com",
        "active": False,
        "key": "JIRAUSER502",
    },
    {
        "accountId": "app-1",
        "displayName": "Automation",
        "emailAddress": "app@example.com",
        "active": True,
        "accountType": "app",
        "key": "JIRAUSER503",
    },
]
INCIDENT = {
    "key": "ITSM-1",
    "id": 20001,
    "type": 10101,
    "status": 10004,
    "priority": "Highest",
    "resolution": "Done",
    "summary": "The mail of Mia is gone",
    "assignee": MIA,
    "reporter": OMAR,
    "labels": ["vip", "mail"],
    "duedate": "2026-07-03",
    "created": "2026-07-01T08:00:00Z",
    "updated": "2026-07-01T12:00:00.250Z",
    "resolved": "2026-07-01T12:00:00.250Z",
    "fields": {
        "customfield_10201": 10302,
        "customfield_10206": "2026-07-02T10:00:00Z",
        "customfield_10208": "Restart the *server*",
        "customfield_10216": [10341],
        "customfield_10219": "INC0010001",
    },
    "history": [
        {
            "id": 501,
            "at": "2026-07-01T09:00:00Z",
            "by": MIA,
            "items": [
                {"field": "status", "from": 10001, "to": 10002},
                {"field": "assignee", "from": None, "to": OMAR},
                {"field": "summary", "from": "Mail", "to": "The mail of Mia is gone"},
            ],
        },
        {
            "id": 502,
            "at": "2026-07-01T10:00:00Z",
            "by": OMAR,
            "items": [
                {"field": "assignee", "from": OMAR, "to": MIA},
                {"field": "customfield_10208", "from": None, "to": "Restart the *server*"},
                {"field": "customfield_10201", "from": 10303, "to": 10302},
                {"field": "customfield_10216", "from": [], "to": [10341]},
                {"field": "labels", "from": ["mail"], "to": ["vip", "mail"]},
            ],
        },
        {"id": 503, "at": "2026-07-01T11:00:00Z", "items": [{"field": "description", "from": "a", "to": "b"}]},
        {
            "id": 504,
            "at": "2026-07-01T12:00:00.250Z",
            "by": MIA,
            "items": [
                {"field": "status", "from": 10002, "to": 10004},
                {"field": "resolution", "from": None, "to": 10401},
            ],
        },
    ],
    "comments": [
        {"id": 900, "by": OMAR, "at": "2026-07-01T09:30:00Z", "body": "Any news?"},
        {"id": 901, "by": MIA, "at": "2026-07-01T09:40:00Z", "body": "We look at it", "internal": True},
    ],
}
PROBLEM = {
    "key": "ITSM-2",
    "id": 20002,
    "type": 10103,
    "status": 10001,
    "created": "2026-07-01T13:00:00Z",
    "links": [{"type": 10502, "outward": "ITSM-1"}],
}


def others(count: int, start: int = 100, second: int = 3) -> list[dict[str, Any]]:
    """Issues of which ``second`` share each second."""
    return [
        {
            "key": f"ITSM-{start + n}",
            "id": 30000 + start + n,
            "type": 10101,
            "status": 10002,
            "created": "2026-07-02T08:00:00Z",
            "updated": f"2026-07-02T09:{n // second // 60:02d}:{n // second % 60:02d}.{n % second:03d}Z",
            "history": [
                {
                    "id": 40000 + start + n,
                    "at": "2026-07-02T08:30:00Z",
                    "by": MIA,
                    "items": [{"field": "status", "from": 10001, "to": 10002}],
                }
            ],
        }
        for n in range(count)
    ]


class Pseudonyms:
    """Shows what was replaced, and by what kind."""

    def person(self, form: str, identifier: str) -> str:
        return f"p({form}:{identifier})"

    def text(self, value: str) -> str:
        return f"t({value})" if value else ""


class Desk:
    """A site of one edition and ways to read it."""

    def __init__(self, folder: Path, edition: str, context: str = "/jira") -> None:
        self.folder = folder
        self.edition = edition
        self.context = {"context": context} if edition == "datacenter" else {}
        self.person = (lambda n, key: f"p(accountId:{n})") if edition == "cloud" else (lambda n, key: f"p(key:{key})")
        self.mia, self.omar = self.person(MIA, "JIRAUSER501"), self.person(OMAR, "JIRAUSER502")
        self.running: list[Simulator] = []

    def serve(self, *issues: Mapping[str, Any], more: Mapping[str, Any] | None = None, **options: str) -> Simulator:
        path = self.folder / f"desk{len(self.running)}.json"
        path.write_text(json.dumps({"users": USERS, "issues": issues, **(more or {})}), "utf-8")
        given = {"edition": self.edition, "token": TOKEN, **self.context, **options}
        self.running.append(serve(data=[Path("itsm"), path], options=given))
        return self.running[-1]

    def connect(self, simulator: Simulator, secret: str = TOKEN, url: str = "", **options: Any) -> Connector:
        """To the simulator, through what stands at ``url`` if it is given."""
        limits = Limits(total_s=10, attempts=2, backoff_s=0.01, max_retry_after_s=2)
        http = Http(
            limits=limits,
            transport=Transport(),
            monotonic=time.monotonic,
            sleep=lambda seconds: None,
            stop=Stop(),
        )
        given = PLUGIN.check_options({"projects": ["ITSM"], **options})
        credential = (
            {"token": secret} if self.edition == "datacenter" else {"username": "bot@example.com", "token": secret}
        )
        return PLUGIN.connect(Access("desk", url or simulator.url, given, http, Pseudonyms(), lambda: credential))


def pulled(source: Connector, window: Window = WINDOW, kind: str = "issue") -> list[Page]:
    pages = source.pull(kind, window)
    assert not isinstance(pages, Gap)
    return list(pages)


def records(pages: Sequence[Page]) -> dict[str, Record]:
    return {record.id: record for page in pages for record in page.records}


def changes(pages: Sequence[Page], record: str = "20001") -> list[tuple[Any, ...]]:
    """Field, old, new and witness id of the record's history, in its order."""
    events = [event for page in pages for event in page.events if event.record == record and event.order is not None]
    return [(each.field, each.old, each.new, each.witness_id) for each in sorted(events, key=lambda e: e.order or 0)]


def gaps(pages: Sequence[Page]) -> list[tuple[str, str, str | None, str | None]]:
    return [(gap.stream, gap.reason, gap.record, gap.field) for page in pages for gap in page.gaps]


def cursors(pages: Sequence[Page]) -> dict[str, str]:
    return {page.stream: page.cursor for page in pages}


def spoil(simulator: Simulator, *rules: Mapping[str, Any]) -> None:
    assert 201 == requests.post(own(simulator) + "/_sim/faults", json=rules, timeout=5).status_code


def heal(simulator: Simulator) -> None:
    requests.delete(own(simulator) + "/_sim/faults", timeout=5).raise_for_status()


def messages(pages: Sequence[Page]) -> list[str]:
    return [gap.message for page in pages for gap in page.gaps]


def own(simulator: Simulator) -> str:
    """The simulator's own addresses stand beside the context path."""
    return simulator.url.removesuffix("/jira")


def asked(simulator: Simulator) -> Mapping[str, Mapping[str, int]]:
    books: Mapping[str, Any] = requests.get(own(simulator) + "/_sim/ledger", timeout=5).json()
    requests_: Mapping[str, Mapping[str, int]] = books["requests"]
    return requests_
