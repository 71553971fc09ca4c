"""Find stalled batches: a step is needed, none is in progress, and nothing is waited for.

The search reads batches and tallies, never messages. It may report a batch that is only slow; to
re-queue such a batch does no harm.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_real_seconds, to_run_microseconds
from tracker.queries.batch_states import count_pending, read_open_batches, read_state_counts
from tracker.queries.campaign_state import IS_UNFINISHED
from tracker.queries.next_step import (
    CHECK_CHAIN,
    BatchState,
    decide_step,
    deferral_due_time,
    read_completed_checks,
)
from tracker.queries.pending_batches import has_next_step
from tracker.queries.retries import compute_retry_pause
from tracker.record.catalog import Campaign, load_campaigns
from tracker.record.predicates import is_same_batch
from tracker.status import Status, Step
from tracker.store.schema import catalog as catalog_tables
from tracker.store.schema.catalog import batches, runs
from tracker.store.schema.messages import tallies
from tracker.store.schema.work import recoveries, reports

STALLED_AFTER = timedelta(minutes=2)
"""Real time without progress after which a batch counts as stalled. A task may take as long, or
wait half as long in a worker."""

MAX_CAMPAIGNS = 100
"""Unfinished campaigns that are searched, latest first. Campaigns of aborted runs remain among
them."""

MAX_BATCHES_PER_CAMPAIGN = 10_000

STATUS_BY_STEP = {
    **dict.fromkeys(CHECK_CHAIN, Status.QUEUED),
    Step.SUBMIT: Status.ABOUT_TO_BE_SENT,
}
"""The status of the messages that wait in a queue for a step."""


@dataclass(frozen=True, kw_only=True)
class StalledBatch:
    """A batch that needs a step which is neither done nor waited for.

    Attributes:
        idle_since: instant of the campaign's clock since when the step could have been done.
        idle_seconds: real seconds since then.
        touched_at: instant at which a step last changed the batch.
        pending_by_status: number of the batch's messages that haven't settled, by status.
        requeue_count: how often the batch was re-queued since `touched_at`.
        is_waiting_over: whether the batch had no task: it waited until its campaign was resumed,
            its deferred messages were due, or messages without a reply count as not delivered.
    """

    campaign: Campaign
    batch: int
    step: Step
    idle_since: Instant
    idle_seconds: float
    touched_at: Instant
    pending_by_status: Mapping[Status, int]
    requeue_count: int = 0
    is_waiting_over: bool = False


class _UntouchedBatch(NamedTuple):
    batch: int
    touched_at: Instant
    receipts_due_at: Instant | None
    engagement_due_at: Instant | None
    deferral_due_at: Instant | None
    deferred: int
    unconfirmed_due_at: Instant | None


def find_unfinished_campaigns(connection: Connection) -> list[Campaign]:
    """Return the latest campaigns that may still change.

    These are the campaigns of runs that are neither finished nor given up, and those with a
    gateway's report that isn't applied yet. Others have messages without a reply, which count as
    not delivered after a time, unless their run was given up.
    """
    reported = sa.select(reports.c.campaign_id).distinct()
    unconfirmed = sa.select(batches.c.campaign_id).where(batches.c.unconfirmed_due_at.is_not(None))
    query = (
        sa.select(catalog_tables.campaigns.c.id)
        .join(runs, runs.c.id == catalog_tables.campaigns.c.run_id)
        .where(
            sa.or_(
                IS_UNFINISHED,
                catalog_tables.campaigns.c.id.in_(reported),
                sa.and_(
                    runs.c.given_up_at.is_(None),
                    catalog_tables.campaigns.c.id.in_(unconfirmed.distinct()),
                ),
            )
        )
        .order_by(catalog_tables.campaigns.c.id.desc())
        .limit(MAX_CAMPAIGNS)
    )
    return load_campaigns(connection, connection.scalars(query).all())


def find_stalled_batches(
    connection: Connection, campaigns: Sequence[Campaign]
) -> list[StalledBatch]:
    """Return the batches that are idle for longer than STALLED_AFTER and don't wait in a queue."""
    stalled = []
    for campaign in campaigns:
        idle = _find_idle_batches_of(connection, campaign, STALLED_AFTER)
        if idle:
            stalled += _exclude_queued_batches(connection, campaign, idle)
    return stalled


def find_idle_batches(
    connection: Connection, campaigns: Sequence[Campaign], idle_for: timedelta
) -> list[StalledBatch]:
    """Return the batches that have needed a step for longer than a real time.

    Such a batch may wait in a queue: the record doesn't hold what the broker holds.
    """
    return [
        batch
        for campaign in campaigns
        for batch in _find_idle_batches_of(connection, campaign, idle_for)
    ]


def exclude_touched_batches(
    connection: Connection, stalled: Sequence[StalledBatch]
) -> list[StalledBatch]:
    """Return the batches that no step has changed since they were found."""
    numbers = [batch.batch for batch in stalled]
    query = sa.select(batches.c.campaign_id, batches.c.batch, batches.c.touched_at).where(
        batches.c.campaign_id.in_({batch.campaign.id for batch in stalled}),
        batches.c.batch.between(min(numbers), max(numbers)),
    )
    unchanged = {tuple(row) for row in connection.execute(query)}
    return [
        batch
        for batch in stalled
        if (batch.campaign.id, batch.batch, batch.touched_at) in unchanged
    ]


def read_last_requeue_time(connection: Connection) -> Instant | None:
    """Return the real time at which a stalled batch was last re-queued, None if none ever was.

    A batch that was only woken, since it had waited for a time, has a row with 0 re-queues.
    """
    query = sa.select(sa.func.max(recoveries.c.sent_at)).where(recoveries.c.times > 0)
    last: Instant | None = connection.scalar(query)
    return last


def _idle_cutoff(campaign: Campaign, idle_for: timedelta) -> Instant:
    """Return the instant of the campaign's clock that was `idle_for` of real time ago."""
    return campaign.clock.now() - to_run_microseconds(idle_for, campaign.speed)


def _find_idle_batches_of(
    connection: Connection, campaign: Campaign, idle_for: timedelta
) -> list[StalledBatch]:
    cutoff = _idle_cutoff(campaign, idle_for)
    rows = _read_untouched_batches(connection, campaign, cutoff)
    if not rows:
        return []
    counts_by_batch = read_state_counts(connection, campaign, rows[0].batch, rows[-1].batch)
    completed_checks = read_completed_checks(connection, campaign.id, rows[0].batch, rows[-1].batch)
    requeue_counts = _read_requeue_counts(connection, campaign)
    open_batches = read_open_batches(connection, campaign)
    idle = []
    for row in rows:
        counts = counts_by_batch[row.batch]
        state = _make_state(campaign, row, counts, completed_checks[row.batch])
        due_step = decide_step(replace(state, has_open_submission=row.batch in open_batches))
        if due_step is None:
            continue
        resumed_at = campaign.resumed_at or row.touched_at
        idle_since = max(row.touched_at, resumed_at, due_step.due_at or row.touched_at)
        if idle_since >= cutoff:
            continue
        has_waited = due_step.step is Step.DISPATCH or due_step.due_at == row.unconfirmed_due_at
        idle.append(
            StalledBatch(
                campaign=campaign,
                batch=row.batch,
                step=due_step.step,
                idle_since=idle_since,
                idle_seconds=to_real_seconds(campaign.clock.now() - idle_since, campaign.speed),
                touched_at=row.touched_at,
                pending_by_status=count_pending(counts, campaign),
                requeue_count=requeue_counts.get((row.batch, row.touched_at), 0),
                is_waiting_over=row.touched_at < resumed_at
                or (due_step.due_at is not None and has_waited),
            )
        )
    return idle


def _make_state(
    campaign: Campaign,
    row: _UntouchedBatch,
    counts: Counter[tuple[Status, int]],
    completed_checks: Collection[Step],
) -> BatchState:
    # The latest possible due time: a soft bounce precedes the step that recorded it. The exact time
    # is in the transitions, which are too many to read here.
    bounced = (attempt for status, attempt in counts if status is Status.SOFT_BOUNCED)
    pause = compute_retry_pause(campaign, min(bounced, default=1))
    retry_due_at = row.touched_at + pause if campaign.retry_after else None
    due_times = [at for at in (row.receipts_due_at, row.unconfirmed_due_at) if at is not None]
    return BatchState(
        occupied=counts,
        attempts=campaign.attempts,
        completed_checks=completed_checks,
        retry_due_at=retry_due_at,
        receipts_due_at=min(due_times, default=None),
        engagement_due_at=row.engagement_due_at,
        deferral_due_at=deferral_due_time(
            counts[Status.QUEUED, 0], row.deferred, row.deferral_due_at
        ),
        is_paused=campaign.paused_at is not None,
        is_cancelled=campaign.cancelled_at is not None,
    )


def _read_untouched_batches(
    connection: Connection, campaign: Campaign, cutoff: Instant
) -> list[_UntouchedBatch]:
    """Return batches, in order, that no step has changed since `cutoff` and that may need one."""
    condition = has_next_step(
        campaign.attempts,
        due_before=cutoff,
        is_paused=sa.false() if campaign.paused_at is None else sa.true(),
        is_cancelled=sa.false() if campaign.cancelled_at is None else sa.true(),
    )
    query = (
        sa.select(*(batches.c[name] for name in _UntouchedBatch._fields))
        .where(
            batches.c.campaign_id == campaign.id,
            batches.c.touched_at < cutoff,
            sa.or_(condition, batches.c.unconfirmed_due_at < cutoff),
        )
        .order_by(batches.c.batch)
        .limit(MAX_BATCHES_PER_CAMPAIGN)
    )
    return [_UntouchedBatch(*row) for row in connection.execute(query)]


def _read_requeue_counts(
    connection: Connection, campaign: Campaign
) -> dict[tuple[int, Instant], int]:
    """Return how often batches were re-queued, by the batch and its last change by then."""
    query = sa.select(recoveries.c.batch, recoveries.c.touched_at, recoveries.c.times).where(
        recoveries.c.campaign_id == campaign.id
    )
    return {(batch, touched_at): times for batch, touched_at, times in connection.execute(query)}


def _exclude_queued_batches(
    connection: Connection, campaign: Campaign, idle: Sequence[StalledBatch]
) -> list[StalledBatch]:
    """Return the idle batches without those that seem to wait in a queue.

    A queue is first in, first out. While batches of the campaign make progress, one that waits for
    a queued step counts as stalled only if a later batch has overtaken it. With a limited gateway
    rate that proves nothing, since tasks are re-queued in any order.
    """
    if not _has_progress_since(connection, campaign, _idle_cutoff(campaign, STALLED_AFTER)):
        return list(idle)
    last_done = {
        status: _find_last_batch_without(connection, campaign, status)
        for status in set(STATUS_BY_STEP.values())
    }

    def is_queued(batch: StalledBatch) -> bool:
        status = STATUS_BY_STEP.get(batch.step)
        if status is None or status not in batch.pending_by_status:
            return False  # retries, receipts and engagement have due times, not a place in a queue
        overtaker = last_done[status]
        is_overtaken = overtaker is not None and overtaker >= batch.batch
        return not is_overtaken or campaign.gateway_rate is not None

    return [batch for batch in idle if not is_queued(batch)]


def _has_progress_since(connection: Connection, campaign: Campaign, since: Instant) -> bool:
    touched = sa.exists().where(batches.c.campaign_id == campaign.id, batches.c.touched_at >= since)
    return bool(connection.scalar(sa.select(touched)))


def _find_last_batch_without(
    connection: Connection, campaign: Campaign, status: Status
) -> int | None:
    """Return the last batch of a campaign that has no message in a status."""
    has_status = (
        sa.exists()
        .where(
            is_same_batch(tallies, batches),
            tallies.c.status == status,
            tallies.c.messages > 0,
        )
        .correlate(batches)
    )
    query = (
        sa.select(batches.c.batch)
        .where(batches.c.campaign_id == campaign.id, ~has_status)
        .order_by(batches.c.batch.desc())
        .limit(1)
    )
    last: int | None = connection.scalar(query)
    return last
