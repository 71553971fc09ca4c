"""Samples: once a second, of the queues of a real broker and of real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from threading import Event

import pytest
from celery import Celery
from redis.exceptions import ConnectionError as NoBroker

from simulator.run import sampling
from simulator.run.sampling import Sampler
from simulator.stack.broker import Broker
from tests.support.shell import wait_until
from tracker.monitoring import QueueDepth
from tracker.status import Step
from workers.queues import task_name

BUSY = "while True: pass"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE_INTERVAL_SECONDS", 0.05)


@pytest.fixture
def broker(broker_url: str) -> Iterator[Broker]:
    made = Broker(broker_url)
    made._client.flushdb()
    yield made
    made._client.flushdb()
    made.close()


def test_queues_and_processes_are_sampled(broker: Broker, broker_url: str) -> None:
    with Celery("test", set_as_current=False, config_source="celeryconfig") as app:
        app.conf.broker_url = broker_url
        app.send_task(task_name(Step.SUBMIT), kwargs={"campaign": 1, "batch": 2})
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    sampler = Sampler(broker, os.getpid)
    try:
        with sampler.running():
            wait_until(lambda: _most_cpu(sampler) > 0.1, "the busy child is seen")
    finally:
        busy.kill()
        busy.wait()
    first, *later = sampler.samples
    assert first.second == 0
    assert [each.second for each in later] == sorted({each.second for each in later})
    assert later[0].second >= 1
    assert first.depths is not None
    assert first.depths["about_to_be_sent"] == QueueDepth(ready=1, unacked=0)
    assert first.usage is not None
    assert first.usage.memory > 10_000_000


def _most_cpu(sampler: Sampler) -> float:
    return max((each.usage.cpu for each in sampler.samples if each.usage), default=0.0)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_can_not_be_read_is_absent(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    def away() -> None:
        raise NoBroker("away")

    monkeypatch.setattr(broker, "depths", away)
    sampler = Sampler(broker, None if elsewhere else _gone)
    with sampler.running():
        wait_until(lambda: len(sampler.samples) > 1, "two samples are taken")
    assert {(each.depths, each.usage) for each in sampler.samples} == {(None, None)}


def _gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def test_sampling_ends_with_its_block(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE_INTERVAL_SECONDS", 3_600.0)
    asked = Event()
    monkeypatch.setattr(broker, "depths", asked.set)
    sampler = Sampler(broker, None)
    with sampler.running():
        assert asked.wait(10)
    assert len(sampler.samples) == 1, "nobody waits for the next one"
