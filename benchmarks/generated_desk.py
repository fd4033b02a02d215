"""A desk of any size that holds no ticket in memory: the part of ServiceNow's Table API that reading asks for.

Ticket ``n`` and its ten changes follow from ``n``: tickets are opened evenly over three years up to the start, nine of
ten live for eight hours, the tenth for twenty days. So the rows of a page are computed from its question. Only tickets
that were changed later, by ``POST /touch?tickets=100``, are remembered.

A program of its own: ``python -m benchmarks.generated_desk TICKETS`` prints its address as one line of JSON.
"""

import json
import re
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from heapq import merge
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson

YEARS_S = 3 * 365 * 86_400
SHORT_S, LONG_S = 8 * 3600, 20 * 86_400
GROUPS, PEOPLE = 12, 300


class Change(NamedTuple):
    """One row of a ticket's history. ``place``: how far into its life, in ninths; ``save``: number of the save."""

    place: int
    save: int
    field: str
    old: str
    new: str


CHANGES = (
    Change(0, 1, "assignment_group", "", "g"),
    Change(1, 2, "state", "1", "2"),
    Change(1, 2, "assigned_to", "", "p"),
    Change(2, 3, "assignment_group", "g", "h"),
    Change(3, 4, "priority", "3", "2"),
    Change(4, 5, "state", "2", "3"),
    Change(5, 6, "state", "3", "2"),
    Change(7, 7, "state", "2", "6"),
    Change(7, 7, "close_code", "", "Solved (Permanently)"),
    Change(9, 8, "state", "6", "7"),
)
LAST = CHANGES[-1].place
TOUCHED = "category"
"""Field that ``touch`` changes."""
FIELDS = frozenset((*(change.field for change in CHANGES), TOUCHED))
Fields = frozenset[str] | None
"""Of which fields the history is asked for; ``None``: the tickets themselves."""


class Key(NamedTuple):
    """Place of a row in the order of its table: second, ticket, number of the change."""

    at: int
    ticket: int
    change: int


class Desk:
    """Rows of ``incident`` and ``sys_audit`` by the order in which they are asked for."""

    def __init__(self, tickets: int, now: int) -> None:
        self._tickets = tickets
        self._step = YEARS_S / tickets
        self._start = now - YEARS_S - LONG_S - 3600
        self._touched: dict[int, list[int]] = {}
        """Ticket -> seconds at which it was changed once more."""

    def touch(self, number: int, now: int) -> None:
        """Changes tickets evenly over the years."""
        for n in range(number):
            self._touched.setdefault(n * self._tickets // number, []).append(now)

    def opened(self, ticket: int) -> int:
        return self._start + int(ticket * self._step)

    def at(self, ticket: int, change: int) -> int:
        """Second of a change; those behind the last one were made by ``touch``."""
        if change >= len(CHANGES):
            return self._touched[ticket][change - len(CHANGES)]
        life = SHORT_S if ticket % 10 else LONG_S
        return self.opened(ticket) + life * CHANGES[change].place // LAST

    def changes(self, ticket: int) -> int:
        return len(CHANGES) + len(self._touched.get(ticket, ()))

    def keys(self, fields: Fields, after: Key) -> Iterator[Key]:
        """All behind ``after``, in order."""
        last = len(CHANGES) - 1
        numbers = [n for n, change in enumerate(CHANGES) if (n == last if fields is None else change.field in fields)]
        lines = [self._line(n, long, after, fields is not None) for n in numbers for long in (False, True)]
        late = sorted(
            Key(at, ticket, len(CHANGES) + n)
            for ticket, found in self._touched.items()
            for n, at in enumerate(found)
            if (n == len(found) - 1 if fields is None else TOUCHED in fields)
        )
        return merge(*lines, late[bisect_left(late, Key(after.at, after.ticket, after.change + 1)) :])

    def _line(self, change: int, long: bool, after: Key, history: bool) -> Iterator[Key]:
        """The same change of all tickets that live equally long: its seconds rise with the ticket."""
        life = LONG_S if long else SHORT_S
        offset = life * CHANGES[change].place // LAST
        first = max(0, int((after.at - self._start - offset) / self._step) - 20)
        for ticket in range(first, self._tickets):
            if (ticket % 10 == 0) != long or (not history and ticket in self._touched):
                continue
            key = Key(self.opened(ticket) + offset, ticket, change)
            if key > after:
                yield key

    def count(self, fields: Fields, after: Key, until: int | None) -> int:
        """Counted by walking as far as the window goes; windows are small."""
        return sum(1 for _ in self._within(fields, after, until))

    def _within(self, fields: Fields, after: Key, until: int | None) -> Iterator[Key]:
        for key in self.keys(fields, after):
            if until is not None and key.at >= until:
                return
            yield key

    def page(self, fields: Fields, after: Key, until: int | None, offset: int, limit: int) -> list[Key]:
        return list(islice(self._within(fields, after, until), offset, offset + limit))

    def newest(self, fields: Fields, until: int | None) -> Key | None:
        """The last key before ``until``, looked for from the end."""
        end = self._start + YEARS_S + LONG_S + 7200 if until is None else until
        for reach in (3600, 86_400, 40 * 86_400, YEARS_S):
            found = list(self._within(fields, Key(end - reach, -1, -1), until))
            if found:
                return found[-1]
        return None

    def incident(self, key: Key) -> dict[str, Any]:
        ticket, last = key.ticket, key.change
        opened = text(self.opened(ticket))
        saves = CHANGES[-1].save + max(0, last - len(CHANGES) + 1)
        return {
            "sys_id": sys_id("1", ticket, 0),
            "number": f"INC{ticket:010d}",
            "sys_created_on": opened,
            "opened_at": opened,
            "sys_updated_on": text(key.at),
            "sys_mod_count": str(saves),
            "sys_created_by": "user.1",
            "state": "7",
            "priority": "2",
            "impact": "2",
            "urgency": "2",
            "category": "network" if last < len(CHANGES) else f"changed {last}",
            "assignment_group": group(ticket + 1),
            "assigned_to": sys_id("2", ticket % PEOPLE, 0),
            "contact_type": "phone",
            "close_code": "Solved (Permanently)",
            "reassignment_count": "1",
            "reopen_count": "0",
        }

    def audit(self, key: Key) -> dict[str, Any]:
        ticket, number = key.ticket, key.change
        if number < len(CHANGES):
            change = CHANGES[number]
            field, save = change.field, change.save
            old, new = (self._value(value, ticket) for value in (change.old, change.new))
        else:
            field, save = TOUCHED, CHANGES[-1].save + number - len(CHANGES) + 1
            old, new = ("network" if number == len(CHANGES) else f"changed {number - 1}"), f"changed {number}"
        return {
            "sys_id": sys_id("3", ticket, number),
            "tablename": "incident",
            "documentkey": sys_id("1", ticket, 0),
            "fieldname": field,
            "oldvalue": old,
            "newvalue": new,
            "user": f"user.{ticket % PEOPLE}",
            "record_checkpoint": str(save),
            "sys_created_on": text(key.at),
        }

    @staticmethod
    def _value(value: str, ticket: int) -> str:
        if value in ("g", "h"):
            return group(ticket + (value == "h"))
        return sys_id("2", ticket % PEOPLE, 0) if value == "p" else value


def sys_id(sort: str, ticket: int, number: int) -> str:
    return f"{sort}{ticket:025x}{number:06x}"


def group(number: int) -> str:
    return sys_id("4", number % GROUPS, 0)


@lru_cache(maxsize=200_000)
def text(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def seconds(stamp: str) -> int:
    return int(datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())


_TIME = re.compile(r"sys_(?:updated|created)_on(>=|<|>|=)([\d: -]{19})")
_BEHIND = re.compile(r"sys_id>([13])([0-9a-f]{25})([0-9a-f]{6})")
_FIELDS = re.compile(r"fieldname(IN|NOT IN)([^^]*)")
_NO_FURTHER = 1 << 24
"""Behind every change of a ticket."""


class Question(NamedTuple):
    """What an encoded query of ours asks for."""

    after: Key
    until: int | None
    descending: bool
    fields: frozenset[str]
    """Of a question for history."""

    @staticmethod
    def read(query: str) -> "Question":
        times = {sign: seconds(stamp) for sign, stamp in _TIME.findall(query)}
        after = Key(times.get(">=", 0), -1, -1)
        if (behind := _BEHIND.search(query)) is not None:
            # a record has one row, whichever change made it
            change = int(behind[3], 16) if behind[1] == "3" else _NO_FURTHER
            after = Key(times["="], int(behind[2], 16), change)
        named = _FIELDS.search(query)
        listed = frozenset() if named is None else frozenset(named[2].split(","))
        fields = FIELDS & listed if named is not None and named[1] == "IN" else FIELDS - listed
        return Question(after, times.get("<"), "ORDERBYDESC" in query, fields)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "generated desk simulator"
    desk: Desk
    wbufsize = -1

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(place.query).items()}
        limit = int(asked["sysparm_limit"])
        rows, total = self._rows(place.path.rpartition("/")[2], asked, limit + 1)
        self._answer(orjson.dumps({"result": rows[:limit]}), total, more=len(rows) > limit)

    def do_POST(self) -> None:
        place = urlsplit(self.path)
        self.desk.touch(int(parse_qs(place.query)["tickets"][0]), int(time.time()))
        self._answer(b"{}", None, more=False)

    def _rows(self, table: str, asked: dict[str, str], limit: int) -> tuple[Sequence[dict[str, Any]], int | None]:
        query = asked.get("sysparm_query", "")
        counted = asked.get("sysparm_no_count") == "false"
        fields = asked["sysparm_fields"].split(",")
        history = table == "sys_audit"
        question = Question.read(query)
        of = question.fields if history else None
        if table not in ("incident", "sys_audit") or (history and "tablename=incident" not in query):
            return self._few(table, query, fields), 0 if counted else None
        if question.descending:
            key = self.desk.newest(of, question.until)
            keys = [] if key is None else [key]
        else:
            offset = int(asked.get("sysparm_offset", 0))
            keys = self.desk.page(of, question.after, question.until, offset, limit)
        make = self.desk.audit if history else self.desk.incident
        rows = [{name: row[name] for name in fields if name in row} for row in map(make, keys)]
        if not history:
            rows = [{**dict.fromkeys(fields, ""), **row} for row in rows]
        return rows, self.desk.count(of, question.after, question.until) if counted else None

    @staticmethod
    def _few(table: str, query: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """People and groups; of other tables nothing."""
        named = {"sys_user": ("2", PEOPLE, "user"), "sys_user_group": ("4", GROUPS, "group")}
        if table not in named or "sys_id>" in query:
            return []
        sort, number, name = named[table]
        wanted = re.search(r"user_name=([^^]+)", query)
        if wanted is not None:
            rows = [{"sys_id": sys_id("2", PEOPLE, 0), "user_name": wanted[1]}]
        else:
            rows = [
                {"sys_id": sys_id(sort, n, 0), "user_name": f"{name}.{n}", "name": f"{name} {n}", "active": "true"}
                for n in range(number)
            ]
        return [{field: row.get(field, "") for field in fields} for row in rows]

    def _answer(self, content: bytes, total: int | None, *, more: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if more:
            self.send_header("Link", f'<{self.path}>;rel="next"')
        if total is not None:
            self.send_header("X-Total-Count", str(total))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    _Handler.desk = Desk(int(sys.argv[1]), int(time.time()))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(json.dumps({"url": f"http://127.0.0.1:{server.server_address[1]}"}), flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
