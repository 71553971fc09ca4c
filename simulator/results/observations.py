"""A run as its driver saw it: its end, its conditions, and what the record does not have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from simulator.figures import (
    CLOCK_GROUPS,
    SAMPLED_SUBJECTS,
    WORKERS_CPU,
    WORKERS_MEMORY,
    find_speed_group,
    is_sampled,
    list_figure_units,
)
from simulator.scenario.faults import InjectedFault
from simulator.scenario.file import Scenario
from simulator.scenario.thresholds import Threshold
from tracker.audit import invariants
from tracker.audit.invariants import InvariantResult
from tracker.campaign_states import ActionKind
from tracker.monitoring import QueueDepth
from tracker.record.actions.log import Action

SNAPSHOTS_BALANCE = invariants.Invariant(
    name="snapshots_balance",
    claim="The report balanced whenever it was looked at during the run.",
)

PAUSED_CAUSE = "a campaign was paused, which distorts the run's speed"
"""The cause for what can't be judged of a run with a pause of a campaign."""

RESUMED_CAUSE = "the run was resumed, and its pause distorts its speed"
"""The cause for what can't be judged of a resumed run."""

UNSETTLED_CAUSE = "the run ended before its messages had settled"
"""The cause for what can't be judged of a run that was cut off."""

CANCELLED_CAUSE = "a campaign was cancelled"
"""The cause for what can't be judged of a run with a cancelled campaign."""

UNOBSERVED_CAUSE = "a driver of the run did not record what it observed"
"""The cause for what isn't known of a run whose driver was killed, or seems to be."""


def describe_distortion(cause_by_group: Mapping[str, str]) -> Iterator[str]:
    """Yield a text for each cause, with all groups of figures that it distorts."""
    for cause in dict.fromkeys(cause_by_group.values()):
        groups = [group for group, other in cause_by_group.items() if other == cause]
        yield f"{', '.join(groups)} not comparable: {cause}"


class RunState(StrEnum):
    """The end of a run; the result of any but a finished one is partial.

    An abandoned run has neither a living driver nor a recorded end.
    """

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    ABORTED = "aborted"
    ABANDONED = "abandoned"


@dataclass(frozen=True, kw_only=True)
class RunConditions:
    """The conditions of a run besides its scenario.

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
class DriverObservations:
    """Observations of one driver of a run that the record does not have.

    Attributes:
        samples: one for each second.
        aborted_by: the threshold that stopped the run, if one did.
        requeued_count: stalled batches that were re-queued; one counts each time.
        deferred_count: messages at its end, for which it did not wait: deferred ones, and those of
            paused campaigns.
        deferred_seconds: real seconds since the start in which all messages on their way to the
            gateway were deferred.
        snapshot_count: how often the reports were read.
        unbalanced_count: number of those reports that did not add up.
        unbalanced_reports: the first of them, as JSON.
    """

    samples: tuple[Sample, ...] = ()
    aborted_by: Threshold | None = None
    requeued_count: int = 0
    deferred_count: int = 0
    deferred_seconds: tuple[int, ...] = ()
    snapshot_count: int = 0
    unbalanced_count: int = 0
    unbalanced_reports: tuple[dict[str, Any], ...] = ()
    injected_faults: tuple[InjectedFault, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunObservations:
    """Observations of all drivers of a run.

    Attributes:
        planned: messages that the run was to send.
        drivers: what each driver saw, in their order; None for one that was killed, or that was
            interrupted before its end: then that is unknown.
        actions: what people did to the run and its campaigns, in the order of time.
    """

    state: RunState
    planned: int
    drivers: Sequence[DriverObservations | None] = (DriverObservations(),)
    actions: Sequence[Action] = ()

    @property
    def is_resumed(self) -> bool:
        """True if a further driver has continued the run after a pause."""
        return len(self.drivers) > 1

    @property
    def is_partial(self) -> bool:
        """True for a run that was interrupted, aborted or abandoned."""
        return self.state is not RunState.FINISHED

    @property
    def has_cancelled(self) -> bool:
        """True if a person has cancelled a campaign of the run."""
        return any(action.action is ActionKind.CANCEL for action in self.actions)

    @property
    def is_known(self) -> bool:
        """True if every driver has recorded what it saw."""
        return None not in self.drivers

    @property
    def has_settled(self) -> bool:
        """True if the last driver waited until all queued messages had settled."""
        if self.state is RunState.INTERRUPTED:
            last = self.drivers[-1]
            return last is not None and not last.deferred_count
        return self.state is RunState.FINISHED

    @property
    def samples(self) -> list[Sample]:
        """The samples of all drivers that recorded them."""
        return [sample for driver in self._known_drivers for sample in driver.samples]

    @property
    def deferred_seconds(self) -> list[int]:
        """The seconds in which all messages on their way to the gateway were deferred."""
        return [second for driver in self._known_drivers for second in driver.deferred_seconds]

    @property
    def aborted_by(self) -> Threshold | None:
        """The threshold that stopped the run, if one did."""
        last = self.drivers[-1]
        return None if last is None else last.aborted_by

    @property
    def requeued_count(self) -> int | None:
        """Stalled batches that were re-queued; None if unknown."""
        counts = (driver.requeued_count for driver in self._known_drivers)
        return sum(counts) if self.is_known else None

    @property
    def snapshot_count(self) -> int | None:
        """The number of times that the reports were read; None if unknown."""
        counts = (driver.snapshot_count for driver in self._known_drivers)
        return sum(counts) if self.is_known else None

    @property
    def injected_faults(self) -> list[InjectedFault]:
        """The faults that drivers are known to have injected."""
        return [fault for driver in self._known_drivers for fault in driver.injected_faults]

    @property
    def balance_findings(self) -> tuple[InvariantResult, ...]:
        """The invariant that every report balanced; empty if that is unknown."""
        count = sum(driver.unbalanced_count for driver in self._known_drivers)
        if not count and not self.is_known:
            return ()
        examples = (row for driver in self._known_drivers for row in driver.unbalanced_reports)
        first = tuple(islice(examples, invariants.MAX_EXAMPLES))
        return (InvariantResult(SNAPSHOTS_BALANCE, count, first),)

    def find_distorted_groups(self, scenario: Scenario) -> dict[str, str]:
        """Return the groups of speed figures that are distorted, each with the cause."""
        speed_groups = (*CLOCK_GROUPS, *sorted(SAMPLED_SUBJECTS))
        if self.is_resumed:
            return dict.fromkeys(speed_groups, RESUMED_CAUSE)
        if any(action.action is ActionKind.PAUSE for action in self.actions):
            return dict.fromkeys(speed_groups, PAUSED_CAUSE)
        return scenario.distorted_groups

    def find_unjudged_figures(self, scenario: Scenario) -> dict[str, str]:
        """Return the figures whose thresholds can't be judged, each with the cause."""
        campaigns = [campaign.name for campaign in scenario.campaigns]
        distorted = self.find_distorted_groups(scenario)
        unjudged = {}
        for figure in list_figure_units(campaigns):
            if is_sampled(figure) and not self.is_known:
                unjudged[figure] = UNOBSERVED_CAUSE
            elif (group := find_speed_group(figure, campaigns)) in distorted:
                unjudged[figure] = distorted[group]
            elif self.has_cancelled:
                unjudged[figure] = CANCELLED_CAUSE
            elif not self.has_settled:
                unjudged[figure] = UNSETTLED_CAUSE
        return unjudged

    @property
    def _known_drivers(self) -> list[DriverObservations]:
        return [driver for driver in self.drivers if driver is not None]
