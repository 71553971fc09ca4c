"""What the driver was told is queued, and what it can tell against the tracker's record."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from simulator.schema import driver_acknowledgements
from tracker.audit.invariants import QueryInvariant
from tracker.status import IN_PROGRESS_STATUSES, Status
from tracker.store.schema.catalog import campaigns, runs
from tracker.store.schema.messages import messages


def _select_unsettled_acknowledged(ids: Sequence[int]) -> sa.Select[Any]:
    """What was acknowledged and is not there, or has not settled though its run has finished."""
    moving = sa.or_(
        messages.c.status.in_(IN_PROGRESS_STATUSES),
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
            driver_acknowledgements.c.campaign_id,
            driver_acknowledgements.c.first,
            driver_acknowledgements.c.size,
            there.label("there"),
            unsettled.label("unsettled"),
        )
        .join(campaigns, campaigns.c.id == driver_acknowledgements.c.campaign_id)
        .join(runs, runs.c.id == campaigns.c.run_id)
        .outerjoin(
            messages,
            sa.and_(
                messages.c.campaign_id == driver_acknowledgements.c.campaign_id,
                messages.c.number.between(
                    driver_acknowledgements.c.first,
                    driver_acknowledgements.c.first + driver_acknowledgements.c.size - 1,
                ),
            ),
        )
        .where(driver_acknowledgements.c.campaign_id.in_(ids))
        .group_by(
            driver_acknowledgements.c.campaign_id,
            driver_acknowledgements.c.first,
            driver_acknowledgements.c.size,
        )
        .having(sa.or_(there != driver_acknowledgements.c.size, unsettled > 0))
        .order_by(driver_acknowledgements.c.campaign_id, driver_acknowledgements.c.first)
    )


INVARIANTS = (
    QueryInvariant(
        "acknowledged_settles",
        "What the driver was told is queued is there, and has settled when its run has finished.",
        _select_unsettled_acknowledged,
    ),
)
