"""Owns what people may write: screens, required fields, forms of values, workflow steps; turns a request into events.

Refuses with the vendor's sentences and changes nothing itself: ``Site.record`` applies what is returned.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from connectors.jira.simulator.configuration import Configuration, Field, Screen, Transition, TypeInProject, User
from connectors.jira.simulator.markup import as_wiki, is_document
from connectors.jira.simulator.site import Event, Issue, Site

Json = dict[str, Any]
_NOT_ON_SCREEN = "Field '{}' cannot be set. It is not on the appropriate screen, or unknown."
_NO_DOCUMENT = "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
_TEXT_LIMIT = 32_767


class Refusal(Exception):
    """The vendor's answer to a request that it does not carry out."""

    def __init__(self, status: int, *messages: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(status, *messages)
        self.status = status
        self.body = {"errorMessages": list(messages), "errors": dict(errors or {})}


class _Wrong(Exception):
    """A value that a field does not take; the message is the vendor's."""


class Editing:
    """The writes of one account in one version (``2`` or ``3``) of the interface."""

    def __init__(self, site: Site, version: str, caller: User, now: int) -> None:
        self._site = site
        self._version = version
        self._caller = caller
        self._now = now

    def create(self, body: Json) -> Event:
        fields = dict(_object(body, "fields"))
        use, project = self._place(fields)
        values, errors = self._values(fields, _object(body, "update"), use.create, {})
        for key, required in use.create.items():
            if required and key not in errors and values.get(key) in (None, "", []):
                errors[key] = self._missing(key)
        if errors:
            raise Refusal(400, errors=errors)
        number = self._site.next_id("key " + project)
        return {
            **self._event("create"),
            "issue": self._site.next_id("issue"),
            "key": f"{project}-{number}",
            "values": {**self._defaults(use), **values},
            "properties": _properties(body.get("properties")),
        }

    def edit(self, issue: Issue, body: Json) -> list[Event]:
        """The change and the comment that the request asks for, leaving out what is already so."""
        use = self._use(issue)
        fields = {key: value for key, value in _object(body, "fields").items() if key != "status"}
        events = self._changes(issue, fields, _object(body, "update"), use.edit, "edit", {})
        properties = _properties(body.get("properties"))
        return events + [
            {**self._event("property"), "issue": issue.id, "name": name, "value": value}
            for name, value in properties.items()
        ]

    def transition(self, issue: Issue, body: Json) -> list[Event]:
        transition = self._transition(issue, body)
        fields, update = _object(body, "fields"), _object(body, "update")
        missing = {
            key: self._missing(key)
            for key, required in transition.screen.items()
            if required and fields.get(key) is None and key not in update and issue.values.get(key) is None
        }
        if missing:
            raise Refusal(400, errors=missing)
        if not transition.screen and "comment" in update:
            raise Refusal(400, errors={"comment": _NOT_ON_SCREEN.format("comment")})
        return self._changes(issue, fields, update, transition.screen, "transition", self._moved(issue, transition))

    def comment(self, issue: Issue, body: Json) -> Event:
        text = body.get("body")
        if (
            not text
            or (self._version == "3" and isinstance(text, str))
            or (self._version == "2" and isinstance(text, dict))
        ):
            raise Refusal(400, errors={"comment": "Comment body is not valid!"})
        if self._version == "3" and not is_document(text):
            raise Refusal(400, "INVALID_INPUT")
        if len(as_wiki(text) or "") > _TEXT_LIMIT:
            raise Refusal(400, errors={"comment": _too_long()})
        properties = _properties(body.get("properties"))
        comment = {
            "id": str(self._site.next_id("comment")),
            "author": self._caller.account_id,
            "created": self._now,
            "body": text,
            "internal": (properties.get("sd.public.comment") or {}).get("internal", False),
            "visibility": body.get("visibility"),
        }
        return {**self._event("comment"), "issue": issue.id, "comment": comment}

    def link(self, body: Json) -> list[Event]:
        """The link and, when the request carries one, the comment on the outward issue's other end."""
        wanted = _object(body, "type")
        named = (wanted.get("name"), wanted.get("id"))
        kind = next(
            (each for each in self._site.configuration.link_types if each.name in named or each.id in named), None
        )
        if kind is None:
            raise Refusal(404, f"No issue link type with name '{wanted.get('name') or wanted.get('id')}' found.")
        inward, outward = (self._end(_object(body, side)) for side in ("inwardIssue", "outwardIssue"))
        if inward.id == outward.id:
            raise Refusal(400, "You cannot link an issue to itself.")
        if any(
            {each.inward, each.outward} == {inward.id, outward.id} and each.type == kind.id
            for each in self._site.links(inward)
        ):
            return []
        items = [_link_item(outward.key, kind.outward), _link_item(inward.key, kind.inward)]
        event = {
            **self._event("link"),
            "id": self._site.next_id("link"),
            "type": kind.id,
            "inward": inward.id,
            "outward": outward.id,
            "items": items,
            "history": self._site.next_id("history"),
        }
        comment = body.get("comment")
        return [event, self.comment(inward, comment)] if comment else [event]

    # --- parts

    def _event(self, kind: str) -> Json:
        return {"do": kind, "at": self._now, "by": self._caller.account_id}

    def _end(self, reference: Mapping[str, Any]) -> Issue:
        issue = self._site.issue(str(reference.get("id") or reference.get("key") or ""))
        if issue is None:
            raise Refusal(404, "Issue does not exist or you do not have permission to see it.")
        return issue

    def _use(self, issue: Issue) -> TypeInProject:
        return self._site.configuration.projects[issue.project].types[issue.values["issuetype"]]

    def _place(self, fields: Json) -> tuple[TypeInProject, str]:
        """Project and issue type, taken out of ``fields``."""
        configuration = self._site.configuration
        wanted = _object(fields, "project")
        project = configuration.project(str(wanted.get("id") or wanted.get("key") or ""))
        if project is None:
            raise Refusal(400, errors={"project": "Specify a valid project ID or key"})
        wanted = _object(fields, "issuetype")
        kind = configuration.named("issuetype", str(wanted.get("id") or wanted.get("name") or ""))
        if kind is None or kind.id not in project.types:
            raise Refusal(400, errors={"issuetype": "Specify a valid issue type"})
        del fields["project"], fields["issuetype"]
        return project.types[kind.id], project.key

    def _defaults(self, use: TypeInProject) -> Json:
        priorities = self._site.configuration.priorities
        return {
            "issuetype": use.type.id,
            "status": use.workflow.statuses[0].id,
            "priority": priorities[len(priorities) // 2].id if priorities else None,
            "creator": self._caller.account_id,
            "reporter": self._caller.account_id,
            "labels": [],
            "created": self._now,
            "updated": self._now,
            "statuscategorychangedate": self._now,
        }

    def _missing(self, key: str) -> str:
        if key == "summary":
            return "You must specify a summary of the issue."
        return f"{self._site.configuration.fields[key].name} is required."

    def _transition(self, issue: Issue, body: Json) -> Transition:
        wanted = str(_object(body, "transition").get("id") or "")
        if not wanted:
            raise Refusal(400, "Missing 'transition' identifier")
        for transition in self._use(issue).workflow.transitions:
            if transition.id == wanted and transition.starts_from(issue.values["status"]):
                return transition
        raise Refusal(400, f"Transition id '{wanted}' is not valid for this issue.")

    def _moved(self, issue: Issue, transition: Transition) -> Json:
        """What a step changes by itself."""
        configuration = self._site.configuration
        values: Json = {"status": transition.to.id}
        for key, label in transition.sets.items():
            named = configuration.named(key, label)
            values[key] = named.id if named else label
        if transition.to.category != configuration.statuses[issue.values["status"]].category:
            values["statuscategorychangedate"] = self._now
        if transition.to.category != "Done":
            values["resolution"] = None
        return values

    def _changes(self, issue: Issue, fields: Json, update: Json, screen: Screen, kind: str, also: Json) -> list[Event]:
        operations = {key: value for key, value in update.items() if key != "comment"}
        values, errors = self._values(fields, operations, screen, issue.values)
        for key, required in screen.items():
            if required and key in values and values[key] in (None, "", []):
                errors[key] = self._missing(key)
        if errors:
            raise Refusal(400, errors=errors)
        comments = [self.comment(issue, _object(each, "add")) for each in update.get("comment", [])]
        changed = self._differing(issue, {**also, **values})
        items = change_items(self._site.configuration, issue.values, changed)
        if "resolution" in changed:
            changed["resolutiondate"] = None if changed["resolution"] is None else self._now
        if not items:
            return comments
        event = {**self._event(kind), "issue": issue.id, "history": self._site.next_id("history"), "items": items}
        return [{**event, "values": {**changed, "updated": self._now}}, *comments]

    def _differing(self, issue: Issue, values: Json) -> Json:
        return {key: value for key, value in values.items() if (value or None) != (issue.values.get(key) or None)}

    def _values(
        self, fields: Json, update: Json, screen: Screen, present: Mapping[str, Any]
    ) -> tuple[Json, dict[str, str]]:
        """Stored forms of the fields asked for, and the sentence for each that cannot be."""
        values: Json = {}
        errors: dict[str, str] = {}
        for key in (*fields, *update):
            if key not in screen:
                errors[key] = _NOT_ON_SCREEN.format(key)
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
            "array": _labels,
            "priority": self._choice,
            "resolution": self._choice,
            "user": self._person,
            "option": _option,
            "date": _day,
            "datetime": _stamp,
            "number": _number,
        }
        return readers[field.type](field, given)

    def _text(self, field: Field, given: Any) -> Any:
        if self._version == "3":
            if not isinstance(given, dict):
                raise _Wrong(_NO_DOCUMENT)
            if not is_document(given):
                raise Refusal(400, "INVALID_INPUT")
        elif not isinstance(given, str):
            raise _Wrong("Operation value must be a string")
        if len(as_wiki(given) or "") > _TEXT_LIMIT:
            raise _Wrong(_too_long())
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
    (old_id, old_label), (new_id, new_label) = (_id_and_label(configuration, field, value) for value in (old, new))
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


def _id_and_label(configuration: Configuration, field: Field, value: Any) -> tuple[str | None, str | None]:
    if field.type == "array":
        return "", " ".join(value or ())
    if value is None:
        return None, None
    if field.type == "user":
        return value, configuration.users[value].name
    if field.type in ("status", "priority", "resolution", "issuetype"):
        named = configuration.named(field.type, value)
        return value, named.name if named else None
    if field.type in ("date", "option"):
        return str(value), str(value)
    return None, as_wiki(value) if field.marked_up else str(value)


def _link_item(key: str, phrase: str) -> list[Json]:
    sentence = f"This issue {phrase} {key}"
    return [{"field": "Link", "fieldtype": "jira", "from": None, "fromString": None, "to": key, "toString": sentence}]


def _object(body: Any, key: str) -> Any:
    value = body.get(key) if isinstance(body, dict) else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(400, "Invalid request payload. Refer to the REST API documentation and try again.")
    return value


def _properties(given: Any) -> Json:
    if given is None:
        return {}
    if not isinstance(given, list) or not all(
        isinstance(each, dict) and isinstance(each.get("key"), str) for each in given
    ):
        raise Refusal(400, "Invalid request payload. Refer to the REST API documentation and try again.")
    return {each["key"]: each.get("value") for each in given}


def _too_long() -> str:
    return f"The entered text is too long. It exceeds the allowed limit of {_TEXT_LIMIT:,} characters."


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
    wanted = given.get("value") if isinstance(given, dict) else given
    number = str(given.get("id", "")) if isinstance(given, dict) else ""
    first = int(field.id.removeprefix("customfield_")) * 100
    for position, text in enumerate(field.options):
        if text == wanted or str(first + position) == number:
            return text
    raise _Wrong(f"Option value '{wanted}' is not valid" if wanted else f"Option id '{number}' is not valid")


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


def as_list(value: Any) -> Sequence[str]:
    """A parameter that may be a comma-separated string or a list."""
    if value is None:
        return ()
    parts = value if isinstance(value, list) else [value]
    return [part.strip() for each in parts for part in str(each).split(",") if part.strip()]
