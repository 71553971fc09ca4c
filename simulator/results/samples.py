"""Samples of a run, taken once a second: queue depths, and CPU and memory of the workers."""

from collections.abc import Mapping
from dataclasses import dataclass

from tracker.monitoring import QueueDepth


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
class Sample:
    """A sample of a run.

    Attributes:
        second: real seconds since the start.
        depths: by queue; None while the broker is unavailable.
        usage: None for workers on another machine, or while none runs.
    """

    second: int
    depths: Mapping[str, QueueDepth] | None
    usage: ResourceUsage | None
