"""Sampling: once a second, of the queues of a real broker and of real processes."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from threading import Event
from types import SimpleNamespace

import psutil
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from simulator.results.observations import MachineUsage
from simulator.run.observers import sampling
from simulator.run.observers.base import BackgroundObserver, notify_observers
from simulator.run.observers.sampling import Sampler, find_database_server
from simulator.stack.broker import Broker
from tests.support.shell import LIMIT_SECONDS, wait_until
from tracker.monitoring import QueueDepth
from tracker.status import Step
from tracker.store.database import Database
from workers.celery_app import make_celery_app
from workers.queues import task_name

BUSY_PROGRAM = "while True: pass"
BUSY_SCRIPT = "for number = 1, 1e7 do end"


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE_INTERVAL_SECONDS", 0.05)


@pytest.fixture
def broker(broker_url: str) -> Iterator[Broker]:
    made = Broker(broker_url)
    made._client.flushdb()
    yield made
    made._client.flushdb()
    made.close()


def observe(sampler: Sampler) -> BackgroundObserver:
    return BackgroundObserver(sampler.run_until, "sampler")


def test_queues_and_processes_are_sampled(broker: Broker, broker_url: str) -> None:
    with make_celery_app("test", broker_url) as app:
        app.send_task(task_name(Step.SUBMIT), kwargs={"campaign": 1, "batch": 2})
    busy = subprocess.Popen([sys.executable, "-c", BUSY_PROGRAM])
    sampler = Sampler(broker, os.getpid)
    try:
        with notify_observers([observe(sampler)]):
            wait_until(lambda: _most_cpu(sampler) > 0.01, "the busy child is sampled")
    finally:
        busy.kill()
        busy.wait()
    first = sampler.samples[0]
    assert first.depths is not None
    assert first.depths["about_to_be_sent"] == QueueDepth(ready=1, unacked=0)
    assert first.usage is not None
    assert first.usage.memory > 10_000_000
    machines = _list_machines(sampler)
    assert max(machine.run for machine in machines) > 0
    assert 0 < max(machine.busy / machine.cores for machine in machines) <= 1
    assert {machine.database for machine in machines} == {0}


def test_the_usage_of_broker_and_database_server_is_sampled(broker: Broker) -> None:
    server = subprocess.Popen([sys.executable, "-c", BUSY_PROGRAM])
    sampler = Sampler(broker, None, database_pid=server.pid)

    def are_measured() -> bool:
        broker._client.eval(BUSY_SCRIPT, 0)
        machines = _list_machines(sampler)
        return any(machine.broker for machine in machines) and any(
            machine.database for machine in machines
        )

    try:
        with notify_observers([observe(sampler)]):
            wait_until(are_measured, "broker and server are sampled")
    finally:
        server.kill()
        server.wait()
    assert all(machine.broker <= machine.run for machine in _list_machines(sampler))


def test_seconds_in_which_no_sample_was_taken_have_none(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def spend_seven_intervals() -> None:
        nonlocal now
        now += 7 / 16

    monkeypatch.setattr(sampling, "SAMPLE_INTERVAL_SECONDS", 1 / 16)
    monkeypatch.setattr(sampling, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(broker, "depths", spend_seven_intervals)
    sampler = Sampler(broker, None, first_second=100)
    with notify_observers([observe(sampler)]):
        wait_until(lambda: len(sampler.samples) > 2, "three samples are taken")
    assert [sample.second for sample in sampler.samples[:3]] == [100, 108, 115]


def test_the_server_of_a_database_is_found(database: Database) -> None:
    server = find_database_server(database)
    if database.is_postgresql:
        assert server is not None
        assert psutil.Process(server).name() == "postgres"
    else:
        assert server == 0


def _list_machines(sampler: Sampler) -> list[MachineUsage]:
    return [sample.machine for sample in sampler.samples if sample.machine is not None]


def _most_cpu(sampler: Sampler) -> float:
    return max((sample.usage.cpu for sample in sampler.samples if sample.usage), default=0.0)


@pytest.mark.parametrize("is_attached", [True, False])
def test_values_that_can_not_be_read_are_none(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, is_attached: bool
) -> None:
    def fail() -> None:
        raise RedisConnectionError("unavailable")

    monkeypatch.setattr(broker, "depths", fail)
    sampler = Sampler(broker, None if is_attached else _dead_pid, database_pid=None)
    with notify_observers([observe(sampler)]):
        wait_until(lambda: len(sampler.samples) > 1, "two samples are taken")
    assert {(sample.depths, sample.usage) for sample in sampler.samples} == {(None, None)}
    assert {machine.database for machine in _list_machines(sampler)} <= {None}


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def test_sampling_ends_with_the_run(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE_INTERVAL_SECONDS", 3_600.0)
    is_read = Event()
    monkeypatch.setattr(broker, "depths", is_read.set)
    sampler = Sampler(broker, None)
    with notify_observers([observe(sampler)]):
        assert is_read.wait(LIMIT_SECONDS)
    assert "sampler" not in {thread.name for thread in threading.enumerate()}
    assert len(sampler.samples) == 1, "the end doesn't wait for the next sample"
