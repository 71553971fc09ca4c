"""The sweep: batches that stand still are sent on from where the record says they are.

A batch stands still when it needs a step, waits for nothing, and no task of it is in a queue or
with a worker that lives. Whoever sweeps may be wrong about that, and others may sweep at the same
time: a task too many finds nothing to do.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from celery import Celery
from redis import Redis
from sqlalchemy import Connection

from tracker.clock import SystemClock, from_seconds
from tracker.queries.stalled import StalledBatch, find_idle_batches, find_unfinished_campaigns
from tracker.record.catalog import load_campaigns
from tracker.store.database import Database
from tracker.store.schema.work import recoveries
from workers.queues import QUEUE_BY_STEP, SWEEP_INTERVAL_SECONDS, format_task_arguments, task_name
from workers.upkeep.broker import BatchKey, HeldTask, read_held_tasks, read_ready_batches

STALLED_AFTER = timedelta(seconds=1)
"""Real time for which a batch is left alone: less than between two sweeps, so that what one of them
has just missed, the next one finds."""

INSPECT_TIMEOUT_SECONDS = 1.0
"""Seconds that workers have to say which tasks they are at."""

MAX_REQUEUE_INTERVAL_SECONDS = 300.0
"""Seconds after which a batch is sent on again though nothing ever comes of it. The first time it
is a sweep later, then twice as long each time."""


@dataclass(frozen=True, kw_only=True)
class RequeuedBatch:
    """A batch that stood still and was sent on, the ``times``-th time in a row without a sign of
    life."""

    standing: StalledBatch
    times: int


def sweep(
    database: Database, app: Celery, client: Redis, campaign_ids: Collection[int] | None = None
) -> list[RequeuedBatch]:
    """Send on what stands still, of some campaigns or of all that are under way.

    Raises what database and broker raise; what was sent by then is sent.
    """
    with database.read() as connection:
        known = (
            find_unfinished_campaigns(connection)
            if campaign_ids is None
            else load_campaigns(connection, list(campaign_ids))
        )
        idle = find_idle_batches(connection, known, STALLED_AFTER)
    if not idle:
        return []
    under_way = _find_batches_in_progress(app, client, {_batch_key(each) for each in idle})
    standing = [each for each in idle if _batch_key(each) not in under_way]
    sent_on = _claim_batches(database, standing) if standing else []
    for each in sent_on:
        _requeue_batch(app, each.standing)
    return sent_on


def _batch_key(standing: StalledBatch) -> BatchKey:
    return standing.campaign.id, standing.batch


def _find_batches_in_progress(app: Celery, client: Redis, batches: set[BatchKey]) -> set[BatchKey]:
    """Those of some batches that have a task somewhere."""
    found = set[BatchKey]()
    for batch in read_ready_batches(client):
        if batch in batches:
            found.add(batch)
        if found == batches:  # a long queue: there is nothing more to find out
            return found
    now, asked = time.time(), dict[str, BatchKey]()
    for held in read_held_tasks(client):
        if held.batch in batches - found:
            if _is_recent(held, now):
                found.add(held.batch)
            else:
                asked[held.id] = held.batch
    if asked:
        found |= {asked[task_id] for task_id in _find_live_tasks(app, list(asked))}
    return found


def _is_recent(held: HeldTask, now: float) -> bool:
    """Whether a task was taken just now, or is not to be done before now."""
    return now - max(held.held_since, held.eta or 0.0) < STALLED_AFTER.total_seconds()


def _find_live_tasks(app: Celery, task_ids: Sequence[str]) -> set[str]:
    """Those of some tasks that a worker says it has: one that died holds them for minutes more."""
    answers = app.control.inspect(timeout=INSPECT_TIMEOUT_SECONDS).query_task(*task_ids) or {}
    return {task_id for tasks in answers.values() for task_id in tasks}


def _claim_batches(database: Database, standing: Sequence[StalledBatch]) -> list[RequeuedBatch]:
    """Note what is sent on now: not what somebody else is sending, and not what was sent lately
    without any sign of life since."""
    now = SystemClock().now()
    with database.write() as connection:
        known = _load_recoveries(connection, {each.campaign.id for each in standing})
        claimed = []
        for each in standing:
            before = known.get(_batch_key(each))
            alike = before is not None and before.touched_at == each.touched_at
            times = before.times + 1 if before is not None and alike else 1
            if (
                before is not None
                and alike
                and now - before.sent_at < _requeue_interval(before.times)
            ):
                continue
            if _record_requeue(database, connection, each, times, now, before):
                claimed.append(RequeuedBatch(standing=each, times=times))
        return claimed


def _load_recoveries(
    connection: Connection, campaign_ids: Collection[int]
) -> Mapping[BatchKey, sa.Row[Any]]:
    rows = connection.execute(
        sa.select(recoveries).where(recoveries.c.campaign_id.in_(campaign_ids))
    )
    return {(row.campaign_id, row.batch): row for row in rows}


def _requeue_interval(times: int) -> int:
    """Microseconds to leave a batch alone that was sent on so often."""
    seconds = min(MAX_REQUEUE_INTERVAL_SECONDS, SWEEP_INTERVAL_SECONDS * 2.0 ** min(times - 1, 10))
    return from_seconds(seconds)


def _record_requeue(
    database: Database,
    connection: Connection,
    standing: StalledBatch,
    times: int,
    now: int,
    before: sa.Row[Any] | None,
) -> bool:
    """Write down that a batch is sent on, unless somebody else did so since ``before`` was read."""
    values = {
        "step": standing.step,
        "times": times,
        "touched_at": standing.touched_at,
        "sent_at": now,
    }
    key = (
        recoveries.c.campaign_id == standing.campaign.id,
        recoveries.c.batch == standing.batch,
    )
    if before is None:
        new = {"campaign_id": standing.campaign.id, "batch": standing.batch, **values}
        insert = database.upsert(recoveries).on_conflict_do_nothing()
        return bool(connection.execute(insert.values(new)).rowcount)
    as_it_was = recoveries.c.sent_at == before.sent_at
    update = sa.update(recoveries).where(*key, as_it_was).values(values)
    return bool(connection.execute(update).rowcount)


def _requeue_batch(app: Celery, standing: StalledBatch) -> None:
    campaign, batch = standing.campaign, standing.batch
    app.send_task(
        task_name(standing.step),
        kwargs={"campaign": campaign.id, "batch": batch, "is_retry": True},
        kwargsrepr=format_task_arguments(campaign.id, campaign.name, batch),
        queue=QUEUE_BY_STEP[standing.step],
        retry=False,
    )
