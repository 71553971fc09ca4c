"""Helpers that record engagement events."""

from collections.abc import Sequence

from tests.support.factory import AUTHOR
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent, record_engagement
from tracker.record.journal import open_entry
from tracker.status import Engagement, Step
from tracker.store.database import Database

OPENED, CLICKED = Engagement.OPENED, Engagement.CLICKED
SPAM, UNSUBSCRIBED = Engagement.SPAM, Engagement.UNSUBSCRIBED


def record_events(database: Database, batch: Batch, events: Sequence[EngagementEvent]) -> None:
    """Record events in one entry."""
    with open_entry(database, batch, Step.ENGAGE, AUTHOR, started_at=0) as entry:
        record_engagement(entry, events)
