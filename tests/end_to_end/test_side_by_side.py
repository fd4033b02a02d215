"""Two instances of ServiceNow and two sites of Jira in one configuration, all with the same ids and numbers.

Each has its own credential, proxy and certificate, one Jira its own mapping, and the clocks stand in zones far apart.
One of them is down at first. Each serves the whole seeded desk, so each has to show the same breaches, once.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from itsms_sync.conformance.verdicts import BY_SHORT_CUT, Status
from tests.end_to_end.conftest import ROOT, Install, Installation, Simulate, Simulator
from tests.end_to_end.desks import AS_OF, DESKS, differing, fingerprint, reading, twins
from tests.end_to_end.wires import Front, Proxy, certificate
from tests.seeded import jira, servicenow
from tests.seeded.desk import desk

pytestmark = pytest.mark.timeout(600)  # one story of seven passes, told once for all tests
SYDNEY, NEWFOUNDLAND, CHATHAM = "Australia/Sydney", "America/St_Johns", "Pacific/Chatham"
TEMPLATE = ROOT / "connectors" / "jira" / "simulator" / "itsm_template.yaml"
CAPA = {"project": "CAPA", "issue_type": "Corrective action", "index_lag": 0}
SLA_FIELDS = ["customfield_10214", "customfield_10215"]
_ORDINARY = [each.case for each in desk().records if each.process == "incident" and each.case not in desk().named]
LATER_KEY = f"{jira.PROJECT}-{1 + len(jira.site(desk())['issues'])}"
"""Of the next issue on either site."""
LINKED = ("INC-MI6-PROBLEM", "CHG-EMERGENCY-TRIGGER", "PRB-P5-CHANGE", "INC-I7-PROBLEM", "INC-I8-UNREAD")
"""Requirements that are broken by the absence of a link only."""
NAMES = ("branch", "cloud", "head", "plant")
SECRETS = {name: f"own-secret-of-{name}" for name in NAMES}


def _renumbered(text: str) -> str:
    """Every id of the template becomes another one, as on a second site."""
    return re.sub(r"(?<!\d)10([0-6]\d\d)(?!\d)", r"20\1", text)


def _second_template() -> str:
    """With ids of its own; what the built-in project has under the same name needs another name then."""
    text = _renumbered(TEMPLATE.read_text("utf-8"))
    for place, name in _TAKEN:
        assert place + name in text
        text = text.replace(place + name, f"{place}Plain {name}")
    return text


_TAKEN = (
    ("20401: ", "Done\n"),
    ("20402: ", "Won't do\n"),
    ("20403: ", "Duplicate\n"),
    ("resolution: ", "Done}"),
    ("", "In progress"),
    ("20501, name: ", "Blocks"),
    ("20503, name: ", "Relates"),
    ("20504, name: ", "Duplicate"),
)


@dataclass(frozen=True)
class Instance:
    """One source with everything that stands on the way to it."""

    simulator: Simulator
    front: Front
    proxy: Proxy
    bundle: Path
    settings: Mapping[str, Any]


class Stage:
    """Starts instances, each with a way of its own."""

    def __init__(self, simulate: Simulate, folder: Path, stack: ExitStack) -> None:
        self._simulate = simulate
        self._folder = folder
        self._stack = stack

    def servicenow(self, name: str, offset_s: int, extra: Mapping[str, Mapping[str, str]]) -> Instance:
        user, data = f"itsms.{name}", self._file(name, json.dumps(servicenow.tables(desk(), extra=extra)))
        options = {"user": user, "password": SECRETS[name], "plugins": "cim,major", "user_offset": str(offset_s)}
        simulator = self._simulate("servicenow", data, **options)
        credential = {"username": user, "password": {"file": f"{name}.txt"}}
        return self._instance(name, simulator, {**DESKS["servicenow"].settings(""), "credential": credential})

    def cloud(self, name: str) -> Instance:
        options = {"token": SECRETS[name], "timezone": SYDNEY}
        simulator = self._simulate("jira", Path("itsm"), self._file(name, json.dumps(jira.site(desk()))), **options)
        settings = DESKS["jira-cloud"].settings("")
        settings["credential"] = {"username": "bot@example.com", "token": {"file": f"{name}.txt"}}
        settings["options"] |= {"sla_fields": SLA_FIELDS, **CAPA}
        return self._instance(name, simulator, settings)

    def data_center(self, name: str) -> Instance:
        template = self._folder / "template.yaml"
        template.write_text(_second_template(), "utf-8")
        data = self._file(name, _renumbered(json.dumps(jira.site(desk()))))
        options = {"edition": "datacenter", "context": "/jira", "token": SECRETS[name], "timezone": NEWFOUNDLAND}
        simulator = self._simulate("jira", template, data, **options)
        settings = DESKS["jira-data-center"].settings("", mapping="jira-dc")
        settings["credential"] = {"token": {"file": f"{name}.txt"}}
        settings["options"] = {
            "projects": [jira.PROJECT],
            "approvals_field": "customfield_20213",
            "sla_fields": [_renumbered(field) for field in SLA_FIELDS],
        }
        return self._instance(name, simulator, settings)

    def _file(self, name: str, text: str) -> Path:
        path = self._folder / f"{name}.json"
        path.write_text(text, "utf-8")
        return path

    def _instance(self, name: str, simulator: Simulator, settings: Mapping[str, Any]) -> Instance:
        signed = certificate(self._folder, name)
        front = self._stack.enter_context(Front(simulator.url, signed.context()))
        proxy = self._stack.enter_context(Proxy())
        way = {"url": front.url, "proxy": proxy.url, "ca_bundle": str(signed.path), "page_size": 1000}
        return Instance(simulator, front, proxy, signed.path, {**settings, **way})


# --- one story: down, up, changed, idle


@dataclass(frozen=True)
class Moment:
    """What a pass answered, and what the commands said after it."""

    answer: Any
    sources: Mapping[str, Any]
    """Name -> what ``status`` tells."""
    gaps: Any
    deviations: Mapping[str, set[tuple[str, str]]]
    """Name -> case and requirement; the case by its name on the desk."""
    unknown: Mapping[str, set[tuple[str, str]]]
    meant: Mapping[str, set[str | None]]
    """Key of a problem -> sources of the records that are meant by it, as the head's incidents name it."""


@dataclass(frozen=True)
class Story:
    instances: Mapping[str, Instance]
    down: Moment
    up: Moment
    changed: Moment
    """People have worked everywhere; a problem is new in the cloud, and an incident of the head names it."""
    later: Moment
    """The plant has made a problem with the same key."""
    idle: Moment
    untrusted: Moment
    """After one source was given the certificate of another."""
    read: Mapping[str, Any]
    late: Installation
    """One that has read nothing of all this yet."""


@pytest.fixture(scope="module")
def instances(simulate: Simulate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Instance]]:
    with ExitStack() as stack:
        stage = Stage(simulate, tmp_path_factory.mktemp("instances"), stack)
        yield {
            "branch": stage.servicenow("branch", 45_900, {}),
            "cloud": stage.cloud("cloud"),
            "head": stage.servicenow("head", -25_200, {_ORDINARY[-1]: {"correlation_id": _shared_key()}}),
            "plant": stage.data_center("plant"),
        }


@pytest.fixture(scope="module")
def story(instances: Mapping[str, Instance], install: Install, tmp_path_factory: pytest.TempPathFactory) -> Story:
    documents = _documents(tmp_path_factory.mktemp("documents"))
    settings = {**reading({name: each.settings for name, each in instances.items()}), "documents": str(documents)}
    writing = {**settings, "tickets": {"target": "cloud", "processes": ["incident"]}}
    same = twins(install)
    installation = _in_chatham(same.installation(writing))
    instances["plant"].front.close()
    down = _passed(installation)
    instances["plant"].front.open()
    up = _passed(installation)
    for instance in instances.values():
        _work_on(instance)
    _make_problem(instances["cloud"], "10103")
    _sent(instances["head"], "PATCH", _incident(_ORDINARY[-2]), {"correlation_id": LATER_KEY})
    changed = _passed(installation)
    _make_problem(instances["plant"], "20103")
    later, idle = _passed(installation), _passed(installation)
    late = _in_chatham(same.installation(settings))
    read = fingerprint(installation)
    other = {**instances["branch"].settings, "ca_bundle": str(instances["head"].bundle)}
    installation.configure({**writing, "sources": {**settings["sources"], "branch": other}})
    return Story(instances, down, up, changed, later, idle, _passed(installation), read, late)


@pytest.fixture(scope="module")
def anew(story: Story) -> Mapping[str, Any]:
    """What an installation has that reads everything at once, after the changes."""
    story.late.json("once", AS_OF, timeout=120)
    return fingerprint(story.late)


def _documents(folder: Path) -> Path:
    """The shipped ones, and the mapping of the second site."""
    documents = shutil.copytree(ROOT / "mappings", folder / "mappings")
    shipped = (documents / "jira.yaml").read_text("utf-8")
    assert 1 == shipped.count("\nsystem: jira\n")
    text = _renumbered(shipped).replace("\nsystem: jira\n", "\nsystem: jira\nname: jira-dc\n")
    (documents / "jira-dc.yaml").write_text(text.replace("document: MAP-JIRA", "document: MAP-JIRA-DC"), "utf-8")
    return documents


def _shared_key() -> str:
    """Of a problem that both sites of Jira have."""
    return jira.keys(desk())[next(each.case for each in desk().records if each.process == "problem")]


def _in_chatham(installation: Installation) -> Installation:
    for name, secret in SECRETS.items():
        (installation.folder / f"{name}.txt").write_text(secret)
    return replace(installation, environment={"TZ": CHATHAM})


def _passed(installation: Installation) -> Moment:
    answer = installation.json("once", AS_OF, timeout=120)
    status = installation.json("status")
    said = json.dumps([answer, status])
    assert [] == [secret for secret in SECRETS.values() if secret in said]
    meant = installation.rows(
        "SELECT value, source.name FROM relation LEFT JOIN record ON record.id = other_id "
        "LEFT JOIN source ON source.id = source_id WHERE by = 'label' AND \"to\" = 'problem'"
    )
    return Moment(
        answer,
        {each["name"]: each for each in status["sources"]},
        status["gaps"],
        _verdicts(installation, "deviating"),
        _verdicts(installation, "unknown"),
        {key: {name for named, name in meant if named == key} for key in (_shared_key(), LATER_KEY)},
    )


def _verdicts(installation: Installation, status: str) -> dict[str, set[tuple[str, str]]]:
    rows = installation.rows(
        "SELECT source.name, label, requirement FROM verdict JOIN record ON record.id = record_id "
        f"JOIN source ON source.id = source_id WHERE status = '{status}' AND superseded_at IS NULL"
    )
    found: dict[str, set[tuple[str, str]]] = {name: set() for name in NAMES}
    for name, label, requirement in rows:
        found[name].add((_CASES[name].get(label, label), requirement))
    return found


def _swapped(names: Mapping[str, str]) -> Mapping[str, str]:
    return {label: case for case, label in names.items()}


_IN_SERVICENOW, _IN_JIRA = _swapped(servicenow.numbers(desk())), _swapped(jira.keys(desk()))
_CASES = {"head": _IN_SERVICENOW, "branch": _IN_SERVICENOW, "cloud": _IN_JIRA, "plant": _IN_JIRA}


def _work_on(instance: Instance) -> None:
    """People add to the resolution notes of five incidents, past the program's way."""
    field = "customfield_20226" if instance.settings.get("mapping") else "customfield_10226"
    for case in _ORDINARY[:5]:
        if instance.settings["system"] == "servicenow":
            _sent(instance, "PATCH", _incident(case), {"close_notes": f"Looked at again: {case}"})
        else:
            address = f"/rest/api/2/issue/{jira.keys(desk())[case]}"
            _sent(instance, "PUT", address, {"fields": {field: f"Looked at again: {case}"}})


def _incident(case: str) -> str:
    return f"/api/now/table/incident/{servicenow.sys_id(case)}"


def _make_problem(instance: Instance, type_: str) -> None:
    fields = {"project": {"key": jira.PROJECT}, "issuetype": {"id": type_}, "summary": "Twin"}
    assert LATER_KEY == _sent(instance, "POST", "/rest/api/2/issue", {"fields": fields}).json()["key"]


def _sent(instance: Instance, method: str, address: str, body: Any) -> requests.Response:
    (login,) = instance.front.logins
    headers = {"Authorization": login}
    answer = requests.request(method, instance.simulator.url + address, json=body, headers=headers, timeout=10)
    assert answer.ok, answer.text
    return answer


_WAYS = {"branch": "servicenow", "cloud": "jira-cloud", "head": "servicenow", "plant": "jira-data-center"}
_BREACHES = {name: desk().expected(way) for name, way in _WAYS.items()}


def test_one_that_is_down_holds_up_no_other(story: Story) -> None:
    """Only that a link is missing cannot be said yet: it may be in what was never read."""
    for name in ("branch", "cloud", "head"):
        breaches, found, unknown = _BREACHES[name], story.down.deviations[name], story.down.unknown[name]
        missing = {(case, requirement) for case, requirement in breaches if requirement in LINKED}
        assert len(LINKED) == len(missing)
        assert breaches - missing <= found
        assert breaches == found | (unknown & missing)
    assert set() == story.down.deviations["plant"]
    assert _BREACHES == story.untrusted.deviations, "what was read before still counts"


def test_status_tells_of_each_source_how_fresh_it_is_and_what_is_wrong(story: Story) -> None:
    down, up = story.down.sources, story.up.sources
    assert ["plant"] == [name for name, each in down.items() if each["covered_until_at"] is None]
    assert ["plant"] == [name for name, each in down.items() if each["problem"]]
    assert "unavailable: " in down["plant"]["problem"]
    gaps = {(gap["source"], gap["stream"], gap["reason"]) for gap in story.down.gaps}
    assert ("plant", "source", "unavailable") in gaps
    assert [] == [(name, each["problem"]) for name, each in up.items() if each["problem"]]
    assert all(
        each["covered_until_at"] > down[name]["covered_until_at"] for name, each in up.items() if name != "plant"
    )
    assert all(not each["unfinished"] and not each["not_served"] for each in up.values())


def test_each_shows_the_same_breaches_once_it_is_up(story: Story) -> None:
    assert _BREACHES == story.up.deviations


def test_changes_between_two_polls_are_read_once_in_whatever_zone(story: Story) -> None:
    """The five incidents and one row of their history each, and then no more of them; in the cloud and the head also
    what is new about the problem.
    """
    expected = {
        "branch": {"incident": 5, "sys_audit:incident": 5},
        "cloud": {"issue": 6, "issue:changelog": 5},
        "head": {"incident": 6, "sys_audit:incident": 6},
        "plant": {"issue": 5, "issue:changelog": 5},
    }
    assert expected == {name: _new_rows(story.changed, name, streams) for name, streams in expected.items()}
    assert dict.fromkeys(NAMES, 0) == {name: each["new_rows"] for name, each in story.idle.answer["sources"].items()}


def _new_rows(moment: Moment, name: str, streams: Mapping[str, int]) -> dict[str, int]:
    told = {stream["stream"]: stream["rows_new"] for stream in moment.sources[name]["streams"]}
    return {stream: told[stream] for stream in streams}


@pytest.mark.slow
def test_what_was_read_bit_by_bit_is_what_is_there(story: Story, anew: Mapping[str, Any]) -> None:
    """Only what was seen between two reads nobody can have seen who read once."""
    kept = ("record", "event", "relation", "verdict", "case_state", "person")
    read = {table: story.read[table] for table in kept}
    read["event"] = [row for row in read["event"] if row[3] != "snapshot"]
    assert len(read["event"]) < len(story.read["event"])
    both = ({table: anew[table] for table in kept}, read)
    assert {} == differing(*({**tables, "verdict": _said_in_any_case(tables["verdict"])} for tables in both))


def _said_in_any_case(verdicts: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Without those that say only that something else, which was said before, is no longer so."""
    return [row for row in verdicts if row[6] != Status.NOT_APPLICABLE.value or row[7].startswith(BY_SHORT_CUT)]


def test_two_zones_and_editions_tell_the_same_times(story: Story) -> None:
    """Opened and ended, by issue; ids of issues are the same on both sites."""
    times = {name: _times(story.read["case_state"], name) for name in ("cloud", "plant")}
    assert 182 == len(times["cloud"])
    assert times["cloud"] == times["plant"]


def _times(states: Iterable[tuple[Any, ...]], source: str) -> dict[str, tuple[int, int | None]]:
    return {issue: (opened, ended) for name, _, issue, _, opened, ended, *_ in states if name == source}


def test_each_goes_its_own_way_with_its_own_secret(story: Story) -> None:
    """``logins`` has one entry each, or the work on it would have failed."""
    logins = [login for each in story.instances.values() for login in each.front.logins]
    assert len(NAMES) == len(set(logins)) == len(logins)
    ways = {name: set(each.proxy.tunnels) for name, each in story.instances.items()}
    assert {name: {f"127.0.0.1:{each.front.port}"} for name, each in story.instances.items()} == ways


def test_a_certificate_of_another_is_not_trusted(story: Story) -> None:
    problems = {name: each["problem"] for name, each in story.untrusted.sources.items() if each["problem"]}
    assert ["branch"] == list(problems)
    assert "its certificate is not trusted; check `ca_bundle`" in problems["branch"]
    assert story.untrusted.sources["branch"]["covered_until_at"] == story.idle.sources["branch"]["covered_until_at"]


def test_tickets_are_opened_in_the_one_that_is_named(story: Story) -> None:
    sent = [label for moment in (story.down, story.up) for label in moment.answer["outbox"]["sent"]]
    assert sent
    created = {name: _created(each.simulator.ledger()) for name, each in story.instances.items()}
    assert {"branch": 0, "cloud": len(sent) + 1, "head": 0, "plant": 1} == created, "one problem each is not ours"
    assert [] == [label for each in (story.changed, story.later, story.idle) for label in each.answer["outbox"]["sent"]]


def _created(ledger: Mapping[str, Any]) -> int:
    return int(ledger["created"]) if "created" in ledger else len(ledger["keys"])


def test_a_key_that_both_sites_have_names_none(story: Story) -> None:
    """Whether the other was down when the one was read, or has got the key later."""
    told = {name: getattr(story, name).meant for name in ("down", "up", "changed", "later", "idle")}
    shared, later = ([told[name][key] for name in told] for key in (_shared_key(), LATER_KEY))
    assert [{"cloud"}, {None}, {None}, {None}, {None}] == shared
    assert [set(), set(), {"cloud"}, {None}, {None}] == later
