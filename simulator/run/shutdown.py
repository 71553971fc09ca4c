"""Ctrl-C: the first one requests a shutdown, the second one interrupts."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHUTDOWN_NOTICE = (
    b"shutdown requested: waiting for messages in progress, then keeping the result;"
    b" Ctrl-C again stops at once\n"
)


@contextmanager
def catch_shutdown_request() -> Iterator[Callable[[], bool]]:
    """Catch the first Ctrl-C of the block; yield a function that says whether it came.

    The second Ctrl-C raises KeyboardInterrupt as usual.
    """
    is_requested = False

    def request_shutdown(_signal: int, _frame: object) -> None:
        nonlocal is_requested
        is_requested = True
        os.write(2, SHUTDOWN_NOTICE)  # print isn't reentrant, and the handler may interrupt it
        signal.signal(signal.SIGINT, previous_handler)

    previous_handler = signal.getsignal(signal.SIGINT)
    if previous_handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, request_shutdown)
    try:
        yield lambda: is_requested
    finally:
        signal.signal(signal.SIGINT, previous_handler)
