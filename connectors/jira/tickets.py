"""Jira as the place where corrective-action tickets are kept.

Owns what a write means in Jira: screens, priorities, labels, the property with our key, links, transitions, and the
comparison of what was asked with what is there afterwards. Leaves requests to ``transport`` and forms to ``translate``
and ``texts``.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.jira.options import Options
from connectors.jira.ours import created_by_us
from connectors.jira.texts import Text, markup, readable, summary
from connectors.jira.translate import PROPERTY, TICKET_FIELDS, browse_url, is_gateway, key_label, property_value, ticket
from connectors.jira.transport import Denied, Edition, Site
from itsms_sync.connector import Access, Refused, SourceError
from itsms_sync.http import Stopped
from itsms_sync.records import Action, Gap, Gone, Millis, Ticket, Write, Written

Json = Mapping[str, Any]
Screen = Mapping[str, Json]
"""Id of each field of a screen -> what Jira says about it."""

_READ = ",".join((*TICKET_FIELDS, "description", "priority", "assignee", "issuelinks"))
_INTERNAL = {"key": "sd.public.comment", "value": {"internal": True}}
_MOST_PROPERTY = 32_768
_COMMENTS = 100
"""Comments of one answer."""
_NO_PROJECT = Gap("tickets", "not-served", "this source keeps no tickets: name a project in its option project")


@dataclass(frozen=True, slots=True)
class _Issue:
    """A ticket with what is only looked at here."""

    ticket: Ticket
    status: Json
    project: Json
    priority: str | None
    assignees: frozenset[str | None]
    """The identifiers of the one who is assigned."""
    linked: frozenset[str]
    """Ids of the issues it is linked with."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a write would set, and one sentence for each thing it cannot set."""

    fields: Mapping[str, Any]
    dropped: tuple[str, ...] = ()


class Tickets:
    """A project of Jira as one account sees it. Its create screen is read once, and anew after a create was refused."""

    def __init__(self, access: Access, options: Options, site: Site) -> None:
        self._access = access
        self._options = options
        self._site = site
        self._screen: Screen | None = None
        self._type_id = ""
        self._people_url = "" if is_gateway(access.url) else access.url

    def find(self, key: str) -> Sequence[Ticket] | Gap:
        """By label, which search knows, and then by the property, which is exact and which copies of an issue lack."""
        if self._options.project is None:
            return _NO_PROJECT
        home = self._home()
        found = self._site.search(
            f'project = "{self._options.project}" AND labels = "{key_label(key)}" ORDER BY created ASC',
            TICKET_FIELDS,
            [PROPERTY],
            lambda issue: ticket(issue, home),
        )
        return sorted((one for one in found if one.key == key), key=lambda one: (one.created or 0, int(one.id)))

    def ticket(self, id: str) -> Ticket | Gone | Gap:
        """By its id, wherever it is now. Jira answers alike for what was deleted and what the account may not see."""
        self._home()
        try:
            return self._issue(id).ticket
        except Denied as denial:
            if denial.status != 404:
                raise
            self._site.confirm()
            return Gone("unseen", "Jira no longer shows it: it was deleted, or moved where the account may not browse")

    def ours(self, since: Millis | None) -> Iterator[Ticket] | Gap:
        """All that the account created on the whole site and that carries our key or a label of ours."""
        if self._options.project is None:
            return _NO_PROJECT
        return created_by_us(self._site, self._home(), since)

    def commented(self, id: str, mark: str) -> bool | Gap:
        """Looks through all comments, newest first; they are read from the database and not from the index."""
        comments = self._site.listed(f"issue/{id}/comment", "comments", orderBy="-created", maxResults=_COMMENTS)
        return any(mark in readable(comment.get("body")) for comment in comments)

    def write(self, write: Write) -> Written | Gap:
        """Perform one write once and read the ticket back by its id."""
        if self._options.project is None:
            return _NO_PROJECT
        if write.action is not Action.CREATE and not write.ticket:
            raise Refused(f"{self._access.name}: {write.action} needs the id of a ticket")
        self._home()  # later it could fail a write that Jira has acknowledged
        perform = {
            Action.CREATE: self._create,
            Action.COMMENT: self._comment,
            Action.AMEND: self._amend,
            Action.LINK: self._link,
            Action.TRANSITION: self._transition,
        }[write.action]
        try:
            return perform(write)
        except Refused:
            self._site.confirm()  # what a stranger is shown of screens and steps is no reason
            raise

    def _create(self, write: Write) -> Written:
        screen = self._create_screen()
        if "labels" not in screen:
            raise Refused(
                f"{self._access.name}: labels are not on the create screen of {self._place}, and without them a ticket "
                "cannot be found again; add the field Labels to that screen"
            )
        draft = self._draft(write, screen, self._options.fields, f"the create screen of {self._place}")
        self._check_required(draft, screen)
        labels = tuple(dict.fromkeys((key_label(write.key), *self._options.labels, *write.labels)))
        place = {"project": {"key": self._options.project}, "issuetype": {"id": self._type_id}}
        body = {"fields": {**place, **draft.fields, "labels": labels}, "properties": [self._property(write)]}
        try:
            id, label = self._site.post("issue", body, lambda made: (str(made["id"]), str(made["key"])))
        except Denied:
            self._screen = None  # it may have been changed since it was read
            raise
        made = self._written(id, label, draft.dropped, lambda now: _differences(now, draft.fields, labels, write))
        return replace(made, unassigned=write.assignee is not None and "assignee" not in draft.fields)

    def _comment(self, write: Write) -> Written:
        before = self._issue(write.ticket or "")
        # where Jira does not say what it is, nothing may reach customers either
        internal = before.project.get("projectTypeKey", "service_desk") == "service_desk"
        text = markup(write.body)
        body = {"body": text.text, **({"properties": [_INTERNAL]} if internal else {})}
        id, public = self._site.post(
            f"issue/{before.ticket.id}/comment", body, lambda made: (str(made["id"]), made.get("jsdPublic"))
        )
        exposed = self._exposed(id, public) if internal else ()
        return self._written(before.ticket.id, before.ticket.label, (*exposed, *_cut("comment", text)), lambda _: ())

    def _exposed(self, comment: str, public: bool | None) -> Sequence[str]:
        """Whether customers can read what should be internal. Data Center tells it by the comment's property only."""
        if public is None:
            try:
                path = f"comment/{comment}/properties/{_INTERNAL['key']}"
                public = not self._site.get(path, lambda body: body["value"]["internal"])
            except (SourceError, Stopped):
                return ("it could not be read back whether the comment is internal: see that customers cannot read it",)
        return ("the comment is not internal: customers can read it",) if public else ()

    def _amend(self, write: Write) -> Written:
        before = self._issue(write.ticket or "").ticket
        screen: Screen = self._site.get(f"issue/{before.id}/editmeta", lambda body: dict(body["fields"]))
        draft = self._draft(write, screen, {}, f"the edit screen of {before.label}")
        labels = write.labels if "labels" in screen else ()
        dropped = draft.dropped + (("the labels are not on the edit screen",) if write.labels and not labels else ())
        body: dict[str, Any] = {
            "fields": draft.fields,
            "update": {"labels": [{"add": label} for label in labels]} if labels else {},
            "properties": [] if write.properties is None else [self._property(write)],
        }
        wanted = {part: content for part, content in body.items() if content}
        if wanted:
            self._site.put(f"issue/{before.id}", wanted)
        return self._written(
            before.id, before.label, dropped, lambda now: _differences(now, draft.fields, labels, write)
        )

    def _link(self, write: Write) -> Written:
        before, other = self._issue(write.ticket or "").ticket, write.link_to or ""
        body = {
            "type": {"name": self._options.link_type},
            "inwardIssue": {"id": before.id},
            "outwardIssue": {"id": other},
        }
        self._site.post("issueLink", body, lambda _: None)
        missing = f"the link to {other} is not there"
        return self._written(before.id, before.label, (), lambda now: () if other in now.linked else (missing,))

    def _transition(self, write: Write) -> Written:
        before, wanted = self._issue(write.ticket or ""), write.to_state or ""
        id, label = before.ticket.id, before.ticket.label
        if _is_called(before.status, wanted):
            return self._written(id, label, (), lambda _: ())
        step = self._step(before, wanted)
        body = {"transition": {"id": step["id"]}, "fields": self._step_fields(step, label)}
        self._site.post(f"issue/{id}/transitions", body, lambda _: None)
        reached = step["to"]
        return self._written(id, label, (), lambda now: _not_reached(now.status, reached))

    # --- what is asked of Jira before a write

    def _home(self) -> str:
        """The address of the site for people."""
        self._people_url = self._people_url or self._site.get("serverInfo", lambda body: str(body["baseUrl"]))
        return self._people_url

    @property
    def _place(self) -> str:
        return f"{self._options.issue_type} in {self._options.project}"

    def _create_screen(self) -> Screen:
        if self._screen is None:
            types = f"issue/createmeta/{self._options.project}/issuetypes"
            self._type_id = self._named_type(self._site.listed(types, "issueTypes"))
            fields = self._site.listed(f"{types}/{self._type_id}", "fields")
            self._screen = {str(field.get("fieldId") or field.get("key")): field for field in fields}
        return self._screen

    def _named_type(self, types: Sequence[Json]) -> str:
        wanted = self._options.issue_type
        for one in types:
            if _is_called(one, wanted):
                return str(one["id"])
        names = ", ".join(str(one.get("name")) for one in types) or "none that this account may create"
        raise Refused(
            f"{self._access.name}: project {self._options.project} has no issue type {wanted!r}; it has {names}; "
            "correct the option issue_type or give the account the permission Create Issues"
        )

    def _draft(self, write: Write, screen: Screen, more: Json, where: str) -> _Draft:
        """The fields that the write names, as far as they are on the screen."""
        wanted: dict[str, Any] = dict(more)
        dropped: list[str] = []
        if write.summary is not None:
            wanted["summary"] = self._fitted("summary", summary(write.summary), dropped)
        if write.body:
            wanted["description"] = self._fitted("description", markup(write.body), dropped)
        if write.severity is not None and (priority := self._priority(write.severity, screen, dropped)):
            wanted["priority"] = {"name": priority}
        if write.assignee is not None and self._is_assignable(write.assignee, dropped):
            wanted["assignee"] = {self._person_key: write.assignee}
        dropped += [f"the field {field} is not on {where}: add it there" for field in wanted if field not in screen]
        return _Draft({field: value for field, value in wanted.items() if field in screen}, tuple(dropped))

    def _fitted(self, field: str, text: Text, dropped: list[str]) -> str:
        dropped += _cut(field, text)
        return text.text

    def _priority(self, severity: str, screen: Screen, dropped: list[str]) -> str | None:
        name = self._options.severity_priority.get(severity)
        allowed = [value.get("name") for value in screen.get("priority", {}).get("allowedValues") or ()]
        if name is None:
            dropped.append(f"the severity {severity} has no priority: name one in the option severity_priority")
        elif allowed and name not in allowed:
            dropped.append(f"there is no priority {name}, only {', '.join(map(str, allowed))}: see severity_priority")
            return None
        return name

    @property
    def _person_key(self) -> str:
        return "accountId" if self._site.edition is Edition.CLOUD else "name"

    def _is_assignable(self, account: str, dropped: list[str]) -> bool:
        query = {"accountId" if self._site.edition is Edition.CLOUD else "username": account}
        people = self._site.get("user/assignable/search", list, project=str(self._options.project), **query)
        found = any(person.get(self._person_key) == account for person in people)
        if not found:
            dropped.append("nobody is assigned: the account wanted does not exist or has no right to be assigned")
        return found

    def _check_required(self, draft: _Draft, screen: Screen) -> None:
        given = {*draft.fields, "project", "issuetype", "labels"}
        missing = [
            f"{field} ({meta.get('name')})" for field, meta in screen.items() if _is_required(meta, field, given)
        ]
        if missing:
            raise Refused(
                f"{self._access.name}: {self._place} requires {', '.join(missing)}; "
                "give each a value in the option fields of this source, or make it optional in Jira"
            )

    def _property(self, write: Write) -> dict[str, Any]:
        value = property_value(write.key, write.properties)
        if len(json.dumps(value)) > _MOST_PROPERTY:
            raise Refused(
                f"{self._access.name}: the facts of {write.key} are larger than Jira's {_MOST_PROPERTY} signs"
            )
        return {"key": PROPERTY, "value": value}

    def _step(self, before: _Issue, wanted: str) -> Json:
        """The transition from the present status that leads to the wanted state, or that has this id."""
        path = f"issue/{before.ticket.id}/transitions"
        steps: list[Json] = self._site.get(
            path, lambda body: [_checked_step(step) for step in body["transitions"]], expand="transitions.fields"
        )
        leading = [step for step in steps if _is_called(step["to"], wanted)]
        leading = leading or [step for step in steps if step["id"] == wanted]
        if leading:
            return min(leading, key=lambda step: len(_requirements(step)))
        names = ", ".join(str(step["to"]["name"]) for step in steps) or "nowhere"
        raise Refused(
            f"{self._access.name}: {before.ticket.label} cannot go from {before.ticket.state} to {wanted}, "
            f"only to {names}; correct the wanted state or the workflow, and see that the account may transition issues"
        )

    def _step_fields(self, step: Json, label: str) -> dict[str, Any]:
        asked = _requirements(step)
        fields = {name: self._options.fields[name] for name in asked if name in self._options.fields}
        missing = {name: meta for name, meta in asked.items() if name not in fields}
        if missing.keys() == {"resolution"}:
            allowed = [value.get("name") for value in missing["resolution"].get("allowedValues") or ()]
            if not allowed or self._options.resolution in allowed:
                return {**fields, "resolution": {"name": self._options.resolution}}
        if missing:
            names = ", ".join(f"{name} ({meta.get('name')})" for name, meta in missing.items())
            raise Refused(
                f"{self._access.name}: the step {step.get('name')} of {label} requires {names}; "
                "set the options resolution and fields of this source, or make it optional in Jira"
            )
        return fields

    # --- what is there afterwards

    def _issue(self, reference: str) -> _Issue:
        return self._site.get(
            f"issue/{reference}", lambda body: _read(body, self._people_url), fields=_READ, properties=PROPERTY
        )

    def _written(
        self, id: str, label: str, dropped: Iterable[str], compare: Callable[[_Issue], Iterable[str]]
    ) -> Written:
        """The outcome. A write that was acknowledged stays so, whatever happens while it is read back."""
        written = Written(id, label, browse_url(self._people_url, label), None, tuple(dropped))
        try:
            now = self._issue(id)
        except (SourceError, Stopped) as error:  # the order to stop is not lost: it stays in Stop.requested
            reason = str(error) or "we were asked to stop"
            return replace(written, dropped=(*written.dropped, f"could not be read back: {reason}"))
        return replace(written, ticket=now.ticket, dropped=(*written.dropped, *compare(now)))


def _cut(what: str, text: Text) -> list[str]:
    return [f"the {what} was longer than Jira allows and was cut"] if text.cut else []


def _is_called(thing: Json, wanted: str) -> bool:
    return wanted == str(thing["id"]) or wanted.casefold() == str(thing["name"]).casefold()


def _is_required(meta: Json, field: str, given: Iterable[str]) -> bool:
    return bool(meta.get("required")) and not meta.get("hasDefaultValue") and field not in given


def _checked_step(step: Json) -> Json:
    return {**step, "id": str(step["id"]), "to": {"id": str(step["to"]["id"]), "name": str(step["to"]["name"])}}


def _requirements(step: Json) -> dict[str, Json]:
    return {field: meta for field, meta in (step.get("fields") or {}).items() if _is_required(meta, field, ())}


def _read(body: Json, site_url: str) -> _Issue:
    fields = body["fields"]
    links = fields.get("issuelinks") or ()
    ends = [link.get("inwardIssue") or link.get("outwardIssue") or {} for link in links]
    return _Issue(
        ticket=ticket(body, site_url),
        status=fields["status"],
        project=fields.get("project") or {},
        priority=(fields.get("priority") or {}).get("name"),
        assignees=frozenset((fields.get("assignee") or {}).get(form) for form in ("accountId", "name")),
        linked=frozenset(str(end.get("id")) for end in ends),
    )


def _differences(now: _Issue, fields: Json, labels: Iterable[str], write: Write) -> Iterator[str]:
    """One sentence for each thing that Jira acknowledged and does not hold. Texts come back in another markup."""
    if "summary" in fields and fields["summary"] != now.ticket.summary:
        yield f"the summary is {now.ticket.summary!r}"
    if "priority" in fields and fields["priority"]["name"] != now.priority:
        yield f"the priority is {now.priority}, not {fields['priority']['name']}"
    if "assignee" in fields and not now.assignees & set(fields["assignee"].values()):
        yield "the assignee is somebody else"
    if missing := sorted(set(labels) - set(now.ticket.labels)):
        yield f"the labels lack {', '.join(missing)}"
    if write.action is Action.CREATE or write.properties is not None:
        held = property_value(now.ticket.key or "", now.ticket.properties)
        if held != property_value(write.key, write.properties):
            yield f"the property {PROPERTY} is not as it was sent, so that the ticket may not be found by its key"


def _not_reached(status: Json, wanted: Json) -> tuple[str, ...]:
    return () if str(status["id"]) == wanted["id"] else (f"the state is {status['name']}, not {wanted['name']}",)
