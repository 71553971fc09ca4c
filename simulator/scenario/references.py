"""References between the tables of a scenario file."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from simulator.scenario.gateways import GatewaySection
from simulator.scenario.organizations import OrganizationSection
from simulator.scenario.sections import CampaignSection
from simulator.scenario.tables import ScenarioFile
from simulator.values import format_value
from simulator.world.defects import SERVICE_BY_REASON
from simulator.world.services import SIMULATED_SERVICES_KIND
from tracker.status import Channel
from tracker.text import suggest_similar
from workers.gateways.base import load_gateway_kind
from workers.plugins import PluginGroup, list_plugin_names
from workers.services.base import load_services_factory


def find_owner(file: ScenarioFile, campaign: CampaignSection) -> CampaignSection:
    """Return the campaign that owns a campaign's audience.

    Campaigns of one organization that name the same file share its customers.
    """
    campaigns_by_name = {other.name: other for other in file.campaigns}
    while campaign.same_as is not None:
        campaign = campaigns_by_name[campaign.same_as]
    if campaign.is_generated:
        return campaign
    return next(
        other
        for other in file.campaigns
        if (other.audience, other.organization) == (campaign.audience, campaign.organization)
    )


def find_organization(file: ScenarioFile, campaign: CampaignSection) -> OrganizationSection:
    """Return the organization of a campaign."""
    key = campaign.organization
    return file.organization if key is None else file.organizations[key]


def find_gateway(file: ScenarioFile, campaign: CampaignSection) -> GatewaySection:
    """Return the gateway of a campaign."""
    return file.gateways.get(campaign.gateway or campaign.channel, GatewaySection())


def check_references(file: ScenarioFile) -> None:
    """Raise ValueError if a campaign names something that the file doesn't describe."""
    names = [campaign.name for campaign in file.campaigns]
    for index, campaign in enumerate(file.campaigns):
        where, earlier = f"campaigns[{index}]", names[:index]
        for key, name in (("audience.same_as", campaign.same_as), ("after", campaign.after)):
            if name in names[index:]:
                raise ValueError(
                    f"{where}.{key}: got {format_value(name)}; expected a campaign that comes"
                    " earlier in the file"
                )
            _check_name(f"{where}.{key}", "campaign", name, earlier)
        for key, noun, name, names_in_file in (
            ("organization", "organization", campaign.organization, [*file.organizations]),
            ("gateway", "gateway", campaign.gateway, [*file.gateways, *Channel]),
            ("coupon_series", "coupon series", campaign.coupon_series, [*file.coupon_series]),
        ):
            _check_name(f"{where}.{key}", noun, name, names_in_file)


def _check_name(key: str, noun: str, name: str | None, choices: Sequence[str]) -> None:
    if name is not None and name not in choices:
        raise ValueError(
            f"{key}: unknown {noun} {format_value(name)}{suggest_similar(name, choices)}"
        )


def check_organizations(file: ScenarioFile, owners: Mapping[str, CampaignSection]) -> None:
    """Raise ValueError if a campaign uses the customers of another organization."""
    for index, campaign in enumerate(file.campaigns):
        owner = owners[campaign.name]
        if find_organization(file, campaign) != find_organization(file, owner):
            raise ValueError(
                f"campaigns[{index}].audience: got the customers of another organization;"
                f" expected the organization of campaign {owner.name!r}"
            )


def check_gateways(file: ScenarioFile, owners: Mapping[str, CampaignSection]) -> None:
    """Raise ValueError if a gateway doesn't support a channel, or may not reach an audience."""
    for index, campaign in enumerate(file.campaigns):
        kind = find_gateway(file, campaign).kind
        gateway = load_gateway_kind(kind)
        if campaign.channel not in gateway.channels:
            raise ValueError(
                f"campaigns[{index}].channel: got {campaign.channel}; the gateway {kind} doesn't"
                " support it"
            )
        if gateway.reaches_people and owners[campaign.name].is_generated:
            raise ValueError(
                f"campaigns[{index}].audience: got generated customers; expected a file, because"
                f" the gateway {kind} reaches real people"
            )


def check_services(file: ScenarioFile, owners: Mapping[str, CampaignSection]) -> None:
    """Raise ValueError if services aren't installed, or failures are planted in real ones."""
    kinds = list_plugin_names(PluginGroup.SERVICES)
    for index, campaign in enumerate(file.campaigns):
        key = f"campaigns[{index}].services"
        _check_name(key, "services", campaign.services, kinds)
        load_services_factory(campaign.services)
        planted = [
            reason.slug
            for reason in SERVICE_BY_REASON
            if reason.slug in owners[campaign.name].defects
        ]
        if planted and campaign.services != SIMULATED_SERVICES_KIND:
            raise ValueError(
                f"{key}: got {campaign.services}; expected {SIMULATED_SERVICES_KIND}, because the"
                f" defect {planted[0]} is a failure of simulated services"
            )
    is_simulated = any(campaign.services == SIMULATED_SERVICES_KIND for campaign in file.campaigns)
    _check_used("services", file.services, file.services if is_simulated else ())


def check_all_used(file: ScenarioFile) -> None:
    """Raise ValueError if no campaign uses a table; its name is probably misspelled."""
    campaigns = file.campaigns
    organizations = {campaign.organization for campaign in campaigns}
    gateways = {*Channel, *(campaign.gateway for campaign in campaigns)}
    coupon_series = {campaign.coupon_series for campaign in campaigns}
    _check_used("organizations", file.organizations, organizations)
    _check_used("gateways", file.gateways, gateways)
    _check_used("coupon_series", file.coupon_series, coupon_series)


def _check_used(key: str, names: Iterable[str], used: Collection[str | None]) -> None:
    for name in names:
        if name not in used:
            raise ValueError(f"{key}.{name}: no campaign uses it")
