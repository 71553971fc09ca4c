"""Checks of the step ``validate``: is everything there that the message needs?"""

import json
from datetime import date, datetime

from tracker.status import Channel, Reason
from workers.checks.base import Candidate, check


@check(Reason.EMAIL_MISSING)
def email_missing(candidate: Candidate, now: datetime) -> bool:
    """The customer has no email address. A malformed one is for the gateway to bounce."""
    return candidate.campaign.channel is Channel.EMAIL and not candidate.customer.email


@check(Reason.MOBILE_MISSING_OR_INVALID)
def mobile_missing_or_invalid(candidate: Candidate, now: datetime) -> bool:
    """The customer has no mobile number, or not a possible one."""
    return candidate.campaign.channel is Channel.SMS and not candidate.customer.mobile_e164


@check(Reason.NOT_IN_LOYALTY_PROGRAM)
def not_in_loyalty_program(candidate: Candidate, now: datetime) -> bool:
    """The campaign is for members of the loyalty program, and the customer is none."""
    return "membership" in candidate.campaign.requires and not candidate.customer.loyalty_member


@check(Reason.DATA_MISSING)
def data_missing(candidate: Candidate, now: datetime) -> bool:
    """A last shopped store, profile, tag or field that the campaign needs is absent."""
    customer = candidate.customer
    for needed in candidate.campaign.requires:
        match needed:
            case "last_store":
                present: object = customer.last_store
            case "profile":
                present = customer.profile
            case "membership" | "coupon":
                continue
            case _:  # tag:NAME or field:NAME
                present = json.loads(customer.custom).get(needed)
        if not present:
            return True
    return False


@check(Reason.COUPON_ID_MISSING)
def coupon_id_missing(candidate: Candidate, now: datetime) -> bool:
    """The campaign gives a coupon, and the customer has none."""
    return "coupon" in candidate.campaign.requires and not candidate.customer.coupon_id


@check(Reason.COUPON_DATE_FORMAT)
def coupon_date_format(candidate: Candidate, now: datetime) -> bool:
    """The coupon's expiry is there and is no date like 2026-12-31."""
    expires = candidate.customer.coupon_expires
    return "coupon" in candidate.campaign.requires and bool(expires) and _day(expires) is None


@check(Reason.COUPON_EXPIRED)
def coupon_expired(candidate: Candidate, now: datetime) -> bool:
    """The day on which the coupon expires, in UTC, is over."""
    if "coupon" not in candidate.campaign.requires:
        return False
    day = _day(candidate.customer.coupon_expires)
    return day is not None and day < now.date()


@check(Reason.COUPON_REDEEMED)
def coupon_redeemed(candidate: Candidate, now: datetime) -> bool:
    """The coupon was redeemed."""
    return "coupon" in candidate.campaign.requires and candidate.customer.coupon_redeemed


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None
