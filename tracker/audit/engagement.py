"""Invariant queries for engagement."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Select

from tracker.audit.messages import select_differing_sums
from tracker.record.engagement import event_tallies_query, has_message
from tracker.record.predicates import is_of_recorded_batch, is_same_message
from tracker.status import IMPLIED_ENGAGEMENTS, Channel, Engagement, Status
from tracker.store.schema.catalog import batches, campaigns
from tracker.store.schema.engagement import (
    engaged_then_bounced,
    engagement_days,
    engagement_tallies,
    engagements,
)
from tracker.store.schema.messages import messages


def find_wrong_engagement_tallies(ids: Sequence[int]) -> Select[Any]:
    """Return a query for engagement tallies that differ from the recipients' first events."""
    counted = event_tallies_query(engagements.c.campaign_id.in_(ids)).subquery("counted")
    key = ("campaign_id", "batch", "kind", "quarter")
    tallied = sa.select(
        *(engagement_tallies.c[column] for column in key),
        sa.literal(0),
        engagement_tallies.c.recipients,
    ).where(engagement_tallies.c.campaign_id.in_(ids))
    events = sa.select(
        *(counted.c[column] for column in key), counted.c.recipients, sa.literal(0).label("tallied")
    )
    return select_differing_sums(sa.union_all(events, tallied), key, "recipients", "tallied")


def find_wrong_engagement_days(ids: Sequence[int]) -> Select[Any]:
    """Return a query for daily counts that differ from the tallies that are rolled up."""
    key = ("campaign_id", "kind")
    days = sa.select(
        *(engagement_days.c[column] for column in key),
        engagement_days.c.recipients.label("in_days"),
        sa.literal(0).label("rolled"),
    ).where(engagement_days.c.campaign_id.in_(ids))
    rolled = sa.select(
        *(engagement_tallies.c[column] for column in key),
        sa.literal(0),
        engagement_tallies.c.rolled,
    ).where(engagement_tallies.c.campaign_id.in_(ids))
    return select_differing_sums(sa.union_all(days, rolled), key, "in_days", "rolled")


def find_wrong_engaged_then_bounced(ids: Sequence[int]) -> Select[Any]:
    """Return a query for batches whose count of engaged then bounced messages is wrong."""
    engaged = (
        sa.select(engagements.c.campaign_id, engagements.c.number)
        .where(
            engagements.c.campaign_id.in_(ids),
            engagements.c.kind != Engagement.MACHINE_OPENED,
            has_message(messages.c.status == Status.HARD_BOUNCED),
        )
        .distinct()
        .subquery("engaged")
    )
    counted = sa.select(
        engaged.c.campaign_id,
        batches.c.batch,
        sa.literal(1).label("messages"),
        sa.literal(0).label("tallied"),
    ).join(batches, is_of_recorded_batch(engaged))
    tallied = sa.select(
        engaged_then_bounced.c.campaign_id,
        engaged_then_bounced.c.batch,
        sa.literal(0),
        engaged_then_bounced.c.messages,
    ).where(engaged_then_bounced.c.campaign_id.in_(ids))
    key = ("campaign_id", "batch")
    return select_differing_sums(sa.union_all(counted, tallied), key, "messages", "tallied")


def find_missing_implied_events(ids: Sequence[int]) -> Select[Any]:
    """Return a query for events of emails without an earlier event that they imply."""
    earlier = engagements.alias("earlier")
    lacks_implied = sa.or_(
        *(
            sa.and_(
                engagements.c.kind == kind,
                ~sa.select(earlier.c.number)
                .where(
                    is_same_message(earlier, engagements),
                    earlier.c.kind == other,
                    earlier.c.at <= engagements.c.at,
                )
                .exists(),
            )
            for kind, others in IMPLIED_ENGAGEMENTS.items()
            for other in others
        )
    )
    return (
        sa.select(engagements.c.campaign_id, engagements.c.number, engagements.c.kind)
        .join(campaigns, campaigns.c.id == engagements.c.campaign_id)
        .where(
            engagements.c.campaign_id.in_(ids),
            campaigns.c.channel == Channel.EMAIL,
            engagements.c.kind.in_(IMPLIED_ENGAGEMENTS),
            lacks_implied,
        )
        .order_by(engagements.c.campaign_id, engagements.c.number)
    )
