"""Owns the forms of values that people write: what each type of field takes, and what is stored of it.

Whether a field may be written at all is decided by the screen that ``editing`` hands in.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from connectors.jira.simulator.configuration import Field, Screen
from connectors.jira.simulator.markup import as_wiki, is_document
from connectors.jira.simulator.refusals import Refusal
from connectors.jira.simulator.site import Site

Json = dict[str, Any]
NOT_ON_SCREEN = "Field '{}' cannot be set. It is not on the appropriate screen, or unknown."
TEXT_LIMIT = 32_767
_NO_DOCUMENT = "Operation value must be an Atlassian Document (see the Atlassian Document Format)"


class _Wrong(Exception):
    """A value that a field does not take; the message is the vendor's."""


class Values:
    """Values in one version (``2`` or ``3``) of the interface."""

    def __init__(self, site: Site, version: str) -> None:
        self._site = site
        self._version = version

    def read(
        self, fields: Json, update: Json, screen: Screen, present: Mapping[str, Any]
    ) -> tuple[Json, dict[str, str]]:
        """Stored forms of the fields asked for, and the sentence for each that cannot be."""
        values: Json = {}
        errors: dict[str, str] = {}
        for key in (*fields, *update):
            if key not in screen:
                errors[key] = NOT_ON_SCREEN.format(key)
                continue
            field = self._site.configuration.fields[key]
            try:
                if key in fields:
                    values[key] = self._stored(field, fields[key])
                for operation in update.get(key, []):
                    values[key] = self._operated(field, operation, values.get(key, present.get(key)))
            except _Wrong as wrong:
                errors[key] = str(wrong)
        return values, errors

    def _operated(self, field: Field, operation: Any, present: Any) -> Any:
        if not isinstance(operation, dict) or len(operation) != 1:
            raise _Wrong(f"Field '{field.id}' has an operation that is not an object with one verb.")
        verb, value = next(iter(operation.items()))
        if verb == "set":
            return self._stored(field, value)
        if field.type != "array" or verb not in ("add", "remove"):
            raise _Wrong(f"Field '{field.id}' does not support operation '{verb}'.")
        (item,) = self._stored(field, [value])
        others = [each for each in present or [] if each != item]
        return [*others, item] if verb == "add" else others

    def _stored(self, field: Field, given: Any) -> Any:
        if given is None:
            return None
        readers: Mapping[str, Callable[[Field, Any], Any]] = {
            "string": _line,
            "text": self._text,
            "array": self._several,
            "issuelink": self._parent,
            "priority": self._choice,
            "resolution": self._choice,
            "user": self._person,
            "option": _option,
            "date": _day,
            "datetime": _stamp,
            "number": _number,
        }
        if field.type not in readers:
            raise _Wrong(NOT_ON_SCREEN.format(field.id))
        return readers[field.type](field, given)

    def _several(self, field: Field, given: Any) -> list[str]:
        readers: Mapping[str, Callable[[Field, Any], str | None]] = {"option": _option, "user": self._person}
        read = readers.get(field.items or "")
        if read is None:
            return _labels(field, given)
        if not isinstance(given, list):
            raise _Wrong("data was not an array")
        return [each for each in dict.fromkeys(read(field, each) for each in given) if each]

    def _parent(self, field: Field, given: Any) -> int:
        wanted = given if isinstance(given, dict) else {}
        issue = self._site.issue(str(wanted.get("id") or wanted.get("key") or ""))
        if issue is None or issue.values.get("parent"):
            raise _Wrong("Could not find issue by id or key.")
        return issue.id

    def _text(self, field: Field, given: Any) -> Any:
        if self._version == "3":
            if not isinstance(given, dict):
                raise _Wrong(_NO_DOCUMENT)
            if not is_document(given):
                raise Refusal(400, "INVALID_INPUT")
        elif not isinstance(given, str):
            raise _Wrong("Operation value must be a string")
        if len(as_wiki(given) or "") > TEXT_LIMIT:
            raise _Wrong(too_long())
        return given or None

    def _choice(self, field: Field, given: Any) -> str:
        wanted = given if isinstance(given, dict) else {}
        form = "id" if "id" in wanted else "name"
        named = self._site.configuration.named(field.type, str(wanted.get(form, "")))
        if named is None:
            raise _Wrong(f"{field.name} {form} '{wanted.get(form)}' is not valid")
        return named.id

    def _person(self, field: Field, given: Any) -> str | None:
        wanted = given if isinstance(given, dict) else {}
        account = wanted.get("accountId", wanted.get("id"))
        if account is None:
            return None
        user = self._site.configuration.users.get(account)
        if user is None or not user.active:
            raise _Wrong(
                f"User '{account}' cannot be assigned issues."
                if field.id == "assignee"
                else f"The {field.id} specified is not a user."
            )
        return user.account_id


def too_long() -> str:
    return f"The entered text is too long. It exceeds the allowed limit of {TEXT_LIMIT:,} characters."


def _line(field: Field, given: Any) -> str:
    if not isinstance(given, str):
        raise _Wrong("Operation value must be a string")
    if "\n" in given or "\r" in given:
        raise _Wrong(f"The {field.id} is invalid because it contains newline characters.")
    if len(given) > 255:
        raise _Wrong(f"{field.name} must be less than 255 characters.")
    return given.strip()


def _labels(field: Field, given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(label, str) for label in given):
        raise _Wrong("data was not an array" if not isinstance(given, list) else "string expected at index 0")
    return list(dict.fromkeys(map(_label, given)))


def _label(label: str) -> str:
    if any(character.isspace() for character in label) or not label:
        raise _Wrong(f"The label '{label}' contains spaces which is invalid.")
    if len(label) > 255:
        raise _Wrong(f"The label '{label}' exceeds the maximum length of 255 characters.")
    return label


def _option(field: Field, given: Any) -> str:
    wanted = given if isinstance(given, dict) else {"value": given}
    for form in ("value", "id"):
        text = str(wanted.get(form) or "")
        for option in field.options:
            if text == (option.name if form == "value" else option.id):
                return option.id
    if wanted.get("value"):
        raise _Wrong(f"Option value '{wanted['value']}' is not valid")
    raise _Wrong(f"Option id '{wanted.get('id', '')}' is not valid")


def _day(field: Field, given: Any) -> str:
    try:
        return date.fromisoformat(given).isoformat()
    except (TypeError, ValueError):
        raise _Wrong("Error parsing date string: " + str(given)) from None


def _stamp(field: Field, given: Any) -> int:
    try:
        return round(datetime.strptime(given, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp() * 1000)
    except (TypeError, ValueError):
        raise _Wrong("Error parsing date string: " + str(given)) from None


def _number(field: Field, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise _Wrong("Operation value must be a number")
    return given
