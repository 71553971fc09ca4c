"""Meter: durations, CPU time by process, other load, peak memory, and PostgreSQL's WAL.

The CPU time of a process includes that of its ended children. The readings of a run are taken all
the time, so processes that end before the run does are counted.
"""

import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from simulator.background import run_in_background

Item = TypeVar("Item")

READING_INTERVAL_SECONDS = 0.2
"""Time between two readings of a run. One takes about 4 ms."""

BENCHMARK = "benchmark"
"""Role of the process that measures, which is neither measured nor other load."""

SIBLING = "sibling"
"""Role of the benchmark's other processes: a quick one measures two databases at once."""

ROLES = ("driver", "worker", "pool", "database", "broker", "live page")
"""Roles of measured processes. worker: the parent process. pool: its children."""

COMMAND_ROLES = {
    "simulate": "driver",
    "serve": "live page",
    "enqueue": "driver",
    "dramatiq": "worker",
    "procrastinate": "worker",
}
"""Roles of the processes that the benchmark starts, by their command."""


@dataclass(frozen=True)
class Reading:
    """Counters at one moment.

    Attributes:
        at: Unix time.
        cpu: seconds of CPU by role, since the processes began.
        busy: seconds of CPU that the whole machine used.
        wal: bytes of write-ahead log, or None without PostgreSQL.
    """

    at: float
    cpu: Mapping[str, float]
    busy: float
    wal: float | None


@dataclass(frozen=True)
class Cost:
    """The cost of a measured stretch of time.

    Attributes:
        seconds: its duration.
        cpu: seconds of CPU by role.
        other_cores: cores that processes of others used.
        wal: bytes of write-ahead log, or None without PostgreSQL.
        commits: committed transactions, if they were counted.
        dead_tuples: rows that updates and deletes left dead, if they were counted.
    """

    seconds: float
    cpu: dict[str, float]
    other_cores: float
    wal: float | None
    commits: int | None = None
    dead_tuples: int | None = None

    @classmethod
    def total(cls, costs: Sequence["Cost"]) -> "Cost":
        """Return the cost of several stretches of time, at least one."""
        seconds = sum(cost.seconds for cost in costs)
        cpu = {role: sum(cost.cpu[role] for cost in costs) for role in costs[0].cpu}
        other = sum(cost.other_cores * cost.seconds for cost in costs)
        logged = [cost.wal for cost in costs if cost.wal is not None]
        return cls(seconds, cpu, other / seconds, sum(logged) if logged else None)

    @classmethod
    def between(cls, first: Reading, last: Reading) -> "Cost":
        """Return the cost of the time between two readings."""
        seconds = last.at - first.at
        used = {role: last.cpu[role] - first.cpu.get(role, 0.0) for role in last.cpu}
        other = last.busy - first.busy - sum(used.values())
        cpu = {role: used[role] for role in ROLES if role in used}
        wal = None if last.wal is None or first.wal is None else last.wal - first.wal
        return cls(seconds, cpu, max(0.0, other / seconds), wal)


@dataclass
class Readings:
    """The readings of a run, and the largest resident size in bytes by role."""

    readings: list[Reading] = field(default_factory=list)
    peaks: dict[str, int] = field(default_factory=dict)

    def cost(self, began_at: float, ended_at: float) -> Cost:
        """Return the cost of the time between two moments; each value there is interpolated."""
        return Cost.between(self._interpolate(began_at), self._interpolate(ended_at))

    def _interpolate(self, at: float) -> Reading:
        readings = self.readings
        times = [reading.at for reading in readings]

        def value_of(values: Sequence[float]) -> float:
            return float(np.interp(at, times, values))

        roles = {role for reading in readings for role in reading.cpu}
        logged = [reading.wal for reading in readings if reading.wal is not None]
        return Reading(
            at=at,
            cpu={
                role: value_of([reading.cpu.get(role, 0.0) for reading in readings])
                for role in roles
            },
            busy=value_of([reading.busy for reading in readings]),
            wal=value_of(logged) if logged else None,
        )


@dataclass(frozen=True)
class ProcessTimes:
    """The CPU time of a process in seconds: its own, and that of the children it waited for."""

    role: str
    parent: int
    own: float
    waited: float


@dataclass(kw_only=True)
class Meter:
    """Reads the counters of the benchmark's processes.

    A process that has ended keeps the time of its last reading in its role. What it used after
    that, and processes that no reading saw, count in the role of the parent that waited for them.

    Attributes:
        root: process whose descendants are the benchmark's.
        postmasters: pid files of the benchmark's PostgreSQL servers, which need not exist.
        measured_postmaster: that of the server under measurement.
        read_wal: returns the bytes of write-ahead log so far.
    """

    root: int
    postmasters: Sequence[Path] = ()
    measured_postmaster: Path | None = None
    read_wal: Callable[[], float] | None = None
    _last: dict[psutil.Process, ProcessTimes] = field(default_factory=dict)
    _ended: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _seen_before_end: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))

    def read(self, peaks: dict[str, int] | None = None) -> Reading:
        """Return the counters now, and raise `peaks` to the processes' peak memory."""
        current = {}
        at = time.time()
        for process, role in self._find_processes():
            with suppress(psutil.Error):
                current[process] = _read_times(process, role)
                if peaks is not None:
                    peaks[role] = max(peaks.get(role, 0), _read_peak(process))
        for process, times in reversed(self._last.items()):  # children before their parents
            if process not in current:
                self._add(self._ended, process, times)
                seen = self._seen_before_end.pop(process.pid, 0.0)
                self._seen_before_end[times.parent] += times.own + max(times.waited, seen)
        self._last = current
        cpu = self._ended.copy()
        for process, times in current.items():
            self._add(cpu, process, times)
        return Reading(at, dict(cpu), _read_busy_seconds(), self.read_wal and self.read_wal())

    def _add(
        self, cpu: defaultdict[str, float], process: psutil.Process, times: ProcessTimes
    ) -> None:
        """Add the times of a process to those of its role, but its children's only once."""
        cpu[times.role] += times.own
        child_role = "pool" if times.role == "worker" else times.role
        cpu[child_role] += max(0.0, times.waited - self._seen_before_end[process.pid])

    @contextmanager
    def measure(self, costs: list[Cost]) -> Iterator[None]:
        """Add the cost of a block in this process to a list; the process counts as the driver."""
        first = self.read()
        cpu_before, started_at = time.process_time(), time.perf_counter()
        yield
        seconds, own = time.perf_counter() - started_at, time.process_time() - cpu_before
        cost = Cost.between(first, self.read())
        costs.append(
            replace(
                cost,
                seconds=seconds,
                cpu={"driver": own, "database": cost.cpu.get("database", 0.0)},
            )
        )

    @contextmanager
    def watch(self) -> Iterator[Readings]:
        """Take readings while the block runs."""
        taken = Readings()

        def poll(stop: threading.Event) -> None:
            while True:
                taken.readings.append(self.read(taken.peaks))
                if stop.wait(READING_INTERVAL_SECONDS):
                    return

        with run_in_background(poll, "meter"):
            yield taken

    def _find_processes(self) -> Iterator[tuple[psutil.Process, str]]:
        """Yield the benchmark's processes with their roles."""
        processes = {process.pid: process for process in psutil.process_iter()}
        children = defaultdict(list)
        for process in processes.values():
            with suppress(psutil.Error):
                children[process.ppid()].append(process)
        root = processes[self.root]
        found = [(root, self._find_role(root, SIBLING))]
        for file in self.postmasters:
            role = "database" if file == self.measured_postmaster else SIBLING
            with suppress(OSError, ValueError, IndexError, KeyError):
                found.append((processes[int(file.read_text().split()[0])], role))
        while found:
            process, role = found.pop()
            yield process, role
            for child in children[process.pid]:
                with suppress(psutil.Error):
                    found.append((child, self._find_role(child, role)))

    def _find_role(self, process: psutil.Process, parent_role: str) -> str:
        """Return the role of a process; one that exits has no command any more."""
        if process.pid == os.getpid():
            return BENCHMARK
        if parent_role in ("database", SIBLING):
            return parent_role
        command = process.cmdline()
        if not command and process in self._last:
            return self._last[process].role
        return _role_of_command(command, parent_role)


def _role_of_command(command: Sequence[str], parent_role: str) -> str:
    """Return the role of a command; one that has none of its own has its parent's."""
    if parent_role == BENCHMARK:
        for word, role in COMMAND_ROLES.items():
            if word in command:
                return role
    if any("celery" in argument for argument in command):
        return "pool" if parent_role in ("worker", "pool") else "worker"
    if any("valkey" in argument for argument in command):
        return "broker"
    return parent_role


def _read_times(process: psutil.Process, role: str) -> ProcessTimes:
    """Return the CPU time of a process, its own from its clock, which is finer than /proc's ticks.

    Linux's include/linux/posix-timers_types.h documents the id of that clock.
    """
    times = process.cpu_times()
    own = times.user + times.system
    with suppress(OSError):
        own = time.clock_gettime((~process.pid << 3) | 2)
    return ProcessTimes(role, process.ppid(), own, times.children_user + times.children_system)


def _read_busy_seconds() -> float:
    """Return the CPU seconds that the machine was busy, the time stolen by its host included."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guest)


def _read_peak(process: psutil.Process) -> int:
    """Return the largest resident size so far in bytes; the current one where none is kept."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return int(process.memory_info().rss)
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(peak[1]) * 1024 if peak else 0


def time_call(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started_at = time.perf_counter()
    work()
    return time.perf_counter() - started_at


def time_in_turns(
    first: Callable[[], object],
    second: Callable[[], object],
    turns: int,
    prepare: Callable[[], object] = lambda: None,
) -> tuple[list[float], list[float]]:
    """Return the seconds of two calls that take turns, after one turn that warms up.

    `prepare` is called before each turn, outside the timing.
    """
    timings = []
    for _ in range(1 + turns):
        prepare()
        timings.append((time_call(first), time_call(second)))
    ours, theirs = zip(*timings[1:], strict=True)
    return list(ours), list(theirs)


def order_turn(items: Iterable[Item], turn: int) -> list[Item]:
    """Return what is measured in order, and in reverse order in every second turn: ABBA.

    So a phase in which the machine is slow favours none.
    """
    return list(items)[:: -1 if turn % 2 else 1]
