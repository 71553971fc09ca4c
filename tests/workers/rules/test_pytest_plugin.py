"""The pytest plugin for rule developers: the fixtures `candidate` and `judge`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.factory import Plan, ScriptedServices, make_batch
from tracker.errors import UsageError
from tracker.queries.next_step import CHECK_STEPS
from tracker.status import Channel, Reason, Step
from tracker.store.database import Database
from workers.candidates import Candidate, load_candidates
from workers.checks.base import Check, check
from workers.rules.pytest_plugin import Judge
from workers.services.base import MAX_SERVICE_CALLS, ServiceName, SqlServices

Make = Callable[..., Candidate]


@check(Reason.CONFIGURATION, step=Step.VALIDATE, order=15)
def quiet_hours(candidate: Candidate, now: datetime) -> bool:
    """Block messages before 6:00."""
    return now.hour < 6


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def fragile(candidate: Candidate, now: datetime) -> bool:
    """Fail on every message."""
    raise LookupError("no luck")


@check(Reason.CONFIGURATION, step=Step.VALIDATE, order=99)
def fragile_later(candidate: Candidate, now: datetime) -> bool:
    """Fail on every message."""
    raise LookupError("no luck")


@pytest.mark.parametrize("channel", Channel)
def test_no_check_blocks_an_unchanged_candidate(
    candidate: Make, judge: Judge, channel: str
) -> None:
    requires = ("coupon", "referral", "membership", "last_store", "profile")
    assert judge(candidate(channel=channel, requires=requires)).reason is None


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"email": None}, Reason.EMAIL_MISSING),
        ({"unsubscribed": True}, Reason.UNSUBSCRIBED),
        ({"channel": "sms", "ndnc": True}, Reason.NDNC),
        ({"requires": ("coupon",), "expires": "2020-01-31"}, Reason.COUPON_EXPIRED),
        ({"enabled": False}, Reason.ORGANIZATION_DISABLED),
        ({"message_limit": 2, "recent": 2}, Reason.MESSAGE_LIMIT),
        ({"requires": ("tag:city",)}, Reason.DATA_MISSING),
        ({"requires": ("tag:city",), "custom": '{"tag:city": "Ulm"}'}, None),
        ({"requires": ("tag:city",), "custom": {"tag:city": "Ulm"}}, None),
        ({"channel": "sms", "mobile": None}, Reason.MOBILE_MISSING_OR_INVALID),
        ({"channel": "sms", "mobile": ""}, Reason.MOBILE_MISSING_OR_INVALID),
        ({"channel": "sms", "mobile": "123"}, Reason.MOBILE_MISSING_OR_INVALID),
        ({"channel": "sms", "mobile": "0044 7700 900001"}, None),
        ({"channel": "sms", "mobile": None, "mobile_e164": "+447700900001"}, None),
    ],
)
def test_a_keyword_overrides_its_field(
    candidate: Make, judge: Judge, overrides: dict[str, object], reason: Reason | None
) -> None:
    assert judge(candidate(**overrides)).reason is reason


def test_an_extra_check_runs_at_its_position(candidate: Make, judge: Judge) -> None:
    night = datetime(2026, 6, 15, 3, tzinfo=UTC)
    assert judge(candidate(), quiet_hours, now=night).reason is Reason.CONFIGURATION
    assert judge(candidate(), quiet_hours).reason is None
    assert judge(candidate(email=None), quiet_hours, now=night).reason is Reason.EMAIL_MISSING
    verdict = judge(candidate(loyalty_member=False), quiet_hours, now=night)
    assert (verdict.reason, verdict.check) == (Reason.CONFIGURATION, "quiet_hours")
    assert verdict
    assert not judge(candidate())


def test_only_the_given_checks_judge(candidate: Make, judge: Judge) -> None:
    night = datetime(2026, 6, 15, 3, tzinfo=UTC)
    assert not judge(candidate(email=None), only=[quiet_hours])
    assert judge(candidate(email=None), only=[quiet_hours], now=night).check == "quiet_hours"
    assert judge(candidate(), fragile_later, only=[quiet_hours], now=night).check == "quiet_hours"


def test_a_verdict_has_what_its_check_says(candidate: Make, judge: Judge) -> None:
    verdict = judge(candidate(unsubscribed=True, marked_spam=True))
    assert (verdict.reason, verdict.check) == (Reason.UNSUBSCRIBED, "unsubscribed")
    assert verdict.detail == "the customer marked a message as spam"


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=15)
def needs_coupon(candidate: Candidate, now: datetime) -> bool:
    """Read a coupon, which the step doesn't have."""
    assert candidate.coupon is not None, "the step has no coupon"
    return False


@check(Reason.CONFIGURATION, step=Step.VALIDATE, order=15)
def needs_subscription(candidate: Candidate, now: datetime) -> bool:
    """Read a subscription, which the step doesn't have."""
    assert candidate.subscription is not None, "the step has no subscription"
    return False


@pytest.mark.parametrize("rule", [needs_coupon, needs_subscription])
def test_a_rule_sees_what_its_step_has(candidate: Make, judge: Judge, rule: Check) -> None:
    made = candidate(requires=("coupon",))
    with pytest.raises(AssertionError, match="the step has no"):
        judge(made, rule)
    with pytest.raises(AssertionError, match="the step has no"):
        judge(made, only=[rule])
    with pytest.raises(AssertionError, match="the step has no"):
        rule(made, datetime(2026, 6, 15, 3, tzinfo=UTC))


@pytest.mark.parametrize("failed", [frozenset(), frozenset(ServiceName)])
@pytest.mark.parametrize("requires", [(), ("coupon",), ("referral", "coupon")])
@pytest.mark.parametrize("step", CHECK_STEPS)
def test_a_candidate_of_a_step_has_exactly_what_the_step_has(
    database: Database,
    candidate: Make,
    step: Step,
    requires: Sequence[str],
    failed: frozenset[ServiceName],
) -> None:
    """The same values are present, and absent, as in a run."""
    campaign = make_batch(database, Plan(size=1, requires=requires)).campaign
    failing = ScriptedServices({name: [[0]] * MAX_SERVICE_CALLS for name in failed})
    services = failing if failed else SqlServices("", database)
    [loaded] = load_candidates(
        database, campaign, [0], step, services, campaign.clock.now(), is_last_try=True
    )
    made = candidate(step=step.value, requires=requires, failed=failed)
    present = {
        name: (getattr(loaded, name) is None, getattr(made, name) is None)
        for name in ("subscription", "coupon", "referral")
    }
    assert all(in_run is in_test for in_run, in_test in present.values()), present
    assert (made.failed, made.recent) == (loaded.failed, loaded.recent)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"step": "suppress", "expires": "2020-01-31"}, "expires: the step suppress .* no coupon"),
        ({"step": "suppress", "coupon": None}, "coupon: the step suppress .* no coupon"),
        ({"step": "validate", "expires": None}, "expires: the step validate .* no coupon"),
        ({"step": "validate", "ndnc": True}, "ndnc: the step validate .* no subscription"),
        ({"step": "dispatch"}, "unknown step 'dispatch'; expected suppress or validate"),
    ],
)
def test_a_value_that_the_step_lacks_is_an_error(
    candidate: Make, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises((TypeError, UsageError), match=message):
        candidate(**overrides)


def test_a_rule_that_raises_fails_its_test(candidate: Make, judge: Judge) -> None:
    with pytest.raises(LookupError, match="no luck"):
        judge(candidate(), fragile)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"channel": "fax"}, "channel: got 'fax'; expected email or sms"),
        ({"channel": None}, "channel: got None; expected email or sms"),
        ({"requires": ("bogus",)}, "unknown requirement 'bogus'; expected coupon, referral"),
        ({"requires": "coupon"}, "expected a tuple"),
        ({"custom": "city"}, "expected a dictionary such as"),
        ({"custom": "[]"}, "expected a dictionary such as"),
        ({"custom": 3}, "expected a dictionary such as"),
        ({"mobile": 447700900000}, "expected a string or None"),
    ],
)
def test_a_wrong_value_is_an_error(
    candidate: Make, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        candidate(**overrides)


def test_a_plain_function_or_an_uncalled_fixture_is_an_error(candidate: Make, judge: Any) -> None:
    with pytest.raises(TypeError, match="expected a function decorated with @check"):
        judge(candidate(), quiet_hours.rule)
    with pytest.raises(TypeError, match=r"expected a candidate, such as candidate\(\)"):
        judge(candidate)


def test_a_time_without_a_time_zone_is_an_error(candidate: Make, judge: Judge) -> None:
    with pytest.raises(TypeError, match="missing time zone"):
        judge(candidate(), now=datetime(2026, 6, 15, 3))


def test_an_extra_check_replaces_an_installed_one_of_its_name(
    candidate: Make, judge: Judge
) -> None:
    @check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=40)
    def ndnc(candidate: Candidate, now: datetime) -> bool:
        """Block no message."""
        return False

    assert judge(candidate(channel="sms", ndnc=True), ndnc).reason is None


def test_an_unknown_keyword_is_an_error(candidate: Make) -> None:
    with pytest.raises(TypeError, match="no 'emial'; did you mean email"):
        candidate(emial=None)
