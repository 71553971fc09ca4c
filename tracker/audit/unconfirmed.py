"""The invariant query for messages that were handed over without a reply."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.record.predicates import is_of_recorded_batch, is_same_batch
from tracker.record.unconfirmed import select_unconfirmed
from tracker.store.schema.catalog import batches, campaigns, gateways
from tracker.store.schema.messages import messages, transitions


def find_wrong_unconfirmed_counts(ids: Sequence[int]) -> Select[Any]:
    """Return a query for batches whose unconfirmed messages aren't those that the batch counts."""
    due_at = transitions.c.at + gateways.c.unconfirmed_after
    recorded = (
        select_unconfirmed(
            batches.c.campaign_id,
            batches.c.batch,
            sa.func.count().label("messages"),
            sa.func.min(due_at).label("due_at"),
        )
        .join(batches, is_of_recorded_batch(messages))
        .join(campaigns, campaigns.c.id == batches.c.campaign_id)
        .join(gateways, gateways.c.id == campaigns.c.gateway_id)
        .where(messages.c.campaign_id.in_(ids))
        .group_by(batches.c.campaign_id, batches.c.batch)
        .subquery("recorded")
    )
    count = sa.func.coalesce(recorded.c.messages, 0)
    return (
        sa.select(
            batches.c.campaign_id,
            batches.c.batch,
            batches.c.unconfirmed,
            count.label("recorded"),
        )
        .select_from(batches.outerjoin(recorded, is_same_batch(recorded, batches)))
        .where(
            batches.c.campaign_id.in_(ids),
            sa.or_(
                batches.c.unconfirmed != count,
                batches.c.unconfirmed_due_at.is_distinct_from(recorded.c.due_at),
            ),
        )
        .order_by(batches.c.campaign_id, batches.c.batch)
    )
