"""Samples of a run, taken once a second: queue depths and what the workers use."""

from collections.abc import Mapping
from dataclasses import dataclass

from tracker.monitoring import QueueDepth


@dataclass(frozen=True, kw_only=True)
class ResourceUsage:
    """What a worker and its pool use: ``cpu`` in cores, on average since the sample before;
    ``memory`` resident bytes, pages that processes share counted in each."""

    cpu: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was seen ``second`` real seconds after the beginning. What could not be read is None:
    the queues while the broker is away, the usage of workers elsewhere."""

    second: int
    depths: Mapping[str, QueueDepth] | None
    usage: ResourceUsage | None
