"""Observers of a run: code that runs beside the sending of messages."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from simulator.background import run_in_background
from tracker.campaign_states import CampaignState
from tracker.queries.report import Report
from tracker.status import Status


@dataclass(frozen=True)
class RunProgress:
    """The numbers of messages past each stage.

    Attributes:
        accepted: messages that the gateway has accepted.
        pending_messages: messages that a worker has yet to move, and that the run waits for.
        awaiting_batches: batches whose receipts or engagement events are yet to come.
    """

    recorded: int
    checked: int
    accepted: int
    settled: int
    pending_messages: int = 0
    awaiting_batches: int = 0

    @classmethod
    def from_reports(cls, reports: Sequence[Report], awaiting_batches: int = 0) -> "RunProgress":
        """Add up the reports of several campaigns."""
        recorded = sum(report.recorded for report in reports)
        checked = recorded - sum(report.count_messages(Status.QUEUED) for report in reports)
        return cls(
            recorded=recorded,
            checked=checked,
            accepted=sum(report.sent for report in reports),
            settled=sum(report.settled for report in reports),
            pending_messages=sum(report.pending for report in reports),
            awaiting_batches=awaiting_batches,
        )

    def is_complete(self, planned: int) -> bool:
        """Return whether `planned` messages are recorded and none of them will move again."""
        is_idle = not self.pending_messages and not self.awaiting_batches
        return self.recorded == planned and is_idle


@dataclass(frozen=True, kw_only=True)
class RunSnapshot:
    """The state of a run at one instant.

    Attributes:
        progress: the campaigns together.
        planned: messages that the run sends in all.
        arrival_seconds_left: real seconds until the last message arrives; 0 if unknown.
    """

    reports: Sequence[Report]
    progress: RunProgress
    planned: int
    arrival_seconds_left: float = 0.0

    @property
    def deferred(self) -> int:
        """The number of messages that rules deferred."""
        return sum(report.deferred for report in self.reports)

    @property
    def paused_campaigns(self) -> list[str]:
        """The names of the campaigns that are paused."""
        return [
            report.campaign.name for report in self.reports if report.state is CampaignState.PAUSED
        ]

    @property
    def in_progress(self) -> int:
        """The number of messages on their way to the gateway."""
        return sum(report.in_progress for report in self.reports)


class RunObserver:
    """The base class of observers. Each method does nothing unless a subclass overrides it."""

    def started(self) -> None:
        """Prepare: the run's clock has started, and no message is sent yet."""

    def ticked(self, snapshot: RunSnapshot) -> None:
        """Use a new snapshot of the run; called twice a second, more often at first."""

    def ended(self) -> None:
        """Clean up: the run has ended, normally or by an error."""


class BackgroundObserver(RunObserver):
    """An observer that runs a function in its own thread for the duration of a run.

    Args:
        work: called once, with an event; it returns soon after the event is set.
    """

    def __init__(self, work: Callable[[threading.Event], None], name: str) -> None:
        self._block = run_in_background(work, name)

    def started(self) -> None:
        """Start the thread."""
        self._block.__enter__()

    def ended(self) -> None:
        """Set the event, and wait for the thread."""
        self._block.__exit__(None, None, None)


@contextmanager
def notify_observers(observers: Sequence[RunObserver]) -> Iterator[None]:
    """Tell observers that a run has started and, at the end of the block, that it has ended."""
    with ExitStack() as stack:
        for observer in observers:
            observer.started()
            stack.callback(observer.ended)
        yield
