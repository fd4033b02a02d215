"""Documents that are almost right: shipped ones with their trees changed, and texts made to exhaust a YAML reader."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from ruamel.yaml import YAML

from tests.fuzz.mutation import HUGE, LARGEST

MOST_NODES = 20_000
"""Lists and mappings of a tree that is changed any further; parts that stand in it again and again grow quickly."""

ROOT = Path(__file__).parent.parent.parent
CALENDARS = """\
document: CAL
version: "1"
calendars:
  business_hours:
    title: Office hours
    zone: Europe/Berlin
    hours: {monday: ["08:00-12:00", "13:00-17:30"], friday: ["22:00-06:00"]}
    holidays: {country: DE, part: BY}
    closed: [2026-12-24]
    open: [2026-01-06]
    day: PT8H
"""
WORDS = tuple(
    word.encode()
    for word in (
        *(": ", "- ", "\n", "\n  ", "\n- ", "[", "]", "{", "}", "&a ", "*a", "<<: *a", "<<: [*a, *a]", "? "),
        *("!!str ", "!"),
        *("|\n", ">-\n", "|9\n", "'", '"', "#", " #", "---\n", "...\n", "%YAML 1.1\n", "%TAG ! tag:\n", "null", "~"),
        "true",
        *('"\\x00"', '"\\ud800"', '"\\UFFFFFFFF"', "key: ", "&a [*a]", "@", "`", "\t", "'''", '"\\', "="),
        "2026-01-31",
    )
)  # fmt: skip
_NAMES = ("state", "opened", "priority", "group", "did_work", "reassignments", "nothing", "hold_reason", "category")
_OPERATORS = ("=", "<>", "<", ">=", "AND", "OR", "IS NULL", "LIKE", "+", "-", "IN ('a', 'b')", "BETWEEN 1 AND 2", "NOT")
_PIECES = (
    *("'a'", "1", "NULL", "TRUE", "(", ")", "CASE WHEN", "THEN", "ELSE", "END", "INTERVAL '4' HOUR", "'%_%'"),
    *('"', "--"),
    *("TIMESTAMP '2026-01-31T08:00Z'", "TIMESTAMP '0001-01-01T00:00+14:00'", "LOWER(", "COALESCE(", "/*", ";"),
    "9" * 400,
    *("INTERVAL '999999999999' WEEK", "1e999", "0x1F", "1e-5", "''", "E'\\n'", "SELECT", "@", "?", ":a", "{"),
    "TRIM(",
)  # fmt: skip
_TEMPLATES = (
    *("{{ x }}", "{{ 9 ** 9 ** 9 }}", "{{ 'a' * 999999999 }}", "{% for a in range(99999) %}{% endfor %}", "{{"),
    *("{%", "{#"),
    *("{{ x | center(999999999) }}", "{% include 'a' %}", "{{ x.__class__ }}", "{{ '%999999999d' % 1 }}"),
    "{{ x()()() }}",
    *("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{ [0] * 999999999 }}", "{% set a = a ~ a %}"),
    "{{ 1 // 0 }}",
    *("{{ " + "(" * 300 + "1" + ")" * 300 + " }}", "{{ " + "-" * 3_000 + "1 }}", "{{ " + "[" * 2_000 + " }}"),
    "{% if %}",
    *("{{ 1 if " * 500 + "}}", "{% if x %}" * 400, "{{ x" + "|upper" * 2_000 + " }}"),
    "{{ '{:>999999999}'.format(x) }}",
)  # fmt: skip
_TEXTS = (
    *("", " ", "a" * 5_000, "\0", "\ud800", "ä", "P9999999999D", "-P1D", "PT0S", "P1Y", "24x7", "2026-02-30"),
    "0001-01-01",
    *("9999-12-31", "Europe/Berlin", "America", "../../etc/passwd", "UTC\0", "a" * 300, "localtime"),
    *("posixrules", "/", "."),
    *("https://[::1", "http://a:99999999/", "https://" + "a" * 3_000, "file:///etc/passwd", "sqlite:///x"),
    *("ftp://a", "XX"),
    *("%d/%m/%Y %H:%M", "%", "%Q", "%c%x%X", "%9999f", "00:00-00:00", "23:59-24:00", "99:99-99:99", "08:00-8:00"),
    *("DE", "case"),
)  # fmt: skip


def shipped() -> list[tuple[str, str]]:
    """Kind and text of every document that is shipped, and of one of calendars."""
    named = {
        "mapping": sorted((ROOT / "mappings").glob("[!p]*.yaml")),
        "processes": [ROOT / "mappings" / "processes.yaml"],
        "procedure": sorted((ROOT / "mappings" / "procedures").glob("*.yaml")),
        "columns": sorted((ROOT / "mappings" / "logs").glob("*.yaml")),
        "texts": sorted((ROOT / "mappings" / "texts").glob("*.yaml")),
        "settings": sorted((ROOT / "config").glob("*.yaml")),
    }
    found = [(kind, path.read_text(encoding="utf-8")) for kind, paths in named.items() for path in paths]
    return [*found, ("calendars", CALENDARS)]


@dataclass(frozen=True)
class _Again:
    """One entry of a list many times, by an alias."""

    entry: Any
    times: int


def tree(text: str) -> str:
    """The tree of a document, as JSON."""
    return json.dumps(YAML(typ="safe", pure=True).load(text), default=str)


def changed(random: Random, json_tree: str) -> str:
    """The document with some values, keys and entries of its tree changed."""
    tree = json.loads(json_tree)
    if random.random() < 0.85:
        _prune(random, tree)
    for _ in range(random.choice((0, 1, 1, 2, 4, 9))):
        _change(random, tree)
    return _text(tree)


def small(random: Random, json_tree: str) -> str:
    """The document with little of what it had."""
    tree = json.loads(json_tree)
    _prune(random, tree)
    return _text(tree)


def _text(tree: Any) -> str:
    parts, size = [], 0
    for part in _written(tree, iter(range(1_000_000))):
        parts.append(part)
        size += len(part)
        if size >= LARGEST:
            break
    return "".join(parts)[:LARGEST]


def _prune(random: Random, tree: Any) -> None:
    """Small documents are quicker, and what is wrong in them is seen sooner."""
    for node in list(_nodes(tree)):
        if isinstance(node, list) and len(node) > 2:
            node[:] = random.sample(node, random.randint(1, 2))
        elif isinstance(node, dict) and len(node) > 6 and random.random() < 0.5 and "document" not in node:
            for key in random.sample(list(node), len(node) - 4):
                del node[key]


def _nodes(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict | list):
        yield tree
        for child in tree.values() if isinstance(tree, dict) else tree:
            yield from _nodes(child)


def _change(random: Random, tree: Any) -> None:
    nodes = list(islice(_nodes(tree), MOST_NODES))
    node = random.choice(nodes)
    if not node:
        return
    key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
    match random.randrange(8):
        case 0:
            del node[key]
        case _ if len(nodes) == MOST_NODES:
            node[key] = None
        case 1 if isinstance(node, dict):
            node[random.choice((*node, "", "a" * 70, "constructor", "Ä", str(key) + "x"))] = node.pop(key)
        case 2 if isinstance(node, list):
            node[key] = _Again(node[key], random.choice((2, 2, 50, 50, 3_000, 20_000, 99_999)))
        case 3 if isinstance(node, dict):
            node |= {f"x{number}": node[key] for number in range(random.choice((1, 3, 3, 40, 40, 3_000)))}
        case 4:
            node[key] = _copied(random.choice(nodes))
        case _:
            node[key] = value(random, node[key])


def _copied(node: Any) -> Any:
    """A part of the tree that stands twice; without repetitions of entries, and not of parts that have grown."""
    grown = "_Again" in repr(node) or "_Raw" in repr(node) or len(repr(node)) > 20_000
    return None if grown else json.loads(json.dumps(node))


def value(random: Random, old: Any = None) -> Any:
    """A value of any kind, often a text that almost makes sense."""
    match random.randrange(12):
        case 0:
            return random.choice((None, True, False, [], {}, [[]], {"": ""}, [None]))
        case 1:
            return _Raw(random.choice(HUGE))
        case 2 | 3 | 4:
            return _condition(random)
        case 5 | 6:
            return " ".join(random.choices(_TEMPLATES, k=random.choice((1, 1, 2))))
        case 7:
            return [old] * random.choice((1, 2, 40))
        case 8:
            return str(old) * random.choice((1, 2, 2_000))
        case _:
            return random.choice(_TEXTS)


def _condition(random: Random) -> str:
    pieces = (*_NAMES, *_OPERATORS, *_OPERATORS, *_PIECES)
    if random.random() < 0.2:
        open_, close = random.choice((("(", ")"), ("NOT ", ""), ("-", ""), ("LOWER(", ")"), ("CASE WHEN ", " END")))
        times = random.choice((20, 40, 400, 3_000))
        return open_ * times + "state = 'a'" + close * times
    return " ".join(random.choices(pieces, k=random.choice((1, 3, 5, 9, 30, 400))))


@dataclass(frozen=True)
class _Raw:
    """Written as it stands, without quotes."""

    text: str


def _written(node: Any, numbers: Iterator[int]) -> Iterator[str]:
    """YAML in flow style; a line for each entry, for lines have a limit of their own."""
    if isinstance(node, dict):
        yield "{"
        for key, child in node.items():
            yield json.dumps(str(key)) + ": "
            yield from _written(child, numbers)
            yield ",\n"
        yield "}"
    elif isinstance(node, list):
        yield "["
        for child in node:
            yield from _written(child, numbers)
            yield ",\n"
        yield "]"
    elif isinstance(node, _Again):
        anchor = f"a{next(numbers)}"
        yield f"&{anchor} "
        yield from _written(node.entry, numbers)
        yield f",\n*{anchor}" * node.times
    elif isinstance(node, _Raw):
        yield node.text
    elif isinstance(node, str | bool | int | float) or node is None:
        # what cannot stand in a file is escaped
        yield json.dumps(node, ensure_ascii=isinstance(node, str) and not node.isprintable())


def exhausting(random: Random) -> str:
    """A text that grows when it is read, or takes the reader long."""
    return random.choice(_BOMBS)(random, random.choice((9, 9, 60, 60, 60, 400, 400, 5_000, 40_000)))


def _aliases(random: Random, size: int) -> str:
    width, depth = random.choice(((9, 9), (2, 60), (400, 4), (90, 3)))
    rows = [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * width)}]" for n in range(depth)]
    return "\n".join(["a0: &a0 [x, x]", *rows])


def _long_alias(random: Random, size: int) -> str:
    return "a: &a '" + "x\n" * size + "'\nb: [" + ",\n".join(["*a"] * random.choice((3, 90, 9_000))) + "]"


def _merges(random: Random, size: int) -> str:
    rows = (
        f"b{n}: &b{n} {{<<: [{','.join([f'*b{n - 1}' if n else '*a'] * 9)}], c{n}: 1}}\n" for n in range(size % 900)
    )
    return "a: &a {a: 1}\n" + "".join(rows)


def _deep(random: Random, size: int) -> str:
    open_ = random.choice(("[", "{a: ", "- ", "? ", "{? ", "[[{", "&a [", "a:\n ", "- - - -\n"))
    return open_ * size + random.choice(("", "x", "]" * size, "}" * size))


def _many(random: Random, size: int) -> str:
    row = random.choice(
        ("- a\n", "a{}: b\n", "a: b\n", "? a\n", "---\n", "#\n", "&a{} b:\n", "? &a{} b\n: *a{}\n", "'a{}': |\n  b\n")
    )
    return "".join(row.replace("{}", str(number)) for number in range(size))


def _long(random: Random, size: int) -> str:
    sign = random.choice(
        ("!", "&", "*", "'", '"', "\\", "#", "%", "a", "a ", "a: ", "? ", "- ", "\t", ", ", "[", "|", "''", '\\"')
    )
    start = random.choice(("", "a: ", "a: '", 'a: "', "a: |\n ", "a: >\n ", "[", "{", "%", "!", "&"))
    return start + sign * size


def _blocks(random: Random, size: int) -> str:
    sign = random.choice(("\n", " \n", "x\n", "  x\n", "\n\n x\n", "\tx\n", "# x\n"))
    return "a: " + random.choice(("|", ">", "|2", ">-", "'", '"', "")) + "\n " + sign * size


_BOMBS: Sequence[Callable[[Random, int], str]] = (_aliases, _long_alias, _merges, _deep, _many, _long, _blocks)
