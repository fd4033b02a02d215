"""What a stock instance knows about its tables before any data: columns, types, references, defaults.

Owns names and types only. Choices are in :mod:`.choices`, rows in :mod:`.tables`, the effect of a write in
:mod:`.desk`.
"""

from collections.abc import Iterable, Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SYSTEM = "sys_id sys_created_on sys_created_by sys_updated_on sys_updated_by sys_mod_count sys_tags"
_TASK = (
    f"{_SYSTEM} sys_class_name sys_domain sys_domain_path number task_effective_number short_description description "
    "state active priority impact urgency assignment_group assigned_to opened_at opened_by closed_at closed_by "
    "close_notes work_start work_end due_date sla_due made_sla escalation parent cmdb_ci business_service "
    "service_offering company location contact_type contract approval approval_history approval_set upon_approval "
    "upon_reject reassignment_count correlation_id correlation_display comments work_notes comments_and_work_notes "
    "work_notes_list watch_list group_list additional_assignee_list business_duration calendar_duration time_worked "
    "follow_up expected_start activity_due delivery_plan delivery_task knowledge order route_reason "
    "universal_request user_input"
)
_OF_TASKS = {
    "incident": "caller_id category subcategory incident_state hold_reason close_code resolved_at resolved_by "
    "reopen_count reopened_time reopened_by severity notify problem_id rfc caused_by parent_incident child_incidents "
    "business_stc calendar_stc cause business_impact origin_table origin_id",
    "problem": "problem_state known_error cause_notes fix_notes workaround resolution_code resolved_at resolved_by "
    "related_incidents major_problem first_reported_by_task duplicate_of category subcategory rfc",
    "change_request": "type chg_model risk start_date end_date cab_required cab_date cab_recommendation justification "
    "implementation_plan backout_plan test_plan review_comments conflict_status conflict_last_run on_hold "
    "on_hold_reason phase phase_state reason requested_by requested_by_date unauthorized "
    "outside_maintenance_schedule std_change_producer_version close_code category",
    "change_task": "change_request change_task_type planned_start_date planned_end_date on_hold close_code",
    "problem_task": "problem problem_task_type close_code",
    "incident_task": "incident",
    "sc_request": "requested_for request_state stage",
    "sc_req_item": "request cat_item requested_for stage quantity",
    "sc_task": "request request_item",
    "sysapproval_group": "approval_user wait_for",
    "task": "",
}
_OF_PLUGINS: Mapping[str, Mapping[str, str]] = {
    "cim": {
        "sn_cim_register": "business_process type benefit effort source_id",
        "sn_cim_task": "",
    },
    "grc": {"sn_grc_issue": "source_id"},
    "major": {"incident": "major_incident_state proposed_by proposed_on promoted_by promoted_on"},
}
"""plug-in -> the tables that it brings, or the columns that it adds to a stock table"""
_OTHERS = {
    "sys_user": f"{_SYSTEM} user_name name first_name last_name email title active locked_out "
    "internal_integration_user web_service_access_only department location manager time_zone",
    "sys_user_group": f"{_SYSTEM} name description email manager parent type active",
    "sys_user_grmember": f"{_SYSTEM} user group",
    "sys_user_role": f"{_SYSTEM} name description",
    "sys_user_has_role": f"{_SYSTEM} user role state inherited",
    "sys_choice": f"{_SYSTEM} name element value label language inactive sequence dependent_value",
    "sys_dictionary": f"{_SYSTEM} name element column_label internal_type reference mandatory read_only max_length "
    "active audit",
    "sys_db_object": f"{_SYSTEM} name label super_class",
    "sys_properties": f"{_SYSTEM} name value description",
    # the three witnesses of history have no sys_updated_on: a condition on it fails open
    "sys_audit": "sys_id tablename documentkey fieldname oldvalue newvalue user reason record_checkpoint "
    "sys_created_on sys_created_by",
    "sys_journal_field": "sys_id name element element_id value sys_created_on sys_created_by",
    "sys_audit_delete": "sys_id tablename documentkey display_value payload sys_created_on sys_created_by",
    "sysapproval_approver": f"{_SYSTEM} sysapproval source_table document_id approver state comments due_date group "
    "approval_source iteration wf_activity expected_start",
    "task_sla": f"{_SYSTEM} task sla stage active has_breached start_time end_time planned_end_time "
    "original_breach_time pause_time pause_duration business_pause_duration percentage business_percentage duration "
    "business_duration time_left business_time_left schedule timezone",
    "contract_sla": f"{_SYSTEM} name type target collection duration duration_type schedule schedule_source "
    "start_condition stop_condition pause_condition resume_condition reset_condition cancel_condition when_to_resume "
    "when_to_cancel active",
    "metric_definition": f"{_SYSTEM} name table field type active",
    "metric_instance": f"{_SYSTEM} definition table id field field_value value start end duration business_duration "
    "calculation_complete",
    "task_ci": f"{_SYSTEM} task ci_item applied applied_date added_from_dynamic_ci",
    "cmdb_ci": f"{_SYSTEM} name sys_class_name operational_status",
    "cmn_location": f"{_SYSTEM} name",
    "sc_cat_item": f"{_SYSTEM} name short_description active",
    "std_change_producer_version": f"{_SYSTEM} name std_change_producer version published",
    # who is asked at which stage: columns simplified from the approval definitions of a real instance
    "chg_approval_def": f"{_SYSTEM} name active order state type group user wait_for",
    "chg_model": f"{_SYSTEM} name active available_in_ui color default_change_model description record_preset "
    "state_field table_name",
    "sttrm_state": f"{_SYSTEM} sttrm_model state_value state_label initial_state sequence",
    "sttrm_state_transition": f"{_SYSTEM} sttrm_model from_state to_state automatic_transition",
    "sttrm_transition_condition": f"{_SYSTEM} sttrm_state_transition name description condition condition_script "
    "condition_type active order",
}
_NAMED = (
    "caller_id opened_by closed_by resolved_by reopened_by assigned_to requested_by requested_for approval_user "
    "proposed_by promoted_by"
)
_TASK_REFERENCES = {
    **dict.fromkeys(_NAMED.split(), "sys_user"),
    "assignment_group": "sys_user_group",
    "sys_domain": "sys_user_group",  # so in the recorded bodies of a developer instance
    "cmdb_ci": "cmdb_ci",
    "business_service": "cmdb_ci_service",
    "service_offering": "service_offering",
    "company": "core_company",
    "location": "cmn_location",
    "parent": "task",
    "problem_id": "problem",
    "rfc": "change_request",
    "caused_by": "change_request",
    "parent_incident": "incident",
    "duplicate_of": "problem",
    "first_reported_by_task": "task",
    "change_request": "change_request",
    "problem": "problem",
    "incident": "incident",
    "request": "sc_request",
    "request_item": "sc_req_item",
    "cat_item": "sc_cat_item",
    "chg_model": "chg_model",
    "std_change_producer_version": "std_change_producer_version",
}
_OTHER_REFERENCES: Mapping[str, Mapping[str, str]] = {
    "sys_user": {"manager": "sys_user", "location": "cmn_location"},
    "sys_user_group": {"manager": "sys_user", "parent": "sys_user_group"},
    "sys_user_grmember": {"user": "sys_user", "group": "sys_user_group"},
    "sys_user_has_role": {"user": "sys_user", "role": "sys_user_role"},
    "sysapproval_approver": {"sysapproval": "task", "approver": "sys_user", "group": "sysapproval_group"},
    "chg_approval_def": {"group": "sys_user_group", "user": "sys_user"},
    "sttrm_state": {"sttrm_model": "chg_model"},
    "sttrm_state_transition": {"sttrm_model": "chg_model", "from_state": "sttrm_state", "to_state": "sttrm_state"},
    "sttrm_transition_condition": {"sttrm_state_transition": "sttrm_state_transition"},
    "task_sla": {"task": "task", "sla": "contract_sla"},
    "metric_instance": {"definition": "metric_definition"},
    "task_ci": {"task": "task", "ci_item": "cmdb_ci"},
}
JOURNALS = frozenset(("comments", "work_notes", "comments_and_work_notes"))
_INTEGERS = _words(
    "state incident_state problem_state hold_reason impact urgency priority severity notify escalation order "
    "sys_mod_count reassignment_count reopen_count child_incidents related_incidents record_checkpoint sequence "
    "business_stc calendar_stc max_length iteration state_value quantity"
)
_WORDS = frozenset((("sysapproval_approver", "state"), ("sys_user_has_role", "state")))
"""Fields that are words although their name is a number elsewhere."""
_BOOLEANS = _words(
    "active made_sla knowledge known_error major_problem cab_required on_hold unauthorized has_breached inactive "
    "mandatory read_only audit locked_out internal_integration_user web_service_access_only "
    "outside_maintenance_schedule calculation_complete inherited applied added_from_dynamic_ci available_in_ui "
    "default_change_model initial_state automatic_transition published"
)
_DATETIMES = _words(
    "sys_created_on sys_updated_on opened_at closed_at resolved_at reopened_time work_start work_end due_date sla_due "
    "follow_up expected_start activity_due approval_set start_date end_date cab_date requested_by_date "
    "conflict_last_run planned_start_date planned_end_date start_time end_time planned_end_time original_breach_time "
    "pause_time start end applied_date proposed_on promoted_on"
)
_DURATIONS = _words(
    "business_duration calendar_duration time_worked duration pause_duration business_pause_duration time_left "
    "business_time_left"
)
_TASK_DEFAULTS = {
    "active": "true",
    "approval": "not requested",
    "escalation": "0",
    "impact": "3",
    "knowledge": "false",
    "made_sla": "true",
    "priority": "5",
    "reassignment_count": "0",
    "state": "1",
    "sys_domain": "global",
    "sys_domain_path": "/",
    "upon_approval": "proceed",
    "upon_reject": "cancel",
    "urgency": "3",
}
_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "incident": {
        "category": "inquiry",
        "child_incidents": "0",
        "incident_state": "1",
        "notify": "1",
        "reopen_count": "0",
        "severity": "3",
    },
    "problem": {"state": "101", "problem_state": "101", "known_error": "false", "major_problem": "false"},
    "change_request": {"state": "-5", "type": "normal", "on_hold": "false", "unauthorized": "false"},
    "change_task": {"on_hold": "false"},
    "problem_task": {"state": "151", "problem_task_type": "general"},
    "sc_request": {"request_state": "requested"},
    "sc_req_item": {"quantity": "1"},
    "sysapproval_group": {"approval": "requested", "wait_for": "any"},
    "sysapproval_approver": {"state": "not requested"},
    "contract_sla": {"active": "true", "type": "SLA"},
    "chg_approval_def": {"active": "true", "order": "100", "wait_for": "any"},
    "task_ci": {"applied": "false"},
    "sys_user": {"active": "true", "locked_out": "false", "internal_integration_user": "false"},
    "sys_user_group": {"active": "true"},
    "sys_choice": {"language": "en", "inactive": "false"},
}
PREFIXES = {
    "incident": "INC",
    "problem": "PRB",
    "change_request": "CHG",
    "change_task": "CTASK",
    "problem_task": "PTASK",
    "sc_request": "REQ",
    "sc_req_item": "RITM",
    "sc_task": "SCTASK",
    "sysapproval_group": "GAPRV",
    "sn_cim_register": "CIM",
    "sn_cim_task": "CIMTASK",
    "sn_grc_issue": "ISS",
}
_SYSTEM_FIELDS = frozenset((*_SYSTEM.split(), "sys_class_name", "sys_domain", "sys_domain_path"))
_READ_ONLY: Mapping[str, frozenset[str]] = {
    "incident": frozenset(("resolved_at", "resolved_by")),
    "problem": frozenset(("state", "problem_state", "resolution_code", "resolved_at", "resolved_by")),
    "sys_user": frozenset(("user_password",)),
}


def plugin_names() -> list[str]:
    """Plug-ins that an instance may have."""
    return list(_OF_PLUGINS)


def stock_tables(plugins: Iterable[str] = ()) -> dict[str, list[str]]:
    """The tables of an instance with these plug-ins and their columns."""
    tables = {name: stock_columns(name) for name in (*_OF_TASKS, *_OTHERS)}
    for brought in (_OF_PLUGINS[plugin] for plugin in plugins):
        for name, more in brought.items():
            tables[name] = list(dict.fromkeys((*tables.get(name, stock_columns(name)), *more.split())))
    return tables


def stock_columns(table: str) -> list[str]:
    """Columns of ``table`` on a stock instance; of a plug-in's or an own table those that it inherits."""
    if table in _OTHERS:
        return _OTHERS[table].split()
    if is_task(table):
        return list(dict.fromkeys(f"{_TASK} {_OF_TASKS.get(table, '')}".split()))
    return _SYSTEM.split()


def is_task(table: str) -> bool:
    """Whether ``table`` extends task, as every table of the site's own (``u_…``, ``x_…``) does here."""
    return table in _OF_TASKS or table in _PLUGIN_TASKS or table.startswith(("u_", "x_"))


_PLUGIN_TASKS = frozenset(table for brought in _OF_PLUGINS.values() for table in brought)


def is_audited(table: str) -> bool:
    """Whether changes to rows of ``table`` leave a history unless the data says otherwise."""
    return is_task(table) or table == "sysapproval_approver"


def is_journal(table: str, field: str) -> bool:
    """Whether what is written into ``field`` goes to the journal and the field itself stays blank."""
    return field in JOURNALS and is_audited(table)


def reference_of(table: str, field: str) -> str | None:
    """The table that a reference field points to; ``None`` for every other field."""
    if is_task(table):
        return _TASK_REFERENCES.get(field)
    return _OTHER_REFERENCES.get(table, {}).get(field)


def type_of(table: str, field: str) -> str:
    """``internal_type`` as sys_dictionary names it."""
    if field == "sys_id":
        return "GUID"
    if reference_of(table, field):
        return "reference"
    if is_journal(table, field):
        return "journal_input"
    if (table, field) in _WORDS:
        return "string"
    for name, kind in _KINDS:
        if field in name:
            return kind
    return "string"


_KINDS = (
    (_INTEGERS, "integer"),
    (_BOOLEANS, "boolean"),
    (_DATETIMES, "glide_date_time"),
    (_DURATIONS, "glide_duration"),
)


def default_of(table: str, field: str) -> str:
    """What a field holds in a fresh row; the empty string for most."""
    own = _DEFAULTS.get(table, {})
    if field in own:
        return own[field]
    if field == "sys_class_name":
        return table
    return _TASK_DEFAULTS.get(field, "") if is_task(table) else ""


def is_read_only(table: str, field: str) -> bool:
    """Whether a write to ``field`` is dropped without a word."""
    return field in _SYSTEM_FIELDS or field in _READ_ONLY.get(table, ())


def label_of(table: str, field: str) -> str:
    """Column label, as data policies name fields."""
    own = _OF_INCIDENTS.get(field) if table == "incident" else None
    return own or _LABELS.get(field) or field.replace("_", " ").capitalize()


def table_label(table: str) -> str:
    """What people call a record of the table."""
    return _TABLE_LABELS.get(table) or table.replace("_", " ").capitalize()


_OF_INCIDENTS = {"close_code": "Resolution code", "close_notes": "Resolution notes"}
_LABELS = {
    "caller_id": "Caller",
    "ci_item": "Configuration item",
    "cmdb_ci": "Configuration item",
    "correlation_id": "Correlation ID",
    "problem_id": "Problem",
    "rfc": "Change request",
    "sla": "SLA definition",
    "sys_created_on": "Created",
    "sys_created_by": "Created by",
    "sys_updated_on": "Updated",
    "sys_updated_by": "Updated by",
}
_TABLE_LABELS = {
    "cmdb_ci": "Configuration item",
    "sc_req_item": "Requested item",
    "sc_request": "Request",
    "sc_task": "Catalog task",
    "sn_cim_register": "Improvement initiative",
    "sysapproval_approver": "Approval",
    "sysapproval_group": "Group approval",
    "task_sla": "Task SLA",
}
