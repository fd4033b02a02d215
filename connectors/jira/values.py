"""What the fields of an issue hold, as raw texts: of the issue itself and of each change in its history.

Both must come out in the same form, or a change would seem to undo itself: ids of what can be chosen (never a label),
pseudonyms of people, references to free text, lists sorted and joined by commas, instants in UTC. The mapping says
which fields hold people and free text; what Jira says of a field's type is added, so that a mapping cannot let either
through by mistake. ``''`` is an empty field, ``None`` one whose value cannot be told.

Leaves to ``history`` which histories there are and to ``translate`` what they mean.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from connectors.jira.texts import readable
from connectors.jira.translate import HISTORY, ISSUES, millis, stamp
from itsms_sync.records import Border, Gap, Millis, Row, Window

Json = Mapping[str, Any]

COMMENT = "comment"
FIXED = ("key", "created", "updated")
"""Parts of every row of an issue besides the fields asked for."""
_LINK = re.compile(r"link\.(?P<type>[0-9]+)\.(?P<direction>inward|outward)")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_NUMBERED = re.compile(r"\(([0-9]+)\)")


class Shape(NamedTuple):
    """What one field holds; ``many`` of them are a list."""

    base: str
    """``id``, ``person``, ``group``, ``words``, ``number``, ``day``, ``instant``, ``cascade``, ``line`` (short text),
    ``text`` (free text) or ``other``."""
    many: bool = False


_STOCK = {
    **dict.fromkeys(("project", "issuetype", "status", "priority", "resolution", "security", "parent"), Shape("id")),
    **dict.fromkeys(("components", "versions", "fixVersions"), Shape("id", many=True)),
    **dict.fromkeys(("assignee", "reporter", "creator"), Shape("person")),
    **dict.fromkeys(("created", "updated", "resolutiondate", "statuscategorychangedate"), Shape("instant")),
    **dict.fromkeys(("summary", "description", "environment"), Shape("text")),
    "duedate": Shape("day"),
    "labels": Shape("words"),
}
_BASES = {
    **dict.fromkeys(("option", "project", "version", "component", "issuetype", "priority", "resolution"), "id"),
    "option-with-child": "cascade",
    "user": "person",
    "group": "group",
    "number": "number",
    "date": "day",
    "datetime": "instant",
}
_ONE_BY_ONE = frozenset(("components", "versions", "fixVersions"))
"""Lists whose history names what was added or removed, and never the whole."""
_NOBODY = "unknown"
"""What Cloud writes for every account that is damaged: no identifier, since different people have it."""
_OTHER_NAMES = {
    "component": "components",
    "fix version": "fixVersions",
    "version": "versions",
    "issueparentassociation": "parent",
    "parent issue": "parent",
}
"""Names that the history gives to stock fields, where they are not their ids."""


class Fields:
    """The fields of one window. ``described`` is what the resource ``field`` answers, ``form`` the kind of identifier
    that the history has of people: ``accountId``, or ``key`` on Data Center."""

    def __init__(self, window: Window, described: Sequence[Json], border: Border, form: str) -> None:
        self._border = border
        self._form = form
        self._window = window
        self._shapes = {str(field["id"]): shape(str(field["id"]), field.get("schema") or {}) for field in described}
        self._custom: dict[str, list[tuple[str, str | None]]] = {}
        """Name -> ids of custom fields, each with the one project that it belongs to."""
        for field in described:
            if field.get("custom"):
                place = ((field.get("scope") or {}).get("project") or {}).get("id")
                found_ = self._custom.setdefault(str(field["name"]), [])
                found_.append((str(field["id"]), None if place is None else str(place)))
        self._links = {name: found for name in window.fields if (found := _LINK.fullmatch(name))}
        self._own = tuple(n for n in dict.fromkeys(window.fields) if n not in {*self._links, COMMENT, *FIXED})
        self._missing = set(self._own)
        self._ambiguous: set[str] = set()

    @property
    def asked(self) -> list[str]:
        """Fields in the question."""
        more = (*(("issuelinks",) if self._links else ()), *((COMMENT,) if COMMENT in self._window.fields else ()))
        return list(dict.fromkeys(("project", "created", "updated", *self._own, *more)))

    @property
    def stored(self) -> tuple[str, ...]:
        """Parts of a row."""
        return tuple(dict.fromkeys((*FIXED, *self._window.fields)))

    # --- the issue as it stands

    def row(self, issue: Json) -> Row:
        """The issue as it may be stored."""
        fields = issue["fields"]
        body: dict[str, str] = {"key": str(issue["key"])}
        body.update((name, _instant(fields[name]) or "") for name in ("created", "updated"))
        for name in self._own:
            held = self._held(name, fields)
            if held is not None:
                body[name] = held
                self._missing.discard(name)
        for name, link in self._links.items():
            body[name] = _linked(fields.get("issuelinks") or (), link["type"], link["direction"] + "Issue")
        if COMMENT in self._window.fields:
            body[COMMENT] = ""
        return Row(ISSUES, str(issue["id"]), body)

    def _held(self, name: str, fields: Json) -> str | None:
        if name not in fields:
            return "" if name == "parent" else None
        kind = self._shape(name)
        value = fields[name]
        if value is None or value in ("", []):
            return ""
        if kind.base == "words":
            return _joined(map(str, value if isinstance(value, list) else str(value).split()))
        try:
            parts = [self._value(kind.base, part) for part in (value if isinstance(value, list) else [value])]
        except (KeyError, TypeError, AttributeError):  # an app decides what its field holds
            return None
        if None in parts:
            return None
        return self._guarded(name, kind, _joined(part for part in parts if part))

    def _value(self, base: str, value: Any) -> str | None:
        """``None`` for what cannot be compared."""
        if base == "person":
            return person(self._border, value)
        if base == "cascade":
            child = value.get("child") or {}
            return "/".join(str(part["id"]) for part in (value, child) if part)
        if base == "group":
            return str(value.get("groupId") or value["name"])
        if isinstance(value, Mapping):
            return readable(value) if value.get("type") == "doc" else (str(value["id"]) if "id" in value else None)
        return self._scalar(base, value)

    def _scalar(self, base: str, value: Any) -> str | None:
        if base == "number":
            return number(value)
        if base == "instant":
            return _instant(value)
        return readable(value) if isinstance(value, str) else str(value)

    # --- its history

    def history(self, issue: Json, histories: Sequence[Json]) -> list[Row]:
        """Rows of the histories, oldest first. Lists of which only changes are told are followed back from what the
        issue holds now.
        """
        now = {name: _ids(issue["fields"].get(name)) for name in _ONE_BY_ONE & set(self._own)}
        rows: list[Row] = []
        for history in sorted(histories, key=lambda one: order(one["id"]), reverse=True):
            items: list[list[Any]] = []
            for number_, item in reversed(list(enumerate(history["items"]))):
                items += self._changes(number_, item, now, str(issue["fields"]["project"]["id"]))
            author = history.get("author")
            body = {
                "issue": str(issue["id"]),
                "created": stamp(moment(history["created"])),
                "author": person(self._border, author) if author else None,
                "items": items[::-1],
            }
            rows.append(Row(HISTORY, str(history["id"]), body))
        return rows[::-1]

    def _changes(self, number_: int, item: Json, now: dict[str, set[str]], project: str) -> list[list[Any]]:
        candidates = self._candidates(item, project)
        asked = [name for name in candidates if name in self._own]
        if len(candidates) > 1 and asked:
            self._ambiguous.update(asked)
            return [[f"{number_}.{name}", name, None, None] for name in asked]
        return [[number_, name, *self._sides(name, item, now)] for name in asked]

    def _candidates(self, item: Json, project: str) -> Sequence[str]:
        """The fields that the item may speak of. Data Center names custom fields only, and names may repeat; a field of
        a team-managed project is in no other one.
        """
        if item.get("fieldId"):
            return (str(item["fieldId"]),)
        name = str(item["field"])
        if item.get("fieldtype") == "custom":
            return [id_ for id_, place in self._custom.get(name, ()) if place in (None, project)]
        return (_OTHER_NAMES.get(name.lower(), name if name in _STOCK else name.lower()),)

    def _sides(self, name: str, item: Json, now: dict[str, set[str]]) -> tuple[str | None, str | None]:
        if name in now:
            return _followed_back(now[name], item)
        kind = self._shape(name)
        old, new = (
            self._side(kind, item.get(raw), item.get(text))
            for raw, text in (("from", "fromString"), ("to", "toString"))
        )
        return self._guarded(name, kind, old), self._guarded(name, kind, new)

    def _side(self, kind: Shape, raw: Any, text: Any) -> str | None:
        """One side of a change: ids stand in ``raw``, labels and texts in ``text``."""
        raw, text = ("" if each is None else str(each) for each in (raw, text))
        if not raw and not text:
            return ""
        return _SIDES[kind.base](self, kind, raw, text)

    def _id_side(self, kind: Shape, raw: str, text: str) -> str | None:
        return (_joined(_listed(raw)) if kind.many else raw) or None

    def _person_side(self, kind: Shape, raw: str, text: str) -> str | None:
        listed = _listed(raw)
        return None if _NOBODY in listed else _joined(self._border.person(self._form, each) for each in listed) or None

    def _guarded(self, name: str, kind: Shape, value: str | None) -> str | None:
        """``value``, or what replaces it because the field holds free text or accounts."""
        if not value:
            return value
        if kind.base == "text" or name in self._window.texts:
            return self._border.text(value)
        if name in self._window.persons and kind.base != "person":
            return _joined(self._account(each) for each in value.split(","))
        return value

    def _account(self, identifier: str) -> str:
        at = "@" in identifier
        return self._border.person("email" if at else self._form, identifier.lower() if at else identifier)

    def _shape(self, name: str) -> Shape:
        return self._shapes.get(name) or shape(name, {})

    # --- comments, and what did not come

    def comment(self, issue: str, comment: Json) -> dict[str, Any]:
        """A comment as it may be stored, public or internal."""
        author = comment.get("author")
        return {
            "issue": issue,
            "created": stamp(moment(comment["created"])),
            "author": person(self._border, author) if author else None,
            "text": self._border.text(readable(comment.get("body"))),
        }

    def gaps(self) -> list[Gap]:
        """After a window with issues: fields that came with none of them, and changes that name several fields."""
        undelivered = (
            Gap(ISSUES, "field-not-served", _NO_FIELD.format(name=name), field=name) for name in sorted(self._missing)
        )
        ambiguous = (
            Gap(HISTORY, "history-ambiguous", _AMBIGUOUS.format(name=name), field=name)
            for name in sorted(self._ambiguous)
        )
        return [*undelivered, *ambiguous]


_NO_FIELD = (
    "{name} came with no issue: it does not exist, stands in no project that is read, or holds nothing that can be "
    "compared; correct the mapping, or let the account see the field"
)
_AMBIGUOUS = (
    "the history names custom fields, and another one is called like {name}: what changed in it is not known; give one "
    "of them another name"
)

_SIDES: Mapping[str, Callable[[Fields, Shape, str, str], str | None]] = {
    "id": Fields._id_side,
    "person": Fields._person_side,
    "group": lambda fields, kind, raw, text: _joined(_listed(raw or text)),
    "words": lambda fields, kind, raw, text: _joined(text.split()),
    "number": lambda fields, kind, raw, text: number(raw or text),
    "day": lambda fields, kind, raw, text: _day(raw) or _day(text),
    "instant": lambda fields, kind, raw, text: _instant(raw) or _instant(text),
    "cascade": lambda fields, kind, raw, text: "/".join(re.findall("[0-9]+", raw) or _NUMBERED.findall(text)) or None,
    "line": lambda fields, kind, raw, text: readable(text or raw),
    "text": lambda fields, kind, raw, text: readable(text or raw),
    "other": lambda fields, kind, raw, text: raw or None,
}


def shape(field: str, schema: Json) -> Shape:
    """What the field holds, from its id and what Jira says of it."""
    if field in _STOCK:
        return _STOCK[field]
    many = schema.get("type") == "array"
    type_ = str(schema.get("items") if many else schema.get("type"))
    if type_ == "string":
        if many:
            return Shape("words")
        return Shape("text" if str(schema.get("custom", "")).endswith(":textarea") else "line")
    return Shape(_BASES.get(type_, "other"), many)


def person(border: Border, account: Json) -> str | None:
    """The pseudonym of an account: by its id on Cloud, by its key on Data Center. ``None`` if nothing tells it from
    others, as for some accounts that were deleted.
    """
    form = next((form for form in ("accountId", "key", "name") if account.get(form)), None)
    return None if form is None or account[form] == _NOBODY else border.person(form, str(account[form]))


def moment(given: Any) -> Millis:
    """An instant in any of the forms that Jira gives it: text, milliseconds or seconds. ``ValueError`` for others."""
    if isinstance(given, str) and not given.isdecimal():
        at = millis(given)
        if at is None:
            raise ValueError("an empty instant")
        return at
    at = int(given)
    return at if at >= 10**11 else at * 1000  # 10**11 s lie in the year 5138


def number(given: Any) -> str | None:
    """A number as decimal text without needless zeros."""
    try:
        return format(Decimal(str(given)).normalize(), "f")
    except InvalidOperation:
        return None


def _instant(given: Any) -> str | None:
    try:
        return stamp(moment(given))
    except (ValueError, TypeError, OverflowError):
        return None


def _day(text: str) -> str | None:
    found = _DAY.search(text)
    return found[0] if found else None


def _joined(parts: Iterable[str]) -> str:
    return ",".join(sorted(parts))


def _listed(raw: str) -> list[str]:
    """The history writes lists as ``[10001, 10002]``."""
    return [part.strip() for part in raw.strip("[]").split(",") if part.strip()]


def _ids(held: Any) -> set[str]:
    return {str(each["id"]) for each in held or ()}


def _followed_back(now: set[str], item: Json) -> tuple[str, str]:
    """The whole list before and after the item; ``now`` is the list after it and becomes the one before."""
    new = _joined(now)
    if item.get("to"):
        now.discard(str(item["to"]))
    if item.get("from"):
        now.add(str(item["from"]))
    return _joined(now), new


def _linked(links: Sequence[Json], type_: str, side: str) -> str:
    return _joined({str(link[side]["id"]) for link in links if str(link["type"]["id"]) == type_ and link.get(side)})


def order(id: Any) -> tuple[int, str]:
    """The place of a history among others of its issue."""
    return (int(id), "") if str(id).isdecimal() else (0, str(id))
