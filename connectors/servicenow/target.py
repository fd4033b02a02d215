"""The table that our tickets are opened in: whether it can hold them, and why it did not take something over.

ServiceNow answers a write of an unknown column, a read-only one, an invalid choice or a dangling reference with
success and drops the value. So the table is looked at before the first write, and what a read-back misses is explained
column by column as far as the account may see a reason. Owns what the table is; leaves what is written to ``tickets``.

States are found by their labels, in ``sys_choice`` or on the table's own rows, because their numbers differ by table.
"""

from collections.abc import Mapping
from typing import Any

from connectors.servicenow.columns import stripped
from connectors.servicenow.options import Options
from connectors.servicenow.questions import Question
from connectors.servicenow.translate import plain, shown, whole
from connectors.servicenow.transport import Denied, Tables
from itsms_sync.connector import Refused, SourceError
from itsms_sync.records import Gap

_NEEDED = ("short_description", "description", "state", "active")
"""What a ticket is made of besides its key: every table that extends task has these columns."""
_SAMPLE = 20
"""Rows that show which columns there are; a rule may hide a column in some of them."""
_PAGE = 1000
"""Rows that are looked through for labels; a table has far fewer choices and columns."""


class Target:
    """One table that takes tickets."""

    def __init__(self, tables: Tables, options: Options) -> None:
        self.name = options.table
        self._language = options.language
        self._tables = tables
        self._checked = False
        self._columns: Mapping[str, Mapping[str, str | None]] | None = None

    def check(self) -> None:
        """Raises ``Refused`` where a ticket could not be held, or not be found again by its key.

        Asked anew until the table has shown a row: an empty one proves nothing.
        """
        if self._checked:
            return
        asked = ("sys_id", "correlation_id", *_NEEDED)
        rows = self._tables.ask(Question(self.name, "ORDERBYsys_id", asked, _SAMPLE)).rows
        seen = {name for row in rows for name in row}
        if rows and "correlation_id" not in seen:
            raise Refused(
                f"{self.name}.correlation_id cannot be read, so our tickets cannot be found: let the account read it"
            )
        unknown = [name for name in _NEEDED if rows and name not in seen and self._is_unknown(name)]
        if unknown:
            raise Refused(f"{self.name} has no column {', '.join(unknown)}: name a table that extends task")
        if self._is_read_only("correlation_id"):
            raise Refused(f"{self.name}.correlation_id is read-only, so our tickets could not carry their key")
        self._checked = bool(rows)

    def check_shown(self) -> None:
        """Raises ``Refused`` where nothing was found because nothing is shown any more."""
        if self._checked and not self._tables.shows(self.name):
            raise Refused(
                f"{self.name} shows no row any more, so it cannot be seen whether a ticket is there: give the account "
                "back its role to read the table; if every row was deleted, put one there by hand"
            )
        if self._checked and not self._tables.shows(self.name, "correlation_id"):
            raise Refused(f"{self.name}: no row is found by correlation_id: let the account read that field")

    def state(self, wanted: str) -> str | Gap:
        """Raw value of the state with this label or value, or why it cannot be known."""
        known = self._choices("state")
        if wanted in known:
            return wanted
        fitting = _labelled(known, wanted) or _labelled(self._states_in_use(), wanted)
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise Refused(f"{self.name} has several states called {wanted!r}; name one by its value: {fitting}")
        if known:
            told = ", ".join(f"{label} ({value})" for value, label in known.items())
            raise Refused(f"{self.name} has no state {wanted!r}; it has {told}")
        message = (
            f"no ticket in {self.name} shows a state {wanted!r} and sys_choice tells the account nothing: let it read "
            "sys_choice, or change the state by hand"
        )
        return Gap(self.name, "not-served", message)

    def _states_in_use(self) -> Mapping[str, str]:
        """The labels that the newest rows show, in the account's own language."""
        order = "ORDERBYDESCsys_updated_on^ORDERBYsys_id"
        rows = self._tables.ask(Question(self.name, order, ("sys_id", "state"), _PAGE, labelled=True)).rows
        return {plain(row.get("state")) or "": shown(row.get("state")) or "" for row in rows}

    def loss(self, column: str, sent: str, stored: str | None) -> str:
        """Why the column does not hold what was sent and what to do; blank if it does. Never shows what it holds."""
        if stored is None:
            return f"{column} cannot be read back: {self._why_unreadable(column)}"
        if squeezed(stored) == squeezed(sent):
            return ""
        return f"{column} was not taken over as it was sent: {self._why_other(column, sent, stored)}"

    def _why_unreadable(self, column: str) -> str:
        if self._is_unknown(column):
            return f"{self.name} has no such column or never shows it; correct the options"
        return "let the account read it"

    def _why_other(self, column: str, sent: str, stored: str) -> str:
        place = f"{self.name}.{column}"
        if stored and squeezed(sent).startswith(squeezed(stored)):
            length = (self._dictionary().get(column) or {}).get("max_length")
            limit = f"{length} characters" if whole(length) else "fewer characters than were sent"
            return f"it was cut, {place} holds {limit}"
        if self._is_read_only(column):
            return f"{place} is read-only; let the account write it or do it by hand"
        choices = self._choices(column)
        if choices and sent not in choices:
            return f"{sent!r} is no choice of {place}; it has {', '.join(sorted(choices))}"
        if column == "state":
            return f"the states of {self.name} are not set by everybody or not through the API; do it by hand"
        if stored:
            return f"a default, a data policy or a business rule of {self.name} wrote something else; ask its owner"
        return (
            f"a read-only rule, an access rule for {place}, an invalid value or a business rule dropped it; ask the "
            "administrator of the instance"
        )

    def _is_unknown(self, column: str) -> bool:
        """Whether a column that a row does not show is none of the table's."""
        try:
            return self._tables.why_missing(self.name, column) == "field-not-served"
        except SourceError:
            return False

    def _is_read_only(self, column: str) -> bool:
        return (self._dictionary().get(column) or {}).get("read_only") == "true"

    def _dictionary(self) -> Mapping[str, Mapping[str, str | None]]:
        """What few accounts may read of the table's columns; nothing for the others."""
        if self._columns is None:
            fields = ("sys_id", "name", "element", "read_only", "max_length")
            rows = self._described("sys_dictionary", f"nameIN{self.name},task", fields)
            self._columns = {row["element"] or "": row for row in rows}
        return self._columns

    def _choices(self, column: str) -> Mapping[str, str]:
        """Raw value -> label of a choice column as far as the account may know; those of the table hide task's."""
        fields = ("sys_id", "name", "element", "value", "label", "language", "inactive")
        condition = f"nameIN{self.name},task^element={column}^language={self._language}"
        rows = [
            row
            for row in self._described("sys_choice", condition, fields)
            if row["element"] == column and row.get("language") == self._language and row.get("inactive") != "true"
        ]
        own = [row for row in rows if row["name"] == self.name] or rows
        return {row["value"] or "": row.get("label") or "" for row in own if row.get("value")}

    def _described(self, table: str, condition: str, fields: tuple[str, ...]) -> list[dict[str, str | None]]:
        """Rows of a table that describes tables, ``task``'s first. Empty if the account may not read it or its
        condition was ignored.
        """
        try:
            answer = self._tables.ask(Question(table, f"{condition}^ORDERBYsys_id", fields, _PAGE))
        except Denied:
            return []
        rows = [stripped(row) for row in answer.rows]
        if any(row.get("name") not in (self.name, "task") or not row.get("element") for row in rows):
            return []
        return sorted(rows, key=lambda row: row["name"] == self.name)


def _labelled(states: Mapping[str, Any], label: str) -> list[str]:
    return [value for value, text in states.items() if text.casefold() == label.casefold()]


def squeezed(text: str | None) -> str:
    """Line ends and outer blanks are changed by ServiceNow on the way."""
    return " ".join((text or "").split())
