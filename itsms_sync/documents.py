"""Reads the text that admins write: YAML into one validated, frozen model.

Owns the strict reading of a file (bytes, YAML 1.2, types, did-you-mean) and the place of everything in it: each problem
comes as ``path:line:column``, all of them at once, and a text that is meant to exhaust the reader is a problem like any
other. What the documents mean, and what may refer to what, belongs to the models and their owners; with ``Positions``
they report their own problems at the same places.
"""

import hashlib
import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from itsms_sync.telling import shown

LARGEST = 1 << 19
"""Bytes of one document; the YAML scanner reads some 200 KB in a second."""
LONGEST_LINE = 20_000
"""Characters; the YAML scanner needs time in the square of some lines (14 s for a megabyte of exclamation marks)."""
DEEPEST = 50
"""Levels of lists and mappings, aliases followed."""
MOST_NODES = 100_000
"""Values, keys, lists and mappings, each alias counted with all that it stands for, long texts several times."""
_LONG_TEXT = 64
"""Characters of a text that weigh as much as one value; else a few aliases of a long text fill the memory."""
MOST_PROBLEMS = 200
"""Problems that are told one by one; the rest is a number."""

_LONGEST_MESSAGE = 600

M = TypeVar("M", bound=BaseModel)
Key = str | int


class Document(BaseModel):
    """Base of models for documents: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a document. ``line`` and ``column`` count from 1, columns in characters."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    """What to do next, if that is known."""

    def __str__(self) -> str:
        told = shown(self.message, _LONGEST_MESSAGE)
        hint = f"; {shown(self.hint, _LONGEST_MESSAGE)}" if self.hint else ""
        return f"{self.path}:{self.line}:{self.column}: {told}{hint}"


class Invalid(Exception):
    """The document cannot be used. ``problems`` holds all that was found, in order of place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(path: Path, model: type[M]) -> M:
    """The document in the file ``path``. Raises ``Invalid``, also when the file cannot be read."""
    return load_with_positions(path, model)[0]


def parse(text: str, path: str, model: type[M]) -> M:
    """The document in ``text``; ``path`` only names it in problems. Raises ``Invalid``."""
    return parse_with_positions(text, path, model)[0]


def load_with_positions(path: Path, model: type[M]) -> tuple[M, "Positions"]:
    """Like ``load``, with the place of each value, for validators that look beyond one document."""
    return parse_with_positions(_text(path), str(path), model)


def parse_with_positions(text: str, path: str, model: type[M]) -> tuple[M, "Positions"]:
    """Like ``parse``, with the place of each value."""
    source = _Source(path, text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    _refuse_raw(source)
    reader = _Reader(source)
    root = reader.read()
    positions = Positions(path, root, source)
    try:
        document = model.model_validate_json(json.dumps(root.data()), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # what the reader refused has no value that pydantic could speak about
        refused = {(problem.line, problem.column) for problem in reader.problems}
        told = [one for one in _told(found[:MOST_PROBLEMS], positions, model) if (one.line, one.column) not in refused]
        raise Invalid(_in_order([*reader.problems, *told], len(found) - MOST_PROBLEMS)) from None
    if reader.problems:
        raise Invalid(_in_order(reader.problems))
    return document, positions


def digest(model: BaseModel) -> str:
    """SHA-256 in hexadecimal over the model's values, defaults included, in canonical JSON.

    Comments, order of keys, quotes and anchors do not change it.
    """
    canonical = json.dumps(_canonical(model.model_dump()), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(value: object) -> Any:
    if isinstance(value, Mapping):
        return {to_jsonable_python({key: None}).popitem()[0]: _canonical(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted(map(_canonical, value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_canonical(item) for item in value]
    return to_jsonable_python(value)


class _Source:
    """The text of a document, with its lines."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.lines = [0, *(found.end() for found in re.finditer("\n", text))]

    def place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self.lines, offset)
        return line, offset - self.lines[line - 1] + 1

    def problem(self, offset: int, message: str, hint: str = "") -> Problem:
        return Problem(self.path, *self.place(offset), message, hint)

    def refuse(self, offset: int, message: str, hint: str = "") -> NoReturn:
        raise Invalid([self.problem(offset, message, hint)]) from None


def _text(path: Path) -> str:
    source = _Source(str(path), "")
    try:
        if path.exists() and not path.is_file():
            source.refuse(0, "is not a file")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        source.refuse(0, f"cannot be read: {error.strerror or error}", "check the name and the rights of the file")
    if len(raw) > LARGEST:
        source.refuse(0, f"is larger than {LARGEST:,} bytes", "split the document")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        before = _Source(str(path), raw[: error.start].decode())
        before.refuse(len(before.text), "this byte is not UTF-8", "save the file in the encoding UTF-8")


_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def _refuse_raw(source: _Source) -> None:
    """What is refused before YAML is looked at."""
    if len(source.text.encode(errors="surrogatepass")) > LARGEST:
        source.refuse(0, f"is larger than {LARGEST:,} bytes", "split the document")
    strange = list(_UNPRINTABLE.finditer(source.text))
    if strange:
        hint = "remove it; inside double quotes it can be written as an escape"
        named = [(found.start(), f"the character U+{ord(found[0]):04X} is not allowed") for found in strange]
        raise Invalid(_in_order(source.problem(at, message, hint) for at, message in named))
    for start, end in pairwise([*source.lines, len(source.text) + 1]):
        if end - start > LONGEST_LINE:
            source.refuse(start, f"this line has more than {LONGEST_LINE:,} characters", "break it into several lines")


def _in_order(problems: Iterable[Problem], untold: int = 0) -> list[Problem]:
    """``untold`` counts problems that were found and are not in ``problems``."""
    ordered = sorted(set(problems))
    more = max(untold, 0) + len(ordered[MOST_PROBLEMS:])
    if not more:
        return ordered
    kept = ordered[:MOST_PROBLEMS]
    return [*kept, Problem(kept[-1].path, kept[-1].line, kept[-1].column, f"and {more:,} more problems")]


@dataclass(slots=True)
class _Scalar:
    start: int
    end: int
    text: str
    style: str
    """``'``, ``"``, ``|``, ``>``, or empty for a plain scalar."""
    value: str | int | float | bool | None
    size: int
    height: int = 0

    def data(self) -> Any:
        return self.value

    def child(self, key: Key) -> "_Node | None":
        return None


@dataclass(slots=True)
class _Collection:
    """A list, or a mapping when ``pairs`` is not ``None``. ``items`` holds a mapping's keys and values in turn."""

    start: int
    items: list["_Node"] = field(default_factory=list)
    pairs: dict[str, tuple[_Scalar, "_Node"]] | None = None
    size: int = 1
    height: int = 1
    closed: bool = False

    def data(self) -> Any:
        if self.pairs is None:
            return [item.data() for item in self.items]
        return {key: value.data() for key, (_, value) in self.pairs.items()}

    def child(self, key: Key) -> "_Node | None":
        if self.pairs is not None:
            return self.pairs[key][1] if isinstance(key, str) and key in self.pairs else None
        return self.items[key] if isinstance(key, int) and 0 <= key < len(self.items) else None


_Node = _Scalar | _Collection

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 40
"""Characters; Python itself refuses to read whole numbers of more than some thousand digits."""


def _plain(text: str) -> str | int | float | bool | None:
    """A plain scalar in YAML 1.2's core schema: dates, ``yes`` and ``1_000`` are text. Raises ``ValueError``."""
    if text in _WORDS:
        return _WORDS[text]
    whole, broken = _WHOLE.fullmatch(text), _FLOAT.fullmatch(text)
    if (whole or broken) and len(text) > _LONGEST_NUMBER:
        raise ValueError(f"is a number of more than {_LONGEST_NUMBER} characters")
    if _NO_NUMBER.fullmatch(text) or (broken and math.isinf(float(text))):
        raise ValueError("is not a finite number")
    if whole:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if broken else text


class _Reader:
    """Builds the tree of one document from YAML events, which come one by one and are bounded as they come."""

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.count = 0
        self.open: list[_Collection] = []
        self.anchors: dict[str, _Node] = {}
        self.root: _Node | None = None

    def read(self) -> _Node:
        try:
            for event in YAML(typ="safe", pure=True).parse(self.source.text):
                self._take(event)
        except MarkedYAMLError as error:
            self._refuse_yaml(error)
        except (YAMLError, ValueError, OverflowError) as error:
            # an escape in double quotes beyond Unicode ends in chr()
            self.source.refuse(0, f"is no YAML: {str(error).splitlines()[0]}")
        if self.root is None or (isinstance(self.root, _Scalar) and self.root.value is None):
            self.source.refuse(0, "the document is empty")
        return self.root

    def _take(self, event: Any) -> None:
        at = event.start_mark.index
        if isinstance(event, DocumentStartEvent) and self.root is not None:
            self.source.refuse(at, "a second document begins here", "put it into a file of its own")
        elif isinstance(event, CollectionEndEvent):
            self._close()
        elif isinstance(event, AliasEvent):
            self._attach(self._alias(event.anchor, at), None, at)
        elif isinstance(event, NodeEvent):
            self._node(event, at)

    def _node(self, event: Any, at: int) -> None:
        if event.tag is not None:
            self.source.refuse(
                at, f"the tag `{_short(event.tag)}` is not allowed", "to make a value text, put it in quotes"
            )
        if event.anchor and (anchor := _ANCHOR.match(self.source.text, at)):
            at = min(anchor.end(), event.end_mark.index) if isinstance(event, ScalarEvent) else anchor.end()
        if isinstance(event, ScalarEvent):
            self._attach(self._scalar(event, at), event.anchor, at)
        else:
            opened = _Collection(at, pairs={} if isinstance(event, MappingStartEvent) else None)
            self._attach(opened, event.anchor, at)
            self.open.append(opened)
            self._bound_depth(0, at)

    def _scalar(self, event: Any, at: int) -> _Scalar:
        text, style = str(event.value), event.style or ""
        value: str | int | float | bool | None = text
        if _ESCAPED.search(text):
            self._note(at, "an escape in this text stands for a character that is not allowed", "remove it")
            value = text = _ESCAPED.sub("", text)
        elif not style:
            try:
                value = _plain(text)
            except ValueError as error:
                self._note(at, f"`{_short(text)}` {error}", "if it is meant as text, put it in quotes")
        return _Scalar(at, event.end_mark.index, text, style, value, size=1 + len(text) // _LONG_TEXT)

    def _alias(self, name: str, at: int) -> _Node:
        node = self.anchors.get(name)
        if node is None:
            self.source.refuse(at, f"there is no anchor `&{_short(name)}` before this", self._meant_anchor(name))
        if isinstance(node, _Collection) and not node.closed:
            self.source.refuse(at, f"`*{_short(name)}` stands inside what it refers to")
        self._bound_depth(node.height, at)
        return node

    def _meant_anchor(self, name: str) -> str:
        return _meant(name, self.anchors, "&") or "text that begins with * stands in quotes"

    def _attach(self, node: _Node, anchor: str | None, at: int) -> None:
        self.count += node.size
        if self.count > MOST_NODES:
            self.source.refuse(at, f"the document has more than {MOST_NODES:,} values, aliases included", "split it")
        if anchor:
            self.anchors[anchor] = node
        if self.open:
            self.open[-1].items.append(node)
        else:
            self.root = node

    def _bound_depth(self, below: int, at: int) -> None:
        if len(self.open) + below > DEEPEST:
            self.source.refuse(at, f"lists and mappings are nested in more than {DEEPEST} levels")

    def _close(self) -> None:
        node = self.open.pop()
        node.size += sum(item.size for item in node.items)
        node.height += max((item.height for item in node.items), default=0)
        node.closed = True
        if node.pairs is not None:
            self._pair(node, node.pairs)

    def _pair(self, node: _Collection, pairs: dict[str, tuple[_Scalar, _Node]]) -> None:
        inherited: dict[str, tuple[_Scalar, _Node]] = {}
        for key, value in zip(node.items[::2], node.items[1::2], strict=True):
            if isinstance(key, _Scalar) and key.text == "<<" and not key.style and not inherited:
                inherited = self._merged(key, value)
            elif not isinstance(key, _Scalar) or not isinstance(key.value, str):
                self._note(key.start, f"a key must be text, not {_given(key)}", _quote_hint(key))
            elif key.value in pairs:
                line, column = self.source.place(pairs[key.value][0].start)
                message = (
                    f"the key `{_short(key.value)}` stands here a second time, first in line {line}, column {column}"
                )
                self._note(key.start, message, "keep one of them")
            else:
                pairs[key.value] = key, value
        for name, pair in inherited.items():
            pairs.setdefault(name, pair)

    def _merged(self, key: _Scalar, value: _Node) -> dict[str, tuple[_Scalar, _Node]]:
        """What ``<<`` brings in; of several mappings the first wins."""
        parts = value.items if isinstance(value, _Collection) and value.pairs is None else [value]
        merged: dict[str, tuple[_Scalar, _Node]] = {}
        for part in parts:
            if isinstance(part, _Collection) and part.pairs is not None:
                merged = {**part.pairs, **merged}
            else:
                self._note(key.start, "`<<` takes a mapping or a list of mappings", "write <<: *anchor")
        return merged

    def _note(self, at: int, message: str, hint: str) -> None:
        self.problems.append(self.source.problem(at, message, hint))

    def _refuse_yaml(self, error: MarkedYAMLError) -> NoReturn:
        mark = error.problem_mark or error.context_mark
        message = " ".join(str(part) for part in (error.context, error.problem) if part)
        message = message.replace("'\\t'", "tab")
        hint = next((hint for sign, hint in _YAML_HINTS.items() if sign in message), "")
        self.source.refuse(min(mark.index, len(self.source.text)) if mark else 0, message, hint)


_ANCHOR = re.compile(r"&\S+\s*")
_ESCAPED = re.compile("[\0\ud800-\udfff]")
_YAML_HINTS = {
    "tab": "indent with spaces",
    "mapping values are not allowed": "a text with `: ` in it stands in quotes; or the line above is indented wrongly",
    "cannot start any token": "a text that begins with this character stands in quotes",
    "could not find expected ':'": "a key needs `: ` after it; a text of several lines stands in quotes or after |",
    "block end": "check that this line is indented like its neighbours",
    "quoted scalar": "close the quotes",
    "flow": "close the bracket, and put commas between the entries",
}


@dataclass(frozen=True, slots=True)
class Positions:
    """Where everything stands in one document. A path is the keys and list indexes that lead to a value.

    What is not in the document (a default) is placed at the nearest value around it that is. A value that came by an
    alias or a merge key is placed where it is written.
    """

    path: str
    _root: _Node
    _source: _Source

    def of(self, *path: Key) -> tuple[int, int]:
        """Line and column of a value; of a text in quotes or after ``|``, of its first character."""
        found = self._nodes(path)[-1]
        return self._source.place(self._offset(found, 0) if isinstance(found, _Scalar) else found.start)

    def key(self, *path: Key) -> tuple[int, int]:
        """Line and column of the key of a value; of a list's entry, of its value."""
        nodes = self._nodes(path)
        if len(nodes) == len(path) + 1 and len(path) and isinstance(nodes[-2], _Collection) and nodes[-2].pairs:
            return self._source.place(nodes[-2].pairs[str(path[-1])][0].start)
        return self.of(*path)

    def inside(self, *path: Key, line: int, column: int) -> tuple[int, int]:
        """Where the character at ``line`` and ``column`` of a text stands in the file, whatever way it is written."""
        found = self._nodes(path)[-1]
        if not isinstance(found, _Scalar):
            return self.of(*path)
        before = found.text.split("\n")[: line - 1]
        return self._source.place(self._offset(found, sum(len(text) + 1 for text in before) + column - 1))

    def _nodes(self, path: Sequence[Key]) -> list[_Node]:
        """The values on the path, as far as the document has them."""
        nodes = [self._root]
        for key in path:
            child = nodes[-1].child(key)
            if child is None:
                break
            nodes.append(child)
        return nodes

    def _offset(self, scalar: _Scalar, offset: int) -> int:
        """Quoting and folding change white space only, so letters are counted."""
        letters = list(_letters(self._source.text[scalar.start : scalar.end], scalar.style))
        nth = sum(not sign.isspace() for sign in scalar.text[:offset])
        if not letters:
            return scalar.start
        return scalar.start + (letters[nth] if nth < len(letters) else letters[-1] + 1)


def _letters(raw: str, style: str) -> Iterator[int]:
    """Offsets in a scalar's source of the characters of its text that are not white space."""
    at = len(raw.partition("\n")[0]) if style in ("|", ">") else len(style)
    end = len(raw) - (style in ("'", '"'))
    while at < end:
        sign, width = raw[at], 1
        if style == "'" and sign == "'":
            width = 2
        elif style == '"' and sign == "\\":
            width = {"x": 4, "u": 6, "U": 10}.get(raw[at + 1], 2)
            coded = raw[at + 2 : at + width]
            sign = chr(int(coded, 16)) if coded else " " if raw[at + 1] in "nt r\n_NLP" else raw[at + 1]
        if not sign.isspace():
            yield at
        at += width


def _told(errors: Sequence[ErrorDetails], positions: Positions, model: type[BaseModel]) -> Iterator[Problem]:
    """pydantic's errors in the words and at the places of the document."""
    for error in errors:
        path, models = _structure(model, error["loc"])
        of_key = path[-1:] == ["[key]"]
        path = path[: len(path) - of_key]
        missing, unknown = error["type"] == "missing", error["type"] == "extra_forbidden"
        place = positions.key(*path[: len(path) - missing]) if missing or unknown or of_key else positions.of(*path)
        if unknown:
            message, hint = f"there is no key `{_short(str(path[-1]))}` here", _known_keys(str(path[-1]), models)
        elif missing:
            message, hint = f"the key `{path[-1]}` is missing", ""
        else:
            message, hint = _wrong_value(error, positions._nodes(path)[-1])
        yield Problem(positions.path, *place, message, hint)


def _known_keys(key: str, models: Sequence[type[BaseModel]]) -> str:
    known = {info.alias or name: None for one in models for name, info in one.model_fields.items()}
    return _meant(key, known) or (f"the keys are {', '.join(sorted(known))}" if known else "")


_WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a mapping"),
    **dict.fromkeys(("date_type", "date_parsing", "date_from_datetime_parsing"), "a date like 2026-01-31"),
    **dict.fromkeys(("datetime_type", "datetime_parsing"), "an instant like 2026-01-31T08:00Z"),
    **dict.fromkeys(("time_delta_type", "time_delta_parsing"), "a duration like PT4H"),
}


def _wrong_value(error: ErrorDetails, node: _Node | None) -> tuple[str, str]:
    """Message and hint."""
    kind, context = error["type"], error.get("ctx", {})
    wanted = _WANTED.get(kind)
    if wanted:
        hint = _quote_hint(node) if wanted == "text" else ""
        return f"must be {wanted}, not {_given(node)}", hint
    allowed = str(context.get("expected") or context.get("expected_tags") or "")
    if kind in ("enum", "literal_error", "union_tag_invalid") and allowed:
        tag = node.child(str(context.get("discriminator", "")).strip("'")) if isinstance(node, _Collection) else node
        written = str(tag.data()) if isinstance(tag, _Scalar) else ""
        hint = _meant(written, dict.fromkeys(re.findall("'([^']*)'", allowed))) if written else ""
        return f"must be one of {allowed}, not {_given(tag)}", hint
    return error["msg"].removeprefix("Value error, ").replace("Input should be", "must be"), ""


def _given(node: _Node | None) -> str:
    if isinstance(node, _Collection):
        return "a list" if node.pairs is None else "a mapping"
    if node is None or node.value is None:
        return "empty"
    kind = "the text " if isinstance(node.value, str) else "" if isinstance(node.value, bool) else "the number "
    return f"{kind}`{_short(node.text)}`"


def _quote_hint(node: _Node | None) -> str:
    return f'write "{_short(node.text)}"' if isinstance(node, _Scalar) and node.text else ""


def _short(text: str) -> str:
    line = text.replace("\n", "⏎")
    return line if len(line) <= 60 else line[:59] + "…"


def _meant(word: str, known: Iterable[str], sign: str = "") -> str:
    close = get_close_matches(word.casefold(), {name.casefold(): name for name in known}, 1) if len(word) <= 60 else []
    return next((f"did you mean `{sign}{name}`?" for name in known if close and name.casefold() == close[0]), "")


def _structure(model: type[BaseModel], loc: Sequence[Key]) -> tuple[list[Key], list[type[BaseModel]]]:
    """The path in the document and the models that it ends in.

    In a union pydantic adds to an error's place which member it speaks of; that is no key of the document.
    """
    here: list[Any] = [model]
    around: list[Any] = here
    path: list[Key] = []
    for item in loc:
        members = [member for annotation in here for member in _members(annotation)]
        if len(members) > 1 and any(_carries(member, item) for member in members):
            here = [member for member in members if _carries(member, item)]
            continue
        path.append(item)
        around, here = members, [child for member in members for child in _below(member, item)]
    return path, [one for one in around if isinstance(one, type) and issubclass(one, BaseModel)]


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type, without ``None``."""
    origin = get_origin(annotation)
    if origin is Annotated or hasattr(annotation, "__value__"):
        yield from _members(getattr(annotation, "__value__", None) or get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif annotation is not NoneType:
        yield annotation


def _carries(member: Any, tag: Key) -> bool:
    """Whether pydantic calls this member of a union by ``tag``: its class, or a value of its literal field."""
    if not (isinstance(member, type) and issubclass(member, BaseModel)):
        return isinstance(tag, str) and tag.startswith(getattr(member, "__name__", str(member)))
    kinds = [info.annotation for info in member.model_fields.values() if get_origin(info.annotation) is Literal]
    return tag == member.__name__ or any(tag in get_args(kind) for kind in kinds)


def _below(member: Any, item: Key) -> list[Any]:
    """Types of what stands under a key or index."""
    if isinstance(member, type) and issubclass(member, RootModel):
        return [child for root in _members(member.model_fields["root"].annotation) for child in _below(root, item)]
    if isinstance(member, type) and issubclass(member, BaseModel):
        return [info.annotation for name, info in member.model_fields.items() if item in (name, info.alias)]
    arguments = [argument for argument in get_args(member) if argument is not Ellipsis]
    return (
        arguments[-1:]
        if isinstance(get_origin(member), type) and issubclass(get_origin(member), Mapping)
        else arguments
    )
