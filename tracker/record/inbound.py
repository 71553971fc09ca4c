"""Reports that gateways make on their own account, kept until a step of the batch applies them.

A report is acknowledged once it is in the database, since the task that is sent for it may be lost.
The batch gets a due time, so that the sweep finds the report.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, SystemClock, to_microseconds, to_run_microseconds
from tracker.record.catalog import Batch, BatchKey, Campaign
from tracker.record.due import DueKind, earliest_due_update, mark_due
from tracker.record.engagement import EngagementEvent
from tracker.record.journal import Entry
from tracker.record.predicates import is_of_batch
from tracker.record.receipts import Receipt
from tracker.status import Engagement
from tracker.store.arrays import read_columns
from tracker.store.schema.catalog import batches
from tracker.store.schema.work import reports

MAX_REPORT_WAIT = timedelta(minutes=10)
"""Longest real time for which a report waits until its message is recorded as handed over or
delivered. A gateway may report before that is written."""

REPORT_RETRY_DELAY = timedelta(seconds=1)
"""Real time after which a report that came too early is tried again."""

SEARCH_LIMIT = 2**62
"""Larger message numbers, which no batch has, are searched as this one: it fits into an array."""

ReportItem = Receipt | EngagementEvent


@dataclass(frozen=True)
class ClaimedReports:
    """Reported items that an entry has taken out of the table.

    Attributes:
        received_at: the items, each with the real instant at which it was reported.
    """

    received_at: Mapping[Any, Instant]

    def can_wait(self, item: ReportItem) -> bool:
        """Return whether an item may be released for another try."""
        earliest = SystemClock().now() - to_microseconds(MAX_REPORT_WAIT)
        return self.received_at[item] > earliest


def group_by_batch(
    connection: Connection,
    campaigns: Iterable[Campaign],
    items_by_campaign: Mapping[int, Sequence[ReportItem]],
) -> dict[BatchKey, list[ReportItem]]:
    """Return reported items, given by campaign id, by the batch of their message.

    Items about a message that its campaign doesn't have go to the campaign's first batch, which
    will record them as unknown. Items of a campaign without batches are dropped.
    """
    items_by_batch: dict[BatchKey, list[ReportItem]] = {}
    for campaign in campaigns:
        items = items_by_campaign[campaign.id]
        for batch, item in zip(_find_batches(connection, campaign, items), items, strict=False):
            items_by_batch.setdefault((campaign.id, batch), []).append(item)
    return items_by_batch


def _find_batches(
    connection: Connection, campaign: Campaign, items: Sequence[ReportItem]
) -> list[int]:
    """Return the batch of each item; an empty list if the campaign has no batches."""
    batch, first, size = read_columns(
        connection,
        sa.select(batches.c.batch, batches.c.first, batches.c.size).where(
            batches.c.campaign_id == campaign.id
        ),
    )
    if not len(batch):
        return []
    order = np.argsort(first)
    batch, last = batch[order], (first + size - 1)[order]
    numbers = np.array([min(max(item.number, -1), SEARCH_LIMIT) for item in items], np.int64)
    place = np.searchsorted(last, numbers)
    is_unknown = (numbers < 0) | (place == len(last))
    place[is_unknown] = 0
    batch_by_item: list[int] = batch[place].tolist()
    return batch_by_item


def store_reports(
    connection: Connection,
    due_kind: DueKind,
    campaigns: Iterable[Campaign],
    items_by_batch: Mapping[BatchKey, Sequence[ReportItem]],
) -> None:
    """Keep reported items of some campaigns, and mark their batches as due.

    Args:
        items_by_batch: the result of `group_by_batch`.
    """
    if not items_by_batch:
        return
    now_by_campaign = {campaign.id: campaign.clock.now() for campaign in campaigns}
    received_at = SystemClock().now()
    # In one order, so that two reports can't deadlock.
    keys = sorted(items_by_batch)
    for key in keys:
        update = earliest_due_update(due_kind, now_by_campaign[key[0]])
        connection.execute(update.where(is_of_batch(batches, key)))
    rows = [_report_row(key, due_kind, received_at, items_by_batch[key]) for key in keys]
    connection.execute(sa.insert(reports), rows)


def has_unapplied_reports(connection: Connection, batch: Batch, due_kind: DueKind) -> bool:
    """Return whether a batch has reports of a kind that no step has applied."""
    unapplied = sa.select(reports.c.id).where(_is_report(batch, due_kind)).exists()
    return bool(connection.scalar(sa.select(unapplied)))


def claim_reports(
    entry: Entry, due_kind: DueKind, polled: Iterable[ReportItem] = ()
) -> ClaimedReports:
    """Take all reports of a kind on an entry's batch out of the table, and return them.

    The entry holds the batch's row, so a report that comes now waits until the entry is recorded.

    Args:
        polled: items that a poll has just returned, which are treated like reported ones.
    """
    rows = entry.connection.execute(
        sa.select(reports.c.id, reports.c.received_at, reports.c.body)
        .where(_is_report(entry.batch, due_kind))
        .order_by(reports.c.id)
    ).all()
    received_at = dict.fromkeys(polled, SystemClock().now())
    if rows:
        is_read = reports.c.id.in_([row.id for row in rows])
        entry.connection.execute(sa.delete(reports).where(is_read))
    for row in rows:
        for values in json.loads(row.body):
            received_at.setdefault(_parse_item(due_kind, values), row.received_at)
    return ClaimedReports(received_at)


def release_items(
    entry: Entry, due_kind: DueKind, claimed: ClaimedReports, items: Sequence[ReportItem]
) -> None:
    """Put claimed items that came too early back, for another try after REPORT_RETRY_DELAY."""
    if not items:
        return
    items_by_age: defaultdict[Instant, list[ReportItem]] = defaultdict(list)
    for item in items:
        items_by_age[claimed.received_at[item]].append(item)
    campaign = entry.batch.campaign
    key = (campaign.id, entry.batch.batch)
    rows = [
        _report_row(key, due_kind, received_at, items_of_age)
        for received_at, items_of_age in items_by_age.items()
    ]
    entry.connection.execute(sa.insert(reports), rows)
    delay = to_run_microseconds(REPORT_RETRY_DELAY, campaign.speed)
    mark_due(entry, due_kind, campaign.clock.now() + delay)


def _report_row(
    key: BatchKey, due_kind: DueKind, received_at: Instant, items: Sequence[ReportItem]
) -> dict[str, object]:
    campaign_id, batch = key
    return {
        "campaign_id": campaign_id,
        "batch": batch,
        "kind": due_kind.value,
        "received_at": received_at,
        "body": json.dumps(items),
    }


def _parse_item(due_kind: DueKind, values: Sequence[Any]) -> ReportItem:
    if due_kind is DueKind.RECEIPTS:
        return Receipt(*values)
    number, kind, at = values
    return EngagementEvent(number, Engagement(kind), at)


def _is_report(batch: Batch, due_kind: DueKind) -> sa.ColumnElement[bool]:
    return sa.and_(is_of_batch(reports, batch), reports.c.kind == due_kind.value)
