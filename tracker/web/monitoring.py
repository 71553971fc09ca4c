"""What the live page shows beside the record: other floors of the house hand it in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tracker.record.catalog import Campaign
from tracker.record.due import DueKind

if TYPE_CHECKING:
    pass


class QueueDepth(NamedTuple):
    """Tasks in a queue: ``ready`` to be taken, and ``unacked``, which a worker holds."""

    ready: int
    unacked: int


@dataclass(frozen=True, kw_only=True)
class CheckVerdict:
    """What a check says of a message now: a ``reason`` in words if it would stop it, and the values
    that it looked at. Where it gives no verdict, ``error`` says why."""

    step: str
    check: str
    reason: str | None
    looked_at: Mapping[str, object]
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A worker, when it was last heard, and the queues it serves as far as that is known."""

    name: str
    heard_at: datetime
    is_there: bool
    queues: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """A task that failed; ``again``: it is tried once more."""

    task: str
    campaign: int | None
    batch: int | None
    error: str
    worker: str
    at: datetime
    task_id: str
    again: bool


@dataclass(frozen=True, kw_only=True)
class WorkerActivity:
    """Workers, and the tasks that failed lately, the latest first. ``deaf_since``: nobody has been
    heard since then, as the broker is away."""

    workers: Sequence[WorkerInfo] = ()
    failed: Sequence[FailedTask] = ()
    deaf_since: datetime | None = None


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
