"""The documents say what is so: values of texts, places of promises, layers, links."""

import ast
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from connectors.jira.simulator.faults import KINDS as JIRA
from connectors.servicenow.simulator.faults import KINDS as SERVICENOW
from itsms_sync.configuration import read_document, read_library
from itsms_sync.corrective import evidence, following, texts
from itsms_sync.corrective.decisions import DecidedPeriod, Identity, Opening, PeriodFigures
from itsms_sync.corrective.figures import Period, Share
from itsms_sync.corrective.following import Closed, Later, Reply, Twins, of_twins, writes
from itsms_sync.corrective.texts import CommentText, TextBlock, Texts, TicketText
from itsms_sync.procedures.model import Demand, Procedure
from itsms_sync.records import Ticket, Write

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))])
NAMES = {"process": "Incident management", "owner": "Incident process owner"}
OCTOBER = Period(1_790_812_800_000, 1_793_491_200_000)

# --- docs/texts.md


def section(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of ``docs/texts.md``, without its head."""
    text = (DOCS / "texts.md").read_text("utf-8")
    below = re.split(r"^## ", text.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def quoted(cell: str) -> list[str]:
    """Names in a cell; what stands in parentheses explains them."""
    return re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", cell))


def documented(text: str) -> set[str]:
    return {quoted(row[0])[0] for row in section(f"Values of `{text}`")}


def lists() -> dict[str, set[str]]:
    return {quoted(row[0])[0]: set(quoted(row[1])) for row in section("Entries of the lists")}


@cache
def candidates() -> tuple[str, ...]:
    """Everything that could be the name of a value: each text in the code that makes values."""
    found = set()
    for module in (evidence, texts):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                found.add(node.value)
    return tuple(sorted(found))


def spoken(template: str) -> TicketText:
    return TicketText(summary="x", body=(TextBlock(paragraph=template),), steps=("Look at it.",))


@cache
def procedure() -> Procedure:
    return read_library(ROOT / "mappings").procedures["incident"][-1]


def opening() -> Opening:
    demand = next(r for r in procedure().requirements if r.id == "INC-FLOW")
    identity = Identity("default", "incident", demand.id, demand.check, "all")
    share = Share(1200, 240, 7)
    decided = DecidedPeriod(PeriodFigures(identity, OCTOBER, share), exceeds=True)
    owner = procedure().owner
    return Opening(identity, 1, demand, owner, share, OCTOBER.start, OCTOBER.end, (decided,))


def written(name: str, language: Texts) -> Write:
    """The write of that text, of evidence that fills every list."""
    if name == "ticket":
        examples = [
            evidence.Example(f"INC{number:07d}", f"https://example.com/{number}", OCTOBER.start, "new -> closed")
            for number in range(240)
        ]
        shown = evidence.Shown(examples, [evidence.Place("Network", 300, 90)])
        return evidence.ticket(opening(), procedure(), NAMES, shown, language)
    line = evidence.DigestLine(opening().requirement, 1200, 3)
    return evidence.digest("digest", NAMES, OCTOBER, [line], [line], 5, language)


def said(name: str, template: str) -> str:
    """What a template comes out as in the text of that name."""
    spoken_so = spoken(f"said: {template}")
    language = shipped().model_copy(update={"ticket": spoken_so, "digest": spoken_so})
    return "".join(block.text for block in written(name, language).body).removeprefix("said:").strip()


@cache
def shipped() -> Texts:
    return read_document(ROOT / "mappings" / "texts" / "en.yaml", Texts)


def commented(name: str) -> set[str]:
    """The values with which the comment of that name is worded."""
    names = sorted({value for each in texts.COMMENTS for value in texts.VALUES[each]})
    told = " ".join("{% if " + word + " is defined %}" + word + "{% endif %}" for word in names)
    text = CommentText(body=(TextBlock(paragraph=told),))
    closed = Closed("R.1.g1", OCTOBER.end, int(name == "escalated"), False, None)
    ticket = Ticket("1", "CAPA-1", "https://t.example/1", "R.1.g1", "s", "Open", False, (), {}, 1)
    made = {
        "reopened": lambda: writes(closed, Reply.REOPEN, [Later(Share(9, 1, 0), 0.0)], text, "m"),
        "escalated": lambda: writes(closed, Reply.ESCALATE, [Later(Share(9, 1, 0), 0.0)], text, "m"),
        "unassigned": lambda: [following.unassigned("R.1.g1", text)],
        "twin": lambda: of_twins(Twins("R.1.g1", ticket, ticket), text)[1:],
    }[name]()
    return set(made[0].body[0].text.split())


@pytest.mark.parametrize("name", texts.COMMENTS)
def test_documented_values_of_comments_are_those_that_there_are(name: str) -> None:
    assert documented(name) == commented(name) == texts.VALUES[name]


def available(name: str) -> set[str]:
    tests = " ".join("{% if " + word + " is defined %}" + word + "{% endif %}" for word in candidates())
    return set(said(name, tests).split())


@pytest.mark.parametrize("name", ["ticket", "digest"])
def test_documented_values_are_those_that_texts_may_use(name: str) -> None:
    assert documented(name) == available(name)


@pytest.mark.parametrize("name", ["ticket", "digest"])
def test_check_knows_the_values_that_texts_may_use(name: str) -> None:
    assert texts.VALUES[name] == available(name)


def test_check_knows_the_entries_of_the_lists() -> None:
    assert texts.ENTRIES == {**lists(), "steps": {"text"}}


@pytest.mark.parametrize(("name", "entries"), [(n, e) for n in ("ticket", "digest") for e in sorted(lists())])
def test_documented_entries_are_those_of_the_lists(name: str, entries: str) -> None:
    if entries not in documented(name):
        return
    found = said(name, "{% for entry in " + entries + " %}{{ entry | list | join(' ') }} {% endfor %}")
    assert lists()[entries] == set(found.split())


@pytest.mark.parametrize("name", ["ticket", "digest"])
def test_each_list_is_documented(name: str) -> None:
    word = "{{ NAME if NAME is sequence and NAME is not string }}"
    is_list = {value for value in available(name) if said(name, word.replace("NAME", value))}
    assert is_list == {value for value in lists() if value in documented(name)}


def test_documented_fields_are_those_of_the_documents() -> None:
    fields = {quoted(row[0])[0]: set(quoted(row[1])) for row in section("Fields of `requirement` and `procedure`")}
    assert {"requirement": {*Demand.model_fields, "check"}, "procedure": {*Procedure.model_fields}} == fields


# --- docs/architecture.md


def fenced(document: Path, language: str) -> str:
    """The first block of that language."""
    found = re.search(rf"^```{language}\n(.*?)^```", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def contracts() -> Sequence[Mapping[str, object]]:
    found: Sequence[Mapping[str, object]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    return found


def test_layers_are_those_that_are_enforced() -> None:
    layers = next(contract["layers"] for contract in contracts() if contract["type"] == "layers")
    named = [line.split("  ")[0] for line in fenced(DOCS / "architecture.md", "layers").splitlines()]
    assert layers == named


def test_all_contracts_are_told() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    assert [] == [contract["name"] for contract in contracts() if str(contract["name"]) not in text]


# --- docs/faults.md

NOT_YET = frozenset((44,))
"""Rows without a test: nothing is claimed there."""
REPLICAS = range(13, 16)
"""What several replicas would meet."""


def faults() -> dict[int, list[str]]:
    """The rows of the tables by number."""
    lines = [line for line in (DOCS / "faults.md").read_text("utf-8").splitlines() if re.match(r"\| \d", line)]
    cells = [[cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")] for line in lines]
    assert len(cells) == len({row[0] for row in cells})
    return {int(row[0]): row[1:] for row in cells}


def test_each_row_of_faults_names_its_test_or_that_there_is_none() -> None:
    rows = faults()
    assert {number for number in range(1, 47) if number not in REPLICAS} <= rows.keys()
    proof = re.compile(r"`tests/\S+::\w+`|all three|as 1 and 20")
    assert {number for number, row in rows.items() if not proof.search(row[-1])} == NOT_YET
    assert {number for number, row in rows.items() if "**open**" in row[-2]} == NOT_YET


def test_every_fault_of_the_simulators_is_told() -> None:
    told = {name for row in faults().values() for name in quoted(row[0])}
    assert (SERVICENOW.keys() | JIRA.keys()) - {"status"} == told - {"status", "Date", "kill -9"}


def test_the_scenarios_are_those_that_are_told() -> None:
    text = (DOCS / "simulate.md").read_text("utf-8").partition("## Rules")[0]
    told = {
        (name, system)
        for name, systems in re.findall(r"^\| `([a-z-]+)` \| ([\w, ]+) \|", text, flags=re.MULTILINE)
        for system in systems.lower().split(", ")
    }
    assert {
        (path.stem, path.parent.parent.parent.name) for path in ROOT.glob("connectors/*/simulator/scenarios/*.yaml")
    } == told


# --- all documents

CODE_PATH = re.compile(r"`((?:itsms_sync|connectors|tests|mappings|config|docs|benchmarks)/[\w./-]*)(?:::(\w+))?`")


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_places_exist(document: Path) -> None:
    missing = []
    for path, name in CODE_PATH.findall(document.read_text("utf-8")):
        place = ROOT / path
        if not place.exists() or (name and not re.search(rf"\b{name}\b", place.read_text("utf-8"))):
            missing.append(f"{path} {name}")
    assert [] == missing


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text("utf-8"))
    ours = [link for link in links if "://" not in link]
    assert [] == [link for link in ours if not (document.parent / link).exists()]
