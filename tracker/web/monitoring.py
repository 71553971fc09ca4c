"""What the live page shows beside the record: other floors of the house hand it in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tracker.monitoring import CheckVerdict, QueueDepth, WorkerActivity
from tracker.record.catalog import Campaign
from tracker.record.due import DueKind


class NotifyWorkers(Protocol):
    """Has a worker look at what was reported of a batch. ``alone``: the batch has a task of its
    own on the way, which sees to what follows. Raises whatever the broker's library raises."""

    def __call__(self, campaign_id: int, batch: int, what: DueKind, *, alone: bool) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """What is there beside the record.

    ``depths`` says how deep each queue is, and raises whatever the broker's library raises;
    ``presence`` who works and what failed; ``explain`` what every check says of a message.
    ``queues`` need a worker each. ``help_batch`` is the command that sends a batch of a campaign to
    a step, ``help_queue`` the one that starts a worker for a queue.
    """

    depths: Callable[[], Mapping[str, QueueDepth]] | None = None
    presence: Callable[[], WorkerActivity] | None = None
    queues: Sequence[str] = ()
    help_batch: Callable[[int, int, str], str] | None = None
    help_queue: Callable[[str], str] | None = None
    remind: NotifyWorkers | None = None
    explain: Callable[[Campaign, int], Sequence[CheckVerdict]] | None = None
