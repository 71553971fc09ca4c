"""Ctrl-C and SIGTERM: the first one requests a shutdown, the second one interrupts."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHUTDOWN_NOTICE = (
    b"shutdown requested: waiting for messages in progress, then keeping the result;"
    b" Ctrl-C or SIGTERM again stops at once\n"
)

REQUEST_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""The signals of Ctrl-C and of a supervisor."""


@contextmanager
def catch_shutdown_request() -> Iterator[Callable[[], bool]]:
    """Catch the first signal of the block; yield a function that returns whether it came.

    The second one raises KeyboardInterrupt. An ignored signal stays ignored.
    """
    is_requested = False

    def request_shutdown(_signal: int, _frame: object) -> None:
        nonlocal is_requested
        is_requested = True
        os.write(2, SHUTDOWN_NOTICE)  # print isn't reentrant, and the handler may interrupt it
        restore_handlers()

    def restore_handlers() -> None:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)

    previous_handlers = {
        number: handler
        for number in REQUEST_SIGNALS
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }
    for number in previous_handlers:
        signal.signal(number, request_shutdown)
    try:
        yield lambda: is_requested
    finally:
        restore_handlers()
