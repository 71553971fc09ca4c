"""The invariant query for deferred messages."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.record.predicates import is_of_recorded_batch, is_same_batch, is_same_message
from tracker.status import Status
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages
from tracker.store.schema.work import deferrals


def find_wrong_deferral_counts(ids: Sequence[int]) -> Select[Any]:
    """Return a query for batches whose deferred messages aren't those that the batch counts."""
    of_batch = (
        sa.select(sa.func.count())
        .select_from(deferrals)
        .outerjoin(
            messages,
            sa.and_(
                is_same_message(messages, deferrals),
                is_of_recorded_batch(messages),
                messages.c.status == Status.QUEUED,
            ),
        )
        .where(is_same_batch(deferrals, batches))
        .correlate(batches)
    )
    queued = of_batch.where(messages.c.number.is_not(None)).scalar_subquery()
    due_at = (
        sa.select(sa.func.min(deferrals.c.until))
        .where(is_same_batch(deferrals, batches))
        .correlate(batches)
        .scalar_subquery()
    )
    return (
        sa.select(
            batches.c.campaign_id,
            batches.c.batch,
            batches.c.deferred,
            of_batch.scalar_subquery().label("deferrals"),
            queued.label("queued"),
        )
        .where(
            batches.c.campaign_id.in_(ids),
            sa.or_(
                batches.c.deferred != of_batch.scalar_subquery(),
                batches.c.deferred != queued,
                batches.c.deferral_due_at.is_distinct_from(due_at),
            ),
        )
        .order_by(batches.c.campaign_id, batches.c.batch)
    )
