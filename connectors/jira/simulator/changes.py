"""Owns the items of a history: how a change of a field, a link, a key or a project is told. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from connectors.jira.simulator.configuration import Configuration, Field, LinkType
from connectors.jira.simulator.markup import as_wiki

Json = dict[str, Any]


def change_items(configuration: Configuration, before: Mapping[str, Any], changed: Mapping[str, Any]) -> list[Json]:
    """History items for changed values: ids in ``from`` and ``to``, labels of that time in the strings."""
    items = []
    for key, value in changed.items():
        field = configuration.fields[key]
        if field.type == "datetime" and not field.custom:
            continue
        items.append(_change_item(configuration, field, before.get(key), value))
    return items


def _change_item(configuration: Configuration, field: Field, old: Any, new: Any) -> Json:
    (old_id, old_label), (new_id, new_label) = (id_and_label(configuration, field, value) for value in (old, new))
    item: Json = {
        "field": field.name if field.custom else field.id,
        "fieldtype": "custom" if field.custom else "jira",
        "fieldId": field.id,
        "from": old_id,
        "fromString": old_label,
        "to": new_id,
        "toString": new_label,
    }
    return {**item, "tmpFromAccountId": old_id, "tmpToAccountId": new_id} if field.type == "user" else item


def id_and_label(configuration: Configuration, field: Field, value: Any) -> tuple[str | None, str | None]:
    """How a history item writes a stored value: id and label."""
    if field.type == "array":
        return _ids_and_labels(configuration, field, value or ())
    if value is None:
        return None, None
    if field.type == "user":
        return value, configuration.users[value].name
    if field.type in ("status", "priority", "resolution", "issuetype"):
        named = configuration.named(field.type, value)
        return value, named.name if named else None
    if field.type == "option":
        option = field.option(value)
        return value, option.name if option else None
    if field.type == "date":
        return str(value), str(value)
    if field.type == "datetime":
        at = datetime.fromtimestamp(value / 1000, UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S+0000}", f"{at:%d/%b/%y %I:%M %p}"
    if field.type == "number":
        return None, f"{value:g}"
    return None, as_wiki(value) if field.marked_up else str(value)


def _ids_and_labels(configuration: Configuration, field: Field, values: Sequence[str]) -> tuple[str, str]:
    """Of several values: ids in brackets, which labels have none of."""
    if field.items == "string":
        return "", " ".join(values)
    if field.items == "user":
        labels = [configuration.users[each].name for each in values]
    else:
        labels = [option.name for each in values if (option := field.option(each))]
    return f"[{', '.join(values)}]" if values else "", ",".join(labels)


def named_item(field: str, field_id: str, old: Any, new: Any) -> Json:
    """A change from one thing with id and name to another."""
    item = {"field": field, "fieldtype": "jira", "fieldId": field_id}
    return {**item, "from": old.id, "fromString": old.name, "to": new.id, "toString": new.name}


def text_item(field: str, old: str | None, new: str | None) -> Json:
    return {"field": field, "fieldtype": "jira", "from": None, "fromString": old, "to": None, "toString": new}


def link_item(kind: LinkType, outward: bool, old: str | None, new: str | None) -> Json:
    """A link that an issue loses or gets: keys of the other issue in ``from`` and ``to``, sentences beside them."""
    phrase = kind.outward if outward else kind.inward
    before, after = (None if key is None else f"This issue {phrase} {key}" for key in (old, new))
    return {**text_item("Link", before, after), "from": old, "to": new}
