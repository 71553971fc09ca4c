"""Extend the time limit of a step while its gateway waits for a reply that it must not miss.

`workers.steps.limits` provides the function; without it, the time of a step isn't limited.
"""

from collections.abc import Callable

MAX_CALL_SECONDS = 5.0
"""Time after which a call sends no more messages; the rest is submitted in another step.

What a call sent is recorded at its end. If its process is killed, all of it is sent again. So a
call ends well before a worker is killed that was told to exit."""

MAX_REPLY_SECONDS = 40.0
"""Time to wait for the reply to a whole message. Servers filter its content before they reply."""

STEP_MARGIN_SECONDS = 5.0
"""Time that a step has after a wait, to record its messages."""

_extend: Callable[[float], None] | None = None


def provide_extension(extend: Callable[[float], None] | None) -> None:
    """Set the function that gives the running step some seconds from now on; None for no limit."""
    global _extend  # a process runs one step at a time
    _extend = extend


def extend_step_time(seconds: float) -> None:
    """Give the running step at least some seconds from now on."""
    if _extend is not None:
        _extend(seconds)
