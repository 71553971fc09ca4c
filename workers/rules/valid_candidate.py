"""Make candidates for tests of checks; no check blocks an unchanged one."""

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
    id=1, name="Acme Retail", enabled=True, credit=None, hard_bounce_limit=2, soft_bounce_limit=3
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
    "campaign": tuple(field.name for field in fields(Campaign) if field.name != "organization"),
    "organization": tuple(field.name for field in fields(Organization)),
    "candidate": ("subscription", "coupon", "referral", "recent", "failed"),
}
"""The fields of each part of a candidate. A name belongs to the first part that has it."""


def make_valid_candidate(**overrides: Any) -> Candidate:
    """Return a candidate that no check blocks, except for its overrides.

    The names of overrides are those in `FIELDS_BY_PART`. The candidate has a coupon or a referral
    if the campaign requires it. `mobile` is a number in international form. `custom` may be a
    dictionary. A wrong name or value raises `TypeError` or `ValueError`.
    """
    by_part: dict[str, dict[str, Any]] = {part: {} for part in FIELDS_BY_PART}
    for name, value in overrides.items():
        by_part[_find_part(name)][name] = value
    organization = replace(VALID_ORGANIZATION, **by_part["organization"])
    campaign = replace(
        VALID_CAMPAIGN, organization=organization, **_parse_campaign_fields(by_part["campaign"])
    )
    candidate = Candidate(
        customer=VALID_CUSTOMER._replace(**_parse_customer_fields(by_part["customer"])),
        campaign=campaign,
        subscription=Subscription(**by_part["subscription"]),
        coupon=VALID_COUPON._replace(**by_part["coupon"])
        if "coupon" in campaign.requires
        else None,
        referral="R-c0" if "referral" in campaign.requires else None,
    )
    return candidate._replace(**by_part["candidate"])


def _find_part(name: str) -> str:
    for part, names in FIELDS_BY_PART.items():
        if name in names:
            return part
    all_names = [field for names in FIELDS_BY_PART.values() for field in names]
    raise TypeError(f"a candidate has no {name!r}{suggest_similar(name, all_names)}")


def _parse_campaign_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    parsed = dict(values)
    if "channel" in parsed:
        if parsed["channel"] not in [*Channel]:
            raise ValueError(
                f"channel: got {parsed['channel']!r}; expected {join_with_or([*Channel])}"
            )
        parsed["channel"] = Channel(parsed["channel"])
    if "requires" in parsed:
        if isinstance(parsed["requires"], str):
            raise TypeError(f"requires: got {parsed['requires']!r}; expected a tuple of strings")
        parsed["requires"] = validate_requirements(parsed["requires"])
    return parsed


def _parse_customer_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    parsed = dict(values)
    if "mobile" in parsed:
        if not isinstance(parsed["mobile"], str | None):
            raise TypeError(f"mobile: got {parsed['mobile']!r}; expected a string or None")
        parsed.setdefault("mobile_e164", to_e164(parsed["mobile"] or ""))
    if "custom" in parsed:
        parsed["custom"] = _encode_custom_data(parsed["custom"])
    return parsed


def _encode_custom_data(value: object) -> str:
    """Return custom data as it is recorded: the text of a JSON object."""
    try:
        data = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise TypeError(
            f'custom: got {value!r}; expected a dictionary such as {{"tag:city": "Ulm"}}'
        )
    return json.dumps(data)
