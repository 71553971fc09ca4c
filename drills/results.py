"""The contents of drills.json. `docs/drills.schema.json` is generated from these classes."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION: Final = 1
"""Version of the file. It changes when a key changes its meaning or goes."""


class DrillPart(BaseModel):
    """A part of drills.json. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Observation(DrillPart):
    """What the stack says of an incident some seconds after it began."""

    seconds: float
    """Seconds from the harm to the observation."""
    page: list[str]
    """Lines of the health strip and the warnings of the campaign's page; empty without an
    answer."""
    page_answers: dict[str, str]
    """What each page responded: its status and its seconds, or the error; by the kind of page."""
    health_status: str | None
    """`status` of /health; null without an answer."""
    cause: str | None
    """`cause` of /health; null without one."""
    parts: dict[str, str]
    """Status and summary of the parts in /health that aren't ok."""
    metrics: list[str]
    """Metrics that changed since before the harm, with both values. Counts of messages, tasks and
    steps are left out."""
    log: list[str]
    """Warnings and errors of the logs, and all events of `sendtrace up`, since the harm."""
    log_left_out: int
    """Further lines of this kind."""


class AlertHistory(DrillPart):
    """The states of an alert during a drill, in seconds from the harm; null if it had none."""

    name: str
    pending_after: float | None
    firing_after: float | None
    ended_after: float | None


class CampaignOutcome(DrillPart):
    """The campaign that was sent during the incident."""

    exit_code: int
    """Exit code of `sendtrace simulate`, or of the last command that completed the run; 0: as
    predicted."""
    messages: int
    lost: int
    """Messages that are missing or haven't settled."""
    accepted_twice: int
    """Messages that the gateway accepted again without a reason."""
    resumed: int
    """How often `sendtrace resume` had to continue the run, as its driver was killed or gave up."""
    output: str
    """End of the command's output if the exit code isn't 0."""

    @property
    def is_right(self) -> bool:
        """True if each message is as predicted, none lost and none accepted twice."""
        return (self.exit_code, self.lost, self.accepted_twice) == (0, 0, 0)


class DrillResult(DrillPart):
    """One incident, played on a stack."""

    incident: str
    place: str
    """Where the record was: `sqlite`, `postgresql` or `small disk` (SQLite)."""
    harm: str
    """What was done."""
    repair: str
    """What ended the incident; empty if the stack recovered alone."""
    expected_causes: list[str]
    """The parts of which one should be named; empty if the health may stay as it was."""
    expected_alert: str | None
    """The only alert that may be raised; null for none."""
    skipped: str | None
    """Why the drill was not played on this machine; null if it was."""
    observation: Observation | None
    noticed_after: float | None
    """Seconds from the harm until the stack first said so: /health was not ok or didn't answer, or
    the run was abandoned. Null if it never did."""
    harm_seconds: float | None
    """Seconds from the harm to the repair, or to the end that nobody had to bring about; null if
    the stack recovered alone."""
    healthy_after: float | None
    """Seconds until the stack was healthy again, from its repair, or from the harm without one;
    null if it was not within the limit."""
    alerts: list[AlertHistory] | None
    """Alerts that were raised; null if no Prometheus was installed."""
    campaign: CampaignOutcome | None
    findings: list[str]
    """What was not as expected."""

    @property
    def passed(self) -> bool:
        """True if nothing was found."""
        return not self.findings

    @property
    def has_recovered(self) -> bool:
        """True if the stack is healthy again and each message as predicted, or nothing was done."""
        if self.skipped is not None:
            return True
        return self.healthy_after is not None and bool(self.campaign and self.campaign.is_right)


class DrillsFile(DrillPart):
    """All drills of a run."""

    version: Literal[1]
    """Version of this format. It changes when a key changes its meaning or goes."""
    made_at: str
    seconds: float
    """Duration of the run."""
    sendtrace: str
    """Version of sendtrace."""
    machine: dict[str, str]
    """The machine, its load before the run, and the versions of the software."""
    drills: list[DrillResult] = Field(min_length=1)
