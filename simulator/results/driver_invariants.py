"""What the driver was told is queued, and what it can tell against the tracker's record."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from simulator.schema import acknowledged
from tracker.audit.invariants import Invariant
from tracker.status import IN_PROGRESS, Status
from tracker.store.schema import campaigns, messages, runs


def _acknowledged_settles(ids: Sequence[int]) -> sa.Select[Any]:
    """What was acknowledged and is not there, or has not settled though its run has finished."""
    moving = sa.or_(
        messages.c.status.in_(IN_PROGRESS),
        sa.and_(
            messages.c.status == Status.SOFT_BOUNCED, messages.c.attempt < campaigns.c.attempts
        ),
    )
    there = sa.func.count(messages.c.number)
    unsettled = sa.func.coalesce(
        sa.func.sum(sa.case((sa.and_(moving, runs.c.finished_at.is_not(None)), 1), else_=0)), 0
    )
    return (
        sa.select(
            acknowledged.c.campaign_id,
            acknowledged.c.first,
            acknowledged.c.size,
            there.label("there"),
            unsettled.label("unsettled"),
        )
        .join(campaigns, campaigns.c.id == acknowledged.c.campaign_id)
        .join(runs, runs.c.id == campaigns.c.run_id)
        .outerjoin(
            messages,
            sa.and_(
                messages.c.campaign_id == acknowledged.c.campaign_id,
                messages.c.number.between(
                    acknowledged.c.first, acknowledged.c.first + acknowledged.c.size - 1
                ),
            ),
        )
        .where(acknowledged.c.campaign_id.in_(ids))
        .group_by(acknowledged.c.campaign_id, acknowledged.c.first, acknowledged.c.size)
        .having(sa.or_(there != acknowledged.c.size, unsettled > 0))
        .order_by(acknowledged.c.campaign_id, acknowledged.c.first)
    )


INVARIANTS = (
    Invariant(
        "acknowledged_settles",
        "What the driver was told is queued is there, and has settled when its run has finished.",
        _acknowledged_settles,
    ),
)
