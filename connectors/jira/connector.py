"""Jira Cloud as the place where corrective-action tickets are kept.

Owns what a write means in Jira: screens, priorities, labels, the property with our key, links, transitions, and the
comparison of what was asked with what is there afterwards. Leaves requests to ``transport`` and forms to ``translate``.
Jira as a source is not served yet: the calls for that return gaps.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from connectors.jira.translate import (
    PROPERTY,
    TICKET_FIELDS,
    Text,
    browse_url,
    key_label,
    markup,
    millis,
    property_value,
    summary,
    ticket,
    translate,
)
from itsms_sync.connector import Access, Plugin, Refused, SourceError
from itsms_sync.records import Action, Configuration, Directory, Gap, Identity, Page, Ticket, Window, Write, Written

if TYPE_CHECKING:
    from connectors.jira.transport import Site

Json = Mapping[str, Any]
Screen = Mapping[str, Json]
"""Id of each field of a screen -> what Jira says about it."""

_OWN = ("project", "issuetype", "summary", "description", "labels", "priority", "assignee")
_READ = ",".join((*TICKET_FIELDS, "priority", "assignee", "project", "issuelinks"))
_GATEWAY = "/ex/jira/"
"""In the address of a source that is reached through Atlassian's gateway, where nobody can read a ticket."""
_INTERNAL = {"key": "sd.public.comment", "value": {"internal": True}}
_MOST_PROPERTY = 32_768
_STOCK_PRIORITIES = {"S1": "Highest", "S2": "High", "S3": "Medium", "S4": "Low"}


class Options(BaseModel):
    """What an operator may set for a Jira source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]+$")]
    """Key of the project in which tickets are opened."""
    issue_type: str = "Task"
    """Name of the issue type of the tickets."""
    labels: tuple[Annotated[str, StringConstraints(pattern=r"^\S{1,255}$")], ...] = ()
    """Labels that every ticket gets besides its own."""
    severity_priority: Mapping[str, str] = Field(default_factory=lambda: dict(_STOCK_PRIORITIES))
    """Severity -> name of the priority in Jira."""
    index_lag: Annotated[float, Field(ge=0, le=3600)] = 60
    """Seconds until search must show what was written. Jira Cloud names no bound; a minute is generous."""
    link_type: str = "Relates"
    """Name of the type of the links between tickets."""
    resolution: str = "Done"
    """Set when a step asks for a resolution and for nothing else."""
    fields: Mapping[str, Any] = Field(default_factory=dict)
    """Id of a field -> value in the form of REST v2, for fields that the project requires."""
    deployment: Literal["cloud"] = "cloud"

    @field_validator("fields")
    @classmethod
    def _not_ours(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        if ours := sorted(fields.keys() & set(_OWN)):
            raise ValueError(f"{', '.join(ours)} cannot be set here: the program fills it")
        return fields


def _connect(access: Access) -> "JiraTarget":
    from connectors.jira.transport import Site

    return JiraTarget(access, Options.model_validate(access.options), Site(access))


def _check_options(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return Options.model_validate(given).model_dump()


def _record_url(base_url: str, kind: str, id: str, label: str) -> str:
    return browse_url(base_url, label)


PLUGIN = Plugin(
    name="jira", connect=_connect, translate=translate, check_options=_check_options, record_url=_record_url
)


@dataclass(frozen=True, slots=True)
class _Issue:
    """A ticket with what is only looked at here."""

    ticket: Ticket
    status: Json
    project: Json
    priority: str | None
    assignee: str | None
    linked: frozenset[str]
    """Ids of the issues it is linked with."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a write would set, and one sentence for each thing it cannot set."""

    fields: Mapping[str, Any]
    dropped: tuple[str, ...] = ()


class JiraTarget:
    """A project of Jira Cloud as one account sees it. Its create screen is read once in a connector's life."""

    def __init__(self, access: Access, options: Options, site: "Site") -> None:
        self._access = access
        self._options = options
        self._site = site
        self._screen: Screen | None = None
        self._type_id = ""
        self._people_url = "" if _GATEWAY in access.url else access.url

    @property
    def index_lag(self) -> float:
        return self._options.index_lag

    # --- who and what

    def identify(self) -> Identity:
        from itsms_sync.http import http_date_millis

        account = self._site.get("myself", lambda body: str(body["accountId"]))
        info, headers = self._site.described("serverInfo")
        if info.get("deploymentType") != "Cloud":
            raise Refused(f"{self._access.name}: this is not Jira Cloud; this version serves nothing else")
        _, _, cloud = self._access.url.partition(_GATEWAY)
        return Identity(
            product="Jira Cloud",
            version=str(info.get("version", "")),
            instance="#".join(filter(None, (str(info.get("baseUrl", self._access.url)), cloud.strip("/")))),
            account=account,
            server_time=millis(info.get("serverTime")) or http_date_millis(headers.get("Date")),
            simulated="simulator" in headers.get("Server", ""),
        )

    def pull(self, kind: str, window: Window) -> Iterator[Page] | Gap:
        return _not_served(kind)

    def directory(self) -> Directory | Gap:
        return _not_served("directory")

    def configuration(self, kind: str) -> Configuration | Gap:
        return _not_served(f"configuration of {kind}")

    # --- tickets

    def find(self, key: str) -> Sequence[Ticket]:
        """By label, which search knows, and then by the property, which is exact and which copies of an issue lack."""
        home = self._home()
        found = self._site.search(
            f'project = "{self._options.project}" AND labels = "{key_label(key)}" ORDER BY created ASC',
            TICKET_FIELDS,
            [PROPERTY],
            lambda issue: ticket(issue, home),
        )
        return sorted((one for one in found if one.key == key), key=lambda one: (one.created or 0, int(one.id)))

    def write(self, write: Write) -> Written:
        if write.action is not Action.CREATE and not write.ticket:
            raise Refused(f"{self._access.name}: {write.action} needs the id of a ticket")
        self._home()  # later it could fail a write that Jira has acknowledged
        return {
            Action.CREATE: self._create,
            Action.COMMENT: self._comment,
            Action.AMEND: self._amend,
            Action.LINK: self._link,
            Action.TRANSITION: self._transition,
        }[write.action](write)

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
        id, label = self._site.post("issue", body, lambda made: (str(made["id"]), str(made["key"])))
        return self._written(id, label, draft.dropped, lambda now: _differences(now, draft.fields, labels, write))

    def _comment(self, write: Write) -> Written:
        before = self._issue(write.ticket or "")
        # where Jira does not say what it is, nothing may reach customers either
        internal = before.project.get("projectTypeKey", "service_desk") == "service_desk"
        text = markup(write.body)
        body = {"body": text.text, **({"properties": [_INTERNAL]} if internal else {})}
        public = self._site.post(
            f"issue/{before.ticket.id}/comment", body, lambda made: (made["id"], made.get("jsdPublic", True))[1]
        )
        exposed = ["the comment is not internal: customers can read it"] if internal and public else []
        return self._written(before.ticket.id, before.ticket.label, (*exposed, *_cut("comment", text)), lambda _: ())

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
            wanted["assignee"] = {"accountId": write.assignee}
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

    def _is_assignable(self, account: str, dropped: list[str]) -> bool:
        found = self._site.get("user/assignable/search", list, project=self._options.project, accountId=account)
        if not found:
            dropped.append("nobody is assigned: the account wanted does not exist or has no right to be assigned")
        return bool(found)

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
        from itsms_sync.http import Stopped

        written = Written(id, label, browse_url(self._people_url, label), None, tuple(dropped))
        try:
            now = self._issue(id)
        except (SourceError, Stopped) as error:  # the order to stop is not lost: it stays in Stop.requested
            reason = str(error) or "we were asked to stop"
            return replace(written, dropped=(*written.dropped, f"could not be read back: {reason}"))
        return replace(written, ticket=now.ticket, dropped=(*written.dropped, *compare(now)))


def _not_served(stream: str) -> Gap:
    return Gap(stream, "not-served", "Jira as a source comes with a later version; this one keeps tickets there")


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
        assignee=(fields.get("assignee") or {}).get("accountId"),
        linked=frozenset(str(end.get("id")) for end in ends),
    )


def _differences(now: _Issue, fields: Json, labels: Iterable[str], write: Write) -> Iterator[str]:
    """One sentence for each thing that Jira acknowledged and does not hold. Texts come back in another markup."""
    if "summary" in fields and fields["summary"] != now.ticket.summary:
        yield f"the summary is {now.ticket.summary!r}"
    if "priority" in fields and fields["priority"]["name"] != now.priority:
        yield f"the priority is {now.priority}, not {fields['priority']['name']}"
    if "assignee" in fields and fields["assignee"]["accountId"] != now.assignee:
        yield "the assignee is somebody else"
    if missing := sorted(set(labels) - set(now.ticket.labels)):
        yield f"the labels lack {', '.join(missing)}"
    if write.action is Action.CREATE or write.properties is not None:
        held = property_value(now.ticket.key or "", now.ticket.properties)
        if held != property_value(write.key, write.properties):
            yield f"the property {PROPERTY} is not as it was sent, so that the ticket may not be found by its key"


def _not_reached(status: Json, wanted: Json) -> tuple[str, ...]:
    return () if str(status["id"]) == wanted["id"] else (f"the state is {status['name']}, not {wanted['name']}",)
