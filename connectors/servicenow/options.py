"""The options of a ServiceNow source, checked. ``docs/connectors/servicenow.md`` tells operators what each is for."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Everything that one ServiceNow source can be told besides its address and credential."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    audit: bool = True
    """Read the history from ``sys_audit``. Without it only the present state of records is known."""
    metrics: Literal["fallback", "always", "never"] = "fallback"
    """Whether spans are read from ``metric_instance``: where ``sys_audit`` may not be read, always, or never."""
    language: str = Field("en", pattern=r"^[a-z]{2}([_-][A-Za-z]{2})?$")
    """Language of the labels of choices."""
    table: str = Field("incident", pattern=r"^[a-z][a-z0-9_]*$")
    """Table in which corrective actions are opened: one that extends task."""
    correlation_display: str = Field("itsms_sync", max_length=100)
    """Name of this program in the tickets that it opens."""
    assignment_group: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    """``sys_id`` of the group that gets the tickets."""
    index_lag: float = Field(60, ge=0, le=3600)
    """Seconds after which nothing that was sent can appear any more: the instance cancels a transaction after 60 s."""
    severities: dict[str, dict[str, str]] = {}
    """Severity -> columns and raw values that express it, for instance impact and urgency."""
