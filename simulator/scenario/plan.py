"""Planned campaigns: the campaigns of a scenario file with every reference resolved.

A scenario file is resolved once. Recording, driver, oracle and results are handed planned campaigns
and never look anything up in the file again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from simulator.audience.formats import AudienceFile, AudienceSection
from simulator.scenario.arrivals import ArrivalShape
from simulator.scenario.contents import PlannedMessage, plan_messages
from simulator.scenario.gateways import GatewaySection
from simulator.scenario.organizations import ChannelSection, OrganizationSection
from simulator.scenario.references import (
    check_all_used,
    check_gateways,
    check_organizations,
    check_references,
    check_services,
    find_gateway,
    find_organization,
    find_owner,
)
from simulator.scenario.sections import CampaignSection, GeneratedSection, SameAs
from simulator.scenario.tables import ScenarioFile
from simulator.world.behaviour import EngagementRates
from simulator.world.services import SIMULATED_SERVICES_KIND, SimulatedServicesSettings
from tracker.status import Channel
from workers.message.source import MessageSource

DEFAULT_COUPON_SERIES = "default"
"""Coupon series of campaigns that give coupons and name no series."""


@dataclass(frozen=True, kw_only=True)
class PlannedAudience:
    """The customers of one campaign, or of several campaigns that share them.

    Attributes:
        owner: name of the first campaign that uses the audience; seeds the draws of its customers.
        source: number of customers to generate, or the audience file to import.
        label: description of the source for the record.
        title: what people read instead, if the audience has a title.
        defects: share of generated customers to plant each defect in, by the slug of its reason.
        requires: requirements of all campaigns that use the audience, in the order of the file.
    """

    owner: str
    source: int | AudienceFile
    label: str
    title: str | None
    defects: Mapping[str, float]
    requires: tuple[str, ...]

    @property
    def is_imported(self) -> bool:
        """True if the customers come from an audience file."""
        return isinstance(self.source, AudienceFile)


@dataclass(frozen=True, kw_only=True)
class PlannedCampaign:
    """A campaign with everything that recording, sending and predicting it needs.

    Attributes:
        title: what people read beside the name, if it has one.
        message: templates of the message; `requires` has what customers need for them.
        message_files: files from which templates were read.
        sender: sender that the campaign names; None for the organization's sender on the channel.
        organization_key: name of the organization's table in the file; None for `[organization]`.
        gateway_key: name of the gateway's table, which the file may leave out to use its defaults.
        services: what the oracle expects of the services; real ones never fail.
        services_kind: installed services that answer in the run.
        coupon_series: series of the campaign's coupons; None if the campaign gives none.
        start: simulated time from the beginning of the run to the first arrival.
        arrival_shape: shape in which the messages arrive after that.
        after: name of the campaign that must settle before this one begins.
        predecessors: names of all campaigns that settle before this one begins, direct or not.
        expected_file: file of expected outcomes, if there is one.
    """

    name: str
    title: str | None
    message: MessageSource
    message_files: Sequence[Path]
    seed: int
    channel: Channel
    kind: str
    sender: str | None
    requires: tuple[str, ...]
    organization: OrganizationSection
    organization_key: str | None
    channel_settings: ChannelSection
    gateway: GatewaySection
    gateway_key: str
    engagement: EngagementRates
    services: SimulatedServicesSettings
    services_kind: str
    coupon_series: str | None
    is_series_active: bool
    audience: PlannedAudience
    start: timedelta
    arrival_shape: ArrivalShape
    after: str | None
    predecessors: frozenset[str]
    expected_file: Path | None

    @property
    def services_settings(self) -> str:
        """The settings of the services as they are recorded, JSON text."""
        is_simulated = self.services_kind == SIMULATED_SERVICES_KIND
        return self.services.model_dump_json() if is_simulated else "{}"

    @property
    def tracks_engagement(self) -> bool:
        """True if recipients may engage: at a rate, or because an imported address forces it."""
        can_open = self.channel is Channel.EMAIL and self.gateway.is_simulated
        return can_open and (self.audience.is_imported or self.engagement.has_engagement)

    @property
    def keeps_suppressions(self) -> bool:
        """True if bounces and opt-outs stay for the next run; generated customers exist in one."""
        return self.organization.keep and self.audience.is_imported

    def without_outages(self) -> "PlannedCampaign":
        """Return the campaign with services that are never unavailable."""
        failures = {
            name: service.model_copy(update={"outage": None})
            for name, service in self.services.failures.items()
        }
        services = self.services.model_copy(update={"failures": failures})
        return replace(self, services=services)


def select_audience_campaigns(
    campaigns: Sequence[PlannedCampaign], audience: PlannedAudience
) -> tuple[PlannedCampaign, ...]:
    """Return the campaigns that use an audience, in the order of the file."""
    return tuple(campaign for campaign in campaigns if campaign.audience.owner == audience.owner)


def plan_campaigns(
    file: ScenarioFile, folder: Path, messages: Mapping[str, MessageSource] | None = None
) -> tuple[PlannedCampaign, ...]:
    """Resolve the campaigns of a scenario file. Files that it names are relative to its folder.

    Args:
        messages: the messages of the campaigns by name; None to read their files.

    Raises:
        ValueError: a reference is wrong. The message begins with the key.
    """
    check_references(file)
    owners = {campaign.name: find_owner(file, campaign) for campaign in file.campaigns}
    check_organizations(file, owners)
    check_gateways(file, owners)
    check_services(file, owners)
    check_all_used(file)
    contents = plan_messages(file, folder, messages)
    audiences = {
        owner.name: _plan_audience(file, folder, owner, owners, contents)
        for owner in owners.values()
    }
    predecessors: dict[str, frozenset[str]] = {}
    planned = []
    for campaign in file.campaigns:
        before = campaign.after
        predecessors[campaign.name] = (
            frozenset() if before is None else predecessors[before] | {before}
        )
        audience = audiences[owners[campaign.name].name]
        planned.append(
            _plan_campaign(
                file,
                folder,
                campaign,
                audience,
                predecessors[campaign.name],
                contents[campaign.name],
            )
        )
    return tuple(planned)


def _plan_campaign(
    file: ScenarioFile,
    folder: Path,
    campaign: CampaignSection,
    audience: PlannedAudience,
    predecessors: frozenset[str],
    content: PlannedMessage,
) -> PlannedCampaign:
    organization = _resolve_organization(file, campaign)
    series = campaign.coupon_series
    return PlannedCampaign(
        name=campaign.name,
        title=campaign.title,
        message=content.source,
        message_files=content.files,
        seed=file.seed,
        channel=campaign.channel,
        kind=campaign.kind,
        sender=campaign.sender,
        requires=content.requires,
        organization=organization,
        organization_key=campaign.organization,
        channel_settings=organization.channel_section(campaign.channel),
        gateway=find_gateway(file, campaign),
        gateway_key=campaign.gateway or campaign.channel,
        engagement=file.engagement.get(campaign.channel, EngagementRates()),
        services=SimulatedServicesSettings(
            seed=file.seed,
            audience=audience.owner,
            defects=audience.defects,
            failures=file.services if campaign.services == SIMULATED_SERVICES_KIND else {},
        ),
        services_kind=campaign.services,
        coupon_series=(series or DEFAULT_COUPON_SERIES) if "coupon" in content.requires else None,
        is_series_active=series is None or file.coupon_series[series].active,
        audience=audience,
        start=campaign.load.start,
        arrival_shape=campaign.load.shape.arrival_shape,
        after=campaign.after,
        predecessors=predecessors,
        expected_file=None if campaign.expect is None else folder / campaign.expect,
    )


def _plan_audience(
    file: ScenarioFile,
    folder: Path,
    owner: CampaignSection,
    owners: Mapping[str, CampaignSection],
    contents: Mapping[str, PlannedMessage],
) -> PlannedAudience:
    source: int | AudienceFile
    match owner.audience:
        case int(source) | GeneratedSection(customers=source):
            label = f"generated for {owner.name}"
        case AudienceSection() as section:
            source, label = AudienceFile.in_folder(folder, section), section.file
    return PlannedAudience(
        owner=owner.name,
        source=source,
        label=label,
        title=None if isinstance(owner.audience, int | SameAs) else owner.audience.title,
        defects=owner.defects,
        requires=tuple(
            requirement
            for campaign in file.campaigns
            if owners[campaign.name] is owner
            for requirement in contents[campaign.name].requires
        ),
    )


def _resolve_organization(file: ScenarioFile, campaign: CampaignSection) -> OrganizationSection:
    """Return a campaign's organization with its default limit of hard bounces.

    A real server's replies are classified, so one hard bounce is enough.
    """
    organization = find_organization(file, campaign)
    is_real = any(
        not find_gateway(file, other).is_simulated
        for other in file.campaigns
        if other.organization == campaign.organization
    )
    if is_real and "hard_bounce_limit" not in organization.model_fields_set:
        return organization.model_copy(update={"hard_bounce_limit": 1})
    return organization
