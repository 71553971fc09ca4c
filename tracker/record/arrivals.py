"""Arrivals of messages in a state: a later transition never gets an earlier time."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.catalog import Batch, Campaign
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, customers
from tracker.store.schema.messages import messages, transitions


def count_customers(connection: Connection, batch: Batch) -> int:
    """Return how many of a batch's messages have a customer."""
    query = sa.select(sa.func.count()).where(
        customers.c.audience_id == batch.campaign.audience_id,
        customers.c.number.between(batch.first, batch.last),
    )
    return connection.scalar(query) or 0


def insert_arrivals(
    database: Database,
    connection: Connection,
    batch: Batch,
    step_id: int,
    at: Instant | Sequence[Instant],
) -> None:
    """Record the messages of a batch, and the first transition of each, to *Queued*.

    Args:
        at: when they arrived: one instant for all, or one for each.
    """
    campaign_id = sa.literal(batch.campaign.id, sa.Integer)
    status = sa.literal(int(Status.QUEUED), sa.SmallInteger)
    numbers = range(batch.first, batch.last + 1)
    rows = database.table_from_columns(number=numbers)
    connection.execute(
        sa.insert(messages).from_select(
            ["campaign_id", "number", "status"], sa.select(campaign_id, rows.c.number, status)
        )
    )
    if isinstance(at, int):
        arrived_at: sa.ColumnElement[int] = sa.literal(at, sa.BigInteger)
    else:
        rows = database.table_from_columns(number=numbers, at=at)
        arrived_at = rows.c.at
    connection.execute(
        sa.insert(transitions).from_select(
            ["campaign_id", "number", "status", "attempt", "at", "step_id"],
            sa.select(
                campaign_id,
                rows.c.number,
                status,
                sa.literal(0, sa.SmallInteger),
                arrived_at,
                sa.literal(step_id, sa.Integer),
            ),
        )
    )


def read_latest_arrival(
    connection: Connection, campaign_id: int, status: Status, attempt: int, numbers: Sequence[int]
) -> Instant:
    """Return when the last message between the least and greatest number entered a state."""
    latest: Instant | None = connection.scalar(
        sa.select(sa.func.max(transitions.c.at)).where(
            transitions.c.campaign_id == campaign_id,
            transitions.c.status == status,
            transitions.c.attempt == attempt,
            transitions.c.number.between(min(numbers), max(numbers)),
        )
    )
    return latest or 0


def not_before_arrival(
    campaign_id: int, status: Status, attempt: int, rows: sa.FromClause
) -> sa.ColumnElement[int]:
    """Return the expression for each row's `at`, or its later arrival in a state."""
    arrivals = transitions.alias("arrivals")
    arrived_at = (
        sa.select(arrivals.c.at)
        .where(
            arrivals.c.campaign_id == campaign_id,
            arrivals.c.status == status,
            arrivals.c.attempt == attempt,
            arrivals.c.number == rows.c.number,
        )
        .scalar_subquery()
    )
    return sa.case((rows.c.at < arrived_at, arrived_at), else_=rows.c.at)


def find_last_batch(connection: Connection, campaign: Campaign) -> Batch | None:
    """Return the last recorded batch of a campaign, or None if it has none."""
    query = (
        sa.select(batches.c.batch, batches.c.first, batches.c.size)
        .where(batches.c.campaign_id == campaign.id)
        .order_by(batches.c.batch.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Batch(campaign=campaign, **row._mapping)
