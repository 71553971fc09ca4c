"""Submissions that have begun: messages that a gateway may have before the record says so.

`submit` calls the gateway first, and records its answer afterwards. So it notes beforehand what it
is about to offer, and deletes the note with the answer. The note of a step that failed in between
stays until its campaign is cancelled. Only cancelling reads the notes: what a gateway may have
isn't cancelled, and is offered again, which changes nothing at a gateway that has it.

A note and a cancellation of the same batch both lock the batch's row. Whichever comes second sees
the other one.
"""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.record.catalog import Batch
from tracker.record.predicates import is_of_batch
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches, campaigns
from tracker.store.schema.messages import messages
from tracker.store.schema.work import open_submissions

WAITING_STATUSES = (Status.ABOUT_TO_BE_SENT, Status.SOFT_BOUNCED)
"""Statuses in which messages wait for submission."""


def begin_submission(
    database: Database, batch: Batch, *, attempt: int, numbers: Sequence[int]
) -> int | None:
    """Note that messages of a batch are about to be offered to the gateway, before they are.

    Returns:
        The id of the note; None if the campaign is cancelled, so that nothing may be offered.
    """
    first_and_last = (min(numbers), max(numbers))
    values = (batch.campaign.id, batch.batch, attempt, *first_and_last)
    with database.write() as connection:
        lock = sa.select(batches.c.batch).where(is_of_batch(batches, batch))
        connection.execute(lock.with_for_update(key_share=True))
        # A statement of its own: one that had waited for the lock would see the campaign of before.
        insert = sa.insert(open_submissions).from_select(
            ["campaign_id", "batch", "attempt", "first", "last"],
            sa.select(*(sa.literal(int(value), sa.Integer) for value in values))
            .select_from(campaigns)
            .where(campaigns.c.id == batch.campaign.id, campaigns.c.cancelled_at.is_(None)),
        )
        submission: int | None = connection.scalar(insert.returning(open_submissions.c.id))
    return submission


def end_submissions(connection: Connection, ids: Collection[int]) -> None:
    """Delete notes, in the transaction that records the gateway's answers."""
    if ids:
        connection.execute(sa.delete(open_submissions).where(open_submissions.c.id.in_(ids)))


def delete_answered_submissions(connection: Connection, batch: Batch) -> None:
    """Delete the notes of a batch all of whose messages have left the state that they waited in."""
    is_waiting = sa.exists().where(
        messages.c.campaign_id == open_submissions.c.campaign_id, _is_noted()
    )
    connection.execute(
        sa.delete(open_submissions).where(
            is_of_batch(open_submissions, batch), ~is_waiting.correlate(open_submissions)
        )
    )


def may_be_in_gateway() -> sa.ColumnElement[bool]:
    """Return the condition that a row of `messages` was offered, and its answer isn't recorded."""
    noted = sa.exists().where(open_submissions.c.campaign_id == messages.c.campaign_id, _is_noted())
    return sa.and_(messages.c.status.in_(WAITING_STATUSES), noted.correlate(messages))


def has_open_submission(campaign_id: sa.Column[int], batch: sa.Column[int]) -> sa.Exists:
    """Return the condition that a submission of a batch has begun, and isn't answered."""
    return sa.exists().where(
        open_submissions.c.campaign_id == campaign_id, open_submissions.c.batch == batch
    )


def _is_noted() -> sa.ColumnElement[bool]:
    return sa.and_(
        messages.c.number.between(open_submissions.c.first, open_submissions.c.last),
        messages.c.attempt == open_submissions.c.attempt - 1,
        messages.c.status.in_(WAITING_STATUSES),
    )
