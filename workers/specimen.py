"""A candidate in perfect order, for tests of checks: everybody may write to this customer."""

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from tracker.catalog import Campaign, CouponSeries, Organization
from tracker.status import Channel
from workers.candidates import Candidate, Customer
from workers.services import Coupon, Subscription

ACME = Organization(
    id=1, name="Acme Retail", enabled=True, credit=None, hard_bounce_limit=1, soft_bounce_limit=3
)

SPRING = Campaign(
    id=1,
    run_id=1,
    name="spring",
    channel=Channel.EMAIL,
    requires=(),
    attempts=1,
    audience_id=1,
    organization=ACME,
    gateway_id=1,
    gateway_kind="simulated",
    gateway_settings="{}",
    seed=None,
    started_at=0,
    speed=1.0,
    sender="Acme Retail",
    coupon_series=CouponSeries(name="spring", active=True),
)

ANNA = Customer(
    number=0,
    customer_id="c0",
    email="anna@example.com",
    mobile="+447700900000",
    mobile_e164="+447700900000",
    loyalty_member=True,
    last_store="Store 1",
    profile="standard",
)

COUPON = Coupon(coupon_id="CPN-0", expires="2099-12-31")

PARTS: Mapping[str, tuple[str, ...]] = {
    "customer": Customer._fields,
    "subscription": Subscription._fields,
    "coupon": Coupon._fields,
    "campaign": tuple(each.name for each in fields(Campaign) if each.name != "organization"),
    "organization": tuple(each.name for each in fields(Organization)),
    "candidate": ("subscription", "coupon", "referral", "recent", "failed"),
}
"""The parts of a candidate and their fields. A field is looked for in this order."""


def specimen(**different: Any) -> Candidate:
    """A candidate whom no check speaks against, but for what is ``different``.

    The coupon and the referral are there if the campaign requires them.
    """
    given: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for name, value in different.items():
        given[_part_of(name)][name] = value
    if "channel" in given["campaign"]:
        given["campaign"]["channel"] = Channel(given["campaign"]["channel"])
    organization = replace(ACME, **given["organization"])
    campaign = replace(SPRING, organization=organization, **given["campaign"])
    return Candidate(
        customer=ANNA._replace(**given["customer"]),
        campaign=campaign,
        subscription=Subscription(**given["subscription"]),
        coupon=COUPON._replace(**given["coupon"]) if "coupon" in campaign.requires else None,
        referral="R-c0" if "referral" in campaign.requires else None,
    )._replace(**given["candidate"])


def _part_of(name: str) -> str:
    for part, names in PARTS.items():
        if name in names:
            return part
    known = [each for names in PARTS.values() for each in names]
    near = " or ".join(get_close_matches(name, known, n=3)) or "another name"
    raise TypeError(f"a candidate has no {name!r}; did you mean {near}?")
