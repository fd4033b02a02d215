"""Owns which addresses each edition has and how a request finds its own; what an address does is its module's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from connectors.jira.simulator import (
    data_center,
    resources,
    search_resources,
    service_management,
    setup_resources,
    workflows,
)
from connectors.jira.simulator.calls import Handler, Table

PLATFORM = "api"
SERVICE_MANAGEMENT = "servicedeskapi"

#: Edition -> the interfaces it has, each with its tables. The first address that fits is served.
TABLES: Mapping[str, Mapping[str, Sequence[Table]]] = {
    "cloud": {
        PLATFORM: (setup_resources.ROUTES, resources.ROUTES, search_resources.ROUTES, workflows.ROUTES),
        SERVICE_MANAGEMENT: (service_management.ROUTES,),
    },
    "datacenter": {PLATFORM: (data_center.ROUTES,), SERVICE_MANAGEMENT: (service_management.ROUTES,)},
}
_VERSIONS = {"cloud": {"2": "2", "3": "3", "latest": "2"}, "datacenter": {"2": "2", "latest": "2"}}


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    template: str
    """As in the table: below the interface's start."""
    handler: Handler
    anonymous: str


@dataclass(frozen=True, slots=True)
class Found:
    route: Route
    template: str
    """Whole, with the version as it was written."""
    version: str
    """``2`` or ``3``: in which form texts and people are shown."""
    path: Mapping[str, str]


class Routes:
    """The addresses of one edition."""

    def __init__(self, edition: str) -> None:
        self._versions: Mapping[str, str] = _VERSIONS[edition]
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for interface, tables in TABLES[edition].items():
            for method, template, handler, anonymous in (row for table in tables for row in table):
                pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))
                known = self._routes.setdefault((interface, method), [])
                known.append((pattern, Route(method, template, handler, anonymous)))

    def find(self, method: str, path: str) -> Found | None:
        """What serves ``path``, which starts with ``/rest/``."""
        if address := re.fullmatch(rf"/rest/{PLATFORM}/({'|'.join(self._versions)})/(.*)", path):
            return self._find(PLATFORM, f"{PLATFORM}/{address[1]}", self._versions[address[1]], method, address[2])
        if address := re.fullmatch(rf"/rest/{SERVICE_MANAGEMENT}/(.*)", path):
            return self._find(SERVICE_MANAGEMENT, SERVICE_MANAGEMENT, "2", method, address[1])
        return None

    def _find(self, interface: str, start: str, version: str, method: str, rest: str) -> Found | None:
        for pattern, route in self._routes.get((interface, method), ()):
            if found := pattern.fullmatch(rest):
                parameters = {name: unquote(text) for name, text in found.groupdict().items()}
                return Found(route, f"/rest/{start}/{route.template}", version, parameters)
        return None
