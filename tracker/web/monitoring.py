"""The interface through which higher layers monitor the stack around the database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tracker.monitoring import CheckVerdict, QueueDepth, WorkerActivity
from tracker.record.catalog import Batch, Campaign
from tracker.record.due import DueKind
from tracker.status import Step


class NotifyWorkers(Protocol):
    """A function that enqueues the task which applies the stored reports of a batch."""

    def __call__(self, campaign_id: int, batch: int, kind: DueKind, *, is_one_off: bool) -> None:
        """Enqueue the task; may raise any error of the broker's client.

        A one-off task doesn't enqueue the next step: its batch has a task in a queue already.
        """


@dataclass(frozen=True, kw_only=True)
class HelpfulCommands:
    """Shell commands that the pages show. Each is complete: it names broker and database itself.

    Attributes:
        recover: re-queues all stalled batches.
        verify: checks the invariants.
        simulate: returns the command that starts a run.
        resume: returns the command that continues a run.
        requeue: returns the command that re-queues one batch (campaign id, batch, step).
        start_worker: returns the command that starts a worker for a queue.
        hidden_variables: the environment variables that the shell must have, since their values
            contain a password.
    """

    recover: str
    verify: str
    simulate: Callable[[], str]
    resume: Callable[[int], str]
    requeue: Callable[[int, int, str], str]
    start_worker: Callable[[str], str]
    hidden_variables: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """Functions that read queues, workers and checks. A function that isn't available is None.

    Attributes:
        queues: the queues that need a worker each.
        read_queue_depths: returns the depth of each queue; raises any error of the broker's client.
        read_sweep_age: returns the seconds since the last sweep began, None if none is known;
            raises any error of the broker's client.
        read_worker_activity: returns the workers and their recent failures.
        notify_workers: enqueues the task that applies stored reports.
        requeue_batch: enqueues the task of a step on a batch, unless it has a task in a queue or
            with a live worker; returns whether it did. Raises any error of the broker's client.
        explain_checks: returns the verdict of every check on a message, with the values that the
            check read, as plain types; raises `NotFound`.
        commands: the shell commands that help.
    """

    queues: Sequence[str] = ()
    read_queue_depths: Callable[[], Mapping[str, QueueDepth]] | None = None
    read_sweep_age: Callable[[], float | None] | None = None
    read_worker_activity: Callable[[], WorkerActivity] | None = None
    notify_workers: NotifyWorkers | None = None
    requeue_batch: Callable[[Batch, Step], bool] | None = None
    explain_checks: Callable[[Campaign, int], Sequence[CheckVerdict]] | None = None
    commands: HelpfulCommands | None = None
