"""Owns the grammar of the query language: text -> tree, with the vendor's sentences for what cannot be read.

What fields and values mean, and which of them there are, is ``predicates``'.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


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
