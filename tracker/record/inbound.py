"""What gateways have reported on their own account, kept until a step of the batch applies it.

A report is acknowledged when it is in the database: the task that is sent for it may be lost. The
batch notes that it has something due, so whoever looks after it next finds the report.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import SystemClock, to_microseconds, to_run_microseconds
from tracker.record.catalog import Batch, Campaign
from tracker.record.due import DueKind, mark_due
from tracker.record.engagement import EngagementEvent
from tracker.record.journal import Entry
from tracker.record.receipts import Receipt
from tracker.status import Engagement
from tracker.store.arrays import read_columns
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.work import reports

MAX_REPORT_WAIT = timedelta(minutes=10)
"""How long a report waits, in real time, for what it is about: that its message was handed over, or
delivered, may be written down after the gateway has spoken of it."""

REPORT_RETRY_DELAY = timedelta(seconds=1)
"""How long a report that came too early is left alone, in real time."""

ReportItem = Receipt | EngagementEvent
BatchKey = tuple[int, int]
"""A campaign's id and a batch."""


@dataclass(frozen=True)
class ClaimedReports:
    """Items that were taken out of the inbox, each with the real instant at which it came."""

    received_at: Mapping[Any, int]

    def can_wait(self, item: ReportItem) -> bool:
        """Whether an item has not waited for long."""
        return self.received_at[item] > SystemClock().now() - to_microseconds(MAX_REPORT_WAIT)


@dataclass(frozen=True, kw_only=True)
class StoredReports:
    """Batches for which something was stored; ``idle`` are those that had nothing else to do, so
    that no task will come to them by itself."""

    busy_batches: Sequence[BatchKey]
    idle_batches: Sequence[BatchKey]


def store_reports(
    database: Database,
    due_kind: DueKind,
    items_by_campaign: Mapping[int, Sequence[ReportItem]],
    campaigns: Sequence[Campaign],
    find_settled_batches: Callable[[Connection, Sequence[BatchKey]], Collection[BatchKey]],
) -> StoredReports:
    """Store reported items, by the ids of their campaigns, until a step applies them.

    An item for an unknown message is stored with the first batch of its campaign, whose step records
    it as unknown. Campaigns without batches are skipped. `find_settled_batches` is that of
    `tracker.queries.next_step`; it is called in the transaction that stores the items.
    """
    by_batch: dict[BatchKey, list[ReportItem]] = {}
    with database.read() as connection:
        for campaign in campaigns:
            for batch, items in _group_by_batch(
                connection, campaign, items_by_campaign[campaign.id]
            ).items():
                by_batch[campaign.id, batch] = items
    clocks = {campaign.id: campaign.clock for campaign in campaigns}
    received_at = SystemClock().now()
    with database.write() as connection:
        # In one order, so that two reports can't wait for each other.
        keys = sorted(by_batch)
        idle = find_settled_batches(connection, keys)
        for campaign_id, batch in keys:
            due = clocks[campaign_id].now()
            column = batches.c[due_kind]
            connection.execute(
                sa.update(batches)
                .where(batches.c.campaign_id == campaign_id, batches.c.batch == batch)
                .values({column: sa.case((column < due, column), else_=due)})
            )
        if keys:
            connection.execute(
                sa.insert(reports),
                [
                    {
                        "campaign_id": campaign_id,
                        "batch": batch,
                        "kind": due_kind.value,
                        "received_at": received_at,
                        "body": json.dumps(by_batch[campaign_id, batch]),
                    }
                    for campaign_id, batch in keys
                ],
            )
    return StoredReports(
        busy_batches=[key for key in keys if key not in idle], idle_batches=sorted(idle)
    )


def _group_by_batch(
    connection: Connection, campaign: Campaign, items: Sequence[ReportItem]
) -> dict[int, list[ReportItem]]:
    number, first, size = read_columns(
        connection,
        sa.select(batches.c.batch, batches.c.first, batches.c.size).where(
            batches.c.campaign_id == campaign.id
        ),
    )
    if not len(number):
        return {}
    order = np.argsort(first)
    last = (first + size - 1)[order]
    wanted = np.array([min(max(item.number, -1), MAX_NUMBER) for item in items], np.int64)
    place = np.searchsorted(last, wanted)
    there = (wanted >= 0) & (place < len(last))
    batch = np.where(there, number[order][np.minimum(place, len(last) - 1)], number[order][0])
    found: defaultdict[int, list[ReportItem]] = defaultdict(list)
    for each, item in zip(batch.tolist(), items, strict=True):
        found[each].append(item)
    return found


MAX_NUMBER = 2**62


def has_unapplied_reports(connection: Connection, batch: Batch, due_kind: DueKind) -> bool:
    """Whether something was reported of a batch and not applied yet."""
    there = sa.select(reports.c.id).where(*_report_conditions(batch, due_kind)).exists()
    return bool(connection.scalar(sa.select(there)))


def claim_reports(written: Entry, due_kind: DueKind) -> ClaimedReports:
    """Take all that was reported of an entry's batch out of the inbox. Whoever reports now waits
    until the entry is written."""
    rows = written.connection.execute(
        sa.select(reports.c.id, reports.c.received_at, reports.c.body)
        .where(*_report_conditions(written.batch, due_kind))
        .order_by(reports.c.id)
    ).all()
    came: dict[ReportItem, int] = {}
    if rows:
        taken = reports.c.id.in_([row.id for row in rows])
        written.connection.execute(sa.delete(reports).where(taken))
    for row in rows:
        for values in json.loads(row.body):
            came.setdefault(_parse_item(due_kind, values), row.received_at)
    return ClaimedReports(came)


def release_items(
    written: Entry, due_kind: DueKind, claimed: ClaimedReports, items: Sequence[ReportItem]
) -> None:
    """Keep items that were ``taken`` and came too early, for a second look a little later."""
    if not items:
        return
    by_age: defaultdict[int, list[ReportItem]] = defaultdict(list)
    for item in items:
        by_age[claimed.received_at[item]].append(item)
    written.connection.execute(
        sa.insert(reports),
        [
            {
                "campaign_id": written.batch.campaign.id,
                "batch": written.batch.batch,
                "kind": due_kind.value,
                "received_at": came,
                "body": json.dumps(those),
            }
            for came, those in by_age.items()
        ],
    )
    campaign = written.batch.campaign
    mark_due(
        written,
        due_kind,
        campaign.clock.now() + to_run_microseconds(REPORT_RETRY_DELAY, campaign.speed),
    )


def _parse_item(due_kind: DueKind, values: Sequence[Any]) -> ReportItem:
    if due_kind is DueKind.RECEIPTS:
        return Receipt(*values)
    number, kind, at = values
    return EngagementEvent(number, Engagement(kind), at)


def _report_conditions(batch: Batch, due_kind: DueKind) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        reports.c.campaign_id == batch.campaign.id,
        reports.c.batch == batch.batch,
        reports.c.kind == due_kind.value,
    )
