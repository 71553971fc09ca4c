"""The invariant query for the credit of organizations."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.record.predicates import is_same_message
from tracker.status import SENT_STATUSES, Channel, Status
from tracker.store.schema.catalog import campaigns, organizations
from tracker.store.schema.messages import message_costs, messages, tallies

CHARGED_STATUSES = SENT_STATUSES | {Status.ABOUT_TO_BE_SENT}
"""Statuses of messages that an organization is charged for."""


def find_wrong_credit(ids: Sequence[int]) -> Select[Any]:
    """Return a query for organizations whose charged credit differs from their messages.

    Each of its rows is about the credit of one channel, or of all channels together.
    """
    shared = _find_wrong_pool(ids, "credit", "credit_used", Channel)
    by_channel = (
        _find_wrong_pool(ids, f"credit_{channel}", f"credit_used_{channel}", [channel])
        for channel in Channel
    )
    pools = sa.union_all(shared, *by_channel).subquery()
    return sa.select(pools).order_by(pools.c.organization_id)


def _find_wrong_pool(
    ids: Sequence[int], left: str, used: str, channels: Iterable[Channel]
) -> Select[Any]:
    """Return a query for organizations whose credit on some channels is wrong.

    Args:
        ids: the campaigns whose organizations are examined.
        left: column of the credit that is left; null if these channels don't have any.
        used: column of the credit that was charged.
        channels: the channels that share the credit.
    """
    senders = sa.select(campaigns.c.organization_id).where(campaigns.c.id.in_(ids))
    tally = _sum_by_campaign(
        tallies.c.campaign_id,
        tallies.c.messages,
        tallies,
        tallies.c.status.in_(CHARGED_STATUSES),
    )
    further = _sum_by_campaign(
        message_costs.c.campaign_id,
        message_costs.c.credit - 1,
        message_costs.join(messages, is_same_message(messages, message_costs)),
        messages.c.status.in_(CHARGED_STATUSES),
    )
    cost = sa.func.coalesce(tally.c.total, 0) + sa.func.coalesce(further.c.total, 0)
    charged, chargeable = organizations.c[used], sa.func.coalesce(sa.func.sum(cost), 0)
    return (
        sa.select(
            organizations.c.id.label("organization_id"),
            charged.label("credit_used"),
            chargeable.label("chargeable"),
        )
        .outerjoin(
            campaigns,
            sa.and_(
                campaigns.c.organization_id == organizations.c.id,
                campaigns.c.channel.in_([*channels]),
            ),
        )
        .outerjoin(tally, tally.c.campaign_id == campaigns.c.id)
        .outerjoin(further, further.c.campaign_id == campaigns.c.id)
        .where(organizations.c.id.in_(senders), organizations.c[left].is_not(None))
        .group_by(organizations.c.id, charged)
        .having(charged != chargeable)
    )


def _sum_by_campaign(
    campaign_id: sa.Column[int],
    value: sa.ColumnElement[int],
    source: sa.FromClause,
    condition: sa.ColumnElement[bool],
) -> sa.Subquery:
    """Return a table of campaigns with the sum of a value over the rows of a condition."""
    return (
        sa.select(campaign_id, sa.func.sum(value).label("total"))
        .select_from(source)
        .where(condition)
        .group_by(campaign_id)
        .subquery()
    )
