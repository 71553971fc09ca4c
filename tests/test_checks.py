"""The checks: what each speaks against, and that a message gets exactly one verdict."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factory import ACME, SPRING
from tracker.catalog import CouponSeries
from tracker.status import Channel, Reason, Step
from workers.candidates import Candidate, Customer
from workers.checks.base import (
    BROKEN,
    Check,
    Verdicts,
    all_checks,
    check,
    checks_of,
    in_order,
    judge,
)
from workers.services import Coupon, ServiceName, Subscription

NOW = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)

ANNA = Customer(number=0, customer_id="c0", email="anna@example.com", mobile_e164="+447700900000")


def email(*requires: str, customer: Customer = ANNA, **different: Any) -> Candidate:
    """A message of an email campaign that needs ``requires`` and is ``different``."""
    return Candidate(customer, replace(SPRING, requires=requires, **different), Subscription())


def sms(*requires: str, customer: Customer = ANNA, **different: Any) -> Candidate:
    """The same of an SMS campaign."""
    return email(*requires, customer=customer, channel=Channel.SMS, **different)


def anna(**different: Any) -> Customer:
    """A sound customer but for what is ``different``."""
    return ANNA._replace(**different)


def said(candidate: Candidate, **different: Any) -> Candidate:
    """A candidate of whom we were told something else."""
    return candidate._replace(**different)


def with_coupon(**different: Any) -> Candidate:
    """A message with a coupon, which is good but for what is ``different``."""
    return said(email("coupon"), coupon=Coupon("CPN-0", "2026-12-31")._replace(**different))


def failing(service: ServiceName) -> Candidate:
    """A message for which a service has no answer."""
    return said(email("coupon", "referral"), subscription=None, failed=frozenset({service}))


@dataclass(frozen=True)
class Example:
    """A candidate, and whether the check called ``check`` speaks against it."""

    check: str
    title: str
    speaks: bool
    candidate: Candidate


def against(check: str, title: str, candidate: Candidate) -> Example:
    return Example(check, title, True, candidate)


def nothing(check: str, title: str, candidate: Candidate) -> Example:
    return Example(check, title, False, candidate)


PATIENT = replace(ACME, hard_bounce_limit=5, soft_bounce_limit=9)
LIMITED = replace(ACME, message_limit=2)
STALE = CouponSeries(name="last-year", active=False)

EXAMPLES = (
    nothing("organization_disabled", "enabled", email()),
    against("organization_disabled", "disabled", email(organization=replace(ACME, enabled=False))),
    nothing("configuration", "all in order", email()),
    against("configuration", "channel off", email(channel_enabled=False)),
    against("configuration", "no sender", sms(sender="")),
    nothing("unsubscribed", "subscribed", email()),
    against("unsubscribed", "email", said(email(), subscription=Subscription(unsubscribed=True))),
    against("unsubscribed", "sms", said(sms(), subscription=Subscription(unsubscribed=True))),
    nothing("unsubscribed", "nobody knows", said(email(), subscription=None)),
    against("ndnc", "sms to a listed number", said(sms(), subscription=Subscription(ndnc=True))),
    nothing("ndnc", "sms to an unlisted number", sms()),
    nothing("ndnc", "nobody knows", said(sms(), subscription=None)),
    nothing("ndnc", "email", said(email(), subscription=Subscription(ndnc=True))),
    nothing("bounced_repeatedly", "never", email()),
    against("bounced_repeatedly", "1 hard", email(customer=anna(hard_bounces=1))),
    nothing("bounced_repeatedly", "2 soft", email(customer=anna(soft_bounces=2))),
    against("bounced_repeatedly", "3 soft", email(customer=anna(soft_bounces=3))),
    nothing(
        "bounced_repeatedly",
        "fewer than a patient organization takes",
        email(organization=PATIENT, customer=anna(hard_bounces=4, soft_bounces=8)),
    ),
    against(
        "bounced_repeatedly",
        "as many soft ones as a patient organization takes",
        email(organization=PATIENT, customer=anna(soft_bounces=9)),
    ),
    nothing("message_limit", "unlimited", said(email(), recent=99)),
    nothing("message_limit", "one to go", said(email(organization=LIMITED), recent=1)),
    against("message_limit", "had them all", said(email(organization=LIMITED), recent=2)),
    against("message_limit", "had more", said(sms(organization=LIMITED), recent=3)),
    nothing("subscription_service", "answered", email()),
    nothing("subscription_service", "another failed", failing(ServiceName.COUPON)),
    against("subscription_service", "failed", failing(ServiceName.SUBSCRIPTION)),
    against("email_missing", "none", email(customer=anna(email=None))),
    against("email_missing", "empty", email(customer=anna(email=""))),
    nothing("email_missing", "malformed is not missing", email(customer=anna(email="anna"))),
    nothing("email_missing", "sms", sms(customer=anna(email=None))),
    against("mobile_missing_or_invalid", "none", sms(customer=anna(mobile_e164=None))),
    against(
        "mobile_missing_or_invalid", "no number", sms(customer=anna(mobile="12", mobile_e164=None))
    ),
    nothing("mobile_missing_or_invalid", "possible", sms()),
    nothing("mobile_missing_or_invalid", "email", email(customer=anna(mobile_e164=None))),
    against("not_in_loyalty_program", "no member", email("membership")),
    nothing(
        "not_in_loyalty_program", "member", email("membership", customer=anna(loyalty_member=True))
    ),
    nothing("not_in_loyalty_program", "for everybody", email("coupon")),
    against("coupon_configuration", "no such series", email("coupon", coupon_series=None)),
    against("coupon_configuration", "series is over", email("coupon", coupon_series=STALE)),
    nothing("coupon_configuration", "active", email("coupon")),
    nothing("coupon_configuration", "not needed", email(coupon_series=None)),
    against("coupon_id_missing", "none", with_coupon(coupon_id=None)),
    nothing("coupon_id_missing", "one", with_coupon()),
    nothing("coupon_id_missing", "not needed", email()),
    against("coupon_date_format", "words", with_coupon(expires="end of season")),
    against("coupon_date_format", "day first", with_coupon(expires="31/12/2031")),
    against("coupon_date_format", "no such day", with_coupon(expires="2027-02-29")),
    nothing("coupon_date_format", "a date", with_coupon()),
    nothing("coupon_date_format", "past is a date", with_coupon(expires="2020-01-31")),
    nothing("coupon_date_format", "never expires", with_coupon(expires=None)),
    nothing("coupon_date_format", "not needed", email()),
    against("coupon_expired", "yesterday", with_coupon(expires="2026-11-23")),
    nothing("coupon_expired", "its last day", with_coupon(expires="2026-11-24")),
    nothing("coupon_expired", "never expires", with_coupon(expires=None)),
    nothing("coupon_expired", "no date", with_coupon(expires="soon")),
    nothing("coupon_expired", "not needed", email()),
    against("coupon_redeemed", "redeemed", with_coupon(redeemed=True)),
    nothing("coupon_redeemed", "not yet", with_coupon()),
    nothing("coupon_redeemed", "not needed", email()),
    against("data_missing", "no store", email("last_store")),
    nothing("data_missing", "a store", email("last_store", customer=anna(last_store="Pune"))),
    against("data_missing", "no profile", email("profile", customer=anna(last_store="Pune"))),
    nothing("data_missing", "a profile", email("profile", customer=anna(profile="gold"))),
    against("data_missing", "no tag", email("tag:city")),
    against(
        "data_missing", "empty tag", email("tag:city", customer=anna(custom='{"tag:city":""}'))
    ),
    nothing("data_missing", "a tag", email("tag:city", customer=anna(custom='{"tag:city":"X"}'))),
    against(
        "data_missing", "tag is no field", email("field:a", customer=anna(custom='{"tag:a":"X"}'))
    ),
    against(
        "data_missing",
        "one of two",
        sms("last_store", "field:size", customer=anna(last_store="Pune")),
    ),
    nothing("data_missing", "needs none", email("coupon", "membership", "referral")),
    nothing("data_missing", "not needed", email()),
    nothing("gateway_configuration", "in use", email()),
    against("gateway_configuration", "not in use", email(gateway_enabled=False)),
    nothing("coupon_issue", "answered", with_coupon()),
    nothing("coupon_issue", "another failed", failing(ServiceName.REFERRAL)),
    against("coupon_issue", "failed", failing(ServiceName.COUPON)),
    nothing("referral_service", "answered", said(email("referral"), referral="R-c0")),
    nothing("referral_service", "another failed", failing(ServiceName.SUBSCRIPTION)),
    against("referral_service", "failed", failing(ServiceName.REFERRAL)),
)


INSTALLED = {each.name: each for each in all_checks()}

NO_CHECKS = {Reason.OUT_OF_CREDIT, Reason.TIMEOUT, Reason.HANDLER_NOT_FOUND}
"""Reasons that no check gives, but the step dispatch."""


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{each.check}-{each.title}" for each in EXAMPLES]
)
def test_a_check_speaks_against_what_it_is_for(example: Example) -> None:
    assert INSTALLED[example.check].rule(example.candidate, NOW) is example.speaks


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
        ACME, enabled=enabled, hard_bounce_limit=hard, soft_bounce_limit=soft, message_limit=limit
    ),
    mostly,
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([None, 1, 2]),
)

campaigns = st.builds(
    lambda requires, **different: replace(SPRING, requires=tuple(requires), **different),
    requires=needs,
    channel=st.sampled_from(Channel),
    organization=organizations,
    channel_enabled=mostly,
    sender=st.sampled_from(["Acme", "Acme", ""]),
    coupon_series=st.sampled_from([SPRING.coupon_series, SPRING.coupon_series, STALE, None]),
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
    for reason, numbers in verdicts.stopped.items():
        for number in numbers:
            assert number not in given_reasons, "a message has one reason"
            given_reasons[number] = reason
    for candidate in batch:
        speaking = [check.reason for check in checks if check.rule(candidate, NOW)]
        assert given_reasons.get(candidate.number) == min(speaking, default=None)
    assert (verdicts.broken, verdicts.errors) == ({}, {})


@judging_steps
@given(batch=batches, data=st.data())
def test_a_verdict_does_not_depend_on_batch_mates(
    step: Step, batch: list[Candidate], data: st.DataObject
) -> None:
    together = judge(batch, checks_of(step), NOW).stopped
    for candidate in batch:
        number = candidate.number
        alone = judge([candidate], checks_of(step), NOW).stopped
        assert alone == {reason: [number] for reason, all_ in together.items() if number in all_}
    shuffled = judge(data.draw(st.permutations(batch)), checks_of(step), NOW).stopped
    assert {reason: sorted(numbers) for reason, numbers in shuffled.items()} == together


@check(Reason.NDNC, step=Step.SUPPRESS, order=35)
def odd(candidate: Candidate, now: datetime) -> bool:
    """Can't say anything about odd numbers."""
    if candidate.number % 2:
        raise ZeroDivisionError(candidate.number)
    return False


def of_numbers(*numbers: int, **different: Any) -> list[Candidate]:
    return [email(customer=anna(number=number, **different)) for number in numbers]


@pytest.mark.parametrize(
    ("batch", "checks", "stopped", "broken"),
    [
        pytest.param(of_numbers(0, 1, 2, 3), [odd], {BROKEN: [1, 3]}, {"odd": 2}, id="two of four"),
        pytest.param(of_numbers(0, 2), [odd], {}, {}, id="of nobody"),
        pytest.param(
            of_numbers(0, 1, hard_bounces=1),
            [odd, INSTALLED["bounced_repeatedly"]],
            {Reason.BOUNCED_REPEATEDLY: [0], BROKEN: [1]},
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
    stopped: dict[Reason, list[int]],
    broken: dict[str, int],
) -> None:
    verdicts = judge(batch, in_order(checks), NOW)
    assert BROKEN is Reason.TIMEOUT
    assert (verdicts.stopped, verdicts.broken) == (stopped, broken)
    assert {name: type(error) for name, error in verdicts.errors.items()} == dict.fromkeys(
        broken, ZeroDivisionError
    )
    if broken:
        assert verdicts.errors["odd"].args == (1,), "the first"


def test_nobody_is_judged() -> None:
    assert judge([], all_checks(), NOW) == Verdicts({})
