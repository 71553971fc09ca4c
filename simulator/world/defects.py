"""Labels: the one thing that is wrong with a customer, planted when the audience is made.

The oracle predicts from labels. It does not ask the checks, which are what is being tested.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simulator.draws import DrawPurpose, draw_uniforms
from tracker.record.receipts import MAX_BOUNCE_LIMIT
from tracker.status import Channel, Reason
from workers.services.base import ServiceName

NO_DEFECT = 0
"""The label of a customer with whom nothing is wrong. All others are codes of :class:`Reason`."""

INVALID_MOBILE = "12"
"""A mobile number that is none."""

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
        # Nothing is wrong with these records. It is the service that never answers for them.
        Reason.TIMEOUT: {},
        Reason.COUPON_ISSUE: {},
        Reason.REFERRAL_SERVICE: {},
        Reason.SUBSCRIPTION_SERVICE: {},
    }
)
"""What a customer's record says instead, to fail the check of a reason and no other."""

SERVICE_BY_REASON: Mapping[Reason, ServiceName] = MappingProxyType(
    {
        Reason.TIMEOUT: ServiceName.HANDLER,
        Reason.COUPON_ISSUE: ServiceName.COUPON,
        Reason.REFERRAL_SERVICE: ServiceName.REFERRAL,
        Reason.SUBSCRIPTION_SERVICE: ServiceName.SUBSCRIPTION,
    }
)
"""The service whose failure gives a reason."""

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
    """Why a campaign would send to customers with this defect all the same, if it would."""
    if _CHANNEL_BY_REASON.get(reason, channel) is not channel:
        return f"concerns {_CHANNEL_BY_REASON[reason]} only, and the campaign is {channel}"
    if reason in _COUPON_REASONS and "coupon" not in requires:
        return 'needs requires = ["coupon"]'
    if reason is Reason.NOT_IN_LOYALTY_PROGRAM and "membership" not in requires:
        return 'needs requires = ["membership"]'
    if reason is Reason.REFERRAL_SERVICE and "referral" not in requires:
        return 'needs requires = ["referral"]'
    if reason is Reason.DATA_MISSING and not set(requires) - {"coupon", "referral", "membership"}:
        return 'needs last_store, profile, tag:NAME or field:NAME in "requires"'
    return None


def draw_defects(
    seed: int, campaign: str, defects: Mapping[str, float], first: int, count: int
) -> NDArray[np.int8]:
    """The labels of the customers ``first`` … of a generated audience; shape (count,)."""
    if not defects:
        return np.full(count, NO_DEFECT, np.int8)
    drawn = draw_uniforms(seed, campaign, DrawPurpose.DEFECT, first, count)[:, 0]
    codes = np.array([*(Reason[slug.upper()] for slug in defects), NO_DEFECT], np.int8)
    return np.asarray(codes[np.searchsorted(np.cumsum([*defects.values()]), drawn, side="right")])
