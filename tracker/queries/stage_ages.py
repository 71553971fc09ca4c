"""Read how long the oldest message has been in each stage."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_real_seconds
from tracker.record.catalog import Campaign
from tracker.record.predicates import is_same_batch
from tracker.status import Status
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import tallies, transitions

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

    A batch whose queued messages are all deferred has none: they wait for a time, not for work.
    """
    batch = connection.execute(
        sa.select(batches.c.first, batches.c.size, tallies.c.attempt)
        .join(
            batches,
            is_same_batch(batches, tallies),
        )
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
    entered_at: Instant | None = connection.scalar(
        sa.select(sa.func.min(transitions.c.at)).where(
            transitions.c.campaign_id == campaign.id,
            transitions.c.status == status,
            transitions.c.attempt == batch.attempt,
            transitions.c.number.between(batch.first, batch.first + batch.size - 1),
        )
    )
    return entered_at
