"""Pure: what the clock of a source and ours say of each other. Nothing here tells what time it is.

Stamps of facts are the source's, and so are cursors; whatever is compared with them has to be the source's time too.
Ours orders what we did ourselves and is shown to people. Spans are measured by clocks that nobody sets.
"""

from itsms_sync.records import Millis

SAID_FROM = 5 * 60_000
"""A difference that is told aloud (ms): approvals and limits of minutes look wrong by then."""
STEP_FROM = 30_000
"""Less than this is drift or a slow answer, which the overlap of windows covers (ms)."""
FURTHEST = 24 * 3_600_000
"""How far a poll reaches back at most because a clock was set (ms)."""
_RESOLUTION = 1_000
"""An HTTP date is cut to the second (ms)."""


def skew(server_time: Millis | None, before: Millis, after: Millis) -> Millis | None:
    """By how much the source's clock is ahead of ours, at least (ms, negative: behind).

    ``before`` and ``after``: our clock around the exchange in which the source told its time; how long it took is no
    difference.
    """
    if server_time is None:
        return None
    if server_time > after:
        return server_time - after
    return min(0, server_time + _RESOLUTION - before)


def reach(before: Millis | None, now: Millis | None) -> Millis:
    """How much further back than its cursors a poll has to begin (ms): the source's clock was set back since the last
    poll, so what it stamped since then may lie before them. When it is ours that was set forward, this looks the same
    and costs some rows that are known already.
    """
    if before is None or now is None or before - now < STEP_FROM:
        return 0
    return min(before - now, FURTHEST)
