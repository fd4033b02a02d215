"""Forms of Jira's values: what an issue holds and what its history says of it must come out the same."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.jira.history import is_doubtful
from connectors.jira.texts import readable
from connectors.jira.translate import millis, stamp, translate
from connectors.jira.values import Fields, moment, number, shape
from itsms_sync.records import Row, Window

CUSTOM = "com.atlassian.jira.plugin.system.customfieldtypes:"
DESCRIBED: Sequence[Mapping[str, Any]] = [
    {"id": "status", "name": "Status", "schema": {"type": "status", "system": "status"}},
    {"id": "components", "name": "Components", "schema": {"type": "array", "items": "component"}},
    {"id": "fixVersions", "name": "Fix versions", "schema": {"type": "array", "items": "version"}},
    *(
        {"id": f"customfield_{n}", "name": name, "custom": True, "schema": schema}
        for n, name, schema in (
            (1, "Impact", {"type": "option", "custom": CUSTOM + "select"}),
            (2, "Sites", {"type": "array", "items": "option", "custom": CUSTOM + "multiselect"}),
            (3, "Place", {"type": "option-with-child", "custom": CUSTOM + "cascadingselect"}),
            (4, "Cost", {"type": "number", "custom": CUSTOM + "float"}),
            (5, "Start", {"type": "datetime", "custom": CUSTOM + "datetime"}),
            (6, "Day", {"type": "date", "custom": CUSTOM + "datepicker"}),
            (7, "Plan", {"type": "string", "custom": CUSTOM + "textarea"}),
            (8, "Number there", {"type": "string", "custom": CUSTOM + "textfield"}),
            (9, "Approver", {"type": "user", "custom": CUSTOM + "userpicker"}),
            (10, "Approvers", {"type": "array", "items": "user", "custom": CUSTOM + "multiuserpicker"}),
            (11, "Team", {"type": "group", "custom": CUSTOM + "grouppicker"}),
            (12, "Tags", {"type": "array", "items": "string", "custom": CUSTOM + "labels"}),
            (13, "Twin", {"type": "option", "custom": CUSTOM + "select"}),
            (14, "Twin", {"type": "option", "custom": CUSTOM + "select"}),
            (15, "Contact", {"type": "string", "custom": CUSTOM + "textfield"}),
            (16, "Sensor", {"type": "any", "custom": "com.example:sensor"}),
        )
    ),
    *(
        {
            "id": f"customfield_{n}",
            "name": "Severity",
            "custom": True,
            "schema": {"type": "option", "custom": CUSTOM + "select"},
            "scope": {"type": "PROJECT", "project": {"id": project}},
        }
        for n, project in ((17, "1"), (18, "2"))
    ),
]
ALL = tuple(field["id"] for field in DESCRIBED)


class Pseudonyms:
    def person(self, form: str, identifier: str) -> str:
        return f"p({form}:{identifier})"

    def text(self, value: str) -> str:
        return f"t({value})" if value else ""


def fields(*names: str, form: str = "accountId") -> Fields:
    window = Window(names or ALL, {}, 0, 1, frozenset(("customfield_15",)), frozenset(("customfield_1x",)))
    return Fields(window, DESCRIBED, Pseudonyms(), form)


def issue(**held: Any) -> dict[str, Any]:
    at = {"created": "2026-07-01T08:00:00.000+0000", "updated": "2026-07-01T10:00:00.000+1000"}
    return {"id": "7", "key": "ITSM-7", "fields": {"project": {"id": "1", "key": "ITSM"}, **at, **held}}


def held(name: str, value: Any) -> str | None:
    body: Mapping[str, str | None] = fields().row(issue(**{name: value})).body
    return body.get(name)


def changed(item: Mapping[str, Any], form: str = "accountId") -> list[list[Any]]:
    history = {"id": "50", "created": "2026-07-01T09:00:00.000+0000", "items": [item]}
    rows = fields(form=form).history(issue(), [history])
    items: list[list[Any]] = rows[0].body["items"]
    return items


@pytest.mark.parametrize(
    ("name", "value", "text", "item"),
    [
        ("status", {"id": "3", "name": "Open"}, "3", {"to": "3", "toString": "Open"}),
        ("customfield_1", {"id": "10301", "value": "High"}, "10301", {"to": "10301", "toString": "High"}),
        ("customfield_2", [{"id": "12"}, {"id": "11"}], "11,12", {"to": "[12, 11]", "toString": "b,a"}),
        (
            "customfield_3",
            {"id": "21", "child": {"id": "22"}},
            "21/22",
            {"to": "", "toString": "Parent values: EU(21)Level 1 values: DE(22)"},
        ),
        ("customfield_3", {"id": "21", "value": "EU"}, "21", {"to": "21", "toString": "EU"}),
        ("customfield_4", 5.0, "5", {"to": None, "toString": "5.0"}),
        ("customfield_4", 1e-3, "0.001", {"to": None, "toString": "0.001"}),
        (
            "customfield_5",
            "2026-07-01T20:00:00.000+1000",
            "2026-07-01T10:00:00.000+0000",
            {"to": "2026-07-01T10:00:00+0000", "toString": "01/Jul/26 8:00 PM"},
        ),
        ("customfield_6", "2026-07-01", "2026-07-01", {"to": "2026-07-01", "toString": "2026-07-01 00:00:00.0"}),
        ("customfield_7", "Restart\r\nit ", "t(Restart\nit)", {"to": None, "toString": "Restart\nit"}),
        ("customfield_8", "INC0010001", "INC0010001", {"to": None, "toString": "INC0010001"}),
        ("customfield_9", {"accountId": "a1"}, "p(accountId:a1)", {"to": "a1", "toString": "Ann"}),
        (
            "customfield_10",
            [{"accountId": "b"}, {"accountId": "a"}],
            "p(accountId:a),p(accountId:b)",
            {"to": "[b, a]", "toString": "Bo, Ann"},
        ),
        ("customfield_11", {"name": "dba", "groupId": "g-1"}, "g-1", {"to": "g-1", "toString": "dba"}),
        ("customfield_12", ["b", "a"], "a,b", {"to": None, "toString": "b a"}),
        ("customfield_15", "Ann@Example.com", "p(email:ann@example.com)", {"to": None, "toString": "Ann@Example.com"}),
    ],
)
def test_an_issue_and_its_history_agree(name: str, value: Any, text: str, item: Mapping[str, Any]) -> None:
    assert text == held(name, value)
    change = {"field": "x", "fieldtype": "custom", "fieldId": name, "from": None, "fromString": None, **item}
    assert [[0, name, "", text]] == changed(change)


@pytest.mark.parametrize("name", [name for name in ALL if name != "customfield_16"])
def test_nothing_is_nothing(name: str) -> None:
    assert "" == held(name, None)
    if name not in ("components", "fixVersions"):
        item = {"field": "x", "fieldId": name, "from": "", "fromString": "", "to": None, "toString": None}
        assert [[0, name, "", ""]] == changed(item)


def test_people_of_data_center_have_keys() -> None:
    assert "p(key:JIRAUSER1)" == held("customfield_9", {"key": "JIRAUSER1", "name": "ann"})
    item = {"field": "Approver", "fieldtype": "custom", "from": None, "to": "JIRAUSER1", "toString": "Ann"}
    assert [[0, "customfield_9", "", "p(key:JIRAUSER1)"]] == changed(item, form="key")


def test_people_with_several_identifiers_have_one_pseudonym() -> None:
    assert "p(accountId:qm:1)" == held("customfield_9", {"name": "qm:1", "key": "qm:1", "accountId": "qm:1"})


def test_lists_told_one_by_one_are_followed_back() -> None:
    histories = [
        {"id": "9", "created": 1782892800, "items": [{"field": "Component", "from": None, "to": "1"}]},
        {
            "id": "10",
            "created": 1782892900,
            "items": [
                {"field": "Component", "from": "1", "to": None},
                {"field": "Component", "from": None, "to": "3"},
                {"field": "Fix Version", "from": None, "to": "8"},
            ],
        },
    ]
    now = issue(components=[{"id": "2"}, {"id": "3"}], fixVersions=[{"id": "8"}])
    rows = fields("components").history(now, histories[::-1])
    assert [
        ("9", [[0, "components", "2", "1,2"]]),
        ("10", [[0, "components", "1,2", "2"], [1, "components", "2", "2,3"]]),
    ] == [(row.key, row.body["items"]) for row in rows]


def test_a_name_that_two_fields_have_tells_nothing() -> None:
    item = {"field": "Twin", "fieldtype": "custom", "from": "1", "fromString": "a", "to": "2", "toString": "b"}
    both = fields("customfield_13")
    rows = both.history(issue(), [{"id": "9", "created": 1782892800, "items": [item]}])
    assert [["0.customfield_13", "customfield_13", None, None]] == rows[0].body["items"]
    assert [("history-ambiguous", "customfield_13")] == [
        (gap.reason, gap.field) for gap in both.gaps() if gap.reason != "field-not-served"
    ]


def test_a_field_of_a_team_managed_project_is_in_no_other_one() -> None:
    item = {"field": "Severity", "fieldtype": "custom", "from": "1", "fromString": "a", "to": "2", "toString": "b"}
    assert [[0, "customfield_17", "1", "2"]] == changed(item)


def test_without_field_ids_stock_fields_are_told_from_custom_ones_of_that_name() -> None:
    status = {"field": "status", "fieldtype": "jira", "from": "1", "fromString": "a", "to": "3", "toString": "b"}
    assert [[0, "status", "1", "3"]] == changed(status)
    assert [] == changed({**status, "fieldtype": "custom"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", {"name": "Open"}),
        ("customfield_1", {"value": "High"}),
        ("customfield_3", "EU"),
        ("customfield_4", {"sum": 5}),
        ("customfield_5", "soon"),
        ("customfield_9", {"displayName": "Former user"}),
        ("customfield_9", {"accountId": "unknown"}),
        ("customfield_9", "mia"),
        ("customfield_10", [{"accountId": "a"}, {"accountId": "unknown"}]),
        ("customfield_11", {"self": "x"}),
        ("customfield_16", {"reading": 5}),
        ("customfield_16", [["5"], {"reading": 5}]),
    ],
)
def test_what_cannot_be_told_is_unknown_and_stops_nothing(name: str, value: Any) -> None:
    assert held(name, value) is None


@pytest.mark.parametrize(
    "side", [{"to": "unknown", "toString": "Former user"}, {"to": None, "toString": "Former user"}], ids=str
)
def test_people_that_nothing_tells_apart_are_unknown(side: Mapping[str, Any]) -> None:
    item = {"field": "x", "fieldId": "customfield_9", "from": "", "fromString": "", **side}
    assert [[0, "customfield_9", "", None]] == changed(item)
    history = {"id": "9", "created": 1782892800, "author": {"displayName": "Former user"}, "items": []}
    assert fields().history(issue(), [history])[0].body["author"] is None


def test_a_history_of_hundreds_of_items_is_one_save() -> None:
    items = [
        {"field": "x", "fieldId": "customfield_8", "fromString": str(n), "toString": str(n + 1)} for n in range(400)
    ]
    (row,) = fields().history(issue(), [{"id": "9", "created": 1782892800, "items": items}])
    events = translate("issue", [row]).events
    assert [(f"9.{n}", str(n), str(n + 1)) for n in range(400)] == [(e.witness_id, e.old, e.new) for e in events]


def test_an_unreadable_side_is_unknown() -> None:
    item = {"field": "x", "fieldId": "customfield_5", "from": "soon", "fromString": "soon", "to": "", "toString": ""}
    assert [[0, "customfield_5", None, ""]] == changed(item)
    label_only = {"field": "x", "fieldId": "customfield_1", "from": None, "fromString": "High", "to": "1"}
    assert [[0, "customfield_1", None, "1"]] == changed(label_only)


@pytest.mark.parametrize("field", ["summary", "description", "environment"])
def test_stock_texts_are_texts_whatever_the_mapping_says(field: str) -> None:
    assert "text" == shape(field, {"type": "string"}).base


def test_links_are_told_by_type_and_direction() -> None:
    links = [
        {"type": {"id": "10502"}, "inwardIssue": {"id": "9"}},
        {"type": {"id": "10502"}, "inwardIssue": {"id": "8"}},
        {"type": {"id": "10502"}, "outwardIssue": {"id": "7"}},
        {"type": {"id": "10505"}, "outwardIssue": {"id": "6"}},
    ]
    names = ("link.10502.inward", "link.10502.outward", "link.10503.inward")
    body = fields(*names).row(issue(issuelinks=links)).body
    assert ["8,9", "7", ""] == [body[name] for name in names]
    assert "issuelinks" in fields(*names).asked


# --- texts ------------------------------------------------------------------------------------------------------------


def test_a_document_is_read_as_its_words() -> None:
    text = {"type": "text", "text": "Hi "}
    document = {
        "type": "doc",
        "version": 1,
        "content": [
            {"type": "heading", "content": [{"type": "text", "text": "Plan"}]},
            {"type": "paragraph", "content": [text, {"type": "mention", "attrs": {"id": "1", "text": "@Mia"}}]},
            {
                "type": "bulletList",
                "content": [
                    {
                        "type": "listItem",
                        "content": [{"type": "paragraph", "content": [{"type": "text", "text": word}]}],
                    }
                    for word in ("one", "two")
                ],
            },
            {
                "type": "paragraph",
                "content": [text, {"type": "hardBreak"}, {"type": "emoji", "attrs": {"shortName": ":x:"}}],
            },
            {"type": "paragraph"},
        ],
    }
    assert "Plan\nHi @Mia\none\ntwo\nHi\n:x:" == readable(document)
    assert "" == readable({"type": "doc", "version": 1, "content": []}) == readable(None)


def test_wiki_text_is_read_as_it_is_written() -> None:
    assert "h3. Plan\n* one" == readable("h3. Plan \r\n* one\n\n")


# --- instants and numbers ---------------------------------------------------------------------------------------------


@given(st.integers(10**12, 4 * 10**12))
def test_instants_come_back(at: int) -> None:
    assert at == millis(stamp(at)) == moment(stamp(at)) == moment(at)
    assert at // 1000 * 1000 == moment(at // 1000) == moment(str(at // 1000))


@pytest.mark.parametrize("wrong", ["", "soon", None, [], "2026-13-01T00:00:00.000+0000"])
def test_what_is_no_instant_is_an_error(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        moment(wrong)


@pytest.mark.parametrize(("given_", "text"), [(5, "5"), (100.0, "100"), ("5.50", "5.5"), (0, "0"), ("much", None)])
def test_numbers_are_decimal_texts(given_: Any, text: str | None) -> None:
    assert text == number(given_)


# --- doubt ------------------------------------------------------------------------------------------------------------


def history(id: int, old: str, new: str, at: int = 1782893000) -> dict[str, Any]:
    return {"id": str(id), "created": at, "items": [{"field": "status", "from": old, "to": new}]}


@pytest.mark.parametrize(
    ("histories", "doubtful"),
    [
        ([], True),
        ([history(1, "1", "2"), history(2, "2", "3")], False),
        ([history(10, "2", "3"), history(9, "1", "2")], False),
        ([history(1, "1", "2")], True),
        ([history(1, "1", "2"), history(2, "4", "3")], True),
        ([history(1, "1", "3"), history(2, "3", "5", at=1782899999)], False),
    ],
)
def test_histories_that_do_not_join_are_doubted(histories: Sequence[Mapping[str, Any]], doubtful: bool) -> None:
    at = {"created": 1782892800, "updated": 1782893600}
    assert doubtful is is_doubtful({"fields": {**at, "status": {"id": "3"}}}, histories)


def test_an_issue_that_was_only_created_is_no_reason_for_doubt() -> None:
    assert not is_doubtful({"fields": {"created": 1782892800000, "updated": 1782892800400}}, [])


# --- facts ------------------------------------------------------------------------------------------------------------


def test_a_save_without_what_was_asked_for_has_a_witness_of_its_own() -> None:
    body = {"issue": "7", "created": "2026-07-01T09:00:00.000+0000", "author": None, "items": []}
    asked = {**body, "items": [[3, "status", "1", "2"]]}
    events = translate("issue", [Row("issue:changelog", "50", body), Row("issue:changelog", "50", asked)]).events
    assert [("50", "", 50), ("50.3", "status", 50)] == [(e.witness_id, e.field, e.order) for e in events]
