"""Checks of the step ``validate``: is everything there that the message needs?"""

from datetime import date, datetime

from tracker.status import Channel, Reason, Step
from workers.candidates import Candidate
from workers.checks.base import check
from workers.services.base import ServiceName


@check(Reason.EMAIL_MISSING, step=Step.VALIDATE, order=10)
def email_missing(candidate: Candidate, now: datetime) -> bool:
    """The customer has no email address. A malformed one is for the gateway to bounce."""
    return candidate.campaign.channel is Channel.EMAIL and not candidate.customer.email


@check(Reason.MOBILE_MISSING_OR_INVALID, step=Step.VALIDATE, order=20)
def mobile_missing_or_invalid(candidate: Candidate, now: datetime) -> bool:
    """The customer has no mobile number, or not a possible one."""
    return candidate.campaign.channel is Channel.SMS and not candidate.customer.mobile_e164


@check(Reason.NOT_IN_LOYALTY_PROGRAM, step=Step.VALIDATE, order=30)
def not_in_loyalty_program(candidate: Candidate, now: datetime) -> bool:
    """The campaign is for members of the loyalty program, and the customer is none."""
    return "membership" in candidate.campaign.requires and not candidate.customer.loyalty_member


@check(Reason.COUPON_CONFIGURATION, step=Step.VALIDATE, order=40)
def coupon_configuration(candidate: Candidate, now: datetime) -> bool:
    """The campaign gives a coupon of a series that does not exist or is not active."""
    if "coupon" not in candidate.campaign.requires:
        return False
    series = candidate.campaign.coupon_series
    return series is None or not series.active


@check(Reason.COUPON_ID_MISSING, step=Step.VALIDATE, order=50)
def coupon_id_missing(candidate: Candidate, now: datetime) -> bool:
    """The campaign gives a coupon, and the customer has none."""
    return candidate.coupon is not None and not candidate.coupon.coupon_id


@check(Reason.COUPON_DATE_FORMAT, step=Step.VALIDATE, order=60)
def coupon_date_format(candidate: Candidate, now: datetime) -> bool:
    """The coupon's expiry is there and is no date like 2026-12-31."""
    if candidate.coupon is None or not candidate.coupon.expires:
        return False
    return _parse_date(candidate.coupon.expires) is None


@check(Reason.COUPON_EXPIRED, step=Step.VALIDATE, order=70)
def coupon_expired(candidate: Candidate, now: datetime) -> bool:
    """The day on which the coupon expires, in UTC, is over."""
    day = None if candidate.coupon is None else _parse_date(candidate.coupon.expires)
    return day is not None and day < now.date()


@check(Reason.COUPON_REDEEMED, step=Step.VALIDATE, order=80)
def coupon_redeemed(candidate: Candidate, now: datetime) -> bool:
    """The coupon was redeemed."""
    return candidate.coupon is not None and candidate.coupon.redeemed


@check(Reason.DATA_MISSING, step=Step.VALIDATE, order=90)
def data_missing(candidate: Candidate, now: datetime) -> bool:
    """A last shopped store, profile, tag or field that the campaign needs is absent."""
    customer = candidate.customer
    for needed in candidate.campaign.requires:
        match needed:
            case "last_store":
                present = customer.last_store
            case "profile":
                present = customer.profile
            case "membership" | "coupon" | "referral":
                continue
            case _:  # tag:NAME or field:NAME
                present = customer.value(needed)
        if not present:
            return True
    return False


@check(Reason.GATEWAY_CONFIGURATION, step=Step.VALIDATE, order=100)
def gateway_configuration(candidate: Candidate, now: datetime) -> bool:
    """The campaign's gateway is not in use."""
    return not candidate.campaign.gateway_enabled


@check(Reason.COUPON_ISSUE, step=Step.VALIDATE, order=110)
def coupon_issue(candidate: Candidate, now: datetime) -> bool:
    """The coupon service had no answer for the customer, also when asked again."""
    return ServiceName.COUPON in candidate.failed


@check(Reason.REFERRAL_SERVICE, step=Step.VALIDATE, order=120)
def referral_service(candidate: Candidate, now: datetime) -> bool:
    """The referral service had no answer for the customer, also when asked again."""
    return ServiceName.REFERRAL in candidate.failed


def _parse_date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None
