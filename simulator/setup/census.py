"""The oracle's knowledge of imported customers: a few bytes each, collected during the import.

This module repeats the rules independently of the checks, because a run tests the checks.
"""

import hashlib
import io
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import IntFlag
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from simulator.audience.formats import DuplicatePolicy
from simulator.audience.row_parser import CustomerRecord
from simulator.forced import find_forced_outcome
from simulator.scenario.plan import PlannedCampaign
from simulator.schema import audience_census
from simulator.setup.message_costs import list_record, make_customer_cost
from simulator.world.defects import NO_DEFECT
from tracker.status import Channel, Reason
from workers.gateways.base import load_gateway_kind
from workers.gateways.safety import is_reserved

NEVER_EXPIRES = date.max.toordinal()
"""The last day of a coupon without a valid date."""

MAX_COUNTED_BOUNCES = 32_767
"""Largest number of bounces that an int16 holds; more are counted as this many."""

_HARD_BOUNCES, _SOFT_BOUNCES = "hard_bounces", "soft_bounces"
_COUPON_EXPIRES, _TODAY = "coupon_expires", "today"
_RESTRICTIONS, _SKIPS_DUPLICATES = "restrictions", "skips_duplicates"
_RECORD_PREFIX, _COUPON_PREFIX, _COST_PREFIX = "record:", "coupon:", "cost:"
_KEY_PREFIX = "key:"
"""Names of the arrays in a recorded census; names of campaigns or channels follow the prefixes."""

NO_KEY = 0
"""Hash of an address that isn't compared."""


class Restriction(IntFlag):
    """Restrictions of messages in a customer's record, bounces apart."""

    UNSUBSCRIBED_EMAIL = 1
    UNSUBSCRIBED_SMS = 2
    NDNC = 4


@dataclass(frozen=True)
class ImportedAudience:
    """The oracle's knowledge of the customers of an audience file.

    Every array has one element for each customer, in the order of the file. Days are numbered as by
    `date.toordinal`.

    Attributes:
        record_defects: by campaign, the code of the reason for which a customer's record blocks the
            message, bounces apart; NO_DEFECT for none. A negative code is that of the outcome which
            the address of a sound customer forces (`ForcedOutcome`), negated.
        coupon_defects: by campaign, the code of the reason for which a coupon blocks the message,
            its date apart.
        hard_bounces: by channel; a file says the same of both.
        soft_bounces: by channel, as well.
        coupon_expires: last day of each customer's coupon.
        today: day on which the run begins.
        restrictions: bits of `Restriction` that each customer's record has.
        keys: by channel, a hash of each customer's address as it is compared; NO_KEY where it
            isn't.
        skips_duplicates: whether only the first customer with an address may get the message.
        costs: by campaign, the credit that the message to each customer costs, where it differs.
    """

    record_defects: Mapping[str, NDArray[np.int8]]
    coupon_defects: Mapping[str, NDArray[np.int8]]
    hard_bounces: Mapping[Channel, NDArray[np.int16]]
    soft_bounces: Mapping[Channel, NDArray[np.int16]]
    coupon_expires: NDArray[np.int32]
    today: int
    restrictions: NDArray[np.int8]
    keys: Mapping[Channel, NDArray[np.uint64]]
    skips_duplicates: bool
    costs: Mapping[str, NDArray[np.int16]] = field(default_factory=dict)


class AudienceScanner:
    """A collector of the oracle's data while customers are imported for some campaigns."""

    def __init__(
        self,
        campaigns: Sequence[PlannedCampaign],
        today: date,
        duplicates: DuplicatePolicy = DuplicatePolicy.SKIP,
    ) -> None:
        self._campaigns = campaigns
        self._today = today.toordinal()
        self._record_defects = {campaign.name: bytearray() for campaign in campaigns}
        self._coupon_defects = {campaign.name: bytearray() for campaign in campaigns}
        self._hard_bounces, self._soft_bounces = array("h"), array("h")
        self._expires = array("i")
        self._cost_functions = {
            campaign.name: cost
            for campaign in campaigns
            if not isinstance(cost := make_customer_cost(campaign), int)
        }
        self._costs = {name: array("h") for name in self._cost_functions}
        self._skips_duplicates = duplicates is DuplicatePolicy.SKIP
        self._restrictions = bytearray()
        self._keys = {channel: array("Q") for channel in Channel}

    def scan(self, customers: Iterable[CustomerRecord]) -> Iterator[CustomerRecord]:
        """Yield the customers unchanged and collect what the oracle needs of them."""
        for customer in customers:
            for campaign in self._campaigns:
                defect = _find_record_defect(customer, campaign)
                self._record_defects[campaign.name].append(defect & 0xFF)
                has_coupon = "coupon" in campaign.requires
                self._coupon_defects[campaign.name].append(
                    _find_coupon_defect(customer) if has_coupon else NO_DEFECT
                )
            for name, find_cost in self._cost_functions.items():
                self._costs[name].append(find_cost(list_record(customer)))
            self._expires.append(_find_last_day(customer) or NEVER_EXPIRES)
            self._hard_bounces.append(min(customer.hard_bounces_email, MAX_COUNTED_BOUNCES))
            self._soft_bounces.append(min(customer.soft_bounces_email, MAX_COUNTED_BOUNCES))
            self._restrictions.append(_find_restrictions(customer))
            self._keys[Channel.EMAIL].append(hash_key(customer.email_key))
            self._keys[Channel.SMS].append(hash_key(customer.mobile_key))
            yield customer

    def build_imported_audience(self) -> ImportedAudience:
        """Return what was collected of the customers scanned so far."""
        return ImportedAudience(
            _to_arrays(self._record_defects),
            _to_arrays(self._coupon_defects),
            dict.fromkeys(Channel, np.array(self._hard_bounces, np.int16)),
            dict.fromkeys(Channel, np.array(self._soft_bounces, np.int16)),
            np.array(self._expires, np.int32),
            self._today,
            np.frombuffer(self._restrictions, np.int8),
            {channel: np.array(hashes, np.uint64) for channel, hashes in self._keys.items()},
            self._skips_duplicates,
            {name: np.array(costs, np.int16) for name, costs in self._costs.items()},
        )


def record_census(connection: Connection, audience_id: int, imported: ImportedAudience) -> None:
    """Record what is known of an audience, because campaigns change its customers later."""
    content = io.BytesIO()
    arrays: dict[str, NDArray[Any]] = {
        _HARD_BOUNCES: imported.hard_bounces[Channel.EMAIL],
        _SOFT_BOUNCES: imported.soft_bounces[Channel.EMAIL],
        _COUPON_EXPIRES: imported.coupon_expires,
        _TODAY: np.array(imported.today),
        _RESTRICTIONS: imported.restrictions,
        _SKIPS_DUPLICATES: np.array(imported.skips_duplicates),
        **{_KEY_PREFIX + channel: hashes for channel, hashes in imported.keys.items()},
        **{_RECORD_PREFIX + name: codes for name, codes in imported.record_defects.items()},
        **{_COUPON_PREFIX + name: codes for name, codes in imported.coupon_defects.items()},
        **{_COST_PREFIX + name: costs for name, costs in imported.costs.items()},
    }
    np.savez_compressed(content, allow_pickle=False, **arrays)
    connection.execute(
        sa.insert(audience_census).values(audience_id=audience_id, content=content.getvalue())
    )


def replace_keys(
    connection: Connection, audience_id: int, hashes: Mapping[Channel, tuple[int, int]]
) -> None:
    """Replace the hash of an address by another one in a recorded census, if there is one.

    Args:
        hashes: the old hash and the new one, by channel.
    """
    query = sa.select(audience_census.c.content).where(audience_census.c.audience_id == audience_id)
    content = connection.scalar(query)
    if content is None:
        return
    with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
        arrays = dict(loaded)
    for channel, (old, new) in hashes.items():
        keys = arrays[_KEY_PREFIX + channel]
        arrays[_KEY_PREFIX + channel] = np.where(keys == old, np.uint64(new), keys)
    replaced = io.BytesIO()
    np.savez_compressed(replaced, allow_pickle=False, **arrays)
    connection.execute(
        sa.update(audience_census)
        .where(audience_census.c.audience_id == audience_id)
        .values(content=replaced.getvalue())
    )


def load_census(connection: Connection, audience_id: int) -> ImportedAudience:
    """Return an imported audience as it was at its import."""
    query = sa.select(audience_census.c.content).where(audience_census.c.audience_id == audience_id)
    with np.load(io.BytesIO(connection.scalars(query).one()), allow_pickle=False) as arrays:
        return ImportedAudience(
            record_defects=_select_arrays(arrays, _RECORD_PREFIX),
            coupon_defects=_select_arrays(arrays, _COUPON_PREFIX),
            hard_bounces=dict.fromkeys(Channel, arrays[_HARD_BOUNCES]),
            soft_bounces=dict.fromkeys(Channel, arrays[_SOFT_BOUNCES]),
            coupon_expires=arrays[_COUPON_EXPIRES],
            today=int(arrays[_TODAY]),
            costs=_select_arrays(arrays, _COST_PREFIX),
            restrictions=arrays[_RESTRICTIONS],
            keys={channel: arrays[_KEY_PREFIX + channel] for channel in Channel},
            skips_duplicates=bool(arrays[_SKIPS_DUPLICATES]),
        )


def _select_arrays(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with a prefix, by the rest of their names."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays[name] for name in names}


def _to_arrays(codes: Mapping[str, bytearray]) -> dict[str, NDArray[np.int8]]:
    return {name: np.frombuffer(column, np.int8) for name, column in codes.items()}


def _find_record_defect(customer: CustomerRecord, campaign: PlannedCampaign) -> int:
    """Return the first defect of a customer's record, in the order of the checks."""
    by_email = campaign.channel is Channel.EMAIL
    requirements = set(campaign.requires)
    if customer.unsubscribed_email if by_email else customer.unsubscribed_sms:
        return Reason.UNSUBSCRIBED
    if not by_email and customer.ndnc:
        return Reason.NDNC
    if by_email and customer.email is None:
        return Reason.EMAIL_MISSING
    if not by_email and customer.mobile_e164 is None:
        return Reason.MOBILE_MISSING_OR_INVALID
    if "membership" in requirements and not customer.loyalty_member:
        return Reason.NOT_IN_LOYALTY_PROGRAM
    has = {
        "last_store": customer.last_store is not None,
        "profile": customer.profile is not None,
        **{key: bool(value) for key, value in json.loads(customer.custom).items()},
    }
    required_data = requirements - {"membership", "coupon", "referral"}
    if any(not has.get(name, False) for name in required_data):
        return Reason.DATA_MISSING
    address = (customer.email if by_email else customer.mobile_e164) or ""
    reaches_people = load_gateway_kind(campaign.gateway.kind).reaches_people
    if reaches_people and is_reserved(campaign.channel, address):
        return Reason.GATEWAY_CONFIGURATION
    forced = find_forced_outcome(campaign.channel, address)
    return NO_DEFECT if forced is None else -forced


def _find_restrictions(customer: CustomerRecord) -> int:
    return (
        Restriction.UNSUBSCRIBED_EMAIL * customer.unsubscribed_email
        + Restriction.UNSUBSCRIBED_SMS * customer.unsubscribed_sms
        + Restriction.NDNC * customer.ndnc
    )


def hash_key(key: str | None) -> int:
    """Return a number of 64 bits for an address as it is compared."""
    if key is None:
        return NO_KEY
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) or 1


def _find_coupon_defect(customer: CustomerRecord) -> int:
    """Return the first defect of a customer's coupon, in the order of the checks."""
    if customer.coupon_id is None:
        return Reason.COUPON_ID_MISSING
    if customer.coupon_expires is not None and _find_last_day(customer) is None:
        return Reason.COUPON_DATE_FORMAT
    return Reason.COUPON_REDEEMED if customer.coupon_redeemed else NO_DEFECT


def _find_last_day(customer: CustomerRecord) -> int | None:
    """Return the last day of a customer's coupon; None without a valid date."""
    try:
        return date.fromisoformat(customer.coupon_expires or "").toordinal()
    except ValueError:
        return None
