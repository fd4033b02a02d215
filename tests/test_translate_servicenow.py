"""Raw rows to facts, and what may be stored of a row."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.servicenow.columns import Columns, stripped
from connectors.servicenow.translate import label_field, literal, millis, plain, record_url, shown, translate
from itsms_sync.records import Event, Facts, Record, Row

NOON = 1783252800000
"""2026-07-05 12:00:00 UTC"""


class MirrorBorder:
    """Writes identifiers and texts backwards, so that a test sees both that and how they were replaced."""

    def person(self, form: str, identifier: str) -> str:
        return f"{form}:{identifier[::-1]}"

    def text(self, value: str) -> str:
        return f"text:{value[::-1]}" if value else ""


def columns(persons: tuple[str, ...] = (), texts: tuple[str, ...] = ()) -> Columns:
    return Columns(MirrorBorder(), frozenset(persons), frozenset(texts))


def audit_row(**changes: object) -> Row:
    body = {
        "sys_id": "a1",
        "documentkey": "i1",
        "fieldname": "state",
        "oldvalue": "1",
        "newvalue": "",
        "user": "p_1",
        "record_checkpoint": "7",
        "sys_created_on": "2026-07-05 12:00:00",
        "tablename": "incident",
    }
    return Row("sys_audit:incident", "a1", {name: v for name, v in {**body, **changes}.items() if v is not None})


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "raw"),
    [
        ("3", "3"),
        ("", ""),
        (None, None),
        ({"link": "https://h/api/now/table/sys_user/6816", "value": "6816"}, "6816"),
        ({"display_value": "Closed", "value": "7"}, "7"),
        ({"display_value": "Beth", "link": "https://h/api/now/table/sys_user/9d38"}, "9d38"),
        ({"display_value": "On Hold"}, "On Hold"),
        ({"display_value": "", "value": ""}, ""),
        ({"display_value": None, "value": None}, None),
        (True, "true"),
        (12, "12"),
    ],
)
def test_plain_is_the_raw_value_in_every_shape(cell: object, raw: str | None) -> None:
    assert raw == plain(cell)


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ({"display_value": "Closed", "value": "7"}, "Closed"),
        ({"display_value": "", "value": "7"}, "7"),
        ({"display_value": None, "value": ""}, ""),
        ("7", "7"),
        (None, None),
    ],
)
def test_shown_is_the_label_where_there_is_one(cell: object, label: str | None) -> None:
    assert label == shown(cell)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31, 23, 59, 59)))
def test_millis_reads_what_python_reads_and_literal_writes_it_back(at: datetime) -> None:
    text = at.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")
    expected = int(at.replace(microsecond=0, tzinfo=UTC).timestamp()) * 1000
    assert expected == millis(text)
    assert text == literal(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        "2026-07-05",
        "2026-07-05T12:00:00",
        "2026-02-30 12:00:00",
        "2026-07-05 24:00:00",
        "2026-07-05 12:60:00",
        "2026-W01-1 12:00:00",
        "05.07.2026 12:00:00",
        "２０２６-07-05 12:00:00",
        "2026-07-05 12:00:00.0",
        "x" * 19,
    ],
)
def test_millis_refuses_what_is_no_raw_instant(text: str | None) -> None:
    assert millis(text) is None


@given(st.text(max_size=24))
def test_millis_never_raises(text: str) -> None:
    assert millis(text) is None or len(text) == 19


# --- facts -----------------------------------------------------------------------------------------------------------


def test_an_audit_row_is_one_event_in_the_record_s_own_order() -> None:
    expected = Event("i1", "state", "1", "", NOON, "p_1", "audit", "a1", 7)
    assert Facts([], [expected]) == translate("incident", [audit_row()])


@pytest.mark.parametrize("checkpoint", [None, "", "x"])
def test_an_event_without_a_checkpoint_has_no_order(checkpoint: str | None) -> None:
    assert [None] == [event.order for event in translate("incident", [audit_row(record_checkpoint=checkpoint)]).events]


def test_a_blank_user_is_no_actor_and_an_undelivered_value_is_unknown() -> None:
    (event,) = translate("incident", [audit_row(user="", oldvalue=None)]).events
    assert (None, None, "") == (event.actor, event.old, event.new)


def test_a_save_of_an_unnamed_field_is_an_event_without_content() -> None:
    body = {"sys_id": "a2", "documentkey": "i1", "record_checkpoint": "8", "sys_created_on": "2026-07-05 12:00:00"}
    facts = translate("incident", [Row("sys_audit:incident:saves", "a2", body)])
    assert Facts([], [Event("i1", "", None, None, NOON, None, "audit", "a2", 8)]) == facts


def test_a_record_keeps_raw_values_and_shows_what_was_not_delivered() -> None:
    body = {
        "sys_id": "i1",
        "number": "INC0010001",
        "sys_created_on": "2026-07-05 11:59:00",
        "sys_updated_on": "2026-07-05 12:00:00",
        "sys_mod_count": "4",
        "state": "3",
        "close_code": "",
    }
    (record,) = translate("incident", [Row("incident", "i1", body)]).records
    assert Record("incident", "i1", "INC0010001", NOON - 60_000, NOON, 4, body) == record
    assert "close_notes" not in record.fields


def test_a_record_without_number_counter_or_birth_is_still_one() -> None:
    (record,) = translate("task_sla", [Row("task_sla", "s1", {"sys_updated_on": "2026-07-05 12:00:00"})]).records
    assert ("s1", None, None) == (record.label, record.created, record.version)


@pytest.mark.parametrize("kind", ["sysapproval_approver", "task_sla", "task_ci"])
def test_a_record_without_a_number_goes_by_that_of_its_task(kind: str) -> None:
    body = {"sys_updated_on": "2026-07-05 12:00:00", label_field(kind): "CHG0030001", "number": "none of its own"}
    assert ["CHG0030001"] == [record.label for record in translate(kind, [Row(kind, "s1", body)]).records]


def note_row(**changes: object) -> Row:
    body = {
        "sys_id": "n1",
        "name": "incident",
        "element": "comments",
        "element_id": "i1",
        "value": "text:1",
        "sys_created_on": "2026-07-05 12:00:00",
        "sys_created_by": "p_1",
    }
    return Row("sys_journal_field:incident", "n1", {name: v for name, v in {**body, **changes}.items() if v != "-"})


def test_a_note_is_an_event_that_has_no_order_of_its_own() -> None:
    expected = Event("i1", "comments", "", "text:1", NOON, "p_1", "journal", "n1", None)
    assert Facts([], [expected]) == translate("incident", [note_row()])


@pytest.mark.parametrize(
    ("changes", "new", "actor"),
    [
        ({"value": "-"}, None, "p_1"),
        ({"sys_created_by": "-"}, "text:1", None),
        ({"sys_created_by": ""}, "text:1", None),
    ],
)
def test_what_a_note_does_not_show_is_unknown(changes: dict[str, object], new: str | None, actor: str | None) -> None:
    (event,) = translate("incident", [note_row(**changes)]).events
    assert (new, actor) == (event.new, event.actor)


@pytest.mark.parametrize(
    "row",
    [
        audit_row(sys_created_on="yesterday"),
        audit_row(documentkey=""),
        audit_row(fieldname=None),
        Row("incident", "i1", {"sys_updated_on": ""}),
        Row("sys_audit:incident:saves", "a2", {"sys_created_on": "2026-07-05 12:00:00"}),
        Row("sys_audit:problem", "a3", audit_row().body),
        note_row(sys_created_on="yesterday"),
        note_row(element_id=""),
        note_row(element="-"),
        Row("sys_journal_field:problem", "n2", note_row().body),
    ],
)
def test_a_broken_or_foreign_row_is_no_fact(row: Row) -> None:
    assert Facts([], []) == translate("incident", [row])


@given(st.lists(st.sampled_from("12"), max_size=12), st.integers(0, 12))
def test_rows_mean_the_same_in_whatever_pages_they_come(values: list[str], cut: int) -> None:
    rows = [audit_row(newvalue=value, record_checkpoint=str(place)) for place, value in enumerate(values)]
    first, second, whole = (translate("incident", part) for part in (rows[:cut], rows[cut:], rows))
    assert whole.events == [*first.events, *second.events]


@pytest.mark.parametrize(
    "name", ["GET__200", "POST__201", "sys_id__GET__200", "sys_id__PATCH__200", "sys_id__PUT__200"]
)
def test_recorded_bodies_of_a_real_instance_pass_unharmed(name: str, shared: Callable[[str], Path]) -> None:
    body = orjson.loads(shared(f"data/recorded/servicenow/tableName__{name}.json").read_bytes())["result"]
    for cells in body if isinstance(body, list) else [body]:
        (record,) = translate("incident", [Row("incident", cells["sys_id"], cells)]).records
        expected = {key: cell["value"] if isinstance(cell, dict) else cell for key, cell in cells.items()}
        assert expected == record.fields
        assert (cells["number"], int(cells["sys_mod_count"])) == (record.label, record.version)
        assert record.created is not None
        assert record.created <= record.updated


def test_recorded_bodies_mean_the_same_with_display_values(shared: Callable[[str], Path]) -> None:
    (cells, *_) = orjson.loads(shared("data/recorded/servicenow/tableName__GET__200.json").read_bytes())["result"]
    both = {key: {"display_value": "shown", "value": plain(cell)} for key, cell in cells.items()}
    (raw,), (displayed,) = (
        translate("incident", [Row("incident", cells["sys_id"], body)]).records for body in (cells, both)
    )
    assert raw == displayed


def test_the_address_of_a_record_is_its_form() -> None:
    assert "https://h/nav_to.do?uri=incident.do%3Fsys_id%3Dabc" == record_url("https://h/", "incident", "abc", "INC1")


# --- what may be stored ----------------------------------------------------------------------------------------------

SECRET = "geheim"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("caller_id", "sys_id:mieheg"),
        ("resolved_by", "sys_id:mieheg"),
        ("sys_updated_by", "user_name:mieheg"),
        ("short_description", "text:mieheg"),
        ("close_notes", "text:mieheg"),
        ("backout_plan", "text:mieheg"),
        ("special_instructions", "text:mieheg"),
        ("review_comments", "text:mieheg"),
        ("approver", "sys_id:mieheg"),
        ("requested_by", "sys_id:mieheg"),
        ("requested_for", "sys_id:mieheg"),
        ("opened_by", "sys_id:mieheg"),
        ("cab_delegate", "sys_id:mieheg"),
        ("sysapproval.number", SECRET),
        ("sysapproval.requested_by", "sys_id:mieheg"),
        ("duration", SECRET),
        ("u_anything", SECRET),
        ("x_acme_reviewed_by", SECRET),
        ("caller_id.name", "text:mieheg"),
        ("parent.assigned_to", "sys_id:mieheg"),
        ("state", SECRET),
        ("hold_reason", SECRET),
        ("caused_by", SECRET),
        ("assignment_group", SECRET),
        ("close_code", SECRET),
    ],
)
def test_stock_columns_are_known(name: str, expected: str) -> None:
    assert {name: expected} == columns().record_body((name,))({name: SECRET})
    assert name in columns().record_body((name,))({name: ""})


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, "4"),
        ({"persons": ("u_state",)}, "sys_id:4"),
        ({"texts": ("u_state",)}, "text:4"),
    ],
)
def test_a_column_of_the_customers_holds_what_the_mapping_says(
    declared: dict[str, tuple[str, ...]], expected: str
) -> None:
    assert {"u_state": expected} == columns(**declared).record_body(("u_state",))({"u_state": "4"})


def test_each_person_of_a_list_has_a_pseudonym_of_their_own() -> None:
    body = columns().record_body(("watch_list",))({"watch_list": "ab,c@d.e,"})
    assert {"watch_list": "sys_id:ba,email:e.d@c,"} == body


def test_links_and_names_beside_a_person_do_not_pass() -> None:
    cell = {"display_value": "Beth Anglin", "link": f"https://h/api/now/table/sys_user/{SECRET}", "value": SECRET}
    assert {"caller_id": "sys_id:mieheg"} == columns().record_body(("caller_id",))({"caller_id": cell})
    assert {"caller_id": SECRET} == stripped({"caller_id": cell})


def test_values_in_an_audit_row_are_replaced_by_the_column_that_changed() -> None:
    body = columns().audit_body(("assigned_to", "close_notes", "state"))
    row = {"user": "beth", "oldvalue": "ab", "newvalue": "cd"}
    changed = [body({**row, "fieldname": name}) for name in ("assigned_to", "close_notes", "state")]
    expected = [("sys_id:ba", "sys_id:dc"), ("text:ba", "text:dc"), ("ab", "cd")]
    assert expected == [(one["oldvalue"], one["newvalue"]) for one in changed]
    assert {"user_name:hteb"} == {one["user"] for one in changed}


def test_a_note_is_stored_without_its_author_and_words() -> None:
    row = {"element": "comments", "value": "ab", "sys_created_by": {"display_value": "Beth", "value": "beth"}}
    expected = {"element": "comments", "value": "text:ba", "sys_created_by": "user_name:hteb"}
    assert expected == columns().journal_body(row)
    assert {"value": "", "sys_created_by": ""} == columns().journal_body({"value": "", "sys_created_by": ""})


def test_an_undelivered_cell_of_an_audit_row_stays_undelivered() -> None:
    assert {"fieldname": "close_notes", "newvalue": ""} == columns().audit_body(("close_notes",))(
        {"fieldname": "close_notes", "newvalue": ""}
    )
