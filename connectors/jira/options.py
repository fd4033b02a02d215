"""The options of a Jira source, checked. ``docs/connectors/jira.md`` tells operators what each is for."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Key = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]+$")]
CustomField = Annotated[str, StringConstraints(pattern=r"^customfield_[0-9]+$")]
Word = Annotated[str, StringConstraints(pattern=r'^[^"\\\x00-\x1f]+$')]
"""May stand in quotes in JQL."""
OWN = ("project", "issuetype", "summary", "description", "labels", "priority", "assignee")
"""Fields of a ticket that the program fills itself."""
_STOCK_PRIORITIES = {"S1": "Highest", "S2": "High", "S3": "Medium", "S4": "Low"}


class Options(BaseModel):
    """Everything that one Jira source can be told besides its address and credential."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    projects: tuple[Key, ...] = ()
    """Keys of the projects that are read."""
    approvals_field: CustomField | None = None
    """Field that holds a request's approvals, so that they come with the issues; without it each request is asked."""
    approval_types: tuple[Word, ...] = ()
    """Ids or names of the issue types that can have approvals; without it all are asked."""
    sla_fields: tuple[CustomField, ...] = ()
    """Fields that hold the service levels, so that they come with the issues; without it each request is asked."""

    project: Key | None = None
    """Key of the project in which tickets are opened."""
    issue_type: str = "Task"
    """Name of the issue type of the tickets."""
    labels: tuple[Annotated[str, StringConstraints(pattern=r"^\S{1,255}$")], ...] = ()
    """Labels that every ticket gets besides its own."""
    severity_priority: Mapping[str, str] = Field(default_factory=lambda: dict(_STOCK_PRIORITIES))
    """Severity -> name of the priority in Jira."""
    index_lag: Annotated[float, Field(ge=0, le=3600)] | None = None
    """Seconds until search must show what was written; without it a minute, which is generous for both editions."""
    link_type: str = "Relates"
    """Name of the type of the links between tickets."""
    resolution: str = "Done"
    """Set when a step asks for a resolution and for nothing else."""
    fields: Mapping[str, Any] = Field(default_factory=dict)
    """Id of a field -> value in the form of REST v2, for fields that the project requires."""
    deployment: Literal["cloud", "datacenter"] | None = None
    """The edition that the site must be. It is found out in any case."""

    @field_validator("fields")
    @classmethod
    def _not_ours(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        if ours := sorted(fields.keys() & set(OWN)):
            raise ValueError(f"{', '.join(ours)} cannot be set here: the program fills it")
        return fields

    @model_validator(mode="after")
    def _some_use(self) -> "Options":
        if not self.projects and self.project is None:
            raise ValueError("name the projects to read (projects), the project in which tickets are opened, or both")
        return self
