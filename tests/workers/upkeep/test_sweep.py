"""The sweep re-queues stalled batches, and no others."""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery
from redis import Redis

from tests.support.celery_worker import start_worker
from tests.support.factory import (
    READY,
    Plan,
    backdate_batch,
    judge,
    make_batch,
    move,
    run_concurrently,
)
from tracker.campaign_states import CampaignState
from tracker.clock import Instant, SystemClock, from_seconds
from tracker.queries.next_step import CHECK_STEPS
from tracker.queries.stalled import (
    find_stalled_batches,
    find_unfinished_campaigns,
    read_last_requeue_time,
)
from tracker.record import registration
from tracker.record.actions.campaigns import pause_campaign, resume_campaign
from tracker.record.catalog import Batch
from tracker.status import Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.work import recoveries
from workers.chains import StepArguments, enqueue_step
from workers.queues import (
    QUEUE_BY_STEP,
    QUEUES,
    SWEEP_INTERVAL_SECONDS,
    format_task_arguments,
    task_name,
)
from workers.upkeep import sweep as sweep_module
from workers.upkeep.broker import UNACKED_INDEX_KEY, HeldTask, read_held_tasks
from workers.upkeep.sweep import (
    MAX_REQUEUE_INTERVAL_SECONDS,
    MIN_IDLE_TIME,
    requeue_stalled_batches,
)


@pytest.fixture
def stalled(database: Database) -> Batch:
    """Return a batch that no step has touched for a minute."""
    batch = make_batch(database)
    backdate_batch(database, batch, timedelta(minutes=1))
    return batch


def tasks(client: Redis) -> list[tuple[str, Any]]:
    """Return the queue and the arguments of every ready task."""
    ready = []
    for queue in QUEUES:
        for raw in client.lrange(queue, 0, -1):
            _, kwargs, *_ = json.loads(b64decode(json.loads(raw)["body"]))
            ready.append((queue, kwargs))
    return ready


def send(app: Celery, batch: Batch, step: Step = Step.SUPPRESS, **options: Any) -> None:
    key = {"campaign": batch.campaign.id, "batch": batch.batch}
    app.send_task(
        task_name(step),
        kwargs=key,
        kwargsrepr=format_task_arguments(batch.campaign.id, batch.batch, "x", 1),
        queue=QUEUE_BY_STEP[step],
        **options,
    )


@pytest.fixture
def take(app: Celery) -> Iterator[Any]:
    """Return a function that takes a task like a worker that never acknowledges it."""
    with app.connection_for_read() as connection:

        def one(queue: str) -> None:
            channel = connection.channel()
            assert channel.basic_get(queue) is not None

        yield one


def test_a_batch_that_never_reached_the_broker_is_requeued_at_its_next_step(
    database: Database, app: Celery, client: Redis, stalled: Batch
) -> None:
    [sent] = requeue_stalled_batches(database, app, client)
    assert (sent.stalled.batch, sent.requeue_count) == (stalled.batch, 1)
    key = {"campaign": stalled.campaign.id, "batch": stalled.batch, "is_retry": True}
    assert tasks(client) == [("queued", key)]
    handed = make_batch(database)
    move(database, handed, list(range(10)), READY)
    backdate_batch(database, handed, timedelta(minutes=1))
    requeue_stalled_batches(database, app, client)
    there = {"campaign": handed.campaign.id, "batch": handed.batch, "is_retry": True}
    assert ("about_to_be_sent", there) in tasks(client)
    assert len(tasks(client)) == 2


def test_deferred_messages_wake_their_batch_when_they_are_due(
    database: Database, app: Celery, client: Redis
) -> None:
    """That is no re-queue of a stalled batch, unless its task is lost."""
    batch = make_batch(database)
    for step in CHECK_STEPS:
        judge(database, batch, step)
    now = batch.campaign.clock.now()
    backdate_batch(database, batch, deferred=10, deferral_due_at=now + from_seconds(60))
    assert requeue_stalled_batches(database, app, client) == []
    assert tasks(client) == []
    backdate_batch(database, batch, deferred=10, deferral_due_at=now - from_seconds(60))
    assert requeue_stalled_batches(database, app, client) == []
    key = {"campaign": batch.campaign.id, "batch": batch.batch}
    assert tasks(client) == [("queued", key)]
    with database.read() as connection:
        assert read_last_requeue_time(connection) is None
    client.flushall()
    with database.write() as connection:
        connection.execute(sa.update(recoveries).values(sent_at=0))
    [lost] = requeue_stalled_batches(database, app, client)
    assert (lost.stalled.step, lost.requeue_count) == (Step.DISPATCH, 1)
    with database.read() as connection:
        assert read_last_requeue_time(connection) is not None


def test_a_paused_batch_is_left_alone_and_wakes_when_its_campaign_is_resumed(
    database: Database, app: Celery, client: Redis, stalled: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no re-queue of a stalled batch, unless its task is lost."""
    pause_campaign(database, stalled.campaign, actor="asha", reason="")
    assert requeue_stalled_batches(database, app, client) == []
    assert tasks(client) == []
    resume_campaign(database, stalled.campaign, actor="asha", reason="")
    with database.read() as connection:
        campaigns = find_unfinished_campaigns(connection)
        assert find_stalled_batches(connection, campaigns) == [], "it isn't stalled yet"
    monkeypatch.setattr(sweep_module, "MIN_IDLE_TIME", timedelta())
    assert requeue_stalled_batches(database, app, client) == []
    key = {"campaign": stalled.campaign.id, "batch": stalled.batch}
    assert tasks(client) == [("queued", key)]
    client.flushall()
    with database.write() as connection:
        connection.execute(sa.update(recoveries).values(sent_at=0))
    [lost] = requeue_stalled_batches(database, app, client)
    assert (lost.stalled.step, lost.requeue_count) == (Step.SUPPRESS, 1)


def test_a_recently_touched_batch_is_left_alone(
    database: Database, app: Celery, client: Redis
) -> None:
    backdate_batch(database, make_batch(database), MIN_IDLE_TIME / 2)
    assert requeue_stalled_batches(database, app, client) == []


def test_a_batch_with_a_ready_task_is_left_alone_however_long_it_waits(
    database: Database, app: Celery, client: Redis, stalled: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.upkeep.broker.TASKS_PER_READ", 3)
    send(app, stalled)
    other = make_batch(database)
    for _ in range(10):
        send(app, other)
    assert requeue_stalled_batches(database, app, client) == []
    client.flushall()
    assert len(requeue_stalled_batches(database, app, client)) == 1


def test_a_batch_whose_task_was_taken_just_now_is_left_alone(
    database: Database, app: Celery, client: Redis, stalled: Batch, take: Any
) -> None:
    send(app, stalled)
    take("queued")
    assert tasks(client) == []
    assert requeue_stalled_batches(database, app, client) == []


def backdate_taking(client: Redis) -> None:
    """Let held tasks have been taken a minute ago: within the broker's visibility timeout."""
    for tag in client.zrange(UNACKED_INDEX_KEY, 0, -1):
        client.zadd(UNACKED_INDEX_KEY, {str(tag, "ascii"): time.time() - 60})  # type: ignore[arg-type]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_task_that_was_taken_long_ago_counts_only_if_a_worker_has_it(
    database: Database,
    app: Celery,
    client: Redis,
    stalled: Batch,
    take: Any,
    monkeypatch: pytest.MonkeyPatch,
    is_there: bool,
) -> None:
    send(app, stalled)
    take("queued")
    backdate_taking(client)
    asked: list[str] = []

    def find_live_tasks(_app: Celery, ids: list[str]) -> set[str]:
        asked.extend(ids)
        return set(ids) if is_there else set()

    monkeypatch.setattr(sweep_module, "_find_live_tasks", find_live_tasks)
    assert len(requeue_stalled_batches(database, app, client)) == (0 if is_there else 1)
    assert len(asked) == 1


def test_a_dead_worker_has_no_tasks(
    database: Database, app: Celery, client: Redis, stalled: Batch, take: Any
) -> None:
    send(app, stalled)
    take("queued")
    backdate_taking(client)
    assert len(requeue_stalled_batches(database, app, client)) == 1


SLOW = """
import time
from celery import Celery
app = Celery("test", broker={broker!r})
app.conf.task_acks_late = True

@app.task(name="workers.suppress")
def suppress(campaign, batch):
    time.sleep(600)
"""


def test_a_long_task_counts_as_long_as_its_worker_lives(
    database: Database, app: Celery, client: Redis, stalled: Batch, tmp_path: Path, broker_url: str
) -> None:
    assert task_name(Step.SUPPRESS) in SLOW
    with start_worker(tmp_path, broker_url, program=SLOW, queue=QUEUE_BY_STEP[Step.SUPPRESS]):
        send(app, stalled)
        deadline = time.monotonic() + 150
        while not client.zcard(UNACKED_INDEX_KEY):
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.02)
        backdate_taking(client)
        assert requeue_stalled_batches(database, app, client) == []
    assert len(requeue_stalled_batches(database, app, client)) == 1


def test_a_task_with_a_countdown_counts_until_its_time(
    database: Database, app: Celery, client: Redis, stalled: Batch, take: Any
) -> None:
    send(app, stalled, eta=datetime.now(UTC) + timedelta(seconds=30))
    take("queued")
    backdate_taking(client)
    assert requeue_stalled_batches(database, app, client) == []
    client.flushall()
    send(app, stalled, eta=datetime.now(UTC) - timedelta(seconds=30))
    take("queued")
    backdate_taking(client)
    assert len(requeue_stalled_batches(database, app, client)) == 1


@pytest.mark.parametrize("state", ["waiting", "running", "in a retry countdown"])
def test_a_batch_in_the_middle_of_its_chain_is_left_alone(
    database: Database,
    app: Celery,
    client: Redis,
    stalled: Batch,
    take: Any,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    """One task of a chain is on the broker at a time; it stands for those to come."""
    monkeypatch.setattr(sweep_module, "_find_live_tasks", lambda _app, ids: set(ids))
    arguments = StepArguments(campaign=stalled.campaign.id, batch=stalled.batch)
    delay = timedelta(seconds=30 if state == "in a retry countdown" else 0)
    enqueue_step(app, Step.VALIDATE, arguments, stalled.campaign, delay=delay)
    if state != "waiting":
        take("queued")
        backdate_taking(client)
    assert requeue_stalled_batches(database, app, client) == []
    client.flushall()  # the chain is lost
    assert len(requeue_stalled_batches(database, app, client)) == 1


def test_a_batch_whose_task_ends_between_the_two_reads_of_the_broker_is_left_alone(
    database: Database, app: Celery, client: Redis, stalled: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next task is queued before the held tasks are read, and after the queues were."""

    def end_task_then_read(broker: Redis) -> Iterator[HeldTask]:
        if not tasks(client):
            send(app, stalled, Step.VALIDATE)
        return read_held_tasks(broker)

    monkeypatch.setattr(sweep_module, "read_held_tasks", end_task_then_read)
    assert requeue_stalled_batches(database, app, client) == []
    monkeypatch.undo()
    client.flushall()
    assert len(requeue_stalled_batches(database, app, client)) == 1


def test_a_batch_that_a_step_changes_during_the_sweep_is_left_alone(
    database: Database, app: Celery, client: Redis, stalled: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_then_read(broker: Redis) -> Iterator[HeldTask]:
        backdate_batch(database, stalled, timedelta(seconds=30))
        return read_held_tasks(broker)

    monkeypatch.setattr(sweep_module, "read_held_tasks", change_then_read)
    assert requeue_stalled_batches(database, app, client) == []
    monkeypatch.undo()
    assert len(requeue_stalled_batches(database, app, client)) == 1


def test_a_task_that_is_taken_during_the_read_counts_as_taken_just_now(
    app: Celery, client: Redis, stalled: Batch, take: Any
) -> None:
    send(app, stalled)
    take("queued")
    client.delete(UNACKED_INDEX_KEY)
    before = time.time()
    [held] = read_held_tasks(client)
    assert held.held_since >= before


def test_simultaneous_sweeps_requeue_once(
    database: Database, app: Celery, client: Redis, stalled: Batch
) -> None:
    done = run_concurrently(
        *[lambda: requeue_stalled_batches(database, app, client) for _ in range(4)]
    )
    assert sum(map(len, done)) >= 1
    assert len(tasks(client)) == 1


def test_a_batch_without_a_sign_of_life_is_left_alone_longer_each_time(
    database: Database,
    app: Celery,
    client: Redis,
    stalled: Batch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = SystemClock().now()

    class ManualClock:
        def now(self) -> Instant:
            return now

    monkeypatch.setattr(sweep_module, "SystemClock", ManualClock)
    for power in range(10):
        [sent] = requeue_stalled_batches(database, app, client)
        assert sent.requeue_count == power + 1
        client.flushall()
        interval = min(MAX_REQUEUE_INTERVAL_SECONDS, SWEEP_INTERVAL_SECONDS * 2**power)
        now += from_seconds(interval) - 1
        assert requeue_stalled_batches(database, app, client) == [], "not yet"
        now += 1
    backdate_batch(database, stalled, timedelta(minutes=2))  # it has moved since
    [sent] = requeue_stalled_batches(database, app, client)
    assert sent.requeue_count == 1


def test_given_up_runs_are_left_alone(
    database: Database, app: Celery, client: Redis, stalled: Batch
) -> None:
    with database.write() as connection:
        registration.give_up_run(connection, stalled.campaign.run_id, CampaignState.ABORTED)
    assert requeue_stalled_batches(database, app, client) == []


def test_only_the_given_campaigns_are_requeued(
    database: Database, app: Celery, client: Redis, stalled: Batch
) -> None:
    other = make_batch(database, Plan(name="other"))
    backdate_batch(database, other, timedelta(minutes=1))
    [sent] = requeue_stalled_batches(database, app, client, [other.campaign.id])
    assert sent.stalled.campaign.id == other.campaign.id


def test_a_clock_that_jumps_forward_stalls_no_batch(
    database: Database, app: Celery, client: Redis
) -> None:
    batch = make_batch(database)
    send(app, batch)
    with database.write() as connection:
        long_ago = batches.c.touched_at - 3_600_000_000
        connection.execute(sa.update(batches).values(touched_at=long_ago))
    assert requeue_stalled_batches(database, app, client) == []
