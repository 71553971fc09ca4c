"""The invariant query for bounces by cause."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.audit.messages import select_differing_sums
from tracker.store.schema.messages import BOUNCED_STATUSES, bounce_tallies, tallies


def find_wrong_bounce_tallies(ids: Sequence[int]) -> Select[Any]:
    """Return a query for batches whose bounces by cause don't sum to their bounced messages."""
    bounced = sa.select(
        tallies.c.campaign_id,
        tallies.c.batch,
        tallies.c.status,
        tallies.c.messages,
        sa.literal(0).label("by_cause"),
    ).where(tallies.c.campaign_id.in_(ids), tallies.c.status.in_(BOUNCED_STATUSES))
    by_cause = sa.select(
        bounce_tallies.c.campaign_id,
        bounce_tallies.c.batch,
        bounce_tallies.c.status,
        sa.literal(0),
        bounce_tallies.c.messages,
    ).where(bounce_tallies.c.campaign_id.in_(ids))
    key = ("campaign_id", "batch", "status")
    return select_differing_sums(sa.union_all(bounced, by_cause), key, "messages", "by_cause")
