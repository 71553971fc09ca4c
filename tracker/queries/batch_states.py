"""Read which messages of a batch are in which state: from its tallies, or from the messages."""

from collections import Counter
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.record.catalog import Batch
from tracker.record.predicates import is_of_batch, is_of_message_in, is_same_batch
from tracker.status import Status
from tracker.store.arrays import read_numbers_by_key
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, tallies


def count_states(connection: Connection, batch: Batch) -> Counter[tuple[int, int]]:
    """Return the number of a batch's messages by status and attempt, from its tallies.

    Empty for a segment of a batch, since the tallies are those of the whole batch.
    """
    query = (
        sa.select(tallies.c.status, tallies.c.attempt, sa.func.sum(tallies.c.messages))
        .join(batches, is_same_batch(batches, tallies))
        .where(
            is_of_batch(tallies, batch),
            tallies.c.messages > 0,
            batches.c.first == batch.first,
            batches.c.size == batch.size,
        )
        .group_by(tallies.c.status, tallies.c.attempt)
    )
    rows = connection.execute(query)
    return Counter({(status, attempt): int(count) for status, attempt, count in rows})


def read_numbers_in_status(
    connection: Connection, batch: Batch, status: Status
) -> Mapping[int, Sequence[int]]:
    """Return a batch's messages that are in a status, by attempt, in ascending order.

    The messages aren't read if the tallies say that they are all in one state, or none in this one.
    """
    counts = count_states(connection, batch)
    if len(counts) == 1:
        [(only_status, attempt)] = counts
        return {attempt: range(batch.first, batch.last + 1)} if only_status == status else {}
    if counts and not any(present == status for present, _ in counts):
        return {}
    return scan_numbers_in_status(connection, batch, status)


def scan_numbers_in_status(
    connection: Connection, batch: Batch, status: Status
) -> Mapping[int, Sequence[int]]:
    """Return the same from the messages themselves.

    A journal entry sees its own moves there. Its tallies follow at its end.
    """
    query = sa.select(messages.c.number, messages.c.attempt).where(
        is_of_message_in(messages, batch), messages.c.status == status
    )
    by_key = read_numbers_by_key(connection, query)
    return {attempt: numbers for (attempt,), numbers in by_key.items()}
