"""The sweep: re-queue stalled batches, each from the step that the record says it needs.

A batch is stalled when it needs a step, waits for nothing, and has no task in a queue or with a
live worker. The sweep may be wrong about that, and several sweeps may run at once: a superfluous
task finds nothing to do.

It also wakes batches whose deferred messages are due, or whose messages without a reply count as
not delivered: no task waits for as long as they do.
"""

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from celery import Celery
from redis import Redis
from sqlalchemy import Connection

from tracker.clock import Instant, SystemClock, from_seconds
from tracker.output.logs import LogFields
from tracker.queries.stalled import (
    StalledBatch,
    exclude_touched_batches,
    find_idle_batches,
    find_unfinished_campaigns,
)
from tracker.record.catalog import BatchKey, load_campaigns
from tracker.store.database import Database
from tracker.store.schema.work import recoveries
from workers.chains import StepArguments, enqueue_step
from workers.queues import SWEEP_INTERVAL_SECONDS
from workers.upkeep.broker import HeldTask, read_held_tasks, read_ready_batches

logger = logging.getLogger(__name__)

MIN_IDLE_TIME = timedelta(seconds=1)
"""Real time for which a batch, or a held task of it, is left alone. Shorter than the time
between two sweeps, so the next sweep finds what this one has just missed."""

LOOKS_AT_BROKER = 2
"""How often the broker must show no task of a batch. Queues and held tasks are read one after the
other. One look misses a step that ends between the two, as its next task is queued by then."""

INSPECT_TIMEOUT_SECONDS = 1.0
"""Seconds to wait for workers to say which tasks they have."""

MAX_REQUEUE_INTERVAL_SECONDS = 300.0
"""Longest time, in seconds, between two re-queues of a batch that shows no sign of life. It starts
at the time between two sweeps and doubles each time."""


@dataclass(frozen=True, kw_only=True)
class RequeuedBatch:
    """A stalled batch that was re-queued.

    Attributes:
        requeue_count: re-queues in a row without a sign of life; 0 if the batch was only woken.
    """

    stalled: StalledBatch
    requeue_count: int

    @property
    def is_awakened(self) -> bool:
        """True if no task was lost: the batch only waited for a time."""
        return self.requeue_count == 0

    @property
    def log_fields(self) -> LogFields:
        """The fields of the log event."""
        return LogFields(
            campaign=self.stalled.campaign.id,
            batch=self.stalled.batch,
            step=self.stalled.step,
            idle=f"{self.stalled.idle_seconds:.1f}s",
        )


def requeue_stalled_batches(
    database: Database, app: Celery, client: Redis, campaign_ids: Collection[int] | None = None
) -> list[RequeuedBatch]:
    """Re-queue stalled batches of some campaigns, or of all that are unfinished; return them.

    Batches that only waited for a time are re-queued too, and not returned at the first time.
    Errors of the database and the broker are raised; batches re-queued before that stay so.
    """
    with database.read() as connection:
        campaigns = (
            find_unfinished_campaigns(connection)
            if campaign_ids is None
            else load_campaigns(connection, list(campaign_ids))
        )
        idle = find_idle_batches(connection, campaigns, MIN_IDLE_TIME)
    if not idle:
        return []
    in_progress = find_batches_in_progress(app, client, {_batch_key(batch) for batch in idle})
    stalled = [batch for batch in idle if _batch_key(batch) not in in_progress]
    claimed = _claim_batches(database, stalled) if stalled else []
    for requeued in claimed:
        batch = requeued.stalled
        # As a retry: the batch may have killed the process of its task.
        arguments = StepArguments(
            campaign=batch.campaign.id, batch=batch.batch, is_retry=not requeued.is_awakened
        )
        enqueue_step(app, batch.step, arguments, batch.campaign, retry=False)
        if requeued.is_awakened:
            logger.info("batch woken: %s", requeued.log_fields)
    return [requeued for requeued in claimed if not requeued.is_awakened]


def _batch_key(stalled: StalledBatch) -> BatchKey:
    return stalled.campaign.id, stalled.batch


def find_batches_in_progress(app: Celery, client: Redis, batches: set[BatchKey]) -> set[BatchKey]:
    """Return those of some batches that have a task in a queue or with a live worker.

    Errors of the broker are raised.

    A chain has one task at a time on the broker, which carries the tasks to come; that one is
    enough.
    """
    in_progress, batch_by_task_id = set[BatchKey](), dict[str, BatchKey]()
    for _ in range(LOOKS_AT_BROKER):
        for batch in read_ready_batches(client):
            if batch in batches:
                in_progress.add(batch)
            if in_progress == batches:  # the rest of a long queue can't change the answer
                return in_progress
        now = time.time()
        for held in read_held_tasks(client):
            if held.batch in batches - in_progress:
                if _is_recent(held, now):
                    in_progress.add(held.batch)
                else:
                    batch_by_task_id[held.id] = held.batch
    undecided = [task_id for task_id, batch in batch_by_task_id.items() if batch not in in_progress]
    if undecided:
        live_tasks = _find_live_tasks(app, undecided)
        in_progress |= {batch_by_task_id[task_id] for task_id in live_tasks}
    return in_progress


def _is_recent(held: HeldTask, now: float) -> bool:
    """Return whether a worker took a task just now, or waits for the task's time."""
    return now - max(held.held_since, held.eta or 0.0) < MIN_IDLE_TIME.total_seconds()


def _find_live_tasks(app: Celery, task_ids: Sequence[str]) -> set[str]:
    """Return those of some held tasks that a live worker has.

    The broker can't tell: a worker that died holds its tasks until the visibility timeout.
    """
    answers = app.control.inspect(timeout=INSPECT_TIMEOUT_SECONDS).query_task(*task_ids) or {}
    return {task_id for tasks in answers.values() for task_id in tasks}


def _claim_batches(database: Database, stalled: Sequence[StalledBatch]) -> list[RequeuedBatch]:
    """Record the batches that this sweep re-queues, and return them.

    Leaves out batches that a step has changed meanwhile, and those that another sweep re-queues.
    Batches that were re-queued a short time ago without progress since are left out as well.
    """
    now = SystemClock().now()
    claimed = []
    with database.write() as connection:
        ids = {batch.campaign.id for batch in stalled}
        query = sa.select(recoveries).where(recoveries.c.campaign_id.in_(ids))
        recovery_rows = {(row.campaign_id, row.batch): row for row in connection.execute(query)}
        for batch in exclude_touched_batches(connection, stalled):
            previous = recovery_rows.get(_batch_key(batch))
            requeue_count = 0 if batch.is_waiting_over else 1
            if previous is not None and previous.touched_at == batch.touched_at:
                if now - previous.sent_at < _requeue_interval(previous.times):
                    continue
                requeue_count = previous.times + 1
            if _record_requeue(database, connection, batch, requeue_count, now, previous):
                claimed.append(RequeuedBatch(stalled=batch, requeue_count=requeue_count))
    return claimed


def _requeue_interval(requeue_count: int) -> int:
    """Return how long to wait before a batch is re-queued again, in microseconds."""
    doubled = SWEEP_INTERVAL_SECONDS * 2.0 ** min(max(0, requeue_count - 1), 10)
    return from_seconds(min(MAX_REQUEUE_INTERVAL_SECONDS, doubled))


def _record_requeue(
    database: Database,
    connection: Connection,
    stalled: StalledBatch,
    requeue_count: int,
    now: Instant,
    previous: sa.Row[Any] | None,
) -> bool:
    """Record a re-queue, unless another sweep has since `previous` was read; return whether."""
    values = {
        "step": stalled.step,
        "times": requeue_count,
        "touched_at": stalled.touched_at,
        "sent_at": now,
    }
    key = {"campaign_id": stalled.campaign.id, "batch": stalled.batch}
    if previous is None:
        insert = database.insert_missing(recoveries).values(key | values)
        return bool(connection.execute(insert).rowcount)
    update = sa.update(recoveries).filter_by(**key, sent_at=previous.sent_at).values(values)
    return bool(connection.execute(update).rowcount)
