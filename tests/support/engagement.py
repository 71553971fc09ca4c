"""Engagement events, recorded in one entry."""

from collections.abc import Sequence

from tests.support.factory import AUTHOR
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent, record
from tracker.record.journal import entry
from tracker.status import Engagement, Step
from tracker.store.database import Database

OPENED, CLICKED = Engagement.OPENED, Engagement.CLICKED


SPAM, UNSUBSCRIBED = Engagement.SPAM, Engagement.UNSUBSCRIBED


def report(database: Database, batch: Batch, events: Sequence[EngagementEvent]) -> None:
    with entry(database, batch, Step.ENGAGE, AUTHOR, started_at=0) as written:
        record(written, events)
