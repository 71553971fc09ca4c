"""Suppression checks: may this message be sent to this customer at all?"""

from datetime import datetime

import sqlalchemy as sa

from tracker.record.catalog import Campaign
from tracker.status import Channel, Reason, Step
from tracker.store.schema.catalog import customers
from workers.candidates import Candidate, SuspectCondition
from workers.checks.base import check
from workers.checks.suspects import nobody
from workers.services.base import ServiceName


@check(
    Reason.ORGANIZATION_DISABLED,
    step=Step.SUPPRESS,
    order=10,
    suspects=lambda campaign: not campaign.organization.enabled,
)
def organization_disabled(candidate: Candidate, now: datetime) -> bool:
    """Block every message of a disabled organization."""
    return not candidate.campaign.organization.enabled


@check(
    Reason.CONFIGURATION,
    step=Step.SUPPRESS,
    order=20,
    suspects=lambda campaign: not (campaign.channel_enabled and campaign.sender),
)
def configuration(candidate: Candidate, now: datetime) -> bool:
    """Block if the organization has disabled the channel or has no sender name for it."""
    return not (candidate.campaign.channel_enabled and candidate.campaign.sender)


def describe_opt_out(candidate: Candidate) -> str | None:
    """Return how a customer opted out, unless it was by unsubscribing."""
    is_spam = candidate.subscription is not None and candidate.subscription.marked_spam
    return "the customer marked a message as spam" if is_spam else None


@check(Reason.UNSUBSCRIBED, step=Step.SUPPRESS, order=30, detail=describe_opt_out, suspects=nobody)
def unsubscribed(candidate: Candidate, now: datetime) -> bool:
    """Block if the customer unsubscribed from marketing on the campaign's channel."""
    return candidate.subscription is not None and candidate.subscription.unsubscribed


@check(Reason.NDNC, step=Step.SUPPRESS, order=40, suspects=nobody)
def ndnc(candidate: Candidate, now: datetime) -> bool:
    """Block SMS to customers on the National Do Not Call list."""
    return (
        candidate.campaign.channel is Channel.SMS
        and candidate.subscription is not None
        and candidate.subscription.ndnc
    )


def _has_bounced_repeatedly(campaign: Campaign) -> SuspectCondition:
    organization, channel = campaign.organization, campaign.channel
    return sa.or_(
        customers.c[f"hard_bounces_{channel}"] >= organization.hard_bounce_limit,
        customers.c[f"soft_bounces_{channel}"] >= organization.soft_bounce_limit,
    )


@check(Reason.BOUNCED_REPEATEDLY, step=Step.SUPPRESS, order=50, suspects=_has_bounced_repeatedly)
def bounced_repeatedly(candidate: Candidate, now: datetime) -> bool:
    """Block if hard or soft bounces on the channel have reached the organization's limit."""
    customer, organization = candidate.customer, candidate.campaign.organization
    return (
        customer.hard_bounces >= organization.hard_bounce_limit
        or customer.soft_bounces >= organization.soft_bounce_limit
    )


def _allows_no_message(campaign: Campaign) -> bool:
    limit = campaign.organization.message_limit
    return limit is not None and limit <= 0


@check(Reason.MESSAGE_LIMIT, step=Step.SUPPRESS, order=60, suspects=_allows_no_message)
def message_limit(candidate: Candidate, now: datetime) -> bool:
    """Block if the customer has reached the organization's message limit for the period."""
    limit = candidate.campaign.organization.message_limit
    return limit is not None and candidate.recent >= limit


@check(Reason.SUBSCRIPTION_SERVICE, step=Step.SUPPRESS, order=70, suspects=nobody)
def subscription_service(candidate: Candidate, now: datetime) -> bool:
    """Block if the subscription service gave no answer for the customer after retries."""
    return ServiceName.SUBSCRIPTION in candidate.failed


@check(Reason.DUPLICATE_RECIPIENT, step=Step.SUPPRESS, order=80, suspects=nobody)
def duplicate_recipient(candidate: Candidate, now: datetime) -> bool:
    """Block if only an earlier customer with the same address may get the message."""
    return candidate.is_duplicate
