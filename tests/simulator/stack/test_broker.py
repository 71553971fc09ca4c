"""The driver's view of the broker, and the detection of stalled runs."""

import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import islice

import pytest
import sqlalchemy as sa
from celery import Celery
from kombu.utils.functional import fxrange
from redis.exceptions import ResponseError

from simulator.retry import Outages
from simulator.run.watch import STALLED_AFTER_SECONDS, ProgressWatch, RunStalled
from simulator.stack.broker import ANSWER_TIMEOUT_SECONDS, Broker
from simulator.stack.local import start_local_broker
from tests.support.factory import (
    READY,
    Plan,
    backdate_batch,
    in_gateway,
    in_status,
    judge,
    make_batch,
    make_campaign,
    move,
    not_sent_for,
)
from tracker.clock import Instant, from_seconds
from tracker.errors import BrokerFailed, BrokerUnreachable, UsageError
from tracker.record.catalog import load_batch
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import gateways
from tracker.store.schema.messages import tallies
from workers.app import app as worker_app
from workers.queues import QUEUES

MAX_WAIT_SECONDS = 10
"""Seconds that a person waits for an error."""

PASSWORD = "kept-secret"  # noqa: S105


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("localhost:6379", id="no scheme"),
        pytest.param(f"amqp://guest:{PASSWORD}@localhost//", id="RabbitMQ"),
        pytest.param(f"http://user:{PASSWORD}@localhost:6379/0", id="HTTP"),
        pytest.param("valkey://localhost:6379/0", id="valkey scheme"),
        pytest.param("memory://", id="in memory"),
        pytest.param(f"redis://:{PASSWORD}@localhost:abc/0", id="port not a number"),
        pytest.param("redis://localhost:99999/0", id="port out of range"),
        pytest.param("redis://[::1/0", id="half an IPv6 address"),
    ],
)
def test_a_url_of_another_kind_is_an_error(url: str) -> None:
    with pytest.raises(UsageError, match=r"expected redis://HOST:PORT/0") as caught:
        Broker(url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("port", "user"),
    [
        pytest.param("closed_port", "", id="refuses"),
        pytest.param("closed_port", "anna", id="refuses a user"),
        pytest.param("silent_port", "", id="is silent"),
    ],
)
def test_an_unreachable_broker_is_named_without_its_password(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, port: str, user: str
) -> None:
    port_number = request.getfixturevalue(port)
    monkeypatch.setattr("simulator.stack.broker.ANSWER_TIMEOUT_SECONDS", 0.2)
    broker = Broker(f"redis://{user}:{PASSWORD}@127.0.0.1:{port_number}/0")
    with pytest.raises(BrokerUnreachable) as caught:
        broker.check_reachable()
    broker.close()
    assert f"127.0.0.1:{port_number}" in str(caught.value)
    assert "does not answer" in str(caught.value)
    for shown in (str(caught.value), broker.redacted_url):
        assert PASSWORD not in shown
    assert caught.value.exit_code == 2


def test_the_broker_has_limited_time_to_answer() -> None:
    assert ANSWER_TIMEOUT_SECONDS < MAX_WAIT_SECONDS


def test_a_missing_socket_is_named() -> None:
    broker = Broker("redis+socket:///nowhere/broker.sock")
    with pytest.raises(BrokerUnreachable, match=r"/nowhere/broker\.sock does not answer"):
        broker.check_reachable()


def test_a_broker_that_answers_is_reachable(broker_url: str) -> None:
    broker = Broker(broker_url)
    broker.check_reachable()
    broker.close()


def test_missing_workers_are_an_error_with_the_queues_to_serve(broker_url: str) -> None:
    broker = Broker(broker_url)
    app = Celery("test", set_as_current=False, broker=broker_url)
    with app, pytest.raises(UsageError) as caught:
        broker.check_workers(app)
    broker.close()
    for queue in QUEUES:
        assert queue in str(caught.value)
    assert f"-Q {','.join(QUEUES)}" in str(caught.value)
    assert broker.redacted_url in str(caught.value)


def test_an_unreachable_broker_is_not_reported_as_missing_workers(closed_port: int) -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1:{closed_port}/0"
    broker = Broker(url)
    app = Celery("test", set_as_current=False, broker=url)
    app.conf.broker_transport_options = {
        "max_retries": 0
    }  # kombu retries for six seconds by default
    with app, pytest.raises(BrokerUnreachable) as caught:
        broker.check_workers(app)
    assert PASSWORD not in str(caught.value)


def test_workers_retry_sending_a_task_for_half_a_minute() -> None:
    policy = worker_app.conf.task_publish_retry_policy
    pauses = fxrange(
        policy["interval_start"], policy["interval_max"], policy["interval_step"], repeatlast=True
    )
    assert 25 <= sum(islice(pauses, policy["max_retries"])) <= 35


def test_a_broker_error_is_one_line_without_its_password() -> None:
    broker = Broker(f"redis://:{PASSWORD}@127.0.0.1:1/0")
    with pytest.raises(BrokerFailed) as failed, broker.readable_errors():
        raise ResponseError(f"OOM at {PASSWORD}\nand more")
    broker.close()
    assert str(failed.value) == f"the broker {broker.redacted_url} failed: OOM at •••"
    assert failed.value.exit_code == 1


LAST_CALM_SECOND = int(STALLED_AFTER_SECONDS)
"""The last second at which a run without progress isn't stalled."""


def check_each_second(watch: ProgressWatch, first: int, last: int) -> None:
    """Check the progress at each of some seconds."""
    for second in range(first, last + 1):
        watch.check_progress(float(second))


def make_watch(database: Database, broker: Broker, app: Celery) -> ProgressWatch:
    """Watch a run of one campaign with one recorded message."""
    campaign = make_batch(database, Plan(size=1)).campaign
    return ProgressWatch(database, [campaign], broker, app, Outages())


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_run_whose_tasks_wait_without_a_worker_is_stalled(database: Database) -> None:
    with (
        start_local_broker() as server,
        server.client() as client,
        Celery("test", set_as_current=False, broker=server.url) as app,
    ):
        client.lpush(QUEUES[0], "a task")
        broker = Broker(server.url)
        watch = make_watch(database, broker, app)
        check_each_second(watch, 0, 2 * LAST_CALM_SECOND + 1)  # no reply once may be chance
        with pytest.raises(
            RunStalled, match=r"1 message stalled for 20 s: tasks wait; no worker on"
        ):
            check_each_second(watch, 2 * LAST_CALM_SECOND + 2, 2 * LAST_CALM_SECOND + 2)
        broker.close()


def test_a_run_whose_workers_answer_is_not_stalled(
    database: Database, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Celery] = []
    broker = Broker(broker_url)
    monkeypatch.setattr(broker, "count_waiting_tasks", lambda: 1)
    monkeypatch.setattr(broker, "check_workers", checked.append)
    watch = make_watch(database, broker, Celery("test", set_as_current=False))
    check_each_second(watch, 0, 99)
    assert len(checked) == 4, "every 21 s"
    broker.close()


def test_an_unbalanced_report_is_kept(database: Database, broker_url: str) -> None:
    broker = Broker(broker_url)
    watch = make_watch(database, broker, Celery("test", set_as_current=False))
    watch.check_progress(0.0)
    for change in (1, -1):
        with database.write() as connection:
            update = sa.update(tallies).where(tallies.c.messages > 0)
            connection.execute(update.values(messages=tallies.c.messages + change))
        watch.check_progress(0.0)
    assert watch.snapshot_count == 3
    assert [report.is_balanced for report in watch.unbalanced_reports] == [False]
    broker.close()


def test_a_run_whose_messages_have_yet_to_arrive_is_not_stalled(
    database: Database, broker_url: str
) -> None:
    broker = Broker(broker_url)
    campaign = make_campaign(database, Plan(size=1))
    watch = ProgressWatch(
        database, [campaign], broker, Celery("test", set_as_current=False), Outages()
    )
    check_each_second(watch, 0, 99)
    broker.close()


def test_a_run_without_tasks_is_stalled(database: Database, broker_url: str) -> None:
    broker = Broker(broker_url)
    watch = make_watch(database, broker, Celery("test", set_as_current=False))
    check_each_second(watch, 0, LAST_CALM_SECOND)
    with pytest.raises(RunStalled, match="the broker holds no task"):
        check_each_second(watch, LAST_CALM_SECOND + 1, LAST_CALM_SECOND + 1)
    broker.close()


def test_a_run_that_was_suspended_is_not_stalled(database: Database, broker_url: str) -> None:
    with closing(Broker(broker_url)) as broker:
        watch = make_watch(database, broker, Celery("test", set_as_current=False))
        check_each_second(watch, 0, 10)
        check_each_second(watch, 140, 144)


@pytest.mark.parametrize("other_wait", [None, "receipts", "retry"])
def test_a_run_whose_messages_are_deferred_is_not_stalled_before_they_are_due(
    database: Database, broker_url: str, other_wait: str | None
) -> None:
    broker = Broker(broker_url)
    batch = make_batch(database, Plan(size=1 if other_wait is None else 2))
    judge(database, batch, Step.SUPPRESS)
    judge(database, batch, Step.VALIDATE)
    now = batch.campaign.clock.now()
    hour = from_seconds(3600)
    receipts_due_at = None
    if other_wait == "receipts":
        move(database, batch, [1], READY, in_gateway())
        receipts_due_at = now + 2 * hour
    elif other_wait == "retry":
        move(database, batch, [1], READY, in_gateway(), in_status(Status.SOFT_BOUNCED))
        with database.write() as connection:
            connection.execute(sa.update(gateways).values(retry_after=2 * hour))

    def defer_until(due_at: Instant) -> None:
        backdate_batch(
            database,
            batch,
            by=timedelta(),
            deferred=1,
            deferral_due_at=due_at,
            receipts_due_at=receipts_due_at,
        )

    defer_until(now + hour)
    with database.read() as connection:
        campaign = load_batch(connection, batch.campaign.id, 0).campaign
    watch = ProgressWatch(
        database, [campaign], broker, Celery("test", set_as_current=False), Outages()
    )
    check_each_second(watch, 0, 99)
    defer_until(now - 1)
    with pytest.raises(RunStalled, match="the broker holds no task"):
        check_each_second(watch, 100, 100 + LAST_CALM_SECOND)
    broker.close()


def test_a_run_that_sends_no_more_does_not_wait_for_deferred_messages(
    database: Database, broker_url: str
) -> None:
    with closing(Broker(broker_url)) as broker:
        batch = make_batch(database, Plan(size=2))
        backdate_batch(database, batch, deferred=1, deferral_due_at=1)
        app = Celery("test", set_as_current=False)
        watch = ProgressWatch(database, [batch.campaign], broker, app, Outages())
        assert watch.check_progress(0.0).pending_messages == 2
        watch.await_messages_in_progress()
        assert watch.check_progress(0.0).pending_messages == 1, "the other one is in progress"
        move(database, batch, [1], not_sent_for(Reason.UNSUBSCRIBED))
        backdate_batch(database, batch, deferred=1, deferral_due_at=1)  # the move recounted it
        assert watch.check_progress(0.0).is_complete(2)


def test_a_restart_without_data_drops_what_an_earlier_restart_kept() -> None:
    with start_local_broker() as broker:
        for keep_data, expected in ((True, b"here"), (False, None)):
            with closing(broker.client()) as client:
                client.set("word", "here")
            broker.restart(keep_data=keep_data)
            with closing(broker.client()) as client:
                assert client.get("word") == expected
