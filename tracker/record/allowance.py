"""What an organization may still send: its credit, and its limit of messages a customer.

Both are exact, however many campaigns run at once: who hands messages over locks the
organization's row first, counts, and lets go when the hand-over is recorded.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_microseconds
from tracker.record.catalog import Campaign
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns, organizations
from tracker.store.schema.messages import transitions

MAX_MESSAGE_LIMIT = 2**31 - 1
"""No message limit is higher: what the database holds."""

MAX_MESSAGE_LIMIT_DAYS = 36_500
"""No period of a message limit is longer: a hundred years are within what a time can be."""


def lock_organization(connection: Connection, organization_id: int) -> int | None:
    """Make others who hand over for an organization wait until the transaction ends; its credit."""
    credit: int | None = connection.execute(
        sa.select(organizations.c.credit)
        .where(organizations.c.id == organization_id)
        .with_for_update()
    ).scalar_one()
    return credit


def charge_credit(connection: Connection, organization_id: int, messages: int) -> None:
    """Take credit, of which there must be enough; call :func:`lock_organization` before."""
    connection.execute(
        sa.update(organizations)
        .where(organizations.c.id == organization_id)
        .values(credit=organizations.c.credit - messages)
    )


def count_recent_messages(
    connection: Connection,
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
    now: Instant,
    *,
    until: Instant | None = None,
) -> Mapping[int, int]:
    """How many messages customers had in the organization's period before ``now``, where any.

    Also later ones, unless ``until`` says until when: clocks of two workers may differ.

    Of the other campaigns to the same audience: this one has one message a customer.
    """
    period = timedelta(days=campaign.organization.message_limit_days)
    siblings = connection.scalars(
        sa.select(campaigns.c.id).where(
            campaigns.c.audience_id == campaign.audience_id, campaigns.c.id != campaign.id
        )
    ).all()
    counts: dict[int, int] = {}
    for sibling in siblings:  # one look into the index each: no plan can go wrong over it
        handed = connection.scalars(
            sa.select(transitions.c.number).where(
                transitions.c.campaign_id == sibling,
                transitions.c.status == Status.ABOUT_TO_BE_SENT,
                transitions.c.attempt == 0,
                database.in_list(transitions.c.number, numbers),
                transitions.c.at > now - to_microseconds(period),
                *(() if until is None else (transitions.c.at <= until,)),
            )
        )
        for number in handed.all():
            counts[number] = counts.get(number, 0) + 1
    return counts
