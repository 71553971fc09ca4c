"""Runs in the states that a campaign can be in."""

from contextlib import AbstractContextManager
from unittest.mock import patch

import sqlalchemy as sa

from tracker.clock import to_microseconds
from tracker.queries.campaign_state import ABANDONED_AFTER
from tracker.record import registration
from tracker.record.catalog import Campaign
from tracker.store.database import Database
from tracker.store.database_clock import transaction_start
from tracker.store.schema.catalog import runs

LONG_SILENCE = to_microseconds(ABANDONED_AFTER)
"""Microseconds without a heartbeat after which a run is abandoned."""


def silence_driver(
    database: Database, campaign: Campaign, microseconds: int = LONG_SILENCE
) -> None:
    """Set the last heartbeat of a campaign's run back."""
    update = sa.update(runs).where(runs.c.id == campaign.run_id)
    with database.write() as connection:
        silent_since = transaction_start() - microseconds
        connection.execute(update.values(heartbeat_at=silent_since))


def finish_run_of(database: Database, campaign: Campaign) -> None:
    """Finish a campaign's run, whatever its messages are doing."""
    with database.write() as connection:
        registration.finish_run(connection, campaign.run_id, campaign.clock.now())


def old_server() -> AbstractContextManager[object]:
    """Let the tests' server, which may have just started, count as running for long."""
    return patch("tracker.queries.campaign_state.server_start", lambda: sa.literal(0))
