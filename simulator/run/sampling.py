"""What is seen of a run once a second, beside the record: the depth of the queues, and what the
workers use of the machine."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import psutil
from redis.exceptions import RedisError

from simulator.background import run_in_background
from simulator.results.samples import ResourceUsage, Sample
from simulator.stack.broker import Broker
from tracker.monitoring import QueueDepth

SAMPLE_INTERVAL_SECONDS = 1.0
"""Seconds between two samples."""


class Sampler:
    """Takes samples in a thread of its own: what the driver is busy with does not delay them."""

    def __init__(self, broker: Broker, worker_pid: Callable[[], int] | None) -> None:
        self._broker = broker
        self._meter = None if worker_pid is None else _UsageMeter(worker_pid)
        self.samples: list[Sample] = []

    def running(self) -> AbstractContextManager[None]:
        """A block that is sampled; its beginning is second 0."""
        return run_in_background(self._take_samples, "sampler")

    def _take_samples(self, stop: threading.Event) -> None:
        began = time.monotonic()
        second = 0
        while True:
            self.samples.append(
                Sample(
                    second=second,
                    depths=self._read_depths(),
                    usage=None if self._meter is None else self._meter.read(),
                )
            )
            # A second that was missed, on a machine that slept, has no sample.
            second = max(second, int((time.monotonic() - began) / SAMPLE_INTERVAL_SECONDS)) + 1
            if stop.wait(began + second * SAMPLE_INTERVAL_SECONDS - time.monotonic()):
                return

    def _read_depths(self) -> Mapping[str, QueueDepth] | None:
        try:
            return self._broker.depths()
        except RedisError:
            return None


class _UsageMeter:
    """Reads what a worker and its pool use."""

    def __init__(self, worker_pid: Callable[[], int]) -> None:
        self._worker_pid = worker_pid
        self._read_at = time.monotonic()
        self._cpu_seconds: dict[int, float] = {}

    def read(self) -> ResourceUsage | None:
        now = time.monotonic()
        seconds: dict[int, float] = {}
        memory = 0
        for process in self._list_processes():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory += process.memory_info().rss
            except psutil.Error:
                continue
            seconds[process.pid] = times.user + times.system
        used = sum(each - self._cpu_seconds.get(pid, each) for pid, each in seconds.items())
        elapsed = now - self._read_at
        self._cpu_seconds, self._read_at = seconds, now
        if not seconds:
            return None
        return ResourceUsage(cpu=max(0.0, used) / elapsed if elapsed else 0.0, memory=memory)

    def _list_processes(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._worker_pid())
            return [parent, *parent.children(recursive=True)]
        except psutil.Error:
            return []
