"""The one condition language of mappings and procedures: a predicate of ISO SQL over the columns of one row.

Owns what may be written, its types, its three-valued meaning and the place of every mistake inside the text. The text
is read by sqlglot through a dialect that knows nothing but this language, and becomes a polars expression: true, false,
or null for "unknown", which never counts as fulfilled. Where the text stands in a file is known to ``documents``; which
columns exist is known to the caller. Nothing here reads or evaluates data.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from sqlglot import Token, TokenType, exp, parser, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError
from sqlglot.expressions import Expr

if TYPE_CHECKING:
    import polars as pl

LONGEST = 4_000
"""Characters of one condition; a longer one is a table that belongs into a mapping."""

DEEPEST = 30
"""Levels of parentheses, CASE, NOT, signs and sums; sqlglot's parser spends about 18 Python frames on each."""


class Type(StrEnum):
    """Types of columns, and how a column of that type arrives in the data frame."""

    TEXT = "text"
    """String, or Categorical or Enum."""
    NUMBER = "number"
    """Any integer, float or decimal; computed in double precision, NaN means unknown."""
    INSTANT = "instant"
    """Datetime in UTC, or whole milliseconds since 1970-01-01T00:00Z."""
    BOOLEAN = "boolean"
    DURATION = "duration"
    """Duration, or whole milliseconds."""


class WrongCondition(Exception):
    """The text is no condition. ``line`` and ``column`` count from 1 inside the text."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True)
class Condition:
    """A checked condition. Equal texts over the same columns are equal conditions."""

    text: str
    columns: frozenset[str]
    """The columns that the text names; no other column is looked at."""
    _build: Callable[[], "pl.Expr"] = field(repr=False, compare=False)

    @cached_property
    def expression(self) -> "pl.Expr":
        """A Boolean expression; null means unknown. Without any column it is a scalar that ``with_columns`` repeats."""
        return self._build()


def compile(text: str, columns: Mapping[str, Type]) -> Condition:
    """Check ``text`` against ``columns`` (name to type). Raises ``WrongCondition`` for the first mistake found."""
    return _compiled(text, tuple(columns.items()))


@lru_cache(maxsize=1024)
def _compiled(text: str, named: tuple[tuple[str, Type], ...]) -> Condition:
    """Documents are few, and their conditions are asked for with every batch of cases."""
    columns = dict(named)
    place = _Place(text)
    if len(text) > LONGEST:
        place.refuse(f"a condition has at most {LONGEST:,} characters, this one has {len(text):,}", 0)
    found = _tokens(place, columns)
    try:
        rule = _Rules(place, columns)
        term = rule.boolean(_tree(place, found))
    except RecursionError:
        place.refuse("the condition is nested too deeply to be read", 0)
    return Condition(text, frozenset(rule.used), term.as_type(Type.BOOLEAN))


NO_COMMENTS = "comments are not allowed here"
_WORDS = {
    "AND": TokenType.AND,
    "OR": TokenType.OR,
    "NOT": TokenType.NOT,
    "IN": TokenType.IN,
    "BETWEEN": TokenType.BETWEEN,
    "IS": TokenType.IS,
    "NULL": TokenType.NULL,
    "TRUE": TokenType.TRUE,
    "FALSE": TokenType.FALSE,
    "LIKE": TokenType.LIKE,
    "CASE": TokenType.CASE,
    "WHEN": TokenType.WHEN,
    "THEN": TokenType.THEN,
    "ELSE": TokenType.ELSE,
    "END": TokenType.END,
    "TIMESTAMP": TokenType.TIMESTAMP,
    "INTERVAL": TokenType.INTERVAL,
}
_COMPARISONS = {
    "=": TokenType.EQ,
    "<>": TokenType.NEQ,
    "!=": TokenType.NEQ,
    "<": TokenType.LT,
    "<=": TokenType.LTE,
    ">": TokenType.GT,
    ">=": TokenType.GTE,
}
_SIGNS = {
    "(": TokenType.L_PAREN,
    ")": TokenType.R_PAREN,
    ",": TokenType.COMMA,
    ".": TokenType.DOT,
    "+": TokenType.PLUS,
    "-": TokenType.DASH,
}
_VALUES = {TokenType.VAR, TokenType.STRING, TokenType.NUMBER, TokenType.IDENTIFIER}
_KNOWN = {*_WORDS.values(), *_COMPARISONS.values(), *_SIGNS.values(), *_VALUES}
_FUNCTIONS: dict[str, type[exp.Func]] = {
    "COALESCE": exp.Coalesce,
    "LENGTH": exp.Length,
    "LOWER": exp.Lower,
    "TRIM": exp.Trim,
}

_INSTEAD = {
    "==": "equality is one sign: =",
    "&": "write AND",
    "|": "write OR",
    "!": "write NOT, or <> for inequality",
    ";": "a condition is one expression: remove the semicolon",
    "*": "of arithmetic there is only + and -",
    "/": "of arithmetic there is only + and -",
    "%": "of arithmetic there is only + and -",
    "`": "a name with special characters stands in double quotes",
    "SELECT": "a condition sees one row: subqueries are not allowed",
    "EXISTS": "a condition sees one row: subqueries are not allowed",
    "CAST": "columns keep their type: casts are not allowed",
    "ILIKE": "write LOWER(column) LIKE 'small letters'",
    "ESCAPE": "LIKE knows only % and _, without an escape character",
    "DATE": "write TIMESTAMP '2026-01-31T00:00Z'",
}


class _Language(Dialect):
    """sqlglot's dialect without any word, sign or function that the condition language does not have."""

    class Tokenizer(tokens.Tokenizer):
        KEYWORDS: ClassVar = {
            **_WORDS,
            **{sign: kind for sign, kind in _COMPARISONS.items() if len(sign) > 1},
            "==": TokenType.EQ,
        }
        COMMENTS: ClassVar = []
        COMMANDS: ClassVar = set()

    class Parser(parser.Parser):
        FUNCTIONS: ClassVar = {name: function.from_arg_list for name, function in _FUNCTIONS.items()}
        FUNCTION_PARSERS: ClassVar = {}
        NO_PAREN_FUNCTIONS: ClassVar = {}
        NO_PAREN_FUNCTION_PARSERS: ClassVar = {"CASE": lambda self: self._parse_case()}
        # sqlglot's own entries for these three forget where the word stands
        PRIMARY_PARSERS: ClassVar = {
            **parser.Parser.PRIMARY_PARSERS,
            TokenType.NULL: lambda _, token: exp.Null().update_positions(token),
            TokenType.TRUE: lambda _, token: exp.Boolean(this=True).update_positions(token),
            TokenType.FALSE: lambda _, token: exp.Boolean(this=False).update_positions(token),
        }


class _Place:
    """Turns offsets of the text into line and column."""

    def __init__(self, text: str) -> None:
        self.text = text

    def refuse(self, message: str, start: int) -> NoReturn:
        line = self.text.count("\n", 0, start) + 1
        raise WrongCondition(message, line, start - self.text.rfind("\n", 0, start)) from None

    def span(self, node: Expr) -> tuple[int, int]:
        """First and last offset of what the node was read from; operators have no place of their own in sqlglot."""
        known = [part.meta for part in node.walk() if "start" in part.meta]
        if known:
            return min(meta["start"] for meta in known), max(meta["end"] for meta in known)
        return self.span(node.parent) if node.parent else (0, len(self.text) - 1)

    def shown(self, node: Expr) -> str:
        start, end = self.span(node)
        return f"`{self.text[start : end + 1]}`"

    def refuse_node(self, message: str, node: Expr) -> NoReturn:
        self.refuse(message, self.span(node)[0])


def _tokens(place: _Place, columns: Mapping[str, Type]) -> list[Token]:
    try:
        found = _Language().tokenize(place.text)
    except TokenError:
        place.refuse(*_never_closed(place.text))
    if not found:
        place.refuse("the condition is empty", 0)
    _refuse_skipped(place, found)
    for token, following in zip(found, [*found[1:], None], strict=True):
        _refuse_foreign(place, token, following, columns)
    _refuse_chains_and_depth(place, found)
    return found


def _never_closed(text: str) -> tuple[str, int]:
    """What is wrong with a text that has no tokens, and where."""
    closed = re.sub(r"""'[^']*'|"[^"]*\"""", lambda pair: " " * len(pair[0]), text)
    quotes = [at for at in (closed.find("'"), closed.find('"')) if at >= 0]
    if quotes:
        return "this quote is never closed", min(quotes)
    return NO_COMMENTS, closed.index("{#")  # the one sign that the tokenizer takes for a comment in every language


def _refuse_skipped(place: _Place, found: Sequence[Token]) -> None:
    """What no token covers was taken for a comment."""
    ends = [-1, *(token.end for token in found)]
    starts = [*(token.start for token in found), len(place.text)]
    for end, start in zip(ends, starts, strict=True):
        between = place.text[end + 1 : start]
        if between.strip():
            place.refuse(NO_COMMENTS, end + 1 + len(between) - len(between.lstrip()))


def _refuse_foreign(place: _Place, token: Token, following: Token | None, columns: Mapping[str, Type]) -> None:
    word, written = token.text.upper(), place.text[token.start : token.end + 1]
    foreign = token.token_type is not TokenType.STRING and token.text not in columns
    calls = token.token_type is TokenType.VAR and following is not None and following.token_type is TokenType.L_PAREN
    if token.text == "-" and following and following.text == "-" and following.start == token.end + 1:
        place.refuse(f"{NO_COMMENTS}; two minus signs need a space between them", token.start)
    if foreign and word in _INSTEAD:
        place.refuse(f"`{token.text}` is not part of the condition language: {_INSTEAD[word]}", token.start)
    if token.token_type not in _KNOWN or (token.token_type is TokenType.VAR and not token.text.isidentifier()):
        place.refuse(f"`{written}` is not part of the condition language", token.start)
    if calls and word not in _FUNCTIONS:
        hint = _meant(word, _FUNCTIONS) or f"the functions are {', '.join(_FUNCTIONS)}"
        place.refuse(f"there is no function `{token.text}`: {hint}", token.start)


_PREDICATES = {*_COMPARISONS.values(), TokenType.IS, TokenType.IN, TokenType.LIKE, TokenType.BETWEEN}
_BOUNDARIES = {TokenType.AND, TokenType.OR, TokenType.WHEN, TokenType.THEN, TokenType.ELSE, TokenType.COMMA}
_OPENING = {TokenType.L_PAREN, TokenType.CASE}
_CLOSING = {TokenType.R_PAREN, TokenType.END}
_DEEPENING = {TokenType.NOT, TokenType.PLUS, TokenType.DASH}


@dataclass(slots=True)
class _Level:
    """What stands between two boundaries (AND, OR, comma …) inside one pair of parentheses."""

    predicate: Token | None = None
    between: bool = False
    """The next AND belongs to a BETWEEN."""
    depth: int = 0

    def pass_boundary(self) -> None:
        if self.between:
            self.between = False
        else:
            self.predicate, self.depth = None, 0


def _refuse_chains_and_depth(place: _Place, found: Sequence[Token]) -> None:
    """Databases disagree on what ``a = b IS NULL`` and ``1 < x < 5`` mean, and a very deep text exhausts the parser."""
    levels = [_Level()]
    for token in found:
        level, kind = levels[-1], token.token_type
        if kind in _PREDICATES:
            if level.predicate:
                _refuse_chain(place, level.predicate, token)
            level.predicate, level.between = token, kind is TokenType.BETWEEN
        elif kind in _BOUNDARIES:
            level.pass_boundary()
        elif kind in _OPENING:
            levels.append(_Level())
        elif kind in _CLOSING and len(levels) > 1:
            levels.pop()
        level.depth += kind in _DEEPENING
        if len(levels) - 1 + sum(each.depth for each in levels) > DEEPEST:
            place.refuse(
                f"more than {DEEPEST} levels of parentheses, CASE, NOT and sums: split the condition", token.start
            )


def _refuse_chain(place: _Place, first: Token, second: Token) -> NoReturn:
    place.refuse(
        f"`{second.text}` follows `{first.text}` without AND or OR: write `a < b AND b < c`, or put one in parentheses",
        second.start,
    )


def _tree(place: _Place, found: list[Token]) -> Expr:
    try:
        trees = _Language().parser().parse_into(exp.Condition, found, place.text)
    except ParseError as error:
        _refuse_unreadable(place, found, error.errors[0])
    if len(trees) != 1 or not isinstance(trees[0], Expr):
        place.refuse("the condition cannot be read", 0)
    return trees[0]


def _refuse_unreadable(place: _Place, found: Sequence[Token], error: Mapping[str, Any]) -> NoReturn:
    """sqlglot names the place by line and last column of a token, and the reason in words meant for its authors."""
    at = (error["line"], error["col"])
    token = next((token for token in found if (token.line, token.col) == at), found[-1])
    reason = str(error["description"])
    if "Expecting )" in reason:
        message = f"a closing parenthesis is missing after `{token.text}`"
    elif "Required keyword" in reason:
        message = f"something is missing at `{token.text}`"
    else:
        message = f"`{token.text}` is not expected here"
    place.refuse(message, token.start)


@dataclass(frozen=True, slots=True)
class _Term:
    """A checked part of the condition."""

    node: Expr
    type: Type | None
    """``None`` is the type of the literal NULL, which fits everywhere."""
    build: Callable[[], "pl.Expr"]
    value: str | float | None = None
    """The Python value of a text or number literal."""

    def as_type(self, wanted: Type) -> Callable[[], "pl.Expr"]:
        return self.build if self.type else lambda: _null(wanted)


def _meant(word: str, known: Mapping[str, object]) -> str:
    folded = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), folded, 1)
    return f"did you mean `{folded[close[0]]}`?" if close else ""


def _dtype(wanted: Type) -> Any:
    import polars as pl

    return {
        Type.TEXT: pl.String,
        Type.NUMBER: pl.Float64,
        Type.INSTANT: pl.Datetime("ms", "UTC"),
        Type.BOOLEAN: pl.Boolean,
        Type.DURATION: pl.Duration("ms"),
    }[wanted]


def _null(wanted: Type) -> "pl.Expr":
    import polars as pl

    return pl.lit(None, dtype=_dtype(wanted))


def _literal(value: object, wanted: Type) -> "pl.Expr":
    import polars as pl

    return pl.lit(value, dtype=_dtype(wanted))


def _column(name: str, wanted: Type) -> "pl.Expr":
    import polars as pl

    column = pl.col(name).cast(_dtype(wanted))
    return column.fill_nan(None) if wanted is Type.NUMBER else column


def _case(branches: Sequence[tuple[Callable[[], "pl.Expr"], Callable[[], "pl.Expr"]]], default: "pl.Expr") -> "pl.Expr":
    import polars as pl

    chain: Any = pl
    for test, value in branches:
        chain = chain.when(test()).then(value())
    result: pl.Expr = chain.otherwise(default)
    return result


def _coalesce(parts: Sequence[Callable[[], "pl.Expr"]]) -> "pl.Expr":
    import polars as pl

    return pl.coalesce([part() for part in parts])


def _compared(compare: Callable[[Any, Any], Any], left: _Term, right: _Term) -> Callable[[], "pl.Expr"]:
    """With a column on the left: from there polars takes the height of the result when a column holds but one value."""
    if left.node.find(exp.Column) is None:
        left, right, compare = right, left, _MIRRORED.get(compare, compare)
    return lambda: compare(left.build(), right.build())


def _joined(join: Callable[[Any, Any], Any], parts: Sequence["pl.Expr"]) -> "pl.Expr":
    """As a balanced tree: polars takes seconds over a chain of some hundred links."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    both: pl.Expr = join(_joined(join, parts[:half]), _joined(join, parts[half:]))
    return both


def _regex(pattern: str) -> str:
    """LIKE as an anchored regular expression; runs of % are one, because the engine bounds the size of its programs."""
    parts = {"%": ".*", "_": "."}
    return r"(?s)\A" + "".join(parts.get(sign) or re.escape(sign) for sign in re.sub("%+", "%", pattern)) + r"\z"


_COMPARE: dict[type[Expr], Callable[[Any, Any], Any]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}
_MIRRORED = {
    operator.lt: operator.gt,
    operator.le: operator.ge,
    operator.gt: operator.lt,
    operator.ge: operator.le,
}
_SUMS: dict[tuple[type[Expr], Type | None, Type | None], Type] = {
    (exp.Add, Type.NUMBER, Type.NUMBER): Type.NUMBER,
    (exp.Sub, Type.NUMBER, Type.NUMBER): Type.NUMBER,
    (exp.Add, Type.INSTANT, Type.DURATION): Type.INSTANT,
    (exp.Add, Type.DURATION, Type.INSTANT): Type.INSTANT,
    (exp.Sub, Type.INSTANT, Type.DURATION): Type.INSTANT,
    (exp.Sub, Type.INSTANT, Type.INSTANT): Type.DURATION,
    (exp.Add, Type.DURATION, Type.DURATION): Type.DURATION,
    (exp.Sub, Type.DURATION, Type.DURATION): Type.DURATION,
}
_UNITS = {
    "MILLISECOND": timedelta(milliseconds=1),
    "SECOND": timedelta(seconds=1),
    "MINUTE": timedelta(minutes=1),
    "HOUR": timedelta(hours=1),
    "DAY": timedelta(days=1),
    "WEEK": timedelta(weeks=1),
}
_CENTURY = timedelta(days=36_525)
_EXACT = 2**53
"""Above it a double no longer tells neighbouring whole numbers apart."""

_KIND: dict[Type | None, str] = {
    Type.TEXT: "text",
    Type.NUMBER: "a number",
    Type.INSTANT: "an instant",
    Type.BOOLEAN: "true or false",
    Type.DURATION: "a duration",
    None: "NULL",
}
_HOW_TO_WRITE = {
    Type.TEXT: "text is written in single quotes, like '1'",
    Type.NUMBER: "numbers are written without quotes, like 1",
    Type.INSTANT: "instants are written like TIMESTAMP '2026-01-31T08:00Z'",
    Type.BOOLEAN: "write TRUE or FALSE",
    Type.DURATION: "durations are written like INTERVAL '4' HOUR",
}


class _Rules:
    """One rule per kind of node: checks the types and says how to build the expression."""

    def __init__(self, place: _Place, columns: Mapping[str, Type]) -> None:
        self.place = place
        self.columns = columns
        self.used: set[str] = set()

    def term(self, node: Expr) -> _Term:
        rule = _RULES.get(type(node))
        strange = rule is None or {name for name, value in node.args.items() if value} - _ARGUMENTS[type(node)]
        if rule is None or strange:
            self.place.refuse_node(f"{self.place.shown(node)} is not part of the condition language", node)
        return rule(self, node)

    def boolean(self, node: Expr) -> _Term:
        term = self.term(node)
        if term.type not in (None, Type.BOOLEAN):
            shown = self.place.shown(node)
            hint = f"compare it, like {shown[1:-1]} = …, or use IS NULL"
            self.place.refuse_node(f"{shown} is {_KIND[term.type]}, not true or false: {hint}", node)
        return term

    def typed(self, node: Expr, wanted: Type, user: str) -> _Term:
        term = self.term(node)
        if term.type is not wanted:
            self.place.refuse_node(
                f"{user} takes {_KIND[wanted]}, but {self.place.shown(node)} is {_KIND[term.type]}", node
            )
        return term

    def parenthesised(self, node: Expr) -> _Term:
        return self.term(node.this)

    def column(self, node: Expr) -> _Term:
        name = ".".join(part.name for part in node.parts) if isinstance(node, exp.Column) else ""
        if name not in self.columns:
            self.place.refuse_node(self._unknown_column(name, bool(node.this.args.get("quoted"))), node)
        self.used.add(name)
        wanted = self.columns[name]
        return _Term(node, wanted, lambda: _column(name, wanted))

    def _unknown_column(self, name: str, quoted: bool) -> str:
        if quoted:
            return (
                f'there is no column "{name}"; text is written in single quotes: ' + "'" + name.replace("'", "''") + "'"
            )
        hint = _meant(name, self.columns) or f"text is written in single quotes: '{name}'"
        return f"there is no column `{name}`: {hint}"

    def null(self, node: Expr) -> _Term:
        return _Term(node, None, lambda: _null(Type.BOOLEAN))

    def truth(self, node: Expr) -> _Term:
        value = bool(node.this)
        return _Term(node, Type.BOOLEAN, lambda: _literal(value, Type.BOOLEAN))

    def literal(self, node: Expr) -> _Term:
        if isinstance(node, exp.Literal) and node.is_string:
            text = str(node.this)
            return _Term(node, Type.TEXT, lambda: _literal(text, Type.TEXT), text)
        number = float(str(node.this))
        if abs(number) > _EXACT:
            self.place.refuse_node("the number is too large to be exact: compare it as text, in single quotes", node)
        return _Term(node, Type.NUMBER, lambda: _literal(number, Type.NUMBER), number)

    def instant(self, node: Expr) -> _Term:
        stamp = node.this
        if node.args["to"].this is not exp.DataType.Type.TIMESTAMP or not stamp.is_string:
            self.place.refuse_node("of typed literals there are only TIMESTAMP '…' and INTERVAL '…' HOUR", node)
        try:
            value = datetime.fromisoformat(stamp.this)
            moment = value.astimezone(UTC)
        except (ValueError, OverflowError):
            self.place.refuse_node("not an instant: write it like TIMESTAMP '2026-01-31T08:00Z'", stamp)
        if value.tzinfo is None:
            self.place.refuse_node(
                "the instant has no zone: end it with Z for UTC, or with an offset like +02:00", stamp
            )
        return _Term(node, Type.INSTANT, lambda: _literal(moment, Type.INSTANT))

    def interval(self, node: Expr) -> _Term:
        count, unit = node.this, node.args.get("unit")
        name = unit.name.upper().removesuffix("S") if isinstance(unit, exp.Var) else ""
        if name not in _UNITS:
            self.place.refuse_node(
                f"a duration is written like INTERVAL '4' HOUR; the units are {', '.join(_UNITS)}", node
            )
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", count.name):
            self.place.refuse_node("the count of an INTERVAL is a whole number in single quotes", node)
        if abs(int(count.name)) > _CENTURY / _UNITS[name]:
            self.place.refuse_node("an INTERVAL is at most a century long", node)
        value = int(count.name) * _UNITS[name]
        return _Term(node, Type.DURATION, lambda: _literal(value, Type.DURATION))

    def negative(self, node: Expr) -> _Term:
        term = self.term(node.this)
        if term.type not in (Type.NUMBER, Type.DURATION):
            self.place.refuse_node(
                f"a minus sign takes a number, but {self.place.shown(node.this)} is {_KIND[term.type]}", node
            )
        return _Term(node, term.type, lambda: -term.build(), -term.value if isinstance(term.value, float) else None)

    def negated(self, node: Expr) -> _Term:
        build = self.boolean(node.this).as_type(Type.BOOLEAN)
        return _Term(node, Type.BOOLEAN, lambda: ~build())

    def connected(self, node: Expr) -> _Term:
        """AND and OR; polars follows Kleene's three-valued logic as SQL does."""
        join = operator.and_ if isinstance(node, exp.And) else operator.or_
        parts = [self.boolean(part).as_type(Type.BOOLEAN) for part in node.flatten()]
        return _Term(node, Type.BOOLEAN, lambda: _joined(join, [part() for part in parts]))

    def comparison(self, node: Expr) -> _Term:
        left, right = self.comparable(node.this, node.expression)
        compare = _COMPARE[type(node)]
        if left.type is Type.BOOLEAN and compare not in (operator.eq, operator.ne):
            self.place.refuse_node("true and false have no order: use = or <>", node)
        return _Term(node, Type.BOOLEAN, _compared(compare, left, right))

    def comparable(self, *nodes: Expr) -> list[_Term]:
        """Terms of one and the same type, none of them the literal NULL."""
        terms = [self.term(node) for node in nodes]
        for term in terms:
            if term.type is None:
                other = self.place.shown(nodes[1] if term is terms[0] else nodes[0])
                self.place.refuse_node(f"nothing equals NULL, not even NULL: write {other[1:-1]} IS NULL", term.node)
        for term in terms[1:]:
            self._same_type(terms[0], term)
        return terms

    def _same_type(self, first: _Term, second: _Term) -> None:
        if first.type is second.type:
            return
        literal, other = (first, second) if first.value is not None and second.value is None else (second, first)
        how = _HOW_TO_WRITE[other.type or Type.TEXT]
        if isinstance(literal.value, float) and other.type is Type.TEXT:
            how = f"write '{self.place.shown(literal.node)[1:-1]}'"
        shown = self.place.shown
        self.place.refuse_node(
            f"{shown(literal.node)} is {_KIND[literal.type]}, but {shown(other.node)} is {_KIND[other.type]}: {how}",
            literal.node,
        )

    def between(self, node: Expr) -> _Term:
        value, low, high = self.comparable(node.this, node.args["low"], node.args["high"])
        if value.type is Type.BOOLEAN:
            self.place.refuse_node("true and false have no order: use = or <>", node)
        above, below = _compared(operator.ge, value, low), _compared(operator.le, value, high)
        return _Term(node, Type.BOOLEAN, lambda: above() & below())

    def among(self, node: Expr) -> _Term:
        listed = node.args.get("expressions")
        if not listed:
            self.place.refuse_node("IN takes a list of values in parentheses: x IN ('a', 'b')", node)
        value, *members = self.comparable(node.this, *listed)
        literals = [member.value for member in members if member.value is not None]
        tests = [_compared(operator.eq, value, member) for member in members if member.value is None]
        if literals:
            tests.append(lambda: value.build().is_in(literals))
        return _Term(node, Type.BOOLEAN, lambda: _joined(operator.or_, [test() for test in tests]))

    def state(self, node: Expr) -> _Term:
        wanted = node.expression
        if isinstance(wanted, exp.Null):
            build = self.term(node.this).build
            return _Term(node, Type.BOOLEAN, lambda: build().is_null())
        if not isinstance(wanted, exp.Boolean):
            self.place.refuse_node("after IS stands NULL, TRUE or FALSE, each with or without NOT", wanted)
        truth = self.boolean(node.this).as_type(Type.BOOLEAN)
        if wanted.this:
            return _Term(node, Type.BOOLEAN, lambda: truth().fill_null(False))
        return _Term(node, Type.BOOLEAN, lambda: (~truth()).fill_null(False))

    def like(self, node: Expr) -> _Term:
        value, pattern = self.typed(node.this, Type.TEXT, "LIKE"), self.term(node.expression)
        if not isinstance(pattern.value, str):
            self.place.refuse_node("the pattern of LIKE is text in single quotes", node.expression)
        regex = _regex(pattern.value)
        if node.args.get("negate"):
            return _Term(node, Type.BOOLEAN, lambda: ~value.build().str.contains(regex))
        return _Term(node, Type.BOOLEAN, lambda: value.build().str.contains(regex))

    def lower(self, node: Expr) -> _Term:
        value = self.typed(node.this, Type.TEXT, "LOWER")
        return _Term(node, Type.TEXT, lambda: value.build().str.to_lowercase())

    def length(self, node: Expr) -> _Term:
        value = self.typed(node.this, Type.TEXT, "LENGTH")
        return _Term(node, Type.NUMBER, lambda: value.build().str.len_chars().cast(_dtype(Type.NUMBER)))

    def trim(self, node: Expr) -> _Term:
        value = self.typed(node.this, Type.TEXT, "TRIM")
        return _Term(node, Type.TEXT, lambda: value.build().str.strip_chars(" "))

    def unified(self, nodes: Sequence[Expr]) -> tuple[Type | None, list[Callable[[], "pl.Expr"]]]:
        """Alternatives of one type, of which some may be NULL."""
        terms = [self.term(node) for node in nodes]
        typed = [term for term in terms if term.type]
        for term in typed[1:]:
            self._same_type(typed[0], term)
        common = typed[0].type if typed else None
        return common, [term.as_type(common or Type.BOOLEAN) for term in terms]

    def coalesce(self, node: Expr) -> _Term:
        nodes = [node.this, *node.expressions]
        if len(nodes) < 2:
            self.place.refuse_node("COALESCE takes two or more values", node)
        common, builds = self.unified(nodes)
        return _Term(node, common, lambda: _coalesce(builds))

    def case(self, node: Expr) -> _Term:
        if node.this:
            self.place.refuse_node("write CASE WHEN x = 'a' THEN … instead of CASE x WHEN 'a' THEN …", node)
        branches = node.args["ifs"]
        tests = [self.boolean(branch.this).as_type(Type.BOOLEAN) for branch in branches]
        default = node.args.get("default") or exp.Null()
        common, values = self.unified([*(branch.args["true"] for branch in branches), default])
        return _Term(node, common, lambda: _case(list(zip(tests, values, strict=False)), values[-1]()))

    def sum(self, node: Expr) -> _Term:
        left, right = self.term(node.this), self.term(node.expression)
        result = _SUMS.get((type(node), left.type, right.type))
        if result is None:
            sign = "+" if isinstance(node, exp.Add) else "-"
            kinds = f"{left.type or 'NULL'} {sign} {right.type or 'NULL'}"
            self.place.refuse_node(f"{kinds} has no meaning; numbers, instants and durations can be added", node)
        join = operator.add if isinstance(node, exp.Add) else operator.sub
        if result is Type.NUMBER:
            # infinity minus infinity is NaN, which SQL does not have
            return _Term(node, result, lambda: join(left.build(), right.build()).fill_nan(None))
        return _Term(node, result, lambda: join(left.build(), right.build()))


def _rules() -> Iterator[tuple[type[Expr], Callable[[_Rules, Expr], _Term], set[str]]]:
    """Kind of node, its rule, and the arguments that sqlglot may have filled; any other argument is foreign."""
    pair = {"this", "expression"}
    yield exp.Paren, _Rules.parenthesised, {"this"}
    yield exp.Column, _Rules.column, {"this", "table", "db", "catalog"}
    yield exp.Null, _Rules.null, set()
    yield exp.Boolean, _Rules.truth, {"this"}
    yield exp.Literal, _Rules.literal, {"this", "is_string"}
    yield exp.Cast, _Rules.instant, {"this", "to"}
    yield exp.Interval, _Rules.interval, {"this", "unit"}
    yield exp.Neg, _Rules.negative, {"this"}
    yield exp.Not, _Rules.negated, {"this"}
    yield from ((kind, _Rules.connected, pair) for kind in (exp.And, exp.Or))
    yield from ((kind, _Rules.comparison, pair) for kind in _COMPARE)
    yield exp.Between, _Rules.between, {"this", "low", "high"}
    yield exp.In, _Rules.among, {"this", "expressions"}
    yield exp.Is, _Rules.state, pair
    yield exp.Like, _Rules.like, {*pair, "negate"}
    yield exp.Lower, _Rules.lower, {"this"}
    yield exp.Length, _Rules.length, {"this"}
    yield exp.Trim, _Rules.trim, {"this"}
    yield exp.Coalesce, _Rules.coalesce, {"this", "expressions"}
    yield exp.Case, _Rules.case, {"this", "ifs", "default"}
    yield from ((kind, _Rules.sum, pair) for kind in (exp.Add, exp.Sub))


_RULES = {kind: rule for kind, rule, _ in _rules()}
_ARGUMENTS = {kind: arguments for kind, _, arguments in _rules()}
