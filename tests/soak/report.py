"""What a stage of the soak found, and how it is told."""

from dataclasses import dataclass, field

from tests.soak.oracle import Findings, shown


@dataclass
class Result:
    """Of one stage."""

    stage: str
    done: int = 0
    of: int = 0
    unit: str = "runs"
    findings: Findings = field(default_factory=Findings)
    wrong: list[str] = field(default_factory=list)
    """Other things that must not be: a start that took too long, a damaged database, a planted bug not found."""
    figures: dict[str, object] = field(default_factory=dict)
    stories: list[str] = field(default_factory=list)
    """Of what went wrong, each with its seed."""
    skipped: str = ""
    """Why the stage did not run."""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return bool(self.findings.wrong or self.wrong)

    @property
    def incomplete(self) -> bool:
        return bool(self.skipped) or self.done < self.of

    def told(self) -> str:
        """One line, and the stories of what is wrong."""
        if self.skipped:
            return f"{self.stage}: skipped: {self.skipped}"
        counted = self.findings
        figures = "".join(f", {name} {value}" for name, value in self.figures.items())
        line = (
            f"{self.stage}: {self.done:,} of {self.of:,} {self.unit} in {self.seconds:,.0f} s{figures}; "
            f"{counted.changes:,} changes, {counted.tickets:,} tickets: lost {len(counted.lost)}, "
            f"doubled {len(counted.doubled)}, not sent {len(counted.unsent)}, invented {len(counted.invented)}, "
            f"covered by a declared gap {counted.declared}"
        )
        problems = [f"  WRONG: {shown(told)}" for told in (counted.wrong, self.wrong) if told]
        return "\n".join((line, *problems, *self.stories))
