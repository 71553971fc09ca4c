"""Ctrl-C: once asks for an end, twice is one."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHUTDOWN_NOTICE = (
    b"finishing what is under way, and keeping the result; Ctrl-C again stops at once\n"
)


@contextmanager
def catch_shutdown_request() -> Iterator[Callable[[], bool]]:
    """A block that the first Ctrl-C only asks to come to an end; a second one ends it at once.

    It is given what says whether it was asked.
    """
    asked = False

    def ask(_signal: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        os.write(2, SHUTDOWN_NOTICE)  # a handler may come in the middle of any other output
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
