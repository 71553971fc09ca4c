"""A gateway's rate, shared by all workers."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from tracker.catalog import Batch


@dataclass(frozen=True)
class Grant:
    """How many messages may be handed over now, and how long to wait before asking for more.

    ``wait`` is real time.
    """

    messages: int
    wait: timedelta = timedelta()


class Throttle(Protocol):
    """Shares out what a gateway takes."""

    def take(self, batch: Batch, wanted: int, /) -> Grant:
        """How many of the ``wanted`` messages of a batch its campaign's gateway takes now."""
        ...


class Unthrottled:
    """Lets everything pass."""

    def take(self, _batch: Batch, wanted: int) -> Grant:
        """All of it."""
        return Grant(wanted)
