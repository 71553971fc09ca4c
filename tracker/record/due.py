"""When the gateway of a batch may next have news: receipts, and engagement.

A batch with a due time isn't settled. The due time is written in the same entry as the change that
it follows from, so it can't be lost.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.actions.submissions import has_open_submission
from tracker.record.catalog import Batch
from tracker.record.journal import Entry
from tracker.record.predicates import is_of_batch
from tracker.store.schema.catalog import batches, campaigns
from tracker.store.schema.work import steps


class DueKind(StrEnum):
    """A kind of news, named after the column of `batches` that says when it is due."""

    RECEIPTS = "receipts_due_at"
    ENGAGEMENT = "engagement_due_at"


@dataclass(frozen=True, kw_only=True)
class DueTimes:
    """The due times of a batch, as of its step `last_step_id`; None is never.

    Attributes:
        unconfirmed_due_at: when the first message without a reply counts as not delivered.
    """

    last_step_id: int
    receipts_due_at: Instant | None
    engagement_due_at: Instant | None
    unconfirmed_due_at: Instant | None

    def is_unconfirmed_due(self, now: Instant) -> bool:
        """Return whether a message without a reply counts as not delivered by now."""
        return self.unconfirmed_due_at is not None and self.unconfirmed_due_at <= now


def read_due_times(connection: Connection, batch: Batch) -> DueTimes:
    """Return the due times of a batch.

    Read them in the same transaction as the messages about which the gateway is then polled.
    `last_step_id` tells `replace_due_time` whether the batch has changed since.
    """
    last_step_id = (
        sa.select(sa.func.max(steps.c.id)).where(is_of_batch(steps, batch)).scalar_subquery()
    )
    query = sa.select(
        last_step_id.label("last_step_id"),
        batches.c.receipts_due_at,
        batches.c.engagement_due_at,
        batches.c.unconfirmed_due_at,
    )
    row = connection.execute(query.where(is_of_batch(batches, batch))).one()
    return DueTimes(
        last_step_id=row.last_step_id,
        receipts_due_at=row.receipts_due_at,
        engagement_due_at=row.engagement_due_at,
        unconfirmed_due_at=row.unconfirmed_due_at,
    )


def mark_due(entry: Entry, due_kind: DueKind, due_at: Instant) -> None:
    """Set a due time, unless an earlier one is set."""
    entry.connection.execute(
        earliest_due_update(due_kind, due_at).where(is_of_batch(batches, entry.batch))
    )


def earliest_due_update(due_kind: DueKind, due_at: Instant) -> sa.Update:
    """Return the UPDATE of `batches` that sets a due time where no earlier one is set."""
    column = batches.c[due_kind]
    return sa.update(batches).values({column: sa.case((column < due_at, column), else_=due_at)})


def replace_due_time(
    entry: Entry, due_kind: DueKind, due_at: Instant | None, *, last_step_id: int
) -> None:
    """Set a due time, later or earlier than before.

    If the batch has had another step since `last_step_id`, that step may have set a due time of
    which the gateway's answer knows nothing. Then the earlier of the two is kept.
    """
    newer_steps = sa.select(steps.c.id).where(
        is_of_batch(steps, entry.batch), steps.c.id > last_step_id, steps.c.id < entry.step_id
    )
    if entry.connection.scalar(sa.select(newer_steps.exists())):
        if due_at is not None:
            mark_due(entry, due_kind, due_at)
    else:
        entry.connection.execute(
            sa.update(batches)
            .where(is_of_batch(batches, entry.batch))
            .values({batches.c[due_kind]: due_at})
        )


def count_waiting_batches(
    connection: Connection,
    campaign_ids: Sequence[int],
    due_kinds: Collection[DueKind] = frozenset(DueKind),
) -> Counter[int]:
    """Return the number of batches, by campaign id, with a due time of one of these kinds.

    Batches of a cancelled campaign with messages that the gateway may have count, too.
    """
    is_ending = sa.and_(
        has_open_submission(batches.c.campaign_id, batches.c.batch),
        sa.exists().where(
            campaigns.c.id == batches.c.campaign_id, campaigns.c.cancelled_at.is_not(None)
        ),
    )
    query = (
        sa.select(batches.c.campaign_id, sa.func.count())
        .where(
            batches.c.campaign_id.in_(campaign_ids),
            sa.or_(is_ending, *(batches.c[due_kind].is_not(None) for due_kind in due_kinds)),
        )
        .group_by(batches.c.campaign_id)
    )
    return Counter(dict(connection.execute(query).all()))
