"""Handlers: prepare the messages of a campaign's kind at dispatch.

A handler is an entry point of the group `sendtrace.handlers`. Its name is the campaign's `kind`.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache

from tracker.record.catalog import Campaign
from workers.plugins import PluginGroup, list_plugin_names, load_plugin

Handler = Callable[[Campaign, Sequence[int]], Collection[int]]
"""Prepares messages of a campaign. Returns the numbers of those that weren't ready in time."""


@cache
def find_handler(kind: str) -> Handler | None:
    """Return the installed handler for a kind of message, if there is one."""
    if kind not in list_plugin_names(PluginGroup.HANDLERS):
        return None
    handler: Handler = load_plugin(PluginGroup.HANDLERS, kind, parameters=("campaign", "numbers"))
    return handler


def promotion(_campaign: Campaign, _numbers: Sequence[int]) -> Collection[int]:
    """Prepare nothing: a promotion is the same for all customers."""
    return ()
