"""The life of a problem: reviewed, investigated, completed with its cause, closed.

Legal look-alikes (a duplicate, an accepted risk, a known error without a fix, a wait for a supplier) are not noted as
planted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from connectors.jira.simulator.scripts import (
    DAY,
    GROUP,
    HOUR,
    IMPACT,
    NOTES,
    TOPICS,
    URGENCY,
    Fields,
    Script,
    group,
    option,
    person,
)

_CAUSE, _WORKAROUND = "customfield_10211", "customfield_10212"
_CAUSES = ("A driver leaks memory.", "Two jobs lock the same table.", "The certificate chain is out of date.")
_REPAIRS = ("New driver rolled out.", "Jobs moved apart.", "Chain renewed and watched by monitoring.")
_IMPACTS = (("10301", 1), ("10302", 2), ("10303", 3), ("10304", 3))
_URGENCIES = (("10311", 1), ("10312", 2), ("10313", 3), ("10314", 3))
"""Id of the option and its level in the priority matrix."""
_DUPLICATE, _FIXES = "10504", "10505"
_CHANGE, _CLOSED, _TRACK, _EMERGENCY = "10104", "10006", "customfield_10203", "10323"


@dataclass(slots=True)
class Problem(Script):
    """One problem. ``deviation`` is what is wrong with it, if anything."""

    TYPE: ClassVar[str] = "10103"
    topic: tuple[str, str] = TOPICS[0]
    owner: str = ""
    manager: str = ""
    deviation: str = ""

    def story(self) -> Iterator[float]:
        self._logged()
        if self.deviation != "not_assessed":
            yield self.between(HOUR, 2 * DAY)
            self.step(self.manager, "Review")
            self.edit(self.manager, {"assignee": person(self.owner)})
        if self.chance(0.06) and len(self.recent[Problem]) > 1:
            yield self.between(HOUR, DAY)
            self._closed_as_duplicate()
        else:
            yield from self._analysed()
            yield self.between(DAY, 6 * DAY)
            self._completed()
        yield self.between(DAY, 5 * DAY)
        self.step(self.manager, "Close")

    def _logged(self) -> None:
        draw = self.random
        self.topic = draw.choice(TOPICS)
        self.owner, self.manager = self.one_of(self.topic[1]), self.one_of("Managers")
        if self.chance(0.2):
            kinds = ("skipped_analysis", "no_cause", "not_assessed", "wrong_priority")
            self.deviation = draw.choice(kinds)
        (impact, high), (urgency, urgent) = draw.choice(_IMPACTS), draw.choice(_URGENCIES)
        priority = high + urgent - 1
        if self.deviation == "wrong_priority":
            priority = priority % 5 + 1
        fields = {
            "summary": f"{self.topic[0]}, again and again",
            "description": "Seen several times in the last weeks.",
            "priority": {"id": str(priority)},
            IMPACT: option(impact),
            URGENCY: option(urgency),
            GROUP: group(self.topic[1]),
        }
        self.key = self.create(self.owner, fields)
        if self.deviation == "wrong_priority":
            self.note("problem.wrong_priority", self.key)

    def _closed_as_duplicate(self) -> None:
        other = self.random.choice([key for key in self.recent[Problem][-20:] if key != self.key])
        self.link(self.manager, _DUPLICATE, other)
        self.step(self.manager, "Complete", {"resolution": {"name": "Duplicate"}})

    def _analysed(self) -> Iterator[float]:
        if self.deviation == "skipped_analysis":
            return
        yield self.between(HOUR, 2 * DAY)
        self.step(self.owner, "Investigate")
        yield self.between(DAY, 4 * DAY)
        self.comment(self.owner, "Log of the last three days attached to the ticket of the supplier.", internal=True)
        if self.chance(0.15):
            self.step(self.owner, "Pending")
            yield self.between(DAY, 5 * DAY)
            self.step(self.owner, "Investigate")
            yield self.between(HOUR, DAY)

    def _completed(self) -> None:
        if self.deviation in ("skipped_analysis", "no_cause", "not_assessed"):
            self.note(f"problem.{self.deviation}", self.key)
        self.edit(self.owner, self._findings())
        accepted = self.deviation == "" and self.chance(0.1)
        if accepted:
            resolution, notes = "Won't do", "Risk accepted for a year."
        elif self.deviation == "" and self.chance(0.15):
            resolution, notes = "Known error", "Workaround is known to the service desk."
        else:
            resolution, notes = "Done", self.random.choice(_REPAIRS)
            self._through_change()
        self.step(self.owner, "Complete", {"resolution": {"name": resolution}, NOTES: notes})

    def _through_change(self) -> None:
        """The newest closed change, if no emergency, carried the fix; while there is none it was a new instruction."""
        changes = next((keys for kind, keys in self.recent.items() if kind.TYPE == _CHANGE), ())
        for key in reversed(changes):
            issue = self.site.issue(key)
            if issue is not None and issue.values["status"] == _CLOSED and issue.values.get(_TRACK) != _EMERGENCY:
                self.link_from(self.owner, _FIXES, key)
                return
        self.edit(self.owner, {"labels": ["no-change-needed"]})

    def _findings(self) -> Fields:
        known = {_WORKAROUND: "Restart once a day."}
        return known if self.deviation == "no_cause" else {**known, _CAUSE: self.random.choice(_CAUSES)}
