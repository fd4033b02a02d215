"""The condition language: SQLite is the witness of its meaning, tables of cases are the witness of its messages."""

import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from itsms_sync.sms.conditions import DEEPEST, LONGEST, Condition, Type, WrongCondition, compile

COLUMNS = {
    "s": Type.TEXT,
    "u": Type.TEXT,
    "n": Type.NUMBER,
    "m": Type.NUMBER,
    "t": Type.INSTANT,
    "v": Type.INSTANT,
    "b": Type.BOOLEAN,
    "d": Type.BOOLEAN,
    "e": Type.DURATION,
    "priority": Type.TEXT,
    "comment": Type.TEXT,
    "end": Type.TEXT,
    "caller.vip": Type.BOOLEAN,
}
SCHEMA = {
    "s": pl.String,
    "u": pl.String,
    "n": pl.Float64,
    "m": pl.Float64,
    "t": pl.Datetime("ms", "UTC"),
    "v": pl.Datetime("ms", "UTC"),
    "b": pl.Boolean,
    "d": pl.Boolean,
    "e": pl.Duration("ms"),
}


def values(text, **cells):
    """The condition's value over one row, the columns that are not given being unknown."""
    frame = pl.DataFrame({name: [cells.get(name)] for name in SCHEMA}, schema=SCHEMA)
    return frame.with_columns(x=compile(text, COLUMNS).expression)["x"].to_list()[0]


# What SQLite says. Each part is a pair: the text in our language and in SQLite's, which has no instants or durations.

HOUR = 3_600_000
TEXTS = st.text(alphabet="ab %_.*\\'äß\nA", max_size=4)
NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([0.5, -0.5, 1e308, -1e308, float("inf"), 2.0**53]))
STAMPS = st.integers(0, 5).map(lambda hour: hour * HOUR)
ROWS = st.lists(
    st.tuples(
        *[st.none() | TEXTS] * 2,
        *[st.none() | NUMBERS] * 2,
        *[st.none() | STAMPS] * 2,
        *[st.none() | st.booleans()] * 2,
    ),
    min_size=1,
    max_size=12,
)
NAMES = ("s", "u", "n", "m", "t", "v", "b", "d")


def same(text):
    return text, text


def joined(form, *parts):
    return tuple(form.format(*(part[side] for part in parts)) for side in (0, 1))


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def stamp(millis):
    return f"TIMESTAMP '{datetime.fromtimestamp(millis / 1000, UTC).isoformat()}'", str(millis)


def interval(hours):
    return f"INTERVAL '{hours}' HOUR", str(hours * HOUR)


def alternatives(value, condition):
    """COALESCE and CASE over values of one type, with NULL among them."""
    some = value | st.just(same("NULL"))
    return st.one_of(
        st.builds(lambda a, b: joined("COALESCE({0}, {1})", a, b), some, value),
        st.builds(lambda a, b, c: joined("COALESCE({0}, {1}, {2})", a, b, c), value, some, some),
        st.builds(lambda c, a, b: joined("CASE WHEN {0} THEN {1} ELSE {2} END", c, a, b), condition, some, value),
        st.builds(lambda c, a: joined("CASE WHEN {0} THEN {1} END", c, a), condition, value),
        st.builds(
            lambda c, a, d, b: joined("CASE WHEN {0} THEN {1} WHEN {2} THEN {3} END", c, a, d, b),
            condition, value, condition, some,
        ),
    )  # fmt: skip


def texts(condition):
    leaf = st.sampled_from(["s", "u"]).map(same) | TEXTS.map(quoted).map(same)
    # SQLite's LOWER leaves all but ASCII alone
    narrowed = leaf | leaf.map(lambda a: joined("TRIM({0})", a))
    lowered = st.sampled_from(["LOWER('Ab')", "LOWER(TRIM(' A '))", "LOWER('B%')"]).map(same)
    return leaf | narrowed | lowered | alternatives(narrowed, condition)


def numbers(text, condition):
    leaf = st.sampled_from(["n", "m", "0", "1", "2.5", "1e3", "(-1)", "- n"]).map(same)
    measured = leaf | text.map(lambda a: joined("LENGTH({0})", a))
    sums = st.builds(
        lambda a, x, b, y, c: joined(f"{{0}} {x} {{1}} {y} {{2}}", a, b, c),
        measured, st.sampled_from("+-"), measured, st.sampled_from("+-"), measured,
    )  # fmt: skip
    grouped = st.builds(lambda a, b: joined("{0} - ({1})", a, b), measured, sums)
    return measured | sums | grouped | alternatives(measured, condition)


def instants(condition):
    leaf = st.sampled_from(["t", "v"]).map(same) | STAMPS.map(stamp)
    hours = st.integers(-2, 3).map(interval)
    moved = st.builds(lambda a, sign, b: joined(f"{{0}} {sign} {{1}}", a, b), leaf, st.sampled_from("+-"), hours)
    return leaf | moved | alternatives(leaf, condition)


def durations(instant):
    return st.integers(-2, 3).map(interval) | st.builds(lambda a, b: joined("({0}) - ({1})", a, b), instant, instant)


def predicates(value):
    """Every test that there is over values of one type, without parentheses where none are needed."""
    comparison = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])
    negation = st.sampled_from(["", "NOT "])
    return st.one_of(
        st.builds(lambda a, sign, b: joined(f"{{0}} {sign} {{1}}", a, b), value, comparison, value),
        st.builds(lambda a, no: joined(f"{{0}} IS {no}NULL", a), value, negation),
        st.builds(
            lambda a, no, b, c: joined(f"{{0}} {no}BETWEEN {{1}} AND {{2}}", a, b, c), value, negation, value, value
        ),
        st.builds(
            lambda a, no, b: joined(f"{{0}} {no}IN ({', '.join(['{}'] * len(b))})".replace("{0}", "{}"), a, *b),
            value, negation, st.lists(value, min_size=1, max_size=4),
        ),
    )  # fmt: skip


def grown(condition):
    """Conditions made of conditions."""
    wrapped = condition.map(lambda a: joined("({0})", a))
    text, instant = texts(condition), instants(condition)
    likes = st.builds(
        lambda a, no, pattern: joined(f"{{0}} {no}LIKE {quoted(pattern)}", a),
        text, st.sampled_from(["", "NOT "]), TEXTS,
    )  # fmt: skip
    return st.one_of(
        st.builds(
            lambda a, word, b: joined(f"{{0}} {word} {{1}}", a, b), condition, st.sampled_from(["AND", "OR"]), condition
        ),
        st.builds(lambda a, b, c: joined("{0} OR {1} AND {2}", a, b, c), condition, condition, condition),
        condition.map(lambda a: joined("NOT {0}", a)),
        wrapped,
        st.builds(
            lambda a, no, word: joined(f"{{0}} IS {no}{word}", a),
            wrapped, st.sampled_from(["", "NOT "]), st.sampled_from(["TRUE", "FALSE", "NULL"]),
        ),
        st.builds(
            lambda a, sign, b: joined(f"{{0}} {sign} {{1}}", a, b), wrapped, st.sampled_from(["=", "<>"]), wrapped
        ),
        alternatives(condition, condition),
        predicates(text),
        predicates(numbers(text, condition)),
        predicates(instant),
        predicates(durations(instant)),
        likes,
    )  # fmt: skip


CONDITIONS = st.recursive(
    st.sampled_from(["b", "d", "TRUE", "FALSE", "(NULL AND d)", "(b OR NULL)"]).map(same), grown, max_leaves=6
)


def said_by_sqlite(condition, rows):
    base = sqlite3.connect(":memory:")
    try:
        base.execute("PRAGMA case_sensitive_like = ON")
        base.execute("CREATE TABLE r (s TEXT, u TEXT, n REAL, m REAL, t INTEGER, v INTEGER, b INTEGER, d INTEGER)")
        base.executemany("INSERT INTO r VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        found = base.execute(f"SELECT {condition} FROM r ORDER BY rowid").fetchall()
        return [None if value is None else bool(value) for (value,) in found]
    finally:
        base.close()


def said_by_us(condition, rows):
    frame = pl.DataFrame(rows, schema={name: SCHEMA[name] for name in NAMES}, orient="row")
    return frame.with_columns(x=compile(condition, COLUMNS).expression)["x"].to_list()


def said_by_us_of_constants(condition, row, height):
    """polars keeps a column that was made from a literal as one value, and has other code for it."""
    cells = {name: pl.lit(cell, SCHEMA[name]) for name, cell in zip(NAMES, row, strict=True)}
    frame = pl.select(at=pl.int_range(height)).with_columns(**cells)
    return frame.with_columns(x=compile(condition, COLUMNS).expression)["x"].to_list()


@settings(max_examples=600, deadline=None)
@given(CONDITIONS, ROWS)
@example(same("n - n <> 1"), [(None, None, float("inf"), None, None, None, None, None)])
@example(same("NOT s IN (u, 'a')"), [("b", None, None, None, None, None, None, None)])
@example(same("b OR d AND NULL"), [(None, None, None, None, None, None, True, None)])
def test_a_condition_means_what_it_means_in_sql(condition, rows):
    ours, theirs = condition
    expected = said_by_sqlite(theirs, rows)
    assert expected == said_by_us(ours, rows)
    assert expected[:1] * 3 == said_by_us_of_constants(ours, rows[0], 3)


DAY_ONE = datetime(2026, 1, 1, tzinfo=UTC)
TRUTH = {True: "TRUE", False: "FALSE", None: "NULL"}


@pytest.mark.parametrize("left", TRUTH)
@pytest.mark.parametrize("right", TRUTH)
def test_kleene(left, right):
    for word in ("AND", "OR"):
        row = (None,) * 6 + (left, right)
        assert said_by_sqlite(f"b {word} d", [row]) == said_by_us(f"b {word} d", [row])
        assert said_by_sqlite(f"b {word} d", [row]) == said_by_us(f"{TRUTH[left]} {word} {TRUTH[right]}", [row])


@pytest.mark.parametrize(
    ("text", "cells", "expected"),
    [
        ("s NOT IN ('a', 'b')", {"s": None}, None),
        ("s NOT IN ('a', u)", {"s": "x", "u": None}, None),
        ("s IN ('a', u)", {"s": "a", "u": None}, True),
        ("n <> 1", {"n": float("nan")}, None),
        ("n IS NULL", {"n": float("nan")}, True),
        ("s LIKE 'a%z'", {"s": "a\nz"}, True),
        ("s LIKE 'a.z'", {"s": "abz"}, False),
        ("s LIKE '_'", {"s": "ä"}, True),
        ("s LIKE 'A'", {"s": "a"}, False),
        ("LENGTH(s) = 1", {"s": "ä"}, True),
        ("LOWER(s) = 'ä'", {"s": "Ä"}, True),
        ("TRIM(s) = '\ta'", {"s": " \ta "}, True),
        ("s = 'it''s'", {"s": "it's"}, True),
        ("s = 'a\\'", {"s": "a\\"}, True),
        ("t = TIMESTAMP '2026-03-29T03:30+02:00'", {"t": datetime(2026, 3, 29, 1, 30, tzinfo=UTC)}, True),
        ("e > INTERVAL '90' MINUTE", {"e": timedelta(hours=2)}, True),
        ("t - v > INTERVAL '1' WEEK", {"t": datetime(2026, 1, 9, tzinfo=UTC), "v": DAY_ONE}, True),
        ("t + INTERVAL '1' DAY > v", {"t": datetime(2026, 1, 9, tzinfo=UTC), "v": None}, None),
        ("CASE WHEN NULL THEN FALSE ELSE TRUE END", {}, True),
        ("1 < n", {"n": 1.0}, False),
        ("1 <= n", {"n": 1.0}, True),
        ("1 > n", {"n": 1.0}, False),
        ("1 >= n", {"n": 1.0}, True),
        ("1 < n AND 3 > n", {"n": 2.0}, True),
        ("2 BETWEEN m AND n", {"m": 2.0, "n": 2.0}, True),
    ],
)  # fmt: skip
def test_value(text, cells, expected):
    assert expected is values(text, **cells)


@pytest.mark.parametrize(
    ("dtype", "cell"),
    [
        (pl.Int64, 1_000),
        (pl.Datetime("us", "UTC"), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (pl.Datetime("ms", "UTC"), datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone(timedelta(0)))),
    ],
)
def test_an_instant_may_come_as_milliseconds_or_as_a_datetime(dtype, cell):
    frame = pl.DataFrame({"t": [cell, None]}, schema={"t": dtype})
    condition = compile("t = TIMESTAMP '1970-01-01T00:00:01Z'", COLUMNS)
    expected = [True, None]
    assert expected == frame.select(x=condition.expression)["x"].to_list()


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Float32, pl.Decimal(10, 2)])
def test_a_number_may_come_in_any_numeric_type(dtype):
    frame = pl.DataFrame({"n": [3, None]}, schema={"n": dtype})
    expected = [True, None]
    assert expected == frame.select(x=compile("n + 1 IN (4)", COLUMNS).expression)["x"].to_list()


def test_a_condition_names_only_the_columns_it_uses_and_is_comparable():
    first, second = compile("s = 'a' AND caller.vip", COLUMNS), compile("s = 'a' AND caller.vip", COLUMNS)
    assert frozenset({"s", "caller.vip"}) == first.columns
    assert first == second
    assert len({first, second}) == 1
    assert first.expression is first.expression
    assert isinstance(first, Condition)


def test_words_that_other_sql_dialects_reserve_may_name_columns():
    assert frozenset({"comment", "end"}) == compile("comment = 'a' AND \"end\" = 'b'", COLUMNS).columns


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        # unknown columns
        ("b AND prioritty = '1'", 1, 7, ["no column `prioritty`", "did you mean `priority`?"]),
        ("PRIORITY = '1'", 1, 1, ["did you mean `priority`?"]),
        ("priority = one", 1, 12, ["no column `one`", "'one'"]),
        ('priority = "1"', 1, 12, ["single quotes", "'1'"]),
        # types
        ("priority = 1", 1, 12, ["`1` is a number", "`priority` is text", "write '1'"]),
        ("priority IN ('1', 2)", 1, 19, ["write '2'"]),
        ("n = '1'", 1, 5, ["`n` is a number", "without quotes"]),
        ("'1' = n", 1, 1, ["`n` is a number", "without quotes"]),
        ("t > '2026-01-01'", 1, 5, ["an instant", "TIMESTAMP '"]),
        ("t - v > 4", 1, 9, ["a duration", "INTERVAL '4' HOUR"]),
        ("b = 1", 1, 5, ["TRUE or FALSE"]),
        ("b < d", 1, 1, ["no order"]),
        ("t + v > t", 1, 1, ["has no meaning"]),
        ("n + 's' > 1", 1, 1, ["has no meaning"]),
        ("LENGTH(n) = 1", 1, 8, ["LENGTH takes text"]),
        ("n LIKE 'a'", 1, 1, ["LIKE takes text"]),
        ("s LIKE u", 1, 8, ["pattern"]),
        ("- s = 'a'", 1, 3, ["minus sign"]),
        ("b AND s", 1, 7, ["`s` is text, not true or false"]),
        ("n + 1", 1, 1, ["a number, not true or false"]),
        ("COALESCE(s, 1) = 'a'", 1, 13, ["`1` is a number"]),
        ("CASE WHEN b THEN s ELSE 1 END = 'y'", 1, 25, ["`1` is a number"]),
        ("n = 9007199254740993e1", 1, 5, ["too large"]),
        ("n = 1e400", 1, 5, ["too large"]),
        # NULL
        ("s = NULL", 1, 5, ["s IS NULL"]),
        ("s <> NULL", 1, 6, ["s IS NULL"]),
        ("s NOT IN ('a', NULL)", 1, 16, ["s IS NULL"]),
        ("n BETWEEN 1 AND NULL", 1, 17, ["n IS NULL"]),
        # signs of other languages
        ("1 < n < 5", 1, 7, ["AND"]),
        ("n = m IS NULL", 1, 7, ["parentheses"]),
        ("n BETWEEN 1 AND 2 = TRUE", 1, 19, ["parentheses"]),
        ("b & d", 1, 3, ["write AND"]),
        ("b && d", 1, 3, ["write AND"]),
        ("b || d", 1, 3, ["write OR"]),
        ("!b", 1, 1, ["write NOT"]),
        ("n == 1", 1, 3, ["one sign"]),
        ("n * 2 = 4", 1, 3, ["only + and -"]),
        ("s::int = 3", 1, 2, ["not part"]),
        ("n = $1", 1, 5, ["not part"]),
        ("n = ?", 1, 5, ["not part"]),
        ("n = :x", 1, 5, ["not part"]),
        ("s = N'a'", 1, 5, ["`N'a'` is not part"]),
        ("s = 'a' 'b'", 1, 5, ["not part"]),
        ("(s, u) = ('a', 'b')", 1, 2, ["not part"]),
        ("`s` = 'a'", 1, 1, ["double quotes"]),
        # other SQL
        ("s = 'a'; DROP", 1, 8, ["semicolon"]),
        ("s = 'a' -- why", 1, 9, ["comments"]),
        ("-- why\ns = 'a'", 1, 1, ["comments"]),
        ("s = 'a' /* why */", 1, 9, ["not part"]),
        ("b {# why #}", 1, 3, ["comments"]),
        ("SELECT 1", 1, 1, ["subqueries"]),
        ("s IN (SELECT s)", 1, 7, ["subqueries"]),
        ("EXISTS (SELECT s)", 1, 1, ["subqueries"]),
        ("CAST(s AS INT) = 1", 1, 1, ["casts"]),
        ("COUNT(*) > 1", 1, 1, ["no function `COUNT`"]),
        ("COALESC(s, 'a') = 'a'", 1, 1, ["did you mean `COALESCE`?"]),
        ("COALESCE(s) = 'a'", 1, 1, ["two or more"]),
        ("TRIM(BOTH 'x' FROM s) = 'a'", 1, 11, []),
        ("LOWER() = 'a'", 1, 7, ["missing"]),
        ("s ILIKE 'a'", 1, 3, ["LOWER"]),
        ("s LIKE 'a' ESCAPE '!'", 1, 12, ["escape"]),
        ("s IS u", 1, 6, ["after IS"]),
        ("s IS DISTINCT FROM u", 1, 1, ["not part"]),
        ("n BETWEEN SYMMETRIC 1 AND 2", 1, 1, ["not part"]),
        ("s IN u", 1, 1, ["not part"]),
        ("s IN ()", 1, 1, ["list"]),
        ("CASE s WHEN 'a' THEN b END", 1, 6, ["CASE WHEN"]),
        # instants and durations
        ("t > TIMESTAMP '2026-01-01T00:00'", 1, 15, ["no zone"]),
        ("t > TIMESTAMP 'yesterday'", 1, 15, ["not an instant"]),
        ("t > TIMESTAMP '0001-01-01T00:00+14:00'", 1, 15, ["not an instant"]),
        ("t > DATE '2026-01-01'", 1, 5, ["TIMESTAMP"]),
        ("t - v > INTERVAL '4' MONTH", 1, 18, ["units are"]),
        ("t - v > INTERVAL '4'", 1, 18, ["units are"]),
        ("t - v > INTERVAL 'four' HOUR", 1, 18, ["whole number"]),
        ("t - v > INTERVAL '999999' WEEK", 1, 18, ["century"]),
        # syntax
        ("", 1, 1, ["empty"]),
        (" \n ", 1, 1, ["empty"]),
        ("b AND", 1, 3, ["missing"]),
        ("(b", 1, 2, ["closing parenthesis"]),
        ("b)", 1, 2, ["not expected"]),
        ("b d", 1, 3, ["not expected"]),
        ("s = 'a' AND u = 'b", 1, 17, ["never closed"]),
        ("{#", 1, 1, ["comments are not allowed"]),
        ("s = 'it''s' AND u = \"b", 1, 21, ["never closed"]),
        ("n = 1_000", 1, 6, ["not expected"]),
        # places behind letters of several bytes and line ends
        ("s = 'äöü€😀' AND\n  u = 'é' AND n = 'x'", 2, 19, ["`n` is a number"]),
        ("b AND\n\n\tnn = 1", 3, 2, ["did you mean `n`?"]),
    ],
)  # fmt: skip
def test_mistakes(text, line, column, words):
    with pytest.raises(WrongCondition) as caught:
        compile(text, COLUMNS)
    assert (line, column) == (caught.value.line, caught.value.column), caught.value.message
    assert words == [word for word in words if word in caught.value.message]
    assert caught.value.message == str(caught.value)


def test_depth_and_length_are_bounded():
    deepest = "(" * DEEPEST + "b" + ")" * DEEPEST
    assert frozenset({"b"}) == compile(deepest, COLUMNS).columns
    for text in ("(" * 1990 + "b" + ")" * 1990, "NOT " * 900 + "b", "- " * 1900 + "n = 1", "n" + " + n" * 900 + " = 1"):
        with pytest.raises(WrongCondition, match="levels"):
            compile(text, COLUMNS)
    with pytest.raises(WrongCondition, match="at most"):
        compile("b" + " " * LONGEST, COLUMNS)


def test_nested_too_deeply_for_a_caller_that_is_deep_itself():
    # A text of its own: what has been compiled before is not read again.
    text = "(" * DEEPEST + "b" + ")" * DEEPEST + " "

    def below(levels):
        return below(levels - 1) if levels else compile(text, COLUMNS)

    limit = sys.getrecursionlimit()
    with pytest.raises(WrongCondition, match="nested too deeply"):
        below(limit - 350)


def test_long_chains_and_lists_are_read():
    chain = " OR ".join(["b"] * 600)
    assert True is values(chain, b=True)
    listed = ", ".join(f"'{at}'" for at in range(500))
    assert True is values(f"s IN ({listed})", s="499")
    assert True is values("s LIKE '" + "_" * 3_900 + "'", s="ä" * 3_900)
    assert True is values("s LIKE '" + "%_" * 1_900 + "'", s="ä" * 1_900)


PIECES = [
    *["s", "n", "t", "b", "'a'", "1", "NULL", "TRUE", "(", ")", ",", ".", "-", "+", "=", "<", "AND", "OR", "NOT", "IN"],
    *["IS", "BETWEEN", "LIKE", "CASE", "WHEN", "THEN", "ELSE", "END", "COALESCE(", "LENGTH(", "TIMESTAMP", "INTERVAL"],
    *["'4'", "HOUR", '"', "'", ";", "--", "/*", "SELECT", "LIMIT", "AS", "*", ":", "[", "]", "{", "}", "@", "\\"],
    *["\n", "\x00", "ä"],
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(PIECES),
        max_size=12,
    ).map(" ".join)
    | st.text(max_size=30)
)
def test_any_text_is_a_condition_or_a_located_mistake(text):
    lines = text.split("\n")
    try:
        place = (1, 1) if compile(text, COLUMNS).expression is not None else (0, 0)
    except WrongCondition as wrong:
        place = wrong.line, wrong.column
    assert 1 <= place[0] <= len(lines)
    assert 1 <= place[1] <= len(lines[place[0] - 1]) + 1


def test_importing_and_compiling_leave_polars_alone():
    code = (
        "import sys; from itsms_sync.sms.conditions import Type, compile;"
        "compile('n = 1', {'n': Type.NUMBER}); assert 'polars' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env={**os.environ}, timeout=30)


def test_a_million_rows_are_columnar():
    frame = pl.select(n=pl.int_range(1_000_000) % 5).with_columns(s=pl.col("n").cast(pl.String), t=pl.col("n") * HOUR)
    condition = compile(
        "s IN ('1', '2') AND n + 1 > 2 OR s LIKE '%4' AND t > TIMESTAMP '1970-01-01T01:00Z' AND NOT TRIM(s) = 'x'",
        COLUMNS,
    )
    frame.head(10).select(x=condition.expression)
    before = time.perf_counter()
    expected = 400_000
    assert expected == frame.select(x=condition.expression)["x"].sum()
    assert time.perf_counter() - before < 3
