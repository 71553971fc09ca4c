"""Limit the time and the memory of a step in a pool process, and the time of a rule in it.

A timer looks every half second at which rule is running. So the limit costs nothing per call,
and a pause of the machine doesn't count as the rule's time.
"""

import faulthandler
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from workers.checks.judging import RuleTimeout, RunningRule, find_running_rule
from workers.gateways.step_time import provide_extension

MAX_STEP_SECONDS, MIN_STEP_SECONDS = 60.0, 5.0
"""Seconds that a step has for a whole batch, halved with it, and at least for a segment."""

KILL_GRACE_SECONDS = 10.0
"""Seconds after the time limit at which a process is killed that doesn't react to it, for example
inside a regular expression that backtracks without end."""

REPEAT_SECONDS = 2.5
"""Seconds after which a step whose time is over is stopped again. The first error is lost if it is
raised in a callback, such as one of the garbage collector."""

TICK_SECONDS = 0.5
"""Seconds between two looks at what a step does."""

MAX_RULE_TICKS = 4
"""Looks in a row that may find a rule at the same message as the look before.

The last of them stops the rule, two seconds after the first look.
"""

MAX_MEMORY_GROWTH_BYTES = 2 << 30
"""Bytes by which a process may grow: about twenty times what a batch of 10,000 takes."""

CONTAINER_LIMIT_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""The files in which Linux tells a container its memory limit, by the version of control groups."""

CONTAINER_SHARE = 0.5
"""Part of a container's memory by which a process may grow. The kernel would kill the process that
reaches the container's limit, without a hint at the message that made it grow."""


class StepTimeout(BaseException):
    """A step took too long.

    Derives from BaseException so that `except Exception` in a rule can't swallow it.
    """


class _StepWatch:
    """The limits of time of a step and its rules, checked at each tick of a timer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self._running: RunningRule | None = None
        self._ticks = 0

    def extend(self, seconds: float) -> None:
        """Give the step at least some seconds from now on."""
        self._ends_at = max(self._ends_at, time.monotonic() + seconds)
        self.dump_later()

    def dump_later(self) -> None:
        """Make the process exit, with its stack in the log, if the step outlasts its time."""
        seconds = max(0.0, self._ends_at - time.monotonic())
        faulthandler.dump_traceback_later(seconds + KILL_GRACE_SECONDS, exit=True, file=2)

    def tick(self, _signal: int, frame: FrameType | None) -> None:
        """Raise `StepTimeout` once the step's time is over, `RuleTimeout` if a rule's is."""
        if time.monotonic() >= self._ends_at:
            self._ends_at += REPEAT_SECONDS
            raise StepTimeout(f"not done within {self._seconds:g} s")
        running = find_running_rule(frame)
        if running is None or self._running is None or not running.is_same(self._running):
            self._running, self._ticks = running, 0
            return
        self._ticks += 1
        if self._ticks >= MAX_RULE_TICKS:
            self._ticks = 0
            raise RuleTimeout(f"not done within {MAX_RULE_TICKS * TICK_SECONDS:g} s")


@contextmanager
def limit_step_time(halvings: int) -> Iterator[None]:
    """Raise `StepTimeout` in a block that exceeds its time, and end rules that exceed theirs.

    If the block doesn't react, the process exits and writes its stack to the log.

    Args:
        halvings: how often the batch was halved for the segment that the block works on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals; with threads, Celery's own limit applies
        return
    seconds = max(MIN_STEP_SECONDS, MAX_STEP_SECONDS / 2**halvings)
    watch = _StepWatch(seconds)
    before = signal.signal(signal.SIGALRM, watch.tick)
    tick = min(TICK_SECONDS, seconds)
    left, _ = signal.setitimer(signal.ITIMER_REAL, tick, tick)  # an outer timer, such as a test's
    watch.dump_later()
    provide_extension(watch.extend)
    try:
        yield
    finally:
        provide_extension(None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


def max_memory_growth() -> int:
    """Return the bytes by which a process may grow, here or in the container around it."""
    for file in CONTAINER_LIMIT_FILES:
        with suppress(OSError, ValueError):  # no such version, or "max" for unlimited
            return min(MAX_MEMORY_GROWTH_BYTES, int(CONTAINER_SHARE * int(file.read_text())))
    return MAX_MEMORY_GROWTH_BYTES


def limit_memory() -> int | None:
    """Make this process raise `MemoryError` where it would grow without end.

    Returns:
        The limit so far, in bytes; None if it hasn't changed.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(ValueError, OSError):  # a lower limit is set, or the platform has none
        limit = psutil.Process().memory_info().vms + max_memory_growth()
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        return before
    return None


@contextmanager
def worker_limits() -> Iterator[None]:
    """Give a block the limits of a step in a worker: of time for a whole batch, and of memory.

    Raises:
        StepTimeout: the block took too long.
    """
    before = limit_memory()
    try:
        with limit_step_time(0):
            yield
    finally:
        if before is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (before, hard))
