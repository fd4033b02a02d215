"""Rows and their sorted orders.

Owns storage: a row is a list of strings aligned to the table's columns, and an order is kept sorted so that a page is
found by bisection. Knows nothing of access rules, of history or of HTTP. Callers hold the desk's lock.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from connectors.servicenow.simulator.dictionary import default_of, type_of

Row = list[str]
Key = tuple[Any, ...]


class _Top:
    """Sorts after everything: ``(value, TOP)`` is where the rows that begin with ``value`` end."""

    def __gt__(self, other: object) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return False


TOP = _Top()
NO_NUMBER = -(1 << 62)
"""Where a blank sorts among integers: first, as NULL does."""


def number(text: str) -> int:
    """The integer in ``text``; :data:`NO_NUMBER` for a blank or anything else."""
    try:
        return int(text)
    except ValueError:
        return NO_NUMBER


class Order:
    """All rows of a table, ascending by the given columns, ``sys_id`` last."""

    def __init__(self, rows: Iterable[Row], columns: tuple[int, ...], numeric: tuple[bool, ...]) -> None:
        self.columns = columns
        self.numeric = numeric
        self.key = _key(columns, numeric)
        self.rows = sorted(rows, key=self.key)

    def place(self, probe: Key) -> int:
        """Position of the first row whose key is not below ``probe``; a shorter probe stands before its rows."""
        return bisect_left(self.rows, probe, key=self.key)

    def add(self, row: Row) -> None:
        self.rows.insert(self.place(self.key(row)), row)

    def drop(self, row: Row) -> None:
        del self.rows[self.place(self.key(row))]


def _key(columns: tuple[int, ...], numeric: tuple[bool, ...]) -> Callable[[Row], Key]:
    if len(columns) == 1:
        (column,) = columns
        return lambda row: (row[column],)
    if not any(numeric):
        return itemgetter(*columns)
    parts = tuple(zip(columns, numeric, strict=True))
    return lambda row: tuple(number(row[column]) if is_number else row[column] for column, is_number in parts)


class Table:
    """One table. ``rows`` maps ``sys_id`` to the row, in the order of insertion."""

    def __init__(self, name: str, columns: Iterable[str]) -> None:
        self.name = name
        self.columns = list(columns)
        self.index = {column: place for place, column in enumerate(self.columns)}
        self._defaults = [default_of(name, column) for column in self.columns]
        self.rows: dict[str, Row] = {}
        self.saves = 0
        self._id = self.index["sys_id"]
        self._orders: dict[tuple[int, ...], Order] = {}

    def extend(self, columns: Iterable[str]) -> None:
        """Make sure of ``columns``; rows that exist get their defaults."""
        for column in columns:
            if column not in self.index:
                self.index[column] = len(self.columns)
                self.columns.append(column)
                self._defaults.append(default_of(self.name, column))
                for row in self.rows.values():
                    row.append(self._defaults[-1])

    def row(self, values: Mapping[str, str]) -> Row:
        """A row that holds ``values`` and defaults; not stored."""
        return list(map(values.get, self.columns, self._defaults))

    def insert(self, row: Row) -> None:
        self.rows[row[self._id]] = row
        self.saves += 1
        for order in self._orders.values():
            order.add(row)

    def load(self, rows: Iterable[Row]) -> None:
        """Store many rows at once; orders are made when they are first asked for."""
        place = self._id
        self.rows.update({row[place]: row for row in rows})
        self.saves += 1
        self._orders.clear()

    def change(self, row: Row, values: Mapping[str, str]) -> None:
        """Overwrite some columns of a stored row and keep every order right."""
        places = {self.index[column]: value for column, value in values.items()}
        touched = [order for order in self._orders.values() if not places.keys().isdisjoint(order.columns)]
        for order in touched:
            order.drop(row)
        for place, value in places.items():
            row[place] = value
        self.saves += 1
        for order in touched:
            order.add(row)

    def remove(self, row: Row) -> None:
        for order in self._orders.values():
            order.drop(row)
        self.saves += 1
        del self.rows[row[self._id]]

    def order(self, columns: tuple[int, ...]) -> Order:
        """The sorted order by ``columns``, made once and kept from then on."""
        if self._id not in columns:
            columns = (*columns, self._id)
        found = self._orders.get(columns)
        if found is None:
            numeric = tuple(type_of(self.name, self.columns[column]) == "integer" for column in columns)
            found = self._orders[columns] = Order(self.rows.values(), columns, numeric)
        return found

    def get(self, row: Row, column: str) -> str:
        """Value of ``column``; the empty string where this table has no such column."""
        place = self.index.get(column)
        return "" if place is None else row[place]
