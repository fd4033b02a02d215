"""Owns the two forms of text, wiki markup (REST v2) and Atlassian documents (v3): each into the other and into HTML.

The site stores text as it was written and converts when it is read. Covers what tickets use: headings, paragraphs,
lists, quotes, code, rules, tables, links, mentions, emphasis; a document that uses more is refused as invalid.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

Node = Mapping[str, Any]
Text = str | Mapping[str, Any]
"""Wiki text, or the outermost node of a document."""

_INLINE = frozenset({"text", "hardBreak", "mention", "emoji", "inlineCard", "date", "status"})
_BLOCKS = frozenset(
    {"paragraph", "heading", "bulletList", "orderedList", "codeBlock", "blockquote", "rule", "panel", "table", "expand"}
)
_CHILDREN: Mapping[str, frozenset[str]] = {
    "doc": _BLOCKS,
    "paragraph": _INLINE,
    "heading": _INLINE,
    "bulletList": frozenset({"listItem"}),
    "orderedList": frozenset({"listItem"}),
    "listItem": frozenset({"paragraph", "bulletList", "orderedList", "codeBlock"}),
    "codeBlock": frozenset({"text"}),
    "blockquote": frozenset({"paragraph", "bulletList", "orderedList", "codeBlock"}),
    "panel": _BLOCKS - {"panel", "table", "expand"},
    "expand": _BLOCKS,
    "table": frozenset({"tableRow"}),
    "tableRow": frozenset({"tableCell", "tableHeader"}),
    "tableCell": _BLOCKS - {"table"},
    "tableHeader": _BLOCKS - {"table"},
}
_MARKS = frozenset({"strong", "em", "code", "strike", "underline", "link", "subsup", "textColor"})


def is_document(value: Any) -> bool:
    """Whether ``value`` is a document that the vendor would accept; an empty text node is not."""
    return isinstance(value, dict) and value.get("type") == "doc" and value.get("version") == 1 and _is_valid(value)


def _is_valid(node: Any) -> bool:
    kind = node.get("type")
    if kind == "text":
        text, marks = node.get("text"), node.get("marks", [])
        return isinstance(text, str) and text != "" and all(_is_valid_mark(mark) for mark in marks)
    content = node.get("content", [])
    if kind == "heading" and node.get("attrs", {}).get("level") not in range(1, 7):
        return False
    if kind in ("bulletList", "orderedList", "listItem") and not content:
        return False
    allowed = _CHILDREN.get(kind, frozenset())
    return all(isinstance(child, dict) and child.get("type") in allowed and _is_valid(child) for child in content)


def _is_valid_mark(mark: Any) -> bool:
    kind = mark.get("type") if isinstance(mark, dict) else None
    return kind in _MARKS and (kind != "link" or isinstance(mark.get("attrs", {}).get("href"), str))


# --- wiki to document -------------------------------------------------------------------------------------------------

_LIST_LINE = re.compile(r"\s*([*#]+|-)\s+(.*)")
_HEADING = re.compile(r"\s*h([1-6])\.\s*(.*)")
_FENCE = re.compile(r"\s*\{(code|noformat)[^}]*\}(.*)")
_ESCAPES = {"\\": "&#92;"}
_INLINE_MARKUP = re.compile(
    r"\\\\(?P<newline>)|&#(?P<entity>\d{2,6});|\\(?P<escaped>[^\w\s]|_)|\{\{(?P<code>.+?)\}\}"
    r"|\[~accountid:(?P<mention>[^\]]+)\]"
    r"|\[(?:(?P<label>(?:\\.|[^\]|\\\[])+)\|)?(?P<href>(?:https?://|mailto:|/)[^\]|\s]+)(?:\|[^\]]*)?\]"
    r"|(?P<url>https?://[^\s\]|<>\"]*[^\s\]|<>\".,;:!?)])"
    r"|(?<![\w\\*])\*(?P<strong>\S(?:[^*\n]*[^\s*\\])?)\*(?!\w)"
    r"|(?<![\w\\_])_(?P<em>\S(?:[^_\n]*[^\s_\\])?)_(?!\w)"
)


def as_document(text: Text | None) -> Node | None:
    """The document form of a stored text."""
    if not isinstance(text, str):
        return text
    return {"type": "doc", "version": 1, "content": list(_blocks(text.replace("\r\n", "\n").split("\n")))}


def _blocks(lines: Sequence[str]) -> Iterator[Node]:
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif fence := _FENCE.match(line):
            block, at = _code_block(lines, at, fence)
            yield block
        elif heading := _HEADING.fullmatch(line):
            yield {"type": "heading", "attrs": {"level": int(heading[1])}, "content": _inline(heading[2])}
            at += 1
        elif re.fullmatch(r"\s*-{4,}\s*", line):
            yield {"type": "rule"}
            at += 1
        elif line.lstrip().startswith("bq. "):
            yield {"type": "blockquote", "content": [_paragraph([line.lstrip()[4:]])]}
            at += 1
        else:
            end = _run(lines, at)
            yield from _several(lines[at:end])
            at = end


def _several(lines: Sequence[str]) -> Iterator[Node]:
    """A run of lines of one kind: a list, a table or a paragraph."""
    kind = _kind(lines[0])
    if kind == "list":
        items = [(found[1], found[2]) for line in lines if (found := _LIST_LINE.fullmatch(line))]
        yield from _lists(items, 1)
    elif kind == "table":
        yield {"type": "table", "content": [_row(line) for line in lines]}
    else:
        yield _paragraph(lines)


def _kind(line: str) -> str:
    if not line.strip() or _FENCE.match(line) or _HEADING.fullmatch(line) or re.fullmatch(r"\s*-{4,}\s*", line):
        return "other"
    if _LIST_LINE.fullmatch(line):
        return "list"
    return "table" if line.lstrip().startswith("|") else "paragraph"


def _run(lines: Sequence[str], at: int) -> int:
    kind = _kind(lines[at])
    end = at + 1
    while end < len(lines) and _kind(lines[end]) == kind and not lines[end].lstrip().startswith("bq. "):
        end += 1
    return end


def _code_block(lines: Sequence[str], at: int, fence: re.Match[str]) -> tuple[Node, int]:
    mark = "{" + fence[1] + "}"
    collected: list[str] = []
    rest, end = fence[2], at + 1
    while mark not in rest and end < len(lines):
        collected.append(rest)
        rest, end = lines[end], end + 1
    collected.append(rest.partition(mark)[0])
    text = "\n".join(collected).strip("\n")
    return {"type": "codeBlock", "content": [{"type": "text", "text": text}] if text else []}, end


def _paragraph(lines: Sequence[str]) -> Node:
    content: list[Node] = []
    for line in lines:
        if content:
            content.append({"type": "hardBreak"})
        content += _inline(line.strip())
    return {"type": "paragraph", "content": content}


def _lists(items: Sequence[tuple[str, str]], depth: int) -> Iterator[Node]:
    at = 0
    while at < len(items):
        mark = items[at][0][depth - 1 : depth] or "*"
        end = at + 1
        while end < len(items) and items[end][0][depth - 1 : depth] == mark:
            end += 1
        kind = "orderedList" if mark == "#" else "bulletList"
        yield {"type": kind, "content": list(_list_items(items[at:end], depth))}
        at = end


def _list_items(items: Sequence[tuple[str, str]], depth: int) -> Iterator[Node]:
    at = 0
    while at < len(items):
        marks, text = items[at]
        end = at + 1
        while end < len(items) and len(items[end][0]) > depth:
            end += 1
        nested = items[at:end] if len(marks) > depth else items[at + 1 : end]
        head = [_paragraph([text])] if len(marks) <= depth else []
        yield {"type": "listItem", "content": [*head, *_lists(nested, depth + 1)]}
        at = end


def _row(line: str) -> Node:
    cells = re.findall(r"(\|\|?)((?:\\.|\[[^\]]*\]|[^|\\])*)", line.strip())
    content = [
        {"type": "tableHeader" if bar == "||" else "tableCell", "content": [_paragraph([text])]}
        for bar, text in cells
        if text.strip()
    ]
    return {"type": "tableRow", "content": content}


def _inline(text: str, marks: tuple[Node, ...] = ()) -> list[Node]:
    nodes: list[Node] = []
    plain = ""
    at = 0
    for found in _INLINE_MARKUP.finditer(text):
        plain += text[at : found.start()]
        at = found.end()
        if literal := _literal(found):
            plain += literal
            continue
        nodes += _text_nodes(plain, marks)
        plain = ""
        nodes += _marked_up(found, marks)
    return [*nodes, *_text_nodes(plain + text[at:], marks)]


def _text_nodes(text: str, marks: tuple[Node, ...]) -> list[Node]:
    if not text:
        return []
    return [{"type": "text", "text": text, **({"marks": list(marks)} if marks else {})}]


def _unescaped(text: str) -> str:
    """Inside code and labels nothing but escapes is markup."""
    return re.sub(r"&#(?P<entity>\d{2,6});|\\(?P<escaped>[^\w\s]|_)", _literal, text)


def _literal(found: re.Match[str]) -> str:
    """The character that an escape or an entity stands for; empty for other markup."""
    if found["entity"]:
        number = int(found["entity"])
        return chr(number) if number < 0xD800 else found[0]
    return found["escaped"] or ""


def _marked_up(found: re.Match[str], marks: tuple[Node, ...]) -> list[Node]:
    kind = str(found.lastgroup)
    if kind == "newline":
        return [{"type": "hardBreak"}]
    if kind == "mention":
        return [{"type": "mention", "attrs": {"id": found["mention"]}}]
    if kind == "code":
        return _text_nodes(_unescaped(found["code"]), (*marks, {"type": "code"}))
    if kind in ("strong", "em"):
        return _inline(found[kind], (*marks, {"type": kind}))
    href = found["href"] or found["url"]
    label = _unescaped(found["label"] or href)
    return _text_nodes(label, (*marks, {"type": "link", "attrs": {"href": href}}))


# --- document to wiki -------------------------------------------------------------------------------------------------


def as_wiki(text: Text | None) -> str | None:
    """The wiki form of a stored text."""
    if text is None or isinstance(text, str):
        return text
    return "\n\n".join(_wiki_block(node, "") for node in text.get("content", ()))


def _wiki_block(node: Node, prefix: str) -> str:
    kind, content = node["type"], node.get("content", ())
    if kind == "heading":
        return f"h{node['attrs']['level']}. {_wiki_inline(content)}"
    if kind in ("bulletList", "orderedList"):
        mark = prefix + ("#" if kind == "orderedList" else "*")
        return "\n".join(_wiki_item(item, mark) for item in content)
    if kind == "codeBlock":
        return "{noformat}\n" + plain_text(node) + "\n{noformat}"
    if kind == "rule":
        return "----"
    if kind == "table":
        return "\n".join(_wiki_row(row) for row in content)
    if kind in ("blockquote", "panel", "expand"):
        return "\n".join("bq. " + _wiki_block(child, "") for child in content)
    return _wiki_inline(content)


def _wiki_item(item: Node, mark: str) -> str:
    lines = []
    for child in item["content"]:
        nested = child["type"] in ("bulletList", "orderedList")
        lines.append(_wiki_block(child, mark) if nested else f"{mark} {_wiki_block(child, '')}")
    return "\n".join(lines)


def _wiki_row(row: Node) -> str:
    cells = [("||" if cell["type"] == "tableHeader" else "|", cell) for cell in row.get("content", ())]
    text = "".join(bar + " ".join(_wiki_block(child, "") for child in cell.get("content", ())) for bar, cell in cells)
    return text + (cells[-1][0] if cells else "")


def _wiki_inline(nodes: Sequence[Node]) -> str:
    return "".join(_wiki_leaf(node) for node in nodes)


def _wiki_leaf(node: Node) -> str:
    if node["type"] == "hardBreak":
        return "\n"
    if node["type"] == "mention":
        return f"[~accountid:{node['attrs']['id']}]"
    if node["type"] != "text":
        return _leaf_text(node)
    marks = {mark["type"]: mark for mark in node.get("marks", ())}
    # two backslashes are a line break, so that a backslash can only be written as an entity
    text = re.sub(r"\\|[*_\[\]{}|]|&(?=#)", lambda found: _ESCAPES.get(found[0], "\\" + found[0]), node["text"])
    if "code" in marks:
        text = "{{" + text + "}}"
    if "link" in marks:
        href = marks["link"]["attrs"]["href"]
        text = f"[{href}]" if href == node["text"] else f"[{text}|{href}]"
    text = f"_{text}_" if "em" in marks else text
    return f"*{text}*" if "strong" in marks else text


# --- document to HTML and to plain words ------------------------------------------------------------------------------

_TAGS = {
    "paragraph": "p",
    "bulletList": "ul",
    "orderedList": "ol",
    "listItem": "li",
    "blockquote": "blockquote",
    "panel": "aside",
    "expand": "section",
    "table": "table",
    "tableRow": "tr",
    "tableCell": "td",
    "tableHeader": "th",
}
_MARK_TAGS = {"strong": "strong", "em": "em", "code": "code", "strike": "s", "underline": "u"}


def as_html(text: Text | None) -> str:
    """Escaped HTML; links only to web and mail addresses and to this site."""
    document = as_document(text)
    return "" if document is None else "".join(map(_html, document.get("content", ())))


def _html(node: Node) -> str:
    kind = node["type"]
    if kind == "text":
        return _html_text(node)
    if kind == "hardBreak":
        return "<br>"
    if kind == "rule":
        return "<hr>"
    inner = "".join(map(_html, node.get("content", ())))
    if kind == "heading":
        level = node["attrs"]["level"]
        return f"<h{level}>{inner}</h{level}>"
    if kind == "codeBlock":
        return f"<pre>{inner}</pre>"
    if kind in _TAGS:
        return f"<{_TAGS[kind]}>{inner}</{_TAGS[kind]}>"
    return escape(_leaf_text(node))


def _html_text(node: Node) -> str:
    html = escape(node["text"])
    for mark in node.get("marks", ()):
        if mark["type"] == "link":
            html = anchor(mark["attrs"]["href"], html)
        elif mark["type"] in _MARK_TAGS:
            html = f"<{_MARK_TAGS[mark['type']]}>{html}</{_MARK_TAGS[mark['type']]}>"
    return html


def anchor(href: str, html: str) -> str:
    """A link around ``html``, or only ``html`` when the address could run something."""
    if not re.match(r"https?://|mailto:|/(?!/)", href):
        return html
    return f'<a href="{escape(href)}">{html}</a>'


def _leaf_text(node: Node) -> str:
    attributes = node.get("attrs", {})
    return str(attributes.get("text") or attributes.get("url") or attributes.get("id") or "")


def plain_text(text: Text) -> str:
    """The words of a text without its markup."""
    return " ".join(_words(as_document(text) or {})).strip()


def _words(node: Node) -> Iterator[str]:
    if node.get("type") == "text":
        yield node["text"]
    for child in node.get("content", ()):
        yield from _words(child)
