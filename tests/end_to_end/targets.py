"""The places in which tickets are opened, as the end-to-end tests know them: how one is started and configured, which
request opens a ticket, and what its own books say about the tickets it has.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.conftest import PASSWORD, TOKEN, Simulator
from tests.end_to_end.wires import Front

NOBODY = "http://127.0.0.1:9"
"""The discard port, where nothing listens."""
SEARCH_LAG_S, INDEX_LAG_S = 5, 6
_OUR_LABEL = re.compile(r"itsms-[0-9a-f]{20}")
_RANKS = {"S1": "1", "S2": "2", "S3": "3"}
_PRIORITIES = {severity: {"priority": rank} for severity, rank in _RANKS.items()}
_URGENCIES = {severity: {"impact": rank, "urgency": rank} for severity, rank in _RANKS.items()}


@dataclass(frozen=True)
class Target:
    """One product that keeps tickets."""

    system: str
    simulated: Mapping[str, str]
    """Options of the simulator."""
    credential: Mapping[str, Any]
    options: Mapping[str, Any]
    """Options of the source, in the settings."""
    create: str
    """First bytes of the request that opens a ticket."""
    prepare: str | None
    """First bytes of what is asked once an intent is marked as being sent and before that request, if anything is."""
    copies: Callable[[Mapping[str, Any]], Counter[str]]
    """Tickets per key, from the simulator's books."""

    def fault(self, **rule: Any) -> dict[str, Any]:
        """A rule of the simulator for the first such request."""
        method, path = self.create.split()
        return {"method": method, "path": f"{re.escape(path)}$", "nth": 1, **rule}

    def settings(self, url: str) -> dict[str, Any]:
        """The source that receives tickets and is not read."""
        return {
            "system": self.system,
            "url": url,
            "read": False,
            "credential": dict(self.credential),
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class Site:
    """A running target and the front that stands before it."""

    target: Target
    simulator: Simulator
    front: Front

    def copies(self) -> Counter[str]:
        return self.target.copies(self.simulator.ledger())

    def has_acted(self) -> bool:
        return bool(self.copies())


@contextmanager
def site(target: Target) -> Iterator[Site]:
    """Empty, with a front; both end with the context."""
    simulator = Simulator(target.system, (), target.simulated)
    try:
        with Front(simulator.url) as front:
            yield Site(target, simulator, front)
    finally:
        simulator.stop()


def _labelled(ledger: Mapping[str, Any]) -> Counter[str]:
    return Counter(label for issue in ledger["issues"] for label in issue["labels"] if _OUR_LABEL.fullmatch(label))


def _correlated(ledger: Mapping[str, Any]) -> Counter[str]:
    return Counter(ledger["keys"])


def _servicenow(table: str, severities: Mapping[str, Any], **simulated: str) -> Target:
    return Target(
        "servicenow",
        {"password": PASSWORD, **simulated},
        {"username": "itsms", "password": {"file": "password.txt"}},
        {"table": table, "severities": severities, "index_lag": 0},
        f"POST /api/now/table/{table}",
        None,
        _correlated,
    )


def _jira(below: str, username: str | None, **simulated: str) -> Target:
    return Target(
        "jira",
        {"token": TOKEN, "search_lag": str(SEARCH_LAG_S), **simulated},
        {"token": {"file": "token.txt"}, **({"username": username} if username else {})},
        {"project": "CAPA", "issue_type": "Corrective action", "index_lag": INDEX_LAG_S},
        f"POST {below}/rest/api/2/issue ",
        f"GET {below}/rest/api/2/issue/createmeta/CAPA/issuetypes?",
        _labelled,
    )


TARGETS: Mapping[str, Target] = {
    "jira-cloud": _jira("", "bot@example.com"),
    "jira-data-center": _jira("/jira", None, edition="datacenter", context="/jira"),
    "servicenow-register": _servicenow("sn_cim_register", _PRIORITIES, plugins="cim"),
    "servicenow-incident": _servicenow("incident", _URGENCIES),
}
