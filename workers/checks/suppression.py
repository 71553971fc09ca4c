"""Checks of the step ``suppress``: may this customer be written to at all?"""

from datetime import datetime

from tracker.status import Channel, Reason
from workers.checks.base import Candidate, check


@check(Reason.ORGANIZATION_DISABLED)
def organization_disabled(candidate: Candidate, now: datetime) -> bool:
    """The organization is disabled."""
    return not candidate.campaign.organization.enabled


@check(Reason.UNSUBSCRIBED)
def unsubscribed(candidate: Candidate, now: datetime) -> bool:
    """The customer unsubscribed from marketing on the campaign's channel."""
    if candidate.campaign.channel is Channel.EMAIL:
        return candidate.customer.unsubscribed_email
    return candidate.customer.unsubscribed_sms


@check(Reason.NDNC)
def ndnc(candidate: Candidate, now: datetime) -> bool:
    """The customer is on the National Do Not Call list, and the campaign is an SMS."""
    return candidate.campaign.channel is Channel.SMS and candidate.customer.ndnc


@check(Reason.BOUNCED_REPEATEDLY)
def bounced_repeatedly(candidate: Candidate, now: datetime) -> bool:
    """Earlier messages bounced as often, hard or soft, as the organization puts up with."""
    customer, organization = candidate.customer, candidate.campaign.organization
    return (
        customer.hard_bounces >= organization.hard_bounce_limit
        or customer.soft_bounces >= organization.soft_bounce_limit
    )
