"""The queues: their declaration, routes and depths, and the settings that they need."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from celery import Celery
from kombu.exceptions import ContentDisallowed, EncodeError
from redis import Redis

import celeryconfig
from simulator.stack.broker import Broker
from tracker.errors import UsageError
from tracker.monitoring import QueueDepth
from tracker.status import Step
from workers.app import app as shipped_app
from workers.app import check_configuration, exit_if_misconfigured, prepare_beat
from workers.celery_app import make_celery_app
from workers.queues import (
    PRUNE_TASK,
    QUEUE_BY_STEP,
    QUEUES,
    ROLLUP_TASK,
    SWEEP_TASK,
    UPKEEP_QUEUE,
    task_name,
)
from workers.upkeep.broker import UNACKED_KEY, count_tasks, read_queue_depths

STEPS_OF_TASKS = frozenset(QUEUE_BY_STEP)


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    """Return an app with the shipped settings, on a broker with empty queues."""
    broker = Redis.from_url(broker_url.replace("redis+socket://", "unix://"))
    broker.flushdb()
    with make_celery_app("test", broker_url) as made:
        yield made
    broker.flushdb()
    broker.close()


def test_every_declared_queue_is_served() -> None:
    declared = [queue.name for queue in celeryconfig.task_queues]
    assert sorted(declared) == sorted(QUEUES)
    assert len(set(declared)) == len(declared)
    assert celeryconfig.task_default_queue in QUEUES
    assert celeryconfig.task_create_missing_queues is False


def test_every_task_has_a_step_and_every_step_a_task_and_a_queue() -> None:
    shipped_app.loader.import_default_modules()
    registered = {name for name in shipped_app.tasks if name.startswith("workers.")}
    assert registered == {
        ROLLUP_TASK,
        SWEEP_TASK,
        PRUNE_TASK,
        *(task_name(step) for step in STEPS_OF_TASKS),
    }
    assert frozenset(Step) - STEPS_OF_TASKS == {Step.ENQUEUE}, "the driver runs it itself"
    assert set(celeryconfig.task_routes) == registered
    for route in celeryconfig.task_routes.values():
        assert route["queue"] in QUEUES


@pytest.mark.parametrize("step", QUEUE_BY_STEP)
def test_a_task_goes_into_the_queue_of_its_stage(app: Celery, step: Step) -> None:
    with app.connection_for_read() as connection:
        client = connection.channel().client
        app.send_task(task_name(step), kwargs={"campaign": 1, "batch": 2})
        lengths = {queue: client.llen(queue) for queue in QUEUES}
    assert lengths == {queue: int(queue == QUEUE_BY_STEP[step]) for queue in QUEUES}


def test_each_queue_has_an_exchange_and_a_key_of_its_own(app: Celery) -> None:
    """With Celery's defaults, all queues get what is published to the first one's exchange."""
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        client = producer.channel.client
        for queue in app.amqp.queues.values():
            producer.maybe_declare(queue)
        for name in QUEUES:
            producer.publish({}, exchange=name, routing_key=name)
        assert {name: client.llen(name) for name in QUEUES} == dict.fromkeys(QUEUES, 1)


def test_the_rollup_goes_into_the_queue_of_upkeep_at_1_am(app: Celery) -> None:
    with app.connection_for_read() as connection:
        app.send_task(ROLLUP_TASK)
        assert connection.channel().client.llen(UPKEEP_QUEUE) == 1
    nightly = celeryconfig.beat_schedule["rollup"]
    assert nightly["task"] == ROLLUP_TASK
    assert (nightly["schedule"].hour, nightly["schedule"].minute) == ({1}, {0})


def test_old_runs_are_pruned_at_2_am_if_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "prune" not in celeryconfig.beat_schedule
    monkeypatch.setenv("SENDTRACE_PRUNE_OLDER_THAN", "30d")
    nightly = run_path(celeryconfig.__file__)["beat_schedule"]["prune"]
    assert nightly["task"] == PRUNE_TASK
    assert (nightly["schedule"].hour, nightly["schedule"].minute) == ({2}, {0})


def test_sweeps_do_not_pile_up_while_no_worker_runs() -> None:
    sweeping = celeryconfig.beat_schedule["sweep"]
    assert sweeping["task"] == SWEEP_TASK
    assert sweeping["options"]["expires"] <= sweeping["schedule"]


@pytest.fixture
def client() -> Iterator[fakeredis.FakeRedis]:
    with closing(fakeredis.FakeRedis()) as made:
        yield made


@pytest.mark.parametrize(
    ("ready", "held", "expected"),
    [
        pytest.param({}, {}, {}, id="nothing"),
        pytest.param({"queued": 2}, {}, {"queued": QueueDepth(2, 0)}, id="ready"),
        pytest.param({}, {"gateway": 3}, {"gateway": QueueDepth(0, 3)}, id="held"),
        pytest.param(
            {"queued": 2, "gateway": 1},
            {"gateway": 3, "delivery": 1},
            {
                "queued": QueueDepth(2, 0),
                "gateway": QueueDepth(1, 3),
                "delivery": QueueDepth(0, 1),
            },
            id="both",
        ),
        pytest.param({"another": 9}, {"another": 9}, {}, id="another queue"),
    ],
)
def test_depths_count_ready_and_held_tasks(
    client: fakeredis.FakeRedis,
    ready: dict[str, int],
    held: dict[str, int],
    expected: dict[str, QueueDepth],
) -> None:
    for queue, count in ready.items():
        client.lpush(queue, *range(count))
    for queue, count in held.items():
        for number in range(count):
            # In kombu's format. The body of a task must not be taken for its queue.
            task = json.dumps([{"body": '", "upkeep"]'}, "", queue])
            client.hset(UNACKED_KEY, f"{queue}-{number}", task)
    nothing = dict.fromkeys(QUEUES, QueueDepth(0, 0))
    assert read_queue_depths(client) == nothing | expected
    assert count_tasks(client) == sum(depth.ready + depth.unacked for depth in expected.values())


def test_ready_tasks_of_some_campaigns_are_dropped(app: Celery, broker_url: str) -> None:
    broker = Broker(broker_url)
    for step in QUEUE_BY_STEP:
        for campaign in (1, 2, 2):
            app.send_task(task_name(step), kwargs={"campaign": campaign, "batch": 7})
    app.send_task(ROLLUP_TASK)
    assert broker.drop_tasks({2, 3}) == 2 * len(QUEUE_BY_STEP)
    assert broker.count_waiting_tasks() == len(QUEUE_BY_STEP) + 1
    assert broker.drop_tasks({2, 3}) == 0
    broker.close()


def test_tasks_are_counted_on_a_real_broker(app: Celery, broker_url: str) -> None:
    broker = Broker(broker_url)
    assert broker.count_waiting_tasks() == 0
    for step in QUEUE_BY_STEP:
        app.send_task(task_name(step), kwargs={"campaign": 1, "batch": 2})
    assert broker.count_waiting_tasks() == len(QUEUE_BY_STEP)
    with app.connection_for_read() as connection:
        channel = connection.channel()
        held = channel.basic_get(QUEUE_BY_STEP[Step.SUPPRESS])
        assert channel.client.hlen(UNACKED_KEY) == 1
        assert broker.count_waiting_tasks() == len(QUEUE_BY_STEP), (
            "a task that is worked on is not lost"
        )
        assert broker.depths()[QUEUE_BY_STEP[Step.SUPPRESS]] == QueueDepth(ready=2, unacked=1)
        channel.basic_ack(held.delivery_tag)
        assert broker.count_waiting_tasks() == len(QUEUE_BY_STEP) - 1
    broker.close()


def test_the_shipped_settings_are_accepted(app: Celery) -> None:
    check_configuration(app.conf)
    exit_if_misconfigured(conf=app.conf)


def no_broker(conf: Any) -> None:
    conf.broker_url = None


def empty_broker(conf: Any) -> None:
    conf.broker_url = ""


def broker_with_an_option(conf: Any) -> None:
    conf.broker_url = "redis://here/0?visibility_timeout=3600"


def visible_as_long_as_a_task_may_take(conf: Any) -> None:
    conf.broker_transport_options = {"visibility_timeout": conf.task_time_limit}


def visible_too_early(conf: Any) -> None:
    conf.task_time_limit = 3_601
    conf.broker_transport_options = {}  # Celery's own timeout is an hour


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (no_broker, ["SENDTRACE_BROKER_URL"]),
        (empty_broker, ["SENDTRACE_BROKER_URL"]),
        (broker_with_an_option, ["'visibility_timeout'"]),
        (visible_as_long_as_a_task_may_take, ["visibility_timeout (150 s)", "(150 s)"]),
        (visible_too_early, ["visibility_timeout (3600 s)", "task_time_limit (3601 s)"]),
    ],
)
def test_settings_that_lose_or_repeat_messages_are_refused(
    app: Celery,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Any], None],
    expected: list[str],
) -> None:
    spoil(app.conf)
    with pytest.raises(UsageError) as caught:
        check_configuration(app.conf)
    for part in expected:
        assert part in str(caught.value)
    with pytest.raises(SystemExit, match="2"):
        exit_if_misconfigured(conf=app.conf)
    with pytest.raises(SystemExit, match="2"):
        prepare_beat(sender=SimpleNamespace(app=app))
    assert capsys.readouterr().err == f"sendtrace: {caught.value}\n" * 2


@pytest.mark.parametrize("url", [None, "redis://broker.example:6379/0"])
def test_the_broker_comes_from_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    """Without a setting there is no broker, and Celery doesn't fall back to localhost."""
    if url is not None:
        monkeypatch.setenv("SENDTRACE_BROKER_URL", url)
    assert run_path(celeryconfig.__file__)["broker_url"] == url


def test_tasks_are_json_only(app: Celery) -> None:
    assert celeryconfig.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert [*app.conf.accept_content] == ["json"]
    with pytest.raises(EncodeError):
        app.send_task(task_name(Step.SUPPRESS), kwargs={"campaign": object()})
    app.send_task(task_name(Step.SUPPRESS), kwargs={"campaign": 1, "batch": 2})
    with app.connection_for_read() as connection:
        sent = connection.channel().basic_get(QUEUE_BY_STEP[Step.SUPPRESS])
        assert sent.content_type == "application/json"


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
def test_other_serializers_are_refused(app: Celery, serializer: str) -> None:
    serialization: Any = import_module("kombu.serialization")
    accepted = serialization.prepare_accept_content(app.conf.accept_content)
    encoder = serialization.registry.name_to_type
    with pytest.raises(ContentDisallowed):
        serialization.loads(b"", encoder[serializer], "binary", accept=accepted)


def test_no_result_is_kept(app: Celery) -> None:
    assert celeryconfig.task_ignore_result is True
    assert app.conf.result_backend is None
