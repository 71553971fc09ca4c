"""Samples of a run, taken once a second: queue depths, and the use of CPU and memory."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import psutil
from redis.exceptions import RedisError

from simulator.results.observations import MachineUsage, ResourceUsage, Sample
from simulator.stack.broker import Broker
from tracker.monitoring import QueueDepth
from tracker.store.database import Database

SAMPLE_INTERVAL_SECONDS = 1.0

BROKER_PROCESS_NAMES = frozenset({"valkey-server", "redis-server"})


class Sampler:
    """A sampler of a broker, of this machine and, if `worker_pid` is given, of a worker on it.

    Args:
        worker_pid: returns the id of the worker's process; None for attached workers.
        database_pid: id of the main process of a PostgreSQL server on this machine; None for a
            server elsewhere, 0 for SQLite.
        first_second: second of the run that the first sample stands for.
    """

    def __init__(
        self,
        broker: Broker,
        worker_pid: Callable[[], int] | None,
        database_pid: int | None = 0,
        first_second: int = 0,
    ) -> None:
        self._broker = broker
        self._first_second = first_second
        self._worker_pid = worker_pid
        self._database_pid = database_pid
        self._processes = _ProcessMeter()
        self._machine = _MachineMeter()
        self.samples: list[Sample] = []

    def run_until(self, stop: threading.Event) -> None:
        """Take samples until the event is set; now is the first second."""
        started_at = time.monotonic()
        second = 0
        while True:
            self.samples.append(self._take_sample(self._first_second + second))
            # A machine that was suspended has missed seconds; they have no sample.
            elapsed = (time.monotonic() - started_at) / SAMPLE_INTERVAL_SECONDS
            second = max(second, int(elapsed)) + 1
            if stop.wait(started_at + second * SAMPLE_INTERVAL_SECONDS - time.monotonic()):
                return

    def _take_sample(self, second: int) -> Sample:
        own = _list_tree(os.getpid())
        workers = [] if self._worker_pid is None else _list_tree(self._worker_pid())
        database = _list_tree(self._database_pid) if self._database_pid else []
        self._processes.read((*own, *workers, *database))
        return Sample(
            second=second,
            depths=self._read_depths(),
            usage=self._processes.usage_of(workers),
            machine=self._read_machine(own, database),
        )

    def _read_machine(
        self, own: Iterable[psutil.Process], database: Iterable[psutil.Process]
    ) -> MachineUsage | None:
        busy = self._machine.read()
        if busy is None:
            return None
        servers = [process for process in own if _read_name(process) in BROKER_PROCESS_NAMES]
        is_elsewhere = self._database_pid is None
        return MachineUsage(
            cores=psutil.cpu_count() or 1,
            busy=busy,
            run=self._processes.cpu_of(own),
            broker=self._processes.cpu_of(servers),
            database=None if is_elsewhere else self._processes.cpu_of(database),
        )

    def _read_depths(self) -> Mapping[str, QueueDepth] | None:
        try:
            return self._broker.depths()
        except RedisError:
            return None


class _ProcessMeter:
    """A meter of the CPU and memory that processes used between two readings."""

    def __init__(self) -> None:
        self._read_at = time.monotonic()
        self._cpu_seconds: dict[int, float] = {}
        self._cores: dict[int, float] = {}
        self._memory: dict[int, int] = {}

    def read(self, processes: Iterable[psutil.Process]) -> None:
        """Read the processes; a process that has just begun has used nothing yet."""
        now = time.monotonic()
        elapsed = now - self._read_at
        before, self._read_at = self._cpu_seconds, now
        self._cpu_seconds, self._memory = {}, {}
        for process in {process.pid: process for process in processes}.values():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory = process.memory_info().rss
            except psutil.Error:
                continue
            self._cpu_seconds[process.pid] = times.user + times.system
            self._memory[process.pid] = memory
        self._cores = {
            pid: max(0.0, seconds - before.get(pid, seconds)) / elapsed if elapsed else 0.0
            for pid, seconds in self._cpu_seconds.items()
        }

    def cpu_of(self, processes: Iterable[psutil.Process]) -> float:
        """Return the cores that processes used between the last two readings."""
        return sum(self._cores.get(process.pid, 0.0) for process in processes)

    def usage_of(self, processes: Iterable[psutil.Process]) -> ResourceUsage | None:
        """Return what processes use, or None if none of them runs."""
        running = [process for process in processes if process.pid in self._cores]
        if not running:
            return None
        memory = sum(self._memory[process.pid] for process in running)
        return ResourceUsage(cpu=self.cpu_of(running), memory=memory)


class _MachineMeter:
    """A meter of the cores of this machine that were in use between two readings."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def read(self) -> float | None:
        """Return the cores in use, or None if the system counts no time."""
        times, before = psutil.cpu_times(), self._before
        self._before = times
        # On Linux, guest time is a part of user time.
        passed: dict[str, float] = {
            name: now - then
            for name, now, then in zip(times._fields, times, before, strict=True)
            if not name.startswith("guest")
        }
        total = sum(passed.values())
        if total <= 0:
            return None
        idle = passed["idle"] + passed.get("iowait", 0.0)
        cores: int = psutil.cpu_count() or 1
        return cores * max(0.0, total - idle) / total


def find_database_server(database: Database) -> int | None:
    """Return the id of the main process of a database's server on this machine.

    It is 0 for SQLite, which has no server, and None for a server elsewhere.
    """
    session = database.read_session_process_id()
    if session is None:
        return 0
    try:
        process = psutil.Process(session)
        server = process.parent()
        if "postgres" not in process.name() or server is None:
            return None
    except psutil.Error:
        return None
    return int(server.pid)


def _list_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all processes below it, or nothing if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _read_name(process: psutil.Process) -> str:
    try:
        name: str = process.name()
    except psutil.Error:
        return ""
    return name
