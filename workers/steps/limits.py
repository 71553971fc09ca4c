"""How long a step may take and how much memory it may use, in a pool process."""

import faulthandler
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

MAX_STEP_SECONDS, MIN_STEP_SECONDS = 60.0, 5.0
"""Seconds that a step has on a whole batch, and at the least on a part of it: half as many each
time it was halved."""

KILL_GRACE_SECONDS = 10.0
"""Seconds after which a process is ended that does not even hear that its time is over, such as in
a regular expression that comes to no end."""

MAX_MEMORY_GROWTH_BYTES = 2 << 30
"""Bytes by which a process may grow: some twenty times what a batch of 10,000 takes."""


class StepTimeout(BaseException):
    """A step has taken too long. No Exception, so that nobody on the way takes it for his own."""


@contextmanager
def limit_step_time(halvings: int) -> Iterator[None]:
    """A block that is broken off with :exc:`StepTimeout` when its time is over; what can't be broken
    off ends the process, and its stack is in the log."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's: a worker that uses threads has Celery's limit only
        return
    seconds = max(MIN_STEP_SECONDS, MAX_STEP_SECONDS / 2**halvings)

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise StepTimeout(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)  # somebody else's, as of a test
    faulthandler.dump_traceback_later(seconds + KILL_GRACE_SECONDS, exit=True, file=2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


def limit_memory() -> None:
    """From now on this process has an error where it would grow without end."""
    with suppress(ValueError, OSError):  # less was set by somebody else, or it is not known here
        most = psutil.Process().memory_info().vms + MAX_MEMORY_GROWTH_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
