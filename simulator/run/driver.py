"""The driver: sends messages into the queue as they arrive, whatever the system does with them."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from celery import Celery
from sqlalchemy.exc import IntegrityError

from simulator.retry import retry_transient
from simulator.schema import driver_acknowledgements
from simulator.setup.record import Run, RunCampaign
from tracker.clock import MICROSECONDS_PER_SECOND, Instant, SystemClock, to_seconds
from tracker.record.catalog import Batch, Campaign, load_batch
from tracker.record.journal import Author, enqueue_batch
from tracker.status import Step
from tracker.store.database import Database
from workers.chains import StepArguments, enqueue_step

DRIVER_AUTHOR = Author(worker="driver")

BATCH_COLLECTION_SECONDS = 0.25
"""Seconds of real time for which arrivals are collected into one batch, unless it is full before.
A batch costs some milliseconds at each step, however small it is: with four a second that is a few
hundredths of a core, and a message waits an eighth of a second for its batch."""


class Driver:
    """Sends the campaigns of a run, each in its shape, side by side.

    A campaign that is to come after another one begins when that ``is_settled``.
    """

    def __init__(
        self,
        database: Database,
        app: Celery,
        run: Run,
        batch_size: int,
        is_settled: Callable[[RunCampaign], bool],
    ) -> None:
        self._database = database
        self._app = app
        self._batch_size = batch_size
        self._is_settled = is_settled
        self._campaigns_by_name = {loaded.campaign.name: loaded for loaded in run.campaigns}
        self._waiting_campaigns = list(run.campaigns)
        self._active_campaigns: deque[_CampaignProgress] = deque()
        self.messages_sent = 0

    def send_due_batch(self) -> int:
        """Send a batch of what has arrived, and say how many messages that were; 0: none has."""
        self._begin_due_campaigns()
        for _ in range(len(self._active_campaigns)):
            sending = self._active_campaigns.popleft()
            due = sending.due(self._batch_size)
            if due:
                self._send_batch(sending, due)
            if not sending.is_done:
                self._active_campaigns.append(sending)  # behind the others: campaigns take turns
            if due:
                return due
        return 0

    def _begin_due_campaigns(self) -> None:
        """Begin the campaigns whose time has come."""
        for loaded in list(self._waiting_campaigns):
            now = loaded.campaign.clock.now()
            after = loaded.plan.after
            if now < loaded.starts_at:
                continue
            if after is None:
                begins_at = loaded.starts_at
            elif self._is_fully_sent(after) and self._is_settled(self._campaigns_by_name[after]):
                begins_at = now
            else:
                continue
            self._waiting_campaigns.remove(loaded)
            self._active_campaigns.append(_CampaignProgress(loaded, begins_at))

    def _is_fully_sent(self, name: str) -> bool:
        unsent = [*self._waiting_campaigns, *(each.loaded for each in self._active_campaigns)]
        return all(each.campaign.name != name for each in unsent)

    def _send_batch(self, sending: "_CampaignProgress", size: int) -> None:
        campaign = sending.loaded.campaign
        queued = retry_transient(
            partial(
                enqueue_once,
                self._database,
                campaign,
                batch=sending.batches_sent,
                first=sending.messages_sent,
                size=size,
                at=sending.arrivals(size),
                by=DRIVER_AUTHOR,
            )
        )
        retry_transient(partial(record_acknowledgement, self._database, queued))
        arguments = StepArguments(campaign=campaign.id, batch=sending.batches_sent)
        retry_transient(partial(enqueue_step, self._app, Step.SUPPRESS, arguments, campaign.name))
        sending.record_sent(size)
        self.messages_sent += size


class _CampaignProgress:
    """How far a campaign is that began at ``begins_at``."""

    def __init__(self, loaded: RunCampaign, begins_at: Instant) -> None:
        self.loaded = loaded
        self.messages_sent = self.batches_sent = 0
        self._shape = loaded.plan.arrival_shape
        self._begins_at = begins_at
        self._last_sent_at = time.monotonic() - BATCH_COLLECTION_SECONDS

    @property
    def is_done(self) -> bool:
        return self.messages_sent == self.loaded.size

    def due(self, most: int) -> int:
        """How many messages to send now, ``most`` at the most; 0 while more are collected."""
        now = self.loaded.campaign.clock.now()
        arrived = self._shape.arrived(to_seconds(now - self._begins_at))
        left = self.loaded.size - self.messages_sent
        due = min(arrived - self.messages_sent, left)
        full = due >= min(most, left)
        if due > 0 and (full or time.monotonic() - self._last_sent_at >= BATCH_COLLECTION_SECONDS):
            return min(due, most)
        return 0

    def arrivals(self, size: int) -> Instant | list[Instant]:
        """When the next ``size`` messages were meant to arrive."""
        if self._shape.is_blast:
            return self._begins_at
        seconds = self._shape.arrivals(self.messages_sent, size)
        at = self._begins_at + np.rint(seconds * MICROSECONDS_PER_SECOND).astype(np.int64)
        instants: list[Instant] = at.tolist()
        return instants

    def record_sent(self, size: int) -> None:
        self.messages_sent += size
        self.batches_sent += 1
        self._last_sent_at = time.monotonic()


def record_acknowledgement(database: Database, batch: Batch) -> None:
    """Put down that a batch was queued, in a transaction of its own; once, however often told."""
    with database.write() as connection:
        connection.execute(
            database.upsert(driver_acknowledgements)
            .values(
                campaign_id=batch.campaign.id,
                first=batch.first,
                size=batch.size,
                at=SystemClock().now(),
            )
            .on_conflict_do_nothing()
        )


def enqueue_once(
    database: Database,
    campaign: Campaign,
    *,
    batch: int,
    first: int,
    size: int,
    by: Author,
    at: Instant | Sequence[Instant],
) -> Batch:
    """Record a batch, unless it is on record: nobody knows whether a lost commit took place."""
    try:
        return enqueue_batch(
            database, campaign, batch=batch, first=first, size=size, author=by, at=at
        )
    except IntegrityError:
        with database.read() as connection:
            recorded = load_batch(connection, campaign.id, batch)
        if (recorded.first, recorded.size) != (first, size):
            raise
        return recorded
