"""The checks: what each of them blocks, and that a message gets exactly one verdict."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.organizations import CouponSeries
from tracker.queries.next_step import CHECK_STEPS
from tracker.status import Channel, Reason, Step
from workers.candidates import Candidate, Customer, RecentMessages
from workers.checks.base import (
    Check,
    Defer,
    InvalidVerdict,
    all_checks,
    check,
    checks_of,
    sort_checks,
)
from workers.checks.judging import FAILED_CHECK_REASON, CheckFailure, Verdicts, judge_candidates
from workers.rules.pytest_plugin import Judge
from workers.rules.valid_candidate import VALID_CAMPAIGN, VALID_ORGANIZATION, make_valid_candidate
from workers.services.base import Coupon, ServiceName, Subscription

NOW = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)

Make = Callable[..., Candidate]


@dataclass(frozen=True)
class Example:
    """A valid candidate with some overrides, and whether the check `check` blocks it."""

    check: str
    title: str
    is_blocked: bool
    overrides: dict[str, Any]


def blocks(check: str, title: str, **overrides: Any) -> Example:
    return Example(check, title, True, overrides)


def passes(check: str, title: str, **overrides: Any) -> Example:
    return Example(check, title, False, overrides)


def coupon(**overrides: Any) -> dict[str, Any]:
    """Return overrides for a campaign that requires a coupon."""
    return {"requires": ("coupon",), **overrides}


def failing(service: ServiceName) -> dict[str, Any]:
    """Return overrides for a candidate for whom a service gave no answer."""
    return {"requires": ("coupon", "referral"), "failed": frozenset({service})}


INACTIVE_SERIES = CouponSeries(name="last-year", active=False)

HIGH_LIMITS = {"hard_bounce_limit": 5, "soft_bounce_limit": 9}

EXAMPLES = (
    passes("organization_disabled", "enabled"),
    blocks("organization_disabled", "disabled", enabled=False),
    passes("configuration", "channel on, sender set"),
    blocks("configuration", "channel off", channel_enabled=False),
    blocks("configuration", "no sender", channel="sms", sender=""),
    passes("unsubscribed", "subscribed"),
    blocks("unsubscribed", "email", unsubscribed=True),
    blocks("unsubscribed", "sms", channel="sms", unsubscribed=True),
    passes("unsubscribed", "subscription unknown", subscription=None),
    blocks("ndnc", "sms to a listed number", channel="sms", ndnc=True),
    passes("ndnc", "sms to an unlisted number", channel="sms"),
    passes("ndnc", "subscription unknown", channel="sms", subscription=None),
    passes("ndnc", "email", ndnc=True),
    passes("bounced_repeatedly", "never"),
    passes("bounced_repeatedly", "1 hard", hard_bounces=1),
    blocks("bounced_repeatedly", "2 hard", hard_bounces=2),
    passes("bounced_repeatedly", "2 soft", soft_bounces=2),
    blocks("bounced_repeatedly", "3 soft", soft_bounces=3),
    passes("bounced_repeatedly", "below the limits", **HIGH_LIMITS, hard_bounces=4, soft_bounces=8),
    blocks("bounced_repeatedly", "soft limit reached", **HIGH_LIMITS, soft_bounces=9),
    passes("message_limit", "unlimited", recent=99),
    passes("message_limit", "one below the limit", message_limit=2, recent=1),
    blocks("message_limit", "limit reached", message_limit=2, recent=2),
    blocks("message_limit", "limit exceeded", channel="sms", message_limit=2, recent=3),
    passes("subscription_service", "answered"),
    passes("subscription_service", "another failed", **failing(ServiceName.COUPON)),
    blocks("subscription_service", "failed", **failing(ServiceName.SUBSCRIPTION)),
    passes("duplicate_recipient", "first of its address"),
    blocks("duplicate_recipient", "a later one", is_duplicate=True),
    blocks("email_missing", "none", email=None),
    blocks("email_missing", "empty", email=""),
    passes("email_missing", "malformed is not missing", email="anna"),
    passes("email_missing", "sms", channel="sms", email=None),
    blocks("mobile_missing_or_invalid", "none", channel="sms", mobile=None, mobile_e164=None),
    blocks("mobile_missing_or_invalid", "no number", channel="sms", mobile="12", mobile_e164=None),
    passes("mobile_missing_or_invalid", "possible", channel="sms"),
    passes("mobile_missing_or_invalid", "email", mobile_e164=None),
    blocks(
        "not_in_loyalty_program", "not a member", requires=("membership",), loyalty_member=False
    ),
    passes("not_in_loyalty_program", "member", requires=("membership",)),
    passes(
        "not_in_loyalty_program",
        "membership not required",
        requires=("coupon",),
        loyalty_member=False,
    ),
    blocks("coupon_configuration", "unknown series", **coupon(coupon_series=None)),
    blocks("coupon_configuration", "inactive series", **coupon(coupon_series=INACTIVE_SERIES)),
    passes("coupon_configuration", "active", **coupon()),
    passes("coupon_configuration", "not required", coupon_series=None),
    blocks("coupon_id_missing", "none", **coupon(coupon_id=None)),
    passes("coupon_id_missing", "one", **coupon()),
    passes("coupon_id_missing", "not required", coupon_id=None),
    blocks("coupon_date_format", "words", **coupon(expires="end of season")),
    blocks("coupon_date_format", "day first", **coupon(expires="31/12/2031")),
    blocks("coupon_date_format", "impossible date", **coupon(expires="2027-02-29")),
    passes("coupon_date_format", "a date", **coupon()),
    passes("coupon_date_format", "past date", **coupon(expires="2020-01-31")),
    passes("coupon_date_format", "never expires", **coupon(expires=None)),
    passes("coupon_date_format", "not required", expires="soon"),
    blocks("coupon_expired", "yesterday", **coupon(expires="2026-11-23")),
    passes("coupon_expired", "last day", **coupon(expires="2026-11-24")),
    passes("coupon_expired", "never expires", **coupon(expires=None)),
    passes("coupon_expired", "not a date", **coupon(expires="soon")),
    passes("coupon_expired", "not required", expires="2020-01-31"),
    blocks("coupon_redeemed", "redeemed", **coupon(redeemed=True)),
    passes("coupon_redeemed", "not yet", **coupon()),
    passes("coupon_redeemed", "not required", redeemed=True),
    blocks("data_missing", "no store", requires=("last_store",), last_store=None),
    passes("data_missing", "a store", requires=("last_store",)),
    blocks("data_missing", "no profile", requires=("profile",), profile=None),
    passes("data_missing", "a profile", requires=("profile",)),
    blocks("data_missing", "no tag", requires=("tag:city",)),
    blocks("data_missing", "empty tag", requires=("tag:city",), custom='{"tag:city":""}'),
    passes("data_missing", "a tag", requires=("tag:city",), custom='{"tag:city":"X"}'),
    blocks("data_missing", "tag instead of field", requires=("field:a",), custom='{"tag:a":"X"}'),
    blocks("data_missing", "one of two", channel="sms", requires=("last_store", "field:size")),
    passes("data_missing", "no data required", requires=("coupon", "membership", "referral")),
    passes("data_missing", "not required", last_store=None, profile=None),
    passes("gateway_configuration", "enabled"),
    blocks("gateway_configuration", "disabled", gateway_enabled=False),
    blocks("gateway_configuration", "real gateway, reserved address", gateway_kind="smtp"),
    passes(
        "gateway_configuration",
        "real gateway, real address",
        gateway_kind="smtp",
        email="anna@shop.internal",
    ),
    passes("coupon_issue", "answered", **coupon()),
    passes("coupon_issue", "another failed", **failing(ServiceName.REFERRAL)),
    blocks("coupon_issue", "failed", **failing(ServiceName.COUPON)),
    passes("referral_service", "answered", requires=("referral",)),
    passes("referral_service", "another failed", **failing(ServiceName.SUBSCRIPTION)),
    blocks("referral_service", "failed", **failing(ServiceName.REFERRAL)),
)


INSTALLED = {check.name: check for check in all_checks()}

OTHER_REASONS = {reason for reason in Reason if reason.step not in CHECK_STEPS}
"""Reasons that no shipped check gives."""


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{example.check}-{example.title}" for example in EXAMPLES]
)
def test_a_check_blocks_its_examples_alone(example: Example, candidate: Make, judge: Judge) -> None:
    check, made = INSTALLED[example.check], candidate(**example.overrides)
    assert check.rule(made, NOW) is example.is_blocked
    assert (judge(made, now=NOW).reason is check.reason) is example.is_blocked


def test_missing_data_is_named(candidate: Make) -> None:
    data_missing = INSTALLED["data_missing"]
    assert data_missing.detail is not None
    made = candidate(
        requires=("last_store", "tag:vip", "field:first name"),
        last_store=None,
        custom='{"tag:vip": "yes"}',
    )
    assert data_missing.detail(made) == "last_store, field:first name"


def test_every_reason_has_examples_of_both_kinds() -> None:
    for is_blocked in (True, False):
        covered = {example.check for example in EXAMPLES if example.is_blocked is is_blocked}
        assert covered == set(INSTALLED)
    assert {check.reason for check in INSTALLED.values()} == {*Reason} - OTHER_REASONS


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

requirements = st.lists(
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
    lambda requires, **fields: replace(VALID_CAMPAIGN, requires=tuple(requires), **fields),
    requires=requirements,
    channel=st.sampled_from(Channel),
    organization=organizations,
    channel_enabled=mostly,
    sender=st.sampled_from(["Acme", "Acme", ""]),
    coupon_series=st.sampled_from(
        [VALID_CAMPAIGN.coupon_series, VALID_CAMPAIGN.coupon_series, INACTIVE_SERIES, None]
    ),
    gateway_enabled=mostly,
)

candidates = st.builds(
    Candidate,
    customers,
    campaigns,
    st.none() | st.builds(Subscription, flags, flags),
    st.integers(0, 2).map(lambda recent: RecentMessages(lambda: dict.fromkeys(range(12), recent))),
    flags,
    st.none() | st.builds(Coupon, texts, dates, flags),
    texts,
    st.frozensets(st.sampled_from(ServiceName), max_size=2),
    flags,
)

batches = st.lists(candidates, min_size=1, max_size=12).map(
    lambda batch: [
        candidate._replace(customer=candidate.customer._replace(number=number))
        for number, candidate in enumerate(batch)
    ]
)

each_step = pytest.mark.parametrize("step", [Step.SUPPRESS, Step.VALIDATE])


@each_step
@given(batch=batches)
def test_the_first_check_that_blocks_gives_the_only_reason(
    step: Step, batch: list[Candidate]
) -> None:
    checks = checks_of(step)
    verdicts = judge_candidates(batch, checks, NOW)

    given_reasons: dict[int, Reason] = {}
    for reason, numbers in verdicts.blocked.items():
        for number in numbers:
            assert number not in given_reasons, "a message has one reason"
            given_reasons[number] = reason
    for candidate in batch:
        blocking = [check.reason for check in checks if check.rule(candidate, NOW)]
        assert given_reasons.get(candidate.number) == min(blocking, default=None)
    assert (verdicts.failure_counts, verdicts.errors) == ({}, {})


@each_step
@given(batch=batches, data=st.data())
def test_a_verdict_does_not_depend_on_batch_mates(
    step: Step, batch: list[Candidate], data: st.DataObject
) -> None:
    together = judge_candidates(batch, checks_of(step), NOW).blocked
    for candidate in batch:
        number = candidate.number
        alone = judge_candidates([candidate], checks_of(step), NOW).blocked
        assert alone == {
            reason: [number] for reason, blocked in together.items() if number in blocked
        }
    shuffled = judge_candidates(data.draw(st.permutations(batch)), checks_of(step), NOW).blocked
    assert {reason: sorted(numbers) for reason, numbers in shuffled.items()} == together


@check(Reason.NDNC, step=Step.SUPPRESS, order=35)
def odd(candidate: Candidate, now: datetime) -> bool:
    """Fail on odd numbers."""
    if candidate.number % 2:
        raise ZeroDivisionError(candidate.number)
    return False


def make_batch(*numbers: int, **overrides: Any) -> list[Candidate]:
    return [make_valid_candidate(number=number, **overrides) for number in numbers]


@pytest.mark.parametrize(
    ("batch", "checks", "blocked", "failure_counts"),
    [
        pytest.param(
            make_batch(0, 1, 2, 3),
            [odd],
            {FAILED_CHECK_REASON: [1, 3]},
            {"odd": 2},
            id="two of four",
        ),
        pytest.param(make_batch(0, 2), [odd], {}, {}, id="none fails"),
        pytest.param(
            make_batch(0, 1, hard_bounces=2),
            [odd, INSTALLED["bounced_repeatedly"]],
            {Reason.BOUNCED_REPEATEDLY: [0], FAILED_CHECK_REASON: [1]},
            {"odd": 1},
            id="another check blocks a batch mate",
        ),
        pytest.param(
            make_batch(1, hard_bounces=2),
            [replace(odd, order=55), INSTALLED["bounced_repeatedly"]],
            {Reason.BOUNCED_REPEATEDLY: [1]},
            {},
            id="an earlier check blocks",
        ),
    ],
)
def test_a_check_that_raises_blocks_its_message_as_a_system_error(
    batch: list[Candidate],
    checks: list[Check],
    blocked: dict[Reason, list[int]],
    failure_counts: dict[str, int],
) -> None:
    verdicts = judge_candidates(batch, sort_checks(checks), NOW)
    assert FAILED_CHECK_REASON is Reason.RULE_FAILED
    assert (verdicts.blocked, verdicts.failure_counts) == (blocked, failure_counts)
    assert {name: type(error) for name, error in verdicts.errors.items()} == dict.fromkeys(
        failure_counts, ZeroDivisionError
    )
    if failure_counts:
        assert verdicts.errors["odd"].args == (1,), "the first error is kept"
    assert verdicts.failures == {
        number: CheckFailure("odd", f"ZeroDivisionError: {number}")
        for number in blocked.get(FAILED_CHECK_REASON, [])
    }


@pytest.mark.parametrize(
    ("describe", "details"),
    [
        (lambda _: None, {}),
        (lambda candidate: f"of {candidate.number}", {1: "of 1", 3: "of 3"}),
        (lambda candidate: [][candidate.number], dict.fromkeys((1, 3), "IndexError: list index")),
        (
            lambda _: 7,
            dict.fromkeys((1, 3), "InvalidVerdict: detail returned 7; expected a text or None"),
        ),
    ],
)
def test_a_check_may_describe_what_it_blocks(
    describe: Callable[[Candidate], Any], details: dict[int, str]
) -> None:
    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1, detail=describe)
    def uneven(candidate: Candidate, now: datetime) -> bool:
        """Block odd numbers."""
        return candidate.number % 2 == 1

    verdicts = judge_candidates(make_batch(0, 1, 2, 3), [uneven], NOW)
    assert verdicts.blocked == {Reason.CUSTOM_RULE: [1, 3]}
    assert verdicts.details.keys() == details.keys()
    assert all(text.startswith(details[number]) for number, text in verdicts.details.items())


def test_a_decorated_rule_can_be_called() -> None:
    assert odd(make_valid_candidate(number=2), NOW) is False
    with pytest.raises(ZeroDivisionError):
        odd(make_valid_candidate(number=1), NOW)


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (None, "decides returned None; expected True, False or Defer"),
        (1, "decides returned 1; expected True, False or Defer"),
        (Defer(NOW), "decides deferred until 2026-11-24 23:59:00"),
    ],
)
def test_a_call_of_a_rule_without_a_valid_verdict_is_an_error(verdict: Any, message: str) -> None:
    @check(Reason.CUSTOM_RULE, step=Step.SUPPRESS, order=1)
    def decides(candidate: Candidate, now: datetime) -> Any:
        """Decide as the test says."""
        return verdict

    with pytest.raises(InvalidVerdict, match=message):
        decides(make_valid_candidate(), NOW)


def test_an_empty_batch_has_no_verdicts() -> None:
    assert judge_candidates([], all_checks(), NOW) == Verdicts()
