"""The messages of the campaigns, and what customers need for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simulator.scenario.references import find_organization
from simulator.scenario.sections import CampaignSection
from simulator.scenario.tables import ScenarioFile
from simulator.world.defects import explain_unplantable
from tracker.status import Reason
from workers.message.source import MessageSource


@dataclass(frozen=True, kw_only=True)
class PlannedMessage:
    """The message of a campaign.

    Attributes:
        files: the files that have its templates.
        requires: what every customer needs: what the campaign names, then what the templates use.
    """

    source: MessageSource
    files: tuple[Path, ...]
    requires: tuple[str, ...]


def plan_messages(
    file: ScenarioFile, folder: Path, recorded: Mapping[str, MessageSource] | None
) -> dict[str, PlannedMessage]:
    """Return the messages of a scenario's campaigns, by the campaign's name.

    Args:
        recorded: the messages as they were recorded; None to read the files of templates.

    Raises:
        ValueError: a template can't be used. The message begins with the key.
    """
    planned = {}
    for index, campaign in enumerate(file.campaigns):
        source, files = MessageSource(), tuple[Path, ...]()
        if campaign.message is not None:
            files = tuple(campaign.message.list_files(folder))
            try:
                source = (
                    campaign.message.load_source(folder)
                    if recorded is None
                    else recorded[campaign.name]
                )
            except ValueError as error:
                raise ValueError(f"campaigns[{index}].message.{error}") from None
        requires = _merge_requirements(file, index, campaign, source)
        _check_defects(index, campaign, requires)
        planned[campaign.name] = PlannedMessage(source=source, files=files, requires=requires)
    return planned


def _merge_requirements(
    file: ScenarioFile, index: int, campaign: CampaignSection, source: MessageSource
) -> tuple[str, ...]:
    """Return what a campaign requires, with what its templates use."""
    organization = find_organization(file, campaign)
    unsubscribe_url = organization.channel_section(campaign.channel).unsubscribe_url
    if campaign.message is None and unsubscribe_url is None:
        return campaign.requires
    # A scenario without templates doesn't pay for loading the template engine.
    from workers.message.rendering import make_campaign_values
    from workers.message.validation import validate_message
    from workers.message.variables import UNSUBSCRIBE_URL, InvalidTemplate

    values = make_campaign_values(
        campaign=campaign.name,
        title=campaign.title,
        organization=organization.name,
        organization_title=organization.title,
    )
    try:
        needed = validate_message(source, campaign.channel, unsubscribe_url, values)
    except InvalidTemplate as error:
        key = f"campaigns[{index}].message."
        if str(error).startswith(UNSUBSCRIBE_URL):
            name = campaign.organization
            table = "organization" if name is None else f"organizations.{name}"
            key = f"{table}.{campaign.channel}."
        raise ValueError(f"{key}{error}") from None
    return (*campaign.requires, *(name for name in needed if name not in campaign.requires))


def _check_defects(index: int, campaign: CampaignSection, requires: tuple[str, ...]) -> None:
    """Raise ValueError if a planted defect doesn't block the campaign's messages."""
    for slug in campaign.defects:
        why_not = explain_unplantable(Reason[slug.upper()], campaign.channel, requires)
        if why_not is not None:
            raise ValueError(f"campaigns[{index}].defects.{slug}: {why_not}")
