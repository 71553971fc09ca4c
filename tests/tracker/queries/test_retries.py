"""The pauses before a soft-bounced message is submitted again."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.support.factory import READY, SPRING, Plan, in_gateway, in_status, make_batch, move
from tracker.clock import to_microseconds
from tracker.queries.retries import compute_retry_pause, retry_pause
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.messages import messages

SOFT_BOUNCED = Status.SOFT_BOUNCED

MINUTE = to_microseconds(timedelta(minutes=1))


@pytest.mark.parametrize(
    ("first", "minutes"),
    [
        (MINUTE, [1, 2, 4, 8, 16, 32, 64, 128, 240, 240]),
        (300 * MINUTE, [300, 300]),
        (0, [0, 0]),
    ],
)
def test_pauses_double_up_to_four_hours(first: int, minutes: list[int]) -> None:
    campaign = replace(SPRING, retry_after=first)
    pauses = [compute_retry_pause(campaign, attempt + 1) for attempt in range(len(minutes))]
    assert pauses == [pause * MINUTE for pause in minutes]
    assert compute_retry_pause(campaign, 100) == pauses[-1]


@pytest.mark.parametrize("attempts", [1, 2, 4, 100])
def test_the_database_computes_the_same_pauses(database: Database, attempts: int) -> None:
    batch = make_batch(database, Plan(size=3, attempts=attempts))
    campaign = replace(batch.campaign, retry_after=MINUTE)
    states = [READY]
    for attempt in (1, 2, 3):
        states += [in_gateway(attempt), in_status(SOFT_BOUNCED, attempt)]
    for number, place in enumerate((3, 5, 7)):
        move(database, batch, [number], *states[:place])
    query = sa.select(messages.c.attempt, retry_pause(campaign)).order_by(messages.c.number)
    with database.read() as connection:
        rows = connection.execute(query).all()
    last = max(1, attempts - 1)
    assert [tuple(row) for row in rows] == [
        (attempt, compute_retry_pause(campaign, min(attempt, last))) for attempt in (1, 2, 3)
    ]
