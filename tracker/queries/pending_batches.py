"""Find the batches that have a next step, as SQL: the decision of `tracker.queries.next_step`."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.queries.next_step import CHECK_STEPS
from tracker.record.actions.submissions import has_open_submission
from tracker.record.catalog import BatchKey
from tracker.record.predicates import has_open_segments, is_same_batch
from tracker.status import IN_PROGRESS_STATUSES, Status
from tracker.store.schema.catalog import batches, campaigns
from tracker.store.schema.messages import tallies
from tracker.store.schema.work import steps


def has_next_step(
    attempts: int | sa.ColumnElement[int],
    *,
    due_before: Instant | None = None,
    is_paused: sa.ColumnElement[bool] = sa.false(),  # noqa: B008  # never changed
    is_cancelled: sa.ColumnElement[bool] = sa.false(),  # noqa: B008  # never changed
) -> sa.ColumnElement[bool]:
    """Return the SQL condition that a row of `batches` has a next step.

    With `due_before`, receipts, engagement and deferred messages count only if they are due before
    that instant. Retries after a soft bounce count in any case, since the record of a batch doesn't
    hold their due time. With `is_paused`, the condition that its campaign is paused, messages that
    wait for one of PAUSED_STEPS count only if it is false. With `is_cancelled`, messages before the
    gateway and open submissions count in any case, and retries don't.
    """
    is_in_progress: sa.ColumnElement[bool] = tallies.c.status.in_(IN_PROGRESS_STATUSES)
    if due_before is not None:
        is_due = sa.or_(is_cancelled, ~_is_waiting(due_before))
        is_in_progress = sa.and_(is_in_progress, is_due)
    is_retried = sa.and_(tallies.c.status == Status.SOFT_BOUNCED, tallies.c.attempt < attempts)
    has_pending_messages: sa.ColumnElement[bool] = (
        sa.exists()
        .where(
            is_same_batch(tallies, batches),
            tallies.c.messages > 0,
            sa.or_(
                is_in_progress,
                sa.and_(sa.not_(is_cancelled), is_retried),
            ),
        )
        .correlate(batches, campaigns)
    )
    has_pending_messages = sa.and_(sa.not_(is_paused), has_pending_messages)
    due_columns = (batches.c.receipts_due_at, batches.c.engagement_due_at)
    has_news = (
        column.is_not(None) if due_before is None else column < due_before for column in due_columns
    )
    is_unanswered = has_open_submission(batches.c.campaign_id, batches.c.batch)
    is_unanswered = is_unanswered.correlate(batches, campaigns)
    return sa.or_(has_pending_messages, *has_news, sa.and_(is_cancelled, is_unanswered))


def _is_waiting(until: Instant) -> sa.ColumnElement[bool]:
    """Return the SQL condition that a row of `tallies` has only messages deferred for dispatch.

    None of them is due before the instant `until`, and no check step comes before.
    """
    return sa.and_(
        tallies.c.status == Status.QUEUED,
        tallies.c.messages <= batches.c.deferred,
        sa.func.coalesce(batches.c.deferral_due_at, 0) >= until,
        *(
            sa.exists()
            .where(is_same_batch(steps, batches), steps.c.step == step, ~has_open_segments())
            .correlate(batches)
            for step in CHECK_STEPS
        ),
    )


def find_settled_batches(connection: Connection, keys: Collection[BatchKey]) -> set[BatchKey]:
    """Return those of some batches that have no next step, so that they have no task either."""
    if not keys:
        return set()
    campaign_ids = {campaign_id for campaign_id, _ in keys}
    numbers = [batch for _, batch in keys]
    is_paused = campaigns.c.paused_at.is_not(None)
    is_cancelled = campaigns.c.cancelled_at.is_not(None)
    condition = has_next_step(campaigns.c.attempts, is_paused=is_paused, is_cancelled=is_cancelled)
    query = (
        sa.select(batches.c.campaign_id, batches.c.batch)
        .join(campaigns, campaigns.c.id == batches.c.campaign_id)
        .where(
            batches.c.campaign_id.in_(campaign_ids),
            batches.c.batch.between(min(numbers), max(numbers)),
            sa.not_(condition),
        )
    )
    settled = {(campaign_id, batch) for campaign_id, batch in connection.execute(query)}
    return settled.intersection(keys)
