"""Signals that end the command, before and while the commands themselves are loaded."""

import os
import signal
from collections.abc import Callable
from typing import Any

SHUTDOWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""How whoever ends us says so: Ctrl-C, a supervisor, a closed terminal."""


EXIT_INTERRUPTED = 130


def set_shutdown_handler(handler: Callable[[int, Any], object]) -> None:
    """Have ``handler`` called when we are told to end, unless that is to be ignored (nohup)."""
    for each in SHUTDOWN_SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, handler)


def allow_cleanup() -> None:
    """Replace `exit_immediately` by KeyboardInterrupt, once the command is loaded."""
    for number in SHUTDOWN_SIGNALS:
        if signal.getsignal(number) is exit_immediately:
            signal.signal(number, signal.default_int_handler)


def exit_immediately(_signal: int, _frame: object) -> None:
    """End where there is nothing to clean up, without a word from whatever is being loaded."""
    os.write(2, b"sendtrace: interrupted\n")
    os._exit(EXIT_INTERRUPTED)
