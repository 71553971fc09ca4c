"""From when on a batch's gateway may have more to tell of it: receipts, and engagement.

A batch that expects something is not done with, and whoever looks after it knows when to ask next.
What is expected is written in the same entry as what it follows from, so it can't be forgotten.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.catalog import Batch
from tracker.record.journal import Entry
from tracker.store.schema.catalog import batches
from tracker.store.schema.work import steps


class DueKind(StrEnum):
    """What a batch expects, by the column that says from when on."""

    RECEIPTS = "receipts_due_at"
    ENGAGEMENT = "engagement_due_at"


@dataclass(frozen=True, kw_only=True)
class DueTimes:
    """What a batch expects, as known by its step ``last_step_id``; None is nothing more."""

    last_step_id: int
    receipts_due_at: Instant | None
    engagement_due_at: Instant | None


def read_due_times(connection: Connection, batch: Batch) -> DueTimes:
    """What a batch expects. Read it together with what the next answer is to be held against."""
    latest = (
        sa.select(sa.func.max(steps.c.id))
        .where(steps.c.campaign_id == batch.campaign.id, steps.c.batch == batch.batch)
        .scalar_subquery()
    )
    last_step_id, receipts_due_at, engagement_due_at = connection.execute(
        sa.select(latest, batches.c.receipts_due_at, batches.c.engagement_due_at).where(
            *_batch_conditions(batch)
        )
    ).one()
    return DueTimes(
        last_step_id=last_step_id,
        receipts_due_at=receipts_due_at,
        engagement_due_at=engagement_due_at,
    )


def mark_due(written: Entry, due_kind: DueKind, due: Instant) -> None:
    """More may come from ``due`` on, or from when it is expected already, if that is earlier."""
    column = batches.c[due_kind]
    earlier = sa.case((column < due, column), else_=due)
    written.connection.execute(
        sa.update(batches).where(*_batch_conditions(written.batch)).values({column: earlier})
    )


def replace_due_time(
    written: Entry, due_kind: DueKind, due: Instant | None, *, last_step_id: int
) -> None:
    """More comes from ``due`` on and not before, or never, as far as was known by step ``last_step_id``.

    Where the batch went on since then, its newer expectations stand.
    """
    newer = sa.select(steps.c.id).where(
        steps.c.campaign_id == written.batch.campaign.id,
        steps.c.batch == written.batch.batch,
        steps.c.id > last_step_id,
        steps.c.id < written.step_id,
    )
    if written.connection.scalar(sa.select(newer.exists())):
        if due is not None:
            mark_due(written, due_kind, due)
    else:
        written.connection.execute(
            sa.update(batches)
            .where(*_batch_conditions(written.batch))
            .values({batches.c[due_kind]: due})
        )


def count_waiting_batches(
    connection: Connection,
    campaign_ids: Sequence[int],
    due_kinds: Collection[DueKind] = frozenset(DueKind),
) -> Counter[int]:
    """By campaign, how many batches expect some of ``what``."""
    query = (
        sa.select(batches.c.campaign_id, sa.func.count())
        .where(
            batches.c.campaign_id.in_(campaign_ids),
            sa.or_(*(batches.c[each].is_not(None) for each in due_kinds)),
        )
        .group_by(batches.c.campaign_id)
    )
    return Counter(dict(connection.execute(query).all()))


def _batch_conditions(batch: Batch) -> tuple[sa.ColumnElement[bool], ...]:
    return (batches.c.campaign_id == batch.campaign.id, batches.c.batch == batch.batch)
