"""Checks of the step ``suppress``: may this customer be written to at all?"""

from datetime import datetime

from tracker.status import Channel, Reason, Step
from workers.candidates import Candidate
from workers.checks.base import check
from workers.services.base import ServiceName


@check(Reason.ORGANIZATION_DISABLED, step=Step.SUPPRESS, order=10)
def organization_disabled(candidate: Candidate, now: datetime) -> bool:
    """The organization is disabled."""
    return not candidate.campaign.organization.enabled


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=20)
def configuration(candidate: Candidate, now: datetime) -> bool:
    """The organization has the channel off, or there is no sender's name for it."""
    return not (candidate.campaign.channel_enabled and candidate.campaign.sender)


@check(Reason.UNSUBSCRIBED, step=Step.SUPPRESS, order=30)
def unsubscribed(candidate: Candidate, now: datetime) -> bool:
    """The customer unsubscribed from marketing on the campaign's channel."""
    return candidate.subscription is not None and candidate.subscription.unsubscribed


@check(Reason.NDNC, step=Step.SUPPRESS, order=40)
def ndnc(candidate: Candidate, now: datetime) -> bool:
    """The customer is on the National Do Not Call list, and the campaign is an SMS."""
    return (
        candidate.campaign.channel is Channel.SMS
        and candidate.subscription is not None
        and candidate.subscription.ndnc
    )


@check(Reason.BOUNCED_REPEATEDLY, step=Step.SUPPRESS, order=50)
def bounced_repeatedly(candidate: Candidate, now: datetime) -> bool:
    """Earlier messages on the channel bounced as often as the organization puts up with."""
    customer, organization = candidate.customer, candidate.campaign.organization
    return (
        customer.hard_bounces >= organization.hard_bounce_limit
        or customer.soft_bounces >= organization.soft_bounce_limit
    )


@check(Reason.MESSAGE_LIMIT, step=Step.SUPPRESS, order=60)
def message_limit(candidate: Candidate, now: datetime) -> bool:
    """The customer has had as many messages in the period as the organization allows."""
    limit = candidate.campaign.organization.message_limit
    return limit is not None and candidate.recent >= limit


@check(Reason.SUBSCRIPTION_SERVICE, step=Step.SUPPRESS, order=70)
def subscription_service(candidate: Candidate, now: datetime) -> bool:
    """The subscription service had no answer for the customer, also when asked again."""
    return ServiceName.SUBSCRIPTION in candidate.failed
