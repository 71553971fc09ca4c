"""The driver's look at the broker: wrong, silent or well, and whether anybody works there."""

import socket
import time
from collections.abc import Iterator

import pytest
from celery import Celery

from simulator.broker import ANSWER_TIMEOUT, Broker
from tracker.errors import BrokerUnreachable, UsageError
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
    monkeypatch.setattr("simulator.broker.ANSWER_TIMEOUT", 0.2)
    broker = Broker(f"redis://{user}:{PASSWORD}@127.0.0.1:{number}/0")
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable) as caught:
        broker.check_reachable()
    assert time.monotonic() - began < PATIENCE / 5
    broker.close()
    assert f"127.0.0.1:{number}" in str(caught.value)
    assert "does not answer" in str(caught.value)
    for shown in (str(caught.value), broker.shown_url):
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
    assert broker.shown_url in str(caught.value)


def test_a_broker_that_is_gone_is_not_mistaken_for_one_without_workers(closed_port: int) -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1:{closed_port}/0"
    broker = Broker(url)
    app = Celery("test", set_as_current=False, broker=url)
    app.conf.broker_transport_options = {"max_retries": 0}  # kombu's own are for six seconds
    with app, pytest.raises(BrokerUnreachable) as caught:
        broker.check_workers(app)
    assert PASSWORD not in str(caught.value)
