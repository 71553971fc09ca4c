"""A run as its driver saw it: its end, its conditions, and what the record does not have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from simulator.figures import WORKERS_CPU, WORKERS_MEMORY
from simulator.scenario.faults import InjectedFault
from simulator.scenario.thresholds import Threshold
from tracker.audit import invariants
from tracker.audit.invariants import InvariantResult
from tracker.monitoring import QueueDepth
from tracker.queries.report import Report

SNAPSHOTS_BALANCE = invariants.Invariant(
    name="snapshots_balance",
    claim="The report balanced whenever it was looked at during the run.",
)


class RunState(StrEnum):
    """The end of a run; the result of any but a complete one is partial."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    ABORTED = "aborted"


@dataclass(frozen=True, kw_only=True)
class RunConditions:
    """With what a run was made, besides its scenario.

    Attributes:
        workers: worker processes; None if the workers were attached.
        log: the worker's log, if this process started it.
    """

    workers: int | None
    batch_size: int
    database: str
    durability: Mapping[str, str]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    timezone: str
    log: Path | None = None

    @property
    def unavailable_figures(self) -> dict[str, str]:
        """Figures without a value, each with the cause."""
        if self.workers is not None:
            return {}
        cause = "the workers were attached: what they use can't be read from here"
        return {WORKERS_CPU: cause, WORKERS_MEMORY: cause}

    def as_json(self) -> dict[str, Any]:
        """Return the conditions for JSON, without the log."""
        return {
            "workers": self.workers,
            "batch_size": self.batch_size,
            "database": self.database,
            "timezone": self.timezone,
            "durability": dict(self.durability),
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "absent": self.unavailable_figures,
        }


@dataclass(frozen=True, kw_only=True)
class ResourceUsage:
    """The resources that a worker and its pool use.

    Attributes:
        cpu: cores, on average since the previous sample.
        memory: resident bytes; pages that processes share count in each.
    """

    cpu: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class MachineUsage:
    """The cores of the driver's machine that are in use, on average since the previous sample.

    Attributes:
        cores: cores of the machine.
        busy: cores in use by anything.
        run: cores in use by the run: its driver, its own workers and its own broker.
        broker: cores in use by the run's own broker, a part of `run`.
        database: cores in use by a PostgreSQL server on this machine; 0 for SQLite, whose work the
            workers do; None if the server isn't on this machine.
    """

    cores: int
    busy: float
    run: float
    broker: float
    database: float | None

    @property
    def others(self) -> float:
        """Cores in use by processes that don't belong to the run."""
        return max(0.0, self.busy - self.run - (self.database or 0.0))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample of a run; one is taken each second.

    Attributes:
        second: real seconds since the start.
        depths: by queue; None while the broker is unavailable.
        usage: None for workers on another machine, or while none runs.
        machine: None if the system doesn't tell.
    """

    second: int
    depths: Mapping[str, QueueDepth] | None
    usage: ResourceUsage | None
    machine: MachineUsage | None = None


@dataclass(frozen=True, kw_only=True)
class RunObservations:
    """Observations of a run that its record does not have.

    Attributes:
        planned: messages that the run was to send.
        samples: one for each second.
        aborted_by: the threshold that stopped the run, if one did.
        requeued_count: stalled batches that were re-queued; one counts each time.
        snapshot_count: how often the reports were read.
        unbalanced_reports: those of them that did not add up.
    """

    state: RunState
    planned: int
    samples: Sequence[Sample] = ()
    aborted_by: Threshold | None = None
    requeued_count: int = 0
    snapshot_count: int = 0
    unbalanced_reports: Sequence[Report] = ()
    injected_faults: Sequence[InjectedFault] = ()

    @property
    def balance_finding(self) -> InvariantResult:
        """The invariant that every report balanced."""
        examples = self.unbalanced_reports[: invariants.MAX_EXAMPLES]
        return InvariantResult(
            SNAPSHOTS_BALANCE,
            len(self.unbalanced_reports),
            tuple(report.as_json() for report in examples),
        )
