"""Batches that stand still, and those that only seem to."""

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    LONG_AGO,
    READY,
    Plan,
    age,
    ended,
    in_gateway,
    make_batch,
    make_busy_batch,
    make_campaign,
    move,
)
from tracker.clock import from_seconds, to_microseconds
from tracker.queries.stalled import (
    STALLED_AFTER,
    Standing,
    find_idle_batches,
    find_stalled_batches,
    find_unfinished_campaigns,
    read_oldest_message_ages,
)
from tracker.record import catalog
from tracker.record.catalog import Batch, Campaign
from tracker.record.due import DueKind
from tracker.record.inbound import store_reports
from tracker.record.journal import enqueue_batch
from tracker.record.receipts import Receipt
from tracker.status import Status, Step
from tracker.store.database import Database
from tracker.store.schema import runs, transitions
from workers.steps.bisection import claim_segment


def standing(database: Database) -> list[Standing]:
    with database.read() as connection:
        return find_stalled_batches(connection, find_unfinished_campaigns(connection))


def three(database: Database, **different: object) -> list[Batch]:
    campaign = make_campaign(database, Plan(size=30, **different))  # type: ignore[arg-type]
    return [
        enqueue_batch(database, campaign, batch=number, first=10 * number, size=10, author=AUTHOR)
        for number in range(3)
    ]


def test_a_batch_that_nobody_has_touched_stands_still(database: Database) -> None:
    batch = make_batch(database)
    assert standing(database) == []
    age(database, batch)
    [found] = standing(database)
    assert (found.campaign.id, found.batch, found.step) == (batch.campaign.id, 0, Step.SUPPRESS)
    assert found.waiting == {Status.QUEUED: 10}
    assert abs(found.seconds - LONG_AGO.total_seconds()) < 60


def test_what_it_needs_follows_from_where_its_messages_are(database: Database) -> None:
    batch = make_batch(database)
    numbers = list(range(10))
    move(database, batch, numbers, READY)
    age(database, batch)
    assert [each.step for each in standing(database)] == [Step.SUBMIT]
    now = batch.campaign.clock.now()
    long_ago = now - to_microseconds(LONG_AGO)
    other = make_batch(database, Plan(name="other"))
    move(database, other, numbers, READY, in_gateway(1))
    age(database, other, receipts_due_at=long_ago)
    assert [each.step for each in standing(database)] == [Step.SUBMIT, Step.DELIVER]
    age(database, other, receipts_due_at=None, engagement_due_at=long_ago)
    assert [each.step for each in standing(database)] == [Step.SUBMIT, Step.ENGAGE]
    soft = make_batch(database, Plan(name="soft"))
    move(database, soft, numbers, READY, in_gateway(1), ended(Status.SOFT_BOUNCED))
    age(database, soft)
    assert standing(database)[-1].step is Step.SUBMIT
    assert standing(database)[-1].waiting == {Status.SOFT_BOUNCED: 10}


@pytest.mark.parametrize("step", [Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH])
def test_what_was_begun_on_parts_comes_first(database: Database, step: Step) -> None:
    """Else what comes before it would be done again and again, and look like a sign of life."""
    batch = make_batch(database)
    claim_segment(database, batch, step, AUTHOR, is_retry=True)
    age(database, batch)
    [found] = standing(database)
    assert found.step is step


def test_who_is_done_does_not_hide_who_stands(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.queries.stalled.MAX_BATCHES_PER_CAMPAIGN", 1)
    first, second, _ = three(database, attempts=1)
    bounced = (READY, in_gateway(1), ended(Status.SOFT_BOUNCED))
    move(database, first, list(range(10)), *bounced)
    for each in (first, second):
        age(database, each)
    with database.read() as connection:
        found = find_idle_batches(connection, [first.campaign], STALLED_AFTER)
    assert [each.batch for each in found] == [second.batch]


def test_who_waits_on_purpose_does_not_stand(database: Database) -> None:
    batch = make_batch(database)
    numbers = list(range(10))
    move(database, batch, numbers, READY, in_gateway(1))
    age(database, batch)
    assert standing(database) == [], "it waits for receipts that nobody has promised"
    later = batch.campaign.clock.now() + to_microseconds(timedelta(hours=1))
    age(database, batch, receipts_due_at=later)
    assert standing(database) == []


def test_who_is_done_does_not_stand(database: Database) -> None:
    batch = make_batch(database)
    numbers = list(range(10))
    delivered = ended(Status.DELIVERED)
    move(database, batch, numbers[:5], READY, in_gateway(1), delivered)
    thrice = [state for k in (1, 2, 3) for state in (in_gateway(k), ended(Status.SOFT_BOUNCED, k))]
    move(database, batch, numbers[5:], READY, *thrice)
    age(database, batch)
    assert standing(database) == []


def test_in_a_queue_that_moves_only_who_is_overtaken_stands(database: Database) -> None:
    first, second, third = three(database)
    for each in (first, second, third):
        age(database, each)
    assert [each.batch for each in standing(database)] == [0, 1, 2], "nothing moves"
    move(database, second, list(range(10, 20)), READY)
    assert [each.batch for each in standing(database)] == [0], "the last one has to wait its turn"


def test_behind_a_gateway_with_a_rate_batches_wait_for_their_turn(database: Database) -> None:
    first, second, third = three(database)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE gateways SET rate = 1"))
    for each in (first, second, third):
        move(database, each, list(range(each.first, each.first + 10)), READY)
    age(database, first)
    age(database, third)
    assert standing(database) == []
    for each in (second, third):
        age(database, each)
    assert [each.batch for each in standing(database)] == [0, 1, 2]


def test_time_is_that_of_the_run(database: Database) -> None:
    batch = make_batch(database)
    with database.write() as connection:
        hour_ago = batch.campaign.clock.now() - to_microseconds(timedelta(hours=1))
        connection.execute(sa.update(runs).values(speed=3600.0, started_at=hour_ago))
    with database.read() as connection:
        campaign = catalog.load_campaign(connection, batch.campaign.id)
    fast = Batch(campaign=campaign, batch=0, first=0, size=10)
    age(database, fast, timedelta(hours=1))
    assert standing(database) == [], "an hour of the run's is a second"
    age(database, fast, 3600 * LONG_AGO)
    [found] = standing(database)
    assert abs(found.seconds - LONG_AGO.total_seconds()) < 60


def test_runs_that_finished_are_left_alone_but_for_what_is_reported(database: Database) -> None:
    batch = make_batch(database)
    with database.write() as connection:
        catalog.finish_run(connection, batch.campaign.run_id, batch.campaign.clock.now())
    age(database, batch)
    assert standing(database) == []
    receipt = Receipt(0, 1, int(Status.DELIVERED), 0)
    store_reports(database, DueKind.RECEIPTS, {batch.campaign.id: [receipt]}, [batch.campaign])
    age(database, batch)
    assert [each.batch for each in standing(database)] == [0]


def test_the_oldest_message_of_each_stage(database: Database) -> None:
    batch = make_busy_batch(database)
    with database.write() as connection:
        for status, seconds in ((Status.QUEUED, 300), (Status.IN_GATEWAY, 100)):
            at = batch.campaign.clock.now() - from_seconds(seconds)
            connection.execute(
                sa.update(transitions).where(transitions.c.status == status).values(at=at)
            )
    with database.read() as connection:
        found = read_oldest_message_ages(connection, find_unfinished_campaigns(connection))
    assert {stage: round(seconds, -1) for stage, seconds in found.items()} == {
        "queued": 300,
        "about_to_be_sent": 0,
        "gateway": 100,
    }


def test_it_is_quick_with_many_batches(database: Database) -> None:
    campaigns: list[Campaign] = [make_campaign(database, Plan(size=100)) for _ in range(3)]
    for campaign in campaigns:
        for number in range(100):
            enqueue_batch(database, campaign, batch=number, first=number, size=1, author=AUTHOR)
    counted = []

    def count(*_: object) -> None:
        counted.append(time.monotonic())

    sa.event.listen(database.engine, "before_cursor_execute", count)
    try:
        standing(database)
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", count)
    assert len(counted) < 10, "a few questions a campaign, however many batches it has"
