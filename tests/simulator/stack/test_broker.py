"""The driver's look at the broker: wrong, silent or well, and whether anybody works there."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import pytest
import sqlalchemy as sa
from celery import Celery
from kombu.utils.functional import fxrange
from redis import Redis
from redis.exceptions import ResponseError

from simulator.run.watch import STALLED_AFTER_SECONDS, ProgressWatch, RunStalled
from simulator.stack.broker import ANSWER_TIMEOUT, Broker
from simulator.stack.local import LocalBroker, start_embedded_broker
from tests.support.factory import Plan, make_batch, make_campaign
from tracker.errors import BrokerFailed, BrokerUnreachable, UsageError
from tracker.store.database import Database
from tracker.store.schema.messages import tallies
from workers.app import app as worker_app
from workers.queues import QUEUES

PATIENCE = 10
"""Seconds that a person waits for "there is nobody"."""

PASSWORD = "kept-secret"  # noqa: S105  # of nothing


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses: taken, so that nobody else listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where somebody takes the call and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="nothing"),
        pytest.param("localhost:6379", id="no scheme"),
        pytest.param(f"amqp://guest:{PASSWORD}@localhost//", id="RabbitMQ"),
        pytest.param(f"http://user:{PASSWORD}@localhost:6379/0", id="HTTP"),
        pytest.param("valkey://localhost:6379/0", id="Valkey's own scheme"),
        pytest.param("memory://", id="in memory"),
        pytest.param(f"redis://:{PASSWORD}@localhost:abc/0", id="port that is no number"),
        pytest.param("redis://localhost:99999/0", id="port out of range"),
        pytest.param("redis://[::1/0", id="half an IPv6 address"),
    ],
)
def test_a_url_that_is_none_of_ours_is_refused(url: str) -> None:
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
def test_a_broker_that_does_not_answer_is_named_without_its_password(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, port: str, user: str
) -> None:
    number = request.getfixturevalue(port)
    monkeypatch.setattr("simulator.stack.broker.ANSWER_TIMEOUT", 0.2)
    broker = Broker(f"redis://{user}:{PASSWORD}@127.0.0.1:{number}/0")
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable) as caught:
        broker.check_reachable()
    assert time.monotonic() - began < PATIENCE / 5
    broker.close()
    assert f"127.0.0.1:{number}" in str(caught.value)
    assert "does not answer" in str(caught.value)
    for shown in (str(caught.value), broker.redacted_url):
        assert PASSWORD not in shown
    assert caught.value.exit_code == 2


def test_waiting_for_a_broker_has_an_end() -> None:
    assert ANSWER_TIMEOUT < PATIENCE


def test_a_socket_that_is_not_there_is_named() -> None:
    broker = Broker("redis+socket:///nowhere/broker.sock")
    with pytest.raises(BrokerUnreachable, match=r"/nowhere/broker\.sock does not answer"):
        broker.check_reachable()


def test_a_broker_that_answers_is_reachable(broker_url: str) -> None:
    broker = Broker(broker_url)
    broker.check_reachable()
    broker.close()


def test_a_broker_without_workers_is_refused_with_the_queues_to_serve(broker_url: str) -> None:
    broker = Broker(broker_url)
    app = Celery("test", set_as_current=False, broker=broker_url)
    with app, pytest.raises(UsageError) as caught:
        broker.check_workers(app)
    broker.close()
    for queue in QUEUES:
        assert queue in str(caught.value)
    assert f"-Q {','.join(QUEUES)}" in str(caught.value)
    assert broker.redacted_url in str(caught.value)


def test_a_broker_that_is_gone_is_not_mistaken_for_one_without_workers(closed_port: int) -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1:{closed_port}/0"
    broker = Broker(url)
    app = Celery("test", set_as_current=False, broker=url)
    app.conf.broker_transport_options = {"max_retries": 0}  # kombu's own are for six seconds
    with app, pytest.raises(BrokerUnreachable) as caught:
        broker.check_workers(app)
    assert PASSWORD not in str(caught.value)


def test_the_next_task_of_a_batch_is_sent_for_half_a_minute() -> None:
    policy = worker_app.conf.task_publish_retry_policy
    pauses = fxrange(
        policy["interval_start"], policy["interval_max"], policy["interval_step"], repeatlast=True
    )
    assert 25 <= sum(islice(pauses, policy["max_retries"])) <= 35


def test_a_failure_of_the_broker_is_one_line_without_its_password() -> None:
    broker = Broker(f"redis://:{PASSWORD}@127.0.0.1:1/0")
    with pytest.raises(BrokerFailed) as failed, broker.readable_errors():
        raise ResponseError(f"OOM, says {PASSWORD}\nand more")
    broker.close()
    assert str(failed.value) == f"the broker {broker.redacted_url} failed: OOM, says ***"
    assert failed.value.exit_code == 1


def watch_on(database: Database, broker: Broker, app: Celery) -> ProgressWatch:
    """What watches a run of one campaign, of which a message is on record."""
    campaign = make_batch(database, Plan(size=1)).campaign
    return ProgressWatch(database, [campaign], broker, app)


def test_tasks_that_nobody_works_on_are_a_standstill(database: Database) -> None:
    with (
        start_embedded_broker() as url,
        Redis.from_url(url.replace("redis+socket", "unix")) as client,
        Celery("test", set_as_current=False, broker=url) as app,
    ):
        client.lpush(QUEUES[0], "a task")
        broker = Broker(url)
        watch = watch_on(database, broker, app)
        began = time.monotonic()
        watch.look(began)
        watch.look(began + STALLED_AFTER_SECONDS)
        watch.look(began + STALLED_AFTER_SECONDS + 1)  # nobody answers, which may be a chance
        watch.look(began + 2 * STALLED_AFTER_SECONDS)
        with pytest.raises(RunStalled, match=r"1 messages stand still: .* no worker on"):
            watch.look(began + 2 * STALLED_AFTER_SECONDS + 2)
        broker.close()


def test_tasks_that_somebody_works_on_are_waited_for(
    database: Database, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Celery] = []
    broker = Broker(broker_url)
    monkeypatch.setattr(broker, "count_waiting_tasks", lambda: 1)
    monkeypatch.setattr(broker, "check_workers", asked.append)
    watch = watch_on(database, broker, Celery("test", set_as_current=False))
    began = time.monotonic()
    for each in range(100):
        watch.look(began + each)
    assert len(asked) == 4, "every 21 s"
    broker.close()


def test_a_report_that_does_not_balance_for_a_moment_is_kept(
    database: Database, broker_url: str
) -> None:
    broker = Broker(broker_url)
    watch = watch_on(database, broker, Celery("test", set_as_current=False))
    watch.look(0.0)
    for by in (1, -1):
        with database.write() as connection:
            more = sa.update(tallies).where(tallies.c.messages > 0)
            connection.execute(more.values(messages=tallies.c.messages + by))
        watch.look(0.0)
    assert watch.snapshot_count == 3
    assert [report.balanced for report in watch.unbalanced_reports] == [False]
    broker.close()


def test_a_campaign_whose_messages_have_yet_to_arrive_is_no_standstill(
    database: Database, broker_url: str
) -> None:
    broker = Broker(broker_url)
    campaign = make_campaign(database, Plan(size=1))
    watch = ProgressWatch(database, [campaign], broker, Celery("test", set_as_current=False))
    began = time.monotonic()
    for each in range(100):
        watch.look(began + each)
    broker.close()


def test_no_task_at_the_broker_is_a_standstill(database: Database, broker_url: str) -> None:
    broker = Broker(broker_url)
    watch = watch_on(database, broker, Celery("test", set_as_current=False))
    began = time.monotonic()
    watch.look(began)
    watch.look(began + STALLED_AFTER_SECONDS)
    with pytest.raises(RunStalled, match="no task is at the broker"):
        watch.look(began + STALLED_AFTER_SECONDS + 1)
    broker.close()


def test_a_broker_that_loses_its_data_has_nothing_of_an_earlier_restart() -> None:
    with LocalBroker() as broker:
        for keep, left in ((True, b"here"), (False, None)):
            with closing(broker.client()) as client:
                client.set("word", "here")
            broker.restart(keep=keep)
            with closing(broker.client()) as client:
                assert client.get("word") == left
