"""What an organization may still send: its credit, and its limit of messages per customer.

Both are exact, however many campaigns run at once: a hand-over locks the organization's row,
counts, and keeps the lock until the hand-over is recorded.
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
from tracker.store.schema.integers import MAX_INTEGER
from tracker.store.schema.messages import transitions

MAX_MESSAGE_LIMIT = MAX_INTEGER
"""Highest message limit that the database can hold."""

MAX_MESSAGE_LIMIT_DAYS = 36_500
"""Longest period of a message limit: a hundred years, which a `timedelta` can hold."""


def lock_organization(connection: Connection, organization_id: int) -> int | None:
    """Lock an organization until the transaction ends, and return its credit; None is unlimited."""
    credit: int | None = connection.execute(
        sa.select(organizations.c.credit)
        .where(organizations.c.id == organization_id)
        .with_for_update()
    ).scalar_one()
    return credit


def charge_credit(connection: Connection, organization_id: int, messages: int) -> None:
    """Charge an organization, which `lock_organization` has locked, for a number of messages."""
    connection.execute(
        sa.update(organizations)
        .where(organizations.c.id == organization_id)
        .values(
            credit=organizations.c.credit - messages,
            credit_used=organizations.c.credit_used + messages,
        )
    )


def refund_credit(connection: Connection, organization_id: int, messages: int) -> None:
    """Refund an organization the credit for messages that ended before the gateway."""
    if messages:
        connection.execute(
            sa.update(organizations)
            .where(organizations.c.id == organization_id, organizations.c.credit.is_not(None))
            .values(
                credit=organizations.c.credit + messages,
                credit_used=organizations.c.credit_used - messages,
            )
        )


def count_recent_messages(
    connection: Connection,
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
    now: Instant,
) -> Mapping[int, int]:
    """Return how many messages of other campaigns customers got in the limit's period before `now`.

    Only campaigns to the same audience count. Messages that ended before the gateway don't, and
    customers without a message are left out.

    Messages after `now` count too, since clocks of workers may differ.
    """
    period = timedelta(days=campaign.organization.message_limit_days)
    siblings = connection.scalars(
        sa.select(campaigns.c.id).where(
            campaigns.c.audience_id == campaign.audience_id, campaigns.c.id != campaign.id
        )
    ).all()
    counts: dict[int, int] = {}
    ended_transitions = transitions.alias("ended")
    for sibling in siblings:  # one query each, which the index answers whatever the planner assumes
        ended = sa.select(ended_transitions.c.number).where(
            ended_transitions.c.campaign_id == sibling,
            ended_transitions.c.status == Status.NOT_SENT,
            ended_transitions.c.attempt == 0,
        )
        handed_over = sa.select(transitions.c.number).where(
            transitions.c.campaign_id == sibling,
            transitions.c.status == Status.ABOUT_TO_BE_SENT,
            transitions.c.attempt == 0,
            database.in_list(transitions.c.number, numbers),
            transitions.c.at > now - to_microseconds(period),
            ~ended.where(ended_transitions.c.number == transitions.c.number).exists(),
        )
        for number in connection.scalars(handed_over).all():
            counts[number] = counts.get(number, 0) + 1
    return counts
