"""The invariant query for the credit of organizations."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.status import SENT_STATUSES, Status
from tracker.store.schema.catalog import campaigns, organizations
from tracker.store.schema.messages import tallies

CHARGED_STATUSES = SENT_STATUSES | {Status.ABOUT_TO_BE_SENT}
"""Statuses of messages that an organization is charged for."""


def find_wrong_credit(ids: Sequence[int]) -> Select[Any]:
    """Return a query for organizations whose charged credit differs from their messages."""
    senders = sa.select(campaigns.c.organization_id).where(campaigns.c.id.in_(ids))
    chargeable = sa.func.coalesce(sa.func.sum(tallies.c.messages), 0)
    return (
        sa.select(
            organizations.c.id.label("organization_id"),
            organizations.c.credit_used,
            chargeable.label("chargeable"),
        )
        .join(campaigns, campaigns.c.organization_id == organizations.c.id)
        .outerjoin(
            tallies,
            sa.and_(
                tallies.c.campaign_id == campaigns.c.id, tallies.c.status.in_(CHARGED_STATUSES)
            ),
        )
        .where(organizations.c.id.in_(senders), organizations.c.credit.is_not(None))
        .group_by(organizations.c.id, organizations.c.credit_used)
        .having(organizations.c.credit_used != chargeable)
        .order_by(organizations.c.id)
    )
