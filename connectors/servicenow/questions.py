"""What is asked of a table and what comes back, and a question that is too long for one address, asked in parts.

Addresses hold about 8,000 characters, behind some proxies far fewer. Owns which part of a question is halved, its
longest list, and how several pages become one again; asking is ``transport``'s, and parts that are still too long come
back here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from connectors.servicenow.translate import plain
from itsms_sync.connector import Unavailable
from itsms_sync.records import Millis

_LISTED = re.compile(r"(?<![a-z0-9_.])([a-z][a-z0-9_.]*?)(NOT IN|IN)([^^]+)")
_ORDER = re.compile(r"ORDERBY(DESC)?([a-z0-9_]+)")
_VERSION = ("sys_id", "sys_updated_on", "sys_mod_count")
"""What tells whether a row was changed between two parts."""


@dataclass(frozen=True, slots=True)
class Question:
    """One page of one table. ``query`` is an encoded query; ``counted`` makes the server count all matches, and
    ``labelled`` makes it show the label beside each raw value.
    """

    table: str
    query: str
    fields: tuple[str, ...]
    limit: int
    offset: int = 0
    counted: bool = False
    labelled: bool = False

    def __str__(self) -> str:
        offset = f"&sysparm_offset={self.offset}" if self.offset else ""
        labels = "&sysparm_display_value=all" if self.labelled else ""
        return (
            f"GET /api/now/table/{self.table}?sysparm_query={self.query}&sysparm_fields={','.join(self.fields)}"
            f"&sysparm_limit={self.limit}{offset}{labels}"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole page. ``question`` is the one that was answered, perhaps with a smaller limit than was asked first."""

    question: Question
    rows: list[dict[str, Any]]
    total: int | None
    """Rows that match, hidden ones included; ``None`` if it was not counted."""
    more: bool
    """Whether the server says or the count shows that rows follow this page."""
    server: str
    server_time: Millis | None


Ask = Callable[[Question], Answer]


class _List(NamedTuple):
    """A condition on a list, as it stands in the query."""

    text: str
    field: str
    operator: str
    values: Sequence[str]


def in_parts(question: Question, ask: Ask) -> Answer | None:
    """The answer put together; ``None`` for a question that has no part to be halved."""
    listed = _longest_list(question.query)
    names = [name for name in question.fields if name not in _kept(question)]
    if listed is None or len(listed.text) < len(",".join(names)):
        return _joined(question, names, ask) if len(names) > 1 else None
    if listed.operator == "NOT IN":
        return _filtered(question, listed, ask)
    if len(listed.values) < 2 or question.offset or any(down for down, _ in _ORDER.findall(question.query)):
        return None
    return _merged(question, listed, ask)


def _longest_list(query: str) -> _List | None:
    lists = [_List(each[0], each[1], each[2], each[3].split(",")) for each in _LISTED.finditer(query)]
    return max(lists, key=lambda one: len(one.text), default=None)


def _kept(question: Question) -> tuple[str, ...]:
    """Fields that every part asks for, as far as the question does."""
    order = [name for _, name in _ORDER.findall(question.query)]
    return tuple(name for name in question.fields if name in (*_VERSION, *order))


def _joined(question: Question, names: Sequence[str], ask: Ask) -> Answer:
    """The same rows twice, each time with one half of the fields; where one page ends sooner, as far as both go."""
    kept, middle = _kept(question), len(names) // 2
    left = ask(replace(question, fields=(*kept, *names[:middle])))
    right = ask(replace(question, fields=(*kept, *names[middle:]), counted=False))
    shorter = min(left, right, key=lambda part: len(part.rows))
    shared = len(shorter.rows)
    versions = [[[row.get(name) for name in kept] for row in part.rows[:shared]] for part in (left, right)]
    longer = max(len(left.rows), len(right.rows)) > shared
    if versions[0] != versions[1] or (longer and not _may_go_on(shorter)):
        raise Unavailable(f"{question.table}: rows changed while they were read in parts; try again later")
    rows = [{**one, **other} for one, other in zip(left.rows, right.rows, strict=False)]
    return replace(left, question=replace(question, limit=shorter.question.limit), rows=rows, more=left.more or longer)


def _may_go_on(page: Answer) -> bool:
    """Whether rows follow, or may for all that a page says that was not counted."""
    return page.more or len(page.rows) >= page.question.limit


def _merged(question: Question, listed: _List, ask: Ask) -> Answer:
    """Two pages of half the list each, as one page in their common order, as far as no row can come between."""
    middle = len(listed.values) // 2
    halves = (listed.values[:middle], listed.values[middle:])
    texts = [f"{listed.field}IN{','.join(values)}" for values in halves]
    parts = [_shown(replace(question, query=question.query.replace(listed.text, text)), ask) for text in texts]
    order = [name for _, name in _ORDER.findall(question.query)]

    def key(row: dict[str, Any]) -> list[str]:
        return [plain(row.get(name)) or "" for name in order]

    rows = sorted((row for part in parts for row in part.rows), key=key)
    border = min((key(part.rows[-1]) for part in parts if part.rows and _may_go_on(part)), default=None)
    kept = [row for row in rows if border is None or key(row) <= border][: question.limit]
    more = any(part.more for part in parts) or len(kept) < len(rows)
    hidden = sum(part.question.limit - len(part.rows) for part in parts if part.more)
    totals = [part.total for part in parts]
    total = None if None in totals else sum(total or 0 for total in totals)
    limit = len(kept) + hidden if more else question.limit
    return replace(parts[-1], question=replace(question, limit=limit), rows=kept, total=total, more=more)


def _shown(question: Question, ask: Ask) -> Answer:
    """The first page that shows a row."""
    answer = ask(question)
    while not answer.rows and answer.more:
        answer = ask(replace(question, offset=answer.question.offset + answer.question.limit))
    return answer


def _filtered(question: Question, listed: _List, ask: Ask) -> Answer:
    """All rows, of which those that the list excludes are left out here."""
    query = re.sub(r"\^{2,}", "^", question.query.replace(listed.text, "")).strip("^").replace("^NQ^", "^NQ")
    fields = tuple(dict.fromkeys((*question.fields, listed.field)))
    asked, left_out = replace(question, query=query, fields=fields), 0
    while True:
        answer = ask(asked)
        kept = [row for row in answer.rows if plain(row.get(listed.field)) not in listed.values]
        left_out += len(answer.rows) - len(kept)
        if kept or not answer.more:
            break
        asked = replace(asked, offset=answer.question.offset + answer.question.limit)
    rows = [{name: row[name] for name in question.fields if name in row} for row in kept]
    total = None if answer.total is None else answer.total - left_out
    limit = answer.question.limit - (len(answer.rows) - len(kept))
    return replace(answer, question=replace(question, limit=limit), rows=rows, total=total)
