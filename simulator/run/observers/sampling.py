"""Samples of a run, taken once a second: queue depths, and CPU and memory of the workers."""

import threading
import time
from collections.abc import Callable, Mapping

import psutil
from redis.exceptions import RedisError

from simulator.results.observations import ResourceUsage, Sample
from simulator.stack.broker import Broker
from tracker.monitoring import QueueDepth

SAMPLE_INTERVAL_SECONDS = 1.0


class Sampler:
    """Takes samples of a broker and, if `worker_pid` is given, of a worker on this machine."""

    def __init__(self, broker: Broker, worker_pid: Callable[[], int] | None) -> None:
        self._broker = broker
        self._meter = None if worker_pid is None else _UsageMeter(worker_pid)
        self.samples: list[Sample] = []

    def run_until(self, stop: threading.Event) -> None:
        """Take samples until the event is set; now is second 0."""
        started_at = time.monotonic()
        second = 0
        while True:
            self.samples.append(
                Sample(
                    second=second,
                    depths=self._read_depths(),
                    usage=None if self._meter is None else self._meter.read(),
                )
            )
            # A machine that was suspended has missed seconds; they have no sample.
            elapsed = (time.monotonic() - started_at) / SAMPLE_INTERVAL_SECONDS
            second = max(second, int(elapsed)) + 1
            if stop.wait(started_at + second * SAMPLE_INTERVAL_SECONDS - time.monotonic()):
                return

    def _read_depths(self) -> Mapping[str, QueueDepth] | None:
        try:
            return self._broker.depths()
        except RedisError:
            return None


class _UsageMeter:
    """Measures what a worker and its pool use."""

    def __init__(self, worker_pid: Callable[[], int]) -> None:
        self._worker_pid = worker_pid
        self._read_at = time.monotonic()
        self._cpu_seconds: dict[int, float] = {}

    def read(self) -> ResourceUsage | None:
        """Return the usage since the previous call, or None while no worker runs."""
        now = time.monotonic()
        cpu_seconds: dict[int, float] = {}
        memory = 0
        for process in self._list_processes():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory += process.memory_info().rss
            except psutil.Error:
                continue
            cpu_seconds[process.pid] = times.user + times.system
        used = sum(
            seconds - self._cpu_seconds.get(pid, seconds) for pid, seconds in cpu_seconds.items()
        )
        elapsed = now - self._read_at
        self._cpu_seconds, self._read_at = cpu_seconds, now
        if not cpu_seconds:
            return None
        return ResourceUsage(cpu=max(0.0, used) / elapsed if elapsed else 0.0, memory=memory)

    def _list_processes(self) -> list[psutil.Process]:
        try:
            worker = psutil.Process(self._worker_pid())
            return [worker, *worker.children(recursive=True)]
        except psutil.Error:
            return []
