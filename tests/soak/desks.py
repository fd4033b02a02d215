"""The two desks of the soak: what they hold at first, what people do at them, and what their own books say.

Each is a simulator in this process. People act past the API, so they are not hit by its faults. Leaves to ``oracle``
the comparison of the books with what the program knows.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import requests

from connectors.jira.simulator import serve as serve_jira
from connectors.servicenow.simulator import serve as serve_servicenow
from itsms_sync.plugins import shipped

if TYPE_CHECKING:
    from tests.soak.world import Plan, Stage

HOUR = 3600
FIRST, NETWORK = f"{0xA0:032x}", f"{0xB0:032x}"
MIA = "5b10ac8d82e05b22cc7d4f01"
USERS = [{"accountId": MIA, "displayName": "Mia Krystof", "emailAddress": "mia@example.com", "name": "mia"}]
_OUR_LABEL = re.compile(r"itsms-[0-9a-f]{20}")
_REQUIREMENTS = ("INC-I2-CLASSIFY", "INC-I8-RESOLVE", "INC-FLOW", "INC-I8-CODE", "INC-RESOLVE-P1")
_RANKS = {"S1": "1", "S2": "2", "S3": "3"}


@dataclass(frozen=True)
class Target:
    """Where tickets are kept: in which source, how the request begins that opens one, and ServiceNow's options."""

    source: str
    create: bytes
    servicenow: Mapping[str, Any] = field(default_factory=dict)


TARGETS: Mapping[str, Target] = {
    "jira": Target("jira", b"POST /rest/api/2/issue "),
    "register": Target(
        "servicenow",
        b"POST /api/now/table/sn_cim_register",
        {"table": "sn_cim_register", "severities": {s: {"priority": rank} for s, rank in _RANKS.items()}},
    ),
    "incident": Target(
        "servicenow",
        b"POST /api/now/table/incident",
        {"table": "incident", "severities": {s: {"impact": rank, "urgency": rank} for s, rank in _RANKS.items()}},
    ),
}


def documents(folder: Path, *, whole: bool = False) -> Path:
    """The shipped documents, in which each category of incidents is a scope of its own, so that one more incident can
    make one more ticket. Unless they are to be ``whole``, incidents and a few demands on them are left: a pass is quick
    then.
    """
    from ruamel.yaml import YAML

    yaml, shipped_ = YAML(), shipped("mappings")
    shutil.copytree(shipped_, folder)
    for name in ("processes", "servicenow", "jira"):
        document = yaml.load(shipped_ / f"{name}.yaml")
        incident = document["processes"]["incident"]
        if name == "processes":
            incident["scope_by"] = "category"
        if not whole:
            for part in ("parts", "links", "pair"):
                incident.pop(part, None)
            document["processes"] = {"incident": incident}
        yaml.dump(document, folder / f"{name}.yaml")
    if not whole:
        for path in (folder / "procedures").iterdir():
            path.unlink()
        procedure = yaml.load(shipped_ / "procedures" / "incident.yaml")
        procedure["requirements"] = [each for each in procedure["requirements"] if each["id"] in _REQUIREMENTS]
        yaml.dump(procedure, folder / "procedures" / "incident.yaml")
    return folder


class Site:
    """A simulator at this address, and the way past its API. ``people`` are the ids of incidents to work on."""

    def __init__(self, url: str, people: Iterable[str] = ()) -> None:
        self.url = url
        self.people = list(people)
        parts = urlsplit(url)
        self._own = f"{parts.scheme}://{parts.netloc}/_sim/"
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 0)

    def close(self) -> None:
        self._session.close()

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        answer = self._session.request(method, self._own + path, json=content, timeout=30)
        assert answer.ok, f"{path} {content}: {answer.text}"
        return answer.json() if answer.content else None

    def skip(self, seconds: float) -> None:
        self.ask("POST", "clock", {"advance": seconds})

    def fault(self, **rule: Any) -> None:
        self.ask("POST", "faults", [rule])

    def forgive(self) -> None:
        self.ask("DELETE", "faults")


class ServiceNow(Site):
    """An instance with incidents."""

    name = "servicenow"
    create = "^/api/now/table/(sn_cim_register|incident)$"

    @classmethod
    @contextmanager
    def serving(cls, stage: "Stage", plan: "Plan") -> Iterator[Self]:
        data = stage.folder / "servicenow.json"
        if not data.exists():
            data.write_text(json.dumps(_incidents(stage.born)), "utf-8")
        options = {"plugins": "cim,major"}
        simulator = serve_servicenow(data=[data], port=stage.port(cls.name), options=options)
        site = cls(simulator.url, (row["sys_id"] for row in json.loads(data.read_text())["tables"]["incident"]))
        stage.keep_port(cls.name, site.port)
        try:
            yield site
        finally:
            site.close()
            simulator.stop()

    def act(self, values: Mapping[str, Any], sys_id: str | None = None, at: str | None = None, **more: Any) -> str:
        asked = {"table": "incident", "by": "petra.person", "values": values, **more}
        asked |= {name: value for name, value in (("sys_id", sys_id), ("at", at)) if value is not None}
        return str(self.ask("POST", "act", asked)["sys_id"])

    def issued(self, *kinds: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"issued?{','.join(kinds)}"))

    def edit_ticket(self, native: str) -> None:
        self._at_ticket(native, values={"short_description": "people know better"})

    def close_ticket(self, native: str) -> None:
        self._at_ticket(native, values={"state": "7", "active": "false", "close_code": "Solved", "close_notes": "."})

    def delete_ticket(self, native: str) -> None:
        self._at_ticket(native, delete=True)

    def put_row(self) -> None:
        """By hand, in the register that tickets are opened in."""
        self.act({"short_description": "put here by hand"}, table="sn_cim_register")

    def _at_ticket(self, native: str, **what: Any) -> None:
        tables = self.ask("GET", "issued?incident,sn_cim_register")["records"]
        (table,) = [name for name, rows in tables.items() if native in rows]
        self.ask("POST", "act", {"table": table, "by": "olga.owner", "sys_id": native, **what})

    def copies(self) -> Counter[str]:
        """Tickets that were ever made, by key."""
        return Counter(self.ask("GET", "ledger")["keys"])


class Jira(Site):
    """A site with a service project and the project of corrective actions."""

    name = "jira"
    create = "/rest/api/2/issue$"

    @classmethod
    @contextmanager
    def serving(cls, stage: "Stage", plan: "Plan") -> Iterator[Self]:
        data = stage.folder / "jira.json"
        if not data.exists():
            data.write_text(json.dumps(_issues(stage.born)), "utf-8")
        options = {"edition": plan.edition, "token": "secret", "search_lag": str(plan.search_lag_s)}
        name = f"{cls.name} {plan.edition}"
        simulator = serve_jira(data=[Path("itsm"), data], port=stage.port(name), options=options)
        site = cls(simulator.url, (str(issue["id"]) for issue in json.loads(data.read_text())["issues"]))
        stage.keep_port(name, site.port)
        try:
            yield site
        finally:
            site.close()
            simulator.stop()

    def act(self, do: str, body: Mapping[str, Any], issue: str | None = None, at: int | None = None) -> str:
        asked: dict[str, Any] = {"do": do, "body": body, "by": MIA}
        asked |= {name: value for name, value in (("issue", issue), ("at", at)) if value is not None}
        return str(self.ask("POST", "act", asked)["id"])

    def can(self, do: str, body: Mapping[str, Any], issue: str) -> bool:
        """Do it if the workflow lets people."""
        asked = {"do": do, "body": body, "issue": issue, "by": MIA}
        return self._session.post(self._own + "act", json=asked, timeout=30).ok

    def issued(self) -> dict[str, Any]:
        return dict(self.ask("GET", "issued"))

    def edit_ticket(self, native: str) -> None:
        self.act("edit", {"fields": {"summary": "people know better"}}, native)

    def close_ticket(self, native: str) -> None:
        self.can("transition", {"to": "Rejected", "fields": {"resolution": {"name": "Done"}}}, native)

    def delete_ticket(self, native: str) -> None:
        self.act("delete", {}, native)

    def copies(self) -> Counter[str]:
        """Tickets that are there, by our label."""
        issues = self.ask("GET", "ledger")["issues"]
        return Counter(label for issue in issues for label in issue["labels"] if _OUR_LABEL.fullmatch(label))


# --- what the desks hold at first


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")


def _incidents(now: float) -> dict[str, Any]:
    """Fourteen incidents of last month, five of which share every stamp; one of priority 1 took nine hours."""
    opened = now - 40 * 24 * HOUR
    rows, audit = [], []
    for place in range(1, 15):
        start = opened + (place // 5) * HOUR
        urgent = place == 3
        row = {
            "sys_id": f"{place:032x}",
            "number": f"INC{10000 + place:07d}",
            "priority": "1" if urgent else "5",
            "impact": "1" if urgent else "3",
            "urgency": "1" if urgent else "3",
            "state": "1",
            "category": "network",
            "contact_type": "email",
            "assignment_group": NETWORK,
            "assigned_to": FIRST,
            "sys_created_on": stamp(start),
            "sys_created_by": "petra.person",
            "opened_at": stamp(start),
            "sys_updated_on": stamp(start),
            "sys_mod_count": 0,
        }
        saves = [(0.1, {"state": "2"}), (9, {"state": "6", "close_code": "" if place % 4 == 0 else "Solved"})]
        for number, (hours, changes) in enumerate(saves, 1):
            at = stamp(start + hours * HOUR)
            for name, new in changes.items():
                audit.append(
                    {
                        "sys_id": f"{place * 1000 + len(audit):032x}",
                        "tablename": "incident",
                        "documentkey": row["sys_id"],
                        "fieldname": name,
                        "oldvalue": row.get(name, ""),
                        "newvalue": new,
                        "user": "petra.person",
                        "record_checkpoint": number,
                        "sys_created_on": at,
                    }
                )
                row[name] = new
            row |= {"sys_updated_on": at, "sys_mod_count": number}
        rows.append(row)
    people = [{"sys_id": FIRST, "user_name": "petra.person", "name": "Petra Person"}]
    groups = [{"sys_id": NETWORK, "name": "Network"}]
    return {"tables": {"sys_user": people, "sys_user_group": groups, "incident": rows, "sys_audit": audit}}


def _issues(now: float) -> dict[str, Any]:
    """Nine incidents of last month, of which most share the second of their last update."""
    opened = int(now) - 41 * 24 * HOUR
    issues = [
        {
            "key": f"ITSM-{1 + place}",
            "id": 20001 + place,
            "type": "10101",
            "status": "10002",
            "priority": "Highest" if place == 2 else "Low",
            "created": opened * 1000,
            "updated": (opened + 1 + 120 * (place // 6)) * 1000,
            "fields": {"customfield_10220": "10361"},
            "history": [
                {
                    "id": 501 + place,
                    "at": opened * 1000 + 500,
                    "by": MIA,
                    "items": [{"field": "status", "from": "10001", "to": "10002"}],
                }
            ],
        }
        for place in range(9)
    ]
    return {"users": USERS, "issues": issues}
