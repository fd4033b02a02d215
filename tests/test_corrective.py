"""Which requirements ask for corrective action, and what a ticket then says."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from math import isclose
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from itsms_sync.corrective import evidence
from itsms_sync.corrective.decisions import (
    DecidedPeriod,
    Decisions,
    Hits,
    Identity,
    Opening,
    PeriodFigures,
    Standing,
    decide,
)
from itsms_sync.corrective.figures import Period, Share, Z, closed_months
from itsms_sync.corrective.texts import CommentText, TextBlock, Texts, TicketText, day, instant, percent, render
from itsms_sync.documents import load
from itsms_sync.procedures.model import Demand, NotReopened, Origin, Procedure, Severity
from itsms_sync.records import Action, Block, Item
from itsms_sync.sms.strict import Fault

MAPPINGS = Path(__file__).parent.parent / "mappings"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# --- shares


@pytest.mark.parametrize(
    ("judged", "deviating", "lower", "upper"),
    [
        # found by bisection of the score equation, not by the closed form that the program uses
        (10, 0, 0.0, 0.212951),
        (10, 10, 0.787049, 1.0),
        (100, 5, 0.024547, 0.099163),
        (1000, 27, 0.019761, 0.036792),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(judged: int, deviating: int, lower: float, upper: float) -> None:
    assert (pytest.approx(lower, abs=2e-6), pytest.approx(upper, abs=2e-6)) == Share(judged, deviating, 3).interval()


@st.composite
def shares(draw: st.DrawFn) -> Share:
    judged = draw(st.integers(0, 100_000))
    return Share(judged, draw(st.integers(0, judged)), draw(st.integers(0, 100)))


@given(shares())
def test_wilson_bounds_are_where_the_score_test_turns(share: Share) -> None:
    """Each inner bound p solves (rate - p)² = z² p (1 - p) / n, which is how Wilson defined it."""
    lower, upper = share.interval()
    assert 0.0 <= lower <= share.rate + 1e-12
    assert share.rate - 1e-12 <= upper <= 1.0
    for bound in (lower, upper) if share.judged else ():
        assert isclose(
            (share.rate - bound) ** 2, Z**2 * bound * (1 - bound) / share.judged, rel_tol=1e-6, abs_tol=1e-15
        )


@given(shares(), st.integers(2, 50))
def test_the_interval_narrows_with_more_cases(share: Share, times: int) -> None:
    assume(share.judged)
    lower, upper = share.interval()
    more = Share(share.judged * times, share.deviating * times, 0).interval()
    assert more[1] - more[0] < upper - lower


@given(shares(), shares())
def test_shares_add_up(one: Share, other: Share) -> None:
    both = one.plus(other)
    assert (one.judged + other.judged, one.deviating + other.deviating, one.unknown + other.unknown) == (
        both.judged,
        both.deviating,
        both.unknown,
    )


@pytest.mark.parametrize(
    ("share", "tolerance", "exceeds"),
    [
        (Share(4, 4, 0), 0.05, False),  # fewer than five, however sure
        (Share(5, 5, 0), 0.05, True),
        (Share(100, 5, 0), 0.05, False),  # the rate is the tolerance
        (Share(100, 10, 0), 0.05, True),
        (Share(100, 9, 0), 0.05, True),
        (Share(100, 8, 0), 0.05, False),  # lower bound 0.0463
        (Share(0, 0, 90), 0.0, False),  # nothing judged proves nothing
    ],
)
def test_exceeds(share: Share, tolerance: float, exceeds: bool) -> None:
    assert exceeds == share.exceeds(tolerance)


# --- periods


@pytest.mark.parametrize(
    ("go_live", "covered", "names"),
    [
        ("2026-03-01", "2026-03-31T23:59:59.999", []),
        ("2026-03-01", "2026-04-01", ["2026-03"]),
        ("2026-03-15", "2026-05-20", ["2026-03", "2026-04"]),
        ("2025-11-30", "2026-02-01", ["2025-11", "2025-12", "2026-01"]),
        ("2024-02-29", "2024-03-01", ["2024-02"]),
        ("2026-05-01", "2026-04-01", []),
    ],
)
def test_closed_months(go_live: str, covered: str, names: list[str]) -> None:
    assert names == [period.name for period in closed_months(at(go_live), at(covered))]


def test_a_go_live_inside_a_month_cuts_it() -> None:
    assert [Period(at("2026-03-15"), at("2026-04-01"))] == list(closed_months(at("2026-03-15"), at("2026-04-30")))


INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)).map(lambda d: at(d.isoformat()))


@given(INSTANTS, INSTANTS)
def test_months_follow_each_other_and_have_ended(go_live: int, covered: int) -> None:
    periods = list(closed_months(go_live, covered))
    starts = [go_live, *(p.end for p in periods)]
    assert starts[:-1] == [p.start for p in periods]
    for period in periods:
        assert period.start < period.end <= covered
        assert (1, 0, 0) == ((end := datetime.fromtimestamp(period.end / 1000, UTC)).day, end.hour, end.microsecond)
    if covered >= go_live:
        assert covered - starts[-1] < timedelta(days=31) / timedelta(milliseconds=1)


# --- decisions


def demand(name: str, severity: str, tolerance: float = 0.05) -> Demand:
    return NotReopened(
        id=name,
        check="CF5",
        title=f"{name} is kept",
        drift=f"{name} is not kept",
        where="section 1",
        clause="8.6.1",
        origin=Origin.OWN,
        severity=Severity(severity),
        tolerance=tolerance,
        why="It matters.",
        proof="Later cases show it.",
    )


DEMANDS = {f"R-{s}": (demand(f"R-{s}", s), "owner") for s in ("S1", "S2", "S3", "S4")}
MONTHS = [Period(at(f"2026-{m:02d}-01"), at(f"2026-{m + 1:02d}-01")) for m in range(1, 10)]
MUCH, LITTLE = Share(100, 30, 2), Share(100, 1, 0)


def identity(requirement: str, scope: str = "all") -> Identity:
    return Identity("default", "incident", requirement, "CF5", scope)


def month(number: int, requirement: str, share: Share, scope: str = "all") -> PeriodFigures:
    return PeriodFigures(identity(requirement, scope), MONTHS[number], share)


def hit(requirement: str, share: Share, scope: str = "all") -> Hits:
    return Hits(identity(requirement, scope), share, MONTHS[0].start)


def decided(
    figures: Sequence[PeriodFigures] = (),
    hits: Sequence[Hits] = (),
    standing: Mapping[Identity, Standing] | None = None,
    open_by_owner: Mapping[str, int] | None = None,
    cap: int = 100,
) -> Decisions:
    return decide(figures, hits, DEMANDS, standing or {}, open_by_owner or {}, cap)


@pytest.mark.parametrize("requirement", ["R-S1", "R-S2"])
def test_one_hit_of_s1_or_s2_is_enough(requirement: str) -> None:
    (opening,) = decided(hits=[hit(requirement, Share(1000, 1, 0))]).openings
    assert (requirement, 1, Share(1000, 1, 0), None) == (
        opening.requirement.id,
        opening.generation,
        opening.share,
        opening.until,
    )


def test_no_hit_opens_nothing() -> None:
    assert () == decided(hits=[hit("R-S1", Share(1000, 0, 50))]).openings


def test_s3_opens_from_the_first_period_that_exceeds() -> None:
    figures = [month(0, "R-S3", LITTLE), month(1, "R-S3", MUCH), month(2, "R-S3", LITTLE)]
    decisions = decided(figures)
    (opening,) = decisions.openings
    assert (MONTHS[1].start, MONTHS[2].end, MUCH.plus(LITTLE)) == (opening.since, opening.until, opening.share)
    assert [False, True, False] == [p.exceeds for p in opening.periods] == [p.exceeds for p in decisions.periods]


@pytest.mark.parametrize("share", [Share(4, 4, 0), Share(100, 8, 0), Share(100, 5, 0)])
def test_s3_within_doubt_opens_nothing_but_is_decided(share: Share) -> None:
    decisions = decided([month(0, "R-S3", share)])
    assert ((), 1) == (decisions.openings, len(decisions.periods))


@pytest.mark.parametrize("requirement", ["R-S1", "R-S2", "R-S4"])
def test_other_severities_open_nothing_by_period(requirement: str) -> None:
    decisions = decided([month(0, requirement, Share(100, 100, 0))])
    assert ((), [False]) == (decisions.openings, [p.exceeds for p in decisions.periods])


def test_a_requirement_that_no_document_knows_any_more_is_not_decided() -> None:
    assert Decisions((), ()) == decided([month(0, "R-GONE", MUCH)])


@pytest.mark.parametrize(
    ("standing", "generations"),
    [(None, [1]), (Standing(1, ended=False), []), (Standing(1, ended=True), [2]), (Standing(7, ended=True), [8])],
)
def test_a_generation_begins_after_the_former_ended(standing: Standing | None, generations: list[int]) -> None:
    stands = {identity(r): standing for r in ("R-S1", "R-S3")} if standing else {}
    by_hit = decided(hits=[hit("R-S1", MUCH)], standing=stands).openings
    by_period = decided([month(0, "R-S3", MUCH)], standing=stands).openings
    assert generations == [o.generation for o in by_hit] == [o.generation for o in by_period]


def test_what_is_worse_goes_first_and_the_rest_waits() -> None:
    figures = [month(0, "R-S3", MUCH, "mild"), month(0, "R-S3", Share(100, 90, 0), "wild")]
    hits = [hit("R-S2", Share(100, 1, 0)), hit("R-S1", Share(1000, 1, 0))]
    openings = decided(figures, hits, open_by_owner={"owner": 1, "another": 9}, cap=4).openings
    assert [
        ("R-S1", "all", False),
        ("R-S2", "all", False),
        ("R-S3", "wild", False),
        ("R-S3", "mild", True),
    ] == [(o.requirement.id, o.identity.scope, o.queued) for o in openings]


REQUIREMENTS = st.sampled_from(sorted(DEMANDS))
SCOPES = st.sampled_from(["all", "mail", "wiki"])
SMALL = st.builds(lambda n, part: Share(n, int(n * part), 0), st.integers(0, 300), st.floats(0, 1))
FIGURES = st.dictionaries(st.tuples(st.integers(0, 8), REQUIREMENTS, SCOPES), SMALL, max_size=25).map(
    lambda found: [month(m, r, share, scope) for (m, r, scope), share in sorted(found.items())]
)
AT_ONCE = st.dictionaries(st.tuples(st.sampled_from(["R-S1", "R-S2"]), SCOPES), SMALL, max_size=6).map(
    lambda found: [hit(r, share, scope) for (r, scope), share in found.items()]
)
STANDING = st.dictionaries(
    st.builds(identity, REQUIREMENTS, SCOPES), st.builds(Standing, st.integers(1, 5), st.booleans())
)


@given(FIGURES, AT_ONCE, STANDING, st.integers(0, 8), st.integers(1, 6))
def test_decisions(
    figures: list[PeriodFigures], hits: list[Hits], standing: dict[Identity, Standing], taken: int, cap: int
) -> None:
    decisions = decided(figures, hits, standing, {"owner": taken}, cap)
    openings = decisions.openings
    assert figures == [p.figures for p in decisions.periods]
    assert len(openings) == len({o.identity for o in openings}) == len({o.key for o in openings})
    assert not any(o.requirement.severity is Severity.S4 for o in openings)
    assert min(len(openings), max(cap - taken, 0)) == sum(not o.queued for o in openings)
    assert sorted(o.requirement.severity for o in openings) == [o.requirement.severity for o in openings]
    assert sorted(o.queued for o in openings) == [o.queued for o in openings]
    for opening in openings:
        before = standing.get(opening.identity)
        assert (before.generation + 1 if before else 1, True) == (opening.generation, before is None or before.ended)
    asked = {h.identity for h in hits if h.share.deviating} | {
        f.identity for f in figures if f.identity.requirement == "R-S3" and f.share.exceeds(0.05)
    }
    assert {i for i in asked if i not in standing or standing[i].ended} == {o.identity for o in openings}


IDENTITIES = st.builds(
    Identity,
    st.from_regex(r"\A[a-z][a-z0-9_]{0,59}\Z"),
    st.from_regex(r"\A[a-z][a-z0-9_]{0,59}\Z"),
    st.from_regex(r"\A[A-Z][A-Z0-9]*(-[A-Z0-9]+)+\Z").filter(lambda t: len(t) <= 50),
    st.sampled_from(["CF1", "TI2"]),
    st.text(max_size=200),
)


@given(IDENTITIES, st.integers(1, 999_999_999))
def test_a_key_is_short_and_begins_with_the_requirement(one: Identity, generation: int) -> None:
    key = one.key(generation)
    assert len(key) <= 80
    assert key.startswith(one.requirement + ".")
    assert key.endswith(f".g{generation}")


@given(IDENTITIES, IDENTITIES, st.integers(1, 9), st.integers(1, 9))
def test_keys_differ_where_identities_or_generations_do(one: Identity, other: Identity, g: int, h: int) -> None:
    assert ((one, g) == (other, h)) == (one.key(g) == other.key(h))


def test_each_part_of_an_identity_is_in_its_key() -> None:
    one = identity("R-S1")
    others = [replace(one, **{name: "R-OTHER"}) for name in ("tenant", "process", "requirement", "check", "scope")]
    assert 6 == len({i.key(1) for i in (one, *others)})


# --- texts


def text(summary: str = "s", *body: TextBlock) -> TicketText:
    return TicketText(summary=summary, body=body or (TextBlock(paragraph="p"),), steps=("first", "second"))


def test_render() -> None:
    template = text(
        "{{ x | count }} of  {{ name }}",
        TextBlock(heading="About {{ name }}", paragraph="folded\n  text"),
        TextBlock(bullets="steps"),
        TextBlock(bullets="links", each="{{ note }}"),
    )
    links = [
        {"label": "INC1", "url": "https://x.example", "note": "late"},
        {"label": "INC2", "url": None, "note": ""},
    ]
    assert (
        "12,345 of Mail",
        (
            Block("heading", "About Mail"),
            Block("paragraph", "folded text"),
            Block("bullets", items=(Item("first"), Item("second"))),
            Block("bullets", items=(Item("INC1", "https://x.example", " – late"), Item("INC2", None, ""))),
        ),
    ) == render(template, {"x": 12345, "name": "Mail", "links": links})


def test_empty_sections_are_dropped() -> None:
    template = text(
        "s",
        TextBlock(heading="kept"),
        TextBlock(paragraph="p"),
        TextBlock(heading="list is empty"),
        TextBlock(bullets="nothing"),
        TextBlock(heading="paragraph is empty"),
        TextBlock(paragraph="{% if false %}x{% endif %}"),
        TextBlock(heading="last"),
    )
    assert (Block("heading", "kept"), Block("paragraph", "p")) == render(template, {"nothing": []})[1]


HOSTILE = st.one_of(
    st.text(),
    st.sampled_from(["{{ 7 * 7 }}", "{% for x in () %}", "{# c #}", "{{ secret }}", "</p><script>", "h1. *x*"]),
)


@given(HOSTILE, HOSTILE)
def test_untrusted_text_stays_text(value: str, label: str) -> None:
    template = text("{{ v }}", TextBlock(paragraph="a {{ v }} b"), TextBlock(bullets="items", each="{{ v }}"))
    summary, body = render(template, {"v": value, "secret": "hidden", "items": [{"label": label, "v": value}]})
    folded = " ".join(value.split())
    assert folded == summary
    assert " ".join(f"a {folded} b".split()) == body[0].text
    assert (label, f" – {folded}" if folded else "") == (body[1].items[0].text, body[1].items[0].note)


def test_a_value_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="nonsense"):
        render(text("{{ nonsense }}"), {})


def test_an_admins_text_runs_no_code() -> None:
    from jinja2.exceptions import SecurityError

    with pytest.raises(SecurityError):
        render(text("{{ ''.__class__.__mro__[1].__subclasses__() }}"), {})


def test_templates_that_do_not_parse_are_told_by_place() -> None:
    wrong = {
        "ticket": text("{{ x", TextBlock(paragraph="fine", bullets="steps", each="{% for %}")),
        "digest": text("fine", TextBlock(heading="{{ y | nofilter }}")),
        "twin": CommentText(body=(TextBlock(paragraph="{{ label"),)),
    }
    texts = load(MAPPINGS / "texts" / "en.yaml", Texts).model_copy(update=wrong)
    assert [
        ("ticket", "summary"),
        ("ticket", "body", 0, "each"),
        ("digest", "body", 0, "heading"),
        ("twin", "body", 0, "paragraph"),
    ] == [fault.place for fault in texts.problems()]
    assert all(isinstance(fault, Fault) and "does not parse" in fault.message for fault in texts.problems())


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ("2.7 %", percent(0.0269)),
        ("100.0 %", percent(1)),
        ("2016-05-03 10:12 UTC", instant(at("2016-05-03T10:12:59"))),
        ("2016-05-03", day(at("2016-05-03T23:59:59"))),
    ],
)
def test_figures_for_people(expected: str, told: str) -> None:
    assert expected == told


# --- tickets


@pytest.fixture(scope="module")
def procedure() -> Procedure:
    return load(MAPPINGS / "procedures" / "incident.yaml", Procedure)


@pytest.fixture(scope="module", params=sorted(p.stem for p in (MAPPINGS / "texts").glob("*.yaml")))
def texts(request: pytest.FixtureRequest) -> Texts:
    return load(MAPPINGS / "texts" / f"{request.param}.yaml", Texts)


NAMES = {"process": "Incident management", "owner": "Incident process owner"}


def by_hit() -> Opening:
    return Opening(identity("R-S1"), 1, DEMANDS["R-S1"][0], "owner", Share(1000, 12, 0), MONTHS[0].start, None, ())


def by_period() -> Opening:
    periods = tuple(DecidedPeriod(month(n, "R-S3", share), share is MUCH) for n, share in enumerate([LITTLE, MUCH]))
    return Opening(
        identity("R-S3"), 2, DEMANDS["R-S3"][0], "owner", MUCH, MONTHS[1].start, MONTHS[1].end, periods, queued=True
    )


def shown(number: int = 12) -> evidence.Shown:
    examples = [
        evidence.Example(f"INC{n}", f"https://x.example/{n}", MONTHS[0].start + n, f"kind {n % 2}")
        for n in range(number)
    ]
    return evidence.Shown(examples, [evidence.Place("Network {{ 1 }}", 40, 9), evidence.Place("Mail", 60, 0)])


def words(body: Sequence[Block]) -> str:
    return "\n".join([b.text + "".join(i.text + i.note for i in b.items) for b in body])


@pytest.mark.parametrize("opening", [by_hit(), by_period()], ids=["hit", "period"])
@pytest.mark.parametrize("cases", [shown(0), shown(1), shown(12)], ids=["none", "one", "many"])
def test_every_shipped_text_tells_every_opening(
    texts: Texts, procedure: Procedure, opening: Opening, cases: evidence.Shown
) -> None:
    assert [] == texts.problems()
    write = evidence.ticket(opening, procedure, {**NAMES, "account": "acc-1"}, cases, texts)
    assert write.properties is not None
    told = words(write.body)
    assert (Action.CREATE, opening.key, "acc-1") == (write.action, write.key, write.assignee)
    assert opening.requirement.severity == write.severity
    assert opening.requirement.drift in (write.summary or "")
    for needed in (
        opening.key,
        opening.requirement.title,
        opening.requirement.proof,
        NAMES["owner"],
        procedure.document,
    ):
        assert needed in told
    assert len(cases.chosen()) == sum(i.url is not None for b in write.body for i in b.items)
    assert (opening.generation, asdict(opening.identity)) == (
        write.properties["generation"],
        write.properties["identity"],
    )


def test_a_ticket_by_period_tells_tolerance_and_months(texts: Texts, procedure: Procedure) -> None:
    told = words(evidence.ticket(by_period(), procedure, NAMES, shown(), texts).body)
    by_first_hit = words(evidence.ticket(by_hit(), procedure, NAMES, shown(), texts).body)
    assert [True, True, False] == ["5.0 %" in told, "2026-02" in told, "2026-02" in by_first_hit]
    assert ["Network {{ 1 }}" in told, "Mail" in told] == [True, False]


@pytest.mark.parametrize("queued", [(), (evidence.DigestLine(DEMANDS["R-S3"][0], 400, 40),)], ids=["none", "queued"])
@pytest.mark.parametrize("observed", [(), (evidence.DigestLine(DEMANDS["R-S4"][0], 200, 3),)], ids=["none", "observed"])
def test_every_shipped_digest(
    texts: Texts, queued: tuple[evidence.DigestLine, ...], observed: tuple[evidence.DigestLine, ...]
) -> None:
    write = evidence.digest("digest.k", NAMES, MONTHS[0], queued, observed, 5, texts)
    told = words(write.body)
    assert [bool(queued), bool(observed)] == ["R-S3" in told, "R-S4" in told]
    assert ("digest.k", "S4", {"digest": "2026-01"}) == (write.key, write.severity, write.properties)


def test_a_frequent_kind_does_not_hide_the_others() -> None:
    often = [evidence.Example(f"A{n}", "u", 100 - n, "often") for n in range(30)]
    rare = [evidence.Example("B0", "u", 5, "rare")]
    cases = evidence.Shown([*often, *rare], [])
    assert ["A0", "B0", *(f"A{n}" for n in range(1, 9))] == [e.label for e in cases.chosen()]
    assert [("often", 30), ("rare", 1)] == cases.kinds()


def test_kinds_are_not_told_where_each_case_is_its_own() -> None:
    assert [] == evidence.Shown([evidence.Example(f"A{n}", "u", n, f"d{n}") for n in range(5)], []).kinds()


@settings(max_examples=30)
@given(st.lists(st.text(), max_size=5), st.dictionaries(st.text(), st.integers()))
def test_the_hash_of_evidence_is_of_what_it_says(cases: list[str], coverage: dict[str, int]) -> None:
    write = evidence.digest("k", NAMES, MONTHS[0], (), (), 5, load(MAPPINGS / "texts" / "en.yaml", Texts))
    one = evidence.frozen(by_period(), write, cases, coverage)
    same = evidence.frozen(by_period(), write, list(cases), dict(reversed(coverage.items())))
    other = evidence.frozen(by_period(), write, [*cases, "x"], coverage)
    assert one.hash == same.hash != other.hash


def test_the_hash_of_evidence_stays_what_it_was() -> None:
    """Frozen evidence is compared years later: neither the order of keys nor the form may change by accident."""
    canonical = '{"a":"ä – {{ x }}","b":[1,2.5,null],"c":{"y":[],"z":true}}'
    content = {"b": [1, 2.5, None], "a": "ä – {{ x }}", "c": {"z": True, "y": []}}
    assert hashlib.sha256(canonical.encode()).hexdigest() == evidence.Frozen(content).hash
