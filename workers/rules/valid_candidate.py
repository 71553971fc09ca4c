"""Make candidates for tests of checks; no check blocks an unchanged one."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from tracker.clock import to_iso_8601
from tracker.organizations import CouponSeries, Organization
from tracker.record.catalog import Campaign
from tracker.status import Channel, Step
from tracker.text import join_with_or, suggest_similar
from workers.candidates import (
    Candidate,
    Customer,
    RecentMessages,
    reaches_people,
    required_services,
)
from workers.checks.base import parse_check_step
from workers.checks.validation import validate_requirements
from workers.mobile import to_e164
from workers.services.base import Coupon, ServiceName, Subscription

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
    "candidate": ("subscription", "coupon", "referral", "recent", "failed", "is_duplicate"),
}
"""The fields of each part of a candidate. A name belongs to the first part that has it."""


EXAMPLES = {
    "custom": '{"tag:city": "Ulm"}',
    "rules": '{"quiet_hours": {"until": 8}}',
}
"""Examples of values that are dictionaries."""

SERVICES = (ServiceName.SUBSCRIPTION, ServiceName.COUPON, ServiceName.REFERRAL)
"""The services whose answers a candidate has, each named like the part that it answers with."""


def make_valid_candidate(*, step: Step | str | None = None, **overrides: Any) -> Candidate:
    """Return a candidate that no check blocks, except for its overrides.

    The names of overrides are those in `FIELDS_BY_PART`. The candidate has a coupon or a referral
    if the campaign requires it. `mobile` is a number in international form. `custom` may be a
    dictionary. A wrong name or value raises `TypeError` or `ValueError`.

    Args:
        step: the candidate has exactly what this step has; None for what any step has.
        overrides: the values that differ from the valid ones.
    """
    by_part: dict[str, dict[str, Any]] = {part: {} for part in FIELDS_BY_PART}
    for name, value in overrides.items():
        by_part[_find_part(name)][name] = value
    organization = replace(VALID_ORGANIZATION, **by_part["organization"])
    campaign = replace(
        VALID_CAMPAIGN, organization=organization, **_parse_campaign_fields(by_part["campaign"])
    )
    customer = VALID_CUSTOMER._replace(**_parse_customer_fields(by_part["customer"]))
    given = by_part["candidate"]
    if "recent" in given:
        recent = {customer.number: given.pop("recent")}
        given["recent_messages"] = RecentMessages(lambda: recent)
    answers: dict[str, Any] = {
        ServiceName.SUBSCRIPTION: Subscription(**by_part["subscription"]),
        ServiceName.COUPON: VALID_COUPON._replace(**by_part["coupon"]),
        ServiceName.REFERRAL: "R-c0",
    }
    for service in SERVICES:
        is_called = service is ServiceName.SUBSCRIPTION or service in campaign.requires
        if not is_called or service in given.get("failed", ()):
            answers[service] = None
    default = Candidate(customer, campaign, gateway_reaches_people=reaches_people(campaign))
    candidate = default._replace(**{**answers, **given})
    if step is None:
        return candidate
    step = parse_check_step(step)
    for service in set(SERVICES) - set(required_services(step, campaign)):
        for name in [*by_part.get(service, ()), *(name for name in given if name == service)]:
            raise TypeError(f"{name}: the step {step} of this campaign has no {service}")
    return candidate.narrowed(step)


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
    if "rules" in parsed:
        parsed["rules"] = _encode_object("rules", parsed["rules"])
    return parsed


def _parse_customer_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    parsed = dict(values)
    if "mobile" in parsed:
        if not isinstance(parsed["mobile"], str | None):
            raise TypeError(f"mobile: got {parsed['mobile']!r}; expected a string or None")
        parsed.setdefault("mobile_e164", to_e164(parsed["mobile"] or ""))
    if "custom" in parsed:
        parsed["custom"] = _encode_object("custom", parsed["custom"])
    return parsed


def _encode_object(name: str, value: object) -> str:
    """Return a dictionary as it is recorded: the text of a JSON object."""
    try:
        data = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise TypeError(f"{name}: got {value!r}; expected a dictionary such as {EXAMPLES[name]}")
    return json.dumps(data, default=to_iso_8601)
