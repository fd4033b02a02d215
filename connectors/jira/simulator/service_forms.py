"""Owns how service management looks in JSON: persons, dates, durations, approvals and clocks, in fields and resources.

The forms are the vendor's of its service desk interface, which the fields of approvals and service levels repeat.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import quote

from connectors.jira.simulator.configuration import ServiceLevel, User
from connectors.jira.simulator.site import Cycle, Issue

Json = dict[str, Any]


class ServiceForms:
    """``person`` gives the platform's form of a person, whose names the edition decides."""

    def __init__(self, site_url: str, zone: tzinfo, person: Callable[[User], Json]) -> None:
        self._site_url = site_url
        self.base = f"{site_url}/rest/servicedeskapi"
        self._zone = zone
        self._person = person

    def date(self, millis: int) -> Json:
        local = datetime.fromtimestamp(millis / 1000, self._zone)
        zone = local.strftime("%z")
        return {
            "iso8601": local.strftime("%Y-%m-%dT%H:%M:%S") + zone,
            "jira": f"{local:%Y-%m-%dT%H:%M:%S}.{millis % 1000:03d}{zone}",
            "friendly": f"{local:%d/%b/%y} {local.hour % 12 or 12}:{local:%M %p}",
            "epochMillis": millis,
        }

    def duration(self, millis: int) -> Json:
        hours, minutes = divmod(abs(millis) // 60_000, 60)
        sign = "-" if millis < 0 else ""
        words = [f"{sign}{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m")) if count]
        return {"millis": millis, "friendly": " ".join(words) or "0m"}

    def person(self, user: User) -> Json:
        platform = self._person(user)
        if "accountId" in platform:
            # recorded answers of Cloud still name everybody by the account id
            shown: Json = dict.fromkeys(("accountId", "name", "key"), user.account_id)
            address = f"{self._site_url}/rest/api/2/user?accountId={quote(user.account_id)}"
        else:
            shown = {"name": user.username, "key": user.key}
            address = f"{self._site_url}/rest/api/2/user?username={quote(user.username)}"
        return {
            **shown,
            "emailAddress": user.email or "",
            "displayName": user.name,
            "active": user.active,
            "timeZone": platform["timeZone"],
            "_links": {"jiraRest": address, "avatarUrls": platform["avatarUrls"], "self": address},
        }

    def approval(self, issue: Issue, approval: Mapping[str, Any], people: Mapping[str, User], caller: str) -> Json:
        """``caller``: account id of whoever asks, who may be able to answer."""
        waiting = {"by": caller, "decision": "pending"} in approval["approvers"]
        shown: Json = {
            "id": approval["id"],
            "name": approval["name"],
            "finalDecision": approval["decision"],
            "canAnswerApproval": approval["decision"] == "pending" and waiting,
            "approvers": [
                {"approver": self.person(people[each["by"]]), "approverDecision": each["decision"]}
                for each in approval["approvers"]
            ],
            "createdDate": self.date(approval["created"]),
        }
        if approval["completed"] is not None:
            shown["completedDate"] = self.date(approval["completed"])
        return {**shown, "_links": {"self": f"{self.base}/request/{issue.id}/approval/{approval['id']}"}}

    def service_level(self, issue: Issue, level: ServiceLevel, cycles: list[Cycle]) -> Json:
        ended = [each for each in cycles if each.stop is not None]
        shown: Json = {
            "id": level.id,
            "name": level.name,
            "_links": {"self": f"{self.base}/request/{issue.id}/sla/{level.id}"},
            "completedCycles": [self._cycle(each) for each in ended],
        }
        if len(cycles) > len(ended):
            shown["ongoingCycle"] = self._cycle(cycles[-1])
        return shown

    def _cycle(self, cycle: Cycle) -> Json:
        shown: Json = {"startTime": self.date(cycle.start)}
        if cycle.stop is not None:
            shown["stopTime"] = self.date(cycle.stop)
        if cycle.breach_at is not None:
            shown["breachTime"] = self.date(cycle.breach_at)
        shown["breached"] = bool(cycle.breached)
        if cycle.stop is None:
            shown |= {"paused": cycle.paused, "withinCalendarHours": True}
        elapsed = cycle.elapsed or 0
        return {
            **shown,
            "goalDuration": self.duration(cycle.goal),
            "elapsedTime": self.duration(elapsed),
            "remainingTime": self.duration(cycle.goal - elapsed),
        }
