"""Everything that our account created on a site, in the order of creation, which nobody can change.

Owns the question, its pages and when they have come to their end. The project is not asked for: people move tickets.
The walk starts anew behind the last ticket wherever a page went on for more than a minute, because an index may cut a
bound to the minute; tokens and positions count inside one question only, so that nothing is missed when a ticket in
front of a page is deleted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.jira.translate import PROPERTY, TICKET_FIELDS, is_ours, ticket
from connectors.jira.transport import Site
from itsms_sync.records import Millis, Ticket

_COARSE = 60_000
"""How far an index may round a bound down (ms)."""


def created_by_us(site: Site, home: str, since: Millis | None) -> Iterator[Ticket]:
    """Tickets with our key or a label of ours; ``home`` is the address of the site for people."""
    at: Millis | None = None
    seen: dict[str, Millis] = {}
    condition = "creator = currentUser()" + (f" AND updated >= {since}" if since is not None else "")

    def parsed(issue: Mapping[str, Any]) -> Ticket:
        return ticket(issue, home)

    ended = False
    while not ended:
        bound = f" AND created >= {at}" if at is not None else ""
        jql = f"{condition}{bound} ORDER BY created ASC, key ASC"
        ended, start = True, at
        for page, last in site.pages(jql, TICKET_FIELDS, [PROPERTY], parsed):
            fresh = [one for one in page if one.id not in seen]
            seen.update((one.id, one.created or 0) for one in fresh)
            yield from filter(is_ours, fresh)
            at = max((one.created or 0 for one in page), default=at)
            if not last and at is not None and at - (start or 0) >= _COARSE:
                seen = {id_: created for id_, created in seen.items() if created >= at - _COARSE}
                ended = False
                break
