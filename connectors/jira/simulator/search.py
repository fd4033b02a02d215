"""Owns searching: pages by token or by offset, what a lagging index shows and how ``reconcileIssues`` helps.

A token holds the place in the order where its page ended, so a row that moves behind that place comes again and a
restart does not end a walk. Orders and results are kept as long as the index stands still.
"""

import base64
import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from connectors.jira.simulator.jql import JqlError, Query, parse
from connectors.jira.simulator.predicates import Asker, Language, Predicate, SortKeys, is_relative, sorted_issues
from connectors.jira.simulator.refusals import Refusal
from connectors.jira.simulator.site import Issue, SearchIndex, Site

_TOKEN_LIFE = 7 * 24 * 3_600_000
_UNBOUNDED = "Unbounded JQL queries are not allowed here. Please add a search restriction to your query."
_BAD_TOKEN = "The provided next page token is invalid or has expired."  # noqa: S105 - a sentence
_KEPT_RESULTS = 32

Order = tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Found:
    issues: Sequence[Issue]
    token: str | None
    """``None`` on the last page."""


@dataclass(frozen=True, slots=True)
class Slice:
    issues: Sequence[Issue]
    total: int


class Search:
    """Queries over one node's index."""

    def __init__(self, site: Site, index: SearchIndex, empty_page: int) -> None:
        self._site = site
        self._index = index
        self._language = Language(site.configuration, site.issue)
        self._empty_page = empty_page
        self._generation = -1
        self._orders: dict[Order, list[Issue]] = {}
        self._results: dict[tuple[str, str], list[Issue]] = {}

    def page(self, jql: str, asker: Asker, size: int, token: str | None, reconcile: Sequence[int]) -> Found:
        """One page of at most ``size`` issues; ``Refusal`` (400) for queries and tokens that are not accepted."""
        query = parse_or_refuse(jql)
        if query.where is None:
            raise Refusal(400, _UNBOUNDED)
        keys, visible = self._keys(query.order), self._visible(asker.now)
        ordered = self._ordered(query.order, self._reconciled(visible, reconcile) if reconcile else None)
        number, start = (1, 0) if token is None else self._resume(token, jql, asker.now, ordered, keys)
        start = max(start, self._start(query, asker, ordered))
        if number == self._empty_page:
            size = 0
        # a walk goes through the order once: each page from where the former one ended, until it is full
        found = list(islice(filter(self._predicate(query, asker), islice(ordered, start, None)), size + 1))
        if len(found) <= size:
            return Found(found, None)
        shown = found[:size]
        after = self._place(shown[-1], keys) if shown else _content(token)["after"] if token else None
        return Found(shown, _token(jql, asker.now, number + 1, after))

    def slice(self, jql: str, asker: Asker, start: int, size: int) -> Slice:
        """``size`` issues from place ``start`` on, as they are ordered now: what moves meanwhile shifts the places."""
        ordered = self._matching(jql, asker)
        return Slice(ordered[start : start + size], len(ordered))

    def count(self, jql: str, asker: Asker) -> int:
        """How many issues a bounded query finds."""
        if parse_or_refuse(jql).where is None:
            raise Refusal(400, _UNBOUNDED)
        return len(self._matching(jql, asker))

    def matches(self, jql: str, asker: Asker, numbers: Sequence[int]) -> list[int]:
        found = {issue.id for issue in self._matching(jql, asker)}
        return [number for number in numbers if number in found]

    def _keys(self, order: Order) -> SortKeys:
        if len(order) > 7:
            raise Refusal(400, "The maximum number of ORDER BY fields is 7.")
        try:
            return self._language.order(order)
        except JqlError as wrong:
            raise Refusal(400, str(wrong)) from None

    def _matching(self, jql: str, asker: Asker) -> Sequence[Issue]:
        """All that the query finds, in its order."""
        query = parse_or_refuse(jql)
        self._visible(asker.now)
        key = (jql, asker.account)
        if (kept := self._results.get(key)) is not None:
            return kept
        ordered = self._ordered(query.order, None)
        start = self._start(query, asker, ordered)
        found = list(filter(self._predicate(query, asker), islice(ordered, start, None)))
        if not (query.where and is_relative(query.where)):
            if len(self._results) >= _KEPT_RESULTS:
                self._results.clear()
            self._results[key] = found
        return found

    def _start(self, query: Query, asker: Asker, ordered: Sequence[Issue]) -> int:
        """Where in the order the first match can be: a walk by time does not go through what lies behind it."""
        if query.where is None or not query.order or query.order[0][1] or not self._language.is_time(query.order[0][0]):
            return 0
        earliest = self._language.earliest(query.where, query.order[0][0], asker)
        if earliest is None:
            return 0
        key = self._keys(query.order)[0][0]
        return bisect_left(ordered, (False, earliest), key=key)

    def _predicate(self, query: Query, asker: Asker) -> Predicate:
        try:
            matches = self._language.predicate(query.where, asker) if query.where else lambda _: True
        except JqlError as wrong:
            raise Refusal(400, str(wrong)) from None
        unseen = self._site.configuration.unseen
        return (lambda issue: issue.project not in unseen and matches(issue)) if unseen else matches

    def _visible(self, now: int) -> Mapping[int, Issue]:
        """The index as it is now; what was kept of an older one is forgotten."""
        visible = self._index.at(now)
        if self._generation != self._index.generation:
            self._generation = self._index.generation
            self._orders.clear()
            self._results.clear()
        return visible

    def _ordered(self, order: Order, seen: Mapping[int, Issue] | None) -> list[Issue]:
        """All issues in an order, which is made once for all queries that want it; ``seen`` instead of the index."""
        keys = self._keys(order)
        if seen is not None:
            return sorted_issues(seen.values(), keys)
        if order not in self._orders:
            self._orders[order] = sorted_issues(self._index.visible.values(), keys)
        return self._orders[order]

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


def parse_or_refuse(jql: str) -> Query:
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
