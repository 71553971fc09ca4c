"""Read when a campaign's messages were judged and dispatched, as the message limit counts them."""

from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from tracker.queries.next_step import CHECK_CHAIN
from tracker.record.predicates import is_same_batch
from tracker.status import Status, Step
from tracker.store.arrays import read_columns
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import transitions
from tracker.store.schema.work import steps


class JudgedBatches(NamedTuple):
    """The times at which batches were judged, as arrays in order of their first messages.

    Attributes:
        first: number of the first message.
        size: number of messages.
        judged_from: start of the first suppress step; the message limit period ends there.
        judged_until: start of the last suppress step, which is the first if it wasn't repeated.
        ended_at: end of the last step before the gateway.
    """

    first: NDArray[np.int64]
    size: NDArray[np.int64]
    judged_from: NDArray[np.int64]
    judged_until: NDArray[np.int64]
    ended_at: NDArray[np.int64]


def read_judged_batches(connection: Connection, campaign_id: int) -> JudgedBatches:
    """Read when the batches of a campaign that a suppress step has judged were judged."""
    suppressed_at = sa.case((steps.c.step == Step.SUPPRESS, steps.c.started_at))
    query = (
        sa.select(
            batches.c.first,
            batches.c.size,
            sa.func.min(suppressed_at).label("judged_from"),
            sa.func.max(suppressed_at).label("judged_until"),
            sa.func.max(steps.c.finished_at).label("ended_at"),
        )
        .join(steps, is_same_batch(steps, batches))
        .where(batches.c.campaign_id == campaign_id, steps.c.step.in_(CHECK_CHAIN))
        .group_by(batches.c.batch, batches.c.first, batches.c.size)
        .having(sa.func.count(suppressed_at) > 0)
    )
    columns = read_columns(connection, query)
    order = np.argsort(columns[0])
    return JudgedBatches._make(column[order] for column in columns)


def read_dispatch_times(
    connection: Connection, campaign_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of a campaign's dispatched messages, ascending, and when each was."""
    query = sa.select(transitions.c.number, transitions.c.at).where(
        transitions.c.campaign_id == campaign_id,
        transitions.c.status == Status.ABOUT_TO_BE_SENT,
        transitions.c.attempt == 0,
    )
    numbers, times = read_columns(connection, query)
    order = np.argsort(numbers)
    return numbers[order], times[order]
