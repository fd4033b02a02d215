"""How an explanation is put together and told: events beside saves, long cases, texts of outsiders."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itsms_sync.cli import screen, wording
from itsms_sync.cli.timeline import MOST, Row, folded, gaps_told, grouped, merged, timeline, weight
from itsms_sync.conformance.limits import Tick, TimeLimit
from itsms_sync.conformance.stepwise import Beside, SaveBeside


def event(at: int, field: str = "state", position: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "occurred_at": at,
        "field": field,
        "old": "a",
        "new": "b",
        "actor": "p_1",
        "position": position,
        "witness": "audit",
        "witness_id": f"{field}-{at}-{position}",
        "since": None,
        "learned_at": at,
        "counts": True,
        **more,
    }


def save(at: int, **more: Any) -> SaveBeside:
    told: dict[str, Any] = {
        "at": at,
        "actor": "p_1",
        "human": True,
        "missed": 0,
        "vague": False,
        "version": "1.0",
        "changes": {},
        "state": None,
        "move": None,
        "steps": (),
        "wrong": (),
        **more,
    }
    return SaveBeside(**told)


def beside(*saves: SaveBeside, **more: Any) -> Beside:
    told: dict[str, Any] = {
        "document": "D",
        "version": "1.0",
        "versions": {},
        "starts": (("1.0", 0),),
        "open": True,
        "reason": None,
        "cost": 0,
        "moves": (),
        "words": (),
        "saves": saves,
        "missed_after": 0,
        "limits": (),
        "following": (),
        "ahead": (),
        "outstanding": (),
        **more,
    }
    return Beside(**told)


def verdict(at: int | None, status: str = "deviating") -> Row:
    return {"requirement": "R", "status": status, "detail": "it was late", "reason": None, "occurred_at": at}


# --- events beside saves


def test_events_of_one_place_are_one_save() -> None:
    found = grouped([event(10, "a", 1), event(10, "b", 1), event(10, "c", 2)])
    assert [["a", "b"], ["c"]] == [[one["field"] for one in group] for group in found]


def test_a_note_belongs_to_what_was_saved_with_it() -> None:
    found = grouped([event(20, "note", None), event(10, "a", 1), event(20, "b", 2)])
    assert [["a"], ["note", "b"]] == [[one["field"] for one in group] for group in found]


def test_without_an_order_of_its_own_a_source_is_read_by_time() -> None:
    found = grouped([event(20, "a", 1), event(10, "b", None), event(20, "c", 5)])
    assert [["b"], ["a", "c"]] == [[one["field"] for one in group] for group in found]


def test_each_save_has_its_events_and_their_evidence() -> None:
    rows = timeline(
        beside(save(5), save(10), save(20)), [event(10, "f", 1), event(20, "g", 2)], {"f": "priority"}, [], 30
    )
    assert ["opened", "save", "save"] == [row["kind"] for row in rows]
    assert [[], ["priority"], ["g"]] == [[c["field"] for c in row["changes"]] for row in rows]
    assert [[], ["f-10-1"], ["g-20-2"]] == [[e["witness_id"] for e in row["evidence"]] for row in rows]


def test_an_event_that_fits_no_save_is_not_lost() -> None:
    rows = timeline(beside(save(5), save(20)), [event(4, "f", 1), event(20, "g", 2)], {}, [], 30)
    assert [["f-4-1"], ["g-20-2"]] == [[e["witness_id"] for e in row["evidence"]] for row in rows]


def test_what_no_event_tells_is_told_by_the_values() -> None:
    rows = timeline(beside(save(5), save(10, changes={"state": ("work", "closed")})), [], {}, [], 30)
    assert ["state: work → closed"] == wording.changed(rows[1])


def test_what_came_after_the_judgement_is_apart() -> None:
    rows = timeline(beside(save(5)), [event(40, "f", 1), event(50, "g", 2, counts=False)], {}, [verdict(30)], 30)
    assert ["opened", "verdict", "later"] == [row["kind"] for row in rows]


def test_a_verdict_stands_where_it_was_settled() -> None:
    rows = timeline(beside(save(5), save(10), save(20)), [], {}, [verdict(10), verdict(15), verdict(None)], 30)
    assert [("opened", 0), ("save", 1), ("verdict", 1), ("save", 0)] == [(r["kind"], len(r["verdicts"])) for r in rows]


def test_conforming_verdicts_are_told_in_their_table_only() -> None:
    (row,) = timeline(beside(save(5)), [], {}, [verdict(5, "conforming")], 30)
    assert [] == row["verdicts"]


def test_gaps_and_versions_stand_between_saves() -> None:
    told = beside(save(5), save(20, missed=2), starts=(("1.0", 0), ("2.0", 15)), missed_after=1)
    rows = timeline(told, [event(20, "f", 3)], {}, [], 30)
    assert ["opened", "version", "gap", "save", "gap"] == [row["kind"] for row in rows]
    assert "2 saves between 5 and 20; 1 save after 20" == gaps_told(rows, str)


def test_gaps_without_a_place_are_told_once() -> None:
    told = beside(save(5), save(10, missed=3), save(20, missed=3))
    rows = timeline(told, [event(10, "f"), event(20, "g")], {}, [], 30)
    assert 1 == sum(row["kind"] == "gap" for row in rows)
    assert "3 saves, of which no order is known" == gaps_told(rows, str)


def test_saves_keep_their_order_where_the_clock_went_back() -> None:
    rows = timeline(beside(save(5), save(20), save(10)), [], {}, [verdict(15)], 30)
    assert [5, 20, 10, 15] == [row["at"] for row in rows]
    assert [5, 20, 10, 12, 15] == [row["at"] for row in merged(rows, [{"kind": "part", "at": 12}])]


def test_a_clock_is_told_where_it_turns_and_while_it_runs() -> None:
    ticks = (Tick(0, 0, "running"), Tick(1, 60_000, "stopped"), Tick(2, 60_000, "stopped"))
    limit = TimeLimit("R", "title", "1.0", "stopped", ticks=ticks)
    rows = timeline(beside(save(5), save(10), save(20), limits=(limit,)), [], {}, [], 30)
    assert [["A 0 min"], ["A 1 min, stopped"], []] == [wording.clocks(row, {"R": "A"}) for row in rows]


# --- long cases


def long(*wrong: int, saves: int = 1000) -> list[Row]:
    told = beside(*(save(n, wrong=("x",) if n in wrong else ()) for n in range(saves)))
    return timeline(told, [event(n, "group", n) for n in range(1, saves)], {}, [], saves)


def flat(rows: list[Row]) -> list[Row]:
    return [one for row in rows for one in (row["rows"] if row["kind"] == "fold" else [row])]


def test_of_a_thousand_saves_those_that_need_a_look_are_shown() -> None:
    rows = long(200, 500)
    shown = folded(rows)
    assert rows == flat(shown)
    assert {0, 200, 500, 999} <= {row["number"] for row in shown if row["kind"] != "fold"}
    assert 3 == sum(row["kind"] == "fold" for row in shown)
    first = next(row for row in shown if row["kind"] == "fold")
    assert ["195 more rows", "changed: group (195)"] == wording.changed(first)


def test_a_short_case_is_shown_as_a_whole() -> None:
    rows = long(saves=MOST)
    assert rows == folded(rows)


@given(st.lists(st.sampled_from([1, 2, 3]), max_size=400))
def test_nothing_is_lost_and_little_is_shown(weights: list[int]) -> None:
    kinds = {1: {}, 2: {"steps": ("I1",)}, 3: {"wrong": ("x",)}}
    rows = timeline(beside(*(save(n, **kinds[weight_]) for n, weight_ in enumerate(weights))), [], {}, [], 1000)
    shown = folded(rows)
    assert rows == flat(shown)
    assert len([row for row in shown if row["kind"] != "fold"]) <= MOST
    wrong = [row for row in rows if weight(row) == 3]
    if len(wrong) <= MOST - 10:
        assert wrong == [row for row in shown if row["kind"] != "fold" and weight(row) == 3]
    hidden = sum(row["wrong"] for row in shown if row["kind"] == "fold")
    assert len(wrong) == hidden + sum(weight(row) == 3 for row in shown if row["kind"] != "fold")


def test_what_is_wrong_among_rows_that_were_put_away_is_counted() -> None:
    shown = folded(long(*range(400, 600)))
    (told,) = [text for row in shown if row["kind"] == "fold" for _, text in wording.beside(row)]
    assert told.startswith("something is wrong or missing in ")


# --- texts of outsiders


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe – 日本語 👩‍💻", "Größe – 日本語 👩‍💻"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("one\ntwo\t\r", "one\\ntwo\\t\\r"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("a\xa0b", "a\xa0b"),
        ("\x9b", "\\x9b"),
    ],
)
def test_signs_that_act_are_made_visible(text: str, shown: str) -> None:
    assert shown == screen.plain(text)
    assert {"rows": [{shown: shown, "n": 1}]} == screen.plain({"rows": [{text: text, "n": 1}]})


@given(st.text())
def test_nothing_that_acts_on_a_terminal_is_left(text: str) -> None:
    assert not [sign for sign in screen.plain(text) if ord(sign) < 32 or 127 <= ord(sign) < 160]


def test_a_deadline_is_told_on_the_clock_of_its_site() -> None:
    assert "2016-05-03 12:12:00 CEST (Europe/Berlin)" == screen.local(1_462_270_320_000, "Europe/Berlin")
    assert "–" == screen.local(None, "Europe/Berlin")


# --- words


def test_limits_have_letters_of_their_own() -> None:
    named = wording.letters({"limits": [{"requirement": f"R{n}"} for n in range(60)]})
    assert 60 == len(set(named.values()))
    assert ("A", "Z", "AA") == (named["R0"], named["R25"], named["R26"])


def _limit(**more: Any) -> dict[str, Any]:
    told = {"missing": "", "spent": 60_000, "at_most": 60_000, "left": 120_000, "passed": False, "state": "running"}
    return {**told, "until_deadline": 180_000, **more}


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (_limit(), ["1 min used up", "2 min left on its clock"]),
        (_limit(state="stopped", until_deadline=None), ["1 min used up when it stopped"]),
        (_limit(passed=True, left=-60_000), ["1 min used up", "✗ it was passed"]),
        (_limit(state="paused", until_deadline=None), ["1 min used up", "it stands still; 2 min are left"]),
        (_limit(missing="the calendar 'x' is not described"), ["not known: the calendar 'x' is not described"]),
        (
            _limit(state="not known", at_most=120_000, until_deadline=None),
            [
                "1 min used up",
                "perhaps 2 min: whether it stood still is not known all the time",
                "whether it runs is not known",
            ],
        ),
        (_limit(spent=None, left=None), ["3 min left"]),
    ],
)
def test_a_limit_in_words(limit: Mapping[str, Any], told: list[str]) -> None:
    assert told == wording.limit_told(dict(limit))


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "not known"), ("", "∅"), (True, "yes"), ("text:0123456789ab", "text:01234567…"), (3, "3")],
)
def test_values_in_words(value: Any, told: str) -> None:
    assert told == wording.value(value)


def _rows() -> Iterator[Row]:
    yield {"kind": "save", "move": "both", "state": "work", "steps": ["I5 Work"], "wrong": [], "verdicts": []}
    yield {"kind": "save", "move": "added", "state": "new", "steps": [], "wrong": ["new was added"], "verdicts": []}
    yield {"kind": "save", "move": None, "state": None, "steps": [], "wrong": [], "verdicts": [verdict(1, "unknown")]}


def test_what_stands_in_the_document_in_words() -> None:
    assert [
        [("✓", "I5 Work → state work")],
        [("✗", "state new, not documented here"), ("✗", "new was added")],
        [("?", "R: it was late")],
    ] == [wording.beside(row) for row in _rows()]
