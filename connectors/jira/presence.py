"""Which issues are there, and what became of those that no longer are.

Owns the enumeration in the order of creation, which no change of an issue disturbs (an id has no order that both
editions keep in a query), and the look at single issues. An issue that the site does not show was deleted or is hidden
from the account: Jira answers 404 to both and keeps no trail, so that deletion is never concluded here. Leaves the walk
to ``walk`` and the site to ``transport``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.jira.translate import ISSUES
from connectors.jira.transport import Denied, Edition, Site
from connectors.jira.values import moment
from connectors.jira.walk import Cursor, Question, Walk, checked, updated
from itsms_sync.records import Fate, Millis, Presence, Record, What, Window

Json = Mapping[str, Any]

IDS_AT_ONCE = 50
_FIELDS = ("project", "created", "updated")
_HIDDEN = "the site does not show it: deleted, or hidden from the account; Jira does not tell which"


def present(site: Site, projects: tuple[str, ...], cursor: str, overlap: Millis, page_size: int) -> Iterator[Presence]:
    """All issues of the projects that the account sees."""
    walk = Walk(site, Question(projects, _FIELDS, by="created"), Window((), {}, overlap, page_size))
    for batch in walk.pages(Cursor.read(cursor)):
        records = tuple(map(_record, batch.issues))
        yield Presence(records, str(batch.cursor), batch.closed, batch.asked, batch.server_time)


def fates(site: Site, projects: tuple[str, ...], ids: Sequence[str]) -> list[Fate]:
    """What became of each of these issues, in the order of ``ids``."""
    found: dict[str, Fate] = {}
    site.prove()
    for start in range(0, len(ids), IDS_AT_ONCE):
        part = ids[start : start + IDS_AT_ONCE]
        known = _bulk(site, part) if site.edition is Edition.CLOUD else _indexed(site, part)
        found |= {str(issue["id"]): _fate(issue, projects) for issue in known}
    site.confirm()
    return [found.get(id_, Fate(id_, What.UNREADABLE.value, _HIDDEN)) for id_ in ids]


def _bulk(site: Site, ids: Sequence[str]) -> list[Json]:
    """On Cloud, from the database and not from the index of search. Those that are not shown are left out."""
    return site.ask("issue/bulkfetch", {"issueIdsOrKeys": list(ids), "fields": list(_FIELDS)}, checked)


def _indexed(site: Site, ids: Sequence[str]) -> list[Json]:
    """On Data Center, from the index; what that does not show is asked for one by one, since an index may lag."""
    asked = {
        "jql": f"id in ({', '.join(ids)})",
        "fields": list(_FIELDS),
        "maxResults": len(ids),
        "validateQuery": False,
    }
    issues = site.ask("search", asked, checked)
    shown = {str(issue["id"]) for issue in issues}
    return [*issues, *(issue for id_ in ids if id_ not in shown and (issue := _alone(site, id_)) is not None)]


def _alone(site: Site, id_: str) -> Json | None:
    try:
        return site.get(f"issue/{id_}", _single, fields=",".join(_FIELDS))
    except Denied as denial:
        if denial.status != 404:
            raise
        return None


def _single(body: Json) -> Json:
    return checked({"issues": [body]})[0]


def _fate(issue: Json, projects: tuple[str, ...]) -> Fate:
    id_, project = str(issue["id"]), str(issue["fields"]["project"]["key"])
    if project in projects:
        return Fate(id_, What.PRESENT.value, record=_record(issue))
    return Fate(id_, What.MOVED.value, f"it is {issue['key']} now, in the project {project}, which is not read")


def _record(issue: Json) -> Record:
    """Without values: an edit of one moves ``updated``."""
    created = moment(issue["fields"]["created"])
    return Record(ISSUES, str(issue["id"]), str(issue["key"]), created, updated(issue), None, {})
