"""The whole history of each issue of a page, or a gap that says that it is cut.

Owns how histories are asked for in both editions, and the doubt about what comes. Cloud tells them for many issues at
once, in pages of which none says how many there are; Data Center puts them into the search. A history that was cut may
look whole: a capped list can name its own length as the total. Only the resource of the single issue tells the truth,
and asking it for each issue would be a request per issue and poll. So it is asked where there is reason to doubt:

- the site counts more than came;
- the issue was changed after its creation, and nothing came;
- the changes of status do not join, or do not lead to the present one;
- the history ended where a page of histories ended;
- for the longest one of each page in any case, because caps hit the longest first.

If one of them was cut, every issue of the page is asked. What is missing then is fetched, and what cannot be had is a
gap on that record.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from connectors.jira.translate import HISTORY
from connectors.jira.transport import Edition, Site
from connectors.jira.values import moment, order
from itsms_sync.connector import Unavailable
from itsms_sync.records import Gap

Json = Mapping[str, Any]
Known = dict[str, dict[str, Json]]
"""Issue -> history's id -> history."""

BULK = 1000
"""Issues of one question, and histories of one answer."""
EXPAND = "changelog"
_PAGE = 100
_CREATION_MS = 1000
"""A save this soon after the creation belongs to it."""


class Histories:
    """Reads histories through ``site``."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def of(self, issues: Sequence[Json]) -> tuple[Mapping[str, Sequence[Json]], list[Gap]]:
        """The histories of each issue by its id. The issues were asked for with ``created``, ``updated`` and, on Data
        Center, with ``expand=changelog``.
        """
        if not issues:
            return {}, []
        cloud = self._site.edition is Edition.CLOUD
        known, doubted = self._bulk(issues) if cloud else _expanded(issues)
        doubted |= {id for issue in issues if is_doubtful(issue, known[id := str(issue["id"])].values())}
        doubted.add(max(known, key=lambda id: len(known[id])))
        short: dict[str, int] = {}
        cut = [self._completed(id, known, short) for id in sorted(doubted)]
        if any(cut):
            for id in sorted(known.keys() - doubted):
                self._completed(id, known, short)
        return {id: list(histories.values()) for id, histories in known.items()}, list(_gaps(issues, known, short))

    def _bulk(self, issues: Sequence[Json]) -> tuple[Known, set[str]]:
        """All histories, and the issues at borders of pages. Fields are not filtered: a save of any of them counts."""
        known: Known = {str(issue["id"]): {} for issue in issues}
        asked: dict[str, Any] = {"issueIdsOrKeys": list(known), "maxResults": BULK}
        borders: set[str] = set()
        tokens: set[str] = set()
        while True:
            logs, token = self._site.ask("changelog/bulkfetch", asked, _bulk_page)
            for id, histories in logs:
                if id not in known:
                    raise Unavailable(f"histories came of issue {id}, which nobody asked for; try again later")
                known[id].update((str(history["id"]), history) for history in histories)
            if token is None:
                return known, borders
            if token in tokens:
                raise Unavailable("the pages of histories do not end; try again later")
            tokens.add(token)
            borders.update(id for id, _ in logs[-1:])
            asked = {**asked, "nextPageToken": token}

    def _completed(self, id: str, known: Known, short: dict[str, int]) -> bool:
        """Ask for the single issue and add what was missing; whether something was.

        If more is counted than can be had, the count goes to ``short``.
        """
        before = len(known[id])
        histories, total = self._single(id)
        known[id].update((str(history["id"]), history) for history in histories)
        if len(known[id]) < total:
            short[id] = total
        return len(known[id]) > before or id in short

    def _single(self, id: str) -> tuple[list[Json], int]:
        """All that can be had, and how much there is."""
        if self._site.edition is not Edition.CLOUD:
            return self._site.get(f"issue/{id}", lambda body: _log(body["changelog"]), fields="created", expand=EXPAND)
        found: list[Json] = []
        while True:
            page, total = self._site.get(f"issue/{id}/changelog", _values, startAt=len(found), maxResults=_PAGE)
            found += page
            if not page or len(found) >= total:
                return found, total


def _expanded(issues: Sequence[Json]) -> tuple[Known, set[str]]:
    """What came with the issues themselves, and the issues of which more is counted than came."""
    logs = {str(issue["id"]): _log(issue["changelog"]) for issue in issues}
    known: Known = {id: {str(one["id"]): one for one in histories} for id, (histories, _) in logs.items()}
    return known, {id for id, (_, total) in logs.items() if len(known[id]) < total}


def is_doubtful(issue: Json, histories: Iterable[Json]) -> bool:
    """Whether these histories cannot be all: there are none of an issue that was changed, or they do not join."""
    updated, created = (moment(issue["fields"][name]) for name in ("updated", "created"))
    seen = [history for history in histories if moment(history["created"]) <= updated]
    return not _joins(seen, issue["fields"]) if seen else updated - created > _CREATION_MS


def _joins(histories: Sequence[Json], fields: Json) -> bool:
    """Whether each change of status begins where the one before it ended, and the last one leads to the present."""
    ends: list[tuple[str, str]] = [
        (str(item.get("from")), str(item.get("to")))
        for history in sorted(histories, key=lambda one: order(one["id"]))
        for item in history["items"]
        if (item.get("fieldId") or (item["field"] if item.get("fieldtype") != "custom" else "")) == "status"
    ]
    present = str(fields["status"]["id"]) if fields.get("status") else None
    starts = [start for start, _ in ends[1:]] + [present or (ends[-1][1] if ends else "")]
    return all(end == start for (_, end), start in zip(ends, starts, strict=False))


def _gaps(issues: Sequence[Json], known: Known, short: Mapping[str, int]) -> Iterator[Gap]:
    for issue in issues:
        id, label = str(issue["id"]), issue["key"]
        histories = known[id].values()
        if id in short:
            what = f"{len(histories)} of {short[id]} histories of {label} can be read; the rest stays unknown"
            yield Gap(HISTORY, "history-cut", what, record=id)
        elif histories and is_doubtful(issue, histories):
            what = f"the changes of status of {label} do not join: something is missing in Jira's own history of it"
            yield Gap(HISTORY, "history-cut", what, record=id)


def _bulk_page(body: Json) -> tuple[list[tuple[str, list[Json]]], str | None]:
    logs = [(str(log["issueId"]), list(log["changeHistories"])) for log in body["issueChangeLogs"]]
    for _, histories in logs:
        _check(histories)
    token = body.get("nextPageToken")
    return logs, str(token) if token else None


def _values(body: Json) -> tuple[list[Json], int]:
    return _check(list(body["values"])), int(body["total"])


def _log(body: Json) -> tuple[list[Json], int]:
    return _check(list(body["histories"])), int(body["total"])


def _check(histories: list[Json]) -> list[Json]:
    """``KeyError``, ``TypeError`` or ``ValueError`` if one of them has not its documented form."""
    for history in histories:
        moment(history["created"])
        if not history["id"] or not all(item["field"] for item in history["items"]):
            raise ValueError("a history without an id, or an item without a field")
    return histories
