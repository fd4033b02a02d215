"""ServiceNow's history in its fall-backs: audit, metrics, what we saw ourselves; each step counted once.

One instance with the seeded desk is read as its account is granted more and more. What is said with less is said with
more as well, and in the end it is what an account says that could read everything from the start.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import Engine, select

from connectors.servicenow.connector import PLUGIN
from connectors.servicenow.simulator import serve
from itsms_sync.configuration import read_library
from itsms_sync.connector import Access
from itsms_sync.guarding import Guarding
from itsms_sync.http import Http, Limits, Stop, Transport
from itsms_sync.ingest import Fields, Ingest, ReadSource
from itsms_sync.judging import Judging
from itsms_sync.procedures.library import Library
from itsms_sync.relating import JudgedSource
from itsms_sync.store import schema
from itsms_sync.store.database import connect
from itsms_sync.store.ingested import Ingested
from tests.seeded import servicenow
from tests.seeded.desk import desk

MAPPINGS = Path(__file__).parents[2] / "mappings"
NOW = 1_900_000_000_000
MEASURED = ("incident", "problem", "change_request", "sc_req_item")
SAID = ("conforming", "deviating")

Verdicts = Mapping[tuple[str, str], tuple[str, str | None, str | None, int | None]]


def _metrics(tables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The spans of states as a definition that was always active would have left them."""
    spans: list[dict[str, Any]] = []
    for kind in MEASURED:
        for record in tables.get(kind, ()):
            changes = sorted(
                (
                    row
                    for row in tables["sys_audit"]
                    if (row["documentkey"], row["fieldname"]) == (record["sys_id"], "state")
                ),
                key=lambda row: int(row["record_checkpoint"]),
            )
            first = changes[0]["oldvalue"] if changes else record["state"]
            values = [(record["sys_created_on"], first), *((c["sys_created_on"], c["newvalue"]) for c in changes)]
            for place, (at, value) in enumerate(values):
                end = values[place + 1][0] if place + 1 < len(values) else ""
                spans.append(
                    {
                        "sys_id": f"{len(spans):032x}",
                        "table": kind,
                        "id": record["sys_id"],
                        "field": "state",
                        "field_value": value,
                        "start": at,
                        "end": end,
                        "calculation_complete": str(bool(end)).lower(),
                        "sys_updated_on": end or at,
                    }
                )
    return spans


class Reader:
    """The program with a database of its own, as far as reading and judging go."""

    def __init__(self, engine: Engine, url: str, library: Library) -> None:
        ingested = Ingested(engine, "desk", "servicenow")
        self.engine, self._now = engine, NOW
        http = Http(
            limits=Limits(), transport=Transport(), monotonic=lambda: 0.0, sleep=lambda seconds: None, stop=Stop()
        )
        credential = {"username": "itsms", "password": "secret"}
        access = Access("desk", url, PLUGIN.check_options({}), http, ingested.border, lambda: credential)
        kinds: dict[str, Fields] = {}
        for one in library.mappings["servicenow"].described():
            before = kinds.get(one.kind, Fields((), frozenset(), frozenset()))
            names = tuple(dict.fromkeys((*before.names, *one.asked_fields())))
            persons, texts = one.fields_of_type("person"), one.fields_of_type("free_text")
            kinds[one.kind] = Fields(names, before.persons | persons, before.texts | texts)
        self._source = ReadSource("desk", PLUGIN.connect(access), PLUGIN, ingested, kinds, 300_000, 1000)
        self._ingest = Ingest(engine, self._clock, lambda *told: None, Guarding(engine, None, None, self._clock))
        self._judging = Judging(engine, library, [JudgedSource("desk", "servicenow", "servicenow", ingested, ())])

    def _clock(self) -> int:
        self._now += 1
        return self._now

    def cycle(self) -> Verdicts:
        report = self._ingest.poll(self._source)
        self._ingest.backfill(self._source, report, lambda: True)
        assert report.problem is None
        self._judging.run(NOW, self._clock())
        v, r = schema.verdict.c, schema.record.c
        with self.engine.begin() as connection:
            rows = connection.execute(
                select(r.label, v.requirement, v.status, v.reason, v.detail, v.occurred_at)
                .join_from(schema.verdict, schema.record)
                # That something does not apply is only said where something else was said before.
                .where(v.superseded_at.is_(None), v.status != "not_applicable")
            )
            return {(label, requirement): tuple(said) for label, requirement, *said in rows}  # type: ignore[misc]

    def gaps(self) -> set[tuple[str, str, str]]:
        g = schema.gap.c
        with self.engine.begin() as connection:
            rows = connection.execute(select(g.stream, g.reason, g.field).where(g.closed_at.is_(None)))
            return {(stream, reason, field) for stream, reason, field in rows}

    def events(self, *witnesses: str) -> list[tuple[str, str, int, str | None]]:
        e, r = schema.event.c, schema.record.c
        with self.engine.begin() as connection:
            rows = connection.execute(
                select(r.native_id, e.field, e.occurred_at, e.new)
                .join_from(schema.event, schema.record)
                .where(e.witness.in_(witnesses))
            )
            return [tuple(row) for row in rows]  # type: ignore[misc]


class Instance:
    """The simulator and what its administrator does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def let(self, **access: Any) -> None:
        requests.patch(f"{self.url}/_sim/access", json=access, timeout=5).raise_for_status()

    def save(self, table: str, sys_id: str, **values: str) -> None:
        requests.patch(
            f"{self.url}/api/now/table/{table}/{sys_id}", json=values, auth=("itsms", "secret"), timeout=5
        ).raise_for_status()

    def save_quietly(self, table: str, sys_id: str, **values: str) -> None:
        body = {"table": table, "by": "system", "sys_id": sys_id, "values": values, "workflow": False}
        requests.post(f"{self.url}/_sim/act", json=body, timeout=5).raise_for_status()


@pytest.fixture(scope="module")
def library() -> Library:
    return read_library(MAPPINGS)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    document = servicenow.tables(desk())
    document["tables"]["metric_instance"] = _metrics(document["tables"])
    path = tmp_path / "desk.json"
    path.write_text(json.dumps(document))
    simulator = serve(data=[path], options={"plugins": "cim,major", "metrics": "true", "data_policy": "false"})
    yield Instance(simulator.url)
    simulator.stop()


@pytest.fixture
def reader(instance: Instance, library: Library, tmp_path: Path) -> Iterator[Callable[[str], Reader]]:
    engines: list[Engine] = []

    def make(name: str) -> Reader:
        engines.append(connect(f"sqlite:///{tmp_path / name}.db"))
        return Reader(engines[-1], instance.url, library)

    yield make
    for engine in engines:
        engine.dispose()


def _open_incident() -> str:
    return next(r["sys_id"] for r in servicenow.tables(desk())["tables"]["incident"] if r["state"] == "2")


def _otherwise(less: Verdicts, more: Verdicts) -> dict[tuple[str, str], tuple[str, str]]:
    """What was said with less and is said otherwise with more."""
    return {k: (v[0], more[k][0]) for k, v in less.items() if v[0] in SAID and k in more and more[k][0] != v[0]}


def test_the_verdicts_in_the_end_are_those_of_an_audit_from_the_start(
    instance: Instance, reader: Callable[[str], Reader]
) -> None:
    slow, sys_id = reader("slow"), _open_incident()
    instance.let(deny_tables=["sys_audit", "metric_instance"])
    seen = slow.cycle()
    refused = {f"{table}:incident" for table in ("sys_audit", "metric_instance")}
    assert refused <= {stream for stream, reason, _ in slow.gaps() if reason == "refused"}
    instance.save("incident", sys_id, state="3", hold_reason="1")
    seen = slow.cycle()
    assert (sys_id, "state", "3") in {(key, field, new) for key, field, _, new in slow.events("snapshot")}

    instance.let(deny_tables=["sys_audit"])
    measured = slow.cycle()
    assert "metric_instance:incident" not in {stream for stream, _, _ in slow.gaps()}

    instance.let(deny_tables=[])
    audited = slow.cycle()
    assert set() == {stream for stream, _, _ in slow.gaps() if stream.startswith(("sys_audit", "metric"))}
    fresh = reader("fresh")
    assert fresh.cycle() == audited
    trail = ("audit", "journal")
    # Each database has pseudonyms and references of its own, so of values only the number is compared.
    fresh_trail, slow_trail = (Counter(told[:3] for told in each.events(*trail)) for each in (fresh, slow))
    assert fresh_trail == slow_trail
    assert {} == _otherwise(seen, audited) == _otherwise(measured, audited)
    told = [sum(said[0] in SAID for said in verdicts.values()) for verdicts in (seen, measured, audited)]
    assert told[0] < told[1] < told[2]


def test_a_metric_of_states_alone_tells_forbidden_transitions(
    instance: Instance, reader: Callable[[str], Reader]
) -> None:
    whole = reader("whole").cycle()
    instance.let(deny_tables=["sys_audit"])
    measured = reader("measured").cycle()
    transitions = {key for key, said in whole.items() if key[1].endswith("FLOW") and said[0] == "deviating"}
    forbidden = {key for key, said in measured.items() if said[0] == "deviating"} & transitions
    assert forbidden == transitions


def test_a_change_without_an_audit_row_is_a_gap_until_the_trail_tells_it(
    instance: Instance, reader: Callable[[str], Reader]
) -> None:
    one, sys_id = reader("one"), _open_incident()
    one.cycle()
    instance.save_quietly("incident", sys_id, state="6")
    one.cycle()
    assert {("incident", "history-incomplete", "state")} == {
        gap for gap in one.gaps() if gap[1] == "history-incomplete"
    }
    # a database that never saw the record before finds the same by the state that its history does not lead to
    other = reader("other")
    assert one.cycle().keys() == other.cycle().keys()
    assert ("incident", "history-incomplete", "state") in other.gaps()
    instance.save_quietly("incident", sys_id, state="2")
    one.cycle()
