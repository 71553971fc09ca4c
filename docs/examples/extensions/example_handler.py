"""A handler that prepares the messages of campaigns with `kind = "catalogue"`."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from tracker.record.catalog import Campaign


def catalogue(campaign: Campaign, numbers: Sequence[int]) -> Collection[int]:
    """Return the messages that aren't ready: all of them, until the campaign has a catalogue."""
    folder = Path(os.environ.get("EXAMPLE_CATALOGUES", "catalogues"))
    return () if (folder / f"{campaign.name}.pdf").exists() else numbers
