"""Helpers that record engagement events."""

from collections.abc import Sequence

from tests.support.factory import AUTHOR, READY, in_gateway, in_status
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent, record_engagement
from tracker.record.journal import QUEUED_STATE, Move, open_entry
from tracker.record.receipts import Receipt, apply_receipts
from tracker.status import Engagement, Status, Step
from tracker.store.database import Database

OPENED, CLICKED = Engagement.OPENED, Engagement.CLICKED
SPAM, UNSUBSCRIBED = Engagement.SPAM, Engagement.UNSUBSCRIBED


def deliver_all(database: Database, batch: Batch) -> None:
    """Deliver the messages of a batch, which are queued."""
    numbers = range(batch.first, batch.last + 1)
    source, now = QUEUED_STATE, batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as entry:
        for target in (READY, in_gateway(), in_status(Status.DELIVERED)):
            assert entry.move(Move(numbers=numbers, source=source, target=target, at=now))
            source = target


def record_events(database: Database, batch: Batch, events: Sequence[EngagementEvent]) -> None:
    """Record events in one entry."""
    with open_entry(database, batch, Step.ENGAGE, AUTHOR, started_at=0) as entry:
        record_engagement(entry, events)


def bounce_late(database: Database, batch: Batch, *numbers: int) -> None:
    """Apply receipts that delivered messages have bounced."""
    now = batch.campaign.clock.now()
    receipts = [Receipt(number, 1, Status.HARD_BOUNCED, now) for number in numbers]
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as entry:
        assert apply_receipts(entry, receipts) == ()
