"""The Jira plug-in against the simulated site: forms of text, tickets, and everything a site can answer wrongly."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.jira.connector import PLUGIN
from connectors.jira.simulator import Simulator, serve
from connectors.jira.texts import BODY_LIMIT, SUMMARY_LIMIT, escaped, markup, plain, summary
from connectors.jira.translate import PROPERTY, key_label, millis
from itsms_sync.connector import Access, Connector, Refused, Unavailable
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.records import Action, Block, Gap, Gone, Item, Ticket, Window, Write, Written
from tests.connectors.odd_site import OddSite

KEY = "INC-I5-WORK.all.g1"
TOKEN = "ATATT3xFfGF0-not-a-real-token"
LOGINS = {"cloud": ("bot@example.com", TOKEN), "datacenter": ("bot", TOKEN)}
SITE = """
fields:
  - {id: customfield_10050, name: Cause, type: string}
  - {id: customfield_10051, name: Area, type: option, options: [Network, Desk]}
workflows:
  Strict workflow:
    statuses: {Open: To Do, Closed: Done, Void: Done}
    transitions:
      - {name: Close, from: [Open], to: Closed, screen: {resolution: required, customfield_10050: required}}
      - {name: Void it, from: [Open], to: Void, screen: {resolution: required}}
projects:
  - key: DESK
    type: service_desk
    issue_types:
      - name: Task
        workflow: Task workflow
        create: {summary: required, description: optional, labels: optional}
  - key: STRICT
    issue_types:
      - name: Task
        workflow: Strict workflow
        create: {summary: required, labels: optional, customfield_10051: required}
        edit: {summary: required}
  - key: BARE
    issue_types: [{name: Task, workflow: Task workflow, create: {summary: required, description: optional}}]
"""


class Pseudonyms:
    def person(self, form: str, identifier: str) -> str:
        return f"{form}:{identifier}"

    def text(self, value: str) -> str:
        return "text:" + value


class Vault:
    """Where the credential lies; may be exchanged while the program runs."""

    def __init__(self) -> None:
        self.held: Mapping[str, str] = {"username": "bot@example.com", "token": TOKEN}

    def __call__(self) -> Mapping[str, str]:
        return self.held


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture(params=["cloud", "datacenter"])
def edition(request: pytest.FixtureRequest) -> str:
    """What does not depend on the edition holds for both."""
    return str(request.param)


@pytest.fixture
def jira(tmp_path: Path, edition: str, vault: Vault) -> Iterator[Simulator]:
    vault.held = {"username": LOGINS[edition][0], "token": TOKEN}
    data = tmp_path / "site.yaml"
    data.write_text(SITE, "utf-8")
    simulator = serve(data=[data], options={"token": TOKEN, "edition": edition})
    yield simulator
    simulator.stop()


Connect = Callable[..., Connector]


def access(url: str, vault: Vault, kind: type[Http] = Http, **options: Any) -> Access:
    limits = Limits(total_s=5, write_total_s=1.5, attempts=3, backoff_s=0.01, max_retry_after_s=2)
    http = kind(limits=limits, transport=Transport(), monotonic=time.monotonic, sleep=lambda seconds: None, stop=Stop())
    given = PLUGIN.check_options({"project": "CAPA", "issue_type": "Corrective action", **options})
    return Access("capa", url, given, http, Pseudonyms(), vault)


@pytest.fixture
def connect(jira: Simulator, vault: Vault) -> Connect:
    return lambda **options: PLUGIN.connect(access(jira.url, vault, **options))


@pytest.fixture
def target(connect: Connect) -> Connector:
    return connect()


def creation(**changes: Any) -> Write:
    body = (
        Block("heading", "What was required"),
        Block("paragraph", "Priority {code}1{code} within *4 h*"),
        Block("bullets", items=(Item("INC1|2", "https://sn.example/nav?x=1", " – late"), Item("INC2", "https://sn/2"))),
    )
    return replace(
        Write(
            Action.CREATE,
            KEY,
            summary="Incidents are resolved late",
            body=body,
            labels=("incident",),
            properties={"generation": 1, "evidence": "sha256:00"},
            severity="S1",
        ),
        **changes,
    )


def created(target: Connector, **changes: Any) -> Ticket:
    return ticket_of(written(target, creation(**changes)))


def written(target: Connector, write: Write) -> Written:
    outcome = target.write(write)
    assert isinstance(outcome, Written)
    return outcome


def ticket_of(outcome: Written) -> Ticket:
    assert outcome.ticket is not None
    return outcome.ticket


def found(target: Connector, key: str = KEY) -> Sequence[Ticket]:
    tickets = target.find(key)
    assert not isinstance(tickets, Gap)
    return tickets


def ledger(jira: Simulator) -> Mapping[str, Any]:
    books: Mapping[str, Any] = requests.get(jira.url + "/_sim/ledger", timeout=5).json()
    return books


def spoil(jira: Simulator, *rules: Mapping[str, Any]) -> None:
    assert 201 == requests.post(jira.url + "/_sim/faults", json=rules, timeout=5).status_code


def login(jira: Simulator) -> tuple[str, str]:
    """As the site accepts it."""
    says = requests.get(f"{jira.url}/rest/api/2/serverInfo", timeout=5).json()["deploymentType"]
    return LOGINS["cloud" if says == "Cloud" else "datacenter"]


def ask(jira: Simulator, path: str, **query: Any) -> Any:
    return requests.get(f"{jira.url}/rest/api/2/{path}", params=query, auth=login(jira), timeout=5).json()


# --- text -------------------------------------------------------------------------------------------------------------

_PROTECTED = "-#*_+?^~|%{}[]()!@"
_LEADING = re.compile(r"(bq\.|h[1-6]\.|-{2,5}(\s|$)|([*#]+|-) |\|)")
_MACRO = r"\{(?i:adf|anchor|code|quote|noformat|panel|color|lorem)"
_KEYWORD = re.compile(rf"[\[!+*^~_-]|mailto:|\\\\|\{{\{{|\?\?|{_MACRO}")
_SMILEY = re.compile(r"[:;]-?\)|:-?\(|:-?[PpD]|\((y|n|i|/|x|!|\+|-|\?|on|off|\*[rgby]?|flag|flagoff)\)")
_ADDRESS = re.compile(r"(https?|irc)://[A-Za-z0-9_.?/\\#-=]+")


def shown(line: str) -> str:
    """What Jira Cloud's parser shows of one line; fails where it would do anything but show.

    Follows that parser's own rules: keywords at the start of a line and anywhere, a backslash that protects a fixed
    set of signs unless another one stands before it, addresses read to their end.
    """
    line = line.lstrip()
    assert not _LEADING.match(line), f"acts at its start: {line!r}"
    text, at = "", 0
    while at < len(line):
        if address := _ADDRESS.match(line, at):
            text, at = text + address[0], address.end()
            assert "\\" not in address[0]
            continue
        assert not _KEYWORD.match(line, at), f"acts: {line[at:]!r}"
        assert not _SMILEY.match(line, at), f"a smiley: {line[at:]!r}"
        if line[at] == "\\":
            follows = line[at + 1 : at + 2]
            protects = follows in _PROTECTED and line[at - 1 : at] != "\\"
            text, at = text + ("" if protects else "\\") + follows, at + 2
        else:
            text, at = text + line[at], at + 1
    return text.replace("\u2060", "")


_SIGNS = "{}[]|*_-#!\\~^+?%()@:;.,/ \tDPphb1bq~x"
_PIECES = ("{code}", "{{", "[~x]", "[a|http://b]", "!x.png!", "||a||", "----", "- ", "# ", "h1.", "bq.", "*b*", "??")
_MORE = (
    ":)",
    ":-D",
    ";)",
    "(y)",
    "(*r)",
    "\\\\",
    "\\",
    "http://",
    "https://a.b/c_d-e",
    "mailto:",
    "irc://x",
    " ",
    "a",
    "\n",
)
markup_like = st.text(st.one_of(st.sampled_from(_SIGNS), st.characters(exclude_characters="\u2060"))) | st.lists(
    st.sampled_from((*_PIECES, *_MORE))
).map("".join)


def expected(text: str) -> list[str]:
    """What a reader should see: the lines, without outer blanks and empty ones."""
    return [line.strip() for line in plain(text).split("\n") if line.strip()]


@given(markup_like)
@example("\\http://a_b_ c")
@example("http://[x] http://_y_")
@example("https://x/y(1)*z*")
def test_prose_is_shown_and_never_acts(text: str) -> None:
    seen = [shown(line) for line in markup([Block("paragraph", text)]).text.split("\n")]
    assert expected(text) == [line for line in seen if line.strip()]


@given(markup_like)
def test_headings_and_bullets_are_one_line_each(text: str) -> None:
    lines = markup([Block("heading", text), Block("bullets", items=(Item(text), Item("end")))]).text.split("\n")
    one_line = " ".join(plain(text).split())
    heads = [shown(line.removeprefix("h3. ")) for line in lines if line.startswith("h3. ")]
    items = [" ".join(shown(line.removeprefix("* ")).split()) for line in lines if line.startswith("* ")]
    assert [one_line] * bool(one_line) == heads
    assert [one_line] * bool(one_line) + ["end"] == items


@given(markup_like, markup_like)
def test_links_lead_where_they_should(label: str, note: str) -> None:
    address = "https://sn.example/nav_to.do?uri=incident.do%3Fsys_id=1&x=(a)"
    line = markup([Block("bullets", items=(Item(label, address, note),))]).text.removeprefix("* ")
    parts = re.fullmatch(r"(?s)(.*?)\[(?:([^\[\]|]*)\|)?(https://[^\[\]|]*)\](.*)", line)
    assert parts is not None
    assert "https://sn.example/nav_to.do?uri=incident.do%3Fsys_id=1&x=%28a%29" == parts[3]
    before = shown(parts[2]) if parts[2] is not None else shown(parts[1])
    assert " ".join(plain(label).split()) == " ".join(before.split())
    assert " ".join(plain(note).split()) == " ".join(shown("x" + parts[4])[1:].split())


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("javascript:alert(1)", "* x note"),
        (None, "* x note"),
        ("https://h/a b]|{x}~", "* [x|https://h/a%20b%5D%7C%7Bx%7D%7E] note"),
    ],
)
def test_only_web_addresses_become_links(url: str | None, line: str) -> None:
    assert line == markup([Block("bullets", items=(Item("x", url, " note"),))]).text


def test_blocks_look_as_they_should() -> None:
    text = markup(
        [
            Block("heading", "Cause"),
            Block("paragraph", "one\ntwo\n\n2026-11-21 a\\b"),
            Block("bullets", items=(Item("INC1", "https://x/1", " – late"),)),
        ]
    ).text
    assert "h3. Cause\n\none\ntwo\n\n2026\\-11\\-21 a\\b\n\n* [INC1|https://x/1] – late" == text


@given(st.lists(st.text(st.sampled_from("a *é😀\\\n"), min_size=1, max_size=300), max_size=6), st.integers(200, 900))
def test_a_long_body_is_cut_and_says_so(texts: list[str], limit: int) -> None:
    blocks = [Block("paragraph", text) for text in texts]
    whole, cut = markup(blocks), markup(blocks, limit)
    assert limit >= len(cut.text.encode("utf-16-le")) // 2
    assert (len(whole.text.encode("utf-16-le")) // 2 > limit) == cut.cut
    if cut.cut:
        kept, _, note = cut.text.rpartition("\n\n")
        assert f"This text was cut here: a ticket holds {limit} characters at most." == note
        assert whole.text.startswith(kept)
        assert [] == [line for line in kept.split("\n") if re.search(r"\\+$", line)]


def test_a_body_at_the_limit_is_whole() -> None:
    assert (BODY_LIMIT, False) == (len(markup([Block("paragraph", "a" * BODY_LIMIT)]).text), False)
    assert markup([Block("paragraph", "a" * (BODY_LIMIT + 1))]).cut


@given(st.text(st.sampled_from("a 😀\n\x00\ud800"), max_size=600))
def test_a_summary_is_one_line_within_the_limit(text: str) -> None:
    line = summary(text)
    assert SUMMARY_LIMIT >= len(line.text.encode("utf-16-le")) // 2
    assert "\n" not in line.text
    assert line.cut == line.text.endswith("… (cut)")
    line.text.encode()


def test_stamps_are_absolute() -> None:
    assert millis("2026-11-21T10:00:00.250+0000") == millis("2026-11-21T02:00:00.250-0800") == 1795255200250
    assert millis(None) is None


def test_escaping_does_not_touch_plain_words() -> None:
    assert "Größe 5 (approx.) see https://x.y/a_b-c?d=e, ok" == escaped(
        "Größe 5 (approx.) see https://x.y/a_b-c?d=e, ok"
    ).replace("\\", "")


# --- creating and finding ---------------------------------------------------------------------------------------------


def test_a_ticket_is_created_and_read_back(jira: Simulator, target: Connector) -> None:
    outcome = written(target, creation())
    ticket = ticket_of(outcome)
    assert () == outcome.dropped
    assert ("CAPA-1", jira.url + "/browse/CAPA-1", KEY) == (ticket.label, ticket.url, ticket.key)
    assert ("Incidents are resolved late", "Detected", False) == (ticket.summary, ticket.state, ticket.done)
    assert {"generation": 1, "evidence": "sha256:00"} == ticket.properties
    assert {key_label(KEY), "incident"} == set(ticket.labels)
    assert ticket.created is not None
    assert 60_000 > abs(time.time() * 1000 - ticket.created)
    issue = ask(jira, "issue/CAPA-1", properties=PROPERTY)
    assert {"key": KEY, "generation": 1, "evidence": "sha256:00"} == issue["properties"][PROPERTY]
    assert "Highest" == issue["fields"]["priority"]["name"]
    assert [replace(ticket, digests={})] == [replace(one, digests={}) for one in found(target)]
    assert 1 == ledger(jira)["created"]


def test_people_see_the_text_and_no_macro(jira: Simulator, target: Connector) -> None:
    page = requests.get(created(target).url, timeout=5).text
    assert "Priority {code}1{code} within *4 h*" in page
    assert "INC1|2" in page
    assert '<a href="https://sn.example/nav?x=1">' in page
    assert '<a href="https://sn/2">INC2</a>' in page


def test_find_is_exact_and_oldest_first(jira: Simulator, connect: Connect) -> None:
    target = connect(labels=["itsms"])
    first = created(target)
    second = created(target)
    clone = requests.post(
        f"{jira.url}/rest/api/2/issue",
        json={
            "fields": {
                "project": {"key": "CAPA"},
                "issuetype": {"name": "Corrective action"},
                "summary": "CLONE",
                "labels": [key_label(KEY)],
            }
        },
        auth=login(jira),
        timeout=5,
    )
    assert 201 == clone.status_code
    created(target, key="INC-I5-WORK.all.g2")
    assert [first.id, second.id] == [one.id for one in found(target)]
    assert "itsms" in first.labels
    assert [] == list(found(target, "PRB-P1.all.g1"))


def test_find_reads_all_pages(connect: Connect, jira: Simulator) -> None:
    target = connect()
    for _ in range(103):
        requests.post(
            f"{jira.url}/rest/api/2/issue",
            json={
                "fields": {
                    "project": {"key": "CAPA"},
                    "issuetype": {"name": "Task"},
                    "summary": "x",
                    "labels": [key_label(KEY)],
                },
                "properties": [{"key": PROPERTY, "value": {"key": KEY}}],
            },
            auth=login(jira),
            timeout=5,
        )
    assert 103 == len(found(target))


def ours(target: Connector, since: int | None = None) -> list[Ticket]:
    tickets = target.ours(since)
    assert not isinstance(tickets, Gap)
    return list(tickets)


def _keep(jira: Simulator, number: int, **fields: Any) -> str:
    """A ticket of ours, made by the site's own interface; its id."""
    body = {
        "fields": {"project": {"key": "CAPA"}, "issuetype": {"name": "Task"}, "summary": "x", **fields},
        "properties": [{"key": PROPERTY, "value": {"key": f"R.{number}.g1"}}],
    }
    answer = requests.post(f"{jira.url}/rest/api/2/issue", json=body, auth=login(jira), timeout=5)
    return str(answer.json()["id"])


def test_ours_are_all_listed_over_pages_and_minutes(connect: Connect, jira: Simulator) -> None:
    """More within a minute than a page holds, and more after it."""
    target = connect()
    made = [_keep(jira, number) for number in range(120)]
    requests.post(jira.url + "/_sim/clock", json={"advance": 600}, timeout=5)
    made += [_keep(jira, number) for number in range(120, 135)]
    assert made == [one.id for one in ours(target)]
    assert [f"R.{number}.g1" for number in range(135)] == [one.key for one in ours(target)]


def test_ours_leaves_out_what_carries_no_key(connect: Connect, jira: Simulator) -> None:
    target = connect()
    body = {"fields": {"project": {"key": "CAPA"}, "issuetype": {"name": "Task"}, "summary": "by hand"}}
    requests.post(f"{jira.url}/rest/api/2/issue", json=body, auth=login(jira), timeout=5)
    made = created(target)
    assert [made.id] == [one.id for one in ours(target)]


def test_a_ticket_without_its_property_is_known_by_its_label(connect: Connect, jira: Simulator) -> None:
    target = connect()
    made = created(target)
    requests.delete(f"{jira.url}/rest/api/2/issue/{made.id}/properties/{PROPERTY}", auth=login(jira), timeout=5)
    assert [(made.id, None)] == [(one.id, one.key) for one in ours(target)]


def test_a_ticket_that_people_moved_is_still_ours(connect: Connect, jira: Simulator) -> None:
    target = connect()
    made = created(target)
    requests.post(jira.url + "/_sim/move", json={"issue": made.label, "project": "DESK"}, timeout=5)
    moved = target.ticket(made.id)
    assert isinstance(moved, Ticket)
    assert (made.id, KEY, "CAPA", "DESK") == (moved.id, moved.key, made.place, moved.place)
    assert moved.label.startswith("DESK-")
    assert [(made.id, moved.label)] == [(one.id, one.label) for one in ours(target)]


def test_a_ticket_that_was_deleted_is_unseen(connect: Connect, jira: Simulator) -> None:
    """Jira answers alike for what it has not and what it does not show."""
    target = connect()
    made = created(target)
    requests.delete(f"{jira.url}/rest/api/2/issue/{made.id}", auth=login(jira), timeout=5)
    gone = target.ticket(made.id)
    assert isinstance(gone, Gone)
    assert "unseen" == gone.reason
    assert [] == ours(target)


def test_a_dead_login_makes_no_ticket_gone(connect: Connect, jira: Simulator, vault: Vault) -> None:
    target = connect()
    made = created(target)
    vault.held = {**vault.held, "token": "expired"}
    for call in (lambda: connect().ticket(made.id), lambda: ours(connect())):
        with pytest.raises(Refused):
            call()


def test_an_owner_who_cannot_be_assigned_leaves_the_ticket_unassigned(connect: Connect) -> None:
    outcome = written(connect(), creation(assignee="nobody-of-this-name"))
    assert outcome.unassigned
    assert not written(connect(), creation()).unassigned


def test_search_lags_and_says_by_how_much(vault: Vault) -> None:
    simulator = serve(options={"token": TOKEN, "search_lag": "30"})
    try:
        target = PLUGIN.connect(access(simulator.url, vault, index_lag=30))
        made = created(target)
        assert [] == list(found(target))
        requests.post(simulator.url + "/_sim/clock", json={"advance": target.index_lag}, timeout=5)
        assert [made.id] == [one.id for one in found(target)]
    finally:
        simulator.stop()


def test_labels_off_the_create_screen_are_refused(jira: Simulator, connect: Connect) -> None:
    with pytest.raises(Refused, match="add the field Labels to that screen"):
        connect(project="BARE", issue_type="Task").write(creation())
    assert 0 == ledger(jira)["created"]


def test_required_fields_are_named_and_can_be_given(jira: Simulator, connect: Connect) -> None:
    with pytest.raises(Refused, match=r"requires customfield_10051 \(Area\).*option fields"):
        connect(project="STRICT", issue_type="Task").write(creation())
    assert 0 == ledger(jira)["created"]
    outcome = written(
        connect(project="STRICT", issue_type="Task", fields={"customfield_10051": {"value": "Desk"}}), creation()
    )
    assert KEY == ticket_of(outcome).key
    assert [
        "the field description is not on the create screen of Task in STRICT: add it there",
        "the field priority is not on the create screen of Task in STRICT: add it there",
    ] == sorted(outcome.dropped)


def test_a_wrong_value_is_refused_with_the_field_named(connect: Connect) -> None:
    with pytest.raises(Refused, match="customfield_10051: Option value 'Moon' is not valid"):
        connect(project="STRICT", issue_type="Task", fields={"customfield_10051": {"value": "Moon"}}).write(creation())


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"issue_type": "Epic"}, "it has Corrective action, Task; correct the option issue_type"),
        ({"project": "NOPE"}, "Browse Projects"),
    ],
)
def test_a_wrong_place_is_refused(connect: Connect, options: dict[str, Any], hint: str) -> None:
    with pytest.raises(Refused, match=hint):
        connect(**options).write(creation())


def test_what_cannot_be_set_is_told(connect: Connect) -> None:
    outcome = written(
        connect(severity_priority={"S1": "Blocker"}),
        creation(summary="long " * 60, assignee="5b10ac8d82e05b22cc7d4e05"),
    )
    assert [
        "nobody is assigned: the account wanted does not exist or has no right to be assigned",
        "the summary was longer than Jira allows and was cut",
        "there is no priority Blocker, only Highest, High, Medium, Low, Lowest: see severity_priority",
    ] == sorted(outcome.dropped)
    assert ticket_of(outcome).summary.endswith("… (cut)")
    assert ("the severity S9 has no priority: name one in the option severity_priority",) == written(
        connect(), creation(severity="S9")
    ).dropped


def test_a_person_is_assigned(jira: Simulator, target: Connector, edition: str) -> None:
    account = "5b10ac8d82e05b22cc7d4e03"
    form, wanted = ("accountId", account) if edition == "cloud" else ("name", user_name(jira))
    outcome = written(target, creation(assignee=wanted))
    assert () == outcome.dropped
    assert wanted == ask(jira, f"issue/{outcome.id}")["fields"]["assignee"][form]


def user_name(jira: Simulator) -> str:
    """Of somebody on Data Center who can be assigned."""
    people = ask(jira, "user/assignable/search", project="CAPA", username=".")
    return next(str(each["name"]) for each in people if each["name"] != "bot")


def test_facts_that_are_too_large_are_refused_before_sending(jira: Simulator, target: Connector) -> None:
    with pytest.raises(Refused, match="larger than Jira's 32768"):
        target.write(creation(properties={"x": "y" * 32_768}))
    assert 0 == ledger(jira)["created"]


def test_the_screen_is_read_once(jira: Simulator, target: Connector) -> None:
    for _ in range(3):
        created(target)
    asked = ledger(jira)["requests"]["GET"]
    assert 1 == asked["/rest/api/2/issue/createmeta/{projectIdOrKey}/issuetypes/{issueTypeId}"]
    assert 1 == asked["/rest/api/2/myself"]
    assert 3 == asked["/rest/api/2/issue/{issueIdOrKey}"]


# --- unclear and failed writes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", ["drop_after", "truncate", "status", "html_200"])
@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_lost_answer_is_unclear_and_the_ticket_exists_once(
    jira: Simulator, target: Connector, do: str, status: int
) -> None:
    told = {"status": status} if do == "status" else {}
    spoil(jira, {"method": "POST", "path": "/issue$", "do": do, **told})
    with pytest.raises(Unavailable) as caught:
        target.write(creation())
    assert caught.value.sent
    acted = do in ("drop_after", "truncate")
    assert (1, acted) == (ledger(jira)["requests"]["POST"]["/rest/api/2/issue"], bool(ledger(jira)["created"]))
    assert int(acted) == len(found(target))


def test_silence_after_sending_is_unclear(jira: Simulator, connect: Connect) -> None:
    spoil(jira, {"method": "POST", "path": "/issue$", "do": "delay", "after": True, "seconds": 2})
    with pytest.raises(Unavailable, match="no complete answer") as caught:
        connect().write(creation())
    assert caught.value.sent


def test_too_many_requests_is_surely_not_sent(jira: Simulator, target: Connector) -> None:
    spoil(jira, {"method": "POST", "path": "/issue$", "do": "status", "status": 429, "headers": {"Retry-After": "7"}})
    with pytest.raises(Unavailable) as caught:
        target.write(creation())
    assert (False, 7.0) == (caught.value.sent, caught.value.retry_after)


def test_a_site_that_is_gone_is_surely_not_sent(jira: Simulator, target: Connector) -> None:
    created(target)
    jira.stop()
    with pytest.raises(Unavailable) as caught:
        target.write(creation())
    assert not caught.value.sent


@pytest.mark.parametrize("do", ["status", "drop_before", "html_200"])
def test_an_acknowledged_write_survives_a_failed_reading_back(jira: Simulator, target: Connector, do: str) -> None:
    spoil(jira, {"method": "GET", "path": "/issue/1000", "do": do, "times": 9})
    outcome = written(target, creation())
    assert ("CAPA-1", None) == (outcome.label, outcome.ticket)
    assert outcome.dropped[0].startswith("could not be read back: ")


class StoppedWhileWriting(Http):
    """The order to stop comes while the write is under way."""

    def writing(self, call: Callable[[], Any]) -> Any:
        def stopped() -> Any:
            self.stop.request()
            return call()

        return super().writing(stopped)


def test_an_order_to_stop_does_not_lose_an_acknowledged_write(jira: Simulator, vault: Vault) -> None:
    target = PLUGIN.connect(access(jira.url, vault, StoppedWhileWriting))
    outcome = written(target, creation())
    assert ("CAPA-1", ("could not be read back: we were asked to stop",)) == (outcome.label, outcome.dropped)


def test_a_read_is_repeated(jira: Simulator, target: Connector) -> None:
    created(target)
    spoil(jira, {"method": "POST", "path": "/search", "do": "status", "status": 503, "times": 2})
    assert 1 == len(found(target))


@pytest.mark.parametrize("do", ["status", "html_200", "truncate", "drop_before"])
def test_a_read_that_fails_is_unavailable(jira: Simulator, target: Connector, do: str) -> None:
    spoil(jira, {"path": "/search", "do": do, "times": 99})
    with pytest.raises(Unavailable) as caught:
        target.find(KEY)
    assert not caught.value.sent


@pytest.fixture
def odd() -> Iterator[Callable[[Mapping[str, Any]], OddSite]]:
    running: list[OddSite] = []

    def start(answers: Mapping[str, Any]) -> OddSite:
        cloud = {"deploymentType": "Cloud", "version": "1001", "baseUrl": "https://acme.example"}
        running.append(OddSite({"GET myself": {"accountId": "a"}, "GET serverInfo": cloud, **answers}))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def test_a_walk_that_repeats_its_token_ends(odd: Callable[[Mapping[str, Any]], OddSite], vault: Vault) -> None:
    site = odd({"POST search/jql": {"issues": [], "isLast": False, "nextPageToken": "again"}})
    with pytest.raises(Unavailable, match="do not end"):
        PLUGIN.connect(access(site.url, vault)).find(KEY)


def test_an_empty_answer_that_does_not_confirm_the_login_is_checked(
    odd: Callable[[Mapping[str, Any]], OddSite], vault: Vault
) -> None:
    site = odd({"POST search/jql": {"issues": [], "isLast": True}})
    assert [] == list(found(PLUGIN.connect(access(site.url, vault))))
    assert ["myself", "serverInfo", "search/jql", "myself"] == site.paths()


@pytest.mark.parametrize("strange", [[], {}, {"issues": [{"id": "1"}]}, {"issues": None}, "x", None])
def test_json_of_another_form_is_unavailable(
    odd: Callable[[Mapping[str, Any]], OddSite], vault: Vault, strange: Any
) -> None:
    site = odd({"POST search/jql": strange, "GET serverInfo": strange})
    target = PLUGIN.connect(access(site.url, vault))
    with pytest.raises(Unavailable, match="documented form"):
        target.find(KEY)


def test_through_the_gateway_people_are_sent_to_the_site(
    odd: Callable[[Mapping[str, Any]], OddSite], vault: Vault
) -> None:
    fields = {"summary": "x", "status": {"id": "1", "name": "Open", "statusCategory": {"key": "new"}}}
    site = odd(
        {
            "GET serverInfo": {"deploymentType": "Cloud", "baseUrl": "https://acme.example"},
            "POST search/jql": {
                "issues": [{"id": "7", "key": "CAPA-7", "fields": fields, "properties": {PROPERTY: {"key": KEY}}}],
                "isLast": True,
            },
        }
    )
    target = PLUGIN.connect(access(site.url + "/ex/jira/0c1d", vault))
    assert ["https://acme.example/browse/CAPA-7"] == [one.url for one in found(target)]
    assert "https://acme.example#0c1d" == target.identify().instance


@pytest.mark.parametrize(("says", "is_meant"), [("Server", "cloud"), ("Cloud", "datacenter")])
def test_another_edition_than_the_one_named_is_refused(
    odd: Callable[[Mapping[str, Any]], OddSite], vault: Vault, says: str, is_meant: str
) -> None:
    site = odd({"GET serverInfo": {"deploymentType": says, "version": "9.12.5"}})
    with pytest.raises(Refused, match=f"not {is_meant}, as the option deployment says"):
        PLUGIN.connect(access(site.url, vault, deployment=is_meant)).identify()


def test_every_write_carries_the_header_against_forged_requests(
    odd: Callable[[Mapping[str, Any]], OddSite], vault: Vault
) -> None:
    status = {"id": "1", "name": "Open", "statusCategory": {"key": "new"}}
    site = odd(
        {
            "GET issue/1": {"id": "1", "key": "CAPA-1", "fields": {"status": status}},
            "POST issue/1/comment": {"id": "2", "jsdPublic": False},
        }
    )
    write = Write(Action.COMMENT, KEY, ticket="1", body=(Block("paragraph", "x"),))
    assert () == written(PLUGIN.connect(access(site.url, vault)), write).dropped
    assert ["no-check"] == [each.headers["X-Atlassian-Token"] for each in site.asked if each.method == "POST"]


# --- the login --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda target: target.identify(),
        lambda target: target.find(KEY),
        lambda target: target.write(creation()),
    ],
)
def test_a_dead_token_is_refused_and_never_an_empty_answer(
    connect: Connect, vault: Vault, call: Callable[[Connector], Any]
) -> None:
    vault.held = {**vault.held, "token": "dead-token-of-last-year"}
    with pytest.raises(Refused, match="check user name and API token") as caught:
        call(connect())
    assert "dead-token" not in str(caught.value)


def test_a_token_that_dies_later_is_noticed(target: Connector, jira: Simulator, vault: Vault) -> None:
    created(target)
    spoil(
        jira,
        *(
            {"path": path, "do": "status", "status": 401, "times": 99, "headers": {"X-Seraph-LoginReason": reason}}
            for path, reason in [("/myself", "AUTHENTICATED_FAILED"), ("/search", "AUTHENTICATION_DENIED")]
        ),
    )
    with pytest.raises(Refused):
        target.find(KEY)


def test_an_exchanged_token_is_read_again(jira: Simulator, connect: Connect, vault: Vault) -> None:
    good = vault.held
    vault.held = {**good, "token": "of-yesterday"}
    target = connect()
    with pytest.raises(Refused):
        target.find(KEY)
    vault.held = good
    assert 0 == len(found(target))
    assert KEY == created(target).key


def test_secrets_and_addresses_with_them_stay_out_of_messages(jira: Simulator, connect: Connect, vault: Vault) -> None:
    spoil(jira, {"path": "/myself", "do": "drop_before", "times": 9})
    with pytest.raises(Unavailable) as caught:
        connect().identify()
    assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    vault.held = {"username": "bot@example.com"}
    with pytest.raises(Refused, match="name an API token"):
        connect().identify()


# --- later writes -----------------------------------------------------------------------------------------------------


def later(action: Action, ticket: Ticket, **rest: Any) -> Write:
    return Write(action, KEY, ticket=ticket.id, **rest)


def test_a_comment_is_escaped(jira: Simulator, target: Connector) -> None:
    ticket = created(target)
    outcome = written(target, later(Action.COMMENT, ticket, body=(Block("paragraph", "[~admin] {color:red}x"),)))
    assert (ticket, ()) == (replace(ticket_of(outcome), updated=ticket.updated), outcome.dropped)
    comments = ask(jira, f"issue/{ticket.id}/comment")["comments"]
    assert ["\\[\\~admin\\] \\{color:red\\}x"] == [each["body"] for each in comments]
    assert [] == [each for each in comments if is_internal(jira, each)]


def is_internal(jira: Simulator, comment: Mapping[str, Any]) -> bool:
    """Cloud says it in the comment, Data Center in a property of it."""
    if "jsdPublic" in comment:
        return not comment["jsdPublic"]
    told = ask(jira, f"comment/{comment['id']}/properties/sd.public.comment")
    return bool(told.get("value", {}).get("internal"))


def test_a_comment_in_a_service_desk_is_internal(jira: Simulator, connect: Connect) -> None:
    target = connect(project="DESK", issue_type="Task")
    ticket = created(target)
    outcome = written(target, later(Action.COMMENT, ticket, body=(Block("paragraph", "not for customers"),)))
    assert () == outcome.dropped
    assert [True] == [is_internal(jira, each) for each in ask(jira, f"issue/{ticket.id}/comment")["comments"]]


@pytest.mark.parametrize("edition", ["datacenter"])
def test_a_comment_that_may_be_public_is_told(jira: Simulator, connect: Connect) -> None:
    target = connect(project="DESK", issue_type="Task")
    ticket = created(target)
    spoil(jira, {"path": "/properties/sd.public.comment", "do": "status", "status": 404, "times": None})
    outcome = written(target, later(Action.COMMENT, ticket, body=(Block("paragraph", "not for customers"),)))
    assert 1 == len(outcome.dropped)
    assert "whether the comment is internal" in outcome.dropped[0]


def test_amending_changes_only_what_is_given(jira: Simulator, target: Connector) -> None:
    ticket = created(target)
    before = ask(jira, f"issue/{ticket.id}")["fields"]
    outcome = written(target, later(Action.AMEND, ticket, labels=("drift",), properties={"generation": 1, "n": 2}))
    now, after = ticket_of(outcome), ask(jira, f"issue/{ticket.id}")["fields"]
    assert () == outcome.dropped
    assert {*ticket.labels, "drift"} == set(now.labels)
    assert ({"generation": 1, "n": 2}, KEY) == (now.properties, now.key)
    assert (before["summary"], before["description"]) == (after["summary"], after["description"])
    changed = written(target, later(Action.AMEND, ticket, summary="New", body=(Block("paragraph", "text"),)))
    assert ("New", {"generation": 1, "n": 2}) == (ticket_of(changed).summary, ticket_of(changed).properties)
    assert "text" == ask(jira, f"issue/{ticket.id}")["fields"]["description"]


def test_amending_nothing_sends_nothing(jira: Simulator, target: Connector) -> None:
    ticket = created(target)
    assert ticket == written(target, later(Action.AMEND, ticket)).ticket
    assert "PUT" not in ledger(jira)["requests"]


def test_what_is_not_on_the_edit_screen_is_told(connect: Connect) -> None:
    target = connect(project="STRICT", issue_type="Task", fields={"customfield_10051": {"value": "Desk"}})
    ticket = created(target)
    outcome = written(target, later(Action.AMEND, ticket, summary="New", labels=("a",), severity="S2"))
    assert [
        "the field priority is not on the edit screen of STRICT-1: add it there",
        "the labels are not on the edit screen",
    ] == sorted(outcome.dropped)
    assert "New" == ticket_of(outcome).summary


def test_tickets_are_linked_once(jira: Simulator, target: Connector) -> None:
    first, second = created(target), created(target)
    for _ in range(2):
        assert () == written(target, later(Action.LINK, first, link_to=second.id)).dropped
    links = ask(jira, f"issue/{first.id}")["fields"]["issuelinks"]
    assert [("Relates", second.label)] == [(each["type"]["name"], each["outwardIssue"]["key"]) for each in links]


def test_a_link_to_nowhere_or_of_an_unknown_type_is_refused(connect: Connect) -> None:
    ticket = created(connect())
    with pytest.raises(Refused, match=r"(?i)issue does not exist"):
        connect().write(later(Action.LINK, ticket, link_to="99999"))
    with pytest.raises(Refused, match="No issue link type with name 'Causes'"):
        connect(link_type="Causes").write(later(Action.LINK, ticket, link_to=ticket.id))


def test_a_ticket_is_moved_by_name_and_by_id(jira: Simulator, target: Connector) -> None:
    ticket = created(target)
    assert "Confirmed" == ticket_of(written(target, later(Action.TRANSITION, ticket, to_state="confirmed"))).state
    steps = ask(jira, f"issue/{ticket.id}/transitions")["transitions"]
    containing = next(step["id"] for step in steps if step["to"]["name"] == "Contained and corrected")
    moved = ticket_of(written(target, later(Action.TRANSITION, ticket, to_state=containing)))
    assert ("Contained and corrected", False) == (moved.state, moved.done)


def test_closing_sets_the_resolution_that_is_asked_for(jira: Simulator, target: Connector) -> None:
    ticket = created(target)
    outcome = written(target, later(Action.TRANSITION, ticket, to_state="Rejected"))
    assert ("Rejected", True, ()) == (ticket_of(outcome).state, ticket_of(outcome).done, outcome.dropped)
    assert "Done" == ask(jira, f"issue/{ticket.id}")["fields"]["resolution"]["name"]
    again = written(target, later(Action.TRANSITION, ticket, to_state="Rejected"))
    assert "Rejected" == ticket_of(again).state
    assert 1 == ledger(jira)["transitioned"]


def test_an_impossible_step_is_refused_with_the_possible_ones(target: Connector) -> None:
    with pytest.raises(Refused, match="CAPA-1 cannot go from Detected to Effective, only to Confirmed, Rejected"):
        target.write(later(Action.TRANSITION, created(target), to_state="Effective"))


@pytest.mark.parametrize("fault", [{"do": "status", "status": 202}, {"do": "html_200"}, {"do": "drop_after"}])
def test_a_step_without_a_clear_answer_is_unclear(jira: Simulator, target: Connector, fault: Mapping[str, Any]) -> None:
    ticket = created(target)
    spoil(jira, {"method": "POST", "path": "/transitions", **fault})
    with pytest.raises(Unavailable) as caught:
        target.write(later(Action.TRANSITION, ticket, to_state="Confirmed"))
    assert caught.value.sent


def test_a_step_that_requires_more_is_refused_unless_it_is_given(connect: Connect) -> None:
    strict = {"project": "STRICT", "issue_type": "Task"}
    area = {"customfield_10051": {"value": "Desk"}}
    ticket = created(connect(**strict, fields=area))
    with pytest.raises(Refused, match=r"requires resolution \(Resolution\), customfield_10050 \(Cause\)"):
        connect(**strict, fields=area).write(later(Action.TRANSITION, ticket, to_state="Closed"))
    with pytest.raises(Refused, match="requires resolution"):
        connect(**strict, resolution="Gone").write(later(Action.TRANSITION, ticket, to_state="Void"))
    able = connect(**strict, fields={**area, "customfield_10050": "wear"})
    assert "Closed" == ticket_of(written(able, later(Action.TRANSITION, ticket, to_state="Closed"))).state


@pytest.mark.parametrize("action", [Action.COMMENT, Action.AMEND, Action.LINK, Action.TRANSITION])
def test_a_ticket_that_is_gone_is_refused(target: Connector, action: Action) -> None:
    with pytest.raises(Refused, match=r"(?i)issue does not exist"):
        target.write(Write(action, KEY, ticket="99999", to_state="Done", link_to="1"))
    with pytest.raises(Refused, match="needs the id of a ticket"):
        target.write(Write(action, KEY))


# --- the rest of the protocol -----------------------------------------------------------------------------------------


def test_identity(jira: Simulator, target: Connector, edition: str) -> None:
    identity, own = target.identify(), ask(jira, "myself")
    product = {"cloud": "Jira Cloud", "datacenter": "Jira Data Center"}[edition]
    assert (product, jira.url, True) == (identity.product, identity.instance, identity.simulated)
    assert own["accountId" if edition == "cloud" else "key"] == identity.account
    assert identity.server_time is not None
    assert 60_000 > abs(time.time() * 1000 - identity.server_time)


def test_what_is_not_served_is_a_gap(connect: Connect) -> None:
    window = Window(("summary",), {}, 60_000, 100)
    reader = connect(project=None, projects=["CAPA"])
    for gap in (
        connect().pull("issue", window),
        reader.pull("incident", window),
        reader.find(KEY),
        reader.write(creation()),
    ):
        assert isinstance(gap, Gap)
        assert ("not-served", True) == (gap.reason, bool(gap.message))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"project": "capa"},
        {"project": 'X" OR project = "Y'},
        {"project": "CAPA", "colour": "red"},
        {"project": "CAPA", "labels": ["two words"]},
        {"project": "CAPA", "index_lag": -1},
        {"project": "CAPA", "deployment": "server"},
        {"projects": ["capa"]},
        {"projects": ["CAPA"], "approvals_field": "Approvals"},
        {"projects": ["CAPA"], "approval_types": ['10104") OR issuetype in ("1']},
        {"project": "CAPA", "fields": {"labels": ["x"]}},
    ],
)
def test_wrong_options_are_errors(options: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        PLUGIN.check_options(options)


def test_options_have_their_stock_values() -> None:
    options = PLUGIN.check_options({"project": "CAPA"})
    assert ("Task", "Relates", None) == (options["issue_type"], options["link_type"], options["index_lag"])
    assert {"S1": "Highest", "S2": "High", "S3": "Medium", "S4": "Low"} == dict(options["severity_priority"])


def test_a_ticket_has_an_address() -> None:
    assert "https://x.example/browse/CAPA-1" == PLUGIN.record_url("https://x.example/", "action", "10001", "CAPA-1")
