"""Predict the reasons that block all messages of a campaign."""

from simulator.scenario.plan import PlannedCampaign
from tracker.status import Reason
from workers.plugins import PluginGroup, list_plugin_names


def find_campaign_reasons(campaign: PlannedCampaign) -> list[Reason]:
    """Return the reasons that block every message of a campaign."""
    channel = campaign.channel_settings
    sender = channel.sender if campaign.sender is None else campaign.sender
    needs_coupon = "coupon" in campaign.requires
    blocks = {
        Reason.ORGANIZATION_DISABLED: not campaign.organization.enabled,
        Reason.CONFIGURATION: not channel.enabled or sender == "",
        Reason.COUPON_CONFIGURATION: needs_coupon and not campaign.is_series_active,
        Reason.GATEWAY_CONFIGURATION: not campaign.gateway.enabled,
        Reason.HANDLER_NOT_FOUND: campaign.kind not in installed_handlers(),
    }
    return [reason for reason, is_blocking in blocks.items() if is_blocking]


def installed_handlers() -> frozenset[str]:
    """Return the names of the installed handlers."""
    return frozenset(list_plugin_names(PluginGroup.HANDLERS))
