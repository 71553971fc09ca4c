"""What an organization may still send: its credit, and its limit of messages per customer.

Both are exact, however many campaigns run at once: a hand-over locks the organization's row,
counts, and keeps the lock until the hand-over is recorded.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_microseconds
from tracker.record.catalog import Campaign
from tracker.record.customers.same_address import read_recipients
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import organizations
from tracker.store.schema.integers import MAX_INTEGER
from tracker.store.schema.messages import message_costs, transitions

MAX_MESSAGE_LIMIT = MAX_INTEGER
"""Highest message limit that the database can hold."""

MAX_MESSAGE_LIMIT_DAYS = 36_500
"""Longest period of a message limit: a hundred years, which a `timedelta` can hold."""


def _find_credit_columns(campaign: Campaign) -> tuple[sa.Column[int], sa.Column[int]]:
    """Return the columns of the credit that a campaign uses: what is left, and what was used."""
    organization, channel = campaign.organization, campaign.channel
    if organization.credit is not None:
        return organizations.c.credit, organizations.c.credit_used
    return organizations.c[f"credit_{channel}"], organizations.c[f"credit_used_{channel}"]


def lock_organization(connection: Connection, campaign: Campaign) -> int | None:
    """Lock a campaign's organization until the transaction ends.

    Returns:
        The credit that is left for the campaign's channel; None is unlimited.
    """
    left, _ = _find_credit_columns(campaign)
    query = sa.select(left).where(organizations.c.id == campaign.organization.id)
    credit: int | None = connection.execute(query.with_for_update()).scalar_one()
    return credit


def charge_credit(connection: Connection, campaign: Campaign, cost: int) -> None:
    """Charge a campaign's organization, which `lock_organization` has locked."""
    left, used = _find_credit_columns(campaign)
    connection.execute(
        sa.update(organizations)
        .where(organizations.c.id == campaign.organization.id, left.is_not(None))
        .values({left: left - cost, used: used + cost})
    )


def refund_credit(
    database: Database, connection: Connection, campaign: Campaign, numbers: Sequence[int]
) -> None:
    """Refund what a campaign's organization was charged for messages that ended before the gateway.

    Does nothing if credit is unlimited.
    """
    if numbers and campaign.organization.credit_on(campaign.channel) is not None:
        further_credit = connection.scalar(
            sa.select(sa.func.sum(message_costs.c.credit - 1)).where(
                message_costs.c.campaign_id == campaign.id,
                database.in_list(message_costs.c.number, numbers),
            )
        )
        charge_credit(connection, campaign, -len(numbers) - int(further_credit or 0))


def record_costs(
    database: Database, connection: Connection, campaign: Campaign, costs: Mapping[int, int]
) -> None:
    """Record the credit for messages that cost more than one, by their numbers."""
    rows = database.table_from_columns(number=[*costs], credit=[*costs.values()])
    campaign_id = sa.literal(campaign.id, sa.Integer)
    connection.execute(
        sa.insert(message_costs).from_select(
            ["campaign_id", *rows.c.keys()], sa.select(campaign_id, *rows.c)
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

    Messages to the same customer count, and messages to an address that the customer has, too.
    Messages that ended before the gateway don't, and customers without a message are left out.

    Messages after `now` count too, since clocks of workers may differ.
    """
    period = timedelta(days=campaign.organization.message_limit_days)
    counts: Counter[int] = Counter()
    ended_transitions = transitions.alias("ended")
    recipients = read_recipients(connection, database, campaign, numbers)
    # One query each, which the index answers whatever the planner assumes.
    for sibling in recipients.find_siblings(connection):
        ended = sa.select(ended_transitions.c.number).where(
            ended_transitions.c.campaign_id == sibling.id,
            ended_transitions.c.status == Status.NOT_SENT,
            ended_transitions.c.attempt == 0,
        )
        handed_over = sa.select(transitions.c.number).where(
            transitions.c.campaign_id == sibling.id,
            transitions.c.status == Status.ABOUT_TO_BE_SENT,
            transitions.c.attempt == 0,
            database.in_list(transitions.c.number, sibling.numbers),
            transitions.c.at > now - to_microseconds(period),
            ~ended.where(ended_transitions.c.number == transitions.c.number).exists(),
        )
        for number in connection.scalars(handed_over):
            counts.update(sibling.find_customers(number))
    return counts
