"""Values of the choice fields of a stock instance and their labels.

Where a stock instance's numbers are not documented (the states of ``sn_cim_register``) they are this simulator's own
and irregular on purpose, so that a client has to look them up.
"""

from collections.abc import Iterator

_SCALE = "1=High,2=Medium,3=Low"
_PRIORITY = "1=Critical,2=High,3=Moderate,4=Low,5=Planning"
_TASK_STATE = (
    "-5=Pending,1=Open,2=Work in Progress,3=Closed Complete,4=Closed Incomplete,7=Closed Skipped"  # also of requests
)
_INCIDENT_STATE = "1=New,2=In Progress,3=On Hold,6=Resolved,7=Closed,8=Canceled"
_PROBLEM_STATE = (
    "101=New,102=Assess,103=Root Cause Analysis,104=Fix in Progress,106=Resolved,107=Closed"  # there is no 105
)
CHANGE_STATE = "-5=New,-4=Assess,-3=Authorize,-2=Scheduled,-1=Implement,0=Review,3=Closed,4=Canceled"
_CIM_STATE = "1=New,11=Accepted,12=Assess,13=Approved,2=In Progress,18=On Hold,15=Monitor/Review,3=Closed,4=Canceled"
_RESOLUTIONS = (
    "Solution provided",
    "Resolved by caller",
    "Workaround provided",
    "Duplicate",
    "Resolved by change",
    "User error",
    "Known error",
    "Resolved by problem",
    "Resolved by request",
    "No resolution provided",
)
_APPROVAL = "not requested=Not Yet Requested,requested=Requested,approved=Approved,rejected=Rejected"
_CHOICES = {
    ("task", "impact"): _SCALE,
    ("task", "urgency"): _SCALE,
    ("task", "priority"): _PRIORITY,
    ("task", "state"): _TASK_STATE,
    ("task", "approval"): f"{_APPROVAL},not_required=Not Required,cancelled=Cancelled,duplicate=Duplicate",
    ("incident", "state"): _INCIDENT_STATE,
    ("incident", "incident_state"): _INCIDENT_STATE,
    ("incident", "hold_reason"): "1=Awaiting Caller,3=Awaiting Problem,4=Awaiting Vendor,5=Awaiting Change",
    ("incident", "notify"): "1=Do Not Notify,2=Send Email,3=Phone",
    ("incident", "close_code"): ",".join(f"{code}={code}" for code in _RESOLUTIONS),
    ("incident", "major_incident_state"): "proposed=Proposed,accepted=Accepted,rejected=Rejected,canceled=Canceled",
    ("problem", "state"): _PROBLEM_STATE,
    ("problem", "problem_state"): _PROBLEM_STATE,
    ("problem", "resolution_code"): "fix_applied=Fix Applied,risk_accepted=Risk Accepted,duplicate=Duplicate,"
    "canceled=Canceled",
    ("problem_task", "state"): "151=New,152=Assess,154=Work in Progress,157=Closed",
    ("problem_task", "problem_task_type"): "general=General,rca=Root Cause Analysis",
    ("change_request", "state"): CHANGE_STATE,
    ("change_request", "type"): "normal=Normal,standard=Standard,emergency=Emergency",
    ("change_request", "risk"): "2=High,3=Moderate,4=Low",
    ("change_request", "close_code"): "successful=Successful,successful_issues=Successful with issues,"
    "unsuccessful=Unsuccessful",
    ("change_task", "change_task_type"): "planning=Planning,implementation=Implementation,testing=Testing,"
    "review=Review",
    ("sc_request", "request_state"): "requested=Pending Approval,in_process=Approved,closed_complete=Closed Complete,"
    "closed_incomplete=Closed Incomplete,closed_cancelled=Closed Cancelled,closed_rejected=Closed Rejected",
    ("sc_req_item", "stage"): "waiting_for_approval=Waiting for Approval,fulfillment=Fulfillment,complete=Completed,"
    "Request Cancelled=Request Cancelled",
    ("sysapproval_approver", "state"): f"{_APPROVAL},cancelled=Cancelled,not_required=No Longer Required,"
    "skipped=Skipped",
    ("sysapproval_group", "wait_for"): "any=First response from anyone,all=An approval from everyone",
    ("task_sla", "stage"): "in_progress=In progress,paused=Paused,completed=Completed,cancelled=Cancelled",
    ("sn_cim_register", "state"): _CIM_STATE,
}


def stock_choices() -> Iterator[dict[str, str]]:
    """Rows of sys_choice, without ids."""
    for (table, element), text in _CHOICES.items():
        for place, (value, label) in enumerate(pairs(text)):
            yield {"name": table, "element": element, "value": value, "label": label, "sequence": str(place)}


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Value and label of each choice."""
    for pair in text.split(","):
        value, _, label = pair.partition("=")
        yield value, label
