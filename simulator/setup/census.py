"""What the oracle knows of imported customers, noted while they are read: a few bytes each.

The rules stand here a second time, plainly, and not as the checks have them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from simulator.scenario.audience_file import CustomerRecord
from simulator.scenario.sections import Campaign
from simulator.world.defects import NO_DEFECT
from simulator.world.forced import POISON_OUTCOMES, find_forced_outcome
from tracker.status import Channel, Reason

MAX_COUNTED_BOUNCES = 32_767
"""More bounces are not counted: the highest that an int16 holds."""


@dataclass(frozen=True)
class ImportedAudience:
    """Arrays with a place for each customer. By campaign, ``labels`` say what is wrong with a
    record, bounces apart, and ``coupons`` what is wrong with a coupon. A label below zero says what
    the address of a sound customer forces: a code of :class:`ForcedOutcome`, negated."""

    labels: Mapping[str, NDArray[np.int8]]
    coupons: Mapping[str, NDArray[np.int8]]
    hard_bounces: NDArray[np.int16]
    soft_bounces: NDArray[np.int16]


class AudienceScanner:
    """Takes down customers on their way into the record, for the campaigns that they are for."""

    def __init__(self, campaigns: Sequence[Campaign], today: date) -> None:
        self._campaigns = campaigns
        self._today = today
        self._labels = {each.name: bytearray() for each in campaigns}
        self._coupons = {each.name: bytearray() for each in campaigns}
        self._bounces: list[tuple[int, int]] = []

    def scan(self, customers: Iterable[CustomerRecord]) -> Iterator[CustomerRecord]:
        """Hand customers on, and take them down."""
        for customer in customers:
            for campaign in self._campaigns:
                self._labels[campaign.name].append(_find_record_defect(customer, campaign) & 0xFF)
                coupon = _find_coupon_defect(customer, self._today)
                self._coupons[campaign.name].append(
                    coupon if "coupon" in campaign.requires else NO_DEFECT
                )
            hard, soft = customer.hard_bounces_email, customer.soft_bounces_email
            self._bounces.append((min(hard, MAX_COUNTED_BOUNCES), min(soft, MAX_COUNTED_BOUNCES)))
            yield customer

    def build_imported_audience(self) -> ImportedAudience:
        hard, soft = np.array(self._bounces, np.int16).reshape(-1, 2).T
        labels, coupons = (
            {name: np.frombuffer(each, np.int8) for name, each in taken.items()}
            for taken in (self._labels, self._coupons)
        )
        return ImportedAudience(labels, coupons, hard, soft)


def _find_record_defect(customer: CustomerRecord, campaign: Campaign) -> int:
    """What is wrong with a customer: the first that applies, in the order of the rule book."""
    by_email = campaign.channel is Channel.EMAIL
    needs = set(campaign.requires)
    if customer.unsubscribed_email if by_email else customer.unsubscribed_sms:
        return Reason.UNSUBSCRIBED
    if not by_email and customer.ndnc:
        return Reason.NDNC
    if by_email and customer.email is None:
        return Reason.EMAIL_MISSING
    if not by_email and customer.mobile_e164 is None:
        return Reason.MOBILE_MISSING_OR_INVALID
    if "membership" in needs and not customer.loyalty_member:
        return Reason.NOT_IN_LOYALTY_PROGRAM
    has = {
        "last_store": customer.last_store is not None,
        "profile": customer.profile is not None,
        **{key: bool(value) for key, value in json.loads(customer.custom).items()},
    }
    if any(not has.get(each, False) for each in needs - {"membership", "coupon", "referral"}):
        return Reason.DATA_MISSING
    address = (customer.email if by_email else customer.mobile_e164) or ""
    forced = find_forced_outcome(campaign.channel, address)
    if forced in POISON_OUTCOMES:
        return Reason.TIMEOUT
    return NO_DEFECT if forced is None else -forced


def _find_coupon_defect(customer: CustomerRecord, today: date) -> int:
    if customer.coupon_id is None:
        return Reason.COUPON_ID_MISSING
    if customer.coupon_expires is not None:
        try:
            expires = date.fromisoformat(customer.coupon_expires)
        except ValueError:
            return Reason.COUPON_DATE_FORMAT
        if expires < today:
            return Reason.COUPON_EXPIRED
    return Reason.COUPON_REDEEMED if customer.coupon_redeemed else NO_DEFECT
