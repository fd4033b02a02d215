"""Blocks of text as wiki markup in which nothing that came from elsewhere can act, and what Jira holds as plain text.

The markup is read by the site's own parser; what is written here holds for Jira Cloud's. It lets a backslash protect a
fixed set of signs only, reads two backslashes as a line break, and knows no character entities. What a backslash cannot
protect is parted by a word joiner (U+2060), which has no width.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from itsms_sync.records import Block, Item

SUMMARY_LIMIT = 255
BODY_LIMIT = 32_767

_JOINER = "\u2060"
_LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff]")
_LINK_WORD = r"(?:https?|irc|mailto):"
_ACTIVE = re.compile(
    rf"""
      (?P<url>      https?://[A-Za-z0-9._/?\#%&=+,:;$-]* )     # read as one piece, backslashes included
    | (?P<parted>   ^(?=(?:h[1-6]|bq)\.)                       # heading, quote
                  | (?:irc|mailto)(?=:)
                  | :(?=[DPp])                                 # smileys of letters
                  | \\(?!(?!{_LINK_WORD})[A-Za-z0-9]) )        # must protect nothing that follows
    | (?P<escaped>  [{{}}\[\]|*_+^~!-]
                  | ^\#
                  | \?(?=\?) | (?<=\?)\?                       # citation
                  | \((?=[^\s()]{{1,7}}\)) | (?<=:)\( | (?<=[:;])\) )   # smileys
    """,
    re.VERBOSE,
)
_UNSAFE_LINK_TEXT = re.compile(rf"[\[\]|\\]|{_LINK_WORD}")


class Text(NamedTuple):
    text: str
    cut: bool


def plain(text: str) -> str:
    """``text`` without what Jira cannot store: broken surrogates and control signs become U+FFFD."""
    return _UNSENDABLE.sub("\ufffd", _LINE_ENDS.sub("\n", text).replace("\t", " "))


def summary(text: str) -> Text:
    """One line within Jira's limit."""
    line = " ".join(plain(text).split())
    if _size(line) <= SUMMARY_LIMIT:
        return Text(line, False)
    note = " … (cut)"
    return Text(_shortened(line, SUMMARY_LIMIT - len(note)) + note, True)


def markup(blocks: Sequence[Block], limit: int = BODY_LIMIT) -> Text:
    """Wiki markup of ``blocks``, at most ``limit`` UTF-16 units long, which is how Jira counts."""
    lines = [line for block in blocks for line in ("", *_lines(block))][1:]
    whole = "\n".join(lines)
    if _size(whole) <= limit:
        return Text(whole, False)
    note = f"\n\nThis text was cut here: a ticket holds {limit:,} characters at most."
    return Text(_shortened_lines(lines, limit - len(note)) + note, True)


def escaped(line: str) -> str:
    """Markup that shows ``line``, which has no line ends and no outer blanks. Only addresses of web pages act."""
    return _ACTIVE.sub(_inert, line)


def _inert(found: re.Match[str]) -> str:
    if found["escaped"]:
        return "\\" + found[0]
    if found["url"] is None:
        return found[0] + _JOINER
    rest = found.string[found.end() : found.end() + 1]
    return found[0] if rest in ("", " ") else found[0] + _JOINER


def _lines(block: Block) -> Iterator[str]:
    if block.kind == "bullets":
        yield from (f"* {shown}" for item in block.items if (shown := _item(item)))
    elif block.kind == "heading":
        title = " ".join(plain(block.text).split())
        yield from [f"h3. {escaped(title)}"] if title else []
    else:
        yield from (escaped(line.strip()) for line in plain(block.text).strip().split("\n"))


def _item(item: Item) -> str:
    label, note = (re.sub(r"\s+", " ", plain(text)) for text in (item.text, item.note))
    address = _address(item.url or "")
    if not address:
        return escaped((label + note).strip())
    if not label.strip() or _UNSAFE_LINK_TEXT.search(label):
        return f"{escaped(label.strip())} [{address}]{escaped(note)}".strip()
    return f"[{escaped(label.strip())}|{address}]{escaped(note)}".rstrip()


def _address(url: str) -> str:
    """``url`` with nothing in it that markup could read, or nothing if a browser would do more than open it."""
    if not re.match(r"https?://", url):
        return ""
    return quote(plain(url), safe="/:?#=&%+,;$.").replace("~", "%7E")


def _size(text: str) -> int:
    return len(text) + sum(sign > "\uffff" for sign in text)


def _shortened(text: str, limit: int) -> str:
    """The start of ``text`` within ``limit``, up to a blank if there is one in its second half."""
    start = text.encode("utf-16-le")[: 2 * limit].decode("utf-16-le", "ignore")
    blank = start.rfind(" ")
    return (start[:blank] if blank > len(start) // 2 else start).rstrip("\\ ")


def _shortened_lines(lines: Sequence[str], limit: int) -> str:
    """As many whole lines as fit; of a line of prose, which holds no link of ours, also a part."""
    kept: list[str] = []
    left = limit
    for line in lines:
        if _size(line) + 1 > left:
            if not line.startswith(("* ", "h3. ")) and left > 80:
                kept.append(_shortened(line, left - 1))
            break
        kept.append(line)
        left -= _size(line) + 1
    return "\n".join(kept).rstrip()


# --- what Jira holds --------------------------------------------------------------------------------------------------

_INLINE = frozenset(("text", "hardBreak", "mention", "emoji", "date", "status", "inlineCard", "inlineExtension"))
"""Nodes of an Atlassian document that do not begin a line."""


def readable(held: str | Mapping[str, Any] | None) -> str:
    """The words of a text field: of wiki markup as it is written, of an Atlassian document (ADF) without its form."""
    text = _words(held) if isinstance(held, Mapping) else held or ""
    lines = [line.rstrip() for line in _LINE_ENDS.sub("\n", text).split("\n")]
    return "\n".join(lines).strip()


def _words(node: Mapping[str, Any]) -> str:
    """The words of an ADF node; each block begins a line."""
    if node.get("type") == "text":
        return str(node.get("text", ""))
    if node.get("type") == "hardBreak":
        return "\n"
    content = node.get("content")
    if not content:
        attributes = node.get("attrs") or {}
        return str(next((attributes[name] for name in ("text", "shortName", "url") if attributes.get(name)), ""))
    words = ""
    for part in content:
        begins = part.get("type") not in _INLINE and words and not words.endswith("\n")
        words += ("\n" if begins else "") + _words(part)
    return words
