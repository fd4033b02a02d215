"""Pure translation between Jira's shapes and ours, in both directions.

Owns how a ticket carries our key, how an issue becomes a ``Ticket``, and how blocks of text become wiki markup in which
nothing that came from elsewhere can act. Leaves requests to ``transport`` and what to write to ``connector``.

The markup is read by Jira Cloud's own parser. It lets a backslash protect a fixed set of signs only, reads two
backslashes as a line break, and knows no character entities. What a backslash cannot protect is parted by a word joiner
(U+2060), which has no width.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from itsms_sync.records import Block, Facts, Item, Millis, Row, Ticket

PROPERTY = "itsms_sync"
"""Issue property that holds the exact key and the machine-readable facts."""
TICKET_FIELDS = ("summary", "status", "labels", "created")
SUMMARY_LIMIT = 255
BODY_LIMIT = 32_767
_LABEL_DIGITS = 20

Json = Mapping[str, Any]


def translate(kind: str, rows: Sequence[Row]) -> Facts:
    """Facts of no rows are none; there is no kind yet whose rows are read. Raises ``ValueError`` for any row."""
    if rows:
        raise ValueError(f"no rows of kind {kind!r} were ever read from Jira")
    return Facts((), ())


# --- tickets ----------------------------------------------------------------------------------------------------------


def key_label(key: str) -> str:
    """The label by which search finds the key; labels allow no blanks, JQL quotes poorly, so it is a digest."""
    return "itsms-" + hashlib.sha256(key.encode()).hexdigest()[:_LABEL_DIGITS]


def property_value(key: str, properties: Json | None) -> dict[str, Any]:
    """What the issue property holds. Our key prevails over a property of that name."""
    return {**(properties or {}), "key": key}


def ticket(issue: Json, site_url: str) -> Ticket:
    """An issue asked for with ``TICKET_FIELDS`` and ``PROPERTY``. ``KeyError`` or ``TypeError`` if it is none."""
    fields, status = issue["fields"], issue["fields"]["status"]
    stored = (issue.get("properties") or {}).get(PROPERTY)
    facts = dict(stored) if isinstance(stored, Mapping) else {}
    key = facts.pop("key", None)
    return Ticket(
        id=str(issue["id"]),
        label=issue["key"],
        url=browse_url(site_url, issue["key"]),
        key=key if isinstance(key, str) else None,
        summary=fields.get("summary") or "",
        state=status["name"],
        done=status["statusCategory"]["key"] == "done",
        labels=tuple(fields.get("labels") or ()),
        properties=facts,
        created=millis(fields.get("created")),
    )


def browse_url(site_url: str, label: str) -> str:
    """Where a person reads the ticket with this label."""
    return f"{site_url.rstrip('/')}/browse/{quote(label)}"


def millis(stamp: str | None) -> Millis | None:
    """Jira writes ``2026-11-21T10:00:00.000+0100``, in the zone of the account."""
    return None if stamp is None else round(datetime.fromisoformat(stamp).timestamp() * 1000)


# --- text -------------------------------------------------------------------------------------------------------------

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
