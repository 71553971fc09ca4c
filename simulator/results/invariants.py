"""All invariants: of the record, and of the record against the gateway's ledger and the driver."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from simulator.results import ledger_invariants
from simulator.schema import driver_acknowledgements
from tracker.audit import invariants
from tracker.audit.invariants import QueryInvariant
from tracker.status import IN_PROGRESS_STATUSES, Status
from tracker.store.schema.catalog import campaigns, runs
from tracker.store.schema.messages import messages


def _select_unsettled_acknowledged(ids: Sequence[int]) -> sa.Select[Any]:
    """Select acknowledged messages that are missing, or unsettled in a finished run."""
    acknowledged = driver_acknowledgements.c
    batch = (acknowledged.campaign_id, acknowledged.first, acknowledged.size)
    is_unsettled = sa.or_(
        messages.c.status.in_(IN_PROGRESS_STATUSES),
        sa.and_(
            messages.c.status == Status.SOFT_BOUNCED,
            messages.c.attempt < campaigns.c.attempts,
            campaigns.c.cancelled_at.is_(None),
        ),
    )
    present = sa.func.count(messages.c.number)
    unsettled = sa.func.coalesce(
        sa.func.sum(sa.case((sa.and_(is_unsettled, runs.c.finished_at.is_not(None)), 1), else_=0)),
        0,
    )
    return (
        sa.select(
            *batch,
            present.label("there"),
            unsettled.label("unsettled"),
        )
        .join(campaigns, campaigns.c.id == acknowledged.campaign_id)
        .join(runs, runs.c.id == campaigns.c.run_id)
        .outerjoin(
            messages,
            sa.and_(
                messages.c.campaign_id == acknowledged.campaign_id,
                messages.c.number >= acknowledged.first,
                messages.c.number < acknowledged.first + acknowledged.size,
            ),
        )
        .where(acknowledged.campaign_id.in_(ids))
        .group_by(*batch)
        .having(sa.or_(present != acknowledged.size, unsettled > 0))
        .order_by(acknowledged.campaign_id, acknowledged.first)
    )


INVARIANTS = (
    *invariants.INVARIANTS,
    *ledger_invariants.INVARIANTS,
    QueryInvariant(
        "acknowledged_settles",
        "Messages that the driver enqueued are recorded, and settled once their run is finished.",
        _select_unsettled_acknowledged,
        is_of_finished_runs=True,
    ),
)
