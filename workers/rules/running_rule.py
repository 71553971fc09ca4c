"""The name of the rule that runs, in memory that a parent process shares: see `fork_for_rules`."""

import mmap

MAX_NAME_BYTES = 255

_running_rule = mmap.mmap(-1, MAX_NAME_BYTES)
"""The name of the rule that runs, zeros if none does."""


def announce_rule(name: str | None) -> None:
    """Tell the parent process which rule runs from now on; None if none does."""
    _running_rule[:] = (name or "").encode()[:MAX_NAME_BYTES].ljust(MAX_NAME_BYTES, b"\0")


def read_running_rule() -> str | None:
    """Return the name of the rule that runs, or that ran when its process ended; None if none."""
    return _running_rule[:].rstrip(b"\0").decode(errors="replace") or None
