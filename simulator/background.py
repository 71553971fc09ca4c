"""Work that goes on beside a block, in a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

JOIN_TIMEOUT_SECONDS = 15.0
"""Seconds that is waited for work that is to end. What waits for a broker that never comes back has
no end, and must not keep the command from its own."""


@contextmanager
def run_in_background(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """A block beside which ``work`` goes on. It is told by an event when the block has ended."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_TIMEOUT_SECONDS)
