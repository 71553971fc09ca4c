"""Invariants of engagement: each is violated on purpose, and is then reported."""

from datetime import UTC
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.engagement import (
    CLICKED,
    OPENED,
    UNSUBSCRIBED,
    bounce_late,
    deliver_all,
    record_events,
)
from tests.support.factory import Plan, find_violations, make_batch
from tracker.record.engagement import EngagementEvent
from tracker.record.rollup import roll_up_engagement
from tracker.store.database import Database
from tracker.store.schema.engagement import (
    engaged_then_bounced,
    engagement_days,
    engagement_tallies,
    engagements,
)


def insert_event(kind: int, number: int, at: int) -> Any:
    return sa.insert(engagements).values(campaign_id=1, kind=kind, number=number, at=at)


def delete_event(kind: int, number: int) -> Any:
    return sa.delete(engagements).where(engagements.c.kind == kind, engagements.c.number == number)


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        pytest.param(insert_event(OPENED, 7, 5), ["engagement_tallies"], id="an event is forged"),
        pytest.param(insert_event(OPENED, 1, 9_000_000_000), [], id="a recipient opens again"),
        pytest.param(
            insert_event(OPENED, 1, -1_800_000_000),
            ["engagement_tallies"],
            id="a recipient opened earlier",
        ),
        pytest.param(
            delete_event(UNSUBSCRIBED, 3), ["engagement_tallies"], id="an event is deleted"
        ),
        pytest.param(
            delete_event(OPENED, 2),
            ["engagement_tallies", "implied_engagement"],
            id="an open is deleted",
        ),
        pytest.param(
            delete_event(CLICKED, 3),
            ["engagement_tallies", "implied_engagement"],
            id="a click is deleted",
        ),
        pytest.param(
            sa.update(engagement_tallies).values(recipients=engagement_tallies.c.recipients + 1),
            ["engagement_tallies"],
            id="tallies count more",
        ),
        pytest.param(
            sa.update(engagement_tallies).values(batch=1),
            ["engagement_tallies"],
            id="tallies belong to another batch",
        ),
        pytest.param(
            sa.update(engagement_tallies).values(rolled=0),
            ["engagement_days"],
            id="the rollup is forgotten",
        ),
        pytest.param(
            sa.update(engagement_days).values(recipients=engagement_days.c.recipients + 1),
            ["engagement_days"],
            id="days count more",
        ),
        pytest.param(sa.delete(engagement_days), ["engagement_days"], id="the days are lost"),
        pytest.param(
            sa.update(engaged_then_bounced).values(messages=2),
            ["engaged_then_bounced"],
            id="more are engaged then bounced",
        ),
        pytest.param(
            sa.delete(engaged_then_bounced),
            ["engaged_then_bounced"],
            id="the engaged then bounced are lost",
        ),
        pytest.param(
            delete_event(OPENED, 4), ["engaged_then_bounced"], id="a bounced one's open is deleted"
        ),
    ],
)
def test_tampering_is_reported(database: Database, tampering: Any, named: list[str]) -> None:
    batch = make_batch(database, Plan(size=10))
    deliver_all(database, batch)
    record_events(
        database,
        batch,
        [
            EngagementEvent(1, OPENED, 5),
            EngagementEvent(2, CLICKED, 6),
            EngagementEvent(3, UNSUBSCRIBED, 7),
            EngagementEvent(4, OPENED, 8),
        ],
    )
    bounce_late(database, batch, 4)
    roll_up_engagement(database, UTC)
    assert not find_violations(database, batch.campaign)
    with database.write() as connection:
        connection.execute(tampering)
    assert find_violations(database, batch.campaign) == named
