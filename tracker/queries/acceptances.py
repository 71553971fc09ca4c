"""Find out whether a gateway has accepted messages recently, and count refused receipts."""

from collections import Counter
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.catalog import Batch, Campaign
from tracker.record.predicates import (
    is_of_message_in,
    is_of_recorded_batch,
    is_same_batch,
    is_same_message,
)
from tracker.status import ReceiptVerdict, Status, Step
from tracker.store.schema.catalog import batches, campaigns
from tracker.store.schema.messages import BOUNCED_STATUSES, refused_receipts, transitions
from tracker.store.schema.work import steps


def read_last_acceptance(connection: Connection, batch: Batch) -> Instant | None:
    """Return when a message of a batch entered the gateway most recently, None if none has."""
    query = sa.select(sa.func.max(transitions.c.at)).where(
        is_of_message_in(transitions, batch),
        transitions.c.status == Status.IN_GATEWAY,
        transitions.c.attempt.in_(range(1, batch.campaign.attempts + 1)),
    )
    last: Instant | None = connection.scalar(query)
    return last


def has_accepted_since(connection: Connection, campaign: Campaign, since: Instant) -> bool:
    """Return whether the gateway of a campaign accepted a message after an instant.

    The campaign may be another one that uses the gateway. A message that bounced in the step that
    submitted it doesn't count. Only steps that ended after the instant are read, and their batches.
    """
    bounces = transitions.alias("bounces")
    bounced_at_once = (
        sa.exists()
        .where(
            is_same_message(bounces, transitions),
            bounces.c.status.in_(BOUNCED_STATUSES),
            bounces.c.attempt == transitions.c.attempt,
            bounces.c.step_id == transitions.c.step_id,
        )
        .correlate(transitions)
    )
    query = (
        sa.select(steps.c.id)
        .join(campaigns, campaigns.c.id == steps.c.campaign_id)
        .join(batches, is_same_batch(batches, steps))
        .join(transitions, is_of_recorded_batch(transitions))
        .where(
            campaigns.c.gateway_id == campaign.gateway_id,
            steps.c.step == Step.SUBMIT,
            steps.c.moved > 0,
            steps.c.finished_at > since,
            transitions.c.status == Status.IN_GATEWAY,
            transitions.c.attempt.in_(range(1, campaign.attempts + 1)),
            transitions.c.step_id == steps.c.id,
            transitions.c.at > since,
            ~bounced_at_once,
        )
    )
    return connection.execute(query.limit(1)).first() is not None


def count_refused_receipts(
    connection: Connection, campaign_ids: Sequence[int]
) -> Mapping[int, Counter[ReceiptVerdict]]:
    """Return the number of refused receipts by campaign id and verdict."""
    counts: dict[int, Counter[ReceiptVerdict]] = {
        campaign_id: Counter() for campaign_id in campaign_ids
    }
    query = (
        sa.select(refused_receipts.c.campaign_id, refused_receipts.c.verdict, sa.func.count())
        .where(refused_receipts.c.campaign_id.in_(campaign_ids))
        .group_by(refused_receipts.c.campaign_id, refused_receipts.c.verdict)
    )
    for campaign_id, verdict, count in connection.execute(query):
        counts[campaign_id][ReceiptVerdict(verdict)] = count
    return counts
