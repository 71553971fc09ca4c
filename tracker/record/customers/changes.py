"""Record what messages change of customers: their opt-outs and their bounces.

A change is one of the address: all customers of the organization who have it get the change.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.record.allowance import lock_organization
from tracker.record.catalog import Campaign
from tracker.record.customers.same_address import has_shared_addresses, read_other_customers
from tracker.record.journal import Entry
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import customers


def set_customer_flag(
    database: Database,
    connection: Connection,
    campaign: Campaign,
    flag: str,
    numbers: Sequence[int],
) -> None:
    """Set a flag of customers on the campaign's channel, such as `unsubscribed`."""
    column = customers.c[f"{flag}_{campaign.channel}"]
    is_shared = campaign.has_shared_addresses
    for is_changed, _ in _group_customers(database, connection, campaign, numbers, is_shared):
        connection.execute(
            sa.update(customers).where(is_changed, column.is_(sa.false())).values({column: True})
        )


def update_bounce_counts(
    entry: Entry, status: Status, attempt: int, numbers: Sequence[int]
) -> None:
    """Update the bounce counts of the customers whose messages an entry has just moved.

    A hard bounce counts, and a soft bounce on the last attempt. A delivery resets the soft bounces.

    Args:
        status: the status that the messages moved to.
        numbers: the moved messages; each of them counts once.
    """
    campaign = entry.batch.campaign
    hard = customers.c[f"hard_bounces_{campaign.channel}"]
    soft = customers.c[f"soft_bounces_{campaign.channel}"]
    if status is Status.HARD_BOUNCED:
        column = hard
    elif status is Status.DELIVERED or (
        status is Status.SOFT_BOUNCED and attempt >= campaign.attempts
    ):
        column = soft
    else:
        return
    is_shared = has_shared_addresses(entry.connection, entry.batch)
    if is_shared and status is Status.DELIVERED:
        # Few have bounced. The organization isn't locked for the others.
        is_recipient = _is_customer(entry.database, campaign.audience_id, numbers)
        query = sa.select(customers.c.number).where(is_recipient, soft > 0)
        numbers = entry.connection.scalars(query).all()
    for is_changed, messages in _group_customers(
        entry.database, entry.connection, campaign, numbers, is_shared
    ):
        update = sa.update(customers).where(is_changed)
        if status is Status.DELIVERED:
            update = update.where(soft > 0).values({soft: 0})
        else:
            update = update.values({column: column + messages})
        entry.connection.execute(update)


def _group_customers(
    database: Database,
    connection: Connection,
    campaign: Campaign,
    numbers: Sequence[int],
    is_shared: bool,
) -> Iterator[tuple[sa.ColumnElement[bool], int]]:
    """Yield conditions on the recipients of messages, with the number of messages to each of them.

    A customer may be in several groups: for the own message, and for others to the same address.

    Args:
        database: the database.
        connection: connection of the transaction that changes them.
        campaign: the campaign of the messages.
        numbers: the messages.
        is_shared: whether others may have the addresses. Within a transaction, it is the same for
            all messages of a campaign, so that the organization is locked before any customer.
    """
    if not numbers:
        return
    if is_shared:
        # Two transactions that change the same customers in different orders could deadlock.
        lock_organization(connection, campaign)
    yield _is_customer(database, campaign.audience_id, numbers), 1
    if not is_shared:
        return
    others = read_other_customers(connection, database, campaign, numbers, [campaign.channel])
    for (audience_id, _), senders in others.items():
        by_count: defaultdict[int, list[int]] = defaultdict(list)
        for number, same in senders.items():
            by_count[len(same)].append(number)
        for count, same in by_count.items():
            yield _is_customer(database, audience_id, same), count


def _is_customer(
    database: Database, audience_id: int, numbers: Sequence[int]
) -> sa.ColumnElement[bool]:
    return sa.and_(
        customers.c.audience_id == audience_id, database.in_list(customers.c.number, numbers)
    )
