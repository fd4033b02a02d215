"""Owns what people may do to issues: screens, required fields, workflow steps, decisions, moves; turns a request into
events.

Refuses with the vendor's sentences and changes nothing itself: ``Site.record`` applies what is returned. Which forms of
values a field takes is ``values``', how a change is told in the history is ``changes``'.
"""

from collections.abc import Mapping
from typing import Any

from connectors.jira.simulator.approvals import asked, decided, is_reserved, outcome
from connectors.jira.simulator.changes import change_items, link_item, named_item, text_item
from connectors.jira.simulator.configuration import Screen, Transition, TypeInProject, User
from connectors.jira.simulator.markup import as_wiki, is_document
from connectors.jira.simulator.refusals import INVALID, NO_ISSUE, Refusal
from connectors.jira.simulator.site import Event, Issue, Site
from connectors.jira.simulator.values import NOT_ON_SCREEN, TEXT_LIMIT, Values, too_long

Json = dict[str, Any]


class Editing:
    """The writes of one account in one version (``2`` or ``3``) of the interface.

    ``link_updates``: whether a link counts as an update of both issues, which the vendor leaves open.
    """

    def __init__(self, site: Site, version: str, caller: User, now: int, link_updates: bool = False) -> None:
        self._site = site
        self._version = version
        self._values = Values(site, version)
        self._caller = caller
        self._now = now
        self._link_updates = link_updates

    def done(self, what: str, issue: Issue | None, body: Json) -> list[Event]:
        """The events of a write that is named: create, edit, transition, comment or delete. A transition names the
        status ``to`` which it leads, as people do.
        """
        if issue is None:
            return [self.create(body)]
        if what == "delete":
            return [{**self._event("delete"), "issue": issue.id}]
        if what == "comment":
            return [self.comment(issue, body)]
        if what == "edit":
            return self.edit(issue, body)
        return self._taken(issue, self._step_to(issue, body["to"]), _object(body, "fields"), {})

    def create(self, body: Json) -> Event:
        fields = dict(_object(body, "fields"))
        use, project = self._place(fields)
        values, errors = self._values.read(fields, _object(body, "update"), use.create, {})
        for key, required in use.create.items():
            if required and key not in errors and values.get(key) in (None, "", []):
                errors[key] = self._missing(key)
        if errors:
            raise Refusal(400, errors=errors)
        values = {**self._defaults(use), **values}
        approval = asked(self._site.configuration, values, self._site.next_id("approval"), self._now)
        return {
            **self._event("create"),
            "issue": self._site.next_id("issue"),
            "key": self._new_key(project),
            "values": values,
            "properties": _properties(body.get("properties")),
            "approvals": [approval] if approval else [],
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
            raise Refusal(400, errors={"comment": NOT_ON_SCREEN.format("comment")})
        return self._taken(issue, transition, fields, update)

    def decide(self, issue: Issue, number: str, decision: str) -> list[Event]:
        """The caller's ``approved`` or ``declined``; the last decision that is needed also takes its transition."""
        approval = next((each for each in issue.approvals if each["id"] == number), None)
        if approval is None:
            raise Refusal(404, "The approval does not exist or you do not have permission to see it.")
        if approval["decision"] != "pending":
            raise Refusal(409, "The approval has been completed already.")
        if {"by": self._caller.account_id, "decision": "pending"} not in approval["approvers"]:
            raise Refusal(403, "You do not have permission to answer this approval.")
        changed = decided(approval, self._caller.account_id, decision, self._now)
        event = {**self._event("approval"), "issue": issue.id, "approval": changed}
        step = self._site.configuration.approvals.get(issue.values["status"])
        if changed["decision"] == "pending" or step is None or changed["status"] != step.status:
            return [event]
        taken = outcome(step, self._use(issue).workflow, step.status, decision)
        return [event, *(self._taken(issue, taken, {}, {}) if taken else ())]

    def move(self, issue: Issue, reference: str) -> list[Event]:
        """Into another project: new key, same id; type and status stay where that project has them."""
        configuration = self._site.configuration
        target = configuration.projects.get(reference) or configuration.project(reference)
        if target is None or target.key == issue.project:
            raise Refusal(400, errors={"project": "Specify a valid project ID or key"})
        key, kind = self._new_key(target.key), issue.values["issuetype"]
        use = target.types.get(kind) or next(iter(target.types.values()))
        kept = any(status.id == issue.values["status"] for status in use.workflow.statuses)
        status = issue.values["status"] if kept else use.workflow.statuses[0].id
        changed = self._differing(issue, {"issuetype": use.type.id, "status": status})
        items = [
            named_item("project", "project", configuration.projects[issue.project], target),
            {**text_item("Key", issue.key, key), "from": "", "to": ""},
            *change_items(configuration, issue.values, changed),
        ]
        event = {**self._event("move"), "issue": issue.id, "key": key, "items": items}
        return [{**event, "history": self._site.next_id("history"), "values": {**changed, "updated": self._now}}]

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
        if len(as_wiki(text) or "") > TEXT_LIMIT:
            raise Refusal(400, errors={"comment": too_long()})
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
        items = [[link_item(kind, True, None, outward.key)], [link_item(kind, False, None, inward.key)]]
        event = {
            **self._event("link"),
            "id": self._site.next_id("link"),
            "type": kind.id,
            "inward": inward.id,
            "outward": outward.id,
            "items": items,
            "history": self._site.next_id("history"),
            "values": {"updated": self._now} if self._link_updates else {},
        }
        comment = body.get("comment")
        return [event, self.comment(inward, comment)] if comment else [event]

    # --- parts

    def _event(self, kind: str) -> Json:
        return {"do": kind, "at": self._now, "by": self._caller.account_id}

    def _new_key(self, project: str) -> str:
        return f"{project}-{self._site.next_id('key ' + project)}"

    def _end(self, reference: Mapping[str, Any]) -> Issue:
        issue = self._site.issue(str(reference.get("id") or reference.get("key") or ""))
        if issue is None:
            raise Refusal(404, NO_ISSUE)
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
        if key == "parent":
            return "Issue type is a sub-task but parent issue key or id not specified."
        return f"{self._site.configuration.fields[key].name} is required."

    def _transition(self, issue: Issue, body: Json) -> Transition:
        wanted = str(_object(body, "transition").get("id") or "")
        if not wanted:
            raise Refusal(400, "Missing 'transition' identifier")
        for transition in self._use(issue).workflow.transitions:
            offered = transition.starts_from(issue.values["status"])
            if offered and transition.id == wanted and not is_reserved(self._site.configuration, issue, transition):
                return transition
        raise Refusal(400, f"Transition id '{wanted}' is not valid for this issue.")

    def _step_to(self, issue: Issue, name: str) -> Transition:
        for transition in self._use(issue).workflow.transitions:
            if transition.starts_from(issue.values["status"]) and transition.to.name == name:
                return transition
        raise Refusal(400, f"No transition leads to {name}.")

    def _taken(self, issue: Issue, transition: Transition, fields: Json, update: Json) -> list[Event]:
        """The step and the approval that its status asks for."""
        also = self._moved(issue, transition)
        events = self._changes(issue, fields, update, transition.screen, "transition", also)
        values = {**issue.values, **also, **(events[0].get("values", {}) if events else {})}
        approval = asked(self._site.configuration, values, self._site.next_id("approval"), self._now)
        if approval is None or transition.to.id == issue.values["status"]:
            return events
        return [*events, {**self._event("approval"), "issue": issue.id, "approval": approval}]

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
        values, errors = self._values.read(fields, operations, screen, issue.values)
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


def _object(body: Any, key: str) -> Any:
    value = body.get(key) if isinstance(body, dict) else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(400, INVALID)
    return value


def _properties(given: Any) -> Json:
    if given is None:
        return {}
    if not isinstance(given, list) or not all(
        isinstance(each, dict) and isinstance(each.get("key"), str) for each in given
    ):
        raise Refusal(400, INVALID)
    return {each["key"]: each.get("value") for each in given}
