"""Find tags and fields that campaigns require, but that no column of their audience file gives."""

from collections.abc import Iterable, Iterator

from simulator.audience.columns import CUSTOM_PREFIXES
from simulator.audience.formats import AudienceFile
from simulator.audience.reader import read_columns
from simulator.scenario.plan import PlannedCampaign
from tracker.text import suggest_similar

REGION_FIELD = "field:region"
"""Field that the column `region` and the table of the audience give."""


def describe_absent_columns(campaigns: Iterable[PlannedCampaign]) -> Iterator[str]:
    """Yield a warning for each tag or field that is required and has no column.

    All messages of such a campaign are Not Sent. A name with a typing error is the usual cause.
    """
    for campaign in campaigns:
        file = campaign.audience.source
        if not isinstance(file, AudienceFile):
            continue
        custom = [name for name in read_columns(file) if name.startswith(CUSTOM_PREFIXES)]
        for name in campaign.requires:
            if name.startswith(CUSTOM_PREFIXES) and name not in (REGION_FIELD, *custom):
                hint = suggest_similar(name, custom) if custom else ""
                yield (
                    f"{file.path.name}: no column gives {name}, so no message of {campaign.name}"
                    f" is sent{hint}"
                )
