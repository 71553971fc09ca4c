"""Engagement: what recipients do with what was delivered, and what follows from it at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.journal import Entry
from tracker.schema import customers, engagements
from tracker.status import REFUSALS, Engagement


class Event(NamedTuple):
    """A recipient did something with a message."""

    number: int
    kind: Engagement
    at: Instant


def record(written: Entry, events: Sequence[Event]) -> None:
    """Record events of an entry's batch, each once however often it is reported.

    Who marks a message as spam or unsubscribes gets no more on this channel.
    """
    campaign = written.batch.campaign
    if not events:
        return
    numbers, kinds, instants = zip(*events, strict=True)
    listed = written.database.rows(number=numbers, kind=kinds, at=instants)
    known = sa.select(engagements.c.number).where(
        engagements.c.campaign_id == campaign.id,
        engagements.c.kind == listed.c.kind,
        engagements.c.number == listed.c.number,
        engagements.c.at == listed.c.at,
    )
    written.connection.execute(
        sa.insert(engagements).from_select(
            ["campaign_id", "kind", "number", "at"],
            sa.select(
                sa.literal(campaign.id, sa.Integer), listed.c.kind, listed.c.number, listed.c.at
            )
            .where(~known.exists())
            .distinct(),
        )
    )
    refusing = sorted({event.number for event in events if event.kind in REFUSALS})
    if refusing:
        written.connection.execute(
            sa.update(customers)
            .where(
                customers.c.audience_id == campaign.audience_id,
                written.database.among(customers.c.number, refusing),
            )
            .values({customers.c[f"unsubscribed_{campaign.channel}"]: True})
        )


def refusals(
    connection: Connection, campaign_ids: Sequence[int]
) -> Mapping[int, Counter[Engagement]]:
    """By campaign, how many recipients marked it as spam and how many unsubscribed."""
    found: dict[int, Counter[Engagement]] = {each: Counter() for each in campaign_ids}
    query = (
        sa.select(
            engagements.c.campaign_id,
            engagements.c.kind,
            sa.func.count(engagements.c.number.distinct()),
        )
        .where(
            engagements.c.campaign_id.in_(campaign_ids), engagements.c.kind.in_(sorted(REFUSALS))
        )
        .group_by(engagements.c.campaign_id, engagements.c.kind)
    )
    for campaign_id, kind, recipients in connection.execute(query):
        found[campaign_id][Engagement(kind)] = recipients
    return found
