"""Driver: enqueue messages as they arrive, however fast the system works them off (open loop)."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from celery import Celery
from sqlalchemy.exc import IntegrityError

from simulator.retry import Outages
from simulator.schema import driver_acknowledgements
from simulator.setup.run import Run, RunCampaign
from tracker.clock import MICROSECONDS_PER_SECOND, Instant, SystemClock, from_seconds, to_seconds
from tracker.record.actions.cancellation import cancel_batch
from tracker.record.arrivals import find_last_batch
from tracker.record.catalog import Batch, Campaign, load_batch
from tracker.record.journal import Author, enqueue_batch
from tracker.status import Step
from tracker.store.database import Database
from workers.chains import StepArguments, enqueue_step

DRIVER_AUTHOR = Author(worker="driver")

BATCH_COLLECTION_SECONDS = 0.25
"""Real time for which arrivals are collected into a batch that isn't full.

A batch costs some milliseconds at each step, however small it is. Four a second cost a few
hundredths of a core, and a message waits an eighth of a second on average.
"""


class Driver:
    """A driver that enqueues the campaigns of a run concurrently, each in its arrival shape.

    A campaign with recorded batches continues after the last one, from now on.

    Args:
        batch_size: most messages of a batch.
        is_settled: says whether a campaign has settled; a campaign that comes after it then begins.
        is_paused: says whether a campaign is paused; none of its messages is then enqueued.
        is_cancelled: says whether a campaign is cancelled; its messages are then recorded, and
            cancelled at once.
        outages: the outages of database and broker that the driver waits for.
    """

    def __init__(
        self,
        database: Database,
        app: Celery,
        run: Run,
        batch_size: int,
        is_settled: Callable[[RunCampaign], bool],
        is_paused: Callable[[RunCampaign], bool],
        is_cancelled: Callable[[RunCampaign], bool],
        outages: Outages,
    ) -> None:
        self._database = database
        self._app = app
        self._batch_size = batch_size
        self._is_settled = is_settled
        self._is_paused = is_paused
        self._is_cancelled = is_cancelled
        self._outages = outages
        self._driver_number = run.driver_number
        self._campaigns_by_name = {
            run_campaign.campaign.name: run_campaign for run_campaign in run.campaigns
        }
        self._waiting_campaigns: list[RunCampaign] = []
        self._active_campaigns: deque[_CampaignProgress] = deque()
        # A campaign that was due during a pause of the run begins now.
        self._earliest_begin = run.started_at if run.resumption is None else run.clock.now()
        self.messages_sent = 0
        for run_campaign in run.campaigns:
            self._add_campaign(run_campaign)

    def _add_campaign(self, run_campaign: RunCampaign) -> None:
        """Add a campaign as one that has yet to begin or, if batches are recorded, continues."""
        last_batch = self._outages.retry(partial(self._find_last_batch, run_campaign.campaign))
        if last_batch is None:
            self._waiting_campaigns.append(run_campaign)
            return
        progress = _CampaignProgress.after_batch(run_campaign, last_batch)
        self.messages_sent += progress.messages_sent
        if not progress.is_done:
            self._active_campaigns.append(progress)

    def _find_last_batch(self, campaign: Campaign) -> Batch | None:
        with self._database.read() as connection:
            return find_last_batch(connection, campaign)

    def send_due_batch(self) -> int:
        """Enqueue a batch of messages that have arrived; return its size, 0 if none is due."""
        self._begin_due_campaigns()
        for _ in range(len(self._active_campaigns)):
            sending = self._active_campaigns.popleft()
            sending.is_held = self._is_paused(sending.run_campaign)
            sending.is_cancelled = self._is_cancelled(sending.run_campaign)
            due = sending.count_due(self._batch_size)
            if due:
                self._send_batch(sending, due)
            if not sending.is_done:
                self._active_campaigns.append(sending)  # at the end: campaigns take turns
            if due:
                return due
        return 0

    def _begin_due_campaigns(self) -> None:
        for run_campaign in list(self._waiting_campaigns):
            now = run_campaign.campaign.clock.now()
            predecessor = run_campaign.plan.after
            if self._is_cancelled(run_campaign):
                self._begin(run_campaign, now)
                continue
            if now < run_campaign.starts_at:
                continue
            if predecessor is None:
                begins_at = max(run_campaign.starts_at, self._earliest_begin)
            elif self._has_settled(predecessor):
                begins_at = now
            else:
                continue
            self._begin(run_campaign, begins_at)

    def _begin(self, run_campaign: RunCampaign, begins_at: Instant) -> None:
        self._waiting_campaigns.remove(run_campaign)
        self._active_campaigns.append(_CampaignProgress(run_campaign, begins_at))

    def _has_settled(self, name: str) -> bool:
        unsent = list(self._waiting_campaigns)
        unsent += [sending.run_campaign for sending in self._active_campaigns]
        is_fully_sent = all(run_campaign.campaign.name != name for run_campaign in unsent)
        return is_fully_sent and self._is_settled(self._campaigns_by_name[name])

    def _send_batch(self, sending: "_CampaignProgress", size: int) -> None:
        campaign = sending.run_campaign.campaign
        batch = self._outages.retry(
            partial(
                enqueue_once,
                self._database,
                campaign,
                batch=sending.batches_sent,
                first=sending.messages_sent,
                size=size,
                at=sending.next_arrivals(size),
                author=DRIVER_AUTHOR,
                resumes=self._driver_number,
            )
        )
        self._outages.retry(partial(record_acknowledgement, self._database, batch))
        if sending.is_cancelled:
            self._outages.retry(partial(cancel_batch, self._database, batch, DRIVER_AUTHOR))
        else:
            arguments = StepArguments(campaign=campaign.id, batch=batch.batch)
            self._outages.retry(
                partial(enqueue_step, self._app, Step.SUPPRESS, arguments, campaign)
            )
        sending.record_sent(size)
        self.messages_sent += size


class _CampaignProgress:
    """A campaign that is being enqueued; its first message arrives at `begins_at`."""

    def __init__(self, run_campaign: RunCampaign, begins_at: Instant) -> None:
        self.run_campaign = run_campaign
        self.messages_sent = self.batches_sent = 0
        self._shape = run_campaign.plan.arrival_shape
        self._begins_at = begins_at
        self._last_sent_at = time.monotonic() - BATCH_COLLECTION_SECONDS
        self._is_held = False
        self.is_cancelled = False

    @classmethod
    def after_batch(cls, run_campaign: RunCampaign, last: Batch) -> "_CampaignProgress":
        """Return the progress after the last recorded batch; the next message arrives now."""
        progress = cls(run_campaign, run_campaign.starts_at)
        progress.messages_sent, progress.batches_sent = last.first + last.size, last.batch + 1
        progress._continue_now()
        return progress

    @property
    def is_held(self) -> bool:
        """True while the campaign is paused. At the end of a pause, its next message arrives."""
        return self._is_held

    @is_held.setter
    def is_held(self, is_held: bool) -> None:
        if self._is_held and not is_held:
            self._continue_now()
        self._is_held = is_held

    def _continue_now(self) -> None:
        """Delay the messages that are left, so that the next one arrives now."""
        [seconds] = self._shape.arrival_times(self.messages_sent, 1)
        self._begins_at = self.run_campaign.campaign.clock.now() - from_seconds(seconds)

    @property
    def is_done(self) -> bool:
        return self.messages_sent == self.run_campaign.size

    def count_due(self, limit: int) -> int:
        """Return the size of the batch to send now, or 0 while arrivals are collected or held."""
        if self._is_held:
            return 0
        if self.is_cancelled:
            return min(limit, self.run_campaign.size - self.messages_sent)
        now = self.run_campaign.campaign.clock.now()
        arrived = self._shape.count_arrived(to_seconds(now - self._begins_at))
        left = self.run_campaign.size - self.messages_sent
        due = min(arrived - self.messages_sent, left)
        is_full = due >= min(limit, left)
        is_collected = time.monotonic() - self._last_sent_at >= BATCH_COLLECTION_SECONDS
        return min(due, limit) if due > 0 and (is_full or is_collected) else 0

    def next_arrivals(self, size: int) -> Instant | list[Instant]:
        """Return the intended arrivals of the next messages: one instant for all of a blast."""
        if self.is_cancelled:
            return self.run_campaign.campaign.clock.now()
        if self._shape.is_blast:
            return self._begins_at
        seconds = self._shape.arrival_times(self.messages_sent, size)
        arrivals = self._begins_at + np.rint(seconds * MICROSECONDS_PER_SECOND).astype(np.int64)
        instants: list[Instant] = arrivals.tolist()
        return instants

    def record_sent(self, size: int) -> None:
        """Count a batch that was enqueued."""
        self.messages_sent += size
        self.batches_sent += 1
        self._last_sent_at = time.monotonic()


def record_acknowledgement(database: Database, batch: Batch) -> None:
    """Record, in a transaction of its own, that the driver knows a batch to be enqueued.

    The invariant `acknowledged_settles` compares these rows to the record. Repeating the call
    changes nothing.
    """
    with database.write() as connection:
        connection.execute(
            database.insert_missing(driver_acknowledgements).values(
                campaign_id=batch.campaign.id,
                first=batch.first,
                size=batch.size,
                at=SystemClock().now(),
            )
        )


def enqueue_once(
    database: Database,
    campaign: Campaign,
    *,
    batch: int,
    first: int,
    size: int,
    author: Author,
    at: Instant | Sequence[Instant],
    resumes: int,
) -> Batch:
    """Record a batch, unless it is recorded already.

    A lost connection may hide a successful commit, so the call is repeated after it.

    Args:
        at: intended arrival of all messages, or of each.
        resumes: how often the run had been resumed when this driver started.

    Raises:
        RunSuperseded: a further driver has resumed the run.
        IntegrityError: the record has a batch of this number with other messages.
    """
    try:
        return enqueue_batch(
            database,
            campaign,
            batch=batch,
            first=first,
            size=size,
            author=author,
            at=at,
            resumes=resumes,
        )
    except IntegrityError:
        with database.read() as connection:
            recorded = load_batch(connection, campaign.id, batch)
        if (recorded.first, recorded.size) != (first, size):
            raise
        return recorded
