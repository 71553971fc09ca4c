"""Shutdown signals while the command imports its modules and while it runs."""

import os
import signal
from collections.abc import Callable
from typing import Any

SHUTDOWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a supervisor's stop, a closed terminal."""

EXIT_INTERRUPTED = 130


def set_shutdown_handler(handler: Callable[[int, Any], object]) -> None:
    """Install a handler of the shutdown signals, except for those that are ignored (nohup)."""
    for number in SHUTDOWN_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def allow_cleanup() -> None:
    """Replace `exit_immediately` by KeyboardInterrupt, once the command is loaded."""
    for number in SHUTDOWN_SIGNALS:
        if signal.getsignal(number) is exit_immediately:
            signal.signal(number, signal.default_int_handler)


def exit_immediately(_signal: int, _frame: object) -> None:
    """Exit without cleanup; without a traceback from a module that is being imported."""
    os.write(2, b"sendtrace: interrupted\n")
    os._exit(EXIT_INTERRUPTED)
