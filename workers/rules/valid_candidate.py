"""A candidate in perfect order, for tests of checks: everybody may write to this customer."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from tracker.record.catalog import Campaign, CouponSeries, Organization
from tracker.status import Channel
from tracker.text import join_with_or, suggest_similar
from workers.candidates import Candidate, Customer, validate_requirements
from workers.checks.mobile import to_e164
from workers.services.base import Coupon, Subscription

VALID_ORGANIZATION = Organization(
    id=1, name="Acme Retail", enabled=True, credit=None, hard_bounce_limit=1, soft_bounce_limit=3
)

VALID_CAMPAIGN = Campaign(
    id=1,
    run_id=1,
    name="spring",
    channel=Channel.EMAIL,
    requires=(),
    attempts=1,
    audience_id=1,
    organization=VALID_ORGANIZATION,
    gateway_id=1,
    gateway_kind="simulated",
    gateway_settings="{}",
    seed=None,
    started_at=0,
    speed=1.0,
    sender="Acme Retail",
    coupon_series=CouponSeries(name="spring", active=True),
)

VALID_CUSTOMER = Customer(
    number=0,
    customer_id="c0",
    email="anna@example.com",
    mobile="+447700900000",
    mobile_e164="+447700900000",
    loyalty_member=True,
    last_store="Store 1",
    profile="standard",
)

VALID_COUPON = Coupon(coupon_id="CPN-0", expires="2099-12-31")

FIELDS_BY_PART: Mapping[str, tuple[str, ...]] = {
    "customer": Customer._fields,
    "subscription": Subscription._fields,
    "coupon": Coupon._fields,
    "campaign": tuple(each.name for each in fields(Campaign) if each.name != "organization"),
    "organization": tuple(each.name for each in fields(Organization)),
    "candidate": ("subscription", "coupon", "referral", "recent", "failed"),
}
"""The parts of a candidate and their fields. A field is looked for in this order."""


def make_valid_candidate(**overrides: Any) -> Candidate:
    """A candidate whom no check speaks against, but for what is ``overrides``.

    The coupon and the referral are there if the campaign requires them. The ``mobile`` is read as a
    number in international form; ``custom`` may be a dictionary. :exc:`TypeError` or
    :exc:`ValueError` where something is no part of a candidate, or can't be.
    """
    given: dict[str, dict[str, Any]] = {part: {} for part in FIELDS_BY_PART}
    for name, value in overrides.items():
        given[_find_part(name)][name] = value
    organization = replace(VALID_ORGANIZATION, **given["organization"])
    campaign = replace(
        VALID_CAMPAIGN, organization=organization, **_parse_campaign_fields(given["campaign"])
    )
    return Candidate(
        customer=VALID_CUSTOMER._replace(**_parse_customer_fields(given["customer"])),
        campaign=campaign,
        subscription=Subscription(**given["subscription"]),
        coupon=VALID_COUPON._replace(**given["coupon"]) if "coupon" in campaign.requires else None,
        referral="R-c0" if "referral" in campaign.requires else None,
    )._replace(**given["candidate"])


def _parse_campaign_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    read = dict(given)
    if "channel" in read and read["channel"] not in [*Channel]:
        raise ValueError(
            f"there is no channel {read['channel']!r}; expected {join_with_or([*Channel])}"
        )
    if "channel" in read:
        read["channel"] = Channel(read["channel"])
    if isinstance(read.get("requires"), str):
        raise TypeError(f"requires={read['requires']!r} is one text; expected a tuple of them")
    if "requires" in read:
        read["requires"] = validate_requirements(read["requires"])
    return read


def _parse_customer_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    read = dict(given)
    if "mobile" in read:
        if not isinstance(read["mobile"], str | None):
            raise TypeError(f"mobile={read['mobile']!r}: expected a text or None")
        read.setdefault("mobile_e164", to_e164(read["mobile"] or ""))
    if "custom" in read:
        read["custom"] = _encode_custom_data(read["custom"])
    return read


def _encode_custom_data(given: object) -> str:
    """Custom data as it is recorded: the text of a JSON object."""
    try:
        values = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise TypeError(f'custom={given!r}: expected a dictionary like {{"tag:city": "Ulm"}}')
    return json.dumps(values)


def _find_part(name: str) -> str:
    for part, names in FIELDS_BY_PART.items():
        if name in names:
            return part
    known = [each for names in FIELDS_BY_PART.values() for each in names]
    raise TypeError(f"a candidate has no {name!r}{suggest_similar(name, known)}")
