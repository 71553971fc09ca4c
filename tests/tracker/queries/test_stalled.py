"""Stalled batches, and batches that only seem to be stalled."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    LONG_AGO,
    READY,
    Plan,
    backdate_batch,
    in_gateway,
    in_status,
    make_batch,
    make_busy_batch,
    make_campaign,
    move,
    step_context,
)
from tests.support.statements import executed
from tracker.clock import from_seconds, to_microseconds
from tracker.queries.durations.stage_ages import read_oldest_message_ages
from tracker.queries.next_step import CHECK_CHAIN
from tracker.queries.stalled import (
    STALLED_AFTER,
    StalledBatch,
    find_idle_batches,
    find_stalled_batches,
    find_unfinished_campaigns,
)
from tracker.record import catalog, registration
from tracker.record.catalog import Batch, Campaign
from tracker.record.deferrals import Deferral, replace_deferrals, update_deferred_batch
from tracker.record.due import DueKind
from tracker.record.inbound import store_reports
from tracker.record.journal import enqueue_batch
from tracker.record.receipts import Receipt
from tracker.status import Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import runs
from tracker.store.schema.messages import transitions
from workers.steps.bisection import claim_segment


def find_stalled(database: Database) -> list[StalledBatch]:
    with database.read() as connection:
        return find_stalled_batches(connection, find_unfinished_campaigns(connection))


def make_three_batches(database: Database, **changes: object) -> list[Batch]:
    campaign = make_campaign(database, Plan(size=30, **changes))  # type: ignore[arg-type]
    return [
        enqueue_batch(database, campaign, batch=number, first=10 * number, size=10, author=AUTHOR)
        for number in range(3)
    ]


def test_a_batch_without_progress_is_stalled(database: Database) -> None:
    batch = make_batch(database)
    assert find_stalled(database) == []
    backdate_batch(database, batch)
    [stalled] = find_stalled(database)
    assert (stalled.campaign.id, stalled.batch, stalled.step) == (
        batch.campaign.id,
        0,
        Step.SUPPRESS,
    )
    assert stalled.pending_by_status == {Status.QUEUED: 10}
    assert abs(stalled.idle_seconds - LONG_AGO.total_seconds()) < 60


def test_needed_step_follows_from_statuses_and_due_times(database: Database) -> None:
    batch = make_batch(database)
    numbers = list(range(10))
    move(database, batch, numbers, READY)
    backdate_batch(database, batch)
    assert [batch.step for batch in find_stalled(database)] == [Step.SUBMIT]
    now = batch.campaign.clock.now()
    long_ago = now - to_microseconds(LONG_AGO)
    other = make_batch(database, Plan(name="other"))
    move(database, other, numbers, READY, in_gateway(1))
    backdate_batch(database, other, receipts_due_at=long_ago)
    assert [batch.step for batch in find_stalled(database)] == [Step.SUBMIT, Step.DELIVER]
    backdate_batch(database, other, receipts_due_at=None, engagement_due_at=long_ago)
    assert [batch.step for batch in find_stalled(database)] == [Step.SUBMIT, Step.ENGAGE]
    soft = make_batch(database, Plan(name="soft"))
    move(database, soft, numbers, READY, in_gateway(1), in_status(Status.SOFT_BOUNCED))
    backdate_batch(database, soft)
    assert find_stalled(database)[-1].step is Step.SUBMIT
    assert find_stalled(database)[-1].pending_by_status == {Status.SOFT_BOUNCED: 10}


@pytest.mark.parametrize("step", CHECK_CHAIN)
def test_first_step_that_is_not_done_with_a_batch_comes_next(
    database: Database, step: Step
) -> None:
    batch = make_batch(database)
    context = step_context(database, batch)
    for recorded in CHECK_CHAIN[: CHECK_CHAIN.index(step) + 1]:
        with context.entry(recorded, started_at=context.now()):
            pass
    claim_segment(context, step, is_retry=True)  # the step is recorded, but not complete
    backdate_batch(database, batch)
    [stalled] = find_stalled(database)
    assert stalled.step is step


def test_settled_batches_do_not_use_up_the_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.queries.stalled.MAX_BATCHES_PER_CAMPAIGN", 1)
    first, second, _ = make_three_batches(database, attempts=1)
    bounced = (READY, in_gateway(1), in_status(Status.SOFT_BOUNCED))
    move(database, first, list(range(10)), *bounced)
    for batch in (first, second):
        backdate_batch(database, batch)
    with database.read() as connection:
        idle = find_idle_batches(connection, [first.campaign], STALLED_AFTER)
    assert [batch.batch for batch in idle] == [second.batch]


def test_a_batch_that_waits_for_receipts_is_not_stalled(database: Database) -> None:
    batch = make_batch(database)
    numbers = list(range(10))
    move(database, batch, numbers, READY, in_gateway(1))
    backdate_batch(database, batch)
    assert find_stalled(database) == [], "its gateway reports on its own account"
    later = batch.campaign.clock.now() + to_microseconds(timedelta(hours=1))
    backdate_batch(database, batch, receipts_due_at=later)
    assert find_stalled(database) == []


def test_a_settled_batch_is_not_stalled(database: Database) -> None:
    batch = make_batch(database)
    numbers = list(range(10))
    delivered = in_status(Status.DELIVERED)
    move(database, batch, numbers[:5], READY, in_gateway(1), delivered)
    thrice = [
        state for k in (1, 2, 3) for state in (in_gateway(k), in_status(Status.SOFT_BOUNCED, k))
    ]
    move(database, batch, numbers[5:], READY, *thrice)
    backdate_batch(database, batch)
    assert find_stalled(database) == []


def test_in_a_moving_queue_only_an_overtaken_batch_is_stalled(database: Database) -> None:
    first, second, third = make_three_batches(database)
    for batch in (first, second, third):
        backdate_batch(database, batch)
    assert [batch.batch for batch in find_stalled(database)] == [0, 1, 2], "nothing moves"
    move(database, second, list(range(10, 20)), READY)
    assert [batch.batch for batch in find_stalled(database)] == [0], (
        "the last one waits for its turn"
    )


def test_with_a_gateway_rate_overtaken_batches_are_not_stalled(database: Database) -> None:
    first, second, third = make_three_batches(database)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE gateways SET rate = 1"))
    for batch in (first, second, third):
        move(database, batch, list(range(batch.first, batch.first + 10)), READY)
    backdate_batch(database, first)
    backdate_batch(database, third)
    assert find_stalled(database) == []
    for batch in (second, third):
        backdate_batch(database, batch)
    assert [batch.batch for batch in find_stalled(database)] == [0, 1, 2]


def test_idle_time_is_real_time(database: Database) -> None:
    batch = make_batch(database)
    with database.write() as connection:
        hour_ago = batch.campaign.clock.now() - to_microseconds(timedelta(hours=1))
        connection.execute(sa.update(runs).values(speed=3600.0, started_at=hour_ago))
    with database.read() as connection:
        campaign = catalog.load_campaign(connection, batch.campaign.id)
    fast = Batch(campaign=campaign, batch=0, first=0, size=10)
    backdate_batch(database, fast, timedelta(hours=1))
    assert find_stalled(database) == [], "an hour of the run's clock is one real second"
    backdate_batch(database, fast, 3600 * LONG_AGO)
    [stalled] = find_stalled(database)
    assert abs(stalled.idle_seconds - LONG_AGO.total_seconds()) < 60


def test_finished_runs_are_searched_only_for_unapplied_reports(database: Database) -> None:
    batch = make_batch(database)
    with database.write() as connection:
        registration.finish_run(connection, batch.campaign.run_id, batch.campaign.clock.now())
    backdate_batch(database, batch)
    assert find_stalled(database) == []
    receipt = Receipt(0, 1, int(Status.DELIVERED), 0)
    with database.write() as connection:
        items_by_batch = {(batch.campaign.id, batch.batch): [receipt]}
        store_reports(connection, DueKind.RECEIPTS, [batch.campaign], items_by_batch)
    backdate_batch(database, batch)
    assert [batch.batch for batch in find_stalled(database)] == [0]


def test_age_of_the_oldest_message_in_each_stage(database: Database) -> None:
    batch = make_busy_batch(database)
    with database.write() as connection:
        for status, seconds in ((Status.QUEUED, 300), (Status.IN_GATEWAY, 100)):
            at = batch.campaign.clock.now() - from_seconds(seconds)
            connection.execute(
                sa.update(transitions).where(transitions.c.status == status).values(at=at)
            )
    with database.read() as connection:
        ages = read_oldest_message_ages(connection, find_unfinished_campaigns(connection))
    assert {stage: round(seconds, -1) for stage, seconds in ages.items()} == {
        "queued": 300,
        "about_to_be_sent": 0,
        "gateway": 100,
    }
    backdate_batch(database, batch, deferred=3)
    with database.read() as connection:
        ages = read_oldest_message_ages(connection, find_unfinished_campaigns(connection))
    assert ages.keys() == {"about_to_be_sent", "gateway"}, "deferred messages don't wait for work"


def test_deferred_messages_of_a_batch_have_no_age_beside_others(database: Database) -> None:
    """Three are deferred, one has left, and the others have been queued for a shorter time."""
    batch = make_batch(database)
    now = batch.campaign.clock.now()
    deferral = Deferral("quiet_hours", until=now, first_deferred_at=now)
    move(database, batch, [9], READY)
    with database.write() as connection:
        replace_deferrals(database, connection, batch, dict.fromkeys(range(3), deferral))
        update_deferred_batch(connection, batch)
        for first, last, seconds in ((0, 2, 3_000), (3, 8, 60), (9, 9, 500)):
            connection.execute(
                sa.update(transitions)
                .where(
                    transitions.c.status == Status.QUEUED, transitions.c.number.between(first, last)
                )
                .values(at=now - from_seconds(seconds))
            )
    with database.read() as connection:
        ages = read_oldest_message_ages(connection, [batch.campaign])
    assert round(ages["queued"], -1) == 60


def test_the_number_of_queries_does_not_depend_on_the_number_of_batches(database: Database) -> None:
    campaigns: list[Campaign] = [make_campaign(database, Plan(size=100)) for _ in range(3)]
    for campaign in campaigns:
        for number in range(100):
            enqueue_batch(database, campaign, batch=number, first=number, size=1, author=AUTHOR)
    with executed(database) as statements:
        find_stalled(database)
    assert len(statements) < 10, "a few queries per campaign"
