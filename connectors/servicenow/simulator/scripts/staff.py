"""Who works at the made-up desk, and what they are called about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.servicenow.simulator.desk import Desk
from connectors.servicenow.simulator.marks import digest, stamp

FRONT = "Service Desk"
BOARD = "CAB Approval"
TOPICS = (
    ("network", "vpn", "VPN drops every few minutes", "Network"),
    ("network", "wireless", "No wireless in meeting room", "Network"),
    ("database", "oracle", "Report query runs for an hour", "Database"),
    ("database", "sql server", "Nightly load failed", "Database"),
    ("software", "email", "Mailbox is full although archived", "Applications"),
    ("software", "erp", "Invoice screen shows an error", "Applications"),
    ("software", "erp", "Order cannot be released", "Applications"),
    ("hardware", "laptop", "Laptop does not start", "Field Support"),
    ("hardware", "printer", "Printer prints blank pages", "Field Support"),
    ("inquiry", "password", "Account is locked", "Identity"),
    ("inquiry", "access", "No access to shared folder", "Identity"),
)
GROUPS = (FRONT, *dict.fromkeys(topic[3] for topic in TOPICS))
_FIRST = ("Ada", "Bo", "Chen", "Dana", "Eli", "Fatou", "Goran", "Hana", "Ines", "Jonas", "Kira", "Luca", "Mina", "Noor")
_LAST = ("Abel", "Berg", "Costa", "Duarte", "Evans", "Fischer", "Garcia", "Huang", "Ito", "Jensen", "Kaya")
_BOARD = ("Olga Lind", "Pavel Moreau", "Rosa Novak")
_MANAGERS = ("Sven Oduya", "Tara Pereira")
_PEER = 5
"""People of a group."""

Person = tuple[str, str]
"""sys_id and user name"""


@dataclass(frozen=True, slots=True)
class Staff:
    """Who works where: group name -> its id and its people."""

    groups: Mapping[str, str]
    members: Mapping[str, Sequence[Person]]
    callers: Sequence[Person]
    managers: Sequence[Person]
    """Of problems and changes; they belong to no group."""
    names: Mapping[str, str]
    """sys_id -> user name"""


def hire(desk: Desk, at: float) -> Staff:
    """Put people and groups into their tables; the account of the jobs is marked as no person."""
    names = [f"{first} {last}" for last in _LAST for first in _FIRST]
    agents = names[: _PEER * len(GROUPS)]
    teams = {name: agents[_PEER * place : _PEER * place + _PEER] for place, name in enumerate(GROUPS)}
    teams[BOARD] = list(_BOARD)
    groups = {name: digest(f"sys_user_group:{name}") for name in teams}
    people = [*names, *_BOARD, *_MANAGERS]
    users = [
        {"sys_id": _person(name)[0], "user_name": _login(name), "name": name, "email": f"{_login(name)}@example.com"}
        for name in people
    ]
    users.append({"sys_id": digest("sys_user:system"), "user_name": "system", "name": "System"})
    users[-1]["internal_integration_user"] = "true"
    belongs = [
        {"sys_id": digest(f"member:{_person(name)[0]}"), "user": _person(name)[0], "group": groups[group]}
        for group, its in teams.items()
        for name in its
    ]
    named = [{"sys_id": sys_id, "name": name} for name, sys_id in groups.items()]
    put(desk, {"sys_user": users, "sys_user_group": named, "sys_user_grmember": belongs}, at)
    return Staff(
        groups,
        {group: [_person(name) for name in its] for group, its in teams.items()},
        [_person(name) for name in names[_PEER * len(GROUPS) :]],
        [_person(name) for name in _MANAGERS],
        {_person(name)[0]: _login(name) for name in people},
    )


def put(desk: Desk, tables: Mapping[str, Sequence[Mapping[str, str]]], at: float) -> None:
    """Load rows that somebody set up before the desk opened."""
    born = {"sys_created_on": stamp(at), "sys_updated_on": stamp(at), "sys_mod_count": "0", "sys_created_by": "admin"}
    for name, rows in tables.items():
        table = desk.tables[name]
        table.load([table.row({**born, **row}) for row in rows])


def _person(name: str) -> Person:
    return digest(f"sys_user:{_login(name)}"), _login(name)


def _login(name: str) -> str:
    return name.lower().replace(" ", ".")
