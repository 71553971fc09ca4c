"""The pytest plugin for rule developers: the fixtures `candidate` and `judge`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tracker.status import Channel, Reason, Step
from workers.candidates import Candidate
from workers.checks.base import check
from workers.rules.pytest_plugin import Judge

Make = Callable[..., Candidate]


@check(Reason.CONFIGURATION, step=Step.VALIDATE, order=15)
def quiet_hours(candidate: Candidate, now: datetime) -> bool:
    """Block messages before 6:00."""
    return now.hour < 6


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def fragile(candidate: Candidate, now: datetime) -> bool:
    """Fail on every message."""
    raise LookupError("no luck")


@pytest.mark.parametrize("channel", Channel)
def test_no_check_blocks_an_unchanged_candidate(
    candidate: Make, judge: Judge, channel: str
) -> None:
    requires = ("coupon", "referral", "membership", "last_store", "profile")
    assert judge(candidate(channel=channel, requires=requires)) is None


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
    assert judge(candidate(**overrides)) is reason


def test_an_extra_check_runs_at_its_position(candidate: Make, judge: Judge) -> None:
    night = datetime(2026, 6, 15, 3, tzinfo=UTC)
    assert judge(candidate(), quiet_hours, now=night) is Reason.CONFIGURATION
    assert judge(candidate(), quiet_hours) is None
    assert judge(candidate(email=None), quiet_hours, now=night) is Reason.EMAIL_MISSING
    assert judge(candidate(loyalty_member=False), quiet_hours, now=night) is Reason.CONFIGURATION


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

    assert judge(candidate(channel="sms", ndnc=True), ndnc) is None


def test_an_unknown_keyword_is_an_error(candidate: Make) -> None:
    with pytest.raises(TypeError, match="no 'emial'; did you mean email"):
        candidate(emial=None)
