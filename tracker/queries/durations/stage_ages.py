"""Read how long the oldest message has been in each stage."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_real_seconds
from tracker.record.catalog import Campaign
from tracker.record.predicates import is_same_batch
from tracker.status import Status
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, tallies, transitions
from tracker.store.schema.work import deferrals

STATUS_BY_STAGE = {
    "queued": Status.QUEUED,
    "about_to_be_sent": Status.ABOUT_TO_BE_SENT,
    "gateway": Status.IN_GATEWAY,
}


def read_oldest_message_ages(
    connection: Connection, campaigns: Sequence[Campaign]
) -> dict[str, float]:
    """Return the real seconds since the oldest message of some campaigns entered each stage.

    Stages without messages are left out. Only the first batch with messages in the stage is read,
    and its earliest transition: that message may have left while others of its batch remain.
    """
    ages: dict[str, float] = {}
    for campaign in campaigns:
        for stage, status in STATUS_BY_STAGE.items():
            entered_at = _read_oldest_entry(connection, campaign, status)
            if entered_at is not None:
                age = to_real_seconds(campaign.clock.now() - entered_at, campaign.speed)
                ages[stage] = max(ages.get(stage, 0.0), age)
    return ages


def _read_oldest_entry(
    connection: Connection, campaign: Campaign, status: Status
) -> Instant | None:
    """Return when the first message entered a status, in the first batch that has any there.

    Deferred messages don't count as queued: they wait for a time, not for work. In a batch that has
    deferred messages, those that have left the status don't count either.
    """
    batch = connection.execute(
        sa.select(
            batches.c.batch,
            batches.c.first,
            batches.c.size,
            batches.c.deferred,
            tallies.c.attempt,
        )
        .join(batches, is_same_batch(batches, tallies))
        .where(
            tallies.c.campaign_id == campaign.id,
            tallies.c.status == status,
            tallies.c.messages > (batches.c.deferred if status is Status.QUEUED else 0),
        )
        .order_by(tallies.c.batch)
        .limit(1)
    ).one_or_none()
    if batch is None:
        return None
    last = batch.first + batch.size - 1
    query = sa.select(sa.func.min(transitions.c.at)).where(
        transitions.c.campaign_id == campaign.id,
        transitions.c.status == status,
        transitions.c.attempt == batch.attempt,
        transitions.c.number.between(batch.first, last),
    )
    if status is Status.QUEUED and batch.deferred:
        deferred = sa.select(deferrals.c.number).where(
            deferrals.c.campaign_id == campaign.id, deferrals.c.batch == batch.batch
        )
        waiting = sa.select(messages.c.number).where(
            messages.c.campaign_id == campaign.id,
            messages.c.number.between(batch.first, last),
            messages.c.status == status,
            messages.c.number.not_in(deferred),
        )
        query = query.where(transitions.c.number.in_(waiting))
    entered_at: Instant | None = connection.scalar(query)
    return entered_at
