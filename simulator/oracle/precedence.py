"""The order of the reasons: which one a message gets when several apply."""

import numpy as np
from numpy.typing import NDArray

from tracker.status import Reason, Step

_STEPS = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH, None)

REASONS_BY_PRECEDENCE = sorted(Reason, key=lambda reason: (_STEPS.index(reason.step), reason))
"""Reasons in their order of precedence: a message gets the first one that applies."""

PRECEDENCE = np.full(max(Reason) + 1, len(REASONS_BY_PRECEDENCE), np.int8)
PRECEDENCE[REASONS_BY_PRECEDENCE] = np.arange(len(REASONS_BY_PRECEDENCE))
"""Position of each reason in that order, by its code. Code 0, no reason, comes last."""

UNANSWERED_REASON = {
    Reason.UNSUBSCRIBED: Reason.SUBSCRIPTION_SERVICE,
    Reason.NDNC: Reason.SUBSCRIPTION_SERVICE,
    Reason.COUPON_ID_MISSING: Reason.COUPON_ISSUE,
    Reason.COUPON_DATE_FORMAT: Reason.COUPON_ISSUE,
    Reason.COUPON_EXPIRED: Reason.COUPON_ISSUE,
    Reason.COUPON_REDEEMED: Reason.COUPON_ISSUE,
}
"""For reasons that only a service can report: the reason that applies when it has no answer."""


def assign_reason(reasons: NDArray[np.int8], where: NDArray[np.bool_], reason: Reason) -> None:
    """Give messages a reason in place, except those with a reason that takes precedence."""
    reasons[where & (PRECEDENCE[reasons] > PRECEDENCE[reason])] = reason


def add_possible_reason(
    possible_reasons: NDArray[np.int32],
    reasons: NDArray[np.int8],
    where: NDArray[np.bool_],
    reason: Reason,
) -> None:
    """Set the bit of a reason in place where it could take precedence over the assigned reason."""
    possible_reasons[where & (PRECEDENCE[reasons] > PRECEDENCE[reason])] |= 1 << reason
