"""Read which messages of a batch are in which state: from its tallies, or from the messages."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.record.catalog import Batch, Campaign
from tracker.record.predicates import is_of_batch, is_of_message_in, is_same_batch
from tracker.status import Status, is_settled
from tracker.store.arrays import read_numbers_by_key
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, tallies
from tracker.store.schema.work import open_submissions


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


def read_state_counts(
    connection: Connection, campaign: Campaign, first: int, last: int
) -> Mapping[int, Counter[tuple[Status, int]]]:
    """Return the messages of batches `first` to `last`, counted by status and attempt."""
    counts: defaultdict[int, Counter[tuple[Status, int]]] = defaultdict(Counter)
    query = sa.select(
        tallies.c.batch, tallies.c.status, tallies.c.attempt, tallies.c.messages
    ).where(
        tallies.c.campaign_id == campaign.id,
        tallies.c.batch.between(first, last),
        tallies.c.messages > 0,
    )
    for batch, status, attempt, count in connection.execute(query):
        counts[batch][Status(status), attempt] += count
    return counts


def count_pending(counts: Counter[tuple[Status, int]], campaign: Campaign) -> Counter[Status]:
    """Return the number of messages that haven't settled, by status."""
    attempts = campaign.attempts if campaign.cancelled_at is None else 0
    pending: Counter[Status] = Counter()
    for (status, attempt), count in counts.items():
        if not is_settled(status, attempt, attempts):
            pending[status] += count
    return pending


def read_open_batches(connection: Connection, campaign: Campaign) -> set[int]:
    """Return the batches of a cancelled campaign with open submissions; none of others."""
    if campaign.cancelled_at is None:
        return set()
    query = sa.select(open_submissions.c.batch).where(open_submissions.c.campaign_id == campaign.id)
    return set(connection.scalars(query))
