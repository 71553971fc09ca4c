"""The pytest plugin: what a test of somebody's rule gets from it."""

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
    """Nobody is written to at night."""
    return now.hour < 6


@check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
def fragile(candidate: Candidate, now: datetime) -> bool:
    """Breaks."""
    raise LookupError("no luck")


@pytest.mark.parametrize("channel", Channel)
def test_nothing_speaks_against_a_candidate(candidate: Make, judge: Judge, channel: str) -> None:
    requires = ("coupon", "referral", "membership", "last_store", "profile")
    assert judge(candidate(channel=channel, requires=requires)) is None


@pytest.mark.parametrize(
    ("different", "reason"),
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
def test_keywords_find_their_part(
    candidate: Make, judge: Judge, different: dict[str, object], reason: Reason | None
) -> None:
    assert judge(candidate(**different)) is reason


def test_a_rule_takes_its_place_among_the_others(candidate: Make, judge: Judge) -> None:
    night = datetime(2026, 6, 15, 3, tzinfo=UTC)
    assert judge(candidate(), quiet_hours, now=night) is Reason.CONFIGURATION
    assert judge(candidate(), quiet_hours) is None
    assert judge(candidate(email=None), quiet_hours, now=night) is Reason.EMAIL_MISSING
    assert judge(candidate(loyalty_member=False), quiet_hours, now=night) is Reason.CONFIGURATION


def test_a_rule_that_raises_fails_its_test(candidate: Make, judge: Judge) -> None:
    with pytest.raises(LookupError, match="no luck"):
        judge(candidate(), fragile)


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"channel": "fax"}, "there is no channel 'fax'; expected email or sms"),
        ({"channel": None}, "there is no channel None"),
        ({"requires": ("bogus",)}, "unknown requirement 'bogus'; expected coupon, referral"),
        ({"requires": "coupon"}, "expected a tuple"),
        ({"custom": "city"}, "expected a dictionary like"),
        ({"custom": "[]"}, "expected a dictionary like"),
        ({"custom": 3}, "expected a dictionary like"),
        ({"mobile": 447700900000}, "expected a text or None"),
    ],
)
def test_what_no_candidate_can_be(
    candidate: Make, different: dict[str, object], words: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        candidate(**different)


def test_only_checks_judge_and_only_candidates(candidate: Make, judge: Any) -> None:
    with pytest.raises(TypeError, match="is no check; decorate the function"):
        judge(candidate(), quiet_hours.rule)
    with pytest.raises(TypeError, match="is no candidate; ask for the fixture and call it"):
        judge(candidate)


def test_a_time_without_a_zone_is_refused(candidate: Make, judge: Judge) -> None:
    with pytest.raises(TypeError, match="has no time zone"):
        judge(candidate(), now=datetime(2026, 6, 15, 3))


def test_an_extra_check_takes_the_place_of_its_namesake(candidate: Make, judge: Judge) -> None:
    @check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=40)
    def ndnc(candidate: Candidate, now: datetime) -> bool:
        """Let everybody be written to."""
        return False

    assert judge(candidate(channel="sms", ndnc=True), ndnc) is None


def test_a_keyword_that_there_is_not(candidate: Make) -> None:
    with pytest.raises(TypeError, match="no 'emial'; did you mean email"):
        candidate(emial=None)
