"""Owns what the query language means: a tree of it -> predicate and order over one site's fields and values.

Knows how values compare, which is where the traps are: quoted times are minutes in the account's zone, unquoted numbers
are milliseconds, ``!=`` and ``not in`` leave out issues whose field is empty. Which issues there are is ``search``'s.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import reduce
from typing import Any

from connectors.jira.simulator.configuration import CATEGORIES, Configuration, Field
from connectors.jira.simulator.jql import Clause, Group, JqlError, Word
from connectors.jira.simulator.markup import plain_text
from connectors.jira.simulator.service_levels import cycles, level_of
from connectors.jira.simulator.site import Cycle, Issue

Predicate = Callable[[Issue], bool]

_ALIASES = {
    "issuekey": "key",
    "issue": "key",
    "type": "issuetype",
    "resolved": "resolutiondate",
    "createddate": "created",
    "updateddate": "updated",
    "due": "duedate",
}
_TEXT_FIELDS = ("summary", "description", "environment")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks and when: what ``currentUser()``, relative and quoted times mean."""

    account: str
    zone: tzinfo
    now: int


class Language:
    """The query language over one site's fields and values."""

    def __init__(self, configuration: Configuration, find: Callable[[str], Issue | None]) -> None:
        """``find`` gives the issue with an id or key, which only ``parent`` needs."""
        self._site = configuration
        self._find = find

    def predicate(self, node: Clause | Group, asker: Asker) -> Predicate:
        """Whether an issue matches; ``JqlError`` for fields and values that do not exist."""
        if isinstance(node, Clause):
            return self._clause(node, asker)
        return reduce(_both if node.joint == "and" else _either, [self.predicate(part, asker) for part in node.parts])

    def earliest(self, node: Clause | Group, field: str, asker: Asker) -> int | None:
        """The least value of a time field that a matching issue can have; ``None`` when any will do."""
        if isinstance(node, Clause):
            if node.operator not in ("=", ">", ">=") or self._name(node.field) != self._name(field):
                return None
            instants = [_instant(word, asker, field) for word in node.words]
            return min((each for each in instants if each is not None), default=None) if None not in instants else None
        parts = [self.earliest(part, field, asker) for part in node.parts]
        known = [each for each in parts if each is not None]
        if node.joint == "and":
            return max(known, default=None)
        return min(known) if len(known) == len(parts) else None

    def is_time(self, field: str) -> bool:
        found = self._site.fields.get(self._name(field))
        return found is not None and found.type == "datetime"

    def order(self, order: Sequence[tuple[str, bool]]) -> list[tuple[Callable[[Issue], Any], bool]]:
        """Keys of sorting, most significant first, and whether each descends; the last one makes the order total."""
        keys = [(self._sort_key(name), descending) for name, descending in order]
        if not order:
            return [(lambda issue: issue.id, True)]
        return [*keys, (lambda issue: issue.id, False)]

    def _clause(self, clause: Clause, asker: Asker) -> Predicate:
        name = self._name(clause.field)
        if name == "text" or clause.operator in ("~", "!~"):
            return self._words_clause(name, clause)
        field = self._site.fields.get(name)
        if field and field.type in ("date", "datetime"):
            instants = [_instant(word, asker, name) for word in clause.words]
            return _comparing(clause, self._reader(name, asker.zone), instants)
        if name in ("id", "key"):
            return self._identity(name, clause)
        if field and field.type == "number":
            return _comparing(
                clause, self._reader(name, asker.zone), [_number(word, clause.field) for word in clause.words]
            )
        if clause.operator not in ("=", "!="):
            raise JqlError(f"The operator '{clause.operator}' is not supported by the '{clause.field}' field.")
        if field and field.type in ("approvals", "sla"):
            return self._state(clause, field, asker)
        return _membership(clause, self._values_of(name), [self._value(name, word, asker) for word in clause.words])

    def _name(self, written: str) -> str:
        name = written.casefold()
        name = _ALIASES.get(name, name)
        if name in ("key", "id", "text", "comment", "statuscategory"):
            return name
        if numbered := re.fullmatch(r"cf\[(\d+)\]", name):
            name = f"customfield_{numbered[1]}"
        for field in self._site.fields.values():
            if name in (field.id.casefold(), field.name.casefold()) and field.searchable:
                return field.id
        raise JqlError(f"Field '{written}' does not exist or you do not have permission to view it.")

    def _reader(self, name: str, zone: tzinfo) -> Callable[[Issue], Any]:
        field = self._site.fields.get(name)
        if field and field.type == "date":
            return lambda issue: _midnight(issue.values.get(name), zone)
        return lambda issue: issue.values.get(name)

    def _identity(self, name: str, clause: Clause) -> Predicate:
        """Keys compare by project and number; ``id`` and ``key`` accept both forms."""
        numeric = [word.text.isdecimal() for word in clause.words]
        if all(numeric):
            return _comparing(clause, lambda issue: issue.id, [int(word.text) for word in clause.words])
        for word in clause.words:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*-\d+", word.text):
                raise JqlError(f"The issue key '{word.text}' for field '{clause.field}' is invalid.")
        return _comparing(clause, lambda issue: _key_order(issue.key), [_key_order(word.text) for word in clause.words])

    def _state(self, clause: Clause, field: Field, asker: Asker) -> Predicate:
        """Approvals and clocks are asked for by what they are in, e.g. ``approvals = pending()``."""
        names = [word.text.casefold() if word.kind == "function" else "" for word in clause.words]
        known = _APPROVAL_STATES if field.type == "approvals" else _CLOCK_STATES
        for word, name in zip(clause.words, names, strict=True):
            if name not in known:
                raise JqlError(f"The value '{word.text}' is not supported by the '{clause.field}' field.")
        wanted = clause.operator == "="
        if field.type == "approvals":
            asked = [_APPROVAL_STATES[name] for name in names]
            return lambda issue: wanted == any(state(issue.approvals, asker.account) for state in asked)
        level = level_of(self._site, field.id)
        clocks = [_CLOCK_STATES[name] for name in names]

        def matches(issue: Issue) -> bool:
            ran = cycles(level, issue, asker.now) if level else []
            return bool(ran) and wanted == any(state(ran) for state in clocks)

        return matches

    def _values_of(self, name: str) -> Callable[[Issue], Sequence[Any]]:
        if name == "project":
            return lambda issue: (issue.project,)
        if name == "statuscategory":
            statuses = self._site.statuses
            return lambda issue: (statuses[issue.values["status"]].category,)
        if name == "parent":
            return lambda issue: [str(parent)] if (parent := issue.values.get("parent")) else []
        if name == "labels":
            return lambda issue: [label.casefold() for label in issue.values.get("labels") or ()]
        return lambda issue: _listed(issue.values.get(name))

    def _value(self, name: str, word: Word, asker: Asker) -> Any:
        """The stored form of an operand, ``None`` for EMPTY."""
        if word.kind == "empty":
            return None
        field = self._site.fields.get(name)
        if field and "user" in (field.type, field.items):
            return self._person(name, word, asker)
        if word.kind == "function":
            raise JqlError(f"The function '{word.text}' is not supported by the '{name}' field.")
        if name == "labels":
            return word.text.casefold()
        return self._choice(name, word.text, field)

    def _choice(self, name: str, text: str, field: Field | None) -> str:
        found: str | None = text
        if name == "project":
            project = self._site.project(text)
            found = project.key if project else None
        elif name == "parent":
            parent = self._find(text)
            found = str(parent.id) if parent else None
        elif name == "statuscategory":
            found = _category(text)
        elif name in ("status", "issuetype", "priority", "resolution"):
            if text.casefold() == "unresolved" and name == "resolution":
                return ""
            named = self._site.named(name, text)
            found = named.id if named else None
        elif field and "option" in (field.type, field.items):
            option = field.option(text)
            found = option.id if option else None
        if found is None:
            label = "statusCategory" if name == "statuscategory" else name
            raise JqlError(f"The value '{text}' does not exist for the field '{label}'.")
        return found

    def _person(self, name: str, word: Word, asker: Asker) -> str:
        if word.kind == "function":
            if word.text.casefold() != "currentuser":
                raise JqlError(f"Unable to find JQL function '{word.text}({', '.join(word.arguments)})'.")
            return asker.account
        user = self._site.user(word.text)
        if user is None:
            raise JqlError(f"The value '{word.text}' does not exist for the field '{name}'.")
        return user.account_id

    def _words_clause(self, name: str, clause: Clause) -> Predicate:
        field = self._site.fields.get(name)
        searchable = name in ("text", "comment", *_TEXT_FIELDS) or (field and field.type in ("string", "text"))
        if not searchable or clause.operator not in ("~", "!~"):
            raise JqlError(f"The operator '{clause.operator}' is not supported by the '{clause.field}' field.")
        wanted = [_phrases(word.text) for word in clause.words]
        negative = clause.operator == "!~"

        def matches(issue: Issue) -> bool:
            texts = [_tokens(text) for text in _texts(issue, name)]
            if not any(texts):
                return False
            found = any(all(any(_contains(text, phrase) for text in texts) for phrase in each) for each in wanted)
            return found != negative

        return matches

    def _sort_key(self, written: str) -> Callable[[Issue], Any]:
        name = self._name(written)
        if name == "key":
            return lambda issue: (False, _key_order(issue.key))
        if name in ("status", "issuetype", "priority", "resolution"):
            # priorities are sorted by urgency: the first of the list, which has the lowest rank, is the most urgent
            ranks = {each.id: rank for rank, each in enumerate(self._site.all_named(name))}
            sign = -1 if name == "priority" else 1
            return lambda issue: _last_if_none(ranks.get(issue.values.get(name) or ""), sign)
        if name == "project":
            return lambda issue: (False, issue.project)
        if name == "id":
            return lambda issue: (False, issue.id)
        return lambda issue: _last_if_none(_sortable(issue.values.get(name)), 1)


_APPROVAL_STATES: Mapping[str, Callable[[Sequence[Mapping[str, Any]], str], bool]] = {
    "pending": lambda approvals, _: any(each["decision"] == "pending" for each in approvals),
    "approved": lambda approvals, _: any(each["decision"] == "approved" for each in approvals),
    "declined": lambda approvals, _: any(each["decision"] == "declined" for each in approvals),
    "mypending": lambda approvals, account: any(
        {"by": account, "decision": "pending"} in each["approvers"]
        for each in approvals
        if each["decision"] == "pending"
    ),
}
_CLOCK_STATES: Mapping[str, Callable[[Sequence[Cycle]], bool]] = {
    "running": lambda ran: ran[-1].stop is None and not ran[-1].paused,
    "paused": lambda ran: ran[-1].stop is None and ran[-1].paused,
    "completed": lambda ran: any(each.stop is not None for each in ran),
    "breached": lambda ran: bool(ran[-1].breached),
    "everbreached": lambda ran: any(each.breached for each in ran),
}


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def _both(one: Predicate, other: Predicate) -> Predicate:
    return lambda issue: one(issue) and other(issue)


def _either(one: Predicate, other: Predicate) -> Predicate:
    return lambda issue: one(issue) or other(issue)


def _comparing(clause: Clause, read: Callable[[Issue], Any], values: Sequence[Any]) -> Predicate:
    """A predicate for ordered values, where ``None`` stands for EMPTY."""
    wanted = values[0]
    if clause.operator == "=":
        return lambda issue: read(issue) in values
    if clause.operator == "!=":
        if None in values:
            return lambda issue: read(issue) not in values
        return lambda issue: (value := read(issue)) is not None and value not in values
    if wanted is None:
        raise JqlError(f"The operator '{clause.operator}' on the '{clause.field}' field does not support EMPTY.")
    compare = _COMPARISONS[clause.operator]
    return lambda issue: (value := read(issue)) is not None and compare(value, wanted)


def _membership(clause: Clause, values_of: Callable[[Issue], Sequence[Any]], wanted: Sequence[Any]) -> Predicate:
    # "resolution = Unresolved" is a value to the language but an empty field to the issue
    empty = None in wanted or "" in wanted
    chosen = {value for value in wanted if value}
    if clause.operator == "=":
        return lambda issue: not chosen.isdisjoint(values) if (values := values_of(issue)) else empty
    return lambda issue: bool(values := values_of(issue)) and chosen.isdisjoint(values)


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _category(text: str) -> str | None:
    wanted = text.casefold()
    return next(
        (name for name, (number, key, _) in CATEGORIES.items() if wanted in (name.casefold(), key, str(number))), None
    )


def _key_order(key: str) -> tuple[str, int]:
    project, _, number = key.rpartition("-")
    return project.upper(), int(number)


def _sortable(value: Any) -> Any:
    if isinstance(value, list | dict):
        return str(value)
    return value.casefold() if isinstance(value, str) else value


def _last_if_none(value: Any, sign: int) -> tuple[bool, Any]:
    if value is None:
        return True, 0
    return False, -value if sign < 0 else value


# --- times ------------------------------------------------------------------------------------------------------------

_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PERIOD = re.compile(r"([+-]?)((?:\d+[wdhm]\s*)+)")
_FORMS = ("%Y/%m/%d %H:%M", "%Y-%m-%d %H:%M", "%Y/%m/%d", "%Y-%m-%d")


_LASTING = frozenset({"currentuser", "running", "paused", "completed", *_APPROVAL_STATES})
"""Functions whose answer changes only when an issue does; time alone moves days, periods and breaches."""


def is_relative(node: Clause | Group) -> bool:
    """Whether the answer depends on the instant of asking."""
    if isinstance(node, Group):
        return any(is_relative(part) for part in node.parts)
    return any(
        word.text.casefold() not in _LASTING if word.kind == "function" else _PERIOD.fullmatch(word.text)
        for word in node.words
    )


def _instant(word: Word, asker: Asker, field: str) -> int | None:
    """Milliseconds of an operand; quoted times are minutes in the asker's zone, bare whole numbers are milliseconds."""
    if word.kind == "empty":
        return None
    if word.kind == "function":
        return _function_instant(word, asker)
    if word.text.lstrip("-").isdecimal():
        return int(word.text)
    if period := _PERIOD.fullmatch(word.text):
        at = asker.now + _span(period)
        return at - at % 60_000
    for form in _FORMS:
        try:
            local = datetime.strptime(word.text, form).replace(tzinfo=asker.zone)
        except ValueError:
            continue
        return round(local.timestamp() * 1000)
    raise JqlError(
        f"Date value '{word.text}' for field '{field}' is invalid. Valid formats include: 'yyyy/MM/dd HH:mm',"
        " 'yyyy-MM-dd HH:mm', 'yyyy/MM/dd', 'yyyy-MM-dd', or a period format e.g. '-5d', '4w 2d'."
    )


def _function_instant(word: Word, asker: Asker) -> int:
    if word.text.casefold() == "now":
        return asker.now
    if word.text.casefold() != "startofday":
        raise JqlError(f"Unable to find JQL function '{word.text}({', '.join(word.arguments)})'.")
    period = _PERIOD.fullmatch(word.arguments[0]) if word.arguments else None
    days = _span(period) // _UNITS["d"] if period else 0
    local = datetime.fromtimestamp(asker.now / 1000, asker.zone) + timedelta(days=days)
    return round(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def _span(period: re.Match[str]) -> int:
    size = sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([wdhm])", period[2]))
    return -size if period[1] == "-" else size


def _midnight(day: str | None, zone: tzinfo) -> int | None:
    return None if day is None else round(datetime.fromisoformat(day).replace(tzinfo=zone).timestamp() * 1000)


def _number(word: Word, field: str) -> float | None:
    if word.kind == "empty":
        return None
    try:
        return float(word.text)
    except ValueError:
        raise JqlError(f"Value '{word.text}' is invalid for the '{field}' field.") from None


# --- words ------------------------------------------------------------------------------------------------------------


def _texts(issue: Issue, name: str) -> Iterable[str]:
    names = _TEXT_FIELDS if name == "text" else (name,)
    yield from (plain_text(issue.values[each]) for each in names if issue.values.get(each))
    if name in ("text", "comment"):
        yield from (plain_text(comment["body"]) for comment in issue.comments)


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _phrases(text: str) -> list[list[str]]:
    """Quoted parts stay together; a star at the end of a word is kept as its last character."""
    parts = re.findall(r'"([^"]*)"|(\S+)', text.casefold())
    return [re.findall(r"\w+\*?", quoted or single) for quoted, single in parts]


def _contains(tokens: Sequence[str], phrase: Sequence[str]) -> bool:
    starts = range(len(tokens) - len(phrase) + 1)
    return any(all(_is_word(tokens[start + n], word) for n, word in enumerate(phrase)) for start in starts)


def _is_word(token: str, word: str) -> bool:
    return token.startswith(word[:-1]) if word.endswith("*") else token == word


SortKeys = list[tuple[Callable[[Issue], Any], bool]]


def sorted_issues(issues: Iterable[Issue], keys: SortKeys) -> list[Issue]:
    """In the order of ``keys``; the sort is stable, so the least significant key goes first."""
    ordered = list(issues)
    for key, descending in reversed(keys):
        ordered.sort(key=key, reverse=descending)
    return ordered
