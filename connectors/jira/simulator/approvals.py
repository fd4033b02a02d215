"""Owns what an approval is made of: who is asked when an issue comes into a status, and what a decision makes of it.

Pure. That a decision also takes a transition is ``editing``'s.
"""

from collections.abc import Mapping
from typing import Any

from connectors.jira.simulator.configuration import ApprovalStep, Configuration, Transition, Workflow
from connectors.jira.simulator.site import Issue

Approval = Mapping[str, Any]


def asked(configuration: Configuration, values: Mapping[str, Any], number: int, now: int) -> Approval | None:
    """The approval that an issue with these values waits for; ``None`` if its status asks nobody."""
    step = configuration.approvals.get(values["status"])
    if step is None:
        return None
    absent = {values.get(role) for role in step.exclude}
    people = [each for each in values.get(step.field) or step.approvers if each not in absent]
    if not people:
        return None
    return {
        "id": str(number),
        "name": configuration.statuses[step.status].name,
        "status": step.status,
        "created": now,
        "completed": None,
        "decision": "pending",
        "needed": step.needed,
        "approvers": [{"by": account, "decision": "pending"} for account in people],
    }


def decided(approval: Approval, account: str, decision: str, now: int) -> Approval:
    """``approval`` with one person's decision; complete when somebody declines or as many as needed approve."""
    approvers = [{**each, "decision": decision} if each["by"] == account else each for each in approval["approvers"]]
    approved = sum(each["decision"] == "approved" for each in approvers)
    changed = {**approval, "approvers": approvers}
    if decision == "approved" and approved < (approval["needed"] or len(approvers)):
        return changed
    return {**changed, "decision": decision, "completed": now}


def outcome(step: ApprovalStep, workflow: Workflow, status: str, decision: str) -> Transition | None:
    """The transition that a final decision takes from ``status``."""
    wanted = step.approve if decision == "approved" else step.decline
    leaving = (each for each in workflow.transitions if each.starts_from(status))
    return next((each for each in leaving if wanted in (each.id, each.name)), None)


def is_reserved(configuration: Configuration, issue: Issue, transition: Transition) -> bool:
    """Whether only a decision may take this transition: an approval of the present status is pending."""
    status = issue.values["status"]
    step = configuration.approvals.get(status)
    waits = any(each["decision"] == "pending" and each["status"] == status for each in issue.approvals)
    return step is not None and waits and not {transition.id, transition.name}.isdisjoint((step.approve, step.decline))
