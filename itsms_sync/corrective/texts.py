"""Texts of tickets: templates per language become blocks that every tracker can show.

Values are inserted as plain text; no template value is ever read as markup, because blocks have none and each connector
escapes what it writes. Templates are Jinja2 in a sandbox: an admin's text can format values and cannot run code. Of
its language only what takes little time and memory is allowed, and nothing of a template is evaluated to check it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, StringConstraints

from itsms_sync.records import Block, Item
from itsms_sync.sms.strict import Fault, Place, Strict

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_ENVIRONMENT.filters["count"] = lambda number: f"{number:,}"


class TextBlock(Strict):
    """One block: a heading, a paragraph, or bullets over a named list, each item rendered by ``each``."""

    heading: str | None = None
    paragraph: str | None = None
    bullets: str | None = None
    each: str = "{{ text }}"


class TicketText(Strict):
    summary: str
    body: Annotated[tuple[TextBlock, ...], Field(min_length=1)]
    steps: tuple[str, ...] = ()


class CommentText(Strict):
    """An internal comment on a ticket of ours."""

    body: Annotated[tuple[TextBlock, ...], Field(min_length=1)]


class Texts(Strict):
    """All texts of one language."""

    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")]
    ticket: TicketText
    digest: TicketText
    reopened: CommentText
    escalated: CommentText
    unassigned: CommentText
    twin: CommentText

    def problems(self) -> list[Fault]:
        """Templates that do not parse, or name values and lists that there are not."""
        faults: list[Fault] = []
        for name, text in (("ticket", self.ticket), ("digest", self.digest)):
            faults += _template_faults((name, "summary"), text.summary, VALUES[name])
            for index, block in enumerate(text.body):
                faults += _block_faults((name, "body", index), block, VALUES[name])
        for name in COMMENTS:
            for index, block in enumerate(getattr(self, name).body):
                faults += _block_faults((name, "body", index), block, VALUES[name])
        return faults


VALUES = {
    "ticket": frozenset(
        (
            *("key", "process", "owner", "requirement", "procedure", "x", "n", "unknown", "rate", "lower", "upper"),
            *("tolerance", "span", "periods", "kinds", "places", "examples", "shown", "more", "steps"),
        )
    ),
    "digest": frozenset(("process", "owner", "period", "cap", "queued", "observed", "steps")),
    "reopened": frozenset(("key", "closed", "x", "n", "rate", "manager")),
    "escalated": frozenset(("key", "closed", "x", "n", "rate", "manager")),
    "unassigned": frozenset(("key",)),
    "twin": frozenset(("key", "label", "url")),
}
"""What the templates of each text may use; ``evidence`` and ``following`` fill it."""
COMMENTS = ("reopened", "escalated", "unassigned", "twin")

ENTRIES = {
    "periods": frozenset(("name", "x", "n", "rate", "exceeds")),
    "kinds": frozenset(("detail", "number")),
    "places": frozenset(("title", "x", "n", "rate")),
    "examples": frozenset(("label", "url", "at", "detail")),
    "queued": frozenset(("drift", "x", "n", "rate")),
    "observed": frozenset(("drift", "x", "n", "rate", "tolerance")),
    "steps": frozenset(("text",)),
}
"""The lists that bullets can be made of, and what each entry has."""


def _block_faults(place: Place, block: TextBlock, values: frozenset[str]) -> list[Fault]:
    faults = _template_faults((*place, "heading"), block.heading or "", values)
    faults += _template_faults((*place, "paragraph"), block.paragraph or "", values)
    if block.bullets is None:
        return faults
    lists = sorted(values & ENTRIES.keys())
    if block.bullets not in lists:
        return [
            *faults,
            Fault((*place, "bullets"), f"there is no list {block.bullets!r}; there are: {', '.join(lists)}"),
        ]
    return faults + _template_faults((*place, "each"), block.each, values | ENTRIES[block.bullets])


LONGEST_TEMPLATE = 4_000
"""Characters of one template."""
_DEEPEST = 20
"""Levels of conditions and expressions."""
_FILTERS = frozenset(
    (
        *("abs", "capitalize", "count", "default", "first", "int", "join", "last", "length", "lower", "round"),
        *("string", "title", "trim", "truncate", "upper"),
    )
)
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.Filter, nodes.Test),
    *(nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Tuple, nodes.List, nodes.Keyword),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Sub, nodes.Neg),
)


def _template_faults(place: Place, template: str, values: frozenset[str]) -> list[Fault]:
    if len(template) > LONGEST_TEMPLATE:
        return [Fault(place, f"a template has at most {LONGEST_TEMPLATE:,} characters, this one has {len(template):,}")]
    try:
        tree = _ENVIRONMENT.parse(template)
    except TemplateError as error:
        return [Fault(place, f"the template does not parse: {error}")]
    except RecursionError:
        return [Fault(place, "the template is nested too deeply to be read")]
    foreign = next(_foreign(tree, 0), None)
    if foreign is not None:
        return [Fault(place, f"the template does not parse: {foreign}; docs/texts.md tells what there is")]
    used = {name.name for name in tree.find_all(nodes.Name)}
    return [
        Fault(place, f"there is no value {name!r}; docs/texts.md lists what there is") for name in sorted(used - values)
    ]


def _foreign(node: nodes.Node, depth: int) -> Iterator[str]:
    """What a template has that ours do not have: it could run for ever or fill the memory."""
    if depth > _DEEPEST:
        yield f"it has more than {_DEEPEST} levels"
        return
    if not isinstance(node, _ALLOWED):
        yield f"{type(node).__name__} in line {node.lineno} is not allowed: only values, filters and conditions are"
    elif isinstance(node, nodes.Filter) and node.name not in _FILTERS:
        yield f"there is no filter {node.name!r}"
    elif isinstance(node, nodes.Test) and node.name not in _ENVIRONMENT.tests:
        yield f"there is no test {node.name!r}"
    for child in node.iter_child_nodes():
        yield from _foreign(child, depth + 1)


def render(text: TicketText, values: Mapping[str, Any]) -> tuple[str, tuple[Block, ...]]:
    """``(summary, body)``. Lists named by ``bullets`` hold mappings with the values of one item; ``url`` and ``label``
    of an item become a link before its text. A paragraph or list that comes out empty is left out."""
    values = {**values, "steps": [{"text": step} for step in text.steps]}
    return _line(text.summary, values), render_body(text.body, values)


def render_body(body: Sequence[TextBlock], values: Mapping[str, Any]) -> tuple[Block, ...]:
    """The blocks alone, as ``render`` gives them."""
    blocks = [block for template in body for block in _block(template, values)]
    return tuple(_without_empty_sections(blocks))


def _block(template: TextBlock, values: Mapping[str, Any]) -> list[Block]:
    blocks = []
    if template.heading is not None:
        blocks.append(Block("heading", _line(template.heading, values)))
    if template.paragraph is not None:
        blocks.append(Block("paragraph", _line(template.paragraph, values)))
    if template.bullets is not None:
        items = tuple(_item(template.each, values, entry) for entry in values.get(template.bullets, ()))
        blocks.append(Block("bullets", items=items))
    return [block for block in blocks if block.text or block.items]


def _item(template: str, values: Mapping[str, Any], entry: Mapping[str, Any]) -> Item:
    text = _line(template, {**values, **entry})
    if "label" in entry:
        return Item(str(entry["label"]), entry.get("url"), f" – {text}" if text else "")
    return Item(text)


def _line(template: str, values: Mapping[str, Any]) -> str:
    return " ".join(_ENVIRONMENT.from_string(template).render(values).split())


def _without_empty_sections(blocks: Sequence[Block]) -> list[Block]:
    """Drops a heading that nothing follows."""
    followers = [*blocks[1:], Block("heading")]
    return [b for b, after in zip(blocks, followers, strict=False) if b.kind != "heading" or after.kind != "heading"]


def percent(share: float) -> str:
    """``0.0269`` -> ``2.7 %``."""
    return f"{share * 100:.1f} %"


def instant(millis: int) -> str:
    """``2016-05-03 10:12 UTC``."""
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def day(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d")
