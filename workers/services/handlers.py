"""Handlers: who prepares a campaign's kind of message before it is handed over.

A handler is an entry of the group ``sendtrace.handlers``; its name is the campaign's ``kind``.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache

from tracker.record.catalog import Campaign
from workers.plugins import PluginGroup, list_plugin_names, load_plugin

Handler = Callable[[Campaign, Sequence[int]], Collection[int]]
"""Prepares messages of a campaign; returns the numbers of those that were not ready in time."""


@cache
def find_handler(kind: str) -> Handler | None:
    """The installed handler for a kind of message, if there is one."""
    if kind not in list_plugin_names(PluginGroup.HANDLERS):
        return None
    handler: Handler = load_plugin(PluginGroup.HANDLERS, kind, parameters=("campaign", "numbers"))
    return handler


def promotion(_campaign: Campaign, _numbers: Sequence[int]) -> Collection[int]:
    """A promotion is the same for everybody: there is nothing to prepare."""
    return ()
