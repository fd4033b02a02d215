"""Everything that the Jira connector asks and is answered, held against Atlassian's documents of the interface.

A run of everything that the connector can do goes through a proxy that writes down each exchange. Cloud is judged by
its OpenAPI document of version 3: version 2, which the connector speaks, has the same resources. Data Center is judged
by the WADL file. Neither describes Service Management; what was recorded from the product does, in ``test_jira_desk``.
"""

import gzip
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from itsms_sync.connector import Connector, Refused
from itsms_sync.records import Action, Block, Directory, Gap, Ticket, Write, Written
from itsms_sync.testing import Wire
from tests.connectors.jira_desks import INCIDENT, MIA, PROBLEM, WINDOW, Desk, others, pulled, spoil
from tests.connectors.test_jira_desk import CHANGE, TASK
from tests.simulators.jira_sites import WADL, Judge, OpenApi, Wadl

MANY = [{"id": 1000 + n, "by": MIA, "at": "2026-07-01T09:30:00Z", "body": f"no {n}"} for n in range(3)]
TICKETS = {"project": "CAPA", "issue_type": "Corrective action", "severity_priority": {"S1": "High"}}
DESK_API = "/rest/servicedeskapi/"
TENANT = "/_edge/tenant_info"
"""Where a site of Cloud tells its id; in Atlassian's pages for people, not in the document of the interface."""
NO_REQUEST = {"path": "request/20007/approval", "do": "status", "status": 404}

BOTH = {
    "GET /myself",
    "GET /serverInfo",
    "GET /field",
    "GET /status",
    "GET /issuetype",
    "GET /priority",
    "GET /resolution",
    "GET /issueLinkType",
    "GET /project/{}",
    "GET /issue/{}",
    "GET /issue/{}/comment",
    "GET /issue/{}/editmeta",
    "GET /issue/{}/transitions",
    "GET /issue/createmeta/{}/issuetypes",
    "GET /issue/createmeta/{}/issuetypes/{}",
    "GET /user/assignable/search",
    "POST /issue",
    "PUT /issue/{}",
    "POST /issue/{}/comment",
    "POST /issue/{}/transitions",
    "POST /issueLink",
    "GET servicedeskapi/info",
    "GET servicedeskapi/request/{}",
    "GET servicedeskapi/request/{}/approval",
    "GET servicedeskapi/request/{}/sla",
}
ALL = {
    "cloud": BOTH
    | {
        "POST /search/jql",
        "POST /changelog/bulkfetch",
        "GET /issue/{}/changelog",
        "GET /users/search",
        "GET /group/bulk",
        f"GET {TENANT}",
    },
    "datacenter": BOTH
    | {
        "POST /search",
        "GET /user/search",
        "GET /groups/picker",
        "GET /comment/{}/properties/sd.public.comment",
    },
}
"""Every resource that the connector calls."""


@dataclass(frozen=True)
class Exchange:
    method: str
    target: str
    sent: Any
    status: int
    answered: Any

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def resource(self) -> str:
        """Method and path with empty braces for what names one thing."""
        path = re.sub(r"^/rest/(api/2)?", "", self.path)
        path = re.sub(r"(?<=/)([0-9]+|[A-Z]+(-[0-9]+)?)(?=/|$)", "{}", path)
        return f"{self.method} {path}"


Run = tuple[str, list[Exchange]]


class Recorder(Wire):
    """Writes down what goes through. As on a real site, search shows only some of the comments."""

    def __init__(self, upstream: str) -> None:
        self.exchanges: list[Exchange] = []
        super().__init__(upstream)

    def forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any, bytes]:
        status, answered, content = super().forward(method, target, headers, body)
        is_json = "json" in (answered.get("Content-Type") or "")
        told = json.loads(content) if content and is_json else None
        if "/search" in target and status == 200:
            for issue in told["issues"] if isinstance(told, dict) else ():
                shown = issue["fields"].get("comment")
                issue["fields"] = {**issue["fields"], **({"comment": _cut(shown)} if shown else {})}
            content = json.dumps(told).encode()
        self.exchanges.append(Exchange(method, target, json.loads(body) if body else None, status, told))
        return status, answered, content


def _cut(comments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**comments, "comments": comments["comments"][:1]}


def read_everything(source: Connector, desk: Desk, more: Callable[..., Connector]) -> None:
    source.identify()
    assert isinstance(source.directory(), Directory)
    assert not isinstance(source.configuration("issue"), Gap)
    small = replace(WINDOW, page_size=4)
    for kind in ("issue", "approval", "sla"):
        pages = pulled(source, small, kind)
        assert pages[-1].closed
        pulled(source, replace(small, cursors={page.stream: page.cursor for page in pages}), kind)
    fields = {"approvals_field": "customfield_10213", "sla_fields": ["customfield_10214", "customfield_10215"]}
    for kind in ("approval", "sla"):
        pulled(more(**fields, approval_types=["10104", "10105"]), small, kind)
    with pytest.raises(Refused):
        pulled(more(projects=["ITSM", "NOPE"]))


def write_everything(target: Connector, assignee: str) -> None:
    first, second = (_done(target.write(_creation(f"K{n}", assignee))) for n in (1, 2))
    found, ours = target.find("K1"), target.ours(None)
    assert not isinstance(found, Gap)
    assert not isinstance(ours, Gap)
    assert ([first.id], {first.id, second.id}) == ([one.id for one in found], {one.id for one in ours})
    assert first == target.ticket(first.id)
    text = (Block("paragraph", "Seen"),)
    for write in (
        Write(Action.COMMENT, "K1", ticket=first.id, body=text),
        Write(Action.AMEND, "K1", ticket=first.id, summary="New", body=text, labels=("x",), properties={"n": 1}),
        Write(Action.LINK, "K1", ticket=first.id, link_to=second.id),
        Write(Action.TRANSITION, "K1", ticket=first.id, to_state="Confirmed"),
    ):
        _done(target.write(write))
    assert target.commented(first.id, "Seen")


def _creation(key: str, assignee: str) -> Write:
    body = (Block("heading", "What was required"), Block("paragraph", "A cause"))
    return Write(
        Action.CREATE, key, summary="Late", body=body, labels=("i",), properties={}, severity="S1", assignee=assignee
    )


def _done(outcome: Written | Gap) -> Ticket:
    assert isinstance(outcome, Written)
    assert outcome.ticket is not None
    assert () == tuple(outcome.dropped)
    return outcome.ticket


@pytest.fixture(params=["cloud", "datacenter"], scope="module")
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[Exchange]]]:
    """The edition, and all exchanges of the run."""
    desk = Desk(tmp_path_factory.mktemp("specs"), request.param, context="")
    issues = ({**INCIDENT, "comments": MANY}, PROBLEM, CHANGE, TASK, *others(9))
    simulator = desk.serve(*issues, comment_page="20", timezone="Australia/Sydney")
    spoil(simulator, NO_REQUEST)
    try:
        with Recorder(simulator.url) as wire:

            def connect(**options: Any) -> Connector:
                return desk.connect(simulator, url=wire.url, **options)

            read_everything(connect(), desk, connect)
            write_everything(connect(**TICKETS), MIA if request.param == "cloud" else "mia")
            service = {**TICKETS, "project": "ITSM", "issue_type": "[System] Change"}
            _comment_for_agents(connect(**service))
            yield request.param, wire.exchanges
    finally:
        simulator.stop()


def _comment_for_agents(target: Connector) -> None:
    ticket = target.write(Write(Action.CREATE, "K3", summary="Late", body=(), labels=(), properties={}))
    assert isinstance(ticket, Written)
    _done(target.write(Write(Action.COMMENT, "K3", ticket=ticket.id, body=(Block("paragraph", "Seen"),))))


@pytest.fixture(scope="module")
def judges(shared: Callable[[str], Path]) -> Mapping[str, Judge]:
    return {"cloud": OpenApi(shared(OpenApi.NAME)), "datacenter": Wadl(shared(Wadl.NAME))}


def test_the_run_calls_every_resource_of_the_connector_and_no_other(run: Run) -> None:
    edition, exchanges = run
    called = {each.resource for each in exchanges}
    assert set() == ALL[edition] ^ called


def test_what_is_sent_and_answered_is_documented(run: Run, judges: Mapping[str, Judge]) -> None:
    edition, exchanges = run
    version = "3" if edition == "cloud" else "2"
    judged = 0
    for each in exchanges:
        if not each.path.startswith((DESK_API, TENANT)):
            path = each.path.replace("/rest/api/2/", f"/rest/api/{version}/")
            judges[edition].request(each.method, path, each.sent)
            judged += judges[edition].response(each.method, path, each.status, _described(edition, each.answered))
    assert judged > len(ALL[edition])


def _described(edition: str, answered: Any) -> Any:
    """Without the properties of an issue, for which Data Center's document has the schema of an empty object."""
    if edition == "datacenter" and isinstance(answered, dict):
        return {name: value for name, value in answered.items() if name != "properties"}
    return answered


def test_what_is_asked_for_in_addresses_is_documented(run: Run, shared: Callable[[str], Path]) -> None:
    edition, exchanges = run
    known = _openapi(shared(OpenApi.NAME)) if edition == "cloud" else _wadl(shared(Wadl.NAME))
    asked = {
        (each.method, re.sub("^/rest/api/2", "", each.path), name)
        for each in exchanges
        for name, _ in parse_qsl(urlsplit(each.target).query)
        if not each.path.startswith((DESK_API, TENANT))
        # screens of creation are younger than Data Center's document, and one word stands in its prose alone
        if edition == "cloud" or not ("/createmeta/" in each.path or each.path.endswith("/transitions"))
    }
    assert asked
    assert [] == [one for one in sorted(asked) if not any(_documents(row, *one) for row in known)]


Documented = tuple[str, re.Pattern[str], set[str]]
"""Method, paths, and what may be asked for in the address."""


def _documents(row: Documented, method: str, path: str, name: str) -> bool:
    return row[0] == method and bool(row[1].fullmatch(path)) and name in row[2]


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", template))


def _openapi(path: Path) -> list[Documented]:
    document = json.loads(gzip.decompress(path.read_bytes()))
    return [
        (
            method.upper(),
            _pattern(template.removeprefix("/rest/api/3")),
            {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"},
        )
        for template, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def _wadl(path: Path) -> list[Documented]:
    found: list[Documented] = []

    def read(resource: ElementTree.Element, above: str) -> None:
        here = f"{above}/{resource.get('path', '').strip('/')}".rstrip("/")
        for method in resource.findall(f"{WADL}method"):
            names = {str(one.get("name")) for one in method.iter(f"{WADL}param") if one.get("style") == "query"}
            found.append((str(method.get("name")), _pattern(here.removeprefix("/api/2")), names))
        for inner in resource.findall(f"{WADL}resource"):
            read(inner, here)

    for resource in ElementTree.fromstring(gzip.decompress(path.read_bytes())).iter(f"{WADL}resources"):
        for each in resource.findall(f"{WADL}resource"):
            read(each, "")
    return found
