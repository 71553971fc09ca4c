"""SQL conditions that rows belong to a batch, for all queries and all tables."""

import sqlalchemy as sa
from sqlalchemy.sql.expression import FromClause

from tracker.record.catalog import Batch, BatchKey


def is_of_batch(table: FromClause, batch: Batch | BatchKey) -> sa.ColumnElement[bool]:
    """Return the condition that a row with `campaign_id` and `batch` belongs to a batch."""
    if isinstance(batch, Batch):
        batch = (batch.campaign.id, batch.batch)
    campaign_id, number = batch
    return sa.and_(table.c.campaign_id == campaign_id, table.c.batch == number)


def is_of_message_in(table: FromClause, batch: Batch) -> sa.ColumnElement[bool]:
    """Return the condition that a row with `campaign_id` and `number` is of a batch's message."""
    return sa.and_(
        table.c.campaign_id == batch.campaign.id,
        table.c.number.between(batch.first, batch.last),
    )


def is_same_batch(left: FromClause, right: FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that rows of two tables belong to the same batch."""
    return sa.and_(left.c.campaign_id == right.c.campaign_id, left.c.batch == right.c.batch)
