"""The driver: sends messages into the queue as they arrive, whatever the system does with them."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from celery import Celery
from sqlalchemy.exc import IntegrityError

from simulator.retry import patiently
from simulator.schema import acknowledged
from simulator.setup.record import Loaded, Run
from tracker.clock import Instant, SystemClock
from tracker.record.catalog import Batch, Campaign, load_batch
from tracker.record.journal import Author, enqueue
from tracker.status import Step
from tracker.store.database import Database
from workers.queues import QUEUE_OF, shown_arguments, task_name

DRIVER = Author(worker="driver")

COLLECTING = 0.25
"""Seconds of real time for which arrivals are collected into one batch, unless it is full before.
A batch costs some milliseconds at each step, however small it is: with four a second that is a few
hundredths of a core, and a message waits an eighth of a second for its batch."""

MICROSECONDS = 1e6
"""In a second."""


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
        is_settled: Callable[[Loaded], bool],
    ) -> None:
        self._database = database
        self._app = app
        self._batch_size = batch_size
        self._is_settled = is_settled
        self._by_name = {loaded.campaign.name: loaded for loaded in run.campaigns}
        self._waiting = list(run.campaigns)
        self._sending: deque[_Sending] = deque()
        self.sent = 0

    def send(self) -> int:
        """Send a batch of what has arrived, and say how many messages that were; 0: none has."""
        self._begin()
        for _ in range(len(self._sending)):
            sending = self._sending.popleft()
            due = sending.due(self._batch_size)
            if due:
                self._send(sending, due)
            if not sending.is_done:
                self._sending.append(sending)  # behind the others: campaigns take turns
            if due:
                return due
        return 0

    def _begin(self) -> None:
        """Begin the campaigns whose time has come."""
        for loaded in list(self._waiting):
            now = loaded.campaign.clock.now()
            after = loaded.plan.after
            if now < loaded.begins_at:
                continue
            if after is None:
                begins_at = loaded.begins_at
            elif self._is_sent(after) and self._is_settled(self._by_name[after]):
                begins_at = now
            else:
                continue
            self._waiting.remove(loaded)
            self._sending.append(_Sending(loaded, begins_at))

    def _is_sent(self, name: str) -> bool:
        unsent = [*self._waiting, *(each.loaded for each in self._sending)]
        return all(each.campaign.name != name for each in unsent)

    def _send(self, sending: "_Sending", size: int) -> None:
        campaign = sending.loaded.campaign
        queued = patiently(
            partial(
                enqueue_once,
                self._database,
                campaign,
                batch=sending.batches,
                first=sending.sent,
                size=size,
                at=sending.arrivals(size),
                by=DRIVER,
            )
        )
        patiently(partial(acknowledge, self._database, queued))
        task = {"campaign": campaign.id, "batch": sending.batches}
        queue = QUEUE_OF[Step.SUPPRESS]
        patiently(
            partial(
                self._app.send_task,
                task_name(Step.SUPPRESS),
                kwargs=task,
                kwargsrepr=shown_arguments(campaign.id, campaign.name, sending.batches),
                queue=queue,
            )
        )
        sending.was_sent(size)
        self.sent += size


class _Sending:
    """How far a campaign is that began at ``begins_at``."""

    def __init__(self, loaded: Loaded, begins_at: Instant) -> None:
        self.loaded = loaded
        self.sent = self.batches = 0
        self._shape = loaded.shape
        self._begins_at = begins_at
        self._last = time.monotonic() - COLLECTING

    @property
    def is_done(self) -> bool:
        return self.sent == self.loaded.size

    def due(self, most: int) -> int:
        """How many messages to send now, ``most`` at the most; 0 while more are collected."""
        now = self.loaded.campaign.clock.now()
        arrived = self._shape.arrived((now - self._begins_at) / MICROSECONDS)
        left = self.loaded.size - self.sent
        due = min(arrived - self.sent, left)
        full = due >= min(most, left)
        if due > 0 and (full or time.monotonic() - self._last >= COLLECTING):
            return min(due, most)
        return 0

    def arrivals(self, size: int) -> Instant | list[Instant]:
        """When the next ``size`` messages were meant to arrive."""
        if self._shape.is_blast:
            return self._begins_at
        seconds = self._shape.arrivals(self.sent, size)
        at = self._begins_at + np.rint(seconds * MICROSECONDS).astype(np.int64)
        instants: list[Instant] = at.tolist()
        return instants

    def was_sent(self, size: int) -> None:
        self.sent += size
        self.batches += 1
        self._last = time.monotonic()


def acknowledge(database: Database, batch: Batch) -> None:
    """Put down that a batch was queued, in a transaction of its own; once, however often told."""
    with database.write() as connection:
        connection.execute(
            database.upsert(acknowledged)
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
        return enqueue(database, campaign, batch=batch, first=first, size=size, by=by, at=at)
    except IntegrityError:
        with database.read() as connection:
            recorded = load_batch(connection, campaign.id, batch)
        if (recorded.first, recorded.size) != (first, size):
            raise
        return recorded
