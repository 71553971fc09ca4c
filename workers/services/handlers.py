"""Handlers: who prepares a campaign's kind of message before it is handed over.

A handler is an entry of the group ``sendtrace.handlers``; its name is the campaign's ``kind``.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib.metadata import entry_points

from tracker.record.catalog import Campaign

HANDLERS_GROUP = "sendtrace.handlers"

Handler = Callable[[Campaign, Sequence[int]], Collection[int]]
"""Prepares messages of a campaign; returns the numbers of those that were not ready in time."""


@cache
def find_handler(kind: str) -> Handler | None:
    """The installed handler for a kind of message, if there is one."""
    found = entry_points(group=HANDLERS_GROUP)
    handler: Handler | None = found[kind].load() if kind in found.names else None
    return handler


def promotion(_campaign: Campaign, _numbers: Sequence[int]) -> Collection[int]:
    """A promotion is the same for everybody: there is nothing to prepare."""
    return ()
