"""The encoded query language: text to a :class:`Query`, nothing more.

Knows no table: whether a field exists, and what then happens, is decided in :mod:`.search`.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

OPERATORS = (
    "NOT IN",
    "NOT LIKE",
    "NOTLIKE",
    "DOES NOT CONTAIN",
    "STARTSWITH",
    "ENDSWITH",
    "ISNOTEMPTY",
    "ISEMPTY",
    "EMPTYSTRING",
    "ANYTHING",
    "BETWEEN",
    "NSAMEAS",
    "SAMEAS",
    "CONTAINS",
    "LIKE",
    "INSTANCEOF",
    "IN",
    "!=",
    "<=",
    ">=",
    "!*",
    "=",
    "<",
    ">",
    "*",
    "%",
)
_UNSERVED = ("NOTON", "ONToday", "ON", "RELATIVE", "DATEPART", "MORETHAN", "LESSTHAN", "DYNAMIC", "IN_HIERARCHY")
_SYNONYMS = {
    "NOTLIKE": "NOT LIKE",
    "DOES NOT CONTAIN": "NOT LIKE",
    "!*": "NOT LIKE",
    "CONTAINS": "LIKE",
    "*": "LIKE",
    "%": "ENDSWITH",
    "EMPTYSTRING": "ISEMPTY",
}
_CONDITION = re.compile(
    rf"([a-z0-9_.]+?)({'|'.join(re.escape(word) for word in (*_UNSERVED, *OPERATORS))})(.*)", re.DOTALL
)


class UnservedError(Exception):
    """The real product knows this word; this simulator does not, and says so rather than guess."""


class Condition(NamedTuple):
    """``operator`` is empty when the text could not be read; ``field`` then holds the text."""

    field: str
    operator: str
    value: str


Clause = tuple[Condition, ...]
"""Alternatives; one must hold."""
Group = tuple[Clause, ...]
"""Clauses; all must hold."""


@dataclass(frozen=True, slots=True)
class Query:
    groups: tuple[Group, ...]
    """One must hold. A query without conditions has one empty group."""
    order: tuple[tuple[str, bool], ...]
    """Field and whether it descends, in the order of sorting."""

    def fields(self) -> set[str]:
        """Every field named in a condition or an order."""
        named = {condition.field for group in self.groups for clause in group for condition in clause}
        return named | {field for field, _ in self.order}


def parse(text: str) -> Query:
    """Read an encoded query. Never fails on nonsense, as the product does not; raises :class:`UnservedError`."""
    groups: list[list[list[Condition]]] = [[]]
    order: list[tuple[str, bool]] = []
    for term in text.split("^"):
        if term.startswith("ORDERBYDESC"):
            order.append((term[11:], True))
        elif term.startswith("ORDERBY"):
            order.append((term[7:], False))
        elif term and term != "EQ":
            _place(term, groups)
    return Query(tuple(tuple(tuple(clause) for clause in group) for group in groups), tuple(order))


def _place(term: str, groups: list[list[list[Condition]]]) -> None:
    """``^NQ`` opens a group, ``^OR`` joins the neighbour on its left, anything else is a clause of its own."""
    if term.startswith("NQ"):
        groups.append([])
        term = term[2:]
    if term.startswith("OR") and groups[-1]:
        groups[-1][-1].append(_condition(term[2:]))
    elif term:
        groups[-1].append([_condition(term)])


def _condition(text: str) -> Condition:
    if text.startswith(("RLQUERY", "123TEXTQUERY321")):
        raise UnservedError(text)
    match = _CONDITION.fullmatch(text)
    if match is None:
        return Condition(text, "", "")
    field, operator, value = match.groups()
    if operator in _UNSERVED:
        raise UnservedError(operator)
    return Condition(field, _SYNONYMS.get(operator, operator), value)
