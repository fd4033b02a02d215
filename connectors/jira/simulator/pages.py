"""Owns the pages that people open in a browser: one per ticket and an overview. Everything shown is escaped."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import urlsplit

from connectors.jira.simulator.configuration import CATEGORIES, Field, Named
from connectors.jira.simulator.markup import anchor, as_html
from connectors.jira.simulator.representation import Representation
from connectors.jira.simulator.service_levels import cycles, levels
from connectors.jira.simulator.site import Cycle, Issue, Site

_SHOWN_ISSUES = 500
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, sans-serif; color: #1d2433; background: #f6f7f9; margin: 0; }
header { background: #fff; border-bottom: 1px solid #dde1e7; padding: .7rem 0; }
header > *, main { max-width: 66rem; margin: 0 auto; padding: 0 1.2rem; }
main { padding-top: 1.2rem; padding-bottom: 3rem; }
header a { color: #44546f; text-decoration: none; font-weight: 600; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: .2rem 0 1rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
.text h1, .text h2, .text h3, .text h4, .text h5, .text h6 { font-size: 1rem; margin: 1.1rem 0 .3rem; }
.text p { margin: .5rem 0; } .text > :first-child { margin-top: 0; } .text > :last-child { margin-bottom: 0; }
.text table { margin: .7rem 0; } .text td p, .text th p { margin: 0; } time, td:first-child a { white-space: nowrap; }
.text ul, .text ol { margin: .4rem 0; padding-left: 1.5rem; } .text li p { margin: .1rem 0; }
pre { background: #f1f2f4; padding: .7rem; overflow-x: auto; } code { background: #f1f2f4; padding: 0 .25rem; }
a { color: #0b57c2; } .quiet { color: #5b6575; }
.card { background: #fff; border: 1px solid #dde1e7; border-radius: 6px; padding: .9rem 1.1rem; margin: 0 0 .8rem; }
table { border-collapse: collapse; border: 1px solid #dde1e7; width: 100%; background: #fff; }
th, td { text-align: left; vertical-align: top; padding: .45rem .7rem; border: 1px solid #dde1e7; }
th { background: #f1f2f4; font-weight: 600; }
.facts { display: grid; grid-template-columns: 1fr 1fr; column-gap: 2.5rem; margin: 0; padding: .5rem 1.1rem; }
.facts div { display: grid; grid-template-columns: 11rem 1fr; padding: .3rem 0; border-bottom: 1px solid #eceef2; }
.facts dt { color: #5b6575; } .facts dd { margin: 0; }
@media (max-width: 50rem) { .facts { grid-template-columns: 1fr; } }
.save td { border-bottom-style: none; border-top-style: none; } .save.first td { border-top-style: solid; }
.badge { display: inline-block; border-radius: 4px; padding: 0 .45rem; }
.badge { font-size: .85rem; font-weight: 600; white-space: nowrap; }
.new { background: #e3e6eb; color: #3b475c; } .indeterminate { background: #dceafd; color: #0b48a0; }
.done, .approved { background: #d8f3e2; color: #14603a; } .declined, .breached { background: #fde3e1; color: #8a1f11; }
.pending { background: #fff1cc; color: #6b4e00; } .undefined, .label { background: #eceef2; color: #3b475c; }
.internal { background: #fff7dd; border-color: #ecd98a; }
"""


def overview(site: Site, shown: Representation) -> bytes:
    """All projects with the issues that were touched last."""
    by_project: dict[str, list[Issue]] = {key: [] for key in site.configuration.projects}
    for issue in site.issues():
        by_project[issue.project].append(issue)
    parts = ["<h1>All issues</h1>"]
    for key, issues in by_project.items():
        name = site.configuration.projects[key].name
        count = "1 issue" if len(issues) == 1 else f"{len(issues)} issues"
        parts.append(f"<h2>{escape(name)} <span class=quiet>{escape(key)}, {count}</span></h2>")
        parts.append(_issue_table(site, issues, shown))
    return _page("Jira (simulated)", "".join(parts), _start(shown), str(shown.zone))


def _issue_table(site: Site, issues: list[Issue], shown: Representation) -> str:
    newest = sorted(issues, key=lambda issue: (-issue.values["updated"], -issue.id))[:_SHOWN_ISSUES]
    if not newest:
        return "<p class=quiet>No issues yet.</p>"
    rows = [
        [
            _to_issue(issue, shown),
            escape(site.configuration.types[issue.values["issuetype"]].name),
            escape(issue.values["summary"]),
            _badge(site.configuration.statuses[issue.values["status"]]),
            _person(site, issue.values.get("assignee")),
            _when(shown, issue.values["updated"]),
        ]
        for issue in newest
    ]
    more = f"<p class=quiet>{len(issues) - len(newest)} older ones not shown.</p>" if len(issues) > len(newest) else ""
    return _table(("Key", "Type", "Summary", "Status", "Assignee", "Updated"), rows) + more


def ticket(site: Site, issue: Issue, shown: Representation) -> bytes:
    """One issue with its text, facts, links, comments and history."""
    values = issue.values
    description = as_html(values.get("description")) or "<p class=quiet>No description.</p>"
    parts = [
        f"<p class=quiet>{_kind(site, issue, shown)}</p><h1>{escape(values['summary'])}</h1>",
        _facts(site, issue, shown),
        f"<h2>Description</h2><div class='card text'>{description}</div>",
        _texts(site, issue),
        _approvals(site, issue, shown),
        _clocks(site, issue, shown),
        _subtasks(site, issue, shown),
        _links(site, issue, shown),
        _comments(site, issue, shown),
        _history(site, issue, shown),
    ]
    return _page(f"[{issue.key}] {values['summary']}", "".join(parts), _start(shown), str(shown.zone))


def missing(path: str, start: str = "") -> bytes:
    """``start``: the context path."""
    sentence = f"There is nothing at {escape(path)}. <a href='{escape(start)}/'>All issues</a>"
    return _page("Not found", f"<h1>Not found</h1><p>{sentence}</p>", start)


def _start(shown: Representation) -> str:
    """Context path, which every address of the site has in front."""
    return urlsplit(shown.site_url).path


def _page(title: str, body: str, start: str, zone: str = "") -> bytes:
    """``zone``: in which the page's times are."""
    times = f" <span class=quiet>times in {escape(zone)}</span>" if zone else ""
    return (
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><header><div><a href='{escape(start)}/'>Jira (simulated)</a>{times}</div></header>"
        f"<main>{body}</main></body></html>"
    ).encode()


def _kind(site: Site, issue: Issue, shown: Representation) -> str:
    project = site.configuration.projects[issue.project].name
    kind = site.configuration.types[issue.values["issuetype"]].name
    parent = site.issue(str(issue.values["parent"])) if issue.values.get("parent") else None
    above = f" · part of {_to_issue(parent, shown)}" if parent else ""
    former = f" · was {escape(', '.join(issue.former_keys))}" if issue.former_keys else ""
    return f"{escape(project)} · {escape(kind)} · <b>{escape(issue.key)}</b>{above}{former}"


def _facts(site: Site, issue: Issue, shown: Representation) -> str:
    values, configuration = issue.values, site.configuration
    facts = {
        "Status": _badge(configuration.statuses[values["status"]]),
        "Priority": _choice(configuration.named("priority", values.get("priority") or "")),
        "Resolution": _choice(configuration.named("resolution", values.get("resolution") or "")),
        "Assignee": _person(site, values.get("assignee")),
        "Reporter": _person(site, values.get("reporter")),
        "Labels": " ".join(f"<span class='badge label'>{escape(label)}</span>" for label in values.get("labels") or ()),
        "Due": escape(values.get("duedate") or ""),
        "Created": _when(shown, values["created"]),
        "Updated": _when(shown, values["updated"]),
        "Resolved": _when(shown, values.get("resolutiondate")),
    }
    for field in configuration.fields.values():
        if field.custom and not field.marked_up and values.get(field.id) is not None:
            facts[field.name] = _value(site, field, values[field.id], shown)
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{html}</dd></div>" for name, html in facts.items() if html)
    return f"<dl class='card facts'>{rows}</dl>"


def _texts(site: Site, issue: Issue) -> str:
    """Plans, notes and causes: custom fields with marked-up text."""
    written = [each for each in site.configuration.fields.values() if each.custom and each.marked_up]
    cards = [
        f"<h2>{escape(field.name)}</h2><div class='card text'>{html}</div>"
        for field in written
        if (html := as_html(issue.values.get(field.id)))
    ]
    return "".join(cards)


def _value(site: Site, field: Field, value: Any, shown: Representation) -> str:
    if isinstance(value, list):
        one = Field(field.id, field.name, field.items or "", options=field.options)
        return ", ".join(_value(site, one, each, shown) for each in value)
    if field.type == "user":
        return _person(site, value)
    if field.type == "option":
        return _choice(field.option(value))
    if field.type == "datetime":
        return _when(shown, value)
    return escape(str(value))


def _approvals(site: Site, issue: Issue, shown: Representation) -> str:
    rows = []
    for approval in issue.approvals:
        who = [f"{_person(site, each['by'])} {_word(each['decision'])}" for each in approval["approvers"]]
        times = (_when(shown, approval["created"]), _when(shown, approval["completed"]))
        rows.append([escape(approval["name"]), _word(approval["decision"]), "<br>".join(who), *times])
    heads = ("Approval", "Decision", "Approvers", "Asked", "Decided")
    return "<h2>Approvals</h2>" + _table(heads, rows) if rows else ""


def _word(decision: str) -> str:
    return f"<span class='badge {decision}'>{decision}</span>"


def _clocks(site: Site, issue: Issue, shown: Representation) -> str:
    rows = [
        [escape(level.name), *_clock(cycle, shown)]
        for level in levels(site.configuration, issue)
        for cycle in cycles(level, issue, shown.now())
    ]
    heads = ("Service level", "State", "Goal", "Elapsed", "Started", "Stopped", "Due")
    return "<h2>Service levels</h2>" + _table(heads, rows) if rows else ""


def _clock(cycle: Cycle, shown: Representation) -> list[str]:
    state = "met" if cycle.stop is not None else "paused" if cycle.paused else "running"
    state = "breached" if cycle.breached else state
    look = {"met": "done", "breached": "breached"}.get(state, "pending")
    goal, elapsed = (shown.service.duration(span)["friendly"] for span in (cycle.goal, cycle.elapsed or 0))
    times = [_when(shown, at) for at in (cycle.start, cycle.stop, cycle.breach_at)]
    return [f"<span class='badge {look}'>{state}</span>", goal, elapsed, *times]


def _subtasks(site: Site, issue: Issue, shown: Representation) -> str:
    statuses = site.configuration.statuses
    rows = [
        [
            _to_issue(each, shown),
            escape(each.values["summary"]),
            _badge(statuses[each.values["status"]]),
            _person(site, each.values.get("assignee")),
        ]
        for each in site.children(issue)
    ]
    return "<h2>Sub-tasks</h2>" + _table(("Key", "Summary", "Status", "Assignee"), rows) if rows else ""


def _links(site: Site, issue: Issue, shown: Representation) -> str:
    kinds = {kind.id: kind for kind in site.configuration.link_types}
    items = []
    for link in site.links(issue):
        outward = link.inward == issue.id
        other = site.issue(str(link.outward if outward else link.inward))
        phrase = kinds[link.type].outward if outward else kinds[link.type].inward
        if other:
            status = _badge(site.configuration.statuses[other.values["status"]])
            items.append(f"{escape(phrase)} {_to_issue(other, shown)} {escape(other.values['summary'])} {status}")
    items += [_remote(link) for link in issue.remote_links]
    return "<h2>Links</h2><div class=card>" + "<br>".join(items) + "</div>" if items else ""


def _remote(link: Mapping[str, Any]) -> str:
    target = link["object"]
    return f"{escape(link.get('relationship', 'links to'))} {anchor(target['url'], escape(target['title']))}"


def _comments(site: Site, issue: Issue, shown: Representation) -> str:
    if not issue.comments:
        return ""
    cards = [
        f"<div class='card text{' internal' if comment.get('internal') else ''}'>"
        f"<b>{_person(site, comment['author'])}</b> <span class=quiet>{_when(shown, comment['created'])}"
        f"{' · internal' if comment.get('internal') else ''}</span>{as_html(comment['body'])}</div>"
        for comment in issue.comments
    ]
    return "<h2>Comments</h2>" + "".join(cards)


def _history(site: Site, issue: Issue, shown: Representation) -> str:
    if not issue.histories:
        return ""
    heads = "".join(f"<th>{name}</th>" for name in ("When", "Who", "Field", "From", "To"))
    saves = "".join(_save(site, history, shown) for history in reversed(issue.histories))
    return f"<h2>History</h2><table><tr>{heads}</tr>{saves}</table>"


def _save(site: Site, history: Mapping[str, Any], shown: Representation) -> str:
    """One save may change several fields: when and who is said once."""
    who = _person(site, history["author"]) if history["author"] else "<span class=quiet>unknown</span>"
    heads, first = [_when(shown, history["created"]), who], " first"
    rows = []
    for item in history["items"]:
        ends = (_end(site, item, "from", item["fromString"]), _end(site, item, "to", item["toString"]))
        cells = "".join(f"<td>{cell}</td>" for cell in (*heads, escape(item["field"]), *ends))
        rows.append(f"<tr class='save{first}'>{cells}</tr>")
        heads, first = ["", ""], ""
    return "".join(rows)


def _end(site: Site, item: Mapping[str, Any], end: str, text: str | None) -> str:
    """What a field was or became: a status as everywhere on the page, all else as it was called then."""
    status = site.configuration.statuses.get(item[end] or "") if item.get("fieldId") == "status" else None
    return _badge(status) if status else _short(text)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _badge(status: Named) -> str:
    return f"<span class='badge {CATEGORIES[status.category][1]}'>{escape(status.name)}</span>"


def _choice(value: Named | None) -> str:
    return escape(value.name) if value else ""


def _person(site: Site, account: str | None) -> str:
    return escape(site.configuration.users[account].name) if account else "<span class=quiet>nobody</span>"


def _to_issue(issue: Issue, shown: Representation) -> str:
    return f"<a href='{escape(_start(shown))}/browse/{escape(issue.key)}'>{escape(issue.key)}</a>"


def _when(shown: Representation, millis: int | None) -> str:
    if millis is None:
        return ""
    stamp = shown.stamp(millis)
    return f"<time datetime='{stamp}'>{stamp[:10]} {stamp[11:16]}</time>"


def _short(text: str | None) -> str:
    return escape(text if text is None or len(text) <= 200 else text[:200] + " …") if text else ""
