"""Owns the query language: text -> tree -> predicate and order, with the vendor's sentences for what is wrong.

Knows how values compare (which is where the traps are: quoted times are minutes in the account's zone, unquoted numbers
are milliseconds, ``!=`` and ``not in`` leave out issues whose field is empty); which issues there are is ``search``'s.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from connectors.jira.simulator.configuration import CATEGORIES, Configuration, Field
from connectors.jira.simulator.markup import plain_text
from connectors.jira.simulator.site import Issue

Predicate = Callable[[Issue], bool]


class JqlError(Exception):
    """A query that the site does not accept; the message is the vendor's."""


@dataclass(frozen=True, slots=True)
class Word:
    """One operand as written. ``kind`` is ``text`` (quoted), ``bare``, ``empty`` or ``function``."""

    text: str
    kind: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clause:
    field: str
    operator: str
    """``=  !=  >  >=  <  <=  ~  !~``; ``in``, ``not in``, ``is`` and ``is not`` are read as ``=`` and ``!=``."""
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Parts joined by ``and`` or ``or``."""

    joint: str
    parts: tuple["Clause | Group", ...]


@dataclass(frozen=True, slots=True)
class Query:
    where: Clause | Group | None
    order: tuple[tuple[str, bool], ...]
    """(field, descending)"""


# --- text to tree -----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<operator>!=|!~|>=|<=|[=<>~])|(?P<mark>[(),!])"""
    r"""|(?P<bare>[^\s"'=!<>~(),]+)|(?P<wrong>\S))""",
)
_OPERATORS = "'=', '!=', '<', '>', '<=', '>=', '~', '!~', 'IN', 'NOT IN', 'IS' and 'IS NOT'"
_INVERSE = {"=": "!=", "!=": "=", ">": "<=", "<=": ">", "<": ">=", ">=": "<", "~": "!~", "!~": "~"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        return self.text.casefold() if self.kind in ("bare", "mark") else ""


@lru_cache(maxsize=512)
def parse(jql: str) -> Query:
    """The tree of ``jql``; ``JqlError`` with line and character where it cannot be read."""
    return _Parser(jql).query()


class _Parser:
    def __init__(self, jql: str) -> None:
        self._jql = jql
        self._tokens = [
            _Token(str(found.lastgroup), found[str(found.lastgroup)], found.start(str(found.lastgroup)))
            for found in _TOKEN.finditer(jql)
            if found.lastgroup
        ]
        self._next = 0

    def query(self) -> Query:
        where = None if self._sees("order") or self._token() is None else self._any()
        order = self._order() if self._takes("order") else ()
        if self._token() is not None:
            self._expected("either 'OR' or 'AND'")
        return Query(where, order)

    def _token(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _sees(self, word: str) -> bool:
        token = self._token()
        return token is not None and token.word == word

    def _takes(self, word: str) -> bool:
        seen = self._sees(word)
        self._next += seen
        return seen

    def _need(self, word: str, what: str) -> None:
        if not self._takes(word):
            self._expected(what)

    def _take(self, kinds: Sequence[str], what: str) -> _Token:
        token = self._token()
        if token is None or token.kind not in kinds:
            self._expected(what)
        assert token is not None
        self._next += 1
        return token

    def _expected(self, what: str) -> None:
        token = self._token()
        if token is None:
            raise JqlError(f"Error in the JQL Query: Expecting {what} before the end of the query.")
        line = self._jql.count("\n", 0, token.at) + 1
        character = token.at - self._jql.rfind("\n", 0, token.at)
        raise JqlError(
            f"Error in the JQL Query: Expecting {what} but got '{_unquoted(token)}'."
            f" (line {line}, character {character})"
        )

    def _any(self) -> Clause | Group:
        parts = [self._all()]
        while self._takes("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Group("or", tuple(parts))

    def _all(self) -> Clause | Group:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Group("and", tuple(parts))

    def _one(self) -> Clause | Group:
        if self._takes("not") or self._takes("!"):
            return _negated(self._one())
        if self._takes("("):
            inner = self._any()
            self._need(")", "')'")
            return inner
        return self._clause()

    def _clause(self) -> Clause:
        name = self._take(("bare", "text"), "a field name")
        field = _unquoted(name)
        operator, listed = self._operator()
        words = self._list() if listed else (self._word(),)
        return Clause(field, operator, words)

    def _operator(self) -> tuple[str, bool]:
        token = self._token()
        if token is not None and token.kind == "operator":
            self._next += 1
            return token.text, False
        if self._takes("is"):
            return ("!=" if self._takes("not") else "="), False
        if self._takes("in"):
            return "=", True
        if self._takes("not"):
            self._need("in", "'IN'")
            return "!=", True
        self._expected(f"operator. The valid operators are {_OPERATORS}")
        raise AssertionError

    def _list(self) -> tuple[Word, ...]:
        self._need("(", "a list of values ('(')")
        words = [self._word()]
        while self._takes(","):
            words.append(self._word())
        self._need(")", "')' or ','")
        return tuple(words)

    def _word(self) -> Word:
        token = self._take(("bare", "text"), "either a value, list or function")
        if token.kind == "text":
            return Word(_unquoted(token), "text")
        if token.word in ("empty", "null"):
            return Word(token.text, "empty")
        if self._takes("("):
            arguments = []
            while not self._takes(")"):
                arguments.append(_unquoted(self._take(("bare", "text"), "')'")))
                self._takes(",")
            return Word(token.text, "function", tuple(arguments))
        return Word(token.text, "bare")

    def _order(self) -> tuple[tuple[str, bool], ...]:
        self._need("by", "'BY'")
        order = []
        while True:
            field = _unquoted(self._take(("bare", "text"), "a field name"))
            descending = self._takes("desc")
            if not descending:
                self._takes("asc")
            order.append((field, descending))
            if not self._takes(","):
                return tuple(order)


def _unquoted(token: _Token) -> str:
    return re.sub(r"\\(.)", r"\1", token.text[1:-1]) if token.kind == "text" else token.text


def _negated(node: Clause | Group) -> Clause | Group:
    """Not moves inwards, as the vendor does it: issues without a value therefore match neither form."""
    if isinstance(node, Group):
        return Group("or" if node.joint == "and" else "and", tuple(_negated(part) for part in node.parts))
    return Clause(node.field, _INVERSE[node.operator], node.words)


# --- tree to predicate ------------------------------------------------------------------------------------------------

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

    def __init__(self, configuration: Configuration) -> None:
        self._site = configuration

    def predicate(self, node: Clause | Group, asker: Asker) -> Predicate:
        """Whether an issue matches; ``JqlError`` for fields and values that do not exist."""
        if isinstance(node, Clause):
            return self._clause(node, asker)
        parts = [self.predicate(part, asker) for part in node.parts]
        if node.joint == "and":
            return lambda issue: all(part(issue) for part in parts)
        return lambda issue: any(part(issue) for part in parts)

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

    def _values_of(self, name: str) -> Callable[[Issue], Sequence[Any]]:
        if name == "project":
            return lambda issue: (issue.project,)
        if name == "statuscategory":
            statuses = self._site.statuses
            return lambda issue: (statuses[issue.values["status"]].category,)
        if name == "labels":
            return lambda issue: [label.casefold() for label in issue.values.get("labels") or ()]
        return lambda issue: _listed(issue.values.get(name))

    def _value(self, name: str, word: Word, asker: Asker) -> Any:
        """The stored form of an operand, ``None`` for EMPTY."""
        if word.kind == "empty":
            return None
        field = self._site.fields.get(name)
        if field and field.type == "user":
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
        elif name == "statuscategory":
            found = _category(text)
        elif name in ("status", "issuetype", "priority", "resolution"):
            if text.casefold() == "unresolved" and name == "resolution":
                return ""
            named = self._site.named(name, text)
            found = named.id if named else None
        elif field and field.type == "option":
            found = next((option for option in field.options if option.casefold() == text.casefold()), None)
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
    compare: Callable[[Any], bool] = {
        ">": lambda value: bool(value > wanted),
        ">=": lambda value: bool(value >= wanted),
        "<": lambda value: bool(value < wanted),
        "<=": lambda value: bool(value <= wanted),
    }[clause.operator]
    return lambda issue: (value := read(issue)) is not None and compare(value)


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


def is_relative(node: Clause | Group) -> bool:
    """Whether the answer depends on the instant of asking."""
    if isinstance(node, Group):
        return any(is_relative(part) for part in node.parts)
    return any(word.kind == "function" or _PERIOD.fullmatch(word.text) for word in node.words)


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
Visible = Mapping[int, Issue]


def sorted_issues(issues: Iterable[Issue], keys: SortKeys) -> list[Issue]:
    """In the order of ``keys``; the sort is stable, so the least significant key goes first."""
    ordered = list(issues)
    for key, descending in reversed(keys):
        ordered.sort(key=key, reverse=descending)
    return ordered
