"""Limit the time and the memory of a step in a pool process."""

import faulthandler
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

MAX_STEP_SECONDS, MIN_STEP_SECONDS = 60.0, 5.0
"""Seconds that a step has for a whole batch, halved with it, and at least for a segment."""

KILL_GRACE_SECONDS = 10.0
"""Seconds after the time limit at which a process is killed that doesn't react to it, for example
inside a regular expression that backtracks without end."""

MAX_MEMORY_GROWTH_BYTES = 2 << 30
"""Bytes by which a process may grow: about twenty times what a batch of 10,000 takes."""


class StepTimeout(BaseException):
    """A step took too long.

    Derives from BaseException so that `except Exception` in a rule can't swallow it.
    """


@contextmanager
def limit_step_time(halvings: int) -> Iterator[None]:
    """Raise `StepTimeout` in a block that exceeds its time.

    If the block doesn't react, the process exits and writes its stack to the log.

    Args:
        halvings: how often the batch was halved for the segment that the block works on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals; with threads, Celery's own limit applies
        return
    seconds = max(MIN_STEP_SECONDS, MAX_STEP_SECONDS / 2**halvings)

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise StepTimeout(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)  # an outer timer, such as a test's
    faulthandler.dump_traceback_later(seconds + KILL_GRACE_SECONDS, exit=True, file=2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


def limit_memory() -> None:
    """Make this process raise `MemoryError` where it would grow without end."""
    with suppress(ValueError, OSError):  # a lower limit is set, or the platform has none
        limit = psutil.Process().memory_info().vms + MAX_MEMORY_GROWTH_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
