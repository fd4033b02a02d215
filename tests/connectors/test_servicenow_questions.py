"""Questions that are too long for an address: whatever is halved, the pages are those of the whole question."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.servicenow.questions import Answer, Question, in_parts
from itsms_sync.connector import Refused, Unavailable

FIELDS = tuple(f"u_field_{place}" for place in range(9))
NAMES = tuple(f"name_{place}" for place in range(8))
ORDER = "^ORDERBYsys_created_on^ORDERBYsys_id"


def row(place: int, second: int, name: str) -> dict[str, str]:
    cells = {name: f"{name} of {place}" for name in FIELDS}
    return {**cells, "sys_id": f"{place:04d}", "sys_created_on": f"10:00:{second:02d}", "fieldname": name}


class Server:
    """A table that answers addresses up to a length; of each page every third row may be hidden after the limit."""

    def __init__(self, rows: list[dict[str, str]], longest: int, *, hiding: bool = False) -> None:
        self.rows = sorted(rows, key=lambda row: (row["sys_created_on"], row["sys_id"]))
        self.longest = longest
        self.hiding = hiding
        self.refused = 0

    def ask(self, question: Question) -> Answer:
        if len(str(replace(question, offset=0))) <= self.longest:  # an address always has room for an offset
            return self.answer(question)
        self.refused += 1
        answer = in_parts(question, self.ask)
        if answer is None:
            raise Refused("too long")
        return answer

    def answer(self, question: Question) -> Answer:
        conditions = question.query.partition("ORDERBY")[0].rstrip("^").split("^NQ")
        found = [row for row in self.rows if any(self.fits(row, group) for group in conditions)]
        page = found[question.offset : question.offset + question.limit]
        shown = [row for place, row in enumerate(page) if not self.hiding or int(row["sys_id"]) % 3]
        cells = [{name: row[name] for name in question.fields} for row in shown]
        total = len(found) if question.counted else None
        return Answer(question, cells, total, len(found) > question.offset + question.limit, "", 0)

    def fits(self, row: Mapping[str, str], group: str) -> bool:
        for condition in filter(None, group.split("^")):
            if "NOT IN" in condition:
                name, _, values = condition.partition("NOT IN")
                fits = row[name] not in values.split(",")
            elif "IN" in condition:
                name, _, values = condition.partition("IN")
                fits = row[name] in values.split(",")
            elif ">" in condition:
                name, _, value = condition.partition(">")
                fits = row[name] > value
            else:
                name, _, value = condition.partition("=")
                fits = row[name] == value
            if not fits:
                return False
        return True


def walked(server: Server, condition: str, fields: tuple[str, ...], limit: int) -> list[dict[str, Any]]:
    """All rows, page behind page as the connector asks for them."""
    found: list[dict[str, Any]] = []
    key: tuple[str, str] | None = None
    while True:
        groups = [""] if key is None else [f"sys_created_on>{key[0]}", f"sys_created_on={key[0]}^sys_id>{key[1]}"]
        query = "^NQ".join("^".join(filter(None, (condition, group))) for group in groups) + ORDER
        answer = server.ask(Question("sys_audit", query, fields, limit, counted=True))
        assert len(answer.rows) <= min(answer.question.limit, limit)
        offset = 0
        while not answer.rows and answer.more:
            offset += answer.question.limit
            answer = server.ask(Question("sys_audit", query, fields, limit, offset))
        found += answer.rows
        if not answer.rows:
            return found
        key = (answer.rows[-1]["sys_created_on"], answer.rows[-1]["sys_id"])


ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(NAMES)), min_size=1, max_size=40
).map(lambda drawn: [row(place, second, name) for place, (second, name) in enumerate(drawn)])  # fmt: skip


@given(ROWS, st.sampled_from(["", "fieldnameIN", "fieldnameNOT IN"]), st.integers(1, 7), st.integers(330, 900))
def test_pages_in_parts_hold_what_whole_pages_hold(
    rows: list[dict[str, str]], operator: str, limit: int, longest: int
) -> None:
    condition = operator and operator + ",".join(NAMES[:6])
    fields = ("sys_id", "sys_created_on", "fieldname", *FIELDS)
    whole = walked(Server(rows, 10_000), condition, fields, limit)
    assert whole == walked(Server(rows, longest), condition, fields, limit)
    keys = [(one["sys_created_on"], one["sys_id"]) for one in whole]
    assert all(former < later for former, later in pairwise(keys))


@given(ROWS, st.sampled_from(["fieldnameIN", "fieldnameNOT IN"]), st.integers(2, 7))
def test_rows_that_are_hidden_after_the_limit_hide_no_others(
    rows: list[dict[str, str]], operator: str, limit: int
) -> None:
    condition = operator + ",".join(NAMES[:6])
    fields = ("sys_id", "sys_created_on", "fieldname")
    whole = walked(Server(rows, 10_000, hiding=True), condition, fields, limit)
    assert whole == walked(Server(rows, 240, hiding=True), condition, fields, limit)


def test_the_field_of_a_list_that_is_left_out_is_not_shown() -> None:
    server = Server([row(1, 1, "name_1"), row(2, 1, "other")], 190)
    question = Question("t", "fieldnameNOT IN" + ",".join(NAMES) + ORDER, ("sys_id", "sys_created_on"), 5, counted=True)
    answer = server.ask(question)
    assert server.refused
    assert ([{"sys_id": "0002", "sys_created_on": "10:00:01"}], 1) == (answer.rows, answer.total)
    assert question.query == answer.question.query


def test_rows_that_change_between_two_parts_are_not_put_together() -> None:
    server = Server([row(1, 1, "a")], 200)
    question = Question("t", "ORDERBYsys_id", ("sys_id", "sys_updated_on", *FIELDS), 5)
    for place, second in enumerate(("1", "2")):
        server.rows[0]["sys_updated_on"] = second
        if place == 0:
            first = server.answer(replace(question, fields=("sys_id", "sys_updated_on", *FIELDS[:4])))
    with pytest.raises(Unavailable, match="rows changed while they were read in parts"):
        in_parts(question, lambda part: first if FIELDS[0] in part.fields else server.answer(part))


def test_a_page_that_only_one_part_had_to_be_cut_for_is_the_shorter_one() -> None:
    server = Server([row(place, place, "a") for place in range(6)], 10_000)
    question = Question("t", "ORDERBYsys_id", ("sys_id", *FIELDS), 4)

    def ask(part: Question) -> Answer:
        return server.answer(replace(part, limit=2) if FIELDS[-1] in part.fields else part)

    answer = in_parts(question, ask)
    assert answer is not None
    assert (["0000", "0001"], True, 2) == ([one["sys_id"] for one in answer.rows], answer.more, answer.question.limit)
    assert all(FIELDS[0] in one and FIELDS[-1] in one for one in answer.rows)


@pytest.mark.parametrize(
    "question",
    [
        Question("t", "ORDERBYsys_id", ("sys_id", "state"), 5),
        Question("t", "nameINa_very_long_name_of_a_field" + ORDER, ("sys_id",), 5),
        Question("t", "nameINname_1,name_2,name_3^ORDERBYDESCsys_created_on", ("sys_id",), 5),
        Question("t", "nameINname_1,name_2,name_3" + ORDER, ("sys_id",), 5, offset=5),
    ],
)
def test_what_has_no_halves_stays_too_long(question: Question) -> None:
    def ask(part: Question) -> Answer:
        raise AssertionError(str(part))

    assert in_parts(question, ask) is None
