"""Validation checks: is all the data that the message needs present and usable?"""

import re
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from tracker.record.catalog import Campaign
from tracker.status import Channel, Reason, Step
from tracker.store.schema.catalog import customers
from workers.candidates import Candidate, Customer, SuspectCondition, reaches_people
from workers.checks.base import check
from workers.checks.suspects import nobody
from workers.gateways.safety import is_reserved
from workers.services.base import ServiceName, parse_last_day


def _is_empty(column: str) -> sa.ColumnElement[bool]:
    """Return the condition that a text of a customer is missing or empty."""
    return sa.func.coalesce(customers.c[column], "") == ""


@check(
    Reason.EMAIL_MISSING,
    step=Step.VALIDATE,
    order=10,
    suspects=lambda campaign: campaign.channel is Channel.EMAIL and _is_empty("email"),
)
def email_missing(candidate: Candidate, now: datetime) -> bool:
    """Block email to customers without an email address.

    The gateway bounces a malformed address.
    """
    return candidate.campaign.channel is Channel.EMAIL and not candidate.customer.email


@check(
    Reason.MOBILE_MISSING_OR_INVALID,
    step=Step.VALIDATE,
    order=20,
    suspects=lambda campaign: campaign.channel is Channel.SMS and _is_empty("mobile_e164"),
)
def mobile_missing_or_invalid(candidate: Candidate, now: datetime) -> bool:
    """Block SMS to customers without a mobile number that can receive SMS."""
    return candidate.campaign.channel is Channel.SMS and not candidate.customer.mobile_e164


@check(
    Reason.NOT_IN_LOYALTY_PROGRAM,
    step=Step.VALIDATE,
    order=30,
    suspects=lambda campaign: "membership" in campaign.requires and ~customers.c.loyalty_member,
)
def not_in_loyalty_program(candidate: Candidate, now: datetime) -> bool:
    """Block if the campaign requires membership and the customer is not a loyalty member."""
    return "membership" in candidate.campaign.requires and not candidate.customer.loyalty_member


def _has_no_active_series(campaign: Campaign) -> bool:
    """Return whether a campaign requires a coupon and its series is missing or inactive."""
    series = campaign.coupon_series
    return "coupon" in campaign.requires and (series is None or not series.active)


@check(Reason.COUPON_CONFIGURATION, step=Step.VALIDATE, order=40, suspects=_has_no_active_series)
def coupon_configuration(candidate: Candidate, now: datetime) -> bool:
    """Block if the campaign requires a coupon and its series is missing or inactive."""
    return _has_no_active_series(candidate.campaign)


@check(Reason.COUPON_ID_MISSING, step=Step.VALIDATE, order=50, suspects=nobody)
def coupon_id_missing(candidate: Candidate, now: datetime) -> bool:
    """Block if the campaign requires a coupon and the customer has no coupon id."""
    return candidate.coupon is not None and not candidate.coupon.coupon_id


@check(Reason.COUPON_DATE_FORMAT, step=Step.VALIDATE, order=60, suspects=nobody)
def coupon_date_format(candidate: Candidate, now: datetime) -> bool:
    """Block if the coupon's expiry date is present and not in the format YYYY-MM-DD."""
    if candidate.coupon is None or not candidate.coupon.expires:
        return False
    return parse_last_day(candidate.coupon.expires) is None


@check(Reason.COUPON_EXPIRED, step=Step.VALIDATE, order=70, suspects=nobody)
def coupon_expired(candidate: Candidate, now: datetime) -> bool:
    """Block if the coupon's expiry date has passed, in the time zone of the settings."""
    day = None if candidate.coupon is None else parse_last_day(candidate.coupon.expires)
    return day is not None and day < now.date()


@check(Reason.COUPON_REDEEMED, step=Step.VALIDATE, order=80, suspects=nobody)
def coupon_redeemed(candidate: Candidate, now: datetime) -> bool:
    """Block if the coupon has been redeemed."""
    return candidate.coupon is not None and candidate.coupon.redeemed


def _lacks(customer: Customer, requirement: str) -> bool:
    """Return whether a last store, profile, tag or field is missing that a campaign requires."""
    match requirement:
        case "last_store":
            return not customer.last_store
        case "profile":
            return not customer.profile
        case "membership" | "coupon" | "referral":
            return False
        case _:  # tag:NAME or field:NAME
            return not customer.value(requirement)


def _name_missing_data(candidate: Candidate) -> str:
    """Return the names of all data that is missing."""
    customer, requires = candidate.customer, candidate.campaign.requires
    return ", ".join(requirement for requirement in requires if _lacks(customer, requirement))


def _may_lack_data(campaign: Campaign) -> SuspectCondition:
    """Return who lacks a required last store or profile; all if a tag or field is required."""
    data = set(campaign.requires) - {"membership", "coupon", "referral"}
    if not data <= {"last_store", "profile"}:
        return True
    return sa.or_(*map(_is_empty, sorted(data))) if data else False


@check(
    Reason.DATA_MISSING,
    step=Step.VALIDATE,
    order=90,
    detail=_name_missing_data,
    suspects=_may_lack_data,
)
def data_missing(candidate: Candidate, now: datetime) -> bool:
    """Block if a last store, profile, tag or field that the campaign requires is missing."""
    for requirement in candidate.campaign.requires:
        if _lacks(candidate.customer, requirement):
            return True
    return False


def _describe_reserved_recipient(candidate: Candidate) -> str | None:
    """Return why a message can't use a gateway that is enabled."""
    if not candidate.campaign.gateway_enabled:
        return None
    kind = candidate.campaign.gateway_kind
    return f"the gateway {kind} reaches real people; the recipient is reserved for documentation"


@check(
    Reason.GATEWAY_CONFIGURATION,
    step=Step.VALIDATE,
    order=100,
    detail=_describe_reserved_recipient,
    suspects=lambda campaign: not campaign.gateway_enabled or reaches_people(campaign),
)
def gateway_configuration(candidate: Candidate, now: datetime) -> bool:
    """Block if the gateway is disabled, or reaches people and the recipient is reserved."""
    campaign, customer = candidate.campaign, candidate.customer
    if not campaign.gateway_enabled:
        return True
    if not candidate.gateway_reaches_people:
        return False
    recipient = customer.email if campaign.channel is Channel.EMAIL else customer.mobile_e164
    return is_reserved(campaign.channel, recipient or "")


@check(Reason.COUPON_ISSUE, step=Step.VALIDATE, order=110, suspects=nobody)
def coupon_issue(candidate: Candidate, now: datetime) -> bool:
    """Block if the coupon service gave no answer for the customer after retries."""
    return ServiceName.COUPON in candidate.failed


@check(Reason.REFERRAL_SERVICE, step=Step.VALIDATE, order=120, suspects=nobody)
def referral_service(candidate: Candidate, now: datetime) -> bool:
    """Block if the referral service gave no answer for the customer after retries."""
    return ServiceName.REFERRAL in candidate.failed


_REQUIREMENT = re.compile(r"coupon|referral|last_store|profile|membership|(tag|field):\S.*")


def validate_requirements(requires: Iterable[str]) -> tuple[str, ...]:
    """Return a campaign's requirements; raise `ValueError` that names the first unknown one."""
    requirements = tuple(requires)
    for requirement in requirements:
        if _REQUIREMENT.fullmatch(requirement) is None:
            raise ValueError(
                f"unknown requirement {requirement!r}; expected coupon, referral, last_store,"
                " profile, membership, tag:NAME or field:NAME"
            )
    return requirements
