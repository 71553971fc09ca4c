"""Background work: run a function in a thread of its own for the duration of a block."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

JOIN_TIMEOUT_SECONDS = 15.0
"""Seconds to wait for the thread at the end of the block. One that waits for an unavailable broker
may never return, and must not keep the command from exiting."""


@contextmanager
def run_in_background(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Run a function in a thread beside the block.

    Args:
        work: called once, with an event; it returns soon after the event is set.
    """
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_TIMEOUT_SECONDS)
