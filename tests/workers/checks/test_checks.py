"""The checks: what each speaks against, and that a message gets exactly one verdict."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.record.catalog import CouponSeries
from tracker.status import Channel, Reason, Step
from workers.candidates import Candidate, Customer
from workers.checks.base import (
    FAILED_CHECK_REASON,
    Check,
    Verdicts,
    all_checks,
    check,
    checks_of,
    judge,
    sort_checks,
)
from workers.rules.pytest_plugin import Judge
from workers.rules.valid_candidate import VALID_CAMPAIGN, VALID_ORGANIZATION, specimen
from workers.services.base import Coupon, ServiceName, Subscription

NOW = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)

Make = Callable[..., Candidate]


@dataclass(frozen=True)
class Example:
    """What is different about a candidate, and whether the check ``check`` speaks against it."""

    check: str
    title: str
    speaks: bool
    different: dict[str, Any]


def against(check: str, title: str, **different: Any) -> Example:
    return Example(check, title, True, different)


def nothing(check: str, title: str, **different: Any) -> Example:
    return Example(check, title, False, different)


def coupon(**different: Any) -> dict[str, Any]:
    """A campaign that gives coupons, of which the customer's is ``different``."""
    return {"requires": ("coupon",), **different}


def failing(service: ServiceName) -> dict[str, Any]:
    """A service has no answer."""
    return {"requires": ("coupon", "referral"), "failed": frozenset({service})}


STALE = CouponSeries(name="last-year", active=False)

PATIENT = {"hard_bounce_limit": 5, "soft_bounce_limit": 9}

EXAMPLES = (
    nothing("organization_disabled", "enabled"),
    against("organization_disabled", "disabled", enabled=False),
    nothing("configuration", "all in order"),
    against("configuration", "channel off", channel_enabled=False),
    against("configuration", "no sender", channel="sms", sender=""),
    nothing("unsubscribed", "subscribed"),
    against("unsubscribed", "email", unsubscribed=True),
    against("unsubscribed", "sms", channel="sms", unsubscribed=True),
    nothing("unsubscribed", "nobody knows", subscription=None),
    against("ndnc", "sms to a listed number", channel="sms", ndnc=True),
    nothing("ndnc", "sms to an unlisted number", channel="sms"),
    nothing("ndnc", "nobody knows", channel="sms", subscription=None),
    nothing("ndnc", "email", ndnc=True),
    nothing("bounced_repeatedly", "never"),
    against("bounced_repeatedly", "1 hard", hard_bounces=1),
    nothing("bounced_repeatedly", "2 soft", soft_bounces=2),
    against("bounced_repeatedly", "3 soft", soft_bounces=3),
    nothing(
        "bounced_repeatedly", "fewer than one takes", **PATIENT, hard_bounces=4, soft_bounces=8
    ),
    against("bounced_repeatedly", "as many soft ones as one takes", **PATIENT, soft_bounces=9),
    nothing("message_limit", "unlimited", recent=99),
    nothing("message_limit", "one to go", message_limit=2, recent=1),
    against("message_limit", "had them all", message_limit=2, recent=2),
    against("message_limit", "had more", channel="sms", message_limit=2, recent=3),
    nothing("subscription_service", "answered"),
    nothing("subscription_service", "another failed", **failing(ServiceName.COUPON)),
    against("subscription_service", "failed", **failing(ServiceName.SUBSCRIPTION)),
    against("email_missing", "none", email=None),
    against("email_missing", "empty", email=""),
    nothing("email_missing", "malformed is not missing", email="anna"),
    nothing("email_missing", "sms", channel="sms", email=None),
    against("mobile_missing_or_invalid", "none", channel="sms", mobile=None, mobile_e164=None),
    against("mobile_missing_or_invalid", "no number", channel="sms", mobile="12", mobile_e164=None),
    nothing("mobile_missing_or_invalid", "possible", channel="sms"),
    nothing("mobile_missing_or_invalid", "email", mobile_e164=None),
    against("not_in_loyalty_program", "no member", requires=("membership",), loyalty_member=False),
    nothing("not_in_loyalty_program", "member", requires=("membership",)),
    nothing("not_in_loyalty_program", "for everybody", requires=("coupon",), loyalty_member=False),
    against("coupon_configuration", "no such series", **coupon(coupon_series=None)),
    against("coupon_configuration", "series is over", **coupon(coupon_series=STALE)),
    nothing("coupon_configuration", "active", **coupon()),
    nothing("coupon_configuration", "not needed", coupon_series=None),
    against("coupon_id_missing", "none", **coupon(coupon_id=None)),
    nothing("coupon_id_missing", "one", **coupon()),
    nothing("coupon_id_missing", "not needed", coupon_id=None),
    against("coupon_date_format", "words", **coupon(expires="end of season")),
    against("coupon_date_format", "day first", **coupon(expires="31/12/2031")),
    against("coupon_date_format", "no such day", **coupon(expires="2027-02-29")),
    nothing("coupon_date_format", "a date", **coupon()),
    nothing("coupon_date_format", "past is a date", **coupon(expires="2020-01-31")),
    nothing("coupon_date_format", "never expires", **coupon(expires=None)),
    nothing("coupon_date_format", "not needed", expires="soon"),
    against("coupon_expired", "yesterday", **coupon(expires="2026-11-23")),
    nothing("coupon_expired", "its last day", **coupon(expires="2026-11-24")),
    nothing("coupon_expired", "never expires", **coupon(expires=None)),
    nothing("coupon_expired", "no date", **coupon(expires="soon")),
    nothing("coupon_expired", "not needed", expires="2020-01-31"),
    against("coupon_redeemed", "redeemed", **coupon(redeemed=True)),
    nothing("coupon_redeemed", "not yet", **coupon()),
    nothing("coupon_redeemed", "not needed", redeemed=True),
    against("data_missing", "no store", requires=("last_store",), last_store=None),
    nothing("data_missing", "a store", requires=("last_store",)),
    against("data_missing", "no profile", requires=("profile",), profile=None),
    nothing("data_missing", "a profile", requires=("profile",)),
    against("data_missing", "no tag", requires=("tag:city",)),
    against("data_missing", "empty tag", requires=("tag:city",), custom='{"tag:city":""}'),
    nothing("data_missing", "a tag", requires=("tag:city",), custom='{"tag:city":"X"}'),
    against("data_missing", "tag is no field", requires=("field:a",), custom='{"tag:a":"X"}'),
    against("data_missing", "one of two", channel="sms", requires=("last_store", "field:size")),
    nothing("data_missing", "needs none", requires=("coupon", "membership", "referral")),
    nothing("data_missing", "not needed", last_store=None, profile=None),
    nothing("gateway_configuration", "in use"),
    against("gateway_configuration", "not in use", gateway_enabled=False),
    nothing("coupon_issue", "answered", **coupon()),
    nothing("coupon_issue", "another failed", **failing(ServiceName.REFERRAL)),
    against("coupon_issue", "failed", **failing(ServiceName.COUPON)),
    nothing("referral_service", "answered", requires=("referral",)),
    nothing("referral_service", "another failed", **failing(ServiceName.SUBSCRIPTION)),
    against("referral_service", "failed", **failing(ServiceName.REFERRAL)),
)


INSTALLED = {each.name: each for each in all_checks()}

NO_CHECKS = {Reason.OUT_OF_CREDIT, Reason.TIMEOUT, Reason.HANDLER_NOT_FOUND}
"""Reasons that no check gives, but the step dispatch."""


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{each.check}-{each.title}" for each in EXAMPLES]
)
def test_a_check_speaks_against_what_it_is_for(
    example: Example, candidate: Make, judge: Judge
) -> None:
    check, made = INSTALLED[example.check], candidate(**example.different)
    assert check.rule(made, NOW) is example.speaks
    assert (judge(made, now=NOW) is check.reason) is example.speaks


def test_every_reason_has_examples_of_both_kinds() -> None:
    for speaks in (True, False):
        assert {each.check for each in EXAMPLES if each.speaks is speaks} == set(INSTALLED)
    assert {each.reason for each in INSTALLED.values()} == {*Reason} - NO_CHECKS


texts = st.sampled_from([None, "", "x"])
dates = st.sampled_from([None, "", "soon", "2020-01-31", "2026-11-24", "2099-12-31"])
counts = st.integers(min_value=0, max_value=4)
flags = st.booleans()
mostly = st.sampled_from([True, True, True, False])

customers = st.builds(
    Customer,
    number=st.just(0),
    customer_id=st.just("c"),
    email=texts,
    mobile_e164=texts,
    loyalty_member=flags,
    hard_bounces=counts,
    soft_bounces=counts,
    last_store=texts,
    profile=texts,
    custom=st.sampled_from(["{}", '{"tag:a":"x"}', '{"field:a":"x"}']),
)

needs = st.lists(
    st.sampled_from(
        ["coupon", "referral", "membership", "last_store", "profile", "tag:a", "field:a"]
    ),
    unique=True,
    max_size=3,
)

organizations = st.builds(
    lambda enabled, hard, soft, limit: replace(
        VALID_ORGANIZATION,
        enabled=enabled,
        hard_bounce_limit=hard,
        soft_bounce_limit=soft,
        message_limit=limit,
    ),
    mostly,
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([None, 1, 2]),
)

campaigns = st.builds(
    lambda requires, **different: replace(VALID_CAMPAIGN, requires=tuple(requires), **different),
    requires=needs,
    channel=st.sampled_from(Channel),
    organization=organizations,
    channel_enabled=mostly,
    sender=st.sampled_from(["Acme", "Acme", ""]),
    coupon_series=st.sampled_from(
        [VALID_CAMPAIGN.coupon_series, VALID_CAMPAIGN.coupon_series, STALE, None]
    ),
    gateway_enabled=mostly,
)

candidates = st.builds(
    Candidate,
    customers,
    campaigns,
    st.none() | st.builds(Subscription, flags, flags),
    st.none() | st.builds(Coupon, texts, dates, flags),
    texts,
    st.integers(0, 2),
    st.frozensets(st.sampled_from(ServiceName), max_size=2),
)

batches = st.lists(candidates, min_size=1, max_size=12).map(
    lambda batch: [
        each._replace(customer=each.customer._replace(number=number))
        for number, each in enumerate(batch)
    ]
)

judging_steps = pytest.mark.parametrize("step", [Step.SUPPRESS, Step.VALIDATE])


@judging_steps
@given(batch=batches)
def test_the_first_reason_that_speaks_is_the_only_verdict(
    step: Step, batch: list[Candidate]
) -> None:
    checks = checks_of(step)
    verdicts = judge(batch, checks, NOW)

    given_reasons: dict[int, Reason] = {}
    for reason, numbers in verdicts.blocked.items():
        for number in numbers:
            assert number not in given_reasons, "a message has one reason"
            given_reasons[number] = reason
    for candidate in batch:
        speaking = [check.reason for check in checks if check.rule(candidate, NOW)]
        assert given_reasons.get(candidate.number) == min(speaking, default=None)
    assert (verdicts.failure_counts, verdicts.errors) == ({}, {})


@judging_steps
@given(batch=batches, data=st.data())
def test_a_verdict_does_not_depend_on_batch_mates(
    step: Step, batch: list[Candidate], data: st.DataObject
) -> None:
    together = judge(batch, checks_of(step), NOW).blocked
    for candidate in batch:
        number = candidate.number
        alone = judge([candidate], checks_of(step), NOW).blocked
        assert alone == {reason: [number] for reason, all_ in together.items() if number in all_}
    shuffled = judge(data.draw(st.permutations(batch)), checks_of(step), NOW).blocked
    assert {reason: sorted(numbers) for reason, numbers in shuffled.items()} == together


@check(Reason.NDNC, step=Step.SUPPRESS, order=35)
def odd(candidate: Candidate, now: datetime) -> bool:
    """Can't say anything about odd numbers."""
    if candidate.number % 2:
        raise ZeroDivisionError(candidate.number)
    return False


def of_numbers(*numbers: int, **different: Any) -> list[Candidate]:
    return [specimen(number=number, **different) for number in numbers]


@pytest.mark.parametrize(
    ("batch", "checks", "stopped", "broken"),
    [
        pytest.param(
            of_numbers(0, 1, 2, 3),
            [odd],
            {FAILED_CHECK_REASON: [1, 3]},
            {"odd": 2},
            id="two of four",
        ),
        pytest.param(of_numbers(0, 2), [odd], {}, {}, id="of nobody"),
        pytest.param(
            of_numbers(0, 1, hard_bounces=1),
            [odd, INSTALLED["bounced_repeatedly"]],
            {Reason.BOUNCED_REPEATEDLY: [0], FAILED_CHECK_REASON: [1]},
            {"odd": 1},
            id="others speak of its batch mates",
        ),
        pytest.param(
            of_numbers(1, hard_bounces=1),
            [replace(odd, order=55), INSTALLED["bounced_repeatedly"]],
            {Reason.BOUNCED_REPEATEDLY: [1]},
            {},
            id="one before it has spoken",
        ),
    ],
)
def test_a_check_that_raises_makes_its_message_a_system_error(
    batch: list[Candidate],
    checks: list[Check],
    blocked: dict[Reason, list[int]],
    failure_counts: dict[str, int],
) -> None:
    verdicts = judge(batch, sort_checks(checks), NOW)
    assert FAILED_CHECK_REASON is Reason.TIMEOUT
    assert (verdicts.blocked, verdicts.failure_counts) == (blocked, failure_counts)
    assert {name: type(error) for name, error in verdicts.errors.items()} == dict.fromkeys(
        failure_counts, ZeroDivisionError
    )
    if failure_counts:
        assert verdicts.errors["odd"].args == (1,), "the first"


def test_nobody_is_judged() -> None:
    assert judge([], all_checks(), NOW) == Verdicts({})
