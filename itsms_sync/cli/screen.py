"""What people see in a terminal. Everything printed goes through here; machines get JSON."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from textwrap import fill
from typing import Any, NoReturn
from unicodedata import category

import click

DONE, FINDINGS, USAGE, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: drift found is no failure; 1 is findings of ``check --online`` or ``--fail-on``."""


def say(text: str = "") -> None:
    _clear()
    click.echo(text)


def wrapped(text: str) -> None:
    """A long line, broken where it still reads well."""
    say(fill(text, width=110, subsequent_indent="  ", break_on_hyphens=False))


def head(text: str) -> None:
    """A heading."""
    _clear()
    click.secho(text, bold=True)


def note(text: str) -> None:
    """To the error stream, so that a JSON answer stays clean."""
    _clear()
    click.echo(text, err=True)


def fail(text: str, code: int) -> NoReturn:
    """Says what is wrong and what to do, and ends."""
    _clear()
    click.echo(text, err=True)
    raise SystemExit(code)


def json(value: Any) -> None:
    import orjson

    _clear()
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode())


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    keep: Sequence[str] = (),
    width: int = 200,
    lines: bool = False,
) -> None:
    """A table as wide as the terminal; without a terminal as wide as its content needs, up to ``width``. Columns
    in ``keep`` are not broken; ``lines``: one between each two rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    _clear()
    content = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_lines=lines
    )
    for name in columns:
        justify: Any = "right" if name in right else "left"
        content.add_column(name, justify=justify, overflow="fold", no_wrap=name in keep)
    for row in rows:
        content.add_row(*(_cell(value) for value in row))
    console = Console() if sys.stdout.isatty() else Console(width=width, no_color=True)
    console.print(content)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(str(value))


def alike(gaps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Gaps of one source, stream, field and reason as one row: the first of them, ``count``, how many there are, and
    ``since_at``, when the oldest was noted. One cause often leaves a gap on each record.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for gap in gaps:
        mark = (gap.get("source"), gap["stream"], gap.get("field"), gap["reason"])
        row = found.setdefault(mark, {**gap, "count": 0, "since_at": gap.get("opened_at")})
        row["count"] += 1
        if row["since_at"] is not None:
            row["since_at"] = min(row["since_at"], gap["opened_at"])
    return list(found.values())


def blocks(body: Sequence[Any]) -> None:
    """A ticket's text, as it stands in the tracker."""
    for block in body:
        if block.kind == "heading":
            say()
            head(block.text)
        elif block.kind == "paragraph":
            click.echo(click.wrap_text(block.text, width=100))
        for item in block.items:
            where = f" <{item.url}>" if item.url else ""
            say(f"  - {item.text}{where}{item.note}")


def when(millis: int | None) -> str:
    """``2016-05-03 10:12:00Z``, or a dash."""
    if millis is None:
        return "–"
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def local(millis: int | None, zone: str) -> str:
    """The same on the clock of a site: ``2016-05-03 12:12:00 CEST (Europe/Berlin)``, or a dash."""
    from zoneinfo import ZoneInfo

    if millis is None:
        return "–"
    moment = datetime.fromtimestamp(millis / 1000, ZoneInfo(zone))
    return f"{moment.strftime('%Y-%m-%d %H:%M:%S %Z')} ({zone})"


def plain(value: Any) -> Any:
    """A text of others, in which nothing acts on a terminal or turns the direction of reading; lists and mappings of
    such, too."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(map(_visible, value))
    if isinstance(value, dict):
        return {plain(name): plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


_JOINERS = "\u200c\u200d"
"""Needed to write some languages, and harmless."""


def _visible(sign: str) -> str:
    if sign.isprintable() or sign in _JOINERS or category(sign) == "Zs":
        return sign
    return sign.encode("unicode_escape").decode()


def lasting(millis: int) -> str:
    """A span of time, to one unit: ``42 s``, ``17 min``, ``5 h``, ``12 d``."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if millis >= 2 * length:
            return f"{millis // length} {unit}"
    return f"{max(millis, 0) // 1000} s"


def ahead(skew: int | None) -> str:
    """How the clock of a source stands to ours: ``12 min ahead``, ``2 h behind``, or a dash for less than a second or
    one that was not told."""
    if skew is None or abs(skew) < 1000:
        return "–"
    return f"{lasting(abs(skew))} {'ahead' if skew > 0 else 'behind'}"


def clock_told(name: str, skew: int | None) -> str:
    """A sentence about a clock that is off by minutes; blank for any other."""
    from itsms_sync.clocks import SAID_FROM

    if skew is None or abs(skew) < SAID_FROM:
        return ""
    return (
        f"the clock of {name} is {ahead(skew)}, seen from this machine: one of the two is wrong; set this machine's by "
        "NTP, or tell the administrator of the other. Cases are judged by the clock of their source"
    )


def iso(millis: int | None) -> str | None:
    """The same for machines."""
    if millis is None:
        return None
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_iso(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Instants (names ending in ``_at``) as ISO text."""
    return [{k: iso(v) if k.endswith("_at") and isinstance(v, int) else v for k, v in row.items()} for row in rows]


class Progress:
    """A bar per source that moves while pages come in; quiet where nobody watches, gone when something is said.

    How many rows will come is not known, so the bar only shows that it lives, what is read, and how many rows came.
    """

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._display: Any = None
        self._tasks: dict[str, Any] = {}
        self._rows: dict[str, dict[str, int]] = {}

    def __call__(self, source: str, stream: str, rows: int) -> None:
        if not self._on:
            return
        if self._display is None:
            self._begin()
        if source not in self._tasks:
            self._tasks[source] = self._display.add_task(source, total=None, stream="")
        streams = self._rows.setdefault(source, {})
        streams[stream] = rows
        self._display.update(self._tasks[source], completed=sum(streams.values()), stream=stream)

    def quiet(self) -> None:
        """Shows nothing from now on."""
        self.end()
        self._on = False

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} rows"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stream]}"),
        )
        self._display = Progress(*columns, console=Console(stderr=True), transient=True)
        self._display.start()
        _shown.append(self)

    def end(self) -> None:
        """Takes the bars away; the next page brings new ones."""
        if self._display is not None:
            self._display.stop()
            self._display = None
            self._tasks, self._rows = {}, {}
            _shown.remove(self)


_shown: list[Progress] = []
"""What is on the screen now and has to go before anything else is printed."""


def _clear() -> None:
    for progress in list(_shown):
        progress.end()
