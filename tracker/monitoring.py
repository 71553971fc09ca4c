"""Types that describe the stack around the database: queues, workers, failed tasks and checks.

The workers' monitoring fills them in. The live page, the API, the metrics and the CLI show them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tracker.status import Reason, Step


class QueueDepth(NamedTuple):
    """The tasks of one queue.

    Attributes:
        ready: tasks that wait for a worker.
        unacked: tasks that a worker holds, those that it was given with a countdown included.
    """

    ready: int
    unacked: int


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A Celery worker.

    Attributes:
        heard_at: time of its last event, in UTC.
        is_online: whether its heartbeats still arrive.
        is_late: whether an online worker has missed several heartbeats in a row.
        queues: the queues that it serves; empty until it has answered an inspection.
    """

    name: str
    heard_at: datetime
    is_online: bool
    is_late: bool = False
    queues: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """A task that failed.

    Attributes:
        campaign: the campaign's id, None if the task's arguments could not be read.
        batch: the batch of the campaign, None likewise.
        at: time of the failure, in UTC.
        will_retry: whether Celery runs the task again.
    """

    task: str
    campaign: int | None
    batch: int | None
    error: str
    worker: str
    at: datetime
    task_id: str
    will_retry: bool


@dataclass(frozen=True, kw_only=True)
class GatewayOutage:
    """A gateway that is unavailable for a campaign, as the retries of its tasks say.

    Attributes:
        campaign: the campaign's id.
        since: time of the first failure in a row, in UTC.
        is_refusing: whether the gateway answers, and refuses messages.
    """

    campaign: int
    error: str
    since: datetime
    is_refusing: bool


@dataclass(frozen=True, kw_only=True)
class WorkerActivity:
    """The workers and their recent failures, the latest failure first.

    Attributes:
        disconnected_since: time in UTC since when the broker has not answered, None while it does.
        is_inspected: whether the workers have been asked for their queues since the broker answers.
        gateway_outages: the gateways that are unavailable now.
    """

    workers: Sequence[WorkerInfo] = ()
    failed: Sequence[FailedTask] = ()
    disconnected_since: datetime | None = None
    is_inspected: bool = True
    gateway_outages: Sequence[GatewayOutage] = ()


@dataclass(frozen=True, kw_only=True)
class CheckVerdict:
    """The verdict of one check on one message.

    Attributes:
        order: the check's position within its step.
        reason: the reason with which the check blocks the message, None if it doesn't.
        looked_at: the values that the check read, by their names.
        detail: what the check says of the message that it blocks.
        error: the exception that the check raised instead of a verdict, None otherwise.
        deferred_until: when the message is judged again, None unless the check defers it.
    """

    step: Step
    order: int
    check: str
    reason: Reason | None
    looked_at: Mapping[str, object]
    detail: str | None = None
    error: str | None = None
    deferred_until: datetime | None = None

    @property
    def is_blocking(self) -> bool:
        """True if the check blocks the message."""
        return self.reason is not None
