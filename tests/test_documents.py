"""Strict reading: every problem at its place, and no text that hangs, crashes or slips through."""

import hashlib
import json
import os
import time
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from itsms_sync.documents import (
    LARGEST,
    MOST_PROBLEMS,
    Document,
    Invalid,
    Problem,
    digest,
    load,
    load_with_positions,
    parse,
    parse_with_positions,
)
from itsms_sync.sms.conditions import Type, WrongCondition, compile


class Origin(StrEnum):
    OWN = "own"
    STANDARD = "standard"


class Order(Document):
    kind: Literal["order"]
    first: str
    then: str


class Limit(Document):
    kind: Literal["limit"]
    within: timedelta


class Step(Document):
    when: str
    owner: str | None = None
    retries: int = 0


class Procedure(Document):
    document: str
    version: str
    valid_from: date
    origin: Origin = Origin.OWN
    active: bool = True
    share: float = 0.5
    steps: dict[str, Step] = Field(default_factory=dict)
    requirements: tuple[Annotated[Order | Limit, Field(discriminator="kind")], ...] = ()
    tags: frozenset[str] = frozenset()
    either: int | Step | None = None

    @model_validator(mode="after")
    def _not_both(self) -> "Procedure":
        if not self.active and self.steps:
            raise ValueError("an inactive procedure has no steps")
        return self


class Anything(Document):
    x: Any = None


GOOD = """\
# yaml-language-server: $schema=procedure.schema.json
document: PR-7
version: "1.10"
valid_from: 2026-01-31
"""


def found(text, model=Procedure):
    with pytest.raises(Invalid) as caught:
        parse(text, "p.yaml", model)
    assert "\n".join(map(str, caught.value.problems)) == str(caught.value)
    return [str(problem) for problem in caught.value.problems]


def test_a_good_document(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(GOOD + "steps: {open: {when: \"state = '1'\"}}\nrequirements:\n- {kind: limit, within: PT4H}\n")
    document = load(path, Procedure)
    assert date(2026, 1, 31) == document.valid_from
    assert Step(when="state = '1'") == document.steps["open"]
    assert (Limit(kind="limit", within=timedelta(hours=4)),) == document.requirements


def test_all_problems_at_once_each_at_its_place():
    text = """\
documnt: PR-7
version: 1.10
valid_from: 31.01.2026
origin: onw
active: yes
active: true
share: .nan
steps:
  open:
    when: 3
    ownr: me
  1: {when: a}
requirements:
  - kind: ordr
  - kind: order
    frist: open
    then: close
  - {kind: limit, within: 4 hours}
either: {wen: x}
"""
    expected = [
        "p.yaml:1:1: there is no key `documnt` here; did you mean `document`?",
        "p.yaml:1:1: the key `document` is missing",
        'p.yaml:2:10: must be text, not the number `1.10`; write "1.10"',
        "p.yaml:3:13: must be a date like 2026-01-31, not the text `31.01.2026`",
        "p.yaml:4:9: must be one of 'own' or 'standard', not the text `onw`; did you mean `own`?",
        "p.yaml:5:9: must be true or false, not the text `yes`",
        "p.yaml:6:1: the key `active` stands here a second time, first in line 5, column 1; keep one of them",
        "p.yaml:7:8: `.nan` is not a finite number; if it is meant as text, put it in quotes",
        'p.yaml:10:11: must be text, not the number `3`; write "3"',
        "p.yaml:11:5: there is no key `ownr` here; did you mean `owner`?",
        'p.yaml:12:3: a key must be text, not the number `1`; write "1"',
        "p.yaml:14:5: must be one of 'order', 'limit', not the text `ordr`; did you mean `order`?",
        "p.yaml:15:5: the key `first` is missing",
        "p.yaml:16:5: there is no key `frist` here; did you mean `first`?",
        "p.yaml:18:27: must be a duration like PT4H, not the text `4 hours`",
        "p.yaml:19:9: must be a whole number, not a mapping",
        "p.yaml:19:10: there is no key `wen` here; did you mean `when`?",
        "p.yaml:19:1: the key `when` is missing",
    ]  # fmt: skip
    assert sorted(expected) == sorted(found(text))


def test_a_validator_of_the_model_speaks_at_the_place_of_its_model():
    text = GOOD + "active: false\nsteps: {a: {when: b}}\n"
    expected = ["p.yaml:2:1: an inactive procedure has no steps"]
    assert expected == found(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the document is empty"),
        ("# nothing\n---\n", "1:1: the document is empty"),
        ("- a", "1:1: must be a mapping, not a list"),
        ("x: 1\n---\nx: 2\n", "2:1: a second document begins here; put it into a file of its own"),
        ("x: !!python/object:os.system a", "1:4: the tag `tag:yaml.org,2002:python/object:os.system` is not allowed"),
        ("x: !secret a", "1:4: the tag `!secret` is not allowed"),
        ("x: *y", "1:4: there is no anchor `&y` before this"),
        ("a: &owner 1\nx: *ownr", "2:4: there is no anchor `&ownr` before this; did you mean `&owner`?"),
        ("x: &y [*y]", "1:8: `*y` stands inside what it refers to"),
        ("<<: 1", "1:1: `<<` takes a mapping"),
        ("? [a]\n: b", "1:3: a key must be text, not a list"),
        ("~: b", '1:1: a key must be text, not empty; write "~"'),
        ("x: {a: 1, a: 2}", "1:11: the key `a` stands here a second time, first in line 1, column 5"),
        ("x: 1e999", "1:4: `1e999` is not a finite number"),
        ("x: -.inf", "1:4: `-.inf` is not a finite number"),
        ("x: " + "9" * 5_000, "1:4: `" + "9" * 59 + "…` is a number of more than 40 characters"),
        ('x: "a\\0"', "1:4: an escape in this text stands for a character that is not allowed"),
        ('x: "\\ud800"', "1:4: an escape in this text stands for a character that is not allowed"),
        ("x:\n\ty: 1", "2:1: while scanning for the next token found character tab that cannot start any token"),
        ("x: a: b", "1:5: mapping values are not allowed here; a text with"),
        ("x: [1", "1:6: "),
        ("x: 'a", "1:6: "),
        ("x: %a", "1:4: "),
        ("x: 1\n y: 2", "2:3: mapping values"),
        ("x: a\0b", "1:5: the character U+0000 is not allowed"),
        ("x: a\nä\x1b: b", "2:2: the character U+001B is not allowed"),
        ("x: \ud800", "1:4: the character U+D800 is not allowed"),
        ("x: \ufeffa", "1:4: the character U+FEFF is not allowed"),
        ("[" * 10_000, "1:51: lists and mappings are nested in more than 50 levels"),
        ("- " * 9_000, "1:101: lists and mappings are nested in more than 50 levels"),
        ("x: " + "!" * 30_000, "1:1: this line has more than 20,000 characters"),
        ("x: '" + "a\n" * 300_000 + "'", "1:1: is larger than 524,288 bytes"),
    ],
)  # fmt: skip
def test_texts_that_are_refused(text, expected):
    begin = time.process_time()
    problems = found(text, Anything)
    assert expected == problems[0].removeprefix("p.yaml:")[: len(expected)]
    assert time.process_time() - begin < 5


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin").write_bytes("x: 1\ny: ä\xfc".encode("latin-1"))
    (tmp_path / "large").write_bytes(b"#" * (LARGEST + 1))
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "latin": "2:4: this byte is not UTF-8; save the file in the encoding UTF-8",
        "large": "1:1: is larger than 524,288 bytes; split the document",
        "pipe": "1:1: is not a file",
        ".": "1:1: is not a file",
        "none": "1:1: cannot be read: No such file or directory; check the name and the rights of the file",
    }
    for name, message in expected.items():
        with pytest.raises(Invalid) as caught:
            load(tmp_path / name, Anything)
        assert [f"{tmp_path / name}:{message}"] == [str(problem) for problem in caught.value.problems]


BOMBS = {
    "nodes": "a: &a [1,2,3,4,5,6,7,8,9]\n"
    + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "long text": "a: &a '" + "x\n" * 10_000 + "'\nb: [" + ",\n".join(["*a"] * 5_000) + "]",
    "merges": "a: &a {a: 1}\n"
    + "".join(
        f"b{at}: &b{at} {{<<: [{','.join([f'*b{at - 1}' if at else '*a'] * 9)}], c{at}: 1}}\n" for at in range(12)
    ),
    "depth": "a: &a0 [1]\n" + "".join(f"b{at}: &a{at + 1} [*a{at}]\n" for at in range(60)),
    "many": "x:\n" + "- a\n" * 120_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_expand(name):
    begin = time.process_time()
    problems = found(BOMBS[name], Anything)
    assert all("more than" in line for line in problems)
    assert time.process_time() - begin < 5


def test_anchors_aliases_and_merge_keys():
    text = "x:\n- &base {a: 1, b: [2]}\n- <<: *base\n  a: 3\n- <<: [{b: 4}, *base]\n- *base\n"
    expected = [{"a": 1, "b": [2]}, {"a": 3, "b": [2]}, {"a": 1, "b": 4}, {"a": 1, "b": [2]}]
    document, positions = parse_with_positions(text, "p.yaml", Anything)
    assert expected == document.x
    places = {("x", 1, "a"): (4, 6), ("x", 1, "b"): (2, 19), ("x", 3, "b", 0): (2, 20)}
    assert places == {path: positions.of(*path) for path in places}
    keys = {("x", 1, "a"): (4, 3), ("x", 1, "b"): (2, 16), ("x", 3): (2, 9)}
    assert keys == {path: positions.key(*path) for path in keys}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"), ("on", "on"), ("No", "No"), ("2026-01-31", "2026-01-31"), ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("0o17", 15), ("0x1F", 31), ("017", 17), ("+1", 1), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("TRUE", True),
        ("~", None), ("nULL", "nULL"), ("'1'", "1"), ("", None), ("=", "="), ("'<<'", "<<"),
    ],
)  # fmt: skip
def test_plain_values_are_of_yaml_1_2(text, expected):
    value = parse(f"x: {text}", "p", Anything).x
    assert (type(expected), expected) == (type(value), value)


def test_a_thousand_problems_are_counted_not_listed():
    begin = time.process_time()
    problems = found("".join(f"documnt{at}: {at}\n" for at in range(20_000)))
    assert len(problems) == MOST_PROBLEMS + 1
    assert problems[-1].endswith("and 19,803 more problems")
    assert time.process_time() - begin < 10


WAYS = {
    "plain": "x:\n  when: {}\n",
    "plain of two lines": "x:\n  when: {0}\n    AND ok\n",
    "single": "x:\n  when: '{1}'\n",
    "double": 'x:\n  when: "{2}"\n',
    "double with folds": 'x:\n  when: "\\x20{2}\\n \\\n   AND ok"\n',
    "literal": "x:\n  when: |\n\n    {0}\n    AND ok\n",
    "folded": "x:\n  when: >-  # why\n    {0}\n\n    AND ok\n",
    "indented": "x:\n  when: |2-\n      {0}\n",
    "anchored": "x:\n  when: &when '{1}'\n",
    "anchored block": "x:\n  when: &w\n   |-\n    {0}\n",
    "flow": "x: {{a: 1, when: '{1}'}}\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_mistake_inside_a_text_is_found_in_the_file(way, tmp_path):
    condition = "s = 'ä\\' OR s = '/' AND wrong = 'b'"
    escaped = condition.replace("\\", "\\\\").replace("/", "\\/").replace("ä", "\\xe4")
    path = tmp_path / "p.yaml"
    path.write_text(WAYS[way].format(condition, condition.replace("'", "''"), escaped), encoding="utf-8")
    document, positions = load_with_positions(path, Anything)
    with pytest.raises(WrongCondition) as caught:
        compile(document.x["when"], {"s": Type.TEXT, "ok": Type.BOOLEAN})
    line, column = positions.inside("x", "when", line=caught.value.line, column=caught.value.column)
    source = path.read_text(encoding="utf-8").split("\n")
    assert source[line - 1][column - 1 :].startswith("wrong")
    line, column = positions.of("x", "when")
    assert source[line - 1][column - 1 :].startswith("s =")
    assert str(path) == positions.path


def test_positions_of_what_is_not_there():
    text = "a:\n  b: [1, {c: 2}]\nx: ''\n"
    positions = parse_with_positions(text, "p", dict_model())[1]
    of = {
        ("a", "b", 1, "c"): (2, 14),
        ("a", "b", 1, "nothing"): (2, 10),
        ("a", "b", 7): (2, 6),
        (): (1, 1),
        ("x",): (3, 4),
    }
    assert of == {path: positions.of(*path) for path in of}
    key = {("a", "b", 1, "c"): (2, 11), ("a", "b", 7): (2, 6), ("a",): (1, 1)}
    assert key == {path: positions.key(*path) for path in key}
    inside = {("x",): (3, 4), ("a",): (2, 3)}
    assert inside == {path: positions.inside(*path, line=1, column=1) for path in inside}


def dict_model():
    class Both(Document):
        a: dict[str, list[Any]]
        x: str

    return Both


def test_windows_line_ends_and_byte_order_mark_are_nothing_special():
    text = "\ufeffdocument: PR-7\r\nversion: 1\r\nvalid_from: 2026-01-31\r\n"
    expected = ['p.yaml:2:10: must be text, not the number `1`; write "1"']
    assert expected == found(text)


def test_a_problem_without_a_hint_ends_with_its_message():
    expected = ["a.yaml:3:7: wrong", "a.yaml:3:7: wrong; do"]
    assert expected == [str(Problem("a.yaml", 3, 7, "wrong", hint)) for hint in ("", "do")]


def test_the_digest_names_the_content():
    written = parse(GOOD + "tags: [b, a, c]\nsteps: {a: {when: x}, b: {when: y}}\n", "p", Procedure)
    again = parse(
        "valid_from: '2026-01-31'\nsteps:\n  b: {when: \"y\"}\n  a: {when: x, retries: 0}\n"
        "tags: [c, b, a]\nversion: '1.10'\ndocument: PR-7\n",
        "q",
        Procedure,
    )
    other = parse(GOOD + "tags: [b, a]\nsteps: {a: {when: x}, b: {when: y}}\n", "p", Procedure)
    assert digest(written) == digest(again)
    assert digest(written) != digest(other)
    assert len(digest(other)) == 64


def test_the_digest_is_the_same_in_every_process():
    written = '{"x":{"a":[1,1.5,null,"ä","2026-01-31T00:00:00"],"b":["a","b","c"]}}'
    expected = hashlib.sha256(written.encode()).hexdigest()
    assert expected == digest(Anything(x={"b": {"c", "b", "a"}, "a": (1, 1.5, None, "ä", datetime(2026, 1, 31))}))


PIECES = st.sampled_from(
    [
        *"abx:-?[]{}&*!|>'\"%@`#,<~ \n\t\\01.é\r\u2028\x85\0",
        *[": ", "\n  ", "\n- ", "&a ", "*a", "<<: ", "---\n", "...\n", "%YAML 1.1\n", "!!str ", "\\U", "FFFFFFFF"],
        *["|2\n", ">+\n", "? "],
    ]
)


@settings(max_examples=600, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=40))
@example('x: "\\UFFFFFFFF"')
@example("%YAML 9.9\n---\nx: 1")
def test_any_text_is_a_document_or_a_list_of_problems(text):
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    try:
        parse(text, "p", Anything)
        problems = ()
    except Invalid as invalid:
        problems = invalid.problems or (Problem("nothing is told", -1, -1, ""),)
    assert all(1 <= one.line <= len(lines) and 1 <= one.column <= len(lines[one.line - 1]) + 1 for one in problems)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text(alphabet="ab:#'\" \\é", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc ", max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_json_is_read_as_what_it_says_and_every_value_has_a_place(tree):
    text = json.dumps({"x": tree}, indent=1, ensure_ascii=False)
    document, positions = parse_with_positions(text, "p", Anything)
    assert tree == document.x
    for path, value in leaves(tree, ("x",)):
        line, column = positions.of(*path)
        assert text.split("\n")[line - 1][column - 1 :].startswith(
            json.dumps(value, ensure_ascii=False).strip('" ')[:1]
        )


def leaves(tree, path):
    if isinstance(tree, dict | list) and tree:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, (*path, key))
    else:
        yield path, tree
