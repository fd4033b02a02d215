"""Which of ServiceNow's columns hold persons or free text, and their replacement before a row is made.

The mapping says it of the columns that it names; what is known of stock columns is added, so that a mapping cannot let
a stock person or text through by mistake. A column that a customer added holds what the mapping says.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from connectors.servicenow.translate import flat
from itsms_sync.records import Border

Replace = Callable[[str], str]

_USER_NAMES = frozenset(("sys_created_by", "sys_updated_by", "user_name"))
_PEOPLE = frozenset(
    (
        "caller_id",
        "assigned_to",
        "requested_for",
        "opened_for",
        "approver",
        "cab_delegate",
        "user",
        "manager",
        "owner",
        "supervisor",
        "coordinator",
        "sponsor",
    )
)
_NOT_BY_A_PERSON = frozenset(("caused_by",))
_LISTS_OF_PEOPLE = frozenset(("watch_list", "work_notes_list", "additional_assignee_list"))
_TEXTS = frozenset(
    (
        "description",
        "comments",
        "workaround",
        "justification",
        "reason",
        "on_hold_reason",
        "user_input",
        "email",
        "delivery_address",
        "special_instructions",
    )
)
_TEXT_ENDINGS = (
    "_plan",
    "_notes",
    "_comments",
    "_description",
    "_recommendation",
    "_history",
    "_analysis",
    "_justification",
)
_CUSTOM = ("u_", "x_")
"""Columns that a customer added; nothing is known of them."""


class Columns:
    """Replaces what must not be stored. ``persons`` and ``texts`` are the columns that the mapping declares so."""

    def __init__(self, border: Border, persons: frozenset[str], texts: frozenset[str]) -> None:
        self._border = border
        self._people = persons
        self._texts = texts

    def replacement(self, column: str) -> Replace | None:
        """How values of the column are replaced; ``None`` if they may be kept."""
        if column in self._texts:
            return self._border.text
        if column in self._people:
            return self._people_list
        *ways, last = column.split(".")
        if any(_is_person(way) for way in ways):
            return self._border.text
        return self._of_stock(last)

    def _of_stock(self, column: str) -> Replace | None:
        if column in _USER_NAMES:
            return self.user_name
        if column in _LISTS_OF_PEOPLE or _is_person(column):
            return self._people_list
        if column in _TEXTS or (column.endswith(_TEXT_ENDINGS) and not column.startswith(_CUSTOM)):
            return self._border.text
        return None

    def user_name(self, value: str) -> str:
        """The pseudonym of a user name; blank stays blank."""
        return self._border.person("user_name", value) if value else ""

    def _people_list(self, value: str) -> str:
        """Pseudonyms of one or several accounts; a list names people without an account by their address."""
        if "," not in value:
            return self._person(value)
        return ",".join(map(self._person, value.split(",")))

    def _person(self, value: str) -> str:
        if "@" in value:
            return self._border.person("email", value.strip().lower())
        return self._border.person("sys_id", value) if value else ""

    def record_body(self, fields: Iterable[str]) -> Callable[[Mapping[str, Any]], dict[str, str | None]]:
        """A function from a record's cells to what may be stored of them."""
        guarded = [(name, change) for name in fields if (change := self.replacement(name)) is not None]

        def body(row: Mapping[str, Any]) -> dict[str, str | None]:
            kept = stripped(row)
            for name, change in guarded:
                value = kept.get(name)
                if value:
                    kept[name] = change(value)
            return kept

        return body

    def audit_body(self, fields: Iterable[str]) -> Callable[[Mapping[str, Any]], dict[str, str | None]]:
        """The same for a row of ``sys_audit``, in which the column that changed decides what its values are."""
        guarded = self._guarded(fields)

        def body(row: Mapping[str, Any]) -> dict[str, str | None]:
            kept = stripped(row)
            user = kept.get("user")
            if user:
                kept["user"] = self.user_name(user)
            change = guarded.get(kept.get("fieldname") or "")
            if change is not None:
                for side in ("oldvalue", "newvalue"):
                    value = kept.get(side)
                    if value:
                        kept[side] = change(value)
            return kept

        return body

    def metric_body(self, fields: Iterable[str]) -> Callable[[Mapping[str, Any]], dict[str, str | None]]:
        """The same for a row of ``metric_instance``."""
        guarded = self._guarded(fields)

        def body(row: Mapping[str, Any]) -> dict[str, str | None]:
            kept = stripped(row)
            change, value = guarded.get(kept.get("field") or ""), kept.get("field_value")
            if change is not None and value:
                kept["field_value"] = change(value)
            return kept

        return body

    def _guarded(self, fields: Iterable[str]) -> dict[str, Replace]:
        """Those of the columns whose values are replaced, and how."""
        return {name: change for name in fields if (change := self.replacement(name)) is not None}

    def journal_body(self, row: Mapping[str, Any]) -> dict[str, str | None]:
        """What may be stored of a row of ``sys_journal_field``."""
        kept = stripped(row)
        author, value = kept.get("sys_created_by"), kept.get("value")
        if author:
            kept["sys_created_by"] = self.user_name(author)
        if value:
            kept["value"] = self._border.text(value)
        return kept

    def deletion_body(self, row: Mapping[str, Any]) -> dict[str, str | None]:
        """What may be stored of a row of ``sys_audit_delete``."""
        kept = stripped(row)
        author = kept.get("sys_created_by")
        if author:
            kept["sys_created_by"] = self.user_name(author)
        return kept


def stripped(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Raw values only: links and display values would carry a person past the border."""
    return dict(flat(row))


def _is_person(column: str) -> bool:
    """Stock references to an account are named after the role or end in ``_by``."""
    return column in _PEOPLE or (
        column.endswith("_by") and column not in _NOT_BY_A_PERSON and not column.startswith(_CUSTOM)
    )
