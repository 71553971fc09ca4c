"""Cancel the messages of a cancelled campaign: Not Sent, for the reason `cancelled`.

Messages are cancelled in a journal entry of their batch, like every other move. So a message is
either submitted or cancelled. What a gateway may have is left to `submit`, which ends what it has
begun and then cancels the rest.
"""

import sqlalchemy as sa

from tracker.record import allowance
from tracker.record.actions.submissions import delete_answered_submissions, may_be_in_gateway
from tracker.record.catalog import Batch, Campaign
from tracker.record.journal import Author, Entry, Move, State, open_entry
from tracker.record.predicates import is_of_message_in, is_same_batch
from tracker.status import IN_PROGRESS_STATUSES, Reason, Status, Step
from tracker.store.arrays import read_numbers_by_key
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, tallies

CANCELLED = State(status=Status.NOT_SENT, reason=Reason.CANCELLED)


def cancel_recorded_messages(database: Database, campaign: Campaign, author: Author) -> int:
    """Cancel the recorded messages of a campaign that `cancel_campaign` has cancelled.

    It takes some tenths of a second for each batch of 10,000. Whatever it leaves when it is ended
    early, the steps of the batches cancel.

    Returns:
        How many messages were cancelled. Messages that the gateway may have are not among them.
    """
    query = (
        sa.select(batches)
        .join(tallies, is_same_batch(tallies, batches))
        .where(
            batches.c.campaign_id == campaign.id,
            tallies.c.messages > 0,
            tallies.c.status.in_(IN_PROGRESS_STATUSES),
        )
        .order_by(batches.c.batch)
    )
    with database.read() as connection:
        rows = {row.batch: row for row in connection.execute(query)}
    return sum(
        cancel_batch(
            database,
            Batch(campaign=campaign, batch=row.batch, first=row.first, size=row.size),
            author,
        )
        for row in rows.values()
    )


def cancel_batch(database: Database, batch: Batch, author: Author) -> int:
    """Cancel the messages of a batch of a cancelled campaign, and return how many those were.

    The entry counts as a step `submit`, which would have decided about these messages last.
    """
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.SUBMIT, author, started_at=now) as written:
        cancel_messages(written)
    return written.moved


def cancel_messages(entry: Entry) -> None:
    """Cancel the messages of an entry's batch that no gateway may have; refund their credit."""
    connection, batch = entry.connection, entry.batch
    delete_answered_submissions(connection, batch)
    query = sa.select(messages.c.number, messages.c.status).where(
        is_of_message_in(messages, batch),
        messages.c.status.in_(IN_PROGRESS_STATUSES),
        ~may_be_in_gateway(),
    )
    now = batch.campaign.clock.now()
    for (status,), numbers in sorted(read_numbers_by_key(connection, query).items()):
        source = State(status=Status(status))
        moved = entry.move(Move(numbers=numbers, source=source, target=CANCELLED, at=now))
        if source.status is Status.ABOUT_TO_BE_SENT:
            allowance.refund_credit(entry.database, connection, batch.campaign, moved)
