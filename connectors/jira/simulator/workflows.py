"""Owns Cloud's resources of workflow configuration: workflows with statuses and transitions, schemes, statuses.

They want an administrator's rights on the product; here every account has them. Data Center shows no transitions.
"""

from collections.abc import Collection, Sequence
from uuid import NAMESPACE_URL, uuid5

from connectors.jira.simulator.approvals import outcome
from connectors.jira.simulator.calls import Answer, Call, Json, Table, page_bean, strict_body
from connectors.jira.simulator.configuration import Named, Project, Transition, Workflow

_CATEGORIES = {"No Category": "TODO", "To Do": "TODO", "In Progress": "IN_PROGRESS", "Done": "DONE"}
_GLOBAL = {"type": "GLOBAL"}


def read_workflows(call: Call) -> Answer:
    """Workflows by name, id, or project and issue type."""
    body = strict_body(call, {"workflowNames": list, "workflowIds": list, "projectAndIssueTypes": list})
    wanted = {*body.get("workflowNames", ()), *body.get("workflowIds", ())}
    pairs = {(each.get("projectId"), each.get("issueTypeId")) for each in body.get("projectAndIssueTypes", ())}
    for project in call.site.configuration.projects.values():
        wanted |= {use.workflow.name for use in project.types.values() if (project.id, use.type.id) in pairs}
    found = [each for each in _workflows(call) if {each.name, _id(each)} & wanted]
    shown = [_workflow(call, each, True) for each in found]
    return Answer(200, {"statuses": _statuses(found), "workflows": shown})


def search_workflows(call: Call) -> Answer:
    wanted = (call.text("queryString") or "").casefold()
    found = [each for each in _workflows(call) if wanted in each.name.casefold()]
    with_transitions = "values.transitions" in call.words("expand")
    page = page_bean(call, [_workflow(call, each, with_transitions) for each in found], 200, "workflows/search")
    named = {each["name"] for each in page["values"]}
    return Answer(200, {**page, "statuses": _statuses([each for each in found if each.name in named])})


def project_schemes(call: Call) -> Answer:
    projects = [each for each in call.site.configuration.projects.values() if each.id in call.words("projectId")]
    schemes = [{"projectIds": [each.id], "workflowScheme": _scheme(call, each)} for each in projects]
    return Answer(200, {"values": schemes})


def search_statuses(call: Call) -> Answer:
    wanted, category = (call.text("searchString") or "").casefold(), call.text("statusCategory")
    used = _statuses_of(call, call.text("projectId"))
    found = [
        _status(each)
        for each in call.site.configuration.statuses.values()
        if wanted in each.name.casefold()
        and category in (None, _CATEGORIES[each.category])
        and (used is None or each.id in used)
    ]
    return Answer(200, page_bean(call, found, 200, "statuses/search"))


def statuses_by_id(call: Call) -> Answer:
    known = call.site.configuration.statuses
    return Answer(200, [_status(known[number]) for number in call.words("id") if number in known])


def _statuses_of(call: Call, project_id: str | None) -> Collection[str] | None:
    """Ids of the statuses of a project; ``None`` for those of all."""
    if project_id is None:
        return None
    projects = call.site.configuration.projects.values()
    uses = [use for project in projects if project.id == project_id for use in project.types.values()]
    return {status.id for use in uses for status in use.workflow.statuses}


def _workflows(call: Call) -> Collection[Workflow]:
    return call.site.configuration.workflows.values()


def _id(workflow: Workflow) -> str:
    return str(uuid5(NAMESPACE_URL, workflow.name))


def _scheme(call: Call, project: Project) -> Json:
    number = 10_000 + int(project.id)
    return {
        "id": number,
        "name": f"{project.key}: workflow scheme",
        "description": "",
        "defaultWorkflow": "jira",
        "issueTypeMappings": {use.type.id: use.workflow.name for use in project.types.values()},
        "draft": False,
        "self": f"{call.shown.base}/workflowscheme/{number}",
    }


def _status(status: Named) -> Json:
    category = _CATEGORIES[status.category]
    return {"id": status.id, "name": status.name, "description": "", "statusCategory": category, "scope": _GLOBAL}


def _statuses(workflows: Sequence[Workflow]) -> list[Json]:
    """Each status of the workflows once."""
    found = {status.id: status for workflow in workflows for status in workflow.statuses}
    return [{**_status(each), "statusReference": each.id} for each in found.values()]


def _workflow(call: Call, workflow: Workflow, with_transitions: bool) -> Json:
    shown: Json = {
        "id": _id(workflow),
        "name": workflow.name,
        "description": "",
        "isEditable": True,
        "scope": _GLOBAL,
        "version": {"id": str(uuid5(NAMESPACE_URL, workflow.name + " 1")), "versionNumber": 1},
        "statuses": [_reference(call, workflow, each) for each in workflow.statuses],
    }
    if with_transitions:
        first = _first(workflow.statuses[0])
        shown["transitions"] = [first, *(_transition(each) for each in workflow.transitions)]
    return shown


def _reference(call: Call, workflow: Workflow, status: Named) -> Json:
    shown: Json = {"statusReference": status.id, "deprecated": False, "properties": {}}
    step = call.site.configuration.approvals.get(status.id)
    approved, declined = (
        outcome(step, workflow, status.id, decision) if step else None for decision in ("approved", "declined")
    )
    if step is None or approved is None or declined is None:
        return shown
    how_many = {"conditionType": "percent", "conditionValue": "100"}
    if step.needed is not None:
        how_many = {"conditionType": "number", "conditionValue": str(step.needed)}
    outcomes = {"transitionApproved": approved.id, "transitionRejected": declined.id}
    more: Json = {"active": "true", "fieldId": step.field} | ({"exclude": list(step.exclude)} if step.exclude else {})
    return {**shown, "approvalConfiguration": {**more, **how_many, **outcomes}}


def _first(status: Named) -> Json:
    """How an issue comes into the workflow."""
    return {"id": "1", "name": "Create", "type": "INITIAL", "toStatusReference": status.id, "links": [], **_rules([])}


def _transition(transition: Transition) -> Json:
    needed = [key for key, required in transition.screen.items() if required]
    sources = transition.sources or ()
    shown: Json = {
        "id": transition.id,
        "name": transition.name,
        "description": "",
        "type": "GLOBAL" if transition.sources is None else "DIRECTED",
        "toStatusReference": transition.to.id,
        "links": [{"fromStatusReference": each, "fromPort": 0, "toPort": 1} for each in sources],
        **_rules(needed),
    }
    if transition.screen:
        shown["transitionScreen"] = {"ruleKey": "system:transition-screen", "parameters": {"screenId": transition.id}}
    return shown


def _rules(needed: Sequence[str]) -> Json:
    rule = {"ruleType": "fieldRequired", "fieldsRequired": ",".join(needed)}
    return {
        "conditions": {"operation": "ALL", "conditions": [], "conditionGroups": []},
        "validators": [{"ruleKey": "system:validate-field-value", "parameters": rule}] if needed else [],
        "actions": [],
        "triggers": [],
        "properties": {},
    }


ROUTES: Table = (
    ("POST", "workflows", read_workflows, "refused"),
    ("GET", "workflows/search", search_workflows, "refused"),
    ("GET", "workflowscheme/project", project_schemes, "refused"),
    ("GET", "statuses", statuses_by_id, "refused"),
    ("GET", "statuses/search", search_statuses, "refused"),
)
