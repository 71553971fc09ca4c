"""The causes that may limit a run."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class LimitCause(StrEnum):
    """A cause that may limit a run."""

    ARRIVALS = "arrivals"
    CAMPAIGN_ORDER = "campaign_order"
    DEFERRALS = "deferrals"
    GATEWAY_RATE = "gateway_rate"
    GATEWAY = "gateway"
    WORKERS_CPU = "workers_cpu"
    CHECK = "check"
    DATABASE = "database"
    BROKER = "broker"
    DRIVER = "driver"
    MACHINE = "machine"
    FAULT = "fault"
    UNKNOWN = "unknown"


SYSTEM_CAUSES = frozenset(
    {
        LimitCause.WORKERS_CPU,
        LimitCause.CHECK,
        LimitCause.DATABASE,
        LimitCause.BROKER,
        LimitCause.DRIVER,
    }
)
"""Causes within the system under test."""


@dataclass(frozen=True)
class RunLimit:
    """The limit of a run: its cause, the evidence, and what would change it.

    Attributes:
        evidence: what was measured, or why nothing is known.
        change: what would change the limit.
    """

    cause: LimitCause
    subject: str
    evidence: str
    change: str

    @property
    def sentence(self) -> str:
        """The limit and its evidence, without a full stop."""
        if self.cause is LimitCause.UNKNOWN:
            return f"What limited the run is unknown: {self.evidence}"
        return f"{self.subject} limited the run: {self.evidence}"

    @property
    def is_of_the_system(self) -> bool:
        """True if the system under test is known to be the cause."""
        return self.cause in SYSTEM_CAUSES

    def as_json(self) -> dict[str, Any]:
        """Return the limit for JSON."""
        return {"cause": self.cause.value, "sentence": self.sentence, "change": self.change}


def unknown_limit(reason: str, change: str) -> RunLimit:
    """Return an unknown limit, with the reason and what would reveal it."""
    return RunLimit(LimitCause.UNKNOWN, "", reason, f"To find out: {change}")
