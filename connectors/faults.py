"""How a simulator is told to misbehave: the rules, when they strike, and answers that are spoiled on the wire.

Owns one syntax for all simulators: rules from a file or from a request, their counting, their chance, and the bytes of
an answer that comes late, cut, dripping, badly packed or not at all. Leaves to each simulator the faults that speak its
product's language. Knows no product and no connector, so that simulators stay witnesses of their own.

A rule names a fault (``do``) and the requests that it may strike::

    - do: status                # what happens; each fault has parameters of its own, here status, headers and body
      status: 503
      method: POST              # patterns are regular expressions that are searched in the request's parts
      path: /table/incident$
      query: sysparm_limit=
      content: correlation_id   # the request's body
      nth: 3                    # strikes from the third request that matches on, and once unless ``times`` says more
      times: 2                  # null for without end
      rate: 0.1                 # strikes by chance; ``seed`` repeats the same chances
      starts: 5                 # seconds after the rule came into force
      lasts: 60                 # seconds from then on
      after: true               # the server has done what it was asked for before the fault strikes

Without ``nth``, ``times`` and ``rate`` a rule strikes every request that matches.
"""

import difflib
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from email.utils import formatdate
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, NamedTuple

_MEGABYTE = 2**20


class Kind(NamedTuple):
    """A fault that a simulator knows under a name."""

    does: str
    """What the client sees, in one sentence."""
    takes: Mapping[str, Any] = {}
    """Its parameters with their defaults. A type stands for one that has to be given, a tuple for one of its words."""
    method: str | None = None
    """Where it strikes if the rule does not say: method and pattern of the path."""
    path: str = ""


WIRE: Mapping[str, Kind] = {
    "delay": Kind("the answer waits; joins with one other fault", {"seconds": 1.0}),
    "drop_before": Kind("the connection is closed; nothing was done"),
    "drop_after": Kind("the connection is closed without an answer; what was asked for is done"),
    "reset": Kind("the connection is reset; with halfway in the middle of the answer", {"halfway": False}),
    "truncate": Kind("half of the promised bytes, then the end"),
    "cut_chunk": Kind("a chunked answer that ends in the middle of a chunk"),
    "slow_drip": Kind("a few bytes at a time", {"bytes": 1, "seconds": 1.0}),
    "bad_gzip": Kind(
        "a compressed answer whose checksum is wrong, or that is cut or none", {"how": ("checksum", "short", "none")}
    ),
    "trailing_garbage": Kind("bytes behind the JSON, or with beyond behind the answer", {"beyond": False}),
    "oversize_body": Kind("a correct answer with blanks behind it, chunked", {"megabytes": 80}),
}
"""Faults that every server can have; :func:`transmission` carries them out."""
PLAIN = frozenset(("slow_drip", "bad_gzip", "trailing_garbage", "oversize_body"))
"""Those that are about what is in an answer, which is therefore not compressed."""
STATUS: Mapping[str, Kind] = {
    "status": Kind(
        "an answer with this status, these headers and this body", {"status": 503, "headers": {}, "body": None}
    ),
}
"""Every simulator answers a bare status in its product's own form."""
_ACTED = frozenset(
    ("drop_after", "truncate", "cut_chunk", "slow_drip", "bad_gzip", "trailing_garbage", "oversize_body")
)
"""What can only happen once there is an answer."""


class Asked(NamedTuple):
    """The parts of a request that rules look at."""

    method: str
    path: str
    query: str
    content: bytes


@dataclass(slots=True)
class Rule:
    """One rule with its counts. ``given`` are the parameters of its fault."""

    do: str
    method: str | None = None
    path: str = ""
    query: str = ""
    content: str = ""
    nth: int | None = None
    times: int | None = None
    rate: float | None = None
    seed: int | None = None
    starts: float = 0.0
    lasts: float | None = None
    after: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    since: float = 0.0
    """When it came into force, on the clock of :class:`Faults`."""
    seen: int = 0
    """Requests that matched."""
    acted: int = 0
    """Requests that it struck."""

    def matches(self, asked: Asked, now: float) -> bool:
        began = self.since + self.starts
        timely = began <= now and (self.lasts is None or now < began + self.lasts)
        return (
            timely
            and self.method in (None, asked.method)
            and all(
                re.search(pattern, text)
                for pattern, text in ((self.path, asked.path), (self.query, asked.query), (self.content, _text(asked)))
            )
        )

    def strikes(self, free: bool, chance: Callable[[], float]) -> bool:
        """Count a matching request and tell whether the rule strikes it, which it may while the request is free."""
        self.seen += 1
        spent = self.times is not None and self.acted >= self.times
        if not free or spent or self.seen < (self.nth or 1):
            return False
        if self.rate is not None and chance() >= self.rate:
            return False
        self.acted += 1
        return True

    @property
    def has_acted(self) -> bool:
        """Whether the server does what it was asked for although the answer is spoiled or withheld."""
        return self.after or self.do in _ACTED or bool(self.given.get("halfway"))

    def listed(self) -> dict[str, Any]:
        """As it was given, with its counts."""
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("given", "since")}
        return {**told, **self.given}


def limits(path: str) -> dict[str, Kind]:
    """Answers with 429 to requests under the path, each with another sort of ``Retry-After``."""
    return {
        "retry_after_date": Kind("429 that names a date so many seconds ahead", {"seconds": 2}, path=path),
        "retry_after_huge": Kind("429 that asks for a day", path=path),
        "retry_after_negative": Kind("429 that asks for less than nothing", path=path),
        "retry_after_absent": Kind("429 that names no time", path=path),
    }


def retry_after(rule: Rule, now: float) -> dict[str, str] | None:
    """The header that a fault of :func:`limits` sends; ``None`` for any other fault. ``now`` in seconds since 1970."""
    match rule.do:
        case "retry_after_date":
            return {"Retry-After": formatdate(now + rule.given["seconds"], usegmt=True)}
        case "retry_after_huge":
            return {"Retry-After": "86400"}
        case "retry_after_negative":
            return {"Retry-After": "-5"}
        case "retry_after_absent":
            return {}
        case _:
            return None


def _text(asked: Asked) -> str:
    return asked.content.decode("utf-8", "replace") if asked.content else ""


class Faults:
    """The rules in force. Thread-safe. ``seed`` decides the chances of rules that have no seed of their own."""

    def __init__(self, kinds: Mapping[str, Kind], seed: int, clock: Callable[[], float]) -> None:
        self.kinds = kinds
        self.seed = seed
        self._clock = clock
        self._lock = Lock()
        self._rules: list[tuple[Rule, Random]] = []
        self._made = 0
        """Rules so far, so that each has a seed of its own."""

    def add(self, rules: Sequence[Rule]) -> None:
        with self._lock:
            for rule in rules:
                rule.since = self._clock()
                rule.seed = self.seed * 1000 + self._made if rule.seed is None else rule.seed
                self._rules.append((rule, Random(rule.seed)))  # noqa: S311 - chances of faults, no secret
                self._made += 1

    def read(self, text: str | bytes, place: str = "request") -> list[Rule]:
        """Put the rules of a text into force; raises ``ValueError`` as :func:`read_rules` does."""
        rules = read_rules(text, self.kinds, place)
        self.add(rules)
        return rules

    def load(self, path: Path) -> list[Rule]:
        """The same from a file; ``OSError`` where it cannot be read."""
        return self.read(path.read_bytes(), str(path))

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [rule.listed() for rule, _ in self._rules]

    def due(self, asked: Asked) -> list[Rule]:
        """What strikes this request: delays in their order and at most one other fault, the first that is due."""
        struck: list[Rule] = []
        now = self._clock()
        with self._lock:
            for rule, chances in self._rules:
                free = rule.do == "delay" or all(other.do == "delay" for other in struck)
                if rule.matches(asked, now) and rule.strikes(free, chances.random):
                    struck.append(rule)
        return struck


def ready_made(folder: Path, name: str) -> Path:
    """The file of a scenario; ``ValueError`` names those that there are."""
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if name not in known:
        raise ValueError(f"no scenario {name!r}; there are {', '.join(known)}")
    return known[name]


# --- reading rules ----------------------------------------------------------------------------------------------------

_OWN: Mapping[str, tuple[type, ...]] = {
    "do": (str,),
    "method": (str,),
    "path": (str,),
    "query": (str,),
    "content": (str,),
    "nth": (int,),
    "times": (int, type(None)),
    "rate": (int, float),
    "seed": (int,),
    "starts": (int, float),
    "lasts": (int, float),
    "after": (bool,),
}
_PATTERNS = ("path", "query", "content")


def read_rules(text: str | bytes, kinds: Mapping[str, Kind], place: str) -> list[Rule]:
    """Rules from YAML or JSON: a list, one rule, or a mapping with ``faults``.

    ``ValueError`` names everything that is wrong, each as ``place:line:column: problem``.
    """
    reader = _Reader(kinds, place)
    rules = reader.rules(_loaded(text, place))
    if reader.problems:
        raise ValueError("\n".join(reader.problems))
    return rules


def _loaded(text: str | bytes, place: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="rt", pure=True).load(text.decode("utf-8") if isinstance(text, bytes) else text)
    except UnicodeDecodeError as wrong:
        raise ValueError(f"{place}: not UTF-8: {wrong}") from None
    except YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        spot = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ValueError(f"{place}{spot}: {getattr(wrong, 'problem', None) or wrong}") from None


class _Reader:
    """Turns a loaded document into rules and gathers what is wrong with it."""

    def __init__(self, kinds: Mapping[str, Kind], place: str) -> None:
        self.problems: list[str] = []
        self._kinds = kinds
        self._place = place

    def rules(self, document: Any) -> list[Rule]:
        if isinstance(document, Mapping) and "faults" in document:
            for key in document.keys() - {"faults"}:
                self._wrong(document, key, f"unknown key {key!r} beside faults")
            document = document["faults"]
        given = document if isinstance(document, list) else [document]
        return [rule for rule in map(self._rule, given) if rule is not None]

    def _rule(self, given: Any) -> Rule | None:
        if not isinstance(given, Mapping):
            self.problems.append(f"{self._place}: a rule is a mapping with the key 'do', not {given!r}")
            return None
        kind = self._kinds.get(str(given.get("do")))
        if "do" not in given:
            self._wrong(given, "do", "a rule needs the key 'do', which names the fault")
            return None
        if kind is None:
            self._unknown(given, "do", given.get("do"), self._kinds, "'do' is none of the faults")
            return None
        before = len(self.problems)
        own = {key: _plain(value) for key, value in given.items() if key in _OWN}
        more = {key: _plain(value) for key, value in given.items() if key not in _OWN}
        for key in given:
            if key in own:
                self._check_own(given, key, own[key])
            else:
                self._check_parameter(given, key, more[key], kind)
        for key in (key for key, default in kind.takes.items() if isinstance(default, type) and key not in more):
            self._wrong(given, "do", f"the fault {given['do']!r} needs {key!r}")
        if len(self.problems) > before:
            return None
        own.setdefault("times", 1 if "nth" in own else None)
        own.setdefault("method", kind.method)
        own.setdefault("path", kind.path)
        defaults = {key: one[0] if isinstance(one, tuple) else one for key, one in kind.takes.items()}
        return Rule(**own, given={**defaults, **more})

    def _check_own(self, given: Mapping[Any, Any], key: str, value: Any) -> None:
        if type(value) not in _OWN[key]:
            self._wrong(given, key, f"{key!r} cannot be {value!r}")
        elif key in _PATTERNS:
            try:
                re.compile(value)
            except re.error as error:
                self._wrong(given, key, f"{key!r} is no regular expression: {error}")
        elif key == "method" and value != value.upper():
            self._wrong(given, key, f"{key!r} is written in capitals: {value.upper()}")
        elif key == "rate" and not 0 <= value <= 1:
            self._wrong(given, key, f"{key!r} is a share from 0 to 1, not {value}")
        elif key in ("nth", "times") and value is not None and value < 1:
            self._wrong(given, key, f"{key!r} counts from 1")

    def _check_parameter(self, given: Mapping[Any, Any], key: Any, value: Any, kind: Kind) -> None:
        if key not in kind.takes:
            self._unknown(given, key, key, [*_OWN, *kind.takes], "unknown key for this fault")
            return
        default = kind.takes[key]
        if isinstance(default, tuple):
            if value not in default:
                self._wrong(given, key, f"{key!r} is one of {', '.join(default)}")
            return
        wanted = default if isinstance(default, type) else type(default)
        if default is not None and type(value) not in ((int, float) if wanted is float else (wanted,)):
            self._wrong(given, key, f"{key!r} cannot be {value!r}")

    def _unknown(self, given: Mapping[Any, Any], key: Any, word: Any, known: Any, what: str) -> None:
        near = difflib.get_close_matches(str(word), list(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
        self._wrong(given, key, f"{what}: {word!r}{hint}")

    def _wrong(self, given: Mapping[Any, Any], key: Any, problem: str) -> None:
        """``key`` is where it is wrong, or missing: then the first key stands for the whole."""
        place = key if key in given else next(iter(given), None)
        line, column = (0, 0) if place is None else given.lc.key(place)  # type: ignore[attr-defined]
        self.problems.append(f"{self._place}:{line + 1}:{column + 1}: {problem}")


def _plain(value: Any) -> Any:
    """A value without what the reader of YAML hung on it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


# --- the wire ---------------------------------------------------------------------------------------------------------


class Transmission(NamedTuple):
    """How an answer leaves: each part ``pause`` seconds after the former, then the end."""

    parts: Iterator[bytes]
    pause: float
    end: str
    """``keep`` the connection, ``close`` it or ``reset`` it."""


def transmission(rule: Rule | None, status: str, headers: Mapping[str, str], body: bytes) -> Transmission:
    """A complete answer as the rule lets it leave. ``headers`` hold the length of the body as it is."""
    given = {} if rule is None else rule.given
    cut = body[: len(body) // 2]
    match "" if rule is None else rule.do:
        case "reset":
            return _sent(status, headers, cut, "reset")
        case "truncate":
            return _sent(status, headers, cut, "close")
        case "cut_chunk":
            return _sent(status, _chunked(headers), b"%x\r\n" % len(body) + cut, "close")
        case "slow_drip":
            step = given["bytes"]
            drops = (body[place : place + step] for place in range(0, len(body), step))
            return Transmission(_headed(status, headers, drops), given["seconds"], "keep")
        case "bad_gzip":
            packed = _badly_packed(body, given["how"])
            return _sent(status, {**headers, "Content-Encoding": "gzip", "Content-Length": str(len(packed))}, packed)
        case "trailing_garbage":
            garbage = b"</html>\x00"
            longer = {} if given["beyond"] else {"Content-Length": str(len(body + garbage))}
            return _sent(status, {**headers, **longer}, body + garbage)
        case "oversize_body":
            return Transmission(_headed(status, _chunked(headers), _padded(body, given["megabytes"])), 0.0, "keep")
        case _:
            return _sent(status, headers, body)


def _sent(status: str, headers: Mapping[str, str], body: bytes, end: str = "keep") -> Transmission:
    return Transmission(iter((_head(status, headers) + body,)), 0.0, end)


def _headed(status: str, headers: Mapping[str, str], parts: Iterator[bytes]) -> Iterator[bytes]:
    yield _head(status, headers)
    yield from parts


def _head(status: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _chunked(headers: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in headers.items() if name.casefold() != "content-length"}
    return {**kept, "Transfer-Encoding": "chunked"}


def _badly_packed(body: bytes, how: str) -> bytes:
    packed = gzip.compress(body, 1)
    if how == "checksum":
        return packed[:-8] + bytes(each ^ 0xFF for each in packed[-8:-4]) + packed[-4:]
    return packed[: len(packed) // 2] if how == "short" else body


def _padded(body: bytes, megabytes: int) -> Iterator[bytes]:
    blanks = b" " * _MEGABYTE
    yield b"%x\r\n%b\r\n" % (len(body), body)
    for _ in range(megabytes):
        yield b"%x\r\n%b\r\n" % (_MEGABYTE, blanks)
    yield b"0\r\n\r\n"


# --- odd content ------------------------------------------------------------------------------------------------------

_ODD: Mapping[str, bytes] = {
    "nul": rb'"before\u0000after"',
    "surrogate": rb'"half \ud83d of a pair"',
    "megabyte": b'"%b"' % (b"long " * 210_000),
    "deep": b"[" * 2_000 + b"]" * 2_000,
    "nan": b"NaN",
    "infinity": b"-Infinity",
    "formula": rb'"=HYPERLINK(\"http://x.invalid\",\"x\")"',
    "script": rb'"<script>alert(1)</script> {{7*7}} [x|javascript:alert(1)]"',
    "number": b"3",
    "null": b"null",
    "list": b'["a", "b"]',
}
ODD_SORTS = tuple(_ODD)
ODD = "\x00odd\x00"
"""Stands in an answer for a value that :func:`odd_json` writes."""


def odd_json(content: Any, sort: str) -> bytes:
    """JSON with each :data:`ODD` in ``content`` replaced by a value that no encoder would write on its own."""
    return json.dumps(content).encode().replace(json.dumps(ODD).encode(), _ODD[sort])
