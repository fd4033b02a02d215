"""What contradicts itself in a procedure, beyond what ``test_settings`` shows in the shipped documents."""

from pathlib import Path

import pytest

from itsms_sync.configuration import read_document
from itsms_sync.procedures.lint import contradictions, never_applicable
from itsms_sync.procedures.model import PriorityByMatrix, Procedure, TrackKept

PROCEDURES = sorted((Path(__file__).parent.parent / "mappings/procedures").glob("*.yaml"))


def shipped(name: str) -> Procedure:
    (path,) = (path for path in PROCEDURES if path.stem == name)
    return read_document(path, Procedure)


@pytest.mark.parametrize("path", PROCEDURES, ids=lambda path: path.stem)
def test_the_shipped_procedures_do_not_contradict_themselves(path: Path) -> None:
    assert list(contradictions(read_document(path, Procedure))) == []


def test_a_limit_for_a_priority_that_no_mapping_makes_is_told() -> None:
    found = list(never_applicable(shipped("incident"), {"priority": {"1", "2", "3"}}))
    assert [fault.message for fault in found] == [
        "it applies to no case: no mapping makes a priority '4', only 1, 2, 3"
    ] * 3
    assert list(never_applicable(shipped("incident"), {"priority": {"1", "2", "3", "4", "5"}})) == []
    assert list(never_applicable(shipped("incident"), {})) == []


def test_a_track_that_needs_what_it_forbids_is_told() -> None:
    change = shipped("change")
    (place,) = (n for n, r in enumerate(change.requirements) if isinstance(r, TrackKept))
    kept = change.requirements[place]
    assert isinstance(kept, TrackKept)
    name, track = next((n, t) for n, t in kept.tracks.items() if t.needs)
    broken = track.model_copy(update={"forbids": (track.needs[0],)})
    requirement = kept.model_copy(update={"tracks": {**kept.tracks, name: broken}})
    others = change.requirements
    changed = change.model_copy(update={"requirements": (*others[:place], requirement, *others[place + 1 :])})
    (fault,) = contradictions(changed)
    assert fault.place == ("requirements", place)
    assert fault.message == f"no case can keep to track {name!r}: it needs {track.needs[0]!r} and forbids it"


def test_two_matrices_for_the_same_cases_contradict_each_other() -> None:
    incident = shipped("incident")
    (matrix,) = (r for r in incident.requirements if isinstance(r, PriorityByMatrix))
    other = matrix.model_copy(update={"id": "INC-OTHER", "matrix": {"1": {"1": "2"}}})
    (fault,) = contradictions(incident.model_copy(update={"requirements": (*incident.requirements, other)}))
    assert "INC-OTHER contradicts INC-PRIORITY" in fault.message
    scoped = other.model_copy(update={"applies": "did_cancel"})
    assert not list(contradictions(incident.model_copy(update={"requirements": (*incident.requirements, scoped)})))


def test_a_short_cut_leads_to_states_too() -> None:
    """``hold`` is left for ``resolved`` by a short cut alone, and that is a way to the end."""
    incident = shipped("incident")
    edges = {**incident.flow.edges, "hold": ("hold",)}
    changed = incident.model_copy(update={"flow": incident.flow.model_copy(update={"edges": edges})})
    assert list(contradictions(changed)) == []


@pytest.mark.parametrize(
    ("id_", "keys", "message"),
    [
        ("CHG-REWORK", {"phases": ("new", "assess", "new")}, "phases are in order: each stands there once"),
        ("CHG-REWORK", {"phases": ("new", "thought")}, "state 'thought' is not documented under flow"),
        ("CHG-C8-UNTOUCHED", {"states": ("shut",)}, "state 'shut' is not documented under flow"),
        ("CHG-C5-CANCELLED", {"work": ("toil",)}, "state 'toil' is not documented under flow"),
        (
            "CHG-C6-LEFT",
            {"tasks": ()},
            "what belongs to a case are tasks or linked cases (roles): name at least one",
        ),
    ],
)
def test_keys_of_a_requirement_that_do_not_fit_are_told(id_: str, keys: dict[str, object], message: str) -> None:
    change = shipped("change")
    changed = [r.model_copy(update=keys) if r.id == id_ else r for r in change.requirements]
    place = next(n for n, r in enumerate(changed) if r.id == id_)
    (fault,) = change.model_copy(update={"requirements": tuple(changed)}).problems()
    assert (fault.place[:2], fault.message) == (("requirements", place), message)
