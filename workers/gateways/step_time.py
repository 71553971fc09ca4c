"""Let a gateway have more time than its step, while it waits for a reply that it must not miss.

The module that limits the time of steps provides the function; without it there is no limit.
"""

from collections.abc import Callable

_extend: Callable[[float], None] | None = None


def provide_extension(extend: Callable[[float], None] | None) -> None:
    """Set the function that gives the running step some seconds from now on; None for no limit."""
    global _extend  # a process runs one step at a time
    _extend = extend


def extend_step_time(seconds: float) -> None:
    """Give the running step at least some seconds from now on."""
    if _extend is not None:
        _extend(seconds)
