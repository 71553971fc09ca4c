"""Record which customers of an organization have the same address, before a run begins."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.record.suppressions.changes import KEY_COLUMNS
from tracker.status import Channel
from tracker.store.schema.catalog import audiences, customers, shared_addresses


def record_shared_addresses(
    connection: Connection, organization_id: int, skipping: Collection[int]
) -> None:
    """Find customers with the same address, and give them the same bounces and opt-outs.

    Args:
        organization_id: an organization all of whose audiences are recorded.
        skipping: the ids of the audiences in which only the first customer with an address may get
            the message, and the others are duplicates.
    """
    for channel in Channel:
        connection.execute(
            sa.insert(shared_addresses).from_select(
                [
                    "audience_id",
                    "channel",
                    "number",
                    "organization_id",
                    "address",
                    "is_duplicate",
                ],
                _shared_addresses_query(channel, organization_id, skipping),
            )
        )
        _spread_facts(connection, channel, organization_id)


def _shared_addresses_query(
    channel: Channel, organization_id: int, skipping: Collection[int]
) -> sa.Select[Any]:
    """Return a query for the rows of a channel. The numbers of its addresses count from 1."""
    key = KEY_COLUMNS[channel]
    audience_ids = sa.select(audiences.c.id).where(audiences.c.organization_id == organization_id)
    is_compared = sa.and_(customers.c.audience_id.in_(audience_ids), key.is_not(None))
    shared_keys = (
        sa.select(key.label("key"))
        .where(is_compared)
        .group_by(key)
        .having(sa.func.count() > 1)
        .subquery("shared_keys")
    )
    position = sa.func.row_number().over(
        partition_by=(customers.c.audience_id, key), order_by=customers.c.number
    )
    return (
        sa.select(
            customers.c.audience_id,
            sa.literal(channel, sa.String),
            customers.c.number,
            sa.literal(organization_id, sa.Integer),
            sa.func.dense_rank().over(order_by=key),
            sa.and_(position > 1, customers.c.audience_id.in_(skipping)),
        )
        .join(shared_keys, shared_keys.c.key == key)
        .where(is_compared)
    )


def _spread_facts(connection: Connection, channel: Channel, organization_id: int) -> None:
    """Give customers with the same address all opt-outs and the most bounces that one of them has.

    For SMS, these include the mark that the number is on the National Do Not Call list.
    """
    flags = [customers.c[f"unsubscribed_{channel}"], customers.c[f"marked_spam_{channel}"]]
    if channel is Channel.SMS:
        flags.append(customers.c.ndnc)
    counts = [customers.c[f"hard_bounces_{channel}"], customers.c[f"soft_bounces_{channel}"]]
    is_wanted = sa.and_(
        shared_addresses.c.organization_id == organization_id,
        shared_addresses.c.channel == channel,
    )
    facts = (
        sa.select(
            shared_addresses.c.address,
            *(sa.func.max(sa.case((flag, 1), else_=0)).label(flag.name) for flag in flags),
            *(sa.func.max(count).label(count.name) for count in counts),
        )
        .join(customers, _is_same_customer(shared_addresses))
        .where(is_wanted)
        .group_by(shared_addresses.c.address)
        .subquery("facts")
    )
    changes = (
        sa.select(
            shared_addresses.c.audience_id,
            shared_addresses.c.number,
            *(facts.c[column.name] for column in (*flags, *counts)),
        )
        .join(facts, facts.c.address == shared_addresses.c.address)
        .where(is_wanted)
        .subquery("changes")
    )
    values: dict[sa.Column[Any], sa.ColumnElement[Any]] = {
        **{flag: changes.c[flag.name] == 1 for flag in flags},
        **{count: changes.c[count.name] for count in counts},
    }
    is_changed = sa.or_(*(column != value for column, value in values.items()))
    connection.execute(
        sa.update(customers).where(_is_same_customer(changes), is_changed).values(values)
    )


def _is_same_customer(table: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(
        customers.c.audience_id == table.c.audience_id, customers.c.number == table.c.number
    )
