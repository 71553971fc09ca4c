"""Planted defects: the one thing that is wrong with a generated customer.

The oracle predicts from planted defects. It doesn't call the checks, which are what a run tests.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simulator.draws import DrawPurpose, draw_uniforms
from tracker.bounces import MAX_BOUNCE_LIMIT
from tracker.status import Channel, Reason
from workers.services.base import ServiceName

NO_DEFECT = 0
"""Code of a customer without a defect. A defect has the code of the `Reason` that it causes."""

INVALID_MOBILE = "12"
"""A mobile number that no region has."""

DEFECT_FIELDS: Mapping[Reason, Mapping[str, object]] = MappingProxyType(
    {
        Reason.UNSUBSCRIBED: {"unsubscribed_email": True, "unsubscribed_sms": True},
        Reason.NDNC: {"ndnc": True},
        Reason.BOUNCED_REPEATEDLY: {
            f"{kind}_bounces_{channel}": MAX_BOUNCE_LIMIT
            for kind in ("hard", "soft")
            for channel in Channel
        },
        Reason.EMAIL_MISSING: {"email": None},
        Reason.MOBILE_MISSING_OR_INVALID: {"mobile": INVALID_MOBILE, "mobile_e164": None},
        Reason.NOT_IN_LOYALTY_PROGRAM: {"loyalty_member": False},
        Reason.COUPON_ID_MISSING: {"coupon_id": None},
        Reason.COUPON_DATE_FORMAT: {"coupon_expires": "end of season"},
        Reason.COUPON_EXPIRED: {"coupon_expires": "2020-01-31"},
        Reason.COUPON_REDEEMED: {"coupon_redeemed": True},
        Reason.DATA_MISSING: {"last_store": None, "profile": None, "custom": "{}"},
        # These records are sound. A service never has an answer for these customers.
        Reason.TIMEOUT: {},
        Reason.COUPON_ISSUE: {},
        Reason.REFERRAL_SERVICE: {},
        Reason.SUBSCRIPTION_SERVICE: {},
    }
)
"""Columns of a customer's record that make exactly one check block the message, by its reason."""

SERVICE_BY_REASON: Mapping[Reason, ServiceName] = MappingProxyType(
    {
        Reason.TIMEOUT: ServiceName.HANDLER,
        Reason.COUPON_ISSUE: ServiceName.COUPON,
        Reason.REFERRAL_SERVICE: ServiceName.REFERRAL,
        Reason.SUBSCRIPTION_SERVICE: ServiceName.SUBSCRIPTION,
    }
)
"""The service whose failure causes a reason."""

PLANTABLE_REASONS = tuple(sorted(DEFECT_FIELDS))

_CHANNEL_BY_REASON = {
    Reason.EMAIL_MISSING: Channel.EMAIL,
    Reason.NDNC: Channel.SMS,
    Reason.MOBILE_MISSING_OR_INVALID: Channel.SMS,
}
_COUPON_REASONS = {
    Reason.COUPON_ISSUE,
    Reason.COUPON_ID_MISSING,
    Reason.COUPON_DATE_FORMAT,
    Reason.COUPON_EXPIRED,
    Reason.COUPON_REDEEMED,
}


def explain_unplantable(reason: Reason, channel: Channel, requires: Sequence[str]) -> str | None:
    """Return why a defect wouldn't block a campaign's messages, or None if it would."""
    only_channel = _CHANNEL_BY_REASON.get(reason, channel)
    if only_channel is not channel:
        return f"blocks {only_channel} messages only; the campaign's channel is {channel}"
    if reason in _COUPON_REASONS and "coupon" not in requires:
        return 'expected "coupon" in requires'
    if reason is Reason.NOT_IN_LOYALTY_PROGRAM and "membership" not in requires:
        return 'expected "membership" in requires'
    if reason is Reason.REFERRAL_SERVICE and "referral" not in requires:
        return 'expected "referral" in requires'
    if reason is Reason.DATA_MISSING and not set(requires) - {"coupon", "referral", "membership"}:
        return 'expected "last_store", "profile", "tag:NAME" or "field:NAME" in requires'
    return None


def draw_defects(
    seed: int, campaign: str, defects: Mapping[str, float], first: int, count: int
) -> NDArray[np.int8]:
    """Return the defects of generated customers from `first` on, as codes of shape (count,).

    The campaign is the one that owns the audience. `defects` has the share of the customers with
    each defect, by the slug of its reason.
    """
    if not defects:
        return np.full(count, NO_DEFECT, np.int8)
    uniforms = draw_uniforms(seed, campaign, DrawPurpose.DEFECT, first, count)[:, 0]
    codes = np.array([*(Reason[slug.upper()] for slug in defects), NO_DEFECT], np.int8)
    shares = np.cumsum([*defects.values()])
    return np.asarray(codes[np.searchsorted(shares, uniforms, side="right")])
