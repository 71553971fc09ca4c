"""The interface through which higher layers monitor the stack around the database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tracker.monitoring import CheckVerdict, QueueDepth, WorkerActivity
from tracker.record.catalog import Campaign
from tracker.record.due import DueKind


class NotifyWorkers(Protocol):
    """A function that enqueues the task which applies the stored reports of a batch."""

    def __call__(self, campaign_id: int, batch: int, kind: DueKind, *, is_one_off: bool) -> None:
        """Enqueue the task; may raise any error of the broker's client.

        A one-off task doesn't enqueue the next step: its batch has a task in a queue already.
        """


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """Functions that read queues, workers and checks. A function that isn't available is None.

    Attributes:
        queues: the queues that need a worker each.
        read_queue_depths: returns the depth of each queue; raises any error of the broker's client.
        read_worker_activity: returns the workers and their recent failures.
        notify_workers: enqueues the task that applies stored reports.
        explain_checks: returns the verdict of every check on a message, with the values that the
            check read, as plain types; raises `NotFound`.
        requeue_command: returns the command that re-queues a batch (campaign id, batch, step).
        worker_command: returns the command that starts a worker for a queue.
    """

    queues: Sequence[str] = ()
    read_queue_depths: Callable[[], Mapping[str, QueueDepth]] | None = None
    read_worker_activity: Callable[[], WorkerActivity] | None = None
    notify_workers: NotifyWorkers | None = None
    explain_checks: Callable[[Campaign, int], Sequence[CheckVerdict]] | None = None
    requeue_command: Callable[[int, int, str], str] | None = None
    worker_command: Callable[[str], str] | None = None
