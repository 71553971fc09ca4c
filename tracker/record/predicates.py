"""SQL conditions that rows belong to a batch or to each other, for all queries and all tables."""

import sqlalchemy as sa
from sqlalchemy.sql.expression import FromClause

from tracker.record.catalog import Batch, BatchKey
from tracker.store.schema.catalog import batches
from tracker.store.schema.work import parts, steps


def is_of_batch(table: FromClause, batch: Batch | BatchKey) -> sa.ColumnElement[bool]:
    """Return the condition that a row with `campaign_id` and `batch` belongs to a batch."""
    if isinstance(batch, Batch):
        batch = (batch.campaign.id, batch.batch)
    campaign_id, number = batch
    return sa.and_(table.c.campaign_id == campaign_id, table.c.batch == number)


def is_of_message_in(table: FromClause, batch: Batch) -> sa.ColumnElement[bool]:
    """Return the condition that a row with `campaign_id` and `number` is of a batch's message."""
    return sa.and_(
        table.c.campaign_id == batch.campaign.id, table.c.number.between(batch.first, batch.last)
    )


def is_same_batch(left: FromClause, right: FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that rows of two tables belong to the same batch."""
    return sa.and_(left.c.campaign_id == right.c.campaign_id, left.c.batch == right.c.batch)


def is_same_message(left: FromClause, right: FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that rows of two tables belong to the same message."""
    return sa.and_(left.c.campaign_id == right.c.campaign_id, left.c.number == right.c.number)


def is_same_transition(left: FromClause, right: FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that rows belong to the same message, status and attempt."""
    return sa.and_(
        is_same_message(left, right),
        left.c.status == right.c.status,
        left.c.attempt == right.c.attempt,
    )


def is_of_recorded_batch(table: FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that a row with `campaign_id` and `number` is of a row of `batches`."""
    return sa.and_(
        batches.c.campaign_id == table.c.campaign_id,
        table.c.number >= batches.c.first,
        table.c.number < batches.c.first + batches.c.size,
    )


def has_open_segments() -> sa.ColumnElement[bool]:
    """Return the SQL condition that the step of a row of `steps` has open segments."""
    return (
        sa.exists()
        .where(
            is_same_batch(parts, steps), parts.c.step == steps.c.step, parts.c.ended_at.is_(None)
        )
        .correlate(steps)
    )
