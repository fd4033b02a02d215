"""Owns search/jql: bounded queries, pages by token, what the lagging index shows and how ``reconcileIssues`` helps.

A token holds the place in the order where its page ended, so a row that moves behind that place comes again and a
restart does not end a walk. Results are kept as long as the index stands still.
"""

import base64
import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from connectors.jira.simulator.editing import Refusal
from connectors.jira.simulator.jql import Asker, JqlError, Language, SortKeys, is_relative, parse, sorted_issues
from connectors.jira.simulator.site import Issue, Site

_TOKEN_LIFE = 7 * 24 * 3_600_000
_UNBOUNDED = "Unbounded JQL queries are not allowed here. Please add a search restriction to your query."
_BAD_TOKEN = "The provided next page token is invalid or has expired."  # noqa: S105 - a sentence
_KEPT_RESULTS = 32


@dataclass(frozen=True, slots=True)
class Found:
    issues: Sequence[Issue]
    token: str | None
    """``None`` on the last page."""


class Search:
    def __init__(self, site: Site, empty_page: int) -> None:
        self._site = site
        self._language = Language(site.configuration)
        self._empty_page = empty_page
        self._results: dict[tuple[str, str, tuple[int, ...]], tuple[int, list[Issue]]] = {}

    def page(self, jql: str, asker: Asker, size: int, token: str | None, reconcile: Sequence[int]) -> Found:
        """One page of at most ``size`` issues; ``Refusal`` (400) for queries and tokens that are not accepted."""
        query = parse_or_refuse(jql)
        keys = self._keys(query.order)
        ordered = self._matching(jql, asker, tuple(reconcile))
        number, start = (1, 0) if token is None else self._resume(token, jql, asker.now, ordered, keys)
        if number == self._empty_page:
            size = 0
        shown = ordered[start : start + size]
        if start + size >= len(ordered):
            return Found(shown, None)
        after = self._place(shown[-1], keys) if shown else None
        if after is None and token is not None:
            after = _content(token)["after"]
        return Found(shown, _token(jql, asker.now, number + 1, after))

    def count(self, jql: str, asker: Asker) -> int:
        return len(self._matching(jql, asker, ()))

    def matches(self, jql: str, asker: Asker, numbers: Sequence[int]) -> list[int]:
        found = {issue.id for issue in self._matching(jql, asker, ())}
        return [number for number in numbers if number in found]

    def _keys(self, order: Sequence[tuple[str, bool]]) -> SortKeys:
        if len(order) > 7:
            raise Refusal(400, "The maximum number of ORDER BY fields is 7.")
        try:
            return self._language.order(order)
        except JqlError as wrong:
            raise Refusal(400, str(wrong)) from None

    def _matching(self, jql: str, asker: Asker, reconcile: tuple[int, ...]) -> list[Issue]:
        query = parse_or_refuse(jql)
        if query.where is None:
            raise Refusal(400, _UNBOUNDED)
        visible = self._site.index.at(asker.now)
        key = (jql, asker.account, reconcile)
        kept = self._results.get(key)
        if kept and kept[0] == self._site.index.generation and not reconcile and not is_relative(query.where):
            return kept[1]
        try:
            matches = self._language.predicate(query.where, asker)
        except JqlError as wrong:
            raise Refusal(400, str(wrong)) from None
        seen = self._reconciled(visible, reconcile) if reconcile else visible
        ordered = sorted_issues(filter(matches, seen.values()), self._keys(query.order))
        if len(self._results) >= _KEPT_RESULTS:
            self._results.clear()
        self._results[key] = (self._site.index.generation, ordered)
        return ordered

    def _reconciled(self, visible: Mapping[int, Issue], numbers: Sequence[int]) -> Mapping[int, Issue]:
        """The index with the named issues as they are now."""
        seen = dict(visible)
        for number in numbers:
            seen.pop(number, None)
            if issue := self._site.issue(str(number)):
                seen[number] = issue
        return seen

    def _place(self, issue: Issue, keys: SortKeys) -> list[Any]:
        return [key(issue) for key, _ in keys]

    def _resume(self, token: str, jql: str, now: int, ordered: Sequence[Issue], keys: SortKeys) -> tuple[int, int]:
        """Number of the page that the token asks for and where it starts."""
        content = _content(token)
        if content["query"] != _digest(jql) or now - content["issued"] > _TOKEN_LIFE:
            raise Refusal(400, _BAD_TOKEN)
        if content["after"] is None:
            return content["page"], 0
        place = [_frozen(value) for value in content["after"]]
        return content["page"], bisect_left(ordered, True, key=lambda issue: _is_after(issue, place, keys))


def parse_or_refuse(jql: str) -> Any:
    try:
        return parse(jql)
    except JqlError as wrong:
        raise Refusal(400, str(wrong)) from None


def _is_after(issue: Issue, place: Sequence[Any], keys: SortKeys) -> bool:
    for (key, descending), limit in zip(keys, place, strict=True):
        value = key(issue)
        if value != limit:
            return bool(value > limit) != descending
    return False


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _digest(jql: str) -> str:
    return hashlib.blake2b(jql.encode(), digest_size=8).hexdigest()


def _token(jql: str, now: int, page: int, after: Sequence[Any] | None) -> str:
    content = {"query": _digest(jql), "issued": now, "page": page, "after": after}
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode()


def _content(token: str) -> dict[str, Any]:
    try:
        content = orjson.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise Refusal(400, _BAD_TOKEN) from None
    if not isinstance(content, dict) or content.keys() != {"query", "issued", "page", "after"}:
        raise Refusal(400, _BAD_TOKEN)
    return content
