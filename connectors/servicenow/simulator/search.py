"""Finding rows: a :class:`~.query.Query` bound to a table, answered page by page.

Owns what the product decides here: unknown fields fail open, fields that may not be read refuse the query, rows with
equal order keys come in another order on each call. A keyset page costs what it returns: conditions on the leading
columns of the order become bisections, and only the rest is tested row by row.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby, islice, pairwise
from operator import itemgetter
from random import Random
from typing import NamedTuple

from connectors.servicenow.simulator.desk import Desk, RefusedError
from connectors.servicenow.simulator.dictionary import is_task, reference_of, type_of
from connectors.servicenow.simulator.marks import stamp
from connectors.servicenow.simulator.query import Condition, Query, UnservedError, parse
from connectors.servicenow.simulator.tables import NO_NUMBER, TOP, Key, Order, Row, Table, number

Get = Callable[[Row], str]
Test = Callable[[Row], bool]
Late = Callable[[Table, Row], bool]
"""Whether a row is not there yet, although its stamp says so."""
_RANGES = ("=", "<", "<=", ">", ">=")
_SYS_ID = re.compile(r"[0-9a-f]{32}")
_LOOKED_UP = frozenset(
    (
        "number",
        "user_name",
        "correlation_id",
        "documentkey",
        "element_id",
        "document_id",
        "id",
        "element",
        "name",
        "tablename",
    )
)


class Bound(NamedTuple):
    """A condition tied to a column (``None`` for one reached through a reference) and ready to test a row."""

    column: int | None
    operator: str
    value: str
    test: Test


Clauses = list[tuple[Bound, ...]]


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf a query runs, and how."""

    fail_open: bool
    """What an unknown field does: drop its condition, or (false) empty the answer."""
    ties: Random
    """Decides the order of rows that the query leaves open."""
    is_instance: bool = False
    """Whether the instance asks itself, to which no access rule applies."""
    late: Late | None = None


def getter(desk: Desk, table: str, path: str) -> tuple[Get, str, str] | None:
    """Value of a possibly dotted field, with the table and field where the path ends; ``None`` if unknown."""
    head, _, rest = path.partition(".")
    owner = desk.table(table)
    if owner is None or head not in owner.index:
        return None
    get: Get = itemgetter(owner.index[head])
    if not rest:
        return get, table, head
    target = reference_of(table, head)
    inner = getter(desk, target, rest) if target else None
    if target is None or inner is None:
        return None
    return _through(desk, target, get, rest), inner[1], inner[2]


def _through(desk: Desk, target: str, get: Get, rest: str) -> Get:
    def follow(row: Row) -> str:
        found = desk.find(target, get(row))
        if found is None:
            return ""
        owner, other = found
        inner = getter(desk, owner.name, rest)
        return inner[0](other) if inner else ""

    return follow


class Search:
    """The answer to one query: count it, or take a page of it. Valid while the desk's lock is held."""

    def __init__(self, desk: Desk, table: Table, query: Query, asker: Asker) -> None:
        self._desk = desk
        self._table = table
        self._asker = asker
        if not asker.is_instance:
            self._refuse_denied(query)
        bound = [self._bind(group) for group in query.groups]
        self.groups = [[*group, *self._punctual()] for group in bound if group is not None]
        self._order = [(self._column(name), down) for name, down in query.order if self._column(name) is not None]
        self._dotted = [(name, down) for name, down in query.order if "." in name and getter(desk, table.name, name)]
        self._found = self._looked_up()

    def count(self) -> int:
        """How many rows match, rows that the account may not see included."""
        if self._found is not None:
            return len(self._found)
        order = self._index()
        return sum(
            end - start if test is None else sum(map(test, map(order.rows.__getitem__, range(start, end))))
            for start, end, test in self._segments(order)
        )

    def page(self, offset: int, limit: int) -> list[Row]:
        """At most ``limit`` matching rows after the first ``offset``."""
        return list(islice(self._sorted(), offset, offset + limit))

    def _punctual(self) -> Clauses:
        """That a row is not late, as a condition of every group."""
        late, table = self._asker.late, self._table
        return [] if late is None else [(Bound(None, "", "", lambda row: not late(table, row)),)]

    # --- binding -------------------------------------------------------------------------------------------------

    def _refuse_denied(self, query: Query) -> None:
        for name in query.fields():
            end = getter(self._desk, self._table.name, name)
            if end and end[2] in self._desk.access.denied(end[1]):
                detail = "Field(s) present in the query do not have permission to be read"
                raise RefusedError("Insufficient rights to query records", detail)

    def _bind(self, group: Iterable[Sequence[Condition]]) -> Clauses | None:
        """Bound clauses of a group; ``None`` when an unknown field empties it."""
        clauses: Clauses = []
        for clause in group:
            bound = [self._condition(condition) for condition in clause]
            if None in bound and not self._asker.fail_open:
                return None
            known = tuple(one for one in bound if one is not None)
            if known:
                clauses.append(known)
        return clauses

    def _condition(self, condition: Condition) -> Bound | None:
        end = getter(self._desk, self._table.name, condition.field)
        if end is None or not condition.operator:
            return None
        get, table, name = end
        value = scripted(condition.value, self._desk)
        column = None if "." in condition.field else self._table.index[name]
        return Bound(column, condition.operator, value, self._test(get, table, name, condition.operator, value))

    def _test(self, get: Get, table: str, name: str, operator: str, value: str) -> Test:
        if operator in ("SAMEAS", "NSAMEAS"):
            other = getter(self._desk, self._table.name, value)
            if other is None:
                raise UnservedError(f"{operator} {value}")
            twin, same = other[0], operator == "SAMEAS"
            return lambda row: (get(row) == twin(row)) is same
        target = reference_of(table, name)
        if target and operator in ("LIKE", "NOT LIKE", "STARTSWITH", "ENDSWITH"):
            get = _displayed(self._desk, get, target)
        if target and operator in ("IN", "NOT IN") and not _all_ids(value):
            return _in_display(self._desk, get, target, value, wanted=operator == "IN")
        return _test(get, operator, value, numeric=type_of(table, name) == "integer")

    def _column(self, name: str) -> int | None:
        return self._table.index.get(name)

    # --- ways to the rows ----------------------------------------------------------------------------------------

    def _index(self) -> Order:
        """The order to walk: the one asked for, where it is one that is kept."""
        columns = tuple(dict.fromkeys(column for column, _ in self._order if column is not None))
        return self._table.order(columns or (self._table.index["sys_id"],))

    def _sorted(self) -> Iterator[Row]:
        downs = {down for _, down in self._order}
        total = self._table.index["sys_id"] in [column for column, _ in self._order]
        found = self._found
        if found is None and len(downs) == 1 and not self._dotted:
            rows = self._walk(self._index(), backwards=downs == {True})
        else:
            rows = iter(self._sort(self._everything() if found is None else [*found]))
        return rows if total else self._mixed(rows)

    def _everything(self) -> list[Row]:
        return list(self._walk(self._index(), backwards=False))

    def _sort(self, rows: list[Row]) -> list[Row]:
        for column, down in reversed(self._order):
            if column is not None:
                numeric = type_of(self._table.name, self._table.columns[column]) == "integer"
                rows.sort(key=_sort_key(itemgetter(column), numeric), reverse=down)
        for name, down in self._dotted:
            end = getter(self._desk, self._table.name, name)
            if end:
                rows.sort(key=_sort_key(end[0], type_of(end[1], end[2]) == "integer"), reverse=down)
        return rows

    def _mixed(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Rows with equal keys, in an order that the next call does not repeat."""
        columns = [column for column, _ in self._order if column is not None]
        if not columns:
            return iter(self._turned(list(rows)))
        tied = groupby(rows, key=lambda row: [row[column] for column in columns])
        return chain.from_iterable(self._turned(list(group)) for _, group in tied)

    def _turned(self, group: list[Row]) -> list[Row]:
        if len(group) < 2:
            return group
        pivot = self._asker.ties.randrange(len(group))
        turned = group[pivot:] + group[:pivot]
        return turned if self._asker.ties.random() < 0.5 else turned[::-1]

    def _walk(self, order: Order, *, backwards: bool) -> Iterator[Row]:
        segments = self._segments(order)
        for start, end, test in reversed(segments) if backwards else segments:
            places = range(end - 1, start - 1, -1) if backwards else range(start, end)
            rows = map(order.rows.__getitem__, places)
            yield from rows if test is None else filter(test, rows)

    def _segments(self, order: Order) -> list[tuple[int, int, Test | None]]:
        """Stretches of the order that can hold matches, each with the test that is left to make there."""
        spans = [_span(order, group) for group in self.groups]
        borders = sorted({border for start, end, _ in spans if start < end for border in (start, end)})
        segments = []
        for start, end in pairwise(borders):
            tests = [rest for low, high, rest in spans if low <= start and end <= high]
            if tests:
                segments.append((start, end, _any_group(tests)))
        return segments

    def _looked_up(self) -> list[Row] | None:
        """All matches by the ids that every group names; ``None`` where that would touch much of the table."""
        budget = max(200, len(self._table.rows) // 20)
        candidates: dict[str, Row] = {}
        for group in self.groups:
            rows = self._named_rows(group, budget)
            if rows is None:
                return None
            candidates.update(rows)
        test = _any_group(self.groups)
        rows_found = candidates.values()
        return list(rows_found) if test is None else list(filter(test, rows_found))

    def _named_rows(self, group: Clauses, budget: int) -> dict[str, Row] | None:
        for clause in group:
            (one, *others) = clause
            if others or one.column is None or not self._is_key(one.column) or not self._is_exact(one, one.column):
                continue
            order = self._table.order((one.column,))
            values = {one.value} if one.operator == "=" else set(one.value.split(","))
            spans = [(order.place((value,)), order.place((value, TOP))) for value in values]
            if sum(end - start for start, end in spans) <= budget:
                sys_id = self._table.index["sys_id"]
                return {row[sys_id]: row for start, end in spans for row in order.rows[start:end]}
        return None

    def _is_exact(self, one: Bound, column: int) -> bool:
        """Whether the condition names stored values; ``IN`` on a reference may name displayed ones instead."""
        if reference_of(self._table.name, self._table.columns[column]) and not _all_ids(one.value):
            return False
        return one.operator in ("=", "IN")

    def _is_key(self, column: int) -> bool:
        name = self._table.columns[column]
        kind = type_of(self._table.name, name)
        return kind in ("GUID", "reference") or name in _LOOKED_UP


def row_test(desk: Desk, table: Table, text: str) -> Test:
    """Whether a row fulfils a condition of the instance's own, written as an encoded query; blank always holds."""
    asker = Asker(fail_open=True, ties=Random(0), is_instance=True)  # noqa: S311 - nothing is ordered here
    return _any_group(Search(desk, table, parse(text), asker).groups) or (lambda row: True)


def _sort_key(get: Get, numeric: bool) -> Callable[[Row], Key]:
    return (lambda row: (number(get(row)),)) if numeric else (lambda row: (get(row),))


def _span(order: Order, group: Clauses) -> tuple[int, int, Clauses]:
    """Where in the order a group's matches lie, and the clauses that the bisection did not settle."""
    rest = list(group)
    prefix: Key = ()
    for column, numeric in zip(order.columns, order.numeric, strict=True):
        fit = [clause for clause in rest if _bisects(clause, column, numeric)]
        equal = next((clause for clause in fit if clause[0].operator == "="), None)
        if equal is None:
            low, high = _limits([clause[0] for clause in fit], prefix, numeric)
            return order.place(low), order.place(high), [clause for clause in rest if clause not in fit]
        rest.remove(equal)
        prefix = (*prefix, number(equal[0].value) if numeric else equal[0].value)
    return order.place(prefix), order.place((*prefix, TOP)), rest


def _bisects(clause: tuple[Bound, ...], column: int, numeric: bool) -> bool:
    one = clause[0]
    if len(clause) > 1 or one.column != column or one.operator not in _RANGES:
        return False
    # a blank is no operand to bisect by, and of integers only the canonical spelling equals the stored text
    return str(number(one.value)) == one.value if numeric else one.value != ""


def _limits(ranges: list[Bound], prefix: Key, numeric: bool) -> tuple[Key, Key]:
    """Probes around the rows that begin with ``prefix`` and satisfy all ``ranges`` on the next column."""
    if not ranges:
        return prefix, (*prefix, TOP)
    # a blank satisfies no comparison, so the lower end stands behind the blanks
    lows: list[Key] = [(NO_NUMBER if numeric else "", TOP)]
    highs: list[Key] = []
    for one in ranges:
        value = number(one.value) if numeric else one.value
        probe = (value, TOP) if one.operator in (">", "<=") else (value,)
        (lows if one.operator.startswith(">") else highs).append(probe)
    low = max(lows, key=_probe_order)
    return (*prefix, *low), (*prefix, *min(highs, key=_probe_order)) if highs else (*prefix, TOP)


def _probe_order(probe: Key) -> tuple[object, int]:
    return probe[0], len(probe)


def _any_group(groups: Sequence[Clauses]) -> Test | None:
    """One test for the OR of groups; ``None`` when it holds for every row."""
    tests = [_all_clauses(group) for group in groups]
    if any(test is None for test in tests):
        return None
    whole = [test for test in tests if test is not None]
    return whole[0] if len(whole) == 1 else lambda row: any(test(row) for test in whole)


def _all_clauses(group: Clauses) -> Test | None:
    tests = [_any_of(clause) for clause in group]
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)


def _any_of(clause: tuple[Bound, ...]) -> Test:
    if len(clause) == 1:
        return clause[0].test
    return lambda row: any(bound.test(row) for bound in clause)


def _displayed(desk: Desk, get: Get, target: str) -> Get:
    return lambda row: desk.display(target, get(row)) if get(row) else ""


def _all_ids(value: str) -> bool:
    return all(_SYS_ID.fullmatch(part) for part in value.split(",") if part)


def _in_display(desk: Desk, get: Get, target: str, value: str, *, wanted: bool) -> Test:
    names = frozenset(value.split(","))
    return lambda row: (get(row) in names or desk.display(target, get(row)) in names) is wanted


def _test(get: Get, operator: str, value: str, *, numeric: bool) -> Test:
    """The test of a plain operator. Equality is exact, the LIKE family ignores case."""
    if operator in ("<", "<=", ">", ">="):
        return _comparison(get, operator, value, numeric)
    if operator == "BETWEEN":
        low, _, high = value.partition("@")
        above, below = _comparison(get, ">=", low, numeric), _comparison(get, "<=", high, numeric)
        return lambda row: above(row) and below(row)
    if operator in ("LIKE", "NOT LIKE", "STARTSWITH", "ENDSWITH"):
        return _likeness(get, operator, value.casefold())
    return _membership(get, operator, value)


def _membership(get: Get, operator: str, value: str) -> Test:
    values = frozenset(value.split(","))
    match operator:
        case "=":
            return lambda row: get(row) == value
        case "!=":
            return lambda row: get(row) != value
        case "IN":
            return lambda row: get(row) in values
        case "NOT IN":
            return lambda row: get(row) not in values
        case "ISEMPTY":
            return lambda row: get(row) == ""
        case "ISNOTEMPTY":
            return lambda row: get(row) != ""
        case "INSTANCEOF":
            return lambda row: get(row) == value or (value == "task" and is_task(get(row)))
        case "ANYTHING":
            return lambda row: True
        case _:
            raise UnservedError(operator)


def _likeness(get: Get, operator: str, value: str) -> Test:
    match operator:
        case "LIKE":
            return lambda row: value in get(row).casefold()
        case "NOT LIKE":
            return lambda row: value not in get(row).casefold()
        case "STARTSWITH":
            return lambda row: get(row).casefold().startswith(value)
        case _:
            return lambda row: get(row).casefold().endswith(value)


def _comparison(get: Get, operator: str, value: str, numeric: bool) -> Test:
    if numeric:
        return _numeric_comparison(get, operator, number(value))
    match operator:
        case "<":
            return lambda row: "" != get(row) < value
        case "<=":
            return lambda row: "" != get(row) <= value
        case ">":
            return lambda row: get(row) > value
        case _:
            return lambda row: "" != get(row) >= value


def _numeric_comparison(get: Get, operator: str, value: int) -> Test:
    if value == NO_NUMBER:
        return lambda row: False
    match operator:
        case "<":
            return lambda row: NO_NUMBER < number(get(row)) < value
        case "<=":
            return lambda row: NO_NUMBER < number(get(row)) <= value
        case ">":
            return lambda row: number(get(row)) > value
        case _:
            return lambda row: number(get(row)) >= value


_SCRIPT = re.compile(r"javascript:\s*gs\.(\w+)\(([^)]*)\);?")


def scripted(value: str, desk: Desk) -> str:
    """A condition's value with ``javascript:gs.…`` worked out; day borders are those of the user's time zone."""
    if not value.startswith("javascript:"):
        return value
    match = _SCRIPT.fullmatch(value)
    if match is None:
        raise UnservedError(value)
    name, arguments = match.groups()
    given = [part.strip().strip("'\"") for part in arguments.split(",") if part.strip()]
    if name == "getUserID":
        return desk.account_id
    if name == "dateGenerate" and len(given) == 2:
        local = datetime.strptime(" ".join(given), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        return stamp(local.timestamp() - desk.user_offset)
    return _border(name, int(given[0]) if given else 0, desk)


def _border(name: str, back: int, desk: Desk) -> str:
    """``gs.daysAgoStart(n)`` and its kin."""
    local = datetime.fromtimestamp(int(desk.clock() + desk.user_offset), UTC)
    midnight = local.replace(hour=0, minute=0, second=0)
    second = timedelta(seconds=1)
    starts = {
        "beginningOfToday": midnight,
        "endOfToday": midnight + timedelta(days=1) - second,
        "daysAgoStart": midnight - timedelta(days=back),
        "daysAgoEnd": midnight - timedelta(days=back - 1) - second,
        "hoursAgoStart": local.replace(minute=0, second=0) - timedelta(hours=back),
        "minutesAgoStart": local.replace(second=0) - timedelta(minutes=back),
    }
    if name not in starts:
        raise UnservedError(f"gs.{name}")
    return stamp(starts[name].timestamp() - desk.user_offset)
